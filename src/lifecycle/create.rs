//! `create`: the two columns. Every handover between setup and init is in this file, in this order.
//!
//! ```text
//!   setup (host, parent)                               init (pid 1 of the container)
//!   1 lock id, state directory with intent, start socket, socketpair
//!   2 cgroup: create
//!   3 open what is joined, join what setup's own user namespace owns; open what only the host sees
//!   4 spawn: clone3(USER|PID, INTO_CGROUP, PIDFD); back ────┐
//!   5 v1 device rules; join cgroup if 4 could not; uid/gid maps; oom_score_adj, io priority, raised limits by pid
//!   6 ── Sync::Mapped ────────────────────────────────────► 7 become root; join what the container's user namespace owns;
//!                                                             unshare(rest, cgroup too); time offsets; not dumpable
//!   9 limits, scheduler; clone the sources init   ◄── Sync::NamespacesReady ── 8
//!     cannot reach
//!  10 ── Sync::HostReady (fds) ───────────────────────────► 11 own procfs; mounts, devices (root not yet entered)
//!  13 hooks prestart, createRuntime              ◄── Sync::RootfsReady ────── 12
//!  14 ── Sync::HooksDone ─────────────────────────────────► 15 createContainer hooks; masked, ro; pivot_root; console; sysctl
//!                                                           16 label, stdio owner, bounding set, user, final caps
//!                                                              (noNewPrivileges false or NOTIFY: Landlock, seccomp here)
//!  18 state "created", pid file                  ◄── Sync::Ready ──────────── 17
//!  19 ── Sync::Created ─► exit 0                            20 wait for start, and only now let go of setup
//!     ------------- `hull start` connects -------------
//!     poststart hooks, only once the program runs           21 startContainer hooks; rlimits; fds; Landlock; seccomp; execve
//! ```
//!
//! A sync point that a plan does not need ([`crate::plan::SyncPoints`]) is waited for by neither side.

mod undo;

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use undo::Undo;

use super::foreground::Stdio;
use super::process::Process;
use super::spawn::spawn;
use super::state::{Intent, NOTIFY_DIRECTORY, Stage, State, StateDir, Status};
use super::sync::{self, Channel, Sync, pair, recv_packet, send_packet};
use super::{CreateOptions, Globals, engine, sdnotify, start};
use crate::cgroup::{self, Handle};
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::host::HostFacts;
use crate::plan::landlock::comes_early;
use crate::plan::namespaces::{Kind, Spawn};
use crate::plan::{Options, Plan};
use crate::spec::load::{self, Text};
use crate::steps::masked::Masks;
use crate::steps::mounts::{Given, Source};
use crate::steps::namespaces::Opened;
use crate::steps::netdev::NetDevices;
use crate::steps::path::Root;
use crate::steps::{self, hooks, intel_rdt, procfs::ProcFs};
use crate::sys::clone::{Cloned, clone3, execve, exit_now};
use crate::sys::shared::SharedPage;
use crate::trace::{self, Side};

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
    forgiving: bool,
}

