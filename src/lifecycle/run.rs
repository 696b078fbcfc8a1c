//! (being written)
use super::{CreateOptions, Globals};
use crate::Result;

/// Creates and starts; in the foreground waits for the program and gives its exit status.
pub fn run(_globals: &Globals, _options: &CreateOptions) -> Result<i32> {
    unimplemented!()
}
