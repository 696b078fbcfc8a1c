//! `hull start`: the program of a created container is executed.

use super::Done;
use crate::Result;
use crate::lifecycle::{self, Globals};

/// Starts the container.
pub fn start(globals: &Globals, id: &str) -> Result<Done> {
    lifecycle::start::start(globals, id).map_err(|error| error.context(format!("start {id}")))?;
    Ok(Done::default())
}
