//! Notices of the kernel that a container ran out of memory: v1 by an eventfd registered in cgroup.event_control, v2 by
//! memory.events, which becomes readable out of band (POLLPRI) when it changes.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::fs::OFlags;

use super::{Directory, Handle};
use crate::error::{ErrAt, Result, Step, show};

/// Watches one container.
#[derive(Debug)]
pub struct OomWatch {
    /// v1: where notices arrive.
    eventfd: Option<OwnedFd>,
    /// memory.oom_control or memory.events.
    file: OwnedFd,
    /// v2: how often it has happened.
    seen: u64,
}

impl Handle {
    /// Begins to watch; None where no controller counts.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let v1 = self.trees.iter().find(|tree| tree.controllers.iter().any(|name| name == "memory"));
        if let Some(tree) = v1 {
            return register(tree).map(Some);
        }
        let Some(tree) = self.trees.iter().find(|tree| tree.v2) else { return Ok(None) };
        let Ok(file) = tree.open_file("memory.events", OFlags::RDONLY) else { return Ok(None) };
        let mut watch = OomWatch { eventfd: None, file, seen: 0 };
        watch.seen = watch.count().unwrap_or(0);
        Ok(Some(watch))
    }
}

fn register(tree: &Directory) -> Result<OomWatch> {
    let subject = || format!("watch memory.oom_control of the cgroup {}", show(&tree.path));
    let file = tree.open_file("memory.oom_control", OFlags::RDONLY).err_at(Step::Cgroup, "openat", subject)?;
    let eventfd =
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).err_at(Step::Cgroup, "eventfd2", subject)?;
    let line = format!("{} {}", eventfd.as_raw_fd(), file.as_raw_fd());
    tree.write("cgroup.event_control", &line, || "watch for notices of no memory".into())?;
    Ok(OomWatch { eventfd: Some(eventfd), file, seen: 0 })
}

impl OomWatch {
    /// What to wait for.
    pub fn poll_fd(&self) -> PollFd<'_> {
        match &self.eventfd {
            Some(eventfd) => PollFd::from_borrowed_fd(eventfd.as_fd(), PollFlags::IN),
            None => PollFd::from_borrowed_fd(self.file.as_fd(), PollFlags::PRI),
        }
    }

    /// Whether memory ran out since the last time.
    pub fn take(&mut self) -> bool {
        let Some(eventfd) = &self.eventfd else {
            let count = self.count().unwrap_or(self.seen);
            return std::mem::replace(&mut self.seen, count) < count;
        };
        // The end of the cgroup is a notice, too; then the file cannot be read any more.
        rustix::io::read(eventfd, &mut [0; 8]).is_ok() && self.text().is_some()
    }

    fn count(&self) -> Option<u64> {
        let text = self.text()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
    }

    fn text(&self) -> Option<String> {
        let mut bytes = [0; 1024];
        let len = rustix::io::pread(&self.file, &mut bytes, 0).ok()?;
        Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
    }
}
