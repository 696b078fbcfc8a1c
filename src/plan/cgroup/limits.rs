//! Limits as files and values, by the version of the hierarchy that has the controller.
//!
//! 0 is "unset" for memory, cpu and weights, as engines send it; -1 is "no limit". Values that v1 and v2 count
//! differently are converted by runc's formulas, since engines compute their v1 values with them in mind.

use super::{Tree, Write};
use crate::error::{Error, Result};
use crate::host::HostFacts;
use crate::plan::ranges;
use crate::spec;
use crate::spec::json::escape;

/// What a limit of 0 processes stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroPids {
    /// No limit: version 1.3 of the specification was the first to make the limit optional, and until then engines
    /// (podman for `--pids-limit -1`) wrote 0 for none.
    None,
    /// The smallest limit with which a program can run.
    One,
}

impl ZeroPids {
    /// By the version of a configuration, which is 1.x.
    pub fn of(version: &str) -> ZeroPids {
        let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
        if minor.is_some_and(|minor| minor < 3) { ZeroPids::None } else { ZeroPids::One }
    }
}

/// Writes, and the v2 controllers that they need.
pub fn plan(
    resources: &spec::Resources<'_>,
    zero: ZeroPids,
    trees: &[Tree],
    host: &HostFacts,
    notes: &mut Vec<String>,
) -> Result<(Vec<Write>, Vec<String>)> {
    let mut out = Out { trees, host, writes: Vec::new(), enable: Vec::new() };
    if let Some(cpu) = &resources.cpu {
        self::cpu(cpu, &mut out)?;
    }
    if let Some(memory) = &resources.memory {
        self::memory(memory, &mut out, notes)?;
    }
    let pids = resources.pids.as_ref().and_then(|pids| pids.limit);
    if let Some(limit) = pids.filter(|limit| *limit != 0 || zero == ZeroPids::One) {
        let value = match limit {
            0 => "1".into(),
            n if n < 0 => "max".into(),
            n => n.to_string(),
        };
        out.put("pids", "pids.max", "pids.max", value, "pids/limit")?;
    }
    if let Some(io) = &resources.block_io {
        block_io(io, &mut out, notes)?;
    }
    hugepages(&resources.hugepage_limits, &mut out)?;
    if let Some(network) = &resources.network {
        self::network(network, &mut out, notes)?;
    }
    for (device, limits) in resources.rdma.iter() {
        let parts = [("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)];
        let parts: Vec<_> = parts.iter().filter_map(|(name, n)| n.map(|n| format!("{name}={n}"))).collect();
        let value = format!("{device} {}", parts.join(" "));
        out.put("rdma", "rdma.max", "rdma.max", value, &format!("rdma/{}", escape(device)))?;
    }
    unified(resources, &mut out)?;
    Ok((out.writes, out.enable))
}

struct Out<'p> {
    trees: &'p [Tree],
    host: &'p HostFacts,
    writes: Vec<Write>,
    enable: Vec<String>,
}

impl Out<'_> {
    /// Which hierarchy has a controller.
    fn tree(&self, controller: &str) -> Option<usize> {
        let v1 = self.trees.iter().position(|tree| tree.controllers.iter().any(|name| name == controller));
        v1.or_else(|| self.trees.iter().position(|tree| tree.v2))
    }

    /// Whether a controller is v1's here.
    fn is_v1(&self, controller: &str) -> bool {
        self.tree(controller).is_some_and(|tree| !self.trees[tree].v2)
    }

    /// Plans a value under the name that the controller's version has for the file; an empty name: no such file there.
    fn put(&mut self, controller: &str, v1: &str, v2: &str, value: impl Into<String>, pointer: &str) -> Result<()> {
        let pointer = format!("/linux/resources/{pointer}");
        let value = value.into();
        let Some(tree) = self.tree(controller) else {
            // Where nothing counts there is no limit.
            if is_no_limit(&value) && !self.trees.is_empty() {
                return Ok(());
            }
            let missing;
            let why = if !self.trees.is_empty() {
                missing = format!("this host mounts no {controller} controller");
                &missing
            } else if self.host.rootless() {
                "rootless needs no limits + no cgrouppath when no permission is granted for cgroups"
            } else {
                "the container has no cgroup"
            };
            return Err(Error::spec(pointer, format_args!("cannot be limited: {why}")));
        };
        let is_v2 = self.trees[tree].v2;
        let file = if is_v2 { v2 } else { v1 };
        if file.is_empty() {
            let version = if is_v2 { "v2" } else { "v1" };
            return Err(Error::spec(pointer, format_args!("cgroup {version} has no such limit")));
        }
        if is_v2 && !is_no_limit(&value) && !self.enable.iter().any(|name| name == controller) {
            self.enable.push(controller.to_owned());
        }
        self.writes.push(Write {
            tree,
            controller: controller.to_owned(),
            file: file.to_owned(),
            value,
            pointer,
            not_below: None,
        });
        Ok(())
    }
}

