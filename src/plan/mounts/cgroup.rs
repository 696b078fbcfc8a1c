//! `type: cgroup`: the container's view of its cgroups, whatever the host mounts (cgroups(7), cgroup_namespaces(7)).

use std::path::{Path, PathBuf};

use super::{Mount, MountKind, Mounts, attr};
use crate::error::{Error, Result, Step};
use crate::host::{CgroupMode, HostFacts};
use crate::plan::namespaces::NamespacesSummary;

/// Plans the mount or mounts in place of `mount`, whose destination and attributes are known.
pub fn plan(
    host: &HostFacts,
    ns: &NamespacesSummary,
    own: &[(PathBuf, PathBuf)],
    mut mount: Mount,
    rw_asked: bool,
    planned: &mut Mounts,
) -> Result<()> {
    // Where the container's cgroup namespace shows its own cgroup alone, and is the host's root's, it is the container's to
    // write, as in runc. Elsewhere what is not asked for stays shut (CVE-2023-25809).
    if !rw_asked && (ns.new_user || !ns.new_cgroup) {
        mount.attr.set |= attr::RDONLY;
    }
    match host.cgroup.mode {
        CgroupMode::V2 => {
            let at = host.cgroup.v2_mount.clone().unwrap_or_else(|| "/sys/fs/cgroup".into());
            if !ns.new_cgroup {
                whole_tree(own, at, mount, rw_asked, planned);
                return Ok(());
            }
            let path = container_path(own, &at, &host.cgroup.own_v2);
            mount.kind = hierarchy(ns, "cgroup2", Vec::new(), path);
            planned.mounts.push(mount);
            Ok(())
        }
        CgroupMode::V1 | CgroupMode::Hybrid => {
            v1(host, ns, own, mount, planned);
            Ok(())
        }
        CgroupMode::None => Err(Error::host(
            Step::Mount,
            format!("mount cgroup on {} (/mounts/{}): this host mounts no cgroups", mount.destination, mount.index),
        )),
    }
}

/// v2 without a cgroup namespace: the tree that the paths of /proc/self/cgroup are about. It is the host's, so it cannot be
/// written whatever is asked (CVE-2023-25809); where `rw` is, the container's own cgroup in it can.
fn whole_tree(own: &[(PathBuf, PathBuf)], at: PathBuf, mut mount: Mount, rw_asked: bool, planned: &mut Mounts) {
    let mut writable = None;
    if rw_asked && let Some((_, path)) = own.iter().find(|(hierarchy, _)| *hierarchy == at) {
        let path = path.strip_prefix("/").unwrap_or(path);
        let kind = MountKind::Bind { source: at.join(path), recursive: false };
        let mut inner = Mount::new(mount.index, mount.destination.join(path), kind);
        inner.attr = mount.attr;
        inner.recursive_attr = mount.recursive_attr;
        writable = Some(inner);
    }
    mount.kind = MountKind::Bind { source: at, recursive: false };
    mount.attr.add(attr::RDONLY, 0);
    planned.mounts.push(mount);
    planned.mounts.extend(writable);
}

/// The container's cgroup directory in the hierarchy that is mounted `at`.
fn container_path(own: &[(PathBuf, PathBuf)], at: &Path, hull: &Path) -> PathBuf {
    let path = own.iter().find(|(mount, _)| mount == at).map_or(hull, |(_, path)| path);
    at.join(path.strip_prefix("/").unwrap_or(path))
}

/// One hierarchy: a mount of its own shows the cgroup namespace's root; without one the directory itself is bound.
fn hierarchy(ns: &NamespacesSummary, fstype: &str, controllers: Vec<String>, path: PathBuf) -> MountKind {
    if !ns.new_cgroup {
        return MountKind::Bind { source: path, recursive: false };
    }
    let data = controllers
        .into_iter()
        .map(|name| match name.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (name, None),
        })
        .collect();
    MountKind::Fs {
        fstype: fstype.to_owned(),
        source: Some("cgroup".into()),
        data,
        superblock: Vec::new(),
        otherwise: Some(path),
    }
}

/// A tmpfs with a directory for each hierarchy, and a link for each controller of a joined one.
fn v1(host: &HostFacts, ns: &NamespacesSummary, own: &[(PathBuf, PathBuf)], mount: Mount, planned: &mut Mounts) {
    let mut inner = Vec::new();
    let mut links = Vec::new();
    let mut add = |name: &str, kind: MountKind| {
        let mut one = Mount::new(mount.index, mount.destination.join(name), kind);
        one.attr = mount.attr;
        one.recursive_attr = mount.recursive_attr;
        inner.push(one);
    };
    for v1 in &host.cgroup.v1 {
        let Some(name) = v1.mount.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
        for controller in &v1.controllers {
            if *controller != name && !controller.contains('=') {
                links.push((controller.clone(), name.clone()));
            }
        }
        add(&name, hierarchy(ns, "cgroup", v1.controllers.clone(), container_path(own, &v1.mount, &v1.own)));
    }
    if let Some(at) = &host.cgroup.v2_mount {
        add("unified", hierarchy(ns, "cgroup2", Vec::new(), container_path(own, at, &host.cgroup.own_v2)));
    }
    let mut top = mount;
    top.kind = MountKind::Fs {
        fstype: "tmpfs".into(),
        source: Some("tmpfs".into()),
        data: vec![("mode".into(), Some("755".into()))],
        superblock: Vec::new(),
        otherwise: None,
    };
    top.links = links;
    planned.mounts.push(top);
    planned.mounts.append(&mut inner);
}
