//! Masks, read-only paths and the read-only root, where the image prepared what they are made with or made on.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Decoy, Swapper, attack, escaped, rounds, without_mounts};
use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("security/CVE-2025-31133/null_of_the_image_masks_nothing", null_of_the_image),
        test("security/CVE-2025-31133/null_of_the_image_masks_nothing/userns", |case| {
            null_of_the_image(case.user_namespace()?)
        })
        .requires(Need::Root),
        test("security/CVE-2025-31133/null_is_swapped", null_is_swapped),
        test("security/CVE-2025-31133/null_is_swapped/userns", |case| null_is_swapped(case.user_namespace()?))
            .requires(Need::Root),
        test("security/CVE-2025-31133/masks_behind_links", masks_behind_links),
        test("security/GHSA-3q8j-pf29-vwv8/readonly_paths_that_are_swapped", swapped_readonly),
        test("security/GHSA-3q8j-pf29-vwv8/readonly_paths_that_are_swapped/userns", |case| {
            swapped_readonly(case.user_namespace()?)
        })
        .requires(Need::Root),
        test("security/GHSA-3q8j-pf29-vwv8/masks_that_are_swapped", swapped_mask).requires(Need::Root),
        test("security/CVE-2026-115521/descriptors_of_the_image", |case| image_with_proc(case, "")),
        test("security/CVE-2026-115521/descriptors_of_the_image/userns", |case| {
            image_with_proc(case.user_namespace()?, "")
        })
        .requires(Need::Root),
        test("security/CVE-2026-115521/descriptors_of_the_image/ENOSYS", |case| {
            image_with_proc(case, "mount_setattr:ENOSYS")
        }),
        test("security/CVE-2026-115521/descriptors_of_the_image/EPERM", |case| {
            image_with_proc(case, "mount_setattr:EPERM")
        }),
    ]
}

/// Whether /proc/keys of the container is the host's null device, by what the kernel says.
fn keys_are_masked(pid: i32) -> Result<()> {
    let meta = fs::metadata(format!("/proc/{pid}/root/proc/keys"))?;
    let null = meta.file_type().is_char_device() && meta.rdev() == rustix::fs::makedev(1, 3);
    if !null {
        return escaped(format!("/proc/keys is masked by a {:?} with {} bytes", meta.file_type(), meta.size()));
    }
    Ok(())
}

/// Also CVE-2025-62161. A mask is a bind of /dev/null: never of the container's.
fn null_of_the_image(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    without_mounts(case, "/dev");
    case.set("/root/readonly", json!(false)).set("/linux/maskedPaths", json!(["/proc/keys"]));
    let null = case.rootfs().join("dev/null");
    let host = decoy.path.join("null").to_string_lossy().into_owned();
    fs::write(case.rootfs().join("etc/evil"), "of the image\n")?;
    for target in ["/proc/sys/kernel/core_pattern", "/etc/evil", &host] {
        let _ = fs::remove_file(&null);
        symlink(target, &null)?;
        attack(case, &[], |pid, _| {
            decoy.unchanged("/dev/null is a link")?;
            pid.map_or(Ok(()), keys_are_masked)
        })?;
    }
    let _ = fs::remove_file(&null);
    fs::write(&null, "a regular file\n")?;
    attack(case, &[], |pid, _| pid.map_or(Ok(()), keys_are_masked))?;
    Ok(())
}

fn null_is_swapped(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    without_mounts(case, "/dev");
    case.set("/root/readonly", json!(false)).set("/linux/maskedPaths", json!(["/proc/keys"]));
    let dev = case.rootfs().join("dev");
    symlink("/proc/sys/kernel/core_pattern", dev.join("evil"))?;
    let plain = attack(case, &[], |pid, _| pid.map_or(Ok(()), keys_are_masked))?;
    ensure!(plain, "without a swap it must work");
    for _ in 0..rounds() {
        if fs::symlink_metadata(dev.join("null")).is_err() {
            fs::write(dev.join("null"), "")?;
        }
        let swapper = Swapper::start(dev.join("null"), dev.join("evil"));
        attack(case, &[], |pid, _| {
            drop(swapper);
            decoy.unchanged("/dev/null was swapped")?;
            pid.map_or(Ok(()), keys_are_masked)
        })?;
    }
    Ok(())
}

/// A path to be masked that is a link is masked where it leads in the container, never on the host.
fn masks_behind_links(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let up = "../../../../../../../../..";
    fs::write(case.rootfs().join("etc/inside"), "secret\n")?;
    symlink("/etc/inside", case.rootfs().join("inside"))?;
    symlink(decoy.path.join("secret"), case.rootfs().join("absolute"))?;
    symlink(format!("{up}{}", decoy.path.display()), case.rootfs().join("relative"))?;
    symlink("/proc/1/root", case.rootfs().join("magic"))?;
    let paths = json!(["/inside", "/absolute", "/relative", "/relative/secret"]);
    for paths in [paths.clone(), json!(["/../../../etc/inside"])] {
        case.set("/linux/maskedPaths", paths);
        let made = attack(case, &[], |pid, _| {
            decoy.unchanged("masks behind links")?;
            let Some(pid) = pid else { return Ok(()) };
            let text = fs::read(format!("/proc/{pid}/root/etc/inside"))?;
            ensure!(text.is_empty(), "what lies at /etc/inside is not masked");
            Ok(())
        })?;
        ensure!(made, "a mask behind a link that stays inside must work");
    }
    case.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", paths);
    attack(case, &[], |_, _| decoy.unchanged("read-only paths behind links"))?;
    case.set("/linux/maskedPaths", json!(["/magic/etc/passwd"])).set("/linux/readonlyPaths", json!([]));
    attack(case, &[], |_, _| decoy.unchanged("a mask behind a magic link"))?;
    Ok(())
}

