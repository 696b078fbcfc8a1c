//! Cgroups: where the container is, what holds for it, and that it is gone afterwards. cgroups(7).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::harness::{Case, Init, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let root = |test: Test| test.requires(Need::Root);
    let with = |test: Test, controller| root(test).requires(Need::Controller(controller));
    vec![
        root(test("cgroups/path_is_the_configs", path_is_the_configs)),
        root(test("cgroups/default_path_names_the_container", default_path_names_the_container)),
        root(
            test("cgroups/dotdot_in_the_path_is_clamped", dotdot_in_the_path_is_clamped)
                .peer("crun", "takes it as it is"),
        ),
        with(test("cgroups/memory_limit", memory_limit), "memory"),
        with(test("cgroups/memory_limit_kills", memory_limit_kills), "memory"),
        with(test("cgroups/tcp_buffers_of_v1", tcp_buffers_of_v1), "memory")
            .requires(Need::CgroupV1)
            .peer("runc", "ignores them"),
        with(test("cgroups/pids_limit", pids_limit), "pids"),
        with(test("cgroups/cpu_shares_and_quota", cpu_shares_and_quota), "cpu"),
        with(test("cgroups/cpuset", cpuset), "cpuset"),
        with(test("cgroups/zero_is_unset", zero_is_unset).peer("crun", "sets a limit of 0"), "memory"),
        root(test("cgroups/devices_are_denied", devices_are_denied)),
        root(test("cgroups/a_device_can_be_allowed", a_device_can_be_allowed)),
        root(
            test("cgroups/absent_resources_still_deny_devices", absent_resources_still_deny_devices)
                .peer("crun", "allows every device"),
        ),
        root(test("cgroups/unified_values_are_written", unified_values_are_written)).requires(Need::CgroupV2),
        root(test("cgroups/v1_refuses_unified", v1_refuses_unified).peer("crun", "leaves its cgroups behind"))
            .requires(Need::CgroupV1),
        root(test("cgroups/groups_of_the_payload_are_removed", groups_of_the_payload_are_removed)),
        root(
            test("cgroups/a_group_with_processes_is_refused", a_group_with_processes_is_refused)
                .peer("crun", "takes it"),
        )
        .peer("runc", "1.1 only warns"),
        root(test("cgroups/a_forking_payload_ends", a_forking_payload_ends)).peer("runc", "1.1 kills init only"),
        root(test("cgroups/delete_ends_a_forking_payload", delete_ends_a_forking_payload)),
        root(test("cgroups/deeply_nested_groups_are_removed", deeply_nested_groups_are_removed))
            .requires(Need::Verb("ps"))
            .peer("crun", "ps does not work there"),
        root(test("cgroups/what_the_payload_froze_dies_too", what_the_payload_froze_dies_too))
            .peer("*", "on v1 it stays for ever"),
        root(test("cgroups/delete_thaws_what_the_payload_froze", delete_thaws_what_the_payload_froze))
            .peer("*", "on v1 it stays for ever"),
        root(test("cgroups/threaded_groups_of_the_payload", threaded_groups_of_the_payload))
            .requires(Need::Verb("ps"))
            .requires(Need::Unified)
            .peer("*", "they have no v2 cgroup beside v1"),
        root(test("cgroups/beneath_a_threaded_parent", beneath_a_threaded_parent))
            .requires(Need::Verb("ps"))
            .requires(Need::Unified)
            .peer("*", "they have no v2 cgroup beside v1"),
        root(test("cgroups/a_frozen_group_is_refused", a_frozen_group_is_refused)).peer("*", "1.1 hangs or warns"),
        root(test("cgroups/every_controller_is_enabled", every_controller_is_enabled)).requires(Need::CgroupV2),
        root(test("cgroups/the_programs_user_owns_a_delegated_group", the_programs_user_owns_a_delegated_group))
            .requires(Need::CgroupV2)
            .peer("crun", "needs an annotation for that"),
        with(test("cgroups/an_empty_cpuset_on_the_way_is_filled", an_empty_cpuset_on_the_way_is_filled), "cpuset")
            .requires(Need::CgroupV1),
        with(test("cgroups/a_death_by_the_limit_is_said", a_death_by_the_limit_is_said), "memory").requires(Need::Hull),
        root(test("cgroups/a_payload_that_makes_groups_all_the_time", a_payload_that_makes_groups_all_the_time))
            .requires(Need::Verb("ps"))
            .peer("crun", "loses the race"),
        with(with(test("cgroups/v1_values_become_v2s", v1_values_become_v2s), "cpu"), "memory")
            .requires(Need::CgroupV2)
            .peer("*", "their versions here have the older formula"),
        with(test("cgroups/idle_and_burst", idle_and_burst), "cpu").peer("*", "1.1 and 1.8 know neither"),
        root(test("cgroups/block_io_throttles", block_io_throttles)).requires(Need::BlockIo),
        root(test("cgroups/create_container_hooks_find_the_limits", create_container_hooks_find_the_limits))
            .requires(Need::CgroupV1)
            .requires(Need::BlockIo),
        with(test("cgroups/huge_pages_and_their_reservations", huge_pages_and_their_reservations), "hugetlb")
            .peer("*", "they set no limit of reservations"),
        with(
            with(test("cgroups/network_classes_and_priorities", network_classes_and_priorities), "net_cls"),
            "net_prio",
        ),
        with(test("cgroups/rdma_of_a_device_that_is_not_there", rdma_of_a_device_that_is_not_there), "rdma"),
        with(with(test("cgroups/unified_values_of_controllers", unified_values_of_controllers), "memory"), "pids")
            .requires(Need::CgroupV2),
        with(test("cgroups/memory_without_a_killer", memory_without_a_killer), "memory").requires(Need::CgroupV1),
        root(test("cgroups/a_limit_without_its_controller", a_limit_without_its_controller))
            .peer("*", "names a file, on v1, or on v2 takes no notice of some"),
        with(test("cgroups/v1_device_list", v1_device_list), "devices")
            .requires(Need::CgroupV1)
            .peer("crun", "allows /dev/console too, and no tun"),
    ]
}

