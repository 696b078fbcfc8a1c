//! Attacks: one case for each public advisory of a container runtime, named after it, and for the promises of
//! SECURITY.md. The attacker writes the image and the program, shares a volume with a second container that swaps what
//! lies in it, and has whatever capabilities its config gives. The host is the judge: decoy files, mountinfo,
//! /proc/PID/status. What a runtime does with an attack is its choice: to refuse it, or to do what was asked.
//!
//! Races run a bounded number of rounds: HULL_TEST_ROUNDS, 6 unless told.

mod dev;
mod devices;
mod exec;
mod executable;
mod fds;
mod ids;
mod input;
mod mounts;
mod peers;
mod places;
mod proc;
mod readonly;
mod restored;
mod sockets;
mod tools;
mod trace;
mod userns;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};

use crate::harness::{Case, Output, Test};
use crate::kernel;

static ATTACKS: AtomicU64 = AtomicU64::new(0);
static SWAPS: AtomicU64 = AtomicU64::new(0);
static ESCAPES: AtomicU64 = AtomicU64::new(0);

pub fn cases() -> Vec<Test> {
    [
        dev::cases(),
        devices::cases(),
        exec::cases(),
        executable::cases(),
        fds::cases(),
        ids::cases(),
        input::cases(),
        mounts::cases(),
        places::cases(),
        proc::cases(),
        readonly::cases(),
        restored::cases(),
        sockets::cases(),
        tools::cases(),
        trace::cases(),
        userns::cases(),
    ]
    .into_iter()
    .flatten()
    .map(peers::note)
    .collect()
}

/// What the attacks of this run came to; None if there were none.
pub fn report() -> Option<String> {
    let [attacks, swaps, escapes] = [&ATTACKS, &SWAPS, &ESCAPES].map(|count| count.load(Ordering::Relaxed));
    (attacks > 0).then(|| format!("security: {attacks} attacks tried, {swaps} swaps raced, {escapes} escapes"))
}

