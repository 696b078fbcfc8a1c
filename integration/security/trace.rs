//! What enters a namespace that others are in, or one that another's ids own, cannot be traced or looked into by them: every
//! way in which init comes to life, exec, and what stands beside them, against every place from which a neighbour can look.
//! Without a user namespace there is nothing to see: the kernel lets nobody trace what has more capabilities than he, unless he has
//! CAP_SYS_PTRACE: what he takes then must hold nothing of the host's.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{ATTACKS, attacker, capabilities, escaped, rounds, second, share};
use crate::harness::{Case, Init, Need, Test, reap_orphans, test};

/// What the second container joins of the neighbour's.
const USER: &[&str] = &["user"];
const PID: &[&str] = &["pid"];
const BOTH: &[&str] = &["user", "pid"];
const NOTHING: &[&str] = &[];

pub fn cases() -> Vec<Test> {
    use Neighbour::{Above, Beside, Owner, OwnerBeside};
    let cell = |name, body| test(name, body).requires(Need::Root).requires(Need::Tool("gcc"));
    let exec = |name, body| cell(name, body).requires(Need::Verb("exec"));
    // A copy in memory, which hull runs from without these calls, is no file that the neighbour could tell by its number.
    let copies = |test: Test| test.requires(Need::Call("open_tree")).requires(Need::Call("mount_setattr"));
    let tools = |name, body| copies(exec(name, body)).requires(Need::Call("move_mount")).requires(Need::Hull);
    vec![
        // In the user namespace that is joined; in the runtime's pid namespace.
        cell("security/trace/in_the_user_namespace/a_new_pid_namespace", |case| created(case, Above, USER, plain)),
        cell("security/trace/in_the_user_namespace/a_joined_pid_namespace", |case| {
            created(case, Above, BOTH, bound_proc)
        }),
        cell("security/trace/in_the_user_namespace/no_pid_namespace", |case| created(case, Above, USER, in_the_parent)),
        cell("security/trace/in_the_user_namespace/clock_offsets", |case| created(case, Above, USER, clock_offsets)),
        cell("security/trace/in_the_user_namespace/hooks", |case| created(case, Above, USER, hooks)),
        copies(cell("security/trace/in_the_user_namespace/idmapped_mounts", |case| {
            created(case, Above, USER, idmapped)
        })),
        exec("security/trace/in_the_user_namespace/exec", |case| executed(case, Above, USER, false)),
        tools("security/trace/in_the_user_namespace/exec_with_tools", |case| executed(case, Above, USER, true)),
        exec("security/trace/in_the_user_namespace/exec_into_the_neighbour", |case| executed_beside(case, Above)),
        // The same, and in the pid namespace that is joined.
        cell("security/trace/in_the_pid_namespace/both_joined", |case| created(case, Beside, BOTH, plain)),
        cell("security/trace/in_the_pid_namespace/a_new_user_namespace", |case| {
            created(case, OwnerBeside, PID, bound_proc)
        }),
        cell("security/trace/in_the_pid_namespace/clock_offsets", |case| created(case, Beside, BOTH, clock_offsets)),
        cell("security/trace/in_the_pid_namespace/hooks", |case| created(case, Beside, BOTH, hooks)),
        copies(cell("security/trace/in_the_pid_namespace/idmapped_mounts", |case| {
            created(case, Beside, BOTH, idmapped)
        })),
        exec("security/trace/in_the_pid_namespace/exec", |case| executed(case, Beside, BOTH, false)),
        tools("security/trace/in_the_pid_namespace/exec_with_tools", |case| executed(case, Beside, BOTH, true)),
        exec("security/trace/in_the_pid_namespace/exec_into_the_neighbour", |case| executed_beside(case, Beside)),
        // In the runtime's user and pid namespaces, with the ids that own what it makes, and no capability.
        cell("security/trace/in_the_parent/new_namespaces", |case| created(case, Owner, NOTHING, plain)),
        cell("security/trace/in_the_parent/a_joined_pid_namespace", |case| created(case, Owner, PID, bound_proc)),
        cell("security/trace/in_the_parent/clock_offsets", |case| created(case, Owner, NOTHING, clock_offsets)),
        cell("security/trace/in_the_parent/hooks", |case| created(case, Owner, NOTHING, hooks)),
        copies(cell("security/trace/in_the_parent/idmapped_mounts", |case| created(case, Owner, NOTHING, idmapped))),
        exec("security/trace/in_the_parent/exec", |case| executed(case, Owner, NOTHING, false)),
        tools("security/trace/in_the_parent/exec_with_tools", |case| executed(case, Owner, NOTHING, true)),
        // In the container, with CAP_SYS_PTRACE in the runtime's own user namespace.
        copies(exec("security/trace/in_the_container/exec", |case| seized(case, false))),
        tools("security/trace/in_the_container/exec_with_tools", |case| seized(case, true)),
    ]
}

