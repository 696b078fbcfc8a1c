//! Hooks: which runs when, where, with what. config.md of the runtime specification, "POSIX-platform Hooks".

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("hooks/run_in_the_specs_order", run_in_the_specs_order)
            .peer("*", "runs poststart before the program")
            .requires(Need::Root),
        // posix_spawn of glibc takes ENOSYS for an old kernel, but not EPERM.
        test("hooks/run_where_a_filter_refuses_clone3", |case| run_in_the_specs_order(case.deny("clone3:EPERM")))
            .peer("*", "runs poststart before the program")
            .requires(Need::Root),
        test("hooks/get_the_state_on_stdin", get_the_state_on_stdin),
        test("hooks/get_the_given_environment", get_the_given_environment),
        test("hooks/args_start_with_the_name", args_start_with_the_name),
        test("hooks/a_timeout_kills", a_timeout_kills)
            .peer("crun", "leaves the children of the hook")
            .peer("runc", "kills the hook but waits for its children"),
        test("hooks/a_failing_one_removes_the_container", a_failing_one_removes_the_container)
            .peer("*", "does not pass the hook's stderr on in one sentence"),
        test("hooks/a_missing_program_is_named", a_missing_program_is_named).peer("crun", "gives status 255"),
        test("hooks/start_container_runs_inside", start_container_runs_inside),
        test("hooks/poststart_runs_after_the_program", poststart_runs_after_the_program)
            .peer("*", "runs it when init was told to go on"),
        test("hooks/no_poststart_for_a_program_that_cannot_run", no_poststart_without_a_program)
            .peer("*", "runs it whatever becomes of the exec"),
        test("hooks/poststop_runs_at_delete", poststop_runs_at_delete),
        test("hooks/a_failing_poststop_does_not_stop_delete", a_failing_poststop_does_not_stop_delete)
            .peer("runc", "1.1 skips the hooks that follow"),
        test("hooks/each_runs_in_its_namespaces", each_runs_in_its_namespaces).requires(Need::Root),
        test("hooks/an_absent_environment_is_inherited", an_absent_environment_is_inherited),
        test("hooks/a_failing_start_container_stops_the_program", a_failing_start_container_stops_the_program)
            .peer("*", "loses the hook's words"),
        test("hooks/a_failing_poststart_kills_the_program", a_failing_poststart_kills_the_program)
            .peer("*", "goes on, or says less"),
        test("hooks/begin_as_new_programs", begin_as_new_programs).peer("runc", "hands on what its caller ignores"),
        test("hooks/a_start_container_one_takes_signals", a_start_container_one_takes_signals),
        test("hooks/a_start_container_one_is_held_to_the_limits", a_start_container_one_is_held_to_the_limits),
        test("hooks/a_start_container_one_is_killed_by_the_filter", a_start_container_one_is_killed_by_the_filter)
            .peer("*", "does not say which hook"),
        test("hooks/a_create_container_one_begins_in_the_root", a_create_container_one_begins_in_the_root)
            .peer("crun", "begins it in the bundle"),
        test("hooks/their_output_goes_to_the_files", their_output_goes_to_the_files)
            .peer("runc", "has no such annotation"),
    ]
}

/// A hook that runs this shell script on the host.
fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

fn run_in_the_specs_order(case: &mut Case) -> Result<()> {
    let log = case.rootfs().join("log");
    fs::write(&log, "")?;
    let path = log.display();
    let mut hooks = json!({});
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        hooks[kind] = json!([hook(&format!("echo {kind} 1 >>{path}")), hook(&format!("echo {kind} 2 >>{path}"))]);
    }
    hooks["startContainer"] = json!([hook("echo startContainer 1 >>/log"), hook("echo startContainer 2 >>/log")]);
    case.set("/hooks", hooks).set("/root/readonly", json!(false)).script("echo program >>/log; sleep 60");
    let read = || kernel::read(&log);
    let init = case.create()?;
    let words = |kinds: &[&str]| kinds.iter().map(|kind| format!("{kind} 1\n{kind} 2\n")).collect::<String>();
    let before = words(&["prestart", "createRuntime", "createContainer"]);
    ensure!(read()? == before, "after create: {:?}", read()?);
    case.verb(["start", &case.id])?.ok()?;
    kernel::eventually("the program and poststart", || read().is_ok_and(|text| text.lines().count() == 11))?;
    let text = read()?;
    ensure!(text.starts_with(&format!("{before}startContainer 1\nstartContainer 2\n")), "after start: {text:?}");
    ensure!(text.contains("program\n") && text.contains("poststart 1\n"), "after start: {text:?}");
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    init.wait()?;
    case.verb(["delete", &case.id])?.ok()?;
    ensure!(read()?.ends_with("poststop 1\npoststop 2\n"), "after delete: {:?}", read()?);
    Ok(())
}

