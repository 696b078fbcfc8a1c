//! What this host is: facts that a plan depends on, read once, only those that the config needs.
//!
//! [`HostFacts`] is plain data, so that [`crate::plan`] stays pure and its tests can make any host up.

use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::bytes;
use crate::error::{ErrAt, Result, Step};
use crate::spec::{Spec, Str};

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// Effective user id of hull, as its own user namespace has it.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// hull runs in a user namespace that is not the initial one.
    pub in_user_namespace: bool,
    /// AUDIT_ARCH_* of this machine.
    pub audit_arch: u32,
    /// hull's bounding capability set, by bit.
    pub bounding: u64,
    /// The kernel's last capability.
    pub last_cap: u32,
    /// The signals that hull ignores, bit 0 for signal 1: execve(2) would keep them ignored.
    pub ignored_signals: u64,
    /// Cgroups of this host.
    pub cgroup: CgroupFacts,
    /// AppArmor is on.
    pub apparmor: bool,
    /// SELinux is on.
    pub selinux: bool,
    /// The version of Landlock, if the config asks for it; 0 where there is none.
    pub landlock: u32,
    /// The resctrl file system, if the config asks for it and one is mounted.
    pub resctrl: Option<Resctrl>,
}

/// Where resctrl is mounted, and which classes of service it has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resctrl {
    /// Its mount point.
    pub mount: PathBuf,
    /// The names of its directories, some of which are no classes.
    pub classes: Vec<String>,
}

impl Resctrl {
    /// Looks for the mount; None where there is none.
    fn probe() -> Result<Option<Resctrl>> {
        let table = std::fs::read("/proc/self/mountinfo").err_at(
            Step::Resctrl,
            "open",
            || "find the resctrl mount in /proc/self/mountinfo",
        )?;
        let Some(mount) = Resctrl::mount_point(&table) else { return Ok(None) };
        let subject = || format!("list the classes of {}", crate::error::show(&mount));
        let names = crate::sys::listing::names(&mount).err_at(Step::Resctrl, "getdents64", subject)?;
        let classes = names.into_iter().filter(|(_, kind)| kind.is_dir()).map(|(name, _)| name).collect();
        Ok(Some(Resctrl { mount, classes }))
    }

    fn mount_point(mountinfo: &[u8]) -> Option<PathBuf> {
        bytes::mounts(mountinfo).find(|mount| mount.fstype == b"resctrl").map(|mount| mount.at())
    }
}

/// The cgroup tree of this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupFacts {
    /// v1, v2 or both.
    pub mode: CgroupMode,
    /// Where cgroup2 is mounted.
    pub v2_mount: Option<PathBuf>,
    /// v1 hierarchies that are mounted.
    pub v1: Vec<V1Hierarchy>,
    /// hull's own cgroup in the v2 hierarchy, from /proc/self/cgroup.
    pub own_v2: PathBuf,
    /// An ordinary user may make cgroups beside hull's own, and move processes there: a v2 tree was delegated to him.
    pub delegated: bool,
    /// The root of the cgroups of the systemd that hull asks, the system's or the user's; empty when none is asked.
    pub manager_root: PathBuf,
}

/// One mounted v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1Hierarchy {
    /// Its controllers, or `name=systemd`.
    pub controllers: Vec<String>,
    /// Its mount point.
    pub mount: PathBuf,
    /// hull's own cgroup in it.
    pub own: PathBuf,
}

/// How this host mounts cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupMode {
    /// cgroup2 at /sys/fs/cgroup.
    V2,
    /// v1 hierarchies, cgroup2 beside them or not.
    V1,
    /// v1 hierarchies and cgroup2 at /sys/fs/cgroup/unified.
    Hybrid,
    /// Nothing is mounted.
    #[default]
    None,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupManager {
    /// hull, by the file system.
    #[default]
    Cgroupfs,
    /// systemd, by D-Bus.
    Systemd,
    /// Nobody: no cgroup is made.
    Disabled,
}

#[cfg(test)]
impl HostFacts {
    /// Root of a host with these cgroups, of which a test makes what it is about: every capability, no security module.
    pub fn of_root(cgroup: CgroupFacts) -> HostFacts {
        HostFacts { bounding: u64::MAX, last_cap: 40, cgroup, ..HostFacts::default() }
    }
}

