//! (being written)
use std::path::{Path, PathBuf};

use crate::Result;

/// What a container is doing, derived from the kernel, never trusted from the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `create` is under way, or died on the way.
    Creating,
    /// Waits for `start`.
    Created,
    /// The program runs.
    Running,
    /// Frozen.
    Paused,
    /// Its init has gone.
    Stopped,
}

impl Status {
    /// The specification's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// One container, as `state` and `list` show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// What it is doing.
    pub status: Status,
    /// Its init's pid on the host; 0 when it has stopped.
    pub pid: i32,
    /// The bundle.
    pub bundle: PathBuf,
    /// The root file system.
    pub rootfs: PathBuf,
    /// RFC 3339 with nanoseconds, UTC.
    pub created: String,
    /// The user who made it.
    pub owner: String,
    /// config.json's annotations.
    pub annotations: Vec<(String, String)>,
}

/// One container by its id.
pub fn summary(_root: &Path, _id: &str) -> Result<Summary> {
    unimplemented!()
}

/// All containers beneath `root`, by name.
pub fn list(_root: &Path) -> Result<Vec<Summary>> {
    unimplemented!()
}
