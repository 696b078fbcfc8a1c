//! What the program will find in its root, before anything is mounted: the rootfs with the plan's bind mounts laid over
//! it, walked a component at a time. What lies in any other mount cannot be told, and nothing is said about it.

use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat};
use rustix::io::Errno;

use super::{Kind, Problem};
use crate::plan::mounts::{Mount, MountKind, attr};
use crate::plan::process::Process;
use crate::plan::rootfs::RootfsPath;
use crate::steps::path::Root;

/// The links that one path may go through, as in the kernel.
const MOST_LINKS: u32 = 40;

/// The root as the container will see it.
pub struct View<'p> {
    /// The rootfs.
    pub root: &'p OwnedFd,
    /// What is mounted over it, in order.
    pub mounts: &'p [Mount],
}

/// What is at a path.
pub struct Found {
    /// An O_PATH descriptor.
    pub fd: OwnedFd,
    /// Its attributes.
    pub stat: Stat,
    /// It lies in a mount where nothing can be executed.
    pub noexec: bool,
}

impl Found {
    /// What kind of file it is.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

impl View<'_> {
    /// Looks a path up; None: it lies in a mount of which nothing is known yet.
    pub fn find(&self, path: &str) -> Option<Result<Found, Errno>> {
        let mut parts: VecDeque<String> = split(path).collect();
        let mut at = RootfsPath::new("/");
        let mut links = 0;
        let mut found = match self.open(&at)? {
            Ok(found) => found,
            Err(errno) => return Some(Err(errno)),
        };
        while let Some(part) = parts.pop_front() {
            if found.kind() != FileType::Directory {
                return Some(Err(Errno::NOTDIR));
            }
            let next = at.join(&part);
            found = match self.open(&next)? {
                Ok(found) => found,
                Err(errno) => return Some(Err(errno)),
            };
            if found.kind() != FileType::Symlink {
                at = next;
                continue;
            }
            links += 1;
            let target = readlinkat(&found.fd, "", Vec::new()).ok().and_then(|target| target.into_string().ok());
            let Some(target) = target.filter(|_| links <= MOST_LINKS) else { return Some(Err(Errno::LOOP)) };
            if target.starts_with('/') {
                at = RootfsPath::new("/");
            }
            split(&target).collect::<Vec<_>>().into_iter().rev().for_each(|part| parts.push_front(part));
            found = match self.open(&at)? {
                Ok(found) => found,
                Err(errno) => return Some(Err(errno)),
            };
        }
        Some(Ok(found))
    }

    /// A path whose parents are no links; itself it may be one.
    fn open(&self, path: &RootfsPath) -> Option<Result<Found, Errno>> {
        let over = self.mounts.iter().rev().find(|mount| {
            !matches!(mount.kind, MountKind::Remount { .. }) && path.as_path().starts_with(mount.destination.as_path())
        });
        let noexec = over.is_some_and(|mount| (mount.attr.set | mount.recursive_attr.set) & attr::NOEXEC != 0);
        let fd = match over.map(|mount| (&mount.kind, mount.destination.as_path())) {
            None => Root::new(self.root).open(path, OFlags::PATH | OFlags::NOFOLLOW),
            Some((MountKind::Bind { source, .. }, destination)) => {
                let below = path.as_path().strip_prefix(destination).unwrap_or(Path::new(""));
                open_below(source, below)
            }
            Some(_) => return None,
        };
        Some(fd.and_then(|fd| Ok(Found { stat: fstat(&fd)?, fd, noexec })))
    }
}

fn open_below(source: &Path, below: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source = open(source, flags, Mode::empty())?;
    if below.as_os_str().is_empty() {
        return Ok(source);
    }
    Root::new(&source).open(&RootfsPath::new(&below.to_string_lossy()), flags | OFlags::NOFOLLOW)
}

fn split(path: &str) -> impl Iterator<Item = String> + '_ {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned)
}

/// What keeps the program from being executed.
pub fn problems(view: &View<'_>, process: &Process) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(Ok(cwd)) = view.find(&process.cwd)
        && cwd.kind() != FileType::Directory
    {
        problems.push(Problem::error(Kind::Host, "/process/cwd", format!("{} is no directory", process.cwd)));
    }
    let name = process.args[0].to_string_lossy().into_owned();
    let candidates: Vec<String> = match (name.starts_with('/'), name.contains('/')) {
        (true, _) => vec![name.clone()],
        (_, true) => vec![format!("{}/{name}", process.cwd)],
        _ => process
            .path
            .split(':')
            .map(|directory| match directory {
                // An empty or relative part of PATH counts from the working directory.
                directory if directory.starts_with('/') => format!("{directory}/{name}"),
                directory => format!("{}/{directory}/{name}", process.cwd),
            })
            .collect(),
    };
    let problem = |message: String| Problem::error(Kind::Host, "/process/args/0", message);
    let mut refused = None;
    for candidate in candidates {
        match view.find(&candidate) {
            // It may be there.
            None => return problems,
            Some(Err(_)) => {}
            Some(Ok(found)) => match executable(view, &candidate, &found) {
                Ok(()) => return problems,
                Err(why) => refused = refused.or(Some(why)),
            },
        }
    }
    problems.push(match refused {
        Some(why) => problem(why),
        None if name.contains('/') => problem(format!("{name}: no such file or directory (ENOENT) in the root")),
        None => {
            problem(format!("{name:?}: executable file not found in $PATH")).hint(format!("PATH is {:?}", process.path))
        }
    });
    problems
}

