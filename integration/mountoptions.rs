//! Options of mounts, set and cleared, of one mount and of all below it: as /proc/PID/mountinfo shows them.
//! config.md "mounts"; mount(8), mount_setattr(2).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use serde_json::{Value, json};

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("mountoptions/each_flag_is_set_and_cleared", each_flag_is_set_and_cleared)
            .peer("*", "drops some of them")
            .requires(Need::Root),
        test("mountoptions/each_flag_is_set_and_cleared_recursively", each_flag_recursively)
            .peer("*", "drops some of them")
            .requires(Need::Root),
        test("mountoptions/a_plain_flag_leaves_the_mounts_below", a_plain_flag_leaves_the_mounts_below)
            .requires(Need::Root),
        test("mountoptions/the_last_word_counts", the_last_word_counts)
            .requires(Need::Root)
            .peer("runc", "1.1 clears the access time policy altogether"),
        test("mountoptions/flags_of_a_new_file_system", flags_of_a_new_file_system).peer("*", "drops some of them"),
        test("mountoptions/a_remount_changes_flags", a_remount_changes_flags),
        test("mountoptions/a_remount_is_read_only_last", a_remount_is_read_only_last).requires(Need::Root),
        test("mountoptions/one_word_carries_several", one_word_carries_several),
        test("mountoptions/options_beyond_a_page_are_refused", options_beyond_a_page_are_refused)
            .peer("*", "hands them to mount(2), which cuts them off"),
        test("mountoptions/nosymfollow_stops_links", nosymfollow_stops_links).peer("*", "newer than the peer"),
        test("mountoptions/a_locked_flag_stays", a_locked_flag_stays)
            .requires(Need::Root)
            .peer("*", "does not keep it"),
        test("mountoptions/a_volume_sees_what_the_host_mounts", a_volume_sees_what_the_host_mounts)
            .requires(Need::Root),
        test("mountoptions/several_words_in_one_element", several_words_in_one_element).requires(Need::Hull),
        test("mountoptions/acl_is_taken_by_a_tmpfs", acl_is_taken_by_a_tmpfs),
        test("mountoptions/words_of_engines_on_a_bind", words_of_engines_on_a_bind)
            .peer("runc", "1.2 and later refuse every word that is left over on a bind"),
        test("mountoptions/an_unknown_word_of_a_bind_is_refused", an_unknown_word_is_refused)
            .peer("*", "hands it to the kernel, which ignores it"),
        test("mountoptions/tmpcopyup_takes_the_images_files", tmpcopyup_takes_the_images_files).requires(Need::Root),
        test("mountoptions/propagation_is_recursive", propagation_is_recursive)
            .requires(Need::Root)
            .peer("crun", "drops shared"),
        test("mountoptions/an_overlay_in_the_bundle", an_overlay_in_the_bundle).requires(Need::Root),
    ]
}

/// A file system that the case mounted on the host, with one below it; unmounted when dropped.
struct Source(PathBuf);

