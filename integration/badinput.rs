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
        test("badinput/an_unknown_verb", an_unknown_verb).peer("crun", "gives status 1"),
        test("badinput/a_sentence_names_the_pointer", a_sentence_names_the_pointer).requires(Need::Hull),
    ]
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
