//! Problems of configs, all at once.

use super::*;

const HOST: fn(&Spec<'_>) -> Result<HostFacts> = |_| {
    Ok(HostFacts {
        audit_arch: 0xc000_003e,
        ..HostFacts::of_root(crate::host::CgroupFacts {
            mode: crate::host::CgroupMode::V2,
            v2_mount: Some("/sys/fs/cgroup".into()),
            ..Default::default()
        })
    })
};

fn found(json: &str) -> Vec<String> {
    let outcome = problems(&Text(json.into()), HOST, &Options { bundle: "/b".into(), ..Options::default() });
    outcome.problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect()
}

#[track_caller]
fn has_only(json: &str, wanted: &[&str]) {
    let found = found(json);
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.starts_with(wanted), "{found} is not {wanted}");
    }
}

#[test]
fn nothing_is_wrong_with_an_example() {
    for config in [crate::spec::example::config(None, true), crate::spec::example::config(Some((1000, 1000)), true)] {
        assert_eq!(found(&config), [""; 0]);
    }
}

#[test]
fn each_problem_is_named_once_with_its_place_in_the_file() {
    has_only(
        r#"{"ociVersion":"2.0.0","hostname":"x","root":{"path":"r"},"process":{"args":[],"cwd":"here","oomScoreAdj":9999,
            "user":{"uid":"root"},
            "rlimits":[{"type":"RLIMIT_CORE","soft":1,"hard":1},{"type":"RLIMIT_NOFILES","soft":1,"hard":1},
                {"type":"RLIMIT_CPU","soft":2,"hard":1},{"soft":1},{"type":"RLIMIT_CORE","soft":1,"hard":1}]},
            "linux":{"namespaces":[{"type":"mont"},{"type":"pid"},{"type":"pid"}],
                "devices":[{"path":"/dev/a","type":"z"},{"path":"/dev/b","type":"p"},{"path":"c","type":"p"}]}}"#,
        &[
            "/process/user/uid: invalid type",
            "/ociVersion: \"2.0.0\" is not supported",
            "/linux/namespaces/0/type: unknown namespace",
            "/linux/namespaces/2/type: namespace \"pid\" is given twice",
            "/hostname: needs a uts namespace",
            "/process/args: needs a program",
            "/process/cwd: must be an absolute path",
            "/process/oomScoreAdj: must be between",
            "/process/rlimits/1/type: unknown limit",
            "/process/rlimits/2/soft: 2 is above",
            "/process/rlimits/3/type: missing",
            "/process/rlimits/4/type: RLIMIT_CORE is given twice",
            "/linux/devices/0/type: \"z\" is none",
            "/linux/devices/2/path: \"c\" is no absolute path",
        ],
    );
}

#[test]
fn what_is_missing_does_not_hide_what_is_wrong_beside_it() {
    has_only(
        r#"{"process":{"env":["A"]},"mounts":[{"destination":"/x"},{"destination":"/","type":"tmpfs"}]}"#,
        &[
            "/ociVersion: missing",
            "/process/args: needs a program",
            "/process/env/0: must be NAME=VALUE",
            "/process/cwd: missing",
            "/root: is missing",
            "/mounts/0/type: is missing",
            "/mounts/1/destination: nothing can be mounted",
        ],
    );
    // A container without a program is one: it can be held, not started.
    has_only("{}", &["/ociVersion: missing", "/root: is missing"]);
}

#[test]
fn a_mend_makes_no_problems_of_its_own() {
    // The user namespace that is put in for the mount has every id, and its place is not in the file.
    let base = r#""ociVersion":"1.2.0","root":{"path":"r"},"process":{"args":["x"],"cwd":"/","user":{"uid":77}}"#;
    has_only(
        &format!(
            r#"{{{base},"mounts":[{{"destination":"/m","type":"bind","source":"/s","options":["idmap"]}}],
            "linux":{{"namespaces":[{{"type":"mount"}}]}}}}"#
        ),
        &["/mounts/0: an idmapped mount needs uidMappings"],
    );
    has_only(
        &format!(r#"{{{base},"linux":{{"namespaces":[{{"type":"user"}}]}}}}"#),
        &["/linux/uidMappings: a new user namespace needs", "/linux/gidMappings: a new user namespace needs"],
    );
    has_only(
        &format!(
            r#"{{{base},"linux":{{"seccomp":{{"defaultAction":"SCMP_ACT_DENY","syscalls":[{{"names":["read"]}}]}}}}}}"#
        ),
        &["/linux/seccomp/defaultAction: unknown action", "/linux/seccomp/syscalls/0/action: is missing"],
    );
}

#[test]
fn unknown_and_doubled_properties_are_warnings() {
    let json = r#"{"ociVersion":"1.2.0","ociVersion":"1.2.0","root":{"path":"r","readnly":true},
        "process":{"args":["x"],"Cwd":"/","rlimits":[{"type":"no","soft":1,"hard":1,"sfot":2},
            {"type":"RLIMIT_CORE","soft":1,"hard":1,"sfot":2}]}}"#;
    let outcome = problems(&Text(json.into()), HOST, &Options::default());
    let warnings: Vec<_> = outcome
        .problems
        .iter()
        .filter(|problem| problem.severity == super::super::Severity::Warning)
        .map(|problem| problem.pointer.as_str())
        .collect();
    // What was taken out for an error of its own is not looked at further.
    assert_eq!(warnings, ["/ociVersion", "/root/readnly", "/process/Cwd", "/process/rlimits/1/sfot"]);
    assert_eq!(outcome.problems.len() - warnings.len(), 1);
    assert!(outcome.rest.is_some());
}

#[test]
fn what_is_no_json_or_no_object_is_one_problem() {
    has_only("{\"a\":", &[": EOF while parsing"]);
    has_only("[1]", &[": invalid type"]);
    assert!(found(&"[".repeat(100_000)).len() == 1);
}

#[test]
fn a_file_full_of_problems_ends() {
    let limits = vec![r#"{"type":"x"}"#; 1000].join(",");
    let json = format!(r#"{{"ociVersion":"1.0.0","process":{{"args":["x"],"cwd":"/","rlimits":[{limits}]}}}}"#);
    let found = found(&json);
    assert_eq!(found.len(), MOST + 1);
    assert!(found[MOST].contains("no more are looked for"));
}
