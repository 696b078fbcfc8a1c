//! /dev of the image: a link to the host, or full of them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Decoy, Swapper, attack, escaped, rounds, without_mounts};
use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("security/CVE-2026-41579/dev_is_a_link", dev_is_a_link),
        test("security/CVE-2026-41579/dev_is_a_link/userns", |case| dev_is_a_link(case.user_namespace()?))
            .requires(Need::Root),
        test("security/CVE-2026-41579/names_in_dev_are_links", links_in_dev),
        test("security/CVE-2026-41579/names_in_dev_are_links/userns", |case| links_in_dev(case.user_namespace()?))
            .requires(Need::Root),
        test("security/CVE-2026-41579/dev_is_swapped", dev_is_swapped),
        test("security/CVE-2026-41579/dev_is_swapped/userns", |case| dev_is_swapped(case.user_namespace()?))
            .requires(Need::Root),
        test("security/CVE-2026-88264/the_console_is_a_link", console_is_a_link),
        test("security/CVE-2026-88264/the_console_is_a_link/userns", |case| console_is_a_link(case.user_namespace()?))
            .requires(Need::Root),
        test("security/CVE-2026-88265/null_is_a_link_to_a_file", null_is_a_link),
        test("security/CVE-2026-88265/null_is_a_link_to_a_file/userns", |case| null_is_a_link(case.user_namespace()?))
            .requires(Need::Root),
        test("security/CVE-2025-52565/the_terminal_is_swapped", terminal_is_swapped),
        test("security/CVE-2025-52565/the_terminal_is_swapped/userns", |case| {
            terminal_is_swapped(case.user_namespace()?)
        })
        .requires(Need::Root),
    ]
}

/// The config as it is, and once more without any mount at or below /dev.
fn with_and_without_mounts(case: &mut Case, mut try_it: impl FnMut(&mut Case, &str) -> Result<()>) -> Result<()> {
    case.set("/root/readonly", json!(false));
    try_it(case, "with a mount at /dev")?;
    without_mounts(case, "/dev");
    try_it(case, "without a mount at /dev")
}

/// Also CVE-2026-47766.
fn dev_is_a_link(case: &mut Case) -> Result<()> {
    let decoy = Decoy::bare(case)?;
    let dev = case.rootfs().join("dev");
    fs::remove_dir(&dev)?;
    let up = "../../../../../../../../..";
    for target in [decoy.path.to_string_lossy().into_owned(), format!("{up}{}", decoy.path.display()), "/tmp".into()] {
        symlink(&target, &dev)?;
        let good = case.config.clone();
        with_and_without_mounts(case, |case, how| {
            // A device of the config's own too, and one in a directory that is missing.
            case.set(
                "/linux/devices",
                json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3},
                       {"path": "/dev/deep/mine", "type": "c", "major": 1, "minor": 3}]),
            );
            attack(case, &[], |_, _| decoy.unchanged(&format!("{how}, /dev -> {target}")))?;
            case.edit(|config| {
                config["linux"].as_object_mut().expect("an object").remove("devices");
            });
            attack(case, &[], |_, _| decoy.unchanged(&format!("{how}, /dev -> {target}, default devices")))?;
            decoy.unchanged(how)
        })?;
        case.config = good;
        fs::remove_file(&dev)?;
    }
    Ok(())
}

/// The two places of a /dev that the attacker filled: the image's, where nothing is mounted, and a volume's.
fn hostile_devs(case: &mut Case) -> Result<[(PathBuf, serde_json::Value); 2]> {
    without_mounts(case, "/dev");
    case.set("/root/readonly", json!(false));
    let bare = case.config.clone();
    let volume = case.dir.join("volume");
    fs::create_dir(&volume)?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&volume, Some(100_000), Some(100_000))?;
        fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    }
    case.mount(json!({"destination": "/dev", "type": "bind", "source": volume, "options": ["bind"]}));
    let bound = std::mem::replace(&mut case.config, bare.clone());
    Ok([(case.rootfs().join("dev"), bare), (volume, bound)])
}

fn links_in_dev(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    for (dev, config) in hostile_devs(case)? {
        case.config = config;
        links_in(case, &decoy, &dev)?;
    }
    Ok(())
}

fn links_in(case: &Case, decoy: &Decoy, dev: &Path) -> Result<()> {
    let names =
        ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "fd", "stdin", "stdout", "core"];
    for target in [decoy.path.join("null"), decoy.path.join("missing")] {
        for name in names {
            let path = dev.join(name);
            let _ = fs::remove_file(&path);
            symlink(&target, &path)?;
        }
        attack(case, &[], |_, _| decoy.unchanged("all names of /dev are links"))?;
        // One at a time: the first that is refused hides the others.
        for name in names {
            for other in names {
                let _ = fs::remove_file(dev.join(other));
            }
            symlink(&target, dev.join(name))?;
            attack(case, &[], |_, _| decoy.unchanged(&format!("/dev/{name} -> {}", target.display())))?;
            decoy.unchanged(name)?;
        }
    }
    Ok(())
}

