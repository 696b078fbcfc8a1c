//! The config.json that `hull spec` writes: runc's default, and its rootless form.
//!
//! The text is put together from pieces, so that it keeps the order in which people read a config.

const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

const MASKED_PATHS: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The text of a config.json that runs `sh` in `rootfs`. With `rootless` it maps root to these two ids, the caller's
/// uid and gid, and asks for nothing that needs more; with `cgroup_namespace` the program sees its own cgroup as root.
pub fn config(rootless: Option<(u32, u32)>, cgroup_namespace: bool) -> String {
    let capabilities = ["bounding", "effective", "permitted"]
        .map(|set| format!("\t\t\t\"{set}\": {}", strings(&CAPABILITIES, "\t\t\t")))
        .join(",\n");
    format!(
        r#"{{
	"ociVersion": "{version}",
	"process": {{
		"terminal": true,
		"user": {{
			"uid": 0,
			"gid": 0
		}},
		"args": [
			"sh"
		],
		"env": [
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"TERM=xterm"
		],
		"cwd": "/",
		"capabilities": {{
{capabilities}
		}},
		"rlimits": [
			{{
				"type": "RLIMIT_NOFILE",
				"hard": 1024,
				"soft": 1024
			}}
		],
		"noNewPrivileges": true
	}},
	"root": {{
		"path": "rootfs",
		"readonly": true
	}},
	"hostname": "hull",
	"mounts": [
{mounts}
	],
	"linux": {{
{linux}
	}}
}}
"#,
        version = super::VERSION,
        mounts = mounts(rootless.is_some()),
        linux = linux(rootless, cgroup_namespace),
    )
}

fn mounts(rootless: bool) -> String {
    let mut devpts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !rootless {
        // Without root only one gid is mapped.
        devpts.push("gid=5");
    }
    // A sysfs of one's own needs a network namespace of one's own, which the rootless form does without.
    let sys: (_, _, &[&str]) = if rootless {
        ("none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"])
    } else {
        ("sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
    };
    let cgroup = ["nosuid", "noexec", "nodev", "relatime", "ro"];
    [
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &devpts),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", sys.0, sys.1, sys.2),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &cgroup),
    ]
    .join(",\n")
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> String {
    let options = match options {
        [] => String::new(),
        options => format!(",\n\t\t\t\"options\": {}", strings(options, "\t\t\t")),
    };
    format!(
        "\t\t{{\n\t\t\t\"destination\": \"{destination}\",\n\t\t\t\"type\": \"{kind}\",\n\t\t\t\"source\": \
         \"{source}\"{options}\n\t\t}}"
    )
}

fn linux(rootless: Option<(u32, u32)>, cgroup_namespace: bool) -> String {
    let mut members = Vec::new();
    match rootless {
        Some((uid, gid)) => {
            for (name, id) in [("uidMappings", uid), ("gidMappings", gid)] {
                members.push(format!(
                    "\t\t\"{name}\": [\n\t\t\t{{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": {id},\n\t\t\t\t\
                     \"size\": 1\n\t\t\t}}\n\t\t]"
                ));
            }
        }
        None => members.push(
            "\t\t\"resources\": {\n\t\t\t\"devices\": [\n\t\t\t\t{\n\t\t\t\t\t\"allow\": false,\n\t\t\t\t\t\
             \"access\": \"rwm\"\n\t\t\t\t}\n\t\t\t]\n\t\t}"
                .into(),
        ),
    }
    let mut namespaces = vec!["pid"];
    if rootless.is_none() {
        namespaces.push("network");
    }
    namespaces.extend(["ipc", "uts", "mount"]);
    if cgroup_namespace {
        namespaces.push("cgroup");
    }
    if rootless.is_some() {
        namespaces.push("user");
    }
    let namespaces: Vec<_> =
        namespaces.iter().map(|kind| format!("\t\t\t{{\n\t\t\t\t\"type\": \"{kind}\"\n\t\t\t}}")).collect();
    members.push(format!("\t\t\"namespaces\": [\n{}\n\t\t]", namespaces.join(",\n")));
    members.push(format!("\t\t\"maskedPaths\": {}", strings(&MASKED_PATHS, "\t\t")));
    members.push(format!("\t\t\"readonlyPaths\": {}", strings(&READONLY_PATHS, "\t\t")));
    members.join(",\n")
}

fn strings(items: &[&str], indent: &str) -> String {
    let items: Vec<_> = items.iter().map(|item| format!("{indent}\t\"{item}\"")).collect();
    format!("[\n{}\n{indent}]", items.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::load;

    #[test]
    fn both_forms_are_configs_without_unknown_properties() {
        for text in [config(None, false), config(None, true), config(Some((1000, 100)), true)] {
            let text = load::Text(text);
            let (spec, unknown) = load::parse(&text).unwrap();
            assert_eq!(unknown.len(), 0, "{unknown:?}");
            assert_eq!(spec.mounts.len(), 7);
            assert_eq!(spec.oci_version.as_deref(), Some("1.3.0"));
            serde_json::from_str::<oci_spec::runtime::Spec>(&text.0).unwrap();
        }
    }

    #[test]
    fn the_rootless_form_maps_the_caller_and_shares_the_network() {
        let kinds = |text: &str| {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let kinds = value["linux"]["namespaces"].as_array().unwrap().iter();
            kinds.map(|one| one["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(kinds(&config(None, true)), "pid network ipc uts mount cgroup");
        let rootless = config(Some((1000, 100)), false);
        assert_eq!(kinds(&rootless), "pid ipc uts mount user");
        let value: serde_json::Value = serde_json::from_str(&rootless).unwrap();
        assert_eq!(value["linux"]["uidMappings"][0]["hostID"], 1000);
        assert_eq!(value["linux"]["gidMappings"][0]["hostID"], 100);
        assert_eq!(value["mounts"][5]["options"][0], "rbind");
        assert!(!rootless.contains("gid=5"));
        assert!(value["linux"]["resources"].is_null());
    }
}
