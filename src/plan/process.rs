//! The program and what it may do: arguments, environment, ids, capabilities, limits, scheduling.

use linux_raw_sys::general;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use super::Options;
use super::affinity::Affinity;
use super::idmap::{IdMaps, maps};
use super::namespaces::{Kind, Namespaces};
use crate::error::{Error, Result};
use crate::host::HostFacts;
use crate::spec;
use crate::spec::json::{SUGGESTIONS, did_you_mean};
use crate::spec::{List, Str};

/// The program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// argv; never empty.
    pub args: Vec<CString>,
    /// The environment, each name once; HOME may be added from /etc/passwd by init.
    pub env: Vec<CString>,
    /// The PATH of that environment, by which `args[0]` is found.
    pub path: OsString,
    /// HOME is absent or empty.
    pub needs_home: bool,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// Rows and columns of the terminal.
    pub console_size: Option<(u16, u16)>,
    /// Ids.
    pub user: User,
    /// The five sets.
    pub capabilities: Capabilities,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// /proc/PID/oom_score_adj; None: unchanged.
    pub oom_score_adj: Option<i32>,
    /// Limits, each resource once.
    pub rlimits: Vec<Rlimit>,
    /// AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// SELinux label.
    pub selinux_label: Option<String>,
    /// Scheduling policy.
    pub scheduler: Option<Scheduler>,
    /// I/O priority, as ioprio_set(2) takes it.
    pub io_priority: Option<i32>,
    /// Execution domain.
    pub personality: Option<u32>,
    /// CPUs of processes that exec adds.
    pub exec_affinity: Affinity,
}

/// Ids as the container sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups; None: left as they are, since setgroups(2) is denied, or they are kept.
    pub groups: Option<Vec<u32>>,
    /// The caller's are kept ([`KEEP_GROUPS_ANNOTATION`]).
    pub keep_groups: bool,
    /// File mode creation mask.
    pub umask: u32,
}

/// Capability sets, by bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Bounding set.
    pub bounding: u64,
    /// Effective set.
    pub effective: u64,
    /// Permitted set.
    pub permitted: u64,
    /// Inheritable set.
    pub inheritable: u64,
    /// Ambient set.
    pub ambient: u64,
}

impl Capabilities {
    /// With CAP_SYS_ADMIN for the process itself; execve(2) computes its sets from the others (capabilities(7)).
    pub fn with_admin(self) -> Capabilities {
        const CAP_SYS_ADMIN: u64 = 1 << 21;
        Capabilities { permitted: self.permitted | CAP_SYS_ADMIN, effective: self.effective | CAP_SYS_ADMIN, ..self }
    }
}

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// N of /process/rlimits/N.
    pub index: usize,
    /// The specification's name.
    pub name: &'static str,
    /// RLIMIT_*.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// sched_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scheduler {
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

impl Scheduler {
    /// SCHED_DEADLINE, which forbids fork(2).
    pub fn is_deadline(&self) -> bool {
        self.policy == 6
    }
}

