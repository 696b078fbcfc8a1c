//! Seccomp: what a profile does to the program that runs under it. seccomp(2).

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("seccomp/errno_is_the_rules", errno_is_the_rules),
        test("seccomp/default_errno_is_eperm", default_errno_is_eperm),
        test("seccomp/kill_ends_by_sigsys", kill_ends_by_sigsys),
        test("seccomp/an_argument_decides", an_argument_decides),
        test("seccomp/a_masked_value_beyond_its_mask_matches", a_masked_value_beyond_its_mask_matches),
        test("seccomp/default_action_denies", default_action_denies),
        test("seccomp/the_mode_is_filter", the_mode_is_filter).requires(Need::NoFilter),
        test("seccomp/without_no_new_privs", without_no_new_privs).requires(Need::Root),
        test("seccomp/unknown_names_are_skipped", unknown_names_are_skipped),
        test("seccomp/an_unknown_action_is_refused", an_unknown_action_is_refused),
        test("seccomp/a_rule_without_names_is_refused", a_rule_without_names_is_refused).peer("*", "takes it"),
        test("seccomp/an_old_profile_without_no_new_privs", an_old_profile_without_no_new_privs)
            .requires(Need::Root)
            .peer("crun", "gives the hook the status starting"),
        // Peers' init does not wait under the filter.
        test("seccomp/start_tells_what_init_lacks", start_tells_what_init_lacks)
            .requires(Need::Root)
            .requires(Need::Hull)
            // Without it there is no page to be mapped.
            .requires(Need::Call("memfd_create")),
        test("seccomp/may_deny_getcwd", may_deny_getcwd).requires(Need::Root).peer("runc", "needs it under the filter"),
        test("seccomp/every_operator", every_operator),
        test("seccomp/an_index_twice_is_two_rules", an_index_twice_is_two_rules),
        test("seccomp/every_action", every_action),
        test("seccomp/an_agent_answers", an_agent_answers)
            .requires(Need::Root)
            .requires(Need::Tool("python3"))
            .peer("runc", "needs a newer libseccomp than Debian 12 has")
            .peer("crun", "sends another status"),
        test("seccomp/holds_for_32_bit_programs", holds_for_32_bit_programs).requires(Need::Gcc32),
    ]
}

/// A profile that allows everything but these rules.
fn profile(case: &mut Case, rules: Value) {
    let architectures = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    case.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": rules}),
    );
}

const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

fn errno_is_the_rules(case: &mut Case) -> Result<()> {
    // 28 is ENOSPC, which nothing else would give here.
    profile(case, json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]));
    let output = case.script("mkdir /dev/shm/x; echo status $?; ls / >/dev/null && echo ls").run()?.ok()?;
    ensure!(output.stderr.contains("No space left on device"), "it says {:?}", output.stderr);
    output.stdout_is("status 1\nls\n").map(drop)
}

fn default_errno_is_eperm(case: &mut Case) -> Result<()> {
    profile(case, json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO"}]));
    case.script("mkdir /dev/shm/x").run()?.status(1)?.stderr_has("Operation not permitted").map(drop)
}

fn kill_ends_by_sigsys(case: &mut Case) -> Result<()> {
    profile(case, json!([{"names": MKDIR, "action": "SCMP_ACT_KILL_PROCESS"}]));
    // 31 is SIGSYS.
    case.args(["mkdir", "/dev/shm/x"]).run()?.status(128 + 31).map(drop)
}

fn an_argument_decides(case: &mut Case) -> Result<()> {
    // kill(2) with SIGUSR1 (10) as its second argument is denied, with SIGURG (23) it is not.
    let args = json!([{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]);
    profile(case, json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "args": args}]));
    let output = case.script("kill -23 $$; echo $?; kill -10 $$; echo $?").run()?.ok()?.stdout_is("0\n1\n")?;
    ensure!(output.stderr.contains("No space left"), "it says {:?}", output.stderr);
    Ok(())
}

/// Bits of the value that its mask takes away are not compared: a deny list would lose its rule.
fn a_masked_value_beyond_its_mask_matches(case: &mut Case) -> Result<()> {
    // Of 26 the mask leaves 10, SIGUSR1; SIGURG (23) is 7 under it. Nothing is left by 0.
    for (mask, value, statuses) in [(15, 26, "0\n1\n"), (15, 1_u64 << 40 | 10, "0\n1\n"), (0, 1, "1\n1\n")] {
        let args = json!([{"index": 1, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}]);
        profile(case, json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "args": args}]));
        let output = case.script("trap '' URG USR1; kill -23 $$; echo $?; kill -10 $$; echo $?").run()?.ok()?;
        output.stdout_is(statuses)?.stderr_has("No space left")?;
    }
    Ok(())
}

