//! checkpoint and restore, by CRIU: the program goes on where it was, in a container that is what the config says.
//! Most cases need a CRIU that knows this kernel (hack/vm has one).

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::harness::{Case, Init, Need, Test, test};
use crate::kernel;
use crate::terminal::{create_with_console, read_until, take_master};

/// What a case that goes there and back needs.
pub fn needs(test: Test) -> Test {
    test.requires(Need::Root).requires(Need::Criu).requires(Need::Verb("checkpoint")).requires(Need::Verb("restore"))
}

pub fn cases() -> Vec<Test> {
    vec![
        needs(test("checkpoint/a_program_goes_on", a_program_goes_on)),
        needs(test("checkpoint/leave_running", leave_running)),
        needs(test("checkpoint/a_paused_container", a_paused_container)),
        needs(test("checkpoint/from_a_memory_of_before", from_a_memory_of_before))
            .requires(Need::CriuFeature("mem_dirty_track")),
        needs(test("checkpoint/mounts_of_the_host_come_from_the_config", mounts_of_the_host_come_from_the_config)),
        needs(test("checkpoint/limits_and_credentials", limits_and_credentials))
            .requires(Need::CgroupV2)
            .requires(Need::Controller("pids"))
            .requires(Need::Controller("memory")),
        needs(test("checkpoint/an_image_of_another_config_is_refused", an_image_of_another_config_is_refused))
            .requires(Need::Hull),
        needs(test("checkpoint/the_status_of_the_program", the_status_of_the_program)),
        needs(test("checkpoint/a_terminal_goes_to_the_new_socket", a_terminal_goes_to_the_new_socket)),
        needs(test("checkpoint/a_mount_behind_a_link", a_mount_behind_a_link)),
        needs(test("checkpoint/a_broken_image_leaves_nothing", a_broken_image_leaves_nothing)),
        test("checkpoint/what_cannot_be_restored_goes_on", what_cannot_be_restored_goes_on)
            .requires(Need::Root)
            .requires(Need::Hull),
        test("checkpoint/an_image_that_others_could_write", an_image_that_others_could_write)
            .requires(Need::Root)
            .requires(Need::Hull),
        test("checkpoint/in_the_wrong_state", in_the_wrong_state)
            .requires(Need::Root)
            .requires(Need::Verb("checkpoint")),
    ]
}

pub const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";

/// CRIU wants every hierarchy of /proc/self/cgroup to be mounted: where some are not, it is told to leave cgroups alone.
pub fn cgroups() -> &'static [&'static str] {
    let hierarchies = kernel::read("/proc/self/cgroup").map_or(0, |text| text.lines().count());
    if hierarchies > 1 { &["--manage-cgroups-mode", "ignore"] } else { &[] }
}

pub fn images(case: &Case) -> PathBuf {
    case.dir.join("image")
}

fn last(init: &Init) -> Result<u64> {
    let text = init.output()?;
    text.lines().last().context("no line yet")?.parse().with_context(|| format!("the output ends {text:?}"))
}

pub fn checkpoint(case: &Case, options: &[&str]) -> Result<()> {
    let images = images(case);
    let mut args = vec!["checkpoint", "--image-path", images.to_str().context("a path")?];
    args.extend(cgroups());
    args.extend(options);
    args.push(&case.id);
    let output = case.verb(args)?;
    if output.status != 0 {
        bail!("{:?}; the log ends:\n{}", output, log(case, "dump.log"));
    }
    Ok(())
}

