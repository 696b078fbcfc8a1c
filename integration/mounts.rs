//! Mounts, the root file system, /dev, masked and read-only paths: seen in /proc/PID/mountinfo from outside and by
//! the program from inside. config.md "mounts", config-linux.md; mount_namespaces(7).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use serde_json::json;

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("mounts/bind_flags_are_set", bind_flags_are_set),
        test("mounts/bind_is_not_recursive_but_rbind_is", bind_is_not_recursive_but_rbind_is).requires(Need::Root),
        test("mounts/a_relative_source_is_in_the_bundle", a_relative_source_is_in_the_bundle),
        test("mounts/a_file_can_be_bound", a_file_can_be_bound),
        test("mounts/a_missing_source_is_named", a_missing_source_is_named),
        test("mounts/propagation_of_a_mount", propagation_of_a_mount).peer("crun", "drops shared").requires(Need::Root),
        test("mounts/propagation_of_the_rootfs", propagation_of_the_rootfs)
            .peer("runc", "1.1 sets it on the old root only")
            .requires(Need::Root),
        test("mounts/the_root_is_no_slave_of_the_host", the_root_is_no_slave_of_the_host).requires(Need::Root),
        test("mounts/the_host_sees_no_change", the_host_sees_no_change).requires(Need::Root),
        test(
            "mounts/without_a_namespace_they_are_on_the_host_until_delete",
            without_a_namespace_they_are_on_the_host_until_delete,
        )
        .peer("*", "leaves them there")
        .requires(Need::Root)
        .requires(Need::Call("open_tree"))
        .requires(Need::Call("mount_setattr"))
        .requires(Need::Call("fsopen")),
        test("mounts/a_user_namespace_alone_cannot_mount", a_user_namespace_alone_cannot_mount)
            .peer("*", "says only EPERM")
            .requires(Need::Root),
        test("mounts/tmpfs_has_size_and_mode", tmpfs_has_size_and_mode)
            .peer("runc", "1.1 takes the mode of the directory beneath"),
        test("mounts/mounts_are_made_in_order", mounts_are_made_in_order),
        test("mounts/rootfs_is_read_only_when_asked", rootfs_is_read_only_when_asked),
        test("mounts/rootfs_is_writable_when_asked", rootfs_is_writable_when_asked),
        test("mounts/the_old_root_is_gone", the_old_root_is_gone),
        test("mounts/masked_file_and_directory_are_empty", masked_file_and_directory_are_empty),
        test("mounts/readonly_paths_cannot_be_written", readonly_paths_cannot_be_written),
        test("mounts/a_readonly_path_can_be_the_root", a_readonly_path_can_be_the_root)
            .peer("crun", "1.8 does nothing"),
        test("mounts/readonly_paths_keep_other_flags", readonly_paths_keep_other_flags).peer("crun", "drops them"),
        test("mounts/masked_path_that_is_missing_is_skipped", masked_path_that_is_missing_is_skipped),
        test("mounts/proc_is_guarded", proc_is_guarded).peer("crun", "1.8 has no guard"),
        test("mounts/proc_files_may_be_covered", proc_files_may_be_covered).requires(Need::Root),
        test("mounts/default_devices_have_their_numbers", default_devices_have_their_numbers),
        test("mounts/devices_of_the_config_are_made", devices_of_the_config_are_made).requires(Need::Root),
        test("mounts/links_in_dev", links_in_dev),
        test("mounts/devpts_is_new", devpts_is_new),
        test("mounts/mqueue_and_shm", mqueue_and_shm),
        test("mounts/sysfs_is_read_only", sysfs_is_read_only),
        test("mounts/cgroup_mount_shows_the_own_cgroup", cgroup_mount_shows_the_own_cgroup).requires(Need::Root),
        test("mounts/a_cgroup_mount_without_ro_can_be_written", a_cgroup_mount_without_ro_can_be_written)
            .requires(Need::Root),
        test("mounts/cgroup_mount_without_a_cgroup_namespace", cgroup_mount_without_a_cgroup_namespace)
            .requires(Need::Root),
        test(
            "mounts/own_cgroup_is_writable_without_a_cgroup_namespace",
            own_cgroup_is_writable_without_a_cgroup_namespace,
        )
        .requires(Need::Root)
        .requires(Need::CgroupV2)
        .peer("*", "leaves the host's cgroups writable"),
        test("mounts/a_link_as_destination_stays_in_the_rootfs", a_link_as_destination_stays_in_the_rootfs)
            .peer("crun", "fails to make a directory behind a dangling link"),
        test("mounts/a_link_at_dev_stays_in_the_rootfs", a_link_at_dev_stays_in_the_rootfs)
            .peer("*", "makes nodes behind the link")
            .requires(Need::Root),
        test("mounts/dotdot_in_a_destination_stays_in_the_rootfs", dotdot_in_a_destination_stays_in_the_rootfs),
        test("mounts/a_destination_is_made", a_destination_is_made),
        test("mounts/a_bind_at_dev_is_left_alone", a_bind_at_dev_is_left_alone)
            .peer("crun", "loses the output of the program")
            .requires(Need::Root),
        test("mounts/a_linked_proc_is_refused", a_linked_proc_is_refused),
        test("mounts/hundreds_of_mounts", hundreds_of_mounts),
    ]
}