/// A limit's file: the v1 name in the controller's hierarchy, or the v2 name.
pub fn value(init: &Init, controller: &str, v1: &str, v2: &str) -> Result<String> {
    let dirs = kernel::cgroups(init.pid)?;
    let path = match dirs.get(controller) {
        Some(dir) => dir.join(v1),
        None => dirs.get("unified").context("a cgroup")?.join(v2),
    };
    Ok(kernel::read(path)?.trim().to_owned())
}

pub fn v2_only() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn path_is_the_configs(case: &mut Case) -> Result<()> {
    let path = format!("/{}-deep/in/side", case.id);
    let init = case.set("/linux/cgroupsPath", json!(path)).args(["sleep", "60"]).up()?;
    let dirs = kernel::cgroups(init.pid)?;
    let key = if v2_only() { "unified" } else { "pids" };
    ensure!(dirs[key].ends_with(path.trim_start_matches('/')), "it is in {}", dirs[key].display());
    let procs = kernel::read(dirs[key].join("cgroup.procs"))?;
    ensure!(procs.trim() == init.pid.to_string(), "the cgroup holds {procs:?}");
    case.delete()?;
    ensure!(!dirs[key].exists(), "{} is still there", dirs[key].display());
    // Parents are not the container's own: runtimes leave them, and so the case removes them.
    for dir in kernel::cgroups_named(&case.id) {
        ensure!(!dir.ends_with("side"), "{} is still there", dir.display());
        fs::remove_dir(dir)?;
    }
    Ok(())
}

fn default_path_names_the_container(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let dirs = kernel::cgroups(init.pid)?;
    for (name, dir) in &dirs {
        let own = dir.to_string_lossy().contains(&case.id);
        // A v2 hierarchy without controllers beside v1 need not be used.
        ensure!(own || (!v2_only() && (name == "unified" || name == "systemd")), "{name} is {}", dir.display());
    }
    case.delete()
}

fn dotdot_in_the_path_is_clamped(case: &mut Case) -> Result<()> {
    let path = format!("/../../../../{}-up", case.id);
    let init = case.set("/linux/cgroupsPath", json!(path)).args(["sleep", "60"]).up()?;
    let key = if v2_only() { "unified" } else { "pids" };
    let dir: PathBuf = kernel::cgroups(init.pid)?[key].clone();
    ensure!(dir.starts_with("/sys/fs/cgroup") && dir.is_dir(), "it is in {}", dir.display());
    ensure!(!dir.to_string_lossy().contains(".."), "it is in {}", dir.display());
    case.delete()
}

fn memory_limit(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/memory", json!({"limit": 67_108_864, "reservation": 33_554_432}));
    let init = case.args(["sleep", "60"]).up()?;
    let limit = value(&init, "memory", "memory.limit_in_bytes", "memory.max")?;
    ensure!(limit == "67108864", "the limit is {limit}");
    let reservation = value(&init, "memory", "memory.soft_limit_in_bytes", "memory.low")?;
    ensure!(reservation == "33554432", "the reservation is {reservation}");
    case.delete()
}

