//! The integration suite: real containers, made by the real binary, judged by what the kernel says about them.
//!
//! `cargo test --test integration -- [-j N] [--list] [WORD...]` runs the cases whose name contains one of the words.
//! `RUNTIME=/path/to/other` runs the same cases on another runtime, to prove the cases right; `HULL=/path` chooses the
//! binary of hull, `HULL_TEST_GLOBALS=--systemd-cgroup` another driver of cgroups for all cases. `HULL_TEST_MODE=rootful|v1|v2|rootless` chooses the surroundings (default: by the user): `v1` and
//! `v2` run in a mount namespace of their own without the other version of cgroups, `rootless` as an ordinary user. A case that the surroundings
//! cannot carry says SKIP and why, and is counted.

#![allow(missing_docs, reason = "a test program has no callers")]

mod apparmor;
mod attributes;
mod badinput;
mod bytes;
mod cgroups;
mod check;
mod checkpoint;
mod crash;
mod delegated;
mod deny;
mod devices;
mod engines;
mod events;
mod exec;
mod exhausted;
mod explain;
mod features;
mod harness;
mod hooks;
mod idmapmounts;
mod kernel;
mod landlock;
mod lifecycle;
mod lists;
mod load;
mod log;
mod matched;
mod mountoptions;
mod mounts;
mod namespaces;
mod netdev;
mod output;
mod pause;
mod process;
mod ps;
mod rdt;
mod reasons;
mod sdnotify;
mod seccomp;
mod seccompprofile;
mod seccomprecord;
mod security;
mod stress;
mod sysctl;
mod systemd;
mod terminal;
mod tmpcopyup;
mod tools;
mod update;
mod userns;
mod waitpoint;
mod why;
mod words;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use harness::{Case, Suite, Test};

/// The ordinary user that rootless cases run as when the suite was started by root.
const ORDINARY_USER: u32 = 64_123;

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some(deny::OPTION) {
        return deny::launch();
    }
    if let Some(code) = enter_mode() {
        return code;
    }
    let mut words = Vec::new();
    let mut workers = 1;
    let mut list = false;
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--list" => list = true,
            "-j" => workers = args.next().and_then(|n| n.parse().ok()).unwrap_or(1),
            // Options that cargo passes on to every test program.
            other if other.starts_with("--") => {}
            other => words.push(other.to_owned()),
        }
    }
    let mut tests: Vec<Test> = [
        lifecycle::cases(),
        pause::cases(),
        ps::cases(),
        update::cases(),
        engines::cases(),
        events::cases(),
        process::cases(),
        attributes::cases(),
        exec::cases(),
        mounts::cases(),
        namespaces::cases(),
        mountoptions::cases(),
        tmpcopyup::cases(),
        devices::cases(),
        idmapmounts::cases(),
        netdev::cases(),
        output::cases(),
        rdt::cases(),
        userns::cases(),
        tools::cases(),
        waitpoint::cases(),
        words::cases(),
        cgroups::cases(),
        delegated::cases(),
        seccomp::cases(),
        seccompprofile::cases(),
        seccomprecord::cases(),
        landlock::cases(),
        sdnotify::cases(),
        explain::cases(),
        features::cases(),
        hooks::cases(),
        sysctl::cases(),
        systemd::cases(),
        terminal::cases(),
        badinput::cases(),
        lists::cases(),
        bytes::cases(),
        log::cases(),
        check::cases(),
        reasons::cases(),
        why::cases(),
        crash::cases(),
        exhausted::cases(),
        apparmor::cases(),
        checkpoint::cases(),
        stress::cases(),
        load::cases(),
        security::cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    tests.retain(|test| words.is_empty() || words.iter().any(|word| test.name.contains(word.as_str())));
    if list {
        tests.iter().for_each(|test| println!("{}", test.name));
        return ExitCode::SUCCESS;
    }
    let suite = match Suite::new() {
        Ok(suite) => suite,
        Err(error) => {
            println!("FAILED harness: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let tally = Mutex::new(Tally::default());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run_one(&suite, test, &tally);
                }
            });
        }
    });
    suite.remove();
    let tally = tally.into_inner().expect("no case panics with the tally held");
    if suite.peer.is_some() {
        println!("{} differ from hull in a known way", tally.known);
    }
    if let Some(report) = security::report() {
        println!("{report}");
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    if tally.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
    known: u32,
}