impl Source {
    fn new(case: &Case, flags: MountFlags) -> Result<Source> {
        let dir = case.dir.join("host-source");
        fs::create_dir_all(&dir)?;
        let source = Source(dir.clone());
        let mount = |at: &Path| rustix::mount::mount("hullit", at, "tmpfs", MountFlags::empty(), c"size=64k,mode=755");
        mount(&dir)?;
        // Its own, so that no peer group of the machine sees it.
        rustix::mount::mount_change(&dir, MountPropagationFlags::PRIVATE)?;
        fs::create_dir(dir.join("sub"))?;
        mount(&dir.join("sub"))?;
        for at in [dir.join("sub"), dir] {
            if !flags.is_empty() {
                rustix::mount::mount_remount(&at, flags | MountFlags::BIND, c"")?;
            }
        }
        Ok(source)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path of the harness is ASCII")
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.join("sub"), UnmountFlags::DETACH);
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// The word that sets, the one that clears, and what mountinfo shows while it is set.
const FLAGS: [(&str, &str, &str); 6] = [
    ("ro", "rw", "ro"),
    ("nosuid", "suid", "nosuid"),
    ("nodev", "dev", "nodev"),
    ("noexec", "exec", "noexec"),
    ("nodiratime", "diratime", "nodiratime"),
    ("nosymfollow", "symfollow", "nosymfollow"),
];

/// The access time policies, and what mountinfo shows of them: nothing for strictatime.
const ATIME: [(&str, &str); 9] = [
    ("noatime", "noatime"),
    ("strictatime", ""),
    ("relatime", "relatime"),
    ("atime", "relatime"),
    ("norelatime", "relatime"),
    ("nostrictatime", "relatime"),
    ("ratime", "relatime"),
    ("rnoatime", "noatime"),
    ("rstrictatime", ""),
];

fn every() -> MountFlags {
    MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::NODIRATIME
        | MountFlags::NOSYMFOLLOW
}

/// Binds the source once for each list of options, and gives the mounts at /mnt/N and /mnt/N/sub.
fn bound(case: &mut Case, source: &Source, kind: &str, lists: &[Vec<String>]) -> Result<Vec<[kernel::Mount; 2]>> {
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}));
    for (number, options) in lists.iter().enumerate() {
        let mut options: Vec<Value> = options.iter().map(|option| json!(option)).collect();
        options.insert(0, json!(kind));
        case.mount(json!({"destination": format!("/mnt/{number}"), "source": source.path(), "options": options}));
    }
    let init = case.args(["sleep", "60"]).up()?;
    let mounts = (0..lists.len()).map(|number| {
        let at = |sub: &str| kernel::mount_at(init.pid, &format!("/mnt/{number}{sub}"));
        Ok([at("")?, at(if kind == "rbind" { "/sub" } else { "" })?])
    });
    let mounts = mounts.collect::<Result<_>>();
    case.delete()?;
    mounts
}

fn words(lists: &[&[&str]]) -> Vec<Vec<String>> {
    lists.iter().map(|list| list.iter().map(|word| (*word).to_owned()).collect()).collect()
}

fn each_flag_is_set_and_cleared(case: &mut Case) -> Result<()> {
    let plain = case.config.clone();
    let source = Source::new(case, MountFlags::empty())?;
    let set: Vec<Vec<String>> = FLAGS.iter().map(|row| vec![row.0.to_owned()]).collect();
    for ([mount, _], (word, _, shown)) in bound(case, &source, "bind", &set)?.iter().zip(FLAGS) {
        ensure!(mount.has(shown), "{word} gives {:?}", mount.options);
    }
    drop(source);
    case.config = plain.clone();
    let source = Source::new(case, every())?;
    let cleared: Vec<Vec<String>> = FLAGS.iter().map(|row| vec![row.1.to_owned()]).collect();
    for ([mount, _], (_, word, shown)) in bound(case, &source, "bind", &cleared)?.iter().zip(FLAGS) {
        ensure!(!mount.has(shown), "{word} leaves {:?}", mount.options);
        let others = FLAGS.iter().filter(|row| row.2 != shown).all(|row| mount.has(row.2));
        ensure!(others, "{word} clears others too: {:?}", mount.options);
    }
    drop(source);
    case.config = plain;
    let source = Source::new(case, MountFlags::NOATIME)?;
    let policies: Vec<Vec<String>> = ATIME.iter().map(|row| vec![row.0.to_owned()]).collect();
    for ([mount, _], (word, shown)) in bound(case, &source, "bind", &policies)?.iter().zip(ATIME) {
        let found: Vec<_> = mount.options.iter().filter(|option| option.ends_with("atime")).collect();
        ensure!(found == if shown.is_empty() { vec![] } else { vec![shown] }, "{word} gives {:?}", mount.options);
    }
    Ok(())
}

