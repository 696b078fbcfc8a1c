//! Loads the filter that the plan compiled.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::error::{ErrAt, Error, Result, Step};
use crate::plan::seccomp::{FLAG_WAIT_KILLABLE_RECV, Filter};

/// Loads it; with SCMP_ACT_NOTIFY the listener comes back.
pub fn load(filter: &Filter) -> Result<Option<OwnedFd>> {
    crate::sys::seccomp::load(&filter.program, filter.flags).err_at(Step::Seccomp, "seccomp", || {
        format!("load the filter of {} instructions (/linux/seccomp)", filter.program.len())
    })
}

/// Loads the filter of a recording and gives the listener away; it is in no descriptor of this process afterwards.
pub fn load_recorder(filter: &Filter, connection: BorrowedFd<'_>) -> Result<()> {
    let Some(recorder) = &filter.recorder else {
        return Err(Error::bug(Step::Seccomp, "a filter without a recorder was taken for one with it"));
    };
    // Only fatal signals interrupt a call that hull has taken, else each signal would make calls fail with EINTR that
    // cannot. Kernels before 5.19 do not have that.
    let flags = filter.flags | FLAG_WAIT_KILLABLE_RECV;
    let loaded = match crate::sys::seccomp::load(&filter.program, flags) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            crate::sys::seccomp::load(&filter.program, filter.flags)
        }
        loaded => loaded,
    };
    let listener = loaded.err_at(Step::Seccomp, "seccomp", || "load the filter of the recording").map_err(|error| {
        let busy = error.is(rustix::io::Errno::BUSY);
        if busy { error.hint("hull itself runs under a filter with a listener, and a process has one") } else { error }
    })?;
    // Nothing but the marked calls until the other side has the listener: everything else waits for it.
    let Some(listener) = listener else {
        return Err(Error::bug(Step::Seccomp, "a filter with a recorder gave no listener"));
    };
    crate::sys::seccomp::give_away(listener, connection, recorder.mark.0).err_at(
        Step::Seccomp,
        "sendmsg",
        || "hand over the listener of the recording",
    )
}
