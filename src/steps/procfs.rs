//! A /proc of hull's own for writes (sysctl, labels): never one that a container could have prepared.
//!
//! The attack (CVE-2019-16884, CVE-2025-52881): a mount over or in the container's /proc sends a label or a sysctl to
//! another file. So a fresh procfs is made that nothing is mounted on, and files in it are opened
//! without following links or crossing mounts. Where the kernel refuses a fresh one (a user namespace with the host's
//! pid namespace), the host's /proc serves, opened before anything of the container could be there, and verified.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, fstatfs, open, openat2};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::error::{ErrAt, Error, Result, Step};

/// The inode of the root of a procfs (proc_fs.h).
const PROC_ROOT_INO: u64 = 1;

/// A verified procfs.
#[derive(Debug)]
pub struct ProcFs(OwnedFd);

impl ProcFs {
    /// A fresh one of this process's pid namespace, else the host's /proc as it is visible now.
    pub fn new() -> Result<ProcFs> {
        match fresh() {
            Ok(fd) => Ok(ProcFs(fd)),
            Err(Errno::PERM | Errno::NOSYS | Errno::ACCESS | Errno::NODEV) => host(),
            Err(errno) => Err(Error::call(Step::Mount, "fsopen", errno, "make a procfs of hull's own")),
        }
    }

    /// Opens a file of the calling thread's own for writing. The link `thread-self` is read first: opening follows none.
    pub fn open_own(&self, path: &str, step: Step, subject: impl Fn() -> String) -> Result<OwnedFd> {
        let own =
            rustix::fs::readlinkat(self.0.as_fd(), "thread-self", Vec::new()).err_at(step, "readlinkat", &subject)?;
        self.open_write(&format!("{}/{path}", own.to_string_lossy()), step, subject)
    }

    /// Opens a file beneath it for writing.
    pub fn open_write(&self, path: &str, step: Step, subject: impl Fn() -> String) -> Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        match openat2(self.0.as_fd(), path, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => {}
            result => return result.err_at(step, "openat2", subject),
        }
        // No openat2: walk by hand, each component without following links, and stay on procfs.
        let mut directory = self.0.try_clone().err_at(step, "dup", &subject)?;
        let (parents, last) = path.rsplit_once('/').unwrap_or(("", path));
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            let walk = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            directory = rustix::fs::openat(&directory, part, walk, Mode::empty()).err_at(step, "openat", &subject)?;
        }
        let file = rustix::fs::openat(&directory, last, flags, Mode::empty()).err_at(step, "openat", &subject)?;
        let (root, found) =
            (fstat(&self.0).err_at(step, "fstat", &subject)?, fstat(&file).err_at(step, "fstat", &subject)?);
        if root.st_dev != found.st_dev {
            return Err(Error::call(step, "openat", Errno::XDEV, subject()));
        }
        Ok(file)
    }
}

fn fresh() -> rustix::io::Result<OwnedFd> {
    let fs = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&fs)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn host() -> Result<ProcFs> {
    let subject = || "use the host's /proc";
    let fd = open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).err_at(
        Step::Mount,
        "open",
        subject,
    )?;
    let magic = fstatfs(&fd).err_at(Step::Mount, "fstatfs", subject)?.f_type;
    let inode = fstat(&fd).err_at(Step::Mount, "fstat", subject)?.st_ino;
    if magic != rustix::fs::PROC_SUPER_MAGIC || inode != PROC_ROOT_INO {
        return Err(Error::host(Step::Mount, "use the host's /proc: it is not the root of a procfs"));
    }
    Ok(ProcFs(fd))
}

/// init's own pid as the host counts: where /proc/self of the host's procfs points to.
pub fn pid_on_host() -> Result<i32> {
    let subject = || "read the link /proc/self";
    let link = rustix::fs::readlinkat(CWD, "/proc/self", Vec::new()).err_at(Step::Sync, "readlink", subject)?;
    link.to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::host(Step::Sync, "read the link /proc/self: it is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_own_files_open() {
        let proc = host().unwrap();
        let subject = || "test".to_owned();
        let own = proc.open_own("comm", Step::Label, subject).unwrap();
        let tid = rustix::thread::gettid().as_raw_nonzero();
        let wanted = rustix::fs::stat(format!("/proc/self/task/{tid}/comm")).unwrap();
        assert_eq!(fstat(&own).unwrap().st_ino, wanted.st_ino);
        assert!(proc.open_write("self/comm", Step::Label, subject).unwrap_err().is(Errno::LOOP));
    }
}
