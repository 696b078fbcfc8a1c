//! mount(2) in the place of the newer calls: trees wait on a stage, a tmpfs that only this mount namespace has.
//!
//! mount(2) takes paths. Those given to it here are the names of open descriptors, relative to the process's own
//! directory /proc/self/fd, which is opened before the container's root is entered and held: the /proc of the image is
//! never looked at (CVE-2026-115521). A tree on the stage is a mount like another, but nothing of the container's leads
//! to it; it leaves the stage by MS_MOVE, or goes with the host's mounts when the root is entered.

use std::cell::RefCell;
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::bytes;
use crate::plan::mounts::attr;
use crate::sys::mount::MountAttr;

/// Directories of procfs that nothing of a container's setup is found in: the stage covers one of them.
const PLACES: [&str; 3] = ["/proc/fs", "/proc/bus", "/proc/irq"];
const AT: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[derive(Default)]
struct Stage {
    /// The mount namespace is the container's own, and its root not yet entered.
    allowed: bool,
    needed: bool,
    /// /proc/self/fd.
    names: Option<OwnedFd>,
    directory: Option<OwnedFd>,
    count: u32,
}

thread_local! {
    // hull has one thread: thread-local is global, without a lock.
    // Never dropped, as all that is kept here: std would ask libc for memory to remember that it has to.
    static STAGE: RefCell<ManuallyDrop<Stage>> = const {
        RefCell::new(ManuallyDrop::new(Stage { allowed: false, needed: false, names: None, directory: None, count: 0 }))
    };
}

/// From here on the mount namespace is the container's: what is mounted in it does not reach the host.
pub fn allow() {
    STAGE.with_borrow_mut(|stage| stage.allowed = true);
}

/// The container's root is entered next: no path of the host's can be opened any more.
pub fn leave() {
    STAGE.with_borrow_mut(|stage| {
        stage.allowed = false;
        stage.directory = None;
    });
}

/// The last mount is made.
pub fn close() {
    // What is kept is never dropped by itself.
    drop(ManuallyDrop::into_inner(STAGE.take()));
}

/// Whether one of the newer calls was refused.
pub fn is_needed() -> bool {
    STAGE.with_borrow(|stage| stage.needed)
}

/// Whether something can be put on the stage; call it on the host's side of the pivot.
pub fn prepare() -> bool {
    STAGE.with_borrow_mut(|stage| {
        if stage.names.is_none() && stage.allowed {
            stage.names = own_descriptors().ok();
        }
        stage.names.is_some()
    })
}

/// A newer call was refused: whether mount(2) may do its work, from here on.
pub fn take_over() -> bool {
    let can = prepare();
    STAGE.with_borrow_mut(|stage| stage.needed = can);
    can
}

fn own_descriptors() -> Result<OwnedFd> {
    let names = rustix::fs::open("/proc/self/fd", DIRECTORY, Mode::empty())?;
    if rustix::fs::fstatfs(&names)?.f_type != rustix::fs::PROC_SUPER_MAGIC { Err(Errno::NOSYS) } else { Ok(names) }
}

/// Clones what `from` refers to onto the stage.
pub fn clone(from: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    let directory = FileType::from_raw_mode(rustix::fs::fstat(from)?.st_mode) == FileType::Directory;
    let flags = if recursive { MountFlags::BIND | MountFlags::REC } else { MountFlags::BIND };
    on_stage(directory, |at| by_names(|| mount(&name(from), &name(at), "", flags, "")))
}

/// Mounts a new file system on the stage.
pub fn filesystem(fstype: &str, source: &str, flags: MountFlags, data: &str) -> Result<OwnedFd> {
    on_stage(true, |at| by_names(|| mount(source, &name(at), fstype, flags, data)))
}

/// Moves a tree to its place.
pub fn attach(tree: BorrowedFd<'_>, at: BorrowedFd<'_>) -> Result<()> {
    by_names(|| rustix::mount::mount_move(name(tree), name(at)))
}

/// Binds one file to another, where both are in the container.
pub fn bind(file: BorrowedFd<'_>, at: BorrowedFd<'_>) -> Result<()> {
    by_names(|| mount(&name(file), &name(at), "", MountFlags::BIND, ""))
}

/// Other options for the file system of a mount, and flags of it to be set and cleared.
pub fn reconfigure(fd: BorrowedFd<'_>, data: &str, set: MountFlags, clear: MountFlags) -> Result<()> {
    let flags = (kept(fd)? | set) & !clear;
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    by_names(|| rustix::mount::mount_remount(name(fd), flags, data.as_c_str()))
}

/// Flags and propagation of a mount and, with `recursive`, of all below it.
pub fn set_attr(fd: BorrowedFd<'_>, what: &MountAttr<'_>, recursive: bool) -> Result<()> {
    if what.propagation != 0 {
        let mut flags = MountPropagationFlags::from_bits_retain(what.propagation as _);
        if recursive {
            flags |= MountPropagationFlags::REC;
        }
        by_names(|| rustix::mount::mount_change(name(fd), flags))?;
    }
    if what.set | what.clear == 0 {
        return Ok(());
    }
    remount(fd, what)?;
    if recursive {
        for below in mounts_below(fd)? {
            remount(below.as_fd(), what)?;
        }
    }
    Ok(())
}

