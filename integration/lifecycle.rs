//! The life of a container: create, start, state, kill, delete, run, list; runtime.md of the runtime specification,
//! and what engines and scripts lean on in runc's command line.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Test, runtime_under_test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        // In a filter hull may undo what it made and execute itself again, from a copy.
        test("lifecycle/state_beside_create", state_beside_create).requires(Need::Hull).requires(Need::NoFilter),
        test("lifecycle/run_passes_the_exit_status_on", run_passes_the_exit_status_on),
        test("lifecycle/run_gives_128_plus_the_signal", run_gives_128_plus_the_signal).requires(Need::Root),
        test("lifecycle/run_passes_stdin_and_stdout", run_passes_stdin_and_stdout),
        test("lifecycle/run_detached_returns_at_once", run_detached_returns_at_once)
            .peer("crun", "returns before the program is executed"),
        test("lifecycle/create_does_not_run_the_program", create_does_not_run_the_program),
        test("lifecycle/init_is_inherited_by_the_subreaper", init_is_inherited_by_the_subreaper),
        test("lifecycle/works_where_a_filter_refuses_getrandom", |case| {
            pid_file_has_no_newline_and_is_renamed(case.deny("getrandom:ENOSYS"))?;
            pid_file_has_no_newline_and_is_renamed(case.deny("getrandom:EPERM"))
        })
        .requires(Need::Hull),
        test("lifecycle/pid_file_has_no_newline_and_is_renamed", pid_file_has_no_newline_and_is_renamed)
            .peer("crun", "writes it in place"),
        test("lifecycle/state_has_the_fields_of_the_spec", state_has_the_fields_of_the_spec),
        test("lifecycle/state_goes_from_created_to_stopped", state_goes_from_created_to_stopped)
            .peer("crun", "says: error opening file status"),
        test("lifecycle/list_table_json_quiet", list_table_json_quiet),
        test("lifecycle/an_interrupted_run_leaves_nothing", an_interrupted_run_leaves_nothing),
        test("lifecycle/output_goes_to_log_files", output_goes_to_log_files),
        test("lifecycle/one_line_removes_all", one_line_removes_all),
        test("lifecycle/a_broken_state_is_said_and_removed", a_broken_state_is_said_and_removed).requires(Need::Hull),
        test(
            "lifecycle/a_running_container_with_a_broken_state_is_ended",
            a_running_container_with_a_broken_state_is_ended,
        )
        .requires(Need::Hull),
        test("lifecycle/an_empty_list_prints_null", an_empty_list_prints_null).peer("crun", "prints []"),
        test("lifecycle/delete_of_a_running_container_is_refused", delete_of_a_running_container_is_refused),
        test("lifecycle/delete_force_kills", delete_force_kills),
        test("lifecycle/delete_force_of_a_missing_one_succeeds", delete_force_of_a_missing_one_succeeds)
            .peer("crun", "1.8 gives status 1"),
        test("lifecycle/delete_of_a_created_container", delete_of_a_created_container),
        test("lifecycle/term_ends_a_created_container", term_ends_a_created_container)
            .peer("crun", "its process 1 ignores the signal"),
        test("lifecycle/kill_takes_names_and_numbers", kill_takes_names_and_numbers)
            .peer("crun", "takes an unknown name as signal 0"),
        test("lifecycle/kill_all_reaches_every_process", kill_all_reaches_every_process).requires(Need::Root),
        test("lifecycle/kill_of_a_stopped_one_says_not_running", kill_of_a_stopped_one_says_not_running)
            .peer("crun", "says: kill container: No such process"),
        test("lifecycle/options_after_the_id", options_after_the_id).peer("crun", "takes one argument at most"),
        test("lifecycle/a_duplicate_id_is_refused_and_the_first_unharmed", a_duplicate_id_is_refused),
        test("lifecycle/hostile_ids_are_refused", hostile_ids_are_refused).peer("crun", "1.8 takes .."),
        test("lifecycle/a_missing_container_does_not_exist", a_missing_container_does_not_exist)
            .peer("crun", "says: error opening file status"),
        test("lifecycle/a_missing_program_is_named", a_missing_program_is_named),
        test("lifecycle/a_program_without_x_is_permission_denied", a_program_without_x_is_permission_denied)
            .peer("crun", "does not name the program"),
        test("lifecycle/start_twice_is_refused", start_twice_is_refused),
        test("lifecycle/start_of_a_dead_init_fails_at_once", start_of_a_dead_init_fails_at_once)
            .requires(Need::Root)
            .peer("crun", "start waits in the FIFO or succeeds"),
        test("lifecycle/without_process_it_is_created_only", without_process_it_is_created_only)
            .peer("*", "refuses to create it"),
        test("lifecycle/a_process_lives_while_a_thread_does", a_process_lives_while_a_thread_does)
            .requires(Need::Tool("gcc"))
            .requires(Need::NoFilter)
            .peer("*", "takes it as stopped when its first thread has ended"),
        test("lifecycle/start_after_stop_is_refused", start_after_stop_is_refused),
        test("lifecycle/the_bundle_may_change_after_create", the_bundle_may_change_after_create),
        test("lifecycle/a_signal_to_run_reaches_the_program", a_signal_to_run_reaches_the_program),
        test("lifecycle/two_containers_do_not_disturb_each_other", two_containers_do_not_disturb_each_other),
    ]
}

