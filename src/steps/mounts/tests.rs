//! Real mounts, in a mount namespace that ends with its thread. Needs root; without it the test says so and passes.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use rustix::fs::open;

use super::*;
use crate::host::{CgroupFacts, CgroupMode, HostFacts, V1Hierarchy};
use crate::plan::Options;
use crate::plan::devices;
use crate::plan::mounts::plan;
use crate::plan::namespaces::NamespacesSummary;
use crate::plan::rootfs::Rootfs;
use crate::spec::load::{Text, parse};
use crate::steps::masked::{Masks, make_readonly};
use crate::steps::{devices as device_steps, rootfs};

/// A throw-away bundle with `rootfs` and `decoy` in it, in its own mount namespace.
pub(crate) fn in_namespace(name: &str, test: impl FnOnce(&Path) + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP {name}: needs root");
        return;
    }
    let bundle = std::env::temp_dir().join(format!("hull-mounts-{}-{name}", std::process::id()));
    std::fs::create_dir_all(bundle.join("rootfs")).unwrap();
    std::fs::create_dir(bundle.join("decoy")).unwrap();
    let result = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                crate::sys::mount::unshare_mounts().unwrap();
                test(&bundle);
            })
            .join()
    });
    std::fs::remove_dir_all(&bundle).unwrap();
    result.unwrap();
}

struct Container {
    root_fd: OwnedFd,
    rootfs: Rootfs,
}

/// Does what init does up to the pivot.
pub(crate) fn try_up(bundle: &Path, json: &str) -> Result<(OwnedFd, Rootfs)> {
    try_up_with(bundle, json, CgroupFacts::default(), false)
}

fn try_up_with(bundle: &Path, json: &str, cgroup: CgroupFacts, new_cgroup: bool) -> Result<(OwnedFd, Rootfs)> {
    // `unshare -Urmpfni` runs the default bundle in a user namespace, with one group.
    let user = !std::fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295");
    let text = Text(if user { json.replace(",\"gid=5\"", "") } else { json.into() });
    let (spec, _) = parse(&text)?;
    let options = Options { bundle: bundle.to_owned(), ..Options::default() };
    let ns = NamespacesSummary { new_mount: true, new_pid: true, new_cgroup, ..Default::default() };
    let host = HostFacts::of_root(cgroup);
    let mounts = plan(&spec, &host, &options, &ns, &[])?;
    let nodes = devices::plan(&spec, &ns, &mounts, user)?;
    let rootfs = Rootfs::new(&spec, &options, &ns)?;
    rootfs::cut_off(&rootfs)?;
    let root_fd = rootfs::attach(&rootfs, None)?;
    let mut places = Places::new(&root_fd, &rootfs);
    let deferred = mount_all(&mut places, &mounts.mounts, &mut Given::default())?;
    device_steps::make_all(&places, &nodes)?;
    let masks = Masks::prepare(&rootfs)?;
    deferred.finish()?;
    masks.apply(&places, &rootfs)?;
    make_readonly(&places, &rootfs)?;
    Ok((root_fd, rootfs))
}

fn up(bundle: &Path, json: &str) -> Container {
    let (root_fd, rootfs) = try_up(bundle, json).unwrap();
    Container { root_fd, rootfs }
}

/// The mounts at and below a directory: path, mount options, optional fields, file system, its options.
fn mountinfo(below: &Path) -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let below = below.to_str().unwrap();
    text.lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ").unwrap();
            let left: Vec<_> = left.split(' ').collect();
            let path = left[4].strip_prefix(below)?;
            Some((path.to_owned(), format!("{} {}", left[5], left[6..].join(" ")), right.to_owned()))
        })
        .collect()
}

