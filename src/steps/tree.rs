//! Trees of mounts on their way: cloned, given flags, and attached to an fd when they have all of them (open_tree(2),
//! mount_setattr(2), move_mount(2)).
//!
//! A kernel, or a seccomp filter around hull, may refuse any of these calls. Then [`stage`] does the same by mount(2),
//! still without a second look at any path of the container's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use crate::sys::mount::{MountAttr, mount_setattr};

pub mod stage;

/// Where a tree is cloned from.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// A path of the host's.
    Path(&'a Path),
    /// What the descriptor refers to.
    Fd(BorrowedFd<'a>),
}

/// Whether a call is missing here, or filtered away.
pub fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::NOSYS | Errno::PERM)
}

/// Learns whether mount_setattr is refused: before a tree is cloned detached, which mount(2) could not change.
pub fn probe() {
    if let Ok(slash) = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = set_attr(slash.as_fd(), &MountAttr::default(), false);
    }
}

/// Clones a mount, with `recursive` all below it: a tree that is attached nowhere that the container could see.
pub fn clone(origin: Origin<'_>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    if !stage::is_needed() {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let cloned = match origin {
            Origin::Path(path) => rustix::mount::open_tree(CWD, path, flags),
            Origin::Fd(fd) => rustix::mount::open_tree(fd, "", flags | OpenTreeFlags::AT_EMPTY_PATH),
        };
        match cloned {
            Err(errno) if is_refusal(errno) && stage::take_over() => {}
            other => return other,
        }
    }
    match origin {
        Origin::Path(path) => {
            let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            stage::clone(fd.as_fd(), recursive)
        }
        Origin::Fd(fd) => stage::clone(fd, recursive),
    }
}

/// Attaches a tree to what `at` refers to.
pub fn attach(tree: impl AsFd, at: impl AsFd) -> rustix::io::Result<()> {
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    match rustix::mount::move_mount(tree.as_fd(), "", at.as_fd(), "", both) {
        Err(errno) if is_refusal(errno) && stage::take_over() => stage::attach(tree.as_fd(), at.as_fd()),
        other => other,
    }
}

/// Attaches a tree over `/`, where the working directory is its root.
pub fn attach_on_root(tree: BorrowedFd<'_>) -> rustix::io::Result<()> {
    match rustix::mount::move_mount(tree, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH) {
        Err(errno) if is_refusal(errno) => rustix::mount::mount_move(".", "/"),
        other => other,
    }
}

/// The mount that a descriptor lies on (proc_pid_fdinfo(5)); on the host's side of the pivot only.
pub fn mount_id(fd: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    use std::os::fd::AsRawFd;
    let text = crate::bytes::text(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    stage::mount_id_in(&text)
}

/// Binds a file of the container's own mounts to another, also where nothing can be staged any more.
pub fn bind(file: BorrowedFd<'_>, at: BorrowedFd<'_>) -> rustix::io::Result<()> {
    if stage::is_needed() {
        return stage::bind(file, at);
    }
    attach(clone(Origin::Fd(file), false)?, at)
}

/// Changes flags or propagation of the mount whose root `fd` is.
pub fn set_attr(fd: BorrowedFd<'_>, attr: &MountAttr<'_>, recursive: bool) -> io::Result<()> {
    let full = match mount_setattr(fd, attr, recursive) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => error,
        other => return other,
    };
    // EPERM is also the kernel's answer to flags that are locked: a call that asks for nothing tells the two apart.
    if mount_setattr(fd, &MountAttr::default(), false).is_err() && attr.userns.is_none() && stage::take_over() {
        return stage::set_attr(fd, attr, recursive).map_err(io::Error::from);
    }
    Err(full)
}
