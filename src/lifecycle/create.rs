//! (being written)
use super::{CreateOptions, Globals};
use crate::Result;

/// Creates a container that waits for `start`.
pub fn create(_globals: &Globals, _options: &CreateOptions) -> Result<()> {
    unimplemented!()
}