/// Limits by name (setrlimit(2)).
pub const RLIMITS: [(&str, u32); 16] = [
    ("RLIMIT_AS", general::RLIMIT_AS),
    ("RLIMIT_CORE", general::RLIMIT_CORE),
    ("RLIMIT_CPU", general::RLIMIT_CPU),
    ("RLIMIT_DATA", general::RLIMIT_DATA),
    ("RLIMIT_FSIZE", general::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", general::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", general::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", general::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", general::RLIMIT_NICE),
    ("RLIMIT_NOFILE", general::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", general::RLIMIT_NPROC),
    ("RLIMIT_RSS", general::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", general::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", general::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", general::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", general::RLIMIT_STACK),
];

/// Scheduling policies by name (sched(7)).
pub const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// Scheduling flags by name (sched_setattr(2)).
pub const SCHED_FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// The annotation with which the program keeps the caller's supplementary groups, as crun has it.
pub const KEEP_GROUPS_ANNOTATION: &str = "run.oci.keep_original_groups";

/// The mask that a container gets when config.json has none: a daemon with umask 0 must not hand it on.
const DEFAULT_UMASK: u32 = 0o022;
/// What setresuid(2) and chown(2) take for "unchanged": a program of this user would stay root.
pub const NO_ID: u32 = u32::MAX;
/// linux/limits.h.
const NGROUPS_MAX: usize = 65_536;
/// What a program is looked up by when its environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Process {
    /// From /process; `notes` takes what is worth a warning, `asides` what engines send with every container.
    pub fn new(
        spec: &spec::Spec<'_>,
        namespaces: &Namespaces,
        idmaps: Option<&IdMaps>,
        host: &HostFacts,
        options: &Options,
        (notes, asides): (&mut Vec<String>, &mut Vec<String>),
    ) -> Result<Process> {
        // Without a program a container can be created, and held, but not started (config.md#process).
        let none = spec::Process { cwd: Some(Str::from("/")), ..Default::default() };
        let process = spec.process.as_ref().unwrap_or(&none);
        let args = c_strings("/process/args", &process.args)?;
        if spec.process.is_some() && args.first().is_none_or(|first| first.is_empty()) {
            return Err(Error::spec(
                "/process/args",
                "needs a program as its first element: exec: \"\": executable file not found in $PATH",
            ));
        }
        let (mut env, path, needs_home) = environment(&process.env, &options.env)?;
        if options.listen_fds > 0 {
            // The program is pid 1 of its namespace, and finds the descriptors from 3 on, as sd_listen_fds(3) expects.
            env.extend(
                [CString::new(format!("LISTEN_FDS={}", options.listen_fds)), CString::new("LISTEN_PID=1")]
                    .into_iter()
                    .flatten(),
            );
        }
        let Some(cwd) = &process.cwd else { return Err(Error::spec("/process/cwd", "missing")) };
        if !cwd.starts_with('/') || cwd.contains('\0') {
            return Err(Error::spec("/process/cwd", format_args!("must be an absolute path, is {:?}", &**cwd)));
        }
        console(process, options)?;
        let oom_score_adj = match process.oom_score_adj {
            Some(value @ -1000..=1000) => Some(value as i32),
            Some(value) => {
                let what = format!("must be between -1000 and 1000, is {value}");
                return Err(Error::spec("/process/oomScoreAdj", what));
            }
            None => None,
        };
        let label = |pointer: &str, label: &Option<Str<'_>>, on: bool, lsm: &str| match label.as_deref() {
            None | Some("") => Ok(None),
            Some(text) if !on => {
                let what = format!("{text:?} cannot be taken: {lsm} is not enabled on this host");
                Err(Error::spec(format!("/process/{pointer}"), what).hint("leave it out, or boot with the module"))
            }
            Some(text) => Ok(Some(text.to_owned())),
        };
        let keep_groups = spec.annotations.get(KEEP_GROUPS_ANNOTATION).is_some_and(|value| &**value == "1");
        Ok(Process {
            args,
            env,
            path,
            needs_home,
            cwd: PathBuf::from(&**cwd),
            terminal: process.terminal,
            console_size: process.console_size.as_ref().map(|size| {
                let clamp = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
                (clamp(size.height), clamp(size.width))
            }),
            user: user(process.user.as_ref(), namespaces, idmaps, keep_groups, notes)?,
            capabilities: capabilities(process.capabilities.as_ref(), host, namespaces, (notes, asides))?,
            no_new_privileges: process.no_new_privileges,
            oom_score_adj,
            rlimits: rlimits(&process.rlimits)?,
            apparmor_profile: label("apparmorProfile", &process.apparmor_profile, host.apparmor, "AppArmor")?,
            selinux_label: label("selinuxLabel", &process.selinux_label, host.selinux, "SELinux")?,
            scheduler: process.scheduler.as_ref().map(scheduler).transpose()?,
            io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
            personality: match spec.linux.as_ref().and_then(|linux| linux.personality.as_ref()) {
                Some(wanted) => Some(personality(wanted, notes)?),
                None => None,
            },
            exec_affinity: Affinity::new(process.exec_cpu_affinity.as_ref())?,
        })
    }
}