fn run_passes_the_exit_status_on(case: &mut Case) -> Result<()> {
    for status in [0, 1, 2, 42, 125, 127, 128, 137, 254, 255] {
        case.script(&format!("exit {status}")).run()?.status(status)?;
    }
    Ok(())
}

fn run_gives_128_plus_the_signal(case: &mut Case) -> Result<()> {
    // Without a pid namespace of its own the program is no pid 1, which would ignore its own signals.
    case.without_namespace("pid");
    for signal in [9, 15, 11] {
        case.script(&format!("kill -{signal} $$")).run()?.status(128 + signal)?;
    }
    Ok(())
}

fn run_passes_stdin_and_stdout(case: &mut Case) -> Result<()> {
    let input = case.dir.join("input");
    fs::write(&input, "one\ntwo\n")?;
    case.stdin = Some(input);
    let output = case.script("cat; echo said >&2").run()?.ok()?.stdout_is("one\ntwo\n")?;
    ensure!(output.stderr == "said\n", "stderr is {:?}", output.stderr);
    Ok(())
}

fn run_detached_returns_at_once(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let bundle = case.bundle();
    let pid_file = case.dir.join("pid");
    let (bundle, pid_file) = (bundle.to_string_lossy(), pid_file.to_string_lossy());
    let output = case.verb(["run", "-d", "--bundle", &bundle, "--pid-file", &pid_file, &case.id])?.ok()?;
    ensure!(output.took < Duration::from_secs(10), "it took {:?}", output.took);
    let pid = case.pid()?;
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
    ensure!(command == "sleep\x0060\0", "pid {pid} is {command:?}");
    case.status_is("running")?;
    case.delete()?;
    kernel::eventually("the program is gone", || !kernel::alive(pid))
}

fn create_does_not_run_the_program(case: &mut Case) -> Result<()> {
    case.set("/root/readonly", json!(false)).script("touch /ran");
    let init = case.create()?;
    std::thread::sleep(Duration::from_millis(100));
    ensure!(!case.rootfs().join("ran").exists(), "the program ran before start");
    ensure!(kernel::alive(init.pid), "init {} is not alive", init.pid);
    case.verb(["start", &case.id])?.ok()?;
    ensure!(init.wait()? == 0, "the program failed");
    ensure!(case.rootfs().join("ran").exists(), "the program did not run");
    case.verb(["delete", &case.id])?.ok().map(drop)
}

fn init_is_inherited_by_the_subreaper(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).create()?;
    let parent = kernel::parent_of(init.pid)?;
    ensure!(parent == std::process::id() as i32, "the parent of init is {parent}");
    case.verb(["start", &case.id])?.ok()?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    ensure!(init.wait()? == 137, "killed by another signal");
    case.verb(["delete", &case.id])?.ok().map(drop)
}

fn pid_file_has_no_newline_and_is_renamed(case: &mut Case) -> Result<()> {
    let path = case.dir.join("pid");
    fs::write(&path, "old")?;
    let before = fs::metadata(&path)?.ino();
    // An open file of the old name keeps its content when the new one is put in place by rename.
    let old = fs::File::open(&path)?;
    case.args(["sleep", "60"]).create()?;
    let text = fs::read_to_string(&path)?;
    ensure!(text.bytes().all(|byte| byte.is_ascii_digit()), "the pid file holds {text:?}");
    ensure!(fs::metadata(&path)?.ino() != before, "the pid file was written in place");
    ensure!(std::io::read_to_string(old)? == "old", "the old file was changed");
    case.delete()
}

