//! `exec`: a process joins a container. What the kernel says about it from outside, and what it finds inside; the
//! states in which it is refused; its exit status; what the container's programs can see of it on the way.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use serde_json::{Value, json};

use crate::harness::{Case, Need, Output, Test, test};
use crate::kernel;
use crate::terminal::{read_until, received};

pub fn cases() -> Vec<Test> {
    let list = vec![
        test("exec/passes_the_exit_status_on", passes_the_exit_status_on),
        test("exec/gives_128_plus_the_signal", gives_128_plus_the_signal),
        test("exec/passes_stdin_stdout_and_stderr", passes_stdin_stdout_and_stderr),
        test("exec/is_in_every_namespace_of_the_container", is_in_every_namespace)
            .peer("runc", "1.1 knows no time namespace"),
        test("exec/is_in_every_namespace_of_a_user_namespace", is_in_every_namespace_of_a_user_namespace)
            .requires(Need::Root),
        test("exec/shares_what_the_container_shares", shares_what_the_container_shares).requires(Need::Root),
        test("exec/is_in_every_cgroup_of_the_container", is_in_every_cgroup),
        test("exec/under_an_old_profile", under_an_old_profile)
            .requires(Need::Root)
            .peer("runc", "needs getcwd under the filter"),
        test("exec/has_the_containers_root_and_mounts", has_the_containers_root_and_mounts),
        test("exec/a_container_without_a_mount_namespace", a_container_without_a_mount_namespace)
            .requires(Need::Root)
            .peer("runc", "1.1 refuses readonly and masked paths without one"),
        test("exec/into_a_created_container", into_a_created_container)
            .requires(Need::Root)
            .peer("runc", "1.1 knows no time namespace"),
        test("exec/into_a_created_container_without_root_is_refused", into_a_created_container_without_root)
            .requires(Need::Rootless)
            .requires(Need::Hull),
        test("exec/reads_the_process_from_a_pipe", reads_the_process_from_a_pipe),
        test("exec/a_missing_program_gives_255_and_is_named", a_missing_program)
            .peer("crun", "gives 127 in the foreground"),
        test("exec/a_failing_execve_is_told", a_failing_execve_is_told)
            .peer("*", "1.1 and 1.8 lose it or give another status"),
        test("exec/a_filter_that_forbids_all_but_execve", a_filter_that_forbids_all_but_execve)
            .peer("*", "needs more calls after its filter"),
        test("exec/a_missing_container_gives_255", a_missing_container).peer("crun", "says: No such file or directory"),
        test("exec/a_stopped_container_gives_255", a_stopped_container).peer("*", "say it in other words"),
        test("exec/a_container_that_is_killed_meanwhile", a_container_that_is_killed_meanwhile)
            .peer("runc", "says which file of /proc has gone"),
        test("exec/ends_with_the_container", ends_with_the_container),
        test("exec/detached_returns_with_the_pid_file", detached_returns_with_the_pid_file),
        test("exec/detached_is_inherited_by_the_caller", detached_is_inherited_by_the_caller),
        test("exec/pidfd_socket_gets_the_programs", pidfd_socket_gets_the_programs).peer("*", "newer than the peer"),
        test("exec/the_log_has_the_error", the_log_has_the_error).peer("crun", "words it in another way"),
        test("exec/env_is_added_to_the_configs", env_is_added_to_the_configs),
        test("exec/no_variable_of_the_caller_leaks_in", no_variable_of_the_caller_leaks_in),
        test("exec/a_variable_without_value_is_refused", a_variable_without_value_is_refused)
            .peer("crun", "takes the caller's value"),
        test("exec/home_is_that_of_the_user", home_is_that_of_the_user).requires(Need::Root),
        test("exec/cwd_is_the_configs_or_the_options", cwd_is_the_configs_or_the_options),
        test("exec/a_missing_cwd_is_not_made", a_missing_cwd_is_not_made).peer("*", "make it, or give another status"),
        test("exec/user_and_groups", user_and_groups).requires(Need::Root),
        test("exec/an_unmapped_user_is_refused", an_unmapped_user_is_refused).peer("*", "give another status"),
        test("exec/ids_are_strict_numbers", ids_are_strict_numbers).peer("*", "older than CVE-2026-30892"),
        test("exec/umask_is_the_configs", umask_is_the_configs).peer("runc", "1.1 hands the caller's on"),
        test("exec/rlimits_are_the_configs", rlimits_are_the_configs),
        test("exec/capabilities_are_added", capabilities_are_added)
            .requires(Need::Root)
            .peer("crun", "ignores an unknown one without a word"),
        test("exec/no_new_privs_is_kept_and_added", no_new_privs_is_kept_and_added),
        test("exec/the_filter_holds_with_and_without_new_privileges", the_filter_holds),
        test("exec/oom_score_adj_is_the_configs", oom_score_adj_is_the_configs).peer("crun", "1.8 leaves it as it is"),
        test("exec/nice_is_the_configs", nice_is_the_configs).requires(Need::Root).peer("*", "newer than the peer"),
        test("exec/runs_on_all_cpus_whatever_the_caller", runs_on_all_cpus)
            .requires(Need::Tool("taskset"))
            .peer("*", "newer than the peer"),
        test("exec/cpu_affinity_of_the_config", cpu_affinity_of_the_config).peer("*", "newer than the peer"),
        test("exec/signals_are_unblocked_and_default", signals_are_unblocked_and_default),
        test("exec/leads_a_session", leads_a_session),
        test("exec/no_descriptor_leaks_in", no_descriptor_leaks_in),
        test("exec/preserve_fds_passes_them_on", preserve_fds_passes_them_on),
        test("exec/missing_preserved_fds_are_refused", missing_preserved_fds_are_refused).peer("crun", "ignores them"),
        test("exec/stdio_belongs_to_the_user", stdio_belongs_to_the_user).requires(Need::Root),
        test("exec/options_end_at_the_id", options_end_at_the_id),
        test("exec/a_process_file_stands_alone", a_process_file_stands_alone)
            .requires(Need::Root)
            // By which the program itself asks for its limits.
            .requires(Need::Call("prlimit64"))
            .peer("*", "ignore its umask"),
        test("exec/a_process_file_takes_the_rest_from_the_container", a_process_file_takes_the_rest)
            .requires(Need::Root)
            .peer("crun", "1.8 leaves capabilities out")
            .peer("runc", "1.1 returns before the program is executed"),
        test("exec/a_wrong_process_file_is_named", a_wrong_process_file_is_named).peer("*", "do not name the file"),
        test("exec/the_bundle_may_change_after_create", the_bundle_may_change).peer("*", "read the bundle again"),
        test("exec/a_signal_to_exec_reaches_the_program", a_signal_to_exec_reaches_the_program),
        test("exec/returns_though_its_pipes_are_held", returns_though_its_pipes_are_held)
            .peer("runc", "1.1 waits for them"),
        test("exec/the_callers_terminal_stays_out", the_callers_terminal_stays_out).peer("*", "hand it on"),
        test("exec/tty_in_the_foreground", tty_in_the_foreground),
        test("exec/tty_follows_the_window_and_is_restored", tty_follows_the_window),
        test("exec/tty_with_a_console_socket", tty_with_a_console_socket),
        test("exec/tty_belongs_to_the_user_of_a_user_namespace", tty_in_a_user_namespace).requires(Need::Root),
        test("exec/tty_and_socket_go_together", tty_and_socket_go_together).peer("crun", "takes one without the other"),
        test("exec/a_paused_container_is_refused", a_paused_container_is_refused)
            .requires(Need::Root)
            .peer("crun", "says it in other words"),
        test("exec/ignore_paused_does_not_wait", ignore_paused_does_not_wait).requires(Need::Root).requires(Need::Hull),
        test("exec/ignore_paused_in_the_foreground", ignore_paused_in_the_foreground)
            .requires(Need::Root)
            .requires(Need::Hull),
        test("exec/a_joiner_that_is_frozen_shows_no_writable_executable", a_frozen_joiner)
            .requires(Need::Root)
            .requires(Need::Hull),
        test("exec/cgroup_below_the_containers", cgroup_below_the_containers)
            .requires(Need::Root)
            .peer("*", "runc has no sibling check, crun no v1"),
        test("exec/where_init_has_gone_when_its_cgroup_is_full_of_controllers", where_init_has_gone)
            .requires(Need::Root)
            .requires(Need::CgroupV2)
            .requires(Need::Controller("hugetlb")),
        test("exec/a_label_without_its_module_is_refused", a_label_without_its_module).requires(Need::Hull),
        test("exec/many_in_a_row", many_in_a_row),
        test("exec/many_at_once", many_at_once),
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

fn reads_the_process_from_a_pipe(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let mut process = case.config["process"].clone();
    process["args"] = json!(["echo", "from a pipe"]);
    fs::write(case.dir.join("process.json"), serde_json::to_string(&process)?)?;
    case.before = "cat process.json | (exec \"$@\"); exit".into();
    for name in ["/dev/stdin", "/proc/self/fd/0"] {
        case.verb(["exec", "--process", name, &case.id])?.ok()?.stdout_is("from a pipe\n")?;
    }
    case.before = "mkfifo pipe; { cat process.json >pipe; } & :".into();
    case.verb(["exec", "--process", "pipe", &case.id])?.ok()?.stdout_is("from a pipe\n")?;
    case.before = String::new();
    case.delete()
}

fn a_missing_program(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for detach in [false, true] {
        let options: &[&str] = if detach { &["--detach"] } else { &[] };
        let output = exec(case, options, &["nosuch"])?.status(255)?.stderr_has("executable file not found in")?;
        output.stderr_has("nosuch")?;
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

fn is_in_every_namespace_of_a_user_namespace(case: &mut Case) -> Result<()> {
    let init = case.user_namespace()?.args(["sleep", "60"]).up()?;
    let joined = detached(case, &[], &["sleep", "60"])?;
    same_namespaces(init.pid, joined.pid)?;
    let uid = kernel::status(joined.pid, "Uid")?;
    ensure!(uid == "100000\t100000\t100000\t100000", "outside it is {uid:?}");
    let groups = kernel::status(joined.pid, "Groups")?;
    ensure!(groups.split_whitespace().all(|group| group == "100000"), "its groups are {groups:?}");
    joined.end();
    exec(case, &[], &["sh", "-c", "id -u; cat /proc/self/attr/current >/dev/null; hostname"])?
        .ok()?
        .stdout_is("0\nhull\n")?;
    case.delete()
}

fn shares_what_the_container_shares(case: &mut Case) -> Result<()> {
    case.without_namespace("pid").without_namespace("uts").edit(|config| {
        config.as_object_mut().expect("an object").remove("hostname");
    });
    case.namespace(json!({"type": "network", "path": "/proc/self/ns/net"}));
    let init = case.args(["sleep", "60"]).up()?;
    let joined = detached(case, &[], &["sleep", "60"])?;
    same_namespaces(init.pid, joined.pid)?;
    let own = std::process::id() as i32;
    for kind in ["pid", "net", "uts"] {
        ensure!(kernel::namespace(joined.pid, kind)? == kernel::namespace(own, kind)?, "{kind} is not the caller's");
    }
    joined.end();
    case.delete()
}

fn has_the_containers_root_and_mounts(case: &mut Case) -> Result<()> {
    fs::write(case.rootfs().join("etc/mark"), "inside\n")?;
    case.args(["sleep", "60"]).up()?;
    let script = "cat /etc/mark; wc -c </proc/keys; touch /etc/new 2>/dev/null || echo read-only; \
                  echo 1 2>/dev/null >/proc/sys/kernel/domainname || echo read-only";
    exec(case, &[], &["sh", "-c", script])?.ok()?.stdout_is("inside\n0\nread-only\nread-only\n")?;
    case.delete()
}

fn a_container_without_a_mount_namespace(case: &mut Case) -> Result<()> {
    case.without_namespace("mount").edit(|config| {
        config["mounts"] = json!([]);
        for key in ["maskedPaths", "readonlyPaths"] {
            config["linux"].as_object_mut().expect("an object").remove(key);
        }
    });
    case.set("/root/readonly", json!(false));
    fs::write(case.rootfs().join("etc/mark"), "inside\n")?;
    case.args(["sleep", "60"]);
    case.up()?;
    exec(case, &[], &["cat", "/etc/mark"])?.ok()?.stdout_is("inside\n")?;
    exec(case, &["--cwd", "/.."], &["cat", "etc/mark"])?.ok()?.stdout_is("inside\n")?;
    case.delete()
}

fn into_a_created_container(case: &mut Case) -> Result<()> {
    case.namespace(json!({"type": "time"}));
    case.set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000}}));
    let init = case.args(["sleep", "60"]).create()?;
    let up = exec(case, &[], &["sh", "-c", "cut -d. -f1 /proc/uptime"])?.ok()?.stdout;
    ensure!(up.trim().parse::<u64>()? >= 1_000_000, "the clock shows {up:?}");
    case.status_is("created")?;
    let before = fs::read_link(format!("/proc/{}/ns/time_for_children", init.pid))?;
    case.verb(["start", &case.id])?.ok()?;
    let joined = detached(case, &[], &["sleep", "60"])?;
    same_namespaces(init.pid, joined.pid)?;
    ensure!(kernel::namespace(joined.pid, "time")? == before.to_string_lossy(), "start changed the time namespace");
    joined.end();
    case.delete()
}

