//! The directory of an image, held against whoever else may write to it. CRIU follows links there, takes a file without any
//! form of its own for memory (pages-1.img), and writes its log beside it: a link would show a file of the host to the
//! restored program, or lose one.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use crate::error::{ErrAt, Error, Result, Step, show};

/// More images than this are no chain of memory images, but a circle.
const CHAIN: usize = 1000;

/// Refuses a directory that others may write to. `sticky`: unless they can only add to it, as to /tmp, where the kernel
/// keeps their links from being followed (proc_sys_fs(5), protected_symlinks).
pub fn check_directory(fd: BorrowedFd<'_>, path: &Path, sticky: bool) -> Result<()> {
    let stat = rustix::fs::fstat(fd).err_at(Step::Criu, "fstat", || format!("look at {}", show(path)))?;
    let shared = sticky && stat.st_mode & 0o1000 != 0;
    match problem(&stat) {
        Some(problem) if !shared => {
            Err(Error::host(Step::Criu, format!("use the directory {}: {problem}", show(path)))
                .hint("what is in it becomes memory of the container: it has to be the caller's alone"))
        }
        _ => Ok(()),
    }
}

/// Refuses an image with files that are no plain ones of the caller's, and looks at the earlier images that it goes on from.
pub fn check_image(fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let mut next: Option<OwnedFd> = check_files(fd, path)?;
    for _ in 0..CHAIN {
        let Some(parent) = next else { return Ok(()) };
        check_directory(parent.as_fd(), &path.join(PARENT), false)?;
        next = check_files(parent.as_fd(), &path.join(PARENT))?;
    }
    Err(Error::host(Step::Criu, format!("read the image {}: it goes on from itself", show(path))))
}

/// CRIU's name for the way to the earlier image.
const PARENT: &str = "parent";

/// The earlier image, if there is one.
fn check_files(fd: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>> {
    let subject = || format!("read the image {}", show(path));
    let mut parent = None;
    for entry in Dir::read_from(fd).err_at(Step::Criu, "getdents64", subject)? {
        let entry = entry.err_at(Step::Criu, "getdents64", subject)?;
        let name = entry.file_name();
        let file = || format!("{}, {}", subject(), name.to_string_lossy());
        let stat = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).err_at(Step::Criu, "newfstatat", file)?;
        let problem = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink | FileType::Directory if name.to_bytes() == PARENT.as_bytes() => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                parent = Some(rustix::fs::openat(fd, name, flags, Mode::empty()).err_at(Step::Criu, "openat", file)?);
                None
            }
            FileType::RegularFile => problem(&stat),
            // Nothing that CRIU opens.
            FileType::Directory | FileType::Socket => None,
            _ => Some("it is no plain file".into()),
        };
        if let Some(problem) = problem {
            return Err(Error::host(Step::Criu, format!("{}: {problem}", file()))
                .hint("CRIU makes plain files only, which belong to the caller"));
        }
    }
    Ok(parent)
}

/// Who else may write to it.
fn problem(stat: &Stat) -> Option<String> {
    let own = |id: u32, mine: u32| id == 0 || id == mine;
    if !own(stat.st_uid, rustix::process::geteuid().as_raw()) {
        return Some(format!("it belongs to user {}", stat.st_uid));
    }
    let group = stat.st_mode & 0o020 != 0 && !own(stat.st_gid, rustix::process::getegid().as_raw());
    (group || stat.st_mode & 0o002 != 0).then(|| format!("others may write to it (mode {:o})", stat.st_mode & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("hull-image-{}-{name}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            let scratch = Scratch(path);
            scratch.mode(".", 0o700);
            std::fs::write(scratch.0.join("pstree.img"), "x").unwrap();
            scratch.mode("pstree.img", 0o600);
            scratch
        }

        fn mode(&self, name: &str, mode: u32) {
            std::fs::set_permissions(self.0.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }

        fn check(&self) -> String {
            let fd = std::fs::File::open(&self.0).unwrap();
            let result = check_directory(fd.as_fd(), &self.0, false).and_then(|()| check_image(fd.as_fd(), &self.0));
            result.err().map(|error| error.to_string()).unwrap_or_default()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_image_of_ones_own() {
        let (image, before) = (Scratch::new("own"), Scratch::new("before"));
        std::fs::create_dir(image.0.join("work")).unwrap();
        symlink(&before.0, image.0.join("parent")).unwrap();
        assert_eq!(image.check(), "");
        before.mode("pstree.img", 0o666);
        assert!(image.check().contains("pstree.img: others may write to it (mode 666)"), "{}", image.check());
        before.mode("pstree.img", 0o600);
        before.mode(".", 0o777);
        assert!(image.check().contains("others may write to it"), "{}", image.check());
    }

    #[test]
    fn a_circle_of_images() {
        let image = Scratch::new("circle");
        symlink(".", image.0.join("parent")).unwrap();
        assert!(image.check().contains("it goes on from itself"), "{}", image.check());
    }

    #[test]
    fn what_others_could_have_put_there() {
        let image = Scratch::new("others");
        image.mode(".", 0o777);
        assert!(image.check().contains("others may write to it (mode 777)"), "{}", image.check());
        let fd = std::fs::File::open(&image.0).unwrap();
        image.mode(".", 0o1777);
        assert!(check_directory(fd.as_fd(), &image.0, true).is_ok());
        assert!(image.check().contains("others may write"), "{}", image.check());
        image.mode(".", 0o700);
        symlink("/etc/shadow", image.0.join("pages-1.img")).unwrap();
        assert!(image.check().contains("pages-1.img: it is no plain file"), "{}", image.check());
    }
}
