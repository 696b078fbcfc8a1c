//! Load: containers that live, and workers that create, exec, freeze, kill and delete, with faults between. Afterwards
//! nothing is left, of them and of the suite's own descriptors and mounts.
//!
//! In the suite a few hundred operations; HULL_LOAD=SECONDS keeps 200 containers alive and 50 workers busy for so long.
//! Each worker draws from a generator of its own: HULL_LOAD_SEED repeats what a run drew, if not how it interleaved.
//! HULL_SOAK=N runs N whole lifecycles and reports what the machine had before and after.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{env, thread};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;

use crate::harness::{Case, Need, Test, forget_child, reap_orphans, spawn_child, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let mut cases = vec![test("load/workers_and_faults", workers_and_faults).requires(Need::Hull)];
    if env::var_os("HULL_SOAK").is_some() {
        cases.push(test("load/soak", soak));
    }
    cases
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What one worker runs, one command at a time. Its files are used again and again: a run has hundreds of thousands.
struct Runner<'c> {
    case: &'c Case,
    name: String,
}

impl Runner<'_> {
    fn file(&self, what: &str) -> PathBuf {
        self.case.dir.join(format!("{}.{what}", self.name))
    }

    /// A command to its end, or killed with SIGKILL after a time: its status, stdout and stderr.
    fn run(&self, args: &[&str], kill: Option<Duration>) -> Result<(i32, String, String)> {
        let open = |what: &str| {
            let path = self.file(what);
            File::create(&path)?;
            File::options().append(true).open(&path)
        };
        let mut command = Command::new(&self.case.runtime);
        command.arg("--root").arg(self.case.root()).args(&self.case.globals).args(args);
        command.stdin(Stdio::null()).stdout(open("out")?).stderr(open("err")?);
        let mut child = spawn_child(&mut command)?;
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let patience = kill.unwrap_or(Duration::from_secs(60));
        let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: i64::from(patience.subsec_nanos()) };
        let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))? > 0;
        if !ended {
            child.kill()?;
        }
        let status = child.wait()?;
        forget_child(&child);
        let text = |what: &str| fs::read_to_string(self.file(what)).unwrap_or_default();
        ensure!(ended || kill.is_some(), "{args:?} does not end within {patience:?}; {:?}", text("err"));
        Ok((status.code().unwrap_or(128 + status.signal().unwrap_or(0)), text("out"), text("err")))
    }

    fn ok(&self, args: &[&str]) -> Result<String> {
        let (status, out, err) = self.run(args, None)?;
        ensure!(status == 0, "{args:?} gave status {status}: {err:?}");
        Ok(out)
    }

    fn refused(&self, args: &[&str], words: &str) -> Result<()> {
        let (status, _, err) = self.run(args, None)?;
        ensure!(status == 1 && err.lines().count() == 1 && err.contains(words), "{args:?}: status {status}: {err:?}");
        Ok(())
    }

    fn up(&self, bundle: &str, id: &str) -> Result<()> {
        self.ok(&["create", "--bundle", bundle, id])?;
        self.ok(&["start", id]).map(drop)
    }

    fn exec(&self, id: &str, token: u64) -> Result<()> {
        let out = self.ok(&["exec", id, "echo", &token.to_string()])?;
        ensure!(out == format!("{token}\n"), "exec in {id} printed {out:?}, not {token}");
        Ok(())
    }

    fn delete(&self, id: &str) -> Result<()> {
        self.ok(&["delete", "--force", id])?;
        ensure!(!self.case.root().join(id).exists(), "{id} left its state");
        Ok(())
    }

    /// Create, start, exec, kill, wait, delete, as an engine does it.
    fn lifecycle(&self, bundle: &str, id: &str, exec: Option<u64>) -> Result<()> {
        let file = self.file("pid");
        self.ok(&["create", "--bundle", bundle, "--pid-file", &file.to_string_lossy(), id])?;
        let pid: i32 = fs::read_to_string(&file)?.parse()?;
        let init = pidfd_open(Pid::from_raw(pid).context("a pid")?, PidfdFlags::empty())?;
        self.ok(&["start", id])?;
        if let Some(token) = exec {
            self.exec(id, token)?;
        }
        self.ok(&["kill", id, "KILL"])?;
        let timeout = Timespec { tv_sec: 30, tv_nsec: 0 };
        ensure!(poll(&mut [PollFd::new(&init, PollFlags::IN)], Some(&timeout))? > 0, "init of {id} does not end");
        self.ok(&["delete", id])?;
        ensure!(!self.case.root().join(id).exists(), "{id} left its state");
        Ok(())
    }
}

/// The bundles that workers use.
struct Bundles {
    good: String,
    bad: String,
    hook: String,
}

