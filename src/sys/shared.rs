//! A page that two processes share: how `start` learns what became of the execve when no system call can tell it any more.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// The size of the page.
pub const SIZE: usize = 4096;

/// What a message may have of it.
pub const ROOM: usize = SIZE - 12;

/// Where its words are.
const LENGTH: usize = 0;
const MARK: usize = SIZE - 8;
const CLAIM: usize = SIZE - 4;

/// A shared mapping of one page: a length, that many bytes, and in its last words a mark and a claim.
pub struct SharedPage(NonNull<u8>);

impl SharedPage {
    /// Maps the first page of a memfd of somebody else's: only if it has that page, and cannot lose it any more, since the kernel
    /// kills who touches a page that is not there (SIGBUS).
    ///
    /// Both are asked by fcntl(2), which a container's filter that is in force by now has to allow as it is.
    pub fn map(fd: BorrowedFd<'_>) -> io::Result<SharedPage> {
        // SAFETY: F_GET_SEALS takes a number.
        let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
        if seals < 0 {
            return Err(io::Error::last_os_error());
        }
        if seals & libc::F_SEAL_SHRINK == 0 {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        // Asks for a lock one page in front of the end: EINVAL where that is in front of the beginning (fcntl(2)).
        // SAFETY: the structure is numbers, for which all zeros is a value.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        (lock.l_type, lock.l_whence) = (libc::F_RDLCK as libc::c_short, libc::SEEK_END as libc::c_short);
        (lock.l_start, lock.l_len) = (-(SIZE as libc::off_t), 1);
        // SAFETY: the structure lives through the call.
        if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETLK, &mut lock) } < 0 {
            return Err(io::Error::last_os_error());
        }
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

    /// The first of the bytes that a message has, as atomics: whoever else has the page may write to it at any time.
    fn message(&self) -> &[AtomicU8] {
        // SAFETY: the mapping is SIZE bytes long, stays so, and lives as long as self; AtomicU8 has the size and alignment
        // of a byte, and all accesses to the page are atomic.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(4).cast(), ROOM) }
    }

    /// A word of the page: the length, the mark or the claim.
    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= SIZE, "the words of the page are aligned and in it");
        // SAFETY: as above; the page is aligned, and so is the offset.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().add(offset).cast()) }
    }

    /// Stores a message: plain memory writes, which no seccomp filter can stop.
    pub fn store(&self, bytes: &[u8]) {
        for (place, byte) in self.message().iter().zip(bytes) {
            place.store(*byte, Ordering::Relaxed);
        }
        // Published after the bytes.
        self.word(LENGTH).store(bytes.len().min(ROOM) as u32, Ordering::Release);
    }

    /// Takes what the page is about for this side, if no side has taken it yet: the first of them decides.
    pub fn claim(&self) -> bool {
        self.word(CLAIM).compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Marks that the execve comes next: of a process that was reaped meanwhile nothing else says whether it got so far.
    pub fn executing(&self) {
        self.word(MARK).store(1, Ordering::Release);
    }

    /// Whether the other side has made that mark.
    pub fn is_executing(&self) -> bool {
        self.word(MARK).load(Ordering::Acquire) != 0
    }

    /// The message that the other side stored, if any; never more than the page has, whatever it wrote.
    pub fn load(&self) -> Vec<u8> {
        let length = self.word(LENGTH).load(Ordering::Acquire) as usize;
        self.message().iter().take(length).map(|byte| byte.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this size and nothing refers to it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

    use super::*;

    fn memfd(size: u64, seals: SealFlags) -> OwnedFd {
        let fd = memfd_create("page", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&fd, size).unwrap();
        fcntl_add_seals(&fd, seals).unwrap();
        fd
    }

    #[test]
    fn only_a_page_that_is_there_and_stays_is_mapped() {
        for (size, seals, good) in [
            (SIZE as u64, SealFlags::SHRINK, true),
            (1 << 20, SealFlags::SHRINK | SealFlags::GROW, true),
            (SIZE as u64 - 1, SealFlags::SHRINK, false),
            (0, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL, false),
            (SIZE as u64, SealFlags::GROW | SealFlags::SEAL, false),
            (SIZE as u64, SealFlags::SHRINK | SealFlags::WRITE, false),
        ] {
            assert_eq!(SharedPage::map(memfd(size, seals).as_fd()).is_ok(), good, "{size}, {seals:?}");
        }
        assert!(SharedPage::map(std::fs::File::open("/proc/self/exe").unwrap().as_fd()).is_err());
        assert!(SharedPage::map(std::fs::File::open("/dev/zero").unwrap().as_fd()).is_err());
    }

    #[test]
    fn both_sides_see_the_same_page() {
        let fd = memfd(SIZE as u64, SealFlags::SHRINK);
        let (one, other) = (SharedPage::map(fd.as_fd()).unwrap(), SharedPage::map(fd.as_fd()).unwrap());
        assert!(one.load().is_empty() && !one.is_executing());
        other.store(b"what went wrong");
        other.executing();
        assert!(one.load() == b"what went wrong" && one.is_executing());
        assert!(one.claim() && !other.claim());
        one.store(&vec![7; 2 * SIZE]);
        assert_eq!(other.load(), vec![7; ROOM]);
        other.word(LENGTH).store(u32::MAX, Ordering::Relaxed);
        assert_eq!(one.load().len(), ROOM);
        assert!(!one.claim() && one.is_executing());
    }
}
