//! Words of runc and crun that engines and scripts look for in what a runtime says, each with a sentence of hull's around it.
//! A reason that only one of them has such words is noted with the case. What each word means to which engine is in
//! `engines.rs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::cgroups::v2_only;
use crate::harness::{Case, Need, Test, forget_child, spawn_child, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("words/a_hook_is_named_by_kind_and_number", a_hook_is_named_by_kind_and_number)
            .peer("runc", "1.1 does not say the kind")
            .peer("crun", "says neither kind nor number"),
        test("words/why_a_program_was_not_executed", why_a_program_was_not_executed)
            .peer("crun", "words of its own: exec container process"),
        test("words/why_a_program_was_not_found", why_a_program_was_not_found)
            .peer("crun", "words of its own: open executable"),
        test("words/what_is_wrong_with_a_file", what_is_wrong_with_a_file).requires(Need::Hull),
        test("words/a_directory_is_no_program", a_directory_is_no_program).peer("crun", "says EPERM"),
        test("words/a_directory_on_a_file", a_directory_on_a_file),
        test("words/proc_and_sys_are_ordinary_directories", proc_and_sys_are_ordinary_directories)
            .peer("crun", "words of its own: the target is invalid"),
        test("words/unified_on_v1", unified_on_v1)
            .requires(Need::Root)
            .requires(Need::CgroupV1)
            .peer("crun", "leaves its cgroups"),
        test("words/a_controller_that_is_missing", a_controller_that_is_missing)
            .requires(Need::Root)
            .requires(Need::CgroupV2)
            .peer("crun", "looks for no controller of this name"),
        test("words/a_cgroup_with_processes", a_cgroup_with_processes)
            .requires(Need::Root)
            .peer("runc", "1.1 warns and shares it")
            .peer("crun", "shares it"),
        test("words/a_frozen_cgroup", a_frozen_cgroup).requires(Need::Root).peer("crun", "hangs"),
        test("words/cgroups_of_an_ordinary_user", cgroups_of_an_ordinary_user)
            .requires(Need::Rootless)
            .peer("*", "says permission denied alone"),
        test("words/memory_policy", memory_policy)
            .peer("runc", "1.1 knows no memory policy")
            .peer("crun", "1.8 knows no memory policy"),
        test("words/exec_leads_out_of_the_cgroup", exec_leads_out_of_the_cgroup)
            .requires(Need::Root)
            .peer("crun", "1.8 has no --cgroup"),
        test("words/no_seccomp_agent", no_seccomp_agent)
            .peer("crun", "takes no path for no agent, and has other words"),
        test("words/parent_path", parent_path).requires(Need::Verb("checkpoint")).requires(Need::Root),
        test("words/exec_while_the_container_goes", exec_while_the_container_goes)
            .peer("*", "says what call failed and not why"),
        test("words/no_systemd", no_systemd).peer("crun", "goes on without"),
    ]
}

/// Makes a program of the rootfs.
fn program(case: &Case, name: &str, content: &[u8]) -> Result<()> {
    let path = case.rootfs().join(name);
    fs::write(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(Into::into)
}

/// The program is refused, with each of these words.
fn refused_with(case: &Case, words: &[&str]) -> Result<()> {
    let output = case.run()?.refused()?;
    // runc's stderr has each quotation mark escaped; its log, which engines read, has not.
    let said = output.stderr.replace("\\\"", "\"").to_lowercase();
    for word in words {
        ensure!(said.contains(&word.to_lowercase()), "it said {said:?} without {word:?}");
    }
    Ok(())
}

fn a_hook_is_named_by_kind_and_number(case: &mut Case) -> Result<()> {
    let bad = |script: &str| json!([{"path": "/bin/true"}, {"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    case.args(["true"]);
    for kind in ["prestart", "createRuntime", "createContainer"] {
        case.set("/hooks", json!({kind: bad("echo its words >&2; exit 3")}));
        let number = format!("error running {kind} hook #1: ");
        refused_with(case, &[&number, "exit status 3", "its words"])?;
    }
    case.set("/hooks", json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "9"], "timeout": 1}]}));
    refused_with(case, &["error running createRuntime hook #0: ", "hook ran past specified timeout of 1.0s"])
}

fn why_a_program_was_not_executed(case: &mut Case) -> Result<()> {
    program(case, "run.sh", b"#!/no/such/bash\necho hi\n")?;
    program(case, "text", b"echo hi\n")?;
    case.args(["/run.sh"]);
    refused_with(case, &["exec /run.sh: no such file or directory"])?;
    case.args(["/text"]);
    refused_with(case, &["exec /text: exec format error"])
}

