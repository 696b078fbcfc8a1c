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
        test("explain/the_order_is_that_of_a_run", the_order_is_that_of_a_run)
            .requires(Need::Hull)
            .requires(Need::Root),
        test("explain/the_script_makes_what_each_bundle_says", the_script_makes_each_bundle)
            .requires(Need::Hull)
            .requires(Need::Root)
            .requires(Need::NoFilter)
            .requires(Need::Tool("capsh")),
        test("explain/the_script_stops_before_it_touches_anything", the_script_stops)
            .requires(Need::Hull)
            .requires(Need::Tool("capsh")),
        test("explain/cause_and_cure_of_a_code", cause_and_cure_of_a_code).requires(Need::Hull),
        test("trace/shows_setup_and_init_as_they_ran", trace_shows_both_sides).requires(Need::Hull),
        test("trace/is_drawn_on_stderr", trace_is_drawn).requires(Need::Hull),
        test("trace/a_file_is_drawn", a_trace_is_drawn).requires(Need::Hull),
        test("trace/files_that_are_none", files_that_are_no_trace).requires(Need::Hull),
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

/// The code at the end of an error is one that `explain` knows, with the words of docs/errors.md.
fn cause_and_cure_of_a_code(case: &mut Case) -> Result<()> {
    let failed = case.args(["/nosuch/program"]).run()?.refused()?.one_sentence()?;
    let code = failed.stderr.trim_end().rsplit_once(" [").and_then(|(_, code)| code.strip_suffix(']'));
    let code = code.with_context(|| format!("no code at the end of {:?}", failed.stderr))?.to_owned();
    let table = include_str!("../docs/errors.md");
    let row = table.lines().find(|line| line.contains(&code)).with_context(|| format!("{code} is not documented"))?;
    for asked in [code.clone(), code.to_lowercase(), code.replace("HULL-", "")] {
        let text = case.verb(["explain", &asked])?.ok()?.stdout;
        for cell in row.trim_matches('|').split('|').map(str::trim) {
            ensure!(text.contains(cell), "{asked}: {text:?} does not have {cell:?}");
        }
    }
    let json: Value = serde_json::from_str(&case.verb(["explain", "-f", "json", &code])?.ok()?.stdout)?;
    ensure!(json["code"] == code.as_str() && json["cure"].is_string(), "{json}");
    for bad in [&["explain", "E999"][..], &["explain", "../E060"], &["explain", ""], &["explain", "-f", "sh", &code]] {
        case.verb(bad)?.refused()?.one_sentence()?;
    }
    case.verb(["explain", "--bundle", "/", &code])?.refused()?.one_sentence()?;
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

/// What a program sees of its container; in mountinfo not what the file system says of itself (on the second side of the dash).
const PROBE: &str = r#"cut -d' ' -f5- /proc/self/mountinfo | sed 's/ - \([^ ]*\) .*/ - \1/' | sort
grep -e ^Cap -e NoNewPrivs -e Groups -e Umask -e ^Uid -e ^Gid /proc/self/status
cat /proc/self/uid_map /proc/self/gid_map; hostname; pwd; env | sort; ulimit -a
for kind in pid net mnt ipc uts cgroup user; do readlink /proc/self/ns/$kind; done
ls -l /dev | sed 's/ [A-Z][a-z][a-z] .*:.. / /; s/^total.*//; s/ *[0-9]* root/ root/'"#;

/// Lines, with a namespace's number told apart only from the host's.
fn seen(text: &str) -> Vec<String> {
    let is_hosts = |line: &str| {
        let kind = line.split(':').next().unwrap_or_default();
        std::fs::read_link(format!("/proc/self/ns/{kind}")).is_ok_and(|link| link.to_string_lossy() == line)
    };
    let each = |line: &str| match line.split_once(":[") {
        Some((kind, _)) => format!("{kind}: {}", if is_hosts(line) { "the host's" } else { "its own" }),
        None => line.to_owned(),
    };
    text.lines().map(each).collect()
}

/// Each bundle of bundles/ with this program in its own's place, and without what belongs to its own subject alone: hooks,
/// devices of the network, sources on the host.
fn each_bundle(case: &mut Case, args: &[&str], mut look: impl FnMut(&mut Case) -> Result<()>) -> Result<()> {
    let mut tried = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/bundles"))? {
        let bundle = entry?.path();
        let mut config: Value = serde_json::from_str(&kernel::read(bundle.join("config.json"))?)?;
        config["root"]["path"] = json!(case.rootfs());
        config["process"]["args"] = json!(args);
        config["process"]["terminal"] = json!(false);
        config["linux"]["cgroupsPath"] = json!(format!("/{}", case.id));
        for (section, what) in [("", "hooks"), ("/linux", "netDevices"), ("/linux", "seccomp")] {
            config.pointer_mut(section).and_then(Value::as_object_mut).context("an object")?.remove(what);
        }
        if !kernel::read("/sys/fs/cgroup/cgroup.controllers").map_or(true, |have| have.contains("memory")) {
            config["linux"].as_object_mut().context("an object")?.remove("resources");
        }
        let sources = ["bind", "overlay"];
        let mounts = config["mounts"].as_array_mut().context("a list")?;
        mounts.retain(|m| {
            let binds = m["options"].as_array().is_some_and(|list| list.iter().any(|word| word == "bind"));
            !binds && !m["type"].as_str().is_some_and(|kind| sources.contains(&kind))
        });
        mounts.push(
            json!({"destination": "/bound", "type": "bind", "source": "/etc", "options": ["bind", "ro", "nosuid"]}),
        );
        case.config = config;
        look(case).with_context(|| format!("{bundle:?}"))?;
        tried += 1;
    }
    ensure!(tried >= 13, "only {tried} bundles");
    Ok(())
}