/// Where the neighbour is, and what he may.
#[derive(Clone, Copy, PartialEq)]
enum Neighbour {
    /// In a pid namespace of his own, with CAP_SYS_PTRACE in a user namespace of his own and nothing else.
    Beside,
    /// The same in the runtime's pid namespace.
    Above,
    /// In the runtime's pid and user namespaces, with its ids and no capability.
    Owner,
    /// The same in a pid namespace of his own.
    OwnerBeside,
}

/// Starts the neighbour; he looks until the file `stop` appears.
fn neighbour(case: &mut Case, place: Neighbour) -> Result<Init> {
    attacker(case)?;
    let meta = fs::metadata(&case.runtime)?;
    let shared = case.rootfs().join("shared");
    fs::create_dir_all(&shared)?;
    fs::set_permissions(&shared, PermissionsExt::from_mode(0o777))?;
    let (mut names, mut what) = (vec!["CAP_SYS_PTRACE"], "enter");
    if matches!(place, Neighbour::Owner | Neighbour::OwnerBeside) {
        // He could trace much of the machine's: he touches the runtime alone.
        (names, what) = (vec![], "enter-own");
        no_user(&mut case.config);
    }
    capabilities(&mut case.config, &names);
    if matches!(place, Neighbour::Above | Neighbour::Owner) {
        in_the_parent(&mut case.config);
    }
    case.script(&format!("echo up; attacker {what} {} {} /shared/stop; echo end; sleep 60", meta.dev(), meta.ino()));
    let watcher = case.up()?;
    watcher.wait_for("up")?;
    Ok(watcher)
}

/// What he found.
fn verdict(case: &Case, watcher: &Init) -> Result<()> {
    fs::write(case.rootfs().join("shared/stop"), "")?;
    watcher.wait_for("end")?;
    let text = watcher.output()?;
    let line = text.lines().find(|line| line.starts_with("looked ")).context("the neighbour said nothing")?;
    ensure!(!line.starts_with("looked 0 "), "the neighbour looked at nothing");
    // What he traced as it ended can be reaped only now, and his pid namespace waits for it.
    reap_orphans();
    case.delete()?;
    if !line.ends_with(" seen 0 traced 0") {
        return escaped(format!("a process of the runtime's was open to a neighbour: {line}"));
    }
    Ok(())
}

/// The neighbour, and the bundle and id of a second container that joins namespaces of his.
fn both(case: &mut Case, place: Neighbour, joins: &[&str], change: fn(&mut Value)) -> Result<(Init, String, String)> {
    let before = case.user_namespace()?.config.clone();
    let watcher = neighbour(case, place)?;
    let (bundle, id) = second(case, |config| {
        let root = config["root"].take();
        *config = before;
        config["root"] = root;
        let kinds: Vec<_> = joins.iter().map(|kind| (*kind, *kind)).collect();
        share(config, watcher.pid, &kinds);
        config["process"]["args"] = json!(["true"]);
        change(config);
    })?;
    Ok((watcher, bundle, id))
}

/// Creates containers that join namespaces of the neighbour's.
fn created(case: &mut Case, place: Neighbour, joins: &[&str], change: fn(&mut Value)) -> Result<()> {
    let (watcher, bundle, id) = both(case, place, joins, change)?;
    for _ in 0..rounds() {
        ATTACKS.fetch_add(1, Ordering::Relaxed);
        case.verb(["create", "--bundle", &bundle, &id])?.ok()?;
        case.verb(["start", &id])?.ok()?;
        case.verb(["delete", "--force", &id])?.ok()?;
        // Until it is reaped it belongs to the neighbour's pid namespace, which then cannot end.
        reap_orphans();
    }
    verdict(case, &watcher)
}

