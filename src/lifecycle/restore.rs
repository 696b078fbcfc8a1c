//! `restore`: CRIU makes the container's processes from an image. The config decides all that an image must not: where the
//! host's files are mounted, the cgroup and its limits, and what the processes may be at most.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};

use super::checkpoint::{CriuOptions, EXTERNAL_NAMESPACES, Files, common, restorable};
use super::create::{Prepared, prepare};
use super::foreground::Foreground;
use super::process::Process;
use super::state::{Intent, Stage, State, StateDir, Status};
use super::{CreateOptions, Globals, delete, engine};
use crate::cgroup::Handle;
use crate::criu::opts::{cg_root, inherit_fd, opts};
use crate::criu::protobuf::Writer;
use crate::criu::{self, Criu, Kind as Request};
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::plan::Plan;
use crate::plan::criu::externals;
use crate::steps::hooks;
use crate::steps::intel_rdt;
use crate::steps::path::Root;
use crate::steps::restored::{self, Restored};

/// The options of restore.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreOptions {
    /// Those that create has too.
    pub create: CreateOptions,
    /// Those that checkpoint has too.
    pub criu: CriuOptions,
}

/// Restores a container; in the foreground waits for its end and gives its status.
pub fn restore(globals: &Globals, options: &RestoreOptions) -> Result<i32> {
    let create = &options.create;
    let prepared = prepare(globals, create, create.detach)?;
    let foreground = match create.detach {
        true => None,
        false => Some(Foreground::prepare(prepared.plan.process.terminal, create.no_subreaper)?.0),
    };
    let (init, pidfd, terminal) = make(&prepared, globals, options)?;
    let Some(mut foreground) = foreground else { return Ok(0) };
    terminal.map_or(Ok(()), |master| foreground.adopt(master))?;
    let status = foreground.attend(init, &pidfd)?;
    delete::delete(globals, &create.id, true).map(|()| status)
}

/// Everything up to the running container.
fn make(
    prepared: &Prepared,
    globals: &Globals,
    options: &RestoreOptions,
) -> Result<(Process, OwnedFd, Option<OwnedFd>)> {
    let (plan, create) = (&prepared.plan, &options.create);
    restorable("restore", plan)?;
    let mut files = Files::open(&options.criu, false)?;
    let console = create.console_socket.as_deref().map(engine::connect_console).transpose()?;
    let mut made =
        Made { dir: StateDir::create(&globals.root, &plan.id)?, cgroup: None, rdt: None, criu: None, done: false };
    let mut state = State::creating(&plan.id, Intent::of(plan))?;
    made.dir.store(&state)?;
    made.dir.store_config(&prepared.text)?;
    Handle::create(&plan.cgroup, &mut made.cgroup)?;
    if let Some(rdt) = &plan.intel_rdt {
        intel_rdt::create(rdt)?;
        made.rdt.clone_from(&state.rdt);
    }
    mount_points(plan)?;

    let inherited = Inherited::new(plan, &files)?;
    let in_child = &mut files;
    let criu = Criu::spawn(|| {
        bind_root(&plan.rootfs.path)?;
        in_child.reopen()?;
        let mut fds = in_child.borrow().to_vec();
        fds.extend(inherited.fds.iter().map(|(_, fd)| fd.as_fd()));
        Ok(fds)
    })?;
    let criu = made.criu.insert(criu);
    let cgroup = made.cgroup.as_mut().expect("the cgroup is made before");
    cgroup.set_devices(&plan.cgroup)?;
    cgroup.settle_devices(&plan.cgroup)?;
    // What CRIU forks is where CRIU is.
    cgroup.join(&plan.cgroup, criu.pid, false)?;
    state.rdt.as_ref().map_or(Ok(()), |rdt| rdt.join(criu.pid))?;

    criu.ask(Request::Restore, &request(plan, options, &files, &inherited))?;
    let mut terminal = None;
    let pid = loop {
        let (answer, fd) = criu.answer()?;
        let Some(step) = &answer.step else {
            if answer.success {
                break answer.pid;
            }
            return Err(criu::failed("restore", &answer, &files.log("restore.log")));
        };
        let result = match step.as_str() {
            "setup-namespaces" => {
                state.init = Some(Process::now(answer.pid)?);
                let json = state.to_json(Status::Creating);
                hooks::Output::open(&plan.hooks).and_then(|output| {
                    hooks::run_all("prestart", &plan.hooks.prestart, &json, None, &output)?;
                    hooks::run_all("createRuntime", &plan.hooks.create_runtime, &json, None, &output)
                })
            }
            "orphan-pts-master" => match (&console, fd) {
                (Some(socket), Some(master)) => engine::send_terminal(socket, &master),
                (None, fd) => {
                    terminal = fd;
                    Ok(())
                }
                (Some(_), None) => Err(Error::host(Step::Criu, "take the terminal's master from criu: it sent none")),
            },
            // The processes are there, and hold at a barrier.
            "post-restore" => cgroup
                .apply(&plan.cgroup)
                .and_then(|()| known(state.init))
                .and_then(|init| criu::mounts::check(plan, init.pid))
                .and_then(|()| readonly_again(plan, state.init)),
            // They have their credentials, and run as soon as CRIU lets go of them: also when it dies or is told that
            // this went wrong. So what is not as it should be has to die first.
            "pre-resume" => {
                let tree = known(state.init).and_then(|init| restored::tree(init.pid));
                let found = Restored {
                    some: cgroup.pids().unwrap_or_default(),
                    all: cgroup.pids_in_all().unwrap_or_default(),
                    tree: tree.as_ref().cloned().unwrap_or_default(),
                    criu: criu.pid,
                    cgroups_ignored: options.criu.cgroups == Some(0),
                };
                tree.and_then(|_| restored::check(&found, plan)).inspect_err(|_| restored::kill(&found))
            }
            _ => Ok(()),
        };
        if let Err(error) = result {
            // CRIU takes back what it has made.
            criu.reply(false)?;
            criu.end();
            return Err(error);
        }
        criu.reply(true)?;
    };
    criu.end();

    let ended = || Error::host(Step::Criu, "restore by criu: the container ended at once");
    let pidfd = Process::now(pid)?.open()?.ok_or_else(ended)?;
    let init = Process::of(pid, pidfd.as_fd())?;
    state.init = Some(init);
    state.stage = Stage::Restored;
    made.dir.store(&state)?;
    if let Some(path) = &create.pidfd_socket {
        engine::send_pidfd(path, "standard", &pidfd)?;
    }
    if let Some(path) = &create.pid_file {
        engine::write_pid_file(path, pid)?;
    }
    made.done = true;
    Ok((init, pidfd, terminal))
}

