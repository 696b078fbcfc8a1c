//! `delete`: removes what create made, in an order that can be taken up again after a kill at any line.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::Globals;
use super::process;
use super::state::{Intent, Stage, State, StateDir, Status, passes};
use crate::bytes;
use crate::cgroup::Handle;
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::host::HostFacts;
use crate::plan::hooks::Hooks;
use crate::plan::{Options, Plan};
use crate::spec::load;
use crate::steps::hooks;
use crate::steps::intel_rdt::Saved;
use crate::steps::process::cloexec_all;
use crate::steps::rootfs::detach_from_host;

/// How long a killed init may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes a stopped or created container; with `force` kills it before, and forgives one that does not exist.
pub fn delete(globals: &Globals, id: &str, force: bool) -> Result<()> {
    let locked = StateDir::open(&globals.root, id).and_then(|dir| dir.lock().map(|()| dir));
    let dir = match locked {
        Ok(dir) => dir,
        Err(error) if force && error.step == Step::Missing => return Ok(()),
        Err(error) => return Err(error),
    };
    let state = match dir.load() {
        Ok(Some(state)) => state,
        // Killed before it wrote its intent: nothing but the directory was made.
        Ok(None) => return dir.remove(),
        // It may be whole, and the container running: it can be read later.
        Err(error) if error.errno.is_some_and(passes) => return Err(error),
        Err(error) if force => {
            let Ok(Some(state)) = from_config(globals, &dir, id) else {
                crate::log::warn(format!("{error}; what of it runs, and its cgroup, is not known and stays"));
                return dir.remove();
            };
            crate::log::warn(format!("{error}; its cgroups are taken from the copy of config.json"));
            return remove(&dir, &state, force);
        }
        Err(error) => return Err(error),
    };
    let status = state.status()?;
    match status {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => {
            let what = format!("cannot delete container {id} that is not stopped: {}", status.as_str());
            return Err(Error::status(what).hint("--force kills it first"));
        }
    }
    remove(&dir, &state, force)
}

/// What state.json would say of the cgroups and the hooks: the copy of config.json leads to the same plan. None where it leads
/// to no cgroup that is there, or to one that is not the container's alone.
fn from_config(globals: &Globals, dir: &StateDir, id: &str) -> Result<Option<State>> {
    let text = dir.load_config()?;
    let (spec, _) = load::parse(&text)?;
    let facts = HostFacts::probe_for(&spec, globals.cgroup_manager)?;
    let options = Options {
        id: id.to_owned(),
        console_socket: spec.process.as_ref().is_some_and(|process| process.terminal),
        detached: true,
        cgroup_manager: globals.cgroup_manager,
        rootless: globals.rootless,
        ..Options::default()
    };
    let plan = Plan::new(&spec, &facts, &options)?;
    let mut state = State::creating(id, Intent::of(&plan))?;
    // The bundle is not known, and a root may lie in it: what was mounted on the host stays.
    state.host_mounts = false;
    let cgroup = Handle::open(&state.cgroup)?;
    let own = std::process::id().cast_signed();
    Ok((cgroup.is_there() && !cgroup.pids()?.contains(&own)).then_some(state))
}

/// Kills what is left, removes the cgroup and the mounts, runs the poststop hooks, and last the state itself. Hooks that
/// cannot be read end it before it begins, but with `force`.
pub fn remove(dir: &StateDir, state: &State, force: bool) -> Result<()> {
    let hooks = match poststop_hooks(dir, state) {
        Err(error) if force => {
            crate::log::warn(format!("no poststop hook is run: {error}"));
            None
        }
        hooks => hooks?,
    };
    kill_init(state)?;
    Handle::open(&state.cgroup)?.remove()?;
    state.rdt.as_ref().map_or(Ok(()), Saved::remove)?;
    match state.host_root {
        Some(id) => detach_from_host(&state.rootfs, id)?,
        None if state.host_mounts => unmount_beneath(&state.rootfs)?,
        None => {}
    }
    let gone = |error: Error| match error.errno {
        Some(libc::EROFS | libc::EACCES | libc::EPERM) => {
            error.hint("its processes and cgroups are gone; delete it again when this can be written")
        }
        _ => error,
    };
    if let Some(hooks) = &hooks {
        // Hooks that have run cannot be written down: so they run only when the rest will work.
        dir.remove_socket().map_err(gone)?;
        // Whoever called `delete` may have left some open.
        cloexec_all()?;
        run_poststop(hooks, state);
    }
    dir.remove().map_err(gone)
}

