//! The timeline of `--trace`, drawn: a row for each step in the order in which it began, setup's at the left and those of
//! init beneath it further in, with bars over one scale, so that what happens at once is seen.
//!
//! Only text comes in and goes out; what a file says besides is escaped.

use std::fmt::Write;

use serde::Deserialize;

use crate::error::{Blame, Error, Result, Step};

/// What a command traces is some tens of steps.
const MOST_STEPS: usize = 4096;
/// A name is a line of the source.
const LONGEST_NAME: usize = 120;
/// In this step it is the program that takes its time.
const PROGRAM: &str = "wait for the program";

/// One event of the file; others than whole ones (`X`) name the rows.
#[derive(Debug, Deserialize)]
struct Event {
    name: String,
    ph: String,
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    tid: u32,
    #[serde(default)]
    args: Option<Args>,
}

#[derive(Debug, Deserialize)]
struct Args {
    #[serde(default)]
    name: String,
}

/// One step, in microseconds from the first one's begin.
#[derive(Debug, Clone, PartialEq)]
struct Bar {
    side: String,
    name: String,
    begin: f64,
    took: f64,
}

impl Bar {
    fn end(&self) -> f64 {
        self.begin + self.took
    }

    /// It does nothing but wait for the other side or for the program.
    fn waits(&self) -> bool {
        self.name.split(' ').any(|word| word == "wait")
    }
}

/// All steps of a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    bars: Vec<Bar>,
    /// Where the program begins to be waited for, or the end: the scale reaches so far.
    end: f64,
}

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Columns of the terminal.
    pub width: usize,
    /// With colour.
    pub colour: bool,
    /// With block characters, where the locale has them.
    pub blocks: bool,
}

impl Look {
    /// For a descriptor: as wide as its terminal, and in colour only on one.
    pub fn of(fd: std::os::fd::BorrowedFd<'_>) -> Look {
        let is_terminal = rustix::termios::isatty(fd);
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let width = rustix::termios::tcgetwinsize(fd).ok().filter(|_| is_terminal).map(|size| usize::from(size.ws_col));
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_lowercase();
        Look {
            width: width.filter(|width| *width > 0).unwrap_or(100).clamp(60, 240),
            colour: is_terminal && set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb"),
            blocks: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }
}

impl Timeline {
    /// Reads what `--trace` writes; a file whose writer was killed has no end.
    pub fn parse(text: &str, file: &str) -> Result<Timeline> {
        let whole = text.trim_end();
        let whole = if whole.ends_with(']') { whole.to_owned() } else { format!("{}]", whole.trim_end_matches(',')) };
        let bad = |what: String| Error::host(Step::Spec, format!("{file}: {what}")).blame(Blame::Spec);
        let events: Vec<Event> =
            serde_json::from_str(&whole).map_err(|error| bad(format!("no timeline of --trace: {error}")))?;
        if events.len() > MOST_STEPS {
            return Err(bad(format!("more than {MOST_STEPS} steps")));
        }
        let side = |tid: u32| {
            let named = events.iter().filter(|event| event.ph == "M" && event.tid == tid);
            named
                .filter_map(|event| event.args.as_ref())
                .next_back()
                .map_or_else(|| tid.to_string(), |args| plain(&args.name))
        };
        let steps = events.iter().filter(|event| event.ph == "X" && event.ts.is_finite() && event.dur >= 0.0);
        let first = steps.clone().map(|event| event.ts).fold(f64::INFINITY, f64::min);
        let mut bars: Vec<Bar> = steps
            .map(|event| Bar {
                side: side(event.tid),
                name: plain(&event.name),
                begin: event.ts - first,
                took: event.dur.min(1e15),
            })
            .collect();
        if bars.is_empty() {
            return Err(bad("it has no steps".into()));
        }
        bars.sort_by(|one, other| one.begin.total_cmp(&other.begin));
        let program =
            bars.iter().filter(|bar| bar.name.ends_with(PROGRAM)).map(|bar| bar.begin).fold(f64::INFINITY, f64::min);
        let end = bars.iter().map(Bar::end).fold(0.0, f64::max).min(program).max(1.0);
        Ok(Timeline { bars, end })
    }

