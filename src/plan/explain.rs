//! The plan in words: which side does it, what it does, the kernel's call, the JSON pointer that asked for it, and the
//! shell command that would do the same. `hull explain` prints it, `bundles/*/plan.txt` are golden copies of it.
//!
//! It is made from the very plan that create carries out, in the same order, so it cannot say anything else.

use std::fmt::Write;

use serde::Serialize;

use super::Plan;
use super::hooks::Hook;
use super::idmap::{IdMap, Writer};
use super::landlock;
use super::mounts::{Mapping, Mount, MountKind};
use super::namespaces::{Kind, Spawn};
use super::order::Point;
use super::process::names;
use super::rootfs::Entry;
use super::seccomp::Filter;

/// One step of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `setup` (the process that the engine calls), `init` (the one that becomes the program) or `start`.
    pub side: &'static str,
    /// Its number in the table of lifecycle/create.rs, and in a timeline.
    pub step: u8,
    /// What it does.
    pub what: String,
    /// The kernel's call.
    pub call: &'static str,
    /// What in config.json asked for it; empty: hull does it always.
    pub pointer: String,
    /// What does the same in a shell, where something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sh: Option<String>,
}

struct Lines {
    at: Point,
    lines: Vec<(Point, Line)>,
}

impl Lines {
    fn add(&mut self, what: impl Into<String>, call: &'static str, pointer: impl Into<String>) -> &mut Line {
        let (side, step) = (self.at.side().name(), self.at.label().number);
        let line = Line { side, step, what: what.into(), call, pointer: pointer.into(), sh: None };
        self.lines.push((self.at, line));
        &mut self.lines.last_mut().expect("a line was just added").1
    }
}

impl Line {
    fn sh(&mut self, command: impl Into<String>) {
        self.sh = Some(command.into());
    }
}

/// All steps, in the order in which they happen: [`Point`] has it, and what follows names the point of each.
pub fn lines(plan: &Plan) -> Vec<Line> {
    let mut out = Lines { at: Point::State, lines: Vec::new() };
    out.add(format!("lock the id {:?} and write down what will exist", plan.id), "mkdirat, flock", "");
    cgroup(plan, &mut out);
    spawn(plan, &mut out);
    namespaces(plan, &mut out);
    root(plan, &mut out);
    inside(plan, &mut out);
    process(plan, &mut out);
    out.at = Point::Created;
    out.add("write \"created\" into the state, and the pid file", "renameat", "");
    out.at = Point::WaitForStart;
    out.add("wait for `hull start`", "accept4", "");
    last(plan, &mut out);
    out.lines.sort_by_key(|(point, _)| *point);
    out.lines.into_iter().map(|(_, line)| line).collect()
}

fn cgroup(plan: &Plan, out: &mut Lines) {
    out.at = Point::Cgroup;
    if let Some(rdt) = &plan.intel_rdt {
        let class = rdt.class.display();
        if rdt.own {
            out.add(format!("make the class of service {class}"), "mkdir", "/linux/intelRdt")
                .sh(format!("mkdir {class}"));
        }
        for line in &rdt.schemata {
            let what = if rdt.own { "set" } else { "compare" };
            out.add(format!("{what} its share {line}"), "open schemata", "/linux/intelRdt");
        }
        if let Some(group) = &rdt.monitoring {
            let group = group.display();
            out.add(format!("make the monitoring group {group}"), "mkdir", "/linux/intelRdt/enableMonitoring")
                .sh(format!("mkdir {group}"));
        }
    }
    if plan.cgroup.unit.is_some() {
        return;
    }
    for directory in plan.cgroup.directories() {
        let path = directory.display();
        out.add(format!("make the cgroup {path}"), "mkdirat", "/linux/cgroupsPath").sh(format!("mkdir -p {path}"));
    }
}

