//! After a failure: what the rules of `check` know of the step that failed. Asked only then, so a container that comes into
//! being pays nothing for it.
//!
//! A step's own words stay in front, as engines match them; what is found goes into the hint.

use std::path::Path;

use rustix::io::Errno;

use super::{Kind, Problem, check, place_of};
use crate::error::{Blame, Error, Step, errno_name, errno_number, show};
use crate::plan::Options;
use crate::spec::load::Text;

/// So many problems of a config are named in the sentence.
const MOST: usize = 20;
/// The rules look at a config in time in proportion to its length; whoever waits for a failure does not wait for more.
const MOST_BYTES: usize = 1 << 20;
const ALL: &str = "`hull check` lists all";

/// The error with what is known beyond it; `file` is where the text was read.
pub fn explain(error: Error, file: &Path, text: &Text, options: &Options) -> Error {
    if error.blame == Blame::Spec && error.step == Step::Spec {
        return of_config(error, file, text, options);
    }
    if text.0.len() > MOST_BYTES || error.step == Step::Status || error.step == Step::State {
        return error;
    }
    let sentence = error.to_string();
    // What stands beside the pointer in parentheses is said for people.
    let place = place_of(&sentence).0.split([',', ' ']).next().unwrap_or_default();
    let problems = check(text, options).problems;
    let concerned = || problems.iter().filter(|problem| concerns(&error, place, problem));
    // A warning counts where it is about the very place, and knows what would help.
    let at_place =
        |problem: &&Problem| !place.is_empty() && problem.hint.is_some() && problem.pointer.starts_with(place);
    match concerned().find(|problem| problem.is_error()).or_else(|| concerned().find(at_place)) {
        Some(problem) => with_cure(with_reason(error, problem)),
        None => with_cure(error),
    }
}

/// What helps, where nothing more is known than that something is not there or in the way.
fn with_cure(error: Error) -> Error {
    let is = |errnos: &[Errno]| errnos.iter().any(|errno| error.is(*errno));
    let missing = is(&[Errno::NOENT, Errno::NOTDIR]);
    let cure = match error.step {
        _ if error.hint.is_some() => return error,
        Step::Exec if missing => "name a program that is there in the container's root",
        Step::Namespace if missing => "make it first, or leave the path out: then hull makes one",
        Step::Mount if is(&[Errno::NOTDIR, Errno::ISDIR, Errno::EXIST]) => {
            "something else is in its place: take that out of the image, or mount elsewhere"
        }
        Step::Hook if missing => "a hook needs a program of the host, by its path there",
        Step::Hook if is(&[Errno::ACCESS, Errno::PERM]) => "a hook needs the x bit: chmod +x",
        Step::Sysctl if missing => "leave it out, or load the kernel module that brings it, such as by modprobe",
        Step::Console if is(&[Errno::NOENT, Errno::CONNREFUSED]) => "whoever listens there must be started first",
        _ => return error,
    };
    error.hint(cure)
}

/// The file by its real path, and what else is wrong in it.
fn of_config(error: Error, file: &Path, text: &Text, options: &Options) -> Error {
    let Some(rest) = error.subject.strip_prefix("config.json: ") else { return error };
    let place = rest.split(": ").next().unwrap_or_default().to_owned();
    let error = Error { subject: format!("{}: {rest}", show(file)), ..error };
    if text.0.len() > MOST_BYTES {
        return add(error, ALL.to_owned());
    }
    let problems = check(text, options).problems;
    let others: Vec<_> = problems
        .iter()
        .filter(|problem| problem.is_error() && problem.against == Kind::Spec && problem.pointer != place)
        .filter(|problem| !problem.pointer.is_empty())
        .map(|problem| format!("{}: {}", problem.pointer, problem.message))
        .collect();
    match others.len() {
        0 => error,
        few if few < MOST => add(error, format!("and {}", others.join("; "))),
        many => add(error, format!("and {}; and {} more: {ALL}", others[..MOST - 1].join("; "), many - (MOST - 1))),
    }
}

