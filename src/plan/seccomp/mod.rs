//! The system call filter: /linux/seccomp (config-linux.md#seccomp) compiled to classic BPF, as seccomp(2) takes it.
//!
//! hull compiles profiles itself: libseccomp needs some 13 ms for the profile of an engine, more than all the rest of
//! a container's creation. The meaning is libseccomp's as runc uses it, and the tests compare both. A filter is
//! one binary search over the ranges of call numbers that share an action, so the kernel, which runs it for each
//! number to learn what is always allowed, gets through it quickly.
//!
//! Deliberately different from libseccomp alone, as runc has it: a call newer than all that the profile names gets
//! ENOSYS (unless the default lets calls through), so that C libraries fall back to older calls. Also: private
//! calls of arm do not count as newer ones, and architectures that this kernel cannot run are left out, not refused.
//!
//! As libseccomp does it: the native architecture is always in the filter; calls of others that are not
//! listed kill the thread; a rule that says what the default says is no rule; on 32-bit ABIs only the lower halves
//! of arguments are compared.

mod arch;
mod bpf;
pub mod explain;
mod facts;
pub mod interpreter;
mod program;
mod question;
pub mod record;
mod rules;
mod table;
pub mod words;

#[cfg(test)]
mod oracle;

use crate::error::{Error, Result, Step};
use crate::spec::json::{SUGGESTIONS, did_you_mean};
use crate::spec::{self, Str};

pub use arch::{ARCHS, Arch};
pub use bpf::SockFilter;
use program::assemble;
use rules::{Calls, Condition, Test};

/// `SCMP_ACT_*` that hull knows.
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];

/// `SCMP_CMP_*` that hull knows.
pub const OPERATORS: [&str; 7] =
    ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];

/// `SECCOMP_FILTER_FLAG_*` that hull knows, with the kernel's bits.
pub const KNOWN_FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", FLAG_TSYNC),
    ("SECCOMP_FILTER_FLAG_LOG", FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", FLAG_WAIT_KILLABLE_RECV),
];

/// The annotation that makes an unknown call of a profile an error, as crun has it.
pub const FAIL_UNKNOWN_ANNOTATION: &str = "run.oci.seccomp_fail_unknown_syscall";

/// Calls that cannot be answered by an agent, because hull needs them after the load to bring the agent its
/// descriptor. (`write` is refused by runc too, for the same reason.)
pub const NOTIFY_REFUSED: [&str; 2] = ["sendmsg", "write"];

/// BPF_MAXINSNS (linux/bpf_common.h).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// SECCOMP_FILTER_FLAG_* (linux/seccomp.h).
pub const FLAG_TSYNC: u32 = 1;
/// Actions other than ALLOW are logged.
pub const FLAG_LOG: u32 = 1 << 1;
/// No mitigation of speculative store bypass.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// seccomp(2) returns the descriptor of the agent.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// TSYNC and NEW_LISTENER both want the return value: this makes TSYNC fail with ESRCH instead.
pub const FLAG_TSYNC_ESRCH: u32 = 1 << 4;
/// A call that waits for the agent is interrupted by fatal signals only.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;
/// The part of an action that is not its data.
const ACTION_MASK: u32 = 0xffff_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The largest errno that the kernel returns (MAX_ERRNO).
const MAX_ERRNO: u32 = 4095;

/// What the compiler has to know beside the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// AUDIT_ARCH_* of this machine, see `sys::arch`.
    pub audit_arch: u32,
    /// An unknown call of the profile is an error ([`FAIL_UNKNOWN_ANNOTATION`]).
    pub fail_unknown: bool,
}

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// For seccomp(2).
    pub program: Vec<SockFilter>,
    /// SECCOMP_FILTER_FLAG_*, NEW_LISTENER included if there is an agent.
    pub flags: u32,
    /// The agent that answers SCMP_ACT_NOTIFY.
    pub notify: Option<Listener>,
    /// What was left out, for the log and `hull explain`.
    pub notes: Vec<String>,
    /// `hull seccomp record`: hull is asked about each call.
    pub recorder: Option<Box<record::Recorder>>,
}