fn into_a_created_container_without_root(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).create()?;
    exec(case, &[], &["true"])?.status(255)?.stderr_has("shielded until start")?.one_sentence()?;
    case.verb(["start", &case.id])?.ok()?;
    exec(case, &[], &["true"])?.ok()?;
    case.delete()
}

fn a_failing_execve_is_told(case: &mut Case) -> Result<()> {
    let bin = case.rootfs().join("bin");
    let files = [("script", "#!/bin/nosuch\n", 0o755), ("text", "echo\n", 0o755), ("plain", "x", 0o644)];
    for (name, text, mode) in files {
        fs::write(bin.join(name), text)?;
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(mode))?;
    }
    case.args(["sleep", "60"]).up()?;
    for (name, words) in [("script", "nosuch"), ("text", "exec format error"), ("plain", "permission denied")] {
        let pid_file = case.dir.join("none.pid");
        let path = pid_file.to_string_lossy();
        for options in [&[][..], &["--detach", "--pid-file", &path]] {
            exec(case, options, &[&format!("/bin/{name}")])?.status(255)?.stderr_has(words)?.one_sentence()?;
        }
        ensure!(!pid_file.exists(), "there is a pid file of a program that did not run");
    }
    case.delete()
}

fn a_filter_that_forbids_all_but_execve(case: &mut Case) -> Result<()> {
    case.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["execve"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13,
             "args": [{"index": 1, "value": 0, "op": "SCMP_CMP_NE"}]},
            {"names": ["sendmsg", "write", "openat", "getcwd"], "action": "SCMP_ACT_KILL_PROCESS"}]}),
    );
    case.args(["sleep", "60"]).create()?;
    if !rustix::process::geteuid().is_root() {
        // An ordinary user cannot join a container that waits for start; a program that runs needs these calls.
        return case.delete();
    }
    for options in [&[][..], &["--detach"]] {
        exec(case, options, &["true"])?.status(255)?.stderr_has("permission denied")?;
    }
    case.delete()?;
    let kill = json!({"names": ["execve"], "action": "SCMP_ACT_KILL_PROCESS"});
    case.set("/linux/seccomp/syscalls", json!([kill])).create()?;
    exec(case, &[], &["true"])?.status(255)?.stderr_has("signal 31")?;
    case.delete()
}

