//! User and group mappings of a new user namespace (user_namespaces(7)), and who may write them.

use super::namespaces::{Kind, Namespaces};
use crate::error::{Error, Result};
use crate::host::HostFacts;
use crate::spec;

/// One line of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdMap {
    /// First id inside.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// Who writes the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// setup, which has CAP_SETUID and CAP_SETGID in its own user namespace.
    Direct,
    /// setup without privilege: its own id alone, after setgroups is denied.
    SingleId,
    /// newuidmap(1) and newgidmap(1), by what /etc/subuid and /etc/subgid allow.
    Helpers,
}

/// The maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// uid_map.
    pub uid: Vec<IdMap>,
    /// gid_map.
    pub gid: Vec<IdMap>,
    /// Who writes them.
    pub writer: Writer,
}

impl IdMaps {
    /// From /linux/uidMappings and gidMappings; None without a new user namespace.
    pub fn new(
        linux: Option<&spec::Linux<'_>>,
        namespaces: &Namespaces,
        host: &HostFacts,
        notes: &mut Vec<String>,
    ) -> Result<Option<IdMaps>> {
        let uid = lines("/linux/uidMappings", linux.map(|l| &l.uid_mappings[..]).unwrap_or_default())?;
        let gid = lines("/linux/gidMappings", linux.map(|l| &l.gid_mappings[..]).unwrap_or_default())?;
        if !namespaces.makes(Kind::User) {
            let given = !uid.is_empty() || !gid.is_empty();
            if given && !namespaces.joins(Kind::User) {
                // Without a namespace each id is its own. Who maps root elsewhere must not get the host's root.
                let same = |map: &[IdMap]| map.iter().all(|line| line.container == line.host);
                let which = if same(&uid) && !gid.is_empty() { "gidMappings" } else { "uidMappings" };
                if !same(&uid) || !same(&gid) {
                    return Err(Error::spec(format!("/linux/{which}"), "needs a user namespace in /linux/namespaces"));
                }
                notes.push(format!("config.json: /linux/{which}: without effect, since there is no user namespace"));
            }
            return Ok(None);
        }
        for (name, map) in [("uidMappings", &uid), ("gidMappings", &gid)] {
            if map.is_empty() {
                return Err(Error::spec(format!("/linux/{name}"), "a new user namespace needs at least one mapping"));
            }
        }
        let single = |map: &[IdMap], id| matches!(map, [one] if one.size == 1 && one.host == id);
        let writer = if host.euid == 0 {
            Writer::Direct
        } else if single(&uid, host.euid) && single(&gid, host.egid) {
            Writer::SingleId
        } else {
            Writer::Helpers
        };
        Ok(Some(IdMaps { uid, gid, writer }))
    }

    /// The ids that init takes as soon as the maps are written: 0 where it is mapped, else the first that is.
    pub fn root(&self) -> (u32, u32) {
        (first(&self.uid), first(&self.gid))
    }

    /// Whether setgroups(2) works inside: it is denied for an unprivileged single mapping.
    pub fn setgroups(&self) -> bool {
        self.writer != Writer::SingleId
    }
}

/// The config with a user namespace in which the caller, and nobody else, is root: --userns self.
pub fn with_own_namespace<'a>(spec: &spec::Spec<'a>, host: &HostFacts) -> Result<spec::Spec<'a>> {
    let mut spec = spec.clone();
    let linux = spec.linux.get_or_insert_default();
    if linux.namespaces.iter().any(|namespace| namespace.kind.as_deref() == Some("user")) {
        return Err(Error::usage("--userns self is for a config without a user namespace, and this one has one"));
    }
    linux.namespaces.0.push(spec::Namespace { kind: Some("user".into()), ..Default::default() });
    let single = |id| spec::IdMapping { container_id: 0, host_id: id, size: 1, ..Default::default() };
    (linux.uid_mappings, linux.gid_mappings) =
        (spec::List(vec![single(host.euid)]), spec::List(vec![single(host.egid)]));
    Ok(spec)
}

fn first(map: &[IdMap]) -> u32 {
    if maps(map, 0) { 0 } else { map.first().map_or(0, |line| line.container) }
}

/// Whether a map has an id of the container.
pub fn maps(map: &[IdMap], id: u32) -> bool {
    map.iter().any(|line| id >= line.container && id - line.container < line.size)
}

/// A map as the kernel's file takes it.
pub fn text(map: &[IdMap]) -> String {
    map.iter().map(|line| format!("{} {} {}\n", line.container, line.host, line.size)).collect()
}

/// Reads and checks mappings: nothing empty, nothing beyond the last id, nothing twice.
pub fn lines(pointer: &str, mappings: &[spec::IdMapping<'_>]) -> Result<Vec<IdMap>> {
    // The kernel's bound since 4.15 (UID_GID_MAP_MAX_EXTENTS).
    const MAX_LINES: usize = 340;
    if mappings.len() > MAX_LINES {
        let what = format!("{} mappings: the kernel takes at most {MAX_LINES}", mappings.len());
        return Err(Error::spec(pointer, what));
    }
    let mut map: Vec<IdMap> = Vec::with_capacity(mappings.len());
    for (index, line) in mappings.iter().enumerate() {
        let at = format!("{pointer}/{index}");
        let new = IdMap { container: line.container_id, host: line.host_id, size: line.size };
        if new.size == 0 {
            return Err(Error::spec(format!("{at}/size"), "must not be 0"));
        }
        if new.container.checked_add(new.size - 1).is_none() || new.host.checked_add(new.size - 1).is_none() {
            return Err(Error::spec(at, "reaches beyond the last id, 4294967295"));
        }
        let overlap = |a: u32, b: u32, size: u32, other: u32| {
            u64::from(a) < u64::from(b) + u64::from(other) && u64::from(b) < u64::from(a) + u64::from(size)
        };
        if let Some(other) = map.iter().position(|old| {
            overlap(new.container, old.container, new.size, old.size) || overlap(new.host, old.host, new.size, old.size)
        }) {
            return Err(Error::spec(at, format_args!("overlaps with {pointer}/{other}")));
        }
        map.push(new);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(json: &str) -> Result<Vec<IdMap>> {
        let list: Vec<spec::IdMapping<'_>> = serde_json::from_str(json).unwrap();
        lines("/linux/uidMappings", &list)
    }

    #[test]
    fn overlaps_zeros_and_overflows_are_refused() {
        for (json, words) in [
            (r#"[{"size":0}]"#, "must not be 0"),
            (r#"[{"containerID":1,"hostID":4294967295,"size":2}]"#, "beyond the last id"),
            (r#"[{"containerID":0,"hostID":5,"size":10},{"containerID":9,"hostID":90,"size":1}]"#, "overlaps"),
            (r#"[{"containerID":0,"hostID":5,"size":10},{"containerID":90,"hostID":14,"size":1}]"#, "overlaps"),
        ] {
            let error = map(json).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let good = map(r#"[{"containerID":0,"hostID":1000,"size":1},{"containerID":1,"hostID":100000,"size":65536}]"#)
            .unwrap();
        assert!(maps(&good, 65536) && !maps(&good, 65537));
        assert_eq!(text(&good), "0 1000 1\n1 100000 65536\n");
    }
}
