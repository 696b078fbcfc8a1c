//! `hull seccomp record`: the filter that shows each call to hull, what is kept of the calls, and the profile that
//! comes of it.
//!
//! The filter answers SECCOMP_RET_USER_NOTIF to all calls, and hull lets them go on. Where the config has a profile of
//! its own, that stays in force: the filter is its program, in which what would have ended in an errno or in the call
//! is shown to hull, who asks the program itself what the answer is. What kills, traps or goes to a tracer does so
//! without hull.
//!
//! hull needs two calls of its own after the load, to bring itself the listener. They are told from the program's by
//! a [`Mark`] in arguments that these calls do not have, which the kernel does not look at.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::bpf::{DATA_ARCH, DATA_NR, JA, JEQ, LD_ABS, RET, argument};
use super::explain::{NEEDED_BY_HOOKS, NEEDED_EARLY, NEEDED_LAST, OLDER_EARLY, TRIED_BY_HOOKS, TRIED_EARLY};
use super::facts::Fact;
use super::interpreter::{Call, Partial, possible, run};
use super::*;

/// What tells hull's own calls under the filter, in the lower halves of arguments 3 to 5: a random number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub [u32; 3]);

/// hull's own calls under the filter: neither has more than three arguments.
const MARKED: [&str; 2] = ["sendmsg", "close"];

/// What a program may have to call although it did not while it was recorded, or did without hull seeing it: to end, to
/// come back from a signal, to go on after a stop; and what the vDSO answers where the machine's clock allows it.
pub const BESIDE: [&str; 11] = [
    "clock_getres",
    "clock_getres_time64",
    "clock_gettime",
    "clock_gettime64",
    "exit",
    "exit_group",
    "getcpu",
    "gettimeofday",
    "restart_syscall",
    "rt_sigreturn",
    "time",
];

/// Those that are not even shown to hull: all of them would be in the profile anyway, and init can always end.
const UNSEEN: [&str; 2] = ["exit_group", "rt_sigreturn"];

/// What hull itself says to calls whose argument decides: PR_SET_PDEATHSIG, PR_SET_KEEPCAPS and PR_CAP_AMBIENT when a filter is
/// loaded early, FIONBIO and no namespace when it runs a hook.
const HULLS_OWN: [(&str, &[u64]); 3] = [("prctl", &[1, 8, 47]), ("ioctl", &[0x5421]), ("clone", &[0])];

/// More values of an argument than this are not conditions any more, but a list of accidents.
const MOST_VALUES: usize = 64;

/// What belongs to the filter of a container that is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorder {
    /// Tells hull's own calls.
    pub mark: Mark,
    /// The program of the config's own profile.
    pub own: Option<Vec<SockFilter>>,
}

/// The filter that is loaded for a recording, in place of the config's own.
pub fn filter(own: Option<Filter>, mark: Mark, context: &Context) -> Result<Filter> {
    let native = Arch::native(context.audit_arch).ok_or_else(|| {
        Error::host(Step::Seccomp, "hull has no table of system calls for this machine's architecture")
    })?;
    if own.as_ref().is_some_and(|own| own.notify.is_some()) {
        return Err(Error::spec(
            "/linux/seccomp",
            "SCMP_ACT_NOTIFY: a process has one listener, and in a recording that is hull's",
        )
        .hint("record without these rules, and add them to the profile"));
    }
    let (own, flags, notes) = match own {
        Some(own) => (Some(own.program), own.flags, own.notes),
        None => (None, FLAG_SPEC_ALLOW, Vec::new()),
    };
    let program = program(own.as_deref(), mark, native);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::spec("/linux/seccomp", "there is no room in the filter for what a recording needs"));
    }
    let flags = flags & !FLAG_TSYNC | FLAG_NEW_LISTENER;
    Ok(Filter { program, flags, notify: None, notes, recorder: Some(Box::new(Recorder { mark, own })) })
}