fn a_container_that_is_killed_meanwhile(case: &mut Case) -> Result<()> {
    for round in 0..5 {
        let init = case.args(["sleep", "60"]).up()?;
        let running: Result<Vec<_>> = (0..6).map(|_| case.spawn(line(case, &[], &["sleep", "60"]))).collect();
        let running = running?;
        std::thread::sleep(Duration::from_millis(round * 3));
        case.verb(["kill", &case.id, "KILL"])?.ok()?;
        for one in running {
            let output = one.wait(Duration::from_secs(20))?;
            ensure!(matches!(output.status, 137 | 255), "status {}: {:?}", output.status, output.stderr);
            if output.status == 255 {
                output.stderr_has("stopped container")?;
            }
        }
        init.wait()?;
        case.delete()?;
    }
    Ok(())
}

fn ends_with_the_container(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let running = case.spawn(line(case, &[], &["sh", "-c", "echo up; sleep 60"]))?;
    kernel::eventually("the program runs", || running.output().contains("up"))?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    running.wait(Duration::from_secs(20))?.status(137)?;
    init.wait()?;
    case.delete()
}

fn detached_is_inherited_by_the_caller(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let joined = detached(case, &[], &["sleep", "60"])?;
    let parent = kernel::parent_of(joined.pid)?;
    ensure!(parent == std::process::id() as i32, "its parent is {parent}, not the subreaper that called exec");
    joined.end();
    case.delete()
}

