//! config.json /linux/resources (config-linux.md#control-groups).

use super::json::{Dict, List, Str};
use crate::spec_struct;

spec_struct! {
    /// Limits of the container's cgroup.
    Resources {
        /// Device rules, in order.
        devices "devices": List<DeviceRule<'a>>,
        /// Memory.
        memory "memory": Option<Memory<'a>>,
        /// CPU time and placement.
        cpu "cpu": Option<Cpu<'a>>,
        /// Number of processes.
        pids "pids": Option<Pids<'a>>,
        /// Block I/O.
        block_io "blockIO": Option<BlockIo<'a>>,
        /// Huge pages.
        hugepage_limits "hugepageLimits": List<HugepageLimit<'a>>,
        /// net_cls and net_prio, v1 only.
        network "network": Option<Network<'a>>,
        /// RDMA, by device.
        rdma "rdma": Dict<'a, Rdma<'a>>,
        /// cgroup v2 files, written as they are.
        unified "unified": Dict<'a, Str<'a>>,
    }
}

spec_struct! {
    /// One device rule.
    DeviceRule {
        /// Allowed or denied.
        allow "allow": bool,
        /// `a`, `c`, `b`; absent or empty: all.
        kind "type": Option<Str<'a>>,
        /// Absent or -1: any.
        major "major": Option<i64>,
        /// Absent or -1: any.
        minor "minor": Option<i64>,
        /// Of `rwm`.
        access "access": Option<Str<'a>>,
    }
}

spec_struct! {
    /// Memory limits, in bytes; -1: none.
    Memory {
        /// Limit.
        limit "limit": Option<i64>,
        /// Soft limit.
        reservation "reservation": Option<i64>,
        /// Memory and swap together.
        swap "swap": Option<i64>,
        /// No effect on today's kernels.
        kernel "kernel": Option<i64>,
        /// No effect on today's kernels.
        kernel_tcp "kernelTCP": Option<i64>,
        /// 0 to 100, v1 only.
        swappiness "swappiness": Option<u64>,
        /// v1 only.
        disable_oom_killer "disableOOMKiller": Option<bool>,
        /// v1 only.
        use_hierarchy "useHierarchy": Option<bool>,
        /// Refuse a limit that is below the present use.
        check_before_update "checkBeforeUpdate": Option<bool>,
    }
}

spec_struct! {
    /// CPU time and placement.
    Cpu {
        /// Relative weight, 2 to 262144.
        shares "shares": Option<u64>,
        /// Microseconds a period; -1: no limit.
        quota "quota": Option<i64>,
        /// Microseconds that may be saved up.
        burst "burst": Option<u64>,
        /// Microseconds.
        period "period": Option<u64>,
        /// v1 only.
        realtime_runtime "realtimeRuntime": Option<i64>,
        /// v1 only.
        realtime_period "realtimePeriod": Option<u64>,
        /// `0-3,7`.
        cpus "cpus": Option<Str<'a>>,
        /// `0-1`.
        mems "mems": Option<Str<'a>>,
        /// 1: SCHED_IDLE for the group.
        idle "idle": Option<i64>,
    }
}

spec_struct! {
    /// Number of processes.
    Pids {
        /// -1: no limit.
        limit "limit": Option<i64>,
    }
}

spec_struct! {
    /// Block I/O.
    BlockIo {
        /// 10 to 1000.
        weight "weight": Option<u16>,
        /// v1 only.
        leaf_weight "leafWeight": Option<u16>,
        /// By device.
        weight_device "weightDevice": List<WeightDevice<'a>>,
        /// Bytes a second.
        throttle_read_bps_device "throttleReadBpsDevice": List<ThrottleDevice<'a>>,
        /// Bytes a second.
        throttle_write_bps_device "throttleWriteBpsDevice": List<ThrottleDevice<'a>>,
        /// Operations a second.
        throttle_read_iops_device "throttleReadIOPSDevice": List<ThrottleDevice<'a>>,
        /// Operations a second.
        throttle_write_iops_device "throttleWriteIOPSDevice": List<ThrottleDevice<'a>>,
    }
}

spec_struct! {
    /// Weight of one device.
    WeightDevice {
        /// Major number.
        major "major": i64,
        /// Minor number.
        minor "minor": i64,
        /// 10 to 1000.
        weight "weight": Option<u16>,
        /// v1 only.
        leaf_weight "leafWeight": Option<u16>,
    }
}

spec_struct! {
    /// Rate of one device.
    ThrottleDevice {
        /// Major number.
        major "major": i64,
        /// Minor number.
        minor "minor": i64,
        /// A second.
        rate "rate": u64,
    }
}

spec_struct! {
    /// Limit of one size of huge pages.
    HugepageLimit {
        /// `2MB`, `1GB` ...
        page_size "pageSize": Option<Str<'a>>,
        /// Bytes.
        limit "limit": u64,
    }
}

spec_struct! {
    /// net_cls and net_prio.
    Network {
        /// Class id.
        class_id "classID": Option<u32>,
        /// Priorities by interface.
        priorities "priorities": List<InterfacePriority<'a>>,
    }
}

spec_struct! {
    /// Priority of one interface.
    InterfacePriority {
        /// Interface.
        name "name": Option<Str<'a>>,
        /// Priority.
        priority "priority": u32,
    }
}

spec_struct! {
    /// Limits of one RDMA device.
    Rdma {
        /// Handles.
        hca_handles "hcaHandles": Option<u32>,
        /// Objects.
        hca_objects "hcaObjects": Option<u32>,
    }
}
