//! Checkpoint and restore by CRIU: names of mounts that an image makes up, and what a restored process may do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{ATTACKS, escaped};
use crate::checkpoint::{COUNTER, cgroups, checkpoint, images, needs, restore};
use crate::harness::{Case, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        needs(test("security/CVE-2026-119101/a_destination_named_like_a_key", a_destination_named_like_a_key)),
        needs(test("security/CVE-2026-115520/a_read_only_bind_is_never_writable", a_read_only_bind_is_never_writable)),
        needs(test("security/CVE-2026-115520/an_image_with_less_flags", an_image_with_less_flags)),
        needs(test("security/CVE-2026-92574/the_credentials_are_the_configs", the_credentials_are_the_configs)),
        needs(test("security/CVE-2026-92574/the_namespaces_are_the_configs", the_namespaces_are_the_configs)),
        needs(test(
            "security/CVE-2026-92574/masks_and_read_only_paths_are_the_configs",
            masks_and_read_only_paths_are_the_configs,
        )),
    ]
}

fn attacks() {
    ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}

/// A directory of the host with a file that says which one it is.
fn named(case: &Case, name: &str) -> Result<PathBuf> {
    let path = case.dir.join(name);
    fs::create_dir_all(&path)?;
    fs::write(path.join("name"), name)?;
    Ok(path)
}

/// No mount but those of the config shows the host's directory `secret`, and none that is read-only is writable.
fn judge(case: &Case, pid: i32) -> Result<()> {
    for mount in kernel::mounts(pid)? {
        let shown = fs::read_to_string(format!("/proc/{pid}/root{}/name", mount.target)).unwrap_or_default();
        if shown == "secret" {
            return escaped(format!("{} of the container is a directory that the config does not name", mount.target));
        }
        if shown == "readonly" && !mount.has("ro") {
            return escaped(format!("{} of the container is writable", mount.target));
        }
    }
    ensure!(kernel::alive(pid), "the init of {} has gone", case.id);
    Ok(())
}

/// Checkpoint and restore of a container, which both may be refused: then nothing of it may be left.
fn there_and_back(case: &mut Case) -> Result<()> {
    attacks();
    let init = case.script(COUNTER).up()?;
    init.wait_for("3")?;
    if let Err(error) = checkpoint(case, &[]) {
        ensure!(format!("{error:#}").contains("checkpoint"), "checkpoint failed without a word: {error:#}");
        case.status_is("running")?;
        return case.delete();
    }
    back(case, "restore")
}

/// Restores the container, whose mounts are then judged, or the error has this word and nothing is left.
fn back(case: &Case, word: &str) -> Result<()> {
    match restore(case, &[]) {
        Ok(again) => {
            judge(case, again.pid)?;
            case.delete()
        }
        Err(error) => {
            ensure!(format!("{error:#}").contains(word), "it failed without saying {word}: {error:#}");
            let left = case.leftovers();
            ensure!(left.is_empty(), "left behind: {left:?}");
            Ok(())
        }
    }
}

/// The image's /m leads to a directory whose name ends CRIU's word for a place and begins a key with a path of the host.
fn a_destination_named_like_a_key(case: &mut Case) -> Result<()> {
    let (given, secret) = (named(case, "given")?, named(case, "secret")?);
    let good = case.config.clone();
    for (number, name) in [format!("x]:{}", secret.display()), "x]:/etc".into(), "x".into()].into_iter().enumerate() {
        case.config = good.clone();
        let destination = format!("/m{number}");
        fs::create_dir_all(case.rootfs().join(&name))?;
        symlink(&name, case.rootfs().join(&destination[1..]))?;
        case.mount(json!({"destination": destination, "type": "bind", "source": given, "options": ["bind", "ro"]}));
        // The place that the made-up key is for.
        case.mount(json!({"destination": "/x", "type": "tmpfs", "source": "tmpfs"}));
        there_and_back(case)?;
    }
    Ok(())
}

/// Two binds, one of them read-only; the image exchanges the ways to them while the container runs.
fn a_read_only_bind_is_never_writable(case: &mut Case) -> Result<()> {
    let (readonly, writable) = (named(case, "readonly")?, named(case, "writable")?);
    let rootfs = case.rootfs();
    for name in ["one", "two"] {
        fs::create_dir(rootfs.join(name))?;
    }
    symlink("one", rootfs.join("a"))?;
    symlink("two", rootfs.join("b"))?;
    case.mount(json!({"destination": "/a", "type": "bind", "source": readonly, "options": ["bind", "ro"]}));
    case.mount(json!({"destination": "/b", "type": "bind", "source": writable, "options": ["bind", "rw"]}));
    attacks();
    let init = case.script(COUNTER).up()?;
    init.wait_for("3")?;
    fs::remove_file(rootfs.join("a"))?;
    fs::remove_file(rootfs.join("b"))?;
    symlink("two", rootfs.join("a"))?;
    symlink("one", rootfs.join("b"))?;
    if checkpoint(case, &[]).is_err() {
        case.status_is("running")?;
        return case.delete();
    }
    match restore(case, &[]) {
        Ok(again) => {
            judge(case, again.pid)?;
            case.delete()
        }
        Err(_) => Ok(()),
    }
}

