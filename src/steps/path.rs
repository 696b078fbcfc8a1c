//! Paths inside the rootfs, opened by fd (openat2(2), RESOLVE_IN_ROOT): no path in it is looked up twice, and none
//! leads out of it, whatever links the image holds and whoever swaps them meanwhile (CVE-2021-30465).

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::{self, Errno};

pub use crate::plan::path::RootfsPath;

/// openat2 answers EAGAIN when something was renamed under it: so often it is asked again.
const TRIES: u32 = 256;
/// Links that one path may go through, as in the kernel.
const LINKS: u32 = 40;

/// Set once openat2 was refused by the kernel or a filter: then [`walk`] does its work.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Whether something may be made in a directory that a link led to; else the answer is EXDEV.
pub type MayMake<'a> = &'a dyn Fn(BorrowedFd<'_>) -> io::Result<bool>;

/// The root that paths are resolved in.
#[derive(Debug, Clone, Copy)]
pub struct Root<'fd> {
    /// Its directory.
    pub fd: BorrowedFd<'fd>,
}

impl<'fd> Root<'fd> {
    /// The root at `fd`.
    pub fn new(fd: &'fd impl AsFd) -> Root<'fd> {
        Root { fd: fd.as_fd() }
    }

    /// Opens the path with its final flags.
    pub fn open(&self, path: &RootfsPath, flags: OFlags) -> io::Result<OwnedFd> {
        self.open_raw(path.as_path(), flags, false)
    }

    /// Opens the path; ELOOP if any part of it is a link.
    pub fn open_without_links(&self, path: &RootfsPath, flags: OFlags) -> io::Result<OwnedFd> {
        self.open_raw(path.as_path(), flags, true)
    }

    fn open_raw(&self, path: &Path, flags: OFlags, no_links: bool) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if !NO_OPENAT2.load(Ordering::Relaxed) {
            let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            if no_links {
                resolve |= ResolveFlags::NO_SYMLINKS;
            }
            for _ in 0..TRIES {
                match fs::openat2(self.fd, path, flags, Mode::empty(), resolve) {
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    // EPERM is a filter's answer; where it is the file's, the walk meets it again.
                    Err(Errno::NOSYS | Errno::PERM) => {
                        NO_OPENAT2.store(true, Ordering::Relaxed);
                        return walk(self.fd, path, flags, no_links);
                    }
                    other => return other,
                }
            }
            return Err(Errno::AGAIN);
        }
        walk(self.fd, path, flags, no_links)
    }