/// A directory outside the rootfs with one file, as a source for binds.
fn source(case: &Case) -> Result<String> {
    let dir = case.dir.join("source");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("file"), "content\n")?;
    Ok(dir.to_string_lossy().into_owned())
}

fn bind_flags_are_set(case: &mut Case) -> Result<()> {
    let source = source(case)?;
    let kinds: [(&str, &[&str]); 5] = [
        ("ro", &["ro"]),
        ("rw", &["rw"]),
        ("nosuid", &["nosuid", "nodev", "noexec"]),
        ("noatime", &["noatime"]),
        ("both", &["ro", "nodev"]),
    ];
    // An ordinary user may not change how a mount of the host keeps access times.
    let kinds = kinds.into_iter().filter(|(name, _)| *name != "noatime" || rustix::process::geteuid().is_root());
    for (name, options) in kinds.clone() {
        let mut all = vec!["bind"];
        all.extend(options);
        let destination = format!("/tmp/{name}");
        fs::create_dir_all(case.rootfs().join(format!("tmp/{name}")))?;
        case.mount(json!({"destination": destination, "type": "bind", "source": source, "options": all}));
    }
    let init = case.script("cat /tmp/ro/file; touch /tmp/rw/new; touch /tmp/ro/no; echo up; sleep 60").up()?;
    init.wait_for("up")?;
    for (name, options) in kinds {
        let mount = kernel::mount_at(init.pid, &format!("/tmp/{name}"))?;
        for option in options {
            ensure!(mount.has(option), "/tmp/{name} has {:?} without {option}", mount.options);
        }
    }
    ensure!(init.output()?.starts_with("content\n"), "the file was not read");
    ensure!(case.dir.join("source/new").exists(), "the rw bind was not written");
    ensure!(!case.dir.join("source/no").exists(), "the ro bind was written");
    case.delete()
}

fn bind_is_not_recursive_but_rbind_is(case: &mut Case) -> Result<()> {
    for (name, option) in [("one", "bind"), ("all", "rbind")] {
        fs::create_dir_all(case.rootfs().join(format!("tmp/{name}")))?;
        let destination = format!("/tmp/{name}");
        case.mount(json!({"destination": destination, "type": "bind", "source": "/sys", "options": [option, "ro"]}));
    }
    case.edit(|config| {
        // Where the source is /sys, a file system beneath it is always there: its cgroups.
        config["linux"]["maskedPaths"] = json!([]);
    });
    let init = case.args(["sleep", "60"]).up()?;
    let mounts = kernel::mounts(init.pid)?;
    let beneath = |prefix: &str| mounts.iter().filter(|mount| mount.target.starts_with(prefix)).count();
    ensure!(beneath("/tmp/one/") == 0, "bind took {} mounts along", beneath("/tmp/one/"));
    ensure!(beneath("/tmp/all/") > 0, "rbind took none along");
    case.delete()
}

