//! Descriptors of the host's directories that a container could use: as its working directory, or by inheriting them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Decoy, attack, attacker, escaped};
use crate::harness::{Case, Need, Output, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("security/CVE-2024-21626/the_cwd_is_a_descriptor", cwd_is_a_descriptor),
        test("security/CVE-2024-21626/the_cwd_is_a_descriptor/userns", |case| {
            cwd_is_a_descriptor(case.user_namespace()?)
        })
        .requires(Need::Root),
        test("security/CVE-2024-21626/directories_are_made_behind_a_descriptor", made_behind_descriptor),
        test("security/CVE-2024-21626/the_program_is_behind_a_descriptor", program_behind_descriptor),
        test("security/CVE-2024-21626/links_through_descriptors", links_through_descriptors),
        test("security/CVE-2024-21626/links_through_descriptors/userns", |case| {
            links_through_descriptors(case.user_namespace()?)
        })
        .requires(Need::Root),
        test("security/CVE-2024-21626/links_of_exec_through_descriptors", links_of_exec).requires(Need::Verb("exec")),
        test("security/CVE-2024-21626/links_of_exec_through_descriptors/userns", |case| {
            links_of_exec(case.user_namespace()?)
        })
        .requires(Need::Root)
        .requires(Need::Verb("exec")),
        test("security/CVE-2026-78408/no_descriptor_leaks", no_descriptor_leaks).requires(Need::Tool("gcc")),
        test("security/CVE-2026-78408/no_descriptor_leaks/userns", |case| no_descriptor_leaks(case.user_namespace()?))
            .requires(Need::Root)
            .requires(Need::Tool("gcc")),
        test("security/CVE-2026-78408/no_descriptor_leaks/one_by_one", one_by_one)
            .requires(Need::Hull)
            .requires(Need::NoFilter)
            .requires(Need::Tool("gcc")),
        test("security/runc-5474/preserve_fds_that_are_not_there", preserve_fds_that_are_not_there),
        test("security/runc-5474/listen_fds_that_are_not_there", listen_fds_that_are_not_there),
    ]
}

