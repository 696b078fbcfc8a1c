//! The options of checkpoint and restore.

use super::argv::Line;
use crate::error::{Error, Result};
use crate::lifecycle::CreateOptions;
use crate::lifecycle::checkpoint::{CGROUP_MODES, CheckpointOptions, CriuOptions};
use crate::lifecycle::restore::RestoreOptions;

/// checkpoint's.
pub fn checkpoint(line: &Line) -> Result<CheckpointOptions> {
    let options = CheckpointOptions {
        criu: both(line)?,
        leave_running: line.on("leave-running"),
        pre_dump: line.on("pre-dump"),
        parent: word(line, "parent-path")?,
        page_server: word(line, "page-server")?.map(|text| page_server(&text)).transpose()?,
        status_fd: word(line, "status-fd")?.map(|text| status_fd(&text)).transpose()?,
    };
    if options.parent.as_deref().is_some_and(|path| path.starts_with('/')) {
        return Err(Error::usage("option --parent-path must be relative to the image's directory"));
    }
    if options.criu.lazy_pages && options.page_server.is_none() {
        return Err(Error::usage("option --lazy-pages needs --page-server"));
    }
    Ok(options)
}

/// restore's.
pub fn restore(line: &Line) -> Result<RestoreOptions> {
    let bundle = super::bundle(line)?;
    let create = CreateOptions {
        id: super::id(line)?,
        console_socket: line.path("console-socket").map(|socket| bundle.join(socket)),
        pid_file: line.path("pid-file"),
        pidfd_socket: line.path("pidfd-socket").map(|socket| bundle.join(socket)),
        no_pivot: line.on("no-pivot"),
        detach: line.on("detach"),
        no_subreaper: line.on("no-subreaper"),
        bundle,
        ..CreateOptions::default()
    };
    let mut criu = both(line)?;
    criu.tcp_close = line.on("tcp-close");
    criu.lsm_profile = word(line, "lsm-profile")?;
    criu.lsm_mount_context = word(line, "lsm-mount-context")?;
    Ok(RestoreOptions { create, criu })
}

fn both(line: &Line) -> Result<CriuOptions> {
    let mode = line.value("manage-cgroups-mode");
    let cgroups = mode.and_then(|mode| CGROUP_MODES.iter().find(|(name, _)| mode == *name)).map(|(_, mode)| *mode);
    let empty_namespaces = match word(line, "empty-ns")?.as_deref() {
        None => 0,
        Some("network") => i64::from(libc::CLONE_NEWNET),
        Some(other) => return Err(Error::usage(format!("option --empty-ns is network, not {other:?}"))),
    };
    Ok(CriuOptions {
        images: super::absolute(&line.path("image-path").unwrap_or_else(|| "checkpoint".into()))?,
        work: line.path("work-path").map(|path| super::absolute(&path)).transpose()?,
        tcp_established: line.on("tcp-established"),
        tcp_skip_in_flight: line.on("tcp-skip-in-flight"),
        link_remap: line.on("link-remap"),
        ext_unix_sk: line.on("ext-unix-sk"),
        shell_job: line.on("shell-job"),
        lazy_pages: line.on("lazy-pages"),
        file_locks: line.on("file-locks"),
        auto_dedup: line.on("auto-dedup"),
        cgroups,
        empty_namespaces,
        ..CriuOptions::default()
    })
}

fn word(line: &Line, name: &str) -> Result<Option<String>> {
    let Some(word) = line.value(name).filter(|word| !word.is_empty()) else { return Ok(None) };
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
    use std::ffi::OsString;

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
