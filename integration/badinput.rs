//! What cannot be: broken configs, missing files, impossible mounts, wrong options. Each time status 1, one sentence
//! on stderr, nothing left behind, and the same id usable at once.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Output, Test, test};

pub fn cases() -> Vec<Test> {
    vec![
        test("badinput/an_empty_annotation_key_is_refused", an_empty_annotation_key_is_refused).peer("*", "takes it"),
        test("badinput/config_is_missing", config_is_missing),
        test("badinput/config_is_broken", config_is_broken),
        test("badinput/bundle_is_missing", bundle_is_missing),
        test("badinput/values_of_the_wrong_type", values_of_the_wrong_type)
            .peer("crun", "reads a text as the number 0"),
        test("badinput/values_that_make_no_sense", values_that_make_no_sense).requires(Need::Hull),
        test("badinput/rootfs_is_missing", rootfs_is_missing),
        test("badinput/no_args", no_args),
        test("badinput/a_relative_cwd", a_relative_cwd).peer("crun", "1.8 takes it"),
        test("badinput/impossible_mounts", impossible_mounts),
        test("badinput/namespace_path_is_missing", namespace_path_is_missing),
        test("badinput/bad_rlimits", bad_rlimits),
        test("badinput/bad_options", bad_options).peer("crun", "reads a word as the number 0"),
        test("badinput/numbers_beyond_their_bounds", numbers_beyond_their_bounds).requires(Need::Hull),
        test("badinput/a_hooks_timeout_beyond_every_clock", a_hooks_timeout_beyond_every_clock)
            .peer("runc", "lets the number wrap around, and the hook fails")
            .peer("crun", "takes 32 bits"),
        test("badinput/a_signal_with_a_dash", a_signal_with_a_dash),
        test("badinput/an_empty_variable_of_exec", an_empty_variable_of_exec),
        test("badinput/members_that_are_missing_or_odd", members_that_are_missing_or_odd).requires(Need::Hull),
        test("badinput/members_that_are_missing_or_odd_in_create", odd_members_in_create).requires(Need::Hull),
        test("badinput/members_that_are_missing_or_odd_in_exec", odd_members_in_exec).requires(Need::Hull),
        test("badinput/bytes_that_are_no_text", bytes_that_are_no_text).requires(Need::Hull),
        test("badinput/what_means_one_thing_is_taken", what_means_one_thing)
            .requires(Need::Root)
            .peer("runc", "names none of them in its log, and reads eth0.1 in dots as two names"),
        test("badinput/what_is_ambiguous_is_refused", what_is_ambiguous).requires(Need::Hull),
        test("badinput/an_unknown_verb", an_unknown_verb).peer("crun", "gives status 1"),
        test("badinput/a_sentence_names_the_pointer", a_sentence_names_the_pointer).requires(Need::Hull),
    ]
}

/// Not as the specification has it, but nothing else can be meant: taken, and said in the log.
fn what_means_one_thing(case: &mut Case) -> Result<()> {
    // Without it a kernel may keep /dev/kmsg to itself.
    let sets = ["bounding", "permitted", "effective"].map(|set| (set.to_owned(), json!(["CAP_SYSLOG"])));
    case.set("/process/capabilities", Value::Object(sets.into_iter().collect()));
    let good = case.config.clone();
    let log = case.dir.join("log");
    case.globals.extend(["--log".into(), log.to_string_lossy().into_owned()]);
    let identity = json!([{"containerID": 0, "hostID": 0, "size": 5}]);
    let rule = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rx"}]);
    let forwarding = "cat /proc/sys/net/ipv4/conf/lo/forwarding";
    let changes = [
        ("/ociVersion", json!("1.0"), "echo fine", "fine\n"),
        ("/ociVersion", json!("v1.0.2"), "echo fine", "fine\n"),
        ("/linux/uidMappings", identity.clone(), "id -u", "0\n"),
        ("/linux/gidMappings", identity, "id -g", "0\n"),
        ("/process/user/umask", json!(4095), "umask", "0777\n"),
        ("/linux/personality", json!({"domain": "LINUX", "flags": ["X"]}), "cat /proc/self/personality", "00000000\n"),
        ("/linux/sysctl", json!({"net.ipv4.conf/lo/forwarding": "1"}), forwarding, "1\n"),
        ("/linux/sysctl", json!({"net/ipv4.conf.lo.forwarding": "1"}), forwarding, "1\n"),
        ("/linux/resources/devices", rule, "head -c 0 /dev/kmsg && (: >/dev/kmsg) 2>/dev/null || echo read", "read\n"),
    ];
    for (pointer, value, script, printed) in changes {
        case.config = good.clone();
        case.set(pointer, value.clone());
        case.set("/linux/devices", json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]));
        case.script(script).prints(printed).with_context(|| format!("{pointer} = {value}"))?;
        let said = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        ensure!(said.contains(&format!("config.json: {pointer}")), "{pointer} = {value}: the log has {said:?}");
    }
    Ok(())
}

