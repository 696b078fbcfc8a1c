//! The plan as a script that makes the container: `hull explain --format sh`. What it does needs util-linux, coreutils, iproute2
//! and capsh.
//!
//! One shell is inside of the other, since namespaces are made around a command: cgroup, user namespace, the other
//! namespaces. All of the root's mounts are made below it and in a mount namespace of their own, so that nothing of the host
//! is masked. What no command does stands in front: there the script ends unless it is told to leave it out.

use std::fmt::Write;

use super::Plan;
use super::idmap::{IdMap, Writer};
use super::mounts::{Mount, MountKind};
use super::namespaces::{Kind, Spawn};
use super::process::{Process, names};
use super::rootfs::Entry;

/// One word of the shell, whatever is in it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A path of the container, as seen from its root's directory.
fn inside(path: impl std::fmt::Display) -> String {
    quote(&format!(".{path}"))
}

/// The whole script.
pub fn script(plan: &Plan) -> String {
    let mut out = String::from(
        "#!/bin/sh\n# Made by hull explain --format sh. It makes the container with programs of the host; --anyway: as far as they can.\n\
         # It trusts the image, as hull does not: a link in its root may lead these programs out of it.\n\
         set -eu\nmissing() { [ \"${anyway-}\" ] || { echo \"no command does this: $1 ($0 --anyway leaves it out)\" >&2; exit 3; }; }\n\
         [ \"${1-}\" != --anyway ] || anyway=yes\n",
    );
    for what in missing(plan) {
        let _ = writeln!(out, "missing {}", quote(&what));
    }
    out += "for tool in unshare nsenter mount findmnt capsh prlimit; do\n    command -v $tool >/dev/null || { echo \"$tool is missing\" >&2; exit 3; }\ndone\n";
    out += &cgroup(plan);
    for limit in &plan.process.rlimits {
        let value = |n: u64| if n == u64::MAX { "unlimited".to_owned() } else { n.to_string() };
        let name = limit.name.trim_start_matches("RLIMIT_").to_lowercase();
        let _ = writeln!(out, "prlimit --pid $$ --{name}={}:{}", value(limit.soft), value(limit.hard));
    }
    if let Some(score) = plan.process.oom_score_adj {
        let _ = writeln!(out, "echo {score} >/proc/self/oom_score_adj");
    }
    out += &enter(plan);
    out
}

/// What no command does.
fn missing(plan: &Plan) -> Vec<String> {
    let process = &plan.process;
    let mut out = Vec::new();
    let mut add = |is: bool, what: &str| out.extend(is.then(|| what.to_owned()));
    add(plan.cgroup.device_rules().is_some(), "device rules (/linux/resources/devices)");
    add(plan.seccomp.is_some(), "a system call filter (/linux/seccomp)");
    add(plan.landlock.is_some(), "Landlock (/annotations)");
    add(plan.cgroup.unit.is_some(), "a unit of systemd (/linux/cgroupsPath)");
    add(plan.intel_rdt.is_some(), "a class of service (/linux/intelRdt)");
    let hooks = &plan.hooks;
    let lists = [
        &hooks.prestart,
        &hooks.create_runtime,
        &hooks.create_container,
        &hooks.start_container,
        &hooks.poststart,
        &hooks.poststop,
    ];
    add(lists.iter().any(|list| !list.is_empty()), "hooks, which get a state that hull keeps (/hooks)");
    add(process.terminal, "a terminal of its own: the caller's is used (/process/terminal)");
    add(process.cwd.as_os_str() != "/", "to start in another directory than / (/process/cwd)");
    add(process.apparmor_profile.is_some() || process.selinux_label.is_some(), "a label (/process)");
    add(process.scheduler.is_some() || process.io_priority.is_some(), "scheduling (/process/scheduler, ioPriority)");
    add(process.personality.is_some() || plan.memory_policy.is_some(), "personality and memory policy (/linux)");
    add(!plan.namespaces.time_offsets.is_empty(), "offsets of clocks (/linux/timeOffsets)");
    add(!plan.net_devices.is_empty(), "to move network devices with their addresses (/linux/netDevices)");
    add(plan.mounts.iter().any(|mount| mount.idmap.is_some()), "ID-mapped mounts (/mounts)");
    add(plan.mounts.iter().any(|mount| mount.tmpcopyup), "tmpcopyup (/mounts)");
    add(plan.namespaces.spawn != Spawn::Straight, "a user namespace that is joined (/linux/namespaces)");
    add(plan.rootfs.entry == Entry::Chroot, "a root without a mount namespace (/linux/namespaces)");
    out
}