fn program(own: Option<&[SockFilter]>, mark: Mark, native: Arch) -> Vec<SockFilter> {
    let number = |name: &&str| arch::lookup(name).and_then(|syscall| syscall.number(native));
    let passes = |nr: &u32| own.is_none_or(|own| possible(own, &unknown_arguments(native, *nr)) == [ALLOW]);
    let unseen: Vec<u32> = UNSEEN.iter().filter_map(number).filter(passes).collect();
    let marked: Vec<u32> = MARKED.iter().filter_map(number).collect();
    let is_big_endian = arch::is_big_endian(native.audit_arch());
    let op = |code, jt: usize, jf: usize, k| SockFilter { code, jt: jt as u8, jf: jf as u8, k };
    // Architecture, number, the list of unseen ones, that of marked ones, the mark, and the end that allows.
    let allow = 3 + unseen.len() + marked.len() + 1 + 2 * mark.0.len();
    let body = allow + 1;
    let mut all =
        vec![op(LD_ABS, 0, 0, DATA_ARCH), op(JEQ, 0, body - 2, native.audit_arch()), op(LD_ABS, 0, 0, DATA_NR)];
    for nr in unseen {
        all.push(op(JEQ, allow - all.len() - 1, 0, nr));
    }
    let at_mark = all.len() + marked.len() + 1;
    for nr in marked {
        all.push(op(JEQ, at_mark - all.len() - 1, 0, nr));
    }
    all.push(op(JA, 0, 0, (body - at_mark) as u32));
    for (index, part) in mark.0.into_iter().enumerate() {
        all.push(op(LD_ABS, 0, 0, argument(3 + index as u8, is_big_endian).0));
        all.push(op(JEQ, 0, body - all.len() - 1, part));
    }
    all.push(op(RET, 0, 0, ALLOW));
    match own {
        None => all.push(op(RET, 0, 0, NOTIFY)),
        Some(own) => all.extend(own.iter().map(|&instruction| match instruction {
            SockFilter { code: RET, k, .. } if matches!(k & ACTION_MASK, ERRNO | LOG | ALLOW) => {
                SockFilter { k: NOTIFY, ..instruction }
            }
            other => other,
        })),
    }
    all
}

fn unknown_arguments(arch: Arch, number: u32) -> Partial {
    Partial { nr: arch.nr(number), arch: arch.audit_arch(), args: [None; 6] }
}

/// What hull answers to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The kernel does what was asked.
    GoOn,
    /// The config's own profile refuses it.
    Errno(i32),
}

/// What was seen of one call.
#[derive(Debug, Default)]
struct Seen {
    fact: Option<Fact>,
    allowed: u64,
    values: BTreeSet<u64>,
    refused: BTreeMap<u32, u64>,
}

/// The calls of a program and of all that it started.
#[derive(Debug, Default)]
pub struct Recording {
    calls: BTreeMap<(u32, u32), Seen>,
}

impl Recording {
    /// Takes a call down and says what is to become of it.
    pub fn take(&mut self, call: &Call, own: Option<&[SockFilter]>) -> Answer {
        let seen = self.calls.entry((call.arch, call.nr)).or_insert_with(|| {
            let name = Arch::of_call(call.arch, call.nr).and_then(|(arch, number)| arch::name_of(arch, number));
            Seen { fact: name.and_then(facts::of), ..Seen::default() }
        });
        let verdict = own.map_or(ALLOW, |own| run(own, call));
        if verdict & ACTION_MASK == ERRNO {
            let errno = verdict & !ACTION_MASK;
            *seen.refused.entry(errno).or_default() += 1;
            return Answer::Errno(errno as i32);
        }
        seen.allowed += 1;
        if let Some(fact) = seen.fact
            && seen.values.len() <= MOST_VALUES
        {
            seen.values.insert(call.args[usize::from(fact.argument)] & fact.mask);
        }
        Answer::GoOn
    }

    /// How many calls there were.
    pub fn total(&self) -> u64 {
        self.calls.values().map(|seen| seen.allowed + seen.refused.values().sum::<u64>()).sum()
    }
}

