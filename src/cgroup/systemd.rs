//! The systemd driver: a scope for the container by `StartTransientUnit`, changed and stopped the same way
//! (org.freedesktop.systemd1(5)).
//!
//! systemd makes the unit's cgroup and moves init into it, so there is a cgroup only once there is an init. What systemd
//! does not manage (v1 hierarchies like the freezer's, controllers like hugetlb, a subgroup) hull makes itself afterwards.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::dbus::message::{Target, Writer};
use super::dbus::{Answer, Bus};
use super::{Directory, Handle};
use crate::bytes;
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::plan::cgroup::systemd::{Property, Session, Unit, Value, YOUNG, devices, limits};
use crate::plan::cgroup::{Cgroup, Tree, Write};

/// How long systemd may take for a job.
const PATIENCE: Duration = Duration::from_secs(30);

/// And a unit without processes to be gone.
const LEAVING: Duration = Duration::from_secs(3);

const MANAGER: Target<'static> = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

/// A caller gets the signal of its own jobs without a subscription to all.
const JOB_REMOVED: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// The unit, as the state keeps it: engines call later verbs without --systemd-cgroup and with an empty environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Its name.
    pub name: String,
    /// The bus of its manager, as a D-Bus address.
    pub address: String,
}

impl Saved {
    /// What a plan will make.
    pub fn planned(unit: &Unit) -> Saved {
        Saved { name: unit.name.clone(), address: address(unit.session) }
    }
}

impl Handle {
    /// Makes the unit with init in it, and then what of the cgroups systemd did not make.
    pub(super) fn start_unit(&mut self, unit: &Unit, plan: &Cgroup, pid: i32) -> Result<()> {
        let mut properties = unit.properties.clone();
        if !unit.is_slice() {
            properties.push(Property::new("PIDs", Value::Numbers(vec![pid as u32])));
        }
        if let Some(rules) = &plan.devices {
            // Without its names the rules would be others.
            let table = bytes::text("/proc/devices").err_at(Step::Cgroup, "open", || "read /proc/devices")?;
            properties.extend(devices(rules, &table));
        }
        properties.extend(limits(&plan.writes));
        let saved = Saved::planned(unit);
        start(&saved, properties, unit.is_slice())?;
        self.unit = Some(saved);

        let own = format!("/proc/{pid}/cgroup");
        let own = std::fs::read(&own).err_at(Step::Cgroup, "open", || format!("read {own}"))?;
        for tree in &plan.trees {
            let there = own_path(&own, tree).is_some_and(|path| path == Path::new("/").join(&tree.path));
            check_place(&own, tree, unit)?;
            // Without the controllers at first: a cgroup with processes, as the scope may still be, has none for its children.
            let mut directory = Directory::adopt(&tree.mount, &tree.path, tree.v2, &tree.controllers, &[])?;
            if !there {
                directory.write("cgroup.procs", &pid.to_string(), || format!("put process {pid} into the cgroup"))?;
            }
            if tree.v2 && !plan.enable.is_empty() {
                directory = Directory::adopt(&tree.mount, &tree.path, tree.v2, &tree.controllers, &plan.enable)?;
            }
            self.trees.push(directory);
        }
        // init waits for its membership and has made no device yet.
        self.set_devices(plan)
    }
}

/// A cgroup of the unit's name that is in use, by a unit that runs, is refused before anything is made.
pub fn check_unused(plan: &Cgroup) -> Result<()> {
    for tree in &plan.trees {
        if let Some(directory) = Directory::open(&tree.directory(), tree.v2, &tree.controllers)? {
            directory.check_unused()?;
        }
    }
    Ok(())
}

/// Where systemd put init must be where the plan says, or limits and mounts would be about another cgroup.
fn check_place(own: &[u8], tree: &Tree, unit: &Unit) -> Result<()> {
    if !tree.v2 || unit.is_slice() {
        return Ok(());
    }
    let planned = Path::new("/").join(&tree.path);
    let planned = if unit.subgroup.is_some() { planned.parent().unwrap_or(&planned) } else { &planned };
    match own_path(own, tree) {
        Some(path) if path != planned => Err(Error::host(
            Step::Cgroup,
            format!("use the unit {}: init is in the cgroup {}, not in {}", unit.name, show(path), show(planned)),
        )
        .hint("systemd's root of cgroups is another one than hull was told by /proc")),
        _ => Ok(()),
    }
}

/// The path of a process in a hierarchy, from its /proc/PID/cgroup.
fn own_path<'t>(table: &'t [u8], tree: &Tree) -> Option<&'t Path> {
    bytes::cgroup(table, if tree.v2 { &[] } else { &tree.controllers })
}

/// Starts the unit and waits until it is there.
fn start(saved: &Saved, mut properties: Vec<Property>, is_slice: bool) -> Result<()> {
    let name = &saved.name;
    let subject = || format!("start the unit {name}");
    let mut bus = Bus::connect(&saved.address, PATIENCE)?;
    bus.listen(JOB_REMOVED)?;
    let mut was_reset = false;
    let deadline = Instant::now() + LEAVING;
    loop {
        let mut body = Writer::default();
        body.text(name).text("replace").properties(&properties).array(8, |_| {});
        match bus.call(MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body)? {
            Answer::Return(reply) => return wait(&mut bus, reply.body().text().unwrap_or_default(), &subject()),
            Answer::Error(error, _) if is_unit_exists(&error) && is_slice => return Ok(()),
            // A unit that failed, by an OOM kill for instance, is kept until someone has looked at it.
            Answer::Error(error, _) if is_unit_exists(&error) && !was_reset => {
                was_reset = true;
                let mut body = Writer::default();
                body.text(name);
                bus.call(MANAGER, "ResetFailedUnit", "s", &body)?;
            }
            // Its cgroup has no processes (`check_unused`): it is on its way out, say of a container that was killed just now.
            Answer::Error(error, _) if is_unit_exists(&error) && Instant::now() < deadline => {
                crate::sys::process::sleep(Duration::from_millis(20));
            }
            Answer::Error(error, text) if is_unit_exists(&error) => {
                return Err(
                    refused(&subject(), &error, &text).hint("another container may be using it (/linux/cgroupsPath)")
                );
            }
            Answer::Error(error, text) => {
                drop_unknown(&mut properties, &text).ok_or_else(|| refused(&subject(), &error, &text))?
            }
        }
    }
}