fn log(case: &Case, name: &str) -> String {
    let text = fs::read_to_string(images(case).join(name)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// `restore --detach`; the container writes to the files of this command.
pub fn restore(case: &Case, options: &[&str]) -> Result<Init> {
    let (images, bundle, pid_file) = (images(case), case.bundle(), case.dir.join("pid"));
    let _ = fs::remove_file(&pid_file);
    let mut args = vec!["restore", "--detach", "--image-path", images.to_str().context("a path")?];
    args.extend(["--bundle", bundle.to_str().context("a path")?, "--pid-file", pid_file.to_str().context("a path")?]);
    args.extend(cgroups());
    args.extend(options);
    args.push(&case.id);
    let output = case.verb(args)?;
    if output.status != 0 {
        bail!("{:?}; the log ends:\n{}", output, log(case, "restore.log"));
    }
    Ok(output.init(case.pid()?))
}

fn a_program_goes_on(case: &mut Case) -> Result<()> {
    let init = case.script(COUNTER).up()?;
    init.wait_for("5")?;
    checkpoint(case, &[])?;
    ensure!(!kernel::alive(init.pid), "the program still runs");
    case.verb(["state", &case.id])?.refused()?.stderr_has("does not exist")?;
    let reached = last(&init)?;
    let again = restore(case, &[])?;
    case.status_is("running")?;
    kernel::eventually("it goes on", || last(&again).is_ok_and(|n| n > reached))?;
    ensure!(kernel::status(again.pid, "NSpid")?.ends_with("\t1"), "init is not process 1 of its namespace");
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    kernel::eventually("it stops", || case.status_is("stopped").is_ok())?;
    case.verb(["delete", &case.id])?.ok().map(drop)
}

fn leave_running(case: &mut Case) -> Result<()> {
    let init = case.script(COUNTER).up()?;
    init.wait_for("3")?;
    checkpoint(case, &["--leave-running"])?;
    case.status_is("running")?;
    let reached = last(&init)?;
    kernel::eventually("it goes on", || last(&init).is_ok_and(|n| n > reached))?;
    case.delete()
}

fn a_paused_container(case: &mut Case) -> Result<()> {
    let init = case.script(COUNTER).up()?;
    init.wait_for("3")?;
    case.verb(["pause", &case.id])?.ok()?;
    checkpoint(case, &["--leave-running"])?;
    case.status_is("paused")?;
    case.verb(["resume", &case.id])?.ok()?;
    let reached = last(&init)?;
    kernel::eventually("it goes on", || last(&init).is_ok_and(|n| n > reached))?;
    case.delete()
}

fn from_a_memory_of_before(case: &mut Case) -> Result<()> {
    let init = case.script(COUNTER).up()?;
    init.wait_for("3")?;
    let before = case.dir.join("before");
    case.verb(["checkpoint", "--pre-dump", "--image-path", before.to_str().context("a path")?, &case.id])?.ok()?;
    case.status_is("running")?;
    checkpoint(case, &["--parent-path", "../before"])?;
    let reached = last(&init)?;
    let again = restore(case, &[])?;
    kernel::eventually("it goes on", || last(&again).is_ok_and(|n| n > reached))?;
    case.delete()
}

fn mounts_of_the_host_come_from_the_config(case: &mut Case) -> Result<()> {
    let (one, two) = (case.dir.join("one"), case.dir.join("two"));
    for dir in [&one, &two] {
        fs::create_dir(dir)?;
        fs::write(dir.join("name"), dir.file_name().context("a name")?.to_string_lossy().as_bytes())?;
    }
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": one, "options": ["bind", "ro"]}));
    let init = case.script("while :; do cat /mnt/name; echo; sleep 0.05; done").up()?;
    init.wait_for("one")?;
    // Masked and read-only paths among them.
    let table = |pid| -> Result<Vec<(String, String, bool)>> {
        Ok(kernel::mounts(pid)?.into_iter().map(|m| (m.target.clone(), m.fstype.clone(), m.has("ro"))).collect())
    };
    let mut before = table(init.pid)?;
    before.sort();
    checkpoint(case, &[])?;
    // The image knows the mount by its destination only. The number is another one now, as when an engine imports.
    let index = case.config["mounts"].as_array().context("a list")?.len() - 1;
    case.set(&format!("/mounts/{index}/source"), json!(two));
    case.edit(|config| {
        let list = config["mounts"].as_array_mut().expect("mounts are a list");
        let bind = list.pop().expect("the bind is the last");
        list.insert(0, bind);
    });
    case.write_config()?;
    let again = restore(case, &[])?;
    again.wait_for("two")?;
    ensure!(kernel::mount_at(again.pid, "/mnt")?.has("ro"), "/mnt became writable");
    let mut after = table(again.pid)?;
    after.sort();
    ensure!(before == after, "the mounts differ:\n{before:#?}\n{after:#?}");
    case.delete()
}

fn limits_and_credentials(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/pids", json!({"limit": 44}));
    case.set("/linux/resources/memory", json!({"limit": 100_000_000}));
    case.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let init = case.script(COUNTER).up()?;
    init.wait_for("3")?;
    checkpoint(case, &[])?;
    let again = restore(case, &[])?;
    for field in ["Uid", "Gid"] {
        ensure!(kernel::status(again.pid, field)? == "1000\t1000\t1000\t1000", "{field} changed");
    }
    ensure!(kernel::status(again.pid, "NoNewPrivs")? == "1", "it may gain privileges");
    let dir = kernel::cgroups(again.pid)?.remove("unified").context("a v2 cgroup")?;
    ensure!(dir.to_string_lossy().contains(&case.id), "it is in {}", dir.display());
    ensure!(kernel::read(dir.join("pids.max"))?.trim() == "44", "pids.max was not set");
    case.delete()?;
    ensure!(!dir.exists(), "{} is still there", dir.display());
    Ok(())
}

fn an_image_of_another_config_is_refused(case: &mut Case) -> Result<()> {
    let init = case.script(COUNTER).up()?;
    init.wait_for("3")?;
    checkpoint(case, &[])?;
    let original = case.config.clone();
    for (pointer, value, word) in [
        ("/process/capabilities", json!({}), "capabilities"),
        ("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "hard": 64, "soft": 64}]), "RLIMIT_NOFILE"),
        ("/process/user", json!({"uid": 7, "gid": 0}), "user"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}),
            "seccomp",
        ),
    ] {
        case.config = original.clone();
        case.set(pointer, value);
        case.write_config()?;
        let (images, bundle) = (images(case), case.bundle());
        let mut args = vec!["restore", "--detach", "--image-path", images.to_str().context("a path")?];
        args.extend(cgroups());
        args.extend(["--bundle", bundle.to_str().context("a path")?, &case.id]);
        let output = case.verb(args)?;
        output.refused()?.stderr_has("of the image has")?.stderr_has(word)?;
        let left = case.leftovers();
        ensure!(left.is_empty(), "{pointer}: left behind: {left:?}");
    }
    Ok(())
}

fn the_status_of_the_program(case: &mut Case) -> Result<()> {
    let init = case.script("trap 'exit 23' USR1; echo ready; while :; do sleep 0.05; done").up()?;
    init.wait_for("ready")?;
    checkpoint(case, &[])?;
    let (images, bundle) = (images(case), case.bundle());
    let mut args = vec!["restore", "--image-path", images.to_str().context("a path")?];
    args.extend(cgroups());
    args.extend(["--bundle", bundle.to_str().context("a path")?, &case.id]);
    let running = case.spawn(args)?;
    kernel::eventually("it runs", || case.status_is("running").is_ok())?;
    case.verb(["kill", &case.id, "USR1"])?.ok()?;
    running.wait(Duration::from_secs(20))?.status(23)?;
    case.verb(["state", &case.id])?.refused()?.stderr_has("does not exist").map(drop)
}

fn a_terminal_goes_to_the_new_socket(case: &mut Case) -> Result<()> {
    case.set("/process/terminal", json!(true))
        .script("n=0; while read line; do n=$((n+1)); echo \"$n is $line\"; done");
    let (mut master, _) = create_with_console(case)?;
    case.verb(["start", &case.id])?.ok()?;
    master.write_all(b"before\n")?;
    read_until(&mut master, "1 is before")?;
    checkpoint(case, &[])?;
    drop(master);
    let path = case.dir.join("second.sock");
    let listener = UnixListener::bind(&path)?;
    let again = restore(case, &["--console-socket", &path.to_string_lossy()])?;
    let (mut master, name) = take_master(&listener)?;
    ensure!(rustix::termios::isatty(&master), "what was sent is no terminal");
    ensure!(!name.is_empty(), "the message has no name");
    // The program has its variables, and a terminal that is the one at the other end.
    master.write_all(b"after\n")?;
    read_until(&mut master, "2 is after")?;
    ensure!(kernel::alive(again.pid), "it ended");
    case.delete()
}

/// An image whose /var/run leads to /run is a usual one.
fn a_mount_behind_a_link(case: &mut Case) -> Result<()> {
    std::os::unix::fs::symlink("../run", case.rootfs().join("var/run"))?;
    let source = case.dir.join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "there")?;
    case.mount(json!({"destination": "/var/run/data", "type": "bind", "source": source, "options": ["bind", "ro"]}));
    let init = case.script("while :; do cat /run/data/file; echo; sleep 0.05; done").up()?;
    init.wait_for("there")?;
    checkpoint(case, &[])?;
    fs::write(source.join("file"), "still there")?;
    let again = restore(case, &[])?;
    again.wait_for("still there")?;
    ensure!(kernel::mount_at(again.pid, "/run/data")?.has("ro"), "it became writable");
    case.delete()
}

