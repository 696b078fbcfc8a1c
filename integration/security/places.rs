//! Whose place it is: a link of the image leads a mount, a device, a mask or the terminal to what belongs to the host or
//! shows on it. The judges are decoy files with nodes among them, and the host's table of mounts.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use rustix::fs::{CWD, FileType, Gid, Mode, Uid, makedev, mknodat};
use serde_json::{Value, json};

use super::{ATTACKS, Decoy, attack, capabilities, escaped, without_mounts};
use crate::harness::{Case, Need, Output, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let root = |name, body| test(name, body).requires(Need::Root);
    vec![
        root("security/places/a_link_leads_a_mount_to_dev", link_to_dev),
        root("security/places/a_link_leads_a_mount_to_dev/userns", |case| link_to_dev(case.user_namespace()?)),
        root("security/places/a_dev_that_the_host_mounted", foreign_dev),
        root("security/places/a_dev_that_the_host_mounted/userns", |case| foreign_dev(case.user_namespace()?)),
        root("security/places/nodes_that_were_there_stay", nodes_stay),
        root("security/places/a_link_leads_a_device_to_a_volume", device_behind_a_link),
        root("security/places/a_link_leads_to_a_shared_volume", shared_volume),
        root("security/places/a_mask_is_no_peer_of_the_hosts", mask_is_no_peer),
        root("security/places/a_mask_leaves_the_hosts_null", mask_leaves_null),
        root("security/places/stdio_of_exec_leaves_the_hosts_null", stdio_leaves_null)
            .requires(Need::Verb("exec"))
            .requires(Need::Call("fsopen")),
        root("security/places/an_idmapped_bind_is_no_peer", idmapped_is_no_peer)
            .requires(Need::Call("mount_setattr"))
            .requires(Need::Call("open_tree")),
        root("security/places/a_terminal_on_a_shared_dev", terminal_on_a_shared_dev),
        root("security/places/no_mount_namespace_and_a_bind", no_mount_namespace)
            .requires(Need::Call("open_tree"))
            .requires(Need::Call("mount_setattr"))
            .requires(Need::Call("fsopen")),
        root("security/places/nothing_is_made_in_a_volume_behind_a_link", made_behind_links),
        root("security/places/nothing_is_made_in_a_volume_behind_a_link/userns", |case| {
            made_behind_links(case.user_namespace()?)
        }),
        root("security/places/a_remount_through_a_link", remount_through_a_link),
        root("security/places/a_remount_through_a_link_allows_nothing", remount_allows),
    ]
}

/// A directory of the host's with nodes that are not as a container's are, and a file that is named as a link in /dev.
fn host_dev(case: &Case) -> Result<Decoy> {
    let Decoy { path, .. } = Decoy::new(case)?;
    fs::remove_file(path.join("null"))?;
    nodes_at(&path)?;
    let before = Decoy::look(&path)?;
    Ok(Decoy { path, before })
}

fn nodes_at(path: &Path) -> Result<()> {
    for (name, major, minor, mode, gid) in
        [("null", 1, 3, 0o600, 7), ("tty", 5, 0, 0o620, 5), ("extra", 1, 5, 0o660, 8)]
    {
        let node = path.join(name);
        mknodat(CWD, &node, FileType::CharacterDevice, Mode::from_raw_mode(mode), makedev(major, minor))?;
        fs::set_permissions(&node, PermissionsExt::from_mode(mode))?;
        rustix::fs::chown(&node, Some(Uid::ROOT), Some(Gid::from_raw(gid)))?;
    }
    for name in ["ptmx", "console"] {
        fs::write(path.join(name), "of the host\n")?;
    }
    fs::create_dir(path.join("shm"))?;
    Ok(())
}

/// Devices of the config: one that the host's directory has, one that it lacks.
fn devices(case: &mut Case) {
    case.set(
        "/linux/devices",
        json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666},
               {"path": "/dev/pipe", "type": "p", "fileMode": 0o666},
               {"path": "/dev/shm/pipe", "type": "p", "fileMode": 0o666}]),
    );
}

