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
        test("seccomp/default_action_denies", default_action_denies),
        test("seccomp/the_mode_is_filter", the_mode_is_filter),
        test("seccomp/without_no_new_privs", without_no_new_privs).requires(Need::Root),
        test("seccomp/unknown_names_are_skipped", unknown_names_are_skipped),
        test("seccomp/an_unknown_action_is_refused", an_unknown_action_is_refused),
        test("seccomp/a_rule_without_names_is_refused", a_rule_without_names_is_refused).peer("*", "takes it"),
        test("seccomp/an_old_profile_without_no_new_privs", an_old_profile_without_no_new_privs)
            .requires(Need::Root)
            .peer("crun", "gives the hook the status starting"),
        test("seccomp/may_deny_getcwd", may_deny_getcwd).requires(Need::Root).peer("runc", "needs it under the filter"),
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
