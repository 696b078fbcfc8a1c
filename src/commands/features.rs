//! `hull features`: what hull can do, as JSON (features.md, features-linux.md).
//!
//! Engines decide by it whether to ask: containerd and CRI-O refuse pods without `mountExtensions.idmap` or without
//! `rro` among the mount options. So nothing is listed here by hand that the plan has a table for, and what hull does
//! not do is absent or false.

use serde::Serialize;

use super::{Done, json};
use crate::Result;
use crate::error::Step;
use crate::plan::hooks::Hooks;
use crate::plan::namespaces::Kind;
use crate::plan::{memory_policy, mounts, seccomp};
use crate::sys;

/// Prints the features.
pub fn features() -> Result<Done> {
    json(Step::Usage, serde_json::to_string_pretty(&Features::new(&supported()))).map(Done::from)
}

/// What the plan can plan; each field comes from the plan's own table.
#[derive(Debug, Clone, Default)]
pub struct Supported {
    /// Hooks that run.
    pub hooks: Vec<&'static str>,
    /// Mount options that are understood.
    pub mount_options: Vec<&'static str>,
    /// Namespaces that are made and joined.
    pub namespaces: Vec<&'static str>,
    /// Cgroup hierarchies that can be used.
    pub cgroup_v1: bool,
    /// cgroup2.
    pub cgroup_v2: bool,
    /// Cgroups by systemd; and by a user's session of it.
    pub systemd: (bool, bool),
    /// The rdma controller.
    pub rdma: bool,
    /// Seccomp filters; absent: none.
    pub seccomp: Option<Seccomp>,
    /// AppArmor profiles.
    pub apparmor: bool,
    /// SELinux labels.
    pub selinux: bool,
    /// linux.intelRdt: schemata; monitoring.
    pub intel_rdt: Option<(bool, bool)>,
    /// linux.memoryPolicy: modes; flags.
    pub memory_policy: Option<(Vec<&'static str>, Vec<&'static str>)>,
    /// linux.netDevices.
    pub net_devices: bool,
    /// Idmapped mounts.
    pub idmap: bool,
    /// Annotations (or prefixes, ending in a dot) that change what hull does.
    pub unsafe_annotations: &'static [&'static str],
}

/// What the seccomp compiler knows.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// Filters are loaded.
    pub enabled: bool,
    /// SCMP_ACT_...
    pub actions: Vec<&'static str>,
    /// SCMP_CMP_...
    pub operators: Vec<&'static str>,
    /// SCMP_ARCH_...
    pub archs: Vec<&'static str>,
    /// SECCOMP_FILTER_FLAG_... that are recognised.
    pub known_flags: Vec<&'static str>,
    /// Those of them that this kernel takes.
    pub supported_flags: Vec<&'static str>,
}

/// What this hull supports. A field is filled when its part of the plan is there.
fn supported() -> Supported {
    Supported {
        hooks: Hooks::KINDS.to_vec(),
        mount_options: mounts::OPTIONS.iter().map(|(word, _)| *word).collect(),
        namespaces: Kind::ALL.iter().map(|row| row.1).collect(),
        cgroup_v1: true,
        cgroup_v2: true,
        systemd: (true, true),
        rdma: true,
        seccomp: Some(Seccomp {
            enabled: true,
            actions: seccomp::ACTIONS.to_vec(),
            operators: seccomp::OPERATORS.to_vec(),
            archs: seccomp::ARCHS.to_vec(),
            known_flags: seccomp::KNOWN_FLAGS.iter().map(|row| row.0).collect(),
            supported_flags: seccomp::KNOWN_FLAGS
                .iter()
                .filter(|(_, flag)| sys::seccomp::knows_flag(*flag))
                .map(|row| row.0)
                .collect(),
        }),
        apparmor: true,
        selinux: true,
        memory_policy: Some((
            memory_policy::MODES.iter().map(|row| row.0).collect(),
            memory_policy::FLAGS.iter().map(|row| row.0).collect(),
        )),
        intel_rdt: Some((true, true)),
        net_devices: true,
        idmap: true,
        unsafe_annotations: &[seccomp::FAIL_UNKNOWN_ANNOTATION, "org.systemd.property."],
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Features<'a> {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: &'a [&'static str],
    mount_options: Vec<&'static str>,
    linux: Linux<'a>,
    annotations: Annotations,
    potentially_unsafe_config_annotations: &'a [&'static str],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux<'a> {
    namespaces: Vec<&'static str>,
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_policy: Option<MemoryPolicy<'a>>,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Debug, Serialize)]
struct Annotations {
    #[serde(rename = "io.hull.version")]
    version: &'static str,
    #[serde(rename = "io.hull.commit")]
    commit: &'static str,
    // crun says so, too, by this name.
    #[serde(rename = "org.opencontainers.runc.checkpoint.enabled")]
    checkpoint: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Debug, Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Debug, Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Debug, Serialize)]
struct MemoryPolicy<'a> {
    modes: &'a [&'static str],
    flags: &'a [&'static str],
}

