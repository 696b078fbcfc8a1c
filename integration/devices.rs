//! Device nodes of the config: any kind, any place, and what stands in the way. config-linux.md "Devices"; mknod(2).

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::harness::{Case, Need, Test, test};

pub fn cases() -> Vec<Test> {
    vec![
        test("devices/every_kind_and_place", every_kind_and_place)
            .requires(Need::Root)
            .peer("runc", "1.1 opens the node of the config as the user of the program"),
        test("devices/a_file_of_another_kind_is_refused", a_file_of_another_kind_is_refused)
            .requires(Need::Root)
            .peer("*", "makes no difference"),
        test("devices/one_that_fits_is_taken", one_that_fits_is_taken).requires(Need::Root).peer("runc", "replaces it"),
        test("devices/in_a_user_namespace_the_hosts", in_a_user_namespace_the_hosts)
            .requires(Need::Root)
            .peer("runc", "1.1 wants pipes of the host too"),
        test("devices/one_that_the_host_lacks_is_refused", one_that_the_host_lacks_is_refused)
            .requires(Need::Root)
            .peer("*", "does not name the place"),
        test("devices/a_mount_comes_first", a_mount_comes_first)
            .requires(Need::Root)
            .peer("crun", "1.8 binds the host's over it in a user namespace")
            .peer("runc", "1.1 opens the node of the config as the user of the program"),
        test("devices/a_link_is_not_followed", a_link_is_not_followed)
            .requires(Need::Root)
            .peer("*", "follows it within the root"),
        test("devices/a_node_that_the_rules_deny", a_node_that_the_rules_deny).requires(Need::Root),
        test("devices/the_rules_hold_without_v1s_controller", rules_without_v1s_controller)
            .requires(Need::Root)
            .requires(Need::CgroupV1)
            .requires(Need::Unified)
            .requires(Need::Tool("unshare"))
            .peer("*", "wants that controller on a hybrid host"),
        test("devices/of_the_rules_the_last_one_holds", of_the_rules_the_last_one_holds)
            .requires(Need::Root)
            .peer("crun", "takes every rule to the kernel, which on v1 ignores some")
            .peer("runc", "keeps the older and narrower one of two rules"),
    ]
}

fn every_kind_and_place(case: &mut Case) -> Result<()> {
    case.set("/root/readonly", json!(false)).set(
        "/linux/devices",
        json!([
            {"path": "/var/a/char", "type": "c", "major": 1, "minor": 5, "fileMode": 0o604, "uid": 3, "gid": 4},
            {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 7},
            {"path": "/srv/block", "type": "b", "major": 7, "minor": 201, "fileMode": 0o060},
            {"path": "/run/pipe", "type": "p", "fileMode": 0o1640, "uid": 9},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 1}
        ]),
    );
    // Devices beyond the default ones need a rule to be opened, not to be made.
    case.script("stat -c '%n %F %t:%T %a %u:%g' /var/a/char /dev/unbuffered /srv/block /run/pipe /dev/null");
    case.prints(
        "/var/a/char character special file 1:5 604 3:4\n/dev/unbuffered character special file 1:7 666 0:0\n\
         /srv/block block special file 7:c9 60 0:0\n/run/pipe fifo 0:0 1640 9:0\n\
         /dev/null character special file 1:3 600 1:0\n",
    )
}

fn a_file_of_another_kind_is_refused(case: &mut Case) -> Result<()> {
    fs::write(case.rootfs().join("tmp/taken"), "kept\n")?;
    case.set("/linux/devices", json!([{"path": "/tmp/taken", "type": "c", "major": 1, "minor": 3}]));
    case.run()?.refused()?.stderr_has("/linux/devices/0")?.stderr_has("a regular file")?.one_sentence()?;
    ensure!(fs::read_to_string(case.rootfs().join("tmp/taken"))? == "kept\n", "the file was changed");
    Ok(())
}

fn one_that_fits_is_taken(case: &mut Case) -> Result<()> {
    let path = case.rootfs().join("tmp/there");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::CharacterDevice,
        mode,
        rustix::fs::makedev(1, 5),
    )?;
    case.set("/linux/devices", json!([{"path": "/tmp/there", "type": "c", "major": 1, "minor": 5, "fileMode": 0o644}]));
    // Whoever made it chose its mode.
    case.script("stat -c '%F %t:%T %a' /tmp/there").prints("character special file 1:5 600\n")
}