impl Process {
    /// Tells the program where its notify socket is, whatever config.json says.
    pub fn notify_socket(&mut self, path: &str) {
        const NAME: &str = "NOTIFY_SOCKET=";
        self.env.retain(|variable| !variable.to_bytes().starts_with(NAME.as_bytes()));
        self.env.extend(CString::new(format!("{NAME}{path}")));
    }
}

fn console(process: &spec::Process<'_>, options: &Options) -> Result<()> {
    match (process.terminal, options.console_socket, options.detached) {
        (true, false, true) => Err(Error::usage(
            "config.json: /process/terminal: a detached container with a terminal needs --console-socket",
        )),
        (true, true, false) => {
            Err(Error::usage("--console-socket goes with a detached container: run it with --detach"))
        }
        (false, true, _) => Err(Error::usage("--console-socket is given, but config.json: /process/terminal is false")),
        _ => Ok(()),
    }
}

fn c_strings(pointer: &str, list: &List<Str<'_>>) -> Result<Vec<CString>> {
    let c_string = |(index, text): (usize, &Str<'_>)| {
        CString::new(text.as_bytes()).map_err(|_| Error::spec(format!("{pointer}/{index}"), "holds a NUL byte"))
    };
    list.iter().enumerate().map(c_string).collect()
}

/// Refuses what no execve(2) takes (E2BIG) before anything is made: strings of 32 pages, and arguments and environment
/// that come, with a pointer each, to more than three quarters of 8 MiB, whatever RLIMIT_STACK is (fs/exec.c).
pub fn fits_execve(process: &Process) -> Result<()> {
    // The largest page of the architecture.
    const PAGE: usize = if cfg!(target_arch = "x86_64") { 4096 } else { 65_536 };
    const LONGEST: usize = 32 * PAGE - 1;
    const MOST: usize = 6 << 20;
    for (list, name) in [(&process.args, "args"), (&process.env, "env")] {
        if let Some(text) = list.iter().find(|text| text.as_bytes().len() > LONGEST) {
            let start: String = text.to_string_lossy().chars().take(16).collect();
            let length = text.as_bytes().len();
            let what = format!("{start:?}... has {length} bytes, execve takes at most {LONGEST} for one string");
            return Err(Error::spec(format!("/process/{name}"), what));
        }
    }
    let all = process.args.iter().chain(&process.env);
    let bytes: usize = all.map(|text| text.as_bytes_with_nul().len() + size_of::<usize>()).sum();
    if bytes > MOST {
        let what = format!("args and env come to {bytes} bytes, execve takes at most {MOST}");
        return Err(Error::spec("/process", what));
    }
    Ok(())
}

/// The environment with each name once: the last one counts, as it does for a shell. `added` come from a command line.
fn environment(list: &List<Str<'_>>, added: &[OsString]) -> Result<(Vec<CString>, OsString, bool)> {
    let mut path = OsString::from(DEFAULT_PATH);
    let mut needs_home = true;
    let mut env: Vec<CString> = Vec::with_capacity(list.len() + added.len() + 1);
    let mut places: BTreeMap<&[u8], usize> = BTreeMap::new();
    let all = list.iter().map(|variable| variable.as_bytes()).chain(added.iter().map(|variable| variable.as_bytes()));
    for (index, variable) in all.enumerate() {
        let pointer = || format!("/process/env/{index}");
        let Some(at) = variable.iter().position(|byte| *byte == b'=').filter(|at| *at > 0) else {
            let shown = OsStr::from_bytes(variable);
            return Err(Error::spec(pointer(), format_args!("must be NAME=VALUE, is {shown:?}")));
        };
        let (name, value) = (&variable[..at], &variable[at + 1..]);
        let text = CString::new(variable).map_err(|_| Error::spec(pointer(), "holds a NUL byte"))?;
        match name {
            b"PATH" => path = OsStr::from_bytes(value).to_owned(),
            b"HOME" => needs_home = value.is_empty(),
            _ => {}
        }
        match places.get(name) {
            Some(place) => env[*place] = text,
            None => {
                places.insert(name, env.len());
                env.push(text);
            }
        }
    }
    if needs_home && let Some(place) = places.get(&b"HOME"[..]) {
        env.remove(*place);
    }
    Ok((env, path, needs_home))
}