/// What the script makes is what hull makes.
fn the_script_makes_each_bundle(case: &mut Case) -> Result<()> {
    each_bundle(case, &["/bin/sh", "-c", PROBE], |case| {
        let by_hull = case.run()?.ok()?.stdout;
        let script = explain(case, "sh")?;
        let file = case.dir.join("script");
        std::fs::write(&file, &script)?;
        let output = std::process::Command::new("sh").arg(&file).arg("--anyway").output()?;
        kernel::eventually("the script's processes have left its cgroups", || {
            let gone = |directory: &std::path::PathBuf| std::fs::remove_dir(directory).is_ok() || !directory.exists();
            kernel::cgroups_named(&case.id).iter().all(gone)
        })?;
        let (said, printed) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        ensure!(output.status.success(), "{said}\n{script}");
        let (by_hull, by_hand) = (seen(&by_hull), seen(&printed));
        let differs = by_hull
            .iter()
            .filter(|line| !by_hand.contains(line))
            .chain(by_hand.iter().filter(|line| !by_hull.contains(line)));
        let differs: Vec<_> = differs.collect();
        ensure!(differs.is_empty() && by_hull.len() == by_hand.len(), "{differs:?}\n{script}");
        Ok(())
    })
}

/// The steps of a real run and those that `explain` lists are the same, side by side, and in the same order.
fn the_order_is_that_of_a_run(case: &mut Case) -> Result<()> {
    each_bundle(case, &["true"], |case| {
        let listed: Vec<Value> = serde_json::from_str(&explain(case, "json")?)?;
        let file = case.dir.join("trace");
        case.globals = vec!["--trace".to_owned(), file.to_string_lossy().into_owned()];
        let ran = case.run();
        case.globals.clear();
        ran?.ok()?;
        let events = events(&kernel::read(&file)?)?;
        for side in ["setup", "init"] {
            let number = |name: &str| name.split(' ').next().and_then(|word| word.parse::<u64>().ok());
            let ran = events.iter().filter(|(_, of, _)| of == side).map(|(name, ..)| number(name));
            let ran: Vec<u64> = ran.collect::<Option<_>>().with_context(|| format!("{events:?}"))?;
            ensure!(ran.is_sorted() && ran.len() > 5, "{side} ran {ran:?}");
            let listed = listed.iter().filter(|line| line["side"] == side).map(|line| line["step"].as_u64());
            let listed: Vec<u64> = listed.collect::<Option<_>>().context("a number of each step")?;
            // While init waits for start, the timeline is whole.
            let missing: Vec<_> = listed.iter().filter(|step| **step != 20 && !ran.contains(step)).collect();
            ensure!(listed.is_sorted() && missing.is_empty(), "{side}: {listed:?} is listed, {ran:?} ran");
        }
        Ok(())
    })
}

