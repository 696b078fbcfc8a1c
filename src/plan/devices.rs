//! The device nodes and links of /dev: those that every container has (config-linux.md#default-devices), and the
//! config's own. Of two entries for one path the first one holds, as with runc and crun.

use std::collections::BTreeMap;

use super::mounts::Mounts;
use super::namespaces::NamespacesSummary;
use super::path::{RootfsPath, no_nul};
use super::process::NO_ID;
use crate::error::{Error, Result};
use crate::spec::Spec;

/// What kind of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
}

impl DeviceKind {
    /// mknod(1)'s letter.
    pub fn letter(self) -> char {
        match self {
            DeviceKind::Char => 'c',
            DeviceKind::Block => 'b',
            DeviceKind::Fifo => 'p',
        }
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// N of /linux/devices/N; absent for a default device.
    pub index: Option<usize>,
    /// Where.
    pub path: RootfsPath,
    /// What.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permissions.
    pub mode: u32,
    /// Owner, as the container sees it.
    pub uid: u32,
    /// Group, as the container sees it.
    pub gid: u32,
    /// A user namespace cannot make nodes: the host's one at the same path is bound.
    pub bind: bool,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Devices {
    /// Nodes, in order.
    pub nodes: Vec<Node>,
    /// Links in /dev: name and target.
    pub links: &'static [(&'static str, &'static str)],
    /// Warnings.
    pub notes: Vec<String>,
}

/// Name, major and minor number.
const DEFAULT: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Plans the devices. Where the host's directory is bound to /dev, or mounts are the host's own, nothing is made.
pub fn plan(spec: &Spec<'_>, ns: &NamespacesSummary, mounts: &Mounts, in_user_namespace: bool) -> Result<Devices> {
    let bind = ns.new_user || in_user_namespace;
    let mut notes = Vec::new();
    let mut nodes: Vec<Node> = DEFAULT
        .iter()
        .map(|&(name, major, minor)| Node {
            index: None,
            path: RootfsPath::new(format!("/dev/{name}")),
            kind: DeviceKind::Char,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
            bind,
        })
        .collect();
    let mut places: BTreeMap<RootfsPath, usize> =
        nodes.iter().enumerate().map(|(place, node)| (node.path.clone(), place)).collect();
    for (i, device) in spec.linux.iter().flat_map(|linux| linux.devices.iter()).enumerate() {
        let pointer = format!("/linux/devices/{i}");
        let text = match device.path.as_deref() {
            None | Some("") => return Err(Error::spec(format!("{pointer}/path"), "is missing")),
            Some(path) => path,
        };
        no_nul(&format!("{pointer}/path"), text)?;
        let path = RootfsPath::new(text);
        if !text.starts_with('/') || path.is_root() {
            return Err(Error::spec(format!("{pointer}/path"), format!("{text:?} is no absolute path of a file")));
        }
        let kind = match device.kind.as_deref() {
            Some("c" | "u") => DeviceKind::Char,
            Some("b") => DeviceKind::Block,
            Some("p") => DeviceKind::Fifo,
            other => {
                let other = other.unwrap_or("");
                return Err(Error::spec(format!("{pointer}/type"), format!("{other:?} is none of c, b, u and p")));
            }
        };
        let number = |name: &str, value: Option<i64>, bits: u32| -> Result<u32> {
            match value {
                _ if kind == DeviceKind::Fifo => Ok(0),
                Some(value) => u32::try_from(value).ok().filter(|value| value >> bits == 0).ok_or_else(|| {
                    Error::spec(
                        format!("{pointer}/{name}"),
                        format!("{value} is not between 0 and {}", (1 << bits) - 1),
                    )
                }),
                None => Err(Error::spec(format!("{pointer}/{name}"), "is missing")),
            }
        };
        // The kernel's dev_t has 12 bits for the major and 20 for the minor number.
        let (major, minor) = (number("major", device.major, 12)?, number("minor", device.minor, 20)?);
        let owner = |name: &str, id: Option<u32>| match id.unwrap_or(0) {
            NO_ID => Err(Error::spec(format!("{pointer}/{name}"), format!("{NO_ID} is no id"))),
            id => Ok(id),
        };
        let node = Node {
            index: Some(i),
            path,
            kind,
            major,
            minor,
            mode: device.file_mode.unwrap_or(0o666) & 0o7777,
            uid: owner("uid", device.uid)?,
            gid: owner("gid", device.gid)?,
            bind: bind && kind != DeviceKind::Fifo,
        };
        match places.get(&node.path).map(|place| &mut nodes[*place]) {
            None => {
                places.insert(node.path.clone(), nodes.len());
                nodes.push(node);
            }
            Some(Node { index: Some(first), .. }) => {
                notes.push(format!(
                    "config.json: {pointer}: left out, since /linux/devices/{first} is at {text} already"
                ));
            }
            Some(default) => *default = node,
        }
    }
    if mounts.dev_is_bound || !ns.new_mount {
        return Ok(Devices::default());
    }
    // What is mounted there is wanted instead, as in `-v /dev/urandom:/dev/random`, and may be the host's own node.
    let seen = mounts.seen();
    nodes.retain(|node| {
        let Some(mount) = seen.at(&node.path) else { return true };
        notes.extend(node.index.map(|i| {
            format!("config.json: /linux/devices/{i}: left out, since /mounts/{} lies on {}", mount.index, node.path)
        }));
        false
    });
    Ok(Devices { nodes, links: LINKS, notes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::load::{Text, parse};

    fn devices(json: &str, user: bool, bound: bool) -> Result<Devices> {
        let text = Text(format!(r#"{{"linux":{{"devices":{json}}}}}"#));
        let (spec, _) = parse(&text)?;
        let ns = NamespacesSummary { new_mount: true, new_user: user, ..Default::default() };
        plan(&spec, &ns, &Mounts { dev_is_bound: bound, ..Mounts::default() }, false)
    }

    #[test]
    fn an_entry_replaces_a_default_but_not_one_before_it() {
        let json = r#"[{"path":"/dev/null","type":"c","major":1,"minor":5,"fileMode":384,"uid":7},
            {"path":"/dev/./null","type":"c","major":1,"minor":7}]"#;
        let planned = devices(json, false, false).unwrap();
        assert_eq!(planned.nodes.len(), 6);
        let null = &planned.nodes[0];
        assert_eq!((null.index, null.minor, null.mode, null.uid, null.bind), (Some(0), 5, 0o600, 7, false));
        let note = "config.json: /linux/devices/1: left out, since /linux/devices/0 is at /dev/./null already";
        assert_eq!(planned.notes, [note]);
    }

    #[test]
    fn a_user_namespace_binds_all_but_pipes() {
        let planned = devices(r#"[{"path":"/p","type":"p"}]"#, true, false).unwrap();
        assert!(planned.nodes.iter().all(|node| node.bind != (node.kind == DeviceKind::Fifo)));
    }

    #[test]
    fn a_bound_dev_gets_nothing() {
        assert_eq!(devices("[]", false, true).unwrap(), Devices::default());
    }

    #[test]
    fn a_mount_of_the_config_comes_before_a_node() {
        let json = r#"{"mounts":[{"destination":"/dev/full","type":"bind","source":"/s"},
            {"destination":"/dev","type":"tmpfs"},{"destination":"/dev/../dev/random","type":"bind","source":"/s"},
            {"destination":"/dev/fuse","type":"bind","source":"/s"},
            {"destination":"/dev","type":"tmpfs","options":["remount","ro"]}],
            "linux":{"devices":[{"path":"/dev/fuse","type":"c","major":10,"minor":229}]}}"#;
        let text = Text(json.into());
        let (spec, _) = parse(&text).unwrap();
        let ns = NamespacesSummary { new_mount: true, ..Default::default() };
        let mounts = crate::plan::mounts::plan(&spec, &Default::default(), &Default::default(), &ns, &[]).unwrap();
        let planned = plan(&spec, &ns, &mounts, false).unwrap();
        let paths: Vec<String> = planned.nodes.iter().map(|node| node.path.to_string()).collect();
        // The tmpfs hides what was bound to /dev/full.
        assert_eq!(paths, ["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/tty"]);
        assert_eq!(planned.notes, ["config.json: /linux/devices/0: left out, since /mounts/3 lies on /dev/fuse"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        for (json, part) in [
            (r#"[{"type":"c"}]"#, "/linux/devices/0/path: is missing"),
            (r#"[{"path":"/dev/x","type":"x"}]"#, "/linux/devices/0/type: \"x\" is none"),
            (r#"[{"path":"/dev/x","type":"c","minor":1}]"#, "/linux/devices/0/major: is missing"),
            (r#"[{"path":"/dev/x","type":"b","major":4096,"minor":1}]"#, "4096 is not between 0 and 4095"),
            (r#"[{"path":"/dev/x","type":"b","major":1,"minor":-1}]"#, "-1 is not between 0 and 1048575"),
            (r#"[{"path":"/x","type":"p","gid":4294967295}]"#, "/linux/devices/0/gid: 4294967295 is no id"),
        ] {
            let error = devices(json, false, false).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
