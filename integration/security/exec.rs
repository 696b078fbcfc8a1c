//! Processes that join a container: what they may, what they show, and what of the container's limits they keep; and
//! what another container of the same pid namespace can do to them while they enter.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::{Pid, Signal};
use serde_json::json;

use super::{ATTACKS, Decoy, attacker, capabilities, escaped, rounds, second, share};
use crate::harness::{Case, DEADLINE, Need, Output, Test, forget_child, reap_orphans, spawn_child, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let exec = |name, body| test(name, body).requires(Need::Verb("exec"));
    vec![
        exec("security/CVE-2016-9962/exec_cannot_be_traced", |case| traced(case, true)).requires(Need::Tool("gcc")),
        exec("security/CVE-2016-9962/exec_cannot_be_traced/userns", |case| traced(case.user_namespace()?, true))
            .requires(Need::Root)
            .requires(Need::Tool("gcc")),
        test("security/CVE-2016-9962/init_cannot_be_traced", |case| traced(case, false))
            .requires(Need::Root)
            .requires(Need::Tool("gcc")),
        test("security/CVE-2016-9962/init_cannot_be_traced/userns", |case| traced(case.user_namespace()?, false))
            .requires(Need::Root)
            .requires(Need::Tool("gcc")),
        test("security/a_created_init_has_the_programs_capabilities", created_capabilities),
        test("security/a_created_init_has_the_programs_capabilities/userns", |case| {
            created_capabilities(case.user_namespace()?)
        })
        .requires(Need::Root),
        exec("security/CVE-2022-29162/capabilities_of_exec", capabilities_of_exec),
        exec("security/CVE-2022-29162/capabilities_of_exec/userns", |case| {
            capabilities_of_exec(case.user_namespace()?)
        })
        .requires(Need::Root),
        exec("security/CVE-2024-21626/the_cwd_of_exec_is_a_descriptor", cwd_of_exec),
        exec("security/CVE-2024-21626/the_cwd_of_exec_is_a_descriptor/userns", |case| {
            cwd_of_exec(case.user_namespace()?)
        })
        .requires(Need::Root),
        exec("security/CVE-2026-30892/a_user_that_is_no_number", user_of_exec).requires(Need::Root),
        exec("security/CVE-2016-3697/a_user_of_exec_whose_name_is_a_number", numeric_user_of_exec).requires(Need::Root),
        exec("security/CVE-2026-78408/no_descriptor_of_exec_leaks", descriptors_of_exec).requires(Need::Tool("gcc")),
        exec("security/CVE-2026-78408/no_descriptor_of_exec_leaks/userns", |case| {
            descriptors_of_exec(case.user_namespace()?)
        })
        .requires(Need::Root)
        .requires(Need::Tool("gcc")),
        exec("security/runc-5474/preserve_fds_of_exec", preserve_fds_of_exec),
        exec("security/a_failing_execve_is_a_plain_error", failing_execve),
        exec("security/a_failing_execve_is_a_plain_error/userns", |case| failing_execve(case.user_namespace()?))
            .requires(Need::Root),
        test("security/start_container_hooks_are_held_to_the_limits", limits_of_hooks),
        test("security/start_container_hooks_are_held_to_the_limits/userns", |case| {
            limits_of_hooks(case.user_namespace()?)
        })
        .requires(Need::Root),
        exec("security/exec_keeps_the_containers_limits", limits_of_exec),
        exec("security/exec_keeps_the_containers_limits/userns", |case| limits_of_exec(case.user_namespace()?))
            .requires(Need::Root),
        exec("security/exec_waits_for_no_process_that_is_stopped", stopped_while_it_joins).requires(Need::Root),
        test("security/start_waits_for_no_init_that_is_stopped", stopped_while_it_starts).requires(Need::Root),
        exec("security/exec_follows_no_number_that_another_has", a_number_that_another_has)
            .requires(Need::Root)
            .requires(Need::Hull)
            .requires(Need::Tool("gcc")),
        exec("security/exec_cgroup_stays_in_the_container", cgroup_of_exec).requires(Need::Root),
    ]
}

fn exec(case: &Case, options: &[&str], args: &[&str]) -> Result<Output> {
    ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut all = vec!["exec"];
    all.extend(options);
    all.push(&case.id);
    all.extend(args);
    case.verb(all)
}