fn spawn(plan: &Plan, out: &mut Lines) {
    let namespaces = &plan.namespaces;
    out.at = Point::Open;
    for join in namespaces.joins.iter() {
        let (kind, path) = (join.kind.name(), join.path.display());
        out.add(format!("open the {kind} namespace {path}"), "open", format!("/linux/namespaces/{}", join.index))
            .sh(format!("nsenter --{}={path} ...", nsenter(join.kind)));
    }
    out.at = Point::Clone;
    let made = flags(namespaces.clone);
    let what = if made.is_empty() { "clone init".into() } else { format!("clone init with a new {made} namespace") };
    let what = match namespaces.spawn {
        Spawn::Straight => what,
        Spawn::ThroughUserns => format!("through a hop into the user namespace, {what}"),
    };
    let options: Vec<_> = Kind::ALL
        .iter()
        .filter(|row| namespaces.clone & row.2 != 0)
        .map(|row| format!("--{}", unshare(row.0)))
        .collect();
    let line = out.add(what, "clone3", "/linux/namespaces");
    if !options.is_empty() {
        line.sh(format!("unshare --fork {} ...", options.join(" ")));
    }
    out.at = Point::Attributes;
    if let Some(count) = plan.cgroup.device_rules() {
        out.add(
            format!("allow devices by {count} rules and deny all others"),
            "bpf or devices.allow",
            "/linux/resources/devices",
        );
    }
    if let Some(unit) = &plan.cgroup.unit {
        let what = format!("have systemd make the unit {} in {} with init in it", unit.name, unit.slice);
        out.add(what, "StartTransientUnit", "/linux/cgroupsPath")
            .sh(format!("busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartTransientUnit ... # {}", unit.name));
    } else if plan.cgroup.joined_by_write() {
        out.add("put init into its cgroups", "write cgroup.procs", "").sh("echo $PID > cgroup.procs");
    }
    if let Some(rdt) = &plan.intel_rdt {
        let class = rdt.class.display();
        out.add(format!("put init into {class}"), "write tasks", "/linux/intelRdt")
            .sh(format!("echo $PID > {class}/tasks"));
    }
    if let Some(maps) = &plan.idmaps {
        let call = match maps.writer {
            Writer::Direct => "write /proc/PID/uid_map, gid_map",
            Writer::SingleId => "write /proc/PID/setgroups, gid_map, uid_map",
            Writer::Helpers => "newuidmap, newgidmap",
        };
        out.add(format!("map users {} and groups {}", map(&maps.uid), map(&maps.gid)), call, "/linux/uidMappings");
    }
    let process = &plan.process;
    if let Some(value) = process.oom_score_adj {
        out.add(format!("set oom_score_adj to {value}"), "write /proc/PID/oom_score_adj", "/process/oomScoreAdj")
            .sh(format!("choom -n {value} -p $PID"));
    }
    if process.io_priority.is_some() {
        out.add("set the I/O priority", "ioprio_set", "/process/ioPriority");
    }
    out.at = Point::Limits;
    for (file, value, pointer) in plan.cgroup.limits() {
        out.add(format!("limit: {file} = {value}"), "write", pointer).sh(format!("echo {value:?} > {file}"));
    }
    if process.scheduler.is_some() {
        out.add("set the scheduling policy", "sched_setattr", "/process/scheduler");
    }
}

fn namespaces(plan: &Plan, out: &mut Lines) {
    out.at = Point::Namespaces;
    if let Some((uid, gid)) = plan.root_ids() {
        out.add(format!("become {uid}:{gid} of the user namespace"), "setresuid, setresgid", "/linux/uidMappings");
    }
    let rest = flags(plan.namespaces.unshare);
    if !rest.is_empty() {
        let options: Vec<_> = Kind::ALL
            .iter()
            .filter(|row| plan.namespaces.unshare & row.2 != 0)
            .map(|row| format!("--{}", unshare(row.0)))
            .collect();
        out.add(format!("make a new {rest} namespace"), "unshare", "/linux/namespaces")
            .sh(format!("unshare {} ...", options.join(" ")));
    }
    for offset in &plan.namespaces.time_offsets {
        out.add(format!("set the clock offset {offset:?}"), "write /proc/self/timens_offsets", "/linux/timeOffsets");
    }
    out.at = Point::Executable;
    out.add("put hull's own executable out of the container's reach", "prctl(PR_SET_MM)", "");
    out.at = Point::Names;
    if plan.namespaces.makes(Kind::Network) {
        out.add("set the loopback interface up", "ioctl(SIOCSIFFLAGS)", "/linux/namespaces").sh("ip link set lo up");
    }
    if let Some(name) = &plan.hostname {
        out.add(format!("set the host name {name:?}"), "sethostname", "/hostname").sh(format!("hostname {name}"));
    }
    if let Some(name) = &plan.domainname {
        out.add(format!("set the domain name {name:?}"), "setdomainname", "/domainname")
            .sh(format!("domainname {name}"));
    }
    out.at = Point::NetDevices;
    for device in &plan.net_devices {
        let (host, name, pointer) = (&device.host, &device.container, &device.pointer);
        out.add(format!("move the network device {host} as {name}, set it up"), "RTM_NEWLINK, RTM_NEWADDR", pointer)
            .sh(format!("ip link set {host} netns $PID name {name}"));
    }
}