    /// Opens the directory, making what is missing (mode 0755). Also tells whether it was made.
    pub fn ensure_dir(&self, path: &RootfsPath, may: MayMake<'_>) -> io::Result<(OwnedFd, bool)> {
        match self.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                Ok((self.make_dirs(path.as_path().to_owned(), &mut LINKS.clone(), &mut false, may)?, true))
            }
            other => Ok((other?, false)),
        }
    }

    /// Makes the directory in one that exists and is reached without links.
    pub fn make_last(&self, path: &RootfsPath) -> io::Result<OwnedFd> {
        let (Some(parent), Some(name)) = (path.as_path().parent(), path.as_path().file_name()) else {
            return Err(Errno::EXIST);
        };
        let top = parent == Path::new("/");
        let opened = if top { None } else { Some(self.open_raw(parent, OFlags::PATH | OFlags::DIRECTORY, true)?) };
        let dir = opened.as_ref().map_or(self.fd, AsFd::as_fd);
        fs::mkdirat(dir, name, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(dir, name, flags, Mode::empty())
    }

    /// Opens the file, making it and its directories if it is missing.
    pub fn ensure_file(&self, path: &RootfsPath, may: MayMake<'_>) -> io::Result<OwnedFd> {
        let mut at = path.as_path().to_owned();
        let mut links = LINKS;
        let mut linked = false;
        loop {
            match self.open_raw(&at, OFlags::PATH, false) {
                Err(Errno::NOENT) => {}
                other => return other,
            }
            let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else { return Err(Errno::ISDIR) };
            let dir = self.make_dirs(parent.to_owned(), &mut links, &mut linked, may)?;
            if linked && !may(dir.as_fd())? {
                return Err(Errno::XDEV);
            }
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
            match fs::openat(&dir, name, flags, Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) => at = next(&dir, parent, name, Path::new(""), &mut links)?,
                other => return other,
            }
            linked = true;
        }
    }

    /// Makes directories one at a time, each by the fd of the one before. A dangling link is followed inside the root;
    /// `linked` becomes true where a link led.
    fn make_dirs(
        &self,
        mut path: PathBuf,
        links: &mut u32,
        linked: &mut bool,
        may: MayMake<'_>,
    ) -> io::Result<OwnedFd> {
        'again: loop {
            // The longest part that exists.
            let mut depth = path.components().count();
            let (mut dir, mut done) = loop {
                let prefix: PathBuf = path.components().take(depth).collect();
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let opened = match self.open_raw(&prefix, flags, true) {
                    Err(Errno::LOOP) => self.open_raw(&prefix, flags, false).inspect(|_| *linked = true),
                    opened => opened,
                };
                match opened {
                    Ok(fd) => break (fd, prefix),
                    Err(Errno::NOENT) if depth > 1 => depth -= 1,
                    Err(errno) => return Err(errno),
                }
            };
            let rest: Vec<OsString> = path.components().skip(depth).map(|c| c.as_os_str().to_owned()).collect();
            if *linked && !rest.is_empty() && !may(dir.as_fd())? {
                return Err(Errno::XDEV);
            }
            for (i, name) in rest.iter().enumerate() {
                if name == ".." {
                    return Err(Errno::NOENT);
                }
                match fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match fs::openat(&dir, name, flags, Mode::empty()) {
                    Ok(fd) => dir = fd,
                    Err(Errno::NOTDIR | Errno::LOOP) => {
                        let tail: PathBuf = rest[i + 1..].iter().collect();
                        path = next(&dir, &done, name, &tail, links)?;
                        *linked = true;
                        continue 'again;
                    }
                    Err(errno) => return Err(errno),
                }
                done.push(name);
            }
            return Ok(dir);
        }
    }
}

/// Where the link `name` leads, with `tail` behind it; NOTDIR if it is no link.
fn next(dir: &OwnedFd, parent: &Path, name: &OsStr, tail: &Path, links: &mut u32) -> io::Result<PathBuf> {
    if is_procfs(dir) {
        // A magic link, which appeared meanwhile: its text lies about where it leads.
        return Err(Errno::LOOP);
    }
    *links = links.checked_sub(1).ok_or(Errno::LOOP)?;
    let target =
        fs::readlinkat(dir, name, Vec::new()).map_err(|e| if e == Errno::INVAL { Errno::NOTDIR } else { e })?;
    // An absolute target replaces the parent: it is absolute in the root.
    Ok(parent.join(OsString::from_vec(target.into_bytes())).join(tail))
}

/// Resolves as openat2 would, one component at a time, for kernels and filters that refuse it. Links are read and
/// followed by hand; `..` goes back on the fds that led here and so never above the root.
fn walk(root: BorrowedFd<'_>, path: &Path, flags: OFlags, no_links: bool) -> io::Result<OwnedFd> {
    let mut todo: Vec<OsString> = path.components().rev().map(|c| c.as_os_str().to_owned()).collect();
    let mut stack: Vec<OwnedFd> = Vec::new();
    let mut links = LINKS;
    let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    while let Some(name) = todo.pop() {
        match Path::new(&name).components().next() {
            Some(Component::RootDir) => {
                stack.clear();
                continue;
            }
            Some(Component::ParentDir) => {
                stack.pop();
                continue;
            }
            Some(Component::Normal(_)) => {}
            _ => continue,
        }
        let dir = stack.last().map_or(root, AsFd::as_fd);
        let fd = fs::openat(dir, &name, step, Mode::empty())?;
        let is_link = fs::FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) == fs::FileType::Symlink;
        if is_link && !(todo.is_empty() && flags.contains(OFlags::NOFOLLOW)) {
            if no_links {
                return Err(Errno::LOOP);
            }
            // A link of procfs may be magic: its text lies about where it leads.
            if fs::fstatfs(dir)?.f_type == rustix::fs::PROC_SUPER_MAGIC && name != "self" && name != "thread-self" {
                let text = fs::readlinkat(dir, &name, Vec::new())?;
                if text.as_bytes() != b"self/mounts" && text.as_bytes() != b"self/net" {
                    return Err(Errno::LOOP);
                }
            }
            links = links.checked_sub(1).ok_or(Errno::LOOP)?;
            let target = PathBuf::from(OsString::from_vec(fs::readlinkat(dir, &name, Vec::new())?.into_bytes()));
            todo.extend(target.components().rev().map(|c| c.as_os_str().to_owned()));
            continue;
        }
        if todo.is_empty() {
            // The last component is opened again by its name, with O_NOFOLLOW: a link put there meanwhile is an error.
            return fs::openat(dir, &name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        }
        stack.push(fd);
    }
    let dir = stack.last().map_or(root, AsFd::as_fd);
    fs::openat(dir, ".", flags | OFlags::CLOEXEC, Mode::empty())
}