/// For whom a profile is made.
#[derive(Debug, Clone, Copy)]
pub struct For<'r> {
    /// AUDIT_ARCH_* of this machine.
    pub audit_arch: u32,
    /// Of the program: without it hull itself works under the profile.
    pub no_new_privileges: bool,
    /// There are startContainer hooks, which hull runs under it.
    pub hooked: bool,
    /// The config's own profile.
    pub own: Option<&'r [SockFilter]>,
    /// Without conditions on arguments.
    pub names_only: bool,
}

/// A profile and what is to be said of it.
#[derive(Debug)]
pub struct Made {
    /// As config.json has it at /linux/seccomp.
    pub json: String,
    /// How many different calls were recorded.
    pub calls: usize,
    /// The architectures.
    pub architectures: Vec<&'static str>,
    /// What the program did not call.
    pub added: Vec<&'static str>,
    /// Sentences on what somebody should know.
    pub notes: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: &'static str,
    default_errno_ret: u32,
    architectures: Vec<&'static str>,
    syscalls: Vec<ProfileRule>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProfileRule {
    names: Vec<&'static str>,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<ProfileArg>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProfileArg {
    index: u8,
    value: u64,
    value_two: u64,
    op: &'static str,
}

/// The calls of a name on all architectures together, since a rule has names only.
#[derive(Default)]
struct Named {
    allowed: bool,
    fact: Option<Fact>,
    values: BTreeSet<u64>,
    refused: BTreeMap<u32, u64>,
}

/// The smallest profile under which the same calls do the same again: all else fails with EPERM, and with ENOSYS what is
/// newer than all that it names.
pub fn profile(recording: &Recording, made_for: &For<'_>) -> Result<Made> {
    let native = Arch::native(made_for.audit_arch).ok_or_else(|| {
        Error::host(Step::Seccomp, "hull has no table of system calls for this machine's architecture")
    })?;
    let mut notes = Vec::new();
    let mut architectures = vec![native];
    let mut named: BTreeMap<&'static str, Named> = BTreeMap::new();
    for ((audit_arch, nr), seen) in &recording.calls {
        let found = Arch::of_call(*audit_arch, *nr).and_then(|(arch, number)| {
            let name = arch::name_of(arch, number)?;
            Some((arch, name))
        });
        let Some((arch, name)) = found else {
            notes
                .push(format!("system call {nr} of architecture {audit_arch:#x} has no name: no rule can be about it"));
            continue;
        };
        if !architectures.contains(&arch) {
            architectures.push(arch);
        }
        let entry = named.entry(name).or_default();
        entry.allowed |= seen.allowed > 0;
        entry.fact = seen.fact.filter(|_| !made_for.names_only);
        entry.values.extend(&seen.values);
        seen.refused.iter().for_each(|(errno, count)| *entry.refused.entry(*errno).or_default() += count);
    }
    let calls = named.len();
    let added = add(&mut named, &architectures, native, made_for);
    for (name, entry) in &mut named {
        if entry.fact.is_some() && entry.values.len() > MOST_VALUES {
            notes.push(format!("{name}: its arguments had more than {MOST_VALUES} values: allowed whatever they are"));
            entry.fact = None;
        }
    }
    if named.get("clone3").is_some_and(|clone3| clone3.allowed) {
        notes.push(
            "clone3 is allowed whole, new namespaces too: its flags are in memory, where no filter can look".into(),
        );
    }
    for (name, entry) in &named {
        for (errno, count) in &entry.refused {
            let action = words::action(ERRNO | errno).words;
            notes.push(format!("{name} {action} under the present profile ({count} calls)"));
        }
    }
    let profile = Profile {
        default_action: "SCMP_ACT_ERRNO",
        default_errno_ret: EPERM,
        architectures: architectures.iter().map(|arch| arch.name()).collect(),
        syscalls: rules(&named),
    };
    let json = serde_json::to_string_pretty(&profile)
        .map_err(|error| Error::bug(Step::Seccomp, format!("write the profile as JSON: {error}")))?;
    Ok(Made {
        json: json + "\n",
        calls,
        architectures: architectures.into_iter().map(Arch::short).collect(),
        added,
        notes,
    })
}

/// Adds what the program has to be allowed beside what it called.
fn add(
    named: &mut BTreeMap<&'static str, Named>,
    architectures: &[Arch],
    native: Arch,
    made_for: &For<'_>,
) -> Vec<&'static str> {
    let number = |arch: Arch, name: &str| arch::lookup(name).and_then(|syscall| syscall.number(arch));
    let mut hulls: Vec<&str> = if made_for.no_new_privileges {
        NEEDED_LAST.to_vec()
    } else {
        let older = OLDER_EARLY.iter().filter(|name| number(native, name).is_some());
        NEEDED_EARLY.iter().chain(older).chain(&TRIED_EARLY).copied().collect()
    };
    if made_for.hooked {
        hulls.extend(NEEDED_BY_HOOKS.iter().chain(&TRIED_BY_HOOKS));
    }
    // What the present profile denies stays denied.
    let passes = |name: &&str| {
        let by_own =
            |own| number(native, name).is_none_or(|nr| possible(own, &unknown_arguments(native, nr)) == [ALLOW]);
        made_for.own.is_none_or(by_own)
    };
    let beside = BESIDE.into_iter().filter(|name| architectures.iter().any(|arch| number(*arch, name).is_some()));
    let mut added = Vec::new();
    for name in hulls.into_iter().chain(beside.filter(passes)) {
        let entry = named.entry(name).or_default();
        if !entry.allowed {
            added.push(name);
        }
        let own = HULLS_OWN.iter().find(|(call, _)| *call == name);
        if let Some((_, values)) = own.filter(|_| !made_for.names_only && (entry.fact.is_some() || !entry.allowed)) {
            entry.fact = facts::of(name);
            entry.values.extend(*values);
        }
        entry.allowed = true;
    }
    added
}

