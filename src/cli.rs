//! The command line: argv in, an [`Invocation`] out, or one sentence about what is wrong with it.
//!
//! [`argv`] first brings the line into order by the tables of [`table`]; clap, built from the same tables, then refuses
//! what is unknown (with a suggestion), counts the positionals and writes the help. Only the verb that is used is
//! built: every call of hull is a process of its own, and building all of them doubles the cost.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, PossibleValuesParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};

use crate::error::{Error, Result, Step, show};
use crate::lifecycle::checkpoint::CheckpointOptions;
use crate::lifecycle::record::RecordOptions;
use crate::lifecycle::restore::RestoreOptions;
use crate::lifecycle::update::UpdateOptions;
use crate::lifecycle::{CreateOptions, ExecOptions, Globals};
use crate::log;
use crate::plan::CgroupManager;

pub mod argv;
pub mod criu;
pub mod duration;
pub mod limits;
pub mod root;
pub mod seccomp;
pub mod signal;
pub mod table;

use table::{Count, GLOBALS, GROUPS, Opt, VERBS};

/// The exit status of a verb that does not exist, as runc has it.
const UNKNOWN_VERB: i32 = 3;

/// The longest container id, in bytes.
const MAX_ID: usize = 1024;

/// A command line, understood or not.
#[derive(Debug)]
pub struct Parsed {
    /// Where to log; known even if the rest is wrong, since engines read the error there.
    pub log: log::Options,
    /// What to do.
    pub outcome: Result<Invocation, Refusal>,
}

/// A command line that is wrong.
#[derive(Debug)]
pub struct Refusal {
    /// The sentence.
    pub error: Error,
    /// The exit status.
    pub status: i32,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal { status: error.exit_code(), error }
    }
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The global options.
    pub globals: Globals,
    /// The root is the user's own runtime directory, because --root did not say.
    pub own_root: bool,
    /// The verb with its options.
    pub verb: Verb,
}

/// A verb with its options.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verb {
    Create(CreateOptions),
    Run(CreateOptions),
    Exec(Box<ExecOptions>),
    Start { id: String },
    State { id: String },
    Kill { id: String, signal: i32, all: bool },
    Delete { ids: Vec<String>, force: bool },
    List { json: bool, quiet: bool },
    Pause { id: String },
    Resume { id: String },
    Events { id: String, interval: Duration, once: bool },
    Stats { ids: Vec<String>, json: bool, interval: Duration, stream: bool },
    Update { id: String, options: UpdateOptions },
    Ps { id: String, json: bool, options: Vec<OsString> },
    Checkpoint { id: String, options: CheckpointOptions },
    Restore(RestoreOptions),
    Spec { bundle: PathBuf, rootless: bool },
    Explain { bundle: PathBuf, config: Option<PathBuf>, userns_self: bool, format: ExplainFormat },
    Check { bundle: PathBuf, config: Option<PathBuf>, json: bool },
    Doctor { json: bool },
    SeccompRecord(Box<RecordOptions>),
    SeccompExplain(Box<seccomp::Explain>),
    Features,
    Help(String),
    Version { program: String },
}

/// How `explain` prints the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExplainFormat {
    /// Sentences.
    Text,
    /// JSON.
    Json,
    /// Shell commands only.
    Sh,
}

/// Understands argv, the program's own name first.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Parsed {
    let mut argv = argv.into_iter();
    let program = argv.next().unwrap_or_default();
    let line = argv::read(argv);
    let verb = line.verb.as_ref().map(|verb| verb.to_string_lossy().into_owned());
    let log = log_options(&line.globals, verb.as_deref());
    let outcome = invocation(&program, line, verb.as_deref()).map_err(|mut refusal| {
        if let Some(verb) = verb.filter(|verb| is_known(verb)) {
            refusal.error = refusal.error.context(verb);
        }
        refusal
    });
    Parsed { log, outcome }
}

