//! `hull why`: the last failures under the root, or those of one container, from the journal.

use std::fmt::Write;

use super::{Done, json};
use crate::error::{Error, Result, Step, show};
use crate::lifecycle::Globals;
use crate::lifecycle::journal::{self, Entry};

/// So many are listed of all containers.
const LAST: usize = 20;

/// Prints them, the oldest first.
pub fn why(globals: &Globals, id: Option<&str>, as_json: bool) -> Result<Done> {
    let mut entries = journal::read(&globals.root, id)?;
    if id.is_none() {
        entries.drain(..entries.len().saturating_sub(LAST));
    }
    if as_json {
        return json(Step::State, serde_json::to_string_pretty(&entries)).map(Done::from);
    }
    match id {
        Some(id) if entries.is_empty() => {
            let what = format!("no failure of {id:?} is written down in {}", show(&globals.root));
            Err(Error::host(Step::State, what).hint("an engine has a --root of its own, and a week is kept"))
        }
        _ => Ok(entries.iter().map(text).collect::<String>().into()),
    }
}

/// A line on when and who, the sentence, and what else is known.
fn text(entry: &Entry) -> String {
    let mut out = String::new();
    let what = entry.code.as_deref().map_or_else(|| "died".to_owned(), plain);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{} {} {}: {what}", plain(&entry.time), plain(&entry.verb), plain(&entry.id));
    let _ = writeln!(out, "    {}", plain(&entry.message));
    let mut more = Vec::new();
    more.extend(entry.status.map(|status| format!("exit status {status}")));
    more.extend(entry.oom_kills.filter(|kills| *kills > 0).map(|kills| format!("killed for memory: {kills}")));
    let busy = entry.pressure.as_ref().filter(|p| p.cpu.max(p.memory).max(p.io) >= 1.0);
    more.extend(busy.map(|p| format!("the host waited for CPU {}%, memory {}%, I/O {}%", p.cpu, p.memory, p.io)));
    more.extend(entry.config.as_ref().map(|digest| format!("config.json sha256:{}", plain(digest))));
    if !more.is_empty() {
        let _ = writeln!(out, "    {}", more.join("; "));
    }
    out
}

/// What a hook or a config has put into a sentence must neither move the cursor nor turn the reading direction.
fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let each = |c: char| match c {
        '\n' => "\n    ".to_owned(),
        '\t' => c.to_string(),
        c if c.is_control() || turns(c) => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    text.trim_end().chars().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_entry_steers_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\r\u{202e}c\u{9b}d\te\nf\n"), "a\\u{1b}[2Jb\\u{d}\\u{202e}c\\u{9b}d\te\n    f");
    }
}
