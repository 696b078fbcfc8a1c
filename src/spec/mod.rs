//! config.json as written: the structs of OCI runtime-spec 1.3 for Linux, nothing checked and nothing filled in.
//!
//! What the values mean, which are missing and which contradict each other is [`crate::plan`]'s to say.

pub mod example;
#[cfg(test)]
pub mod generate;
pub mod json;
mod linux;
pub mod load;
#[cfg(test)]
mod oracle;
mod resources;
mod seccomp;

pub use json::{Dict, List, Str, Unknown};
pub use linux::*;
pub use resources::*;
pub use seccomp::*;

use crate::spec_struct;

/// The version of the runtime specification that hull implements.
pub const VERSION: &str = "1.3.0";

/// What the annotations begin with that ask for Landlock (docs/landlock.md).
pub const LANDLOCK: &str = "io.hull.landlock.";

impl Spec<'_> {
    /// Whether any of the annotations asks for Landlock.
    pub fn asks_for_landlock(&self) -> bool {
        self.annotations.iter().any(|(key, _)| key.starts_with(LANDLOCK))
    }
}

spec_struct! {
    /// config.json (config.md).
    Spec {
        /// The version of the specification that the config follows.
        oci_version "ociVersion": Option<Str<'a>>,
        /// The root file system.
        root "root": Option<Root<'a>>,
        /// Mounts, in order.
        mounts "mounts": List<Mount<'a>>,
        /// The program; absent: there is nothing to start.
        process "process": Option<Process<'a>>,
        /// Host name.
        hostname "hostname": Option<Str<'a>>,
        /// NIS domain name.
        domainname "domainname": Option<Str<'a>>,
        /// Hooks of all six kinds.
        hooks "hooks": Option<Hooks<'a>>,
        /// Free text for engines.
        annotations "annotations": Dict<'a, Str<'a>>,
        /// What is Linux's own.
        linux "linux": Option<Linux<'a>>,
    }
}

spec_struct! {
    /// The root file system (config.md#root).
    Root {
        /// Its directory, relative to the bundle.
        path "path": Option<Str<'a>>,
        /// Whether it is read-only inside.
        readonly "readonly": bool,
    }
}

spec_struct! {
    /// One mount (config.md#mounts).
    Mount {
        /// Where in the container.
        destination "destination": Option<Str<'a>>,
        /// What: a device, a file or directory of the host, or a word.
        source "source": Option<Str<'a>>,
        /// The file system, or `bind`.
        kind "type": Option<Str<'a>>,
        /// fstab-like options.
        options "options": List<Str<'a>>,
        /// Mapping of an idmapped mount.
        uid_mappings "uidMappings": List<IdMapping<'a>>,
        /// Mapping of an idmapped mount.
        gid_mappings "gidMappings": List<IdMapping<'a>>,
    }
}

spec_struct! {
    /// The program (config.md#process).
    Process {
        /// Whether it gets a terminal.
        terminal "terminal": bool,
        /// Size of that terminal.
        console_size "consoleSize": Option<ConsoleSize<'a>>,
        /// Working directory.
        cwd "cwd": Option<Str<'a>>,
        /// Environment.
        env "env": List<Str<'a>>,
        /// Program and arguments.
        args "args": List<Str<'a>>,
        /// Resource limits.
        rlimits "rlimits": List<Rlimit<'a>>,
        /// AppArmor profile.
        apparmor_profile "apparmorProfile": Option<Str<'a>>,
        /// The five capability sets; absent: none at all.
        capabilities "capabilities": Option<Capabilities<'a>>,
        /// PR_SET_NO_NEW_PRIVS.
        no_new_privileges "noNewPrivileges": bool,
        /// /proc/self/oom_score_adj; absent: unchanged.
        oom_score_adj "oomScoreAdj": Option<i64>,
        /// Scheduling policy.
        scheduler "scheduler": Option<Scheduler<'a>>,
        /// SELinux label of the program.
        selinux_label "selinuxLabel": Option<Str<'a>>,
        /// I/O priority.
        io_priority "ioPriority": Option<IoPriority<'a>>,
        /// CPU affinity of exec'd processes.
        exec_cpu_affinity "execCPUAffinity": Option<ExecCpuAffinity<'a>>,
        /// Ids.
        user "user": Option<User<'a>>,
    }
}

