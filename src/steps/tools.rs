//! The root of a program that is the host's (`exec --tools`): a copy of a directory's mounts, in a mount namespace of its
//! own, so that the container has neither.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::path::{Root, RootfsPath, is_procfs};
use super::tree::{self, Origin};
use super::{namespaces, process, rootfs};
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::plan::mounts::attr;
use crate::plan::namespaces::Kind;
use crate::sys::mount::{MountAttr, mount_setattr};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// What of the container lies in the new root as well, each where it has a directory for it.
const SHARED: [&str; 3] = ["/proc", "/dev", "/sys"];

/// Copies the directory's mounts, read-only. Here: the host's files, and the right to copy mounts.
pub fn open(directory: &Path) -> Result<OwnedFd> {
    let subject = || format!("open the tools' root {}", show(directory));
    let fd = rustix::fs::open(directory, DIRECTORY, Mode::empty()).err_at(Step::Exec, "open", subject)?;
    let proc = rustix::fs::statat(&fd, "proc", AtFlags::SYMLINK_NOFOLLOW);
    if !proc.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
        let what = format!("{}: it has no directory `proc`", subject());
        return Err(Error::host(Step::Exec, what).hint("the container's /proc is mounted there: make it"));
    }
    let tree = tree::clone(Origin::Fd(fd.as_fd()), true).err_at(Step::Exec, "open_tree", subject)?;
    let held =
        MountAttr { set: attr::RDONLY | attr::NOSUID | attr::NODEV, propagation: PRIVATE, ..MountAttr::default() };
    let set = mount_setattr(tree.as_fd(), &held, true).err_at(Step::Exec, "mount_setattr", subject);
    set.map_err(|error| if error.is(Errno::NOSYS) { error.hint("this takes Linux 5.12") } else { error })?;
    Ok(tree)
}

/// The same for who has no such right on the host: in the container's user namespace, with a copy of the host's mounts.
pub fn open_unprivileged(directory: &Path) -> Result<OwnedFd> {
    namespaces::unshare(Kind::Mount.flag())?;
    open(directory)
}

/// Puts the tree in the place of the root, in a mount namespace that nobody else has; the working directory is the
/// container's root. Here: setup's mount namespace and its rights. The container's user namespace is joined later, where setup has
/// not done that: the mount namespace belongs to another then, and root of the container has no rights over its mounts, which
/// he otherwise could make writable.
pub fn enter(tree: OwnedFd, init: BorrowedFd<'_>) -> Result<()> {
    let subject = || "make the tools' root".to_owned();
    let open_root = || rustix::fs::open("/", DIRECTORY, Mode::empty()).err_at(Step::Exec, "open", subject);
    namespaces::unshare(Kind::Mount.flag())?;
    let top = open_root()?;
    let private = MountAttr { propagation: PRIVATE, ..MountAttr::default() };
    mount_setattr(top.as_fd(), &private, true).err_at(Step::Exec, "mount_setattr", subject)?;
    let way_back = namespaces::enter_mounts_of(init)?;
    let container = open_root()?;
    let mut shared = Vec::new();
    for path in SHARED {
        // What the container may have put there is the container's, and stays in it: no link is followed.
        let Ok(found) = Root::new(&container).open_without_links(&RootfsPath::new(path), DIRECTORY) else { continue };
        if path != "/proc" || is_procfs(&found) {
            shared.push((path, copy(found.as_fd()).err_at(Step::Exec, "open_tree", subject)?));
        }
    }
    way_back.go()?;
    tree::attach(&tree, &top).err_at(Step::Exec, "move_mount", subject)?;
    for (path, copy) in &shared {
        if let Ok(at) = Root::new(&tree).open_without_links(&RootfsPath::new(path), DIRECTORY) {
            tree::attach(copy, &at).err_at(Step::Exec, "move_mount", || format!("mount the container's {path}"))?;
        }
    }
    rustix::process::fchdir(&tree).err_at(Step::Exec, "fchdir", subject)?;
    rootfs::pivot(false, &subject)?;
    rustix::process::fchdir(&container).err_at(Step::Exec, "fchdir", || "go to the container's root")?;
    process::not_dumpable()
}

fn copy(of: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    let copy = tree::clone(Origin::Fd(of), true)?;
    mount_setattr(copy.as_fd(), &MountAttr { propagation: PRIVATE, ..MountAttr::default() }, true)?;
    Ok(copy)
}

const PRIVATE: u64 = rustix::mount::MountPropagationFlags::PRIVATE.bits() as u64;
