//! `hull check` says before a create what it would run into, and `hull doctor` what the host lacks.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("check/every_problem_at_once", every_problem_at_once),
        test("check/each_slip_has_its_place_and_what_was_meant", each_slip_has_its_place),
        test("check/nothing_wrong_is_status_0", nothing_wrong_is_status_0),
        test("check/warnings_only_are_status_1_and_create_logs_them", warnings_only),
        test("check/what_it_refuses_run_refuses_too", what_it_refuses_run_refuses_too),
        test("check/what_this_host_does_not_have", what_this_host_does_not_have),
        test("check/ids_without_a_grant", ids_without_a_grant).requires(Need::Rootless),
        test("check/a_cgroup_with_processes", a_cgroup_with_processes).requires(Need::Root),
        test("check/a_systemd_that_is_not_there", a_systemd_that_is_not_there).requires(Need::Root),
        test("check/an_unreadable_bundle", an_unreadable_bundle),
        test("doctor/looks_at_this_host", looks_at_this_host).requires(Need::NoFilter),
        test("doctor/a_limit_of_0_is_found_with_its_cure", a_limit_of_0_is_found).requires(Need::Tool("unshare")),
    ]
    .into_iter()
    .map(|test| test.requires(Need::Hull))
    .collect()
}

/// Status, and the report of `check --format json`.
fn check(case: &Case) -> Result<(i32, Value)> {
    case.write_config()?;
    let bundle = case.bundle();
    let output = case.verb(["check", "--format", "json", "--bundle", &bundle.to_string_lossy()])?;
    let report = serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
    let left = case.leftovers();
    ensure!(left.is_empty(), "check left behind {left:?}");
    Ok((output.status, report))
}

/// The pointers of the errors, or of the warnings.
fn pointers(report: &Value, severity: &str) -> Vec<String> {
    let problems = report["problems"].as_array().into_iter().flatten();
    let of = problems.filter(|problem| problem["severity"] == severity);
    of.filter_map(|problem| problem["pointer"].as_str().map(str::to_owned)).collect()
}

fn every_problem_at_once(case: &mut Case) -> Result<()> {
    case.edit(|config| {
        config["ociVersion"] = json!("9.0.0");
        config["process"]["cwd"] = json!("here");
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}, {"type": "RLIMIT_X"}]);
        config["process"]["user"]["uid"] = json!("root");
        config["mounts"][0]["destination"] = json!("/");
        config["mounts"][5]["options"] = json!(7);
        config["linux"]["maskedPaths"][3] = json!("relative");
        config["linux"]["sysctl"] = json!({"vm.swappiness": "1", "kernel.nonsense/..": "1"});
        config["linux"]["seccomp"] =
            json!({"defaultAction": "SCMP_ACT_ALOW", "syscalls": [{"names": ["read"], "action": "x"}]});
    });
    let (status, report) = check(case)?;
    let mut found = pointers(&report, "error");
    found.sort();
    let wanted = [
        "/linux/maskedPaths/3",
        "/linux/seccomp/defaultAction",
        "/linux/seccomp/syscalls/0/action",
        "/linux/sysctl/kernel.nonsense~1..",
        "/linux/sysctl/vm.swappiness",
        "/mounts/0/destination",
        "/mounts/5/options",
        "/ociVersion",
        "/process/cwd",
        "/process/rlimits/0/soft",
        // Its name is near to one that there is, as which it is looked at.
        "/process/rlimits/1/soft",
        "/process/rlimits/1/type",
        "/process/user/uid",
    ];
    ensure!(status == 2 && found == wanted, "status {status}: {found:#?}");
    ensure!(report["errors"] == wanted.len(), "{report}");
    // create says the first of them only.
    case.run()?.refused()?.one_sentence()?;
    Ok(())
}

