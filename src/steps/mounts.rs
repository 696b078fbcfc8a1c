//! Mounts are built detached (fsopen(2), open_tree(2), mount_setattr(2)) and attached to an fd (move_mount(2)): the
//! destination is resolved once, in the root, and what is attached has all its flags already.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};

use super::idmap::Mappings;
use super::path::{Root, RootfsPath, by_fd, is_procfs};
use super::place::{Places, hint_of_links};
use super::rootfs::propagate;
use super::tree::{self, Origin, is_refusal, stage};
use crate::error::{Blame, ErrAt, Error, Result, Step, show};
use crate::plan::mounts::{Attr, MOST_OPTIONS, Mount, MountKind, PropagationKind, Source, Superblock, attr};
use crate::plan::rootfs::Rootfs;
use crate::sys::mount::MountAttr;

mod copyup;

/// Detached trees that setup cloned for init.
pub type Given = BTreeMap<Source, OwnedFd>;

/// Mounts that become read-only when all else is made.
#[derive(Debug, Default)]
#[must_use = "finish makes them read-only"]
pub struct Deferred(Vec<(OwnedFd, String)>);

impl Deferred {
    /// Makes them read-only: after devices, links and masks.
    pub fn finish(self) -> Result<()> {
        for (fd, subject) in self.0 {
            set_attr(fd.as_fd(), Attr { set: attr::RDONLY, clear: 0 }, false, &subject)?;
        }
        Ok(())
    }
}

/// Whether init needs something of setup for it: its ids are mapped, which the container's own root may not do, or not
/// without a user namespace that has the mapping.
pub fn needs_setup(mount: &Mount) -> bool {
    mount.idmap.is_some()
}

/// What setup has to clone for init: sources that this process, as mapped root, cannot reach, and idmapped ones.
pub fn unreachable(rootfs: &Rootfs, mounts: &[Mount]) -> Vec<Source> {
    let reach = |source: &Path| {
        !matches!(rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()), Err(Errno::ACCESS))
    };
    let mut sources = Vec::new();
    if !reach(&rootfs.path) {
        sources.push(Source::Rootfs);
    }
    sources.extend(
        mounts
            .iter()
            .enumerate()
            .filter(|(_, mount)| {
                needs_setup(mount) || matches!(&mount.kind, MountKind::Bind { source, .. } if !reach(source))
            })
            .map(|(place, _)| Source::Mount(place)),
    );
    sources
}

/// Clones what init asked for. Setup calls it inside init's mount namespace.
pub fn clone_all(
    rootfs: &Rootfs,
    mounts: &[Mount],
    sources: &[Source],
    mappings: &Mappings<'_>,
) -> Result<Vec<OwnedFd>> {
    stage::allow();
    tree::probe();
    let cloned = sources
        .iter()
        .map(|source| match source {
            Source::Rootfs => clone_path(&rootfs.path, true, &format!("mount root file system {}", show(&rootfs.path))),
            Source::Mount(place) => match mounts.get(*place) {
                Some(mount) => clone_for(mount, mappings),
                None => {
                    Err(Error::bug(Step::Mount, format!("init asks for mount {place}, which the plan does not have")))
                }
            },
        })
        .collect();
    stage::close();
    cloned
}

/// Clones the source of a bind mount. Setup calls it inside init's mount namespace, so that the source's flags stay
/// locked for the container's root. For an idmapped new file system it is the user namespace with its mapping.
pub fn clone_for(mount: &Mount, mappings: &Mappings<'_>) -> Result<OwnedFd> {
    let subject = describe(mount);
    let userns = match &mount.idmap {
        Some(idmap) => Some(
            mappings
                .get(&idmap.mapping)
                .ok_or_else(|| Error::bug(Step::Mount, format!("{subject}: no user namespace is given")))?,
        ),
        None => None,
    };
    if let (MountKind::Fs { .. }, Some(userns)) = (&mount.kind, userns) {
        return userns.try_clone_to_owned().err_at(Step::Mount, "fcntl(F_DUPFD_CLOEXEC)", || subject);
    }
    let MountKind::Bind { source, recursive } = &mount.kind else {
        return Err(Error::bug(Step::Mount, format!("{subject}: only bind mounts are cloned by setup")));
    };
    let tree = clone_path(source, *recursive, &subject)?;
    if let Some(userns) = userns {
        map_ids(mount, tree.as_fd(), userns, &subject)?;
    }
    Ok(tree)
}

