//! `exec`: a process joins a container. The two columns; every handover between setup and the joining process is in this
//! file, in this order.
//!
//! ```text
//!   setup (host, parent)                               joiner (becomes the program)
//!   1 state, init's pidfd, plan; sockets, signals
//!   2 cgroup: open; what the joiner inherits: first CPUs, oom_score_adj
//!   3 run from a read-only view, not dumpable; join the pid namespace, without privilege the user namespace too
//!   4 spawn: clone3(INTO_CGROUP, PIDFD), without a user
//!     namespace through a hop that does 7 and sheds ────┐
//!   5 join cgroup if 4 could not; scheduler, io priority, raised limits by pid
//!   6 ── Sync::Mapped (if 5 did anything) ────────────► 7 join the rest: user, mount, network, ...; become root there
//!                                                         8 label, terminal, stdio owner, bounding set, user, final caps
//!                                                           (noNewPrivileges false or NOTIFY: seccomp here)
//!  10 terminal, seccomp agent, SCHED_DEADLINE ◄── Sync::Ready ── 9 (both only if there is one of them, or a wait point)
//!     with --wait-fifo 14, and wait for the word
//!  11 ── Sync::Created ──────────────────────────────► 12 rlimits; fds; seccomp; execve
//!  13 the end of the channel: the program runs, or the page says why not
//!  14 pid file, pidfd; in the foreground wait for the end
//! ```
//!
//! The joiner is in the container's pid namespace from its first instruction on, so what it is cloned from is already what
//! may be seen of it: not dumpable, and run from a view that nothing can write to; where that does not shield it, for want of
//! a user namespace, inside of the container, without setup's capabilities and descriptors. A paused container gives no answer: with
//! --ignore-paused the joiner is left in it, and runs when it is resumed.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::death;
use super::foreground::{Foreground, Stdio};
use super::process::{Held, Process, closed_by_execve, is_stopped};
use super::state::{State, StateDir, Status};
use super::sync::{self, Channel, Sync, pair};
use super::{ExecOptions, Globals, engine, journal, spawn, waitpoint};
use crate::cgroup::{self, Handle, Places};
use crate::error::{ErrAt, Error, Result, Step};
use crate::host::HostFacts;
use crate::plan::exec::{Container, Exec, from_file, from_options};
use crate::plan::landlock::comes_early;
use crate::plan::namespaces::Kind;
use crate::plan::order::{ExecPoint, Side};
use crate::spec::load;
use crate::steps::exe::View;
use crate::steps::process::OomScore;
use crate::steps::{self, hooks, procfs::ProcFs};
use crate::sys::clone::{Cloned, execve, exit_now};
use crate::sys::shared::SharedPage;
use crate::trace;

/// So many looks in a row, one each second, may find the joining process stopped by a signal.
const STOPPED: u32 = 10;

/// Runs a program in a container; in the foreground waits for it and gives its exit status.
pub fn exec(globals: &Globals, options: &ExecOptions) -> Result<i32> {
    let result = prepare(globals, options).and_then(|(prepared, init)| setup(&prepared, init, globals, options));
    trace::close(true);
    result.map_err(|error| steps::exe::again_from_copy(error, options.asked.preserve_fds))
}

/// Everything that is known before anything is touched.
struct Prepared {
    state: State,
    init: Process,
    plan: Exec,
    last_cap: u32,
    ignored_signals: u64,
    /// init runs its program already.
    executed: bool,
    frozen: bool,
    forgiving: bool,
    /// Who is in the container's pid namespace may have CAP_SYS_PTRACE.
    may_trace: bool,
    /// The program's root, where it is not the container's.
    tools: Option<PathBuf>,
}