fn root(plan: &Plan, out: &mut Lines) {
    let path = plan.rootfs.path.display();
    out.at = if plan.rootfs.on_host { Point::HostRoot } else { Point::Root };
    if plan.rootfs.on_host {
        let what = format!("make {path} a mount of its own on the host, until delete");
        out.add(what, "open_tree, mount_setattr, move_mount", "/root/path")
            .sh(format!("mount --rbind --make-rprivate {path} {path}"));
    } else if plan.rootfs.entry != Entry::Chroot {
        let line = out.add(format!("make {path} a mount of its own"), "open_tree, move_mount", "/root/path");
        line.sh(format!("mount --rbind {path} {path}"));
    }
    out.at = Point::Root;
    for mount in &plan.mounts {
        let (what, sh) = mount_words(mount);
        let call = if mount.is_bind() { "open_tree, move_mount" } else { "fsopen, fsmount, move_mount" };
        out.add(what, call, format!("/mounts/{}", mount.index)).sh(sh);
    }
    for node in &plan.devices.nodes {
        let pointer = node.index.map_or(String::new(), |index| format!("/linux/devices/{index}"));
        let (path, kind, major, minor) = (&node.path, node.kind.letter(), node.major, node.minor);
        if node.bind {
            out.add(format!("bind the host's {path}"), "open_tree, move_mount", pointer)
                .sh(format!("mount --bind {path} .{path}"));
        } else {
            out.add(
                format!("make the device {path} ({kind} {major}:{minor}, mode {:04o})", node.mode),
                "mknodat",
                pointer,
            )
            .sh(format!("mknod -m {:o} .{path} {kind} {major} {minor}", node.mode));
        }
    }
    for (name, target) in plan.devices.links {
        out.add(format!("link /dev/{name} to {target}"), "symlinkat", "").sh(format!("ln -s {target} ./dev/{name}"));
    }
    let hooks = &plan.hooks;
    out.at = Point::HostHooks;
    hook_lines("prestart", &hooks.prestart, out);
    hook_lines("createRuntime", &hooks.create_runtime, out);
    out.at = Point::ContainerHooks;
    hook_lines("createContainer", &hooks.create_container, out);
    out.at = Point::Enter;
    for (index, path) in plan.rootfs.masked_paths.iter().enumerate() {
        out.add(format!("hide {path}"), "open_tree, move_mount", format!("/linux/maskedPaths/{index}"))
            .sh(format!("mount --bind /dev/null {path}"));
    }
    for (index, path) in plan.rootfs.readonly_paths.iter().enumerate() {
        out.add(
            format!("make {path} read-only"),
            "open_tree, mount_setattr, move_mount",
            format!("/linux/readonlyPaths/{index}"),
        )
        .sh(format!("mount --rbind -o ro {path} {path}"));
    }
    match plan.rootfs.entry {
        Entry::Pivot => {
            out.add("make it the root, unmount the old one", "pivot_root, umount2", "/root").sh("pivot_root . .")
        }
        Entry::Move => out.add("move it over /", "move_mount, chroot", "/root").sh("mount --move . / && chroot ."),
        Entry::Chroot => out.add("make it the root of this process", "chroot", "/root").sh("chroot ."),
    }
}