/// What people write by mistake, one at a time: the pointer, and the name or the rule that helps. + is the index of the
/// mount that was added.
fn each_slip_has_its_place(case: &mut Case) -> Result<()> {
    let tmpfs = |options: Value| json!({"destination": "/mnt", "type": "tmpfs", "source": "t", "options": options});
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let limit = |kind: &str| json!([{"type": kind, "soft": 1, "hard": 1}]);
    let table = [
        ("/hostnme", json!("x"), "/hostnme", "\"hostname\""),
        ("/process/noNewPriviledges", json!(true), "/process/noNewPriviledges", "\"noNewPrivileges\""),
        ("/linux/MaskedPaths", json!([]), "/linux/MaskedPaths", "taken as \"maskedPaths\""),
        ("/linux/resources/memory", json!({"limt": 5}), "/linux/resources/memory/limt", "\"limit\""),
        ("/linux/resources/pid", json!({"limit": 5}), "/linux/resources/pid", "\"pids\""),
        ("/process/consoleSize", json!({"heigth": 1, "width": 1}), "/process/consoleSize/heigth", "\"height\""),
        ("/hooks", json!({"poststopp": []}), "/hooks/poststopp", "\"poststop\""),
        (
            "/process/capabilities/bounding",
            json!(["CAP_SYS_ADMN"]),
            "/process/capabilities/bounding/0",
            "CAP_SYS_ADMIN",
        ),
        ("/process/capabilities/bounding", json!(["KILL"]), "/process/capabilities/bounding/0", "CAP_KILL"),
        ("/capabilities", json!({}), "/capabilities", "it belongs in /process"),
        ("/linux/rlimits", json!([]), "/linux/rlimits", "it belongs in /process"),
        ("/process/additionalGids", json!([]), "/process/additionalGids", "it belongs in /process/user"),
        ("/process/rlimits", limit("RLIMIT_NOFLE"), "/process/rlimits/0/type", "RLIMIT_NOFILE"),
        ("/process/rlimits", limit("nofile"), "/process/rlimits/0/type", "RLIMIT_NOFILE"),
        ("/process/scheduler", json!({"policy": "BATCH"}), "/process/scheduler/policy", "SCHED_BATCH"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BR"}), "/process/ioPriority/class", "IOPRIO_CLASS_BE"),
        ("/process/user/uid", json!(4_294_967_295_u32), "/process/user/uid", "no id"),
        ("/process/env", json!(["A"]), "/process/env/0", "NAME=VALUE"),
        ("/process/args", json!("sh -c ls"), "/process/args", "expected an array"),
        ("/linux/namespaces/0", json!({"type": "net"}), "/linux/namespaces/0/type", "\"network\""),
        ("/linux/namespaces/0", json!({"type": "mnt"}), "/linux/namespaces/0/type", "\"mount\""),
        ("/linux/rootfsPropagation", json!("shard"), "/linux/rootfsPropagation", "shared"),
        ("/linux/personality", json!({"domain": "linux32"}), "/linux/personality/domain", "\"LINUX32\""),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "char"}]), "/linux/devices/0/type", "c, b, u and p"),
        ("/linux/resources/cpu", json!({"period": 10}), "/linux/resources/cpu/period", "at least 1000"),
        ("/linux/resources/cpu", json!({"cpus": "0-"}), "/linux/resources/cpu/cpus", "0-3,7"),
        ("/linux/resources/memory", json!({"limit": 9, "swap": 8}), "/linux/resources/memory/swap", "memory limit"),
        ("/linux/seccomp", json!({"defaultAction": "ALLOW"}), "/linux/seccomp/defaultAction", "\"SCMP_ACT_ALLOW\""),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86_64"]}),
            "/linux/seccomp/architectures/0",
            "\"SCMP_ARCH_X86_64\"",
        ),
        (
            "/linux/seccomp",
            rule(json!({"names": ["mkdir", "opennat"], "action": "SCMP_ACT_ERRNO"})),
            "/linux/seccomp/syscalls/0/names/1",
            "\"openat\"",
        ),
        (
            "/linux/seccomp",
            rule(
                json!({"names": ["mkdir"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 1, "op": "EQ"}]}),
            ),
            "/linux/seccomp/syscalls/0/args/0/op",
            "\"SCMP_CMP_EQ\"",
        ),
        ("/mounts", tmpfs(json!(["size=1m", "noexce"])), "/mounts/+/options/1", "\"noexec\""),
        ("/mounts", tmpfs(json!(["sise=1m,mode=700"])), "/mounts/+/options/0", "\"size\""),
        ("/mounts", tmpfs(json!("ro")), "/mounts/+/options", "expected an array"),
        ("/mounts", json!({"destination": "/mnt", "type": "tmpf", "source": "t"}), "/mounts/+/type", "\"tmpfs\""),
        (
            "/mounts",
            json!({"destination": "/mnt", "source": "/etc", "options": ["rbind", "rpriv"]}),
            "/mounts/+/options/1",
            "\"rprivate\"",
        ),
    ];
    let good = case.config.clone();
    let next = good["mounts"].as_array().map_or(0, Vec::len).to_string();
    for (place, value, pointer, word) in table {
        let what = format!("{place} = {value}");
        case.config = good.clone();
        match place {
            "/mounts" => case.mount(value),
            place => case.set(place, value),
        };
        let pointer = pointer.replace('+', &next);
        let (status, report) = check(case)?;
        let text = |problem: &Value| format!("{} {}", problem["message"], problem["hint"]).replace("\\\"", "\"");
        let mut problems = report["problems"].as_array().into_iter().flatten();
        let named = problems.any(|problem| problem["pointer"] == *pointer && text(problem).contains(word));
        ensure!(status != 0 && named, "{what}: status {status}, {report}");
    }
    Ok(())
}