/// Looks at the container and makes the plan; gives init, held, beside it.
fn prepare(globals: &Globals, options: &ExecOptions) -> Result<(Prepared, Held)> {
    if let Some(path) = &globals.trace {
        trace::open(path, Side::Setup)?;
    }
    trace::step(ExecPoint::Plan);
    if options.tools.is_some() && (options.process.is_some() || options.asked.cwd.is_some()) {
        let what = "--tools: the program begins in the container's root: it goes with neither --cwd nor --process";
        return Err(Error::usage(what));
    }
    // What the caller left open stays out of the container.
    steps::process::check_preserved(options.asked.preserve_fds)?;
    crate::sys::descriptors::cloexec_from(3).err_at(
        Step::Process,
        "close_range",
        || "keep the caller's descriptors out of the container",
    )?;
    let dir = StateDir::open(&globals.root, &options.id)?;
    let (state, status) = dir.look()?.ok_or_else(|| refused(Status::Creating))?;
    match status {
        Status::Created | Status::Running => {}
        Status::Paused if options.ignore_paused => {}
        status => return Err(refused(status)),
    }
    let init = state.init.ok_or_else(|| Error::bug(Step::State, "a created container without an init"))?;
    let held = init.hold()?.ok_or_else(|| refused(Status::Stopped))?;

    let text = dir.load_config()?;
    if options.process.as_ref().is_some_and(|path| !path.is_file()) {
        // What a pipe gives can be read once.
        steps::exe::check_early()?;
    }
    let file = match &options.process {
        Some(path) => {
            Some((path.display().to_string(), load::read_given(path).map_err(|e| Error { hint: None, ..e })?))
        }
        None => None,
    };
    let (mut spec, _) = load::parse(&text)?;
    if state.userns_self {
        spec = crate::plan::idmap::with_own_namespace(&spec, &HostFacts::of_process(&spec)?)?;
    }
    let container = spec.process.take().unwrap_or_default();
    let traces = |process: &crate::spec::Process<'_>| {
        process.capabilities.as_ref().is_none_or(|sets| {
            [&sets.bounding, &sets.permitted, &sets.inheritable]
                .into_iter()
                .any(|set| set.iter().any(|name| name.eq_ignore_ascii_case("CAP_SYS_PTRACE")))
        })
    };
    let mut may_trace = traces(&container);
    spec.process = Some(match &file {
        None => from_options(&container, &options.asked)?,
        Some((name, text)) => {
            let (process, unknown) = load::parse_process(text, name)?;
            unknown.into_iter().for_each(crate::log::warn);
            from_file(&container, process)
        }
    });
    may_trace |= spec.process.as_ref().is_some_and(traces);
    let facts = HostFacts::of_process(&spec)?;
    let own_user = spec.linux.iter().flat_map(|linux| &linux.namespaces).any(|n| n.kind.as_deref() == Some("user"));
    let container = Container {
        id: &options.id,
        setgroups: !own_user || look(&held, steps::namespaces::setgroups_allowed)?,
        frozen: status == Status::Paused,
        no_new_keyring: state.no_new_keyring,
    };
    let plan = Exec::new(&spec, file.as_ref().map(|(name, _)| name.as_str()), &facts, container, &options.asked)?;
    options.tools.as_ref().map_or(Ok(()), |_| takes_tools(&plan))?;
    crate::log::warn_all(&plan.notes);
    plan.asides.iter().for_each(crate::log::debug);
    let plan_by_path = plan.by_path;
    let prepared = Prepared {
        init,
        plan,
        last_cap: facts.last_cap,
        ignored_signals: facts.ignored_signals,
        executed: status != Status::Created && held.has_executed()? != Some(false),
        frozen: status == Status::Paused,
        may_trace: may_trace || plan_by_path & Kind::Pid.flag() != 0,
        forgiving: globals.rootless.unwrap_or_else(|| facts.rootless()),
        tools: options.tools.clone(),
        state,
    };
    Ok((prepared, held))
}

/// Whether the container can have a program beside it with a root of its own.
fn takes_tools(plan: &Exec) -> Result<()> {
    let refuse = |what: &str| Err(Error::status(format!("--tools: {what}")));
    if !plan.joins(Kind::Mount) {
        return refuse("the container has no mount namespace of its own, where the program's root could be");
    }
    if plan.landlock.is_some() {
        return refuse("the container is held to paths by Landlock, which another root does not have");
    }
    Ok(())
}

/// What init's number alone leads to; a container that has stopped when it is no more init's.
fn look<T>(init: &Held, look: impl FnOnce(i32) -> Result<T>) -> Result<T> {
    init.look(look)?.ok_or_else(|| refused(Status::Stopped))
}

/// The words of runc, and for engines those that they match.
fn refused(status: Status) -> Error {
    match status {
        Status::Paused => Error::status("cannot exec in a paused container (use --ignore-paused to override)"),
        Status::Creating => Error::status("cannot exec in a container that is still being created"),
        _ => Error::status("cannot exec in a stopped container: container not running"),
    }
}

