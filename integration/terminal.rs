//! Terminals: the console socket, the container's own /dev/console, window sizes. pts(4), unix(7).

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("terminal/console_socket_gets_the_master", console_socket_gets_the_master),
        test("terminal/size_is_set_before_the_program_runs", size_is_set_before_the_program_runs),
        test("terminal/dev_console_is_the_own_terminal", dev_console_is_the_own_terminal),
        test("terminal/the_terminal_controls_the_session", the_terminal_controls_the_session),
        test("terminal/detached_without_a_socket_is_refused", detached_without_a_socket_is_refused),
        test("terminal/a_socket_without_a_terminal_is_refused", a_socket_without_a_terminal_is_refused)
            .peer("crun", "ignores the socket"),
        test("terminal/a_missing_socket_is_named", a_missing_socket_is_named),
        test("terminal/run_in_the_foreground", run_in_the_foreground).requires(Need::Tool("script")),
        test("terminal/belongs_to_the_user", belongs_to_the_user).requires(Need::Root),
    ]
}

pub fn wait_readable(fd: impl std::os::fd::AsFd) -> Result<()> {
    let timeout = Timespec { tv_sec: 10, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout))?;
    ensure!(ready > 0, "nothing came within 10 seconds");
    Ok(())
}

/// Creates the container with a console socket and gives the master that was sent, and the name beside it.
pub fn create_with_console(case: &Case) -> Result<(File, String)> {
    let path = case.dir.join("console.sock");
    let listener = UnixListener::bind(&path)?;
    case.try_create(&["--console-socket", &path.to_string_lossy()])?.ok()?;
    take_master(&listener)
}

/// The master that was sent to a console socket, and the name beside it.
pub fn take_master(listener: &UnixListener) -> Result<(File, String)> {
    received(listener).map(|(master, name)| (File::from(master), name))
}

/// What was sent to a socket: one descriptor, and the name beside it.
pub fn received(listener: &UnixListener) -> Result<(OwnedFd, String)> {
    wait_readable(listener)?;
    let (stream, _) = listener.accept()?;
    wait_readable(&stream)?;
    let mut name = [0_u8; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = item {
            fds.extend(sent);
        }
    }
    ensure!(fds.len() == 1, "{} descriptors were sent", fds.len());
    Ok((fds.pop().context("one descriptor")?, String::from_utf8_lossy(&name[..message.bytes]).into_owned()))
}

/// Reads from a master until this word has come.
pub fn read_until(master: &mut File, word: &str) -> Result<String> {
    let mut text = String::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !text.contains(word) {
        ensure!(Instant::now() < deadline, "{word:?} did not come, only {text:?}");
        wait_readable(&*master).with_context(|| format!("waiting for {word:?}, having {text:?}"))?;
        let mut buffer = [0_u8; 4096];
        match master.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
            // The last user of the terminal is gone.
            Err(error) if error.raw_os_error() == Some(5) => break,
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(text.contains(word), "{word:?} did not come, only {text:?}");
    Ok(text)
}

fn console_socket_gets_the_master(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true)).script("read line; echo \"got $line\"; sleep 60");
    let (mut master, name) = create_with_console(case)?;
    ensure!(!name.is_empty(), "the message has no name");
    ensure!(rustix::termios::isatty(&master), "what was sent is no terminal");
    case.verb(["start", &case.id])?.ok()?;
    master.write_all(b"typed\n")?;
    read_until(&mut master, "got typed")?;
    case.delete()
}

fn size_is_set_before_the_program_runs(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true)).set("/process/consoleSize", json!({"height": 17, "width": 63}));
    case.script("stty size; sleep 60");
    let (mut master, _) = create_with_console(case)?;
    case.verb(["start", &case.id])?.ok()?;
    read_until(&mut master, "17 63")?;
    case.delete()
}

fn dev_console_is_the_own_terminal(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true));
    case.script("tty; echo through >/dev/console; sleep 60");
    let (mut master, _) = create_with_console(case)?;
    case.verb(["start", &case.id])?.ok()?;
    let text = read_until(&mut master, "through")?;
    // busybox asks /proc/self/fd/0: either name is the container's own.
    ensure!(text.contains("/dev/pts/0") || text.contains("/dev/console"), "its terminal is {text:?}");
    let pid = case.pid()?;
    let kind = std::fs::metadata(format!("/proc/{pid}/root/dev/console"))?.file_type();
    ensure!(kind.is_char_device(), "/dev/console is {kind:?}");
    let mount = kernel::mount_at(pid, "/dev/console")?;
    ensure!(mount.fstype == "devpts", "/dev/console is on {}", mount.fstype);
    case.delete()
}

fn the_terminal_controls_the_session(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true));
    case.script("trap 'echo interrupted' INT; echo ready >/dev/tty; while :; do sleep 0.05; done");
    let (mut master, _) = create_with_console(case)?;
    case.verb(["start", &case.id])?.ok()?;
    read_until(&mut master, "ready")?;
    // ^C is a signal only to the foreground group of a controlling terminal.
    master.write_all(b"\x03")?;
    read_until(&mut master, "interrupted")?;
    case.delete()
}

fn detached_without_a_socket_is_refused(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true)).args(["true"]);
    case.try_create(&[])?.refused().map(drop)
}

fn a_socket_without_a_terminal_is_refused(case: &mut Case) -> Result<()> {
    let path = case.dir.join("console.sock");
    let _listener = UnixListener::bind(&path)?;
    case.args(["true"]).try_create(&["--console-socket", &path.to_string_lossy()])?.refused().map(drop)
}

fn a_missing_socket_is_named(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true)).args(["true"]);
    let output = case.try_create(&["--console-socket", "/nosuch/console.sock"])?.refused()?;
    output.stderr_has("no such file or directory").map(drop)
}

fn run_in_the_foreground(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true)).script("tty; [ -t 0 ] && [ -t 1 ] && echo terminals; exit 5");
    case.write_config()?;
    let (bundle, root) = (case.bundle(), case.root());
    let line = format!(
        "'{}' --root '{}' run --bundle '{}' {}; echo status $?",
        case.runtime.display(),
        root.display(),
        bundle.display(),
        case.id
    );
    let output = std::process::Command::new("timeout")
        .args(["30", "script", "-qec", &line, "/dev/null"])
        .stdin(std::process::Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(text.contains("terminals") && text.contains("status 5"), "it printed {text:?}");
    Ok(())
}

fn belongs_to_the_user(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true)).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    case.script("echo opened >/dev/console; stat -L -c 'owner %u' /proc/self/fd/0; sleep 60");
    let (mut master, _) = create_with_console(case)?;
    case.verb(["start", &case.id])?.ok()?;
    let text = read_until(&mut master, "owner 1000")?;
    ensure!(text.contains("opened"), "it printed {text:?}");
    case.delete()
}
