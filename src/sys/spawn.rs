//! Starting a helper program where posix_spawn(3) cannot, and hearing it out where std would end the program.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Output, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};

/// A program that was started, and is to be waited for.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    status: Option<ExitStatus>,
}

impl Child {
    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.ask(WaitOptions::empty())?.ok_or_else(|| Errno::CHILD.into())
    }

    /// How it has ended, if it has.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.ask(WaitOptions::NOHANG)
    }

    fn ask(&mut self, options: WaitOptions) -> io::Result<Option<ExitStatus>> {
        while self.status.is_none() {
            match waitpid(Some(self.pid), options) {
                Ok(Some((_, status))) => self.status = Some(ExitStatus::from_raw(status.as_raw())),
                Ok(None) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(self.status)
    }
}

/// Starts a program as one that knows nothing of hull: no signal is blocked or ignored, whatever hull or its caller does.
/// What std does by itself leaves the mask, and posix_spawn of glibc has the program ignore signals 32 and 33; nor does that
/// start anything where an outer filter answers EPERM to clone3. And where std cannot read what became of the execve it
/// waits for the program, which may wait for its input. Descriptors are CLOEXEC from the beginning.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC)?;
    match super::clone::fork()? {
        0 => {
            drop(told);
            let as_new = super::signal::default_all().and_then(|()| super::signal::unblock_all());
            let error = match as_new {
                Ok(()) => super::umask::lend(|| command.exec()),
                Err(error) => error,
            };
            let number = error.raw_os_error().unwrap_or(libc::EINVAL);
            let _ = File::from(tell).write_all(&number.to_ne_bytes());
            super::clone::exit_now(127)
        }
        pid => {
            drop(tell);
            let pid = Pid::from_raw(pid).ok_or(Errno::CHILD)?;
            let mut child = Child { pid, status: None };
            let mut number = [0; 4];
            match File::from(told).read_exact(&mut number) {
                Ok(()) => {
                    let _ = child.wait();
                    Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number)))
                }
                // It runs; or nobody can say, and its status will.
                Err(_) => Ok(child),
            }
        }
    }
}

/// Runs a program to its end, and gives what it wrote. That goes to files in memory: std's own way, two pipes at once, panics
/// where poll(2) or read(2) fails.
pub fn output(command: &mut Command) -> io::Result<Output> {
    let file = || io::Result::Ok(File::from(memfd_create("hull-output", MemfdFlags::CLOEXEC)?));
    let (stdout, stderr) = match (file(), file()) {
        (Ok(stdout), Ok(stderr)) => (stdout, stderr),
        // Better so than not at all.
        (Err(e), _) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            return super::umask::lend(|| command.stdin(Stdio::null()).output());
        }
        (stdout, stderr) => (stdout?, stderr?),
    };
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
    fn a_program_has_no_signals_of_ours() {
        // Of this thread alone.
        crate::sys::signal::block_all().unwrap();
        let heard = output(Command::new("grep").args(["-E", "^Sig(Blk|Ign)", "/proc/self/status"]));
        crate::sys::signal::unblock_all().unwrap();
        let none = "0000000000000000";
        assert_eq!(String::from_utf8_lossy(&heard.unwrap().stdout), format!("SigBlk:\t{none}\nSigIgn:\t{none}\n"));
    }

    #[test]
    fn what_a_program_wrote_is_heard() {
        let script = "read x; echo out; echo err >&2; seq 100000; exit 3";
        let heard = output(Command::new("/bin/sh").args(["-c", script])).unwrap();
        assert_eq!((heard.status.code(), &heard.stderr[..]), (Some(3), &b"err\n"[..]));
        assert!(heard.stdout.starts_with(b"out\n1\n") && heard.stdout.ends_with(b"\n100000\n"));
        assert!(output(&mut Command::new("/nowhere")).is_err());
    }
}