fn request(plan: &Plan, options: &RestoreOptions, files: &Files, inherited: &Inherited) -> Writer {
    let mut request = common(plan, &options.criu, files, "restore.log");
    request.text(opts::ROOT, plan.rootfs.path.as_os_str().as_bytes());
    // The restored init becomes hull's child, as the init of `create` is.
    request.number(opts::RST_SIBLING, true).number(opts::ORPHAN_PTS_MASTER, plan.process.terminal);
    for tree in &plan.cgroup.trees {
        // v2 has no name.
        let names = if tree.v2 { vec![None] } else { tree.controllers.iter().map(Some).collect() };
        for name in names {
            let mut root = Writer::default();
            if let Some(name) = name {
                root.text(cg_root::CTRL, name);
            }
            root.text(cg_root::PATH, Path::new("/").join(&tree.path).as_os_str().as_bytes());
            request.message(opts::CG_ROOT, &root);
        }
    }
    for external in externals(plan) {
        let source = external.source.as_os_str().as_bytes();
        request.text(opts::EXTERNAL, [format!("mnt[{}]:", external.key).as_bytes(), source].concat());
    }
    for (key, fd) in &inherited.fds {
        let mut inherit = Writer::default();
        inherit.text(inherit_fd::KEY, key).number(inherit_fd::FD, fd.as_raw_fd());
        request.message(opts::INHERIT_FD, &inherit);
    }
    request
}

/// Descriptors that take the place of files that were open before, by CRIU's names for these.
struct Inherited {
    fds: Vec<(String, OwnedFd)>,
}

impl Inherited {
    fn new(plan: &Plan, files: &Files) -> Result<Inherited> {
        let mut fds = Vec::new();
        // What was the engine's is the engine's again; names of files in the container come back with the image.
        let names = files.read_descriptors()?;
        let stdio = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        for (name, fd) in names.into_iter().zip(stdio) {
            let outside = name.starts_with("pipe:[") || name.starts_with("file[");
            if outside && !fds.iter().any(|(known, _)| *known == name) {
                let copy = rustix::io::fcntl_dupfd_cloexec(fd, 3);
                fds.push((name, copy.err_at(Step::Criu, "fcntl", || "copy hull's own stdio")?));
            }
        }
        for (kind, name) in EXTERNAL_NAMESPACES {
            if let Some(join) = plan.namespaces.joins.iter().find(|join| join.kind == kind) {
                let file = std::fs::File::open(&join.path).err_at(Step::Namespace, "open", || {
                    format!("open {} (/linux/namespaces/{})", show(&join.path), join.index)
                })?;
                fds.push((format!("hull-{name}"), file.into()));
            }
        }
        Ok(Inherited { fds })
    }
}

