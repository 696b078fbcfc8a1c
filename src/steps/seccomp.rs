//! Loads the filter that the plan compiled.

use std::os::fd::OwnedFd;

use crate::error::{ErrAt, Result, Step};
use crate::plan::seccomp::Filter;

/// Loads it; with SCMP_ACT_NOTIFY the listener comes back.
pub fn load(filter: &Filter) -> Result<Option<OwnedFd>> {
    crate::sys::seccomp::load(&filter.program, filter.flags).err_at(Step::Seccomp, "seccomp", || {
        format!("load the filter of {} instructions (/linux/seccomp)", filter.program.len())
    })
}