/// In a cgroup of its own, with its limits.
fn cgroup(plan: &Plan) -> String {
    let mut out = String::new();
    if plan.cgroup.unit.is_some() {
        return out;
    }
    for (number, tree) in plan.cgroup.trees.iter().enumerate() {
        let directory = tree.directory();
        let path = quote(&directory.to_string_lossy());
        if tree.v2 {
            for name in &plan.cgroup.enable {
                let parents = directory.ancestors().skip(1).take_while(|above| above.starts_with(&tree.mount));
                let mut parents: Vec<_> = parents.collect();
                parents.reverse();
                for above in parents {
                    let above = quote(&above.to_string_lossy());
                    let _ = writeln!(out, "mkdir -p {above} && echo +{name} >{above}/cgroup.subtree_control");
                }
            }
        }
        let _ = writeln!(out, "mkdir -p {path}");
        if !tree.v2 && tree.controllers.iter().any(|name| name == "cpuset") {
            // On v1 a new cgroup has no CPU and no memory, and takes no process.
            let mut ways: Vec<_> = directory.ancestors().take_while(|at| **at != tree.mount).collect();
            ways.reverse();
            for at in ways {
                let at = quote(&at.to_string_lossy());
                let _ = writeln!(
                    out,
                    "for file in cpuset.cpus cpuset.mems; do\n    [ \"$(cat {at}/$file)\" ] || cat {at}/../$file >{at}/$file\ndone"
                );
            }
        }
        for write in plan.cgroup.writes.iter().filter(|write| write.tree == number) {
            let _ = writeln!(out, "echo {} >{path}/{}", quote(&write.value), quote(&write.file));
        }
        let _ = writeln!(out, "echo $$ >{path}/cgroup.procs");
    }
    out
}

/// Through a user namespace, if there is one, into the others; there the root is made and entered.
fn enter(plan: &Plan) -> String {
    let namespaces = &plan.namespaces;
    let made = |kind: Kind| namespaces.makes(kind);
    let mut options = String::new();
    for (kind, name, _) in Kind::ALL.iter().filter(|row| made(row.0) && row.0 != Kind::User) {
        let name = if *kind == Kind::Network { "net" } else { name };
        let _ = write!(options, " --{name}");
    }
    if made(Kind::Pid) {
        options += " --fork --kill-child";
    }
    let joins: String = namespaces
        .joins
        .iter()
        .map(|join| {
            let name = if join.kind == Kind::Network { "net" } else { join.kind.name() };
            format!(" {}", quote(&format!("--{name}={}", join.path.display())))
        })
        .collect();
    let joined = if joins.is_empty() { String::new() } else { format!("nsenter{joins} ") };
    let command = format!("{joined}unshare{options} sh -euc {}", quote(&root(plan)));
    let Some(maps) = &plan.idmaps else { return format!("exec {command}\n") };
    let lines = |map: &[IdMap]| {
        map.iter().map(|line| format!("{} {} {}\\n", line.container, line.host, line.size)).collect::<String>()
    };
    let words = |map: &[IdMap]| {
        map.iter().map(|line| format!(" {} {} {}", line.container, line.host, line.size)).collect::<String>()
    };
    let (uid, gid) = maps.root();
    let write = match maps.writer {
        Writer::Helpers => format!("newuidmap $holder{}\nnewgidmap $holder{}\n", words(&maps.uid), words(&maps.gid)),
        writer => {
            let deny = if writer == Writer::SingleId { "echo deny >/proc/$holder/setgroups\n" } else { "" };
            format!(
                "{deny}printf '{}' >/proc/$holder/uid_map\nprintf '{}' >/proc/$holder/gid_map\n",
                lines(&maps.uid),
                lines(&maps.gid)
            )
        }
    };
    format!(
        "# A process holds the user namespace until the maps are written.\n\
         unshare --user sleep 60 & holder=$!\n\
         until [ \"$(readlink /proc/$holder/ns/user)\" != \"$(readlink /proc/self/ns/user)\" ]; do :; done\n\
         {write}status=0\n\
         nsenter --user=/proc/$holder/ns/user --setuid {uid} --setgid {gid} {command} || status=$?\n\
         kill $holder\nwait $holder || :\nexit $status\n"
    )
}

