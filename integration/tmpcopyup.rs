//! tmpcopyup: what the image has at the mount point of a tmpfs is in it, as it was.

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use serde_json::json;

use crate::harness::{Case, Need, Test, test};

pub fn cases() -> Vec<Test> {
    vec![
        test("mounts/tmpcopyup_keeps_files_as_they_are", files_as_they_are)
            .requires(Need::Root)
            .peer("*", "copies content, mode and owner"),
        test("mounts/tmpcopyup_of_a_deep_tree", deep_tree).requires(Need::Root).peer("*", "runs out of descriptors"),
        test("mounts/tmpcopyup_of_more_than_fits", more_than_fits)
            .requires(Need::Root)
            .peer("*", "does not name the file"),
    ]
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn tmpfs(case: &mut Case, options: &[&str]) -> PathBuf {
    let options: Vec<&str> = ["tmpcopyup"].iter().chain(options).copied().collect();
    case.mount(json!({"destination": "/var/data", "type": "tmpfs", "source": "tmpfs", "options": options}));
    case.rootfs().join("var/data")
}

fn node(path: &Path, kind: FileType, device: u64) -> Result<()> {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device).context("mknod")
}

/// The numbers of an access control list: who, what, and which user.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, may, id) in entries {
        bytes.extend([tag.to_le_bytes(), may.to_le_bytes()].concat());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn files_as_they_are(case: &mut Case) -> Result<()> {
    let from = tmpfs(case, &["size=1m"]);
    fs::create_dir_all(from.join("directory/below"))?;
    fs::write(from.join("file"), "content\n")?;
    fs::write(from.join("program"), "content\n")?;
    for name in ["other", "directory/third"] {
        fs::hard_link(from.join("file"), from.join(name))?;
    }
    symlink("file", from.join("link"))?;
    fs::hard_link(from.join("link"), from.join("directory/link"))?;
    node(&from.join("pipe"), FileType::Fifo, 0)?;
    node(&from.join("socket"), FileType::Socket, 0)?;
    node(&from.join("device"), FileType::CharacterDevice, rustix::fs::makedev(1, 5))?;
    // Larger than the tmpfs, and hardly anything is written.
    let sparse = fs::File::create(from.join("sparse"))?;
    rustix::io::pwrite(&sparse, b"middle", 8 << 20)?;
    sparse.set_len(64 << 20)?;
    for name in ["file", "program", "link", "pipe", "directory"] {
        rustix::fs::chownat(CWD, from.join(name), Some(rustix::fs::Uid::from_raw(7)), None, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    chown(from.join("directory/below"), Some(8), Some(9))?;
    let none = u32::MAX;
    let list = [(1, 6, none), (2, 6, 1000), (4, 4, none), (0x10, 6, none), (0x20, 0, none)];
    // CAP_CHOWN in the file's permitted set, and effective (struct vfs_cap_data).
    let capability = [0x0200_0001u32, 1, 0, 0, 0].map(u32::to_le_bytes).concat();
    for (name, attribute, value) in [
        ("file", "user.word", b"value".to_vec()),
        ("file", "trusted.word", b"other".to_vec()),
        ("file", "system.posix_acl_access", acl(&list)),
        ("program", "security.capability", capability),
        ("directory", "system.posix_acl_default", acl(&list)),
        ("directory", "user.word", b"of a directory".to_vec()),
    ] {
        rustix::fs::setxattr(from.join(name), attribute, &value, XattrFlags::empty())
            .with_context(|| format!("{attribute} of {name}"))?;
    }
    fs::set_permissions(from.join("program"), fs::Permissions::from_mode(0o4755))?;
    fs::set_permissions(from.join("directory/below"), fs::Permissions::from_mode(0o2751))?;
    let names = [
        "file",
        "other",
        "program",
        "directory/third",
        "link",
        "directory/link",
        "pipe",
        "socket",
        "device",
        "sparse",
        "directory/below",
        "directory",
    ];
    for (number, name) in names.iter().enumerate() {
        let time = |tv_nsec| Timespec { tv_sec: 1_000_000 + number as i64, tv_nsec };
        let times = Timestamps { last_access: time(1), last_modification: time(23_456_789) };
        rustix::fs::utimensat(CWD, from.join(name), &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let init = case.args(["sleep", "60"]).up()?;
    let to = PathBuf::from(format!("/proc/{}/root/var/data", init.pid));
    let looks = |root: &Path, name: &str| -> Result<String> {
        let path = root.join(name);
        let meta = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
        // A directory has as many links as its file system counts.
        let links = if meta.is_dir() { 0 } else { meta.nlink() };
        let mut text = format!(
            "{:o} {}:{} {}.{} {links} {:x}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.rdev()
        );
        if meta.is_file() || meta.is_symlink() {
            text += &format!(" {} bytes", meta.size());
        }
        for attribute in
            ["user.word", "trusted.word", "system.posix_acl_access", "system.posix_acl_default", "security.capability"]
        {
            let mut value = [0u8; 100];
            if let Ok(length) = rustix::fs::lgetxattr(&path, attribute, &mut value[..]) {
                text += &format!(" {attribute}={:?}", &value[..length]);
            }
        }
        Ok(text)
    };
    for name in names {
        let (was, is) = (looks(&from, name)?, looks(&to, name)?);
        ensure!(was == is, "{name} was {was}, and is {is}");
    }
    let inode = |name: &str| fs::symlink_metadata(to.join(name)).map(|meta| meta.ino());
    ensure!(inode("file")? == inode("directory/third")? && inode("link")? == inode("directory/link")?, "not one file");
    ensure!(fs::read(to.join("other"))? == b"content\n", "the content differs");
    let sparse = fs::read(to.join("sparse"))?;
    ensure!(
        &sparse[8 << 20..(8 << 20) + 6] == b"middle" && sparse.iter().filter(|byte| **byte != 0).count() == 6,
        "holes"
    );
    ensure!(fs::read_link(to.join("link"))? == Path::new("file"), "the link");
    let mut all: Vec<_> =
        fs::read_dir(&to)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
    all.sort();
    let wanted = ["device", "directory", "file", "link", "other", "pipe", "program", "socket", "sparse"];
    ensure!(all == wanted, "there are {all:?}");
    case.delete()
}

/// Deeper than descriptors, and than the longest path.
fn deep_tree(case: &mut Case) -> Result<()> {
    const LEVELS: usize = 2500;
    let from = tmpfs(case, &[]);
    fs::create_dir_all(&from)?;
    let mut at: OwnedFd = rustix::fs::open(&from, DIRECTORY, Mode::empty())?;
    for level in 0..LEVELS {
        for name in ["deep", "flat"] {
            rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755))?;
        }
        let file = rustix::fs::openat(&at, "number", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644))?;
        rustix::io::write(&file, level.to_string().as_bytes())?;
        at = rustix::fs::openat(&at, "deep", DIRECTORY, Mode::empty())?;
    }
    "ulimit -S -n 40".clone_into(&mut case.before);
    let result = copied_levels(case);
    // The directories of the suite go by their paths, which would be too long.
    let removed = std::process::Command::new("rm").arg("-rf").arg(&from).status()?;
    ensure!(removed.success(), "rm -rf {}", from.display());
    let levels = result?;
    ensure!(levels == LEVELS, "{levels} of {LEVELS} levels were copied");
    Ok(())
}

fn copied_levels(case: &mut Case) -> Result<usize> {
    let init = case.args(["sleep", "60"]).up()?;
    let to = CString::new(format!("/proc/{}/root/var/data", init.pid))?;
    let mut at = rustix::fs::open(to, DIRECTORY, Mode::empty())?;
    let mut levels = 0;
    while let Ok(inner) = rustix::fs::openat(&at, "deep", DIRECTORY, Mode::empty()) {
        let file = rustix::fs::openat(&at, "number", OFlags::RDONLY, Mode::empty())?;
        let mut text = [0; 16];
        let length = rustix::io::read(&file, &mut text)?;
        ensure!(text[..length] == *levels.to_string().as_bytes(), "level {levels} has another's file");
        rustix::fs::openat(&at, "flat", DIRECTORY, Mode::empty())?;
        at = inner;
        levels += 1;
    }
    case.delete()?;
    Ok(levels)
}

fn more_than_fits(case: &mut Case) -> Result<()> {
    let from = tmpfs(case, &["size=64k"]);
    fs::create_dir_all(from.join("below"))?;
    fs::write(from.join("below/large"), vec![1; 1 << 20])?;
    case.run()?.refused()?.stderr_has("below/large")?.stderr_has("the tmpfs is full")?.one_sentence().map(drop)
}