fn pidfd_socket_gets_the_programs(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let path = case.dir.join("pidfd.sock");
    let listener = UnixListener::bind(&path)?;
    let joined = detached(case, &["--pidfd-socket", &path.to_string_lossy()], &["sleep", "60"])?;
    let (fd, name) = received(&listener)?;
    ensure!(name == "setns", "the message is {name:?}");
    let info = kernel::read(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    ensure!(kernel::field_of(&info, "Pid")? == joined.pid.to_string(), "it is no pidfd of the program: {info}");
    joined.end();
    case.delete()
}

fn the_log_has_the_error(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let log = case.dir.join("log.json");
    let words = ["--log", &log.to_string_lossy(), "--log-format", "json"].map(str::to_owned);
    let words: Vec<String> = words.into_iter().chain(line(case, &["--detach"], &["nosuch"])).collect();
    case.verb(words)?.status(255)?;
    let text = kernel::read(&log)?;
    let last: Value = serde_json::from_str(text.lines().last().context("an empty log")?)?;
    let message = last["msg"].as_str().context("no msg")?;
    ensure!(last["level"] == "error" && message.contains("executable file not found in"), "the log says {last}");
    case.delete()
}

fn env_is_added_to_the_configs(case: &mut Case) -> Result<()> {
    case.set("/process/env", json!(["PATH=/bin", "A=1", "B=b", "HOME=/h"])).args(["sleep", "60"]).up()?;
    let output = exec(case, &["--env", "A=2", "--env=C=x=y z", "--env", "D="], &["cat", "/proc/self/environ"])?.ok()?;
    let mut env: Vec<&str> = output.stdout.split_terminator('\0').collect();
    env.sort_unstable();
    ensure!(env == ["A=2", "B=b", "C=x=y z", "D=", "HOME=/h", "PATH=/bin"], "it is {env:?}");
    case.set("/process/env", json!([]));
    exec(case, &["-e", "PATH=/nosuch"], &["true"])?.status(255)?;
    // The sleep of before has no variable by which the suite could find it.
    case.delete()
}

fn no_variable_of_the_caller_leaks_in(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    case.env.push(("SECRET_OF_THE_CALLER".to_owned(), "x".to_owned()));
    case.env.push(("_OCI_SYNCPIPE".to_owned(), "3".to_owned()));
    let output = exec(case, &[], &["env"])?.ok()?;
    ensure!(!output.stdout.contains("SECRET") && !output.stdout.contains("_OCI"), "it has {:?}", output.stdout);
    case.delete()
}

fn a_variable_without_value_is_refused(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for variable in ["A", "=x"] {
        exec(case, &["--env", variable], &["true"])?.status(255)?.one_sentence()?;
    }
    case.delete()
}

fn home_is_that_of_the_user(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for (user, home) in [("0", "/root\n"), ("1000", "/home/user\n"), ("4321", "/\n")] {
        exec(case, &["--user", user], &["sh", "-c", "echo $HOME"])?.ok()?.stdout_is(home)?;
    }
    case.delete()
}

fn cwd_is_the_configs_or_the_options(case: &mut Case) -> Result<()> {
    case.set("/process/cwd", json!("/var")).args(["sleep", "60"]).up()?;
    exec(case, &[], &["pwd"])?.ok()?.stdout_is("/var\n")?;
    exec(case, &["--cwd", "/tmp"], &["pwd"])?.ok()?.stdout_is("/tmp\n")?;
    exec(case, &["--cwd", "tmp"], &["pwd"])?.status(255)?;
    case.delete()
}

fn a_missing_cwd_is_not_made(case: &mut Case) -> Result<()> {
    case.set("/root/readonly", json!(false)).args(["sleep", "60"]).up()?;
    let output = exec(case, &["--cwd", "/made/for/me"], &["pwd"])?.status(255)?;
    output.stderr_has("no such file or directory")?.stderr_has("/made/for/me")?;
    ensure!(!case.rootfs().join("made").exists(), "it was made");
    case.delete()
}

fn user_and_groups(case: &mut Case) -> Result<()> {
    case.set("/process/user", json!({"uid": 7, "gid": 8, "additionalGids": [9]})).args(["sleep", "60"]).up()?;
    let ids = "echo $(id -u):$(id -g) $(grep Groups /proc/self/status)";
    for (options, expected) in [
        (&[][..], "7:8 Groups: 8 9\n"),
        (&["-u", "1000"], "1000:8 Groups: 8 9\n"),
        (&["-u", "1000:1001"], "1000:1001 Groups: 9 1001\n"),
        (&["--additional-gids", "10", "--additional-gids=11"], "7:8 Groups: 8 9 10 11\n"),
    ] {
        let output = exec(case, options, &["sh", "-c", ids])?.ok()?;
        // Whether the own group is among the supplementary ones is the runtime's affair.
        let numbers = |text: &str| -> BTreeSet<String> {
            text.split([' ', ':', '\n']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        ensure!(numbers(&output.stdout) == numbers(expected), "{options:?} gives {:?}", output.stdout);
        ensure!(output.stdout.starts_with(expected.split(' ').next().unwrap_or_default()), "{:?}", output.stdout);
    }
    case.delete()
}

fn an_unmapped_user_is_refused(case: &mut Case) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        case.user_namespace()?;
    }
    case.args(["sleep", "60"]).up()?;
    exec(case, &["--user", "5000"], &["id"])?.status(255)?.stderr_has("5000 is not mapped")?;
    exec(case, &["--user", "0:5000"], &["id"])?.status(255)?.stderr_has("5000 is not mapped")?;
    case.delete()
}

fn ids_are_strict_numbers(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for user in ["1x", "-1", "4294967296", "4294967295", ":5", "1:", "0:", "root", "0x0", " 0", "0 ", "+0", "0:0:0"] {
        let output = exec(case, &["--user", user], &["id", "-u"])?.status(255)?;
        ensure!(output.stdout.is_empty(), "--user {user:?} ran and printed {:?}", output.stdout);
    }
    for gid in ["x", "-1", "1,2", "4294967295"] {
        exec(case, &["--additional-gids", gid], &["true"])?.status(255)?;
    }
    case.delete()
}

fn umask_is_the_configs(case: &mut Case) -> Result<()> {
    case.before = "umask 0".to_owned();
    case.args(["sleep", "60"]).up()?;
    exec(case, &[], &["sh", "-c", "umask"])?.ok()?.stdout_is("0022\n")?;
    case.delete()?;
    case.set("/process/user/umask", json!(0o27)).up()?;
    exec(case, &[], &["sh", "-c", "umask"])?.ok()?.stdout_is("0027\n")?;
    case.delete()
}

fn rlimits_are_the_configs(case: &mut Case) -> Result<()> {
    case.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]),
    );
    case.args(["sleep", "60"]).up()?;
    let joined = detached(case, &[], &["sleep", "60"])?;
    let limits = kernel::read(format!("/proc/{}/limits", joined.pid))?;
    for (name, soft, hard) in [("Max open files", "100", "200"), ("Max core file size", "0", "0")] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).context(name)?;
        let mut words = line.split_whitespace();
        ensure!(words.next() == Some(soft) && words.next() == Some(hard), "{name}: {line}");
    }
    joined.end();
    case.delete()
}

/// One of the five sets of a process.
fn set_of(pid: i32, field: &str) -> Result<u64> {
    Ok(u64::from_str_radix(&kernel::status(pid, field)?, 16)?)
}

fn capabilities_are_added(case: &mut Case) -> Result<()> {
    const KILL: u64 = 1 << 5;
    const NET_RAW: u64 = 1 << 13;
    for set in ["bounding", "effective", "permitted"] {
        case.set(&format!("/process/capabilities/{set}"), json!(["CAP_KILL"]));
    }
    case.args(["sleep", "60"]).up()?;
    for (options, expected) in [(&[][..], KILL), (&["--cap", "CAP_NET_RAW", "--cap", "CAP_KILL"], KILL | NET_RAW)] {
        let joined = detached(case, options, &["sleep", "60"])?;
        for (field, bits) in
            [("CapInh", 0), ("CapPrm", expected), ("CapEff", expected), ("CapBnd", expected), ("CapAmb", 0)]
        {
            let found = set_of(joined.pid, field)?;
            ensure!(found == bits, "{options:?}: {field} is {found:x}, not {bits:x}");
        }
        joined.end();
    }
    // As in config.json, what no kernel knows is a warning.
    exec(case, &["--cap", "CAP_NOSUCH"], &["true"])?.ok()?.stderr_has("CAP_NOSUCH")?;
    case.delete()
}

fn no_new_privs_is_kept_and_added(case: &mut Case) -> Result<()> {
    for (config, options, expected) in [
        (true, &[][..], "1"),
        (false, &[][..], "0"),
        (false, &["--no-new-privs"][..], "1"),
        (true, &["--no-new-privs"][..], "1"),
    ] {
        case.set("/process/noNewPrivileges", json!(config)).args(["sleep", "60"]).up()?;
        let text = exec(case, options, &["cat", "/proc/self/status"])?.ok()?.stdout;
        let found = kernel::field_of(&text, "NoNewPrivs")?;
        ensure!(found == expected, "noNewPrivileges {config} and {options:?} give {found}");
        case.delete()?;
    }
    Ok(())
}

