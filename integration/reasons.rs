//! After a failure hull says what `check` knows of the step that failed: the reason behind the errno, with its place.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::harness::{Case, Need, Output, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("reasons/of_a_failed_run", of_a_failed_run).requires(Need::Root),
        test("reasons/of_a_failed_exec", of_a_failed_exec),
        test("reasons/all_that_is_wrong_with_a_config", all_that_is_wrong_with_a_config),
        test("reasons/one_rlimit_by_its_number", one_rlimit_by_its_number),
        test("reasons/how_a_foreground_program_died", how_a_foreground_program_died),
        test("reasons/of_a_death_by_the_memory_limit", of_a_death_by_the_memory_limit)
            .requires(Need::Root)
            .requires(Need::Controller("memory")),
        test("reasons/nothing_is_touched_to_find_one", nothing_is_touched_to_find_one),
    ]
    .into_iter()
    .map(|test| test.requires(Need::Hull))
    .collect()
}

/// It failed with one sentence in which each word stands, and left nothing.
fn says(case: &Case, output: Output, words: &[&str]) -> Result<()> {
    let said = output.refused()?.one_sentence()?.stderr;
    for word in words {
        ensure!(said.contains(word), "{word:?} is not in {said:?}");
    }
    let left = case.leftovers();
    ensure!(left.is_empty(), "left behind {left:?}");
    Ok(())
}

fn of_a_failed_run(case: &mut Case) -> Result<()> {
    let next = case.config["mounts"].as_array().map_or(0, Vec::len);
    let (at, busybox) = (format!("/mounts/{next}"), case.rootfs().join("bin/busybox"));
    let (outside, plain) = (case.dir.join("outside"), case.dir.join("plain"));
    fs::create_dir(&outside)?;
    fs::copy(&busybox, outside.join("true"))?;
    fs::write(&plain, "#!/bin/sh\n")?;
    let secret = case.rootfs().join("secret");
    fs::create_dir(&secret)?;
    fs::copy(&busybox, secret.join("true"))?;
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o700))?;
    // A binary of another machine (e_machine, elf(5)).
    let mut foreign = fs::read(&busybox)?;
    foreign[18..20].copy_from_slice(&[0xff, 0x7f]);
    fs::write(case.rootfs().join("foreign"), foreign)?;
    fs::set_permissions(case.rootfs().join("foreign"), PermissionsExt::from_mode(0o755))?;
    let (outside, plain) = (outside.to_string_lossy().into_owned(), plain.to_string_lossy().into_owned());
    let bind = |source: &str, to: &str, option: &str| json!({"destination": to, "type": "bind", "source": source, "options": ["bind", option]});
    let overlay = json!({"destination": "/mnt", "type": "overlay", "source": "overlay", "options": ["lowerdir=/etc:/nosuch/lower"]});
    let no_execve =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ERRNO"}]});
    let table = [
        (vec![("/mounts", bind(&outside, "/mnt", "noexec"))], "/mnt/true", vec!["permission denied", "noexec", &at]),
        (vec![("/mounts", bind(&outside, "/etc/passwd", "rw"))], "true", vec!["a directory, ", "on a file", &at]),
        (vec![("/mounts", overlay)], "true", vec!["lowerdir of the overlay: /nosuch/lower", &at]),
        (vec![("/linux/seccomp", no_execve)], "true", vec!["execve gets SCMP_ACT_ERRNO", "/linux/seccomp/syscalls/0"]),
        (vec![], "/foreign", vec!["another architecture", "machine 32767"]),
        (vec![("/hooks", json!({"createRuntime": [{"path": plain}]}))], "true", vec!["/hooks/createRuntime/0"]),
        (
            vec![("/process/user", json!({"uid": 1000, "gid": 1000})), ("/process/capabilities", json!({}))],
            "/secret/true",
            vec!["permission denied", "user 1000 may not enter /secret (mode 0700, owner 0:0)"],
        ),
    ];
    let good = case.config.clone();
    for (changes, program, words) in table {
        case.config = good.clone();
        for (place, value) in changes.clone() {
            match place {
                "/mounts" => case.mount(value),
                place => case.set(place, value),
            };
        }
        let output = case.args([program]).run()?;
        says(case, output, &words).with_context(|| format!("{changes:?}, {program}"))?;
    }
    case.config = good;
    case.script("echo fine").prints("fine\n")
}

fn of_a_failed_exec(case: &mut Case) -> Result<()> {
    let outside = case.dir.join("outside");
    fs::create_dir(&outside)?;
    fs::copy(case.rootfs().join("bin/busybox"), outside.join("true"))?;
    let options = ["bind", "noexec"];
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": outside, "options": options}));
    case.args(["sleep", "60"]).up()?;
    let output = case.verb(["exec", &case.id, "/mnt/true"])?.status(255)?.one_sentence()?;
    let said = output.stderr_has("permission denied")?.stderr_has("lies in a mount with noexec")?.stderr;
    // What it is told of a program that is not there it knows already.
    let missing = case.verb(["exec", &case.id, "/no/such"])?.status(255)?.one_sentence()?.stderr;
    case.delete()?;
    ensure!(said.contains("/mnt/true") && missing.matches("/no/such").count() <= 2, "{said:?}, {missing:?}");
    Ok(())
}

