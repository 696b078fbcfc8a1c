//! The process: what the program finds when it begins, and what /proc says about it from outside.
//! config.md of the runtime specification, "process"; credentials(7), capabilities(7), signal(7).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("process/cwd_is_the_one_asked_for", cwd_is_the_one_asked_for),
        test("process/a_missing_cwd_is_made", a_missing_cwd_is_made),
        test("process/a_missing_cwd_is_made_in_a_readonly_root", a_missing_cwd_is_made_in_a_readonly_root)
            .peer("crun", "1.8 makes it too late"),
        test("process/env_is_exactly_the_configs", env_is_exactly_the_configs),
        test("process/the_last_of_duplicate_names_wins", the_last_of_duplicate_names_wins),
        test("process/home_comes_from_passwd", home_comes_from_passwd)
            .peer("crun", "leaves HOME empty for an unknown user"),
        test("process/uid_gid_and_additional_gids", uid_gid_and_additional_gids).requires(Need::Root),
        test("process/the_callers_groups_are_kept_on_request", the_callers_groups_are_kept_on_request)
            .requires(Need::Root)
            .requires(Need::Tool("setpriv"))
            .peer("runc", "has no such annotation"),
        test("process/umask_defaults_to_0022", umask_defaults_to_0022),
        test("process/an_id_that_means_unchanged_is_refused", an_id_that_means_unchanged)
            .peer("crun", "1.8 runs the program as root")
            .peer("runc", "does not name the place"),
        test("process/umask_is_the_one_asked_for", umask_is_the_one_asked_for),
        test("process/rlimits_are_set", rlimits_are_set),
        test("process/hard_limits_are_raised", hard_limits_are_raised).requires(Need::SysResource),
        test("process/hard_limits_are_raised/userns", |case| hard_limits_are_raised(case.user_namespace()?))
            .requires(Need::SysResource),
        test("process/capabilities_are_the_five_sets", capabilities_are_the_five_sets).requires(Need::Root),
        test("process/what_cannot_be_granted_is_a_warning", what_cannot_be_granted)
            .requires(Need::Root)
            .peer("*", "fails with capset's EPERM, against config.md"),
        test("process/absent_capabilities_mean_none", absent_capabilities_mean_none),
        test("process/a_user_keeps_only_ambient_capabilities", a_user_keeps_only_ambient_capabilities)
            .requires(Need::Root),
        test("process/no_new_privs_has_the_configs_value", no_new_privs_has_the_configs_value),
        test("process/a_created_init_holds_no_more_capabilities", a_created_init_holds_no_more_capabilities)
            .requires(Need::Root),
        test("process/oom_score_adj_is_raised", oom_score_adj_is_raised),
        test("process/signals_are_unblocked_and_default", signals_are_unblocked_and_default),
        test("process/the_program_leads_a_session", the_program_leads_a_session),
        test("process/no_descriptor_leaks_in", no_descriptor_leaks_in),
        test("process/preserve_fds_passes_them_on", preserve_fds_passes_them_on),
        test("process/missing_preserved_fds_are_refused", missing_preserved_fds_are_refused)
            .peer("crun", "ignores them"),
        test("process/listen_fds_reach_the_program", listen_fds_reach_the_program).peer("crun", "passes no LISTEN_PID"),
        test("process/stdio_belongs_to_the_user", stdio_belongs_to_the_user).requires(Need::Root),
        test("process/a_file_open_for_reading_keeps_its_owner", a_file_open_for_reading_keeps_its_owner)
            .requires(Need::Root)
            .peer("crun", "chowns every descriptor of stdio"),
        test("process/stdio_on_dev_null_can_be_written", stdio_on_dev_null_can_be_written)
            .peer("crun", "keeps the caller's descriptor"),
        test("process/args_are_looked_up_in_the_containers_path", args_are_looked_up_in_the_containers_path),
        test("process/a_script_without_interpreter_is_no_shell_script", a_script_without_interpreter),
        test("process/no_variable_of_the_caller_leaks_in", no_variable_of_the_caller_leaks_in),
        test("process/dev_fd_links_work", dev_fd_links_work),
        test("process/runs_on_all_cpus", runs_on_all_cpus).peer("*", "runc resets it since 1.4"),
        test("process/nice_and_io_priority", nice_and_io_priority)
            .requires(Need::Root)
            .peer("*", "newer than the peer"),
        test("process/execs_into_another_binary", execs_into_another_binary),
    ]
}

