//! `hull seccomp explain`: what it says of a profile is what the kernel does.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Test, test};

pub fn cases() -> Vec<Test> {
    vec![
        test("seccompprofile/explain_answers_what_the_kernel_does", explain_answers_what_the_kernel_does)
            .requires(Need::Hull),
        test("seccompprofile/explain_knows_what_hull_needs", explain_knows_what_hull_needs)
            .requires(Need::Hull)
            .requires(Need::Root),
        test("seccompprofile/explain_reads_a_profile_alone", explain_reads_a_profile_alone).requires(Need::Hull),
    ]
}

/// `seccomp explain` of the case's bundle.
fn explain(case: &Case, words: &[&str]) -> Result<Value> {
    case.write_config()?;
    let bundle = case.bundle();
    let mut args = vec!["seccomp", "explain", "--format", "json", "--bundle", bundle.to_str().expect("UTF-8")];
    args.extend(words);
    Ok(serde_json::from_str(&case.verb(args)?.ok()?.stdout)?)
}

fn explain_answers_what_the_kernel_does(case: &mut Case) -> Result<()> {
    case.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
            {"names": ["mkdir", "symlink", "symlinkat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 16,
             "args": [{"index": 1, "value": 4, "valueTwo": 4, "op": "SCMP_CMP_MASKED_EQ"}]},
        ]}),
    );
    for (call, command, errno, text) in [
        ("mkdir", "mkdir /dev/shm/x", "ENOSPC", "No space left"),
        ("symlink", "ln -s a /dev/shm/y", "EROFS", "Read-only file system"),
        ("kill(_, 23)", "kill -23 $$", "EBUSY", "Device or resource busy"),
    ] {
        let answer = explain(case, &[call])?;
        let verdict = &answer[0]["verdicts"][0];
        ensure!(answer[0]["verdicts"].as_array().is_some_and(|all| all.len() == 1), "{call}: {answer}");
        ensure!(verdict["action"] == "SCMP_ACT_ERRNO" && verdict["errno"] == errno, "{call}: {answer}");
        case.script(command).run()?.status(1)?.stderr_has(text)?;
    }
    for (call, command) in [("kill(_, 17)", "kill -17 $$"), ("chmod", "chmod 700 /dev/shm")] {
        let answer = explain(case, &[call])?;
        ensure!(answer[0]["verdicts"][0]["action"] == "SCMP_ACT_ALLOW", "{call}: {answer}");
        case.script(command).run()?.ok()?;
    }
    // Without its arguments both verdicts are said, with the rule.
    let answer = explain(case, &["kill"])?;
    let by = &answer[0]["verdicts"][0]["by"];
    ensure!(by == "/linux/seccomp/syscalls/2/names/0" && answer[0]["verdicts"][1]["action"] == "SCMP_ACT_ALLOW");
    Ok(())
}

/// Where a filter is loaded early, each call that hull is said to need is one without which nothing runs.
fn explain_knows_what_hull_needs(case: &mut Case) -> Result<()> {
    case.set("/process/noNewPrivileges", json!(false)).args(["echo", "runs"]);
    case.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}));
    let report = explain(case, &[])?;
    ensure!(report["needs"][0]["refused"] == json!([]), "{}", report["needs"]);
    let needed: Vec<String> = serde_json::from_value(report["needs"][0]["calls"].clone())?;
    ensure!(needed.len() > 5, "{needed:?}");
    for name in &needed {
        // An older call stands in for two of them.
        let names = match name.as_str() {
            "accept4" => vec![name, "accept"],
            "prlimit64" => vec![name, "setrlimit"],
            name => vec![name],
        };
        case.set("/linux/seccomp/syscalls", json!([{"names": names, "action": "SCMP_ACT_ERRNO"}]));
        let report = explain(case, &[])?;
        ensure!(report["needs"][0]["refused"][0]["name"] == name.as_str(), "{}", report["needs"]);
        let output = case.run()?;
        ensure!(output.status != 0, "without {name} it runs all the same: {:?}", output.stdout);
        case.delete()?;
    }
    for name in ["getcwd", "close", "brk", "munmap"] {
        case.set("/linux/seccomp/syscalls", json!([{"names": [name], "action": "SCMP_ACT_ERRNO"}]));
        let report = explain(case, &[])?;
        ensure!(report["needs"][0]["refused"] == json!([]), "{}", report["needs"]);
        case.run()?.stdout_is("runs\n")?;
    }
    Ok(())
}

fn explain_reads_a_profile_alone(case: &mut Case) -> Result<()> {
    let (plain, template) = (case.dir.join("profile.json"), case.dir.join("template.json"));
    let rules = json!([{"names": ["write", "read", "nosuch"], "action": "SCMP_ACT_ALLOW"}]);
    std::fs::write(&plain, json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}).to_string())?;
    let ask = |file: &std::path::Path, call: &str| {
        case.verb(["seccomp", "explain", "--profile", file.to_str().expect("UTF-8"), "--arch", "x86_64", call])
    };
    ask(&plain, "read")?.ok()?.stdout_is("read is allowed: /syscalls/0/names/1\n")?;
    ask(&plain, "mount")?.ok()?.stdout_is("mount fails with ENOSYS: newer than every call that the profile names\n")?;
    ask(&plain, "writee")?.refused()?.stderr_has("did you mean write?")?;
    let conditional = json!([{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}]);
    std::fs::write(&template, json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": conditional}).to_string())?;
    ask(&template, "read")?.refused()?.stderr_has("an engine's template")?;
    std::fs::write(&template, json!({"defaultAction": "SCMP_ACT_EERNO"}).to_string())?;
    ask(&template, "read")?.refused()?.stderr_has("template.json: /defaultAction")?.one_sentence().map(drop)
}