/// Maps the ids of a detached mount as a user namespace does.
fn map_ids(mount: &Mount, tree: BorrowedFd<'_>, userns: BorrowedFd<'_>, subject: &str) -> Result<()> {
    let idmap = MountAttr { userns: Some(userns), ..MountAttr::default() };
    let recursive = mount.idmap.as_ref().is_some_and(|idmap| idmap.recursive);
    tree::set_attr(tree, &idmap, recursive).err_at(Step::Mount, "mount_setattr", || subject).map_err(|e| {
        match e.is(Errno::INVAL) {
            true if stage::is_needed() => {
                e.hint("only a mount that is not attached yet can map ids, and open_tree or fsopen is refused here")
            }
            true => e.hint("its file system cannot map ids, or its ids are mapped already"),
            false if e.is(Errno::PERM) => {
                e.hint("only root of the user namespace that owns the file system may map its ids")
            }
            false => e,
        }
    })
}

/// Mounts all, in order.
pub fn mount_all(places: &mut Places<'_>, mounts: &[Mount], given: &mut Given) -> Result<Deferred> {
    let mut deferred = Deferred::default();
    for (place, mount) in mounts.iter().enumerate() {
        let subject = describe(mount);
        if let Some(fd) = mount_one(places, mount, given.remove(&Source::Mount(place)), &subject)? {
            deferred.0.push((fd, subject));
        }
    }
    Ok(deferred)
}

