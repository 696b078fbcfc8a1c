//! One cgroup directory: everything in it is opened from its descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::{open_directory, walk};
use crate::error::{ErrAt, Error, Result, Step, show};

/// One cgroup of one hierarchy.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    /// Its path on the host.
    pub path: PathBuf,
    /// Controllers of a v1 hierarchy.
    pub controllers: Vec<String>,
    /// cgroup2.
    pub v2: bool,
}

impl Directory {
    /// Makes the cgroup `path` beneath `mount`, with what leads to it; on v2 `enable` names the controllers that it needs.
    /// One that is there already must be empty and thawed.
    pub fn create(
        mount: &Path,
        path: &Path,
        v2: bool,
        controllers: &[String],
        enable: Enable<'_>,
    ) -> Result<Directory> {
        let (directory, made) = Directory::make(mount, path, v2, controllers, enable)?;
        if !made {
            directory.check_unused()?;
        }
        Ok(directory)
    }

    /// The same for a cgroup that may be in use by the container already.
    pub fn adopt(mount: &Path, path: &Path, v2: bool, controllers: &[String], enable: &[String]) -> Result<Directory> {
        let enable = Enable { needed: enable, all: false };
        Directory::make(mount, path, v2, controllers, enable).map(|(directory, _)| directory)
    }

    /// Makes it, and says whether it was not there before.
    fn make(
        mount: &Path,
        path: &Path,
        v2: bool,
        controllers: &[String],
        enable: Enable<'_>,
    ) -> Result<(Directory, bool)> {
        let full = mount.join(path);
        let subject = || format!("make the cgroup {}", show(&full));
        let mut fd = open_directory(mount).err_at(Step::Cgroup, "open", subject)?;
        let names: Vec<_> = path.components().collect();
        let mut made = false;
        for component in &names {
            let Component::Normal(name) = component else { continue };
            if v2 && (enable.all || !enable.needed.is_empty()) {
                self::enable(&fd, enable, &full)?;
            }
            made = match mkdirat(&fd, *name, Mode::from_raw_mode(0o755)) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(permission(Error::call(Step::Cgroup, "mkdirat", errno, subject()))),
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let opened = openat(&fd, *name, flags, Mode::empty()).err_at(Step::Cgroup, "openat", subject);
            let filled = opened.and_then(|child| {
                if controllers.iter().any(|name| name == "cpuset") {
                    inherit_cpuset(&fd, &child, &full)?;
                }
                Ok(child)
            });
            if made && filled.is_err() {
                // Nobody would know that it is there.
                let _ = unlinkat(&fd, *name, AtFlags::REMOVEDIR);
            }
            fd = filled?;
        }
        Ok((Directory { fd, path: full, controllers: controllers.to_vec(), v2 }, made))
    }

    /// One that exists; None when it has gone.
    pub fn open(path: &Path, v2: bool, controllers: &[String]) -> Result<Option<Directory>> {
        match open_directory(path) {
            Ok(fd) => Ok(Some(Directory { fd, path: path.to_owned(), controllers: controllers.to_vec(), v2 })),
            // A name that is too long is none that could have been made.
            Err(Errno::NOENT | Errno::NODEV | Errno::NAMETOOLONG) => Ok(None),
            Err(errno) => Err(Error::call(Step::Cgroup, "open", errno, format!("open the cgroup {}", show(path)))),
        }
    }