fn link_to_dev(case: &mut Case) -> Result<()> {
    let decoy = host_dev(case)?;
    case.set("/root/readonly", json!(false));
    if !case.config["linux"]["namespaces"].to_string().contains("user") {
        devices(case);
    }
    fs::create_dir(case.rootfs().join("host"))?;
    let links = [
        ("host/dev", "/dev", "/host/dev"),
        ("data", "/dev", "/data"),
        ("relative", "dev", "/relative"),
        ("up", "../../../dev", "/tmp/../up"),
        ("chain", "data", "/chain"),
        ("longer", "host/dev", "/longer"),
        ("below", "/dev/shm", "/below"),
        ("missing", "/dev/new", "/missing"),
        ("deep", "/dev", "/deep/er/new"),
        ("pts", "/dev/pts", "/pts"),
        ("devices", "/sys/devices", "/devices"),
        ("kernel", "/proc", "/kernel"),
    ];
    for (name, target, _) in links {
        symlink(target, case.rootfs().join(name))?;
    }
    let good = case.config.clone();
    for with_mounts in [true, false] {
        for first in [true, false] {
            for (_, target, destination) in links {
                if !with_mounts && (target.starts_with("/sys") || target.starts_with("/proc")) {
                    continue;
                }
                case.config = good.clone();
                if !with_mounts {
                    without_mounts(case, "/dev");
                }
                let bind = json!({"destination": destination, "type": "bind", "source": decoy.path, "options": ["rbind", "rw"]});
                let list = case.config["mounts"].as_array_mut().expect("a list");
                if first {
                    list.insert(0, bind)
                } else {
                    list.push(bind)
                }
                let what = format!("bind on {destination}, which leads to {target}");
                let made = attack(case, &[], |_, output| {
                    decoy.unchanged(&what)?;
                    if output.status == 0 { Ok(()) } else { said_where(output, &what) }
                })?;
                decoy.unchanged(&format!("{what}, after delete"))?;
                // Before anything lies on them, /proc and /sys are directories of the image like others.
                ensure!(!made || first && ["/proc", "/sys/devices"].contains(&target), "{what} was taken");
            }
        }
    }
    // A link to anywhere else is nobody's harm.
    case.config = good;
    symlink("/run", case.rootfs().join("var/run"))?;
    case.mount(json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs"}));
    case.mount(json!({"destination": "/var/run/x", "type": "bind", "source": decoy.path, "options": ["bind"]}));
    case.script("cat /run/x/secret; stat -c %a /dev/null").prints("of the host\n666\n")?;
    decoy.unchanged("/var/run -> /run")
}

fn said_where(output: &Output, what: &str) -> Result<()> {
    let said = ["a link of the root file system leads", "No such file", "Not a directory", "not a directory"];
    ensure!(said.iter().any(|text| output.stderr.contains(text)), "{what}: {:?}", output.stderr);
    Ok(())
}

/// /dev of the root file system is a mount of the host's already, when the runtime comes.
fn foreign_dev(case: &mut Case) -> Result<()> {
    let decoy = host_dev(case)?;
    case.set("/root/readonly", json!(false));
    without_mounts(case, "/dev");
    if !case.config["linux"]["namespaces"].to_string().contains("user") {
        devices(case);
    }
    wrapped(
        case,
        "private",
        &format!("mount --bind {} {}", decoy.path.display(), case.rootfs().join("dev").display()),
    )?;
    ATTACKS.fetch_add(1, Ordering::Relaxed);
    let output = case.args(["cat", "/dev/secret"]).run()?;
    decoy.unchanged("/dev of the root file system is the host's")?;
    output.ok()?.stdout_is("of the host\n").map(drop)
}

/// The image has nodes and a file `ptmx` of its own, and there is no mount at /dev: they are not hull's either.
fn nodes_stay(case: &mut Case) -> Result<()> {
    let dev = case.rootfs().join("dev");
    nodes_at(&dev)?;
    let before = Decoy::look(&dev)?;
    case.set("/root/readonly", json!(false));
    without_mounts(case, "/dev");
    case.set("/linux/devices", json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 5, "fileMode": 0o604}]));
    ATTACKS.fetch_add(1, Ordering::Relaxed);
    case.script("stat -c %a /dev/null /dev/zero; cat /dev/ptmx").prints("600\n666\nof the host\n")?;
    let now = Decoy::look(&dev)?;
    for (path, looks) in before.iter().filter(|(path, _)| **path != dev) {
        ensure!(now.get(path) == Some(looks), "{} was {looks}, and is {:?}", path.display(), now.get(path));
    }
    // One that is another node is nobody's to replace.
    case.set("/linux/devices", json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 7}]));
    case.run()?.refused()?.stderr_has("a character device 1:5 is there already").map(drop)
}

