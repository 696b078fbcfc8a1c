//! `run`: create and start in one process; in the foreground it stays, passes signals on and gives the program's status.

use std::os::fd::AsFd;

use super::create::{Created, again_from_copy, prepare, setup};
use super::foreground::Foreground;
use super::process::Held;
use super::recorder::{Output, Recorder};
use super::sdnotify::Waiting;
use super::{CreateOptions, Globals, death, delete, journal, start};
use crate::error::{ErrAt, Result, Step};
use crate::plan::order::Point;
use crate::trace;

/// Creates and starts; in the foreground waits for the program and gives its exit status.
pub fn run(globals: &Globals, options: &CreateOptions) -> Result<i32> {
    let result = create_and_start(globals, options, None);
    trace::close(true);
    result
}

/// The same in the foreground, with a profile of the program's calls.
pub fn record(globals: &Globals, options: &CreateOptions, output: &Output, names_only: bool) -> Result<i32> {
    let result = create_and_start(globals, options, Some((output, names_only)));
    trace::close(true);
    result
}

fn create_and_start(globals: &Globals, options: &CreateOptions, record: Option<(&Output, bool)>) -> Result<i32> {
    let prepared = prepare(globals, options, options.detach)?;
    let plan = &prepared.plan;
    if plan.process.args.is_empty() {
        return Err(start::no_program());
    }
    let (mut foreground, stdio) = if options.detach {
        (None, Default::default())
    } else {
        let (foreground, stdio) = Foreground::prepare(plan.process.terminal, options.no_subreaper)?;
        (Some(foreground), stdio)
    };
    let created = setup(&prepared, globals, options, stdio).map_err(|error| again_from_copy(error, options))?;
    let Created { init, pidfd, terminal, dir, state } = created;
    let held = Held::new(init, pidfd);
    let pidfd = held.handle();

    let adopted = foreground.as_mut().zip(terminal).map_or(Ok(()), |(foreground, master)| foreground.adopt(master));
    let ready = Waiting::open(&dir)?;
    trace::step(Point::RunProgram);
    let mut recorder = record.map(|_| Recorder::new(plan));
    let released = adopted.and_then(|()| start::release(&dir, &state, &held, recorder.as_mut()));
    let started = released.and_then(|()| {
        let _ = dir.remove_socket();
        start::run_poststart(&state, &plan.hooks, pidfd)
    });
    let result = match (started, foreground) {
        (Err(error), foreground) => {
            end(pidfd);
            drop(foreground);
            Err(error)
        }
        (Ok(()), None) => {
            drop(dir);
            return ready.map_or(Ok(()), |ready| ready.wait(init.pid, pidfd)).map(|()| 0);
        }
        (Ok(()), Some(mut foreground)) => {
            // Other verbs may work on the container while its program runs.
            drop(dir);
            trace::step(Point::WaitForEnd);
            foreground.ready = ready;
            foreground.recorder = recorder;
            // A container that nobody attends to must not stay.
            let attended = foreground.attend(init, pidfd).inspect_err(|_| end(pidfd));
            let Ok(status) = attended else {
                if !options.keep {
                    delete_own(globals, options)?;
                }
                return attended;
            };
            let written = match (foreground.recorder.take(), record) {
                (Some(recorder), Some((output, names_only))) => recorder.finish(plan, output, names_only),
                _ => Ok(()),
            };
            if let Some(death) = death::of(status, foreground.killed_by, init.pid, &state.cgroup, &prepared.text) {
                crate::log::warn(format!("run {}: {}", options.id, death.sentence));
                journal::death(&globals.root, "run", &options.id, status, &death, &prepared.text);
            }
            if options.keep {
                return written.map(|()| status);
            }
            return delete_own(globals, options).and(written).map(|()| status);
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
    trace::step(Point::Delete);
    let deleted = delete::delete(globals, &options.id, true);
    deleted.map_err(|error| match &error.hint {
        None => error.hint(format!("`hull delete --force {}` tries again", options.id)),
        Some(hint) => {
            let hint = format!("{hint}; `hull delete --force {}` tries again", options.id);
            error.hint(hint)
        }
    })
}

fn end(pidfd: &std::os::fd::OwnedFd) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let _ = crate::sys::signal::pidfd_send(pidfd.as_fd(), libc::SIGKILL);
    let _ =
        waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).err_at(Step::Sync, "waitid", || "wait for init");
}
