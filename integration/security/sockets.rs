//! Sockets of engines that nobody serves, or that somebody hostile serves: create ends all the same.

use std::fs;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde_json::json;

use super::{ATTACKS, Decoy, escaped};
use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("security/sockets/a_console_socket_that_nobody_reads", console_socket),
        test("security/sockets/a_seccomp_agent_that_does_not_answer", seccomp_agent),
        test("security/sockets/a_pidfd_socket_that_nobody_reads", pidfd_socket).requires(Need::Hull),
        test("security/sockets/a_service_manager_that_does_not_read", service_manager)
            .requires(Need::Hull)
            .requires(Need::Root),
        test("security/sockets/modes_whatever_the_umask", modes_whatever_the_umask).requires(Need::Hull),
        test("security/sockets/modes_whatever_the_umask/userns", |case| {
            modes_whatever_the_umask(case.user_namespace()?)
        })
        .requires(Need::Hull)
        .requires(Need::Root),
        test("security/sockets/a_pid_file_among_links_of_others", pid_file_among_links),
        test("security/sockets/nobody_else_starts_a_container", nobody_else_starts)
            .requires(Need::Hull)
            .requires(Need::Root),
        test("security/sockets/silence_keeps_no_start_waiting", silence_keeps_no_start_waiting).requires(Need::Hull),
        test("security/sockets/init_takes_no_page_that_can_go", init_takes_no_page_that_can_go).requires(Need::Hull),
        test("security/sockets/init_takes_no_page_that_can_go/userns", |case| {
            init_takes_no_page_that_can_go(case.user_namespace()?)
        })
        .requires(Need::Hull)
        .requires(Need::Root),
        test("security/sockets/somebody_else_answers_start", somebody_else_answers)
            .requires(Need::Hull)
            .requires(Need::Root),
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

