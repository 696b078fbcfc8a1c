//! `hull explain`: the plan of a bundle, before anything is done.

use std::path::Path;

use super::{Done, json};
use crate::cli::ExplainFormat;
use crate::error::{Result, Step};
use crate::host::HostFacts;
use crate::lifecycle::Globals;
use crate::plan::{Options, Plan, explain};
use crate::spec::load;

/// Prints the plan.
pub fn explain(
    globals: &Globals,
    bundle: &Path,
    config: Option<&Path>,
    userns_self: bool,
    format: ExplainFormat,
) -> Result<Done> {
    let default = bundle.join("config.json");
    let text = load::read(config.unwrap_or(&default))?;
    let (spec, unknown) = load::parse(&text)?;
    let id = bundle.file_name().map_or_else(|| "container".into(), |name| name.to_string_lossy().into_owned());
    let options = Options {
        id,
        bundle: bundle.to_owned(),
        console_socket: spec.process.as_ref().is_some_and(|process| process.terminal),
        detached: true,
        cgroup_manager: globals.cgroup_manager,
        rootless: globals.rootless,
        userns_self,
        ..Options::default()
    };
    let plan = Plan::new(&spec, &HostFacts::probe_for(&spec, globals.cgroup_manager)?, &options)?;
    for note in unknown.iter().map(ToString::to_string).chain(plan.notes.iter().cloned()) {
        crate::log::warn(note);
    }
    match format {
        ExplainFormat::Text => Ok(explain::text(&plan).into()),
        ExplainFormat::Sh => Ok(explain::shell(&plan).into()),
        ExplainFormat::Json => json(Step::Usage, serde_json::to_string_pretty(&explain::lines(&plan))).map(Done::from),
    }
}
