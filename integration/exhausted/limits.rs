//! Processes, memory and descriptors that run out, for the caller and for the container.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{nothing_left, ok_or_says};
use crate::harness::{Case, Need, Test, reap_orphans, test};

pub fn cases() -> Vec<Test> {
    let pids = Need::Controller("pids");
    vec![
        test("exhausted/the_callers_processes", callers_processes)
            .requires(Need::Root)
            .requires(Need::CgroupV1)
            .requires(pids),
        test("exhausted/the_callers_processes_by_rlimit", callers_rlimit)
            .requires(Need::Rootless)
            .requires(Need::Tool("prlimit")),
        test("exhausted/the_containers_processes", containers_processes)
            .requires(Need::Root)
            .requires(pids)
            .requires(Need::Hull),
        test("exhausted/the_callers_memory", callers_memory)
            .requires(Need::Root)
            .requires(Need::CgroupV1)
            .requires(Need::Controller("memory")),
        test("exhausted/the_containers_memory_without_a_killer", memory_without_a_killer)
            .requires(Need::Root)
            .requires(Need::CgroupV1)
            .requires(Need::Controller("memory"))
            .requires(Need::Hull),
        // Without pidfd_open it takes one more.
        test("exhausted/few_descriptors", few_descriptors).requires(Need::Hull).requires(Need::Call("pidfd_open")),
    ]
}

fn callers_processes(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    let group = CallersGroup::new(case, "pids")?;
    // The runtime itself is one process.
    group.limit("pids.max", 1)?;
    let output = case.try_create(&[])?.refused()?;
    if case.peer.is_none() {
        output.one_sentence()?.stderr_has("(EAGAIN)")?.stderr_has("a limit on processes is reached")?;
    }
    nothing_left(case, "create without a process")?;
    group.limit("pids.max", 50)?;
    case.up()?;
    group.limit("pids.max", 1)?;
    let output = case.verb(["exec", &case.id, "true"])?;
    ensure!(output.status != 0, "exec made a process beyond the limit");
    case.status_is("running")?;
    case.delete()
}

fn callers_rlimit(case: &mut Case) -> Result<()> {
    case.before = "prlimit --nproc=1 --pid $$".to_owned();
    let output = case.args(["true"]).try_create(&[])?.refused()?;
    if case.peer.is_none() {
        output.one_sentence()?.stderr_has("(EAGAIN)")?.stderr_has("a limit on processes is reached")?;
    }
    nothing_left(case, "create without a process")?;
    case.before.clear();
    case.script("echo fine").prints("fine\n")
}

/// init is one process, and a hook in it would be the second.
fn containers_processes(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/pids", json!({"limit": 1}));
    case.set("/hooks", json!({"createContainer": [{"path": "/bin/true"}]})).args(["sleep", "60"]);
    let output = case.try_create(&[])?.refused()?.one_sentence()?;
    output.stderr_has("/hooks/createContainer/0")?.stderr_has("a limit on processes is reached")?;
    nothing_left(case, "create without a second process")?;
    case.set("/hooks", json!({})).up()?;
    // Who joins from outside is not held up by v1, and is by v2 (CLONE_INTO_CGROUP).
    ok_or_says(case.verb(["exec", &case.id, "true"])?, &["a limit on processes is reached"])?;
    case.status_is("running")?;
    case.delete()
}

/// setup itself is killed for want of memory, somewhere: what it has made goes with `delete --force`.
fn callers_memory(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    let group = CallersGroup::new(case, "memory")?;
    let before = std::mem::take(&mut case.before);
    let mut ends = HashSet::new();
    for kilobytes in [150, 200, 250, 300, 350, 400, 700, 1000, 1300, 1600, 2000, 3000, 1 << 20] {
        group.limit("memory.limit_in_bytes", kilobytes << 10)?;
        case.before.clone_from(&before);
        let output = case.try_create(&[])?;
        case.before.clear();
        ensure!([0, 1, 137].contains(&output.status), "{kilobytes} KiB: status {}", output.status);
        ends.insert(output.status);
        reap_orphans();
        case.delete()?;
        nothing_left(case, &format!("{kilobytes} KiB for setup"))?;
    }
    ensure!(ends.contains(&137) && ends.contains(&0), "create was never killed, or always: {ends:?}");
    Ok(())
}