/// Every mount of the tree but its root. Their paths lead through files that others may change: what is opened is proved
/// to be that mount.
fn mounts_below(fd: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let table = read_own("../mountinfo")?;
    let mut known = vec![mount_id(fd)?];
    let mut found = Vec::new();
    for mount in bytes::mounts(&table) {
        if !known.contains(&mount.parent) {
            continue;
        }
        known.push(mount.id);
        let below = rustix::fs::openat(CWD, mount.at(), AT, Mode::empty())?;
        if mount_id(below.as_fd())? != mount.id {
            return Err(Errno::STALE);
        }
        found.push(below);
    }
    Ok(found)
}

/// The mount that a descriptor lies on (proc_pid_fdinfo(5)).
fn mount_id(fd: BorrowedFd<'_>) -> Result<u64> {
    mount_id_in(&String::from_utf8_lossy(&read_own(&format!("../fdinfo/{}", fd.as_raw_fd()))?))
}

/// The mount's number from a text of /proc/PID/fdinfo/N.
pub fn mount_id_in(text: &str) -> Result<u64> {
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok()).ok_or(Errno::NODATA)
}

fn read_own(path: &str) -> Result<Vec<u8>> {
    let file = STAGE.with_borrow(|stage| {
        let names = stage.names.as_ref().ok_or(Errno::NOSYS)?;
        rustix::fs::openat(names, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    })?;
    let mut bytes = Vec::new();
    let read = std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes);
    read.map(|_| bytes).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

fn remount(fd: BorrowedFd<'_>, what: &MountAttr<'_>) -> Result<()> {
    let mut flags = kept(fd)?;
    for (bit, flag) in FLAGS {
        if what.set & bit != 0 {
            flags |= flag;
        } else if what.clear & bit != 0 {
            flags &= !flag;
        }
    }
    if what.clear & attr::ATIME != 0 {
        flags &= !(MountFlags::NOATIME | MountFlags::RELATIME | MountFlags::STRICTATIME);
        flags |= match what.set & attr::ATIME {
            attr::NOATIME => MountFlags::NOATIME,
            attr::STRICTATIME => MountFlags::STRICTATIME,
            _ => MountFlags::RELATIME,
        };
    }
    by_names(|| rustix::mount::mount_remount(name(fd), flags | MountFlags::BIND, c""))
}

const FLAGS: [(u64, MountFlags); 6] = [
    (attr::RDONLY, MountFlags::RDONLY),
    (attr::NOSUID, MountFlags::NOSUID),
    (attr::NODEV, MountFlags::NODEV),
    (attr::NOEXEC, MountFlags::NOEXEC),
    (attr::NODIRATIME, MountFlags::NODIRATIME),
    (attr::NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
];

/// The flags that a mount has, as mount(2) must be told them again.
fn kept(fd: BorrowedFd<'_>) -> Result<MountFlags> {
    const ST_NOSYMFOLLOW: u64 = 0x2000;
    let old = rustix::fs::fstatvfs(fd)?.f_flag;
    let mut flags = MountFlags::empty();
    for (have, flag) in [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
        (StatVfsMountFlags::from_bits_retain(ST_NOSYMFOLLOW), MountFlags::NOSYMFOLLOW),
    ] {
        if old.contains(have) {
            flags |= flag;
        }
    }
    if !flags.intersects(MountFlags::NOATIME | MountFlags::RELATIME) {
        flags |= MountFlags::STRICTATIME;
    }
    Ok(flags)
}

/// Makes a place on the stage, has something mounted there, and opens that.
fn on_stage(directory: bool, mount_at: impl FnOnce(BorrowedFd<'_>) -> Result<()>) -> Result<OwnedFd> {
    let (stage, number) = STAGE.with_borrow_mut(|stage| -> Result<_> {
        if stage.directory.is_none() {
            if !stage.allowed {
                return Err(Errno::NOSYS);
            }
            stage.directory = Some(set_up()?);
        }
        stage.count += 1;
        Ok((stage.directory.as_ref().ok_or(Errno::NOSYS)?.try_clone().map_err(|_| Errno::MFILE)?, stage.count))
    })?;
    let place = number.to_string();
    if directory {
        rustix::fs::mkdirat(&stage, &place, Mode::RWXU)?;
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&stage, &place, flags, Mode::RUSR)?;
    }
    mount_at(rustix::fs::openat(&stage, &place, AT, Mode::empty())?.as_fd())?;
    rustix::fs::openat(&stage, &place, AT, Mode::empty())
}

fn set_up() -> Result<OwnedFd> {
    // Whatever the config says on propagation: the stage is nobody else's.
    rustix::mount::mount_change("/proc", MountPropagationFlags::PRIVATE)?;
    let mut last = Errno::NOENT;
    for place in PLACES {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        match mount("tmpfs", place, "tmpfs", flags, "mode=700") {
            Ok(()) => return rustix::fs::open(place, DIRECTORY, Mode::empty()),
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

fn mount(source: &str, target: &str, fstype: &str, flags: MountFlags, data: &str) -> Result<()> {
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(source, target, fstype, flags, data.as_c_str())
}

/// The name of a descriptor in /proc/self/fd.
fn name(fd: BorrowedFd<'_>) -> String {
    fd.as_raw_fd().to_string()
}

/// Runs a call whose paths are names of descriptors, with /proc/self/fd as the working directory.
fn by_names<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    let names =
        STAGE.with_borrow(|stage| stage.names.as_ref().and_then(|names| names.try_clone().ok())).ok_or(Errno::NOSYS)?;
    // A working directory that cannot be gone back to is no use to what follows either.
    let back =
        rustix::fs::open(".", DIRECTORY, Mode::empty()).or_else(|_| rustix::fs::open("/", DIRECTORY, Mode::empty()))?;
    rustix::process::fchdir(&names)?;
    let result = call();
    rustix::process::fchdir(&back)?;
    result
}
