//! `hull events`: what a container uses and meets, one JSON object a line, with runc's keys.

use std::time::Duration;

use serde::Serialize;

use super::Done;
use crate::error::{ErrAt, Error, Result, Step};
use crate::lifecycle::Globals;
use crate::lifecycle::events::{self, Event, Usage};
use crate::log::write_all;

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Usage>,
}

/// Prints the numbers once, or follows the container to its end.
pub fn events(globals: &Globals, id: &str, interval: Duration, once: bool) -> Result<Done> {
    let result = if once {
        events::once(globals, id).and_then(|usage| line("stats", id, Some(&usage))).map(Done::from)
    } else {
        let stdout = rustix::stdio::stdout();
        let mut say = |event: Event| {
            let text = match event {
                Event::Stats(usage) => line("stats", id, Some(&usage))?,
                Event::Oom => line("oom", id, None)?,
            };
            write_all(stdout, text.as_bytes()).err_at(Step::State, "write", || "print to stdout")
        };
        events::follow(globals, id, interval, stdout, &mut say).map(|()| Done::default())
    };
    result.map_err(|error: Error| error.context(format!("events {id}")))
}

fn line(kind: &'static str, id: &str, data: Option<&Usage>) -> Result<String> {
    super::json(Step::State, serde_json::to_string(&Line { kind, id, data }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_runcs() {
        assert_eq!(line("oom", "web", None).unwrap(), "{\"type\":\"oom\",\"id\":\"web\"}\n");
        let stats = line("stats", "web", Some(&Usage::default())).unwrap();
        assert!(stats.starts_with(r#"{"type":"stats","id":"web","data":{"cpu":{"usage":{"kernel":0"#), "{stats}");
    }
}
