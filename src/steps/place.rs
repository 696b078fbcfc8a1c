//! Where the words of config.json lead in the container's root, and whose place that is.
//!
//! A path that goes through no link is what config.json names, and what happens there is asked for. A link of the image
//! may lead a path elsewhere (/var/run to /run), but config.json does not name that place: it must not be what hull or
//! the kernel set up (/dev, /proc, /sys), nor a mount with peers on the host, where what is attached would show and
//! stay. Which mount was really found tells it, never the words.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, OFlags, StatxFlags};
use rustix::io::Errno;

use super::path::{Root, RootfsPath, by_fd, is_procfs};
use super::tree;
use crate::error::{ErrAt, Error, Result, Step};
use crate::plan::mounts::{Mount, MountKind};
use crate::plan::rootfs::Rootfs;

/// The container's root, and what hull mounted in it.
#[derive(Debug)]
pub struct Places<'fd> {
    /// Where paths are resolved.
    pub root: Root<'fd>,
    /// Mounts of the host are peers of its own here (/linux/rootfsPropagation).
    pub peers: bool,
    mounted: Vec<Mounted>,
}

#[derive(Debug)]
struct Mounted {
    at: RootfsPath,
    id: u64,
    /// A file system that nobody else has.
    new: bool,
}

impl<'fd> Places<'fd> {
    /// Nothing is mounted yet in the root at `fd`.
    pub fn new(fd: &'fd impl AsFd, plan: &Rootfs) -> Places<'fd> {
        Places { root: Root::new(fd), peers: plan.keeps_peers(), mounted: Vec::new() }
    }

    /// Notes which mount hull attached, where that is asked for later: at /dev, and wherever mounts have peers.
    pub fn note(&mut self, mount: &Mount, tree: BorrowedFd<'_>, subject: &str) -> Result<()> {
        if self.peers || mount.destination.as_path() == Path::new("/dev") {
            let id = mount_id(tree).err_at(Step::Mount, "statx", || subject)?;
            // A devtmpfs is the host's /dev again.
            let new = matches!(&mount.kind, MountKind::Fs { fstype, .. } if fstype != "devtmpfs");
            self.mounted.push(Mounted { at: mount.destination.clone(), id, new });
        }
        Ok(())
    }

    /// Whether `fd` lies on what the image has, or on the file system that hull made for /dev.
    pub fn is_own(&self, fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
        let found = mount_id(fd)?;
        let made = self
            .mounted
            .iter()
            .any(|mounted| mounted.id == found && mounted.new && mounted.at.as_path() == Path::new("/dev"));
        Ok(made || found == mount_id(self.root.fd)?)
    }

    /// `fd` was found for `path`, perhaps through links: gives back what config.json names, if that is there without one,
    /// and else `fd`, if a mount may be attached there.
    pub fn to_mount(&self, fd: OwnedFd, path: &RootfsPath, subject: &str) -> Result<OwnedFd> {
        match self.root.open_without_links(path, OFlags::PATH) {
            Ok(named) => return Ok(named),
            Err(Errno::LOOP | Errno::NOENT) => {}
            Err(errno) => return Err(Error::call(Step::Mount, "openat2", errno, subject)),
        }
        check_linked(self.root, &fd, path, subject)?;
        self.refuse_peers(fd.as_fd(), path, subject)?;
        Ok(fd)
    }

    /// Opens a path to cover what is there; None if nothing is.
    pub fn to_cover(&self, path: &RootfsPath, subject: &impl Fn() -> String) -> Result<Option<OwnedFd>> {
        let found = match self.root.open_without_links(path, OFlags::PATH) {
            Err(Errno::LOOP) => {
                let linked = self.root.open(path, OFlags::PATH);
                if let Ok(fd) = &linked {
                    self.refuse_peers(fd.as_fd(), path, &subject())?;
                }
                linked
            }
            other => other,
        };
        match found {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            other => other.map(Some).err_at(Step::Mount, "openat2", subject),
        }
    }

    /// The mount that `path` lies on by its words may be a peer of the host's: config.json put it there. No other one, and no
    /// other place in it.
    fn refuse_peers(&self, fd: BorrowedFd<'_>, path: &RootfsPath, subject: &str) -> Result<()> {
        if !self.peers {
            return Ok(());
        }
        let id = mount_id(fd).err_at(Step::Mount, "statx", || subject)?;
        if !has_peers(id).err_at(Step::Mount, "open", || subject)? {
            return Ok(());
        }
        let above = self.mounted.iter().rfind(|mounted| path.as_path().starts_with(mounted.at.as_path()));
        if let Some(mounted) = above.filter(|mounted| mounted.id == id) {
            let same = || -> rustix::io::Result<bool> {
                let top = self.root.open(&mounted.at, OFlags::PATH)?;
                let below = path.as_path().strip_prefix(mounted.at.as_path()).unwrap_or(Path::new(""));
                let named = Root::new(&top).open_without_links(&RootfsPath::new(below), OFlags::PATH)?;
                Ok(mount_id(named.as_fd())? == id && rustix::fs::fstat(&named)?.st_ino == rustix::fs::fstat(fd)?.st_ino)
            };
            if same().unwrap_or(false) {
                return Ok(());
            }
        }
        let what = format!("{subject}: a link of the root file system leads to a mount that is shared with the host");
        Err(Error::host(Step::Mount, what).hint("it would show on the host and stay there"))
    }

    /// Whether hull may make what config.json does not name in this directory, which a link led to: in the root file
    /// system, and in one that the container alone has. The rest is of the host, and to root of the host it is open.
    pub fn may_make(&self, fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
        let (found, root) = (mount_id(fd)?, mount_id(self.root.fd)?);
        if found == root {
            return Ok(true);
        }
        let table = std::fs::read("/proc/self/mountinfo").map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        let device = crate::bytes::mounts(&table).find(|mount| mount.id == found).ok_or(Errno::NODATA)?.device;
        // A mount comes behind the one that it lies on.
        let mut inside = std::collections::HashSet::from([root]);
        Ok(crate::bytes::mounts(&table)
            .all(|mount| inside.contains(&mount.parent) && inside.insert(mount.id) || mount.device != device))
    }

    /// Whether what is attached to this directory shows on the host.
    pub fn shows_on_the_host(&self, fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
        Ok(self.peers && !self.is_own(fd)? && has_peers(mount_id(fd)?)?)
    }
}

/// Refuses where a link of the image must not lead a mount.
fn check_linked(root: Root<'_>, fd: &OwnedFd, path: &RootfsPath, subject: &str) -> Result<()> {
    let refuse = |place: &str| {
        Err(Error::host(Step::Mount, format!("{subject}: a link of the root file system leads {place}"))
            .hint("config.json does not name that place"))
    };
    if !path.is_in("/proc") && is_procfs(fd) {
        return refuse("into a procfs");
    }
    let place = place_of(root, fd).err_at(Step::Mount, "readlink", || subject)?;
    if place.as_os_str().is_empty() {
        return refuse("to its root");
    }
    for top in ["dev", "proc", "sys"] {
        // Within /sys and /proc, which are the kernel's, the links are so, too.
        if place.starts_with(top) && (top == "dev" || !path.is_in(&format!("/{top}"))) {
            return refuse(&format!("to /{top}"));
        }
    }
    Ok(())
}

/// Where in the root it is, as the kernel knows it: the mounts on the way stay where they are, whatever is renamed.
fn place_of(root: Root<'_>, fd: &OwnedFd) -> rustix::io::Result<PathBuf> {
    let name = |fd| std::fs::read_link(by_fd(fd)).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO));
    name(fd.as_fd())?.strip_prefix(name(root.fd)?).map(Path::to_owned).map_err(|_| Errno::XDEV)
}

/// What to say where [`Places::may_make`] said no.
pub fn hint_of_links(error: Error) -> Error {
    if error.is(Errno::XDEV) {
        return error.hint("a link of the root file system leads to a volume, where config.json asks for nothing");
    }
    error
}

/// The number of the mount that `fd` lies on, also behind the pivot.
fn mount_id(fd: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    match rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID) {
        Ok(statx) if statx.stx_mask & StatxFlags::MNT_ID.bits() != 0 => Ok(statx.stx_mnt_id),
        _ => tree::mount_id(fd),
    }
}

/// Whether the mount is in a group with others (proc_pid_mountinfo(5)); on the host's side of the pivot only.
fn has_peers(id: u64) -> rustix::io::Result<bool> {
    let table = std::fs::read("/proc/self/mountinfo").map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    crate::bytes::mounts(&table).find(|mount| mount.id == id).map(|mount| mount.shared).ok_or(Errno::NODATA)
}
