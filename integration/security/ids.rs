//! Names: users of the image's passwd, container ids that are paths, helpers found through the caller's PATH.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Decoy, attack, escaped};
use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("security/CVE-2016-3697/a_user_whose_name_is_a_number", numeric_user).requires(Need::Root),
        test("security/CVE-2026-84042/helpers_are_the_hosts", helpers_are_the_hosts),
        test("security/CVE-2026-84042/helpers_are_the_hosts/userns", |case| {
            helpers_are_the_hosts(case.user_namespace()?)
        })
        .requires(Need::Root),
        test("security/ids/paths_are_no_ids", paths_are_no_ids),
        test("security/ids/links_in_the_state_directory", links_in_the_state_directory),
        test("security/ids/the_state_directory_is_the_owners", state_directory_is_the_owners),
        // Without pidfd_open a process is known by its start time, which two of one tick share.
        test("security/ids/a_recycled_pid_is_not_hit", recycled_pid_is_not_hit)
            .requires(Need::Hull)
            .requires(Need::Call("pidfd_open")),
    ]
}

/// The name "1000" is root's in the image: who asks for 1000 gets 1000, and the home of that number.
fn numeric_user(case: &mut Case) -> Result<()> {
    fs::write(
        case.rootfs().join("etc/passwd"),
        "1000:x:0:0::/home/wrong:/bin/sh\nroot:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/right:/bin/sh\n",
    )?;
    fs::write(case.rootfs().join("etc/group"), "1000:x:0:\nroot:x:0:\n")?;
    case.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [1000]}));
    let init = case.script("echo $HOME; echo up; sleep 60").up()?;
    init.wait_for("up")?;
    for field in ["Uid", "Gid"] {
        let ids = kernel::status(init.pid, field)?;
        if ids != "1000\t1000\t1000\t1000" {
            return escaped(format!("{field} is {ids:?}"));
        }
    }
    ensure!(kernel::status(init.pid, "Groups")? == "1000", "groups {:?}", kernel::status(init.pid, "Groups")?);
    ensure!(init.output()?.starts_with("/home/right\n"), "HOME is {:?}", init.output()?);
    case.delete()
}

/// Programs of these names come first in the caller's PATH and in the image: none of them runs.
fn helpers_are_the_hosts(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let evil = case.dir.join("evil");
    fs::create_dir(&evil)?;
    let names = ["newuidmap", "newgidmap", "criu", "ps", "systemctl", "mount", "sh", "nsenter", "cp"];
    for dir in [&evil, &case.rootfs().join("usr/bin"), &case.rootfs().join("sbin")] {
        fs::create_dir_all(dir)?;
        for name in names {
            let script = format!("#!/bin/busybox sh\necho {name} >>{}/ran\nexit 1\n", decoy.path.display());
            fs::write(dir.join(name), script)?;
            fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o755))?;
        }
    }
    let path = std::env::var("PATH").unwrap_or_default();
    case.env.push(("PATH".into(), format!("{}:{path}", evil.display())));
    case.args(["/bin/busybox", "sleep", "60"]);
    case.up()?;
    super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    for verb in ["state", "ps", "pause", "resume", "checkpoint"] {
        // Those that the runtime lacks, or cannot do here, fail; none may find a helper by PATH.
        let _ = case.verb([verb, &case.id])?;
    }
    case.delete()?;
    decoy.unchanged("a helper was found through PATH")
}

fn paths_are_no_ids(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let state = case.root().join("decoy");
    fs::create_dir_all(&state)?;
    fs::write(state.join("file"), "kept\n")?;
    case.write_config()?;
    let bundle = case.bundle().to_string_lossy().into_owned();
    let long = "x".repeat(2000);
    let up = format!("../{}", "decoy");
    for id in
        ["..", ".", "", "../decoy", "a/../../decoy", "/", "./decoy", "decoy/", "a\nb", "a b", "\u{fc}", &up, &long]
    {
        for verb in [
            vec!["create", "--bundle", &bundle, id],
            vec!["run", "--bundle", &bundle, id],
            vec!["state", id],
            vec!["start", id],
            vec!["kill", id, "KILL"],
            vec!["delete", id],
            vec!["delete", "--force", id],
        ] {
            super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let output = case.verb(&verb)?;
            decoy.unchanged(&format!("{verb:?}"))?;
            if !state.join("file").exists() {
                return escaped(format!("{verb:?} removed a directory"));
            }
            // A forced delete of what does not exist is forgiven, also if it cannot exist.
            ensure!(output.status != 0 || verb[1] == "--force", "{:?} was taken", &verb[..2]);
        }
    }
    fs::remove_dir_all(&state)?;
    Ok(())
}