/// In the new namespaces: names, the root with all that is mounted in it, and the step into it.
fn root(plan: &Plan) -> String {
    let mut out = String::from("umask 0\n");
    if plan.namespaces.makes(Kind::Network) {
        out += "ip link set lo up\n";
    }
    if let Some(name) = &plan.hostname {
        let _ = writeln!(out, "hostname {}", quote(name));
    }
    if let Some(name) = &plan.domainname {
        let _ = writeln!(out, "domainname {}", quote(name));
    }
    let path = quote(&plan.rootfs.path.to_string_lossy());
    let _ = writeln!(out, "mount --rbind {path} {path}\ncd {path}");
    for mount in &plan.mounts {
        out += &self::mount(mount, plan.idmaps.is_some());
    }
    for node in &plan.devices.nodes {
        let (at, kind, major, minor) = (inside(&node.path), node.kind.letter(), node.major, node.minor);
        if node.bind {
            let _ = writeln!(out, ": >>{at}\nmount --bind {} {at}", quote(&node.path.to_string()));
        } else {
            let _ = writeln!(out, "mknod -m {:o} {at} {kind} {major} {minor}", node.mode);
        }
    }
    for (name, target) in plan.devices.links {
        let _ = writeln!(out, "ln -sfn {target} ./dev/{name}");
    }
    for sysctl in &plan.sysctls {
        let _ = writeln!(out, "echo {} >{}", quote(&sysctl.value), quote(&format!("/proc/sys/{}", sysctl.path)));
    }
    for mount in plan.mounts.iter().filter(|mount| mount.readonly_last) {
        let _ = writeln!(out, "mount -o {} {}", quote(&again(mount)), inside(&mount.destination));
    }
    for path in &plan.rootfs.masked_paths {
        let at = inside(path);
        let _ = writeln!(
            out,
            "if [ -d {at} ]; then\n    mount -t tmpfs -o ro,nosuid,nodev,noexec,mode=755 none {at}\nelif [ -e {at} ]; then\n    \
             mount --bind /dev/null {at}\n    mount -o remount,bind,ro {at}\nfi"
        );
    }
    for path in &plan.rootfs.readonly_paths {
        let at = inside(path);
        let _ = writeln!(
            out,
            "if [ -e {at} ]; then\n    flags=$(findmnt -no VFS-OPTIONS -T {at})\n    mount --rbind {at} {at}\n    mount -o \"remount,bind,$flags,ro\" {at}\nfi"
        );
    }
    if plan.rootfs.readonly {
        out += "mount -o remount,bind,ro .\n";
    }
    // The programs that are left to run are the host's: its root goes out of sight in the very last of them.
    out += "mount -n --move . /\n";
    out + &program(&plan.process)
}

/// The options that give a mount its attributes once it is made.
fn again(mount: &Mount) -> String {
    format!("remount,bind,{}", mount.attr.words().join(","))
}

