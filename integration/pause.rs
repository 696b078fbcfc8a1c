//! pause and resume: the freezer on and off, in every state of a container, and what other verbs make of it.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::harness::{Case, Init, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let needs = |test: Test| test.requires(Need::Root).requires(Need::Verb("pause")).requires(Need::Verb("resume"));
    vec![
        needs(test("pause/stops_and_resume_goes_on", stops_and_resume_goes_on)),
        needs(test("pause/holds_everyone", holds_everyone)),
        needs(test("pause/a_created_container_stays_created", a_created_container_stays_created))
            .peer("crun", "still calls it created"),
        needs(test("pause/in_the_wrong_state_is_refused", in_the_wrong_state_is_refused))
            .peer("crun", "has other words and pauses twice"),
        needs(test("pause/start_and_delete_refuse_a_paused_one", start_and_delete_refuse_a_paused_one))
            .peer("crun", "starts a paused container"),
        needs(test("pause/a_paused_one_can_be_killed", a_paused_one_can_be_killed))
            .peer("crun", "it dies at resume on v1"),
        needs(test("pause/a_paused_one_can_be_deleted_by_force", a_paused_one_can_be_deleted_by_force)),
        needs(test("pause/a_signal_waits_for_resume", a_signal_waits_for_resume)),
        needs(test("pause/a_forking_payload_is_frozen", a_forking_payload_is_frozen)),
        needs(test("pause/a_cgroup_frozen_above_is_said", a_cgroup_frozen_above_is_said)).requires(Need::Hull),
    ]
}

/// A container that prints a growing line of ticks.
fn ticking(case: &mut Case) -> Result<Init> {
    let init = case.script("while :; do echo tick; sleep 0.02; done").up()?;
    init.wait_for("tick")?;
    Ok(init)
}

fn is_still(init: &Init) -> Result<bool> {
    let before = init.output()?.len();
    std::thread::sleep(Duration::from_millis(200));
    Ok(init.output()?.len() == before)
}

fn stops_and_resume_goes_on(case: &mut Case) -> Result<()> {
    let init = ticking(case)?;
    for _ in 0..3 {
        case.verb(["pause", &case.id])?.ok()?.stdout_is("")?;
        case.status_is("paused")?;
        let before = init.output()?.len();
        ensure!(is_still(&init)?, "it goes on while paused");
        case.verb(["resume", &case.id])?.ok()?.stdout_is("")?;
        case.status_is("running")?;
        kernel::eventually("it goes on", || init.output().is_ok_and(|text| text.len() > before))?;
    }
    case.delete()
}

/// The freezer's own word about the container's cgroup.
fn frozen(pid: i32) -> Result<bool> {
    let dirs = kernel::cgroups(pid)?;
    Ok(match dirs.get("freezer") {
        Some(dir) => kernel::read(dir.join("freezer.state"))?.trim() == "FROZEN",
        None => kernel::read(dirs["unified"].join("cgroup.events"))?.lines().any(|line| line == "frozen 1"),
    })
}

fn holds_everyone(case: &mut Case) -> Result<()> {
    let init = case.script("for n in 1 2 3; do (while :; do :; done) & done; echo up; wait").up()?;
    init.wait_for("up")?;
    case.verb(["pause", &case.id])?.ok()?;
    ensure!(frozen(init.pid)?, "the kernel says that it is not frozen");
    let used = || -> Result<String> {
        let mut times = String::new();
        for pid in kernel::processes_of(&case.id) {
            let stat = kernel::read(format!("/proc/{pid}/stat"))?;
            times += &stat.rsplit(' ').rev().skip(13).take(2).collect::<Vec<_>>().join(" ");
        }
        Ok(times)
    };
    let before = used()?;
    std::thread::sleep(Duration::from_millis(150));
    ensure!(before == used()?, "a process uses time while paused");
    case.verb(["resume", &case.id])?.ok()?;
    ensure!(!frozen(init.pid)?, "the kernel says that it is still frozen");
    case.delete()
}

fn a_created_container_stays_created(case: &mut Case) -> Result<()> {
    let init = case.script("echo started; sleep 60").create()?;
    case.verb(["pause", &case.id])?.ok()?;
    case.status_is("paused")?;
    case.verb(["resume", &case.id])?.ok()?;
    case.status_is("created")?;
    case.verb(["start", &case.id])?.ok()?;
    init.wait_for("started")?;
    case.delete()
}

