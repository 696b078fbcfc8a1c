//! The log: a line for each thing worth saying, in the form that engines read.
//!
//! containerd takes the `msg` of the last object with `level` "error" of a `--log-format json` file, and one line that
//! is not JSON destroys that, so a record is one whole line in one write(2) to a file opened with O_APPEND. The file is
//! opened first of all, and where that fails nothing is done, as with runc: what engines look for there would be missing.
//! Writing to it never fails a command. Without `--log`, warnings and above go to stderr as bare text, but never from verbs whose stderr engines
//! read together with stdout.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::fmt::{Display, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{ErrAt, Error, Result, Step, show};

/// How grave a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// For who looks for a fault.
    Debug,
    /// What was done.
    #[default]
    Info,
    /// Something that was asked for was not done, and the container lives without it.
    Warning,
    /// The command failed.
    Error,
}

impl Level {
    /// The word that is written, as logrus has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// Where records go and what they look like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// --log; absent: stderr.
    pub file: Option<PathBuf>,
    /// --log-format json.
    pub json: bool,
    /// --log-level, or --debug; absent: info, and on stderr warning.
    pub level: Option<Level>,
    /// Nothing but the final error goes to stderr.
    pub quiet: bool,
}

enum Target {
    Unopened,
    File(OwnedFd),
    Failed,
}

struct Logger {
    options: Options,
    target: Target,
}

thread_local! {
    // hull has one thread: thread-local is global, without a lock.
    // Never dropped, as all that is kept here: std would ask libc for memory to remember that it has to.
    static LOGGER: RefCell<ManuallyDrop<Logger>> = const {
        RefCell::new(ManuallyDrop::new(Logger {
            options: Options { file: None, json: false, level: None, quiet: false },
            target: Target::Unopened,
        }))
    };
}

/// Says where records go; before this, warnings go to stderr.
pub fn init(options: Options) {
    LOGGER.with_borrow_mut(|logger| **logger = Logger { options, target: Target::Unopened });
}

/// Opens the log, if there is to be one.
pub fn open() -> Result<()> {
    LOGGER.with_borrow_mut(|logger| logger.open())
}

/// Calls `f` with the log's descriptor, if it has been opened.
pub fn with_descriptor<T>(f: impl FnOnce(Option<BorrowedFd<'_>>) -> T) -> T {
    LOGGER.with_borrow(|logger| match &logger.target {
        Target::File(fd) => f(Some(fd.as_fd())),
        _ => f(None),
    })
}

/// Whether debug records are kept: for records that cost something to make.
pub fn debugging() -> bool {
    LOGGER.with_borrow(|logger| logger.options.level == Some(Level::Debug))
}

/// For who looks for a fault.
pub fn debug(message: impl Display) {
    record(Level::Debug, &message, None);
}

/// What was done.
pub fn info(message: impl Display) {
    record(Level::Info, &message, None);
}

/// Something that was asked for was not done, and the container lives without it.
pub fn warn(message: impl Display) {
    record(Level::Warning, &message, None);
}

/// What a plan notes: some tens, and how many more there are, since a config can have hundreds of thousands.
pub fn warn_all(notes: impl IntoIterator<Item = impl Display>) {
    const MOST: usize = 32;
    let mut notes = notes.into_iter();
    notes.by_ref().take(MOST).for_each(warn);
    let more = notes.count();
    if more > 0 {
        warn(format_args!("and {more} more warnings"));
    }
}

/// Something failed that does not end the command (what ends it is an [`Error`], which main prints).
pub fn error(message: impl Display) {
    record(Level::Error, &message, None);
}

/// The error that ends the command: bare text on stderr, and with `--log` the same sentence with its code there.
/// Engines read the one or the other.
pub fn report(error: &Error) {
    // Behind all that engines match.
    to_stderr(&sentence(Level::Error, format_args!("{error} [{}]", error.step.code())));
    let has_file = LOGGER.with_borrow(|logger| logger.options.file.is_some());
    if has_file {
        record(Level::Error, error, Some(error.step.code()));
    }
}

/// The last error of an init that nobody listens to any more: to the log if it is open, since what a path names is the
/// container's by now, else to stderr, which is its program's.
pub fn last_words(error: &Error) {
    let closed =
        LOGGER.with_borrow(|logger| logger.options.file.is_some() && !matches!(logger.target, Target::File(_)));
    if closed {
        to_stderr(&sentence(Level::Error, error));
    } else {
        record(Level::Error, error, Some(error.step.code()));
    }
}

fn record(level: Level, message: &dyn Display, code: Option<&str>) {
    LOGGER.with_borrow_mut(|logger| logger.record(level, message, code));
}

impl Logger {
    fn open(&mut self) -> Result<()> {
        let (Some(path), Target::Unopened) = (&self.options.file, &self.target) else { return Ok(()) };
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
        let opened = rustix::fs::open(path, flags, crate::sys::umask::file())
            .err_at(Step::State, "", || format!("open {}", show(path)));
        self.target = Target::Failed;
        self.target = Target::File(opened.map_err(|error| error.hint("the log, which --log names"))?);
        Ok(())
    }

    fn record(&mut self, level: Level, message: &dyn Display, code: Option<&str>) {
        if self.options.file.is_none() {
            if !self.options.quiet && level >= self.options.level.unwrap_or(Level::Warning) {
                to_stderr(&sentence(level, message));
            }
            return;
        }
        if level < self.options.level.unwrap_or_default() {
            return;
        }
        if let Err(error) = self.open()
            && !self.options.quiet
        {
            to_stderr(&sentence(Level::Warning, error));
        }
        if let Target::File(fd) = &self.target {
            let since = since_epoch();
            let line = line(self.options.json, level, &message.to_string(), &rfc3339(since, false), code);
            // A full disk must not fail the command; the same sentence is on stderr.
            let _ = write_all(fd.as_fd(), line.as_bytes());
        }
    }
}

/// A record on stderr. Scripts look there for the word error, which every runtime prints.
fn sentence(level: Level, message: impl Display) -> String {
    format!("hull: {}: {message}\n", level.as_str())
}

/// One record as a line of the log.
fn line(json: bool, level: Level, message: &str, time: &str, code: Option<&str>) -> String {
    let message = serde_json::Value::from(message);
    let level = level.as_str();
    let mut line = if json {
        format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"")
    } else {
        format!("time=\"{time}\" level={level} msg={message}")
    };
    // Writing to a String cannot fail.
    let _ = match (json, code) {
        (true, Some(code)) => write!(line, ",\"code\":\"{code}\"}}"),
        (true, None) => write!(line, "}}"),
        (false, Some(code)) => write!(line, " code={code}"),
        (false, None) => Ok(()),
    };
    line.push('\n');
    line
}

