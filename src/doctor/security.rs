//! Linux security modules and what else confines containers.

use std::path::Path;

use crate::plan::landlock::ABI;
use crate::spec::LANDLOCK;

use super::{Findings, Status, Whom, read};

pub(super) fn look(out: &mut Findings) {
    (out.area, out.whom) = ("security", Whom::All);
    let modules = read("/sys/kernel/security/lsm");
    match &modules {
        Some(list) => out.add("modules", Status::Note, list.clone(), ""),
        None => out.add("modules", Status::Note, "unknown: securityfs is not mounted or not readable", ""),
    }
    let apparmor = read("/sys/module/apparmor/parameters/enabled").is_some_and(|text| text.starts_with('Y'));
    let found = if apparmor { "is on" } else { "is off: a config with apparmorProfile is refused" };
    out.add(
        "AppArmor",
        if apparmor { Status::Ok } else { Status::Note },
        found,
        "boot with lsm=...,apparmor, if profiles are wanted",
    );
    let selinux = read("/sys/fs/selinux/enforce");
    let (status, found) = match selinux.as_deref() {
        Some("1") => (Status::Ok, "is on, enforcing"),
        Some(_) => (Status::Ok, "is on, permissive"),
        None => (Status::Note, "is off: a config with selinuxLabel is refused"),
    };
    out.add("SELinux", status, found, "boot with lsm=...,selinux and a policy, if labels are wanted");
    let (status, found) = match crate::sys::landlock::abi() {
        Ok(abi) if abi >= ABI => (Status::Ok, format!("is on, version {abi} (annotations {LANDLOCK}*)")),
        Ok(abi) => (Status::Note, format!("is too old, version {abi}: annotations {LANDLOCK}* are refused")),
        Err(_) => (Status::Note, format!("is off: a config with annotations {LANDLOCK}* is refused")),
    };
    out.add("Landlock", status, found, "Linux 6.2 or newer, booted with lsm=landlock,...");
    // With it a program finds the offsets of the kernel's memory that exploits need.
    if read("/proc/sys/kernel/kptr_restrict").as_deref() == Some("0") {
        out.add(
            "kptr_restrict",
            Status::Note,
            "is 0: kernel addresses show in containers",
            "sysctl kernel.kptr_restrict=1",
        );
    }
    if read("/proc/sys/kernel/unprivileged_bpf_disabled").as_deref() == Some("0") {
        let detail = "is 0: containers without a filter may load BPF programs";
        out.add("unprivileged_bpf_disabled", Status::Note, detail, "sysctl kernel.unprivileged_bpf_disabled=1");
    }
    let resctrl = Path::new("/sys/fs/resctrl/schemata").exists();
    if resctrl {
        out.add("resctrl", Status::Ok, "cache and memory bandwidth can be divided (linux.intelRdt)", "");
    }
}
