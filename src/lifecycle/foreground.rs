//! Foreground `run`: hull stays between the caller and the program, for signals, the terminal and the exit status.
//!
//! Without a terminal of its own the program inherits stdio; but a descriptor that is a terminal is replaced by a pipe
//! which hull copies, since a program that holds the caller's terminal could type into it (TIOCSTI). With one, hull copies
//! between the pty and its own stdio, in raw mode, restored on every way out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, wait};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::process::Process;
use super::record::Recorder;
use super::sdnotify::Waiting;
use crate::error::{ErrAt, Error, Result, Step};
use crate::sys;

/// What init gets for the descriptors 0 to 2; None: what hull has.
pub type Stdio = [Option<OwnedFd>; 3];

/// hull between the caller and the program.
#[derive(Debug)]
pub struct Foreground {
    signals: OwnedFd,
    copies: Vec<Copy>,
    raw: Option<Raw>,
    /// The program's READY is passed on when it comes.
    pub ready: Option<Waiting>,
    /// `seccomp record`: answers the program's calls.
    pub recorder: Option<Recorder>,
}

impl Foreground {
    /// Before the clone: signals are kept for later, so that none is lost, and orphans of the container come to hull.
    pub fn prepare(terminal: bool, no_subreaper: bool) -> Result<(Foreground, Stdio)> {
        sys::signal::block_all().err_at(Step::Process, "sigprocmask", || "keep signals for the program")?;
        let signals = sys::signal::signal_fd().err_at(Step::Process, "signalfd", || "keep signals for the program")?;
        if !no_subreaper {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid())).err_at(
                Step::Process,
                "prctl(PR_SET_CHILD_SUBREAPER)",
                || "adopt the container's orphans",
            )?;
        }
        let mut foreground = Foreground { signals, copies: Vec::new(), raw: None, ready: None, recorder: None };
        let mut stdio: Stdio = [None, None, None];
        for number in 0..3 {
            let caller = sys::process::standard(number);
            if terminal || !isatty(caller) {
                continue;
            }
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).err_at(
                Step::Console,
                "pipe2",
                || "stand between the program and the terminal",
            )?;
            let (ours, theirs) = if number == 0 { (write, read) } else { (read, write) };
            nonblocking(&ours)?;
            let caller = End::Standard(number);
            foreground.copies.push(if number == 0 {
                Copy::new(caller, End::Own(ours))
            } else {
                Copy::new(End::Own(ours), caller)
            });
            stdio[number as usize] = Some(theirs);
        }
        Ok((foreground, stdio))
    }

    /// Copies and passes signals on until init has ended; its exit status, 128+n for a signal.
    pub fn attend(&mut self, init: Process, pidfd: &OwnedFd, terminal: Option<OwnedFd>) -> Result<i32> {
        let resize = terminal.as_ref().map(duplicate).transpose()?;
        if let Some(master) = terminal {
            self.raw = Raw::enter()?;
            nonblocking(&master)?;
            let out = duplicate(&master)?;
            self.copies.push(Copy::new(End::Standard(0), End::Own(master)));
            self.copies.push(Copy::new(End::Own(out), End::Standard(1)));
            self.resize(resize.as_ref());
        }
        let mut status = None;
        while status.is_none() {
            let (asked, quiet) = {
                let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(pidfd, PollFlags::IN)];
                fds.extend(self.copies.iter().filter_map(Copy::wants));
                fds.extend(self.ready.as_ref().map(|ready| PollFd::new(ready, PollFlags::IN)));
                let others = fds.len();
                fds.extend(self.recorder.as_ref().and_then(Recorder::wants));
                match poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(Error::call(Step::Sync, "poll", errno, "wait for the program")),
                }
                let asked = fds.get(others).map_or(PollFlags::empty(), PollFd::revents);
                (asked, fds[..others].iter().all(|fd| fd.revents().is_empty()))
            };
            if let Some(recorder) = self.recorder.as_mut().filter(|_| !asked.is_empty()) {
                recorder.go_on(asked)?;
                // A program calls often: no look at the rest unless it asks for one.
                if quiet {
                    continue;
                }
            }
            self.copies.retain_mut(Copy::go_on);
            if let Some(waiting) = &self.ready
                && waiting.go_on(init.pid)?
            {
                self.ready = None;
            }
            while let Some(signal) = sys::signal::read_signal(self.signals.as_fd()) {
                match signal {
                    libc::SIGCHLD => {}
                    libc::SIGWINCH => self.resize(resize.as_ref()),
                    // Go's and the kernel's own chatter, not meant for the program.
                    libc::SIGURG => {}
                    signal => {
                        let _ = sys::signal::pidfd_send(pidfd.as_fd(), signal);
                    }
                }
            }
            status = reap(init)?;
        }
        // What the program wrote last; whoever still holds its pipes is not waited for.
        self.copies.retain(|copy| matches!(copy.to, End::Standard(_)));
        while self.copies.iter().any(|copy| copy.ready()) {
            self.copies.retain_mut(Copy::go_on);
        }
        self.raw = None;
        status.ok_or_else(|| Error::bug(Step::Sync, "the program ended without a status"))
    }

    /// Signals that came and are not handled yet.
    pub fn signals(&self) -> &OwnedFd {
        &self.signals
    }

    /// The program's terminal gets the size of the caller's, before the program runs.
    pub fn fit(&self, master: &OwnedFd) {
        if let Some(terminal) = callers_terminal() {
            fit(master, &terminal);
        }
    }

    fn resize(&self, master: Option<&OwnedFd>) {
        if let (Some(master), Some(raw)) = (master, &self.raw) {
            fit(master, &raw.terminal);
        }
    }
}

