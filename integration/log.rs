//! `--log`: engines read the last line of level error, and any line that is not JSON destroys the message for them.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::{Case, Output, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("log/json_has_level_msg_and_time", json_has_level_msg_and_time),
        test("log/text_has_the_sentence", text_has_the_sentence),
        test("log/stderr_has_the_sentence_too", stderr_has_the_sentence_too),
        test("log/errno_is_worded_as_docker_matches_it", errno_is_worded_as_docker_matches_it)
            .peer("crun", "strerror has a capital letter"),
        test("log/an_unwritable_log_says_so", an_unwritable_log_says_so),
        test("log/success_writes_no_error", success_writes_no_error),
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

/// The docker command gives 127 or 126 for these words, in this case of letters, and 125 for everything else.
fn errno_is_worded_as_docker_matches_it(case: &mut Case) -> Result<()> {
    std::fs::write(case.rootfs().join("etc/text"), "not executable\n")?;
    case.args(["/nosuch/program"]).run()?.refused()?.stderr_has("no such file or directory")?;
    case.args(["/etc/text"]).run()?.refused()?.stderr_has("permission denied").map(drop)
}

fn an_unwritable_log_says_so(case: &mut Case) -> Result<()> {
    // A log that cannot be written never changes what becomes of the container: either it ran, or it was refused
    // before anything was made.
    case.script("echo ran").write_config()?;
    let bundle = case.bundle();
    let output = case.verb(["--log", "/nosuch/log", "run", "--bundle", &bundle.to_string_lossy(), &case.id])?;
    ensure!(output.stdout == if output.status == 0 { "ran\n" } else { "" }, "status {}", output.status);
    if case.peer.is_none() {
        output.ok()?.stdout_is("ran\n")?;
    }
    Ok(())
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
