//! `hull seccomp record`: the profile that it writes lets the same program do the same again, and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Output, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let cases = vec![
        test("seccomprecord/the_same_program_runs_under_its_profile", the_same_program_runs_under_its_profile),
        test("seccomprecord/other_calls_get_eperm_and_newer_ones_enosys", other_calls_get_eperm_and_newer_ones_enosys),
        test("seccomprecord/arguments_that_matter_are_conditions", arguments_that_matter_are_conditions),
        test("seccomprecord/a_signal_reaches_the_program_and_ends_in_a_profile", a_signal_ends_in_a_profile),
        test("seccomprecord/however_the_program_dies_there_is_a_profile", however_the_program_dies_there_is_a_profile),
        test(
            "seccomprecord/the_listener_is_in_no_descriptor_of_the_container",
            the_listener_is_nowhere_in_the_container,
        )
        .requires(Need::NoFilter),
        test("seccomprecord/many_processes_with_many_calls", many_processes_with_many_calls),
        test("seccomprecord/a_profile_of_its_own_stays_in_force", a_profile_of_its_own_stays_in_force),
        test(
            "seccomprecord/a_program_that_cannot_start_leaves_the_old_profile",
            one_that_cannot_start_leaves_the_old_profile,
        ),
        test("seccomprecord/a_killed_hull_leaves_nothing_that_delete_cannot_remove", a_killed_hull_leaves_nothing),
        test("seccomprecord/with_hooks_and_a_terminal", with_hooks_and_a_terminal),
        test("seccomprecord/without_no_new_privs", without_no_new_privs).requires(Need::Root),
        test("seccomprecord/without_a_pid_namespace", without_a_pid_namespace).requires(Need::Root),
        test("seccomprecord/signals_do_not_make_calls_fail", signals_do_not_make_calls_fail)
            .requires(Need::Tool("gcc")),
        // Under a filter that answers EPERM to clone3 glibc makes no thread.
        test("seccomprecord/threads", threads).requires(Need::Tool("gcc")).requires(Need::NoFilter),
        test("seccomprecord/a_32_bit_program", a_32_bit_program).requires(Need::Gcc32),
    ];
    cases.into_iter().map(|test| test.requires(Need::Hull)).collect()
}

fn output(case: &Case) -> PathBuf {
    case.dir.join("profile.json")
}

fn words(case: &Case, options: &[&str]) -> Result<Vec<String>> {
    case.write_config()?;
    let path = |path: PathBuf| path.into_os_string().into_string().ok().context("UTF-8");
    let mut words: Vec<String> = ["seccomp", "record", "--bundle"].map(String::from).into();
    words.extend([path(case.bundle())?, "--output".into(), path(output(case))?]);
    words.extend(options.iter().map(ToString::to_string));
    words.push(case.id.clone());
    Ok(words)
}

fn record(case: &Case) -> Result<Output> {
    case.verb(words(case, &[])?)
}

fn profile(case: &Case) -> Result<Value> {
    Ok(serde_json::from_str(&kernel::read(output(case))?)?)
}

/// The names that a profile allows under some condition or none.
fn allowed(profile: &Value) -> Vec<&str> {
    let rules = profile["syscalls"].as_array().into_iter().flatten();
    let allowing = rules.filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
    allowing.flat_map(|rule| rule["names"].as_array().into_iter().flatten().filter_map(Value::as_str)).collect()
}

/// From now on the case's container has the profile that was recorded.
fn adopt(case: &mut Case) -> Result<()> {
    let profile = profile(case)?;
    case.set("/linux/seccomp", profile);
    Ok(())
}

/// What the recorded profile makes of a call.
fn verdict(case: &Case, call: &str) -> Result<String> {
    let file = output(case);
    let file = file.to_str().context("UTF-8")?;
    let answer = case.verb(["seccomp", "explain", "--format", "json", "--profile", file, call])?.ok()?;
    let answer: Value = serde_json::from_str(&answer.stdout)?;
    let verdicts = answer[0]["verdicts"].as_array().context("verdicts")?;
    Ok(verdicts.iter().map(|verdict| verdict["action"].as_str().unwrap_or_default()).collect::<Vec<_>>().join(" "))
}