/// Whether a value takes no controller: without its file there is no limit.
pub fn is_no_limit(value: &str) -> bool {
    matches!(value, "max" | "-1")
}

impl Out<'_> {
    /// The value planned last is to be compared with this file before it is written.
    fn not_below(&mut self, file: Option<&'static str>) {
        if let Some(write) = self.writes.last_mut().filter(|write| write.controller == "memory") {
            write.not_below = file;
        }
    }
}

fn cpu(cpu: &spec::Cpu<'_>, out: &mut Out<'_>) -> Result<()> {
    let v1 = out.is_v1("cpu");
    if let Some(idle) = cpu.idle {
        out.put("cpu", "cpu.idle", "cpu.idle", idle.to_string(), "cpu/idle")?;
    }
    if let Some(shares) = cpu.shares.filter(|n| *n != 0) {
        let value = if v1 { shares } else { weight_of_shares(shares) };
        // A weight and cpu.idle exclude each other; idle wins, as it does with runc.
        if cpu.idle != Some(1) {
            out.put("cpu", "cpu.shares", "cpu.weight", value.to_string(), "cpu/shares")?;
        }
    }
    let quota = cpu.quota.filter(|n| *n != 0);
    let period = cpu.period.filter(|n| *n != 0);
    // The kernel's own bounds, a millisecond and a second; its EINVAL would not tell which of the two is wrong.
    for (field, value, most) in
        [("quota", quota.filter(|n| *n > 0).map(i64::unsigned_abs), u64::MAX), ("period", period, 1_000_000)]
    {
        if let Some(value) = value.filter(|value| !(1000..=most).contains(value)) {
            let what = if value < 1000 { "at least 1000" } else { "at most 1000000" };
            let what = format!("is in microseconds, and must be {what}, is {value}");
            return Err(Error::spec(format!("/linux/resources/cpu/{field}"), what));
        }
    }
    if v1 {
        if let Some(runtime_period) = cpu.realtime_period.filter(|n| *n != 0) {
            out.put("cpu", "cpu.rt_period_us", "", runtime_period.to_string(), "cpu/realtimePeriod")?;
        }
        if let Some(runtime) = cpu.realtime_runtime.filter(|n| *n != 0) {
            out.put("cpu", "cpu.rt_runtime_us", "", runtime.to_string(), "cpu/realtimeRuntime")?;
        }
        if let Some(period) = period {
            out.put("cpu", "cpu.cfs_period_us", "", period.to_string(), "cpu/period")?;
        }
        if let Some(quota) = quota {
            out.put("cpu", "cpu.cfs_quota_us", "", quota.to_string(), "cpu/quota")?;
        }
    } else {
        for (name, asked) in [
            ("realtimePeriod", cpu.realtime_period.is_some_and(|n| n != 0)),
            ("realtimeRuntime", cpu.realtime_runtime.is_some_and(|n| n != 0)),
        ] {
            if asked {
                out.put("cpu", "", "", "", &format!("cpu/{name}"))?;
            }
        }
        if quota.is_some() || period.is_some() {
            let limit = quota.filter(|n| *n > 0).map_or("max".to_owned(), |n| n.to_string());
            let pointer = if quota.is_some() { "cpu/quota" } else { "cpu/period" };
            // A lone quota keeps the period that is there; a lone period needs the quota beside it.
            let period = period.map(|period| format!(" {period}")).unwrap_or_default();
            out.put("cpu", "", "cpu.max", format!("{limit}{period}"), pointer)?;
        }
    }
    if let Some(burst) = cpu.burst {
        out.put("cpu", "cpu.cfs_burst_us", "cpu.max.burst", burst.to_string(), "cpu/burst")?;
    }
    for (file, list) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            let field = file.trim_start_matches("cpuset.");
            check_list(list).map_err(|what| Error::spec(format!("/linux/resources/cpu/{field}"), what))?;
            out.put("cpuset", file, file, list, &format!("cpu/{field}"))?;
        }
    }
    Ok(())
}