fn state_has_the_fields_of_the_spec(case: &mut Case) -> Result<()> {
    case.set("/annotations", json!({"org.example.key": "value"})).args(["sleep", "60"]);
    let init = case.up()?;
    let state = case.state()?;
    ensure!(state["id"] == case.id.as_str(), "id: {state}");
    ensure!(state["pid"] == init.pid, "pid: {state}");
    ensure!(state["status"] == "running", "status: {state}");
    ensure!(state["bundle"] == case.bundle().to_string_lossy().as_ref(), "bundle: {state}");
    ensure!(state["annotations"]["org.example.key"] == "value", "annotations: {state}");
    ensure!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "ociVersion: {state}");
    ensure!(state["created"].as_str().is_some_and(|time| time.contains('T')), "created: {state}");
    case.delete()
}

fn state_goes_from_created_to_stopped(case: &mut Case) -> Result<()> {
    let init = case.script("echo up; sleep 60").create()?;
    case.status_is("created")?;
    case.verb(["start", &case.id])?.ok()?;
    init.wait_for("up")?;
    case.status_is("running")?;
    case.verb(["kill", &case.id, "9"])?.ok()?;
    ensure!(init.wait()? == 137, "killed by another signal");
    case.status_is("stopped")?;
    ensure!(case.state()?["pid"].as_i64().unwrap_or(0) == 0, "a stopped container has a pid");
    case.verb(["delete", &case.id])?.ok()?;
    case.verb(["state", &case.id])?.refused()?.stderr_has("does not exist").map(drop)
}

fn list_table_json_quiet(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let table = case.verb(["list"])?.ok()?.stdout;
    let line = table.lines().find(|line| line.contains(&case.id)).context("the table lacks the container")?;
    ensure!(line.contains("running") && line.contains(&init.pid.to_string()), "the table says {line:?}");
    let json: Value = serde_json::from_str(&case.verb(["list", "--format", "json"])?.ok()?.stdout)?;
    let one = json.as_array().and_then(|list| list.first()).context("the list is empty")?;
    ensure!(one["id"] == case.id.as_str() && one["pid"] == init.pid && one["status"] == "running", "{one}");
    case.verb(["list", "-q"])?.ok()?.stdout_is(&format!("{}\n", case.id))?;
    case.delete()
}

fn an_empty_list_prints_null(case: &mut Case) -> Result<()> {
    let json = case.verb(["list", "--format", "json"])?.ok()?.stdout;
    ensure!(json.trim_end() == "null", "an empty list is {json:?}");
    case.verb(["list", "-q"])?.ok()?.stdout_is("").map(drop)
}

fn delete_of_a_running_container_is_refused(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    case.verb(["delete", &case.id])?.refused()?;
    ensure!(kernel::alive(init.pid), "the refused delete killed it");
    case.status_is("running")?;
    case.delete()
}

fn delete_force_kills(case: &mut Case) -> Result<()> {
    let init = case.script("trap '' TERM; echo up; while :; do sleep 1; done").up()?;
    init.wait_for("up")?;
    case.delete()?;
    kernel::eventually("init is gone", || !kernel::alive(init.pid))
}

fn delete_force_of_a_missing_one_succeeds(case: &mut Case) -> Result<()> {
    case.delete()?;
    case.verb(["delete", &case.id])?.refused()?.stderr_has("does not exist").map(drop)
}

fn delete_of_a_created_container(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).create()?;
    case.verb(["delete", &case.id])?.ok()?;
    kernel::eventually("init is gone", || !kernel::alive(init.pid))
}

