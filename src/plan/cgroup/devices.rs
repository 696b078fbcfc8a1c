//! Device rules, in v1's meaning for both versions: a default, and the exceptions from it.
//!
//! config.json's rules are a sequence of writes to devices.allow and devices.deny. Replayed here they give what
//! the kernel's v1 controller would hold at the end; for v2 that becomes a program (BPF_PROG_TYPE_CGROUP_DEVICE).

use crate::error::{Error, Result};
use crate::spec;

/// Making a node.
pub const MKNOD: u32 = 1;
/// Opening for reading.
pub const READ: u32 = 2;
/// Opening for writing.
pub const WRITE: u32 = 4;
const ALL: u32 = MKNOD | READ | WRITE;
/// At six instructions each the longest jump still fits into the 15 bits that it has.
const MAX_EXCEPTIONS: usize = 5000;

/// Block or character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// What the controller holds at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRules {
    /// Everything is allowed but the exceptions; else nothing but them.
    pub allow_by_default: bool,
    /// The exceptions.
    pub exceptions: Vec<Exception>,
}

/// What a container always may, after config.json's rules: a default bundle denies everything and then makes and opens
/// these (null, zero, full, random, urandom, tty, console, ptmx, pts, tun), as runc has it.
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
    pub fn new(rules: &[spec::DeviceRule<'_>]) -> Result<DeviceRules> {
        let mut state = DeviceRules { allow_by_default: false, exceptions: Vec::new() };
        for (index, rule) in rules.iter().enumerate() {
            let pointer = |field: &str| format!("/linux/resources/devices/{index}/{field}");
            let number = |field: &str, value: Option<i64>| match value {
                None | Some(-1) => Ok(None),
                Some(n) => u32::try_from(n)
                    .map(Some)
                    .map_err(|_| Error::spec(pointer(field), format_args!("{n} is no device number"))),
            };
            let (major, minor) = (number("major", rule.major)?, number("minor", rule.minor)?);
            let access = access(rule.access.as_deref().unwrap_or("rwm"))
                .ok_or_else(|| Error::spec(pointer("access"), "may hold r, w and m only"))?;
            let kinds: &[Kind] = match rule.kind.as_deref() {
                None | Some("" | "a") => {
                    if access == ALL && major.is_none() && minor.is_none() {
                        state = DeviceRules { allow_by_default: rule.allow, exceptions: Vec::new() };
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
                state.apply(rule.allow, Exception { kind, major, minor, access });
            }
        }
        for (kind, major, minor, access) in IMPLICIT {
            state.apply(true, Exception { kind, major, minor, access });
        }
        if state.exceptions.len() > MAX_EXCEPTIONS {
            let what = format!("come to {} exceptions; {MAX_EXCEPTIONS} are possible", state.exceptions.len());
            return Err(Error::spec("/linux/resources/devices", what));
        }
        Ok(state)
    }

    fn apply(&mut self, allow: bool, new: Exception) {
        let same = |old: &&mut Exception| (old.kind, old.major, old.minor) == (new.kind, new.major, new.minor);
        let found = self.exceptions.iter_mut().find(same);
        if allow == self.allow_by_default {
            if let Some(old) = found {
                old.access &= !new.access;
            }
            self.exceptions.retain(|exception| exception.access != 0);
        } else {
            match found {
                Some(old) => old.access |= new.access,
                None => self.exceptions.push(new),
            }
        }
    }

    /// The lines for v1: the file and what is written, in order.
    pub fn v1_lines(&self) -> Vec<(&'static str, String)> {
        let (first, rest) =
            if self.allow_by_default { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
        let mut lines = vec![(first, "a".to_owned())];
        for exception in &self.exceptions {
            let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
            let kind = if exception.kind == Kind::Block { 'b' } else { 'c' };
            let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
                .iter()
                .filter(|(bit, _)| exception.access & bit != 0)
                .map(|(_, letter)| *letter)
                .collect();
            lines.push((rest, format!("{kind} {}:{} {access}", number(exception.major), number(exception.minor))));
        }
        lines
    }

    /// The program for v2, as instructions of eBPF: by kind, then by major number, so that the kernel's verifier, whose time
    /// is most of what a device program costs, follows few branches. The order of exceptions has no meaning.
    pub fn program(&self) -> Vec<u64> {
        let mut code = vec![
            // r2 = type, r3 = access, r4 = major, r5 = minor of struct bpf_cgroup_dev_ctx in r1
            insn(LDX_W, 2, 1, 0, 0),
            insn(MOV32_REG, 3, 2, 0, 0),
            insn(AND32_IMM, 2, 0, 0, 0xffff),
            insn(RSH32_IMM, 3, 0, 0, 16),
            insn(LDX_W, 4, 1, 4, 0),
            insn(LDX_W, 5, 1, 8, 0),
        ];
        // The places that jump to the one verdict of all exceptions, and those that jump to the default.
        let (mut to_hit, mut to_default) = (Vec::new(), Vec::new());
        for (kind, number) in [(Kind::Char, 2), (Kind::Block, 1)] {
            let of_kind = || self.exceptions.iter().filter(move |exception| exception.kind == kind);
            if of_kind().next().is_none() {
                continue;
            }
            let next_kind = code.len();
            code.push(insn(JNE32_IMM, 2, 0, 0, number));
            let any_major = of_kind().filter(|exception| exception.major.is_none());
            if self.group(any_major, &mut code, &mut to_hit) {
                let mut majors: Vec<u32> = of_kind().filter_map(|exception| exception.major).collect();
                majors.sort_unstable();
                majors.dedup();
                for major in majors {
                    let next_major = code.len();
                    code.push(insn(JNE32_IMM, 4, 0, 0, major));
                    let of_major = of_kind().filter(|exception| exception.major == Some(major));
                    if self.group(of_major, &mut code, &mut to_hit) {
                        to_default.push(code.len());
                        code.push(insn(JA, 0, 0, 0, 0));
                    }
                    land(&mut code, next_major);
                }
                to_default.push(code.len());
                code.push(insn(JA, 0, 0, 0, 0));
            }
            land(&mut code, next_kind);
        }
        to_default.into_iter().for_each(|at| land(&mut code, at));
        code.push(insn(MOV64_IMM, 0, 0, 0, u32::from(self.allow_by_default)));
        code.push(insn(EXIT, 0, 0, 0, 0));
        // The kernel refuses what cannot be reached.
        if !to_hit.is_empty() {
            to_hit.into_iter().for_each(|at| land(&mut code, at));
            code.push(insn(MOV64_IMM, 0, 0, 0, u32::from(!self.allow_by_default)));
            code.push(insn(EXIT, 0, 0, 0, 0));
        }
        code
    }

    /// The tests of exceptions whose kind and major number are known to match; false where nothing gets past them.
    fn group<'e>(
        &self,
        exceptions: impl Iterator<Item = &'e Exception>,
        code: &mut Vec<u64>,
        to_hit: &mut Vec<usize>,
    ) -> bool {
        for exception in exceptions {
            let skip_minor = exception.minor.map(|minor| {
                code.push(insn(JNE32_IMM, 5, 0, 0, minor));
                code.len() - 1
            });
            let mut skip_access = None;
            if self.allow_by_default {
                // Denied if any of what is asked for is in the exception.
                to_hit.push(code.len());
                code.push(insn(JSET32_IMM, 3, 0, 0, exception.access));
            } else {
                // Allowed if all that is asked for is in it.
                if exception.access != ALL {
                    skip_access = Some(code.len());
                    code.push(insn(JSET32_IMM, 3, 0, 0, !exception.access & ALL));
                }
                to_hit.push(code.len());
                code.push(insn(JA, 0, 0, 0, 0));
                if skip_minor.is_none() && skip_access.is_none() {
                    return false;
                }
            }
            skip_minor.into_iter().chain(skip_access).for_each(|at| land(code, at));
        }
        true
    }
}

/// Makes the jump at `at` lead to what is written next.
fn land(code: &mut [u64], at: usize) {
    let mut bytes = code[at].to_ne_bytes();
    let distance = i16::try_from(code.len() - at - 1).expect("DeviceRules::new bounds the exceptions");
    bytes[2..4].copy_from_slice(&distance.to_ne_bytes());
    code[at] = u64::from_ne_bytes(bytes);
}

const LDX_W: u8 = 0x61;
const MOV32_REG: u8 = 0xbc;
const AND32_IMM: u8 = 0x54;
const RSH32_IMM: u8 = 0x74;
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

fn access(letters: &str) -> Option<u32> {
    let mut bits = 0;
    for letter in letters.chars() {
        bits |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return None,
        };
    }
    Some(if bits == 0 { ALL } else { bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> DeviceRules {
        DeviceRules::new(&serde_json::from_str::<Vec<spec::DeviceRule<'_>>>(json).unwrap()).unwrap()
    }

    /// What the rules say, straight from their meaning.
    fn verdict(rules: &DeviceRules, kind: Kind, major: u32, minor: u32, asked: u32) -> bool {
        let hits =
            |e: &&Exception| e.kind == kind && e.major.is_none_or(|m| m == major) && e.minor.is_none_or(|m| m == minor);
        let mut found = rules.exceptions.iter().filter(hits);
        if rules.allow_by_default {
            !found.any(|e| e.access & asked != 0)
        } else {
            found.any(|e| asked & !e.access == 0)
        }
    }

    /// Runs the few instructions that `program` uses.
    fn interpret(program: &[u64], kind: Kind, major: u32, minor: u32, asked: u32) -> bool {
        let context = [asked << 16 | if kind == Kind::Block { 1 } else { 2 }, major, minor];
        let mut r = [0u64; 11];
        let mut at = 0;
        loop {
            let b = program[at].to_ne_bytes();
            let (dst, src) = ((b[1] & 15) as usize, (b[1] >> 4) as usize);
            let off = i16::from_ne_bytes([b[2], b[3]]);
            let imm = u32::from_ne_bytes([b[4], b[5], b[6], b[7]]);
            at += 1;
            match b[0] {
                LDX_W => r[dst] = context[off as usize / 4].into(),
                MOV32_REG => r[dst] = r[src] & 0xffff_ffff,
                AND32_IMM => r[dst] &= u64::from(imm),
                RSH32_IMM => r[dst] >>= imm,
                MOV64_IMM => r[dst] = imm.into(),
                JNE32_IMM if r[dst] as u32 != imm => at += off as usize,
                JSET32_IMM if r[dst] as u32 & imm != 0 => at += off as usize,
                JA => at += off as usize,
                JNE32_IMM | JSET32_IMM => {}
                EXIT => return r[0] != 0,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    /// As the kernel's verifier asks: every instruction can be reached, and no path leaves the program.
    fn all_is_reached(program: &[u64]) {
        let mut reached = vec![false; program.len()];
        let mut todo = vec![0];
        while let Some(at) = todo.pop() {
            if std::mem::replace(&mut reached[at], true) {
                continue;
            }
            let b = program[at].to_ne_bytes();
            let target = (at as i64 + 1 + i64::from(i16::from_ne_bytes([b[2], b[3]]))) as usize;
            match b[0] {
                EXIT => {}
                JA => todo.push(target),
                JNE32_IMM | JSET32_IMM => todo.extend([at + 1, target]),
                _ => todo.push(at + 1),
            }
        }
        assert!(reached.iter().all(|reached| *reached), "{reached:?}");
    }

    #[test]
    fn the_program_means_what_the_rules_mean() {
        for json in [
            "[]",
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"},{"allow":true,"type":"c","major":1,"minor":11,"access":"w"}]"#,
            r#"[{"allow":true,"type":"a"},{"allow":false,"type":"b","major":8,"access":"w"},{"allow":false,"type":"c","major":1,"minor":3,"access":"rwm"}]"#,
            r#"[{"allow":true,"type":"b","major":-1,"minor":-1,"access":"rw"},{"allow":false,"type":"b","access":"r"}]"#,
            r#"[{"allow":true},{"allow":false,"type":"c","minor":3,"access":"w"},{"allow":false,"type":"c","major":1,"access":"r"}]"#,
            r#"[{"allow":true}]"#,
            r#"[{"allow":true,"type":"c","access":"rwm"},{"allow":true,"type":"b","major":8,"access":"rwm"}]"#,
            r#"[{"allow":true,"type":"c","minor":11,"access":"r"},{"allow":true,"type":"c","major":1,"minor":11,"access":"w"}]"#,
        ] {
            let rules = rules(json);
            let program = rules.program();
            all_is_reached(&program);
            for kind in [Kind::Block, Kind::Char] {
                for major in [0, 1, 5, 8, 10, 136, 300] {
                    for minor in [0, 1, 3, 11, 200, 70_000] {
                        for asked in 1..=7 {
                            let (want, have) = (
                                verdict(&rules, kind, major, minor, asked),
                                interpret(&program, kind, major, minor, asked),
                            );
                            assert_eq!(want, have, "{json} {kind:?} {major}:{minor} {asked}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn as_many_exceptions_as_are_possible_make_a_program() {
        let list = |n: usize| {
            let rules: Vec<_> =
                (0..n).map(|n| format!(r#"{{"allow":true,"type":"b","major":{n},"minor":1,"access":"r"}}"#)).collect();
            let text = format!("[{}]", rules.join(","));
            DeviceRules::new(&serde_json::from_str::<Vec<spec::DeviceRule<'_>>>(&text).unwrap())
        };
        let most = list(MAX_EXCEPTIONS - IMPLICIT.len()).unwrap();
        assert!(interpret(&most.program(), Kind::Block, 4000, 1, READ));
        assert!(!interpret(&most.program(), Kind::Block, 4000, 2, READ));
        assert!(list(MAX_EXCEPTIONS).unwrap_err().to_string().contains("5000 are possible"));
    }

    #[test]
    fn v1_lines_replay_to_the_same_state() {
        let lines =
            rules(r#"[{"allow":false},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]"#).v1_lines();
        assert_eq!(lines[0], ("devices.deny", "a".to_owned()));
        assert_eq!(lines[1], ("devices.allow", "c 1:11 r".to_owned()));
        assert!(lines.contains(&("devices.allow", "c 136:* rwm".to_owned())));
    }
}
