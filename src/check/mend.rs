//! Every problem of a config, by mending: the first error is noted, what it points at is put right or taken out, and the
//! config is read and planned again, until nothing is wrong. So the rules are those of [`crate::spec`] and
//! [`crate::plan`] alone, whatever they come to be; nothing here knows a rule of its own.

use serde_json::{Value, json};

use super::document::{NEW, Node};
use super::{Kind, Problem, from_error};
use crate::error::{Error, Result};
use crate::host::HostFacts;
use crate::plan::{Options, Plan};
use crate::spec::load::{Text, parse};
use crate::spec::{Spec, Unknown};

/// The most problems that are looked for: a file with more of them has one cause.
pub const MOST: usize = 200;
/// So much text is read again in all.
const MOST_BYTES: usize = 64 << 20;

/// What was found, and what is left of the config.
pub struct Outcome {
    /// Problems against the specification, in the order in which they stood in the way.
    pub problems: Vec<Problem>,
    /// The config without them, and its plan; None where an error could not be mended.
    pub rest: Option<Rest>,
}

/// A config that can be planned.
pub struct Rest {
    /// Its text.
    pub text: Text,
    /// The same as a tree that knows the places of the file.
    pub document: Node,
    /// The facts that it was planned with.
    pub host: HostFacts,
    /// The plan.
    pub plan: Plan,
    /// The places that were mended, as the file has them.
    pub mended: Vec<String>,
}

