//! `checkpoint`: CRIU writes the container's processes down, and ends them unless they are to go on.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::process::Process;
use super::state::{State, StateDir, Status};
use super::{Globals, delete};
use crate::bytes;
use crate::cgroup;
use crate::criu::opts::{opts, page_server};
use crate::criu::protobuf::Writer;
use crate::criu::{self, Criu, Kind as Request, images};
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::host::{CgroupManager, HostFacts};
use crate::plan::namespaces::Kind;
use crate::plan::{Options, Plan, landlock};
use crate::spec::load;

/// Where the container's stdio led to, so that restore can put its own in the same place.
const DESCRIPTORS: &str = "descriptors.json";

/// What CRIU does with cgroups (criu_cg_mode).
pub const CGROUP_MODES: [(&str, i64); 4] = [("ignore", 0), ("soft", 3), ("full", 4), ("strict", 5)];

/// What checkpoint and restore have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CriuOptions {
    /// --image-path: where the image is.
    pub images: PathBuf,
    /// --work-path: where CRIU's log goes; absent: beside the image.
    pub work: Option<PathBuf>,
    /// --tcp-established
    pub tcp_established: bool,
    /// --tcp-skip-in-flight
    pub tcp_skip_in_flight: bool,
    /// --tcp-close
    pub tcp_close: bool,
    /// --link-remap
    pub link_remap: bool,
    /// --ext-unix-sk
    pub ext_unix_sk: bool,
    /// --shell-job
    pub shell_job: bool,
    /// --lazy-pages
    pub lazy_pages: bool,
    /// --file-locks
    pub file_locks: bool,
    /// --auto-dedup
    pub auto_dedup: bool,
    /// --manage-cgroups-mode, as CRIU counts; absent: soft.
    pub cgroups: Option<i64>,
    /// --empty-ns, as CLONE_NEW*.
    pub empty_namespaces: i64,
    /// --lsm-profile
    pub lsm_profile: Option<String>,
    /// --lsm-mount-context
    pub lsm_mount_context: Option<String>,
}

/// The options of checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckpointOptions {
    /// Those that restore has too.
    pub criu: CriuOptions,
    /// --leave-running
    pub leave_running: bool,
    /// --pre-dump
    pub pre_dump: bool,
    /// --parent-path: an earlier image, relative to this one.
    pub parent: Option<String>,
    /// --page-server ADDRESS:PORT
    pub page_server: Option<(String, u16)>,
    /// --status-fd
    pub status_fd: Option<i32>,
}

