//! CVE-2019-5736: the container writes to the runtime's own file, which the host's root then runs.
//!
//! The runtime under test is a copy, so that an attack that works hurts nobody. The watcher is a container with every
//! capability that shares its pid namespace with the one that is made.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{ATTACKS, attacker, capabilities, escaped, rounds, second, share};
use crate::harness::{Case, Init, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("security/CVE-2019-5736/the_program_is_the_runtime_itself", program_is_the_runtime),
        test("security/CVE-2019-5736/the_program_is_the_runtime_itself/userns", |case| {
            program_is_the_runtime(case.user_namespace()?)
        })
        .requires(Need::Root),
        test("security/CVE-2019-5736/a_watcher_opens_the_executable", |case| watcher(case, Life::Run))
            .requires(Need::Root)
            .requires(Need::Tool("gcc")),
        test("security/CVE-2019-5736/a_watcher_opens_the_executable/userns", |case| {
            watcher(case.user_namespace()?, Life::Run)
        })
        .requires(Need::Root)
        .requires(Need::Tool("gcc")),
        test("security/CVE-2019-5736/a_watcher_opens_the_executable_of_exec", |case| watcher(case, Life::Exec))
            .requires(Need::Root)
            .requires(Need::Verb("exec"))
            .requires(Need::Tool("gcc")),
        test("security/CVE-2019-5736/a_watcher_opens_the_executable_of_exec/userns", |case| {
            watcher(case.user_namespace()?, Life::Exec)
        })
        .requires(Need::Root)
        .requires(Need::Verb("exec"))
        .requires(Need::Tool("gcc")),
        test("security/CVE-2019-5736/a_created_container_keeps_no_writable_file", created),
        test("security/CVE-2019-5736/a_created_container_keeps_no_writable_file/userns", |case| {
            created(case.user_namespace()?)
        })
        .requires(Need::Root),
        test("security/CVE-2019-5736/the_sealed_copy_is_not_writable", sealed_copy)
            .requires(Need::Root)
            .requires(Need::Hull),
    ]
}

/// A copy of the runtime, and what identifies it.
struct Copy {
    path: std::path::PathBuf,
    bytes: Vec<u8>,
    identity: [String; 2],
}

impl Copy {
    fn of(case: &mut Case) -> Result<Copy> {
        let path = case.dir.join(case.runtime.file_name().context("a file")?);
        fs::copy(&case.runtime, &path)?;
        // Its mode protects nothing: root of a user namespace may write to it, too, if only it can open it.
        fs::set_permissions(&path, PermissionsExt::from_mode(0o777))?;
        case.runtime.clone_from(&path);
        let meta = fs::metadata(&path)?;
        Ok(Copy { bytes: fs::read(&path)?, identity: [meta.dev().to_string(), meta.ino().to_string()], path })
    }

    fn unchanged(&self, what: &str) -> Result<()> {
        if fs::read(&self.path)? != self.bytes {
            return escaped(format!("{what}: the runtime's file was written"));
        }
        Ok(())
    }
}