fn inside(plan: &Plan, out: &mut Lines) {
    out.at = Point::Inside;
    if plan.process.terminal {
        out.add(
            "open a terminal, bind it to /dev/console, send its master out",
            "openat2, ioctl(TIOCGPTPEER)",
            "/process/terminal",
        );
    }
    for sysctl in &plan.sysctls {
        let name = sysctl.path.replace('/', ".");
        out.add(format!("set {name} to {:?}", sysctl.value), "write", &sysctl.pointer)
            .sh(format!("sysctl -w {name}={:?}", sysctl.value));
    }
    if plan.rootfs.readonly {
        out.add("make / read-only", "mount_setattr", "/root/readonly").sh("mount -o remount,bind,ro /");
    }
}

fn process(plan: &Plan, out: &mut Lines) {
    out.at = Point::Identity;
    let process = &plan.process;
    if let Some(profile) = &process.apparmor_profile {
        out.add(
            format!("take the AppArmor profile {profile:?} at execve"),
            "write /proc/self/attr/apparmor/exec",
            "/process/apparmorProfile",
        )
        .sh(format!("aa-exec -p {profile} ..."));
    }
    if let Some(label) = &process.selinux_label {
        out.add(
            format!("take the SELinux label {label:?} at execve"),
            "write /proc/self/attr/exec",
            "/process/selinuxLabel",
        );
    }
    if !plan.no_new_keyring {
        out.add(format!("join a new session keyring _ses.{}", plan.id), "keyctl", "")
            .sh(format!("keyctl session _ses.{} ...", plan.id));
    }
    out.add("run on every CPU that the cgroup allows", "sched_setaffinity", "")
        .sh("taskset --pid 0-$(($(nproc --all) - 1)) $$");
    if let Some(policy) = &plan.memory_policy {
        out.add(format!("take memory by the policy {}", policy.name), "set_mempolicy", "/linux/memoryPolicy");
    }
    if process.personality.is_some() {
        out.add("set the execution domain", "personality", "/linux/personality");
    }
    let cwd = process.cwd.display();
    out.add(format!("go to {cwd}"), "chdir", "/process/cwd").sh(format!("cd {cwd}"));
    let caps = &process.capabilities;
    out.add(
        format!("keep in the bounding set: {}", list(caps.bounding)),
        "prctl(PR_CAPBSET_DROP)",
        "/process/capabilities/bounding",
    );
    let user = &process.user;
    let groups = user.groups.as_deref().unwrap_or_default();
    let line = out.add(
        format!("become user {}:{}, groups {groups:?}, umask {:04o}", user.uid, user.gid, user.umask),
        "setgroups, setresgid, setresuid",
        "/process/user",
    );
    line.sh(format!("setpriv --reuid {} --regid {} --clear-groups ...", user.uid, user.gid));
    let early = plan.seccomp.as_ref().filter(|filter| filter.loads_early(process.no_new_privileges));
    if landlock::comes_early(early, process.no_new_privileges) {
        landlock_lines(plan, out);
    }
    if let Some(filter) = early {
        filter_line(filter, out);
    }
    out.add(
        format!("keep the capabilities: {}", list(caps.effective | caps.permitted)),
        "capset",
        "/process/capabilities",
    );
    if caps.inheritable != 0 {
        out.add(format!("inheritable: {}", list(caps.inheritable)), "capset", "/process/capabilities/inheritable");
    }
    if caps.ambient != 0 {
        out.add(format!("ambient: {}", list(caps.ambient)), "prctl(PR_CAP_AMBIENT)", "/process/capabilities/ambient");
    }
}

