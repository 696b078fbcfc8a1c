//! Numbers of v1 hierarchies (Documentation/admin-guide/cgroup-v1).

use super::{
    BlockIo, CpuSet, Directory, HugeTlb, IoEntry, Memory, Stats, Used, by_key, flat, huge_page_sizes, list, value,
};

/// Nanoseconds of one tick of cpuacct.stat: the kernel counts there in USER_HZ, which is 100.
const TICK: u64 = 10_000_000;

/// What the controllers of one hierarchy know.
pub fn read(tree: &Directory, stats: &mut Stats) {
    for controller in &tree.controllers {
        match controller.as_str() {
            "cpu" => throttling(tree, stats),
            "cpuacct" => cpu(tree, stats),
            "cpuset" => stats.cpuset = cpuset(tree),
            "memory" => stats.memory = Memory { psi: stats.memory.psi.take(), ..memory(tree) },
            "pids" => {
                stats.pids.current = value(tree, "pids.current");
                stats.pids.limit = Some(value(tree, "pids.max")).filter(|max| *max != u64::MAX).unwrap_or(0);
            }
            "blkio" => stats.blkio = BlockIo { psi: stats.blkio.psi.take(), ..block_io(tree) },
            "hugetlb" => {
                for size in huge_page_sizes(tree, ".usage_in_bytes") {
                    let one = HugeTlb {
                        usage: value(tree, &format!("hugetlb.{size}.usage_in_bytes")),
                        max: value(tree, &format!("hugetlb.{size}.max_usage_in_bytes")),
                        failcnt: value(tree, &format!("hugetlb.{size}.failcnt")),
                    };
                    stats.hugetlb.insert(size, one);
                }
            }
            "rdma" => super::v2::rdma(tree, stats),
            "misc" => super::v2::misc(tree, stats),
            _ => {}
        }
    }
}

fn throttling(tree: &Directory, stats: &mut Stats) {
    for (key, number) in flat(&tree.read("cpu.stat").unwrap_or_default()) {
        match key {
            "nr_periods" => stats.cpu.throttling.periods = number,
            "nr_throttled" => stats.cpu.throttling.throttled_periods = number,
            "throttled_time" => stats.cpu.throttling.throttled_time = number,
            _ => {}
        }
    }
}

fn cpu(tree: &Directory, stats: &mut Stats) {
    let usage = &mut stats.cpu.usage;
    usage.total = value(tree, "cpuacct.usage");
    for (key, ticks) in flat(&tree.read("cpuacct.stat").unwrap_or_default()) {
        match key {
            "user" => usage.user = ticks * TICK,
            "system" => usage.kernel = ticks * TICK,
            _ => {}
        }
    }
    let percpu = tree.read("cpuacct.usage_percpu").unwrap_or_default();
    usage.percpu = percpu.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    for line in tree.read("cpuacct.usage_all").unwrap_or_default().lines().skip(1) {
        let mut fields = line.split(' ').skip(1).map(|word| word.parse().unwrap_or(0));
        usage.percpu_user.push(fields.next().unwrap_or(0));
        usage.percpu_kernel.push(fields.next().unwrap_or(0));
    }
}

fn cpuset(tree: &Directory) -> CpuSet {
    let flag = |name: &str| value(tree, &format!("cpuset.{name}"));
    let numbers = |name: &str| list(&tree.read(name).unwrap_or_default());
    CpuSet {
        cpus: numbers("cpuset.cpus"),
        cpu_exclusive: flag("cpu_exclusive"),
        mems: numbers("cpuset.mems"),
        mem_hardwall: flag("mem_hardwall"),
        mem_exclusive: flag("mem_exclusive"),
        memory_migrate: flag("memory_migrate"),
        memory_spread_page: flag("memory_spread_page"),
        memory_spread_slab: flag("memory_spread_slab"),
        memory_pressure: flag("memory_pressure"),
        sched_load_balance: flag("sched_load_balance"),
        sched_relax_domain_level: tree
            .read("cpuset.sched_relax_domain_level")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0),
    }
}

fn memory(tree: &Directory) -> Memory {
    let used = |name: &str| Used {
        limit: value(tree, &format!("{name}.limit_in_bytes")),
        usage: value(tree, &format!("{name}.usage_in_bytes")),
        max: value(tree, &format!("{name}.max_usage_in_bytes")),
        failcnt: value(tree, &format!("{name}.failcnt")),
    };
    let raw = tree.read("memory.stat").unwrap_or_default();
    let events = tree.read("memory.oom_control").unwrap_or_default();
    Memory {
        usage: used("memory"),
        swap: used("memory.memsw"),
        kernel: used("memory.kmem"),
        kernel_tcp: used("memory.kmem.tcp"),
        cache: flat(&raw).find(|(key, _)| *key == "cache").map_or(0, |(_, bytes)| bytes),
        raw: by_key(flat(&raw)),
        events: by_key(flat(&events).filter(|(key, _)| *key == "oom_kill")),
        psi: None,
    }
}

/// The scheduler's own numbers where it has any (BFQ), else those of the throttling layer, which counts for all.
fn block_io(tree: &Directory) -> BlockIo {
    let read = |what: &str| {
        let of = |layer: &str| entries(&tree.read(&format!("blkio.{layer}.{what}")).unwrap_or_default());
        let bfq = of("bfq");
        if bfq.is_empty() { of("throttle") } else { bfq }
    };
    BlockIo {
        io_service_bytes_recursive: read("io_service_bytes_recursive"),
        io_serviced_recursive: read("io_serviced_recursive"),
        psi: None,
    }
}

/// Lines of `8:0 Read 4096`; the last line, without a device, is the sum.
fn entries(text: &str) -> Vec<IoEntry> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (major, minor) = fields.next()?.split_once(':')?;
            let (op, value) = (fields.next()?.to_owned(), fields.next()?);
            Some(IoEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, op, value: value.parse().ok()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_io_lines() {
        let text = "254:0 Read 63\n254:0 Total 275\n8:16 Write 0\nTotal 275\n";
        let read: Vec<_> = entries(text).into_iter().map(|e| (e.major, e.minor, e.op, e.value)).collect();
        let wanted = [(254, 0, "Read", 63), (254, 0, "Total", 275), (8, 16, "Write", 0)];
        assert_eq!(read, wanted.map(|(major, minor, op, value)| (major, minor, op.to_owned(), value)));
    }
}
