//! The root file system: where it is, how it is entered, and what in it cannot be read or written.

use std::path::PathBuf;

use super::mounts::options::{Propagation, PropagationKind};
use super::namespaces::NamespacesSummary;
use super::options::Options;
use super::path::{RootfsPath, no_nul};
use crate::error::{Error, Result};
use crate::spec::Spec;

/// How the root is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// pivot_root(2); the old root is unmounted.
    Pivot,
    /// --no-pivot: the rootfs is moved onto `/` (a ramfs cannot be pivoted away from).
    Move,
    /// No mount namespace: chroot(2) only.
    Chroot,
}

/// The plan of the root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// Its directory on the host, absolute.
    pub path: PathBuf,
    /// `/` is read-only inside.
    pub readonly: bool,
    /// What the config asks for; absent: the container's mounts are slaves of the host's, as with runc.
    pub propagation: Option<Propagation>,
    /// How it is entered.
    pub entry: Entry,
    /// There is no mount namespace, and the config asks for mounts: until delete they are on the host, all in one mount.
    pub on_host: bool,
    /// Paths that cannot be read.
    pub masked_paths: Vec<RootfsPath>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<RootfsPath>,
}

impl Rootfs {
    /// Plans the root file system.
    pub fn new(spec: &Spec<'_>, options: &Options, ns: &NamespacesSummary) -> Result<Rootfs> {
        let root = spec.root.as_ref().ok_or_else(|| Error::spec("/root", "is missing: a container needs one"))?;
        let path = match root.path.as_deref() {
            None | Some("") => return Err(Error::spec("/root/path", "is missing")),
            Some(path) => path,
        };
        no_nul("/root/path", path)?;
        let linux = spec.linux.as_ref();
        let propagation = match linux.and_then(|linux| linux.rootfs_propagation.as_deref()) {
            None | Some("") => None,
            Some(word) => Some(Propagation::parse(word).ok_or_else(|| {
                Error::spec(
                    "/linux/rootfsPropagation",
                    format!("{word:?} is none of shared, slave, private, unbindable (or rshared, rslave ...)"),
                )
            })?),
        };
        let list = |name: &str, paths: &[crate::spec::Str<'_>]| -> Result<Vec<RootfsPath>> {
            let mut clean = Vec::with_capacity(paths.len());
            for (i, path) in paths.iter().enumerate() {
                let pointer = format!("/linux/{name}/{i}");
                no_nul(&pointer, path)?;
                if !path.starts_with('/') {
                    return Err(Error::spec(pointer, format!("{:?} is not absolute", &**path))
                        .hint("a path in the container has to begin with /"));
                }
                clean.push(RootfsPath::new(&**path));
            }
            Ok(clean)
        };
        let masked_paths = list("maskedPaths", linux.map_or(&[], |linux| &linux.masked_paths[..]))?;
        let readonly_paths = list("readonlyPaths", linux.map_or(&[], |linux| &linux.readonly_paths[..]))?;
        if let Some(i) = masked_paths.iter().position(RootfsPath::is_root) {
            return Err(Error::spec(format!("/linux/maskedPaths/{i}"), "`/` cannot be masked"));
        }
        let mut on_host = false;
        if !ns.new_mount {
            // Without a mount namespace each of these is a mount on the host.
            let asked = [
                ("/root/readonly", root.readonly),
                ("/linux/maskedPaths", !masked_paths.is_empty()),
                ("/linux/readonlyPaths", !readonly_paths.is_empty()),
                ("/linux/rootfsPropagation", propagation.is_some()),
                ("/mounts", !spec.mounts.is_empty()),
            ];
            if let Some((pointer, _)) = asked.iter().find(|(_, asked)| *asked) {
                if ns.new_user {
                    let what =
                        "needs a mount namespace in /linux/namespaces: a user namespace has no right over the host's";
                    return Err(Error::spec(pointer, what));
                }
                on_host = true;
            }
        }
        let entry = match (ns.new_mount, options.no_pivot) {
            (false, _) => Entry::Chroot,
            (true, true) => Entry::Move,
            (true, false) => Entry::Pivot,
        };
        let path = options.bundle.join(path);
        // A mount over `/` would be above what the program is in: the root itself becomes read-only.
        let readonly = root.readonly || readonly_paths.iter().any(RootfsPath::is_root);
        Ok(Rootfs { path, readonly, propagation, entry, on_host, masked_paths, readonly_paths })
    }
}

impl Rootfs {
    /// Whether mounts of the host that come into the container's mount namespace stay peers of the host's.
    pub fn keeps_peers(&self) -> bool {
        self.entry != Entry::Chroot && self.propagation.is_some_and(|asked| asked.kind == PropagationKind::Shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::load::{Text, parse};

    fn plan(json: &str, mount: bool) -> Result<Rootfs> {
        let text = Text(json.into());
        let (spec, _) = parse(&text)?;
        let options = Options { bundle: "/b".into(), ..Options::default() };
        Rootfs::new(&spec, &options, &NamespacesSummary { new_mount: mount, ..Default::default() })
    }

    #[test]
    fn the_root_is_taken_from_the_bundle() {
        let rootfs = plan(r#"{"root":{"path":"rootfs","readonly":true}}"#, true).unwrap();
        assert_eq!((rootfs.path, rootfs.readonly, rootfs.entry), ("/b/rootfs".into(), true, Entry::Pivot));
        assert_eq!(plan(r#"{"root":{"path":"/r"}}"#, false).unwrap().entry, Entry::Chroot);
    }

    #[test]
    fn without_a_mount_namespace_what_is_mounted_is_on_the_host() {
        for (json, on_host) in [
            (r#"{"root":{"path":"r"}}"#, false),
            (r#"{"root":{"path":"r","readonly":true}}"#, true),
            (r#"{"root":{"path":"r"},"mounts":[{"destination":"/proc","type":"proc"}]}"#, true),
            (r#"{"root":{"path":"r"},"linux":{"maskedPaths":["/a"]}}"#, true),
            (r#"{"root":{"path":"r"},"linux":{"rootfsPropagation":"shared"}}"#, true),
        ] {
            assert_eq!(plan(json, false).unwrap().on_host, on_host, "{json}");
            assert!(!plan(json, true).unwrap().on_host, "{json}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        for (json, mount, part) in [
            ("{}", true, "/root: is missing"),
            (r#"{"root":{"path":"r"},"linux":{"rootfsPropagation":"x"}}"#, true, "/linux/rootfsPropagation: \"x\" is"),
            (r#"{"root":{"path":"r"},"linux":{"maskedPaths":["/a","b"]}}"#, true, "/linux/maskedPaths/1: \"b\" is not"),
            (r#"{"root":{"path":"r\u0000"}}"#, true, "/root/path: contains a NUL byte"),
        ] {
            let error = plan(json, mount).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let text = Text(r#"{"root":{"path":"r","readonly":true}}"#.into());
        let (spec, _) = parse(&text).unwrap();
        let ns = NamespacesSummary { new_user: true, ..Default::default() };
        let error = Rootfs::new(&spec, &Options::default(), &ns).unwrap_err().to_string();
        assert!(error.contains("/root/readonly: needs a mount namespace"), "{error}");
    }
}
