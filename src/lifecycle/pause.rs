//! `pause` and `resume`: the freezer on and off, and nothing else: what is paused is read from the kernel.

use super::Globals;
use super::state::{State, StateDir, Status};
use crate::cgroup::Handle;
use crate::error::{Error, Result};

/// Freezes all processes of a created or running container.
pub fn pause(globals: &Globals, id: &str) -> Result<()> {
    let (_dir, state) = locked(globals, id)?;
    let not_running = || Error::status("container not running");
    let state = state.ok_or_else(not_running)?;
    if !matches!(state.status()?, Status::Created | Status::Running) {
        return Err(not_running());
    }
    let cgroup = Handle::open(&state.cgroup)?;
    cgroup.freeze(true)?;
    // It ended meanwhile: nothing that is left of it may stay frozen, since no verb would thaw it.
    let alive = state.init.map(|init| init.alive()).transpose();
    if !matches!(alive, Ok(Some(true))) {
        cgroup.freeze(false)?;
        return Err(alive.err().unwrap_or_else(not_running));
    }
    Ok(())
}

/// Thaws a paused container.
pub fn resume(globals: &Globals, id: &str) -> Result<()> {
    let (_dir, state) = locked(globals, id)?;
    match state {
        Some(state) if state.status()? == Status::Paused => Handle::open(&state.cgroup)?.freeze(false),
        _ => Err(Error::status("container not paused")),
    }
}

/// The container's state, and its lock for as long as the directory lives.
fn locked(globals: &Globals, id: &str) -> Result<(StateDir, Option<State>)> {
    let dir = StateDir::open(&globals.root, id)?;
    dir.lock()?;
    let state = dir.load()?;
    Ok((dir, state))
}
