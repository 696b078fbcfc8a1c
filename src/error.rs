//! The one error type of hull: *step, subject, call, errno*, and a hint when hull knows more than errno.
//!
//! An [`Error`] is built where the system call is made, with the path and the config's JSON pointer at hand. It is
//! serialisable, so it crosses the socketpair between init and setup whole and setup prints the very sentence that
//! init would have. A caller may add the context (verb and container), never re-word. `main` prints it once.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The result of everything in hull that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of work that failed; each has a stable code that docs/errors.md explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// The command line.
    Usage,
    /// Reading or understanding config.json.
    Spec,
    /// The state directory, its lock, the pid file and the log.
    State,
    /// The container is not in a state in which the verb makes sense.
    Status,
    /// The container does not exist.
    Missing,
    /// Starting the second process.
    Spawn,
    /// Namespaces: made or joined.
    Namespace,
    /// User and group mappings.
    IdMap,
    /// Cgroups: directories, membership, limits.
    Cgroup,
    /// Device rules of a cgroup.
    DeviceRules,
    /// Mounts, the root file system, masked and read-only paths.
    Mount,
    /// Device nodes and links in /dev.
    Device,
    /// Hooks.
    Hook,
    /// The terminal and the console socket.
    Console,
    /// Kernel parameters (sysctl).
    Sysctl,
    /// The user, groups, capabilities, limits and other attributes of the process.
    Process,
    /// The seccomp filter.
    Seccomp,
    /// Labels of a Linux security module.
    Label,
    /// Executing the program.
    Exec,
    /// The protocol between setup, init and start.
    Sync,
    /// Network devices.
    NetDevice,
    /// Classes of service and monitoring groups of resctrl.
    Resctrl,
    /// Protection of hull's own executable.
    Executable,
    /// Signals sent to a container.
    Kill,
    /// Checkpoint and restore by CRIU.
    Criu,
}

impl Step {
    /// Every step, for docs and the test that the codes are unique.
    pub const ALL: [Step; 25] = [
        Step::Usage,
        Step::Spec,
        Step::State,
        Step::Status,
        Step::Missing,
        Step::Spawn,
        Step::Namespace,
        Step::IdMap,
        Step::Cgroup,
        Step::DeviceRules,
        Step::Resctrl,
        Step::Mount,
        Step::Device,
        Step::Hook,
        Step::Console,
        Step::Sysctl,
        Step::Process,
        Step::Seccomp,
        Step::Label,
        Step::Exec,
        Step::Sync,
        Step::NetDevice,
        Step::Executable,
        Step::Kill,
        Step::Criu,
    ];

    /// The stable code of this kind of error, as docs/errors.md lists it.
    pub fn code(self) -> &'static str {
        match self {
            Step::Usage => "HULL-E001",
            Step::Spec => "HULL-E002",
            Step::State => "HULL-E003",
            Step::Status => "HULL-E004",
            Step::Missing => "HULL-E005",
            Step::Spawn => "HULL-E010",
            Step::Namespace => "HULL-E011",
            Step::IdMap => "HULL-E012",
            Step::Cgroup => "HULL-E020",
            Step::DeviceRules => "HULL-E021",
            Step::Mount => "HULL-E030",
            Step::Device => "HULL-E031",
            Step::Hook => "HULL-E040",
            Step::Console => "HULL-E041",
            Step::Sysctl => "HULL-E042",
            Step::Process => "HULL-E050",
            Step::Seccomp => "HULL-E051",
            Step::Label => "HULL-E052",
            Step::Exec => "HULL-E060",
            Step::Sync => "HULL-E061",
            Step::NetDevice => "HULL-E070",
            Step::Resctrl => "HULL-E022",
            Step::Executable => "HULL-E080",
            Step::Kill => "HULL-E090",
            Step::Criu => "HULL-E100",
        }
    }
}

/// Who has to act on an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blame {
    /// config.json asks for something impossible or contradictory.
    Spec,
    /// The host lacks or refuses something.
    Host,
    /// The command line is wrong.
    Usage,
    /// An invariant of hull broke: please report it.
    Bug,
}

/// What failed, in one sentence; see the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// The verb and the container, as `create web`; added by the verb, empty below it.
    pub context: String,
    /// The kind of work.
    pub step: Step,
    /// What was being done to what: path, JSON pointer, value.
    pub subject: String,
    /// The system call, or empty.
    pub call: Cow<'static, str>,
    /// Its errno, if a call failed.
    pub errno: Option<i32>,
    /// Who has to act.
    pub blame: Blame,
    /// What hull knows beyond errno.
    pub hint: Option<String>,
}

