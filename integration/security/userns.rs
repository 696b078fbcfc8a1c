//! What root of a container's user namespace can undo: flags of bind sources, the cgroup file system, owners.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{ATTACKS, Decoy, attacker, capabilities, escaped};
use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let locked = |name, body| test(name, body).requires(Need::Root).requires(Need::Tool("gcc"));
    vec![
        locked("security/userns/flags_of_a_source_are_locked", |case| flags_are_locked(case, Reach::Everyone)),
        locked("security/userns/flags_of_a_private_source_are_locked", |case| flags_are_locked(case, Reach::HostRoot)),
        locked("security/userns/flags_of_an_idmapped_source_are_locked", |case| {
            flags_are_locked(case, Reach::Idmapped)
        }),
        test("security/userns/flags_of_a_source_stay_for_an_ordinary_user", flags_stay)
            .requires(Need::Rootless)
            .requires(Need::Tool("gcc")),
        locked("security/userns/masks_and_readonly_paths_are_locked", masks_are_locked),
        test("security/userns/below_masks_the_host_stays_closed", below_masks).requires(Need::Root),
        test("security/CVE-2023-25809/cgroups_without_a_cgroup_namespace", cgroups_are_readonly),
        test("security/userns/files_of_the_host_stay_the_hosts", host_files),
    ]
}

enum Reach {
    Everyone,
    HostRoot,
    Idmapped,
}

/// The source is a read-only, nosuid, nodev and noexec mount of the host: the container's root gets no more than that,
/// neither by a remount nor by a copy, nor in a user namespace of its own.
fn flags_are_locked(case: &mut Case, reach: Reach) -> Result<()> {
    attacker(case)?;
    let private = case.dir.join("private");
    let source = private.join("source");
    fs::create_dir_all(&source)?;
    fs::set_permissions(&source, PermissionsExt::from_mode(0o777))?;
    let mode = if matches!(reach, Reach::HostRoot) { 0o700 } else { 0o755 };
    fs::set_permissions(&private, PermissionsExt::from_mode(mode))?;
    // In the mount namespace that the runtime is started in: it ends with the command.
    let path = source.display();
    let inner = format!("mount --bind {path} {path} && mount -o remount,bind,ro,nosuid,nodev,noexec {path}");
    let wrapper = case.dir.join("wrapper");
    let script = format!(
        "#!/bin/sh\n[ -n \"$INNER\" ] || INNER=1 exec unshare --mount --propagation private \"$0\" \"$@\"\n{inner} || exit 99\n\
         exec {} \"$@\"\n",
        case.runtime.display()
    );
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755))?;
    case.runtime = wrapper;
    case.user_namespace()?;
    capabilities(&mut case.config, &["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_MKNOD", "CAP_CHOWN"]);
    let mut mount = json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "rw", "suid", "dev", "exec"]});
    if matches!(reach, Reach::Idmapped) {
        mount["uidMappings"] = case.config["linux"]["uidMappings"].clone();
        mount["gidMappings"] = case.config["linux"]["gidMappings"].clone();
        mount["options"] = json!(["bind", "idmap"]);
    }
    case.mount(mount);
    case.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let output = case.args(["attacker", "remount", "/mnt"]).run()?;
    if source.join("written").exists() {
        return escaped(format!("the host's read-only directory was written: {:?}", output.stdout));
    }
    if output.status != 0 {
        // What cannot be locked may be refused.
        return output.refused().map(drop);
    }
    // A remount that asks for no more than what is there already succeeds, and lifts nothing.
    if output.stdout.contains("lifted") || output.stdout.contains("wrote") {
        return escaped(format!("flags of the source were lifted: {:?}", output.stdout));
    }
    ensure!(output.stdout.contains("done"), "the attacker did not get to its end: {:?}", output.stdout);
    let init = case.args(["sleep", "60"]).up()?;
    let there = kernel::mount_at(init.pid, "/mnt")?;
    for flag in ["ro", "nosuid", "nodev", "noexec"] {
        if !there.has(flag) {
            return escaped(format!("the source is {flag}, its bind is {:?}", there.options));
        }
    }
    case.delete()
}

