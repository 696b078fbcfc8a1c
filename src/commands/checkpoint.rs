//! `hull checkpoint`: the container as files, by CRIU.

use super::Done;
use crate::Result;
use crate::lifecycle::checkpoint::CheckpointOptions;
use crate::lifecycle::{self, Globals};

/// Writes the container down.
pub fn checkpoint(globals: &Globals, id: &str, options: &CheckpointOptions) -> Result<Done> {
    lifecycle::checkpoint::checkpoint(globals, id, options)
        .map_err(|error| error.context(format!("checkpoint {id}")))?;
    Ok(Done::default())
}