/// The left column. Here: the caller's privilege and the host's namespaces; from 3 on new children are the container's,
/// and without privilege setup itself is in its user namespace, with the host's files as before.
fn setup(prepared: &Prepared, init: Held, globals: &Globals, options: &ExecOptions) -> Result<i32> {
    let plan = &prepared.plan;

    trace::step(ExecPoint::Sockets);
    options.console_socket.as_deref().map_or(Ok(()), engine::check_console)?;
    options.wait_fifo.as_deref().map_or(Ok(()), waitpoint::check)?;
    let (mut foreground, stdio) = if options.asked.detach {
        (None, Stdio::default())
    } else {
        let (foreground, stdio) = Foreground::prepare(plan.process.terminal, true)?;
        (Some(foreground), stdio)
    };
    let (channel, joiner_channel) = pair()?;
    let page = SharedPage::inherited().err_at(Step::Sync, "mmap", || "share a page with the joining process")?;

    trace::step(ExecPoint::Cgroup);
    let cgroups = Places::open(&prepared.state.cgroup, &plan.cgroup)?;
    let joins = Joins::open(prepared, init)?;
    let privileged = prepared.tools.as_deref().filter(|_| joins.by_setup & Kind::User.flag() == 0);
    let tools = privileged.map(steps::tools::open).transpose()?;
    if let Some(cpus) = &plan.process.exec_affinity.initial {
        steps::process::set_affinity(cpus)?;
    }
    let score =
        plan.process.oom_score_adj.map(|value| OomScore::lend(value, prepared.forgiving)).transpose()?.flatten();

    trace::step(ExecPoint::View);
    let (view, view_mount) = steps::exe::open_view()?;
    let view = steps::exe::protect_early(view)?;
    steps::process::not_dumpable()?;
    steps::namespaces::join_init(joins.init.handle().as_fd(), joins.by_setup)
        .map_err(|error| prepared.explain(error))?;
    steps::process::not_dumpable()?;

    trace::step(ExecPoint::Clone);
    let mut ends = Ends { channel: joiner_channel, page, joins: Some(joins), view, stdio, tools, hopped: None };
    let (cloned, cloned_into, cgroup_view) = clone_joiner(prepared, &cgroups, &mut ends)?;
    let waits = cgroups.joined_by_write(cloned_into) || prepared.sets_by_pid();
    let (pid, pidfd) = match cloned {
        Cloned::Child => joiner(prepared, ends, waits),
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    let Ends { channel: joiner_channel, page, joins: Some(joins), stdio, tools, .. } = ends else {
        return Err(Error::bug(Step::Spawn, "setup has lost what leads to the container"));
    };
    drop((joiner_channel, stdio, tools));
    let child = Child { pid, pidfd: Some(pidfd) };
    if let Some(score) = score {
        score.take_back();
    }

    if waits {
        trace::step(ExecPoint::Attributes);
        look(&joins.init, |init| cgroups.join(pid, cloned_into, init)).map_err(|error| prepared.explain(error))?;
        prepared.state.rdt.as_ref().map_or(Ok(()), |rdt| rdt.join(pid))?;
        attributes_by_pid(prepared, pid)?;
        trace::step(ExecPoint::Mapped);
        channel.send(&Sync::Mapped(pid), &[]).map_err(|e| channel.reason_of(e, || prepared.how_it_died(&child)))?;
    }
    drop((cgroups, cgroup_view, view_mount));

    let mut later = Vec::new();
    if plan.handover {
        trace::step(ExecPoint::WaitForReady);
        let Some((Sync::Ready, mut fds)) = prepared.recv(&channel, &child)? else {
            return Err(prepared.how_it_died(&child));
        };
        let terminal = plan.process.terminal.then(|| fds.remove(0));
        if let (Some(path), Some(master)) = (&options.console_socket, &terminal) {
            // Only now: hull may have run itself again until here, and an engine takes one connection.
            engine::send_terminal(&engine::connect_console(path)?, master)?;
        }
        if let (Some(foreground), Some(master)) = (&mut foreground, terminal) {
            foreground.adopt(master)?;
        }
        if let Some(seccomp) = plan.seccomp.as_ref().filter(|filter| filter.notify.is_some()) {
            super::notify::hand_over(seccomp, &prepared.state, Status::Running, pid, &fds)?;
        }
        if let Some(scheduler) = plan.process.scheduler.as_ref().filter(|s| s.is_deadline()) {
            steps::process::set_scheduler(pid, scheduler)?;
        }
        if let Some(path) = &options.wait_fifo {
            trace::step(ExecPoint::WaitPoint);
            report(options, &child)?;
            let signals = foreground.as_ref().map(Foreground::signals);
            later = waitpoint::wait(path, child.pidfd(), signals)
                .and_then(|told| told.ok_or_else(|| prepared.how_it_died(&child)))
                .inspect_err(|_| not_run(options))?;
        }
        trace::step(ExecPoint::Created);
        channel.send(&Sync::Created, &[]).map_err(|e| channel.reason_of(e, || prepared.how_it_died(&child)))?;
    }

    if !prepared.frozen {
        trace::step(ExecPoint::WaitForExecve);
        prepared.outcome(&channel, &page, &child).inspect_err(|_| not_run(options))?;
    }
    later.into_iter().for_each(|signal| drop(crate::sys::signal::pidfd_send(child.pidfd().as_fd(), signal)));
    if options.wait_fifo.is_none() {
        trace::step(ExecPoint::Report);
        report(options, &child)?;
    }
    let Some(foreground) = &mut foreground else {
        child.defuse();
        return Ok(0);
    };
    trace::step(ExecPoint::WaitForEnd);
    // A program that nobody attends to must not stay: it is killed when this fails.
    let process = Process { pid, start_time: 0, pidfd_inode: None };
    let status = foreground.attend(process, child.pidfd())?;
    child.defuse();
    prepared.tell_death(status, foreground.killed_by, pid, globals);
    if prepared.frozen {
        // The execve came late: its error is still the answer.
        channel.recv()?;
        said(&page).map_or(Ok(()), Err)?;
    }
    Ok(status)
}

/// Tells who it is.
fn report(options: &ExecOptions, child: &Child) -> Result<()> {
    if let Some(path) = &options.pidfd_socket {
        engine::send_pidfd(path, "setns", child.pidfd())?;
    }
    options.pid_file.as_ref().map_or(Ok(()), |path| engine::write_pid_file(path, child.pid))
}

/// What was told at the wait point is a process that goes without having run.
fn not_run(options: &ExecOptions) {
    let reported = options.pid_file.as_ref().filter(|_| options.wait_fifo.is_some());
    reported.into_iter().for_each(|path| drop(std::fs::remove_file(path)));
}

/// What the joining process takes over from setup's memory and descriptors.
struct Ends {
    channel: Channel,
    page: SharedPage,
    /// Until it is inside.
    joins: Option<Joins>,
    view: View,
    stdio: Stdio,
    /// The program's root, a copy that is attached nowhere, where setup could make one.
    tools: Option<OwnedFd>,
    /// A hop has gone in before it, and made a null where the container has none.
    hopped: Option<NullMade>,
}

type NullMade = bool;

/// Clones the joining process, through a hop where it is not shielded from who is there; says whether it is in its v2
/// cgroup already. What is given beside it setup closes when it has time.
fn clone_joiner(prepared: &Prepared, cgroups: &Places, ends: &mut Ends) -> Result<(Cloned, bool, Option<OwnedFd>)> {
    if !ends.joins.as_ref().is_some_and(|joins| joins.by_hop) {
        let cloned = spawn::spawn(0, cgroups.clone_into(), "clone the joining process");
        return cloned.map(|(cloned, into)| (cloned, into, None)).map_err(|error| prepared.explain(error));
    }
    // It is open in the joining process for a moment: no way up, and nothing to write to. Where that is refused, a write does it.
    let view = cgroups.clone_into().and_then(|cgroup| steps::namespaces::read_only_directory(cgroup).ok());
    let died = || Error::host(Step::Spawn, "clone the joining process: the hop into the container died");
    let cloned =
        spawn::through_hop("clone the hop into the container", |hops| hop_steps(prepared, ends, hops, view.as_ref()))
            .and_then(|cloned| cloned.ok_or_else(died))
            .map_err(|error| prepared.explain(error))?;
    // In the joining process nothing of the cgroup tree stays open.
    let view = view.filter(|_| !matches!(cloned.0, Cloned::Child));
    Ok((cloned.0, cloned.1, view))
}

/// The hop: in the host's pid namespace, where nobody of the container sees it, it goes in and sheds what the joining process
/// must not have when it can be seen: CAP_SYS_PTRACE of the same user namespace opens it to whoever has that, whatever
/// it is not dumpable for. In the joining process it goes on from the clone.
fn hop_steps(prepared: &Prepared, ends: &mut Ends, hops: &Channel, cgroup: Option<&OwnedFd>) -> Result<(Cloned, bool)> {
    let Some(joins) = ends.joins.take() else { return Err(Error::bug(Step::Spawn, "a hop to nowhere")) };
    steps::process::die_with_parent(true)?;
    let also = [Some(hops.as_fd()), cgroup.map(AsFd::as_fd), ends.tools.as_ref().map(AsFd::as_fd)];
    let also: Vec<_> = also.into_iter().flatten().collect();
    close_all_but(prepared, &ends.channel, &joins, &ends.view, &ends.stdio, &also)?;
    go_in(prepared, joins, &mut ends.view, ends.tools.take())?;
    ends.hopped = Some(steps::process::make_missing_null()?);
    let process = &prepared.plan.process;
    if !prepared.plan.joins(Kind::User) {
        steps::process::raise_rlimits(0, &process.rlimits)?;
    }
    steps::process::drop_bounding(process.capabilities.bounding, prepared.last_cap)?;
    let early = prepared.plan.seccomp.as_ref().filter(|filter| filter.loads_early(process.no_new_privileges));
    let restricts =
        early.is_some() || prepared.plan.landlock.is_some() && comes_early(early, process.no_new_privileges);
    steps::process::shed_capabilities(process.capabilities.bounding, restricts && !process.no_new_privileges)?;
    steps::process::not_dumpable()?;
    // ── Here: the container's namespaces and no descriptor of the host's but what close_all_but left; what may be seen.
    spawn::spawn(libc::CLONE_PARENT as u64, cgroup.map(AsFd::as_fd), "clone the joining process")
}

/// Step 7: into the namespaces, and what takes a /proc or a keyring of the host's to leave behind.
fn go_in(prepared: &Prepared, joins: Joins, view: &mut View, tools: Option<OwnedFd>) -> Result<()> {
    let plan = &prepared.plan;
    // Before the mount namespace: what the container has on /proc is not to be trusted (CVE-2019-16884).
    let proc = plan.needs_procfs().then(ProcFs::new).transpose()?;
    if matches!(view, View::ByInit) {
        steps::namespaces::unshare(Kind::Mount.flag())?;
        steps::exe::protect(std::mem::replace(view, View::Safe))?;
    }
    let tools = match (&prepared.tools, tools) {
        (Some(directory), None) => Some(steps::tools::open_unprivileged(directory)?),
        (_, tools) => tools,
    };
    if let Some(tree) = tools {
        // In front of the user namespace: root of the container owns what is made after it.
        steps::tools::enter(tree, joins.init.handle().as_fd()).map_err(|error| prepared.explain(error))?;
    }
    joins.enter(prepared)?;
    // setns(user) changes the credentials, which makes a process dumpable again where fs.suid_dumpable says so.
    steps::process::not_dumpable()?;
    if let Some((uid, gid)) = plan.root_ids.filter(|_| joins.user) {
        steps::process::become_root(uid, gid, plan.setgroups)?;
        steps::process::not_dumpable()?;
    }
    // Before the first path of the image: what may be directories of the host's must not be open then (CVE-2024-21626).
    drop(joins);
    if let Some(proc) = proc {
        steps::process::set_labels(&proc, &plan.process)?;
    }
    plan.no_new_keyring.then_some(()).map_or_else(|| steps::process::join_keyring(&plan.id), Ok)
}

/// The right column, to its end: it becomes the program, or says why not and leaves.
fn joiner(prepared: &Prepared, ends: Ends, waits: bool) -> ! {
    let Ends { channel, page, joins, view, stdio, tools, hopped } = ends;
    let mut filtered = false;
    let error = match joiner_steps(prepared, &channel, (joins, view, stdio, tools, hopped), waits, &mut filtered) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    if filtered {
        // The filter may forbid sendmsg, but no plain write to memory.
        page.store(&sync::packed(&error, crate::sys::shared::ROOM));
    } else {
        let _ = channel.send(&Sync::Failed(Box::new(error)), &[]);
    }
    exit_now(1)
}

fn joiner_steps(
    prepared: &Prepared,
    channel: &Channel,
    (joins, mut view, stdio, tools, hopped): (Option<Joins>, View, Stdio, Option<OwnedFd>, Option<NullMade>),
    waits: bool,
    filtered: &mut bool,
) -> Result<Infallible> {
    let plan = &prepared.plan;
    let process = &plan.process;

    // ── Here: the container's pid namespace, where it can be seen. Behind a hop what the hop has left; without one,
    // where nobody there can look into it, setup's ids and capabilities and the host's mounts.
    trace::become_side(Side::Joiner);
    trace::step(ExecPoint::WaitForCgroup);
    // In a paused container setup leaves before this line runs.
    let dies_with_setup = !prepared.frozen;
    steps::process::die_with_parent(dies_with_setup)?;
    if let Some(joins) = &joins {
        let also: Vec<_> = tools.iter().map(AsFd::as_fd).collect();
        close_all_but(prepared, channel, joins, &view, &stdio, &also)?;
    }
    if waits {
        let Some((Sync::Mapped(_), _)) = channel.recv()? else { return Err(sync::setup_gone()) };
    }
    trace::step(ExecPoint::Namespaces);
    rustix::process::setsid().err_at(Step::Process, "setsid", || "begin a session")?;
    if let Some(joins) = joins {
        go_in(prepared, joins, &mut view, tools)?;
    }
    if dies_with_setup {
        steps::process::die_with_parent(true)?;
    }

    // ── Here: root of the container's user namespace (the host's where it has none of its own); the container's root.
    match &process.exec_affinity.last {
        Some(cpus) => steps::process::set_affinity(cpus)?,
        None => steps::process::reset_affinity(),
    }
    trace::step(ExecPoint::Stdio);
    if let Some(policy) = &plan.memory_policy {
        steps::process::set_memory_policy(policy)?;
    }
    if let Some(persona) = process.personality {
        steps::process::set_personality(persona)?;
    }
    let terminal = process.terminal.then(|| steps::console::open(None, process.console_size)).transpose()?;
    if let Some(terminal) = &terminal {
        steps::process::take_terminal(terminal.peer.as_fd())?;
    }
    steps::process::replace_stdio(stdio)?;
    // Behind a hop it cannot be made any more: where it was missing the hop has made it.
    if hopped != Some(true) {
        steps::process::own_null(hopped.is_none())?;
    }
    let mut env = steps::process::environment(process);
    env.extend(prepared.where_it_begins());
    steps::process::chown_stdio(process.user.uid, process.terminal)?;
    prepared.change_directory()?;
    trace::step(ExecPoint::Identity);
    if hopped.is_none() && !plan.joins(Kind::User) {
        // Where it does, setup has done it.
        steps::process::raise_rlimits(0, &process.rlimits)?;
    }
    let mut landlock = plan.landlock.as_ref().map(steps::landlock::ruleset_here).transpose()?;
    if hopped.is_none() {
        steps::process::drop_bounding(process.capabilities.bounding, prepared.last_cap)?;
    }
    steps::process::become_user(&process.user)?;
    // ── Here: the program's user; capabilities within its bounding set, for the steps that are left.
    if dies_with_setup {
        steps::process::die_with_parent(true)?;
    }
    steps::process::not_dumpable()?;
    let program = steps::process::find_program(process)?;
    let mut handed_on = Vec::new();
    handed_on.extend(terminal.map(|terminal| terminal.master));
    let early = plan.seccomp.as_ref().filter(|filter| filter.loads_early(process.no_new_privileges));
    if let Some(rules) = landlock.take_if(|_| comes_early(early, process.no_new_privileges)) {
        if process.no_new_privileges {
            steps::process::no_new_privileges()?;
        }
        steps::landlock::restrict(rules)?;
    }
    if let Some(filter) = early {
        // Without no_new_privs loading takes CAP_SYS_ADMIN, which goes next. The profile must allow what is left: capset,
        // prctl, sendmsg, recvmsg, fcntl, prlimit64, rt_sigaction, rt_sigprocmask, execve. What is opened from here on is
        // CLOEXEC.
        prepared.check_directory()?;
        steps::process::cloexec_all()?;
        if process.no_new_privileges {
            steps::process::no_new_privileges()?;
        }
        *filtered = true;
        handed_on.extend(steps::seccomp::load(filter)?);
    }
    steps::process::set_capabilities(&process.capabilities)?;
    // ── Here: what the program will have, and no more.
    if plan.handover {
        trace::step(ExecPoint::Ready);
        let fds: Vec<_> = handed_on.iter().map(AsFd::as_fd).collect();
        channel.send(&Sync::Ready, &fds)?;
        let Some((Sync::Created, _)) = channel.recv()? else { return Err(sync::setup_gone()) };
    }
    drop(handed_on);

    trace::step(ExecPoint::Execve);
    if early.is_none() {
        prepared.check_directory()?;
    }
    let argv: Vec<_> = process.args.iter().map(AsRef::as_ref).collect();
    let envp: Vec<_> = env.iter().map(AsRef::as_ref).collect();
    trace::close(false);
    steps::process::default_signals(prepared.ignored_signals)?;
    if early.is_none() {
        steps::process::cloexec_all()?;
    }
    steps::process::keep(plan.preserve_fds)?;
    steps::process::set_rlimits(0, &process.rlimits)?;
    // The last moment at which a program that nobody watches can still be prevented: after this setup may leave.
    steps::process::die_with_parent(false)?;
    steps::process::unblock_signals()?;
    if let Some(rules) = landlock {
        steps::process::no_new_privileges()?;
        steps::landlock::restrict(rules)?;
    }
    match &plan.seccomp {
        None if process.no_new_privileges => steps::process::no_new_privileges()?,
        Some(filter) if early.is_none() => {
            steps::process::no_new_privileges()?;
            // After this line only execve and plain memory writes follow: the profile needs to allow nothing else.
            *filtered = true;
            steps::seccomp::load(filter)?;
        }
        _ => {}
    }
    Err(steps::process::exec_error(&program, execve(&program, &argv, &envp)))
}

/// What the joining process needs stays open; the caller's descriptors and setup's do not.
fn close_all_but(
    prepared: &Prepared,
    channel: &Channel,
    joins: &Joins,
    view: &View,
    stdio: &Stdio,
    also: &[BorrowedFd<'_>],
) -> Result<()> {
    crate::log::with_descriptor(|log| {
        trace::with_descriptor(|trace| {
            let mut keep = vec![channel.as_fd(), joins.init.handle().as_fd()];
            keep.extend([&joins.time, &joins.root].into_iter().flatten().map(AsFd::as_fd));
            keep.extend(view.descriptor());
            keep.extend(stdio.iter().flatten().map(AsFd::as_fd));
            keep.extend([log, trace].into_iter().flatten());
            keep.extend_from_slice(also);
            steps::process::close_others(prepared.plan.preserve_fds, &keep)
        })
    })
}

/// What of the container's namespaces is joined, and by whom.
struct Joins {
    /// init, by its pidfd, or by the directory of the host's /proc that stands in for it.
    init: Held,
    /// CLONE_NEW* that setup joins before the clone.
    by_setup: u64,
    /// CLONE_NEW* that the joining process joins.
    by_joiner: u64,
    /// A hop joins all of it, and clones the joining process inside: without a user namespace of the container's own
    /// those who are in its pid namespace may have CAP_SYS_PTRACE over whatever comes in.
    by_hop: bool,
    /// One of them is the user namespace.
    user: bool,
    time: Option<OwnedFd>,
    /// The container's root, where it has no mount namespace.
    root: Option<OwnedFd>,
}

impl Joins {
    fn open(prepared: &Prepared, held: Held) -> Result<Joins> {
        let plan = &prepared.plan;
        let (user, pid, time) = (Kind::User.flag(), Kind::Pid.flag(), Kind::Time.flag());
        let asked = plan.by_path | plan.namespaces & user;
        let shared = look(&held, |init| steps::namespaces::shared_with(init, asked));
        // With --tools the mount namespace is one that nobody else has.
        let own = if prepared.tools.is_some() { Kind::Mount.flag() } else { 0 };
        let ours = plan.namespaces & !own & !shared.map_err(|error| prepared.explain(error))?;
        let time_of = |init| steps::namespaces::time_of(init, prepared.executed);
        // A pid namespace is joined for children, so by setup; whoever has no privilege of the host needs that of the
        // container's user namespace for it.
        let unprivileged = ours & user != 0 && !steps::process::is_admin()?;
        let by_hop = prepared.may_trace && ours & user == 0 && ours & pid != 0;
        let by_setup = ours
            & if by_hop {
                0
            } else if unprivileged {
                user | pid
            } else {
                pid
            };
        Ok(Joins {
            by_hop,
            by_setup,
            by_joiner: ours & !by_setup & !time,
            user: ours & user != 0,
            time: (ours & time != 0).then(|| look(&held, time_of)).transpose()?,
            root: (!plan.joins(Kind::Mount)).then(|| look(&held, steps::namespaces::root_of)).transpose()?,
            init: held,
        })
    }

    fn enter(&self, prepared: &Prepared) -> Result<()> {
        if let Some(time) = &self.time {
            steps::namespaces::join_time(time.as_fd())?;
        }
        steps::namespaces::join_init(self.init.handle().as_fd(), self.by_joiner)
            .map_err(|error| prepared.explain(error))?;
        self.root.as_ref().map_or(Ok(()), |root| steps::namespaces::enter_root(root.as_fd()))
    }
}

/// What a parent may set on the joining process that it, in a user namespace, may not.
fn attributes_by_pid(prepared: &Prepared, pid: i32) -> Result<()> {
    let process = &prepared.plan.process;
    if let Some(scheduler) = process.scheduler.as_ref().filter(|scheduler| !scheduler.is_deadline()) {
        steps::process::set_scheduler(pid, scheduler)?;
    }
    if let Some(priority) = process.io_priority {
        steps::process::set_io_priority(pid, priority)?;
    }
    if prepared.plan.joins(Kind::User) {
        steps::process::raise_rlimits(pid, &process.rlimits)?;
    }
    Ok(())
}

impl Prepared {
    /// The program's working directory; beside tools it is the container's root already, which their root does not hold.
    fn change_directory(&self) -> Result<()> {
        if self.tools.is_some() { Ok(()) } else { steps::process::change_directory(&self.plan.process.cwd) }
    }

    /// What a shell goes by where getcwd(2) can name no directory: the root of the container's process 1.
    fn where_it_begins(&self) -> Option<CString> {
        let own_pids = self.plan.joins(Kind::Pid) && self.plan.by_path & Kind::Pid.flag() == 0;
        self.tools.as_ref().filter(|_| own_pids).map(|_| c"PWD=/proc/1/root".to_owned())
    }

    fn check_directory(&self) -> Result<()> {
        if self.tools.is_some() { Ok(()) } else { steps::process::check_directory(&self.plan.process.cwd) }
    }

    /// Whether [`attributes_by_pid`] or resctrl has anything to do.
    fn sets_by_pid(&self) -> bool {
        let process = &self.plan.process;
        self.state.rdt.is_some()
            || process.scheduler.as_ref().is_some_and(|scheduler| !scheduler.is_deadline())
            || process.io_priority.is_some()
            || self.plan.joins(Kind::User) && !process.rlimits.is_empty()
    }

    /// The container may end at any line: then that is the reason, not the errno of whatever came next (a dead pid
    /// namespace gives ENOMEM at the clone).
    fn explain(&self, error: Error) -> Error {
        if error.is(Errno::SRCH) || self.init.ending() {
            return refused(Status::Stopped);
        }
        match error.is(Errno::PERM) || error.is(Errno::ACCESS) {
            true if !self.executed => {
                error.hint("a created container is shielded until start: only the host's root may exec into it before")
            }
            true => error.hint("the container belongs to another user"),
            false => error,
        }
    }

    /// The next point that the joining process says; None when it has gone, or executed. A container that is paused
    /// meanwhile would never let it answer, nor does who stops it by a signal: root of the container may.
    fn recv(&self, channel: &Channel, child: &Child) -> Result<Option<(Sync, Vec<OwnedFd>)>> {
        let mut stopped = 0;
        loop {
            let mut fds = [PollFd::new(channel, PollFlags::IN)];
            match poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })) {
                Ok(0) if cgroup::is_frozen(&self.state.cgroup) => {
                    return Err(Error::status(format!("process {} was paused before it ran the program", child.pid))
                        .hint("the container was paused meanwhile"));
                }
                Ok(0) if is_stopped(child.pid) => {
                    stopped += 1;
                    if stopped == STOPPED {
                        let what = format!("process {} is stopped by a signal before it ran the program", child.pid);
                        return Err(Error::status(what));
                    }
                }
                Ok(0) => stopped = 0,
                Err(Errno::INTR) => {}
                Ok(_) => return channel.recv(),
                Err(errno) => return Err(Error::call(Step::Sync, "poll", errno, "wait for the joining process")),
            }
        }
    }

    /// Waits until the program runs, or gives the reason why it does not.
    fn outcome(&self, channel: &Channel, page: &SharedPage, child: &Child) -> Result<()> {
        if self.recv(channel, child)?.is_some() {
            return Err(sync::out_of_order());
        }
        if let Some(error) = said(page) {
            return Err(error);
        }
        // A process that dies closes its end too, a moment before it can be waited for: the kernel's flag tells them apart.
        match closed_by_execve(child.pid)? {
            Some(false) => Err(self.how_it_died(child)),
            Some(true) | None => Ok(()),
        }
    }

    /// How the program died, if it did not end by itself.
    fn tell_death(&self, status: i32, killed_by: Option<i32>, pid: i32, globals: &Globals) {
        if killed_by.is_none() && status != 128 + libc::SIGKILL {
            return;
        }
        let id = &self.state.id;
        let Ok(config) = StateDir::open(&globals.root, id).and_then(|dir| dir.load_config()) else { return };
        // Whoever ended the container has ended it with all that is in it.
        let with_container = killed_by == Some(libc::SIGKILL) && self.init.ending();
        if let Some(death) = death::of(status, killed_by, pid, &self.state.cgroup, &config)
            && (!with_container || death.oom_kills.is_some_and(|kills| kills > 0))
        {
            crate::log::warn(format!("exec {id}: {}", death.sentence));
            journal::death(&globals.root, "exec", id, status, &death, &config);
        }
    }

    fn how_it_died(&self, child: &Child) -> Error {
        if self.init.ending() {
            return refused(Status::Stopped);
        }
        let how = spawn::how_it_ended(child.pidfd());
        let error = Error::host(Step::Exec, format!("the joining process {how} before it ran the program"));
        match Handle::open(&self.state.cgroup).ok().as_ref().and_then(Handle::oom_kills) {
            _ if how.ends_with("signal 31") => error.hint("the seccomp profile forbids a call that it still needs"),
            Some(kills) if kills > 0 && how.ends_with("signal 9") => {
                error.hint("the memory limit of the container has killed processes (out of memory)")
            }
            _ => error,
        }
    }
}

/// The error that the joining process left on the page, if any.
fn said(page: &SharedPage) -> Option<Error> {
    let said = page.load();
    (!said.is_empty()).then(|| {
        serde_json::from_slice(&said)
            .unwrap_or_else(|_| Error::host(Step::Exec, String::from_utf8_lossy(&said).into_owned()))
    })
}

/// The joining process: killed when setup fails.
struct Child {
    pid: i32,
    pidfd: Option<OwnedFd>,
}

impl Child {
    fn pidfd(&self) -> &OwnedFd {
        self.pidfd.as_ref().expect("it is there until it is defused")
    }

    fn defuse(mut self) -> OwnedFd {
        self.pidfd.take().expect("it is there until it is defused")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd {
            let _ = crate::sys::signal::pidfd_send(pidfd.as_fd(), libc::SIGKILL);
            // One that is frozen on v1 dies when it is thawed: that is not waited for.
            let _ = hooks::wait_end(pidfd, Duration::from_secs(2));
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }
}
