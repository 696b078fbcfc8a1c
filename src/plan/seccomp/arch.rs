//! Architectures and system call numbers: how a name of a profile becomes a number of each ABI that the kernel runs.
//!
//! A kernel of x86_64 takes calls of three ABIs: x86_64 and x32 share one AUDIT_ARCH and differ in bit 30 of the
//! number, x86 has its own. On x86, s390, PowerPC and MIPS o32 the calls of sockets and of System V IPC exist twice, directly and
//! through socketcall(2) and ipc(2): a rule must hold for both, or it could be walked around. The numbers of MIPS begin at
//! 4000, 5000 or 6000, by the ABI.

use super::table::{COLUMNS, NO, TABLE};

/// `SCMP_ARCH_*`: every architecture that the specification names.
pub const ARCHS: [&str; 23] = [
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// __X32_SYSCALL_BIT.
pub const X32_BIT: u32 = 0x4000_0000;
/// Where the private calls of arm start (__ARM_NR_BASE).
pub(super) const ARM_PRIVATE: u32 = 0xf_0000;

/// An ABI that hull has numbers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// x86_64.
    X86_64,
    /// i386.
    X86,
    /// x86_64 with pointers of 32 bits.
    X32,
    /// aarch64.
    Aarch64,
    /// arm, EABI.
    Arm,
    /// RISC-V of 64 bits.
    Riscv64,
    /// PowerPC of 64 bits, little-endian.
    Ppc64le,
    /// PowerPC of 64 bits, big-endian.
    Ppc64,
    /// PowerPC of 32 bits.
    Ppc,
    /// IBM Z of 64 bits.
    S390x,
    /// IBM Z of 31 bits.
    S390,
    /// MIPS o32, big-endian.
    Mips,
    /// MIPS o32, little-endian.
    Mipsel,
    /// MIPS n64, big-endian.
    Mips64,
    /// MIPS n64, little-endian.
    Mipsel64,
    /// MIPS n32, big-endian.
    Mips64n32,
    /// MIPS n32, little-endian.
    Mipsel64n32,
}

/// What is known of an ABI.
struct Abi {
    arch: Arch,
    /// `SCMP_ARCH_*`.
    name: &'static str,
    /// The same without its beginning, in small letters.
    short: &'static str,
    /// AUDIT_ARCH_* (linux/audit.h).
    audit_arch: u32,
    /// The column of the table.
    column: u8,
    /// What all numbers have in common (mips), or a bit that all have (x32).
    base: u32,
    /// Whether calls of sockets and of System V IPC are reached through socketcall(2) and ipc(2), too.
    multiplexed: bool,
    /// Whether arguments have 32 bits.
    narrow: bool,
    /// The ABIs that a kernel of this one runs besides it, as libseccomp knows them.
    runs: &'static [Arch],
}

const fn abi(
    (arch, name, short): (Arch, &'static str, &'static str),
    audit_arch: u32,
    (column, base): (u8, u32),
    (multiplexed, narrow): (bool, bool),
    runs: &'static [Arch],
) -> Abi {
    Abi { arch, name, short, audit_arch, column, base, multiplexed, narrow, runs }
}

/// Each ABI, at the place that its number names. x32 has the AUDIT_ARCH of x86_64 before it.
#[rustfmt::skip]
static ABIS: [Abi; 17] = [
    abi((Arch::X86_64, "SCMP_ARCH_X86_64", "x86_64"), 0xc000_003e, (0, 0), (false, false), &[Arch::X86, Arch::X32]),
    abi((Arch::X86, "SCMP_ARCH_X86", "x86"), 0x4000_0003, (1, 0), (true, true), &[]),
    abi((Arch::X32, "SCMP_ARCH_X32", "x32"), 0xc000_003e, (2, X32_BIT), (false, true), &[]),
    abi((Arch::Aarch64, "SCMP_ARCH_AARCH64", "aarch64"), 0xc000_00b7, (3, 0), (false, false), &[Arch::Arm]),
    abi((Arch::Arm, "SCMP_ARCH_ARM", "arm"), 0x4000_0028, (4, 0), (false, true), &[]),
    abi((Arch::Riscv64, "SCMP_ARCH_RISCV64", "riscv64"), 0xc000_00f3, (5, 0), (false, false), &[]),
    abi((Arch::Ppc64le, "SCMP_ARCH_PPC64LE", "ppc64le"), 0xc000_0015, (6, 0), (true, false), &[]),
    abi((Arch::Ppc64, "SCMP_ARCH_PPC64", "ppc64"), 0x8000_0015, (6, 0), (true, false), &[Arch::Ppc]),
    abi((Arch::Ppc, "SCMP_ARCH_PPC", "ppc"), 0x0000_0014, (7, 0), (true, true), &[]),
    abi((Arch::S390x, "SCMP_ARCH_S390X", "s390x"), 0x8000_0016, (8, 0), (true, false), &[Arch::S390]),
    abi((Arch::S390, "SCMP_ARCH_S390", "s390"), 0x0000_0016, (9, 0), (true, true), &[]),
    abi((Arch::Mips, "SCMP_ARCH_MIPS", "mips"), 0x0000_0008, (10, 4000), (true, true), &[]),
    abi((Arch::Mipsel, "SCMP_ARCH_MIPSEL", "mipsel"), 0x4000_0008, (10, 4000), (true, true), &[]),
    abi((Arch::Mips64, "SCMP_ARCH_MIPS64", "mips64"), 0x8000_0008, (11, 5000), (false, false), &[Arch::Mips, Arch::Mips64n32]),
    abi((Arch::Mipsel64, "SCMP_ARCH_MIPSEL64", "mipsel64"), 0xc000_0008, (11, 5000), (false, false), &[Arch::Mipsel, Arch::Mipsel64n32]),
    abi((Arch::Mips64n32, "SCMP_ARCH_MIPS64N32", "mips64n32"), 0xa000_0008, (12, 6000), (false, true), &[Arch::Mips, Arch::Mips64]),
    abi((Arch::Mipsel64n32, "SCMP_ARCH_MIPSEL64N32", "mipsel64n32"), 0xe000_0008, (12, 6000), (false, true), &[Arch::Mipsel, Arch::Mipsel64]),
];

