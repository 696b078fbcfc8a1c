//! `hull features`: every property of the specification's schema, and each claim proved by a container.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let verb = Need::Verb("features");
    vec![
        test("features/has_the_properties_of_the_schema", has_the_properties_of_the_schema).requires(Need::Hull),
        test("features/each_mount_option_is_taken", each_mount_option_is_taken)
            .requires(verb)
            .peer("runc", "1.1 hands the word defaults to the file system"),
        test("features/each_namespace_is_made", each_namespace_is_made)
            .requires(verb)
            .peer("runc", "1.1 has no time namespace"),
        test("features/each_capability_is_known", each_capability_is_known)
            .requires(verb)
            .peer("runc", "fails where a capability cannot be granted"),
        test("features/each_hook_runs", each_hook_runs)
            .requires(verb)
            .peer("runc", "runs poststart before the program is started"),
        test("features/each_seccomp_word_is_taken", each_seccomp_word_is_taken)
            .requires(verb)
            .peer("runc", "refuses architectures of another byte order"),
        test("features/each_supported_flag_loads", each_supported_flag_loads)
            .requires(verb)
            .peer("runc", "1.1 lists no flags"),
        test("features/what_is_off_is_refused", what_is_off_is_refused).requires(Need::Hull),
    ]
}

/// What the schema allows for a value.
#[derive(Clone, Copy)]
enum Shape {
    Word,
    Bool,
    /// Words of this form only.
    Words(fn(&str) -> bool),
    Strings,
}

/// schema/features-schema.json and features-linux.json of runtime-spec 1.3, as data: place and shape.
const SCHEMA: &[(&str, Shape)] = &[
    ("/ociVersionMin", Shape::Word),
    ("/ociVersionMax", Shape::Word),
    ("/hooks", Shape::Words(|word| HOOKS.contains(&word))),
    ("/mountOptions", Shape::Words(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))),
    ("/annotations", Shape::Strings),
    ("/potentiallyUnsafeConfigAnnotations", Shape::Words(|word| word.contains('.'))),
    ("/linux/namespaces", Shape::Words(|word| NAMESPACES.iter().any(|row| row.0 == word))),
    ("/linux/capabilities", Shape::Words(|word| word.starts_with("CAP_"))),
    ("/linux/cgroup/v1", Shape::Bool),
    ("/linux/cgroup/v2", Shape::Bool),
    ("/linux/cgroup/systemd", Shape::Bool),
    ("/linux/cgroup/systemdUser", Shape::Bool),
    ("/linux/cgroup/rdma", Shape::Bool),
    ("/linux/seccomp/enabled", Shape::Bool),
    ("/linux/seccomp/actions", Shape::Words(|word| word.starts_with("SCMP_ACT_"))),
    ("/linux/seccomp/operators", Shape::Words(|word| word.starts_with("SCMP_CMP_"))),
    ("/linux/seccomp/archs", Shape::Words(|word| word.starts_with("SCMP_ARCH_"))),
    ("/linux/seccomp/knownFlags", Shape::Words(|word| word.starts_with("SECCOMP_FILTER_FLAG_"))),
    ("/linux/seccomp/supportedFlags", Shape::Words(|word| word.starts_with("SECCOMP_FILTER_FLAG_"))),
    ("/linux/apparmor/enabled", Shape::Bool),
    ("/linux/selinux/enabled", Shape::Bool),
    ("/linux/intelRdt/enabled", Shape::Bool),
    ("/linux/intelRdt/schemata", Shape::Bool),
    ("/linux/intelRdt/monitoring", Shape::Bool),
    ("/linux/memoryPolicy/modes", Shape::Words(|word| word.starts_with("MPOL_"))),
    ("/linux/memoryPolicy/flags", Shape::Words(|word| word.starts_with("MPOL_F_"))),
    ("/linux/mountExtensions/idmap/enabled", Shape::Bool),
    ("/linux/netDevices/enabled", Shape::Bool),
];

const HOOKS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// The specification's name, and the kernel's in /proc/PID/ns.
const NAMESPACES: [(&str, &str); 8] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("time", "time"),
    ("user", "user"),
    ("uts", "uts"),
];

/// The mount options of the table in config.md of runtime-spec 1.3.
const MOUNT_OPTIONS: &str = "acl async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand \
    noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private \
    ratime rbind rdev rdiratime relatime remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime \
    rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow \
    runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable";

fn features(case: &Case) -> Result<Value> {
    let output = case.verb(["features"])?.ok()?;
    serde_json::from_str(&output.stdout).with_context(|| format!("features printed {:?}", output.stdout))
}