fn mount_one(places: &mut Places<'_>, mount: &Mount, given: Option<OwnedFd>, subject: &str) -> Result<Option<OwnedFd>> {
    let (tree, at, attached) = match &mount.kind {
        MountKind::Remount { data, superblock } => {
            return remount(places, mount, data, superblock, subject);
        }
        MountKind::Bind { source, recursive } => {
            // Before the destination is made: a source that is missing leaves nothing behind.
            let tree = match given {
                Some(tree) => tree,
                None if mount.idmap.is_some() => {
                    return Err(Error::bug(Step::Mount, format!("{subject}: setup gave no idmapped tree")));
                }
                None => clone_path(source, *recursive, subject)?,
            };
            let at = bind_destination(places, mount, &tree, subject)?;
            (tree, at, false)
        }
        MountKind::Fs { fstype, source, data, superblock, otherwise } => {
            let (at, made) = destination_dir(places, &mount.destination, subject)?;
            let mut data = data.clone();
            if fstype == "tmpfs" && !made && !data.iter().any(|(key, _)| key == "mode") {
                let mode = rustix::fs::fstat(&at).err_at(Step::Mount, "fstat", || subject)?.st_mode & 0o7777;
                data.push(("mode".into(), Some(format!("{mode:o}"))));
            }
            let long = data.iter().any(|(_, value)| value.as_ref().is_some_and(|value| value.len() > 255));
            let old_call = mount.idmap.is_none()
                && (long
                    || superblock
                        .iter()
                        .any(|(flag, on)| *on && matches!(flag, Superblock::Iversion | Superblock::Silent)));
            if (old_call || stage::is_needed()) && !stage::prepare() {
                (mount_by_old_call(places.root, &at, mount, &data, subject)?, at, true)
            } else {
                let mut made = if old_call || stage::is_needed() {
                    on_stage(mount, &data, subject)
                } else {
                    filesystem(fstype, source.as_deref(), &data, superblock, mount, subject)
                };
                if made.as_ref().is_err_and(|error| error.is(Errno::NOSYS) || error.is(Errno::PERM))
                    && !stage::is_needed()
                    && fsopen_is_refused()
                    && stage::take_over()
                {
                    made = on_stage(mount, &data, subject);
                }
                match (made, otherwise) {
                    (Ok(tree), _) => {
                        if let Some(userns) = given {
                            map_ids(mount, tree.as_fd(), userns.as_fd(), subject)?;
                        }
                        (tree, at, false)
                    }
                    (Err(error), Some(path)) if error.is(Errno::PERM) || error.is(Errno::BUSY) => {
                        let tree = clone_path(path, false, subject)?;
                        if places.peers {
                            // config.json asked for a file system, not for a mount of the host's.
                            propagate(tree.as_fd(), subject, PropagationKind::Slave, false)?;
                        }
                        (tree, at, false)
                    }
                    (Err(error), _) => return Err(error),
                }
            }
        }
    };
    if mount.destination.as_path() == Path::new("/proc") && mount.is_bind() && !is_procfs(&tree) {
        return Err(Error::spec(
            format!("/mounts/{}/source", mount.index),
            "only a procfs can be bound on /proc: labels and limits are set by it",
        ));
    }
    if mount.tmpcopyup {
        copyup::copy(at.as_fd(), tree.as_fd(), subject)?;
    }
    for (name, target) in &mount.links {
        match rustix::fs::symlinkat(target.as_str(), &tree, name.as_str()) {
            Err(Errno::EXIST) => {}
            other => other.err_at(Step::Mount, "symlinkat", || subject)?,
        }
    }
    // What fsmount was given already is not set again.
    if mount.is_bind() || matches!(&mount.kind, MountKind::Fs { otherwise: Some(_), .. }) {
        set_attr(tree.as_fd(), mount.attr, false, subject)?;
    }
    set_attr(tree.as_fd(), mount.recursive_attr, true, subject)?;
    if !attached {
        tree::attach(&tree, &at).map_err(|errno| refused(errno, &tree, &at, subject))?;
    }
    places.note(mount, tree.as_fd(), subject)?;
    for propagation in &mount.propagation {
        // After the mount is attached: a detached one has no peers to find.
        propagate(tree.as_fd(), subject, propagation.kind, propagation.recursive)?;
    }
    Ok(mount.readonly_last.then_some(tree))
}