const DEFAULT: &str = r#"{"root":{"path":"rootfs"},"mounts":[
    {"destination":"/proc","type":"proc","source":"proc"},
    {"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","strictatime","mode=755","size=65536k","ro"]},
    {"destination":"/dev/pts","type":"devpts","source":"devpts","options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620","gid=5"]},
    {"destination":"/dev/shm","type":"tmpfs","source":"shm","options":["nosuid","noexec","nodev","mode=1777","size=65536k"]},
    {"destination":"/dev/mqueue","type":"mqueue","source":"mqueue","options":["nosuid","noexec","nodev"]},
    {"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","noexec","nodev","ro"]},
    {"destination":"/tmp","type":"tmpfs","source":"tmpfs"}],
    "linux":{"maskedPaths":["/proc/acpi","/proc/asound","/proc/kcore","/proc/keys","/proc/timer_list","/sys/firmware",
        "/proc/scsi","/proc/missing"],
        "readonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]}}"#;

#[test]
fn the_default_bundle() {
    in_namespace("default", |bundle| {
        let rootfs = bundle.join("rootfs");
        std::fs::create_dir(rootfs.join("tmp")).unwrap();
        std::fs::set_permissions(rootfs.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1770)).unwrap();
        let before = mountinfo(Path::new("/")).len();
        let container = up(bundle, DEFAULT);
        let info = mountinfo(&rootfs);
        assert!(info.len() > 14 && mountinfo(Path::new("/")).len() == before + info.len());
        let at =
            |path: &str| info.iter().rfind(|mount| mount.0 == path).unwrap_or_else(|| panic!("{path} in {info:?}"));
        assert!(at("/dev").1.starts_with("ro,nosuid "), "{:?}", at("/dev"));
        assert!(at("/dev").2.contains("size=65536k,mode=755"), "{:?}", at("/dev"));
        assert!(at("/dev/shm").1.starts_with("rw,nosuid,nodev,noexec,relatime"), "{:?}", at("/dev/shm"));
        assert!(at("/tmp").2.contains("mode=1770"), "{:?}", at("/tmp"));
        assert!(at("/proc/sys").1.starts_with("ro,relatime"), "{:?}", at("/proc/sys"));
        assert!(at("/proc/keys").1.starts_with("ro") && !at("/proc/keys").2.starts_with("proc"), "{info:?}");
        assert!(
            at("/sys/firmware").2.starts_with("tmpfs tmpfs ro") || at("/sys/firmware").2.contains(" ro"),
            "{info:?}"
        );
        // Every mount is cut off from the host's.
        assert!(info.iter().all(|mount| !mount.1.contains("shared:")), "{info:?}");
        assert_eq!(std::fs::read(rootfs.join("proc/keys")).unwrap(), b"");
        assert_eq!(std::fs::read_dir(rootfs.join("sys/firmware")).unwrap().count(), 0);
        assert_eq!(std::fs::read_link(rootfs.join("dev/ptmx")).unwrap(), PathBuf::from("pts/ptmx"));
        let null = rustix::fs::stat(rootfs.join("dev/null")).unwrap();
        assert_eq!((null.st_mode & 0o7777, null.st_rdev), (0o666, rustix::fs::makedev(1, 3)));
        rootfs::enter(container.root_fd.as_fd(), &container.rootfs).unwrap();
        rootfs::set_readonly(container.root_fd.as_fd()).unwrap();
        assert!(std::fs::metadata("/decoy").is_err() && std::fs::metadata("/dev/null").is_ok());
        let error = std::fs::write("/x", "").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        let all = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!all.contains("/rootfs/") && all.lines().count() == info.len(), "{all}");
    });
}

#[test]
fn binds_keep_set_and_clear_flags_and_make_files_or_directories() {
    in_namespace("bind", |bundle| {
        std::fs::write(bundle.join("file"), "hello").unwrap();
        let json = r#"{"root":{"path":"rootfs"},"mounts":[
            {"destination":"/t","type":"tmpfs","options":["nosuid","noexec","nosymfollow","sync"]},
            {"destination":"/i","type":"tmpfs","options":["iversion","silent","nodev","size=8k"]},
            {"destination":"/a/file","type":"bind","source":"file","options":["ro","noatime"]},
            {"destination":"/a/dir","type":"bind","source":"decoy","options":["nodev","rprivate","unbindable"]}]}"#;
        let _container = up(bundle, json);
        let info = mountinfo(&bundle.join("rootfs"));
        let at =
            |path: &str| info.iter().rfind(|mount| mount.0 == path).unwrap_or_else(|| panic!("{path} in {info:?}"));
        assert!(at("/i").1.starts_with("rw,nodev") && at("/i").2.contains("size=8k"), "{info:?}");
        assert_eq!(std::fs::read(bundle.join("rootfs/a/file")).unwrap(), b"hello");
        assert!(at("/a/file").1.starts_with("ro,noatime"), "{info:?}");
        assert!(at("/a/dir").1.contains("nodev") && at("/a/dir").1.contains("unbindable"), "{info:?}");
        assert!(
            at("/t").1.starts_with("rw,nosuid,noexec,relatime,nosymfollow") && at("/t").2.contains("sync"),
            "{info:?}"
        );
    });
}

