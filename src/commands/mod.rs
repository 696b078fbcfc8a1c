//! One file a verb, thin: options in, a call of [`crate::lifecycle`], text out.
//!
//! A verb does not print: it gives its text back, so that main writes it in one place and a stdout that is closed or
//! full is an error like any other.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::path::Path;

use rustix::fs::Mode;

use crate::cli::{Invocation, Verb};
use crate::error::{ErrAt, Error, Result, Step, show};
use crate::lifecycle::{Globals, journal};

pub mod check;
pub mod checkpoint;
pub mod create;
pub mod delete;
pub mod doctor;
pub mod events;
pub mod exec;
pub mod explain;
pub mod features;
pub mod kill;
pub mod list;
pub mod pause;
pub mod ps;
pub mod restore;
pub mod resume;
pub mod run;
pub mod seccomp;
pub mod spec;
pub mod start;
pub mod state;
pub mod stats;
pub mod timeline;
pub mod update;
pub mod version;
pub mod why;

/// What a verb that succeeded leaves to main.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// What goes to stdout.
    pub text: String,
    /// The exit status.
    pub status: i32,
}

impl From<String> for Done {
    fn from(text: String) -> Done {
        Done { text, status: 0 }
    }
}

/// Does what the command line says.
pub fn execute(invocation: Invocation) -> Result<Done> {
    let Invocation { globals, own_root, verb } = invocation;
    if own_root && matches!(verb, Verb::Create(_) | Verb::Run(_) | Verb::Restore(_) | Verb::SeccompRecord(_)) {
        make_own_root(&globals)?;
    }
    let noted = noted(&verb);
    let done = done(&globals, verb);
    if let (Err(error), Some((verb, id))) = (&done, noted) {
        journal::failure(&globals.root, verb, &id, error, None);
    }
    done
}

/// The verbs whose failure is kept with no more than its sentence; create, run, start and exec keep more.
fn noted(verb: &Verb) -> Option<(&'static str, String)> {
    let (verb, id) = match verb {
        Verb::Kill { id, .. } => ("kill", id),
        Verb::Delete { ids, .. } => ("delete", ids.first()?),
        Verb::Pause { id } => ("pause", id),
        Verb::Resume { id } => ("resume", id),
        Verb::Update { id, .. } => ("update", id),
        Verb::Checkpoint { id, .. } => ("checkpoint", id),
        Verb::Restore(options) => ("restore", &options.create.id),
        _ => return None,
    };
    Some((verb, id.clone()))
}

fn done(globals: &Globals, verb: Verb) -> Result<Done> {
    match verb {
        Verb::Create(options) => create::create(globals, &options),
        Verb::Exec(options) => exec::exec(globals, &options),
        Verb::Run(options) => run::run(globals, &options),
        Verb::Start { id } => start::start(globals, &id),
        Verb::State { id } => state::state(globals, &id),
        Verb::Kill { id, signal, all } => kill::kill(globals, &id, signal, all),
        Verb::Delete { ids, force } => delete::delete(globals, &ids, force),
        Verb::List { json, quiet, whole } => list::list(globals, json, quiet, whole),
        Verb::Pause { id } => pause::pause(globals, &id),
        Verb::Resume { id } => resume::resume(globals, &id),
        Verb::Events { id, interval, once } => events::events(globals, &id, interval, once),
        Verb::Stats { ids, json, interval, stream, whole } => {
            stats::stats(globals, &ids, json, interval, stream, whole)
        }
        Verb::Update { id, options } => update::update(globals, &id, &options),
        Verb::Ps { id, json, options } => ps::ps(globals, &id, json, options),
        Verb::Checkpoint { id, options } => checkpoint::checkpoint(globals, &id, &options),
        Verb::Restore(options) => restore::restore(globals, &options),
        Verb::Spec { bundle, rootless } => spec::spec(&bundle, rootless),
        Verb::Explain { bundle, config, userns_self, format } => {
            explain::explain(globals, &bundle, config.as_deref(), userns_self, format)
        }
        Verb::ExplainCode { code, json } => explain::code(&code, json),
        Verb::Check { bundle, config, json } => check::check(globals, &bundle, config.as_deref(), json),
        Verb::Timeline { file, svg } => timeline::timeline(&file, svg),
        Verb::Why { id, json } => why::why(globals, id.as_deref(), json),
        Verb::Doctor { json } => doctor::doctor(json),
        Verb::SeccompRecord(options) => seccomp::record(globals, &options),
        Verb::SeccompExplain(options) => seccomp::explain(&options),
        Verb::Features => features::features(),
        Verb::Help(text) => Ok(text.into()),
        Verb::Version { program } => Ok(version::version(&program).into()),
    }
}

