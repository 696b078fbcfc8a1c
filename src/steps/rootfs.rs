//! The root file system is attached, and later entered: pivot_root(2), or what stands in for it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

use super::tree::{self, Origin, stage};
use crate::error::{Blame, ErrAt, Error, Result, Step, show};
use crate::plan::mounts::{Propagation, PropagationKind, attr};
use crate::plan::rootfs::{Entry, Rootfs};
use crate::sys::mount::MountAttr;

const HERE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Cuts the mount namespace off from the host's. Runs in init, in its new mount namespace, before anybody clones a mount in
/// it: a clone is the peer of what its source is a peer of.
pub fn cut_off(plan: &Rootfs) -> Result<()> {
    if plan.entry == Entry::Chroot {
        // There is none of its own.
        return Ok(());
    }
    stage::allow();
    // Volumes of the host stay its peers.
    if plan.keeps_peers() {
        return Ok(());
    }
    // Not private, also where the root is to be: a volume may ask to see what the host mounts in it.
    let slash = rustix::fs::open("/", HERE, Mode::empty()).err_at(Step::Mount, "open", || "open /")?;
    propagate(slash.as_fd(), "/", PropagationKind::Slave, true)
}

/// Attaches the rootfs on itself, so that it is a mount of its own, and returns it. Runs in init, after [`cut_off`].
///
/// `given` is a clone of the rootfs that setup made, because mapped root cannot reach the directory itself; it is
/// attached on `/` then, since any place does for a mount that becomes the root.
pub fn attach(plan: &Rootfs, given: Option<OwnedFd>) -> Result<OwnedFd> {
    let subject = || format!("open root file system {}", show(&plan.path));
    let at = if given.is_some() { Path::new("/") } else { &plan.path };
    let dir = rustix::fs::open(at, HERE, Mode::empty())
        .err_at(Step::Mount, "open", subject)
        .map_err(|error| error.blame(Blame::Spec))?;
    if plan.entry == Entry::Chroot {
        // Where something is mounted in it, setup has made it a mount of its own.
        return Ok(dir);
    }
    if plan.keeps_peers() {
        // Only the mount that the rootfs lies on is cut off, so that nothing that is mounted in the container appears on
        // the host below the bundle.
        make_parent_private(&dir)?;
    }
    let subject = || format!("mount root file system {}", show(&plan.path));
    let tree = match given {
        Some(tree) => tree,
        None => tree::clone(Origin::Fd(dir.as_fd()), true).err_at(Step::Mount, "open_tree", subject)?,
    };
    if !plan.keeps_peers() {
        // What the host mounts below the bundle later is none of the container's; and no image of CRIU's has to find a
        // master for its root. Mounts in it stay slaves, unless all is to be private.
        let all = plan.propagation.is_some_and(|asked| asked.kind != PropagationKind::Slave);
        propagate(tree.as_fd(), "the root file system", PropagationKind::Private, all)?;
    }
    tree::attach(&tree, &dir).err_at(Step::Mount, "move_mount", subject)?;
    Ok(tree)
}

/// Without a mount namespace: makes the rootfs a mount of its own on the host, from which nothing travels to other
/// namespaces. All that is mounted in the container lies in it, and goes with it. `intent` hears its number before it is
/// there. Runs in setup.
///
/// There are two of them, one over the other. Whatever is attached below a shared mount is copied to the mount's peers,
/// and goes from there with the original unless other mounts lie in the copy: so the first comes alone, and what
/// lies in the rootfs only after nothing travels from there any more.
pub fn attach_on_host(plan: &Rootfs, intent: impl FnOnce(u64) -> Result<()>) -> Result<()> {
    let subject = || format!("mount root file system {} on the host", show(&plan.path));
    let private = |tree: &OwnedFd, recursive| {
        propagate(tree.as_fd(), "the root file system on the host", PropagationKind::Private, recursive)
    };
    let dir = rustix::fs::open(&plan.path, HERE, Mode::empty()).err_at(Step::Mount, "open", subject)?;
    let base = tree::clone(Origin::Fd(dir.as_fd()), false).err_at(Step::Mount, "open_tree", subject)?;
    let tree = tree::clone(Origin::Fd(dir.as_fd()), true).err_at(Step::Mount, "open_tree", subject)?;
    intent(tree::mount_id(base.as_fd()).err_at(Step::Mount, "open", subject)?)?;
    tree::attach(&base, &dir).err_at(Step::Mount, "move_mount", subject)?;
    // After it is attached: below a shared mount it has become shared.
    private(&base, false)?;
    tree::attach(&tree, &base).err_at(Step::Mount, "move_mount", subject)?;
    private(&tree, true)
}

/// Takes away the mount of this number, the one over it, and all that lies in it, if it is there. Another one at the same
/// place stays.
pub fn detach_from_host(path: &Path, id: u64) -> Result<()> {
    let subject = || format!("unmount root file system {}", show(path));
    for _ in 0..2 {
        let top = match rustix::fs::open(path, HERE, Mode::empty()) {
            Ok(top) => top,
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(Error::call(Step::Mount, "open", errno, subject())),
        };
        let seen = tree::mount_id(top.as_fd()).err_at(Step::Mount, "open", subject)?;
        if seen != id {
            let table = std::fs::read("/proc/self/mountinfo").err_at(Step::Mount, "open", subject)?;
            let mut all = crate::bytes::mounts(&table).map(|mount| (mount.id, mount.parent));
            if !all.clone().any(|(mount, _)| mount == id) {
                return Ok(());
            }
            if !all.any(|mount| mount == (seen, id)) {
                return Err(Error::host(Step::Mount, format!("{}: another mount lies over it", subject())));
            }
        }
        // By descriptor: no other mount can have come in between.
        let name = format!("/proc/self/fd/{}", top.as_raw_fd());
        rustix::mount::unmount(name, UnmountFlags::DETACH).err_at(Step::Mount, "umount2", subject)?;
        if seen == id {
            break;
        }
    }
    Ok(())
}