fn tcp_buffers_of_v1(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/memory", json!({"kernelTCP": 33_554_432}));
    let init = case.args(["sleep", "60"]).up()?;
    let directory = kernel::cgroups(init.pid)?.remove("memory").context("it has no memory cgroup")?;
    // Newer kernels have no such file: then the container runs all the same.
    let file = directory.join("memory.kmem.tcp.limit_in_bytes");
    if file.exists() {
        let limit = kernel::read(&file)?;
        ensure!(limit.trim() == "33554432", "the limit is {limit}");
    }
    case.delete()
}

fn memory_limit_kills(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/memory", json!({"limit": 16_777_216}));
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=256m"]}));
    case.args(["dd", "if=/dev/zero", "of=/mnt/big", "bs=1M", "count=200"]).run()?.status(137).map(drop)
}

fn pids_limit(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/pids", json!({"limit": 20}));
    // The shell whose fork fails ends: a second one stays, so that there is an init to look at.
    let script = "(i=0; while [ $i -lt 40 ]; do sleep 60 & i=$((i+1)); done; echo all); exec sleep 60";
    let init = case.script(script).up()?;
    let limit = value(&init, "pids", "pids.max", "pids.max")?;
    ensure!(limit == "20", "the limit is {limit}");
    std::thread::sleep(std::time::Duration::from_millis(300));
    ensure!(!init.output()?.contains("all"), "40 processes were made");
    case.delete()
}

fn cpu_shares_and_quota(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/cpu", json!({"shares": 512, "quota": 25_000, "period": 50_000}));
    let init = case.args(["sleep", "60"]).up()?;
    if v2_only() {
        ensure!(value(&init, "cpu", "", "cpu.max")? == "25000 50000", "cpu.max");
    } else {
        ensure!(value(&init, "cpu", "cpu.shares", "")? == "512", "shares");
        ensure!(value(&init, "cpu", "cpu.cfs_quota_us", "")? == "25000", "quota");
        ensure!(value(&init, "cpu", "cpu.cfs_period_us", "")? == "50000", "period");
    }
    case.delete()
}

fn cpuset(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/cpu", json!({"cpus": "0", "mems": "0"}));
    let init = case.args(["sleep", "60"]).up()?;
    ensure!(value(&init, "cpuset", "cpuset.cpus", "cpuset.cpus")? == "0", "cpus");
    ensure!(kernel::status(init.pid, "Cpus_allowed_list")? == "0", "the mask of the program");
    case.delete()
}

fn zero_is_unset(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/memory", json!({"limit": 0, "reservation": 0, "swap": 0}));
    case.set("/linux/resources/cpu", json!({"shares": 0, "quota": 0, "period": 0}));
    case.set("/linux/resources/blockIO", json!({"weight": 0}));
    let init = case.args(["sleep", "60"]).up()?;
    let limit = value(&init, "memory", "memory.limit_in_bytes", "memory.max")?;
    ensure!(limit == "max" || limit.len() > 15, "the limit is {limit}");
    case.delete()
}

/// mknod and open of two devices: one that is always allowed, and kmsg, which is not.
const PROBE: &str = "cat /dev/null && echo null; mknod /dev/kmsg2 c 1 11 && echo made; \
                     head -c 1 /dev/kmsg2 >/dev/null && echo kmsg";

fn probe(case: &mut Case) -> Result<String> {
    let caps = json!(["CAP_MKNOD", "CAP_SYSLOG", "CAP_SYS_ADMIN"]);
    for set in ["bounding", "effective", "permitted"] {
        case.set(&format!("/process/capabilities/{set}"), caps.clone());
    }
    Ok(case.script(PROBE).run()?.stdout)
}

fn devices_are_denied(case: &mut Case) -> Result<()> {
    // The implicit rules allow mknod of every device, as runc has it, but no use.
    let text = probe(case)?;
    ensure!(text.starts_with("null\n") && !text.contains("kmsg"), "it printed {text:?}");
    Ok(())
}

