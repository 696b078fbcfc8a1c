//! The state directory `ROOT/ID`: what survives hull's processes, so that any of them may be killed at any line.
//!
//! It holds state.json (replaced by write and rename), the copy of config.json, and the start socket; the lock is a
//! flock on the directory itself. The intent is written before the thing is made: state.json says `creating`, with the
//! cgroup's path, before there is a cgroup. What a container does is derived from the kernel, never trusted from the file.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::process::{Process, is_stopped};
use crate::cgroup;
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::plan::Plan;
use crate::plan::namespaces::Kind;
use crate::spec::load::Text;
use crate::steps::intel_rdt;

/// The form of state.json; another one is refused, not guessed at.
const VERSION: u32 = 1;
const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const SOCKET: &str = "start.sock";
/// The directory that the container sees as /run/notify.
pub const NOTIFY_DIRECTORY: &str = "notify";
/// How long a verb waits for another one that holds the container's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// What a container is doing, derived from the kernel, never trusted from the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `create` is under way.
    Creating,
    /// Waits for `start`.
    Created,
    /// The program runs.
    Running,
    /// Frozen.
    Paused,
    /// Its init has gone, or its `create` died on the way.
    Stopped,
}

impl Status {
    /// The specification's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// How far `create` got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Under way: what is named here may or may not exist.
    Creating,
    /// Done.
    Created,
    /// Made from an image, and running: its init never called execve.
    Restored,
}

/// state.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The form of this file.
    pub version: u32,
    /// The container.
    pub id: String,
    /// How far `create` got.
    pub stage: Stage,
    /// The hull that creates, or created, it.
    pub creator: Process,
    /// The container's first process, once there is one.
    pub init: Option<Process>,
    /// The bundle.
    #[serde(with = "crate::bytes::json")]
    pub bundle: PathBuf,
    /// The root file system.
    #[serde(with = "crate::bytes::json")]
    pub rootfs: PathBuf,
    /// RFC 3339 with nanoseconds, UTC.
    pub created: String,
    /// The user who made it.
    pub owner: u32,
    /// config.json's annotations.
    pub annotations: Vec<(String, String)>,
    /// Where its cgroups are, or will be.
    pub cgroup: cgroup::Saved,
    /// Its class of service and monitoring group of resctrl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<intel_rdt::Saved>,
    /// It has a pid namespace of its own, in which nothing outlives init.
    pub own_pid_namespace: bool,
    /// It has no mount namespace: what it mounts beneath its rootfs stays on the host until delete.
    pub host_mounts: bool,
    /// The number of the mount on the host in which they all lie, where config.json asks for mounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_root: Option<u64>,
    /// It has poststart or poststop hooks: only then do start and delete read the copy of config.json.
    pub late_hooks: bool,
    /// It has no program: start refuses it.
    #[serde(default)]
    pub no_program: bool,
    /// It keeps the session keyring of who called create, and exec that of its own caller.
    #[serde(default)]
    pub no_new_keyring: bool,
    /// It has a user namespace that --userns self asked for, and not config.json.
    #[serde(default)]
    pub userns_self: bool,
    /// What `start` says to init, so that it is let go only by who may read this file: init, in a user namespace of its own
    /// perhaps, cannot tell by the ids of a peer who that is on the host. None: made by an older hull, or with no init that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What is known of a container before it is made.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The bundle.
    pub bundle: PathBuf,
    /// The root file system.
    pub rootfs: PathBuf,
    /// config.json's annotations.
    pub annotations: Vec<(String, String)>,
    /// Where its cgroups will be.
    pub cgroup: cgroup::Saved,
    /// Its class of service and monitoring group of resctrl.
    pub rdt: Option<intel_rdt::Saved>,
    /// It gets a pid namespace of its own.
    pub own_pid_namespace: bool,
    /// It gets no mount namespace.
    pub host_mounts: bool,
    /// It has poststart or poststop hooks.
    pub late_hooks: bool,
    /// config.json has no process.
    pub no_program: bool,
    /// It gets no session keyring.
    pub no_new_keyring: bool,
    /// It gets a user namespace that --userns self asked for.
    pub userns_self: bool,
}