/// What could mean more than one thing, or is less safe than it looks: refused.
fn what_is_ambiguous(case: &mut Case) -> Result<()> {
    let rule = |rule: Value| json!([{"allow": false, "access": "rwm"}, rule]);
    each_is_refused(
        case,
        &[
            ("/ociVersion", json!("2.0.0")),
            ("/ociVersion", json!("")),
            ("/ociVersion", json!("1")),
            ("/ociVersion", json!("1.0.0.0")),
            // The program would be the host's root.
            ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1000, "size": 5}])),
            ("/linux/gidMappings", json!([{"containerID": 0, "hostID": 1000, "size": 5}])),
            ("/linux/devices", json!([{"path": "/dev/x", "type": "c"}])),
            ("/linux/devices", json!([{"path": "/dev/x", "type": "c", "major": 1}])),
            ("/linux/personality", json!({"domain": "linux"})),
            ("/linux/resources/devices", rule(json!({"allow": false, "type": "c", "access": "rwx"}))),
            ("/linux/resources/devices", rule(json!({"allow": true, "type": "c", "access": "RWM"}))),
            ("/linux/resources/devices", rule(json!({"allow": true, "type": "c", "major": -2, "access": "r"}))),
            ("/process/args", json!(["true", null])),
            ("/process/user/additionalGids", json!([5, null])),
            ("/mounts", json!([null])),
            ("/linux/maskedPaths", json!(["/proc/kcore", null])),
        ],
    )
}

/// What must hold of every refusal; then the id is used for a good container.
fn an_empty_annotation_key_is_refused(case: &mut Case) -> Result<()> {
    case.set("/annotations", json!({"a": "b", "": "value"})).args(["true"]);
    case.run()?.refused()?.stderr_has("/annotations: a key is empty").map(drop)
}

fn refuses(case: &Case, what: &str, output: Output) -> Result<()> {
    let took = output.took;
    let output = output.refused().with_context(|| what.to_owned())?;
    if case.peer.is_none() {
        output.one_sentence().with_context(|| what.to_owned())?;
    }
    ensure!(took < Duration::from_secs(10), "{what}: it took {took:?}");
    let left = case.leftovers();
    ensure!(left.is_empty(), "{what}: left behind {left:?}");
    Ok(())
}

fn works_now(case: &mut Case, good: Value) -> Result<()> {
    case.config = good;
    case.script("echo fine").prints("fine\n")
}

/// Tries each change by itself.
fn each_is_refused(case: &mut Case, changes: &[(&str, Value)]) -> Result<()> {
    let good = case.config.clone();
    for (pointer, value) in changes {
        case.config = good.clone();
        case.set(pointer, value.clone());
        let output = case.run()?;
        refuses(case, &format!("{pointer} = {value}"), output)?;
    }
    works_now(case, good)
}

fn config_is_missing(case: &mut Case) -> Result<()> {
    let bundle = case.bundle();
    let output = case.verb(["run", "--bundle", &bundle.to_string_lossy(), &case.id])?;
    refuses(case, "no config.json", output.stderr_has("config.json")?)?;
    works_now(case, case.config.clone())
}

fn config_is_broken(case: &mut Case) -> Result<()> {
    let bundle = case.bundle();
    case.write_config()?;
    let whole = fs::read(bundle.join("config.json"))?;
    let half = &whole[..whole.len() / 2];
    let texts: [(&str, &[u8]); 5] = [
        ("empty", b""),
        ("a brace", b"{"),
        ("half", half),
        ("a list", b"[]"),
        ("not UTF-8", b"{\"hostname\": \"\xff\xfe\"}"),
    ];
    for (what, text) in texts {
        fs::write(bundle.join("config.json"), text)?;
        let output = case.verb(["run", "--bundle", &bundle.to_string_lossy(), &case.id])?;
        refuses(case, what, output)?;
    }
    works_now(case, case.config.clone())
}

fn bundle_is_missing(case: &mut Case) -> Result<()> {
    let output = case.verb(["run", "--bundle", "/nosuch/bundle", &case.id])?;
    refuses(case, "no bundle", output.stderr_has("/nosuch/bundle")?.stderr_has("no such file or directory")?)
}