/// Whether the fd lies on a procfs.
pub fn is_procfs(fd: impl AsFd) -> bool {
    fs::fstatfs(fd).is_ok_and(|statfs| statfs.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// The name of an open file for calls that take only paths; it needs the host's /proc, and so to be before the pivot.
pub(super) fn by_fd(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn temp(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("hull-path-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn dir_fd(path: &Path) -> OwnedFd {
        fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn links_never_lead_out_neither_by_openat2_nor_by_the_walk() {
        let base = temp("out");
        let (root, decoy) = (base.join("root"), base.join("decoy"));
        std::fs::create_dir_all(root.join("in")).unwrap();
        std::fs::create_dir(&decoy).unwrap();
        std::fs::write(decoy.join("secret"), "x").unwrap();
        symlink(&decoy, root.join("absolute")).unwrap();
        symlink("../../decoy", root.join("in/relative")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("../in", root.join("fine")).unwrap();
        let fd = dir_fd(&root);
        for path in ["/absolute/secret", "/in/relative/secret", "/../decoy/secret", "/loop"] {
            let path = RootfsPath::new(path);
            let expected = if path.as_path() == Path::new("/loop") { Errno::LOOP } else { Errno::NOENT };
            assert_eq!(Root::new(&fd).open(&path, OFlags::PATH).unwrap_err(), expected, "{path}");
            assert_eq!(walk(fd.as_fd(), path.as_path(), OFlags::PATH, false).unwrap_err(), expected, "{path}");
        }
        let ino = |fd: &OwnedFd| fs::fstat(fd).unwrap().st_ino;
        let there = ino(&dir_fd(&root.join("in")));
        assert_eq!(ino(&walk(fd.as_fd(), Path::new("/fine"), OFlags::PATH, false).unwrap()), there);
        assert_eq!(walk(fd.as_fd(), Path::new("/fine"), OFlags::PATH, true).unwrap_err(), Errno::LOOP);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn directories_and_files_are_made_inside_even_through_dangling_links() {
        let base = temp("make");
        let (root, decoy) = (base.join("root"), base.join("decoy"));
        std::fs::create_dir_all(root.join("var")).unwrap();
        symlink("/run", root.join("var/run")).unwrap();
        symlink(&decoy, root.join("evil")).unwrap();
        let fd = dir_fd(&root);
        let root_fd = Root::new(&fd);
        assert!(root_fd.ensure_dir(&RootfsPath::new("/var/run/a/b"), &|_| Ok(true)).unwrap().1);
        assert!(root.join("run/a/b").is_dir());
        assert!(!root_fd.ensure_dir(&RootfsPath::new("/run/a"), &|_| Ok(true)).unwrap().1);
        root_fd.ensure_file(&RootfsPath::new("/evil/x/file"), &|_| Ok(true)).unwrap();
        assert!(!decoy.exists(), "the host got a directory");
        root_fd.ensure_file(&RootfsPath::new("/evil/x/file"), &|_| Ok(true)).unwrap();
        assert_eq!(root_fd.ensure_dir(&RootfsPath::new("/evil/x/file/y"), &|_| Ok(true)).unwrap_err(), Errno::NOTDIR);
        std::fs::remove_dir_all(base).unwrap();
    }
}