fn term_ends_a_created_container(case: &mut Case) -> Result<()> {
    // An empty signal is none given: TERM.
    for signal in ["TERM", "INT", "HUP", "QUIT", ""] {
        let init = case.args(["sleep", "60"]).create()?;
        case.verb(["kill", &case.id, signal])?.ok()?;
        init.wait()?;
        case.status_is("stopped")?;
        case.verb(["start", &case.id])?.refused()?.stderr_has("has stopped")?;
        case.verb(["delete", &case.id])?.ok()?;
    }
    // The program has no handler and no pending signal of the time before.
    let init = case.args(["sleep", "60"]).up()?;
    kernel::eventually("the program catches nothing", || {
        kernel::status(init.pid, "SigCgt").is_ok_and(|set| u64::from_str_radix(&set, 16) == Ok(0))
    })?;
    case.delete()
}

fn kill_takes_names_and_numbers(case: &mut Case) -> Result<()> {
    let script = "for s in HUP USR1 USR2 INT; do trap \"echo got $s\" $s; done; echo up; while :; do sleep 0.02; done";
    let init = case.script(script).up()?;
    init.wait_for("up")?;
    for (asked, got) in [("HUP", "HUP"), ("SIGUSR1", "USR1"), ("12", "USR2"), ("INT", "INT")] {
        case.verb(["kill", &case.id, asked])?.ok()?;
        init.wait_for(&format!("got {got}"))?;
    }
    case.verb(["kill", &case.id, "NOSUCHSIGNAL"])?.refused()?;
    ensure!(kernel::alive(init.pid), "an unknown signal killed it");
    case.delete()
}

fn kill_all_reaches_every_process(case: &mut Case) -> Result<()> {
    case.without_namespace("pid");
    let init = case.script("sleep 61 & sleep 62 & echo up; wait").up()?;
    init.wait_for("up")?;
    let processes = || kernel::processes_of(&case.id).len();
    kernel::eventually("three processes", || processes() == 3)?;
    case.verb(["kill", "--all", &case.id, "KILL"])?.ok()?;
    kernel::eventually("no process", || processes() == 0)?;
    ensure!(init.wait()? == 137, "killed by another signal");
    case.verb(["delete", &case.id])?.ok().map(drop)
}

fn kill_of_a_stopped_one_says_not_running(case: &mut Case) -> Result<()> {
    let init = case.args(["true"]).up()?;
    init.wait()?;
    case.verb(["kill", &case.id, "TERM"])?.refused()?.stderr_has("container not running")?;
    case.verb(["delete", &case.id])?.ok().map(drop)
}

fn options_after_the_id(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let bundle = case.bundle();
    case.verb(["create", &case.id, "--bundle", &bundle.to_string_lossy()])?.ok()?;
    case.status_is("created")?;
    case.verb(["delete", &case.id, "--force"])?.ok().map(drop)
}

fn a_duplicate_id_is_refused(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let before = kernel::cgroups(init.pid)?;
    let output = case.try_create(&[])?.refused()?;
    ensure!(output.stderr.contains("exist"), "it says {:?}", output.stderr);
    ensure!(kernel::alive(init.pid), "the first was killed");
    ensure!(kernel::cgroups(init.pid)? == before, "the first lost its cgroup");
    case.status_is("running")?;
    ensure!(case.state()?["pid"] == init.pid, "the state is another's");
    case.delete()
}

fn hostile_ids_are_refused(case: &mut Case) -> Result<()> {
    case.args(["true"]).write_config()?;
    let bundle = case.bundle();
    let long = "x".repeat(1025);
    let precious = case.dir.join("precious");
    fs::create_dir(&precious)?;
    let ids = ["", ".", "..", "../precious", "a/b", "/abs", "a b", "a\nb", "ü", "a:b", "*", long.as_str()];
    for id in ids {
        for verb in ["create", "run"] {
            let output = case.verb([verb, "--bundle", &bundle.to_string_lossy(), "--", id])?;
            ensure!(output.status != 0, "{verb} takes the id {id:?}");
        }
        let output = case.verb(["delete", "--", id])?;
        ensure!(output.status != 0, "delete takes the id {id:?}");
    }
    // Whether it is an error to force the deletion of what cannot exist is left open: harm is what counts.
    let _ = case.verb(["delete", "--force", "--", "../precious"])?;
    ensure!(precious.is_dir(), "a directory outside the state directory was removed");
    case.args(["echo", "fine"]).prints("fine\n")
}

fn a_missing_container_does_not_exist(case: &mut Case) -> Result<()> {
    for args in [["state", "nosuch"].as_slice(), &["start", "nosuch"], &["kill", "nosuch", "9"], &["delete", "nosuch"]]
    {
        case.verb(args)?.refused()?.stderr_has("does not exist")?;
    }
    Ok(())
}