/// containerd's shim gives a program without output a /dev/null that is open for reading only.
fn stdio_on_dev_null_can_be_written(case: &mut Case) -> Result<()> {
    case.before = "exec </dev/null >/dev/null 2>/dev/null 1</dev/null 2</dev/null".into();
    case.script("echo printed && echo and said >&2").run()?.ok().map(drop)
}

/// The text of /proc/self/status as the program itself reads it, being pid 1.
fn status_inside(case: &mut Case) -> Result<String> {
    Ok(case.args(["cat", "/proc/self/status"]).run()?.ok()?.stdout)
}

fn cwd_is_the_one_asked_for(case: &mut Case) -> Result<()> {
    case.set("/process/cwd", json!("/var")).args(["pwd"]).prints("/var\n")
}

fn a_missing_cwd_is_made_in_a_readonly_root(case: &mut Case) -> Result<()> {
    case.set("/root/readonly", json!(true)).set("/process/cwd", json!("/made/for/me"));
    case.script("pwd; touch here 2>/dev/null || echo readonly").prints("/made/for/me\nreadonly\n")
}

fn a_missing_cwd_is_made(case: &mut Case) -> Result<()> {
    case.set("/root/readonly", json!(false)).set("/process/cwd", json!("/made/for/me"));
    case.args(["pwd"]).prints("/made/for/me\n")?;
    let made = fs::metadata(case.rootfs().join("made/for/me"))?;
    ensure!(made.mode() & 0o777 == 0o755, "its mode is {:o}", made.mode());
    Ok(())
}

fn env_is_exactly_the_configs(case: &mut Case) -> Result<()> {
    case.set("/process/env", json!(["PATH=/bin", "A=1", "EMPTY=", "SPACE=a b=c", "HOME=/elsewhere"]));
    case.args(["env"]);
    let mut lines: Vec<String> = case.run()?.ok()?.stdout.lines().map(str::to_owned).collect();
    lines.sort();
    ensure!(lines == ["A=1", "EMPTY=", "HOME=/elsewhere", "PATH=/bin", "SPACE=a b=c"], "it is {lines:?}");
    Ok(())
}

fn the_last_of_duplicate_names_wins(case: &mut Case) -> Result<()> {
    case.set("/process/env", json!(["PATH=/bin", "A=first", "B=b", "A=last"]));
    case.args(["cat", "/proc/self/environ"]);
    let text = case.run()?.ok()?.stdout;
    let found: Vec<&str> = text.split('\0').filter(|entry| entry.starts_with("A=")).collect();
    ensure!(found == ["A=last"], "environ has {found:?}");
    Ok(())
}

fn home_comes_from_passwd(case: &mut Case) -> Result<()> {
    case.script("echo $HOME").prints("/root\n")?;
    if rustix::process::geteuid().is_root() {
        case.set("/process/user", json!({"uid": 1000, "gid": 1000})).prints("/home/user\n")?;
        case.set("/process/user", json!({"uid": 4321, "gid": 1000})).prints("/\n")?;
    }
    Ok(())
}

/// setresuid(2) takes 4294967295 for "leave it as it is": the program would run as root.
fn an_id_that_means_unchanged(case: &mut Case) -> Result<()> {
    let user = case.config["process"]["user"].clone();
    for (field, value) in [
        ("uid", json!(4_294_967_295_u32)),
        ("gid", json!(4_294_967_295_u32)),
        ("additionalGids/0", json!([4_294_967_295_u32])),
    ] {
        let (name, _) = field.split_once('/').unwrap_or((field, ""));
        case.set("/process/user", user.clone()).set(&format!("/process/user/{name}"), value);
        case.run()?.refused()?.stderr_has(&format!("/process/user/{field}: 4294967295"))?.one_sentence()?;
    }
    Ok(())
}

