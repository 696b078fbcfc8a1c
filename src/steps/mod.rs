//! Steps: each does one thing to the kernel. They are called from lifecycle, in the order that stands there.

pub mod console;
pub mod devices;
pub mod exe;
pub mod hooks;
pub mod idmap;
pub mod intel_rdt;
pub mod landlock;
pub mod masked;
pub mod mounts;
pub mod namespaces;
pub mod netdev;
pub mod netlink;
pub mod path;
pub mod place;
pub mod process;
pub mod procfs;
pub mod restored;
pub mod rootfs;
pub mod seccomp;
pub mod sysctl;
pub mod tools;
pub mod tree;