fn a_device_can_be_allowed(case: &mut Case) -> Result<()> {
    case.edit(|config| {
        let list = config["linux"]["resources"]["devices"].as_array_mut().expect("a list");
        list.push(json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm"}));
    });
    let text = probe(case)?;
    ensure!(text == "null\nmade\nkmsg\n", "it printed {text:?}");
    Ok(())
}

fn absent_resources_still_deny_devices(case: &mut Case) -> Result<()> {
    case.edit(|config| {
        config["linux"].as_object_mut().expect("an object").remove("resources");
    });
    let text = probe(case)?;
    ensure!(text.starts_with("null\n") && !text.contains("kmsg"), "it printed {text:?}");
    Ok(())
}

fn unified_values_are_written(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/unified", json!({"cgroup.max.descendants": "3"}));
    let init = case.args(["sleep", "60"]).up()?;
    let text = value(&init, "", "", "cgroup.max.descendants")?;
    ensure!(text == "3", "it is {text}");
    case.delete()?;
    case.set("/linux/resources/unified", json!({"nosuch.file": "3"}));
    case.run()?.refused()?.stderr_has("nosuch").map(drop)
}

fn v1_refuses_unified(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/unified", json!({"memory.high": "100000000"}));
    case.run()?.refused().map(drop)
}

fn groups_of_the_payload_are_removed(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let key = if v2_only() { "unified" } else { "pids" };
    let dir = kernel::cgroups(init.pid)?[key].clone();
    for below in ["a", "a/b", "a/b/c", "d"] {
        fs::create_dir(dir.join(below))?;
    }
    case.delete()?;
    ensure!(!dir.exists(), "{} is still there", dir.display());
    Ok(())
}

fn a_group_with_processes_is_refused(case: &mut Case) -> Result<()> {
    let path = format!("/{}", case.id);
    let first = case.set("/linux/cgroupsPath", json!(path)).args(["sleep", "60"]).up()?;
    let bundle = case.bundle();
    let second = format!("{}-b", case.id);
    case.verb(["create", "--bundle", &bundle.to_string_lossy(), &second])?.refused()?;
    ensure!(kernel::alive(first.pid), "the first was killed");
    let key = if v2_only() { "unified" } else { "pids" };
    ensure!(kernel::cgroups(first.pid)?[key].is_dir(), "the first lost its cgroup");
    case.delete()
}

/// One that the payload may write to: v2's where there is one, else that of a v1 hierarchy.
fn own(init: &Init, controller: &str) -> Result<PathBuf> {
    let dirs = kernel::cgroups(init.pid)?;
    Ok(dirs.get(controller).or(dirs.get("unified")).context("a cgroup")?.clone())
}

/// init is the host's pid 1's kin: only its cgroup holds the container together.
fn a_forking_payload_ends(case: &mut Case) -> Result<()> {
    case.without_namespace("pid");
    let script = "for n in 1 2 3 4; do (while :; do (sleep 100 & sleep 100 &) ; true | true; sleep 0.01; done) & done; \
                  echo up; while :; do wait; done";
    let init = case.script(script).up()?;
    init.wait_for("up")?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    kernel::eventually("every process ends", || kernel::processes_of(&case.id).is_empty())?;
    case.delete()
}

fn delete_ends_a_forking_payload(case: &mut Case) -> Result<()> {
    case.without_namespace("pid");
    let script =
        "for n in 1 2 3 4; do (while :; do (sleep 100 &); true | true; sleep 0.01; done) & done; echo up; sleep 100";
    let init = case.script(script).up()?;
    init.wait_for("up")?;
    // The rest of it outlives init.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(init.pid).context("a pid")?,
        rustix::process::Signal::KILL,
    )?;
    init.wait()?;
    case.verb(["delete", &case.id])?.ok()?;
    ensure!(kernel::processes_of(&case.id).is_empty(), "processes are left");
    Ok(())
}

/// More cgroups one below the other than hull may hold descriptors.
fn deeply_nested_groups_are_removed(case: &mut Case) -> Result<()> {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let init = case.args(["sleep", "60"]).up()?;
    let dir = own(&init, "pids")?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = open(&dir, flags, Mode::empty())?;
    for _ in 0..1100 {
        mkdirat(&at, "n", Mode::RWXU)?;
        at = openat(&at, "n", flags, Mode::empty())?;
    }
    drop(at);
    case.before = "ulimit -n 256".into();
    case.verb(["ps", "--format", "json", &case.id])?.ok()?.stdout_has(&init.pid.to_string())?;
    case.delete()?;
    ensure!(!dir.exists(), "{} is still there", dir.display());
    Ok(())
}