#[derive(Debug, Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

impl<'a> Features<'a> {
    fn new(supported: &'a Supported) -> Features<'a> {
        let enabled = |enabled| Enabled { enabled };
        let (schemata, monitoring) = supported.intel_rdt.unwrap_or_default();
        let sorted = |words: &[&'static str]| {
            let mut words = words.to_vec();
            words.sort_unstable();
            words
        };
        Features {
            oci_version_min: "1.0.0",
            oci_version_max: crate::spec::VERSION,
            // The hooks keep the order in which they run.
            hooks: &supported.hooks,
            mount_options: sorted(&supported.mount_options),
            linux: Linux {
                namespaces: sorted(&supported.namespaces),
                capabilities: crate::plan::process::all_names(),
                cgroup: Cgroup {
                    v1: supported.cgroup_v1,
                    v2: supported.cgroup_v2,
                    systemd: supported.systemd.0,
                    systemd_user: supported.systemd.1,
                    rdma: supported.rdma,
                },
                seccomp: supported.seccomp.clone().unwrap_or_default(),
                apparmor: enabled(supported.apparmor),
                selinux: enabled(supported.selinux),
                intel_rdt: IntelRdt { enabled: supported.intel_rdt.is_some(), schemata, monitoring },
                memory_policy: supported.memory_policy.as_ref().map(|(modes, flags)| MemoryPolicy { modes, flags }),
                mount_extensions: MountExtensions { idmap: enabled(supported.idmap) },
                net_devices: enabled(supported.net_devices),
            },
            annotations: Annotations {
                version: env!("CARGO_PKG_VERSION"),
                commit: env!("HULL_COMMIT"),
                checkpoint: "true",
            },
            potentially_unsafe_config_annotations: supported.unsafe_annotations,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Supported {
        Supported {
            hooks: vec!["prestart"],
            mount_options: vec!["rw", "ro"],
            namespaces: vec!["pid", "time"],
            cgroup_v1: true,
            cgroup_v2: true,
            systemd: (true, true),
            rdma: true,
            seccomp: Some(Seccomp { enabled: true, actions: vec!["SCMP_ACT_ALLOW"], ..Seccomp::default() }),
            apparmor: true,
            selinux: true,
            intel_rdt: Some((true, true)),
            memory_policy: Some((vec!["MPOL_BIND"], vec![])),
            net_devices: true,
            idmap: true,
            unsafe_annotations: &["org.systemd.property."],
        }
    }

    #[test]
    fn what_is_not_there_is_not_claimed() {
        let value = serde_json::to_value(Features::new(&Supported::default())).unwrap();
        let text = value.to_string();
        // The verbs are hull's own, whatever the host has.
        assert!(!text.replace(r#"checkpoint.enabled":"true""#, "").contains("true"), "{text}");
        assert!(value["linux"]["memoryPolicy"].is_null());
    }

    #[test]
    fn what_is_there_is_claimed_at_the_specifications_place() {
        let value = serde_json::to_value(Features::new(&everything())).unwrap();
        assert!(!value.to_string().contains("false"), "{value}");
        assert_eq!(value["ociVersionMin"], "1.0.0");
        assert_eq!(value["ociVersionMax"], crate::spec::VERSION);
        assert_eq!(value["mountOptions"], serde_json::json!(["ro", "rw"]));
        assert_eq!(value["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        assert_eq!(value["linux"]["cgroup"]["systemdUser"], true);
        assert_eq!(value["linux"]["intelRdt"]["monitoring"], true);
        assert_eq!(value["linux"]["memoryPolicy"]["modes"][0], "MPOL_BIND");
        assert_eq!(value["potentiallyUnsafeConfigAnnotations"][0], "org.systemd.property.");
    }

    #[test]
    fn seccomp_is_what_the_compiler_knows() {
        let value = serde_json::to_value(Features::new(&supported())).unwrap();
        let printed = &value["linux"]["seccomp"];
        assert_eq!(printed["enabled"], true);
        assert_eq!(printed["actions"], serde_json::json!(seccomp::ACTIONS));
        assert_eq!(printed["operators"], serde_json::json!(seccomp::OPERATORS));
        assert_eq!(printed["archs"], serde_json::json!(seccomp::ARCHS));
        assert_eq!(printed["knownFlags"], serde_json::json!(seccomp::KNOWN_FLAGS.map(|row| row.0)));
    }

    #[test]
    fn capabilities_are_complete_and_in_order() {
        let all = crate::plan::process::all_names();
        assert_eq!((all[0].as_str(), all[40].as_str()), ("CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"));
        assert_eq!(all.len(), 41);
    }

    #[test]
    fn the_specifications_own_parser_reads_it() {
        for supported in [Supported::default(), supported(), everything()] {
            let text = serde_json::to_string(&Features::new(&supported)).unwrap();
            serde_json::from_str::<oci_spec::runtime::Features>(&text).unwrap();
        }
    }
}
