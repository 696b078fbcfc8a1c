//! `hull check`: every problem of a bundle at once, against the specification and against this host, each with its
//! place in config.json.
//!
//! Against the specification the rules are the plan's own ([`mend`]); against the host it is asked what create would
//! ask, without doing any of it (`host.rs`).
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::error::{Blame, Error};
use crate::host::HostFacts;
use crate::plan::Options;
use crate::spec::load::{Text, parse};

mod access;
pub mod document;
pub mod failed;
mod host;
pub mod mend;
mod program;
mod values;
mod view;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// create goes on, and something of the config has no effect or another one than it seems.
    Warning,
    /// create fails, or the program cannot start.
    Error,
}

/// What it is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The specification: the config is wrong everywhere.
    Spec,
    /// This host: elsewhere it may work.
    Host,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What it is measured by.
    pub against: Kind,
    /// JSON pointer; empty: the whole file.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// Whether create fails.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    fn error(against: Kind, pointer: impl Into<String>, message: impl Into<String>) -> Problem {
        let (pointer, message) = (pointer.into(), message.into());
        Problem { severity: Severity::Error, against, pointer, message, hint: None }
    }

    /// That the host refuses something.
    fn failed(pointer: impl Into<String>, what: impl std::fmt::Display, errno: rustix::io::Errno) -> Problem {
        Problem::error(Kind::Host, pointer, format!("{what}: {}", crate::error::Strerror(errno.raw_os_error())))
    }

    fn warning(against: Kind, pointer: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(against, pointer, message) }
    }

    /// A warning in the words of a note of the plan, which begin with the place.
    fn from_text(against: Kind, text: &str) -> Problem {
        let (pointer, message) = place_of(text);
        Problem::warning(against, pointer, message)
    }

    fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }
}

/// An error of hull's as a problem: the place is taken from its words, where [`Error::spec`] has put it.
fn from_error(error: &Error) -> Problem {
    let against = if error.blame == Blame::Spec { Kind::Spec } else { Kind::Host };
    let bare = Error { context: String::new(), hint: None, ..error.clone() }.to_string();
    let (pointer, message) = place_of(&bare);
    // Where in the text a value stands says nothing in a text that was mended; the pointer says it better.
    let message = match message.rfind(" at line ") {
        Some(at) if !pointer.is_empty() => &message[..at],
        _ => message,
    };
    Problem { hint: error.hint.clone(), ..Problem::error(against, pointer, message) }
}

/// The JSON pointer in a sentence of hull's, and the sentence without it: `config.json: POINTER: what`, or `what (POINTER)`.
fn place_of(text: &str) -> (&str, &str) {
    if let Some((pointer, message)) = text.strip_prefix("config.json: ").and_then(|rest| rest.split_once(": "))
        && pointer.starts_with('/')
    {
        return (if pointer == "/" { "" } else { pointer }, message);
    }
    let inner = text.split_once(" (/").and_then(|(before, rest)| Some((before, rest.split_once(')')?.0)));
    match inner {
        Some((before, inner)) => (&text[before.len() + 2..before.len() + 3 + inner.len()], text),
        None => ("", text),
    }
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Errors first, in the order of the file's sections otherwise.
    pub problems: Vec<Problem>,
    /// How many of them are errors.
    pub errors: usize,
    /// How many of them are warnings.
    pub warnings: usize,
}

impl Report {
    fn new(problems: Vec<Problem>) -> Report {
        let (mut problems, warnings): (Vec<_>, Vec<_>) = problems.into_iter().partition(Problem::is_error);
        problems.extend(warnings);
        problems.dedup();
        let errors = problems.iter().filter(|problem| problem.is_error()).count();
        Report { errors, warnings: problems.len() - errors, problems }
    }

    /// The report of a config that cannot even be read.
    pub fn unreadable(error: &Error) -> Report {
        Report::new(vec![from_error(error)])
    }