/// The entry point is a script whose interpreter is /proc/self/exe, or that link itself; also what it loads is hostile.
fn program_is_the_runtime(case: &mut Case) -> Result<()> {
    let copy = Copy::of(case)?;
    let script = case.rootfs().join("bin/entry");
    fs::write(&script, "#!/proc/self/exe\n")?;
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
    case.set("/root/readonly", json!(false));
    for args in [vec!["/bin/entry"], vec!["/proc/self/exe"], vec!["/proc/self/exe", "--help"], vec!["/proc/1/exe"]] {
        case.args(args.clone());
        ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // It may well run, as a program of the container like another: the file behind it is what counts.
        case.run()?;
        copy.unchanged(&format!("{args:?}"))?;
        let init = match case.try_create(&[])?.status {
            0 => case.pid()?,
            _ => continue,
        };
        // The descriptor is kept until nobody runs the file any more, which alone would forbid to write to it (ETXTBSY).
        let exe = format!("/proc/{init}/exe");
        let kept = rustix::fs::open(&exe, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
        case.verb(["start", &case.id])?;
        if fs::metadata(&exe).is_ok_and(|meta| copy.identity[1] == meta.ino().to_string()) {
            writable(&exe, &copy)?;
        }
        case.delete()?;
        if let Ok(kept) = kept {
            use std::os::fd::AsRawFd;
            kernel::eventually("init is gone", || !kernel::alive(init))?;
            let path = format!("/proc/self/fd/{}", kept.as_raw_fd());
            if same_file(&path, &copy) && fs::File::options().write(true).open(&path).is_ok() {
                return escaped(format!("{args:?}: a descriptor of init's executable could be opened for writing"));
            }
        }
    }
    Ok(())
}

/// From outside, with the host's root: neither while the process lives nor by a descriptor afterwards.
fn writable(exe: &str, copy: &Copy) -> Result<()> {
    if let Ok(file) = fs::File::options().write(true).open(exe) {
        drop(file);
        return escaped(format!("{exe} could be opened for writing"));
    }
    copy.unchanged(exe)
}

enum Life {
    Run,
    Exec,
}

/// A hostile container that shares the pid namespace, with all capabilities, looks at every process that appears.
fn watcher(case: &mut Case, life: Life) -> Result<()> {
    let copy = Copy::of(case)?;
    attacker(case)?;
    fs::create_dir_all(case.rootfs().join("shared"))?;
    fs::set_permissions(case.rootfs().join("shared"), PermissionsExt::from_mode(0o777))?;
    let stop = case.rootfs().join("shared/stop");
    let all: Vec<&str> = ALL.split_whitespace().collect();
    capabilities(&mut case.config, &all);
    let [dev, ino] = &copy.identity;
    case.script(&format!("echo up; attacker exe {dev} {ino} /shared/stop; echo end; sleep 60"));
    let watcher = case.up()?;
    watcher.wait_for("up")?;
    let user = case.config["linux"]["uidMappings"].is_array();
    let (bundle, id) = second(case, |config| {
        let mut kinds = vec![("pid", "pid")];
        if user {
            // The same user namespace, too: the watcher's capabilities count over the processes that enter it.
            kinds.push(("user", "user"));
        }
        share(config, watcher.pid, &kinds);
        config["process"]["args"] = json!(["true"]);
    })?;
    let mut ran = 0;
    for _ in 0..rounds() {
        ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let output = match life {
            Life::Run => case.verb(["run", "--bundle", &bundle, &id])?,
            Life::Exec => case.verb(["exec", &case.id, "true"])?,
        };
        ran += u32::from(output.status == 0);
        copy.unchanged("a watcher in the pid namespace")?;
    }
    fs::write(&stop, "")?;
    watcher.wait_for("end")?;
    copy.unchanged("a watcher in the pid namespace, by descriptors that it kept")?;
    told(&watcher)?;
    case.delete()?;
    ensure!(ran > 0, "not one of the processes that were to be watched ran");
    Ok(())
}

/// The watcher's own count agrees: it looked, and it wrote nothing.
fn told(watcher: &Init) -> Result<()> {
    let text = watcher.output()?;
    let line = text.lines().find(|line| line.starts_with("looked ")).context("the watcher said nothing")?;
    ensure!(line.ends_with(" written 0"), "the watcher says {line:?}");
    ensure!(!line.starts_with("looked 0 "), "the watcher looked at nothing");
    Ok(())
}

/// Between create and start the runtime's own code waits in the container: the host's root looks at it in its place.
fn created(case: &mut Case) -> Result<()> {
    let copy = Copy::of(case)?;
    let init = case.args(["true"]).create()?;
    ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let exe = format!("/proc/{}/exe", init.pid);
    // An ordinary user may not look at a process that is not dumpable at all.
    if fs::metadata(&exe).is_ok() {
        writable(&exe, &copy)?;
        let kept = rustix::fs::open(&exe, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?;
        case.verb(["start", &case.id])?.ok()?;
        init.wait()?;
        kernel::eventually("init is gone", || !kernel::alive(init.pid))?;
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fd/{}", kept.as_raw_fd());
        if same_file(&path, &copy) && fs::File::options().write(true).open(&path).is_ok() {
            return escaped("a descriptor that was kept could be opened for writing when init had gone");
        }
        copy.unchanged("by a kept descriptor")?;
    }
    case.delete()
}

/// The last way, where no read-only view can be had: init runs from a copy in memory, which its seals protect.
fn sealed_copy(case: &mut Case) -> Result<()> {
    let copy = Copy::of(case)?;
    let init = case.deny("mount_setattr,open_tree:EPERM").args(["true"]).create()?;
    let exe = format!("/proc/{}/exe", init.pid);
    let link = fs::read_link(&exe)?.to_string_lossy().into_owned();
    ensure!(link.starts_with("/memfd:"), "init runs from {link}, not from a copy in memory");
    ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let kept = rustix::fs::open(&exe, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?;
    writable(&exe, &copy)?;
    let before = fs::read(&exe)?;
    case.verb(["start", &case.id])?.ok()?;
    init.wait()?;
    // Nobody runs it any more: only the seals are left, which forbid writing, growing and shrinking.
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", kept.as_raw_fd());
    if let Ok(file) = fs::File::options().write(true).open(&path) {
        use std::os::unix::fs::FileExt;
        if file.write_at(b"x", 0).is_ok() || file.set_len(0).is_ok() {
            return escaped("the copy in memory could be written to");
        }
    }
    ensure!(fs::read(&path)? == before, "the copy in memory has changed");
    copy.unchanged("the copy in memory")?;
    case.delete()
}

fn same_file(path: &str, copy: &Copy) -> bool {
    fs::metadata(path).is_ok_and(|meta| [meta.dev().to_string(), meta.ino().to_string()] == copy.identity)
}

const ALL: &str = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID \
    CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK \
    CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT \
    CAP_SYS_NICE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP";
