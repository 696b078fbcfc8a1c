//! The options of the verbs of `hull seccomp`.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::argv::Line;
use super::{bundle, create_options_of, ids, is_json};
use crate::error::{Error, Result};
use crate::lifecycle::CreateOptions;
use crate::lifecycle::record::RecordOptions;
use crate::plan::seccomp::Arch;

/// What is explained, and how.
#[derive(Debug, PartialEq, Eq)]
pub struct Explain {
    /// The bundle.
    pub bundle: PathBuf,
    /// --config: another file than BUNDLE/config.json.
    pub config: Option<PathBuf>,
    /// --profile: a file that holds what config.json has at /linux/seccomp.
    pub profile: Option<PathBuf>,
    /// --arch.
    pub arch: Option<Arch>,
    /// The calls that are asked for; none: the whole profile.
    pub calls: Vec<String>,
    /// --format json.
    pub json: bool,
}

/// The options of record.
pub fn record(line: &Line) -> Result<RecordOptions> {
    let id = ids(line)?.pop().unwrap_or_else(|| format!("record-{}", std::process::id()));
    let run =
        CreateOptions { keep: line.on("keep"), no_subreaper: line.on("no-subreaper"), ..create_options_of(id, line)? };
    Ok(RecordOptions { run, output: line.path("output"), names_only: line.on("names-only") })
}

/// The options of explain.
pub fn explain(line: &Line) -> Result<Explain> {
    Ok(Explain {
        bundle: bundle(line)?,
        config: line.path("config"),
        profile: line.path("profile"),
        arch: line.value("arch").map(architecture).transpose()?,
        calls: line.words("SYSCALL").iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        json: is_json(line),
    })
}

fn architecture(word: &OsStr) -> Result<Arch> {
    word.to_str().and_then(Arch::by_any_name).ok_or_else(|| {
        let known = Arch::all().map(Arch::short).collect::<Vec<_>>().join(", ");
        Error::usage(format!("option --arch is one of {known}, not {word:?}"))
    })
}