/// A component of a read-only path is exchanged while it is made read-only: it ends read-only, or create fails.
fn swapped_readonly(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let volume = case.rootfs().join("vol");
    fs::create_dir_all(volume.join("a/dir"))?;
    fs::create_dir_all(case.rootfs().join("other/dir"))?;
    symlink("/other", volume.join("b"))?;
    case.set("/root/readonly", json!(false));
    case.mount(json!({"destination": "/other/dir", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}));
    case.set("/linux/readonlyPaths", json!(["/vol/a/dir", "/vol/a/dir", "/vol/a/dir", "/vol/a/dir"]));
    let mut made = 0;
    for propagation in ["rprivate", "rshared"] {
        if rustix::process::geteuid().is_root() {
            case.set("/linux/rootfsPropagation", json!(propagation));
        }
        for _ in 0..rounds() {
            let swapper = Swapper::start(volume.join("a"), volume.join("b"));
            let done = attack(case, &[], |pid, _| {
                drop(swapper);
                decoy.unchanged("a read-only path was swapped")?;
                let Some(pid) = pid else { return Ok(()) };
                // Every copy that was made for a read-only path is read-only; what it was copied from is not its business.
                let open: Vec<_> = kernel::mounts(pid)?
                    .into_iter()
                    .filter(|mount| mount.target.starts_with("/vol/") && !mount.has("ro"))
                    .collect();
                if !open.is_empty() {
                    return escaped(format!("writable after all: {open:?}"));
                }
                let copies = kernel::mounts(pid)?;
                let copies = copies.iter().filter(|mount| mount.has("ro") && mount.target.ends_with("/dir")).count();
                ensure!(copies >= 4, "four paths were to be made read-only");
                Ok(())
            })?;
            made += u32::from(done);
        }
    }
    super::refused_for_the_swap_alone(case, made)?;
    Ok(())
}

/// The same with a file that is to be masked, exchanged for a link to another. The host's files lie on a mount that is
/// shared with the container's namespace: what was mounted on them there would show here.
fn swapped_mask(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let _shared = SharedMount::over(&decoy.path)?;
    case.set("/linux/rootfsPropagation", json!("rshared"));
    let volume = case.rootfs().join("vol");
    fs::create_dir(&volume)?;
    fs::write(volume.join("a"), "secret\n")?;
    symlink(decoy.path.join("secret"), volume.join("b"))?;
    case.set("/root/readonly", json!(false)).set("/linux/maskedPaths", json!(["/vol/a"]));
    for _ in 0..rounds() {
        let swapper = Swapper::start(volume.join("a"), volume.join("b"));
        attack(case, &[], |_, _| {
            drop(swapper);
            decoy.unchanged("a masked path was swapped")
        })?;
        if !volume.join("b").is_symlink() {
            fs::rename(volume.join("a"), volume.join("c"))?;
            fs::rename(volume.join("b"), volume.join("a"))?;
            fs::rename(volume.join("c"), volume.join("b"))?;
        }
    }
    Ok(())
}

/// A directory as a mount of its own whose peers a new mount namespace gets; it ends with the value.
struct SharedMount(std::path::PathBuf);

impl SharedMount {
    fn over(directory: &std::path::Path) -> Result<SharedMount> {
        use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
        mount_bind(directory, directory)?;
        let shared = SharedMount(directory.to_owned());
        mount_change(directory, MountPropagationFlags::SHARED)?;
        Ok(shared)
    }
}

impl Drop for SharedMount {
    fn drop(&mut self) {
        for mount in kernel::mounts(std::process::id() as i32).unwrap_or_default().iter().rev() {
            if std::path::Path::new(&mount.target).starts_with(&self.0) {
                let _ = rustix::mount::unmount(mount.target.as_str(), rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

/// The image has a /proc/self/fd of its own; the root is read-only all the same, also by the older calls.
fn image_with_proc(case: &mut Case, deny: &str) -> Result<()> {
    if !deny.is_empty() {
        case.deny(deny);
    }
    let decoy = Decoy::new(case)?;
    let fds = case.rootfs().join("proc/self/fd");
    fs::create_dir_all(&fds)?;
    fs::create_dir(case.rootfs().join("elsewhere"))?;
    for number in 0..40 {
        symlink("/elsewhere", fds.join(number.to_string()))?;
    }
    let mut made = 0;
    for proc in [true, false] {
        if !proc {
            without_mounts(case, "/proc");
        }
        let done = attack(case, &[], |pid, _| {
            decoy.unchanged("the image has a /proc/self/fd")?;
            let Some(pid) = pid else { return Ok(()) };
            let root = kernel::mount_at(pid, "/")?;
            if !root.has("ro") {
                return escaped(format!("the root is to be read-only and has {:?}", root.options));
            }
            Ok(())
        })?;
        made += u32::from(done);
    }
    if deny.is_empty() && case.peer.is_none() {
        ensure!(made == 2, "only {made} of 2 were made");
    }
    Ok(())
}
