//! (being written)
use super::Globals;
use crate::Result;

/// Sends a signal (by number) to a container's init, or with `all` to its whole cgroup.
pub fn kill(_globals: &Globals, _id: &str, _signal: i32, _all: bool) -> Result<()> {
    unimplemented!()
}
