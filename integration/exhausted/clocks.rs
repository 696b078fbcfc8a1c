//! Clocks of another namespace, and numbers of processes that are used again.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::nothing_left;
use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let root = |name, body| test(name, body).requires(Need::Root).requires(Need::Tool("unshare")).requires(Need::Hull);
    vec![
        // Without pidfd_open a process is known by its start time, which other clocks see otherwise.
        root("exhausted/clocks_of_another_time_namespace", time_namespace).requires(Need::Call("pidfd_open")),
        root("exhausted/a_pid_that_is_used_again", pid_used_again),
    ]
}

/// Who reads start times in another time namespace sees others; the container is the same.
fn time_namespace(case: &mut Case) -> Result<()> {
    const THERE: &str = "set -- unshare --time --boottime 5000000 --monotonic 5000000 \"$@\"";
    case.before = THERE.to_owned();
    let output = case.verb(["--version"])?;
    if output.stderr.contains("unrecognized option") || output.stderr.contains("unshare failed") {
        println!("   exhausted/clocks_of_another_time_namespace: {}", output.stderr.trim());
        return Ok(());
    }
    case.args(["sleep", "60"]);
    // Made in one, used in the other, and the other way round.
    for (made, used) in [("", THERE), (THERE, "")] {
        case.before = made.to_owned();
        case.create()?;
        case.before = used.to_owned();
        case.status_is("created")?;
        case.verb(["start", &case.id])?.ok()?;
        case.status_is("running")?;
        case.verb(["exec", &case.id, "echo", "fine"])?.ok()?.stdout_is("fine\n")?;
        case.verb(["delete", &case.id])?.refused()?.stderr_has("not stopped: running")?;
        case.status_is("running")?;
        case.verb(["kill", &case.id, "KILL"])?.ok()?;
        kernel::eventually("it stops", || case.status_is("stopped").is_ok())?;
        case.verb(["delete", &case.id])?.ok()?;
        nothing_left(case, "after delete")?;
    }
    Ok(())
}

/// In a pid namespace of its own, where the next number can be chosen: another process gets init's, at once.
fn pid_used_again(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).write_config()?;
    let script = r#"
        set -e
        hull() { "$RUNTIME" --root "$ROOT" "$@" </dev/null; }
        hull create --bundle "$BUNDLE" --pid-file "$BUNDLE/pid" "$ID"
        hull start "$ID"
        pid=$(cat "$BUNDLE/pid")
        hull kill "$ID" KILL
        # This shell is the first process here: init is its child now, and is taken in by wait.
        while [ -e /proc/$pid ]; do wait $pid 2>/dev/null || true; sleep 0.01; done
        echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid
        sleep 60 &
        [ $! = $pid ] || { echo "the number was not given again: $! and not $pid"; exit 4; }
        hull state "$ID" | grep -q '"stopped"' || { echo "taken for the container"; exit 5; }
        hull kill "$ID" KILL && exit 6
        hull kill --all "$ID" KILL
        hull delete --force "$ID"
        kill -0 $pid || { echo "it was hit"; exit 7; }
        kill -KILL $pid"#;
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script])
        .envs([("RUNTIME", &case.runtime), ("ROOT", &case.root()), ("BUNDLE", &case.bundle())])
        .env("ID", &case.id)
        .output()
        .context("unshare")?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}: {text}", output.status);
    nothing_left(case, "after delete")
}
