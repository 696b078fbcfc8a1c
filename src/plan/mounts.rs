//! The mounts: each entry of /mounts becomes one or several [`Mount`]s, in order (config.md#mounts).
//!
//! Only /proc is guarded: what lies over it decides which labels and filters really hold (CVE-2019-16884), so on it
//! goes proc or a bind of a procfs, and beneath it only the files that lxcfs and the like replace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::idmap::{IdMap, lines};
use super::namespaces::NamespacesSummary;
use super::options::Options;
use super::path::{RootfsPath, no_nul};
use super::rootfs::Rootfs;
use crate::error::{Error, Result};
use crate::host::HostFacts;
use crate::spec::{self, IdMapping, Spec};

mod cgroup;
pub mod options;

pub use options::{Meaning, OPTIONS, Propagation, PropagationKind, Superblock, attr};

/// What a tree is cloned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// The root file system.
    Rootfs,
    /// The bind mount at this place of the plan.
    Mount(usize),
}

/// Attributes to set and to clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attr {
    /// Set.
    pub set: u64,
    /// Cleared.
    pub clear: u64,
}

impl Attr {
    /// A later word wins over an earlier one.
    fn add(&mut self, set: u64, clear: u64) {
        self.set = (self.set & !clear) | set;
        self.clear = (self.clear & !set) | clear;
    }

    /// The words of mount(8) for it.
    pub fn words(self) -> Vec<&'static str> {
        const WORDS: [(u64, &str, &str); 7] = [
            (attr::RDONLY, "ro", "rw"),
            (attr::NOSUID, "nosuid", "suid"),
            (attr::NODEV, "nodev", "dev"),
            (attr::NOEXEC, "noexec", "exec"),
            (attr::NODIRATIME, "nodiratime", "diratime"),
            (attr::NOSYMFOLLOW, "nosymfollow", "symfollow"),
            (attr::NOATIME, "noatime", "atime"),
        ];
        let mut words: Vec<_> = WORDS.iter().filter(|row| self.set & row.0 != 0).map(|row| row.1).collect();
        words.extend(WORDS[..6].iter().filter(|row| self.set & row.0 == 0 && self.clear & row.0 != 0).map(|row| row.2));
        if self.set & attr::STRICTATIME != 0 {
            words.push("strictatime");
        } else if self.clear & attr::ATIME != 0 && self.set & attr::ATIME == 0 {
            words.push("relatime");
        }
        words
    }

    /// Whether there is nothing to do.
    pub fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Its path on the host.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// A file system.
    Fs {
        /// Its type.
        fstype: String,
        /// What /proc/self/mountinfo shows as source, or the device.
        source: Option<String>,
        /// Its own options.
        data: Vec<(String, Option<String>)>,
        /// Flags of the instance, on or off.
        superblock: Vec<(Superblock, bool)>,
        /// Bound instead where the kernel refuses the mount (EPERM, EBUSY): the container's own cgroup.
        otherwise: Option<PathBuf>,
    },
    /// Other options for what is mounted there already.
    Remount {
        /// Options of the file system.
        data: Vec<(String, Option<String>)>,
        /// Flags of the instance, on or off.
        superblock: Vec<(Superblock, bool)>,
    },
}

/// How the ids of a mount are mapped (mount_setattr(2), "ID-mapped mounts").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idmap {
    /// By which mapping.
    pub mapping: Mapping,
    /// In the mounts below too.
    pub recursive: bool,
}

/// From ids of the file system (`containerID`) to those of the host (`hostID`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mapping {
    /// That of the container's user namespace.
    Container,
    /// One of its own, which needs a user namespace that somebody holds for a moment.
    Own {
        /// Users.
        uid: Vec<IdMap>,
        /// Groups.
        gid: Vec<IdMap>,
    },
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// N of /mounts/N.
    pub index: usize,
    /// Where in the container.
    pub destination: RootfsPath,
    /// What.
    pub kind: MountKind,
    /// Attributes of the mount itself.
    pub attr: Attr,
    /// Attributes of it and all below it.
    pub recursive_attr: Attr,
    /// Propagation, in order.
    pub propagation: Vec<Propagation>,
    /// What the image has there is copied into it.
    pub tmpcopyup: bool,
    /// Ids are mapped.
    pub idmap: Option<Idmap>,
    /// It becomes read-only only when all else in it is made.
    pub readonly_last: bool,
    /// Links to make in it: name and target.
    pub links: Vec<(String, String)>,
}

