//! The journal of failures: what is left of a container that an engine has deleted. `hull why` reads it.
//!
//! One file in the directory of all containers, a line of JSON for each failure of a verb and each death that hull saw. It is
//! written only then. It is bounded in length and age, and mode 0600. Its name is no container's, since an id has no `@`.
//! Writing it never fails a command, and it is not written where the directory is another user's: what lies there is his.

use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock, fstat, open, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::digest::sha256;
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::lifecycle::death::Death;
use crate::spec::load::Text;

/// The file.
pub const NAME: &str = "@why";
/// Above this the older half goes.
const MOST_BYTES: u64 = 256 << 10;
/// Nobody asks any more.
const MOST_AGE: u64 = 7 * 24 * 3600;
/// A sentence may have the last words of a hook in it, and ends here.
const MOST_SENTENCE: usize = 4096;
/// Another hull writes a line, and no more.
const PATIENCE: Duration = Duration::from_millis(200);

/// One failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// RFC 3339, UTC.
    pub time: String,
    /// The same in seconds since the epoch.
    pub seconds: u64,
    /// The verb.
    pub verb: String,
    /// The container.
    pub id: String,
    /// The error's code; none: the program has died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The sentence, as the engine got it.
    pub message: String,
    /// The program's exit status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    /// How many processes its memory limit had killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// The share of the last ten seconds, in percent, in which something on the host waited for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
    /// SHA-256 of config.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// Pressure stall information of the host (Documentation/accounting/psi.rst): `some`, avg10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// CPU.
    pub cpu: f64,
    /// Memory.
    pub memory: f64,
    /// I/O.
    pub io: f64,
}

/// Notes the failure of a verb. What the caller has only asked wrongly is none.
pub fn failure(root: &Path, verb: &str, id: &str, error: &Error, config: Option<&Text>) {
    if matches!(error.step, Step::Usage | Step::Status | Step::Missing) {
        return;
    }
    note(root, Entry { code: Some(error.step.code().into()), ..entry(verb, id, &error.to_string(), config) });
}

/// Notes the death of a program.
pub fn death(root: &Path, verb: &str, id: &str, status: i32, death: &Death, config: &Text) {
    let entry = entry(verb, id, &death.sentence, Some(config));
    note(root, Entry { status: Some(status), oom_kills: death.oom_kills, ..entry });
}

fn entry(verb: &str, id: &str, message: &str, config: Option<&Text>) -> Entry {
    let since = now();
    let end = message.char_indices().map(|(at, _)| at).find(|at| *at >= MOST_SENTENCE).unwrap_or(message.len());
    Entry {
        time: crate::log::rfc3339(since, false),
        seconds: since.as_secs(),
        verb: verb.into(),
        id: id.into(),
        code: None,
        message: message[..end].into(),
        status: None,
        oom_kills: None,
        pressure: pressure(),
        config: config.map(|text| sha256(text.0.as_bytes())),
    }
}

/// The time of day is only written down, and compared with what was.
fn now() -> Duration {
    crate::log::since_epoch()
}

fn pressure() -> Option<Pressure> {
    let share = |what: &str| {
        let text = std::fs::read_to_string(format!("/proc/pressure/{what}")).ok()?;
        text.split_whitespace().find_map(|word| word.strip_prefix("avg10=")?.parse().ok())
    };
    Some(Pressure { cpu: share("cpu")?, memory: share("memory")?, io: share("io")? })
}

fn note(root: &Path, entry: Entry) {
    // Nobody is helped by an error here.
    let _ = append(root, &entry);
}

fn append(root: &Path, entry: &Entry) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(root, flags, Mode::empty())?;
    let own = rustix::process::geteuid().as_raw();
    let stat = fstat(&directory)?;
    if stat.st_uid != own || stat.st_mode & 0o022 != 0 && stat.st_mode & 0o1000 == 0 {
        return Err(Errno::PERM.into());
    }
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(openat(&directory, NAME, flags, Mode::from_raw_mode(0o600))?);
    let stat = fstat(&file)?;
    // A link that somebody else has put there leads to a file that is no journal.
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_uid != own || stat.st_nlink != 1 {
        return Err(Errno::PERM.into());
    }
    lock(&file)?;
    if stat.st_size as u64 > MOST_BYTES {
        shorten(&mut file)?;
    }
    let mut line = serde_json::to_string(entry)?;
    line.push('\n');
    file.write_all(line.as_bytes())
}

fn lock(file: impl AsFd) -> rustix::io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                crate::sys::process::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

/// Keeps the younger half, of what is not too old.
fn shorten(file: &mut std::fs::File) -> std::io::Result<()> {
    let bytes = tail(file)?;
    let entries = parse(&bytes);
    let half = &bytes[bytes.len() - (MOST_BYTES as usize / 2).min(bytes.len())..];
    let kept = parse(half).len().min(entries.len());
    let mut text = String::new();
    for entry in &entries[entries.len() - kept..] {
        text += &serde_json::to_string(entry)?;
        text.push('\n');
    }
    file.set_len(0)?;
    file.write_all(text.as_bytes())
}

/// The end of the file, which may be longer than hull makes it.
fn tail(file: &mut std::fs::File) -> std::io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(std::io::SeekFrom::Start(length.saturating_sub(MOST_BYTES * 2)))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES * 2).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The entries of a file that anybody may have spoilt: what is no entry is passed over.
fn parse(bytes: &[u8]) -> Vec<Entry> {
    let young = now().as_secs().saturating_sub(MOST_AGE);
    let entries = crate::bytes::lines(bytes).filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
    entries.filter(|entry| entry.seconds >= young).collect()
}

/// What happened, the oldest first; of one container, or of all.
pub fn read(root: &Path, id: Option<&str>) -> Result<Vec<Entry>> {
    let path: PathBuf = root.join(NAME);
    let subject = || format!("read the journal {}", show(&path));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open(&path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        file => file.err_at(Step::State, "open", subject)?,
    };
    let stat = fstat(&file).err_at(Step::State, "fstat", subject)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::host(Step::State, format!("{}: it is no regular file", subject())));
    }
    let bytes = tail(&mut file.into()).err_at(Step::State, "read", subject)?;
    Ok(parse(&bytes).into_iter().filter(|entry| id.is_none_or(|id| entry.id == id)).collect())
}
