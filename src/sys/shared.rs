//! A page that two processes share: how `start` learns what became of the execve when no system call can tell it any more.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// The size of the page.
pub const SIZE: usize = 4096;

/// What a message may have of it.
pub const ROOM: usize = SIZE - 12;

/// A shared mapping of one page: a length, that many bytes, and in its last words a mark and a claim.
pub struct SharedPage(NonNull<u8>);

impl SharedPage {
    /// Maps the first page of a memfd that is at least [`SIZE`] long and sealed against shrinking.
    pub fn map(fd: BorrowedFd<'_>) -> io::Result<SharedPage> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(SharedPage(NonNull::new(address.cast()).expect("mmap gives no null page")))
    }

    /// A page for this process and the children that it clones from now on.
    pub fn inherited() -> io::Result<SharedPage> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(SharedPage(NonNull::new(address.cast()).expect("mmap gives no null page")))
    }

    /// Stores a message: plain memory writes, which no seccomp filter can stop.
    pub fn store(&self, bytes: &[u8]) {
        let len = bytes.len().min(ROOM);
        // SAFETY: the mapping is SIZE bytes long and lives as long as self; only this process writes it before it dies,
        // and the length is published after the bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_ptr().add(4), len);
            AtomicU32::from_ptr(self.0.as_ptr().cast()).store(len as u32, Ordering::Release);
        }
    }

    /// Takes what the page is about for this side, if no side has taken it yet: the first of them decides.
    pub fn claim(&self) -> bool {
        // SAFETY: the mapping is SIZE bytes long, page aligned, and lives as long as self; both sides use this word as an
        // atomic only.
        let claim = unsafe { AtomicU32::from_ptr(self.0.as_ptr().add(SIZE - 4).cast()) };
        claim.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Marks that the execve comes next: of a process that was reaped meanwhile nothing else says whether it got so far.
    pub fn executing(&self) {
        // SAFETY: the mapping is SIZE bytes long and aligned to a page.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().add(SIZE - 8).cast()).store(1, Ordering::Release) }
    }

    /// Whether the other side has made that mark.
    pub fn is_executing(&self) -> bool {
        // SAFETY: as in `executing`.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().add(SIZE - 8).cast()).load(Ordering::Acquire) != 0 }
    }

    /// The message that the other side stored, if any.
    pub fn load(&self) -> Vec<u8> {
        // SAFETY: the mapping is SIZE bytes long; the length is clamped to it, whatever the other side wrote.
        unsafe {
            let len = AtomicU32::from_ptr(self.0.as_ptr().cast()).load(Ordering::Acquire) as usize;
            let mut bytes = vec![0; len.min(ROOM)];
            std::ptr::copy_nonoverlapping(self.0.as_ptr().add(4), bytes.as_mut_ptr(), bytes.len());
            bytes
        }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this size and nothing refers to it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), SIZE) };
    }
}
