//! tmpcopyup: what the image has at a mount point is copied into the fresh tmpfs, by fd and without following links.
//!
//! Others may change the source meanwhile, and put a device where a file was: each entry is opened without effect (O_PATH),
//! looked at, and opened for reading by that descriptor only if it is a regular file. However deep the tree is, one
//! directory of each side is open; the way back is `..`, which for the source must lead to the directory it came from.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::{self, Errno};

use crate::error::{Error, Result, Step, show};
use crate::steps::path::by_fd;

const ENTRY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The kernel's bound on a list of names and on a value (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const MAX_ATTRIBUTE: usize = 64 << 10;

/// A call that failed.
struct Failure(&'static str, Errno);

type Done<T> = std::result::Result<T, Failure>;

trait At<T> {
    fn at(self, call: &'static str) -> Done<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, call: &'static str) -> Done<T> {
        self.map_err(|errno| Failure(call, errno))
    }
}

/// Copies everything below `from` (an O_PATH directory) to `to` (the root of a mount that nobody else has).
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, subject: &str) -> Result<()> {
    let umask = rustix::process::umask(Mode::empty());
    let mut place = Vec::new();
    let result = tree(from, to, &mut place);
    rustix::process::umask(umask);
    result.map_err(|Failure(call, errno)| {
        let path: PathBuf = place.iter().map(|name| OsStr::from_bytes(name.to_bytes())).collect();
        let error = Error::call(Step::Mount, call, errno, format!("{subject}: copy {}", show(&path)));
        match errno {
            Errno::NOSPC => {
                error.hint("the tmpfs is full: its size or nr_inodes is less than what the image has there")
            }
            Errno::STALE => error.hint("the directory was moved while it was copied"),
            _ => error,
        }
    })
}

/// A directory above the present one, and which of the directories in it are still to be copied.
struct Level {
    from: Stat,
    directories: Vec<CString>,
}

/// The present directory of both sides.
struct Walk<'t> {
    from: OwnedFd,
    to: OwnedFd,
    links: Links<'t>,
}

/// `place` is where it is, for an error.
fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, place: &mut Vec<CString>) -> Done<()> {
    let open = |fd: BorrowedFd<'_>| fs::openat(fd, ".", DIRECTORY, Mode::empty()).at("openat");
    let mut walk = Walk { from: open(from)?, to: open(to)?, links: Links::new(to) };
    let mut levels = vec![walk.files(place)?];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.directories.pop() {
            place.push(name);
            let name = &place[place.len() - 1];
            let inner = match fs::openat(&walk.from, name, DIRECTORY, Mode::empty()) {
                // It has gone, or something else has come in its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    place.pop();
                    continue;
                }
                other => other.at("openat")?,
            };
            fs::mkdirat(&walk.to, name, Mode::RWXU).at("mkdirat")?;
            walk.to = fs::openat(&walk.to, name, DIRECTORY, Mode::empty()).at("openat")?;
            walk.from = inner;
            levels.push(walk.files(place)?);
            continue;
        }
        let Some(done) = levels.pop() else { break };
        // The root of the tmpfs has what its options say.
        let Some(above) = levels.last() else { break };
        walk.finish_directory(&done.from)?;
        let up = fs::openat(&walk.from, "..", DIRECTORY, Mode::empty()).at("openat")?;
        let stat = fs::fstat(&up).at("fstat")?;
        if (stat.st_dev, stat.st_ino) != (above.from.st_dev, above.from.st_ino) {
            return Err(Failure("openat", Errno::STALE));
        }
        walk.from = up;
        walk.to = fs::openat(&walk.to, "..", DIRECTORY, Mode::empty()).at("openat")?;
        place.pop();
    }
    walk.links.remove()
}