/// Why a mount could not be attached. A directory on a file, or the reverse, is EINVAL to move_mount(2) and ENOTDIR to
/// mount(2): Docker waits for the words of the latter, to say what it takes the reason for.
fn refused(errno: Errno, tree: &OwnedFd, at: &OwnedFd, subject: &str) -> Error {
    let is_directory =
        |fd| rustix::fs::fstat(fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
    let hint = match (is_directory(tree), is_directory(at)) {
        (true, false) => "a directory cannot be mounted on a file",
        (false, true) => "a file cannot be mounted on a directory",
        _ => return Error::call(Step::Mount, "move_mount", errno, subject),
    };
    Error::call(Step::Mount, "move_mount", Errno::NOTDIR, subject).hint(hint)
}

/// What is being done, as errors say it.
fn describe(mount: &Mount) -> String {
    let place = format!("on {} (/mounts/{}", mount.destination, mount.index);
    match &mount.kind {
        MountKind::Bind { source, .. } => format!("bind mount {} {place})", show(source)),
        MountKind::Remount { .. } => format!("remount {place})"),
        MountKind::Fs { fstype, data, .. } if data.is_empty() => format!("mount {fstype} {place})"),
        MountKind::Fs { fstype, data, .. } => format!("mount {fstype} {place}, data {:?})", joined(data)),
    }
}

/// The same for mount(2), which takes a page with its NUL and cuts off the rest: an option that is lost there, a size or a
/// label, would not be in force.
fn one_string(data: &[(String, Option<String>)], subject: &str) -> Result<String> {
    let text = joined(data);
    if text.len() > MOST_OPTIONS {
        let subject: String = subject.chars().take(100).collect();
        let what = format!("{subject}...: {} bytes of options, mount(2) takes at most {MOST_OPTIONS}", text.len());
        return Err(Error::host(Step::Mount, what).blame(Blame::Spec));
    }
    Ok(text)
}

fn joined(data: &[(String, Option<String>)]) -> String {
    let words: Vec<_> = data
        .iter()
        .map(|(key, value)| value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}")))
        .collect();
    words.join(",")
}

/// The mount point, made if it is missing. A link may lead to it where [`Places`] allows that; /proc and /sys are no links
/// at all.
fn destination_dir(places: &Places<'_>, path: &RootfsPath, subject: &str) -> Result<(OwnedFd, bool)> {
    let root = places.root;
    let make_dir = || {
        let made = root.ensure_dir(path, &|dir| places.may_make(dir));
        made.err_at(Step::Mount, "make destination", || subject).map_err(hint_of_links)
    };
    let (fd, made) = match root.open_without_links(path, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(fd) => return Ok((fd, false)),
        // The common case: only the last part is missing, and no link leads there.
        Err(Errno::NOENT) => match root.make_last(path) {
            Ok(fd) => return Ok((fd, true)),
            Err(_) => {
                own_directories(root, path, subject)?;
                make_dir()?
            }
        },
        Err(Errno::LOOP) => {
            own_directories(root, path, subject)?;
            make_dir()?
        }
        Err(errno) => {
            own_directories(root, path, subject)?;
            return Err(Error::call(Step::Mount, "open destination", errno, subject));
        }
    };
    Ok((places.to_mount(fd, path, subject)?, made))
}

/// The mount point of a bind mount: a file or a directory, as its source is.
fn bind_destination(places: &Places<'_>, mount: &Mount, tree: &OwnedFd, subject: &str) -> Result<OwnedFd> {
    let root = places.root;
    let path = &mount.destination;
    match root.open_without_links(path, OFlags::PATH) {
        Ok(fd) => return Ok(fd),
        Err(Errno::LOOP | Errno::NOENT) => own_directories(root, path, subject)?,
        Err(errno) => return Err(Error::call(Step::Mount, "open destination", errno, subject)),
    }
    let stat = rustix::fs::fstat(tree).err_at(Step::Mount, "fstat", || subject)?;
    let fd = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        root.ensure_dir(path, &|dir| places.may_make(dir)).map(|(fd, _)| fd)
    } else {
        root.ensure_file(path, &|dir| places.may_make(dir))
    }
    .err_at(Step::Mount, "make destination", || subject)
    .map_err(hint_of_links)?;
    places.to_mount(fd, path, subject)
}

/// /proc and /sys of the rootfs must be real directories (CVE-2019-19921, CVE-2023-27561, CVE-2025-54867).
fn own_directories(root: Root<'_>, path: &RootfsPath, subject: &str) -> Result<()> {
    for (name, fstype) in [("/proc", "proc"), ("/sys", "sysfs")] {
        if path.is_in(name) {
            match root.open_without_links(&RootfsPath::new(name), OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) | Err(Errno::NOENT) => {}
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(Error::host(
                        Step::Mount,
                        format!(
                            "{subject}: filesystem {fstype:?} must be mounted on ordinary directory, which {name} of the \
                             root file system is not"
                        ),
                    )
                    .hint("a link there could hide the real one"));
                }
                Err(errno) => return Err(Error::call(Step::Mount, "openat2", errno, subject)),
            }
        }
    }
    Ok(())
}