fn default_action_denies(case: &mut Case) -> Result<()> {
    let names = json!([
        "access",
        "arch_prctl",
        "brk",
        "capget",
        "capset",
        "chdir",
        "clone",
        "clone3",
        "close",
        "close_range",
        "dup",
        "dup2",
        "epoll_create1",
        "epoll_ctl",
        "epoll_pwait",
        "execve",
        "exit",
        "exit_group",
        "faccessat",
        "faccessat2",
        "fchdir",
        "fcntl",
        "fstat",
        "fstatfs",
        "futex",
        "getcwd",
        "getdents64",
        "getegid",
        "geteuid",
        "getgid",
        "getpid",
        "getppid",
        "getrandom",
        "getrlimit",
        "gettid",
        "getuid",
        "ioctl",
        "lseek",
        "madvise",
        "mmap",
        "mprotect",
        "munmap",
        "nanosleep",
        "newfstatat",
        "open",
        "openat",
        "poll",
        "ppoll",
        "prctl",
        "prlimit64",
        "pread64",
        "read",
        "readlink",
        "readlinkat",
        "recvmsg",
        "rseq",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sched_getaffinity",
        "sched_yield",
        "sendmsg",
        "sendto",
        "set_robust_list",
        "set_tid_address",
        "setgid",
        "setgroups",
        "setresgid",
        "setresuid",
        "setuid",
        "sigaltstack",
        "stat",
        "tgkill",
        "umask",
        "wait4",
        "write",
        "writev"
    ]);
    profile(case, json!([{"names": names, "action": "SCMP_ACT_ALLOW"}]));
    case.set("/linux/seccomp/defaultAction", json!("SCMP_ACT_ERRNO"));
    case.set("/linux/seccomp/defaultErrnoRet", json!(28));
    let output = case.script("echo runs; mkdir /dev/shm/x").run()?.status(1)?.stdout_is("runs\n")?;
    output.stderr_has("No space left").map(drop)
}