fn a_relative_source_is_in_the_bundle(case: &mut Case) -> Result<()> {
    fs::create_dir(case.bundle().join("data"))?;
    fs::write(case.bundle().join("data/file"), "mine\n")?;
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": "data", "options": ["bind"]}));
    case.args(["cat", "/mnt/file"]).prints("mine\n")
}

fn a_file_can_be_bound(case: &mut Case) -> Result<()> {
    let source = format!("{}/file", source(case)?);
    fs::write(case.rootfs().join("etc/target"), "")?;
    case.mount(json!({"destination": "/etc/target", "source": source, "options": ["bind", "ro"]}));
    case.args(["cat", "/etc/target"]).prints("content\n")
}

fn a_missing_source_is_named(case: &mut Case) -> Result<()> {
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": "/nosuch/source", "options": ["bind"]}));
    case.run()?.refused()?.stderr_has("/nosuch/source")?.stderr_has("no such file or directory").map(drop)
}

fn propagation_of_a_mount(case: &mut Case) -> Result<()> {
    let source = source(case)?;
    for name in ["private", "shared", "slave", "unbindable"] {
        fs::create_dir_all(case.rootfs().join(format!("tmp/{name}")))?;
        let destination = format!("/tmp/{name}");
        case.mount(json!({"destination": destination, "type": "bind", "source": source, "options": ["bind", name]}));
    }
    let init = case.args(["sleep", "60"]).up()?;
    let tags = |name: &str| Ok::<_, anyhow::Error>(kernel::mount_at(init.pid, name)?.propagation.join(" "));
    ensure!(tags("/tmp/private")?.is_empty(), "private: {}", tags("/tmp/private")?);
    ensure!(tags("/tmp/shared")?.contains("shared:"), "shared: {}", tags("/tmp/shared")?);
    ensure!(!tags("/tmp/slave")?.contains("shared:"), "slave: {}", tags("/tmp/slave")?);
    ensure!(tags("/tmp/unbindable")?.contains("unbindable"), "unbindable: {}", tags("/tmp/unbindable")?);
    case.delete()
}

fn propagation_of_the_rootfs(case: &mut Case) -> Result<()> {
    for (asked, tag) in [("private", ""), ("shared", "shared:"), ("unbindable", "unbindable")] {
        case.set("/linux/rootfsPropagation", json!(asked));
        let init = case.args(["sleep", "60"]).up()?;
        let tags = kernel::mount_at(init.pid, "/")?.propagation.join(" ");
        ensure!(if tag.is_empty() { tags.is_empty() } else { tags.contains(tag) }, "{asked} gives {tags:?}");
        case.delete()?;
    }
    Ok(())
}

fn the_root_is_no_slave_of_the_host(case: &mut Case) -> Result<()> {
    // A host whose mounts are shared, as systemd makes them.
    let script = "set -- unshare -m --propagation private sh -c 'mount --make-rshared / && exec \"$@\"' sh \"$@\"";
    for asked in ["", "slave", "rslave", "shared"] {
        if !asked.is_empty() {
            case.set("/linux/rootfsPropagation", json!(asked));
        }
        case.before = script.to_owned();
        case.args(["sleep", "60"]).create()?;
        case.before = String::new();
        let tags = kernel::mount_at(case.pid()?, "/")?.propagation.join(" ");
        ensure!(!tags.contains("master:"), "with rootfsPropagation {asked:?} it is {tags:?}");
        case.delete()?;
    }
    Ok(())
}

/// The host's mounts without the numbers that other programs' mounts change, sorted.
fn host_mounts() -> Result<Vec<String>> {
    let mut lines: Vec<String> = kernel::mounts(std::process::id() as i32)?
        .iter()
        .map(|mount| format!("{} {} {:?} {:?}", mount.target, mount.root, mount.options, mount.propagation))
        .collect();
    lines.sort();
    Ok(lines)
}

fn the_host_sees_no_change(case: &mut Case) -> Result<()> {
    let before = host_mounts()?;
    for propagation in ["rprivate", "rslave", "rshared"] {
        case.set("/linux/rootfsPropagation", json!(propagation));
        let init = case.args(["sleep", "60"]).up()?;
        let during = host_mounts()?;
        ensure!(kernel::alive(init.pid), "init is dead");
        ensure!(during == before, "{propagation}: the host's mounts changed while it ran");
        case.delete()?;
    }
    ensure!(host_mounts()? == before, "the host's mounts changed afterwards");
    Ok(())
}