fn user(
    user: Option<&spec::User<'_>>,
    namespaces: &Namespaces,
    idmaps: Option<&IdMaps>,
    keep_groups: bool,
    notes: &mut Vec<String>,
) -> Result<User> {
    let empty = spec::User::default();
    let user = user.unwrap_or(&empty);
    // The kernel drops the same bits (umask(2)).
    let umask = user.umask.map(|mask| mask & 0o777);
    if let (Some(mask), Some(given)) = (umask, user.umask.filter(|given| *given > 0o777)) {
        notes.push(format!("config.json: /process/user/umask: {given} ({given:04o}) is taken as {mask:04o}"));
    }
    if user.additional_gids.len() > NGROUPS_MAX {
        let what = format!("{} groups: the kernel takes at most {NGROUPS_MAX}", user.additional_gids.len());
        return Err(Error::spec("/process/user/additionalGids", what));
    }
    let gids = user.additional_gids.iter().enumerate();
    let gids = gids.map(|(index, gid)| (format!("/process/user/additionalGids/{index}"), *gid));
    let ids = [("/process/user/uid".to_owned(), user.uid), ("/process/user/gid".to_owned(), user.gid)];
    if let Some((pointer, _)) = ids.into_iter().chain(gids).find(|(_, id)| *id == NO_ID) {
        return Err(Error::spec(pointer, "4294967295 is no id: to the kernel it means \"unchanged\""));
    }
    if let Some(idmaps) = idmaps {
        let unmapped = |pointer: &str, id: u32, map: &str| {
            Error::spec(pointer, format_args!("{id} is not mapped by /linux/{map}"))
        };
        if !maps(&idmaps.uid, user.uid) {
            return Err(unmapped("/process/user/uid", user.uid, "uidMappings"));
        }
        if !maps(&idmaps.gid, user.gid) {
            return Err(unmapped("/process/user/gid", user.gid, "gidMappings"));
        }
        for (index, gid) in user.additional_gids.iter().enumerate() {
            if !maps(&idmaps.gid, *gid) {
                return Err(unmapped(&format!("/process/user/additionalGids/{index}"), *gid, "gidMappings"));
            }
        }
        if !idmaps.setgroups() && !user.additional_gids.is_empty() {
            let what = "an unprivileged user namespace with a single mapping cannot have supplementary groups";
            return Err(Error::spec("/process/user/additionalGids", what));
        }
    }
    let setgroups =
        idmaps.is_none_or(IdMaps::setgroups) && !(namespaces.joins(Kind::User) && user.additional_gids.is_empty());
    Ok(User {
        uid: user.uid,
        gid: user.gid,
        groups: (setgroups && !keep_groups).then(|| user.additional_gids.to_vec()),
        keep_groups,
        umask: umask.unwrap_or(DEFAULT_UMASK),
    })
}

/// A capability's bit number by its name; None for an unknown name.
pub fn capability(name: &str) -> Option<u32> {
    caps::Capability::from_str(name).ok().map(|cap| u32::from(cap.index()))
}

