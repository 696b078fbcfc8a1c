//! mount_setattr(2), which rustix lacks.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What mount_setattr changes; propagation is one of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttr<'fd> {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// Propagation, or 0.
    pub propagation: u64,
    /// The user namespace of MOUNT_ATTR_IDMAP.
    pub userns: Option<BorrowedFd<'fd>>,
}

/// Changes the mount whose root `fd` is, and with `recursive` all below it.
pub fn mount_setattr(fd: BorrowedFd<'_>, attr: &MountAttr<'_>, recursive: bool) -> io::Result<()> {
    const EMPTY: &CStr = c"";
    let idmap = if attr.userns.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 };
    let raw = libc::mount_attr {
        attr_set: attr.set | idmap,
        attr_clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: attr.userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `EMPTY` is a C string and `raw` a mount_attr of the size given; both live until the call returns, and the
    // kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            EMPTY.as_ptr(),
            flags,
            &raw const raw,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread a mount namespace, root, cwd and umask of its own: for tests of mounts.
#[cfg(test)]
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: unshare without CLONE_FILES touches no memory and no fd of other threads.
    if unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
