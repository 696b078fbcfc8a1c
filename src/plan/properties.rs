//! Properties of the plan that hold for every config, however wild: it does not panic, it is the same each time, it can be
//! explained, an error has its place, and what `hull check` says of the config fits it.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

use super::{Options, Plan, explain, script};
use crate::check::mend;
use crate::error::{Blame, Error};
use crate::host::{CgroupFacts, CgroupMode, HostFacts, V1Hierarchy};
use crate::spec::generate::{Wildness, config};
use crate::spec::load::{Text, parse};

/// A fifth of HULL_CASES: each of these cases costs more than one of the parser's.
fn cases() -> Config {
    let cases = std::env::var("HULL_CASES").ok().and_then(|n| n.parse::<u32>().ok()).map_or(200, |n| n / 5);
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// Root on v1 and on v2, an ordinary user, the root of a user namespace, and a machine without cgroups.
fn hosts() -> impl Strategy<Value = HostFacts> {
    let v1 = ["cpu,cpuacct", "memory", "devices", "pids", "blkio", "name=systemd"].map(|names| V1Hierarchy {
        controllers: names.split(',').map(str::to_owned).collect(),
        mount: format!("/sys/fs/cgroup/{names}").into(),
        own: "/own".into(),
    });
    let v2 = |mode, v1: &[V1Hierarchy]| CgroupFacts {
        mode,
        v2_mount: Some("/sys/fs/cgroup".into()),
        v1: v1.to_vec(),
        own_v2: "/own/scope".into(),
        ..CgroupFacts::default()
    };
    let cgroups = [
        v2(CgroupMode::V2, &[]),
        v2(CgroupMode::Hybrid, &v1),
        CgroupFacts { mode: CgroupMode::V1, v1: v1.to_vec(), ..CgroupFacts::default() },
        CgroupFacts::default(),
    ];
    let modes = prop::sample::select(cgroups.to_vec());
    (modes, prop::sample::select(vec![0, 1000]), any::<bool>(), any::<bool>()).prop_map(
        |(cgroup, euid, in_user_namespace, lsm)| HostFacts {
            cgroup,
            euid,
            egid: euid,
            in_user_namespace,
            apparmor: lsm,
            selinux: lsm,
            ..some_host()
        },
    )
}

fn some_host() -> HostFacts {
    HostFacts {
        audit_arch: 0xc000_003e,
        bounding: u64::MAX >> 23,
        last_cap: 40,
        ..HostFacts::probe(&crate::spec::Spec::default()).expect("/proc is there")
    }
}

fn options() -> impl Strategy<Value = Options> {
    (any::<bool>(), any::<bool>(), any::<Option<bool>>(), 0u32..3).prop_map(|(no_pivot, detached, rootless, fds)| {
        let id = "box".to_owned();
        Options { id, bundle: "/b".into(), no_pivot, detached, rootless, preserve_fds: fds, ..Options::default() }
    })
}

fn plan(text: &Text, host: &HostFacts, options: &Options) -> Result<Plan, Error> {
    let (spec, _) = parse(text)?;
    let console_socket = detached_terminal(&spec, options);
    Plan::new(&spec, host, &Options { console_socket, ..options.clone() })
}

fn detached_terminal(spec: &crate::spec::Spec<'_>, options: &Options) -> bool {
    options.detached && spec.process.as_ref().is_some_and(|process| process.terminal)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_plan_is_made_or_refused_with_the_place(
        config in prop_oneof![config(Wildness::Typed), config(Wildness::Wild)], host in hosts(), options in options()
    ) {
        let text = Text(config.to_string());
        let first = plan(&text, &host, &options);
        prop_assert_eq!(&first, &plan(&text, &host, &options));
        match first {
            Ok(plan) => {
                prop_assert!(!explain::text(&plan).is_empty() && !script::script(&plan).is_empty());
            }
            Err(error) => {
                let said = error.to_string();
                prop_assert!(!said.contains('\n') && !said.contains('\0'), "{:?}", said);
                prop_assert!(error.blame != Blame::Bug, "{}", said);
                let has_place = said.starts_with("config.json: /") || error.blame == Blame::Host || error.blame == Blame::Usage;
                prop_assert!(has_place, "{}", said);
            }
        }
    }

    #[test]
    fn a_check_says_what_the_plan_says_and_more(
        config in prop_oneof![config(Wildness::Typed), config(Wildness::Wild)], host in hosts()
    ) {
        let text = Text(config.to_string());
        let options = Options { id: "box".into(), bundle: "/b".into(), detached: true, ..Options::default() };
        let outcome = mend::problems(&text, |_| Ok(host.clone()), &options);
        let errors: Vec<_> = outcome.problems.iter().filter(|problem| problem.is_error()).collect();
        match plan(&text, &host, &options) {
            Ok(plan) => {
                prop_assert!(errors.is_empty(), "{:?}", errors);
                prop_assert_eq!(outcome.rest.map(|rest| rest.plan), Some(plan));
            }
            Err(error) => {
                let Some(first) = errors.first() else {
                    return Err(TestCaseError::fail(format!("check finds nothing, and the plan {error}")));
                };
                let said = error.to_string();
                prop_assert!(said.contains(&first.message), "{} is not {:?}", said, first);
                // Whatever has a place can be mended, up to the end of the search.
                let has_place = errors.iter().all(|problem| !problem.pointer.is_empty());
                prop_assert!(outcome.rest.is_some() || !has_place || errors.len() > mend::MOST, "{:?}", errors);
            }
        }
    }
}
