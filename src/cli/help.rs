//! What clap is for: the help, and what to say of a line that [`super::argv`] cannot take. A line that is right never
//! comes here, since building clap's commands costs more than all else that is done with a command line.

use clap::builder::{OsStringValueParser, PossibleValuesParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, ValueHint};

use super::table::{Count, GLOBALS, GROUPS, Opt, VERBS};
use super::{Refusal, argv, is_known, table};
use crate::error::{Error, Step};
use crate::spec::json::nearest;

/// The exit status of a verb that does not exist, as runc has it.
const UNKNOWN_VERB: i32 = 3;

/// The help that the line asks for, or what is wrong with it.
pub fn of(line: argv::Line, verb: Option<&str>) -> Result<String, Refusal> {
    match command().try_get_matches_from(line.into_words()) {
        Err(error) if error.kind() == ErrorKind::DisplayHelp => Ok(error.render().to_string()),
        Err(error) => Err(refusal(&error, verb)),
        Ok(_) => Err(Error::bug(Step::Usage, "clap takes a command line that hull does not").into()),
    }
}

/// The whole of hull's command line for clap; a verb's options are built when the verb is used.
pub fn command() -> Command {
    let single = VERBS.iter().filter(|verb| !verb.name.contains(' '));
    let verbs = single.map(|verb| Command::new(verb.name).about(verb.about).defer(complete));
    let groups = GROUPS.iter().map(|(name, about)| Command::new(*name).about(*about).defer(group));
    Command::new("hull")
        .about("A low-level OCI container runtime: it makes a process of a bundle")
        .disable_help_subcommand(true)
        .disable_help_flag(true)
        .subcommand_required(true)
        .subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .args(GLOBALS.iter().chain([&table::HELP]).map(arg))
        .subcommands(verbs)
        .subcommands(groups)
        .after_help("`hull help VERB` explains a verb. Example: hull run --bundle /srv/web web")
}

/// A verb of two words, the first of which this is.
fn group(command: Command) -> Command {
    let example = table::members(command.get_name()).next().map_or("", |(_, verb)| verb.example);
    let help = format!("Example: {example}\n`hull help {} VERB` explains a verb.", command.get_name());
    let members: Vec<_> = table::members(command.get_name())
        .map(|(name, verb)| Command::new(name).about(verb.about).defer(complete_member))
        .collect();
    let command = command.disable_help_flag(true).disable_help_subcommand(true).arg(arg(&table::HELP));
    command
        .subcommand_required(true)
        .subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .subcommands(members)
        .after_help(help)
}

/// A member knows only its own word; no two groups have the same.
fn complete_member(command: Command) -> Command {
    let member =
        GROUPS.iter().flat_map(|(group, _)| table::members(group)).find(|(name, _)| *name == command.get_name());
    match member {
        Some((_, verb)) => complete_as(command, verb),
        None => command,
    }
}

fn complete(command: Command) -> Command {
    match table::verb(command.get_name()) {
        Some(verb) => complete_as(command, verb),
        None => command,
    }
}

fn complete_as(command: Command, verb: &'static table::Verb) -> Command {
    let positionals = verb.positionals.iter().enumerate().map(|(at, (name, count, help))| {
        let arg = Arg::new(*name).index(at + 1).help(*help).value_parser(OsStringValueParser::new());
        match count {
            Count::One => arg.required(true),
            Count::Optional => arg,
            Count::Many => arg.required(true).num_args(1..).action(ArgAction::Append),
            Count::Any => arg.num_args(0..).action(ArgAction::Append),
        }
    });
    command
        .disable_help_flag(true)
        .args(verb.options.iter().chain([&table::HELP]).map(arg))
        .args(positionals)
        .after_help(format!("Example: {}\nGlobal options may be given too: `hull help` lists them.", verb.example))
}

fn arg(opt: &'static Opt) -> Arg {
    let arg = Arg::new(opt.long).long(opt.long).help(opt.help);
    let arg = match opt.short {
        Some(short) => arg.short(short),
        None => arg,
    };
    match opt.value {
        None if opt.long == table::HELP.long => arg.action(ArgAction::Help),
        None => arg.action(ArgAction::SetTrue),
        Some(name) if opt.many => {
            arg.value_name(name).value_parser(OsStringValueParser::new()).action(ArgAction::Append)
        }
        Some(name) if opt.values.is_empty() => {
            let hint = match name {
                "DIR" => ValueHint::DirPath,
                "FILE" | "SOCKET" => ValueHint::FilePath,
                _ => ValueHint::Other,
            };
            arg.value_name(name).value_hint(hint).value_parser(OsStringValueParser::new())
        }
        Some(name) => arg.value_name(name).value_parser(PossibleValuesParser::new(opt.values)),
    }
}

/// Verbs of engines, and what does it here.
const ELSEWHERE: [(&[&str], &str); 9] = [
    (&["stop"], "`hull kill ID TERM` asks the program to end, `hull kill ID KILL` ends it"),
    (&["rm", "remove", "destroy"], "`hull delete ID`"),
    (&["top"], "`hull stats`, or `hull ps ID`"),
    (&["inspect"], "`hull state ID`"),
    (&["logs", "log"], "output goes where the caller's goes, and none is kept; `hull why ID` has the last failure"),
    (&["version"], "`hull --version`"),
    (&["ls"], "`hull list`"),
    (&["validate", "lint"], "`hull check`"),
    (&["pull", "build", "images", "push"], "images are an engine's: podman, Docker and containerd call hull"),
];

