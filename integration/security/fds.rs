//! Descriptors of the host's directories that a container could use: as its working directory, or by inheriting them.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Decoy, attack, attacker, escaped};
use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("security/CVE-2024-21626/the_cwd_is_a_descriptor", cwd_is_a_descriptor),
        test("security/CVE-2024-21626/the_cwd_is_a_descriptor/userns", |case| {
            cwd_is_a_descriptor(case.user_namespace()?)
        })
        .requires(Need::Root),
        test("security/CVE-2024-21626/directories_are_made_behind_a_descriptor", made_behind_descriptor),
        test("security/CVE-2024-21626/the_program_is_behind_a_descriptor", program_behind_descriptor),
        test("security/CVE-2026-78408/no_descriptor_leaks", no_descriptor_leaks).requires(Need::Tool("gcc")),
        test("security/CVE-2026-78408/no_descriptor_leaks/userns", |case| no_descriptor_leaks(case.user_namespace()?))
            .requires(Need::Root)
            .requires(Need::Tool("gcc")),
        test("security/runc-5474/preserve_fds_that_are_not_there", preserve_fds_that_are_not_there),
    ]
}

/// The numbers that a runtime's own descriptors could have; the caller's are among them, too.
fn cwd_is_a_descriptor(case: &mut Case) -> Result<()> {
    case.before = "exec 3</ 4</etc 5</".to_owned();
    for number in 3..=20 {
        for cwd in
            [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/etc"), format!("/proc/1/fd/{number}")]
        {
            case.set("/process/cwd", json!(cwd));
            let made = attack(case, &[], |pid, _| {
                let Some(pid) = pid else { return Ok(()) };
                let link = fs::read_link(format!("/proc/{pid}/cwd"))?;
                escaped(format!("cwd {cwd} was taken: {}", link.display()))
            })?;
            ensure!(!made, "cwd {cwd} was taken");
        }
    }
    Ok(())
}

/// A working directory that is missing is made: never beneath a directory of the host that is still open.
fn made_behind_descriptor(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let cgroups = || kernel::cgroups_named("hull-evil-directory");
    case.set("/root/readonly", json!(false));
    case.before = format!("exec 3<{0} 4<{0} 5<{0}", decoy.path.display());
    for number in 3..=20 {
        case.set("/process/cwd", json!(format!("/proc/self/fd/{number}/hull-evil-directory")));
        attack(case, &[], |_, _| {
            decoy.unchanged("a directory was made")?;
            let found = cgroups();
            found.iter().for_each(|path| drop(fs::remove_dir(path)));
            if !found.is_empty() {
                return escaped(format!("a cgroup was made on the host: {found:?}"));
            }
            if fs::exists(case.root().join(&case.id).join("hull-evil-directory"))? {
                return escaped("a directory was made in the state directory");
            }
            Ok(())
        })?;
        let stray = case.root().join(&case.id).join("hull-evil-directory");
        if stray.exists() {
            let _ = fs::remove_dir(&stray);
            return escaped("a directory was made in the state directory");
        }
    }
    Ok(())
}

/// The program's own path leads through a descriptor to a file of the host: it is not executed.
fn program_behind_descriptor(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    fs::copy(case.rootfs().join("bin/busybox"), case.dir.join("sh"))?;
    fs::set_permissions(case.dir.join("sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    case.before = format!("exec 3<{0} 4<{0} 5<{0}", case.dir.display());
    for number in 3..=20 {
        case.args([&format!("/proc/self/fd/{number}/sh"), "-c", "echo escaped"]);
        super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let output = case.run()?;
        if output.stdout.contains("escaped") {
            return escaped(format!("a program of the host ran by descriptor {number}"));
        }
        ensure!(output.status != 0, "it gave status 0");
    }
    decoy.unchanged("a program behind a descriptor")
}

fn no_descriptor_leaks(case: &mut Case) -> Result<()> {
    attacker(case)?;
    // The caller's own descriptors, one of them a directory of cgroups, are not for the container.
    case.before = "exec 3</ 7</sys/fs/cgroup 9</etc/passwd".to_owned();
    super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let output = case.args(["attacker", "fds"]).run()?.ok()?;
    if output.stdout != "done\n" {
        return escaped(format!("the program has {:?}", output.stdout));
    }
    let init = case.args(["sleep", "60"]).up()?;
    let mut numbers: Vec<_> = fs::read_dir(format!("/proc/{}/fd", init.pid))?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    numbers.sort();
    ensure!(numbers == ["0", "1", "2"], "the program has {numbers:?}");
    case.delete()
}

/// Also runc 1.5.2: numbers that were not passed are the runtime's own by then.
fn preserve_fds_that_are_not_there(case: &mut Case) -> Result<()> {
    for (before, count) in
        [("", "3"), ("exec 3</dev/null", "3"), ("exec 4</dev/null", "1"), ("exec 3</dev/null", "250")]
    {
        case.before = before.to_owned();
        let made = attack(case, &["--preserve-fds", count], |pid, output| {
            let Some(pid) = pid else {
                ensure!(output.stderr.to_lowercase().contains("fd"), "it says {:?}", output.stderr);
                return Ok(());
            };
            let open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten().collect();
            escaped(format!("--preserve-fds={count} with {before:?} gave {} descriptors", open.len()))
        })?;
        ensure!(!made, "it was taken");
    }
    // One that is there reaches the program, and it is the very one.
    let file = case.dir.join("passed");
    fs::write(&file, "passed\n")?;
    case.before = format!("exec 3<{} 4</", file.display());
    let bundle = case.bundle();
    case.args(["sleep", "60"]).write_config()?;
    let pid_file = case.dir.join("pid");
    case.verb([
        "run",
        "-d",
        "--preserve-fds",
        "1",
        "--pid-file",
        &pid_file.to_string_lossy(),
        "--bundle",
        &bundle.to_string_lossy(),
        &case.id,
    ])?
    .ok()?;
    let pid = case.pid()?;
    let passed = fs::metadata(format!("/proc/{pid}/fd/3"))?;
    ensure!(passed.ino() == fs::metadata(&file)?.ino(), "descriptor 3 is another file");
    ensure!(!fs::exists(format!("/proc/{pid}/fd/4"))?, "descriptor 4 came along");
    case.delete()
}
