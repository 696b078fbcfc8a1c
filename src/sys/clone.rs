//! clone3(2) used as fork: a copy of the process, with new namespaces and in a cgroup from its first instruction on.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The answer of [`clone3`].
pub enum Cloned {
    /// In the caller: the child and its pidfd.
    Parent {
        /// As the caller's pid namespace counts.
        pid: i32,
        /// A handle that no other process can take over.
        pidfd: OwnedFd,
    },
    /// In the child.
    Child,
}

/// The kernel's struct clone_args, version 2 (88 bytes).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks with `flags` (CLONE_NEW*, CLONE_PARENT), into `cgroup` when one is given. `exit_signal` is 0 with CLONE_PARENT.
///
/// The caller has one thread (asserted by lifecycle before it calls), so the child may allocate and use all of std.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>, exit_signal: i32) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: exit_signal as u64,
        ..CloneArgs::default()
    };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: `args` and `pidfd` live until the call returns. Without CLONE_VM and without a stack the child runs on a
    // copy-on-write copy of this stack, exactly as after fork(2); no CLONE_SETTLS, so thread-local storage is the copy too.
    let mut pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    if pid < 0
        && cgroup.is_none()
        && matches!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
    {
        // An outer filter cannot look into clone3's arguments, so some refuse it whole and let clone(2) through.
        pid = clone(args.flags | args.exit_signal, &raw mut pidfd);
    }
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid if pidfd < 0 => {
            // Linux before 5.2 ignores clone(2)'s CLONE_PIDFD, and nothing here can do without the descriptor.
            // SAFETY: the child was just made, is not waited for yet, and has done no work: its number is its own. With
            // CLONE_PARENT it is another's to wait for, and waitpid only fails.
            unsafe {
                libc::kill(pid as libc::pid_t, libc::SIGKILL);
                libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), 0);
            }
            Err(io::Error::from_raw_os_error(libc::ENOSYS))
        }
        pid => {
            // SAFETY: on success with CLONE_PIDFD the kernel stored a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// fork(2), by the call that every seccomp profile for hooks allows: 0 in the child, its number in the parent. The caller has one
/// thread.
pub fn fork() -> io::Result<i32> {
    let pid = clone(libc::SIGCHLD as u64, std::ptr::null_mut());
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid as i32) }
}

/// clone(2): flags, and the signal in their lowest byte; `pidfd` is where CLONE_PIDFD stores the descriptor.
fn clone(flags: u64, pidfd: *mut libc::c_int) -> libc::c_long {
    let (flags, stack) = (flags as libc::c_ulong, 0 as libc::c_ulong);
    let nothing = 0 as libc::c_ulong;
    // s390x takes the stack first.
    let (first, second) = if cfg!(target_arch = "s390x") { (stack, flags) } else { (flags, stack) };
    // SAFETY: `pidfd` is the caller's variable, which lives until the call returns. Without CLONE_VM and without a stack
    // the child runs on a copy-on-write copy of this stack, as after fork(2); no flag makes the last two arguments count.
    unsafe { libc::syscall(libc::SYS_clone, first, second, pidfd, nothing, nothing) }
}

/// clone3's flag that puts the child into a cgroup (linux/sched.h); libc has it as an i32 overflow on some versions.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Leaves at once, without destructors and exit handlers of the process that this one is a copy of.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no memory effects and does not return.
    unsafe { libc::_exit(status) }
}

/// execve(2): only returns on failure.
pub fn execve(path: &std::ffi::CStr, args: &[&std::ffi::CStr], env: &[&std::ffi::CStr]) -> rustix::io::Errno {
    let argv: Vec<*const libc::c_char> = args.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect();
    let envp: Vec<*const libc::c_char> = env.iter().map(|e| e.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: both arrays end in a null pointer, and they and the strings they point to live until the call returns.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO)
}
