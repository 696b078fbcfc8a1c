//! `--trace FILE`: the steps of setup and init as they really ran, with their times, in the form that Chrome and Perfetto
//! read. When it is off a step costs one look at a thread-local.
//!
//! Both processes write whole events to one descriptor in append mode, so they never mix; times are those of
//! CLOCK_MONOTONIC, which they share. The file is an array of events that setup opens and whoever is last closes.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, OFlags};
use rustix::time::{ClockId, clock_gettime};

use crate::error::{ErrAt, Result, Step, show};
use crate::plan::order::{Label, Side};
use crate::timeline::{Look, Timeline};

/// So much of a timeline is drawn: some hundred times what a command writes.
const MOST_BYTES: usize = 1 << 20;

struct Trace {
    fd: OwnedFd,
    side: Side,
    current: Option<(Label, i64)>,
    /// It is drawn by whoever began it.
    drawn: bool,
}

thread_local! {
    // Never dropped, as all that is kept here: std would ask libc for memory to remember that it has to.
    static TRACE: RefCell<ManuallyDrop<Option<Trace>>> = const { RefCell::new(ManuallyDrop::new(None)) };
    static SIDE: Cell<Side> = const { Cell::new(Side::Setup) };
}

/// Starts a timeline in a new file; of `-` in one that has no name, which is drawn at the end.
pub fn open(path: &Path, side: Side) -> Result<()> {
    let drawn = path == Path::new("-");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::APPEND | OFlags::CLOEXEC;
    let subject = || format!("write the trace {}", show(path));
    let fd = match drawn {
        true => unnamed().err_at(Step::State, "memfd_create", subject)?,
        false => rustix::fs::open(path, flags, crate::sys::umask::file()).err_at(Step::State, "open", subject)?,
    };
    let names: Vec<String> = Side::ALL
        .iter()
        .map(|side| {
            let name = side.name();
            format!(r#"{{"name":"thread_name","ph":"M","pid":1,"tid":{},"args":{{"name":"{name}"}}}}"#, *side as u32)
        })
        .collect();
    write(fd.as_fd(), &format!("[{}", names.join(",\n")));
    adopt(fd, side);
    TRACE.with_borrow_mut(|trace| trace.as_mut().into_iter().for_each(|trace| trace.drawn = drawn));
    Ok(())
}

/// A file that nobody finds, where memfd_create is refused too.
fn unnamed() -> rustix::io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("trace", MemfdFlags::CLOEXEC).or_else(|_| {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::open(std::env::temp_dir(), flags, crate::sys::umask::file())
    })?;
    // Two processes write to it at once, and a file in memory has no lock on the place that they share.
    rustix::fs::fcntl_setfl(&fd, OFlags::APPEND)?;
    Ok(fd)
}

/// Goes on with a timeline that another process began.
pub fn adopt(fd: OwnedFd, side: Side) {
    TRACE.with_borrow_mut(|trace| **trace = Some(Trace { fd, side, current: None, drawn: false }));
}

/// After the clone: the same timeline, another row.
pub fn become_side(side: Side) {
    SIDE.set(side);
    TRACE.with_borrow_mut(|trace| {
        if let Some(trace) = &mut **trace {
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

/// A new step begins, and the one before ends. `--debug` says so, too.
pub fn step(point: impl Into<Label>) {
    let label = point.into();
    if crate::log::debugging() {
        crate::log::debug(format_args!("{}: {label}", SIDE.get().name()));
    }
    TRACE.with_borrow_mut(|trace| {
        if let Some(trace) = &mut **trace {
            let now = now();
            trace.finish(now);
            trace.current = Some((label, now));
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
            if trace.drawn && last {
                draw(&trace.fd);
            }
        }
    });
}

/// On stderr: stdout is the program's.
fn draw(fd: &OwnedFd) {
    let mut bytes = vec![0; MOST_BYTES];
    let length = rustix::io::pread(fd, &mut bytes, 0).unwrap_or(0);
    match Timeline::parse(&String::from_utf8_lossy(&bytes[..length]), "the timeline") {
        Ok(timeline) => crate::log::to_stderr(&timeline.text(Look::of(rustix::stdio::stderr()))),
        Err(error) => crate::log::warn(error),
    }
}

impl Trace {
    fn finish(&mut self, now: i64) {
        if let Some((label, since)) = self.current.take() {
            let name = serde_json::to_string(&label.to_string()).unwrap_or_default();
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