fn clone_path(source: &Path, recursive: bool, subject: &str) -> Result<OwnedFd> {
    tree::clone(Origin::Path(source), recursive).err_at(Step::Mount, "open_tree", || subject).map_err(|e| {
        if e.is(Errno::NOENT) {
            e.hint(format!("the source {} does not exist: make it, or take the mount out", show(source)))
                .blame(Blame::Spec)
        } else {
            e
        }
    })
}

/// Whether it is the call that is refused, and not this file system.
fn fsopen_is_refused() -> bool {
    rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
        .and_then(|fs| rustix::mount::fsconfig_create(&fs).map(|()| fs))
        .and_then(|fs| rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()))
        .is_err()
}

/// A new instance of a file system, detached.
fn filesystem(
    fstype: &str,
    source: Option<&str>,
    data: &[(String, Option<String>)],
    superblock: &[(Superblock, bool)],
    mount: &Mount,
    subject: &str,
) -> Result<OwnedFd> {
    use rustix::mount as m;
    let fs = m::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).err_at(Step::Mount, "fsopen", || subject).map_err(|e| {
        if e.is(Errno::NODEV) { e.hint(format!("the kernel knows no file system {fstype:?}")) } else { e }
    })?;
    let configure = || -> rustix::io::Result<()> {
        if let Some(source) = source {
            m::fsconfig_set_string(&fs, "source", source)?;
        }
        for (flag, on) in superblock {
            if let Some(key) = superblock_key(*flag, *on) {
                m::fsconfig_set_flag(&fs, key)?;
            }
        }
        for (key, value) in data {
            match value {
                Some(value) => m::fsconfig_set_string(&fs, key.as_str(), value.as_str())?,
                None => m::fsconfig_set_flag(&fs, key.as_str())?,
            }
        }
        m::fsconfig_create(&fs)
    };
    let told = |error: Error| match message(&fs) {
        Some(text) => error.hint(format!("the kernel says: {text}")),
        None => error,
    };
    configure().err_at(Step::Mount, "fsconfig", || subject).map_err(told)?;
    let mut set = mount.attr.set;
    if mount.readonly_last {
        set &= !attr::RDONLY;
    }
    let set = MountAttrFlags::from_bits_retain(u32::try_from(set).unwrap_or(0));
    m::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, set).err_at(Step::Mount, "fsmount", || subject).map_err(told)
}

fn superblock_key(flag: Superblock, on: bool) -> Option<&'static str> {
    Some(match (flag, on) {
        (Superblock::Sync, true) => "sync",
        (Superblock::Sync, false) => "async",
        (Superblock::Dirsync, true) => "dirsync",
        (Superblock::Lazytime, true) => "lazytime",
        (Superblock::Lazytime, false) => "nolazytime",
        (Superblock::Mand, true) => "mand",
        (Superblock::Mand, false) => "nomand",
        _ => return None,
    })
}

/// What the kernel wrote about the failure, the last line of it, without its severity.
fn message(fs: &OwnedFd) -> Option<String> {
    let mut last = None;
    let mut buffer = [0; 512];
    while let Ok(n @ 1..) = rustix::io::read(fs, &mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..n]);
        last = Some(text.trim().trim_start_matches(['e', 'w', 'i']).trim().to_owned());
    }
    last
}

/// Sets and clears attributes. A flag that is locked in a user namespace cannot be cleared: it is kept.
fn set_attr(fd: BorrowedFd<'_>, what: Attr, recursive: bool, subject: &str) -> Result<()> {
    if what.is_empty() {
        return Ok(());
    }
    let full = MountAttr { set: what.set, clear: what.clear, ..MountAttr::default() };
    match tree::set_attr(fd, &full, recursive) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && what.clear != 0 => {
            // First what is stricter, which must hold; then the access time policy and each flag to be cleared, which
            // may be locked.
            let strict = MountAttr { set: what.set & !attr::ATIME, ..MountAttr::default() };
            if strict.set != 0 {
                tree::set_attr(fd, &strict, recursive).err_at(Step::Mount, "mount_setattr", || subject)?;
            }
            if what.clear & attr::ATIME != 0 {
                let policy = MountAttr { set: what.set & attr::ATIME, clear: attr::ATIME, ..MountAttr::default() };
                let _ = tree::set_attr(fd, &policy, recursive);
            }
            for bit in [attr::RDONLY, attr::NOSUID, attr::NODEV, attr::NOEXEC, attr::NODIRATIME, attr::NOSYMFOLLOW] {
                if what.clear & bit != 0 {
                    let _ = tree::set_attr(fd, &MountAttr { clear: bit, ..MountAttr::default() }, recursive);
                }
            }
            Ok(())
        }
        other => other.err_at(Step::Mount, "mount_setattr", || subject),
    }
}

