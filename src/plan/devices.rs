//! The device nodes and links of /dev: those that every container has (config-linux.md#default-devices), and the
//! config's own. Of two entries for one path the later one holds, as with runc.

use super::mounts::{Mounts, NamespacesSummary};
use super::rootfs::{RootfsPath, no_nul};
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
    let mut nodes: Vec<Node> = DEFAULT
        .iter()
        .map(|&(name, major, minor)| Node {
            index: None,
            path: RootfsPath::new(&format!("/dev/{name}")),
            kind: DeviceKind::Char,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
            bind,
        })
        .collect();
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
        let node = Node {
            index: Some(i),
            path,
            kind,
            major,
            minor,
            mode: device.file_mode.unwrap_or(0o666) & 0o7777,
            uid: device.uid.unwrap_or(0),
            gid: device.gid.unwrap_or(0),
            bind: bind && kind != DeviceKind::Fifo,
        };
        nodes.retain(|other| other.path != node.path);
        nodes.push(node);
    }
    if mounts.dev_is_bound || !ns.new_mount {
        return Ok(Devices::default());
    }
    Ok(Devices { nodes, links: LINKS })
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
    fn the_later_entry_replaces_a_default() {
        let json = r#"[{"path":"/dev/null","type":"c","major":1,"minor":5,"fileMode":384,"uid":7}]"#;
        let planned = devices(json, false, false).unwrap();
        assert_eq!(planned.nodes.len(), 6);
        let last = planned.nodes.last().unwrap();
        assert_eq!((last.index, last.minor, last.mode, last.uid, last.bind), (Some(0), 5, 0o600, 7, false));
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
    fn what_cannot_be_is_refused_with_its_place() {
        for (json, part) in [
            (r#"[{"type":"c"}]"#, "/linux/devices/0/path: is missing"),
            (r#"[{"path":"/dev/x","type":"x"}]"#, "/linux/devices/0/type: \"x\" is none"),
            (r#"[{"path":"/dev/x","type":"c","minor":1}]"#, "/linux/devices/0/major: is missing"),
            (r#"[{"path":"/dev/x","type":"b","major":4096,"minor":1}]"#, "4096 is not between 0 and 4095"),
            (r#"[{"path":"/dev/x","type":"b","major":1,"minor":-1}]"#, "-1 is not between 0 and 1048575"),
        ] {
            let error = devices(json, false, false).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