/// The words of a list; empty where it is absent.
fn words(features: &Value, pointer: &str) -> Vec<String> {
    let list = features.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

fn has_the_properties_of_the_schema(case: &mut Case) -> Result<()> {
    let features = features(case)?;
    for (pointer, shape) in SCHEMA {
        let Some(value) = features.pointer(pointer) else {
            // Only a part that hull does not have may be absent; the other cases prove the rest.
            ensure!(pointer.starts_with("/linux/memoryPolicy/"), "{pointer} is absent");
            continue;
        };
        let right = match shape {
            Shape::Word => value.as_str().is_some_and(|word| word.starts_with("1.")),
            Shape::Bool => value.is_boolean(),
            Shape::Words(form) => {
                let list = value.as_array().with_context(|| format!("{pointer} is no list"))?;
                let mut sorted: Vec<_> = list.iter().map(ToString::to_string).collect();
                sorted.sort();
                sorted.dedup();
                sorted.len() == list.len() && list.iter().all(|word| word.as_str().is_some_and(form))
            }
            Shape::Strings => value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
        };
        ensure!(right, "{pointer}: {value}");
    }
    let mut places = Vec::new();
    leaves(&features, String::new(), &mut places);
    for place in places {
        let known = SCHEMA.iter().any(|(pointer, _)| place == *pointer || place.starts_with(&format!("{pointer}/")));
        ensure!(known, "{place} is no property of the schema");
    }
    let mut options: Vec<_> = MOUNT_OPTIONS.split_whitespace().collect();
    options.sort_unstable();
    ensure!(words(&features, "/mountOptions") == options, "mountOptions: {:?}", words(&features, "/mountOptions"));
    ensure!(words(&features, "/hooks") == HOOKS, "hooks: {:?}", words(&features, "/hooks"));
    let namespaces: Vec<_> = NAMESPACES.iter().map(|row| row.0).collect();
    ensure!(words(&features, "/linux/namespaces") == namespaces, "{:?}", words(&features, "/linux/namespaces"));
    // Engines refuse pods without it.
    ensure!(features["linux"]["mountExtensions"]["idmap"]["enabled"] == true, "idmap is off");
    Ok(())
}

fn leaves(value: &Value, place: String, out: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| leaves(value, format!("{place}/{key}"), out));
        }
        _ => out.push(place),
    }
}

/// Each word on a mount of the kind that it is for. Words that hull did not know would be data of the tmpfs, which it
/// refuses, or words of a bind mount, which hull refuses itself.
fn each_mount_option_is_taken(case: &mut Case) -> Result<()> {
    let options = words(&features(case)?, "/mountOptions");
    ensure!(options.len() >= 60, "only {} options", options.len());
    std::fs::create_dir(case.dir.join("source"))?;
    let source = case.dir.join("source");
    for (number, option) in options.iter().enumerate() {
        let destination = format!("/mnt/{number}");
        match option.as_str() {
            // They need the container's user namespace: the cases of userns and mounts have them.
            "idmap" | "ridmap" => {}
            "remount" => {
                case.mount(json!({"destination": destination, "type": "tmpfs", "source": "t"}));
                case.mount(json!({"destination": destination, "options": ["remount", "ro"]}));
            }
            "bind" | "rbind" => {
                case.mount(json!({"destination": destination, "source": source, "options": [option]}));
            }
            word => {
                case.mount(
                    json!({"destination": destination, "type": "tmpfs", "source": "t", "options": [word, "size=64k"]}),
                );
            }
        }
    }
    case.script("grep -c ' /mnt/' /proc/self/mountinfo");
    let printed = case.run()?.ok()?.stdout;
    let wanted = options.iter().filter(|word| !matches!(word.as_str(), "idmap" | "ridmap")).count();
    ensure!(printed.trim() == wanted.to_string(), "{} mounts instead of {wanted}", printed.trim());
    Ok(())
}

fn each_namespace_is_made(case: &mut Case) -> Result<()> {
    for kind in words(&features(case)?, "/linux/namespaces") {
        if kind != "user" {
            case.namespace(json!({"type": kind}));
        } else if rustix::process::geteuid().is_root() {
            case.user_namespace()?;
        }
    }
    case.args(["sleep", "60"]);
    let init = case.up()?;
    for (kind, name) in NAMESPACES {
        let (own, theirs) = (kernel::namespace(std::process::id() as i32, name)?, kernel::namespace(init.pid, name)?);
        ensure!(own != theirs, "the {kind} namespace is the caller's");
    }
    case.delete()
}