/// Writes a running or paused container down.
pub fn checkpoint(globals: &Globals, id: &str, options: &CheckpointOptions) -> Result<()> {
    // Before hull opens any of its own: CRIU writes to whatever has that number here.
    if let Some(fd) = options.status_fd.filter(|fd| !crate::sys::process::is_inherited(*fd)) {
        return Err(Error::usage(format!("--status-fd {fd}: it is not open")));
    }
    let dir = StateDir::open(&globals.root, id)?;
    dir.lock()?;
    let state = dir.load()?.ok_or_else(|| Error::status("container not running"))?;
    match state.status()? {
        Status::Running | Status::Paused => {}
        status => {
            return Err(Error::status(format!("a container that is {} cannot be checkpointed", status.as_str())));
        }
    }
    let ended = || Error::status("container not running");
    let init = state.init.map(Process::hold).transpose()?.flatten().ok_or_else(ended)?;
    let text = dir.load_config()?;
    let plan = plan_of(&text, &state)?;
    if let Some(parent) = &options.parent {
        let path = below(&options.criu.images, Path::new(parent));
        if let Err(errno) = rustix::fs::stat(&path) {
            let call = format!("stat {}", show(&path)).into();
            return Err(Error { call, ..Error::call(Step::Criu, "", errno, "invalid --parent-path") });
        }
    }
    // Before it is ended for an image that nobody can use.
    restorable("checkpoint", &plan)?;
    let files = Files::open(&options.criu, true)?;
    let stdio = init.look(|pid| Ok(descriptors(pid)))?.ok_or_else(ended)?;
    if !options.pre_dump {
        files.write_descriptors(&serde_json::to_vec(&stdio).expect("texts are plain data"))?;
    }

    let mut request = common(&plan, &options.criu, &files, "dump.log");
    request.number(opts::PID, init.pid()).text(opts::ROOT, plan.rootfs.path.as_os_str().as_bytes());
    request
        .number(opts::LEAVE_RUNNING, options.leave_running || options.pre_dump)
        .number(opts::ORPHAN_PTS_MASTER, true);
    if let Some(parent) = &options.parent {
        request.text(opts::PARENT_IMG, parent);
    }
    // Memory that changes is tracked for the images that follow.
    request.number(opts::TRACK_MEM, options.pre_dump);
    if let Some((address, port)) = &options.page_server {
        let mut server = Writer::default();
        server.text(page_server::ADDRESS, address).number(page_server::PORT, i64::from(*port));
        request.message(opts::PS, &server);
    }
    if let Some(fd) = options.status_fd {
        request.number(opts::STATUS_FD, fd);
    }
    if let Some(freezer) = freezer(&state) {
        request.text(opts::FREEZE_CGROUP, freezer.as_os_str().as_bytes());
    }
    let names = init.look(|pid| criu::mounts::names(&plan, pid))?.ok_or_else(ended)?;
    let files_of_the_host = stdio.iter().filter(|name| name.starts_with("file["));
    for external in names.iter().chain(files_of_the_host) {
        request.text(opts::EXTERNAL, external);
    }
    for (kind, name) in EXTERNAL_NAMESPACES {
        if plan.namespaces.joins(kind) {
            let inode = |pid| {
                let path = format!("/proc/{pid}/ns/{name}");
                std::fs::metadata(&path).map(|meta| meta.ino()).err_at(Step::Criu, "stat", || format!("find {path}"))
            };
            let inode = init.look(inode)?.ok_or_else(ended)?;
            request.text(opts::EXTERNAL, format!("{name}[{inode}]:hull-{name}"));
        }
    }

    let criu = Criu::spawn(|| Ok(files.borrow().to_vec()))?;
    let kind = if options.pre_dump { Request::PreDump } else { Request::Dump };
    let result = criu.ask(kind, &request).and_then(|()| {
        loop {
            let (answer, _) = criu.answer()?;
            match (&answer.step, answer.success) {
                // CRIU knows it by its number alone: from its first step on it holds the process, if it is the right one.
                (Some(_), _) if init.ended() => {
                    criu.reply(false)?;
                    return Err(ended());
                }
                (Some(_), _) => criu.reply(true)?,
                (None, true) => return Ok(()),
                (None, false) => return Err(criu::failed("checkpoint", &answer, &files.log("dump.log"))),
            }
        }
    });
    criu.end();
    result?;
    if options.leave_running || options.pre_dump {
        return Ok(());
    }
    delete::remove(&dir, &state, true)
}

/// Where `path` leads from the directory `images`, which may not exist yet: what hull makes is no link, so `..` leads out
/// of it to where its name stands.
fn below(images: &Path, path: &Path) -> PathBuf {
    let (mut from, mut rest) = (images, path.components());
    while !from.as_os_str().is_empty() && !from.exists() && rest.clone().next() == Some(Component::ParentDir) {
        rest.next();
        from = from.parent().unwrap_or(Path::new(""));
    }
    from.join(rest.as_path())
}

/// Refuses what restore could not bring back.
pub fn restorable(verb: &str, plan: &Plan) -> Result<()> {
    if plan.idmaps.is_some() {
        let what =
            "a container with a user namespace: this version of hull cannot check what it would become at restore";
        return Err(Error::host(Step::Criu, format!("{verb} {what}")));
    }
    if !plan.net_devices.is_empty() {
        let what = "a container with network devices of the host (/linux/netDevices): CRIU cannot put them back";
        return Err(Error::host(Step::Criu, format!("{verb} {what}")));
    }
    landlock::check_restorable(plan.landlock.as_ref(), verb)
}

