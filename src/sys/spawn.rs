//! Starting a helper program where posix_spawn(3) cannot, and hearing it out where std would end the program.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};

/// Starts a program. std asks posix_spawn, which in glibc gives up where an outer filter answers EPERM to clone3; then the
/// program is started by fork(2) and execve, which no such filter knows.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    match command.spawn() {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            // SAFETY: the closure does nothing. Its presence alone makes std fork; hull has one thread, so the child could
            // even allocate.
            unsafe { command.pre_exec(|| Ok(())) };
            command.spawn()
        }
        result => result,
    }
}

/// Runs a program to its end, and gives what it wrote. That goes to files in memory: std's own way, two pipes at once, panics
/// where poll(2) or read(2) fails.
pub fn output(command: &mut Command) -> io::Result<Output> {
    let file = || io::Result::Ok(File::from(memfd_create("hull-output", MemfdFlags::CLOEXEC)?));
    let (stdout, stderr) = (file()?, file()?);
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let status = spawn(command)?.wait()?;
    let written = |mut file: File| {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes).map(|_| bytes)
    };
    Ok(Output { status, stdout: written(stdout)?, stderr: written(stderr)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_wrote_is_heard() {
        let script = "read x; echo out; echo err >&2; seq 100000; exit 3";
        let heard = output(Command::new("/bin/sh").args(["-c", script])).unwrap();
        assert_eq!((heard.status.code(), &heard.stderr[..]), (Some(3), &b"err\n"[..]));
        assert!(heard.stdout.starts_with(b"out\n1\n") && heard.stdout.ends_with(b"\n100000\n"));
        assert!(output(&mut Command::new("/nowhere")).is_err());
    }
}
