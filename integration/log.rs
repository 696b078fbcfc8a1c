//! `--log`: engines read the last line of level error, and any line that is not JSON destroys the message for them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Output, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("log/json_has_level_msg_and_time", json_has_level_msg_and_time),
        test("log/text_has_the_sentence", text_has_the_sentence),
        test("log/stderr_has_the_sentence_too", stderr_has_the_sentence_too),
        test("log/stderr_has_the_word_error", stderr_has_the_word_error).peer("crun", "a time and the sentence alone"),
        test("log/errno_is_worded_as_docker_matches_it", errno_is_worded_as_docker_matches_it)
            .peer("crun", "strerror has a capital letter"),
        test("log/a_log_that_cannot_be_opened_fails", a_log_that_cannot_be_opened_fails)
            .peer("crun", "has words of its own, and no log named by nothing"),
        test("log/success_writes_no_error", success_writes_no_error),
        test("log/the_examples_warn_of_nothing", the_examples_warn_of_nothing)
            .requires(Need::Root)
            .requires(Need::Hull),
        test("log/is_no_descriptor_of_the_callers", is_no_descriptor_of_the_callers).requires(Need::Hull),
        test("log/debug_says_what_is_done", debug_says_what_is_done).peer("*", "says what its own stages do"),
    ]
}

/// A run that fails, with a log.
fn fail(case: &mut Case, format: &str) -> Result<(Output, String)> {
    case.args(["/nosuch/program"]).write_config()?;
    let (bundle, log) = (case.bundle(), case.dir.join("log"));
    let (bundle, path) = (bundle.to_string_lossy(), log.to_string_lossy());
    let output =
        case.verb(["--log", &path, "--log-format", format, "run", "--bundle", &bundle, &case.id])?.refused()?;
    Ok((output, kernel::read(&log)?))
}

fn json_has_level_msg_and_time(case: &mut Case) -> Result<()> {
    let (_, text) = fail(case, "json")?;
    let mut last = None;
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).with_context(|| format!("a line of the log is {line:?}"))?;
        if entry["level"] == "error" {
            last = Some(entry);
        }
    }
    let last = last.with_context(|| format!("no line of level error in {text:?}"))?;
    let message = last["msg"].as_str().context("msg is a text")?;
    ensure!(message.contains("/nosuch/program"), "msg is {message:?}");
    ensure!(message.to_lowercase().contains("no such file or directory"), "msg is {message:?}");
    let time = last["time"].as_str().context("time is a text")?;
    ensure!(is_rfc3339(time), "time is {time:?}");
    Ok(())
}

/// 2024-01-31T12:34:56[.789](Z|+01:00)
fn is_rfc3339(time: &str) -> bool {
    let shape = |text: &str, form: &str| {
        text.len() == form.len()
            && text.chars().zip(form.chars()).all(|(c, f)| if f == '0' { c.is_ascii_digit() } else { c == f })
    };
    let Some((date, rest)) = time.split_at_checked(19) else { return false };
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    shape(date, "0000-00-00T00:00:00") && (zone == "Z" || shape(zone, "+00:00") || shape(zone, "-00:00"))
}

fn text_has_the_sentence(case: &mut Case) -> Result<()> {
    let (_, text) = fail(case, "text")?;
    ensure!(text.contains("/nosuch/program"), "the log is {text:?}");
    ensure!(text.to_lowercase().contains("no such file or directory"), "the log is {text:?}");
    Ok(())
}

fn stderr_has_the_sentence_too(case: &mut Case) -> Result<()> {
    let (output, _) = fail(case, "json")?;
    output.stderr_has("/nosuch/program").map(drop)
}

/// Scripts look for it, whatever failed. The log has a level of its own, and so the sentence alone.
fn stderr_has_the_word_error(case: &mut Case) -> Result<()> {
    case.verb(["state", &case.id])?.refused()?.stderr_has("error")?;
    case.args(["/nosuch/program"]).run()?.refused()?.stderr_has("error")?;
    if case.peer.is_none() {
        let (output, log) = fail(case, "json")?;
        let last: Value = serde_json::from_str(log.lines().last().context("the log has a line")?)?;
        let message = last["msg"].as_str().context("msg is a text")?;
        let code = last["code"].as_str().context("code is a text")?;
        let wanted = format!("hull: error: {message} [{code}]\n");
        ensure!(output.stderr == wanted, "stderr is {:?}, msg {message:?}", output.stderr);
    }
    Ok(())
}

/// The docker command gives 127 or 126 for these words, in this case of letters, and 125 for everything else.
fn errno_is_worded_as_docker_matches_it(case: &mut Case) -> Result<()> {
    std::fs::write(case.rootfs().join("etc/text"), "not executable\n")?;
    case.args(["/nosuch/program"]).run()?.refused()?.stderr_has("no such file or directory")?;
    case.args(["/etc/text"]).run()?.refused()?.stderr_has("permission denied").map(drop)
}

