//! Namespaces: new, inherited, joined by path. Compared by the links of /proc/PID/ns; namespaces(7).

use std::fs;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Test, reap_orphans, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("namespaces/each_listed_one_is_new", each_listed_one_is_new),
        test("namespaces/each_unlisted_one_is_the_callers", each_unlisted_one_is_the_callers).requires(Need::Root),
        test("namespaces/each_can_be_joined_by_path", each_can_be_joined_by_path)
            .requires(Need::Root)
            .requires(Need::Tool("unshare")),
        test("namespaces/each_can_be_joined_by_root_of_a_user_namespace", each_joined_in_a_user_namespace)
            .requires(Need::Root)
            .requires(Need::Tool("unshare"))
            .requires(Need::Tool("nsenter")),
        test("namespaces/each_can_be_joined_with_its_user_namespace", each_joined_with_its_user_namespace),
        test("namespaces/each_can_be_joined_from_a_new_user_namespace", each_joined_from_a_new_user_namespace)
            .requires(Need::Root)
            .requires(Need::Tool("unshare"))
            .requires(Need::Tool("nsenter")),
        test("namespaces/a_path_of_another_type_is_refused", a_path_of_another_type_is_refused),
        test("namespaces/a_duplicate_type_is_refused", a_duplicate_type_is_refused).peer("crun", "takes it"),
        test("namespaces/hostname_and_domainname", hostname_and_domainname),
        test("namespaces/hostname_without_uts_is_refused", hostname_without_uts_is_refused).requires(Need::Root),
        test("namespaces/the_program_is_pid_1", the_program_is_pid_1),
        test("namespaces/lo_is_up", lo_is_up).requires(Need::Root),
        test("namespaces/the_cgroup_root_is_the_own_cgroup", the_cgroup_root_is_the_own_cgroup).requires(Need::Root),
        test("namespaces/mqueue_belongs_to_root_of_the_user_namespace", mqueue_belongs_to_root).requires(Need::Root),
        test("namespaces/time_offsets_are_seen", time_offsets_are_seen).peer("*", "newer than the peer"),
        test("namespaces/time_offsets_are_seen/userns", |case| time_offsets_are_seen(case.user_namespace()?))
            .requires(Need::Root)
            .peer("*", "newer than the peer"),
        test("namespaces/time_offsets_in_a_joined_user_namespace", time_offsets_in_a_joined_user_namespace)
            .peer("*", "newer than the peer"),
    ]
}

const KINDS: [(&str, &str); 6] =
    [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("mount", "mnt"), ("cgroup", "cgroup")];

fn each_listed_one_is_new(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let own = std::process::id() as i32;
    for namespace in case.config["linux"]["namespaces"].as_array().context("a list")? {
        let name = namespace["type"].as_str().unwrap_or_default();
        let kind = KINDS.iter().find(|(oci, _)| *oci == name).map_or(name, |(_, kind)| *kind);
        let (inside, outside) = (kernel::namespace(init.pid, kind)?, kernel::namespace(own, kind)?);
        ensure!(inside != outside, "{name} is the caller's");
    }
    case.delete()
}

fn each_unlisted_one_is_the_callers(case: &mut Case) -> Result<()> {
    for (name, kind) in [("network", "net"), ("ipc", "ipc"), ("cgroup", "cgroup"), ("uts", "uts"), ("pid", "pid")] {
        let before = case.config.clone();
        case.without_namespace(name).args(["sleep", "60"]);
        if name == "uts" {
            case.set("/hostname", json!(""));
        }
        let init = case.up()?;
        let (inside, outside) =
            (kernel::namespace(init.pid, kind)?, kernel::namespace(std::process::id() as i32, kind)?);
        ensure!(inside == outside, "{name} is {inside}, the caller's is {outside}");
        case.delete()?;
        case.config = before;
    }
    Ok(())
}

/// A process that holds new namespaces until it is dropped.
struct Holder(Child);