/// The program is ready, and the manager's queue is full.
fn service_manager(case: &mut Case) -> Result<()> {
    let path = case.dir.join("manager");
    let _manager = UnixDatagram::bind(&path)?;
    let filler = UnixDatagram::unbound()?;
    filler.set_nonblocking(true)?;
    while filler.send_to(b"full", &path).is_ok() {}
    case.env = vec![("NOTIFY_SOCKET".to_owned(), path.display().to_string())];
    case.args(["sleep", "60"]).create()?;
    ATTACKS.fetch_add(1, Ordering::Relaxed);
    let start = case.spawn(["start", &case.id])?;
    let notify = case.root().join(&case.id).join("notify/notify.sock");
    let begun = Instant::now();
    while filler.send_to(b"READY=1", &notify).is_err() {
        ensure!(begun.elapsed() < Duration::from_secs(10), "{} is not there", notify.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = start.wait(Duration::from_secs(25)).context("start waits for the manager")?;
    output.one_sentence()?.stderr_has("has read nothing")?;
    case.delete()
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::symlink_metadata(path).with_context(|| path.display().to_string())?.mode() & 0o7777)
}

/// What hull makes for itself or the container has the modes that it means; what the caller asks for, what the caller's umask
/// leaves to others; what hull runs has the caller's umask.
fn modes_whatever_the_umask(case: &mut Case) -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    // init opens the file too, as root of its user namespace.
    let own_root = case.config["linux"]["uidMappings"].is_array();
    let file = case.dir.join("file");
    fs::write(&file, "x")?;
    for at in ["/made/for/a/mount", "/other/made"] {
        case.mount(json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}));
    }
    case.mount(json!({"destination": "/files/made", "type": "bind", "source": file, "options": ["bind", "ro"]}));
    case.set("/process/cwd", json!("/made/cwd")).set("/root/readonly", json!(false));
    for umask in [0, 0o022, 0o077, 0o777_u32] {
        ATTACKS.fetch_add(1, Ordering::Relaxed);
        case.before = format!("umask {umask:o}");
        let [log, trace, pid, heard, hooks] =
            ["log", "trace", "pid", "heard", "hooks"].map(|name| case.dir.join(format!("{name}-{umask:o}")));
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("umask >> {}", heard.display())],
            "timeout": 10}]);
        fs::write(&heard, "")?;
        fs::set_permissions(&heard, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        case.set("/hooks", json!({"createRuntime": hook, "createContainer": hook, "poststart": hook}));
        if !own_root {
            case.set("/annotations", json!({"run.oci.hooks.stdout": hooks}));
        }
        case.env = vec![("NOTIFY_SOCKET".to_owned(), case.dir.join("nobody").display().to_string())];
        case.script("umask; exec sleep 60").write_config()?;
        let bundle = case.bundle();
        let words: [&std::ffi::OsStr; 12] = [
            "--debug".as_ref(),
            "--log".as_ref(),
            log.as_ref(),
            "--trace".as_ref(),
            trace.as_ref(),
            "create".as_ref(),
            "--pid-file".as_ref(),
            pid.as_ref(),
            "--bundle".as_ref(),
            bundle.as_ref(),
            "--pidfd-socket=".as_ref(),
            case.id.as_ref(),
        ];
        // The log is made when there is something to say.
        fs::remove_file(&log).or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
        let init = case.verb(words)?.ok()?;
        let number = fs::read_to_string(&pid)?.parse()?;
        let init = init.init(number);
        let state = case.root().join(&case.id);
        let callers = 0o644 & !(umask & 0o077);
        let mut wanted = vec![
            (state.clone(), 0o711),
            (state.join("state.json"), 0o600),
            (state.join("config.json"), 0o600),
            (state.join("start.sock"), 0o600),
            (state.join("notify"), 0o755),
            (pid.clone(), callers),
            (trace, callers),
        ];
        wanted.extend((!own_root).then_some((hooks, 0o600)));
        wanted.extend(log.exists().then(|| (log.clone(), callers)));
        for made in ["made", "made/for", "made/for/a", "made/cwd", "other", "files", "files/made"] {
            wanted.push((case.rootfs().join(made), 0o755));
        }
        if root {
            wanted.extend(kernel::cgroups_named(&case.id).into_iter().map(|path| (path, 0o755)));
        }
        for (path, wanted) in wanted {
            // A mount point is covered in the container only.
            let mode = mode(&path)?;
            if mode != wanted {
                return escaped(format!("umask {umask:03o}: {} has mode {mode:o}, not {wanted:o}", path.display()));
            }
        }
        case.env.clear();
        case.verb(["start", &case.id])?.ok()?;
        init.wait_for("0022")?;
        let heard = fs::read_to_string(&heard)?;
        ensure!(heard == format!("{umask:04o}\n").repeat(3), "umask {umask:03o}: the hooks have {heard:?}");
        case.before = String::new();
        case.delete()?;
        for made in ["made", "other", "files"] {
            fs::remove_dir_all(case.rootfs().join(made))?;
        }
    }
    Ok(())
}

/// Runs `what` with the ids of nobody.
fn as_nobody<T: Send>(what: impl FnOnce() -> T + Send) -> Result<T> {
    let nobody = || -> Result<T> {
        let (uid, gid) = (rustix::process::Uid::from_raw(65_534), rustix::process::Gid::from_raw(65_534));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        Ok(what())
    };
    std::thread::scope(|scope| scope.spawn(nobody).join().expect("the thread does not panic"))
}

fn socket() -> Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// By a short way: a socket's address has room for 107 bytes.
fn address(case: &Case) -> Result<(OwnedFd, SocketAddrUnix)> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let dir = rustix::fs::open(case.root().join(&case.id), flags, rustix::fs::Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/start.sock", std::os::fd::AsRawFd::as_raw_fd(&dir)));
    Ok((dir, SocketAddrUnix::new(path)?))
}