fn without_a_namespace_they_are_on_the_host_until_delete(case: &mut Case) -> Result<()> {
    // A mount that was there before must stay, and be seen inside; what lies above is shared, as on most hosts, and has a
    // peer, to which all that is mounted in it is copied.
    let (bundle, earlier) = (case.bundle(), case.rootfs().join("mnt"));
    fs::create_dir_all(&earlier)?;
    rustix::mount::mount_bind(&bundle, &bundle)?;
    rustix::mount::mount_change(&bundle, MountPropagationFlags::SHARED)?;
    rustix::mount::mount_bind(&bundle, &bundle)?;
    rustix::mount::mount("hullit", &earlier, "tmpfs", MountFlags::empty(), c"size=64k")?;
    let result = mounts_of_the_host_come_and_go(case, &earlier);
    // Where what lies above has peers, too, one takes the other along.
    while rustix::mount::unmount(&bundle, UnmountFlags::DETACH).is_ok() {}
    result
}

fn mounts_of_the_host_come_and_go(case: &mut Case, earlier: &Path) -> Result<()> {
    fs::write(earlier.join("mark"), "")?;
    let with_ours = host_mounts()?;
    let destination = json!({"destination": "/new", "type": "tmpfs", "source": "tmpfs"});
    case.without_namespace("mount").mount(destination).set("/root/readonly", json!(true));
    let init = case.args(["sleep", "60"]).up()?;
    ensure!(
        kernel::namespace(init.pid, "mnt")? == kernel::namespace(std::process::id() as i32, "mnt")?,
        "it has another mount namespace"
    );
    let script =
        "touch /new/x && test -c /dev/null && test -e /mnt/mark && ! touch /x 2>/dev/null && test -e /proc/1/stat";
    case.verb(["exec", &case.id, "sh", "-c", script])?.ok()?;
    let rootfs = case.rootfs().to_string_lossy().into_owned();
    let during = host_mounts()?;
    ensure!(during.iter().any(|line| line.starts_with(&format!("{rootfs}/new "))), "no mount on the host: {during:?}");
    // The host's table: the program has the same.
    // Where the parent of what lies above is shared too, hidden copies have the same target.
    let id = rustix::fs::statx(CWD, &rootfs, AtFlags::empty(), StatxFlags::MNT_ID)?.stx_mnt_id;
    let own = kernel::mounts(std::process::id() as i32)?.into_iter().find(|mount| mount.id == id);
    ensure!(own.is_some_and(|mount| mount.propagation.is_empty()), "what is mounted in it travels to other namespaces");
    let outside =
        |lines: &[String]| -> Vec<String> { lines.iter().filter(|line| !line.starts_with(&rootfs)).cloned().collect() };
    ensure!(outside(&during) == outside(&with_ours), "mounts beside it changed");
    case.delete()?;
    ensure!(host_mounts()? == with_ours, "the host's mounts are others than before: {:?}", host_mounts()?);

    // So does a create that fails late take its mounts along.
    case.args(["/no/such/program"]).try_create(&[])?.refused()?;
    ensure!(host_mounts()? == with_ours, "a failed create left mounts: {:?}", host_mounts()?);
    Ok(())
}

fn a_user_namespace_alone_cannot_mount(case: &mut Case) -> Result<()> {
    case.user_namespace()?.without_namespace("mount");
    let words = "needs a mount namespace in /linux/namespaces: a user namespace has no right";
    case.args(["true"]).try_create(&[])?.refused()?.stderr_has(words)?;
    Ok(())
}

fn tmpfs_has_size_and_mode(case: &mut Case) -> Result<()> {
    let options = ["nosuid", "noexec", "size=1m", "mode=1770"];
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options}));
    let init =
        case.script("stat -c %a /mnt; head -c 2000000 /dev/zero >/mnt/big || echo full; echo up; sleep 60").up()?;
    init.wait_for("up")?;
    ensure!(init.output()? == "1770\nfull\nup\n", "it printed {:?}", init.output()?);
    let mount = kernel::mount_at(init.pid, "/mnt")?;
    ensure!(mount.fstype == "tmpfs" && mount.has("nosuid") && mount.has("noexec"), "{mount:?}");
    ensure!(mount.super_options.iter().any(|option| option == "size=1024k"), "{mount:?}");
    case.delete()
}

