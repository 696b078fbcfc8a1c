//! The running program's own file: seen through a read-only mount, and taken as /proc/self/exe by a process that runs
//! (prctl(2), PR_SET_MM_MAP).
//!
//! A process cannot change what /proc/self/exe names while it still has the old file mapped (EBUSY). So every segment is
//! mapped again from the new file, at the same address and with the same bytes, and moved over the old mapping in one
//! system call; segments that have been written to are copied into anonymous memory.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the command line lies in memory: it stays visible in /proc/PID/cmdline.
static ARGUMENTS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Notes where the command line begins and ends; the entry point calls it.
pub fn remember_arguments(start: usize, end: usize) {
    ARGUMENTS[0].store(start, Ordering::Relaxed);
    ARGUMENTS[1].store(end, Ordering::Relaxed);
}

/// The command line, as it was given.
pub fn arguments() -> Vec<std::ffi::CString> {
    let [start, end] = [0, 1].map(|at| ARGUMENTS[at].load(Ordering::Relaxed));
    if start == 0 || end < start {
        return Vec::new();
    }
    // SAFETY: the entry point noted the range of the strings that the kernel put on the stack, which live and stay as they
    // are for as long as the process.
    let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, end - start) };
    bytes
        .split_inclusive(|byte| *byte == 0)
        .filter_map(|arg| std::ffi::CString::from_vec_with_nul(arg.to_vec()).ok())
        .collect()
}

/// The kernel's struct prctl_mm_map.
#[repr(C)]
struct PrctlMmMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

#[cfg(target_pointer_width = "64")]
type ProgramHeader = libc::Elf64_Phdr;
#[cfg(target_pointer_width = "64")]
type ElfHeader = libc::Elf64_Ehdr;
#[cfg(target_pointer_width = "32")]
type ProgramHeader = libc::Elf32_Phdr;
#[cfg(target_pointer_width = "32")]
type ElfHeader = libc::Elf32_Ehdr;

unsafe extern "C" {
    /// The ELF header, where the linker put it: the base of the program in memory.
    #[link_name = "__ehdr_start"]
    static EHDR_START: ElfHeader;
}

/// Makes `file`, which holds the very bytes of the running program, the file that /proc/self/exe names and that the
/// program's memory is mapped from. EPERM without CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN in the own user namespace,
/// EINVAL on kernels before 5.9.
pub fn run_from(file: BorrowedFd<'_>) -> io::Result<()> {
    let base = &raw const EHDR_START as usize;
    // SAFETY: the ELF header and the program headers behind it are part of the first segment, which is mapped for as long
    // as the program runs, and nobody writes to it.
    let headers: &[ProgramHeader] = unsafe {
        let header = &EHDR_START;
        let first = (base + header.e_phoff as usize) as *const ProgramHeader;
        std::slice::from_raw_parts(first, header.e_phnum as usize)
    };
    let base = bias(base, headers);
    // SAFETY: sysconf reads no memory of ours.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let (mut code, mut data) = ([0usize; 2], [0usize; 2]);
    // A copy, since the headers themselves are mapped anew while this runs.
    let segments: Vec<Segment> = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD && header.p_filesz > 0)
        .map(|header| Segment::new(header, base, page))
        .collect();
    let relro = headers
        .iter()
        .find(|header| header.p_type == libc::PT_GNU_RELRO)
        .map(|header| (base + header.p_vaddr as usize, header.p_memsz as usize));
    for segment in &segments {
        segment.map_again(file)?;
        let range = [segment.start, segment.start + segment.len];
        if segment.protection & libc::PROT_EXEC != 0 {
            code = range;
        } else if segment.protection & libc::PROT_WRITE != 0 {
            data = range;
        }
    }
    if let Some((start, len)) = relro {
        let (first, last) = (start / page * page, (start + len) / page * page);
        // SAFETY: the range is the part of the writable segment that the linker marked read-only after relocation; nothing
        // writes to it after the start of the program.
        check(unsafe { libc::mprotect(first as *mut libc::c_void, last - first, libc::PROT_READ) })?;
    }
    set_mm_map(file, code, data)
}

/// What the addresses of the headers are off by, where the ELF header lies at `base`: all of it in a position-independent
/// program, nothing in another, as rustc links static ones for aarch64.
fn bias(base: usize, headers: &[ProgramHeader]) -> usize {
    let first = headers.iter().find(|header| header.p_type == libc::PT_LOAD && header.p_offset == 0);
    first.map_or(base, |header| base.wrapping_sub(header.p_vaddr as usize))
}

#[derive(Debug, PartialEq, Eq)]
struct Segment {
    start: usize,
    len: usize,
    offset: libc::off_t,
    protection: libc::c_int,
}

impl Segment {
    fn new(header: &ProgramHeader, base: usize, page: usize) -> Segment {
        let address = base + header.p_vaddr as usize;
        let start = address / page * page;
        // Beyond the file's bytes the kernel mapped anonymous memory (.bss), which names no file.
        let end = (address + header.p_filesz as usize).next_multiple_of(page);
        let bit = |flag, protection| if header.p_flags & flag != 0 { protection } else { 0 };
        Segment {
            start,
            len: end - start,
            offset: header.p_offset as libc::off_t - (address - start) as libc::off_t,
            protection: bit(libc::PF_R, libc::PROT_READ)
                | bit(libc::PF_W, libc::PROT_WRITE)
                | bit(libc::PF_X, libc::PROT_EXEC),
        }
    }

