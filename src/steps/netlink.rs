//! A small blocking client of the kernel's routing socket (netlink(7), rtnetlink(7)): just what moving a device takes.
//!
//! A socket belongs to the network namespace in which it was opened, for as long as it is open, wherever its process
//! goes. So setup opens one on the host and one in the container's namespace, and talks to both from the host.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// One message to the kernel.
#[derive(Debug, Clone)]
pub struct Request(Vec<u8>);

/// struct nlmsghdr: length, type, flags, sequence number, port.
const HEADER: usize = 16;

impl Request {
    /// A message of `kind` (RTM_*) with `flags` (NLM_F_*) that begins with the fixed part of its kind.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Request {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | libc::NLM_F_REQUEST as u16 | libc::NLM_F_ACK as u16).to_ne_bytes());
        bytes.extend(fixed);
        pad(&mut bytes);
        Request(bytes)
    }

    /// Appends an attribute.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Request {
        // A value is shorter than 64 KiB: a name, an address or a number.
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        pad(&mut self.0);
        self
    }

    /// Appends a string, with its final NUL.
    #[must_use]
    pub fn string(self, kind: u16, value: &str) -> Request {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// What the kernel answered: the message without its header.
pub type Answer = Vec<u8>;

/// The attributes that follow the fixed part of an answer.
pub fn attributes(answer: &[u8], fixed: usize) -> Vec<(u16, &[u8])> {
    // The flags of a nested attribute and of network byte order are no part of its kind.
    const KIND: u16 = 0x3fff;
    let mut rest = answer.get(fixed..).unwrap_or_default();
    let mut found = Vec::new();
    while let Some([a, b, c, d]) = rest.first_chunk::<4>().copied() {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = rest.get(4..length) else { break };
        found.push((u16::from_ne_bytes([c, d]) & KIND, value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// A socket in one network namespace.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Opens one in the namespace in which the caller is.
    pub fn open() -> rustix::io::Result<Netlink> {
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).map(Netlink)
    }

    /// Sends a request and reads the answers to the end, which is an error or the word that there is none.
    pub fn ask(&self, mut request: Request) -> rustix::io::Result<Vec<Answer>> {
        let length = request.0.len() as u32;
        request.0[..4].copy_from_slice(&length.to_ne_bytes());
        rustix::net::send(&self.0, &request.0, SendFlags::empty())?;
        let mut answers = Vec::new();
        // The kernel fills at most so much for one read of a dump.
        let mut buffer = vec![0; 65_536];
        loop {
            let read = match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((read, _)) => read,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            if take(&buffer[..read], &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// Sorts one read into `answers`; whether it was the last.
fn take(mut bytes: &[u8], answers: &mut Vec<Answer>) -> rustix::io::Result<bool> {
    while let (Some(length), Some(kind)) = (number(bytes, 0), bytes.get(4..6)) {
        let length = length as usize;
        let Some(body) = bytes.get(HEADER..length) else { return Err(Errno::BADMSG) };
        match i32::from(u16::from_ne_bytes([kind[0], kind[1]])) {
            // Both begin with an errno, negative or 0.
            libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                return match number(body, 0).unwrap_or(0) as i32 {
                    0.. => Ok(true),
                    negative => Err(Errno::from_raw_os_error(-negative)),
                };
            }
            libc::NLMSG_NOOP => {}
            _ => answers.push(body.to_vec()),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// A number of 32 bits at a place.
pub fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back() {
        let request = Request::new(1, 0, &[9; 8]).string(3, "eth0").attribute(0x8000 | 4, &7u32.to_ne_bytes());
        let found = attributes(&request.0[HEADER..], 8);
        assert_eq!(found, [(3, &b"eth0\0"[..]), (4, &7u32.to_ne_bytes()[..])]);
        // A length that lies leads nowhere else.
        assert_eq!(attributes(&[255, 255, 1, 0, 1], 0), []);
        assert_eq!(attributes(&[0, 0, 1, 0], 0), []);
    }

    #[test]
    fn the_loopback_device_is_found_and_another_is_not() {
        let socket = Netlink::open().unwrap();
        let named = |name| socket.ask(Request::new(libc::RTM_GETLINK, 0, &[0; 16]).string(libc::IFLA_IFNAME, name));
        assert_eq!(number(&named("lo").unwrap()[0], 4), Some(1));
        assert_eq!(named("no-such-device").unwrap_err(), Errno::NODEV);
        let all = socket.ask(Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP as u16, &[0; 16])).unwrap();
        assert!(all.iter().any(|link| number(link, 4) == Some(1)));
    }
}
