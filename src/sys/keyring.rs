//! keyctl(2): a session keyring of the container's own.

use std::ffi::CStr;
use std::io;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
const KEYCTL_SETPERM: libc::c_long = 5;
const KEYCTL_DESCRIBE: libc::c_long = 6;

/// Joins the session keyring of this name, or makes it; its serial number.
pub fn join_session(name: &CStr) -> io::Result<i32> {
    // SAFETY: the name lives until the call returns.
    let serial = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if serial < 0 { Err(io::Error::last_os_error()) } else { Ok(serial as i32) }
}

/// What a kernel without keys, or a filter, says.
pub fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

/// Whether add_key(2) and request_key(2), which reach the session keyring without keyctl(2), are refused, too.
pub fn refuses_the_rest() -> bool {
    [libc::SYS_add_key, libc::SYS_request_key].into_iter().all(|call| {
        // SAFETY: null pointers are addresses that the kernel cannot read: it says EFAULT and does nothing.
        let result = unsafe { libc::syscall(call, 0_usize, 0_usize, 0_usize, 0_usize, 0_usize) };
        result < 0 && is_refusal(&io::Error::last_os_error())
    })
}

/// The permission bits of a key.
pub fn permissions(serial: i32) -> io::Result<u32> {
    let mut text = [0u8; 256];
    // SAFETY: the kernel writes at most the length that is passed.
    let len = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, serial, text.as_mut_ptr(), text.len()) };
    if len < 0 {
        return Err(io::Error::last_os_error());
    }
    // "type;uid;gid;perm;description", perm in hexadecimal.
    std::str::from_utf8(&text[..(len as usize).min(text.len())])
        .ok()
        .and_then(|t| t.split(';').nth(3))
        .and_then(|p| u32::from_str_radix(p, 16).ok())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))
}

/// Sets the permission bits of a key.
pub fn set_permissions(serial: i32, bits: u32) -> io::Result<()> {
    // SAFETY: only numbers are passed.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, serial, bits) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