/// Finds every problem; `probe` gives the facts of the host.
pub fn problems(text: &Text, probe: impl Fn(&Spec<'_>) -> Result<HostFacts>, options: &Options) -> Outcome {
    let mut problems = Vec::new();
    let mut document = match Node::parse(&text.0) {
        Ok(document) => document,
        Err(error) => {
            problems.push(Problem::error(Kind::Spec, "", error.to_string()));
            return Outcome { problems, rest: None };
        }
    };
    let what = "is given more than once: the last one counts";
    problems
        .extend(document.doubles().into_iter().take(MOST).map(|pointer| Problem::warning(Kind::Spec, pointer, what)));
    let mut host = None;
    let mut mender = Mender::default();
    let mut now = text.clone();
    let mut found = 0;
    // An error may need several mends, so there are more tries than problems; a long file is not read again so often.
    let tries = (MOST_BYTES / text.0.len().max(1)).clamp(8, MOST * 4);
    for _ in 0..tries {
        match attempt(&now, &mut host, &probe, options) {
            Ok((plan, unknown)) => {
                let more = (unknown.len() + plan.notes.len() + plan.asides.len()).saturating_sub(MOST);
                problems.extend(unknown.iter().take(MOST).map(|unknown| from_unknown(&document, unknown)));
                let notes = plan.notes.iter().chain(&plan.asides).take(MOST.saturating_sub(unknown.len()));
                problems.extend(notes.map(|note| place(&document, Problem::from_text(Kind::Spec, note))));
                if more > 0 {
                    problems.push(Problem::warning(Kind::Spec, "", format!("and {more} more warnings")));
                }
                let Some(host) = host else { break };
                let rest = Rest { text: now, document, host, plan, mended: mender.mended };
                return Outcome { problems, rest: Some(rest) };
            }
            Err(error) => {
                let problem = from_error(&error);
                let pointer = problem.pointer.clone();
                let problem = place(&document, problem);
                if !mender.is_own(&problem.pointer) && !mender.is_own_doing(&document, &pointer, &error) {
                    found += 1;
                    problems.push(problem);
                }
                if found >= MOST || !mender.mend(&mut document, &pointer, &error) {
                    break;
                }
                now = Text(document.to_string());
            }
        }
    }
    if found >= MOST || tries < found * 4 {
        problems.push(Problem::error(Kind::Spec, "", format!("more than {found} problems: no more are looked for")));
    }
    Outcome { problems, rest: None }
}

fn attempt(
    text: &Text,
    host: &mut Option<HostFacts>,
    probe: &impl Fn(&Spec<'_>) -> Result<HostFacts>,
    options: &Options,
) -> Result<(Plan, Vec<Unknown>)> {
    let (spec, unknown) = parse(text)?;
    // Mending takes away only, so the facts that the first readable form needs are enough for all others.
    let facts = match host {
        Some(facts) => facts,
        None => host.insert(probe(&spec)?),
    };
    // Whoever will create it is taken to be ready for a terminal.
    let console_socket = spec.process.as_ref().is_some_and(|process| process.terminal);
    let options = Options { console_socket, detached: true, ..options.clone() };
    Ok((Plan::new(&spec, facts, &options)?, unknown))
}

fn place(document: &Node, problem: Problem) -> Problem {
    Problem { pointer: document.original(&problem.pointer), ..problem }
}

/// Where properties belong that were put in another object, as far as their names are theirs alone.
const HOMES: [(&str, &[&str]); 4] = [
    (
        "/process",
        &[
            "args",
            "env",
            "cwd",
            "terminal",
            "capabilities",
            "rlimits",
            "noNewPrivileges",
            "oomScoreAdj",
            "apparmorProfile",
            "selinuxLabel",
        ],
    ),
    ("/process/user", &["uid", "gid", "additionalGids", "umask"]),
    (
        "/linux",
        &[
            "namespaces",
            "resources",
            "sysctl",
            "seccomp",
            "maskedPaths",
            "readonlyPaths",
            "uidMappings",
            "gidMappings",
            "cgroupsPath",
            "rootfsPropagation",
        ],
    ),
    ("/linux/resources", &["memory", "cpu", "pids", "blockIO", "hugepageLimits", "unified"]),
];

fn from_unknown(document: &Node, unknown: &Unknown) -> Problem {
    let key = unknown.pointer.rsplit('/').next().unwrap_or_default();
    let home = HOMES.iter().find(|(_, keys)| keys.contains(&key));
    let bare = Unknown { nearest: unknown.nearest.filter(|_| home.is_none() || unknown.taken), ..unknown.clone() };
    let problem = Problem::from_text(Kind::Spec, &bare.to_string());
    place(
        document,
        match home {
            Some((home, _)) => problem.hint(format!("it belongs in {home}")),
            None => problem,
        },
    )
}

/// Puts right what an error points at.
#[derive(Default)]
struct Mender {
    /// The places, as the file has them.
    mended: Vec<String>,
    /// How often each place stood in the way, as the tree had it then.
    tries: Vec<(String, usize)>,
}

impl Mender {
    /// Whether an error at this place is only the consequence of a mend.
    fn is_own(&self, original: &str) -> bool {
        self.mended.iter().any(|mended| mended == original) || original.contains(&NEW.to_string())
    }

    /// Whether an error comes from a contradiction to what a mend has put in.
    fn is_own_doing(&self, document: &Node, pointer: &str, error: &Error) -> bool {
        let mut others = words(error).filter(|word| *word != pointer).map(|word| document.original(word));
        others.any(|word| self.is_own(&word))
    }

    /// Changes the tree so that the error cannot come again; false if nothing is left to change.
    fn mend(&mut self, document: &mut Node, pointer: &str, error: &Error) -> bool {
        if pointer.is_empty() {
            return false;
        }
        let original = document.original(pointer);
        let tries = match self.tries.iter_mut().find(|(place, _)| *place == original) {
            Some((_, tries)) => {
                *tries += 1;
                *tries
            }
            None => {
                self.tries.push((original.clone(), 0));
                0
            }
        };
        if !self.is_own(&original) {
            self.mended.push(original);
        }
        if tries < 3 && self.put_right(document, pointer, error, tries) {
            return true;
        }
        // What contradicts it goes, if it was taken out with what it was a part of, or a whole section would have to.
        let mut above = pointer;
        while document.get(above).is_none() {
            above = &above[..above.rfind('/').unwrap_or(0)];
        }
        let is_section = above.matches('/').count() < 2;
        if (is_section || tries > 1)
            && let Some(other) = other_place(document, pointer, error)
        {
            self.mended.push(document.original(&other));
            return document.remove(&other);
        }
        // Nothing can be put there: it goes, or what it is a part of; and if it is in the way again and again, more.
        let mut spare = tries.saturating_sub(2);
        let mut at = pointer;
        while !at.is_empty() {
            let there = document.get(at).is_some();
            if there && spare == 0 {
                let gone = document.original(at);
                if !self.is_own(&gone) {
                    self.mended.push(gone);
                }
                return document.remove(at);
            }
            spare -= usize::from(there);
            at = &at[..at.rfind('/').unwrap_or(0)];
        }
        false
    }

    fn put_right(&mut self, document: &mut Node, pointer: &str, error: &Error, tries: usize) -> bool {
        if let Some(name) = suggestion(error).filter(|_| tries == 0) {
            return document.put(pointer, &json!(name));
        }
        if let Some(kind) = wanted_namespace(error) {
            return self.add_namespace(document, kind);
        }
        if document.get(pointer).is_some() {
            return false;
        }
        STOCK.iter().any(|(place, value)| *place == pointer && document.put(pointer, &value()))
    }

    /// What is refused without a namespace is looked at as if it were there: it may have more problems.
    fn add_namespace(&mut self, document: &mut Node, kind: &str) -> bool {
        const LIST: &str = "/linux/namespaces";
        if document.get("/linux").is_none() {
            document.put("/linux", &json!({}));
        }
        if document.get(LIST).is_none() {
            document.put(LIST, &json!([]));
        }
        let Some(Node::Array(list)) = document.get(LIST) else { return false };
        let is_there = |node: &Node| node.get("/type") == Some(&Node::Leaf(json!(kind)));
        if list.iter().any(|(_, node)| is_there(node)) {
            return false;
        }
        if kind == "user" {
            for place in ["/linux/uidMappings", "/linux/gidMappings"] {
                if document.get(place).is_none() {
                    document.put(place, &every_id());
                    self.mended.push(place.into());
                }
            }
        }
        document.put(&format!("{LIST}/-"), &json!({"type": kind}))
    }
}

type Stock = (&'static str, fn() -> Value);

/// What stands in for a missing property, so that what lies beside it can be looked at. Nothing of it is ever run.
const STOCK: &[Stock] = &[
    ("/ociVersion", || json!("1.0.0")),
    ("/root", || json!({"path": "."})),
    ("/root/path", || json!(".")),
    ("/process", || json!({"args": ["sh"], "cwd": "/"})),
    ("/process/args", || json!(["sh"])),
    ("/process/cwd", || json!("/")),
    ("/linux/uidMappings", every_id),
    ("/linux/gidMappings", every_id),
    ("/linux/seccomp/defaultAction", || json!("SCMP_ACT_KILL_PROCESS")),
    ("/linux/seccomp/listenerPath", || json!("/")),
];

fn every_id() -> Value {
    json!([{"containerID": 0, "hostID": 0, "size": u32::MAX}])
}

/// A place that an error names beside its own, and that is there.
fn other_place(document: &Node, own: &str, error: &Error) -> Option<String> {
    let mut others = words(error).filter(|word| *word != own && document.get(own).is_none());
    others.find(|word| document.get(word).is_some()).map(str::to_owned)
}

/// What looks like a JSON pointer in an error.
fn words(error: &Error) -> impl Iterator<Item = &str> {
    error.subject.split([' ', ':', ',']).filter(|word| word.starts_with('/'))
}

/// The name that an error takes for the one that was meant.
fn suggestion(error: &Error) -> Option<&str> {
    error.hint.as_deref()?.strip_prefix("did you mean \"")?.strip_suffix("\"?")
}

/// The namespace without which something is refused.
fn wanted_namespace(error: &Error) -> Option<&'static str> {
    let (_, rest) = error.subject.split_once(": needs a ")?;
    let word = rest.strip_prefix("new ").unwrap_or(rest).split(' ').next()?;
    let named = rest.contains(" namespace") && rest.ends_with("/linux/namespaces");
    crate::plan::namespaces::Kind::ALL.iter().map(|row| row.1).find(|name| named && *name == word)
}

#[cfg(test)]
mod tests;
