//! Whether the container's root or its user may enter a directory or execute a file, by owner and mode (credentials(7),
//! user_namespaces(7)). Where an ACL or an ID-mapped mount decides, nothing is said.

use std::os::fd::AsRawFd;
use std::path::Path;

use super::view::{Found, View};
use crate::error::show;
use crate::plan::Plan;
use crate::plan::idmap::{IdMap, IdMaps};

/// CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
const DAC: u64 = 1 << 1 | 1 << 2;

/// Who asks, in ids of the host.
pub struct Who<'p> {
    name: String,
    uid: u32,
    groups: Vec<u32>,
    /// Modes do not count, where owner and group of the file are mapped.
    above_modes: bool,
    maps: Option<&'p IdMaps>,
}

impl<'p> Who<'p> {
    /// The container's root, who goes to the working directory; None where it cannot be told.
    pub fn root(plan: &'p Plan) -> Option<Who<'p>> {
        let (uid, gid) = plan.root_ids().unwrap_or((0, 0));
        Who::new(plan, "the container's root".into(), uid, vec![gid], true)
    }

    /// The program's user.
    pub fn user(plan: &'p Plan) -> Option<Who<'p>> {
        let user = &plan.process.user;
        let groups = user.groups.iter().flatten().copied().chain([user.gid]).collect();
        let above = user.uid == 0 || plan.process.capabilities.effective & DAC != 0;
        Who::new(plan, format!("user {}", user.uid), user.uid, groups, above)
    }

    fn new(plan: &'p Plan, name: String, uid: u32, groups: Vec<u32>, above_modes: bool) -> Option<Who<'p>> {
        if plan.mounts.iter().any(|mount| mount.idmap.is_some())
            || plan.namespaces.joins(crate::plan::namespaces::Kind::User)
        {
            return None;
        }
        let maps = plan.idmaps.as_ref();
        let uid = maps.map_or(Some(uid), |maps| to_host(&maps.uid, uid))?;
        let groups = groups.into_iter().filter_map(|gid| maps.map_or(Some(gid), |maps| to_host(&maps.gid, gid)));
        Some(Who { name, uid, groups: groups.collect(), above_modes, maps })
    }

    /// Whether the execute bit that counts for them is set.
    fn may(&self, found: &Found) -> bool {
        let (uid, gid, mode) = (found.stat.st_uid, found.stat.st_gid, found.stat.st_mode);
        let mapped = self.maps.is_none_or(|maps| is_mapped(&maps.uid, uid) && is_mapped(&maps.gid, gid));
        let bits = match () {
            () if self.above_modes && mapped => 0o111,
            () if self.uid == uid => 0o100,
            () if self.groups.contains(&gid) => 0o010,
            () => 0o001,
        };
        mode & bits != 0 || (bits == 0o111 && found.kind() == rustix::fs::FileType::Directory) || has_acl(found)
    }

    /// Why they do not get to a path, and where it ends: at a directory above it, or at the file.
    pub fn refusal(&self, view: &View<'_>, path: &Path) -> Option<String> {
        let mut parts: Vec<&Path> = path.ancestors().collect();
        parts.reverse();
        for part in parts {
            let Some(Ok(found)) = view.find(part) else { return None };
            if !self.may(&found) {
                let (mode, uid, gid) = (found.stat.st_mode & 0o7777, found.stat.st_uid, found.stat.st_gid);
                let does = if found.kind() == rustix::fs::FileType::Directory { "enter" } else { "execute" };
                let ids =
                    if self.maps.is_some() { format!(", who is {} on the host", self.uid) } else { String::new() };
                return Some(format!(
                    "{}{ids} may not {does} {} (mode {mode:04o}, owner {uid}:{gid})",
                    self.name,
                    show(part)
                ));
            }
        }
        None
    }
}

fn to_host(map: &[IdMap], id: u32) -> Option<u32> {
    let line = map.iter().find(|line| id >= line.container && id - line.container < line.size)?;
    line.host.checked_add(id - line.container)
}

fn is_mapped(map: &[IdMap], host: u32) -> bool {
    map.iter().any(|line| host >= line.host && host - line.host < line.size)
}

fn has_acl(found: &Found) -> bool {
    let path = format!("/proc/self/fd/{}", found.fd.as_raw_fd());
    rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0][..]).is_ok()
}