/// The namespaces that may be other containers': joined by path, they are found again by path at restore.
pub const EXTERNAL_NAMESPACES: [(Kind, &str); 2] = [(Kind::Network, "net"), (Kind::Pid, "pid")];

/// The plan of a container that exists, from the copy of its config.
fn plan_of(text: &load::Text, state: &State) -> Result<Plan> {
    let (spec, _) = load::parse(text)?;
    let systemd = state.cgroup.unit.is_some();
    let manager = if systemd { CgroupManager::Systemd } else { CgroupManager::Cgroupfs };
    let options = Options {
        id: state.id.clone(),
        bundle: state.bundle.clone(),
        console_socket: spec.process.as_ref().is_some_and(|process| process.terminal),
        detached: true,
        cgroup_manager: manager,
        ..Options::default()
    };
    Plan::new(&spec, &HostFacts::probe_for(&spec, manager)?, &options)
}

/// The directories of the image and of the log.
pub struct Files {
    images: OwnedFd,
    work: OwnedFd,
    work_path: PathBuf,
}

impl Files {
    /// Opens them; `make` those that are missing.
    pub fn open(options: &CriuOptions, make: bool) -> Result<Files> {
        let work_path = options.work.clone().unwrap_or_else(|| options.images.clone());
        let files = Files { images: directory(&options.images, make)?, work: directory(&work_path, true)?, work_path };
        images::check_directory(files.images.as_fd(), &options.images, false)?;
        images::check_directory(files.work.as_fd(), &files.work_path, true)?;
        if !make {
            images::check_image(files.images.as_fd(), &options.images)?;
        }
        Ok(files)
    }

    fn write_descriptors(&self, text: &[u8]) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.images, DESCRIPTORS, flags, Mode::from_raw_mode(0o600));
        let subject = || format!("write {DESCRIPTORS} of the image");
        let file = file.err_at(Step::Criu, "openat", subject)?;
        std::fs::File::from(file).write_all(text).err_at(Step::Criu, "write", subject)
    }

    /// What `DESCRIPTORS` holds: nothing in an image that another runtime made.
    pub fn read_descriptors(&self) -> Result<Vec<String>> {
        let subject = || format!("read {DESCRIPTORS} of the image");
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.images, DESCRIPTORS, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(Vec::new()),
            other => other.err_at(Step::Criu, "openat", subject)?,
        };
        let mut text = Vec::new();
        std::fs::File::from(file).take(64 << 10).read_to_end(&mut text).err_at(Step::Criu, "read", subject)?;
        serde_json::from_slice(&text).map_err(|error| Error::host(Step::Criu, format!("{}: {error}", subject())))
    }

    /// What CRIU gets.
    pub fn borrow(&self) -> [std::os::fd::BorrowedFd<'_>; 2] {
        [self.images.as_fd(), self.work.as_fd()]
    }

    /// Opens the directory of the log once more under the same number, after this process has entered another mount
    /// namespace: CRIU mounts beneath it, which the kernel allows in one's own namespace only.
    pub fn reopen(&mut self) -> Result<()> {
        let work = directory(&self.work_path, false)?;
        rustix::io::dup2(&work, &mut self.work).err_at(Step::Criu, "dup2", || format!("open {}", show(&self.work_path)))
    }

    /// Where a log is.
    pub fn log(&self, name: &str) -> PathBuf {
        self.work_path.join(name)
    }
}

fn directory(path: &Path, make: bool) -> Result<OwnedFd> {
    if make {
        // Images hold the memory of the processes: nobody else's business.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .err_at(Step::Criu, "mkdir", || format!("make {}", show(path)))?;
    }
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).err_at(
        Step::Criu,
        "open",
        || format!("open {}", show(path)),
    )
}

