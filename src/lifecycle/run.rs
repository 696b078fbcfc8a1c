//! `run`: create and start in one process; in the foreground it stays, passes signals on and gives the program's status.

use std::os::fd::AsFd;

use super::create::{Created, again_from_copy, prepare, setup};
use super::foreground::Foreground;
use super::sdnotify::Waiting;
use super::{CreateOptions, Globals, delete, start};
use crate::cgroup;
use crate::error::{ErrAt, Result, Step};
use crate::trace;

/// Creates and starts; in the foreground waits for the program and gives its exit status.
pub fn run(globals: &Globals, options: &CreateOptions) -> Result<i32> {
    let result = create_and_start(globals, options);
    trace::close(true);
    result
}

fn create_and_start(globals: &Globals, options: &CreateOptions) -> Result<i32> {
    let prepared = prepare(globals, options, options.detach)?;
    let plan = &prepared.plan;
    if plan.process.args.is_empty() {
        return Err(start::no_program());
    }
    let (foreground, stdio) = if options.detach {
        (None, Default::default())
    } else {
        let (foreground, stdio) = Foreground::prepare(plan.process.terminal, options.no_subreaper)?;
        (Some(foreground), stdio)
    };
    let created = setup(&prepared, globals, options, stdio).map_err(|error| again_from_copy(error, options))?;
    let Created { init, pidfd, terminal, dir, state } = created;

    if let (Some(foreground), Some(master)) = (&foreground, &terminal) {
        foreground.fit(master);
    }
    let ready = Waiting::open(&dir)?;
    trace::step("20 let init go, wait for its execve");
    let started = start::release(&dir, init, &pidfd).and_then(|()| {
        let _ = dir.remove_socket();
        start::run_poststart(&state, &plan.hooks, &pidfd)
    });
    let result = match (started, foreground) {
        (Err(error), foreground) => {
            drop(foreground);
            let _ = crate::sys::signal::pidfd_send(pidfd.as_fd(), libc::SIGKILL);
            reap(&pidfd);
            Err(error)
        }
        (Ok(()), None) => {
            drop(dir);
            return ready.map_or(Ok(()), |ready| ready.wait(init.pid, &pidfd)).map(|()| 0);
        }
        (Ok(()), Some(mut foreground)) => {
            // Other verbs may work on the container while its program runs.
            drop(dir);
            trace::step("22 wait for the program");
            foreground.ready = ready;
            let status = foreground.attend(init, &pidfd, terminal)?;
            if status == 128 + libc::SIGKILL && cgroup::had_no_memory(&state.cgroup) {
                crate::log::warn(format!("run {}: {}", options.id, cgroup::NO_MEMORY));
            }
            if options.keep {
                return Ok(status);
            }
            return delete_own(globals, options).map(|()| status);
        }
    };
    if !options.keep {
        drop(dir);
        delete_own(globals, options)?;
    }
    result
}

/// The program has ended; somebody else may have deleted the container already.
fn delete_own(globals: &Globals, options: &CreateOptions) -> Result<()> {
    trace::step("23 delete");
    delete::delete(globals, &options.id, true)
}

fn reap(pidfd: &std::os::fd::OwnedFd) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let _ =
        waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).err_at(Step::Sync, "waitid", || "wait for init");
}
