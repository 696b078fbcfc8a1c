//! What a program in the foreground wrote last reaches its reader: slow, stopped or gone; by pipes and terminals. pty(7).

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::json;

use crate::harness::{Case, Need, Test, forget_child, spawn_child, test};
use crate::kernel;

const LINES: usize = 20_000;
/// What the program says at the end: another status than any failure of hull's.
const STATUS: i32 = 7;

const NEEDS_TTY: &str = "1.1 needs a terminal of its caller's";

pub fn cases() -> Vec<Test> {
    let exec = |name, body| test(name, body).requires(Need::Verb("exec"));
    vec![
        test("output/of_a_terminal_reaches_a_slow_pipe", |case| run(case, true, Caller::Pipe, Reader::Slow))
            .peer("runc", NEEDS_TTY),
        test("output/of_a_terminal_reaches_a_slow_terminal", |case| run(case, true, Caller::Pty, Reader::Slow)),
        test("output/of_pipes_reaches_a_slow_terminal", |case| run(case, false, Caller::Pty, Reader::Slow)),
        test("output/of_a_terminal_reaches_a_stopped_pipe", |case| run(case, true, Caller::Pipe, Reader::Stopped))
            .peer("runc", NEEDS_TTY),
        test("output/of_a_terminal_reaches_a_stopped_terminal", |case| run(case, true, Caller::Pty, Reader::Stopped)),
        test("output/of_pipes_reaches_a_stopped_terminal", |case| run(case, false, Caller::Pty, Reader::Stopped)),
        test("output/reader_of_a_terminal_goes", |case| run(case, true, Caller::Pipe, Reader::Gone))
            .peer("runc", NEEDS_TTY),
        test("output/reader_of_pipes_goes", |case| run(case, false, Caller::Pty, Reader::Gone)),
        exec("output/of_exec_with_a_terminal_reaches_a_slow_pipe", |case| exec_t(case, true, Caller::Pipe))
            .peer("runc", NEEDS_TTY),
        exec("output/of_exec_with_a_terminal_reaches_a_slow_terminal", |case| exec_t(case, true, Caller::Pty)),
        exec("output/of_exec_by_pipes_reaches_a_slow_terminal", |case| exec_t(case, false, Caller::Pty)),
        test("output/after_a_signal_reaches_a_slow_reader", after_a_signal),
        exec("output/of_who_only_holds_it_open_is_not_waited_for", held_open).peer("runc", "waits for them"),
        test("output/after_a_terminal_was_closed_and_opened", closed_and_opened).peer("runc", NEEDS_TTY),
        test("output/and_status_where_the_caller_ignores_sigchld", ignored_sigchld),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Caller {
    Pipe,
    Pty,
}

#[derive(Clone, Copy, PartialEq)]
enum Reader {
    /// 4 KiB, then 10 ms.
    Slow,
    /// Reads nothing for 3 seconds after the first 4 KiB.
    Stopped,
    /// Closes its end after the first 4 KiB.
    Gone,
}

/// hull in the foreground, and the other end of its stdout.
struct Attended {
    child: Child,
    output: File,
}

/// Starts a command of the runtime whose stdout, and for a pty stderr too, is a pipe or a terminal.
fn attended(case: &Case, caller: Caller, args: &[&str]) -> Result<Attended> {
    let mut command = Command::new(&case.runtime);
    command.arg("--root").arg(case.root()).args(&case.globals).args(args).stdin(Stdio::null());
    let output: OwnedFd = match caller {
        Caller::Pipe => {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            command.stdout(write);
            read
        }
        Caller::Pty => {
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let master = openpt(flags)?;
            unlockpt(&master)?;
            let peer = ioctl_tiocgptpeer(&master, flags)?;
            command.stdout(peer.try_clone()?).stderr(peer);
            master
        }
    };
    let child = spawn_child(&mut command)?;
    Ok(Attended { child, output: File::from(output) })
}

impl Attended {
    /// What came, without the carriage returns of terminals, and hull's status.
    fn read(mut self, reader: Reader) -> Result<(String, Option<i32>)> {
        let mut text = Vec::new();
        let mut chunk = [0; 4096];
        // A peer may have left its own terminal to processes that stay, which write without end.
        while text.len() < 8 << 20 && self.more()? {
            // EIO: the last who had the terminal open has gone.
            let Ok(count @ 1..) = self.output.read(&mut chunk) else { break };
            let first = text.is_empty();
            text.extend(chunk[..count].iter().filter(|byte| **byte != b'\r'));
            match reader {
                Reader::Slow => std::thread::sleep(Duration::from_millis(10)),
                Reader::Stopped if first => std::thread::sleep(Duration::from_secs(3)),
                Reader::Stopped => {}
                Reader::Gone => break,
            }
        }
        drop(self.output);
        let mut status = None;
        kernel::eventually("hull ends", || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })
        .inspect_err(|_| {
            let _ = self.child.kill();
            let _ = self.child.wait();
        })?;
        forget_child(&self.child);
        Ok((String::from_utf8(text)?, status.and_then(|status| status.code())))
    }

    /// Waits until there is something to read, or an end; false when hull has ended and left nothing, or says nothing.
    fn more(&mut self) -> Result<bool> {
        let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        for _ in 0..150 {
            let ended = self.child.try_wait()?.is_some();
            if poll(&mut [PollFd::new(&self.output, PollFlags::IN)], Some(&wait))? > 0 {
                return Ok(true);
            }
            if ended {
                break;
            }
        }
        Ok(false)
    }

    /// All lines, and the program's status.
    fn reads_all(self, reader: Reader, status: i32) -> Result<()> {
        let (text, ended) = self.read(reader)?;
        // What others write meanwhile stands within a line, too.
        let text = text.replace("x\n", "");
        let lines = text.lines().filter(|line| line.parse::<usize>().is_ok()).count();
        ensure!(lines == LINES, "{lines} lines of {LINES} came, the last is {:?}", text.lines().last());
        ensure!(ended == Some(status), "the status is {ended:?}, not {status}");
        Ok(())
    }
}

fn rounds(reader: Reader) -> u32 {
    let asked = std::env::var("HULL_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    if reader == Reader::Stopped { 1 } else { asked }
}

fn writes() -> String {
    format!("seq {LINES}; exit {STATUS}")
}

fn run(case: &mut Case, terminal: bool, caller: Caller, reader: Reader) -> Result<()> {
    case.set("/process/terminal", json!(terminal)).script(&writes());
    case.write_config()?;
    let (bundle, id) = (case.bundle(), case.id.clone());
    for _ in 0..rounds(reader) {
        let attended = attended(case, caller, &["run", "--bundle", &bundle.to_string_lossy(), &id])?;
        if reader != Reader::Gone {
            attended.reads_all(reader, STATUS)?;
            continue;
        }
        let (_, status) = attended.read(reader)?;
        // Who writes to a pipe that nobody reads is told so.
        let status = status.context("hull was killed")?;
        ensure!(status == STATUS, "the status is {status}");
    }
    Ok(())
}

fn exec_t(case: &mut Case, terminal: bool, caller: Caller) -> Result<()> {
    case.args(["sleep", "600"]).up()?;
    let id = case.id.clone();
    for round in 0..rounds(Reader::Slow) {
        let killed = round % 2 == 1;
        let end = if killed { format!("seq {LINES}; kill -KILL $$") } else { writes() };
        let mut args = vec!["exec"];
        args.extend(terminal.then_some("-t"));
        args.extend([id.as_str(), "sh", "-c", &end]);
        attended(case, caller, &args)?.reads_all(Reader::Slow, if killed { 137 } else { STATUS })?;
    }
    case.delete()
}

/// hull is asked to end: the program is, and says its last words.
fn after_a_signal(case: &mut Case) -> Result<()> {
    let script = format!("trap 'seq {LINES}; exit {STATUS}' TERM; echo up; while :; do sleep 0.02; done");
    case.script(&script);
    for terminal in [true, false] {
        case.set("/process/terminal", json!(terminal)).write_config()?;
        let (bundle, id) = (case.bundle(), case.id.clone());
        let mut attended = attended(case, Caller::Pty, &["run", "--bundle", &bundle.to_string_lossy(), &id])?;
        let mut chunk = [0; 64];
        let count = attended.output.read(&mut chunk)?;
        ensure!(chunk[..count].starts_with(b"up"), "it says {:?}", String::from_utf8_lossy(&chunk[..count]));
        let pid = rustix::process::Pid::from_child(&attended.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        attended.reads_all(Reader::Slow, STATUS)?;
    }
    Ok(())
}

/// Processes that stay in the container have the pipes open still, and one of them writes without end.
fn held_open(case: &mut Case) -> Result<()> {
    case.args(["sleep", "600"]).up()?;
    let id = case.id.clone();
    for terminal in [true, false] {
        for held in ["sleep 300 &", "while :; do echo x || exit; done &"] {
            let script = format!("{held} {}", writes());
            let mut args = vec!["exec"];
            args.extend(terminal.then_some("-t"));
            args.extend([id.as_str(), "sh", "-c", &script]);
            attended(case, Caller::Pty, &args)?.reads_all(Reader::Slow, STATUS)?;
        }
    }
    case.delete()
}

fn closed_and_opened(case: &mut Case) -> Result<()> {
    let script = "echo early; exec 0<&- 1>&- 2>&-; sleep 0.3; echo late >/dev/console; exit 7";
    case.set("/process/terminal", json!(true)).script(script);
    case.write_config()?;
    let (bundle, id) = (case.bundle(), case.id.clone());
    let attended = attended(case, Caller::Pipe, &["run", "--bundle", &bundle.to_string_lossy(), &id])?;
    let (text, status) = attended.read(Reader::Slow)?;
    ensure!(text == "early\nlate\n" && status == Some(STATUS), "it says {text:?}, status {status:?}");
    Ok(())
}

/// Without a word of its own a runtime inherits that, and the kernel reaps what it wants to wait for.
fn ignored_sigchld(case: &mut Case) -> Result<()> {
    // A shell does not hand that on.
    case.before = "set -- env --ignore-signal=CHLD \"$@\"".to_owned();
    let hook = json!({"path": case.rootfs().join("bin/busybox"), "args": ["true"]});
    case.set("/hooks", json!({"createRuntime": [hook], "startContainer": [{"path": "/bin/true"}]}));
    case.script(&format!("echo ran; exit {STATUS}")).run()?.status(STATUS)?.stdout_is("ran\n").map(drop)
}
