//! What a process is allowed and how it is scheduled: limits and attributes that rustix lacks or ties to its own types.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// getrlimit(2). On 32-bit ARM the call of this name is ugetrlimit, as on every machine whose first one was too narrow.
#[cfg(not(target_arch = "arm"))]
const GETRLIMIT: libc::c_long = libc::SYS_getrlimit;
#[cfg(target_arch = "arm")]
const GETRLIMIT: libc::c_long = libc::SYS_ugetrlimit;

/// prlimit(2) by number: sets soft and hard limit of a process (0: the caller).
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = [soft, hard];
    // SAFETY: `limit` has the layout of struct rlimit64, lives until the call returns, and no old limit is asked for.
    let set = unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, limit.as_ptr(), std::ptr::null_mut::<u64>()) };
    older(check(set), pid, || {
        // SAFETY: on 64-bit machines struct rlimit is the same; it is only read.
        check(unsafe { libc::syscall(libc::SYS_setrlimit, resource, limit.as_ptr()) })
    })
}

/// prlimit(2) by number: the soft and hard limit of a process (0: the caller).
pub fn rlimit(pid: i32, resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = [0u64; 2];
    // SAFETY: `limit` has the layout of struct rlimit64 and lives until the call returns; no new limit is given.
    let got = unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, std::ptr::null::<u64>(), limit.as_mut_ptr()) };
    older(check(got), pid, || {
        // SAFETY: on 64-bit machines struct rlimit is the same, and as long as `limit`.
        check(unsafe { libc::syscall(GETRLIMIT, resource, limit.as_mut_ptr()) })
    })?;
    Ok((limit[0], limit[1]))
}

/// Where prlimit(2) is refused the caller's own limits have calls of their own.
fn older(result: io::Result<()>, pid: i32, call: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match result {
        // Those of 32-bit machines have narrower limits.
        Err(error)
            if pid == 0
                && cfg!(target_pointer_width = "64")
                && matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) =>
        {
            call()
        }
        result => result,
    }
}

/// PR_CAPBSET_DROP by number, for capabilities that are newer than this crate.
pub fn drop_bounding(capability: u32) -> io::Result<()> {
    // SAFETY: prctl with numbers only.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) }.into())
}

/// PR_CAPBSET_READ by number: None when the kernel does not know the capability.
pub fn in_bounding(capability: u32) -> io::Result<Option<bool>> {
    // SAFETY: prctl with numbers only.
    match unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(capability), 0, 0, 0) } {
        0 => Ok(Some(false)),
        1 => Ok(Some(true)),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
            error => Err(error),
        },
    }
}

/// PR_CAP_AMBIENT_RAISE by number.
pub fn raise_ambient(capability: u32) -> io::Result<()> {
    // SAFETY: prctl with numbers only.
    check(
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, libc::c_ulong::from(capability), 0, 0) }
            .into(),
    )
}

/// capset(2) of the caller: three sets by bit.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    // _LINUX_CAPABILITY_VERSION_3
    let header = Header { version: 0x2008_0522, pid: 0 };
    let data: [u32; 6] = [
        effective as u32,
        permitted as u32,
        inheritable as u32,
        (effective >> 32) as u32,
        (permitted >> 32) as u32,
        (inheritable >> 32) as u32,
    ];
    // SAFETY: version 3 reads two structs of three u32, which `data` is; both live until the call returns.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
}

/// The permitted set of the caller (capget(2)).
pub fn permitted_capabilities() -> io::Result<u64> {
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut data = [0u32; 6];
    // SAFETY: version 3 writes two structs of three u32, which `data` holds; both live until the call returns.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    Ok(u64::from(data[1]) | u64::from(data[4]) << 32)
}

/// setdomainname(2).
pub fn set_domainname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are of one string that lives until the call returns.
    check(unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.len()) })
}

/// personality(2): sets the execution domain.
pub fn set_personality(persona: u32) -> io::Result<()> {
    // SAFETY: only a number is passed.
    check(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(persona)) })
}

/// The kernel's struct sched_attr, version 1 (56 bytes; sched_setattr(2)).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedAttr {
    /// Size of this struct.
    pub size: u32,
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// 1 to 99 for the real-time policies.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
    /// Not used.
    pub util_min: u32,
    /// Not used.
    pub util_max: u32,
}

/// sched_setattr(2) of a process (0: the caller).
pub fn set_scheduler(pid: i32, attr: &SchedAttr) -> io::Result<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    // SAFETY: `attr` says its own size and lives until the call returns.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) })
}

/// ioprio_set(2) of one process (0: the caller): class in the upper bits.
pub fn set_io_priority(pid: i32, priority: i32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: only numbers are passed.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, priority) })
}

/// set_mempolicy(2) of the caller, which execve keeps: a mode with its flags, and a bit for each node.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel takes one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads `bits` - 1 bits, which `nodes` has (on 64-bit machines, whose long is a u64), or nothing.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) })
}

/// sched_setaffinity(2) of the caller: a mask of any length, which the kernel cuts to its own.
pub fn set_affinity(mask: &[u64]) -> io::Result<()> {
    // SAFETY: length and pointer are of one slice that lives until the call returns.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr()) })
}

/// Marks one descriptor, by number, to survive execve; EBADF when there is none.
pub fn keep_across_exec(fd: i32) -> io::Result<()> {
    // SAFETY: F_SETFD takes a number; a wrong descriptor only fails.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }.into())
}

/// Whether the caller left a descriptor of this number open. What hull has opened itself is close-on-exec, and what came
/// through an execve cannot be.
pub fn is_inherited(fd: i32) -> bool {
    // SAFETY: F_GETFD reads no memory.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Borrows one of the three standard descriptors.
pub fn standard(fd: i32) -> BorrowedFd<'static> {
    assert!((0..3).contains(&fd), "only 0, 1 and 2 are borrowed by number");
    // SAFETY: the entry point made sure that 0 to 2 are open, and hull never closes them.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Makes `fd` the descriptor number `target` (dup3), which is one of the standard ones.
pub fn replace_standard(fd: BorrowedFd<'_>, target: i32) -> io::Result<()> {
    assert!((0..3).contains(&target), "only 0, 1 and 2 are replaced by number");
    // SAFETY: both are numbers; the old standard descriptor is owned by nobody in hull.
    check(unsafe { libc::dup2(fd.as_raw_fd(), target) }.into())
}

/// Sleeps, more or less. std's own ends the program where the call fails; who waits here asks again, until a deadline.
pub fn sleep(duration: std::time::Duration) {
    let request = rustix::thread::Timespec {
        tv_sec: duration.as_secs().min(i64::MAX as u64) as i64,
        tv_nsec: i64::from(duration.subsec_nanos()),
    };
    let _ = rustix::thread::nanosleep(&request);
}

/// memfd_create(2), of one page that cannot shrink: for [`super::shared::SharedPage`].
pub fn memfd_page(name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    // SAFETY: the name is a terminated string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    check(fd.into())?;
    // SAFETY: the descriptor was just made and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: ftruncate takes numbers only.
    check(unsafe { libc::ftruncate(fd.as_raw_fd(), super::shared::SIZE as libc::off_t) }.into())?;
    // SAFETY: F_ADD_SEALS takes numbers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW) }.into())?;
    Ok(fd)
}