/// Refuses what no kernel takes for a list. Newer ones know more than ranges: steps (`0-9:1/2`), `all`, and `N` for the last.
fn check_list(list: &str) -> Result<(), String> {
    let digits = list.bytes().all(|byte| byte.is_ascii_digit() || b"-, \t\n".contains(&byte));
    let newer = list.bytes().all(|byte| byte.is_ascii_digit() || b"-, \t\n:/Nal".contains(&byte));
    match newer && !digits {
        true => Ok(()),
        false => ranges::mask(list).map(drop),
    }
}

/// cpu.shares (2 to 262144, 1024 is one share) as cpu.weight (1 to 10000, 100 is one), by runc's formula: exact at the
/// ends and at the default, a parabola of the logarithms between.
fn weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // Powers of ten that are exact in theory must not be rounded up by the last bit of a float.
    ((10f64.powf(exponent) - 1e-9).ceil() as u64).clamp(1, 10_000)
}

/// The limit of the memory in TCP buffers: v1 only, and no longer in every kernel.
pub const TCP_BUFFERS: &str = "memory.kmem.tcp.limit_in_bytes";

fn memory(memory: &spec::Memory<'_>, out: &mut Out<'_>, notes: &mut Vec<String>) -> Result<()> {
    let v1 = out.is_v1("memory");
    let bytes = |n: i64| if n < 0 { if v1 { "-1".to_owned() } else { "max".to_owned() } } else { n.to_string() };
    let limit = memory.limit.filter(|n| *n != 0);
    let swap = memory.swap.filter(|n| *n != 0);
    let check = memory.check_before_update == Some(true);
    let buffers = memory.kernel_tcp.filter(|n| *n != 0);
    for (name, asked, why) in [
        ("kernel", memory.kernel, "has no effect on today's kernels"),
        ("kernelTCP", buffers.filter(|_| !v1), "cgroup v2 has no such limit"),
    ] {
        if asked.is_some_and(|n| n > 0) {
            notes.push(format!("config.json: /linux/resources/memory/{name}: {why}, ignored"));
        }
    }
    if let (Some(limit @ 1..), Some(swap @ 1..)) = (limit, swap)
        && swap < limit
    {
        let what = "counts memory and swap together, so it cannot be below the memory limit";
        return Err(Error::spec("/linux/resources/memory/swap", what));
    }
    if v1 {
        // The kernel wants memory <= memory+swap at each moment, and a new cgroup has no limits: memory first.
        if let Some(limit) = limit {
            out.put("memory", "memory.limit_in_bytes", "", bytes(limit), "memory/limit")?;
            out.not_below(check.then_some("memory.usage_in_bytes"));
        }
        if let Some(swap) = swap.or(limit.filter(|n| *n < 0)) {
            out.put("memory", "memory.memsw.limit_in_bytes", "", bytes(swap), "memory/swap")?;
            out.not_below(check.then_some("memory.memsw.usage_in_bytes"));
        }
        if let Some(reservation) = memory.reservation.filter(|n| *n != 0) {
            out.put("memory", "memory.soft_limit_in_bytes", "", bytes(reservation), "memory/reservation")?;
        }
        if let Some(buffers) = buffers {
            out.put("memory", TCP_BUFFERS, "", bytes(buffers), "memory/kernelTCP")?;
        }
        if let Some(disable) = memory.disable_oom_killer.filter(|disable| *disable) {
            out.put("memory", "memory.oom_control", "", u8::from(disable).to_string(), "memory/disableOOMKiller")?;
        }
        if let Some(swappiness) = memory.swappiness {
            if swappiness > 100 {
                let what = format!("must be at most 100, is {swappiness}");
                return Err(Error::spec("/linux/resources/memory/swappiness", what));
            }
            out.put("memory", "memory.swappiness", "", swappiness.to_string(), "memory/swappiness")?;
        }
        return Ok(());
    }
    if let Some(swap) = swap {
        let value = match (swap, limit) {
            (n, _) if n < 0 => "max".to_owned(),
            (swap, Some(limit)) if limit > 0 => (swap - limit).to_string(),
            _ => return Err(Error::spec("/linux/resources/memory/swap", "needs a memory limit beside it")),
        };
        out.put("memory", "", "memory.swap.max", value, "memory/swap")?;
    } else if limit == Some(-1) {
        out.put("memory", "", "memory.swap.max", "max", "memory/limit")?;
    }
    if let Some(limit) = limit {
        out.put("memory", "", "memory.max", bytes(limit), "memory/limit")?;
        out.not_below(check.then_some("memory.current"));
    }
    if let Some(reservation) = memory.reservation.filter(|n| *n != 0) {
        out.put("memory", "", "memory.low", bytes(reservation), "memory/reservation")?;
    }
    for (name, asked) in
        [("swappiness", memory.swappiness.is_some()), ("disableOOMKiller", memory.disable_oom_killer == Some(true))]
    {
        if asked {
            notes.push(format!("config.json: /linux/resources/memory/{name}: cgroup v2 has no such setting, ignored"));
        }
    }
    Ok(())
}