fn all_that_is_wrong_with_a_config(case: &mut Case) -> Result<()> {
    let good = case.config.clone();
    case.set("/process/cwd", json!("relative")).set("/linux/rootfsPropagation", json!("nosuch"));
    case.set("/hostname", json!(7));
    let file = case.bundle().join("config.json").to_string_lossy().into_owned();
    let output = case.run()?;
    says(case, output, &[&file, "/hostname: ", "/process/cwd: ", "/linux/rootfsPropagation: "])?;
    // Of a great many some, and where the others are.
    case.config = good;
    let relative: Vec<_> = (0..60).map(|number| json!(format!("relative{number}"))).collect();
    case.set("/linux/maskedPaths", json!(relative));
    let output = case.run()?;
    let said = output.stderr.clone();
    says(case, output, &["/linux/maskedPaths/0", "/linux/maskedPaths/19", "and 40 more: `hull check` lists all"])?;
    ensure!(!said.contains("/linux/maskedPaths/20"), "{said:?}");
    Ok(())
}

fn one_rlimit_by_its_number(case: &mut Case) -> Result<()> {
    let value = u64::MAX - 1;
    case.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_NOFILE", "soft": 7, "hard": value}]),
    );
    let output = case.run()?;
    says(case, output, &["RLIMIT_NOFILE", "/process/rlimits/1", &format!("7:{value}")])
}

/// A hostile image: what is looked at after a failure is neither opened for writing, waited for, nor followed out of the root.
fn nothing_is_touched_to_find_one(case: &mut Case) -> Result<()> {
    let pipe = case.rootfs().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o755.into(), 0)?;
    std::os::unix::fs::symlink("../../../../../../etc/passwd", case.rootfs().join("out"))?;
    std::os::unix::fs::symlink("loop", case.rootfs().join("loop"))?;
    for program in ["/pipe", "/out", "/loop", "/pipe/x"] {
        let output = case.args([program]).run()?;
        says(case, output, &[program]).with_context(|| program.to_owned())?;
    }
    ensure!(!kernel::read(case.rootfs().join("etc/passwd"))?.is_empty(), "the image was changed");
    Ok(())
}

/// One line with the rule or the signal, and none where the program ended by itself or hull passed the signal on.
fn how_a_foreground_program_died(case: &mut Case) -> Result<()> {
    let rules = json!([{"names": ["read"], "action": "SCMP_ACT_ALLOW"},
                       {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]);
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules});
    let good = case.config.clone();
    case.set("/linux/seccomp", profile).set("/process/noNewPrivileges", json!(true));
    let died = case.args(["mkdir", "/dev/shm/x"]).run()?.status(128 + 31)?.one_sentence()?;
    let died = died.stderr_has("killed by SIGSYS: ")?.stderr_has("/linux/seccomp")?.stderr;
    // Where the kernel's log is there to be read, it names the call.
    let named = fs::File::open("/dev/kmsg").is_ok() && !died.contains("may name it");
    ensure!(!named || died.contains("mkdir") && died.contains("/linux/seccomp/syscalls/1"), "{died:?}");
    case.config = good;
    case.args(["sleep", "60"]).up()?;
    let died = case.verb(["exec", &case.id, "sh", "-c", "kill -SEGV $$"])?.status(128 + 11)?.one_sentence()?;
    died.stderr_has("killed by SIGSEGV")?;
    for (script, status) in [("exit 139", 139), ("exit 137", 137)] {
        let left = case.verb(["exec", &case.id, "sh", "-c", script])?.status(status)?;
        ensure!(left.stderr.is_empty(), "{script}: {:?}", left.stderr);
    }
    // Passed on by hull: whoever sent it knows.
    let waiting = case.spawn(["exec", &case.id, "sh", "-c", "echo up; exec sleep 60"])?;
    kernel::eventually("the program runs", || waiting.output().contains("up"))?;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(waiting.pid()).context("a pid")?,
        rustix::process::Signal::TERM,
    )?;
    let told = waiting.wait(std::time::Duration::from_secs(20))?.status(128 + 15)?;
    ensure!(told.stderr.is_empty(), "{:?}", told.stderr);
    case.delete()
}

fn of_a_death_by_the_memory_limit(case: &mut Case) -> Result<()> {
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}));
    let limit = 32 << 20;
    case.set("/linux/resources/memory", json!({"limit": limit, "swap": limit}));
    let died = case.args(["dd", "if=/dev/zero", "of=/mnt/big", "bs=1M", "count=200"]).run()?.status(137)?;
    died.stderr_has(&format!("(out of memory): /linux/resources/memory/limit is {limit} bytes")).map(drop)
}
