//! Namespaces by path: opened and checked by setup, joined by whoever has the right to.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space};

use crate::error::{Blame, ErrAt, Error, Result, Step, show};
use crate::plan::namespaces::{Join, Kind, Namespaces};
use crate::sys;

/// A namespace that was opened by its path.
#[derive(Debug)]
pub struct Opened<'p> {
    /// What the plan says of it.
    pub join: &'p Join,
    /// The namespace.
    pub fd: OwnedFd,
    /// Joined before init is cloned: init is born in it, or could not join it, since it belongs to setup's own user
    /// namespace and the container has another one.
    pub by_hop: bool,
}

fn subject(join: &Join) -> String {
    format!("join the {} namespace {} (/linux/namespaces/{})", join.kind.name(), show(&join.path), join.index)
}

/// Opens all namespaces that are joined and checks that each is what the config says.
pub fn open_joins(namespaces: &Namespaces) -> Result<Vec<Opened<'_>>> {
    let other_user = namespaces.own(Kind::User);
    namespaces
        .joins
        .iter()
        .map(|join| {
            let fd = open(&join.path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).err_at(
                Step::Namespace,
                "open",
                || subject(join),
            )?;
            let kind = sys::namespace::kind(fd.as_fd())
                .err_at(Step::Namespace, "ioctl(NS_GET_NSTYPE)", || subject(join))
                .map_err(
                    |e| if e.is(Errno::NOTTY) { e.hint("the file is no namespace").blame(Blame::Spec) } else { e },
                )?;
            if u64::from(kind) != join.kind.flag() {
                let is = Kind::ALL.iter().find(|row| row.2 == u64::from(kind)).map_or("unknown", |row| row.1);
                return Err(Error::host(Step::Namespace, format!("{}: it is a {is} namespace", subject(join)))
                    .hint(format!("give it the type {is}, or a path of this type"))
                    .blame(Blame::Spec));
            }
            let by_hop = match join.kind {
                // Joining a pid namespace affects children only.
                Kind::Pid | Kind::User => true,
                Kind::Mount => false,
                _ => {
                    other_user
                        && owned_by_us(fd.as_fd()).err_at(Step::Namespace, "ioctl(NS_GET_USERNS)", || subject(join))?
                }
            };
            Ok(Opened { join, fd, by_hop })
        })
        .collect()
}

fn owned_by_us(fd: BorrowedFd<'_>) -> std::io::Result<bool> {
    let owner = match sys::namespace::owner(fd) {
        Ok(owner) => fstat(&owner)?,
        // An owner outside of our own user namespace: we have no more right there than init has.
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => return Ok(false),
        Err(e) => return Err(e),
    };
    let own = rustix::fs::stat("/proc/self/ns/user")?;
    Ok((owner.st_dev, owner.st_ino) == (own.st_dev, own.st_ino))
}

/// setns(2) into one namespace.
pub fn join(opened: &Opened<'_>) -> Result<()> {
    crate::log::debug(subject(opened.join));
    move_into_link_name_space(opened.fd.as_fd(), link_type(opened.join.kind))
        .err_at(Step::Namespace, "setns", || subject(opened.join))
}

fn link_type(kind: Kind) -> Option<LinkNameSpaceType> {
    Some(match kind {
        Kind::User => LinkNameSpaceType::User,
        Kind::Pid => LinkNameSpaceType::ProcessID,
        Kind::Network => LinkNameSpaceType::Network,
        Kind::Mount => LinkNameSpaceType::Mount,
        Kind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        Kind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        Kind::Cgroup => LinkNameSpaceType::ControlGroup,
        Kind::Time => LinkNameSpaceType::Time,
    })
}

/// Joins, in the hop, what init is cloned in: what setup's own user namespace owns; then, where that is joined too, the
/// container's user namespace, and what only it gives the right to. A process that joins is not dumpable: those that are
/// there may have capabilities over whatever comes in.
pub fn join_for_clone(opened: &[Opened<'_>]) -> Result<()> {
    let (user, rest): (Vec<_>, Vec<_>) =
        opened.iter().filter(|namespace| namespace.by_hop).partition(|namespace| namespace.join.kind == Kind::User);
    let mut later = Vec::new();
    for namespace in rest {
        match join(namespace) {
            Err(error) if error.is(Errno::PERM) && !user.is_empty() => later.push(namespace),
            joined => joined?,
        }
    }
    user.into_iter().chain(later).try_for_each(join)?;
    // setns(user) changes the credentials, which makes a process dumpable again where fs.suid_dumpable says so.
    super::process::not_dumpable()
}

/// The mount namespace, and the directory in it, that setup came from.
#[derive(Debug, Default)]
pub struct WayBack(Option<(OwnedFd, OwnedFd)>);

impl WayBack {
    /// Goes back there.
    pub fn go(self) -> Result<()> {
        let Some((mounts, cwd)) = self.0 else { return Ok(()) };
        move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount)).err_at(
            Step::Namespace,
            "setns",
            || "go back to the mount namespace of the host",
        )?;
        rustix::process::fchdir(cwd).err_at(Step::Namespace, "fchdir", || "go back to the working directory")
    }
}

