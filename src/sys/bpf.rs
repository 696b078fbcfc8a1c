//! bpf(2): device programs of a cgroup.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// union bpf_attr, as far as it is used here; larger than the kernel needs, since some kernels write beyond the size given.
#[repr(C, align(8))]
struct Attr([u32; 36]);

fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a zero-padded union bpf_attr of the size that is passed; what it points to lives in the caller
    // until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<Attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Loads a device program; it lives as long as something holds it.
pub fn load_device_program(program: &[u64]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut attr = Attr([0; 36]);
    attr.0[0] = BPF_PROG_TYPE_CGROUP_DEVICE;
    attr.0[1] = program.len() as u32;
    put_pointer(&mut attr, 2, program.as_ptr().addr());
    put_pointer(&mut attr, 4, license.as_ptr().addr());
    let fd = bpf(BPF_PROG_LOAD, &mut attr)?;
    // SAFETY: BPF_PROG_LOAD returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a device program to a cgroup v2 directory, beside those of its ancestors.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr([0; 36]);
    attr.0[0] = cgroup.as_raw_fd() as u32;
    attr.0[1] = program.as_raw_fd() as u32;
    attr.0[2] = BPF_CGROUP_DEVICE;
    attr.0[3] = BPF_F_ALLOW_MULTI;
    bpf(BPF_PROG_ATTACH, &mut attr).map(|_| ())
}

fn put_pointer(attr: &mut Attr, at: usize, address: usize) {
    let bytes = (address as u64).to_ne_bytes();
    attr.0[at] = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    attr.0[at + 1] = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
}