const BUSY: &str = "(echo b; echo a) | sort; ls -l / >/dev/null; cat /proc/self/status | grep -c Name; \
                    for n in 1 2 3; do sleep 0 & done; wait; date >/dev/null; mkdir /dev/shm/x; rm -r /dev/shm/x; \
                    kill -0 $$; trap 'echo trapped' USR1; kill -USR1 $$; exit 7";
const SAID: &str = "a\nb\n1\ntrapped\n";

fn the_same_program_runs_under_its_profile(case: &mut Case) -> Result<()> {
    let said = record(case.script(BUSY))?.status(7)?.stdout_is(SAID)?;
    said.stderr_has("different ones of x86_64")?;
    ensure!(case.leftovers().is_empty(), "it leaves {:?}", case.leftovers());
    adopt(case)?;
    case.run()?.status(7)?.stdout_is(SAID)?;
    // And recorded once more, under that profile, the profile is the same.
    let before = profile(case)?;
    record(case)?.status(7)?.stdout_is(SAID)?;
    ensure!(profile(case)? == before, "{before} became {}", profile(case)?);
    Ok(())
}

fn without_no_new_privs(case: &mut Case) -> Result<()> {
    case.set("/process/noNewPrivileges", json!(false)).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let script = format!("grep -E 'CapPrm|CapEff|NoNewPrivs' /proc/self/status; {BUSY}");
    let said = record(case.script(&script))?.status(7)?.stdout_has(SAID)?.stdout;
    // What the recording needed was gone when the program began.
    ensure!(said.contains("CapPrm:\t0000000000000000") && said.contains("NoNewPrivs:\t0"), "{said}");
    adopt(case)?;
    let again = case.run()?.status(7)?.stdout;
    ensure!(again == said, "{again} is not {said}");
    Ok(())
}

fn other_calls_get_eperm_and_newer_ones_enosys(case: &mut Case) -> Result<()> {
    record(case.args(["echo", "x"]))?.ok()?;
    adopt(case)?;
    case.args(["mkdir", "/dev/shm/x"]).run()?.status(1)?.stderr_has("Operation not permitted")?;
    let profile = profile(case)?;
    ensure!(profile["defaultAction"] == "SCMP_ACT_ERRNO" && profile["defaultErrnoRet"] == 1, "{profile}");
    ensure!(allowed(&profile).contains(&"execve") && !allowed(&profile).contains(&"mkdir"), "{profile}");
    ensure!(verdict(case, "mkdir")? == "SCMP_ACT_ERRNO");
    Ok(())
}

fn arguments_that_matter_are_conditions(case: &mut Case) -> Result<()> {
    // personality(PER_LINUX32) needs no privilege, nor does personality(PER_LINUX).
    record(case.args(["linux32", "echo", "x"]))?.ok()?;
    let rule = json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 0xffff_ffff_u32, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}]});
    let profile = profile(case)?;
    ensure!(profile["syscalls"].as_array().is_some_and(|rules| rules.contains(&rule)), "{profile}");
    adopt(case)?;
    case.prints("x\n")?;
    case.args(["linux64", "echo", "x"]).run()?.status(1)?.stderr_has("Operation not permitted")?;
    // Without conditions both work.
    case.edit(|config| drop(config["linux"].as_object_mut().expect("an object").remove("seccomp")));
    case.args(["linux32", "echo", "x"]);
    case.verb(words(case, &["--names-only"])?)?.ok()?;
    adopt(case)?;
    case.args(["linux64", "echo", "x"]).prints("x\n")
}