impl Filter {
    /// Whether it is loaded before the capabilities fall: without no_new_privs loading takes CAP_SYS_ADMIN, and a listener
    /// must reach setup. Else it is loaded last of all; and so is that of a recording, since hull is asked about each
    /// call from then on.
    pub fn loads_early(&self, no_new_privileges: bool) -> bool {
        self.recorder.is_none() && (self.notify.is_some() || !no_new_privileges)
    }
}

/// Where the agent of SCMP_ACT_NOTIFY listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The socket on the host.
    pub path: String,
    /// Passed to the agent as it is.
    pub metadata: Option<String>,
}

/// Compiles /linux/seccomp.
pub fn compile(spec: &spec::Seccomp<'_>, context: &Context) -> Result<Filter> {
    let mut notes = Vec::new();
    let default = default_action(spec)?;
    let mut calls = architectures(spec, context, &mut notes)?;
    let uses_notify = collect(spec, default, context, &mut calls, &mut notes, |_, action| action)?;
    let notify = listener(spec, uses_notify)?;
    let flags = flags(spec, notify.is_some(), &mut notes)?;
    let program = assemble(&calls, default, beyond(default));
    if program.len() > MAX_INSTRUCTIONS {
        let len = program.len();
        return Err(Error::spec(
            "/linux/seccomp",
            format_args!("the filter has {len} instructions, more than the {MAX_INSTRUCTIONS} that the kernel takes"),
        )
        .hint("most of them are conditions on arguments"));
    }
    Ok(Filter { program, flags, notify, notes, recorder: None })
}

fn default_action(spec: &spec::Seccomp<'_>) -> Result<u32> {
    let pointer = "/linux/seccomp/defaultAction";
    let action = action(spec.default_action.as_ref(), spec.default_errno_ret, pointer, || {
        "/linux/seccomp/defaultErrnoRet".into()
    })?;
    if action == NOTIFY {
        return Err(Error::spec(
            pointer,
            "SCMP_ACT_NOTIFY cannot be the default: hull could not bring the agent its descriptor",
        ));
    }
    Ok(action)
}

/// The ABIs that the filter has rules for, the native one first.
fn architectures(spec: &spec::Seccomp<'_>, context: &Context, notes: &mut Vec<String>) -> Result<Vec<Calls>> {
    let native = Arch::native(context.audit_arch).ok_or_else(|| {
        Error::host(Step::Seccomp, "hull has no table of system calls for this machine's architecture")
    })?;
    let mut calls = vec![Calls::new(native)];
    for (index, name) in spec.architectures.iter().enumerate() {
        let pointer = || format!("/linux/seccomp/architectures/{index}");
        if !ARCHS.contains(&&**name) {
            return Err(unknown(pointer(), "architecture", name, &ARCHS));
        }
        match Arch::named(name).filter(|arch| arch.runs_on(native)) {
            Some(arch) if calls.iter().any(|known| known.arch == arch) => {}
            Some(arch) => calls.push(Calls::new(arch)),
            None => notes.push(format!("config.json: {}: {name} does not run on this kernel: left out", pointer())),
        }
    }
    Ok(calls)
}

/// What calls newer than all that the profile names get, where that is not the default. As runc: a tracer answers new
/// calls itself, and a default that lets calls through is not to be narrowed.
fn beyond(default: u32) -> Option<u32> {
    let permissive = matches!(default & ACTION_MASK, ALLOW | LOG | TRACE);
    (!permissive && default != ERRNO | ENOSYS).then_some(ERRNO | ENOSYS)
}

