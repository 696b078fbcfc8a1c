//! The root file system: where it is, how it is entered, and what in it cannot be read or written.
//!
//! [`RootfsPath`] is the type of every path that is resolved inside the container. It cannot be given to a call that
//! resolves on the host: only [`crate::steps::path`] opens it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Options;
use super::mounts::{NamespacesSummary, Propagation};
use crate::error::{Error, Result};
use crate::spec::Spec;

/// A path inside the container: absolute there, without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootfsPath(PathBuf);

impl RootfsPath {
    /// Cleans `text`, which is taken from `/` if it is relative; `..` never leaves the root.
    pub fn new(text: &str) -> RootfsPath {
        let mut parts: Vec<&str> = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                name => parts.push(name),
            }
        }
        RootfsPath(PathBuf::from(format!("/{}", parts.join("/"))))
    }

    /// The path as the container sees it.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Whether it is the root itself.
    pub fn is_root(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Whether it lies below `other`, or is it.
    pub fn is_in(&self, other: &str) -> bool {
        self.0.starts_with(other)
    }

    /// The path of `name` in it.
    #[must_use]
    pub fn join(&self, name: &str) -> RootfsPath {
        RootfsPath::new(&format!("{}/{name}", self.0.display()))
    }
}

impl fmt::Display for RootfsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::error::show(&self.0))
    }
}

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
                    return Err(Error::spec(pointer, format!("{:?} is not absolute", &**path)));
                }
                clean.push(RootfsPath::new(path));
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

/// Refuses a path that no system call could carry.
pub(super) fn no_nul(pointer: &str, text: &str) -> Result<()> {
    if text.contains('\0') { Err(Error::spec(pointer, "contains a NUL byte")) } else { Ok(()) }
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
    fn paths_are_cleaned_inside_the_root() {
        for (text, clean) in [("/a/../../etc", "/etc"), ("a//./b/", "/a/b"), ("..", "/"), ("", "/")] {
            assert_eq!(RootfsPath::new(text).as_path(), Path::new(clean));
        }
        assert!(RootfsPath::new("/proc/x").is_in("/proc"));
        assert!(!RootfsPath::new("/procs").is_in("/proc"));
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