fn each_flag_recursively(case: &mut Case) -> Result<()> {
    let plain = case.config.clone();
    let source = Source::new(case, MountFlags::empty())?;
    let set: Vec<Vec<String>> = FLAGS.iter().map(|row| vec![format!("r{}", row.0)]).collect();
    for (mounts, (word, _, shown)) in bound(case, &source, "rbind", &set)?.iter().zip(FLAGS) {
        for mount in mounts {
            ensure!(mount.has(shown), "r{word} gives {} {:?}", mount.target, mount.options);
        }
    }
    drop(source);
    case.config = plain.clone();
    let source = Source::new(case, every())?;
    let cleared: Vec<Vec<String>> = FLAGS.iter().map(|row| vec![format!("r{}", row.1)]).collect();
    for (mounts, (_, word, shown)) in bound(case, &source, "rbind", &cleared)?.iter().zip(FLAGS) {
        for mount in mounts {
            ensure!(!mount.has(shown), "r{word} leaves {} {:?}", mount.target, mount.options);
        }
    }
    drop(source);
    case.config = plain;
    let source = Source::new(case, MountFlags::empty())?;
    let policies =
        words(&[&["rnoatime"], &["rstrictatime"], &["rnoatime", "rrelatime"], &["rnoatime", "rnostrictatime"]]);
    let found = bound(case, &source, "rbind", &policies)?;
    for (mounts, shown) in found.iter().zip(["noatime", "", "relatime", "relatime"]) {
        for mount in mounts {
            let atime = mount.options.iter().find(|option| option.ends_with("atime"));
            ensure!(atime.map_or("", String::as_str) == shown, "not {shown}: {} {:?}", mount.target, mount.options);
        }
    }
    Ok(())
}

fn a_plain_flag_leaves_the_mounts_below(case: &mut Case) -> Result<()> {
    let source = Source::new(case, MountFlags::empty())?;
    let found = bound(case, &source, "rbind", &words(&[&["ro", "nodev", "rnosuid"]]))?;
    let [top, below] = &found[0];
    ensure!(top.has("ro") && top.has("nodev") && top.has("nosuid"), "{:?}", top.options);
    ensure!(!below.has("ro") && !below.has("nodev") && below.has("nosuid"), "{:?}", below.options);
    Ok(())
}

fn the_last_word_counts(case: &mut Case) -> Result<()> {
    let source = Source::new(case, MountFlags::empty())?;
    let lists =
        words(&[&["ro", "rw"], &["rw", "ro"], &["noexec", "defaults"], &["noatime", "strictatime", "relatime"]]);
    let found = bound(case, &source, "bind", &lists)?;
    let top = |number: usize| &found[number][0];
    ensure!(!top(0).has("ro") && top(1).has("ro"), "{:?} {:?}", top(0).options, top(1).options);
    ensure!(top(3).has("relatime") && !top(3).has("noatime"), "{:?}", top(3).options);
    Ok(())
}

fn flags_of_a_new_file_system(case: &mut Case) -> Result<()> {
    let lists: [(&str, &[&str], &[&str]); 8] = [
        ("lazy", &["lazytime"], &["lazytime"]),
        ("nolazy", &["lazytime", "nolazytime"], &[]),
        ("sync", &["sync"], &["sync"]),
        ("async", &["sync", "async"], &[]),
        ("dirsync", &["dirsync", "silent"], &["dirsync"]),
        ("silent", &["silent", "iversion", "lazytime", "rprivate"], &["lazytime"]),
        ("loud", &["silent", "loud", "iversion", "noiversion"], &[]),
        ("mand", &["mand", "nomand"], &[]),
    ];
    for (name, options, _) in lists {
        let destination = format!("/dev/shm/{name}");
        let mut options = options.to_vec();
        options.extend(["nosuid", "nodev", "size=64k"]);
        case.mount(json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}));
    }
    let init = case.args(["sleep", "60"]).up()?;
    for (name, options, shown) in lists {
        let mount = kernel::mount_at(init.pid, &format!("/dev/shm/{name}"))?;
        for word in ["lazytime", "sync", "dirsync", "mand"] {
            let is = mount.super_options.iter().any(|have| have == word);
            ensure!(is == shown.contains(&word), "{options:?} gives {:?}", mount.super_options);
        }
        ensure!(mount.has("nosuid") && mount.has("nodev"), "{options:?} gives {:?}", mount.options);
    }
    case.delete()
}