/// A second container swaps the rootfs's /dev for a link to the host while nodes are made in it.
fn dev_is_swapped(case: &mut Case) -> Result<()> {
    let decoy = Decoy::bare(case)?;
    let rootfs = case.rootfs();
    symlink(&decoy.path, rootfs.join("dev-link"))?;
    without_mounts(case, "/dev");
    case.set("/root/readonly", json!(false));
    for _ in 0..rounds() {
        let swapper = Swapper::start(rootfs.join("dev"), rootfs.join("dev-link"));
        attack(case, &[], |_, _| {
            drop(swapper);
            decoy.unchanged("/dev was swapped while devices were made")
        })?;
        decoy.unchanged("after delete")?;
        for name in ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "fd", "stdin", "stdout", "stderr"] {
            for dev in ["dev", "dev-link"] {
                if !rootfs.join(dev).is_symlink() {
                    let _ = fs::remove_file(rootfs.join(dev).join(name));
                }
            }
        }
    }
    Ok(())
}

fn console_options(case: &Case) -> Result<(UnixListener, String)> {
    let path = case.dir.join("console.sock");
    let _ = fs::remove_file(&path);
    Ok((UnixListener::bind(&path)?, path.to_string_lossy().into_owned()))
}

fn console_is_a_link(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    case.set("/process/terminal", json!(true));
    let mounts = case.config["mounts"].as_array().cloned().unwrap_or_default();
    // devpts comes back, so that there is a terminal to bind.
    let devpts = mounts.into_iter().find(|mount| mount["destination"] == "/dev/pts").expect("a mount of devpts");
    for (dev, config) in hostile_devs(case)? {
        case.config = config;
        case.mount(devpts.clone());
        let console = dev.join("console");
        for target in ["missing", "null", "below/missing"] {
            symlink(decoy.path.join(target), &console)?;
            let (_listener, path) = console_options(case)?;
            attack(case, &["--console-socket", &path], |_, _| decoy.unchanged(&format!("/dev/console -> {target}")))?;
            decoy.unchanged(&format!("/dev/console -> {target}, after delete"))?;
            let _ = fs::remove_file(&console);
        }
    }
    Ok(())
}

/// stdio is on pipes; the image's /dev/null leads to a file of the host that is bound into the container.
fn null_is_a_link(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    case.set("/root/readonly", json!(false)).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    if !rustix::process::geteuid().is_root() {
        case.set("/process/user", json!({"uid": 0, "gid": 0}));
    }
    fs::write(case.rootfs().join("mnt/file"), "")?;
    for (dev, config) in hostile_devs(case)? {
        case.config = config;
        symlink("/mnt/file", dev.join("null"))?;
        case.mount(json!({"destination": "/mnt/file", "type": "bind", "source": decoy.path.join("null"),
                          "options": ["bind", "rw"]}));
        attack(case, &[], |_, _| decoy.unchanged("/dev/null -> a file of the host"))?;
        super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // On pipes: cat has one at its stdout while `run` has pipes at both ends.
        case.before = "exec </dev/null".to_owned();
        case.args(["true"]).run()?;
        decoy.unchanged("/dev/null -> a file of the host, run")?;
    }
    Ok(())
}

/// /dev/pts of a shared volume is exchanged for a directory whose `0` and `ptmx` are links, while a terminal is made:
/// to a file of the kernel's that the container may not write to, and is to be given as its console.
fn terminal_is_swapped(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    case.set("/process/terminal", json!(true)).set("/root/readonly", json!(false));
    case.edit(|config| {
        let list = config["mounts"].as_array_mut().expect("a list");
        list.retain(|mount| {
            let path = mount["destination"].as_str().unwrap_or_default();
            !path.starts_with("/dev") || path == "/dev/pts"
        });
    });
    let dev = case.rootfs().join("dev");
    fs::create_dir(dev.join("pts"))?;
    fs::create_dir(dev.join("other"))?;
    for name in ["0", "1", "2"] {
        symlink("/proc/sys/kernel/core_pattern", dev.join("other").join(name))?;
    }
    symlink(decoy.path.join("secret"), dev.join("other/ptmx"))?;
    let mut made = 0;
    for _ in 0..rounds() {
        let (_listener, path) = console_options(case)?;
        let swapper = Swapper::start(dev.join("pts"), dev.join("other"));
        let done = attack(case, &["--console-socket", &path], |pid, _| {
            drop(swapper);
            decoy.unchanged("/dev/pts was swapped")?;
            let Some(pid) = pid else { return Ok(()) };
            let mount = kernel::mount_at(pid, "/dev/console")?;
            let kind = fs::symlink_metadata(format!("/proc/{pid}/root/dev/console"))?.file_type();
            if mount.fstype != "devpts" || !kind.is_char_device() {
                return escaped(format!("/dev/console is {kind:?} of {}: {}", mount.fstype, mount.root));
            }
            Ok(())
        })?;
        made += u32::from(done);
    }
    // A directory that cannot stand still is often refused; without any swap it must work.
    let (_listener, path) = console_options(case)?;
    if dev.join("pts/0").is_symlink() {
        fs::rename(dev.join("pts"), dev.join("third"))?;
        fs::rename(dev.join("other"), dev.join("pts"))?;
    }
    made += u32::from(attack(case, &["--console-socket", &path], |_, _| decoy.unchanged("no swap"))?);
    ensure!(made > 0, "every one of the creates was refused: nothing was tried");
    Ok(())
}
