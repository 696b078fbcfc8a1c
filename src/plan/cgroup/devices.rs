//! Device rules: of those that match a device the last one holds, for each kind of access.
//!
//! v1's controller has a default and the exceptions from it, and knows no exception from an exception: what comes to one is
//! refused there, since the kernel would take the line and do nothing. For v2 the rules become a program
//! (BPF_PROG_TYPE_CGROUP_DEVICE), which can say all of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::spec;

/// Making a node.
pub const MKNOD: u32 = 1;
/// Opening for reading.
pub const READ: u32 = 2;
/// Opening for writing.
pub const WRITE: u32 = 4;
const ALL: u32 = MKNOD | READ | WRITE;
/// Rules, in order, from the last one that is about everything.
const MAX_RULES: usize = 5000;
/// The longest jump still fits into the 15 bits that it has.
const MAX_INSTRUCTIONS: usize = 32_000;

/// Block or character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Block device (BPF_DEVCG_DEV_BLOCK).
    Block,
    /// Character device (BPF_DEVCG_DEV_CHAR).
    Char,
}

/// One exception; None: any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// Block or character.
    pub kind: Kind,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// Of [`MKNOD`], [`READ`], [`WRITE`].
    pub access: u32,
}

impl Exception {
    fn key(&self) -> Key {
        (self.kind, self.major, self.minor)
    }

    /// Every device of the other one is one of this.
    fn covers(&self, other: &Exception) -> bool {
        self.kind == other.kind
            && self.major.is_none_or(|major| other.major == Some(major))
            && self.minor.is_none_or(|minor| other.minor == Some(minor))
    }

    /// Some device is one of both.
    fn meets(&self, other: &Exception) -> bool {
        let same = |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
        self.kind == other.kind && same(self.major, other.major) && same(self.minor, other.minor)
    }

    /// As a line for v1.
    fn line(&self) -> String {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let kind = if self.kind == Kind::Block { 'b' } else { 'c' };
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        let access: String =
            letters.iter().filter(|(bit, _)| self.access & bit != 0).map(|(_, letter)| *letter).collect();
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

type Key = (Kind, Option<u32>, Option<u32>);

/// One rule, in its order; `index` is its place in config.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    what: Exception,
    index: Option<usize>,
}

/// What v1 cannot hold: a rule that takes back a part of an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hole {
    part: Exception,
    by: Option<usize>,
    of: Option<usize>,
    whole: Exception,
}

/// What holds at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRules {
    /// Everything is allowed but the exceptions; else nothing but them.
    pub allow_by_default: bool,
    /// The exceptions, without what is taken back from a part of one.
    pub exceptions: Vec<Exception>,
    rules: Vec<Rule>,
    hole: Option<Hole>,
}

/// What a container always may, after config.json's rules: a default bundle denies everything and then makes and opens
/// these (null, zero, full, random, urandom, tty, console, ptmx, pts, tun), as runc has it. Where config.json allows
/// everything but some, nodes of these cannot be made either.
const IMPLICIT: [(Kind, Option<u32>, Option<u32>, u32); 11] = [
    (Kind::Char, None, None, MKNOD),
    (Kind::Block, None, None, MKNOD),
    (Kind::Char, Some(1), Some(3), ALL),
    (Kind::Char, Some(1), Some(5), ALL),
    (Kind::Char, Some(1), Some(7), ALL),
    (Kind::Char, Some(1), Some(8), ALL),
    (Kind::Char, Some(1), Some(9), ALL),
    (Kind::Char, Some(5), Some(0), ALL),
    (Kind::Char, Some(5), Some(2), ALL),
    (Kind::Char, Some(136), None, ALL),
    (Kind::Char, Some(10), Some(200), ALL),
];