impl Intent {
    /// What the plan says.
    pub fn of(plan: &Plan) -> Intent {
        Intent {
            bundle: plan.bundle.clone(),
            rootfs: plan.rootfs.path.clone(),
            annotations: plan.annotations.clone(),
            cgroup: cgroup::Saved::planned(&plan.cgroup),
            rdt: plan.intel_rdt.as_ref().map(intel_rdt::Saved::planned),
            own_pid_namespace: plan.namespaces.own(Kind::Pid),
            host_mounts: !plan.namespaces.own(Kind::Mount),
            late_hooks: !(plan.hooks.poststart.is_empty() && plan.hooks.poststop.is_empty()),
            no_program: plan.process.args.is_empty(),
            no_new_keyring: plan.no_new_keyring,
            userns_self: plan.userns_self,
        }
    }
}

impl State {
    /// The first state: `creating`, by this process.
    pub fn creating(id: &str, intent: Intent) -> Result<State> {
        Ok(State::creating_by(Process::own()?, id, intent))
    }

    /// The same where the caller cannot find its own number in /proc: init, in a pid namespace that is not /proc's.
    pub fn creating_by(creator: Process, id: &str, intent: Intent) -> State {
        State {
            version: VERSION,
            id: id.to_owned(),
            stage: Stage::Creating,
            creator,
            init: None,
            bundle: intent.bundle,
            rootfs: intent.rootfs,
            created: crate::log::rfc3339(std::time::UNIX_EPOCH.elapsed().unwrap_or_default(), true),
            owner: rustix::process::geteuid().as_raw(),
            annotations: intent.annotations,
            cgroup: intent.cgroup,
            rdt: intent.rdt,
            own_pid_namespace: intent.own_pid_namespace,
            host_mounts: intent.host_mounts,
            host_root: None,
            late_hooks: intent.late_hooks,
            no_program: intent.no_program,
            no_new_keyring: intent.no_new_keyring,
            userns_self: intent.userns_self,
            key: None,
        }
    }

    /// Makes the key of a container whose init will wait for `start`.
    pub fn make_key(&mut self) -> Result<String> {
        Ok(self.key.insert(random()?).clone())
    }

    /// What the container is doing. An error where that cannot be found out: a container that is taken for stopped by
    /// mistake would be deleted.
    pub fn status(&self) -> Result<Status> {
        if self.stage == Stage::Creating {
            return Ok(if self.creator.alive()? { Status::Creating } else { Status::Stopped });
        }
        let executed = self.init.map_or(Ok(None), Process::executed)?;
        Ok(match (self.stage, executed) {
            (_, None) => Status::Stopped,
            (_, Some(_)) if cgroup::is_frozen(&self.cgroup) => Status::Paused,
            (Stage::Created, Some(false)) => Status::Created,
            (_, Some(_)) => Status::Running,
        })
    }

    /// The state as hooks and seccomp agents get it (runtime.md#state).
    pub fn to_json(&self, status: Status) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Json<'s> {
            oci_version: &'static str,
            id: &'s str,
            status: &'static str,
            #[serde(skip_serializing_if = "is_zero")]
            pid: i32,
            bundle: std::borrow::Cow<'s, str>,
            #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
            annotations: std::collections::BTreeMap<&'s str, &'s str>,
        }
        fn is_zero(pid: &i32) -> bool {
            *pid == 0
        }
        serde_json::to_vec(&Json {
            oci_version: crate::spec::VERSION,
            id: &self.id,
            status: status.as_str(),
            pid: if status == Status::Stopped { 0 } else { self.init.map_or(0, |init| init.pid) },
            bundle: self.bundle.to_string_lossy(),
            annotations: self.annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        })
        .unwrap_or_default()
    }
}

/// A word that nobody guesses: 128 bits.
pub fn random() -> Result<String> {
    let mut bits = [0u8; 16];
    let subject = || "make a word that nobody guesses";
    match rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty()) {
        // An outer filter refuses it; so short a read is never cut otherwise (getrandom(2)).
        Err(Errno::NOSYS | Errno::PERM) => {
            let mut file = std::fs::File::open("/dev/urandom").err_at(Step::State, "open", subject)?;
            file.read_exact(&mut bits).err_at(Step::State, "read", subject)?;
        }
        read => drop(read.err_at(Step::State, "getrandom", subject)?),
    }
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The state directory of one container.
#[derive(Debug)]
pub struct StateDir {
    root: OwnedFd,
    fd: OwnedFd,
    /// For sentences.
    path: PathBuf,
    id: String,
}

impl AsFd for StateDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

