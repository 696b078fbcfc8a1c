//! `hull seccomp record`: the smallest profile of a program; `hull seccomp explain`: a profile in words, and what becomes
//! of a call under it.

use super::{Done, json};
use crate::cli::seccomp::Explain;
use crate::error::{Error, Result, Step, show};
use crate::lifecycle::record::RecordOptions;
use crate::lifecycle::{self, Globals};
use crate::plan::seccomp::explain::{Answer, Explained, Report};
use crate::plan::seccomp::{Context, words};
use crate::spec::load;
use crate::sys::arch::AUDIT_ARCH;

/// Runs a container and writes the profile of its program; the program's exit status is hull's.
pub fn record(globals: &Globals, options: &RecordOptions) -> Result<Done> {
    let status = lifecycle::record::record(globals, options)
        .map_err(|error| error.context(format!("seccomp record {}", options.run.id)))?;
    Ok(Done { text: String::new(), status })
}

/// Explains a profile, or answers for single calls.
pub fn explain(options: &Explain) -> Result<Done> {
    let context = Context { audit_arch: AUDIT_ARCH, fail_unknown: false };
    if let Some(path) = &options.profile {
        let text = load::read(path)?;
        let file = show(path).to_string();
        let (spec, unknown) = load::parse_seccomp(&text, &file)?;
        unknown.iter().for_each(crate::log::warn);
        let named = |error: Error| {
            let subject = error.subject.replacen("config.json: /linux/seccomp", &format!("{file}: "), 1);
            Error { subject, ..error }
        };
        return say(&Explained::new(&spec, &context, options.arch, "").map_err(named)?, (None, false), options);
    }
    let default = options.bundle.join("config.json");
    let text = load::read(options.config.as_deref().unwrap_or(&default))?;
    let (spec, _) = load::parse(&text)?;
    let Some(profile) = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()) else {
        return Err(Error::spec("/linux/seccomp", "is missing: every system call is allowed"));
    };
    let no_new_privileges = spec.process.as_ref().map(|process| process.no_new_privileges);
    let hooked = spec.hooks.as_ref().is_some_and(|hooks| !hooks.start_container.is_empty());
    say(&Explained::new(profile, &context, options.arch, "/linux/seccomp")?, (no_new_privileges, hooked), options)
}

fn say(
    explained: &Explained<'_>,
    (no_new_privileges, hooked): (Option<bool>, bool),
    options: &Explain,
) -> Result<Done> {
    let Explain { calls, json: as_json, .. } = options;
    if calls.is_empty() {
        let report: Report = explained.report(no_new_privileges, hooked);
        let text =
            if *as_json { json(Step::Usage, serde_json::to_string_pretty(&report))? } else { words::report(&report) };
        return Ok(text.into());
    }
    let answers: Vec<Answer> = calls.iter().map(|call| explained.ask(call)).collect::<Result<_>>()?;
    let text = if *as_json {
        json(Step::Usage, serde_json::to_string_pretty(&answers))?
    } else {
        answers.iter().map(words::answer).collect()
    };
    Ok(text.into())
}
