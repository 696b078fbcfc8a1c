//! The container's root before anything is mounted: the rootfs with the plan's bind mounts laid over it, walked a component
//! at a time. What lies in any other mount cannot be told, and nothing is said about it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open, readlinkat};
use rustix::io::Errno;

use crate::error::show;
use crate::plan::mounts::{Mount, MountKind, attr};
use crate::plan::path::RootfsPath;
use crate::steps::path::Root;

/// The links that one path may go through, as in the kernel.
const MOST_LINKS: u32 = 40;

/// The root as the container will see it.
pub struct View<'p> {
    /// The rootfs.
    pub root: &'p OwnedFd,
    /// What is mounted over it, in order.
    pub mounts: &'p [Mount],
}

/// What is at a path.
pub struct Found {
    /// An O_PATH descriptor.
    pub fd: OwnedFd,
    /// Its attributes.
    pub stat: Stat,
    /// N of /mounts/N, in which nothing can be executed, where it lies in one.
    pub noexec: Option<usize>,
}

impl Found {
    /// What kind of file it is.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

impl View<'_> {
    /// Looks a path up; None: it lies in a mount of which nothing is known yet.
    pub fn find(&self, path: impl AsRef<Path>) -> Option<Result<Found, Errno>> {
        let mut parts: VecDeque<OsString> = split(path.as_ref()).collect();
        let mut at = RootfsPath::new("/");
        let mut links = 0;
        let mut found = match self.open(&at)? {
            Ok(found) => found,
            Err(errno) => return Some(Err(errno)),
        };
        while let Some(part) = parts.pop_front() {
            if found.kind() != FileType::Directory {
                return Some(Err(Errno::NOTDIR));
            }
            let next = at.join(&part);
            found = match self.open(&next)? {
                Ok(found) => found,
                Err(errno) => return Some(Err(errno)),
            };
            if found.kind() != FileType::Symlink {
                at = next;
                continue;
            }
            links += 1;
            let target = readlinkat(&found.fd, "", Vec::new()).ok();
            let target = target.map(|target| PathBuf::from(OsString::from_vec(target.into_bytes())));
            let Some(target) = target.filter(|_| links <= MOST_LINKS) else { return Some(Err(Errno::LOOP)) };
            if target.is_absolute() {
                at = RootfsPath::new("/");
            }
            split(&target).collect::<Vec<_>>().into_iter().rev().for_each(|part| parts.push_front(part));
            found = match self.open(&at)? {
                Ok(found) => found,
                Err(errno) => return Some(Err(errno)),
            };
        }
        Some(Ok(found))
    }

    /// That a path, as it is written, lies in a mount of which nothing is known but that nothing can be executed there.
    pub fn noexec_over(&self, path: &Path) -> Option<(usize, String)> {
        let over = self.mounts.iter().rev().find(|mount| path.starts_with(mount.destination.as_path()))?;
        let is_new = matches!(over.kind, MountKind::Fs { .. });
        let what = || format!("{} lies in the mount on {} with noexec", show(path), over.destination);
        (is_new && forbids_execve(over)).then(|| (over.index, what()))
    }

    /// A path whose parents are no links; itself it may be one.
    fn open(&self, path: &RootfsPath) -> Option<Result<Found, Errno>> {
        let over = self.mounts.iter().rev().find(|mount| {
            !matches!(mount.kind, MountKind::Remount { .. }) && path.as_path().starts_with(mount.destination.as_path())
        });
        let noexec = over.filter(|mount| forbids_execve(mount)).map(|mount| mount.index);
        let fd = match over.map(|mount| (&mount.kind, mount.destination.as_path())) {
            None => Root::new(self.root).open(path, OFlags::PATH | OFlags::NOFOLLOW),
            Some((MountKind::Bind { source, .. }, destination)) => {
                let below = path.as_path().strip_prefix(destination).unwrap_or(Path::new(""));
                open_below(source, below)
            }
            Some(_) => return None,
        };
        Some(fd.and_then(|fd| Ok(Found { stat: fstat(&fd)?, fd, noexec })))
    }
}

fn forbids_execve(mount: &Mount) -> bool {
    (mount.attr.set | mount.recursive_attr.set) & attr::NOEXEC != 0
}

fn open_below(source: &Path, below: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source = open(source, flags, Mode::empty())?;
    if below.as_os_str().is_empty() {
        return Ok(source);
    }
    Root::new(&source).open(&RootfsPath::new(below), flags | OFlags::NOFOLLOW)
}

fn split(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.map(|part| part.as_os_str().to_owned())
}