/// The numbers that a runtime's own descriptors could have; the caller's are among them, too.
fn cwd_is_a_descriptor(case: &mut Case) -> Result<()> {
    case.before = "exec 3</ 4</etc 5</".to_owned();
    for number in 3..=20 {
        for cwd in
            [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/etc"), format!("/proc/1/fd/{number}")]
        {
            case.set("/process/cwd", json!(cwd));
            let made = attack(case, &[], |pid, _| {
                let Some(pid) = pid else { return Ok(()) };
                let link = fs::read_link(format!("/proc/{pid}/cwd"))?;
                escaped(format!("cwd {cwd} was taken: {}", link.display()))
            })?;
            ensure!(!made, "cwd {cwd} was taken");
        }
    }
    Ok(())
}

/// A working directory that is missing is made: never beneath a directory of the host that is still open.
fn made_behind_descriptor(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let cgroups = || kernel::cgroups_named("hull-evil-directory");
    case.set("/root/readonly", json!(false));
    case.before = format!("exec 3<{0} 4<{0} 5<{0}", decoy.path.display());
    for number in 3..=20 {
        case.set("/process/cwd", json!(format!("/proc/self/fd/{number}/hull-evil-directory")));
        attack(case, &[], |_, _| {
            decoy.unchanged("a directory was made")?;
            let found = cgroups();
            found.iter().for_each(|path| drop(fs::remove_dir(path)));
            if !found.is_empty() {
                return escaped(format!("a cgroup was made on the host: {found:?}"));
            }
            if fs::exists(case.root().join(&case.id).join("hull-evil-directory"))? {
                return escaped("a directory was made in the state directory");
            }
            Ok(())
        })?;
        let stray = case.root().join(&case.id).join("hull-evil-directory");
        if stray.exists() {
            let _ = fs::remove_dir(&stray);
            return escaped("a directory was made in the state directory");
        }
    }
    Ok(())
}

/// The program's own path leads through a descriptor to a file of the host: it is not executed.
fn program_behind_descriptor(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    fs::copy(case.rootfs().join("bin/busybox"), case.dir.join("sh"))?;
    fs::set_permissions(case.dir.join("sh"), PermissionsExt::from_mode(0o755))?;
    case.before = format!("exec 3<{0} 4<{0} 5<{0}", case.dir.display());
    for number in 3..=20 {
        case.args([&format!("/proc/self/fd/{number}/sh"), "-c", "echo escaped"]);
        super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let output = case.run()?;
        if output.stdout.contains("escaped") {
            return escaped(format!("a program of the host ran by descriptor {number}"));
        }
        ensure!(output.status != 0, "it gave status 0");
    }
    decoy.unchanged("a program behind a descriptor")
}

/// How many numbers a runtime's descriptors may have.
const NUMBERS: std::ops::Range<u32> = 0..40;

/// Links of the image, one for each number a descriptor may have: were it a directory of the host's, whichever, the link
/// would lead from it to a directory with a program and a passwd file beside the bundle. Gives them as a PATH.
fn links(case: &Case) -> Result<String> {
    let host = case.dir.join("host");
    fs::create_dir_all(&host)?;
    fs::copy(case.rootfs().join("bin/busybox"), host.join("sh"))?;
    fs::set_permissions(host.join("sh"), PermissionsExt::from_mode(0o755))?;
    fs::write(host.join("passwd"), "root:x:0:0:root:/escaped:/bin/sh\n")?;
    fs::create_dir_all(case.rootfs().join("links"))?;
    let up = "/..".repeat(8);
    for number in NUMBERS {
        let target = format!("/proc/self/fd/{number}{up}{}", host.display());
        symlink(target, case.rootfs().join(format!("links/{number}")))?;
    }
    Ok(NUMBERS.map(|number| format!("/links/{number}")).collect::<Vec<_>>().join(":"))
}

/// What an outer filter may refuse: what stands in for a pidfd, say, is a directory of the host's /proc.
fn filters(case: &Case) -> Vec<Option<String>> {
    if case.peer.is_some() {
        return vec![None];
    }
    if let Ok(denied) = std::env::var("HULL_TEST_DENY") {
        return vec![Some(denied)];
    }
    // What an ordinary user lacks anyway nothing stands in for.
    let root = rustix::process::geteuid().is_root();
    let groups = if root { crate::deny::groups() } else { vec!["openat2", "pidfd_open"] };
    let both = groups.iter().flat_map(|calls| ["ENOSYS", "EPERM"].map(|errno| Some(format!("{calls}:{errno}"))));
    std::iter::once(None).chain(both).collect()
}

/// The program behind a link through a descriptor must not run, whatever an outer filter refuses.
fn not_behind(output: &Output, denied: Option<&str>, what: &str) -> Result<()> {
    let denied = denied.unwrap_or("nothing");
    if output.stdout.contains("escaped") || output.stderr.contains("escaped") {
        return escaped(format!("{what} lies behind a descriptor of the host, refused is {denied}"));
    }
    ensure!(output.status != 0, "{what}: it gave status 0, refused is {denied}");
    Ok(())
}

/// init, and the startContainer hooks that it runs.
fn links_through_descriptors(case: &mut Case) -> Result<()> {
    let path = links(case)?;
    let own = case.config["process"]["env"].clone();
    for denied in filters(case) {
        case.denied.clone_from(&denied);
        let denied = denied.as_deref();
        case.set("/process/env", own.clone()).args(["true"]).run()?.ok()?;
        case.set("/process/env", json!([format!("PATH={path}"), format!("HULL_TEST_ID={}", case.id)]));
        super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        not_behind(&case.args(["sh", "-c", "echo escaped"]).run()?, denied, "the program")?;
        case.set("/process/env", own.clone()).args(["true"]);
        // A hook has one path: fewer numbers, and the filters that change what is open.
        if denied.is_none_or(|denied| denied.contains("pidfd_open")) {
            for number in NUMBERS.take(20) {
                let script = "echo escaped >&2; exit 1";
                let hook = json!({"path": format!("/links/{number}/sh"), "args": ["sh", "-c", script]});
                case.set("/hooks", json!({"startContainer": [hook]}));
                super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                not_behind(&case.run()?, denied, "a startContainer hook")?;
            }
            case.edit(|config| drop(config.as_object_mut().expect("an object").remove("hooks")));
        }
    }
    Ok(())
}

/// What joins: its program, its working directory, and the passwd file that gives it a HOME.
fn links_of_exec(case: &mut Case) -> Result<()> {
    let path = links(case)?;
    case.args(["sleep", "60"]).up()?;
    let passwd = case.rootfs().join("etc/passwd");
    let exec = |case: &Case, options: &[&str], args: &[&str]| {
        super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        case.verb([&["exec"], options, &[case.id.as_str()], args].concat())
    };
    for denied in filters(case) {
        case.denied.clone_from(&denied);
        let denied = denied.as_deref();
        exec(case, &[], &["true"])?.ok()?;
        let output = exec(case, &["--env", &format!("PATH={path}")], &["sh", "-c", "echo escaped"])?;
        not_behind(&output, denied, "the program of exec")?;
        if denied.is_some_and(|denied| !denied.contains("pidfd_open")) {
            continue;
        }
        for number in NUMBERS.take(20) {
            let cwd = format!("/links/{number}");
            let output = exec(case, &["--cwd", &cwd], &["sh", "-c", "cat passwd"])?;
            not_behind(&output, denied, "the working directory of exec")?;
            fs::remove_file(&passwd)?;
            symlink(format!("/links/{number}/passwd"), &passwd)?;
            let output = exec(case, &[], &["sh", "-c", "echo $HOME"])?.ok()?;
            if output.stdout.contains("escaped") {
                return escaped(format!("HOME is from a passwd file of the host, refused is {denied:?}"));
            }
        }
    }
    case.denied = None;
    case.delete()
}

fn no_descriptor_leaks(case: &mut Case) -> Result<()> {
    attacker(case)?;
    // The caller's own descriptors, one of them a directory of cgroups, are not for the container.
    case.before = "exec 3</ 7</sys/fs/cgroup 9</etc/passwd".to_owned();
    super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let output = case.args(["attacker", "fds"]).run()?.ok()?;
    if output.stdout != "done\n" {
        return escaped(format!("the program has {:?}", output.stdout));
    }
    let init = case.args(["sleep", "60"]).up()?;
    let mut numbers: Vec<_> = fs::read_dir(format!("/proc/{}/fd", init.pid))?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    numbers.sort();
    ensure!(numbers == ["0", "1", "2"], "the program has {numbers:?}");
    case.delete()
}

/// Where close_range is refused: by the list in /proc, or, where the container has none or another process's, number by number.
fn one_by_one(case: &mut Case) -> Result<()> {
    let config = case.config.clone();
    for errno in ["ENOSYS", "EPERM"] {
        case.deny(&format!("close_range:{errno}"));
        case.config = config.clone();
        no_descriptor_leaks(case)?;
        // Without a procfs, and with one that shows other descriptors.
        case.edit(|config| {
            config["mounts"].as_array_mut().expect("mounts are a list").retain(|mount| mount["destination"] != "/proc");
            for key in ["maskedPaths", "readonlyPaths"] {
                config["linux"].as_object_mut().expect("an object").remove(key);
            }
        });
        no_descriptor_leaks(case)?;
        fs::create_dir_all(case.rootfs().join("proc/self/fd"))?;
        fs::write(case.rootfs().join("proc/self/fd/0"), "")?;
        no_descriptor_leaks(case)?;
        fs::remove_dir_all(case.rootfs().join("proc/self"))?;
    }
    case.denied = None;
    Ok(())
}

/// Counts that wrap around in 32 bits, with a sign or without, alone or with 3 added.
pub const HUGE: [&str; 10] = [
    "2147483644",
    "2147483645",
    "2147483646",
    "2147483648",
    "4294967293",
    "4294967294",
    "4294967295",
    "4294967297",
    "18446744073709551617",
    "-1",
];

/// Also runc 1.5.2: numbers that were not passed are the runtime's own by then.
fn preserve_fds_that_are_not_there(case: &mut Case) -> Result<()> {
    let huge = HUGE.iter().map(|count| ("exec 3</dev/null", *count));
    for (before, count) in
        [("", "3"), ("exec 3</dev/null", "3"), ("exec 4</dev/null", "1"), ("exec 3</dev/null", "250")]
            .into_iter()
            .chain(huge)
    {
        case.before = before.to_owned();
        let made = attack(case, &["--preserve-fds", count], |pid, output| {
            let Some(pid) = pid else {
                ensure!(output.stderr.to_lowercase().contains("fd"), "it says {:?}", output.stderr);
                return Ok(());
            };
            let open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten().collect();
            escaped(format!("--preserve-fds={count} with {before:?} gave {} descriptors", open.len()))
        })?;
        ensure!(!made, "it was taken");
    }
    // One that is there reaches the program, and it is the very one.
    let file = case.dir.join("passed");
    fs::write(&file, "passed\n")?;
    case.before = format!("exec 3<{} 4</", file.display());
    let bundle = case.bundle();
    case.args(["sleep", "60"]).write_config()?;
    let pid_file = case.dir.join("pid");
    case.verb([
        "run",
        "-d",
        "--preserve-fds",
        "1",
        "--pid-file",
        &pid_file.to_string_lossy(),
        "--bundle",
        &bundle.to_string_lossy(),
        &case.id,
    ])?
    .ok()?;
    let pid = case.pid()?;
    let passed = fs::metadata(format!("/proc/{pid}/fd/3"))?;
    ensure!(passed.ino() == fs::metadata(&file)?.ino(), "descriptor 3 is another file");
    ensure!(!fs::exists(format!("/proc/{pid}/fd/4"))?, "descriptor 4 came along");
    case.delete()
}

/// The same by the environment (sd_listen_fds(3)), alone and on top of the option. What is no number at all may be left out:
/// then the program has its standard descriptors, and no more.
fn listen_fds_that_are_not_there(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    for (count, option) in HUGE.iter().map(|count| (*count, "0")).chain([("2147483644", "1"), ("1", "1"), ("x", "0")]) {
        // The shell keeps its pid through exec, so LISTEN_PID is the runtime's own.
        case.before = format!("exec 3</dev/null; export LISTEN_FDS={count} LISTEN_PID=$$");
        attack(case, &["--preserve-fds", option], |pid, _| {
            let Some(pid) = pid else { return Ok(()) };
            // A directory of the host among what the waiting init holds is setup's.
            for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
                if fs::metadata(entry.path()).is_ok_and(|file| file.is_dir()) {
                    let path = fs::read_link(entry.path())?;
                    return escaped(format!("LISTEN_FDS={count} leaves {} open", path.display()));
                }
            }
            case.verb(["start", &case.id])?.ok()?;
            let mut open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten().map(|e| e.file_name()).collect();
            open.sort();
            if open != ["0", "1", "2"] {
                return escaped(format!("LISTEN_FDS={count} with --preserve-fds={option} gave {open:?}"));
            }
            Ok(())
        })?;
    }
    Ok(())
}