/// v1: what a payload froze in a cgroup of its own does not die of SIGKILL until it is thawed, and neither does init.
fn what_the_payload_froze_dies_too(case: &mut Case) -> Result<()> {
    let init = case.script("sleep 60 & echo up; wait").up()?;
    init.wait_for("up")?;
    let child = kernel::processes_when(&case.id, 2)?.into_iter().find(|&pid| pid != init.pid).context("a child")?;
    let dir = own(&init, "freezer")?.join("mine/deep");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("cgroup.procs"), child.to_string())?;
    let (file, value) =
        if dir.join("freezer.state").exists() { ("freezer.state", "FROZEN") } else { ("cgroup.freeze", "1") };
    fs::write(dir.join(file), value)?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    ensure!(init.wait()? == 137, "not killed");
    case.verb(["delete", &case.id])?.ok().map(drop)
}

fn delete_thaws_what_the_payload_froze(case: &mut Case) -> Result<()> {
    case.without_namespace("pid");
    let init = case.script("sleep 60 & echo up; wait").up()?;
    init.wait_for("up")?;
    let child = kernel::processes_when(&case.id, 2)?.into_iter().find(|&pid| pid != init.pid).context("a child")?;
    let dir = own(&init, "freezer")?.join("mine");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("cgroup.procs"), child.to_string())?;
    let (file, value) =
        if dir.join("freezer.state").exists() { ("freezer.state", "FROZEN") } else { ("cgroup.freeze", "1") };
    fs::write(dir.join(file), value)?;
    case.delete()
}

fn threaded_groups_of_the_payload(case: &mut Case) -> Result<()> {
    let init = case.script("sleep 60 & echo up; wait").up()?;
    init.wait_for("up")?;
    let child = kernel::processes_when(&case.id, 2)?.into_iter().find(|&pid| pid != init.pid).context("a child")?;
    let dir = kernel::cgroups(init.pid)?.get("unified").context("a v2 cgroup")?.clone();
    ensure!(dir.to_string_lossy().contains(&case.id), "it is in {}", dir.display());
    for name in ["t", "t/u"] {
        fs::create_dir(dir.join(name))?;
        fs::write(dir.join(name).join("cgroup.type"), "threaded")?;
    }
    fs::write(dir.join("t/u/cgroup.threads"), child.to_string())?;
    let text = case.verb(["ps", "--format", "json", &case.id])?.ok()?.stdout;
    let pids: Vec<i32> = serde_json::from_str(&text)?;
    ensure!(pids.contains(&child) && pids.contains(&init.pid) && pids.len() == 2, "{pids:?}");
    case.verb(["pause", &case.id])?.ok()?;
    case.verb(["resume", &case.id])?.ok()?;
    case.delete()?;
    ensure!(!dir.exists(), "{} is still there", dir.display());
    Ok(())
}

fn beneath_a_threaded_parent(case: &mut Case) -> Result<()> {
    let mount = if v2_only() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/unified" };
    let parent = Path::new(mount).join(format!("{}-parent", case.id));
    fs::create_dir_all(parent.join("t"))?;
    fs::write(parent.join("t/cgroup.type"), "threaded")?;
    let result = (|| {
        case.set("/linux/cgroupsPath", json!(format!("/{}-parent/t/c", case.id)));
        let init = case.script("sleep 60 & echo up; wait").up()?;
        init.wait_for("up")?;
        let dir = kernel::cgroups(init.pid)?["unified"].clone();
        ensure!(
            dir.ends_with("t/c") && kernel::read(dir.join("cgroup.type"))?.trim() == "threaded",
            "{}",
            dir.display()
        );
        let text = case.verb(["ps", "--format", "json", &case.id])?.ok()?.stdout;
        ensure!(serde_json::from_str::<Vec<i32>>(&text)?.len() == 2, "ps printed {text}");
        case.verb(["kill", "--all", &case.id, "KILL"])?.ok()?;
        ensure!(init.wait()? == 137, "not killed");
        case.delete()
    })();
    if result.is_err() {
        let _ = case.delete();
    }
    for dir in kernel::cgroups_named(&case.id) {
        fs::remove_dir(&dir).with_context(|| dir.display().to_string())?;
    }
    result
}

fn a_frozen_group_is_refused(case: &mut Case) -> Result<()> {
    let mount = if v2_only() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/freezer" };
    let dir = Path::new(mount).join(&case.id);
    fs::create_dir(&dir)?;
    let (file, on, off) = if v2_only() { ("cgroup.freeze", "1", "0") } else { ("freezer.state", "FROZEN", "THAWED") };
    fs::write(dir.join(file), on)?;
    let path = format!("/{}", case.id);
    let result =
        case.set("/linux/cgroupsPath", json!(path)).run().and_then(|output| output.refused()?.stderr_has("frozen"));
    fs::write(dir.join(file), off)?;
    fs::remove_dir(&dir)?;
    result.map(drop)
}

