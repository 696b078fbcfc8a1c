//! What engines take a failure for, by the words that they match (`matched.rs`): each of these failures happens, and what each
//! engine would make of the sentence in the log, which is what it reads, is compared.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Test, test};
use crate::matched::Meaning::{self, Mount, NoContainer, NoProgram, NotExecutable, Stopped};
use crate::matched::taken_for;

pub fn cases() -> Vec<Test> {
    vec![
        test("engines/tell_a_missing_program", tell_a_missing_program),
        test("engines/tell_a_program_that_cannot_be_executed", tell_a_program_that_cannot_be_executed)
            .peer("crun", "says EPERM of a directory"),
        test("engines/tell_a_program_without_its_interpreter", tell_a_program_without_its_interpreter)
            .peer("*", "start succeeds, and what was wrong is in the container's stderr alone"),
        test("engines/take_no_other_failure_for_the_programs", take_no_other_failure_for_the_programs)
            .peer("*", "a missing controller, CRIU or bus is ENOENT to it"),
        test("engines/take_what_is_missing_on_the_host_as_with_runc", take_what_is_missing_on_the_host_as_with_runc)
            .peer("crun", "does not say what a missing hook is"),
        test("engines/tell_a_mount_on_the_wrong_kind_of_file", tell_a_mount_on_the_wrong_kind_of_file),
        test("engines/tell_stopped_from_missing", tell_stopped_from_missing)
            .peer("crun", "says ENOENT of a file of its own"),
        test("engines/find_an_option_of_restore", find_an_option_of_restore).requires(Need::Verb("restore")),
    ]
}

/// The message of the last error in the log of a command that failed.
fn message(case: &Case, args: &[&str]) -> Result<String> {
    let log = case.dir.join("engine.log");
    let _ = fs::remove_file(&log);
    let path = log.to_string_lossy().into_owned();
    let output = case.verb(["--log", &path, "--log-format", "json"].iter().chain(args))?;
    ensure!(output.status != 0, "{args:?} did not fail");
    let text = fs::read_to_string(&log).with_context(|| format!("no log; stderr is {:?}", output.stderr))?;
    let mut last = None;
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).with_context(|| format!("{line:?} is no JSON"))?;
        if entry["level"] == "error" {
            last = entry["msg"].as_str().map(str::to_owned);
        }
    }
    last.with_context(|| format!("no error in the log {text:?}"))
}

fn message_of_run(case: &Case) -> Result<String> {
    case.write_config()?;
    let bundle = case.bundle();
    message(case, &["run", "--bundle", &bundle.to_string_lossy(), &case.id])
}

/// What docker, dockerd and podman say of the program.
fn all_take_it_for(text: &str, meaning: Option<Meaning>) -> Result<()> {
    for engine in ["docker", "dockerd", "podman"] {
        let taken = taken_for(engine, text);
        ensure!(taken == meaning, "{engine} takes {text:?} for {taken:?}, not for {meaning:?}");
    }
    Ok(())
}

fn tell_a_missing_program(case: &mut Case) -> Result<()> {
    for program in ["nosuch", "/no/such"] {
        let text = message_of_run(case.args([program]))?;
        // dockerd looks for the name of the program too.
        ensure!(text.contains(program), "{text:?} does not name {program}");
        all_take_it_for(&text, Some(NoProgram))?;
    }
    Ok(())
}

fn tell_a_program_that_cannot_be_executed(case: &mut Case) -> Result<()> {
    fs::write(case.rootfs().join("data"), "#!/bin/sh\n")?;
    for program in ["/data", "/etc"] {
        all_take_it_for(&message_of_run(case.args([program]))?, Some(NotExecutable))?;
    }
    Ok(())
}

fn tell_a_program_without_its_interpreter(case: &mut Case) -> Result<()> {
    let path = case.rootfs().join("script");
    fs::write(&path, "#!/bin/nosuch\r\n")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    case.args(["/script"]).create()?;
    all_take_it_for(&message(case, &["start", &case.id])?, Some(NoProgram))?;
    case.delete()
}

