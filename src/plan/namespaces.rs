//! Namespaces (namespaces(7)): which are made by the clone, which by init, which are joined and by whom.
//!
//! With a new user namespace only USER and PID go into the clone: what the clone makes beside them would be set up
//! before the mappings exist and belong to nobody (65534) inside. Init unshares the rest once it is root there.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::spec;
use crate::spec::json::{did_you_mean, escape};

/// One kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// User ids and capabilities.
    User,
    /// Process ids.
    Pid,
    /// Network.
    Network,
    /// Mounts.
    Mount,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// The cgroup root that is seen.
    Cgroup,
    /// Offsets of the clocks.
    Time,
}

impl Kind {
    /// Every kind, with the specification's name and the kernel's flag.
    pub const ALL: [(Kind, &'static str, u64); 8] = [
        (Kind::User, "user", 0x1000_0000),
        (Kind::Pid, "pid", 0x2000_0000),
        (Kind::Network, "network", 0x4000_0000),
        (Kind::Mount, "mount", 0x0002_0000),
        (Kind::Ipc, "ipc", 0x0800_0000),
        (Kind::Uts, "uts", 0x0400_0000),
        (Kind::Cgroup, "cgroup", 0x0200_0000),
        (Kind::Time, "time", 0x0000_0080),
    ];

    fn row(self) -> (Kind, &'static str, u64) {
        Kind::ALL[Kind::ALL.iter().position(|(kind, ..)| *kind == self).expect("ALL has every kind")]
    }

    /// The specification's name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// CLONE_NEW*.
    pub fn flag(self) -> u64 {
        self.row().2
    }
}

/// A namespace that is joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Its kind, checked against the file when it is opened.
    pub kind: Kind,
    /// Its file.
    pub path: PathBuf,
    /// Its place in /linux/namespaces.
    pub index: usize,
}

/// How init comes to life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spawn {
    /// One clone3 by setup.
    Straight,
    /// A user namespace is joined by path: a hop process joins it, makes the pid namespace there and clones init. A pid
    /// namespace made before would belong to the outer user namespace, and proc could not be mounted (EPERM). The clocks'
    /// offsets and oom_score_adj are the hop's to set, before it joins: init, which nobody in there may look into, cannot
    /// open its own files in /proc for an ordinary user.
    ThroughUserns,
}

/// What the mounts need to know about the container's namespaces: made or joined, not the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamespacesSummary {
    /// Its own mount namespace.
    pub new_mount: bool,
    /// Its own user namespace.
    pub new_user: bool,
    /// Its own network namespace.
    pub new_net: bool,
    /// Its own cgroup namespace.
    pub new_cgroup: bool,
    /// Its own pid namespace.
    pub new_pid: bool,
}

/// What becomes of every namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaces {
    /// How init comes to life.
    pub spawn: Spawn,
    /// CLONE_NEW* of the clone.
    pub clone: u64,
    /// CLONE_NEW* that init unshares after it is root of its user namespace and in its cgroup.
    pub unshare: u64,
    /// Joined by path, the user namespace first.
    pub joins: Vec<Join>,
    /// Offsets of a new time namespace, as lines of /proc/self/timens_offsets.
    pub time_offsets: Vec<String>,
}

impl Namespaces {
    /// From /linux/namespaces and /linux/timeOffsets.
    pub fn new(linux: Option<&spec::Linux<'_>>) -> Result<Namespaces> {
        let mut made = 0u64;
        let mut joins: Vec<Join> = Vec::new();
        let mut seen = 0u64;
        let list = linux.map(|l| &l.namespaces[..]).unwrap_or_default();
        for (index, namespace) in list.iter().enumerate() {
            let pointer = format!("/linux/namespaces/{index}/type");
            let Some(name) = &namespace.kind else { return Err(Error::spec(pointer, "missing")) };
            let Some((kind, _, flag)) = Kind::ALL.into_iter().find(|(_, known, _)| **known == **name) else {
                let hint = did_you_mean(name, Kind::ALL.iter().map(|row| row.1));
                return Err(Error { hint, ..Error::spec(pointer, format_args!("unknown namespace {name:?}")) });
            };
            if seen & flag != 0 {
                return Err(Error::spec(pointer, format_args!("namespace \"{name}\" is given twice")));
            }
            seen |= flag;
            match namespace.path.as_deref().filter(|path| !path.is_empty()) {
                None => made |= flag,
                Some(path) => {
                    if !path.starts_with('/') {
                        let pointer = format!("/linux/namespaces/{index}/path");
                        return Err(Error::spec(pointer, format_args!("must be absolute, is {path:?}")));
                    }
                    if path.contains('\0') {
                        let pointer = format!("/linux/namespaces/{index}/path");
                        return Err(Error::spec(pointer, "holds a NUL byte"));
                    }
                    // The user namespace first: it gives the right to join the others.
                    let place = if kind == Kind::User { 0 } else { joins.len() };
                    joins.insert(place, Join { kind, path: PathBuf::from(path), index });
                }
            }
        }
        let user_joined = joins.iter().any(|join| join.kind == Kind::User);
        // A cgroup namespace shows the root that its maker is in when it is made, and a time namespace takes its
        // offsets from its maker: they do not go into a clone. A network namespace takes the kernel longer than all others
        // together: init makes it while setup goes on.
        let late = Kind::Cgroup.flag() | Kind::Time.flag() | Kind::Network.flag();
        let (spawn, clone) = if made & Kind::User.flag() != 0 {
            (Spawn::Straight, made & (Kind::User.flag() | Kind::Pid.flag()))
        } else if user_joined {
            (Spawn::ThroughUserns, made & (Kind::Pid.flag() | Kind::Time.flag()))
        } else {
            (Spawn::Straight, made & !late)
        };
        let time_offsets = time_offsets(linux, made & Kind::Time.flag() != 0)?;
        Ok(Namespaces { spawn, clone, unshare: made & !clone, joins, time_offsets })
    }

