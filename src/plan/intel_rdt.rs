//! Cache and memory bandwidth allocation: /linux/intelRdt (config-linux.md#intelrdt; the kernel's resctrl file system).
//!
//! A class of service is a directory of resctrl, with shares in its `schemata` and processes in its `tasks`. One that
//! is there already is somebody else's: its shares are compared, never changed, and it stays at delete.

use std::path::PathBuf;

use super::Options;
use crate::error::{Error, Result};
use crate::host::Resctrl;
use crate::spec;

/// What is done in resctrl.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntelRdt {
    /// The directory of the class, absolute.
    pub class: PathBuf,
    /// hull makes it, and removes it at delete.
    pub own: bool,
    /// Lines for `schemata`: written into an own class, compared with those of another.
    pub schemata: Vec<String>,
    /// The directory of a monitoring group of the container's own, made and removed by hull.
    pub monitoring: Option<PathBuf>,
}

/// Directories of resctrl that are no classes.
const RESERVED: [&str; 3] = ["info", "mon_groups", "mon_data"];

/// Plans the class.
pub fn plan(rdt: &spec::IntelRdt<'_>, resctrl: Option<&Resctrl>, options: &Options) -> Result<IntelRdt> {
    let at = |field: &str| format!("/linux/intelRdt/{field}");
    let Some(resctrl) = resctrl else {
        return Err(Error::spec("/linux/intelRdt", "no resctrl file system is mounted on this host")
            .hint("where CPU and kernel have it: mount -t resctrl resctrl /sys/fs/resctrl"));
    };
    let asked = rdt.clos_id.as_deref().filter(|id| !id.is_empty());
    let name = asked.unwrap_or(&options.id);
    // `/` is the class of all processes that are in no other.
    let root = asked == Some("/");
    if !root && (name.contains(['/', '\n', '\0']) || matches!(name, "." | "..") || RESERVED.contains(&name)) {
        return Err(Error::spec(at("closID"), format_args!("{name:?} is no name of a class")));
    }
    let schemata = schemata(rdt)?;
    let exists = root || resctrl.classes.iter().any(|class| class == name);
    if asked.is_some() && !exists && schemata.is_empty() {
        return Err(Error::spec(at("closID"), format_args!("there is no class {name:?} on this host"))
            .hint("with schemata, l3CacheSchema or memBwSchema hull makes it"));
    }
    let class = if root { resctrl.mount.clone() } else { resctrl.mount.join(name) };
    let monitoring = rdt.enable_monitoring.then(|| class.join("mon_groups").join(&options.id));
    Ok(IntelRdt { class, own: !exists, schemata, monitoring })
}

/// The lines of all three properties; `schemata` has the last word on a resource, and memBwSchema on `MB`.
fn schemata(rdt: &spec::IntelRdt<'_>) -> Result<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    let mut add = |pointer: String, line: &str| {
        let resource = resource(line).map_err(|what| Error::spec(pointer, what))?;
        lines.retain(|other| self::resource(other) != Ok(resource));
        lines.push(line.trim().to_owned());
        Ok(())
    };
    for line in rdt.l3_cache_schema.as_deref().unwrap_or_default().lines().filter(|line| !line.trim().is_empty()) {
        if !line.trim_start().starts_with("MB:") {
            add("/linux/intelRdt/l3CacheSchema".into(), line)?;
        }
    }
    if let Some(line) = rdt.mem_bw_schema.as_deref().filter(|line| !line.is_empty()) {
        if !line.starts_with("MB:") || line.contains('\n') {
            let what = format!("must be one line that begins with \"MB:\", is {line:?}");
            return Err(Error::spec("/linux/intelRdt/memBwSchema", what));
        }
        add("/linux/intelRdt/memBwSchema".into(), line)?;
    }
    for (index, line) in rdt.schemata.iter().enumerate() {
        add(format!("/linux/intelRdt/schemata/{index}"), line)?;
    }
    Ok(lines)
}

/// The resource of a line: `L3` of `L3:0=ff;1=f`.
fn resource(line: &str) -> std::result::Result<&str, String> {
    match line.trim().split_once(':') {
        Some((resource, shares)) if !resource.is_empty() && !shares.is_empty() && !line.contains('\n') => Ok(resource),
        _ => Err(format!("{line:?} is no line of schemata, as in \"L3:0=ff;1=f\"")),
    }
}

