//! Writing the maps of a new user namespace: by setup, while init waits (user_namespaces(7)).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::error::{ErrAt, Error, Result, Step};
use crate::plan::idmap::{IdMap, IdMaps, Writer, text};
use crate::plan::mounts::{Mapping, Mount, Source};
use crate::sys::clone::{Cloned, clone3, exit_now};

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
    match crate::sys::whole::write(&fd, content.as_bytes()) {
        Ok(()) => Ok(()),
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
    command.arg(pid.to_string());
    for line in map {
        command.args([line.container.to_string(), line.host.to_string(), line.size.to_string()]);
    }
    let output = crate::sys::spawn::output(&mut command).err_at(Step::IdMap, "execve", subject)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().replace('\n', "; ");
    Err(Error::host(Step::IdMap, format!("{}: {}: {said}", subject(), output.status)).hint(format!("see {file}")))
}

/// The user namespaces whose mappings idmapped mounts have, each once.
#[derive(Debug, Default)]
pub struct Mappings<'p>(BTreeMap<&'p Mapping, OwnedFd>);

impl<'p> Mappings<'p> {
    /// Opens the container's, by the pidfd of its init, and makes the others, as far as `sources` need them.
    pub fn of(mounts: &'p [Mount], sources: &[Source], init: BorrowedFd<'_>) -> Result<Mappings<'p>> {
        let mut mappings = Mappings::default();
        for source in sources {
            let Source::Mount(place) = source else { continue };
            let Some(mapping) = mounts.get(*place).and_then(|m| m.idmap.as_ref()).map(|idmap| &idmap.mapping) else {
                continue;
            };
            let Entry::Vacant(place) = mappings.0.entry(mapping) else { continue };
            place.insert(match mapping {
                Mapping::Container => super::namespaces::user_namespace_of(init)?,
                Mapping::Own { uid, gid } => idmap_holder(uid, gid)?,
            });
        }
        Ok(mappings)
    }

    /// The namespace with a mapping.
    pub fn get(&self, mapping: &Mapping) -> Option<BorrowedFd<'_>> {
        self.0.get(mapping).map(AsFd::as_fd)
    }
}

/// A user namespace with these maps. A mapping exists only as that of a user namespace, which only a process can make:
/// a child that lives until the namespace is held by a descriptor.
fn idmap_holder(uid: &[IdMap], gid: &[IdMap]) -> Result<OwnedFd> {
    let subject = || "make a user namespace with the mapping of a mount";
    let (wait, alive) = pipe_with(PipeFlags::CLOEXEC).err_at(Step::IdMap, "pipe2", subject)?;
    super::process::not_dumpable_if_root()?;
    let cloned = clone3(libc::CLONE_NEWUSER as u64, None, libc::SIGCHLD)
        .err_at(Step::IdMap, "clone3", subject)
        .map_err(|e| if e.is(Errno::NOSPC) { e.hint("/proc/sys/user/max_user_namespaces is reached") } else { e })?;
    let Cloned::Parent { pid, pidfd } = cloned else {
        // The end of the pipe comes from setup, or from its death.
        drop(alive);
        let _ = rustix::io::read(&wait, &mut [0u8; 1]);
        exit_now(0)
    };
    let namespace = write_file(pid, "gid_map", &text(gid))
        .and_then(|()| write_file(pid, "uid_map", &text(uid)))
        .and_then(|()| super::namespaces::user_namespace_of(pidfd.as_fd()));
    drop(alive);
    // Whether it worked or not, no child is left.
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    namespace
}
