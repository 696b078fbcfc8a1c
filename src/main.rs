//! The binary: argv -> command -> one error sentence -> exit code. Nothing else.
#![cfg_attr(not(test), no_main)]

use std::ffi::OsString;

use hull::commands::{Done, execute};
use hull::error::{ErrAt, Error, Step};
use hull::{Result, cli, log};
use rustix::io::Errno;

#[cfg(all(target_env = "musl", not(test)))]
#[global_allocator]
static ALLOCATOR: hull::sys::allocator::Allocator = hull::sys::allocator::Allocator;

#[cfg(not(test))]
#[path = "sys/entry.rs"]
mod entry;

/// Does what the command line says and gives the exit status.
fn start(args: Vec<OsString>, stdout_open: bool) -> i32 {
    hull::sys::umask::take();
    let cli::Parsed { log: options, outcome } = cli::parse(args);
    log::init(options);
    let done = match outcome {
        Ok(invocation) => log::open().and_then(|()| execute(invocation)).and_then(|done| print(done, stdout_open)),
        Err(refusal) => {
            log::report(&refusal.error);
            return refusal.status;
        }
    };
    done.unwrap_or_else(|error: Error| {
        log::report(&error);
        error.exit_code()
    })
}

fn print(done: Done, stdout_open: bool) -> Result<i32> {
    if !done.text.is_empty() {
        let written =
            if stdout_open { log::write_all(rustix::stdio::stdout(), done.text.as_bytes()) } else { Err(Errno::BADF) };
        written.err_at(Step::State, "write", || "print to stdout")?;
    }
    Ok(done.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses() {
        let run = |line: &str, stdout_open| start(line.split(' ').map(OsString::from).collect(), stdout_open);
        assert_eq!(run("hull --version", true), 0);
        assert_eq!(run("hull help kill", true), 0);
        assert_eq!(run("hull --version", false), 1);
        assert_eq!(run("hull create", true), 1);
        assert_eq!(run("hull --nope state web", true), 1);
        assert_eq!(run("hull strat web", true), 3);
    }
}
