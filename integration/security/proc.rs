//! Writes to /proc (labels, kernel parameters) that the image or a race would send elsewhere.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Decoy, Swapper, attack, escaped, rounds, without_mounts};
use crate::apparmor::Profile;
use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("security/CVE-2019-16884/a_volume_over_proc", volume_over_proc),
        test("security/CVE-2019-16884/a_volume_over_proc/userns", |case| volume_over_proc(case.user_namespace()?))
            .requires(Need::Root),
        test("security/CVE-2025-52881/kernel_parameters_of_the_image", parameters_of_the_image),
        test("security/CVE-2025-52881/kernel_parameters_while_mounts_are_swapped", |case| {
            swapped_parameters(case, None)
        }),
        test("security/CVE-2025-52881/kernel_parameters_while_mounts_are_swapped/userns", |case| {
            swapped_parameters(case.user_namespace()?, None)
        })
        .requires(Need::Root),
        test("security/CVE-2019-16884/the_label_is_set_past_a_false_proc", label_past_a_false_proc)
            .requires(Need::Root)
            .requires(Need::AppArmor),
        test("security/CVE-2025-52881/labels_while_mounts_are_swapped", |case| {
            let profile = Profile::load(case)?;
            swapped_parameters(case, Some(&profile.0))
        })
        .requires(Need::Root)
        .requires(Need::AppArmor),
    ]
}

/// Binds, also through links and `..`, that would hide the procfs which labels are written to.
fn volume_over_proc(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let volume = case.dir.join("volume");
    fs::create_dir_all(volume.join("self/attr"))?;
    fs::write(volume.join("self/attr/exec"), "kept\n")?;
    symlink("/proc", case.rootfs().join("link"))?;
    symlink("proc/self", case.rootfs().join("self"))?;
    let good = case.config.clone();
    let destinations = [
        "/proc",
        "/proc/",
        "/proc/self",
        "/proc/self/attr",
        "/proc/sys",
        "/link",
        "/link/sys",
        "/self/attr",
        "/tmp/../proc",
        "/proc/./sys/kernel",
        "//proc",
    ];
    for destination in destinations {
        for kind in ["bind", "tmpfs"] {
            case.config = good.clone();
            let options = if kind == "bind" { json!(["rbind"]) } else { json!([]) };
            let mount = json!({"destination": destination, "type": kind, "source": volume, "options": options});
            case.mount(mount);
            let made = attack(case, &[], |_, _| decoy.unchanged(destination))?;
            if made {
                return escaped(format!("a {kind} on {destination} hides the container's procfs"));
            }
        }
    }
    ensure!(fs::read_to_string(volume.join("self/attr/exec"))? == "kept\n", "the volume was written to");
    Ok(())
}

/// Without a mount of proc the image's /proc/sys is a set of plain files or links: a parameter is never written there.
fn parameters_of_the_image(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let dir = case.rootfs().join("proc/sys/kernel");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("domainname"), "of the image\n")?;
    symlink(decoy.path.join("secret"), dir.join("shmmax"))?;
    case.set("/root/readonly", json!(false));
    case.set("/linux/sysctl", json!({"kernel.domainname": "asked", "kernel.shmmax": "123456"}));
    without_mounts(case, "/proc");
    for readonly in [json!(["/proc/sys"]), json!([])] {
        // Where /proc/sys is read-only by then, nothing could be written there in any case.
        case.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", readonly);
        attack(case, &[], |_, _| {
            decoy.unchanged("a parameter was written through a link of the image")?;
            let text = fs::read_to_string(dir.join("domainname"))?;
            if text != "of the image\n" {
                return escaped(format!("the image's file was written: {text:?}"));
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The image has a /proc/self/attr of its own, and the config no mount of proc: the program has its label, or does not run.
fn label_past_a_false_proc(case: &mut Case) -> Result<()> {
    let profile = Profile::load(case)?;
    for thread in ["self", "thread-self", "1", "self/task/1"] {
        let attr = case.rootfs().join("proc").join(thread).join("attr/apparmor");
        fs::create_dir_all(&attr)?;
        for name in ["exec", "current", "../exec", "../current"] {
            fs::write(attr.join(name), "kept\n")?;
        }
    }
    case.set("/process/apparmorProfile", json!(profile.0)).args(["sleep", "60"]);
    without_mounts(case, "/proc");
    attack(case, &[], |pid, _| labelled(case, pid, &profile.0))?;
    Ok(())
}

/// Starts what was created and looks at its label, from the host.
fn labelled(case: &Case, pid: Option<i32>, profile: &str) -> Result<()> {
    let Some(pid) = pid else { return Ok(()) };
    case.verb(["start", &case.id])?.ok()?;
    let wanted = format!("{profile} (enforce)");
    let label = kernel::read(format!("/proc/{pid}/attr/current"))?;
    if label.trim() != wanted {
        return escaped(format!("the program's label is {label:?}, not {wanted:?}"));
    }
    Ok(())
}

/// A shared volume leads into /proc/sys every other moment, while the config's parameters, or a label, are set.
fn swapped_parameters(case: &mut Case, profile: Option<&str>) -> Result<()> {
    if let Some(profile) = profile {
        case.set("/process/apparmorProfile", json!(profile)).args(["sleep", "60"]);
    }
    let decoy = Decoy::new(case)?;
    let volume = case.dir.join("volume");
    fs::create_dir(&volume)?;
    for name in ["domainname", "shmmax", "exec", "current"] {
        fs::write(volume.join(name), "kept\n")?;
    }
    let shared = case.rootfs().join("vol");
    fs::create_dir_all(shared.join("a"))?;
    case.set("/root/readonly", json!(false));
    if rustix::process::geteuid().is_root() {
        // One that root of a user namespace may set, too.
        case.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    }
    for _ in 0..6 {
        case.mount(json!({"destination": "/vol/a", "type": "bind", "source": volume, "options": ["bind"]}));
    }
    let mut made = 0;
    for target in ["/proc/sys/kernel", "/proc/self/attr"] {
        symlink(target, shared.join("b"))?;
        for _ in 0..rounds() {
            let swapper = Swapper::start(shared.join("a"), shared.join("b"));
            let done = attack(case, &[], |pid, _| {
                drop(swapper);
                decoy.unchanged("a volume was swapped against /proc/sys")?;
                for name in ["domainname", "shmmax", "exec", "current"] {
                    let text = fs::read_to_string(volume.join(name))?;
                    if text != "kept\n" {
                        return escaped(format!("{name} of the volume was written: {text:?}"));
                    }
                }
                let Some(pid) = pid else { return Ok(()) };
                // /proc of the container, as the container sees it: in its uts namespace the parameter is set.
                let visible = fs::metadata(format!("/proc/{pid}/root/proc/sys/kernel/core_pattern")).is_ok();
                ensure!(visible, "something lies over /proc/sys/kernel");
                profile.map_or(Ok(()), |profile| labelled(case, Some(pid), profile))
            })?;
            made += u32::from(done);
        }
        for name in ["a", "b"] {
            if shared.join(name).is_symlink() {
                fs::remove_file(shared.join(name))?;
            }
        }
        if !shared.join("a").exists() {
            fs::rename(shared.join("b"), shared.join("a"))?;
        }
    }
    super::refused_for_the_swap_alone(case, made)?;
    Ok(())
}