fn capabilities(
    sets: Option<&spec::Capabilities<'_>>,
    host: &HostFacts,
    namespaces: &Namespaces,
    (notes, asides): (&mut Vec<String>, &mut Vec<String>),
) -> Result<Capabilities> {
    let Some(sets) = sets else { return Ok(Capabilities::default()) };
    // A new user namespace gives every capability; without one the caller's bounding set is the most that can be had.
    let grantable = if namespaces.own(Kind::User) { u64::MAX } else { host.bounding };
    let mut lost = 0u64;
    let mut unknown: BTreeSet<&str> = BTreeSet::new();
    let mut set = |set: &str, list| {
        let mut bits = 0u64;
        let list: &List<Str<'_>> = list;
        for (index, name) in list.iter().enumerate() {
            match capability(name) {
                Some(bit) if bit <= host.last_cap => bits |= 1 << bit,
                // Most are in several sets: one word is enough.
                _ if unknown.contains(&**name) => {}
                known => {
                    let mut what = "is newer than this kernel, ignored".to_owned();
                    if known.is_none() {
                        let all = || did_you_mean(name, all_names().iter().map(String::as_str));
                        let meant = (unknown.len() < SUGGESTIONS).then(all).flatten();
                        let meant = meant.map(|question| format!("; {question}")).unwrap_or_default();
                        what = format!("is no capability, ignored{meant}");
                    }
                    let to = if known.is_none() { &mut *notes } else { &mut *asides };
                    to.push(format!("config.json: /process/capabilities/{set}/{index}: {:?} {what}", &**name));
                    unknown.insert(name);
                }
            }
        }
        lost |= bits & !grantable;
        bits & grantable
    };
    let bounding = set("bounding", &sets.bounding);
    let (effective, permitted) = (set("effective", &sets.effective), set("permitted", &sets.permitted));
    let (inheritable, ambient) = (set("inheritable", &sets.inheritable), set("ambient", &sets.ambient));
    if lost != 0 {
        let lost = names(lost).join(", ");
        let what = format!("cannot be granted, since hull does not have them: {lost}");
        asides.push(format!("config.json: /process/capabilities: {what}"));
    }
    // Effective must be a subset of permitted, inheritable of the bounding set, and ambient of both permitted and
    // inheritable (capabilities(7)).
    let within = |to: &mut Vec<String>, set: u64, most: u64, text: &str| {
        if set & !most != 0 {
            to.push(format!("config.json: /process/capabilities/{text}: {}", names(set & !most).join(", ")));
        }
        set & most
    };
    let inheritable = within(notes, inheritable, bounding, "inheritable: not set, since not in bounding");
    let most = permitted & inheritable;
    let ambient = within(asides, ambient, most, "ambient: not raised, since not permitted and inheritable too");
    let effective = within(notes, effective, permitted, "effective: not set, since not permitted");
    Ok(Capabilities { bounding, effective, permitted, inheritable, ambient })
}

/// The names of capabilities, in the kernel's order.
pub fn names(bits: u64) -> Vec<String> {
    (0..64)
        .filter(|bit| bits & 1 << bit != 0)
        .map(|bit| {
            caps::all()
                .into_iter()
                .find(|cap| u32::from(cap.index()) == bit)
                .map_or(format!("CAP_{bit}"), |cap| cap.to_string())
        })
        .collect()
}

/// All capabilities that hull knows.
pub fn all() -> u64 {
    caps::all().iter().fold(0, |bits, cap| bits | 1 << cap.index())
}

/// The names of all capabilities that hull knows, in the kernel's order.
pub fn all_names() -> Vec<String> {
    names(all())
}

fn rlimits(list: &List<spec::Rlimit<'_>>) -> Result<Vec<Rlimit>> {
    let mut limits: Vec<Rlimit> = Vec::with_capacity(list.len());
    for (index, limit) in list.iter().enumerate() {
        let pointer = |field: &str| format!("/process/rlimits/{index}/{field}");
        let Some(name) = &limit.kind else { return Err(Error::spec(pointer("type"), "missing")) };
        let Some(&(name, resource)) = RLIMITS.iter().find(|(known, _)| *known == &**name) else {
            return Err(unknown(pointer("type"), "limit", name, RLIMITS.iter().map(|row| row.0)));
        };
        if limits.iter().any(|other| other.resource == resource) {
            return Err(Error::spec(pointer("type"), format_args!("{name} is given twice")));
        }
        let (Some(soft), Some(hard)) = (limit.soft, limit.hard) else {
            return Err(Error::spec(pointer(if limit.soft.is_none() { "soft" } else { "hard" }), "missing"));
        };
        if soft > hard {
            return Err(Error::spec(pointer("soft"), format_args!("{soft} is above the hard limit {hard}")));
        }
        limits.push(Rlimit { index, name, resource, soft, hard });
    }
    Ok(limits)
}

fn unknown(pointer: String, what: &str, name: &str, names: impl Iterator<Item = &'static str>) -> Error {
    Error { hint: did_you_mean(name, names), ..Error::spec(pointer, format_args!("unknown {what} {name:?}")) }
}

