//! Signals: masks, dispositions, signalfd and pidfd_send_signal for any number, real-time ones included.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The last signal number of Linux.
pub const LAST: i32 = 64;

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn full_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the whole set.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn empty_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Blocks every signal.
pub fn block_all() -> io::Result<()> {
    // SAFETY: the set lives until the call returns; the old mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &full_set(), std::ptr::null_mut()) })
}

/// Blocks none.
pub fn unblock_all() -> io::Result<()> {
    // SAFETY: as in `block_all`.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &empty_set(), std::ptr::null_mut()) })
}

/// Gives every signal its default disposition: execve(2) keeps ignored ones, so a program would inherit hull's or its
/// caller's. By the system call itself, since the C library keeps two real-time signals to itself.
pub fn default_all() -> io::Result<()> {
    default_these(u64::MAX)
}

/// The same for these alone, bit 0 for signal 1: one that is handled needs nothing, execve(2) takes its handler away.
pub fn default_these(signals: u64) -> io::Result<()> {
    // struct sigaction of the kernel: SIG_DFL is 0, as are no flags, no restorer and an empty mask.
    let default = [0u64; 4];
    let changeable =
        |signal: &i32| signals >> (signal - 1) & 1 == 1 && ![libc::SIGKILL, libc::SIGSTOP].contains(signal);
    for signal in (1..=LAST).filter(changeable) {
        // SAFETY: `default` is no smaller than the kernel's struct with a mask of 8 bytes (20 or 32 bytes) and lives until
        // the call returns;
        // SIG_DFL installs no handler.
        let result = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<usize>(), 8usize)
        };
        check(result as libc::c_int)?;
    }
    Ok(())
}

/// Ends the process at HUP, INT, QUIT and TERM, with 128 + n: the kernel keeps every signal without a handler from process
/// 1 of a pid namespace. execve(2) and [`default_all`] take the handlers away again.
pub fn end_on_request() -> io::Result<()> {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: _exit is async-signal-safe and does not return.
        unsafe { libc::_exit(128 + signal) }
    }
    let mut set = empty_set();
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: all zeros are a valid sigaction.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = end as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_mask = empty_set();
        // SAFETY: the structure lives until the call returns, and the handler, of the type that sa_flags of 0 asks for, is
        // async-signal-safe and lives as long as the process.
        check(unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) })?;
        // SAFETY: the set is initialised, and the number is one of a signal.
        check(unsafe { libc::sigaddset(&mut set, signal) })?;
    }
    // SAFETY: as in `block_all`.
    check(unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut()) })
}

/// A descriptor that gives the signals which are blocked.
pub fn signal_fd() -> io::Result<OwnedFd> {
    // SAFETY: the set lives until the call returns; -1 makes a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &full_set(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    check(fd)?;
    // SAFETY: the descriptor was just made and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next signal of a [`signal_fd`], if one is pending.
pub fn read_signal(fd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer has the size that is passed, and the kernel fills it whole or not at all.
    let read = unsafe { libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
    // SAFETY: a full read initialised the structure.
    (read == size as isize).then(|| unsafe { info.assume_init() }.ssi_signo as i32)
}

/// Sends a signal to the process behind a pidfd: never to one that took over its number. Signal 0 only asks.
pub fn pidfd_send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: no siginfo is passed, so the kernel reads no memory.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    match check(result as libc::c_int) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            kill_behind(pidfd, signal, error)
        }
        other => other,
    }
}

/// kill(2) of one process by its number, for where no handle can be had.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: kill takes numbers only.
    check(unsafe { libc::kill(pid, signal) })
}

/// [`kill`] for a kernel or a filter that refuses pidfd_send_signal: by the number that the handle has at this moment.
fn kill_behind(handle: BorrowedFd<'_>, signal: i32, refused: io::Error) -> io::Result<()> {
    let number = match std::fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd())) {
        Ok(text) => text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<i32>().ok()),
        Err(_) => None,
    };
    // A directory of /proc says it by its name.
    let number = number.or_else(|| {
        // What was in it has gone with its process.
        std::fs::read(format!("/proc/self/fd/{}/stat", handle.as_raw_fd())).ok()?;
        let link = std::fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd())).ok()?;
        link.file_name()?.to_str()?.parse().ok()
    });
    match number {
        Some(pid) => kill(pid, signal),
        None => Err(refused),
    }
}
