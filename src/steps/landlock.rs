//! Landlock: the paths of the annotations are looked up while the process is still root of the container, and the rest is
//! given up last.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::path::Root;
use crate::error::{ErrAt, Result, Step};
use crate::plan::landlock::{HANDLED, Landlock, OF_A_FILE};
use crate::sys::landlock as sys;

/// The ruleset. A link in a path is refused: the image would choose what the rule allows.
pub fn ruleset(root: Root<'_>, landlock: &Landlock) -> Result<OwnedFd> {
    let ruleset = sys::ruleset(HANDLED).err_at(Step::Label, "landlock_create_ruleset", || "make the Landlock rules")?;
    for rule in &landlock.rules {
        let subject = || format!("let the program {} {} ({})", rule.word, rule.path, rule.pointer());
        let path = root.open_without_links(&rule.path, OFlags::PATH).err_at(Step::Label, "openat2", subject).map_err(
            |error| match error {
                error if error.is(Errno::LOOP) => error.hint("a part of it is a symbolic link: name where that leads"),
                error if error.is(Errno::NOENT) => error.hint("the container has no such path"),
                error => error,
            },
        )?;
        let stat = rustix::fs::fstat(&path).err_at(Step::Label, "fstat", subject)?;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let access = if is_dir { rule.access } else { rule.access & OF_A_FILE };
        sys::allow(ruleset.as_fd(), path.as_fd(), access).err_at(Step::Label, "landlock_add_rule", subject)?;
    }
    Ok(ruleset)
}

/// The same in the root of this process.
pub fn ruleset_here(landlock: &Landlock) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        rustix::fs::open("/", flags, Mode::empty()).err_at(Step::Label, "open", || "open the container's root")?;
    ruleset(Root::new(&root), landlock)
}

/// Holds this process, and what it becomes, to the rules.
pub fn restrict(ruleset: OwnedFd) -> Result<()> {
    sys::restrict_self(ruleset.as_fd()).err_at(
        Step::Label,
        "landlock_restrict_self",
        || "give up all other paths (/annotations/io.hull.landlock.*)",
    )
}