impl Holder {
    fn new(case: &Case) -> Result<Holder> {
        let mut child = Command::new("unshare")
            .args(["--net", "--ipc", "--uts", "--cgroup", "--pid", "--fork", "--kill-child", "sleep", "1000"])
            .env("HULL_TEST_ID", &case.id)
            .stdin(Stdio::null())
            .spawn()?;
        let ready = kernel::eventually("the holder has its namespaces", || {
            kernel::namespace(child.id() as i32, "net").ok() != kernel::namespace(std::process::id() as i32, "net").ok()
                && Self::inner(&child).is_some()
        });
        if let Err(error) = ready {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        Ok(Holder(child))
    }

    /// The process that is in all of the namespaces, also that of pids.
    fn inner(child: &Child) -> Option<i32> {
        let path = format!("/proc/{0}/task/{0}/children", child.id());
        fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn each_can_be_joined_by_path(case: &mut Case) -> Result<()> {
    let holder = Holder::new(case)?;
    let inner = Holder::inner(&holder.0).context("the holder's child")?;
    for (name, kind) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        let before = case.config.clone();
        case.namespace(json!({"type": name, "path": format!("/proc/{inner}/ns/{kind}")})).args(["sleep", "60"]);
        let init = case.up()?;
        let (inside, there) = (kernel::namespace(init.pid, kind)?, kernel::namespace(inner, kind)?);
        ensure!(inside == there, "{name} is {inside}, not {there}");
        case.delete()?;
        case.config = before;
    }
    Ok(())
}

/// Lets the runtime run as root of a user namespace, as engines without root do: privilege over the host's namespaces it has
/// none, so none of them can be entered again.
fn within_a_user_namespace(case: &mut Case) -> Result<Holder> {
    let child = Command::new("unshare")
        .args(["--user", "--mount", "sleep", "1000"])
        .env("HULL_TEST_ID", &case.id)
        .stdin(Stdio::null())
        .spawn()?;
    let holder = Holder(child);
    let pid = holder.0.id();
    kernel::eventually("the holder has its user namespace", || {
        kernel::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
    })?;
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{map}"), "0 0 65536")?;
    }
    let wrapper = case.dir.join("within");
    let script = format!(
        "#!/bin/sh\nexec nsenter --user=/proc/{pid}/ns/user --mount=/proc/{pid}/ns/mnt --preserve-credentials --wd=\"$PWD\" {} \"$@\"\n",
        case.runtime.display()
    );
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    case.runtime = wrapper;
    case.without_namespace("user").edit(|config| {
        let linux = config["linux"].as_object_mut().expect("an object");
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    });
    Ok(holder)
}

/// A second container joins these of the first's, one by one and then all at once, as a pod does; exec finds its way, too.
fn joined_by_a_second(
    case: &mut Case,
    kinds: &[(&str, &str)],
    with: &[(&str, &str)],
    change: fn(&mut Value),
) -> Result<()> {
    let first = case.args(["sleep", "60"]).up()?;
    let second = format!("{}-b", case.id);
    let pid_file = case.dir.join("second.pid").to_string_lossy().into_owned();
    // An ordinary user's container may share the host's network.
    let list = case.config["linux"]["namespaces"].as_array().context("a list")?;
    let kinds: Vec<_> = kinds.iter().copied().filter(|kind| list.iter().any(|own| own["type"] == kind.0)).collect();
    for joined in kinds.chunks(1).chain([&kinds[..]]) {
        let bundle = case.bundle_beside("second", |config| {
            let list = config["linux"]["namespaces"].as_array_mut().expect("a list");
            for (name, kind) in joined.iter().chain(with) {
                list.retain(|namespace| namespace["type"] != *name);
                list.push(json!({"type": name, "path": format!("/proc/{}/ns/{kind}", first.pid)}));
            }
            if joined.iter().any(|(name, _)| *name == "uts") {
                config.as_object_mut().expect("an object").remove("hostname");
            }
            if with.iter().any(|(name, _)| *name == "user") {
                let linux = config["linux"].as_object_mut().expect("an object");
                linux.remove("uidMappings");
                linux.remove("gidMappings");
            }
            change(config);
        })?;
        let what = format!("{joined:?} with {with:?}");
        let create = case.verb(["create", "--bundle", &bundle, "--pid-file", &pid_file, &second])?;
        create.ok().context(what.clone())?;
        case.verb(["start", &second])?.ok()?;
        let pid: i32 = kernel::read(&pid_file)?.parse()?;
        for (name, kind) in joined.iter().chain(with) {
            let (inside, there) = (kernel::namespace(pid, kind)?, kernel::namespace(first.pid, kind)?);
            ensure!(inside == there, "{what}: {name} is {inside}, not {there}");
        }
        let seen = case.verb(["exec", &second, "readlink", "/proc/self/ns/ipc"])?.ok().context(what.clone())?.stdout;
        ensure!(seen.trim() == kernel::namespace(pid, "ipc")?, "{what}: exec is in {seen:?}");
        case.verb(["delete", "--force", &second])?.ok()?;
        reap_orphans();
    }
    case.delete()
}

const OF_A_POD: [(&str, &str); 5] =
    [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup")];

fn each_joined_in_a_user_namespace(case: &mut Case) -> Result<()> {
    let _holder = within_a_user_namespace(case)?;
    joined_by_a_second(case, &OF_A_POD, &[], |_| {})
}

fn each_joined_with_its_user_namespace(case: &mut Case) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        case.user_namespace()?;
    }
    joined_by_a_second(case, &OF_A_POD, &[("user", "user")], |_| {})
}

/// The first has the user namespace that the runtime is root of, the second one of its own: it can enter none from there.
fn each_joined_from_a_new_user_namespace(case: &mut Case) -> Result<()> {
    let _holder = within_a_user_namespace(case)?;
    joined_by_a_second(case, &OF_A_POD, &[], |config| {
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "user"}));
        // A new user namespace has no right to mount what belongs to another one.
        let mounts = config["mounts"].as_array_mut().expect("a list");
        mounts.retain(|mount| mount["type"] != "mqueue");
        for mount in mounts {
            let at = mount["destination"].clone();
            if at == "/proc" || at == "/sys" {
                *mount = json!({"destination": at, "type": "bind", "source": at, "options": ["rbind"]});
            }
        }
    })
}

