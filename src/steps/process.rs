//! What init does to itself before it becomes the program: ids, capabilities, limits, descriptors, working directory.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::error::{Blame, ErrAt, Error, Result, Step};
use crate::plan::affinity::CpuSet;
use crate::plan::memory_policy::MemoryPolicy;
use crate::plan::process::{Capabilities, Process, Rlimit, Scheduler, User};
use crate::steps::path::{Root, RootfsPath};
use crate::steps::procfs::ProcFs;
use crate::sys;

/// Dies with setup, however setup dies. Set again after each change of credentials, which clears it.
pub fn die_with_parent(on: bool) -> Result<()> {
    rustix::process::set_parent_process_death_signal(on.then_some(Signal::KILL)).err_at(
        Step::Process,
        "prctl(PR_SET_PDEATHSIG)",
        || "tie init to setup",
    )
}

/// Nobody in the container may ptrace init or look through its /proc/PID. Set again after each change of credentials.
pub fn not_dumpable() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).err_at(
        Step::Process,
        "prctl(PR_SET_DUMPABLE)",
        || "shield init",
    )
}

/// init may write its own files in /proc for the time of one write.
pub fn dumpable() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).err_at(
        Step::Process,
        "prctl(PR_SET_DUMPABLE)",
        || "open init's own files in /proc",
    )
}

/// Takes the root ids of a user namespace that was just mapped or joined.
pub fn become_root(uid: u32, gid: u32, setgroups: bool) -> Result<()> {
    let subject = || format!("become {uid}:{gid} in the user namespace");
    if setgroups {
        // The groups of the caller have no meaning inside. In a joined namespace it may be denied: they stay as they are.
        match rustix::thread::set_thread_groups(&[]) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(Error::call(Step::Process, "setgroups", errno, subject())),
        }
    }
    // KEEPCAPS: the first mapped id may be another one than 0.
    rustix::thread::set_keep_capabilities(true).err_at(Step::Process, "prctl(PR_SET_KEEPCAPS)", subject)?;
    set_ids(uid, gid, subject)?;
    let all = sys::process::permitted_capabilities().err_at(Step::Process, "capget", subject)?;
    sys::process::set_capabilities(all, all, 0).err_at(Step::Process, "capset", subject)
}

fn set_ids(uid: u32, gid: u32, subject: impl Fn() -> String) -> Result<()> {
    let (uid, gid) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).err_at(Step::Process, "setresgid", &subject)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).err_at(Step::Process, "setresuid", &subject)
}

/// A session keyring of the container's own, named after it; the program's user may search it.
pub fn join_keyring(id: &str) -> Result<()> {
    const KEY_USR_ALL_SEARCH: u32 = 0x0008_0000;
    let name = CString::new(format!("_ses.{id}")).expect("an id has no NUL");
    let subject = || format!("make the session keyring _ses.{id}");
    let serial = match sys::keyring::join_session(&name) {
        Ok(serial) => serial,
        // A kernel without keys has nothing that could leak.
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => return Ok(()),
        Err(e) => {
            return Err(e)
                .err_at(Step::Process, "keyctl(KEYCTL_JOIN_SESSION_KEYRING)", subject)
                .map_err(|e| e.hint("--no-new-keyring goes on without one"));
        }
    };
    let bits = sys::keyring::permissions(serial).err_at(Step::Process, "keyctl(KEYCTL_DESCRIBE)", subject)?;
    sys::keyring::set_permissions(serial, bits | KEY_USR_ALL_SEARCH).err_at(
        Step::Process,
        "keyctl(KEYCTL_SETPERM)",
        subject,
    )
}

/// Gives stdio to the program's user, so that it can open /dev/stdout again: pipes, files that are open for writing, and
/// the container's own terminal; no other device and nothing that is open for reading only.
pub fn chown_stdio(uid: u32, own_terminal: bool) -> Result<()> {
    for number in 0..3 {
        let fd = sys::process::standard(number);
        let subject = || format!("give file descriptor {number} to user {uid}");
        let stat = rustix::fs::fstat(fd).err_at(Step::Process, "fstat", subject)?;
        let writable = rustix::fs::fcntl_getfl(fd).err_at(Step::Process, "fcntl(F_GETFL)", subject)? & OFlags::ACCMODE
            != OFlags::RDONLY;
        let give = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo => true,
            FileType::RegularFile => writable,
            FileType::CharacterDevice => own_terminal && rustix::termios::isatty(fd),
            _ => false,
        };
        if !give || stat.st_uid == uid {
            continue;
        }
        let owner = rustix::fs::Uid::from_raw(uid);
        // The group stays: a terminal's is tty's.
        match rustix::fs::fchown(fd, Some(owner), None) {
            Ok(()) => {}
            // Unmapped owners, read-only file systems: the descriptor itself works all the same.
            Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            Err(errno) => return Err(Error::call(Step::Process, "fchown", errno, subject())),
        }
    }
    Ok(())
}

