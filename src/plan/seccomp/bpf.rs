//! The classic BPF that a filter consists of (linux/filter.h), written from its end to its beginning.
//!
//! Jumps go forward only, by at most 255 instructions on a condition. Written backwards, every target is known when
//! the jump to it is written; where one is too far away, an unconditional jump (32 bits) or a second `ret` goes between.

/// One instruction: `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SockFilter {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if the condition holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

pub(super) const LD_ABS: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JA: u16 = 0x05;
pub(super) const JEQ: u16 = 0x15;
pub(super) const JGT: u16 = 0x25;
pub(super) const JGE: u16 = 0x35;
pub(super) const RET: u16 = 0x06;

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
pub(super) const DATA_NR: u32 = 0;
pub(super) const DATA_ARCH: u32 = 4;
const DATA_ARGS: u32 = 16;

/// A jump may need up to two instructions between itself and its target: stay that far below 255.
const REACH: usize = 252;

/// A `ret` nearer than this is shared: what is written before it is used may push it further away.
const RET_REACH: usize = 124;

/// The offset of the lower and the higher half of an argument.
pub(super) fn argument(index: u8, is_big_endian: bool) -> (u32, u32) {
    let first = DATA_ARGS + 8 * u32::from(index);
    if is_big_endian { (first + 4, first) } else { (first, first + 4) }
}

/// An instruction that was written, counted from the end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At(usize);

/// A program under construction.
pub(super) struct Writer {
    /// The last instruction comes first.
    reversed: Vec<SockFilter>,
    /// The nearest `ret` of each action.
    returns: Vec<(u32, At)>,
}

impl Writer {
    pub(super) fn new() -> Writer {
        Writer { reversed: Vec::with_capacity(512), returns: Vec::with_capacity(8) }
    }

    /// The program in order.
    pub(super) fn finish(mut self) -> Vec<SockFilter> {
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> At {
        self.reversed.push(SockFilter { code, jt, jf, k });
        At(self.reversed.len() - 1)
    }

    /// How many instructions the next one has to skip to get to `target`.
    fn distance(&self, target: At) -> usize {
        self.reversed.len() - target.0 - 1
    }

    /// A statement without a jump; the instruction that was written before comes next.
    pub(super) fn statement(&mut self, code: u16, k: u32) -> At {
        self.push(code, 0, 0, k)
    }

    /// A `ret` that a jump reaches.
    pub(super) fn ret(&mut self, action: u32) -> At {
        if let Some((_, at)) = self.returns.iter().find(|(known, _)| *known == action)
            && self.distance(*at) <= RET_REACH
        {
            return *at;
        }
        let at = self.push(RET, 0, 0, action);
        match self.returns.iter_mut().find(|(known, _)| *known == action) {
            Some(known) => known.1 = at,
            None => self.returns.push((action, at)),
        }
        at
    }

    /// A conditional jump to targets at any distance.
    pub(super) fn jump(&mut self, code: u16, k: u32, yes: At, no: At) -> At {
        let yes = self.near(yes);
        let no = self.near(no);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(code, jt, jf, k)
    }

    fn near(&mut self, target: At) -> At {
        match self.distance(target) {
            distance if distance <= REACH => target,
            distance => self.push(JA, 0, 0, distance as u32),
        }
    }

    /// The instruction that was written last.
    pub(super) fn last(&self) -> Option<At> {
        self.reversed.len().checked_sub(1).map(At)
    }

    /// Makes `target` the next instruction, so that a statement can be put before it.
    pub(super) fn fall_through(&mut self, target: At) {
        if self.last() != Some(target) {
            let distance = self.distance(target) as u32;
            self.push(JA, 0, 0, distance);
        }
    }
}
