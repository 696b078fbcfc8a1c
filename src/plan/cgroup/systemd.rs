//! The unit that systemd makes for a container (systemd.scope(5), org.freedesktop.systemd1(5)).
//!
//! With the systemd driver /linux/cgroupsPath is `slice:prefix:name`. systemd owns the cgroup tree, and writes its own idea
//! of a limit again whenever it touches a unit, so every limit that it knows is told to it as a property. The properties are
//! derived from the very writes that hull plans, which follow afterwards: what systemd rounds or does not know is exact then.

use std::path::PathBuf;

use super::devices::{DeviceRules, Kind, MKNOD, READ, WRITE};
use super::{Tree, Write};
use crate::error::{Error, Result};
use crate::host::{CgroupMode, HostFacts};
use crate::spec;

mod annotations;

pub use annotations::ALLOWED;

/// Whose systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// Process 1.
    System,
    /// The user's own manager.
    User,
}

/// A property's value, with its D-Bus type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// b
    Bool(bool),
    /// i
    Int(i32),
    /// t
    Number(u64),
    /// s
    Text(String),
    /// as
    Texts(Vec<String>),
    /// ay
    Bytes(Vec<u8>),
    /// au
    Numbers(Vec<u32>),
    /// a(ss)
    Pairs(Vec<(String, String)>),
}

/// A property of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// As systemd's D-Bus interface spells it.
    pub name: String,
    /// Its value.
    pub value: Value,
}

impl Property {
    /// A property.
    pub fn new(name: &str, value: Value) -> Property {
        Property { name: name.to_owned(), value }
    }
}

/// Properties that are younger than the systemd of a distribution that is still in use: left out where it does not know
/// them, since the file is written in any case.
pub const YOUNG: [&str; 5] = ["CPUQuotaPeriodUSec", "AllowedCPUs", "AllowedMemoryNodes", "MemorySwapMax", "MemoryMin"];

/// The unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Whose.
    pub session: Session,
    /// Its name: `PREFIX-NAME.scope`, or a slice.
    pub name: String,
    /// The slice that it lies in.
    pub slice: String,
    /// A cgroup below the unit's own, in which the container is (run.oci.systemd.subgroup).
    pub subgroup: Option<String>,
    /// What it is made with, without what depends on init: in the order in which systemd gets it.
    pub properties: Vec<Property>,
}

/// A cgroup below the scope, as crun has it.
const SUBGROUP: &str = "run.oci.systemd.subgroup";

impl Unit {
    /// From /linux/cgroupsPath and the annotations.
    pub fn new(
        path: Option<&str>,
        annotations: &spec::Dict<'_, spec::Str<'_>>,
        host: &HostFacts,
        id: &str,
    ) -> Result<Unit> {
        let session = if host.rootless() { Session::User } else { Session::System };
        let refuse = |what: String| Error::spec("/linux/cgroupsPath", what);
        let (slice, prefix, name) = match path {
            None => ("", "hull", id),
            Some(path) => match path.split(':').collect::<Vec<_>>()[..] {
                [slice, prefix, name] if !name.is_empty() => (slice, prefix, name),
                _ => return Err(refuse(format!("must be slice:prefix:name with the systemd driver, is {path:?}"))),
            },
        };
        let slice = match (slice, session) {
            ("", Session::System) => "system.slice",
            ("", Session::User) => "user.slice",
            (slice, _) => slice,
        };
        slice_path(slice).map_err(&refuse)?;
        let is_slice = name.ends_with(".slice");
        let name = match (is_slice, prefix) {
            (true, _) => name.to_owned(),
            (false, "") => format!("{name}.scope"),
            (false, prefix) => format!("{prefix}-{name}.scope"),
        };
        if is_slice {
            slice_path(&name).map_err(&refuse)?;
        } else if name.len() > 255 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"@:-_.\\".contains(&b)) {
            return Err(refuse(format!("{name:?} is no name of a unit (systemd.unit(5))")));
        }
        let subgroup = annotations.get(SUBGROUP).filter(|text| !text.is_empty() && !is_slice);
        if subgroup.is_some_and(|text| text.contains(['/', '\0']) || matches!(&**text, "." | "..")) {
            return Err(Error::spec(format!("/annotations/{SUBGROUP}"), "must be the name of a directory"));
        }
        let mut properties = vec![Property::new("Description", Value::Text(format!("hull container {id}")))];
        if is_slice {
            properties.push(Property::new("Wants", Value::Texts(vec![slice.to_owned()])));
        } else {
            properties.push(Property::new("Slice", Value::Text(slice.to_owned())));
            properties.push(Property::new("Delegate", Value::Bool(true)));
        }
        let io = if host.cgroup.mode == CgroupMode::V2 { "IOAccounting" } else { "BlockIOAccounting" };
        for name in ["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"] {
            properties.push(Property::new(name, Value::Bool(true)));
        }
        properties.push(Property::new("DefaultDependencies", Value::Bool(false)));
        for property in annotations::properties(annotations)? {
            match properties.iter_mut().find(|known| known.name == property.name) {
                Some(known) => *known = property,
                None => properties.push(property),
            }
        }
        Ok(Unit { session, name, slice: slice.to_owned(), subgroup: subgroup.map(|text| text.to_string()), properties })
    }

    /// Where systemd puts the unit, beneath its own root, with the subgroup.
    pub fn cgroup(&self) -> PathBuf {
        let slices = |slice: &str| slice_path(slice).unwrap_or_default();
        let mut path = if self.is_slice() { slices(&self.name) } else { slices(&self.slice).join(&self.name) };
        path.extend(&self.subgroup);
        path
    }

    /// A slice has no processes by systemd's hand: init is put there by a write.
    pub fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }
}

