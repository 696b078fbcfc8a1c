//! All descriptors of a process at once: by close_range(2), or one after the other where the kernel lacks it (Linux 5.9; its
//! flag for close-on-exec: 5.11) or a filter refuses it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstat, fstatfs, open, statat};
use rustix::io::Errno;

/// The limit on them (setrlimit(2)).
const RLIMIT_NOFILE: u32 = 7;
/// As many descriptors as a process may have unless the host's root has set /proc/sys/fs/nr_open: its limit may have been
/// lowered since.
const NR_OPEN: u64 = 1 << 20;

/// Every descriptor from `first` on ends at execve.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    // SAFETY: only numbers are passed; no descriptor is closed.
    if unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } == 0 {
        return Ok(());
    }
    each_from(first, io::Error::last_os_error(), |fd| {
        // SAFETY: F_SETFD takes numbers; a wrong descriptor only fails.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }
    })
}

/// Closes every descriptor from `first` on but those in `keep`. The caller is a process that has just been cloned: what owned
/// the others belongs to the process that it is a copy of, and is never used or dropped here.
pub fn close_others(first: u32, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).filter(|fd| *fd >= first).collect();
    numbers.sort_unstable();
    let mut from = first;
    for number in numbers.iter().copied().chain([u32::MAX]) {
        // The last one is no descriptor: the range up to it has no end.
        let last = if number == u32::MAX { u32::MAX } else { number.wrapping_sub(1) };
        // SAFETY: only numbers are passed; as said above nobody in this process uses what is closed.
        if number > from && unsafe { libc::syscall(libc::SYS_close_range, from, last, 0) } != 0 {
            return each_from(from, io::Error::last_os_error(), |fd| match numbers.binary_search(&(fd as u32)) {
                Ok(_) => 0,
                // SAFETY: as for close_range.
                Err(_) => unsafe { libc::close(fd) },
            });
        }
        from = number.saturating_add(1);
    }
    Ok(())
}

/// Does this to each descriptor from `first` on, if `refused` is what a kernel or a filter without the call says.
fn each_from(first: u32, refused: io::Error, act: impl Fn(i32) -> i32) -> io::Result<()> {
    if !matches!(refused.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EINVAL)) {
        return Err(refused);
    }
    let first = i32::try_from(first).unwrap_or(i32::MAX);
    let bad = |error: &io::Error| error.raw_os_error() == Some(libc::EBADF);
    let act = |fd| match act(fd) {
        0.. => Ok(()),
        // It was the list's own, or there is none of this number.
        _ => Some(io::Error::last_os_error()).filter(|error| !bad(error)).map_or(Ok(()), Err),
    };
    match own() {
        Ok(numbers) => numbers.into_iter().filter(|fd| *fd >= first).try_for_each(act),
        Err(_) => {
            let (_, hard) = super::process::rlimit(0, RLIMIT_NOFILE)?;
            (first..i32::try_from(hard.max(NR_OPEN)).unwrap_or(i32::MAX)).try_for_each(act)
        }
    }
}

/// The numbers of all descriptors, by /proc, where it is really the caller's own: what a container has there is its own
/// business. One of a pipe that nobody else has is looked for in the list.
fn own() -> rustix::io::Result<Vec<i32>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let list: OwnedFd = open("/proc/self/fd", flags, Mode::empty())?;
    let (mark, _other) = rustix::pipe::pipe()?;
    let (known, found) = (fstat(&mark)?, statat(&list, mark.as_raw_fd().to_string(), AtFlags::empty())?);
    let is_proc = fstatfs(&list)?.f_type == rustix::fs::PROC_SUPER_MAGIC;
    if !is_proc || (known.st_dev, known.st_ino) != (found.st_dev, found.st_ino) {
        return Err(Errno::NOTSUP);
    }
    let mut numbers = Vec::new();
    for entry in Dir::new(list)? {
        numbers.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_descriptors_are_listed() {
        let (one, other) = rustix::pipe::pipe().unwrap();
        let all = own().unwrap();
        assert!([one.as_raw_fd(), other.as_raw_fd(), 0].iter().all(|fd| all.contains(fd)), "{all:?}");
    }

    #[test]
    fn only_a_refusal_makes_it_go_one_by_one() {
        let error = |errno| io::Error::from_raw_os_error(errno);
        let seen = std::cell::RefCell::new(Vec::new());
        let act = |fd| {
            seen.borrow_mut().push(fd);
            0
        };
        assert_eq!(each_from(0, error(libc::ENOMEM), act).unwrap_err().raw_os_error(), Some(libc::ENOMEM));
        assert!(seen.borrow().is_empty());
        each_from(1, error(libc::ENOSYS), act).unwrap();
        assert!(seen.borrow().contains(&1) && !seen.borrow().contains(&0));
    }
}
