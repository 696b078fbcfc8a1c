//! `hull doctor`: what this host can do and what it lacks, for root and for ordinary users, with the cure.
//!
//! Facts are learnt by asking the kernel: a namespace is made by a child that exits at once, a mount is made and dropped,
//! a system call is tried with arguments that cannot do harm. Version numbers say little: distributions carry features back
//! and administrators turn them off.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::host::HostFacts;

pub mod cgroups;
mod engines;
pub mod ids;
mod kernel;
mod namespaces;
mod security;

/// Whether a thing is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is there.
    Ok,
    /// Worth knowing, neither good nor bad.
    Note,
    /// It is not there, and something that containers may ask for cannot be had.
    Lacking,
    /// It is not there, and nothing can run without it.
    Missing,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Note => "note",
            Status::Lacking => "lacking",
            Status::Missing => "missing",
        }
    }
}

/// Whom a finding concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Whom {
    /// Containers that root makes.
    Root,
    /// Containers of ordinary users.
    Rootless,
    /// Both.
    All,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it belongs to.
    pub area: &'static str,
    /// Its name.
    pub name: String,
    /// Whom it concerns.
    #[serde(rename = "for")]
    pub whom: Whom,
    /// How it is.
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

/// Where findings are gathered, area by area.
struct Findings {
    area: &'static str,
    whom: Whom,
    all: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, name: &str, status: Status, detail: impl Into<String>, cure: &str) {
        self.all.push(Finding {
            area: self.area,
            name: name.to_owned(),
            whom: self.whom,
            status,
            detail: detail.into(),
            cure: (!cure.is_empty() && status != Status::Ok).then(|| cure.to_owned()),
        });
    }

    /// Ok, or what it is otherwise.
    fn check(&mut self, name: &str, result: Result<String, String>, otherwise: Status, cure: &str) {
        match result {
            Ok(detail) => self.add(name, Status::Ok, detail, ""),
            Err(detail) => self.add(name, otherwise, detail, cure),
        }
    }
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `root`, or `rootless`: who asked, and so what counts.
    #[serde(rename = "for")]
    pub whom: Whom,
    /// Nothing that this user needs is missing.
    pub ready: bool,
    /// In order.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Looks at this host.
    pub fn new(host: &HostFacts) -> Report {
        let whom = if host.rootless() { Whom::Rootless } else { Whom::Root };
        let mut out = Findings { area: "", whom: Whom::All, all: Vec::new() };
        kernel::look(host, &mut out);
        namespaces::look(host, &mut out);
        cgroups::look(host, &mut out);
        ids::look(host, &mut out);
        security::look(&mut out);
        engines::look(&mut out);
        Report::of(whom, out.all)
    }

    fn of(whom: Whom, findings: Vec<Finding>) -> Report {
        let counts = |finding: &&Finding| finding.whom == Whom::All || finding.whom == whom;
        let ready = findings.iter().filter(counts).all(|finding| finding.status != Status::Missing);
        Report { whom, ready, findings }
    }

    /// The exit status, for the user who asked: 0 all is there, 1 something is lacking, 2 nothing can run.
    pub fn status(&self) -> i32 {
        let counts = |finding: &&Finding| finding.whom == Whom::All || finding.whom == self.whom;
        let lacking = self.findings.iter().filter(counts).any(|finding| finding.status == Status::Lacking);
        match (self.ready, lacking) {
            (false, _) => 2,
            (true, true) => 1,
            (true, false) => 0,
        }
    }

    /// A line each.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Finding { area, name, whom, status, detail, cure } in &self.findings {
            let whom = match whom {
                Whom::Root => " (root)",
                Whom::Rootless => " (rootless)",
                Whom::All => "",
            };
            text += &format!("{:<8}{area}: {name}{whom}: {detail}", status.word());
            if let Some(cure) = cure {
                text += &format!("; {cure}");
            }
            text.push('\n');
        }
        let who = if self.whom == Whom::Root { "root" } else { "this user, who is not root" };
        text += match self.status() {
            0 => "ready for ",
            1 => "ready, with what is lacking above, for ",
            _ => "NOT ready for ",
        };
        text + who + "\n"
    }
}

/// A file's text without the space around it.
fn read(path: impl AsRef<std::path::Path>) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_what_concerns_the_user_who_asks() {
        let mut out = Findings { area: "ids", whom: Whom::Rootless, all: Vec::new() };
        out.check("newuidmap", Err("is not installed".into()), Status::Missing, "install it");
        let root = Report::of(Whom::Root, out.all.clone());
        assert_eq!((root.ready, root.status()), (true, 0));
        let rootless = Report::of(Whom::Rootless, out.all);
        assert_eq!((rootless.ready, rootless.status()), (false, 2));
        let text = "missing ids: newuidmap (rootless): is not installed; install it\nNOT ready for this user, who is not root\n";
        assert_eq!(rootless.text(), text);
    }

    #[test]
    fn this_host_is_looked_at_whole_and_each_lack_has_a_cure() {
        let host = HostFacts::probe(&crate::spec::Spec::default()).unwrap();
        let report = Report::new(&host);
        for area in ["kernel", "namespaces", "cgroups", "ids", "security", "engines"] {
            assert!(report.findings.iter().any(|finding| finding.area == area), "{area}");
        }
        for finding in &report.findings {
            let bad = matches!(finding.status, Status::Lacking | Status::Missing);
            assert!(!bad || finding.cure.is_some(), "{finding:?}");
            assert!(!finding.detail.is_empty() && !finding.detail.contains('\n'), "{finding:?}");
        }
    }
}