fn block_io(io: &spec::BlockIo<'_>, out: &mut Out<'_>, notes: &mut Vec<String>) -> Result<()> {
    let controller = if out.is_v1("blkio") { "blkio" } else { "io" };
    let v1 = controller == "blkio";
    let weight = |weight: u16| if v1 { u64::from(weight) } else { io_weight(weight) };
    if let Some(value) = io.weight.filter(|n| *n != 0) {
        check_weight(value, "blockIO/weight")?;
        out.put(controller, "blkio.bfq.weight", "io.bfq.weight", weight(value).to_string(), "blockIO/weight")?;
    }
    if io.leaf_weight.is_some_and(|n| n != 0) || io.weight_device.iter().any(|d| d.leaf_weight.is_some_and(|n| n != 0))
    {
        notes.push(
            "config.json: /linux/resources/blockIO: leaf weights went away with the CFQ scheduler, ignored".into(),
        );
    }
    for (index, device) in io.weight_device.iter().enumerate() {
        let Some(value) = device.weight.filter(|n| *n != 0) else { continue };
        let pointer = format!("blockIO/weightDevice/{index}");
        check_weight(value, &pointer)?;
        let line = format!("{}:{} {}", device.major, device.minor, weight(value));
        out.put(controller, "blkio.bfq.weight_device", "io.bfq.weight", line, &pointer)?;
    }
    let throttles = [
        (&io.throttle_read_bps_device, "blkio.throttle.read_bps_device", "rbps", "throttleReadBpsDevice"),
        (&io.throttle_write_bps_device, "blkio.throttle.write_bps_device", "wbps", "throttleWriteBpsDevice"),
        (&io.throttle_read_iops_device, "blkio.throttle.read_iops_device", "riops", "throttleReadIOPSDevice"),
        (&io.throttle_write_iops_device, "blkio.throttle.write_iops_device", "wiops", "throttleWriteIOPSDevice"),
    ];
    for (devices, v1_file, key, field) in throttles {
        for (index, device) in devices.iter().enumerate() {
            let number = format!("{}:{}", device.major, device.minor);
            let value = if v1 {
                format!("{number} {}", device.rate)
            } else {
                let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
                format!("{number} {key}={rate}")
            };
            out.put(controller, v1_file, "io.max", value, &format!("blockIO/{field}/{index}"))?;
        }
    }
    Ok(())
}

fn check_weight(weight: u16, pointer: &str) -> Result<()> {
    if (10..=1000).contains(&weight) {
        return Ok(());
    }
    Err(Error::spec(format!("/linux/resources/{pointer}"), format_args!("must be between 10 and 1000, is {weight}")))
}

