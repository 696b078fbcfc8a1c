//! User namespaces: mappings, setgroups, and who owns what. user_namespaces(7).

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("userns/mappings_are_the_configs", mappings_are_the_configs).requires(Need::Root),
        test("userns/several_ranges", several_ranges).requires(Need::Root),
        test("userns/the_program_is_root_inside_and_not_outside", root_inside_and_not_outside).requires(Need::Root),
        test("userns/files_belong_to_the_mapped_ids", files_belong_to_the_mapped_ids).requires(Need::Root),
        test("userns/an_unmapped_user_is_refused", an_unmapped_user_is_refused).requires(Need::Root),
        test("userns/devices_are_the_hosts", devices_are_the_hosts).requires(Need::Root),
        test("userns/the_hosts_null_keeps_its_owner", the_hosts_null_keeps_its_owner)
            .requires(Need::Root)
            .requires(Need::Hull),
        test("userns/the_own_namespaces_can_be_used", the_own_namespaces_can_be_used).requires(Need::Root),
        test("userns/can_be_joined_by_path", can_be_joined_by_path).requires(Need::Root),
        test("userns/bind_of_a_private_directory", bind_of_a_private_directory).requires(Need::Root),
        test("userns/overlapping_mappings_are_refused", overlapping_mappings_are_refused).requires(Need::Root),
        test("userns/self_makes_one_of_the_single_id", self_makes_one).requires(Need::Hull),
        test("userns/rootless_maps_the_single_id", rootless_maps_the_single_id).requires(Need::Rootless),
        test("userns/rootless_denies_setgroups", rootless_denies_setgroups).requires(Need::Rootless),
        test("userns/rootless_uses_newuidmap", rootless_uses_newuidmap)
            .requires(Need::Rootless)
            .requires(Need::Tool("newuidmap")),
    ]
}

/// The words of /proc/PID/uid_map or gid_map, a line each.
fn map_of(pid: i32, file: &str) -> Result<Vec<String>> {
    let text = kernel::read(format!("/proc/{pid}/{file}"))?;
    Ok(text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
}

fn mappings_are_the_configs(case: &mut Case) -> Result<()> {
    let init = case.user_namespace()?.args(["sleep", "60"]).up()?;
    for file in ["uid_map", "gid_map"] {
        let map = map_of(init.pid, file)?;
        ensure!(map == ["0 100000 2000"], "{file} is {map:?}");
    }
    let setgroups = kernel::read(format!("/proc/{}/setgroups", init.pid))?;
    ensure!(setgroups == "allow\n", "setgroups is {setgroups:?}");
    case.delete()
}

fn several_ranges(case: &mut Case) -> Result<()> {
    case.user_namespace()?;
    let ranges: Vec<_> = (0..12)
        .map(|n| json!({"containerID": n * 100, "hostID": 100_000 + n * 100, "size": if n == 11 { 500 } else { 100 }}))
        .collect();
    case.set("/linux/uidMappings", json!(ranges));
    let init = case.args(["sleep", "60"]).up()?;
    let map = map_of(init.pid, "uid_map")?;
    ensure!(map.len() == 12 && map[11] == "1100 101100 500", "uid_map is {map:?}");
    case.delete()
}

fn root_inside_and_not_outside(case: &mut Case) -> Result<()> {
    let init = case.user_namespace()?.script("id -u; id -g; echo up; sleep 60").up()?;
    init.wait_for("up")?;
    ensure!(init.output()? == "0\n0\nup\n", "it printed {:?}", init.output()?);
    let uid = kernel::status(init.pid, "Uid")?;
    ensure!(uid == "100000\t100000\t100000\t100000", "outside it is {uid:?}");
    case.delete()
}

fn files_belong_to_the_mapped_ids(case: &mut Case) -> Result<()> {
    case.user_namespace()?.set("/root/readonly", json!(false)).script("touch /tmp/new; stat -c %u:%g /tmp/new /");
    case.prints("0:0\n0:0\n")?;
    let meta = fs::metadata(case.rootfs().join("tmp/new"))?;
    let owner = std::os::unix::fs::MetadataExt::uid(&meta);
    ensure!(owner == 100_000, "outside it belongs to {owner}");
    Ok(())
}

fn an_unmapped_user_is_refused(case: &mut Case) -> Result<()> {
    case.user_namespace()?;
    for user in [json!({"uid": 5000, "gid": 0}), json!({"uid": 0, "gid": 5000})] {
        case.set("/process/user", user);
        case.run()?.refused()?;
    }
    Ok(())
}

fn devices_are_the_hosts(case: &mut Case) -> Result<()> {
    case.user_namespace()?;
    case.script(
        "stat -c '%F %t:%T' /dev/null; echo x >/dev/null && head -c 1 /dev/zero | wc -c; [ -c /dev/tty ] && echo t",
    );
    case.prints("character special file 1:3\n1\nt\n")
}

fn the_hosts_null_keeps_its_owner(case: &mut Case) -> Result<()> {
    let owner = || fs::metadata("/dev/null").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta));
    let before = owner()?;
    case.user_namespace()?.args(["echo", "fine"]).prints("fine\n")?;
    ensure!(owner()? == before, "/dev/null of the host now belongs to {}", owner()?);
    Ok(())
}

