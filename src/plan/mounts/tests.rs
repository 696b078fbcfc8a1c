//! Rules of the plan, one table each.

use super::*;
use crate::host::{CgroupFacts, CgroupMode, V1Hierarchy};
use crate::spec::load::{Text, parse};

fn host(cgroup: CgroupFacts) -> HostFacts {
    HostFacts { selinux: true, ..HostFacts::of_root(cgroup) }
}

fn plan_with(json: &str, cgroup: CgroupFacts, ns: NamespacesSummary) -> Result<Mounts> {
    let text = Text(json.into());
    let (spec, _) = parse(&text)?;
    let options = Options { bundle: "/b".into(), ..Options::default() };
    let own = [("/sys/fs/cgroup".into(), "/box".into()), ("/cg/cpu,cpuacct".into(), "/box".into())];
    plan(&spec, &host(cgroup), &options, &ns, &own)
}

fn mounts(list: &str, ns: NamespacesSummary) -> Result<Mounts> {
    plan_with(&format!(r#"{{"mounts":{list}}}"#), CgroupFacts::default(), ns)
}

fn one(list: &str) -> Mount {
    mounts(list, NamespacesSummary::default()).unwrap().mounts.remove(0)
}

#[test]
fn later_options_win() {
    let mount =
        one(r#"[{"destination":"/x","type":"bind","source":"s","options":["ro","rw","nosuid","suid","noexec"]}]"#);
    assert_eq!(mount.attr, Attr { set: attr::NOEXEC, clear: attr::RDONLY | attr::NOSUID });
    assert_eq!(mount.kind, MountKind::Bind { source: "/b/s".into(), recursive: false });
    let mount =
        one(r#"[{"destination":"/x","type":"none","source":"/s","options":["rbind","rro","rslave","shared"]}]"#);
    assert_eq!(mount.recursive_attr, Attr { set: attr::RDONLY, clear: 0 });
    assert_eq!(mount.kind, MountKind::Bind { source: "/s".into(), recursive: true });
    assert_eq!(mount.propagation.len(), 2);
}

#[test]
fn words_of_the_file_system_become_data() {
    let mount = one(
        r#"[{"destination":"/x","type":"tmpfs","source":"tmpfs","options":["nosuid","size=1m","sync","noswap","lazytime"]}]"#,
    );
    assert_eq!(mount.attr.set, attr::NOSUID);
    let MountKind::Fs { data, superblock, .. } = mount.kind else { panic!() };
    assert_eq!(data, [("size".into(), Some("1m".into())), ("noswap".into(), None)]);
    assert_eq!(superblock, [(Superblock::Sync, true), (Superblock::Lazytime, true)]);
    let words = r#"["size=1m,mode=700,,noswap","lowerdir=/a\\,b","context=\"s0:c1,c2\"",""]"#;
    let mount = one(&format!(r#"[{{"destination":"/x","type":"tmpfs","options":{words}}}]"#));
    let MountKind::Fs { data, .. } = mount.kind else { panic!() };
    let value = |text: &str| Some(text.to_owned());
    assert_eq!(
        data,
        [
            ("size".into(), value("1m")),
            ("mode".into(), value("700")),
            ("noswap".into(), None),
            ("lowerdir".into(), value("/a\\,b")),
            ("context".into(), value("s0:c1,c2"))
        ]
    );
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for (list, part) in [
        (
            r#"[{"destination":"/x","type":"bind","source":"/s","options":["ro","nosiud"]}]"#,
            "/mounts/0/options/1: \"nosiud\"",
        ),
        (r#"[{"destination":"/x","type":"bind","source":"/s","options":["nosiud"]}]"#, "option is \"nosuid\""),
        (r#"[{"destination":"/x","type":"bind"}]"#, "/mounts/0/source: a bind mount needs a source"),
        (r#"[{"destination":"/","type":"tmpfs"}]"#, "nothing can be mounted on `/`"),
        (r#"[{"destination":"/x/..","type":"bind","source":"/s"}]"#, "nothing can be mounted on `/`"),
        (r#"[{"type":"tmpfs"}]"#, "/mounts/0/destination: is missing"),
        (r#"[{"destination":"/x"}]"#, "/mounts/0/type: is missing"),
        (r#"[{"destination":"/x\u0000","type":"tmpfs"}]"#, "NUL"),
        (r#"[{"destination":"/proc","type":"tmpfs"}]"#, "tmpfs cannot be mounted on /proc"),
        (r#"[{"destination":"/proc/self/attr","type":"bind","source":"/s"}]"#, "on /proc/self/attr"),
        (r#"[{"destination":"/sys/../proc/sys","type":"tmpfs"}]"#, "on /proc/sys"),
        (r#"[{"destination":"/x","type":"proc","options":["tmpcopyup"]}]"#, "tmpcopyup is for a tmpfs"),
        (r#"[{"destination":"/x","type":"bind","source":"/s","options":["idmap"]}]"#, "or a user namespace"),
        (r#"[{"destination":"/x","type":"cgroup"}]"#, "this host mounts no cgroups"),
    ] {
        let error = mounts(list, NamespacesSummary::default()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn files_of_proc_and_all_below_sys_can_be_replaced() {
    for path in ["/proc/meminfo", "/proc/sys/kernel/ns_last_pid", "/sys/kernel/x", "/procs", "/proc"] {
        one(&format!(r#"[{{"destination":"{path}","type":"bind","source":"/s"}}]"#));
    }
}

#[test]
fn a_relative_destination_is_noted() {
    let planned = mounts(r#"[{"destination":"x/y","type":"tmpfs"}]"#, NamespacesSummary::default()).unwrap();
    assert_eq!(planned.mounts[0].destination, RootfsPath::new("/x/y"));
    assert!(planned.notes[0].contains("\"x/y\" is relative"), "{:?}", planned.notes);
}

#[test]
fn a_tmpfs_becomes_read_only_last_only_if_something_comes_into_it() {
    let planned = mounts(
        r#"[{"destination":"/a","type":"tmpfs","options":["ro"]},{"destination":"/b","type":"tmpfs","options":["ro"]},
            {"destination":"/a/c","type":"tmpfs"},{"destination":"/dev","type":"tmpfs","options":["ro"]}]"#,
        NamespacesSummary::default(),
    )
    .unwrap();
    assert_eq!(planned.mounts.iter().map(|m| m.readonly_last).collect::<Vec<_>>(), [true, false, false, true]);
    assert!(!planned.dev_is_bound);
    let planned = mounts(
        r#"[{"destination":"/a","type":"tmpfs","options":["remount","ro"]},{"destination":"/a/c","type":"tmpfs"},
            {"destination":"/a","type":"tmpfs","options":["remount","ro"]},
            {"destination":"/dev","type":"tmpfs","options":["remount","ro"]}]"#,
        NamespacesSummary::default(),
    );
    let last: Vec<_> = planned.unwrap().mounts.iter().map(|m| m.readonly_last).collect();
    assert_eq!(last, [true, false, false, true]);
}

#[test]
fn the_last_mount_at_dev_decides() {
    for (list, bound) in [
        (r#"[{"destination":"/dev","type":"bind","source":"/dev"}]"#, true),
        (r#"[{"destination":"/dev/","type":"bind","source":"/dev"},{"destination":"/dev","type":"tmpfs"}]"#, false),
        (r#"[{"destination":"/dev/shm","type":"bind","source":"/s"}]"#, false),
    ] {
        assert_eq!(mounts(list, NamespacesSummary::default()).unwrap().dev_is_bound, bound, "{list}");
    }
}

#[test]
fn a_user_namespace_changes_sysfs_and_devpts() {
    let ns = NamespacesSummary { new_user: true, ..Default::default() };
    let json = r#"{"mounts":[{"destination":"/sys","type":"sysfs"},{"destination":"/dev/pts","type":"devpts",
        "options":["gid=5","ptmxmode=0666"]}],"linux":{"gidMappings":[{"containerID":0,"hostID":1000,"size":1}]}}"#;
    let planned = plan_with(json, CgroupFacts::default(), ns).unwrap();
    assert_eq!(planned.mounts[0].kind, MountKind::Bind { source: "/sys".into(), recursive: true });
    let MountKind::Fs { data, .. } = &planned.mounts[1].kind else { panic!() };
    assert_eq!(*data, [("ptmxmode".to_owned(), Some("0666".to_owned()))]);
    let planned = plan_with(&json.replace("\"size\":1", "\"size\":6"), CgroupFacts::default(), ns).unwrap();
    let MountKind::Fs { data, .. } = &planned.mounts[1].kind else { panic!() };
    assert_eq!(data.len(), 2);
}

#[test]
fn a_mapping_is_the_containers_or_its_own() {
    let ns = NamespacesSummary { new_user: true, ..Default::default() };
    let plain = |options: &str| {
        let json = format!(
            r#"{{"mounts":[{{"destination":"/x","type":"bind","source":"/s","options":[{options}],
            "uidMappings":[{{"containerID":0,"hostID":7,"size":1}}],"gidMappings":[{{"containerID":0,"hostID":8,"size":1}}]}}],
            "linux":{{"uidMappings":[{{"containerID":0,"hostID":7,"size":1}}],
            "gidMappings":[{{"containerID":0,"hostID":8,"size":1}}]}}}}"#
        );
        json
    };
    let idmap = |json: &str, ns| plan_with(json, CgroupFacts::default(), ns).unwrap().mounts[0].idmap.clone().unwrap();
    let containers = |recursive| Idmap { mapping: Mapping::Container, recursive };
    assert_eq!(idmap(&plain("\"ridmap\""), ns), containers(true));
    assert_eq!(idmap(&plain("\"idmap\""), ns), containers(false));
    // Mappings alone are enough, and so is the option.
    assert_eq!(idmap(&plain(""), ns), containers(false));
    let option = r#"{"mounts":[{"destination":"/x","type":"bind","source":"/s","options":["ridmap"]}]}"#;
    assert_eq!(idmap(option, ns), containers(true));
    let line = |host| vec![IdMap { container: 0, host, size: 1 }];
    let own = |uid, gid| Idmap { mapping: Mapping::Own { uid: line(uid), gid: line(gid) }, recursive: false };
    assert_eq!(idmap(&plain("").replacen('7', "9", 1), ns), own(9, 8));
    assert_eq!(idmap(&plain(""), NamespacesSummary::default()), own(7, 8));
    let tmpfs = plain("").replacen("bind", "tmpfs", 1);
    assert_eq!(idmap(&tmpfs, NamespacesSummary::default()), own(7, 8));
    for (json, words) in [
        (tmpfs, "tmpfs cannot be idmapped so"),
        (plain("").replacen("\"uidMappings\"", "\"x\"", 1), "/mounts/0/uidMappings: missing"),
        (plain("").replacen("\"size\":1", "\"size\":0", 1), "/mounts/0/uidMappings/0/size: must not be 0"),
    ] {
        let error = plan_with(&json, CgroupFacts::default(), ns).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_label_goes_where_the_file_system_takes_it() {
    let planned = plan_with(
        r#"{"mounts":[{"destination":"/a","type":"tmpfs"},{"destination":"/b","type":"sysfs"}],"linux":{"mountLabel":"l"}}"#,
        CgroupFacts::default(),
        NamespacesSummary::default(),
    )
    .unwrap();
    let labels: Vec<_> = planned
        .mounts
        .iter()
        .map(|m| matches!(&m.kind, MountKind::Fs { data, .. } if data.iter().any(|(key, _)| key == "context")))
        .collect();
    assert_eq!(labels, [true, false]);
}

#[test]
fn cgroups_are_shown_as_the_host_has_them() {
    let json = r#"{"mounts":[{"destination":"/sys/fs/cgroup","type":"cgroup","options":["nosuid"]}]}"#;
    let v2 = CgroupFacts { mode: CgroupMode::V2, v2_mount: Some("/sys/fs/cgroup".into()), ..Default::default() };
    let own_ns = NamespacesSummary { new_cgroup: true, ..Default::default() };
    let mount = plan_with(json, v2.clone(), own_ns).unwrap().mounts.remove(0);
    assert_eq!(mount.attr.set, attr::NOSUID);
    let users = plan_with(json, v2.clone(), NamespacesSummary { new_user: true, ..own_ns }).unwrap().mounts.remove(0);
    assert_eq!(users.attr.set, attr::NOSUID | attr::RDONLY);
    assert!(matches!(&mount.kind, MountKind::Fs { fstype, .. } if fstype == "cgroup2"), "{mount:?}");
    let rw = json.replace("nosuid", "rw");
    for (json, count) in [(json, 1), (rw.as_str(), 2)] {
        let planned = plan_with(json, v2.clone(), NamespacesSummary::default()).unwrap().mounts;
        assert_eq!(planned.len(), count);
        assert_eq!(planned[0].kind, MountKind::Bind { source: "/sys/fs/cgroup".into(), recursive: false });
        assert!(planned[0].attr.set & attr::RDONLY != 0 && planned[0].attr.clear & attr::RDONLY == 0);
        if let Some(own) = planned.get(1) {
            assert_eq!(own.destination, RootfsPath::new("/sys/fs/cgroup/box"));
            assert_eq!(own.kind, MountKind::Bind { source: "/sys/fs/cgroup/box".into(), recursive: false });
            assert!(own.attr.set & attr::RDONLY == 0);
        }
    }

    let v1 = CgroupFacts {
        mode: CgroupMode::Hybrid,
        v2_mount: Some("/cg/unified".into()),
        v1: vec![V1Hierarchy {
            controllers: vec!["cpu".into(), "cpuacct".into()],
            mount: "/cg/cpu,cpuacct".into(),
            own: "/hull".into(),
        }],
        own_v2: "/hull".into(),
        ..CgroupFacts::default()
    };
    let planned = plan_with(json, v1.clone(), NamespacesSummary::default()).unwrap().mounts;
    assert_eq!(planned.len(), 3);
    assert!(planned[0].readonly_last);
    assert_eq!(planned[0].links, [("cpu".into(), "cpu,cpuacct".into()), ("cpuacct".into(), "cpu,cpuacct".into())]);
    assert_eq!(planned[1].destination, RootfsPath::new("/sys/fs/cgroup/cpu,cpuacct"));
    assert_eq!(planned[1].kind, MountKind::Bind { source: "/cg/cpu,cpuacct/box".into(), recursive: false });
    assert_eq!(planned[2].kind, MountKind::Bind { source: "/cg/unified/hull".into(), recursive: false });
    assert!(planned.iter().all(|mount| mount.attr.set & attr::RDONLY != 0));
    let planned = plan_with(json, v1, own_ns).unwrap().mounts;
    let MountKind::Fs { fstype, data, .. } = &planned[1].kind else { panic!() };
    assert_eq!((fstype.as_str(), data.len()), ("cgroup", 2));
}