fn device_behind_a_link(case: &mut Case) -> Result<()> {
    let decoy = host_dev(case)?;
    case.set("/root/readonly", json!(false));
    fs::create_dir(case.rootfs().join("vol"))?;
    let links = [("direct", "/vol"), ("relative", "vol/below"), ("chain", "direct"), ("missing", "/vol/new")];
    for (name, target) in links {
        symlink(target, case.rootfs().join(name))?;
    }
    case.mount(json!({"destination": "/vol", "type": "bind", "source": decoy.path, "options": ["bind", "rw"]}));
    for (name, _) in links {
        case.set(
            "/linux/devices",
            json!([{"path": format!("/{name}/extra"), "type": "c", "major": 1, "minor": 5, "fileMode": 0o606}]),
        );
        attack(case, &[], |_, _| nodes_unchanged(&decoy, name))?;
    }
    // What config.json names is made there, and what was there is as it was.
    case.set(
        "/linux/devices",
        json!([{"path": "/vol/extra", "type": "c", "major": 1, "minor": 5, "fileMode": 0o606},
               {"path": "/vol/asked", "type": "c", "major": 1, "minor": 5, "fileMode": 0o604, "uid": 3}]),
    );
    case.script("stat -c '%a %u:%g' /vol/extra /vol/asked").prints("660 0:8\n604 3:0\n")
}

/// Directories may be made on the way to a place that is then refused; nodes may not.
fn nodes_unchanged(decoy: &Decoy, what: &str) -> Result<()> {
    let mut now = Decoy::look(&decoy.path)?;
    let _ = now.remove(&decoy.path.join("new"));
    if now != decoy.before {
        return decoy.unchanged(what);
    }
    Ok(())
}

/// The runtime is started in a mount namespace of its own, after `inner`; `before` and `after` have its mounts. They may
/// differ by the last one of them.
fn wrapped(case: &mut Case, propagation: &str, inner: &str) -> Result<()> {
    let wrapper = case.dir.join("wrapper");
    let (runtime, dir) = (case.runtime.display(), case.dir.display());
    let script = format!(
        "#!/bin/sh\n[ -n \"$INNER\" ] || INNER=1 exec unshare --mount --propagation {propagation} \"$0\" \"$@\"\n\
         {{ {inner}; }} || exit 99\ncat /proc/self/mountinfo >{dir}/before\n{runtime} \"$@\"; status=$?\n\
         cat /proc/self/mountinfo >{dir}/after; exit $status\n"
    );
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755))?;
    case.runtime = wrapper;
    Ok(())
}

/// Runs it, and looks at the mounts of the namespace that the runtime was started in.
fn host_stays(case: &Case, what: &str) -> Result<Output> {
    ATTACKS.fetch_add(1, Ordering::Relaxed);
    let output = case.run()?;
    let [before, after] = ["before", "after"].map(|name| kernel::read(case.dir.join(name)).unwrap_or_default());
    ensure!(before.contains("shared:"), "no mount was shared to begin with: {:?}", output.stderr);
    if before != after {
        let differs: Vec<_> = after.lines().filter(|line| !before.contains(line)).collect();
        return escaped(format!("{what}: the host's mounts changed: {differs:?}"));
    }
    Ok(output)
}

/// A volume that is a mount of its own on the host, and shared there.
fn volume(case: &mut Case) -> Result<(PathBuf, String)> {
    let path = case.dir.join("volume");
    fs::create_dir_all(path.join("important/below"))?;
    fs::write(path.join("important/file"), "of the host\n")?;
    let make = format!("mount --bind {0} {0}", path.display());
    Ok((path, make))
}

fn rshared(source: &Path, destination: &str) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rw", "rshared"]})
}

