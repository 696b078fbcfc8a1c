//! events and stats: numbers that agree with the kernel's files, notices of no memory, and an end with the container.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::cgroups::{v2_only, value};
use crate::harness::{Case, Init, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let root = |test: Test| test.requires(Need::Root).requires(Need::Verb("events"));
    let with = |test: Test, controller| root(test).requires(Need::Controller(controller));
    let stats = |test: Test| test.requires(Need::Hull).requires(Need::Verb("stats"));
    vec![
        with(test("events/numbers_are_the_kernels", numbers_are_the_kernels), "memory"),
        with(test("events/cpu_time_and_throttling", cpu_time_and_throttling), "cpu"),
        root(test("events/pressure", pressure)).requires(Need::Pressure).peer("runc", "1.1 does not read it"),
        root(test("events/every_state_but_stopped", every_state_but_stopped)),
        root(test("events/lines_come_at_each_interval", lines_come_at_each_interval)),
        with(test("events/no_memory_is_noticed", no_memory_is_noticed), "memory"),
        with(test("events/no_memory_of_init_is_noticed", no_memory_of_init_is_noticed), "memory")
            .peer("runc", "waits until the cgroup is removed"),
        root(test("events/ends_with_the_container", ends_with_the_container))
            .peer("runc", "waits until the cgroup is removed"),
        root(test("events/ends_with_its_reader", ends_with_its_reader)).requires(Need::Hull),
        root(test("events/network_interfaces", network_interfaces)).requires(Need::Hull).requires(Need::Tool("ip")),
        root(stats(test("stats/a_table_and_json", a_table_and_json))),
        stats(test("stats/without_a_cgroup", without_a_cgroup).requires(Need::Rootless)),
    ]
}

/// The one event that `events --stats` prints.
fn stats(case: &Case) -> Result<Value> {
    let output = case.verb(["events", "--stats", &case.id])?.ok()?;
    let event: Value =
        serde_json::from_str(&output.stdout).with_context(|| format!("events printed {:?}", output.stdout))?;
    ensure!(event["type"] == "stats" && event["id"] == case.id.as_str(), "events printed {event}");
    Ok(event["data"].clone())
}

fn numbers_are_the_kernels(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/memory", json!({"limit": 134_217_728}));
    case.set("/linux/resources/pids", json!({"limit": 40}));
    case.set("/linux/resources/cpu", json!({"cpus": "0", "mems": "0"}));
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=64m"]}));
    let init = case.script("dd if=/dev/zero of=/mnt/big bs=1M count=20 2>/dev/null; sleep 60 & echo up; wait").up()?;
    init.wait_for("up")?;
    let data = stats(case)?;
    let memory = &data["memory"];
    ensure!(memory["usage"]["limit"] == 134_217_728, "the limit is {}", memory["usage"]);
    let used = memory["usage"]["usage"].as_u64().context("usage")?;
    ensure!((20 << 20..64 << 20).contains(&used), "{used} bytes are used");
    ensure!(memory["raw"].as_object().is_some_and(|raw| raw.len() > 10), "raw is {}", memory["raw"]);
    ensure!(data["pids"] == json!({"current": 2, "limit": 40}), "pids is {}", data["pids"]);
    if !v2_only() {
        ensure!(data["cpuset"]["cpus"] == json!([0]), "cpuset is {}", data["cpuset"]);
        ensure!(memory["swap"].is_object() && memory["kernelTCP"].is_object(), "memory is {memory}");
    }
    for key in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"] {
        ensure!(data[key].is_object(), "{key} is {}", data[key]);
    }
    ensure!(data.get("network_interfaces").is_some(), "no network_interfaces");
    case.delete()
}