impl Bundles {
    fn write(case: &mut Case) -> Result<Bundles> {
        case.args(["sleep", "3600"]);
        let failing = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]});
        Ok(Bundles {
            good: case.bundle_beside("good", |_| ())?,
            bad: case.bundle_beside("bad", |config| config["mounts"][1]["options"] = json!(["size=banana"]))?,
            hook: case.bundle_beside("hook", |config| config["hooks"] = failing.clone())?,
        })
    }
}

/// Reaps what workers leave behind, as an engine's monitor does, until it is told to stop.
fn reap_until(done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        reap_orphans();
        thread::sleep(Duration::from_millis(5));
    }
}

/// What a worker may do next, and how often each was done.
static DONE: [AtomicU64; 7] = [const { AtomicU64::new(0) }; 7];
const KINDS: [&str; 7] =
    ["lifecycles", "execs", "replacements", "bad configs", "failing hooks", "frozen ones", "hulls killed"];

fn one_operation(
    runner: &Runner<'_>,
    random: &mut Random,
    bundles: &Bundles,
    alive: &[Mutex<String>],
    id: &str,
) -> Result<()> {
    let (draw, token) = (random.below(100), random.next());
    let freezer = rustix::process::geteuid().is_root();
    let kind = match draw {
        0..30 => {
            runner.lifecycle(&bundles.good, id, Some(token))?;
            0
        }
        30..55 => {
            let slot = &alive[random.below(alive.len() as u64) as usize];
            // Another worker has it: it may be on its way out.
            let Ok(alive) = slot.try_lock() else { return Ok(()) };
            if draw < 45 {
                runner.exec(&alive, token)?;
                1
            } else {
                runner.delete(&alive)?;
                runner.up(&bundles.good, &alive)?;
                2
            }
        }
        55..63 => {
            runner.refused(&["create", "--bundle", &bundles.bad, id], "size=banana")?;
            3
        }
        63..71 => {
            runner.refused(&["create", "--bundle", &bundles.hook, id], "exit status 3")?;
            4
        }
        71..79 if freezer => {
            runner.up(&bundles.good, id)?;
            runner.ok(&["pause", id])?;
            runner.delete(id)?;
            5
        }
        _ => {
            let verbs: [&[&str]; 5] = [
                &["create", "--bundle", &bundles.good, id],
                &["start", id],
                &["exec", id, "true"],
                &["delete", "--force", id],
                &["run", "--detach", "--bundle", &bundles.good, id],
            ];
            let verb = random.below(5) as usize;
            match verb {
                1 => drop(runner.ok(verbs[0])?),
                2 | 3 => runner.up(&bundles.good, id)?,
                _ => {}
            }
            runner.run(verbs[verb], Some(Duration::from_micros(random.below(12_000))))?;
            runner.delete(id)?;
            6
        }
    };
    DONE[kind].fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn own_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn own_mounts() -> Result<usize> {
    Ok(kernel::read("/proc/self/mountinfo")?.lines().count())
}

fn workers_and_faults(case: &mut Case) -> Result<()> {
    let seconds = number("HULL_LOAD");
    let (containers, workers, operations) = if seconds.is_some() { (200, 50, u64::MAX) } else { (10, 6, 100) };
    let seed = number("HULL_LOAD_SEED").unwrap_or_else(|| {
        SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_micros() as u64) ^ u64::from(std::process::id())
    });
    println!("load: {containers} containers alive, {workers} workers, HULL_LOAD_SEED={seed}");
    let bundles = Bundles::write(case)?;
    let case = &*case;
    let before = (own_descriptors(), own_mounts()?);
    let alive: Vec<_> = (0..containers).map(|n| Mutex::new(format!("{}-a{n}", case.id))).collect();
    let (done, given) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    let end = seconds.map(|seconds| begun + Duration::from_secs(seconds));
    let go_on = || {
        !done.load(Ordering::Relaxed)
            && given.fetch_add(1, Ordering::Relaxed) < operations
            && end.is_none_or(|end| Instant::now() < end)
    };
    let worker = |number: u64| -> Result<()> {
        let runner = Runner { case, name: format!("w{number}") };
        let mut random = Random(seed ^ number.wrapping_mul(0x1000_0001));
        let result = (0u64..).take_while(|_| go_on()).try_for_each(|count| {
            let id = format!("{}-w{number}-{count}", case.id);
            one_operation(&runner, &mut random, &bundles, &alive, &id)
                .with_context(|| format!("HULL_LOAD_SEED={seed}, operation {count} of worker {number}"))
        });
        // One failure ends them all: its surroundings are to be seen.
        result.inspect_err(|_| done.store(true, Ordering::Relaxed))
    };
    let reaped = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        scope.spawn(|| reap_until(&reaped));
        let keeper = Runner { case, name: "keeper".into() };
        let name = |slot: &Mutex<String>| slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let made = alive.iter().try_for_each(|slot| keeper.up(&bundles.good, &name(slot)));
        let result = made.and_then(|()| {
            let running: Vec<_> = (0..workers).map(|number| scope.spawn(move || worker(number))).collect();
            running.into_iter().map(|one| one.join().expect("a worker gives its error back")).fold(Ok(()), Result::and)
        });
        let removed = alive.iter().try_for_each(|slot| keeper.delete(&name(slot)));
        reaped.store(true, Ordering::Relaxed);
        result.and(removed)
    });
    let counts: Vec<_> =
        DONE.iter().zip(KINDS).map(|(count, kind)| format!("{} {kind}", count.load(Ordering::Relaxed))).collect();
    println!("load: {:.0} s: {}", begun.elapsed().as_secs_f64(), counts.join(", "));
    result?;
    reap_orphans();
    let left = case.leftovers();
    ensure!(left.is_empty(), "HULL_LOAD_SEED={seed}: left behind {left:?}");
    let after = (own_descriptors(), own_mounts()?);
    ensure!(after == before, "descriptors and mounts were {before:?}, and are {after:?}");
    Ok(())
}

