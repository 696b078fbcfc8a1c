//! What happens, in order: one file a verb, and the two columns of create in `create.rs`.

use std::path::PathBuf;

use crate::host::CgroupManager;

pub mod checkpoint;
pub mod create;
pub mod death;
pub mod delete;
pub mod engine;
pub mod events;
pub mod exec;
pub mod foreground;
pub mod journal;
pub mod kill;
pub mod notify;
pub mod outcome;
pub mod pause;
pub mod process;
pub mod ps;
pub mod record;
pub mod recorder;
pub mod restore;
pub mod run;
pub mod sdnotify;
pub mod spawn;
pub mod start;
pub mod state;
pub mod sync;
pub mod update;
pub mod waitpoint;

/// The global options, as every verb gets them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Globals {
    /// The directory of all containers' state: --root, or `/run/hull`, or `$XDG_RUNTIME_DIR/hull`.
    pub root: PathBuf,
    /// --cgroup-manager, or --systemd-cgroup.
    pub cgroup_manager: CgroupManager,
    /// --rootless.
    pub rootless: Option<bool>,
    /// --trace FILE.
    pub trace: Option<PathBuf>,
}

/// The options of create and run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreateOptions {
    /// The container's id, already checked.
    pub id: String,
    /// --bundle, made absolute.
    pub bundle: PathBuf,
    /// --config: another file than BUNDLE/config.json.
    pub config: Option<PathBuf>,
    /// --console-socket.
    pub console_socket: Option<PathBuf>,
    /// --pid-file.
    pub pid_file: Option<PathBuf>,
    /// --pidfd-socket.
    pub pidfd_socket: Option<PathBuf>,
    /// --no-pivot.
    pub no_pivot: bool,
    /// --no-new-keyring.
    pub no_new_keyring: bool,
    /// --preserve-fds.
    pub preserve_fds: u32,
    /// --userns self.
    pub userns_self: bool,
    /// run --detach.
    pub detach: bool,
    /// run --keep.
    pub keep: bool,
    /// run --no-subreaper.
    pub no_subreaper: bool,
    /// `seccomp record` is at work; what marks hull's own calls in the container.
    pub record: Option<crate::plan::seccomp::record::Mark>,
}

/// The options of exec.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOptions {
    /// The container's id, already checked.
    pub id: String,
    /// --process: the process as JSON, in place of the command line.
    pub process: Option<PathBuf>,
    /// --console-socket.
    pub console_socket: Option<PathBuf>,
    /// --pid-file.
    pub pid_file: Option<PathBuf>,
    /// --pidfd-socket.
    pub pidfd_socket: Option<PathBuf>,
    /// --ignore-paused.
    pub ignore_paused: bool,
    /// --wait-fifo: what the program waits for.
    pub wait_fifo: Option<PathBuf>,
    /// --tools: the root of the program, which the container does not have.
    pub tools: Option<PathBuf>,
    /// What is asked of the process itself.
    pub asked: crate::plan::exec::Options,
}