/// `exec`, with the test's root file system as the root of tools or without.
fn exec_words(case: &Case, id: &str, tools: bool) -> Vec<String> {
    let rootfs = case.rootfs().to_string_lossy().into_owned();
    let mut words = vec!["exec".to_owned()];
    words.extend(tools.then(|| ["--tools".to_owned(), rootfs]).into_iter().flatten());
    words.extend([id.to_owned(), "true".to_owned()]);
    words
}

/// Executes in a container that has joined namespaces of the neighbour's.
fn executed(case: &mut Case, place: Neighbour, joins: &[&str], tools: bool) -> Result<()> {
    let (watcher, bundle, id) = both(case, place, joins, |config| config["process"]["args"] = json!(["sleep", "60"]))?;
    case.verb(["create", "--bundle", &bundle, &id])?.ok()?;
    case.verb(["start", &id])?.ok()?;
    for _ in 0..rounds() {
        ATTACKS.fetch_add(1, Ordering::Relaxed);
        case.verb(exec_words(case, &id, tools))?.ok()?;
    }
    case.verb(["delete", "--force", &id])?.ok()?;
    reap_orphans();
    verdict(case, &watcher)
}

/// Executes in the neighbour's own container.
fn executed_beside(case: &mut Case, place: Neighbour) -> Result<()> {
    case.user_namespace()?;
    let watcher = neighbour(case, place)?;
    for _ in 0..rounds() {
        ATTACKS.fetch_add(1, Ordering::Relaxed);
        case.verb(["exec", &case.id, "true"])?.ok()?;
    }
    verdict(case, &watcher)
}

/// CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_SETGID and CAP_SETUID, for the steps that are left.
const LEFT: &str = "c3";

/// Executes in a container without a user namespace whose program takes every process that comes in.
fn seized(case: &mut Case, tools: bool) -> Result<()> {
    attacker(case)?;
    let meta = fs::metadata(&case.runtime)?;
    let shared = case.rootfs().join("shared");
    fs::create_dir_all(&shared)?;
    let decoy = case.dir.join("decoy");
    fs::write(&decoy, "the host's")?;
    no_user(&mut case.config);
    capabilities(&mut case.config, &["CAP_SYS_PTRACE"]);
    let (dev, ino, decoy) = (meta.dev(), meta.ino(), decoy.display());
    case.script(&format!("echo up; attacker seize {dev} {ino} /shared/stop {decoy} {LEFT}; echo end; sleep 60"));
    let watcher = case.up()?;
    watcher.wait_for("up")?;
    // It is there for a moment, which on a busy machine he may miss.
    for _ in 0..rounds().max(20) {
        ATTACKS.fetch_add(1, Ordering::Relaxed);
        case.verb(exec_words(case, &case.id, tools))?.ok()?;
    }
    verdict(case, &watcher)
}

fn plain(_: &mut Value) {}

/// Without a pid namespace.
fn in_the_parent(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().expect("a list").retain(|namespace| namespace["type"] != "pid");
    bound_proc(config);
}

/// The pid namespace belongs to another user namespace: only what is there already can be /proc, then.
fn bound_proc(config: &mut Value) {
    for mount in config["mounts"].as_array_mut().expect("a list") {
        if mount["destination"] == "/proc" {
            *mount = json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]});
        }
    }
}

fn no_user(config: &mut Value) {
    let linux = config["linux"].as_object_mut().expect("an object");
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    linux["namespaces"].as_array_mut().expect("a list").retain(|namespace| namespace["type"] != "user");
}

fn clock_offsets(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "time"}));
    config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1000}});
}

/// init, or setup, stands behind each of them for as long as it runs.
fn hooks(config: &mut Value) {
    let host = json!([{"path": "/bin/sleep", "args": ["sleep", "0.02"]}]);
    let inside = json!([{"path": "/bin/busybox", "args": ["busybox", "usleep", "20000"]}]);
    config["hooks"] =
        json!({"prestart": host, "createRuntime": host, "createContainer": host, "startContainer": inside});
}

/// A mapping that is not the container's: a process of the runtime's holds a user namespace with it.
fn idmapped(config: &mut Value) {
    let map = json!([{"containerID": 0, "hostID": 300_000, "size": 10}]);
    let source = format!("{}/mnt", config["root"]["path"].as_str().expect("a path"));
    let mount = json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind"],
                       "uidMappings": map, "gidMappings": map});
    config["mounts"].as_array_mut().expect("a list").push(mount);
}
