//! Limits that replace others: in an order that the kernel accepts, and all of them or none.
//!
//! Some pairs of values bind each other at every moment: memory <= memory+swap, burst <= quota, quota/period within the
//! parent's. Which of the two goes first depends on what is there; so one that is refused with EINVAL is tried again
//! after the others, as long as that helps.

use rustix::io::Errno;

use super::{Directory, Handle, systemd};
use crate::error::{Error, Result};
use crate::plan::cgroup::{Cgroup, Write};

impl Handle {
    /// Replaces the limits that the plan names; when one is refused, those before it get their old values back.
    pub fn update(&self, plan: &Cgroup) -> Result<()> {
        let mut undo = Vec::new();
        let result = self.write_in_any_order(plan, &plan.writes, Some(&mut undo)).and_then(|()| match &self.unit {
            None => Ok(()),
            // What the kernel takes systemd must know, or it would bring the old values back; and as it writes rounded
            // ones when it is told, the exact ones are written again.
            Some(unit) => systemd::set(unit, &self.with_the_other_half(plan))
                .and_then(|()| self.write_in_any_order(plan, &plan.writes, None)),
        });
        let Err(error) = result else { return Ok(()) };
        undo.reverse();
        match self.write_in_any_order(plan, &undo, None) {
            Ok(()) => Err(error),
            Err(second) => Err(match &error.hint {
                Some(hint) => {
                    let hint = format!("{hint}; {second}: not restored");
                    error.hint(hint)
                }
                None => error.hint(format!("{second}: not restored")),
            }),
        }
    }

    /// v1's quota and period, which are one value for systemd: the one that stays is read.
    fn with_the_other_half(&self, plan: &Cgroup) -> Vec<Write> {
        let mut writes = plan.writes.clone();
        for (there, missing) in [("cpu.cfs_quota_us", "cpu.cfs_period_us"), ("cpu.cfs_period_us", "cpu.cfs_quota_us")] {
            let has = |file: &str| plan.writes.iter().find(|write| write.file == file);
            if let (Some(write), None) = (has(there), has(missing))
                && let Some(value) = self.directory(write, plan).and_then(|directory| directory.read(missing).ok())
            {
                writes.push(Write { file: missing.to_owned(), value, ..write.clone() });
            }
        }
        writes
    }

    fn write_in_any_order(&self, plan: &Cgroup, writes: &[Write], mut undo: Option<&mut Vec<Write>>) -> Result<()> {
        let mut todo: Vec<&Write> = writes.iter().collect();
        while !todo.is_empty() {
            let before = todo.len();
            let mut refused: Option<Error> = None;
            let mut later = Vec::new();
            for write in todo {
                let old = self.directory(write, plan).and_then(|directory| previous(directory, write));
                match self.limit(write, plan) {
                    Ok(()) => undo.iter_mut().for_each(|undo| undo.extend(old.clone())),
                    Err(error) if error.is(Errno::INVAL) => {
                        refused.get_or_insert(error);
                        later.push(write);
                    }
                    Err(error) => return Err(error),
                }
            }
            if let (Some(error), true) = (refused, later.len() == before) {
                return Err(error);
            }
            todo = later;
        }
        Ok(())
    }
}

/// What brings the present value back.
fn previous(directory: &Directory, write: &Write) -> Option<Write> {
    let text = directory.read(&write.file).ok()?;
    Some(Write { value: old_value(&text, &write.file, &write.value), not_below: None, ..write.clone() })
}

/// A file with a line for each device takes one line at a time; a device without a line has no limit.
fn old_value(text: &str, file: &str, new: &str) -> String {
    let text = text.trim();
    let Some((device, rest)) = new.split_once(' ').filter(|(device, _)| device.contains(':') || file == "rdma.max")
    else {
        // `default 100` and devices below: the default is what a plain number sets.
        return text.lines().next().unwrap_or_default().trim_start_matches("default ").to_owned();
    };
    if let Some(line) = text.lines().find(|line| line.split(' ').next() == Some(device)) {
        return line.to_owned();
    }
    if rest.contains('=') {
        let none: Vec<_> =
            rest.split(' ').filter_map(|pair| pair.split_once('=')).map(|(k, _)| format!("{k}=max")).collect();
        return format!("{device} {}", none.join(" "));
    }
    let none = if file.contains("weight") { "default" } else { "0" };
    format!("{device} {none}")
}

#[cfg(test)]
mod tests {
    use super::old_value;

    #[test]
    fn what_brings_a_value_back() {
        assert_eq!(old_value("max 100000\n", "cpu.max", "5000"), "max 100000");
        assert_eq!(old_value("9223372036854771712\n", "memory.limit_in_bytes", "5"), "9223372036854771712");
        assert_eq!(old_value("default 100\n8:0 200\n", "io.bfq.weight", "50"), "100");
        assert_eq!(old_value("default 100\n8:0 200\n", "io.bfq.weight", "8:0 50"), "8:0 200");
        assert_eq!(old_value("default 100\n", "io.bfq.weight", "8:0 50"), "8:0 default");
        assert_eq!(old_value("8:16 rbps=5 wbps=max\n", "io.max", "8:0 rbps=1"), "8:0 rbps=max");
        assert_eq!(old_value("8:0 rbps=5 wbps=max\n", "io.max", "8:0 rbps=1"), "8:0 rbps=5 wbps=max");
        assert_eq!(old_value("", "blkio.throttle.read_bps_device", "8:0 77"), "8:0 0");
        assert_eq!(
            old_value("mlx hca_handle=1 hca_object=max\n", "rdma.max", "mlx hca_handle=2"),
            "mlx hca_handle=1 hca_object=max"
        );
    }
}