impl DeviceRules {
    /// Replays /linux/resources/devices and the implicit rules, from "deny all".
    pub fn new(rules: &[spec::DeviceRule<'_>], notes: &mut Vec<String>) -> Result<DeviceRules> {
        let (mut allow_by_default, mut list) = (false, Vec::new());
        for (index, rule) in rules.iter().enumerate() {
            let pointer = |field: &str| format!("/linux/resources/devices/{index}/{field}");
            let number = |field: &str, value: Option<i64>| match value {
                None | Some(-1) => Ok(None),
                Some(n) => u32::try_from(n)
                    .map(Some)
                    .map_err(|_| Error::spec(pointer(field), format_args!("{n} is no device number"))),
            };
            let (major, minor) = (number("major", rule.major)?, number("minor", rule.minor)?);
            let letters = rule.access.as_deref().unwrap_or("rwm");
            let known: String = letters.chars().filter(|letter| "rwm".contains(*letter)).collect();
            // What is allowed without an unknown letter is no more than was asked for; what is denied may be less.
            if known != letters && (known.is_empty() || !rule.allow) {
                return Err(Error::spec(pointer("access"), "may hold r, w and m only"));
            } else if known != letters {
                notes.push(format!("config.json: {}: {letters:?} is taken as {known:?}", pointer("access")));
            }
            let access = access(&known);
            let kinds: &[Kind] = match rule.kind.as_deref() {
                None | Some("" | "a") => {
                    if access == ALL && major.is_none() && minor.is_none() {
                        allow_by_default = rule.allow;
                        list.clear();
                        continue;
                    }
                    &[Kind::Block, Kind::Char]
                }
                Some("b") => &[Kind::Block],
                Some("c" | "u") => &[Kind::Char],
                Some(other) => {
                    return Err(Error::spec(pointer("type"), format_args!("must be a, b or c, is {other:?}")));
                }
            };
            for &kind in kinds {
                let what = Exception { kind, major, minor, access };
                list.push(Rule { allow: rule.allow, what, index: Some(index) });
            }
        }
        for (kind, major, minor, access) in IMPLICIT {
            let access = if allow_by_default { access & !MKNOD } else { access };
            if access != 0 {
                list.push(Rule { allow: true, what: Exception { kind, major, minor, access }, index: None });
            }
        }
        DeviceRules::replay(allow_by_default, list)
    }

    fn replay(allow_by_default: bool, rules: Vec<Rule>) -> Result<DeviceRules> {
        let too_many = |n: usize, most: usize, what: &str| {
            Error::spec("/linux/resources/devices", format_args!("come to {n} {what}; {most} are possible"))
        };
        if rules.len() > MAX_RULES {
            return Err(too_many(rules.len(), MAX_RULES, "rules"));
        }
        let mut replay = Replay::default();
        for rule in &rules {
            if rule.allow == allow_by_default {
                replay.take_back(rule);
            } else {
                replay.add(rule);
            }
        }
        let Replay { found, holes, .. } = replay;
        let mut exceptions: Vec<Exception> = found.iter().map(|(what, _)| *what).filter(|e| e.access != 0).collect();
        if !allow_by_default {
            complete(&mut exceptions);
        }
        let hole = holes.into_iter().find(|hole| hole.part.access != 0);
        let result = DeviceRules { allow_by_default, exceptions, rules, hole };
        let size: usize = [Kind::Block, Kind::Char].iter().map(|&kind| result.numbers(kind).size()).sum();
        if size > MAX_INSTRUCTIONS {
            return Err(too_many(size, MAX_INSTRUCTIONS, "instructions of a program"));
        }
        Ok(result)
    }

    /// Why v1 cannot have these rules: it takes each line and leaves the exception whole.
    pub fn check_v1(&self) -> Result<()> {
        let Some(hole) = &self.hole else { return Ok(()) };
        let rule = |index: Option<usize>| index.map_or("what every container may".to_owned(), |i| format!("rule {i}"));
        let pointer = format!("/linux/resources/devices/{}", hole.by.or(hole.of).unwrap_or_default());
        let (wide, narrow) = if self.allow_by_default { ("denied", "allows") } else { ("allowed", "denies") };
        let what = format!(
            "{}, which {} {}, is {wide} by {} ({}): cgroup v1 cannot make an exception from an exception",
            hole.part.line(),
            rule(hole.by),
            narrow,
            rule(hole.of),
            hole.whole.line(),
        );
        Err(Error::spec(pointer, what))
    }

    /// What holds while init makes nodes, if that is more: config.json may list a node that its rules deny, which is then
    /// there and cannot be opened. To make a node gives nobody a device.
    pub fn while_nodes_are_made(&self) -> Option<DeviceRules> {
        if !self.allow_by_default || self.exceptions.iter().all(|exception| exception.access & MKNOD == 0) {
            return None;
        }
        let without = |what: Exception| Exception { access: what.access & !MKNOD, ..what };
        let mut lenient = self.clone();
        lenient.exceptions = self.exceptions.iter().copied().map(without).filter(|what| what.access != 0).collect();
        lenient.rules.retain_mut(|rule| {
            rule.what = without(rule.what);
            rule.what.access != 0
        });
        Some(lenient)
    }

    /// Whether these rules deny anything.
    pub fn deny_something(&self) -> bool {
        !(self.allow_by_default && self.exceptions.is_empty())
    }

    /// The lines for v1: the file and what is written, in order.
    pub fn v1_lines(&self) -> Vec<(&'static str, String)> {
        let (first, rest) =
            if self.allow_by_default { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
        let mut lines = vec![(first, "a".to_owned())];
        lines.extend(self.exceptions.iter().map(|exception| (rest, exception.line())));
        lines
    }

    fn numbers(&self, kind: Kind) -> Numbers<'_> {
        let mut numbers = Numbers { any: Vec::new(), minors: BTreeSet::new(), majors: BTreeMap::new() };
        for rule in self.rules.iter().filter(|rule| rule.what.kind == kind) {
            match rule.what.major {
                None => {
                    numbers.any.push(rule);
                    numbers.minors.extend(rule.what.minor);
                }
                Some(major) => numbers.majors.entry(major).or_default().extend(rule.what.minor),
            }
        }
        numbers
    }

    /// What may be done to a device by these rules, the last of which that matches holds; None is a number that no rule names.
    fn allowed(&self, rules: &[&Rule], major: Option<u32>, minor: Option<u32>) -> u32 {
        let matches = |of: Option<u32>, number| of.is_none() || of == number;
        let (mut allowed, mut open) = (0, ALL);
        for rule in rules.iter().rev() {
            if matches(rule.what.major, major) && matches(rule.what.minor, minor) {
                if rule.allow {
                    allowed |= rule.what.access & open;
                }
                open &= !rule.what.access;
                if open == 0 {
                    break;
                }
            }
        }
        if self.allow_by_default { allowed | open } else { allowed }
    }

    /// The program for v2, as instructions of eBPF: by kind, then by major number, then by minor number, so that the
    /// kernel's verifier, whose time is most of what a device program costs, follows few branches.
    pub fn program(&self) -> Vec<u64> {
        let mut program = Program {
            code: vec![
                // r2 = type, r3 = access, r4 = major, r5 = minor of struct bpf_cgroup_dev_ctx in r1
                insn(LDX_W, 2, 1, 0, 0),
                insn(MOV32_REG, 3, 2, 0, 0),
                insn(AND32_IMM, 2, 0, 0, 0xffff),
                insn(RSH32_IMM, 3, 0, 0, 16),
                insn(LDX_W, 4, 1, 4, 0),
                insn(LDX_W, 5, 1, 8, 0),
            ],
            to: Default::default(),
        };
        for (kind, number) in [(Kind::Char, 2), (Kind::Block, 1)] {
            let mut of_major: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
            let numbers = self.numbers(kind);
            for rule in self.rules.iter().filter(|rule| rule.what.kind == kind) {
                if let Some(major) = rule.what.major {
                    of_major.entry(major).or_default().push(rule);
                }
            }
            let next_kind = program.code.len();
            program.code.push(insn(JNE32_IMM, 2, 0, 0, number));
            for (major, rules) in of_major {
                let minors: BTreeSet<u32> = numbers.minors.iter().chain(&numbers.majors[&major]).copied().collect();
                let rules = in_order(&rules, &numbers.any);
                let next_major = program.code.len();
                program.code.push(insn(JNE32_IMM, 4, 0, 0, major));
                program.minors(&minors, |minor| self.allowed(&rules, Some(major), minor));
                land(&mut program.code, next_major);
            }
            program.minors(&numbers.minors, |minor| self.allowed(&numbers.any, None, minor));
            land(&mut program.code, next_kind);
        }
        program.end(if self.allow_by_default { ALL } else { 0 })
    }
}

/// Two parts of one list, which know their order by where they lie in it.
fn in_order<'r>(one: &[&'r Rule], other: &[&'r Rule]) -> Vec<&'r Rule> {
    let mut both: Vec<&Rule> = one.iter().chain(other).copied().collect();
    both.sort_unstable_by_key(|rule| std::ptr::from_ref::<Rule>(rule));
    both
}

/// The state of v1's controller, and where it falls behind the rules.
#[derive(Default)]
struct Replay {
    /// With the place in config.json of the last rule that added to it.
    found: Vec<(Exception, Option<usize>)>,
    at: BTreeMap<Key, usize>,
    holes: Vec<Hole>,
}

impl Replay {
    fn add(&mut self, rule: &Rule) {
        self.fill(&rule.what);
        match self.at.get(&rule.what.key()) {
            Some(&at) => {
                let (exception, index) = &mut self.found[at];
                exception.access |= rule.what.access;
                *index = rule.index;
            }
            None => {
                self.at.insert(rule.what.key(), self.found.len());
                self.found.push((rule.what, rule.index));
            }
        }
    }

    /// What a rule says of all of a part is no hole of an older rule any more.
    fn fill(&mut self, what: &Exception) {
        for hole in self.holes.iter_mut().filter(|hole| what.covers(&hole.part)) {
            hole.part.access &= !what.access;
        }
    }

    fn take_back(&mut self, rule: &Rule) {
        let new = &rule.what;
        self.fill(new);
        for (old, index) in self.found.iter_mut().filter(|(old, _)| old.access & new.access != 0 && new.meets(old)) {
            if new.covers(old) {
                old.access &= !new.access;
            } else {
                let part = Exception { access: old.access & new.access, ..*new };
                self.holes.push(Hole { part, by: rule.index, of: *index, whole: *old });
            }
        }
    }
}

/// v1 asks one exception for all of an open's access: where several together allow reading and writing, it needs one that
/// does.
fn complete(exceptions: &mut Vec<Exception>) {
    let wide: Vec<Exception> = exceptions.iter().filter(|e| e.major.is_none() || e.minor.is_none()).copied().collect();
    let opens = |exception: &Exception| exception.access & (READ | WRITE);
    for exception in exceptions.iter_mut().filter(|exception| opens(exception) != 0) {
        let more = wide.iter().filter(|other| other.covers(exception)).map(opens);
        exception.access |= more.fold(0, |all, access| all | access);
    }
    for one in wide.iter().filter(|one| one.minor.is_none() && one.major.is_some()) {
        for other in
            wide.iter().filter(|other| other.kind == one.kind && other.major.is_none() && other.minor.is_some())
        {
            if opens(one) | opens(other) == READ | WRITE && opens(one) != opens(other) {
                exceptions.push(Exception { minor: other.minor, access: READ | WRITE, ..*one });
            }
        }
    }
}

/// The numbers that rules of one kind name.
struct Numbers<'r> {
    /// The rules for every major number, and the minor numbers that those name.
    any: Vec<&'r Rule>,
    minors: BTreeSet<u32>,
    majors: BTreeMap<u32, BTreeSet<u32>>,
}

