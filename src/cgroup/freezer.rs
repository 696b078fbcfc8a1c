//! The freezer: v2's cgroup.freeze, v1's freezer.state; every wait has an end.

use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Directory, Saved};
use crate::error::{Error, Result, Step, show};

/// How long the kernel may take to freeze or thaw.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a container is frozen by itself.
pub fn is_frozen(saved: &Saved) -> bool {
    saved
        .trees
        .iter()
        .filter(|tree| tree.v2 || tree.controllers.iter().any(|name| name == "freezer"))
        .filter_map(|tree| Directory::open(&tree.directory, tree.v2, &tree.controllers).ok().flatten())
        .any(|directory| directory_is_frozen(&directory))
}

/// Whether one cgroup is frozen, or on its way.
pub fn directory_is_frozen(directory: &Directory) -> bool {
    if directory.v2 {
        return directory.read("cgroup.freeze").is_ok_and(|text| text.trim() == "1");
    }
    directory.controllers.iter().any(|name| name == "freezer")
        && directory.read("freezer.state").is_ok_and(|text| matches!(text.trim(), "FROZEN" | "FREEZING"))
}

/// Freezes or thaws, and waits until the kernel says that it is so. What could not be frozen in time is thawed again, so
/// that nothing stays half frozen.
pub fn freeze(directories: &[Directory], on: bool) -> Result<()> {
    let Some(directory) = freezer_of(directories) else {
        return Err(Error::host(Step::Cgroup, "freeze the container: it has no cgroup with a freezer"));
    };
    let result = freeze_one(directory, on, PATIENCE);
    if on && result.is_err() {
        let (file, value) = switch(directory, false);
        let _ = directory.write(file, value, || "thaw".into());
    }
    result
}

/// Freezes, if that can be done in this time.
pub fn freeze_for(directories: &[Directory], patience: Duration) {
    if let Some(directory) = freezer_of(directories) {
        let _ = freeze_one(directory, true, patience);
    }
}

/// Thaws the container and every cgroup in it: v1 keeps frozen processes from dying.
pub fn thaw_below(directories: &[Directory]) {
    let Some(directory) = freezer_of(directories) else { return };
    let (file, value) = switch(directory, false);
    if directory.v2 {
        let _ = directory.write(file, value, || "thaw".into());
        return;
    }
    let _ = super::walk::each(directory.fd(), &mut |one| {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if let Ok(state) = rustix::fs::openat(one, file, flags, Mode::empty()) {
            let _ = rustix::io::write(&state, value.as_bytes());
        }
        Ok(())
    });
}

/// The v1 freezer where there is one, else v2's.
fn freezer_of(directories: &[Directory]) -> Option<&Directory> {
    let v1 = directories.iter().find(|d| d.controllers.iter().any(|name| name == "freezer"));
    v1.or_else(|| directories.iter().find(|d| d.v2))
}

fn freeze_one(directory: &Directory, on: bool, patience: Duration) -> Result<()> {
    let verb = if on { "freeze" } else { "thaw" };
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_micros(50);
    let (file, value) = switch(directory, on);
    loop {
        // Again each time: v1 misses processes that were made while it froze the others.
        match directory.write(file, value, || verb.to_owned()) {
            // It has gone with all that was in it.
            Err(error) if !on && (error.is(Errno::NOENT) || error.is(Errno::NODEV)) => return Ok(()),
            result => result?,
        }
        let done = if directory.v2 {
            let want = if on { "frozen 1" } else { "frozen 0" };
            directory.read("cgroup.events").is_ok_and(|text| text.lines().any(|line| line == want))
        } else {
            directory.read(file).is_ok_and(|text| text.trim() == value)
        };
        if done {
            return Ok(());
        }
        if Instant::now() > deadline {
            let what = format!("{verb} the cgroup {}: not done after {} s", show(&directory.path), patience.as_secs());
            let hint = if on { "a process hangs in the kernel" } else { "a cgroup above it is frozen" };
            return Err(Error::host(Step::Cgroup, what).hint(hint));
        }
        crate::sys::process::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// The freezer's file and what is written there.
fn switch(directory: &Directory, on: bool) -> (&'static str, &'static str) {
    match (directory.v2, on) {
        (true, on) => ("cgroup.freeze", if on { "1" } else { "0" }),
        (false, true) => ("freezer.state", "FROZEN"),
        (false, false) => ("freezer.state", "THAWED"),
    }
}