fn a_path_of_another_type_is_refused(case: &mut Case) -> Result<()> {
    case.namespace(json!({"type": "ipc", "path": "/proc/self/ns/uts"})).run()?.refused()?;
    case.namespace(json!({"type": "ipc", "path": "/etc/passwd"})).run()?.refused().map(drop)
}

fn a_duplicate_type_is_refused(case: &mut Case) -> Result<()> {
    case.edit(|config| {
        config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "ipc"}));
    });
    case.run()?.refused().map(drop)
}

fn hostname_and_domainname(case: &mut Case) -> Result<()> {
    case.set("/hostname", json!("of-the-container"));
    case.script("hostname; cat /proc/sys/kernel/hostname").prints("of-the-container\nof-the-container\n")?;
    if case.peer.is_none() {
        case.set("/domainname", json!("example.org"));
        case.script("cat /proc/sys/kernel/domainname").prints("example.org\n")?;
    }
    ensure!(!kernel::read("/proc/sys/kernel/hostname")?.contains("of-the-container"), "the host was renamed");
    Ok(())
}

fn hostname_without_uts_is_refused(case: &mut Case) -> Result<()> {
    case.without_namespace("uts").run()?.refused()?;
    ensure!(kernel::read("/proc/sys/kernel/hostname")? != "hull\n", "the host was renamed");
    Ok(())
}

fn the_program_is_pid_1(case: &mut Case) -> Result<()> {
    case.script("echo $$; ls -d /proc/[0-9]* | wc -l");
    let text = case.run()?.ok()?.stdout;
    let mut lines = text.lines().map(str::trim);
    ensure!(lines.next() == Some("1"), "it printed {text:?}");
    let seen: u32 = lines.next().context("a count")?.parse()?;
    ensure!(seen <= 4, "it sees {seen} processes");
    Ok(())
}

fn lo_is_up(case: &mut Case) -> Result<()> {
    case.script("ip -o link show lo | grep -c 'UP'; ls /sys/class/net | wc -l");
    let text = case.run()?.ok()?.stdout;
    ensure!(text.starts_with("1\n"), "it printed {text:?}");
    Ok(())
}

fn the_cgroup_root_is_the_own_cgroup(case: &mut Case) -> Result<()> {
    case.script("cut -d: -f3 /proc/self/cgroup | sort -u").prints("/\n")
}

fn mqueue_belongs_to_root(case: &mut Case) -> Result<()> {
    case.user_namespace()?.script("stat -c %u /dev/mqueue /dev/shm").prints("0\n0\n")
}

/// Joined with a pid namespace that is new, that is joined too, and with none: init comes to life in another way each time.
fn time_offsets_in_a_joined_user_namespace(case: &mut Case) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        case.user_namespace()?;
    }
    let holder = case.args(["sleep", "60"]).up()?;
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", holder.pid);
    for pid in ["new", "joined", "none"] {
        let bundle = case.bundle_beside("second", |config| {
            config["process"]["args"] = json!(["cut", "-d.", "-f1", "/proc/uptime"]);
            let linux = &mut config["linux"];
            linux["timeOffsets"] = json!({"boottime": {"secs": 8_640_000, "nanosecs": 0}});
            let list = linux["namespaces"].as_array_mut().expect("a list");
            list.retain(|namespace| namespace["type"] != "user" && (namespace["type"] != "pid" || pid == "new"));
            list.push(json!({"type": "user", "path": path("user")}));
            list.push(json!({"type": "time"}));
            if pid == "joined" {
                list.push(json!({"type": "pid", "path": path("pid")}));
            }
            for key in ["uidMappings", "gidMappings"] {
                linux.as_object_mut().expect("an object").remove(key);
            }
            for mount in config["mounts"].as_array_mut().expect("a list") {
                if mount["destination"] == "/proc" && pid == "none" {
                    *mount = json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]});
                }
            }
        })?;
        if pid == "joined" && !rustix::process::geteuid().is_root() {
            continue;
        }
        let second = format!("{}-b", case.id);
        let text = case.verb(["run", "--bundle", &bundle, &second])?.ok()?.stdout;
        let seconds: u64 = text.trim().parse().with_context(|| format!("pid namespace {pid}: {text:?}"))?;
        ensure!(seconds >= 8_640_000, "pid namespace {pid}: the uptime is {seconds}");
    }
    case.delete()
}

fn time_offsets_are_seen(case: &mut Case) -> Result<()> {
    case.namespace(json!({"type": "time"}));
    case.set("/linux/timeOffsets", json!({"boottime": {"secs": 8_640_000, "nanosecs": 0}}));
    let text = case.script("cut -d. -f1 /proc/uptime").run()?.ok()?.stdout;
    let own: u64 = kernel::read("/proc/uptime")?.split('.').next().unwrap_or("").parse()?;
    let inside: u64 = text.trim().parse()?;
    ensure!((8_639_000..8_641_000).contains(&(inside - own)), "the uptime is {inside}, here {own}");
    Ok(())
}