    fn map_again(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        let writable = self.protection & libc::PROT_WRITE != 0;
        let (flags, fd, offset) = if writable {
            // Populated at once: each page is about to be written.
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE, -1, 0)
        } else {
            (libc::MAP_PRIVATE, file.as_raw_fd(), self.offset)
        };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let new = unsafe { libc::mmap(std::ptr::null_mut(), self.len, self.protection, flags, fd, offset) };
        if new == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        if writable {
            // SAFETY: both ranges are mapped and `len` long; the target is new, so they do not overlap. There is one thread,
            // and between this copy and the move below nothing writes to the program's data.
            unsafe { std::ptr::copy_nonoverlapping(self.start as *const u8, new.cast::<u8>(), self.len) };
        }
        // SAFETY: the move replaces a mapping of the running program by one with the same bytes and the same protection, in
        // one system call, so that code, constants and data stay where they are and what they are.
        let moved = unsafe {
            libc::mremap(
                new,
                self.len,
                self.len,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                self.start as *mut libc::c_void,
            )
        };
        if moved == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn set_mm_map(file: BorrowedFd<'_>, code: [usize; 2], data: [usize; 2]) -> io::Result<()> {
    const PR_SET_MM: libc::c_int = 35;
    const PR_SET_MM_MAP: libc::c_ulong = 14;
    // SAFETY: brk(0) changes nothing and gives the present end of the heap.
    let brk = unsafe { libc::syscall(libc::SYS_brk, 0) } as u64;
    let stack = &raw const file as u64;
    let [arg_start, arg_end] = [0, 1].map(|at| match ARGUMENTS[at].load(Ordering::Relaxed) {
        0 => stack,
        address => address as u64,
    });
    let map = PrctlMmMap {
        start_code: code[0] as u64,
        end_code: code[1] as u64,
        start_data: data[0] as u64,
        end_data: data[1] as u64,
        // The heap's true start is not known here; its end is what counts for growing it.
        start_brk: brk,
        brk,
        start_stack: stack,
        arg_start,
        arg_end,
        env_start: arg_end,
        env_end: arg_end,
        auxv: 0,
        auxv_size: 0,
        exe_fd: file.as_raw_fd() as u32,
    };
    // SAFETY: `map` lives until the call returns and has the size that is passed; its addresses are within this process's
    // memory and only describe it.
    check(unsafe { libc::prctl(PR_SET_MM, PR_SET_MM_MAP, &raw const map, size_of::<PrctlMmMap>(), 0) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether fs-verity guards a file (FS_IOC_MEASURE_VERITY): the kernel then refuses every write to it, for ever.
pub fn has_verity(file: BorrowedFd<'_>) -> bool {
    const FS_IOC_MEASURE_VERITY: libc::Ioctl = rustix::ioctl::opcode::read_write::<[u8; 4]>(b'f', 134) as libc::Ioctl;
    // struct fsverity_digest: algorithm, size of the room for the digest, the digest.
    let mut digest = [0u16; 2 + 32];
    digest[1] = 64;
    // SAFETY: the kernel writes at most the four bytes of the header and the 64 that `digest` says it has room for.
    unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_MEASURE_VERITY, digest.as_mut_ptr()) == 0 }
}

/// execveat(2) of an open file, by its descriptor alone; only returns on failure.
pub fn execute(file: BorrowedFd<'_>, args: &[std::ffi::CString]) -> io::Error {
    let argv: Vec<*const libc::c_char> = args.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect();
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: the arguments' array ends in a null pointer and lives until the call returns; `environ` is the C library's,
    // and nobody changes it.
    unsafe {
        libc::syscall(libc::SYS_execveat, file.as_raw_fd(), c"".as_ptr(), argv.as_ptr(), environ, libc::AT_EMPTY_PATH);
    }
    io::Error::last_os_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(p_type: u32, p_flags: u32, p_offset: u64, p_vaddr: u64, p_filesz: u64) -> ProgramHeader {
        // SAFETY: all zeros are a valid program header.
        let mut header: ProgramHeader = unsafe { std::mem::zeroed() };
        (header.p_type, header.p_flags) = (p_type, p_flags);
        (header.p_offset, header.p_vaddr, header.p_filesz) = (p_offset as _, p_vaddr as _, p_filesz as _);
        header
    }

    /// The same program, linked to be put anywhere and linked for one place.
    #[test]
    fn segments_lie_where_the_program_is() {
        const PAGE: usize = 0x1000;
        for (linked, base, off_by) in [(0, 0x7f00_0000, 0x7f00_0000), (0x40_0000, 0x40_0000, 0)] {
            let headers = [
                header(libc::PT_NOTE, libc::PF_R, 0x200, linked + 0x200, 0x20),
                header(libc::PT_LOAD, libc::PF_R, 0, linked, 0x1234),
                header(libc::PT_LOAD, libc::PF_R | libc::PF_X, 0x1234, linked + 0x2234, 0x3000),
                header(libc::PT_LOAD, libc::PF_R | libc::PF_W, 0x4300, linked + 0x6300, 0x10),
            ];
            assert_eq!(bias(base, &headers), off_by);
            let segments: Vec<_> = headers[1..].iter().map(|one| Segment::new(one, off_by, PAGE)).collect();
            let places = segments.iter().map(|one| (one.start - base, one.len, one.offset)).collect::<Vec<_>>();
            assert_eq!(places, [(0, 0x2000, 0), (0x2000, 0x4000, 0x1000), (0x6000, 0x1000, 0x4000)]);
            assert_eq!(segments[1].protection, libc::PROT_READ | libc::PROT_EXEC);
        }
    }
}