/// Drops what is not in the bounding set, while CAP_SETPCAP is there.
pub fn drop_bounding(keep: u64, last_cap: u32) -> Result<()> {
    for capability in (0..=last_cap).filter(|bit| keep & 1 << bit == 0) {
        match sys::process::drop_bounding(capability) {
            Ok(()) => {}
            Err(e)
                if e.raw_os_error() == Some(libc::EPERM)
                    && matches!(sys::process::in_bounding(capability), Ok(Some(false))) => {}
            Err(e) => {
                return Err(e).err_at(Step::Process, "prctl(PR_CAPBSET_DROP)", || {
                    format!("drop capability {capability} from the bounding set (/process/capabilities/bounding)")
                });
            }
        }
    }
    Ok(())
}

/// Becomes the program's user and keeps, for the steps that are left, every capability that init has.
pub fn become_user(user: &User) -> Result<()> {
    let subject = || format!("become user {}:{} (/process/user)", user.uid, user.gid);
    if let Some(groups) = &user.groups {
        let groups: Vec<_> = groups.iter().map(|gid| rustix::process::Gid::from_raw(*gid)).collect();
        rustix::thread::set_thread_groups(&groups).err_at(Step::Process, "setgroups", || {
            format!("set {} supplementary groups (/process/user/additionalGids)", groups.len())
        })?;
    }
    rustix::thread::set_keep_capabilities(true).err_at(Step::Process, "prctl(PR_SET_KEEPCAPS)", subject)?;
    set_ids(user.uid, user.gid, subject)?;
    rustix::process::umask(Mode::from_raw_mode(user.umask));
    let all = sys::process::permitted_capabilities().err_at(Step::Process, "capget", subject)?;
    sys::process::set_capabilities(all, all, 0).err_at(Step::Process, "capset", subject)
}

/// Falls to the program's own sets: a created container holds no more than its program will.
pub fn set_capabilities(caps: &Capabilities) -> Result<()> {
    let subject = || "set the capabilities (/process/capabilities)";
    // Inheritable may be raised only within permitted or the bounding set, which drop_bounding has already cut.
    let have = sys::process::permitted_capabilities().err_at(Step::Process, "capget", subject)?;
    let (permitted, effective) = (caps.permitted & have, caps.effective & have);
    sys::process::set_capabilities(effective, permitted, caps.inheritable & have).err_at(
        Step::Process,
        "capset",
        subject,
    )?;
    rustix::thread::set_keep_capabilities(false).err_at(Step::Process, "prctl(PR_SET_KEEPCAPS)", subject)?;
    match rustix::thread::clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(Error::call(Step::Process, "prctl(PR_CAP_AMBIENT_CLEAR_ALL)", errno, subject())),
    }
    for capability in (0..64).filter(|bit| caps.ambient & permitted & 1 << bit != 0) {
        sys::process::raise_ambient(capability).err_at(Step::Process, "prctl(PR_CAP_AMBIENT_RAISE)", || {
            format!("raise ambient capability {capability} (/process/capabilities/ambient)")
        })?;
    }
    Ok(())
}

/// Whether this process has CAP_SYS_ADMIN in its user namespace.
pub fn is_admin() -> Result<bool> {
    const CAP_SYS_ADMIN: u32 = 21;
    let have = sys::process::permitted_capabilities().err_at(Step::Process, "capget", || "ask for CAP_SYS_ADMIN")?;
    Ok(have & 1 << CAP_SYS_ADMIN != 0)
}

/// PR_SET_NO_NEW_PRIVS.
pub fn no_new_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true).err_at(
        Step::Process,
        "prctl(PR_SET_NO_NEW_PRIVS)",
        || "set no_new_privs (/process/noNewPrivileges)",
    )
}

