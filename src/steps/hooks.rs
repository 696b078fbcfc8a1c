//! Running hooks: state on stdin, stderr kept for the error, the whole process group killed at the timeout.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::error::{ErrAt, Error, Result, Step};
use crate::plan::hooks::{Hook, Hooks};
use crate::sys::spawn::Child;

/// What the kernel means when it makes no process (EAGAIN).
pub const NO_PROCESSES: &str =
    "a limit on processes is reached: pids.max of the cgroup, RLIMIT_NPROC or kernel.pid_max";
/// So much of a hook's stderr is kept for the error.
const STDERR_KEPT: usize = 2048;

/// Files to which the output of hooks is appended, beside what an error keeps of it. They are opened on the host, before
/// a root is entered.
#[derive(Debug, Default)]
pub struct Output {
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Output {
    /// Opens what the annotations name; nothing where there are none.
    pub fn open(hooks: &Hooks) -> Result<Output> {
        let open = |path: &Option<String>| {
            let Some(path) = path else { return Ok(None) };
            // No FIFO without a reader may hang hull.
            let mut options = File::options();
            options.append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
            options.open(path).map(Some).err_at(Step::Hook, "open", || format!("open {path} for the output of hooks"))
        };
        Ok(Output { stdout: open(&hooks.stdout)?, stderr: open(&hooks.stderr)? })
    }
}

/// Runs hooks one after the other; the first that fails ends it. `env` is what a hook without an own
/// environment gets; None: that of this process.
pub fn run_all(kind: &str, hooks: &[Hook], state: &[u8], env: Option<&[CString]>, output: &Output) -> Result<()> {
    hooks.iter().try_for_each(|hook| run(kind, hook, state, env, output))
}

/// Runs one hook to its end.
pub fn run(kind: &str, hook: &Hook, state: &[u8], env: Option<&[CString]>, output: &Output) -> Result<()> {
    let number = hook.pointer.rsplit('/').next().unwrap_or_default();
    // runc's words since 1.2, which scripts look for.
    let subject = || format!("error running {kind} hook #{number}: {} ({})", hook.path, hook.pointer);
    crate::log::debug(format_args!("run {kind} hook #{number}: {} ({})", hook.path, hook.pointer));
    let mut command = Command::new(&hook.path);
    if let Some((zero, rest)) = hook.args.split_first() {
        command.arg0(zero).args(rest);
    }
    let own = hook.env.as_ref().map(|own| own.iter().map(String::as_bytes).collect::<Vec<_>>());
    if let Some(env) = own.or_else(|| Some(env?.iter().map(|variable| variable.to_bytes()).collect())) {
        let pair = |variable: &'_ [u8]| {
            let mut parts = variable.splitn(2, |byte| *byte == b'=').map(|part| OsStr::from_bytes(part).to_owned());
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
        };
        command.env_clear().envs(env.into_iter().map(pair));
    }
    let stdout = match &output.stdout {
        Some(file) => file.try_clone().err_at(Step::Hook, "fcntl(F_DUPFD_CLOEXEC)", subject)?.into(),
        None => Stdio::null(),
    };
    let pipe = || pipe_with(PipeFlags::CLOEXEC).err_at(Step::Hook, "pipe2", subject);
    let ((reads, stdin), (stderr, writes)) = (pipe()?, pipe()?);
    command.stdin(reads).stdout(stdout).stderr(writes).process_group(0);
    let mut child = crate::sys::spawn::spawn(&mut command)
        .err_at(Step::Hook, "execve", subject)
        .map_err(|error| if error.is(Errno::AGAIN) { error.hint(NO_PROCESSES) } else { error })?;
    // The program's ends of the pipes: their last holder is to be the program.
    drop(command);
    let deadline = hook.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let stderr =
        attend(&mut child, (stdin.into(), stderr.into()), state, deadline, output.stderr.as_ref()).map_err(|stop| {
            match stop {
                Stop::Timeout => {
                    let seconds = hook.timeout.unwrap_or_default().as_secs_f64();
                    let what =
                        format!("{}: hook ran past specified timeout of {seconds:.1}s and was killed", subject());
                    Error::host(Step::Hook, what)
                }
                Stop::Call(call, errno) => Error::call(Step::Hook, call, errno, subject()),
            }
        })?;
    let status = child.wait().err_at(Step::Hook, "wait4", subject)?;
    if status.success() {
        return Ok(());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("killed by signal {signal}"),
        _ => status.to_string(),
    };
    let error = Error::host(Step::Hook, format!("{}: {how}", subject()));
    let said = String::from_utf8_lossy(&stderr).trim().replace('\n', "; ");
    Err(if said.is_empty() { error } else { error.hint(format!("it said: {said}")) })
}

/// How often a hook is asked whether it has ended, where nothing tells it.
const ASK_AGAIN: Duration = Duration::from_millis(5);
/// The same for who waits long.
const NOT_OFTEN: Duration = Duration::from_millis(50);