fn scheduler(scheduler: &spec::Scheduler<'_>) -> Result<Scheduler> {
    let Some(name) = &scheduler.policy else { return Err(Error::spec("/process/scheduler/policy", "missing")) };
    let Some(&(_, policy)) = POLICIES.iter().find(|(known, _)| *known == &**name) else {
        return Err(unknown("/process/scheduler/policy".into(), "policy", name, POLICIES.iter().map(|row| row.0)));
    };
    let mut flags = 0;
    for (index, name) in scheduler.flags.iter().enumerate() {
        let Some(&(_, flag)) = SCHED_FLAGS.iter().find(|(known, _)| *known == &**name) else {
            let pointer = format!("/process/scheduler/flags/{index}");
            return Err(unknown(pointer, "flag", name, SCHED_FLAGS.iter().map(|row| row.0)));
        };
        flags |= flag;
    }
    let nice = scheduler.nice.unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(Error::spec("/process/scheduler/nice", format_args!("must be between -20 and 19, is {nice}")));
    }
    let priority = scheduler.priority.unwrap_or(0);
    let real_time = matches!(policy, 1 | 2);
    if real_time && !(1..=99).contains(&priority) || !real_time && priority != 0 {
        let what = format!("{name} takes a priority of {}, not {priority}", if real_time { "1 to 99" } else { "0" });
        return Err(Error::spec("/process/scheduler/priority", what));
    }
    let (runtime, deadline, period) =
        (scheduler.runtime.unwrap_or(0), scheduler.deadline.unwrap_or(0), scheduler.period.unwrap_or(0));
    if policy != 6 && (runtime, deadline, period) != (0, 0, 0) {
        let what = "runtime, deadline and period go with SCHED_DEADLINE";
        return Err(Error::spec("/process/scheduler/policy", what));
    }
    Ok(Scheduler { policy, flags, nice, priority: priority as u32, runtime, deadline, period })
}

fn io_priority(priority: &spec::IoPriority<'_>) -> Result<i32> {
    const CLASSES: [(&str, i32); 3] = [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];
    let Some(name) = &priority.class else { return Err(Error::spec("/process/ioPriority/class", "missing")) };
    let Some(&(_, class)) = CLASSES.iter().find(|(known, _)| *known == &**name) else {
        return Err(unknown("/process/ioPriority/class".into(), "class", name, CLASSES.iter().map(|row| row.0)));
    };
    if !(0..=7).contains(&priority.priority) {
        let what = format!("must be between 0 and 7, is {}", priority.priority);
        return Err(Error::spec("/process/ioPriority/priority", what));
    }
    Ok(class << 13 | priority.priority)
}

