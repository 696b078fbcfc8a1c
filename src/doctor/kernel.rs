//! The system calls that hull is built on.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, OpenTreeFlags, fsopen, open_tree};

use super::{Findings, Status, Whom, namespaces, read};
use crate::host::HostFacts;
use crate::plan::seccomp::KNOWN_FLAGS;
use crate::sys;
use crate::sys::mount::{MountAttr, mount_setattr};

pub(super) fn look(host: &HostFacts, out: &mut Findings) {
    (out.area, out.whom) = ("kernel", Whom::All);
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    out.add("release", Status::Note, release, "");
    // What a kernel lacks or a filter refuses, hull does by older calls.
    let newer = "a newer kernel, or no filter that refuses it; without it hull takes older calls, which are slower";
    out.check("clone3", namespaces::pidfd(), Status::Lacking, newer);
    let resolved = openat2(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT);
    let found = there(resolved.map(drop), "keeps paths inside the root");
    out.check(
        "openat2",
        found,
        Status::Lacking,
        "a newer kernel, or no filter that denies it; without it hull walks paths itself",
    );
    let made = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC);
    out.check("fsopen", there(made.map(drop), "makes mounts by descriptor"), Status::Lacking, newer);
    let tree = open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC);
    out.check("open_tree", there(tree.map(drop), "copies mounts"), Status::Lacking, newer);
    let null = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    // Without CAP_SYS_ADMIN it is EPERM; nothing is asked for, so nothing changes.
    let changed = null.and_then(|fd| {
        use std::os::fd::AsFd;
        mount_setattr(fd.as_fd(), &MountAttr::default(), false)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    });
    out.check("mount_setattr", there(changed, "sets flags of mounts recursively"), Status::Lacking, newer);
    let actions =
        [("ALLOW", 0x7fff_0000), ("LOG", 0x7ffc_0000), ("NOTIFY", 0x7fc0_0000), ("KILL_PROCESS", 0x8000_0000)];
    let lacks: Vec<_> = actions.iter().filter(|row| !sys::seccomp::knows_action(row.1)).map(|row| row.0).collect();
    let flags: Vec<_> = KNOWN_FLAGS.iter().filter(|row| !sys::seccomp::knows_flag(row.1)).map(|row| row.0).collect();
    let (lacks, number) = (lacks.into_iter().chain(flags).collect::<Vec<_>>(), KNOWN_FLAGS.len());
    let found = match lacks.is_empty() {
        true => Ok(format!("all actions and {number} flags")),
        false => Err(format!("without {}", lacks.join(", "))),
    };
    out.check("seccomp", found, Status::Lacking, "a newer kernel with CONFIG_SECCOMP_FILTER");
    if host.rootless() {
        return;
    }
    out.whom = Whom::Root;
    let permitted = sys::process::permitted_capabilities().unwrap_or(0);
    let lacks: Vec<String> = crate::plan::process::names(!permitted & (u64::MAX >> (63 - host.last_cap)));
    match lacks.is_empty() {
        true => out.add("capabilities", Status::Ok, "hull has them all", ""),
        false => {
            let detail = format!("hull does not have {}", lacks.join(", "));
            out.add(
                "capabilities",
                Status::Lacking,
                detail,
                "containers that ask for them do without: run hull with them",
            );
        }
    }
    let criu =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join("criu").exists());
    let cure = "checkpoint and restore need it: install criu";
    out.check(
        "criu",
        if criu { Ok("is installed".into()) } else { Err("is not installed".into()) },
        Status::Note,
        cure,
    );
    if let Some(mode) = read("/proc/sys/vm/overcommit_memory").filter(|mode| mode == "2") {
        out.add(
            "overcommit",
            Status::Note,
            format!("vm.overcommit_memory is {mode}: clones may fail for lack of memory"),
            "",
        );
    }
}

/// A call that is denied is there; it is not there only if the kernel does not know it.
fn there(result: Result<(), Errno>, what: &str) -> Result<String, String> {
    match result {
        Err(Errno::NOSYS) => Err("the kernel does not have it, or a filter hides it".into()),
        Ok(()) | Err(_) => Ok(what.into()),
    }
}
