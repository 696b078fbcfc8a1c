//! Kernel parameters, written through hull's own procfs by init, which is in the namespaces that they belong to.

use std::os::fd::AsFd;

use crate::error::{ErrAt, Result, Step};
use crate::plan::sysctl::Sysctl;
use crate::steps::procfs::ProcFs;

/// Sets all of them, in the config's order.
pub fn set_all(proc: &ProcFs, sysctls: &[Sysctl]) -> Result<()> {
    for sysctl in sysctls {
        let subject = || format!("set {} to {:?} ({})", sysctl.path.replace('/', "."), sysctl.value, sysctl.pointer);
        let file = proc.open_write(&format!("sys/{}", sysctl.path), Step::Sysctl, subject)?;
        // A list of ports or of bits may be longer than the page that one write takes, and goes on with the next.
        crate::log::write_all(file.as_fd(), sysctl.value.as_bytes()).err_at(Step::Sysctl, "write", subject)?;
    }
    Ok(())
}
