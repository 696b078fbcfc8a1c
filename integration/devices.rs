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
    case.script("stat -c '%F %t:%T %a' /tmp/there").prints("character special file 1:5 644\n")
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