/// A process of the container tries to trace everything that still runs the runtime's code, and to open its descriptors.
/// Without CAP_SYS_PTRACE on the host, that is: with it in the container's user namespace only, or not at all.
fn traced(case: &mut Case, by_exec: bool) -> Result<()> {
    attacker(case)?;
    let meta = fs::metadata(&case.runtime)?;
    let (dev, ino) = (meta.dev(), meta.ino());
    fs::create_dir_all(case.rootfs().join("shared"))?;
    fs::set_permissions(case.rootfs().join("shared"), PermissionsExt::from_mode(0o777))?;
    let user = case.config["linux"]["uidMappings"].is_array();
    if user {
        capabilities(&mut case.config, &["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_KILL"]);
    }
    case.script(&format!("echo up; attacker trace {dev} {ino} /shared/stop; echo end; sleep 60"));
    let watcher = case.up()?;
    watcher.wait_for("up")?;
    let (bundle, id) = second(case, |config| {
        let mut kinds = vec![("pid", "pid")];
        if user {
            kinds.push(("user", "user"));
        }
        share(config, watcher.pid, &kinds);
        config["process"]["args"] = json!(["true"]);
    })?;
    let mut ran = 0;
    for _ in 0..rounds() {
        let output = if by_exec {
            exec(case, &[], &["true"])?
        } else {
            ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            case.verb(["create", "--bundle", &bundle, &id])?.ok()?;
            let output = case.verb(["delete", "--force", &id])?;
            // Until it is reaped it belongs to the watcher's pid namespace, which then cannot end.
            reap_orphans();
            output
        };
        ran += u32::from(output.status == 0);
    }
    fs::write(case.rootfs().join("shared/stop"), "")?;
    watcher.wait_for("end")?;
    let text = watcher.output()?;
    let line = text.lines().find(|line| line.starts_with("looked ")).context("the watcher said nothing")?;
    ensure!(!line.starts_with("looked 0 "), "the watcher looked at nothing");
    case.delete()?;
    if !line.ends_with(" seen 0 traced 0") {
        return escaped(format!("a process of the runtime's was open to the container: {line}"));
    }
    ensure!(ran > 0, "not one of the processes that were to be watched ran");
    Ok(())
}

/// What waits for start holds no more than the program will.
fn created_capabilities(case: &mut Case) -> Result<()> {
    capabilities(&mut case.config, &["CAP_KILL"]);
    for privileges in [true, false] {
        case.set("/process/noNewPrivileges", json!(privileges));
        let init = case.args(["sleep", "60"]).create()?;
        ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        for (field, allowed) in
            [("CapInh", 0), ("CapPrm", 1 << 5), ("CapEff", 1 << 5), ("CapBnd", 1 << 5), ("CapAmb", 0)]
        {
            let set = u64::from_str_radix(&kernel::status(init.pid, field)?, 16)?;
            if set & !allowed != 0 {
                return escaped(format!("{field} of a created init is {set:x}"));
            }
        }
        case.delete()?;
    }
    Ok(())
}

/// Also CVE-2022-27650 and CVE-2025-27612.
fn capabilities_of_exec(case: &mut Case) -> Result<()> {
    capabilities(&mut case.config, &["CAP_KILL", "CAP_AUDIT_WRITE"]);
    case.args(["sleep", "60"]).up()?;
    let own = 1 << 5 | 1 << 29;
    let chown = own | 1;
    for (options, prm) in [(vec![], own), (vec!["--cap", "CAP_CHOWN"], chown)] {
        let text = exec(case, &options, &["cat", "/proc/self/status"])?.ok()?.stdout;
        for (field, expected) in [("CapInh", 0), ("CapPrm", prm), ("CapEff", prm), ("CapBnd", prm)] {
            let set = u64::from_str_radix(&kernel::field_of(&text, field)?, 16)?;
            if set != expected {
                return escaped(format!("exec {options:?}: {field} is {set:x}, not {expected:x}"));
            }
        }
        let ambient = u64::from_str_radix(&kernel::field_of(&text, "CapAmb")?, 16)?;
        ensure!(ambient & !prm == 0, "CapAmb is {ambient:x}");
    }
    case.delete()
}

/// init ends while exec looks at the container, and another process gets its number: what that leads to is not the
/// container's. The runtime stands still in between because nobody reads its warning.
/// Root of the container stops each process with the next number, until there is one.
fn stopped_while_it_joins(case: &mut Case) -> Result<()> {
    capabilities(&mut case.config, &["CAP_KILL"]);
    case.args(["sh", "-c", "p=2; while :; do kill -STOP $p 2>/dev/null && p=$((p + 1)); done"]).up()?;
    for _ in 0..5 {
        ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let running = case.spawn(["exec", "--detach", &case.id, "true"])?;
        let Ok(output) = running.wait(DEADLINE) else {
            return escaped("exec waits for a process that the container has stopped");
        };
        if output.status != 0 {
            ensure!(output.stderr.contains("is stopped by a signal"), "{:?}", output.stderr);
            return end_with_orphans(case);
        }
    }
    // It came too late each time, and stopped the program.
    end_with_orphans(case)
}

