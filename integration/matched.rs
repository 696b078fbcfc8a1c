//! The words by which engines tell a runtime's failures apart, as older and newer sources of Docker, podman, containerd and
//! CRI-O have them, together. buildah matches none. Case of letters does not count for most of them.

/// What an engine takes a failure for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The program is not in the container: status 127.
    NoProgram,
    /// It is there and cannot be executed: status 126.
    NotExecutable,
    /// A directory was mounted on a file, or the reverse: Docker's hint.
    Mount,
    /// There is no such container: it is as good as deleted.
    NoContainer,
    /// The container has stopped already: killing it is done.
    Stopped,
    /// A security label could not be set.
    Label,
    /// A probe found that the runtime has the option.
    HasOption,
}

use Meaning::{HasOption, Label, Mount, NoContainer, NoProgram, NotExecutable, Stopped};

/// Words, the engine and the part of it that looks for them, what they mean there. The first of an engine's that is found counts.
pub const MATCHED: [(&str, &str, Meaning); 36] = [
    // cli/command/container/run.go: the status of `docker run`.
    ("executable file not found", "docker", NoProgram),
    ("no such file or directory", "docker", NoProgram),
    ("system cannot find the file specified", "docker", NoProgram),
    ("permission denied", "docker", NotExecutable),
    ("is a directory", "docker", NotExecutable),
    // daemon/errors.go: the status of a container, and the hint. The first three only beside the program's name.
    ("executable file not found", "dockerd", NoProgram),
    ("no such file or directory", "dockerd", NoProgram),
    ("system cannot find the file specified", "dockerd", NoProgram),
    ("permission denied", "dockerd", NotExecutable),
    ("is a directory", "dockerd", NotExecutable),
    ("not a directory", "dockerd", Mount),
    // libcontainerd: errors of a container's task.
    ("container does not exist", "dockerd's tasks", NoContainer),
    ("no such container", "dockerd's tasks", NoContainer),
    ("not found", "dockerd's tasks", NoContainer),
    // libpod/oci_util.go, on stderr or the log.
    ("permission denied", "podman", NotExecutable),
    ("operation not permitted", "podman", NotExecutable),
    ("executable file not found in", "podman", NoProgram),
    ("no such file or directory", "podman", NoProgram),
    ("open executable", "podman", NoProgram),
    ("/exec`", "podman", Label),
    ("/current`", "podman", Label),
    // libpod/define/exec_codes.go, for what is left.
    ("not found", "podman", NoProgram),
    ("executable path is empty", "podman", NoProgram),
    ("no such file", "podman", NoProgram),
    // podman up to 4.0 asks for the state.
    ("does not exist", "podman's state", NoContainer),
    ("no such file or directory", "podman's state", NoContainer),
    // pkg/checkpoint/crutils: does `restore` know an option?
    ("flag needs an argument", "podman's probe", HasOption),
    ("requires an argument", "podman's probe", HasOption),
    // The shim's process/utils.go.
    ("os: process already finished", "containerd's kill", Stopped),
    ("container not running", "containerd's kill", Stopped),
    ("no such process", "containerd's kill", Stopped),
    ("does not exist", "containerd's kill", NoContainer),
    ("does not exist", "containerd's delete", NoContainer),
    // internal/oci/runtime_oci.go, of each verb.
    ("no such process", "CRI-O", Stopped),
    ("container not running", "CRI-O", Stopped),
    ("invalid process", "CRI-O", Stopped),
];

/// What an engine takes a text for; None: for a failure of the runtime, whose words it shows.
#[allow(dead_code, reason = "the unit test has no engine")]
pub fn taken_for(engine: &str, text: &str) -> Option<Meaning> {
    let text = text.to_lowercase();
    MATCHED.iter().find(|(words, by, _)| *by == engine && text.contains(words)).map(|(_, _, meaning)| *meaning)
}