/// Where runc does not say ENOENT either, or says it only because it looks no closer.
fn take_no_other_failure_for_the_programs(case: &mut Case) -> Result<()> {
    let good = case.args(["sleep", "60"]).config.clone();
    let root = rustix::process::geteuid().is_root();
    let hook = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 127"]}]});
    let notify = json!({"defaultAction": "SCMP_ACT_ALLOW",
                        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    for (pointer, value) in [
        ("/process/rlimits", json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}])),
        ("/process/cwd", json!("relative")),
        ("/process/args", json!("no list")),
        ("/hooks", hook),
        ("/linux/seccomp", notify),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOSUCH"})),
        ("/linux/namespaces/0/type", json!("nosuch")),
        ("/linux/resources/unified", json!({"nosuch.max": "1"})),
    ] {
        if !root && pointer.starts_with("/linux/resources") {
            continue;
        }
        case.config = good.clone();
        let text = message_of_run(case.set(pointer, value))?;
        all_take_it_for(&text, None).with_context(|| pointer.to_owned())?;
    }
    case.config = good;
    if !Path::new("/run/systemd/system").exists() {
        case.write_config()?;
        let bundle = case.bundle();
        let args = ["--systemd-cgroup", "run", "--bundle", &bundle.to_string_lossy(), &case.id];
        all_take_it_for(&message(case, &args)?, None)?;
    }
    case.up()?;
    let images = case.dir.join("images").to_string_lossy().into_owned();
    for args in [
        &["start", &case.id][..],
        &["resume", &case.id],
        &["delete", &case.id],
        &["kill", &case.id, "NOSUCH"],
        &["exec", "--nosuch", &case.id, "true"],
        &["create", "--bundle", &case.bundle().to_string_lossy(), &case.id],
    ] {
        let text = message(case, args)?;
        all_take_it_for(&text, None)?;
        for engine in ["containerd's kill", "containerd's delete", "CRI-O", "dockerd's tasks"] {
            ensure!(taken_for(engine, &text).is_none(), "{engine} takes {text:?} for a container that is gone");
        }
    }
    let no_criu = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .all(|directory| !Path::new(directory).join("criu").exists());
    if root && no_criu {
        all_take_it_for(&message(case, &["checkpoint", "--image-path", &images, &case.id])?, None)?;
    }
    case.delete()
}

/// ENOENT, as everywhere: users know what their engine makes of it, and the sentence names the file.
fn take_what_is_missing_on_the_host_as_with_runc(case: &mut Case) -> Result<()> {
    let good = case.args(["true"]).config.clone();
    let notify = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": case.dir.join("nosuch"),
                        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    for (pointer, value) in [
        ("/mounts/0", json!({"destination": "/mnt", "type": "bind", "source": "/nosuch", "options": ["bind"]})),
        ("/hooks", json!({"createRuntime": [{"path": "/nosuch"}]})),
        ("/linux/namespaces/0/path", json!("/nosuch")),
        ("/linux/seccomp", notify),
    ] {
        case.config = good.clone();
        let text = message_of_run(case.set(pointer, value))?;
        ensure!(text.contains("nosuch"), "{text:?} does not name what is missing");
        ensure!(taken_for("podman", &text) == Some(NoProgram), "podman takes {text:?} for something else");
    }
    Ok(())
}

fn tell_a_mount_on_the_wrong_kind_of_file(case: &mut Case) -> Result<()> {
    let file = case.dir.join("file");
    fs::write(&file, "")?;
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": file, "options": ["bind"]}));
    let text = message_of_run(case)?;
    ensure!(taken_for("dockerd", &text) == Some(Mount), "dockerd takes {text:?} for something else");
    Ok(())
}

fn tell_stopped_from_missing(case: &mut Case) -> Result<()> {
    let init = case.args(["true"]).up()?;
    init.wait()?;
    let text = message(case, &["kill", &case.id, "9"])?;
    for engine in ["containerd's kill", "CRI-O"] {
        let taken = taken_for(engine, &text);
        ensure!(taken == Some(Stopped), "{engine} takes {text:?} for {taken:?}");
    }
    case.delete()?;
    for args in [
        &["kill", &case.id, "9"][..],
        &["delete", &case.id],
        &["exec", &case.id, "true"],
        &["start", &case.id],
        &["pause", &case.id],
        &["state", &case.id],
    ] {
        let text = message(case, args)?;
        for engine in ["containerd's kill", "containerd's delete", "podman's state", "dockerd's tasks"] {
            let taken = taken_for(engine, &text);
            ensure!(taken == Some(NoContainer), "{engine} takes {text:?} for {taken:?}");
        }
    }
    case.verb(["delete", "--force", &case.id])?.ok().map(drop)
}

fn find_an_option_of_restore(case: &mut Case) -> Result<()> {
    let output = case.verb(["restore", "--lsm-mount-context"])?;
    let said = format!("{}{}", output.stdout, output.stderr);
    ensure!(taken_for("podman's probe", &said).is_some(), "podman does not find the option in {said:?}");
    Ok(())
}