fn get_the_state_on_stdin(case: &mut Case) -> Result<()> {
    let dir = case.dir.clone();
    for kind in ["createRuntime", "poststart", "poststop"] {
        let script = format!("cat >{}/{kind}.json", dir.display());
        case.set(&format!("/hooks/{kind}"), json!([hook(&script)]));
    }
    case.set("/annotations", json!({"a.b": "c"}));
    let init = case.args(["sleep", "60"]).up()?;
    case.delete()?;
    for (kind, status) in [("createRuntime", "creating"), ("poststart", "running"), ("poststop", "stopped")] {
        let text = kernel::read(dir.join(format!("{kind}.json")))?;
        let state: Value = serde_json::from_str(&text).with_context(|| format!("{kind} got {text:?}"))?;
        ensure!(state["id"] == case.id.as_str() && state["annotations"]["a.b"] == "c", "{kind} got {state}");
        ensure!(state["bundle"] == case.bundle().to_string_lossy().as_ref(), "{kind} got {state}");
        // Peers are of two minds on the status at createRuntime; the spec says creating.
        ensure!(state["status"] == status || case.peer.is_some(), "{kind} got {state}");
        ensure!(kind == "poststop" || state["pid"] == init.pid, "{kind} got {state}");
    }
    Ok(())
}

fn get_the_given_environment(case: &mut Case) -> Result<()> {
    case.env.push(("OF_THE_CALLER".to_owned(), "1".to_owned()));
    let path = case.dir.join("env");
    let script = format!("tr '\\0' '\\n' </proc/$$/environ >{}", path.display());
    let mut with_env = hook(&script);
    with_env["env"] = json!(["A=1", "B=2"]);
    case.set("/hooks", json!({"createRuntime": [with_env]})).args(["true"]).prints("")?;
    let text = kernel::read(&path)?;
    ensure!(text == "A=1\nB=2\n", "the hook had {text:?}");
    Ok(())
}

fn args_start_with_the_name(case: &mut Case) -> Result<()> {
    let path = case.dir.join("args");
    let script = format!("tr '\\0' ' ' </proc/$$/cmdline >{}", path.display());
    let hook = json!({"path": "/bin/sh", "args": ["other-name", "-c", script, "x"]});
    case.set("/hooks", json!({"createRuntime": [hook]})).args(["true"]).prints("")?;
    let text = kernel::read(&path)?;
    ensure!(text.starts_with("other-name -c ") && text.ends_with(" x "), "the command line was {text:?}");
    Ok(())
}

fn a_timeout_kills(case: &mut Case) -> Result<()> {
    let mut slow = hook("sleep 100");
    slow["timeout"] = json!(1);
    // By this a shell's child that outlives it is found.
    slow["env"] = json!(["PATH=/usr/bin:/bin", format!("HULL_TEST_ID={}", case.id)]);
    let output = case.set("/hooks", json!({"createRuntime": [slow]})).args(["true"]).run()?.refused()?;
    ensure!(output.took < Duration::from_secs(10), "it took {:?}", output.took);
    Ok(())
}

