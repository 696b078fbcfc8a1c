//! For tests: configs made by the thousand. One that has every property is edited at random, so that a failing case
//! shrinks to the few edits that matter.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use super::json::escape;

/// A config with every property of the specification, each with a value that its type allows.
pub fn full() -> Value {
    serde_json::from_str(include_str!("full.json")).expect("full.json is JSON")
}

/// What an edit does: a place among all of the config's, and a number that chooses the deed.
type Edit = (Index, u16);

/// How far an edit may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wildness {
    /// Types and the words of enumerations stay as the specification has them, and what it requires stays.
    Typed,
    /// Anything.
    Wild,
}

/// Configs: the full one, with all but a few of its parts taken away, and then edited.
pub fn config(wildness: Wildness) -> impl Strategy<Value = Value> {
    let edits = prop::collection::vec((any::<Index>(), any::<u16>()), 0..24);
    (prop::collection::vec(any::<Index>(), 0..12), edits).prop_map(move |(kept, edits)| {
        let mut config = full();
        thin_out(&mut config, &kept);
        edits.into_iter().for_each(|edit| apply(&mut config, edit, wildness));
        config
    })
}

/// The properties without which the specification has no config; `*` is any one key.
pub const REQUIRED: &[&str] = &[
    "/ociVersion",
    "/root/path",
    "/mounts/*/destination",
    "/mounts/*/uidMappings/*/*",
    "/mounts/*/gidMappings/*/*",
    "/process/user",
    "/process/user/uid",
    "/process/user/gid",
    "/process/cwd",
    "/process/consoleSize/*",
    "/process/rlimits/*/*",
    "/process/scheduler/policy",
    "/process/ioPriority/*",
    "/hooks/*/*/path",
    "/linux/uidMappings/*/*",
    "/linux/gidMappings/*/*",
    "/linux/namespaces/*/type",
    "/linux/devices/*/path",
    "/linux/devices/*/type",
    "/linux/devices/*/major",
    "/linux/devices/*/minor",
    "/linux/resources/devices/*/allow",
    "/linux/resources/pids/limit",
    "/linux/resources/blockIO/weightDevice/*/major",
    "/linux/resources/blockIO/weightDevice/*/minor",
    "/linux/resources/blockIO/throttleReadBpsDevice/*/*",
    "/linux/resources/blockIO/throttleWriteBpsDevice/*/*",
    "/linux/resources/blockIO/throttleReadIOPSDevice/*/*",
    "/linux/resources/blockIO/throttleWriteIOPSDevice/*/*",
    "/linux/resources/hugepageLimits/*/*",
    "/linux/resources/network/priorities/*/*",
    "/linux/seccomp/defaultAction",
    "/linux/seccomp/syscalls/*/names",
    "/linux/seccomp/syscalls/*/action",
    "/linux/seccomp/syscalls/*/args/*/index",
    "/linux/seccomp/syscalls/*/args/*/value",
    "/linux/seccomp/syscalls/*/args/*/op",
    "/linux/memoryPolicy/mode",
    "/linux/personality/domain",
];