/// The file that has the same meaning on a kernel without the first one, and the value in its terms: weights belong to
/// BFQ, and where that is absent to CFQ (v1) or to the cost model (v2, 1 to 10000 by runc's formula).
pub fn instead(file: &str, value: &str) -> Option<(&'static str, String)> {
    match file {
        "blkio.bfq.weight" => Some(("blkio.weight", value.to_owned())),
        "blkio.bfq.weight_device" => Some(("blkio.weight_device", value.to_owned())),
        "io.bfq.weight" => {
            let (device, weight) =
                value.rsplit_once(' ').map_or((None, value), |(device, weight)| (Some(device), weight));
            let weight: u64 = weight.parse().ok()?;
            let weight = 1 + weight.saturating_sub(10) * 9999 / 990;
            Some(("io.weight", device.map_or(weight.to_string(), |device| format!("{device} {weight}"))))
        }
        _ => None,
    }
}

/// BFQ takes 1 to 1000 on v2 as well.
fn io_weight(weight: u16) -> u64 {
    weight.into()
}

fn hugepages(limits: &[spec::HugepageLimit<'_>], out: &mut Out<'_>) -> Result<()> {
    for (index, limit) in limits.iter().enumerate() {
        let pointer = format!("hugepageLimits/{index}");
        let size = limit.page_size.as_deref().unwrap_or_default();
        let digits = size.trim_end_matches(|c: char| c.is_ascii_uppercase());
        if digits.is_empty() || digits.parse::<u32>().is_err() || !matches!(&size[digits.len()..], "KB" | "MB" | "GB") {
            let what = format!("must be a size such as 2MB or 1GB, is {size:?}");
            return Err(Error::spec(format!("/linux/resources/{pointer}/pageSize"), what));
        }
        let (v1, v2) = (format!("hugetlb.{size}.limit_in_bytes"), format!("hugetlb.{size}.max"));
        out.put("hugetlb", &v1, &v2, limit.limit.to_string(), &pointer)?;
        // Reservations too, else a program could reserve beyond its limit (kernel 5.7 and later have the file).
        let (v1, v2) = (format!("hugetlb.{size}.rsvd.limit_in_bytes"), format!("hugetlb.{size}.rsvd.max"));
        out.put("hugetlb", &v1, &v2, limit.limit.to_string(), &pointer)?;
    }
    Ok(())
}

fn network(network: &spec::Network<'_>, out: &mut Out<'_>, notes: &mut Vec<String>) -> Result<()> {
    if let Some(index) = network.priorities.iter().position(|p| p.name.as_deref().unwrap_or_default().is_empty()) {
        return Err(Error::spec(format!("/linux/resources/network/priorities/{index}/name"), "missing"));
    }
    for (controller, file, value, field) in [
        ("net_cls", "net_cls.classid", network.class_id.filter(|n| *n != 0).map(|n| vec![n.to_string()]), "classID"),
        (
            "net_prio",
            "net_prio.ifpriomap",
            Some(
                network
                    .priorities
                    .iter()
                    .map(|p| format!("{} {}", p.name.as_deref().unwrap_or_default(), p.priority))
                    .collect(),
            ),
            "priorities",
        ),
    ] {
        for value in value.into_iter().flatten() {
            let mounted = out.is_v1(controller);
            if !mounted && out.trees.iter().any(|tree| !tree.v2) {
                let what = format!("cannot be set: this host mounts no {controller} controller");
                return Err(Error::spec(format!("/linux/resources/network/{field}"), what));
            } else if mounted {
                out.put(controller, file, "", value, &format!("network/{field}"))?;
            } else {
                notes.push(format!("config.json: /linux/resources/network/{field}: the {controller} controller is not mounted here, ignored"));
            }
        }
    }
    Ok(())
}

const MOST_CONTROLLERS: usize = 64;

/// cgroup v2 files as they are; the controller is the part of the name before the first dot.
fn unified(resources: &spec::Resources<'_>, out: &mut Out<'_>) -> Result<()> {
    for (file, value) in resources.unified.iter() {
        let pointer = format!("unified/{}", escape(file));
        if file.contains('/') || file.contains('\0') || !file.contains('.') {
            return Err(Error::spec(format!("/linux/resources/{pointer}"), "must be the name of a cgroup v2 file"));
        }
        let Some(tree) = out.trees.iter().position(|tree| tree.v2).filter(|_| out.trees.iter().all(|tree| tree.v2))
        else {
            return Err(Error::spec(
                format!("/linux/resources/{pointer}"),
                "cannot use unified on cgroup v1: it needs a host with cgroup v2 only",
            ));
        };
        let controller = file.split('.').next().unwrap_or_default();
        // The kernel has a dozen: more names than that are none.
        if out.enable.len() > MOST_CONTROLLERS {
            let what = format!("names more than {MOST_CONTROLLERS} controllers: the kernel has fewer");
            return Err(Error::spec(format!("/linux/resources/{pointer}"), what));
        }
        if controller != "cgroup" && !out.enable.iter().any(|name| name == controller) {
            out.enable.push(controller.to_owned());
        }
        for line in value.lines() {
            out.writes.push(Write {
                tree,
                controller: controller.to_owned(),
                file: file.to_string(),
                value: line.to_owned(),
                pointer: format!("/linux/resources/{pointer}"),
                not_below: None,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::CgroupFacts;

    fn host() -> HostFacts {
        HostFacts::of_root(CgroupFacts::default())
    }

    fn tree(v2: bool) -> Tree {
        let controllers =
            if v2 { Vec::new() } else { ["cpu", "memory", "pids", "cpuset", "blkio"].map(str::to_owned).to_vec() };
        Tree { mount: "/sys/fs/cgroup".into(), path: "x".into(), controllers, v2 }
    }

    fn values(json: &str, v2: bool) -> Result<Vec<String>> {
        let resources: spec::Resources<'_> = serde_json::from_str(json).unwrap();
        let (writes, _) = plan(&resources, ZeroPids::One, &[tree(v2)], &host(), &mut Vec::new())?;
        Ok(writes.into_iter().map(|write| format!("{}={}", write.file, write.value)).collect())
    }

    #[test]
    fn shares_and_weights() {
        assert_eq!([2, 1024, 262_144].map(weight_of_shares), [1, 100, 10_000]);
        assert_eq!(weight_of_shares(1), 1);
    }

    #[test]
    fn weights_without_bfq() {
        assert_eq!(instead("io.bfq.weight", "10"), Some(("io.weight", "1".into())));
        assert_eq!(instead("io.bfq.weight", "8:0 1000"), Some(("io.weight", "8:0 10000".into())));
        assert_eq!(instead("blkio.bfq.weight_device", "8:0 77"), Some(("blkio.weight_device", "8:0 77".into())));
        assert_eq!(instead("memory.max", "1"), None);
    }

    #[test]
    fn v1_and_v2_have_their_own_files() {
        let json = r#"{"memory":{"limit":100,"swap":150,"reservation":50,"kernel":70,"kernelTCP":60},"cpu":{"shares":1024,"quota":5000,"period":10000},"pids":{"limit":0}}"#;
        assert_eq!(
            values(json, false).unwrap(),
            [
                "cpu.shares=1024",
                "cpu.cfs_period_us=10000",
                "cpu.cfs_quota_us=5000",
                "memory.limit_in_bytes=100",
                "memory.memsw.limit_in_bytes=150",
                "memory.soft_limit_in_bytes=50",
                "memory.kmem.tcp.limit_in_bytes=60",
                "pids.max=1"
            ]
        );
        assert_eq!(
            values(json, true).unwrap(),
            [
                "cpu.weight=100",
                "cpu.max=5000 10000",
                "memory.swap.max=50",
                "memory.max=100",
                "memory.low=50",
                "pids.max=1"
            ]
        );
    }

    #[test]
    fn a_missing_controller_is_named_unless_nothing_is_limited() {
        for (json, name) in [
            (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#, "hugetlb"),
            (r#"{"rdma":{"mlx":{"hcaHandles":3}}}"#, "rdma"),
            (r#"{"network":{"classID":5}}"#, "net_cls"),
            (r#"{"network":{"priorities":[{"name":"lo","priority":3}]}}"#, "net_prio"),
        ] {
            let error = values(json, false).unwrap_err().to_string();
            assert!(error.contains(&format!("this host mounts no {name} controller")), "{error}");
        }
        let unset = r#"{"memory":{"limit":-1,"swap":-1},"cpu":{"quota":-1},"pids":{"limit":-1},"network":{}}"#;
        let resources: spec::Resources<'_> = serde_json::from_str(unset).unwrap();
        let bare = Tree { controllers: vec!["freezer".into()], ..tree(false) };
        let (writes, _) = plan(&resources, ZeroPids::One, &[bare], &host(), &mut Vec::new()).unwrap();
        assert!(writes.is_empty(), "{writes:?}");
        let (_, enable) = plan(&resources, ZeroPids::One, &[tree(true)], &host(), &mut Vec::new()).unwrap();
        assert!(enable.is_empty(), "{enable:?}");
    }

    #[test]
    fn zero_is_unset_and_minus_one_no_limit() {
        let zeros = r#"{"memory":{"limit":0,"swap":0,"kernel":0},"cpu":{"shares":0,"quota":0,"period":0},"blockIO":{"weight":0}}"#;
        assert!(values(zeros, false).unwrap().is_empty() && values(zeros, true).unwrap().is_empty());
        assert_eq!(values(r#"{"pids":{"limit":-1}}"#, true).unwrap(), ["pids.max=max"]);
        assert_eq!(values(r#"{"memory":{"limit":-1}}"#, true).unwrap(), ["memory.swap.max=max", "memory.max=max"]);
    }

    #[test]
    fn no_processes_are_no_limit_before_1_3() {
        for (version, zero) in [
            ("1.0.2-dev", ZeroPids::None),
            ("1.2.1", ZeroPids::None),
            ("1.3.0", ZeroPids::One),
            ("1.10.0", ZeroPids::One),
        ] {
            assert_eq!(ZeroPids::of(version), zero, "{version}");
        }
        let resources = serde_json::from_str(r#"{"pids":{"limit":0}}"#).unwrap();
        let (writes, enable) = plan(&resources, ZeroPids::None, &[tree(true)], &host(), &mut Vec::new()).unwrap();
        assert!(writes.is_empty() && enable.is_empty(), "{writes:?}, {enable:?}");
    }

    #[test]
    fn impossible_limits_are_refused() {
        for json in [
            r#"{"memory":{"limit":100,"swap":50}}"#,
            r#"{"memory":{"swap":50}}"#,
            r#"{"unified":{"../memory.max":"1"}}"#,
            r#"{"hugepageLimits":[{"pageSize":"two","limit":1}]}"#,
        ] {
            assert!(values(json, true).is_err(), "{json}");
        }
        for (json, place) in [
            (r#"{"memory":{"limit":100,"swap":50}}"#, "/linux/resources/memory/swap: counts memory and swap together"),
            (r#"{"cpu":{"quota":999}}"#, "/linux/resources/cpu/quota: is in microseconds, and must be at least 1000"),
            (r#"{"cpu":{"period":10}}"#, "/linux/resources/cpu/period: is in microseconds, and must be at least 1000"),
            (r#"{"cpu":{"period":1000001}}"#, "/linux/resources/cpu/period: is in microseconds, and must be at most"),
            (r#"{"cpu":{"cpus":"0-"}}"#, "/linux/resources/cpu/cpus: \"0-\" is no list"),
            (r#"{"cpu":{"cpus":"3-1"}}"#, "/linux/resources/cpu/cpus: \"3-1\" counts backwards"),
            (r#"{"cpu":{"mems":"z"}}"#, "/linux/resources/cpu/mems: \"z\" is no list"),
        ] {
            for v2 in [false, true] {
                let error = values(json, v2).unwrap_err().to_string();
                assert!(error.contains(place), "{error}");
            }
        }
        for list in ["0-3, 7", "0-31:2/4", "all", "N", "1-N"] {
            assert!(values(&format!(r#"{{"cpu":{{"cpus":"{list}","quota":-1}}}}"#), true).is_ok(), "{list}");
        }
        assert!(values(r#"{"unified":{"memory.max":"1"}}"#, false).unwrap_err().to_string().contains("v2 only"));
        let pids = serde_json::from_str(r#"{"pids":{"limit":5}}"#).unwrap();
        assert!(plan(&pids, ZeroPids::One, &[], &host(), &mut Vec::new()).is_err());
    }
}