/// In a user namespace a mount has at once what the host's has and is locked there, read-only too.
fn mount(mount: &Mount, locked: bool) -> String {
    let at = inside(&mount.destination);
    let flags: Vec<String> = mount.attr.words().into_iter().map(str::to_owned).collect();
    let mut out = String::new();
    match &mount.kind {
        MountKind::Bind { source, recursive } => {
            let (source, how) = (quote(&source.to_string_lossy()), if *recursive { "--rbind" } else { "--bind" });
            let _ = writeln!(
                out,
                "if [ -d {source} ]; then mkdir -p -m 755 {at}; else mkdir -p -m 755 \"$(dirname {at})\"; : >>{at}; fi\nmount {how} {source} {at}"
            );
            if !flags.is_empty() {
                let _ = writeln!(out, "mount -o {} {at}", quote(&again(mount)));
            }
        }
        MountKind::Fs { fstype, source, data, .. } => {
            let words =
                data.iter().map(|(key, value)| value.as_ref().map_or(key.clone(), |value| format!("{key}={value}")));
            // Read-only is the mount, and not the file system.
            let at_once = flags.iter().filter(|flag| *flag != "ro" || locked && !mount.readonly_last);
            let options: Vec<String> = at_once.cloned().chain(words).collect();
            let options = if options.is_empty() { String::new() } else { format!(" -o {}", quote(&options.join(","))) };
            let source = quote(source.as_deref().unwrap_or(fstype));
            let _ = writeln!(out, "mkdir -p -m 755 {at}\nmount -t {}{options} {source} {at}", quote(fstype));
            if flags.iter().any(|flag| flag == "ro") && !mount.readonly_last {
                let _ = writeln!(out, "mount -o {} {at}", quote(&again(mount)));
            }
        }
        MountKind::Remount { .. } => {
            let _ = writeln!(out, "mount -o {} {at}", quote(&format!("remount,{}", flags.join(","))));
        }
    }
    let all = mount.recursive_attr.words().join(",");
    if !all.is_empty() {
        let _ = writeln!(
            out,
            "findmnt -Rrno TARGET \"$PWD\"/{at} | while read -r below; do\n    \
             mount -o \"remount,bind,$(findmnt -no VFS-OPTIONS --mountpoint \"$below\"),\"{} \"$below\"\ndone",
            quote(&all)
        );
    }
    for propagation in &mount.propagation {
        let _ = writeln!(out, "mount --make-{propagation} {at}");
    }
    out
}

/// Ids and capabilities, and then the program, looked for by the container's PATH.
fn program(process: &Process) -> String {
    let text = |word: &std::ffi::CString| word.to_string_lossy().into_owned();
    let Some((first, args)) = process.args.split_first() else { return "exec sleep infinity\n".into() };
    let first = text(first);
    let mut out = format!("umask {:04o}\n", process.user.umask);
    if first.contains('/') {
        let _ = writeln!(out, "program={}", quote(&first));
    } else {
        let path = process.path.to_string_lossy();
        let parts: Vec<_> = path.split(':').map(quote).collect();
        let _ = writeln!(
            out,
            "program=\nfor part in {}; do\n    [ -z \"$program\" ] && [ -x .\"$part\"/{first} ] && program=$part/{first}\ndone\n[ \"$program\" ]",
            parts.join(" "),
            first = quote(&first)
        );
    }
    let env: String = process.env.iter().map(|variable| format!(" {}", quote(&text(variable)))).collect();
    let home = match process.needs_home {
        true => " HOME=\"${home:-/}\"",
        false => "",
    };
    if process.needs_home {
        let _ = writeln!(
            out,
            "home=\nwhile IFS=: read -r _ _ uid _ _ at _; do\n    [ \"$uid\" != {} ] || home=${{home:-$at}}\ndone <./etc/passwd || :",
            process.user.uid
        );
    }
    let _ = write!(out, "exec env -i{env}{home} \"$(command -v capsh)\" --chroot=.");
    let (caps, user) = (&process.capabilities, &process.user);
    let word = |bits: u64| names(bits).join(",").to_lowercase();
    let dropped = word(!caps.bounding & super::process::all());
    if let Some(groups) = &user.groups {
        let list: Vec<_> = groups.iter().map(u32::to_string).collect();
        let _ = write!(out, " --groups={}", list.join(","));
    }
    let _ = write!(out, " --gid={}", user.gid);
    if !dropped.is_empty() {
        let _ = write!(out, " --drop={dropped}");
    }
    if user.uid != 0 {
        let _ = write!(out, " --keep=1 --uid={}", user.uid);
    }
    let _ = write!(out, " --inh={}", word(caps.inheritable));
    if caps.ambient != 0 {
        let _ = write!(out, " --addamb={}", word(caps.ambient));
    }
    if process.no_new_privileges {
        out += " --no-new-privs";
    }
    let args: String = args.iter().map(|arg| format!(" {}", quote(&text(arg)))).collect();
    let _ = writeln!(out, " --shell=\"$program\" --{args}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        for (word, quoted) in
            [("a/b-1", "a/b-1"), ("", "''"), ("a b", "'a b'"), ("it's $x", r"'it'\''s $x'"), ("a\nb", "'a\nb'")]
        {
            assert_eq!(quote(word), quoted);
        }
    }
}