fn last(plan: &Plan, out: &mut Lines) {
    out.at = Point::Execve;
    let process = &plan.process;
    for limit in &process.rlimits {
        let value = |n: u64| if n == u64::MAX { "unlimited".to_owned() } else { n.to_string() };
        let (soft, hard) = (value(limit.soft), value(limit.hard));
        let name = limit.name.trim_start_matches("RLIMIT_").to_lowercase();
        out.add(format!("limit {} to {soft}, at most {hard}", limit.name), "prlimit64", "/process/rlimits")
            .sh(format!("prlimit --{name}={soft}:{hard} ..."));
    }
    if process.no_new_privileges {
        out.add("gain no privileges by execve any more", "prctl(PR_SET_NO_NEW_PRIVS)", "/process/noNewPrivileges")
            .sh("setpriv --no-new-privs ...");
    }
    let hooks = &plan.hooks.start_container;
    let early = plan.seccomp.as_ref().filter(|filter| filter.loads_early(process.no_new_privileges));
    // The filter is there before the hooks; Landlock, which it might forbid, before the filter.
    if early.is_some() || plan.seccomp.is_none() {
        hook_lines("startContainer", hooks, out);
    }
    if !landlock::comes_early(early, process.no_new_privileges) {
        landlock_lines(plan, out);
    }
    if let Some(filter) = plan.seccomp.as_ref().filter(|_| early.is_none()) {
        filter_line(filter, out);
        hook_lines("startContainer", hooks, out);
    }
    if plan.preserve_fds > 0 {
        out.add(format!("keep {} file descriptors from 3 on", plan.preserve_fds), "close_range, fcntl", "");
    }
    let args: Vec<_> = process.args.iter().map(|arg| format!("{:?}", arg.to_string_lossy())).collect();
    if args.is_empty() {
        out.add("wait until it is deleted: without a program it cannot be started".to_owned(), "", "/process");
        return;
    }
    let line = out.add(format!("become {}", args.join(" ")), "execve", "/process/args");
    line.sh(format!("exec {}", args.join(" ")));
    out.at = Point::Poststart;
    hook_lines("poststart", &plan.hooks.poststart, out);
}

fn landlock_lines(plan: &Plan, out: &mut Lines) {
    let Some(landlock) = &plan.landlock else { return };
    for rule in &landlock.rules {
        out.add(format!("let the program {} {}", rule.word, rule.path), "landlock_add_rule", rule.pointer());
    }
    out.add("give up all other paths", "landlock_restrict_self", "/annotations");
}

fn filter_line(filter: &Filter, out: &mut Lines) {
    let what = format!("load a system call filter of {} instructions", filter.program.len());
    out.add(what, "seccomp", "/linux/seccomp");
}

fn hook_lines(kind: &str, hooks: &[Hook], out: &mut Lines) {
    for hook in hooks {
        let limit = hook.timeout.map(|timeout| format!(", at most {} s", timeout.as_secs())).unwrap_or_default();
        out.add(format!("run the {kind} hook {}{limit}", hook.path), "execve", &hook.pointer)
            .sh(format!("{} < state.json", hook.path));
    }
}

fn mount_words(mount: &Mount) -> (String, String) {
    let mut options: Vec<String> = mount.attr.words().into_iter().map(str::to_owned).collect();
    options.extend(mount.recursive_attr.words().into_iter().map(|word| format!("r{word}")));
    options.extend(mount.propagation.iter().map(ToString::to_string));
    options.extend(mount.idmap.iter().map(|idmap| {
        let word = if idmap.recursive { "ridmap" } else { "idmap" };
        match &idmap.mapping {
            Mapping::Container => word.to_owned(),
            Mapping::Own { uid, gid } => format!("{word} users {} groups {}", map(uid), map(gid)),
        }
    }));
    let destination = &mount.destination;
    let (what, command) = match &mount.kind {
        MountKind::Bind { source, recursive } => {
            let how = if *recursive { "--rbind" } else { "--bind" };
            (format!("bind {} on {destination}", source.display()), format!("mount {how} {}", source.display()))
        }
        MountKind::Fs { fstype, source, data, .. } => {
            options.extend(data.iter().map(|(key, value)| match value {
                Some(value) => format!("{key}={value}"),
                None => key.clone(),
            }));
            let source = source.as_deref().unwrap_or(fstype);
            (format!("mount {fstype} on {destination}"), format!("mount -t {fstype} {source}"))
        }
        MountKind::Remount { .. } => {
            (format!("mount {destination} again with other options"), "mount -o remount".into())
        }
    };
    if options.is_empty() {
        return (what, format!("{command} .{destination}"));
    }
    let options = options.join(",");
    (format!("{what} ({options})"), format!("{command} -o {options} .{destination}"))
}