impl HostFacts {
    /// Reads what the config's plan depends on, and no more.
    pub fn probe(spec: &Spec<'_>) -> Result<HostFacts> {
        let resctrl = spec.linux.as_ref().is_some_and(|linux| linux.intel_rdt.is_some());
        let mut facts = HostFacts {
            cgroup: CgroupFacts::probe()?,
            resctrl: if resctrl { Resctrl::probe()? } else { None },
            ..HostFacts::of_process(spec)?
        };
        facts.cgroup.delegated = facts.rootless() && facts.cgroup.may_make_others();
        Ok(facts)
    }

    /// Reads what the process alone depends on: for exec, whose cgroups are there already.
    pub fn of_process(spec: &Spec<'_>) -> Result<HostFacts> {
        let last_cap = last_capability()?;
        let (bounding, ignored_signals) = match of_status() {
            Some((bounding, ignored)) => (bounding & (u64::MAX >> (63 - last_cap)), ignored),
            None => (bounding_set(last_cap)?, u64::MAX),
        };
        let asks_for = |text: &Option<Str<'_>>| text.as_deref().is_some_and(|text| !text.is_empty());
        let process = spec.process.as_ref();
        Ok(HostFacts {
            euid: rustix::process::geteuid().as_raw(),
            egid: rustix::process::getegid().as_raw(),
            in_user_namespace: in_user_namespace(),
            audit_arch: crate::sys::arch::AUDIT_ARCH,
            bounding,
            last_cap,
            ignored_signals,
            cgroup: CgroupFacts::default(),
            apparmor: process.is_some_and(|p| asks_for(&p.apparmor_profile)) && apparmor_enabled(),
            selinux: (process.is_some_and(|p| asks_for(&p.selinux_label))
                || spec.linux.as_ref().is_some_and(|l| asks_for(&l.mount_label)))
                && Path::new("/sys/fs/selinux/enforce").exists(),
            landlock: if spec.asks_for_landlock() { crate::sys::landlock::abi().unwrap_or(0) } else { 0 },
            resctrl: None,
        })
    }

    /// The same for a plan with this driver of cgroups: systemd's has its own root of them.
    pub fn probe_for(spec: &Spec<'_>, manager: CgroupManager) -> Result<HostFacts> {
        let mut facts = HostFacts::probe(spec)?;
        if manager == CgroupManager::Systemd {
            facts.probe_systemd()?;
        }
        Ok(facts)
    }

    /// Finds the root of the cgroups of the systemd that will be asked.
    fn probe_systemd(&mut self) -> Result<()> {
        let read = |path: &str| {
            std::fs::read(path).err_at(Step::Cgroup, "open", || format!("find systemd's cgroup in {path}"))
        };
        let systemd_path = |table: &[u8]| {
            let v1 = self.cgroup.v1.iter().any(|hierarchy| hierarchy.controllers == ["name=systemd"]);
            own_path(table, if v1 { &["name=systemd"] } else { &[] })
        };
        self.cgroup.manager_root = if self.rootless() {
            let uid = outside_id(&String::from_utf8_lossy(&read("/proc/self/uid_map")?), self.euid);
            user_manager_root(&systemd_path(&read("/proc/self/cgroup")?), uid)
        } else {
            // Process 1 is in init.scope below the root: in a container without a cgroup namespace that is not "/".
            let own = systemd_path(&read("/proc/1/cgroup")?);
            if own.ends_with("init.scope") { own.parent().unwrap_or(&own).to_owned() } else { "/".into() }
        };
        Ok(())
    }

    /// Whether hull lacks the privileges of the host's root: it is not root, or root of a user namespace only.
    pub fn rootless(&self) -> bool {
        self.euid != 0 || self.in_user_namespace
    }
}

/// Whether hull runs in a user namespace other than the initial one, which alone maps all ids to themselves
/// (user_namespaces(7)).
pub fn in_user_namespace() -> bool {
    // Without the file the kernel knows no user namespaces.
    bytes::text("/proc/self/uid_map").is_ok_and(|map| !maps_all(&map))
}