fn connection(case: &Case) -> Result<OwnedFd> {
    let socket = socket()?;
    let (_dir, address) = address(case)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

fn send(socket: &OwnedFd, bytes: &[u8], fds: &[&OwnedFd]) -> Result<()> {
    let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ensure!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)), "too many descriptors");
    }
    // init may have dropped the connection by now.
    let _ = rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL);
    Ok(())
}

/// The start socket of a container whose caller had umask 0.
fn nobody_else_starts(case: &mut Case) -> Result<()> {
    case.before = "umask 0".to_owned();
    case.script("echo started; exec sleep 60").create()?;
    case.before = String::new();
    // On the way to it, too, everything is open.
    for path in [case.dir.as_path(), &case.root()] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    ATTACKS.fetch_add(1, Ordering::Relaxed);
    let (dir, address) = address(case)?;
    let connected = as_nobody(|| {
        let socket = socket()?;
        rustix::net::connect(&socket, &address)?;
        anyhow::Ok(socket)
    })?;
    drop(dir);
    if connected.is_ok() {
        return escaped("any user reaches the start socket");
    }
    // And who reaches it, by a mount of it perhaps, has to know what state.json says.
    let page = page(4096, SealFlags::SHRINK)?;
    for words in [b"start".as_slice(), b"", &[b'0'; 32], &[b'f'; 31], &[0; 64]] {
        ATTACKS.fetch_add(1, Ordering::Relaxed);
        let socket = connection(case)?;
        send(&socket, words, &[&page])?;
        heard(&socket)?;
        if case.state()?["status"] != "created" {
            return escaped(format!("{words:?} is enough to start the container"));
        }
    }
    case.verb(["start", &case.id])?.ok()?;
    case.delete()
}

fn page(size: u64, seals: SealFlags) -> Result<OwnedFd> {
    let fd = memfd_create("page", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, size)?;
    fcntl_add_seals(&fd, seals)?;
    Ok(fd)
}

/// Waits until init has dropped the connection, or says something.
fn heard(socket: &OwnedFd) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&limit))?;
    ensure!(ready > 0, "init does not answer");
    Ok(())
}

