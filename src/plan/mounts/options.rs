//! The words of a mount's `options` (config.md#mounts, mount(8)): one table, from which `hull features` is made too.

use PropagationKind::{Private, Shared, Slave, Unbindable};

/// How mounts and unmounts travel between copies of a mount (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// The kind.
    pub kind: PropagationKind,
    /// The mounts below too.
    pub recursive: bool,
}

/// The four kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropagationKind {
    /// Both ways.
    Shared,
    /// Inwards only.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and it cannot be bound.
    Unbindable,
}

impl Propagation {
    /// Understands `rslave` and its like.
    pub fn parse(word: &str) -> Option<Propagation> {
        match meaning(word) {
            Some(Meaning::Propagation(propagation)) => Some(propagation),
            _ => None,
        }
    }
}

impl std::fmt::Display for Propagation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            PropagationKind::Shared => "shared",
            PropagationKind::Slave => "slave",
            PropagationKind::Private => "private",
            PropagationKind::Unbindable => "unbindable",
        };
        write!(f, "{}{kind}", if self.recursive { "r" } else { "" })
    }
}

/// Attributes of one mount, as mount_setattr(2) counts them.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-ID bits do nothing.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes do nothing.
    pub const NODEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The bits of the access time policy; none of them set means relatime.
    pub const ATIME: u64 = 0x70;
    /// No access times.
    pub const NOATIME: u64 = 0x10;
    /// Access times always.
    pub const STRICTATIME: u64 = 0x20;
    /// No access times of directories.
    pub const NODIRATIME: u64 = 0x80;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// A flag of the file system instance, not of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Superblock {
    /// Written synchronously.
    Sync,
    /// Directories are written synchronously.
    Dirsync,
    /// Timestamps are written lazily.
    Lazytime,
    /// Mandatory locks; the kernel ignores it since 5.15.
    Mand,
    /// Counts inode versions.
    Iversion,
    /// Fewer messages in the kernel's log.
    Silent,
}

/// What a word means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The default anyway.
    Nothing,
    /// A bind mount.
    Bind {
        /// With the mounts below.
        recursive: bool,
    },
    /// Attributes to set and to clear.
    Attr {
        /// Set.
        set: u64,
        /// Cleared before.
        clear: u64,
        /// In the mounts below too.
        recursive: bool,
    },
    /// A flag of the file system instance, on or off.
    Superblock(Superblock, bool),
    /// Propagation.
    Propagation(Propagation),
    /// What is mounted there gets other options.
    Remount,
    /// What the image has there is copied into the new tmpfs.
    TmpCopyUp,
    /// Ids are mapped.
    Idmap {
        /// In the mounts below too.
        recursive: bool,
    },
}

const fn set(set: u64, recursive: bool) -> Meaning {
    // The access time policy is one value, not bits: it is cleared whole.
    Meaning::Attr { set, clear: if set & attr::ATIME != 0 { attr::ATIME } else { 0 }, recursive }
}

const fn clear(clear: u64, recursive: bool) -> Meaning {
    Meaning::Attr { set: 0, clear, recursive }
}

const fn sb(flag: Superblock, on: bool) -> Meaning {
    Meaning::Superblock(flag, on)
}

const fn propagation(kind: PropagationKind, recursive: bool) -> Meaning {
    Meaning::Propagation(Propagation { kind, recursive })
}

