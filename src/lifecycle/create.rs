//! `create`: the two columns. Every handover between setup and init is in this file, in this order.
//!
//! ```text
//!   setup (host, parent)                               init (pid 1 of the container)
//!   1 lock id, state directory with intent, start socket, socketpair
//!   2 cgroup: create
//!   3 open what is joined, and what only the host sees
//!   4 spawn: clone3(USER|PID, INTO_CGROUP, PIDFD), through a hop
//!     into the user and pid namespaces that are joined ─────┐
//!   5 device rules; join cgroup if 4 could not; uid/gid maps; oom_score_adj, io priority, raised limits by pid
//!   6 ── Sync::Mapped ────────────────────────────────────► 7 become root; join what the container's user namespace owns;
//!                                                             not dumpable; unshare(rest, cgroup too); time offsets
//!   9 limits, scheduler; clone the sources init   ◄── Sync::NamespacesReady ── 8
//!     cannot reach
//!  10 ── Sync::HostReady (fds) ───────────────────────────► 11 own procfs; mounts, devices (root not yet entered)
//!  13 hooks prestart, createRuntime              ◄── Sync::RootfsReady ────── 12
//!  14 ── Sync::HooksDone ─────────────────────────────────► 15 createContainer hooks; masked, ro; pivot_root; console; sysctl
//!                                                           16 label, stdio owner, bounding set, user, final caps
//!                                                              (noNewPrivileges false or NOTIFY: Landlock, seccomp here)
//!  18 nodes may not be made any more;            ◄── Sync::Ready ──────────── 17
//!     state "created", pid file
//!  19 ── Sync::Created ─► exit 0                            20 wait for start, and only now let go of setup
//!     ------------- `hull start` connects -------------
//!     poststart hooks, only once the program runs           21 rlimits, startContainer hooks; fds; Landlock; seccomp; execve
//! ```
//!
//! A sync point that a plan does not need ([`crate::plan::SyncPoints`]) is waited for by neither side.

mod undo;

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use undo::Undo;

use super::foreground::Stdio;
use super::outcome::Outcome;
use super::process::Process;
use super::spawn::{spawn, through_hop};
use super::state::{Intent, NOTIFY_DIRECTORY, Stage, State, StateDir, Status};
use super::sync::{self, Channel, Sync, pair, recv_packet, send_packet};
use super::{CreateOptions, Globals, engine, sdnotify, start};
use crate::cgroup::Handle;
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::host::HostFacts;
use crate::plan::landlock::comes_early;
use crate::plan::mounts::Source;
use crate::plan::namespaces::{Kind, Spawn};
use crate::plan::order::{Point, Side};
use crate::plan::{MAX_PRESERVED_FDS, Options, Plan, SyncPoints};
use crate::spec::load::{self, Text};
use crate::steps::masked::Masks;
use crate::steps::mounts::Given;
use crate::steps::namespaces::{Opened, TimeOffsets};
use crate::steps::netdev::NetDevices;
use crate::steps::place::Places;
use crate::steps::{self, hooks, intel_rdt, procfs::ProcFs};
use crate::sys::clone::{Cloned, execve, exit_now};
use crate::trace;

/// How long init may be silent before it is asked whether it can go on at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Creates a container that waits for `start`.
pub fn create(globals: &Globals, options: &CreateOptions) -> Result<()> {
    let result =
        prepare(globals, options, true).and_then(|prepared| setup(&prepared, globals, options, Stdio::default()));
    trace::close(true);
    result.map(drop).map_err(|error| again_from_copy(error, options))
}

/// Where init could not protect hull's executable by itself, all was undone: hull runs itself again, from a copy in memory.
/// What comes back is an error.
pub fn again_from_copy(error: Error, options: &CreateOptions) -> Error {
    steps::exe::again_from_copy(error, options.preserve_fds.saturating_add(listen_fds()))
}

/// Everything that is known before anything is touched.
#[derive(Debug)]
pub struct Prepared {
    /// config.json.
    pub text: Text,
    /// What will be done.
    pub plan: Plan,
    last_cap: u32,
    ignored_signals: u64,
    forgiving: bool,
}

