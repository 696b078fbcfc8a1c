//! What much of one thing costs: counted in system calls, not in time.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use serde_json::json;

use super::nothing_left;
use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("exhausted/10000_mounts", ten_thousand_mounts),
        test("exhausted/each_masked_path_costs_the_same", masked_paths).requires(Need::Hull).requires(Need::NoFilter),
        test("exhausted/each_mount_costs_the_same", many_mounts).requires(Need::Hull).requires(Need::NoFilter),
    ]
}

fn ten_thousand_mounts(case: &mut Case) -> Result<()> {
    add_mounts(case, 10_000)?;
    case.script("grep -c ' /mnt/' /proc/self/mountinfo").prints("10000\n")
}

fn add_mounts(case: &mut Case, count: usize) -> Result<()> {
    let source = case.dir.join("source");
    fs::create_dir_all(&source)?;
    let source = source.to_string_lossy().into_owned();
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}));
    for number in 0..count {
        let destination = format!("/mnt/{number:05}");
        case.mount(json!({"destination": destination, "type": "bind", "source": source, "options": ["bind", "ro"]}));
    }
    Ok(())
}

fn masked_paths(case: &mut Case) -> Result<()> {
    for number in 0..500 {
        fs::write(case.rootfs().join(format!("var/{number:03}")), "secret")?;
    }
    constant(case, 10.0, |case, count| {
        let paths: Vec<_> = (0..count).map(|number| format!("/var/{number:03}")).collect();
        case.set("/linux/maskedPaths", json!(paths));
        Ok(())
    })?;
    case.script("cat /var/*; ls /var | wc -l").prints("500\n")
}

fn many_mounts(case: &mut Case) -> Result<()> {
    constant(case, 30.0, add_mounts)
}

/// The calls for each of what `make` puts into the config: the same from 100 to 300 as from 300 to 500.
fn constant(case: &mut Case, most: f64, make: impl Fn(&mut Case, usize) -> Result<()>) -> Result<()> {
    let template = case.config.clone();
    let mut counts = Vec::new();
    for count in [100, 300, 500] {
        case.config = template.clone();
        make(case.args(["sleep", "60"]), count)?;
        counts.push(calls_of_create(case).with_context(|| format!("with {count}"))? as f64);
        nothing_left(case, "after delete")?;
    }
    let (first, second) = ((counts[1] - counts[0]) / 200.0, (counts[2] - counts[1]) / 200.0);
    ensure!(first > 1.0, "100 more cost nothing: {counts:?}");
    ensure!((first - second).abs() < 0.5, "each costs {first} calls, then {second}: {counts:?}");
    ensure!(second <= most, "each costs {second} calls, more than {most}");
    Ok(())
}

/// How many system calls `create` makes, in setup, init and whatever they clone, until setup ends.
fn calls_of_create(case: &mut Case) -> Result<usize> {
    case.write_config()?;
    case.before = "kill -STOP $$".into();
    let bundle = case.bundle();
    let running = case.spawn(["create", "--bundle", &bundle.to_string_lossy(), &case.id])?;
    case.before.clear();
    let setup = nix::unistd::Pid::from_raw(running.pid());
    kernel::eventually("the shell stops itself", || kernel::state_of(setup.as_raw()) == Some('T'))?;
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD
        | ptrace::Options::PTRACE_O_EXITKILL
        | ptrace::Options::PTRACE_O_TRACEFORK
        | ptrace::Options::PTRACE_O_TRACEVFORK
        | ptrace::Options::PTRACE_O_TRACECLONE;
    ptrace::seize(setup, options).context("PTRACE_SEIZE")?;
    nix::sys::signal::kill(setup, nix::sys::signal::Signal::SIGCONT)?;
    let mut traced = vec![setup];
    let mut stops = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        ensure!(Instant::now() < deadline, "create does not end under ptrace");
        let mut idle = true;
        for pid in traced.clone() {
            let status = waitpid(pid, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)).context("waitpid")?;
            let signal = match status {
                WaitStatus::StillAlive => continue,
                WaitStatus::Exited(_, code) if pid == setup => {
                    ensure!(code == 0, "create gave status {code}: {:?}", running.output());
                    // What is left of it is still traced: it ends with the container.
                    case.delete()?;
                    for other in traced.iter().filter(|other| **other != setup) {
                        while matches!(waitpid(*other, Some(WaitPidFlag::__WALL)), Ok(status) if status.pid().is_some()
                            && !matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..)))
                        {
                            let _ = ptrace::cont(*other, None);
                        }
                    }
                    return Ok(stops / 2);
                }
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                    traced.retain(|other| *other != pid);
                    continue;
                }
                WaitStatus::PtraceSyscall(_) => {
                    stops += 1;
                    None
                }
                WaitStatus::PtraceEvent(_, _, event) => {
                    let forks =
                        [libc::PTRACE_EVENT_FORK, libc::PTRACE_EVENT_VFORK, libc::PTRACE_EVENT_CLONE].contains(&event);
                    if forks {
                        traced.push(nix::unistd::Pid::from_raw(ptrace::getevent(pid)? as i32));
                    }
                    None
                }
                WaitStatus::Stopped(_, signal) => Some(signal),
                other => bail!("{other:?}"),
            };
            idle = false;
            let _ = ptrace::syscall(pid, signal);
        }
        if idle {
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}
