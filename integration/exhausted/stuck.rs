//! Those who do not go on: stopped by a signal, hooks that hang, processes that nobody reaps.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::nothing_left;
use crate::harness::{Case, Need, Running, Test, reap_orphans, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("exhausted/a_stopped_init_that_runs", stopped_init_that_runs).requires(Need::Root),
        test("exhausted/hanging_hooks", hanging_hooks).requires(Need::Hull),
        test("exhausted/a_hanging_hook_without_a_timeout", hanging_hook_without_a_timeout).requires(Need::Hull),
        // Ten seconds, and the same with v2: once is enough.
        test("exhausted/whoever_is_stopped", whoever_is_stopped)
            .requires(Need::Root)
            .requires(Need::CgroupV1)
            .requires(Need::Hull),
    ]
}

/// A signal stops the program: the container is as usable as its other processes are.
fn stopped_init_that_runs(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    case.verb(["kill", &case.id, "STOP"])?.ok()?;
    kernel::eventually("init stops", || kernel::state_of(init.pid) == Some('T'))?;
    case.status_is("running")?;
    case.verb(["exec", &case.id, "echo", "fine"])?.ok()?.stdout_is("fine\n")?;
    case.verb(["pause", &case.id])?.ok()?;
    case.verb(["resume", &case.id])?.ok()?;
    case.verb(["delete", &case.id])?.refused()?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    init.wait()?;
    case.verb(["delete", &case.id])?.ok()?;
    case.up()?;
    case.verb(["kill", &case.id, "STOP"])?.ok()?;
    case.delete()?;
    nothing_left(case, "after delete --force")
}

/// A hook that hangs, ignores what it can, and has a child that does the same; both write their numbers down.
fn hanging_hook(numbers: &Path, timeout: Option<u32>) -> Value {
    let numbers = numbers.display();
    let script =
        format!("trap '' TERM INT HUP; (echo $$ >>{numbers}; exec sleep 100) & echo $! >>{numbers}; exec sleep 100");
    let mut hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    if let Some(seconds) = timeout {
        hook["timeout"] = json!(seconds);
    }
    hook
}

fn numbers(path: &Path) -> Vec<i32> {
    fs::read_to_string(path).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
}

/// A bundle on the case's rootfs, with a config of its own, and an id.
fn bundle(case: &Case, name: &str, change: impl FnOnce(&mut Value)) -> Result<(String, String)> {
    Ok((case.bundle_beside(name, change)?, format!("{}-{name}", case.id)))
}

/// Each is killed with its child when its time is over, on the host and in the container.
fn hanging_hooks(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    let mut running: Vec<(&str, PathBuf, String, Running)> = Vec::new();
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        let file = case.dir.join(format!("{kind}.pids"));
        let (bundle, id) =
            bundle(case, kind, |config| config["hooks"] = json!({kind: [hanging_hook(&file, Some(1))]}))?;
        let verb = if kind.starts_with("post") { ["run", "--detach"] } else { ["create", "--no-new-keyring"] };
        running.push((kind, file, id.clone(), case.spawn(verb.into_iter().chain(["--bundle", &bundle, &id]))?));
    }
    for (kind, file, id, running) in running {
        let mut output = running.wait(Duration::from_secs(20))?;
        if kind == "poststop" {
            // Its failure is a warning.
            output = case.verb(["delete", "--force", &id])?;
            ensure!(output.status == 0, "{kind}: status {}", output.status);
        } else {
            ensure!(output.status == 1, "{kind}: status {}", output.status);
        }
        output.one_sentence()?.stderr_has("timeout of 1.0s and was killed")?.stderr_has(kind)?;
        let numbers = numbers(&file);
        // A number from within a pid namespace says nothing here.
        if kind != "createContainer" {
            ensure!(numbers.len() == 2, "{kind}: the hook wrote {numbers:?}");
            kernel::eventually("the hook and its child end", || !numbers.iter().any(|pid| kernel::alive(*pid)))?;
        }
        case.verb(["delete", "--force", &id])?.ok()?;
    }
    nothing_left(case, "after the hooks")
}