/// Other options for the mount that is at the destination; it is returned if it becomes read-only last.
fn remount(
    places: &Places<'_>,
    mount: &Mount,
    data: &[(String, Option<String>)],
    superblock: &[(Superblock, bool)],
    subject: &str,
) -> Result<Option<OwnedFd>> {
    use rustix::mount as m;
    let keys: Vec<_> = superblock.iter().filter_map(|(flag, on)| superblock_key(*flag, *on)).collect();
    let of_file_system = !data.is_empty() || !keys.is_empty();
    // A link of the image may lead to a volume: its file system others use, too, and what config.json forbids there holds.
    const HARMLESS: u64 = attr::ATIME | attr::NODIRATIME;
    let allows = (mount.attr.clear | mount.recursive_attr.clear) & !HARMLESS != 0;
    let opened = match of_file_system || allows {
        true => places.root.open_without_links(&mount.destination, OFlags::PATH),
        false => places.root.open(&mount.destination, OFlags::PATH),
    };
    let fd = opened.err_at(Step::Mount, "open destination", || subject).map_err(|e| match e.is(Errno::LOOP) {
        true if of_file_system => e.hint(
            "a link of the root file system leads elsewhere, and options of a file system hold wherever it is mounted",
        ),
        true if allows => {
            e.hint("a link of the root file system leads elsewhere, where config.json may forbid what this allows")
        }
        _ => e,
    })?;
    if of_file_system {
        let flags = m::FsPickFlags::FSPICK_CLOEXEC | m::FsPickFlags::FSPICK_EMPTY_PATH;
        let picked = || {
            let fs = m::fspick(&fd, "", flags)?;
            for key in &keys {
                m::fsconfig_set_flag(&fs, *key)?;
            }
            for (key, value) in data {
                match value {
                    Some(value) => m::fsconfig_set_string(&fs, key.as_str(), value.as_str()),
                    None => m::fsconfig_set_flag(&fs, key.as_str()),
                }?;
            }
            m::fsconfig_reconfigure(&fs)
        };
        match picked() {
            Err(errno) if is_refusal(errno) && fsopen_is_refused() && stage::take_over() => {
                let (set, clear) = (old_superblock_flags(superblock, true), old_superblock_flags(superblock, false));
                stage::reconfigure(fd.as_fd(), &one_string(data, subject)?, set, clear).err_at(
                    Step::Mount,
                    "mount",
                    || subject,
                )?;
            }
            other => other.err_at(Step::Mount, "fspick", || subject)?,
        }
    }
    let mut attr = mount.attr;
    if mount.readonly_last {
        attr.set &= !attr::RDONLY;
    }
    set_attr(fd.as_fd(), attr, false, subject)?;
    set_attr(fd.as_fd(), mount.recursive_attr, true, subject)?;
    for propagation in &mount.propagation {
        propagate(fd.as_fd(), subject, propagation.kind, propagation.recursive)?;
    }
    Ok(mount.readonly_last.then_some(fd))
}