fn shared_volume(case: &mut Case) -> Result<()> {
    let (source, make) = volume(case)?;
    wrapped(case, "shared", &make)?;
    case.set("/root/readonly", json!(false)).set("/linux/rootfsPropagation", json!("rshared"));
    for (name, target) in [
        ("cache", "/vol/important"),
        ("relative", "vol/important"),
        ("chain", "cache"),
        ("over", "/vol"),
        ("file", "/vol/important/file"),
        ("var/run", "/run"),
    ] {
        symlink(target, case.rootfs().join(name))?;
    }
    symlink("important", source.join("inner"))?;
    let good = case.config.clone();
    let tmpfs = |at: &str| json!({"destination": at, "type": "tmpfs", "source": "tmpfs"});
    let bind = |at: &str, from: &str| json!({"destination": at, "type": "bind", "source": from, "options": ["bind"]});
    let file = source.join("important/file").to_string_lossy().into_owned();
    let etc = case.rootfs().join("etc").to_string_lossy().into_owned();
    for mount in [
        tmpfs("/cache"),
        tmpfs("/relative"),
        tmpfs("/chain"),
        tmpfs("/over/important"),
        tmpfs("/cache/below"),
        tmpfs("/cache/new/er"),
        tmpfs("/over/x/../important"),
        bind("/cache", &etc),
        bind("/file", &file),
        bind("/cache/new-file", &file),
        tmpfs("/vol/inner"),
        bind("/vol/inner/file", &file),
    ] {
        case.config = good.clone();
        case.mount(rshared(&source, "/vol")).mount(mount.clone());
        host_stays(case, &mount.to_string())?;
    }
    for list in ["maskedPaths", "readonlyPaths"] {
        for path in ["/cache", "/cache/file", "/chain/below", "/over/important", "/file", "/relative"] {
            case.config = good.clone();
            case.mount(rshared(&source, "/vol"));
            case.set(&format!("/linux/{list}"), json!([path]));
            host_stays(case, &format!("{list} {path}"))?;
        }
        // /sys of the image is a link, and no sysfs is mounted.
        case.config = good.clone();
        without_mounts(case, "/sys");
        let sys = case.rootfs().join("sys");
        fs::remove_dir(&sys)?;
        symlink("/vol", &sys)?;
        case.mount(rshared(&source, "/vol"));
        case.set(&format!("/linux/{list}"), json!(["/sys/important"]));
        host_stays(case, &format!("{list} of /sys"))?;
        fs::remove_file(&sys)?;
        fs::create_dir(&sys)?;
    }
    // Links that lead elsewhere are followed, also to the volume that the words themselves lie in.
    case.config = good.clone();
    case.mount(tmpfs("/run")).mount(rshared(&source, "/var/run/vol")).mount(tmpfs("/var/run/x"));
    case.set("/linux/maskedPaths", json!(["/var/run/x"]));
    host_stays(case, "links in the container")?.ok()?;
    case.mount(tmpfs("/var/run/vol/important"));
    case.run()?.ok().map(drop)
}

fn mask_is_no_peer(case: &mut Case) -> Result<()> {
    wrapped(case, "shared", "mount --bind /dev /dev")?;
    case.set("/root/readonly", json!(false)).set("/linux/rootfsPropagation", json!("rshared"));
    fs::write(case.rootfs().join("secret"), "")?;
    fs::write(case.rootfs().join("evil"), "")?;
    case.set("/linux/maskedPaths", json!(["/secret"]));
    capabilities(&mut case.config, &["CAP_SYS_ADMIN"]);
    case.script("mount -o bind /evil /secret && echo mounted");
    host_stays(case, "a mount over a mask")?.ok()?.stdout_is("mounted\n").map(drop)
}

/// A change of the mode or the owner, also to what they were, leaves this other than it was.
fn changed(path: &str) -> Result<(i64, i64)> {
    let meta = fs::metadata(path)?;
    Ok((meta.ctime(), meta.ctime_nsec()))
}

/// What root of a container tries on a null that is not its own. Nothing of it hurts the host where it works.
const TOUCH_NULL: &str = "chmod 666 \"$null\"; chown 0:0 \"$null\"";

fn mask_leaves_null(case: &mut Case) -> Result<()> {
    let before = changed("/dev/null")?;
    case.set("/root/readonly", json!(false));
    for name in ["secret", "other"] {
        fs::write(case.rootfs().join(name), "of the image\n")?;
    }
    case.set("/linux/maskedPaths", json!(["/secret", "/other"]));
    capabilities(&mut case.config, &["CAP_CHOWN", "CAP_FOWNER"]);
    ATTACKS.fetch_add(1, Ordering::Relaxed);
    let script =
        format!("for null in /secret /other; do {TOUCH_NULL}; cat $null; echo >$null; done 2>/dev/null; echo end");
    case.script(&script).prints("end\n")?;
    ensure_same_null(before, "root of a container, by a masked file")
}

fn ensure_same_null(before: (i64, i64), who: &str) -> Result<()> {
    match changed("/dev/null")? == before {
        true => Ok(()),
        false => escaped(format!("{who} changed /dev/null of the host")),
    }
}

