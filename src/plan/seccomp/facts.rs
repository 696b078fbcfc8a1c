//! The arguments that say what a call really is: `ioctl` is hundreds of calls, `clone` makes a thread or a user namespace.

/// An argument that decides what its call does, and that a filter can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) call: &'static str,
    pub(super) argument: u8,
    /// What the argument is.
    pub(super) what: &'static str,
    /// The bits that matter. The kernel takes an `int` from the lower half and looks at nothing else.
    pub(super) mask: u64,
}

const INT: u64 = u32::MAX as u64;
/// CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET: a thread and a process are the same to a profile, a namespace is not.
/// (CLONE_NEWTIME is a signal's number to clone(2).)
const NAMESPACES: u64 = 0x7e02_0000;

const FACTS: [Fact; 11] = [
    fact("bpf", 0, "command", INT),
    fact("clone", 0, "flags", NAMESPACES),
    fact("ioctl", 1, "request", INT),
    fact("keyctl", 0, "operation", INT),
    fact("personality", 0, "persona", INT),
    fact("prctl", 0, "option", INT),
    fact("ptrace", 0, "request", INT),
    fact("setns", 1, "type", INT),
    fact("socket", 0, "domain", INT),
    fact("socketpair", 0, "domain", INT),
    fact("unshare", 0, "flags", INT),
];

const fn fact(call: &'static str, argument: u8, what: &'static str, mask: u64) -> Fact {
    Fact { call, argument, what, mask }
}

/// The argument that matters of a call.
pub(super) fn of(call: &str) -> Option<Fact> {
    FACTS.into_iter().find(|fact| fact.call == call)
}

macro_rules! constants {
    ($($name:ident)*) => { const CONSTANTS: &[(&str, u64)] = &[$((stringify!($name), libc::$name as u32 as u64)),*]; };
}

constants! {
    CLONE_NEWNS CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET CLONE_VM CLONE_FS
    CLONE_FILES CLONE_SIGHAND CLONE_THREAD CLONE_VFORK CLONE_PARENT
    AF_UNSPEC AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_ALG AF_BLUETOOTH AF_CAN AF_TIPC AF_VSOCK
}

/// The value of a constant, by the kernel's name.
pub(super) fn constant(name: &str) -> Option<u64> {
    CONSTANTS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// A value of an argument in words: as a number, and by the kernel's names where hull knows them.
pub(super) fn words(call: &str, argument: u8, value: u64) -> String {
    let number = if value < 10 { value.to_string() } else { format!("{value:#x}") };
    let beginning = match of(call).filter(|fact| fact.argument == argument).map(|fact| fact.what) {
        Some("domain") => "AF_",
        Some("flags") => "CLONE_NEW",
        _ => return number,
    };
    let named = CONSTANTS.iter().filter(|(name, _)| name.starts_with(beginning));
    match named.into_iter().find(|(_, known)| *known == value) {
        Some((name, _)) => format!("{number} ({name})"),
        None => number,
    }
}