impl StateDir {
    /// Makes the directory, and takes its lock for as long as the value lives. An id that is taken is refused.
    pub fn create(root: &Path, id: &str) -> Result<StateDir> {
        let path = root.join(id);
        let subject = || format!("make the state directory {}", show(&path));
        make_root(root)?;
        let root_fd =
            open_root(root).err_at(Step::State, "open", || format!("open the state directory {}", show(root)))?;
        match mkdirat(&root_fd, id, Mode::from_raw_mode(0o711)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(Error::status(format!("container with given ID already exists: {id:?}"))
                    .hint(format!("`hull delete --force {id}` removes it")));
            }
            Err(errno) => return Err(Error::call(Step::State, "mkdirat", errno, subject())),
        }
        let unmake = |root: &OwnedFd| {
            let _ = unlinkat(root, id, AtFlags::REMOVEDIR);
        };
        let opened = openat(&root_fd, id, DIRECTORY, Mode::empty()).err_at(Step::State, "openat", subject);
        let fd = opened.inspect_err(|_| unmake(&root_fd))?;
        let dir = StateDir { root: root_fd, fd, path, id: id.to_owned() };
        // Unless it is another's already: a `delete --force` was at it.
        dir.lock().inspect_err(|e| {
            if e.step != Step::Missing && !e.is(Errno::WOULDBLOCK) {
                unmake(&dir.root)
            }
        })?;
        Ok(dir)
    }

    /// The directory of a container that exists.
    pub fn open(root: &Path, id: &str) -> Result<StateDir> {
        let path = root.join(id);
        let root_fd = match open_root(root) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Err(Error::missing(id)),
            Err(errno) => {
                return Err(Error::call(
                    Step::State,
                    "open",
                    errno,
                    format!("open the state directory {}", show(root)),
                ));
            }
        };
        match openat(&root_fd, id, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(StateDir { root: root_fd, fd, path, id: id.to_owned() }),
            Err(Errno::NOENT) => Err(Error::missing(id)),
            Err(errno) => {
                Err(Error::call(Step::State, "openat", errno, format!("open the state directory {}", show(&path))))
            }
        }
    }

    /// Takes the lock, until the value is dropped or the process ends; a directory that was removed meanwhile is missing.
    pub fn lock(&self) -> Result<()> {
        let subject = || format!("lock the container {}", self.id);
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    crate::sys::process::sleep(Duration::from_millis(2))
                }
                Err(errno @ Errno::WOULDBLOCK) => {
                    return Err(Error::call(Step::State, "flock", errno, subject()).hint(self.holder()));
                }
                Err(errno) => return Err(Error::call(Step::State, "flock", errno, subject())),
            }
        }
        let stat = rustix::fs::fstat(&self.fd).err_at(Step::State, "fstat", subject)?;
        if stat.st_nlink == 0 { Err(Error::missing(&self.id)) } else { Ok(()) }
    }

    /// Who has the lock, for a sentence: by /proc/locks (proc(5)), where a lock names its inode.
    fn holder(&self) -> String {
        let since = format!("has worked on it for more than {} s", LOCK_PATIENCE.as_secs());
        let inode = format!(":{}", rustix::fs::fstat(&self.fd).map_or(0, |stat| stat.st_ino));
        let table = crate::bytes::text("/proc/locks").unwrap_or_default();
        let pid = table.lines().find_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                [_, "FLOCK", _, _, pid, file, ..] if file.ends_with(&inode) => {
                    pid.parse::<i32>().ok().filter(|pid| *pid > 0)
                }
                _ => None,
            }
        });
        match pid {
            Some(pid) if is_stopped(pid) => format!("process {pid} {since}, and is stopped by a signal"),
            Some(pid) => format!("process {pid} {since}"),
            None => format!("another hull {since}"),
        }
    }

    /// Reads state.json; None while `create` has not written the first one.
    pub fn load(&self) -> Result<Option<State>> {
        let subject = || format!("read {}", show(&self.path.join(STATE)));
        let bytes = match self.read(STATE) {
            Ok(bytes) => bytes,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Error::call(Step::State, "openat", errno, subject())),
        };
        #[derive(Deserialize)]
        struct Form {
            version: Option<u32>,
        }
        let broken = |what: String| {
            Error::host(Step::State, format!("{}: {what}", subject())).hint("`hull delete --force` removes what it can")
        };
        let form: Form = serde_json::from_slice(&bytes).map_err(|e| broken(e.to_string()))?;
        if form.version != Some(VERSION) {
            return Err(broken(
                "not made by this version of hull, or by another runtime: stop it with that one first".into(),
            ));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|e| broken(e.to_string()))
    }

    /// The same with the status, for who holds no lock.
    pub fn look(&self) -> Result<Option<(State, Status)>> {
        self.load()?.map(|state| self.settled(state)).transpose()
    }

    /// A state that was read without the lock, and its status: `create` may have written more, and ended, between the looks.
    fn settled(&self, state: State) -> Result<(State, Status)> {
        let status = state.status()?;
        if state.stage != Stage::Creating || status != Status::Stopped {
            return Ok((state, status));
        }
        // Its creator has gone: what it has written is the last word.
        let state = self.load()?.ok_or_else(|| Error::missing(&self.id))?;
        let status = state.status()?;
        Ok((state, status))
    }

    /// The state for who only shows: a container of which its `create` has not said anything yet, or that is going, does not
    /// exist. None is left of a `create` that died there.
    fn load_made(&self) -> Result<Option<State>> {
        // The directory is made, locked and filled by three calls.
        for _ in 0..10 {
            if let Some(state) = self.load()? {
                return Ok(Some(state));
            }
            let gone = rustix::fs::fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 0);
            if gone || flock(&self.fd, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK) {
                return Err(Error::missing(&self.id));
            }
            let _ = flock(&self.fd, FlockOperation::Unlock);
            crate::sys::process::sleep(Duration::from_millis(2));
        }
        Ok(None)
    }

    /// Replaces state.json: a reader sees the old one or the new one, whole.
    pub fn store(&self, state: &State) -> Result<()> {
        let text = serde_json::to_vec(state).expect("a state is plain data");
        self.write(".state.json", &text)?;
        renameat(&self.fd, ".state.json", &self.fd, STATE)
            .err_at(Step::State, "renameat", || format!("replace {}", show(&self.path.join(STATE))))
    }

    /// Keeps a copy of config.json: start and delete read it, not the bundle, which may change.
    pub fn store_config(&self, text: &Text) -> Result<()> {
        self.write(CONFIG, text.0.as_bytes())
    }

    /// The copy of config.json.
    pub fn load_config(&self) -> Result<Text> {
        crate::spec::load::read(&self.path.join(CONFIG))
    }

    /// The start socket's path by the directory's descriptor: a path of the engine's may be longer than the 107 bytes
    /// that a socket address has.
    pub fn socket_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", self.fd.as_raw_fd()))
    }

    /// Removes the start socket, which serves once.
    pub fn remove_socket(&self) -> Result<()> {
        self.unlink(SOCKET)
    }

    /// Makes the directory for the container's notify socket, which every user of the container may look into.
    pub fn make_notify(&self) -> Result<()> {
        mkdirat(&self.fd, NOTIFY_DIRECTORY, Mode::from_raw_mode(0o755))
            .err_at(Step::State, "mkdirat", || format!("make {}", show(&self.path.join(NOTIFY_DIRECTORY))))
    }

    /// Opens that directory.
    pub fn open_notify(&self) -> rustix::io::Result<OwnedFd> {
        openat(&self.fd, NOTIFY_DIRECTORY, DIRECTORY, Mode::empty())
    }

    /// Removes it, with a socket that was left.
    fn remove_notify(&self) {
        if let Ok(directory) = self.open_notify() {
            let _ = unlinkat(&directory, crate::plan::mounts::NOTIFY_SOCKET, AtFlags::empty());
            let _ = unlinkat(&self.fd, NOTIFY_DIRECTORY, AtFlags::REMOVEDIR);
        }
    }

    /// Removes the directory and all that hull put there.
    pub fn remove(&self) -> Result<()> {
        let subject = || format!("remove the state directory {}", show(&self.path));
        // state.json last: until then `delete --force` still knows what there is.
        for name in [SOCKET, CONFIG, ".state.json", STATE] {
            self.unlink(name)?;
        }
        let remove = || unlinkat(&self.root, self.id.as_str(), AtFlags::REMOVEDIR);
        let removed = match remove() {
            // Only few containers have it: nothing is looked for before it is found to be there.
            Err(Errno::NOTEMPTY) => {
                self.remove_notify();
                remove()
            }
            other => other,
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::call(Step::State, "unlinkat", errno, subject())),
        }
    }

    fn unlink(&self, name: &str) -> Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                let subject = format!("remove the state directory {}", show(&self.path));
                Err(Error::call(Step::State, "unlinkat", errno, subject))
            }
        }
    }

    fn read(&self, name: &str) -> rustix::io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = std::fs::File::from(openat(&self.fd, name, flags, Mode::empty())?);
        let mut bytes = Vec::with_capacity(4096);
        file.take(1 << 20).read_to_end(&mut bytes).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        Ok(bytes)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let subject = || format!("write {}", show(&self.path.join(name)));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = openat(&self.fd, name, flags, Mode::from_raw_mode(0o600)).err_at(Step::State, "openat", subject)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(&fd, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::call(Step::State, "write", errno, subject())),
            }
        }
        Ok(())
    }
}