fn cpu_time_and_throttling(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/cpu", json!({"quota": 10_000, "period": 50_000}));
    let init = case.script("echo up; while :; do :; done").up()?;
    init.wait_for("up")?;
    let cpu = || -> Result<(u64, u64, u64)> {
        let data = stats(case)?;
        let number = |pointer: &str| data.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        Ok((
            number("/cpu/usage/total"),
            number("/cpu/throttling/throttledPeriods"),
            number("/cpu/throttling/throttledTime"),
        ))
    };
    let before = cpu()?;
    kernel::eventually("it is throttled", || cpu().is_ok_and(|now| now.1 > before.1 + 3 && now.2 > before.2))?;
    let (total, ..) = cpu()?;
    ensure!(total > before.0 && total < 20_000_000_000, "it used {total} ns");
    let kernels = match kernel::cgroups(init.pid)?.get("cpuacct") {
        Some(dir) => kernel::read(dir.join("cpuacct.usage"))?.trim().parse()?,
        None => {
            kernel::field_of(
                &kernel::read(kernel::cgroups(init.pid)?["unified"].join("cpu.stat"))?.replace(' ', ":"),
                "usage_usec",
            )?
            .parse::<u64>()?
                * 1000
        }
    };
    ensure!(total <= kernels, "{total} ns of {kernels}");
    case.delete()
}

fn pressure(case: &mut Case) -> Result<()> {
    let init = case.script("echo up; for n in 1 2 3 4; do (while :; do :; done) & done; wait").up()?;
    init.wait_for("up")?;
    let total = || stats(case).ok()?.pointer("/cpu/psi/some/total")?.as_u64();
    kernel::eventually("pressure is counted", || total().is_some_and(|total| total > 0))?;
    case.delete()
}

fn every_state_but_stopped(case: &mut Case) -> Result<()> {
    case.verb(["events", "--stats", &case.id])?.refused()?.stderr_has("does not exist")?;
    let init = case.args(["sleep", "60"]).create()?;
    stats(case)?;
    case.verb(["start", &case.id])?.ok()?;
    stats(case)?;
    case.verb(["pause", &case.id])?.ok()?;
    stats(case)?;
    case.verb(["resume", &case.id])?.ok()?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    init.wait()?;
    case.verb(["events", "--stats", &case.id])?.refused()?.stderr_has("is not running")?;
    case.verb(["events", &case.id])?.refused()?.stderr_has("is not running")?;
    case.verb(["events", "--interval", "0s", &case.id])?.refused()?.stderr_has("interval")?;
    case.delete()
}

fn lines_come_at_each_interval(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let events = case.spawn(["events", "--interval", "100ms", &case.id])?;
    kernel::eventually("three lines", || events.output().lines().count() >= 3)?;
    case.delete()?;
    let output = events.wait(Duration::from_secs(10))?.ok()?;
    for line in output.stdout.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| format!("{line:?}"))?;
        ensure!(event["type"] == "stats" || event["type"] == "oom", "{event}");
    }
    Ok(())
}

/// A container that fills 16 MiB at USR1; `exec` makes init the victim.
fn greedy(case: &mut Case, command: &str) -> Result<Init> {
    case.set("/linux/resources/memory", json!({"limit": 16_777_216}));
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=256m"]}));
    let script = format!(
        "trap '{command} dd if=/dev/zero of=/mnt/big bs=1M count=200 2>/dev/null' USR1; echo up; while :; do sleep 0.05; done"
    );
    let init = case.script(&script).up()?;
    init.wait_for("up")?;
    Ok(init)
}