/// Sets the limits of a process, 0 for the caller.
pub fn set_rlimits(pid: i32, limits: &[Rlimit]) -> Result<()> {
    for limit in limits {
        sys::process::set_rlimit(pid, limit.resource, limit.soft, limit.hard)
            .err_at(Step::Process, "prlimit64", || {
                format!("set {} to {}:{} (/process/rlimits)", limit.name, limit.soft, limit.hard)
            })
            .map_err(|e| match sys::process::rlimit(pid, limit.resource) {
                Ok((_, hard)) if e.is(Errno::PERM) && limit.hard > hard => e
                    .hint(format!("the hard limit here is {hard}; only CAP_SYS_RESOURCE on the host may raise it"))
                    .blame(Blame::Host),
                _ => e,
            })?;
    }
    Ok(())
}

/// Raises hard limits that are too low for the config, as long as there is somebody with CAP_SYS_RESOURCE on the host:
/// init has lost it when it sets its limits, as late as it can. Soft limits stay, so that nothing on the way is too much.
pub fn raise_rlimits(pid: i32, limits: &[Rlimit]) -> Result<()> {
    for limit in limits {
        let (soft, hard) = sys::process::rlimit(pid, limit.resource)
            .err_at(Step::Process, "prlimit64", || format!("read {} of init", limit.name))?;
        if limit.hard > hard {
            set_rlimits(pid, &[Rlimit { soft, ..*limit }])?;
        }
    }
    Ok(())
}

/// Writes /proc/PID/oom_score_adj. Lowering takes CAP_SYS_RESOURCE: without it an error, except for rootless
/// callers, where runc warns too; the answer says whether it was set.
pub fn set_oom_score_adj(pid: i32, value: i32, forgive: bool) -> Result<bool> {
    let subject = || format!("set oom_score_adj to {value} (/process/oomScoreAdj)");
    let path = format!("/proc/{pid}/oom_score_adj");
    let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).err_at(
        Step::Process,
        "open",
        subject,
    )?;
    match rustix::io::write(&fd, value.to_string().as_bytes()) {
        Ok(_) => Ok(true),
        Err(Errno::ACCESS | Errno::PERM) if forgive => Ok(false),
        Err(errno) => Err(Error::call(Step::Process, "write", errno, subject())
            .hint("lowering it takes CAP_SYS_RESOURCE on the host")),
    }
}

/// oom_score_adj of this process, changed while a child is cloned that inherits it: the child's own file could not be
/// written by an ordinary user once it is not dumpable.
pub struct OomScore {
    file: OwnedFd,
    before: Vec<u8>,
}

impl OomScore {
    /// Sets it; None, with a warning, where a rootless caller may not lower it.
    pub fn lend(value: i32, forgive: bool) -> Result<Option<OomScore>> {
        let subject = || format!("set oom_score_adj to {value} (/process/oomScoreAdj)");
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open("/proc/self/oom_score_adj", flags, Mode::empty()).err_at(
            Step::Process,
            "open",
            subject,
        )?;
        let mut before = vec![0; 16];
        let len = rustix::io::read(&file, &mut before).err_at(Step::Process, "read", subject)?;
        before.truncate(len);
        match rustix::io::write(&file, value.to_string().as_bytes()) {
            Ok(_) => Ok(Some(OomScore { file, before })),
            Err(Errno::ACCESS | Errno::PERM) if forgive => {
                crate::log::warn("/process/oomScoreAdj: not lowered, since hull may not (rootless)");
                Ok(None)
            }
            Err(errno) => Err(Error::call(Step::Process, "write", errno, subject())
                .hint("lowering it takes CAP_SYS_RESOURCE on the host")),
        }
    }

    /// The child has been cloned: for a hull that stays, what the program is worth is not what its watcher is worth.
    pub fn take_back(self) {
        drop(self);
    }
}

impl Drop for OomScore {
    fn drop(&mut self) {
        // Also where exec fails: hull may run itself again, and would take what was lent for its own.
        let _ = rustix::io::write(&self.file, &self.before);
    }
}

/// sched_setattr(2) of a process.
pub fn set_scheduler(pid: i32, scheduler: &Scheduler) -> Result<()> {
    let attr = sys::process::SchedAttr {
        policy: scheduler.policy,
        flags: scheduler.flags,
        nice: scheduler.nice,
        priority: scheduler.priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
        ..Default::default()
    };
    sys::process::set_scheduler(pid, &attr)
        .err_at(Step::Process, "sched_setattr", || "set the scheduling policy (/process/scheduler)")
        .map_err(|e| match e.is(Errno::PERM) {
            true => e.hint(
                "it takes CAP_SYS_NICE on the host; a real-time policy on cgroup v1 also takes \
             /linux/resources/cpu/realtimeRuntime, and SCHED_DEADLINE all CPUs of the machine",
            ),
            false => e,
        })
}