/// Without a timeout create waits for it, and everyone else sees what is going on; whoever ends create gets rid of it all.
fn hanging_hook_without_a_timeout(case: &mut Case) -> Result<()> {
    let file = case.dir.join("pids");
    case.set("/hooks", json!({"createRuntime": [hanging_hook(&file, None)]})).args(["sleep", "60"]).write_config()?;
    let bundle = case.bundle();
    let mut running = case.spawn(["create", "--bundle", &bundle.to_string_lossy(), &case.id])?;
    kernel::eventually("the hook runs", || numbers(&file).len() == 2)?;
    case.status_is("creating")?;
    case.verb(["list"])?.ok()?.stdout_has("creating")?;
    case.verb(["kill", &case.id, "KILL"])?.refused()?.stderr_has("it is still being created")?;
    running.kill();
    let _ = running.wait(Duration::from_secs(10))?;
    case.status_is("stopped")?;
    case.delete()?;
    // The hook is its author's: it was told nothing, and does not keep the container.
    for pid in numbers(&file) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    nothing_left(case, "after delete --force")
}

/// Those who wait ten seconds for somebody that does not go on, all at the same time. Each says for whom it waited.
fn whoever_is_stopped(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    let create = |bundle: &str, id: &str| case.verb(["create", "--bundle", bundle, id])?.ok();
    let mut waiting: Vec<(&str, Running, Vec<String>)> = Vec::new();

    // A created init.
    let (path, created) = bundle(case, "created", |_| ())?;
    create(&path, &created)?;
    case.verb(["kill", &created, "STOP"])?.ok()?;
    waiting.push(("start", case.spawn(["start", &created])?, vec!["is stopped by a signal".into(), "CONT".into()]));

    // An init that a hook stops; its number is in the state that hooks get.
    let stop = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); kill -STOP $pid";
    let stop_init = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", stop]}]});
    let (path, creating) = bundle(case, "creating", |config| config["hooks"] = stop_init)?;
    let running = case.spawn(["create", "--bundle", &path, &creating])?;
    waiting.push(("create", running, vec!["is stopped by a signal before the container was created".into()]));

    // A setup: it holds the lock.
    let stop_setup = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "kill -STOP $PPID"]}]});
    let (path, setup) = bundle(case, "setup", |config| config["hooks"] = stop_setup)?;
    let stopped = case.spawn(["create", "--bundle", &path, &setup])?;
    kernel::eventually("setup stops", || kernel::state_of(stopped.pid()) == Some('T'))?;
    let holder = format!("process {} has worked on it", stopped.pid());
    let running = case.spawn(["delete", "--force", &setup])?;
    waiting.push(("delete of a stopped setup", running, vec![holder, "is stopped by a signal".into()]));

    // A zombie of the container whose parent is this program, which reaps it later.
    let (path, parent) = bundle(case, "parent", |_| ())?;
    create(&path, &parent)?;
    case.verb(["start", &parent])?.ok()?;
    let file = case.dir.join("zombie");
    case.verb(["exec", "--detach", "--pid-file", &file.to_string_lossy(), &parent, "true"])?.ok()?;
    let zombie: i32 = kernel::read(&file)?.parse()?;
    kernel::eventually("the process ends", || kernel::state_of(zombie) == Some('Z'))?;
    let child = format!("process {zombie}, a child of {} (", std::process::id());
    let running = case.spawn(["delete", "--force", &parent])?;
    waiting.push(("delete with a zombie", running, vec!["does not end 10 s after SIGKILL".into(), child]));

    // An init that waits for memory for ever.
    let memory = Path::new("/sys/fs/cgroup/memory/memory.oom_control").exists();
    if memory {
        let (path, id) = bundle(case, "memory", |config| {
            config["linux"]["resources"]["memory"] = json!({"limit": 4096, "disableOOMKiller": true});
        })?;
        let running = case.spawn(["create", "--bundle", &path, &id])?;
        // It hangs, or a call of init or the limit itself was refused before: told with the container's name, in time.
        waiting.push(("create without memory", running, vec![id.clone()]));
    }

    let mut verdict = Ok(());
    for (what, running, words) in waiting {
        let output = running.wait(Duration::from_secs(25)).and_then(|output| output.status(1)?.one_sentence());
        let said = words.iter().try_fold(output?, |output, word| output.stderr_has(word));
        verdict = verdict.and(said.map(drop).with_context(|| what));
    }
    verdict?;
    // Nobody has lost anything: what goes on again works.
    case.verb(["kill", &created, "CONT"])?.ok()?;
    case.verb(["start", &created])?.ok()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(stopped.pid()), nix::sys::signal::Signal::SIGCONT)?;
    stopped.wait(Duration::from_secs(10))?.ok()?;
    reap_orphans();
    for id in [&created, &creating, &setup, &parent] {
        case.verb(["delete", "--force", id])?.ok()?;
    }
    nothing_left(case, "after delete --force")
}