fn a_signal_ends_in_a_profile(case: &mut Case) -> Result<()> {
    case.script("trap 'echo stopped; exit 9' TERM; echo ready; while :; do sleep 0.1; done");
    let recording = case.spawn(words(case, &[])?)?;
    kernel::eventually("the program is ready", || recording.output().contains("ready\n"))?;
    let hull = rustix::process::Pid::from_raw(recording.pid()).context("a pid")?;
    rustix::process::kill_process(hull, rustix::process::Signal::TERM)?;
    recording.wait(Duration::from_secs(30))?.status(9)?.stdout_is("ready\nstopped\n")?;
    let profile = profile(case)?;
    ensure!(allowed(&profile).iter().any(|name| name.ends_with("nanosleep")), "{profile}");
    Ok(())
}

fn however_the_program_dies_there_is_a_profile(case: &mut Case) -> Result<()> {
    for (script, status) in [
        ("exit 0", 0),
        // Process 1 of a pid namespace gets no signal of its own making, so a child dies of it.
        ("sh -c 'kill -9 $$'; exit $?", 137),
        ("sh -c 'kill -SEGV $$'; exit $?", 139),
        // What is left behind dies with process 1, in the middle of a call.
        ("for n in 1 2 3; do sh -c 'while :; do cat /proc/self/stat >/dev/null; done' & done; sleep 0.2; exit 4", 4),
        ("sleep 1000 & exit 5", 5),
        ("exec true", 0),
    ] {
        let _ = fs::remove_file(output(case));
        record(case.script(script))?.status(status)?;
        ensure!(allowed(&profile(case)?).contains(&"execve"), "{script}: {}", profile(case)?);
    }
    // Killed from outside, as an engine does it.
    let _ = fs::remove_file(output(case));
    case.script("echo ready; while :; do cat /proc/self/stat >/dev/null; done");
    let recording = case.spawn(words(case, &[])?)?;
    kernel::eventually("the program is ready", || recording.output().contains("ready\n"))?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    recording.wait(Duration::from_secs(30))?.status(137)?;
    ensure!(allowed(&profile(case)?).contains(&"execve"));
    Ok(())
}

fn the_listener_is_nowhere_in_the_container(case: &mut Case) -> Result<()> {
    case.script("ls -l /proc/self/fd; echo ready; read line");
    let pid_file = case.dir.join("pid");
    let (stdin, wait) = (case.dir.join("stdin"), "--pid-file");
    let made = Command::new("mkfifo").arg(&stdin).status()?;
    ensure!(made.success(), "mkfifo failed");
    // Opened for both, so that neither side waits for the other.
    let _writer = fs::OpenOptions::new().read(true).write(true).open(&stdin)?;
    case.stdin = Some(stdin);
    let recording = case.spawn(words(case, &[wait, pid_file.to_str().context("UTF-8")?])?)?;
    kernel::eventually("the program is ready", || recording.output().contains("ready\n"))?;
    let listeners = |pid: i32| -> Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            count += usize::from(fs::read_link(entry?.path()).is_ok_and(|to| to.to_string_lossy().contains("seccomp")));
        }
        Ok(count)
    };
    let init: i32 = kernel::read(&pid_file)?.trim().parse()?;
    let (in_init, in_hull) = (listeners(init)?, listeners(recording.pid())?);
    let mode = kernel::status(init, "Seccomp_filters")?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    let output = recording.wait(Duration::from_secs(30))?.status(137)?;
    ensure!((in_init, in_hull) == (0, 1), "listeners: {in_init} in the container, {in_hull} in hull");
    ensure!(mode == "1", "{mode} filters");
    // Stdio and the directory that ls reads.
    ensure!(output.stdout.lines().filter(|line| line.starts_with('l')).count() == 4, "{}", output.stdout);
    Ok(())
}

fn many_processes_with_many_calls(case: &mut Case) -> Result<()> {
    let script = "for n in 1 2 3 4; do dd if=/dev/zero of=/dev/null bs=1 count=2500 2>/dev/null & done; \
                  for n in 1 2 3 4 5 6 7 8 9; do (true | cat); done; wait; echo done";
    let output = record(case.script(script))?.ok()?.stdout_is("done\n")?;
    let calls = output.stderr.split_whitespace().find_map(|word| word.parse::<u64>().ok()).context("a number")?;
    ensure!(calls > 20_000, "{calls} calls were seen: {}", output.stderr);
    adopt(case)?;
    case.prints("done\n")
}

