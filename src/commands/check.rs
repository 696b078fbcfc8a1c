//! `hull check`: every problem of a bundle at once.

use std::path::Path;

use super::{Done, json};
use crate::check::{self, Report};
use crate::error::{Result, Step};
use crate::lifecycle::Globals;
use crate::plan::Options;
use crate::spec::load;

/// Prints the problems; the status is 0 for none, 1 for warnings only, 2 for errors, an unreadable bundle included.
pub fn check(globals: &Globals, bundle: &Path, config: Option<&Path>, as_json: bool) -> Result<Done> {
    let default = bundle.join("config.json");
    let id = bundle.file_name().map_or_else(|| "container".into(), |name| name.to_string_lossy().into_owned());
    let options = Options {
        id,
        bundle: bundle.to_owned(),
        cgroup_manager: globals.cgroup_manager,
        rootless: globals.rootless,
        ..Options::default()
    };
    let report = match load::read(config.unwrap_or(&default)) {
        Ok(text) => check::check(&text, &options),
        Err(error) => Report::unreadable(&error),
    };
    let text = if as_json { json(Step::Usage, serde_json::to_string_pretty(&report))? } else { report.text() };
    Ok(Done { text, status: report.status() })
}
