//! `hull delete`: what stopped containers left behind is removed.

use super::Done;
use crate::lifecycle::{self, Globals};
use crate::{Result, log};

/// Deletes the containers in turn. One that cannot be deleted does not save the others: its error is printed, and the
/// last one ends the command.
pub fn delete(globals: &Globals, ids: &[String], force: bool) -> Result<Done> {
    let mut failed = None;
    for id in ids {
        if let Err(error) = lifecycle::delete::delete(globals, id, force)
            && let Some(earlier) = failed.replace(error.context(format!("delete {id}")))
        {
            log::report(&earlier);
        }
    }
    failed.map_or(Ok(Done::default()), Err)
}