/// ioprio_set(2) of a process.
pub fn set_io_priority(pid: i32, priority: i32) -> Result<()> {
    sys::process::set_io_priority(pid, priority).err_at(
        Step::Process,
        "ioprio_set",
        || "set the I/O priority (/process/ioPriority)",
    )
}

/// Lets this process run on these CPUs, as far as the cpuset of its cgroup allows.
pub fn set_affinity(cpus: &CpuSet) -> Result<()> {
    sys::process::set_affinity(&cpus.0).err_at(
        Step::Process,
        "sched_setaffinity",
        || "set the CPUs to run on (/process/execCPUAffinity)",
    )
}

/// Lets this process run on every CPU that its cgroup allows, whatever its caller was bound to. No promise hangs on it: an
/// outer profile may forbid the call.
pub fn reset_affinity() {
    let _ = sys::process::set_affinity(&CpuSet::all().0);
}

/// Gives every signal its default action.
pub fn default_signals() -> Result<()> {
    sys::signal::default_all().err_at(Step::Process, "rt_sigaction", || "give every signal its default action")
}

/// Lets every signal through.
pub fn unblock_signals() -> Result<()> {
    sys::signal::unblock_all().err_at(Step::Process, "sigprocmask", || "unblock the signals")
}

/// personality(2).
pub fn set_personality(persona: u32) -> Result<()> {
    sys::process::set_personality(persona).err_at(
        Step::Process,
        "personality",
        || "set the execution domain (/linux/personality)",
    )
}

/// set_mempolicy(2).
pub fn set_memory_policy(policy: &MemoryPolicy) -> Result<()> {
    sys::process::set_memory_policy(policy.mode, &policy.nodes)
        .err_at(Step::Process, "set_mempolicy", || {
            format!("set the memory policy {} (/linux/memoryPolicy)", policy.name)
        })
        .map_err(|e| match e.is(Errno::INVAL) {
            true => {
                e.hint("the machine lacks such a node, cpuset.mems does not allow it, or the kernel lacks the mode")
            }
            false => e,
        })
}

/// Writes the labels that the next execve takes: AppArmor's and SELinux's.
pub fn set_labels(proc: &ProcFs, process: &Process) -> Result<()> {
    if let Some(profile) = &process.apparmor_profile {
        let subject = || format!("set the AppArmor profile {profile:?} (/process/apparmorProfile)");
        let value = format!("exec {profile}");
        // The file of AppArmor's own where the kernel has it (5.8), else the one that the modules share.
        let file = proc
            .open_own("attr/apparmor/exec", Step::Label, subject)
            .or_else(|_| proc.open_own("attr/exec", Step::Label, subject))?;
        rustix::io::write(&file, value.as_bytes()).err_at(Step::Label, "write", subject)?;
    }
    if let Some(label) = &process.selinux_label {
        let subject = || format!("set the SELinux label {label:?} (/process/selinuxLabel)");
        let file = proc.open_own("attr/exec", Step::Label, subject)?;
        rustix::io::write(&file, label.as_bytes()).err_at(Step::Label, "write", subject)?;
    }
    Ok(())
}

/// Goes to the working directory, made if it is missing.
pub fn make_and_change_directory(cwd: &str) -> Result<()> {
    match change_directory(cwd) {
        Err(error) if error.is(Errno::NOENT) && error.call == "chdir" => {
            let directory = make_directory(cwd)?;
            rustix::process::fchdir(directory)
                .err_at(Step::Process, "fchdir", || format!("go to the working directory {cwd} (/process/cwd)"))?;
            check_directory(cwd)
        }
        result => result,
    }
}

/// Goes to the working directory and proves that it lies inside the root: a directory that was left open outside
/// (CVE-2024-21626) has no path that getcwd can give.
pub fn change_directory(cwd: &str) -> Result<()> {
    rustix::process::chdir(cwd)
        .err_at(Step::Process, "chdir", || format!("go to the working directory {cwd} (/process/cwd)"))?;
    check_directory(cwd)
}

/// Makes it inside the root, which no magic link leads out of.
fn make_directory(cwd: &str) -> Result<OwnedFd> {
    let subject = || format!("make the working directory {cwd} (/process/cwd)");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).err_at(Step::Process, "open", subject)?;
    let umask = rustix::process::umask(Mode::from_raw_mode(0o022));
    let made = Root::new(&root).ensure_dir(&RootfsPath::new(cwd));
    rustix::process::umask(umask);
    made.err_at(Step::Process, "mkdirat", subject).map(|(directory, _)| directory)
}

