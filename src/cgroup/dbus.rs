//! A client of D-Bus as small as systemd's interface allows: blocking, one thread, and every wait ends at a deadline.
//!
//! The bus knows who calls by the socket's credentials (EXTERNAL without a name: a user namespace's root need not know
//! which user it is outside). Authentication, Hello and the first calls are sent without waiting for one another.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Error, Result, Step};

pub mod message;

use message::{ERROR, FIXED, Message, RETURN, SIGNAL, Target, Writer};

/// The bus itself.
const BUS: Target =
    Target { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };

/// A connection.
#[derive(Debug)]
pub struct Bus {
    socket: OwnedFd,
    deadline: Instant,
    patience: Duration,
    serial: u32,
    input: Vec<u8>,
    signals: VecDeque<Message>,
    authenticated: bool,
}

/// What a call gave.
#[derive(Debug)]
pub enum Answer {
    /// Its result.
    Return(Message),
    /// An error of the one who was called: its name and its text.
    Error(String, String),
}

impl Bus {
    /// Connects to a bus (a D-Bus address: one or more `unix:path=...`, separated by semicolons); all that follows on this
    /// connection has to be done within `patience`.
    pub fn connect(address: &str, patience: Duration) -> Result<Bus> {
        let deadline = Instant::now() + patience;
        let mut last = None;
        for socket in addresses(address) {
            match connect(&socket, deadline) {
                Ok(socket) => {
                    let mut bus = Bus {
                        socket,
                        deadline,
                        patience,
                        serial: 0,
                        input: Vec::new(),
                        signals: VecDeque::new(),
                        authenticated: false,
                    };
                    bus.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
                    bus.post(BUS, "Hello", "", &Writer::default())?;
                    return Ok(bus);
                }
                Err(errno) => last = Some(errno),
            }
        }
        let subject = format!("connect to the bus of systemd, {address}");
        Err(match last {
            // runc's words, and no errno's: engines take those of ENOENT for a program that is missing in the container.
            Some(Errno::NOENT | Errno::CONNREFUSED) => Error::host(
                Step::Cgroup,
                format!("{subject}: systemd not running on this host, cannot use systemd cgroups manager"),
            ),
            Some(errno) => Error::call(Step::Cgroup, "connect", errno, subject),
            None => Error::host(Step::Cgroup, format!("{subject}: not an address of a unix socket")),
        }
        .hint(
            "the systemd cgroup driver needs a running systemd and its D-Bus; --cgroup-manager cgroupfs needs neither",
        ))
    }

    /// Asks for a signal.
    pub fn listen(&mut self, rule: &str) -> Result<()> {
        let mut body = Writer::default();
        body.text(rule);
        self.post(BUS, "AddMatch", "s", &body).map(drop)
    }

    /// Calls, and waits for the answer. Signals that come meanwhile are kept.
    pub fn call(&mut self, target: Target<'_>, member: &str, signature: &str, body: &Writer) -> Result<Answer> {
        let serial = self.post(target, member, signature, body)?;
        loop {
            let message = self.receive(&format!("call {member}"))?;
            match message.kind {
                SIGNAL => self.signals.push_back(message),
                RETURN if message.reply_serial == serial => return Ok(Answer::Return(message)),
                ERROR if message.reply_serial == serial => return Ok(error(&message)),
                // The bus refuses Hello or a match: without them nothing that follows can work.
                ERROR => {
                    let Answer::Error(name, text) = error(&message) else { continue };
                    return Err(Error::host(
                        Step::Cgroup,
                        format!("call {member} on the bus of systemd: {text} ({name})"),
                    ));
                }
                _ => {}
            }
        }
    }

    /// The next signal of this name.
    pub fn signal(&mut self, member: &str) -> Result<Message> {
        loop {
            if let Some(message) = self.signals.pop_front() {
                if message.member == member {
                    return Ok(message);
                }
                continue;
            }
            let message = self.receive(&format!("wait for {member}"))?;
            if message.kind == SIGNAL {
                self.signals.push_back(message);
            }
        }
    }

