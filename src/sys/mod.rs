//! The system calls that hull makes itself: the only place with `unsafe`. What rustix has is not wrapped again.
#![allow(unsafe_code)]

#[cfg(target_env = "musl")]
pub mod allocator;
pub mod arch;
pub mod bpf;
pub mod clone;
pub mod descriptors;
pub mod exe;
pub mod keyring;
pub mod landlock;
pub mod listing;
pub mod mount;
pub mod namespace;
pub mod net;
pub mod process;
pub mod seccomp;
pub mod shared;
pub mod signal;
pub mod spawn;
pub mod umask;
pub mod whole;
