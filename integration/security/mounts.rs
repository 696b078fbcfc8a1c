//! Destinations of mounts that an image made to lead out of the rootfs, or that are swapped meanwhile.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Decoy, Swapper, attack, escaped, rounds, without_mounts};
use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("security/CVE-2019-18837/a_destination_that_is_a_link", links_as_destinations),
        test("security/CVE-2019-18837/a_destination_that_is_a_link/userns", |case| {
            links_as_destinations(case.user_namespace()?)
        })
        .requires(Need::Root),
        test("security/CVE-2019-19921/proc_or_sys_is_a_link", proc_or_sys_is_a_link),
        test("security/CVE-2019-19921/proc_or_sys_is_a_link/userns", |case| {
            proc_or_sys_is_a_link(case.user_namespace()?)
        })
        .requires(Need::Root),
        test("security/CVE-2021-30465/a_destination_that_is_swapped", swapped_destination),
        test("security/CVE-2021-30465/a_destination_that_is_swapped/userns", |case| {
            swapped_destination(case.user_namespace()?)
        })
        .requires(Need::Root),
        test("security/CVE-2024-45310/directories_that_are_made_while_swapped", swapped_mkdir),
        test("security/CVE-2024-45310/directories_that_are_made_while_swapped/userns", |case| {
            swapped_mkdir(case.user_namespace()?)
        })
        .requires(Need::Root),
        test("security/CVE-2024-45310/files_that_are_made_while_swapped", swapped_mkfile),
        test("security/CVE-2024-45310/files_that_are_made_while_swapped/userns", |case| {
            swapped_mkfile(case.user_namespace()?)
        })
        .requires(Need::Root),
        test("security/CVE-2025-24965/files_of_the_rootfs_that_are_links", linked_files),
        test("security/CVE-2021-43784/lengths_beyond_64_KiB", lengths),
        test("security/runc-1.5.3/no_mount_namespace_leaves_propagation", no_mount_namespace).requires(Need::Root),
        test("security/mounts_stay_in_the_container", mounts_stay).requires(Need::Root),
        test("security/mounts_stay_in_the_container/userns", |case| mounts_stay(case.user_namespace()?))
            .requires(Need::Root),
        test("security/a_working_directory_behind_links", linked_cwd),
        test("security/a_working_directory_behind_links/userns", |case| linked_cwd(case.user_namespace()?))
            .requires(Need::Root),
        test("security/a_cgroups_path_stays_in_the_hierarchy", cgroups_path).requires(Need::Root),
    ]
}

fn links_as_destinations(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let source = case.dir.join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "bound\n")?;
    case.set("/root/readonly", json!(false));
    let good = case.config.clone();
    let up = "../../../../../../../../..";
    let links = [
        ("absolute", decoy.path.to_string_lossy().into_owned()),
        ("relative", format!("{up}{}", decoy.path.display())),
        ("file", decoy.path.join("secret").to_string_lossy().into_owned()),
        ("dangling", decoy.path.join("new").to_string_lossy().into_owned()),
        ("magic", format!("{up}/proc/self/root{}", decoy.path.display())),
        ("self", "self".to_owned()),
    ];
    for (name, target) in &links {
        symlink(target, case.rootfs().join(name))?;
        for (destination, kind, from) in [
            (format!("/{name}"), "bind", source.clone()),
            (format!("/{name}/new"), "bind", source.clone()),
            (format!("/{name}"), "bind", source.join("file")),
            (format!("/{name}/secret"), "bind", source.join("file")),
            (format!("/{name}/deep/new"), "tmpfs", "tmpfs".into()),
            (format!("/{name}"), "tmpfs", "tmpfs".into()),
        ] {
            case.config = good.clone();
            let options = if kind == "bind" { json!(["bind"]) } else { json!([]) };
            case.mount(json!({"destination": destination, "type": kind, "source": from, "options": options}));
            let what = format!("{kind} on {destination} -> {target}");
            attack(case, &[], |_, _| decoy.unchanged(&what))?;
            decoy.unchanged(&format!("{what}, after delete"))?;
        }
    }
    Ok(())
}

/// Also CVE-2023-27561, CVE-2023-28642 and CVE-2025-54867.
fn proc_or_sys_is_a_link(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    fs::create_dir_all(case.rootfs().join("fake/self/attr"))?;
    let absolute = decoy.path.to_string_lossy().into_owned();
    let good = case.config.clone();
    for name in ["proc", "sys"] {
        let path = case.rootfs().join(name);
        for target in ["/fake", "fake", "../fake", "/nosuch", &absolute, "/dev/shm", "/", "."] {
            let _ = fs::remove_dir(&path);
            let _ = fs::remove_file(&path);
            symlink(target, &path)?;
            case.config = good.clone();
            let made = attack(case, &[], |_, _| decoy.unchanged(&format!("/{name} -> {target}")))?;
            if made {
                return escaped(format!("/{name} -> {target} of the image was taken for the mount of /{name}"));
            }
        }
        fs::remove_file(&path)?;
        fs::create_dir(&path)?;
    }
    Ok(())
}

