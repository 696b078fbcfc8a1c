//! Numbers of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst), in the places where v1 has them.

use super::{
    Directory, HugeTlb, IoEntry, Memory, Psi, Stall, Stats, Used, by_key, flat, huge_page_sizes, list, number, value,
};

/// All that one cgroup knows.
pub fn read(tree: &Directory, stats: &mut Stats) {
    cpu(tree, stats);
    stats.memory = memory(tree);
    stats.pids.current = value(tree, "pids.current");
    stats.pids.limit = Some(value(tree, "pids.max")).filter(|max| *max != u64::MAX).unwrap_or(0);
    let io = tree.read("io.stat").unwrap_or_default();
    stats.blkio.io_service_bytes_recursive =
        entries(&io, [("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard")]);
    stats.blkio.io_serviced_recursive = entries(&io, [("rios", "Read"), ("wios", "Write"), ("dios", "Discard")]);
    stats.blkio.psi = psi(tree, "io.pressure");
    stats.cpuset.cpus = list(&tree.read("cpuset.cpus.effective").unwrap_or_default());
    stats.cpuset.mems = list(&tree.read("cpuset.mems.effective").unwrap_or_default());
    for size in huge_page_sizes(tree, ".current") {
        let events = tree.read(&format!("hugetlb.{size}.events")).unwrap_or_default();
        let one = HugeTlb {
            usage: value(tree, &format!("hugetlb.{size}.current")),
            max: 0,
            failcnt: flat(&events).find(|(key, _)| *key == "max").map_or(0, |(_, times)| times),
        };
        stats.hugetlb.insert(size, one);
    }
    rdma(tree, stats);
    misc(tree, stats);
}

fn cpu(tree: &Directory, stats: &mut Stats) {
    let cpu = &mut stats.cpu;
    for (key, number) in flat(&tree.read("cpu.stat").unwrap_or_default()) {
        match key {
            "usage_usec" => cpu.usage.total = number * 1000,
            "user_usec" => cpu.usage.user = number * 1000,
            "system_usec" => cpu.usage.kernel = number * 1000,
            "nr_periods" => cpu.throttling.periods = number,
            "nr_throttled" => cpu.throttling.throttled_periods = number,
            "throttled_usec" => cpu.throttling.throttled_time = number * 1000,
            _ => {}
        }
    }
    cpu.psi = psi(tree, "cpu.pressure");
}

fn memory(tree: &Directory) -> Memory {
    let raw = tree.read("memory.stat").unwrap_or_default();
    let events = tree.read("memory.events").unwrap_or_default();
    let event = |name: &str| flat(&events).find(|(key, _)| *key == name).map_or(0, |(_, times)| times);
    let usage = Used {
        limit: value(tree, "memory.max"),
        usage: value(tree, "memory.current"),
        max: value(tree, "memory.peak"),
        failcnt: event("max"),
    };
    // v1 counts memory and swap together, and so do the readers of this key.
    let swap = Used {
        limit: usage.limit.saturating_add(value(tree, "memory.swap.max")),
        usage: usage.usage + value(tree, "memory.swap.current"),
        ..Used::default()
    };
    Memory {
        cache: flat(&raw).find(|(key, _)| *key == "file").map_or(0, |(_, bytes)| bytes),
        usage,
        swap,
        raw: by_key(flat(&raw)),
        events: by_key(flat(&events)),
        psi: psi(tree, "memory.pressure"),
        ..Memory::default()
    }
}

/// Lines of `8:0 rbytes=1 wbytes=2 ...`.
fn entries(text: &str, wanted: [(&str, &str); 3]) -> Vec<IoEntry> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let mut fields = line.split(' ');
        let Some((Ok(major), Ok(minor))) =
            fields.next().and_then(|device| device.split_once(':')).map(|(a, b)| (a.parse(), b.parse()))
        else {
            continue;
        };
        let pairs: Vec<_> = fields.filter_map(|pair| pair.split_once('=')).collect();
        let value = |wanted: &str| Some(number(pairs.iter().find(|(key, _)| *key == wanted)?.1));
        let found = wanted.iter().filter_map(|(key, op)| Some((op, value(key)?)));
        entries.extend(found.map(|(op, value)| IoEntry { major, minor, op: (*op).to_owned(), value }));
    }
    entries
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`.
fn psi(tree: &Directory, file: &str) -> Option<Psi> {
    parse_psi(&tree.read(file).ok()?)
}

fn parse_psi(text: &str) -> Option<Psi> {
    let mut psi = Psi::default();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ')?;
        let mut stall = Stall::default();
        for (key, value) in rest.split(' ').filter_map(|pair| pair.split_once('=')) {
            match key {
                "avg10" => stall.avg10 = value.parse().ok()?,
                "avg60" => stall.avg60 = value.parse().ok()?,
                "avg300" => stall.avg300 = value.parse().ok()?,
                "total" => stall.total = value.parse().ok()?,
                _ => {}
            }
        }
        match kind {
            "some" => psi.some = stall,
            "full" => psi.full = stall,
            _ => {}
        }
    }
    Some(psi)
}

/// `mlx4_0 hca_handle=2 hca_object=3`, the same on v1.
pub fn rdma(tree: &Directory, stats: &mut Stats) {
    for (device, rest) in tree.read("rdma.current").unwrap_or_default().lines().filter_map(|line| line.split_once(' '))
    {
        let pairs = rest.split(' ').filter_map(|pair| pair.split_once('='));
        stats.rdma.insert(device.to_owned(), by_key(pairs.map(|(key, text)| (key, number(text)))));
    }
}

/// `res_a 3`, the same on v1.
pub fn misc(tree: &Directory, stats: &mut Stats) {
    let text = tree.read("misc.current").unwrap_or_default();
    stats.misc = by_key(flat(&text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure() {
        let text = "some avg10=32.79 avg60=62.50 avg300=81.03 total=1286808513\nfull avg10=0.00 avg60=0.00 avg300=0.01 total=7\n";
        let psi = parse_psi(text).unwrap();
        assert_eq!((psi.some.avg10, psi.some.total, psi.full.avg300, psi.full.total), (32.79, 1_286_808_513, 0.01, 7));
        assert_eq!(parse_psi("some avg10=x\n"), None);
    }

    #[test]
    fn io_lines() {
        let text = "254:0 rbytes=90 wbytes=4 rios=2 wios=1 dbytes=0 dios=0\n8:0 \n";
        let read = |keys| entries(text, keys).into_iter().map(|e| (e.op, e.value)).collect::<Vec<_>>();
        let wanted = |list: &[(&str, u64)]| list.iter().map(|(op, n)| ((*op).to_owned(), *n)).collect::<Vec<_>>();
        assert_eq!(
            read([("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard")]),
            wanted(&[("Read", 90), ("Write", 4), ("Discard", 0)])
        );
        assert_eq!(read([("rios", "Read"), ("wios", "Write"), ("x", "y")]), wanted(&[("Read", 2), ("Write", 1)]));
    }
}