fn nothing_wrong_is_status_0(case: &mut Case) -> Result<()> {
    let (status, report) = check(case)?;
    ensure!(status == 0 && report["problems"] == json!([]), "status {status}: {report}");
    case.run()?.ok().map(drop)
}

fn warnings_only(case: &mut Case) -> Result<()> {
    case.edit(|config| {
        config["process"]["noNewPrivilege"] = json!(true);
        config["linux"]["Seccmp"] = json!({});
    });
    let (status, report) = check(case)?;
    let found = pointers(&report, "warning");
    ensure!(status == 1 && found == ["/linux/Seccmp", "/process/noNewPrivilege"], "status {status}: {report}");
    let text = case.verb(["check", "--bundle", &case.bundle().to_string_lossy()])?.status(1)?.stdout;
    ensure!(text.contains("warning: /process/noNewPrivilege: unknown property"), "{text}");
    ensure!(text.contains("did you mean \"noNewPrivileges\"?") && text.ends_with("0 errors, 2 warnings\n"), "{text}");
    let log = case.dir.join("log");
    let (path, bundle) = (log.to_string_lossy().into_owned(), case.bundle().to_string_lossy().into_owned());
    case.verb(["--log", &path, "run", "--bundle", &bundle, &case.id])?.ok()?;
    let logged = kernel::read(&log)?;
    // Where a filter has hull begin again from a copy in memory, it says it once more.
    let times = if case.denied.is_some() { 1..=2 } else { 1..=1 };
    ensure!(times.contains(&logged.matches("/process/noNewPrivilege: unknown").count()), "the log has {logged:?}");
    Ok(())
}

/// Each by itself: the check names the place, and run fails. What this host lacks is found without doing anything.
fn what_it_refuses_run_refuses_too(case: &mut Case) -> Result<()> {
    let file = case.dir.join("file");
    fs::write(&file, "")?;
    let bind = |source: &str, destination: &str| json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]});
    fs::write(case.rootfs().join("bin/script"), "#!/nosuch/interpreter\n")?;
    fs::write(case.rootfs().join("bin/plain"), "#!/bin/sh\n")?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(case.rootfs().join("bin/script"), mode)?;
    let next = case.config["mounts"].as_array().map_or(0, Vec::len);
    let agent = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nosuch/agent",
                       "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}]});
    let table = [
        ("/root/path", json!("nosuch"), "/root/path"),
        ("/process/args", json!(["nosuch"]), "/process/args/0"),
        ("/process/args", json!(["/bin/nosuch"]), "/process/args/0"),
        ("/process/args", json!(["/etc"]), "/process/args/0"),
        ("/process/args", json!(["/bin/plain"]), "/process/args/0"),
        ("/process/args", json!(["/bin/script"]), "/process/args/0"),
        ("/process/args", json!(["bin/../etc/passwd"]), "/process/args/0"),
        ("/process/cwd", json!("/etc/passwd"), "/process/cwd"),
        ("/mounts", bind("/nosuch/source", "/mnt"), "/mounts/N/source"),
        ("/mounts", bind(&file.to_string_lossy(), "/mnt"), "/mounts/N/destination"),
        ("/mounts", bind("/etc", "/etc/passwd"), "/mounts/N/destination"),
        ("/mounts", bind("/etc", "/etc/passwd/below"), "/mounts/N/destination"),
        ("/mounts", json!({"destination": "/mnt", "type": "nosuchfs", "source": "x"}), "/mounts/N/type"),
        ("/hooks/createRuntime", json!([{"path": "/nosuch/hook"}]), "/hooks/createRuntime/0/path"),
        ("/hooks/startContainer", json!([{"path": "/nosuch/hook"}]), "/hooks/startContainer/0/path"),
        ("/linux/seccomp", agent, "/linux/seccomp/listenerPath"),
        ("/linux/namespaces/0", json!({"type": "pid", "path": "/nosuch/ns"}), "/linux/namespaces/0"),
        ("/linux/namespaces/0", json!({"type": "pid", "path": "/proc/self/ns/uts"}), "/linux/namespaces/0"),
        ("/linux/namespaces/0", json!({"type": "pid", "path": "/etc/passwd"}), "/linux/namespaces/0"),
    ];
    let good = case.config.clone();
    for (place, value, pointer) in table {
        let what = format!("{place} = {value}");
        case.config = good.clone();
        match place {
            "/mounts" => case.mount(value),
            place => case.set(place, value),
        };
        let pointer = pointer.replace('N', &next.to_string());
        let (status, report) = check(case)?;
        let named = report["problems"].as_array().into_iter().flatten().any(|problem| problem["pointer"] == *pointer);
        ensure!(status != 0 && named, "{what}: status {status}, {report}");
        ensure!(report["problems"].as_array().is_some_and(|list| list.len() == 1), "{what}: {report}");
        ensure!(report["problems"][0]["against"] == "host", "{what}: {report}");
        let output = case.run()?;
        ensure!(output.status != 0, "{what}: run takes it; check said {report}");
        case.verb(["delete", "--force", &case.id])?.ok()?;
    }
    case.config = good;
    // What lies in a mount is looked for there, and what may lie in one is not complained of.
    let outside = case.dir.join("outside");
    fs::create_dir(&outside)?;
    fs::copy(case.rootfs().join("bin/busybox"), outside.join("true"))?;
    case.mount(bind(&outside.to_string_lossy(), "/mnt")).args(["/mnt/true"]);
    let (status, report) = check(case)?;
    ensure!(status == 0, "{report}");
    case.run()?.ok()?;
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "t", "options": ["size=4k"]}));
    let (status, report) = check(case)?;
    ensure!(status == 0, "{report}");
    Ok(())
}