fn no_memory_is_noticed(case: &mut Case) -> Result<()> {
    let init = greedy(case, "")?;
    let events = case.spawn(["events", "--interval", "100ms", &case.id])?;
    kernel::eventually("a first line", || !events.output().is_empty())?;
    ensure!(!events.output().contains(r#""type":"oom""#), "noticed before it happened");
    case.verb(["kill", &case.id, "USR1"])?.ok()?;
    let wanted = format!(r#"{{"type":"oom","id":"{}"}}"#, case.id);
    kernel::eventually("a notice", || events.output().lines().any(|line| line == wanted))?;
    ensure!(kernel::alive(init.pid), "init was the victim");
    if case.peer.is_none() {
        // The kernel tells that it has no memory before it kills, and counts that.
        kernel::eventually("a kill is counted", || {
            stats(case).is_ok_and(|data| data["memory"]["events"]["oom_kill"].as_u64() >= Some(1))
        })?;
    }
    case.delete()?;
    events.wait(Duration::from_secs(10))?.ok().map(drop)
}

fn no_memory_of_init_is_noticed(case: &mut Case) -> Result<()> {
    let init = greedy(case, "exec")?;
    let events = case.spawn(["events", "--interval", "100ms", &case.id])?;
    kernel::eventually("a first line", || !events.output().is_empty())?;
    case.verb(["kill", &case.id, "USR1"])?.ok()?;
    ensure!(init.wait()? == 137, "not killed");
    let output = events.wait(Duration::from_secs(10))?.ok()?;
    ensure!(output.stdout.contains(r#"{"type":"oom""#), "no notice in {:?}", output.stdout);
    case.delete()
}

fn ends_with_the_container(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let events = case.spawn(["events", "--interval", "1h", &case.id])?;
    std::thread::sleep(Duration::from_millis(200));
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    init.wait()?;
    let output = events.wait(Duration::from_secs(5))?.ok()?;
    ensure!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    case.delete()
}

fn ends_with_its_reader(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let line = format!(
        "{} --root {} events --interval 50ms {} | head -n 1",
        case.runtime.display(),
        case.root().display(),
        case.id
    );
    let mut shell = std::process::Command::new("sh");
    let begun = std::time::Instant::now();
    let output = shell.args(["-c", &line]).output()?;
    ensure!(output.stdout.starts_with(b"{\"type\":\"stats\""), "{output:?}");
    ensure!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    case.delete()
}

fn network_interfaces(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let ip = |args: &str| std::process::Command::new("ip").args(args.split(' ')).status();
    let name = format!("hv{}", init.pid);
    if !ip(&format!("link add {name} type veth peer name veth1 netns {}", init.pid))?.success() {
        return case.delete();
    }
    let data = stats(case);
    ip(&format!("link del {name}"))?;
    let list = data?["network_interfaces"].clone();
    ensure!(list[0]["Name"] == "veth1" && list[0]["RxBytes"].is_u64(), "{list}");
    case.delete()
}

fn a_table_and_json(case: &mut Case) -> Result<()> {
    case.verb(["stats", "--no-stream"])?.ok()?.stdout_has("ID")?;
    let init = case.script("echo up; while :; do :; done").up()?;
    init.wait_for("up")?;
    let table = case.verb(["stats"])?.ok()?.stdout;
    let row: Vec<&str> = table.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    ensure!(row.first() == Some(&case.id.as_str()), "the table is {table:?}");
    let percent: f64 = row[1].trim_end_matches('%').parse().with_context(|| format!("{row:?}"))?;
    ensure!(percent > 1.0, "a busy loop uses {percent} %");
    let text = case.verb(["stats", "--format", "json", &case.id])?.ok()?.stdout;
    let list: Value = serde_json::from_str(&text)?;
    ensure!(list[0]["id"] == case.id.as_str() && list[0]["cpu"]["usage"].is_object(), "{list}");
    if Path::new("/sys/fs/cgroup/pids").exists() {
        let current = value(&init, "pids", "pids.current", "pids.current")?;
        ensure!(list[0]["pids"]["current"].as_u64() == current.parse().ok(), "{list}");
    }
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    init.wait()?;
    case.verb(["stats", &case.id])?.refused()?.stderr_has("is not running")?;
    let none = case.verb(["stats", "-f", "json"])?.ok()?.stdout;
    ensure!(none.trim() == "[]", "a stopped one is listed: {none}");
    case.delete()
}

fn without_a_cgroup(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    case.verb(["stats", "--no-stream"])?.ok()?.stdout_has(&case.id)?;
    let events = case.spawn(["events", "--interval", "50ms", &case.id])?;
    kernel::eventually("a line", || !events.output().is_empty())?;
    kill_process(Pid::from_raw(init.pid).context("a pid")?, Signal::KILL)?;
    init.wait()?;
    events.wait(Duration::from_secs(5))?.ok()?;
    case.delete()
}
