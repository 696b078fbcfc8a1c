//! Landlock: access rights that a process gives up for itself and its children (landlock(7)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

/// struct landlock_ruleset_attr, as far as its first version goes.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
}

/// struct landlock_path_beneath_attr.
#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// The version of Landlock that this kernel has; an error where it has none or it is off.
pub fn abi() -> io::Result<u32> {
    // SAFETY: with this flag the kernel takes no attribute and no length.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    if version < 0 { Err(io::Error::last_os_error()) } else { Ok(version as u32) }
}

/// A ruleset that denies these rights (LANDLOCK_ACCESS_FS_*) wherever no rule allows them.
pub fn ruleset(handled: u64) -> io::Result<OwnedFd> {
    let attr = RulesetAttr { handled_access_fs: handled };
    // SAFETY: the kernel reads the length that is passed.
    let fd = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &attr, size_of::<RulesetAttr>(), 0u32) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor (close-on-exec) that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Adds a rule: what is at or beneath `path` (O_PATH does) allows these rights.
pub fn allow(ruleset: BorrowedFd<'_>, path: BorrowedFd<'_>, access: u64) -> io::Result<()> {
    let attr = PathBeneathAttr { allowed_access: access, parent_fd: path.as_raw_fd() };
    // SAFETY: the kernel reads an attribute of the type that is named.
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &attr, 0u32) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Holds the caller to the ruleset from now on; takes no_new_privs or CAP_SYS_ADMIN.
pub fn restrict_self(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: only numbers are passed.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
