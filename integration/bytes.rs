//! Names that are no UTF-8: mount points, cgroups, processes, bundles, programs, variables, users' homes. The kernel takes
//! any bytes but NUL and slash, and whoever may make a thing chooses its name.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal};
use serde_json::json;

use crate::harness::{Case, Init, Need, Test, test};
use crate::kernel;

/// No UTF-8, and what mountinfo must write as numbers.
const NAME: &[u8] = b"\xff m\n";

pub fn cases() -> Vec<Test> {
    vec![
        test("bytes/a_mount_point_of_any_name_on_the_host", a_mount_point_on_the_host)
            .requires(Need::Root)
            .requires(Need::Controller("pids"))
            .requires(Need::Tool("unshare")),
        test("bytes/mounts_of_any_name_are_taken_away_without_a_mount_namespace", mounts_are_taken_away)
            .requires(Need::Root)
            .requires(Need::Hull)
            .requires(Need::Tool("unshare")),
        test("bytes/a_cgroup_of_the_callers_of_any_name", a_cgroup_of_the_callers)
            .requires(Need::Root)
            .peer("runc", "exec finds other names on v1"),
        test("bytes/a_cgroup_of_the_payloads_of_any_name", a_cgroup_of_the_payloads)
            .requires(Need::Root)
            .requires(Need::CgroupV2)
            .requires(Need::Controller("hugetlb")),
        test("bytes/a_threaded_process_of_any_name_is_listed", a_threaded_process)
            .requires(Need::Root)
            .requires(Need::CgroupV2)
            .requires(Need::Hull),
        test("bytes/a_bundle_of_any_name", a_bundle).peer("*", "show another path in their JSON"),
        test("bytes/a_bundle_that_hooks_could_not_be_told_is_refused", a_bundle_with_hooks).requires(Need::Hull),
        test("bytes/home_is_that_of_passwd", home_is_that_of_passwd).requires(Need::Root),
        test("bytes/exec_passes_arguments_variables_and_directory_on", exec_passes_on).peer("runc", "replaces them"),
        test("bytes/exec_finds_a_program_of_any_name", exec_finds_a_program).peer("runc", "replaces the name"),
        test("bytes/no_id_is_bytes", no_id_is_bytes),
    ]
}

fn named(directory: &Path, name: &[u8]) -> PathBuf {
    directory.join(OsStr::from_bytes(name))
}

/// In the mount namespace of each command something is mounted on such a name, and hull's files lie elsewhere.
fn a_mount_point_on_the_host(case: &mut Case) -> Result<()> {
    let plain = std::mem::replace(&mut case.before, in_a_namespace_with_a_mount(&case.dir));
    case.args(["sleep", "60"]).up()?;
    case.verb(["exec", &case.id, "true"])?.ok()?;
    case.status_is("running")?;
    if case.peer.is_none() {
        let bundle = case.bundle();
        for verb in [["explain", "--bundle"], ["check", "--bundle"]] {
            case.verb([verb[0].as_ref(), verb[1].as_ref(), bundle.as_os_str()])?.ok()?;
        }
        case.verb(["doctor"])?.stdout_has("cgroup")?;
    }
    case.verb(["update", "--pids-limit", "100", &case.id])?.ok()?;
    case.delete()?;
    case.before = plain;
    Ok(())
}

/// A mount namespace of the command's own, with a tmpfs on a name of bytes.
fn in_a_namespace_with_a_mount(dir: &Path) -> String {
    let mount = r#"d=$(printf "%s/\377 m\n." "$0"); d=${d%.}; mkdir -p "$d"; mount -t tmpfs hullit "$d" || exit 1
        grep -aq " - tmpfs hullit " /proc/self/mountinfo || exit 1; exec "$@""#;
    let dir = dir.display();
    format!("exec unshare --mount --propagation private sh -c '{mount}' {dir} \"$@\"")
}