/// Reads the bundle and makes the plan; all errors of the config end here.
pub fn prepare(globals: &Globals, options: &CreateOptions, detached: bool) -> Result<Prepared> {
    if let Some(path) = &globals.trace {
        trace::open(path, Side::Setup)?;
    }
    trace::step(Point::Config);
    // What the caller left open stays out of the container, its hooks and its namespaces.
    let listen_fds = listen_fds();
    let preserve_fds = options.preserve_fds.saturating_add(listen_fds);
    steps::process::check_preserved(preserve_fds)?;
    crate::sys::descriptors::cloexec_from(3).err_at(
        Step::Process,
        "close_range",
        || "keep the caller's descriptors out of the container",
    )?;

    let default = options.bundle.join("config.json");
    let config = options.config.as_deref().unwrap_or(&default);
    crate::log::debug(format_args!("bundle {}, config {}", show(&options.bundle), show(config)));
    let text = load::read(config)?;
    let (plan, last_cap, ignored_signals, forgiving) = {
        let (spec, unknown) = load::parse(&text)?;
        let facts = HostFacts::probe_for(&spec, globals.cgroup_manager)?;
        let notify = sdnotify::manager().map(|_| globals.root.join(&options.id).join(NOTIFY_DIRECTORY));
        let plan_options = Options {
            id: options.id.clone(),
            bundle: options.bundle.clone(),
            no_pivot: options.no_pivot,
            no_new_keyring: options.no_new_keyring,
            preserve_fds,
            listen_fds,
            console_socket: options.console_socket.is_some(),
            detached,
            cgroup_manager: globals.cgroup_manager,
            rootless: globals.rootless,
            userns_self: options.userns_self,
            notify,
            record: options.record,
            env: Vec::new(),
        };
        let plan = Plan::new(&spec, &facts, &plan_options)?;
        let unknown = unknown.iter().map(|unknown| unknown as &dyn std::fmt::Display);
        crate::log::warn_all(unknown.chain(plan.notes.iter().map(|note| note as _)));
        plan.asides.iter().for_each(crate::log::debug);
        (plan, facts.last_cap, facts.ignored_signals, globals.rootless.unwrap_or_else(|| facts.rootless()))
    };
    check_rootfs(&plan)?;
    check_bundle(&plan, &options.bundle)?;
    Ok(Prepared { text, plan, last_cap, ignored_signals, forgiving })
}

/// A container that was made and waits for `start`; in `run` also the handle of its init, which is hull's child.
#[derive(Debug)]
pub struct Created {
    /// init.
    pub init: Process,
    /// Its handle.
    pub pidfd: OwnedFd,
    /// The terminal's master, where no console socket took it.
    pub terminal: Option<OwnedFd>,
    /// Its state directory, still locked.
    pub dir: StateDir,
    /// What state.json says now.
    pub state: State,
}

