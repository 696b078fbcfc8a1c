//! `start`: lets init execute the program, and learns what became of it.
//!
//! init waits on the start socket. `start` connects, says the key of state.json and hands over a page of shared memory; init stores an error there,
//! which no seccomp filter can stop. The connection is close-on-exec, so its end says that the execve is done; the page
//! then tells a failure, and the kernel's flag PF_FORKNOEXEC tells a death before the execve from one after it; of an init
//! that was reaped at once only a mark on the page does, which it makes right in front of the execve.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Globals;
use super::outcome::Outcome;
use super::process::{Held, is_stopped};
use super::recorder::Recorder;
use super::sdnotify::Waiting;
use super::state::{State, StateDir, Status};
use super::sync::{recv_packet, send_packet};
use crate::cgroup::Handle;
use crate::error::{ErrAt, Error, Result, Step};
use crate::plan::hooks::Hooks;
use crate::plan::order::{Point, Side};
use crate::spec::load;
use crate::steps::hooks::{self, Output, to_timespec};
use crate::steps::process::cloexec_all;
use crate::trace;

/// How long init may be silent before it is asked whether it is stopped.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest error that init sends without a page.
pub const LAST_WORDS: usize = crate::sys::shared::ROOM;

/// Starts the program of a created container; an error of its execve comes back here.
pub fn start(globals: &Globals, id: &str) -> Result<()> {
    if let Some(path) = &globals.trace {
        trace::open(path, Side::Start)?;
    }
    let result = start_locked(globals, id);
    trace::close(true);
    result
}

fn start_locked(globals: &Globals, id: &str) -> Result<()> {
    trace::step(Point::StartState);
    let dir = StateDir::open(&globals.root, id)?;
    dir.lock()?;
    let state =
        dir.load()?.ok_or_else(|| Error::status("its create died on the way").hint("delete it with --force"))?;
    match state.status()? {
        Status::Created => {}
        Status::Creating => return Err(Error::status("cannot start a container that is still being created")),
        Status::Running => return Err(Error::status("cannot start an already running container")),
        Status::Paused => return Err(Error::status("cannot start a container in the paused state")),
        Status::Stopped => return Err(Error::status("cannot start a container that has stopped")),
    }
    if state.no_program {
        return Err(no_program());
    }
    let init = state.init.ok_or_else(|| Error::bug(Step::State, "a created container without an init"))?;
    let Some(init) = init.hold()? else {
        return Err(Error::status("cannot start a container that has stopped"));
    };
    let hooks = if state.late_hooks {
        let text = dir.load_config()?;
        let (spec, _) = load::parse(&text)?;
        Hooks::new(&spec)?
    } else {
        Hooks::default()
    };
    let ready = Waiting::open(&dir)?;
    trace::step(Point::StartProgram);
    release(&dir, &state, &init, None).map_err(|error| {
        let died = error.step == Step::Exec && error.errno.is_none();
        match Handle::open(&state.cgroup) {
            Ok(cgroup) => cgroup.explain(error, died),
            Err(_) => error,
        }
    })?;
    let _ = dir.remove_socket();
    trace::step(Point::Poststart);
    run_poststart(&state, &hooks, init.handle())?;
    // Other verbs may work on the container before it is ready.
    drop(dir);
    ready.map_or(Ok(()), |ready| ready.wait(init.pid(), init.handle()))
}

/// A container may be created without a program, and not be started (runtime.md#start).
pub fn no_program() -> Error {
    Error::spec("/process", "missing: there is no program to run")
}

