//! `hull run`: create and start; in the foreground the program's exit status is hull's.

use super::Done;
use super::create::explained;
use crate::Result;
use crate::lifecycle::{self, CreateOptions, Globals};

/// Runs the container.
pub fn run(globals: &Globals, options: &CreateOptions) -> Result<Done> {
    let status = lifecycle::run::run(globals, options).map_err(|error| explained(error, globals, options, "run"))?;
    Ok(Done { text: String::new(), status })
}
