//! `hull exec`: another program in a container; in the foreground its exit status is hull's.

use serde_json::{Value, json};

use super::Done;
use super::start::explained;
use crate::Result;
use crate::error::{Error, Step};
use crate::lifecycle::{self, ExecOptions, Globals};
use crate::spec::load::{self, Text};

/// The exit status when the program did not run, as runc has it: a program can hardly be told from a failure by 1.
const NOT_RUN: i32 = 255;

/// Runs the program.
pub fn exec(globals: &Globals, options: &ExecOptions) -> Result<Done> {
    let status = lifecycle::exec::exec(globals, options).unwrap_or_else(|error| {
        crate::log::report(&with_reason(error, globals, options));
        NOT_RUN
    });
    Ok(Done { text: String::new(), status })
}

/// What `check` knows of the program, as if it were the container's own.
fn with_reason(error: Error, globals: &Globals, options: &ExecOptions) -> Error {
    let is_its_own = matches!(error.step, Step::Exec | Step::Process | Step::Seccomp | Step::Label | Step::Sync);
    explained(error, globals, &options.id, "exec", |Text(text)| {
        if !is_its_own || options.tools.is_some() {
            return None;
        }
        let mut config: Value = serde_json::from_str(&text).ok()?;
        match &options.process {
            Some(path) => config["process"] = serde_json::from_str(&load::read(path).ok()?.0).ok()?,
            None => {
                let args = options.asked.args.iter().map(|arg| arg.to_string_lossy());
                config["process"]["args"] = args.collect();
                if let Some(cwd) = &options.asked.cwd {
                    config["process"]["cwd"] = json!(cwd.to_string_lossy());
                }
                if let Some(user) = &options.asked.user {
                    let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
                    let number = |word: &str| word.parse::<u32>().ok();
                    config["process"]["user"] = json!({"uid": number(uid)?, "gid": number(gid)?});
                }
            }
        }
        Some(Text(config.to_string()))
    })
}