fn a_remount_changes_flags(case: &mut Case) -> Result<()> {
    let tmpfs =
        |options: &[&str]| json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options});
    case.mount(tmpfs(&["nosuid", "size=64k"]));
    case.mount(tmpfs(&["remount", "ro", "noexec", "lazytime", "size=128k"]));
    let init = case.args(["sleep", "60"]).up()?;
    let mount = kernel::mount_at(init.pid, "/mnt")?;
    ensure!(mount.has("ro") && mount.has("noexec"), "{:?}", mount.options);
    for word in ["size=128k", "lazytime"] {
        ensure!(mount.super_options.iter().any(|option| option == word), "no {word}: {:?}", mount.super_options);
    }
    case.delete()
}

/// Nodes, links and mount points are made in it all the same.
fn a_remount_is_read_only_last(case: &mut Case) -> Result<()> {
    let tmpfs =
        |at: &str, options: &[&str]| json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": options});
    case.mount(tmpfs("/dev", &["remount", "ro", "nosuid"])).mount(tmpfs("/mnt", &["size=64k"]));
    case.mount(tmpfs("/mnt", &["remount", "ro"])).mount(tmpfs("/mnt/below", &["size=32k"]));
    case.script("for d in /dev /mnt /mnt/below; do touch $d/x 2>/dev/null; echo $?; done; head -c 2 /dev/zero | wc -c");
    case.prints("1\n1\n0\n2\n")
}

/// mount(2) takes the data of a file system in one string, and so do profiles that were written for it.
fn one_word_carries_several(case: &mut Case) -> Result<()> {
    let options = json!(["nosuid", "size=64k,mode=0711"]);
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options}));
    let init = case.args(["sleep", "60"]).up()?;
    let mount = kernel::mount_at(init.pid, "/mnt")?;
    for word in ["size=64k", "mode=711"] {
        ensure!(mount.super_options.iter().any(|option| option == word), "no {word}: {:?}", mount.super_options);
    }
    case.delete()
}

/// mount(2) takes a page of options, and says nothing of what it leaves: here a size, and the file system has none.
fn options_beyond_a_page_are_refused(case: &mut Case) -> Result<()> {
    let good = case.config.clone();
    let padded = |zeros: usize| format!("mode={}755", "0".repeat(zeros));
    let script = "while read -r d p t o; do [ $p != /mnt ] || echo $o; done </proc/mounts";
    let tmpfs =
        |zeros| json!({"destination": "/mnt", "type": "tmpfs", "source": "x", "options": [padded(zeros), "size=64k"]});
    case.mount(tmpfs(300)).script(script);
    let output = case.run()?.ok()?;
    ensure!(output.stdout.contains("size=64k"), "mounted with {:?}", output.stdout);
    case.config = good;
    case.mount(tmpfs(4096)).script(script);
    case.run()?.refused()?.stderr_has("takes at most 4095").map(drop)
}

fn nosymfollow_stops_links(case: &mut Case) -> Result<()> {
    let options = json!(["nosymfollow", "size=64k"]);
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options}));
    case.script("echo a >/mnt/file; ln -s file /mnt/link; cat /mnt/link 2>&1 | grep -c symbolic").prints("1\n")
}

fn a_locked_flag_stays(case: &mut Case) -> Result<()> {
    let source = Source::new(case, MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY)?;
    case.user_namespace()?;
    case.mount(json!({"destination": "/mnt", "type": "none", "source": source.path(),
                      "options": ["rbind", "rw", "suid", "dev", "noexec"]}));
    let init = case.args(["sleep", "60"]).up()?;
    let mount = kernel::mount_at(init.pid, "/mnt")?;
    let all = ["nosuid", "nodev", "ro", "noexec"].iter().all(|flag| mount.has(flag));
    ensure!(all, "{:?}", mount.options);
    case.delete()
}

