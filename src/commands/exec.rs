//! `hull exec`: another program in a container; in the foreground its exit status is hull's.

use super::Done;
use crate::Result;
use crate::lifecycle::{self, ExecOptions, Globals};

/// The exit status when the program did not run, as runc has it: a program can hardly be told from a failure by 1.
const NOT_RUN: i32 = 255;

/// Runs the program.
pub fn exec(globals: &Globals, options: &ExecOptions) -> Result<Done> {
    let status = lifecycle::exec::exec(globals, options).unwrap_or_else(|error| {
        crate::log::report(&error.context(format!("exec {}", options.id)));
        NOT_RUN
    });
    Ok(Done { text: String::new(), status })
}