fn stdio_leaves_null(case: &mut Case) -> Result<()> {
    case.set("/root/readonly", json!(false));
    capabilities(&mut case.config, &["CAP_CHOWN", "CAP_FOWNER", "CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
    case.args(["sleep", "60"]).up()?;
    for instead in [
        "true",
        "rm /dev/null",
        "ln -s /proc/self/fd/0 /dev/null",
        "ln -sf /etc/passwd /dev/null",
        "rm /dev/null; mkfifo /dev/null",
    ] {
        case.verb(["exec", &case.id, "sh", "-c", instead])?.ok()?;
        let before = changed("/dev/null")?;
        ATTACKS.fetch_add(1, Ordering::Relaxed);
        let script = format!("for null in /proc/self/fd/0 /proc/self/fd/1; do {TOUCH_NULL}; done; cat; echo end >&2");
        case.before = "exec </dev/null >/dev/null".to_owned();
        let output = case.verb(["exec", &case.id, "sh", "-c", &script])?.ok()?;
        case.before = String::new();
        ensure!(output.stderr.ends_with("end\n"), "{instead}: {:?}", output.stderr);
        ensure_same_null(before, &format!("a program of exec, by its stdio, after {instead:?},"))?;
    }
    case.delete()
}

fn idmapped_is_no_peer(case: &mut Case) -> Result<()> {
    let (source, make) = volume(case)?;
    wrapped(case, "shared", &make)?;
    capabilities(&mut case.config, &["CAP_SYS_ADMIN"]);
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    let good = case.config.clone();
    for options in
        [json!(["bind", "idmap"]), json!(["rbind", "ridmap"]), json!(["rbind", "idmap", "rshared"]), json!(["rbind"])]
    {
        case.config = good.clone();
        let mut mount = json!({"destination": "/mnt", "type": "bind", "source": source, "options": options});
        if options != json!(["rbind"]) {
            (mount["uidMappings"], mount["gidMappings"]) = (map.clone(), map.clone());
        }
        case.mount(mount);
        case.script("mount -t tmpfs none /mnt/important && echo mounted");
        host_stays(case, &format!("a mount in a bind, {options}"))?.ok()?.stdout_is("mounted\n")?;
    }
    Ok(())
}

fn terminal_on_a_shared_dev(case: &mut Case) -> Result<()> {
    let decoy = host_dev(case)?;
    fs::create_dir(decoy.path.join("pts"))?;
    wrapped(case, "shared", &format!("mount --bind {0} {0}", decoy.path.display()))?;
    case.set("/linux/rootfsPropagation", json!("rshared")).set("/process/terminal", json!(true));
    let devpts =
        case.config["mounts"].as_array().and_then(|list| list.iter().find(|mount| mount["destination"] == "/dev/pts"));
    let devpts = devpts.cloned().expect("a mount of devpts");
    without_mounts(case, "/dev");
    case.mount(rshared(&decoy.path, "/dev")).mount(devpts);
    let path = case.dir.join("console.sock");
    let _listener = UnixListener::bind(&path)?;
    ATTACKS.fetch_add(1, Ordering::Relaxed);
    case.try_create(&["--console-socket", &path.to_string_lossy()])?.ok()?;
    // config.json names /dev/pts, and the propagation of /dev; it does not name /dev/console.
    let table = kernel::read(case.dir.join("after"))?;
    case.delete()?;
    let console = decoy.path.join("console");
    if table.lines().any(|line| line.contains(&*console.to_string_lossy())) {
        return escaped("the container's terminal lies on the host's /dev/console");
    }
    Ok(())
}

fn no_mount_namespace(case: &mut Case) -> Result<()> {
    let (source, make) = volume(case)?;
    wrapped(case, "shared", &make)?;
    without_mounts(case, "/");
    case.without_namespace("mount");
    case.set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .set("/root/readonly", json!(false));
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind"]}));
    case.mount(json!({"destination": "/mnt/important", "type": "tmpfs", "source": "tmpfs"}));
    ATTACKS.fetch_add(1, Ordering::Relaxed);
    case.create()?;
    let after = kernel::read(case.dir.join("after"))?;
    // What is mounted is the container's own mount on the host, and goes with it; in the volume there is nothing.
    let important = source.join("important");
    let shown = after.lines().any(|line| line.contains(&*important.to_string_lossy()));
    case.delete()?;
    if shown {
        return escaped("a mount in a bind shows on the host, without a mount namespace");
    }
    Ok(())
}

/// Options of a file system hold wherever it is mounted.
/// Root of the host may make what the program's user may not: where a link of the image leads to a volume, a mount or a
/// device of another place must leave nothing there.
fn made_behind_links(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    fs::set_permissions(&decoy.path, PermissionsExt::from_mode(0o777))?;
    let decoy = Decoy { before: Decoy::look(&decoy.path)?, ..decoy };
    let file = case.dir.join("file");
    fs::write(&file, "")?;
    let links = [
        ("conf", "/vol/nologin"),
        ("up", "../../vol/deep/er"),
        ("chain", "conf"),
        ("top", "/vol"),
        ("dangling", "top/new"),
    ];
    for (name, target) in links {
        symlink(target, case.rootfs().join(name))?;
    }
    case.set("/root/readonly", json!(false));
    case.mount(json!({"destination": "/vol", "type": "bind", "source": decoy.path, "options": ["rbind", "rw"]}));
    let good = case.config.clone();
    for name in ["/conf", "/up", "/chain", "/top/new", "/top/new/er", "/dangling"] {
        for kind in ["file", "directory", "tmpfs", "device"] {
            case.config = good.clone();
            match kind {
                "device" => case.set("/linux/devices", json!([{"path": format!("{name}/x"), "type": "p"}])),
                "tmpfs" => case.mount(json!({"destination": name, "type": "tmpfs", "source": "tmpfs"})),
                _ => {
                    let source = if kind == "file" { &file } else { &case.dir };
                    let source = source.clone();
                    case.mount(json!({"destination": name, "type": "bind", "source": source, "options": ["bind"]}))
                }
            };
            let what = format!("a {kind} on {name}");
            attack(case, &[], |_, _| decoy.unchanged(&what))?;
            decoy.unchanged(&format!("{what}, after delete"))?;
        }
    }
    // What config.json names without a link may be made, and so may what a link leads to in the container's own.
    case.config = good;
    symlink("/run", case.rootfs().join("own"))?;
    case.mount(json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs"}));
    case.mount(json!({"destination": "/own/a/b", "type": "bind", "source": file, "options": ["bind"]}));
    case.mount(json!({"destination": "/vol/named", "type": "bind", "source": file, "options": ["bind"]}));
    case.script("ls /run/a /vol/named").prints("/vol/named\n\n/run/a:\nb\n")
}

/// What config.json forbids on a volume stays forbidden, wherever a link of the image leads a remount that allows it.
fn remount_allows(case: &mut Case) -> Result<()> {
    let decoy = Decoy::new(case)?;
    for (name, target) in [("cache", "/vol"), ("other", "vol"), ("chain", "cache")] {
        symlink(target, case.rootfs().join(name))?;
    }
    case.set("/root/readonly", json!(false));
    case.mount(
        json!({"destination": "/vol", "type": "bind", "source": decoy.path, "options": ["rbind", "ro", "nosuid"]}),
    );
    let good = case.config.clone();
    for name in ["/cache", "/other", "/chain"] {
        for options in [json!(["remount", "bind", "rw"]), json!(["remount", "rw", "suid"]), json!(["remount", "rrw"])] {
            case.config = good.clone();
            case.mount(json!({"destination": name, "type": "none", "source": "/tmp", "options": options}));
            case.script("echo changed >/vol/secret; touch /vol/new");
            ATTACKS.fetch_add(1, Ordering::Relaxed);
            let output = case.run()?;
            decoy.unchanged(&format!("{options} on {name}"))?;
            ensure!(output.stderr.contains("where config.json may forbid"), "{options} on {name}: {:?}", output.stderr);
        }
    }
    // What only forbids more may go through a link.
    case.config = good;
    case.mount(
        json!({"destination": "/cache", "type": "none", "source": "none", "options": ["remount", "nodev", "noatime"]}),
    );
    case.script("grep ' /vol ' /proc/mounts | grep -o 'ro,.*,noatime'").prints("ro,nosuid,nodev,noatime\n")
}

fn remount_through_a_link(case: &mut Case) -> Result<()> {
    let source = case.dir.join("volume");
    fs::create_dir(&source)?;
    wrapped(
        case,
        "shared",
        &format!("mount -t tmpfs -o size=1m none {0} && mount --make-shared {0}", source.display()),
    )?;
    symlink("/vol", case.rootfs().join("cache"))?;
    case.set("/root/readonly", json!(false));
    case.mount(json!({"destination": "/vol", "type": "bind", "source": source, "options": ["bind"]}));
    case.mount(json!({"destination": "/cache", "type": "tmpfs", "source": "tmpfs", "options": ["remount", "size=8m"]}));
    host_stays(case, "a remount").map(drop)
}