/// Reads the rules into `calls`, each with the action that `mark` makes of its index and its own action; tells whether
/// one of them asks the agent.
fn collect(
    spec: &spec::Seccomp<'_>,
    default: u32,
    context: &Context,
    calls: &mut [Calls],
    notes: &mut Vec<String>,
    mark: fn(usize, u32) -> u32,
) -> Result<bool> {
    let mut uses_notify = false;
    for (index, rule) in spec.syscalls.iter().enumerate() {
        let at = |field: &str| format!("/linux/seccomp/syscalls/{index}/{field}");
        let action = action_of_rule(rule, index)?;
        let rules = conditions(rule, index)?;
        if rule.names.is_empty() && rule.name.is_none() {
            return Err(Error::spec(at("names"), "needs at least one system call"));
        }
        for (position, name) in rule.names.iter().chain(rule.name.as_ref()).enumerate() {
            let pointer = || if position < rule.names.len() { at(&format!("names/{position}")) } else { at("name") };
            if action == NOTIFY && NOTIFY_REFUSED.contains(&&**name) {
                return Err(Error::spec(
                    pointer(),
                    format_args!(
                        "SCMP_ACT_NOTIFY cannot be used for {name}: hull needs it to bring the agent its descriptor"
                    ),
                ));
            }
            let Some(syscall) = arch::lookup(name) else {
                if context.fail_unknown {
                    return Err(unknown_call(pointer(), name).hint(format!("{FAIL_UNKNOWN_ANNOTATION} is set")));
                }
                let meant = || did_you_mean(name, arch::names()).map(|question| format!("; {question}"));
                let meant = (notes.len() < SUGGESTIONS).then(meant).flatten().unwrap_or_default();
                notes.push(format!("config.json: {}: unknown system call \"{name}\": left out{meant}", pointer()));
                continue;
            };
            uses_notify |= action == NOTIFY;
            for calls in calls.iter_mut() {
                calls.know(syscall);
                // libseccomp takes no rule that says what the default says, so runc and crun leave it out.
                if action == default {
                    continue;
                }
                let action = mark(index, action);
                if rules.is_empty() {
                    calls.add(name, syscall, action, &[]);
                }
                for conditions in &rules {
                    calls.add(name, syscall, action, conditions);
                }
                // Each rule of one call is an instruction at least; later ones need not be looked at.
                if syscall.number(calls.arch).is_some_and(|number| calls.chain(number).len() > MAX_INSTRUCTIONS) {
                    let what =
                        format!("more than {MAX_INSTRUCTIONS} rules for {name}: the kernel takes no longer filter");
                    return Err(Error::spec("/linux/seccomp", what));
                }
            }
        }
    }
    Ok(uses_notify)
}

fn action_of_rule(rule: &spec::SyscallRule<'_>, index: usize) -> Result<u32> {
    // Built for each rule, not for each name: the pointer costs nothing that shows.
    let pointer = format!("/linux/seccomp/syscalls/{index}/action");
    action(rule.action.as_ref(), rule.errno_ret, &pointer, || format!("/linux/seccomp/syscalls/{index}/errnoRet"))
}

fn action(
    name: Option<&Str<'_>>,
    errno: Option<u32>,
    pointer: &str,
    errno_pointer: impl Fn() -> String,
) -> Result<u32> {
    let Some(name) = name else {
        return Err(Error::spec(pointer, "is missing; it says what happens to a call"));
    };
    let (action, takes_errno, most) = match &**name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => (KILL_THREAD, false, 0),
        "SCMP_ACT_KILL_PROCESS" => (KILL_PROCESS, false, 0),
        "SCMP_ACT_TRAP" => (TRAP, false, 0),
        "SCMP_ACT_ERRNO" => (ERRNO, true, MAX_ERRNO),
        "SCMP_ACT_TRACE" => (TRACE, true, u16::MAX.into()),
        "SCMP_ACT_ALLOW" => (ALLOW, false, 0),
        "SCMP_ACT_LOG" => (LOG, false, 0),
        "SCMP_ACT_NOTIFY" => (NOTIFY, false, 0),
        _ => return Err(unknown(pointer, "action", name, &ACTIONS)),
    };
    match errno {
        None if takes_errno => Ok(action | EPERM),
        None => Ok(action),
        Some(_) if !takes_errno => Err(Error::spec(errno_pointer(), format_args!("{name} takes no errno"))),
        Some(errno) if errno > most => {
            Err(Error::spec(errno_pointer(), format_args!("{errno} is no errno, at most {most} is possible")))
        }
        Some(errno) => Ok(action | errno),
    }
}

