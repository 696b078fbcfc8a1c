//! What init does to itself before it becomes the program: ids, capabilities, limits, descriptors, working directory.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::error::{Blame, ErrAt, Error, Result, Step, show};
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

/// The same before a user namespace is made: to be its owner gives every capability over it, also to root of a container
/// that has none (user_namespaces(7)). An ordinary user could not write the maps then, since the files in /proc would be
/// root's; but whoever else has his ids may trace all that is his.
pub fn not_dumpable_if_root() -> Result<()> {
    if rustix::process::geteuid().is_root() { not_dumpable() } else { Ok(()) }
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
        // A kernel without keys has nothing that could leak, and a filter that refuses all of their calls, as Docker's
        // does, the program has above it, too.
        Err(e) if sys::keyring::is_refusal(&e) && sys::keyring::refuses_the_rest() => return Ok(()),
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

/// Gives up what is in no bounding set of the container's, but for the steps that are left: to become the program's user, to open
/// what only root may and give it away; where a filter comes without no_new_privs, CAP_SYS_ADMIN, which the kernel wants for it.
pub fn shed_capabilities(bounding: u64, for_filter: bool) -> Result<()> {
    const CHOWN: u64 = 1 << 0;
    const DAC_OVERRIDE: u64 = 1 << 1;
    const SETGID: u64 = 1 << 6;
    const SETUID: u64 = 1 << 7;
    const SYS_ADMIN: u64 = 1 << 21;
    let subject = || "shed capabilities";
    let left = CHOWN | DAC_OVERRIDE | SETGID | SETUID | if for_filter { SYS_ADMIN } else { 0 };
    let have = sys::process::permitted_capabilities().err_at(Step::Process, "capget", subject)? & (bounding | left);
    sys::process::set_capabilities(have, have, 0).err_at(Step::Process, "capset", subject)
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
    sys::umask::set(user.umask);
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
    limits.iter().try_for_each(|limit| set_rlimit(pid, limit, limit.soft))
}

fn set_rlimit(pid: i32, limit: &Rlimit, soft: u64) -> Result<()> {
    sys::process::set_rlimit(pid, limit.resource, soft, limit.hard)
        .err_at(Step::Process, "prlimit64", || {
            format!("set {} to {}:{} (/process/rlimits/{})", limit.name, limit.soft, limit.hard, limit.index)
        })
        .map_err(|e| match sys::process::rlimit(pid, limit.resource) {
            Ok((_, hard)) if e.is(Errno::PERM) && limit.hard > hard => e
                .hint(format!("the hard limit here is {hard}; only CAP_SYS_RESOURCE on the host may raise it"))
                .blame(Blame::Host),
            _ => e,
        })
}

/// Raises hard limits that are too low for the config, as long as there is somebody with CAP_SYS_RESOURCE on the host:
/// init has lost it when it sets its limits, as late as it can. Soft limits stay, so that nothing on the way is too much.
pub fn raise_rlimits(pid: i32, limits: &[Rlimit]) -> Result<()> {
    for limit in limits {
        // Where prlimit is refused: init has by now what the caller has.
        let (soft, hard) = sys::process::rlimit(pid, limit.resource)
            .or_else(|error| sys::process::rlimit(0, limit.resource).map_err(|_| error))
            .err_at(Step::Process, "prlimit64", || format!("read {} of init", limit.name))?;
        if limit.hard > hard {
            set_rlimit(pid, limit, soft)?;
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
                crate::log::debug("/process/oomScoreAdj: not lowered, since hull may not (rootless)");
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

/// Gives every ignored signal its default action.
pub fn default_signals(ignored: u64) -> Result<()> {
    sys::signal::default_these(ignored).err_at(Step::Process, "rt_sigaction", || "give every signal its default action")
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
        sys::whole::write(&file, value.as_bytes()).err_at(Step::Label, "write", subject)?;
    }
    if let Some(label) = &process.selinux_label {
        let subject = || format!("set the SELinux label {label:?} (/process/selinuxLabel)");
        let file = proc.open_own("attr/exec", Step::Label, subject)?;
        sys::whole::write(&file, label.as_bytes()).err_at(Step::Label, "write", subject)?;
    }
    Ok(())
}

/// Goes to the working directory, made if it is missing.
pub fn make_and_change_directory(cwd: &Path) -> Result<()> {
    match change_directory(cwd) {
        Err(error) if error.is(Errno::NOENT) && error.call == "chdir" => {
            let directory = make_directory(cwd)?;
            rustix::process::fchdir(directory).err_at(Step::Process, "fchdir", || {
                format!("go to the working directory {} (/process/cwd)", show(cwd))
            })?;
            check_directory(cwd)
        }
        result => result,
    }
}

/// Makes the working directory if it is missing, while the root and its mounts can still be written.
pub fn make_missing_directory(cwd: &Path) -> Result<()> {
    match cwd != Path::new("/") && matches!(rustix::fs::stat(cwd), Err(Errno::NOENT)) {
        true => make_directory(cwd).map(drop),
        false => Ok(()),
    }
}

/// Goes to the working directory and proves that it lies inside the root: a directory that was left open outside
/// (CVE-2024-21626) has no path that getcwd can give.
pub fn change_directory(cwd: &Path) -> Result<()> {
    rustix::process::chdir(cwd)
        .err_at(Step::Process, "chdir", || format!("go to the working directory {} (/process/cwd)", show(cwd)))?;
    check_directory(cwd)
}

/// Makes it inside the root, which no magic link leads out of.
fn make_directory(cwd: &Path) -> Result<OwnedFd> {
    let subject = || format!("make the working directory {} (/process/cwd)", show(cwd));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).err_at(Step::Process, "open", subject)?;
    let made = Root::new(&root).ensure_dir(&RootfsPath::new(cwd), &|_| Ok(true));
    made.err_at(Step::Process, "mkdirat", subject).map(|(directory, _)| directory)
}

/// The kernel's word that the working directory is inside the root.
pub fn check_directory(cwd: &Path) -> Result<()> {
    let subject = || format!("go to the working directory {} (/process/cwd)", show(cwd));
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
pub fn home(uid: u32) -> Vec<u8> {
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
    crate::bytes::lines(&text)
        .map(|line| line.split(|byte| *byte == b':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 6 && str::from_utf8(fields[2]).is_ok_and(|text| text.parse() == Ok(uid)))
        .map(|fields| fields[5].to_owned())
        .filter(|home| !home.is_empty() && !home.contains(&0))
        .unwrap_or_else(|| b"/".to_vec())
}

/// Finds the program as execvp(3) would, by the container's PATH; the error has the words that engines match.
pub fn find_program(process: &Process) -> Result<CString> {
    // Nothing to find: start will refuse it.
    let Some(first) = process.args.first() else { return Ok(CString::default()) };
    let subject = || format!("exec: {:?}", first.to_string_lossy());
    if first.to_bytes().contains(&b'/') {
        return match runnable(first) {
            Ok(()) => Ok(first.clone()),
            Err(errno) => Err(explain(path_error(errno, first, subject()), process)),
        };
    }
    let mut denied = None;
    for directory in process.path.as_bytes().split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let Ok(candidate) = CString::new([directory, b"/", first.to_bytes()].concat()) else { continue };
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

/// The error of a program that is named by its path, in runc's words: by them engines tell their statuses 126 and 127 apart.
fn path_error(errno: Errno, path: &std::ffi::CStr, subject: String) -> Error {
    let error = Error::call(Step::Exec, "", errno, subject);
    match errno {
        Errno::ACCESS | Errno::PERM => error,
        // What an engine waits for depends on its age: "is a directory", or the EACCES that execve(2) gives.
        Errno::ISDIR => error.hint("permission denied: a directory cannot be executed"),
        _ => Error { call: format!("stat {}", path.to_string_lossy()).into(), ..error },
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
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // Not the kernel's answer, but that of a filter to faccessat2. The real ids are the effective ones here.
        Err(Errno::PERM) => rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()),
        result => result,
    }
}

/// Adds to an error of the program's path what the errno does not say.
fn explain(error: Error, process: &Process) -> Error {
    let path = process.args[0].as_c_str();
    if error.is(Errno::ACCESS) && rustix::fs::stat(path).is_ok_and(|s| s.st_mode & 0o111 == 0) {
        return error.hint("the file is there but not executable");
    }
    error
}

/// Why execve failed on a file that is there: its interpreter or loader is missing, or it is for another machine. The words
/// in front are runc's.
pub fn exec_error(path: &std::ffi::CStr, errno: Errno) -> Error {
    let error = Error::call(Step::Exec, "", errno, format!("exec {}", path.to_string_lossy()));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut head = [0u8; 256];
    let file = rustix::fs::open(path, flags, Mode::empty());
    let read = file.as_ref().map_or(0, |fd| rustix::io::read(fd, &mut head).unwrap_or(0));
    let size = file.and_then(rustix::fs::fstat).map_or(0, |stat| stat.st_size as u64);
    let head = &head[..read];
    match errno {
        Errno::NOENT if head.starts_with(b"#!") => {
            let line = head[2..].split(|b| *b == b'\n').next().unwrap_or_default();
            let interpreter = String::from_utf8_lossy(line);
            let interpreter = interpreter.trim_matches([' ', '\t']);
            let windows = match interpreter.ends_with('\r') {
                true => ": the script has the line ends of Windows (CRLF)",
                false => "",
            };
            error.hint(format!("the script's interpreter {interpreter:?} is missing{windows}"))
        }
        Errno::NOENT if head.starts_with(b"\x7fELF") => error.hint("its dynamic loader is missing in the container"),
        Errno::NOEXEC if is_cut(head, size) => error.hint("it is a binary that was cut short"),
        Errno::NOEXEC if head.starts_with(b"\x7fELF") => error.hint("it is built for another architecture"),
        Errno::NOEXEC if head.starts_with(b"\xef\xbb\xbf#!") => {
            error.hint("a byte order mark (BOM) stands in front of the script's #!")
        }
        Errno::NOEXEC if head.is_empty() => error.hint("the file is empty"),
        Errno::NOEXEC => error.hint("no binary, and no script that begins with #!"),
        Errno::ACCESS => error.hint("not executable, or on a file system that is mounted noexec"),
        _ => error,
    }
}

/// Whether an ELF file of this size ends before its header or its program headers do (elf(5)).
fn is_cut(head: &[u8], size: u64) -> bool {
    let number = |at: usize, bytes: usize| {
        let field = head.get(at..at + bytes)?;
        let most_significant_first = head[5] == 2;
        Some(field.iter().enumerate().fold(0u64, |sum, (place, byte)| {
            let place = if most_significant_first { bytes - 1 - place } else { place };
            sum | u64::from(*byte) << (8 * place)
        }))
    };
    let headers_end = || {
        let (offset, width, sizes) = if head.get(4) == Some(&1) { (28, 4, 42) } else { (32, 8, 54) };
        Some(number(offset, width)?.saturating_add(number(sizes, 2)? * number(sizes + 2, 2)?))
    };
    head.starts_with(b"\x7fELF") && headers_end().is_none_or(|end| end > size)
}

/// Closes, in init, what the caller and setup have open: a path of the image's such as /proc/self/fd/7/x must lead to
/// none of it, neither as the working directory nor as the program (CVE-2024-21626).
pub fn close_others(preserved: u32, keep: &[BorrowedFd<'_>]) -> Result<()> {
    sys::descriptors::close_others(preserved.saturating_add(3), keep).err_at(
        Step::Process,
        "close_range",
        || "keep setup's descriptors out of the container",
    )
}

/// The numbers of the descriptors that the caller passes on. A count that no table of descriptors can have is not taken
/// for a smaller one.
fn preserved(count: u32) -> impl Iterator<Item = i32> {
    (3..=i32::MAX).take(count as usize)
}

/// Which of the descriptors that the caller passes on is missing (--preserve-fds).
pub fn check_preserved(count: u32) -> Result<()> {
    match preserved(count).find(|fd| !sys::process::is_inherited(*fd)) {
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
    sys::descriptors::cloexec_from(3).err_at(Step::Process, "close_range", subject)
}

/// The first `count` descriptors from 3 on survive execve.
pub fn keep(count: u32) -> Result<()> {
    let subject = || "hand on the preserved file descriptors";
    for fd in preserved(count) {
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
/// it, root of the container cannot change the mode and owner of the host's, and CRIU, which knows files by their place in
/// the container, can write it down. It is open for reading and writing: containerd's shim gives a program without output
/// one that is open for reading only. Without `may_make`, the rights to make one, the container must have it.
pub fn own_null(may_make: bool) -> Result<()> {
    let mut own = None;
    for number in 0..3 {
        let fd = sys::process::standard(number);
        let subject = || format!("make file descriptor {number} the container's own /dev/null");
        let stat = rustix::fs::fstat(fd).err_at(Step::Process, "fstat", subject)?;
        if !is_null(&stat) {
            continue;
        }
        if own.is_none() {
            own = find_null(may_make, &stat, &subject)?;
        }
        if let Some(own) = &own {
            sys::process::replace_standard(own.as_fd(), number).err_at(Step::Process, "dup2", subject)?;
        }
    }
    Ok(())
}

/// The container's own /dev/null, or a new one where the image has none and `may_make`; None where none can be had in
/// place of the one that `stat` is of.
fn find_null(may_make: bool, stat: &rustix::fs::Stat, subject: &impl Fn() -> String) -> Result<Option<OwnedFd>> {
    // What lies there instead must not keep the open waiting, nor be a link back to this descriptor.
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let root = root.err_at(Step::Process, "open", subject)?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
    let own = match Root::new(&root).open_without_links(&RootfsPath::new("/dev/null"), flags) {
        // Nothing, or a directory or a link in its way, is the image's. Anything else says nothing about it.
        Err(errno @ (Errno::NOMEM | Errno::MFILE | Errno::NFILE)) => {
            return Err(Error::call(Step::Process, "openat2", errno, subject()));
        }
        own => own.ok(),
    };
    let own = match own.filter(|own| rustix::fs::fstat(own).is_ok_and(|stat| is_null(&stat))) {
        Some(own) => own,
        None if !may_make => return Err(Error::call(Step::Process, "openat2", Errno::NOENT, subject())),
        None => match fresh_null() {
            Ok(Some(fresh)) => fresh,
            Ok(None) => return Ok(None),
            // A user namespace that does not have the owner's id has no power over what is his.
            Err(_) if stat.st_uid == OVERFLOW_ID => return Ok(None),
            Err(errno) => return Err(Error::call(Step::Process, "mknodat", errno, subject())),
        },
    };
    rustix::fs::fcntl_setfl(&own, OFlags::RDWR).err_at(Step::Process, "fcntl(F_SETFL)", subject)?;
    Ok(Some(own))
}

/// What the kernel shows for an id that a user namespace does not have (proc_sys_kernel(5), overflowuid).
const OVERFLOW_ID: u32 = 65534;
const NULL: (u32, u32) = (1, 3);

fn is_null(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(NULL.0, NULL.1)
}

/// Makes it in time where the container has none; the answer says that. The container's own is not opened yet: device rules
/// do not hold here.
pub fn make_missing_null() -> Result<bool> {
    let subject = || "look for the container's own /dev/null";
    let mut null = false;
    for number in 0..3 {
        null |= is_null(&rustix::fs::fstat(sys::process::standard(number)).err_at(Step::Process, "fstat", subject)?);
    }
    if !null {
        return Ok(false);
    }
    let root =
        rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).err_at(Step::Process, "open", subject)?;
    let own = Root::new(&root).open_without_links(&RootfsPath::new("/dev/null"), OFlags::PATH);
    if own.is_ok_and(|own| rustix::fs::fstat(own).is_ok_and(|stat| is_null(&stat))) {
        return Ok(false);
    }
    for number in 0..3 {
        let fd = sys::process::standard(number);
        if is_null(&rustix::fs::fstat(fd).err_at(Step::Process, "fstat", subject)?)
            && let Some(fresh) = fresh_null().err_at(Step::Process, "mknodat", subject)?
        {
            sys::process::replace_standard(fresh.as_fd(), number).err_at(Step::Process, "dup2", subject)?;
        }
    }
    Ok(true)
}

/// A null for a container that has none at its place, on a file system of its own. None where fsopen is refused: no older
/// call mounts what is attached nowhere.
fn fresh_null() -> rustix::io::Result<Option<OwnedFd>> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
    let fs = match fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(Errno::NOSYS | Errno::PERM) => return Ok(None),
        fs => fs?,
    };
    fsconfig_create(&fs)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(&mount, "null", FileType::CharacterDevice, mode, rustix::fs::makedev(NULL.0, NULL.1))?;
    rustix::fs::chmodat(&mount, "null", mode, AtFlags::empty())?;
    rustix::fs::openat(&mount, "null", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).map(Some)
}

/// The environment, with HOME from the container's /etc/passwd where config.json has none.
pub fn environment(process: &Process) -> Vec<CString> {
    let mut env = process.env.clone();
    if process.needs_home {
        env.extend(CString::new([b"HOME=", &home(process.user.uid)[..]].concat()));
    }
    env
}
