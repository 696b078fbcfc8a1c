//! The container's cgroups: made, joined, limited, frozen, killed, removed.
//!
//! A [`Handle`] holds one directory of each hierarchy open; every file of a cgroup is opened from there. What exists is
//! written down as [`Saved`] before it is made, so that any later hull finds and removes it.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{ErrAt, Error, Result, Step, show};
use crate::plan::cgroup::{Cgroup, DeviceRules, TCP_BUFFERS, Write, instead, is_no_limit};

mod dbus;
mod directory;
mod enter;
mod freezer;
mod oom;
pub mod stats;
pub mod systemd;
mod update;
mod walk;

use directory::{Directory, Enable};
pub use enter::Places;
pub use freezer::is_frozen;

/// How long killing and removing may take before it is an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a container's cgroups are: kept in its state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Saved {
    /// One for each hierarchy.
    pub trees: Vec<SavedTree>,
    /// The unit that systemd made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<systemd::Saved>,
}

/// The cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTree {
    /// Its directory.
    #[serde(with = "crate::bytes::json")]
    pub directory: PathBuf,
    /// Controllers of a v1 hierarchy.
    pub controllers: Vec<String>,
    /// cgroup2.
    pub v2: bool,
}

impl Saved {
    /// What a plan will make.
    pub fn planned(plan: &Cgroup) -> Saved {
        let tree = |tree: &crate::plan::cgroup::Tree| SavedTree {
            directory: tree.directory(),
            controllers: tree.controllers.clone(),
            v2: tree.v2,
        };
        Saved { trees: plan.trees.iter().map(tree).collect(), unit: plan.unit.as_ref().map(systemd::Saved::planned) }
    }
}

/// The container's cgroups, open.
#[derive(Debug)]
pub struct Handle {
    trees: Vec<Directory>,
    forgiving: bool,
    unit: Option<systemd::Saved>,
}