/// The kernel's word that the working directory is inside the root.
pub fn check_directory(cwd: &str) -> Result<()> {
    let subject = || format!("go to the working directory {cwd} (/process/cwd)");
    let real = rustix::process::getcwd(Vec::new()).err_at(Step::Process, "getcwd", subject)?;
    if real.as_bytes().first() != Some(&b'/') {
        return Err(
            Error::call(Step::Process, "getcwd", Errno::NOENT, subject()).hint("it lies outside of the container")
        );
    }
    Ok(())
}

/// The home directory of a user by the container's /etc/passwd, which is only ever compared by number
/// (CVE-2016-3697: a user whose *name* is a number); "/" where it says nothing.
pub fn home(uid: u32) -> String {
    let open = || {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::openat2(CWD, "/etc/passwd", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::NOSYS | Errno::PERM) => rustix::fs::open("/etc/passwd", flags, Mode::empty()),
            result => result,
        }
    };
    let Ok(file) = open() else { return "/".into() };
    if !rustix::fs::fstat(&file).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile) {
        return "/".into();
    }
    let mut text = Vec::new();
    // A hostile file may be endless: a real one is far shorter than this.
    let _ = std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::from(file), 1 << 20), &mut text);
    String::from_utf8_lossy(&text)
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 6 && fields[2].parse() == Ok(uid))
        .map(|fields| fields[5].to_owned())
        .filter(|home| !home.is_empty() && !home.contains('\0'))
        .unwrap_or_else(|| "/".into())
}

/// Finds the program as execvp(3) would, by the container's PATH; the error has the words that engines match.
pub fn find_program(process: &Process) -> Result<CString> {
    // Nothing to find: start will refuse it.
    let Some(first) = process.args.first() else { return Ok(CString::default()) };
    let name = first.to_str().unwrap_or_default();
    let subject = || format!("exec: {:?}", first.to_string_lossy());
    if first.to_bytes().contains(&b'/') {
        return match runnable(first) {
            Ok(()) => Ok(first.clone()),
            Err(errno) => Err(explain(Error::call(Step::Exec, "stat", errno, subject()), process)),
        };
    }
    let mut denied = None;
    for directory in process.path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let Ok(candidate) = CString::new(format!("{directory}/{name}")) else { continue };
        match runnable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(errno @ (Errno::ACCESS | Errno::PERM)) => denied = Some(errno),
            Err(_) => {}
        }
    }
    match denied {
        Some(errno) => Err(Error::call(Step::Exec, "access", errno, subject())),
        None => Err(Error::call(
            Step::Exec,
            "stat",
            Errno::NOENT,
            format!("{}: executable file not found in $PATH", subject()),
        )
        .hint(format!("PATH is {:?}", process.path))),
    }
}

/// Whether execve would get as far as reading the file.
fn runnable(path: &std::ffi::CStr) -> rustix::io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => return Err(Errno::ISDIR),
        FileType::RegularFile => {}
        _ => return Err(Errno::ACCESS),
    }
    rustix::fs::accessat(CWD, path, rustix::fs::Access::EXEC_OK, rustix::fs::AtFlags::EACCESS)
}

/// Adds to an error of the program's path what the errno does not say.
fn explain(error: Error, process: &Process) -> Error {
    let path = process.args[0].as_c_str();
    if error.is(Errno::ACCESS) && rustix::fs::stat(path).is_ok_and(|s| s.st_mode & 0o111 == 0) {
        return error.hint("the file is there but not executable");
    }
    error
}

/// Why execve failed on a file that is there: its interpreter or loader is missing, or it is for another machine.
pub fn exec_error(path: &std::ffi::CStr, errno: Errno) -> Error {
    let error = Error::call(Step::Exec, "execve", errno, format!("exec: {:?}", path.to_string_lossy()));
    let mut head = [0u8; 256];
    let read = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
        .and_then(|fd| rustix::io::read(&fd, &mut head))
        .unwrap_or(0);
    let head = &head[..read];
    match errno {
        Errno::NOENT if head.starts_with(b"#!") => {
            let line = head[2..].split(|b| *b == b'\n').next().unwrap_or_default();
            error.hint(format!("the script's interpreter {:?} is missing", String::from_utf8_lossy(line).trim()))
        }
        Errno::NOENT if head.starts_with(b"\x7fELF") => error.hint("its dynamic loader is missing in the container"),
        Errno::NOEXEC if head.starts_with(b"\x7fELF") => error.hint("it is built for another architecture"),
        Errno::NOEXEC => error.hint("no binary, and no script that begins with #!"),
        Errno::ACCESS => error.hint("not executable, or on a file system that is mounted noexec"),
        _ => error,
    }
}

