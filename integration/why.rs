//! `hull why`: what is left of containers that failed or died, when an engine has deleted them.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

/// The journal in the directory of all containers.
const NAME: &str = "@why";

pub fn cases() -> Vec<Test> {
    vec![
        test("why/a_failed_run_that_left_nothing_else", a_failed_run),
        test("why/a_death", a_death),
        test("why/nothing_is_written_while_all_goes_well", nothing_while_all_goes_well),
        test("why/control_characters_stay_on_paper", control_characters),
        test("why/files_that_are_no_journal", files_that_are_no_journal),
        test("why/a_directory_of_another_user", a_directory_of_another_user).requires(Need::Root),
        test("why/it_stays_short_and_young", it_stays_short_and_young),
    ]
    .into_iter()
    .map(|test| test.requires(Need::Hull))
    .collect()
}

fn entries(case: &Case, words: &[&str]) -> Result<Vec<Value>> {
    let output = case.verb(["why", "--format", "json"].iter().chain(words))?.ok()?;
    serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))
}

fn a_failed_run(case: &mut Case) -> Result<()> {
    let said = case.args(["/no/such"]).run()?.refused()?.stderr;
    case.verb(["delete", "--force", &case.id])?.ok()?;
    let list = entries(case, &[&case.id])?;
    ensure!(list.len() == 1, "{list:?}");
    let entry = &list[0];
    let message = entry["message"].as_str().context("a sentence")?;
    ensure!(said.contains(message) && message.contains("/no/such"), "{said:?}, {entry}");
    ensure!(entry["verb"] == "run" && entry["id"] == case.id.as_str() && entry["code"] == "HULL-E060", "{entry}");
    let config = case.bundle().join("config.json");
    let sum = std::process::Command::new("sha256sum").arg(config).output().map(|output| output.stdout);
    if let Ok(sum) = sum {
        let sum = String::from_utf8_lossy(&sum).split(' ').next().unwrap_or_default().to_owned();
        ensure!(entry["config"] == sum.as_str(), "sha256sum says {sum}: {entry}");
    }
    let mode = fs::metadata(case.root().join(NAME))?.mode() & 0o7777;
    ensure!(mode == 0o600, "its mode is {mode:o}");
    let text = case.verb(["why"])?.ok()?.stdout;
    ensure!(text.contains(message) && text.contains(&case.id), "{text:?}");
    // It is no container, and does not stand in the way of one.
    case.verb(["list", "-q"])?.ok()?.stdout_is("")?;
    case.verb(["why", "another"])?.refused()?.one_sentence()?;
    case.verb(["why", "../x"])?.refused()?.one_sentence()?;
    case.script("echo fine").prints("fine\n")
}

fn a_death(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    case.verb(["exec", &case.id, "sh", "-c", "kill -SEGV $$"])?.status(128 + 11)?;
    case.delete()?;
    let list = entries(case, &[&case.id])?;
    ensure!(list.len() == 1 && list[0]["verb"] == "exec" && list[0]["status"] == 139, "{list:?}");
    ensure!(list[0]["message"] == "killed by SIGSEGV" && list[0]["code"].is_null(), "{list:?}");
    Ok(())
}

fn nothing_while_all_goes_well(case: &mut Case) -> Result<()> {
    case.args(["sleep", "60"]).up()?;
    case.verb(["exec", &case.id, "sh", "-c", "exit 3"])?.status(3)?;
    // What was only asked wrongly is no failure.
    case.verb(["start", &case.id])?.refused()?;
    case.verb(["state", "another"])?.refused()?;
    case.verb(["kill", "another"])?.refused()?;
    case.delete()?;
    case.script("exit 4").run()?.status(4)?;
    ensure!(!case.root().join(NAME).exists(), "{:?}", kernel::read(case.root().join(NAME)));
    ensure!(entries(case, &[])?.is_empty(), "it has entries");
    case.verb(["why"])?.ok()?.stdout_is("").map(drop)
}