fn in_a_user_namespace_the_hosts(case: &mut Case) -> Result<()> {
    case.user_namespace()?.set(
        "/linux/devices",
        json!([{"path": "/dev/zero", "type": "c", "major": 1, "minor": 5}, {"path": "/dev/pipe", "type": "p"}]),
    );
    case.script("head -c 2 /dev/zero | wc -c; stat -c '%F %t:%T' /dev/zero /dev/pipe");
    case.prints("2\ncharacter special file 1:5\nfifo 0:0\n")
}

fn one_that_the_host_lacks_is_refused(case: &mut Case) -> Result<()> {
    case.user_namespace()?;
    case.set("/linux/devices", json!([{"path": "/dev/hull-nosuch", "type": "c", "major": 1, "minor": 3}]));
    case.run()?.refused()?.stderr_has("/linux/devices/0")?.stderr_has("user namespace")?;
    // The host has this one, with another number.
    case.set("/linux/devices", json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 5}]));
    case.run()?.refused()?.stderr_has("/linux/devices/0")?.stderr_has("1:3").map(drop)
}

/// `-v /dev/urandom:/dev/random` is what people do. The node that is bound is the host's: it keeps its mode and owner.
fn a_mount_comes_first(case: &mut Case) -> Result<()> {
    let plain = case.config.clone();
    let node = case.dir.join("node");
    let mode = rustix::fs::Mode::from_raw_mode(0o604);
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(rustix::fs::CWD, &node, rustix::fs::FileType::CharacterDevice, mode, device)?;
    for in_user_namespace in [false, true] {
        case.config = plain.clone();
        if in_user_namespace {
            case.user_namespace()?;
        }
        let bind = |at: &str, source: &str| json!({"destination": at, "source": source, "options": ["bind"]});
        case.mount(bind("/dev/random", "/dev/urandom")).mount(bind("/dev/null", &node.to_string_lossy()));
        case.mount(bind("/dev/full", "/dev/zero"));
        case.set(
            "/linux/devices",
            json!([{"path": "/dev/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o600}]),
        );
        case.script("stat -c '%n %t:%T' /dev/random /dev/full; stat -c %a /dev/null");
        case.prints("/dev/random 1:9\n/dev/full 1:5\n604\n")?;
        let stat = rustix::fs::stat(&node)?;
        ensure!((stat.st_mode & 0o7777, stat.st_uid) == (0o604, 0), "the host's node is {:o} now", stat.st_mode);
    }
    Ok(())
}

fn a_link_is_not_followed(case: &mut Case) -> Result<()> {
    std::os::unix::fs::symlink("/tmp/elsewhere", case.rootfs().join("tmp/link"))?;
    case.set("/root/readonly", json!(false));
    case.set("/linux/devices", json!([{"path": "/tmp/link", "type": "c", "major": 1, "minor": 3}]));
    case.run()?.refused()?.stderr_has("a link")?;
    ensure!(!case.rootfs().join("tmp/elsewhere").exists(), "it was made behind the link");
    Ok(())
}

/// It is there, and cannot be used: many times, since the rules and the node are made side by side.
fn a_node_that_the_rules_deny(case: &mut Case) -> Result<()> {
    case.set("/linux/devices", json!([{"path": "/dev/denied", "type": "c", "major": 241, "minor": 1}]));
    case.set(
        "/linux/resources/devices",
        json!([{"allow": true, "access": "rwm"}, {"allow": false, "type": "c", "major": 241, "minor": 1, "access": "rwm"}]),
    );
    case.set("/process/capabilities/effective", json!(["CAP_MKNOD"]));
    for set in ["bounding", "permitted"] {
        case.set(&format!("/process/capabilities/{set}"), json!(["CAP_MKNOD"]));
    }
    case.script(
        "stat -c %t:%T /dev/denied; (: </dev/denied) 2>&1; mknod /dev/again c 241 1 2>&1; mknod /dev/other c 241 2",
    );
    for _ in 0..20 {
        let output = case.run()?.ok()?.stdout_has("f1:1\n")?;
        ensure!(output.stdout.matches("Operation not permitted").count() == 2, "it printed {:?}", output.stdout);
    }
    Ok(())
}

/// A hybrid host, on which the devices controller is not mounted: v2's program holds the rules.
fn rules_without_v1s_controller(case: &mut Case) -> Result<()> {
    "exec unshare --mount sh -c 'umount /sys/fs/cgroup/devices; exec \"$@\"' sh \"$@\"".clone_into(&mut case.before);
    case.set("/linux/devices", json!([{"path": "/dev/denied", "type": "c", "major": 241, "minor": 1}]));
    case.script("(: </dev/denied) 2>&1; true");
    case.run()?.ok()?.stdout_has("Operation not permitted").map(drop)
}

/// What may be done to two devices of one major number, by rules that overlap in every way. There is no such driver: what
/// the rules allow fails otherwise.
fn of_the_rules_the_last_one_holds(case: &mut Case) -> Result<()> {
    for set in ["bounding", "effective", "permitted"] {
        case.set(&format!("/process/capabilities/{set}"), json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE"]));
    }
    let node = |kind: &str, minor: u32| json!({"path": format!("/dev/{kind}{minor}"), "type": kind, "major": 241, "minor": minor});
    case.set("/linux/devices", json!([node("c", 1), node("c", 2), node("b", 1), node("b", 2)]));
    case.script(
        "for kind in c b; do for minor in 1 2; do
             may=; mknod /dev/new$kind$minor $kind 241 $minor 2>/dev/null && may=m
             case $( (: </dev/$kind$minor) 2>&1) in *permitted*) ;; *) may=r$may;; esac
             case $( (: >>/dev/$kind$minor) 2>&1) in *permitted*) ;; *) may=w$may;; esac
             echo -n $kind$minor=$may,
         done; done",
    );
    let rule = |allow: bool, kind: &str, minor: Option<u32>, access: &str| json!({"allow": allow, "type": kind, "major": 241, "minor": minor, "access": access});
    let deny_all = json!({"allow": false, "access": "rwm"});
    let allow_all = json!({"allow": true, "access": "rwm"});
    // Making nodes is always allowed, where config.json does not allow everything but some.
    let table = [
        (
            "a narrower denial",
            vec![&deny_all],
            vec![rule(true, "c", None, "rwm"), rule(false, "c", Some(1), "rwm")],
            "m wrm m m",
            true,
        ),
        (
            "a narrower denial of writing",
            vec![&deny_all],
            vec![rule(true, "c", None, "rwm"), rule(false, "c", Some(1), "w")],
            "rm wrm m m",
            true,
        ),
        (
            "a wider denial",
            vec![&deny_all],
            vec![rule(true, "c", Some(1), "rwm"), rule(false, "c", None, "rwm")],
            "m m m m",
            false,
        ),
        (
            "a wider denial of writing",
            vec![&deny_all],
            vec![rule(true, "c", Some(1), "rwm"), rule(false, "c", None, "w")],
            "rm m m m",
            false,
        ),
        (
            "a denial of both kinds",
            vec![&deny_all],
            vec![rule(true, "c", Some(2), "rw"), rule(true, "b", Some(2), "rw"), rule(false, "a", Some(2), "r")],
            "m wm m wm",
            false,
        ),
        (
            "two that allow",
            vec![&deny_all],
            vec![rule(true, "a", None, "r"), rule(true, "b", Some(1), "w")],
            "rm rm wrm rm",
            false,
        ),
        (
            "the same again",
            vec![&deny_all],
            vec![rule(true, "c", Some(1), "rwm"), rule(false, "c", Some(1), "w")],
            "rm m m m",
            false,
        ),
        (
            "a narrower permission",
            vec![&allow_all],
            vec![rule(false, "c", None, "rwm"), rule(true, "c", Some(1), "rm")],
            "rm  wrm wrm",
            true,
        ),
        (
            "a wider permission",
            vec![&allow_all],
            vec![rule(false, "c", Some(1), "rwm"), rule(true, "c", None, "r")],
            "r wrm wrm wrm",
            false,
        ),
        (
            "all after some",
            vec![&allow_all],
            vec![rule(false, "c", Some(1), "rwm"), allow_all.clone()],
            "wrm wrm wrm wrm",
            false,
        ),
    ];
    for (what, first, rules, expected, is_hole) in table {
        let mut list: Vec<_> = first.into_iter().cloned().collect();
        list.extend(rules);
        case.set("/linux/resources/devices", json!(list));
        let output = case.run()?;
        if is_hole && !crate::cgroups::v2_only() {
            output.refused()?.stderr_has("/linux/resources/devices/2")?.stderr_has("cgroup v1")?.one_sentence()?;
            continue;
        }
        let expected: String = ["c1", "c2", "b1", "b2"]
            .iter()
            .zip(expected.split(' '))
            .map(|(device, may)| format!("{device}={may},"))
            .collect();
        let have = output.ok()?.stdout;
        ensure!(have == expected, "{what}: {have:?}, not {expected:?}");
    }
    Ok(())
}
