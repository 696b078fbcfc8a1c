//! hull: a low-level OCI container runtime of two processes and one clone.
//!
//! The data flow is one line: `config.json -> spec -> plan (pure) -> lifecycle (setup and init) -> sys`.
//! [`spec`] is the config as written, [`plan`] what will be done, [`lifecycle`] what happens in order (its
//! `create.rs` shows every handover between the two processes), [`steps`] do one thing to the kernel each,
//! [`cgroup`] owns the cgroup tree, [`criu`] speaks to CRIU, [`sys`] is the only place with `unsafe`, [`commands`] is a thin verb a file.

pub mod bytes;
pub mod cgroup;
pub mod check;
pub mod cli;
pub mod commands;
pub mod criu;
pub mod digest;
pub mod doctor;
pub mod error;
pub mod host;
pub mod lifecycle;
pub mod log;
pub mod plan;
pub mod spec;
pub mod steps;
pub mod sys;
pub mod timeline;
pub mod trace;

pub use error::{Error, Result};