/// Engines read numbers of controllers that no limit asked for.
fn every_controller_is_enabled(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let dir = kernel::cgroups(init.pid)?["unified"].clone();
    let has = kernel::read(dir.join("cgroup.controllers"))?;
    let all = kernel::read("/sys/fs/cgroup/cgroup.controllers")?;
    ensure!(has == all, "it has {has:?} of {all:?}");
    case.delete()
}

fn the_programs_user_owns_a_delegated_group(case: &mut Case) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    case.user_namespace()?;
    case.edit(|config| {
        for mount in config["mounts"].as_array_mut().expect("a list") {
            if mount["type"] == "cgroup" {
                mount["options"] = json!(["nosuid", "noexec", "nodev", "relatime", "rw"]);
            }
        }
    });
    case.script("mkdir /sys/fs/cgroup/mine && echo 1 >/sys/fs/cgroup/mine/cgroup.procs && echo made; sleep 60");
    let init = case.up()?;
    init.wait_for("made")?;
    let dir = kernel::cgroups(init.pid)?["unified"].clone();
    ensure!(dir.ends_with("mine"), "it is in {}", dir.display());
    let dir = dir.parent().context("a parent")?;
    for (name, uid) in [("", 100_000), ("cgroup.procs", 100_000), ("cgroup.max.depth", 0)] {
        let have = fs::metadata(dir.join(name))?.uid();
        ensure!(have == uid, "{name:?} belongs to {have}");
    }
    case.delete()
}

fn an_empty_cpuset_on_the_way_is_filled(case: &mut Case) -> Result<()> {
    let parent = Path::new("/sys/fs/cgroup/cpuset").join(format!("{}-empty", case.id));
    fs::create_dir(&parent)?;
    let result = case
        .set("/linux/cgroupsPath", json!(format!("/{}-empty/c", case.id)))
        .args(["true"])
        .run()
        .and_then(|output| output.status(0));
    for dir in kernel::cgroups_named(&case.id) {
        fs::remove_dir(dir)?;
    }
    result.map(drop)
}

fn a_death_by_the_limit_is_said(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/memory", json!({"limit": 16_777_216}));
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=256m"]}));
    let output = case.args(["dd", "if=/dev/zero", "of=/mnt/big", "bs=1M", "count=200"]).run()?.status(137)?;
    output.stderr_has("killed by the memory limit")?;
    // One that is killed by hand is not.
    let output = case.script("kill -9 $$").run()?;
    ensure!(!output.stderr.contains("memory limit"), "it said {:?}", output.stderr);
    Ok(())
}

/// A payload that may write to its cgroups makes others without end, and fills them with processes.
fn a_payload_that_makes_groups_all_the_time(case: &mut Case) -> Result<()> {
    case.without_namespace("pid");
    case.edit(|config| {
        for mount in config["mounts"].as_array_mut().expect("a list") {
            if mount["type"] == "cgroup" {
                mount["options"] = json!(["nosuid", "noexec", "nodev", "relatime", "rw"]);
            }
        }
    });
    let script = "c=/sys/fs/cgroup; [ -d $c/pids ] && c=$c/pids; \
                  work() { i=0; while :; do i=$((i+1)); mkdir -p $c/$1$i/b/c; \
                  [ $i -lt 30 ] && (echo 0 >$c/$1$i/b/c/cgroup.procs; sleep 100) & done; }; \
                  work x & work y & while [ ! -d $c/x9/b/c ]; do sleep 0.1; done; echo made; wait";
    let init = case.script(script).up()?;
    init.wait_for("made")?;
    let text = case.verb(["ps", "--format", "json", &case.id])?.ok()?.stdout;
    ensure!(serde_json::from_str::<Vec<i32>>(&text)?.len() > 3, "ps printed {text}");
    case.delete()?;
    ensure!(kernel::processes_of(&case.id).is_empty(), "processes are left");
    Ok(())
}

fn v1_values_become_v2s(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/cpu", json!({"shares": 512, "quota": 25_000}));
    case.set("/linux/resources/memory", json!({"limit": 67_108_864, "swap": 100_663_296, "reservation": 33_554_432}));
    let init = case.args(["sleep", "60"]).up()?;
    for (file, wanted) in [
        ("cpu.weight", "59"),
        ("cpu.max", "25000 100000"),
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
    ] {
        let have = value(&init, "", "", file)?;
        ensure!(have == wanted, "{file} is {have}");
    }
    case.delete()?;
    case.set("/linux/resources/memory", json!({"limit": 67_108_864, "swap": 33_554_432}));
    case.run()?.refused()?.stderr_has("swap")?;
    case.set("/linux/resources/memory", json!({"swap": 33_554_432}));
    case.run()?.refused()?.stderr_has("swap").map(drop)
}

