//! The `linux` part of config.json (config-linux.md), without resources and seccomp.

use super::json::{Dict, List, Str};
use super::{Resources, Seccomp};
use crate::spec_struct;

spec_struct! {
    /// config.json /linux.
    Linux {
        /// User mappings of a new user namespace.
        uid_mappings "uidMappings": List<IdMapping<'a>>,
        /// Group mappings of a new user namespace.
        gid_mappings "gidMappings": List<IdMapping<'a>>,
        /// Kernel parameters.
        sysctl "sysctl": Dict<'a, Str<'a>>,
        /// Limits.
        resources "resources": Option<Resources<'a>>,
        /// Where in the cgroup tree.
        cgroups_path "cgroupsPath": Option<Str<'a>>,
        /// Namespaces, made or joined.
        namespaces "namespaces": List<Namespace<'a>>,
        /// Device nodes.
        devices "devices": List<Device<'a>>,
        /// Network devices to move, by their name on the host.
        net_devices "netDevices": Dict<'a, NetDevice<'a>>,
        /// The system call filter.
        seccomp "seccomp": Option<Seccomp<'a>>,
        /// Propagation of the root mount.
        rootfs_propagation "rootfsPropagation": Option<Str<'a>>,
        /// Paths that cannot be read.
        masked_paths "maskedPaths": List<Str<'a>>,
        /// Paths that cannot be written.
        readonly_paths "readonlyPaths": List<Str<'a>>,
        /// SELinux label of mounts.
        mount_label "mountLabel": Option<Str<'a>>,
        /// Cache and memory bandwidth allocation.
        intel_rdt "intelRdt": Option<IntelRdt<'a>>,
        /// NUMA memory policy.
        memory_policy "memoryPolicy": Option<MemoryPolicy<'a>>,
        /// Execution domain.
        personality "personality": Option<Personality<'a>>,
        /// Clock offsets of a new time namespace, by clock.
        time_offsets "timeOffsets": Dict<'a, TimeOffset<'a>>,
    }
}

spec_struct! {
    /// One line of a user namespace's map (user_namespaces(7)).
    IdMapping {
        /// First id inside.
        container_id "containerID": u32,
        /// First id outside.
        host_id "hostID": u32,
        /// How many.
        size "size": u32,
    }
}

spec_struct! {
    /// One namespace.
    Namespace {
        /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup`, `time`.
        kind "type": Option<Str<'a>>,
        /// Joined by this path; absent: made.
        path "path": Option<Str<'a>>,
    }
}

spec_struct! {
    /// One device node.
    Device {
        /// Where in the container.
        path "path": Option<Str<'a>>,
        /// `c`, `b`, `u` or `p`.
        kind "type": Option<Str<'a>>,
        /// Major number.
        major "major": Option<i64>,
        /// Minor number.
        minor "minor": Option<i64>,
        /// Permission bits.
        file_mode "fileMode": Option<u32>,
        /// Owner.
        uid "uid": Option<u32>,
        /// Group.
        gid "gid": Option<u32>,
    }
}

spec_struct! {
    /// A network device that is moved into the container.
    NetDevice {
        /// Its name there; absent: the same.
        name "name": Option<Str<'a>>,
    }
}

spec_struct! {
    /// Intel RDT (config-linux.md#intelrdt).
    IntelRdt {
        /// Class of service.
        clos_id "closID": Option<Str<'a>>,
        /// Lines of the schemata file.
        schemata "schemata": List<Str<'a>>,
        /// L3 cache schema.
        l3_cache_schema "l3CacheSchema": Option<Str<'a>>,
        /// Memory bandwidth schema.
        mem_bw_schema "memBwSchema": Option<Str<'a>>,
        /// A monitoring group of its own.
        enable_monitoring "enableMonitoring": bool,
        /// Deprecated.
        enable_cmt "enableCMT": bool,
        /// Deprecated.
        enable_mbm "enableMBM": bool,
    }
}

spec_struct! {
    /// NUMA memory policy (set_mempolicy(2)).
    MemoryPolicy {
        /// `MPOL_...`.
        mode "mode": Option<Str<'a>>,
        /// Nodes, as `0-3,7`.
        nodes "nodes": Option<Str<'a>>,
        /// `MPOL_F_...`.
        flags "flags": List<Str<'a>>,
    }
}

spec_struct! {
    /// Execution domain (personality(2)).
    Personality {
        /// `LINUX` or `LINUX32`.
        domain "domain": Option<Str<'a>>,
        /// None is known yet.
        flags "flags": List<Str<'a>>,
    }
}

spec_struct! {
    /// Offset of one clock (time_namespaces(7)).
    TimeOffset {
        /// Seconds.
        secs "secs": i64,
        /// Nanoseconds.
        nanosecs "nanosecs": u32,
    }
}
