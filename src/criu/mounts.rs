//! The mounts of the host in a container: where they really are when it is written down, and whether they are what the
//! config says when it was restored. An image's links lead anywhere, and an image of CRIU's says what it likes: only the
//! kernel's table (proc_pid_mountinfo(5)) is asked.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags, StatxAttributes, StatxFlags};

use crate::bytes;
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::plan::Plan;
use crate::plan::criu::externals;
use crate::plan::mounts::{Mount, MountKind};
use crate::steps::path::Root;
use crate::steps::{namespaces, tree};

/// A line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mounted {
    id: u64,
    /// Major and minor number of the file system.
    device: String,
    /// What of the file system is mounted.
    root: PathBuf,
    /// Where.
    at: PathBuf,
    options: String,
    fstype: String,
}

impl Mounted {
    fn has(&self, word: &str) -> bool {
        self.options.split(',').any(|option| option == word)
    }
}

fn table(process: &str) -> Result<Vec<Mounted>> {
    let path = format!("/proc/{process}/mountinfo");
    let table = std::fs::read(&path).err_at(Step::Criu, "open", || format!("read {path}"))?;
    Ok(parse(&table))
}

fn parse(table: &[u8]) -> Vec<Mounted> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    bytes::mounts(table)
        .map(|line| Mounted {
            id: line.id,
            device: text(line.device),
            root: line.root(),
            at: line.at(),
            options: text(line.options),
            fstype: text(line.fstype),
        })
        .collect()
}

/// `mnt[WHERE]:KEY` for each mount that is the host's, in the words of CRIU's `--external`.
pub fn names(plan: &Plan, pid: i32) -> Result<Vec<String>> {
    let table = table(&pid.to_string())?;
    let fd = namespaces::root_of(pid)?;
    let root = Root::new(&fd);
    let mut names = Vec::new();
    for external in externals(plan) {
        let subject = || format!("find the mount on {}", external.destination);
        let file = match root.open(&external.destination, OFlags::PATH) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).err_at(Step::Criu, "openat2", subject),
        };
        let stat = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
        // Unmounted, or a mask of something that is not there.
        if !stat.err_at(Step::Criu, "statx", subject)?.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            continue;
        }
        let id = tree::mount_id(file.as_fd()).err_at(Step::Criu, "open", subject)?;
        let Some(found) = table.iter().find(|mounted| mounted.id == id) else { continue };
        // A masked file is covered by the host's /dev/null; a masked directory by a tmpfs of the container's own.
        if external.mask && found.fstype == "tmpfs" {
            continue;
        }
        // CRIU ends the name of a place at the first `]`: an image could make up a key of its own by it.
        let Some(at) = found.at.to_str().filter(|at| !at.contains(']')) else {
            let problem = format!("checkpoint: a mount on {}, whose name CRIU cannot take", show(&found.at));
            return Err(Error::host(Step::Criu, problem).hint("it has a `]`, or is no UTF-8"));
        };
        names.push(format!("mnt[{at}]:{}", external.key));
    }
    Ok(names)
}

/// A file of the host that the config binds, and what no mount of it may lack.
struct Bound {
    index: usize,
    device: String,
    root: PathBuf,
    flags: Vec<&'static str>,
}

/// Holds the mounts of a restored init against the config: what of the host is read-only there must not be writable.
pub fn check(plan: &Plan, pid: i32) -> Result<()> {
    let own = table("self")?;
    let (mut bound, mut devices) = (Vec::new(), vec![device_of(&own, &plan.rootfs.path)]);
    for mount in &plan.mounts {
        let MountKind::Bind { source, recursive } = &mount.kind else { continue };
        let mut flags = mount.attr.words();
        flags.extend(mount.recursive_attr.words());
        flags.retain(|word| ["ro", "nosuid", "nodev", "noexec", "nosymfollow"].contains(word));
        let subject = || format!("find {} (/mounts/{}/source)", show(source), mount.index);
        let file = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty()).err_at(
            Step::Criu,
            "open",
            subject,
        )?;
        let id = tree::mount_id(file.as_fd()).err_at(Step::Criu, "open", subject)?;
        let path = std::fs::canonicalize(source).err_at(Step::Criu, "readlink", subject)?;
        let Some(on) = own.iter().find(|mounted| mounted.id == id) else { continue };
        let below = own.iter().filter(|mounted| *recursive && mounted.at.starts_with(&path));
        devices.extend(below.chain([on]).map(|mounted| Some(mounted.device.clone())));
        let Ok(rest) = path.strip_prefix(&on.at) else { continue };
        bound.push(Bound { index: mount.index, device: on.device.clone(), root: on.root.join(rest), flags });
    }
    let masks: Vec<&Path> = plan.rootfs.masked_paths.iter().map(|path| path.as_path()).collect();
    let restored = table(&pid.to_string())?;
    if let Some((mounted, bound, flag)) = too_much(&restored, &bound, &masks) {
        let (at, index) = (show(&mounted.at), bound.index);
        let problem = format!("the mount on {at} of the image is not {flag}, but the config's is (/mounts/{index})");
        return Err(another(problem));
    }
    let admin = {
        let caps = &plan.process.capabilities;
        (caps.bounding | caps.permitted | caps.inheritable) & SYS_ADMIN != 0
    };
    let of_the_host = |mounted: &Mounted| {
        devices.iter().flatten().any(|device| *device == mounted.device) || masks.contains(&mounted.at.as_path())
    };
    if let Some(problem) = foreign(&restored, of_the_host, plan).filter(|_| !admin) {
        return Err(another(problem));
    }
    check_covered(plan, pid, &restored)
}