impl Mount {
    fn new(index: usize, destination: RootfsPath, kind: MountKind) -> Mount {
        Mount {
            index,
            destination,
            kind,
            attr: Attr::default(),
            recursive_attr: Attr::default(),
            propagation: Vec::new(),
            tmpcopyup: false,
            idmap: None,
            readonly_last: false,
            links: Vec::new(),
        }
    }

    /// Whether it is a bind mount.
    pub fn is_bind(&self) -> bool {
        matches!(self.kind, MountKind::Bind { .. })
    }
}

/// The mounts, and what is worth a warning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mounts {
    /// In order.
    pub mounts: Vec<Mount>,
    /// Warnings.
    pub notes: Vec<String>,
    /// Words that engines left for nobody.
    pub asides: Vec<String>,
    /// The host's directory is bound to /dev: nothing may be made in it.
    pub dev_is_bound: bool,
}

/// What is seen once all mounts are made: the last one on each destination.
pub struct Seen<'a> {
    mounts: &'a [Mount],
    last: BTreeMap<&'a Path, usize>,
}

impl Mounts {
    /// For questions about many paths.
    pub fn seen(&self) -> Seen<'_> {
        let attached = self.mounts.iter().enumerate().filter(|(_, m)| !matches!(m.kind, MountKind::Remount { .. }));
        Seen { mounts: &self.mounts, last: attached.map(|(place, m)| (m.destination.as_path(), place)).collect() }
    }
}

impl<'a> Seen<'a> {
    /// The mount that lies on exactly this path: none that came later lies above it.
    pub fn at(&self, path: &RootfsPath) -> Option<&'a Mount> {
        let place = self.last.get(path.as_path())?;
        let hidden = path.as_path().ancestors().any(|above| self.last.get(above).is_some_and(|later| later > place));
        (!hidden).then(|| &self.mounts[*place])
    }
}

/// The name of the notify socket in the directory of [`notify`].
pub const NOTIFY_SOCKET: &str = "notify.sock";
/// Where the container sees that directory.
pub const NOTIFY_DESTINATION: &str = "/run/notify";

/// The directory of the container's notify socket, after the config's mounts.
pub fn notify(index: usize, directory: &Path, rootfs: &Rootfs) -> Mount {
    let kind = MountKind::Bind { source: directory.to_owned(), recursive: false };
    let mut mount = Mount::new(index, RootfsPath::new(NOTIFY_DESTINATION), kind);
    mount.attr.set = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    if rootfs.keeps_peers() {
        mount.propagation.push(Propagation { kind: PropagationKind::Slave, recursive: false });
    }
    mount
}

