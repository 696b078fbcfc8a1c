//! Attributes of the program that execve keeps: scheduling, memory policy, execution domain, keyring, labels.
//! config.md "process", config-linux.md; sched(7), set_mempolicy(2), personality(2), keyrings(7).

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("attributes/the_memory_policy_is_set", the_memory_policy_is_set).peer("*", "newer than the peer"),
        test("attributes/a_memory_policy_on_a_missing_node_is_refused", a_missing_node_is_refused)
            .peer("*", "newer than the peer"),
        test("attributes/every_scheduling_policy", every_scheduling_policy)
            .requires(Need::Root)
            .requires(Need::Tool("chrt"))
            .peer("*", "newer than the peer"),
        test("attributes/a_policy_holds_in_a_user_namespace", a_policy_holds_in_a_user_namespace)
            .requires(Need::Root)
            .requires(Need::Tool("ionice"))
            .peer("*", "newer than the peer"),
        test("attributes/every_io_class", every_io_class)
            .requires(Need::Root)
            .requires(Need::Tool("ionice"))
            .peer("*", "newer than the peer"),
        test("attributes/the_execution_domain", the_execution_domain).peer("*", "newer than the peer"),
        test("attributes/a_session_keyring_of_its_own", a_session_keyring_of_its_own).requires(Need::Root),
        test("attributes/keys_that_a_filter_refuses", keys_that_a_filter_refuses)
            .requires(Need::NoFilter)
            .peer("*", "wants a keyring that its program could not use either"),
        test("attributes/labels_without_their_module_are_refused", labels_without_their_module_are_refused)
            .peer("*", "says less, or starts it"),
    ]
}

/// The policies of a process's mappings, as /proc/PID/numa_maps has them, each once.
fn policies(pid: i32) -> Result<Vec<String>> {
    let text = kernel::read(format!("/proc/{pid}/numa_maps"))?;
    let mut found: Vec<String> = text.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

fn the_memory_policy_is_set(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    for (mode, nodes, flags, shown) in [
        ("MPOL_BIND", "0", json!(["MPOL_F_STATIC_NODES"]), "bind=static:0"),
        ("MPOL_PREFERRED", "0", json!(["MPOL_F_RELATIVE_NODES"]), "prefer=relative:0"),
        ("MPOL_INTERLEAVE", "0", json!([]), "interleave:0"),
        ("MPOL_LOCAL", "", json!([]), "local"),
        ("MPOL_DEFAULT", "", json!([]), "default"),
    ] {
        case.set("/linux/memoryPolicy", json!({"mode": mode, "nodes": nodes, "flags": flags}));
        let init = case.up()?;
        let found = policies(init.pid)?;
        // A mapping without a policy of its own shows that of the process.
        ensure!(found.iter().any(|policy| policy == shown), "{mode} gives {found:?}, not {shown}");
        ensure!(mode == "MPOL_DEFAULT" || !found.contains(&"default".to_owned()), "{mode}: {found:?}");
        case.delete()?;
    }
    Ok(())
}

fn a_missing_node_is_refused(case: &mut Case) -> Result<()> {
    let possible = kernel::read("/sys/devices/system/node/possible")?;
    let last: u32 = possible.trim().rsplit(['-', ',']).next().context("a node")?.parse()?;
    case.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": (last + 1).to_string()}));
    case.run()?.refused()?.stderr_has("MPOL_BIND")?.stderr_has("/linux/memoryPolicy").map(drop)
}

/// What chrt(1) says of a process.
fn chrt(pid: i32) -> Result<String> {
    let output = Command::new("chrt").args(["-p", &pid.to_string()]).output()?;
    ensure!(output.status.success(), "chrt: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn every_scheduling_policy(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    // On v1 a cgroup has no time for real-time processes unless it is given some.
    let grouped = std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists();
    for (value, words) in [
        (json!({"policy": "SCHED_OTHER", "nice": -5}), &["policy: SCHED_OTHER\n", "priority: 0\n"][..]),
        (json!({"policy": "SCHED_BATCH", "nice": 3}), &["policy: SCHED_BATCH\n"]),
        (json!({"policy": "SCHED_IDLE"}), &["policy: SCHED_IDLE\n"]),
        (json!({"policy": "SCHED_FIFO", "priority": 7}), &["policy: SCHED_FIFO\n", "priority: 7\n"]),
        (
            json!({"policy": "SCHED_RR", "priority": 9, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
            &["policy: SCHED_RR|SCHED_RESET_ON_FORK\n", "priority: 9\n"],
        ),
        (
            json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 30_000_000, "period": 40_000_000}),
            &["policy: SCHED_DEADLINE", "parameters: 10000000/30000000/40000000\n"],
        ),
    ] {
        case.set("/process/scheduler", value.clone());
        if grouped && value["priority"].is_number() {
            case.set("/linux/resources/cpu", json!({"realtimePeriod": 1_000_000, "realtimeRuntime": 50_000}));
        }
        let init = case.up().with_context(|| value.to_string())?;
        let text = chrt(init.pid)?;
        ensure!(words.iter().all(|word| text.contains(word)), "{value} gives {text:?}");
        if let Some(nice) = value["nice"].as_i64() {
            let stat = kernel::read(format!("/proc/{}/stat", init.pid))?;
            let after: Vec<&str> = stat.rsplit_once(") ").context("a stat line")?.1.split(' ').collect();
            ensure!(after[16] == nice.to_string(), "nice is {}", after[16]);
        }
        case.delete()?;
    }
    Ok(())
}

fn a_policy_holds_in_a_user_namespace(case: &mut Case) -> Result<()> {
    // Neither a negative nice value nor a real-time class is in the gift of the container's own root.
    case.user_namespace()?.set("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": -5}));
    case.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 3}));
    let init = case.args(["sleep", "60"]).up()?;
    let output = Command::new("ionice").args(["-p", &init.pid.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let stat = kernel::read(format!("/proc/{}/stat", init.pid))?;
    case.delete()?;
    ensure!(text == "realtime: prio 3\n", "ionice says {text:?}");
    ensure!(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(16) == Some("-5")), "{stat}");
    Ok(())
}