fn silence_keeps_no_start_waiting(case: &mut Case) -> Result<()> {
    for count in [1, 7, 8, 20] {
        let init = case.script("echo started; exec sleep 60").create()?;
        ATTACKS.fetch_add(1, Ordering::Relaxed);
        let mut silent = Vec::new();
        for _ in 0..count {
            let begun = Instant::now();
            // The queue of the socket is short: init takes one after the other.
            loop {
                match connection(case) {
                    Ok(connection) => break silent.push(connection),
                    Err(error) => ensure!(begun.elapsed() < Duration::from_secs(10), "{error:#}"),
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        case.verb(["start", &case.id]).with_context(|| format!("{count} silent connections"))?.ok()?;
        init.wait_for("started")?;
        drop(silent);
        case.delete()?;
    }
    Ok(())
}

/// Whoever knows the key, or need not know one: what init touches later must be there then.
fn init_takes_no_page_that_can_go(case: &mut Case) -> Result<()> {
    let init = case.script("echo started; exec sleep 60").create()?;
    let state: serde_json::Value = serde_json::from_str(&kernel::read(case.root().join(&case.id).join("state.json"))?)?;
    let key = state["key"].as_str().unwrap_or("start").as_bytes();
    let mut plain = fs::File::create(case.dir.join("plain"))?;
    plain.write_all(&[0; 4096])?;
    let reader = fs::File::open(case.dir.join("plain"))?;
    let pages: [(&str, OwnedFd); 8] = [
        ("an empty one", page(0, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?),
        ("a short one", page(1, SealFlags::SHRINK)?),
        ("a byte too short", page(4095, SealFlags::SHRINK)?),
        ("one that can shrink", page(4096, SealFlags::GROW)?),
        ("one that cannot be written", page(4096, SealFlags::SHRINK | SealFlags::WRITE)?),
        ("a plain file", plain.into()),
        ("a file for reading", reader.into()),
        ("a directory", fs::File::open(&case.dir)?.into()),
    ];
    for (what, page) in &pages {
        ATTACKS.fetch_add(1, Ordering::Relaxed);
        let socket = connection(case)?;
        send(&socket, key, &[page])?;
        let _ = heard(&socket);
        if case.state()?["status"] != "created" {
            return escaped(format!("{what}: the container is {}", case.state()?["status"]));
        }
    }
    for fds in [vec![], vec![&pages[0].1, &pages[1].1, &pages[2].1]] {
        let socket = connection(case)?;
        send(&socket, key, &fds)?;
        heard(&socket)?;
        drop(socket);
    }
    case.status_is("created")?;
    case.verb(["start", &case.id])?.ok()?;
    init.wait_for("started")?;
    case.delete()
}

/// The socket in the state directory is another user's: `start` hands it nothing, and says so.
fn somebody_else_answers(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).create()?;
    ATTACKS.fetch_add(1, Ordering::Relaxed);
    let path = case.root().join(&case.id).join("start.sock");
    fs::rename(&path, case.dir.join("kept.sock"))?;
    let (dir, address) = address(case)?;
    let socket = socket()?;
    rustix::net::bind(&socket, &address)?;
    drop(dir);
    // The kernel takes the credentials of who listens.
    as_nobody(|| rustix::net::listen(&socket, 8))??;
    let output = case.verb(["start", &case.id])?.refused()?.one_sentence()?;
    output.stderr_has("user 65534 answers")?;
    case.status_is("created")?;
    fs::rename(case.dir.join("kept.sock"), &path)?;
    case.verb(["start", &case.id])?.ok()?;
    case.delete()
}

/// A directory like /tmp, where somebody has put links with the names that a runtime may make there.
fn pid_file_among_links(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let shared = case.dir.join("shared");
    fs::create_dir(&shared)?;
    let secret = decoy.path.join("secret");
    let link = |name: &str| std::os::unix::fs::symlink(&secret, shared.join(name));
    for name in ["pid.tmp", ".pid.tmp", "pid~", "pid"] {
        link(name)?;
    }
    let last = kernel::read("/proc/loadavg")?;
    let last: u32 = last.split_whitespace().last().context("loadavg")?.parse()?;
    for pid in last..last + 2000 {
        link(&format!(".pid.{pid}"))?;
        link(&format!("pid.{pid}"))?;
    }
    let planted = || fs::read_dir(&shared).map(Iterator::count);
    let before = planted()?;
    ATTACKS.fetch_add(1, Ordering::Relaxed);
    let path = shared.join("pid").to_string_lossy().into_owned();
    case.args(["sleep", "60"]).try_create(&["--pid-file", &path])?.ok()?;
    decoy.unchanged("the pid file of create")?;
    ensure!(fs::symlink_metadata(&path)?.is_file(), "what lies at {path} is no file");
    case.verb(["start", &case.id])?.ok()?;
    fs::remove_file(&path)?;
    link("pid")?;
    ATTACKS.fetch_add(1, Ordering::Relaxed);
    case.verb(["exec", "--pid-file", &path, &case.id, "true"])?.ok()?;
    decoy.unchanged("the pid file of exec")?;
    ensure!(planted()? == before, "a file was left in {}", shared.display());
    // A rename that fails leaves nothing.
    let taken = shared.join("taken");
    fs::create_dir_all(taken.join("full"))?;
    let path = taken.to_string_lossy().into_owned();
    let failed = case.verb(["exec", "--pid-file", &path, &case.id, "true"])?;
    ensure!(failed.status != 0, "a directory was replaced");
    ensure!(planted()? == before + 1, "a file was left in {}", shared.display());
    // So may the whole name be as long as any.
    let long = shared.join("p".repeat(255)).to_string_lossy().into_owned();
    case.verb(["exec", "--pid-file", &long, &case.id, "true"])?.ok()?;
    ensure!(fs::metadata(&long)?.is_file(), "no pid file with a long name");
    decoy.unchanged("the pid files")?;
    case.delete()
}