fn mounts_are_made_in_order(case: &mut Case) -> Result<()> {
    let source = source(case)?;
    fs::write(case.rootfs().join("mnt/hidden"), "")?;
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}));
    case.mount(json!({"destination": "/mnt/in/side", "type": "bind", "source": source, "options": ["bind"]}));
    case.script("ls /mnt; cat /mnt/in/side/file").prints("in\ncontent\n")
}

fn rootfs_is_read_only_when_asked(case: &mut Case) -> Result<()> {
    let output = case.script("touch /new; echo $?").run()?.ok()?.stdout_is("1\n")?;
    ensure!(output.stderr.contains("Read-only file system"), "it says {:?}", output.stderr);
    ensure!(!case.rootfs().join("new").exists(), "it was written");
    let init = case.args(["sleep", "60"]).up()?;
    ensure!(kernel::mount_at(init.pid, "/")?.has("ro"), "/ is not ro");
    case.delete()
}

fn rootfs_is_writable_when_asked(case: &mut Case) -> Result<()> {
    case.set("/root/readonly", json!(false)).script("echo new >/new").prints("")?;
    ensure!(fs::read_to_string(case.rootfs().join("new"))? == "new\n", "it was not written");
    Ok(())
}

fn the_old_root_is_gone(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let mounts = kernel::mounts(init.pid)?;
    let root = mounts.first().context("a mount")?;
    ensure!(root.target == "/", "the first mount is {root:?}");
    let strange: Vec<_> = mounts
        .iter()
        .filter(|mount| {
            !["/proc", "/dev", "/sys"].iter().any(|top| mount.target.starts_with(top)) && mount.target != "/"
        })
        .collect();
    ensure!(strange.is_empty(), "there is also {strange:?}");
    case.delete()
}

fn masked_file_and_directory_are_empty(case: &mut Case) -> Result<()> {
    fs::write(case.rootfs().join("etc/secret"), "secret\n")?;
    fs::create_dir(case.rootfs().join("etc/secrets"))?;
    fs::write(case.rootfs().join("etc/secrets/one"), "secret\n")?;
    case.set("/linux/maskedPaths", json!(["/etc/secret", "/etc/secrets"]));
    case.script("cat /etc/secret; ls -A /etc/secrets; touch /etc/secrets/x 2>/dev/null || echo refused");
    case.prints("refused\n")?;
    let init = case.args(["sleep", "60"]).up()?;
    ensure!(kernel::mount_at(init.pid, "/etc/secrets")?.has("ro"), "the masked directory is writable");
    case.delete()
}

fn readonly_paths_cannot_be_written(case: &mut Case) -> Result<()> {
    case.set("/root/readonly", json!(false));
    fs::create_dir(case.rootfs().join("etc/fixed"))?;
    case.set("/linux/readonlyPaths", json!(["/etc/fixed", "/etc/passwd", "/proc/sys", "/nosuch"]));
    case.script(
        "touch /etc/fixed/x; echo $?; echo x >>/etc/passwd; echo $?; echo 1 >/proc/sys/net/ipv4/ip_forward; echo $?",
    );
    case.prints("1\n1\n1\n")
}

/// What is mounted in the root stays as it is.
fn a_readonly_path_can_be_the_root(case: &mut Case) -> Result<()> {
    case.set("/root/readonly", json!(false)).set("/linux/readonlyPaths", json!(["/"]));
    case.script("touch /x 2>/dev/null; echo $?; touch /dev/x; echo $?").prints("1\n0\n")
}

fn readonly_paths_keep_other_flags(case: &mut Case) -> Result<()> {
    let options = ["nosuid", "nodev", "noexec"];
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options}));
    case.set("/linux/readonlyPaths", json!(["/mnt"]));
    let init = case.args(["sleep", "60"]).up()?;
    let mount = kernel::mount_at(init.pid, "/mnt")?;
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        ensure!(mount.has(option), "{:?} lacks {option}", mount.options);
    }
    case.delete()
}