fn a_broken_image_leaves_nothing(case: &mut Case) -> Result<()> {
    let init = case.script(COUNTER).up()?;
    init.wait_for("3")?;
    checkpoint(case, &[])?;
    fs::remove_file(images(case).join("pstree.img"))?;
    let (images, bundle) = (images(case), case.bundle());
    let args = ["restore", "--detach", "--image-path", images.to_str().context("a path")?, "--bundle"];
    let output = case.verb(args.into_iter().chain([bundle.to_str().context("a path")?, &case.id]))?.refused()?;
    if case.peer.is_none() {
        output.stderr_has("restore.log")?.one_sentence()?;
    }
    let left = case.leftovers();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

fn in_the_wrong_state(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).create()?;
    let images = images(case);
    let args = ["checkpoint", "--image-path", images.to_str().context("a path")?, &case.id];
    case.verb(args)?.refused()?.stderr_has("created")?;
    case.delete()
}

fn what_cannot_be_restored_goes_on(case: &mut Case) -> Result<()> {
    let init = case.user_namespace()?.args(["sleep", "60"]).up()?;
    let images = images(case);
    let args = ["checkpoint", "--image-path", images.to_str().context("a path")?, &case.id];
    case.verb(args)?.refused()?.stderr_has("user namespace")?.one_sentence()?;
    ensure!(kernel::alive(init.pid), "the program has gone");
    ensure!(!images.exists(), "an image was begun");
    case.status_is("running")?;
    case.delete()
}