impl Error {
    fn new(step: Step, blame: Blame, subject: impl Into<String>) -> Error {
        Error {
            context: String::new(),
            step,
            subject: subject.into(),
            call: Cow::Borrowed(""),
            errno: None,
            blame,
            hint: None,
        }
    }

    /// A system call failed on the host: `subject` says what was being done.
    pub fn call(step: Step, call: &'static str, errno: Errno, subject: impl Into<String>) -> Error {
        Error { call: Cow::Borrowed(call), errno: Some(errno.raw_os_error()), ..Error::new(step, Blame::Host, subject) }
    }

    /// The host lacks or refuses something that no single call shows.
    pub fn host(step: Step, subject: impl Into<String>) -> Error {
        Error::new(step, Blame::Host, subject)
    }

    /// config.json is wrong at `pointer` (a JSON pointer, RFC 6901).
    pub fn spec(pointer: impl fmt::Display, what: impl fmt::Display) -> Error {
        Error::new(Step::Spec, Blame::Spec, format!("config.json: {pointer}: {what}"))
    }

    /// The command line is wrong.
    pub fn usage(what: impl Into<String>) -> Error {
        Error::new(Step::Usage, Blame::Usage, what)
    }

    /// The container is in a state in which the verb makes no sense.
    pub fn status(what: impl Into<String>) -> Error {
        Error::new(Step::Status, Blame::Usage, what)
    }

    /// The container does not exist: engines match these words, without an id among them.
    pub fn missing(id: &str) -> Error {
        Error::new(Step::Missing, Blame::Usage, format!("container does not exist: {id:?}"))
    }

    /// An invariant of hull broke.
    pub fn bug(step: Step, what: impl Into<String>) -> Error {
        Error { hint: Some("this is a bug of hull".into()), ..Error::new(step, Blame::Bug, what) }
    }

    /// Adds what hull knows beyond errno.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Sets who has to act.
    #[must_use]
    pub fn blame(mut self, blame: Blame) -> Error {
        self.blame = blame;
        self
    }

    /// Adds the verb and the container, once: the outermost caller that knows them does this.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Error {
        if self.context.is_empty() {
            self.context = context.into();
        }
        self
    }

    /// Whether the call failed with this errno.
    pub fn is(&self, errno: Errno) -> bool {
        self.errno == Some(errno.raw_os_error())
    }

    /// The exit status of a verb that fails with this error: 1, as runc and crun have it. (`exec` gives 255 when
    /// its program did not run, see commands/exec.rs.)
    pub fn exit_code(&self) -> i32 {
        1
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.context.is_empty() {
            write!(f, "{}: ", self.context)?;
        }
        f.write_str(&self.subject)?;
        if !self.call.is_empty() {
            write!(f, ": {}", self.call)?;
        }
        if let Some(errno) = self.errno {
            write!(f, ": {}", Strerror(errno))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Prints an errno as `no such file or directory (ENOENT)`: strerror's wording and the name. The first letter is small, as
/// Go prints it: by that text the docker command tells its statuses 125, 126 and 127 apart.
pub struct Strerror(pub i32);

impl fmt::Display for Strerror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        // std appends " (os error N)", which says nothing that the name does not say better.
        let text = text.split(" (os error").next().unwrap_or(&text);
        let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
        write!(f, "{}{rest}", first.to_lowercase())?;
        match errno_name(self.0) {
            Some(name) => write!(f, " ({name})"),
            None => write!(f, " (errno {})", self.0),
        }
    }
}

/// Adds step and subject to a failed system call where it is made: `openat(..).err_at(Step::Mount, "openat", || ..)?`.
pub trait ErrAt<T> {
    /// Turns the errno into an [`Error`]; `subject` is only built on failure.
    fn err_at<S: Into<String>>(self, step: Step, call: &'static str, subject: impl FnOnce() -> S) -> Result<T>;
}

impl<T> ErrAt<T> for rustix::io::Result<T> {
    fn err_at<S: Into<String>>(self, step: Step, call: &'static str, subject: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::call(step, call, errno, subject()))
    }
}

impl<T> ErrAt<T> for std::io::Result<T> {
    fn err_at<S: Into<String>>(self, step: Step, call: &'static str, subject: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| match Errno::from_io_error(&error) {
            Some(errno) => Error::call(step, call, errno, subject()),
            None => Error::host(step, format!("{}: {call}: {error}", subject().into())),
        })
    }
}

/// A path in a sentence: quoted only where it would be unreadable bare.
pub fn show(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"' || c == ':') {
        format!("{text:?}")
    } else {
        text.into_owned()
    }
}

macro_rules! errno_names {
    ($($name:ident)*) => {
        /// The kernel's name of an errno.
        pub fn errno_name(errno: i32) -> Option<&'static str> {
            $(if errno == libc::$name { return Some(stringify!($name)); })*
            None
        }

        /// The number of an errno by the kernel's name.
        pub fn errno_number(name: &str) -> Option<i32> {
            match name { $(stringify!($name) => Some(libc::$name),)* _ => None }
        }
    };
}

