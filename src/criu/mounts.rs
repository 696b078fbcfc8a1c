//! The mounts of the host in a container: where they really are when it is written down, and whether they are what the
//! config says when it was restored. An image's links lead anywhere, and an image of CRIU's says what it likes: only the
//! kernel's table (proc_pid_mountinfo(5)) is asked.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, OFlags, StatxAttributes, StatxFlags};

use crate::error::{ErrAt, Error, Result, Step, show};
use crate::plan::Plan;
use crate::plan::criu::externals;
use crate::plan::mounts::MountKind;
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
    let text = std::fs::read_to_string(&path).err_at(Step::Criu, "open", || format!("read {path}"))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Vec<Mounted> {
    let line = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let [id, _, device, root, at, options, ..] = left[..] else { return None };
        Some(Mounted {
            id: id.parse().ok()?,
            device: device.into(),
            root: tree::stage::unescape(root).into(),
            at: tree::stage::unescape(at).into(),
            options: options.into(),
            fstype: right.split(' ').next()?.into(),
        })
    };
    text.lines().filter_map(line).collect()
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
        let at = found.at.to_string_lossy();
        // CRIU ends the name of a place at the first one of these: an image could make up a key of its own by it.
        if at.contains(']') {
            let problem = format!("checkpoint: a mount on {}, whose name CRIU cannot take", show(&found.at));
            return Err(Error::host(Step::Criu, problem).hint("it has a `]`"));
        }
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
    let mut bound = Vec::new();
    for mount in &plan.mounts {
        let MountKind::Bind { source, .. } = &mount.kind else { continue };
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
        let Ok(rest) = path.strip_prefix(&on.at) else { continue };
        bound.push(Bound { index: mount.index, device: on.device.clone(), root: on.root.join(rest), flags });
    }
    let masks: Vec<&Path> = plan.rootfs.masked_paths.iter().map(|path| path.as_path()).collect();
    let restored = table(&pid.to_string())?;
    match too_much(&restored, &bound, &masks) {
        None => Ok(()),
        Some((mounted, bound, flag)) => {
            let problem = format!(
                "restore: the mount on {} of the image is not {flag}, but the config's is (/mounts/{})",
                show(&mounted.at),
                bound.index
            );
            Err(Error::host(Step::Criu, problem)
                .hint("the image was not made from a container with this config.json, or it remounted it"))
        }
    }
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
        let table = parse(TABLE);
        assert_eq!((table.len(), table[1].id, table[1].root.as_path()), (4, 139, Path::new("/data/a b")));
        assert_eq!((table[3].device.as_str(), table[3].fstype.as_str()), ("254:0", "ext4"));
        assert!(table[3].has("nosuid") && !table[3].has("ro"));
    }

    #[test]
    fn what_the_config_has_read_only_is_read_only() {
        let table = parse(TABLE);
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
