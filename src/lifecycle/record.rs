//! `seccomp record`: a foreground `run` whose calls are all shown to hull, and the profile that comes of them.
//!
//! hull is the one thread that it always is: the listener is one more descriptor for the loops that wait for the program.

use std::fmt::Display;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags};

use super::{CreateOptions, Globals, run};
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::plan::Plan;
use crate::plan::seccomp::SockFilter;
use crate::plan::seccomp::record::{Answer, For, Mark, Recording, profile};
use crate::sys;

/// The options of seccomp record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordOptions {
    /// Those of run.
    pub run: CreateOptions,
    /// --output; absent: seccomp.json in the bundle.
    pub output: Option<PathBuf>,
    /// --names-only.
    pub names_only: bool,
}

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

/// Runs the program, writes its profile and gives its exit status.
pub fn record(globals: &Globals, options: &RecordOptions) -> Result<i32> {
    if !sys::seccomp::notifications_fit().err_at(Step::Seccomp, "seccomp", || "ask for SCMP_ACT_NOTIFY")? {
        return Err(Error::host(Step::Seccomp, "the kernel's notifications are longer than hull knows them"));
    }
    let default = options.run.bundle.join("seccomp.json");
    let output = Output::open(options.output.as_deref().unwrap_or(&default))?;
    let mut mark = [0_u8; 12];
    rustix::rand::getrandom(&mut mark, rustix::rand::GetRandomFlags::empty()).err_at(
        Step::Seccomp,
        "getrandom",
        || "mark hull's own calls",
    )?;
    let part = |at: usize| u32::from_ne_bytes([mark[at], mark[at + 1], mark[at + 2], mark[at + 3]]);
    let run_options = CreateOptions { record: Some(Mark([part(0), part(4), part(8)])), ..options.run.clone() };
    run::record(globals, &run_options, &output, options.names_only)
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
        if !plan.hooks.start_container.is_empty() && !plan.process.no_new_privileges {
            say("startContainer hooks run under the profile too, and were not recorded");
        }
        Ok(())
    }
}

fn say(what: impl Display) {
    crate::log::to_stderr(&format!("hull: seccomp record: {what}\n"));
}

impl Output {
    fn open(path: &Path) -> Result<Output> {
        // Not truncated yet: should the program not even start, an earlier recording is still there.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))
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
