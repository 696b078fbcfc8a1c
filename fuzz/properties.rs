//! What holds for every input, however hostile: one function for each target, which panics where it does not hold.
//!
//! libFuzzer calls these (`targets/`), and so does the driver that needs no more than stable Rust (`driver.rs`).

use std::collections::BTreeSet;
use std::io::{Read, Seek};
use std::path::PathBuf;
use std::sync::OnceLock;

use hull::check::mend;
use hull::error::Blame;
use hull::host::{CgroupFacts, CgroupMode, HostFacts, V1Hierarchy};
use hull::plan::mounts::{self, MountKind, attr};
use hull::plan::namespaces::NamespacesSummary;
use hull::plan::seccomp::{Context, SockFilter, compile, interpreter};
use hull::plan::{Options, Plan, explain, idmap, ranges, script};
use hull::spec::load::{Text, parse};
use hull::spec::{IdMapping, Seccomp, Spec};
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// A target: it takes any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, by name.
pub const TARGETS: [Target; 5] = [
    ("config", config),
    ("mount_options", mount_options),
    ("seccomp", seccomp),
    ("id_maps", id_maps),
    ("cpu_lists", cpu_lists),
];

/// A machine that is as it is in every run: root on v1 or v2, or an ordinary user.
fn host(which: u8) -> HostFacts {
    static PROBED: OnceLock<HostFacts> = OnceLock::new();
    let probed = PROBED.get_or_init(|| HostFacts::probe(&Spec::default()).expect("/proc is there"));
    let v1 = ["cpu", "memory", "devices", "pids"].map(|name| V1Hierarchy {
        controllers: vec![name.to_owned()],
        mount: PathBuf::from(format!("/sys/fs/cgroup/{name}")),
        own: "/own".into(),
    });
    let mode = if which & 1 == 0 { CgroupMode::V2 } else { CgroupMode::Hybrid };
    let cgroup = CgroupFacts {
        mode,
        v2_mount: Some("/sys/fs/cgroup".into()),
        v1: if which & 1 == 0 { Vec::new() } else { v1.to_vec() },
        own_v2: "/own/scope".into(),
        ..CgroupFacts::default()
    };
    let euid = if which & 2 == 0 { 0 } else { 1000 };
    HostFacts {
        euid,
        egid: euid,
        in_user_namespace: which & 4 != 0,
        audit_arch: AUDIT_ARCH_X86_64,
        bounding: u64::MAX >> 23,
        last_cap: 40,
        cgroup,
        apparmor: which & 8 != 0,
        selinux: which & 8 != 0,
        ..probed.clone()
    }
}

/// config.json to the plan: made or refused with a sentence, the same each time, and check agrees.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let text = Text(text.to_owned());
    // The same input always meets the same machine.
    let which = data.iter().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte));
    let host = host(which);
    let options = Options { id: "box".into(), bundle: "/b".into(), detached: true, ..Options::default() };
    let plan = || {
        let (spec, _) = parse(&text)?;
        let console_socket = spec.process.as_ref().is_some_and(|process| process.terminal);
        Plan::new(&spec, &host, &Options { console_socket, ..options.clone() })
    };
    let first = plan();
    assert_eq!(first, plan(), "the same text, another plan");
    match &first {
        Ok(plan) => {
            assert!(!explain::text(plan).is_empty() && !script::script(plan).is_empty());
        }
        Err(error) => {
            assert!(!error.to_string().contains(['\n', '\0']), "{error:?}");
            assert!(error.blame != Blame::Bug, "{error}");
        }
    }
    // Each problem costs a plan, so a long text is left to the plan alone.
    if data.len() < 4096 {
        let outcome = mend::problems(&text, |_| Ok(host.clone()), &options);
        let found = outcome.problems.iter().any(|problem| problem.is_error());
        assert_eq!(found, first.is_err(), "check: {:?}, plan: {first:?}", outcome.problems);
    }
}

