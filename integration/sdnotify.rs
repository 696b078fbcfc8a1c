//! NOTIFY_SOCKET: the program says READY=1, and hull's own service manager hears of it. sd_notify(3).

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("sdnotify/start_waits_for_ready", start_waits_for_ready).requires(Need::Tool("python3")),
        test("sdnotify/run_in_the_foreground_passes_it_on", run_passes_it_on).requires(Need::Tool("python3")),
        test("sdnotify/the_end_of_the_program_is_enough", the_end_is_enough),
        test("sdnotify/nothing_is_there_without_a_manager", nothing_is_there),
    ]
    .into_iter()
    .map(|test| test.requires(Need::Root).peer("crun", "waits for another socket"))
    .collect()
}

/// The service manager's socket, and what the program needs to write to its own: the host's python, read-only.
fn manager(case: &mut Case) -> Result<(UnixDatagram, PathBuf)> {
    let path = case.dir.join("manager");
    let _ = fs::remove_file(&path);
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(Duration::from_secs(10)))?;
    case.env = vec![("NOTIFY_SOCKET".to_owned(), path.display().to_string())];
    case.set("/root/readonly", json!(false));
    for dir in ["/usr", "/lib", "/lib64"] {
        let dir = fs::canonicalize(dir).map(|real| (dir, real));
        if let Ok((name, real)) = dir {
            case.mount(json!({"destination": name, "type": "bind", "source": real, "options": ["rbind", "ro"]}));
        }
    }
    Ok((manager, path))
}

/// Writes to the socket as a daemon does, then goes on.
const DAEMON: &str = "import os, socket, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
    s.connect(os.environ['NOTIFY_SOCKET']); s.send(b'STATUS=early'); time.sleep(0.3); \
    print(os.environ['NOTIFY_SOCKET'], flush=True); s.send(b'STATUS=up\\nREADY=1'); time.sleep(WAIT)";

fn hears(manager: &UnixDatagram) -> Result<String> {
    let mut buffer = [0; 256];
    let length = manager.recv(&mut buffer).context("nothing came")?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn start_waits_for_ready(case: &mut Case) -> Result<()> {
    let (socket, _) = manager(case)?;
    let init = case.args(["/usr/bin/python3", "-c", &DAEMON.replace("WAIT", "60")]).create()?;
    let started = std::thread::scope(|scope| {
        // The barrier holds start until the manager has read all: it must be read meanwhile.
        let heard = scope.spawn(|| Ok::<_, anyhow::Error>([hears(&socket)?, hears(&socket)?, hears(&socket)?]));
        let output = case.verb(["start", &case.id]);
        (output, heard.join().expect("the reader does not panic"))
    });
    let mount = kernel::mount_at(init.pid, "/run/notify");
    let text = init.output();
    case.delete()?;
    let took = started.0?.ok()?.took;
    ensure!(took > Duration::from_millis(300), "start came back after {took:?}, before READY");
    ensure!(
        started.1? == ["READY=1".to_owned(), format!("MAINPID={}", init.pid), "BARRIER=1".to_owned()],
        "other words"
    );
    ensure!(text? == "/run/notify/notify.sock\n", "the program has another socket");
    ensure!(
        ["ro", "nosuid", "nodev", "noexec"].iter().all(|flag| mount.as_ref().is_ok_and(|m| m.has(flag))),
        "{mount:?}"
    );
    Ok(())
}

fn run_passes_it_on(case: &mut Case) -> Result<()> {
    let (socket, _) = manager(case)?;
    case.args(["/usr/bin/python3", "-c", &DAEMON.replace("WAIT", "0.2")]).write_config()?;
    let running = case.spawn(["run", "--bundle", &case.bundle().to_string_lossy(), &case.id])?;
    let heard = [hears(&socket), hears(&socket), hears(&socket)];
    running.wait(Duration::from_secs(20))?.ok()?.stdout_is("/run/notify/notify.sock\n")?;
    let [ready, pid, barrier] = heard;
    ensure!(ready? == "READY=1" && pid?.starts_with("MAINPID=") && barrier? == "BARRIER=1", "other words");
    Ok(())
}

fn the_end_is_enough(case: &mut Case) -> Result<()> {
    let _manager = manager(case)?;
    case.args(["true"]).create()?;
    let output = case.verb(["start", &case.id])?.ok()?;
    case.delete()?;
    ensure!(output.took < Duration::from_secs(5), "start took {:?}", output.took);
    Ok(())
}

fn nothing_is_there(case: &mut Case) -> Result<()> {
    case.script("echo x$NOTIFY_SOCKET; ls -d /run/notify 2>/dev/null | wc -l").prints("x\n0\n")
}