/// Makes the state directory in the user's own runtime directory. Its sticky bit keeps what cleans that directory by
/// age from removing a long-lived container's state (XDG base directory specification, XDG_RUNTIME_DIR).
fn make_own_root(globals: &Globals) -> Result<()> {
    let root: &Path = &globals.root;
    match rustix::fs::mkdir(root, Mode::RWXU) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Ok(()),
        Err(errno) => {
            let error = Error::call(Step::State, "mkdir", errno, format!("state directory {}", show(root)));
            return Err(error.hint("it comes from XDG_RUNTIME_DIR; --root names another"));
        }
    }
    rustix::fs::chmod(root, Mode::RWXU | Mode::SVTX)
        .err_at(Step::State, "chmod", || format!("state directory {}", show(root)))
}

/// The width of the terminal that a table is for; None: a script reads it, or whole ids are asked for.
fn room(whole: bool) -> Option<usize> {
    let stdout = rustix::stdio::stdout();
    let size = rustix::termios::tcgetwinsize(stdout).ok().filter(|size| !whole && size.ws_col > 0)?;
    Some(usize::from(size.ws_col))
}

/// A table of texts: columns of at least `least`, so many blanks apart, the last one ragged. Ids, which are the first cells
/// below the title, are cut so far that all fits into the room.
fn table<const CELLS: usize>(
    mut rows: Vec<[String; CELLS]>,
    room: Option<usize>,
    blanks: usize,
    least: usize,
) -> String {
    let long = |rows: &[[String; CELLS]], at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let width = |rows: &[[String; CELLS]], at: usize| {
        if at + 1 == CELLS { long(rows, at) } else { (long(rows, at) + blanks).max(least) }
    };
    let wide = (0..CELLS).map(|at| width(&rows, at)).sum();
    fit(&mut rows, wide, room);
    let widths: [usize; CELLS] = std::array::from_fn(|at| width(&rows, at));
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(widths).take(CELLS - 1) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{cell:width$}");
        }
        text.push_str(&row[CELLS - 1]);
        text.push('\n');
    }
    text
}

/// Cuts the ids, which are the first cells behind the title, so far that rows of this width fit.
fn fit<const CELLS: usize>(rows: &mut [[String; CELLS]], wide: usize, room: Option<usize>) {
    /// An engine's ids are told apart by these.
    const LEAST: usize = 12;
    let longest = rows.iter().map(|row| row[0].len()).max().unwrap_or(0);
    let Some(over) = room.and_then(|room| wide.checked_sub(room)).filter(|over| *over > 0) else { return };
    let most = longest.saturating_sub(over).max(LEAST);
    for row in rows.iter_mut().filter(|row| row[0].len() > most) {
        row[0].truncate(most - 2);
        row[0] += "..";
    }
}

/// JSON of something that cannot fail to be JSON.
fn json(step: Step, result: serde_json::Result<String>) -> Result<String> {
    result.map(|text| text + "\n").map_err(|error| Error::bug(step, format!("write JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_explain_every_code_and_no_other() {
        let documented: Vec<_> = explain::rows().map(|row| row.code).collect();
        let whole = |row: explain::Row| [row.failed, row.cause, row.cure].iter().all(|cell| !cell.is_empty());
        assert!(explain::rows().all(whole));
        assert_eq!(documented, Step::ALL.map(Step::code));
    }

    #[test]
    fn the_users_own_root_is_made_once_and_sticky() {
        use std::os::unix::fs::PermissionsExt;
        let base = std::env::temp_dir().join(format!("hull-root-test-{}", std::process::id()));
        let globals = Globals { root: base.join("hull"), ..Globals::default() };
        let missing = make_own_root(&globals);
        std::fs::create_dir(&base).unwrap();
        let made = make_own_root(&globals).and_then(|()| make_own_root(&globals));
        let mode = std::fs::metadata(&globals.root).map(|stat| stat.permissions().mode() & 0o7777);
        std::fs::remove_dir_all(&base).unwrap();
        made.unwrap();
        assert_eq!(mode.unwrap(), 0o1700);
        let error = missing.unwrap_err().to_string();
        assert!(error.ends_with("(it comes from XDG_RUNTIME_DIR; --root names another)"), "{error}");
    }
}
