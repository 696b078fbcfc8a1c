//! For tests: the same profiles by libseccomp, and the verdicts of both compared call by call.
//!
//! What differs on purpose is spelt out in [`expected`]: calls newer than those that the profile names.

use std::io::{Read, Seek};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

use super::bpf::SockFilter;
use super::interpreter::{Call, run};
use super::*;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const CONTEXT: Context = Context { audit_arch: X86_64, fail_unknown: false };
const PROFILE: &str = include_str!("../../../bundles/podman-like/seccomp.json");

fn parse(json: &str) -> spec::Seccomp<'_> {
    serde_json::from_str(json).unwrap()
}

fn scmp_action(name: &str, errno: Option<u32>) -> ScmpAction {
    match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(errno.unwrap_or(1) as i32),
        "SCMP_ACT_TRACE" => ScmpAction::Trace(errno.unwrap_or(1) as u16),
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_NOTIFY" => ScmpAction::Notify,
        _ => panic!("{name}"),
    }
}

fn scmp_arch(name: &str) -> ScmpArch {
    match name {
        "SCMP_ARCH_X86_64" => ScmpArch::X8664,
        "SCMP_ARCH_X86" => ScmpArch::X86,
        "SCMP_ARCH_X32" => ScmpArch::X32,
        _ => panic!("{name}"),
    }
}

fn scmp_compare(arg: &spec::SyscallArg<'_>) -> ScmpArgCompare {
    let op = match arg.op.as_deref().unwrap() {
        "SCMP_CMP_NE" => ScmpCompareOp::NotEqual,
        "SCMP_CMP_LT" => ScmpCompareOp::Less,
        "SCMP_CMP_LE" => ScmpCompareOp::LessOrEqual,
        "SCMP_CMP_EQ" => ScmpCompareOp::Equal,
        "SCMP_CMP_GE" => ScmpCompareOp::GreaterEqual,
        "SCMP_CMP_GT" => ScmpCompareOp::Greater,
        "SCMP_CMP_MASKED_EQ" => ScmpCompareOp::MaskedEqual(arg.value),
        op => panic!("{op}"),
    };
    let datum = if matches!(op, ScmpCompareOp::MaskedEqual(_)) { arg.value_two } else { arg.value };
    ScmpArgCompare::new(arg.index, op, datum)
}

/// The filter that a runtime on libseccomp would load; none if libseccomp refuses the profile.
fn by_libseccomp(spec: &spec::Seccomp<'_>) -> Option<Vec<SockFilter>> {
    let default = scmp_action(spec.default_action.as_deref().unwrap(), spec.default_errno_ret);
    let mut filter = ScmpFilterContext::new(default).unwrap();
    for arch in &spec.architectures {
        filter.add_arch(scmp_arch(arch)).unwrap();
    }
    for rule in &spec.syscalls {
        let action = scmp_action(rule.action.as_deref().unwrap(), rule.errno_ret);
        if action == default {
            continue;
        }
        let args: Vec<_> = rule.args.iter().map(scmp_compare).collect();
        let twice = rule.args.iter().enumerate().any(|(n, a)| rule.args[..n].iter().any(|b| a.index == b.index));
        for name in &rule.names {
            let Ok(syscall) = ScmpSyscall::from_name(name) else { continue };
            let result = match (args.is_empty(), twice) {
                (true, _) => filter.add_rule(action, syscall).map(|_| ()),
                (false, false) => filter.add_rule_conditional(action, syscall, &args).map(|_| ()),
                (false, true) => {
                    args.iter().try_for_each(|arg| filter.add_rule_conditional(action, syscall, &[*arg]).map(|_| ()))
                }
            };
            result.ok()?;
        }
    }
    let mut file = std::fs::File::from(rustix::fs::memfd_create("filter", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    filter.export_bpf(&mut file).unwrap();
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    let word = |b: &[u8]| u32::from_ne_bytes(b.try_into().unwrap());
    let program = bytes.chunks_exact(8).map(|b| SockFilter {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: word(&b[4..8]),
    });
    Some(program.collect())
}

/// Leaves out the names that this libseccomp is too old for.
fn retain_known(spec: &mut spec::Seccomp<'_>) {
    for rule in &mut spec.syscalls.0 {
        rule.names.0.retain(|name| ScmpSyscall::from_name(name).is_ok());
    }
}

/// The newest call that the profile names, by libseccomp's own numbers.
fn newest(spec: &spec::Seccomp<'_>, arch: ScmpArch) -> u32 {
    let names = spec.syscalls.iter().flat_map(|rule| rule.names.iter());
    names
        .filter_map(|name| ScmpSyscall::from_name_by_arch(name, arch).ok())
        .filter_map(|syscall| u32::try_from(syscall.as_raw_syscall()).ok())
        .max()
        .map_or(0, |number| number & !arch::X32_BIT)
}

/// libseccomp's verdict, or ENOSYS for calls that are newer than all that the profile names.
fn expected(spec: &spec::Seccomp<'_>, newest: &[u32; 3], program: &[SockFilter], call: &Call) -> u32 {
    let verdict = run(program, call);
    let permissive =
        matches!(spec.default_action.as_deref(), Some("SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE"));
    let listed = |name: &str| spec.architectures.iter().any(|arch| &**arch == name);
    let (newest, present) = match call.arch {
        X86_64 if call.nr == u32::MAX => return verdict,
        X86_64 if call.nr < arch::X32_BIT => (newest[0], true),
        X86_64 => (newest[1], listed("SCMP_ARCH_X32")),
        X86 => (newest[2], listed("SCMP_ARCH_X86")),
        _ => return verdict,
    };
    let number = if call.arch == X86_64 { call.nr & !arch::X32_BIT } else { call.nr };
    if present && !permissive && newest > 0 && number > newest { ERRNO | ENOSYS } else { verdict }
}

/// A small generator of numbers, the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % below
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize]
    }
}

