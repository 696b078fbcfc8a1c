//! `hull stats`: a table of what containers use, again and again, or all numbers as JSON, once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Done, json, room};
use crate::error::{ErrAt, Result, Step};
use crate::lifecycle::Globals;
use crate::lifecycle::events::{Usage, running};
use crate::log::write_all;

/// Between the two samples that the first table needs for CPU time.
const FIRST: Duration = Duration::from_millis(250);
/// To the top left corner, and clear what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Serialize)]
struct Container<'a> {
    id: &'a str,
    #[serde(flatten)]
    usage: Usage,
}

/// Prints the numbers of the containers with these ids, or of all that run.
pub fn stats(
    globals: &Globals,
    ids: &[String],
    as_json: bool,
    interval: Duration,
    stream: bool,
    whole: bool,
) -> Result<Done> {
    let context = |result: Result<Done>| result.map_err(|error| error.context("stats"));
    if as_json {
        return context(running(globals, ids).and_then(|list| {
            let list: Vec<_> = list.iter().map(|(id, source)| Container { id, usage: source.read() }).collect();
            json(Step::State, serde_json::to_string(&list)).map(Done::from)
        }));
    }
    context(table(globals, ids, interval, stream && rustix::termios::isatty(rustix::stdio::stdout()), whole))
}

fn table(globals: &Globals, ids: &[String], interval: Duration, stream: bool, whole: bool) -> Result<Done> {
    let mut before = Samples::take(globals, ids)?;
    let mut wait = FIRST.min(interval);
    loop {
        crate::sys::process::sleep(wait);
        let now = Samples::take(globals, ids)?;
        let text = render(&before, &now, room(whole));
        if !stream {
            return Ok(text.into());
        }
        write_all(rustix::stdio::stdout(), (CLEAR.to_owned() + &text).as_bytes()).err_at(
            Step::State,
            "write",
            || "print to stdout",
        )?;
        (before, wait) = (now, interval);
    }
}

struct Samples {
    at: Instant,
    list: Vec<(String, Usage)>,
}

impl Samples {
    fn take(globals: &Globals, ids: &[String]) -> Result<Samples> {
        let list = running(globals, ids)?.into_iter().map(|(id, source)| (id, source.read())).collect();
        Ok(Samples { at: Instant::now(), list })
    }
}

const TITLES: [&str; 8] = ["ID", "CPU", "MEMORY", "LIMIT", "MEM", "PIDS", "READ / WRITTEN", "PSI CPU/MEM/IO"];

fn render(before: &Samples, now: &Samples, room: Option<usize>) -> String {
    let elapsed = now.at.duration_since(before.at).as_nanos().max(1) as f64;
    let old: HashMap<&str, u64> =
        before.list.iter().map(|(id, usage)| (id.as_str(), usage.stats.cpu.usage.total)).collect();
    let mut rows = vec![TITLES.map(String::from)];
    for (id, usage) in &now.list {
        let stats = &usage.stats;
        let total = stats.cpu.usage.total;
        let cpu = total.saturating_sub(old.get(id.as_str()).copied().unwrap_or(total)) as f64 * 100.0 / elapsed;
        let memory = &stats.memory.usage;
        // v1 has no word for "no limit": the largest number of whole pages.
        let limited = memory.limit > 0 && memory.limit < 1 << 60;
        let io = |op: &str| {
            stats.blkio.io_service_bytes_recursive.iter().filter(|entry| entry.op == op).map(|entry| entry.value).sum()
        };
        let pressure = |psi: &Option<crate::cgroup::stats::Psi>| {
            psi.as_ref().map_or("-".to_owned(), |psi| format!("{:.0}", psi.some.avg10))
        };
        rows.push([
            id.clone(),
            format!("{cpu:.1}%"),
            bytes(memory.usage),
            if limited { bytes(memory.limit) } else { "-".into() },
            if limited { format!("{:.0}%", memory.usage as f64 * 100.0 / memory.limit as f64) } else { "-".into() },
            match stats.pids.limit {
                0 => stats.pids.current.to_string(),
                limit => format!("{}/{limit}", stats.pids.current),
            },
            format!("{} / {}", bytes(io("Read")), bytes(io("Write"))),
            format!("{}/{}/{}%", pressure(&stats.cpu.psi), pressure(&stats.memory.psi), pressure(&stats.blkio.psi)),
        ]);
    }
    super::table(rows, room, 2, 0)
}

/// Three digits and a unit.
fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut units = ["B", "K", "M", "G", "T", "P"].iter();
    let mut unit = "B";
    while let Some(next) = units.next() {
        unit = next;
        if value < 1000.0 || units.len() == 0 {
            break;
        }
        value /= 1024.0;
    }
    if unit == "B" || value >= 100.0 { format!("{value:.0}{unit}") } else { format!("{value:.1}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = [(0, "0B"), (999, "999B"), (1000, "1.0K"), (1536, "1.5K"), (300 << 20, "300M"), (1 << 30, "1.0G")];
        for (count, wanted) in table {
            assert_eq!(bytes(count), wanted);
        }
    }

    #[test]
    fn a_row_for_each_container() {
        let mut usage = Usage::default();
        usage.stats.memory.usage.usage = 32 << 20;
        usage.stats.memory.usage.limit = 64 << 20;
        usage.stats.pids.current = 3;
        let at = Instant::now();
        let before = Samples { at, list: vec![("web".into(), usage.clone())] };
        usage.stats.cpu.usage.total = 500_000_000;
        let now = Samples { at: at + Duration::from_secs(1), list: vec![("web".into(), usage)] };
        let text = render(&before, &now, None);
        let row: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["web", "50.0%", "32.0M", "64.0M", "50%", "3", "0B", "/", "0B", "-/-/-%"]);
        assert!(text.starts_with("ID   CPU"), "{text}");
    }
}
