//! An outer seccomp filter around the runtime, as a nested host has one: it answers ENOSYS or EPERM to some calls.
//!
//! `HULL_TEST_DENY=openat2:ENOSYS` does so in every case of the suite. The suite starts the runtime by way of itself
//! (`integration --deny CALLS RUNTIME ARGUMENT...`), which installs the filter and then executes the runtime.

use std::collections::BTreeMap;
use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// The first argument of a suite that is only the launcher.
pub const OPTION: &str = "--deny";

/// What a nested host's profile may refuse, call by call in groups.
pub fn groups() -> Vec<&'static str> {
    include_str!("calls.txt").lines().filter_map(|line| line.strip_prefix("deny ")).collect()
}

/// Installs the filter that the second argument asks for, and becomes the program that the others name.
pub fn launch() -> ExitCode {
    let args: Vec<_> = env::args_os().skip(2).collect();
    let Err(error) = (|| -> Result<()> {
        let [calls, program, rest @ ..] = args.as_slice() else { bail!("usage: {OPTION} CALLS:ERRNO PROGRAM...") };
        install(calls.to_str().context("calls are text")?)?;
        Err(Command::new(program).args(rest).exec()).context("execute the runtime")
    })() else {
        return ExitCode::FAILURE;
    };
    eprintln!("{error:#}");
    ExitCode::from(125)
}

fn install(denied: &str) -> Result<()> {
    let (calls, errno) = denied.split_once(':').context("CALLS:ERRNO")?;
    let errno = match errno {
        "ENOSYS" => libc::ENOSYS,
        "EPERM" => libc::EPERM,
        other => bail!("{other} is neither ENOSYS nor EPERM"),
    };
    let rules: BTreeMap<i64, _> =
        calls.split(',').map(|call| Ok((number(call)?, Vec::new()))).collect::<Result<_>>()?;
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        TargetArch::try_from(env::consts::ARCH)?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    // seccompiler's own loader sets no_new_privs, which a container would then have without asking.
    // And it kills programs of other architectures, which a nested host lets run.
    let allowed = |k| if k == libc::SECCOMP_RET_KILL_PROCESS { libc::SECCOMP_RET_ALLOW } else { k };
    let program: Vec<hull::plan::seccomp::SockFilter> = program
        .iter()
        .map(|line| hull::plan::seccomp::SockFilter { code: line.code, jt: line.jt, jf: line.jf, k: allowed(line.k) })
        .collect();
    if !rustix::process::geteuid().is_root() {
        rustix::thread::set_no_new_privs(true)?;
    }
    hull::sys::seccomp::load(&program, 0).context("install the filter")?;
    Ok(())
}

fn number(call: &str) -> Result<i64> {
    Ok(match call {
        "accept4" => libc::SYS_accept4,
        "add_key" => libc::SYS_add_key,
        "bpf" => libc::SYS_bpf,
        "clone3" => libc::SYS_clone3,
        "close_range" => libc::SYS_close_range,
        "copy_file_range" => libc::SYS_copy_file_range,
        "eventfd2" => libc::SYS_eventfd2,
        "execveat" => libc::SYS_execveat,
        "faccessat2" => libc::SYS_faccessat2,
        "fsconfig" => libc::SYS_fsconfig,
        "fsmount" => libc::SYS_fsmount,
        "fsopen" => libc::SYS_fsopen,
        "fspick" => libc::SYS_fspick,
        "getrandom" => libc::SYS_getrandom,
        "keyctl" => libc::SYS_keyctl,
        "landlock_create_ruleset" => libc::SYS_landlock_create_ruleset,
        "memfd_create" => libc::SYS_memfd_create,
        "mount_setattr" => libc::SYS_mount_setattr,
        "move_mount" => libc::SYS_move_mount,
        "open_tree" => libc::SYS_open_tree,
        "openat2" => libc::SYS_openat2,
        "pidfd_getfd" => libc::SYS_pidfd_getfd,
        "pidfd_open" => libc::SYS_pidfd_open,
        "pidfd_send_signal" => libc::SYS_pidfd_send_signal,
        "pipe2" => libc::SYS_pipe2,
        "prlimit64" => libc::SYS_prlimit64,
        "request_key" => libc::SYS_request_key,
        "rseq" => libc::SYS_rseq,
        "sched_setattr" => libc::SYS_sched_setattr,
        "seccomp" => libc::SYS_seccomp,
        "sendfile" => libc::SYS_sendfile,
        "set_robust_list" => libc::SYS_set_robust_list,
        "signalfd4" => libc::SYS_signalfd4,
        "statx" => libc::SYS_statx,
        other => bail!("{other}: a call that no test denies"),
    })
}