fn a_profile_of_its_own_stays_in_force(case: &mut Case) -> Result<()> {
    let rules = |action: &str| {
        let mkdir = ["mkdir", "mkdirat"];
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": mkdir, "action": action, "errnoRet": if action == "SCMP_ACT_ERRNO" { json!(28) } else { Value::Null }},
            {"names": ["symlink", "symlinkat"], "action": "SCMP_ACT_ERRNO"},
        ]})
    };
    case.set("/linux/seccomp", rules("SCMP_ACT_ERRNO"));
    let script = "mkdir /dev/shm/x || ln -s a /dev/shm/x || echo neither";
    let output = record(case.script(script))?.ok()?.stdout_is("neither\n")?.stderr_has("No space left")?;
    output.stderr_has("under the present profile")?;
    let recorded = profile(case)?;
    ensure!(
        !allowed(&recorded).iter().any(|name| name.starts_with("mkdir") || name.starts_with("symlink")),
        "{recorded}"
    );
    adopt(case)?;
    case.run()?.ok()?.stdout_is("neither\n")?.stderr_has("No space left")?;
    // 31 is SIGSYS.
    case.set("/linux/seccomp", rules("SCMP_ACT_KILL_PROCESS"));
    record(case.args(["mkdir", "/dev/shm/x"]))?.status(128 + 31)?;
    let mut agent = rules("SCMP_ACT_NOTIFY");
    agent["listenerPath"] = json!("/run/nobody");
    case.set("/linux/seccomp", agent);
    record(case)?.refused()?.stderr_has("a process has one listener")?.one_sentence().map(drop)
}

fn one_that_cannot_start_leaves_the_old_profile(case: &mut Case) -> Result<()> {
    fs::write(output(case), "old")?;
    record(case.args(["/nosuch"]))?.refused()?.stderr_has("no such file or directory")?;
    // Refused by the kernel, at the execve itself.
    fs::write(case.rootfs().join("bin/broken"), "no program")?;
    fs::set_permissions(case.rootfs().join("bin/broken"), fs::Permissions::from_mode(0o755))?;
    record(case.args(["/bin/broken"]))?.refused()?.stderr_has("exec format error")?.one_sentence()?;
    ensure!(kernel::read(output(case))? == "old", "the profile is {:?}", kernel::read(output(case))?);
    // A place where no file can be is told before anything is made.
    case.args(["true"]).write_config()?;
    let bundle = case.bundle();
    let missing = case.dir.join("no/such/file");
    let words = ["seccomp".as_ref(), "record".as_ref(), "--bundle".as_ref(), bundle.as_os_str(), "-o".as_ref()];
    case.verb(words.into_iter().chain([missing.as_os_str(), case.id.as_ref()]))?
        .refused()?
        .stderr_has("write the profile to")
        .map(drop)
}

fn a_killed_hull_leaves_nothing(case: &mut Case) -> Result<()> {
    case.script("echo ready; while :; do cat /proc/self/stat >/dev/null; done");
    let mut recording = case.spawn(words(case, &[])?)?;
    kernel::eventually("the program is ready", || recording.output().contains("ready\n"))?;
    recording.kill();
    recording.wait(Duration::from_secs(30))?.status(137)?;
    case.delete()?;
    ensure!(case.leftovers().is_empty(), "left behind: {:?}", case.leftovers());
    Ok(())
}

