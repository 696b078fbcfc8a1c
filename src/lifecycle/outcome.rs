//! How `start` learns what became of init's execve: by a page of shared memory, or by packets where there can be none.
//!
//! Only the page can be written under whatever seccomp filter is in force by then. Without memfd_create(2), which a kernel
//! or a filter around hull may refuse, a socket takes its place: of an execve that fails under a filter that forbids
//! sendmsg(2) only the end is told, and not the errno.

use std::cell::RefCell;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType};
use rustix::net::{recv, sendmsg, shutdown, socketpair};

use crate::error::{Error, Result, Step};
use crate::sys::shared::{ROOM, SharedPage};

/// init goes on; the execve comes next. An error begins otherwise.
const CLAIMED: &[u8] = b"c";
const EXECUTING: &[u8] = b"x";

/// One side of it.
pub enum Outcome {
    /// The page.
    Page(SharedPage),
    /// The socket, and what came over it.
    Packets(OwnedFd, RefCell<Vec<Vec<u8>>>),
}

impl Outcome {
    /// The side of `start`, and what init gets.
    pub fn new() -> Result<(Outcome, OwnedFd)> {
        let subject = || "share a page with init".to_owned();
        let failed = |call, error: &std::io::Error| {
            Error::call(Step::Sync, call, Errno::from_io_error(error).unwrap_or(Errno::IO), subject())
        };
        match crate::sys::process::memfd_page(c"hull-start") {
            Ok(memfd) => {
                let page = SharedPage::map(memfd.as_fd()).map_err(|error| failed("mmap", &error))?;
                Ok((Outcome::Page(page), memfd))
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let (own, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                    .map_err(|errno| Error::call(Step::Sync, "socketpair", errno, subject()))?;
                Ok((Outcome::Packets(own, RefCell::default()), other))
            }
            Err(error) => Err(failed("memfd_create", &error)),
        }
    }

    /// init's side, of what `start` gave it. What cannot be a page is written to as a socket, or not at all.
    pub fn of(given: OwnedFd) -> std::io::Result<Outcome> {
        match SharedPage::map(given.as_fd()) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENODEV)) => {
                Ok(Outcome::Packets(given, RefCell::default()))
            }
            page => page.map(Outcome::Page),
        }
    }

    /// init goes on, unless `start` has given up.
    pub fn claim(&self) -> bool {
        match self {
            Outcome::Page(page) => page.claim(),
            Outcome::Packets(socket, _) => say(socket, CLAIMED),
        }
    }

    /// `start` gives up, unless init has gone on.
    pub fn give_up(&self) -> bool {
        match self {
            Outcome::Page(page) => page.claim(),
            Outcome::Packets(socket, _) => {
                if self.heard(CLAIMED) {
                    return false;
                }
                // From here on nothing can be sent; what was in the meantime is heard.
                shutdown(socket, Shutdown::Read).is_ok() && !self.heard(CLAIMED)
            }
        }
    }

    /// The steps in front of the execve begin, and no other filter is in force yet.
    pub fn leaving(&self) {
        if let Outcome::Packets(socket, _) = self {
            let _ = say(socket, EXECUTING);
        }
    }

    /// The execve comes next.
    pub fn executing(&self) {
        if let Outcome::Page(page) = self {
            page.executing();
        }
    }

    /// Whether init said so.
    pub fn is_executing(&self) -> bool {
        match self {
            Outcome::Page(page) => page.is_executing(),
            Outcome::Packets(..) => self.heard(EXECUTING),
        }
    }

    /// init's last words.
    pub fn store(&self, bytes: &[u8]) {
        match self {
            Outcome::Page(page) => page.store(bytes),
            Outcome::Packets(socket, _) => drop(say(socket, bytes)),
        }
    }

    /// Those, if there are any.
    pub fn load(&self) -> Vec<u8> {
        match self {
            Outcome::Page(page) => page.load(),
            Outcome::Packets(_, packets) => {
                self.heard(b"");
                let packets = packets.borrow();
                packets
                    .iter()
                    .find(|said| ![CLAIMED, EXECUTING].contains(&said.as_slice()))
                    .cloned()
                    .unwrap_or_default()
            }
        }
    }

    /// Whether this was said by now.
    fn heard(&self, what: &[u8]) -> bool {
        let Outcome::Packets(socket, packets) = self else { return false };
        let mut packet = [0; ROOM];
        while let Ok((length @ 1.., _)) = recv(socket, &mut packet[..], RecvFlags::DONTWAIT) {
            packets.borrow_mut().push(packet[..length].to_vec());
        }
        packets.borrow().iter().any(|said| said == what)
    }
}

/// Nobody is waited for: neither a reader that is slow, nor one that is no reader at all. By sendmsg(2), which a filter that
/// loads early has to allow.
fn say(socket: &OwnedFd, what: &[u8]) -> bool {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(what)], &mut SendAncillaryBuffer::default(), flags).is_ok()
}