/// An ordinary user's root binds mounts of the host's that have such flags, and asks for none of them.
fn flags_stay(case: &mut Case) -> Result<()> {
    attacker(case)?;
    capabilities(&mut case.config, &["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_MKNOD", "CAP_CHOWN"]);
    case.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    let good = case.config.clone();
    let flags = ["ro", "nosuid", "nodev", "noexec"];
    let mut tried = 0;
    let mounts = kernel::mounts(std::process::id() as i32)?;
    for (number, mount) in mounts.iter().enumerate() {
        let [device, directory] = [&mount.fstype, &mount.target].map(String::as_str);
        let has: Vec<_> = flags.into_iter().filter(|flag| mount.has(flag)).collect();
        // A plain file system, whose top this user can look into.
        if has.is_empty() || !["tmpfs", "ext4", "xfs", "btrfs", "overlay", "sysfs"].contains(&device) || tried == 3 {
            continue;
        }
        let hidden = mounts[number + 1..].iter().any(|later| directory.starts_with(&later.target));
        // Nor one that he may write to: that would be no host's any more.
        let own = rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).is_ok();
        if hidden || own || fs::read_dir(directory).is_err() {
            continue;
        }
        case.config = good.clone();
        case.mount(json!({"destination": "/mnt", "type": "bind", "source": directory, "options": ["rbind", "rw", "suid", "dev", "exec"]}));
        ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let output = case.args(["attacker", "remount", "/mnt"]).run()?.ok()?;
        if output.stdout.contains("lifted") || (mount.has("ro") && output.stdout.contains("wrote")) {
            return escaped(format!("flags of {directory} ({has:?}) were lifted: {:?}", output.stdout));
        }
        ensure!(output.stdout.contains("done"), "the attacker did not get to its end: {:?}", output.stdout);
        let script = "grep -E ' /mnt ' /proc/self/mountinfo | cut -d' ' -f6";
        let options = case.script(script).run()?.ok()?.stdout;
        for flag in has {
            if !options.trim().split(',').any(|option| option == flag) {
                return escaped(format!("{directory} is {flag}, its bind is {options:?}"));
            }
        }
        tried += 1;
    }
    ensure!(tried > 0, "no mount of the host has such a flag: nothing was tried");
    Ok(())
}

/// In a further user namespace of the container's nothing that hull laid over a path can be taken away.
fn masks_are_locked(case: &mut Case) -> Result<()> {
    attacker(case)?;
    for name in ["masked", "fixed"] {
        fs::create_dir(case.rootfs().join(name))?;
        fs::set_permissions(case.rootfs().join(name), PermissionsExt::from_mode(0o777))?;
    }
    case.user_namespace()?.set("/root/readonly", json!(false));
    case.set("/linux/maskedPaths", json!(["/masked"])).set("/linux/readonlyPaths", json!(["/fixed"]));
    case.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    // Without CAP_SYS_ADMIN; `below_masks` is the other side.
    for name in ["masked", "fixed"] {
        ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let output = case.args(["attacker", "remount", &format!("/{name}")]).run()?.ok()?;
        ensure!(output.stdout.contains("done"), "the attacker did not get to its end: {:?}", output.stdout);
        if case.rootfs().join(name).join("written").exists() || output.stdout.contains("lifted") {
            return escaped(format!("/{name} was opened: {:?}", output.stdout));
        }
    }
    Ok(())
}

