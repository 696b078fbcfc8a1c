//! update: other limits for a container that runs, all of them or none, judged by the cgroup's files.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::cgroups::{v2_only, value};
use crate::harness::{Case, Init, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let root = |test: Test| test.requires(Need::Root).requires(Need::Verb("update"));
    let with = |test: Test, controller| root(test).requires(Need::Controller(controller));
    vec![
        with(test("update/every_state_but_stopped", every_state_but_stopped), "pids").peer("crun", "has other words"),
        with(test("update/json_by_file_and_stdin", json_by_file_and_stdin), "memory")
            .peer("*", "runc 1.1 panics on a null, crun sets a limit of 0"),
        with(test("update/what_is_not_named_stays", what_is_not_named_stays), "cpu"),
        with(test("update/a_lone_quota_or_period_keeps_the_other", a_lone_quota_or_period_keeps_the_other), "cpu")
            .peer("crun", "writes a quota of -1 as a number without a sign"),
        with(test("update/memory_and_swap_up_and_down", memory_and_swap_up_and_down), "memory")
            .requires(Need::SwapLimit)
            .peer("crun", "cannot lift both limits"),
        with(
            test(
                "update/a_reservation_and_limits_of_the_kernels_memory",
                a_reservation_and_limits_of_the_kernels_memory,
            ),
            "memory",
        )
        .requires(Need::Hull),
        with(test("update/real_time", real_time), "cpu").requires(Need::CgroupV1),
        with(test("update/memory_below_its_use", memory_below_its_use), "memory").peer("*", "they have other words"),
        with(test("update/units", units), "memory").peer("crun", "takes no units"),
        with(test("update/cpuset", cpuset), "cpuset"),
        with(test("update/all_or_nothing", all_or_nothing), "cpuset").peer("crun", "does not restore"),
        with(test("update/block_io_weight", block_io_weight), "blkio")
            .peer("*", "crun does not know the file of today's kernels"),
        root(test("update/devices_are_ignored", devices_are_ignored)),
        root(test("update/mistakes_are_named", mistakes_are_named)).requires(Need::Hull),
        root(test("update/intel_rdt_needs_a_group", intel_rdt_needs_a_group)).requires(Need::Hull),
        test("update/without_a_cgroup", without_a_cgroup).requires(Need::Rootless).requires(Need::Hull),
    ]
}

fn every_state_but_stopped(case: &mut Case) -> Result<()> {
    case.verb(["update", "--pids-limit", "30", &case.id])?.refused()?.stderr_has("does not exist")?;
    let init = case.args(["sleep", "60"]).create()?;
    let limit = |number: &str| -> Result<()> {
        case.verb(["update", "--pids-limit", number, &case.id])?.ok()?.stdout_is("")?;
        let now = value(&init, "pids", "pids.max", "pids.max")?;
        ensure!(now == number, "pids.max is {now}, not {number}");
        Ok(())
    };
    limit("31")?;
    case.verb(["start", &case.id])?.ok()?;
    limit("32")?;
    case.verb(["pause", &case.id])?.ok()?;
    limit("33")?;
    case.status_is("paused")?;
    case.verb(["resume", &case.id])?.ok()?;
    case.verb(["update", "--pids-limit", "-1", &case.id])?.ok()?;
    ensure!(value(&init, "pids", "pids.max", "pids.max")? == "max", "there is still a limit");
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    init.wait()?;
    case.verb(["update", "--pids-limit", "34", &case.id])?.refused()?.stderr_has("container not running")?;
    case.delete()
}

fn memory(init: &Init) -> Result<String> {
    value(init, "memory", "memory.limit_in_bytes", "memory.max")
}

