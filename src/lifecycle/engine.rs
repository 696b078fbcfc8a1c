//! What setup hands to the engine that called it: the terminal, a pidfd, the pid file. A socket on which nobody listens is
//! an error at once, never a wait.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::sync::send_packet;
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::steps::hooks::to_timespec;

/// Whether there is a socket at all: said before anything is made. It is connected to only when there is a terminal to
/// send, since a listener takes the first connection for the one that brings it.
pub fn check_console(path: &Path) -> Result<()> {
    let subject = || format!("connect to the console socket {}", show(path));
    let stat = rustix::fs::stat(path).err_at(Step::Console, "stat", subject)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(Error::call(Step::Console, "stat", Errno::NOTSOCK, subject()));
    }
    Ok(())
}

/// The socket of --console-socket.
pub fn connect_console(path: &Path) -> Result<OwnedFd> {
    connect(path, "console socket")
}

/// Connects to an engine's socket without waiting for a listener that does not accept.
pub fn connect(path: &Path, what: &str) -> Result<OwnedFd> {
    let subject = || format!("connect to the {what} {}", show(path));
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).err_at(
        Step::Console,
        "socket",
        subject,
    )?;
    // By the directory's descriptor, since a path of an engine's may be longer than an address has room for.
    let (parent, name) =
        (path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")), path.file_name());
    let directory =
        rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
            .err_at(Step::Console, "open", subject)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name.unwrap_or_default());
    let address = SocketAddrUnix::new(short).err_at(Step::Console, "connect", subject)?;
    rustix::net::connect(&socket, &address).err_at(Step::Console, "connect", subject)?;
    Ok(socket)
}

/// How long whoever listens may leave a message unread.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a message over a socket of an engine's or a service manager's, the descriptors with its first byte. A listener that does not read is
/// an error when its time is over.
pub fn send_whole(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let (mut rest, mut fds) = (bytes, fds);
    while !rest.is_empty() {
        match send_packet(socket.as_fd(), rest, fds) {
            Ok(sent) => (rest, fds) = (&rest[sent..], &[]),
            Err(error) if error.is(Errno::AGAIN) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(error.hint(format!("the listener has read nothing for {} s", PATIENCE.as_secs())));
                }
                let mut polled = [PollFd::new(socket, PollFlags::OUT)];
                match poll(&mut polled, Some(&to_timespec(left))) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(Error::call(Step::Sync, "poll", errno, "wait for the listener to read")),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The terminal's master, under the name that runc gives it.
pub fn send_terminal(socket: &OwnedFd, master: &OwnedFd) -> Result<()> {
    send_whole(socket, b"/dev/ptmx", &[master.as_fd()]).map_err(|e| e.hint("the console socket of --console-socket"))
}

/// A pidfd, under runc's names: "standard" for init, "setns" for a process that exec adds.
pub fn send_pidfd(path: &Path, name: &str, pidfd: &OwnedFd) -> Result<()> {
    let socket = connect(path, "pidfd socket")?;
    send_whole(&socket, name.as_bytes(), &[pidfd.as_fd()])
}

/// Puts the pid file in place by rename: a reader sees a whole number or no file. No newline, as go-runc wants it.
///
/// Others may write to the directory too (/tmp): until then it has a name that nobody can guess, and what is there by that name
/// already, a link perhaps, is not touched.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let subject = || format!("write the pid file {}", show(path));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let temporary = path.with_file_name(format!(".hull-{}", super::state::random()?));
    let file = rustix::fs::open(&temporary, flags, crate::sys::umask::file()).err_at(Step::State, "open", subject)?;
    let written = crate::log::write_all(file.as_fd(), pid.to_string().as_bytes()).err_at(Step::State, "write", subject);
    written.and_then(|()| std::fs::rename(&temporary, path).err_at(Step::State, "rename", subject)).inspect_err(|_| {
        // Also what a full disk has left of it.
        let _ = std::fs::remove_file(&temporary);
    })
}
