//! The options of the verbs of `hull seccomp`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::ArgMatches;

use super::{bundle, create_options_of, ids, is_json, path, words};
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
pub fn record(matches: &ArgMatches) -> Result<RecordOptions> {
    let id = ids(matches)?.pop().unwrap_or_else(|| format!("record-{}", std::process::id()));
    let run = CreateOptions {
        keep: matches.get_flag("keep"),
        no_subreaper: matches.get_flag("no-subreaper"),
        ..create_options_of(id, matches)?
    };
    Ok(RecordOptions { run, output: path(matches, "output"), names_only: matches.get_flag("names-only") })
}

/// The options of explain.
pub fn explain(matches: &ArgMatches) -> Result<Explain> {
    Ok(Explain {
        bundle: bundle(matches)?,
        config: path(matches, "config"),
        profile: path(matches, "profile"),
        arch: matches.get_one::<OsString>("arch").map(|word| architecture(word)).transpose()?,
        calls: words(matches, "SYSCALL").into_iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        json: is_json(matches),
    })
}

fn architecture(word: &OsStr) -> Result<Arch> {
    word.to_str().and_then(Arch::by_any_name).ok_or_else(|| {
        let known = Arch::ALL.map(Arch::short).join(", ");
        Error::usage(format!("option --arch is one of {known}, not {word:?}"))
    })
}