/// What depends on the machine: each lack is named, and run fails by it too.
fn what_this_host_does_not_have(case: &mut Case) -> Result<()> {
    let has = |path: &str| std::path::Path::new(path).exists();
    let apparmor =
        fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
    let root = rustix::process::geteuid().is_root();
    let v2_only = has("/sys/fs/cgroup/cgroup.controllers");
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let memory = controllers.split_whitespace().any(|name| name == "memory");
    let permitted = u64::from_str_radix(&kernel::status(std::process::id() as i32, "CapPrm")?, 16)?;
    let may_raise = permitted & 1 << 24 != 0;
    let table = [
        ("/process/apparmorProfile", json!("nosuch-profile"), "/process/apparmorProfile", !apparmor),
        ("/process/selinuxLabel", json!("a_u:a_r:a_t:s0"), "/process/selinuxLabel", !has("/sys/fs/selinux/enforce")),
        ("/linux/netDevices", json!({"nosuch0": {}}), "/linux/netDevices/nosuch0", root),
        ("/linux/intelRdt", json!({"closID": "x"}), "/linux/intelRdt", !has("/sys/fs/resctrl/schemata")),
        ("/linux/resources/memory", json!({"limit": 1 << 24}), "/linux/resources/memory/limit", v2_only && !memory),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 600, "hard": 1024}]),
            "/process/rlimits/0/hard",
            !may_raise,
        ),
    ];
    let good = case.config.clone();
    for (place, value, pointer, lacking) in table {
        if !lacking {
            continue;
        }
        case.config = good.clone();
        case.set("/process/rlimits", json!([])).set(place, value.clone());
        case.before = "ulimit -n 512".into();
        let (status, report) = check(case)?;
        let found = pointers(&report, "error");
        ensure!(status == 2 && found == [pointer], "{place} = {value}: status {status}, {report}");
        case.run()?.refused().with_context(|| format!("{place} = {value}, check said {report}"))?;
    }
    Ok(())
}

fn ids_without_a_grant(case: &mut Case) -> Result<()> {
    case.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 3_000_000_000_u32, "size": 5}]));
    let (status, report) = check(case)?;
    ensure!(status == 2 && pointers(&report, "error").contains(&"/linux/uidMappings/0".to_owned()), "{report}");
    case.run()?.refused().map(drop)
}

fn a_cgroup_with_processes(case: &mut Case) -> Result<()> {
    case.set("/linux/cgroupsPath", json!(format!("/{}", case.id))).args(["sleep", "60"]);
    let init = case.up()?;
    let (bundle, other) = (case.bundle().to_string_lossy().into_owned(), format!("{}-2", case.id));
    let output = case.verb(["check", "--format", "json", "--bundle", &bundle])?;
    let report: Value = serde_json::from_str(&output.stdout)?;
    let refused = case.verb(["run", "--bundle", &bundle, &other])?;
    case.delete()?;
    ensure!(!kernel::alive(init.pid), "init is alive");
    ensure!(output.status == 2 && pointers(&report, "error").contains(&"/linux/cgroupsPath".to_owned()), "{report}");
    refused.refused().map(drop)
}

