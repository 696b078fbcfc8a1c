//! `hull spec`: an example config.json in a bundle, never over an existing one.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::OFlags;

use super::Done;
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::log::write_all;
use crate::spec::example;

/// CGROUP2_SUPER_MAGIC of statfs(2).
const CGROUP2: u64 = 0x6367_7270;

/// Writes the file.
pub fn spec(bundle: &Path, rootless: bool) -> Result<Done> {
    let path = bundle.join("config.json");
    let subject = || format!("spec: write {}", show(&path));
    let cgroup2 = rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.f_type as u64 == CGROUP2);
    let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let text = example::config(rootless.then_some(ids), cgroup2);
    // O_EXCL: what is there is somebody's work, even a dangling link.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, crate::sys::umask::file())
        .err_at(Step::Spec, "open", subject)
        .map_err(|error| if error.is(rustix::io::Errno::EXIST) { error.hint("remove it first") } else { error })?;
    if let Err(errno) = write_all(file.as_fd(), text.as_bytes()) {
        // Half a config.json helps nobody; that it cannot be removed either would hide the first error.
        let _ = rustix::fs::unlink(&path);
        return Err(Error::call(Step::Spec, "write", errno, subject()));
    }
    Ok(Done::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_config_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("hull-spec-test-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let first = spec(&dir, false);
        let written = std::fs::read_to_string(dir.join("config.json"));
        std::fs::write(dir.join("config.json"), "mine").unwrap();
        let second = spec(&dir, true);
        let kept = std::fs::read_to_string(dir.join("config.json"));
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(first.unwrap(), Done::default());
        assert!(written.unwrap().starts_with("{\n"));
        let error = second.unwrap_err().to_string();
        assert!(error.ends_with("config.json: open: file exists (EEXIST) (remove it first)"), "{error}");
        assert_eq!(kept.unwrap(), "mine");
        let error = spec(&dir, false).unwrap_err().to_string();
        assert!(error.ends_with("open: no such file or directory (ENOENT)"), "{error}");
    }
}
