//! CRIU (criu(8)) as a child that serves one request: `criu swrk FD`, spoken to over a socket (images/rpc.proto).
//!
//! CRIU freezes and writes down a tree of processes, or makes one from what was written. Between its steps it asks: hull
//! answers when its own part is done (hooks, limits, a look at what was restored), or that it is not, and CRIU undoes its work.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::error::{ErrAt, Error, Result, Step, show};
use crate::sys::clone::{Cloned, clone3, execve, exit_now};
use crate::sys::signal;

pub mod images;
pub mod mounts;
pub mod opts;
pub mod protobuf;

use opts::{notify, req, resp, restore_resp};
use protobuf::{Value, Writer, fields};

/// criu_req_type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Write a tree down, and end it unless it is to go on.
    Dump = 1,
    /// Make a tree.
    Restore = 2,
    /// Write memory down beforehand.
    PreDump = 4,
    /// The answer to a question of CRIU's.
    Notify = 6,
}

/// Where CRIU is looked for, beside PATH: engines call with hardly any environment.
const PLACES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What CRIU says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    kind: i64,
    /// It did what it was asked to.
    pub success: bool,
    /// The root of the restored tree.
    pub pid: i32,
    /// A question: which step it is at.
    pub step: Option<String>,
    /// What went wrong.
    pub message: Option<String>,
}

/// The child.
#[derive(Debug)]
pub struct Criu {
    socket: OwnedFd,
    /// Its number.
    pub pid: i32,
    pidfd: OwnedFd,
}

impl Criu {
    /// Starts CRIU. `before` runs in the child, and gives the descriptors that are handed on, whose numbers it will be told.
    pub fn spawn<'f>(before: impl FnOnce() -> Result<Vec<BorrowedFd<'f>>>) -> Result<Criu> {
        let program = find()?;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .err_at(Step::Criu, "socketpair", || "connect to criu")?;
        match clone3(0, None, libc::SIGCHLD).err_at(Step::Criu, "clone3", || "start criu")? {
            Cloned::Parent { pid, pidfd } => {
                drop(theirs);
                let mut criu = Criu { socket, pid, pidfd };
                let (bytes, fd) = criu.packet()?;
                let failed = bytes.strip_prefix(FAILED).map(child_error);
                match (failed, fd) {
                    (None, Some(socket)) => {
                        criu.socket = socket;
                        Ok(criu)
                    }
                    (failed, _) => {
                        criu.kill();
                        Err(failed.unwrap_or_else(|| Error::host(Step::Criu, "start criu: it has gone")))
                    }
                }
            }
            Cloned::Child => child(&program, theirs, before),
        }
    }

    /// Asks for something.
    pub fn ask(&self, kind: Kind, options: &Writer) -> Result<()> {
        let mut request = Writer::default();
        request.number(req::TYPE, kind as i64).message(req::OPTS, options);
        self.send(&request)
    }

    /// Answers a question.
    pub fn reply(&self, success: bool) -> Result<()> {
        let mut request = Writer::default();
        request.number(req::TYPE, Kind::Notify as i64).number(req::NOTIFY_SUCCESS, success);
        self.send(&request)
    }

    fn send(&self, request: &Writer) -> Result<()> {
        let mut none = SendAncillaryBuffer::default();
        loop {
            match sendmsg(&self.socket, &[IoSlice::new(request.as_bytes())], &mut none, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                // It has said why it went; the next answer brings it.
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                Err(errno) => return Err(Error::call(Step::Criu, "sendmsg", errno, "speak to criu")),
            }
        }
    }

    /// Waits for the next thing that CRIU says, with a descriptor if it hands one over. When it goes without a word, that
    /// is a failure.
    pub fn answer(&self) -> Result<(Answer, Option<OwnedFd>)> {
        let (bytes, fd) = self.packet()?;
        if bytes.is_empty() {
            return Ok((Answer::default(), None));
        }
        if let Some(said) = bytes.strip_prefix(FAILED) {
            return Err(child_error(said));
        }
        let answer = parse(&bytes).ok_or_else(|| Error::host(Step::Criu, "wait for criu: its answer is no message"))?;
        Ok((answer, fd))
    }

    fn packet(&self) -> Result<(Vec<u8>, Option<OwnedFd>)> {
        let mut bytes = vec![0u8; 64 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let length = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => break 0,
                result => break result.err_at(Step::Criu, "recvmsg", || "wait for criu")?.bytes,
            }
        };
        let mut fd = None;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fd = received.last().or(fd);
            }
        }
        bytes.truncate(length);
        Ok((bytes, fd))
    }

    /// Reaps it, once it has answered.
    pub fn end(&self) {
        let _ = crate::steps::hooks::wait_end(&self.pidfd, std::time::Duration::from_secs(10));
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }

    /// Kills it: what it has made of a tree dies with it.
    pub fn kill(&self) {
        let _ = crate::sys::signal::pidfd_send(self.pidfd.as_fd(), libc::SIGKILL);
        self.end();
    }
}

/// What the child says instead of CRIU when CRIU could not be started: no tag of a message begins like this.
const FAILED: &[u8] = b"\x07hull";

fn child_error(said: &[u8]) -> Error {
    serde_json::from_slice(said).unwrap_or_else(|_| Error::bug(Step::Criu, "start criu: it failed without a word"))
}

/// In the child, to its end: it becomes CRIU, or says why not.
fn child<'f>(program: &CString, socket: OwnedFd, before: impl FnOnce() -> Result<Vec<BorrowedFd<'f>>>) -> ! {
    let mut report = socket;
    let error = match hand_over(&mut report, before) {
        Ok(()) => run(program, &report),
        Err(error) => error,
    };
    let said = serde_json::to_vec(&error).unwrap_or_default();
    let _ = rustix::net::send(&report, &[FAILED, &said].concat(), SendFlags::NOSIGNAL);
    exit_now(1)
}

