//! A process that outlives the hull that made it: which one it is, and whether it is still there.
//!
//! Numbers are used again. What names a process is the inode of its pidfd, which no other process has until the machine
//! boots again (pidfs, Linux 6.9). Where the kernel has none the start time does, in clock ticks: two processes of one
//! number could share a tick, and a reader in another time namespace sees other ticks (time_namespaces(7)).

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use procfs_core::FromRead;
use procfs_core::process::Stat;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, fstat, fstatfs, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Step};

/// The magic of pidfs (linux/magic.h): before it, all pidfds had one inode.
const PID_FS_MAGIC: i128 = 0x5049_4446;
/// A flag of /proc/PID/stat: forked, and has not called execve yet (linux/sched.h).
const PF_FORKNOEXEC: u32 = 0x40;
/// Another of them: it is on its way out.
const PF_EXITING: u32 = 0x4;
/// What pidfd_open(2) says of a number that no process has any more. EINVAL is for the number of a thread; before Linux
/// 6.15 a process that is being reaped gets it, too.
const GONE: [Errno; 2] = [Errno::SRCH, Errno::INVAL];

/// A process that its number alone does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number on the host.
    pub pid: i32,
    /// Clock ticks after boot at which it started (/proc/PID/stat, field 22).
    pub start_time: u64,
    /// The inode of its pidfd, where the kernel gives each process its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pidfd_inode: Option<u64>,
}

impl Process {
    /// The process of this handle.
    pub fn of(pid: i32, pidfd: BorrowedFd<'_>) -> Result<Process> {
        Ok(Process { pidfd_inode: inode(pidfd), ..Process::now(pid)? })
    }

    /// The caller.
    pub fn own() -> Result<Process> {
        let pid = rustix::process::getpid();
        let number = pid.as_raw_nonzero().get();
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Process::of(number, pidfd.as_fd()),
            Err(_) => Process::now(number),
        }
    }

    /// The process of this number, as it is now.
    pub fn now(pid: i32) -> Result<Process> {
        let stat = read_stat(pid)?.ok_or_else(|| {
            Error::call(Step::State, "open", Errno::NOENT, format!("read /proc/{pid}/stat: the process has gone"))
        })?;
        Ok(Process { pid, start_time: stat.starttime, pidfd_inode: None })
    }

    /// Its entry in /proc, while it is this very process and has not ended. A zombie whose other threads go on has not:
    /// only its first thread did, say by a seccomp filter that kills threads.
    fn stat(self) -> Result<Option<Stat>> {
        let Some(stat) = read_stat(self.pid)? else { return Ok(None) };
        if stat.state == 'X' || (stat.state == 'Z' && stat.num_threads <= 1) {
            return Ok(None);
        }
        Ok(self.is(&stat).then_some(stat))
    }

    /// Whether this process has its number still, after `stat` was read: then it had it before, too.
    fn is(self, stat: &Stat) -> bool {
        let by_inode = || {
            let inode = self.pidfd_inode?;
            match pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()) {
                Ok(pidfd) => Some(fstat(&pidfd).ok()?.st_ino == inode),
                Err(errno) if GONE.contains(&errno) => Some(false),
                Err(_) => None,
            }
        };
        by_inode().unwrap_or(stat.starttime == self.start_time)
    }

    /// Whether it has gone, or is about to: its namespaces cannot be joined any more.
    pub fn ending(self) -> bool {
        self.stat().is_ok_and(|stat| stat.is_none_or(|stat| stat.flags & PF_EXITING != 0))
    }

    /// Whether it is still there. That it cannot be seen is an error, and no death.
    pub fn alive(self) -> Result<bool> {
        Ok(self.stat()?.is_some())
    }

    /// Whether it has called execve; None when it has gone.
    pub fn executed(self) -> Result<Option<bool>> {
        Ok(self.stat()?.map(|stat| stat.flags & PF_FORKNOEXEC == 0))
    }

    /// A handle of this very process; None when it has gone.
    pub fn open(self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let subject = || format!("find process {}", self.pid);
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) if self.pidfd_inode.is_some() => {
                let inode = fstat(&pidfd).map_err(|errno| Error::call(Step::Kill, "fstat", errno, subject()))?.st_ino;
                return Ok((self.pidfd_inode == Some(inode) && !has_ended(&pidfd)).then_some(pidfd));
            }
            Ok(pidfd) => pidfd,
            Err(errno) if GONE.contains(&errno) => return Ok(None),
            // A filter's answer: its directory in /proc names the process as surely.
            Err(Errno::NOSYS | Errno::PERM) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                match openat(CWD, format!("/proc/{}", self.pid), flags, Mode::empty()) {
                    Ok(directory) => directory,
                    Err(Errno::NOENT) => return Ok(None),
                    Err(errno) => return Err(Error::call(Step::Kill, "open", errno, subject())),
                }
            }
            Err(errno) => return Err(Error::call(Step::Kill, "pidfd_open", errno, subject())),
        };
        // Checked after the handle is held: it cannot have changed hands since.
        Ok(self.alive()?.then_some(handle))
    }
}

/// The inode of a pidfd, if it is one of pidfs.
fn inode(pidfd: BorrowedFd<'_>) -> Option<u64> {
    let pidfs = fstatfs(pidfd).is_ok_and(|fs| i128::from(fs.f_type) == PID_FS_MAGIC);
    pidfs.then(|| fstat(pidfd).ok().map(|stat| stat.st_ino)).flatten()
}

/// A pidfd can be read when all threads of its process have ended.
pub fn has_ended(pidfd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|n| n > 0)
}

/// None when there is no such process.
fn read_stat(pid: i32) -> Result<Option<Stat>> {
    let failed = |call, error: &std::io::Error| {
        let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
        Error::call(Step::State, call, errno, format!("read /proc/{pid}/stat"))
    };
    // ESRCH from either call: it was reaped in its middle.
    let gone = |error: &std::io::Error| matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH));
    let mut file = match std::fs::File::open(format!("/proc/{pid}/stat")) {
        Ok(file) => file,
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(failed("open", &error)),
    };
    let mut text = Vec::with_capacity(1024);
    match file.read_to_end(&mut text) {
        Ok(_) => {}
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(failed("read", &error)),
    }
    Stat::from_read(&text[..])
        .map(Some)
        .map_err(|error| Error::host(Step::State, format!("read /proc/{pid}/stat: {error}")))
}

/// The parent of a process; None when the process has gone.
pub fn parent_of(pid: i32) -> Option<i32> {
    read_stat(pid).ok()?.map(|stat| stat.ppid)
}

/// The parent of a process that has ended and was not waited for.
pub fn parent_of_zombie(pid: i32) -> Option<i32> {
    read_stat(pid).ok()?.filter(|stat| stat.state == 'Z').map(|stat| stat.ppid)
}

/// Whether a process is stopped by a signal (SIGSTOP).
pub fn is_stopped(pid: i32) -> bool {
    read_stat(pid).is_ok_and(|stat| stat.is_some_and(|stat| stat.state == 'T'))
}

/// Whether a process that forked from hull has got past its execve: None when it has gone without a trace.
pub fn has_executed(pid: i32) -> Result<Option<bool>> {
    Ok(read_stat(pid)?.map(|stat| stat.flags & PF_FORKNOEXEC == 0))
}

/// The same of a process that has closed its end of a connection, if it does so by execve or by its end only: a process that
/// ends is marked as such before its files are closed.
pub fn closed_by_execve(pid: i32) -> Result<Option<bool>> {
    let died = PF_FORKNOEXEC | PF_EXITING;
    Ok(read_stat(pid)?.map(|stat| stat.flags & died != died))
}
