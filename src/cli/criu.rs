//! The options of checkpoint and restore.

use std::ffi::OsString;

use clap::ArgMatches;

use crate::error::{Error, Result};
use crate::lifecycle::CreateOptions;
use crate::lifecycle::checkpoint::{CGROUP_MODES, CheckpointOptions, CriuOptions};
use crate::lifecycle::restore::RestoreOptions;

/// checkpoint's.
pub fn checkpoint(matches: &ArgMatches) -> Result<CheckpointOptions> {
    let options = CheckpointOptions {
        criu: both(matches)?,
        leave_running: matches.get_flag("leave-running"),
        pre_dump: matches.get_flag("pre-dump"),
        parent: word(matches, "parent-path")?,
        page_server: word(matches, "page-server")?.map(|text| page_server(&text)).transpose()?,
        status_fd: word(matches, "status-fd")?.map(|text| status_fd(&text)).transpose()?,
    };
    if options.parent.as_deref().is_some_and(|path| path.starts_with('/')) {
        return Err(Error::usage("option --parent-path is relative to the image's directory"));
    }
    if options.criu.lazy_pages && options.page_server.is_none() {
        return Err(Error::usage("option --lazy-pages needs --page-server"));
    }
    Ok(options)
}

/// restore's.
pub fn restore(matches: &ArgMatches) -> Result<RestoreOptions> {
    let bundle = super::bundle(matches)?;
    let create = CreateOptions {
        id: super::id(matches)?,
        console_socket: super::path(matches, "console-socket").map(|socket| bundle.join(socket)),
        pid_file: super::path(matches, "pid-file"),
        pidfd_socket: super::path(matches, "pidfd-socket").map(|socket| bundle.join(socket)),
        no_pivot: matches.get_flag("no-pivot"),
        detach: matches.get_flag("detach"),
        no_subreaper: matches.get_flag("no-subreaper"),
        bundle,
        ..CreateOptions::default()
    };
    let mut criu = both(matches)?;
    criu.tcp_close = matches.get_flag("tcp-close");
    criu.lsm_profile = word(matches, "lsm-profile")?;
    criu.lsm_mount_context = word(matches, "lsm-mount-context")?;
    Ok(RestoreOptions { create, criu })
}

fn both(matches: &ArgMatches) -> Result<CriuOptions> {
    let flag = |name| matches.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or_default();
    let mode = matches.get_one::<String>("manage-cgroups-mode");
    let cgroups = mode.and_then(|mode| CGROUP_MODES.iter().find(|(name, _)| name == mode)).map(|(_, mode)| *mode);
    let empty_namespaces = match word(matches, "empty-ns")?.as_deref() {
        None => 0,
        Some("network") => i64::from(libc::CLONE_NEWNET),
        Some(other) => return Err(Error::usage(format!("option --empty-ns is network, not {other:?}"))),
    };
    Ok(CriuOptions {
        images: super::absolute(&super::path(matches, "image-path").unwrap_or_else(|| "checkpoint".into()))?,
        work: super::path(matches, "work-path").map(|path| super::absolute(&path)).transpose()?,
        tcp_established: flag("tcp-established"),
        tcp_skip_in_flight: flag("tcp-skip-in-flight"),
        link_remap: flag("link-remap"),
        ext_unix_sk: flag("ext-unix-sk"),
        shell_job: flag("shell-job"),
        lazy_pages: flag("lazy-pages"),
        file_locks: flag("file-locks"),
        auto_dedup: flag("auto-dedup"),
        cgroups,
        empty_namespaces,
        ..CriuOptions::default()
    })
}

fn word(matches: &ArgMatches, name: &str) -> Result<Option<String>> {
    let Some(word) = matches.get_one::<OsString>(name).filter(|word| !word.is_empty()) else { return Ok(None) };
    match word.to_str() {
        Some(word) => Ok(Some(word.to_owned())),
        None => Err(Error::usage(format!("option --{name} is text, not {word:?}"))),
    }
}

fn page_server(text: &str) -> Result<(String, u16)> {
    let parts = text.rsplit_once(':').and_then(|(address, port)| Some((address.to_owned(), port.parse().ok()?)));
    parts
        .filter(|(address, _)| !address.is_empty())
        .ok_or_else(|| Error::usage(format!("option --page-server is ADDRESS:PORT, not {text:?}")))
}

fn status_fd(text: &str) -> Result<i32> {
    let number = text.parse().ok().filter(|fd: &i32| *fd >= 0);
    number.ok_or_else(|| Error::usage(format!("option --status-fd is the number of a descriptor, not {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Verb, parse};

    fn verb(line: &str) -> std::result::Result<Verb, String> {
        let parsed = parse(std::iter::once("hull").chain(line.split_whitespace()).map(OsString::from));
        parsed.outcome.map(|invocation| invocation.verb).map_err(|refusal| refusal.error.to_string())
    }

    #[test]
    fn what_engines_call_is_understood() {
        let line = "checkpoint --image-path /i --work-path /w --leave-running --tcp-established --file-locks --parent-path ../p web";
        let Ok(Verb::Checkpoint { id, options }) = verb(line) else { panic!() };
        assert_eq!((id.as_str(), options.parent.as_deref(), options.leave_running), ("web", Some("../p"), true));
        assert_eq!((options.criu.images.to_str(), options.criu.work.is_some()), (Some("/i"), true));
        assert!(options.criu.tcp_established && options.criu.file_locks && !options.criu.tcp_close);
        let line = "--systemd-cgroup restore --bundle /b --pid-file /p --detach --image-path /i --work-path /w --tcp-close \
                    --lsm-profile=apparmor:x -no-subreaper --manage-cgroups-mode soft --empty-ns network web";
        let Ok(Verb::Restore(options)) = verb(line) else { panic!() };
        assert!(options.create.detach && options.create.no_subreaper && options.criu.tcp_close);
        assert_eq!(options.criu.lsm_profile.as_deref(), Some("apparmor:x"));
        assert_eq!((options.criu.cgroups, options.criu.empty_namespaces), (Some(3), 0x4000_0000));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, word) in [
            ("checkpoint --parent-path /abs web", "relative"),
            ("checkpoint --lazy-pages web", "--page-server"),
            ("checkpoint --page-server nowhere web", "ADDRESS:PORT"),
            ("checkpoint --status-fd x web", "descriptor"),
            ("checkpoint --empty-ns mount web", "network"),
            ("restore --manage-cgroups-mode some web", "soft"),
            ("restore --lsm-mount-context", "requires an argument"),
        ] {
            let error = verb(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