fn invocation(program: &OsStr, line: argv::Line, verb: Option<&str>) -> Result<Invocation, Refusal> {
    if line.globals.on("version") {
        let program = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(Invocation { globals: Globals::default(), own_root: false, verb: Verb::Version { program } });
    }
    if let Some(mistake) = line.mistake {
        return Err(Error::usage(mistake).into());
    }
    let help = line.help || verb.is_none() && line.unknown.0.is_empty();
    let line = argv::Line { help, ..line };
    let matches = match command().try_get_matches_from(line.into_words()) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            let verb = Verb::Help(error.render().to_string());
            return Ok(Invocation { globals: Globals::default(), own_root: false, verb });
        }
        Err(error) => return Err(refusal(&error, verb)),
    };
    let (globals, own_root) = globals(&matches)?;
    let Some((name, matches)) = matches.subcommand() else {
        return Err(Error::usage("no verb is given: `hull help` lists them").into());
    };
    let verb = match matches.subcommand() {
        Some((member, matches)) => verb_of(&format!("{name} {member}"), matches)?,
        None => verb_of(name, matches)?,
    };
    Ok(Invocation { globals, own_root, verb })
}

fn is_known(verb: &str) -> bool {
    table::verb(verb).is_some() || GROUPS.iter().any(|(group, _)| *group == verb)
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

fn log_options(globals: &argv::Found, verb: Option<&str>) -> log::Options {
    let level = match globals.value("log-level").and_then(OsStr::to_str) {
        _ if globals.on("debug") => Some(log::Level::Debug),
        Some("debug") => Some(log::Level::Debug),
        Some("info") => Some(log::Level::Info),
        Some("warn" | "warning") => Some(log::Level::Warning),
        Some("error") => Some(log::Level::Error),
        _ => None,
    };
    log::Options {
        file: globals.value("log").map(PathBuf::from),
        json: globals.value("log-format") == Some(OsStr::new("json")),
        level,
        // Engines parse stdout and stderr of these together as one JSON text.
        quiet: matches!(verb, Some("state" | "list" | "features" | "ps" | "events" | "stats")),
    }
}

fn globals(matches: &ArgMatches) -> Result<(Globals, bool)> {
    let word = |name| matches.get_one::<String>(name).map(String::as_str);
    let cgroup_manager = match word("cgroup-manager") {
        Some("systemd") => CgroupManager::Systemd,
        Some("disabled") => CgroupManager::Disabled,
        None if matches.get_flag("systemd-cgroup") => CgroupManager::Systemd,
        _ => CgroupManager::Cgroupfs,
    };
    let rootless = word("rootless").and_then(|word| word.parse().ok());
    let (root, own_root) = match path(matches, "root") {
        Some(root) => (absolute(&root)?, false),
        None => root::default_root(
            rustix::process::geteuid().as_raw(),
            std::env::var_os("XDG_RUNTIME_DIR"),
            root::in_user_namespace,
        ),
    };
    Ok((Globals { root, cgroup_manager, rootless, trace: path(matches, "trace") }, own_root))
}

fn verb_of(name: &str, matches: &ArgMatches) -> Result<Verb> {
    Ok(match name {
        "create" => Verb::Create(create_options(matches)?),
        "run" => {
            let mut options = create_options(matches)?;
            options.detach = matches.get_flag("detach");
            options.keep = matches.get_flag("keep");
            options.no_subreaper = matches.get_flag("no-subreaper");
            Verb::Run(options)
        }
        "exec" => Verb::Exec(Box::new(exec_options(matches)?)),
        "start" => Verb::Start { id: id(matches)? },
        "state" => Verb::State { id: id(matches)? },
        "kill" => Verb::Kill {
            id: id(matches)?,
            signal: match matches.get_one::<OsString>("SIGNAL").filter(|word| !word.is_empty()) {
                None => libc::SIGTERM,
                Some(word) => signal::number(&word.to_string_lossy())?,
            },
            all: matches.get_flag("all"),
        },
        "delete" => Verb::Delete { ids: ids(matches)?, force: matches.get_flag("force") },
        "list" => Verb::List { json: is_json(matches), quiet: matches.get_flag("quiet") },
        "pause" => Verb::Pause { id: id(matches)? },
        "resume" => Verb::Resume { id: id(matches)? },
        "events" => {
            Verb::Events { id: id(matches)?, interval: interval(matches, "5s")?, once: matches.get_flag("stats") }
        }
        "stats" => Verb::Stats {
            ids: ids(matches)?,
            json: is_json(matches),
            interval: interval(matches, "1s")?,
            stream: !matches.get_flag("no-stream"),
        },
        "update" => Verb::Update { id: id(matches)?, options: update_options(matches)? },
        "ps" => Verb::Ps { id: id(matches)?, json: is_json(matches), options: words(matches, "OPTION") },
        "checkpoint" => Verb::Checkpoint { id: id(matches)?, options: criu::checkpoint(matches)? },
        "restore" => Verb::Restore(criu::restore(matches)?),
        "spec" => Verb::Spec { bundle: bundle(matches)?, rootless: matches.get_flag("rootless") },
        "explain" => Verb::Explain {
            bundle: bundle(matches)?,
            config: path(matches, "config"),
            userns_self: matches.get_one::<String>("userns").is_some(),
            format: match matches.get_one::<String>("format").map(String::as_str) {
                Some("json") => ExplainFormat::Json,
                Some("sh") => ExplainFormat::Sh,
                _ => ExplainFormat::Text,
            },
        },
        "check" => Verb::Check {
            bundle: bundle(matches)?,
            config: path(matches, "config"),
            json: matches.get_one::<String>("format").is_some_and(|format| format == "json"),
        },
        "doctor" => Verb::Doctor { json: matches.get_one::<String>("format").is_some_and(|format| format == "json") },
        "seccomp record" => Verb::SeccompRecord(Box::new(seccomp::record(matches)?)),
        "seccomp explain" => Verb::SeccompExplain(Box::new(seccomp::explain(matches)?)),
        "features" => Verb::Features,
        other => return Err(Error::bug(Step::Usage, format!("the verb {other} is in the table but not in the code"))),
    })
}

fn create_options(matches: &ArgMatches) -> Result<CreateOptions> {
    create_options_of(id(matches)?, matches)
}

fn create_options_of(id: String, matches: &ArgMatches) -> Result<CreateOptions> {
    let bundle = bundle(matches)?;
    // runc enters the bundle before it connects to a socket, but not before it writes the pid file.
    let socket = |name| path(matches, name).map(|socket| bundle.join(socket));
    Ok(CreateOptions {
        id,
        config: path(matches, "config"),
        console_socket: socket("console-socket"),
        pid_file: path(matches, "pid-file"),
        pidfd_socket: socket("pidfd-socket"),
        no_pivot: matches.get_flag("no-pivot"),
        no_new_keyring: matches.get_flag("no-new-keyring"),
        userns_self: matches.get_one::<String>("userns").is_some(),
        preserve_fds: preserve_fds(matches)?,
        bundle,
        ..CreateOptions::default()
    })
}

fn interval(matches: &ArgMatches, default: &str) -> Result<Duration> {
    let word = matches.get_one::<OsString>("interval").map(|word| word.to_string_lossy());
    duration::duration("interval", word.as_deref().unwrap_or(default))
}

fn update_options(matches: &ArgMatches) -> Result<UpdateOptions> {
    let word = |name| matches.get_one::<OsString>(name).map(|word| word.to_str().unwrap_or("no UTF-8"));
    let schemata = ["l3-cache-schema", "mem-bw-schema"].into_iter().filter_map(word).map(str::to_owned).collect();
    let options = table::verb("update").map_or(&[][..], |verb| verb.options);
    Ok(UpdateOptions { file: path(matches, "resources"), limits: limits::resources(options, word)?, schemata })
}

fn is_json(matches: &ArgMatches) -> bool {
    matches.get_one::<String>("format").is_some_and(|format| format == "json")
}

fn words(matches: &ArgMatches, name: &str) -> Vec<OsString> {
    matches.get_many::<OsString>(name).unwrap_or_default().cloned().collect()
}

/// The numbers in them are read by the plan: what is wrong there has exec's own exit status.
fn exec_options(matches: &ArgMatches) -> Result<ExecOptions> {
    let text = |word: &OsString| {
        word.to_str().map(str::to_owned).ok_or_else(|| Error::usage(format!("{word:?} is no UTF-8 text")))
    };
    let one = |name| matches.get_one::<OsString>(name).map(text).transpose();
    let many = |name| matches.get_many::<OsString>(name).unwrap_or_default().map(text).collect::<Result<Vec<_>>>();
    Ok(ExecOptions {
        id: id(matches)?,
        process: path(matches, "process"),
        console_socket: path(matches, "console-socket"),
        pid_file: path(matches, "pid-file"),
        pidfd_socket: path(matches, "pidfd-socket"),
        ignore_paused: matches.get_flag("ignore-paused"),
        wait_fifo: path(matches, "wait-fifo"),
        asked: crate::plan::exec::Options {
            args: matches.get_many::<OsString>("ARG").unwrap_or_default().cloned().collect(),
            cwd: one("cwd")?,
            env: many("env")?,
            tty: matches.get_flag("tty"),
            user: one("user")?,
            additional_gids: many("additional-gids")?,
            process_label: one("process-label")?,
            apparmor: one("apparmor")?,
            no_new_privs: matches.get_flag("no-new-privs"),
            caps: many("cap")?,
            cgroup: many("cgroup")?,
            detach: matches.get_flag("detach"),
            console_socket: matches.contains_id("console-socket"),
            preserve_fds: preserve_fds(matches)?,
            waits: matches.contains_id("wait-fifo"),
        },
    })
}

fn preserve_fds(matches: &ArgMatches) -> Result<u32> {
    match matches.get_one::<OsString>("preserve-fds") {
        None => Ok(0),
        Some(word) => word
            .to_str()
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| Error::usage(format!("option --preserve-fds is a number of descriptors, not {word:?}"))),
    }
}

