//! Values that the plan rightly takes, and with which no program gets far: a limit of memory that none fits into, a filter
//! that forbids the execve, CPUs that this host has not, sizes that tmpfs cannot read.

use super::{Kind, Problem};
use crate::plan::mounts::{Mount, MountKind};
use crate::plan::seccomp::explain::Explained;
use crate::plan::seccomp::{Context, Filter};
use crate::plan::{Plan, ranges};
use crate::spec::Spec;
use crate::sys::arch::AUDIT_ARCH;

/// The kernel charges for init's own stack, page tables and pages of the program before its first instruction.
const LEAST_MEMORY: u64 = 256 << 10;

/// All of them.
pub fn problems(spec: &Spec<'_>, plan: &Plan, out: &mut Vec<Problem>) {
    for write in &plan.cgroup.writes {
        let limit = matches!(write.file.as_str(), "memory.max" | "memory.limit_in_bytes");
        if limit && write.value.parse::<u64>().is_ok_and(|bytes| bytes < LEAST_MEMORY) {
            let what = format!("no program fits into {} bytes of memory", write.value);
            out.push(
                Problem::error(Kind::Host, &write.pointer, what).hint("container engines take 6 MiB at the least"),
            );
        }
        if write.file == "cpuset.cpus" {
            cpus(&write.value, &write.pointer, out);
        }
    }
    for mount in &plan.mounts {
        if let MountKind::Fs { fstype, data, .. } = &mount.kind {
            match fstype.as_str() {
                "tmpfs" => tmpfs(mount, data, out),
                "overlay" => overlay(mount, data, out),
                _ => {}
            }
        }
    }
    if let Some(path) = spec.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref())
        && plan.cgroup.unit.is_none()
        && !path.contains('/')
        && path.matches(':').count() == 2
    {
        let what = format!("{path:?} has the form of systemd's, and is taken for the name of a cgroup");
        out.push(Problem::warning(Kind::Spec, "/linux/cgroupsPath", what).hint("--systemd-cgroup has systemd make it"));
    }
    seccomp(spec, plan.seccomp.as_ref(), out);
}

fn cpus(list: &str, pointer: &str, out: &mut Vec<Problem>) {
    let read = |file: &str| {
        let text = std::fs::read_to_string(format!("/sys/devices/system/cpu/{file}")).ok()?;
        Some((text.trim().to_owned(), ranges::mask(text.trim()).ok()?))
    };
    let (Ok(asked), Some((text, here))) = (ranges::mask(list), read("possible")) else { return };
    let beyond = |(at, word): (usize, &u64)| word & !here.get(at).copied().unwrap_or(0) != 0;
    if asked.iter().enumerate().any(beyond) {
        out.push(
            Problem::error(Kind::Host, pointer, format!("the CPUs {list} are not all here: this host has {text}"))
                .hint("give it some of those"),
        );
    }
}

/// The options of tmpfs that are numbers (tmpfs(5)).
fn tmpfs(mount: &Mount, data: &[(String, Option<String>)], out: &mut Vec<Problem>) {
    let number = |value: &str, units: &str| {
        let digits = value.trim_end_matches(|c: char| units.contains(c));
        value.len() - digits.len() < 2 && digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.is_empty()
    };
    for (key, value) in data {
        let Some(value) = value else { continue };
        let fits = match key.as_str() {
            "size" => number(value, "kKmMgGtTpPeE%"),
            "nr_inodes" | "nr_blocks" => number(value, "kKmMgGtTpPeE"),
            "mode" => value.bytes().all(|byte| (b'0'..b'8').contains(&byte)),
            _ => continue,
        };
        if !fits {
            let what = format!("tmpfs cannot read {key}={value}");
            let cure = if key == "mode" { "octal digits, such as 1777" } else { "a number, such as 64m" };
            out.push(Problem::error(Kind::Spec, format!("/mounts/{}/options", mount.index), what).hint(cure));
        }
    }
}