fn run_one(suite: &Suite, test: &Test, tally: &Mutex<Tally>) {
    if let Some(reason) = suite.lacks(test) {
        println!("SKIP {}: {reason}", test.name);
        tally.lock().expect("held only for counting").skipped += 1;
        return;
    }
    let result = Case::new(suite, test.name).and_then(|mut case| {
        let result = (test.body)(&mut case);
        case.finish(result)
    });
    let mut tally = tally.lock().expect("held only for counting");
    match (result, suite.known_difference(test)) {
        (Ok(()), None) => {
            println!("ok {}", test.name);
            tally.passed += 1;
        }
        (Ok(()), Some(reason)) => {
            println!("ok {} (expected to differ: {reason})", test.name);
            tally.passed += 1;
        }
        (Err(error), Some(reason)) => {
            println!("PEER {}: {reason}: {error:#}", test.name);
            tally.known += 1;
        }
        (Err(error), None) => {
            println!("FAILED {}: {error:#}", test.name);
            tally.failed += 1;
        }
    }
}

/// Starts the suite once more in the surroundings that HULL_TEST_MODE names, and gives that run's status.
fn enter_mode() -> Option<ExitCode> {
    if env::var_os("HULL_TEST_ENTERED").is_some() {
        return None;
    }
    let root = rustix::process::geteuid().is_root();
    let mode = env::var("HULL_TEST_MODE").ok()?;
    let exe = env::current_exe().expect("the suite knows its own path");
    let mut command = match (mode.as_str(), root) {
        (mode @ ("v1" | "v2"), true) => {
            let mut command = Command::new("unshare");
            let script = match mode {
                "v1" => "umount /sys/fs/cgroup/unified && mount -t tmpfs t /sys/fs/cgroup/unified && exec \"$@\"",
                _ => "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"",
            };
            command.args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]).arg(exe);
            command
        }
        ("rootless", true) => {
            let home = env::temp_dir().join(format!("hull-rootless-{}", std::process::id()));
            fs::create_dir(&home).expect("a directory for the ordinary user");
            fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("its mode");
            std::os::unix::fs::chown(&home, Some(ORDINARY_USER), Some(ORDINARY_USER)).expect("its owner");
            // The build directory need not be readable to everyone.
            let copy = home.join("integration");
            fs::copy(exe, &copy).expect("a copy of the suite");
            let runtime = home.join(harness::runtime_under_test().file_name().expect("a file"));
            fs::copy(harness::runtime_under_test(), &runtime).expect("a copy of the runtime");
            let key = if env::var_os("RUNTIME").is_some() { "RUNTIME" } else { "HULL" };
            let mut command = Command::new(copy);
            // Setting the uid as root also clears the supplementary groups.
            command.uid(ORDINARY_USER).gid(ORDINARY_USER).current_dir(&home);
            command.env(key, runtime).env("TMPDIR", &home).env("XDG_RUNTIME_DIR", &home).env("HOME", &home);
            command
        }
        ("rootful", true) | ("rootless", false) => return None,
        (other, _) => {
            println!("FAILED harness: HULL_TEST_MODE={other} cannot be had by this user");
            return Some(ExitCode::FAILURE);
        }
    };
    let status = command.args(env::args_os().skip(1)).env("HULL_TEST_ENTERED", "1").status();
    if mode == "rootless" {
        let _ = fs::remove_dir_all(env::temp_dir().join(format!("hull-rootless-{}", std::process::id())));
    }
    match status {
        Ok(status) if status.success() => Some(ExitCode::SUCCESS),
        _ => Some(ExitCode::FAILURE),
    }
}