/// A hook's last words, which anybody may have written.
fn control_characters(case: &mut Case) -> Result<()> {
    let script = r#"printf 'gone \033[2J\033]0;title\007\r \342\200\256back\n{"verb":"x"}\n' >&2; exit 1"#;
    case.set("/hooks", json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}));
    case.args(["true"]).run()?.refused()?;
    let text = case.verb(["why", &case.id])?.ok()?.stdout;
    ensure!(text.contains("gone \\u{1b}[2J"), "{text:?}");
    let bad = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    ensure!(!text.contains(bad), "{text:?}");
    let list = entries(case, &[])?;
    ensure!(list.len() == 1 && list[0]["message"].as_str().is_some_and(|text| text.contains("\u{1b}[2J")), "{list:?}");
    Ok(())
}

fn files_that_are_no_journal(case: &mut Case) -> Result<()> {
    let (root, victim) = (case.root(), case.dir.join("victim"));
    let path = root.join(NAME);
    fs::create_dir_all(&root)?;
    let fails = |case: &mut Case| case.args(["/no/such"]).run()?.refused()?.stderr_has("/no/such").map(drop);
    fs::write(&victim, "precious\n")?;
    symlink(&victim, &path)?;
    fails(case)?;
    case.verb(["why"])?.refused()?.one_sentence()?;
    fs::remove_file(&path)?;
    fs::hard_link(&victim, &path)?;
    fails(case)?;
    ensure!(kernel::read(&victim)? == "precious\n", "another's file was written");
    fs::remove_file(&path)?;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)?;
    fails(case)?;
    case.verb(["why"])?.refused()?.one_sentence()?;
    fs::remove_file(&path)?;
    fs::create_dir(&path)?;
    fails(case)?;
    case.verb(["why"])?.refused()?.one_sentence()?;
    fs::remove_dir(&path)?;
    // What is no entry is passed over.
    let entry = r#"{"time":"T","seconds":99999999999,"verb":"run","id":"old","message":"m"}"#;
    let odd = ["[]", "{}", "\u{0}", "{\"seconds\":-1}", "null", &"[".repeat(4000), entry, "no end"];
    fs::write(&path, odd.join("\n").as_bytes())?;
    let list = entries(case, &[])?;
    ensure!(list.len() == 1 && list[0]["id"] == "old", "{list:?}");
    fs::remove_file(&path).map_err(Into::into)
}

/// What lies there is his, and may be anything at any time.
fn a_directory_of_another_user(case: &mut Case) -> Result<()> {
    let root = case.root();
    fs::create_dir_all(&root)?;
    std::os::unix::fs::chown(&root, Some(1000), Some(1000))?;
    case.args(["/no/such"]).run()?.refused()?;
    let written = root.join(NAME).exists();
    std::os::unix::fs::chown(&root, Some(0), Some(0))?;
    ensure!(!written, "it wrote into another user's directory");
    Ok(())
}

fn it_stays_short_and_young(case: &mut Case) -> Result<()> {
    fs::create_dir_all(case.root())?;
    let path = case.root().join(NAME);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let line = |seconds: u64, id: &str| {
        json!({"time": "T", "seconds": seconds, "verb": "run", "id": id, "message": "m".repeat(900)}).to_string() + "\n"
    };
    let mut text: String = (0..300).map(|_| line(now - 8 * 24 * 3600, "old")).collect();
    text.extend((0..300).map(|number| line(now, &format!("young{number}"))));
    fs::write(&path, text)?;
    ensure!(entries(case, &["old"]).is_err() || entries(case, &["old"])?.is_empty(), "what is old is shown");
    case.args(["/no/such"]).run()?.refused()?;
    let length = fs::metadata(&path)?.len();
    ensure!(length < 160 << 10, "it is {length} bytes long");
    ensure!(entries(case, &["young299"])?.len() == 1 && entries(case, &[&case.id])?.len() == 1, "the last are gone");
    ensure!(!kernel::read(&path)?.contains("\"old\""), "what is old is kept");
    Ok(())
}