fn why_a_program_was_not_found(case: &mut Case) -> Result<()> {
    fs::write(case.rootfs().join("data"), "#!/bin/sh\n")?;
    for (program, words) in [
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("/data", "exec: \"/data\": permission denied"),
        ("/data/x", "exec: \"/data/x\": stat /data/x: not a directory"),
        ("", "exec: \"\": executable file not found in $PATH"),
    ] {
        case.args([program]);
        refused_with(case, &[words])?;
    }
    Ok(())
}

/// Older engines wait for EACCES, as execve(2) has it, younger ones for EISDIR, as Go's LookPath has it.
fn a_directory_is_no_program(case: &mut Case) -> Result<()> {
    case.args(["/etc"]);
    refused_with(case, &["exec: \"/etc\": ", "permission denied"])
}

fn what_is_wrong_with_a_file(case: &mut Case) -> Result<()> {
    let busybox = fs::read(case.rootfs().join("bin/busybox"))?;
    let mut foreign = busybox.clone();
    foreign[18..20].copy_from_slice(&[0xff, 0x7f]);
    for (content, words) in [
        (b"#!/bin/sh\r\necho hi\r\n".as_slice(), "\"/bin/sh\\r\" is missing: the script has the line ends of Windows"),
        (b"#! /no/such -x\n", "interpreter \"/no/such -x\" is missing"),
        (b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark"),
        (b"", "the file is empty"),
        (b"echo hi\n", "no binary, and no script that begins with #!"),
        (&busybox[..20], "cut short"),
        (&busybox[..100], "cut short"),
        (&foreign, "built for another architecture"),
    ] {
        program(case, "program", content)?;
        case.args(["/program"]);
        refused_with(case, &["exec /program: ", words])?;
    }
    Ok(())
}

/// Docker waits for "not a directory", to say what it takes the reason for.
fn a_directory_on_a_file(case: &mut Case) -> Result<()> {
    let (directory, file) = (case.dir.join("directory"), case.dir.join("file"));
    fs::create_dir(&directory)?;
    for path in [&file, &case.rootfs().join("file")] {
        fs::write(path, "")?;
    }
    let good = case.config.clone();
    for (source, to) in [(&directory, "file"), (&file, "mnt"), (&directory, "file/below")] {
        case.config = good.clone();
        let destination = format!("/{to}");
        case.mount(json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]}));
        refused_with(case, &["not a directory", to])?;
    }
    case.config = good;
    case.mount(json!({"destination": "/file", "type": "tmpfs", "source": "tmpfs"}));
    refused_with(case, &["not a directory"])
}

fn proc_and_sys_are_ordinary_directories(case: &mut Case) -> Result<()> {
    let proc = case.rootfs().join("proc");
    fs::remove_dir(&proc)?;
    let words = ["filesystem \"proc\" must be mounted on ordinary directory"];
    symlink("bin", &proc)?;
    refused_with(case, &words)?;
    fs::remove_file(&proc)?;
    fs::write(&proc, "")?;
    refused_with(case, &words)
}

fn unified_on_v1(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/unified", json!({"pids.max": "5"}));
    refused_with(case, &["cannot use unified on cgroup v1"])
}

fn a_controller_that_is_missing(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/unified", json!({"nosuch.max": "5"}));
    refused_with(case, &["controller \"nosuch\" not available"])
}

/// A directory of this name in each hierarchy, for the time that `body` takes.
fn with_cgroups<T>(case: &mut Case, body: impl FnOnce(&mut Case, &[std::path::PathBuf]) -> Result<T>) -> Result<T> {
    let name = format!("{}-words", case.id);
    let top = Path::new("/sys/fs/cgroup");
    let mounts = match v2_only() {
        true => vec![top.to_owned()],
        false => ["devices", "freezer", "pids"].iter().map(|name| top.join(name)).collect(),
    };
    let directories: Vec<_> = mounts.iter().map(|mount| mount.join(&name)).collect();
    for directory in &directories {
        fs::create_dir(directory).with_context(|| directory.display().to_string())?;
    }
    case.set("/linux/cgroupsPath", json!(format!("/{name}")));
    let result = body(case, &directories);
    for directory in &directories {
        // A peer may have removed it.
        let _ = fs::remove_dir(directory);
    }
    result
}

fn a_cgroup_with_processes(case: &mut Case) -> Result<()> {
    with_cgroups(case, |case, directories| {
        let mut other = spawn_child(Command::new("sleep").arg("60").stdin(Stdio::null()))?;
        let put = directories.iter().try_for_each(|dir| fs::write(dir.join("cgroup.procs"), other.id().to_string()));
        let refused = put
            .map_err(Into::into)
            .and_then(|()| refused_with(case, &["container's cgroup is not empty: 1 process(es) found"]));
        other.kill()?;
        other.wait()?;
        forget_child(&other);
        refused
    })
}