impl Walk<'_> {
    /// Copies all of the present directory but the directories, which it lists.
    fn files(&mut self, place: &mut Vec<CString>) -> Done<Level> {
        let mut level = Level { from: fs::fstat(&self.from).at("fstat")?, directories: Vec::new() };
        for entry in Dir::read_from(&self.from).at("openat")? {
            let entry = entry.at("getdents64")?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let source = match fs::openat(&self.from, name, ENTRY, Mode::empty()) {
                Err(Errno::NOENT) => continue,
                other => other.at("openat")?,
            };
            let stat = fs::fstat(&source).at("fstat")?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                level.directories.push(name.to_owned());
                continue;
            }
            place.push(name.to_owned());
            if !self.links.link(&stat, &self.to, name)? {
                self.one(&source, &stat, name)?;
                self.links.keep(&stat, &self.to, name)?;
            }
            place.pop();
        }
        Ok(level)
    }

    /// Copies what is no directory.
    fn one(&self, source: &OwnedFd, stat: &Stat, name: &CStr) -> Done<()> {
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                // This very inode, whatever has its name by now.
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let source = fs::open(by_fd(source.as_fd()), flags, Mode::empty()).at("open")?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let target = fs::openat(&self.to, name, flags, mode).at("openat")?;
                content(&source, &target, stat.st_size.cast_unsigned())?;
            }
            FileType::Symlink => {
                let link = fs::readlinkat(source, "", Vec::new()).at("readlinkat")?;
                fs::symlinkat(link, &self.to, name).at("symlinkat")?;
            }
            kind => fs::mknodat(&self.to, name, kind, mode, stat.st_rdev).at("mknodat")?,
        }
        let target = fs::openat(&self.to, name, ENTRY, Mode::empty()).at("openat")?;
        attributes(source.as_fd(), target.as_fd(), stat)?;
        fs::utimensat(&self.to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW).at("utimensat")
    }

    /// Last: what is made in a directory changes its times, and takes over its default ACL.
    fn finish_directory(&self, stat: &Stat) -> Done<()> {
        attributes(self.from.as_fd(), self.to.as_fd(), stat)?;
        fs::futimens(&self.to, &times(stat)).at("utimensat")
    }
}

/// Copies what is written of a file and leaves its holes, up to the size that it had: it may grow for ever.
fn content(source: &OwnedFd, target: &OwnedFd, size: u64) -> Done<()> {
    fs::ftruncate(target, size).at("ftruncate")?;
    let mut buffer = vec![0; 64 << 10];
    let mut at = 0;
    while at < size {
        let (start, end) = match fs::seek(source, fs::SeekFrom::Data(at)) {
            Ok(start) => (start, fs::seek(source, fs::SeekFrom::Hole(start)).at("lseek")?),
            Err(Errno::NXIO) => break,
            // A file system that does not know.
            Err(Errno::INVAL) => (at, size),
            Err(errno) => return Err(Failure("lseek", errno)),
        };
        // Answers that lead nowhere, as a file system of somebody's own may give, are none.
        let (start, end) = if start < at || end <= start { (at, size) } else { (start, end.min(size)) };
        at = start;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let read = io::pread(source, &mut buffer[..most], at).at("read")?;
            if read == 0 {
                return Ok(());
            }
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                let written = io::pwrite(target, rest, at).at("write")?;
                at += written as u64;
                rest = &rest[written..];
            }
        }
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    // Below a thousand millions, in a type that differs by architecture.
    fn time(tv_sec: i64, nanoseconds: impl TryInto<i64>) -> Timespec {
        Timespec { tv_sec, tv_nsec: nanoseconds.try_into().unwrap_or(0) }
    }
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Owner, extended attributes and mode: a new owner takes away set-id bits and file capabilities.
fn attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>, stat: &Stat) -> Done<()> {
    let (uid, gid) = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    fs::chownat(target, "", uid, gid, AtFlags::EMPTY_PATH).at("fchownat")?;
    // No descriptor of O_PATH takes attributes; its name in the host's /proc leads to this very inode.
    let (source, target) = (by_fd(source), by_fd(target));
    let mut list = vec![0u8; MAX_ATTRIBUTE];
    let length = match fs::listxattr(&source, &mut list[..]) {
        Err(Errno::NOTSUP) => 0,
        other => other.at("listxattr")?,
    };
    let mut value = Vec::new();
    for name in list[..length].split_inclusive(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let name = CStr::from_bytes_with_nul(name).map_err(|_| Failure("listxattr", Errno::INVAL))?;
        value.resize(MAX_ATTRIBUTE, 0);
        match fs::getxattr(&source, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            // It has gone, or its owner has no number in this user namespace, where it means nothing.
            Err(Errno::NODATA | Errno::OVERFLOW) => continue,
            Err(errno) => return Err(Failure("getxattr", errno)),
        }
        match fs::setxattr(&target, name, &value, XattrFlags::empty()) {
            // Older kernels' tmpfs has none of the user's, and a user namespace may not set all. An access control list is
            // never left out: with it the group's bits in the mode mean something else.
            Err(Errno::NOTSUP | Errno::PERM) if !name.to_bytes().starts_with(b"system.") => {}
            other => other.at("setxattr")?,
        }
    }
    if stat.st_mode & 0o6000 != 0 || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        fs::chmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777)).at("chmod")?;
    }
    Ok(())
}