fn the_filter_holds(case: &mut Case) -> Result<()> {
    case.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 17}]}),
    );
    for privileges in [true, false] {
        case.set("/process/noNewPrivileges", json!(privileges)).args(["sleep", "60"]).up()?;
        let script = "grep Seccomp: /proc/self/status; mkdir /tmp/x 2>/dev/null || echo denied";
        exec(case, &[], &["sh", "-c", script])?.ok()?.stdout_is("Seccomp:\t2\ndenied\n")?;
        case.delete()?;
    }
    Ok(())
}

fn oom_score_adj_is_the_configs(case: &mut Case) -> Result<()> {
    case.set("/process/oomScoreAdj", json!(321)).args(["sleep", "60"]).up()?;
    let own = kernel::read("/proc/self/oom_score_adj")?;
    exec(case, &[], &["cat", "/proc/self/oom_score_adj"])?.ok()?.stdout_is("321\n")?;
    // The hull that stays in the foreground is what it was.
    let running = case.spawn(line(case, &[], &["sh", "-c", "echo up; sleep 1"]))?;
    kernel::eventually("the program runs", || running.output().contains("up"))?;
    let its = kernel::read(format!("/proc/{}/oom_score_adj", running.pid()))?;
    ensure!(its == own, "the runtime that waits has {its:?}, not {own:?}");
    running.wait(Duration::from_secs(10))?.ok()?;
    case.delete()
}

fn nice_is_the_configs(case: &mut Case) -> Result<()> {
    case.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 7}));
    case.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}));
    case.args(["sleep", "60"]).up()?;
    let joined = detached(case, &[], &["sleep", "60"])?;
    let stat = kernel::read(format!("/proc/{}/stat", joined.pid))?;
    let after: Vec<&str> = stat.rsplit_once(") ").context("a stat line")?.1.split(' ').collect();
    ensure!(after[16] == "7" && after[38] == "3", "nice {} and policy {}", after[16], after[38]);
    joined.end();
    case.delete()
}

fn cpus_of(case: &Case) -> Result<String> {
    let text = exec(case, &[], &["cat", "/proc/self/status"])?.ok()?.stdout;
    kernel::field_of(&text, "Cpus_allowed_list")
}

fn runs_on_all_cpus(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let all = cpus_of(case)?;
    case.before = "taskset -p 1 $$ >/dev/null".to_owned();
    let found = cpus_of(case)?;
    ensure!(found == all, "the caller's affinity makes it {found}, not {all}");
    case.before = String::new();
    case.delete()
}

fn cpu_affinity_of_the_config(case: &mut Case) -> Result<()> {
    case.set("/process/execCPUAffinity", json!({"initial": "0", "final": "0"})).args(["sleep", "60"]).up()?;
    let found = cpus_of(case)?;
    ensure!(found == "0", "it may run on {found}");
    case.delete()?;
    case.set("/process/execCPUAffinity", json!({"final": "0,x"}));
    case.try_create(&[])?.refused()?.stderr_has("/process/execCPUAffinity/final").map(drop)
}

fn signals_are_unblocked_and_default(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    case.before = "trap '' PIPE HUP USR1 TERM 40 64".to_owned();
    let foreground = exec(case, &[], &["cat", "/proc/self/status"])?.ok()?.stdout;
    let joined = detached(case, &[], &["sleep", "60"])?;
    for text in [foreground, kernel::read(format!("/proc/{}/status", joined.pid))?] {
        let fields: &[&str] = if case.peer.is_none() { &["SigBlk", "SigIgn", "ShdPnd", "SigCgt"] } else { &["SigBlk"] };
        for field in fields {
            let mask = kernel::field_of(&text, field)?;
            ensure!(mask.bytes().all(|byte| byte == b'0'), "{field} is {mask}");
        }
    }
    joined.end();
    case.before = String::new();
    case.delete()
}

fn leads_a_session(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let joined = detached(case, &[], &["sleep", "60"])?;
    let stat = kernel::read(format!("/proc/{}/stat", joined.pid))?;
    let after: Vec<&str> = stat.rsplit_once(") ").context("a stat line")?.1.split(' ').collect();
    let pid = joined.pid.to_string();
    ensure!(after[2] == pid && after[3] == pid, "group {} and session {} of {pid}", after[2], after[3]);
    joined.end();
    case.delete()
}

fn no_descriptor_leaks_in(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    case.before = "exec 3</dev/null 4</etc/passwd 5</ 6</proc/self/ns/mnt 9</dev/null".to_owned();
    let joined = detached(case, &[], &["sleep", "60"])?;
    let mut fds: Vec<String> = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", joined.pid))? {
        fds.push(entry?.file_name().to_string_lossy().into_owned());
    }
    fds.sort();
    ensure!(fds == ["0", "1", "2"], "the program has {fds:?}");
    joined.end();
    case.before = String::new();
    case.delete()
}

fn preserve_fds_passes_them_on(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    fs::write(case.dir.join("three"), "three\n")?;
    fs::write(case.dir.join("four"), "four\n")?;
    case.before = "exec 3<three 4<four 5</dev/null".to_owned();
    let script = "cat <&3; cat <&4; [ -e /proc/self/fd/5 ] && readlink /proc/self/fd/5; true";
    exec(case, &["--preserve-fds", "2"], &["sh", "-c", script])?.ok()?.stdout_is("three\nfour\n")?;
    case.before = String::new();
    case.delete()
}

fn missing_preserved_fds_are_refused(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    exec(case, &["--preserve-fds", "40"], &["true"])?.status(255)?;
    case.delete()
}

fn stdio_belongs_to_the_user(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let before = fs::metadata("/dev/null")?.uid();
    let script = "echo out >>/dev/stdout; echo err >>/dev/stderr";
    let output = exec(case, &["--user", "1000:1000"], &["sh", "-c", script])?.ok()?.stdout_is("out\n")?;
    ensure!(output.stderr == "err\n", "stderr is {:?}", output.stderr);
    ensure!(fs::metadata("/dev/null")?.uid() == before, "/dev/null of the host has another owner");
    case.delete()
}

fn options_end_at_the_id(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let output = exec(case, &["--env", "A=1"], &["sh", "-c", "echo $A \"$@\"", "x", "--tty", "-e", "A=2", "--"])?;
    output.ok()?.stdout_is("1 --tty -e A=2 --\n")?;
    case.delete()
}

/// Writes a process file and gives its path.
fn process_file(case: &Case, process: &Value) -> Result<String> {
    let path = case.dir.join("process.json");
    fs::write(&path, serde_json::to_string(process)?)?;
    Ok(path.to_string_lossy().into_owned())
}

