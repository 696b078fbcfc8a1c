//! For tests: oci-spec as a second opinion on what a config.json says.
//!
//! Both read the same text and are written out again; what they have read must be the same. Where oci-spec does not
//! follow the specification, or is stricter than it, is listed in [`DIFFERENCES`], and each point of the list is proved.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};
use serde_json::{Value, json};

use super::generate::{self, Wildness};
use super::load::{Text, parse};

/// What hull takes, because the specification or Go's reading of it does, and oci-spec refuses.
const DIFFERENCES: &[(&str, &str)] = &[
    ("/process/capabilities/bounding/0", r#""CAP_FROM_THE_FUTURE""#),
    ("/process/scheduler/flags/0", r#""SCHED_FLAG_RESET_ON_FORK""#),
    ("/process/scheduler/flags/0", r#""SCHED_FLAG_DL_OVERRUN""#),
    ("/process/execCPUAffinity/initial", r#""0-3, 7""#),
    ("/linux/resources/pids/limit", "null"),
    ("/linux/resources/devices/0/type", r#""""#),
    // The kernel compares the argument as it is, and the limit of huge pages is a u64 in the specification.
    ("/linux/resources/hugepageLimits/0/limit", "18446744073709551615"),
    // Go reads a missing or null number as 0, and so do runc and crun.
    ("/process/user/uid", "null"),
    ("/linux/uidMappings/0/size", "null"),
];

/// What oci-spec does not read: it looks for enableCmt and enableMbm.
const OVERLOOKED: [&str; 2] = ["/linux/intelRdt/enableCMT", "/linux/intelRdt/enableMBM"];

fn ours(text: &str) -> Result<Value, String> {
    let text = Text(text.to_owned());
    let (spec, unknown) = parse(&text).map_err(|error| error.to_string())?;
    assert!(unknown.is_empty(), "{unknown:?}");
    Ok(serde_json::to_value(&spec).expect("a spec can be written"))
}

fn theirs(text: &str) -> Result<Value, String> {
    let spec: oci_spec::runtime::Spec = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(serde_json::to_value(&spec).expect("a spec can be written"))
}

/// Where the two differ.
fn compare(ours: &Value, theirs: &Value, at: &str) -> Result<(), String> {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let none = Value::Null;
            let keys = ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key)));
            keys.map(|key| (key, ours.get(key).unwrap_or(&none), theirs.get(key).unwrap_or(&none)))
                .try_for_each(|(key, ours, theirs)| compare(ours, theirs, &format!("{at}/{key}")))
        }
        (Value::Array(ours), Value::Array(theirs)) if at.starts_with("/process/capabilities/") => {
            // oci-spec has sets without an order there.
            let sorted = |list: &[Value]| {
                let mut list: Vec<_> = list.iter().map(ToString::to_string).collect();
                list.sort();
                list.dedup();
                list
            };
            if sorted(ours) == sorted(theirs) { Ok(()) } else { Err(format!("{at}: {ours:?} and {theirs:?}")) }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            let mut pairs = ours.iter().zip(theirs).enumerate();
            pairs.try_for_each(|(i, (ours, theirs))| compare(ours, theirs, &format!("{at}/{i}")))
        }
        (Value::Bool(_), Value::Null) if OVERLOOKED.contains(&at) => Ok(()),
        // A property whose absence means its default is not optional with us, and absent with them.
        (ours, Value::Null) if is_default(ours) => Ok(()),
        // A list that is empty and one that is absent say the same, but for a hook's environment and seccomp's flags.
        (Value::Null, Value::Array(list)) if list.is_empty() => Ok(()),
        (ours, theirs) if ours == theirs => Ok(()),
        (ours, theirs) => Err(format!("{at}: hull has {ours}, oci-spec {theirs}")),
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_u64() == Some(0),
        Value::String(_) => false,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn same(text: &str) -> Result<(), String> {
    match (ours(text), theirs(text)) {
        (Ok(ours), Ok(theirs)) => compare(&ours, &theirs, ""),
        (Err(_), Err(_)) => Ok(()),
        (Ok(_), Err(theirs)) => Err(format!("only oci-spec refuses it: {theirs}")),
        (Err(ours), Ok(_)) => Err(format!("only hull refuses it: {ours}")),
    }
}

#[test]
fn every_bundle_and_example_reads_the_same() {
    let mut texts = vec![
        generate::full().to_string(),
        super::example::config(None, true),
        super::example::config(Some((1000, 100)), false),
    ];
    for entry in std::fs::read_dir("bundles").unwrap() {
        texts.push(std::fs::read_to_string(entry.unwrap().path().join("config.json")).unwrap());
    }
    assert!(texts.len() >= 12);
    for text in &texts {
        same(text).unwrap_or_else(|difference| panic!("{difference}\n{text}"));
    }
}

/// What the text has is what was read, whatever oci-spec says.
fn reads_back(text: &Value, read: &Value, at: &str) -> Result<(), String> {
    match (text, read) {
        (Value::Object(text), Value::Object(read)) => text
            .iter()
            .filter(|(_, value)| !value.is_null())
            .try_for_each(|(key, value)| reads_back(value, &read[key], &format!("{at}/{key}"))),
        (Value::Array(text), Value::Array(read)) if text.len() == read.len() => text
            .iter()
            .zip(read)
            .enumerate()
            .try_for_each(|(i, (text, read))| reads_back(text, read, &format!("{at}/{i}"))),
        (text, read) if text == read => Ok(()),
        (text, read) => Err(format!("{at}: the text has {text}, hull read {read}")),
    }
}

/// HULL_CASES=10000 in hack/test; fewer by default, since everyone runs the unit tests all the time.
#[test]
fn generated_configs_read_the_same() {
    let cases = std::env::var("HULL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
    proptest!(Config { cases, failure_persistence: None, ..Config::default() }, |(config in generate::config(Wildness::Typed))| {
        let text = config.to_string();
        same(&text).map_err(TestCaseError::fail)?;
        if let Ok(read) = ours(&text) {
            reads_back(&config, &read, "").map_err(TestCaseError::fail)?;
        }
    });
}

#[test]
fn where_they_differ_on_purpose() {
    for (pointer, value) in DIFFERENCES {
        let mut config = generate::full();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match config.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[0] = serde_json::from_str(value).unwrap(),
            object => object[key] = serde_json::from_str(value).unwrap(),
        }
        let text = config.to_string();
        assert!(ours(&text).is_ok() && theirs(&text).is_err(), "{pointer} = {value}");
    }
    // These two oci-spec takes for something else.
    let mut config = generate::full();
    config["linux"]["resources"]["pids"] = json!({});
    let text = config.to_string();
    assert_eq!(ours(&text).unwrap()["linux"]["resources"]["pids"], json!({}));
    let theirs = theirs(&text).map(|spec| spec["linux"]["resources"]["pids"]["limit"].clone());
    assert!(theirs.is_err() || theirs == Ok(json!(0)), "{theirs:?}");
}

/// What the comparison itself overlooks must not be a property: every one of hull's is in the full config.
#[test]
fn the_full_config_has_every_property() {
    let value = ours(&generate::full().to_string()).unwrap();
    let wanted: &[(&str, &[&str])] = &[
        ("", super::Spec::FIELDS),
        ("/root", super::Root::FIELDS),
        ("/mounts/3", super::Mount::FIELDS),
        ("/process", super::Process::FIELDS),
        ("/process/user", super::User::FIELDS),
        ("/process/rlimits/0", super::Rlimit::FIELDS),
        ("/process/scheduler", super::Scheduler::FIELDS),
        ("/process/capabilities", super::Capabilities::FIELDS),
        ("/hooks", super::Hooks::FIELDS),
        ("/hooks/prestart/0", super::Hook::FIELDS),
        ("/linux", super::Linux::FIELDS),
        ("/linux/devices/0", super::Device::FIELDS),
        ("/linux/intelRdt", super::IntelRdt::FIELDS),
        ("/linux/memoryPolicy", super::MemoryPolicy::FIELDS),
        ("/linux/resources", super::Resources::FIELDS),
        ("/linux/resources/memory", super::Memory::FIELDS),
        ("/linux/resources/cpu", super::Cpu::FIELDS),
        ("/linux/resources/blockIO", super::BlockIo::FIELDS),
        ("/linux/resources/devices/1", super::DeviceRule::FIELDS),
        ("/linux/seccomp", super::Seccomp::FIELDS),
        ("/linux/seccomp/syscalls/2", super::SyscallRule::FIELDS),
        ("/linux/seccomp/syscalls/2/args/0", super::SyscallArg::FIELDS),
    ];
    for (pointer, fields) in wanted {
        let object = value.pointer(pointer).and_then(Value::as_object).unwrap();
        for field in *fields {
            // For Windows, and the old form of another.
            let left_out =
                matches!((*pointer, *field), ("/process/user", "username") | ("/linux/seccomp/syscalls/2", "name"));
            assert!(left_out || object.contains_key(*field), "{pointer} has no {field}");
        }
    }
}
