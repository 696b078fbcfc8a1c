//! The plan against this host: what create would ask the kernel for is looked at, and nothing is made, mounted or joined.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Access, FileType, Mode, OFlags, access, open};
use rustix::io::Errno;

use super::access::Who;
use super::view::View;
use super::{Kind, Problem, from_error, program, values};
use crate::doctor::{cgroups, ids};
use crate::error::show;
use crate::host::HostFacts;
use crate::plan::Plan;
use crate::plan::devices::DeviceKind;
use crate::plan::idmap::Writer;
use crate::plan::mounts::{Mount, MountKind, options};
use crate::plan::namespaces::{self, Namespaces};
use crate::plan::seccomp::KNOWN_FLAGS;
use crate::spec::Spec;
use crate::spec::json::{did_you_mean, escape};
use crate::{steps, sys};

const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// Everything that this host lacks for the plan.
pub fn problems(spec: &Spec<'_>, plan: &Plan, host: &HostFacts) -> Vec<Problem> {
    let capabilities = sys::process::permitted_capabilities().unwrap_or(0);
    let mut out = Vec::new();
    root(plan, &mut out);
    mounts(spec, plan, &mut out);
    namespaces(plan, capabilities, &mut out);
    ids(plan, host, &mut out);
    control_groups(plan, host, &mut out);
    devices(plan, &mut out);
    hooks(plan, &mut out);
    process(plan, capabilities, &mut out);
    seccomp(plan, &mut out);
    for sysctl in &plan.sysctls {
        if !Path::new("/proc/sys").join(&sysctl.path).exists() {
            let what = format!("/proc/sys/{} does not exist here", sysctl.path);
            out.push(Problem::warning(Kind::Host, &sysctl.pointer, what).hint("a kernel module may bring it"));
        }
    }
    linux(spec, &mut out);
    values::problems(spec, plan, &mut out);
    out
}