/// The image is of a container whose bind was writable.
fn an_image_with_less_flags(case: &mut Case) -> Result<()> {
    let readonly = named(case, "readonly")?;
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": readonly, "options": ["bind", "rw"]}));
    attacks();
    let init = case.script(COUNTER).up()?;
    init.wait_for("3")?;
    checkpoint(case, &[])?;
    let index = case.config["mounts"].as_array().context("a list")?.len() - 1;
    case.set(&format!("/mounts/{index}/options"), json!(["bind", "ro"])).write_config()?;
    back(case, "/mnt")
}

/// Whether a process is what the config says.
type Holds = fn(i32) -> Result<bool>;

/// The image is of a container that might do more.
fn the_credentials_are_the_configs(case: &mut Case) -> Result<()> {
    case.edit(|config| {
        let process = &mut config["process"];
        process["noNewPrivileges"] = json!(false);
        for set in ["bounding", "effective", "permitted"] {
            process["capabilities"][set] = json!(["CAP_KILL", "CAP_SYS_ADMIN"]);
        }
    });
    let init = case.script(COUNTER).up()?;
    init.wait_for("3")?;
    checkpoint(case, &[])?;
    let allowing =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
    let stricter: [(&str, Value, Holds); 3] = [
        ("/process/capabilities", json!({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"]}), |pid| {
            let set = |name| Ok::<_, anyhow::Error>(u64::from_str_radix(&kernel::status(pid, name)?, 16)?);
            Ok((set("CapBnd")? | set("CapPrm")? | set("CapEff")?) & !(1 << 5) == 0)
        }),
        ("/process/noNewPrivileges", json!(true), |pid| Ok(kernel::status(pid, "NoNewPrivs")? == "1")),
        ("/linux/seccomp", allowing, |pid| Ok(kernel::status(pid, "Seccomp")? == "2")),
    ];
    let original = case.config.clone();
    for (pointer, value, holds) in stricter {
        case.config = original.clone();
        case.set(pointer, value).write_config()?;
        stricter_config(case, pointer, holds)?;
    }
    Ok(())
}

/// Restores with a config that gives less than the image has: it is refused, or what is restored has no more.
fn stricter_config(case: &Case, what: &str, holds: Holds) -> Result<()> {
    attacks();
    let (images, bundle, pid_file) = (images(case), case.bundle(), case.dir.join("pid"));
    let mut args = vec!["restore", "--detach", "--image-path", images.to_str().context("a path")?];
    args.extend(cgroups());
    args.extend([
        "--bundle",
        bundle.to_str().context("a path")?,
        "--pid-file",
        pid_file.to_str().context("a path")?,
        &case.id,
    ]);
    let output = case.verb(args)?;
    if output.status == 0 {
        let held = holds(case.pid()?)?;
        case.delete()?;
        if !held {
            return escaped(format!("a restored process is free of what {what} of the config says"));
        }
        return Ok(());
    }
    let output = output.refused()?;
    if case.peer.is_none() && !output.stderr.contains("of the image") {
        bail!("{what}: it is not the image that was refused: {:?}", output.stderr);
    }
    let left = case.leftovers();
    ensure!(left.is_empty(), "{what}: left behind: {left:?}");
    Ok(())
}

/// The image is of a container in the host's network namespace.
fn the_namespaces_are_the_configs(case: &mut Case) -> Result<()> {
    let strict = case.config.clone();
    let init = case.without_namespace("network").script(COUNTER).up()?;
    init.wait_for("3")?;
    checkpoint(case, &[])?;
    let args = case.config["process"]["args"].clone();
    case.config = strict;
    case.set("/process/args", args).write_config()?;
    stricter_config(case, "/linux/namespaces", |pid| {
        Ok(kernel::namespace(pid, "net")? != kernel::namespace(std::process::id() as i32, "net")?)
    })
}

/// The image is of a container that nothing is masked in, with a /sys that it may write to.
fn masks_and_read_only_paths_are_the_configs(case: &mut Case) -> Result<()> {
    let strict = case.config.clone();
    let sys =
        case.config["mounts"].as_array().context("a list")?.iter().position(|mount| mount["destination"] == "/sys");
    let options = format!("/mounts/{}/options", sys.context("a /sys")?);
    case.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    case.set(&options, json!(["nosuid", "noexec", "nodev"]));
    let init = case.script(COUNTER).up()?;
    init.wait_for("3")?;
    checkpoint(case, &[])?;
    let lax = case.config.clone();
    let of_strict = |pointer: &str| strict.pointer(pointer).cloned().unwrap_or(Value::Null);
    let stricter: [(&str, Value, Holds); 3] = [
        ("/linux/maskedPaths", of_strict("/linux/maskedPaths"), |pid| {
            let file = fs::File::options().read(true).open(format!("/proc/{pid}/root/proc/kcore"))?;
            Ok(rustix::fs::fstat(&file)?.st_rdev == rustix::fs::makedev(1, 3))
        }),
        ("/linux/readonlyPaths", of_strict("/linux/readonlyPaths"), |pid| {
            Ok(kernel::mounts(pid)?.iter().any(|mount| mount.target == "/proc/sys" && mount.has("ro")))
        }),
        (&options, of_strict(&options), |pid| Ok(kernel::mount_at(pid, "/sys")?.has("ro"))),
    ];
    for (pointer, value, holds) in stricter {
        case.config = lax.clone();
        case.set(pointer, value).write_config()?;
        stricter_config(case, pointer, holds)?;
    }
    Ok(())
}
