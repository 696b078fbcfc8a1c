//! `events` and `stats`: what a container uses, and that it ran out of memory; until it ends.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::Serialize;

use super::Globals;
use super::process::Held;
use super::state::{StateDir, Status};
use crate::cgroup::Handle;
use crate::cgroup::stats::Stats;
use crate::cgroup::stats::rdt::{self, Rdt};
use crate::error::{Error, Result, Step};
use crate::spec::load;
use crate::steps::hooks;

/// Where resctrl is mounted.
const RESCTRL: &str = "/sys/fs/resctrl";

/// Everything that is counted for a container, as runc's stats event has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Usage {
    /// Its cgroups' numbers.
    #[serde(flatten)]
    pub stats: Stats,
    /// Intel RDT.
    pub intel_rdt: Rdt,
    /// The interfaces of its network namespace but `lo`; `null` where it has none.
    pub network_interfaces: Option<Vec<Interface>>,
}

/// What went through a network interface, by runc's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct Interface {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// What `events` has to say.
#[derive(Debug)]
pub enum Event {
    /// The numbers.
    Stats(Box<Usage>),
    /// The memory limit was met, and nothing could be reclaimed.
    Oom,
}

/// A container whose numbers are read again and again.
#[derive(Debug)]
pub struct Source {
    init: Held,
    cgroup: Handle,
    rdt_group: Option<String>,
}

impl Source {
    /// None while nothing of it runs.
    fn open(dir: &StateDir) -> Result<Option<Source>> {
        let Some((state, status)) = dir.look()? else { return Ok(None) };
        let Some(init) = state.init.filter(|_| !matches!(status, Status::Stopped | Status::Creating)) else {
            return Ok(None);
        };
        let Some(init) = init.hold()? else { return Ok(None) };
        // Without resctrl the config is not worth reading again.
        let rdt_group = Path::new(RESCTRL).join("schemata").exists().then(|| rdt_group(dir, &state.id)).flatten();
        Ok(Some(Source { init, cgroup: Handle::open(&state.cgroup)?, rdt_group }))
    }

    /// Reads the numbers.
    pub fn read(&self) -> Usage {
        let table = self.init.look(|pid| Ok(crate::bytes::text(format!("/proc/{pid}/net/dev")).unwrap_or_default()));
        let table = table.ok().flatten().unwrap_or_default();
        Usage {
            stats: self.cgroup.stats(),
            intel_rdt: self.rdt_group.as_deref().map(|group| rdt::read(Path::new(RESCTRL), group)).unwrap_or_default(),
            network_interfaces: Some(interfaces(&table)).filter(|list| !list.is_empty()),
        }
    }
}

fn rdt_group(dir: &StateDir, id: &str) -> Option<String> {
    let text = dir.load_config().ok()?;
    let (spec, _) = load::parse(&text).ok()?;
    let rdt = spec.linux.as_ref()?.intel_rdt.as_ref()?;
    Some(rdt.clos_id.as_deref().filter(|name| !name.is_empty()).unwrap_or(id).to_owned())
}

/// From /proc/PID/net/dev: a name, eight numbers of what came in, eight of what went out.
fn interfaces(table: &str) -> Vec<Interface> {
    let parse = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let n: Vec<u64> = rest.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
        let name = name.trim();
        (n.len() >= 16 && name != "lo").then(|| Interface {
            name: name.to_owned(),
            rx_bytes: n[0],
            rx_packets: n[1],
            rx_errors: n[2],
            rx_dropped: n[3],
            tx_bytes: n[8],
            tx_packets: n[9],
            tx_errors: n[10],
            tx_dropped: n[11],
        })
    };
    table.lines().skip(2).filter_map(parse).collect()
}

/// Says the numbers once.
pub fn once(globals: &Globals, id: &str) -> Result<Usage> {
    let dir = StateDir::open(&globals.root, id)?;
    Ok(source(&dir, id)?.read())
}

fn source(dir: &StateDir, id: &str) -> Result<Source> {
    let not_running = || Error::status(format!("container with id {id} is not running"));
    Source::open(dir)?.ok_or_else(not_running)
}

/// Says the numbers at each interval and every notice of no memory, until the container ends or nobody reads `out`.
pub fn follow(
    globals: &Globals,
    id: &str,
    interval: Duration,
    out: BorrowedFd<'_>,
    say: &mut dyn FnMut(Event) -> Result<()>,
) -> Result<()> {
    let source = source(&StateDir::open(&globals.root, id)?, id)?;
    let pidfd = source.init.handle();
    let mut oom = source.cgroup.watch_oom()?;
    let mut next = Instant::now() + interval;
    loop {
        let (init, timeout) = hooks::in_poll(pidfd, Some(next.saturating_duration_since(Instant::now())));
        let mut fds = vec![init, PollFd::from_borrowed_fd(out, PollFlags::empty())];
        fds.extend(oom.iter().map(|oom| oom.poll_fd()));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::call(Step::Sync, "poll", errno, "wait for events")),
        }
        let mut ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        ready[0] = hooks::says_end(pidfd, &fds[0]);
        drop(fds);
        // Before the end: the notice may be about init itself.
        if let Some(oom) = oom.as_mut().filter(|_| ready[0] || ready[2])
            && oom.take()
        {
            say(Event::Oom)?;
        }
        if ready[0] || ready[1] {
            return Ok(());
        }
        if Instant::now() >= next {
            say(Event::Stats(Box::new(source.read())))?;
            next = Instant::now() + interval;
        }
    }
}

/// The containers that run, with what they use: those with these ids, or all under the root.
pub fn running(globals: &Globals, ids: &[String]) -> Result<Vec<(String, Source)>> {
    let all = if ids.is_empty() { super::state::ids(&globals.root)? } else { ids.to_vec() };
    let mut running = Vec::new();
    for id in all {
        let found = StateDir::open(&globals.root, &id).and_then(|dir| Source::open(&dir));
        match found {
            Ok(Some(source)) => running.push((id, source)),
            Ok(None) if ids.is_empty() => {}
            Ok(None) => return Err(Error::status(format!("container with id {id} is not running"))),
            // One that went away meanwhile, or cannot be read, does not hide the others.
            Err(_) if ids.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(running)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_without_the_loopback() {
        let table = "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
             lo:       1       2    0    0    0     0          0         0        1       2    0    0    0     0       0          0\n  \
             eth0: 100 2 3 4 0 0 0 0 500 6 7 8 0 0 0 0\n";
        let list = interfaces(table);
        assert_eq!(list.len(), 1);
        assert_eq!(
            (list[0].name.as_str(), list[0].rx_bytes, list[0].tx_bytes, list[0].tx_dropped),
            ("eth0", 100, 500, 8)
        );
        let json = serde_json::to_string(&Usage { network_interfaces: Some(list), ..Usage::default() }).unwrap();
        assert!(json.contains(r#""network_interfaces":[{"Name":"eth0","RxBytes":100"#), "{json}");
        assert!(
            serde_json::to_string(&Usage::default()).unwrap().contains(r#""intel_rdt":{},"network_interfaces":null"#)
        );
    }
}
