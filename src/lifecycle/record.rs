//! `seccomp record`: a foreground `run` whose calls are all shown to hull, and the profile that comes of them.
//!
//! hull is the one thread that it always is: the listener is one more descriptor for the loops that wait for the program.

use std::path::PathBuf;

use rustix::fs::OFlags;

use super::recorder::Output;
use super::{CreateOptions, Globals, run};
use crate::error::{ErrAt, Error, Result, Step};
use crate::plan::seccomp::record::Mark;
use crate::sys;

/// The options of seccomp record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordOptions {
    /// Those of run.
    pub run: CreateOptions,
    /// --output; absent: seccomp.json in the bundle.
    pub output: Option<PathBuf>,
    /// --names-only.
    pub names_only: bool,
}

/// Runs the program, writes its profile and gives its exit status.
pub fn record(globals: &Globals, options: &RecordOptions) -> Result<i32> {
    if !sys::seccomp::notifications_fit().err_at(Step::Seccomp, "seccomp", || "ask for SCMP_ACT_NOTIFY")? {
        return Err(Error::host(Step::Seccomp, "the kernel's notifications are longer than hull knows them"));
    }
    let default = options.run.bundle.join("seccomp.json");
    let output = match &options.output {
        Some(path) => Output::open(path, OFlags::empty())?,
        // Who named no file has not named what a link of the bundle leads to.
        None => Output::open(&default, OFlags::NOFOLLOW)?,
    };
    let mut mark = [0_u8; 12];
    rustix::rand::getrandom(&mut mark, rustix::rand::GetRandomFlags::empty()).err_at(
        Step::Seccomp,
        "getrandom",
        || "mark hull's own calls",
    )?;
    let part = |at: usize| u32::from_ne_bytes([mark[at], mark[at + 1], mark[at + 2], mark[at + 3]]);
    let run_options = CreateOptions { record: Some(Mark([part(0), part(4), part(8)])), ..options.run.clone() };
    run::record(globals, &run_options, &output, options.names_only)
}