fn idle_and_burst(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/cpu", json!({"quota": 25_000, "period": 50_000, "burst": 10_000, "idle": 1}));
    let init = case.args(["sleep", "60"]).up()?;
    ensure!(value(&init, "cpu", "cpu.idle", "cpu.idle")? == "1", "idle");
    ensure!(value(&init, "cpu", "cpu.cfs_burst_us", "cpu.max.burst")? == "10000", "burst");
    if case.peer.is_none() {
        // The burst may not be above the quota: together they can go down in one update.
        case.verb(["update", "--cpu-quota", "5000", "--cpu-burst", "4000", "--cpu-idle", "0", &case.id])?.ok()?;
        ensure!(value(&init, "cpu", "cpu.idle", "cpu.idle")? == "0", "idle");
        ensure!(value(&init, "cpu", "cpu.cfs_burst_us", "cpu.max.burst")? == "4000", "burst");
    }
    case.delete()
}

/// A disk of the host (`Need::BlockIo`): `major:minor`, and both numbers.
fn disk() -> Result<(String, u32, u32)> {
    let disk = fs::read_dir("/sys/block")?.flatten().find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let virtual_one = ["loop", "ram", "zram"].iter().any(|kind| name.starts_with(kind));
        let number = fs::read_to_string(entry.path().join("dev")).ok()?;
        (!virtual_one).then(|| number.trim().to_owned())
    });
    let disk = disk.context("there is no disk")?;
    let (major, minor) = disk.split_once(':').context("a device number")?;
    let (major, minor) = (major.parse()?, minor.parse()?);
    Ok((disk, major, minor))
}

/// So many that a hook which did not wait for them would be there first.
fn create_container_hooks_find_the_limits(case: &mut Case) -> Result<()> {
    let (disk, major, minor) = disk()?;
    let rates: Vec<_> = (1..=10_000).map(|rate| json!({"major": major, "minor": minor, "rate": rate})).collect();
    let path = format!("/{}-limits", case.id);
    let found = case.dir.join("found");
    let script = format!("cat /sys/fs/cgroup/blkio{path}/blkio.throttle.read_bps_device >{}", found.display());
    case.set("/linux/resources/blockIO", json!({"throttleReadBpsDevice": rates}));
    case.set("/linux/cgroupsPath", json!(path));
    case.set("/hooks", json!({"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}));
    case.args(["sleep", "60"]).up()?;
    let found = kernel::read(&found)?;
    ensure!(found.trim() == format!("{disk} 10000"), "the hook found {found:?}");
    case.delete()
}

fn block_io_throttles(case: &mut Case) -> Result<()> {
    let (disk, major, minor) = disk()?;
    case.set(
        "/linux/resources/blockIO",
        json!({"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1_048_576}],
               "throttleWriteIOPSDevice": [{"major": major, "minor": minor, "rate": 77}]}),
    );
    let init = case.args(["sleep", "60"]).up()?;
    if v2_only() {
        let line = value(&init, "", "", "io.max")?;
        ensure!(
            line.starts_with(&disk) && line.contains("rbps=1048576") && line.contains("wiops=77"),
            "io.max is {line}"
        );
    } else {
        let line = value(&init, "blkio", "blkio.throttle.read_bps_device", "")?;
        ensure!(line == format!("{disk} 1048576"), "the rate is {line}");
        let line = value(&init, "blkio", "blkio.throttle.write_iops_device", "")?;
        ensure!(line == format!("{disk} 77"), "the rate is {line}");
    }
    case.delete()
}

fn huge_pages_and_their_reservations(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": 4_194_304}]));
    let init = case.args(["sleep", "60"]).up()?;
    let has = |v1, v2| value(&init, "hugetlb", v1, v2);
    ensure!(has("hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max")? == "4194304", "the limit");
    ensure!(has("hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.rsvd.max")? == "4194304", "the limit of reservations");
    case.delete()?;
    case.set("/linux/resources/hugepageLimits", json!([{"pageSize": "3MB", "limit": 4_194_304}]));
    case.run()?.refused()?.stderr_has("hugetlb.3MB").map(drop)
}

fn network_classes_and_priorities(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/network", json!({"classID": 1_048_577, "priorities": [{"name": "lo", "priority": 7}]}));
    let init = case.args(["sleep", "60"]).up()?;
    let class = value(&init, "net_cls", "net_cls.classid", "")?;
    ensure!(class == "1048577", "the class is {class}");
    let priorities = value(&init, "net_prio", "net_prio.ifpriomap", "")?;
    ensure!(priorities.lines().any(|line| line == "lo 7"), "the priorities are {priorities:?}");
    case.delete()
}

/// It is refused by the controller's name, but not the want of a limit: without the controller there is none.
fn a_limit_without_its_controller(case: &mut Case) -> Result<()> {
    let on_v2 = ["/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers"]
        .map(|file| fs::read_to_string(file).unwrap_or_default())
        .concat();
    let is_there = |controller: &str| {
        Path::new("/sys/fs/cgroup").join(controller).join("cgroup.procs").exists()
            || on_v2.split_whitespace().any(|have| have == controller)
    };
    let plain = case.args(["true"]).config.clone();
    let huge = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]});
    for (controller, only_v1, resources) in [
        ("memory", false, json!({"memory": {"limit": 50_000_000}})),
        ("pids", false, json!({"pids": {"limit": 50}})),
        ("cpuset", false, json!({"cpu": {"cpus": "0"}})),
        ("hugetlb", false, huge),
        ("rdma", false, json!({"rdma": {"nosuch0": {"hcaHandles": 2}}})),
        ("net_cls", true, json!({"network": {"classID": 5}})),
        ("net_prio", true, json!({"network": {"priorities": [{"name": "lo", "priority": 3}]}})),
    ] {
        if is_there(controller) || only_v1 && v2_only() {
            continue;
        }
        case.config = plain.clone();
        for (name, value) in resources.as_object().context("an object")? {
            case.set(&format!("/linux/resources/{name}"), value.clone());
        }
        case.run()?.refused()?.stderr_has(&format!("{controller} controller"))?.one_sentence()?;
    }
    case.config = plain;
    case.set("/linux/resources/memory", json!({"limit": -1, "swap": -1}))
        .set("/linux/resources/pids", json!({"limit": -1}));
    case.set("/linux/resources/cpu", json!({"quota": -1})).run()?.ok().map(drop)
}