/// Lines of options for one mount after the other: what a later word sets or clears, an earlier one does not.
pub fn mount_options(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let words: Vec<&str> = text.split([',', '\n']).take(64).collect();
    for fstype in ["tmpfs", "bind", "proc"] {
        let entry = serde_json::json!({"mounts": [
            {"destination": "/x", "type": fstype, "source": "/s", "options": words}
        ]});
        let text = Text(entry.to_string());
        let (spec, _) = parse(&text).expect("it was written as JSON");
        let summary = NamespacesSummary { new_mount: true, ..NamespacesSummary::default() };
        let planned = mounts::plan(&spec, &host(0), &Options::default(), &summary, &[]);
        let Ok(planned) = planned else { continue };
        let [mount] = &planned.mounts[..] else { panic!("{} mounts of one entry", planned.mounts.len()) };
        for (flag, set, clear) in [
            (attr::RDONLY, "ro", "rw"),
            (attr::NOSUID, "nosuid", "suid"),
            (attr::NODEV, "nodev", "dev"),
            (attr::NOEXEC, "noexec", "exec"),
            (attr::NODIRATIME, "nodiratime", "diratime"),
            (attr::NOSYMFOLLOW, "nosymfollow", "symfollow"),
        ] {
            for (prefix, have) in [("", mount.attr), ("r", mount.recursive_attr)] {
                let (set, clear) = (format!("{prefix}{set}"), format!("{prefix}{clear}"));
                let last = words.iter().rev().find(|word| **word == set || **word == clear);
                assert_eq!(have.set & flag != 0, last.is_some_and(|word| **word == set), "{words:?} {flag:#x}");
                assert_eq!(have.clear & flag != 0, last.is_some_and(|word| **word == clear), "{words:?} {flag:#x}");
            }
        }
        for have in [mount.attr, mount.recursive_attr] {
            // Of the access time policy set and cleared are one value; for all else they exclude each other.
            assert_eq!(have.set & have.clear & !attr::ATIME, 0, "{words:?}");
            assert!(matches!(have.set & attr::ATIME, 0 | attr::NOATIME | attr::STRICTATIME), "{words:?}");
        }
        if let MountKind::Bind { .. } = mount.kind {
            // Several may stand in one element of the list, and crun's idmap has a value.
            let known = |word: &&str| {
                word.is_empty()
                    || mounts::options::meaning(word).is_some()
                    || mounts::is_left_out_of_a_bind(word)
                    || word.starts_with("idmap=")
            };
            assert!(words.iter().all(known), "{words:?}");
        }
    }
}

/// A number of the input, 0 at its end.
struct Bytes<'d>(std::slice::Iter<'d, u8>);

impl Bytes<'_> {
    fn below(&mut self, n: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % n
    }

    fn number(&mut self) -> u32 {
        (0..4).fold(0, |sum, _| sum << 8 | self.0.next().copied().map_or(0, u32::from))
    }

    fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

const CALLS: [&str; 12] = [
    "read",
    "write",
    "ioctl",
    "clone",
    "personality",
    "socket",
    "mmap",
    "prctl",
    "fchmodat2",
    "openat",
    "kill",
    "setns",
];
const ACTIONS: [&str; 7] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
];
const OPERATORS: [&str; 7] =
    ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];
const VALUES: [u64; 10] = [0, 1, 2, 9, 0x7e02_0000, 0xffff_ffff, 1 << 32, (1 << 32) + 9, u64::MAX - 1, u64::MAX];