/// The conditions of a rule: none, or lists of which one must hold as a whole.
///
/// A list in which an argument comes twice is one rule for each entry: profiles rely on that old behaviour of
/// runc, although the specification says that all entries must hold.
fn conditions(rule: &spec::SyscallRule<'_>, index: usize) -> Result<Vec<Vec<Condition>>> {
    if rule.args.is_empty() {
        return Ok(Vec::new());
    }
    let mut all: Vec<Condition> = Vec::with_capacity(rule.args.len());
    for (position, arg) in rule.args.iter().enumerate() {
        let new = condition(arg, |field| format!("/linux/seccomp/syscalls/{index}/args/{position}/{field}"))?;
        all.push(new);
    }
    all.sort_by_key(|condition| condition.argument);
    if all.windows(2).any(|pair| pair[0].argument == pair[1].argument) {
        return Ok(all.into_iter().map(|condition| vec![condition]).collect());
    }
    Ok(vec![all])
}

fn condition(arg: &spec::SyscallArg<'_>, pointer: impl Fn(&str) -> String) -> Result<Condition> {
    if arg.index > 5 {
        return Err(Error::spec(pointer("index"), format_args!("{} is no argument, a call has 0 to 5", arg.index)));
    }
    let Some(op) = &arg.op else {
        return Err(Error::spec(pointer("op"), "is missing; it says how the argument is compared"));
    };
    let (test, negated) = match &**op {
        "SCMP_CMP_EQ" | "SCMP_CMP_MASKED_EQ" => (Test::Equal, false),
        "SCMP_CMP_NE" => (Test::Equal, true),
        "SCMP_CMP_GE" => (Test::AtLeast, false),
        "SCMP_CMP_LT" => (Test::AtLeast, true),
        "SCMP_CMP_GT" => (Test::Above, false),
        "SCMP_CMP_LE" => (Test::Above, true),
        _ => return Err(unknown(pointer("op"), "operator", op, &OPERATORS)),
    };
    let (mask, value) = match &**op {
        // Bits of the value that the mask takes away are not compared, as with libseccomp: else the rule never holds, and a
        // call that it denies is let through.
        "SCMP_CMP_MASKED_EQ" => (arg.value, arg.value_two & arg.value),
        _ => (u64::MAX, arg.value),
    };
    Ok(Condition { argument: arg.index as u8, test, negated, value, mask })
}

fn listener(spec: &spec::Seccomp<'_>, uses_notify: bool) -> Result<Option<Listener>> {
    let path = spec.listener_path.as_ref().filter(|path| !path.is_empty());
    let metadata = spec.listener_metadata.as_ref().filter(|metadata| !metadata.is_empty());
    match path {
        None if uses_notify => {
            Err(Error::spec("/linux/seccomp/listenerPath", "listenerPath is not set, but a rule uses SCMP_ACT_NOTIFY"))
        }
        None if metadata.is_some() => {
            Err(Error::spec("/linux/seccomp/listenerMetadata", "must not be set without listenerPath"))
        }
        // The specification sends something there only "when the SCMP_ACT_NOTIFY action is used".
        Some(path) if uses_notify => {
            Ok(Some(Listener { path: path.to_string(), metadata: metadata.map(|m| m.to_string()) }))
        }
        _ => Ok(None),
    }
}

fn flags(spec: &spec::Seccomp<'_>, notify: bool, notes: &mut Vec<String>) -> Result<u32> {
    let listener = if notify { FLAG_NEW_LISTENER } else { 0 };
    let Some(names) = &spec.flags else { return Ok(FLAG_SPEC_ALLOW | listener) };
    let mut flags = listener;
    for (index, name) in names.iter().enumerate() {
        let pointer = || format!("/linux/seccomp/flags/{index}");
        let Some(&(_, flag)) = KNOWN_FLAGS.iter().find(|(known, _)| *known == &**name) else {
            return Err(unknown(pointer(), "flag", name, &KNOWN_FLAGS.map(|row| row.0)));
        };
        flags |= match flag {
            FLAG_TSYNC if notify => FLAG_TSYNC | FLAG_TSYNC_ESRCH,
            // The kernel refuses it without a listener (EINVAL); libseccomp then leaves it out.
            FLAG_WAIT_KILLABLE_RECV if !notify => {
                notes.push(format!("config.json: {}: {name} without SCMP_ACT_NOTIFY: left out", pointer()));
                0
            }
            flag => flag,
        };
    }
    Ok(flags)
}