/// A name that is not known is left out with a warning, so what the program has shows that each is known.
fn each_capability_is_known(case: &mut Case) -> Result<()> {
    let all = words(&features(case)?, "/linux/capabilities");
    case.set("/process/capabilities", json!({"bounding": all, "permitted": all, "effective": all}));
    case.args(["sleep", "60"]);
    let init = case.up()?;
    let set = |pid, field| Ok::<_, anyhow::Error>(u64::from_str_radix(&kernel::status(pid, field)?, 16)?);
    let last: u32 = kernel::read("/proc/sys/kernel/cap_last_cap")?.trim().parse()?;
    // A user namespace of its own gives all, another container no more than the suite may have.
    let most = match rustix::process::geteuid().is_root() {
        true => set(std::process::id() as i32, "CapBnd")?,
        false => u64::MAX >> (63 - last),
    };
    let has = set(init.pid, "CapEff")?;
    ensure!(has == most, "{has:x} of {most:x}");
    ensure!(has.count_ones() as usize <= all.len(), "the kernel has more capabilities than features");
    case.delete()
}

fn each_hook_runs(case: &mut Case) -> Result<()> {
    let hooks = words(&features(case)?, "/hooks");
    let log = case.rootfs().join("tmp/log");
    for hook in &hooks {
        let log = if hook == "startContainer" { "/tmp/log".into() } else { log.to_string_lossy() };
        let script = format!("echo {hook} >> {log}");
        case.set(&format!("/hooks/{hook}"), json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]));
    }
    case.set("/root/readonly", json!(false)).run()?.ok()?;
    let ran = kernel::read(&log)?;
    let ran: Vec<_> = ran.lines().collect();
    ensure!(ran == hooks, "{ran:?} ran, features has {hooks:?}");
    Ok(())
}

/// Every action, operator and architecture in one profile, whose rules concern calls that nothing makes.
fn each_seccomp_word_is_taken(case: &mut Case) -> Result<()> {
    let features = features(case)?;
    let (actions, operators) =
        (words(&features, "/linux/seccomp/actions"), words(&features, "/linux/seccomp/operators"));
    ensure!(actions.len() >= 9 && operators.len() == 7, "{actions:?} {operators:?}");
    // An agent is another case's: SCMP_ACT_NOTIFY needs one that answers.
    let calls = ["swapon", "swapoff", "kexec_load", "acct", "reboot", "syslog", "vhangup", "init_module", "ustat"];
    let mut rules: Vec<Value> = actions
        .iter()
        .zip(calls)
        .filter(|(action, _)| *action != "SCMP_ACT_NOTIFY")
        .map(|(action, call)| json!({"names": [call], "action": action}))
        .collect();
    for (index, operator) in operators.iter().enumerate() {
        rules.push(json!({"names": ["quotactl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 40 + index,
                          "args": [{"index": 0, "value": 7, "valueTwo": 7, "op": operator}]}));
    }
    let archs = words(&features, "/linux/seccomp/archs");
    case.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": archs, "syscalls": rules}));
    case.script("grep Seccomp: /proc/self/status").run()?.ok()?.stdout_is("Seccomp:\t2\n").map(drop)
}

fn each_supported_flag_loads(case: &mut Case) -> Result<()> {
    let features = features(case)?;
    let known = words(&features, "/linux/seccomp/knownFlags");
    let supported = words(&features, "/linux/seccomp/supportedFlags");
    ensure!(!supported.is_empty() && supported.iter().all(|flag| known.contains(flag)), "{supported:?} of {known:?}");
    // It goes with an agent, which is another case's.
    let flags: Vec<_> = supported.iter().filter(|flag| !flag.ends_with("WAIT_KILLABLE_RECV")).collect();
    for flag in flags {
        case.set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag],
                   "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}),
        );
        case.script("grep Seccomp: /proc/self/status").run()?.ok()?.stdout_is("Seccomp:\t2\n")?;
    }
    Ok(())
}

/// What `features` denies is refused by create, and what it claims is not "not supported".
fn what_is_off_is_refused(case: &mut Case) -> Result<()> {
    let features = features(case)?;
    let table = [
        ("netDevices", "/linux/netDevices/enabled", json!({"hull-none": {}})),
        ("intelRdt", "/linux/intelRdt/enabled", json!({"closID": "x"})),
        ("memoryPolicy", "/linux/memoryPolicy/modes", json!({"mode": "MPOL_DEFAULT"})),
    ];
    let good = case.config.clone();
    for (name, pointer, value) in table {
        case.config = good.clone();
        case.set(&format!("/linux/{name}"), value);
        let claimed = features.pointer(pointer).is_some_and(|claim| *claim != json!(false));
        let output = case.run()?;
        let refused = output.stderr.contains("is not supported by this version");
        if refused == claimed {
            bail!("features says {claimed} for {name}, and create {:?}", output.stderr);
        }
    }
    Ok(())
}