/// Seccomp profiles: as JSON the compiler must end with a program or a sentence; and of a profile that the bytes choose,
/// in which no call and no argument of a rule comes twice, the program must say what libseccomp's says.
pub fn seccomp(data: &[u8]) {
    let context = Context { audit_arch: AUDIT_ARCH_X86_64, fail_unknown: false };
    if data.first() == Some(&b'{') {
        let Ok(text) = std::str::from_utf8(data) else { return };
        let Ok(spec) = serde_json::from_str::<Seccomp<'_>>(text) else { return };
        if let Ok(filter) = compile(&spec, &context) {
            assert!((1..=4096).contains(&filter.program.len()));
            for nr in [0, 1, 59, 435, 0x4000_0000, u32::MAX] {
                for arch in [AUDIT_ARCH_X86_64, 0x4000_0003, 0] {
                    interpreter::run(&filter.program, &interpreter::Call { nr, arch, args: [0; 6] });
                }
            }
        }
        return;
    }
    let mut bytes = Bytes(data.iter());
    let mut left = CALLS.to_vec();
    let default = ACTIONS[bytes.below(ACTIONS.len())];
    let mut rules = Vec::new();
    while !bytes.is_empty() && !left.is_empty() {
        let name = left.remove(bytes.below(left.len()));
        let first = bytes.below(6);
        let args: Vec<_> = (0..bytes.below(4))
            .map(|n| {
                let op = OPERATORS[bytes.below(OPERATORS.len())];
                let (value, other) = (VALUES[bytes.below(VALUES.len())], VALUES[bytes.below(VALUES.len())]);
                // A value outside its mask never matches, and libseccomp drops such bits.
                let other = if op == "SCMP_CMP_MASKED_EQ" { value & other } else { other };
                serde_json::json!({"index": (first + n) % 6, "value": value, "valueTwo": other, "op": op})
            })
            .collect();
        let action = ACTIONS[bytes.below(ACTIONS.len())];
        rules.push(serde_json::json!({"names": [name], "action": action, "args": args}));
    }
    let text = serde_json::json!({"defaultAction": default, "syscalls": rules}).to_string();
    let spec: Seccomp<'_> = serde_json::from_str(&text).expect("it was written as JSON");
    let ours = compile(&spec, &context).expect("a profile of known words").program;
    let theirs = by_libseccomp(&spec);
    let number = |name: &str| ScmpSyscall::from_name(name).expect("an old call").as_raw_syscall() as u32;
    // A call newer than all that the profile names gets ENOSYS from hull, on purpose.
    let newest = spec.syscalls.iter().flat_map(|rule| rule.names.iter()).map(|name| number(name)).max().unwrap_or(0);
    let near = |value: u64| [value, value.wrapping_sub(1), value.wrapping_add(1), value ^ (1 << 32), value ^ (1 << 63)];
    for name in CALLS.iter().filter(|name| number(name) <= newest) {
        for value in VALUES.into_iter().flat_map(near) {
            for other in [0, 9, u64::MAX] {
                let args = [value, other, value, other, value, other];
                for args in [args, [other; 6], [value; 6]] {
                    let call = interpreter::Call { nr: number(name), arch: AUDIT_ARCH_X86_64, args };
                    let (have, want) = (interpreter::run(&ours, &call), interpreter::run(&theirs, &call));
                    assert_eq!(have, want, "{name} {args:x?}: hull {have:#x}, libseccomp {want:#x}\n{text}");
                }
            }
        }
    }
}

