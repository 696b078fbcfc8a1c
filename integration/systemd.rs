//! The systemd driver: scopes as systemd itself and the kernel show them. Most cases need a systemd (hack/vm has one);
//! what happens without one is tested everywhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::harness::{Case, Init, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    let needs = |test: Test| test.requires(Need::Systemd);
    let root = |test: Test| test.requires(Need::Systemd).requires(Need::Root);
    let limited = |test: Test| needs(test).requires(Need::Controller("memory")).requires(Need::Controller("pids"));
    vec![
        needs(test("systemd/a_scope_holds_the_container", a_scope_holds_the_container)),
        needs(test("systemd/the_default_scope_names_the_container", the_default_scope_names_the_container))
            .requires(Need::Hull),
        needs(test("systemd/dashes_make_slices", dashes_make_slices)),
        needs(test("systemd/later_verbs_need_no_option", later_verbs_need_no_option)),
        limited(test("systemd/limits_are_properties_and_files", limits_are_properties_and_files)),
        limited(test("systemd/limits_survive_a_reload", limits_survive_a_reload)),
        limited(test("systemd/an_oom_killed_unit_makes_room", an_oom_killed_unit_makes_room)),
        needs(test("systemd/a_failed_unit_of_this_name_is_no_obstacle", a_failed_unit_of_this_name_is_no_obstacle)),
        limited(test("systemd/update_changes_both", update_changes_both)).requires(Need::Verb("update")),
        needs(test("systemd/a_unit_in_use_is_refused", a_unit_in_use_is_refused)),
        needs(test("systemd/a_failed_create_leaves_no_unit", a_failed_create_leaves_no_unit)),
        needs(test("systemd/what_init_said_is_the_reason", what_init_said_is_the_reason))
            .peer("*", "say it in other words"),
        needs(test("systemd/annotations_are_properties", annotations_are_properties))
            .peer("crun", "has other words for a wrong value"),
        needs(test("systemd/a_property_that_runs_programs_is_refused", a_property_that_runs_programs_is_refused))
            .requires(Need::Hull),
        needs(test("systemd/a_subgroup_of_the_scope", a_subgroup_of_the_scope)).peer("runc", "does not know it"),
        needs(test("systemd/it_stops_with_its_scope", it_stops_with_its_scope)),
        root(test("systemd/device_rules_survive_a_reload", device_rules_survive_a_reload)),
        root(test("systemd/more_device_rules", more_device_rules)),
        root(test("systemd/pause_and_resume", pause_and_resume)).requires(Need::Verb("pause")),
        test("systemd/without_a_bus", without_a_bus).requires(Need::Hull),
        test("systemd/a_path_of_the_other_driver_is_refused", a_path_of_the_other_driver_is_refused),
    ]
}

