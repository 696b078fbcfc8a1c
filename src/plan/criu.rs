//! What of a container CRIU must not write down, since it belongs to the host: bind mounts and masked files.
//!
//! Each has a key that is made of its destination in config.json, in digits: nothing that it can hold means anything to CRIU.
//! So an image that someone else made names nothing on the host, whatever it says, and at restore the config alone decides
//! what lies where. Its number would not do: engines write another list of mounts for a container that they import.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Plan;
use super::mounts::MountKind;
use super::path::RootfsPath;

/// A mount whose source is the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Its name in the image.
    pub key: String,
    /// Where it is in the container.
    pub destination: RootfsPath,
    /// What is mounted there.
    pub source: PathBuf,
    /// It masks a file; a masked directory is no external mount.
    pub mask: bool,
}

/// The external mounts of a plan.
pub fn externals(plan: &Plan) -> Vec<External> {
    let binds = plan.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => Some(External {
            key: key("mount", &mount.destination),
            destination: mount.destination.clone(),
            source: source.clone(),
            mask: false,
        }),
        _ => None,
    });
    let masks = plan.rootfs.masked_paths.iter().map(|path| External {
        key: key("mask", path),
        destination: path.clone(),
        source: "/dev/null".into(),
        mask: true,
    });
    let mut all: Vec<External> = binds.chain(masks).collect();
    // Of two in the same place the upper one is seen.
    let last: BTreeMap<String, usize> = all.iter().enumerate().map(|(at, one)| (one.key.clone(), at)).collect();
    let mut number = 0;
    all.retain(|external| {
        number += 1;
        last.get(&external.key) == Some(&(number - 1))
    });
    all
}

fn key(kind: &str, destination: &RootfsPath) -> String {
    let bytes = destination.as_path().as_os_str().as_encoded_bytes();
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("hull-{kind}-{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mounts: &str) -> Vec<External> {
        let json = format!(
            r#"{{"ociVersion":"1.0.0","root":{{"path":"r"}},"process":{{"args":["x"],"cwd":"/"}},"mounts":[{mounts}],
                "linux":{{"namespaces":[{{"type":"mount"}}],"maskedPaths":["/proc/keys"]}}}}"#
        );
        let spec: crate::spec::Spec<'_> = serde_json::from_str(&json).unwrap();
        let host = crate::host::HostFacts::probe(&spec).unwrap();
        externals(&Plan::new(&spec, &host, &super::super::Options { id: "x".into(), ..Default::default() }).unwrap())
    }

    fn bind(destination: &str, source: &str) -> String {
        format!(r#"{{"destination":"{destination}","type":"bind","source":"{source}","options":["bind"]}}"#)
    }

    #[test]
    fn a_key_is_the_destinations_whatever_its_number() {
        let (a, b) = (bind("/a", "/etc"), bind("/b", "/usr"));
        let find = |list: Vec<External>, source: &str| {
            list.into_iter().find(|external| external.source == std::path::Path::new(source)).unwrap().key
        };
        assert_eq!(find(of(&format!("{a},{b}")), "/usr"), "hull-mount-2f62");
        assert_eq!(find(of(&b), "/usr"), "hull-mount-2f62");
        assert!(of("").iter().any(|external| external.mask && external.key == "hull-mask-2f70726f632f6b657973"));
    }

    #[test]
    fn no_character_of_a_path_is_in_a_key() {
        for external in of(&bind("/x]:/etc", "/etc")) {
            assert!(external.key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{}", external.key);
        }
    }

    #[test]
    fn the_upper_one_of_two_in_a_place() {
        let list = of(&format!("{},{}", bind("/a", "/etc"), bind("/a", "/usr")));
        let sources: Vec<_> = list.iter().filter(|external| !external.mask).map(|external| &external.source).collect();
        assert_eq!(sources, [std::path::Path::new("/usr")]);
    }
}