/// The files below /proc that may be replaced.
const PROC_FILES: &[&str] = &[
    "cpuinfo",
    "meminfo",
    "stat",
    "uptime",
    "loadavg",
    "swaps",
    "diskstats",
    "slabinfo",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// File systems that take SELinux's `context=`.
const LABELLED: &[&str] = &["tmpfs", "mqueue", "overlay", "ext2", "ext3", "ext4", "xfs", "btrfs", "ramfs"];

/// Plans all mounts. `own` is the container's cgroup in each hierarchy: mount point and path below it.
pub fn plan(
    spec: &Spec<'_>,
    host: &HostFacts,
    options: &Options,
    ns: &NamespacesSummary,
    own: &[(PathBuf, PathBuf)],
) -> Result<Mounts> {
    let mut planned = Mounts::default();
    let label = spec.linux.as_ref().and_then(|linux| linux.mount_label.as_deref());
    if label.is_some_and(|label| !label.is_empty()) && !host.selinux {
        return Err(Error::spec("/linux/mountLabel", "SELinux is not enabled on this host"));
    }
    for (index, entry) in spec.mounts.iter().enumerate() {
        one(spec, host, options, ns, own, index, entry, &mut planned)?;
    }
    cut_off(spec, ns, &mut planned.mounts);
    put_readonly_last(&mut planned.mounts);
    planned.mounts.iter().try_for_each(fit_a_page)?;
    planned.dev_is_bound = planned.seen().at(&RootfsPath::new("/dev")).is_some_and(Mount::is_bind);
    Ok(planned)
}

/// So many bytes of options mount(2) takes: the smallest page there is, less its NUL.
pub const MOST_OPTIONS: usize = 4095;

/// An option that is longer than fsconfig(2) takes is handed to mount(2), with all others in one text. That takes a page
/// with its NUL and cuts off the rest: a size or a label that is lost there would not be in force.
fn fit_a_page(mount: &Mount) -> Result<()> {
    let MountKind::Fs { data, .. } = &mount.kind else { return Ok(()) };
    let lengths = data.iter().map(|(key, value)| key.len() + 1 + value.as_ref().map_or(0, |value| value.len() + 1));
    let (long, all) =
        (data.iter().any(|(_, value)| value.as_ref().is_some_and(|v| v.len() > 255)), lengths.sum::<usize>());
    if long && all > MOST_OPTIONS {
        let what = format!("are {all} bytes of options, mount(2) takes at most {MOST_OPTIONS}");
        return Err(Error::spec(format!("/mounts/{}/options", mount.index), what));
    }
    Ok(())
}

/// What a bind takes over from its source. It is a peer of it where the mount namespace was not cut off from the host's. That is what rootfsPropagation
/// asks for with the binds of the config, but not with those that stand in for a file system; and where there is no mount
/// namespace, nobody asks for it unless the entry does. Elsewhere it is a slave, or private as the root is, unless it asks
/// for something itself.
fn cut_off(spec: &Spec<'_>, ns: &NamespacesSummary, mounts: &mut [Mount]) {
    let rootfs = spec.linux.as_ref().and_then(|linux| linux.rootfs_propagation.as_deref()).and_then(Propagation::parse);
    let kept = rootfs.is_some_and(|rootfs| rootfs.kind == PropagationKind::Shared);
    let private =
        rootfs.is_some_and(|rootfs| matches!(rootfs.kind, PropagationKind::Private | PropagationKind::Unbindable));
    for mount in mounts.iter_mut().filter(|mount| mount.is_bind()) {
        let stays = match ns.new_mount {
            true => !kept || asks_for_bind(&spec.mounts[mount.index]),
            false => mount.propagation.iter().any(|asked| asked.kind == PropagationKind::Shared),
        };
        if !stays {
            mount.propagation.insert(0, Propagation { kind: PropagationKind::Slave, recursive: true });
        } else if private && ns.new_mount && mount.propagation.is_empty() {
            mount.propagation.push(Propagation { kind: PropagationKind::Private, recursive: true });
        }
    }
}

fn asks_for_bind(entry: &spec::Mount<'_>) -> bool {
    matches!(entry.kind.as_deref(), Some("bind" | "rbind"))
        || entry.options.iter().any(|word| matches!(options::meaning(word), Some(Meaning::Bind { .. })))
}

/// Plans one entry, which may become several mounts.
#[allow(clippy::too_many_arguments)]
fn one(
    spec: &Spec<'_>,
    host: &HostFacts,
    options: &Options,
    ns: &NamespacesSummary,
    own: &[(PathBuf, PathBuf)],
    index: usize,
    entry: &spec::Mount<'_>,
    planned: &mut Mounts,
) -> Result<()> {
    let pointer = format!("/mounts/{index}");
    let text = match entry.destination.as_deref() {
        None | Some("") => return Err(Error::spec(format!("{pointer}/destination"), "is missing")),
        Some(text) => text,
    };
    no_nul(&format!("{pointer}/destination"), text)?;
    if !text.starts_with('/') {
        planned.notes.push(format!("config.json: {pointer}/destination: {text:?} is relative: taken from /"));
    }
    let destination = RootfsPath::new(text);
    if destination.is_root() {
        return Err(Error::spec(
            format!("{pointer}/destination"),
            "nothing can be mounted on `/`: that is root.path's",
        ));
    }

    let mut words = Words::read(&pointer, entry)?;
    let fstype = entry.kind.as_deref().unwrap_or("");
    no_nul(&format!("{pointer}/type"), fstype)?;
    let source = entry.source.as_deref().filter(|source| !source.is_empty());
    if let Some(source) = source {
        no_nul(&format!("{pointer}/source"), source)?;
    }

    let bind = words.bind.or(match fstype {
        "bind" => Some(false),
        "rbind" => Some(true),
        _ => None,
    });
    let mut mount = Mount::new(index, destination, MountKind::Remount { data: Vec::new(), superblock: Vec::new() });
    (mount.attr, mount.recursive_attr) = (words.attr, words.recursive_attr);
    mount.propagation.clone_from(&words.propagation);

    if words.remount {
        if bind.is_some() {
            refuse_data(&pointer, &words.data)?;
        }
        let data = words.data.into_iter().map(|(_, k, v)| (k, v)).collect();
        // The flags of a bind mount's file system are the host's.
        let superblock = if bind.is_some() { Vec::new() } else { words.superblock };
        mount.kind = MountKind::Remount { data, superblock };
        planned.mounts.push(mount);
        return Ok(());
    }

    if let Some(recursive) = bind {
        words.data.retain(|word| !is_for_engines(&pointer, word, planned));
        let idmap_words = words.idmap_words();
        refuse_data(&pointer, &words.data)?;
        let Some(source) = source else {
            return Err(Error::spec(format!("{pointer}/source"), "a bind mount needs a source"));
        };
        if words.tmpcopyup {
            return Err(Error::spec(pointer, "tmpcopyup is for a tmpfs, not for a bind mount"));
        }
        if !words.superblock.is_empty() {
            let names: Vec<_> = words.superblock.iter().map(|(flag, _)| format!("{flag:?}").to_lowercase()).collect();
            planned.notes.push(format!(
                "config.json: {pointer}/options: {} belongs to a file system, not to a bind mount: ignored",
                names.join(", ")
            ));
        }
        guard_proc(&pointer, &mount.destination, fstype, Some(source))?;
        if recursive && mount.destination.as_path() == Path::new("/sys") && mount.attr.set & attr::RDONLY != 0 {
            // `ro` reaches no mount below, and there the host's cgroups are: a container without a cgroup namespace
            // could write to those that its user owns (CVE-2023-25809).
            mount.recursive_attr.add(attr::RDONLY, 0);
        }
        mount.kind = MountKind::Bind { source: options.bundle.join(source), recursive };
        mount.idmap = match idmap_words {
            Some((i, text)) => {
                Some(Idmap { mapping: idmap_of_words(&format!("{pointer}/options/{i}"), &text)?, recursive })
            }
            None => idmap(spec, ns, &pointer, entry, words.idmap)?,
        };
        planned.mounts.push(mount);
        return Ok(());
    }

    if fstype.is_empty() {
        return Err(Error::spec(format!("{pointer}/type"), "is missing, and the options say neither bind nor rbind"));
    }
    guard_proc(&pointer, &mount.destination, fstype, None)?;
    if words.tmpcopyup && fstype != "tmpfs" {
        return Err(Error::spec(pointer, format!("tmpcopyup is for a tmpfs, not for {fstype}")));
    }
    mount.tmpcopyup = words.tmpcopyup;
    mount.idmap = idmap(spec, ns, &pointer, entry, words.idmap)?;
    let foreign = fstype == "cgroup" || fstype == "sysfs";
    if mount.idmap.as_ref().is_some_and(|idmap| foreign || idmap.mapping == Mapping::Container) {
        // A new file system belongs to the container's user namespace, whose ids are mapped already.
        let what = format!("{fstype} cannot be idmapped so: only a bind mount can, or one with mappings of its own");
        return Err(Error::spec(pointer, what));
    }
    if fstype == "cgroup" {
        return cgroup::plan(host, ns, own, mount, words.rw_asked, planned);
    }
    if fstype == "sysfs" && ns.new_user && !ns.new_net {
        // A sysfs belongs to a network namespace: the kernel gives none to a user namespace that does not own it.
        mount.kind = MountKind::Bind { source: "/sys".into(), recursive: true };
        planned.mounts.push(mount);
        return Ok(());
    }
    let mut data: Vec<_> = words.data.into_iter().map(|(_, key, value)| (key, value)).collect();
    if fstype == "devpts" && ns.new_user {
        data.retain(|(key, value)| key != "gid" || gid_is_mapped(spec, value.as_deref()));
    }
    if let Some(label) = spec.linux.as_ref().and_then(|linux| linux.mount_label.as_deref())
        && !label.is_empty()
        && LABELLED.contains(&fstype)
        && !data.iter().any(|(key, _)| key == "context")
    {
        data.push(("context".into(), Some(label.to_owned())));
    }
    // A disk that cannot be written needs to be told before it is opened; anywhere else the mount alone is read-only.
    if mount.attr.set & attr::RDONLY != 0 && source.is_some_and(|source| source.starts_with("/dev/")) {
        data.insert(0, ("ro".into(), None));
    }
    mount.kind = MountKind::Fs {
        fstype: fstype.to_owned(),
        source: source.map(str::to_owned),
        data,
        superblock: words.superblock,
        otherwise: None,
    };
    planned.mounts.push(mount);
    Ok(())
}

/// The options of one entry, sorted by what they act on.
#[derive(Default)]
struct Words {
    bind: Option<bool>,
    remount: bool,
    tmpcopyup: bool,
    rw_asked: bool,
    idmap: Option<bool>,
    attr: Attr,
    recursive_attr: Attr,
    propagation: Vec<Propagation>,
    superblock: Vec<(Superblock, bool)>,
    /// The option's number, key and value.
    data: Vec<(usize, String, Option<String>)>,
}

impl Words {
    /// `idmap=...`, taken out of the words of a file system.
    fn idmap_words(&mut self) -> Option<(usize, String)> {
        let at = self.data.iter().position(|(_, key, value)| key == "idmap" && value.is_some())?;
        let (i, _, value) = self.data.remove(at);
        value.map(|value| (i, value))
    }

    fn read(pointer: &str, entry: &spec::Mount<'_>) -> Result<Words> {
        let mut words = Words::default();
        for (i, word) in entry.options.iter().enumerate() {
            no_nul(&format!("{pointer}/options/{i}"), word)?;
            match options::meaning(word) {
                Some(Meaning::Nothing) => {}
                Some(Meaning::Bind { recursive }) => words.bind = Some(words.bind.unwrap_or(false) || recursive),
                Some(Meaning::Attr { set, clear, recursive: false }) => {
                    words.attr.add(set, clear);
                    match &**word {
                        "rw" => words.rw_asked = true,
                        "ro" => words.rw_asked = false,
                        _ => {}
                    }
                }
                Some(Meaning::Attr { set, clear, recursive: true }) => words.recursive_attr.add(set, clear),
                Some(Meaning::Superblock(flag, on)) => {
                    words.superblock.retain(|(other, _)| *other != flag);
                    words.superblock.push((flag, on));
                }
                Some(Meaning::Propagation(propagation)) => words.propagation.push(propagation),
                Some(Meaning::Remount) => words.remount = true,
                Some(Meaning::TmpCopyUp) => words.tmpcopyup = true,
                Some(Meaning::Idmap { recursive }) => words.idmap = Some(recursive),
                None => words.data.extend(data(word).map(|(key, value)| (i, key, value))),
            }
        }
        Ok(words)
    }
}

/// crun's way to write the mappings of a bind: `idmap=uids=FROM-TO-SIZE#...;gids=FROM-TO-SIZE#...`.
fn idmap_of_words(pointer: &str, text: &str) -> Result<Mapping> {
    let wrong = |what: &str| Error::spec(pointer, what).hint("as in idmap=uids=0-100000-65536;gids=0-100000-65536");
    let (mut uid, mut gid) = (None, None);
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (kind, list) = part.split_once('=').ok_or_else(|| wrong("idmap takes uids= and gids="))?;
        let one = |triple: &str| {
            let numbers: Option<Vec<u32>> = triple.split('-').map(|number| number.parse().ok()).collect();
            match numbers.as_deref() {
                Some(&[container_id, host_id, size]) => {
                    Ok(IdMapping { container_id, host_id, size, ..Default::default() })
                }
                _ => Err(wrong("idmap takes triples of numbers, each FROM-TO-SIZE")),
            }
        };
        let list = list.split('#').map(one).collect::<Result<Vec<_>>>()?;
        let place = match kind {
            "uids" => &mut uid,
            "gids" => &mut gid,
            _ => return Err(wrong("idmap takes uids= and gids=")),
        };
        *place = Some(lines(pointer, &list)?);
    }
    match (uid, gid) {
        (Some(uid), Some(gid)) => Ok(Mapping::Own { uid, gid }),
        _ => Err(wrong("users and groups are mapped together")),
    }
}