fn uid_gid_and_additional_gids(case: &mut Case) -> Result<()> {
    case.set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 7, 2_000_000_000]}));
    let init = case.args(["sleep", "60"]).up()?;
    ensure!(kernel::status(init.pid, "Uid")? == "1000\t1000\t1000\t1000", "uid");
    ensure!(kernel::status(init.pid, "Gid")? == "1001\t1001\t1001\t1001", "gid");
    let groups = kernel::status(init.pid, "Groups")?;
    let mut groups: Vec<u32> = groups.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    groups.retain(|group| *group != 1001);
    groups.sort_unstable();
    ensure!(groups == [5, 7, 2_000_000_000], "groups {groups:?}");
    case.delete()?;
    // No group of the caller reaches the program.
    case.set("/process/user", json!({"uid": 1000, "gid": 1001}));
    let groups = kernel::field_of(&status_inside(case)?, "Groups")?;
    ensure!(groups.is_empty() || groups == "1001", "groups {groups:?}");
    Ok(())
}

fn the_callers_groups_are_kept_on_request(case: &mut Case) -> Result<()> {
    case.before = "set -- setpriv --groups 4242,4343 \"$@\"".to_owned();
    case.set("/process/user", json!({"uid": 1000, "gid": 1001}));
    for (value, expected) in [("1", "1001 4242 4343"), ("0", "1001")] {
        case.set("/annotations", json!({"run.oci.keep_original_groups": value}));
        let mut groups: Vec<u32> =
            case.args(["id", "-G"]).run()?.ok()?.stdout.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        groups.sort_unstable();
        let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
        ensure!(groups.join(" ") == expected, "with {value} the groups are {groups:?}");
    }
    Ok(())
}

fn umask_defaults_to_0022(case: &mut Case) -> Result<()> {
    case.before = "umask 0".to_owned();
    case.script("umask").prints("0022\n")
}

fn umask_is_the_one_asked_for(case: &mut Case) -> Result<()> {
    case.set("/process/user/umask", json!(0o27)).script("umask").prints("0027\n")?;
    case.set("/process/user/umask", json!(0)).prints("0000\n")
}

/// The caller's limits are lower than the config's, and the program has no CAP_SYS_RESOURCE.
fn hard_limits_are_raised(case: &mut Case) -> Result<()> {
    case.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 4000}]));
    case.before = "ulimit -n 500".to_owned();
    let init = case.args(["sleep", "60"]).up()?;
    let limits = kernel::read(format!("/proc/{}/limits", init.pid))?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("no such line")?;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    ensure!(words[3..5] == ["10", "4000"], "its limits are {line:?}");
    case.verb(["exec", &case.id, "sh", "-c", "ulimit -Sn; ulimit -Hn"])?.ok()?.stdout_is("10\n4000\n")?;
    case.delete()
}

fn rlimits_are_set(case: &mut Case) -> Result<()> {
    case.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
               {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152}]),
    );
    let init = case.args(["sleep", "60"]).up()?;
    let limits = kernel::read(format!("/proc/{}/limits", init.pid))?;
    for (name, soft, hard) in
        [("Max open files", "100", "200"), ("Max core file size", "0", "0"), ("Max stack size", "1048576", "2097152")]
    {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).context(name)?;
        let mut words = line.split_whitespace();
        ensure!(words.next() == Some(soft) && words.next() == Some(hard), "{name}: {line}");
    }
    case.delete()
}

/// The capability sets of a text of the form of /proc/PID/status.
fn cap_sets(text: &str) -> Result<BTreeMap<&'static str, u64>> {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .into_iter()
        .map(|field| Ok((field, u64::from_str_radix(&kernel::field_of(text, field)?, 16)?)))
        .collect()
}

const KILL: u64 = 1 << 5;
const SETUID: u64 = 1 << 7;
const NET_RAW: u64 = 1 << 13;
const CHROOT: u64 = 1 << 18;

