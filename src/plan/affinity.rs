//! CPU affinity of processes that exec adds: /process/execCPUAffinity, as the masks of sched_setaffinity(2).

use crate::error::{Error, Result};
use crate::spec;

/// The kernel's own bound on the number of CPUs (CONFIG_NR_CPUS).
const MAX_CPUS: usize = 8192;

/// A set of CPUs, a bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuSet(pub Vec<u64>);

impl CpuSet {
    /// Every CPU: the kernel cuts the mask to those that the cgroup's cpuset allows.
    pub fn all() -> CpuSet {
        CpuSet(vec![u64::MAX; MAX_CPUS / 64])
    }
}

/// Where a process that exec adds may run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Affinity {
    /// Before the cgroup is joined; None: unchanged.
    pub initial: Option<CpuSet>,
    /// Afterwards; None: every CPU that the cpuset allows.
    pub last: Option<CpuSet>,
}

impl Affinity {
    /// From /process/execCPUAffinity.
    pub fn new(affinity: Option<&spec::ExecCpuAffinity<'_>>) -> Result<Affinity> {
        let Some(affinity) = affinity else { return Ok(Affinity::default()) };
        let list = |name: &str, text: &Option<spec::Str<'_>>| match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => match cpu_list(text) {
                Some(set) => Ok(Some(set)),
                None => Err(Error::spec(
                    format!("/process/execCPUAffinity/{name}"),
                    format_args!("{text:?} is no list of CPUs such as \"0-3,7\", each below {MAX_CPUS}"),
                )),
            },
        };
        Ok(Affinity { initial: list("initial", &affinity.initial)?, last: list("final", &affinity.last)? })
    }
}

/// `0-3, 7`: numbers and ranges, blanks around them allowed.
fn cpu_list(text: &str) -> Option<CpuSet> {
    let mut mask = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= MAX_CPUS {
            return None;
        }
        if mask.len() <= last / 64 {
            mask.resize(last / 64 + 1, 0);
        }
        (first..=last).for_each(|cpu| mask[cpu / 64] |= 1u64 << (cpu % 64));
    }
    Some(CpuSet(mask))
}

fn number(text: &str) -> Option<usize> {
    let text = text.trim();
    // parse() takes a sign, a list does not.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let bits = |text: &str| cpu_list(text).map(|set| set.0);
        assert_eq!(bits("0-3, 7"), Some(vec![0b1000_1111]));
        assert_eq!(bits("5"), Some(vec![1 << 5]));
        assert_eq!(bits(" 64 - 65 ,0"), Some(vec![1, 0b11]));
        assert_eq!(bits("2047").unwrap().len(), 32);
        for bad in ["", ",", "1,", "a", "3-1", "-1", "+1", "1-", "8192", "1-2-3", "99999999999999999999"] {
            assert_eq!(bits(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn absent_and_empty_are_unset() {
        let parse = |json| Affinity::new(Some(&serde_json::from_str::<spec::ExecCpuAffinity<'_>>(json).unwrap()));
        assert_eq!(parse(r#"{"initial": "", "final": "1"}"#).unwrap().last, Some(CpuSet(vec![2])));
        assert_eq!(parse("{}").unwrap(), Affinity::default());
        let error = parse(r#"{"final": "x"}"#).unwrap_err().to_string();
        assert!(error.starts_with("config.json: /process/execCPUAffinity/final: \"x\" is no list"), "{error}");
    }
}
