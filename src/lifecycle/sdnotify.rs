//! The program says that it is ready, and hull says so to its own service manager (sd_notify(3), NOTIFY_SOCKET).
//!
//! As runc does it: the container sees a directory of its state at /run/notify, read-only. The socket in it is there while
//! `start` or a foreground `run` waits for READY=1, or for the end of the program; then the manager gets READY, the
//! program's pid, and a barrier.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};

use super::engine::send_whole;
use super::state::StateDir;
use crate::error::{ErrAt, Error, Result, Step};
use crate::steps::hooks::{self, to_timespec};

/// The name of the socket in the directory; the plan tells it to the program.
const SOCKET: &str = crate::plan::mounts::NOTIFY_SOCKET;
/// How long the manager may take to read what was sent.
const BARRIER: Duration = Duration::from_secs(5);

/// Where hull's own service manager listens.
pub fn manager() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| matches!(path.as_bytes(), [b'/' | b'@', _, ..]))
}

/// The container's socket, and whom to tell.
#[derive(Debug)]
pub struct Waiting {
    socket: OwnedFd,
    manager: OsString,
}

impl AsFd for Waiting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket on which nothing waits: neither for the program nor for a manager.
fn datagram_socket<S: Into<String>>(subject: impl FnOnce() -> S) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).err_at(Step::Sync, "socket", subject)
}

impl Waiting {
    /// Binds the socket, if there is a manager, and the container was made with one.
    pub fn open(dir: &StateDir) -> Result<Option<Waiting>> {
        let Some(manager) = manager() else { return Ok(None) };
        let subject = || "listen for the program's READY (NOTIFY_SOCKET)";
        let directory = match dir.open_notify() {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Error::call(Step::Sync, "openat", errno, subject())),
        };
        let socket = datagram_socket(subject)?;
        // A path by the directory's descriptor is never longer than an address has room for.
        let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
        let address = SocketAddrUnix::new(path.as_str()).err_at(Step::Sync, "bind", subject)?;
        rustix::net::bind(&socket, &address).err_at(Step::Sync, "bind", subject)?;
        // Whoever the program is: to write to it is all that can be done with it.
        rustix::fs::chmodat(&directory, SOCKET, Mode::from_raw_mode(0o777), AtFlags::empty()).err_at(
            Step::Sync,
            "fchmodat",
            subject,
        )?;
        Ok(Some(Waiting { socket, manager }))
    }

    /// Waits for READY or for the end of the program.
    pub fn wait(self, pid: i32, pidfd: &OwnedFd) -> Result<()> {
        loop {
            let (program, timeout) = hooks::in_poll(pidfd, None);
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN), program];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::call(Step::Sync, "poll", errno, "wait for the program's READY")),
            }
            let ended = hooks::says_end(pidfd, &fds[1]);
            if self.go_on(pid)? || ended {
                return Ok(());
            }
        }
    }

    /// Reads what has come, without waiting; true once the manager knows.
    pub fn go_on(&self, pid: i32) -> Result<bool> {
        let mut message = [0u8; 4096];
        loop {
            match rustix::net::recv(&self.socket, &mut message[..], RecvFlags::empty()) {
                Ok((length, _)) if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") => {
                    return self.tell(pid).map(|()| true);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => return Err(Error::call(Step::Sync, "recvfrom", errno, "wait for the program's READY")),
            }
        }
    }

    fn tell(&self, pid: i32) -> Result<()> {
        let subject = || format!("tell the service manager at {:?} that the program is ready", self.manager);
        let bytes = self.manager.as_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddrUnix::new_abstract_name(name),
            None => SocketAddrUnix::new(bytes),
        };
        let address = address.err_at(Step::Sync, "connect", subject)?;
        let socket = datagram_socket(subject)?;
        rustix::net::connect(&socket, &address).err_at(Step::Sync, "connect", subject)?;
        send_whole(&socket, b"READY=1", &[])?;
        send_whole(&socket, format!("MAINPID={pid}").as_bytes(), &[])?;
        // The manager closes its copy when it has read all that came before: only then may hull leave.
        let (end, barrier) = pipe_with(PipeFlags::CLOEXEC).err_at(Step::Sync, "pipe2", subject)?;
        send_whole(&socket, b"BARRIER=1", &[barrier.as_fd()])?;
        drop(barrier);
        let _ = poll(&mut [PollFd::new(&end, PollFlags::empty())], Some(&to_timespec(BARRIER)));
        Ok(())
    }
}
