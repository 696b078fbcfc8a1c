//! seccomp(2), SECCOMP_SET_MODE_FILTER: the last fence before the program runs.
//!
//! prctl(PR_SET_SECCOMP) cannot take flags, so it is not used. No flag is dropped when the kernel refuses it: LOG and
//! SPEC_ALLOW came with Linux 4.14 and 4.17, before clone3, which hull needs anyway; WAIT_KILLABLE_RECV came with 5.19,
//! and a profile that asks for it relies on it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::plan::seccomp::{FLAG_NEW_LISTENER, FLAG_WAIT_KILLABLE_RECV, SockFilter};

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

/// Whether the kernel takes a flag: it looks at the flags before it looks for the program, which is not there (EFAULT).
pub fn knows_flag(flag: u32) -> bool {
    // It goes with a listener only.
    let flags = if flag == FLAG_WAIT_KILLABLE_RECV { flag | FLAG_NEW_LISTENER } else { flag };
    let (op, none) = (SECCOMP_SET_MODE_FILTER, std::ptr::null::<SockFprog>());
    // SAFETY: a null pointer is never a program, so nothing is loaded and no memory is touched.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, op, libc::c_ulong::from(flags), none) };
    result < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// Whether the kernel knows an action (SECCOMP_RET_*).
pub fn knows_action(action: u32) -> bool {
    const SECCOMP_GET_ACTION_AVAIL: libc::c_long = 2;
    // SAFETY: the kernel reads 4 bytes from `action`, which lives until the call returns.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0 as libc::c_ulong, &raw const action) };
    result == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::seccomp::{Context, compile};
    use rustix::io::Errno;

    #[test]
    fn the_kernel_takes_and_obeys_a_filter() {
        let json = include_str!("../../bundles/podman-like/seccomp.json");
        let spec = serde_json::from_str(json).unwrap();
        let context = Context { audit_arch: crate::sys::arch::AUDIT_ARCH, fail_unknown: false };
        let filter = compile(&spec, &context).unwrap();
        // A filter without TSYNC belongs to one thread, and so does no_new_privs.
        let thread = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            assert!(load(&filter.program, filter.flags).unwrap().is_none());
            let refused = rustix::system::sethostname(b"never");
            let allowed = rustix::process::getppid();
            (refused, allowed.is_some())
        });
        assert_eq!(thread.join().unwrap(), (Err(Errno::PERM), true));
    }

    #[test]
    fn an_agent_gets_a_descriptor() {
        let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/agent",
            "syscalls":[{"names":["swapoff"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        let context = Context { audit_arch: crate::sys::arch::AUDIT_ARCH, fail_unknown: false };
        let filter = compile(&serde_json::from_str(json).unwrap(), &context).unwrap();
        let thread = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            load(&filter.program, filter.flags).unwrap().map(|fd| rustix::io::fcntl_getfd(fd).unwrap())
        });
        assert_eq!(thread.join().unwrap(), Some(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn the_kernel_tells_what_it_knows() {
        use crate::plan::seccomp::{FLAG_LOG, FLAG_SPEC_ALLOW, FLAG_TSYNC};
        // The flags of Linux 4.17 and actions of 4.14, before the clone3 that hull needs; and one that is none.
        assert!([FLAG_TSYNC, FLAG_LOG, FLAG_SPEC_ALLOW].map(knows_flag) == [true; 3] && !knows_flag(1 << 31));
        assert!(knows_action(0x7fff_0000) && knows_action(0x8000_0000) && !knows_action(0x1234_0000));
    }

    #[test]
    fn the_kernel_refuses_nonsense() {
        let error = load(&[SockFilter { code: 0xffff, jt: 0, jf: 0, k: 0 }], 0).unwrap_err();
        // Without no_new_privs and CAP_SYS_ADMIN it does not even look.
        assert!(matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EACCES)), "{error}");
    }
}