/// CRIU's own options from a file, which win over hull's: named by the annotation, or the machine's.
fn configuration(plan: &Plan) -> Option<String> {
    let named = plan.annotations.iter().find(|(name, _)| name == "org.criu.config").map(|(_, path)| path.clone());
    let default = "/etc/criu/hull.conf";
    named.filter(|path| !path.is_empty()).or_else(|| Path::new(default).exists().then(|| default.into()))
}

/// criu_opts, as far as both verbs have them.
pub fn common(plan: &Plan, options: &CriuOptions, files: &Files, log: &str) -> Writer {
    let mut request = Writer::default();
    request.number(opts::IMAGES_DIR_FD, files.images.as_raw_fd()).number(opts::WORK_DIR_FD, files.work.as_raw_fd());
    request.number(opts::LOG_LEVEL, 4).text(opts::LOG_FILE, log);
    for (field, on) in [
        (opts::EXT_UNIX_SK, options.ext_unix_sk),
        (opts::TCP_ESTABLISHED, options.tcp_established),
        (opts::SHELL_JOB, options.shell_job),
        (opts::FILE_LOCKS, options.file_locks),
        (opts::AUTO_DEDUP, options.auto_dedup),
        (opts::LINK_REMAP, options.link_remap),
        (opts::TCP_SKIP_IN_FLIGHT, options.tcp_skip_in_flight),
        (opts::LAZY_PAGES, options.lazy_pages),
        (opts::TCP_CLOSE, options.tcp_close),
        // It asks hull at each of its steps.
        (opts::NOTIFY_SCRIPTS, true),
        (opts::MANAGE_CGROUPS, true),
    ] {
        request.number(field, on);
    }
    request.number(opts::MANAGE_CGROUPS_MODE, options.cgroups.unwrap_or(3));
    if options.empty_namespaces != 0 {
        request.number(opts::EMPTY_NS, options.empty_namespaces);
    }
    let texts = [
        (opts::CONFIG_FILE, &configuration(plan)),
        (opts::LSM_PROFILE, &options.lsm_profile),
        (opts::LSM_MOUNT_CONTEXT, &options.lsm_mount_context),
    ];
    for (field, text) in texts {
        if let Some(text) = text {
            request.text(field, text);
        }
    }
    request
}

/// The cgroup whose freezer CRIU shall use: all processes stop at once, and a paused container can be written down.
fn freezer(state: &State) -> Option<PathBuf> {
    let trees = &state.cgroup.trees;
    let v1 = trees.iter().find(|tree| tree.controllers.iter().any(|name| name == "freezer"));
    let v2 = || trees.iter().find(|tree: &&cgroup::SavedTree| tree.v2 && trees.iter().all(|tree| tree.v2));
    v1.or_else(v2).map(|tree| tree.directory.clone())
}

/// The names of the files behind the descriptors 0, 1 and 2, as CRIU calls them when it looks for what to inherit.
fn descriptors(pid: i32) -> [String; 3] {
    let mounts = std::fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    [0, 1, 2].map(|fd| {
        let path = format!("/proc/{pid}/fd/{fd}");
        let own = |id: u32| bytes::mounts(&mounts).any(|mount| mount.id == u64::from(id));
        let info = bytes::text(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
        let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).unwrap_or_default().trim();
        match (std::fs::metadata(&path), mount.parse::<u32>()) {
            // A file of the host, where the engine wants the output.
            (Ok(file), Ok(id)) if file.is_file() && !own(id) => format!("file[{id:x}:{:x}]", file.ino()),
            _ => std::fs::read_link(&path).map_or("/dev/null".into(), |path| path.to_string_lossy().into_owned()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_beside_an_image_that_is_not_made_yet() {
        let parent = Path::new("../before");
        assert_eq!(below(Path::new("/no-such-image"), parent), Path::new("/before"));
        assert_eq!(below(Path::new("/no-such/image"), &Path::new("..").join(parent)), Path::new("/before"));
        assert_eq!(below(Path::new("no-such-image"), parent), Path::new("before"));
        // A link leads elsewhere: the kernel is asked.
        assert_eq!(below(Path::new("/proc/self/cwd"), parent), Path::new("/proc/self/cwd/../before"));
    }
}
