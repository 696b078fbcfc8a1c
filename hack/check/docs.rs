//! `hack/check/docs`: man pages and completions for bash, zsh and fish, from the definition by which hull reads its command line.
//!
//! It is an example of Cargo's, so that what it needs is no part of the binary.

#![allow(missing_docs, reason = "a program has no callers")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

fn main() -> Result<()> {
    let target = std::env::args_os().nth(1).map(PathBuf::from).context("usage: docs DIRECTORY")?;
    let (man, completions) = (target.join("man"), target.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    // Verbs are built when they are used; here all of them are.
    let mut command = hull::cli::help::command();
    command.build();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command.clone(), "hull", &completions)?;
    }
    let verbs: Vec<Command> = command.get_subcommands().cloned().collect();
    page(&man, &command, "hull", &verbs)?;
    let mut pages = 1 + verbs.len();
    for verb in &verbs {
        let name = format!("hull-{}", verb.get_name());
        page(&man, verb, &name, &[])?;
        for member in verb.get_subcommands() {
            page(&man, member, &format!("{name}-{}", member.get_name()), &[])?;
            pages += 1;
        }
    }
    println!("{}: {pages} man pages, 3 completions", target.display());
    Ok(())
}

/// One page of section 8: administrators' commands.
fn page(directory: &Path, command: &Command, name: &str, verbs: &[Command]) -> Result<()> {
    let command = command.clone().display_name(name.to_owned());
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let command = if verbs.is_empty() { command.bin_name(name.replace('-', " ")) } else { command };
    let man = Man::new(command)
        .title(name.to_uppercase())
        .section("8")
        .manual("hull")
        .source(concat!("hull ", env!("CARGO_PKG_VERSION")));
    let mut out = fs::File::create(directory.join(format!("{name}.8")))?;
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    let mut more = Roff::new();
    if !verbs.is_empty() {
        more.control("SH", ["VERBS"]);
        for verb in verbs {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            more.control("TP", []).text([bold(format!("hull-{}(8)", verb.get_name()))]).text([roman(about)]);
        }
    }
    more.control("SH", ["EXAMPLE"]);
    for line in after.lines() {
        let line = line.trim_start_matches("Example: ").to_owned();
        more.control("PP", []).text([roman(line)]);
    }
    more.control("SH", ["EXIT STATUS"]);
    more.text([roman(status(name))]);
    more.control("SH", ["SEE ALSO"]);
    more.text([roman(if verbs.is_empty() {
        "hull(8)"
    } else {
        "runc(8), crun(1), podman(1), namespaces(7), cgroups(7)"
    })]);
    out.write_all(more.to_roff().as_bytes())?;
    Ok(())
}

fn status(name: &str) -> &'static str {
    match name {
        "hull-check" => "0: nothing is wrong. 1: warnings only. 2: errors, or the bundle cannot be read.",
        "hull-doctor" => "0: all is there. 1: something is lacking. 2: nothing can run for this user.",
        "hull-run" | "hull-seccomp-record" => {
            "In the foreground that of the program, 128+n if signal n killed it; 1 if hull failed."
        }
        "hull-exec" => "That of the program, 128+n if signal n killed it; 255 if hull failed before it ran.",
        _ => "0 if it was done, 1 if not, 3 for a verb that does not exist. The reason is on stderr and in the log.",
    }
}
