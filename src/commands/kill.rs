//! `hull kill`: a signal to the container's init.

use super::Done;
use crate::Result;
use crate::lifecycle::{self, Globals};

/// Sends the signal.
pub fn kill(globals: &Globals, id: &str, signal: i32, all: bool) -> Result<Done> {
    lifecycle::kill::kill(globals, id, signal, all).map_err(|error| error.context(format!("kill {id}")))?;
    Ok(Done::default())
}