fn in_the_wrong_state_is_refused(case: &mut Case) -> Result<()> {
    case.verb(["pause", &case.id])?.refused()?.stderr_has("does not exist")?.one_sentence()?;
    case.verb(["resume", &case.id])?.refused()?.stderr_has("does not exist")?;
    let init = case.args(["sleep", "60"]).create()?;
    case.verb(["resume", &case.id])?.refused()?.stderr_has("not paused")?;
    case.verb(["start", &case.id])?.ok()?;
    case.verb(["resume", &case.id])?.refused()?.stderr_has("container not paused")?;
    case.verb(["pause", &case.id])?.ok()?;
    case.verb(["pause", &case.id])?.refused()?.stderr_has("container not running")?;
    case.status_is("paused")?;
    case.verb(["resume", &case.id])?.ok()?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    ensure!(init.wait()? == 137, "not killed");
    case.verb(["pause", &case.id])?.refused()?.stderr_has("container not running")?;
    case.verb(["resume", &case.id])?.refused()?.stderr_has("container not paused")?;
    case.delete()
}

fn start_and_delete_refuse_a_paused_one(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).create()?;
    case.verb(["pause", &case.id])?.ok()?;
    case.verb(["start", &case.id])?.refused()?.stderr_has("paused")?;
    case.verb(["delete", &case.id])?.refused()?.stderr_has("not stopped")?;
    case.status_is("paused")?;
    case.delete()
}

fn a_paused_one_can_be_killed(case: &mut Case) -> Result<()> {
    let init = ticking(case)?;
    case.verb(["pause", &case.id])?.ok()?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    ensure!(init.wait()? == 137, "not killed");
    case.status_is("stopped")?;
    case.verb(["delete", &case.id])?.ok().map(drop)
}

fn a_paused_one_can_be_deleted_by_force(case: &mut Case) -> Result<()> {
    ticking(case)?;
    case.verb(["pause", &case.id])?.ok()?;
    case.delete()
}

fn a_signal_waits_for_resume(case: &mut Case) -> Result<()> {
    let init = case.script("trap 'echo got it; exit 7' TERM; echo up; while :; do sleep 0.02; done").up()?;
    init.wait_for("up")?;
    case.verb(["pause", &case.id])?.ok()?;
    case.verb(["kill", &case.id, "TERM"])?.ok()?;
    case.status_is("paused")?;
    ensure!(!init.output()?.contains("got it"), "the signal arrived while it was paused");
    case.verb(["resume", &case.id])?.ok()?;
    ensure!(init.wait()? == 7, "the handler did not run");
    case.delete()
}

/// A payload that makes processes all the time, with many in flight when the freezer comes.
fn a_forking_payload_is_frozen(case: &mut Case) -> Result<()> {
    let script = "for n in 1 2 3; do (while :; do true | true | true & (true) & wait; done) & done; echo up; wait";
    let init = case.script(script).up()?;
    init.wait_for("up")?;
    for _ in 0..5 {
        case.verb(["pause", &case.id])?.ok()?;
        ensure!(frozen(init.pid)?, "it is not frozen");
        case.verb(["resume", &case.id])?.ok()?;
    }
    case.delete()
}

/// Another hand froze the parent: resume of a container that is paused itself ends in an error within its deadline.
fn a_cgroup_frozen_above_is_said(case: &mut Case) -> Result<()> {
    let path = format!("/{}-above/inside", case.id);
    let init = case.set("/linux/cgroupsPath", json!(path)).args(["sleep", "60"]).up()?;
    case.verb(["pause", &case.id])?.ok()?;
    let dirs = kernel::cgroups(init.pid)?;
    let parent = dirs.get("freezer").unwrap_or(&dirs["unified"]).parent().expect("it has one").to_owned();
    let (file, on, off) =
        if dirs.contains_key("freezer") { ("freezer.state", "FROZEN", "THAWED") } else { ("cgroup.freeze", "1", "0") };
    std::fs::write(parent.join(file), on)?;
    let result = case.verb(["resume", &case.id]).and_then(|output| output.refused()?.stderr_has("above it is frozen"));
    std::fs::write(parent.join(file), off)?;
    result?;
    case.delete()?;
    for dir in kernel::cgroups_named(&case.id) {
        std::fs::remove_dir(dir)?;
    }
    Ok(())
}
