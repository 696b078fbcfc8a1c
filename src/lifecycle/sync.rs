//! The socketpair between setup and init: named points, file descriptors, and errors that cross whole.
//!
//! A message is one packet (SOCK_SEQPACKET): a tag, and a JSON body where the point has one. A peer that died is the
//! end of the file, which every receiver can tell from a message.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::error::{ErrAt, Error, Result, Step};
use crate::plan::mounts::Source;

/// What is now true, said by one side to the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sync {
    /// setup: the maps are written, init is in its cgroup; this is init's pid on the host.
    Mapped(i32),
    /// setup: the device rules hold.
    DeviceRules,
    /// the hop: it has cloned init, this is its pid on the host; whether straight into the cgroup. The pidfd follows.
    Cloned(i32, bool),
    /// init: its namespaces are there; these sources it cannot reach, or may not map.
    NamespacesReady(Vec<Source>),
    /// setup: what only the host can do is done; the detached mounts of the unreachable sources follow as descriptors.
    HostReady,
    /// init: the root file system is built, not yet entered.
    RootfsReady,
    /// setup: prestart and createRuntime hooks have run.
    HooksDone,
    /// init: everything but the program; with the terminal's master, and the seccomp listener, as descriptors.
    Ready,
    /// setup: the state says "created"; init is on its own.
    Created,
    /// Either side: this went wrong, it leaves.
    Failed(Box<Error>),
}

/// One packet holds this much: an error sentence with long paths fits; what does not is cut off by [`Channel::send`].
const PACKET: usize = 8 << 10;
/// So many characters of a longer sentence: also in JSON, with escapes, fewer bytes than [`crate::sys::shared::ROOM`].
const MAX_SUBJECT: usize = 600;
/// The kernel's bound on descriptors in one packet (SCM_MAX_FD).
const MAX_FDS: usize = 253;

/// One end of the socketpair.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Both ends: setup's and init's.
pub fn pair() -> Result<(Channel, Channel)> {
    let (setup, init) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).err_at(
        Step::Sync,
        "socketpair",
        || "connect setup and init",
    )?;
    Ok((Channel(setup), Channel(init)))
}

impl Channel {
    /// A wait for the peer ends with EAGAIN after this time.
    pub fn set_patience(&self, limit: std::time::Duration) -> Result<()> {
        rustix::net::sockopt::set_socket_timeout(&self.0, rustix::net::sockopt::Timeout::Recv, Some(limit)).err_at(
            Step::Sync,
            "setsockopt(SO_RCVTIMEO)",
            || "connect setup and init",
        )
    }

    /// Says a sync point, with descriptors; more than one packet can hold follow in packets of their own.
    pub fn send(&self, sync: &Sync, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut body = serde_json::to_vec(&(sync, fds.len())).expect("sync points are plain data");
        if body.len() > PACKET
            && let Sync::Failed(error) = sync
        {
            body = serde_json::to_vec(&(Sync::Failed(Box::new(cut(error))), fds.len()))
                .expect("sync points are plain data");
        }
        send_packet(self.as_fd(), &body, &fds[..fds.len().min(MAX_FDS)])?;
        for batch in fds.get(MAX_FDS..).unwrap_or_default().chunks(MAX_FDS) {
            send_packet(self.as_fd(), b"+", batch)?;
        }
        Ok(())
    }

    /// Waits for the peer's next point; None when the peer has gone. An error that the peer sent is returned as such.
    pub fn recv(&self) -> Result<Option<(Sync, Vec<OwnedFd>)>> {
        let mut buffer = vec![0u8; PACKET];
        let mut fds = Vec::new();
        let len = recv_packet(self.as_fd(), &mut buffer, &mut fds)?;
        if len == 0 {
            return Ok(None);
        }
        let (sync, count): (Sync, usize) = serde_json::from_slice(&buffer[..len])
            .map_err(|e| Error::bug(Step::Sync, format!("a sync message that cannot be read: {e}")))?;
        while fds.len() < count {
            if recv_packet(self.as_fd(), &mut buffer, &mut fds)? == 0 {
                return Ok(None);
            }
        }
        match sync {
            Sync::Failed(error) => Err(*error),
            sync => Ok(Some((sync, fds))),
        }
    }