/// Reads the bundle and makes the plan; all errors of the config end here.
pub fn prepare(globals: &Globals, options: &CreateOptions, detached: bool) -> Result<Prepared> {
    if let Some(path) = &globals.trace {
        trace::open(path, Side::Setup)?;
    }
    trace::step("0 read config.json, make the plan");
    // What the caller left open stays out of the container, its hooks and its namespaces.
    let listen_fds = listen_fds();
    let preserve_fds = options.preserve_fds.saturating_add(listen_fds);
    steps::process::check_preserved(preserve_fds)?;
    crate::sys::process::cloexec_from(3).err_at(
        Step::Process,
        "close_range",
        || "keep the caller's descriptors out of the container",
    )?;

    let default = options.bundle.join("config.json");
    let text = load::read(options.config.as_deref().unwrap_or(&default))?;
    let (plan, last_cap, forgiving) = {
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
        };
        let plan = Plan::new(&spec, &facts, &plan_options)?;
        for note in unknown.iter().map(ToString::to_string).chain(plan.notes.iter().cloned()) {
            crate::log::warn(&note);
        }
        (plan, facts.last_cap, globals.rootless.unwrap_or_else(|| facts.rootless()))
    };
    check_rootfs(&plan)?;
    Ok(Prepared { text, plan, last_cap, forgiving })
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

    trace::step("1 state directory, start socket, socketpair");
    options.console_socket.as_deref().map_or(Ok(()), engine::check_console)?;
    let dir = StateDir::create(&globals.root, &plan.id)?;
    let mut undo = Undo::new(dir);
    let mut state = State::creating(&plan.id, intent(plan))?;
    undo.dir().store(&state)?;
    if plan.notify {
        undo.dir().make_notify()?;
    }
    let listener = start_socket(undo.dir())?;
    let (channel, init_channel) = pair()?;

    trace::step("2 create the cgroup");
    Handle::create(&plan.cgroup, &mut undo.cgroup)?;
    if let Some(rdt) = &plan.intel_rdt {
        intel_rdt::create(rdt)?;
        undo.rdt.clone_from(&state.rdt);
    }

    if plan.rootfs.on_host {
        trace::step("3 the root file system's mount on the host");
        steps::rootfs::attach_on_host(&plan.rootfs, |id| {
            state.host_root = Some(id);
            undo.host_root = Some((&plan.rootfs.path, id));
            undo.dir().store(&state)
        })?;
    }

    trace::step("3 open what is joined and what only the host sees");
    let joins = steps::namespaces::open_joins(&plan.namespaces)?;
    let host_files = HostFiles::open(plan)?;
    let back = steps::namespaces::join_for_clone(&joins)?;

    trace::step("4 clone init");
    let (cloned, cloned_into) = clone_init(plan, &joins, undo.cgroup().clone_into())?;
    let (pid, pidfd) = match cloned {
        Cloned::Child => {
            // The copy of setup's guards must undo nothing, and its copy of the lock must not outlive setup.
            undo.dir.take();
            std::mem::forget(undo);
            drop(channel);
            init(prepared, InitEnds { channel: init_channel, listener, joins, host_files, stdio })
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(init_channel);
    channel.set_patience(PATIENCE)?;
    drop(stdio);
    undo.init = Some(pid);
    let init = undo.child.insert(pidfd);
    back.go()?;
    state.init = Some(Process::of(pid, init.as_fd())?);

    trace::step("5 v1 device rules, cgroup membership, id maps, attributes by pid");
    let cgroup = undo.cgroup.as_mut().expect("the cgroup is made before the clone");
    cgroup.set_v1_devices(&plan.cgroup)?;
    cgroup.join(&plan.cgroup, pid, cloned_into)?;
    state.rdt.as_ref().map_or(Ok(()), |rdt| rdt.join(pid))?;
    if let Some(maps) = &plan.idmaps {
        steps::idmap::write(maps, pid)?;
    }
    attributes_by_pid(prepared, pid)?;
    if plan.sync.mapped {
        channel.send(&Sync::Mapped(pid), &[]).map_err(|e| channel.reason_of(e, || undo.how_init_died()))?;
    }

    // init mounts meanwhile; all limits hold before Ready is answered. It may have failed at that, too, and then systemd
    // takes the unit's cgroup away.
    trace::step("9 limits and device rules, the copy of config.json");
    undo.cgroup().apply(&plan.cgroup).map_err(|error| undo.first_reason(&channel, error))?;
    if let Some(scheduler) = plan.process.scheduler.as_ref().filter(|scheduler| !scheduler.is_deadline()) {
        // After the limits: a v1 cgroup has no real-time to give before it is told so.
        steps::process::set_scheduler(pid, scheduler).map_err(|error| undo.first_reason(&channel, error))?;
    }
    undo.dir().store_config(&prepared.text)?;
    if plan.sync.namespaces_ready {
        trace::step("9 wait for the namespaces");
        let Sync::NamespacesReady(unreachable) = expect(&channel, &undo)?.0 else { return Err(sync::out_of_order()) };
        if !plan.net_devices.is_empty() {
            trace::step("9 move the network devices");
            let init = undo.child.as_ref().expect("init was cloned");
            undo.net_devices.insert(NetDevices::open(init.as_fd())?).move_all(&plan.net_devices)?;
        }
        let sources = clone_sources(plan, &undo, &unreachable)?;
        let fds: Vec<_> = sources.iter().map(AsFd::as_fd).collect();
        trace::step("10 hand over the sources that init cannot reach");
        channel.send(&Sync::HostReady, &fds).map_err(|e| channel.reason_of(e, || undo.how_init_died()))?;
    }

    if plan.sync.hooks {
        trace::step("13 wait for the root file system");
        let Sync::RootfsReady = expect(&channel, &undo)?.0 else { return Err(sync::out_of_order()) };
        trace::step("13 hooks prestart and createRuntime");
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

    trace::step("18 wait for init to be ready");
    let (Sync::Ready, mut fds) = expect(&channel, &undo)? else { return Err(sync::out_of_order()) };
    trace::step("18 hand on the terminal, write the state and the pid file");
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

    trace::step("19 let init go");
    channel.send(&Sync::Created, &[]).map_err(|e| channel.reason_of(e, || undo.how_init_died()))?;
    let (dir, pidfd) = undo.defuse();
    Ok(Created { init: state.init.expect("init was cloned"), pidfd, terminal, dir, state })
}

/// What init takes over from setup's memory and descriptors.
struct InitEnds<'p> {
    channel: Channel,
    listener: OwnedFd,
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
    Start(SharedPage, OwnedFd),
    Nobody,
}

impl Listener {
    /// The execve comes next.
    fn executing(&self) {
        if let Listener::Start(page, _) = self {
            page.executing();
        }
    }
}

/// The right column, to its end: it becomes the program, or says why not and leaves.
fn init(prepared: &Prepared, ends: InitEnds<'_>) -> ! {
    let InitEnds { channel, listener, joins, host_files, stdio } = ends;
    let mut who = Listener::Setup(channel);
    let error = match init_steps(prepared, &mut who, &listener, joins, host_files, stdio) {
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
    listener: &OwnedFd,
    joins: Vec<Opened<'_>>,
    host_files: HostFiles,
    stdio: Stdio,
) -> Result<Infallible> {
    let plan = &prepared.plan;
    let process = &plan.process;
    let Listener::Setup(channel) = who else { return Err(sync::out_of_order()) };

    // ── Here: setup's ids and capabilities, or all capabilities of a user namespace without ids; the host's mounts.
    trace::become_side(Side::Init);
    trace::step("7 wait for the maps and the cgroup");
    steps::process::die_with_parent(true)?;
    close_all_but(plan, channel, listener, &joins, &host_files, &stdio)?;
    let mut host_pid = 0;
    if plan.sync.mapped {
        let Some((Sync::Mapped(pid), _)) = channel.recv()? else { return Err(sync::setup_gone()) };
        host_pid = pid;
    }
    trace::step("7 namespaces");
    let exe = host_files.exe;
    rustix::process::setsid().err_at(Step::Process, "setsid", || "begin a session")?;
    if plan.namespaces.spawn == Spawn::Straight
        && let Some(user) = joins.iter().find(|opened| opened.join.kind == Kind::User)
    {
        // Before it enters: the processes that are there have capabilities over whatever comes in.
        steps::process::not_dumpable()?;
        steps::namespaces::join(user)?;
        steps::process::not_dumpable()?;
    }
    if let Some((uid, gid)) = plan.root_ids() {
        let setgroups = plan.idmaps.as_ref().is_none_or(|maps| maps.setgroups()) && !process.user.keep_groups;
        steps::process::become_root(uid, gid, setgroups)?;
        steps::process::die_with_parent(true)?;
        if plan.namespaces.joins(Kind::User) {
            steps::process::not_dumpable()?;
        }
    }
    for opened in joins.iter().filter(|opened| !opened.by_setup && opened.join.kind != Kind::User) {
        steps::namespaces::join(opened)?;
    }
    drop(joins);
    // ── Here: root of the container's user namespace (the host's where it has none of its own); the host's mounts.
    steps::namespaces::unshare(plan.namespaces.unshare)?;
    if !plan.namespaces.time_offsets.is_empty() {
        steps::process::dumpable()?;
        steps::namespaces::set_time_offsets(&plan.namespaces.time_offsets)?;
    }
    steps::process::not_dumpable()?;
    trace::step("7 the executable");
    steps::exe::protect(exe)?;
    trace::step("7 loopback, names");
    if plan.namespaces.makes(Kind::Network) {
        steps::namespaces::loopback_up()?;
    }
    steps::namespaces::set_names(plan.hostname.as_deref(), plan.domainname.as_deref())?;
    let mut given = Given::default();
    if plan.sync.namespaces_ready {
        let unreachable = steps::mounts::unreachable(&plan.rootfs, &plan.mounts);
        channel.send(&Sync::NamespacesReady(unreachable.clone()), &[])?;
        trace::step("11 wait for the host's part");
        let Some((Sync::HostReady, fds)) = channel.recv()? else { return Err(sync::setup_gone()) };
        given = unreachable.into_iter().zip(fds).collect();
    }

    trace::step("11 root file system, mounts, devices");
    let proc = plan.needs_procfs().then(ProcFs::new).transpose()?;
    let root_fd = steps::rootfs::attach(&plan.rootfs, given.remove(&Source::Rootfs))?;
    let root = Root::new(&root_fd);
    let deferred = steps::mounts::mount_all(root, &plan.mounts, &mut given)?;
    steps::devices::make_all(root, &plan.devices)?;
    let masks = Masks::prepare(&plan.rootfs)?;

    if plan.sync.hooks {
        trace::step("12 wait for the hooks");
        channel.send(&Sync::RootfsReady, &[])?;
        let Some((Sync::HooksDone, _)) = channel.recv()? else { return Err(sync::setup_gone()) };
    }

    trace::step("15 createContainer hooks, pivot_root");
    let state = plan.hooks.in_init().then(|| init_state(plan, host_pid)).transpose()?;
    // Before the pivot: the files are the host's.
    let output = if plan.hooks.in_init() { hooks::Output::open(&plan.hooks)? } else { hooks::Output::default() };
    if let Some(state) = &state {
        let json = state.to_json(Status::Creating);
        hooks::run_all("createContainer", &plan.hooks.create_container, &json, None, &output)?;
    }
    // After the last hook that may add to the tree.
    trace::step("15 masked and read-only paths");
    masks.apply(root, &plan.rootfs)?;
    steps::masked::make_readonly(root, &plan.rootfs)?;
    steps::rootfs::enter(root.fd, &plan.rootfs)?;
    // ── Here: the container's root and mounts; still every capability.
    trace::step("15 terminal, sysctl, read-only mounts");
    let terminal = process.terminal.then(|| steps::console::open(Some(root), process.console_size)).transpose()?;
    if let Some(proc) = &proc {
        steps::sysctl::set_all(proc, &plan.sysctls)?;
    }
    deferred.finish()?;
    if plan.rootfs.readonly {
        steps::rootfs::set_readonly(root.fd)?;
    }
    steps::rootfs::set_propagation(root.fd, &plan.rootfs)?;
    let mut landlock = plan.landlock.as_ref().map(|rules| steps::landlock::ruleset(root, rules)).transpose()?;
    steps::tree::stage::close();
    drop(root_fd);

    trace::step("16 labels, ids, capabilities");
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
    steps::process::own_null()?;
    let env = steps::process::environment(process);
    steps::process::chown_stdio(process.user.uid, process.terminal)?;
    steps::process::make_and_change_directory(&process.cwd)?;
    if !plan.sync.mapped {
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
    trace::step("17 ready");
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
    let start = wait_for_start(listener)?;

    // ── `hull start` is there, and wants to know what becomes of the execve.
    *who = Listener::Start(start.outcome, start.connection);
    if let Some(fd) = start.trace {
        trace::adopt(fd, Side::Init);
    }
    trace::step("21 startContainer hooks, limits, Landlock, seccomp, execve");
    if let Some(state) = &state {
        let env: Vec<String> = env.iter().map(|variable| variable.to_string_lossy().into_owned()).collect();
        let json = state.to_json(Status::Created);
        hooks::run_all("startContainer", &plan.hooks.start_container, &json, Some(&env), &output)?;
    }
    match steps::process::check_directory(&process.cwd) {
        // The filter denies getcwd: it was asked, as late as could be, before that came into force.
        Err(error) if early.is_some() && (error.is(Errno::PERM) || error.is(Errno::NOSYS)) => {}
        checked => checked?,
    }
    let argv: Vec<_> = process.args.iter().map(AsRef::as_ref).collect();
    let envp: Vec<_> = env.iter().map(AsRef::as_ref).collect();
    trace::close(false);
    steps::process::default_signals()?;
    if early.is_none() {
        steps::process::cloexec_all()?;
    }
    steps::process::keep(plan.preserve_fds)?;
    steps::process::set_rlimits(0, &process.rlimits)?;
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
        Some(filter) if !filter.loads_early(process.no_new_privileges) => {
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
fn clone_init(plan: &Plan, joins: &[Opened<'_>], cgroup: Option<BorrowedFd<'_>>) -> Result<(Cloned, bool)> {
    match plan.namespaces.spawn {
        Spawn::ThroughUserns => spawn_through_userns(plan, joins).map(|cloned| (cloned, false)),
        Spawn::Straight => spawn(plan.namespaces.clone, cgroup, "clone init"),
    }
}

/// The exception to "one clone": a hop joins the user namespace, makes the pid namespace there, and clones init as its
/// own sibling (CLONE_PARENT). It says init's number through a pipe and ends.
fn spawn_through_userns(plan: &Plan, joins: &[Opened<'_>]) -> Result<Cloned> {
    let (ours, hops) = pair()?;
    let hop =
        clone3(0, None, libc::SIGCHLD).err_at(Step::Spawn, "clone3", || "clone the hop into the user namespace")?;
    let Cloned::Parent { pidfd: hop_fd, .. } = hop else {
        drop(ours);
        let result = (|| {
            let user = joins.iter().find(|opened| opened.join.kind == Kind::User).expect("a user namespace is joined");
            steps::namespaces::join(user)?;
            steps::namespaces::unshare(plan.namespaces.clone & Kind::Pid.flag())?;
            clone3(libc::CLONE_PARENT as u64, None, 0).err_at(Step::Spawn, "clone3", || "clone init")
        })();
        match result {
            Ok(Cloned::Child) => return Ok(Cloned::Child),
            Ok(Cloned::Parent { pid, pidfd }) => {
                let _ = hops.send(&Sync::Mapped(pid), &[pidfd.as_fd()]);
                exit_now(0)
            }
            Err(error) => {
                let _ = hops.send(&Sync::Failed(Box::new(error)), &[]);
                exit_now(1)
            }
        }
    };
    drop(hops);
    let answer = ours.recv();
    let _ = waitid(WaitId::PidFd(hop_fd.as_fd()), WaitIdOptions::EXITED);
    match answer? {
        Some((Sync::Mapped(pid), mut fds)) if !fds.is_empty() => Ok(Cloned::Parent { pid, pidfd: fds.remove(0) }),
        _ => Err(Error::host(Step::Spawn, "clone init: the hop into the user namespace died")),
    }
}

/// What has to be opened while the host's files can be seen, and before init's mount namespace is made.
struct HostFiles {
    exe: steps::exe::View,
}

impl HostFiles {
    fn open(plan: &Plan) -> Result<HostFiles> {
        let exe = steps::exe::open_view()?;
        if plan.namespaces.makes(Kind::Pid) {
            return Ok(HostFiles { exe });
        }
        // Others are in that pid namespace already: they could open init's executable in its first moments.
        Ok(HostFiles { exe: steps::exe::protect_early(exe)? })
    }
}

/// What a parent may set on init that init, in a user namespace or with its program's capabilities, may not.
fn attributes_by_pid(prepared: &Prepared, pid: i32) -> Result<()> {
    let process = &prepared.plan.process;
    if let Some(value) = process.oom_score_adj
        && !steps::process::set_oom_score_adj(pid, value, prepared.forgiving)?
    {
        crate::log::warn("config.json: /process/oomScoreAdj: not lowered, since hull may not (rootless)");
    }
    if let Some(priority) = process.io_priority {
        steps::process::set_io_priority(pid, priority)?;
    }
    // init waits for Mapped, or it does this itself: another user's limits could not be read.
    if prepared.plan.sync.mapped {
        steps::process::raise_rlimits(pid, &process.rlimits)?;
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
fn init_state(plan: &Plan, host_pid: i32) -> Result<State> {
    let mut state = State::creating(&plan.id, intent(plan))?;
    state.init = Some(Process { pid: host_pid, start_time: 0, pidfd_inode: None });
    Ok(state)
}

/// What the first state says.
pub fn intent(plan: &Plan) -> Intent {
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

/// What `start` hands to init.
struct Start {
    outcome: SharedPage,
    trace: Option<OwnedFd>,
    /// Close-on-exec: its end tells `start` that the execve is done, one way or the other.
    connection: OwnedFd,
}

/// Waits for `start`.
fn wait_for_start(listener: &OwnedFd) -> Result<Start> {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Error::call(Step::Sync, "poll", errno, "wait for start")),
        }
        let connection = match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(connection) => connection,
            Err(Errno::INTR | Errno::AGAIN | Errno::CONNABORTED) => continue,
            Err(errno) => return Err(Error::call(Step::Sync, "accept4", errno, "wait for start")),
        };
        let (mut fds, mut byte) = (Vec::new(), [0u8; 8]);
        let outcome = recv_packet(connection.as_fd(), &mut byte, &mut fds).and_then(|_| {
            // A start that died before it said anything is no start.
            let Some(page) = fds.first() else { return Ok(None) };
            SharedPage::map(page.as_fd()).err_at(Step::Sync, "mmap", || "share a page with start").map(Some)
        });
        match outcome {
            // A start that gave up while this process was stopped is none either.
            Ok(Some(outcome)) if outcome.claim() => {
                return Ok(Start { outcome, trace: fds.drain(1..).next(), connection });
            }
            Ok(_) => {}
            Err(error) => {
                // Without a page the connection itself says it.
                let _ = send_packet(connection.as_fd(), &sync::packed(&error, start::LAST_WORDS), &[]);
                return Err(error);
            }
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
    let address = SocketAddrUnix::new(dir.socket_path()).err_at(Step::State, "bind", subject)?;
    rustix::net::bind(&socket, &address).err_at(Step::State, "bind", subject)?;
    rustix::net::listen(&socket, 8).err_at(Step::State, "listen", subject)?;
    Ok(socket)
}

/// Descriptors that a socket-activated caller passes on count only if they are meant for this process.
fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") == Some(std::process::id()) { number("LISTEN_FDS").unwrap_or(0) } else { 0 }
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
