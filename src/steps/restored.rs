//! What an image made of the processes, held against the config before any of them runs: an image is data that somebody
//! else may have written, and must not give a process more than the config would.

use std::os::linux::fs::MetadataExt;

use crate::bytes;
use crate::error::{ErrAt, Error, Result, Step};
use crate::plan::Plan;
use crate::plan::namespaces::Kind;
use crate::plan::process::Process;
use crate::sys::listing;

/// CAP_SETGID and CAP_SETUID (linux/capability.h).
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;

/// The processes of a container that CRIU holds.
#[derive(Debug)]
pub struct Restored {
    /// In any of the container's cgroups.
    pub some: Vec<i32>,
    /// In all of them.
    pub all: Vec<i32>,
    /// The first process, and those that descend from it: an image may have put one into another cgroup.
    pub tree: Vec<i32>,
    /// CRIU, which is in the cgroups too.
    pub criu: i32,
    /// CRIU leaves cgroups alone, as it was told to, and their namespace with them.
    pub cgroups_ignored: bool,
}

/// Looks at all processes of the container but CRIU's own.
pub fn check(restored: &Restored, plan: &Plan) -> Result<()> {
    let criu = restored.criu;
    let own = namespace(criu, "pid");
    let outside = restored.tree.iter().filter(|pid| !restored.some.contains(pid));
    for &pid in restored.some.iter().chain(outside).filter(|pid| **pid != criu) {
        let tree = restored.tree.contains(&pid);
        // CRIU's helpers are in CRIU's pid namespace; where the container has none of its own, they are its children.
        let is_helper = !tree && own.is_some() && namespace(pid, "pid") == own;
        if is_helper && (plan.namespaces.own(Kind::Pid) || parent(pid) == Some(criu)) {
            continue;
        }
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            bytes::text(&path).err_at(Step::Criu, "open", || format!("look at a restored process, {path}"))
        };
        let status = read("status")?;
        // One that has ended is in no list of a cgroup's, and does nothing any more.
        if field(&status, "State").is_some_and(|state| state.starts_with(['Z', 'X'])) {
            continue;
        }
        let mut problem = check_limits(&read("limits")?, &plan.process)
            .or_else(|| check_namespaces(pid, restored, plan))
            .or_else(|| check_score(&read("oom_score_adj").ok()?, &plan.process));
        if !restored.all.contains(&pid) {
            problem = Some("is in another cgroup than the container's".into());
        }
        // Each thread has credentials and a filter of its own.
        for thread in threads(pid)? {
            let status = read(&format!("task/{thread}/status"))?;
            problem = problem.or_else(|| check_status(&status, plan.seccomp.is_some(), &plan.process));
        }
        if let Some(problem) = problem {
            return Err(Error::host(Step::Criu, format!("restore: process {pid} of the image {problem}"))
                .hint("the image was not made from a container with this config.json"));
        }
    }
    Ok(())
}

/// A process and all that descend from it.
pub fn tree(init: i32) -> Result<Vec<i32>> {
    let mut found = vec![init];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        for thread in threads(pid)? {
            let path = format!("/proc/{pid}/task/{thread}/children");
            let children = std::fs::read_to_string(&path)
                .err_at(Step::Criu, "open", || format!("find the restored processes, {path}"))?;
            found.extend(children.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok()));
        }
    }
    Ok(found)
}

fn threads(pid: i32) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let subject = || format!("find the threads of a restored process, {path}");
    listing::numbers(path.as_ref()).err_at(Step::Criu, "getdents64", subject)
}

/// A namespace that the config gives the container must not be the host's.
fn check_namespaces(pid: i32, restored: &Restored, plan: &Plan) -> Option<String> {
    let looked_at = |kind| plan.namespaces.own(kind) && !(kind == Kind::Cgroup && restored.cgroups_ignored);
    for (kind, name, _) in Kind::ALL.into_iter().filter(|(kind, ..)| looked_at(*kind)) {
        let file = match kind {
            Kind::Network => "net",
            Kind::Mount => "mnt",
            _ => name,
        };
        let path = plan.namespaces.joins.iter().find(|join| join.kind == kind).map(|join| &join.path);
        let given = path.and_then(|path| std::fs::metadata(path).ok()).map(|meta| meta.st_ino());
        let found = namespace(pid, file);
        // CRIU has a mount namespace of its own, with the host's files.
        let hosts = [namespace(std::process::id() as i32, file), namespace(restored.criu, file)];
        if found.is_none() || found != given && hosts.contains(&found) {
            return Some(format!("is in the host's {name} namespace"));
        }
    }
    None
}

/// The lower it is, the later a process is killed when memory runs out: it takes privilege to lower it.
fn check_score(text: &str, process: &Process) -> Option<String> {
    let found = text.trim().parse().unwrap_or(i32::MIN);
    let least = process.oom_score_adj.filter(|least| found < *least)?;
    Some(format!("has an oom_score_adj of {found}, the config has {least}"))
}