fn masked_path_that_is_missing_is_skipped(case: &mut Case) -> Result<()> {
    case.set("/linux/maskedPaths", json!(["/nosuch", "/proc/nosuch"]));
    case.args(["echo", "fine"]).prints("fine\n")
}

fn proc_is_guarded(case: &mut Case) -> Result<()> {
    let source = source(case)?;
    for destination in ["/proc", "/proc/sys", "/proc/self", "/proc/self/attr", "/dev/../proc/sys"] {
        let before = case.config.clone();
        case.mount(json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]}));
        case.run()?.refused()?.stderr_has("/proc")?;
        case.config = before;
    }
    Ok(())
}

fn proc_files_may_be_covered(case: &mut Case) -> Result<()> {
    let source = format!("{}/file", source(case)?);
    case.mount(json!({"destination": "/proc/uptime", "type": "bind", "source": source, "options": ["bind"]}));
    case.args(["cat", "/proc/uptime"]).prints("content\n")
}

fn default_devices_have_their_numbers(case: &mut Case) -> Result<()> {
    let names = ["null", "zero", "full", "random", "urandom", "tty"];
    let paths: Vec<String> = names.iter().map(|name| format!("/dev/{name}")).collect();
    case.script(&format!("stat -c '%n %F %t:%T %a' {}", paths.join(" ")));
    let expected =
        [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")];
    let expected: String =
        expected.iter().map(|(name, number)| format!("/dev/{name} character special file {number} 666\n")).collect();
    case.prints(&expected)?;
    case.script("head -c 3 /dev/zero | od -An -tx1; echo x >/dev/null; echo x >/dev/full || echo full");
    case.run()?.ok()?.stdout_is(" 00 00 00\nfull\n").map(drop)
}

fn devices_of_the_config_are_made(case: &mut Case) -> Result<()> {
    case.set(
        "/linux/devices",
        json!([
            {"path": "/dev/deep/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8},
            {"path": "/dev/block", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622}
        ]),
    );
    case.script("stat -c '%n %F %t:%T %a %u:%g' /dev/deep/mine /dev/block /dev/pipe");
    case.prints(
        "/dev/deep/mine character special file 1:3 640 7:8\n/dev/block block special file 7:c8 600 0:0\n\
         /dev/pipe fifo 0:0 622 0:0\n",
    )
}

fn links_in_dev(case: &mut Case) -> Result<()> {
    case.script("for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done");
    case.prints(
        "fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\nptmx pts/ptmx\n",
    )
}

fn devpts_is_new(case: &mut Case) -> Result<()> {
    case.script("ls /dev/pts; [ -c /dev/ptmx ] && echo yes").prints("ptmx\nyes\n")
}

fn mqueue_and_shm(case: &mut Case) -> Result<()> {
    case.script("touch /dev/mqueue/q /dev/shm/s && stat -c '%F %a' /dev/shm && ls /dev/mqueue /dev/shm");
    case.prints("directory 1777\n/dev/mqueue:\nq\n\n/dev/shm:\ns\n")
}

fn sysfs_is_read_only(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let mount = kernel::mount_at(init.pid, "/sys")?;
    ensure!(mount.fstype == "sysfs", "/sys is a {}", mount.fstype);
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        ensure!(mount.has(option), "/sys has {:?} without {option}", mount.options);
    }
    case.delete()
}

fn cgroup_mount_shows_the_own_cgroup(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let root = format!("/proc/{}/root/sys/fs/cgroup", init.pid);
    let dir = if fs::exists(format!("{root}/cgroup.procs"))? { root } else { format!("{root}/pids") };
    let procs = kernel::read(format!("{dir}/cgroup.procs"))?;
    ensure!(procs.lines().any(|line| line == init.pid.to_string()), "{dir} holds {procs:?}, not {}", init.pid);
    let mounts = kernel::mounts(init.pid)?;
    let cgroups: Vec<_> = mounts.iter().filter(|mount| mount.fstype.starts_with("cgroup")).collect();
    ensure!(!cgroups.is_empty() && cgroups.iter().all(|mount| mount.has("ro")), "{cgroups:?}");
    case.delete()
}

/// What systemd and Docker in a privileged container need: groups below the container's own. With a user namespace, or without
/// a cgroup namespace, nothing that was not asked for can be written (CVE-2023-25809).
fn a_cgroup_mount_without_ro_can_be_written(case: &mut Case) -> Result<()> {
    case.edit(|config| {
        let list = config["mounts"].as_array_mut().expect("a list");
        list.retain(|mount| mount["type"] != "cgroup");
    });
    let options = ["nosuid", "noexec", "nodev", "relatime"];
    case.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}));
    case.script(
        "cd /sys/fs/cgroup; [ -e cgroup.procs ] || cd pids; mkdir below && echo $$ >below/cgroup.procs && grep -qx $$ below/cgroup.procs && \
         echo $$ >cgroup.procs && rmdir below && echo done",
    );
    case.prints("done\n").map(drop)
}

