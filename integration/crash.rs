//! A runtime that is killed at any moment leaves what `delete --force` removes without a trace.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::harness::{Case, Need, Test, reap_orphans, test};

pub fn cases() -> Vec<Test> {
    vec![
        test("crash/create_killed_at_system_calls", create_killed_at_system_calls).requires(Need::Hull),
        test("crash/start_killed_at_system_calls", start_killed_at_system_calls).requires(Need::Hull),
        test("crash/delete_killed_at_system_calls", delete_killed_at_system_calls).requires(Need::Hull),
        test("crash/create_killed_at_any_moment", create_killed_at_any_moment).requires(Need::Hull),
        test("crash/run_killed_at_any_moment", run_killed_at_any_moment).requires(Need::Hull),
        test("crash/delete_killed_at_any_moment", delete_killed_at_any_moment).requires(Need::Hull),
    ]
}

const ROUNDS: u32 = 20;

/// Deletes what is there and proves that nothing is left and that the id can be used.
fn delete_leaves_nothing(case: &mut Case, when: &str) -> Result<()> {
    reap_orphans();
    case.delete().with_context(|| when.to_owned())?;
    reap_orphans();
    let left = case.leftovers();
    ensure!(left.is_empty(), "{when}: left behind {left:?}");
    Ok(())
}

/// Kills a verb after delays that span the time it takes, the last rounds being after its end.
fn kill_verb(case: &mut Case, verb: &[&str], before: impl Fn(&Case) -> Result<()>) -> Result<()> {
    before(case)?;
    let whole = case.verb(verb)?.took;
    delete_leaves_nothing(case, "the whole verb")?;
    for round in 0..ROUNDS {
        before(case)?;
        let mut running = case.spawn(verb)?;
        let delay = whole.mul_f64(f64::from(round) * 1.2 / f64::from(ROUNDS));
        std::thread::sleep(delay);
        running.kill();
        let _ = running.wait(Duration::from_secs(10))?;
        delete_leaves_nothing(case, &format!("killed after {delay:?}"))?;
    }
    case.script("echo fine").prints("fine\n")
}

fn create_killed_at_any_moment(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let (bundle, id) = (case.bundle(), case.id.clone());
    kill_verb(case, &["create", "--bundle", &bundle.to_string_lossy(), &id], |_| Ok(()))
}

fn run_killed_at_any_moment(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let (bundle, id) = (case.bundle(), case.id.clone());
    kill_verb(case, &["run", "-d", "--bundle", &bundle.to_string_lossy(), &id], |_| Ok(()))
}

fn delete_killed_at_any_moment(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let id = case.id.clone();
    kill_verb(case, &["delete", "--force", &id], |case| case.up().map(drop))
}

/// How many points of a verb are tried: spread evenly over the entries and exits of its system calls.
const POINTS: usize = 24;

/// Runs a verb under ptrace(2) and kills it when it has passed `at` entries and exits of system calls; gives how many it
/// passed. What it clones is not traced.
fn killed_at(case: &mut Case, verb: &[&str], at: usize) -> Result<usize> {
    case.before = "kill -STOP $$".into();
    let running = case.spawn(verb);
    case.before.clear();
    let running = running?;
    let pid = Pid::from_raw(running.pid());
    let deadline = Instant::now() + Duration::from_secs(30);
    crate::kernel::eventually("the shell stops itself", || crate::kernel::state_of(running.pid()) == Some('T'))?;
    ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL)
        .context("PTRACE_SEIZE")?;
    nix::sys::signal::kill(pid, Signal::SIGCONT)?;
    let mut passed = 0;
    loop {
        ensure!(Instant::now() < deadline, "{verb:?} does not end under ptrace");
        let signal = match waitpid(pid, Some(WaitPidFlag::__WALL)).context("waitpid")? {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => break,
            WaitStatus::PtraceSyscall(_) => {
                passed += 1;
                if passed > at {
                    nix::sys::signal::kill(pid, Signal::SIGKILL)?;
                }
                None
            }
            WaitStatus::PtraceEvent(..) => None,
            WaitStatus::Stopped(_, signal) => Some(signal),
            other => bail!("{other:?}"),
        };
        // A process that was just killed takes no more orders.
        let _ = ptrace::syscall(pid, signal);
    }
    Ok(passed)
}

fn kill_at_system_calls(case: &mut Case, verb: &[&str], before: impl Fn(&Case) -> Result<()>) -> Result<()> {
    before(case)?;
    let whole = killed_at(case, verb, usize::MAX)?;
    ensure!(whole > POINTS, "{verb:?} makes only {whole} entries and exits of system calls");
    delete_leaves_nothing(case, "the whole verb")?;
    for point in 0..POINTS {
        before(case)?;
        let at = whole * point / POINTS;
        killed_at(case, verb, at)?;
        delete_leaves_nothing(case, &format!("killed at {at} of {whole}"))?;
    }
    case.script("echo fine").prints("fine\n")
}

fn create_killed_at_system_calls(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let (bundle, id) = (case.bundle(), case.id.clone());
    kill_at_system_calls(case, &["create", "--bundle", &bundle.to_string_lossy(), &id], |_| Ok(()))
}

fn start_killed_at_system_calls(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let id = case.id.clone();
    kill_at_system_calls(case, &["start", &id], |case| case.create().map(drop))
}

fn delete_killed_at_system_calls(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let id = case.id.clone();
    kill_at_system_calls(case, &["delete", "--force", &id], |case| case.up().map(drop))
}