/// What the whole machine has: others work on it, too.
fn machine() -> String {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = ["MemAvailable", "SUnreclaim", "Percpu", "KernelStack"].map(|name| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kilobytes: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        format!("{name} {:.1} MiB", kilobytes as f64 / 1024.0)
    });
    let table = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let cgroups = ["memory", "pids", "devices"].map(|name| {
        let line = table.lines().find(|line| line.split_whitespace().next() == Some(name));
        format!("{name} {}", line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or("-"))
    });
    let stat = ["/sys/fs/cgroup/unified/cgroup.stat", "/sys/fs/cgroup/cgroup.stat"];
    let stat = stat.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let dying = kernel::field_of(&stat.replace(' ', ": "), "nr_dying_descendants").unwrap_or_default();
    let files = fs::read_to_string("/proc/sys/fs/file-nr").unwrap_or_default();
    let processes = fs::read_dir("/proc").map_or(0, |list| {
        list.flatten().filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()).count()
    });
    format!(
        "{}; cgroups: {}, dying in v2 {dying}; open files {}; processes {processes}; mounts {}",
        memory.join(", "),
        cgroups.join(", "),
        files.split_whitespace().next().unwrap_or("-"),
        own_mounts().unwrap_or(0)
    )
}

fn soak(case: &mut Case) -> Result<()> {
    let total = number("HULL_SOAK").context("HULL_SOAK is a number")?;
    let workers = thread::available_parallelism().map_or(2, usize::from) as u64 * 2;
    let bundles = Bundles::write(case)?;
    let case = &*case;
    let (given, failures, finished) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    println!("soak: {total} lifecycles, {workers} at once\nsoak: before: {}", machine());
    let begun = Instant::now();
    let rate = |count: u64| count as f64 / begun.elapsed().as_secs_f64();
    let worker = |number: u64| {
        let runner = Runner { case, name: format!("w{number}") };
        loop {
            let count = given.fetch_add(1, Ordering::Relaxed);
            if count >= total {
                return;
            }
            let id = format!("{}-s{count}", case.id);
            // An exec in every tenth.
            let exec = count.is_multiple_of(10).then_some(count);
            if let Err(error) = runner.lifecycle(&bundles.good, &id, exec) {
                // The first few say what is wrong.
                if failures.fetch_add(1, Ordering::Relaxed) < 10 {
                    println!("soak: lifecycle {count} failed: {error:#}");
                }
                let _ = runner.delete(&id);
            }
            if count > 0 && count.is_multiple_of((total / 10).max(1)) {
                println!("soak: {count} done, {:.1} a second: {}", rate(count), machine());
            }
        }
    };
    let worker = &worker;
    thread::scope(|scope| {
        scope.spawn(|| reap_until(&finished));
        let running: Vec<_> = (0..workers).map(|number| scope.spawn(move || worker(number))).collect();
        running.into_iter().for_each(|one| one.join().expect("a worker counts its failures"));
        finished.store(true, Ordering::Relaxed);
    });
    let took = begun.elapsed();
    // The kernel takes namespaces and cgroups apart in the background.
    thread::sleep(Duration::from_secs(5));
    reap_orphans();
    let (failures, left) = (failures.load(Ordering::Relaxed), case.leftovers());
    println!("soak: after: {}", machine());
    println!(
        "soak: {total} lifecycles in {:.0} s, {:.1} a second, {failures} failed, {} things left",
        took.as_secs_f64(),
        total as f64 / took.as_secs_f64(),
        left.len()
    );
    ensure!(failures == 0 && left.is_empty(), "{failures} failed, left behind {left:?}");
    Ok(())
}
