//! The program of a filter: which architecture, then a binary search for the number, then the arguments.
//!
//! The kernel runs a new filter once for each number to learn which calls are always allowed
//! (seccomp_cache_prepare), and never runs it again for those: so the search has few steps and looks at no argument
//! unless a rule has conditions.

use super::KILL_THREAD;
use super::arch::{self, Arch};
use super::bpf::{self, At, SockFilter, Writer};
use super::rules::{Calls, Condition, Outcome, Rule, Test};

/// Writes the program; calls newer than all that the profile names get `beyond`, if that is not the default.
pub(super) fn assemble(calls: &[Calls], default: u32, beyond: Option<u32>) -> Vec<SockFilter> {
    let mut writer = Writer::new();
    let mut entries: Vec<(u32, At)> = Vec::new();
    let mut ranges = Vec::new();
    for index in (0..calls.len()).rev().filter(|index| calls[*index].arch != Arch::X32) {
        ranges.clear();
        let base = calls[index].arch.base();
        if base > 0 {
            ranges.push((0, index, Outcome::Default));
        }
        calls[index].ranges(base, beyond, &mut ranges, index);
        if calls[index].arch == Arch::X86_64 {
            match calls.iter().position(|calls| calls.arch == Arch::X32) {
                Some(x32) => calls[x32].ranges(arch::X32_BIT, beyond, &mut ranges, x32),
                None => ranges.push((arch::X32_BIT, index, Outcome::Always(KILL_THREAD))),
            }
            // -1 is what a tracer makes of a call that is to be skipped: no call of x32, and no reason to kill.
            ranges.push((u32::MAX, index, Outcome::Default));
        }
        let root = tree(&mut writer, calls, &ranges, default);
        writer.fall_through(root);
        entries.push((calls[index].arch.audit_arch(), writer.statement(bpf::LD_ABS, bpf::DATA_NR)));
    }
    let mut next = writer.ret(KILL_THREAD);
    for (audit_arch, entry) in entries {
        next = writer.jump(bpf::JEQ, audit_arch, entry, next);
    }
    writer.fall_through(next);
    writer.statement(bpf::LD_ABS, bpf::DATA_ARCH);
    writer.finish()
}

/// The binary search over ranges of numbers; the number is in the accumulator.
fn tree(writer: &mut Writer, calls: &[Calls], ranges: &[(u32, usize, Outcome)], default: u32) -> At {
    if let [(_, group, outcome)] = ranges {
        return match outcome {
            Outcome::Default => writer.ret(default),
            Outcome::Always(action) => writer.ret(*action),
            Outcome::Chain(chain) => {
                let is_big_endian = arch::is_big_endian(calls[*group].arch.audit_arch());
                chain_of(writer, &calls[*group].chains[*chain], is_big_endian, default)
            }
        };
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let below = tree(writer, calls, low, default);
    let above = tree(writer, calls, high, default);
    writer.jump(bpf::JGE, high[0].0, above, below)
}

/// Rules with conditions: the first that holds decides.
fn chain_of(writer: &mut Writer, rules: &[Rule], is_big_endian: bool, default: u32) -> At {
    let mut otherwise = writer.ret(default);
    for rule in rules.iter().rev() {
        let mut then = writer.ret(rule.action);
        for condition in rule.conditions.iter().rev() {
            then = compare(writer, condition, is_big_endian, then, otherwise);
        }
        otherwise = then;
    }
    otherwise
}

/// One condition: the upper half of the argument first, where a bit of it counts: on an ABI of 32 bits none does.
fn compare(writer: &mut Writer, condition: &Condition, is_big_endian: bool, then: At, otherwise: At) -> At {
    let (yes, no) = if condition.negated { (otherwise, then) } else { (then, otherwise) };
    let (low, high) = bpf::argument(condition.argument, is_big_endian);
    let (value_low, value_high) = (condition.value as u32, (condition.value >> 32) as u32);
    let (mask_low, mask_high) = (condition.mask as u32, (condition.mask >> 32) as u32);
    let code = match condition.test {
        Test::Equal => bpf::JEQ,
        Test::AtLeast => bpf::JGE,
        Test::Above => bpf::JGT,
    };
    let mut at = writer.jump(code, value_low, yes, no);
    at = load(writer, at, low, mask_low);
    if mask_high == 0 {
        return at;
    }
    at = writer.jump(bpf::JEQ, value_high, at, no);
    if condition.test != Test::Equal {
        at = writer.jump(bpf::JGT, value_high, yes, at);
    }
    load(writer, at, high, mask_high)
}

/// Loads half an argument before `at`, which looks at it.
fn load(writer: &mut Writer, at: At, offset: u32, mask: u32) -> At {
    writer.fall_through(at);
    if mask != u32::MAX {
        writer.statement(bpf::AND, mask);
    }
    writer.statement(bpf::LD_ABS, offset)
}
