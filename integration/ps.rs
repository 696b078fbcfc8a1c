//! ps: the processes of a container, as the kernel's cgroups have them.

use anyhow::{Context, Result, ensure};

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let root = |test: Test| test.requires(Need::Root).requires(Need::Verb("ps"));
    vec![
        root(test("ps/json_is_every_pid", json_is_every_pid)),
        root(test("ps/json_of_a_stopped_one_is_null", json_of_a_stopped_one_is_null))
            .peer("crun", "refuses a stopped container"),
        root(test("ps/table_is_the_hosts_ps", table_is_the_hosts_ps))
            .requires(Need::Tool("ps"))
            .peer("crun", "prints pids only"),
        root(test("ps/sees_nested_cgroups", sees_nested_cgroups)).peer("crun", "does not look below"),
        root(test("ps/missing_is_said", missing_is_said)).peer("crun", "has other words"),
        test("ps/without_a_cgroup", without_a_cgroup).requires(Need::Rootless).requires(Need::Verb("ps")),
    ]
}

fn pids(case: &Case) -> Result<Vec<i32>> {
    let output = case.verb(["ps", "--format", "json", &case.id])?.ok()?;
    ensure!(output.stderr.is_empty(), "engines read stdout and stderr together: {:?}", output.stderr);
    let mut pids: Vec<i32> =
        serde_json::from_str(&output.stdout).with_context(|| format!("ps printed {:?}", output.stdout))?;
    pids.sort_unstable();
    Ok(pids)
}

fn json_is_every_pid(case: &mut Case) -> Result<()> {
    let init = case.script("sleep 60 & sleep 60 & echo up; wait").up()?;
    init.wait_for("up")?;
    let all = kernel::processes_when(&case.id, 3)?;
    let ours = pids(case)?;
    ensure!(ours.contains(&init.pid), "{ours:?} lacks init {}", init.pid);
    ensure!(ours == all, "{ours:?} instead of {all:?}");
    case.verb(["ps", "-f", "json", &case.id])?.ok()?.stdout_has(&init.pid.to_string())?;
    case.delete()
}

fn json_of_a_stopped_one_is_null(case: &mut Case) -> Result<()> {
    let init = case.args(["true"]).up()?;
    init.wait()?;
    let output = case.verb(["ps", "--format", "json", &case.id])?.ok()?;
    ensure!(output.stdout.trim() == "null", "it printed {:?}", output.stdout);
    case.delete()
}

fn table_is_the_hosts_ps(case: &mut Case) -> Result<()> {
    let init = case.script("sleep 61 & echo up; wait").up()?;
    init.wait_for("up")?;
    let table = case.verb(["ps", &case.id])?.ok()?.stdout;
    let lines: Vec<&str> = table.lines().collect();
    ensure!(lines.len() == 3 && lines[0].contains("UID") && lines[0].contains("PPID"), "it printed {table:?}");
    ensure!(lines[1..].iter().any(|line| line.contains("sleep 61")), "it printed {table:?}");
    let table = case.verb(["ps", &case.id, "-o", "pid,args", "-e"])?.ok()?.stdout;
    let fields: Vec<&str> = table.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    ensure!(fields.first() == Some(&init.pid.to_string().as_str()), "it printed {table:?}");
    case.verb(["ps", &case.id, "-e", "-o", "args"])?.refused()?.stderr_has("PID")?;
    case.verb(["ps", &case.id, "--no-such-option"])?.refused()?;
    case.delete()
}

fn sees_nested_cgroups(case: &mut Case) -> Result<()> {
    let init = case.script("sleep 60 & echo up; wait").up()?;
    init.wait_for("up")?;
    let child = kernel::processes_when(&case.id, 2)?.into_iter().find(|&pid| pid != init.pid).context("a child")?;
    for dir in kernel::cgroups(init.pid)?.values().filter(|dir| dir.to_string_lossy().contains(&case.id)) {
        let nested = dir.join("nested/deep");
        std::fs::create_dir_all(&nested)?;
        if let Some(hierarchy) = dir.to_str().filter(|dir| dir.contains("/cpuset/")) {
            for (at, file) in [("nested", "cpus"), ("nested", "mems"), ("nested/deep", "cpus"), ("nested/deep", "mems")]
            {
                let value = kernel::read(format!("{hierarchy}/cpuset.{file}"))?;
                std::fs::write(format!("{hierarchy}/{at}/cpuset.{file}"), value.trim())?;
            }
        }
        std::fs::write(nested.join("cgroup.procs"), child.to_string())?;
    }
    let ours = pids(case)?;
    ensure!(ours.contains(&child) && ours.contains(&init.pid), "{ours:?} lacks {child} or {}", init.pid);
    case.delete()
}

fn missing_is_said(case: &mut Case) -> Result<()> {
    case.verb(["ps", "--format", "json", &case.id])?.refused()?.stderr_has("does not exist").map(drop)
}

fn without_a_cgroup(case: &mut Case) -> Result<()> {
    let init = case.script("sleep 60 & sleep 60 & echo up; wait").up()?;
    init.wait_for("up")?;
    let all = kernel::processes_when(&case.id, 3)?;
    let ours = pids(case)?;
    ensure!(ours == all, "{ours:?} instead of {all:?}");
    case.delete()
}
