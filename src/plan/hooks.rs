//! Hooks of all six kinds (config.md#posix-platform-hooks), checked before any of them runs.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::spec;

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The program.
    pub path: String,
    /// argv, the first included; empty: the path.
    pub args: Vec<String>,
    /// The environment; None: that of the process which runs the hook.
    pub env: Option<Vec<String>>,
    /// The hook and its process group are killed after this.
    pub timeout: Option<Duration>,
    /// `/hooks/prestart/0`.
    pub pointer: String,
}

/// All hooks, in order within each kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// Deprecated; run with createRuntime, before it.
    pub prestart: Vec<Hook>,
    /// On the host, namespaces made, before pivot_root.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before pivot_root.
    pub create_container: Vec<Hook>,
    /// In the container, before the program.
    pub start_container: Vec<Hook>,
    /// On the host, after the program started.
    pub poststart: Vec<Hook>,
    /// On the host, after delete.
    pub poststop: Vec<Hook>,
    /// A file of the host to which their stdout is appended ([`STDOUT_ANNOTATION`]).
    pub stdout: Option<String>,
    /// The same for stderr ([`STDERR_ANNOTATION`]).
    pub stderr: Option<String>,
}

/// The annotations that name these files, as crun has them.
pub const STDOUT_ANNOTATION: &str = "run.oci.hooks.stdout";
/// See [`STDOUT_ANNOTATION`].
pub const STDERR_ANNOTATION: &str = "run.oci.hooks.stderr";

impl Hooks {
    /// The names of the kinds, as the specification spells them.
    pub const KINDS: [&'static str; 6] =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

    /// From /hooks, and the annotations on their output.
    pub fn new(spec: &spec::Spec<'_>) -> Result<Hooks> {
        let Some(hooks) = &spec.hooks else { return Ok(Hooks::default()) };
        let file = |annotation: &str| match spec.annotations.get(annotation).map(|path| &**path) {
            Some(path) if path.starts_with('/') && !path.contains('\0') => Ok(Some(path.to_owned())),
            Some(path) => {
                Err(Error::spec(format!("/annotations/{annotation}"), format_args!("must be absolute, is {path:?}")))
            }
            None => Ok(None),
        };
        Ok(Hooks {
            prestart: list("prestart", &hooks.prestart)?,
            create_runtime: list("createRuntime", &hooks.create_runtime)?,
            create_container: list("createContainer", &hooks.create_container)?,
            start_container: list("startContainer", &hooks.start_container)?,
            poststart: list("poststart", &hooks.poststart)?,
            poststop: list("poststop", &hooks.poststop)?,
            stdout: file(STDOUT_ANNOTATION)?,
            stderr: file(STDERR_ANNOTATION)?,
        })
    }

    /// Whether init waits for setup before pivot_root: for its hooks, or for the limits that init's own hooks must find.
    pub fn before_pivot(&self) -> bool {
        !(self.prestart.is_empty() && self.create_runtime.is_empty() && self.create_container.is_empty())
    }

    /// Whether init runs hooks itself.
    pub fn in_init(&self) -> bool {
        !(self.create_container.is_empty() && self.start_container.is_empty())
    }
}

fn list(kind: &str, hooks: &[spec::Hook<'_>]) -> Result<Vec<Hook>> {
    hooks.iter().enumerate().map(|(index, hook)| one(format!("/hooks/{kind}/{index}"), hook)).collect()
}

fn one(pointer: String, hook: &spec::Hook<'_>) -> Result<Hook> {
    let Some(path) = &hook.path else { return Err(Error::spec(format!("{pointer}/path"), "missing")) };
    if !path.starts_with('/') {
        return Err(Error::spec(format!("{pointer}/path"), format_args!("must be absolute, is {path:?}")));
    }
    let timeout = match hook.timeout {
        None => None,
        Some(seconds) if seconds > 0 => Some(Duration::from_secs(seconds as u64)),
        Some(seconds) => {
            return Err(Error::spec(format!("{pointer}/timeout"), format_args!("must be above 0, is {seconds}")));
        }
    };
    let strings = |list: &[spec::Str<'_>]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let (args, env) = (strings(&hook.args), hook.env.as_ref().map(|env| strings(env)));
    if [path.to_string()].iter().chain(&args).chain(env.iter().flatten()).any(|text| text.contains('\0')) {
        return Err(Error::spec(pointer, "holds a NUL byte"));
    }
    Ok(Hook { path: path.to_string(), args, env, timeout, pointer })
}
