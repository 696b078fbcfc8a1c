//! The system calls that hull makes itself: the only place with `unsafe`. What rustix has is not wrapped again.
#![allow(unsafe_code)]

pub mod arch;
pub mod bpf;
pub mod exe;
pub mod mount;
pub mod seccomp;
