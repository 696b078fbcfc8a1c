//! `explain` says what create would do and does nothing; `--trace` says what was done, and when.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("explain/names_the_steps_in_order_and_does_nothing", names_the_steps).requires(Need::Hull),
        test("explain/json_has_side_call_and_pointer", json_has_its_fields).requires(Need::Hull),
        test("explain/says_what_create_would_refuse", says_what_create_would_refuse).requires(Need::Hull),
        test("explain/the_shell_commands_make_the_same_root", the_shell_does_the_same)
            .requires(Need::Hull)
            .requires(Need::Root),
        test("trace/shows_setup_and_init_as_they_ran", trace_shows_both_sides).requires(Need::Hull),
        test("trace/of_start_joins_the_same_init", trace_of_start).requires(Need::Hull),
    ]
}

fn explain(case: &Case, format: &str) -> Result<String> {
    case.write_config()?;
    let bundle = case.bundle();
    Ok(case.verb(["explain", "--bundle", &bundle.to_string_lossy(), "--format", format])?.ok()?.stdout)
}

fn names_the_steps(case: &mut Case) -> Result<()> {
    case.mount(json!({"destination": "/new", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}));
    let text = explain(case, "text")?;
    let place = |word: &str| text.find(word).with_context(|| format!("{word:?} is not in {text}"));
    let order =
        ["clone init", "mount proc on /proc", "mount tmpfs on /new", "hide /proc/kcore", "pivot_root", "/process/args"];
    let places: Vec<usize> = order.into_iter().map(place).collect::<Result<_>>()?;
    ensure!(places.is_sorted(), "{order:?} stand at {places:?}");
    ensure!(!case.root().exists(), "explain made the state directory");
    ensure!(!case.rootfs().join("new").exists(), "explain made the mount point");
    Ok(())
}

fn json_has_its_fields(case: &mut Case) -> Result<()> {
    let lines: Vec<Value> = serde_json::from_str(&explain(case, "json")?)?;
    for line in &lines {
        for field in ["side", "what", "call", "pointer"] {
            ensure!(line[field].is_string(), "{field} of {line}");
        }
        ensure!(["setup", "init", "start"].contains(&line["side"].as_str().unwrap_or_default()), "{line}");
        let pointer = line["pointer"].as_str().unwrap_or_default();
        ensure!(!pointer.starts_with("/mounts/") || case.config.pointer(pointer).is_some(), "{line}");
    }
    let last = lines.last().context("there are steps")?;
    ensure!(last["call"] == "execve", "the last step is {last}");
    Ok(())
}

fn says_what_create_would_refuse(case: &mut Case) -> Result<()> {
    case.set("/process/cwd", json!("not/absolute")).write_config()?;
    let bundle = case.bundle();
    let explained = case.verb(["explain", "--bundle", &bundle.to_string_lossy()])?.refused()?.one_sentence()?;
    let created = case.try_create(&[])?.refused()?;
    let sentence = |text: &str| text.trim().rsplit_once("config.json: ").map(|split| split.1.to_owned());
    let (explained, created) = (sentence(&explained.stderr), sentence(&created.stderr));
    ensure!(explained.is_some() && explained == created, "explain says {explained:?}, create says {created:?}");
    Ok(())
}

