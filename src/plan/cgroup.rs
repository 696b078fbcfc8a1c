//! Cgroups (cgroups(7)): where the container is in each hierarchy, and what is written there.
//!
//! A limit is planned as the very file and value that will be written, by the rules of the hierarchy that has its
//! controller. What v1 and v2 name differently is converted in `limits.rs`; device rules are normalised in `devices.rs`.

use std::path::{Component, Path, PathBuf};

use super::options::Options;
use crate::error::{Error, Result};
use crate::host::{CgroupManager, CgroupMode, HostFacts};
use crate::spec;

pub mod devices;
mod limits;
pub mod systemd;

pub use devices::DeviceRules;
pub use limits::{TCP_BUFFERS, instead, is_no_limit};

/// A hierarchy in which the container has a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The cgroup beneath it, without a leading slash.
    pub path: PathBuf,
    /// Controllers of a v1 hierarchy; empty for v2.
    pub controllers: Vec<String>,
    /// cgroup2.
    pub v2: bool,
}

impl Tree {
    /// One that exists.
    pub fn at(directory: PathBuf, controllers: Vec<String>, v2: bool) -> Tree {
        Tree { mount: directory, path: PathBuf::new(), controllers, v2 }
    }

    /// The cgroup's directory.
    pub fn directory(&self) -> PathBuf {
        // Joining an empty path would add a slash.
        if self.path.as_os_str().is_empty() { self.mount.clone() } else { self.mount.join(&self.path) }
    }
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The hierarchy, by its place in [`Cgroup::trees`].
    pub tree: usize,
    /// The controller that has the file.
    pub controller: String,
    /// The file's name.
    pub file: String,
    /// What is written.
    pub value: String,
    /// What asked for it.
    pub pointer: String,
    /// The value may not be below what this file says (checkBeforeUpdate).
    pub not_below: Option<&'static str>,
}

/// The container's cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// One for each hierarchy; empty: the container has none of its own.
    pub trees: Vec<Tree>,
    /// The unit that systemd makes for it.
    pub unit: Option<systemd::Unit>,
    /// v2 controllers that the limits need.
    pub enable: Vec<String>,
    /// Limits, in the order in which they are written.
    pub writes: Vec<Write>,
    /// Device rules; None where they cannot be had (no cgroup, a user namespace of hull's caller).
    pub devices: Option<DeviceRules>,
    /// The host's user who gets the v2 cgroup, to make others below it (config-linux.md#cgroup-ownership).
    pub owner: Option<u32>,
    /// Errors of making and joining are forgiven, as runc's --rootless does, while no limit is asked for.
    pub forgiving: bool,
    /// What is worth a warning.
    pub notes: Vec<String>,
}

impl Cgroup {
    /// From /linux/cgroupsPath and /linux/resources, with systemd from the annotations too.
    pub fn new(spec: &spec::Spec<'_>, host: &HostFacts, options: &Options) -> Result<Cgroup> {
        let linux = spec.linux.as_ref();
        let mut notes = Vec::new();
        let path = linux.and_then(|l| l.cgroups_path.as_deref()).filter(|path| !path.is_empty());
        if path.is_some_and(|path| path.contains('\0')) {
            return Err(Error::spec("/linux/cgroupsPath", "holds a NUL byte"));
        }
        let resources = linux.and_then(|l| l.resources.as_ref());
        let rootless = options.rootless.unwrap_or_else(|| host.rootless());
        let unit = match options.cgroup_manager {
            CgroupManager::Systemd => Some(systemd::Unit::new(path, &spec.annotations, host, &options.id)?),
            _ => None,
        };
        let trees = match options.cgroup_manager {
            CgroupManager::Disabled => Vec::new(),
            CgroupManager::Systemd => unit.iter().flat_map(|unit| systemd::trees(unit, host)).collect(),
            // Nobody but the host's root may write outside of what was delegated.
            CgroupManager::Cgroupfs if rootless && path.is_none() && !host.cgroup.delegated => Vec::new(),
            CgroupManager::Cgroupfs => trees(path, host, options),
        };
        let (writes, enable) = match resources {
            None => (Vec::new(), Vec::new()),
            Some(resources) => {
                let zero = limits::ZeroPids::of(spec.oci_version.as_deref().unwrap_or_default());
                limits::plan(resources, zero, &trees, host, &mut notes)?
            }
        };
        let rules = DeviceRules::new(resources.map(|r| &r.devices[..]).unwrap_or_default(), &mut notes)?;
        let devices = (!trees.is_empty() && !host.in_user_namespace && host.euid == 0).then_some(rules);
        devices.as_ref().map_or(Ok(()), |rules| can_hold(rules, &trees))?;
        // A path that was asked for is no guess, and an error there one that runc has, too.
        let forgiving = rootless && path.is_none() && writes.is_empty();
        let owner = owner(spec).filter(|uid| *uid != host.euid && trees.iter().all(|tree| tree.v2));
        Ok(Cgroup { trees, unit, enable, writes, devices, owner, forgiving, notes })
    }