/// Whether the kernel would execute it, and what that needs.
fn executable(view: &View<'_>, path: &str, found: &Found) -> Result<(), String> {
    if found.kind() != FileType::RegularFile {
        return Err(format!("{path} is no regular file"));
    }
    if found.stat.st_mode & 0o111 == 0 {
        return Err(format!("{path} is not executable"));
    }
    if found.noexec {
        return Err(format!("{path} lies in a mount with noexec"));
    }
    // Unreadable for whoever checks: then nothing more can be told.
    let Ok(head) = head(&found.fd) else { return Ok(()) };
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
        let interpreter = line.split_whitespace().next().unwrap_or_default();
        return needed(view, interpreter, || format!("{path} is a script whose interpreter {interpreter:?}"));
    }
    if !head.starts_with(b"\x7fELF") {
        return Err(format!("{path} is no binary, and no script that begins with #!"));
    }
    match loader(&head) {
        Some(loader) => needed(view, &loader, || format!("{path} has the loader {loader:?}, which")),
        None => Ok(()),
    }
}

fn needed(view: &View<'_>, path: &str, who: impl Fn() -> String) -> Result<(), String> {
    match view.find(path) {
        Some(Err(_)) => Err(format!("{} is missing in the root", who())),
        _ => Ok(()),
    }
}

/// The first 4096 bytes of a regular file.
fn head(fd: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    use std::os::fd::AsRawFd;
    let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    let mut head = Vec::new();
    std::fs::File::from(file).take(4096).read_to_end(&mut head).map_err(|_| Errno::IO)?;
    Ok(head)
}

/// PT_INTERP of an ELF file of this machine's byte order (elf(5)).
fn loader(head: &[u8]) -> Option<String> {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, size: usize| {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let is_64 = *head.get(4)? == 2;
    let (table, size, count) = match is_64 {
        true => (number(32, 8)?, number(54, 2)?, number(56, 2)?),
        false => (number(28, 4)?, number(42, 2)?, number(44, 2)?),
    };
    for index in 0..count {
        let at = usize::try_from(table.checked_add(index * size)?).ok()?;
        if number(at, 4)? != PT_INTERP {
            continue;
        }
        let (offset, length) = match is_64 {
            true => (number(at.checked_add(8)?, 8)?, number(at.checked_add(32)?, 8)?),
            false => (number(at.checked_add(4)?, 4)?, number(at.checked_add(16)?, 4)?),
        };
        let (offset, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
        let text = head.get(offset..offset.checked_add(length)?)?;
        return Some(String::from_utf8_lossy(text.strip_suffix(b"\0").unwrap_or(text)).into_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_is_read_from_this_very_program_or_there_is_none() {
        let exe = std::fs::read("/proc/self/exe").unwrap();
        if let Some(loader) = loader(&exe[..4096]) {
            assert!(Path::new(&loader).exists(), "{loader}");
        }
        assert_eq!(loader(b"\x7fELF\x02"), None);
        let mut hostile = vec![0xff; 64];
        hostile[..5].copy_from_slice(b"\x7fELF\x02");
        assert_eq!(loader(&hostile), None);
    }

    #[test]
    fn links_and_bind_mounts_are_followed_inside_the_root() {
        use std::os::unix::fs::symlink;
        let dir = std::env::temp_dir().join(format!("hull-view-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("root/usr")).unwrap();
        std::fs::create_dir_all(dir.join("bound/bin")).unwrap();
        std::fs::write(dir.join("bound/bin/tool"), "#!/none\n").unwrap();
        symlink("usr/bin", dir.join("root/bin")).unwrap();
        symlink("/a/../loop", dir.join("root/loop")).unwrap();
        symlink("../../../../usr", dir.join("root/up")).unwrap();
        let json = format!(
            r#"{{"mounts":[{{"destination":"/usr","source":{:?},"options":["bind","noexec"]}},
                {{"destination":"/tmp","type":"tmpfs"}}],"linux":{{"namespaces":[{{"type":"mount"}}]}}}}"#,
            dir.join("bound")
        );
        let text = crate::spec::load::Text(json);
        let (spec, _) = crate::spec::load::parse(&text).unwrap();
        let host = crate::host::HostFacts::probe(&spec).unwrap();
        let summary = crate::plan::namespaces::Namespaces::new(spec.linux.as_ref()).unwrap().summary();
        let mounts = crate::plan::mounts::plan(&spec, &host, &crate::plan::Options::default(), &summary, &[]).unwrap();
        let root = open(dir.join("root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let view = View { root: &root, mounts: &mounts.mounts };
        let tool = view.find("/bin/tool").unwrap().unwrap();
        let up = view.find("/up/bin/tool").unwrap().map(|found| found.stat.st_ino);
        let endless = view.find("/loop").unwrap().map(|_| ());
        let refused = executable(&view, "/bin/tool", &tool);
        let unknown = view.find("/tmp/x").is_none();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(tool.noexec && unknown && up == Ok(tool.stat.st_ino));
        assert!(matches!(endless, Err(Errno::LOOP | Errno::NOENT)));
        assert_eq!(refused, Err("/bin/tool is not executable".into()));
    }
}