    /// For CLONE_INTO_CGROUP and bpf(2).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Writes one value to one file, in one write as the kernel wants it.
    pub fn write(&self, file: &str, value: &str, subject: impl Fn() -> String) -> Result<()> {
        let whole = || format!("{} in the cgroup {}", subject(), show(&self.path));
        let fd = openat(&self.fd, file, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).err_at(
            Step::Cgroup,
            "openat",
            whole,
        )?;
        loop {
            match crate::sys::whole::write(&fd, value.as_bytes()) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::call(Step::Cgroup, "write", errno, whole())),
            }
        }
    }

    /// Reads one file whole.
    pub fn read(&self, file: &str) -> rustix::io::Result<String> {
        read_at(self.fd.as_fd(), file)
    }

    /// Opens a file.
    pub fn open_file(&self, file: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        openat(&self.fd, file, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    }

    /// The names of its files.
    pub fn files(&self) -> Vec<String> {
        let entries = Dir::read_from(&self.fd).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_type() != FileType::Directory)
            .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
            .collect()
    }

    /// A file that holds one number.
    pub fn number(&self, file: &str) -> Option<u64> {
        self.read(file).ok()?.trim().parse().ok()
    }

    /// Every process here and below.
    pub fn pids(&self, pids: &mut Vec<i32>) -> Result<()> {
        walk::each(self.fd(), &mut |directory| processes_at(directory, pids))
            .err_at(Step::Cgroup, "read", || format!("list the processes of the cgroup {}", show(&self.path)))
    }

    /// Whether there are any.
    pub fn has_processes(&self) -> bool {
        let mut pids = Vec::new();
        self.pids(&mut pids).is_err() || !pids.is_empty()
    }

    /// Makes the cgroup threaded, if its parent has made it "domain invalid": then it takes processes, and all
    /// controllers that know threads (cgroups(7), "Thread mode"). Says whether that was so.
    pub fn make_threaded(&self) -> bool {
        self.read("cgroup.type").is_ok_and(|text| text.trim() == "domain invalid")
            && self.write("cgroup.type", "threaded", || "make threaded".into()).is_ok()
    }

    /// Gives the cgroup to a user, as far as a delegation goes (cgroups(7), "Cgroups delegation").
    pub fn give_to(&self, uid: u32) -> Result<()> {
        let text = std::fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap_or_default();
        let files: Vec<_> = match text.trim() {
            "" => vec!["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"],
            text => text.lines().collect(),
        };
        let owner = Some(rustix::fs::Uid::from_raw(uid));
        for file in std::iter::once(".").chain(files) {
            match rustix::fs::chownat(&self.fd, file, owner, None, AtFlags::SYMLINK_NOFOLLOW) {
                // The list names files of every controller.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    let subject = format!("give {file} of the cgroup {} to uid {uid}", show(&self.path));
                    return Err(Error::call(Step::Cgroup, "fchownat", errno, subject));
                }
            }
        }
        Ok(())
    }

    /// cgroup.kill (5.14): ends all at once, those that fork meanwhile too; false where it is not there.
    pub fn kill_all(&self) -> bool {
        self.write("cgroup.kill", "1", || "kill all".into()).is_ok()
    }

    /// Removes the cgroup and those below it; missing is fine.
    pub fn remove(&self) -> Result<()> {
        let subject = || format!("remove the cgroup {}", show(&self.path));
        // The plain case is one call, and needs no descriptor; only what the payload nested makes it look inside.
        match rustix::fs::rmdir(&self.path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(errno) => return Err(Error::call(Step::Cgroup, "rmdir", errno, subject())),
        }
        walk::remove_below(self.fd()).err_at(Step::Cgroup, "unlinkat", subject)?;
        match rustix::fs::rmdir(&self.path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::call(Step::Cgroup, "rmdir", errno, subject())),
        }
    }

    /// A cgroup that was there before must be empty, and not frozen, or the container would hang or share it.
    pub fn check_unused(&self) -> Result<()> {
        let mut pids = Vec::new();
        self.pids(&mut pids)?;
        // runc's words.
        let what = if !pids.is_empty() {
            format!("is not empty: {} process(es) found", pids.len())
        } else if super::freezer::directory_is_frozen(self) {
            "unexpectedly frozen".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::host(Step::Cgroup, format!("use the cgroup {}: container's cgroup {what}", show(&self.path)))
            .hint("another container may be using it (/linux/cgroupsPath)"))
    }
}

/// The v2 controllers that a cgroup shall have.
#[derive(Debug, Clone, Copy)]
pub struct Enable<'a> {
    /// Those that its limits need.
    pub needed: &'a [String],
    /// All others as well that the host has, as far as they can be had: engines read their numbers.
    pub all: bool,
}

/// Adds what an ordinary user can do about it, behind runc's words.
fn permission(error: Error) -> Error {
    match error.is(Errno::ACCESS) || error.is(Errno::PERM) {
        true => error.hint(
            "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: leave out \
             /linux/cgroupsPath and the limits, or have the parent delegated, as by systemd's Delegate=yes",
        ),
        false => error,
    }
}

