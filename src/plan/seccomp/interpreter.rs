//! For tests: runs a filter as the kernel would (Documentation/networking/filter.rst, seccomp(2)).

use super::bpf::SockFilter;

/// `struct seccomp_data`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) nr: u32,
    pub(super) arch: u32,
    pub(super) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        assert_eq!(offset % 4, 0, "loads are aligned");
        match offset {
            0 => self.nr,
            4 => self.arch,
            8 | 12 => 0,
            16..64 => {
                let arg = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
            _ => panic!("load at {offset} is outside seccomp_data"),
        }
    }
}

/// The verdict on a call. Panics on what the kernel would not load.
pub(super) fn run(program: &[SockFilter], call: &Call) -> u32 {
    let (mut a, mut x, mut pc) = (0_u32, 0_u32, 0_usize);
    let mut memory = [0_u32; 16];
    loop {
        let SockFilter { code, jt, jf, k } = program[pc];
        pc += 1;
        let mut branch = |holds: bool| pc += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => a = call.word(k),
            0x00 => a = k,
            0x60 => a = memory[k as usize],
            0x02 => memory[k as usize] = a,
            0x07 => x = a,
            0x87 => a = x,
            0x54 => a &= k,
            0x05 => pc += k as usize,
            0x15 => branch(a == k),
            0x25 => branch(a > k),
            0x35 => branch(a >= k),
            0x45 => branch(a & k != 0),
            0x06 => return k,
            _ => panic!("instruction {code:#x} is not for seccomp"),
        }
    }
}

#[test]
fn a_program_by_hand() {
    let op = |code, jt, jf, k| SockFilter { code, jt, jf, k };
    let program = [op(0x20, 0, 0, 0), op(0x15, 0, 1, 7), op(0x06, 0, 0, 1), op(0x06, 0, 0, 2)];
    let call = |nr| Call { nr, arch: 0, args: [0; 6] };
    assert_eq!((run(&program, &call(7)), run(&program, &call(8))), (1, 2));
}