/// Compares all calls; returns how many were compared.
fn compare_all(spec: &spec::Seccomp<'_>, seed: u64) -> usize {
    let Some(theirs) = by_libseccomp(spec) else { return 0 };
    let ours = compile(spec, &CONTEXT).unwrap().program;
    let newest = [newest(spec, ScmpArch::X8664), newest(spec, ScmpArch::X32), newest(spec, ScmpArch::X86)];
    let mut values = vec![0, 1, u64::MAX, 1 << 32, u64::from(u32::MAX)];
    for arg in spec.syscalls.iter().flat_map(|rule| rule.args.iter()) {
        for value in [arg.value, arg.value_two, arg.value & arg.value_two] {
            values.extend([value, value.wrapping_sub(1), value.wrapping_add(1), value ^ (1 << 32), value ^ (1 << 63)]);
            values.extend([value.wrapping_add(1 << 32), value.wrapping_sub(1 << 32), value & u64::from(u32::MAX)]);
        }
    }
    let mut dice = Dice(seed);
    let mut compared = 0;
    let numbers = (0..640).chain([1 << 29, arch::X32_BIT - 1, u32::MAX, u32::MAX - 1, 1 << 31]);
    let numbers = numbers.chain(arch::X32_BIT..arch::X32_BIT + 640);
    for nr in numbers {
        for arch in [X86_64, X86, AARCH64] {
            let mut calls: Vec<[u64; 6]> = (0..24).map(|_| std::array::from_fn(|_| dice.pick(&values))).collect();
            if arch == X86 && (nr == arch::SOCKETCALL || nr == arch::IPC) {
                calls.extend((0..26).map(|which| [which, dice.pick(&values), dice.pick(&values), 9, 0, 0]));
            }
            for args in calls {
                // i386 has registers of 32 bits: the kernel never shows more.
                let args = if arch == X86 { args.map(|a| a & u64::from(u32::MAX)) } else { args };
                let call = Call { nr, arch, args };
                let (want, have) = (expected(spec, &newest, &theirs, &call), run(&ours, &call));
                assert_eq!(have, want, "{call:x?}: have {have:#x}, libseccomp {want:#x}, newest {newest:?}");
                compared += 1;
            }
        }
    }
    compared
}