impl Numbers<'_> {
    /// Instructions, at most.
    fn size(&self) -> usize {
        let of_one = |minors: &BTreeSet<u32>| 2 + minors.len() + self.minors.len();
        self.majors.values().map(of_one).sum::<usize>() + self.minors.len() + 2
    }
}

/// A program that is being written: its verdicts stand at the end, one for each set of what may be done.
struct Program {
    code: Vec<u64>,
    /// The places that jump to each of them.
    to: [Vec<usize>; ALL as usize + 1],
}

impl Program {
    fn jump(&mut self, instruction: u64, allowed: u32) {
        self.to[allowed as usize].push(self.code.len());
        self.code.push(instruction);
    }

    /// Tells minor numbers apart where that makes a difference.
    fn minors(&mut self, minors: &BTreeSet<u32>, allowed: impl Fn(Option<u32>) -> u32) {
        let others = allowed(None);
        for &minor in minors {
            let allowed = allowed(Some(minor));
            if allowed != others {
                self.jump(insn(JEQ32_IMM, 5, 0, 0, minor), allowed);
            }
        }
        self.jump(insn(JA, 0, 0, 0, 0), others);
    }

    /// What is neither a block nor a character device comes to the end of the tests.
    fn end(mut self, by_default: u32) -> Vec<u64> {
        self.jump(insn(JA, 0, 0, 0, 0), by_default);
        for allowed in (1..ALL).rev() {
            if self.to[allowed as usize].is_empty() {
                continue;
            }
            self.verdict(allowed);
            // Denied if any of what is asked for is not in it.
            self.jump(insn(JSET32_IMM, 3, 0, 0, !allowed & ALL), 0);
            self.jump(insn(JA, 0, 0, 0, 0), ALL);
        }
        for (allowed, answer) in [(ALL, 1), (0, 0)] {
            // The kernel refuses what cannot be reached.
            if !self.to[allowed as usize].is_empty() {
                self.verdict(allowed);
                self.code.push(insn(MOV64_IMM, 0, 0, 0, answer));
                self.code.push(insn(EXIT, 0, 0, 0, 0));
            }
        }
        self.code
    }

