//! Namespaces and idmapped mounts, tried by children that exit at once.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::OpenTreeFlags;
use rustix::process::{Pid, PidfdFlags, WaitOptions};

use super::{Findings, Status, Whom, read};
use crate::error::{Strerror, show};
use crate::host::HostFacts;
use crate::plan::idmap::{IdMap, IdMaps, Writer};
use crate::plan::namespaces::Kind;
use crate::steps;
use crate::sys::clone::{Cloned, clone3, exit_now};
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::sys::namespace;

pub(super) fn look(host: &HostFacts, out: &mut Findings) {
    (out.area, out.whom) = ("namespaces", Whom::All);
    let user = Kind::User.flag();
    for (kind, name, flag) in Kind::ALL {
        if kind == Kind::User {
            continue;
        }
        // An ordinary user makes the others in a user namespace only.
        let flags = if host.rootless() { user | flag } else { flag };
        // Nothing runs without a mount namespace; config.json asks for the others, or does without.
        let otherwise = if kind == Kind::Mount { Status::Missing } else { Status::Lacking };
        let cure = format!("a kernel with it, and a limit above 0 in /proc/sys/user/max_{}_namespaces", file(name));
        out.check(name, attempt(flags).map(|()| "can be made".into()), otherwise, &cure);
    }
    user_namespaces(host, out);
    if !host.rootless() {
        idmapped_mounts(out);
    }
}

/// The kernel's name of a kind in /proc.
fn file(name: &str) -> &str {
    match name {
        "network" => "net",
        "mount" => "mnt",
        name => name,
    }
}

/// Makes namespaces in a child, by unshare(2), which takes every kind.
fn attempt(flags: u64) -> Result<(), String> {
    match clone3(0, None, libc::SIGCHLD) {
        Err(error) => Err(format!("clone3: {}", Strerror(error.raw_os_error().unwrap_or(0)))),
        // The child is gone in a moment, and lets nobody use that.
        Ok(Cloned::Child) if steps::process::not_dumpable_if_root().is_err() => exit_now(libc::EPERM),
        Ok(Cloned::Child) => exit_now(namespace::unshare(flags).err().and_then(|e| e.raw_os_error()).unwrap_or(0)),
        Ok(Cloned::Parent { pid, .. }) => match wait(pid) {
            Some(0) => Ok(()),
            Some(errno) => Err(format!("unshare: {}", Strerror(errno))),
            None => Err("the child that tried was killed".into()),
        },
    }
}

fn wait(pid: i32) -> Option<i32> {
    let (_, status) = rustix::process::waitpid(Some(Pid::from_raw(pid)?), WaitOptions::empty()).ok()??;
    status.exit_status()
}