fn every_io_class(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    for (class, priority, shown) in [
        ("IOPRIO_CLASS_RT", 2, "realtime: prio 2\n"),
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6\n"),
        ("IOPRIO_CLASS_IDLE", 0, "idle\n"),
    ] {
        case.set("/process/ioPriority", json!({"class": class, "priority": priority}));
        let init = case.up()?;
        let output = Command::new("ionice").args(["-p", &init.pid.to_string()]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        case.delete()?;
        ensure!(text == shown, "{class} {priority} gives {text:?}");
    }
    Ok(())
}

fn the_execution_domain(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    for (domain, number) in [("LINUX32", "00000008\n"), ("LINUX", "00000000\n")] {
        case.set("/linux/personality", json!({"domain": domain}));
        let init = case.up()?;
        let found = kernel::read(format!("/proc/{}/personality", init.pid))?;
        case.delete()?;
        ensure!(found == number, "{domain} gives {found:?}");
    }
    Ok(())
}

/// Docker's default profile refuses all three calls, to the program too. Where one is left the caller's keyring could be reached.
fn keys_that_a_filter_refuses(case: &mut Case) -> Result<()> {
    case.args(["true"]);
    for errno in ["EPERM", "ENOSYS"] {
        case.deny(&format!("keyctl,add_key,request_key:{errno}")).run()?.ok()?;
        case.deny(&format!("keyctl:{errno}")).run()?.refused()?.stderr_has("--no-new-keyring")?;
        case.deny(&format!("keyctl,request_key:{errno}")).run()?.refused()?.stderr_has("session keyring")?;
    }
    Ok(())
}

fn a_session_keyring_of_its_own(case: &mut Case) -> Result<()> {
    let name = format!("_ses.{}", case.id);
    let there = || Ok::<_, anyhow::Error>(kernel::read("/proc/keys")?.contains(&name));
    case.args(["sleep", "60"]).try_create(&["--no-new-keyring"])?.ok()?;
    let found = there();
    case.delete()?;
    ensure!(!found?, "a keyring in spite of --no-new-keyring");
    case.up()?;
    let found = there();
    case.delete()?;
    ensure!(found?, "no keyring {name} in /proc/keys");
    Ok(())
}

fn labels_without_their_module_are_refused(case: &mut Case) -> Result<()> {
    let on = |path: &str| std::fs::exists(path).unwrap_or(false);
    let selinux = on("/sys/fs/selinux/enforce");
    let apparmor = kernel::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
    let plain = case.config.clone();
    for (pointer, value, on) in [
        ("/process/apparmorProfile", "hull-nosuch", apparmor),
        ("/process/selinuxLabel", "system_u:system_r:svirt_lxc_net_t:s0:c124,c675", selinux),
        ("/linux/mountLabel", "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811", selinux),
    ] {
        case.config = plain.clone();
        case.set(pointer, json!(value));
        // A profile that does not exist cannot be had where AppArmor is on.
        if on && pointer != "/process/apparmorProfile" {
            continue;
        }
        case.run()?.refused()?.stderr_has(pointer)?.one_sentence()?;
    }
    Ok(())
}