/// The words that the specification has for a property; anything else is free text.
pub const WORDS: &[(&str, &[&str])] = &[
    (
        "/process/rlimits/*/type",
        &["RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_STACK", "RLIMIT_RTPRIO", "RLIMIT_MSGQUEUE", "RLIMIT_LOCKS"],
    ),
    ("/process/capabilities/*/*", &["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_BPF", "CAP_CHECKPOINT_RESTORE", "CAP_KILL"]),
    (
        "/process/scheduler/policy",
        &["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"],
    ),
    ("/process/scheduler/flags/*", &["SCHED_FLAG_RECLAIM", "SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_UTIL_CLAMP_MIN"]),
    ("/process/ioPriority/class", &["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"]),
    ("/process/execCPUAffinity/*", &["0", "0-3", "0-3,7", "1,2,3"]),
    ("/linux/namespaces/*/type", &["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]),
    ("/linux/devices/*/type", &["c", "b", "u", "p"]),
    ("/linux/resources/devices/*/type", &["a", "c", "b"]),
    (
        "/linux/seccomp/defaultAction",
        &[
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_TRAP",
            "SCMP_ACT_LOG",
        ],
    ),
    (
        "/linux/seccomp/syscalls/*/action",
        &["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"],
    ),
    (
        "/linux/seccomp/syscalls/*/args/*/op",
        &[
            "SCMP_CMP_NE",
            "SCMP_CMP_LT",
            "SCMP_CMP_LE",
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_MASKED_EQ",
        ],
    ),
    ("/linux/seccomp/architectures/*", &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"]),
    (
        "/linux/seccomp/flags/*",
        &["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
    ),
    ("/linux/memoryPolicy/mode", &["MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_PREFERRED", "MPOL_LOCAL"]),
    ("/linux/memoryPolicy/flags/*", &["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]),
    ("/linux/personality/domain", &["LINUX", "LINUX32"]),
];

/// Free text: plain, empty, escaped by JSON, odd, and what is near to something that means something.
const TEXTS: &[&str] = &[
    "",
    "x",
    "a b",
    "\u{26}\"\\\n",
    "ü\u{1F980}",
    "/",
    "/a/../../b",
    "..",
    "relative/path",
    "A=1",
    "PATH=/x",
    "ro",
    "bind",
    "size=64k",
    "idmap",
    "0-3,7",
    "1.2.0",
    "shared",
    "nul\0nul",
    "net.core.somaxconn",
];

/// The numbers at which types end.
const NUMBERS: &[i128] = &[
    0,
    1,
    -1,
    2,
    7,
    99,
    1000,
    1024,
    65_535,
    65_536,
    i32::MAX as i128,
    i32::MIN as i128,
    u32::MAX as i128,
    1 << 32,
    i64::MAX as i128,
    i64::MIN as i128,
    u64::MAX as i128,
];

/// The range of a number that has another than that of its type by [`range`]'s default.
const RANGES: &[(&str, i128, i128)] = &[
    ("uid", 0, u32::MAX as i128),
    ("gid", 0, u32::MAX as i128),
    ("umask", 0, u32::MAX as i128),
    ("additionalGids", 0, u32::MAX as i128),
    ("containerID", 0, u32::MAX as i128),
    ("hostID", 0, u32::MAX as i128),
    ("size", 0, u32::MAX as i128),
    ("fileMode", 0, u32::MAX as i128),
    ("defaultErrnoRet", 0, u32::MAX as i128),
    ("errnoRet", 0, u32::MAX as i128),
    ("index", 0, u32::MAX as i128),
    ("classID", 0, u32::MAX as i128),
    ("hcaHandles", 0, u32::MAX as i128),
    ("hcaObjects", 0, u32::MAX as i128),
    ("nanosecs", 0, u32::MAX as i128),
    ("weight", 0, u16::MAX as i128),
    ("leafWeight", 0, u16::MAX as i128),
    ("priority", 0, i32::MAX as i128),
    ("nice", i32::MIN as i128, i32::MAX as i128),
    ("oomScoreAdj", i32::MIN as i128, i32::MAX as i128),
    ("soft", 0, u64::MAX as i128),
    ("hard", 0, u64::MAX as i128),
    ("height", 0, u64::MAX as i128),
    ("width", 0, u64::MAX as i128),
    ("shares", 0, u64::MAX as i128),
    ("burst", 0, u64::MAX as i128),
    ("period", 0, u64::MAX as i128),
    ("realtimePeriod", 0, u64::MAX as i128),
    ("runtime", 0, u64::MAX as i128),
    ("deadline", 0, u64::MAX as i128),
    ("swappiness", 0, u64::MAX as i128),
    ("rate", 0, u64::MAX as i128),
    ("value", 0, u64::MAX as i128),
    ("valueTwo", 0, u64::MAX as i128),
    ("hugepageLimits", 0, i64::MAX as i128),
];

/// Whether a pointer is one of a pattern's.
pub fn fits(pattern: &str, pointer: &str) -> bool {
    let (mut pattern, mut pointer) = (pattern.split('/'), pointer.split('/'));
    loop {
        match (pattern.next(), pointer.next()) {
            (None, None) => return true,
            (Some(want), Some(have)) if want == "*" || want == have => {}
            _ => return false,
        }
    }
}

fn required(pointer: &str) -> bool {
    REQUIRED.iter().any(|pattern| fits(pattern, pointer))
}

/// The places of a config, parents before children.
fn places(value: &Value, at: String, out: &mut Vec<String>) {
    match value {
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| places(value, format!("{at}/{i}"), out)),
        Value::Object(map) => map.iter().for_each(|(key, value)| places(value, format!("{at}/{}", escape(key)), out)),
        _ => {}
    }
    if !at.is_empty() {
        out.push(at);
    }
}

/// Leaves of all members of the root, of process, of linux and of linux.resources only those that are chosen.
fn thin_out(config: &mut Value, kept: &[Index]) {
    let sections = ["", "/process", "/linux", "/linux/resources"];
    let mut all = Vec::new();
    for section in sections {
        let members = config.pointer(section).and_then(Value::as_object).expect("the full config has every section");
        let optional = members.keys().map(|key| format!("{section}/{key}"));
        all.extend(optional.filter(|pointer| !required(pointer) && !sections.contains(&pointer.as_str())));
    }
    let chosen: Vec<&String> = kept.iter().map(|index| index.get(&all)).collect();
    for pointer in all.iter().filter(|pointer| !chosen.contains(pointer)) {
        remove(config, pointer);
    }
}

fn split(pointer: &str) -> (&str, String) {
    let at = pointer.rfind('/').expect("a place is not the root");
    (&pointer[..at], pointer[at + 1..].replace("~1", "/").replace("~0", "~"))
}

fn remove(config: &mut Value, pointer: &str) {
    let (parent, key) = split(pointer);
    match config.pointer_mut(parent) {
        Some(Value::Object(map)) => drop(map.remove(&key)),
        Some(Value::Array(list)) => drop(list.remove(key.parse().expect("an index"))),
        _ => {}
    }
}

fn apply(config: &mut Value, (place, deed): Edit, wildness: Wildness) {
    let mut all = Vec::new();
    places(config, String::new(), &mut all);
    if all.is_empty() {
        return;
    }
    let pointer = place.get(&all).clone();
    let (deed, choice) = (deed % 8, usize::from(deed / 8));
    let wild = wildness == Wildness::Wild;
    match deed {
        0 if wild || !required(&pointer) => remove(config, &pointer),
        1 if wild || !required(&pointer) && !in_list_or_map(&pointer) => set(config, &pointer, Value::Null),
        2 => copy(config, &pointer),
        3 if wild => set(config, &pointer, anything(choice)),
        4 if wild => set(config, &format!("{pointer}x"), anything(choice)),
        _ => {
            let Some(old) = config.pointer(&pointer) else { return };
            let new = match old {
                Value::Bool(old) => json!(!old),
                Value::Number(_) => number(&pointer, choice, wild),
                Value::String(_) => json!(text(&pointer, choice, wild)),
                other => other.clone(),
            };
            set(config, &pointer, new);
        }
    }
}

/// Elements of lists, and values whose keys are data, are never null in what Go writes.
fn in_list_or_map(pointer: &str) -> bool {
    let (parent, key) = split(pointer);
    let maps = ["/annotations", "/linux/sysctl", "/linux/resources/unified", "/linux/resources/rdma"];
    let more = ["/linux/netDevices", "/linux/timeOffsets"];
    key.parse::<usize>().is_ok() || maps.contains(&parent) || more.contains(&parent)
}

fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = split(pointer);
    match config.pointer_mut(parent) {
        Some(Value::Object(map)) => drop(map.insert(key, value)),
        Some(Value::Array(list)) => match key.parse::<usize>().ok().and_then(|index| list.get_mut(index)) {
            Some(old) => *old = value,
            None => list.push(value),
        },
        _ => {}
    }
}

/// An element of a list comes once more.
fn copy(config: &mut Value, pointer: &str) {
    let (parent, _) = split(pointer);
    let Some(value) = config.pointer(pointer).cloned() else { return };
    if let Some(Value::Array(list)) = config.pointer_mut(parent)
        && list.len() < 40
    {
        list.push(value);
    }
}

fn anything(choice: usize) -> Value {
    match choice % 7 {
        0 => Value::Null,
        1 => json!(choice.is_multiple_of(2)),
        2 => json!(-1.5),
        3 => json!([[], {}]),
        4 => Value::Object(Map::from_iter([("x".to_owned(), json!(1))])),
        5 => json!(TEXTS[choice % TEXTS.len()]),
        _ => number("", choice, true),
    }
}

fn number(pointer: &str, choice: usize, wild: bool) -> Value {
    let (least, most) = range(pointer);
    let allowed: Vec<i128> = NUMBERS.iter().copied().filter(|n| wild || (least..=most).contains(n)).collect();
    let n = allowed[choice % allowed.len()];
    if n < 0 { json!(n as i64) } else { json!(n as u64) }
}

fn range(pointer: &str) -> (i128, i128) {
    let keys: Vec<&str> = pointer.rsplit('/').collect();
    // An element of a list of numbers goes by the list's name.
    let name = keys.iter().find(|key| key.parse::<usize>().is_err()).copied().unwrap_or_default();
    // Of one name with several types, the parent decides.
    let parent = keys.iter().skip(1).find(|key| key.parse::<usize>().is_err()).copied().unwrap_or_default();
    let name = if (name, parent) == ("limit", "hugepageLimits") { parent } else { name };
    let row = RANGES.iter().find(|row| row.0 == name);
    row.map_or((i128::from(i64::MIN), i128::from(i64::MAX)), |row| (row.1, row.2))
}

fn text(pointer: &str, choice: usize, wild: bool) -> &'static str {
    match WORDS.iter().find(|(pattern, _)| fits(pattern, pointer)) {
        Some((_, words)) if !wild || !choice.is_multiple_of(4) => words[choice / 4 % words.len()],
        _ => TEXTS[choice % TEXTS.len()],
    }
}