/// Every word that hull knows, sorted.
pub const OPTIONS: &[(&str, Meaning)] = &[
    // Every file system that has ACLs has them on; a tmpfs does not know the word.
    ("acl", Meaning::Nothing),
    ("async", sb(Superblock::Sync, false)),
    ("atime", clear(attr::ATIME, false)),
    ("bind", Meaning::Bind { recursive: false }),
    ("defaults", Meaning::Nothing),
    ("dev", clear(attr::NODEV, false)),
    ("diratime", clear(attr::NODIRATIME, false)),
    ("dirsync", sb(Superblock::Dirsync, true)),
    ("exec", clear(attr::NOEXEC, false)),
    ("idmap", Meaning::Idmap { recursive: false }),
    ("iversion", sb(Superblock::Iversion, true)),
    ("lazytime", sb(Superblock::Lazytime, true)),
    ("loud", sb(Superblock::Silent, false)),
    ("mand", sb(Superblock::Mand, true)),
    ("noatime", set(attr::NOATIME, false)),
    ("nodev", set(attr::NODEV, false)),
    ("nodiratime", set(attr::NODIRATIME, false)),
    ("noexec", set(attr::NOEXEC, false)),
    ("noiversion", sb(Superblock::Iversion, false)),
    ("nolazytime", sb(Superblock::Lazytime, false)),
    ("nomand", sb(Superblock::Mand, false)),
    ("norelatime", clear(attr::ATIME, false)),
    ("nostrictatime", clear(attr::ATIME, false)),
    ("nosuid", set(attr::NOSUID, false)),
    ("nosymfollow", set(attr::NOSYMFOLLOW, false)),
    ("private", propagation(Private, false)),
    ("ratime", clear(attr::ATIME, true)),
    ("rbind", Meaning::Bind { recursive: true }),
    ("rdev", clear(attr::NODEV, true)),
    ("rdiratime", clear(attr::NODIRATIME, true)),
    ("relatime", clear(attr::ATIME, false)),
    ("remount", Meaning::Remount),
    ("rexec", clear(attr::NOEXEC, true)),
    ("ridmap", Meaning::Idmap { recursive: true }),
    ("rnoatime", set(attr::NOATIME, true)),
    ("rnodev", set(attr::NODEV, true)),
    ("rnodiratime", set(attr::NODIRATIME, true)),
    ("rnoexec", set(attr::NOEXEC, true)),
    ("rnorelatime", clear(attr::ATIME, true)),
    ("rnostrictatime", clear(attr::ATIME, true)),
    ("rnosuid", set(attr::NOSUID, true)),
    ("rnosymfollow", set(attr::NOSYMFOLLOW, true)),
    ("ro", set(attr::RDONLY, false)),
    ("rprivate", propagation(Private, true)),
    ("rrelatime", clear(attr::ATIME, true)),
    ("rro", set(attr::RDONLY, true)),
    ("rrw", clear(attr::RDONLY, true)),
    ("rshared", propagation(Shared, true)),
    ("rslave", propagation(Slave, true)),
    ("rstrictatime", set(attr::STRICTATIME, true)),
    ("rsuid", clear(attr::NOSUID, true)),
    ("rsymfollow", clear(attr::NOSYMFOLLOW, true)),
    ("runbindable", propagation(Unbindable, true)),
    ("rw", clear(attr::RDONLY, false)),
    ("shared", propagation(Shared, false)),
    ("silent", sb(Superblock::Silent, true)),
    ("slave", propagation(Slave, false)),
    ("strictatime", set(attr::STRICTATIME, false)),
    ("suid", clear(attr::NOSUID, false)),
    ("symfollow", clear(attr::NOSYMFOLLOW, false)),
    ("sync", sb(Superblock::Sync, true)),
    ("tmpcopyup", Meaning::TmpCopyUp),
    ("unbindable", propagation(Unbindable, false)),
];

/// The meaning of a word, if hull knows it.
pub fn meaning(word: &str) -> Option<Meaning> {
    OPTIONS.binary_search_by(|(name, _)| name.cmp(&word)).ok().map(|i| OPTIONS[i].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_without_doubles() {
        assert!(OPTIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn an_access_time_policy_replaces_the_old_one() {
        for (word, expected) in [("noatime", attr::NOATIME), ("rstrictatime", attr::STRICTATIME), ("relatime", 0)] {
            let Some(Meaning::Attr { set, clear, .. }) = meaning(word) else { panic!("{word}") };
            assert_eq!((set, clear), (expected, attr::ATIME));
        }
    }
}
