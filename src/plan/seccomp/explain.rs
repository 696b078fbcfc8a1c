//! `hull seccomp explain`: a profile in words, and what becomes of a single call.
//!
//! What becomes of a call is asked of the compiled program, by the [`interpreter`]. Which rule it was
//! says a second program, compiled alike but for the actions: there each rule answers with its own number.

use serde::Serialize;

use super::interpreter::{Partial, possible};
use super::rules::{Calls, Rule};
use super::*;

/// What a call gets that no rule of the profile is about, in the second program.
const BY_DEFAULT: u32 = u32::MAX;
/// And what one gets that is newer than all that the profile names.
const BY_AGE: u32 = u32::MAX - 1;
/// Rules count from here, since 0 is what calls of unlisted architectures get.
const FIRST_RULE: u32 = 1;

/// What hull itself calls in the container once a filter is loaded that came last of all: only the program's execve.
/// startContainer hooks come behind the filter, see [`NEEDED_BY_HOOKS`].
pub const NEEDED_LAST: [&str; 1] = ["execve"];

/// What hull cannot do without after a filter that is loaded before the capabilities fall (noNewPrivileges false, or an
/// agent): to fall, to say that it is ready, to wait for start, to set limits, to become the program. fcntl tells
/// whether what `start` gave can be taken away from under init. Of accept4 and prlimit64 [`OLDER_EARLY`] do as well.
pub const NEEDED_EARLY: [&str; 13] = [
    "accept4",
    "capget",
    "capset",
    "execve",
    "fcntl",
    "mmap",
    "ppoll",
    "prctl",
    "prlimit64",
    "recvmsg",
    "rt_sigaction",
    "rt_sigprocmask",
    "sendmsg",
];

/// What hull calls where the kernel or an outer filter refuses accept4 and prlimit64. They can do less than those.
pub const OLDER_EARLY: [&str; 3] = ["accept", "getrlimit", "setrlimit"];

/// What hull also calls then; an errno does no harm.
pub const TRIED_EARLY: [&str; 4] = ["brk", "close", "getcwd", "munmap"];

/// What hull cannot do without to run a startContainer hook, which the filter is over as well; std makes the process.
pub const NEEDED_BY_HOOKS: [&str; 15] = [
    "clone",
    "close",
    "dup2",
    "execve",
    "ioctl",
    "openat",
    "pipe2",
    "ppoll",
    "read",
    "rt_sigaction",
    "rt_sigprocmask",
    "setpgid",
    "umask",
    "wait4",
    "write",
];

/// What hull also calls then; an errno does no harm.
pub const TRIED_BY_HOOKS: [&str; 7] = ["brk", "fcntl", "getcwd", "mmap", "munmap", "pidfd_open", "set_robust_list"];

/// A profile, understood.
#[derive(Debug)]
pub struct Explained<'s> {
    spec: &'s spec::Seccomp<'s>,
    filter: Filter,
    origins: Vec<SockFilter>,
    calls: Vec<Calls>,
    default: u32,
    arch: Arch,
    /// What stands before the pointers: nothing for a profile alone.
    place: &'static str,
}

/// What is said of a profile.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The architecture of which the calls are.
    pub architecture: &'static str,
    /// What becomes of a call that no rule is about.
    pub default: Action,
    /// The architectures whose calls the filter takes.
    pub architectures: Vec<&'static str>,
    /// The newest call that the profile names, and what newer ones get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newer: Option<Newer>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: Vec<&'static str>,
    /// The length of the program.
    pub instructions: usize,
    /// Calls by what becomes of them, whatever their arguments are.
    pub always: Vec<Group>,
    /// Calls whose arguments decide.
    pub depends: Vec<Depends>,
    /// Rules that never decide.
    pub without_effect: Vec<String>,
    /// What the profile names and the filter has not.
    pub left_out: Vec<String>,
    /// What hull needs, by when the filter is loaded.
    pub needs: Vec<Needs>,
}

/// `SCMP_ACT_*` with its errno.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Action {
    /// `SCMP_ACT_*`.
    pub action: &'static str,
    /// The errno's name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// The same in words.
    #[serde(skip)]
    pub words: String,
}

/// Calls newer than the profile.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Newer {
    /// The newest call that the profile names.
    pub than: String,
    /// Its number.
    pub number: u32,
    /// What becomes of the others.
    #[serde(flatten)]
    pub action: Action,
}

/// Calls with the same end.
#[derive(Debug, Serialize)]
pub struct Group {
    /// What becomes of them.
    #[serde(flatten)]
    pub action: Action,
    /// Their names.
    pub names: Vec<&'static str>,
}

