//! What a container has used, in runc's words: the keys of `events --stats`, for v1 and v2 alike.
//!
//! A hybrid host has numbers in both: v2 counts pressure (PSI) for every cgroup, v1 has the controllers. So v2's are
//! read first, and what a v1 hierarchy knows replaces them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Directory, Handle};

pub mod rdt;
mod v1;
mod v2;

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The `data` of runc's stats event.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: Cpu,
    /// CPUs and memory nodes.
    pub cpuset: CpuSet,
    /// Memory and swap.
    pub memory: Memory,
    /// Processes.
    pub pids: Pids,
    /// Block I/O.
    pub blkio: BlockIo,
    /// Huge pages by size.
    pub hugetlb: BTreeMap<String, HugeTlb>,
    /// RDMA: what is used, by device and resource; not in runc's event.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, BTreeMap<String, u64>>,
    /// Miscellaneous resources that are used; not in runc's event.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub misc: BTreeMap<String, u64>,
}

/// CPU time.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Cpu {
    /// Used so far.
    pub usage: CpuUsage,
    /// How the quota held it back.
    pub throttling: Throttling,
    /// Pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// CPU time in nanoseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct CpuUsage {
    /// All of it.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// By CPU (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, by CPU (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In the program, by CPU (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In the program.
    pub user: u64,
}

/// How the quota held the container back.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which it ran.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Those in which it had to wait.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// For how long, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Psi {
    /// Some tasks waited.
    pub some: Stall,
    /// All tasks waited.
    pub full: Stall,
}

/// Shares of time in percent, and the whole of it in microseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Stall {
    /// Over 10 seconds.
    pub avg10: f64,
    /// Over a minute.
    pub avg60: f64,
    /// Over five minutes.
    pub avg300: f64,
    /// Since the cgroup was made.
    pub total: u64,
}

/// cpuset's files; the flags are v1's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[allow(missing_docs)]
pub struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Memory {
    /// Of the page cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// Memory.
    pub usage: Used,
    /// Memory and swap together, on v2 too.
    pub swap: Used,
    /// The kernel's share (v1).
    pub kernel: Used,
    /// Of it, for TCP (v1).
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Used,
    /// memory.stat.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// How often the limit was met: memory.events, or memory.oom_control; not in runc's event.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<String, u64>,
    /// Pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// Bytes against their limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Used {
    /// The limit; the largest number where there is none.
    pub limit: u64,
    /// In use.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most that ever was.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Processes; a limit of 0 is none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[allow(missing_docs)]
pub struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block I/O by device and kind of operation.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<IoEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<IoEntry>,
    /// Pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// One number of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[allow(missing_docs)]
pub struct IoEntry {
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    pub op: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct HugeTlb {
    /// In use.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most that ever was (v1).
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

impl Handle {
    /// Reads the numbers. What a controller that is not there would count is left at 0.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for tree in self.trees.iter().filter(|tree| tree.v2) {
            v2::read(tree, &mut stats);
        }
        for tree in self.trees.iter().filter(|tree| !tree.v2) {
            v1::read(tree, &mut stats);
        }
        if stats.pids.current == 0 {
            stats.pids.current = self.pids().map_or(0, |pids| pids.len() as u64);
        }
        stats
    }
}

/// By key. Not by collect(), which sorts first, with 6 KiB of code for each type.
fn by_key<'t>(pairs: impl Iterator<Item = (&'t str, u64)>) -> BTreeMap<String, u64> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        map.insert(key.to_owned(), value);
    }
    map
}

/// Lines of `key number`.
fn flat(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, number(value)))
    })
}

/// A number; `max` is the largest.
fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        digits => digits.parse().unwrap_or(0),
    }
}

/// The number in a file; 0 without one.
fn value(directory: &Directory, file: &str) -> u64 {
    directory.read(file).map_or(0, |text| number(&text))
}

/// `0-2,7` as [0, 1, 2, 7].
fn list(text: &str) -> Vec<u16> {
    let mut all = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            all.extend(first..=last);
        }
    }
    all
}

/// The sizes of huge pages for which the cgroup has a file that ends so.
fn huge_page_sizes(directory: &Directory, suffix: &str) -> Vec<String> {
    let name = |file: &String| Some(file.strip_prefix("hugetlb.")?.strip_suffix(suffix)?.to_owned());
    directory.files().iter().filter_map(name).filter(|size| !size.contains('.')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lists() {
        assert_eq!(number("max\n"), u64::MAX);
        assert_eq!(number("12\n"), 12);
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert!(list("\n").is_empty());
        assert_eq!(flat("a 1\nb 2\nodd\n").collect::<Vec<_>>(), [("a", 1), ("b", 2)]);
    }

    /// The keys that readers of runc's events know, all of them there where runc has them always.
    #[test]
    fn the_json_has_runcs_keys() {
        let text = serde_json::to_string(&Stats::default()).unwrap();
        let wanted = r#"{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},"memory":{"usage":{"limit":0,"failcnt":0},"swap":{"limit":0,"failcnt":0},"kernel":{"limit":0,"failcnt":0},"kernelTCP":{"limit":0,"failcnt":0}},"pids":{},"blkio":{},"hugetlb":{}}"#;
        assert_eq!(text, wanted);
    }
}