    /// Why a send failed: if the peer has gone, what it said before it left, or else how it died, is worth more than EPIPE.
    pub fn reason_of(&self, error: Error, how_it_died: impl FnOnce() -> Error) -> Error {
        if !(error.is(Errno::PIPE) || error.is(Errno::CONNRESET)) {
            return error;
        }
        self.last_words().unwrap_or_else(how_it_died)
    }

    /// The error that a peer which has gone sent before it left, behind what else it sent.
    pub fn last_words(&self) -> Option<Error> {
        loop {
            match self.recv() {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(said) => return Some(said),
            }
        }
    }
}

/// An error as JSON of at most this many bytes.
pub fn packed(error: &Error, room: usize) -> Vec<u8> {
    let whole = serde_json::to_vec(error).unwrap_or_default();
    if whole.len() <= room { whole } else { serde_json::to_vec(&cut(error)).unwrap_or_default() }
}

/// The beginning of a sentence that is too long.
fn cut(error: &Error) -> Error {
    let mut error = error.clone();
    error.subject = error.subject.chars().take(MAX_SUBJECT).collect::<String>() + "...";
    error.hint = None;
    error
}

/// Sends one packet with descriptors over any unix socket; over a stream it may be a part, whose length is given.
pub fn send_packet(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(fds).size()];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)), "the buffer was made for these descriptors");
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            result => {
                return result.err_at(Step::Sync, "sendmsg", || "pass a message and descriptors on");
            }
        }
    }
}

/// Receives one packet, its descriptors close-on-exec; the length, 0 at the end.
pub fn recv_packet(socket: BorrowedFd<'_>, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut reset = false;
    let received = loop {
        let mut slices = [IoSliceMut::new(buffer)];
        match recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            // A peer that died with unread messages of ours is told first, once; what it said is behind that.
            Err(rustix::io::Errno::CONNRESET) if !reset => reset = true,
            Err(rustix::io::Errno::CONNRESET) => return Ok(0),
            result => break result.err_at(Step::Sync, "recvmsg", || "wait for a message")?,
        }
    };
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(received.bytes)
}

/// Whether [`Channel::recv`] has waited as long as it may. What the peer itself failed with may have the same errno.
pub fn timed_out(error: &Error) -> bool {
    error.step == Step::Sync && error.call == "recvmsg" && error.is(rustix::io::Errno::AGAIN)
}

/// The peer said something else than its column has here.
pub fn out_of_order() -> Error {
    Error::bug(Step::Sync, "setup and init lost step with each other")
}

/// setup has left: so does the process that it was to hand on.
pub fn setup_gone() -> Error {
    Error::host(Step::Sync, "wait for setup: it has gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_many_descriptors_cross() {
        let (setup, init) = pair().unwrap();
        let error = Error::call(Step::Mount, "fsopen", Errno::NODEV, "mount x on /y");
        init.send(&Sync::Failed(Box::new(error.clone())), &[]).unwrap();
        assert_eq!(setup.recv().unwrap_err(), error);

        let fds: Vec<BorrowedFd<'_>> = std::iter::repeat_n(init.as_fd(), 300).collect();
        setup.send(&Sync::HostReady, &fds).unwrap();
        let (sync, received) = init.recv().unwrap().unwrap();
        assert_eq!((sync, received.len()), (Sync::HostReady, 300));
        drop(received);
        drop(setup);
        assert!(init.recv().unwrap().is_none());
    }

    #[test]
    fn the_last_words_of_a_peer_that_left_messages_unread_are_heard() {
        let (setup, init) = pair().unwrap();
        setup.send(&Sync::HooksDone, &[]).unwrap();
        init.send(&Sync::RootfsReady, &[]).unwrap();
        let error = Error::call(Step::Mount, "fsopen", Errno::NODEV, "mount x on /y");
        init.send(&Sync::Failed(Box::new(error.clone())), &[]).unwrap();
        drop(init);
        let gone = setup.send(&Sync::Created, &[]).unwrap_err();
        assert!(gone.is(Errno::PIPE) || gone.is(Errno::CONNRESET));
        assert_eq!(setup.last_words(), Some(error));
        assert!(setup.last_words().is_none());
    }

    #[test]
    fn an_error_longer_than_a_packet_is_cut() {
        let (setup, init) = pair().unwrap();
        let error = Error::host(Step::Mount, "x".repeat(100_000));
        init.send(&Sync::Failed(Box::new(error)), &[]).unwrap();
        assert!(setup.recv().unwrap_err().to_string().ends_with("..."));
    }
}
