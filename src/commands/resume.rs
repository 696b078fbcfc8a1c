//! `hull resume`: the freezer.

use super::Done;
use crate::Result;
use crate::lifecycle::{self, Globals};

/// Thaws the container.
pub fn resume(globals: &Globals, id: &str) -> Result<Done> {
    lifecycle::pause::resume(globals, id).map_err(|error| error.context(format!("resume {id}")))?;
    Ok(Done::default())
}