/// CRIU follows links in the directory, and takes pages-1.img for memory whatever it is.
fn an_image_that_others_could_write(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let images = images(case);
    fs::create_dir(&images)?;
    let mode = |mode| fs::set_permissions(&images, fs::Permissions::from_mode(mode));
    let (path, bundle) = (images.to_string_lossy().into_owned(), case.bundle().to_string_lossy().into_owned());
    for bits in [0o777, 0o1777] {
        mode(bits)?;
        let output = case.verb(["checkpoint", "--image-path", &path, &case.id])?.refused()?;
        output.stderr_has("others may write to it")?.one_sentence()?;
        ensure!(fs::read_dir(&images)?.next().is_none(), "an image was begun");
    }
    mode(0o700)?;
    let decoy = case.dir.join("decoy");
    fs::write(&decoy, "mine")?;
    std::os::unix::fs::symlink(&decoy, images.join("descriptors.json"))?;
    case.verb(["checkpoint", "--image-path", &path, &case.id])?.refused()?.one_sentence()?;
    ensure!(fs::read_to_string(&decoy)? == "mine", "a file of the host was overwritten");
    ensure!(kernel::alive(init.pid), "the program has gone");
    case.status_is("running")?;
    case.delete()?;

    let restore = ["restore", "--detach", "--image-path", &path, "--bundle", &bundle, &case.id];
    case.verb(restore)?.refused()?.stderr_has("descriptors.json: it is no plain file")?.one_sentence()?;
    fs::remove_file(images.join("descriptors.json"))?;
    std::os::unix::fs::symlink("/etc/shadow", images.join("pages-1.img"))?;
    case.verb(restore)?.refused()?.stderr_has("pages-1.img: it is no plain file")?.one_sentence()?;
    fs::remove_file(images.join("pages-1.img"))?;
    fs::write(images.join("pages-1.img"), "x")?;
    std::os::unix::fs::chown(images.join("pages-1.img"), Some(65534), None)?;
    case.verb(restore)?.refused()?.stderr_has("pages-1.img: it belongs to user 65534")?.one_sentence()?;
    let left = case.leftovers();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
