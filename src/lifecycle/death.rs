//! How a foreground program died that did not end by itself: the signal, and the rule or the limit behind it with its place in
//! config.json. Asked when it is dead, so a program that ends by itself pays nothing for it.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use crate::cgroup::{self, Handle, Saved};
use crate::cli::signal;
use crate::plan::seccomp::Context;
use crate::plan::seccomp::explain::Explained;
use crate::spec::Spec;
use crate::spec::load::{Text, parse};
use crate::sys::arch::AUDIT_ARCH;

/// The kernel writes down a call that a filter forbids a moment after the program is dead.
const LATE: Duration = Duration::from_millis(20);
/// So much of the kernel's log is looked through.
const MOST_RECORDS: usize = 65_536;

/// How it died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// In words.
    pub sentence: String,
    /// The signal, where it was one that hull has not passed on.
    pub signal: Option<i32>,
    /// How many processes the memory limit has killed.
    pub oom_kills: Option<u64>,
}

/// What is to be said of an end with this status, by a signal that nobody has sent through hull; None: nothing.
pub fn of(status: i32, signal: Option<i32>, pid: i32, saved: &Saved, config: &Text) -> Option<Death> {
    // A shell leaves with this status when its child was killed, and any program may.
    let left = signal.is_none();
    let signal = signal.or((status == 128 + libc::SIGKILL).then_some(libc::SIGKILL))?;
    let spec = parse(config).ok().map(|(spec, _)| spec);
    let handle = Handle::open(saved).ok();
    let no_memory = signal == libc::SIGKILL && handle.as_ref().is_some_and(Handle::killed_by_limit);
    let sentence = match signal {
        libc::SIGKILL if no_memory => format!("{}: {}", cgroup::NO_MEMORY, limit(spec.as_ref())),
        libc::SIGSYS => format!("killed by SIGSYS: {}", rule(pid, spec.as_ref())),
        libc::SIGXCPU => format!("killed by SIGXCPU{}", rlimit("RLIMIT_CPU", spec.as_ref())),
        libc::SIGXFSZ => format!("killed by SIGXFSZ{}", rlimit("RLIMIT_FSIZE", spec.as_ref())),
        _ if left => return None,
        signal => format!("killed by {}", signal::name(signal)),
    };
    Some(Death { sentence, signal: Some(signal), oom_kills: handle.and_then(|handle| handle.oom_kills()) })
}

/// What was used then is the limit itself.
fn limit(spec: Option<&Spec<'_>>) -> String {
    const POINTER: &str = "/linux/resources/memory/limit";
    let memory = spec.and_then(|spec| spec.linux.as_ref()?.resources.as_ref()?.memory.as_ref());
    match memory.and_then(|memory| memory.limit) {
        Some(limit) => format!("{POINTER} is {limit} bytes"),
        None => format!("there is no {POINTER}, but a cgroup above has a limit"),
    }
}

fn rlimit(name: &str, spec: Option<&Spec<'_>>) -> String {
    let mut limits =
        spec.and_then(|spec| spec.process.as_ref()).map(|process| process.rlimits.iter()).into_iter().flatten();
    match limits.position(|limit| limit.kind.as_deref() == Some(name)) {
        Some(index) => format!(": {name} (/process/rlimits/{index}) is met"),
        None => String::new(),
    }
}

/// The rule of the profile that kills, where the kernel's log has the call.
fn rule(pid: i32, spec: Option<&Spec<'_>>) -> String {
    let Some(profile) = spec.and_then(|spec| spec.linux.as_ref()?.seccomp.as_ref()) else {
        return "no profile of config.json does that: a filter outside of it, or the program itself".into();
    };
    let answer = || {
        let call = forbidden(pid).or_else(|| {
            crate::sys::process::sleep(LATE);
            forbidden(pid)
        })?;
        let context = Context { audit_arch: AUDIT_ARCH, fail_unknown: false };
        let explained = Explained::new(profile, &context, None, "/linux/seccomp").ok()?;
        let answer = explained.ask(&call.to_string()).ok()?;
        let verdict = answer.verdicts.iter().find(|verdict| {
            verdict.action.action.starts_with("SCMP_ACT_KILL") || verdict.action.action == "SCMP_ACT_TRAP"
        })?;
        Some(format!("the call {} gets {} ({})", answer.name, verdict.action.action, verdict.by))
    };
    answer().unwrap_or_else(|| {
        "the profile in /linux/seccomp forbids a call of it; the kernel's log may name it (dmesg, type=1326)".into()
    })
}

/// The number of the call for which a filter has killed this process, by the last audit record of it (type 1326, SECCOMP).
fn forbidden(pid: i32) -> Option<u32> {
    let mut log = std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    let mut record = [0; 8192];
    let mut call = None;
    for _ in 0..MOST_RECORDS {
        let length = match log.read(&mut record) {
            Ok(length) => length,
            // It was overwritten while it was read: the next one is there.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => continue,
            Err(_) => break,
        };
        call = call_of(&String::from_utf8_lossy(&record[..length]), pid).or(call);
    }
    call
}

/// What a program names itself is encoded by the kernel where it has blanks or quotes, so that it forges no field.
fn call_of(record: &str, pid: i32) -> Option<u32> {
    let (_, fields) = record.lines().next()?.split_once("type=1326 ")?;
    let value = |name: &str| fields.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    (value("pid")?.parse() == Ok(pid) && value("sig") == Some("31")).then(|| value("syscall")?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_the_call_of_its_process_alone() {
        let record = "5,1,2,-;audit: type=1326 audit(1.2:3): auid=1 uid=0 gid=0 ses=1 subj=unconfined pid=77 comm=\"sh\" \
                      exe=\"/bin/busybox\" sig=31 arch=c000003e syscall=83 compat=0 ip=0x1 code=0x80000000\n";
        assert_eq!((call_of(record, 77), call_of(record, 7)), (Some(83), None));
        assert_eq!(call_of(&record.replace("sig=31", "sig=0"), 77), None);
        assert_eq!(call_of("5,1,2,-;words pid=77 sig=31 syscall=83", 77), None);
    }
}
