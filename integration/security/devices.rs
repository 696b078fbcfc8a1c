//! Device rules against devices that lie in an image or a volume: what init itself might open there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::CWD;
use serde_json::json;

use super::{Swapper, attack, escaped, refused_for_the_swap_alone, rounds};
use crate::cgroups::v2_only;
use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("security/device_rules_hold_before_the_image_is_touched", rules_hold_early).requires(Need::Root),
        test("security/tmpcopyup_of_files_that_are_swapped", swapped_files).requires(Need::Root),
    ]
}

/// As soon as the container's root is mounted, a process in its cgroup may not open a device of the host any more. Many
/// writes of a limit of v2 keep setup from whatever it does after them.
fn rules_hold_early(case: &mut Case) -> Result<()> {
    let path = format!("/{}", case.id);
    case.set("/linux/cgroupsPath", json!(path));
    let hierarchy = if v2_only() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/devices" };
    if v2_only() {
        case.set("/linux/resources/unified", json!({"cgroup.max.descendants": "9\n".repeat(50_000)}));
    }
    let procs = PathBuf::from(format!("{hierarchy}{path}/cgroup.procs"));
    case.write_config()?;
    let bundle = case.bundle().to_string_lossy().into_owned();
    for _ in 0..rounds().min(6) {
        let create = case.spawn(["create", "--bundle", &bundle, &case.id])?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while !root_is_mounted(case, &procs) {
            ensure!(Instant::now() < deadline, "the root was not mounted");
        }
        // It leaves the container's cgroup by its end.
        let open = format!("echo $$ >{} || exit 9; : </dev/kmsg", procs.display());
        let output = Command::new("sh").args(["-c", &open]).output().context("sh")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        create.wait(Duration::from_secs(60))?.ok()?;
        case.delete()?;
        ensure!(output.status.code() != Some(9), "it could not join {}: {said}", procs.display());
        if !said.contains("not permitted") {
            return escaped(format!("a device of the host was opened while the root was mounted: {said:?}"));
        }
    }
    Ok(())
}

/// Whether a process of the container's cgroup has its rootfs as a mount, or has entered it.
fn root_is_mounted(case: &Case, procs: &Path) -> bool {
    let rootfs = case.rootfs();
    let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let entered = |pid: i32| identity(Path::new(&format!("/proc/{pid}/root/"))) == identity(&rootfs);
    let mounted =
        |pid: i32| kernel::mounts(pid).is_ok_and(|all| all.iter().any(|one| Path::new(&one.target) == rootfs));
    let text = fs::read_to_string(procs).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).any(|pid| entered(pid) || mounted(pid))
}

/// A second container puts nodes where files were while they are copied. This device is one that every container may open,
/// and it is empty: a file without content is one that was read from it.
fn swapped_files(case: &mut Case) -> Result<()> {
    const CONTENT: &str = "of a file\n";
    let (from, aside) = (case.rootfs().join("var/data"), case.dir.join("aside"));
    fs::create_dir_all(&from)?;
    fs::create_dir(&aside)?;
    let names = ["a", "b", "c"];
    for name in names {
        fs::write(from.join(name), CONTENT)?;
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let null = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(CWD, aside.join(name), rustix::fs::FileType::CharacterDevice, mode, null)?;
    }
    let options = ["tmpcopyup", "size=1m"];
    case.mount(json!({"destination": "/var/data", "type": "tmpfs", "source": "tmpfs", "options": options}));
    let mut made = 0;
    for _ in 0..rounds() {
        let swappers = names.map(|name| Swapper::start(from.join(name), aside.join(name)));
        made += u32::from(attack(case, &[], |pid, _| {
            drop(swappers);
            let Some(pid) = pid else { return Ok(()) };
            for name in names {
                let copy = PathBuf::from(format!("/proc/{pid}/root/var/data/{name}"));
                if fs::symlink_metadata(&copy)?.is_file() && fs::read(&copy)? != CONTENT.as_bytes() {
                    return escaped(format!("{name} was read from a device"));
                }
            }
            Ok(())
        })?);
    }
    refused_for_the_swap_alone(case, made)
}
