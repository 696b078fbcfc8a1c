//! What the kernel and the file system name is bytes: mounts, cgroups, processes, network devices and directories may have
//! any name, and whoever makes one chooses it. A table that such names stand in is read as bytes; where only the kernel's
//! own words and numbers are looked for in it, [`text`] does.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// A file of the kernel's, which says nothing of its size: a page at a time.
pub fn read(path: impl AsRef<Path>) -> std::io::Result<Vec<u8>> {
    let fd = rustix::fs::open(path.as_ref(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    read_all(&fd)
}

/// What is left to read of a small file.
pub fn read_all(fd: impl AsFd) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        bytes.reserve(1024);
        match rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A file of the kernel's in which the kernel's own words are looked for; what is no UTF-8 in it is no such word.
pub fn text(path: impl AsRef<Path>) -> std::io::Result<String> {
    Ok(String::from_utf8_lossy(&read(path)?).into_owned())
}

/// The lines of a table.
pub fn lines(table: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// A line of /proc/PID/mountinfo.
#[derive(Debug, Clone, Copy)]
pub struct MountLine<'t> {
    /// Its number.
    pub id: u64,
    /// That of the mount that it lies on.
    pub parent: u64,
    /// `major:minor` of the file system.
    pub device: &'t [u8],
    root: &'t [u8],
    at: &'t [u8],
    /// The mount's options.
    pub options: &'t [u8],
    /// Whether it is in a peer group: what is mounted on it shows on its peers.
    pub shared: bool,
    /// The type of the file system.
    pub fstype: &'t [u8],
    /// The file system's options.
    pub super_options: &'t [u8],
}

impl<'t> MountLine<'t> {
    fn parse(line: &'t [u8]) -> Option<MountLine<'t>> {
        let mut words = line.split(|byte| *byte == b' ');
        let mut word = || words.next();
        let (id, parent) = (number(word()?)?, number(word()?)?);
        let (device, root, at, options) = (word()?, word()?, word()?, word()?);
        let mut shared = false;
        loop {
            // Optional fields end in a hyphen.
            match word()? {
                b"-" => break,
                field => shared |= field.starts_with(b"shared:"),
            }
        }
        let fstype = word()?;
        let super_options = word().and_then(|_| word()).unwrap_or_default();
        Some(MountLine { id, parent, device, root, at, options, shared, fstype, super_options })
    }

    /// What of the file system is mounted.
    pub fn root(&self) -> PathBuf {
        unescape(self.root)
    }

    /// Where.
    pub fn at(&self) -> PathBuf {
        unescape(self.at)
    }
}

/// The mounts of a text of /proc/PID/mountinfo.
pub fn mounts(table: &[u8]) -> impl Iterator<Item = MountLine<'_>> + Clone {
    lines(table).filter_map(MountLine::parse)
}

/// The cgroup of a process by its /proc/PID/cgroup: in the hierarchy of these controllers, or without any in cgroup2.
pub fn cgroup<'t>(table: &'t [u8], controllers: &[impl AsRef<str>]) -> Option<&'t Path> {
    lines(table).find_map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        let mut names = names.split(|byte| *byte == b',');
        let found = match controllers {
            [] => names.next() == Some(b""),
            some => names.any(|name| some.iter().any(|one| one.as_ref().as_bytes() == name)),
        };
        found.then(|| Path::new(OsStr::from_bytes(path)))
    })
}

fn number(word: &[u8]) -> Option<u64> {
    str::from_utf8(word).ok()?.parse().ok()
}

/// mountinfo writes space, tab, newline and backslash as octal numbers (proc_pid_mountinfo(5)).
fn unescape(field: &[u8]) -> PathBuf {
    let mut name = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match octal.filter(|_| first == b'\\') {
            Some(byte) => {
                name.push(byte);
                rest = &after[3..];
            }
            None => {
                name.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsStr::from_bytes(&name))
}

/// A path in a JSON text of hull's own: text where it is UTF-8, else an array of its bytes, so that neither is taken for
/// the other.
pub mod json {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes it.
    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => path.as_os_str().as_bytes().serialize(serializer),
        }
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Spelled {
            Text(String),
            Bytes(Vec<u8>),
        }
        Ok(match Spelled::deserialize(deserializer)? {
            Spelled::Text(text) => text.into(),
            Spelled::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(bytes: &[u8]) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(bytes))
    }

    #[test]
    fn mounts_of_any_name() {
        let table = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
                      37 36 0:9 / /\xff\\040m\\012 rw - tmpfs none\n\
                      a line of something else\n";
        let all: Vec<_> = mounts(table).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].id, all[0].parent, all[0].device), (36, 35, &b"98:0"[..]));
        assert_eq!((all[0].root(), all[0].at()), ("/mnt1".into(), "/mnt2".into()));
        assert_eq!((all[0].shared, all[1].shared), (true, false));
        assert_eq!((all[0].fstype, all[0].super_options), (&b"ext3"[..], &b"rw,errors=continue"[..]));
        assert_eq!((all[1].at(), all[1].options, all[1].super_options), (path(b"/\xff m\n"), &b"rw"[..], &b""[..]));
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(br"/a\040b\134c\x"), path(br"/a b\c\x"));
        assert_eq!(unescape(b"\\\xff\\04\\777"), path(b"\\\xff\\04\\777"));
    }

    #[test]
    fn cgroups_of_any_name() {
        let table = b"3:name=systemd:/s\n2:cpu,cpuacct:/a:b\xff\n0::/u\n";
        let find = |controllers: &[&str]| cgroup(table, controllers);
        assert_eq!(find(&["cpuacct"]), Some(path(b"/a:b\xff").as_path()));
        assert_eq!((find(&["name=systemd"]), find(&[])), (Some(Path::new("/s")), Some(Path::new("/u"))));
        assert_eq!(find(&["pids"]), None);
    }

    #[test]
    fn paths_in_json_are_told_apart() {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct One(#[serde(with = "json")] PathBuf);
        for (bytes, wanted) in
            [(&b"/a"[..], r#""/a""#), (b"/\xff", "[47,255]"), ("/\u{fffd}".as_bytes(), "\"/\u{fffd}\"")]
        {
            let text = serde_json::to_string(&One(path(bytes))).unwrap();
            assert_eq!(text, wanted);
            assert_eq!(serde_json::from_str::<One>(&text).unwrap().0, path(bytes));
        }
    }
}