/// With CAP_SYS_ADMIN the program takes masks and read-only paths off in its own mount namespace, and not in one of a further
/// user namespace, whose mounts are a copy. What comes to light of the host is closed to it all the same.
fn below_masks(case: &mut Case) -> Result<()> {
    for name in ["masked", "fixed"] {
        fs::create_dir(case.rootfs().join(name))?;
        fs::write(case.rootfs().join(name).join("file"), "of the image\n")?;
        std::os::unix::fs::chown(case.rootfs().join(name), Some(100_000), Some(100_000))?;
    }
    case.user_namespace()?.set("/root/readonly", json!(false));
    capabilities(&mut case.config, &["CAP_SYS_ADMIN", "CAP_SYS_RAWIO", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"]);
    case.set("/linux/maskedPaths", json!(["/masked", "/proc/kcore"]));
    case.set("/linux/readonlyPaths", json!(["/fixed", "/proc/sys"]));
    // What is written is what is there: nothing happens to a host that lets it through.
    case.script(
        "for path in /masked /fixed /proc/sys; do unshare -U -r -m umount $path 2>/dev/null && echo off $path; done; \
         ls /masked; touch /fixed/new 2>/dev/null || echo fixed; \
         umount /masked && cat /masked/file; umount /fixed && touch /fixed/new && echo written; \
         umount /proc/kcore 2>/dev/null; umount /proc/sys && echo bare; head -c 1 /proc/kcore >/dev/null 2>&1 && echo kcore; \
         value=$(cat /proc/sys/kernel/core_pattern); echo \"$value\" 2>/dev/null >/proc/sys/kernel/core_pattern && echo pattern; \
         echo end",
    );
    ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let output = case.run()?.ok()?;
    for (line, what) in
        [("kcore", "the host's memory is read"), ("pattern", "a kernel parameter of the host is written")]
    {
        if output.stdout.lines().any(|printed| printed == line) {
            return escaped(format!("below a mask {what}: {:?}", output.stdout));
        }
    }
    output.stdout_is("fixed\nof the image\nwritten\nbare\nend\n").map(drop)
}

/// The host's cgroup namespace with /sys bound: the cgroup tree of the host cannot be written.
fn cgroups_are_readonly(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    case.without_namespace("cgroup");
    if rustix::process::geteuid().is_root() {
        case.user_namespace()?;
    }
    case.edit(|config| {
        let list = config["mounts"].as_array_mut().expect("a list");
        list.retain(|mount| !mount["destination"].as_str().is_some_and(|path| path.starts_with("/sys")));
        list.push(json!({"destination": "/sys", "type": "none", "source": "/sys",
                         "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}));
        if rustix::process::geteuid().is_root() {
            list.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                             "options": ["ro", "nosuid", "noexec", "nodev"]}));
        }
    });
    case.without_namespace("network");
    case.script(
        "grep -E ' /sys.* - cgroup' /proc/self/mountinfo | grep -v -E '/sys[^ ]* ro,'; \
         for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/hull-evil 2>/dev/null && rmdir $d/hull-evil && echo $d; done; \
         grep -q ' - cgroup' /proc/self/mountinfo && echo end",
    );
    ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let output = case.run()?.ok()?;
    decoy.unchanged("cgroups")?;
    if output.stdout != "end\n" {
        return escaped(format!("cgroups of the host are writable: {:?}", output.stdout));
    }
    Ok(())
}

/// A file of the host's root that is bound into a container with mapped ids keeps its owner and stays closed.
fn host_files(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let secret = decoy.path.join("secret");
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600))?;
    let decoy = Decoy { before: Decoy::look(&decoy.path)?, path: decoy.path };
    if rustix::process::geteuid().is_root() {
        case.user_namespace()?;
        fs::write(case.rootfs().join("mnt/file"), "")?;
        case.mount(json!({"destination": "/mnt/file", "type": "bind", "source": secret, "options": ["bind", "rw"]}));
        case.script("cat /mnt/file; chown 0:0 /mnt/file; chmod 777 /mnt/file; echo x >/mnt/file; echo end");
        ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let output = case.run()?.ok()?;
        if output.stdout != "end\n" {
            return escaped(format!("a file of the host's root was read: {:?}", output.stdout));
        }
    }
    decoy.unchanged("a bound file of the host's root")
}