/// Where nothing may be killed calls fail instead, and the sentence names the limit.
fn memory_without_a_killer(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    let mut refused = 0;
    for kilobytes in [64, 80, 96, 112, 128, 144, 160, 192] {
        case.set("/linux/resources/memory", json!({"limit": kilobytes << 10, "disableOOMKiller": true}));
        let output = case.try_create(&[])?;
        if output.status != 0 {
            let output = output.refused()?.one_sentence()?;
            // Or the limit came after init had more.
            ok_or_says(output, &["the memory limit of its cgroup is met", "bytes are in use"])
                .with_context(|| format!("{kilobytes} KiB"))?;
            refused += 1;
        }
        case.delete()?;
        nothing_left(case, &format!("{kilobytes} KiB without a killer"))?;
    }
    ensure!(refused > 0, "init never wanted for memory");
    Ok(())
}

/// With as few descriptors as can be: success, or one sentence, and never a running container that is taken for dead.
fn few_descriptors(case: &mut Case) -> Result<()> {
    // Nobody without CAP_SYS_RESOURCE raises the limit again.
    case.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 4, "hard": 4}])).args(["sleep", "60"]);
    let bundle = case.bundle();
    case.write_config()?;
    for limit in std::iter::once(20).chain((4..=13).rev()) {
        let limited = format!("ulimit -n {limit}");
        let when = || format!("{limit} descriptors");
        let too_many = &["(EMFILE)"];
        case.before.clone_from(&limited);
        let create = case.verb(["create", "--bundle", &bundle.to_string_lossy(), &case.id])?;
        let made = ok_or_says(create, too_many).with_context(when)?;
        ensure!(made || limit < 20, "20 descriptors are not enough");
        case.before.clear();
        if !made {
            nothing_left(case, &when())?;
            case.verb(["create", "--bundle", &bundle.to_string_lossy(), &case.id])?.ok()?;
        }
        case.before.clone_from(&limited);
        let started = ok_or_says(case.verb(["start", &case.id])?, too_many).with_context(when)?;
        ensure!(started || limit < 20, "20 descriptors are not enough for start");
        let status = if started { "running" } else { "created" };
        case.before.clear();
        case.status_is(status).with_context(when)?;
        case.before.clone_from(&limited);
        let listed = case.verb(["list"])?;
        let (listing, listed) = (listed.stdout.clone(), ok_or_says(listed, too_many).with_context(when)?);
        ensure!(
            !listed || (listing.contains(&case.id) && listing.contains(status)),
            "{limit} descriptors: {listing:?}"
        );
        ensure!(listed || limit < 20, "20 descriptors are not enough for list");
        for verb in [vec!["state", &case.id], vec!["exec", &case.id, "true"], vec!["pause", &case.id]] {
            let done = ok_or_says(
                case.verb(&verb)?,
                &["(EMFILE)", "a created container", "container not running", "no cgroup with a freezer"],
            );
            let done = done.with_context(|| format!("{limit} descriptors, {verb:?}"))?;
            // Rootless there may be no freezer.
            ensure!(done || limit < 20 || verb[0] == "pause", "20 descriptors are not enough for {verb:?}");
        }
        ok_or_says(case.verb(["resume", &case.id])?, &["(EMFILE)", "not paused", "no cgroup with a freezer"])
            .with_context(when)?;
        if started {
            let output = case.verb(["delete", &case.id])?.status(1)?.one_sentence()?;
            ensure!(output.stderr.contains("EMFILE") || output.stderr.contains("not stopped"), "{:?}", output.stderr);
        }
        let _ = case.verb(["delete", "--force", &case.id])?;
        case.before.clear();
        case.delete().with_context(when)?;
        nothing_left(case, &when())?;
    }
    Ok(())
}

/// A cgroup that the runtime itself is in, in one v1 hierarchy; removed at the end.
struct CallersGroup(PathBuf);

impl CallersGroup {
    fn new(case: &mut Case, controller: &str) -> Result<CallersGroup> {
        let path = Path::new("/sys/fs/cgroup").join(controller).join(format!("caller-{}", std::process::id()));
        fs::create_dir(&path)?;
        case.before = format!("echo $$ >{}/cgroup.procs", path.display());
        Ok(CallersGroup(path))
    }

    fn limit(&self, file: &str, value: u64) -> Result<()> {
        fs::write(self.0.join(file), value.to_string()).with_context(|| format!("limit {file} to {value}"))
    }
}

impl Drop for CallersGroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            match fs::remove_dir(&self.0) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(Duration::from_millis(5)),
                _ => return,
            }
        }
    }
}