    /// The limits of a container that exists, whose cgroups are `trees`, from a document of its own: what is not
    /// in it is left alone, device rules always.
    pub fn update(resources: &spec::Resources<'_>, trees: Vec<Tree>, host: &HostFacts) -> Result<Cgroup> {
        let mut notes = Vec::new();
        let (mut writes, enable) =
            limits::plan(resources, limits::ZeroPids::One, &trees, host, &mut notes).map_err(|mut error| {
                error.subject = of_update(&error.subject);
                error
            })?;
        for write in &mut writes {
            write.pointer = write.pointer.replacen("/linux/resources", "", 1);
        }
        let notes = notes.iter().map(|note| of_update(note)).collect();
        Ok(Cgroup { trees, unit: None, enable, writes, devices: None, owner: None, forgiving: false, notes })
    }

    /// Whether init must be put into its cgroups after the clone: every v1 hierarchy asks for it, and systemd.
    pub fn joined_by_write(&self) -> bool {
        self.unit.is_some() || self.trees.iter().any(|tree| !tree.v2)
    }

    /// The container's own path in each hierarchy, by the hierarchy's mount point.
    pub fn own(&self) -> Vec<(PathBuf, PathBuf)> {
        self.trees.iter().map(|tree| (tree.mount.clone(), Path::new("/").join(&tree.path))).collect()
    }

    /// The cgroups' directories.
    pub fn directories(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.trees.iter().map(Tree::directory)
    }

    /// File, value and JSON pointer of each limit.
    pub fn limits(&self) -> impl Iterator<Item = (&str, &str, &str)> + '_ {
        self.writes.iter().map(|write| (write.file.as_str(), write.value.as_str(), write.pointer.as_str()))
    }

    /// How many device rules there are.
    pub fn device_rules(&self) -> Option<usize> {
        self.devices.as_ref().map(|rules| rules.exceptions.len())
    }
}

/// The v1 controller holds device rules where it is mounted, a program of cgroup v2 elsewhere.
fn can_hold(rules: &DeviceRules, trees: &[Tree]) -> Result<()> {
    if trees.iter().any(|tree| tree.controllers.iter().any(|name| name == "devices")) {
        return rules.check_v1();
    }
    if rules.deny_something() && !trees.iter().any(|tree| tree.v2) {
        return Err(Error::spec(
            "/linux/resources/devices",
            "cannot be held: this host mounts neither cgroup v2 nor v1's devices controller",
        ));
    }
    Ok(())
}

/// The limits' sentences are about config.json; those of an update come from another document, with the same pointers.
fn of_update(sentence: &str) -> String {
    sentence.replacen("config.json: /linux/resources", "resources: ", 1)
}

/// The program's user, as the host numbers it, if it can see and write its cgroup: in a cgroup namespace of its own, with
/// cgroups mounted for writing.
fn owner(spec: &spec::Spec<'_>) -> Option<u32> {
    let linux = spec.linux.as_ref()?;
    let own = linux.namespaces.iter().any(|ns| ns.kind.as_deref() == Some("cgroup") && ns.path.is_none());
    let is_cgroup = |kind: &Option<spec::Str<'_>>| matches!(kind.as_deref(), Some("cgroup" | "cgroup2"));
    let writable = spec
        .mounts
        .iter()
        .any(|mount| is_cgroup(&mount.kind) && !mount.options.iter().any(|option| matches!(&**option, "ro" | "rro")));
    let uid: u32 = spec.process.as_ref().and_then(|process| process.user.as_ref()).map_or(0, |user| user.uid);
    let mapping =
        linux.uid_mappings.iter().find(|map| uid.checked_sub(map.container_id).is_some_and(|at| at < map.size))?;
    (own && writable).then(|| mapping.host_id + (uid - mapping.container_id))
}

fn trees(path: Option<&str>, host: &HostFacts, options: &Options) -> Vec<Tree> {
    let facts = &host.cgroup;
    let mut trees: Vec<Tree> = facts
        .v1
        .iter()
        .map(|hierarchy| Tree {
            mount: hierarchy.mount.clone(),
            path: place(path, &hierarchy.own, &options.id),
            controllers: hierarchy.controllers.clone(),
            v2: false,
        })
        .collect();
    if let (Some(mount), CgroupMode::V2 | CgroupMode::Hybrid) = (&facts.v2_mount, facts.mode) {
        // A v2 cgroup with processes gives its children no controllers, so the container's lies beside hull's own.
        let beside = facts.own_v2.parent().unwrap_or(Path::new("/"));
        trees.push(Tree {
            mount: mount.clone(),
            path: place(path, beside, &options.id),
            controllers: Vec::new(),
            v2: true,
        });
    }
    trees
}

/// An absolute path counts from the hierarchy's root, a relative one and the default (the id) from `base`.
fn place(path: Option<&str>, base: &Path, id: &str) -> PathBuf {
    match path {
        Some(path) if path.starts_with('/') => clean(Path::new(path)),
        path => clean(&base.join(path.unwrap_or(id))),
    }
}

/// Without `.` and `..`, which never lead out of the hierarchy.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_the_hierarchy() {
        assert_eq!(clean(Path::new("/a/../../../etc")), Path::new("etc"));
        assert_eq!(place(Some("a.slice:b:c"), Path::new("/own"), "id"), Path::new("own/a.slice:b:c"));
        assert_eq!(place(Some("/x/y"), Path::new("/own"), "id"), Path::new("x/y"));
        assert_eq!(place(None, Path::new("/own"), "id"), Path::new("own/id"));
    }
}
