//! Who may map which ids: a user namespace's own map, and for ordinary users what /etc/subuid and /etc/subgid grant
//! through newuidmap(1) and newgidmap(1).

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{Access, access, getxattr};

use super::{Findings, Status, Whom, read};
use crate::error::show;
use crate::host::HostFacts;
use crate::steps::idmap::helper_path;

/// Grants of user ids (subuid(5)).
pub const SUBUID: &str = "/etc/subuid";
/// Grants of group ids (subgid(5)).
pub const SUBGID: &str = "/etc/subgid";

/// First id and how many.
pub type Range = (u32, u32);

/// The ids that hull's own user namespace has, which its root may map on.
pub fn own_map(file: &str) -> Vec<Range> {
    let map = if file == SUBUID { "/proc/self/uid_map" } else { "/proc/self/gid_map" };
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?.parse().ok()?, fields.nth(1)?.parse().ok()?))
    };
    read(map).unwrap_or_default().lines().filter_map(line).collect()
}

/// What a file grants to a user, who stands there by name or by number.
pub fn grants(file: &str, uid: u32) -> Vec<Range> {
    let passwd = read("/etc/passwd").unwrap_or_default();
    ranges(&read(file).unwrap_or_default(), user_name(&passwd, uid), uid)
}

fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

fn ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let line = |line: &str| {
        let mut fields = line.split(':');
        let who = fields.next()?;
        let is_ours = Some(who) == name || who.parse() == Ok(uid);
        Some((fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?)).filter(|_| is_ours)
    };
    text.lines().filter_map(line).collect()
}

/// Whether ranges have all of `size` ids from `first` on, together.
pub fn covers(ranges: &[Range], first: u32, size: u32) -> bool {
    let (mut at, end) = (u64::from(first), u64::from(first) + u64::from(size));
    while at < end {
        let holds = |range: &&Range| u64::from(range.0) <= at && at < u64::from(range.0) + u64::from(range.1);
        let Some((start, count)) = ranges.iter().find(holds) else { return false };
        at = u64::from(*start) + u64::from(*count);
    }
    true
}

/// Where a helper is, if it can do its work.
pub fn helper(name: &str) -> Result<PathBuf, String> {
    let Some(path) = helper_path(name) else { return Err(format!("{name} is not installed")) };
    let setuid = std::fs::metadata(&path).is_ok_and(|stat| stat.mode() & 0o4000 != 0 && stat.uid() == 0);
    let capable = getxattr(&path, "security.capability", &mut [0u8; 64][..]).is_ok();
    if setuid || capable {
        Ok(path)
    } else {
        Err(format!("{} is neither setuid root nor has capabilities", show(&path)))
    }
}

/// The least that images with users of their own need.
const ENOUGH: u64 = 65_536;

pub(super) fn look(host: &HostFacts, out: &mut Findings) {
    (out.area, out.whom) = ("ids", Whom::Rootless);
    for name in ["newuidmap", "newgidmap"] {
        let found = helper(name).map(|path| show(&path));
        let cure = "install newuidmap and newgidmap with their privileges (Debian's package is uidmap)";
        out.check(name, found, Status::Lacking, cure);
    }
    for file in [SUBUID, SUBGID] {
        if host.euid == 0 {
            let users = read(file).map_or(0, |text| text.lines().filter(|line| line.contains(':')).count());
            let cure = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER";
            let found = if users > 0 { Ok(format!("{users} grants")) } else { Err("grants nothing to anyone".into()) };
            out.check(file, found, Status::Lacking, cure);
            continue;
        }
        let total: u64 = grants(file, host.euid).iter().map(|range| u64::from(range.1)).sum();
        let cure = format!(
            "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}; without it a container has \
             one user only",
            user_name(&read("/etc/passwd").unwrap_or_default(), host.euid).unwrap_or("USER")
        );
        let found = format!("grants {total} ids to user {}", host.euid);
        out.check(file, if total >= ENOUGH { Ok(found) } else { Err(found) }, Status::Lacking, &cure);
    }
    if host.euid != 0 {
        let found = match std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
            None => Err("is not set".to_owned()),
            Some(path) => match access(&path, Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) => Ok(show(path.as_ref())),
                Err(errno) => Err(format!("{}: {errno}", show(path.as_ref()))),
            },
        };
        out.check("XDG_RUNTIME_DIR", found, Status::Lacking, "log in through PAM, or give --root DIR");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_together_and_not_beyond() {
        let ranges = [(100, 10), (110, 5), (200, 1)];
        assert!(covers(&ranges, 100, 15) && covers(&ranges, 112, 2) && covers(&ranges, 200, 1));
        assert!(!covers(&ranges, 100, 16) && !covers(&ranges, 99, 2) && !covers(&[], 0, 1));
        assert!(covers(&[(0, u32::MAX)], 5, u32::MAX - 5) && !covers(&[(5, 0)], 5, 1));
    }

    #[test]
    fn a_grant_is_to_a_name_or_a_number() {
        let text = "ann:100000:65536\n1001:300000:1000\nbob:400000:5\nbad line\nann:x:1\n";
        assert_eq!(ranges(text, Some("ann"), 1000), [(100_000, 65_536)]);
        assert_eq!(ranges(text, Some("bob"), 1001), [(300_000, 1000), (400_000, 5)]);
        assert_eq!(ranges(text, None, 7), []);
        assert_eq!(user_name("root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\n", 1000), Some("ann"));
    }
}