/// The left column. Here: the caller's privilege and the host's namespaces, from the first line to the last.
pub fn setup(prepared: &Prepared, globals: &Globals, options: &CreateOptions, stdio: Stdio) -> Result<Created> {
    let plan = &prepared.plan;

    trace::step(Point::State);
    options.console_socket.as_deref().map_or(Ok(()), engine::check_console)?;
    let dir = StateDir::create(&globals.root, &plan.id)?;
    let mut undo = Undo::new(dir);
    let mut state = State::creating(&plan.id, Intent::of(plan))?;
    let key = state.make_key()?;
    undo.dir().store(&state)?;
    if plan.notify {
        undo.dir().make_notify()?;
    }
    let listener = start_socket(undo.dir())?;
    let (channel, init_channel) = pair()?;

    trace::step(Point::Cgroup);
    for directory in plan.cgroup.directories() {
        crate::log::debug(format_args!("cgroup {}", show(&directory)));
    }
    Handle::create(&plan.cgroup, &mut undo.cgroup)?;
    if let Some(rdt) = &plan.intel_rdt {
        intel_rdt::create(rdt)?;
        undo.rdt.clone_from(&state.rdt);
    }

    if plan.rootfs.on_host {
        trace::step(Point::HostRoot);
        steps::rootfs::attach_on_host(&plan.rootfs, |id| {
            state.host_root = Some(id);
            undo.host_root = Some((&plan.rootfs.path, id));
            undo.dir().store(&state)
        })?;
    }

    trace::step(Point::Open);
    let joins = steps::namespaces::open_joins(&plan.namespaces)?;
    let (host_files, view_mount) = HostFiles::open(plan)?;

    trace::step(Point::Clone);
    if plan.idmaps.is_some() {
        steps::process::not_dumpable_if_root()?;
    }
    let into = undo.cgroup().clone_into();
    let (cloned, cloned_into) = clone_init(prepared, &joins, into)?;
    let sync = if into.is_some() && !cloned_into { plan.sync.outside() } else { plan.sync };
    let (pid, pidfd) = match cloned {
        Cloned::Child => {
            // The copy of setup's guards must undo nothing, and its copy of the lock must not outlive setup.
            undo.dir.take();
            std::mem::forget(undo);
            drop(channel);
            init(prepared, InitEnds { channel: init_channel, sync, listener, key, joins, host_files, stdio })
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(init_channel);
    channel.set_patience(PATIENCE)?;
    drop(stdio);
    undo.init = Some(pid);
    crate::log::debug(format_args!("init is process {pid}"));
    let init = undo.child.insert(pidfd);
    state.init = Some(Process::of(pid, init.as_fd())?);

    trace::step(Point::Attributes);
    // After the clone: init makes its namespaces while the kernel looks through the program.
    undo.cgroup().set_devices(&plan.cgroup)?;
    if sync.device_rules {
        channel.send(&Sync::DeviceRules, &[]).map_err(|e| channel.reason_of(e, || undo.how_init_died()))?;
    }
    let cgroup = undo.cgroup.as_mut().expect("the cgroup is made before the clone");
    cgroup.join(&plan.cgroup, pid, cloned_into)?;
    state.rdt.as_ref().map_or(Ok(()), |rdt| rdt.join(pid))?;
    if let Some(maps) = &plan.idmaps {
        steps::idmap::write(maps, pid)?;
    }
    attributes_by_pid(prepared, pid, sync.mapped)?;
    if sync.mapped {
        channel.send(&Sync::Mapped(pid), &[]).map_err(|e| channel.reason_of(e, || undo.how_init_died()))?;
    }

    // init mounts meanwhile; all limits hold before Ready is answered. It may have failed at that, too, and then systemd
    // takes the unit's cgroup away.
    trace::step(Point::Limits);
    undo.cgroup().apply(&plan.cgroup).map_err(|error| undo.first_reason(&channel, error))?;
    if let Some(scheduler) = plan.process.scheduler.as_ref().filter(|scheduler| !scheduler.is_deadline()) {
        // After the limits: a v1 cgroup has no real-time to give before it is told so.
        steps::process::set_scheduler(pid, scheduler).map_err(|error| undo.first_reason(&channel, error))?;
    }
    undo.dir().store_config(&prepared.text)?;
    drop(view_mount);
    if plan.sync.namespaces_ready {
        trace::step(Point::WaitForNamespaces);
        let Sync::NamespacesReady(unreachable) = expect(&channel, &undo)?.0 else { return Err(sync::out_of_order()) };
        if !plan.net_devices.is_empty() {
            trace::step(Point::NetDevices);
            let init = undo.child.as_ref().expect("init was cloned");
            undo.net_devices.insert(NetDevices::open(init.as_fd())?).move_all(&plan.net_devices)?;
        }
        let sources = clone_sources(plan, &undo, &unreachable)?;
        let fds: Vec<_> = sources.iter().map(AsFd::as_fd).collect();
        trace::step(Point::HandOver);
        channel.send(&Sync::HostReady, &fds).map_err(|e| channel.reason_of(e, || undo.how_init_died()))?;
    }

    if plan.sync.hooks {
        trace::step(Point::WaitForRoot);
        let Sync::RootfsReady = expect(&channel, &undo)?.0 else { return Err(sync::out_of_order()) };
        trace::step(Point::HostHooks);
        undo.poststop = Some((&plan.hooks, state.to_json(Status::Stopped)));
        let json = state.to_json(Status::Creating);
        let output = hooks::Output::open(&plan.hooks)?;
        hooks::run_all("prestart", &plan.hooks.prestart, &json, None, &output)?;
        hooks::run_all("createRuntime", &plan.hooks.create_runtime, &json, None, &output)?;
        channel.send(&Sync::HooksDone, &[]).map_err(|e| channel.reason_of(e, || undo.how_init_died()))?;
    }
    if plan.hooks.in_init() {
        undo.poststop = Some((&plan.hooks, state.to_json(Status::Stopped)));
    }

    trace::step(Point::WaitForReady);
    let (Sync::Ready, mut fds) = expect(&channel, &undo)? else { return Err(sync::out_of_order()) };
    trace::step(Point::Created);
    let terminal = plan.process.terminal.then(|| fds.remove(0));
    let terminal = match (&options.console_socket, terminal) {
        (Some(path), Some(master)) => {
            engine::send_terminal(&engine::connect_console(path)?, &master)?;
            None
        }
        (_, terminal) => terminal,
    };
    if let Some(seccomp) = plan.seccomp.as_ref().filter(|filter| filter.notify.is_some()) {
        super::notify::hand_over(seccomp, &state, Status::Creating, pid, &fds)?;
    }
    undo.cgroup().settle_devices(&plan.cgroup)?;
    if let Some(scheduler) = plan.process.scheduler.as_ref().filter(|s| s.is_deadline()) {
        // SCHED_DEADLINE forbids fork: only now, when nothing is forked any more.
        steps::process::set_scheduler(pid, scheduler)?;
    }
    state.stage = Stage::Created;
    undo.dir().store(&state)?;
    if let Some(path) = &options.pidfd_socket {
        engine::send_pidfd(path, "standard", undo.child.as_ref().expect("init was cloned"))?;
    }
    if let Some(path) = &options.pid_file {
        engine::write_pid_file(path, pid)?;
    }

    trace::step(Point::LetGo);
    channel.send(&Sync::Created, &[]).map_err(|e| channel.reason_of(e, || undo.how_init_died()))?;
    let (dir, pidfd) = undo.defuse();
    Ok(Created { init: state.init.expect("init was cloned"), pidfd, terminal, dir, state })
}

/// What init takes over from setup's memory and descriptors.
struct InitEnds<'p> {
    channel: Channel,
    sync: SyncPoints,
    listener: OwnedFd,
    /// What `start` has to say.
    key: String,
    joins: Vec<Opened<'p>>,
    host_files: HostFiles,
    stdio: Stdio,
}

/// Whom init tells what went wrong: setup until "created", then the `start` that asked for the program.
enum Listener {
    Setup(Channel),
    /// `create` has returned, and no `start` has come.
    Log,
    /// The connection stays open until the page is written: its end makes `start` look there.
    Start(Outcome, OwnedFd),
    Nobody,
}

impl Listener {
    /// The execve comes next.
    fn executing(&self) {
        if let Listener::Start(outcome, _) = self {
            outcome.executing();
        }
    }

    /// Only what every filter allows comes before the last one.
    fn leaving(&self) {
        if let Listener::Start(outcome, _) = self {
            outcome.leaving();
        }
    }
}

/// The right column, to its end: it becomes the program, or says why not and leaves.
fn init(prepared: &Prepared, ends: InitEnds<'_>) -> ! {
    let InitEnds { channel, sync, listener, key, joins, host_files, stdio } = ends;
    let mut who = Listener::Setup(channel);
    let error = match init_steps(prepared, &mut who, sync, (&listener, &key), joins, host_files, stdio) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    match who {
        Listener::Setup(channel) => {
            let _ = channel.send(&Sync::Failed(Box::new(error)), &[]);
        }
        // `listener` is open until then: its end tells `start` that init has gone.
        Listener::Log => crate::log::last_words(&error),
        Listener::Start(page, _connection) => page.store(&sync::packed(&error, crate::sys::shared::ROOM)),
        Listener::Nobody => {}
    }
    exit_now(1)
}

fn init_steps(
    prepared: &Prepared,
    who: &mut Listener,
    sync: SyncPoints,
    (listener, key): (&OwnedFd, &str),
    joins: Vec<Opened<'_>>,
    host_files: HostFiles,
    stdio: Stdio,
) -> Result<Infallible> {
    let plan = &prepared.plan;
    let process = &plan.process;
    let Listener::Setup(channel) = who else { return Err(sync::out_of_order()) };

    // ── Here: setup's ids and capabilities, or all capabilities of a user namespace without ids; the host's mounts.
    trace::become_side(Side::Init);
    trace::step(Point::WaitForMaps);
    steps::process::die_with_parent(true)?;
    close_all_but(plan, channel, listener, &joins, &host_files, &stdio)?;
    let offsets_of = (plan.namespaces.spawn == Spawn::Straight).then_some(&plan.namespaces);
    let time_offsets = offsets_of.map(TimeOffsets::open).transpose()?.flatten();
    let mut host_pid = 0;
    if sync.mapped {
        let Some((Sync::Mapped(pid), _)) = channel.recv()? else { return Err(sync::setup_gone()) };
        host_pid = pid;
    }
    trace::step(Point::Namespaces);
    let exe = host_files.exe;
    rustix::process::setsid().err_at(Step::Process, "setsid", || "begin a session")?;
    if let Some((uid, gid)) = plan.root_ids() {
        let setgroups = plan.idmaps.as_ref().is_none_or(|maps| maps.setgroups()) && !process.user.keep_groups;
        steps::process::become_root(uid, gid, setgroups)?;
        steps::process::die_with_parent(true)?;
    }
    steps::process::not_dumpable()?;
    for opened in joins.iter().filter(|opened| !opened.by_hop) {
        steps::namespaces::join(opened)?;
    }
    drop(joins);
    // ── Here: root of the container's user namespace (the host's where it has none of its own); the host's mounts.
    steps::namespaces::unshare(plan.namespaces.unshare)?;
    time_offsets.map_or(Ok(()), TimeOffsets::write)?;
    trace::step(Point::Executable);
    steps::exe::protect(exe)?;
    trace::step(Point::Names);
    if plan.namespaces.makes(Kind::Network) {
        steps::namespaces::loopback_up()?;
    }
    steps::namespaces::set_names(plan.hostname.as_deref(), plan.domainname.as_deref())?;
    if sync.device_rules {
        trace::step(Point::WaitForRules);
        let Some((Sync::DeviceRules, _)) = channel.recv()? else { return Err(sync::setup_gone()) };
    }
    // ── Here: the device rules hold. Nothing of an image or a volume was touched before.
    steps::rootfs::cut_off(&plan.rootfs)?;
    let mut given = Given::default();
    if plan.sync.namespaces_ready {
        let unreachable = steps::mounts::unreachable(&plan.rootfs, &plan.mounts);
        channel.send(&Sync::NamespacesReady(unreachable.clone()), &[])?;
        trace::step(Point::WaitForSources);
        let Some((Sync::HostReady, fds)) = channel.recv()? else { return Err(sync::setup_gone()) };
        given = unreachable.into_iter().zip(fds).collect();
    }

    trace::step(Point::Root);
    let proc = plan.needs_procfs().then(ProcFs::new).transpose()?;
    let root_fd = steps::rootfs::attach(&plan.rootfs, given.remove(&Source::Rootfs))?;
    let mut places = Places::new(&root_fd, &plan.rootfs);
    let root = places.root;
    let deferred = steps::mounts::mount_all(&mut places, &plan.mounts, &mut given)?;
    steps::devices::make_all(&places, &plan.devices)?;
    let masks = Masks::prepare(&plan.rootfs)?;

    if plan.sync.hooks {
        trace::step(Point::WaitForHooks);
        channel.send(&Sync::RootfsReady, &[])?;
        let Some((Sync::HooksDone, _)) = channel.recv()? else { return Err(sync::setup_gone()) };
    }

    trace::step(Point::ContainerHooks);
    let state = plan.hooks.in_init().then(|| init_state(plan, host_pid));
    // Before the pivot: the files are the host's.
    let output = if plan.hooks.in_init() { hooks::Output::open(&plan.hooks)? } else { hooks::Output::default() };
    if let Some(state) = &state {
        let json = state.to_json(Status::Creating);
        rustix::process::fchdir(root.fd).err_at(Step::Hook, "fchdir", || "go to the root file system")?;
        hooks::run_all("createContainer", &plan.hooks.create_container, &json, None, &output)?;
    }
    // After the last hook that may add to the tree.
    trace::step(Point::Enter);
    masks.apply(&places, &plan.rootfs)?;
    steps::masked::make_readonly(&places, &plan.rootfs)?;
    let console = !process.terminal || !steps::devices::console_shows_on_the_host(&places)?;
    if !console {
        crate::log::warn(
            "/dev is shared with the host: the terminal is not bound to /dev/console, which would be the host's",
        );
    }
    steps::rootfs::enter(root.fd, &plan.rootfs)?;
    // ── Here: the container's root and mounts; still every capability.
    trace::step(Point::Inside);
    let terminal =
        process.terminal.then(|| steps::console::open(console.then_some(&places), process.console_size)).transpose()?;
    if let Some(proc) = &proc {
        steps::sysctl::set_all(proc, &plan.sysctls)?;
    }
    if plan.rootfs.readonly {
        steps::process::make_missing_directory(&process.cwd)?;
    }
    deferred.finish()?;
    if plan.rootfs.readonly {
        steps::rootfs::set_readonly(root.fd)?;
    }
    steps::rootfs::set_propagation(root.fd, &plan.rootfs)?;
    let mut landlock = plan.landlock.as_ref().map(|rules| steps::landlock::ruleset(root, rules)).transpose()?;
    steps::tree::stage::close();
    drop(root_fd);

    trace::step(Point::Identity);
    if let Some(proc) = proc {
        steps::process::set_labels(&proc, process)?;
    }
    if !plan.no_new_keyring {
        steps::process::join_keyring(&plan.id)?;
    }
    steps::process::reset_affinity();
    if let Some(policy) = &plan.memory_policy {
        steps::process::set_memory_policy(policy)?;
    }
    if let Some(persona) = process.personality {
        steps::process::set_personality(persona)?;
    }
    if let Some(terminal) = &terminal {
        steps::process::take_terminal(terminal.peer.as_fd())?;
    }
    steps::process::replace_stdio(stdio)?;
    steps::process::own_null(true)?;
    let env = steps::process::environment(process);
    steps::process::chown_stdio(process.user.uid, process.terminal)?;
    steps::process::make_and_change_directory(&process.cwd)?;
    if !sync.mapped {
        steps::process::raise_rlimits(0, &process.rlimits)?;
    }
    steps::process::drop_bounding(process.capabilities.bounding, prepared.last_cap)?;
    steps::process::become_user(&process.user)?;
    // ── Here: the program's user; capabilities within its bounding set, for the steps that are left.
    steps::process::die_with_parent(true)?;
    steps::process::not_dumpable()?;
    let program = steps::process::find_program(process)?;
    let mut handed_on = Vec::new();
    handed_on.extend(terminal.map(|terminal| terminal.master));
    // A container that waits for start ends at TERM as its program would, whoever sends it: an engine, or systemd at the end.
    crate::sys::signal::end_on_request().err_at(Step::Process, "sigaction", || "end at TERM while waiting")?;
    let early = plan.seccomp.as_ref().filter(|filter| filter.loads_early(process.no_new_privileges));
    if let Some(rules) = landlock.take_if(|_| comes_early(early, process.no_new_privileges)) {
        if process.no_new_privileges {
            steps::process::no_new_privileges()?;
        }
        steps::landlock::restrict(rules)?;
    }
    if let Some(filter) = early {
        // Without no_new_privs loading takes CAP_SYS_ADMIN, which goes next. The profile must allow what is left: capset,
        // prctl, sendmsg, poll, recvmsg, accept4, mmap, prlimit64, rt_sigaction, fcntl, execve. What is opened from here on is CLOEXEC.
        steps::process::cloexec_all()?;
        if process.no_new_privileges {
            steps::process::no_new_privileges()?;
        }
        handed_on.extend(steps::seccomp::load(filter)?);
    }
    let recorder = plan.seccomp.as_ref().filter(|filter| filter.recorder.is_some());
    match recorder {
        // Loading takes CAP_SYS_ADMIN, and a recording begins in front of execve, which takes it away.
        Some(_) if !process.no_new_privileges => steps::process::set_capabilities(&process.capabilities.with_admin())?,
        _ => steps::process::set_capabilities(&process.capabilities)?,
    }
    // ── Here: what the program will have, and no more; for a recording, perhaps CAP_SYS_ADMIN.
    trace::step(Point::Ready);
    // From here on the end of the channel says that setup has died; a death signal could still hit an init that has just
    // been let go, when setup leaves.
    steps::process::die_with_parent(false)?;
    let fds: Vec<_> = handed_on.iter().map(AsFd::as_fd).collect();
    channel.send(&Sync::Ready, &fds)?;
    drop(handed_on);
    // A setup that dies before "created" never leaves an init behind.
    let Some((Sync::Created, _)) = channel.recv()? else {
        *who = Listener::Nobody;
        return Err(sync::setup_gone());
    };
    *who = Listener::Log;
    let start = wait_for_start(listener, key)?;

    // ── `hull start` is there, and wants to know what becomes of the execve.
    *who = Listener::Start(start.outcome, start.connection);
    if let Some(fd) = start.trace {
        trace::adopt(fd, Side::Init);
    }
    trace::step(Point::Execve);
    let mut filtered = early.is_some();
    let hooked = state.filter(|_| !plan.hooks.start_container.is_empty());
    if let Some(state) = &hooked {
        // These programs come from the image: they are held to the limits of the one that they prepare.
        steps::process::set_rlimits(0, &process.rlimits)?;
        if process.no_new_privileges {
            steps::process::no_new_privileges()?;
        }
        if let Some(filter) = plan.seccomp.as_ref().filter(|filter| !filtered && filter.recorder.is_none()) {
            // The profile must allow what running a hook takes, and what is left behind it.
            steps::process::check_directory(&process.cwd)?;
            steps::process::cloexec_all()?;
            landlock.take().map_or(Ok(()), steps::landlock::restrict)?;
            steps::seccomp::load(filter)?;
            filtered = true;
        }
        let json = state.to_json(Status::Created);
        hooks::run_all("startContainer", &plan.hooks.start_container, &json, Some(&env), &output)?;
    }
    match steps::process::check_directory(&process.cwd) {
        // The filter denies getcwd: it was asked, as late as could be, before that came into force.
        Err(error) if filtered && (error.is(Errno::PERM) || error.is(Errno::NOSYS)) => {}
        checked => checked?,
    }
    let argv: Vec<_> = process.args.iter().map(AsRef::as_ref).collect();
    let envp: Vec<_> = env.iter().map(AsRef::as_ref).collect();
    trace::close(false);
    who.leaving();
    steps::process::default_signals(prepared.ignored_signals)?;
    if !filtered {
        steps::process::cloexec_all()?;
    }
    steps::process::keep(plan.preserve_fds)?;
    if hooked.is_none() {
        steps::process::set_rlimits(0, &process.rlimits)?;
    }
    if let Some(rules) = landlock {
        steps::process::no_new_privileges()?;
        steps::landlock::restrict(rules)?;
    }
    if let (Some(filter), Listener::Start(_, connection)) = (recorder, &*who) {
        if process.no_new_privileges {
            steps::process::no_new_privileges()?;
        }
        steps::process::unblock_signals()?;
        // From here on hull is asked about each call: it is at the other end of the connection.
        steps::seccomp::load_recorder(filter, connection.as_fd())?;
        return Err(steps::process::exec_error(&program, execve(&program, &argv, &envp)));
    }
    match &plan.seccomp {
        None if process.no_new_privileges => steps::process::no_new_privileges()?,
        Some(filter) if !filtered => {
            steps::process::no_new_privileges()?;
            // After this line only execve and plain memory writes follow: the profile needs to allow nothing else.
            steps::process::unblock_signals()?;
            steps::seccomp::load(filter)?;
            who.executing();
            return Err(steps::process::exec_error(&program, execve(&program, &argv, &envp)));
        }
        _ => {}
    }
    steps::process::unblock_signals()?;
    who.executing();
    Err(steps::process::exec_error(&program, execve(&program, &argv, &envp)))
}

/// What init needs stays open; the caller's descriptors and setup's do not.
fn close_all_but(
    plan: &Plan,
    channel: &Channel,
    listener: &OwnedFd,
    joins: &[Opened<'_>],
    host_files: &HostFiles,
    stdio: &Stdio,
) -> Result<()> {
    crate::log::with_descriptor(|log| {
        trace::with_descriptor(|trace| {
            let mut keep = vec![channel.as_fd(), listener.as_fd()];
            keep.extend(joins.iter().map(|opened| opened.fd.as_fd()));
            keep.extend(host_files.exe.descriptor());
            keep.extend(stdio.iter().flatten().map(AsFd::as_fd));
            keep.extend([log, trace].into_iter().flatten());
            steps::process::close_others(plan.preserve_fds, &keep)
        })
    })
}

/// init comes to life, in its v2 cgroup where the kernel allows that (the second answer).
fn clone_init(prepared: &Prepared, joins: &[Opened<'_>], cgroup: Option<BorrowedFd<'_>>) -> Result<(Cloned, bool)> {
    if joins.iter().any(|opened| opened.by_hop) {
        return clone_through_hop(prepared, joins, cgroup);
    }
    spawn(prepared.plan.namespaces.clone, cgroup, "clone init")
}

/// The exception to "one clone": a hop joins what init is cloned in. setup never goes in: there is no way back without
/// privilege over what it came from, and hooks would run there.
fn clone_through_hop(
    prepared: &Prepared,
    joins: &[Opened<'_>],
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<(Cloned, bool)> {
    through_hop("clone the hop into the namespaces", |_| hop_steps(prepared, joins, cgroup))?
        .ok_or_else(|| Error::host(Step::Spawn, "clone init: the hop into the namespaces died"))
}

/// The hop, up to the clone: in init it goes on from there.
fn hop_steps(prepared: &Prepared, joins: &[Opened<'_>], cgroup: Option<BorrowedFd<'_>>) -> Result<(Cloned, bool)> {
    let namespaces = &prepared.plan.namespaces;
    let (mut flags, mut offsets) = (namespaces.clone, None);
    if namespaces.spawn == Spawn::ThroughUserns {
        offsets = TimeOffsets::open(namespaces)?;
        set_oom_score_adj(prepared, rustix::process::getpid().as_raw_nonzero().get())?;
    }
    steps::process::not_dumpable()?;
    steps::namespaces::join_for_clone(joins)?;
    // ── Here: not dumpable any more, and so will init be from its first instruction on.
    if namespaces.spawn == Spawn::ThroughUserns {
        steps::namespaces::unshare(flags)?;
        flags = 0;
    }
    offsets.map_or(Ok(()), TimeOffsets::write)?;
    spawn(flags | libc::CLONE_PARENT as u64, cgroup, "clone init")
}

/// What has to be opened while the host's files can be seen, and before init's mount namespace is made.
struct HostFiles {
    exe: steps::exe::View,
}

impl HostFiles {
    /// With the view's mount, which setup alone keeps.
    fn open(plan: &Plan) -> Result<(HostFiles, Option<OwnedFd>)> {
        let (exe, mount) = steps::exe::open_view()?;
        if plan.namespaces.makes(Kind::Pid) {
            return Ok((HostFiles { exe }, mount));
        }
        // Others are in that pid namespace already: they could open init's executable in its first moments.
        drop(mount);
        Ok((HostFiles { exe: steps::exe::protect_early(exe)? }, None))
    }
}

/// What a parent may set on init that init, in a user namespace or with its program's capabilities, may not.
fn attributes_by_pid(prepared: &Prepared, pid: i32, mapped: bool) -> Result<()> {
    let process = &prepared.plan.process;
    if prepared.plan.namespaces.spawn == Spawn::Straight {
        set_oom_score_adj(prepared, pid)?;
    }
    if let Some(priority) = process.io_priority {
        steps::process::set_io_priority(pid, priority)?;
    }
    // init waits for Mapped, or it does this itself: another user's limits could not be read.
    if mapped {
        steps::process::raise_rlimits(pid, &process.rlimits)?;
    }
    Ok(())
}

fn set_oom_score_adj(prepared: &Prepared, pid: i32) -> Result<()> {
    if let Some(value) = prepared.plan.process.oom_score_adj
        && !steps::process::set_oom_score_adj(pid, value, prepared.forgiving)?
    {
        crate::log::debug("config.json: /process/oomScoreAdj: not lowered, since hull may not (rootless)");
    }
    Ok(())
}

/// Clones, in init's mount namespace, the sources that init said it cannot reach: copies made there keep the flags of
/// their source locked against the container's root, copies of the host's namespace would not.
fn clone_sources(plan: &Plan, undo: &Undo<'_>, unreachable: &[Source]) -> Result<Vec<OwnedFd>> {
    if unreachable.is_empty() {
        return Ok(Vec::new());
    }
    let init = undo.child.as_ref().expect("init was cloned");
    let mappings = steps::idmap::Mappings::of(&plan.mounts, unreachable, init.as_fd())?;
    let back = steps::namespaces::enter_mounts_of(init.as_fd())?;
    let clones = steps::mounts::clone_all(&plan.rootfs, &plan.mounts, unreachable, &mappings);
    back.go()?;
    clones
}

/// The state that hooks in init get: as setup's, with init's number on the host.
fn init_state(plan: &Plan, host_pid: i32) -> State {
    let init = Process { pid: host_pid, start_time: 0, pidfd_inode: None };
    State { init: Some(init), ..State::creating_by(init, &plan.id, Intent::of(plan)) }
}

/// What `start` hands to init.
struct Start {
    outcome: Outcome,
    trace: Option<OwnedFd>,
    /// Close-on-exec: its end tells `start` that the execve is done, one way or the other.
    connection: OwnedFd,
}

/// So many connections may say nothing; with one more the first of them is dropped. Silence keeps no `start` waiting.
const SILENT: usize = 8;

/// Waits for `start`.
fn wait_for_start(listener: &OwnedFd, key: &str) -> Result<Start> {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut silent: Vec<OwnedFd> = Vec::new();
    loop {
        let mut fds: Vec<_> =
            std::iter::once(listener).chain(&silent).map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Error::call(Step::Sync, "poll", errno, "wait for start")),
        }
        drop(fds);
        match accept(listener) {
            Ok(connection) => {
                if silent.len() == SILENT {
                    silent.remove(0);
                }
                silent.push(connection);
            }
            Err(Errno::INTR | Errno::AGAIN | Errno::CONNABORTED) => {}
            Err(errno) => return Err(Error::call(Step::Sync, "accept4", errno, "wait for start")),
        }
        let mut still_silent = Vec::new();
        for connection in silent {
            match hear(connection.as_fd(), key)? {
                Heard::Nothing => still_silent.push(connection),
                Heard::Start(outcome, trace) => return Ok(Start { outcome, trace, connection }),
                Heard::NoStart => {}
            }
        }
        silent = still_silent;
    }
}

/// accept4(2), or where that is refused accept(2): nothing is executed and nobody else clones in between.
fn accept(listener: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Err(Errno::NOSYS | Errno::PERM) => {
            let connection = rustix::net::accept(listener)?;
            rustix::io::fcntl_setfd(&connection, rustix::io::FdFlags::CLOEXEC)?;
            rustix::fs::fcntl_setfl(&connection, rustix::fs::OFlags::NONBLOCK)?;
            Ok(connection)
        }
        result => result,
    }
}

/// What a connection has said so far.
enum Heard {
    Nothing,
    Start(Outcome, Option<OwnedFd>),
    NoStart,
}

/// Reads, without waiting, what came over a connection. Nothing that is wrong with it is init's end.
fn hear(connection: BorrowedFd<'_>, key: &str) -> Result<Heard> {
    let (mut fds, mut said) = (Vec::new(), [0u8; 64]);
    let length = match recv_packet(connection, &mut said, &mut fds) {
        Err(error) if error.is(Errno::AGAIN) => return Ok(Heard::Nothing),
        Err(_) => return Ok(Heard::NoStart),
        Ok(length) => length,
    };
    let mut fds = fds.into_iter();
    // A start that died before it said anything is no start.
    let Some(page) = fds.next() else { return Ok(Heard::NoStart) };
    let page = if said[..length] == *key.as_bytes() {
        Outcome::of(page).err_at(Step::Sync, "mmap", || "share a page with start")
    } else {
        Err(Error::status("init starts for who may read the container's state.json only"))
    };
    match page {
        // A start that gave up while this process was stopped is none either.
        Ok(page) if page.claim() => Ok(Heard::Start(page, fds.next())),
        Ok(_) => Ok(Heard::NoStart),
        Err(error) => {
            // Without a page the connection itself says it.
            let _ = send_packet(connection, &sync::packed(&error, start::LAST_WORDS), &[]);
            Ok(Heard::NoStart)
        }
    }
}

/// The socket on which init waits for `start`.
fn start_socket(dir: &StateDir) -> Result<OwnedFd> {
    let subject = || "make the start socket";
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).err_at(
        Step::State,
        "socket",
        subject,
    )?;
    // The file gets the mode that the socket has before it is bound.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).err_at(Step::State, "fchmod", subject)?;
    let address = SocketAddrUnix::new(dir.socket_path()).err_at(Step::State, "bind", subject)?;
    rustix::net::bind(&socket, &address).err_at(Step::State, "bind", subject)?;
    rustix::net::listen(&socket, 8).err_at(Step::State, "listen", subject)?;
    Ok(socket)
}

/// Descriptors that a socket-activated caller passes on count only if they are meant for this process.
fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    match number("LISTEN_PID") == Some(std::process::id()) {
        // A number that is too large is not left out: it asks for descriptors that are not there, and create says so.
        true => number("LISTEN_FDS").unwrap_or(0).min(MAX_PRESERVED_FDS),
        false => 0,
    }
}

/// Hooks and agents get the bundle's path as JSON, whose text could only name another directory.
fn check_bundle(plan: &Plan, bundle: &Path) -> Result<()> {
    let hooks = &plan.hooks;
    let all = [&hooks.prestart, &hooks.create_runtime, &hooks.create_container, &hooks.start_container];
    let told = all.into_iter().chain([&hooks.poststart, &hooks.poststop]).any(|hooks| !hooks.is_empty())
        || plan.seccomp.as_ref().is_some_and(|filter| filter.notify.is_some());
    if told && bundle.to_str().is_none() {
        let problem = format!("the bundle's path {bundle:?} is no UTF-8");
        return Err(Error::usage(problem).hint("hooks and seccomp agents get it as JSON, which has no such text"));
    }
    Ok(())
}

/// The root file system must be a directory: told before anything is touched, in the words of the config.
fn check_rootfs(plan: &Plan) -> Result<()> {
    let subject = || format!("use {} as the root file system (/root/path)", show(&plan.rootfs.path));
    let stat = rustix::fs::stat(&plan.rootfs.path).err_at(Step::Mount, "stat", subject)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory {
        return Err(Error::call(Step::Mount, "stat", Errno::NOTDIR, subject()));
    }
    Ok(())
}

/// The next point that init says; its own error, or how it died, if it says none, or why it never will.
fn expect(channel: &Channel, undo: &Undo<'_>) -> Result<(Sync, Vec<OwnedFd>)> {
    loop {
        match channel.recv() {
            Ok(Some(point)) => return Ok(point),
            Ok(None) => return Err(undo.how_init_died()),
            // Hooks and mounts may take their time.
            Err(error) if sync::timed_out(&error) => undo.why_init_hangs().map_or(Ok(()), Err)?,
            Err(error) => return Err(undo.cgroup().explain(error, false)),
        }
    }
}