/// Whether a machine's words begin with their highest byte, by AUDIT_ARCH: it lacks __AUDIT_ARCH_LE then.
pub(super) fn is_big_endian(audit_arch: u32) -> bool {
    audit_arch & 0x4000_0000 == 0
}

impl Arch {
    /// Every one.
    pub fn all() -> impl Iterator<Item = Arch> {
        ABIS.iter().map(|abi| abi.arch)
    }

    fn abi(self) -> &'static Abi {
        &ABIS[self as usize]
    }

    /// The native one of a kernel, by AUDIT_ARCH.
    pub fn native(audit_arch: u32) -> Option<Arch> {
        Arch::all().find(|arch| arch.audit_arch() == audit_arch)
    }

    /// The one that the specification calls so.
    pub fn named(name: &str) -> Option<Arch> {
        Arch::all().find(|arch| arch.name() == name)
    }

    /// Whether a kernel whose native architecture is `native` takes calls of this one.
    pub fn runs_on(self, native: Arch) -> bool {
        self == native || native.abi().runs.contains(&self)
    }

    /// By the specification's name, or by that without its beginning, in any case of letters.
    pub fn by_any_name(name: &str) -> Option<Arch> {
        Arch::all().find(|arch| arch.name().eq_ignore_ascii_case(name) || arch.short().eq_ignore_ascii_case(name))
    }

    /// The specification's name.
    pub fn name(self) -> &'static str {
        self.abi().name
    }

    /// The same without its beginning, in small letters.
    pub fn short(self) -> &'static str {
        self.abi().short
    }

    /// The architecture and the number that `seccomp_data` has for a call, apart: x32 is told by a bit of the number. The number
    /// is less what all of the architecture have in common; none if it is below that.
    pub fn of_call(audit_arch: u32, nr: u32) -> Option<(Arch, u32)> {
        let arch = match Arch::native(audit_arch)? {
            Arch::X86_64 if nr & X32_BIT != 0 => Arch::X32,
            arch => arch,
        };
        Some((arch, nr.checked_sub(arch.base())?))
    }

    /// What all numbers have in common.
    pub(super) fn base(self) -> u32 {
        self.abi().base
    }

    /// The number as `seccomp_data` has it.
    pub(super) fn nr(self, number: u32) -> u32 {
        self.base() + number
    }

    /// AUDIT_ARCH_* (linux/audit.h).
    pub fn audit_arch(self) -> u32 {
        self.abi().audit_arch
    }

    /// Whether arguments are compared in their lower 32 bits only, as libseccomp does for these.
    pub(super) fn is_32_bit(self) -> bool {
        self.abi().narrow
    }

    /// Whether a rule must hold for socketcall(2) and ipc(2), too.
    pub(super) fn has_multiplexers(self) -> bool {
        self.abi().multiplexed
    }
}

/// A name of the table.
#[derive(Clone, Copy)]
pub(super) struct Syscall(u16);

impl Syscall {
    /// The number, less what all of the architecture have in common; none if the architecture does not have the call.
    pub(super) fn number(self, arch: Arch) -> Option<u32> {
        match NUMBERS[arch.abi().column as usize][self.0 as usize] {
            NO => None,
            short if short >= 0xf000 => Some(ARM_PRIVATE + u32::from(short & 0xfff)),
            number => Some(number.into()),
        }
    }
}

/// socketcall(2), on all that have it.
pub(super) const SOCKETCALL: u32 = 102;
/// ipc(2), on all that have it.
pub(super) const IPC: u32 = 117;