fn kill_init(state: &State) -> Result<()> {
    let Some(init) = state.init else { return Ok(()) };
    let Some(init) = init.hold()? else { return Ok(()) };
    match crate::sys::signal::pidfd_send(init.handle().as_fd(), libc::SIGKILL) {
        Err(e) if e.raw_os_error() != Some(libc::ESRCH) => {
            return Err(e).err_at(Step::Kill, "pidfd_send_signal", || format!("kill init, process {}", init.pid()));
        }
        _ => {}
    }
    crate::cgroup::thaw_to_die(&state.cgroup);
    let ended = hooks::wait_end(init.handle(), PATIENCE).err_at(Step::Kill, "poll", || "wait for init's end")?;
    if ended {
        return Ok(());
    }
    let what = format!("init, process {}, does not end {} s after SIGKILL", init.pid(), PATIENCE.as_secs());
    let Some(zombies) = init.look(|pid| Ok(unreaped(pid)))? else { return Ok(()) };
    Err(Error::host(Step::Kill, what).hint(match zombies {
        zombies if zombies.is_empty() => "it hangs in the kernel; try again later".to_owned(),
        zombies => format!("the kernel waits until {} by its parent", zombies.join(", ")),
    }))
}

/// Zombies of init's pid namespace that a process outside of it has to reap, say who asked for an exec: init ends after them.
fn unreaped(init: i32) -> Vec<String> {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(own) = namespace(init) else { return Vec::new() };
    let numbers = crate::sys::listing::processes().unwrap_or_default();
    numbers
        .into_iter()
        .filter(|&pid| pid != init && namespace(pid).is_some_and(|other| other == own))
        .filter_map(|pid| {
            let parent = process::parent_of_zombie(pid)?;
            let name = bytes::text(format!("/proc/{parent}/comm")).unwrap_or_default();
            Some(format!("process {pid}, a child of {parent} ({}), is reaped", name.trim_end()))
        })
        .collect()
}

/// A container without a mount namespace left its mounts on the host; the last one goes first.
fn unmount_beneath(rootfs: &Path) -> Result<()> {
    let table = std::fs::read("/proc/self/mountinfo").err_at(Step::Mount, "open", || "read /proc/self/mountinfo")?;
    let points: Vec<_> = bytes::mounts(&table).map(|mount| mount.at()).collect();
    for point in points.iter().rev().filter(|point| *point != rootfs && point.starts_with(rootfs)) {
        unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .err_at(Step::Mount, "umount2", || format!("unmount {}", show(point)))?;
    }
    Ok(())
}

/// None where there are none. A container whose create died early has no whole copy of config.json, and none of its hooks ran.
fn poststop_hooks(dir: &StateDir, state: &State) -> Result<Option<Hooks>> {
    if !state.late_hooks {
        return Ok(None);
    }
    let text = match dir.load_config() {
        Err(error) if error.is(Errno::NOENT) => return Ok(None),
        text => text?,
    };
    match load::parse(&text).and_then(|(spec, _)| Hooks::new(&spec)) {
        Err(_) if state.stage == Stage::Creating => Ok(None),
        hooks => hooks.map(Some),
    }
}

/// Their failures are warnings: the container is gone, whatever they say.
fn run_poststop(hooks: &Hooks, state: &State) {
    let json = state.to_json(Status::Stopped);
    let output = hooks::Output::open(hooks).unwrap_or_else(|error| {
        crate::log::warn(error.to_string());
        hooks::Output::default()
    });
    for hook in &hooks.poststop {
        if let Err(error) = hooks::run("poststop", hook, &json, None, &output) {
            crate::log::warn(error.to_string());
        }
    }
}