fn maps_all(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// The bounding set and the ignored signals by one read of proc_pid_status(5), where a call each would be a hundred; None
/// where it does not say both.
fn of_status() -> Option<(u64, u64)> {
    let status = bytes::read("/proc/self/status").ok()?;
    let bits = |name: &[u8]| {
        let line = bytes::lines(&status).find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(std::str::from_utf8(line).ok()?.trim(), 16).ok()
    };
    Some((bits(b"CapBnd:")?, bits(b"SigIgn:")?))
}

/// The last capability that the kernel knows. A call that fails must not pass for the end of the list: what is above it
/// would stay in the container's bounding set.
fn last_capability() -> Result<u32> {
    // CAP_CHECKPOINT_RESTORE, the last one from Linux 5.9 on.
    let mut last = 40;
    while last < 63 && in_bounding(last + 1)?.is_some() {
        last += 1;
    }
    while last > 0 && in_bounding(last)?.is_none() {
        last -= 1;
    }
    Ok(last)
}

fn bounding_set(last_cap: u32) -> Result<u64> {
    (0..=last_cap).try_fold(0, |set, capability| {
        let has = in_bounding(capability)? == Some(true);
        Ok(set | u64::from(has) << capability)
    })
}

/// None for a capability that the kernel does not know.
fn in_bounding(capability: u32) -> Result<Option<bool>> {
    crate::sys::process::in_bounding(capability)
        .err_at(Step::Process, "prctl(PR_CAPBSET_READ)", || format!("look for capability {capability}"))
}

fn apparmor_enabled() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// The magic of cgroup2 (statfs(2)).
const CGROUP2_SUPER_MAGIC: rustix::fs::FsWord = 0x6367_7270;

impl CgroupFacts {
    /// Finds the cgroup tree: one statfs where it is v2 only, else the mount table.
    pub fn probe() -> Result<CgroupFacts> {
        let magic = rustix::fs::statfs(CGROUP_ROOT).map(|fs| fs.f_type);
        let own = bytes::read("/proc/self/cgroup").err_at(
            Step::Cgroup,
            "open",
            || "find hull's own cgroup in /proc/self/cgroup",
        )?;
        if magic == Ok(CGROUP2_SUPER_MAGIC) {
            return Ok(CgroupFacts {
                mode: CgroupMode::V2,
                v2_mount: Some(CGROUP_ROOT.into()),
                v1: Vec::new(),
                own_v2: own_path(&own, &[]),
                delegated: false,
                manager_root: PathBuf::new(),
            });
        }
        let table = std::fs::read("/proc/self/mountinfo").err_at(
            Step::Cgroup,
            "open",
            || "find the cgroup mounts in /proc/self/mountinfo",
        )?;
        Ok(CgroupFacts::parse(&table, &own))
    }

    /// Whether the caller may do beside its own cgroup what delegation allows (cgroups(7)): make directories, and move
    /// processes, for which the common ancestor's cgroup.procs must be writable.
    fn may_make_others(&self) -> bool {
        let (Some(mount), CgroupMode::V2) = (&self.v2_mount, self.mode) else { return false };
        // Seen from a cgroup namespace that it is not in, a process's cgroup begins with "/..".
        if self.own_v2.components().any(|part| part == std::path::Component::ParentDir) {
            return false;
        }
        let parent = self.own_v2.parent().unwrap_or(Path::new("/"));
        let parent = mount.join(parent.strip_prefix("/").unwrap_or(parent));
        let writable = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
        writable(&parent) && writable(&parent.join("cgroup.procs"))
    }

    /// From the texts of /proc/self/mountinfo and /proc/self/cgroup.
    fn parse(mountinfo: &[u8], own: &[u8]) -> CgroupFacts {
        let mut facts = CgroupFacts::default();
        for mount in bytes::mounts(mountinfo).filter(|mount| mount.fstype.starts_with(b"cgroup")) {
            let at = mount.at();
            if !at.starts_with(CGROUP_ROOT) {
                continue;
            }
            match mount.fstype {
                b"cgroup2" if facts.v2_mount.is_none() => {
                    facts.v2_mount = Some(at);
                    facts.own_v2 = own_path(own, &[]);
                }
                b"cgroup" => {
                    let options = String::from_utf8_lossy(mount.super_options);
                    let names: Vec<String> =
                        options.split(',').filter(|word| is_controller(word)).map(str::to_owned).collect();
                    if !names.is_empty() && !facts.v1.iter().any(|known| known.controllers == names) {
                        let own = own_path(own, &[&names[0]]);
                        facts.v1.push(V1Hierarchy { controllers: names, mount: at, own });
                    }
                }
                _ => {}
            }
        }
        facts.mode = match (facts.v1.is_empty(), facts.v2_mount.is_some()) {
            (true, true) => CgroupMode::V2,
            (true, false) => CgroupMode::None,
            (false, true) => CgroupMode::Hybrid,
            (false, false) => CgroupMode::V1,
        };
        facts
    }
}

/// Whether a mount option of a v1 hierarchy names a controller.
fn is_controller(word: &str) -> bool {
    word.starts_with("name=")
        || !matches!(
            word,
            "rw" | "ro" | "xattr" | "clone_children" | "noprefix" | "none" | "cpuset_v2_mode" | "favordynmods"
        ) && !word.starts_with("release_agent=")
}

/// hull's own cgroup in the hierarchy with a controller; the v2 one has none.
fn own_path(table: &[u8], controllers: &[&str]) -> PathBuf {
    bytes::cgroup(table, controllers).unwrap_or(Path::new("/")).to_owned()
}

/// The root of the cgroups of the user's manager: named in hull's own cgroup where hull runs below it, else where logind
/// puts it.
fn user_manager_root(own: &Path, uid: u32) -> PathBuf {
    let is_manager = |name: &str| name.starts_with("user@") && name.ends_with(".service");
    let mut root = PathBuf::new();
    for component in own.components() {
        root.push(component);
        if component.as_os_str().to_str().is_some_and(is_manager) {
            return root;
        }
    }
    PathBuf::from(format!("/user.slice/user-{uid}.slice/user@{uid}.service"))
}

/// What the user of a user namespace is outside of it, by the text of its map (user_namespaces(7)).
fn outside_id(map: &str, id: u32) -> u32 {
    map.lines()
        .filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
        })
        .find_map(|(inside, outside, count)| {
            let offset = id.checked_sub(inside).filter(|offset| *offset < count)?;
            outside.checked_add(offset)
        })
        .unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_read_says_what_a_call_for_each_would() {
        let last = last_capability().unwrap();
        assert_eq!(in_bounding(last + 1).unwrap(), None);
        let (bounding, ignored) = of_status().unwrap();
        assert_eq!(bounding & (u64::MAX >> (63 - last)), bounding_set(last).unwrap());
        // Rust's test program ignores SIGPIPE, which is 13.
        assert_eq!(ignored >> 12 & 1, 1);
    }

    #[test]
    fn the_users_manager() {
        let own = "/user.slice/user-7.slice/user@7.service/app.slice/x.scope";
        assert_eq!(user_manager_root(Path::new(own), 9), Path::new("/user.slice/user-7.slice/user@7.service"));
        let session = "/user.slice/user-7.slice/session-3.scope";
        assert_eq!(user_manager_root(Path::new(session), 7), Path::new("/user.slice/user-7.slice/user@7.service"));
    }

    #[test]
    fn ids_outside() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!([0, 1, 65536, 70000].map(|id| outside_id(map, id)), [1000, 100_000, 165_535, 70_000]);
        assert_eq!(outside_id("0 0 4294967295\n", 7), 7);
    }

    #[test]
    fn resctrl_is_found_by_its_type() {
        let mountinfo =
            b"31 23 0:28 / /resctrl rw - tmpfs tmpfs rw\n32 31 0:29 / /sys/fs/resctrl rw - resctrl none rw\n";
        assert_eq!(Resctrl::mount_point(mountinfo), Some("/sys/fs/resctrl".into()));
        assert_eq!(Resctrl::mount_point(b"31 23 0:28 / /resctrl rw - tmpfs resctrl rw\n"), None);
    }

    #[test]
    fn a_hybrid_host() {
        let mountinfo = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                         32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                         40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                         41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let facts = CgroupFacts::parse(mountinfo, b"3:name=systemd:/s\n2:cpu,cpuacct:/a\n0::/u\n");
        assert_eq!(facts.mode, CgroupMode::Hybrid);
        assert_eq!((facts.v1[0].own.as_path(), facts.v1[1].own.as_path()), (Path::new("/a"), Path::new("/s")));
        assert_eq!(
            (facts.own_v2.as_path(), facts.v2_mount.as_deref()),
            (Path::new("/u"), Some(Path::new("/sys/fs/cgroup/unified")))
        );
    }

    #[test]
    fn only_the_initial_namespace_maps_all() {
        assert!(maps_all("         0          0 4294967295\n"));
        assert!(!maps_all("         0       1000          1\n         1     100000      65536\n"));
        assert!(!maps_all("         0          0      65536\n"));
    }
}
