//! What this host is: facts that a plan depends on, read once, only those that the config needs.
//!
//! [`HostFacts`] is plain data, so that [`crate::plan`] stays pure and its tests can make any host up.

use std::path::PathBuf;

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Effective user id of hull, as its own user namespace has it.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// hull runs in a user namespace that is not the initial one.
    pub in_user_namespace: bool,
    /// hull's bounding capability set, by bit.
    pub bounding: u64,
    /// The kernel's last capability.
    pub last_cap: u32,
    /// Cgroups of this host.
    pub cgroup: CgroupFacts,
    /// AppArmor is on.
    pub apparmor: bool,
    /// SELinux is on.
    pub selinux: bool,
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
    /// Controllers of the v2 root (cgroup.controllers).
    pub v2_controllers: Vec<String>,
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
