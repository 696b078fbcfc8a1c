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

fn scmp_arch(arch: Arch) -> ScmpArch {
    arch.name().parse().unwrap()
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
    by_libseccomp_for(spec, Arch::X86_64)
}

/// The same on a machine of another architecture.
fn by_libseccomp_for(spec: &spec::Seccomp<'_>, native: Arch) -> Option<Vec<SockFilter>> {
    let default = scmp_action(spec.default_action.as_deref().unwrap(), spec.default_errno_ret);
    let mut filter = ScmpFilterContext::new(default).unwrap();
    // Before another is added: a filter has one order of bytes.
    if ScmpArch::native() != scmp_arch(native) {
        filter.remove_arch(ScmpArch::native()).unwrap();
    }
    for arch in std::iter::once(native).chain(spec.architectures.iter().map(|arch| Arch::named(arch).unwrap())) {
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
    let is_big_endian = arch::is_big_endian(native.audit_arch());
    let program = bytes.chunks_exact(8).map(|b| {
        let (code, k) = ([b[0], b[1]], b[4..8].try_into().unwrap());
        let (code, k) = match is_big_endian {
            // For another order of bytes than this machine's libseccomp forgets to turn some actions round.
            true if u16::from_be_bytes(code) == bpf::RET && !is_an_action(u32::from_be_bytes(k)) => {
                (bpf::RET, u32::from_le_bytes(k))
            }
            true => (u16::from_be_bytes(code), u32::from_be_bytes(k)),
            false => (u16::from_le_bytes(code), u32::from_le_bytes(k)),
        };
        SockFilter { code, jt: b[2], jf: b[3], k }
    });
    Some(program.collect())
}

fn is_an_action(k: u32) -> bool {
    match k & ACTION_MASK {
        ERRNO => k & !ACTION_MASK <= MAX_ERRNO,
        TRACE => true,
        _ => [KILL_PROCESS, KILL_THREAD, TRAP, NOTIFY, LOG, ALLOW].contains(&k),
    }
}

/// Leaves out the names that this libseccomp is too old for.
fn retain_known(spec: &mut spec::Seccomp<'_>) {
    for rule in &mut spec.syscalls.0 {
        rule.names.0.retain(|name| ScmpSyscall::from_name(name).is_ok());
    }
}

/// The newest call that the profile names, by libseccomp's own numbers.
fn newest(spec: &spec::Seccomp<'_>, arch: Arch) -> u32 {
    let names = spec.syscalls.iter().flat_map(|rule| rule.names.iter());
    names
        .filter_map(|name| match arch.has_multiplexers() && arch::multiplexed(name).is_some() {
            // libseccomp has no number for what is also behind socketcall or ipc; runc then does not count it.
            true => arch::lookup(name).unwrap().number(arch),
            false => ScmpSyscall::from_name_by_arch(name, scmp_arch(arch))
                .ok()
                .and_then(|call| u32::try_from(call.as_raw_syscall()).ok()?.checked_sub(arch.base())),
        })
        .filter(|number| *number < arch::ARM_PRIVATE)
        .max()
        .unwrap_or(0)
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

/// Compares all calls; tells how many were compared, or the first that differs.
fn compare_all(spec: &spec::Seccomp<'_>, seed: u64) -> std::result::Result<usize, String> {
    let Some(theirs) = by_libseccomp(spec) else { return Ok(0) };
    let ours = compile(spec, &CONTEXT).unwrap().program;
    let newest = [Arch::X86_64, Arch::X32, Arch::X86].map(|arch| newest(spec, arch));
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
                if have != want {
                    return Err(format!("{call:x?}: have {have:#x}, libseccomp {want:#x}, newest {newest:?}"));
                }
                compared += 1;
            }
        }
    }
    Ok(compared)
}

