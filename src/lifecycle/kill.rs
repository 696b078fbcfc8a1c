//! `kill`: a signal to init through a pidfd, so that it never hits a process that took over the number.

use std::os::fd::AsFd;

use super::Globals;
use super::state::{StateDir, Status};
use crate::cgroup::{Handle, thaw_to_die};
use crate::error::{ErrAt, Error, Result, Step};

/// Sends a signal (by number) to a container's init. `all` forgives that it has stopped; without a pid namespace of its
/// own SIGKILL goes to the whole cgroup, also after init's death, since nothing else would end the rest.
pub fn kill(globals: &Globals, id: &str, signal: i32, all: bool) -> Result<()> {
    let dir = StateDir::open(&globals.root, id)?;
    let not_running = || Error::status("container not running");
    let Some((state, status)) = dir.look()? else { return Err(not_running()) };
    let whole_cgroup = signal == libc::SIGKILL && !state.own_pid_namespace;
    if status == Status::Stopped {
        if whole_cgroup {
            return Handle::open(&state.cgroup)?.kill();
        }
        return if all { Ok(()) } else { Err(not_running()) };
    }
    let Some(init) = state.init else { return Err(not_running().hint("it is still being created")) };
    let Some(pidfd) = init.open()? else {
        return if all { Ok(()) } else { Err(not_running()) };
    };
    if whole_cgroup {
        Handle::open(&state.cgroup)?.kill()?;
    }
    match crate::sys::signal::pidfd_send(pidfd.as_fd(), signal) {
        // It ended between the two calls.
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {
            if all || whole_cgroup {
                Ok(())
            } else {
                Err(not_running())
            }
        }
        result => {
            if signal == libc::SIGKILL {
                thaw_to_die(&state.cgroup);
            }
            result.err_at(Step::Kill, "pidfd_send_signal", || format!("send signal {signal} to process {}", init.pid))
        }
    }
}
