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

use crate::harness::{Case, Need, Test, forget_child, spawn_child, test};
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
        test("terminal/lines_on_a_pipe_end_plainly", lines_on_a_pipe_end_plainly),
        test("terminal/a_screen_shows_no_staircase", a_screen_shows_no_staircase),
        test("terminal/a_full_screen_program_has_its_screen", a_full_screen_program_has_its_screen),
        test("terminal/keys_and_sizes_reach_the_program", keys_and_sizes_reach_the_program),
        test("terminal/the_end_of_stdin_is_the_programs_end_of_input", end_of_stdin)
            .requires(Need::Hull)
            .requires(Need::Tool("timeout")),
        test("terminal/term_for_the_third_time_is_the_end", term_thrice).requires(Need::Hull),
        test("terminal/a_narrow_screen_cuts_ids", a_narrow_screen_cuts_ids).requires(Need::Hull),
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

/// The runtime at a terminal of its own, which controls its session: the end at which a person would sit.
struct Seat {
    master: File,
    /// The terminal's other end.
    terminal: File,
    child: std::process::Child,
}

/// Sits down: `hull` of the line is the runtime with this case's root.
fn sit_down(case: &Case, line: &str) -> Result<Seat> {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&master)?;
    let terminal = File::from(ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY)?);
    case.write_config()?;
    let words = format!("hull() {{ '{}' --root '{}' \"$@\"; }}; {line}", case.runtime.display(), case.root().display());
    let mut command = std::process::Command::new("setsid");
    command.args(["--ctty", "--wait", "sh", "-c", &words]);
    command.current_dir(case.bundle());
    command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal.try_clone()?);
    let child = spawn_child(&mut command)?;
    Ok(Seat { master: File::from(master), terminal, child })
}

impl Seat {
    fn types(&mut self, keys: &str) -> Result<()> {
        self.master.write_all(keys.as_bytes()).context("type")
    }

    fn shows(&mut self, word: &str) -> Result<String> {
        read_until(&mut self.master, word)
    }

    fn leaves(mut self) -> Result<()> {
        let modes = |terminal: &File| rustix::termios::tcgetattr(terminal).map(|modes| modes.local_modes);
        self.child.wait()?;
        forget_child(&self.child);
        ensure!(modes(&self.terminal)?.contains(rustix::termios::LocalModes::ICANON), "the terminal is left raw");
        Ok(())
    }
}

fn lines_on_a_pipe_end_plainly(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true))
        .script("[ -t 1 ] && echo one; echo two; stty -a 2>/dev/null | grep -o -- -onlcr");
    let mut seat = sit_down(case, &format!("hull run {} </dev/null | tr '\\r\\n' '%.'; echo end", case.id))?;
    let text = seat.shows("end")?;
    seat.leaves()?;
    ensure!(text.contains("one.two.-onlcr.end"), "run wrote {text:?}");
    case.set("/process/terminal", json!(false)).args(["sleep", "60"]).up()?;
    let line = format!(
        "hull exec -t {} sh -c 'echo one; echo two' </dev/null >file; tr '\\r\\n' '%.' <file; echo end",
        case.id
    );
    let mut seat = sit_down(case, &line)?;
    let text = seat.shows("end")?;
    seat.leaves()?;
    case.delete()?;
    ensure!(text.contains("one.two.end"), "exec wrote {text:?}");
    Ok(())
}

/// On a terminal as from a pipe behind hull each line begins at the left.
fn a_screen_shows_no_staircase(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true)).script("echo one; echo two; sleep 0.2");
    for pipe in ["", "| cat"] {
        let mut seat = sit_down(case, &format!("hull run {} {pipe}; echo end", case.id))?;
        let text = seat.shows("end")?;
        seat.leaves()?;
        ensure!(text.contains("one\r\ntwo\r\n") && !text.contains("\r\r"), "{pipe:?}: the screen got {text:?}");
    }
    Ok(())
}

fn a_full_screen_program_has_its_screen(case: &mut Case) -> Result<()> {
    std::fs::write(case.rootfs().join("text"), "first\nsecond\n")?;
    case.set("/process/terminal", json!(true)).set("/root/readonly", json!(false)).args(["vi", "/text"]);
    let mut seat = sit_down(case, &format!("stty rows 24 cols 80; hull run {}; echo end", case.id))?;
    // The status line is the last of 24.
    seat.shows("\x1b[24;1H")?;
    seat.types("jox\x1b")?;
    seat.shows("- /text [Modified]")?;
    seat.types(":wq\r")?;
    seat.shows("end")?;
    seat.leaves()?;
    let text = kernel::read(case.rootfs().join("text"))?;
    ensure!(text == "first\nsecond\nx\n", "vi wrote {text:?}");
    Ok(())
}

