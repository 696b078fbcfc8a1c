//! What `create` has made so far, and how it is taken back when a later step fails; and why init failed, when it does not
//! say so itself.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::cgroup::{self, Handle};
use crate::error::{Error, Step};
use crate::lifecycle::process::{has_ended, is_stopped};
use crate::lifecycle::spawn::how_it_ended;
use crate::lifecycle::state::StateDir;
use crate::lifecycle::sync::{self, Channel};
use crate::plan::hooks::Hooks;
use crate::steps::netdev::NetDevices;
use crate::steps::{self, hooks, intel_rdt};

/// What setup has made so far; dropped on an error, it leaves nothing of it. Defused at one line, after "created".
pub struct Undo<'p> {
    pub dir: Option<StateDir>,
    pub cgroup: Option<Handle>,
    pub rdt: Option<intel_rdt::Saved>,
    pub init: Option<i32>,
    pub host_root: Option<(&'p Path, u64)>,
    pub child: Option<OwnedFd>,
    pub net_devices: Option<NetDevices>,
    pub poststop: Option<(&'p Hooks, Vec<u8>)>,
}

impl Undo<'_> {
    pub fn new(dir: StateDir) -> Self {
        Undo {
            dir: Some(dir),
            cgroup: None,
            rdt: None,
            init: None,
            host_root: None,
            child: None,
            net_devices: None,
            poststop: None,
        }
    }

    pub fn dir(&self) -> &StateDir {
        self.dir.as_ref().expect("the state directory is made first")
    }

    pub fn cgroup(&self) -> &Handle {
        self.cgroup.as_ref().expect("the cgroup is made before the clone")
    }

    pub fn defuse(mut self) -> (StateDir, OwnedFd) {
        self.cgroup.take();
        self.rdt.take();
        self.host_root.take();
        self.net_devices.take();
        self.poststop.take();
        (self.dir.take().expect("the state directory is made first"), self.child.take().expect("init was cloned"))
    }

    /// When init has been silent for a while: whether it can go on.
    pub fn why_init_hangs(&self) -> Option<Error> {
        let pid = self.init?;
        if is_stopped(pid) {
            let what = format!("init, process {pid}, is stopped by a signal before the container was created");
            return Some(Error::host(Step::Sync, what));
        }
        if self.cgroup.as_ref().is_some_and(Handle::waits_for_memory) {
            let what = format!("init, process {pid}, waits for memory before the container was created");
            return Some(Error::host(Step::Sync, what).hint(cgroup::NO_KILLER));
        }
        None
    }

    /// Of a step that failed for want of init: what init said before it left.
    pub fn first_reason(&self, channel: &Channel, error: Error) -> Error {
        let ended = self.child.as_ref().is_some_and(has_ended);
        if ended { channel.last_words().unwrap_or(error) } else { error }
    }

    /// From init's wait status and its cgroup's counters, when it left without a word.
    pub fn how_init_died(&self) -> Error {
        let Some(child) = &self.child else { return sync::out_of_order() };
        let how = how_it_ended(child);
        let error = Error::host(Step::Sync, format!("init {how} before the container was created"));
        if how.ends_with("signal 31") {
            return error.hint("the seccomp profile forbids a call that init still needs");
        }
        match &self.cgroup {
            // From outside, unless the limit has killed.
            Some(cgroup) if how.ends_with("signal 9") && !cgroup.killed_by_limit() => error,
            Some(cgroup) => cgroup.explain(error, true),
            None => error,
        }
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            let _ = crate::sys::signal::pidfd_send(child.as_fd(), libc::SIGKILL);
            let _ = hooks::wait_end(child, Duration::from_secs(10));
            let _ = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
        // The sockets of both sides keep the network namespace alive until here.
        for error in self.net_devices.take().map(NetDevices::give_back).unwrap_or_default() {
            crate::log::warn(error.to_string());
        }
        let removed = self.cgroup.take().map_or(Ok(()), Handle::remove);
        let removed = removed.and(self.rdt.as_ref().map_or(Ok(()), intel_rdt::Saved::remove));
        let removed =
            removed.and(self.host_root.map_or(Ok(()), |(path, id)| steps::rootfs::detach_from_host(path, id)));
        if let Some((hooks, state)) = &self.poststop {
            let output = hooks::Output::open(hooks).unwrap_or_default();
            for hook in &hooks.poststop {
                if let Err(error) = hooks::run("poststop", hook, state, None, &output) {
                    crate::log::warn(error.to_string());
                }
            }
        }
        let removed = removed.and_then(|()| self.dir.as_ref().map_or(Ok(()), StateDir::remove));
        if let Err(error) = removed {
            crate::log::warn(format!("{error}; `hull delete --force` tries again"));
        }
    }
}
