//! Paths that the program may use, and no others: the annotations `io.hull.landlock.*` (landlock(7)). They hold beneath all
//! other limits, for the program and whatever exec adds.

use super::path::RootfsPath;
use super::seccomp::Filter;
use crate::error::{Error, Result, Step};
use crate::host::HostFacts;
use crate::spec::json::nearest;
use crate::spec::{LANDLOCK, Spec};

/// The first version of Landlock that restricts truncate(2), which writes (Linux 6.2).
pub const ABI: u32 = 3;

// LANDLOCK_ACCESS_FS_* (linux/landlock.h).
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const TRUNCATE: u64 = 1 << 14;
/// REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER.
const CHANGE_DIR: u64 = 0x3ff << 4;
/// All that is denied where no rule allows it: everything of [`ABI`].
pub const HANDLED: u64 = (1 << 15) - 1;
/// What a rule on anything but a directory can allow.
pub const OF_A_FILE: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE;

const READ: u64 = READ_FILE | READ_DIR;
/// The last word of each annotation, and what its paths and all beneath them allow. A file that may not be read could be
/// neither changed nor run in any useful way.
pub const WORDS: [(&str, u64); 3] =
    [("read", READ), ("write", READ | WRITE_FILE | TRUNCATE | CHANGE_DIR), ("execute", READ | EXECUTE)];

/// The rules; there may be none, which allows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landlock {
    /// One for each path of each annotation.
    pub rules: Vec<Rule>,
}

/// One path and what it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// A word of [`WORDS`].
    pub word: &'static str,
    /// A file, or a directory and all beneath it.
    pub path: RootfsPath,
    /// LANDLOCK_ACCESS_FS_*.
    pub access: u64,
}

impl Rule {
    /// Where config.json asks for it.
    pub fn pointer(&self) -> String {
        format!("/annotations/{LANDLOCK}{}", self.word)
    }
}

/// Whether the rules come into force before the capabilities fall, and so before startContainer hooks: without
/// no_new_privs that takes CAP_SYS_ADMIN, and a filter that is loaded then may forbid the calls. Of a filter that is only
/// loaded in front of startContainer hooks the same holds: there the rules come in front of it.
pub fn comes_early(early_filter: Option<&Filter>, no_new_privileges: bool) -> bool {
    early_filter.is_some() || !no_new_privileges
}

/// CRIU does not know Landlock: what it restored would be free of it.
pub fn check_restorable(landlock: Option<&Landlock>, verb: &str) -> Result<()> {
    match landlock {
        None => Ok(()),
        Some(_) => {
            let what = format!("{verb} a container with annotations {LANDLOCK}*: CRIU does not put Landlock back");
            Err(Error::host(Step::Criu, what))
        }
    }
}

/// From the annotations; None where none of them is there.
pub fn plan(spec: &Spec<'_>, host: &HostFacts) -> Result<Option<Landlock>> {
    if !spec.asks_for_landlock() {
        return Ok(None);
    }
    let mut rules = Vec::new();
    for (key, value) in spec.annotations.iter() {
        let Some(word) = key.strip_prefix(LANDLOCK) else { continue };
        let pointer = format!("/annotations/{}", &**key);
        let Some((word, access)) = WORDS.into_iter().find(|(known, _)| *known == word) else {
            let names = WORDS.map(|(word, _)| word);
            let meant =
                nearest(word, names).map(|name| format!(": did you mean {LANDLOCK}{name}?")).unwrap_or_default();
            return Err(Error::spec(pointer, format_args!("is none of {LANDLOCK}{}{meant}", names.join(", "))));
        };
        if host.landlock < ABI {
            let lacks = match host.landlock {
                0 => "Landlock is not enabled on this host".to_owned(),
                abi => format!("this host has version {abi} of Landlock, which does not restrict truncate"),
            };
            return Err(Error::spec(
                pointer,
                format_args!("{lacks}: it takes Linux 6.2, booted with lsm=landlock,..."),
            ));
        }
        for path in value.split(':').filter(|path| !path.is_empty()) {
            if !path.starts_with('/') || path.contains('\0') {
                return Err(Error::spec(pointer, format_args!("{path:?} must be an absolute path of the container")));
            }
            rules.push(Rule { word, path: RootfsPath::new(path), access });
        }
    }
    Ok(Some(Landlock { rules }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::load;

    fn planned(annotations: &str, landlock: u32) -> Result<Option<Landlock>> {
        let text = load::Text(format!(r#"{{"ociVersion": "1.3.0", "annotations": {{{annotations}}}}}"#));
        let (spec, _) = load::parse(&text).unwrap();
        plan(&spec, &HostFacts { landlock, ..HostFacts::default() })
    }

    #[test]
    fn each_path_is_a_rule() {
        assert_eq!(planned("", 0).unwrap(), None);
        let found = planned(r#""io.hull.landlock.read": "/etc:/usr/share", "io.hull.landlock.execute": "/bin""#, 3);
        let rules = found.unwrap().unwrap().rules;
        let words: Vec<_> = rules.iter().map(|rule| (rule.word, rule.path.to_string(), rule.access)).collect();
        assert_eq!(
            words,
            [("read", "/etc".into(), 12), ("read", "/usr/share".into(), 12), ("execute", "/bin".into(), 13)]
        );
        assert_eq!(planned(r#""io.hull.landlock.write": """#, 7).unwrap().unwrap().rules, []);
        assert_eq!(WORDS.iter().fold(0, |all, (_, access)| all | access), HANDLED);
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let refused = |annotations, abi| planned(annotations, abi).unwrap_err().to_string();
        let read = r#""io.hull.landlock.read": "/etc""#;
        assert!(refused(read, 0).contains("not enabled"), "{}", refused(read, 0));
        assert!(refused(read, 2).contains("truncate"));
        assert!(refused(r#""io.hull.landlock.read": "/etc:usr""#, 3).contains("\"usr\" must be an absolute path"));
        assert!(refused(r#""io.hull.landlock.writes": "/etc""#, 3).contains("did you mean io.hull.landlock.write?"));
    }
}
