//! What depends on the processor: the one place that looks at `target_arch`.

/// AUDIT_ARCH_* of this program: what the kernel writes into `seccomp_data.arch` for its calls (linux/audit.h).
#[cfg(target_arch = "x86_64")]
pub const AUDIT_ARCH: u32 = 0xc000_003e;
/// AUDIT_ARCH_* of this program: what the kernel writes into `seccomp_data.arch` for its calls (linux/audit.h).
#[cfg(target_arch = "x86")]
pub const AUDIT_ARCH: u32 = 0x4000_0003;
/// AUDIT_ARCH_* of this program: what the kernel writes into `seccomp_data.arch` for its calls (linux/audit.h).
#[cfg(target_arch = "aarch64")]
pub const AUDIT_ARCH: u32 = 0xc000_00b7;
/// AUDIT_ARCH_* of this program: what the kernel writes into `seccomp_data.arch` for its calls (linux/audit.h).
#[cfg(target_arch = "arm")]
pub const AUDIT_ARCH: u32 = 0x4000_0028;

/// The machine's name as uname(2) and the specification's `features` have it.
pub const MACHINE: &str = std::env::consts::ARCH;