/// The volume's directory is a link to the host's `/` and to a decoy every other moment, while binds go into it.
fn swapped_destination(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let source = case.dir.join("volume");
    fs::create_dir(&source)?;
    let volume = case.rootfs().join("vol");
    fs::create_dir_all(volume.join("a/x"))?;
    case.set("/root/readonly", json!(false));
    for _ in 0..8 {
        case.mount(json!({"destination": "/vol/a/x", "type": "bind", "source": source, "options": ["bind"]}));
    }
    let decoy_x = decoy.path.join("x");
    fs::create_dir(&decoy_x)?;
    let decoy = Decoy { before: Decoy::look(&decoy.path)?, path: decoy.path };
    let mut made = 0;
    for (target, count) in [("/".into(), rounds()), (decoy.path.clone(), rounds())] {
        symlink(&target, volume.join("b"))?;
        for _ in 0..count {
            let swapper = Swapper::start(volume.join("a"), volume.join("b"));
            let asked = 8;
            let done = attack(case, &[], |pid, _| {
                drop(swapper);
                decoy.unchanged("while a destination was swapped")?;
                let Some(pid) = pid else { return Ok(()) };
                // Each of them lies in the container; none was left behind on the host's side of the pivot.
                let suffix = "/volume";
                let found = kernel::mounts(pid)?.iter().filter(|mount| mount.root.ends_with(suffix)).count();
                ensure!(found == asked, "of {asked} binds the container has {found}");
                Ok(())
            })?;
            made += u32::from(done);
        }
        // Whatever name it has now, the link goes and the directory stays.
        for name in ["a", "b"] {
            if volume.join(name).is_symlink() {
                fs::remove_file(volume.join(name))?;
            }
        }
        if !volume.join("a").exists() {
            fs::rename(volume.join("b"), volume.join("a"))?;
        }
        // The link's own target in the rootfs may have been given directories.
        let _ = fs::remove_dir(case.rootfs().join("x"));
    }
    super::refused_for_the_swap_alone(case, made)?;
    Ok(())
}

/// Directories that lead to a destination are made while one of them is swapped for a link to the host.
fn swapped_mkdir(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    swapped_making(case, &decoy, json!({"type": "tmpfs", "source": "tmpfs"}))
}

fn swapped_mkfile(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let source = case.dir.join("file");
    fs::write(&source, "bound\n")?;
    swapped_making(case, &decoy, json!({"type": "bind", "source": source, "options": ["bind"]}))
}

fn swapped_making(case: &mut Case, decoy: &Decoy, mount: serde_json::Value) -> Result<()> {
    case.set("/root/readonly", json!(false));
    let volume = case.rootfs().join("vol");
    fs::create_dir_all(volume.join("a"))?;
    symlink(&decoy.path, volume.join("b"))?;
    let good = case.config.clone();
    for round in 0..rounds() {
        case.config = good.clone();
        for number in 0..6 {
            let mut mount = mount.clone();
            mount["destination"] = json!(format!("/vol/a/{round}/{number}/deep/er"));
            case.mount(mount);
        }
        let swapper = Swapper::start(volume.join("a"), volume.join("b"));
        attack(case, &[], |_, _| {
            drop(swapper);
            decoy.unchanged("while directories were made in a volume that is swapped")
        })?;
        decoy.unchanged("after delete")?;
    }
    Ok(())
}

/// hull writes no file into a rootfs; whatever an engine or another runtime would put there leads to the host.
fn linked_files(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let names = [
        ".krun_config.json",
        ".containerenv",
        ".dockerenv",
        "etc/hostname",
        "etc/hosts",
        "etc/resolv.conf",
        "etc/mtab",
        "run/.containerenv",
        "run/notify",
        "etc/group",
        "pid",
        "init.pid",
    ];
    for name in names {
        let path = case.rootfs().join(name);
        let _ = fs::remove_file(&path);
        symlink(decoy.path.join(path.file_name().expect("a name")), &path)?;
    }
    case.set("/root/readonly", json!(false)).set("/annotations", json!({"run.oci.handler": "krun"}));
    attack(case, &[], |_, _| decoy.unchanged("links at names that runtimes write to"))?;
    case.edit(|config| {
        config.as_object_mut().expect("an object").remove("annotations");
    });
    case.args(["true"]).run()?;
    decoy.unchanged("links at names that runtimes write to, run")
}

