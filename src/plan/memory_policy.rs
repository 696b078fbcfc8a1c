//! The NUMA memory policy of the program: /linux/memoryPolicy (set_mempolicy(2)).

use super::ranges;
use crate::error::{Error, Result};
use crate::spec;
use crate::spec::json::did_you_mean;

/// MPOL_* by name (linux/mempolicy.h).
pub const MODES: [(&str, u32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// MPOL_F_* by name; they are parts of the mode.
pub const FLAGS: [(&str, u32); 3] =
    [("MPOL_F_NUMA_BALANCING", 1 << 13), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_STATIC_NODES", 1 << 15)];

/// What set_mempolicy takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// The mode's name, for sentences.
    pub name: &'static str,
    /// MPOL_* and MPOL_F_*.
    pub mode: u32,
    /// The nodes, a bit each.
    pub nodes: Vec<u64>,
}

/// Plans the policy. What the kernel would refuse with a bare EINVAL is refused here, with the reason.
pub fn plan(policy: &spec::MemoryPolicy<'_>) -> Result<MemoryPolicy> {
    let at = |field: &str| format!("/linux/memoryPolicy/{field}");
    let Some(name) = policy.mode.as_deref().filter(|mode| !mode.is_empty()) else {
        return Err(Error::spec(at("mode"), "invalid memory policy mode \"\": it is missing"));
    };
    let Some(&(name, mode)) = MODES.iter().find(|(known, _)| *known == name) else {
        return Err(unknown(at("mode"), "mode", name, &MODES));
    };
    let mut flags = 0;
    for (index, flag) in policy.flags.iter().enumerate() {
        let Some((_, bit)) = FLAGS.iter().find(|(known, _)| *known == &**flag) else {
            return Err(unknown(at(&format!("flags/{index}")), "flag", flag, &FLAGS));
        };
        flags |= bit;
    }
    let nodes = policy.nodes.as_deref().unwrap_or_default();
    let nodes = ranges::mask(nodes)
        .map_err(|what| Error::spec(at("nodes"), format_args!("invalid memory policy nodes {nodes:?}: {what}")))?;
    let has = |flag: &str| FLAGS.iter().any(|(known, bit)| *known == flag && flags & bit != 0);
    let positions = has("MPOL_F_STATIC_NODES") || has("MPOL_F_RELATIVE_NODES");
    match name {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if !nodes.is_empty() => {
            return Err(Error::spec(at("nodes"), format_args!("{name} takes no nodes")));
        }
        "MPOL_DEFAULT" | "MPOL_LOCAL" if flags != 0 => {
            return Err(Error::spec(at("flags"), format_args!("{name} takes no flags")));
        }
        // Preferred without a node means the local one, to which a position makes no sense.
        "MPOL_DEFAULT" | "MPOL_LOCAL" => {}
        "MPOL_PREFERRED" if !positions => {}
        _ if nodes.is_empty() => {
            return Err(Error::spec(at("nodes"), format_args!("{name} needs at least one node")));
        }
        _ => {}
    }
    if has("MPOL_F_STATIC_NODES") && has("MPOL_F_RELATIVE_NODES") {
        return Err(Error::spec(at("flags"), "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other"));
    }
    if has("MPOL_F_NUMA_BALANCING") && !matches!(name, "MPOL_BIND" | "MPOL_PREFERRED_MANY") {
        let what = "MPOL_F_NUMA_BALANCING goes with MPOL_BIND and MPOL_PREFERRED_MANY only";
        return Err(Error::spec(at("flags"), what));
    }
    Ok(MemoryPolicy { name, mode: mode | flags, nodes })
}

fn unknown(pointer: String, what: &str, name: &str, known: &[(&'static str, u32)]) -> Error {
    let error = Error::spec(pointer, format_args!("invalid memory policy {what} {name:?}"));
    Error { hint: did_you_mean(name, known.iter().map(|row| row.0)), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Result<MemoryPolicy> {
        plan(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn modes_nodes_and_flags() {
        let bind = policy(r#"{"mode":"MPOL_BIND","nodes":"0-1,3","flags":["MPOL_F_STATIC_NODES"]}"#).unwrap();
        assert_eq!(bind, MemoryPolicy { name: "MPOL_BIND", mode: 2 | 1 << 15, nodes: vec![0b1011] });
        assert_eq!(policy(r#"{"mode":"MPOL_PREFERRED","nodes":""}"#).unwrap().nodes, [0; 0]);
        for (name, mode) in MODES {
            let nodes = if matches!(name, "MPOL_DEFAULT" | "MPOL_LOCAL") { "" } else { "0" };
            assert_eq!(policy(&format!(r#"{{"mode":"{name}","nodes":"{nodes}"}}"#)).unwrap().mode, mode);
        }
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused_with_its_place() {
        for (json, words) in [
            ("{}", "/linux/memoryPolicy/mode: invalid memory policy mode \"\""),
            (
                r#"{"mode":"MPOL_BINT","nodes":"0"}"#,
                "mode: invalid memory policy mode \"MPOL_BINT\" (did you mean \"MPOL_BIND\"?)",
            ),
            (r#"{"mode":"MPOL_BIND"}"#, "nodes: MPOL_BIND needs at least one node"),
            (r#"{"mode":"MPOL_BIND","nodes":"x"}"#, "nodes: invalid memory policy nodes \"x\": \"x\" is no list"),
            (r#"{"mode":"MPOL_DEFAULT","nodes":"0"}"#, "nodes: MPOL_DEFAULT takes no nodes"),
            (r#"{"mode":"MPOL_LOCAL","flags":["MPOL_F_STATIC_NODES"]}"#, "flags: MPOL_LOCAL takes no flags"),
            (r#"{"mode":"MPOL_PREFERRED","flags":["MPOL_F_STATIC_NODES"]}"#, "nodes: MPOL_PREFERRED needs"),
            (r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC"]}"#, "flags/0: invalid memory policy flag"),
            (
                r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES","MPOL_F_RELATIVE_NODES"]}"#,
                "exclude each other",
            ),
            (r#"{"mode":"MPOL_INTERLEAVE","nodes":"0","flags":["MPOL_F_NUMA_BALANCING"]}"#, "goes with MPOL_BIND"),
        ] {
            let error = policy(json).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
