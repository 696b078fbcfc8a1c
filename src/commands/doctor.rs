//! `hull doctor`: what this host can do and what it lacks.

use super::{Done, json};
use crate::doctor::Report;
use crate::error::{Result, Step};
use crate::host::HostFacts;
use crate::spec::Spec;

/// Prints the findings; the status is 0 if all is there, 1 if something is lacking, 2 if nothing can run.
pub fn doctor(as_json: bool) -> Result<Done> {
    let report = Report::new(&HostFacts::probe(&Spec::default())?);
    let text = if as_json { json(Step::Usage, serde_json::to_string_pretty(&report))? } else { report.text() };
    Ok(Done { text, status: report.status() })
}