fn capabilities_are_the_five_sets(case: &mut Case) -> Result<()> {
    case.set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_KILL", "CAP_SETUID", "CAP_NET_RAW", "CAP_SYS_CHROOT"],
            "permitted": ["CAP_KILL", "CAP_SETUID", "CAP_NET_RAW"],
            "effective": ["CAP_KILL", "CAP_NET_RAW"],
            "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
            "ambient": ["CAP_KILL"]
        }),
    );
    // An ordinary user keeps only the ambient ones over execve; root, without new privileges, the permitted ones.
    case.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let sets = cap_sets(&status_inside(case)?)?;
    let all = KILL | SETUID | NET_RAW | CHROOT;
    let expected = [("CapBnd", all), ("CapInh", KILL | NET_RAW), ("CapAmb", KILL), ("CapPrm", KILL), ("CapEff", KILL)];
    ensure!(sets == BTreeMap::from(expected), "uid 1000 has {sets:x?}");
    case.set("/process/user", json!({"uid": 0, "gid": 0}));
    let init = case.args(["sleep", "60"]).up()?;
    let sets = cap_sets(&kernel::read(format!("/proc/{}/status", init.pid))?)?;
    ensure!(sets["CapBnd"] == all && sets["CapInh"] == KILL | NET_RAW, "root has {sets:x?}");
    ensure!(sets["CapPrm"] == KILL | SETUID | NET_RAW && sets["CapEff"] & !sets["CapPrm"] == 0, "root has {sets:x?}");
    ensure!(sets["CapEff"] & (KILL | NET_RAW) == KILL | NET_RAW, "root has {sets:x?}");
    case.delete()
}

/// config.md#linux-process: capabilities that cannot be granted are warned of, and no reason to fail.
fn what_cannot_be_granted(case: &mut Case) -> Result<()> {
    for (sets, field, word) in [
        (
            json!({"bounding": ["CAP_KILL"], "inheritable": ["CAP_CHOWN"]}),
            "CapInh",
            "/process/capabilities/inheritable",
        ),
        (json!({"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"]}), "CapEff", "/process/capabilities/effective"),
        // buildah sends such a list with every container: a word for the log alone.
        (json!({"bounding": ["CAP_KILL"], "ambient": ["CAP_KILL"]}), "CapAmb", ""),
    ] {
        case.set("/process/capabilities", sets).args(["cat", "/proc/self/status"]);
        let output = case.run()?.ok()?.stderr_has(word)?;
        ensure!(!word.is_empty() || case.peer.is_some() || output.stderr.is_empty(), "{field}: {:?}", output.stderr);
        let set = kernel::field_of(&output.stdout, field)?;
        ensure!(u64::from_str_radix(&set, 16)? == 0, "{field} is {set}");
    }
    Ok(())
}

fn absent_capabilities_mean_none(case: &mut Case) -> Result<()> {
    case.edit(|config| {
        config["process"].as_object_mut().expect("an object").remove("capabilities");
    });
    let sets = cap_sets(&status_inside(case)?)?;
    ensure!(sets.values().all(|set| *set == 0), "there are {sets:x?}");
    Ok(())
}

fn a_user_keeps_only_ambient_capabilities(case: &mut Case) -> Result<()> {
    case.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let sets = cap_sets(&status_inside(case)?)?;
    ensure!(sets["CapEff"] == 0 && sets["CapPrm"] == 0 && sets["CapAmb"] == 0, "there are {sets:x?}");
    Ok(())
}

fn no_new_privs_has_the_configs_value(case: &mut Case) -> Result<()> {
    for (value, expected) in [(true, "1"), (false, "0")] {
        case.set("/process/noNewPrivileges", json!(value));
        let found = kernel::field_of(&status_inside(case)?, "NoNewPrivs")?;
        ensure!(found == expected, "noNewPrivileges {value} gives {found}");
    }
    Ok(())
}

fn a_created_init_holds_no_more_capabilities(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).create()?;
    let allowed = KILL | 1 << 29 | 1 << 10;
    let sets = cap_sets(&kernel::read(format!("/proc/{}/status", init.pid))?)?;
    for field in ["CapBnd", "CapPrm", "CapEff"] {
        ensure!(sets[field] & !allowed == 0, "{field} of the created init is {:x}", sets[field]);
    }
    case.delete()
}