/// The root, and in it the program.
fn root(plan: &Plan, out: &mut Vec<Problem>) {
    let path = &plan.rootfs.path;
    match open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(errno) => out.push(Problem::failed("/root/path", show(path), errno)),
        Ok(fd) => {
            let view = View { root: &fd, mounts: &plan.mounts };
            let (root, user) = (Who::root(plan), Who::user(plan));
            out.extend(program::problems(&view, &plan.process, root.as_ref(), user.as_ref()));
            bind_targets(&view, &plan.mounts, out);
            for hook in &plan.hooks.start_container {
                let pointer = format!("{}/path", hook.pointer);
                match view.find(&hook.path) {
                    Some(Err(errno)) => out.push(Problem::failed(pointer, format!("{} in the root", hook.path), errno)),
                    Some(Ok(found)) if found.stat.st_mode & 0o111 == 0 => {
                        let what = format!("{} in the root is not executable", hook.path);
                        out.push(Problem::error(Kind::Host, pointer, what));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// A file cannot be mounted on a directory, nor a directory on a file, and nothing below a file.
fn bind_targets(view: &View<'_>, mounts: &[Mount], out: &mut Vec<Problem>) {
    /// Each is looked for in all before it: beyond these a list would take time by the square of its length.
    const MOST: usize = 512;
    for (number, mount) in mounts.iter().enumerate().take(MOST) {
        let earlier = View { root: view.root, mounts: &mounts[..number] };
        let found = earlier.find(mount.destination.as_path());
        let pointer = || format!("/mounts/{}/destination", mount.index);
        if let Some(Err(errno @ Errno::NOTDIR)) = found {
            let problem = Problem::failed(pointer(), format_args!("{} of the root", mount.destination), errno);
            out.push(problem.hint("a file is in the way: take it out of the image, or mount elsewhere"));
        }
        let MountKind::Bind { source, .. } = &mount.kind else { continue };
        let Ok(stat) = std::fs::metadata(source) else { continue };
        let Some(Ok(target)) = found else { continue };
        let is_directory = target.kind() == FileType::Directory;
        if stat.is_dir() != is_directory {
            let name = |is_directory| if is_directory { "a directory" } else { "a file" };
            let (source, destination) = (show(source), &mount.destination);
            let (ours, theirs) = (name(stat.is_dir()), name(is_directory));
            let what = format!("{ours}, {source}, cannot be mounted on {theirs}, {destination} of the root");
            out.push(Problem::error(Kind::Host, pointer(), what));
        }
    }
}

fn mounts(spec: &Spec<'_>, plan: &Plan, out: &mut Vec<Problem>) {
    let known = crate::bytes::text("/proc/filesystems").unwrap_or_default();
    for mount in &plan.mounts {
        match &mount.kind {
            // Of these create makes the container's own first.
            MountKind::Bind { source, .. } if plan.cgroup.directories().any(|own| own == *source) => {}
            MountKind::Bind { source, .. } => {
                if let Err(errno) = rustix::fs::stat(source) {
                    out.push(Problem::failed(format!("/mounts/{}/source", mount.index), show(source), errno));
                }
            }
            MountKind::Fs { fstype, .. } => {
                // A subtype (fuse.sshfs) is the file system's own business.
                let name = fstype.split('.').next().unwrap_or_default();
                if !known.lines().any(|line| line.split_whitespace().last() == Some(name)) {
                    let what = format!("/proc/filesystems does not have {fstype}");
                    let problem = Problem::warning(Kind::Host, format!("/mounts/{}/type", mount.index), what);
                    let meant = did_you_mean(name, known.lines().filter_map(|line| line.split_whitespace().last()));
                    out.push(problem.hint(meant.unwrap_or_else(|| "the kernel may load a module for it".into())));
                }
                words(spec, mount.index, fstype, out);
            }
            MountKind::Remount { .. } => {}
        }
    }
}

/// Words that go to a file system which takes but a few: the others are typos of the mount's own options.
fn words(spec: &Spec<'_>, index: usize, fstype: &str, out: &mut Vec<Problem>) {
    let taken: &[&str] = match fstype {
        "tmpfs" => &[
            "size",
            "nr_blocks",
            "nr_inodes",
            "mode",
            "uid",
            "gid",
            "huge",
            "mpol",
            "inode32",
            "inode64",
            "noswap",
            "quota",
            "usrquota",
            "grpquota",
            "casefold",
            "strict_encoding",
        ],
        "proc" => &["gid", "hidepid", "subset", "pidns"],
        "devpts" => &["uid", "gid", "mode", "ptmxmode", "newinstance", "max"],
        "mqueue" | "sysfs" => &[],
        _ => return,
    };
    let options = spec.mounts.get(index).into_iter().flat_map(|mount| mount.options.iter().enumerate());
    for (i, word) in options.filter(|(_, word)| options::meaning(word).is_none()) {
        for key in word.split(',').filter_map(|part| part.split('=').next()).filter(|key| !key.is_empty()) {
            // A label is any file system's, and limits of quotas have long names.
            if taken.contains(&key) || key.ends_with("context") || key.contains("quota_") {
                continue;
            }
            let what = format!("{fstype} takes no option {key:?}");
            let problem = Problem::warning(Kind::Spec, format!("/mounts/{index}/options/{i}"), what);
            let known = taken.iter().copied().chain(options::OPTIONS.iter().map(|row| row.0));
            out.push(Problem { hint: did_you_mean(key, known), ..problem });
        }
    }
}

fn namespaces(plan: &Plan, capabilities: u64, out: &mut Vec<Problem>) {
    let planned = &plan.namespaces;
    for join in &planned.joins {
        let one = Namespaces { joins: vec![join.clone()], ..planned.clone() };
        if let Err(error) = steps::namespaces::open_joins(&one) {
            let problem = from_error(&error);
            out.push(Problem { against: Kind::Host, ..problem });
        }
    }
    let mut made = false;
    for (kind, name, _) in namespaces::Kind::ALL {
        if !planned.makes(kind) {
            continue;
        }
        made = true;
        // /proc and /proc/sys/user have names of their own for two of them.
        let name = match name {
            "network" => "net",
            "mount" => "mnt",
            name => name,
        };
        if !Path::new("/proc/self/ns").join(name).exists() {
            let what = format!("this kernel has no {} namespaces", kind.name());
            out.push(Problem::error(Kind::Host, "/linux/namespaces", what));
        }
        let limit = format!("/proc/sys/user/max_{name}_namespaces");
        if std::fs::read_to_string(&limit).is_ok_and(|text| text.trim() == "0") {
            let what = format!("{limit} is 0: no {} namespace can be made", kind.name());
            out.push(Problem::error(Kind::Host, "/linux/namespaces", what));
        }
    }
    if made && capabilities & CAP_SYS_ADMIN == 0 && !planned.own(namespaces::Kind::User) {
        let what = "making these takes CAP_SYS_ADMIN, or a user namespace beside them";
        let problem = Problem::error(Kind::Host, "/linux/namespaces", what);
        out.push(problem.hint("`hull spec --rootless` writes a config that has one"));
    }
}

fn ids(plan: &Plan, host: &HostFacts, out: &mut Vec<Problem>) {
    let Some(maps) = &plan.idmaps else { return };
    for (pointer, map, file, helper) in [
        ("/linux/uidMappings", &maps.uid, ids::SUBUID, "newuidmap"),
        ("/linux/gidMappings", &maps.gid, ids::SUBGID, "newgidmap"),
    ] {
        let own_id = if file == ids::SUBUID { host.euid } else { host.egid };
        let granted = match maps.writer {
            Writer::SingleId => continue,
            Writer::Direct => ids::own_map(file),
            Writer::Helpers => {
                if let Err(what) = ids::helper(helper) {
                    out.push(Problem::error(Kind::Host, pointer, what).hint("Debian's package is uidmap"));
                }
                let mut ranges = ids::grants(file, host.euid);
                // The helpers also give everyone the own id.
                ranges.push((own_id, 1));
                ranges
            }
        };
        for (index, line) in map.iter().enumerate() {
            if !ids::covers(&granted, line.host, line.size) {
                let last = u64::from(line.host) + u64::from(line.size) - 1;
                let range = if line.size == 1 { line.host.to_string() } else { format!("{} to {last}", line.host) };
                let what = match maps.writer {
                    Writer::Helpers => format!("{file} does not grant {range} to user {}", host.euid),
                    _ => format!("{range} is not mapped in hull's own user namespace"),
                };
                out.push(Problem::error(Kind::Host, format!("{pointer}/{index}"), what));
            }
        }
    }
}

fn control_groups(plan: &Plan, host: &HostFacts, out: &mut Vec<Problem>) {
    const POINTER: &str = "/linux/cgroupsPath";
    if let Some(unit) = &plan.cgroup.unit {
        if let Err(what) = cgroups::bus(unit.session) {
            let problem = Problem::error(Kind::Host, POINTER, format!("systemd is to make the cgroup: {what}"));
            out.push(problem.hint("without --systemd-cgroup hull makes it itself"));
        }
        // What lies above the unit is systemd's to make and to enable.
        return;
    }
    for (number, tree) in plan.cgroup.trees.iter().enumerate() {
        let directory = tree.directory();
        if std::fs::read_to_string(directory.join("cgroup.procs")).is_ok_and(|text| !text.is_empty()) {
            out.push(Problem::error(Kind::Host, POINTER, format!("the cgroup {} has processes", show(&directory))));
        }
        let there = directory.ancestors().find(|path| path.exists()).unwrap_or(&tree.mount);
        if let Err(errno) = access(there, Access::WRITE_OK)
            && !plan.cgroup.forgiving
        {
            out.push(Problem::failed(POINTER, format!("the cgroup {} cannot be changed", show(there)), errno));
        }
        let writes = plan.cgroup.writes.iter().filter(|write| write.tree == number);
        if !tree.v2 {
            let swap = writes.filter(|write| write.file.starts_with("memory.memsw."));
            for write in swap.filter(|write| !tree.mount.join(&write.file).exists()) {
                let what = "the kernel does not account swap".to_owned();
                out.push(Problem::error(Kind::Host, &write.pointer, what).hint("boot it with swapaccount=1"));
            }
            continue;
        }
        // Root enables controllers from the top, anyone else what was delegated.
        let from = if host.rootless() { there } else { &tree.mount };
        let available = std::fs::read_to_string(from.join("cgroup.controllers")).unwrap_or_default();
        for name in plan.cgroup.enable.iter().filter(|name| !available.split_whitespace().any(|have| have == *name)) {
            let asked = plan.cgroup.writes.iter().find(|write| write.tree == number && write.controller == **name);
            let pointer = asked.map_or("/linux/resources", |write| write.pointer.as_str());
            let what = format!("{} does not have the controller {name}", show(&from.join("cgroup.controllers")));
            out.push(Problem::error(Kind::Host, pointer, what));
        }
    }
}

fn devices(plan: &Plan, out: &mut Vec<Problem>) {
    for node in plan.devices.nodes.iter().filter(|node| node.bind) {
        let pointer = node.index.map_or("/dev".to_owned(), |index| format!("/linux/devices/{index}"));
        let path = node.path.as_path();
        match std::fs::metadata(path) {
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                out.push(Problem::failed(pointer, format!("{} is to be bound from the host", show(path)), errno));
            }
            Ok(stat) => {
                let kind = match node.kind {
                    DeviceKind::Char => stat.file_type().is_char_device(),
                    DeviceKind::Block => stat.file_type().is_block_device(),
                    DeviceKind::Fifo => stat.file_type().is_fifo(),
                };
                let numbers = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
                if !kind || numbers != (node.major, node.minor) {
                    let (letter, major, minor) = (node.kind.letter(), node.major, node.minor);
                    let what = format!("{} of the host is another file than {letter} {major}:{minor}", show(path));
                    out.push(Problem::error(Kind::Host, pointer, what));
                }
            }
        }
    }
}

fn hooks(plan: &Plan, out: &mut Vec<Problem>) {
    let hooks = &plan.hooks;
    let on_host = [&hooks.prestart, &hooks.create_runtime, &hooks.create_container, &hooks.poststart, &hooks.poststop];
    for hook in on_host.into_iter().flatten() {
        if let Err(errno) = access(hook.path.as_str(), Access::EXEC_OK) {
            out.push(Problem::failed(format!("{}/path", hook.pointer), &hook.path, errno));
        }
    }
}

fn process(plan: &Plan, capabilities: u64, out: &mut Vec<Problem>) {
    let process = &plan.process;
    if let Some(profile) = &process.apparmor_profile {
        // Readable by root only; others learn it from create.
        let loaded = crate::bytes::text("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
        let name = profile.as_str();
        let is_loaded = loaded.lines().any(|line| line.rsplit_once(" (").is_some_and(|(have, _)| have == name));
        if !loaded.is_empty() && name != "unconfined" && !is_loaded {
            let what = format!("no AppArmor profile {name:?} is loaded");
            out.push(Problem::error(Kind::Host, "/process/apparmorProfile", what));
        }
    }
    if capabilities & CAP_SYS_RESOURCE != 0 {
        return;
    }
    for (index, limit) in process.rlimits.iter().enumerate() {
        let Ok((_, hard)) = sys::process::rlimit(0, limit.resource) else { continue };
        if limit.hard > hard {
            let what =
                format!("{} is above hull's own hard limit {hard}, which takes CAP_SYS_RESOURCE to raise", limit.hard);
            out.push(Problem::error(Kind::Host, format!("/process/rlimits/{index}/hard"), what));
        }
    }
    let now = std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok());
    if let (Some(wanted), Some(now)) = (process.oom_score_adj, now)
        && wanted < now
    {
        let what = format!("{wanted} is below hull's own {now}, and lowering it takes CAP_SYS_RESOURCE");
        out.push(Problem::warning(Kind::Host, "/process/oomScoreAdj", what));
    }
}

fn seccomp(plan: &Plan, out: &mut Vec<Problem>) {
    const BPF_RET_K: u16 = 0x06;
    let Some(filter) = &plan.seccomp else { return };
    for (name, flag) in KNOWN_FLAGS {
        if filter.flags & flag != 0 && !sys::seccomp::knows_flag(flag) {
            out.push(Problem::error(Kind::Host, "/linux/seccomp/flags", format!("this kernel does not know {name}")));
        }
    }
    let mut actions: Vec<u32> =
        filter.program.iter().filter(|op| op.code == BPF_RET_K).map(|op| op.k & 0xffff_0000).collect();
    actions.sort_unstable();
    actions.dedup();
    for action in actions.into_iter().filter(|action| !sys::seccomp::knows_action(*action)) {
        let what = format!("this kernel does not know the action {action:#010x}");
        out.push(Problem::error(Kind::Host, "/linux/seccomp", what));
    }
    if let Some(listener) = &filter.notify {
        match std::fs::metadata(&listener.path) {
            Ok(stat) if stat.file_type().is_socket() => {}
            Ok(_) => {
                let what = format!("{} is no socket", listener.path);
                out.push(Problem::error(Kind::Host, "/linux/seccomp/listenerPath", what));
            }
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                out.push(Problem::failed("/linux/seccomp/listenerPath", &listener.path, errno));
            }
        }
    }
}

fn linux(spec: &Spec<'_>, out: &mut Vec<Problem>) {
    let Some(linux) = &spec.linux else { return };
    for (name, _) in linux.net_devices.iter() {
        if !Path::new("/sys/class/net").join(&**name).exists() {
            let what = format!("there is no network device {name}");
            out.push(Problem::error(Kind::Host, format!("/linux/netDevices/{}", escape(name)), what));
        }
    }
    if linux.intel_rdt.is_some() && !Path::new("/sys/fs/resctrl/schemata").exists() {
        let problem = Problem::error(Kind::Host, "/linux/intelRdt", "/sys/fs/resctrl is not mounted");
        out.push(problem.hint("mount -t resctrl resctrl /sys/fs/resctrl, where the CPU has RDT"));
    }
}
