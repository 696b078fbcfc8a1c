//! hull's own executable stays out of the container's reach.
//!
//! The attack (CVE-2019-5736): through /proc/PID/exe of a process of hull's that is in the container's namespaces, a
//! program in the container opens hull's file for writing, at once or by a descriptor kept until hull has gone. The host's
//! root then runs what was written. Only init is ever in the container, so only init is protected. Ways, the first that holds:
//!
//! 1. the file has fs-verity: nothing can write to it, nothing is to be done;
//! 2. init runs from a read-only view of the file: a detached mount of its own, made read-only, whose mount nobody holds
//!    a descriptor of any more; no re-exec ([`crate::sys::exe`]);
//! 3. where 2 is refused (no privilege over mounts, an old kernel): setup executes itself again, from a sealed copy in
//!    memory, before anything of the container is made a second time.
//!
//! docs/executable.md has the costs, measured side by side, and the ways that were not taken.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, fstat};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::path::Arg;

use crate::error::{Blame, ErrAt, Error, Result, Step};
use crate::plan::mounts::attr;
use crate::sys;
use crate::sys::mount::{MountAttr, mount_setattr};

const SELF: &str = "/proc/self/exe";
/// All that could change a memory file.
const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// How often sealing is tried; the kernel itself waits up to 150 ms in each.
const SEAL_TRIES: u32 = 20;

/// What init will run from.
#[derive(Debug)]
pub enum View {
    /// The file cannot be written to as it is: fs-verity, or the sealed copy that setup runs from already.
    Safe,
    /// A read-only view of the file, open for reading.
    ReadOnly(OwnedFd),
    /// setup has no right over its mount namespace: init may have, over its own.
    ByInit,
}

impl View {
    /// What has to stay open until [`protect`].
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            View::ReadOnly(view) => Some(view.as_fd()),
            View::Safe | View::ByInit => None,
        }
    }
}

/// Looks at the executable and opens the view, in setup: the host's mounts are still the process's own. What is given
/// beside it is the view's mount. Its last close waits for all processors (RCU), so setup closes it while another process
/// works, and before it runs a hook.
pub fn open_view() -> Result<(View, Option<OwnedFd>)> {
    let file = rustix::fs::open(SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).err_at(
        Step::Executable,
        "open",
        || format!("open {SELF}"),
    )?;
    if is_sealed(&file) || sys::exe::has_verity(file.as_fd()) {
        return Ok((View::Safe, None));
    }
    match read_only_view(CWD, SELF) {
        Ok((view, mount)) => Ok((View::ReadOnly(view), Some(mount))),
        Err(_) => Ok((View::ByInit, None)),
    }
}

/// Whether it is a copy that [`sealed_copy`] made.
fn is_sealed(file: &OwnedFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SEALS))
}

/// Protects init, in its own namespaces. An error of step Executable with blame Host asks setup for [`again_from_copy`].
pub fn protect(view: View) -> Result<()> {
    let subject = || "run from a read-only view of hull's executable";
    let view = match view {
        View::Safe => return Ok(()),
        View::ReadOnly(view) => view,
        View::ByInit => view_by_path().err_at(Step::Executable, "open_tree", subject)?,
    };
    sys::exe::run_from(view.as_fd()).err_at(Step::Executable, "prctl(PR_SET_MM)", subject)
}

/// Protects setup itself, so that init is protected from its first instruction on.
pub fn protect_early(view: View) -> Result<View> {
    match view {
        View::Safe => Ok(View::Safe),
        View::ReadOnly(_) => protect(view).map(|()| View::Safe),
        View::ByInit => Err(Error::call(
            Step::Executable,
            "open_tree",
            Errno::PERM,
            "run from a read-only view of hull's executable before init is in a pid namespace of others",
        )),
    }
}

/// Fails where [`protect_early`] would for want of a view: said before anything is read that a copy could not read again.
pub fn check_early() -> Result<()> {
    match open_view()?.0 {
        View::ByInit => protect_early(View::ByInit).map(drop),
        _ => Ok(()),
    }
}

/// Where [`protect`] failed in a way that a copy can cure, executes hull again from one, with the `preserved` descriptors
/// from 3 on. Whatever comes back is an error.
pub fn again_from_copy(error: Error, preserved: u32) -> Error {
    if error.step != Step::Executable || error.blame != Blame::Host {
        return error;
    }
    // What fails in the copy, too, is no matter of protection: descriptors that ran out.
    let file = rustix::fs::open(SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    if file.is_ok_and(|file| is_sealed(&file)) {
        return error;
    }
    match super::process::keep_preserved(preserved) {
        Ok(()) => run_from_copy(),
        Err(error) => error,
    }
}

/// Executes hull again from a sealed copy in memory, with the same arguments; only returns on failure.
fn run_from_copy() -> Error {
    match sealed_copy() {
        Ok(copy) => {
            let error = sys::umask::lend(|| sys::exe::execute(copy.as_fd(), &sys::exe::arguments()));
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            Error::call(Step::Executable, "execveat", errno, "run from a sealed copy of hull's executable")
                .blame(Blame::Bug)
        }
        Err(error) => error,
    }
}

/// A copy that nothing can change any more.
fn sealed_copy() -> Result<OwnedFd> {
    let subject = || "make a sealed copy of hull's executable";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = match rustix::fs::memfd_create("hull", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("hull", flags),
        result => result,
    }
    .err_at(Step::Executable, "memfd_create", subject)?;
    let file = rustix::fs::open(SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).err_at(
        Step::Executable,
        "open",
        subject,
    )?;
    loop {
        match rustix::fs::sendfile(&copy, &file, None, 16 << 20) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::call(Step::Executable, "sendfile", errno, subject()).blame(Blame::Bug)),
        }
    }
    // EBUSY: something in the kernel holds a page of it for a moment (memory reclaim, DAMON).
    let mut tries = 0;
    loop {
        match rustix::fs::fcntl_add_seals(&copy, SEALS) {
            Err(Errno::BUSY) if tries < SEAL_TRIES => tries += 1,
            result => break result.err_at(Step::Executable, "fcntl(F_ADD_SEALS)", subject)?,
        }
    }
    Ok(copy)
}

/// The file in a read-only clone of its mount, and the clone: with the last descriptor of the clone itself the kernel takes
/// it apart, and nothing can make it writable again.
fn read_only_view(directory: impl AsFd, path: impl Arg) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(directory.as_fd(), path, flags)?;
    let readonly = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
    mount_setattr(mount.as_fd(), &readonly, false).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
    Ok((rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, mount))
}

/// In a mount namespace that init made itself /proc/self/exe still names a mount of the old one, which cannot be cloned:
/// the file is found by its path, and compared.
fn view_by_path() -> rustix::io::Result<OwnedFd> {
    let path = rustix::fs::readlinkat(CWD, SELF, Vec::new())?;
    let (view, _) = read_only_view(CWD, &path)?;
    let (found, own) = (fstat(&view)?, rustix::fs::stat(SELF)?);
    if (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino) {
        return Err(Errno::STALE);
    }
    Ok(view)
}
