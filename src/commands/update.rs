//! `hull update`: other limits for a container that runs.

use super::Done;
use crate::Result;
use crate::lifecycle::Globals;
use crate::lifecycle::update::UpdateOptions;

/// Changes the limits.
pub fn update(globals: &Globals, id: &str, options: &UpdateOptions) -> Result<Done> {
    crate::lifecycle::update::update(globals, id, options).map_err(|error| error.context(format!("update {id}")))?;
    Ok(Done::default())
}