/// What was meant by a verb that does not exist.
fn instead(word: &str, group: Option<&str>) -> String {
    if let Some((_, what)) = ELSEWHERE.iter().find(|(words, _)| words.contains(&word)) {
        return (*what).to_owned();
    }
    let group =
        group.and_then(|verb| verb.split(' ').next()).filter(|verb| GROUPS.iter().any(|(name, _)| name == verb));
    let near = match group {
        Some(group) => nearest(word, table::members(group).map(|(name, _)| name)),
        None => nearest(word, VERBS.iter().filter_map(|verb| verb.name.split(' ').next())),
    };
    near.map_or_else(|| "`hull help` lists the verbs".to_owned(), |near| format!("did you mean {near}?"))
}

/// clap's error as one sentence of ours.
fn refusal(error: &clap::Error, verb: Option<&str>) -> Refusal {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let invalid = text(ContextKind::InvalidArg).unwrap_or_default();
    let known = verb.filter(|verb| is_known(verb));
    let what = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let error = Error::usage(format!("unknown verb {word:?}")).hint(instead(&word, verb));
            return Refusal { error, status: UNKNOWN_VERB };
        }
        ErrorKind::MissingSubcommand => "a verb is missing".to_owned(),
        ErrorKind::UnknownArgument if invalid.starts_with('-') => format!("unknown option {invalid}"),
        ErrorKind::UnknownArgument => format!("{invalid:?} is one argument too many"),
        ErrorKind::MissingRequiredArgument => format!("{} is missing", invalid.replace("...", "")),
        ErrorKind::InvalidValue => format!(
            "option {} is one of {}, not {:?}",
            invalid.split(' ').next().unwrap_or_default(),
            text(ContextKind::ValidValue).unwrap_or_default(),
            text(ContextKind::InvalidValue).unwrap_or_default(),
        ),
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    let error = Error::usage(what);
    match (text(ContextKind::SuggestedArg), known) {
        (Some(near), _) => error.hint(format!("did you mean {near}?")),
        (None, Some(verb)) => error.hint(format!("see `hull help {verb}`")),
        (None, None) => error.hint("see `hull help`"),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};

    use clap::ArgMatches;
    use proptest::prelude::*;

    use super::*;

    /// Words that a line may be made of: each verb, each option in its ways of writing, and what a person may slip in.
    fn vocabulary() -> Vec<OsString> {
        let options = VERBS.iter().flat_map(|verb| verb.options).chain(GLOBALS);
        let ways = options.flat_map(|opt| {
            let value = opt.values.first().copied().or(opt.value).unwrap_or("true");
            let shorts = opt.short.into_iter().flat_map(move |s| [format!("-{s}"), format!("-{s}={value}")]);
            let longs = ["--", "-"].map(|dashes| format!("{dashes}{}", opt.long));
            longs.into_iter().chain([format!("--{}={value}", opt.long), format!("--{}=", opt.long)]).chain(shorts)
        });
        let slips = [
            "",
            "-",
            "--",
            "web",
            "a b",
            "-9",
            "--nope",
            "--bundel=/b",
            "json",
            "xml",
            "3",
            "help",
            "--format=xml",
            "\u{e4}",
        ];
        ways.map(OsString::from).chain(slips.map(OsString::from)).collect()
    }

    fn same(row: &'static [Opt], found: &argv::Found, matches: &ArgMatches) {
        for opt in row {
            match opt.value {
                None => assert_eq!(found.on(opt.long), matches.get_flag(opt.long), "{}", opt.long),
                Some(_) => {
                    let clap: Vec<&OsStr> = matches.get_raw(opt.long).into_iter().flatten().collect();
                    assert_eq!(found.values(opt.long).collect::<Vec<_>>(), clap, "{}", opt.long);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

        /// A line that fits the table is one that clap takes, with the same values; every other is one that clap refuses.
        #[test]
        fn clap_and_the_table_agree(
            before in proptest::collection::vec(proptest::sample::select(vocabulary()), 0..2),
            verb in any::<proptest::sample::Index>().prop_map(|at| &VERBS[at.index(VERBS.len())]),
            own in proptest::collection::vec(any::<proptest::sample::Index>(), 0..4),
            after in proptest::collection::vec(proptest::sample::select(vocabulary()), 0..4),
            id in any::<bool>(),
        ) {
            let mut words = before;
            words.extend(verb.name.split(' ').map(OsString::from));
            for at in own {
                let Some(opt) = verb.options.get(at.index(verb.options.len() + 1)) else { continue };
                words.push(format!("--{}", opt.long).into());
                words.extend(opt.value.map(|name| opt.values.first().copied().unwrap_or(name).into()));
            }
            words.extend(id.then(|| "web".into()));
            words.extend(after);
            let line = || argv::read(words.iter().cloned());
            prop_assume!(line().mistake.is_none());
            let matches = command().try_get_matches_from(line().into_words());
            prop_assert_eq!(line().fits(), matches.is_ok(), "{:?}", words);
            let Ok(matches) = matches else { return Ok(()) };
            same(GLOBALS, &line().globals, &matches);
            let (name, mut own) = matches.subcommand().expect("a verb");
            let mut verb = name.to_owned();
            if let Some((member, matches)) = own.subcommand() {
                (verb, own) = (format!("{name} {member}"), matches);
            }
            let row = table::verb(&verb).expect("a verb of the table");
            same(row.options, &line().options, own);
            let line = line();
            for (name, ..) in row.positionals {
                let clap: Vec<&OsStr> = own.get_raw(name).into_iter().flatten().collect();
                prop_assert_eq!(line.words(name), clap, "{:?}", words);
            }
        }
    }
}
