//! `exec --wait-fifo`: the joining process is in the container, with its number told and its privileges gone, and waits
//! in front of its execve for a word over a FIFO (fifo(7)).
//!
//! Silence must not run it: only a byte does. A caller that dies closes its end, which the kernel tells apart from a FIFO
//! that nobody has opened yet. setup waits, not the joiner: the FIFO is the host's.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{ErrAt, Error, Result, Step, show};
use crate::sys::signal::read_signal;

/// Before anything is done: that it is a FIFO. It is not opened here, since whoever writes into it takes the open for an
/// answer.
pub fn check(path: &Path) -> Result<()> {
    let stat = rustix::fs::stat(path).err_at(Step::Exec, "stat", || subject(path))?;
    check_type(path, stat.st_mode)
}

fn check_type(path: &Path, mode: rustix::fs::RawMode) -> Result<()> {
    match FileType::from_raw_mode(mode) {
        FileType::Fifo => Ok(()),
        _ => Err(Error::usage(format!("{}: it is no FIFO", subject(path))).hint("make one with mkfifo(1)")),
    }
}

fn subject(path: &Path) -> String {
    format!("wait on {} (--wait-fifo)", show(path))
}

/// Waits for a byte, or a signal that ends this one. Other signals are the program's, which can take them when it runs: they
/// are given back. None: the joining process has gone.
pub fn wait(path: &Path, pidfd: &OwnedFd, signals: Option<&OwnedFd>) -> Result<Option<Vec<i32>>> {
    // Without NONBLOCK the open itself would wait, deaf to all else.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fifo = rustix::fs::open(path, flags, Mode::empty()).err_at(Step::Exec, "open", || subject(path))?;
    let stat = rustix::fs::fstat(&fifo).err_at(Step::Exec, "fstat", || subject(path))?;
    check_type(path, stat.st_mode)?;
    let mut later = Vec::new();
    loop {
        let mut fds = vec![PollFd::new(&fifo, PollFlags::IN), PollFd::new(pidfd, PollFlags::IN)];
        fds.extend(signals.map(|signals| PollFd::new(signals, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Error::call(Step::Exec, "poll", errno, subject(path))),
        }
        let [said, gone] = [0, 1].map(|number: usize| !fds[number].revents().is_empty());
        while let Some(signal) = signals.and_then(|signals| read_signal(signals.as_fd())) {
            match signal {
                libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT => {
                    return Err(Error::status(format!("ended by signal {signal} at the wait point")).hint(NOT_RUN));
                }
                libc::SIGCHLD | libc::SIGWINCH | libc::SIGURG => {}
                signal => later.push(signal),
            }
        }
        if gone {
            return Ok(None);
        }
        if said {
            match rustix::io::read(&fifo, &mut [0_u8; 1]) {
                Ok(0) => {
                    let what = format!("{} was closed without a word (--wait-fifo)", show(path));
                    return Err(Error::status(what).hint(NOT_RUN));
                }
                Ok(_) => return Ok(Some(later)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(Error::call(Step::Exec, "read", errno, subject(path))),
            }
        }
    }
}

const NOT_RUN: &str = "the program was not run; a byte lets it, as in `echo > FIFO`";
