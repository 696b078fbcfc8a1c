//! Paths inside the container.
//!
//! [`RootfsPath`] is the type of every path that is resolved there. It cannot be given to a call that resolves on the
//! host: only [`crate::steps::path`] opens it.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// A path inside the container: absolute there, without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootfsPath(PathBuf);

impl RootfsPath {
    /// Cleans `path`, which is taken from `/` if it is relative; `..` never leaves the root.
    pub fn new(path: impl AsRef<Path>) -> RootfsPath {
        let mut clean = PathBuf::from("/");
        for part in path.as_ref().components() {
            match part {
                Component::ParentDir => drop(clean.pop()),
                Component::Normal(name) => clean.push(name),
                _ => {}
            }
        }
        RootfsPath(clean)
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
    pub fn join(&self, name: impl AsRef<OsStr>) -> RootfsPath {
        let mut path = self.0.clone().into_os_string();
        path.push("/");
        path.push(name);
        RootfsPath::new(path)
    }
}

impl fmt::Display for RootfsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::error::show(&self.0))
    }
}

/// Refuses a path that no system call could carry.
pub(super) fn no_nul(pointer: &str, text: &str) -> Result<()> {
    if text.contains('\0') { Err(Error::spec(pointer, "contains a NUL byte")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_inside_the_root() {
        for (text, clean) in [("/a/../../etc", "/etc"), ("a//./b/", "/a/b"), ("..", "/"), ("", "/")] {
            assert_eq!(RootfsPath::new(text).as_path(), Path::new(clean));
        }
        assert!(RootfsPath::new("/proc/x").is_in("/proc"));
        assert!(!RootfsPath::new("/procs").is_in("/proc"));
    }
}
