//! (being written)
use super::Globals;
use crate::Result;

/// Removes a stopped container; with `force` kills it before, and forgives one that does not exist.
pub fn delete(_globals: &Globals, _id: &str, _force: bool) -> Result<()> {
    unimplemented!()
}