errno_names! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV
    ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK
    ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENODATA ETIME EPROTO EOVERFLOW EILSEQ EUSERS ENOTSOCK EDESTADDRREQ
    EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT EOPNOTSUPP EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN
    ENETUNREACH ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ETIMEDOUT ECONNREFUSED EHOSTUNREACH EALREADY
    EINPROGRESS ESTALE EDQUOT ECANCELED EOWNERDEAD ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED
}

#[cfg(test)]
#[path = "../integration/matched.rs"]
mod matched;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sentence_with_step_subject_call_and_errno() {
        let error =
            Error::call(Step::Mount, "fsconfig", Errno::INVAL, "mount tmpfs on /x (/mounts/7)").context("create web");
        assert_eq!(error.to_string(), "create web: mount tmpfs on /x (/mounts/7): fsconfig: invalid argument (EINVAL)");
        assert_eq!(error.clone().context("other").context, "create web");
    }

    #[test]
    fn an_error_survives_the_socket() {
        let error = Error::call(Step::Exec, "execve", Errno::NOENT, "run /bin/x").hint("its loader is missing");
        let json = serde_json::to_string(&error).unwrap();
        assert_eq!(serde_json::from_str::<Error>(&json).unwrap(), error);
    }

    #[test]
    fn codes_are_unique() {
        let mut codes: Vec<_> = Step::ALL.iter().map(|s| s.code()).collect();
        codes.dedup();
        assert_eq!(codes.len(), Step::ALL.len());
    }

    /// hull's own words, beside those of errno: each that an engine matches stands only where it is meant, and where an
    /// engine that reads it would do the right thing.
    #[test]
    fn words_that_engines_match_stand_only_where_they_are_meant() {
        const MEANT: [(&str, &str); 15] = [
            ("src/error.rs", "container does not exist: "),
            ("src/steps/process.rs", "{}: executable file not found in $PATH"),
            ("src/plan/process.rs", "needs a program as its first element: exec: "),
            // A program that is a directory is one that cannot be executed, for engines of any age.
            ("src/steps/process.rs", "permission denied: a directory cannot be executed"),
            ("src/lifecycle/kill.rs", "container not running"),
            ("src/lifecycle/exec.rs", "cannot exec in a stopped container: container not running"),
            ("src/lifecycle/pause.rs", "container not running"),
            ("src/lifecycle/update.rs", "container not running"),
            ("src/lifecycle/checkpoint.rs", "container not running"),
            ("src/cli/argv.rs", "option --{} requires an argument"),
            // create's, of which nobody asks whether the container is there.
            ("src/steps/mounts.rs", "the source {} does not exist"),
            // What `help` and `check` print no engine reads.
            ("src/cli/table.rs", "kill them first; one that does not exist is no error"),
            ("src/check/host.rs", "/proc/sys/{} does not exist here"),
            ("src/check/program.rs", "{name}: no such file or directory (ENOENT) in the root"),
            ("src/check/program.rs", "{name:?}: executable file not found in $PATH"),
        ];
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = Vec::new();
        each_literal(&top.join("src"), &mut |file, literal| {
            let lower = literal.to_lowercase();
            if matched::MATCHED.iter().any(|(words, _, _)| lower.contains(words)) {
                found.push((file.strip_prefix(top).unwrap().to_string_lossy().into_owned(), literal.to_owned()));
            }
        });
        let is = |(file, literal): &(String, String), (meant_in, meant): &(&str, &str)| {
            file == meant_in && literal.starts_with(meant)
        };
        for entry in &found {
            assert!(
                MEANT.iter().any(|meant| is(entry, meant)),
                "an engine would take it for something else: {entry:?}"
            );
        }
        for meant in &MEANT {
            assert!(found.iter().any(|entry| is(entry, meant)), "is not there any more: {meant:?}");
        }
    }

    /// The texts of all files below, without comments and tests.
    fn each_literal(directory: &Path, to: &mut dyn FnMut(&Path, &str)) {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                each_literal(&path, to);
            } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code: String = text
                    .split("#[cfg(test)]\nmod tests {")
                    .next()
                    .unwrap_or_default()
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .map(|line| format!("{}\n", line.replace("'\"'", "").replace("b'\"'", "")))
                    .collect();
                let code = code.replace("\\\\", "").replace("\\\"", "'");
                for literal in code.split('"').skip(1).step_by(2) {
                    let whole: Vec<_> = literal.split("\\\n").map(str::trim_start).collect();
                    to(&path, &whole.concat());
                }
            }
        }
    }
}