#[test]
fn errors_name_the_mount_its_data_and_what_the_kernel_says() {
    in_namespace("errors", |bundle| {
        for (mount, parts) in [
            (
                r#"{"destination":"/x","type":"tmpfs","options":["size=banana"]}"#,
                [
                    "mount tmpfs on /x (/mounts/0, data \"size=banana\"): fsconfig: invalid argument (EINVAL)",
                    "the kernel says: tmpfs: Bad value for 'size'",
                ],
            ),
            (
                r#"{"destination":"/x","type":"bind","source":"/missing/y"}"#,
                [
                    "bind mount /missing/y on /x (/mounts/0): open_tree: no such file or directory (ENOENT)",
                    "the source /missing/y does not exist",
                ],
            ),
            (
                r#"{"destination":"/x","type":"nofs"}"#,
                ["fsopen: no such device (ENODEV)", "knows no file system \"nofs\""],
            ),
        ] {
            let json = format!(r#"{{"root":{{"path":"rootfs"}},"mounts":[{mount}]}}"#);
            let error = try_up(bundle, &json).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    });
}

#[test]
fn tmpcopyup_copies_without_following_links() {
    in_namespace("copyup", |bundle| {
        let etc = bundle.join("rootfs/etc");
        std::fs::create_dir_all(etc.join("sub")).unwrap();
        std::fs::write(etc.join("sub/f"), "data").unwrap();
        std::os::unix::fs::chown(etc.join("sub/f"), Some(7), Some(8)).unwrap();
        std::fs::set_permissions(etc.join("sub/f"), std::os::unix::fs::PermissionsExt::from_mode(0o4751)).unwrap();
        symlink(bundle.join("decoy"), etc.join("link")).unwrap();
        let json = r#"{"root":{"path":"rootfs"},"mounts":[{"destination":"/etc","type":"tmpfs","options":["tmpcopyup","ro"]}]}"#;
        let _container = up(bundle, json);
        let stat = rustix::fs::stat(etc.join("sub/f")).unwrap();
        assert_eq!((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid), (0o4751, 7, 8));
        assert_eq!(std::fs::read(etc.join("sub/f")).unwrap(), b"data");
        assert_eq!(std::fs::read_link(etc.join("link")).unwrap(), bundle.join("decoy"));
        assert_eq!(std::fs::write(etc.join("new"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
    });
}

#[test]
fn hostile_links_at_destinations_never_reach_the_host() {
    in_namespace("hostile", |bundle| {
        let (rootfs, decoy) = (bundle.join("rootfs"), bundle.join("decoy"));
        symlink(&decoy, rootfs.join("vol")).unwrap();
        let json = r#"{"root":{"path":"rootfs"},"mounts":[{"destination":"/vol/x","type":"tmpfs"}]}"#;
        let _container = up(bundle, json);
        assert_eq!(std::fs::read_dir(&decoy).unwrap().count(), 0);
        assert!(mountinfo(&decoy).is_empty());
    });
    for (name, link, target, mount, part) in [
        ("proc", "proc", "/decoy", r#"{"destination":"/proc","type":"proc"}"#, "/proc of the root file system"),
        ("sys", "sys", "decoy", r#"{"destination":"/sys/fs","type":"tmpfs"}"#, "/sys of the root file system"),
        ("root", "vol", "/", r#"{"destination":"/vol","type":"tmpfs"}"#, "leads to its root"),
        (
            "procfs",
            "vol",
            "/proc/sys",
            r#"{"destination":"/proc","type":"proc"},{"destination":"/vol","type":"tmpfs"}"#,
            "leads into a procfs",
        ),
        ("early", "vol", "/proc", r#"{"destination":"/vol","type":"tmpfs"}"#, "leads to /proc"),
    ] {
        in_namespace(name, |bundle| {
            std::fs::create_dir(bundle.join("rootfs/decoy")).unwrap();
            if link != "proc" {
                std::fs::create_dir(bundle.join("rootfs/proc")).unwrap();
            }
            symlink(target, bundle.join("rootfs").join(link)).unwrap();
            let error = try_up(bundle, &format!(r#"{{"root":{{"path":"rootfs"}},"mounts":[{mount}]}}"#)).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        });
    }
}

#[test]
fn a_bind_on_proc_must_be_a_procfs() {
    in_namespace("bindproc", |bundle| {
        std::fs::create_dir(bundle.join("rootfs/proc")).unwrap();
        let bind = |source: &str| {
            let json = format!(
                r#"{{"root":{{"path":"rootfs"}},"mounts":[{{"destination":"/proc","type":"bind","source":"{source}"}}]}}"#
            );
            try_up(bundle, &json)
        };
        let error = bind("decoy").unwrap_err().to_string();
        assert!(error.contains("only a procfs can be bound on /proc"), "{error}");
        bind("/proc").unwrap();
    });
}

#[test]
fn shared_propagation_stays_inside_the_container() {
    in_namespace("shared", |bundle| {
        // A host mount that is shared, with the bundle on it.
        let fd = open(bundle, OFlags::PATH, Mode::empty()).unwrap();
        rustix::mount::mount_bind(bundle, bundle).unwrap();
        rustix::mount::mount_change(bundle, rustix::mount::MountPropagationFlags::SHARED).unwrap();
        drop(fd);
        let json = r#"{"root":{"path":"rootfs"},"mounts":[{"destination":"/x","type":"tmpfs"}],
            "linux":{"rootfsPropagation":"rshared"}}"#;
        let container = up(bundle, json);
        // Once in the rootfs's own mount, not a second time below on the host's.
        assert_eq!(mountinfo(&bundle.join("rootfs")).iter().filter(|mount| mount.0 == "/x").count(), 1);
        rootfs::enter(container.root_fd.as_fd(), &container.rootfs).unwrap();
        rootfs::set_propagation(container.root_fd.as_fd(), &container.rootfs).unwrap();
    });
}

#[test]
fn v1_hierarchies_are_shown_read_only_without_a_cgroup_namespace() {
    let pids = Path::new("/sys/fs/cgroup/pids");
    if !pids.join("cgroup.procs").exists() || pids.join("cgroup.controllers").exists() {
        eprintln!("SKIP v1_hierarchies: this host mounts no v1 hierarchy of pids");
        return;
    }
    let facts = || CgroupFacts {
        mode: CgroupMode::V1,
        v1: vec![V1Hierarchy { controllers: vec!["pids".into(), "alias".into()], mount: pids.into(), own: "/".into() }],
        ..Default::default()
    };
    in_namespace("cgroup1", |bundle| {
        let json = r#"{"root":{"path":"rootfs"},"mounts":[{"destination":"/cg","type":"cgroup"}]}"#;
        try_up_with(bundle, json, facts(), false).unwrap();
        let at = bundle.join("rootfs/cg");
        assert_eq!(std::fs::read_link(at.join("alias")).unwrap(), PathBuf::from("pids"));
        assert!(std::fs::metadata(at.join("alias/cgroup.procs")).is_ok());
        for made in [at.join("x"), at.join("pids/hull-must-not-exist")] {
            assert_eq!(std::fs::create_dir(&made).unwrap_err().raw_os_error(), Some(libc::EROFS), "{made:?}");
        }
    });
    in_namespace("cgroup1ns", |bundle| {
        let mut facts = facts();
        facts.v1[0].controllers.pop();
        let json = r#"{"root":{"path":"rootfs"},"mounts":[{"destination":"/cg","type":"cgroup"}]}"#;
        try_up_with(bundle, json, facts, true).unwrap();
        let info = mountinfo(&bundle.join("rootfs/cg"));
        assert!(info.iter().any(|m| m.0 == "/pids" && m.1.starts_with("rw") && m.2.starts_with("cgroup ")), "{info:?}");
    });
}

#[test]
fn masks_hold_when_they_are_put_on_after_the_pivot() {
    in_namespace("pivotmask", |bundle| {
        let root = bundle.join("rootfs");
        for name in ["f1", "f2"] {
            std::fs::write(root.join(name), "secret").unwrap();
            std::fs::create_dir(root.join(format!("d{name}"))).unwrap();
            std::fs::write(root.join(format!("d{name}/x")), "secret").unwrap();
        }
        let (root_fd, mut plan) = try_up(bundle, r#"{"root":{"path":"rootfs"}}"#).unwrap();
        plan.masked_paths = ["/f1", "/f2", "/df1", "/df2", "/missing"].map(RootfsPath::new).to_vec();
        plan.readonly_paths = vec![RootfsPath::new("/dev")];
        let masks = Masks::prepare(&plan).unwrap();
        rootfs::enter(root_fd.as_fd(), &plan).unwrap();
        let places = Places::new(&root_fd, &plan);
        masks.apply(&places, &plan).unwrap();
        make_readonly(&places, &plan).unwrap();
        for name in ["f1", "f2"] {
            assert_eq!(std::fs::read(format!("/{name}")).unwrap(), b"");
            assert_eq!(std::fs::read_dir(format!("/d{name}")).unwrap().count(), 0);
        }
        assert_eq!(std::fs::write("/dev/new", "").unwrap_err().raw_os_error(), Some(libc::EROFS));
        std::fs::write("/new", "").unwrap();
    });
}
