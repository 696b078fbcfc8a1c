//! What the kernel says about a process: /proc/PID/status, mountinfo, cgroup, namespaces. The runtime is never asked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A line of /proc/PID/mountinfo, as far as cases look at it.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Unique while the mount is there (statx(2), STATX_MNT_ID).
    pub id: u64,
    pub root: String,
    pub target: String,
    pub options: Vec<String>,
    /// `shared:N`, `master:N`, `unbindable`; empty for a private mount.
    pub propagation: Vec<String>,
    pub fstype: String,
    pub super_options: Vec<String>,
}

impl Mount {
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|have| have == option)
    }
}

/// The mounts that a process sees.
pub fn mounts(pid: i32) -> Result<Vec<Mount>> {
    parse_mountinfo(&read(format!("/proc/{pid}/mountinfo"))?)
}

pub fn parse_mountinfo(text: &str) -> Result<Vec<Mount>> {
    let commas = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    text.lines()
        .map(|line| {
            let (left, right) = line.split_once(" - ").context("mountinfo without a separator")?;
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            Ok(Mount {
                id: left[0].parse()?,
                root: left[3].to_owned(),
                target: left[4].to_owned(),
                options: commas(left[5]),
                propagation: left[6..].iter().map(|word| (*word).to_owned()).collect(),
                fstype: right[0].to_owned(),
                super_options: commas(right[2]),
            })
        })
        .collect()
}

/// The topmost mount at `target` in the mount namespace of `pid`.
pub fn mount_at(pid: i32, target: &str) -> Result<Mount> {
    let found = mounts(pid)?.into_iter().rfind(|mount| mount.target == target);
    found.with_context(|| format!("nothing is mounted on {target} for pid {pid}"))
}

/// One field of /proc/PID/status.
pub fn status(pid: i32, field: &str) -> Result<String> {
    field_of(&read(format!("/proc/{pid}/status"))?, field)
}

/// One field of a text of the form of /proc/PID/status.
pub fn field_of(text: &str, field: &str) -> Result<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("no {field} in {text:?}"))?.trim().to_owned())
}

/// The identity of a namespace, as `pid:[4026531836]`.
pub fn namespace(pid: i32, kind: &str) -> Result<String> {
    let path = format!("/proc/{pid}/ns/{kind}");
    let link = fs::read_link(&path).with_context(|| path)?;
    Ok(link.to_string_lossy().into_owned())
}

/// The directories of a process's cgroup by controller; the v2 one has the name `unified`.
pub fn cgroups(pid: i32) -> Result<BTreeMap<String, PathBuf>> {
    let v2_only = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let mut dirs = BTreeMap::new();
    for line in read(format!("/proc/{pid}/cgroup"))?.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or("/"));
        let path = path.trim_start_matches('/');
        if names.is_empty() {
            let mount = if v2_only { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/unified" };
            dirs.insert("unified".to_owned(), Path::new(mount).join(path));
        }
        for name in names.split(',').filter(|name| !name.is_empty()) {
            let name = name.trim_start_matches("name=");
            let mount = Path::new("/sys/fs/cgroup").join(name);
            // Hierarchies that exist but are not mounted here cannot be looked at.
            if mount.is_dir() {
                dirs.insert(name.to_owned(), mount.join(path));
            }
        }
    }
    Ok(dirs)
}

/// All cgroup directories, in any hierarchy, whose name contains `word`.
pub fn cgroups_named(word: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, word: &str, depth: u32, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            if depth > 0 {
                walk(&path, word, depth - 1, found);
            }
            // Children come before their parents, the order in which they can be removed.
            if path.to_string_lossy().contains(word) && is_cgroup(&path) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), word, 8, &mut found);
    found
}

/// Whether the directory is on cgroup v1 or v2, and not merely a directory of the tmpfs that holds their mount points.
fn is_cgroup(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| matches!(fs.f_type as u64, 0x27_e0eb | 0x6367_7270))
}

/// The processes that belong to a container: its id is in their cgroup, their command line or their environment.
pub fn processes_of(id: &str) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id() as i32;
    let mut found = Vec::new();
    for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let mentions = ["cgroup", "cmdline", "environ"].iter().any(|file| {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            bytes.windows(id.len()).any(|window| window == id.as_bytes())
        });
        if mentions && pid != own && alive(pid) {
            found.push(pid);
        }
    }
    found
}

/// The processes of a container in order, once there are `count`: one that is in the middle of an exec shows no environment.
pub fn processes_when(id: &str, count: usize) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    eventually(&format!("{count} processes of {id}"), || {
        found = processes_of(id);
        found.len() == count
    })?;
    found.sort_unstable();
    Ok(found)
}

/// Whether the process exists and has not exited.
pub fn alive(pid: i32) -> bool {
    state_of(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// The state letter of a process.
pub fn state_of(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The parent of a process.
pub fn parent_of(pid: i32) -> Result<i32> {
    Ok(status(pid, "PPid")?.parse()?)
}

pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Waits for something that must come true, with an end.
pub fn eventually(what: &str, mut happens: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !happens() {
        if Instant::now() > deadline {
            bail!("{what}: not within 10 seconds");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
