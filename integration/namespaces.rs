//! Namespaces: new, inherited, joined by path. Compared by the links of /proc/PID/ns; namespaces(7).

use std::fs;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("namespaces/each_listed_one_is_new", each_listed_one_is_new),
        test("namespaces/each_unlisted_one_is_the_callers", each_unlisted_one_is_the_callers).requires(Need::Root),
        test("namespaces/each_can_be_joined_by_path", each_can_be_joined_by_path)
            .requires(Need::Root)
            .requires(Need::Tool("unshare")),
        test("namespaces/a_path_of_another_type_is_refused", a_path_of_another_type_is_refused),
        test("namespaces/a_duplicate_type_is_refused", a_duplicate_type_is_refused).peer("crun", "takes it"),
        test("namespaces/hostname_and_domainname", hostname_and_domainname),
        test("namespaces/hostname_without_uts_is_refused", hostname_without_uts_is_refused).requires(Need::Root),
        test("namespaces/the_program_is_pid_1", the_program_is_pid_1),
        test("namespaces/lo_is_up", lo_is_up).requires(Need::Root),
        test("namespaces/the_cgroup_root_is_the_own_cgroup", the_cgroup_root_is_the_own_cgroup).requires(Need::Root),
        test("namespaces/mqueue_belongs_to_root_of_the_user_namespace", mqueue_belongs_to_root).requires(Need::Root),
        test("namespaces/time_offsets_are_seen", time_offsets_are_seen)
            .requires(Need::Root)
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

fn time_offsets_are_seen(case: &mut Case) -> Result<()> {
    case.namespace(json!({"type": "time"}));
    case.set("/linux/timeOffsets", json!({"boottime": {"secs": 8_640_000, "nanosecs": 0}}));
    let text = case.script("cut -d. -f1 /proc/uptime").run()?.ok()?.stdout;
    let own: u64 = kernel::read("/proc/uptime")?.split('.').next().unwrap_or("").parse()?;
    let inside: u64 = text.trim().parse()?;
    ensure!((8_639_000..8_641_000).contains(&(inside - own)), "the uptime is {inside}, here {own}");
    Ok(())
}
