//! (being written)
use super::Globals;
use crate::Result;

/// Starts the program of a created container; an error of its execve comes back here.
pub fn start(_globals: &Globals, _id: &str) -> Result<()> {
    unimplemented!()
}
