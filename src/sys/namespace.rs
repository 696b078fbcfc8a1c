//! ioctl_ns(2): what a namespace is and who owns it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::ioctl::opcode;

// The bits of a direction are not the same on every architecture.
const NS_GET_USERNS: libc::Ioctl = opcode::none(0xb7, 1) as libc::Ioctl;
const NS_GET_NSTYPE: libc::Ioctl = opcode::none(0xb7, 3) as libc::Ioctl;

/// The CLONE_NEW* flag of a namespace; ENOTTY when the descriptor is no namespace.
pub fn kind(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: NS_GET_NSTYPE takes no argument and writes no memory.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    if kind < 0 { Err(io::Error::last_os_error()) } else { Ok(kind as u32) }
}

/// The user namespace that owns a namespace; EPERM when it lies outside the caller's.
pub fn owner(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: NS_GET_USERNS takes no argument and returns a new descriptor.
    let owner = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_USERNS) };
    if owner < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made by the kernel and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(owner) })
}

/// The user namespace of a process, by its pidfd (ioctl of 6.11; ENOTTY before).
pub fn of_process(pidfd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const PIDFD_GET_USER_NAMESPACE: libc::Ioctl = opcode::none(0xff, 9) as libc::Ioctl;
    // SAFETY: the call takes no argument (0) and returns a new descriptor.
    let fd = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_USER_NAMESPACE, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made by the kernel and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// unshare(2) with CLONE_NEW* flags only.
pub fn unshare(flags: u64) -> io::Result<()> {
    // SAFETY: new namespaces change no memory and no descriptor of this process; CLONE_VM, CLONE_FILES and their like
    // are not namespaces and are masked out.
    let result = unsafe { libc::unshare((flags & ALL) as libc::c_int) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Every CLONE_NEW* flag.
const ALL: u64 = 0x7e02_0080;