fn the_mode_is_filter(case: &mut Case) -> Result<()> {
    profile(case, json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO"}]));
    let init = case.args(["sleep", "60"]).up()?;
    ensure!(kernel::status(init.pid, "Seccomp")? == "2", "Seccomp is {}", kernel::status(init.pid, "Seccomp")?);
    ensure!(kernel::status(init.pid, "Seccomp_filters")? == "1", "there is more than one filter");
    case.delete()?;
    case.edit(|config| {
        config["linux"].as_object_mut().expect("an object").remove("seccomp");
    });
    let init = case.up()?;
    ensure!(kernel::status(init.pid, "Seccomp")? == "0", "there is a filter without a profile");
    case.delete()
}

fn without_no_new_privs(case: &mut Case) -> Result<()> {
    case.set("/process/noNewPrivileges", json!(false)).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    profile(case, json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO"}]));
    let init = case.args(["sleep", "60"]).up()?;
    ensure!(kernel::status(init.pid, "Seccomp")? == "2", "there is no filter");
    ensure!(kernel::status(init.pid, "NoNewPrivs")? == "0", "no_new_privs was set");
    case.delete()
}

/// Loaded before start, as it must be without no_new_privs, a filter is over hull's last steps, too.
fn an_old_profile_without_no_new_privs(case: &mut Case) -> Result<()> {
    profile(
        case,
        json!([{"names": ["close_range", "pidfd_open", "clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]),
    );
    case.set("/process/noNewPrivileges", json!(false)).set("/root/readonly", json!(false));
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "cat >/state; echo hook >&2; exit 0"]}]);
    case.set("/hooks/startContainer", hook).script("ls /proc/self/fd | wc -l; cat /state").run()?.ok()?;
    let output = case.run()?.ok()?.stdout_has("\"status\":\"created\"")?;
    // Three of its own, and the directory that it lists.
    ensure!(output.stdout.starts_with("4\n"), "descriptors are left open: {:?}", output.stdout);
    case.set("/hooks/startContainer", json!([{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]));
    case.run()?.refused()?.stderr_has("exit status 3").map(drop)
}

/// What the filter takes from init while it waits: `start` tells it, or, where init cannot reach it either, the log or
/// the stderr that create was given.
fn start_tells_what_init_lacks(case: &mut Case) -> Result<()> {
    case.set("/process/noNewPrivileges", json!(false)).args(["true"]);
    profile(case, json!([{"names": ["mmap"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]));
    case.create()?;
    let output = case.verb(["start", &case.id])?.refused()?.one_sentence()?;
    output.stderr_has("share a page with start")?.stderr_has("mmap")?.stderr_has("(EPERM)")?;
    case.delete()?;

    profile(case, json!([{"names": ["accept4", "accept"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]));
    let log = case.dir.join("log");
    for with_log in [false, true] {
        case.write_config()?;
        let bundle = case.bundle();
        let mut create = Vec::new();
        if with_log {
            create.extend(["--log".to_owned(), log.display().to_string()]);
        }
        create.extend(["create".to_owned(), "--bundle".to_owned(), bundle.display().to_string(), case.id.clone()]);
        let created = case.verb(&create)?.ok()?;
        case.verb(["start", &case.id])?.refused()?.one_sentence()?.stderr_has("the seccomp profile forbids a call")?;
        // The log has been open since before the container: what its path names is the container's by then.
        let said = if with_log { kernel::read(&log)? } else { created.stderr_by_now()? };
        ensure!(said.contains("accept4") && said.contains("(EPERM)"), "init said {said:?}");
        case.delete()?;
    }
    Ok(())
}

fn may_deny_getcwd(case: &mut Case) -> Result<()> {
    profile(case, json!([{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"}]));
    case.set("/process/noNewPrivileges", json!(false)).args(["echo", "runs"]).prints("runs\n")
}

fn a_rule_without_names_is_refused(case: &mut Case) -> Result<()> {
    for names in [json!([]), Value::Null] {
        profile(case, json!([{"names": names, "action": "SCMP_ACT_ERRNO"}]));
        case.run()?.refused()?.stderr_has("/linux/seccomp/syscalls/0/names")?;
    }
    Ok(())
}

fn unknown_names_are_skipped(case: &mut Case) -> Result<()> {
    profile(case, json!([{"names": ["nosuchsyscall", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
    case.script("mkdir /dev/shm/x 2>/dev/null; echo $?").prints("1\n")
}

fn an_unknown_action_is_refused(case: &mut Case) -> Result<()> {
    profile(case, json!([{"names": MKDIR, "action": "SCMP_ACT_NOSUCH"}]));
    case.run()?.refused()?.stderr_has("SCMP_ACT_NOSUCH").map(drop)
}

fn holds_for_32_bit_programs(case: &mut Case) -> Result<()> {
    let source = case.dir.join("program.c");
    // mkdir (39) and exit (1) by int 0x80: the exit status is the errno.
    fs::write(
        &source,
        "static int call(int n, int a, int b) { int r; __asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(n), \
         \"b\"(a), \"c\"(b) : \"memory\"); return r; }\nvoid main(void) { \
         call(1, -call(39, (int)\"/dev/shm/x\", 0755), 0); }\n",
    )?;
    let program = case.rootfs().join("program");
    let mut gcc = Command::new("gcc");
    gcc.args(["-m32", "-static", "-nostdlib", "-fno-pie", "-no-pie", "-w", "-e", "main", "-o"]);
    ensure!(gcc.arg(&program).arg(&source).status()?.success(), "gcc failed");
    profile(case, json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]));
    case.args(["/program"]).run()?.status(28).map(drop)
}

/// Which of the signals 17, 23 and 28, all of which are ignored, kill(2) may not send under a condition on its second
/// argument.
fn denied(case: &mut Case, args: Value) -> Result<String> {
    profile(case, json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": args}]));
    case.script("for signal in 17 23 28; do kill -$signal $$ 2>/dev/null && printf - || printf x; done");
    Ok(case.run()?.ok()?.stdout)
}

fn every_operator(case: &mut Case) -> Result<()> {
    for (op, value, two, expected) in [
        ("SCMP_CMP_NE", 23, 0, "x-x"),
        ("SCMP_CMP_LT", 23, 0, "x--"),
        ("SCMP_CMP_LE", 23, 0, "xx-"),
        ("SCMP_CMP_EQ", 23, 0, "-x-"),
        ("SCMP_CMP_GE", 23, 0, "-xx"),
        ("SCMP_CMP_GT", 23, 0, "--x"),
        // The mask is the first value.
        ("SCMP_CMP_MASKED_EQ", 0b01000, 0b01000, "--x"),
    ] {
        let found = denied(case, json!([{"index": 1, "value": value, "valueTwo": two, "op": op}]))?;
        ensure!(found == expected, "{op} denies {found}, not {expected}");
    }
    Ok(())
}

fn an_index_twice_is_two_rules(case: &mut Case) -> Result<()> {
    let condition = |index: u32, value: u32, op: &str| json!({"index": index, "value": value, "op": op});
    let either = json!([condition(1, 17, "SCMP_CMP_EQ"), condition(1, 28, "SCMP_CMP_EQ")]);
    ensure!(denied(case, either)? == "x-x", "two conditions on one argument are not two rules");
    // Of two arguments both must hold: no process has the number 0 here.
    let both = json!([condition(1, 17, "SCMP_CMP_EQ"), condition(0, 0, "SCMP_CMP_EQ")]);
    ensure!(denied(case, both)? == "---", "conditions on two arguments are not ANDed");
    Ok(())
}

fn every_action(case: &mut Case) -> Result<()> {
    for (action, status, words) in [
        ("SCMP_ACT_ALLOW", "0", ""),
        ("SCMP_ACT_LOG", "0", ""),
        ("SCMP_ACT_ERRNO", "1", "Operation not permitted"),
        // Nobody traces the program.
        ("SCMP_ACT_TRACE", "1", "Function not implemented"),
        ("SCMP_ACT_TRAP", "159", ""),
        ("SCMP_ACT_KILL", "159", ""),
        ("SCMP_ACT_KILL_THREAD", "159", ""),
        ("SCMP_ACT_KILL_PROCESS", "159", ""),
    ] {
        profile(case, json!([{"names": MKDIR, "action": action}]));
        let output = case.script("mkdir /dev/shm/x; echo $?").run()?.ok()?;
        ensure!(output.stdout.trim() == status, "{action} gives {:?} {:?}", output.stdout, output.stderr);
        ensure!(output.stderr.contains(words), "{action} says {:?}", output.stderr);
    }
    Ok(())
}

/// Takes one container process state with the listener, then answers each call with ENOSPC.
const AGENT: &str = r#"
import fcntl, socket, struct, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(sys.argv[1])
listener.listen(1)
open(sys.argv[2] + ".ready", "w").close()
connection, _ = listener.accept()
state, fds, _, _ = socket.recv_fds(connection, 65536, 4)
while more := connection.recv(65536):
    state += more
with open(sys.argv[2], "wb") as file:
    file.write(state)
assert len(fds) == 1
while True:
    call = bytearray(80)
    fcntl.ioctl(fds[0], 0xC0502100, call)
    fcntl.ioctl(fds[0], 0xC0182101, struct.pack("=QqiI", struct.unpack_from("=Q", call)[0], 0, -28, 0))
"#;

fn an_agent_answers(case: &mut Case) -> Result<()> {
    for no_new_privileges in [true, false] {
        let (socket, state) = (case.dir.join("agent"), case.dir.join("agent-state"));
        for old in [&socket, &state, &case.dir.join("agent-state.ready")] {
            let _ = fs::remove_file(old);
        }
        let mut python = Command::new("python3");
        python.args(["-c", AGENT]).arg(&socket).arg(&state).stderr(std::process::Stdio::null());
        let mut agent = python.env("HULL_TEST_ID", &case.id).spawn()?;
        let ready = kernel::eventually("the agent listens", || case.dir.join("agent-state.ready").exists());
        profile(case, json!([{"names": MKDIR, "action": "SCMP_ACT_NOTIFY"}]));
        case.set("/linux/seccomp/listenerPath", json!(socket)).set("/linux/seccomp/listenerMetadata", json!("MKNOD=x"));
        case.set("/process/noNewPrivileges", json!(no_new_privileges)).set("/annotations", json!({"a.b": "c"}));
        let output = ready.and_then(|()| case.script("mkdir /dev/shm/x; echo $?").run());
        agent.kill()?;
        agent.wait()?;
        let output = output?.ok()?.stdout_is("1\n")?;
        ensure!(output.stderr.contains("No space left on device"), "it says {:?}", output.stderr);
        let got: Value = serde_json::from_str(&kernel::read(&state)?)?;
        ensure!(got["fds"] == json!(["seccompFd"]) && got["metadata"] == "MKNOD=x", "the agent got {got}");
        ensure!(got["pid"].as_i64().is_some_and(|pid| pid > 1) && got["ociVersion"].is_string(), "the agent got {got}");
        let state = &got["state"];
        ensure!(state["id"] == case.id.as_str() && state["status"] == "creating", "the agent got {got}");
        ensure!(state["pid"] == got["pid"] && state["annotations"]["a.b"] == "c", "the agent got {got}");
    }
    // Nobody listens there any more.
    case.run()?.refused()?.stderr_has("listenerPath").map(drop)
}
