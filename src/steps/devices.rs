//! Device nodes and links, made by fd in the container's own /dev. The directory is treated as hostile: it must be a
//! real one, and no name in it is followed (CVE-2026-41579, CVE-2026-88264). Whether it is the container's own is told by
//! the mount that is found there; and what hull did not make is neither changed nor removed.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::path::by_fd;
use super::path::{Root, RootfsPath};
use super::place::{Places, hint_of_links};
use super::rootfs::propagate;
use super::tree::{self, Origin};
use crate::error::{ErrAt, Error, Result, Step};
use crate::plan::devices::{DeviceKind, Devices, Node};
use crate::plan::mounts::PropagationKind;

const NODE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes all nodes and links.
pub fn make_all(places: &Places<'_>, devices: &Devices) -> Result<()> {
    if devices.nodes.is_empty() && devices.links.is_empty() {
        return Ok(());
    }
    // Modes are the config's, not the umask's. This process has one thread.
    let umask = rustix::process::umask(Mode::empty());
    let result = make_with_umask(places, devices);
    rustix::process::umask(umask);
    result
}

fn make_with_umask(places: &Places<'_>, devices: &Devices) -> Result<()> {
    let dev = open_dev(places.root)?;
    if !places.is_own(dev.as_fd()).err_at(Step::Device, "statx", || "look at /dev of the container")? {
        // As where config.json binds a directory of the host's there: its nodes are the host's, and enough.
        return Ok(());
    }
    for node in &devices.nodes {
        let subject = || describe(node);
        let path = node.path.as_path();
        let name = path.file_name().unwrap_or(OsStr::new(""));
        if path.parent() == Some(Path::new("/dev")) {
            make(places, dev.as_fd(), name, node)?;
        } else {
            let parent = RootfsPath::new(path.parent().unwrap_or(Path::new("/")));
            make(places, directory(places, &parent, subject)?.as_fd(), name, node)?;
        }
    }
    for (name, target) in devices.links {
        link(dev.as_fd(), name, target)?;
    }
    Ok(())
}

/// The directory for a node that config.json wants elsewhere; a link must not lead into another mount, which may be a
/// volume.
fn directory(places: &Places<'_>, path: &RootfsPath, subject: impl Fn() -> String) -> Result<OwnedFd> {
    let named = || places.root.open_without_links(path, OFlags::PATH | OFlags::DIRECTORY);
    if let Ok(dir) = named().or_else(|_| places.root.make_last(path)) {
        return Ok(dir);
    }
    let made = places.root.ensure_dir(path, &|dir| places.may_make(dir));
    let (dir, _) = made.err_at(Step::Device, "make directory", &subject).map_err(hint_of_links)?;
    if let Ok(dir) = named() {
        return Ok(dir);
    }
    if !places.is_own(dir.as_fd()).err_at(Step::Device, "statx", &subject)? {
        let what = format!("{}: a link of the root file system leads into another mount", subject());
        return Err(Error::host(Step::Device, what).hint("config.json does not name that place"));
    }
    Ok(dir)
}

/// Whether a terminal bound to /dev/console would be the host's console, too; on the host's side of the pivot.
pub fn console_shows_on_the_host(places: &Places<'_>) -> Result<bool> {
    if !places.peers {
        return Ok(false);
    }
    let dev = open_dev(places.root)?;
    places.shows_on_the_host(dev.as_fd()).err_at(Step::Console, "statx", || "look at /dev of the container")
}

/// Opens the container's /dev, which must be a real directory.
fn open_dev(root: Root<'_>) -> Result<OwnedFd> {
    let path = RootfsPath::new("/dev");
    let subject = || "open /dev of the container";
    match root.open_without_links(&path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => Ok(root.ensure_dir(&path, &|_| Ok(true)).err_at(Step::Device, "mkdirat", subject)?.0),
        other => other.err_at(Step::Device, "openat2", subject).map_err(|e| {
            if e.is(Errno::LOOP) || e.is(Errno::NOTDIR) {
                e.hint("/dev of the root file system must be a directory")
            } else {
                e
            }
        }),
    }
}

fn describe(node: &Node) -> String {
    match node.index {
        Some(i) => format!("make device {} (/linux/devices/{i})", node.path),
        None => format!("make device {}", node.path),
    }
}

fn file_type(kind: DeviceKind) -> FileType {
    match kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    }
}

fn is_it(stat: &Stat, node: &Node) -> bool {
    FileType::from_raw_mode(stat.st_mode) == file_type(node.kind)
        && (node.kind == DeviceKind::Fifo || stat.st_rdev == rustix::fs::makedev(node.major, node.minor))
}