fn json_by_file_and_stdin(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let file = case.dir.join("limits.json");
    let path = file.to_string_lossy().into_owned();
    for (argv, limit) in [
        (vec![format!("--resources={path}")], 67_108_864),
        (vec!["-r".into(), path.clone()], 68_157_440),
        (vec!["--resources=-".into()], 69_206_016),
        (vec!["--resources".into(), "-".into()], 70_254_592),
        (vec!["-r".into(), "-".into()], 71_303_168),
    ] {
        // As engines write it: zeros and nulls for what is unset.
        let limits = json!({
            "memory": {"limit": limit, "swap": 0, "kernel": 0, "reservation": 0},
            "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""}, "blockIO": {"weight": 0}, "pids": null,
        });
        fs::write(&file, limits.to_string())?;
        case.stdin = argv.last().filter(|word| word.ends_with('-')).map(|_| file.clone());
        let argv = [vec!["update".to_owned()], argv, vec![case.id.clone()]].concat();
        case.verb(&argv)?.ok()?;
        ensure!(memory(&init)? == limit.to_string(), "{argv:?}: the limit is {}", memory(&init)?);
    }
    case.delete()
}

fn what_is_not_named_stays(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/cpu", json!({"shares": 512, "quota": 25_000, "period": 50_000}));
    let init = case.args(["sleep", "60"]).up()?;
    let state = fs::read(case.root().join(&case.id).join("state.json")).ok().filter(|_| case.peer.is_none());
    case.verb(["update", "--cpu-share", "2048", &case.id])?.ok()?;
    if v2_only() {
        ensure!(value(&init, "cpu", "", "cpu.max")? == "25000 50000", "cpu.max changed");
        ensure!(value(&init, "cpu", "", "cpu.weight")? != "100", "the weight did not change");
    } else {
        ensure!(value(&init, "cpu", "cpu.shares", "")? == "2048", "shares");
        ensure!(value(&init, "cpu", "cpu.cfs_quota_us", "")? == "25000", "the quota changed");
    }
    let now = fs::read(case.root().join(&case.id).join("state.json")).ok().filter(|_| case.peer.is_none());
    ensure!(state == now, "the state changed");
    case.delete()
}

fn quota_and_period(init: &Init) -> Result<(String, String)> {
    if v2_only() {
        let both = value(init, "cpu", "", "cpu.max")?;
        let (quota, period) = both.split_once(' ').unwrap_or_default();
        return Ok((quota.to_owned(), period.to_owned()));
    }
    Ok((value(init, "cpu", "cpu.cfs_quota_us", "")?, value(init, "cpu", "cpu.cfs_period_us", "")?))
}

fn a_lone_quota_or_period_keeps_the_other(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/cpu", json!({"quota": 25_000, "period": 50_000}));
    let init = case.args(["sleep", "60"]).up()?;
    for (option, number, wanted) in [
        ("--cpu-quota", "30000", ("30000", "50000")),
        ("--cpu-period", "60000", ("30000", "60000")),
        // The old quota would be more than a whole period of this length: allowed, it is two CPUs' worth.
        ("--cpu-period", "20000", ("30000", "20000")),
    ] {
        case.verb(["update", option, number, &case.id])?.ok()?;
        let (quota, period) = quota_and_period(&init)?;
        ensure!((quota.as_str(), period.as_str()) == wanted, "after {option} {number}: {quota} {period}");
    }
    case.verb(["update", "--cpu-quota", "-1", &case.id])?.ok()?;
    let (quota, period) = quota_and_period(&init)?;
    ensure!((quota == "-1" || quota == "max") && period == "20000", "after no limit: {quota} {period}");
    case.delete()
}