/// The log is where engines look for the reason of a failure: without it nothing is begun.
fn a_log_that_cannot_be_opened_fails(case: &mut Case) -> Result<()> {
    case.script("echo ran").write_config()?;
    let (bundle, directory) = (case.bundle(), case.dir.to_string_lossy().into_owned());
    let bundle = bundle.to_string_lossy();
    for (path, words) in
        [("/nosuch/log", "open /nosuch/log: no such file or directory"), (&*directory, "is a directory")]
    {
        let output = case.verb(["--log", path, "run", "--bundle", &bundle, &case.id])?.refused()?;
        output.stdout_is("")?.stderr_has(words)?;
        case.verb(["state", &case.id])?.refused()?;
    }
    case.verb(["--log", "", "run", "--bundle", &bundle, &case.id])?.ok()?.stdout_is("ran\n").map(drop)
}

fn success_writes_no_error(case: &mut Case) -> Result<()> {
    case.args(["echo", "fine"]).write_config()?;
    let (bundle, log) = (case.bundle(), case.dir.join("log"));
    let (bundle, path) = (bundle.to_string_lossy(), log.to_string_lossy());
    case.verb(["--log", &path, "--log-format", "json", "run", "--bundle", &bundle, &case.id])?
        .ok()?
        .stdout_is("fine\n")?;
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    ensure!(!text.contains("\"level\":\"error\""), "the log is {text:?}");
    Ok(())
}

/// The log is open before the descriptors are counted that a container shall get.
fn is_no_descriptor_of_the_callers(case: &mut Case) -> Result<()> {
    case.args(["ls", "/proc/self/fd"]).write_config()?;
    let (bundle, log) = (case.bundle(), case.dir.join("log"));
    let (bundle, path) = (bundle.to_string_lossy(), log.to_string_lossy());
    let args = ["--log", &path, "run", "--preserve-fds", "1", "--bundle", &bundle, &case.id];
    case.verb(args)?.refused()?.stderr_has("there is no file descriptor 3").map(drop)
}

fn debug_says_what_is_done(case: &mut Case) -> Result<()> {
    let hook = json!([{"path": "/bin/true"}]);
    case.set("/hooks", json!({"createRuntime": hook, "createContainer": hook}));
    case.namespace(json!({"type": "uts", "path": "/proc/self/ns/uts"})).edit(|config| {
        // A name would be the host's.
        config.as_object_mut().expect("an object").remove("hostname");
    });
    case.args(["true"]).write_config()?;
    let root = rustix::process::geteuid().is_root();
    if !root {
        // Of an ordinary user the host's is not to be joined.
        case.namespace(json!({"type": "uts"})).write_config()?;
    }
    let (bundle, log) = (case.bundle(), case.dir.join("log"));
    let (bundle, path) = (bundle.to_string_lossy(), log.to_string_lossy());
    let args = ["--debug", "--log", &path, "--log-format", "json", "run", "--bundle", &bundle, &case.id];
    let output = case.verb(args)?.ok()?.stdout_is("")?;
    ensure!(output.stderr.is_empty(), "stderr is {:?}", output.stderr);
    let mut said = Vec::new();
    for line in kernel::read(&log)?.lines() {
        let entry: Value = serde_json::from_str(line).with_context(|| format!("a line of the log is {line:?}"))?;
        ensure!(is_rfc3339(entry["time"].as_str().context("a time")?), "{line}");
        ensure!(entry["level"] == "debug" || entry["level"] == "info", "{line}");
        said.push(entry["msg"].as_str().context("a message")?.to_owned());
    }
    let config = format!("config {bundle}/config.json");
    let mut wanted = vec![
        &*config,
        "setup: 4 clone init",
        "init is process ",
        "init: 7 namespaces",
        "run createRuntime hook #0: /bin/true",
        "run createContainer hook #0: /bin/true",
        "init: 21 startContainer hooks",
    ];
    let cgroup = format!("/{}", case.id);
    if root {
        wanted.extend(["join the uts namespace /proc/self/ns/uts", &cgroup]);
    }
    for words in wanted {
        ensure!(said.iter().any(|message| message.contains(words)), "nothing of {words:?} in {said:#?}");
    }
    Ok(())
}

/// What engines send every time is no warning: each bundle of bundles/ says nothing on stderr when it is created.
fn the_examples_warn_of_nothing(case: &mut Case) -> Result<()> {
    let mut tried = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/bundles"))? {
        case.config = serde_json::from_str(&kernel::read(entry?.path().join("config.json"))?)?;
        case.config["root"]["path"] = json!(case.rootfs());
        case.config["process"]["args"] = json!(["true"]);
        case.config["process"]["terminal"] = json!(false);
        case.config["linux"]["cgroupsPath"] = json!(format!("/{}", case.id));
        // What a machine may lack, or what only its own bundle has.
        for (section, what) in
            [("", "hooks"), ("/linux", "netDevices"), ("/linux", "resources"), ("/linux", "intelRdt")]
        {
            case.config
                .pointer_mut(section)
                .and_then(serde_json::Value::as_object_mut)
                .context("an object")?
                .remove(what);
        }
        let mounts = case.config["mounts"].as_array_mut().context("a list")?;
        mounts.retain(|mount| !matches!(mount["type"].as_str(), Some("bind" | "overlay")));
        let output = case.run()?.ok()?;
        ensure!(output.stderr.is_empty(), "{:?}", output.stderr);
        tried += 1;
    }
    ensure!(tried > 9, "{tried} bundles");
    Ok(())
}