fn a_failing_one_removes_the_container(case: &mut Case) -> Result<()> {
    let marker = case.dir.join("poststop");
    let hooks = json!({
        "createRuntime": [hook("echo the reason of the hook >&2; exit 3")],
        "poststop": [hook(&format!("touch {}", marker.display()))]
    });
    let output = case.set("/hooks", hooks).args(["true"]).try_create(&[])?.refused()?;
    output.stderr_has("the reason of the hook")?.one_sentence()?.stderr_has("createRuntime")?;
    ensure!(marker.exists(), "poststop did not run");
    case.verb(["state", &case.id])?.refused()?.stderr_has("does not exist").map(drop)
}

fn a_missing_program_is_named(case: &mut Case) -> Result<()> {
    case.set("/hooks", json!({"createRuntime": [{"path": "/nosuch/hook"}]})).args(["true"]);
    case.run()?.refused()?.stderr_has("/nosuch/hook").map(drop)
}

fn start_container_runs_inside(case: &mut Case) -> Result<()> {
    case.set("/hooks", json!({"startContainer": [hook("readlink /proc/self/ns/mnt >/dev/shm/ns; cat >/dev/null")]}));
    case.script("[ $(cat /dev/shm/ns) = $(readlink /proc/self/ns/mnt) ] && echo same").prints("same\n")
}

fn poststart_runs_after_the_program(case: &mut Case) -> Result<()> {
    let path = case.dir.join("exe");
    // What is the executable of init, at the time of the hook?
    let script = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | tr -d '\\n'); readlink /proc/$pid/exe";
    case.set("/hooks", json!({"poststart": [hook(&format!("{{ {script}; }} >{}", path.display()))]}));
    case.args(["sleep", "60"]).up()?;
    let exe = kernel::read(&path)?;
    case.delete()?;
    ensure!(exe.trim().ends_with("bin/busybox"), "the executable was {exe:?}");
    Ok(())
}

fn no_poststart_without_a_program(case: &mut Case) -> Result<()> {
    let marker = case.dir.join("poststart");
    case.set("/hooks", json!({"poststart": [hook(&format!("touch {}", marker.display()))]}));
    fs::write(case.rootfs().join("bin/garbage"), [0x7f, b'E', b'L', b'F', 0, 0])?;
    fs::set_permissions(case.rootfs().join("bin/garbage"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    case.args(["/bin/garbage"]).run()?.refused()?;
    ensure!(!marker.exists(), "poststart ran though the program could not");
    Ok(())
}

fn poststop_runs_at_delete(case: &mut Case) -> Result<()> {
    let marker = case.dir.join("poststop");
    case.set("/hooks", json!({"poststop": [hook(&format!("touch {}", marker.display()))]}));
    let init = case.args(["true"]).up()?;
    init.wait()?;
    ensure!(!marker.exists(), "poststop ran before delete");
    case.verb(["delete", &case.id])?.ok()?;
    ensure!(marker.exists(), "poststop did not run");
    Ok(())
}

fn a_failing_poststop_does_not_stop_delete(case: &mut Case) -> Result<()> {
    let marker = case.dir.join("poststop");
    let hooks = json!([hook("exit 1"), hook(&format!("touch {}", marker.display()))]);
    case.set("/hooks", json!({"poststop": hooks}));
    let init = case.args(["true"]).up()?;
    init.wait()?;
    case.verb(["delete", &case.id])?.ok()?;
    ensure!(marker.exists(), "the second hook did not run");
    Ok(())
}

/// The namespaces that a hook is in, by kind, and whether it sees the host's files.
const WHERE: &str =
    "for n in mnt net pid ipc uts; do readlink /proc/self/ns/$n; done; [ -e \"$1\" ] && echo host || echo inside";

fn each_runs_in_its_namespaces(case: &mut Case) -> Result<()> {
    let seen = case.rootfs().join("seen");
    fs::create_dir(&seen)?;
    let here = case.dir.to_string_lossy().into_owned();
    let mut hooks = json!({});
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        let to = if kind == "startContainer" { "/seen".into() } else { seen.display().to_string() };
        hooks[kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("({WHERE}) >{to}/{kind}"), "sh", here]}]);
    }
    case.set("/hooks", hooks).set("/root/readonly", json!(false));
    let init = case.args(["sleep", "60"]).up()?;
    let namespaces = |pid: i32| -> Result<String> {
        ["mnt", "net", "pid", "ipc", "uts"].iter().map(|kind| Ok(kernel::namespace(pid, kind)? + "\n")).collect()
    };
    let (inside, host) = (namespaces(init.pid)?, namespaces(std::process::id() as i32)?);
    case.delete()?;
    let read = |kind: &str| kernel::read(seen.join(kind));
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        ensure!(read(kind)? == format!("{host}host\n"), "{kind} ran in {:?}", read(kind)?);
    }
    // Its program is the host's, its namespaces are the container's: before the root is entered.
    ensure!(
        read("createContainer")? == format!("{inside}host\n"),
        "createContainer ran in {:?}",
        read("createContainer")?
    );
    ensure!(
        read("startContainer")? == format!("{inside}inside\n"),
        "startContainer ran in {:?}",
        read("startContainer")?
    );
    Ok(())
}