/// What mount(2) is told of a new instance: it knows flags that fsconfig does not, and its data may be a page long.
fn old_flags(mount: &Mount) -> MountFlags {
    let MountKind::Fs { superblock, .. } = &mount.kind else { return MountFlags::empty() };
    let mut flags = old_superblock_flags(superblock, true);
    for (bit, flag) in [
        (attr::RDONLY, MountFlags::RDONLY),
        (attr::NOSUID, MountFlags::NOSUID),
        (attr::NODEV, MountFlags::NODEV),
        (attr::NOEXEC, MountFlags::NOEXEC),
        (attr::NOATIME, MountFlags::NOATIME),
        (attr::STRICTATIME, MountFlags::STRICTATIME),
        (attr::NODIRATIME, MountFlags::NODIRATIME),
        (attr::NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
    ] {
        let late = bit == attr::RDONLY && mount.readonly_last;
        if (mount.attr.set | mount.recursive_attr.set) & bit != 0 && !late {
            flags |= flag;
        }
    }
    flags
}

/// The flags of the file system that are to be on, or off, as mount(2) has them.
fn old_superblock_flags(superblock: &[(Superblock, bool)], on: bool) -> MountFlags {
    let asked = superblock.iter().filter(|(_, is_on)| *is_on == on);
    asked.fold(MountFlags::empty(), |flags, (flag, _)| {
        flags
            | match flag {
                Superblock::Sync => MountFlags::SYNCHRONOUS,
                Superblock::Dirsync => MountFlags::DIRSYNC,
                Superblock::Lazytime => MountFlags::LAZYTIME,
                Superblock::Mand => MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
                Superblock::Iversion => MountFlags::from_bits_retain(1 << 23),
                Superblock::Silent => MountFlags::SILENT,
            }
    })
}

/// A new instance by mount(2), waiting on the stage.
fn on_stage(mount: &Mount, data: &[(String, Option<String>)], subject: &str) -> Result<OwnedFd> {
    let MountKind::Fs { fstype, source, .. } = &mount.kind else {
        return Err(Error::bug(Step::Mount, format!("{subject}: no file system")));
    };
    let mut flags = old_flags(mount);
    if mount.readonly_last {
        flags &= !MountFlags::RDONLY;
    }
    let source = source.as_deref().unwrap_or("none");
    stage::filesystem(fstype, source, flags, &one_string(data, subject)?).err_at(Step::Mount, "mount", || subject)
}

/// A new instance by mount(2) where there can be no stage, in the host's mount namespace; the target is the fd. The root
/// of the new mount comes back.
fn mount_by_old_call(
    root: Root<'_>,
    at: &OwnedFd,
    mount: &Mount,
    data: &[(String, Option<String>)],
    subject: &str,
) -> Result<OwnedFd> {
    let MountKind::Fs { fstype, source, .. } = &mount.kind else {
        return Err(Error::bug(Step::Mount, format!("{subject}: no file system")));
    };
    let text = std::ffi::CString::new(one_string(data, subject)?)
        .map_err(|_| Error::bug(Step::Mount, format!("{subject}: NUL")))?;
    rustix::mount::mount(
        source.as_deref().unwrap_or("none"),
        by_fd(at.as_fd()),
        fstype.as_str(),
        old_flags(mount),
        text.as_c_str(),
    )
    .err_at(Step::Mount, "mount", || subject)?;
    // An fd stays below what is mounted on it: the mount is found by its path again, and proved to be another one.
    let made =
        root.open(&mount.destination, OFlags::PATH | OFlags::DIRECTORY).err_at(Step::Mount, "openat2", || subject)?;
    let id = |fd: &OwnedFd| {
        rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .map(|statx| (statx.stx_mnt_id, statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)))
            .err_at(Step::Mount, "statx", || subject)
    };
    let ((below, _), (above, is_root)) = (id(at)?, id(&made)?);
    if below == above || !is_root {
        return Err(Error::host(Step::Mount, format!("{subject}: the destination was changed meanwhile")));
    }
    Ok(made)
}

#[cfg(test)]
pub(super) mod tests;
