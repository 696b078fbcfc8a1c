//! Cgroups: which version, which controllers, and what an ordinary user was given of them.

use std::path::Path;

use rustix::fs::{Access, access};

use super::{Findings, Status, Whom, read};
use crate::cgroup::systemd::address;
use crate::error::{Strerror, show};
use crate::host::{CgroupMode, HostFacts};
use crate::plan::cgroup::systemd::Session;

/// What limits of config.json need; by their names on v2.
const CONTROLLERS: [&str; 7] = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb", "rdma"];

pub(super) fn look(host: &HostFacts, out: &mut Findings) {
    (out.area, out.whom) = ("cgroups", Whom::All);
    let facts = &host.cgroup;
    let (mode, status) = match facts.mode {
        CgroupMode::V2 => ("v2", Status::Ok),
        CgroupMode::V1 => ("v1 only", Status::Note),
        CgroupMode::Hybrid => ("v1, with v2 beside it", Status::Note),
        CgroupMode::None => ("nothing is mounted at /sys/fs/cgroup", Status::Lacking),
    };
    let cure = match facts.mode {
        CgroupMode::None => "mount -t cgroup2 cgroup2 /sys/fs/cgroup; until then --cgroup-manager disabled",
        _ => "v2 is faster and can be delegated: boot with systemd.unified_cgroup_hierarchy=1",
    };
    out.add("version", status, mode, cure);
    let v2 = facts.v2_mount.as_deref().and_then(|mount| read(mount.join("cgroup.controllers"))).unwrap_or_default();
    let lacks: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|name| {
            let on_v1 = if *name == "io" { "blkio" } else { name };
            let in_v1 = facts.v1.iter().any(|hierarchy| hierarchy.controllers.iter().any(|have| have == on_v1));
            !in_v1 && !v2.split_whitespace().any(|have| have == *name)
        })
        .collect();
    // Few hosts have the last two, and few containers ask for them.
    let serious = lacks.iter().any(|name| !matches!(*name, "hugetlb" | "rdma"));
    match lacks.is_empty() {
        true => out.add("controllers", Status::Ok, CONTROLLERS.join(" "), ""),
        false => {
            let status = if serious { Status::Lacking } else { Status::Note };
            let cure = "a kernel that has them, and no cgroup_disable= on its command line";
            out.add("controllers", status, format!("without {}", lacks.join(" ")), cure);
        }
    }
    if facts.mode == CgroupMode::V2 {
        let own = directory(host);
        // The root cgroup has no such file, and hull may be in it.
        let found = own != Path::new("/sys/fs/cgroup") && !own.join("cgroup.kill").exists();
        let detail = "cgroup.kill is absent: hull freezes and kills one by one";
        if found {
            out.add("kill", Status::Note, detail, "a newer kernel");
        }
    }
    systemd(host, out);
    delegation(host, out);
}

fn directory(host: &HostFacts) -> std::path::PathBuf {
    let (mount, own) = (host.cgroup.v2_mount.as_deref().unwrap_or(Path::new("/sys/fs/cgroup")), &host.cgroup.own_v2);
    mount.join(own.strip_prefix("/").unwrap_or(own))
}

/// Whether a manager's bus answers, by its address where that is a path.
pub fn bus(session: Session) -> Result<String, String> {
    let address = address(session);
    let Some(path) = address.strip_prefix("unix:path=").and_then(|rest| rest.split([',', ';']).next()) else {
        return Ok(format!("by {address}"));
    };
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Ok(format!("answers on {path}")),
        Err(error) => {
            Err(format!("nobody answers on its bus {path}: {}", Strerror(error.raw_os_error().unwrap_or(libc::EINVAL))))
        }
    }
}

fn systemd(host: &HostFacts, out: &mut Findings) {
    let (whom, session) = if host.rootless() { (Whom::Rootless, Session::User) } else { (Whom::Root, Session::System) };
    out.whom = whom;
    let cure = "hull makes cgroups itself; only --systemd-cgroup needs it";
    out.check("systemd", bus(session), Status::Note, cure);
}

/// What an ordinary user can limit.
fn delegation(host: &HostFacts, out: &mut Findings) {
    out.whom = Whom::Rootless;
    let cure =
        "in user@.service: Delegate=cpu cpuset io memory pids; the engine then asks the user's systemd for a scope";
    if host.cgroup.mode != CgroupMode::V2 {
        let detail = "v1 cannot be delegated: containers of ordinary users have no limits";
        return out.add("delegation", Status::Lacking, detail, "cgroup v2, see above");
    }
    if !host.rootless() {
        return;
    }
    let own = directory(host);
    let parent = own.parent().unwrap_or(&own);
    let given = read(parent.join("cgroup.controllers")).unwrap_or_default();
    let found = match access(parent.join("cgroup.procs"), Access::WRITE_OK) {
        Ok(()) if given.is_empty() => Err(format!("{} has no controllers", show(parent))),
        Ok(()) => Ok(format!("{given}, beneath {}", show(parent))),
        Err(_) => Err(format!("{} belongs to someone else: containers have no limits", show(parent))),
    };
    out.check("delegation", found, Status::Lacking, cure);
}
