//! Tables: names, slices, limits and device rules in systemd's words.

use std::path::Path;

use super::*;
use crate::host::{CgroupFacts, V1Hierarchy};

fn host(euid: u32) -> HostFacts {
    let manager_root = match euid {
        0 => "/".into(),
        _ => format!("/user.slice/user-{euid}.slice/user@{euid}.service").into(),
    };
    let v2_mount = Some("/sys/fs/cgroup".into());
    let cgroup = CgroupFacts { mode: CgroupMode::V2, v2_mount, manager_root, ..CgroupFacts::default() };
    HostFacts { euid, egid: euid, ..HostFacts::of_root(cgroup) }
}

fn unit_with(path: Option<&str>, annotations: &str, euid: u32) -> Result<Unit> {
    let annotations: spec::Dict<'_, spec::Str<'_>> = serde_json::from_str(annotations).unwrap();
    Unit::new(path, &annotations, &host(euid), "web")
}

fn unit(path: Option<&str>) -> Result<Unit> {
    unit_with(path, "{}", 0)
}

fn value<'u>(unit: &'u Unit, name: &str) -> Option<&'u Value> {
    unit.properties.iter().find(|property| property.name == name).map(|property| &property.value)
}

#[test]
fn names_and_places() {
    for (path, euid, name, cgroup) in [
        (None, 0, "hull-web.scope", "system.slice/hull-web.scope"),
        (None, 1000, "hull-web.scope", "user.slice/hull-web.scope"),
        (Some("system.slice:docker:abc"), 0, "docker-abc.scope", "system.slice/docker-abc.scope"),
        (Some(":docker:abc"), 0, "docker-abc.scope", "system.slice/docker-abc.scope"),
        (Some("user.slice::abc"), 1000, "abc.scope", "user.slice/abc.scope"),
        (Some("-.slice:p:n"), 0, "p-n.scope", "p-n.scope"),
        (Some("a-b-c.slice:p:n"), 0, "p-n.scope", "a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
        (Some("a.slice:ignored:a-pod.slice"), 0, "a-pod.slice", "a.slice/a-pod.slice"),
    ] {
        let unit = unit_with(path, "{}", euid).unwrap();
        assert_eq!((unit.name.as_str(), unit.cgroup()), (name, PathBuf::from(cgroup)), "{path:?}");
        assert_eq!(unit.session, if euid == 0 { Session::System } else { Session::User });
        let root = if euid == 0 { "" } else { "user.slice/user-1000.slice/user@1000.service/" };
        let trees = trees(&unit, &host(euid));
        assert_eq!(trees[0].directory(), Path::new("/sys/fs/cgroup").join(root).join(cgroup));
    }
}

#[test]
fn paths_that_are_none() {
    for path in [
        "/a/b",
        "a.slice:b",
        "a.slice:b:c:d",
        "a.slice:b:",
        "a:b:c",
        ".slice:b:c",
        "a--b.slice:b:c",
        "-a.slice:b:c",
        "a-.slice:b:c",
        "a/b.slice:b:c",
        "../a.slice:b:c",
        "a.slice:b:../c",
        "a.slice:b:c/d",
        "a.slice:b:c d",
        "a.slice:b:x--y.slice",
    ] {
        let error = unit(Some(path)).unwrap_err().to_string();
        assert!(error.contains("/linux/cgroupsPath"), "{path}: {error}");
    }
    assert!(unit(Some(&format!("a.slice:b:{}", "c".repeat(260)))).is_err());
}

#[test]
fn a_scope_and_a_slice() {
    let scope = unit(Some("a.slice:p:n")).unwrap();
    assert_eq!(value(&scope, "Slice"), Some(&Value::Text("a.slice".into())));
    assert_eq!(value(&scope, "Delegate"), Some(&Value::Bool(true)));
    assert_eq!(value(&scope, "DefaultDependencies"), Some(&Value::Bool(false)));
    assert_eq!(value(&scope, "Description"), Some(&Value::Text("hull container web".into())));
    for name in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
        assert_eq!(value(&scope, name), Some(&Value::Bool(true)), "{name}");
    }
    let slice = unit(Some("a.slice:p:a-n.slice")).unwrap();
    assert!(slice.is_slice() && !scope.is_slice());
    assert_eq!(value(&slice, "Wants"), Some(&Value::Texts(vec!["a.slice".into()])));
    assert_eq!((value(&slice, "Slice"), value(&slice, "Delegate")), (None, None));
}

