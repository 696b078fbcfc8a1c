//! Kernel parameters: only those that belong to a namespace of the container (sysctl(8), namespaces(7)).

use super::namespaces::{Kind, Namespaces};
use crate::error::{Error, Result};
use crate::spec;
use crate::spec::json::escape;

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// The path beneath /proc/sys.
    pub path: String,
    /// What is written.
    pub value: String,
    /// Its place in config.json.
    pub pointer: String,
}

/// Parameters of the ipc namespace, beside fs.mqueue.*.
const IPC: [&str; 9] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
    "kernel/sem_next_id",
];

/// From /linux/sysctl, in the order of the file.
pub fn plan(spec: &spec::Spec<'_>, namespaces: &Namespaces, notes: &mut Vec<String>) -> Result<Vec<Sysctl>> {
    let Some(linux) = &spec.linux else { return Ok(Vec::new()) };
    linux.sysctl.iter().map(|(key, value)| one(key, value, spec, namespaces, notes)).collect()
}

fn one(
    key: &str,
    value: &str,
    spec: &spec::Spec<'_>,
    namespaces: &Namespaces,
    notes: &mut Vec<String>,
) -> Result<Sysctl> {
    let pointer = format!("/linux/sysctl/{}", escape(key));
    let mut path = to_path(key);
    if let Some(meant) = mixed(key, &path) {
        notes.push(format!("config.json: {pointer}: taken as {meant}"));
        path = meant;
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
        return Err(Error::spec(pointer, "is no name of a kernel parameter"));
    }
    // The kernel says that it took everything, and drops what is beyond a page or beyond a name's field. Only a list of
    // ports is read on with the next write.
    let most = match path.as_str() {
        "kernel/hostname" | "kernel/domainname" => 64,
        "net/ipv4/ip_local_reserved_ports" => usize::MAX,
        _ => 4095,
    };
    if value.len() > most {
        return Err(Error::spec(pointer, format_args!("has {} bytes, the kernel takes at most {most}", value.len())));
    }
    let needs = if IPC.contains(&path.as_str()) || path.starts_with("fs/mqueue/") {
        Kind::Ipc
    } else if path.starts_with("net/") {
        Kind::Network
    } else if matches!(path.as_str(), "kernel/hostname" | "kernel/domainname") {
        Kind::Uts
    } else if path.starts_with("user/max_") || path.starts_with("user/") {
        Kind::User
    } else {
        return Err(Error::spec(
            pointer,
            "is a parameter of the whole host, not of a namespace: a container must not set it",
        ));
    };
    if !namespaces.own(needs) {
        let what = format!("needs a {} namespace of the container's own in /linux/namespaces", needs.name());
        return Err(Error::spec(pointer, what));
    }
    if (path == "kernel/hostname" && spec.hostname.as_ref().is_some_and(|name| **name != *value))
        || (path == "kernel/domainname" && spec.domainname.as_ref().is_some_and(|name| **name != *value))
    {
        return Err(Error::spec(pointer, "contradicts the name that config.json gives beside it"));
    }
    Ok(Sysctl { path, value: value.to_string(), pointer })
}

/// `net.ipv4.ip_forward` or `net/ipv4/ip_forward`: the first separator decides, the other one is part of a name, as
/// sysctl(8) has it (`net.ipv4.conf.eth0/1.forwarding`).
fn to_path(key: &str) -> String {
    let slash_first = key.find('/').is_some_and(|slash| key.find('.').is_none_or(|dot| slash < dot));
    if slash_first {
        return key.to_owned();
    }
    key.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        })
        .collect()
}

/// What a name in a mixed form means: no parameter has a dot in its own name, only an interface has, and an interface has no
/// slash. `net.ipv4.conf/lo/forwarding` and `net.ipv4.conf.eth0.1.forwarding` are read by that, where sysctl(8)'s rule
/// gives what no kernel has.
fn mixed(key: &str, path: &str) -> Option<String> {
    let of_interface = |parts: &[&str]| parts.len() > 4 && parts[0] == "net" && matches!(parts[2], "conf" | "neigh");
    let parts: Vec<&str> = path.split('/').collect();
    let dotted = |at: usize| parts[at].contains('.') && !(of_interface(&parts) && at == 3);
    if !((0..parts.len()).any(dotted) || of_interface(&parts) && parts.len() > 5) {
        return None;
    }
    let all: Vec<&str> = key.split(['.', '/']).collect();
    let meant = match of_interface(&all) {
        true => [&all[..3], &[&*all[3..all.len() - 1].join(".")], &all[all.len() - 1..]].concat().join("/"),
        false => all.join("/"),
    };
    (meant != path).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixed_form_is_read_where_it_means_one_thing() {
        let read = |key: &str| mixed(key, &to_path(key)).unwrap_or(to_path(key));
        for key in ["net.ipv4.conf/lo/forwarding", "net/ipv4.conf.lo.forwarding", "net.ipv4/conf/lo/forwarding"] {
            assert_eq!(read(key), "net/ipv4/conf/lo/forwarding");
        }
        for key in [
            "net.ipv4.conf.eth0/1.forwarding",
            "net/ipv4/conf/eth0.1/forwarding",
            "net.ipv4.conf.eth0.1.forwarding",
            "net.ipv4.conf/eth0.1/forwarding",
        ] {
            assert_eq!(read(key), "net/ipv4/conf/eth0.1/forwarding");
        }
        assert_eq!(mixed("net/../kernel/x", "net/../kernel/x"), Some("net////kernel/x".into()));
        assert_eq!(mixed("net.core.somaxconn", "net/core/somaxconn"), None);
    }

    #[test]
    fn both_forms_of_a_name() {
        assert_eq!(to_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(to_path("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(to_path("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn what_is_not_namespaced_here_is_refused() {
        let check = |json: &str| {
            let spec: spec::Spec<'_> = serde_json::from_str(json).unwrap();
            let namespaces = Namespaces::new(spec.linux.as_ref()).unwrap();
            plan(&spec, &namespaces, &mut Vec::new()).map_err(|e| e.to_string())
        };
        assert!(check(r#"{"linux":{"sysctl":{"vm.swappiness":"1"}}}"#).unwrap_err().contains("whole host"));
        assert!(
            check(r#"{"linux":{"sysctl":{"net.ipv4.ip_forward":"1"}}}"#).unwrap_err().contains("network namespace")
        );
        assert!(check(r#"{"linux":{"sysctl":{"net/../kernel/x":"1"}}}"#).unwrap_err().contains("no name"));
        let good =
            check(r#"{"linux":{"namespaces":[{"type":"network"}],"sysctl":{"net.core.somaxconn":"9"}}}"#).unwrap();
        assert_eq!((good[0].path.as_str(), good[0].value.as_str()), ("net/core/somaxconn", "9"));
    }
}