/// Its pid namespace ends when each program in it is reaped, those that `exec --detach` left to the tests too.
fn end_with_orphans(case: &Case) -> Result<()> {
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    kernel::eventually("init ends", || {
        reap_orphans();
        case.status_is("stopped").is_ok()
    })?;
    case.delete()
}

/// A hook, which is the image's program, stops init beneath it: then nobody is left who would look at its timeout.
fn stopped_while_it_starts(case: &mut Case) -> Result<()> {
    let namespaces = case.config["linux"]["namespaces"].as_array_mut().expect("a list");
    namespaces.retain(|namespace| namespace["type"] != "pid");
    let args = json!(["sh", "-c", "kill -STOP $PPID; sleep 2"]);
    case.set("/hooks", json!({"startContainer": [{"path": "/bin/sh", "args": args, "timeout": 3}]}));
    case.args(["true"]).create()?;
    ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let starting = case.spawn(["start", &case.id])?;
    let Ok(output) = starting.wait(DEADLINE) else {
        return escaped("start waits for an init that a hook has stopped, and holds the container's lock");
    };
    ensure!(output.status == 1 && output.stderr.contains("is stopped by a signal"), "{:?}", output.stderr);
    case.delete()
}

fn a_number_that_another_has(case: &mut Case) -> Result<()> {
    attacker(case)?;
    let decoy = Decoy::new(case)?;
    fs::create_dir_all(decoy.path.join("bin"))?;
    fs::copy(case.rootfs().join("bin/busybox"), decoy.path.join("bin/sh"))?;
    case.set("/linux/namespaces", json!([])).set("/mounts", json!([])).set("/hostname", json!(""));
    case.set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .set("/root/readonly", json!(false));
    let init = case.args(["sleep", "60"]).up()?;
    let process = case.dir.join("process.json");
    let asked = json!({"args": ["/bin/sh", "-c", "echo ran >/ran"], "cwd": "/", "env": [], "unheardOf": true});
    fs::write(&process, asked.to_string())?;
    let pipe = case.dir.join("stderr");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0)?;
    let ours = rustix::fs::open(&pipe, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    for size in [4096, 1] {
        while rustix::io::write(&ours, &vec![b'\n'; size]).is_ok() {}
    }
    ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    case.before = format!("exec 2>{}", pipe.display());
    let running = case.spawn(["exec", "--process", &process.to_string_lossy(), &case.id])?;
    case.before = String::new();
    kernel::eventually("the runtime writes its warning", || {
        let call = kernel::read(format!("/proc/{}/syscall", running.pid())).unwrap_or_default();
        ["1 0x2 ", "64 0x2 "].iter().any(|write| call.starts_with(write))
    })?;
    rustix::process::kill_process(Pid::from_raw(init.pid).context("a pid")?, Signal::KILL)?;
    init.wait()?;
    let mut command = std::process::Command::new(case.rootfs().join("bin/attacker"));
    command.args(["take", &init.pid.to_string()]).arg(&decoy.path).env("HULL_TEST_ID", &case.id);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut other = spawn_child(&mut command)?;
    let mut line = [0; 6];
    let taken = other.stdout.take().context("a pipe")?.read_exact(&mut line);
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = rustix::io::read(&ours, &mut chunk[..]) {
        said.extend_from_slice(&chunk[..length]);
    }
    let output = running.wait(DEADLINE);
    while let Ok(length @ 1..) = rustix::io::read(&ours, &mut chunk[..]) {
        said.extend_from_slice(&chunk[..length]);
    }
    drop(other.stdin.take());
    other.wait()?;
    forget_child(&other);
    taken.context("another process has the number")?;
    if decoy.path.join("ran").exists() || output?.status == 0 {
        return escaped("exec ran a program in the root of a process that is not the container's");
    }
    let said = String::from_utf8_lossy(&said);
    ensure!(said.contains("unheardOf") && said.contains("container not running"), "it says {:?}", said.trim());
    case.delete()
}