fn by_libseccomp(spec: &Seccomp<'_>) -> Vec<SockFilter> {
    let action = |name: Option<&str>| match name.expect("every rule has one") {
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(1),
        "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_TRACE" => ScmpAction::Trace(1),
        name => panic!("{name}"),
    };
    let default = action(spec.default_action.as_deref());
    let mut filter = ScmpFilterContext::new(default).expect("a context");
    for rule in &spec.syscalls {
        let verdict = action(rule.action.as_deref());
        if verdict == default {
            continue;
        }
        let syscall = ScmpSyscall::from_name(&rule.names[0]).expect("an old call");
        let args: Vec<ScmpArgCompare> = rule
            .args
            .iter()
            .map(|arg| {
                let (op, datum) = match arg.op.as_deref().expect("every condition has one") {
                    "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, arg.value),
                    "SCMP_CMP_LT" => (ScmpCompareOp::Less, arg.value),
                    "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, arg.value),
                    "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, arg.value),
                    "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, arg.value),
                    "SCMP_CMP_GT" => (ScmpCompareOp::Greater, arg.value),
                    _ => (ScmpCompareOp::MaskedEqual(arg.value), arg.value_two),
                };
                ScmpArgCompare::new(arg.index, op, datum)
            })
            .collect();
        filter.add_rule_conditional(verdict, syscall, &args).expect("a rule");
    }
    let memory = rustix::fs::memfd_create("filter", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
    let mut file = std::fs::File::from(memory);
    filter.export_bpf(&mut file).expect("a program");
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("memory can be read");
    let word = |b: &[u8]| u32::from_ne_bytes(b.try_into().expect("four bytes"));
    let op = |b: &[u8]| SockFilter { code: u16::from_ne_bytes([b[0], b[1]]), jt: b[2], jf: b[3], k: word(&b[4..8]) };
    bytes.chunks_exact(8).map(op).collect()
}

/// Mappings: taken exactly if none is empty, ends beyond the last id or overlaps, and then each id maps by its line.
pub fn id_maps(data: &[u8]) {
    let mut bytes = Bytes(data.iter());
    let mut mappings = Vec::new();
    while !bytes.is_empty() {
        // Small numbers meet more often.
        let small = bytes.below(2) == 0;
        let mut number = || if small { bytes.below(20) as u32 } else { bytes.number() };
        let (container_id, host_id, size) = (number(), number(), number());
        mappings.push(IdMapping { container_id, host_id, size, ..IdMapping::default() });
    }
    let range = |start: u32, size: u32| u64::from(start)..u64::from(start) + u64::from(size);
    let meet = |a: std::ops::Range<u64>, b: std::ops::Range<u64>| a.start < b.end && b.start < a.end;
    let bad_alone = |m: &IdMapping<'_>| {
        m.size == 0 || [m.container_id, m.host_id].iter().any(|start| range(*start, m.size).end > 1 << 32)
    };
    let overlap = |a: &IdMapping<'_>, b: &IdMapping<'_>| {
        meet(range(a.container_id, a.size), range(b.container_id, b.size))
            || meet(range(a.host_id, a.size), range(b.host_id, b.size))
    };
    let bad = mappings.len() > 340
        || mappings.iter().any(bad_alone)
        || mappings.iter().enumerate().any(|(n, a)| mappings[..n].iter().any(|b| overlap(a, b)));
    let planned = idmap::lines("uidMappings", &mappings);
    assert_eq!(planned.is_err(), bad, "{mappings:?}: {planned:?}");
    let Ok(map) = planned else { return };
    assert_eq!(idmap::text(&map).lines().count(), mappings.len());
    for line in &map {
        for id in [line.container, line.container + (line.size - 1)] {
            assert!(idmap::maps(&map, id));
        }
        let beyond = u64::from(line.container) + u64::from(line.size);
        let there = mappings.iter().any(|m| range(m.container_id, m.size).contains(&beyond));
        assert!(u32::try_from(beyond).is_err() || idmap::maps(&map, beyond as u32) == there);
    }
}

/// Lists of CPUs and nodes: what was read, written again as a list, is the same; and no number is beyond the bound.
pub fn cpu_lists(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(mask) = ranges::mask(text) else { return };
    let numbers: BTreeSet<u32> =
        (0..mask.len() as u32 * 64).filter(|n| mask[*n as usize / 64] >> (n % 64) & 1 == 1).collect();
    assert!(numbers.iter().all(|n| *n <= ranges::MOST), "{text:?}");
    assert_ne!(mask.last(), Some(&0), "{text:?}");
    let list: Vec<String> = numbers.iter().map(u32::to_string).collect();
    assert_eq!(ranges::mask(&list.join(",")), Ok(mask), "{text:?}");
    // By hand: every part names numbers of the mask, and nothing else does.
    let mut named = BTreeSet::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |digits: &str| digits.trim().parse::<u32>().expect("a list that was taken has numbers only");
        named.extend(number(first)..=number(last));
    }
    assert_eq!(named, numbers, "{text:?}");
}
