//! A cgroup and all below it, with one descriptor open however deep a payload has nested them.
//!
//! The way up is `..`, which cannot lead astray: neither version of cgroups moves a cgroup to another parent.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::{Errno, Result};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Calls `enter` for the cgroup and everything below it, parents first.
pub fn each(top: BorrowedFd<'_>, enter: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
    walk(top, enter, &mut |_, _| Ok(()))
}

/// Removes everything below the cgroup, children first.
pub fn remove_below(top: BorrowedFd<'_>) -> Result<()> {
    walk(top, &mut |_| Ok(()), &mut |parent, name| match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    })
}

fn walk(
    top: BorrowedFd<'_>,
    enter: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>,
    leave: &mut dyn FnMut(BorrowedFd<'_>, &CStr) -> Result<()>,
) -> Result<()> {
    enter(top)?;
    let mut current: Option<OwnedFd> = None;
    // For each level the name of the cgroup, and its children that are still to come.
    let mut levels = vec![(CString::default(), children(top)?)];
    while let Some((_, left)) = levels.last_mut() {
        let here = current.as_ref().map_or(top, AsFd::as_fd);
        if let Some(name) = left.pop() {
            match openat(here, &name, DIRECTORY, Mode::empty()) {
                Ok(child) => {
                    enter(child.as_fd())?;
                    levels.push((name, children(child.as_fd())?));
                    current = Some(child);
                }
                Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(errno),
            }
            continue;
        }
        let name = levels.pop().map(|(name, _)| name).unwrap_or_default();
        if levels.is_empty() {
            break;
        }
        let parent = openat(here, "..", DIRECTORY, Mode::empty())?;
        leave(parent.as_fd(), &name)?;
        current = Some(parent);
    }
    Ok(())
}

fn children(directory: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = match entry {
            Ok(entry) => entry,
            // Removed under our feet.
            Err(Errno::NOENT | Errno::NODEV) => break,
            Err(errno) => return Err(errno),
        };
        if entry.file_type() == FileType::Directory && !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    /// Plain directories do as well: deeper than the 1024 descriptors that a process may have.
    #[test]
    fn deep_and_broad_trees_are_walked_and_removed() {
        let top = std::env::temp_dir().join(format!("hull-walk-{}", std::process::id()));
        std::fs::create_dir(&top).unwrap();
        let fd = rustix::fs::open(&top, DIRECTORY, Mode::empty()).unwrap();
        let mut at = fd.try_clone().unwrap();
        for _ in 0..1500 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&at, "e", Mode::RWXU).unwrap();
            at = openat(&at, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        drop(at);
        let mut count = 0;
        let walked = each(fd.as_fd(), &mut |_| {
            count += 1;
            Ok(())
        });
        let removed = remove_below(fd.as_fd());
        let left = std::fs::read_dir(&top).unwrap().count();
        std::fs::remove_dir_all(std::ffi::OsStr::from_bytes(top.as_os_str().as_bytes())).unwrap();
        walked.unwrap();
        removed.unwrap();
        assert_eq!((count, left), (3001, 0));
    }
}