fn the_own_namespaces_can_be_used(case: &mut Case) -> Result<()> {
    let caps = json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
    for set in ["bounding", "effective", "permitted"] {
        case.set(&format!("/process/capabilities/{set}"), caps.clone());
    }
    // Each needs a capability over a namespace that the container's user namespace must own.
    case.user_namespace()?;
    case.script(
        "hostname renamed && hostname; mount -t tmpfs t /mnt && echo mounted; ip link set lo down && echo down",
    );
    case.prints("renamed\nmounted\ndown\n")
}

fn can_be_joined_by_path(case: &mut Case) -> Result<()> {
    let first = case.user_namespace()?.args(["sleep", "60"]).up()?;
    let bundle = case.bundle();
    let second = format!("{}-b", case.id);
    case.namespace(json!({"type": "user", "path": format!("/proc/{}/ns/user", first.pid)}));
    // With identical mappings it is accepted as well, and the peers ask for them.
    if case.peer.is_none() {
        let linux = case.config["linux"].as_object_mut().context("an object")?;
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    }
    case.args(["readlink", "/proc/self/ns/user"]).write_config()?;
    let output = case.verb(["run", "--bundle", &bundle.to_string_lossy(), &second])?.ok()?;
    let there = kernel::namespace(first.pid, "user")?;
    ensure!(output.stdout.trim() == there, "it is in {:?}, not {there}", output.stdout);
    case.delete()
}

fn bind_of_a_private_directory(case: &mut Case) -> Result<()> {
    let private = case.dir.join("private");
    fs::create_dir_all(private.join("shared"))?;
    fs::write(private.join("shared/file"), "content\n")?;
    fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    let source = private.join("shared");
    case.user_namespace()?;
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind", "ro"]}));
    case.args(["cat", "/mnt/file"]).prints("content\n")
}

fn overlapping_mappings_are_refused(case: &mut Case) -> Result<()> {
    case.user_namespace()?;
    let range = |inside: u32, outside: u32, size: u32| json!({"containerID": inside, "hostID": outside, "size": size});
    case.set("/linux/uidMappings", json!([range(0, 100_000, 10), range(5, 200_000, 10)]));
    case.run()?.refused()?;
    case.set("/linux/uidMappings", json!([range(0, 100_000, 0)]));
    case.run()?.refused().map(drop)
}

fn self_makes_one(case: &mut Case) -> Result<()> {
    case.without_namespace("user").edit(|config| {
        let linux = config["linux"].as_object_mut().expect("an object");
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    });
    case.args(["sleep", "60"]).try_create(&["--userns", "self"])?.ok()?;
    let map = map_of(case.pid()?, "uid_map")?;
    case.verb(["start", &case.id])?.ok()?;
    let joined = case.verb(["exec", &case.id, "readlink", "/proc/self/ns/user"])?.ok()?.stdout;
    let there = kernel::namespace(case.pid()?, "user")?;
    case.delete()?;
    ensure!(joined.trim() == there, "exec is in {joined:?}, not {there}");
    let uid = rustix::process::geteuid().as_raw();
    ensure!(map == [format!("0 {uid} 1")], "uid_map is {map:?}");
    if uid != 0 {
        // A plain try says how to get there.
        case.run()?.refused()?.stderr_has("--userns self")?;
    }
    case.namespace(json!({"type": "user"}));
    case.try_create(&["--userns", "self"])?.refused()?.stderr_has("--userns self").map(drop)
}

fn rootless_maps_the_single_id(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let uid = rustix::process::geteuid().as_raw();
    let map = map_of(init.pid, "uid_map")?;
    ensure!(map == [format!("0 {uid} 1")], "uid_map is {map:?}");
    case.delete()
}

fn rootless_denies_setgroups(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let setgroups = kernel::read(format!("/proc/{}/setgroups", init.pid))?;
    ensure!(setgroups == "deny\n", "setgroups is {setgroups:?}");
    case.delete()
}

fn rootless_uses_newuidmap(case: &mut Case) -> Result<()> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    // Two ranges need the helper; it refuses a user without a line in /etc/subuid, and that refusal must be told.
    let table = kernel::read("/etc/passwd")?;
    let name = table.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    let names = [uid.to_string(), name.and_then(|line| line.split(':').next()).unwrap_or_default().to_owned()];
    let granted = kernel::read("/etc/subuid")
        .unwrap_or_default()
        .lines()
        .any(|line| line.split(':').next().is_some_and(|owner| names.iter().any(|name| name == owner)));
    for (key, id) in [("uidMappings", uid), ("gidMappings", gid)] {
        case.config["linux"][key] = json!([
            {"containerID": 0, "hostID": id, "size": 1},
            {"containerID": 1, "hostID": 100_000, "size": 10}
        ]);
    }
    if granted {
        return case.script("cat /proc/self/uid_map | wc -l").prints("2\n");
    }
    // Either of newuidmap and newgidmap.
    case.args(["true"]).run()?.refused()?.stderr_has("idmap for the mapping").map(drop)
}
