//! Long lists: what a config controls takes time and memory in proportion, and what no kernel takes is refused first. Time is
//! bounded in the kernel, by RLIMIT_CPU: ten times what is needed, and a tenth of what a square of the length would take.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::harness::{Case, Need, Test, test};

pub fn cases() -> Vec<Test> {
    vec![
        test("badinput/long_lists_take_time_in_proportion", long_lists_take_time_in_proportion).requires(Need::Hull),
        test("badinput/a_hundred_thousand_variables", a_hundred_thousand_variables),
        test("badinput/what_execve_cannot_take", what_execve_cannot_take).requires(Need::Hull),
        test("badinput/millions_of_empty_entries", millions_of_empty_entries).requires(Need::Hull),
        test("badinput/warnings_stop_after_some_tens", warnings_stop_after_some_tens).requires(Need::Hull),
    ]
}

/// Seconds of the processor for each process of the runtime.
const CPU: &str = "ulimit -t 8";

fn list(count: usize, one: impl Fn(usize) -> Value) -> Value {
    (0..count).map(one).collect()
}

fn object(count: usize, name: &str, value: &Value) -> Value {
    Value::Object((0..count).map(|n| (format!("{name}{n}"), value.clone())).collect::<Map<_, _>>())
}

fn long_lists_take_time_in_proportion(case: &mut Case) -> Result<()> {
    let rule = |n: usize| json!({"allow": true, "type": "c", "major": n % 4000, "minor": n / 4000, "access": "rwm"});
    let filter = |names: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": names, "action": "SCMP_ACT_LOG"}]});
    let comparison = |n: usize| json!({"names": ["ioctl"], "action": "SCMP_ACT_LOG", "args": [{"index": 1, "value": n, "op": "SCMP_CMP_EQ"}]});
    let rules = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(100_000, comparison)});
    let lists = [
        ("/annotations", object(300_000, "name", &json!("value"))),
        ("/process/env", list(200_000, |n| json!(format!("V{n}=1")))),
        ("/process/capabilities/bounding", list(200_000, |n| json!(format!("CAP_NOSUCH{n}")))),
        (
            "/linux/devices",
            list(60_000, |n| json!({"type": "c", "major": 1, "minor": 3, "path": format!("/dev/x{n}")})),
        ),
        ("/linux/resources/devices", list(200_000, rule)),
        ("/linux/seccomp", filter(list(200_000, |n| json!(format!("nosuch{n}"))))),
        ("/linux/seccomp", rules),
        ("/linux/sysctl", object(200_000, "net.nosuch", &json!("1"))),
        ("/linux/netDevices", object(150_000, "n", &json!({}))),
        ("/linux/maskedPaths", list(200_000, |n| json!(format!("/nosuch{n}")))),
        ("/linux/uidMappings", list(200_000, |n| json!({"containerID": n, "hostID": n, "size": 1}))),
        (
            "/mounts",
            list(
                60_000,
                |n| json!({"destination": format!("/m{n}"), "type": "tmpfs", "source": "x", "options": ["ro"]}),
            ),
        ),
    ];
    CPU.clone_into(&mut case.before);
    for (number, (pointer, value)) in lists.into_iter().enumerate() {
        let bundle = case.bundle_beside(&number.to_string(), |config| {
            put(config, pointer, value);
        })?;
        // Whether there is a plan, or a sentence why not, is another matter.
        for verb in ["explain", "check"] {
            let output = case.verb([verb, "--bundle", &bundle])?;
            ensure!((0..=2).contains(&output.status), "{verb}, {pointer}: status {}: {}", output.status, output.stderr);
        }
    }
    Ok(())
}

fn put(config: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let mut at = config;
    for part in parent.split('/').skip(1) {
        at = &mut at[part];
    }
    at[key] = value;
}

fn a_hundred_thousand_variables(case: &mut Case) -> Result<()> {
    let variables: Vec<String> = (0..100_000).map(|n| format!("V{n}=1")).collect();
    let bytes: usize = variables.iter().map(|text| text.len() + 1).sum();
    // No shell: many are slow with as many.
    let count = ["/bin/wc", "-c", "/proc/self/environ"];
    let all = |stdout: &str| -> Result<()> {
        let count: usize = stdout.split_whitespace().next().unwrap_or_default().parse()?;
        ensure!((bytes..bytes + 100).contains(&count), "there are {count} bytes of {bytes}");
        Ok(())
    };
    case.set("/process/env", json!(variables)).args(count);
    CPU.clone_into(&mut case.before);
    all(&case.run()?.ok()?.stdout)?;
    case.args(["/bin/sleep", "60"]).up()?;
    let output = case.verb(["exec", &case.id, count[0], count[1], count[2]])?;
    all(&output.ok()?.stdout)?;
    case.delete()
}

/// A string of more than 32 pages, or more than 6 MiB: no container that cannot be started is made.
fn what_execve_cannot_take(case: &mut Case) -> Result<()> {
    let good = case.config.clone();
    let colons = format!("PATH={}", ":".repeat(4_000_000));
    for (pointer, value) in [
        ("/process/env", json!([colons])),
        ("/process/args", json!(["/bin/true", "x".repeat(4 << 20)])),
        ("/process/args", list(60_000, |_| json!("/bin/true".repeat(15)))),
    ] {
        case.config = good.clone();
        case.set(pointer, value);
        case.try_create(&[])?.refused().context(pointer)?.stderr_has("execve takes at most")?.one_sentence()?;
        let left = case.leftovers();
        ensure!(left.is_empty(), "{pointer}: left behind {left:?}");
    }
    case.config = good;
    case.script("echo fine").prints("fine\n")
}

fn millions_of_empty_entries(case: &mut Case) -> Result<()> {
    let bundle = case.bundle();
    for (key, entry) in [("mounts", "{},"), ("annotations", "\"\":0,"), ("hostname", "[],")] {
        let entries = entry.repeat((15 << 20) / entry.len());
        let (open, close) = if key == "annotations" { ('{', '}') } else { ('[', ']') };
        let text = format!("{{\"ociVersion\":\"1.2.0\",\"{key}\":{open}{}{close}}}", entries.trim_end_matches(','));
        fs::write(bundle.join("config.json"), text)?;
        "ulimit -v 262144".clone_into(&mut case.before);
        case.verb(["run", "--bundle", &bundle.to_string_lossy(), &case.id])?.refused().context(key)?;
    }
    case.before.clear();
    case.script("echo fine").prints("fine\n")
}

fn warnings_stop_after_some_tens(case: &mut Case) -> Result<()> {
    for n in 0..1000 {
        case.config[format!("nosuch{n}")] = json!(1);
    }
    case.set("/process/capabilities/bounding", list(1000, |n| json!(format!("CAP_NOSUCH{n}"))));
    let output = case.script("echo fine").run()?.ok()?.stdout_is("fine\n")?;
    let lines = output.stderr.lines().count();
    ensure!((20..50).contains(&lines), "{lines} lines on stderr");
    output.stderr_has("more warnings").map(drop)
}