/// Kills all processes of the container; those of CRIU, which holds them, are left.
pub fn kill(restored: &Restored) {
    let pids = restored.some.iter().chain(&restored.tree);
    for pid in pids.filter(|pid| **pid != restored.criu) {
        if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn namespace(pid: i32, name: &str) -> Option<u64> {
    std::fs::metadata(format!("/proc/{pid}/ns/{name}")).ok().map(|meta| meta.st_ino())
}

fn parent(pid: i32) -> Option<i32> {
    let status = bytes::text(format!("/proc/{pid}/status")).ok()?;
    field(&status, "PPid")?.parse().ok()
}

fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Holds /proc/PID/status against the config; what is wrong.
fn check_status(status: &str, filtered: bool, process: &Process) -> Option<String> {
    let caps = &process.capabilities;
    let most = caps.bounding | caps.permitted | caps.inheritable;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let value = field(status, set).and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(u64::MAX);
        if value & !most != 0 {
            return Some(format!("has capabilities in {set} that the config does not give: {:#x}", value & !most));
        }
    }
    if process.no_new_privileges && field(status, "NoNewPrivs") != Some("1") {
        return Some("may gain privileges, which the config forbids (noNewPrivileges)".into());
    }
    if filtered && field(status, "Seccomp") != Some("2") {
        return Some("has no seccomp filter, which the config asks for".into());
    }
    // With a way to change its ids the program may have changed them.
    let may_change = |cap: u64| most & cap != 0 || !process.no_new_privileges;
    let numbers = |name: &str| -> Vec<u32> {
        let words = field(status, name).unwrap_or_default().split_ascii_whitespace();
        words.map(|word| word.parse().unwrap_or(u32::MAX)).collect()
    };
    if !may_change(SETUID) && numbers("Uid").iter().any(|uid| *uid != process.user.uid) {
        return Some(format!("has user {:?}, the config has {}", numbers("Uid"), process.user.uid));
    }
    if !may_change(SETGID) {
        let given = process.user.groups.as_deref().unwrap_or_default();
        let known = |gid: &u32| *gid == process.user.gid || given.contains(gid);
        if let Some(gid) = numbers("Gid").iter().chain(&numbers("Groups")).find(|gid| !known(gid)) {
            return Some(format!("has group {gid}, which the config does not give"));
        }
    }
    None
}

/// Holds /proc/PID/limits against the config.
fn check_limits(limits: &str, process: &Process) -> Option<String> {
    for limit in &process.rlimits {
        let Some(row) = ROWS.iter().find(|(name, _)| *name == limit.name).map(|(_, row)| *row) else { continue };
        let line = limits.lines().find_map(|line| line.strip_prefix(row))?;
        let hard = match line.split_ascii_whitespace().nth(1) {
            Some("unlimited") | None => u64::MAX,
            Some(number) => number.parse().unwrap_or(u64::MAX),
        };
        if hard > limit.hard {
            return Some(format!("has a hard limit {} of {hard}, the config has {}", limit.name, limit.hard));
        }
    }
    None
}

/// The rows of /proc/PID/limits.
const ROWS: [(&str, &str); 16] = [
    ("RLIMIT_CPU", "Max cpu time"),
    ("RLIMIT_FSIZE", "Max file size"),
    ("RLIMIT_DATA", "Max data size"),
    ("RLIMIT_STACK", "Max stack size"),
    ("RLIMIT_CORE", "Max core file size"),
    ("RLIMIT_RSS", "Max resident set"),
    ("RLIMIT_NPROC", "Max processes"),
    ("RLIMIT_NOFILE", "Max open files"),
    ("RLIMIT_MEMLOCK", "Max locked memory"),
    ("RLIMIT_AS", "Max address space"),
    ("RLIMIT_LOCKS", "Max file locks"),
    ("RLIMIT_SIGPENDING", "Max pending signals"),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size"),
    ("RLIMIT_NICE", "Max nice priority"),
    ("RLIMIT_RTPRIO", "Max realtime priority"),
    ("RLIMIT_RTTIME", "Max realtime timeout"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::process::{Capabilities, Rlimit};

    const STATUS: &str = "Name:\tsh\nPPid:\t5\nUid:\t7\t7\t7\t7\nGid:\t8\t8\t8\t8\nGroups:\t9 8 \nCapInh:\t0000000000000000\n\
                          CapPrm:\t0000000000000020\nCapEff:\t0000000000000020\nCapBnd:\t0000000000000420\n\
                          CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    fn process() -> Process {
        let json = r#"{"ociVersion":"1.0.0","root":{"path":"r"},"process":{"args":["x"],"cwd":"/","noNewPrivileges":true,
            "user":{"uid":7,"gid":8,"additionalGids":[9]}}}"#;
        let spec: crate::spec::Spec<'_> = serde_json::from_str(json).unwrap();
        let host = crate::host::HostFacts::probe(&spec).unwrap();
        let plan = Plan::new(&spec, &host, &crate::plan::Options { id: "x".into(), ..Default::default() });
        let mut process = plan.unwrap().process;
        process.capabilities = Capabilities { bounding: 0x420, ..Capabilities::default() };
        process.user.groups = Some(vec![9]);
        process
    }

    #[test]
    fn what_the_config_gives_is_fine() {
        assert_eq!(check_status(STATUS, true, &process()), None);
        assert_eq!(check_status(STATUS, false, &process()), None);
    }

    #[test]
    fn more_than_the_config_gives_is_not() {
        let found = |from: &str, to: &str| {
            assert!(STATUS.contains(from), "{from}");
            check_status(&STATUS.replacen(from, to, 1), true, &process()).unwrap_or_default()
        };
        assert!(found("CapBnd:\t0000000000000420", "CapBnd:\t0000000000000421").contains("CapBnd"));
        assert!(found("CapAmb:\t0000000000000000", "CapAmb:\t0000000000200000").contains("CapAmb"));
        assert!(found("CapEff:\t0000000000000020", "CapEff:\tnonsense").contains("CapEff"));
        assert!(found("NoNewPrivs:\t1", "NoNewPrivs:\t0").contains("noNewPrivileges"));
        assert!(found("Seccomp:\t2", "Seccomp:\t0").contains("seccomp"));
        assert!(found("Uid:\t7\t7", "Uid:\t7\t0").contains("user"));
        assert!(found("Gid:\t8\t8", "Gid:\t8\t0").contains("group 0"));
        assert!(found("Groups:\t9 8", "Groups:\t9 27").contains("group 27"));
    }

    #[test]
    fn who_may_change_its_ids_may_have_changed_them() {
        let mut process = process();
        process.capabilities.bounding |= SETUID | SETGID;
        let status = STATUS.replace("Uid:\t7", "Uid:\t33").replace("Groups:\t9", "Groups:\t33");
        assert_eq!(check_status(&status, true, &process), None);
    }

    #[test]
    fn scores() {
        let mut process = process();
        assert_eq!(check_score("-1000\n", &process), None);
        process.oom_score_adj = Some(100);
        assert_eq!(check_score("100\n", &process), None);
        assert_eq!(check_score("900\n", &process), None);
        assert!(check_score("99\n", &process).unwrap().contains("99"));
        assert!(check_score("nonsense", &process).is_some());
    }

    #[test]
    fn who_descends_from_this_process() {
        let own = std::process::id() as i32;
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let grandchild = || {
            let path = format!("/proc/{0}/task/{0}/children", child.id());
            std::fs::read_to_string(path).unwrap().trim().parse::<i32>().ok()
        };
        let grandchild = (0..1000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            grandchild()
        });
        let found = tree(child.id() as i32).unwrap();
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_raw(grandchild.unwrap()).unwrap(),
            rustix::process::Signal::KILL,
        );
        child.wait().unwrap();
        assert_eq!(found, [child.id() as i32, grandchild.unwrap()]);
        assert!(!found.contains(&own));
    }

    #[test]
    fn the_hosts_namespaces() {
        let own = std::process::id() as i32;
        let of = |namespaces: &str| {
            let json = format!(
                r#"{{"ociVersion":"1.0.0","root":{{"path":"r"}},"process":{{"args":["x"],"cwd":"/"}},
                    "linux":{{"namespaces":[{{"type":"mount"}}{namespaces}]}}}}"#
            );
            let spec: crate::spec::Spec<'_> = serde_json::from_str(&json).unwrap();
            let host = crate::host::HostFacts::probe(&spec).unwrap();
            Plan::new(&spec, &host, &crate::plan::Options { id: "x".into(), ..Default::default() }).unwrap()
        };
        let found = Restored { some: vec![own], all: vec![own], tree: vec![own], criu: own, cgroups_ignored: true };
        assert!(check_namespaces(own, &found, &of("")).unwrap().contains("host's mount namespace"));
        let mut shared = of(r#",{"type":"network","path":"/proc/self/ns/net"}"#);
        shared.namespaces.clone &= !Kind::Mount.flag();
        shared.namespaces.unshare &= !Kind::Mount.flag();
        assert_eq!(check_namespaces(own, &found, &shared), None);
        shared.namespaces.joins.clear();
        shared.namespaces.unshare |= Kind::Network.flag();
        assert!(check_namespaces(own, &found, &shared).unwrap().contains("host's network namespace"));
        shared.namespaces.unshare = Kind::Cgroup.flag();
        assert_eq!(check_namespaces(own, &found, &shared), None);
        let found = Restored { cgroups_ignored: false, ..found };
        assert!(check_namespaces(own, &found, &shared).unwrap().contains("host's cgroup namespace"));
    }

    #[test]
    fn hard_limits() {
        let table = "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max processes             10                   unlimited            processes \n\
                     Max open files            1024                 4096                 files     \n";
        let mut process = process();
        let limit = |name, hard| Rlimit { index: 0, name, resource: 0, soft: 1, hard };
        process.rlimits = vec![limit("RLIMIT_NOFILE", 4096), limit("RLIMIT_NPROC", u64::MAX)];
        assert_eq!(check_limits(table, &process), None);
        process.rlimits = vec![limit("RLIMIT_NOFILE", 4095)];
        assert!(check_limits(table, &process).unwrap().contains("4096"));
        process.rlimits = vec![limit("RLIMIT_NPROC", 10)];
        assert!(check_limits(table, &process).is_some());
    }
}
