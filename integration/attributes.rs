//! Attributes of the program that execve keeps: scheduling, memory policy, execution domain, keyring, labels.
//! config.md "process", config-linux.md; sched(7), set_mempolicy(2), personality(2), keyrings(7).

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::harness::{Case, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("attributes/the_memory_policy_is_set", the_memory_policy_is_set).peer("*", "newer than the peer"),
        test("attributes/a_memory_policy_on_a_missing_node_is_refused", a_missing_node_is_refused)
            .peer("*", "newer than the peer"),
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