/// Connects to init and waits until its execve is done. For `seccomp record` init says who is to be asked about its calls
/// from then on, and its execve is the first of them.
pub fn release(dir: &StateDir, state: &State, init: &Held, mut recorder: Option<&mut Recorder>) -> Result<()> {
    let pidfd = init.handle();
    let (outcome, given) = Outcome::new()?;
    let connection = connect(dir)?;
    let trace = trace::descriptor();
    let fds: Vec<_> = [Some(given.as_fd()), trace.as_ref().map(AsFd::as_fd)].into_iter().flatten().collect();
    let key = state.key.as_deref().unwrap_or("start");
    match send_packet(connection.as_fd(), key.as_bytes(), &fds) {
        // init has gone meanwhile: what comes below says more.
        Err(error) if error.is(Errno::PIPE) || error.is(Errno::CONNRESET) => {}
        sent => drop(sent?),
    }

    // init's death ends the connection too, so this wait always ends; startContainer hooks may take their time.
    let patience = to_timespec(PATIENCE);
    loop {
        let mut fds = vec![PollFd::new(&connection, PollFlags::IN)];
        fds.extend(hooks::can_be_polled(pidfd).then(|| PollFd::new(pidfd, PollFlags::IN)));
        let calls = fds.len();
        fds.extend(recorder.as_ref().and_then(|recorder| recorder.wants()));
        match poll(&mut fds, Some(&patience)) {
            Ok(0) if init.look(|pid| Ok(is_stopped(pid))).is_ok_and(|stopped| stopped == Some(true)) => {
                let what = format!("cannot start the container: init, process {}, is stopped by a signal", init.pid());
                // It is not started twice: when it goes on, it sees that this start has given up.
                if outcome.give_up() {
                    return Err(Error::status(what).hint("`hull kill` with the signal CONT lets it go on"));
                }
                // It has begun with what comes in front of the program, like a hook that stops it.
                let killed = crate::sys::signal::pidfd_send(pidfd.as_fd(), libc::SIGKILL);
                let hint = "it was killed, since it had begun with the start";
                return Err(if killed.is_ok() { Error::status(what).hint(hint) } else { Error::status(what) });
            }
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Error::call(Step::Sync, "poll", errno, "wait for the program")),
        }
        let said = !fds[0].revents().is_empty();
        let over = fds[..calls].iter().any(|fd| !fd.revents().is_empty());
        let asked = fds.get(calls).map_or(PollFlags::empty(), PollFd::revents);
        let Some(recorder) = &mut recorder else {
            if over {
                break;
            }
            continue;
        };
        recorder.go_on(asked)?;
        let (mut listener, mut byte) = (Vec::new(), [0_u8; 8]);
        // The end of the connection, or of init.
        if over && !(said && recv_packet(connection.as_fd(), &mut byte, &mut listener)? > 0) {
            break;
        }
        listener.into_iter().for_each(|listener| recorder.listen(listener));
    }
    let said = outcome.load();
    if !said.is_empty() {
        let error = serde_json::from_slice(&said)
            .unwrap_or_else(|_| Error::host(Step::Exec, String::from_utf8_lossy(&said).into_owned()));
        return Err(error);
    }
    match init.has_executed() {
        Ok(Some(true)) => Ok(()),
        // Already reaped: then its own mark says how far it got.
        Ok(None) if outcome.is_executing() => Ok(()),
        // It cannot be looked at, say for want of a descriptor: the connection ended, init did not.
        Err(_) if outcome.is_executing() && !init.ended() => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(last_words(&connection).unwrap_or_else(|| {
            Error::host(Step::Exec, "init died before it could execute the program")
                .hint("killed from outside, or the seccomp profile forbids a call that it needs")
        })),
    }
}

/// What init said that could not even share the page.
fn last_words(connection: &OwnedFd) -> Option<Error> {
    let mut said = [0; LAST_WORDS];
    let length = recv_packet(connection.as_fd(), &mut said, &mut Vec::new()).ok()?;
    serde_json::from_slice(said.get(..length)?).ok()
}

fn connect(dir: &StateDir) -> Result<OwnedFd> {
    let subject = || "connect to init";
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).err_at(
        Step::Sync,
        "socket",
        subject,
    )?;
    let address = SocketAddrUnix::new(dir.socket_path()).err_at(Step::Sync, "connect", subject)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rustix::net::connect(&socket, &address) {
            // Others are there already, and init takes one after the other.
            Err(Errno::AGAIN) if Instant::now() < deadline => crate::sys::process::sleep(Duration::from_millis(1)),
            connected => break connected.err_at(Step::Sync, "connect", subject)?,
        }
    }
    // Who answers has the credentials of who listened first: setup, which made the directory.
    let owner = rustix::fs::fstat(dir).err_at(Step::Sync, "fstat", subject)?.st_uid;
    let answers = socket_peercred(&socket).err_at(Step::Sync, "getsockopt(SO_PEERCRED)", subject)?.uid.as_raw();
    if answers != owner {
        let what =
            format!("connect to init: user {answers} answers there, and not the container's owner, user {owner}");
        return Err(Error::host(Step::Sync, what));
    }
    Ok(socket)
}

/// Runs the poststart hooks, on the host; one that fails ends the container.
pub fn run_poststart(state: &State, hooks: &Hooks, pidfd: &OwnedFd) -> Result<()> {
    if hooks.poststart.is_empty() {
        return Ok(());
    }
    // Whoever called `start` may have left some open.
    cloexec_all()
        .and_then(|()| Output::open(hooks))
        .and_then(|output| {
            hooks::run_all("poststart", &hooks.poststart, &state.to_json(Status::Running), None, &output)
        })
        .inspect_err(|_| {
            let _ = crate::sys::signal::pidfd_send(pidfd.as_fd(), libc::SIGKILL);
        })
}