fn personality(personality: &spec::Personality<'_>, notes: &mut Vec<String>) -> Result<u32> {
    // "Currently no flag values are supported": none is set, as with runc, and each would only weaken the program.
    notes.extend(personality.flags.iter().enumerate().map(|(index, flag)| {
        format!("config.json: /linux/personality/flags/{index}: {:?} is not supported, left out", &**flag)
    }));
    match personality.domain.as_deref() {
        Some("LINUX") => Ok(0),
        Some("LINUX32") => Ok(8),
        Some(other) => {
            Err(unknown("/linux/personality/domain".into(), "domain", other, ["LINUX", "LINUX32"].into_iter()))
        }
        None => Err(Error::spec("/linux/personality/domain", "missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_wins_and_an_empty_home_is_none() {
        let env: List<Str<'_>> = serde_json::from_str(r#"["A=1","PATH=/x","HOME=","A=2"]"#).unwrap();
        let (env, path, needs_home) = environment(&env, &[]).unwrap();
        assert_eq!(env, [c"A=2".to_owned(), c"PATH=/x".to_owned()]);
        assert_eq!((path.to_str(), needs_home), (Some("/x"), true));
    }

    #[test]
    fn limits() {
        let parse = |json| rlimits(&serde_json::from_str::<List<spec::Rlimit<'_>>>(json).unwrap());
        assert!(
            parse(r#"[{"type":"RLIMIT_NOFILE","soft":2,"hard":1}]"#)
                .unwrap_err()
                .to_string()
                .contains("above the hard")
        );
        assert!(
            parse(r#"[{"type":"RLIMIT_NOFILES","soft":1,"hard":1}]"#)
                .unwrap_err()
                .to_string()
                .contains("RLIMIT_NOFILE")
        );
        let twice = r#"[{"type":"RLIMIT_CORE","soft":1,"hard":1},{"type":"RLIMIT_CORE","soft":1,"hard":1}]"#;
        assert!(parse(twice).unwrap_err().to_string().contains("given twice"));
        let max = parse(r#"[{"type":"RLIMIT_CORE","soft":18446744073709551615,"hard":18446744073709551615}]"#).unwrap();
        assert_eq!(max[0].hard, u64::MAX);
    }

    #[test]
    fn real_time_needs_a_priority() {
        let parse = |json| scheduler(&serde_json::from_str::<spec::Scheduler<'_>>(json).unwrap());
        assert!(parse(r#"{"policy":"SCHED_FIFO"}"#).is_err());
        assert!(parse(r#"{"policy":"SCHED_OTHER","priority":1}"#).is_err());
        assert_eq!(
            parse(r#"{"policy":"SCHED_RR","priority":5,"flags":["SCHED_FLAG_RESET_ON_FORK"]}"#).unwrap().flags,
            1
        );
    }

    #[test]
    fn an_id_that_means_unchanged_is_refused() {
        for (json, place) in [
            (r#"{"uid":4294967295}"#, "/process/user/uid: 4294967295 is no id"),
            (r#"{"gid":4294967295}"#, "/process/user/gid: 4294967295 is no id"),
            (r#"{"additionalGids":[4294967294,4294967295]}"#, "/process/user/additionalGids/1: 4294967295 is no id"),
        ] {
            let text = serde_json::from_str(json).unwrap();
            let error = user(Some(&text), &Namespaces::new(None).unwrap(), None, false, &mut Vec::new())
                .unwrap_err()
                .to_string();
            assert!(error.contains(place), "{error}");
        }
        let groups = spec::User { additional_gids: List(vec![1; NGROUPS_MAX + 1]), ..Default::default() };
        let error =
            user(Some(&groups), &Namespaces::new(None).unwrap(), None, false, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("/process/user/additionalGids: 65537 groups"), "{error}");
    }

    #[test]
    fn what_the_kernel_would_not_take_is_noted_and_left_out() {
        let host = HostFacts { bounding: u64::MAX, last_cap: 37, ..HostFacts::default() };
        let sets = r#"{"bounding":["CAP_KILL","CAP_KIL"],"permitted":["CAP_KILL","CAP_BPF","CAP_KIL"],
            "effective":["CAP_KILL","CAP_FOWNER"],
            "inheritable":["CAP_KILL","CAP_CHOWN"],"ambient":["CAP_KILL","CAP_CHOWN"]}"#;
        let (mut notes, mut asides) = (Vec::new(), Vec::new());
        let sets = serde_json::from_str(sets).unwrap();
        let own = Namespaces::new(None).unwrap();
        let planned = capabilities(Some(&sets), &host, &own, (&mut notes, &mut asides)).unwrap();
        let kill = 1 << capability("CAP_KILL").unwrap();
        assert_eq!((planned.bounding, planned.permitted, planned.effective), (kill, kill, kill));
        assert_eq!((planned.inheritable, planned.ambient), (kill, kill));
        let expected = [
            "config.json: /process/capabilities/bounding/1: \"CAP_KIL\" is no capability, ignored; did you mean \"CAP_KILL\"?",
            "config.json: /process/capabilities/inheritable: not set, since not in bounding: CAP_CHOWN",
            "config.json: /process/capabilities/effective: not set, since not permitted: CAP_FOWNER",
        ];
        assert_eq!(notes, expected);
        let expected = [
            "config.json: /process/capabilities/permitted/1: \"CAP_BPF\" is newer than this kernel, ignored",
            "config.json: /process/capabilities/ambient: not raised, since not permitted and inheritable too: CAP_CHOWN",
        ];
        assert_eq!(asides, expected);
    }

    #[test]
    fn capability_names() {
        assert_eq!(capability("CAP_CHOWN"), Some(0));
        assert_eq!(capability("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(capability("chown"), None);
        assert_eq!(names(1 | 1 << 21), ["CAP_CHOWN", "CAP_SYS_ADMIN"]);
    }
}
