//! `exec --tools`: a program of the host's, with a root of its own, beside a container that need have none to run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::harness::{Case, Need, Test, reap_orphans, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("tools/a_program_beside_a_container_without_a_shell", beside),
        test("tools/in_a_user_namespace", in_a_user_namespace).requires(Need::Root),
        test("tools/with_a_terminal", with_a_terminal),
        test("tools/bad_input", bad_input),
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

/// A root with these applets of busybox, and the directories that the container's part is mounted on.
pub fn root_with(case: &Case, name: &str, applets: &[&str]) -> Result<PathBuf> {
    let root = case.dir.join(name);
    for directory in ["bin", "proc", "dev", "sys"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for applet in applets {
        fs::copy(case.rootfs().join("bin/busybox"), root.join("bin").join(applet))?;
    }
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    Ok(root)
}

pub const APPLETS: &[&str] = &["sh", "cat", "ls", "touch", "readlink", "grep", "sleep", "true", "pwd", "tty"];

/// The container has one program and no shell; gives the tools' root, and init's number.
pub fn bare(case: &mut Case) -> Result<(PathBuf, i32)> {
    let root = root_with(case, "bare", &["sleep"])?;
    case.set("/root/path", json!(root)).args(["sleep", "600"]);
    let tools = root_with(case, "tools", APPLETS)?;
    fs::write(tools.join("own"), "the host's")?;
    let init = case.up()?;
    case.verb(["exec", &case.id, "sh"])?.status(255)?;
    Ok((tools, init.pid))
}

pub fn with_tools(case: &Case, tools: &Path, script: &str) -> Result<String> {
    Ok(case.verb(["exec", "--tools", &tools.to_string_lossy(), &case.id, "sh", "-c", script])?.ok()?.stdout)
}

fn beside(case: &mut Case) -> Result<()> {
    let (tools, init) = bare(case)?;
    let script =
        "for kind in pid net ipc uts cgroup user mnt; do readlink /proc/self/ns/$kind; done; cat /proc/self/cgroup
        grep -e ^Cap -e Seccomp: -e NoNewPrivs -e ^Uid -e ^Groups /proc/self/status; echo end
        cat /own; echo; ls -d bin/*; ls /proc/1/root/bin; pwd; ls /proc/self/fd; ls /dev/null";
    let said = with_tools(case, &tools, script)?;
    let (kernels, own) = said.split_once("end\n").context("an end")?;
    // The fourth descriptor is that of the directory that is listed.
    let wanted = "the host's\nbin/sleep\nsleep\n/proc/1/root\n0\n1\n2\n3\n/dev/null\n";
    ensure!(own == wanted, "{own:?} is not {wanted:?}");
    let mut lines = kernels.lines();
    for kind in ["pid", "net", "ipc", "uts", "cgroup", "user", "mnt"] {
        let link = fs::read_link(format!("/proc/{init}/ns/{kind}"))?;
        let same = lines.next() == link.to_str();
        ensure!(same == (kind != "mnt"), "{kind}: {link:?} of init, {kernels}");
    }
    let status = kernel::read(format!("/proc/{init}/status"))?;
    for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp", "NoNewPrivs"] {
        let inits = kernel::field_of(&status, field)?;
        ensure!(kernels.contains(&format!("{field}:\t{inits}\n")), "{field} is {inits} of init: {kernels}");
    }
    // Its cgroup as the host has it, and its end as of every program.
    let pid_file = case.dir.join("exec.pid");
    let options = ["exec", "--detach", "--pid-file", &pid_file.to_string_lossy(), "--tools", &tools.to_string_lossy()];
    case.verb([&options[..], &[&case.id, "sleep", "600"]].concat())?.ok()?;
    let pid = kernel::read(&pid_file)?;
    let (of_init, its) = (format!("/proc/{init}/cgroup"), format!("/proc/{pid}/cgroup"));
    ensure!(kernel::read(&of_init)? == kernel::read(&its)?, "it is in {}", kernel::read(&its)?);
    let pid = rustix::process::Pid::from_raw(pid.parse()?).context("a pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    kernel::eventually("the program is reaped", || {
        reap_orphans();
        !Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists()
    })?;
    case.verb(["exec", "--tools", &tools.to_string_lossy(), &case.id, "sh", "-c", "exit 42"])?.status(42)?;
    case.delete()
}

fn in_a_user_namespace(case: &mut Case) -> Result<()> {
    case.user_namespace()?;
    beside(case)
}

fn with_a_terminal(case: &mut Case) -> Result<()> {
    let (tools, _) = bare(case)?;
    let said = case.verb(["exec", "-t", "--tools", &tools.to_string_lossy(), &case.id, "tty"])?.ok()?.stdout;
    ensure!(said.trim_end() == "/dev/pts/0", "{said:?}");
    case.delete()
}

fn bad_input(case: &mut Case) -> Result<()> {
    let (tools, _) = bare(case)?;
    let file = tools.join("own");
    let empty = case.dir.join("empty");
    fs::create_dir_all(&empty)?;
    let missing = case.dir.join("missing");
    let refused = |words: &[&str], says: &str| -> Result<()> {
        let output = case.verb([&["exec"], words].concat())?.status(255)?.one_sentence()?;
        ensure!(output.stderr.contains(says), "{words:?}: {:?}", output.stderr);
        Ok(())
    };
    let (id, text) = (case.id.as_str(), |path: &Path| path.to_string_lossy().into_owned());
    refused(&["--tools", &text(&missing), id, "sh"], "missing: open: no such file or directory (ENOENT)")?;
    refused(&["--tools", &text(&file), id, "sh"], "own: open: not a directory (ENOTDIR)")?;
    refused(&["--tools", &text(&empty), id, "sh"], "it has no directory `proc`")?;
    refused(&["--tools", &text(&tools), id, "nosuch"], "\"nosuch\": executable file not found in $PATH")?;
    refused(&["--tools", &text(&tools), "--cwd", "/", id, "sh"], "--cwd")?;
    refused(&["--tools", &text(&tools), "--process", "/dev/null", id], "--process")?;
    case.verb(["kill", id, "KILL"])?.ok()?;
    kernel::eventually("it is stopped", || case.status_is("stopped").is_ok())?;
    refused(&["--tools", &text(&tools), id, "sh"], "container not running")?;
    case.delete()
}