    /// The step that took longest without waiting.
    fn slowest(&self) -> Option<usize> {
        let at_work = self.bars.iter().enumerate().filter(|(_, bar)| !bar.waits());
        at_work.max_by(|(_, one), (_, other)| one.took.total_cmp(&other.took)).map(|(at, _)| at)
    }

    /// How long each side was at work, in the order of their first steps, and how long two were at once.
    fn work(&self) -> (Vec<(&str, f64)>, f64) {
        let mut sides: Vec<(&str, f64)> = Vec::new();
        let at_work: Vec<&Bar> = self.bars.iter().filter(|bar| !bar.waits() && bar.begin < self.end).collect();
        for bar in &at_work {
            match sides.iter_mut().find(|(side, _)| *side == bar.side) {
                Some((_, sum)) => *sum += bar.took,
                None => sides.push((&bar.side, bar.took)),
            }
        }
        let mut both = 0.0;
        for (at, bar) in at_work.iter().enumerate() {
            // Sorted by begin: whatever overlaps begins before this one ends.
            for other in at_work[at + 1..].iter().take_while(|other| other.begin < bar.end()) {
                if other.side != bar.side {
                    both += bar.end().min(other.end()) - other.begin;
                }
            }
        }
        (sides, both)
    }

    /// For a terminal.
    pub fn text(&self, look: Look) -> String {
        let Look { width, colour, blocks } = look;
        let indent = |bar: &Bar| if bar.side == self.bars[0].side { 0 } else { 4 };
        let longest = self.bars.iter().map(|bar| bar.name.chars().count() + indent(bar)).max().unwrap_or(0);
        // Side, time, and what marks the slowest, beside the label and the bar.
        let label = longest.clamp(16, (width / 2).max(24) - 8);
        let room = width.saturating_sub(label + 7 + 10 + 10).max(10);
        let slowest = self.slowest();
        let mut out = format!(
            "{:6} {:label$} {:>9}  0{:>pad$}\n",
            "side",
            "step",
            "us",
            us(self.end),
            pad = room.saturating_sub(1)
        );
        for (at, bar) in self.bars.iter().enumerate() {
            let name: String = " ".repeat(indent(bar)).chars().chain(bar.name.chars()).collect();
            let name = match name.chars().count() > label {
                true => name.chars().take(label - 2).chain("..".chars()).collect(),
                false => name,
            };
            let scaled = |at: f64| (at.min(self.end) / self.end * room as f64) as usize;
            let begin = scaled(bar.begin).min(room - 1);
            let length = (scaled(bar.end()).max(begin + 1) - begin).min(room - begin);
            let fill = match (bar.waits(), blocks, indent(bar) == 0) {
                (true, ..) => ".",
                (_, true, true) => "\u{2588}",
                (_, true, false) => "\u{2592}",
                (_, false, true) => "#",
                (_, false, false) => "=",
            };
            let drawn = fill.repeat(length);
            let paint = match (colour, slowest == Some(at), bar.waits(), indent(bar) == 0) {
                (false, ..) => None,
                (_, true, ..) => Some(31),
                (_, _, true, _) => Some(90),
                (.., true) => Some(36),
                (.., false) => Some(33),
            };
            let drawn = paint.map_or(drawn.clone(), |paint| format!("\u{1b}[{paint}m{drawn}\u{1b}[0m"));
            let mark = if slowest == Some(at) { " slowest" } else { "" };
            // Writing to a String cannot fail.
            let _ =
                writeln!(out, "{:6.6} {name:label$} {:>9}  {}{drawn}{mark}", bar.side, us(bar.took), " ".repeat(begin));
        }
        out + &self.sums()
    }

    fn sums(&self) -> String {
        let (sides, both) = self.work();
        let sides: Vec<_> = sides.iter().map(|(side, took)| format!("{side} works {} us", us(*took))).collect();
        let both = if sides.len() > 1 { format!(", two of them at once {} us", us(both)) } else { String::new() };
        format!("{} us in all: {}{both}\n", us(self.end), sides.join(", "))
    }

