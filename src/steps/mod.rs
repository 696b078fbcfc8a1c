//! Steps: each does one thing to the kernel. They are called from lifecycle, in the order that stands there.

pub mod devices;
pub mod exe;
pub mod masked;
pub mod mounts;
pub mod path;
pub mod rootfs;