/// Without such hardware the kernel knows no device, and says so of each name.
fn rdma_of_a_device_that_is_not_there(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/rdma", json!({"nosuch0": {"hcaHandles": 2, "hcaObjects": 20}}));
    case.args(["true"]).run()?.refused()?.stderr_has("rdma").map(drop)
}

fn unified_values_of_controllers(case: &mut Case) -> Result<()> {
    let values = [("memory.high", "50331648"), ("memory.oom.group", "1"), ("pids.max", "33")];
    case.set("/linux/resources/unified", json!(std::collections::BTreeMap::from(values)));
    let init = case.args(["sleep", "60"]).up()?;
    for (file, wanted) in values {
        let have = value(&init, "", "", file)?;
        ensure!(have == wanted, "{file} is {have}");
    }
    case.delete()
}

fn memory_without_a_killer(case: &mut Case) -> Result<()> {
    case.set("/linux/resources/memory", json!({"limit": 67_108_864, "swappiness": 10, "disableOOMKiller": true}));
    let init = case.args(["sleep", "60"]).up()?;
    ensure!(value(&init, "memory", "memory.swappiness", "")? == "10", "swappiness");
    ensure!(value(&init, "memory", "memory.oom_control", "")?.contains("oom_kill_disable 1"), "oom_control");
    case.delete()
}

/// The config denies all; what a container needs is allowed after it, and the list says nothing else.
fn v1_device_list(case: &mut Case) -> Result<()> {
    case.edit(|config| {
        let list = config["linux"]["resources"]["devices"].as_array_mut().expect("a list");
        list.push(json!({"allow": true, "type": "b", "major": 7, "minor": 3, "access": "rw"}));
        list.push(json!({"allow": true, "type": "b", "major": 7, "minor": 4, "access": "rw"}));
        list.push(json!({"allow": false, "type": "b", "major": 7, "minor": 4, "access": "w"}));
    });
    let init = case.args(["sleep", "60"]).up()?;
    let text = value(&init, "devices", "devices.list", "")?;
    let mut have: Vec<&str> = text.lines().collect();
    have.sort_unstable();
    let wanted = [
        "b *:* m",
        "b 7:3 rw",
        "b 7:4 r",
        "c *:* m",
        "c 10:200 rwm",
        "c 136:* rwm",
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 5:2 rwm",
    ];
    ensure!(have == wanted, "devices.list is {have:?}");
    case.delete()
}