/// The host, in this case, is the mount namespace that `create` is called in: `delete` comes back to it.
fn mounts_are_taken_away(case: &mut Case) -> Result<()> {
    let rootfs = case.rootfs();
    let inside = named(&rootfs.join("mnt"), NAME);
    fs::create_dir(&inside)?;
    case.without_namespace("mount").edit(|config| {
        config["mounts"] = json!([{"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}]);
        for key in ["maskedPaths", "readonlyPaths"] {
            config["linux"].as_object_mut().expect("an object").remove(key);
        }
    });
    case.set("/root/readonly", json!(false)).args(["sleep", "60"]).write_config()?;
    // All verbs in one namespace: what is mounted below by then has such a name, too.
    let script = r#"hull=$1 root=$2 bundle=$3 id=$4
        "$hull" --root "$root" create --bundle "$bundle" "$id" || exit 1
        "$hull" --root "$root" start "$id" || exit 2
        d=$(printf "%s/rootfs/mnt/\377 m\n." "$bundle"); d=${d%.}; mkdir -p "$d" && mount -t tmpfs hullit "$d" || exit 3
        "$hull" --root "$root" delete --force "$id" || exit 4
        ! grep -a hullit /proc/self/mountinfo || exit 5
        ! grep -a "$bundle/rootfs/mnt" /proc/self/mountinfo || exit 6"#;
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&case.runtime);
    command.arg(case.root()).arg(case.bundle()).arg(&case.id);
    // Into files: the container would keep a pipe open.
    let said = case.dir.join("said");
    let file = fs::File::create(&said)?;
    command.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child = crate::harness::spawn_child(&mut command)?;
    let status = child.wait();
    crate::harness::forget_child(&child);
    let status = status?;
    ensure!(status.success(), "the script gave {status}: {}", String::from_utf8_lossy(&fs::read(&said)?));
    Ok(())
}

/// In every hierarchy that takes a process without more ado the caller is in such a cgroup.
fn a_cgroup_of_the_callers(case: &mut Case) -> Result<()> {
    let own = kernel::cgroups(std::process::id() as i32)?;
    let mut made = Vec::new();
    let result = (|| {
        for (_, directory) in own.iter().filter(|(name, _)| *name != "cpuset") {
            let outer = named(directory, format!("hullit-{}-", case.id).as_bytes());
            let outer = PathBuf::from(OsString::from_vec([outer.as_os_str().as_bytes(), b"\xff"].concat()));
            // On v2 the container's cgroup lies beside the caller's.
            let inner = outer.join("caller");
            if !made.contains(&outer) {
                fs::create_dir_all(&inner).with_context(|| format!("make {}", inner.display()))?;
                made.push(outer);
            }
        }
        // The shell finds the names: it takes no bytes from here.
        let names: Vec<_> = own.values().map(|dir| format!("{}/hullit-{}-*", dir.display(), case.id)).collect();
        let names = names.join(" ");
        let join = "[ ! -d \"$d/caller\" ] || echo $$ >\"$d/caller/cgroup.procs\" || exit 1";
        case.before = format!("for d in {names}; do {join}; done");
        case.config["linux"].as_object_mut().context("an object")?.remove("cgroupsPath");
        let init = case.args(["sleep", "60"]).up()?;
        let table = fs::read(format!("/proc/{}/cgroup", init.pid))?;
        let table: Vec<&[u8]> = table.split(|byte| *byte == b'\n').collect();
        let found = table.iter().filter(|line| line.contains(&0xff) && line.ends_with(case.id.as_bytes())).count();
        ensure!(
            found > 0,
            "no cgroup of the container's is in the caller's: {:?}",
            String::from_utf8_lossy(&table.concat())
        );
        case.verb(["exec", &case.id, "true"])?.ok()?;
        case.delete()
    })();
    case.before.clear();
    for outer in made.iter().rev() {
        for directory in [outer.join(&case.id), outer.join("caller"), outer.clone()] {
            let _ = fs::remove_dir(directory);
        }
    }
    let left: Vec<_> = made.iter().filter(|outer| outer.exists()).collect();
    result?;
    ensure!(left.is_empty(), "{left:?} are left");
    Ok(())
}

/// As in exec/where_init_has_gone: the container's own cgroup has no room for processes.
fn a_cgroup_of_the_payloads(case: &mut Case) -> Result<()> {
    let init = case.args(["sleep", "60"]).up()?;
    let own = kernel::cgroups(init.pid)?.remove("unified").context("a v2 cgroup")?;
    let sub = named(&own, b"\xffz");
    fs::create_dir(&sub)?;
    fs::write(sub.join("cgroup.procs"), init.pid.to_string())?;
    let parent = own.parent().context("a parent")?;
    let added = !kernel::read(own.join("cgroup.controllers"))?.contains("hugetlb");
    if added {
        fs::write(parent.join("cgroup.subtree_control"), "+hugetlb")?;
    }
    fs::write(own.join("cgroup.subtree_control"), "+hugetlb")?;
    let pid_file = case.dir.join("exec.pid");
    let options = ["exec", "--detach", "--pid-file", &pid_file.to_string_lossy(), &case.id, "sleep", "60"];
    let joined = case.verb(options)?.ok().and_then(|output| Ok(output.init(kernel::read(&pid_file)?.parse()?)));
    let found = joined.and_then(|joined| {
        let found = fs::read(format!("/proc/{}/cgroup", joined.pid))?;
        end(&joined).map(|()| found)
    });
    case.delete()?;
    if added {
        let _ = fs::write(parent.join("cgroup.subtree_control"), "-hugetlb");
    }
    let found = found?;
    ensure!(found.ends_with(b"/\xffz\n"), "it is in {:?}, not where init is", String::from_utf8_lossy(&found));
    Ok(())
}

/// The processes of a threaded cgroup are found by their threads' entries in /proc, which begin with the name.
fn a_threaded_process(case: &mut Case) -> Result<()> {
    let base = Path::new("/sys/fs/cgroup").join(format!("hullit-base-{}", case.id));
    let sibling = base.join("threaded");
    fs::create_dir_all(&sibling)?;
    let result = (|| {
        fs::write(sibling.join("cgroup.type"), "threaded")?;
        let path = format!("/hullit-base-{}/{}", case.id, case.id);
        case.set("/linux/cgroupsPath", json!(path));
        let init = case.script("printf '\\377' >/proc/$$/comm; echo up; sleep 60; true").up()?;
        init.wait_for("up")?;
        let kind = kernel::read(base.join(&case.id).join("cgroup.type"))?;
        ensure!(kind == "threaded\n", "the cgroup is {kind:?}");
        ensure!(fs::read(format!("/proc/{}/comm", init.pid))? == b"\xff\n", "its name is another");
        let printed = case.verb(["ps", "--format", "json", &case.id])?.ok()?.stdout;
        let pids: Option<Vec<i32>> = serde_json::from_str(printed.trim())?;
        ensure!(pids.iter().flatten().any(|pid| *pid == init.pid), "ps lists {pids:?}, not {}", init.pid);
        case.delete()
    })();
    for directory in [sibling, base] {
        let _ = fs::remove_dir(directory);
    }
    result
}

/// The case's bundle under another name, which is given as `--bundle`.
fn renamed_bundle(case: &Case) -> Result<PathBuf> {
    let bundle = named(&case.dir, NAME);
    case.write_config()?;
    fs::rename(case.bundle(), &bundle)?;
    Ok(bundle)
}

fn a_bundle(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    let bundle = renamed_bundle(case)?;
    let pid_file = named(&case.dir, b"\xff.pid");
    let log = named(&case.dir, b"\xff.log");
    let words: [&OsStr; 8] = [
        "--log".as_ref(),
        log.as_ref(),
        "create".as_ref(),
        "--bundle".as_ref(),
        bundle.as_ref(),
        "--pid-file".as_ref(),
        pid_file.as_ref(),
        case.id.as_ref(),
    ];
    case.verb(words)?.ok()?;
    let pid: i32 = kernel::read(&pid_file)?.parse()?;
    case.verb(["start", &case.id])?.ok()?;
    let state = case.state()?;
    ensure!(state["pid"] == pid && state["status"] == "running", "state is {state}");
    // JSON has no bytes: what is no text in the path is shown as such, as everywhere.
    ensure!(state["bundle"] == bundle.to_string_lossy().as_ref(), "the bundle is {}", state["bundle"]);
    case.verb(["list"])?.ok()?.stdout_has(&case.id)?;
    case.verb(["exec", &case.id, "true"])?.ok()?;
    case.verb(["kill", &case.id, "KILL"])?.ok()?;
    case.delete()?;
    fs::rename(bundle, case.bundle())?;
    Ok(())
}

fn a_bundle_with_hooks(case: &mut Case) -> Result<()> {
    case.set("/hooks/poststop", json!([{"path": "/bin/true"}])).args(["sleep", "60"]);
    let bundle = renamed_bundle(case)?;
    let words: [&OsStr; 4] = ["create".as_ref(), "--bundle".as_ref(), bundle.as_ref(), case.id.as_ref()];
    case.verb(words)?.refused()?.stderr_has("UTF-8")?.one_sentence()?;
    fs::rename(bundle, case.bundle())?;
    ensure!(!case.root().join(&case.id).exists(), "the id is taken");
    // The same without bytes.
    case.create()?;
    case.delete()
}

fn home_is_that_of_passwd(case: &mut Case) -> Result<()> {
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:J\xe9:/home/j\xe9:/bin/sh\n";
    fs::write(case.rootfs().join("etc/passwd"), passwd)?;
    case.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let init = case.args(["sleep", "60"]).up()?;
    kernel::eventually("HOME is that of passwd, byte by byte", || has(init.pid, "environ", b"HOME=/home/j\xe9"))?;
    case.delete()
}

/// Whether one of the texts, each with a NUL at its end, that a file of a process holds is this one.
fn has(pid: i32, file: &str, wanted: &[u8]) -> bool {
    fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|text| text.split(|byte| *byte == 0).any(|one| one == wanted))
}

fn exec_passes_on(case: &mut Case) -> Result<()> {
    let directory = named(&case.rootfs().join("tmp"), NAME);
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o755))?;
    case.args(["sleep", "60"]).up()?;
    let pid_file = case.dir.join("exec.pid");
    let cwd = [b"/tmp/", NAME].concat();
    let words: [&[u8]; 13] = [
        b"exec",
        b"--detach",
        b"--pid-file",
        pid_file.as_os_str().as_bytes(),
        b"--cwd",
        &cwd,
        b"--env",
        b"A=\xff",
        case.id.as_bytes(),
        b"sh",
        b"-c",
        b"sleep 60; true",
        b"\xff\xfe",
    ];
    let output = case.verb(words.map(OsStr::from_bytes))?.ok()?;
    let pid: i32 = kernel::read(&pid_file)?.parse()?;
    kernel::eventually("the variable is there, byte by byte", || has(pid, "environ", b"A=\xff"))?;
    ensure!(has(pid, "cmdline", b"\xff\xfe"), "the argument is another");
    let at = fs::read_link(format!("/proc/{pid}/cwd"))?;
    ensure!(at.as_os_str().as_bytes().ends_with(&cwd), "it is in {}", at.display());
    end(&output.init(pid))?;
    case.delete()
}

