//! Runs a filter as the kernel does (Documentation/networking/filter.rst, seccomp(2)): what becomes of a call is answered
//! by the program that is loaded, not by reading the rules once more.

use std::collections::HashSet;

use super::KILL_PROCESS;
use super::arch::is_big_endian;
use super::bpf::{self, SockFilter};

/// `struct seccomp_data`, without the instruction pointer, which no filter of hull looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The number.
    pub nr: u32,
    /// AUDIT_ARCH_*.
    pub arch: u32,
    /// The arguments.
    pub args: [u64; 6],
}

/// A call of which not every argument is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// The number.
    pub nr: u32,
    /// AUDIT_ARCH_*.
    pub arch: u32,
    /// The arguments that are known.
    pub args: [Option<u64>; 6],
}

/// The half of an argument that lies at an offset, on a machine of that architecture.
fn half(argument: u64, offset: u32, arch: u32) -> u32 {
    if offset.is_multiple_of(8) != is_big_endian(arch) { argument as u32 } else { (argument >> 32) as u32 }
}

/// The verdict on a call. What the kernel would not load kills.
pub fn run(program: &[SockFilter], call: &Call) -> u32 {
    let (mut a, mut x, mut pc) = (0_u32, 0_u32, 0_usize);
    let mut memory = [0_u32; 16];
    while let Some(&SockFilter { code, jt, jf, k }) = program.get(pc) {
        pc += 1;
        let mut branch = |holds: bool| pc += usize::from(if holds { jt } else { jf });
        match (code, k) {
            (bpf::LD_ABS, 0) => a = call.nr,
            (bpf::LD_ABS, 4) => a = call.arch,
            (bpf::LD_ABS, 8 | 12) => a = 0,
            (bpf::LD_ABS, 16..64) if k.is_multiple_of(4) => a = half(call.args[(k as usize - 16) / 8], k, call.arch),
            // The next five are libseccomp's, with whom the tests compare.
            (0x00, _) => a = k,
            (0x60, 0..16) => a = memory[k as usize],
            (0x02, 0..16) => memory[k as usize] = a,
            (0x07, _) => x = a,
            (0x87, _) => a = x,
            (bpf::AND, _) => a &= k,
            (bpf::JA, _) => pc += k as usize,
            (bpf::JEQ, _) => branch(a == k),
            (bpf::JGT, _) => branch(a > k),
            (bpf::JGE, _) => branch(a >= k),
            (0x45, _) => branch(a & k != 0),
            (bpf::RET, _) => return k,
            _ => break,
        }
    }
    KILL_PROCESS
}

/// Every verdict that a program of [`super::compile`] may give on a call, whatever its unknown arguments are.
pub fn possible(program: &[SockFilter], call: &Partial) -> Vec<u32> {
    let mut verdicts = Vec::new();
    // A jump goes forward, so this ends; a state that was met before leads nowhere new.
    let mut met = HashSet::new();
    let mut open = vec![(0_usize, Some(0_u32))];
    while let Some((pc, a)) = open.pop() {
        let Some(&SockFilter { code, jt, jf, k }) = program.get(pc) else { continue };
        if !met.insert((pc, a)) {
            continue;
        }
        let mut branch = |holds: Option<bool>| {
            // The one that is tried first is to be followed first: pushed last.
            let ways = match holds {
                None => vec![jf, jt],
                Some(holds) => vec![if holds { jt } else { jf }],
            };
            open.extend(ways.into_iter().map(|way| (pc + 1 + usize::from(way), a)));
        };
        match code {
            bpf::LD_ABS => {
                let word = match k {
                    bpf::DATA_NR => Some(call.nr),
                    bpf::DATA_ARCH => Some(call.arch),
                    16..64 => call.args[(k as usize - 16) / 8].map(|argument| half(argument, k, call.arch)),
                    _ => Some(0),
                };
                open.push((pc + 1, word));
            }
            bpf::AND => open.push((pc + 1, if k == 0 { Some(0) } else { a.map(|a| a & k) })),
            bpf::JA => open.push((pc + 1 + k as usize, a)),
            bpf::JEQ => branch(a.map(|a| a == k)),
            bpf::JGT => branch(a.map(|a| a > k)),
            bpf::JGE => branch(a.map(|a| a >= k)),
            bpf::RET if !verdicts.contains(&k) => verdicts.push(k),
            _ => {}
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(code: u16, jt: u8, jf: u8, k: u32) -> SockFilter {
        SockFilter { code, jt, jf, k }
    }

    #[test]
    fn a_program_by_hand() {
        let program = [op(0x20, 0, 0, 0), op(0x15, 0, 1, 7), op(0x06, 0, 0, 1), op(0x06, 0, 0, 2)];
        let call = |nr| Call { nr, arch: 0, args: [0; 6] };
        assert_eq!((run(&program, &call(7)), run(&program, &call(8))), (1, 2));
        assert_eq!(run(&program[..2], &call(7)), KILL_PROCESS);
    }

    #[test]
    fn an_unknown_argument_has_both_verdicts() {
        // Argument 1, lower half, of 5: 1, else 2.
        let program = [op(0x20, 0, 0, 24), op(0x15, 0, 1, 5), op(0x06, 0, 0, 1), op(0x06, 0, 0, 2)];
        let call = |argument| Partial { nr: 0, arch: 0xc000_003e, args: [Some(9), argument, None, None, None, None] };
        assert_eq!(possible(&program, &call(None)), [1, 2]);
        assert_eq!(possible(&program, &call(Some(5))), [1]);
        assert_eq!(possible(&program, &call(Some(0x1_0000_0006))), [2]);
        // On s390x the word at that place is the upper half.
        let call = |argument| Partial { arch: 0x8000_0016, ..call(Some(argument)) };
        assert_eq!(possible(&program, &call(5)), [2]);
        assert_eq!(possible(&program, &call(0x5_0000_0006)), [1]);
    }
}