fn memory_and_swap_up_and_down(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/memory", json!({"limit": 67_108_864, "swap": 67_108_864}));
    let init = case.args(["sleep", "60"]).up()?;
    // v1 refuses one order or the other.
    for (limit, both) in [(134_217_728_u64, 201_326_592_u64), (33_554_432, 50_331_648), (268_435_456, 268_435_456)] {
        case.verb(["update", "--memory", &limit.to_string(), "--memory-swap", &both.to_string(), &case.id])?.ok()?;
        let swap = value(&init, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")?;
        let wanted = if v2_only() { both - limit } else { both };
        ensure!(memory(&init)? == limit.to_string() && swap == wanted.to_string(), "{} and {swap}", memory(&init)?);
    }
    case.verb(["update", "--memory", "-1", &case.id])?.ok()?;
    let none = |text: &str| text == "max" || text.len() > 15;
    let swap = value(&init, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")?;
    ensure!(none(&memory(&init)?) && none(&swap), "{} and {swap}", memory(&init)?);
    case.delete()
}

/// A limit below what the container uses is refused when the config asks for the check.
fn memory_below_its_use(case: &mut Case) -> Result<()> {
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=64m"]}));
    let init = case.script("dd if=/dev/zero of=/mnt/big bs=1M count=24 2>/dev/null; echo up; sleep 60").up()?;
    init.wait_for("up")?;
    let file = case.dir.join("limits.json");
    fs::write(&file, json!({"memory": {"limit": 8_388_608, "checkBeforeUpdate": true}}).to_string())?;
    let before = memory(&init)?;
    case.verb(["update", "-r", &file.to_string_lossy(), &case.id])?.refused()?.stderr_has("in use")?.one_sentence()?;
    ensure!(memory(&init)? == before && kernel::alive(init.pid), "the limit is {}", memory(&init)?);
    fs::write(&file, json!({"memory": {"limit": 67_108_864, "checkBeforeUpdate": true}}).to_string())?;
    case.verb(["update", "-r", &file.to_string_lossy(), &case.id])?.ok()?;
    ensure!(memory(&init)? == "67108864", "the limit is {}", memory(&init)?);
    case.delete()
}

fn units(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    for (word, bytes) in
        [("0.25g", "268435456"), ("100M", "104857600"), ("65536k", "67108864"), ("67108864", "67108864")]
    {
        case.verb(["update", "--memory", word, &case.id])?.ok()?;
        ensure!(memory(&init)? == bytes, "{word}: the limit is {}", memory(&init)?);
    }
    case.verb(["update", "--memory", "lots", &case.id])?.refused()?;
    ensure!(memory(&init)? == "67108864", "the limit is {}", memory(&init)?);
    case.delete()
}

fn cpuset(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    case.verb(["update", "--cpuset-cpus", "0", "--cpuset-mems", "0", &case.id])?.ok()?;
    ensure!(value(&init, "cpuset", "cpuset.cpus", "cpuset.cpus")? == "0", "cpus");
    ensure!(kernel::status(init.pid, "Cpus_allowed_list")? == "0", "the mask of the program");
    case.delete()
}

/// The shares are written before the kernel refuses the CPU: they go back.
fn all_or_nothing(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/cpu", json!({"shares": 512, "quota": 25_000, "period": 50_000}));
    let init = case.args(["sleep", "60"]).up()?;
    let now = || -> Result<String> {
        Ok(value(&init, "cpu", "cpu.shares", "cpu.weight")? + " " + &quota_and_period(&init)?.0)
    };
    let before = now()?;
    let argv = ["update", "--cpu-share", "99", "--cpu-quota", "30000", "--cpuset-cpus", "0,777", &case.id];
    case.verb(argv)?.refused()?;
    ensure!(now()? == before, "{:?} instead of {before:?}", now()?);
    case.delete()
}

fn block_io_weight(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let weight = || value(&init, "blkio", "blkio.bfq.weight", "io.bfq.weight");
    if weight().is_err() {
        // The kernel has no BFQ: then the refusal names the file.
        case.verb(["update", "--blkio-weight", "300", &case.id])?.refused()?.stderr_has("bfq.weight")?;
        return case.delete();
    }
    case.verb(["update", "--blkio-weight", "300", &case.id])?.ok()?;
    ensure!(weight()?.trim_start_matches("default ") == "300", "the weight is {}", weight()?);
    case.delete()
}

/// containerd sends device rules along; applied, they would take /dev/null away from the program.
fn devices_are_ignored(case: &mut Case) -> Result<()> {
    let init = case.script("while :; do echo x >/dev/null || echo denied; sleep 0.02; done").up()?;
    let file = case.dir.join("limits.json");
    fs::write(&file, json!({"devices": [{"allow": false, "access": "rwm"}]}).to_string())?;
    let list = || value(&init, "devices", "devices.list", "cgroup.type");
    let before = list()?;
    case.verb(["update", "--resources", &file.to_string_lossy(), &case.id])?.ok()?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    ensure!(list()? == before && !init.output()?.contains("denied"), "the rules changed: {}", list()?);
    case.delete()
}

fn mistakes_are_named(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let file = case.dir.join("limits.json");
    let path = file.to_string_lossy().into_owned();
    for (text, words) in [
        ("", "limits.json"),
        ("[]", "no JSON object"),
        (r#"{"memory":{"limit":"big"}}"#, "resources: /memory/limit: invalid type"),
        (r#"{"blockIO":{"weight":5}}"#, "resources: /blockIO/weight: must be between 10 and 1000"),
    ] {
        fs::write(&file, text)?;
        case.verb(["update", "-r", &path, &case.id])?.refused()?.stderr_has(words)?.one_sentence()?;
    }
    fs::write(&file, r#"{"memroy":{"limit":1}}"#)?;
    case.verb(["update", "-r", &path, &case.id])?.ok()?.stderr_has("did you mean \"memory\"")?;
    case.verb(["update", "-r", "/nonexistent", &case.id])?.refused()?.stderr_has("no such file")?;
    case.verb(["update", "--cpu-quota", "much", &case.id])?.refused()?.stderr_has("--cpu-quota")?;
    case.delete()
}

fn intel_rdt_needs_a_group(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for (option, schema) in [("--l3-cache-schema", "L3:0=f"), ("--mem-bw-schema", "MB:0=20")] {
        case.verb(["update", option, schema, &case.id])?.refused()?.stderr_has("Intel RDT")?;
    }
    case.delete()
}

/// --kernel-memory is taken, since scripts send it, and changes nothing; TCP buffers have a limit on v1 only.
fn a_reservation_and_limits_of_the_kernels_memory(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/memory", json!({"limit": 100_663_296}));
    let init = case.args(["sleep", "60"]).up()?;
    case.verb(["update", "--memory-reservation", "48m", &case.id])?.ok()?;
    let reserved = value(&init, "memory", "memory.soft_limit_in_bytes", "memory.low")?;
    ensure!(reserved == "50331648", "the reservation is {reserved}");
    case.verb(["update", "--kernel-memory", "16m", &case.id])?.ok()?;
    ensure!(memory(&init)? == "100663296", "the limit became {}", memory(&init)?);
    let path = kernel::cgroups(init.pid)?.remove("memory").map(|dir| dir.join("memory.kmem.tcp.limit_in_bytes"));
    if let Some(path) = path.filter(|path| path.exists()) {
        case.verb(["update", "--kernel-memory-tcp", "16m", &case.id])?.ok()?;
        ensure!(kernel::read(&path)?.trim() == "16777216", "the limit of TCP buffers is {}", kernel::read(&path)?);
    }
    let reserved = value(&init, "memory", "memory.soft_limit_in_bytes", "memory.low")?;
    ensure!(reserved == "50331648", "the reservation became {reserved}");
    case.delete()
}

/// The kernel lets a cgroup have real-time only where its parent has some: what it answers is passed on, and no half stays.
fn real_time(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let dir = kernel::cgroups(init.pid)?.remove("cpu").context("a cpu cgroup")?;
    let read = |name: &str| kernel::read(dir.join(name)).map(|text| text.trim().to_owned());
    let Ok(before) = read("cpu.rt_period_us") else {
        // A kernel without RT_GROUP_SCHED.
        case.verb(["update", "--cpu-rt-period", "500000", &case.id])?.refused()?.stderr_has("cpu.rt_period_us")?;
        return case.delete();
    };
    let period = if before == "500000" { "400000" } else { "500000" };
    case.verb(["update", "--cpu-rt-period", period, &case.id])?.ok()?;
    ensure!(read("cpu.rt_period_us")? == period, "the period is {}", read("cpu.rt_period_us")?);
    let output = case.verb(["update", "--cpu-rt-runtime", "1000", &case.id])?;
    let runtime = read("cpu.rt_runtime_us")?;
    match output.status {
        0 => ensure!(runtime == "1000", "the runtime is {runtime}"),
        _ => {
            output.refused()?.stderr_has("cpu.rt_runtime_us")?;
            ensure!(runtime == "0", "the runtime became {runtime}");
        }
    }
    case.delete()
}

fn without_a_cgroup(case: &mut Case) -> Result<()> {
    // The user's systemd would make one.
    case.globals.clear();
    case.args(["sleep", "60"]).up()?;
    case.verb(["update", "--pids-limit", "30", &case.id])?
        .refused()?
        .stderr_has("cannot be limited")?
        .one_sentence()?;
    case.delete()
}
