//! `hull restore`: a container from files, by CRIU; in the foreground the program's exit status is hull's.

use super::Done;
use crate::Result;
use crate::lifecycle::restore::RestoreOptions;
use crate::lifecycle::{self, Globals};

/// Brings the container back.
pub fn restore(globals: &Globals, options: &RestoreOptions) -> Result<Done> {
    let status = lifecycle::restore::restore(globals, options)
        .map_err(|error| error.context(format!("restore {}", options.create.id)))?;
    Ok(Done { text: String::new(), status })
}