    /// For a page.
    pub fn svg(&self) -> String {
        const ROW: usize = 20;
        const LEFT: usize = 380;
        const RIGHT: usize = 620;
        let height = (self.bars.len() + 3) * ROW;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"monospace\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
            LEFT + RIGHT + 20
        );
        let slowest = self.slowest();
        for (at, bar) in self.bars.iter().enumerate() {
            let y = at * ROW + 6;
            let x = |at: f64| LEFT as f64 + at.min(self.end) / self.end * RIGHT as f64;
            let wide = (x(bar.end()) - x(bar.begin)).max(1.0);
            let first = bar.side == self.bars[0].side;
            let fill = match (slowest == Some(at), bar.waits(), first) {
                (true, ..) => "#c33",
                (_, true, _) => "#ddd",
                (.., true) => "#37a",
                (.., false) => "#e90",
            };
            let indent = if first { 8 } else { 32 };
            let (side, name, took) = (xml(&bar.side), xml(&bar.name), us(bar.took));
            let _ = write!(
                out,
                "<text x=\"{indent}\" y=\"{}\">{name}</text>\n\
                 <rect x=\"{:.1}\" y=\"{y}\" width=\"{wide:.1}\" height=\"{}\" fill=\"{fill}\"><title>{side}: {name}: {took} us</title></rect>\n",
                y + 12,
                x(bar.begin),
                ROW - 4
            );
        }
        let _ = write!(out, "<text x=\"8\" y=\"{}\">{}</text>\n</svg>\n", height - ROW, xml(self.sums().trim_end()));
        out
    }
}

fn us(time: f64) -> String {
    format!("{time:.0}")
}

/// A name of a file that anybody may have written, on a terminal.
fn plain(name: &str) -> String {
    name.chars().take(LONGEST_NAME).map(|c| if c.is_control() || c == '\u{202e}' { '?' } else { c }).collect()
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"[{"name":"thread_name","ph":"M","pid":1,"tid":0,"args":{"name":"setup"}},
{"name":"thread_name","ph":"M","pid":1,"tid":1,"args":{"name":"init"}},
{"name":"4 clone init","ph":"X","ts":100.5,"dur":100,"pid":1,"tid":0},
{"name":"7 namespaces","ph":"X","ts":150.5,"dur":300,"pid":1,"tid":1},
{"name":"18 wait for init to be ready","ph":"X","ts":200.5,"dur":300,"pid":1,"tid":0},
{"name":"22 wait for the program","ph":"X","ts":500.5,"dur":9000000,"pid":1,"tid":0}"#;

    #[test]
    fn both_sides_on_one_scale() {
        let timeline = Timeline::parse(TRACE, "t").unwrap();
        assert_eq!(timeline, Timeline::parse(&format!("{TRACE}]\n"), "t").unwrap());
        let text = timeline.text(Look { width: 80, colour: false, blocks: false });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
        assert!(
            lines[1].starts_with("setup  4 clone init") && lines[2].starts_with("init       7 namespaces"),
            "{text}"
        );
        assert!(lines[2].ends_with("= slowest") && !text.contains('\u{1b}'), "{text}");
        assert_eq!(lines[5], "400 us in all: setup works 100 us, init works 300 us, two of them at once 50 us");
        let coloured = timeline.text(Look { width: 120, colour: true, blocks: true });
        assert!(coloured.contains("\u{1b}[31m\u{2592}"), "{coloured}");
        let svg = timeline.svg();
        assert_eq!((svg.matches("<rect").count(), svg.matches("</svg>").count()), (5, 1));
    }

    #[test]
    fn what_is_no_timeline_is_refused_and_what_steers_is_not_drawn() {
        for text in ["", "[", "[]", "{}", "[1]", r#"[{"name":"x","ph":"M"}]"#] {
            assert!(Timeline::parse(text, "t").is_err(), "{text}");
        }
        let odd = "[{\"name\":\"<a>\\u001b[2J&\",\"ph\":\"X\",\"ts\":-1e300,\"dur\":1e300},{\"name\":\"b\",\"ph\":\"X\",\"ts\":1e300,\"dur\":0}]";
        let odd = Timeline::parse(odd, "t").unwrap();
        assert!(!odd.text(Look { width: 60, colour: false, blocks: false }).contains('\u{1b}'));
        assert!(odd.svg().contains("&lt;a&gt;?[2J&amp;"));
    }
}