/// The first of the lines that the text of a `schemata` file does not have in the same sense.
pub fn differs<'l>(lines: &'l [String], text: &str) -> Option<&'l str> {
    let shares = |line: &str| -> Option<(String, Vec<(String, String)>)> {
        let (resource, shares) = line.trim().split_once(':')?;
        let share = |share: &str| {
            let (domain, value) = share.split_once('=')?;
            let value = value.trim().trim_start_matches("0x").trim_start_matches('0').to_ascii_lowercase();
            Some((domain.trim().to_owned(), value))
        };
        Some((resource.trim().to_owned(), shares.split(';').filter_map(share).collect()))
    };
    let there: Vec<_> = text.lines().filter_map(shares).collect();
    let has = |line: &String| {
        let Some((resource, asked)) = shares(line) else { return false };
        let found = there.iter().find(|(other, _)| *other == resource);
        // A domain that is not named may have any share.
        found.is_some_and(|(_, found)| asked.iter().all(|share| found.contains(share)))
    };
    lines.iter().find(|line| !has(line)).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<IntelRdt> {
        let resctrl = Resctrl { mount: "/r".into(), classes: vec!["gold".into(), "info".into()] };
        let options = Options { id: "box".into(), ..Options::default() };
        plan(&serde_json::from_str(json).unwrap(), Some(&resctrl), &options)
    }

    #[test]
    fn the_class_is_the_named_one_or_the_containers_own() {
        let rdt = |class: &str, own, schemata: &[&str]| IntelRdt {
            class: class.into(),
            own,
            schemata: schemata.iter().map(|line| (*line).to_owned()).collect(),
            monitoring: None,
        };
        assert_eq!(planned("{}").unwrap(), rdt("/r/box", true, &[]));
        assert_eq!(planned(r#"{"closID":"gold"}"#).unwrap(), rdt("/r/gold", false, &[]));
        assert_eq!(planned(r#"{"closID":"/"}"#).unwrap(), rdt("/r", false, &[]));
        let new = planned(r#"{"closID":"new","memBwSchema":"MB:0=20"}"#).unwrap();
        assert_eq!(new, rdt("/r/new", true, &["MB:0=20"]));
        let monitored = planned(r#"{"closID":"gold","enableMonitoring":true}"#).unwrap();
        assert_eq!(monitored.monitoring, Some("/r/gold/mon_groups/box".into()));
    }

    #[test]
    fn the_last_word_on_a_resource_counts() {
        let json =
            r#"{"l3CacheSchema":"L3:0=f\nMB:0=1\nL2:0=1","memBwSchema":"MB:0=20","schemata":["L3:0=ff","L4:1=1"]}"#;
        assert_eq!(planned(json).unwrap().schemata, ["L2:0=1", "MB:0=20", "L3:0=ff", "L4:1=1"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        for (json, words) in [
            (r#"{"closID":"no"}"#, "/linux/intelRdt/closID: there is no class \"no\""),
            (r#"{"closID":"a/b"}"#, "closID: \"a/b\" is no name"),
            (r#"{"closID":".."}"#, "is no name"),
            (r#"{"closID":"info"}"#, "is no name"),
            (r#"{"memBwSchema":"0=20"}"#, "memBwSchema: must be one line that begins with \"MB:\""),
            (r#"{"l3CacheSchema":"ff"}"#, "l3CacheSchema: \"ff\" is no line"),
            (r#"{"schemata":["L3:0=f","L3:0=f\nMB:0=1"]}"#, "schemata/1: \"L3:0=f\\nMB:0=1\" is no line"),
        ] {
            let error = planned(json).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let error = plan(&spec::IntelRdt::default(), None, &Options::default()).unwrap_err().to_string();
        assert!(error.contains("no resctrl file system is mounted"), "{error}");
    }

    #[test]
    fn shares_are_compared_by_their_sense() {
        let text = "    L3:0=007f0;1=1f\n    MB:0= 20;1=70\n";
        for (line, same) in [
            ("L3:0=7f0;1=1f", true),
            ("L3:1=1F", true),
            ("MB:0=20;1=70", true),
            ("L3:0=7f1", false),
            ("L3:2=1f", false),
            ("L2:0=1f", false),
        ] {
            assert_eq!(differs(&[line.to_owned()], text).is_none(), same, "{line}");
        }
    }
}
