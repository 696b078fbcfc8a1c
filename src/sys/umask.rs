//! The umask.
//!
//! hull replaces the caller's by its own as the first thing it does: each file and directory has the mode that the line which
//! makes it says, whatever the caller's umask, and never one by which others may write. The caller's goes back to what hull
//! runs, hooks and helpers, and is heard for the files that the caller names.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::Mode;
use rustix::process::umask;

/// What no mode of hull's has; a socket that others may write to gets its mode by chmod(2).
const OWN: Mode = Mode::WGRP.union(Mode::WOTH);

static CALLERS: AtomicU32 = AtomicU32::new(OWN.bits());

/// Replaces the caller's umask.
pub fn take() {
    CALLERS.store(umask(OWN).bits(), Ordering::Relaxed);
}

/// Sets another one for this process and what it runs: the container's.
pub fn set(mask: u32) {
    umask(Mode::from_raw_mode(mask));
    CALLERS.store(mask, Ordering::Relaxed);
}

/// Runs `run` with the caller's umask: whatever begins there has it.
pub fn lend<T>(run: impl FnOnce() -> T) -> T {
    let own = umask(callers());
    let result = run();
    umask(own);
    result
}

/// The mode of a file that the caller names: for others to read unless the caller's umask says no, and the caller's own to read
/// and write even so.
pub fn file() -> Mode {
    Mode::from_raw_mode(0o644) - callers().intersection(Mode::RWXG | Mode::RWXO)
}

fn callers() -> Mode {
    Mode::from_raw_mode(CALLERS.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_caller() {
        for (mask, wanted) in [(0, 0o644), (0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o777, 0o600)] {
            CALLERS.store(mask, Ordering::Relaxed);
            assert_eq!(file().bits(), wanted, "{mask:o}");
        }
        CALLERS.store(OWN.bits(), Ordering::Relaxed);
    }
}
