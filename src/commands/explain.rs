//! `hull explain`: the plan of a bundle, before anything is done; `hull explain CODE`: what docs/errors.md says of an error.

use std::path::Path;

use serde::Serialize;

use super::{Done, json};
use crate::cli::ExplainFormat;
use crate::error::{Error, Result, Step};
use crate::host::HostFacts;
use crate::lifecycle::Globals;
use crate::plan::{Options, Plan, explain, script};
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
    let unknown = unknown.iter().map(|unknown| unknown as &dyn std::fmt::Display);
    crate::log::warn_all(unknown.chain(plan.notes.iter().map(|note| note as _)));
    match format {
        ExplainFormat::Text => Ok(explain::text(&plan).into()),
        ExplainFormat::Sh => Ok(script::script(&plan).into()),
        ExplainFormat::Json => json(Step::Usage, serde_json::to_string_pretty(&explain::lines(&plan))).map(Done::from),
    }
}

/// What docs/errors.md says of one code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The stable code.
    pub code: &'static str,
    /// What failed.
    pub failed: &'static str,
    /// Its usual cause.
    pub cause: &'static str,
    /// What helps.
    pub cure: &'static str,
}

/// The table of docs/errors.md, the one place where causes and cures are written.
pub fn rows() -> impl Iterator<Item = Row> {
    include_str!("../../docs/errors.md").lines().filter(|line| line.starts_with("| HULL-")).filter_map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        Some(Row { code: cells.next()?, failed: cells.next()?, cause: cells.next()?, cure: cells.next()? })
    })
}

/// Prints cause and cure of an error; its code may be shortened to what comes behind `HULL-`, in any case.
pub fn code(asked: &str, as_json: bool) -> Result<Done> {
    let bare = |code: &str| {
        let code = code.trim_start_matches(['[', ' ']).trim_end_matches([']', ' ']).to_ascii_uppercase();
        code.strip_prefix("HULL-").unwrap_or(&code).to_owned()
    };
    let Some(row) = rows().find(|row| bare(row.code) == bare(asked)) else {
        let codes: Vec<_> = rows().map(|row| bare(row.code)).collect();
        return Err(Error::usage(format!("hull has no error {asked:?}")).hint(format!("it has {}", codes.join(", "))));
    };
    if as_json {
        return json(Step::Usage, serde_json::to_string_pretty(&row)).map(Done::from);
    }
    let Row { code, failed, cause, cure } = row;
    Ok(format!("{code}: {failed}\n\nUsual cause: {cause}.\nCure: {cure}.\n").into())
}