/// The container's cgroup in each hierarchy.
pub fn trees(unit: &Unit, host: &HostFacts) -> Vec<Tree> {
    let facts = &host.cgroup;
    let path: PathBuf = facts.manager_root.strip_prefix("/").unwrap_or(&facts.manager_root).join(unit.cgroup());
    let mut trees: Vec<Tree> = facts
        .v1
        .iter()
        .map(|hierarchy| Tree {
            mount: hierarchy.mount.clone(),
            path: path.clone(),
            controllers: hierarchy.controllers.clone(),
            v2: false,
        })
        .collect();
    if let (Some(mount), CgroupMode::V2 | CgroupMode::Hybrid) = (&facts.v2_mount, facts.mode) {
        trees.push(Tree { mount: mount.clone(), path, controllers: Vec::new(), v2: true });
    }
    trees
}

/// `a-b.slice` lies in `a.slice`; `-.slice` is the root (systemd.slice(5)).
fn slice_path(slice: &str) -> std::result::Result<PathBuf, String> {
    if slice == "-.slice" {
        return Ok(PathBuf::new());
    }
    let name = slice.strip_suffix(".slice").filter(|name| !name.is_empty());
    let wrong = || format!("{slice:?} is no name of a slice (systemd.slice(5))");
    let name = name.ok_or_else(wrong)?;
    if slice.len() > 255 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\".contains(&b)) {
        return Err(wrong());
    }
    let (mut path, mut prefix) = (PathBuf::new(), String::new());
    for part in name.split('-') {
        if part.is_empty() {
            return Err(wrong());
        }
        prefix.push_str(part);
        path.push(format!("{prefix}.slice"));
        prefix.push('-');
    }
    Ok(path)
}