#[test]
fn numbers_are_libseccomps() {
    let (mut compared, mut differ) = (0, Vec::new());
    for name in arch::names() {
        let syscall = arch::lookup(name).unwrap();
        for arch in Arch::all() {
            let Ok(number) = ScmpSyscall::from_name_by_arch(name, scmp_arch(arch)) else { continue };
            let number = u32::try_from(number.as_raw_syscall()).ok();
            let ours = syscall.number(arch).map(|number| arch.nr(number));
            // libseccomp gives these by a number of its own; what becomes of them the profile tests compare.
            let is_multiplexed = arch.has_multiplexers() && arch::multiplexed(name).is_some();
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
    assert!(compared > 8000, "{compared}");
}

#[test]
fn the_podman_profile_means_what_libseccomp_says() {
    let mut spec = parse(PROFILE);
    retain_known(&mut spec);
    assert!(compare_all(&spec, 1).unwrap() > 50_000);
    for architectures in [&[][..], &["SCMP_ARCH_X86_64"], &["SCMP_ARCH_X86"], &["SCMP_ARCH_X32"]] {
        spec.architectures = spec::List(architectures.iter().map(|name| Str::from(*name)).collect());
        assert!(compare_all(&spec, 2).unwrap() > 50_000);
    }
    spec.default_errno_ret = None;
    assert!(compare_all(&spec, 3).unwrap() > 50_000);
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
        spec.default_action = Some(action.into());
        assert!(compare_all(&spec, 4).unwrap() > 50_000);
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

/// A profile of up to 16 rules; those with conditions all have one action. A `simple` one has no name twice and no
/// argument twice in a rule.
fn random_profile(dice: &mut Dice, simple: bool) -> String {
    let default = dice.pick(&DEFAULTS);
    let values = [0, 1, 2, 9, 16, 0x7e02_0000, 0xffff_ffff, 1 << 32, (1 << 32) + 9, u64::MAX - 1, u64::MAX];
    let one = dice.pick(&ACTIONS[..8]);
    let mut left = NAMES.to_vec();
    let mut rules = Vec::new();
    for _ in 0..1 + dice.roll(12) {
        let names: Vec<String> = (0..1 + dice.roll(3).min(left.len() as u64 - 1))
            .map(|_| match simple {
                true => format!("{:?}", left.remove(dice.roll(left.len() as u64) as usize)),
                false => format!("{:?}", dice.pick(&NAMES)),
            })
            .collect();
        let first = dice.roll(4);
        let args: Vec<String> = (0..dice.roll(4))
            .map(|position| {
                let op = dice.pick(&OPERATORS);
                let index = if simple { (first + position) % 6 } else { dice.roll(4) };
                let (a, b) = (dice.pick(&values), dice.pick(&values));
                format!(r#"{{"index":{index},"value":{a},"valueTwo":{b},"op":"{op}"}}"#)
            })
            .collect();
        let action = if simple || args.is_empty() { dice.pick(&ACTIONS[..8]) } else { one };
        let errno = if action == "SCMP_ACT_ERRNO" { r#""errnoRet":13,"# } else { "" };
        let (names, args) = (names.join(","), args.join(","));
        rules.push(format!(r#"{{"names":[{names}],"action":"{action}",{errno}"args":[{args}]}}"#));
        if left.is_empty() {
            break;
        }
    }
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
    let mut compared = 0;
    for _ in 0..60 {
        let profile = random_profile(&mut dice, true);
        let calls = compare_all(&parse(&profile), 5).unwrap_or_else(|difference| panic!("{difference}\n{profile}"));
        compared += usize::from(calls > 0);
    }
    assert!(compared > 50, "{compared}");
}

/// Every ABI of a machine, by `native` and what it runs besides: each number, with arguments of the profile and next to them.
fn compare_machine(spec: &spec::Seccomp<'_>, native: Arch, dice: &mut Dice) -> std::result::Result<[usize; 2], String> {
    let Some(theirs) = by_libseccomp_for(spec, native) else { return Ok([0; 2]) };
    let ours = compile(spec, &Context { audit_arch: native.audit_arch(), fail_unknown: false }).unwrap().program;
    let permissive =
        matches!(spec.default_action.as_deref(), Some("SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE"));
    let mut values = vec![0, 1, u64::MAX, 1 << 32, u64::from(u32::MAX)];
    for arg in spec.syscalls.iter().flat_map(|rule| rule.args.iter()) {
        for value in [arg.value, arg.value_two, arg.value & arg.value_two] {
            values.extend([
                value,
                value.wrapping_sub(1),
                value.wrapping_add(1),
                value ^ (1 << 32),
                value.rotate_left(32),
            ]);
        }
    }
    let named = |arch: Arch, number: u32| {
        let name = arch::name_of(arch, number);
        spec.syscalls.iter().flat_map(|rule| rule.names.iter()).any(|one| Some(&**one) == name)
    };
    // Conditions on the first argument are lost behind a multiplexer.
    let mut behind = spec.clone();
    behind.syscalls.0.iter_mut().for_each(|rule| rule.args.0.retain(|arg| arg.index != 0));
    let (mut compared, mut unlike) = (0, 0);
    for arch in Arch::all().filter(|arch| arch.runs_on(native) && *arch != Arch::X32) {
        let listed = arch == native || spec.architectures.iter().any(|name| &**name == arch.name());
        let newest = newest(spec, arch);
        let numbers = (0..640).chain((0..16).map(|private| arch::ARM_PRIVATE + private)).map(|number| arch.nr(number));
        for nr in numbers.chain([0, 1, 3, 102, 117, 3999, 4999, 5999]) {
            let number = nr.checked_sub(arch.base());
            // semtimedop of s390x: where programs of 31 bits are, no call is behind that number, and libseccomp has none.
            if arch == Arch::S390 && number == Some(392) {
                continue;
            }
            let multiplexer =
                arch.has_multiplexers() && number.is_some_and(|number| [arch::SOCKETCALL, arch::IPC].contains(&number));
            for round in 0..if multiplexer { 60 } else { 12 } {
                let mut args = std::array::from_fn(|_| dice.pick(&values));
                if multiplexer {
                    args[0] = round % 30;
                }
                if arch.is_32_bit() {
                    args = args.map(|arg| arg & u64::from(u32::MAX));
                }
                let call = Call { nr, arch: arch.audit_arch(), args };
                let newer = number.is_some_and(|number| match number {
                    private if private >= arch::ARM_PRIVATE => !named(arch, private),
                    number => number > newest,
                });
                let want = match newer && listed && !permissive && newest > 0 {
                    true => ERRNO | ENOSYS,
                    false => run(&theirs, &call),
                };
                let have = run(&ours, &call);
                compared += 1;
                // Where libseccomp's tree says something else than the rules (NE of a value whose lower half is 0, for one; calls behind socketcall).
                let agrees_with_the_book = || {
                    let number = number.unwrap_or(u32::MAX);
                    let width = if arch.is_32_bit() { u64::from(u32::MAX) } else { u64::MAX };
                    let direct = arch::name_of(arch, number).map(|name| by_the_book(spec, name, &args, width));
                    let is_meant = |name: &&str| multiplexer && arch::multiplexed(name) == Some((number, args[0]));
                    let meant = arch::names().find(is_meant).map(|name| by_the_book(&behind, name, &args, width));
                    listed && (direct == Some(have) || meant == Some(have))
                };
                if have != want && agrees_with_the_book() {
                    unlike += 1;
                } else if have != want {
                    return Err(format!("{arch:?} {call:x?}: have {have:#x}, libseccomp {want:#x}, newest {newest}"));
                }
            }
        }
    }
    Ok([compared, unlike])
}

/// For each machine that libseccomp knows: the profile of an engine, and profiles at random, with and without what the
/// machine runs besides.
#[test]
fn every_machine_has_libseccomps_verdicts() {
    let mut dice = Dice(0xa2c4);
    for native in Arch::all().filter(|arch| *arch != Arch::X32) {
        let besides: Vec<_> = Arch::all().filter(|arch| *arch != native && arch.runs_on(native)).collect();
        let mut profile = parse(PROFILE);
        retain_known(&mut profile);
        let (mut compared, mut unlike) = (0, 0);
        for listed in [&[][..], &besides] {
            profile.architectures = spec::List(listed.iter().map(|arch| Str::from(arch.name())).collect());
            let [calls, none] =
                compare_machine(&profile, native, &mut dice).unwrap_or_else(|e| panic!("{native:?}: {e}"));
            assert!(calls > 5000 && none == 0, "{native:?}: {calls}, {none}");
            for _ in 0..12 {
                let json = random_profile(&mut dice, true);
                let mut spec = parse(&json);
                spec.architectures = spec::List(listed.iter().map(|arch| Str::from(arch.name())).collect());
                let calls = compare_machine(&spec, native, &mut dice);
                let calls = calls.unwrap_or_else(|difference| panic!("{native:?}: {difference}\n{json}"));
                (compared, unlike) = (compared + calls[0], unlike + calls[1]);
            }
        }
        assert!(compared > 50_000 && unlike * 100 < compared, "{native:?}: {compared}, {unlike}");
    }
}

/// The upper half of the first argument of socketcall(2) is none of the kernel's business, so it lets no denied call through.
#[test]
fn a_denied_call_is_denied_behind_socketcall_whatever_the_upper_half_is() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ERRNO"}]}"#;
    for arch in [Arch::S390x, Arch::Ppc64le, Arch::Ppc64] {
        let context = Context { audit_arch: arch.audit_arch(), fail_unknown: false };
        let program = compile(&parse(json), &context).unwrap().program;
        for (which, want) in [(1, ERRNO | EPERM), (1 << 32 | 1, ERRNO | EPERM), (2, ALLOW), (1 << 32, ALLOW)] {
            let call = Call { nr: arch::SOCKETCALL, arch: arch.audit_arch(), args: [which, 0, 0, 0, 0, 0] };
            assert_eq!(run(&program, &call), want, "{arch:?} {which:#x}");
        }
    }
}

/// What a profile says about a call, read rule by rule; `width` has the bits of an argument.
fn by_the_book(spec: &spec::Seccomp<'_>, name: &str, args: &[u64; 6], width: u64) -> u32 {
    let default = default_action(spec).unwrap();
    let rules = spec.syscalls.iter().filter(|rule| rule.names.iter().any(|n| &**n == name));
    let rules: Vec<_> = rules
        .map(|rule| (action(rule.action.as_ref(), rule.errno_ret, "", String::new).unwrap(), rule))
        .filter(|(action, _)| *action != default)
        .collect();
    let some_or_all = |rule: &spec::SyscallRule<'_>, holds: &dyn Fn(&spec::SyscallArg<'_>) -> bool| {
        let twice = rule.args.iter().enumerate().any(|(n, a)| rule.args[..n].iter().any(|b| a.index == b.index));
        if twice { rule.args.iter().any(holds) } else { rule.args.iter().all(holds) }
    };
    let idle = |arg: &spec::SyscallArg<'_>| arg.op.as_deref() == Some("SCMP_CMP_MASKED_EQ") && arg.value & width == 0;
    if let Some((action, _)) = rules.iter().find(|(_, rule)| some_or_all(rule, &idle)) {
        return *action;
    }
    let holds = |arg: &spec::SyscallArg<'_>| {
        let (value, wanted) = (args[arg.index as usize] & width, arg.value & width);
        match arg.op.as_deref().unwrap() {
            "SCMP_CMP_NE" => value != wanted,
            "SCMP_CMP_LT" => value < wanted,
            "SCMP_CMP_LE" => value <= wanted,
            "SCMP_CMP_EQ" => value == wanted,
            "SCMP_CMP_GE" => value >= wanted,
            "SCMP_CMP_GT" => value > wanted,
            _ => value & wanted == arg.value_two & wanted,
        }
    };
    let matches = |rule: &spec::SyscallRule<'_>| some_or_all(rule, &holds);
    rules.iter().find(|(_, rule)| matches(rule)).map_or(default, |(action, _)| *action)
}

#[test]
fn many_rules_for_one_call_mean_what_they_say() {
    // No oracle: libseccomp merges such rules into one tree, and some of its trees allow what no rule allows.
    let mut dice = Dice(0xb00c);
    let values = [0, 1, 2, 8, 9, 10, 16, 17, 0x7e02_0000, 0xffff_ffff, 1 << 32, (1 << 32) + 9, u64::MAX - 1, u64::MAX];
    for _ in 0..200 {
        let profile = random_profile(&mut dice, false);
        let spec = parse(&profile);
        let program = compile(&spec, &CONTEXT).unwrap().program;
        for name in spec.syscalls.iter().flat_map(|rule| rule.names.iter()) {
            for (arch, number, width) in [(Arch::X86_64, X86_64, u64::MAX), (Arch::X86, X86, u64::from(u32::MAX))] {
                let listed = arch == Arch::X86_64 || spec.architectures.iter().any(|arch| &**arch == "SCMP_ARCH_X86");
                // These have the rules of the calls behind them, too.
                let number_of = arch::lookup(name).unwrap().number(arch).filter(|_| listed);
                let Some(nr) =
                    number_of.filter(|nr| arch == Arch::X86_64 || ![arch::SOCKETCALL, arch::IPC].contains(nr))
                else {
                    continue;
                };
                for _ in 0..100 {
                    let args = std::array::from_fn(|_| dice.pick(&values) & width);
                    let have = run(&program, &Call { nr, arch: number, args });
                    let want = by_the_book(&spec, name, &args, width);
                    assert_eq!(have, want, "{name} {arch:?} {args:x?}\n{profile}");
                }
            }
        }
    }
}

/// Rules of one call with one action, on one argument or two. Where libseccomp's tree says something else than its
/// rules, hull is with the rules.
#[test]
fn rules_that_overlap_mean_what_libseccomp_or_else_the_book_says() {
    let mut dice = Dice(0x77);
    let values = [0, 1, 2, 8, 9, 10, 15, 16, 0xffff_ffff, 1 << 32, (1 << 32) + 9, 9 << 32, u64::MAX - 1, u64::MAX];
    let (mut compared, mut alike) = (0, 0);
    for _ in 0..300 {
        let rules: Vec<String> = (0..1 + dice.roll(3))
            .map(|_| {
                let first = dice.roll(2);
                let args: Vec<String> = (0..1 + dice.roll(2))
                    .map(|position| {
                        let (op, a, b) = (dice.pick(&OPERATORS), dice.pick(&values), dice.pick(&values));
                        let index = (first + position) % 2;
                        format!(r#"{{"index":{index},"value":{a},"valueTwo":{b},"op":"{op}"}}"#)
                    })
                    .collect();
                format!(r#"{{"names":["ioctl"],"action":"SCMP_ACT_TRAP","args":[{}]}}"#, args.join(","))
            })
            .collect();
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"syscalls":[{}]}}"#,
            rules.join(",")
        );
        let spec = parse(&json);
        // The same rule twice is an error there.
        let Some(theirs) = by_libseccomp(&spec) else { continue };
        let ours = compile(&spec, &CONTEXT).unwrap().program;
        let mut agree = true;
        for (a, b) in values.iter().flat_map(|a| values.map(|b| (*a, b))) {
            for (nr, arch, width) in [(16, X86_64, u64::MAX), (54, X86, u64::from(u32::MAX))] {
                let args = [a & width, b & width, 0, 0, 0, 0];
                let call = Call { nr, arch, args };
                let have = run(&ours, &call);
                assert_eq!(have, by_the_book(&spec, "ioctl", &args, width), "{call:x?} {json}");
                agree &= have == run(&theirs, &call);
            }
        }
        compared += 1;
        alike += usize::from(agree);
    }
    assert!(compared > 250 && alike * 10 > compared * 8, "{alike} of {compared}");
}

/// Which of two overlapping rules wins when their actions differ.
#[test]
fn overlapping_rules_are_tried_in_libseccomps_order() {
    let points = [0_u64, 1, 2, 3, 8, 9, 10, 16, 17, u64::MAX];
    let mut compared = 0;
    for case in 0..2 * 7 * 7 * 4 * 4 {
        let (second, op1, op2) = (case % 2, OPERATORS[case / 2 % 7], OPERATORS[case / 14 % 7]);
        let (v1, v2) = ([1, 2, 9, 16][case / 98 % 4], [1, 2, 9, 16][case / 392 % 4]);
        let equality = |op| matches!(op, "SCMP_CMP_NE" | "SCMP_CMP_MASKED_EQ" | "SCMP_CMP_EQ");
        let masked = op1 == "SCMP_CMP_MASKED_EQ" || op2 == "SCMP_CMP_MASKED_EQ";
        let both_unequal = op1 == "SCMP_CMP_NE" && op2 == "SCMP_CMP_NE";
        if second == 0 && equality(op1) && equality(op2) && (masked || both_unequal) {
            // libseccomp's order hangs on details of its tree there.
            continue;
        }
        let rule = |action, index, value, op| {
            format!(
                r#"{{"names":["ioctl"],"action":"{action}","args":[
                {{"index":{index},"value":{value},"valueTwo":{two},"op":"{op}"}}]}}"#,
                two = value | 0x400
            )
        };
        let (first, other) = (rule("SCMP_ACT_TRAP", 0, v1, op1), rule("SCMP_ACT_LOG", second, v2, op2));
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{first},{other}]}}"#);
        let spec = parse(&json);
        let Some(theirs) = by_libseccomp(&spec) else { continue };
        let ours = compile(&spec, &CONTEXT).unwrap().program;
        for (a, b) in points.iter().flat_map(|a| points.map(|b| (*a, b))) {
            let call = Call { nr: 16, arch: X86_64, args: [a, b, 0, 0, 0, 0] };
            assert_eq!(run(&ours, &call), run(&theirs, &call), "{a} {b} {json}");
        }
        compared += 1;
    }
    assert!(compared > 1000, "{compared}");
}