/// Closes, in init, what the caller and setup have open: a path of the image's such as /proc/self/fd/7/x must lead to
/// none of it, neither as the working directory nor as the program (CVE-2024-21626).
pub fn close_others(preserved: u32, keep: &[BorrowedFd<'_>]) -> Result<()> {
    sys::process::close_others(3 + preserved, keep).err_at(
        Step::Process,
        "close_range",
        || "keep setup's descriptors out of the container",
    )
}

/// Which of the descriptors that the caller passes on is missing (--preserve-fds).
pub fn check_preserved(count: u32) -> Result<()> {
    match (3..3 + count as i32).find(|fd| !sys::process::is_open(*fd)) {
        None => Ok(()),
        Some(fd) => Err(Error::usage(format!("--preserve-fds {count}: there is no file descriptor {fd}"))),
    }
}

/// Lets the preserved descriptors, and no others above 2, through the execve.
pub fn keep_preserved(count: u32) -> Result<()> {
    cloexec_all()?;
    keep(count)
}

/// Every descriptor but the standard ones ends at execve. close_range(2) is newer than many a seccomp profile.
pub fn cloexec_all() -> Result<()> {
    let subject = || "close all file descriptors but the preserved ones";
    sys::process::cloexec_from(3).err_at(Step::Process, "close_range", subject)
}

/// The first `count` descriptors from 3 on survive execve.
pub fn keep(count: u32) -> Result<()> {
    let subject = || "hand on the preserved file descriptors";
    for fd in 3..3 + count as i32 {
        sys::process::keep_across_exec(fd).err_at(Step::Process, "fcntl(F_SETFD)", subject)?;
    }
    Ok(())
}

/// The terminal's other end becomes stdin, stdout and stderr, and the controlling terminal of this session.
pub fn take_terminal(terminal: BorrowedFd<'_>) -> Result<()> {
    let subject = || "make the terminal the program's stdio";
    rustix::process::ioctl_tiocsctty(terminal).err_at(Step::Console, "ioctl(TIOCSCTTY)", subject)?;
    for number in 0..3 {
        sys::process::replace_standard(terminal.as_fd(), number).err_at(Step::Console, "dup2", subject)?;
    }
    Ok(())
}

/// Puts the descriptors that hull copies in the place of the caller's terminal.
pub fn replace_stdio(stdio: [Option<OwnedFd>; 3]) -> Result<()> {
    for (number, fd) in (0..).zip(stdio) {
        if let Some(fd) = fd {
            sys::process::replace_standard(fd.as_fd(), number).err_at(
                Step::Process,
                "dup2",
                || "keep the caller's terminal out of the container",
            )?;
        }
    }
    Ok(())
}

/// The host's /dev/null as stdin, stdout or stderr becomes the container's own: no mount of the host stays open through
/// it, and CRIU, which knows files by their place in the container, can write it down. It is open for reading and
/// writing: containerd's shim gives a program without output one that is open for reading only.
pub fn own_null() -> Result<()> {
    let is_null = |stat: &rustix::fs::Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3)
    };
    for number in 0..3 {
        let fd = sys::process::standard(number);
        let subject = || format!("make file descriptor {number} the container's own /dev/null");
        if !is_null(&rustix::fs::fstat(fd).err_at(Step::Process, "fstat", subject)?) {
            continue;
        }
        // A container without one keeps the host's. What lies there instead must not keep the open waiting.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Ok(own) = rustix::fs::open("/dev/null", flags, Mode::empty()) else { continue };
        if is_null(&rustix::fs::fstat(&own).err_at(Step::Process, "fstat", subject)?) {
            rustix::fs::fcntl_setfl(&own, OFlags::RDWR).err_at(Step::Process, "fcntl(F_SETFL)", subject)?;
            sys::process::replace_standard(own.as_fd(), number).err_at(Step::Process, "dup2", subject)?;
        }
    }
    Ok(())
}

/// The environment, with HOME from the container's /etc/passwd where config.json has none.
pub fn environment(process: &Process) -> Vec<CString> {
    let mut env = process.env.clone();
    if process.needs_home {
        env.extend(CString::new(format!("HOME={}", home(process.user.uid))));
    }
    env
}
