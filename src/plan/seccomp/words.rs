//! What [`explain`] found out, as text.

use std::fmt::Write;

use super::explain::{Action, Answer, Depends, Report, Verdict};
use super::rules::{Condition, Rule, Test};
use super::*;
use crate::error::errno_name;

/// Lines of names are broken before this.
const WIDTH: usize = 100;

/// SECCOMP_RET_* as a profile calls it.
pub(super) fn action(verdict: u32) -> Action {
    let data = verdict & !ACTION_MASK;
    let errno = || errno_name(data as i32).map_or_else(|| data.to_string(), str::to_owned);
    let (action, errno, words) = match verdict & ACTION_MASK {
        KILL_PROCESS => ("SCMP_ACT_KILL_PROCESS", None, "kills the process".to_owned()),
        KILL_THREAD => ("SCMP_ACT_KILL_THREAD", None, "kills the thread".to_owned()),
        TRAP => ("SCMP_ACT_TRAP", None, "raises SIGSYS".to_owned()),
        ERRNO => ("SCMP_ACT_ERRNO", Some(errno()), format!("fails with {}", errno())),
        NOTIFY => ("SCMP_ACT_NOTIFY", None, "is answered by the agent at listenerPath".to_owned()),
        TRACE => ("SCMP_ACT_TRACE", Some(data.to_string()), "is shown to a tracer; without one ENOSYS".to_owned()),
        LOG => ("SCMP_ACT_LOG", None, "is allowed and logged".to_owned()),
        _ => ("SCMP_ACT_ALLOW", None, "is allowed".to_owned()),
    };
    Action { action, errno, words }
}

/// The conditions of a rule.
pub(super) fn conditions(call: &str, rule: &Rule) -> Vec<String> {
    rule.conditions.iter().map(|condition| one(call, condition)).collect()
}

fn one(call: &str, condition: &Condition) -> String {
    let Condition { argument, test, negated, value, mask } = *condition;
    let what = facts::of(call).filter(|fact| fact.argument == argument).map(|fact| format!(" ({})", fact.what));
    let argument_is = format!("argument {argument}{}", what.unwrap_or_default());
    let whole = mask == u64::MAX || mask == u64::from(u32::MAX);
    let left = if whole { argument_is } else { format!("{argument_is} & {mask:#x}") };
    let sign = match (test, negated) {
        (Test::Equal, false) => "==",
        (Test::Equal, true) => "!=",
        (Test::AtLeast, false) => ">=",
        (Test::AtLeast, true) => "<",
        (Test::Above, false) => ">",
        (Test::Above, true) => "<=",
    };
    format!("{left} {sign} {}", facts::words(call, argument, value))
}

/// The whole profile.
pub fn report(report: &Report) -> String {
    let mut out = String::new();
    let short = |name: &'static str| Arch::named(name).map_or(name, Arch::short);
    let architectures: Vec<_> = report.architectures.iter().copied().map(short).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "architectures: {}; a call of another one kills the thread", architectures.join(", "));
    let _ =
        writeln!(out, "default: a call of {} that is not below {}", short(report.architecture), report.default.words);
    if let Some(newer) = &report.newer {
        let _ = writeln!(
            out,
            "newer: one with a number above {} ({}), the newest that the profile names, {}",
            newer.number, newer.than, newer.action.words
        );
    }
    let flags: Vec<_> = report.flags.iter().map(|flag| flag.trim_start_matches("SECCOMP_FILTER_FLAG_")).collect();
    let _ = writeln!(out, "flags: {}", if flags.is_empty() { "none".to_owned() } else { flags.join(", ") });
    let _ = writeln!(out, "program: {} instructions of at most {MAX_INSTRUCTIONS}", report.instructions);
    for group in &report.always {
        let count = group.names.len();
        let _ = writeln!(out, "\n{} ({count}):", group.action.words);
        names(&mut out, &group.names);
    }
    if !report.depends.is_empty() {
        let _ = writeln!(out, "\nby its arguments ({}):", report.depends.len());
        report.depends.iter().for_each(|depends| tried(&mut out, depends));
    }
    section(&mut out, "left out", &report.left_out);
    section(&mut out, "without effect", &report.without_effect);
    for needs in &report.needs {
        let _ = writeln!(out, "\nloaded {}:", needs.loaded);
        let _ = writeln!(out, "  hull itself then needs");
        names(&mut out, &needs.calls);
        if needs.refused.is_empty() {
            let _ = writeln!(out, "  all of which the profile allows");
        } else {
            let _ = writeln!(out, "  of which the profile refuses, so that the container cannot start:");
            needs.refused.iter().for_each(|depends| tried(&mut out, depends));
        }
    }
    out
}

fn section(out: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        let _ = writeln!(out, "\n{title}:");
        lines.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
    }
}

fn names(out: &mut String, names: &[&str]) {
    let mut line = String::from(" ");
    for name in names {
        if line.len() + 1 + name.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(name);
    }
    out.push_str(&line);
    out.push('\n');
}

fn tried(out: &mut String, depends: &Depends) {
    let _ = writeln!(out, "  {}", depends.name);
    depends.rules.iter().for_each(|verdict| out.push_str(&format!("    {}\n", sentence(verdict))));
}

fn sentence(verdict: &Verdict) -> String {
    let Verdict { conditions, action, by } = verdict;
    if conditions.is_empty() {
        return format!("{}: {by}", action.words);
    }
    format!("{} if {}: {by}", action.words, conditions.join(" and "))
}

/// The answer to a question.
pub fn answer(answer: &Answer) -> String {
    match &answer.verdicts[..] {
        [only] => format!("{} {}\n", answer.call, sentence(only)),
        [first, rest @ ..] if rest.iter().all(|verdict| verdict.action == first.action) => {
            let by: Vec<_> = answer.verdicts.iter().map(|verdict| verdict.by.as_str()).collect();
            format!("{} {} in any case: {}\n", answer.call, first.action.words, by.join(", or "))
        }
        several => {
            let mut out = format!("{}: its arguments decide\n", answer.call);
            several.iter().for_each(|verdict| out.push_str(&format!("  {}\n", sentence(verdict))));
            out
        }
    }
}
