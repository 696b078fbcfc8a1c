//! tmpcopyup: what the image has at a mount point is copied into the fresh tmpfs, by fd and without following links.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::{self, Errno};

/// Directories within directories, at most: a hostile image must not exhaust the stack or the fds.
const DEPTH: u32 = 128;

/// Copies everything below `from` (an O_PATH directory) to `to` (the root of a detached mount).
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let umask = rustix::process::umask(Mode::empty());
    let result = directory(from, to, DEPTH);
    rustix::process::umask(umask);
    result
}

fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> io::Result<()> {
    let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let list = fs::openat(from, ".", open, Mode::empty())?;
    for entry in Dir::read_from(&list)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = fs::statat(&list, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                fs::mkdirat(to, name, mode)?;
                let (inner, made) =
                    (fs::openat(&list, name, open, Mode::empty())?, fs::openat(to, name, open, Mode::empty())?);
                directory(inner.as_fd(), made.as_fd(), depth)?;
            }
            FileType::RegularFile => file(&list, to, name, mode)?,
            FileType::Symlink => fs::symlinkat(fs::readlinkat(&list, name, Vec::new())?, to, name)?,
            kind => fs::mknodat(to, name, kind, mode, stat.st_rdev)?,
        }
        // The owner last but for the mode, which chown takes set-id bits from.
        fs::chownat(
            to,
            name,
            Some(Uid::from_raw(stat.st_uid)),
            Some(Gid::from_raw(stat.st_gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        if stat.st_mode & 0o6000 != 0 && FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            fs::chmodat(to, name, mode, AtFlags::empty())?;
        }
    }
    Ok(())
}

fn file(from: &OwnedFd, to: BorrowedFd<'_>, name: &std::ffi::CStr, mode: Mode) -> io::Result<()> {
    // O_NONBLOCK: a FIFO swapped in must not hang init.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = fs::openat(from, name, flags, Mode::empty())?;
    let target = fs::openat(to, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, mode)?;
    let mut buffer = [0; 32768];
    loop {
        let n = io::read(&source, &mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            let written = io::write(&target, rest)?;
            rest = &rest[written..];
        }
    }
}