/// The case's unit, with `--systemd-cgroup` for the commands that follow.
fn unit(case: &mut Case) -> String {
    let slice = if is_root() { "system.slice" } else { "user.slice" };
    let path = format!("{slice}:hit:{}", case.id);
    case.globals = vec!["--systemd-cgroup".into()];
    case.set("/linux/cgroupsPath", json!(path)).args(["sleep", "60"]);
    format!("hit-{}.scope", case.id)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn systemctl(args: &[&str]) -> Result<String> {
    let mut command = Command::new("systemctl");
    if !is_root() {
        command.arg("--user");
    }
    let output = command.args(args).output().context("systemctl")?;
    ensure!(output.status.success(), "systemctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A property of a unit as systemd has it.
fn show(unit: &str, property: &str) -> Result<String> {
    systemctl(&["show", "--value", "-p", property, unit])
}

fn shows(unit: &str, properties: &[(&str, &str)]) -> Result<()> {
    for (name, wanted) in properties {
        let value = show(unit, name)?;
        ensure!(value == *wanted, "{name} of {unit} is {value:?}, not {wanted:?}");
    }
    Ok(())
}

fn is_gone(unit: &str) -> Result<()> {
    let state = show(unit, "LoadState")?;
    ensure!(state == "not-found", "{unit} is still {state}, {}", show(unit, "ActiveState")?);
    Ok(())
}

/// The cgroup of init.
fn cgroup(init: &Init) -> Result<PathBuf> {
    let dirs = kernel::cgroups(init.pid)?;
    dirs.get("unified").or_else(|| dirs.get("systemd")).cloned().context("a cgroup")
}

fn file(init: &Init, name: &str) -> Result<String> {
    Ok(kernel::read(cgroup(init)?.join(name))?.trim().to_owned())
}

fn a_scope_holds_the_container(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    let init = case.up()?;
    let dir = cgroup(&init)?;
    let slice = if is_root() { "system.slice" } else { "user.slice" };
    ensure!(dir.ends_with(format!("{slice}/{unit}")), "init is in {}", dir.display());
    let control = show(&unit, "ControlGroup")?;
    ensure!(dir == Path::new("/sys/fs/cgroup").join(control.trim_start_matches('/')), "systemd has {control}");
    shows(
        &unit,
        &[
            ("ActiveState", "active"),
            ("SubState", "running"),
            ("Slice", slice),
            ("Delegate", "yes"),
            ("DefaultDependencies", "no"),
            ("MemoryAccounting", "yes"),
            ("TasksAccounting", "yes"),
            ("Transient", "yes"),
        ],
    )?;
    if case.peer.is_none() {
        shows(&unit, &[("Description", &format!("hull container {}", case.id))])?;
    }
    ensure!(file(&init, "cgroup.procs")? == init.pid.to_string(), "others are in {}", dir.display());
    case.delete()?;
    ensure!(!dir.exists(), "{} is still there", dir.display());
    is_gone(&unit)
}

fn the_default_scope_names_the_container(case: &mut Case) -> Result<()> {
    case.globals = vec!["--systemd-cgroup".into()];
    let init = case.args(["sleep", "60"]).up()?;
    let dir = cgroup(&init)?;
    let slice = if is_root() { "system.slice" } else { "user.slice" };
    ensure!(dir.ends_with(format!("{slice}/hull-{}.scope", case.id)), "init is in {}", dir.display());
    // Inside, with a cgroup namespace, it is the root.
    let inside = kernel::read(format!("/proc/{}/root/proc/1/cgroup", init.pid)).unwrap_or_default();
    ensure!(inside.is_empty() || inside.contains(&case.id), "{inside:?}");
    case.delete()?;
    is_gone(&format!("hull-{}.scope", case.id))
}

fn dashes_make_slices(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    let name = case.id.replace('-', "");
    case.set("/linux/cgroupsPath", json!(format!("{name}-inner-most.slice:hit:{}", case.id)));
    let init = case.up()?;
    let dir = cgroup(&init)?;
    let wanted = format!("{name}.slice/{name}-inner.slice/{name}-inner-most.slice/{unit}");
    ensure!(dir.ends_with(&wanted), "init is in {}", dir.display());
    case.delete()?;
    is_gone(&unit)?;
    // Slices are not the container's own: as with cgroupfs, parents stay.
    systemctl(&["stop", &format!("{name}.slice")]).map(drop)
}

fn later_verbs_need_no_option(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    case.create()?;
    case.globals.clear();
    // As podman calls it: without the variables that lead to a bus.
    case.env = vec![("DBUS_SESSION_BUS_ADDRESS".into(), String::new()), ("XDG_RUNTIME_DIR".into(), String::new())];
    case.verb(["start", &case.id])?.ok()?;
    case.status_is("running")?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    kernel::eventually("it stops", || case.status_is("stopped").is_ok())?;
    case.verb(["delete", &case.id])?.ok()?;
    is_gone(&unit)
}

fn limits_are_properties_and_files(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    case.set(
        "/linux/resources",
        json!({
            "memory": {"limit": 67_108_864, "reservation": 33_554_432},
            "pids": {"limit": 77},
            "cpu": {"shares": 2048, "quota": 50_050, "period": 100_000}
        }),
    );
    let has_cpu = kernel::read("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|text| text.contains("cpu "));
    let init = case.up()?;
    shows(&unit, &[("MemoryMax", "67108864"), ("MemoryLow", "33554432"), ("TasksMax", "77")])?;
    // Rounded up to 10 ms for systemd, exact in the file.
    shows(&unit, &[("CPUQuotaPerSecUSec", "510ms"), ("CPUQuotaPeriodUSec", "100ms")])?;
    if case.peer.is_none() {
        ensure!(!has_cpu || file(&init, "cpu.max")? == "50050 100000", "cpu.max is {}", file(&init, "cpu.max")?);
    }
    let weight = show(&unit, "CPUWeight")?;
    ensure!(!has_cpu || file(&init, "cpu.weight")? == weight, "CPUWeight is {weight}");
    for (name, wanted) in [("memory.max", "67108864"), ("memory.low", "33554432"), ("pids.max", "77")] {
        ensure!(file(&init, name)? == wanted, "{name} is {}", file(&init, name)?);
    }
    case.delete()
}

fn limits_survive_a_reload(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    case.set("/linux/resources/memory", json!({"limit": 67_108_864}));
    case.set("/linux/resources/pids", json!({"limit": 78}));
    let init = case.up()?;
    systemctl(&["daemon-reload"])?;
    // Whatever systemd writes again is what the container was given.
    systemctl(&["set-property", "--runtime", &unit, "CPUWeight=50"])?;
    for (name, wanted) in [("memory.max", "67108864"), ("pids.max", "78")] {
        ensure!(file(&init, name)? == wanted, "{name} is {}", file(&init, name)?);
    }
    case.delete()?;
    is_gone(&unit)
}

fn an_oom_killed_unit_makes_room(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    case.set("/linux/resources/memory", json!({"limit": 16_777_216, "swap": 16_777_216}));
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=256m"]}));
    for _ in 0..2 {
        case.args(["dd", "if=/dev/zero", "of=/mnt/big", "bs=1M", "count=200"]).run()?.status(137)?;
        is_gone(&unit)?;
    }
    Ok(())
}

fn a_failed_unit_of_this_name_is_no_obstacle(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    let mut command = Command::new("systemd-run");
    if !is_root() {
        command.arg("--user");
    }
    command.args(["--scope", "--quiet", "-p", "RuntimeMaxSec=1", "--unit", &unit, "sleep", "20"]);
    command.status().context("systemd-run")?;
    shows(&unit, &[("ActiveState", "failed")])?;
    case.up()?;
    shows(&unit, &[("ActiveState", "active")])?;
    case.delete()?;
    is_gone(&unit)
}

fn update_changes_both(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    case.set("/linux/resources/memory", json!({"limit": 67_108_864}));
    let init = case.up()?;
    case.globals.clear();
    case.verb(["update", "--memory", "50M", "--pids-limit", "33", &case.id])?.ok()?;
    shows(&unit, &[("MemoryMax", "52428800"), ("TasksMax", "33")])?;
    systemctl(&["daemon-reload"])?;
    for (name, wanted) in [("memory.max", "52428800"), ("pids.max", "33")] {
        ensure!(file(&init, name)? == wanted, "{name} is {}", file(&init, name)?);
    }
    case.delete()
}

fn a_unit_in_use_is_refused(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    let init = case.up()?;
    let other = format!("{}-other", case.id);
    let bundle = case.bundle();
    let refused = case.verb(["create", "--bundle", &bundle.to_string_lossy(), &other])?.refused()?;
    if case.peer.is_none() {
        refused.stderr_has(&unit)?.one_sentence()?;
    }
    ensure!(kernel::alive(init.pid), "the first one was hurt");
    shows(&unit, &[("ActiveState", "active")])?;
    case.delete()?;
    is_gone(&unit)
}

fn a_failed_create_leaves_no_unit(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    case.args(["/bin/no-such-program"]).try_create(&[])?.refused()?;
    kernel::eventually("the unit goes", || is_gone(&unit).is_ok())?;
    // The name is free again.
    case.args(["sleep", "60"]).up()?;
    case.delete()
}

fn what_init_said_is_the_reason(case: &mut Case) -> Result<()> {
    // systemd takes a cgroup without processes away, while limits are still being set on it.
    let unit = unit(case);
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=banana"]}));
    for _ in 0..10 {
        case.try_create(&[])?.refused()?.stderr_has("banana")?.one_sentence()?;
        kernel::eventually("the unit goes", || is_gone(&unit).is_ok())?;
    }
    Ok(())
}

fn annotations_are_properties(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    case.set(
        "/annotations",
        json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.KillSignal": "int32 10",
            "org.systemd.property.After": "['dbus.service']"
        }),
    );
    case.up()?;
    shows(&unit, &[("TimeoutStopUSec", "7s"), ("CollectMode", "inactive-or-failed"), ("KillSignal", "10")])?;
    let after = show(&unit, "After")?;
    ensure!(after.split(' ').any(|name| name == "dbus.service"), "After is {after:?}");
    case.delete()
}

fn a_property_that_runs_programs_is_refused(case: &mut Case) -> Result<()> {
    unit(case);
    case.set("/annotations", json!({"org.systemd.property.ExecStopPost": "'touch /tmp/x'"}));
    case.try_create(&[])?.refused()?.stderr_has("/annotations/org.systemd.property.ExecStopPost")?.one_sentence()?;
    Ok(())
}

fn a_subgroup_of_the_scope(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    case.set("/annotations", json!({"run.oci.systemd.subgroup": "inner"}));
    case.set("/linux/resources/pids", json!({"limit": 55}));
    let init = case.up()?;
    let dir = cgroup(&init)?;
    ensure!(dir.ends_with(format!("{unit}/inner")), "init is in {}", dir.display());
    if case.peer.is_none() {
        ensure!(file(&init, "pids.max")? == "55", "pids.max is {}", file(&init, "pids.max")?);
    }
    case.delete()?;
    is_gone(&unit)
}

fn it_stops_with_its_scope(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    case.set("/annotations", json!({"org.systemd.property.TimeoutStopUSec": "uint64 200000"}));
    let init = case.up()?;
    // sleep as process 1 ignores SIGTERM, so systemd kills it after its patience.
    systemctl(&["stop", &unit])?;
    kernel::eventually("init dies", || !kernel::alive(init.pid))?;
    case.status_is("stopped")?;
    case.verb(["delete", &case.id])?.ok()?;
    is_gone(&unit)
}

fn device_rules_survive_a_reload(case: &mut Case) -> Result<()> {
    let unit = unit(case);
    let script = "while :; do if (: </dev/kmsg) 2>/dev/null; then echo open; else echo denied; fi; sleep 0.1; done";
    case.script(&format!("mknod /dev/kmsg c 1 11; {script}"));
    let caps = json!(["CAP_MKNOD", "CAP_KILL"]);
    case.set("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}));
    let init = case.up()?;
    shows(&unit, &[("DevicePolicy", "strict")])?;
    let allowed = show(&unit, "DeviceAllow")?;
    ensure!(allowed.contains("char-pts rwm"), "DeviceAllow is {allowed:?}");
    init.wait_for("denied")?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["set-property", "--runtime", &unit, "CPUWeight=50"])?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(!init.output()?.contains("open"), "/dev/kmsg could be opened");
    case.delete()
}

fn more_device_rules(case: &mut Case) -> Result<()> {
    for rules in [
        // What systemd can say, and what only hull's own program can: each must come out right.
        json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]),
        json!([{"allow": true, "access": "rwm"}, {"allow": false, "type": "c", "major": 10, "access": "rwm"}]),
    ] {
        unit(case);
        case.set("/linux/resources/devices", rules);
        let caps = json!(["CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_SYSLOG"]);
        case.set("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}));
        case.script(
            "mknod /dev/kmsg c 1 11; mknod /dev/port c 10 237; (: </dev/kmsg) && echo kmsg; (: </dev/port) || echo denied",
        );
        let output = case.run()?.ok()?;
        ensure!(output.stdout == "kmsg\ndenied\n", "it printed {:?}, {:?}", output.stdout, output.stderr);
    }
    Ok(())
}

fn pause_and_resume(case: &mut Case) -> Result<()> {
    unit(case);
    let init = case.up()?;
    case.globals.clear();
    case.verb(["pause", &case.id])?.ok()?;
    case.status_is("paused")?;
    ensure!(file(&init, "cgroup.freeze")? == "1", "it is not frozen");
    case.verb(["resume", &case.id])?.ok()?;
    case.status_is("running")?;
    case.delete()
}

fn without_a_bus(case: &mut Case) -> Result<()> {
    unit(case);
    let nowhere = format!("unix:path={}/no-bus", case.dir.display());
    case.env =
        vec![("DBUS_SYSTEM_BUS_ADDRESS".into(), nowhere.clone()), ("DBUS_SESSION_BUS_ADDRESS".into(), nowhere.clone())];
    let refused = case.try_create(&[])?.refused()?.one_sentence()?;
    ensure!(refused.took < Duration::from_secs(10), "it took {:?}", refused.took);
    let refused = refused.stderr_has(&nowhere)?.stderr_has("systemd not running on this host")?;
    // Engines take these words for a program that is missing in the container.
    ensure!(!refused.stderr.contains("no such file or directory"), "it said {:?}", refused.stderr);
    Ok(())
}

fn a_path_of_the_other_driver_is_refused(case: &mut Case) -> Result<()> {
    unit(case);
    case.set("/linux/cgroupsPath", json!(format!("x/{}", case.id)));
    let refused = case.try_create(&[])?.refused()?;
    if case.peer.is_none() {
        refused.stderr_has("/linux/cgroupsPath")?.stderr_has("slice:prefix:name")?;
    }
    Ok(())
}
