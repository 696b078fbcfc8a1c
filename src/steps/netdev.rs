//! Network devices move into the container's network namespace, by setup, which has the right on the host.
//!
//! The kernel takes a device's addresses away when it moves; those that are meant to last are put back
//! (config-linux.md#network-devices: permanent ones of global scope). Hardware address, MTU and queue lengths stay.
//! What ends the namespace ends a virtual device in it, and brings a physical one back; nothing is done at delete.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces};

use super::netlink::{Netlink, Request, attributes, number};
use crate::error::{ErrAt, Error, Result, Step};
use crate::plan::netdev::NetDevice;

/// struct ifinfomsg: family, type, index, flags, mask of the flags.
const LINK: usize = 16;
/// struct ifaddrmsg: family, prefix length, flags, scope, index.
const ADDRESS: usize = 8;
/// RT_SCOPE_UNIVERSE.
const GLOBAL: u8 = 0;
/// How many names are tried for a template.
const MOST_NUMBERS: u32 = 1000;
/// The flags that somebody asked for; the kernel sets the others itself.
const ADDRESS_FLAGS: u32 =
    libc::IFA_F_NODAD | libc::IFA_F_HOMEADDRESS | libc::IFA_F_MANAGETEMPADDR | libc::IFA_F_NOPREFIXROUTE | 0x400;

/// Both sides of the move, and what was moved, until it is sure that the container comes to life.
#[derive(Debug)]
pub struct NetDevices {
    host: Netlink,
    host_namespace: OwnedFd,
    container: Netlink,
    container_namespace: OwnedFd,
    moved: Vec<Device>,
}

/// A device as it was on the host.
#[derive(Debug)]
struct Device {
    name: String,
    /// In the namespace in which it is now.
    index: u32,
    up: bool,
    addresses: Vec<Vec<u8>>,
}

impl NetDevices {
    /// Opens both sides: the host's, in which the caller is, and that of the process behind a pidfd.
    pub fn open(pidfd: BorrowedFd<'_>) -> Result<NetDevices> {
        let subject = || "enter the container's network namespace";
        let here = || {
            open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).err_at(
                Step::NetDevice,
                "open",
                subject,
            )
        };
        let socket =
            || Netlink::open().err_at(Step::NetDevice, "socket", || "talk to the kernel about network devices");
        let (host, host_namespace) = (socket()?, here()?);
        move_into_thread_name_spaces(pidfd, ThreadNameSpaceType::NETWORK).err_at(Step::NetDevice, "setns", subject)?;
        let there = socket().and_then(|container| Ok((container, here()?)));
        // Whatever became of it: hooks and the rest of setup belong on the host.
        move_into_link_name_space(host_namespace.as_fd(), Some(LinkNameSpaceType::Network)).err_at(
            Step::NetDevice,
            "setns",
            || "go back to the host's network namespace",
        )?;
        let (container, container_namespace) = there?;
        Ok(NetDevices { host, host_namespace, container, container_namespace, moved: Vec::new() })
    }

    /// Moves all, in order; those that were moved before an error can still be given back.
    pub fn move_all(&mut self, devices: &[NetDevice]) -> Result<()> {
        devices.iter().try_for_each(|device| self.move_one(device))
    }

    fn move_one(&mut self, device: &NetDevice) -> Result<()> {
        let subject = || match device.host == device.container {
            true => format!("move the network device {} ({})", device.host, device.pointer),
            false => format!("move the network device {} as {} ({})", device.host, device.container, device.pointer),
        };
        let (index, up) = find(&self.host, &device.host).err_at(Step::NetDevice, "RTM_GETLINK", subject)?;
        let addresses = lasting_addresses(&self.host, index).err_at(Step::NetDevice, "RTM_GETADDR", subject)?;
        // Before the move: a device that cannot have its name there would be stranded under another one.
        let name = self.free_name(&device.container).err_at(Step::NetDevice, "RTM_GETLINK", subject).map_err(|e| {
            if e.is(Errno::EXIST) { e.hint("the container's network namespace has a device of this name") } else { e }
        })?;
        change_namespace(&self.host, index, &name, self.container_namespace.as_fd())
            .err_at(Step::NetDevice, "RTM_NEWLINK", subject)
            .map_err(|e| match e.is(Errno::PERM) {
                true => e.hint("it takes CAP_NET_ADMIN on the host and over the container's network namespace"),
                false if e.is(Errno::INVAL) => e.hint("some kinds of devices cannot leave their network namespace"),
                false => e,
            })?;
        let moved = Device { name: device.host.clone(), index, up, addresses };
        self.moved.push(moved);
        let moved = self.moved.last_mut().expect("it was just pushed");
        // The number changes when it is taken there.
        (moved.index, _) = find(&self.container, &name).err_at(Step::NetDevice, "RTM_GETLINK", subject)?;
        put_addresses(&self.container, moved.index, &moved.addresses, &device.host, &name).err_at(
            Step::NetDevice,
            "RTM_NEWADDR",
            || format!("{}: put its addresses back", subject()),
        )?;
        set_up(&self.container, moved.index)
            .err_at(Step::NetDevice, "RTM_NEWLINK", || format!("{}: set it up", subject()))
    }

    /// The name that the device gets; EEXIST when it is taken.
    fn free_name(&self, wanted: &str) -> rustix::io::Result<String> {
        let free = |name: &str| match find(&self.container, name) {
            Err(Errno::NODEV) => Ok(true),
            Ok(_) => Ok(false),
            Err(errno) => Err(errno),
        };
        if !wanted.contains("%d") {
            return if free(wanted)? { Ok(wanted.to_owned()) } else { Err(Errno::EXIST) };
        }
        for number in 0..MOST_NUMBERS {
            let name = wanted.replace("%d", &number.to_string());
            if free(&name)? {
                return Ok(name);
            }
        }
        Err(Errno::EXIST)
    }

    /// Brings all devices back to the host, as they were there, as far as that is possible: the container did not come
    /// to life, and its namespace would take virtual ones with it. What fails is one sentence each.
    pub fn give_back(self) -> Vec<Error> {
        let mut errors = Vec::new();
        for device in self.moved.iter().rev() {
            let subject = || format!("give the network device {} back to the host", device.name);
            let back = || -> rustix::io::Result<()> {
                change_namespace(&self.container, device.index, &device.name, self.host_namespace.as_fd())?;
                let (index, _) = find(&self.host, &device.name)?;
                put_addresses(&self.host, index, &device.addresses, &device.name, &device.name)?;
                if device.up { set_up(&self.host, index) } else { Ok(()) }
            };
            if let Err(error) = back().err_at(Step::NetDevice, "RTM_NEWLINK", subject) {
                errors.push(error);
            }
        }
        errors
    }
}