/// With SA_RESTART no call fails for a signal, as without a recording.
fn signals_do_not_make_calls_fail(case: &mut Case) -> Result<()> {
    let source = "#include <fcntl.h>\n#include <signal.h>\n#include <stdio.h>\n#include <sys/time.h>\n#include <unistd.h>\n\
        static volatile int signals; static void count(int n) { signals += n > 0; }\n\
        int main(void) { struct sigaction a = {.sa_handler = count, .sa_flags = SA_RESTART}; sigaction(SIGALRM, &a, 0); \
        struct itimerval t = {{0, 1000}, {0, 1000}}; setitimer(ITIMER_REAL, &t, 0); \
        for (int i = 0; i < 1000 || signals < 20; i++) { int fd = open(\"/\", O_RDONLY); \
        if (fd < 0) { perror(\"open\"); return 1; } if (close(fd) < 0) { perror(\"close\"); return 2; } } \
        puts(\"done\"); return 0; }\n";
    compile(case, source, &["-static"])?;
    record(case.args(["/program"]))?.ok()?.stdout_is("done\n")?;
    adopt(case)?;
    case.prints("done\n")
}

fn with_hooks_and_a_terminal(case: &mut Case) -> Result<()> {
    let (before, after) = (case.dir.join("before"), case.dir.join("after"));
    let hook = |path: &PathBuf| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("cat >{}", path.display())]}]);
    case.set("/hooks/createRuntime", hook(&before)).set("/hooks/poststart", hook(&after));
    case.set("/process/terminal", json!(true));
    record(case.script("tty; test -t 0 && echo terminal"))?.ok()?.stdout_has("terminal")?;
    ensure!(kernel::read(&before)?.contains("creating") && kernel::read(&after)?.contains("running"));
    adopt(case)?;
    case.run()?.ok()?.stdout_has("terminal").map(drop)
}

/// Processes outlive process 1 here, and are killed with the container.
fn without_a_pid_namespace(case: &mut Case) -> Result<()> {
    case.without_namespace("pid");
    record(case.script("(while :; do cat /proc/self/stat >/dev/null; done) & exit 6"))?.status(6)?;
    ensure!(allowed(&profile(case)?).contains(&"execve"));
    Ok(())
}

fn compile(case: &Case, source: &str, options: &[&str]) -> Result<()> {
    let file = case.dir.join("program.c");
    fs::write(&file, source)?;
    let mut gcc = Command::new("gcc");
    let status = gcc.args(options).arg("-o").arg(case.rootfs().join("program")).arg(&file).status()?;
    ensure!(status.success(), "gcc failed");
    Ok(())
}

fn threads(case: &mut Case) -> Result<()> {
    let source = "#include <pthread.h>\n#include <stdio.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
        static void *work(void *n) { for (int i = 0; i < 500; i++) if (syscall(SYS_getppid) < 0) return n; return 0; }\n\
        int main(void) { pthread_t t[8]; void *bad = 0, *r; for (long i = 0; i < 8; i++) \
        if (pthread_create(&t[i], 0, work, (void *)(i + 1))) return 1; \
        for (int i = 0; i < 8; i++) { pthread_join(t[i], &r); if (r) bad = r; } puts(bad ? \"bad\" : \"good\"); return 0; }\n";
    compile(case, source, &["-static", "-pthread"])?;
    record(case.args(["/program"]))?.ok()?.stdout_is("good\n")?;
    ensure!(allowed(&profile(case)?).contains(&"getppid"));
    adopt(case)?;
    case.prints("good\n")
}

fn a_32_bit_program(case: &mut Case) -> Result<()> {
    // getppid (64) and exit (1) by int 0x80: 0 if the call worked.
    let source = "static int call(int n, int a) { int r; __asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(n), \"b\"(a) \
        : \"memory\"); return r; }\nvoid main(void) { call(1, call(64, 0) < 0); }\n";
    compile(case, source, &["-m32", "-static", "-nostdlib", "-fno-pie", "-no-pie", "-w", "-e", "main"])?;
    record(case.args(["/program"]))?.ok()?.stderr_has("x86_64, x86;")?;
    let recorded = profile(case)?;
    ensure!(recorded["architectures"] == json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]), "{recorded}");
    ensure!(allowed(&recorded).contains(&"getppid"), "{recorded}");
    adopt(case)?;
    case.prints("")?;
    // Without that architecture in the list it would be killed.
    case.set("/linux/seccomp/architectures", json!(["SCMP_ARCH_X86_64"]));
    case.run()?.status(128 + 31).map(drop)
}