fn cwd_of_exec(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    case.before = "exec 3</ 4</etc".to_owned();
    for number in 3..=20 {
        for cwd in [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/etc")] {
            let output = exec(case, &["--cwd", &cwd], &["pwd", "-P"])?;
            if output.status == 0 {
                return escaped(format!("exec --cwd {cwd} ran in {:?}", output.stdout));
            }
        }
    }
    fs::copy(case.rootfs().join("bin/busybox"), case.dir.join("sh"))?;
    fs::set_permissions(case.dir.join("sh"), PermissionsExt::from_mode(0o755))?;
    case.before = format!("exec 3<{0} 4<{0} 5<{0}", case.dir.display());
    for number in 3..=12 {
        let output = exec(case, &[], &[&format!("/proc/self/fd/{number}/sh"), "-c", "echo escaped"])?;
        if output.stdout.contains("escaped") {
            return escaped(format!("exec ran a program of the host by descriptor {number}"));
        }
    }
    case.before = String::new();
    case.delete()
}

/// Ids are numbers from their first letter to their last.
fn user_of_exec(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let ids = |user: &str| exec(case, &["--user", user], &["sh", "-c", "echo $(id -u):$(id -g)"]);
    for (user, expected) in [("1", "1:0\n"), ("1:5", "1:5\n"), ("65534:65534", "65534:65534\n")] {
        let output = ids(user)?.ok()?;
        if output.stdout != expected {
            return escaped(format!("exec -u {user} runs as {:?}", output.stdout));
        }
    }
    for user in ["1x", "-1", "4294967296", "4294967295", ":5", "1:", "1:x", "0x1", " 1", "1 ", "", "+1"] {
        let output = ids(user)?;
        // An empty user may be none at all: the container's own.
        if output.status == 0 && !(user.is_empty() && output.stdout == "0:0\n") {
            return escaped(format!("exec -u {user:?} runs as {:?}", output.stdout));
        }
    }
    case.delete()
}

fn numeric_user_of_exec(case: &mut Case) -> Result<()> {
    fs::write(case.rootfs().join("etc/passwd"), "1000:x:0:0::/home/wrong:/bin/sh\nroot:x:0:0::/root:/bin/sh\n")?;
    case.args(["sleep", "60"]).up()?;
    let output = exec(case, &["--user", "1000"], &["id", "-u"])?.ok()?;
    if output.stdout != "1000\n" {
        return escaped(format!("exec -u 1000 runs as {:?}", output.stdout));
    }
    case.delete()
}

fn descriptors_of_exec(case: &mut Case) -> Result<()> {
    attacker(case)?;
    case.args(["sleep", "60"]).up()?;
    case.before = "exec 3</ 7</sys/fs/cgroup 9</etc/passwd".to_owned();
    let output = exec(case, &[], &["attacker", "fds"])?.ok()?;
    if output.stdout != "done\n" {
        return escaped(format!("the program has {:?}", output.stdout));
    }
    case.before = String::new();
    case.delete()
}

/// Numbers that were not passed are the runtime's own by then; one that was passed is the very one.
fn preserve_fds_of_exec(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let huge = super::fds::HUGE.iter().map(|count| ("exec 3</dev/null", *count));
    for (before, count) in [("", "3"), ("exec 3</dev/null", "3"), ("exec 4</dev/null", "1")].into_iter().chain(huge) {
        case.before = before.to_owned();
        let output = exec(case, &["--preserve-fds", count], &["sh", "-c", "ls -l /proc/self/fd"])?;
        if output.status == 0 {
            return escaped(format!("exec --preserve-fds={count} with {before:?} gave {:?}", output.stdout));
        }
        ensure!(output.stderr.to_lowercase().contains("fd") || case.peer.is_some(), "it says {:?}", output.stderr);
    }
    fs::write(case.dir.join("passed"), "passed\n")?;
    case.before = "exec 3<passed 4</".to_owned();
    let output = exec(case, &["--preserve-fds", "1"], &["sh", "-c", "cat <&3; [ -e /proc/self/fd/4 ] || echo end"])?;
    output.ok()?.stdout_is("passed\nend\n")?;
    case.before = String::new();
    case.delete()
}