fn make(places: &Places<'_>, dir: BorrowedFd<'_>, name: &OsStr, node: &Node) -> Result<()> {
    if node.bind {
        return bind(places, dir, name, node);
    }
    let subject = || describe(node);
    let mode = Mode::from_raw_mode(node.mode);
    let dev = if node.kind == DeviceKind::Fifo { 0 } else { rustix::fs::makedev(node.major, node.minor) };
    let made = match rustix::fs::mknodat(dir, name, file_type(node.kind), mode, dev) {
        // It is ours, with this mode and root's.
        Ok(()) if node.uid == 0 && node.gid == 0 => return Ok(()),
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(Error::call(Step::Device, "mknodat", errno, subject())),
    };
    let fd = rustix::fs::openat(dir, name, NODE, Mode::empty()).err_at(Step::Device, "openat", subject)?;
    let stat = rustix::fs::fstat(&fd).err_at(Step::Device, "fstat", subject)?;
    if !is_it(&stat, node) {
        return Err(Error::host(Step::Device, format!("{}: {} is there already", subject(), what(&stat))));
    }
    if !made {
        // It may be the host's, or another container's: whoever made it chose its mode and owner.
        return Ok(());
    }
    if (stat.st_uid, stat.st_gid) != (node.uid, node.gid) {
        let (uid, gid) = (Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
        rustix::fs::chownat(&fd, "", uid, gid, AtFlags::EMPTY_PATH).err_at(Step::Device, "fchownat", subject)?;
    }
    if stat.st_mode & 0o7777 != node.mode {
        // An O_PATH fd takes no fchmod; its name in the host's /proc leads to this very inode.
        rustix::fs::chmod(by_fd(fd.as_fd()), mode).err_at(Step::Device, "chmod", subject)?;
    }
    Ok(())
}

/// What a file is, in words.
fn what(stat: &Stat) -> String {
    let numbers = || format!("{}:{}", rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "a regular file".into(),
        FileType::Directory => "a directory".into(),
        FileType::Symlink => "a link".into(),
        FileType::Fifo => "a pipe".into(),
        FileType::Socket => "a socket".into(),
        FileType::CharacterDevice => format!("a character device {}", numbers()),
        FileType::BlockDevice => format!("a block device {}", numbers()),
        FileType::Unknown => "something unknown".into(),
    }
}

/// Binds the host's node, once it is seen to be the one that was asked for.
fn bind(places: &Places<'_>, dir: BorrowedFd<'_>, name: &OsStr, node: &Node) -> Result<()> {
    let subject = || format!("{} by a bind of the host's", describe(node));
    let tree = tree::clone(Origin::Path(node.path.as_path()), false)
        .err_at(Step::Device, "open_tree", subject)
        .map_err(|e| e.hint("a user namespace cannot make device nodes: the host must have it at the same path"))?;
    let stat = rustix::fs::fstat(&tree).err_at(Step::Device, "fstat", subject)?;
    if !is_it(&stat, node) {
        return Err(Error::host(
            Step::Device,
            format!("{}: {} is {} there, not {}:{}", subject(), node.path, what(&stat), node.major, node.minor),
        )
        .hint("a user namespace cannot make device nodes"));
    }
    if places.peers {
        // Else what the container mounts over it would show on the host's /dev.
        propagate(tree.as_fd(), &format!("{} of the host", node.path), PropagationKind::Private, false)?;
    }
    let at = mount_point(dir, name, subject)?;
    tree::attach(&tree, &at).err_at(Step::Device, "move_mount", subject)
}

/// Opens or makes the file that a node is bound to; never a link.
fn mount_point(dir: BorrowedFd<'_>, name: &OsStr, subject: impl Fn() -> String) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o666)) {
        Err(Errno::EXIST) => {
            rustix::fs::openat(dir, name, NODE, Mode::empty()).err_at(Step::Device, "openat", &subject)?
        }
        other => return other.err_at(Step::Device, "openat", &subject),
    };
    let stat = rustix::fs::fstat(&fd).err_at(Step::Device, "fstat", &subject)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::CharacterDevice | FileType::BlockDevice => Ok(fd),
        _ => Err(Error::host(Step::Device, format!("{}: {} is there already", subject(), what(&stat)))),
    }
}

/// Makes a link. What is there already stays: the image's, or what tmpcopyup brought.
fn link(dev: BorrowedFd<'_>, name: &str, target: &str) -> Result<()> {
    let subject = || format!("link /dev/{name} to {target}");
    match rustix::fs::symlinkat(target, dev, name) {
        Err(Errno::EXIST) => Ok(()),
        other => other.err_at(Step::Device, "symlinkat", subject),
    }
}

/// Binds the container's terminal to /dev/console. `peer` is the pty's own fd (TIOCGPTPEER), never a path
/// (CVE-2025-52565).
pub fn bind_console(root: Root<'_>, peer: BorrowedFd<'_>) -> Result<()> {
    let subject = || "bind the terminal to /dev/console".to_owned();
    let stat = rustix::fs::fstat(peer).err_at(Step::Console, "fstat", subject)?;
    // Majors 136 to 143 are Unix98 ptys.
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
        || !(136..=143).contains(&rustix::fs::major(stat.st_rdev))
    {
        return Err(Error::host(Step::Console, format!("{}: the terminal is {}", subject(), what(&stat))));
    }
    let dev = open_dev(root)?;
    let at = mount_point(dev.as_fd(), OsStr::new("console"), subject)?;
    tree::bind(peer, at.as_fd()).err_at(Step::Console, "move_mount", subject)
}

#[cfg(test)]
mod tests;
