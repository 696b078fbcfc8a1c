//! What keeps the program from being executed in its root.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use super::access::Who;
use super::view::{Found, View};
use super::{Kind, Problem};
use crate::error::show;
use crate::plan::process::Process;

/// What keeps the program from being executed.
pub fn problems(view: &View<'_>, process: &Process, root: Option<&Who<'_>>, user: Option<&Who<'_>>) -> Vec<Problem> {
    let mut problems = Vec::new();
    match view.find(&process.cwd) {
        Some(Ok(cwd)) if cwd.kind() != FileType::Directory => {
            problems.push(Problem::error(
                Kind::Host,
                "/process/cwd",
                format!("{} is no directory", show(&process.cwd)),
            ));
        }
        _ => {
            let refusal = root.and_then(|root| root.refusal(view, &process.cwd));
            problems.extend(refusal.map(|what| Problem::error(Kind::Host, "/process/cwd", what)));
        }
    }
    // A container may be made without one.
    let Some(name) = process.args.first() else { return problems };
    // From config.json, which is text.
    let name = name.to_string_lossy().into_owned();
    // An empty or relative part of PATH counts from the working directory.
    let candidates: Vec<PathBuf> = match name.contains('/') {
        true => vec![process.cwd.join(&name)],
        false => std::env::split_paths(&process.path).map(|part| process.cwd.join(part).join(&name)).collect(),
    };
    let problem = |message: String| Problem::error(Kind::Host, "/process/args/0", message);
    let mut refused = None;
    for candidate in candidates {
        match view.find(&candidate) {
            // It may be there.
            None => {
                problems.extend(view.noexec_over(&candidate).map(|(mount, what)| {
                    let pointer = "/process/args/0";
                    Problem::error(Kind::Host, pointer, format!("{what} (/mounts/{mount}/options)"))
                }));
                return problems;
            }
            Some(Err(_)) => {}
            Some(Ok(found)) => match executable(view, &candidate, &found) {
                Ok(()) => match user.and_then(|user| user.refusal(view, &candidate)) {
                    None => return problems,
                    Some(why) => refused = refused.or(Some(why)),
                },
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
fn executable(view: &View<'_>, path: &Path, found: &Found) -> Result<(), String> {
    let at = show(path);
    if found.kind() != FileType::RegularFile {
        return Err(format!("{at} is no regular file"));
    }
    if found.stat.st_mode & 0o111 == 0 {
        return Err(format!("{at} is not executable"));
    }
    if let Some(mount) = found.noexec {
        return Err(format!("{at} lies in a mount with noexec, /mounts/{mount}"));
    }
    // Unreadable for whoever checks: then nothing more can be told.
    let Ok(head) = head(&found.fd) else { return Ok(()) };
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
        let interpreter = line.split_whitespace().next().unwrap_or_default();
        return needed(view, interpreter, || format!("{at} is a script whose interpreter {interpreter:?}"));
    }
    if !head.starts_with(b"\x7fELF") {
        return Err(format!("{at} is no binary, and no script that begins with #!"));
    }
    if let Some(machine) = foreign(&head) {
        return Err(format!("{at} is built for {machine}, and this host is {}", std::env::consts::ARCH));
    }
    match loader(&head) {
        Some(loader) => needed(view, &loader, || format!("{at} has the loader {loader:?}, which")),
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

/// The machine of an ELF file (e_machine, elf(5)), if it is another one than this and no emulator is registered.
fn foreign(head: &[u8]) -> Option<String> {
    const NAMES: [(u16, &str); 12] = [
        (3, "x86"),
        (8, "mips"),
        (20, "powerpc"),
        (21, "powerpc64"),
        (22, "s390x"),
        (40, "arm"),
        (43, "sparc64"),
        (62, "x86_64"),
        (183, "aarch64"),
        (243, "riscv64"),
        (247, "bpf"),
        (258, "loongarch64"),
    ];
    let bytes = [*head.get(18)?, *head.get(19)?];
    let machine = if *head.get(5)? == 2 { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    let name = NAMES.iter().find(|(number, _)| *number == machine).map(|(_, name)| *name);
    let runs = match std::env::consts::ARCH {
        "x86_64" => matches!(name, Some("x86_64" | "x86")),
        "aarch64" => matches!(name, Some("aarch64" | "arm")),
        here => name.is_none_or(|name| name == here || name.starts_with(here)),
    };
    let emulators = std::fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    let emulated = emulators.into_iter().any(|entry| entry.file_name() != "register" && entry.file_name() != "status");
    (!runs && !emulated).then(|| name.map_or_else(|| format!("machine {machine}"), str::to_owned))
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
        assert_eq!((foreign(&exe[..64]), foreign(b"\x7fELF")), (None, None));
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
        let root = rustix::fs::open(dir.join("root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let view = View { root: &root, mounts: &mounts.mounts };
        let tool = view.find("/bin/tool").unwrap().unwrap();
        let up = view.find("/up/bin/tool").unwrap().map(|found| found.stat.st_ino);
        let endless = view.find("/loop").unwrap().map(|_| ());
        let refused = executable(&view, Path::new("/bin/tool"), &tool);
        let unknown = view.find("/tmp/x").is_none();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(tool.noexec == Some(0) && unknown && up == Ok(tool.stat.st_ino));
        assert!(matches!(endless, Err(Errno::LOOP | Errno::NOENT)));
        assert_eq!(refused, Err("/bin/tool is not executable".into()));
    }
}