fn oom_score_adj_is_raised(case: &mut Case) -> Result<()> {
    case.set("/process/oomScoreAdj", json!(321));
    let init = case.args(["sleep", "60"]).up()?;
    let value = kernel::read(format!("/proc/{}/oom_score_adj", init.pid))?;
    ensure!(value == "321\n", "it is {value:?}");
    case.delete()
}

fn signals_are_unblocked_and_default(case: &mut Case) -> Result<()> {
    // The caller ignores SIGPIPE, SIGHUP and more, which a program would inherit through execve.
    case.before = "trap '' PIPE HUP USR1 TERM 40 64".to_owned();
    let text = status_inside(case)?;
    for field in ["SigBlk", "ShdPnd", "SigCgt"] {
        let mask = kernel::field_of(&text, field)?;
        ensure!(mask.bytes().all(|byte| byte == b'0'), "{field} is {mask}");
    }
    if case.peer.is_none() {
        let mask = kernel::field_of(&text, "SigIgn")?;
        ensure!(mask.bytes().all(|byte| byte == b'0'), "SigIgn is {mask}");
    }
    Ok(())
}

fn the_program_leads_a_session(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let stat = kernel::read(format!("/proc/{}/stat", init.pid))?;
    let after: Vec<&str> = stat.rsplit_once(") ").context("a stat line")?.1.split(' ').collect();
    let pid = init.pid.to_string();
    ensure!(after[2] == pid && after[3] == pid, "group {} and session {} of {pid}", after[2], after[3]);
    case.delete()
}

/// Opens descriptors in the caller that have no close-on-exec.
const LEAKY: &str = "exec 3</dev/null 4</etc/passwd 5</ 6</proc/self/ns/mnt 7</dev/null 9</dev/null";

fn no_descriptor_leaks_in(case: &mut Case) -> Result<()> {
    let opened: Vec<_> = (0..50).map(|_| rustix::io::dup(std::io::stdin())).collect::<Result<_, _>>()?;
    case.before = LEAKY.to_owned();
    let init = case.args(["sleep", "60"]).up()?;
    drop(opened);
    let mut fds: Vec<String> = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", init.pid))? {
        fds.push(entry?.file_name().to_string_lossy().into_owned());
    }
    fds.sort();
    ensure!(fds == ["0", "1", "2"], "the program has {fds:?}");
    case.delete()
}

fn preserve_fds_passes_them_on(case: &mut Case) -> Result<()> {
    fs::write(case.dir.join("three"), "three\n")?;
    fs::write(case.dir.join("four"), "four\n")?;
    case.before = "exec 3<three 4<four 5</dev/null".to_owned();
    case.script("cat <&3; cat <&4; ls /proc/self/fd | tr '\\n' ' '").write_config()?;
    let bundle = case.bundle();
    let bundle = bundle.to_string_lossy();
    let output = case.verb(["run", "--preserve-fds", "2", "--bundle", &bundle, &case.id])?.ok()?;
    let mut lines = output.stdout.lines();
    ensure!(lines.next() == Some("three") && lines.next() == Some("four"), "it printed {:?}", output.stdout);
    let fds: Vec<&str> = lines.next().context("the list of descriptors")?.split_whitespace().collect();
    // One more is ls's own, on the directory.
    ensure!(fds.len() == 6 && fds[..5] == ["0", "1", "2", "3", "4"], "there are {fds:?}");
    Ok(())
}

fn missing_preserved_fds_are_refused(case: &mut Case) -> Result<()> {
    case.write_config()?;
    let bundle = case.bundle();
    let bundle = bundle.to_string_lossy();
    case.verb(["run", "--preserve-fds", "40", "--bundle", &bundle, &case.id])?.refused().map(drop)
}

fn listen_fds_reach_the_program(case: &mut Case) -> Result<()> {
    fs::write(case.dir.join("three"), "three\n")?;
    // The shell keeps its pid through exec, so LISTEN_PID is the runtime's own.
    case.before = "exec 3<three; export LISTEN_FDS=1 LISTEN_PID=$$".to_owned();
    case.script("echo $LISTEN_FDS $LISTEN_PID; cat <&3").prints("1 1\nthree\n")
}

