//! The annotations io.hull.landlock.*: what the kernel denies (landlock(7)), for the program and what exec adds.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::harness::{Case, Need, Test, test};

pub fn cases() -> Vec<Test> {
    vec![
        test("landlock/only_the_paths_named", only_the_paths_named).requires(Need::Hull).requires(Need::Landlock),
        test("landlock/new_privileges_allowed", new_privileges_allowed).requires(Need::Hull).requires(Need::Landlock),
        test("landlock/beside_a_filter", beside_a_filter).requires(Need::Hull).requires(Need::Landlock),
        test("landlock/in_a_user_namespace", in_a_user_namespace)
            .requires(Need::Hull)
            .requires(Need::Landlock)
            .requires(Need::Root),
        test("landlock/a_user_cannot_use_more", a_user_cannot_use_more)
            .requires(Need::Hull)
            .requires(Need::Landlock)
            .requires(Need::Root),
        test("landlock/exec_is_held_too", exec_is_held_too).requires(Need::Hull).requires(Need::Landlock),
        test("landlock/no_path_allows_nothing", no_path_allows_nothing).requires(Need::Hull).requires(Need::Landlock),
        test("landlock/start_container_hooks_come_before", hooks_come_before)
            .requires(Need::Hull)
            .requires(Need::Landlock),
        test("landlock/links_and_missing_paths_are_refused", links_and_missing_paths_are_refused)
            .requires(Need::Hull)
            .requires(Need::Landlock),
        test("landlock/a_kernel_without_it_is_refused", a_kernel_without_it_is_refused).requires(Need::Hull),
    ]
}

/// Each line is tried in the program; it prints those that went otherwise than the first word says.
const TRIES: &str = "
    yes() { \"$@\" >/tmp/out 2>&1 || echo denied: \"$@\"; }
    no() { \"$@\" >/tmp/out 2>&1 && echo allowed: \"$@\"; }
    write() { echo x >\"$1\"; }
    yes cat /etc/passwd
    yes write /tmp/new
    yes mkdir /tmp/dir
    yes mv /tmp/new /tmp/dir/new
    yes rm -r /tmp/dir
    yes write /var/log
    no write /etc/passwd
    no cat /root/secret
    no ls /
    no ls /root
    no mkdir /mnt/dir
    no mv /etc/group /tmp/group
    no truncate -s 0 /etc/passwd
    no /root/busybox true
    no ln -s x /mnt/link
    no rm /var/log
    echo done";

fn confined(case: &mut Case) -> Result<&mut Case> {
    let rootfs = case.rootfs();
    std::fs::write(rootfs.join("root/secret"), "secret")?;
    std::fs::copy(rootfs.join("bin/busybox"), rootfs.join("root/busybox"))?;
    std::fs::write(rootfs.join("var/log"), "")?;
    case.set("/annotations/io.hull.landlock.read", json!("/etc"))
        .set("/annotations/io.hull.landlock.write", json!("/tmp:/var/log:/dev/null"))
        .set("/annotations/io.hull.landlock.execute", json!("/bin"));
    Ok(case.set("/root/readonly", json!(false)).script(TRIES))
}

fn only_the_paths_named(case: &mut Case) -> Result<()> {
    confined(case)?.prints("done\n")
}

fn new_privileges_allowed(case: &mut Case) -> Result<()> {
    confined(case)?.set("/process/noNewPrivileges", json!(false)).prints("done\n")
}

fn beside_a_filter(case: &mut Case) -> Result<()> {
    confined(case)?;
    for privileges in [true, false] {
        // A filter that would not let Landlock in any more.
        let calls = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"];
        let rule = json!({"names": calls, "action": "SCMP_ACT_KILL_PROCESS"});
        case.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
        case.set("/process/noNewPrivileges", json!(privileges)).prints("done\n")?;
    }
    Ok(())
}

fn in_a_user_namespace(case: &mut Case) -> Result<()> {
    confined(case)?.user_namespace()?;
    std::fs::set_permissions(case.rootfs().join("var/log"), std::fs::Permissions::from_mode(0o666))?;
    case.prints("done\n")
}

/// The paths are looked up as root, and what they allow beyond the user's own rights is nothing.
fn a_user_cannot_use_more(case: &mut Case) -> Result<()> {
    confined(case)?.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    case.script("cat /etc/passwd >/tmp/copy && echo x >/tmp/f && ! echo x >/var/log && ! cat /root/secret && echo done")
        .prints("done\n")
}

fn exec_is_held_too(case: &mut Case) -> Result<()> {
    for privileges in [true, false] {
        confined(case)?.args(["sleep", "60"]).set("/process/noNewPrivileges", json!(privileges));
        case.up()?;
        case.verb(["exec", &case.id, "sh", "-c", TRIES])?.ok()?.stdout_is("done\n")?;
        case.delete()?;
    }
    Ok(())
}

fn no_path_allows_nothing(case: &mut Case) -> Result<()> {
    case.set("/annotations/io.hull.landlock.execute", json!("")).args(["true"]);
    let output = case.run()?.refused()?;
    output.stderr_has("exec /bin/true: permission denied")?.stderr_has("EACCES").map(drop)
}

fn hooks_come_before(case: &mut Case) -> Result<()> {
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "cat /root/secret >/mnt/seen"]});
    confined(case)?.set("/hooks/startContainer", json!([hook])).set("/process/noNewPrivileges", json!(true));
    case.prints("done\n")?;
    ensure!(std::fs::read_to_string(case.rootfs().join("mnt/seen"))? == "secret", "the hook was held to the rules");
    Ok(())
}

fn links_and_missing_paths_are_refused(case: &mut Case) -> Result<()> {
    // An image that would like to have everything.
    std::os::unix::fs::symlink("/", case.rootfs().join("data"))?;
    for (path, hint) in [("/data", "symbolic link"), ("/data/etc", "symbolic link"), ("/none", "no such path")] {
        case.set("/annotations/io.hull.landlock.write", json!(path)).args(["true"]);
        let output = case.run()?.refused()?.one_sentence()?;
        output.stderr_has(hint)?.stderr_has(path)?.stderr_has("/annotations/io.hull.landlock.write")?;
        let left = case.leftovers();
        ensure!(left.is_empty(), "{left:?} is left");
    }
    Ok(())
}

fn a_kernel_without_it_is_refused(case: &mut Case) -> Result<()> {
    case.set("/annotations/io.hull.landlock.read", json!("/")).args(["true"]);
    case.deny("landlock_create_ruleset:ENOSYS");
    case.run()?.refused()?.stderr_has("Landlock is not enabled")?.one_sentence()?;
    case.denied = None;
    case.set("/annotations/io.hull.landlock.reed", json!("/"));
    case.run()?.refused()?.stderr_has("did you mean io.hull.landlock.read?").map(drop)
}