/// The directories of an overlay; one with an escaped colon or comma is left to the kernel.
fn overlay(mount: &Mount, data: &[(String, Option<String>)], out: &mut Vec<Problem>) {
    for (key, value) in data {
        let Some(value) = value.as_deref().filter(|value| !value.contains('\\')) else { continue };
        let directories: Vec<&str> = match key.as_str() {
            "lowerdir" => value.split(':').filter(|part| !part.is_empty()).collect(),
            "lowerdir+" | "datadir+" | "upperdir" | "workdir" => vec![value],
            _ => continue,
        };
        for directory in directories.into_iter().filter(|directory| directory.starts_with('/')) {
            let pointer = || format!("/mounts/{}/options", mount.index);
            match std::fs::metadata(directory) {
                Ok(stat) if stat.is_dir() => {}
                Ok(_) => {
                    let what = format!("{key} of the overlay: {directory} is no directory");
                    out.push(Problem::error(Kind::Host, pointer(), what));
                }
                Err(error) => {
                    let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
                    let what = format_args!("{key} of the overlay: {directory}");
                    out.push(Problem::failed(pointer(), what, errno).hint("make the directory, or name another"));
                }
            }
        }
    }
}

/// What every program needs: to be executed, and to end.
fn seccomp(spec: &Spec<'_>, filter: Option<&Filter>, out: &mut Vec<Problem>) {
    let Some(profile) = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()).filter(|_| filter.is_some())
    else {
        return;
    };
    let context = Context { audit_arch: AUDIT_ARCH, fail_unknown: false };
    let Ok(explained) = Explained::new(profile, &context, None, "/linux/seccomp") else { return };
    let refusal = |call: &str| {
        let answer = explained.ask(call).ok()?;
        let refuses = |action: &str| {
            ["SCMP_ACT_KILL", "SCMP_ACT_ERRNO", "SCMP_ACT_TRAP"].iter().any(|word| action.starts_with(word))
        };
        let verdict = answer.verdicts.into_iter().next().filter(|verdict| verdict.conditions.is_empty())?;
        refuses(verdict.action.action).then(|| format!("{call} gets {} ({})", verdict.action.action, verdict.by))
    };
    if let Some(what) = refusal("execve") {
        let what = format!("{what}: no program can be executed");
        out.push(Problem::error(Kind::Spec, "/linux/seccomp", what).hint("allow execve in a rule of its own"));
    }
    if let (Some(what), Some(_)) = (refusal("exit_group"), refusal("exit")) {
        out.push(Problem::warning(Kind::Spec, "/linux/seccomp", format!("{what}: no program can end by itself")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostFacts;
    use crate::plan::Options;
    use crate::spec::load::{Text, parse};

    fn found(json: &str) -> Vec<String> {
        let text = Text(json.into());
        let (spec, _) = parse(&text).unwrap();
        let host = HostFacts::probe(&spec).unwrap();
        let plan = Plan::new(&spec, &host, &Options { id: "x".into(), ..Options::default() }).unwrap();
        let mut out = Vec::new();
        problems(&spec, &plan, &mut out);
        out.into_iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect()
    }

    #[test]
    fn each_value_is_named_with_its_place() {
        let config = |mount: &str, linux: &str| {
            let user = r#"{"type":"user"},{"type":"mount"}"#;
            format!(
                r#"{{"ociVersion":"1.0.0","root":{{"path":"r"}},"process":{{"cwd":"/","args":["a"]}},"mounts":[{mount}],
                "linux":{{"namespaces":[{user}],"uidMappings":[{{"containerID":0,"hostID":0,"size":1}}],
                "gidMappings":[{{"containerID":0,"hostID":0,"size":1}}]{linux}}}}}"#
            )
        };
        let tmpfs = r#"{"destination":"/t","type":"tmpfs","source":"t","options":["size=banana","mode=1777"]}"#;
        assert_eq!(found(&config(tmpfs, "")), ["/mounts/0/options: tmpfs cannot read size=banana"]);
        let good = r#"{"destination":"/t","type":"tmpfs","source":"t","options":["size=50%","nr_inodes=1k"]}"#;
        assert!(found(&config(good, "")).is_empty());
        let overlay = r#"{"destination":"/o","type":"overlay","options":["lowerdir=/:/nosuch/lower"]}"#;
        let lower = "/mounts/0/options: lowerdir of the overlay: /nosuch/lower: no such file or directory (ENOENT)";
        assert_eq!(found(&config(overlay, "")), [lower]);
        let kills = r#","seccomp":{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["exit"],"action":"SCMP_ACT_ALLOW"}]}"#;
        let execve = "/linux/seccomp: execve gets SCMP_ACT_ERRNO (no rule: /linux/seccomp/defaultAction): no program can be executed";
        assert_eq!(found(&config("", kills)), [execve]);
        assert_eq!(found(&config("", r#","cgroupsPath":"a:b:c""#)).len(), 1);
    }
}
