//! Masked and read-only paths, by fd: the mask is attached to the very file that was looked up (GHSA-3q8j-pf29-vwv8),
//! and it is the host's own /dev/null, never the container's (CVE-2025-31133).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};

use super::path::Root;
use super::place::Places;
use super::rootfs::propagate;
use super::tree::{self, Origin, is_refusal, stage};
use crate::error::{ErrAt, Error, Result, Step};
use crate::plan::mounts::{PropagationKind, attr};
use crate::plan::rootfs::Rootfs;
use crate::sys::mount::MountAttr;

/// What lies over masked paths. The first use attaches the mount itself, later ones a copy of it: a mount that is
/// detached cannot be copied before Linux 6.15.
#[derive(Debug, Default)]
pub struct Masks {
    null: Option<Cover>,
    empty: Option<Cover>,
}

#[derive(Debug)]
struct Cover {
    mount: OwnedFd,
    attached: bool,
}

impl Masks {
    /// Takes the host's /dev/null. Before the pivot, in the container's mount namespace.
    pub fn prepare(plan: &Rootfs) -> Result<Masks> {
        if plan.masked_paths.is_empty() {
            return Ok(Masks::default());
        }
        let subject = || "take the host's /dev/null to mask files";
        let mount =
            tree::clone(Origin::Path(Path::new("/dev/null")), false).err_at(Step::Mount, "open_tree", subject)?;
        let stat = rustix::fs::fstat(&mount).err_at(Step::Mount, "fstat", subject)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
            || stat.st_rdev != rustix::fs::makedev(1, 3)
        {
            return Err(Error::host(Step::Mount, format!("{}: it is no null device", subject())));
        }
        // It is the host's inode: by a mount that can be written to, root of the container would change its mode and owner.
        let readonly = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
        tree::set_attr(mount.as_fd(), &readonly, false).err_at(Step::Mount, "mount_setattr", subject)?;
        if plan.keeps_peers() {
            // Else what the container mounts over a mask would show on the host's /dev/null.
            propagate(mount.as_fd(), "the host's /dev/null to mask files", PropagationKind::Private, false)?;
        }
        Ok(Masks { null: Some(Cover { mount, attached: false }), empty: None })
    }

    /// Covers all masked paths.
    pub fn apply(mut self, places: &Places<'_>, plan: &Rootfs) -> Result<()> {
        for (i, path) in plan.masked_paths.iter().enumerate() {
            let subject = || format!("mask {path} (/linux/maskedPaths/{i})");
            let Some(at) = places.to_cover(path, &subject)? else { continue };
            let stat = rustix::fs::fstat(&at).err_at(Step::Mount, "fstat", subject)?;
            let cover = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                match &mut self.empty {
                    Some(cover) => cover,
                    none => none.insert(Cover { mount: empty_directory()?, attached: false }),
                }
            } else {
                self.null.as_mut().ok_or_else(|| Error::bug(Step::Mount, format!("{}: not prepared", subject())))?
            };
            cover.put(&at, subject)?;
        }
        Ok(())
    }
}

impl Cover {
    fn put(&mut self, at: &OwnedFd, subject: impl Fn() -> String) -> Result<()> {
        if !self.attached {
            attach(&self.mount, at, subject)?;
            self.attached = true;
            return Ok(());
        }
        let copy = tree::clone(Origin::Fd(self.mount.as_fd()), false).err_at(Step::Mount, "open_tree", &subject)?;
        attach(&copy, at, subject)
    }
}

/// Makes the masks of files read-only that are there already.
pub fn make_null_readonly(root: Root<'_>, plan: &Rootfs) -> Result<()> {
    for (i, path) in plan.masked_paths.iter().enumerate() {
        let subject = || format!("make the mask on {path} read-only (/linux/maskedPaths/{i})");
        let at = match root.open_without_links(path, OFlags::PATH) {
            Ok(at) => at,
            // What is not there has no mask.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(errno) => return Err(Error::call(Step::Mount, "openat2", errno, subject())),
        };
        let stat = rustix::fs::fstat(&at).err_at(Step::Mount, "fstat", subject)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice {
            let readonly = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
            tree::set_attr(at.as_fd(), &readonly, false).err_at(Step::Mount, "mount_setattr", subject)?;
        }
    }
    Ok(())
}

/// Makes all read-only paths read-only; other flags of theirs stay.
pub fn make_readonly(places: &Places<'_>, plan: &Rootfs) -> Result<()> {
    for (i, path) in plan.readonly_paths.iter().enumerate().filter(|(_, path)| !path.is_root()) {
        let subject = || format!("make {path} read-only (/linux/readonlyPaths/{i})");
        let Some(at) = places.to_cover(path, &subject)? else { continue };
        let tree = tree::clone(Origin::Fd(at.as_fd()), true).err_at(Step::Mount, "open_tree", subject)?;
        let readonly = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
        tree::set_attr(tree.as_fd(), &readonly, false).err_at(Step::Mount, "mount_setattr", subject)?;
        attach(&tree, &at, subject)?;
    }
    Ok(())
}

fn attach(tree: &OwnedFd, at: &OwnedFd, subject: impl Fn() -> String) -> Result<()> {
    tree::attach(tree, at).err_at(Step::Mount, "move_mount", subject)
}

/// The one directory over all masked directories: empty and read-only, as a file system too.
fn empty_directory() -> Result<OwnedFd> {
    let subject = || "make an empty tmpfs to mask directories";
    if !stage::is_needed() {
        match fresh_directory() {
            Err(errno) if is_refusal(errno) && stage::take_over() => {}
            other => return other.err_at(Step::Mount, "fsopen", subject),
        }
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    stage::filesystem("tmpfs", "tmpfs", flags, "mode=755").err_at(Step::Mount, "mount", subject)
}

fn fresh_directory() -> rustix::io::Result<OwnedFd> {
    use rustix::mount as m;
    let fs = m::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    m::fsconfig_set_flag(&fs, "ro")?;
    m::fsconfig_set_string(&fs, "mode", "755")?;
    m::fsconfig_create(&fs)?;
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    m::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}
