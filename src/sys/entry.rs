//! The C entry point: hull starts without Rust's runtime.
//!
//! What that runtime would do, and what becomes of it here: it polls the standard descriptors (done here, since a
//! closed one would be taken by the first file that hull opens, and the container would inherit that file), it ignores
//! SIGPIPE (done here: a peer that died must be an error in words, not a silent death), it makes an alternate stack and
//! handlers for stack overflow (left out: the kernel's SIGSEGV says the same). This file is part of the binary, not of
//! the library, where a second `main` would collide with the test harness.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

/// Called by the C library's start code.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    let args: Vec<OsString> = (0..count)
        .map(|at| {
            // SAFETY: the start code passes `argc` pointers to NUL-terminated strings that live as long as the process,
            // and hull never writes to them.
            let arg = unsafe { CStr::from_ptr(*argv.add(at)) };
            OsStr::from_bytes(arg.to_bytes()).to_owned()
        })
        .collect();
    if count > 0 {
        // SAFETY: as above; the kernel lays the strings out one behind the other.
        let (first, last) = unsafe { (*argv, CStr::from_ptr(*argv.add(count - 1))) };
        let end = last.as_ptr() as usize + last.to_bytes_with_nul().len();
        hull::sys::exe::remember_arguments(first as usize, end);
    }
    let stdout_open = open_standard_descriptors();
    // A caller that ignores SIGCHLD hands that on, and the kernel would reap hooks and programs, whose status is lost then.
    // SAFETY: SIG_IGN and SIG_DFL run no code of ours, and there is one thread.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
    super::start(args, stdout_open)
}

/// Opens /dev/null for those of 0, 1 and 2 that are closed; gives whether 1 was open.
fn open_standard_descriptors() -> bool {
    let [stdin, stdout, stderr] = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut polled = [&stdin, &stdout, &stderr].map(|fd| PollFd::new(fd, PollFlags::empty()));
    // A poll that fails (no memory) says nothing: then all count as open, as in Rust's own runtime.
    if poll(&mut polled, Some(&Timespec::default())).is_err() {
        return true;
    }
    let closed = polled.map(|fd| fd.revents().contains(PollFlags::NVAL));
    for _ in closed.iter().filter(|closed| **closed) {
        // The kernel gives the lowest free number: each opening fills the next gap.
        if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()) {
            let _ = null.into_raw_fd();
        }
    }
    !closed[1]
}