/// A call whose arguments decide.
#[derive(Debug, Serialize)]
pub struct Depends {
    /// Its name.
    pub name: String,
    /// What is tried, in this order.
    pub rules: Vec<Verdict>,
}

/// One end that a call may have.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The conditions, all of which must hold; empty: none.
    #[serde(rename = "if", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
    /// What becomes of the call.
    #[serde(flatten)]
    pub action: Action,
    /// The rule, by JSON pointer, or why no rule decides.
    pub by: String,
}

/// The answer to a question.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// The question.
    pub call: String,
    /// The name of the call.
    #[serde(skip)]
    pub name: String,
    /// The only verdict, or all between which the arguments decide that were not given.
    pub verdicts: Vec<Verdict>,
}

/// What hull needs when the filter is loaded.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Needs {
    /// When that is.
    pub loaded: &'static str,
    /// What the program's own filter must let through.
    pub calls: Vec<&'static str>,
    /// What of that it does not let through.
    pub refused: Vec<Depends>,
}

impl<'s> Explained<'s> {
    /// Compiles a profile, for another machine where `arch` does not run on this one. Pointers begin at `place`.
    pub fn new(
        spec: &'s spec::Seccomp<'s>,
        context: &Context,
        arch: Option<Arch>,
        place: &'static str,
    ) -> Result<Explained<'s>> {
        let own = Arch::native(context.audit_arch);
        let arch = arch.or(own).unwrap_or(Arch::X86_64);
        let kernel = match own {
            Some(native) if arch.runs_on(native) => native,
            _ if arch == Arch::X32 => Arch::X86_64,
            _ => arch,
        };
        let context = Context { audit_arch: kernel.audit_arch(), ..*context };
        let filter = compile(spec, &context)?;
        let default = default_action(spec)?;
        let mut calls = architectures(spec, &context, &mut Vec::new())?;
        collect(spec, default, &context, &mut calls, &mut Vec::new(), |index, _| FIRST_RULE + index as u32)?;
        let origins = assemble(&calls, BY_DEFAULT, beyond(default).map(|_| BY_AGE));
        Ok(Explained { spec, filter, origins, calls, default, arch, place })
    }

    /// What becomes of one call, such as `mount` or `clone(0x10000000)`.
    pub fn ask(&self, text: &str) -> Result<Answer> {
        let question = question::read(text, self.arch)?;
        let verdicts = self.verdicts(&question.name, question.number, &question.call);
        Ok(Answer { call: text.to_owned(), name: question.name, verdicts })
    }

    /// The whole profile. `no_new_privileges`: of the program, where it is known. `hooked`: there are startContainer hooks.
    pub fn report(&self, no_new_privileges: Option<bool>, hooked: bool) -> Report {
        let mut always: Vec<Group> = Vec::new();
        let mut depends = Vec::new();
        for name in arch::names() {
            let Some(number) = arch::lookup(name).and_then(|syscall| syscall.number(self.arch)) else { continue };
            let call = self.unknown_arguments(number);
            let mut verdicts = self.verdicts(name, number, &call);
            match (verdicts.pop(), verdicts.is_empty()) {
                (Some(only), true) => {
                    // What is said of the default and of newer calls need not be said of each.
                    if !only.by.starts_with('/') {
                        continue;
                    }
                    match always.iter_mut().find(|group| group.action == only.action) {
                        Some(group) => group.names.push(name),
                        None => always.push(Group { action: only.action, names: vec![name] }),
                    }
                }
                (Some(last), false) => {
                    verdicts.push(last);
                    depends.push(Depends { name: name.to_owned(), rules: verdicts });
                }
                (None, _) => {}
            }
        }
        let own = self.calls.iter().find(|calls| calls.arch == self.arch);
        let newer = own.filter(|calls| calls.newest() > 0).and_then(|calls| {
            let number = calls.newest();
            let than = arch::name_of(self.arch, number).unwrap_or_default().to_owned();
            Some(Newer { than, number, action: words::action(beyond(self.default)?) })
        });
        Report {
            architecture: self.arch.name(),
            default: words::action(self.default),
            architectures: self.calls.iter().map(|calls| calls.arch.name()).collect(),
            newer,
            flags: KNOWN_FLAGS.iter().filter(|(_, bit)| self.filter.flags & bit != 0).map(|(name, _)| *name).collect(),
            instructions: self.filter.program.len(),
            always,
            depends,
            without_effect: self.without_effect(),
            left_out: self.filter.notes.iter().map(|note| note.replacen("config.json: ", "", 1)).collect(),
            needs: self.needs(no_new_privileges, hooked),
        }
    }

    fn unknown_arguments(&self, number: u32) -> Partial {
        Partial { nr: self.arch.nr(number), arch: self.arch.audit_arch(), args: [None; 6] }
    }

    /// What may become of a call: by the program, with the rules by the second one.
    fn verdicts(&self, name: &str, number: u32, call: &Partial) -> Vec<Verdict> {
        let possible_origins = possible(&self.origins, call);
        let own = self.calls.iter().find(|calls| calls.arch == self.arch);
        let chain = own.map_or(&[][..], |calls| calls.chain(number));
        if let [only] = possible_origins[..] {
            let action = possible(&self.filter.program, call).first().copied().unwrap_or(KILL_PROCESS);
            let by = self.place_of(only, name);
            // Of several rules in one the program does not say which it was.
            let mut alike = chain.iter().filter(|rule| rule.action == only);
            let conditions = match (alike.next(), alike.next()) {
                (Some(rule), None) => words::conditions(name, rule),
                _ => Vec::new(),
            };
            return vec![Verdict { conditions, action: words::action(action), by }];
        }
        let reachable = |rule: &&Rule| possible_origins.contains(&rule.action);
        let mut verdicts: Vec<Verdict> = chain
            .iter()
            .filter(reachable)
            .map(|rule| Verdict {
                conditions: words::conditions(name, rule),
                action: words::action(self.action_of_rule(rule.action)),
                by: self.place_of(rule.action, name),
            })
            .collect();
        for origin in [BY_DEFAULT, BY_AGE].into_iter().filter(|origin| possible_origins.contains(origin)) {
            let action = words::action(self.action_of_rule(origin));
            verdicts.push(Verdict { conditions: Vec::new(), action, by: self.place_of(origin, name) });
        }
        verdicts
    }

    fn action_of_rule(&self, origin: u32) -> u32 {
        match origin {
            BY_DEFAULT => self.default,
            BY_AGE => beyond(self.default).unwrap_or(self.default),
            0 => KILL_THREAD,
            rule => {
                let index = (rule - FIRST_RULE) as usize;
                self.spec.syscalls.get(index).and_then(|r| super::action_of_rule(r, index).ok()).unwrap_or(self.default)
            }
        }
    }

    fn place_of(&self, origin: u32, name: &str) -> String {
        let place = self.place;
        match origin {
            BY_DEFAULT => match self.inert(name) {
                Some(index) => format!("{place}/syscalls/{index}, which says what {place}/defaultAction says"),
                None => format!("no rule: {place}/defaultAction"),
            },
            BY_AGE => "newer than every call that the profile names".into(),
            0 => format!("no rule: its architecture is not in {place}/architectures"),
            rule => {
                let index = (rule - FIRST_RULE) as usize;
                match self.spec.syscalls.get(index).and_then(|r| r.names.iter().position(|n| &**n == name)) {
                    Some(position) => format!("{place}/syscalls/{index}/names/{position}"),
                    None => format!("{place}/syscalls/{index}"),
                }
            }
        }
    }

    /// The rule without conditions that gives this call what it would have had anyway.
    fn inert(&self, name: &str) -> Option<usize> {
        let names = |rule: &spec::SyscallRule<'_>| rule.names.iter().chain(&rule.name).any(|known| &**known == name);
        self.spec.syscalls.iter().enumerate().find_map(|(index, rule)| {
            let same = super::action_of_rule(rule, index).ok() == Some(self.default);
            (same && rule.args.is_empty() && names(rule)).then_some(index)
        })
    }

    fn without_effect(&self) -> Vec<String> {
        let used: std::collections::BTreeSet<u32> = self.calls.iter().flat_map(Calls::actions).collect();
        let mut all = Vec::new();
        for (index, rule) in self.spec.syscalls.iter().enumerate() {
            if used.contains(&(FIRST_RULE + index as u32)) {
                continue;
            }
            let known = rule.names.iter().chain(&rule.name).any(|name| arch::lookup(name).is_some());
            let why = if super::action_of_rule(rule, index).ok() == Some(self.default) {
                "says what the default says"
            } else if known {
                "other rules, or the architectures, leave it nothing to decide"
            } else {
                "names no known call"
            };
            all.push(format!("{}/syscalls/{index}: {why}", self.place));
        }
        all
    }

    fn needs(&self, no_new_privileges: Option<bool>, hooked: bool) -> Vec<Needs> {
        let last = no_new_privileges != Some(false) && self.filter.notify.is_none() && !hooked;
        let early = no_new_privileges != Some(true) || self.filter.notify.is_some();
        let mut all = Vec::new();
        if last {
            all.push(self.need("last of all, in front of execve (noNewPrivileges true)", &NEEDED_LAST, &[]));
        }
        if early {
            let when = match self.filter.notify {
                Some(_) => "before the capabilities fall (SCMP_ACT_NOTIFY: its agent gets the listener then)",
                None => "before the capabilities fall (noNewPrivileges false: loading takes CAP_SYS_ADMIN)",
            };
            all.push(self.need(when, &NEEDED_EARLY, &TRIED_EARLY));
        }
        if hooked {
            all.push(self.need("in front of the startContainer hooks", &NEEDED_BY_HOOKS, &TRIED_BY_HOOKS));
        }
        all
    }

    fn need(&self, loaded: &'static str, needed: &[&'static str], tried: &[&'static str]) -> Needs {
        let verdicts = |name: &'static str| {
            let number = arch::lookup(name).and_then(|call| call.number(self.arch));
            number.map(|number| self.verdicts(name, number, &self.unknown_arguments(number))).unwrap_or_default()
        };
        let passes = |v: &Verdict| matches!(v.action.action, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG");
        let harmless = |v: &Verdict| passes(v) || v.action.action == "SCMP_ACT_ERRNO";
        let mut refused = Vec::new();
        for &name in needed.iter().chain(tried) {
            let rules = verdicts(name);
            if !rules.iter().all(|v| if needed.contains(&name) { passes(v) } else { harmless(v) }) {
                refused.push(Depends { name: name.to_owned(), rules });
            }
        }
        Needs { loaded, calls: needed.to_vec(), refused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context = Context { audit_arch: 0xc000_003e, fail_unknown: false };
    const PODMAN: &str = include_str!("../../../bundles/podman-like/seccomp.json");

    fn with<T>(json: &str, arch: Option<Arch>, look: impl FnOnce(&Explained<'_>) -> T) -> T {
        let spec: spec::Seccomp<'_> = serde_json::from_str(json).unwrap();
        look(&Explained::new(&spec, &CONTEXT, arch, "/linux/seccomp").unwrap())
    }

    fn answers(json: &str, arch: Option<Arch>, text: &str) -> String {
        with(json, arch, |explained| words::answer(&explained.ask(text).unwrap()))
    }

    #[test]
    fn a_call_gets_its_rule_or_the_reason_why_none() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[
            {"names":["read","mount"],"action":"SCMP_ACT_ALLOW"},
            {"names":["mount"],"action":"SCMP_ACT_KILL_PROCESS"},
            {"names":["write","accept"],"action":"SCMP_ACT_ERRNO","errnoRet":1},
            {"names":["clone"],"action":"SCMP_ACT_ALLOW",
             "args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        for (text, want) in [
            ("mount", "mount is allowed: /linux/seccomp/syscalls/0/names/1\n"),
            ("165", "165 is allowed: /linux/seccomp/syscalls/0/names/1\n"),
            (
                "write",
                "write fails with EPERM: /linux/seccomp/syscalls/2, which says what /linux/seccomp/defaultAction says\n",
            ),
            ("open", "open fails with EPERM: no rule: /linux/seccomp/defaultAction\n"),
            ("clone3", "clone3 fails with ENOSYS: newer than every call that the profile names\n"),
            (
                "clone(17)",
                "clone(17) is allowed if argument 0 (flags) & 0x7e020000 == 0: /linux/seccomp/syscalls/3/names/0\n",
            ),
            ("clone(CLONE_NEWUSER)", "clone(CLONE_NEWUSER) fails with EPERM: no rule: /linux/seccomp/defaultAction\n"),
            (
                "clone",
                "clone: its arguments decide\n  \
                 is allowed if argument 0 (flags) & 0x7e020000 == 0: /linux/seccomp/syscalls/3/names/0\n  \
                 fails with EPERM: no rule: /linux/seccomp/defaultAction\n",
            ),
        ] {
            assert_eq!(answers(json, None, text), want);
        }
        let x32 = answers(json, Some(Arch::X32), "read");
        assert_eq!(x32, "read kills the thread: no rule: its architecture is not in /linux/seccomp/architectures\n");
        let arm = answers(json, Some(Arch::Aarch64), "read");
        assert_eq!(arm, "read is allowed: /linux/seccomp/syscalls/0/names/0\n");
    }

    /// Whatever the profile: the action of the rule that is named is what the program says.
    #[test]
    fn the_two_programs_agree() {
        for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
            with(PODMAN, Some(arch), |explained| {
                let mut seen = 0;
                for number in 0..500 {
                    for value in [0, 8, 9, 16, u64::from(u32::MAX)] {
                        let args = [Some(value), Some(value), Some(value ^ 9), None, None, None];
                        let call = Partial { args, ..explained.unknown_arguments(number) };
                        let mut origins: Vec<u32> = possible(&explained.origins, &call);
                        let mut verdicts = possible(&explained.filter.program, &call);
                        origins.iter_mut().for_each(|origin| *origin = explained.action_of_rule(*origin));
                        origins.sort_unstable();
                        origins.dedup();
                        verdicts.sort_unstable();
                        assert_eq!(origins, verdicts, "{} {number} {value}", arch.short());
                        seen += verdicts.len();
                    }
                }
                assert!(seen >= 2500);
            });
        }
    }

    #[test]
    fn a_masked_value_is_said_as_it_is_compared() {
        let rule = |mask: u64, value: u64| {
            format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["kill"],"action":"SCMP_ACT_ERRNO",
                "args":[{{"index":1,"value":{mask},"valueTwo":{value},"op":"SCMP_CMP_MASKED_EQ"}}]}}]}}"#
            )
        };
        for (json, text, want) in [
            (
                rule(15, 26),
                "kill(0, 10)",
                "kill(0, 10) fails with EPERM if argument 1 & 0xf == 0xa: /linux/seccomp/syscalls/0/names/0\n",
            ),
            (rule(15, 26), "kill(0, 7)", "kill(0, 7) is allowed: no rule: /linux/seccomp/defaultAction\n"),
            (rule(0, 1), "kill", "kill fails with EPERM: /linux/seccomp/syscalls/0/names/0\n"),
        ] {
            assert_eq!(answers(&json, None, text), want);
        }
        assert!(answers(&rule(15, 26), None, "kill").contains("& 0xf == 0xa"));
    }

    #[test]
    fn a_report_says_what_is_in_the_profile() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[
            {"names":["read","opennat"],"action":"SCMP_ACT_ALLOW"},{"names":["read"],"action":"SCMP_ACT_TRAP"},
            {"names":["mount"],"action":"SCMP_ACT_ERRNO"},{"names":["nosuch"],"action":"SCMP_ACT_LOG"},
            {"names":["socket"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":1,"op":"SCMP_CMP_NE"}]}]}"#;
        with(json, None, |explained| {
            let report = explained.report(Some(true), false);
            let groups: Vec<_> = report.always.iter().map(|group| (group.action.action, group.names.len())).collect();
            assert_eq!(groups, [("SCMP_ACT_ERRNO", 1), ("SCMP_ACT_ALLOW", 1)]);
            assert_eq!(report.always[1].names, ["read"]);
            let newer = report.newer.as_ref().unwrap();
            assert_eq!(
                (newer.than.as_str(), newer.number, newer.action.errno.as_deref()),
                ("mount", 165, Some("ENOSYS"))
            );
            assert_eq!(report.depends.len(), 1);
            assert_eq!(report.depends[0].rules[0].conditions, ["argument 0 (domain) != 1 (AF_UNIX)"]);
            let reasons = [
                "/linux/seccomp/syscalls/1: other rules, or the architectures, leave it nothing to decide",
                "/linux/seccomp/syscalls/2: says what the default says",
                "/linux/seccomp/syscalls/3: names no known call",
            ];
            assert_eq!(report.without_effect, reasons);
            assert_eq!(report.left_out.len(), 2);
            assert_eq!(
                (report.flags.as_slice(), report.architectures.as_slice()),
                (&["SECCOMP_FILTER_FLAG_LOG"][..], &["SCMP_ARCH_X86_64"][..])
            );
            assert_eq!(report.needs.len(), 1);
            assert_eq!(report.needs[0].refused[0].name, "execve");
            let hooked = explained.report(Some(true), true);
            assert_eq!((hooked.needs.len(), hooked.needs[0].refused.len()), (1, NEEDED_BY_HOOKS.len() - 1));
            let early = explained.report(Some(false), false);
            assert_eq!(early.needs[0].refused.len(), NEEDED_EARLY.len());
            assert!(
                words::report(&report).contains("so that the container cannot start:\n  execve\n    fails with EPERM")
            );
        });
        let hooked = with(PODMAN, None, |explained| explained.report(Some(false), true));
        assert!(hooked.needs.len() == 2 && hooked.needs.iter().all(|needs| needs.refused.is_empty()));
        let fine = with(PODMAN, None, |explained| explained.report(None, false));
        assert!(fine.needs.len() == 2 && fine.needs.iter().all(|needs| needs.refused.is_empty()));
    }
}
