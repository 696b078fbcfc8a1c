//! Space: disks and inodes that are full, and a state directory that became read-only.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{left, nothing_left, ok_or_says};
use crate::harness::{Case, Need, Output, Test, reap_orphans, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let root = |name, body| test(name, body).requires(Need::Root).requires(Need::Hull);
    vec![
        root("exhausted/a_full_state_directory", full_state_directory),
        root("exhausted/no_inodes_in_the_state_directory", no_inodes),
        root("exhausted/verbs_with_a_full_state_directory", verbs_with_a_full_directory),
        root("exhausted/a_read_only_state_directory", read_only),
        root("exhausted/a_pid_file_on_a_full_disk", pid_file_on_a_full_disk),
        test("exhausted/stdout_on_a_full_disk", stdout_on_a_full_disk).requires(Need::Hull),
    ]
}

/// Creates in state directories that have a little more each time, until one suffices.
fn create_in(case: &mut Case, options: impl Fn(u32) -> String) -> Result<()> {
    case.args(["sleep", "60"]);
    let mut sentences = HashSet::new();
    for step in 1..=20 {
        let tmpfs = Tmpfs::mount(&case.root(), &options(step))?;
        let output = case.try_create(&[])?;
        sentences.insert(output.stderr.clone());
        let made = ok_or_says(output, &["(ENOSPC)"]).with_context(|| options(step))?;
        if made {
            case.status_is("created")?;
            case.delete()?;
        }
        nothing_left(case, &options(step))?;
        drop(tmpfs);
        if made {
            // Space ran out at several places.
            ensure!(sentences.len() >= 3, "only {sentences:?}");
            return Ok(());
        }
    }
    bail!("no state directory was large enough: {sentences:?}")
}

fn full_state_directory(case: &mut Case) -> Result<()> {
    create_in(case, |step| format!("size={}k", 4 * step))
}

fn no_inodes(case: &mut Case) -> Result<()> {
    create_in(case, |step| format!("nr_inodes={step}"))
}

/// A container that is there can be used and removed.
fn verbs_with_a_full_directory(case: &mut Case) -> Result<()> {
    let tmpfs = Tmpfs::mount(&case.root(), "size=64k,nr_inodes=20")?;
    case.args(["sleep", "60"]).create()?;
    tmpfs.fill()?;
    case.verb(["start", &case.id])?.ok()?;
    case.status_is("running")?;
    case.verb(["exec", &case.id, "echo", "fine"])?.ok()?.stdout_is("fine\n")?;
    case.verb(["pause", &case.id])?.ok()?;
    case.status_is("paused")?;
    case.verb(["resume", &case.id])?.ok()?;
    case.verb(["list", "--quiet"])?.ok()?.stdout_has(&case.id)?;
    let bundle = case.bundle();
    let second = format!("{}-b", case.id);
    let output = case.verb(["create", "--bundle", &bundle.to_string_lossy(), &second])?;
    ensure!(!ok_or_says(output, &["(ENOSPC)"])?, "a second container fits into a full directory");
    ensure!(!case.root().join(&second).exists(), "the second left its state");
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    kernel::eventually("it stops", || case.status_is("stopped").is_ok())?;
    case.verb(["delete", &case.id])?.ok()?;
    drop(tmpfs);
    nothing_left(case, "after delete")
}