fn stdio_belongs_to_the_user(case: &mut Case) -> Result<()> {
    case.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    case.script("echo out >>/dev/stdout; echo err >>/dev/stderr");
    let before = fs::metadata("/dev/null")?.uid();
    let output = case.run()?.ok()?.stdout_is("out\n")?;
    ensure!(output.stderr == "err\n", "stderr is {:?}", output.stderr);
    // /dev/null on stdin is the host's device: it keeps its owner.
    let after = fs::metadata("/dev/null")?.uid();
    ensure!(after == before, "/dev/null of the host now belongs to {after}");
    Ok(())
}

fn a_file_open_for_reading_keeps_its_owner(case: &mut Case) -> Result<()> {
    let input = case.dir.join("input");
    fs::write(&input, "in\n")?;
    case.stdin = Some(input.clone());
    case.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    case.args(["cat"]).prints("in\n")?;
    ensure!(fs::metadata(&input)?.uid() == 0, "the file now belongs to {}", fs::metadata(&input)?.uid());
    Ok(())
}

fn args_are_looked_up_in_the_containers_path(case: &mut Case) -> Result<()> {
    let dir = case.rootfs().join("own");
    fs::create_dir(&dir)?;
    fs::write(dir.join("cat"), "#!/bin/sh\necho mine\n")?;
    fs::set_permissions(dir.join("cat"), fs::Permissions::from_mode(0o755))?;
    case.set("/process/env", json!(["PATH=/own:/bin"])).args(["cat"]).prints("mine\n")?;
    case.set("/process/env", json!(["PATH=/nosuch:/bin:/own"])).args(["cat", "/proc/1/comm"]).prints("cat\n")
}

fn a_script_without_interpreter(case: &mut Case) -> Result<()> {
    let path = case.rootfs().join("script");
    fs::write(&path, "echo ran by a shell\n")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    let output = case.args(["/script"]).run()?;
    ensure!(!output.stdout.contains("ran"), "a shell ran it");
    output.refused()?.stderr_has("exec format error").map(drop)
}

fn no_variable_of_the_caller_leaks_in(case: &mut Case) -> Result<()> {
    for name in ["_OCI_SYNCPIPE", "_OCI_STARTPIPE", "SECRET", "LISTEN_FDNAMES", "XDG_RUNTIME_DIR"] {
        case.env.push((name.to_owned(), "7".to_owned()));
    }
    let text = case.args(["env"]).run()?.ok()?.stdout;
    let names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    ensure!(names.contains(&"PATH"), "there are {names:?}");
    ensure!(names.iter().all(|name| ["PATH", "TERM", "HULL_TEST_ID", "HOME"].contains(name)), "there are {names:?}");
    Ok(())
}

fn dev_fd_links_work(case: &mut Case) -> Result<()> {
    case.script("echo a | cat /dev/stdin; echo b >>/dev/fd/1; echo c >>/dev/stderr");
    let output = case.run()?.ok()?.stdout_is("a\nb\n")?;
    ensure!(output.stderr == "c\n", "stderr is {:?}", output.stderr);
    Ok(())
}

fn runs_on_all_cpus(case: &mut Case) -> Result<()> {
    let cpus = |case: &mut Case| kernel::field_of(&status_inside(case)?, "Cpus_allowed_list");
    let all = cpus(case)?;
    case.before = "taskset -p 1 $$ >/dev/null".to_owned();
    let found = cpus(case)?;
    ensure!(found == all, "the caller's affinity makes it {found}, not {all}");
    Ok(())
}

fn nice_and_io_priority(case: &mut Case) -> Result<()> {
    case.set("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": 7}));
    case.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}));
    case.script("cut -d' ' -f19 /proc/self/stat; ionice -p 1 | cut -d: -f1").prints("7\nidle\n")
}

fn execs_into_another_binary(case: &mut Case) -> Result<()> {
    // From outside: once started, the executable of init is the container's, not the runtime's.
    let init = case.args(["sleep", "60"]).up()?;
    let exe = fs::read_link(format!("/proc/{}/exe", init.pid))?;
    ensure!(exe.ends_with("bin/busybox"), "the executable is {}", exe.display());
    let state: Value = case.state()?;
    ensure!(state["pid"] == init.pid, "the state has another pid");
    case.delete()
}
