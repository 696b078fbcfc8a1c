//! An ordinary user's containers and a cgroup2 tree that was delegated to him, as systemd does it for his manager: without
//! a cgroupsPath the container lies beside his own cgroup.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::ORDINARY_USER;
use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let needs = |test: Test| test.requires(Need::Root).requires(Need::CgroupV2).requires(Need::Tool("setpriv"));
    vec![
        needs(test("delegated/a_container_lies_beside_its_caller", lies_beside_its_caller))
            .peer("crun", "it has no stats"),
        needs(test("delegated/without_delegation_there_is_none", without_delegation)),
    ]
}

/// The caller is an ordinary user, in `caller` of a cgroup that is his own where `delegated`.
fn ordinary(case: &mut Case, delegated: bool) -> Result<PathBuf> {
    let top = Path::new("/sys/fs/cgroup").join(format!("{}-delegated", case.id));
    fs::create_dir_all(top.join("caller"))?;
    let user = Some(ORDINARY_USER);
    if delegated {
        for name in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            chown(top.join(name), user, user)?;
        }
    }
    // The build directory need not be readable to everyone.
    let runtime = case.dir.join(case.runtime.file_name().unwrap_or_default());
    fs::copy(&case.runtime, &runtime)?;
    case.runtime = runtime;
    chown(&case.dir, user, user)?;
    case.as_ordinary_user(ORDINARY_USER, ORDINARY_USER);
    case.before = format!(
        "echo $$ >{}/caller/cgroup.procs; exec setpriv --reuid={ORDINARY_USER} --regid={ORDINARY_USER} --clear-groups \"$@\"",
        top.display()
    );
    Ok(top)
}

fn remove(case: &Case, top: &Path, result: Result<()>) -> Result<()> {
    if result.is_err() {
        let _ = case.delete();
    }
    let left: Vec<_> = fs::read_dir(top)?.flatten().filter(|entry| entry.path().is_dir()).collect();
    for entry in &left {
        fs::remove_dir(entry.path())?;
    }
    fs::remove_dir(top)?;
    result?;
    ensure!(left.len() == 1, "left behind: {left:?}");
    Ok(())
}

fn lies_beside_its_caller(case: &mut Case) -> Result<()> {
    let top = ordinary(case, true)?;
    let result = has_a_cgroup(case, &top);
    remove(case, &top, result)
}

fn has_a_cgroup(case: &mut Case, top: &Path) -> Result<()> {
    case.set("/linux/resources", json!({"unified": {"cgroup.max.descendants": "3"}}));
    let init = case.args(["sleep", "60"]).up()?;
    let own = top.join(&case.id);
    let lies = &kernel::cgroups(init.pid)?["unified"];
    ensure!(*lies == own, "it lies in {}", lies.display());
    ensure!(kernel::read(own.join("cgroup.max.descendants"))? == "3\n", "the limit is not there");
    case.verb(["pause", &case.id])?.ok()?;
    ensure!(kernel::read(own.join("cgroup.freeze"))? == "1\n", "it goes on");
    case.status_is("paused")?;
    case.verb(["resume", &case.id])?.ok()?;
    case.status_is("running")?;
    case.verb(["events", "--stats", &case.id])?.ok()?.stdout_has("usage")?;
    case.verb(["exec", &case.id, "true"])?.ok()?;
    case.delete()
}

/// As ever: no cgroup of its own, and a limit says what is missing.
fn without_delegation(case: &mut Case) -> Result<()> {
    let top = ordinary(case, false)?;
    let result = has_no_cgroup(case, &top);
    remove(case, &top, result)
}

fn has_no_cgroup(case: &mut Case, top: &Path) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let lies = &kernel::cgroups(init.pid)?["unified"];
    ensure!(*lies == top.join("caller"), "it lies in {}", lies.display());
    case.delete()?;
    case.set("/linux/resources", json!({"unified": {"cgroup.max.descendants": "3"}}));
    case.run()?.refused().map(drop)
}