/// Makes the rootfs the root of the calling process.
pub fn enter(root_fd: BorrowedFd<'_>, plan: &Rootfs) -> Result<()> {
    let subject = || format!("enter root file system {}", show(&plan.path));
    stage::leave();
    rustix::process::fchdir(root_fd).err_at(Step::Mount, "fchdir", subject)?;
    match plan.entry {
        Entry::Pivot => {
            let shared = matches!(plan.propagation, Some(Propagation { kind: PropagationKind::Shared, .. }));
            pivot(shared, &subject).map_err(|error| {
                if error.is(rustix::io::Errno::INVAL) && error.call == "pivot_root" {
                    error.hint("the host's root may be a ramfs: --no-pivot is for that")
                } else {
                    error
                }
            })?;
        }
        Entry::Move => {
            // Before the move: a full proc and sysfs left below would let a user namespace mount unmasked ones.
            for path in ["/proc", "/sys"] {
                let _ = rustix::mount::unmount(path, UnmountFlags::DETACH);
            }
            tree::attach_on_root(root_fd).err_at(Step::Mount, "move_mount", subject)?;
            rustix::process::chroot(".").err_at(Step::Mount, "chroot", subject)?;
        }
        Entry::Chroot => rustix::process::chroot(".").err_at(Step::Mount, "chroot", subject)?,
    }
    rustix::process::chdir("/").err_at(Step::Mount, "chdir", subject)
}

/// Makes the working directory, which is the root of a mount, the root of the mount namespace, and unmounts the old one.
pub(super) fn pivot(shared: bool, subject: &impl Fn() -> String) -> Result<()> {
    let old = if shared {
        Some(rustix::fs::open("/", HERE, Mode::empty()).err_at(Step::Mount, "open", subject)?)
    } else {
        None
    };
    // The old root ends up on top of the new one (pivot_root(2), "."), where umount2 finds it.
    rustix::process::pivot_root(".", ".").err_at(Step::Mount, "pivot_root", subject)?;
    if let Some(old) = old {
        // Before umount2: what is unmounted here must not be unmounted on the host.
        propagate(old.as_fd(), "the old root", PropagationKind::Slave, true)?;
    }
    rustix::mount::unmount(".", UnmountFlags::DETACH).err_at(Step::Mount, "umount2", subject)
}

/// Makes `/` read-only; its other flags stay. Runs when all else in it is made, after [`enter`].
pub fn set_readonly(root_fd: BorrowedFd<'_>) -> Result<()> {
    let readonly = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
    tree::set_attr(root_fd, &readonly, false).err_at(Step::Mount, "mount_setattr", || "make / read-only")
}

/// Sets the propagation that the config asks for, after [`enter`].
pub fn set_propagation(root_fd: BorrowedFd<'_>, plan: &Rootfs) -> Result<()> {
    match plan.propagation {
        Some(Propagation { kind, recursive }) => {
            // What is private or a slave has become so when it came, but for volumes that ask for something else.
            let recursive = recursive && matches!(kind, PropagationKind::Shared | PropagationKind::Unbindable);
            propagate(root_fd, "/ (/linux/rootfsPropagation)", kind, recursive)
        }
        None => Ok(()),
    }
}

/// Sets the propagation of a mount.
pub(super) fn propagate(fd: BorrowedFd<'_>, what: &str, kind: PropagationKind, recursive: bool) -> Result<()> {
    use rustix::mount::MountPropagationFlags as F;
    let flag = match kind {
        PropagationKind::Shared => F::SHARED,
        PropagationKind::Slave => F::DOWNSTREAM,
        PropagationKind::Private => F::PRIVATE,
        PropagationKind::Unbindable => F::UNBINDABLE,
    };
    let subject = || format!("make {what} {}{kind:?}", if recursive { "recursively " } else { "" }).to_lowercase();
    let attr = MountAttr { propagation: u64::from(flag.bits()), ..MountAttr::default() };
    tree::set_attr(fd, &attr, recursive).err_at(Step::Mount, "mount_setattr", subject)
}

/// Makes the mount that `dir` lies on private, here only. Its root is found by going up: the mount is another one above its root.
fn make_parent_private(dir: &OwnedFd) -> Result<()> {
    let subject = || "find the mount that the root file system lies on";
    let mut at = rustix::fs::openat(dir, ".", HERE, Mode::empty()).err_at(Step::Mount, "openat", subject)?;
    // A path has at most PATH_MAX / 2 components.
    for _ in 0..2048 {
        let above = rustix::fs::openat(&at, "..", HERE, Mode::empty()).err_at(Step::Mount, "openat", subject)?;
        // Above the root of all is the root again.
        let id = |fd: &OwnedFd| tree::mount_id(fd.as_fd()).err_at(Step::Mount, "open", subject);
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).err_at(Step::Mount, "fstat", subject).map(|stat| stat.st_ino);
        if id(&above)? != id(&at)? || inode(&above)? == inode(&at)? {
            return propagate(at.as_fd(), "the mount below the root file system", PropagationKind::Private, false);
        }
        at = above;
    }
    Err(Error::host(Step::Mount, format!("{}: none in reach", subject())))
}