/// Each place in /proc/self/cgroup is the container's own cgroup below the mount of v2, and the mount itself in v1, read-only.
fn cgroup_mount_without_a_cgroup_namespace(case: &mut Case) -> Result<()> {
    let init = case.without_namespace("cgroup").args(["sleep", "60"]).up()?;
    let host = fs::read_link("/proc/self/ns/cgroup")?;
    ensure!(fs::read_link(format!("/proc/{}/ns/cgroup", init.pid))? == host, "it has a cgroup namespace");
    let own = kernel::cgroups(init.pid)?;
    let mut seen = 0;
    for mount in kernel::mounts(init.pid)?.iter().filter(|mount| mount.fstype.starts_with("cgroup")) {
        let name = mount.target.strip_prefix("/sys/fs/cgroup").context("a place of cgroups")?.trim_start_matches('/');
        let dir =
            own.get(if name.is_empty() { "unified" } else { name }).with_context(|| format!("a cgroup: {name}"))?;
        // v2 has the host's tree, in which the paths of /proc/self/cgroup lead somewhere.
        let below = if name.is_empty() { dir.strip_prefix("/sys/fs/cgroup")? } else { Path::new("") };
        let at = Path::new("/proc").join(init.pid.to_string()).join("root").join(&mount.target[1..]).join(below);
        let (inside, outside) = (fs::metadata(at)?, fs::metadata(dir)?);
        let same = (inside.dev(), inside.ino()) == (outside.dev(), outside.ino());
        ensure!(same, "{} is not {}", mount.target, dir.display());
        ensure!(mount.has("ro"), "{mount:?} can be written");
        seen += 1;
    }
    ensure!(seen > 0, "no cgroup is mounted");
    case.delete()
}

/// `rw` is about the container's own cgroup, and never about the rest of the host's tree.
fn own_cgroup_is_writable_without_a_cgroup_namespace(case: &mut Case) -> Result<()> {
    case.without_namespace("cgroup");
    case.edit(|config| {
        let list = config["mounts"].as_array_mut().expect("a list");
        list.retain(|mount| mount["type"] != "cgroup");
    });
    let options = ["rw", "nosuid", "noexec", "nodev"];
    case.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}));
    case.script(
        "own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup); grep -qx $$ $own/cgroup.procs && echo own; \
         mkdir $own/below && rmdir $own/below && echo made; for d in /sys/fs/cgroup $own/..; do mkdir $d/hull-evil && rmdir $d/hull-evil; done 2>&1; true",
    );
    let output = case.run()?.ok()?.stdout_has("own\nmade\n")?;
    ensure!(output.stdout.matches("Read-only file system").count() == 2, "it printed {:?}", output.stdout);
    Ok(())
}