/// Creates and starts; one of the two must fail, and its words are given.
fn create_or_start_fails(case: &Case) -> Result<String> {
    let created = case.try_create(&[])?;
    if created.status != 0 {
        return Ok(created.stderr);
    }
    let started = case.verb(["start", &case.id])?.refused()?;
    case.delete()?;
    Ok(started.stderr)
}

fn a_missing_program_is_named(case: &mut Case) -> Result<()> {
    for program in ["/nosuchprogram", "/bin/nosuch/program"] {
        case.args([program]);
        let words = create_or_start_fails(case)?.to_lowercase();
        ensure!(words.contains("no such file or directory") && words.contains(program), "it says {words:?}");
    }
    case.args(["nosuchprogram"]);
    let words = create_or_start_fails(case)?.to_lowercase();
    let known = words.contains("executable file not found in") || words.contains("no such file or directory");
    ensure!(known && words.contains("nosuchprogram"), "it says {words:?}");
    Ok(())
}

fn a_program_without_x_is_permission_denied(case: &mut Case) -> Result<()> {
    let path = case.rootfs().join("plain");
    fs::write(&path, "#!/bin/sh\n")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    for program in ["/plain", "/etc"] {
        case.args([program]);
        let words = create_or_start_fails(case)?.to_lowercase();
        let known = words.contains("permission denied") || words.contains("is a directory");
        ensure!(known && words.contains(program), "it says {words:?}");
    }
    Ok(())
}

fn start_twice_is_refused(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    case.verb(["start", &case.id])?.refused()?;
    ensure!(kernel::alive(init.pid), "the second start killed it");
    case.status_is("running")?;
    case.delete()
}