fn fit(master: &OwnedFd, terminal: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(terminal) {
        let _ = tcsetwinsize(master, size);
    }
}

/// The first of stderr, stdout, stdin and /dev/tty that is a terminal.
fn callers_terminal() -> Option<OwnedFd> {
    match [2, 1, 0].into_iter().map(sys::process::standard).find(|fd| isatty(fd)) {
        Some(fd) => fd.try_clone_to_owned().ok(),
        None => rustix::fs::open(
            "/dev/tty",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .ok(),
    }
}

/// Takes in every child that ended; init's status, if it was one of them.
fn reap(init: Process) -> Result<Option<i32>> {
    let mut found = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == init.pid => {
                found = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(found),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::call(Step::Sync, "wait4", errno, "wait for the program")),
        }
    }
}

fn nonblocking(fd: &OwnedFd) -> Result<()> {
    rustix::io::ioctl_fionbio(fd, true).err_at(Step::Console, "ioctl(FIONBIO)", || "copy the program's output")
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone().err_at(Step::Console, "fcntl(F_DUPFD_CLOEXEC)", || "copy the program's output")
}

/// One end of a copy.
#[derive(Debug)]
enum End {
    Standard(i32),
    Own(OwnedFd),
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            End::Standard(number) => sys::process::standard(*number),
            End::Own(fd) => fd.as_fd(),
        }
    }
}

/// One direction: read when there is nothing left to write, so that memory stays bounded.
#[derive(Debug)]
struct Copy {
    from: End,
    to: End,
    buffer: Vec<u8>,
}

/// A write of this size never blocks on a pipe that poll called writable (pipe(7), PIPE_BUF).
const CHUNK: usize = 4096;

impl Copy {
    fn new(from: End, to: End) -> Copy {
        Copy { from, to, buffer: Vec::new() }
    }

    fn wants(&self) -> Option<PollFd<'_>> {
        Some(if self.buffer.is_empty() {
            PollFd::new(&self.from, PollFlags::IN)
        } else {
            PollFd::new(&self.to, PollFlags::OUT)
        })
    }

    fn ready(&self) -> bool {
        let mut fds: Vec<_> = self.wants().into_iter().collect();
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0) && fds.iter().all(|fd| fd.revents() != PollFlags::HUP)
    }

    /// One read or one write, if it does not block; false at the end.
    fn go_on(&mut self) -> bool {
        if !self.ready_or_hung_up() {
            return true;
        }
        if self.buffer.is_empty() {
            let mut chunk = [0u8; CHUNK];
            match rustix::io::read(&self.from, &mut chunk) {
                Ok(0) => return false,
                Ok(len) => self.buffer.extend(&chunk[..len]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // EIO: the other end of the pty is closed.
                Err(_) => return false,
            }
        } else {
            match rustix::io::write(&self.to, &self.buffer) {
                Ok(written) => drop(self.buffer.drain(..written)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn ready_or_hung_up(&self) -> bool {
        let mut fds: Vec<_> = self.wants().into_iter().collect();
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0)
    }
}

/// The caller's terminal in raw mode, for as long as this lives.
#[derive(Debug)]
struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    fn enter() -> Result<Option<Raw>> {
        let Some(terminal) = callers_terminal() else { return Ok(None) };
        let subject = || "put the terminal into raw mode";
        let before = tcgetattr(&terminal).err_at(Step::Console, "tcgetattr", subject)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).err_at(Step::Console, "tcsetattr", subject)?;
        Ok(Some(Raw { terminal, before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