fn an_absent_environment_is_inherited(case: &mut Case) -> Result<()> {
    case.env.push(("OF_THE_CALLER".to_owned(), "1".to_owned()));
    case.set("/process/env", json!(["PATH=/bin", "OF_THE_PROGRAM=1"])).set("/root/readonly", json!(false));
    let to = case.rootfs().join("var");
    let print = |to: &str| format!("cat /proc/$$/environ | tr '\\0' '\\n' >{to}");
    let mut empty = hook(&print(&format!("{}/empty", to.display())));
    empty["env"] = json!([]);
    case.set("/hooks/createRuntime", json!([hook(&print(&format!("{}/runtime", to.display()))), empty]));
    let mut empty = hook(&print("/var/empty-inside"));
    empty["env"] = json!([]);
    case.set("/hooks/startContainer", json!([hook(&print("/var/inside")), empty]));
    case.args(["true"]).prints("")?;
    let names = |file: &str| -> Result<Vec<String>> {
        let text = kernel::read(to.join(file))?;
        Ok(text.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect())
    };
    let has = |names: &[String], name: &str| names.iter().any(|have| have == name);
    let (runtime, inside) = (names("runtime")?, names("inside")?);
    ensure!(has(&runtime, "OF_THE_CALLER") && !has(&runtime, "OF_THE_PROGRAM"), "createRuntime had {runtime:?}");
    ensure!(has(&inside, "OF_THE_PROGRAM") && !has(&inside, "OF_THE_CALLER"), "startContainer had {inside:?}");
    // A shell may put variables of its own in, but not into the environment that it was executed with.
    ensure!(names("empty")?.is_empty(), "an empty one had {:?}", names("empty")?);
    ensure!(names("empty-inside")?.is_empty(), "an empty one inside had {:?}", names("empty-inside")?);
    Ok(())
}

fn a_failing_start_container_stops_the_program(case: &mut Case) -> Result<()> {
    case.set("/hooks", json!({"startContainer": [hook("echo the reason >&2; exit 4")]}));
    case.script("echo program");
    let init = case.create()?;
    case.verb(["start", &case.id])?.refused()?.stderr_has("startContainer")?.stderr_has("the reason")?;
    init.wait()?;
    ensure!(!init.output()?.contains("program"), "the program ran");
    case.status_is("stopped")?;
    case.delete()
}

fn a_failing_poststart_kills_the_program(case: &mut Case) -> Result<()> {
    case.set("/hooks", json!({"poststart": [hook("echo the reason >&2; exit 5")]}));
    let init = case.args(["sleep", "60"]).create()?;
    case.verb(["start", &case.id])?.refused()?.stderr_has("poststart")?.stderr_has("the reason")?;
    ensure!(init.wait()? == 128 + 9, "the program was not killed");
    case.delete()
}

