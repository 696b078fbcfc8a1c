//! `exec --wait-fifo`: a process that is in the container, is known by its number, and runs only when told. No peer has it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::json;

use crate::harness::{Case, Need, Output, Running, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let list = vec![
        test("waitpoint/it_runs_when_told", it_runs_when_told),
        test("waitpoint/it_is_what_the_program_will_be", it_is_what_the_program_will_be),
        test("waitpoint/in_a_user_namespace", in_a_user_namespace).requires(Need::Root),
        test("waitpoint/under_a_filter", under_a_filter),
        test("waitpoint/silence_does_not_run_it", silence_does_not_run_it),
        test("waitpoint/a_signal_ends_the_wait", a_signal_ends_the_wait),
        test("waitpoint/it_dies_with_exec", it_dies_with_exec),
        test("waitpoint/the_container_ends_meanwhile", the_container_ends_meanwhile),
        test("waitpoint/what_is_no_fifo_is_refused", what_is_no_fifo_is_refused),
        test("waitpoint/a_paused_container_gives_no_answer", a_paused_container_gives_no_answer).requires(Need::Root),
    ];
    list.into_iter().map(|test| test.requires(Need::Hull)).collect()
}

const DEADLINE: Duration = Duration::from_secs(30);

/// A process at the wait point.
struct Waiting {
    exec: Option<Running>,
    fifo: PathBuf,
    pid_file: PathBuf,
    pid: i32,
}

/// Starts `exec` and waits until it has told the number of the process, which must not have run its program.
fn waiting(case: &Case, options: &[&str], args: &[&str]) -> Result<Waiting> {
    let (fifo, pid_file) = (case.dir.join("go"), case.dir.join("exec.pid"));
    if !fifo.exists() {
        ensure!(Command::new("mkfifo").arg(&fifo).status()?.success(), "mkfifo failed");
    }
    let _ = fs::remove_file(&pid_file);
    let (fifo_word, pid_word) = (fifo.to_string_lossy(), pid_file.to_string_lossy());
    let words = [&["exec", "--wait-fifo", &fifo_word, "--pid-file", &pid_word], options, &[&case.id], args].concat();
    let exec = case.spawn(words)?;
    kernel::eventually("the pid file comes", || pid_file.exists())?;
    let pid = kernel::read(&pid_file)?.parse().context("the pid file")?;
    ensure!(!has_executed(pid)?, "process {pid} has run a program already");
    Ok(Waiting { exec: Some(exec), fifo, pid_file, pid })
}

/// Detached, the program is a child of this process.
impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

impl Waiting {
    fn say(&self, word: &[u8]) -> Result<()> {
        // This open comes back once hull has opened the other end.
        OpenOptions::new().write(true).open(&self.fifo)?.write_all(word).context("write to the FIFO")
    }

    fn ends(&mut self) -> Result<Output> {
        self.exec.take().context("it ended before")?.wait(DEADLINE)
    }

    fn running(&self) -> Result<&Running> {
        self.exec.as_ref().context("it ended")
    }

    /// It ended without the program, and nothing of it is left.
    fn not_run(mut self, word: &str) -> Result<()> {
        let output = self.ends()?.status(255)?.stderr_has(word)?;
        ensure!(output.stdout.is_empty(), "the program ran: {:?}", output.stdout);
        ensure!(!kernel::alive(self.pid), "process {} is still there", self.pid);
        ensure!(!self.pid_file.exists(), "the pid file is still there");
        Ok(())
    }
}

