//! `hull create`: a container that waits for start.

use super::Done;
use crate::Result;
use crate::lifecycle::{self, CreateOptions, Globals};

/// Creates the container.
pub fn create(globals: &Globals, options: &CreateOptions) -> Result<Done> {
    lifecycle::create::create(globals, options).map_err(|error| error.context(format!("create {}", options.id)))?;
    Ok(Done::default())
}