fn their_output_goes_to_the_files(case: &mut Case) -> Result<()> {
    let (out, err) = (case.dir.join("hooks.out"), case.dir.join("hooks.err"));
    case.set("/annotations", json!({"run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err}));
    let mut hooks = json!({});
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    for kind in kinds {
        hooks[kind] = json!([hook(&format!("echo out of {kind}; echo err of {kind} >&2"))]);
    }
    case.set("/hooks", hooks).args(["sleep", "60"]).up()?;
    case.delete()?;
    for (path, word) in [(&out, "out"), (&err, "err")] {
        let expected: String = kinds.iter().map(|kind| format!("{word} of {kind}\n")).collect();
        ensure!(kernel::read(path)? == expected, "{} has {:?}", path.display(), kernel::read(path)?);
    }
    Ok(())
}

/// Whatever the caller blocks, ignores or has open, and whatever hull does in the foreground.
fn begin_as_new_programs(case: &mut Case) -> Result<()> {
    case.before = "trap '' HUP INT USR1; exec 7</dev/null".into();
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let own = case.dir.join("hooks");
    fs::create_dir(&own)?;
    for kind in kinds {
        let directory = if kind == "startContainer" { "/dev/shm".into() } else { own.display().to_string() };
        let script = format!("{{ grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd; }} >{directory}/{kind}");
        case.set(&format!("/hooks/{kind}"), json!([hook(&script)]));
    }
    let none = "0000000000000000";
    // The fourth is the directory that is listed.
    let wanted = format!("SigBlk:\t{none}\nSigIgn:\t{none}\n0\n1\n2\n3\n");
    let check = |inside: &str| {
        for kind in kinds {
            let text = if kind == "startContainer" { inside.into() } else { kernel::read(own.join(kind))? };
            ensure!(text == wanted, "{kind}: {text:?}");
            let _ = fs::remove_file(own.join(kind));
        }
        Ok(())
    };
    let inside = case.script("cat /dev/shm/startContainer").run()?.ok()?.stdout;
    check(&inside)?;
    let init = case.script("cat /dev/shm/startContainer; exec sleep 60").up()?;
    kernel::eventually("the program", || init.output().is_ok_and(|text| text == wanted))?;
    case.delete()?;
    check(&init.output()?)
}

fn a_start_container_one_takes_signals(case: &mut Case) -> Result<()> {
    case.set("/hooks/startContainer", json!([hook("trap 'echo caught >/dev/shm/seen' USR1; kill -USR1 $$; :")]));
    case.script("cat /dev/shm/seen").prints("caught\n")
}

fn a_start_container_one_is_held_to_the_limits(case: &mut Case) -> Result<()> {
    let script = "{ grep NoNewPrivs /proc/self/status; ulimit -n; ulimit -Hn; } >/dev/shm/seen";
    case.set("/hooks/startContainer", json!([hook(script)])).script("cat /dev/shm/seen; ulimit -n");
    case.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]));
    for (asked, set) in [(true, 1), (false, 0)] {
        case.set("/process/noNewPrivileges", json!(asked)).prints(&format!("NoNewPrivs:\t{set}\n77\n88\n77\n"))?;
    }
    Ok(())
}

fn a_start_container_one_is_killed_by_the_filter(case: &mut Case) -> Result<()> {
    let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]);
    case.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule}));
    case.set("/hooks/startContainer", json!([{"path": "/bin/mkdir", "args": ["mkdir", "/made"]}]));
    case.set("/root/readonly", json!(false)).script("echo program");
    for no_new_privileges in [true, false] {
        case.set("/process/noNewPrivileges", json!(no_new_privileges));
        let output = case.run()?.refused()?.stderr_has("startContainer")?.stderr_has("killed by signal 31")?;
        ensure!(output.stdout.is_empty(), "the program ran");
        ensure!(!case.rootfs().join("made").exists(), "the directory was made");
    }
    Ok(())
}

fn a_create_container_one_begins_in_the_root(case: &mut Case) -> Result<()> {
    let path = case.dir.join("directory");
    let script = format!("{{ pwd; ls -d bin; }} >{}; touch here", path.display());
    case.set("/hooks/createContainer", json!([hook(&script)])).set("/root/readonly", json!(false));
    case.script("ls /here").prints("/here\n")?;
    let text = kernel::read(&path)?;
    ensure!(text == format!("{}\nbin\n", case.rootfs().display()), "it began in {text:?}");
    Ok(())
}