/// When the program cannot be executed, all descriptors are closed, and there is no /proc: the error is told all the same,
/// and it is execve's own.
fn failing_execve(case: &mut Case) -> Result<()> {
    super::without_mounts(case, "/proc");
    case.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    let files: [(&str, &[u8], &str); 3] = [
        ("nothing", b"no program\n", "exec format error"),
        ("script", b"#!/no/such/interpreter\n", "no such file"),
        ("foreign", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xff\xff", "exec format error"),
    ];
    for (name, content, _) in files {
        fs::write(case.rootfs().join("bin").join(name), content)?;
        fs::set_permissions(case.rootfs().join("bin").join(name), PermissionsExt::from_mode(0o755))?;
    }
    let judge = |output: Output, words: &str| {
        ensure!(output.status != 0, "it gave status 0");
        let output = output.stderr_has(words)?;
        if case.peer.is_none() { output.one_sentence().map(drop) } else { Ok(()) }
    };
    for (name, _, words) in files {
        case.config["process"]["args"] = json!([format!("/bin/{name}")]);
        ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        judge(case.run()?, words)?;
    }
    case.config["process"]["args"] = json!(["sleep", "60"]);
    case.up()?;
    for (name, _, words) in files {
        judge(exec(case, &[], &[&format!("/bin/{name}")])?, words)?;
    }
    case.delete()
}

/// The programs of these hooks come from the image: what the program may not do they may not either.
fn limits_of_hooks(case: &mut Case) -> Result<()> {
    let hook = |script: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    case.set("/process/noNewPrivileges", json!(true));
    case.set("/hooks/startContainer", hook("grep NoNewPrivs /proc/self/status >/dev/shm/seen"));
    super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    case.script("cat /dev/shm/seen").prints("NoNewPrivs:\t1\n")?;
    let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]);
    case.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule}));
    case.set("/hooks/startContainer", hook("mkdir /dev/shm/made; exit 0")).script("ls /dev/shm");
    for no_new_privileges in [true, false] {
        super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        case.set("/process/noNewPrivileges", json!(no_new_privileges)).prints("")?;
    }
    Ok(())
}

/// Masks, read-only paths, the filter and no_new_privs hold for what joins later, too.
fn limits_of_exec(case: &mut Case) -> Result<()> {
    // First without a filter, which would not load without no_new_privs.
    let init = case.args(["sleep", "60"]).up()?;
    ensure!(kernel::status(init.pid, "NoNewPrivs")? == "1", "the program may gain privileges");
    for options in [vec![], vec!["--cap", "CAP_CHOWN"], vec!["--user", "0:0"]] {
        let output = exec(case, &options, &["grep", "NoNewPrivs", "/proc/self/status"])?.ok()?;
        if output.stdout != "NoNewPrivs:\t1\n" {
            return escaped(format!("exec {options:?} has {:?}", output.stdout));
        }
    }
    case.delete()?;
    case.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
               "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 17}]}),
    );
    case.args(["sleep", "60"]).up()?;
    let script = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; mkdir /tmp/x 2>/dev/null || echo denied; \
                  wc -c </proc/keys; echo 1 2>/dev/null >/proc/sys/net/ipv4/ip_forward || echo readonly";
    let output = exec(case, &[], &["sh", "-c", script])?.ok()?;
    ensure!(output.stdout == "NoNewPrivs:\t1\nSeccomp:\t2\ndenied\n0\nreadonly\n", "it has {:?}", output.stdout);
    case.delete()
}

/// A sibling whose name begins with the container's is not beneath it.
fn cgroup_of_exec(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let pid = case.pid()?;
    let name = format!("{}-suffix", case.id);
    let mut made = Vec::new();
    for dir in kernel::cgroups(pid)?.values() {
        let (Some(parent), true) = (dir.parent(), dir.ends_with(&case.id)) else { continue };
        if fs::create_dir(parent.join(&name)).is_ok() {
            // v1's cpuset takes nobody before it has processors and memory.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let _ = fs::read(dir.join(file)).and_then(|text| fs::write(parent.join(&name).join(file), text));
            }
            made.push(parent.join(&name));
        }
    }
    let within = exec(case, &[], &["cat", "/proc/self/cgroup"])?.ok()?.stdout;
    let up = format!("../{name}");
    let mut verdict = Ok(());
    for path in [up.as_str(), "..", "../..", "/../..", "nosuch/../../", &format!("/{up}")] {
        let output = exec(case, &["--cgroup", path], &["cat", "/proc/self/cgroup"])?;
        // The namespace of the container's cgroup shows what is above as `..`; without one a path is whole.
        let outside = output.stdout.lines().any(|line| {
            line.contains("-suffix") || line.contains("/..") || !within.lines().any(|own| line.starts_with(own))
        });
        if output.status == 0 && outside {
            verdict = escaped(format!("exec --cgroup {path} ran in {:?}", output.stdout));
        }
    }
    made.iter().for_each(|dir| drop(fs::remove_dir(dir)));
    verdict?;
    case.delete()
}