/// What no command does is said before anything is made, and the machine stays as it is.
fn the_script_stops(case: &mut Case) -> Result<()> {
    let odd = "it's $(touch /nosuch) `x` \"y\"";
    case.set("/hostname", json!("by-the-script")).set("/process/env", json!(["PATH=/bin", format!("ODD={odd}")]));
    case.set("/hooks", json!({"createRuntime": [{"path": "/bin/true"}]}));
    let script = explain(case, "sh")?;
    let file = case.dir.join("script");
    std::fs::write(&file, &script)?;
    let (name, mounts) = (rustix::system::uname().nodename().to_owned(), kernel::read("/proc/self/mountinfo")?);
    let output = std::process::Command::new("sh").arg(&file).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(3) && said.contains("no command does this"), "{output:?}");
    ensure!(rustix::system::uname().nodename() == name.as_c_str(), "the host has another name");
    ensure!(kernel::read("/proc/self/mountinfo")? == mounts, "the host has other mounts");
    let left = case.leftovers();
    ensure!(left.is_empty(), "{left:?}");
    // Whatever is in a config is a word of the script's, also inside of the inner shell.
    ensure!(std::process::Command::new("sh").arg("-n").arg(&file).status()?.success(), "{script}");
    ensure!(script.contains("touch /nosuch") && !std::path::Path::new("/nosuch").exists(), "{script}");
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

/// The program has none of it, neither on its stdout nor as a descriptor.
fn trace_is_drawn(case: &mut Case) -> Result<()> {
    case.script("ls -l /proc/self/fd | grep -e memfd -e trace; echo fine").write_config()?;
    let bundle = case.bundle();
    let output = case.verb(["--trace", "-", "run", "--bundle", &bundle.to_string_lossy(), &case.id])?.ok()?;
    let drawn = output.stdout_is("fine\n")?.stderr;
    for word in ["clone init", "pivot_root", "slowest", "us in all: setup works", "wait for the program"] {
        ensure!(drawn.contains(word), "{word:?} is not in {drawn}");
    }
    let side = |name: &str| drawn.lines().filter(|line| line.starts_with(name)).count();
    ensure!(side("setup ") > 5 && side("init ") > 5, "{drawn}");
    ensure!(!drawn.contains('\u{1b}') && drawn.lines().all(|line| line.chars().count() <= 100), "{drawn}");
    ensure!(drawn.matches("slowest").count() == 1, "{drawn}");
    // Of a create that fails what was done until then.
    case.args(["/no/such"]).write_config()?;
    let output = case.verb(["--trace", "-", "run", "--bundle", &bundle.to_string_lossy(), &case.id])?.refused()?;
    output.stderr_has("clone init")?.stderr_has("/no/such").map(drop)
}

fn a_trace_is_drawn(case: &mut Case) -> Result<()> {
    case.args(["true"]).write_config()?;
    let (bundle, file) = (case.bundle(), case.dir.join("trace"));
    let (bundle, path) = (bundle.to_string_lossy(), file.to_string_lossy());
    case.verb(["--trace", &path, "run", "--bundle", &bundle, &case.id])?.ok()?;
    let events = events(&kernel::read(&file)?)?;
    let text = case.verb(["timeline", &path])?.ok()?.stdout;
    let svg = case.verb(["timeline", "--format", "svg", &path])?.ok()?.stdout;
    ensure!(text.lines().count() == events.len() + 2, "{} steps: {text}", events.len());
    ensure!(svg.matches("<rect").count() == events.len() + 1 && svg.ends_with("</svg>\n"), "{svg}");
    // One whose writer was killed has no end.
    let whole = kernel::read(&file)?;
    std::fs::write(&file, whole.trim_end().trim_end_matches(']'))?;
    case.verb(["timeline", &path])?.ok()?.stdout_is(&text).map(drop)
}

fn files_that_are_no_trace(case: &mut Case) -> Result<()> {
    let file = case.dir.join("odd");
    let path = file.to_string_lossy().into_owned();
    let refused = |what: &str| case.verb(["timeline", what])?.refused()?.one_sentence().map(drop);
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0)?;
    for path in ["/nosuch", "/", &path] {
        refused(path)?;
    }
    std::fs::remove_file(&file)?;
    for text in ["", "[]", "{}", "[1,2]", "not JSON", "[{\"name\":\"x\",\"ph\":\"X\",\"ts\":\"y\"}]"] {
        std::fs::write(&file, text)?;
        refused(&path).with_context(|| text.to_owned())?;
    }
    let hostile = "[{\"name\":\"x\\u001b[2J\",\"ph\":\"X\",\"ts\":1,\"dur\":1e308,\"tid\":4294967295}]";
    std::fs::write(&file, hostile)?;
    let text = case.verb(["timeline", &path])?.ok()?.stdout;
    ensure!(text.contains("x?[2J"), "{text:?}");
    Ok(())
}