/// seccompiler as a second opinion: one condition on one call, on x86_64.
#[test]
fn single_conditions_mean_what_seccompiler_says() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter};
    let values = [0, 1, 0xffff_ffff, 1 << 32, (1 << 32) + 9, u64::MAX];
    for (op, value) in OPERATORS.into_iter().flat_map(|op| values.map(|value| (op, value))) {
        let theirs = match op {
            "SCMP_CMP_NE" => SeccompCmpOp::Ne,
            "SCMP_CMP_LT" => SeccompCmpOp::Lt,
            "SCMP_CMP_LE" => SeccompCmpOp::Le,
            "SCMP_CMP_EQ" => SeccompCmpOp::Eq,
            "SCMP_CMP_GE" => SeccompCmpOp::Ge,
            "SCMP_CMP_GT" => SeccompCmpOp::Gt,
            _ => SeccompCmpOp::MaskedEq(value),
        };
        let condition = SeccompCondition::new(3, SeccompCmpArgLen::Qword, theirs, value).unwrap();
        let rule = seccompiler::SeccompRule::new(vec![condition]).unwrap();
        let (default, action) = (SeccompAction::Log, SeccompAction::Trap);
        let filter =
            SeccompFilter::new([(16, vec![rule])].into(), default, action, seccompiler::TargetArch::x86_64).unwrap();
        let theirs: Vec<SockFilter> = BpfProgram::try_from(filter)
            .unwrap()
            .iter()
            .map(|op| SockFilter { code: op.code, jt: op.jt, jf: op.jf, k: op.k })
            .collect();
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_LOG","syscalls":[{{"names":["ioctl"],"action":"SCMP_ACT_TRAP",
            "args":[{{"index":3,"value":{value},"valueTwo":{value},"op":"{op}"}}]}}]}}"#
        );
        let ours = compile(&parse(&json), &CONTEXT).unwrap().program;
        for near in values.iter().flat_map(|v| [v.wrapping_sub(1), *v, v.wrapping_add(1), v ^ (1 << 63)]) {
            let call = Call { nr: 16, arch: X86_64, args: [0, 0, 0, near, 0, 0] };
            assert_eq!(run(&ours, &call), run(&theirs, &call), "{op} {value:#x}, argument {near:#x}");
        }
    }
}

/// Not a test: prints what compiling the profile of an engine costs. `cargo test --release -- --ignored --nocapture`
#[test]
#[ignore = "prints a measurement"]
fn measure_compile_time() {
    let spec = parse(PROFILE);
    let (mut times, mut len) = (Vec::new(), 0);
    for _ in 0..200 {
        let start = std::time::Instant::now();
        len = compile(&spec, &CONTEXT).unwrap().program.len();
        times.push(start.elapsed());
    }
    let theirs = std::time::Instant::now();
    let their_len = by_libseccomp(&spec).unwrap().len();
    let theirs = theirs.elapsed();
    let first = times[0];
    times.sort();
    println!("hull: {len} instructions, first {first:?}, median {:?}", times[100]);
    println!("libseccomp: {their_len} instructions, {theirs:?}");
}