fn another(problem: String) -> Error {
    Error::host(Step::Criu, format!("restore: {problem}"))
        .hint("the image was not made from a container with this config.json, or it remounted it")
}

/// What the config masks is masked, and what it has read-only is.
fn check_covered(plan: &Plan, pid: i32, restored: &[Mounted]) -> Result<()> {
    let fd = namespaces::root_of(pid)?;
    let root = Root::new(&fd);
    let masked = plan.rootfs.masked_paths.iter().enumerate().map(|(index, path)| (true, index, path));
    let readonly = plan.rootfs.readonly_paths.iter().enumerate().map(|(index, path)| (false, index, path));
    for (mask, index, path) in masked.chain(readonly) {
        let pointer = if mask { "maskedPaths" } else { "readonlyPaths" };
        let subject = || format!("find {path} (/linux/{pointer}/{index})");
        let file = match root.open(path, OFlags::PATH) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(error).err_at(Step::Criu, "openat2", subject),
        };
        let stat = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
        let stat = stat.err_at(Step::Criu, "statx", subject)?;
        let id = tree::mount_id(file.as_fd()).err_at(Step::Criu, "open", subject)?;
        let mounted = restored.iter().find(|mounted| mounted.id == id);
        let covers = |mounted: &Mounted| match mask {
            false => mounted.has("ro"),
            // The host's /dev/null, or the empty directory.
            true if FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory => {
                mounted.fstype == "tmpfs" && mounted.has("ro")
            }
            true => (stat.stx_rdev_major, stat.stx_rdev_minor) == (1, 3),
        };
        let is_mount = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        if !(mounted.is_some_and(covers) && (is_mount || !mask)) {
            let what = if mask { "masked" } else { "read-only" };
            return Err(another(format!("{path} of the image is not {what} (/linux/{pointer}/{index})")));
        }
    }
    Ok(())
}

/// CAP_SYS_ADMIN (linux/capability.h): who has it may have mounted something.
const SYS_ADMIN: u64 = 1 << 21;

fn device_of(own: &[Mounted], path: &Path) -> Option<String> {
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty()).ok()?;
    let id = tree::mount_id(file.as_fd()).ok()?;
    own.iter().find(|mounted| mounted.id == id).map(|mounted| mounted.device.clone())
}

/// A file system of the kernel's, such as debugfs or a writable sysfs, that the config does not give in this way.
/// What is the host's is judged by its source.
fn foreign(restored: &[Mounted], of_the_host: impl Fn(&Mounted) -> bool, plan: &Plan) -> Option<String> {
    let gives = |mount: &Mount, mounted: &Mounted| match &mount.kind {
        // The config's `cgroup` is whatever the host has.
        MountKind::Fs { fstype, .. } => {
            let same = *fstype == mounted.fstype || fstype == "cgroup" && mounted.fstype == "cgroup2";
            same && (mounted.has("ro") || !mount.attr.words().contains(&"ro"))
        }
        _ => false,
    };
    let foreign = restored.iter().find(|mounted| {
        // Memory of its own harms nobody.
        !(mounted.fstype == "tmpfs" || of_the_host(mounted) || plan.mounts.iter().any(|mount| gives(mount, mounted)))
    })?;
    let (fstype, at) = (&foreign.fstype, show(&foreign.at));
    Some(format!("the {fstype} on {at} of the image is not one of the config's, or has not its flags"))
}

