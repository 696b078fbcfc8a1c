//! The one place where a process is cloned for a container: straight into its v2 cgroup where the kernel allows that.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::sync::{Channel, Sync, pair};
use crate::error::{ErrAt, Error, Result, Step};
use crate::steps::hooks;
use crate::sys::clone::{Cloned, clone3, exit_now};

/// Clones this process; the second answer says whether the clone is in `cgroup` already.
pub fn spawn(flags: u64, cgroup: Option<BorrowedFd<'_>>, what: &str) -> Result<(Cloned, bool)> {
    assert_one_thread();
    // A sibling's end is told as the caller's own will be.
    let signal = if flags & libc::CLONE_PARENT as u64 != 0 { 0 } else { libc::SIGCHLD };
    let cloned = match clone3(flags, cgroup, signal) {
        // No internal processes, not delegated, an old kernel or an outer filter: a write does it afterwards.
        Err(e) if cgroup.is_some() && !matches!(e.raw_os_error(), Some(libc::ENOSPC | libc::EAGAIN | libc::ENOMEM)) => {
            clone3(flags, None, signal).map(|cloned| (cloned, false))
        }
        result => result.map(|cloned| (cloned, cgroup.is_some())),
    };
    cloned.err_at(Step::Spawn, "clone3", || what).map_err(limits_hint)
}

/// How a hop ends: the clone is there, in its v2 cgroup or not.
const CLONED_INTO: i32 = 0;
const CLONED: i32 = 2;

/// Clones a hop, which goes into namespaces by `steps` and clones from there, as its own sibling (CLONE_PARENT): it says
/// the clone's number through a socket and ends. In the clone the answer is that of `steps`; None where the hop has died.
pub fn through_hop(
    what: &str,
    steps: impl FnOnce(&Channel) -> Result<(Cloned, bool)>,
) -> Result<Option<(Cloned, bool)>> {
    let (ours, hops) = pair()?;
    let hop = clone3(0, None, libc::SIGCHLD).err_at(Step::Spawn, "clone3", || what).map_err(limits_hint)?;
    let Cloned::Parent { pidfd: hop_fd, .. } = hop else {
        drop(ours);
        match steps(&hops) {
            Ok((Cloned::Child, cloned_into)) => return Ok(Some((Cloned::Child, cloned_into))),
            Ok((Cloned::Parent { pid, pidfd }, cloned_into)) => {
                let _ = hops.send(&Sync::Cloned(pid, cloned_into), &[pidfd.as_fd()]);
                exit_now(if cloned_into { CLONED_INTO } else { CLONED })
            }
            Err(error) => {
                let _ = hops.send(&Sync::Failed(Box::new(error)), &[]);
                exit_now(1)
            }
        }
    };
    drop(hops);
    let answer = ours.recv();
    let ended = waitid(WaitId::PidFd(hop_fd.as_fd()), WaitIdOptions::EXITED);
    let ended = ended.ok().flatten().and_then(|status| status.exit_status());
    let cloned_into = ended == Some(CLONED_INTO);
    Ok(match answer? {
        // Who took the clone in its first moments may have said this in the hop's place: but this process has no other
        // child by now, and how the hop ended nobody else can say.
        Some((Sync::Cloned(pid, _), mut fds))
            if fds.len() == 1 && (cloned_into || ended == Some(CLONED)) && is_child(pid, &fds[0]) =>
        {
            Some((Cloned::Parent { pid, pidfd: fds.remove(0) }, cloned_into))
        }
        _ => None,
    })
}

/// Whether both mean a child of this process.
fn is_child(pid: i32, pidfd: &OwnedFd) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let number = rustix::process::Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 0);
    number.is_some_and(|pid| waitid(WaitId::Pid(pid), options).is_ok())
        && waitid(WaitId::PidFd(pidfd.as_fd()), options).is_ok()
}

/// What the kernel means by "no space" and "try again" when it makes a process.
fn limits_hint(error: Error) -> Error {
    if error.is(Errno::NOSPC) {
        return error.hint("a limit of /proc/sys/user/max_*_namespaces is reached, or namespaces nest too deep");
    }
    if error.is(Errno::AGAIN) {
        return error.hint(hooks::NO_PROCESSES);
    }
    if error.is(Errno::PERM) {
        return error.hint("not root: namespaces need a user namespace in /linux/namespaces with mappings: `hull spec --rootless` shows one, `--userns self` makes one");
    }
    error
}

/// clone3 copies one thread: a second one would leave its locks held for ever in the child.
fn assert_one_thread() {
    debug_assert!(
        std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count) == 1,
        "hull has one thread when it clones"
    );
}

/// How a child that left without a word ended, from its wait status.
pub fn how_it_ended(child: &OwnedFd) -> String {
    let _ = hooks::wait_end(child, Duration::from_secs(5));
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::PidFd(child.as_fd()), options) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("left with status {code}"),
            (_, Some(signal)) => format!("was killed by signal {signal}"),
            _ => "died".into(),
        },
        _ => "does not answer".into(),
    }
}
