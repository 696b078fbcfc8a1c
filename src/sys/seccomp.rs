//! seccomp(2), SECCOMP_SET_MODE_FILTER: the last fence before the program runs.
//!
//! prctl(PR_SET_SECCOMP) cannot take flags, so it is not used. No flag is dropped when the kernel refuses it: LOG and
//! SPEC_ALLOW came with Linux 4.14 and 4.17, before clone3, which hull needs anyway; WAIT_KILLABLE_RECV came with 5.19,
//! and a profile that asks for it relies on it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::plan::seccomp::{FLAG_NEW_LISTENER, SockFilter};

const SECCOMP_SET_MODE_FILTER: libc::c_long = 1;

/// `struct sock_fprog`.
#[repr(C)]
struct SockFprog {
    len: u16,
    filter: *const SockFilter,
}

/// Loads a filter for this thread and all that it starts. Needs no_new_privs or CAP_SYS_ADMIN, and sets neither.
///
/// With SECCOMP_FILTER_FLAG_NEW_LISTENER the agent's descriptor comes back, close-on-exec.
pub fn load(program: &[SockFilter], flags: u32) -> io::Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let fprog = SockFprog { len, filter: program.as_ptr() };
    let op = SECCOMP_SET_MODE_FILTER;
    // SAFETY: fprog and the program that it points to live until the call returns; the kernel only reads `len`
    // instructions of 8 bytes, which is what SockFilter is (repr(C): u16, u8, u8, u32).
    let result = unsafe { libc::syscall(libc::SYS_seccomp, op, libc::c_ulong::from(flags), &raw const fprog) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & FLAG_NEW_LISTENER == 0 {
        // With TSYNC but not TSYNC_ESRCH the result is the thread that could not follow.
        return if result == 0 { Ok(None) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    }
    // SAFETY: with NEW_LISTENER a result that is not negative is a new descriptor, which nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(result as RawFd) }))
}