    /// The exit status: 0 nothing, 1 warnings only, 2 errors.
    pub fn status(&self) -> i32 {
        match (self.errors, self.warnings) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        }
    }

    /// A line each, and one that counts.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Problem { severity, against, pointer, message, hint } in &self.problems {
            text += match severity {
                Severity::Error => "error: ",
                Severity::Warning => "warning: ",
            };
            if *against == Kind::Host {
                text += "this host: ";
            }
            if !pointer.is_empty() && !message.contains(&format!("({pointer})")) {
                text += &format!("{pointer}: ");
            }
            text += message;
            if let Some(hint) = hint {
                text += &format!(" ({hint})");
            }
            text.push('\n');
        }
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        text += &format!("{}, {}\n", count(self.errors, "error"), count(self.warnings, "warning"));
        text
    }
}

/// Checks the text of a config.json.
pub fn check(text: &Text, options: &Options) -> Report {
    let mend::Outcome { mut problems, rest } =
        mend::problems(text, |spec| HostFacts::probe_for(spec, options.cgroup_manager), options);
    if let Some(rest) = rest
        && let Ok((spec, _)) = parse(&rest.text)
    {
        problems.extend(doubles(&spec, &rest.document));
        let mut found = host::problems(&spec, &rest.plan, &rest.host);
        if found.len() > mend::MOST {
            let more = format!("and {} more problems of this host", found.len() - mend::MOST);
            found.sort_by_key(|problem| !problem.is_error());
            found.truncate(mend::MOST);
            found.push(Problem::warning(Kind::Host, "", more));
        }
        let placed = found.into_iter().map(|problem| {
            let pointer = rest.document.original(&problem.pointer);
            Problem { pointer, ..problem }
        });
        // What was put in only to go on is not the config's.
        problems.extend(placed.filter(|problem| {
            let is_in = |place: &String| {
                problem
                    .pointer
                    .strip_prefix(place.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            !rest.mended.iter().any(is_in)
        }));
    }
    Report::new(problems)
}

/// What the plan rightly takes, and is seldom meant: the later of two entries hides the earlier one.
fn doubles(spec: &crate::spec::Spec<'_>, document: &document::Node) -> Vec<Problem> {
    let env = spec.process.iter().flat_map(|process| process.env.iter().enumerate());
    let env = env.filter_map(|(i, text)| Some((format!("/process/env/{i}"), text.split_once('=')?.0)));
    let mut seen = std::collections::HashMap::new();
    let mut problems = Vec::new();
    for (pointer, name) in env {
        if let Some(earlier) = seen.insert(name, pointer.clone()) {
            let what = format!("is hidden by {}, which has {name} too", document.original(&pointer));
            problems.push(Problem::warning(Kind::Spec, document.original(&earlier), what));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_found_in_a_sentence() {
        for (text, pointer, message) in [
            ("config.json: /a/0/b: is wrong: really", "/a/0/b", "is wrong: really"),
            ("config.json: /: expected value", "", "expected value"),
            ("join the pid namespace /x (/linux/namespaces/0): open", "/linux/namespaces/0", ""),
            ("no place at all", "", "no place at all"),
        ] {
            let (found, rest) = place_of(text);
            assert_eq!((found, rest), (pointer, if message.is_empty() { text } else { message }));
        }
    }

    #[test]
    fn a_report_counts_and_sorts() {
        let warning = Problem::warning(Kind::Spec, "/x", "is odd").hint("try y");
        let error = Problem::error(Kind::Host, "/y", "is missing");
        let report = Report::new(vec![warning.clone(), error.clone(), error.clone()]);
        assert_eq!((report.errors, report.warnings, report.status()), (1, 1, 2));
        let text = "error: this host: /y: is missing\nwarning: /x: is odd (try y)\n1 error, 1 warning\n";
        assert_eq!(report.text(), text);
        assert_eq!(Report::new(vec![warning]).status(), 1);
        assert_eq!(Report::new(Vec::new()).text(), "0 errors, 0 warnings\n");
    }
}