fn unknown(pointer: impl std::fmt::Display, what: &str, name: &str, known: &[&'static str]) -> Error {
    let error = Error::spec(pointer, format_args!("unknown {what} \"{name}\""));
    Error { hint: did_you_mean(name, known.iter().copied()), ..error }
}

fn unknown_call(pointer: String, name: &str) -> Error {
    let meant = did_you_mean(name, arch::names()).map(|question| format!(", {question}")).unwrap_or_default();
    Error::spec(pointer, format_args!("unknown system call \"{name}\"{meant}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context = Context { audit_arch: 0xc000_003e, fail_unknown: false };

    fn compiled(json: &str) -> Result<Filter> {
        compile(&serde_json::from_str(json).unwrap(), &CONTEXT)
    }

    fn with_rule(rule: &str) -> Result<Filter> {
        compiled(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#))
    }

    #[track_caller]
    fn fails(result: Result<Filter>, want: &str) {
        assert_eq!(result.unwrap_err().to_string(), format!("config.json: /linux/seccomp/{want}"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        fails(compiled("{}"), "defaultAction: is missing; it says what happens to a call");
        fails(
            compiled(r#"{"defaultAction":"SCMP_ACT_ALOW"}"#),
            "defaultAction: unknown action \"SCMP_ACT_ALOW\" (did you mean \"SCMP_ACT_ALLOW\"?)",
        );
        fails(
            compiled(r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#),
            "defaultErrnoRet: SCMP_ACT_ALLOW takes no errno",
        );
        fails(
            compiled(r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","SCMP_ARCH_X68"]}"#),
            "architectures/1: unknown architecture \"SCMP_ARCH_X68\" (did you mean \"SCMP_ARCH_X86\"?)",
        );
        fails(
            compiled(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOGS"]}"#),
            "flags/0: unknown flag \"SECCOMP_FILTER_FLAG_LOGS\" (did you mean \"SECCOMP_FILTER_FLAG_LOG\"?)",
        );
        fails(
            with_rule(r#"{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":4096}"#),
            "syscalls/0/errnoRet: 4096 is no errno, at most 4095 is possible",
        );
        fails(
            with_rule(r#"{"names":["read"],"action":"SCMP_ACT_LOG","errnoRet":1}"#),
            "syscalls/0/errnoRet: SCMP_ACT_LOG takes no errno",
        );
        fails(
            with_rule(r#"{"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":6,"op":"SCMP_CMP_EQ"}]}"#),
            "syscalls/0/args/0/index: 6 is no argument, a call has 0 to 5",
        );
        fails(
            with_rule(r#"{"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":1,"op":"SCMP_CMP_EG"}]}"#),
            "syscalls/0/args/0/op: unknown operator \"SCMP_CMP_EG\" (did you mean \"SCMP_CMP_EQ\"?)",
        );
    }

    #[test]
    fn an_unknown_call_is_noted_or_refused() {
        let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_S390X"],
            "syscalls":[{"names":["read","opennat"],"action":"SCMP_ACT_LOG"}]}"#;
        let filter = compiled(json).unwrap();
        assert_eq!(
            filter.notes,
            [
                "config.json: /linux/seccomp/architectures/0: SCMP_ARCH_S390X does not run on this kernel: left out",
                "config.json: /linux/seccomp/syscalls/0/names/1: unknown system call \"opennat\": left out; did you mean \"openat\"?",
            ]
        );
        let strict = Context { fail_unknown: true, ..CONTEXT };
        fails(
            compile(&serde_json::from_str(json).unwrap(), &strict),
            "syscalls/0/names/1: unknown system call \"opennat\", did you mean \"openat\"? \
             (run.oci.seccomp_fail_unknown_syscall is set)",
        );
    }

    #[test]
    fn flags_default_to_spec_allow() {
        let flags = |text: &str| compiled(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW"{text}}}"#)).unwrap().flags;
        assert_eq!(flags(""), FLAG_SPEC_ALLOW);
        assert_eq!(flags(r#","flags":[]"#), 0);
        assert_eq!(flags(r#","flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_TSYNC"]"#), FLAG_LOG | FLAG_TSYNC);
        assert_eq!(flags(r#","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#), 0);
    }

    #[test]
    fn an_agent_needs_a_path_and_hull_some_calls() {
        let notify = |name: &str, rest: &str| {
            compiled(&format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
                "syscalls":[{{"names":["{name}"],"action":"SCMP_ACT_NOTIFY"}}]{rest}}}"#
            ))
        };
        let filter = notify("mkdir", r#","listenerPath":"/run/agent.sock","listenerMetadata":"m""#).unwrap();
        assert_eq!(filter.flags, FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV);
        assert_eq!(filter.notify, Some(Listener { path: "/run/agent.sock".into(), metadata: Some("m".into()) }));
        fails(notify("mkdir", ""), "listenerPath: listenerPath is not set, but a rule uses SCMP_ACT_NOTIFY");
        for name in NOTIFY_REFUSED {
            let error = notify(name, r#","listenerPath":"/run/agent.sock""#).unwrap_err().to_string();
            assert!(error.contains("/linux/seccomp/syscalls/0/names/0: SCMP_ACT_NOTIFY cannot be used for"), "{error}");
        }
        let unused = compiled(r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}"#).unwrap();
        assert_eq!((unused.notify, unused.flags), (None, FLAG_SPEC_ALLOW));
        fails(
            compiled(r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"m"}"#),
            "listenerMetadata: must not be set without listenerPath",
        );
        assert!(compiled(r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/x"}"#).is_err());
    }

    /// As with runc, for whom 0 is "no call found": on x86_64 that is `read`, and a profile that names nothing else is none
    /// whose age could be told.
    #[test]
    fn a_profile_that_names_number_0_alone_has_no_newest_call() {
        for (names, expected) in [(r#""read""#, ERRNO | EPERM), (r#""read","write""#, ERRNO | ENOSYS)] {
            let json = format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":[{names}],"action":"SCMP_ACT_ALLOW"}}]}}"#
            );
            let spec = serde_json::from_str(&json).unwrap();
            let filter = compile(&spec, &Context { audit_arch: 0xc000_003e, fail_unknown: false }).unwrap();
            for (nr, verdict) in [(0, ALLOW), (400, expected)] {
                let call = interpreter::Call { nr, arch: 0xc000_003e, args: [0; 6] };
                assert_eq!(interpreter::run(&filter.program, &call), verdict, "{names}: {nr}");
            }
        }
    }

    #[test]
    fn a_filter_that_is_too_long_is_refused() {
        let rules: Vec<String> = (0..1100)
            .map(|value| {
                format!(
                    r#"{{"names":["ioctl"],"action":"SCMP_ACT_TRAP",
                    "args":[{{"index":1,"value":{value},"op":"SCMP_CMP_EQ"}}]}}"#
                )
            })
            .collect();
        let error = with_rule(&rules.join(",")).unwrap_err().to_string();
        assert!(error.contains("more than the 4096 that the kernel takes"), "{error}");
        assert!(with_rule(&rules[..900].join(",")).is_ok());
    }

    #[test]
    fn every_architecture_with_a_table_compiles() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_AARCH64","SCMP_ARCH_ARM"],
            "syscalls":[{"names":["read","cacheflush"],"action":"SCMP_ACT_ALLOW"}]}"#;
        let spec = serde_json::from_str(json).unwrap();
        let filter = compile(&spec, &Context { audit_arch: 0xc000_00b7, fail_unknown: false }).unwrap();
        let verdict = |arch, nr| {
            let call = interpreter::Call { nr, arch, args: [0; 6] };
            interpreter::run(&filter.program, &call)
        };
        assert_eq!(verdict(0xc000_00b7, 63), ALLOW);
        assert_eq!(verdict(0xc000_00b7, 62), ERRNO | EPERM);
        assert_eq!(verdict(0xc000_00b7, 64), ERRNO | ENOSYS);
        assert_eq!(verdict(0x4000_0028, 3), ALLOW);
        assert_eq!(verdict(0x4000_0028, 0xf_0002), ALLOW);
        assert_eq!(verdict(0x4000_0028, 0xf_0001), ERRNO | ENOSYS);
        assert_eq!(verdict(0xc000_003e, 0), KILL_THREAD);
        assert!(compile(&spec, &Context { audit_arch: 1, fail_unknown: false }).is_err());
    }
}
