//! What the command line adds to config.json.

use std::ffi::OsString;
use std::path::PathBuf;

use super::seccomp;
use crate::host::CgroupManager;

/// The options that the plan depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// --no-pivot.
    pub no_pivot: bool,
    /// --no-new-keyring.
    pub no_new_keyring: bool,
    /// --preserve-fds, LISTEN_FDS included.
    pub preserve_fds: u32,
    /// How many of them a socket-activated caller passes on (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// The directory for a notify socket, where hull's own service manager waits for the program.
    pub notify: Option<PathBuf>,
    /// Variables that exec's command line adds to the config's.
    pub env: Vec<OsString>,
    /// A console socket was given.
    pub console_socket: bool,
    /// create, or run --detach.
    pub detached: bool,
    /// How cgroups are made.
    pub cgroup_manager: CgroupManager,
    /// --rootless: true, false, or absent (auto).
    pub rootless: Option<bool>,
    /// --userns self: a user namespace with the caller's single id.
    pub userns_self: bool,
    /// The program's calls are recorded (`seccomp record`); what marks hull's own.
    pub record: Option<seccomp::record::Mark>,
}

/// More descriptors than this from 3 on have no numbers.
pub const MAX_PRESERVED_FDS: u32 = i32::MAX as u32 - 3;
