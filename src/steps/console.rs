//! The program's terminal: a pty of the container's own devpts (pty(7)), never a path that an image could have prepared.
//!
//! The other end is opened from the master itself (TIOCGPTPEER), so a link at /dev/pts/N leads nowhere (CVE-2025-52565).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::place::Places;
use crate::error::{ErrAt, Error, Result, Step};

/// The magic of devpts (statfs(2)), and the numbers of its ptmx.
const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;
const PTMX: (u32, u32) = (5, 2);

/// Both ends.
#[derive(Debug)]
pub struct Terminal {
    /// The engine's end.
    pub master: OwnedFd,
    /// The program's end.
    pub peer: OwnedFd,
}

/// Opens a terminal of the container's devpts, from inside its root, and binds it to /dev/console of init's root.
pub fn open(places: Option<&Places<'_>>, size: Option<(u16, u16)>) -> Result<Terminal> {
    let subject = || "open a terminal on /dev/pts/ptmx (/process/terminal)";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let master = match openat2(CWD, "/dev/pts/ptmx", flags, Mode::empty(), resolve) {
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::open("/dev/pts/ptmx", flags | OFlags::NOFOLLOW, Mode::empty()),
        result => result,
    }
    .err_at(Step::Console, "openat2", subject)
    .map_err(|e| if e.is(Errno::NOENT) { e.hint("a terminal needs a mount of devpts on /dev/pts") } else { e })?;
    let magic = fstatfs(&master).err_at(Step::Console, "fstatfs", subject)?.f_type;
    let device = fstat(&master).err_at(Step::Console, "fstat", subject)?.st_rdev;
    if magic != DEVPTS_SUPER_MAGIC || (rustix::fs::major(device), rustix::fs::minor(device)) != PTMX {
        return Err(Error::host(Step::Console, format!("{}: it is not the ptmx of a devpts", subject())));
    }
    unlockpt(&master).err_at(Step::Console, "ioctl(TIOCSPTLCK)", subject)?;
    let peer = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).err_at(
        Step::Console,
        "ioctl(TIOCGPTPEER)",
        subject,
    )?;
    if let Some((rows, columns)) = size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).err_at(
            Step::Console,
            "ioctl(TIOCSWINSZ)",
            || "set the terminal's size (/process/consoleSize)",
        )?;
    }
    if let Some(places) = places {
        super::devices::bind_console(places.root, peer.as_fd())?;
    }
    Ok(Terminal { master, peer })
}