fn open_root(root: &Path) -> rustix::io::Result<OwnedFd> {
    openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes the directory of all containers, with what leads to it: only its owner may look in.
fn make_root(root: &Path) -> Result<()> {
    match rustix::fs::mkdir(root, Mode::from_raw_mode(0o711)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) if root.parent().is_some_and(|parent| parent != root) => {
            make_root(root.parent().unwrap_or(root))?;
            make_root(root)
        }
        Err(errno) => Err(Error::call(Step::State, "mkdir", errno, format!("make the state directory {}", show(root)))),
    }
}

/// One container, as `state` and `list` show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// What it is doing.
    pub status: Status,
    /// Its init's pid on the host; 0 when it has stopped.
    pub pid: i32,
    /// The bundle.
    pub bundle: PathBuf,
    /// The root file system.
    pub rootfs: PathBuf,
    /// RFC 3339 with nanoseconds, UTC.
    pub created: String,
    /// The user who made it.
    pub owner: String,
    /// config.json's annotations.
    pub annotations: Vec<(String, String)>,
}

/// One container by its id.
pub fn summary(root: &Path, id: &str) -> Result<Summary> {
    let dir = StateDir::open(root, id)?;
    let found = dir.load_made()?.map(|state| dir.settled(state)).transpose()?;
    Ok(summarize(id, found, &mut Users::default()))
}