/// The time of day, to be written down.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// A time since the epoch as RFC 3339 in UTC, to the second or to the nanosecond.
pub fn rfc3339(since_epoch: Duration, nanoseconds: bool) -> String {
    let seconds = since_epoch.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the proleptic Gregorian calendar, in eras of 400 years that begin on 1 March of year 0.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    let fraction = if nanoseconds { format!(".{:09}", since_epoch.subsec_nanos()) } else { String::new() };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Bare text, past the log.
pub fn to_stderr(text: &str) {
    // Where stderr is closed nobody listens; the exit status still tells.
    let _ = write_all(rustix::stdio::stderr(), text.as_bytes());
}

/// Writes all of it, or says why not.
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc3339() {
        let second = |s| rfc3339(Duration::from_secs(s), false);
        assert_eq!(second(0), "1970-01-01T00:00:00Z");
        assert_eq!(second(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(second(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(second(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(rfc3339(Duration::new(1_735_689_599, 7), true), "2024-12-31T23:59:59.000000007Z");
    }

    #[test]
    fn a_record_is_one_line_whatever_it_says() {
        let nasty = "a \"quoted\"\nline \u{1}\\";
        let json = line(true, Level::Error, nasty, "T", Some("HULL-E030"));
        assert_eq!(json.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["msg"], nasty);
        assert_eq!(value["level"], "error");
        assert_eq!(value["time"], "T");
        assert_eq!(value["code"], "HULL-E030");
        assert_eq!(
            line(false, Level::Warning, "a \"b\"\n", "T", None),
            "time=\"T\" level=warning msg=\"a \\\"b\\\"\\n\"\n"
        );
    }

    #[test]
    fn records_are_appended_and_filtered_and_the_file_is_opened_late() {
        let path = std::env::temp_dir().join(format!("hull-log-test-{}", std::process::id()));
        std::fs::write(&path, "before\n").unwrap();
        init(Options { file: Some(path.clone()), json: true, level: None, quiet: false });
        debug("not kept");
        assert!(LOGGER.with_borrow(|l| matches!(l.target, Target::Unopened)));
        warn("kept");
        report(&Error::host(Step::Mount, "mount x"));
        init(Options::default());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], "before");
        assert!(lines[1].starts_with("{\"level\":\"warning\",\"msg\":\"kept\",\"time\":\"2"));
        assert!(lines[2].ends_with(",\"code\":\"HULL-E030\"}"));
    }

    #[test]
    fn a_log_that_cannot_be_opened_fails_nothing() {
        init(Options { file: Some("/nonexistent/log".into()), json: false, level: None, quiet: true });
        warn("lost");
        assert!(LOGGER.with_borrow(|l| matches!(l.target, Target::Failed)));
        init(Options::default());
    }
}