/// PF_FORKNOEXEC (linux/sched.h) is gone once a process has executed something.
fn has_executed(pid: i32) -> Result<bool> {
    let stat = kernel::read(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("a line of stat")?.1;
    let flags: u64 = fields.split_whitespace().nth(6).context("flags")?.parse()?;
    Ok(flags & 0x40 == 0)
}

fn it_runs_when_told(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let mut waiting = waiting(case, &[], &["sh", "-c", "echo $$ >/dev/null; readlink /proc/self/ns/pid; exit 7"])?;
    ensure!(waiting.running()?.output().is_empty(), "it ran before it was told to");
    waiting.say(b"\n")?;
    waiting.ends()?.status(7)?.stdout_has("pid:[")?;
    ensure!(waiting.pid_file.exists(), "the pid file has gone");

    let mut waiting = self::waiting(case, &["--detach"], &["sleep", "50"])?;
    waiting.say(b"go")?;
    // Detached it says that the program runs, as always.
    waiting.ends()?.ok()?;
    let command = kernel::read(format!("/proc/{}/cmdline", waiting.pid))?;
    ensure!(command == "sleep\x0050\0", "process {} is {command:?}", waiting.pid);

    drop(waiting);

    // What is known before is said at once; what only the execve can tell, afterwards.
    let fifo = case.dir.join("go");
    let words = ["exec", "--wait-fifo", &fifo.to_string_lossy(), &case.id, "/no/such/program"];
    case.verb(words)?.status(255)?.stderr_has("/no/such/program")?;
    fs::write(case.rootfs().join("noformat"), "no program")?;
    fs::set_permissions(case.rootfs().join("noformat"), fs::Permissions::from_mode(0o755))?;
    let waiting = self::waiting(case, &[], &["/noformat"])?;
    waiting.say(b"go")?;
    waiting.not_run("ENOEXEC")?;
    case.delete()
}

fn it_is_what_the_program_will_be(case: &mut Case) -> Result<()> {
    case.set("/process/user", json!({"uid": 0, "gid": 0})).args(["sleep", "60"]);
    let init = case.up()?;
    let mut waiting = waiting(case, &["--detach"], &["sleep", "60"])?;
    let fields = |pid| -> Result<Vec<String>> {
        ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
            .map(|field| kernel::status(pid, field))
            .into_iter()
            .collect()
    };
    ensure!(kernel::cgroups(waiting.pid)? == kernel::cgroups(init.pid)?, "it is not in the container's cgroups");
    let numbers = kernel::status(waiting.pid, "NSpid")?;
    ensure!(numbers.split_whitespace().count() > 1, "it is not in the container's pid namespace: {numbers:?}");
    let before = fields(waiting.pid)?;
    waiting.say(b"go")?;
    waiting.ends()?.ok()?;
    let after = fields(waiting.pid)?;
    ensure!(before == after, "the credentials changed:\n{before:?}\n{after:?}");
    drop(waiting);
    case.delete()
}

fn in_a_user_namespace(case: &mut Case) -> Result<()> {
    let init = case.user_namespace()?.args(["sleep", "60"]).up()?;
    let mut waiting = waiting(case, &["--detach"], &["sleep", "60"])?;
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts"] {
        ensure!(
            kernel::namespace(waiting.pid, kind)? == kernel::namespace(init.pid, kind)?,
            "it is not in the container's {kind} namespace"
        );
    }
    waiting.say(b"go")?;
    waiting.ends()?.ok()?;
    drop(waiting);
    case.delete()
}

/// Of the calls of the wait the filter knows none, for it comes after.
fn under_a_filter(case: &mut Case) -> Result<()> {
    case.set("/process/noNewPrivileges", json!(true))
        .set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["recvmsg", "sendmsg", "poll"], "action": "SCMP_ACT_KILL_PROCESS"},
                {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}),
        )
        .args(["sleep", "60"]);
    case.up()?;
    let mut waiting = waiting(case, &[], &["mkdir", "/tmp/x"])?;
    waiting.say(b"go")?;
    waiting.ends()?.status(1)?.stderr_has("not supported")?;
    case.delete()
}

fn silence_does_not_run_it(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for options in [&[] as &[&str], &["--detach"]] {
        let waiting = waiting(case, options, &["echo", "ran"])?;
        waiting.say(b"")?;
        waiting.not_run("closed without a word")?;
    }
    case.status_is("running")?;
    case.delete()
}

fn a_signal_ends_the_wait(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let waiting = waiting(case, &[], &["echo", "ran"])?;
        kill_process(Pid::from_raw(waiting.running()?.pid()).context("a pid")?, signal)?;
        waiting.not_run("wait point")?;
    }
    // Another one is the program's, who meets it when it runs.
    let mut waiting = waiting(case, &[], &["sleep", "60"])?;
    kill_process(Pid::from_raw(waiting.running()?.pid()).context("a pid")?, Signal::USR1)?;
    ensure!(kernel::alive(waiting.pid), "it did not wait");
    waiting.say(b"go")?;
    waiting.ends()?.status(128 + 10)?;
    case.delete()
}

fn it_dies_with_exec(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for options in [&[] as &[&str], &["--detach"]] {
        let mut waiting = waiting(case, options, &["echo", "ran"])?;
        kill_process(Pid::from_raw(waiting.running()?.pid()).context("a pid")?, Signal::KILL)?;
        waiting.ends()?.status(137)?;
        kernel::eventually("the process goes too", || !kernel::alive(waiting.pid))?;
    }
    case.delete()
}

fn the_container_ends_meanwhile(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let waiting = waiting(case, &[], &["echo", "ran"])?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    waiting.not_run("cannot exec in a stopped container")?;
    case.delete()
}

fn what_is_no_fifo_is_refused(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let file = case.dir.join("file");
    fs::write(&file, "go")?;
    let refused = |path: &Path, word: &str| -> Result<()> {
        let output = case.verb(["exec", "--wait-fifo", &path.to_string_lossy(), &case.id, "echo", "ran"])?;
        ensure!(output.stdout.is_empty(), "the program ran");
        output.status(255)?.stderr_has(word)?.one_sentence().map(drop)
    };
    refused(&file, "it is no FIFO")?;
    refused(&case.dir.join("missing"), "ENOENT")?;
    refused(&case.dir, "it is no FIFO")?;
    case.delete()
}

fn a_paused_container_gives_no_answer(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let fifo = case.dir.join("go");
    ensure!(Command::new("mkfifo").arg(&fifo).status()?.success(), "mkfifo failed");
    case.verb(["pause", &case.id])?.ok()?;
    let words = ["exec", "--ignore-paused", "--wait-fifo", &fifo.to_string_lossy(), &case.id, "echo", "ran"];
    case.verb(words)?.status(255)?.stderr_has("--wait-fifo needs an answer")?;
    case.verb(["resume", &case.id])?.ok()?;
    case.delete()
}