fn user_namespaces(host: &HostFacts, out: &mut Findings) {
    let limit = read("/proc/sys/user/max_user_namespaces");
    let tried = attempt(Kind::User.flag());
    let switches = [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "an AppArmor profile for hull with `userns,`, or sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ];
    let off = switches.iter().find(|(path, off, _)| read(path).is_some_and(|text| text == *off));
    let cure = match (off, limit.as_deref()) {
        (Some((_, _, cure)), _) => *cure,
        (None, Some("0")) => "sysctl user.max_user_namespaces=10000",
        _ => "a kernel with CONFIG_USER_NS, and no filter around hull that denies unshare",
    };
    let otherwise = if host.rootless() { Status::Missing } else { Status::Lacking };
    let detail = format!("can be made, at most {} of them", limit.as_deref().unwrap_or("?"));
    out.check("user", tried.map(|()| detail), otherwise, cure);
    if !host.rootless() {
        // Root may what others may not: for them the switches tell.
        out.whom = Whom::Rootless;
        let found = match off {
            Some((path, value, _)) => Err(format!("{path} is {value}")),
            None => Ok("nothing forbids them to ordinary users".into()),
        };
        out.check("user", found, Status::Missing, cure);
        out.whom = Whom::All;
    }
}

/// Which file systems of this host take an idmapped mount: a detached copy of a mount is mapped, and dropped.
fn idmapped_mounts(out: &mut Findings) {
    let userns = match user_namespace() {
        Ok(userns) => userns,
        Err(what) => return out.add("idmapped mounts", Status::Lacking, what, "user namespaces, see above"),
    };
    let (mut able, mut unable) = (Vec::new(), Vec::new());
    for (kind, mount) in disks() {
        let tried = rustix::mount::open_tree(
            CWD,
            mount.as_str(),
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )
        .map_err(std::io::Error::from)
        .and_then(|tree| {
            let attr = MountAttr { userns: Some(userns.as_fd()), ..MountAttr::default() };
            mount_setattr(tree.as_fd(), &attr, false)
        });
        match tried {
            Ok(()) => able.push(kind),
            Err(error) => unable.push(format!("{kind} on {} ({error})", show(Path::new(&mount)))),
        }
    }
    let cure = "idmap and ridmap work on file systems with support in this kernel only";
    if unable.is_empty() {
        out.add("idmapped mounts", Status::Ok, format!("work on {}", able.join(", ")), "");
    } else {
        let works = if able.is_empty() { "nothing".into() } else { able.join(", ") };
        let detail = format!("work on {works}, not on {}", unable.join(", "));
        out.add("idmapped mounts", if able.is_empty() { Status::Lacking } else { Status::Note }, detail, cure);
    }
}

/// One mount point of each type of file system that holds files.
fn disks() -> Vec<(String, String)> {
    let known = read("/proc/filesystems").unwrap_or_default();
    // `nodev` file systems are the kernel's own views, but for these.
    let on_device = |kind: &str| known.lines().any(|line| line.trim() == kind && !line.starts_with("nodev"));
    let holds_files = |kind: &str| on_device(kind) || matches!(kind, "tmpfs" | "overlay" | "nfs4" | "virtiofs" | "9p");
    let mut found: Vec<(String, String)> = Vec::new();
    for line in read("/proc/self/mountinfo").unwrap_or_default().lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(mount), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next()) else { continue };
        // Spaces are escaped there; such a mount point is not worth the trouble.
        if holds_files(kind) && !mount.contains('\\') && !found.iter().any(|(other, _)| other == kind) {
            found.push((kind.to_owned(), mount.to_owned()));
        }
    }
    found
}

/// A user namespace that maps one id, held by a descriptor alone.
fn user_namespace() -> Result<OwnedFd, String> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|errno| errno.to_string())?;
    steps::process::not_dumpable_if_root().map_err(|error| error.to_string())?;
    let (pid, pidfd) = match clone3(Kind::User.flag(), None, libc::SIGCHLD) {
        Err(error) => return Err(error.to_string()),
        Ok(Cloned::Child) => {
            // Waits until the other end is closed.
            drop(write);
            let _ = rustix::io::read(&read, &mut [0u8; 1]);
            exit_now(0)
        }
        Ok(Cloned::Parent { pid, pidfd }) => (pid, pidfd),
    };
    drop(read);
    let one = vec![IdMap { container: 0, host: 100_000, size: 1 }];
    let maps = IdMaps { uid: one.clone(), gid: one, writer: Writer::Direct };
    let made = steps::idmap::write(&maps, pid).map_err(|error| error.to_string()).and_then(|()| {
        let path = format!("/proc/{pid}/ns/user");
        open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| errno.to_string())
    });
    drop((write, pidfd));
    wait(pid);
    made
}

/// Whether a process can be watched by descriptor: clone3 with a pidfd, and pidfd_open.
pub(super) fn pidfd() -> Result<String, String> {
    match clone3(0, None, libc::SIGCHLD) {
        Err(error) => Err(format!("clone3: {error}")),
        Ok(Cloned::Child) => exit_now(0),
        Ok(Cloned::Parent { pid, .. }) => {
            let opened = Pid::from_raw(pid).map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()));
            wait(pid);
            match opened {
                Some(Ok(_)) => Ok("clone3 and pidfd_open work".into()),
                _ => Err("pidfd_open does not work".into()),
            }
        }
    }
}
