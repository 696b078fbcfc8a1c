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
