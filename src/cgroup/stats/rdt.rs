//! Numbers of Intel RDT: the schemata and the monitors of a resctrl group (Documentation/filesystems/resctrl.rst).

use std::path::Path;

use serde::Serialize;

use super::is_zero;

/// runc's keys; all absent where the container has no group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rdt {
    /// The L3 lines of the root group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema_root: Option<String>,
    /// The L3 lines of the container's group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// The MB lines of the root group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema_root: Option<String>,
    /// The MB lines of the container's group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// Memory bandwidth by L3 domain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mbm_stats: Vec<Bandwidth>,
    /// Occupied cache by L3 domain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmt_stats: Vec<Occupancy>,
}

/// Bytes that went through one domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[allow(missing_docs)]
pub struct Bandwidth {
    #[serde(skip_serializing_if = "is_zero")]
    pub mbm_total_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub mbm_local_bytes: u64,
}

/// Bytes of one domain's cache.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[allow(missing_docs)]
pub struct Occupancy {
    #[serde(skip_serializing_if = "is_zero")]
    pub llc_occupancy: u64,
}

/// Reads a group beneath the mount point of resctrl.
pub fn read(resctrl: &Path, group: &str) -> Rdt {
    let directory = resctrl.join(group.trim_start_matches('/'));
    let Ok(schemata) = std::fs::read_to_string(directory.join("schemata")) else { return Rdt::default() };
    let root = std::fs::read_to_string(resctrl.join("schemata")).unwrap_or_default();
    let mut rdt = Rdt {
        l3_cache_schema_root: lines(&root, "L3"),
        l3_cache_schema: lines(&schemata, "L3"),
        mem_bw_schema_root: lines(&root, "MB"),
        mem_bw_schema: lines(&schemata, "MB"),
        ..Rdt::default()
    };
    let monitored = directory.join("mon_data");
    let mut domains = crate::sys::listing::names(&monitored).unwrap_or_default();
    domains.retain(|(name, _)| name.starts_with("mon_L3_"));
    domains.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (domain, _) in domains {
        let value = |file: &str| std::fs::read_to_string(monitored.join(&domain).join(file)).ok()?.trim().parse().ok();
        if let Some(llc_occupancy) = value("llc_occupancy") {
            rdt.cmt_stats.push(Occupancy { llc_occupancy });
        }
        if let (Some(mbm_total_bytes), Some(mbm_local_bytes)) = (value("mbm_total_bytes"), value("mbm_local_bytes")) {
            rdt.mbm_stats.push(Bandwidth { mbm_total_bytes, mbm_local_bytes });
        }
    }
    rdt
}

/// The lines of one resource, joined as runc joins them.
fn lines(schemata: &str, resource: &str) -> Option<String> {
    let found: Vec<_> = schemata.lines().map(str::trim).filter(|line| line.starts_with(resource)).collect();
    (!found.is_empty()).then(|| found.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_read() {
        let root = std::env::temp_dir().join(format!("hull-rdt-{}", std::process::id()));
        let domain = root.join("web/mon_data/mon_L3_00");
        std::fs::create_dir_all(&domain).unwrap();
        std::fs::write(root.join("schemata"), "    MB:0=100\n    L3:0=fff\n").unwrap();
        std::fs::write(root.join("web/schemata"), "    L3:0=f\n").unwrap();
        for (file, text) in [("llc_occupancy", "7\n"), ("mbm_total_bytes", "8\n"), ("mbm_local_bytes", "5\n")] {
            std::fs::write(domain.join(file), text).unwrap();
        }
        let (rdt, none) = (read(&root, "/web"), read(&root, "db"));
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(none, Rdt::default());
        assert_eq!(rdt.l3_cache_schema.as_deref(), Some("L3:0=f"));
        assert_eq!(rdt.mem_bw_schema_root.as_deref(), Some("MB:0=100"));
        assert_eq!((rdt.mem_bw_schema.as_deref(), rdt.cmt_stats[0].llc_occupancy), (None, 7));
        assert_eq!((rdt.mbm_stats[0].mbm_total_bytes, rdt.mbm_stats[0].mbm_local_bytes), (8, 5));
    }
}