/// Ends a process that was detached, and whom nobody else waits for.
fn end(joined: &Init) -> Result<()> {
    rustix::process::kill_process(Pid::from_raw(joined.pid).context("a pid")?, Signal::KILL)?;
    joined.wait().map(drop)
}

/// By the PATH of the container, and by a PATH of bytes.
fn exec_finds_a_program(case: &mut Case) -> Result<()> {
    let directory = named(&case.rootfs().join("tmp"), b"\xff");
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o755))?;
    for path in [named(&case.rootfs().join("bin"), b"tool\xff"), directory.join("other")] {
        fs::write(&path, "#!/bin/sh\nexit 7\n")?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    }
    case.args(["sleep", "60"]).up()?;
    let id = case.id.as_bytes();
    case.verb([b"exec", id, b"tool\xff"].map(OsStr::from_bytes))?.status(7)?;
    let words: [&[u8]; 5] = [b"exec", b"--env", b"PATH=/tmp/\xff", id, b"other"];
    case.verb(words.map(OsStr::from_bytes))?.status(7)?;
    case.delete()
}

fn no_id_is_bytes(case: &mut Case) -> Result<()> {
    case.write_config()?;
    let bundle = case.bundle();
    let words: [&OsStr; 4] = ["create".as_ref(), "--bundle".as_ref(), bundle.as_ref(), OsStr::from_bytes(b"x\xff")];
    case.verb(words)?.refused()?;
    let left = fs::read_dir(case.root()).map_or(0, Iterator::count);
    ensure!(left == 0, "the state directory has {left} entries");
    Ok(())
}