/// The mount commands of `--format sh`, run by hand in namespaces of their own, give the mounts that hull makes.
fn the_shell_does_the_same(case: &mut Case) -> Result<()> {
    // A mount of the cgroups needs the cgroup namespace that only the container has.
    case.edit(|config| config["mounts"].as_array_mut().expect("a list").retain(|m| m["type"] != "cgroup"));
    case.set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .set("/root/readonly", json!(false));
    let script = r"while read -r _ _ _ _ at options rest; do rest=${rest##* - }; echo $at ${rest%% *} $options; done \
        </proc/self/mountinfo | grep -v '^/ ' | sort; ls -l /dev | sed 's/ [A-Z][a-z][a-z] .*:.. / /; s/^total.*//; s/ *[0-9]* root/ root/'";
    case.script(script);
    let by_hull = case.run()?.ok()?.stdout;
    let commands = explain(case, "sh")?;
    let words = ["mount ", "mknod ", "ln ", "pivot_root "];
    let commands: Vec<&str> = commands.lines().filter(|line| words.iter().any(|word| line.starts_with(word))).collect();
    ensure!(commands.len() > 10, "only {commands:?}");
    let mut by_hand = String::from("set -e\numask 0\n");
    for line in &commands {
        // hull makes a mount point where it is missing.
        let point = line.rsplit(' ').next().filter(|point| line.starts_with("mount ") && point.starts_with("./"));
        by_hand += &point.map(|point| format!("mkdir -p -m 755 {point}\n")).unwrap_or_default();
        by_hand += &format!("{line}\n");
        if line.starts_with("mount --rbind") {
            by_hand += &format!("cd {}\n", case.rootfs().display());
        }
    }
    by_hand += "umount -l .\nexec sh -c \"$1\"\n";
    let output = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--mount", "--net", "--ipc", "--uts", "--propagation", "private", "sh", "-c"])
        .args([by_hand.as_str(), "sh", script])
        .output()
        .context("unshare")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{by_hand}\n{}", String::from_utf8_lossy(&output.stderr));
    ensure!(printed == by_hull.as_str(), "by hand:\n{printed}\nby hull:\n{by_hull}\n{by_hand}");
    Ok(())
}

/// The events of a trace: name, row and begin, in the order of begin.
fn events(text: &str) -> Result<Vec<(String, String, f64)>> {
    let all: Vec<Value> = serde_json::from_str(text).with_context(|| format!("the trace is {text}"))?;
    let row = |tid: &Value| {
        let names = all.iter().find(|event| event["ph"] == "M" && event["tid"] == *tid);
        names.and_then(|event| event["args"]["name"].as_str()).unwrap_or_default().to_owned()
    };
    let mut events = Vec::new();
    for event in all.iter().filter(|event| event["ph"] == "X") {
        let (begin, took) = (event["ts"].as_f64().context("ts")?, event["dur"].as_f64().context("dur")?);
        ensure!(took >= 0.0, "{event}");
        events.push((event["name"].as_str().context("name")?.to_owned(), row(&event["tid"]), begin));
    }
    events.sort_by(|a, b| a.2.total_cmp(&b.2));
    Ok(events)
}

fn trace_shows_both_sides(case: &mut Case) -> Result<()> {
    case.args(["true"]).write_config()?;
    let (bundle, file) = (case.bundle(), case.dir.join("trace"));
    let (bundle, path) = (bundle.to_string_lossy(), file.to_string_lossy());
    case.verb(["--trace", &path, "run", "--bundle", &bundle, &case.id])?.ok()?;
    let events = events(&kernel::read(&file)?)?;
    let at = |row: &str, word: &str| {
        let found = events.iter().position(|(name, of, _)| of == row && name.contains(word));
        found.with_context(|| format!("no step {word:?} of {row} in {events:?}"))
    };
    let order =
        [at("setup", "config.json")?, at("setup", "clone init")?, at("init", "mounts")?, at("init", "pivot_root")?];
    ensure!(order.is_sorted(), "{order:?} in {events:?}");
    ensure!(at("init", "execve")? < at("setup", "delete")?, "{events:?}");
    Ok(())
}

fn trace_of_start(case: &mut Case) -> Result<()> {
    case.args(["true"]);
    let init = case.create()?;
    let file = case.dir.join("trace");
    case.verb(["--trace", &file.to_string_lossy(), "start", &case.id])?.ok()?;
    let events = events(&kernel::read(&file)?)?;
    for (row, word) in [("start", "let init go"), ("init", "execve")] {
        ensure!(events.iter().any(|(name, of, _)| of == row && name.contains(word)), "{row}, {word}: {events:?}");
    }
    init.wait()?;
    case.delete()
}