impl Handle {
    /// Makes the cgroups, or leaves that to systemd, which wants a process for it. One that is there already must be
    /// empty and thawed. After an error `made` has those that were made so far, for the caller to remove.
    pub fn create(plan: &Cgroup, made: &mut Option<Handle>) -> Result<()> {
        let trees = Vec::with_capacity(plan.trees.len());
        let handle = made.insert(Handle { trees, forgiving: plan.forgiving, unit: None });
        if plan.unit.is_some() {
            return systemd::check_unused(plan);
        }
        // Beside v1 hierarchies v2 has only what limits need: peers refuse a host where it has more.
        let enable = Enable { needed: &plan.enable, all: plan.trees.iter().all(|tree| tree.v2) };
        for tree in &plan.trees {
            match Directory::create(&tree.mount, &tree.path, tree.v2, &tree.controllers, enable) {
                Ok(directory) => handle.trees.push(directory),
                Err(_) if plan.forgiving => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Opens the cgroups of a container that exists; those that have gone are left out.
    pub fn open(saved: &Saved) -> Result<Handle> {
        let mut trees = Vec::with_capacity(saved.trees.len());
        for tree in &saved.trees {
            trees.extend(Directory::open(&tree.directory, tree.v2, &tree.controllers)?);
        }
        Ok(Handle { trees, forgiving: false, unit: saved.unit.clone() })
    }

    /// Whether any is left.
    pub fn is_there(&self) -> bool {
        !self.trees.is_empty()
    }

    /// The directory for CLONE_INTO_CGROUP.
    pub fn clone_into(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.trees.iter().find(|tree| tree.v2).map(Directory::fd)
    }

    /// Puts a process into every cgroup that the clone could not put it into. `cloned_into`: it is in v2's already.
    pub fn join(&mut self, plan: &Cgroup, pid: i32, cloned_into: bool) -> Result<()> {
        if let Some(unit) = &plan.unit {
            return self.start_unit(unit, plan, pid);
        }
        for tree in self.trees.iter().filter(|tree| !(tree.v2 && cloned_into)) {
            let put = || tree.write("cgroup.procs", &pid.to_string(), || format!("put process {pid} into the cgroup"));
            match put() {
                Err(_) if self.forgiving => {}
                Err(error) if tree.v2 && error.is(Errno::OPNOTSUPP) && tree.make_threaded() => put()?,
                result => result?,
            }
        }
        Ok(())
    }

    /// Sets the device rules. In v1 that takes several writes, and between "deny all" and the exceptions init could not make
    /// its devices: nobody may be in the cgroup yet, or it waits. In all cases init touches nothing of an image or a volume
    /// before: its neighbours in a volume may put a device where a file was.
    pub fn set_devices(&self, plan: &Cgroup) -> Result<()> {
        let Some(rules) = &plan.devices else { return Ok(()) };
        let lenient = rules.while_nodes_are_made();
        self.write_devices(lenient.as_ref().unwrap_or(rules), false)
    }

    /// All rules hold, once init has made its nodes.
    pub fn settle_devices(&self, plan: &Cgroup) -> Result<()> {
        match &plan.devices {
            // v2's program comes beside the one that is there, and both have to agree; v1's lines add to those before.
            Some(rules) if rules.while_nodes_are_made().is_some() => self.write_devices(rules, true),
            _ => Ok(()),
        }
    }

    fn write_devices(&self, rules: &DeviceRules, more: bool) -> Result<()> {
        let v1 = |tree: &&Directory| tree.controllers.iter().any(|name| name == "devices");
        if let Some(tree) = self.trees.iter().find(v1) {
            for (file, line) in rules.v1_lines().iter().skip(usize::from(more)) {
                tree.write(file, line, || format!("write {line:?} (/linux/resources/devices)"))?;
            }
            return Ok(());
        }
        let Some(tree) = self.trees.iter().find(|tree| tree.v2) else { return Ok(()) };
        let subject = || format!("set the device rules of {} (/linux/resources/devices)", show(&tree.path));
        let program = crate::sys::bpf::load_device_program(&rules.program()).err_at(
            Step::DeviceRules,
            "bpf(BPF_PROG_LOAD)",
            subject,
        )?;
        crate::sys::bpf::attach_device_program(tree.fd(), program.as_fd()).err_at(
            Step::DeviceRules,
            "bpf(BPF_PROG_ATTACH)",
            subject,
        )
    }

    /// Writes the limits.
    pub fn apply(&self, plan: &Cgroup) -> Result<()> {
        for write in &plan.writes {
            self.limit(write, plan)?;
        }
        if let Some(uid) = plan.owner {
            for tree in &self.trees {
                tree.give_to(uid)?;
            }
        }
        Ok(())
    }

    /// The open directory of a planned value.
    fn directory(&self, write: &Write, plan: &Cgroup) -> Option<&Directory> {
        let directory = plan.trees[write.tree].directory();
        self.trees.iter().find(|tree| tree.path == directory)
    }

    /// A file of cgroup v2, where that has the controllers.
    pub fn read_v2(&self, file: &str) -> Option<String> {
        self.trees.iter().find(|tree| tree.v2)?.read(file).ok()
    }

    fn limit(&self, write: &Write, plan: &Cgroup) -> Result<()> {
        let subject = || format!("limit {} to {:?} ({})", write.file, write.value, write.pointer);
        let Some(tree) = self.directory(write, plan) else {
            return Err(
                Error::call(Step::Cgroup, "mkdirat", Errno::NOENT, subject()).hint("the cgroup could not be made")
            );
        };
        if let Some(file) = write.not_below
            && let (Ok(limit), Some(usage)) = (write.value.parse(), tree.number(file))
            && usage >= limit
        {
            return Err(Error::host(Step::Cgroup, format!("{}: {usage} bytes are in use", subject()))
                .hint("checkBeforeUpdate is on"));
        }
        match tree.write(&write.file, &write.value, subject) {
            Err(error) if error.is(Errno::NOENT) && write.file == TCP_BUFFERS => {
                crate::log::warn(format!("{}: this kernel has no such limit, ignored", write.pointer));
                Ok(())
            }
            // Optional files: swap accounting off, reservations of an old kernel. "No limit" needs no file.
            Err(error) if error.is(Errno::NOENT) && (write.file.contains(".rsvd.") || is_no_limit(&write.value)) => {
                Ok(())
            }
            Err(error) if error.is(Errno::NOENT) => {
                if let Some((file, value)) = instead(&write.file, &write.value)
                    && tree.write(file, &value, subject).is_ok()
                {
                    return Ok(());
                }
                Err(error.hint(format!("the {} controller is not available in this cgroup", write.controller)))
            }
            // v1 does not go below what cannot be reclaimed.
            Err(error) if error.is(Errno::BUSY) && write.controller == "memory" => {
                let usage = tree.number("memory.usage_in_bytes").unwrap_or_default();
                Err(error.hint(format!("{usage} bytes are in use")))
            }
            Err(error) if error.is(Errno::INVAL) && write.file == "memory.limit_in_bytes" => {
                Err(error.hint("a memory limit cannot be above the limit of memory and swap together: raise that too"))
            }
            result => result,
        }
    }

    /// Ends every process in the cgroups, also those that are made meanwhile and those that are frozen.
    pub fn kill(&self) -> Result<()> {
        if self.trees.iter().any(|tree| tree.v2 && tree.kill_all()) {
            freezer::thaw_below(&self.trees);
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        let mut signalled = BTreeSet::new();
        loop {
            // Frozen processes make no others. One that does not freeze soon is not waited for: the next round gets it.
            freezer::freeze_for(&self.trees, Duration::from_millis(100));
            let mut all_known = true;
            for pid in self.pids()? {
                all_known &= !signalled.insert(pid);
                send_kill(pid);
            }
            freezer::thaw_below(&self.trees);
            if all_known {
                return Ok(());
            }
            if Instant::now() > deadline {
                let what =
                    format!("kill the container: it makes processes faster than they end for {} s", PATIENCE.as_secs());
                return Err(Error::host(Step::Kill, what));
            }
        }
    }

    /// Every process in the cgroups and those below them, once.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for tree in &self.trees {
            tree.pids(&mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Every process that is in all of the cgroups, or below each of them.
    pub fn pids_in_all(&self) -> Result<Vec<i32>> {
        let mut pids = self.pids()?;
        for tree in &self.trees {
            let mut here = Vec::new();
            tree.pids(&mut here)?;
            here.sort_unstable();
            pids.retain(|pid| here.binary_search(pid).is_ok());
        }
        Ok(pids)
    }

    /// Freezes or thaws.
    pub fn freeze(&self, on: bool) -> Result<()> {
        freezer::freeze(&self.trees, on)
    }

    /// How many processes the memory limit has killed; None where nothing counts them.
    pub fn oom_kills(&self) -> Option<u64> {
        self.trees.iter().find_map(|tree| {
            let file = if tree.v2 {
                "memory.events"
            } else if tree.controllers.iter().any(|name| name == "memory") {
                "memory.oom_control"
            } else {
                return None;
            };
            let text = tree.read(file).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        })
    }

    /// Whether the memory limit has killed a process.
    pub fn killed_by_limit(&self) -> bool {
        match self.oom_kills() {
            Some(kills) => kills > 0,
            // systemd takes the cgroup away with its last process, and keeps the unit that failed.
            None => self.unit.as_ref().is_some_and(systemd::was_out_of_memory),
        }
    }

    /// Whether the memory limit was met, with or without a kill.
    pub fn met_limit(&self) -> bool {
        self.trees.iter().any(|tree| {
            if tree.v2 {
                let text = tree.read("memory.events").unwrap_or_default();
                text.lines().filter_map(|line| line.strip_prefix("max ")).any(|times| times != "0")
            } else {
                tree.controllers.iter().any(|name| name == "memory") && tree.number("memory.failcnt") > Some(0)
            }
        })
    }

    /// An error with the memory limit as its hint, where that explains it: it killed, or a call failed for want of memory,
    /// or a process left without a word and not by a signal from outside.
    pub fn explain(&self, error: Error, without_a_word: bool) -> Error {
        // ENOSPC: what the mount table and tmpfs say of it.
        let no_memory = (error.is(Errno::NOMEM) || error.is(Errno::NOSPC)) && error.hint.is_none();
        if without_a_word && self.killed_by_limit() {
            error.hint(NO_MEMORY)
        } else if (without_a_word || no_memory) && self.met_limit() {
            let others = error.hint.as_ref().map_or(String::new(), |others| format!("{others}; "));
            error.hint(format!("{others}{MET_LIMIT}"))
        } else {
            error
        }
    }

    /// Whether processes wait for memory, since the limit is met and may not kill (v1, disableOOMKiller).
    pub fn waits_for_memory(&self) -> bool {
        let memory = self.trees.iter().find(|tree| !tree.v2 && tree.controllers.iter().any(|name| name == "memory"));
        let text = memory.and_then(|tree| tree.read("memory.oom_control").ok()).unwrap_or_default();
        ["oom_kill_disable 1", "under_oom 1"].iter().all(|line| text.lines().any(|have| have == *line))
    }

    /// Kills what is left and removes the cgroups with all that the payload made in them; never a parent.
    pub fn remove(self) -> Result<()> {
        self.remove_trees()?;
        let Handle { trees, unit, .. } = self;
        // So that a unit can be stopped wherever one could be started: with no more descriptors than that took.
        drop(trees);
        match unit.map_or(Ok(()), |unit| systemd::stop(&unit)) {
            // systemd need not hear that a cgroup is empty which has gone, and would keep the unit: it is tried again.
            Err(error) if [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS].iter().any(|&e| error.is(e)) => {
                Err(error)
            }
            Err(error) => {
                // There may be no systemd any more, and nothing is left of the unit in the kernel.
                crate::log::warn(error.to_string());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn remove_trees(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(50);
        for tree in &self.trees {
            loop {
                match tree.remove() {
                    Ok(()) => break,
                    Err(error) if (error.is(Errno::BUSY) || error.is(Errno::NOTEMPTY)) && Instant::now() < deadline => {
                        // Killed and not yet reaped, or still alive: nothing may outlive the container.
                        if tree.has_processes() {
                            self.kill()?;
                        }
                        crate::sys::process::sleep(pause);
                        pause = (pause * 2).min(Duration::from_millis(50));
                    }
                    Err(error) => {
                        let mut pids = Vec::new();
                        let _ = tree.pids(&mut pids);
                        return Err(if pids.is_empty() {
                            error
                        } else {
                            error.hint(format!("these processes do not end: {pids:?}"))
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

/// How a death by the memory limit is said.
pub const NO_MEMORY: &str = "killed by the memory limit of its cgroup (out of memory)";

/// And what is likely where it has killed nobody: calls fail with ENOMEM, or the error itself cannot be sent.
pub const MET_LIMIT: &str = "the memory limit of its cgroup is met";

/// And a wait that it never ends.
pub const NO_KILLER: &str = "the memory limit of its cgroup is met, and disableOOMKiller forbids to end it";

/// Lets frozen processes die that have been killed: on v1 a frozen one keeps the signal until it is thawed, and the
/// payload may have frozen some in cgroups of its own.
pub fn thaw_to_die(saved: &Saved) {
    let v1 = saved.trees.iter().find(|tree| tree.controllers.iter().any(|name| name == "freezer"));
    if let Some(tree) = v1
        && let Ok(Some(directory)) = Directory::open(&tree.directory, tree.v2, &tree.controllers)
    {
        freezer::thaw_below(std::slice::from_ref(&directory));
    }
}

/// SIGKILL by a handle: a number that ends and is used again meanwhile is not hit.
fn send_kill(pid: i32) {
    let Some(number) = rustix::process::Pid::from_raw(pid) else { return };
    let _ = match rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty()) {
        Ok(pidfd) => crate::sys::signal::pidfd_send(pidfd.as_fd(), libc::SIGKILL),
        // A filter's answer: the number was read from the cgroup just now.
        Err(Errno::NOSYS | Errno::PERM) => crate::sys::signal::kill(pid, libc::SIGKILL),
        Err(_) => return,
    };
}

/// A directory by path, for those that take `&Path`.
fn open_directory(path: &Path) -> rustix::io::Result<std::os::fd::OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