/// A mount of a bound file that has less flags than any bind of that file in the config gives it.
fn too_much<'t>(
    table: &'t [Mounted],
    bound: &'t [Bound],
    masks: &[&Path],
) -> Option<(&'t Mounted, &'t Bound, &'static str)> {
    table.iter().find_map(|mounted| {
        // The root is a bind of hull's, a mask one of /dev/null: both may lie in what the config binds.
        if mounted.at == Path::new("/") || masks.contains(&mounted.at.as_path()) {
            return None;
        }
        let shows = |bound: &&Bound| bound.device == mounted.device && mounted.root.starts_with(&bound.root);
        let lacks = |bound: &'t Bound| {
            let flag = bound.flags.iter().find(|flag| !mounted.has(flag));
            flag.map(|flag| (mounted, bound, *flag))
        };
        let all: Vec<_> = bound.iter().filter(shows).map(lacks).collect();
        // One that permits it is enough.
        if all.iter().any(Option::is_none) { None } else { all.into_iter().flatten().next() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "138 137 254:0 /b/rootfs / rw,relatime - ext4 /dev/vda rw\n\
                         139 138 254:0 /data/a\\040b /mnt ro,relatime - ext4 /dev/vda rw\n\
                         140 138 0:6 /null /proc/kcore rw,nosuid - devtmpfs udev rw\n\
                         141 138 254:0 /data/sub /own rw,nosuid - ext4 /dev/vda rw\n";

    fn bound(index: usize, root: &str, flags: &[&'static str]) -> Bound {
        Bound { index, device: "254:0".into(), root: root.into(), flags: flags.to_vec() }
    }

    #[test]
    fn lines() {
        let table = parse(TABLE.as_bytes());
        assert_eq!((table.len(), table[1].id, table[1].root.as_path()), (4, 139, Path::new("/data/a b")));
        assert_eq!((table[3].device.as_str(), table[3].fstype.as_str()), ("254:0", "ext4"));
        assert!(table[3].has("nosuid") && !table[3].has("ro"));
    }

    #[test]
    fn file_systems_that_the_config_does_not_give() {
        let json = r#"{"ociVersion":"1.0.0","root":{"path":"r"},"process":{"args":["x"],"cwd":"/"},"mounts":[
            {"destination":"/proc","type":"proc"},{"destination":"/sys","type":"sysfs","options":["ro"]},
            {"destination":"/dev/mqueue","type":"mqueue","options":["ro"]}],
            "linux":{"namespaces":[{"type":"mount"},{"type":"network"},{"type":"pid"}]}}"#;
        let spec: crate::spec::Spec<'_> = serde_json::from_str(json).unwrap();
        let host = crate::host::HostFacts::probe(&spec).unwrap();
        let plan = Plan::new(&spec, &host, &crate::plan::Options { id: "x".into(), ..Default::default() }).unwrap();
        let found = |line: &str| {
            let table = parse(format!("1 0 0:9 / / rw - ext4 /dev/vda rw\n{line}\n").as_bytes());
            foreign(&table, |mounted| mounted.device == "0:9", &plan).unwrap_or_default()
        };
        for fine in [
            "2 1 0:5 / /proc rw,nosuid - proc proc rw",
            "2 1 0:5 /sys /proc/sys ro - proc proc rw",
            "2 1 0:6 / /sys ro - sysfs sysfs rw",
            "2 1 0:7 / /dev/mqueue ro - mqueue mqueue rw",
            "2 1 0:8 / /anywhere rw - tmpfs tmpfs rw",
        ] {
            assert_eq!(found(fine), "", "{fine}");
        }
        assert!(found("2 1 0:6 / /sys rw - sysfs sysfs rw").contains("the sysfs on /sys"));
        assert!(found("2 1 0:6 / /x rw - debugfs debugfs rw").contains("the debugfs on /x"));
        assert!(found("2 1 254:0 / /x ro - ext4 /dev/vdb rw").contains("the ext4 on /x"));
    }

    #[test]
    fn what_the_config_has_read_only_is_read_only() {
        let table = parse(TABLE.as_bytes());
        let found = |bound: &[Bound]| {
            too_much(&table, bound, &[Path::new("/proc/kcore")])
                .map(|(mounted, bound, flag)| (mounted.at.to_string_lossy().into_owned(), bound.index, flag))
        };
        assert_eq!(found(&[bound(7, "/data/a b", &["ro"])]), None);
        assert_eq!(found(&[bound(7, "/data/a b", &["ro", "nosuid"])]), Some(("/mnt".into(), 7, "nosuid")));
        // Also where the image has it in another place, or a part of it.
        assert_eq!(found(&[bound(3, "/data", &["ro"])]), Some(("/own".into(), 3, "ro")));
        assert_eq!(found(&[bound(3, "/data/sub/deeper", &["ro"])]), None);
        // Unless the config binds it a second time, writable.
        assert_eq!(found(&[bound(3, "/data", &["ro"]), bound(4, "/data/sub", &["nosuid"])]), None);
        // The root file system is no mount of the config's.
        assert_eq!(found(&[bound(3, "/b", &["ro"])]), None);
    }
}
