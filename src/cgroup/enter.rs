//! Where a process that joins a container goes: its cgroups, or those below them that `exec --cgroup` names.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{Directory, Saved, SavedTree};
use crate::error::{Error, Result, Step, show};
use crate::plan::exec::Below;

/// The cgroups to be joined, open.
#[derive(Debug)]
pub struct Places {
    trees: Vec<Directory>,
    /// --cgroup named them: no other will do.
    named: bool,
}

impl Places {
    /// Opens them; one that is missing is an error, since a limit would be missing with it.
    pub fn open(saved: &Saved, below: &Below) -> Result<Places> {
        if let Below::Some(some) = below
            && let Some((name, _)) = some.iter().find(|(name, _)| !saved.trees.iter().any(|tree| has(tree, name)))
        {
            return Err(Error::usage(format!(
                "--cgroup: unknown controller {name}: the container has no cgroup of it"
            ))
            .hint("on cgroup v2 it is a path alone"));
        }
        if *below != Below::Nothing && saved.trees.is_empty() {
            return Err(Error::usage("--cgroup: the container has no cgroup"));
        }
        let mut trees = Vec::with_capacity(saved.trees.len());
        for tree in &saved.trees {
            let path = match below {
                Below::Nothing => tree.directory.clone(),
                Below::All(path) => tree.directory.join(path),
                Below::Some(some) => match some.iter().find(|(name, _)| has(tree, name)) {
                    Some((_, path)) => tree.directory.join(path),
                    None => tree.directory.clone(),
                },
            };
            match Directory::open(&path, tree.v2, &tree.controllers)? {
                Some(directory) => trees.push(directory),
                None if *below == Below::Nothing => {}
                None => {
                    let subject = format!("error adding process to cgroups: join {}", show(&path));
                    return Err(Error::call(Step::Cgroup, "open", Errno::NOENT, subject)
                        .hint("--cgroup names one that is there"));
                }
            }
        }
        Ok(Places { trees, named: *below != Below::Nothing })
    }

    /// The directory for CLONE_INTO_CGROUP.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.trees.iter().find(|tree| tree.v2).map(Directory::fd)
    }

    /// Whether the clone alone cannot put the process everywhere: every v1 hierarchy asks for a write.
    pub fn joined_by_write(&self, cloned_into: bool) -> bool {
        self.trees.iter().any(|tree| !(tree.v2 && cloned_into))
    }

    /// Puts a process where the clone could not put it. `init` is asked for its own place where the container's refuses:
    /// it may have made cgroups of its own below, whose controllers leave no room for processes above (EBUSY).
    pub fn join(&self, pid: i32, cloned_into: bool, init: i32) -> Result<()> {
        for tree in self.trees.iter().filter(|tree| !(tree.v2 && cloned_into)) {
            let subject = || format!("put process {pid} into the cgroup");
            let Err(error) = tree.write("cgroup.procs", &pid.to_string(), subject) else { continue };
            if self.named {
                return Err(error);
            }
            let Some(path) = place_of(init, tree) else { return Err(error) };
            if place_of(pid, tree).as_ref() == Some(&path) {
                // Nothing that init is held to is missing.
                continue;
            }
            let Some(path) = beneath(&tree.path, &path) else { return Err(error) };
            let Some(directory) = Directory::open(&path, tree.v2, &tree.controllers)? else { return Err(error) };
            directory.write("cgroup.procs", &pid.to_string(), subject)?;
        }
        Ok(())
    }
}

fn has(tree: &SavedTree, name: &str) -> bool {
    tree.controllers.iter().any(|known| known == name || known.strip_prefix("name=") == Some(name))
}

/// The cgroup of a process in a hierarchy, as hull's own cgroup namespace shows it.
fn place_of(pid: i32, tree: &Directory) -> Option<PathBuf> {
    let table = std::fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    crate::bytes::cgroup(&table, if tree.v2 { &[] } else { &tree.controllers }).map(Path::to_owned)
}

/// The directory of `place`, a cgroup below the container's own `directory`, of which the kernel does not say the mount
/// point: what both have in common shows it. None for a place elsewhere.
fn beneath(directory: &Path, place: &Path) -> Option<PathBuf> {
    let place = place.strip_prefix("/").ok()?;
    let own = place.ancestors().find(|own| !own.as_os_str().is_empty() && directory.ends_with(own))?;
    Some(directory.join(place.strip_prefix(own).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_below_is_found_and_none_elsewhere() {
        let directory = Path::new("/sys/fs/cgroup/a/b");
        let find = |place: &str| beneath(directory, Path::new(place));
        assert_eq!(find("/a/b/init.scope"), Some("/sys/fs/cgroup/a/b/init.scope".into()));
        assert_eq!(find("/a/b"), Some("/sys/fs/cgroup/a/b".into()));
        assert_eq!(find("/a/bb"), None);
        assert_eq!(find("/"), None);
        assert_eq!(find("/other"), None);
    }
}
