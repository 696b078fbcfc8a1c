//! The plan: what will be done, pure data made from the spec, the host's facts and the options.
//!
//! Nothing here does I/O, reads a clock or holds a file descriptor. All errors of a config end here, before anything
//! is touched.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::host::HostFacts;
use crate::spec::{self, Spec};

use cgroup::Cgroup;
use devices::Devices;
use hooks::Hooks;
use idmap::IdMaps;
use intel_rdt::IntelRdt;
use landlock::Landlock;
use memory_policy::MemoryPolicy;
use mounts::Mount;
use namespaces::{Kind, Namespaces};
use netdev::NetDevice;
pub use options::{MAX_PRESERVED_FDS, Options};
use process::Process;
use rootfs::Rootfs;
use seccomp::Filter;
use sysctl::Sysctl;

pub mod affinity;
pub mod cgroup;
pub mod criu;
pub mod devices;
pub mod exec;
pub mod explain;
pub mod hooks;
pub mod idmap;
pub mod intel_rdt;
pub mod landlock;
pub mod memory_policy;
pub mod mounts;
pub mod namespaces;
pub mod netdev;
pub mod options;
pub mod order;
pub mod path;
pub mod process;
#[cfg(test)]
mod properties;
pub mod ranges;
pub mod rootfs;
pub mod script;
pub mod seccomp;
pub mod sysctl;

/// What will be done, in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The container's id.
    pub id: String,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// Which sync points are waited for.
    pub sync: SyncPoints,
    /// Where in the cgroup tree, and with which limits.
    pub cgroup: Cgroup,
    /// Which namespaces are made and joined.
    pub namespaces: Namespaces,
    /// The maps of a new user namespace.
    pub idmaps: Option<IdMaps>,
    /// Class of service and monitoring group of resctrl.
    pub intel_rdt: Option<IntelRdt>,
    /// Network devices that move into the container.
    pub net_devices: Vec<NetDevice>,
    /// Host name.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// The root file system, masked and read-only paths.
    pub rootfs: Rootfs,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Device nodes and links.
    pub devices: Devices,
    /// Hooks of all kinds.
    pub hooks: Hooks,
    /// Kernel parameters.
    pub sysctls: Vec<Sysctl>,
    /// --no-new-keyring.
    pub no_new_keyring: bool,
    /// NUMA memory policy.
    pub memory_policy: Option<MemoryPolicy>,
    /// The program.
    pub process: Process,
    /// Descriptors from 3 on that the program keeps.
    pub preserve_fds: u32,
    /// The only paths that the program may use.
    pub landlock: Option<Landlock>,
    /// The system call filter.
    pub seccomp: Option<Filter>,
    /// config.json's annotations.
    pub annotations: Vec<(String, String)>,
    /// The user namespace is not config.json's: --userns self.
    pub userns_self: bool,
    /// The state has a directory for a notify socket.
    pub notify: bool,
    /// What is worth a warning.
    pub notes: Vec<String>,
    /// What engines send with every container and nobody can act on: for who looks for a fault.
    pub asides: Vec<String>,
}

/// The sync points that this plan needs; Ready and Created always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncPoints {
    /// init waits for its maps, for a cgroup that it could not be cloned into, or to learn its number for its hooks.
    pub mapped: bool,
    /// init was cloned into its cgroup, and waits there for the device rules before it touches what others may have changed.
    pub device_rules: bool,
    /// setup waits for init's namespaces, to clone the sources that init cannot reach and to move network devices.
    pub namespaces_ready: bool,
    /// init waits for prestart and createRuntime hooks, and before createContainer hooks for the limits.
    pub hooks: bool,
}

impl SyncPoints {
    /// What holds where the kernel, or a filter, did not let init be cloned into its cgroup: it waits to be put there.
    pub fn outside(self) -> SyncPoints {
        SyncPoints { mapped: true, device_rules: false, ..self }
    }
}

