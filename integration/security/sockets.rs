//! Sockets of engines that nobody serves, or that somebody hostile serves: create ends all the same.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::ATTACKS;
use crate::harness::{Case, Test, test};

pub fn cases() -> Vec<Test> {
    vec![
        test("security/sockets/a_console_socket_that_nobody_reads", console_socket),
        test("security/sockets/a_seccomp_agent_that_does_not_answer", seccomp_agent),
        test("security/sockets/a_pidfd_socket_that_nobody_reads", pidfd_socket).requires(crate::harness::Need::Hull),
    ]
}

/// A socket whose queue of connections is full, one that was closed, and files that are no sockets.
fn each_kind(case: &Case, mut try_it: impl FnMut(&str, &str) -> Result<()>) -> Result<()> {
    let path = |name: &str| case.dir.join(name);
    let full = path("full.sock");
    let listener = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::bind(&listener, &rustix::net::SocketAddrUnix::new(&full)?)?;
    rustix::net::listen(&listener, 0)?;
    let _waiting = std::os::unix::net::UnixStream::connect(&full)?;
    // Connections are taken up by the kernel, and nobody ever reads.
    let _silent = UnixListener::bind(path("silent.sock"))?;
    drop(UnixListener::bind(path("closed.sock"))?);
    fs::write(path("file.sock"), "")?;
    let fifo = path("fifo.sock");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o666), 0)?;
    let _datagram = std::os::unix::net::UnixDatagram::bind(path("datagram.sock"))?;
    for name in ["silent.sock", "full.sock", "closed.sock", "file.sock", "fifo.sock", "datagram.sock", "nosuch.sock"] {
        try_it(name, &path(name).to_string_lossy())?;
    }
    Ok(())
}

fn ends(case: &Case, what: &str, options: &[&str]) -> Result<()> {
    ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let output = case.try_create(options)?;
    ensure!(output.took < Duration::from_secs(12), "{what}: create took {:?}", output.took);
    if output.status == 0 {
        return case.delete();
    }
    output.refused()?;
    let left = case.leftovers();
    ensure!(left.is_empty(), "{what}: left behind {left:?}");
    Ok(())
}

fn console_socket(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true));
    each_kind(case, |what, path| ends(case, what, &["--console-socket", path]))
}

fn pidfd_socket(case: &mut Case) -> Result<()> {
    each_kind(case, |what, path| ends(case, what, &["--pidfd-socket", path]))
}

fn seccomp_agent(case: &mut Case) -> Result<()> {
    let mut paths = Vec::new();
    // The config changes with each socket; all of them have to be open meanwhile.
    let template = case.config.clone();
    each_kind(case, |what, path| {
        paths.push((what.to_owned(), path.to_owned()));
        let mut config = template.clone();
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "x".repeat(1 << 20),
            "syscalls": [{"names": ["swapoff"], "action": "SCMP_ACT_NOTIFY"}]});
        fs::write(case.bundle().join("config.json"), serde_json::to_string(&config)?)?;
        ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let bundle = case.bundle();
        let output = case.verb(["create", "--bundle", &bundle.to_string_lossy(), &case.id])?;
        ensure!(output.took < Duration::from_secs(12), "{what}: create took {:?}", output.took);
        if output.status == 0 { case.delete() } else { output.refused().map(drop) }
    })
}
