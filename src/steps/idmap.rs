//! Writing the maps of a new user namespace: by setup, while init waits (user_namespaces(7)).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::error::{ErrAt, Error, Result, Step};
use crate::plan::idmap::{IdMap, IdMaps, Writer, text};

/// Where the helpers may live: absolute paths on the host, never found through PATH or the container.
const HELPER_DIRS: [&str; 3] = ["/usr/bin", "/bin", "/usr/local/bin"];

/// Writes uid_map, gid_map and, for an unprivileged single mapping, setgroups of `pid`.
pub fn write(maps: &IdMaps, pid: i32) -> Result<()> {
    match maps.writer {
        Writer::Direct => {
            write_file(pid, "gid_map", &text(&maps.gid))?;
            write_file(pid, "uid_map", &text(&maps.uid))
        }
        Writer::SingleId => {
            // Without CAP_SETGID the kernel takes a gid map only once setgroups is denied.
            write_file(pid, "setgroups", "deny")?;
            write_file(pid, "gid_map", &text(&maps.gid))?;
            write_file(pid, "uid_map", &text(&maps.uid))
        }
        Writer::Helpers => {
            helper("newgidmap", "/etc/subgid", pid, &maps.gid)?;
            helper("newuidmap", "/etc/subuid", pid, &maps.uid)
        }
    }
}

fn write_file(pid: i32, file: &str, content: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let subject = || format!("write {:?} to {path}", content.trim_end().replace('\n', ", "));
    let fd = open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).err_at(Step::IdMap, "open", subject)?;
    match rustix::io::write(&fd, content.as_bytes()) {
        Ok(_) => Ok(()),
        Err(errno) => {
            let error = Error::call(Step::IdMap, "write", errno, subject());
            Err(if errno == Errno::PERM {
                error.hint("the ids are not hull's to give: outside of its own user namespace, or not allowed to an unprivileged user")
            } else {
                error
            })
        }
    }
}

/// Where newuidmap(1) or newgidmap(1) is.
pub fn helper_path(name: &str) -> Option<PathBuf> {
    HELPER_DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists())
}

fn helper(name: &str, file: &str, pid: i32, map: &[IdMap]) -> Result<()> {
    let subject = || format!("run {name} for the mapping {:?}", text(map).trim_end().replace('\n', ", "));
    let Some(path) = helper_path(name) else {
        return Err(Error::call(Step::IdMap, "stat", Errno::NOENT, subject())
            .hint(format!("it is in none of {}; Debian's package is uidmap", HELPER_DIRS.join(", "))));
    };
    let mut command = Command::new(path);
    command.arg(pid.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
    for line in map {
        command.args([line.container.to_string(), line.host.to_string(), line.size.to_string()]);
    }
    let output = command.output().err_at(Step::IdMap, "execve", subject)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().replace('\n', "; ");
    Err(Error::host(Step::IdMap, format!("{}: {}: {said}", subject(), output.status)).hint(format!("see {file}")))
}