fn several_words_in_one_element(case: &mut Case) -> Result<()> {
    let dir = case.dir.clone();
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": dir, "options": ["bind", "ro,nosuid"]}));
    case.args(["true"]).run()?.refused()?.stderr_has("each is an element of its own").map(drop)
}

fn acl_is_taken_by_a_tmpfs(case: &mut Case) -> Result<()> {
    case.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "x", "options": ["acl", "size=64k"]}));
    case.script("while read -r d p t o; do [ $p != /mnt ] || echo $t; done </proc/mounts").prints("tmpfs\n").map(drop)
}

fn an_unknown_word_is_refused(case: &mut Case) -> Result<()> {
    case.mount(json!({"destination": "/mnt", "type": "bind", "source": "/tmp", "options": ["bind", "nosiud"]}));
    let last = case.config["mounts"].as_array().map_or(0, Vec::len) - 1;
    case.run()?.refused()?.stderr_has(&format!("/mounts/{last}/options/1"))?.stderr_has("nosuid").map(drop)
}

fn tmpcopyup_takes_the_images_files(case: &mut Case) -> Result<()> {
    let from = case.rootfs().join("var/data");
    fs::create_dir_all(from.join("deep"))?;
    fs::write(from.join("deep/file"), "content\n")?;
    fs::set_permissions(from.join("deep/file"), fs::Permissions::from_mode(0o4755))?;
    chown(from.join("deep/file"), Some(7), Some(8))?;
    fs::set_permissions(from.join("deep/file"), fs::Permissions::from_mode(0o4755))?;
    symlink("deep/file", from.join("link"))?;
    let options = json!(["tmpcopyup", "size=1m", "nosuid"]);
    case.mount(json!({"destination": "/var/data", "type": "tmpfs", "source": "tmpfs", "options": options}));
    case.script(
        "stat -c '%a %u:%g' /var/data/deep/file; cat /var/data/link; readlink /var/data/link; \
         echo new >/var/data/new; stat -f -c %T /var/data",
    );
    case.prints("4755 7:8\ncontent\ndeep/file\ntmpfs\n")?;
    ensure!(!from.join("new").exists(), "the image was written");
    ensure!(fs::metadata(from.join("deep/file"))?.uid() == 7, "the image was changed");
    Ok(())
}

/// The volume's own word counts, whatever the root's propagation; without one it is the root's.
fn a_volume_sees_what_the_host_mounts(case: &mut Case) -> Result<()> {
    let source = case.dir.join("volume");
    fs::create_dir(&source)?;
    rustix::mount::mount("volume", &source, "tmpfs", MountFlags::empty(), None)?;
    rustix::mount::mount_change(&source, rustix::mount::MountPropagationFlags::SHARED)?;
    fs::create_dir(source.join("late"))?;
    let good = case.config.clone();
    let seen = (|| -> Result<()> {
        for (root, word, wanted) in [
            (None, None, true),
            (None, Some("rslave"), true),
            (None, Some("rprivate"), false),
            (Some("private"), Some("rslave"), true),
            (Some("rprivate"), Some("rprivate"), false),
            (Some("rprivate"), None, false),
            (Some("slave"), Some("rslave"), true),
            (Some("rslave"), Some("rslave"), true),
            (Some("rslave"), Some("rprivate"), false),
        ] {
            case.config = good.clone();
            if let Some(root) = root {
                case.set("/linux/rootfsPropagation", json!(root));
            }
            let options: Vec<&str> = std::iter::once("rbind").chain(word).collect();
            case.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": options}));
            let init = case.args(["sleep", "60"]).up()?;
            rustix::mount::mount("late", source.join("late"), "tmpfs", MountFlags::empty(), None)?;
            let found = kernel::mount_at(init.pid, "/mnt/late").is_ok();
            rustix::mount::unmount(source.join("late"), rustix::mount::UnmountFlags::DETACH)?;
            case.delete()?;
            ensure!(found == wanted, "root {root:?}, volume {word:?}: it is {found} that the mount is seen");
        }
        Ok(())
    })();
    rustix::mount::unmount(&source, rustix::mount::UnmountFlags::DETACH)?;
    seen
}