fn path(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    matches.get_one::<OsString>(name).map(PathBuf::from)
}

fn bundle(matches: &ArgMatches) -> Result<PathBuf> {
    absolute(&path(matches, "bundle").unwrap_or_else(|| ".".into()))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Error::usage(format!("{}: the current directory is unknown: {error}", show(path))))
}

fn id(matches: &ArgMatches) -> Result<String> {
    ids(matches)?.into_iter().next().ok_or_else(|| Error::usage("a container id is missing"))
}

fn ids(matches: &ArgMatches) -> Result<Vec<String>> {
    matches.get_many::<OsString>("ID").unwrap_or_default().map(|id| check_id(id)).collect()
}

/// A container id: letters, digits and `_+-.` as runc takes them. It names a directory, so `.` and `..` are none.
pub fn check_id(id: &OsStr) -> Result<String> {
    let refuse = |why: &str| Err(Error::usage(format!("container id {:?}: {why}", id.to_string_lossy())));
    match id.to_str() {
        Some("") => refuse("it is empty"),
        Some("." | "..") => refuse("it would name a directory outside the state directory"),
        Some(id) if id.len() > MAX_ID => Err(Error::usage(format!(
            "container id {:?}...: it is longer than {MAX_ID} bytes",
            id.chars().take(32).collect::<String>()
        ))),
        Some(id) if id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte)) => Ok(id.into()),
        _ => refuse("only letters, digits and _ + - . are allowed"),
    }
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
            let what = format!("unknown verb {:?}", text(ContextKind::InvalidSubcommand).unwrap_or_default());
            // clap sorts its suggestions: the nearest comes last.
            let near = match error.get(ContextKind::SuggestedSubcommand) {
                Some(ContextValue::Strings(names)) => names.last(),
                Some(ContextValue::String(name)) => Some(name),
                _ => None,
            };
            let error = Error::usage(what).hint(match near {
                Some(near) => format!("did you mean {near}?"),
                None => "`hull help` lists the verbs".into(),
            });
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
    use super::*;

    fn line(line: &str) -> Parsed {
        parse(std::iter::once("hull").chain(line.split_whitespace()).map(OsString::from))
    }

    fn invocation(text: &str) -> Invocation {
        line(text).outcome.unwrap_or_else(|refusal| panic!("{text}: {}", refusal.error))
    }

    #[test]
    fn the_table_is_a_command_line_that_clap_accepts() {
        let mut command = command();
        command.build();
        command.debug_assert();
    }

    #[test]
    fn what_engines_call_is_understood() {
        let id = || String::from("web");
        let events = |millis, once| Verb::Events { id: id(), interval: Duration::from_millis(millis), once };
        let table = [
            ("start web", Verb::Start { id: id() }),
            ("state web", Verb::State { id: id() }),
            ("kill web", Verb::Kill { id: id(), signal: 15, all: false }),
            ("kill web 9", Verb::Kill { id: id(), signal: 9, all: false }),
            ("kill --all web 9", Verb::Kill { id: id(), signal: 9, all: true }),
            ("kill -a web SIGUSR1", Verb::Kill { id: id(), signal: libc::SIGUSR1, all: true }),
            ("kill web -9", Verb::Kill { id: id(), signal: 9, all: false }),
            ("delete web", Verb::Delete { ids: vec![id()], force: false }),
            ("delete --force web", Verb::Delete { ids: vec![id()], force: true }),
            ("delete a web -f", Verb::Delete { ids: vec!["a".into(), id()], force: true }),
            ("list", Verb::List { json: false, quiet: false }),
            ("list -f json", Verb::List { json: true, quiet: false }),
            ("list --format table -q", Verb::List { json: false, quiet: true }),
            ("pause web", Verb::Pause { id: id() }),
            ("resume web", Verb::Resume { id: id() }),
            ("ps --format json web", Verb::Ps { id: id(), json: true, options: vec![] }),
            (
                "ps web -o pid -f",
                Verb::Ps { id: id(), json: false, options: ["-o", "pid", "-f"].map(OsString::from).into() },
            ),
            ("events --stats web", events(5000, true)),
            ("events --interval 1m30s web", events(90_000, false)),
            ("spec -b /b --rootless", Verb::Spec { bundle: "/b".into(), rootless: true }),
            ("features", Verb::Features),
            ("--version", Verb::Version { program: "hull".into() }),
            ("-v", Verb::Version { program: "hull".into() }),
        ];
        for (text, wanted) in table {
            assert_eq!(invocation(text).verb, wanted, "{text}");
        }
    }

    #[test]
    fn create_and_run_take_all_their_options() {
        let text = "--root /r create --bundle /b --config c.json --pid-file p --console-socket s --pidfd-socket /s \
                    --no-pivot --no-new-keyring --preserve-fds 3 web";
        let all = CreateOptions {
            id: "web".into(),
            bundle: "/b".into(),
            config: Some("c.json".into()),
            console_socket: Some("/b/s".into()),
            pid_file: Some("p".into()),
            pidfd_socket: Some("/s".into()),
            no_pivot: true,
            no_new_keyring: true,
            preserve_fds: 3,
            ..CreateOptions::default()
        };
        let got = invocation(text);
        assert_eq!(got.verb, Verb::Create(all.clone()));
        assert_eq!((got.globals.root, got.own_root), ("/r".into(), false));
        let run = text.replace("create", "run --detach --keep -no-subreaper");
        let all = CreateOptions { detach: true, keep: true, no_subreaper: true, ..all };
        assert_eq!(invocation(&run).verb, Verb::Run(all));
        let Verb::Create(plain) = invocation("create web").verb else { panic!("not create") };
        assert_eq!(plain.bundle, std::env::current_dir().unwrap());
        let Verb::Create(relative) = invocation("create -b x web").verb else { panic!("not create") };
        assert_eq!(relative.bundle, std::env::current_dir().unwrap().join("x"));
    }

    #[test]
    fn globals_are_understood_on_both_sides_of_the_verb() {
        let manager = |text| invocation(text).globals.cgroup_manager;
        assert_eq!(manager("list"), CgroupManager::Cgroupfs);
        assert_eq!(manager("--systemd-cgroup list"), CgroupManager::Systemd);
        assert_eq!(manager("list --systemd-cgroup"), CgroupManager::Systemd);
        assert_eq!(manager("--systemd-cgroup=false list"), CgroupManager::Cgroupfs);
        assert_eq!(manager("--cgroup-manager systemd list"), CgroupManager::Systemd);
        assert_eq!(manager("--systemd-cgroup --cgroup-manager disabled list"), CgroupManager::Disabled);
        let rootless = |text| invocation(text).globals.rootless;
        assert_eq!(rootless("list"), None);
        assert_eq!(rootless("--rootless auto list"), None);
        assert_eq!(rootless("--rootless true list"), Some(true));
        assert_eq!(rootless("--rootless=false list"), Some(false));
        assert_eq!(rootless("spec --rootless"), None);
        assert_eq!(invocation("list --trace t").globals.trace, Some("t".into()));
    }

    #[test]
    fn where_to_log_is_known_even_if_the_rest_is_wrong() {
        let parsed = line("--log /l --log-format json --debug create");
        assert!(parsed.outcome.is_err());
        let wanted = log::Options { file: Some("/l".into()), json: true, level: Some(log::Level::Debug), quiet: false };
        assert_eq!(parsed.log, wanted);
        assert_eq!(line("--log-level warn list").log.level, Some(log::Level::Warning));
        assert!(line("state web").log.quiet);
    }

    /// One clear sentence each, and runc's exit statuses.
    #[test]
    fn what_is_wrong_is_said_in_one_sentence() {
        let table = [
            ("strat web", 3, "unknown verb \"strat\" (did you mean start?)"),
            ("xyzzy web", 3, "unknown verb \"xyzzy\" (`hull help` lists the verbs)"),
            ("help strat", 3, "unknown verb \"strat\" (did you mean start?)"),
            ("create --no-pivto web", 1, "create: unknown option --no-pivto (did you mean --no-pivot?)"),
            ("create --xyzzy web", 1, "create: unknown option --xyzzy (see `hull help create`)"),
            ("create -bundel /b web", 1, "create: unknown option --bundel (did you mean --bundle?)"),
            ("kill -9 web", 1, "kill: unknown option -9 (see `hull help kill`)"),
            ("--rooot /x list", 1, "unknown option --rooot (did you mean --root?)"),
            ("--xyzzy", 1, "unknown option --xyzzy (see `hull help`)"),
            ("seccomp explian mount", 3, "unknown verb \"explian\" (did you mean explain?)"),
            ("seccomp", 1, "seccomp: a verb is missing (see `hull help seccomp`)"),
            (
                "seccomp explain --arch vax",
                1,
                "seccomp explain: option --arch is one of x86_64, x86, x32, aarch64, arm, not \"vax\"",
            ),
            ("create", 1, "create: <ID> is missing (see `hull help create`)"),
            ("delete", 1, "delete: <ID> is missing (see `hull help delete`)"),
            ("state a b", 1, "state: \"b\" is one argument too many (see `hull help state`)"),
            ("list a", 1, "list: \"a\" is one argument too many (see `hull help list`)"),
            ("create web --bundle", 1, "create: option --bundle requires an argument"),
            ("list --format xml", 1, "list: option --format is one of table, json, not \"xml\" (see `hull help list`)"),
            (
                "--rootless maybe list",
                1,
                "list: option --rootless is one of true, false, auto, not \"maybe\" (see `hull help list`)",
            ),
            ("create --preserve-fds x web", 1, "create: option --preserve-fds is a number of descriptors, not \"x\""),
            ("create --preserve-fds -1 web", 1, "create: option --preserve-fds is a number of descriptors, not \"-1\""),
            ("run --keep=perhaps web", 1, "run: option --keep is true or false, not \"perhaps\""),
            (
                "kill web FOO",
                1,
                "kill: unknown signal \"FOO\": a name like TERM or SIGKILL, a number from 0 to 64, or RTMIN+n",
            ),
            ("state a/b", 1, "state: container id \"a/b\": only letters, digits and _ + - . are allowed"),
            ("state ..", 1, "state: container id \"..\": it would name a directory outside the state directory"),
        ];
        for (text, status, wanted) in table {
            let refusal = line(text).outcome.expect_err(text);
            assert_eq!(refusal.error.to_string(), wanted, "{text}");
            assert_eq!(refusal.status, status, "{text}");
        }
    }

    #[test]
    fn ids_are_names_and_never_paths() {
        for good in ["a", "web-1.2_3+4", "...", "-x", "9", &"x".repeat(1024)] {
            assert_eq!(check_id(OsStr::new(good)).unwrap(), good);
        }
        for bad in ["", ".", "..", "a/b", "../a", "/", "a b", "a\n", "a\0", "ä", "a:b", &"x".repeat(1025)] {
            let error = check_id(OsStr::new(bad)).unwrap_err().to_string();
            assert!(error.starts_with("container id \""), "{error}");
            assert!(error.len() < 120, "{error}");
        }
    }

    #[test]
    fn help_has_every_verb_and_an_example_for_each() {
        let help = |text: &str| match invocation(text).verb {
            Verb::Help(text) => text,
            other => panic!("{text}: {other:?}"),
        };
        for text in ["", "help", "--help", "-h", "--debug"] {
            let help = help(text);
            for verb in VERBS {
                let first = verb.name.split(' ').next().unwrap();
                assert!(help.contains(&format!("\n  {first}")), "{text}: {help}");
            }
            assert!(help.contains("--cgroup-manager"));
        }
        for verb in VERBS {
            for text in [format!("help {}", verb.name), format!("{} --help", verb.name), format!("{} -h", verb.name)] {
                let help = help(&text);
                assert!(help.contains(verb.example), "{help}");
                assert!(verb.options.iter().all(|opt| help.contains(&format!("--{}", opt.long))), "{help}");
            }
            let example: Vec<_> = verb.example.split(' ').map(OsString::from).collect();
            assert!(parse(example).outcome.is_ok(), "{}", verb.example);
        }
    }
}