    /// Sends a call and does not wait.
    fn post(&mut self, target: Target<'_>, member: &str, signature: &str, body: &Writer) -> Result<u32> {
        self.serial += 1;
        let bytes = message::call(self.serial, target, member, signature, body);
        self.send(&bytes)?;
        Ok(self.serial)
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        let subject = || "speak to the bus of systemd";
        while !bytes.is_empty() {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, subject())?,
                Err(errno) => return Err(Error::call(Step::Cgroup, "sendto", errno, subject())),
            }
        }
        Ok(())
    }

    /// The next message.
    fn receive(&mut self, what: &str) -> Result<Message> {
        let broken =
            |what: &str| Error::host(Step::Cgroup, format!("{what} on the bus of systemd: it breaks the protocol"));
        if !self.authenticated {
            self.authenticate(what)?;
        }
        loop {
            if let Some(fixed) = self.input.first_chunk::<FIXED>() {
                let length = Message::length(fixed).ok_or_else(|| broken(what))?;
                if self.input.len() >= length {
                    let message = Message::parse(&self.input[..length]).ok_or_else(|| broken(what))?;
                    self.input.drain(..length);
                    return Ok(message);
                }
            }
            self.read(what)?;
        }
    }

    /// Reads the lines of the bus's answer to the authentication.
    fn authenticate(&mut self, what: &str) -> Result<()> {
        loop {
            while let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).collect();
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                match line.split(' ').next() {
                    Some("OK") => {
                        self.authenticated = true;
                        return Ok(());
                    }
                    Some("DATA") => {}
                    _ => {
                        let what = format!("{what} on the bus of systemd: it does not accept this user: {line:?}");
                        return Err(Error::host(Step::Cgroup, what));
                    }
                }
            }
            if self.input.len() > 4096 {
                return Err(Error::host(Step::Cgroup, format!("{what} on the bus of systemd: it breaks the protocol")));
            }
            self.read(what)?;
        }
    }

    fn read(&mut self, what: &str) -> Result<()> {
        let subject = || format!("{what} on the bus of systemd");
        let mut buffer = [0u8; 4096];
        loop {
            match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    return Err(Error::host(Step::Cgroup, format!("{}: it closed the connection", subject())));
                }
                Ok((count, _)) => {
                    self.input.extend(&buffer[..count]);
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::IN, &subject())?,
                Err(errno) => return Err(Error::call(Step::Cgroup, "recvfrom", errno, subject())),
            }
        }
    }

    fn wait(&self, flags: PollFlags, subject: &str) -> Result<()> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.socket, flags)], Some(&timeout)) {
                Ok(0) => {
                    return Err(Error::host(
                        Step::Cgroup,
                        format!("{subject}: no answer within {} s", self.patience.as_secs()),
                    )
                    .hint("systemd hangs, or has very much to do"));
                }
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::call(Step::Cgroup, "poll", errno, subject)),
            }
        }
    }
}

fn error(message: &Message) -> Answer {
    let text = if message.signature.starts_with('s') { message.body().text() } else { None };
    Answer::Error(message.error.clone(), text.unwrap_or_default().to_owned())
}

/// Where a socket is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Path(Vec<u8>),
    Abstract(Vec<u8>),
}

/// The unix sockets of an address (D-Bus specification, "Server Addresses").
fn addresses(text: &str) -> Vec<Place> {
    let mut places = Vec::new();
    for address in text.split(';') {
        let Some(parts) = address.strip_prefix("unix:") else { continue };
        for part in parts.split(',') {
            match part.split_once('=') {
                Some(("path", value)) => places.push(Place::Path(unescape(value))),
                Some(("abstract", value)) => places.push(Place::Abstract(unescape(value))),
                _ => {}
            }
        }
    }
    places
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match digits.filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

fn connect(place: &Place, deadline: Instant) -> rustix::io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStringExt;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = match place {
        Place::Path(path) => SocketAddrUnix::new(Path::new(&OsString::from_vec(path.clone())))?,
        Place::Abstract(name) => SocketAddrUnix::new_abstract_name(name)?,
    };
    loop {
        match rustix::net::connect(&socket, &address) {
            // The queue of a bus that is busy, or dead, is full.
            Err(Errno::AGAIN) if Instant::now() < deadline => crate::sys::process::sleep(Duration::from_millis(10)),
            Err(Errno::INTR) => {}
            result => return result.map(|()| socket),
        }
    }
}