fn values_of_the_wrong_type(case: &mut Case) -> Result<()> {
    each_is_refused(
        case,
        &[
            ("/process", json!("text")),
            ("/process/args", json!("sh")),
            ("/process/user/uid", json!("root")),
            ("/root", json!([])),
            ("/mounts", json!({"a": 1})),
            ("/linux/namespaces", json!("pid")),
            ("/linux/resources/pids/limit", json!("many")),
        ],
    )
}

fn values_that_make_no_sense(case: &mut Case) -> Result<()> {
    each_is_refused(
        case,
        &[
            ("/ociVersion", json!("7.0.0")),
            ("/process/user/uid", json!(-1)),
            ("/process/user/uid", json!(4_294_967_296_u64)),
            ("/linux/namespaces", json!([{"type": "nosuch"}])),
            ("/linux/rootfsPropagation", json!("nosuch")),
            ("/linux/seccomp", json!({"defaultAction": "NOSUCH"})),
            ("/hooks", json!({"prestart": [{"path": "relative"}]})),
        ],
    )
}

fn rootfs_is_missing(case: &mut Case) -> Result<()> {
    each_is_refused(case, &[("/root/path", json!("nosuch")), ("/root/path", json!("config.json"))])
}

fn no_args(case: &mut Case) -> Result<()> {
    each_is_refused(case, &[("/process/args", json!([])), ("/process/args", json!([""]))])
}

fn a_relative_cwd(case: &mut Case) -> Result<()> {
    each_is_refused(case, &[("/process/cwd", json!("relative")), ("/process/cwd", json!(""))])
}

fn impossible_mounts(case: &mut Case) -> Result<()> {
    let good = case.config.clone();
    let mounts = [
        json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=banana"]}),
        json!({"destination": "/mnt", "type": "nosuchfs", "source": "x"}),
        json!({"destination": "/etc/passwd/below", "type": "tmpfs", "source": "tmpfs"}),
        json!({"destination": "/etc/passwd", "type": "bind", "source": "/tmp", "options": ["bind"]}),
        json!({"destination": "/mnt", "type": "bind", "source": "/nosuch", "options": ["bind"]}),
    ];
    for mount in mounts {
        case.config = good.clone();
        let what = mount.to_string();
        case.mount(mount);
        let output = case.run()?;
        refuses(case, &what, output)?;
    }
    works_now(case, good)
}

fn namespace_path_is_missing(case: &mut Case) -> Result<()> {
    let good = case.config.clone();
    for kind in ["network", "ipc", "uts", "pid"] {
        case.config = good.clone();
        case.namespace(json!({"type": kind, "path": "/nosuch/namespace"}));
        let output = case.run()?;
        refuses(case, kind, output.stderr_has("/nosuch/namespace")?)?;
    }
    works_now(case, good)
}

fn bad_rlimits(case: &mut Case) -> Result<()> {
    each_is_refused(case, &[("/process/rlimits", json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]))])
}

fn bad_options(case: &mut Case) -> Result<()> {
    case.write_config()?;
    let bundle = case.bundle();
    let bundle = bundle.to_string_lossy();
    let id = case.id.clone();
    let calls: [&[&str]; 6] = [
        &["run", "--nosuchoption", "--bundle", &bundle, &id],
        &["run", "--bundle", &bundle],
        &["create", "--preserve-fds", "many", "--bundle", &bundle, &id],
        &["kill"],
        &["state"],
        &["list", "--format", "nosuch"],
    ];
    for call in calls {
        let output = case.verb(call)?;
        ensure!(output.status != 0, "{call:?} succeeded");
        ensure!(output.status == 1 || case.peer.is_some(), "{call:?} gave status {}", output.status);
        ensure!(!output.stderr.is_empty() || !output.stdout.is_empty(), "{call:?} failed without a word");
    }
    works_now(case, case.config.clone())
}

fn an_unknown_verb(case: &mut Case) -> Result<()> {
    case.verb(["nosuchverb", &case.id])?.status(3).map(drop)
}

fn a_sentence_names_the_pointer(case: &mut Case) -> Result<()> {
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=banana"]}));
    let index = case.config["mounts"].as_array().map_or(0, Vec::len) - 1;
    let output = case.run()?.refused()?.one_sentence()?;
    let output = output.stderr_has(&format!("/mounts/{index}"))?.stderr_has("EINVAL")?;
    output.stderr_has(&case.id).map(drop)
}

