//! `hull timeline`: what `--trace FILE` wrote, drawn in the terminal or as SVG.

use std::path::Path;

use super::Done;
use crate::error::{Error, Result, show};
use crate::spec::load;
use crate::timeline::{Look, Timeline};

/// Draws it.
pub fn timeline(file: &Path, svg: bool) -> Result<Done> {
    let text = load::read(file).map_err(|error| Error { hint: None, ..error })?;
    let timeline = Timeline::parse(&text.0, &show(file))?;
    let text = if svg { timeline.svg() } else { timeline.text(Look::of(rustix::stdio::stdout())) };
    Ok(text.into())
}