impl Plan {
    /// Makes the plan; every error of a config ends here.
    pub fn new(spec: &Spec<'_>, host: &HostFacts, options: &Options) -> Result<Plan> {
        let with_own;
        let spec = if options.userns_self {
            with_own = idmap::with_own_namespace(spec, host)?;
            &with_own
        } else {
            spec
        };
        let linux = spec.linux.as_ref();
        let (mut notes, mut asides) = (Vec::new(), Vec::new());
        version(spec, &mut notes)?;
        let namespaces = Namespaces::new(linux)?;
        let idmaps = IdMaps::new(linux, &namespaces, host, &mut notes)?;
        for (name, value) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
            let Some(value) = value.as_deref().filter(|value| !value.is_empty()) else { continue };
            if !namespaces.own(Kind::Uts) {
                return Err(Error::spec(format!("/{name}"), "needs a uts namespace in /linux/namespaces"));
            }
            if value.len() > 64 || value.contains('\0') {
                return Err(Error::spec(format!("/{name}"), "must be at most 64 bytes long, without a NUL"));
            }
        }
        if spec.annotations.iter().any(|(key, _)| key.is_empty()) {
            return Err(Error::spec("/annotations", "a key is empty"));
        }
        let name = |text: &Option<spec::Str<'_>>| text.as_deref().filter(|t| !t.is_empty()).map(str::to_owned);
        // Without a mount namespace of its own the directory would be mounted on the host.
        let notify = options.notify.as_deref().filter(|_| namespaces.own(Kind::Mount));
        let mut process = Process::new(spec, &namespaces, idmaps.as_ref(), host, options, (&mut notes, &mut asides))?;
        process::fits_execve(&process)?;
        let cgroup = Cgroup::new(spec, host, options)?;
        notes.extend(cgroup.notes.iter().cloned());
        let summary = namespaces.summary();
        let rootfs = Rootfs::new(spec, options, &summary)?;
        let mut mounts = mounts::plan(spec, host, options, &summary, &cgroup.own())?;
        // What lies in the container's own mount on the host is its own, too.
        let own = namespaces::NamespacesSummary { new_mount: summary.new_mount || rootfs.on_host, ..summary };
        let devices = devices::plan(spec, &own, &mounts, host.in_user_namespace)?;
        notes.extend(mounts.notes.iter().chain(&devices.notes).cloned());
        asides.extend(mounts.asides.iter().cloned());
        if let Some(directory) = notify {
            mounts.mounts.push(mounts::notify(spec.mounts.len(), directory, &rootfs));
            process.notify_socket(&format!("{}/{}", mounts::NOTIFY_DESTINATION, mounts::NOTIFY_SOCKET));
        }
        let hooks = Hooks::new(spec)?;
        let sysctls = sysctl::plan(spec, &namespaces, &mut notes)?;
        let fail_unknown = spec.annotations.get(seccomp::FAIL_UNKNOWN_ANNOTATION).is_some_and(|value| &**value == "1");
        let context = seccomp::Context { audit_arch: host.audit_arch, fail_unknown };
        let seccomp = linux.and_then(|l| l.seccomp.as_ref()).map(|s| seccomp::compile(s, &context)).transpose()?;
        let seccomp = match options.record {
            Some(mark) => Some(seccomp::record::filter(seccomp, mark, &context)?),
            None => seccomp,
        };
        notes.extend(seccomp.iter().flat_map(|filter| filter.notes.iter().cloned()));
        let memory_policy = linux.and_then(|l| l.memory_policy.as_ref()).map(memory_policy::plan).transpose()?;
        let landlock = landlock::plan(spec, host)?;
        let intel_rdt = linux
            .and_then(|l| l.intel_rdt.as_ref())
            .map(|rdt| intel_rdt::plan(rdt, host.resctrl.as_ref(), options))
            .transpose()?;
        let net_devices = netdev::plan(linux, &namespaces)?;
        let mapped = idmaps.is_some() || cgroup.joined_by_write() || hooks.in_init();
        let sync = SyncPoints {
            mapped,
            device_rules: !mapped && cgroup.devices.is_some(),
            namespaces_ready: namespaces.own(Kind::User)
                || !net_devices.is_empty()
                || mounts.mounts.iter().any(|mount| mount.idmap.is_some()),
            hooks: hooks.before_pivot(),
        };
        Ok(Plan {
            id: options.id.clone(),
            bundle: options.bundle.clone(),
            sync,
            cgroup,
            namespaces,
            idmaps,
            intel_rdt,
            net_devices,
            hostname: name(&spec.hostname),
            domainname: name(&spec.domainname),
            rootfs,
            mounts: mounts.mounts,
            devices,
            hooks,
            sysctls,
            no_new_keyring: options.no_new_keyring,
            memory_policy,
            landlock,
            process,
            preserve_fds: options.preserve_fds,
            seccomp,
            annotations: spec.annotations.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            userns_self: options.userns_self,
            notify: notify.is_some(),
            notes,
            asides,
        })
    }

    /// The ids that init takes in its user namespace, new or joined; None: it stays what setup is.
    pub fn root_ids(&self) -> Option<(u32, u32)> {
        match &self.idmaps {
            Some(maps) => Some(maps.root()),
            None if self.namespaces.joins(Kind::User) => Some((0, 0)),
            None => None,
        }
    }

    /// Whether init writes to /proc: kernel parameters or labels.
    pub fn needs_procfs(&self) -> bool {
        !self.sysctls.is_empty() || self.process.apparmor_profile.is_some() || self.process.selinux_label.is_some()
    }
}

/// 1.x, with or without a suffix. `v1.0.2` and `1.0` are no semantic versions, but can mean one only.
fn version(spec: &Spec<'_>, notes: &mut Vec<String>) -> Result<()> {
    let Some(version) = &spec.oci_version else { return Err(Error::spec("/ociVersion", "missing")) };
    let bare = version.strip_prefix('v').unwrap_or(version);
    let numbers: Vec<&str> = bare.split(['-', '+']).next().unwrap_or_default().split('.').collect();
    if !(2..=3).contains(&numbers.len()) || numbers.iter().any(|n| n.parse::<u32>().is_err()) {
        return Err(Error::spec(
            "/ociVersion",
            format_args!("{:?} is no version such as {}", &**version, spec::VERSION),
        ));
    }
    if numbers[0] != "1" {
        let what = format!("{:?} is not supported: hull implements {}", &**version, spec::VERSION);
        return Err(Error::spec("/ociVersion", what).hint("every 1.x is taken, such as 1.0.2"));
    }
    if numbers.len() < 3 || bare.len() < version.len() {
        notes.push(format!("config.json: /ociVersion: {:?} is no semantic version, taken as 1.x", &**version));
    }
    Ok(())
}