/// A device's number, and whether it is up.
fn find(socket: &Netlink, name: &str) -> rustix::io::Result<(u32, bool)> {
    let answers = socket.ask(Request::new(libc::RTM_GETLINK, 0, &[0; LINK]).string(libc::IFLA_IFNAME, name))?;
    let link = answers.first().ok_or(Errno::NODEV)?;
    match (number(link, 4), number(link, 8)) {
        (Some(index), Some(flags)) => Ok((index, flags & libc::IFF_UP as u32 != 0)),
        _ => Err(Errno::BADMSG),
    }
}

fn link(index: u32, flags: u32) -> [u8; LINK] {
    let mut fixed = [0; LINK];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&flags.to_ne_bytes());
    fixed
}

/// Moves and renames in one request, so that no other name is ever seen there.
fn change_namespace(socket: &Netlink, index: u32, name: &str, namespace: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let request = Request::new(libc::RTM_NEWLINK, 0, &link(index, 0))
        .attribute(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes())
        .string(libc::IFLA_IFNAME, name);
    socket.ask(request).map(drop)
}

fn set_up(socket: &Netlink, index: u32) -> rustix::io::Result<()> {
    socket.ask(Request::new(libc::RTM_NEWLINK, 0, &link(index, libc::IFF_UP as u32))).map(drop)
}

/// The addresses of a device that are permanent and of global scope, as the kernel tells them.
fn lasting_addresses(socket: &Netlink, index: u32) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut all = socket.ask(Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP as u16, &[0; ADDRESS]))?;
    all.retain(|address| {
        number(address, 4) == Some(index)
            && address.get(3) == Some(&GLOBAL)
            && flags_of(address) & libc::IFA_F_PERMANENT != 0
    });
    Ok(all)
}

/// All 32 flags; the fixed part has room for the first eight.
fn flags_of(address: &[u8]) -> u32 {
    attributes(address, ADDRESS)
        .iter()
        .find(|(kind, _)| *kind == libc::IFA_FLAGS)
        .and_then(|(_, value)| number(value, 0))
        .unwrap_or_else(|| address.get(2).copied().unwrap_or(0).into())
}

fn put_addresses(socket: &Netlink, index: u32, addresses: &[Vec<u8>], old: &str, new: &str) -> rustix::io::Result<()> {
    for address in addresses {
        let mut fixed = [0; ADDRESS];
        fixed[..4].copy_from_slice(address.get(..4).ok_or(Errno::BADMSG)?);
        fixed[2] = 0;
        fixed[4..].copy_from_slice(&index.to_ne_bytes());
        let flags = flags_of(address) & ADDRESS_FLAGS;
        let mut request = Request::new(libc::RTM_NEWADDR, (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16, &fixed)
            .attribute(libc::IFA_FLAGS, &flags.to_ne_bytes());
        for (kind, value) in attributes(address, ADDRESS) {
            request = match kind {
                libc::IFA_LABEL => request.string(kind, &label(value, old, new)),
                libc::IFA_ADDRESS | libc::IFA_LOCAL | libc::IFA_BROADCAST | IFA_RT_PRIORITY | IFA_PROTO => {
                    request.attribute(kind, value)
                }
                _ => request,
            };
        }
        socket.ask(request)?;
    }
    Ok(())
}

/// Attributes that libc lacks (linux/if_addr.h).
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;

/// The label of an address, which begins with the name of its device (`eth0:1`), under its new name.
fn label(value: &[u8], old: &str, new: &str) -> String {
    let text = String::from_utf8_lossy(value);
    let text = text.trim_end_matches('\0');
    match text.strip_prefix(old) {
        // IFNAMSIZ holds for a label too.
        Some(rest) if new.len() + rest.len() < 16 => format!("{new}{rest}"),
        Some(_) => new.to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_follows_the_name() {
        assert_eq!(label(b"eth0:1\0", "eth0", "lan"), "lan:1");
        assert_eq!(label(b"eth0\0", "eth0", "a-name-of-15-by"), "a-name-of-15-by");
        assert_eq!(label(b"eth0:long\0", "eth0", "a-name-of-15-by"), "a-name-of-15-by");
        assert_eq!(label(b"other\0", "eth0", "lan"), "other");
    }
}
