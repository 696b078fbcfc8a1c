//! `--trace FILE`: the steps of setup and init as they really ran, with their times, in the form that Chrome and Perfetto
//! read. When it is off a step costs one look at a thread-local.
//!
//! Both processes write whole events to one descriptor in append mode, so they never mix; times are those of
//! CLOCK_MONOTONIC, which they share. The file is an array of events that setup opens and whoever is last closes.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::time::{ClockId, clock_gettime};

use crate::error::{ErrAt, Result, Step, show};

/// Whose step it is: a row of the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The process that the engine called.
    Setup,
    /// The process that becomes the container.
    Init,
    /// `hull start`.
    Start,
    /// The process that `hull exec` adds to a container.
    Joiner,
}

struct Trace {
    fd: OwnedFd,
    side: Side,
    current: Option<(String, i64)>,
}

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Starts a timeline in a new file.
pub fn open(path: &Path, side: Side) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::APPEND | OFlags::CLOEXEC;
    let subject = || format!("write the trace {}", show(path));
    let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).err_at(Step::State, "open", subject)?;
    let names: Vec<String> = [Side::Setup, Side::Init, Side::Start, Side::Joiner]
        .iter()
        .map(|side| {
            let name = format!("{side:?}").to_lowercase();
            format!(r#"{{"name":"thread_name","ph":"M","pid":1,"tid":{},"args":{{"name":"{name}"}}}}"#, *side as u32)
        })
        .collect();
    write(fd.as_fd(), &format!("[{}", names.join(",\n")));
    adopt(fd, side);
    Ok(())
}

/// Goes on with a timeline that another process began.
pub fn adopt(fd: OwnedFd, side: Side) {
    TRACE.with_borrow_mut(|trace| *trace = Some(Trace { fd, side, current: None }));
}

/// After the clone: the same timeline, another row.
pub fn become_side(side: Side) {
    TRACE.with_borrow_mut(|trace| {
        if let Some(trace) = trace {
            trace.side = side;
            trace.current = None;
        }
    });
}

/// The descriptor of the timeline, to pass it on.
pub fn descriptor() -> Option<OwnedFd> {
    TRACE.with_borrow(|trace| trace.as_ref().and_then(|trace| trace.fd.try_clone().ok()))
}

/// Calls `f` with the descriptor of the timeline, if there is one.
pub fn with_descriptor<T>(f: impl FnOnce(Option<BorrowedFd<'_>>) -> T) -> T {
    TRACE.with_borrow(|trace| f(trace.as_ref().map(|trace| trace.fd.as_fd())))
}

/// A new step begins, and the one before ends.
pub fn step(name: &str) {
    TRACE.with_borrow_mut(|trace| {
        if let Some(trace) = trace {
            let now = now();
            trace.finish(now);
            trace.current = Some((name.to_owned(), now));
        }
    });
}

/// The last step ends; the timeline is complete when `last`.
pub fn close(last: bool) {
    TRACE.with_borrow_mut(|trace| {
        if let Some(mut trace) = trace.take() {
            trace.finish(now());
            if last {
                write(trace.fd.as_fd(), "]\n");
            }
        }
    });
}

impl Trace {
    fn finish(&mut self, now: i64) {
        if let Some((name, since)) = self.current.take() {
            let name = serde_json::to_string(&name).unwrap_or_default();
            let tid = self.side as u32;
            let (since_us, took) = (since as f64 / 1000.0, (now - since) as f64 / 1000.0);
            let event =
                format!(",\n{{\"name\":{name},\"ph\":\"X\",\"ts\":{since_us},\"dur\":{took},\"pid\":1,\"tid\":{tid}}}");
            write(self.fd.as_fd(), &event);
        }
    }
}

/// Writing a trace never fails a command.
fn write(fd: BorrowedFd<'_>, text: &str) {
    let _ = rustix::io::write(fd, text.as_bytes());
}

fn now() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