spec_struct! {
    /// Size of the terminal, in characters.
    ConsoleSize {
        /// Rows.
        height "height": u64,
        /// Columns.
        width "width": u64,
    }
}

spec_struct! {
    /// One resource limit (setrlimit(2)).
    Rlimit {
        /// `RLIMIT_NOFILE` ...
        kind "type": Option<Str<'a>>,
        /// Soft limit.
        soft "soft": Option<u64>,
        /// Hard limit.
        hard "hard": Option<u64>,
    }
}

spec_struct! {
    /// Capability sets (capabilities(7)), as names.
    Capabilities {
        /// Bounding set.
        bounding "bounding": List<Str<'a>>,
        /// Effective set.
        effective "effective": List<Str<'a>>,
        /// Inheritable set.
        inheritable "inheritable": List<Str<'a>>,
        /// Permitted set.
        permitted "permitted": List<Str<'a>>,
        /// Ambient set.
        ambient "ambient": List<Str<'a>>,
    }
}

spec_struct! {
    /// Scheduling policy (sched_setattr(2)).
    Scheduler {
        /// `SCHED_OTHER` ...
        policy "policy": Option<Str<'a>>,
        /// Nice value.
        nice "nice": Option<i32>,
        /// Static priority.
        priority "priority": Option<i32>,
        /// `SCHED_FLAG_...`.
        flags "flags": List<Str<'a>>,
        /// SCHED_DEADLINE: nanoseconds.
        runtime "runtime": Option<u64>,
        /// SCHED_DEADLINE: nanoseconds.
        deadline "deadline": Option<u64>,
        /// SCHED_DEADLINE: nanoseconds.
        period "period": Option<u64>,
    }
}

spec_struct! {
    /// I/O priority (ioprio_set(2)).
    IoPriority {
        /// `IOPRIO_CLASS_...`.
        class "class": Option<Str<'a>>,
        /// Level, 0 (high) to 7.
        priority "priority": i32,
    }
}

spec_struct! {
    /// CPU affinity of exec'd processes.
    ExecCpuAffinity {
        /// CPUs before the cgroup is joined.
        initial "initial": Option<Str<'a>>,
        /// CPUs afterwards.
        last "final": Option<Str<'a>>,
    }
}

spec_struct! {
    /// The program's ids, as the container sees them.
    User {
        /// User id.
        uid "uid": u32,
        /// Group id.
        gid "gid": u32,
        /// File mode creation mask.
        umask "umask": Option<u32>,
        /// Supplementary groups.
        additional_gids "additionalGids": List<u32>,
        /// For Windows only: ignored.
        username "username": Option<Str<'a>>,
    }
}

spec_struct! {
    /// Hooks of all kinds (config.md#posix-platform-hooks).
    Hooks {
        /// Deprecated; as createRuntime, before it.
        prestart "prestart": List<Hook<'a>>,
        /// In the host's namespaces, before pivot_root.
        create_runtime "createRuntime": List<Hook<'a>>,
        /// In the container's namespaces, before pivot_root.
        create_container "createContainer": List<Hook<'a>>,
        /// In the container, before the program.
        start_container "startContainer": List<Hook<'a>>,
        /// On the host, after the program started.
        poststart "poststart": List<Hook<'a>>,
        /// On the host, after delete.
        poststop "poststop": List<Hook<'a>>,
    }
}

spec_struct! {
    /// One hook.
    Hook {
        /// The program, absolute.
        path "path": Option<Str<'a>>,
        /// Its argv, the first included.
        args "args": List<Str<'a>>,
        /// Its environment; absent: hull's own.
        env "env": Option<List<Str<'a>>>,
        /// Seconds until it is killed.
        timeout "timeout": Option<i64>,
    }
}
