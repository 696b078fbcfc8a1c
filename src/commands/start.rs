//! `hull start`: the program of a created container is executed.

use super::Done;
use crate::check::failed;
use crate::error::{Error, Result};
use crate::lifecycle::state::{State, StateDir};
use crate::lifecycle::{self, Globals, journal};
use crate::plan::Options;
use crate::spec::load::Text;

/// Starts the container.
pub fn start(globals: &Globals, id: &str) -> Result<Done> {
    lifecycle::start::start(globals, id).map_err(|error| explained(error, globals, id, "start", Some))?;
    Ok(Done::default())
}

/// The error with what `check` knows of a container that is there, by its copy of config.json and what `change` makes of
/// it; it is kept for `why`.
pub fn explained(
    error: Error,
    globals: &Globals,
    id: &str,
    verb: &str,
    change: impl Fn(Text) -> Option<Text>,
) -> Error {
    let known = || -> Option<(State, Text)> {
        let dir = StateDir::open(&globals.root, id).ok()?;
        Some((dir.load().ok()??, dir.load_config().ok()?))
    };
    let known = known();
    let error = match known.as_ref().and_then(|(state, text)| Some((state, change(text.clone())?))) {
        Some((state, text)) => {
            let options = Options {
                id: id.to_owned(),
                cgroup_manager: globals.cgroup_manager,
                rootless: globals.rootless,
                userns_self: state.userns_self,
                bundle: state.bundle.clone(),
                ..Options::default()
            };
            failed::explain(error, &options.bundle.join("config.json"), &text, &options)
        }
        None => error,
    };
    let error = error.context(format!("{verb} {id}"));
    journal::failure(&globals.root, verb, id, &error, known.as_ref().map(|(_, text)| text));
    error
}