fn flags(flags: u64) -> String {
    let names: Vec<_> = Kind::ALL.iter().filter(|row| flags & row.2 != 0).map(|row| row.1).collect();
    names.join(", ")
}

/// unshare(1)'s option.
fn unshare(kind: Kind) -> &'static str {
    match kind {
        Kind::Network => "net",
        other => other.name(),
    }
}

/// nsenter(1)'s option: the same words.
fn nsenter(kind: Kind) -> &'static str {
    unshare(kind)
}

fn map(map: &[IdMap]) -> String {
    let lines: Vec<_> = map.iter().map(|line| format!("{}->{} x{}", line.container, line.host, line.size)).collect();
    lines.join(", ")
}

fn list(bits: u64) -> String {
    if bits == 0 { "none".into() } else { names(bits).join(" ") }
}

/// The plan as text: a step a line, the shell's command below it.
pub fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for line in lines(plan) {
        let mut source = line.call.to_owned();
        if !line.pointer.is_empty() {
            let _ = write!(source, "; {}", line.pointer);
        }
        let _ = writeln!(text, "{:5}  {}  [{source}]", line.side, line.what);
        if let Some(sh) = &line.sh {
            let _ = writeln!(text, "         $ {sh}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{CgroupFacts, CgroupMode, HostFacts};
    use crate::plan::Options;
    use crate::spec::load;
    use std::path::Path;

    /// Root of a host with cgroup2 alone, whatever machine the test runs on.
    fn host() -> HostFacts {
        let cgroup =
            CgroupFacts { mode: CgroupMode::V2, v2_mount: Some("/sys/fs/cgroup".into()), ..CgroupFacts::default() };
        HostFacts { audit_arch: 0xc000_003e, ..HostFacts::of_root(cgroup) }
    }

    fn plan_of(bundle: &Path) -> Plan {
        let text = load::read(&bundle.join("config.json")).unwrap();
        let (spec, unknown) = load::parse(&text).unwrap();
        assert!(unknown.is_empty(), "{bundle:?}: {unknown:?}");
        let id = bundle.file_name().unwrap().to_string_lossy().into_owned();
        let console_socket = spec.process.as_ref().is_some_and(|process| process.terminal);
        let options = Options { id, bundle: "/bundle".into(), console_socket, detached: true, ..Options::default() };
        Plan::new(&spec, &host(), &options).unwrap()
    }

    fn bundles() -> Vec<std::path::PathBuf> {
        let all = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles")).unwrap();
        let mut all: Vec<_> = all.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
        all.sort();
        all
    }

    /// `UPDATE=1 cargo test plan.txt` writes the golden files anew.
    #[test]
    fn each_bundle_has_its_plan_beside_it() {
        assert!(bundles().len() >= 7);
        for bundle in bundles() {
            let (have, golden) = (text(&plan_of(&bundle)), bundle.join("plan.txt"));
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&golden, &have).unwrap();
            }
            let want = std::fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(have, want, "{} is not the plan; UPDATE=1 writes it anew", golden.display());
        }
    }

    #[test]
    fn each_pointer_leads_to_something_in_the_config() {
        for bundle in bundles() {
            let config = std::fs::read_to_string(bundle.join("config.json")).unwrap();
            let config: serde_json::Value = serde_json::from_str(&config).unwrap();
            for line in lines(&plan_of(&bundle)).iter().filter(|line| !line.pointer.is_empty()) {
                // A property that is absent has a default; an entry of a list has not.
                let (parent, last) = line.pointer.rsplit_once('/').unwrap();
                let entry = last.parse::<usize>().is_ok();
                let top = parent.split('/').nth(1).map_or(line.pointer.clone(), |top| format!("/{top}"));
                let asked = config.pointer(if entry { &line.pointer } else { &top });
                assert!(asked.is_some(), "{bundle:?}: {line:?}");
            }
        }
    }
}