    /// Whether a namespace of this kind is made.
    pub fn makes(&self, kind: Kind) -> bool {
        (self.clone | self.unshare) & kind.flag() != 0
    }

    /// Whether one is joined by path.
    pub fn joins(&self, kind: Kind) -> bool {
        self.joins.iter().any(|join| join.kind == kind)
    }

    /// What the mounts and devices depend on.
    pub fn summary(&self) -> NamespacesSummary {
        NamespacesSummary {
            new_mount: self.own(Kind::Mount),
            new_user: self.own(Kind::User),
            new_net: self.own(Kind::Network),
            new_cgroup: self.own(Kind::Cgroup),
            new_pid: self.own(Kind::Pid),
        }
    }

    /// Whether the container has another one than hull.
    pub fn own(&self, kind: Kind) -> bool {
        self.makes(kind) || self.joins(kind)
    }
}

fn time_offsets(linux: Option<&spec::Linux<'_>>, new: bool) -> Result<Vec<String>> {
    let Some(linux) = linux else { return Ok(Vec::new()) };
    let mut lines = Vec::new();
    for (clock, offset) in linux.time_offsets.iter() {
        let pointer = format!("/linux/timeOffsets/{}", escape(clock));
        if !matches!(&**clock, "monotonic" | "boottime") {
            return Err(Error::spec(pointer, "only \"monotonic\" and \"boottime\" have offsets"));
        }
        if !new {
            return Err(Error::spec(pointer, "needs a new time namespace in /linux/namespaces"));
        }
        if offset.nanosecs >= 1_000_000_000 {
            return Err(Error::spec(format!("{pointer}/nanosecs"), "must be below 1000000000"));
        }
        lines.push(format!("{clock} {} {}", offset.secs, offset.nanosecs));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(json: &str) -> Result<Namespaces> {
        let linux: spec::Linux<'_> = serde_json::from_str(json).unwrap();
        Namespaces::new(Some(&linux))
    }

    #[test]
    fn all_go_into_the_clone_without_a_user_namespace_but_cgroup_and_time() {
        let n = namespaces(r#"{"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"cgroup"},{"type":"time"}]}"#)
            .unwrap();
        assert_eq!(n.clone, Kind::Pid.flag() | Kind::Mount.flag());
        assert_eq!(n.unshare, Kind::Cgroup.flag() | Kind::Time.flag());
    }

    #[test]
    fn only_user_and_pid_go_into_the_clone_with_a_new_user_namespace() {
        let n = namespaces(r#"{"namespaces":[{"type":"ipc"},{"type":"user"},{"type":"pid"}]}"#).unwrap();
        assert_eq!((n.clone, n.unshare), (Kind::User.flag() | Kind::Pid.flag(), Kind::Ipc.flag()));
    }

    #[test]
    fn a_joined_user_namespace_needs_a_hop() {
        let n = namespaces(r#"{"namespaces":[{"type":"pid"},{"type":"user","path":"/proc/1/ns/user"}]}"#).unwrap();
        assert_eq!((n.spawn, n.clone), (Spawn::ThroughUserns, Kind::Pid.flag()));
        let n = namespaces(r#"{"namespaces":[{"type":"ipc"},{"type":"user","path":"/proc/1/ns/user"}]}"#).unwrap();
        assert_eq!((n.spawn, n.clone, n.unshare), (Spawn::ThroughUserns, 0, Kind::Ipc.flag()));
    }

    #[test]
    fn refused() {
        for (json, words) in [
            (r#"{"namespaces":[{"type":"pid"},{"type":"pid"}]}"#, "given twice"),
            (r#"{"namespaces":[{"type":"nett"}]}"#, "unknown namespace"),
            (r#"{"namespaces":[{"type":"network","path":"netns"}]}"#, "must be absolute"),
            (r#"{"namespaces":[{}]}"#, "missing"),
            (r#"{"timeOffsets":{"boottime":{"secs":1}}}"#, "needs a new time namespace"),
            (r#"{"namespaces":[{"type":"time"}],"timeOffsets":{"realtime":{"secs":1}}}"#, "only \"monotonic\""),
        ] {
            let error = namespaces(json).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