fn start_of_a_dead_init_fails_at_once(case: &mut Case) -> Result<()> {
    let init = case.args(["true"]).create()?;
    let pid = rustix::process::Pid::from_raw(init.pid).context("a pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    ensure!(init.wait()? == 137, "killed by another signal");
    let output = case.verb(["start", &case.id])?.refused()?.stderr_has("stopped")?;
    ensure!(output.took < Duration::from_secs(1), "it took {:?}", output.took);
    case.delete()
}

/// config.md: process is "REQUIRED when start is called".
fn without_process_it_is_created_only(case: &mut Case) -> Result<()> {
    case.edit(|config| {
        config.as_object_mut().expect("an object").remove("process");
    });
    case.create()?;
    case.status_is("created")?;
    case.verb(["start", &case.id])?.refused()?.stderr_has("/process: missing: there is no program to run")?;
    case.status_is("created")?;
    case.delete()?;
    case.run()?.refused()?.stderr_has("/process: missing: there is no program to run").map(drop)
}

fn a_process_lives_while_a_thread_does(case: &mut Case) -> Result<()> {
    let source = case.dir.join("program.c");
    fs::write(
        &source,
        "#include <pthread.h>\n#include <unistd.h>\nstatic void *other(void *x) { pause(); return x; }\n\
         int main(void) { pthread_t t; pthread_create(&t, 0, other, 0); pthread_exit(0); }\n",
    )?;
    let mut gcc = std::process::Command::new("gcc");
    gcc.args(["-static", "-pthread", "-o"]).arg(case.rootfs().join("program")).arg(&source);
    ensure!(gcc.status()?.success(), "gcc failed");
    let init = case.args(["/program"]).up()?;
    kernel::eventually("the first thread has ended", || kernel::state_of(init.pid) == Some('Z'))?;
    case.status_is("running")?;
    case.verb(["delete", &case.id])?.refused()?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    init.wait()?;
    case.status_is("stopped")?;
    case.verb(["delete", &case.id])?.ok().map(drop)
}

fn start_after_stop_is_refused(case: &mut Case) -> Result<()> {
    let init = case.args(["true"]).up()?;
    init.wait()?;
    case.verb(["start", &case.id])?.refused()?;
    case.verb(["delete", &case.id])?.ok().map(drop)
}

fn the_bundle_may_change_after_create(case: &mut Case) -> Result<()> {
    let init = case.script("echo first").create()?;
    fs::write(case.bundle().join("config.json"), "{")?;
    case.verb(["start", &case.id])?.ok()?;
    ensure!(init.wait()? == 0 && init.output()? == "first\n", "it printed {:?}", init.output()?);
    fs::remove_file(case.bundle().join("config.json"))?;
    case.verb(["delete", &case.id])?.ok().map(drop)
}

fn a_signal_to_run_reaches_the_program(case: &mut Case) -> Result<()> {
    case.script("trap 'echo got; exit 9' TERM; echo up; while :; do sleep 0.02; done").write_config()?;
    let bundle = case.bundle();
    let running = case.spawn(["run", "--bundle", &bundle.to_string_lossy(), &case.id])?;
    kernel::eventually("the program runs", || running.output().contains("up"))?;
    let pid = rustix::process::Pid::from_raw(running.pid()).context("a pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    running.wait(Duration::from_secs(10))?.status(9)?.stdout_has("got").map(drop)
}

/// A program that is told to end by the signals of a terminal and of a service manager: `run` cleans up after it.
fn an_interrupted_run_leaves_nothing(case: &mut Case) -> Result<()> {
    use rustix::process::Signal;
    case.script("trap 'exit 3' INT TERM; echo up; while :; do sleep 0.02; done").write_config()?;
    let bundle = case.bundle();
    for signal in [Signal::INT, Signal::TERM] {
        let running = case.spawn(["run", "--bundle", &bundle.to_string_lossy(), &case.id])?;
        kernel::eventually("the program runs", || running.output().contains("up"))?;
        let pid = rustix::process::Pid::from_raw(running.pid()).context("a pid")?;
        rustix::process::kill_process(pid, signal)?;
        running.wait(Duration::from_secs(10))?.status(3).with_context(|| format!("{signal:?}"))?;
        let left = case.leftovers();
        ensure!(left.is_empty(), "after {signal:?} there is {left:?}");
    }
    Ok(())
}

fn output_goes_to_log_files(case: &mut Case) -> Result<()> {
    case.script("echo out; echo err >&2; echo more").write_config()?;
    let command = format!(
        "exec \"$0\" --root {} run --bundle {} {} >{dir}/out.log 2>{dir}/err.log",
        case.root().display(),
        case.bundle().display(),
        case.id,
        dir = case.dir.display()
    );
    let status = std::process::Command::new("sh").args(["-c", &command]).arg(runtime_under_test()).status()?;
    ensure!(status.success(), "{status}");
    let [out, err] = ["out.log", "err.log"].map(|name| kernel::read(case.dir.join(name)));
    let (out, err) = (out?, err?);
    ensure!(out == "out\nmore\n" && err == "err\n", "the logs have {out:?} and {err:?}");
    Ok(())
}

/// The line of docs/learn.md that removes all containers below a root, whatever they do.
fn one_line_removes_all(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    let running = case.up()?;
    let bundle = case.bundle();
    let created = format!("{}-created", case.id);
    case.verb(["create", "--bundle", &bundle.to_string_lossy(), &created])?.ok()?;
    let line = "\"$0\" --root \"$1\" list -q | xargs -r -n 1 \"$0\" --root \"$1\" delete --force";
    let output =
        std::process::Command::new("sh").args(["-c", line]).arg(runtime_under_test()).arg(case.root()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    kernel::eventually("the program has gone", || !kernel::alive(running.pid))?;
    case.verb(["list", "-q"])?.ok()?.stdout_is("")?;
    Ok(())
}

fn a_broken_state_is_said_and_removed(case: &mut Case) -> Result<()> {
    case.args(["true"]);
    case.up()?.wait()?;
    kernel::eventually("it has stopped", || case.state().is_ok_and(|state| state["status"] == "stopped"))?;
    // What is left of the file once it has been cut.
    let file = case.root().join(&case.id).join("state.json");
    let whole = fs::read(&file)?;
    fs::write(&file, &whole[..whole.len() / 2])?;
    for verb in ["state", "start", "delete"] {
        case.verb([verb, &case.id])?
            .refused()?
            .one_sentence()?
            .stderr_has("state.json")?
            .stderr_has("delete --force")?;
    }
    // The others are still listed.
    let other = format!("{}-b", case.id);
    let bundle = case.bundle();
    case.verb(["create", "--bundle", &bundle.to_string_lossy(), &other])?.ok()?;
    case.verb(["list"])?.ok()?.stdout_has(&other)?;
    // With the whole file back it is as before: nothing of the container was touched.
    fs::write(&file, &whole)?;
    case.status_is("stopped")?;
    fs::write(&file, &whole[..whole.len() / 2])?;
    case.verb(["delete", "--force", &case.id])?.ok()?.stderr_has("state.json")?;
    ensure!(!case.root().join(&case.id).exists(), "the state is still there");
    case.verb(["delete", "--force", &other])?.ok().map(drop)?;
    ensure!(kernel::cgroups_named(&case.id).is_empty(), "a cgroup is left");
    Ok(())
}

/// The copy of config.json leads to the cgroups, and they to what runs; nothing else does.
fn a_running_container_with_a_broken_state_is_ended(case: &mut Case) -> Result<()> {
    case.set(
        "/hooks",
        json!({"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", "cat >$OUT"], "env":
        [format!("OUT={}", case.dir.join("poststop").display()), "PATH=/bin:/usr/bin".to_owned()]}]}),
    );
    case.args(["sleep", "60"]);
    let state = case.root().join(&case.id);
    for copy in [true, false] {
        let init = case.up()?;
        fs::write(state.join("state.json"), "{")?;
        if !copy {
            fs::write(state.join("config.json"), "{")?;
        }
        let found = copy && !kernel::cgroups_named(&case.id).is_empty();
        let output = case.verb(["delete", "--force", &case.id])?.ok()?.one_sentence()?;
        ensure!(!state.exists(), "the state is still there");
        if found {
            output.stderr_has("its cgroups are taken from the copy of config.json")?;
            kernel::eventually("the program has gone", || !kernel::alive(init.pid))?;
            ensure!(kernel::read(case.dir.join("poststop"))?.contains(&case.id), "the poststop hook has not run");
        } else {
            output.stderr_has("what of it runs, and its cgroup, is not known and stays")?;
            ensure!(kernel::alive(init.pid), "it has ended what it did not know");
            rustix::process::kill_process(
                rustix::process::Pid::from_raw(init.pid).context("a pid")?,
                rustix::process::Signal::KILL,
            )?;
            init.wait()?;
            for dir in kernel::cgroups_named(&case.id) {
                // systemd may be first, where it made them.
                let _ = fs::remove_dir(dir);
            }
        }
        kernel::eventually("no cgroup is left", || kernel::cgroups_named(&case.id).is_empty())?;
    }
    Ok(())
}