/// Labels and signatures of the image's files are about the host's file system.
fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability\0"
        || [b"system.posix_acl_".as_slice(), b"user.", b"trusted."].iter().any(|prefix| name.starts_with(prefix))
}

/// Files with several names: each has one more in a directory of its own until all is copied.
struct Links<'t> {
    root: BorrowedFd<'t>,
    directory: Option<(String, OwnedFd)>,
    numbers: HashMap<(u64, u64), usize>,
}

impl<'t> Links<'t> {
    fn new(root: BorrowedFd<'t>) -> Links<'t> {
        Links { root, directory: None, numbers: HashMap::new() }
    }

    /// Gives a file that is copied already another name; false: it is not.
    fn link(&self, stat: &Stat, to: &OwnedFd, name: &CStr) -> Done<bool> {
        let (Some(number), Some((_, directory))) = (self.numbers.get(&(stat.st_dev, stat.st_ino)), &self.directory)
        else {
            return Ok(false);
        };
        fs::linkat(directory, number.to_string(), to, name, AtFlags::empty()).at("linkat").map(|()| true)
    }

    fn keep(&mut self, stat: &Stat, to: &OwnedFd, name: &CStr) -> Done<()> {
        if stat.st_nlink < 2 {
            return Ok(());
        }
        if self.directory.is_none() {
            self.directory = Some(self.make()?);
        }
        let Some((_, directory)) = &self.directory else { return Ok(()) };
        let number = self.numbers.len();
        fs::linkat(to, name, directory, number.to_string(), AtFlags::empty()).at("linkat")?;
        self.numbers.insert((stat.st_dev, stat.st_ino), number);
        Ok(())
    }

    fn make(&self) -> Done<(String, OwnedFd)> {
        // A name that no image has.
        let mut bytes = [0; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).at("getrandom")?;
        let name = format!(".hull-{:032x}", u128::from_ne_bytes(bytes));
        fs::mkdirat(self.root, &name, Mode::RWXU).at("mkdirat")?;
        let directory = fs::openat(self.root, &name, DIRECTORY, Mode::empty()).at("openat")?;
        Ok((name, directory))
    }

    fn remove(self) -> Done<()> {
        let Some((name, directory)) = self.directory else { return Ok(()) };
        for number in 0..self.numbers.len() {
            fs::unlinkat(&directory, number.to_string(), AtFlags::empty()).at("unlinkat")?;
        }
        fs::unlinkat(self.root, name, AtFlags::REMOVEDIR).at("unlinkat")
    }
}