/// CRIU mounts on what is there: a root file system that is new to the container may lack it.
fn mount_points(plan: &Plan) -> Result<()> {
    use rustix::fs::{Mode, OFlags};
    let path = &plan.rootfs.path;
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).err_at(
        Step::Mount,
        "open",
        || format!("open {} (/root/path)", show(path)),
    )?;
    let root = Root::new(&fd);
    let mut covered: Vec<&Path> = Vec::new();
    for mount in &plan.mounts {
        let at = mount.destination.as_path();
        // What lies in another mount comes back with it.
        if !covered.iter().any(|above| at.starts_with(above)) {
            let file = match &mount.kind {
                crate::plan::mounts::MountKind::Bind { source, .. } => !source.is_dir(),
                _ => false,
            };
            let made = match file {
                true => root.ensure_file(&mount.destination, &|_| Ok(true)).map(drop),
                false => root.ensure_dir(&mount.destination, &|_| Ok(true)).map(drop),
            };
            made.err_at(Step::Mount, "mkdirat", || format!("make {} (/mounts/{})", mount.destination, mount.index))?;
        }
        covered.push(at);
    }
    Ok(())
}

/// CRIU wants the root file system to be a mount of its own, in no group with others: in a mount namespace of CRIU's own,
/// so that nothing is left of it, whoever is killed when.
fn bind_root(rootfs: &Path) -> Result<()> {
    crate::steps::namespaces::unshare(libc::CLONE_NEWNS as u64)?;
    let subject = || format!("bind {} to itself (/root/path)", show(rootfs));
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).err_at(
        Step::Mount,
        "mount",
        || "keep the mounts for criu from the host",
    )?;
    mount_bind_recursive(rootfs, rootfs).err_at(Step::Mount, "mount", subject)?;
    mount_change(rootfs, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).err_at(
        Step::Mount,
        "mount",
        subject,
    )?;
    Ok(())
}

/// What CRIU does not keep read-only: the masks of files, which are the host's /dev/null, but for the first; and the root
/// file system, which is hull's mount, not the image's, and where CRIU has to write before.
fn readonly_again(plan: &Plan, init: Option<Process>) -> Result<()> {
    if !plan.rootfs.readonly && plan.rootfs.masked_paths.is_empty() {
        return Ok(());
    }
    let gone = || Error::host(Step::Criu, "restore by criu: init has gone");
    let pidfd = known(init)?.open()?.ok_or_else(gone)?;
    let back = crate::steps::namespaces::enter_mounts_of(pidfd.as_fd())?;
    use rustix::fs::{Mode, OFlags};
    let result = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .err_at(Step::Mount, "open", || "open the container's root")
        .and_then(|root| {
            crate::steps::masked::make_null_readonly(Root::new(&root), &plan.rootfs)?;
            if plan.rootfs.readonly { crate::steps::rootfs::set_readonly(root.as_fd()) } else { Ok(()) }
        });
    back.go().and(result)
}

/// What is not known cannot be looked at, and must not run.
fn known(init: Option<Process>) -> Result<Process> {
    init.ok_or_else(|| Error::host(Step::Criu, "restore by criu: it did not say which process is the first"))
}

/// What has been made; dropped before it is done, it leaves nothing of it.
struct Made {
    dir: StateDir,
    cgroup: Option<Handle>,
    rdt: Option<intel_rdt::Saved>,
    criu: Option<Criu>,
    done: bool,
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // First those that CRIU holds, which would run if it died before them.
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.kill();
        }
        if let Some(criu) = &self.criu {
            criu.kill();
        }
        // Its processes, restored or not, are in the cgroup.
        let removed = self.cgroup.take().map_or(Ok(()), Handle::remove);
        match removed.and(self.rdt.as_ref().map_or(Ok(()), intel_rdt::Saved::remove)) {
            Ok(()) => drop(self.dir.remove()),
            Err(error) => crate::log::warn(format!("{error}; `hull delete --force` tries again")),
        }
    }
}