/// Numbers that do not fit, wrap around or mean "unchanged", by every option that takes one: a sentence, and nothing else.
fn numbers_beyond_their_bounds(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let table: [(&[&str], &[&str]); 12] = [
        (&["exec", "--preserve-fds"], &["2147483646", "2147483648", "4294967293", "4294967296", "-1", "1e3", "0x3"]),
        (&["exec", "--user"], &["4294967295", "4294967296", "-1", "0:4294967295", "0:-1", "+0", "0:0:0", "0 "]),
        (&["exec", "--additional-gids"], &["4294967295", "4294967296", "-1", "+1", ""]),
        (&["kill"], &["65", "-1", "-9", "+9", "4294967305", "18446744073709551625", "RTMIN+31", "RTMAX-4294967295"]),
        (&["events", "--interval"], &["0s", "-1s", "2562048h", "5000000000000000h", "1e9s", "0.0000000001ns"]),
        (&["stats", "--interval"], &["0s", "-1s", "2562048h", "5000000000000000h"]),
        (
            &["update", "--memory"],
            &["9223372036854775808", "8388608t", "8192p", "-2", "1e30", "99999999999999999999.5k"],
        ),
        (&["update", "--memory-swap"], &["8388608T", "16777216T", "-9223372036854775808"]),
        (&["update", "--pids-limit"], &["9223372036854775808", "1.5", "0x10"]),
        (&["update", "--cpu-share"], &["-1", "18446744073709551616"]),
        (&["update", "--cpuset-cpus"], &["4294967295", "0-18446744073709551615", "-1", "8192"]),
        (&["checkpoint", "--status-fd"], &["2147483647", "2147483648", "-1", "3", "4", "5"]),
    ];
    for (call, values) in table {
        for value in values {
            let mut words = call.to_vec();
            match call {
                ["kill"] => words.extend([&case.id, "--", value]),
                ["exec", ..] => words.extend([value, &case.id as &str, "true"]),
                _ => words.extend([value, &case.id as &str]),
            }
            let output = case.verb(&words)?;
            ensure!(matches!(output.status, 1 | 255), "{words:?} gave status {}: {}", output.status, output.stderr);
            output.one_sentence().with_context(|| format!("{words:?}"))?;
            case.status_is("running").with_context(|| format!("{words:?}"))?;
        }
    }
    case.delete()
}

fn a_hooks_timeout_beyond_every_clock(case: &mut Case) -> Result<()> {
    for seconds in [i64::from(i32::MAX), i64::from(u32::MAX), i64::MAX / 1_000_000_000, i64::MAX] {
        let hook = json!([{"path": "/bin/true", "timeout": seconds}]);
        case.set("/hooks", json!({"createRuntime": hook, "createContainer": hook, "poststop": hook}));
        case.script("echo fine").prints("fine\n").with_context(|| format!("{seconds} seconds"))?;
    }
    Ok(())
}

/// What kill(1) takes for an option is no signal's name.
fn a_signal_with_a_dash(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for words in [["--", "-9"], ["--", "-KILL"], ["--", "-1"]] {
        let output = case.verb(["kill", &case.id].into_iter().chain(words))?;
        ensure!(output.status != 0, "kill {words:?} succeeded");
        case.status_is("running")?;
    }
    let output = case.verb(["kill", &case.id, "-9"])?;
    ensure!(output.status != 0, "kill ID -9 succeeded");
    case.status_is("running")?;
    case.verb(["kill", &case.id, "9"])?.ok()?;
    case.delete()
}

fn an_empty_variable_of_exec(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    for variable in ["", "=", "=x", "NOVALUE"] {
        let output = case.verb(["exec", "-e", variable, &case.id, "true"])?;
        ensure!(output.status != 0, "-e {variable:?} was taken");
    }
    case.verb(["exec", "-e", "A=", &case.id, "/bin/sh", "-c", "echo [$A]"])?.ok()?.stdout_is("[]\n")?;
    case.delete()
}

/// Calls `each` with the document less one of its members, and with each of these values in its place; with the first element
/// of each list, too.
fn each_odd_document(document: &Value, depth: usize, each: &mut impl FnMut(&str, Value) -> Result<()>) -> Result<()> {
    let odd = [json!(null), json!(-1), json!(1.5e300), json!(""), json!("a\0b"), json!([]), json!([null]), json!({})];
    let mut pointers = Vec::new();
    collect_pointers(document, "", depth, &mut pointers);
    for pointer in pointers {
        let (parent, key) = pointer.rsplit_once('/').context("a pointer has a slash")?;
        let mut without = document.clone();
        match without.pointer_mut(parent) {
            Some(Value::Object(members)) => drop(members.remove(key)),
            Some(Value::Array(list)) => drop(list.remove(0)),
            _ => continue,
        }
        each(&format!("{pointer} is missing"), without)?;
        for value in &odd {
            let mut changed = document.clone();
            *changed.pointer_mut(&pointer).context("the member is there")? = value.clone();
            each(&format!("{pointer} is {value}"), changed)?;
        }
    }
    Ok(())
}