/// How often a race is tried.
fn rounds() -> u32 {
    std::env::var("HULL_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// Something on the host was reached.
fn escaped<T>(what: impl std::fmt::Display) -> Result<T> {
    ESCAPES.fetch_add(1, Ordering::Relaxed);
    bail!("ESCAPE: {what}")
}

/// One attack: a `create` that may succeed or refuse, judged in both cases; then nothing of it may be left.
fn attack(case: &Case, options: &[&str], judge: impl FnOnce(Option<i32>, &Output) -> Result<()>) -> Result<bool> {
    ATTACKS.fetch_add(1, Ordering::Relaxed);
    let output = case.try_create(options)?;
    let made = output.status == 0;
    if !made {
        ensure!(output.status == 1, "create gave status {}: {:?}", output.status, output.stderr);
        ensure!(!output.stderr.trim().is_empty(), "create failed without a word");
    }
    // An ordinary user may not look into an init that is not dumpable: then only the host's files are the judge.
    let pid = if made && rustix::process::geteuid().is_root() { Some(case.pid()?) } else { None };
    let verdict = judge(pid, &output).and_then(|()| match pid {
        Some(pid) => inside(case, pid),
        None => Ok(()),
    });
    if made {
        case.delete()?;
    }
    verdict.map(|()| made)
}

/// The container's root is its rootfs, and no mount of it shows the host's root.
fn inside(case: &Case, pid: i32) -> Result<()> {
    let identity = |path: &str| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let root = format!("/proc/{pid}/root/");
    let rootfs = identity(&case.rootfs().to_string_lossy())?;
    if identity(&root)? != rootfs {
        return escaped("the container's root is not its rootfs");
    }
    let host = identity("/")?;
    for mount in kernel::mounts(pid)? {
        if identity(&format!("{root}{}", mount.target.trim_start_matches('/'))).is_ok_and(|found| found == host) {
            return escaped(format!("the host's root is mounted on {} of the container", mount.target));
        }
    }
    Ok(())
}

/// Files of the host that nobody may touch.
struct Decoy {
    path: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Decoy {
    /// A directory beside the bundle, which a container has no way to.
    fn new(case: &Case) -> Result<Decoy> {
        let path = case.dir.join("decoy");
        fs::create_dir_all(path.join("below"))?;
        fs::write(path.join("secret"), "of the host\n")?;
        fs::write(path.join("null"), "of the host\n")?;
        fs::write(path.join("below/file"), "of the host\n")?;
        // Open to everyone, so that a runtime that comes by meets no obstacle.
        for path in [path.clone(), path.join("below"), path.join("secret"), path.join("null")] {
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        }
        let before = Decoy::look(&path)?;
        Ok(Decoy { path, before })
    }

    /// One without the names that are in /dev: what would be made there is not refused for what is there already.
    fn bare(case: &Case) -> Result<Decoy> {
        let Decoy { path, .. } = Decoy::new(case)?;
        fs::remove_file(path.join("null"))?;
        let before = Decoy::look(&path)?;
        Ok(Decoy { path, before })
    }

    fn look(path: &Path) -> Result<BTreeMap<PathBuf, String>> {
        let mut found = BTreeMap::new();
        let meta = fs::symlink_metadata(path)?;
        let content = if meta.is_file() { fs::read_to_string(path)? } else { String::new() };
        let looks = format!("mode {:o}, {}:{}, inode {}, {content:?}", meta.mode(), meta.uid(), meta.gid(), meta.ino());
        found.insert(path.to_owned(), looks);
        if meta.is_dir() {
            for entry in fs::read_dir(path)? {
                found.extend(Decoy::look(&entry?.path())?);
            }
        }
        Ok(found)
    }

    fn unchanged(&self, what: &str) -> Result<()> {
        let now = Decoy::look(&self.path)?;
        if now == self.before {
            return Ok(());
        }
        let differs: Vec<_> = now
            .iter()
            .filter(|(path, looks)| self.before.get(*path) != Some(looks))
            .chain(self.before.iter().filter(|(path, _)| !now.contains_key(*path)))
            .collect();
        escaped(format!("{what}: the host's files changed: {differs:?}"))
    }
}

/// A thread that exchanges two directory entries as fast as it can, as a second container does in a shared volume.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Swapper {
    fn start(one: PathBuf, other: PathBuf) -> Swapper {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !told.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
                count += 1;
            }
            count
        });
        Swapper { stop, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(count) = self.thread.take().and_then(|thread| thread.join().ok()) {
            SWAPS.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// Leaves out every mount at or beneath a directory.
fn without_mounts(case: &mut Case, prefix: &str) {
    case.edit(|config| {
        let list = config["mounts"].as_array_mut().expect("mounts are a list");
        list.retain(|mount| !mount["destination"].as_str().is_some_and(|path| path.starts_with(prefix)));
    });
}

/// Gives the program these capabilities, in all sets but the ambient one.
fn capabilities(config: &mut Value, names: &[&str]) {
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set] = json!(names);
    }
}

/// A race may end in nothing but refusals. Then the same create must work where nothing is swapped: else all were refused
/// for another reason, and nothing was tried.
fn refused_for_the_swap_alone(case: &Case, made: u32) -> Result<()> {
    if made == 0 {
        ensure!(attack(case, &[], |_, _| Ok(()))?, "every one of the creates was refused, one without a swap, too");
    }
    Ok(())
}

/// Puts the hostile program into the rootfs, as /bin/attacker.
fn attacker(case: &Case) -> Result<()> {
    static BINARY: OnceLock<std::result::Result<Vec<u8>, String>> = OnceLock::new();
    let binary = BINARY.get_or_init(|| compile(&case.dir.join("compile")).map_err(|error| format!("{error:#}")));
    let bytes = binary.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let path = case.rootfs().join("bin/attacker");
    fs::write(&path, bytes)?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

fn compile(dir: &Path) -> Result<Vec<u8>> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("attacker.c"), include_str!("attacker.c"))?;
    let output = Command::new("gcc").current_dir(dir).args(["-static", "-O1", "-o", "attacker", "attacker.c"]).output();
    let output = output.context("gcc")?;
    ensure!(output.status.success(), "gcc: {}", String::from_utf8_lossy(&output.stderr));
    Ok(fs::read(dir.join("attacker"))?)
}

/// Writes a second bundle on the same rootfs beside the first; gives its path and a second id.
fn second(case: &Case, change: impl FnOnce(&mut Value)) -> Result<(String, String)> {
    Ok((case.bundle_beside("second", change)?, format!("{}-b", case.id)))
}

/// Makes the namespaces of these types in `config` those of a process.
fn share(config: &mut Value, pid: i32, kinds: &[(&str, &str)]) {
    let list = config["linux"]["namespaces"].as_array_mut().expect("namespaces are a list");
    for (kind, file) in kinds {
        list.retain(|namespace| namespace["type"] != *kind);
        list.push(json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}));
    }
}