fn a_process_file_stands_alone(case: &mut Case) -> Result<()> {
    case.set("/process/user", json!({"uid": 7, "gid": 7})).set("/process/oomScoreAdj", json!(100));
    case.args(["sleep", "60"]).up()?;
    let file = process_file(
        case,
        &json!({"args": ["sh", "-c", "pwd; env; umask; id -u; id -g; cat /proc/self/oom_score_adj; ulimit -n; \
                                     grep NoNewPrivs /proc/self/status"],
                "cwd": "/tmp", "env": ["PATH=/bin", "HOME=/x", "ONLY=this"], "terminal": false,
                "user": {"uid": 3, "gid": 4, "umask": 63}, "oomScoreAdj": 200,
                "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 77}]}),
    )?;
    let output = exec(case, &["--process", &file, "--user", "9", "--env", "NOT=this"], &[])?.ok()?;
    let mut lines: Vec<&str> =
        output.stdout.lines().filter(|line| !line.starts_with("SHLVL") && !line.starts_with("PWD")).collect();
    lines[1..4].sort_unstable();
    let expected = ["/tmp", "HOME=/x", "ONLY=this", "PATH=/bin", "0077", "3", "4", "200", "77", "NoNewPrivs:\t0"];
    ensure!(lines == expected, "it printed {lines:?}");
    case.delete()
}

fn a_process_file_takes_the_rest(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let bounding = set_of(case.pid()?, "CapBnd")?;
    let base =
        json!({"args": ["cat", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    for (capabilities, expected) in
        [(Value::Null, bounding), (json!({}), 0), (json!({"bounding": ["CAP_KILL"]}), 1 << 5)]
    {
        let mut process = base.clone();
        process["capabilities"] = capabilities;
        let output = exec(case, &["--process", &process_file(case, &process)?], &[])?.ok()?;
        let found = u64::from_str_radix(&kernel::field_of(&output.stdout, "CapBnd")?, 16)?;
        ensure!(found == expected, "{} gives {found:x}", process["capabilities"]);
    }
    // It can be detached, with the pid file of an engine.
    let mut sleeps = base;
    sleeps["args"] = json!(["sleep", "60"]);
    let joined = detached(case, &["-p", &process_file(case, &sleeps)?], &[])?;
    ensure!(kernel::read(format!("/proc/{}/cmdline", joined.pid))? == "sleep\x0060\0", "another program runs");
    joined.end();
    case.delete()
}

fn a_wrong_process_file_is_named(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let path = case.dir.join("wrong.json");
    let name = path.to_string_lossy().into_owned();
    exec(case, &["--process", &name], &[])?.status(255)?.stderr_has("wrong.json")?.stderr_has("no such file")?;
    for (text, words) in [
        ("", "wrong.json: /"),
        ("[]", "wrong.json: /"),
        (r#"{"cwd": "/", "args": "ls"}"#, "wrong.json: /args"),
        (r#"{"cwd": "/", "args": []}"#, "wrong.json: /args"),
        (r#"{"args": ["ls"]}"#, "wrong.json: /cwd"),
        (
            r#"{"cwd": "/", "args": ["ls"], "rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}"#,
            "wrong.json: /rlimits/0",
        ),
    ] {
        fs::write(&path, text)?;
        exec(case, &["--process", &name], &[])?.status(255)?.stderr_has(words)?.one_sentence()?;
    }
    case.delete()
}

fn the_bundle_may_change(case: &mut Case) -> Result<()> {
    case.set("/process/cwd", json!("/var")).args(["sleep", "60"]).up()?;
    case.set("/process/cwd", json!("/tmp")).write_config()?;
    exec(case, &[], &["pwd"])?.ok()?.stdout_is("/var\n")?;
    fs::remove_file(case.bundle().join("config.json"))?;
    exec(case, &[], &["pwd"])?.ok()?.stdout_is("/var\n")?;
    case.delete()
}

fn a_signal_to_exec_reaches_the_program(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for (name, signal, status) in [("TERM", Signal::TERM, 5), ("HUP", Signal::HUP, 6), ("USR1", Signal::USR1, 7)] {
        let script = format!("trap 'exit {status}' {name}; echo up; while :; do sleep 0.05; done");
        let running = case.spawn(line(case, &[], &["sh", "-c", &script]))?;
        kernel::eventually("the program runs", || running.output().contains("up"))?;
        rustix::process::kill_process(Pid::from_raw(running.pid()).context("a pid")?, signal)?;
        running.wait(Duration::from_secs(10))?.status(status)?;
    }
    case.delete()
}

fn returns_though_its_pipes_are_held(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let begun = Instant::now();
    exec(case, &[], &["sh", "-c", "sleep 20 & exit 3"])?.status(3)?;
    ensure!(begun.elapsed() < Duration::from_secs(10), "it waited for whoever held its stdout");
    case.delete()
}

/// A terminal of the suite's, in the place of a user's.
struct Pty {
    master: File,
    slave: OwnedFd,
}

impl Pty {
    fn new(rows: u16, columns: u16) -> Result<Pty> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::unlockpt(&master)?;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        let pty = Pty { master: master.into(), slave };
        pty.resize(rows, columns)?;
        Ok(pty)
    }

    fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(&self.master, size)?)
    }

    /// Starts the runtime with this terminal as its stdio.
    fn start(&self, case: &Case, options: &[&str], args: &[&str]) -> Result<std::process::Child> {
        let mut command = std::process::Command::new(&case.runtime);
        command.arg("--root").arg(case.root()).args(line(case, options, args)).current_dir(&case.dir);
        let stdio = || self.slave.try_clone().map(std::process::Stdio::from);
        Ok(command.stdin(stdio()?).stdout(stdio()?).stderr(stdio()?).spawn()?)
    }
}

fn the_callers_terminal_stays_out(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let mut pty = Pty::new(24, 80)?;
    let script = "for n in 0 1 2; do readlink /proc/self/fd/$n; done; read line; echo got $line; exit 4";
    let mut child = pty.start(case, &[], &["sh", "-c", script])?;
    pty.master.write_all(b"typed\n")?;
    let text = read_until(&mut pty.master, "got typed")?;
    ensure!(text.matches("pipe:").count() == 3, "its stdio is {text:?}");
    ensure!(child.wait()?.code() == Some(4), "another status");
    case.delete()
}

fn tty_in_the_foreground(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let before = kernel::mounts(case.pid()?)?.len();
    let mut pty = Pty::new(24, 80)?;
    let script = "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo terminals; tty; echo opened >/dev/tty; read line; echo got $line; exit 5";
    let mut child = pty.start(case, &["--tty"], &["sh", "-c", script])?;
    read_until(&mut pty.master, "opened")?;
    pty.master.write_all(b"typed\n")?;
    read_until(&mut pty.master, "got typed")?;
    ensure!(child.wait()?.code() == Some(5), "another status");
    let after = kernel::mounts(case.pid()?)?.len();
    ensure!(after == before, "the container has {after} mounts, it had {before}");
    case.delete()
}

fn tty_follows_the_window(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let mut pty = Pty::new(24, 80)?;
    let before = rustix::termios::tcgetattr(&pty.slave)?;
    let script = "stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut child = pty.start(case, &["-t"], &["sh", "-c", script])?;
    let text = read_until(&mut pty.master, "ready")?;
    ensure!(text.contains("24 80"), "its first size is not the caller's: {text:?}");
    let raw = rustix::termios::tcgetattr(&pty.slave)?;
    ensure!(raw.local_modes != before.local_modes, "the caller's terminal is not raw");
    pty.resize(33, 77)?;
    rustix::process::kill_process(Pid::from_raw(child.id() as i32).context("a pid")?, Signal::WINCH)?;
    read_until(&mut pty.master, "33 77")?;
    rustix::process::kill_process(Pid::from_raw(child.id() as i32).context("a pid")?, Signal::TERM)?;
    ensure!(child.wait()?.code() == Some(143), "another status");
    let after = rustix::termios::tcgetattr(&pty.slave)?;
    ensure!(after.local_modes == before.local_modes && after.input_modes == before.input_modes, "it stays raw");
    case.delete()
}

fn tty_with_a_console_socket(case: &mut Case) -> Result<()> {
    case.set("/process/consoleSize", json!({"height": 17, "width": 63})).args(["sleep", "60"]).up()?;
    let path = case.dir.join("console.sock");
    let listener = UnixListener::bind(&path)?;
    let script = "stty size; trap 'echo interrupted' INT; echo ready >/dev/tty; while :; do sleep 0.05; done";
    let joined = detached(case, &["--tty", "--console-socket", &path.to_string_lossy()], &["sh", "-c", script])?;
    let (master, name) = received(&listener)?;
    ensure!(!name.is_empty() && rustix::termios::isatty(&master), "{name:?} is no terminal");
    let mut master = File::from(master);
    let text = read_until(&mut master, "ready")?;
    ensure!(text.contains("17 63"), "its size is {text:?}");
    // ^C is a signal only to the foreground group of a controlling terminal.
    master.write_all(b"\x03")?;
    read_until(&mut master, "interrupted")?;
    joined.end();
    case.delete()
}

fn tty_in_a_user_namespace(case: &mut Case) -> Result<()> {
    case.user_namespace()?.args(["sleep", "60"]).up()?;
    let mut pty = Pty::new(24, 80)?;
    let script = "stat -L -c 'owner %u' /proc/self/fd/0; echo opened >/dev/tty";
    let mut child = pty.start(case, &["--tty", "--user", "1000:1000"], &["sh", "-c", script])?;
    let text = read_until(&mut pty.master, "opened")?;
    ensure!(text.contains("owner 1000"), "it printed {text:?}");
    ensure!(child.wait()?.success(), "another status");
    case.delete()
}

fn tty_and_socket_go_together(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let path = case.dir.join("console.sock");
    let _listener = UnixListener::bind(&path)?;
    let socket = path.to_string_lossy();
    for options in [
        &["--tty", "--detach"][..],
        &["--tty", "--console-socket", &socket],
        &["--detach", "--console-socket", &socket],
        &["--tty", "--detach", "--console-socket", "/nosuch/console.sock"],
    ] {
        exec(case, options, &["true"])?.status(255)?.one_sentence()?;
    }
    case.delete()
}

fn a_paused_container_is_refused(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    case.verb(["pause", &case.id])?.ok()?;
    let output = exec(case, &[], &["true"]);
    case.verb(["resume", &case.id])?.ok()?;
    output?.status(255)?.stderr_has("paused container")?;
    exec(case, &[], &["true"])?.ok()?;
    case.delete()
}

fn ignore_paused_does_not_wait(case: &mut Case) -> Result<()> {
    case.set("/root/readonly", json!(false)).args(["sleep", "60"]).up()?;
    case.verb(["pause", &case.id])?.ok()?;
    let begun = Instant::now();
    let joined = detached(case, &["--ignore-paused"], &["touch", "/tmp/ran"])?;
    ensure!(begun.elapsed() < Duration::from_secs(5), "it waited for a frozen process");
    std::thread::sleep(Duration::from_millis(200));
    let ran = case.rootfs().join("tmp/ran");
    ensure!(!ran.exists() && kernel::alive(joined.pid), "it runs in a paused container");
    // What needs an answer is refused.
    let output = exec(case, &["--ignore-paused", "--tty"], &["true"]);
    case.verb(["resume", &case.id])?.ok()?;
    output?.status(255)?.stderr_has("resume it first")?;
    kernel::eventually("the program runs after resume", || ran.exists())?;
    joined.end();
    case.delete()
}

fn ignore_paused_in_the_foreground(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for (args, status, words) in [(&["sh", "-c", "exit 9"][..], 9, ""), (&["/bin/nosuch"], 255, "no such file")] {
        case.verb(["pause", &case.id])?.ok()?;
        let running = case.spawn(line(case, &["--ignore-paused"], args))?;
        std::thread::sleep(Duration::from_millis(300));
        let waits = kernel::alive(running.pid());
        case.verb(["resume", &case.id])?.ok()?;
        let output = running.wait(Duration::from_secs(10))?.status(status)?.stderr_has(words)?;
        ensure!(waits, "it did not wait for the program: {:?}", output.stderr);
    }
    case.delete()
}

/// On v2 a process that was cloned into a frozen cgroup has run not one instruction: what can be seen of it then can be
/// seen of every process of exec for a moment.
fn a_frozen_joiner(case: &mut Case) -> Result<()> {
    let runtime = case.dir.join("runtime");
    fs::copy(&case.runtime, &runtime)?;
    let before = fs::read(&runtime)?;
    case.runtime = runtime.clone();
    case.args(["sleep", "60"]).up()?;
    case.verb(["pause", &case.id])?.ok()?;
    let joined = detached(case, &["--ignore-paused"], &["true"])?;
    let exe = format!("/proc/{}/exe", joined.pid);
    let kept = rustix::fs::open(&*exe, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    // A sealed copy in memory can be opened, but not written to.
    let write = |path: &str| {
        use std::os::unix::fs::FileExt;
        File::options().write(true).open(path).and_then(|file| file.write_at(b"x", 0))
    };
    let by_path = write(&exe);
    case.verb(["resume", &case.id])?.ok()?;
    kernel::eventually("the program ends", || !kernel::alive(joined.pid))?;
    joined.end();
    let by_kept = write(&format!("/proc/self/fd/{}", kept.as_raw_fd()));
    ensure!(by_path.is_err() && by_kept.is_err(), "the executable was written: {by_path:?}, later {by_kept:?}");
    ensure!(fs::read(&runtime)? == before, "the executable has changed");
    case.delete()
}

fn cgroup_below_the_containers(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let own = kernel::cgroups(init.pid)?;
    let own: Vec<PathBuf> = own.into_values().filter(|dir| dir.to_string_lossy().contains(&case.id)).collect();
    ensure!(!own.is_empty(), "the container has no cgroup");
    let suffix = |dir: &Path| PathBuf::from(format!("{}-suffix", dir.display()));
    for dir in &own {
        fs::create_dir(dir.join("sub"))?;
        fs::create_dir(suffix(dir))?;
        // A new cpuset of v1 is empty, and takes no process before it has CPUs and memory.
        for file in ["cpuset.cpus", "cpuset.mems"].into_iter().filter(|_| dir.starts_with("/sys/fs/cgroup/cpuset")) {
            fs::write(dir.join("sub").join(file), kernel::read(dir.join(file))?.trim())?;
        }
    }
    let sibling = format!("../{}-suffix", case.id);
    let result = (|| {
        let joined = detached(case, &["--cgroup", "sub"], &["sleep", "60"])?;
        for dir in kernel::cgroups(joined.pid)?.values().filter(|dir| dir.to_string_lossy().contains(&case.id)) {
            ensure!(dir.ends_with("sub"), "it is in {}", dir.display());
        }
        joined.end();
        for bad in [&sibling, "..", "nosuch", "sub/../../x"] {
            exec(case, &["--cgroup", bad], &["cat", "/proc/self/cgroup"])?.status(255)?.one_sentence()?;
        }
        if Path::new("/sys/fs/cgroup/pids/cgroup.procs").exists() {
            let joined = detached(case, &["--cgroup", "pids:sub"], &["sleep", "60"])?;
            let found = kernel::cgroups(joined.pid)?;
            ensure!(found["pids"].ends_with("sub"), "it is in {}", found["pids"].display());
            ensure!(!found["memory"].ends_with("sub"), "it is in {}", found["memory"].display());
            joined.end();
        }
        exec(case, &["--cgroup", "nosuch:sub"], &["true"])?.status(255).map(drop)
    })();
    for dir in &own {
        let _ = fs::remove_dir(dir.join("sub"));
        let _ = fs::remove_dir(suffix(dir));
    }
    result?;
    case.delete()
}

fn where_init_has_gone(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let own = kernel::cgroups(init.pid)?.remove("unified").context("a v2 cgroup")?;
    let sub = own.join("payload");
    fs::create_dir(&sub)?;
    fs::write(sub.join("cgroup.procs"), init.pid.to_string())?;
    let parent = own.parent().context("a parent")?;
    let added = !kernel::read(own.join("cgroup.controllers"))?.contains("hugetlb");
    if added {
        fs::write(parent.join("cgroup.subtree_control"), "+hugetlb")?;
    }
    fs::write(own.join("cgroup.subtree_control"), "+hugetlb")?;
    let joined = detached(case, &[], &["sleep", "60"])?;
    let found = kernel::cgroups(joined.pid)?.remove("unified").context("a v2 cgroup")?;
    joined.end();
    case.delete()?;
    if added {
        // Whoever else uses it by now keeps it: EBUSY.
        let _ = fs::write(parent.join("cgroup.subtree_control"), "-hugetlb");
    }
    ensure!(found == sub, "it is in {}, not where init is", found.display());
    Ok(())
}

fn a_label_without_its_module(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let apparmor = kernel::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
    let selinux = Path::new("/sys/fs/selinux/enforce").exists();
    for (option, label, pointer) in [
        // A profile that does not exist cannot be had where AppArmor is on.
        ("--apparmor", "hull-nosuch", if apparmor { "hull-nosuch" } else { "/process/apparmorProfile" }),
        ("--process-label", "system_u:system_r:svirt_lxc_net_t:s0:c124,c675", "/process/selinuxLabel"),
    ] {
        if option == "--process-label" && selinux {
            continue;
        }
        let output = exec(case, &[option, label], &["echo", "ran"])?.status(255)?;
        ensure!(output.stdout.is_empty(), "{option}: the program ran without its label");
        output.stderr_has(pointer)?.one_sentence()?;
    }
    case.delete()
}

fn amount(default: u32, full: u32) -> u32 {
    match std::env::var("HULL_STRESS") {
        Ok(word) if word == "full" => full,
        Ok(word) => word.parse().unwrap_or(default),
        Err(_) => default,
    }
}

/// Processes, descriptors, mounts and cgroups of a container and of the host: what must not grow.
fn counts(case: &Case, init: i32) -> Result<Vec<(&'static str, usize)>> {
    let lines = |path: String| kernel::read(path).map(|text| text.lines().count());
    Ok(vec![
        ("processes of the container", kernel::processes_of(&case.id).len()),
        ("descriptors of init", fs::read_dir(format!("/proc/{init}/fd"))?.count()),
        ("mounts of the container", lines(format!("/proc/{init}/mountinfo"))?),
        ("mounts of the host", lines("/proc/self/mountinfo".to_owned())?),
        ("cgroups", kernel::cgroups_named(&case.id).len()),
        ("files of the state directory", fs::read_dir(case.root().join(&case.id))?.count()),
    ])
}

fn many_in_a_row(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "600"]).up()?;
    let before = counts(case, init.pid)?;
    for number in 0..amount(100, 500) {
        let output = exec(case, &[], &["echo", "fine"])?.ok()?;
        output.stdout_is("fine\n").with_context(|| format!("number {number}"))?;
    }
    let after = counts(case, init.pid)?;
    ensure!(after == before, "{before:?} became {after:?}");
    case.delete()
}

fn many_at_once(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "600"]).up()?;
    let before = counts(case, init.pid)?;
    let running: Result<Vec<_>> = (0..amount(30, 100))
        .map(|number| case.spawn(line(case, &[], &["sh", "-c", &format!("exit {}", number % 100)])))
        .collect();
    for (number, one) in running?.into_iter().enumerate() {
        one.wait(Duration::from_secs(120))?.status(number as i32 % 100).with_context(|| format!("number {number}"))?;
    }
    let after = counts(case, init.pid)?;
    ensure!(after == before, "{before:?} became {after:?}");
    case.delete()
}