/// The names of all containers beneath `root`, in order.
pub fn ids(root: &Path) -> Result<Vec<String>> {
    let mut ids: Vec<_> = match crate::sys::listing::names(root) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        names => names.err_at(Step::State, "getdents64", || format!("list {}", show(root)))?,
    };
    ids.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(ids.into_iter().map(|(id, _)| id).collect())
}

/// All containers beneath `root`, by name. One whose state is broken is listed as stopped, so that it can be seen and
/// removed; where it only cannot be read now nothing is listed, since it may be running.
pub fn list(root: &Path) -> Result<Vec<Summary>> {
    let (mut containers, mut users) = (Vec::new(), Users::default());
    for id in ids(root)? {
        let dir = match StateDir::open(root, &id) {
            Ok(dir) => dir,
            Err(error) if error.errno.is_some_and(passes) => return Err(error),
            // It has gone meanwhile, or is no directory.
            Err(_) => continue,
        };
        let found = match dir.load_made() {
            Ok(state) => state.map(|state| dir.settled(state)).transpose(),
            Err(error) if error.errno.is_some_and(passes) => return Err(error),
            Err(error) if error.step != Step::Missing => {
                crate::log::warn(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        };
        let found = match found {
            Err(error) if error.step == Step::Missing => continue,
            found => found?,
        };
        containers.push(summarize(&id, found, &mut users));
    }
    Ok(containers)
}

/// Errors that say nothing about the file.
pub fn passes(errno: i32) -> bool {
    use libc::{EBUSY, EINTR, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC, ENOSYS, EPERM};
    [EBUSY, EINTR, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC, ENOSYS, EPERM].contains(&errno)
}

fn summarize(id: &str, found: Option<(State, Status)>, users: &mut Users) -> Summary {
    let Some((state, status)) = found else {
        return Summary {
            id: id.to_owned(),
            status: Status::Stopped,
            pid: 0,
            bundle: PathBuf::new(),
            rootfs: PathBuf::new(),
            created: String::new(),
            owner: String::new(),
            annotations: Vec::new(),
        };
    };
    Summary {
        id: id.to_owned(),
        status,
        pid: state.init.filter(|_| status != Status::Stopped).map_or(0, |init| init.pid),
        bundle: state.bundle,
        rootfs: state.rootfs,
        created: state.created,
        owner: users.name(state.owner),
        annotations: state.annotations,
    }
}

/// The names of the host's users, each looked for once; `#uid` of who has none.
#[derive(Default)]
struct Users(std::collections::BTreeMap<u32, String>);

impl Users {
    fn name(&mut self, uid: u32) -> String {
        let look = || {
            let text = crate::bytes::text("/etc/passwd").ok()?;
            let name =
                text.lines().find(|line| line.split(':').nth(2).is_some_and(|field| field.parse() == Ok(uid)))?;
            name.split(':').next().map(str::to_owned)
        };
        self.0.entry(uid).or_insert_with(|| look().unwrap_or_else(|| format!("#{uid}"))).clone()
    }
}