#[test]
fn v1_hierarchies_get_the_same_path() {
    let mut host = host(0);
    host.cgroup.mode = CgroupMode::Hybrid;
    host.cgroup.v2_mount = Some("/sys/fs/cgroup/unified".into());
    host.cgroup.v1 = vec![V1Hierarchy {
        controllers: vec!["memory".into()],
        mount: "/sys/fs/cgroup/memory".into(),
        own: "/elsewhere".into(),
    }];
    let unit = Unit::new(None, &spec::Dict::default(), &host, "web").unwrap();
    let directories: Vec<PathBuf> = trees(&unit, &host).iter().map(Tree::directory).collect();
    let expected =
        ["memory", "unified"].map(|m| Path::new("/sys/fs/cgroup").join(m).join("system.slice/hull-web.scope"));
    assert_eq!(directories, expected);
    assert_eq!(value(&unit, "BlockIOAccounting"), Some(&Value::Bool(true)));
}

#[test]
fn annotations_add_and_override() {
    let json = r#"{"org.systemd.property.DefaultDependencies":"true","org.systemd.property.CollectMode":"'inactive-or-failed'","run.oci.systemd.subgroup":"inner","other":"x"}"#;
    let unit = unit_with(None, json, 0).unwrap();
    assert_eq!(value(&unit, "DefaultDependencies"), Some(&Value::Bool(true)));
    assert_eq!(unit.properties.iter().filter(|p| p.name == "DefaultDependencies").count(), 1);
    assert_eq!(value(&unit, "CollectMode"), Some(&Value::Text("inactive-or-failed".into())));
    assert_eq!(unit.cgroup(), Path::new("system.slice/hull-web.scope/inner"));
    assert!(unit_with(None, r#"{"run.oci.systemd.subgroup":"../up"}"#, 0).is_err());
    assert!(unit_with(None, r#"{"org.systemd.property.ExecStart":"'x'"}"#, 0).is_err());
}

fn write(file: &str, text: &str) -> Write {
    let controller = file.split('.').next().unwrap_or_default().to_owned();
    Write { tree: 0, controller, file: file.into(), value: text.into(), pointer: String::new(), not_below: None }
}

fn limit(writes: &[(&str, &str)]) -> Vec<(String, Value)> {
    let writes: Vec<Write> = writes.iter().map(|(file, value)| write(file, value)).collect();
    limits(&writes).into_iter().map(|property| (property.name, property.value)).collect()
}

#[test]
fn limits_in_systemds_words() {
    let number = |name: &str, value| (name.to_owned(), Value::Number(value));
    assert_eq!(
        limit(&[("memory.max", "1048576"), ("memory.swap.max", "max"), ("pids.max", "1"), ("cpu.weight", "79")]),
        [
            number("MemoryMax", 1_048_576),
            number("MemorySwapMax", u64::MAX),
            number("TasksMax", 1),
            number("CPUWeight", 79)
        ]
    );
    assert_eq!(limit(&[("memory.limit_in_bytes", "-1")]), [number("MemoryLimit", u64::MAX)]);
    assert_eq!(limit(&[("hugetlb.2MB.max", "0"), ("io.max", "8:0 rbps=1"), ("cpu.max.burst", "1")]), []);
    // A later write to the same file, by /linux/resources/unified, wins.
    assert_eq!(limit(&[("memory.max", "1"), ("memory.max", "2")]), [number("MemoryMax", 2)]);
    assert_eq!(limit(&[("io.bfq.weight", "100")]), [number("IOWeight", 100)]);
    assert_eq!(limit(&[("io.bfq.weight", "1000")]), [number("IOWeight", 10_000)]);
    assert_eq!(limit(&[("io.bfq.weight", "8:0 100")]), []);
}

#[test]
fn a_quota_is_rounded_up_to_ten_milliseconds() {
    let quota = |writes: &[(&str, &str)]| match &limit(writes)[..] {
        [(_, Value::Number(quota)), (_, Value::Number(period))] => (*quota, *period),
        other => panic!("{other:?}"),
    };
    assert_eq!(quota(&[("cpu.max", "50000 100000")]), (500_000, 100_000));
    assert_eq!(quota(&[("cpu.max", "50001 100000")]), (510_000, 100_000));
    assert_eq!(quota(&[("cpu.max", "1000 1000000")]), (10_000, 1_000_000));
    assert_eq!(quota(&[("cpu.max", "max 50000")]), (u64::MAX, 50_000));
    assert_eq!(quota(&[("cpu.cfs_period_us", "50000"), ("cpu.cfs_quota_us", "100000")]), (2_000_000, 50_000));
    assert_eq!(quota(&[("cpu.cfs_quota_us", "-1")]), (u64::MAX, 100_000));
}

#[test]
fn cpu_lists_are_masks() {
    assert_eq!(bits("0-3, 7"), Some(vec![0b1000_1111]));
    assert_eq!(bits("8"), Some(vec![0, 1]));
    assert_eq!(bits("15,0"), Some(vec![1, 0x80]));
    for wrong in ["", "a", "3-1", "0-99999999", "-1"] {
        assert_eq!(bits(wrong), None, "{wrong}");
    }
}

#[test]
fn device_rules() {
    let rules = |json: &str| {
        DeviceRules::new(&serde_json::from_str::<Vec<spec::DeviceRule<'_>>>(json).unwrap(), &mut Vec::new()).unwrap()
    };
    let table = "Character devices:\n  1 mem\n  4 /dev/vc/0\n136 pts\n195 one\n196 two\n197 two\n\nBlock devices:\n  8 sd\n 65 sd\n253 virtblk\n";
    let list = |json: &str| match &devices(&rules(json), table)[..] {
        [policy, allow] => {
            assert_eq!(policy, &Property::new("DevicePolicy", Value::Text("strict".into())));
            let Value::Pairs(pairs) = &allow.value else { panic!("{allow:?}") };
            Some(pairs.iter().map(|(device, access)| format!("{device} {access}")).collect::<Vec<_>>())
        }
        [policy] => {
            assert_eq!(policy, &Property::new("DevicePolicy", Value::Text("auto".into())));
            None
        }
        other => panic!("{other:?}"),
    };
    let default = list("[]").unwrap();
    for line in
        ["char-* m", "block-* m", "/dev/char/1:3 rwm", "/dev/char/5:2 rwm", "char-pts rwm", "/dev/char/10:200 rwm"]
    {
        assert!(default.iter().any(|have| have == line), "{line} in {default:?}");
    }
    let some = list(
        r#"[{"allow":false},{"allow":true,"type":"b","major":253,"minor":0,"access":"r"},{"allow":true,"type":"c","major":195,"access":"rw"}]"#,
    );
    let some = some.unwrap();
    assert!(some.contains(&"/dev/block/253:0 r".to_owned()) && some.contains(&"char-one rw".to_owned()), "{some:?}");
    for left_to_hull in [
        r#"[{"allow":true}]"#,
        r#"[{"allow":true,"type":"c","major":-1,"minor":5,"access":"r"}]"#,
        r#"[{"allow":true,"type":"c","major":99,"access":"r"}]"#,
        r#"[{"allow":true,"type":"b","major":8,"access":"r"}]"#,
    ] {
        assert_eq!(list(left_to_hull), None, "{left_to_hull}");
    }
}