fn collect_pointers(value: &Value, at: &str, depth: usize, out: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .filter(|(key, _)| !key.contains(['/', '~']))
            .map(|(key, value)| (format!("{at}/{key}"), value))
            .collect(),
        Value::Array(list) => list.first().map(|value| (format!("{at}/0"), value)).into_iter().collect(),
        _ => return,
    };
    for (pointer, value) in below.into_iter().filter(|_| depth > 0) {
        out.push(pointer.clone());
        collect_pointers(value, &pointer, depth - 1, out);
    }
}

/// A command that ended by itself: with a sentence where it failed, and never by a signal or a panic.
fn ended(what: &str, output: &Output) -> Result<()> {
    ensure!(matches!(output.status, 0 | 1 | 2 | 255), "{what}: status {}, {:?}", output.status, output.stderr);
    ensure!(!output.stderr.contains("panicked"), "{what}: {:?}", output.stderr);
    ensure!(output.status == 0 || !(output.stderr.is_empty() && output.stdout.is_empty()), "{what}: without a word");
    Ok(())
}

/// By the verbs that only look.
fn members_that_are_missing_or_odd(case: &mut Case) -> Result<()> {
    let mut full: Value = serde_json::from_str(include_str!("../src/spec/full.json"))?;
    full["root"]["path"] = json!(case.rootfs());
    let path = case.bundle().join("config.json");
    let bundle = case.bundle().to_string_lossy().into_owned();
    let (plain, mut count) = (case.config.clone(), 0);
    for (document, depth) in [(&full, 3), (&plain, 4)] {
        each_odd_document(document, depth, &mut |what, changed| {
            fs::write(&path, changed.to_string())?;
            // Each verb has its turn with each kind of change.
            let verbs: [&[&str]; 3] = [&["check"], &["explain"], &["check", "--format", "json"]];
            let verb = verbs[count % verbs.len()];
            count += 1;
            let output = case.verb(verb.iter().copied().chain(["--bundle", &bundle]))?;
            ended(&format!("{verb:?}, {what}"), &output)
        })?;
    }
    ensure!(count > 1000, "only {count} documents");
    Ok(())
}

fn odd_members_in_create(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]);
    let good = case.config.clone();
    let mut documents = Vec::new();
    each_odd_document(&good, 2, &mut |what, changed| {
        documents.push((what.to_owned(), changed));
        Ok(())
    })?;
    for (what, changed) in documents {
        case.config = changed;
        let output = case.try_create(&[])?;
        ended(&what, &output)?;
        if output.status == 0 {
            case.delete().context(what)?;
            continue;
        }
        let left = case.leftovers();
        ensure!(left.is_empty(), "{what}: left behind {left:?}");
    }
    works_now(case, good)
}

fn odd_members_in_exec(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    let full: Value = serde_json::from_str(include_str!("../src/spec/full.json"))?;
    let mut process = full["process"].clone();
    for member in ["terminal", "consoleSize", "execCPUAffinity"] {
        process.as_object_mut().context("an object")?.remove(member);
    }
    process["cwd"] = json!("/");
    let path = case.dir.join("process.json");
    each_odd_document(&process, 2, &mut |what, changed| {
        fs::write(&path, changed.to_string())?;
        let output = case.verb(["exec", "--process", &path.to_string_lossy(), &case.id])?;
        // The program's own status is 0.
        ended(what, &output)
    })?;
    case.status_is("running")?;
    case.delete()
}

/// No word of hull's own takes the place of bytes that it cannot read.
fn bytes_that_are_no_text(case: &mut Case) -> Result<()> {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;
    case.args(["sleep", "60"]).up()?;
    let odd = OsStr::from_bytes(b"L3:0=\xff\xfe");
    for option in ["--l3-cache-schema", "--mem-bw-schema", "--memory", "--pids-limit", "--cpuset-cpus", "--cpuset-mems"]
    {
        let words: [OsString; 4] = ["update".into(), option.into(), odd.into(), case.id.clone().into()];
        let output = case.verb(words)?;
        output.status(1)?.one_sentence()?.stderr_has(&format!("option {option} is text"))?;
    }
    case.delete()
}