/// Makes the socket over which CRIU is spoken to, and sends its other end to setup. CRIU opens the descriptors that it is
/// told by the /proc of the process that made the socket: that has to be itself, since its mount namespace is another one.
fn hand_over<'f>(socket: &mut OwnedFd, before: impl FnOnce() -> Result<Vec<BorrowedFd<'f>>>) -> Result<()> {
    let subject = || "connect to criu";
    let fds = before()?;
    let (theirs, own) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).err_at(
        Step::Criu,
        "socketpair",
        subject,
    )?;
    let rights = [theirs.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&rights)), "the buffer was made for one descriptor");
    sendmsg(&*socket, &[IoSlice::new(b"+")], &mut ancillary, SendFlags::NOSIGNAL).err_at(
        Step::Criu,
        "sendmsg",
        subject,
    )?;
    *socket = own;
    // Everything else than what is handed on closes with the execve.
    for fd in fds.into_iter().chain([socket.as_fd()]) {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).err_at(
            Step::Criu,
            "fcntl",
            || "hand a descriptor to criu",
        )?;
    }
    Ok(())
}

fn run(program: &CString, socket: &OwnedFd) -> Error {
    let socket = CString::new(socket.as_raw_fd().to_string()).expect("a number holds no NUL");
    let mut env: Vec<CString> = std::env::vars_os()
        .filter(|(name, _)| name != "PATH")
        .filter_map(|(name, value)| {
            CString::new([name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat()).ok()
        })
        .collect();
    // It runs tar, ip and iptables.
    env.extend(CString::new(format!("PATH={PLACES}")));
    let env: Vec<_> = env.iter().map(AsRef::as_ref).collect();
    // A restore in the foreground keeps signals for the program.
    let as_new = signal::default_all().and_then(|()| signal::unblock_all());
    if let Err(error) = as_new.err_at(Step::Criu, "rt_sigaction", || "give every signal its default action") {
        return error;
    }
    let errno = crate::sys::umask::lend(|| execve(program, &[c"criu", c"swrk", &socket], &env));
    Error::call(Step::Criu, "execve", errno, format!("run {}", program.to_string_lossy()))
}

/// On the host, at fixed places: the caller's PATH may lead anywhere (CVE-2026-84042).
fn find() -> Result<CString> {
    let found = PLACES.split(':').map(|dir| Path::new(dir).join("criu")).find(|path| path.is_file());
    let missing = || {
        // Without an errno: engines take the words of ENOENT for a program that is missing in the container.
        Error::host(Step::Criu, "run criu: it is not installed")
            .hint(format!("checkpoint and restore need it, in one of {PLACES}: install CRIU (https://criu.org)"))
    };
    let path: PathBuf = found.ok_or_else(missing)?;
    CString::new(path.into_os_string().into_encoded_bytes()).map_err(|_| missing())
}

/// criu_resp.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let mut answer = Answer::default();
    for (field, value) in fields(bytes)? {
        match (field, value) {
            (resp::TYPE, Value::Number(kind)) => answer.kind = kind,
            (resp::SUCCESS, Value::Number(success)) => answer.success = success != 0,
            (resp::RESTORE, Value::Bytes(restore)) => {
                for (field, value) in fields(restore)? {
                    if let (restore_resp::PID, Value::Number(pid)) = (field, value) {
                        answer.pid = pid as i32;
                    }
                }
            }
            (resp::NOTIFY, Value::Bytes(message)) => {
                for (field, value) in fields(message)? {
                    match (field, value) {
                        (notify::SCRIPT, Value::Bytes(step)) => {
                            answer.step = Some(String::from_utf8_lossy(step).into_owned());
                        }
                        (notify::PID, Value::Number(pid)) => answer.pid = pid as i32,
                        _ => {}
                    }
                }
            }
            (resp::CR_ERRMSG, Value::Bytes(message)) => {
                answer.message = Some(String::from_utf8_lossy(message).into_owned());
            }
            _ => {}
        }
    }
    if answer.kind != Kind::Notify as i64 {
        answer.step = None;
    }
    Some(answer)
}

/// The error of a request that failed: CRIU's first complaint, and where all of them are.
pub fn failed(verb: &str, answer: &Answer, log: &Path) -> Error {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // That it may not have more descriptors is no reason for it to stop.
    let errors = text.lines().filter_map(|line| line.split_once("Error ")).map(|(_, error)| error.trim());
    let first = errors.filter(|error| !error.contains("RLIMIT_NOFILE for self")).map(str::to_owned).next();
    let said = first.or_else(|| answer.message.clone()).unwrap_or_else(|| "it does not say why".into());
    Error::host(Step::Criu, format!("{verb} by criu: {said}")).hint(format!("see {}", show(log)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        // criu_resp: type RESTORE, success, restore.pid 300.
        let answer = parse(b"\x08\x02\x10\x01\x22\x03\x08\xac\x02").unwrap();
        assert_eq!((answer.success, answer.pid, answer.step), (true, 300, None));
        // type NOTIFY, script "post-restore", pid 7.
        let answer = parse(b"\x08\x06\x10\x01\x2a\x10\x0a\x0cpost-restore\x10\x07").unwrap();
        assert_eq!((answer.step.as_deref(), answer.pid), (Some("post-restore"), 7));
        assert_eq!(parse(b"\x08"), None);
    }
}