/// Entries of the state directory that hull did not make: links are never followed out of it.
fn links_in_the_state_directory(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    case.args(["sleep", "60"]).up()?;
    symlink(&decoy.path, case.root().join("link"))?;
    let files = case.root().join("files");
    fs::create_dir(&files)?;
    for name in ["state.json", ".state.json", "config.json", "start.sock", "exec.fifo", "status", "notify.sock"] {
        symlink(decoy.path.join("secret"), files.join(name))?;
    }
    super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    for id in ["link", "files"] {
        for verb in [vec!["state", id], vec!["kill", id, "KILL"], vec!["start", id], vec!["delete", "--force", id]] {
            let _ = case.verb(&verb)?;
            decoy.unchanged(&format!("{verb:?}"))?;
        }
    }
    let _ = fs::remove_file(case.root().join("link"));
    let _ = fs::remove_dir_all(&files);
    let _ = case.verb(["list"])?;
    case.status_is("running")?;
    case.delete()
}

/// What others may do in the state directory of a container: walk through it, and nothing else.
fn state_directory_is_the_owners(case: &mut Case) -> Result<()> {
    case.before = "umask 0".to_owned();
    case.args(["sleep", "60"]).up()?;
    super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let dir = case.root().join(&case.id);
    let mut looked = 0;
    for path in [case.root(), dir.clone()].into_iter().chain(fs::read_dir(&dir)?.flatten().map(|entry| entry.path())) {
        let meta = fs::symlink_metadata(&path)?;
        looked += 1;
        if meta.mode() & 0o022 != 0 && !meta.file_type().is_symlink() {
            return escaped(format!("{} has mode {:o}", path.display(), meta.mode()));
        }
        ensure!(meta.uid() == rustix::process::geteuid().as_raw(), "{} is of {}", path.display(), meta.uid());
        // config.json may hold secrets in its environment.
        let secret = meta.is_file();
        ensure!(!secret || meta.mode() & 0o044 == 0, "{} can be read: {:o}", path.display(), meta.mode());
    }
    ensure!(looked >= 3, "only {looked} files to look at");
    case.delete()
}

/// The state names a pid that another process has by now: it is told by its pidfd's inode, or where the kernel has none by
/// its start time, and left alone.
fn recycled_pid_is_not_hit(case: &mut Case) -> Result<()> {
    for same_tick in [false, true] {
        recycled_pid(case, same_tick)?;
    }
    Ok(())
}

fn recycled_pid(case: &mut Case, same_tick: bool) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    init.wait()?;
    // Start times count in clock ticks of 10 ms, and the kernel gives a number again only after all others.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut bystander = std::process::Command::new("sleep").arg("60").spawn()?;
    let path = case.root().join(&case.id).join("state.json");
    let mut state: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    state["init"]["pid"] = json!(bystander.id());
    if same_tick && !state["init"]["pidfd_inode"].is_null() {
        let stat = kernel::read(format!("/proc/{}/stat", bystander.id()))?;
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        state["init"]["start_time"] = json!(fields.split(' ').nth(19).unwrap_or_default().parse::<u64>()?);
    }
    fs::write(&path, state.to_string())?;
    let mut verdict = Ok(());
    for verb in [
        vec!["exec", &case.id, "/bin/true"],
        vec!["pause", &case.id],
        vec!["kill", &case.id, "KILL"],
        vec!["kill", "--all", &case.id, "KILL"],
        vec!["delete", "--force", &case.id],
    ] {
        super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let output = case.verb(&verb)?;
        if verb[0] == "exec" && !output.stderr.contains("not running") {
            verdict = escaped(format!("exec went to a process that took over the number: {:?}", output.stderr));
            break;
        }
        if bystander.try_wait()?.is_some() {
            verdict = escaped(format!("{verb:?} hit a process that took over the number"));
            break;
        }
    }
    let _ = bystander.kill();
    bystander.wait()?;
    attack(case, &[], |_, _| Ok(()))?;
    verdict
}
