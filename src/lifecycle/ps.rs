//! `ps`: which processes belong to a container, by their numbers on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Globals;
use super::process::parent_of;
use super::state::StateDir;
use crate::cgroup::Handle;
use crate::error::{ErrAt, Result, Step};
use crate::sys::listing;

/// Every process in the container's cgroups and below; without a cgroup, what runs in its pid namespace or descends
/// from its init. Empty when it has stopped.
pub fn processes(globals: &Globals, id: &str) -> Result<Vec<i32>> {
    let dir = StateDir::open(&globals.root, id)?;
    let Some(state) = dir.load()? else { return Ok(Vec::new()) };
    if !state.cgroup.trees.is_empty() {
        let pids = Handle::open(&state.cgroup)?.pids()?;
        // Joining could have been forgiven (rootless): then init is in none of them.
        if !pids.is_empty() {
            return Ok(pids);
        }
    }
    match state.init {
        Some(init) => {
            let Some(init) = init.hold()? else { return Ok(Vec::new()) };
            Ok(init.look(|pid| relatives(pid, state.own_pid_namespace))?.unwrap_or_default())
        }
        None => Ok(Vec::new()),
    }
}

/// init, its descendants, and who was put into its pid namespace from outside.
fn relatives(init: i32, own_pid_namespace: bool) -> Result<Vec<i32>> {
    let namespace = |pid: i32| std::fs::read_link(PathBuf::from(format!("/proc/{pid}/ns/pid"))).ok();
    let wanted = if own_pid_namespace { namespace(init) } else { None };
    let mut family = BTreeSet::new();
    family.insert(init);
    let mut parents = BTreeMap::new();
    for pid in listing::processes().err_at(Step::State, "getdents64", || "list the processes in /proc")? {
        if let Some(parent) = parent_of(pid) {
            parents.insert(pid, parent);
        }
        if wanted.is_some() && namespace(pid) == wanted {
            family.insert(pid);
        }
    }
    let descends =
        |pid: i32| std::iter::successors(Some(pid), |pid| parents.get(pid).copied()).any(|pid| family.contains(&pid));
    let mut pids: Vec<i32> = parents.keys().copied().filter(|&pid| descends(pid)).collect();
    pids.sort_unstable();
    Ok(pids)
}