fn rules(named: &BTreeMap<&'static str, Named>) -> Vec<ProfileRule> {
    let allow = "SCMP_ACT_ALLOW";
    let whole = named.iter().filter(|(_, entry)| entry.allowed && entry.fact.is_none()).map(|(name, _)| *name);
    let mut rules = vec![ProfileRule { names: whole.collect(), action: allow, errno_ret: None, args: Vec::new() }];
    for (name, entry) in named.iter().filter(|(_, entry)| entry.allowed) {
        let Some(fact) = entry.fact else { continue };
        rules.extend(entry.values.iter().map(|value| ProfileRule {
            names: vec![name],
            action: allow,
            errno_ret: None,
            args: vec![ProfileArg {
                index: fact.argument,
                value: fact.mask,
                value_two: *value,
                op: "SCMP_CMP_MASKED_EQ",
            }],
        }));
    }
    // A program takes ENOSYS for a reason to try something older, which EPERM is not.
    let mut others: BTreeMap<u32, Vec<&'static str>> = BTreeMap::new();
    for (name, entry) in named.iter().filter(|(_, entry)| !entry.allowed) {
        if let Some(errno) = entry.refused.keys().find(|errno| **errno != EPERM) {
            others.entry(*errno).or_default().push(name);
        }
    }
    rules.extend(others.into_iter().map(|(errno, names)| ProfileRule {
        names,
        action: "SCMP_ACT_ERRNO",
        errno_ret: Some(errno),
        args: Vec::new(),
    }));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86_64: u32 = 0xc000_003e;
    const X86: u32 = 0x4000_0003;
    const CONTEXT: Context = Context { audit_arch: X86_64, fail_unknown: false };
    const MARK: Mark = Mark([7, 8, 9]);

    fn call(nr: u32, args: [u64; 6]) -> Call {
        Call { nr, arch: X86_64, args }
    }

    fn own(json: &str) -> Filter {
        compile(&serde_json::from_str(json).unwrap(), &CONTEXT).unwrap()
    }

    fn made_for(own: Option<&[SockFilter]>) -> For<'_> {
        For { audit_arch: X86_64, no_new_privileges: true, hooked: false, own, names_only: false }
    }

    #[test]
    fn only_hulls_own_calls_and_ends_are_unseen() {
        let program = filter(None, MARK, &CONTEXT).unwrap().program;
        let marked = [0, 0, 0, 7, 8, 9];
        let upper = [0, 0, 0, 7 | 1 << 40, 8, 9];
        for (call, want) in [
            (call(46, marked), ALLOW),
            (call(3, marked), ALLOW),
            // The registers of arguments that a call does not have may hold anything above.
            (call(3, upper), ALLOW),
            (call(46, [0, 0, 0, 7, 8, 8]), NOTIFY),
            (call(46, [0, 0, 0, 6, 8, 9]), NOTIFY),
            (call(0, marked), NOTIFY),
            (call(231, [0; 6]), ALLOW),
            (call(15, [0; 6]), ALLOW),
            (call(60, [0; 6]), NOTIFY),
            (Call { arch: X86, ..call(46, marked) }, NOTIFY),
            (Call { arch: X86, ..call(231, marked) }, NOTIFY),
            (call(u32::MAX, [0; 6]), NOTIFY),
        ] {
            assert_eq!(run(&program, &call), want, "{call:?}");
        }
    }

    #[test]
    fn a_profile_of_its_own_stays_in_force() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["read","exit","fsopen","sendmsg"],"action":"SCMP_ACT_ALLOW"},
            {"names":["write"],"action":"SCMP_ACT_ERRNO","errnoRet":28},
            {"names":["mount"],"action":"SCMP_ACT_KILL_PROCESS"},{"names":["ptrace"],"action":"SCMP_ACT_TRAP"}]}"#;
        let filter = filter(Some(own(json)), MARK, &CONTEXT).unwrap();
        let own = filter.recorder.as_ref().unwrap().own.as_deref();
        let mut recording = Recording::default();
        for (nr, loaded, answer) in [
            (0, NOTIFY, Some(Answer::GoOn)),
            (1, NOTIFY, Some(Answer::Errno(28))),
            (2, NOTIFY, Some(Answer::Errno(1))),
            (435, NOTIFY, Some(Answer::Errno(38))),
            // It does not allow exit_group: hull does not either.
            (231, NOTIFY, Some(Answer::Errno(1))),
            (165, KILL_PROCESS, None),
            (101, TRAP, None),
        ] {
            let call = call(nr, [0; 6]);
            let have = run(&filter.program, &call);
            assert_eq!(have & ACTION_MASK, loaded, "{nr}");
            assert_eq!((have == NOTIFY).then(|| recording.take(&call, own)), answer, "{nr}");
        }
        let made = profile(&recording, &made_for(own)).unwrap();
        let filter = self::tests::own(&made.json);
        let verdict = |nr| run(&filter.program, &call(nr, [0; 6]));
        assert_eq!(
            [0, 1, 2, 435, 60, 231].map(verdict),
            [ALLOW, ERRNO | 28, ERRNO | EPERM, ERRNO | ENOSYS, ALLOW, ERRNO | EPERM]
        );
        assert!(
            made.notes.contains(&"write fails with ENOSPC under the present profile (1 calls)".into()),
            "{:?}",
            made.notes
        );
        let agent = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        let error = super::filter(Some(self::tests::own(agent)), MARK, &CONTEXT).unwrap_err().to_string();
        assert!(error.contains("a process has one listener"), "{error}");
    }

    #[test]
    fn a_profile_allows_what_was_recorded_and_no_more() {
        let mut recording = Recording::default();
        let calls = [
            call(0, [0; 6]),
            call(59, [0; 6]),
            call(16, [0, 0x5401, 5, 0, 0, 0]),
            call(41, [1, 2, 0, 0, 0, 0]),
            // A thread and a process; the upper half of an int is whatever was in the register.
            call(56, [0x003d_0f00, 0, 0, 0, 0, 0]),
            call(56, [17, 0, 0, 0, 0, 0]),
            call(157, [0xffff_ffff_0000_0003, 0, 0, 0, 0, 0]),
            Call { nr: 3, arch: X86, args: [0; 6] },
            Call { nr: 54, arch: X86, args: [0, 0x5413, 0, 0, 0, 0] },
        ];
        calls.iter().for_each(|call| assert_eq!(recording.take(call, None), Answer::GoOn));
        recording.take(&call(9999, [0; 6]), None);
        let made = profile(&recording, &made_for(None)).unwrap();
        assert_eq!((made.calls, recording.total()), (6, 10));
        assert_eq!(made.architectures, ["x86_64", "x86"]);
        assert_eq!(made.notes, ["system call 9999 of architecture 0xc000003e has no name: no rule can be about it"]);
        let program = own(&made.json).program;
        let verdict = |call: &Call| run(&program, call);
        assert!(calls.iter().all(|call| verdict(call) == ALLOW), "{}", made.json);
        for denied in [
            call(1, [0; 6]),
            call(16, [0, 0x5402, 0, 0, 0, 0]),
            call(41, [2, 2, 0, 0, 0, 0]),
            call(56, [0x1000_0011, 0, 0, 0, 0, 0]),
            call(157, [4, 0, 0, 0, 0, 0]),
            Call { nr: 4, arch: X86, args: [0; 6] },
        ] {
            assert_eq!(verdict(&denied), ERRNO | EPERM, "{denied:?}");
        }
        let names = profile(&recording, &For { names_only: true, ..made_for(None) }).unwrap();
        let program = own(&names.json).program;
        assert_eq!(run(&program, &call(16, [0, 0x5402, 0, 0, 0, 0])), ALLOW);
        assert!(BESIDE.iter().filter(|name| **name != "exit").all(|name| names.json.contains(&format!("\"{name}\""))));
    }

    #[test]
    fn hulls_own_needs_are_in_a_profile_that_is_loaded_early() {
        let mut recording = Recording::default();
        recording.take(&call(59, [0; 6]), None);
        let early = For { no_new_privileges: false, ..made_for(None) };
        let made = profile(&recording, &early).unwrap();
        let program = own(&made.json).program;
        for name in NEEDED_EARLY.iter().chain(&OLDER_EARLY).filter(|name| **name != "prctl") {
            let number = arch::lookup(name).and_then(|call| call.number(Arch::X86_64)).unwrap();
            assert_eq!(run(&program, &call(number, [0; 6])), ALLOW, "{name}");
        }
        assert_eq!(
            [1, 8, 47, 3].map(|option| run(&program, &call(157, [option, 0, 0, 0, 0, 0]))),
            [ALLOW, ALLOW, ALLOW, ERRNO | EPERM]
        );
        assert!(made.added.contains(&"accept4") && !made.added.contains(&"execve"));
        let made = profile(&recording, &For { hooked: true, ..made_for(None) }).unwrap();
        let program = own(&made.json).program;
        let ioctl = |request| run(&program, &call(16, [0, request, 0, 0, 0, 0]));
        assert_eq!([ioctl(0x5421), ioctl(0x5412), run(&program, &call(61, [0; 6]))], [ALLOW, ERRNO | EPERM, ALLOW]);
    }

    #[test]
    fn many_values_are_no_condition() {
        let mut recording = Recording::default();
        for request in 0..100 {
            recording.take(&call(16, [0, request, 0, 0, 0, 0]), None);
        }
        let made = profile(&recording, &made_for(None)).unwrap();
        assert_eq!(run(&own(&made.json).program, &call(16, [0, 500, 0, 0, 0, 0])), ALLOW);
        assert_eq!(made.notes.len(), 1);
    }
}
