//! `hull pause`: the freezer.

use super::Done;
use crate::Result;
use crate::lifecycle::{self, Globals};

/// Freezes the container.
pub fn pause(globals: &Globals, id: &str) -> Result<Done> {
    lifecycle::pause::pause(globals, id).map_err(|error| error.context(format!("pause {id}")))?;
    Ok(Done::default())
}