enum Stop {
    Timeout,
    Call(&'static str, Errno),
}

/// Feeds stdin and collects stderr until the hook itself has ended; a grandchild that keeps the pipes open does not count.
fn attend(
    child: &mut Child,
    (stdin, mut stderr): (File, File),
    state: &[u8],
    deadline: Option<Instant>,
    log: Option<&File>,
) -> std::result::Result<Vec<u8>, Stop> {
    let pid = child.pid();
    // A startContainer hook runs under the seccomp profile, and pidfd_open is newer than many a profile: it is asked
    // again and again then whether it has ended.
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::NOSYS | Errno::PERM) => None,
        Err(errno) => return Err(Stop::Call("pidfd_open", errno)),
    };
    let mut kept = Vec::new();
    let mut state = state;
    set_nonblocking(&stdin)?;
    set_nonblocking(&stderr)?;
    let mut stdin = Some(stdin);
    let mut stderr_open = true;
    loop {
        let left = match deadline {
            None => None,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    let _ = kill_process_group(pid, Signal::KILL);
                    let _ = child.wait();
                    return Err(Stop::Timeout);
                }
                Some(left)
            }
        };
        let timeout = if pidfd.is_some() { left } else { Some(left.map_or(ASK_AGAIN, |left| left.min(ASK_AGAIN))) };
        let mut fds: Vec<_> = pidfd.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)).collect();
        if stderr_open {
            fds.push(PollFd::new(&stderr, PollFlags::IN));
        }
        if let Some(stdin) = &stdin {
            fds.push(PollFd::new(stdin, PollFlags::OUT));
        }
        match poll(&mut fds, timeout.map(to_timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Stop::Call("poll", errno)),
        }
        let ended = match &pidfd {
            Some(_) => !fds[0].revents().is_empty(),
            None => !matches!(child.try_wait(), Ok(None)),
        };
        drop(fds);
        stderr_open = stderr_open && drain(&mut stderr, &mut kept, log);
        if ended {
            return Ok(kept);
        }
        if let Some(pipe) = &mut stdin {
            match pipe.write(state) {
                Ok(written) => state = &state[written..],
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                // A hook that does not read its state is no error.
                Err(_) => state = &[],
            }
            if state.is_empty() {
                stdin = None;
            }
        }
    }
}

/// Reads what is there; false at the end of the pipe.
fn drain(stderr: &mut impl Read, kept: &mut Vec<u8>, log: Option<&File>) -> bool {
    let mut buffer = [0u8; 1024];
    loop {
        match stderr.read(&mut buffer) {
            Ok(0) => return false,
            Ok(len) => {
                // A full disk is no failure of the hook.
                let _ = log.map(|mut file| file.write_all(&buffer[..len]));
                kept.extend(&buffer[..len.min(STDERR_KEPT.saturating_sub(kept.len()))]);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

fn set_nonblocking(fd: &impl AsFd) -> std::result::Result<(), Stop> {
    rustix::io::ioctl_fionbio(fd, true).map_err(|e| Stop::Call("ioctl(FIONBIO)", e))
}

/// A duration as poll takes it.
pub fn to_timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().min(i64::MAX as u64) as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

/// Whether poll(2) of a process's handle says that it has ended: a directory of /proc does not.
pub fn can_be_polled(handle: &OwnedFd) -> bool {
    rustix::fs::fstat(handle).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory)
}

/// A handle among others that are polled: `limit` is how long that may take, since a directory of /proc says nothing and
/// has to be asked again, by `has_ended`.
pub fn in_poll<'h>(handle: &'h OwnedFd, limit: Option<Duration>) -> (PollFd<'h>, Option<Timespec>) {
    match can_be_polled(handle) {
        true => (PollFd::new(handle, PollFlags::IN), limit.map(to_timespec)),
        false => {
            let limit = limit.map_or(NOT_OFTEN, |limit| limit.min(NOT_OFTEN));
            (PollFd::new(handle, PollFlags::empty()), Some(to_timespec(limit)))
        }
    }
}

/// Whether a handle that was polled by [`in_poll`] says that its process has ended.
pub fn says_end(handle: &OwnedFd, polled: &PollFd<'_>) -> bool {
    !polled.revents().is_empty() || (!can_be_polled(handle) && has_ended(handle))
}

/// Whether a process has ended, by its directory in /proc.
fn has_ended(directory: &OwnedFd) -> bool {
    let Ok(stat) = openat(directory, "stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else { return true };
    let mut text = Vec::new();
    let read = std::fs::File::from(stat).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    read.is_err() || text.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Waits for a process's handle to say that it has ended; false when the deadline came first.
pub fn wait_end(pidfd: &OwnedFd, limit: Duration) -> rustix::io::Result<bool> {
    let deadline = Instant::now() + limit;
    if !can_be_polled(pidfd) {
        while !has_ended(pidfd) {
            if Instant::now() > deadline {
                return Ok(false);
            }
            crate::sys::process::sleep(Duration::from_millis(1));
        }
        return Ok(true);
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&to_timespec(left))) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