fn a_frozen_cgroup(case: &mut Case) -> Result<()> {
    with_cgroups(case, |case, directories| {
        let (file, on, off) =
            if v2_only() { ("cgroup.freeze", "1", "0") } else { ("freezer.state", "FROZEN", "THAWED") };
        let directory = directories.iter().find(|dir| dir.join(file).exists()).context("there is a freezer")?;
        fs::write(directory.join(file), on)?;
        let refused = refused_with(case, &["container's cgroup unexpectedly frozen"]);
        let _ = fs::write(directory.join(file), off);
        refused
    })
}

fn cgroups_of_an_ordinary_user(case: &mut Case) -> Result<()> {
    let words = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";
    case.set("/linux/cgroupsPath", json!(format!("/{}/x", case.id))).args(["true"]);
    refused_with(case, &["permission denied", "make the cgroup", words])
}

fn memory_policy(case: &mut Case) -> Result<()> {
    for (policy, words) in [
        (json!({"mode": "MPOL_NOSUCH", "nodes": "0"}), "invalid memory policy mode \"MPOL_NOSUCH\""),
        (json!({"nodes": "0"}), "invalid memory policy mode \"\""),
        (json!({"mode": "MPOL_BIND", "nodes": "a"}), "invalid memory policy nodes \"a\""),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["X"]}), "invalid memory policy flag \"X\""),
    ] {
        case.set("/linux/memoryPolicy", policy);
        refused_with(case, &[words])?;
    }
    Ok(())
}

fn exec_leads_out_of_the_cgroup(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let exec = |cgroup: &str| case.verb(["exec", "--cgroup", cgroup, &case.id, "true"])?.status(255);
    let output = exec("../x")?.stderr_has("../x is not a sub cgroup path")?;
    if case.peer.is_none() {
        output.stderr_has("bad sub cgroup path: ../x")?;
    }
    exec("nosuch")?.stderr_has("error adding p")?.stderr_has("/nosuch")?.stderr_has("no such file or directory")?;
    if !v2_only() {
        exec("nosuch:x")?.stderr_has("unknown controller nosuch")?;
    }
    case.delete()
}

fn no_seccomp_agent(case: &mut Case) -> Result<()> {
    let path = case.dir.join("nobody");
    let rules = json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]);
    case.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})).args(["true"]);
    refused_with(case, &["listenerPath is not set"])?;
    case.set("/linux/seccomp/listenerPath", json!(path));
    refused_with(case, &["failed to connect with seccomp agent", "/nobody", "no such file or directory"])
}

fn parent_path(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let images = case.dir.join("images").to_string_lossy().into_owned();
    let with = |parent: &str| {
        let output = case.verb(["checkpoint", "--image-path", &images, "--parent-path", parent, &case.id])?;
        output.refused()?.stderr_has("--parent-path")
    };
    with("/absolute")?.stderr_has("--parent-path must be relative")?;
    with("../nosuch")?.stderr_has("invalid --parent-path: stat ")?.stderr_has("no such file or directory")?;
    case.status_is("running")?;
    case.delete()
}

/// It ran, was killed with the container, or the container is said to be gone: nothing that reads as a fault of the program.
fn exec_while_the_container_goes(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    for _ in 0..5 {
        let init = case.up()?;
        let mut running = Vec::new();
        for _ in 0..5 {
            running.push(case.spawn(["exec", &case.id, "true"])?);
        }
        case.verb(["kill", &case.id, "KILL"])?.ok()?;
        for exec in running {
            let output = exec.wait(std::time::Duration::from_secs(30))?;
            let said = output.stderr.trim();
            let gone = output.status == 255 && said.contains("container not running") && said.lines().count() == 1;
            ensure!(
                gone || (said.is_empty() && matches!(output.status, 0 | 137)),
                "exec gave {} and said {said:?}",
                output.status
            );
        }
        init.wait()?;
        case.delete()?;
    }
    Ok(())
}

fn no_systemd(case: &mut Case) -> Result<()> {
    if Path::new("/run/systemd/system").exists() && !case.env.iter().any(|(key, _)| key == "DBUS_SYSTEM_BUS_ADDRESS") {
        // Where one runs, the bus is said to be elsewhere.
        for key in ["DBUS_SYSTEM_BUS_ADDRESS", "DBUS_SESSION_BUS_ADDRESS"] {
            case.env.push((key.to_owned(), "unix:path=/nosuch/bus".to_owned()));
        }
    }
    case.args(["true"]).write_config()?;
    let bundle = case.bundle();
    let output = case.verb(["--systemd-cgroup", "run", "--bundle", &bundle.to_string_lossy(), &case.id])?;
    let output =
        output.refused()?.stderr_has("systemd not running on this host, cannot use systemd cgroups manager")?;
    for word in ["no such file", "not found"] {
        ensure!(!output.stderr.contains(word), "an engine takes {word:?} for a missing program: {:?}", output.stderr);
    }
    kernel::cgroups_named(&case.id).is_empty().then_some(()).context("a cgroup is left")
}
