//! Reads the bundle's config.json, once, with bounds: a config is at most [`MAX_BYTES`] long and nests at most as deep
//! as serde_json allows (128), so hostile input ends in an error in bounded time and memory.

use std::io::Read;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use super::json::Trail;
use super::{Process, Resources, Seccomp, Spec, Unknown};
use crate::error::{Blame, ErrAt, Error, Result, Step, show};

/// The longest config.json that is read: 16 MiB. 10,000 mounts need less than 2.
pub const MAX_BYTES: u64 = 16 << 20;

/// The text of a config.json; the [`Spec`] borrows from it.
#[derive(Debug, Clone)]
pub struct Text(pub String);

/// Reads the file whole.
pub fn read(path: &Path) -> Result<Text> {
    // O_NONBLOCK: a FIFO in place of the file must not hang the reader.
    read_if(path, OFlags::NONBLOCK, |kind| kind == FileType::RegularFile)
}

/// Reads what the caller names for this one call, to its end: a pipe or a terminal, such as /dev/stdin, as well.
pub fn read_given(path: &Path) -> Result<Text> {
    read_if(path, OFlags::NOCTTY, |kind| {
        matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::CharacterDevice)
    })
}

fn read_if(path: &Path, flags: OFlags, takes: impl Fn(FileType) -> bool) -> Result<Text> {
    let subject = || format!("read {}", show(path));
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty())
        .err_at(Step::Spec, "open", subject)
        .map_err(|e| {
            if e.is(rustix::io::Errno::NOENT) {
                e.hint("a bundle holds a config.json; `hull spec` writes one").blame(Blame::Spec)
            } else {
                e
            }
        })?;
    let stat = rustix::fs::fstat(&fd).err_at(Step::Spec, "fstat", subject)?;
    if !takes(FileType::from_raw_mode(stat.st_mode)) {
        return Err(Error::host(Step::Spec, format!("{}: not a regular file", subject())).blame(Blame::Spec));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(MAX_BYTES as usize) + 1);
    std::fs::File::from(fd).take(MAX_BYTES + 1).read_to_end(&mut bytes).err_at(Step::Spec, "read", subject)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(
            Error::host(Step::Spec, format!("{}: longer than {} MiB", subject(), MAX_BYTES >> 20)).blame(Blame::Spec)
        );
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Text(text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            Err(Error::host(Step::Spec, format!("{}: invalid UTF-8 at byte {at}", subject())).blame(Blame::Spec))
        }
    }
}

/// Understands the text: the spec, and the properties that the specification does not have.
pub fn parse(text: &Text) -> Result<(Spec<'_>, Vec<Unknown>)> {
    Trail::reset();
    match serde_json::from_str::<Spec<'_>>(&text.0) {
        Ok(spec) => Ok((spec, Trail::take_unknown())),
        Err(error) => Err(Error::spec(Trail::pointer(), error)),
    }
}

/// Understands the limits of an update: the object that config.json has at /linux/resources, alone.
pub fn resources(text: &Text) -> Result<Resources<'_>> {
    Trail::reset();
    let parsed = serde_json::from_str(&text.0).map_err(|error| {
        Error::host(Step::Spec, format!("resources: {}: {error}", Trail::pointer())).blame(Blame::Spec)
    })?;
    let named = |unknown: &Unknown| unknown.to_string().replacen("config.json", "resources", 1);
    crate::log::warn_all(Trail::take_unknown().iter().map(named));
    Ok(parsed)
}

/// Understands the text of a process alone, as `exec --process` takes it; its errors and unknown properties name `file`.
pub fn parse_process<'a>(text: &'a Text, file: &str) -> Result<(Process<'a>, Vec<String>)> {
    Trail::reset();
    let named = |sentence: String| sentence.replacen("config.json", file, 1);
    match serde_json::from_str::<Process<'a>>(&text.0) {
        Ok(process) => Ok((process, Trail::take_unknown().iter().map(|unknown| named(unknown.to_string())).collect())),
        Err(error) => {
            let error = Error::spec(Trail::pointer(), error);
            Err(Error { subject: named(error.subject), ..error })
        }
    }
}

/// Understands a seccomp profile alone: the object that config.json has at /linux/seccomp. Its errors and unknown
/// properties name `file`.
pub fn parse_seccomp<'a>(text: &'a Text, file: &str) -> Result<(Seccomp<'a>, Vec<String>)> {
    Trail::reset();
    let named = |sentence: String| sentence.replacen("config.json", file, 1);
    let profile = serde_json::from_str::<Seccomp<'a>>(&text.0).map_err(|error| {
        let error = Error::spec(Trail::pointer(), error);
        Error { subject: named(error.subject), ..error }
    })?;
    let unknown = Trail::take_unknown();
    // An engine's own format looks alike, but what it means is known only when a container is made.
    let conditional = |pointer: &str| ["/archMap", "/includes", "/excludes"].iter().any(|end| pointer.ends_with(end));
    if let Some(unknown) = unknown.iter().find(|unknown| conditional(&unknown.pointer)) {
        let what = format!("{file}: {}: this is an engine's template, not what an engine makes of it", unknown.pointer);
        let hint = "explain the config.json of a container of that engine";
        return Err(Error::host(Step::Spec, what).blame(Blame::Spec).hint(hint));
    }
    Ok((profile, unknown.iter().map(|unknown| named(unknown.to_string())).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_type_names_its_place() {
        let text = Text(r#"{"process":{"user":{"uid":"root"}}}"#.into());
        let error = parse(&text).unwrap_err().to_string();
        assert!(
            error.starts_with("config.json: /process/user/uid: invalid type: string \"root\", expected u32"),
            "{error}"
        );
    }
}