/// Limits in systemd's words; a value that it has no property for is left to the file.
pub fn limits(writes: &[Write]) -> Vec<Property> {
    let mut properties: Vec<Property> = Vec::new();
    let mut set = |name: &str, value: Value| match properties.iter_mut().find(|known| known.name == name) {
        Some(known) => known.value = value,
        None => properties.push(Property::new(name, value)),
    };
    let number = |text: &str| match text {
        "max" | "-1" => Some(u64::MAX),
        text => text.parse().ok(),
    };
    let (mut quota, mut period) = (None, None);
    for write in writes {
        let value = write.value.trim();
        let plain = match write.file.as_str() {
            "memory.max" => "MemoryMax",
            "memory.high" => "MemoryHigh",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            "memory.swap.max" => "MemorySwapMax",
            "memory.limit_in_bytes" => "MemoryLimit",
            "pids.max" => "TasksMax",
            "cpu.weight" => "CPUWeight",
            "cpu.shares" => "CPUShares",
            "blkio.weight" | "blkio.bfq.weight" => "BlockIOWeight",
            "cpu.max" => {
                let (limit, rest) = value.split_once(' ').unwrap_or((value, ""));
                quota = number(limit);
                period = rest.parse().ok().or(period);
                continue;
            }
            "cpu.cfs_quota_us" => {
                quota = number(value);
                continue;
            }
            "cpu.cfs_period_us" => {
                period = value.parse().ok();
                continue;
            }
            "cpuset.cpus" | "cpuset.mems" => {
                let name = if write.file.ends_with("cpus") { "AllowedCPUs" } else { "AllowedMemoryNodes" };
                // v1's cpuset is not systemd's business.
                if let Some(bits) = bits(value).filter(|_| write.controller == "cpuset") {
                    set(name, Value::Bytes(bits));
                }
                continue;
            }
            "io.weight" => {
                if let Some(weight) = number(value.trim_start_matches("default ")) {
                    set("IOWeight", Value::Number(weight));
                }
                continue;
            }
            // BFQ counts to 1000, systemd to 10000; the default is 100 for both.
            "io.bfq.weight" => {
                if let Some(weight) = number(value.trim_start_matches("default ")) {
                    let weight = if weight <= 100 { weight } else { 100 + (weight - 100) * 9900 / 900 };
                    set("IOWeight", Value::Number(weight.clamp(1, 10_000)));
                }
                continue;
            }
            _ => continue,
        };
        if let Some(value) = number(value) {
            set(plain, Value::Number(value));
        }
    }
    if quota.is_some() || period.is_some() {
        let period = period.unwrap_or(100_000u64).max(1);
        // Microseconds for each second, in steps of 10 ms: a limit is never made smaller than what was asked for.
        let per_second = match quota {
            None | Some(u64::MAX) => u64::MAX,
            Some(quota) => quota.saturating_mul(1_000_000).div_ceil(period).div_ceil(10_000).saturating_mul(10_000),
        };
        set("CPUQuotaPerSecUSec", Value::Number(per_second));
        set("CPUQuotaPeriodUSec", Value::Number(period));
    }
    properties
}

/// A list such as `0-3,7` as a mask, byte 0 has the CPUs 0 to 7.
fn bits(list: &str) -> Option<Vec<u8>> {
    let mut mask: Vec<u8> = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if last < first || last > 1 << 16 {
            return None;
        }
        mask.resize(mask.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|n| mask[n / 8] |= 1 << (n % 8));
    }
    (!mask.is_empty()).then_some(mask)
}

/// Device rules in systemd's words. What it cannot say (a default of "allow", any major with one minor, a major without a
/// name in /proc/devices) it must not forbid either, since both its program and hull's own have to agree: then systemd
/// is told to stay out of it.
pub fn devices(rules: &DeviceRules, proc_devices: &str) -> Vec<Property> {
    let policy = |text: &str| Property::new("DevicePolicy", Value::Text(text.to_owned()));
    let lines: Option<Vec<_>> = rules
        .exceptions
        .iter()
        .map(|exception| {
            let (word, short) = if exception.kind == Kind::Block { ("block", "block") } else { ("char", "char") };
            let device = match (exception.major, exception.minor) {
                (None, None) => format!("{word}-*"),
                (Some(major), Some(minor)) => format!("/dev/{short}/{major}:{minor}"),
                (Some(major), None) => format!("{word}-{}", group(proc_devices, exception.kind, major)?),
                (None, Some(_)) => return None,
            };
            let access = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
            let access = access.iter().filter(|(bit, _)| exception.access & bit != 0).map(|(_, letter)| letter);
            Some((device, access.collect::<String>()))
        })
        .collect();
    match lines.filter(|_| !rules.allow_by_default) {
        // The empty list first: what a template of the unit may have set is gone.
        Some(lines) => vec![policy("strict"), Property::new("DeviceAllow", Value::Pairs(lines))],
        None => vec![policy("auto")],
    }
}

/// The name of a major number, unless other numbers share it: `char-NAME` would allow these too.
fn group(proc_devices: &str, kind: Kind, major: u32) -> Option<&str> {
    // The numbers 136 to 143 of the terminals are one group, and config.json's rules can only mean all of it.
    if kind == Kind::Char && (136..=143).contains(&major) {
        return Some("pts");
    }
    let (head, other) = match kind {
        Kind::Char => ("Character devices:", "Block devices:"),
        Kind::Block => ("Block devices:", "Character devices:"),
    };
    let lines = proc_devices.lines().skip_while(|line| *line != head).skip(1).take_while(|line| *line != other);
    let entries: Vec<(u32, &str)> = lines
        .filter_map(|line| line.trim().split_once(' '))
        .filter_map(|(n, name)| Some((n.parse().ok()?, name)))
        .collect();
    let name = entries.iter().find(|(n, _)| *n == major)?.1;
    (entries.iter().filter(|(_, other)| *other == name).count() == 1).then_some(name)
}

#[cfg(test)]
mod tests;
