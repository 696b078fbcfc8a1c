//! `exec --tools` against the container: what it may do to the root of a program that comes in, and what it may see of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::capabilities;
use crate::harness::{Case, Need, Test, test};
use crate::kernel;
use crate::tools::{APPLETS, bare, root_with, with_tools};

pub fn cases() -> Vec<Test> {
    vec![
        test("security/tools/the_container_has_neither_mounts_nor_files_of_it", container_has_nothing_of_it),
        test("security/tools/are_read_only_for_root_of_the_container", read_only_for_root),
        test("security/tools/their_mounts_are_not_the_containers", mounts_are_not_the_containers).requires(Need::Root),
        test("security/tools/links_of_the_image", links_of_the_image),
    ]
    .into_iter()
    .map(|test| test.requires(Need::Hull).requires(Need::Verb("exec")))
    // Nothing older makes a tree that is attached nowhere.
    .map(|test| {
        ["open_tree", "move_mount", "mount_setattr"]
            .into_iter()
            .fold(test, |test, call| test.requires(Need::Call(call)))
    })
    .collect()
}

/// What lies in the root, and in its directory of programs.
fn names(root: &Path) -> Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for directory in [root.to_owned(), root.join("bin")] {
        for entry in fs::read_dir(directory)? {
            names.push(entry?.file_name());
        }
    }
    names.sort();
    Ok(names)
}

fn container_has_nothing_of_it(case: &mut Case) -> Result<()> {
    let (tools, init) = bare(case)?;
    let seen = || -> Result<_> {
        Ok((kernel::read(format!("/proc/{init}/mountinfo"))?, names(Path::new(&format!("/proc/{init}/root")))?))
    };
    let host = || kernel::read("/proc/self/mountinfo");
    let (before, hosts) = (seen()?, host()?);
    let running =
        case.spawn(["exec", "--tools", &tools.to_string_lossy(), &case.id, "sh", "-c", "echo up; sleep 600"])?;
    kernel::eventually("the program runs", || running.output().contains("up"))?;
    ensure!(seen()? == before, "the container has {:?}, and had {before:?}", seen()?);
    ensure!(host()? == hosts, "the host has {}, and had {hosts}", host()?);
    // It ends with the container.
    case.delete()?;
    running.wait(Duration::from_secs(30))?.status(137)?;
    Ok(())
}

/// Root of the container can look at the program through /proc as at its own, and so at the root that it has.
fn read_only_for_root(case: &mut Case) -> Result<()> {
    let tools = root_with(case, "tools", APPLETS)?;
    fs::write(tools.join("own"), "the host's")?;
    case.args(["sleep", "600"]).up()?;
    let running =
        case.spawn(["exec", "--tools", &tools.to_string_lossy(), &case.id, "sh", "-c", "echo up; sleep 600"])?;
    kernel::eventually("the program runs", || running.output().contains("up"))?;
    // Whatever becomes of each.
    let script = "for root in /proc/[0-9]*/root; do (echo gone >$root/own); rm $root/own; touch $root/new
        (echo >$root/bin/sh); mount -o remount,rw $root; done 2>&1; true";
    case.verb(["exec", &case.id, "sh", "-c", script])?.ok()?;
    let listing = names(&tools)?;
    ensure!(kernel::read(tools.join("own"))? == "the host's" && !tools.join("new").exists(), "ESCAPE: {listing:?}");
    ensure!(fs::metadata(tools.join("bin/sh"))?.len() > 0, "ESCAPE: {listing:?}");
    case.delete()?;
    running.wait(Duration::from_secs(30))?.status(137)?;
    Ok(())
}

/// Root of the container's user namespace has every capability there: over the mounts of the program it has none, neither as
/// that program nor when it goes to its mount namespace.
fn mounts_are_not_the_containers(case: &mut Case) -> Result<()> {
    let tools = root_with(case, "tools", &[APPLETS, &["mount", "umount", "nsenter", "seq"]].concat())?;
    fs::set_permissions(&tools, fs::Permissions::from_mode(0o777))?;
    case.user_namespace()?;
    let all = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_CHROOT", "CAP_DAC_OVERRIDE"];
    capabilities(&mut case.config, &all);
    case.args(["sleep", "600"]).up()?;
    let script = "for how in remount,rw remount,rw,bind remount,dev,suid,bind; do mount -o $how / && echo remounted; done 2>/dev/null
        umount -l /proc 2>/dev/null && echo unmounted; mount -t tmpfs none /bin 2>/dev/null && echo mounted; touch /new 2>/dev/null; true";
    let said = with_tools(case, &tools, script)?;
    ensure!(said.is_empty() && !tools.join("new").exists(), "ESCAPE: the program changed its mounts: {said:?}");
    let running =
        case.spawn(["exec", "--tools", &tools.to_string_lossy(), &case.id, "sh", "-c", "echo up; sleep 600"])?;
    kernel::eventually("the program runs", || running.output().contains("up"))?;
    let script = "own=$(readlink /proc/1/ns/mnt); for p in $(seq 2 80); do [ $(readlink /proc/$p/ns/mnt) = $own ] && continue
        nsenter --mount=/proc/$p/ns/mnt -- /bin/mount -o remount,bind,rw / && touch /proc/$p/root/new; done 2>/dev/null; true";
    case.verb(["exec", &case.id, "sh", "-c", script])?.ok()?;
    ensure!(!tools.join("new").exists(), "ESCAPE: the container made the tools' root writable");
    case.delete()?;
    running.wait(Duration::from_secs(30))?.status(137)?;
    Ok(())
}

/// What the image has in the place of /proc, /dev and /sys leads nowhere.
fn links_of_the_image(case: &mut Case) -> Result<()> {
    let root = case.dir.join("bare");
    fs::create_dir_all(root.join("bin"))?;
    fs::create_dir_all(root.join("dev"))?;
    fs::copy(case.rootfs().join("bin/busybox"), root.join("bin/sleep"))?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    let decoy = root.join("elsewhere");
    fs::create_dir_all(&decoy)?;
    fs::write(decoy.join("file"), "")?;
    symlink("/proc/self/fd/3", root.join("proc"))?;
    symlink("/elsewhere", root.join("sys"))?;
    case.set("/root/path", json!(root)).set("/mounts", json!([])).args(["sleep", "600"]);
    for paths in ["maskedPaths", "readonlyPaths"] {
        case.set(&format!("/linux/{paths}"), json!([]));
    }
    let tools = root_with(case, "tools", APPLETS)?;
    case.up()?;
    let said = with_tools(case, &tools, "ls /proc /sys; ls /proc/1/root; true")?;
    ensure!(said == "/proc:\n\n/sys:\n", "ESCAPE: {said:?}");
    case.delete()
}