fn lengths(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let long = |length: usize| "x".repeat(length);
    let good = case.config.clone();
    // Right where the kernel takes it: one variable may have 128 KiB.
    for length in [65_535, 65_536, 65_537, 131_000] {
        case.config = good.clone();
        let environment = format!("LONG={}", long(length));
        case.edit(|config| config["process"]["env"].as_array_mut().expect("a list").push(json!(environment)));
        case.script("echo ${#LONG}").prints(&format!("{length}\n"))?;
    }
    let many: Vec<_> = (0..2000).map(|n| json!({"containerID": n, "hostID": 100_000 + n, "size": 1})).collect();
    let tries = [
        ("/process/cwd", json!(format!("/{}", long(70_000)))),
        ("/process/cwd", json!(format!("/{}", "x/".repeat(35_000)))),
        ("/hostname", json!(long(70_000))),
        ("/process/args", json!([long(140_000)])),
        ("/linux/maskedPaths", json!([format!("/{}", "x/".repeat(35_000))])),
        ("/linux/cgroupsPath", json!(format!("/{}", long(70_000)))),
        ("/linux/uidMappings", json!(many)),
    ];
    for (pointer, value) in tries {
        case.config = good.clone();
        if pointer == "/linux/uidMappings" {
            if !rustix::process::geteuid().is_root() {
                continue;
            }
            case.user_namespace()?;
        }
        case.set(pointer, value);
        attack(case, &[], |_, _| decoy.unchanged(pointer))?;
    }
    case.config = good.clone();
    let source = format!("/{}", "x/".repeat(35_000));
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind"]}));
    let made = attack(case, &[], |_, _| decoy.unchanged("a source of 70,000 bytes"))?;
    ensure!(!made, "a source longer than a path can be was taken");
    case.config = good;
    case.script("echo fine").prints("fine\n")
}

/// Where all mounts of the host are shared, as systemd makes them: none may be another one afterwards.
fn no_mount_namespace(case: &mut Case) -> Result<()> {
    without_mounts(case, "/");
    case.without_namespace("mount");
    case.set("/root/readonly", json!(false));
    case.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    hosts_mounts_stay(case, &[None, Some("private"), Some("slave"), Some("rprivate"), Some("shared")])
}

/// The same host, and a container with a mount namespace: whatever it mounts, it mounts in there. With `shared` the
/// config asks for more, but not for mounts on the host's side of the root file system.
fn mounts_stay(case: &mut Case) -> Result<()> {
    case.set("/root/readonly", json!(false));
    hosts_mounts_stay(case, &[None, Some("private"), Some("rslave"), Some("rshared")])
}

fn hosts_mounts_stay(case: &mut Case, propagations: &[Option<&str>]) -> Result<()> {
    let wrapper = case.dir.join("wrapper");
    let runtime = case.runtime.display();
    let script = format!(
        "#!/bin/sh\n[ -n \"$INNER\" ] || INNER=1 exec unshare --mount --propagation shared \"$0\" \"$@\"\n\
         cat /proc/self/mountinfo >before; {runtime} \"$@\"; status=$?; cat /proc/self/mountinfo >after; exit $status\n"
    );
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    case.runtime = wrapper;
    let mut made = 0;
    for propagation in propagations {
        if let Some(propagation) = propagation {
            case.set("/linux/rootfsPropagation", json!(propagation));
        }
        super::ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let output = case.args(["true"]).run()?;
        let [before, after] = ["before", "after"].map(|name| kernel::read(case.dir.join(name)).unwrap_or_default());
        ensure!(before.contains("shared:"), "no mount was shared to begin with");
        if before != after {
            let differs: Vec<_> = after.lines().filter(|line| !before.contains(line)).collect();
            return escaped(format!("{propagation:?}: the host's mounts changed: {differs:?}"));
        }
        made += u32::from(output.status == 0);
    }
    ensure!(made > 0, "every one was refused: nothing was tried");
    Ok(())
}

/// A path of cgroups that climbs out of the hierarchy makes no directory elsewhere, and removes none.
fn cgroups_path(case: &mut Case) -> Result<()> {
    let result = try_cgroups_paths(case);
    // Clamped, these paths are cgroups within cgroups, and only the last one is the container's to remove.
    let below = format!("*{}*", case.dir.display());
    std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-depth", "-type", "d", "-path", &below, "-exec", "rmdir", "-p", "{}", ";"])
        .output()?;
    result
}

fn try_cgroups_paths(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    let up = "../../../../../../../../../..";
    let [made, there] = ["new/group", "below"].map(|name| format!("{up}{}/{name}", decoy.path.display()));
    for path in [made.clone(), there.clone(), format!("/{made}"), format!("/x/{there}"), format!("/{up}")] {
        case.set("/linux/cgroupsPath", json!(path));
        attack(case, &[], |_, _| decoy.unchanged(&format!("cgroupsPath {path}")))?;
        decoy.unchanged(&format!("cgroupsPath {path}, after delete"))?;
    }
    Ok(())
}

/// The working directory is the image's choice: links in it stay inside, and what is made is made inside.
fn linked_cwd(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    symlink(&decoy.path, case.rootfs().join("out"))?;
    case.set("/root/readonly", json!(false));
    for cwd in ["/out", "/out/new/dir", "/proc/1/root/../../tmp", "/proc/self/root/tmp/new"] {
        case.set("/process/cwd", json!(cwd));
        attack(case, &[], |_, _| decoy.unchanged(cwd))?;
    }
    Ok(())
}