fn two_containers_do_not_disturb_each_other(case: &mut Case) -> Result<()> {
    let first = case.args(["sleep", "60"]).up()?;
    let bundle = case.bundle();
    let other = format!("{}-b", case.id);
    case.verb(["run", "-d", "--bundle", &bundle.to_string_lossy(), &other])?.ok()?;
    case.verb(["delete", "--force", &other])?.ok()?;
    ensure!(kernel::alive(first.pid), "the deletion of another killed it");
    for dir in kernel::cgroups(first.pid)?.values() {
        ensure!(Path::new(dir).is_dir(), "the deletion of another removed {}", dir.display());
    }
    case.status_is("running")?;
    case.delete()
}

/// Nothing, creating, created: never stopped, whenever it is asked.
fn state_beside_create(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let bundle = case.bundle().to_string_lossy().into_owned();
    let rounds = std::env::var("HULL_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    for _ in 0..rounds {
        let create = case.spawn(["create", "--bundle", &bundle, &case.id])?;
        let mut seen = String::new();
        while seen != "created" {
            let output = case.verb(["state", &case.id])?;
            if output.status != 0 {
                output.refused()?.stderr_has("does not exist")?;
                if !seen.is_empty() {
                    let create = create.wait(crate::harness::DEADLINE)?;
                    bail!("it was {seen}, and does not exist; create: {}", create.stderr);
                }
                continue;
            }
            let state: serde_json::Value = serde_json::from_str(&output.stdout)?;
            let now = state["status"].as_str().unwrap_or_default().to_owned();
            ensure!(["creating", "created"].contains(&now.as_str()), "it is {now}, and was {seen:?}");
            seen = now;
        }
        create.wait(crate::harness::DEADLINE)?.ok()?;
        case.delete()?;
    }
    Ok(())
}
