//! What an image made of the processes, held against the config before any of them runs: an image is data that somebody
//! else may have written, and must not give a process more than the config would.

use std::os::linux::fs::MetadataExt;

use crate::error::{ErrAt, Error, Result, Step};
use crate::plan::Plan;
use crate::plan::process::Process;

/// CAP_SETGID and CAP_SETUID (linux/capability.h).
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;

/// Looks at all processes of the container but CRIU's own.
pub fn check(pids: &[i32], criu: i32, plan: &Plan) -> Result<()> {
    let own = namespace(criu, "pid");
    for &pid in pids.iter().filter(|pid| **pid != criu) {
        // CRIU's helpers are in CRIU's pid namespace; where the container has none of its own, they are its children.
        let is_helper = own.is_some() && namespace(pid, "pid") == own;
        if is_helper && (plan.namespaces.own(crate::plan::namespaces::Kind::Pid) || parent(pid) == Some(criu)) {
            continue;
        }
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path).err_at(Step::Criu, "open", || format!("look at a restored process, {path}"))
        };
        let problem = check_status(&read("status")?, plan.seccomp.is_some(), &plan.process)
            .or(check_limits(&read("limits")?, &plan.process));
        if let Some(problem) = problem {
            return Err(Error::host(Step::Criu, format!("restore: process {pid} of the image {problem}"))
                .hint("the image was not made from a container with this config.json"));
        }
    }
    Ok(())
}

/// Kills all processes of the container; those of CRIU, which holds them, are left.
pub fn kill(pids: &[i32], criu: i32) {
    for pid in pids.iter().filter(|pid| **pid != criu) {
        if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn namespace(pid: i32, name: &str) -> Option<u64> {
    std::fs::metadata(format!("/proc/{pid}/ns/{name}")).ok().map(|meta| meta.st_ino())
}

fn parent(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
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
    fn hard_limits() {
        let table = "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max processes             10                   unlimited            processes \n\
                     Max open files            1024                 4096                 files     \n";
        let mut process = process();
        let limit = |name, hard| Rlimit { name, resource: 0, soft: 1, hard };
        process.rlimits = vec![limit("RLIMIT_NOFILE", 4096), limit("RLIMIT_NPROC", u64::MAX)];
        assert_eq!(check_limits(table, &process), None);
        process.rlimits = vec![limit("RLIMIT_NOFILE", 4095)];
        assert!(check_limits(table, &process).unwrap().contains("4096"));
        process.rlimits = vec![limit("RLIMIT_NPROC", 10)];
        assert!(check_limits(table, &process).is_some());
    }
}