/// The options of a file system that one word carries: mount(2) takes them all in one string, so there can be several,
/// as in "size=1m,mode=700". A comma in quotes or behind a backslash belongs to the value, and so do all quotes but those
/// around a label, which the kernel takes away from mount(2)'s string only.
fn data(word: &str) -> impl Iterator<Item = (String, Option<String>)> + '_ {
    let (mut quoted, mut escaped) = (false, false);
    let parts = word.split(move |c| {
        let ends = c == ',' && !quoted && !escaped;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    parts.filter(|part| !part.is_empty()).map(|part| match part.split_once('=') {
        Some((key, value)) if key.ends_with("context") => (key.to_owned(), Some(value.trim_matches('"').to_owned())),
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (part.to_owned(), None),
    })
}

/// Words of engines' own volumes, which they have dealt with themselves and leave in the list of a bind (podman before 5.5,
/// buildah before 1.40).
const ENGINES: [&str; 7] = ["z", "Z", "U", "copy", "nocopy", "O", "chown"];
/// Options that a new file system would take, and a bind has none.
const OF_A_FILE_SYSTEM: [&str; 6] = ["mode", "uid", "gid", "size", "nr_inodes", "nr_blocks"];

/// Whether such a word stands on a bind for nothing.
pub fn is_left_out_of_a_bind(word: &str) -> bool {
    word.split_once('=').map_or_else(|| is_left_out(word, false), |(key, _)| is_left_out(key, true))
}

fn is_left_out(key: &str, has_value: bool) -> bool {
    ENGINES.contains(&key) && !has_value || OF_A_FILE_SYSTEM.contains(&key)
}

/// Whether a word of a bind means nothing to the kernel, and is left out: with a warning where it was meant to do something.
fn is_for_engines(pointer: &str, (i, key, value): &(usize, String, Option<String>), planned: &mut Mounts) -> bool {
    let at = || format!("config.json: {pointer}/options/{i}: {key:?}");
    let left_out = is_left_out(key, value.is_some());
    if left_out && ENGINES.contains(&key.as_str()) {
        planned.asides.push(format!("{} is a word of engines, ignored", at()));
    } else if left_out {
        planned.notes.push(format!("{} belongs to a file system, not to a bind mount: ignored", at()));
    }
    left_out
}

/// A bind mount has no options of its own file system: a word that nobody knows is a mistake.
fn refuse_data(pointer: &str, data: &[(usize, String, Option<String>)]) -> Result<()> {
    let Some((i, key, _)) = data.first() else { return Ok(()) };
    let error = Error::spec(
        format!("{pointer}/options/{i}"),
        format!("{key:?} is no option of a bind mount, whose file system is mounted already"),
    );
    if options::meaning(key).is_some() {
        return Err(error.hint("several words stand in one element of the list: each is an element of its own"));
    }
    Err(match spec::json::nearest(key, OPTIONS.iter().map(|(name, _)| *name)) {
        Some(name) => error.hint(format!("the nearest known option is {name:?}")),
        None => error,
    })
}

/// What may lie on and below /proc.
fn guard_proc(pointer: &str, destination: &RootfsPath, fstype: &str, bind: Option<&str>) -> Result<()> {
    if !destination.is_in("/proc") {
        return Ok(());
    }
    let below = destination.as_path().strip_prefix("/proc").unwrap_or(Path::new(""));
    if below.as_os_str().is_empty() {
        // Whether a bind's source is a procfs is seen when it is opened.
        if bind.is_some() || fstype == "proc" {
            return Ok(());
        }
        return Err(Error::spec(
            format!("{pointer}/destination"),
            format!("{fstype} cannot be mounted on /proc: labels and limits are set by it"),
        ));
    }
    if PROC_FILES.iter().any(|file| below == Path::new(file)) {
        return Ok(());
    }
    Err(Error::spec(format!("{pointer}/destination"), format!("nothing can be mounted on {destination}"))
        .hint(format!("below /proc only {} can be replaced", PROC_FILES.join(", "))))
}

/// Whether and how ids are mapped: by the entry's own mappings, else as the container's user namespace maps them.
fn idmap(
    spec: &Spec<'_>,
    ns: &NamespacesSummary,
    pointer: &str,
    entry: &spec::Mount<'_>,
    asked: Option<bool>,
) -> Result<Option<Idmap>> {
    let (uids, gids) = (&entry.uid_mappings[..], &entry.gid_mappings[..]);
    let given = !uids.is_empty() || !gids.is_empty();
    if asked.is_none() && !given {
        return Ok(None);
    }
    let recursive = asked.unwrap_or(false);
    if !given {
        if !ns.new_user {
            return Err(Error::spec(
                pointer,
                "an idmapped mount needs uidMappings and gidMappings, or a user namespace",
            )
            .hint("without mappings of its own it gets those of the container's user namespace"));
        }
        return Ok(Some(Idmap { mapping: Mapping::Container, recursive }));
    }
    for (name, list) in [("uidMappings", uids), ("gidMappings", gids)] {
        if list.is_empty() {
            return Err(Error::spec(format!("{pointer}/{name}"), "missing: users and groups are mapped together"));
        }
    }
    let same = |a: &[IdMapping<'_>], b: &[IdMapping<'_>]| {
        let key = |m: &IdMapping<'_>| (m.container_id, m.host_id, m.size);
        a.iter().map(key).eq(b.iter().map(key))
    };
    let containers =
        ns.new_user && spec.linux.as_ref().is_some_and(|l| same(uids, &l.uid_mappings) && same(gids, &l.gid_mappings));
    let mapping = if containers {
        Mapping::Container
    } else {
        let uid = lines(&format!("{pointer}/uidMappings"), uids)?;
        Mapping::Own { uid, gid: lines(&format!("{pointer}/gidMappings"), gids)? }
    };
    Ok(Some(Idmap { mapping, recursive }))
}

/// Whether the value of devpts's `gid` exists in the container. Without a map here the namespace is joined: the kernel
/// will tell.
fn gid_is_mapped(spec: &Spec<'_>, gid: Option<&str>) -> bool {
    let Some(gid) = gid.and_then(|gid| gid.parse::<u64>().ok()) else { return true };
    let Some(map) = spec.linux.as_ref().map(|linux| &linux.gid_mappings).filter(|map| !map.is_empty()) else {
        return true;
    };
    map.iter().any(|m| gid >= u64::from(m.container_id) && gid - u64::from(m.container_id) < u64::from(m.size))
}

/// A tmpfs that is asked to be read-only must still take what comes later, and so must what is remounted: mount points in
/// it, links, devices.
fn put_readonly_last(mounts: &mut [Mount]) {
    // Of those that come later; what lies in a directory follows it in the order of paths.
    let mut later: BTreeSet<RootfsPath> = BTreeSet::new();
    let in_order = mounts.iter().any(|mount| mount.attr.set & attr::RDONLY != 0 && !mount.is_bind());
    for i in (0..mounts.len()).rev() {
        let within = |path: &RootfsPath| {
            later.range(path.clone()..).next().is_some_and(|first| first.as_path().starts_with(path.as_path()))
        };
        let has_later = in_order && within(&mounts[i].destination);
        if in_order {
            later.insert(mounts[i].destination.clone());
        }
        if mounts[i].attr.set & attr::RDONLY == 0 {
            continue;
        }
        let takes = match &mounts[i].kind {
            MountKind::Fs { fstype, .. } => fstype == "tmpfs",
            MountKind::Remount { .. } => true,
            MountKind::Bind { .. } => continue,
        };
        let is_dev = mounts[i].destination.as_path() == Path::new("/dev");
        mounts[i].readonly_last |= takes && has_later || mounts[i].tmpcopyup || !mounts[i].links.is_empty() || is_dev;
    }
}

#[cfg(test)]
mod tests;