/// Enters the mount namespace of a process, by its pidfd. The root and the working directory go with it.
pub fn enter_mounts_of(pidfd: BorrowedFd<'_>) -> Result<WayBack> {
    let subject = || "enter init's mount namespace";
    let own = open("/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).err_at(
        Step::Namespace,
        "open",
        subject,
    )?;
    let cwd = open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).err_at(
        Step::Namespace,
        "open",
        subject,
    )?;
    join_init(pidfd, Kind::Mount.flag())?;
    Ok(WayBack(Some((own, cwd))))
}

/// Those of `kinds` that a process has in common with the caller: its own user namespace nobody can join again (EINVAL).
pub fn shared_with(pid: i32, kinds: u64) -> Result<u64> {
    let mut shared = 0;
    for (_, name, flag) in Kind::ALL.into_iter().filter(|(.., flag)| kinds & flag != 0) {
        let file = file_of(name);
        let subject = || format!("look at the {name} namespace of init, process {pid}");
        let (its, own) = (format!("/proc/{pid}/ns/{file}"), format!("/proc/self/ns/{file}"));
        let its = rustix::fs::stat(its).err_at(Step::Namespace, "stat", subject)?;
        let own = rustix::fs::stat(own).err_at(Step::Namespace, "stat", subject)?;
        if (its.st_dev, its.st_ino) == (own.st_dev, own.st_ino) {
            shared |= flag;
        }
    }
    Ok(shared)
}

/// The kernel's name of a namespace's file in /proc/PID/ns.
fn file_of(name: &'static str) -> &'static str {
    match name {
        "network" => "net",
        "mount" => "mnt",
        name => name,
    }
}

/// The time namespace of init: what it will be in once it executes its program, as long as it has not.
pub fn time_of(pid: i32, executed: bool) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{}", if executed { "time" } else { "time_for_children" });
    open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .err_at(Step::Namespace, "open", || format!("open the time namespace {path}"))
}

/// Whether setgroups(2) is allowed in the user namespace of a process (user_namespaces(7)).
pub fn setgroups_allowed(pid: i32) -> Result<bool> {
    std::fs::read(format!("/proc/{pid}/setgroups")).map(|text| text.starts_with(b"allow")).err_at(
        Step::Namespace,
        "open",
        || "ask whether the container's user namespace has groups",
    )
}

/// The root of init, for a container that has no mount namespace.
pub fn root_of(pid: i32) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(format!("/proc/{pid}/root"), flags, Mode::empty()).err_at(
        Step::Namespace,
        "open",
        || "open the container's root",
    )
}

/// chroot(2) into a directory that is open.
pub fn enter_root(root: BorrowedFd<'_>) -> Result<()> {
    let subject = || "enter the container's root";
    rustix::process::fchdir(root).err_at(Step::Namespace, "fchdir", subject)?;
    rustix::process::chroot(".").err_at(Step::Namespace, "chroot", subject)
}

/// setns(2) into the namespaces of init, by its pidfd, all at once: one namespace's owner may be another's member.
pub fn join_init(pidfd: BorrowedFd<'_>, flags: u64) -> Result<()> {
    if flags == 0 {
        return Ok(());
    }
    let kinds = ThreadNameSpaceType::from_bits_retain(flags as u32);
    let joined = match rustix::thread::move_into_thread_name_spaces(pidfd, kinds) {
        Err(Errno::INVAL) if is_directory(pidfd) => join_by_files(pidfd, flags),
        other => other,
    };
    joined.err_at(Step::Namespace, "setns", || {
        let names: Vec<_> = Kind::ALL.iter().filter(|row| flags & row.2 != 0).map(|row| row.1).collect();
        format!("join the {} namespace of the container", names.join(", "))
    })
}

