//! seccomp(2), SECCOMP_SET_MODE_FILTER: the last fence before the program runs.
//!
//! prctl(PR_SET_SECCOMP) cannot take flags, so it is not used. No flag is dropped when the kernel refuses it: LOG and
//! SPEC_ALLOW came with Linux 4.14 and 4.17, before clone3, which hull needs anyway; WAIT_KILLABLE_RECV came with 5.19,
//! and a profile that asks for it relies on it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::ioctl::opcode;

use crate::plan::seccomp::interpreter::Call;
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

/// Sends a listener over a unix socket and closes it, with a mark in the arguments 3 to 5 of both calls, which they
/// do not have: so a filter that asks the listener about each call can let these two pass. Allocates nothing.
pub fn give_away(listener: OwnedFd, socket: BorrowedFd<'_>, mark: [u32; 3]) -> io::Result<()> {
    let [a, b, c] = mark.map(|part| part as libc::c_ulong);
    let listener = listener.into_raw_fd();
    let mut byte = [0_u8];
    let mut iov = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // Of u64, so that it is aligned as the kernel's struct is.
    let mut control = [0_u64; 4];
    // SAFETY: all zeros are a valid msghdr: no name, no vectors, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute. The first header lies in `control`, which has 32 bytes, no less than
    // CMSG_SPACE of one descriptor, and nothing else refers to it.
    let result = unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size_of::<libc::c_int>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<libc::c_int>() as u32) as _;
        libc::CMSG_DATA(header).cast::<libc::c_int>().write_unaligned(listener);
        let flags = libc::c_ulong::from(libc::MSG_NOSIGNAL as u32);
        libc::syscall(libc::SYS_sendmsg, socket.as_raw_fd(), &raw const message, flags, a, b, c)
    };
    let sent = if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: the descriptor was taken out of its OwnedFd above and is closed once, here.
    unsafe { libc::syscall(libc::SYS_close, listener, 0 as libc::c_ulong, 0 as libc::c_ulong, a, b, c) };
    sent
}

/// `struct seccomp_notif`, with room for what later kernels may add at its end.
#[repr(C)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    nr: u32,
    arch: u32,
    instruction_pointer: u64,
    args: [u64; 6],
    more: [u64; 54],
}

/// `struct seccomp_notif_resp`, likewise.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
    more: [u64; 61],
}

const SECCOMP_IOCTL_NOTIF_RECV: libc::Ioctl = opcode::read_write::<[u8; 0x50]>(b'!', 0) as libc::Ioctl;
const SECCOMP_IOCTL_NOTIF_SEND: libc::Ioctl = opcode::read_write::<[u8; 0x18]>(b'!', 1) as libc::Ioctl;
const SECCOMP_IOCTL_NOTIF_SET_FLAGS: libc::Ioctl = opcode::write::<u64>(b'!', 4) as libc::Ioctl;

/// Whether the kernel's structures fit into those above (SECCOMP_GET_NOTIF_SIZES).
pub fn notifications_fit() -> io::Result<bool> {
    const SECCOMP_GET_NOTIF_SIZES: libc::c_long = 3;
    let mut sizes = [0_u16; 3];
    // SAFETY: the kernel writes three numbers of 16 bits (struct seccomp_notif_sizes) to `sizes`, which lives until then.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0 as libc::c_ulong, sizes.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::from(sizes[0]) <= size_of::<Notification>() && usize::from(sizes[1]) <= size_of::<Response>())
}

/// Wakes the other side on the same CPU, since one of both always waits: a hint, Linux 6.6.
pub fn wake_at_once(listener: BorrowedFd<'_>) {
    const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP: libc::c_ulong = 1;
    // SAFETY: the third argument is a number, not a pointer.
    unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) };
}

/// Takes a call that waits, with the number by which it is answered; None if its caller has given up meanwhile.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<(u64, Call)>> {
    // SAFETY: all zeros are valid numbers; the kernel wants them so.
    let mut notification: Notification = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes its struct seccomp_notif, which fits (notifications_fit), into ours before the call returns.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_RECV, &raw mut notification) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOENT | libc::EINTR) => Ok(None),
            _ => Err(error),
        };
    }
    let Notification { id, nr, arch, args, .. } = notification;
    Ok(Some((id, Call { nr, arch, args })))
}

/// Answers a call: None lets the kernel go on with it, an errno makes it fail. A caller that is gone is no error.
pub fn respond(listener: BorrowedFd<'_>, id: u64, errno: Option<i32>) -> io::Result<()> {
    const SECCOMP_USER_NOTIF_FLAG_CONTINUE: u32 = 1;
    let flags = if errno.is_none() { SECCOMP_USER_NOTIF_FLAG_CONTINUE } else { 0 };
    let response = Response { id, value: 0, error: -errno.unwrap_or(0), flags, more: [0; 61] };
    // SAFETY: the kernel reads its struct seccomp_notif_resp, which fits (notifications_fit), from ours.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_SEND, &raw const response) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ENOENT) { Ok(()) } else { Err(error) };
    }
    Ok(())
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
    fn a_call_is_received_and_answered_until_nobody_is_left() {
        use crate::plan::seccomp::record::{Mark, filter};
        use rustix::event::{PollFd, PollFlags, poll};
        use std::os::fd::AsFd;
        assert!(notifications_fit().unwrap());
        let context = Context { audit_arch: crate::sys::arch::AUDIT_ARCH, fail_unknown: false };
        let filter = filter(None, Mark([1, 2, 3]), &context).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            let listener = load(&filter.program, filter.flags).unwrap().unwrap();
            give_away(listener, theirs.as_fd(), [1, 2, 3]).unwrap();
            (rustix::process::getpriority_process(None), rustix::process::getppid().is_some())
        });
        let (mut fds, mut byte) = (Vec::new(), [0; 8]);
        crate::lifecycle::sync::recv_packet(ours.as_fd(), &mut byte, &mut fds).unwrap();
        let listener = fds.pop().unwrap();
        wake_at_once(listener.as_fd());
        let mut seen = Vec::new();
        loop {
            let mut wait = [PollFd::new(&listener, PollFlags::IN)];
            poll(&mut wait, None).unwrap();
            if !wait[0].revents().contains(PollFlags::IN) {
                break;
            }
            let Some((id, call)) = receive(listener.as_fd()).unwrap() else { continue };
            let refused = i64::from(call.nr) == libc::SYS_getpriority;
            respond(listener.as_fd(), id, refused.then_some(libc::EBADMSG)).unwrap();
            seen.push(i64::from(call.nr));
        }
        assert_eq!(thread.join().unwrap(), (Err(Errno::BADMSG), true));
        assert!(seen.contains(&libc::SYS_getppid) && !seen.contains(&libc::SYS_sendmsg), "{seen:?}");
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