/// Enables controllers for the children of a v2 cgroup, those that are not enabled yet.
fn enable(parent: &OwnedFd, wanted: Enable<'_>, full: &Path) -> Result<()> {
    let enabled = read_at(parent.as_fd(), "cgroup.subtree_control").unwrap_or_default();
    let off = |name: &str| !enabled.split_whitespace().any(|on| on == name);
    if !wanted.all && !wanted.needed.iter().any(|name| off(name)) {
        return Ok(());
    }
    let available = read_at(parent.as_fd(), "cgroup.controllers").unwrap_or_default();
    let write = |line: &str| -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = openat(parent, "cgroup.subtree_control", flags, Mode::empty())?;
        crate::sys::whole::write(&fd, line.as_bytes())
    };
    let missing: Vec<_> = available.split_whitespace().filter(|name| wanted.all && off(name)).collect();
    // All in one write, which the kernel takes or refuses as a whole.
    if !missing.is_empty() {
        let line = missing.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
        if write(&line).is_ok() && wanted.needed.iter().all(|name| available.split_whitespace().any(|on| on == name)) {
            return Ok(());
        }
    }
    for name in wanted.needed.iter().filter(|name| off(name)) {
        let subject = || format!("enable the {name} controller on the way to {}", show(full));
        if !available.split_whitespace().any(|there| there == name) {
            // Without an errno: engines take the words of ENOENT for a program that is missing in the container.
            return Err(Error::host(Step::Cgroup, format!("{}: controller {name:?} not available", subject()))
                .hint(format!("this host's cgroup v2 has the controllers: {}", available.trim())));
        }
        write(&format!("+{name}")).err_at(Step::Cgroup, "write", subject).map_err(|error| {
            if error.is(Errno::BUSY) {
                error.hint("a cgroup on the way has processes of its own")
            } else if error.is(Errno::OPNOTSUPP) {
                error
                    .hint("a cgroup on the way is threaded: there only cpu, cpuset, perf_event and pids can be limited")
            } else {
                permission(error)
            }
        })?;
    }
    // Those that nothing needs: each that can be had.
    for name in missing {
        let _ = write(&format!("+{name}"));
    }
    Ok(())
}

/// A new v1 cpuset is empty, and nothing may run in it before it has what its parent has. One on the way that somebody
/// made and left empty is filled too.
fn inherit_cpuset(parent: &OwnedFd, child: &OwnedFd, full: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let subject = || format!("fill {file} on the way to {}", show(full));
        if read_at(child.as_fd(), file).is_ok_and(|text| !text.trim().is_empty()) {
            continue;
        }
        let value = read_at(parent.as_fd(), file).err_at(Step::Cgroup, "read", subject)?;
        let fd = openat(child, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).err_at(
            Step::Cgroup,
            "openat",
            subject,
        )?;
        crate::sys::whole::write(&fd, value.trim().as_bytes()).err_at(Step::Cgroup, "write", subject)?;
    }
    Ok(())
}

fn read_at(directory: BorrowedFd<'_>, file: &str) -> rustix::io::Result<String> {
    let fd = openat(directory, file, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let start = bytes.len();
        bytes.resize(start + 1024, 0);
        let read = rustix::io::read(&fd, &mut bytes[start..])?;
        bytes.truncate(start + read);
        if read == 0 {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

/// The processes of one cgroup. A threaded one has threads only: they count as the processes that they belong to.
fn processes_at(directory: BorrowedFd<'_>, pids: &mut Vec<i32>) -> rustix::io::Result<()> {
    let numbers = |text: String| text.lines().filter_map(|line| line.parse::<i32>().ok()).collect::<Vec<_>>();
    match read_at(directory, "cgroup.procs") {
        Ok(text) => pids.extend(numbers(text)),
        Err(Errno::OPNOTSUPP) => {
            let threads = read_at(directory, "cgroup.threads").map(numbers).unwrap_or_default();
            pids.extend(threads.into_iter().filter_map(process_of_thread));
        }
        Err(Errno::NODEV | Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    Ok(())
}

fn process_of_thread(thread: i32) -> Option<i32> {
    let status = crate::bytes::text(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}