fn a_link_as_destination_stays_in_the_rootfs(case: &mut Case) -> Result<()> {
    let source = source(case)?;
    let outside = case.dir.join("outside");
    fs::create_dir(&outside)?;
    // Absolute and relative links that lead out of the rootfs, when taken from the host's root.
    symlink(&outside, case.rootfs().join("absolute"))?;
    symlink("../../../../../../../../tmp", case.rootfs().join("relative"))?;
    case.set("/root/readonly", json!(false));
    case.mount(json!({"destination": "/absolute/new", "type": "bind", "source": source, "options": ["bind"]}));
    // A name of its own: /tmp is everybody's.
    let name = case.id.clone();
    let relative = format!("/relative/{name}");
    case.mount(json!({"destination": relative, "type": "bind", "source": source, "options": ["bind"]}));
    case.script(&format!("cat /absolute/new/file /tmp/{name}/file")).prints("content\ncontent\n")?;
    ensure!(fs::read_dir(&outside)?.next().is_none(), "something was made outside the rootfs");
    ensure!(!fs::exists(format!("/tmp/{name}"))?, "something was made in /tmp of the host");
    Ok(())
}

fn a_link_at_dev_stays_in_the_rootfs(case: &mut Case) -> Result<()> {
    let outside = case.dir.join("outside");
    fs::create_dir(&outside)?;
    fs::remove_dir(case.rootfs().join("dev"))?;
    symlink(&outside, case.rootfs().join("dev"))?;
    case.set("/root/readonly", json!(false));
    // Both with a mount at /dev and without one; refused or done in the rootfs, but never outside.
    let output = case.args(["true"]).run()?;
    ensure!(fs::read_dir(&outside)?.next().is_none(), "with a mount: made outside; {:?}", output.stderr);
    case.edit(|config| {
        let list = config["mounts"].as_array_mut().expect("a list");
        list.retain(|mount| !mount["destination"].as_str().is_some_and(|path| path.starts_with("/dev")));
    });
    let output = case.run()?;
    ensure!(fs::read_dir(&outside)?.next().is_none(), "without a mount: made outside; {:?}", output.stderr);
    Ok(())
}

fn dotdot_in_a_destination_stays_in_the_rootfs(case: &mut Case) -> Result<()> {
    let source = source(case)?;
    case.set("/root/readonly", json!(false));
    case.mount(json!({"destination": "/../../../mnt", "type": "bind", "source": source, "options": ["bind"]}));
    case.args(["cat", "/mnt/file"]).prints("content\n")
}

fn a_destination_is_made(case: &mut Case) -> Result<()> {
    let source = source(case)?;
    let file = format!("{source}/file");
    case.set("/root/readonly", json!(false));
    case.mount(json!({"destination": "/new/dir", "type": "bind", "source": source, "options": ["bind"]}));
    case.mount(json!({"destination": "/new/file", "type": "bind", "source": file, "options": ["bind"]}));
    case.script("cat /new/dir/file /new/file").prints("content\ncontent\n")?;
    ensure!(fs::metadata(case.rootfs().join("new/dir"))?.permissions().mode() & 0o777 == 0o755, "its mode");
    ensure!(fs::metadata(case.rootfs().join("new/file"))?.is_file(), "it is no file");
    Ok(())
}

fn a_bind_at_dev_is_left_alone(case: &mut Case) -> Result<()> {
    let dev = case.dir.join("own-dev");
    fs::create_dir(&dev)?;
    fs::write(dev.join("null"), "kept\n")?;
    case.edit(|config| {
        let list = config["mounts"].as_array_mut().expect("a list");
        list.retain(|mount| !mount["destination"].as_str().is_some_and(|path| path.starts_with("/dev")));
        list.push(json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["bind"]}));
    });
    case.args(["echo", "fine"]).prints("fine\n")?;
    let names: Vec<_> =
        fs::read_dir(&dev)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
    ensure!(names == ["null"] && fs::metadata(dev.join("null"))?.size() == 5, "it now has {names:?}");
    Ok(())
}

fn a_linked_proc_is_refused(case: &mut Case) -> Result<()> {
    fs::remove_dir(case.rootfs().join("proc"))?;
    symlink("/tmp", case.rootfs().join("proc"))?;
    case.args(["true"]).run()?.refused()?.stderr_has("/proc").map(drop)
}

fn hundreds_of_mounts(case: &mut Case) -> Result<()> {
    let source = source(case)?;
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}));
    for number in 0..300 {
        let destination = format!("/mnt/{number}");
        case.mount(json!({"destination": destination, "type": "bind", "source": source, "options": ["bind", "ro"]}));
    }
    case.script("grep -c ' /mnt/' /proc/self/mountinfo").prints("300\n")
}