/// What needs no writing goes on; delete ends the container, says that its state stays, and runs poststop hooks once.
fn read_only(case: &mut Case) -> Result<()> {
    let tmpfs = Tmpfs::mount(&case.root(), "size=64k")?;
    let (ran, bundle) = (case.dir.join("poststop"), case.bundle());
    let bundle = bundle.to_string_lossy();
    let script = format!("echo ran >>{}", ran.display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    case.set("/hooks", json!({"poststop": [hook]})).args(["sleep", "60"]).up()?;
    let (waiting, third) = (format!("{}-b", case.id), format!("{}-c", case.id));
    case.verb(["create", "--bundle", &bundle, &waiting])?.ok()?;

    tmpfs.remount(true)?;
    let refused = |output: Output| -> Result<Output> { output.status(1)?.one_sentence()?.stderr_has("(EROFS)") };
    refused(case.verb(["create", "--bundle", &bundle, &third])?)?;
    case.status_is("running")?;
    case.verb(["list", "--quiet"])?.ok()?.stdout_has(&waiting)?;
    case.verb(["start", &waiting])?.ok()?;
    case.verb(["exec", &case.id, "echo", "fine"])?.ok()?.stdout_is("fine\n")?;
    case.verb(["pause", &case.id])?.ok()?;
    case.verb(["resume", &case.id])?.ok()?;
    case.verb(["kill", &waiting, "KILL"])?.ok()?;
    for _ in 0..2 {
        refused(case.verb(["delete", "--force", &case.id])?)?.stderr_has("its processes and cgroups are gone")?;
    }
    refused(case.verb(["delete", "--force", &waiting])?)?;
    let state = |what: &String| what.starts_with("state ");
    reap_orphans();
    let left: Vec<_> = left(case).into_iter().filter(|what| !state(what)).collect();
    ensure!(left.is_empty(), "left behind {left:?}");
    ensure!(!ran.exists(), "poststop hooks ran before the state could be removed");
    case.status_is("stopped")?;

    tmpfs.remount(false)?;
    case.verb(["delete", &case.id])?.ok()?;
    case.verb(["delete", &waiting])?.ok()?;
    ensure!(kernel::read(&ran)? == "ran\nran\n", "poststop hooks ran otherwise than once for each container");
    drop(tmpfs);
    nothing_left(case, "after delete")
}

fn pid_file_on_a_full_disk(case: &mut Case) -> Result<()> {
    let full = case.dir.join("full");
    let tmpfs = Tmpfs::mount(&full, "size=4k")?;
    tmpfs.fill()?;
    let file = full.join("pid");
    let options = ["--pid-file", &*file.to_string_lossy()];
    let names = || -> Result<Vec<_>> { fs::read_dir(&full)?.map(|entry| Ok(entry?.file_name())).collect() };
    let bundle = case.bundle();
    case.args(["sleep", "60"]).write_config()?;
    let create = ["create", "--bundle", &bundle.to_string_lossy(), options[0], options[1], &case.id];
    case.verb(create)?.refused()?.one_sentence()?.stderr_has("(ENOSPC)")?.stderr_has("the pid file")?;
    ensure!(names()? == [".full"], "create left {:?}", names()?);
    ensure!(!case.root().join(&case.id).exists(), "create left its state");
    let init = case.up()?;
    let exec = ["exec", "--detach", options[0], options[1], &case.id, "sleep", "50"];
    case.verb(exec)?.status(255)?.one_sentence()?.stderr_has("(ENOSPC)")?;
    ensure!(names()? == [".full"], "exec left {:?}", names()?);
    let members = kernel::processes_of(&case.id);
    ensure!(members == [init.pid], "exec left processes: {members:?}");
    drop(tmpfs);
    case.delete()
}

/// A verb whose answer cannot be printed has failed; one that has nothing to say has not.
fn stdout_on_a_full_disk(case: &mut Case) -> Result<()> {
    case.before = "exec >/dev/full".to_owned();
    case.args(["sleep", "60"]).up()?;
    for verb in [vec!["state", &case.id], vec!["list"], vec!["features"]] {
        case.verb(&verb)?.refused()?.one_sentence()?.stderr_has("(ENOSPC)")?;
    }
    // An error that cannot be written down is an error all the same.
    let log = ["--log", "/dev/full"];
    let bundle = case.bundle();
    case.verb(log.into_iter().chain(["create", "--bundle", &bundle.to_string_lossy(), &case.id]))?
        .status(1)?
        .stderr_has("already exists")?;
    case.delete()
}

/// A tmpfs of this kind, for as long as the value lives.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, options: &str) -> Result<Tmpfs> {
        fs::create_dir_all(at)?;
        let options = std::ffi::CString::new(options)?;
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", at, "tmpfs", flags, Some(options.as_c_str())).context("mount a tmpfs")?;
        Ok(Tmpfs(at.to_owned()))
    }

    fn remount(&self, readonly: bool) -> Result<()> {
        let flags = if readonly { rustix::mount::MountFlags::RDONLY } else { rustix::mount::MountFlags::empty() };
        rustix::mount::mount_remount(&self.0, flags, "").context("remount a tmpfs")
    }

    /// Fills it to the last byte.
    fn fill(&self) -> Result<()> {
        let block = [0u8; 4096];
        let mut file = fs::File::create(self.0.join(".full"))?;
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        Ok(())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
