//! `exec`: a process joins a container. What the kernel says about it from outside, and what it finds inside; the
//! states in which it is refused; its exit status; what the container's programs can see of it on the way.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, WaitOptions};
use serde_json::json;

use crate::harness::{Case, Need, Output, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let list = vec![
        test("exec/passes_the_exit_status_on", passes_the_exit_status_on),
        test("exec/gives_128_plus_the_signal", gives_128_plus_the_signal),
        test("exec/passes_stdin_stdout_and_stderr", passes_stdin_stdout_and_stderr),
        test("exec/is_in_every_namespace_of_the_container", is_in_every_namespace),
        test("exec/is_in_every_cgroup_of_the_container", is_in_every_cgroup),
        test("exec/under_an_old_profile", under_an_old_profile)
            .requires(Need::Root)
            .peer("runc", "needs getcwd under the filter"),
        test("exec/a_missing_program_gives_255_and_is_named", a_missing_program),
        test("exec/a_missing_container_gives_255", a_missing_container),
        test("exec/a_stopped_container_gives_255", a_stopped_container),
        test("exec/detached_returns_with_the_pid_file", detached_returns_with_the_pid_file),
    ];
    list.into_iter().map(|test| test.requires(Need::Verb("exec"))).collect()
}

/// `exec OPTIONS ID ARGS`.
fn exec(case: &Case, options: &[&str], args: &[&str]) -> Result<Output> {
    case.verb(line(case, options, args))
}

fn line(case: &Case, options: &[&str], args: &[&str]) -> Vec<String> {
    let words = [&["exec"], options, &[case.id.as_str()], args].concat();
    words.into_iter().map(str::to_owned).collect()
}

/// A detached process of exec. Its parent is the suite, as an engine's monitor is otherwise: until that has reaped it,
/// the init of a pid namespace cannot end (pid_namespaces(7)).
struct Joined {
    pid: i32,
}

impl Joined {
    fn end(self) {}
}

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// `exec --detach`, which must succeed; the pid is that of its pid file.
fn detached(case: &Case, options: &[&str], args: &[&str]) -> Result<Joined> {
    let path = case.dir.join("exec.pid");
    let path = path.to_string_lossy();
    exec(case, &[&["--detach", "--pid-file", &path], options].concat(), args)?.ok()?;
    let text = kernel::read(&*path)?;
    let pid = text.parse().with_context(|| format!("the pid file holds {text:?}"))?;
    Ok(Joined { pid })
}

fn passes_the_exit_status_on(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for status in [0, 1, 2, 42, 125, 126, 127, 128, 137, 254, 255] {
        exec(case, &[], &["sh", "-c", &format!("exit {status}")])?.status(status)?;
    }
    case.delete()
}

fn gives_128_plus_the_signal(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for signal in [1, 6, 9, 11, 15, 34, 64] {
        exec(case, &[], &["sh", "-c", &format!("kill -{signal} $$")])?.status(128 + signal)?;
    }
    case.delete()
}

fn passes_stdin_stdout_and_stderr(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let input = case.dir.join("input");
    fs::write(&input, "one\ntwo\n")?;
    case.stdin = Some(input);
    let output = exec(case, &[], &["sh", "-c", "cat; echo said >&2"])?.ok()?.stdout_is("one\ntwo\n")?;
    ensure!(output.stderr == "said\n", "stderr is {:?}", output.stderr);
    case.delete()
}

const NAMESPACES: [&str; 8] = ["pid", "net", "ipc", "uts", "mnt", "cgroup", "user", "time"];

/// Every namespace of the process is that of init.
fn same_namespaces(init: i32, pid: i32) -> Result<()> {
    for kind in NAMESPACES {
        let (there, here) = (kernel::namespace(init, kind)?, kernel::namespace(pid, kind)?);
        ensure!(there == here, "init has {there}, the process {here}");
    }
    Ok(())
}

/// Without no_new_privs the filter is loaded early, and is over the last steps of hull, too.
fn under_an_old_profile(case: &mut Case) -> Result<()> {
    let names = ["close_range", "pidfd_open", "clone3", "getcwd"];
    let rules = json!([{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]);
    case.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}));
    case.set("/process/noNewPrivileges", json!(false)).args(["sleep", "60"]).up()?;
    // Three of its own, and the directory that it lists.
    exec(case, &[], &["sh", "-c", "ls /proc/self/fd | wc -l"])?.ok()?.stdout_is("4\n")?;
    exec(case, &[], &["grep", "-c", "^Seccomp:.*2", "/proc/self/status"])?.ok()?.stdout_is("1\n")?;
    case.delete()
}

fn is_in_every_namespace(case: &mut Case) -> Result<()> {
    case.namespace(json!({"type": "time"}));
    let init = case.args(["sleep", "60"]).up()?;
    let joined = detached(case, &[], &["sleep", "60"])?;
    let pid = joined.pid;
    same_namespaces(init.pid, pid)?;
    let own = std::process::id() as i32;
    for kind in ["pid", "mnt", "uts", "ipc", "time", "cgroup"] {
        ensure!(kernel::namespace(pid, kind)? != kernel::namespace(own, kind)?, "it kept the caller's {kind}");
    }
    let root = fs::read_link(format!("/proc/{pid}/root"))?;
    ensure!(root == fs::read_link(format!("/proc/{}/root", init.pid))?, "its root is {root:?}");
    joined.end();
    case.delete()
}

fn is_in_every_cgroup(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let joined = detached(case, &[], &["sleep", "60"])?;
    let (there, here) = (kernel::cgroups(init.pid)?, kernel::cgroups(joined.pid)?);
    ensure!(there == here, "init is in {there:?}, the process in {here:?}");
    joined.end();
    case.delete()
}

fn a_missing_program(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for detach in [false, true] {
        let options: &[&str] = if detach { &["--detach"] } else { &[] };
        let output = exec(case, options, &["nosuch"])?.status(255)?.stderr_has("executable file not found in")?;
        output.stderr_has("\"nosuch\"")?;
        exec(case, options, &["/bin/nosuch"])?.status(255)?.stderr_has("no such file or directory")?;
    }
    case.delete()
}

fn a_missing_container(case: &mut Case) -> Result<()> {
    exec(case, &[], &["true"])?.status(255)?.stderr_has("does not exist").map(drop)
}

fn a_stopped_container(case: &mut Case) -> Result<()> {
    let init = case.args(["true"]).up()?;
    init.wait()?;
    exec(case, &[], &["true"])?.status(255)?.stderr_has("stopped container")?;
    case.delete()
}

fn detached_returns_with_the_pid_file(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let begun = Instant::now();
    let joined = detached(case, &[], &["sleep", "30"])?;
    ensure!(begun.elapsed() < Duration::from_secs(10), "it waited for the program");
    let command = kernel::read(format!("/proc/{}/cmdline", joined.pid))?;
    ensure!(command == "sleep\x0030\0", "process {} is {command:?}", joined.pid);
    joined.end();
    case.delete()
}
