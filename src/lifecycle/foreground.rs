//! Foreground `run`: hull stays between the caller and the program, for signals, the terminal and the exit status.
//!
//! Without a terminal of its own the program inherits stdio; but a descriptor that is a terminal is replaced by a pipe
//! which hull copies, since a program that holds the caller's terminal could type into it (TIOCSTI). With one, hull copies
//! between the pty and its own stdio, in raw mode, restored on every way out. A line ends in "\n" there, as in a pipe:
//! only the caller's terminal, if that is where it goes, makes a carriage return of it.
//!
//! What the program wrote reaches the reader, however slow he is and whichever way it ends, unless he has gone. Whoever
//! only holds the program's end open is not waited for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, major, minor, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, wait};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use super::process::Process;
use super::recorder::Recorder;
use super::sdnotify::Waiting;
use crate::error::{ErrAt, Error, Result, Step};
use crate::steps::hooks::to_timespec;
use crate::sys;

/// What init gets for the descriptors 0 to 2; None: what hull has.
pub type Stdio = [Option<OwnedFd>; 3];

/// For a program that cleans up when it is told to end.
const GRACE: Duration = Duration::from_secs(10);

/// hull between the caller and the program.
#[derive(Debug)]
pub struct Foreground {
    signals: OwnedFd,
    copies: Vec<Copy>,
    terminal: Option<Terminal>,
    raw: Option<Raw>,
    /// The signals that were passed on, a bit each.
    passed: u64,
    /// How often TERM was.
    terms: u32,
    /// When a program that goes on after the second one is killed.
    deadline: Option<Instant>,
    /// The signal that ended the program, unless hull has passed it on.
    pub killed_by: Option<i32>,
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
        let mut foreground = Foreground {
            signals,
            copies: Vec::new(),
            terminal: None,
            raw: None,
            passed: 0,
            terms: 0,
            deadline: None,
            killed_by: None,
            ready: None,
            recorder: None,
        };
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
            foreground.copies.push(if number == 0 {
                Copy::inward(ours)
            } else {
                Copy::outward(ours, number, Source::Pipe)
            });
            stdio[number as usize] = Some(theirs);
        }
        Ok((foreground, stdio))
    }

    /// Takes over the program's terminal, before the program runs: with the size of the caller's.
    pub fn adopt(&mut self, master: OwnedFd) -> Result<()> {
        if let Some(terminal) = callers_terminal() {
            fit(&master, &terminal);
        }
        plain_lines(&master)?;
        nonblocking(&master)?;
        self.copies.push(Copy { ends: true, ..Copy::inward(duplicate(&master)?) });
        self.copies.push(Copy::outward(duplicate(&master)?, 1, Source::Terminal));
        // Where it is refused, the output ends when the program closes its terminal.
        let peer = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).ok();
        self.terminal = Some(Terminal { master, _peer: peer });
        Ok(())
    }

    /// Copies and passes signals on until init has ended; its exit status, 128+n for a signal.
    pub fn attend(&mut self, init: Process, pidfd: &OwnedFd) -> Result<i32> {
        if self.terminal.is_some() {
            self.raw = Raw::enter()?;
            self.resize();
        }
        let status = self.watch(init, pidfd)?;
        self.deliver();
        self.raw = None;
        Ok(status)
    }

    fn watch(&mut self, init: Process, pidfd: &OwnedFd) -> Result<i32> {
        loop {
            let (asked, quiet) = {
                let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(pidfd, PollFlags::IN)];
                fds.extend(self.copies.iter().map(Copy::wants));
                fds.extend(self.ready.as_ref().map(|ready| PollFd::new(ready, PollFlags::IN)));
                let others = fds.len();
                fds.extend(self.recorder.as_ref().and_then(Recorder::wants));
                let left = self.deadline.map(|at| to_timespec(at.saturating_duration_since(Instant::now())));
                match poll(&mut fds, left.as_ref()) {
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
                    libc::SIGWINCH => self.resize(),
                    // Go's and the kernel's own chatter, not meant for the program.
                    libc::SIGURG => {}
                    signal => {
                        self.pass_on(signal, pidfd);
                    }
                }
            }
            if self.deadline.is_some_and(|at| at <= Instant::now()) {
                self.deadline = None;
                self.send(libc::SIGKILL, pidfd);
            }
            if let Some((status, signal)) = reap(init)? {
                self.killed_by = signal.filter(|signal| self.passed & 1 << (signal & 63) == 0);
                return Ok(status);
            }
        }
    }

    /// The first process of a pid namespace ends at TERM only if it asked for it (pid_namespaces(7)), and whoever sends it
    /// a second time means the end.
    fn pass_on(&mut self, signal: i32, pidfd: &OwnedFd) {
        self.send(signal, pidfd);
        if signal != libc::SIGTERM {
            return;
        }
        self.terms += 1;
        match self.terms {
            2 => {
                self.deadline = Some(Instant::now() + GRACE);
                let grace = GRACE.as_secs();
                crate::log::warn(format!(
                    "TERM came twice: if the program goes on, KILL follows in {grace} s, or at the next TERM"
                ));
            }
            3.. => self.send(libc::SIGKILL, pidfd),
            _ => {}
        }
    }

    fn send(&mut self, signal: i32, pidfd: &OwnedFd) {
        self.passed |= 1 << (signal & 63);
        let _ = sys::signal::pidfd_send(pidfd.as_fd(), signal);
    }

    /// What the program wrote last. Nobody is left to pass signals on to.
    fn deliver(&mut self) {
        self.copies.retain_mut(Copy::begin_last);
        loop {
            self.copies.retain_mut(Copy::go_on_last);
            if self.copies.is_empty() {
                return;
            }
            let mut fds: Vec<_> = self.copies.iter().map(Copy::wants).collect();
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Signals that came and are not handled yet.
    pub fn signals(&self) -> &OwnedFd {
        &self.signals
    }

    fn resize(&self) {
        if let (Some(terminal), Some(raw)) = (&self.terminal, &self.raw) {
            fit(&terminal.master, &raw.terminal);
        }
    }
}

/// What was written before an error is delivered, too: whoever kills the program for it does so before this is dropped.
impl Drop for Foreground {
    fn drop(&mut self) {
        self.deliver();
    }
}

/// The program's terminal.
#[derive(Debug)]
struct Terminal {
    master: OwnedFd,
    /// A program may close its terminal and open it again: as long as somebody has it open, the master gives no EIO.
    _peer: Option<OwnedFd>,
}

fn fit(master: &OwnedFd, terminal: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(terminal) {
        let _ = tcsetwinsize(master, size);
    }
}

/// Lines leave the program's terminal as the program wrote them: what is copied to a file or a pipe is what a program
/// without a terminal would have written, as runc has it.
fn plain_lines(master: &OwnedFd) -> Result<()> {
    let subject = || "have the program's terminal end lines without a carriage return";
    let mut modes = tcgetattr(master).err_at(Step::Console, "tcgetattr", subject)?;
    modes.output_modes.remove(OutputModes::ONLCR);
    tcsetattr(master, OptionalActions::Now, &modes).err_at(Step::Console, "tcsetattr", subject)
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

/// Takes in every child that ended; init's status, if it was one of them, and the signal that ended it.
fn reap(init: Process) -> Result<Option<(i32, Option<i32>)>> {
    let mut found = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == init.pid => {
                let signal = status.terminating_signal();
                let status = status.exit_status().or_else(|| signal.map(|signal| 128 + signal));
                found = status.map(|status| (status, signal));
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

impl End {
    /// A standard descriptor of the caller's: a pipe or a terminal is opened once more, since a full one must not stop
    /// hull, and O_NONBLOCK on the caller's descriptor would be there for all who share it. A file keeps its offset.
    fn of_caller(number: i32) -> End {
        let caller = sys::process::standard(number);
        let again = fstat(caller).is_ok_and(|stat| {
            let ptmx = (major(stat.st_rdev), minor(stat.st_rdev)) == (5, 2);
            FileType::from_raw_mode(stat.st_mode) == FileType::Fifo || (isatty(caller) && !ptmx)
        });
        let access = if number == 0 { OFlags::RDONLY } else { OFlags::WRONLY };
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let path = format!("/proc/self/fd/{number}");
        // Another user's cannot be opened: then hull stands still while that reader does.
        match again.then(|| open(path, flags, Mode::empty())) {
            Some(Ok(own)) => End::Own(own),
            _ => End::Standard(number),
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            End::Standard(number) => sys::process::standard(*number),
            End::Own(fd) => fd.as_fd(),
        }
    }
}

/// What the program writes to, or reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Pipe,
    Terminal,
    Caller,
}

/// One direction: read when there is nothing left to write, so that memory stays bounded.
#[derive(Debug)]
struct Copy {
    from: End,
    to: End,
    source: Source,
    buffer: Vec<u8>,
    /// The reader has gone, but a program goes on that writes to a terminal: what it writes is dropped.
    unread: bool,
    /// To a terminal: its reader hears of the end by a character (VEOF).
    ends: bool,
    /// How much is still read once the program has ended: what others write behind it has no end.
    left: usize,
}

/// ^D, what a new terminal has as VEOF.
const END_OF_TEXT: u8 = 4;
/// A write of this size never blocks on a pipe that poll called writable (pipe(7), PIPE_BUF).
const CHUNK: usize = 4096;
/// More than a terminal holds (TTYB_DEFAULT_MEM_LIMIT of the kernel, and a page of the line discipline).
const TERMINAL_HOLDS: usize = 1 << 20;

impl Copy {
    fn inward(program: OwnedFd) -> Copy {
        Copy::new(End::of_caller(0), End::Own(program), Source::Caller)
    }

    fn outward(program: OwnedFd, number: i32, source: Source) -> Copy {
        Copy::new(End::Own(program), End::of_caller(number), source)
    }

    fn new(from: End, to: End, source: Source) -> Copy {
        Copy { from, to, source, buffer: Vec::new(), unread: false, ends: false, left: usize::MAX }
    }

    fn wants(&self) -> PollFd<'_> {
        if self.buffer.is_empty() {
            PollFd::new(&self.from, PollFlags::IN)
        } else {
            PollFd::new(&self.to, PollFlags::OUT)
        }
    }

    /// Whether a read or write would not block, at an end or an error either.
    fn ready(&self) -> bool {
        let mut fds = [self.wants()];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0)
    }

    /// One read or one write, if it does not block; false at the end.
    fn go_on(&mut self) -> bool {
        if !self.ready() {
            return true;
        }
        if self.buffer.is_empty() { self.read().unwrap_or_else(|errno| errno == Errno::AGAIN) } else { self.write() }
    }

    /// The program has ended: false if there is nothing to deliver this way.
    fn begin_last(&mut self) -> bool {
        self.left = match self.source {
            Source::Caller => return false,
            Source::Pipe => rustix::io::ioctl_fionread(&self.from).map_or(0, |count| count as usize),
            Source::Terminal => TERMINAL_HOLDS,
        };
        true
    }

    /// Reads and writes as much as does not block; false when all is delivered.
    fn go_on_last(&mut self) -> bool {
        loop {
            if !self.buffer.is_empty() {
                if !self.ready() {
                    return true;
                }
                if !self.write() {
                    return false;
                }
            } else if self.left == 0 || self.unread || !self.read().unwrap_or(false) {
                return false;
            }
        }
    }

    /// False at the end; EAGAIN when nothing is there.
    fn read(&mut self) -> rustix::io::Result<bool> {
        let mut chunk = [0u8; CHUNK];
        let size = CHUNK.min(self.left);
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.from, &mut chunk[..size])) {
            Ok(0) if self.ends => {
                self.ends = false;
                // The first one only ends a line that was begun (termios(3), VEOF).
                self.buffer.extend([END_OF_TEXT, END_OF_TEXT]);
                Ok(true)
            }
            Ok(0) => Ok(false),
            Ok(len) => {
                self.left -= len;
                if !self.unread {
                    self.buffer.extend(&chunk[..len]);
                }
                Ok(true)
            }
            Err(Errno::AGAIN) => Err(Errno::AGAIN),
            // EIO: the other end of the pty is closed.
            Err(_) => Ok(false),
        }
    }

    /// False when nobody reads any more, and the program may see that.
    fn write(&mut self) -> bool {
        match rustix::io::write(&self.to, &self.buffer) {
            Ok(written) => drop(self.buffer.drain(..written)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) if self.source == Source::Terminal => {
                self.buffer.clear();
                self.unread = true;
            }
            Err(_) => return false,
        }
        true
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
        // Plain lines come from the program's terminal: without a carriage return of this one each would begin where the
        // last has ended. It is also what shows the output of others, such as the reader of hull's own.
        raw.output_modes |= OutputModes::OPOST;
        tcsetattr(&terminal, OptionalActions::Now, &raw).err_at(Step::Console, "tcsetattr", subject)?;
        Ok(Some(Raw { terminal, before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
