//! A process that outlives the hull that made it: which one it is, and whether it is still there.
//!
//! Numbers are used again. What names a process is the inode of its pidfd, which no other process has until the machine
//! boots again (pidfs, Linux 6.9). Where the kernel has none the start time does, in clock ticks: two processes of one
//! number could share a tick, and a reader in another time namespace sees other ticks (time_namespaces(7)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use procfs_core::FromRead;
use procfs_core::process::Stat;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, fstat, fstatfs, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Step};
use crate::steps::hooks;

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

    /// This very process, held by a handle; None when it has gone.
    pub fn hold(self) -> Result<Option<Held>> {
        Ok(self.open()?.map(|handle| Held { process: self, handle }))
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

/// A process and a handle of it. What can only be found by its number is asked for through [`Held::look`]: a number is
/// somebody else's as soon as its process has been waited for.
#[derive(Debug)]
pub struct Held {
    process: Process,
    handle: OwnedFd,
}

impl Held {
    /// Both must be of one process.
    pub fn new(process: Process, handle: OwnedFd) -> Held {
        Held { process, handle }
    }

    /// Its number, for words, and for who looks at a child of his own.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// Looks at it by its number. None when it has ended by then: what was seen may be of another process.
    pub fn look<T>(&self, look: impl FnOnce(i32) -> Result<T>) -> Result<Option<T>> {
        let seen = look(self.process.pid);
        // Asked afterwards: as long as it has not ended it has had its number all the time.
        if self.ended() { Ok(None) } else { seen.map(Some) }
    }

    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        hooks::wait_end(&self.handle, Duration::ZERO).unwrap_or(true)
    }

    /// Whether it has got past its execve, also when it has ended since; None when it has gone without a trace.
    pub fn has_executed(&self) -> Result<Option<bool>> {
        let stat = read_stat(self.process.pid)?.filter(|stat| !self.ended() || self.process.is(stat));
        Ok(stat.map(|stat| stat.flags & PF_FORKNOEXEC == 0))
    }

    /// The handle.
    pub fn handle(&self) -> &OwnedFd {
        &self.handle
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
    let failed = |call, errno| Error::call(Step::State, call, errno, format!("read /proc/{pid}/stat"));
    let file = match openat(CWD, format!("/proc/{pid}/stat"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        Err(errno) => return Err(failed("open", errno)),
    };
    // One read gives the whole line: 52 numbers, and a name of at most 15 bytes.
    let mut room = [0; 2048];
    let length = loop {
        match rustix::io::read(&file, &mut room) {
            Ok(length) => break length,
            Err(Errno::INTR) => {}
            // It was reaped since.
            Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(failed("read", errno)),
        }
    };
    Stat::from_read(&room[..length])
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

/// Whether a child that has closed its end of a connection, by execve or by its end, has got past its execve: a process that
/// ends is marked as such before its files are closed. None when it has gone without a trace.
pub fn closed_by_execve(pid: i32) -> Result<Option<bool>> {
    let died = PF_FORKNOEXEC | PF_EXITING;
    Ok(read_stat(pid)?.map(|stat| stat.flags & died != died))
}