fn keys_and_sizes_reach_the_program(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true));
    case.script("trap 'stty size' WINCH; trap 'echo interrupted' INT; trap 'exit 3' QUIT; echo ready; while :; do sleep 0.05; done");
    let mut seat = sit_down(case, &format!("stty rows 24 cols 80; hull run {}; echo status $?", case.id))?;
    seat.shows("ready")?;
    let size = rustix::termios::Winsize { ws_row: 31, ws_col: 97, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&seat.terminal, size)?;
    seat.shows("31 97")?;
    seat.types("\x03")?;
    seat.shows("interrupted")?;
    seat.types("\x1c")?;
    seat.shows("status 3")?;
    seat.leaves()?;
    // ^Z stops a job of the shell inside, not hull.
    case.args(["sh", "-i"]);
    let mut seat = sit_down(case, &format!("hull run {}; echo status $?", case.id))?;
    seat.types("PS1=prompt; sh -c 'echo job; sleep 60'\r")?;
    seat.shows("\njob")?;
    seat.types("\x1a")?;
    seat.shows("Stopped")?;
    // A shell warns of stopped jobs once.
    seat.types("exit 4\rexit 4\r")?;
    seat.shows("status 4")?;
    seat.leaves()
}

/// Whoever pipes words into a program with a terminal has no key for its end.
fn end_of_stdin(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true)).script("stty -echo; echo ready; cat; echo over").write_config()?;
    let line = |words: &str| {
        let (runtime, root, bundle) = (case.runtime.display(), case.root(), case.bundle());
        let run = format!("'{runtime}' --root '{}' run --bundle '{}' {}", root.display(), bundle.display(), case.id);
        format!("printf '{words}' | timeout 20 {run}; echo status $?")
    };
    // With a last line that has no end, too.
    for words in ["one\\ntwo\\n", "one\\ntwo", ""] {
        let output = std::process::Command::new("sh").args(["-c", &line(words)]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(text.contains("over") && text.contains("status 0"), "{words:?}: {output:?}");
        ensure!(words.is_empty() || text.contains("two"), "{words:?}: {text:?}");
    }
    Ok(())
}

/// The first process of a pid namespace ignores TERM unless it asks for it: the second one is answered, the third is KILL.
fn term_thrice(case: &mut Case) -> Result<()> {
    case.script("trap 'echo told' TERM; echo up; while :; do sleep 0.1; done").write_config()?;
    let bundle = case.bundle();
    let running = case.spawn(["run", "--bundle", &bundle.to_string_lossy(), &case.id])?;
    let hull = rustix::process::Pid::from_raw(running.pid()).context("a pid")?;
    let tell = || rustix::process::kill_process(hull, rustix::process::Signal::TERM).context("kill");
    let told =
        |times: usize| kernel::eventually("the program is told", || running.output().matches("told").count() == times);
    kernel::eventually("the program runs", || running.output().contains("up"))?;
    tell()?;
    told(1)?;
    tell()?;
    told(2)?;
    tell()?;
    let output = running.wait(Duration::from_secs(9))?.status(128 + 9)?;
    ensure!(output.stderr.matches("TERM came twice").count() == 1, "{:?}", output.stderr);
    ensure!(!output.stderr.contains("killed by"), "{:?}", output.stderr);
    let left = case.leftovers();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn a_narrow_screen_cuts_ids(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    case.id = format!("{}-{}", case.id, "x".repeat(150));
    case.up()?;
    let shown = |words: &str| -> Result<String> {
        let mut seat = sit_down(case, &format!("stty cols 90; hull {words}; echo the end"))?;
        let text = seat.shows("the end")?;
        seat.leaves()?;
        Ok(text)
    };
    for verb in ["list", "stats --no-stream"] {
        let (cut, whole) = (shown(verb)?, shown(&format!("{verb} --no-trunc"))?);
        ensure!(!cut.contains(&case.id) && cut.contains(&case.id[..10]), "{verb}: {cut:?}");
        ensure!(whole.contains(&case.id), "{verb}: {whole:?}");
        // A script reads whole ones.
        let piped = case.verb(verb.split(' '))?.ok()?.stdout;
        ensure!(piped.contains(&case.id), "{verb}: {piped:?}");
    }
    case.delete()
}
