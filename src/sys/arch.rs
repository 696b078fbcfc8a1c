//! What depends on the processor: the one place that looks at `target_arch`.

#[cfg(target_arch = "x86_64")]
mod native {
    pub const AUDIT_ARCH: u32 = 0xc000_003e;
    pub const SCMP_ARCH: &str = "SCMP_ARCH_X86_64";
}

#[cfg(target_arch = "x86")]
mod native {
    pub const AUDIT_ARCH: u32 = 0x4000_0003;
    pub const SCMP_ARCH: &str = "SCMP_ARCH_X86";
}

#[cfg(target_arch = "aarch64")]
mod native {
    pub const AUDIT_ARCH: u32 = 0xc000_00b7;
    pub const SCMP_ARCH: &str = "SCMP_ARCH_AARCH64";
}

#[cfg(target_arch = "arm")]
mod native {
    pub const AUDIT_ARCH: u32 = 0x4000_0028;
    pub const SCMP_ARCH: &str = "SCMP_ARCH_ARM";
}

#[cfg(target_arch = "riscv64")]
mod native {
    pub const AUDIT_ARCH: u32 = 0xc000_00f3;
    pub const SCMP_ARCH: &str = "SCMP_ARCH_RISCV64";
}

#[cfg(target_arch = "s390x")]
mod native {
    pub const AUDIT_ARCH: u32 = 0x8000_0016;
    pub const SCMP_ARCH: &str = "SCMP_ARCH_S390X";
}

#[cfg(all(target_arch = "powerpc64", target_endian = "little"))]
mod native {
    pub const AUDIT_ARCH: u32 = 0xc000_0015;
    pub const SCMP_ARCH: &str = "SCMP_ARCH_PPC64LE";
}

/// AUDIT_ARCH_* of this program: what the kernel writes into `seccomp_data.arch` for its calls (linux/audit.h).
pub const AUDIT_ARCH: u32 = native::AUDIT_ARCH;

/// The specification's name of the same.
pub const SCMP_ARCH: &str = native::SCMP_ARCH;