/// Tells systemd other values of properties.
pub fn set(saved: &Saved, writes: &[Write]) -> Result<()> {
    let mut properties = limits(writes);
    if properties.is_empty() {
        return Ok(());
    }
    let mut bus = Bus::connect(&saved.address, PATIENCE)?;
    loop {
        let mut body = Writer::default();
        body.text(&saved.name).bool(true).properties(&properties);
        match bus.call(MANAGER, "SetUnitProperties", "sba(sv)", &body)? {
            Answer::Return(_) => return Ok(()),
            Answer::Error(error, text) => drop_unknown(&mut properties, &text)
                .ok_or_else(|| refused(&format!("change the unit {}", saved.name), &error, &text))?,
        }
    }
}

/// Whether the unit, a scope, failed since a memory limit killed in it.
pub fn was_out_of_memory(saved: &Saved) -> bool {
    let result = || {
        let mut bus = Bus::connect(&saved.address, PATIENCE).ok()?;
        let mut body = Writer::default();
        body.text(&saved.name);
        let Answer::Return(unit) = bus.call(MANAGER, "GetUnit", "s", &body).ok()? else { return None };
        let mut body = Writer::default();
        body.text("org.freedesktop.systemd1.Scope").text("Result");
        let object = Target { path: unit.body().text()?, interface: "org.freedesktop.DBus.Properties", ..MANAGER };
        let Answer::Return(reply) = bus.call(object, "Get", "ss", &body).ok()? else { return None };
        Some(reply.body().variant_text()? == "oom-kill")
    };
    result().unwrap_or(false)
}

/// Stops the unit, whose processes are gone, and lets systemd forget that it may have failed.
pub fn stop(saved: &Saved) -> Result<()> {
    let subject = || format!("stop the unit {}", saved.name);
    let mut bus = Bus::connect(&saved.address, PATIENCE)?;
    bus.listen(JOB_REMOVED)?;
    let mut body = Writer::default();
    body.text(&saved.name).text("replace");
    match bus.call(MANAGER, "StopUnit", "ss", &body)? {
        Answer::Return(reply) => wait(&mut bus, reply.body().text().unwrap_or_default(), &subject())?,
        // An empty scope goes by itself.
        Answer::Error(error, _) if error == "org.freedesktop.systemd1.NoSuchUnit" => {}
        Answer::Error(error, text) => return Err(refused(&subject(), &error, &text)),
    }
    let mut body = Writer::default();
    body.text(&saved.name);
    // A unit that has not failed is not there any more, and that is an error here: the wanted one.
    bus.call(MANAGER, "ResetFailedUnit", "s", &body).map(drop)
}

/// Waits for the end of a job: `JobRemoved(id, job, unit, result)`.
fn wait(bus: &mut Bus, job: &str, subject: &str) -> Result<()> {
    loop {
        let signal = bus.signal("JobRemoved")?;
        let mut body = signal.body();
        let (_, path, _, result) = (body.u32(), body.text(), body.text(), body.text());
        if path != Some(job) {
            continue;
        }
        return match result.unwrap_or_default() {
            "done" => Ok(()),
            other => Err(Error::host(Step::Cgroup, format!("{subject}: systemd's job ended with {other:?}"))
                .hint("`systemctl status` or `journalctl` of that systemd tells more")),
        };
    }
}

fn is_unit_exists(error: &str) -> bool {
    error == "org.freedesktop.systemd1.UnitExists"
}

fn refused(subject: &str, error: &str, text: &str) -> Error {
    Error::host(Step::Cgroup, format!("{subject}: systemd refuses: {text} ({error})"))
}

/// Leaves out the young property that an old systemd says it does not know; None: it complains of something else.
fn drop_unknown(properties: &mut Vec<Property>, text: &str) -> Option<()> {
    let at = properties.iter().position(|property| {
        YOUNG.contains(&property.name.as_str())
            && text.contains("unknown property")
            && text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == property.name)
    })?;
    properties.remove(at);
    Some(())
}

/// The address of a manager's bus, from the variables that the D-Bus specification has for it.
pub fn address(session: Session) -> String {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    // An address is ASCII by its definition.
    let address = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
    match session {
        Session::System => {
            address("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|| "unix:path=/run/dbus/system_bus_socket".to_owned())
        }
        Session::User => address("DBUS_SESSION_BUS_ADDRESS").unwrap_or_else(|| {
            let directory = variable("XDG_RUNTIME_DIR")
                .unwrap_or_else(|| format!("/run/user/{}", rustix::process::geteuid().as_raw()).into());
            format!("unix:path={}/bus", escape(directory.as_bytes()))
        }),
    }
}

/// What would end the path in an address, and what is no ASCII, is written as %XX.
fn escape(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for &byte in path {
        match byte {
            b'%' | b',' | b';' | 0x80.. => out.push_str(&format!("%{byte:02x}")),
            byte => out.push(byte as char),
        }
    }
    out
}

#[cfg(test)]
mod tests;