/// Whether a problem is of what failed: of its place, or where the error names none of its step.
fn concerns(error: &Error, place: &str, problem: &Problem) -> bool {
    let below = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let of_step: &[&str] = match error.step {
        Step::Namespace | Step::Spawn => &["/linux/namespaces"],
        Step::IdMap => &["/linux/uidMappings", "/linux/gidMappings"],
        Step::Cgroup => &["/linux/cgroupsPath", "/linux/resources"],
        Step::Mount => &["/root/path", "/mounts"],
        Step::Device => &["/linux/devices", "/dev"],
        Step::Hook => &["/hooks"],
        Step::Process => &["/process"],
        Step::Sysctl => &["/linux/sysctl"],
        Step::Seccomp => &["/linux/seccomp"],
        Step::Label => &["/process/apparmorProfile", "/process/selinuxLabel"],
        Step::Exec => &["/linux/seccomp", "/process/args"],
        Step::Sync => &["/linux/seccomp", "/linux/resources/memory"],
        Step::NetDevice => &["/linux/netDevices"],
        Step::Resctrl => &["/linux/intelRdt"],
        _ => &[],
    };
    let is_of_step = of_step.iter().any(|step| below(&problem.pointer, step));
    // A filter that kills is met after all else: it is no reason for a program that was looked at and not found.
    let looked = error.step == Step::Exec && error.errno.is_some() && !error.subject.starts_with("exec /");
    if looked && problem.pointer == "/linux/seccomp" {
        return false;
    }
    match place {
        "" => is_of_step,
        // A pointer of the file, and no path of the host in parentheses.
        place if of_step.iter().any(|step| below(place, step)) => {
            below(place, &problem.pointer) || below(&problem.pointer, place)
        }
        _ => is_of_step,
    }
}

/// What execve's errno leaves open is said instead of being listed; elsewhere the reason comes behind what is known.
fn with_reason(error: Error, problem: &Problem) -> Error {
    let said = error.to_string();
    let is_open = |hint: &str| hint.starts_with("not executable, or");
    let is_vague = |hint: &str| is_open(hint) || hint.ends_with("another architecture");
    let knows_more = error.step != Step::Exec || error.hint.as_deref().is_none_or(is_vague) || error.errno.is_none();
    if !knows_more || said.contains(&problem.message) {
        return error;
    }
    // The errno and the path were said: the rule that only says them again adds nothing.
    let again = error.step == Step::Exec
        && error.errno.and_then(errno_name).is_some_and(|name| problem.message.contains(&format!("({name})")));
    if again || problem.message.split(": ").all(|part| said.contains(part)) {
        return error;
    }
    let place = match problem.pointer.is_empty()
        || said.contains(&problem.pointer)
        || problem.message.contains(&problem.pointer)
    {
        true => String::new(),
        false => format!("{}: ", problem.pointer),
    };
    let cure = problem.hint.as_ref().map_or(String::new(), |hint| format!(": {hint}"));
    let reason = format!("{place}{}{cure}", bare_errno(&problem.message));
    match &error.hint {
        Some(hint) if error.step == Step::Exec && is_open(hint) => error.hint(reason),
        _ => add(error, reason),
    }
}

/// An errno by its name alone: by its words engines would take one failure for another.
fn bare_errno(message: &str) -> String {
    let named = message.rsplit_once(" (E").and_then(|(before, rest)| Some((before, rest.split_once(')')?)));
    match named {
        Some((before, (name, behind))) if errno_number(&format!("E{name}")).is_some() => {
            let what = before.rsplit_once(": ").map_or("", |(what, _)| what);
            format!("{what}: E{name}{behind}")
        }
        _ => message.to_owned(),
    }
}

fn add(error: Error, what: String) -> Error {
    let hint = error.hint.as_ref().map_or(what.clone(), |hint| format!("{hint}; {what}"));
    error.hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_stays_as_a_name() {
        for (said, bare) in [
            ("/x: no such file or directory (ENOENT)", "/x: ENOENT"),
            ("/bin/x: no such file or directory (ENOENT) in the root", "/bin/x: ENOENT in the root"),
            ("lies in a mount (EVIL) of words", "lies in a mount (EVIL) of words"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(bare_errno(said), bare);
        }
    }

    #[test]
    fn a_reason_concerns_its_own_place_or_step() {
        let noexec = Problem::error(Kind::Host, "/process/args/0", "/x lies in a mount with noexec, /mounts/7");
        let filter = Problem::error(Kind::Spec, "/linux/seccomp", "execve gets SCMP_ACT_ERRNO");
        let found = Error::call(Step::Exec, "", Errno::ACCESS, "exec: \"/x\"");
        assert!(concerns(&found, "", &noexec) && !concerns(&found, "", &filter));
        let sentence = with_reason(found, &noexec).to_string();
        assert!(
            sentence.ends_with("(EACCES) (/process/args/0: /x lies in a mount with noexec, /mounts/7)"),
            "{sentence}"
        );
        let executed = Error::call(Step::Exec, "", Errno::PERM, "exec /x");
        assert!(concerns(&executed, "", &filter));
        let source = |n| {
            Problem::error(Kind::Host, format!("/mounts/{n}/source"), "/nosuch: no such file or directory (ENOENT)")
        };
        let mount = Error::call(Step::Mount, "open_tree", Errno::NOENT, "bind /nosuch (/mounts/1)");
        assert!(concerns(&mount, "/mounts/1", &source(1)) && !concerns(&mount, "/mounts/1", &source(10)));
        // It was said already.
        assert_eq!(with_reason(mount.clone(), &source(1)), mount);
    }
}