/// With the systemd driver what counts is whether systemd answers.
fn a_systemd_that_is_not_there(case: &mut Case) -> Result<()> {
    case.set("/linux/cgroupsPath", json!(format!("system.slice:hull:{}", case.id))).write_config()?;
    case.env.push(("DBUS_SYSTEM_BUS_ADDRESS".into(), "unix:path=/nosuch/bus".into()));
    let bundle = case.bundle().to_string_lossy().into_owned();
    let output = case.verb(["--systemd-cgroup", "check", "--format", "json", "--bundle", &bundle])?.status(2)?;
    let report: Value = serde_json::from_str(&output.stdout)?;
    ensure!(pointers(&report, "error") == ["/linux/cgroupsPath"], "{report}");
    ensure!(output.stdout.contains("/nosuch/bus"), "{report}");
    case.verb(["--systemd-cgroup", "run", "--bundle", &bundle, &case.id])?.refused().map(drop)
}

fn an_unreadable_bundle(case: &mut Case) -> Result<()> {
    let bundle = case.bundle().to_string_lossy().into_owned();
    case.verb(["check", "--bundle", &bundle])?.status(2)?.stdout_has("no such file or directory (ENOENT)")?;
    fs::write(case.bundle().join("config.json"), "{\"ociVersion\": ")?;
    case.verb(["check", "--bundle", &bundle])?.status(2)?.stdout_has("EOF while parsing a value at line 1")?;
    fs::write(case.bundle().join("config.json"), "{\"root\": \"\\ud800\"}")?;
    case.verb(["check", "--bundle", &bundle])?.status(2)?;
    Ok(())
}

fn findings(text: &str) -> Result<Vec<Value>> {
    let report: Value = serde_json::from_str(text).with_context(|| text.to_owned())?;
    Ok(report["findings"].as_array().context("findings are a list")?.clone())
}

/// What doctor says of this host is what the kernel shows.
fn looks_at_this_host(case: &mut Case) -> Result<()> {
    let output = case.verb(["doctor", "--format", "json"])?;
    ensure!(matches!(output.status, 0 | 1), "this host runs the suite, and doctor gives status {}", output.status);
    let findings = findings(&output.stdout)?;
    let status = |area: &str, name: &str| {
        let found = findings.iter().find(|finding| finding["area"] == area && finding["name"] == name);
        found.map(|finding| finding["status"].clone()).with_context(|| format!("nothing on {area}: {name}"))
    };
    ensure!(status("namespaces", "mount")? == "ok" && status("kernel", "clone3")? == "ok", "{findings:?}");
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    ensure!((status("cgroups", "version")? == "ok") == v2, "{findings:?}");
    let installed = ["/usr/bin", "/bin"].iter().any(|dir| std::path::Path::new(dir).join("newuidmap").exists());
    ensure!((status("ids", "newuidmap")? == "ok") == installed, "{findings:?}");
    let apparmor =
        fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
    ensure!((status("security", "AppArmor")? == "ok") == apparmor, "{findings:?}");
    for finding in &findings {
        let bad = finding["status"] == "lacking" || finding["status"] == "missing";
        ensure!(!bad || finding["cure"].is_string(), "{finding} has no cure");
    }
    let text = case.verb(["doctor"])?.stdout;
    ensure!(text.lines().count() == findings.len() + 1, "{text}");
    Ok(())
}

/// In a user namespace of its own the limit can be set without harm to anyone.
fn a_limit_of_0_is_found(case: &mut Case) -> Result<()> {
    let inside = "echo 0 > /proc/sys/user/max_uts_namespaces && exec \"$@\"";
    case.before = format!("exec unshare --user --map-root-user sh -c '{inside}' sh \"$@\"");
    let output = case.verb(["doctor", "--format", "json"])?.status(1)?;
    let findings = findings(&output.stdout)?;
    let uts = findings.iter().find(|finding| finding["area"] == "namespaces" && finding["name"] == "uts");
    let uts = uts.context("nothing on uts namespaces")?;
    ensure!(uts["status"] == "lacking" && uts["detail"].as_str().is_some_and(|text| text.contains("ENOSPC")), "{uts}");
    ensure!(uts["cure"].as_str().is_some_and(|cure| cure.contains("max_uts_namespaces")), "{uts}");
    let ipc = findings.iter().find(|finding| finding["area"] == "namespaces" && finding["name"] == "ipc");
    ensure!(ipc.is_some_and(|finding| finding["status"] == "ok"), "{ipc:?}");
    Ok(())
}