fn is_directory(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// The same by the process's directory of /proc, where pidfd_open is refused: one namespace after the other. Those that
/// the container's user namespace owns come after it.
fn join_by_files(process: BorrowedFd<'_>, flags: u64) -> rustix::io::Result<()> {
    let mut user = None;
    let mut rest = Vec::new();
    // All are opened first: after the mount namespace there is another /proc, after the user namespace less privilege.
    for (kind, name, flag) in Kind::ALL.iter().filter(|row| flags & row.2 != 0) {
        let file = match kind {
            Kind::Network => "ns/net",
            Kind::Mount => "ns/mnt",
            _ => &format!("ns/{name}"),
        };
        let fd = rustix::fs::openat(process, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        if *flag == Kind::User.flag() { user = Some(fd) } else { rest.push((*kind, fd)) }
    }
    let mut later = Vec::new();
    for (kind, fd) in rest {
        match move_into_link_name_space(fd.as_fd(), link_type(kind)) {
            Err(Errno::PERM) if user.is_some() => later.push((kind, fd)),
            other => other?,
        }
    }
    if let Some(fd) = user {
        move_into_link_name_space(fd.as_fd(), link_type(Kind::User))?;
    }
    later.iter().try_for_each(|(kind, fd)| move_into_link_name_space(fd.as_fd(), link_type(*kind)))
}

/// A directory by a detached, read-only clone of its mount: nothing leads out of it.
pub fn read_only_directory(directory: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    let tree = super::tree::clone(super::tree::Origin::Fd(directory), false)?;
    let readonly = sys::mount::MountAttr { set: crate::plan::mounts::attr::RDONLY, ..Default::default() };
    sys::mount::mount_setattr(tree.as_fd(), &readonly, false)?;
    Ok(tree)
}

/// setns(2) into a time namespace.
pub fn join_time(time: BorrowedFd<'_>) -> Result<()> {
    move_into_link_name_space(time, Some(LinkNameSpaceType::Time)).err_at(
        Step::Namespace,
        "setns",
        || "join the time namespace of the container",
    )
}

/// The user namespace of a process that setup has just mapped.
pub fn user_namespace_of(pidfd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let subject = || "open init's user namespace";
    sys::namespace::of_process(pidfd).err_at(Step::Namespace, "ioctl(PIDFD_GET_USER_NAMESPACE)", subject)
}

/// unshare(2) of CLONE_NEW* flags.
pub fn unshare(flags: u64) -> Result<()> {
    if flags == 0 {
        return Ok(());
    }
    sys::namespace::unshare(flags).err_at(Step::Namespace, "unshare", || {
        let names: Vec<_> = Kind::ALL.iter().filter(|row| flags & row.2 != 0).map(|row| row.1).collect();
        format!("make the {} namespace", names.join(", "))
    })
}

/// The clock offsets of a time namespace that is still to be made.
#[derive(Debug)]
pub struct TimeOffsets<'p> {
    lines: &'p [String],
    /// This process's own file, which stands for whatever time namespace its children will have when it is written.
    file: OwnedFd,
}

impl<'p> TimeOffsets<'p> {
    /// Opens the file where there are any. The kernel asks for the rights of who opened it: setup's, or those of a user
    /// namespace that is new. A process that is not dumpable, with other ids, could open it no more.
    pub fn open(namespaces: &'p Namespaces) -> Result<Option<TimeOffsets<'p>>> {
        let lines = &namespaces.time_offsets[..];
        if lines.is_empty() {
            return Ok(None);
        }
        let file = open("/proc/self/timens_offsets", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).err_at(
            Step::Namespace,
            "open",
            || offsets_subject(lines),
        )?;
        Ok(Some(TimeOffsets { lines, file }))
    }

    /// Sets them, once the time namespace is made.
    pub fn write(self) -> Result<()> {
        sys::whole::write(&self.file, self.lines.join("\n").as_bytes())
            .err_at(Step::Namespace, "write", || offsets_subject(self.lines))
    }
}

fn offsets_subject(lines: &[String]) -> String {
    format!("set the clock offsets {:?} (/linux/timeOffsets)", lines.join("; "))
}

/// Sets the loopback interface up in a network namespace that this process has just made.
pub fn loopback_up() -> Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let subject = || "set the loopback interface up";
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .or_else(|_| socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None))
        .err_at(Step::Namespace, "socket", subject)?;
    sys::net::loopback_up(socket.as_fd()).err_at(Step::Namespace, "ioctl(SIOCSIFFLAGS)", subject)
}

/// sethostname(2) and setdomainname(2).
pub fn set_names(hostname: Option<&str>, domainname: Option<&str>) -> Result<()> {
    if let Some(name) = hostname {
        rustix::system::sethostname(name.as_bytes())
            .err_at(Step::Namespace, "sethostname", || format!("set the host name {name:?} (/hostname)"))?;
    }
    if let Some(name) = domainname {
        sys::process::set_domainname(name)
            .err_at(Step::Namespace, "setdomainname", || format!("set the domain name {name:?} (/domainname)"))?;
    }
    Ok(())
}