/// podman and buildah leave the words of their own volumes in the list of a bind.
fn words_of_engines_on_a_bind(case: &mut Case) -> Result<()> {
    let dir = case.dir.join("volume");
    fs::create_dir(&dir)?;
    fs::write(dir.join("file"), "here\n")?;
    let good = case.config.clone();
    let log = case.dir.join("log");
    for words in [&["z"][..], &["Z", "U"], &["nocopy"], &["copy", "rprivate"], &["mode=0755", "uid=0"]] {
        let options: Vec<&str> = ["rbind", "rw"].iter().chain(words).copied().collect();
        case.mount(json!({"destination": "/mnt", "type": "bind", "source": dir, "options": options}));
        let output = case.script("cat /mnt/file").run()?.ok()?;
        ensure!(output.stdout == "here\n", "{words:?}: {:?}", output.stdout);
        let said = words.iter().any(|word| word.contains('='));
        ensure!(case.peer.is_some() || output.stderr.is_empty() != said, "{words:?}: {:?}", output.stderr);
        case.config = good.clone();
    }
    if case.peer.is_none() {
        case.mount(json!({"destination": "/mnt", "type": "bind", "source": dir, "options": ["rbind", "z"]}))
            .args(["true"]);
        case.write_config()?;
        let bundle = case.bundle();
        let words = [
            "--log".as_ref(),
            log.as_os_str(),
            "--debug".as_ref(),
            "run".as_ref(),
            "--bundle".as_ref(),
            bundle.as_os_str(),
        ];
        case.verb(words.into_iter().chain([std::ffi::OsStr::new(&case.id)]))?.ok()?;
        ensure!(kernel::read(&log)?.contains("is a word of engines, ignored"), "nothing in the log");
    }
    Ok(())
}

fn propagation_is_recursive(case: &mut Case) -> Result<()> {
    let source = Source::new(case, MountFlags::empty())?;
    let found = bound(case, &source, "rbind", &words(&[&["rshared"], &["shared"], &["runbindable"], &["rslave"]]))?;
    let tags = |number: usize, which: usize| found[number][which].propagation.join(" ");
    ensure!(tags(0, 0).contains("shared:") && tags(0, 1).contains("shared:"), "rshared: {:?}", found[0]);
    ensure!(tags(1, 0).contains("shared:") && !tags(1, 1).contains("shared:"), "shared: {:?}", found[1]);
    ensure!(tags(2, 0) == "unbindable" && tags(2, 1) == "unbindable", "runbindable: {:?}", found[2]);
    ensure!(!tags(3, 0).contains("shared:") && !tags(3, 1).contains("shared:"), "rslave: {:?}", found[3]);
    Ok(())
}

fn an_overlay_in_the_bundle(case: &mut Case) -> Result<()> {
    for dir in ["lower", "upper", "work"] {
        fs::create_dir(case.bundle().join(dir))?;
    }
    fs::write(case.bundle().join("lower/file"), "lower\n")?;
    let dir = |name: &str| case.bundle().join(name).display().to_string();
    let options = [
        format!("lowerdir={}", dir("lower")),
        format!("upperdir={}", dir("upper")),
        format!("workdir={}", dir("work")),
        "nodev".to_owned(),
    ];
    case.mount(json!({"destination": "/mnt", "type": "overlay", "source": "overlay", "options": options}));
    case.script("cat /mnt/file; echo changed >/mnt/file; echo new >/mnt/new; cat /mnt/file /mnt/new");
    case.prints("lower\nchanged\nnew\n")?;
    ensure!(fs::read_to_string(case.bundle().join("lower/file"))? == "lower\n", "the lower directory was written");
    ensure!(fs::read_to_string(case.bundle().join("upper/new"))? == "new\n", "the upper directory was not");
    Ok(())
}