    fn verdict(&mut self, allowed: u32) {
        for at in std::mem::take(&mut self.to[allowed as usize]) {
            land(&mut self.code, at);
        }
    }
}

/// Makes the jump at `at` lead to what is written next.
fn land(code: &mut [u64], at: usize) {
    let mut bytes = code[at].to_ne_bytes();
    let distance = i16::try_from(code.len() - at - 1).expect("DeviceRules::replay bounds the program");
    bytes[2..4].copy_from_slice(&distance.to_ne_bytes());
    code[at] = u64::from_ne_bytes(bytes);
}

const LDX_W: u8 = 0x61;
const MOV32_REG: u8 = 0xbc;
const AND32_IMM: u8 = 0x54;
const RSH32_IMM: u8 = 0x74;
const JEQ32_IMM: u8 = 0x16;
const JNE32_IMM: u8 = 0x56;
const JSET32_IMM: u8 = 0x46;
const JA: u8 = 0x05;
const MOV64_IMM: u8 = 0xb7;
const EXIT: u8 = 0x95;

/// struct bpf_insn as one number of the machine's byte order.
fn insn(code: u8, dst: u8, src: u8, off: i16, imm: u32) -> u64 {
    let registers = if cfg!(target_endian = "little") { src << 4 | dst } else { dst << 4 | src };
    let mut bytes = [code, registers, 0, 0, 0, 0, 0, 0];
    bytes[2..4].copy_from_slice(&off.to_ne_bytes());
    bytes[4..8].copy_from_slice(&imm.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// No letters at all are all of them.
fn access(letters: &str) -> u32 {
    let bits = [('r', READ), ('w', WRITE), ('m', MKNOD)];
    let bits = bits.iter().filter(|(letter, _)| letters.contains(*letter)).fold(0, |all, (_, bit)| all | bit);
    if bits == 0 { ALL } else { bits }
}

#[cfg(test)]
mod tests;