/// How an architecture with multiplexers reaches a call through socketcall(2) or ipc(2): the number of that one, and its first argument
/// (linux/net.h, linux/ipc.h).
pub(super) fn multiplexed(name: &str) -> Option<(u32, u64)> {
    Some(match name {
        "socket" => (SOCKETCALL, 1),
        "bind" => (SOCKETCALL, 2),
        "connect" => (SOCKETCALL, 3),
        "listen" => (SOCKETCALL, 4),
        "accept" => (SOCKETCALL, 5),
        "getsockname" => (SOCKETCALL, 6),
        "getpeername" => (SOCKETCALL, 7),
        "socketpair" => (SOCKETCALL, 8),
        "send" => (SOCKETCALL, 9),
        "recv" => (SOCKETCALL, 10),
        "sendto" => (SOCKETCALL, 11),
        "recvfrom" => (SOCKETCALL, 12),
        "shutdown" => (SOCKETCALL, 13),
        "setsockopt" => (SOCKETCALL, 14),
        "getsockopt" => (SOCKETCALL, 15),
        "sendmsg" => (SOCKETCALL, 16),
        "recvmsg" => (SOCKETCALL, 17),
        "accept4" => (SOCKETCALL, 18),
        "recvmmsg" => (SOCKETCALL, 19),
        "sendmmsg" => (SOCKETCALL, 20),
        "semop" => (IPC, 1),
        "semget" => (IPC, 2),
        "semctl" => (IPC, 3),
        "semtimedop" => (IPC, 4),
        "msgsnd" => (IPC, 11),
        "msgrcv" => (IPC, 12),
        "msgget" => (IPC, 13),
        "msgctl" => (IPC, 14),
        "shmat" => (IPC, 21),
        "shmdt" => (IPC, 22),
        "shmget" => (IPC, 23),
        "shmctl" => (IPC, 24),
        _ => return None,
    })
}

/// Finds a name. One hash and mostly one comparison: a profile has some 400 names, and compiling it must not cost
/// more than creating a namespace does.
pub(super) fn lookup(name: &str) -> Option<Syscall> {
    let mut slot = hash(name.as_bytes());
    loop {
        let index = SLOTS[slot] as usize;
        if index == NO as usize {
            return None;
        }
        if &NAMES[STARTS[index] as usize..STARTS[index + 1] as usize] == name.as_bytes() {
            return Some(Syscall(index as u16));
        }
        slot = (slot + 1) % SLOTS.len();
    }
}

/// The name of a call by its number, less what all of the architecture have in common.
pub(super) fn name_of(arch: Arch, number: u32) -> Option<&'static str> {
    (0..TABLE.len()).position(|index| Syscall(index as u16).number(arch) == Some(number)).and_then(|at| names().nth(at))
}

/// Every name, for hints.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    (0..TABLE.len()).map(|index| {
        std::str::from_utf8(&NAMES[STARTS[index] as usize..STARTS[index + 1] as usize]).expect("names are ASCII")
    })
}

// The table is laid out at compile time as plain bytes and numbers: 500 `&str` in a position-independent program
// would be 500 relocations at each start, of every command.

const NAMES_LEN: usize = {
    let (mut len, mut index) = (0, 0);
    while index < TABLE.len() {
        len += TABLE[index].0.len();
        index += 1;
    }
    len
};

static NAMES: [u8; NAMES_LEN] = {
    let (mut names, mut at, mut index) = ([0; NAMES_LEN], 0, 0);
    while index < TABLE.len() {
        let name = TABLE[index].0.as_bytes();
        let mut byte = 0;
        while byte < name.len() {
            names[at] = name[byte];
            at += 1;
            byte += 1;
        }
        index += 1;
    }
    names
};

static STARTS: [u16; TABLE.len() + 1] = {
    let (mut starts, mut index) = ([0; TABLE.len() + 1], 0);
    while index < TABLE.len() {
        starts[index + 1] = starts[index] + TABLE[index].0.len() as u16;
        index += 1;
    }
    starts
};

/// Column by column: a machine looks at its own alone, and pages of others are never read.
static NUMBERS: [[u16; TABLE.len()]; COLUMNS] = {
    let (mut numbers, mut index) = ([[NO; TABLE.len()]; COLUMNS], 0);
    while index < TABLE.len() {
        let mut column = 0;
        while column < COLUMNS {
            numbers[column][index] = TABLE[index].1[column];
            column += 1;
        }
        index += 1;
    }
    numbers
};

static SLOTS: [u16; 2048] = {
    let (mut slots, mut index) = ([NO; 2048], 0);
    while index < TABLE.len() {
        let mut slot = hash(TABLE[index].0.as_bytes());
        while slots[slot] != NO {
            slot = (slot + 1) % slots.len();
        }
        slots[slot] = index as u16;
        index += 1;
    }
    slots
};

/// FNV-1a, folded to the number of slots.
const fn hash(name: &[u8]) -> usize {
    let (mut hash, mut index) = (0x811c_9dc5_u32, 0);
    while index < name.len() {
        hash = (hash ^ name[index] as u32).wrapping_mul(0x0100_0193);
        index += 1;
    }
    ((hash ^ (hash >> 16)) % 2048) as usize
}
