//! What `seccomp record` keeps of a container's calls while the loops of start and run wait, and the profile at the end.

use std::fmt::Display;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, OFlags};

use crate::error::{ErrAt, Result, Step, show};
use crate::plan::Plan;
use crate::plan::seccomp::SockFilter;
use crate::plan::seccomp::record::{Answer, For, Recording, profile};
use crate::sys;

/// Where a profile goes: opened before the container is made, so that a mistake in its path costs no recording.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    file: OwnedFd,
}

/// The other end of the filter.
#[derive(Debug, Default)]
pub struct Recorder {
    own: Option<Vec<SockFilter>>,
    listener: Option<OwnedFd>,
    recording: Recording,
}

impl Recorder {
    /// For a plan that has a recorder's filter.
    pub fn new(plan: &Plan) -> Recorder {
        let recorder = plan.seccomp.as_ref().and_then(|filter| filter.recorder.as_ref());
        Recorder { own: recorder.and_then(|recorder| recorder.own.clone()), ..Recorder::default() }
    }

    /// init has loaded the filter.
    pub fn listen(&mut self, listener: OwnedFd) {
        sys::seccomp::wake_at_once(listener.as_fd());
        self.listener = Some(listener);
    }

    /// What to poll for: a call that waits, or the end of the last process under the filter.
    pub fn wants(&self) -> Option<PollFd<'_>> {
        self.listener.as_ref().map(|listener| PollFd::new(listener, PollFlags::IN))
    }

    /// Takes one call down and answers it.
    ///
    /// That the kernel goes on with it (SECCOMP_USER_NOTIF_FLAG_CONTINUE) is no hole here, although memory to which its
    /// arguments point may change in between: nothing is decided by what is seen there. What the config's own profile
    /// refuses is decided by numbers in registers, which the kernel has copied and goes on with.
    pub fn go_on(&mut self, events: PollFlags) -> Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        if events.is_empty() {
            return Ok(());
        }
        if !events.contains(PollFlags::IN) {
            self.listener = None;
            return Ok(());
        }
        let subject = || "answer a system call of the program";
        let taken = sys::seccomp::receive(listener.as_fd()).err_at(Step::Seccomp, "ioctl(NOTIF_RECV)", subject)?;
        let Some((id, call)) = taken else { return Ok(()) };
        let errno = match self.recording.take(&call, self.own.as_deref()) {
            Answer::GoOn => None,
            Answer::Errno(errno) => Some(errno),
        };
        sys::seccomp::respond(listener.as_fd(), id, errno).err_at(Step::Seccomp, "ioctl(NOTIF_SEND)", subject)
    }

    /// Writes the profile, and says on stderr what is worth knowing of it. The processes that are left are not
    /// answered any more: the kernel gives them ENOSYS.
    pub fn finish(self, plan: &Plan, output: &Output, names_only: bool) -> Result<()> {
        let made_for = For {
            audit_arch: sys::arch::AUDIT_ARCH,
            no_new_privileges: plan.process.no_new_privileges,
            hooked: !plan.hooks.start_container.is_empty(),
            own: self.own.as_deref(),
            names_only,
        };
        let made = profile(&self.recording, &made_for)?;
        output.write(made.json.as_bytes())?;
        say(format_args!(
            "{} calls, {} different ones of {}; the profile is in {}",
            self.recording.total(),
            made.calls,
            made.architectures.join(", "),
            show(&output.path)
        ));
        say(format_args!("added for the kernel, the C library or hull: {}", made.added.join(" ")));
        made.notes.iter().for_each(say);
        if made_for.hooked {
            say("startContainer hooks run under the profile too, and were not recorded");
        }
        Ok(())
    }
}

fn say(what: impl Display) {
    crate::log::to_stderr(&format!("hull: seccomp record: {what}\n"));
}

impl Output {
    /// Opens or makes the file.
    pub fn open(path: &Path, follow: OFlags) -> Result<Output> {
        // Not truncated yet: should the program not even start, an earlier recording is still there.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY | follow;
        let file = rustix::fs::open(path, flags, crate::sys::umask::file())
            .err_at(Step::Seccomp, "open", || format!("write the profile to {}", show(path)))?;
        Ok(Output { path: path.to_owned(), file })
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        let subject = || format!("write the profile to {}", show(&self.path));
        let stat = rustix::fs::fstat(&self.file).err_at(Step::Seccomp, "fstat", subject)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            rustix::fs::ftruncate(&self.file, 0).err_at(Step::Seccomp, "ftruncate", subject)?;
        }
        let mut file = std::fs::File::from(self.file.try_clone().err_at(Step::Seccomp, "fcntl", subject)?);
        file.write_all(bytes).err_at(Step::Seccomp, "write", subject)
    }
}
