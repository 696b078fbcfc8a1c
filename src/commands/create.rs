//! `hull create`: a container that waits for start.

use super::Done;
use crate::check::failed;
use crate::error::{Error, Result};
use crate::lifecycle::{self, CreateOptions, Globals, journal};
use crate::plan::Options;
use crate::spec::load;

/// Creates the container.
pub fn create(globals: &Globals, options: &CreateOptions) -> Result<Done> {
    lifecycle::create::create(globals, options).map_err(|error| explained(error, globals, options, "create"))?;
    Ok(Done::default())
}

/// The error with what `check` knows of a container that could not be made; it is kept for `why`.
pub fn explained(error: Error, globals: &Globals, options: &CreateOptions, verb: &str) -> Error {
    let default = options.bundle.join("config.json");
    let file = options.config.as_deref().unwrap_or(&default);
    let plan = Options {
        id: options.id.clone(),
        bundle: options.bundle.clone(),
        no_pivot: options.no_pivot,
        cgroup_manager: globals.cgroup_manager,
        rootless: globals.rootless,
        userns_self: options.userns_self,
        ..Options::default()
    };
    let text = load::read(file).ok();
    let error = match &text {
        Some(text) => failed::explain(error, file, text, &plan),
        None => error,
    };
    let error = error.context(format!("{verb} {}", options.id));
    journal::failure(&globals.root, verb, &options.id, &error, text.as_ref());
    error
}
