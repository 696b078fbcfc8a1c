//! config.json /linux/seccomp (config-linux.md#seccomp).

use super::json::{List, Str};
use crate::spec_struct;

spec_struct! {
    /// The system call filter.
    Seccomp {
        /// What happens to a call that no rule names.
        default_action "defaultAction": Option<Str<'a>>,
        /// The errno of a default action SCMP_ACT_ERRNO; absent: EPERM.
        default_errno_ret "defaultErrnoRet": Option<u32>,
        /// `SCMP_ARCH_...`; empty: the native one.
        architectures "architectures": List<Str<'a>>,
        /// `SECCOMP_FILTER_FLAG_...`.
        flags "flags": Option<List<Str<'a>>>,
        /// The socket of an agent that answers SCMP_ACT_NOTIFY.
        listener_path "listenerPath": Option<Str<'a>>,
        /// Passed to that agent.
        listener_metadata "listenerMetadata": Option<Str<'a>>,
        /// Rules.
        syscalls "syscalls": List<SyscallRule<'a>>,
    }
}

spec_struct! {
    /// One rule.
    SyscallRule {
        /// Names of the calls.
        names "names": List<Str<'a>>,
        /// Old form of `names`, one only.
        name "name": Option<Str<'a>>,
        /// `SCMP_ACT_...`.
        action "action": Option<Str<'a>>,
        /// The errno of SCMP_ACT_ERRNO and SCMP_ACT_TRACE.
        errno_ret "errnoRet": Option<u32>,
        /// Conditions on arguments, all of which must hold.
        args "args": List<SyscallArg<'a>>,
    }
}

spec_struct! {
    /// One condition.
    SyscallArg {
        /// 0 to 5.
        index "index": u32,
        /// What it is compared with.
        value "value": u64,
        /// SCMP_CMP_MASKED_EQ: the value after the mask `value`.
        value_two "valueTwo": u64,
        /// `SCMP_CMP_...`.
        op "op": Option<Str<'a>>,
    }
}