#[test]
fn numbers_are_libseccomps() {
    let (mut compared, mut differ) = (0, Vec::new());
    for name in arch::names() {
        let syscall = arch::lookup(name).unwrap();
        for (arch, theirs) in [
            (Arch::X86_64, ScmpArch::X8664),
            (Arch::X86, ScmpArch::X86),
            (Arch::X32, ScmpArch::X32),
            (Arch::Aarch64, ScmpArch::Aarch64),
            (Arch::Arm, ScmpArch::Arm),
        ] {
            let Ok(number) = ScmpSyscall::from_name_by_arch(name, theirs) else { continue };
            let number = u32::try_from(number.as_raw_syscall()).ok();
            let ours = syscall.number(arch).map(|n| if arch == Arch::X32 { n | arch::X32_BIT } else { n });
            // libseccomp gives these by a number of its own; what becomes of them the profile tests compare.
            let is_multiplexed = arch == Arch::X86 && arch::multiplexed(name).is_some();
            // The kernel's headers have both, libseccomp has not.
            let is_missing_there =
                matches!((name, arch), ("map_shadow_stack", Arch::X32) | ("sync_file_range2", Arch::Arm));
            if ours != number && !is_multiplexed && !is_missing_there {
                differ.push(format!("{name} on {arch:?}: {ours:?}, libseccomp {number:?}"));
            }
            compared += 1;
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
    assert!(compared > 2000, "{compared}");
}

#[test]
fn the_podman_profile_means_what_libseccomp_says() {
    let mut spec = parse(PROFILE);
    retain_known(&mut spec);
    assert!(compare_all(&spec, 1) > 50_000);
    for architectures in [&[][..], &["SCMP_ARCH_X86_64"], &["SCMP_ARCH_X86"], &["SCMP_ARCH_X32"]] {
        spec.architectures = spec::List(architectures.iter().map(|name| Str::from(*name)).collect());
        assert!(compare_all(&spec, 2) > 50_000);
    }
    spec.default_errno_ret = None;
    assert!(compare_all(&spec, 3) > 50_000);
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
        spec.default_action = Some(action.into());
        assert!(compare_all(&spec, 4) > 50_000);
    }
}

const NAMES: [&str; 22] = [
    "read",
    "write",
    "ioctl",
    "clone",
    "personality",
    "socket",
    "accept",
    "accept4",
    "send",
    "sendmsg",
    "recvmmsg",
    "sendmmsg",
    "semop",
    "semget",
    "shmat",
    "msgctl",
    "socketcall",
    "ipc",
    "umount",
    "mmap",
    "prctl",
    "fchmodat2",
];
const DEFAULTS: [&str; 5] =
    ["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"];

/// A profile of up to 16 rules; those with conditions all have one action unless `mixed`.
fn random_profile(dice: &mut Dice, mixed: bool) -> String {
    let default = dice.pick(&DEFAULTS);
    let values = [0, 1, 2, 9, 16, 0x7e02_0000, 0xffff_ffff, 1 << 32, (1 << 32) + 9, u64::MAX - 1, u64::MAX];
    let one = dice.pick(&ACTIONS[..8]);
    let rules: Vec<String> = (0..1 + dice.roll(16))
        .map(|_| {
            let names: Vec<String> = (0..1 + dice.roll(3)).map(|_| format!("{:?}", dice.pick(&NAMES))).collect();
            let args: Vec<String> = (0..dice.roll(4))
                .map(|_| {
                    let op = dice.pick(&OPERATORS);
                    let (index, a, b) = (dice.roll(4), dice.pick(&values), dice.pick(&values));
                    // A value outside its mask never matches, and libseccomp drops such bits: not worth a profile.
                    let b = if op == "SCMP_CMP_MASKED_EQ" { a & b } else { b };
                    format!(r#"{{"index":{index},"value":{a},"valueTwo":{b},"op":"{op}"}}"#)
                })
                .collect();
            let action = if mixed || args.is_empty() { dice.pick(&ACTIONS[..8]) } else { one };
            let errno = if action == "SCMP_ACT_ERRNO" { r#""errnoRet":13,"# } else { "" };
            format!(r#"{{"names":[{}],"action":"{action}",{errno}"args":[{}]}}"#, names.join(","), args.join(","))
        })
        .collect();
    let arches = dice.pick(&[
        "",
        r#""SCMP_ARCH_X86""#,
        r#""SCMP_ARCH_X86_64","SCMP_ARCH_X32""#,
        r#""SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32""#,
    ]);
    format!(r#"{{"defaultAction":"{default}","architectures":[{arches}],"syscalls":[{}]}}"#, rules.join(","))
}

#[test]
fn random_profiles_mean_what_libseccomp_says() {
    let mut dice = Dice(0x5eed);
    let compared = (0..60).filter(|_| compare_all(&parse(&random_profile(&mut dice, false)), 5) > 0).count();
    // libseccomp refuses some (two rules on the same arguments with different actions).
    assert!(compared > 40, "{compared}");
}
