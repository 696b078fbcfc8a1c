//! The plan: what will be done, pure data made from the spec, the host's facts and the options.
//!
//! Nothing here does I/O, reads a clock or holds a file descriptor. All errors of a config end here, before anything
//! is touched.

use std::path::PathBuf;

pub mod cgroup;
pub mod devices;
pub mod mounts;
pub mod rootfs;
pub mod seccomp;

/// What the command line adds to config.json.
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
    /// A console socket was given.
    pub console_socket: bool,
    /// create, or run --detach.
    pub detached: bool,
    /// How cgroups are made.
    pub cgroup_manager: CgroupManager,
    /// --rootless: true, false, or absent (auto).
    pub rootless: Option<bool>,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupManager {
    /// hull, by the file system.
    #[default]
    Cgroupfs,
    /// systemd, by D-Bus.
    Systemd,
    /// Nobody: no cgroup is made.
    Disabled,
}
