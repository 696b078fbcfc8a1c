//! The command line: argv in, an [`Invocation`] out, or one sentence about what is wrong with it.
//!
//! [`argv`] first brings the line into order by the tables of [`table`]; clap, built from the same tables, then refuses
//! what is unknown (with a suggestion), counts the positionals and writes the help. Only the verb that is used is
//! built: every call of hull is a process of its own, and building all of them doubles the cost.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, PossibleValuesParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::error::{Error, Result, Step, show};
use crate::lifecycle::{CreateOptions, Globals};
use crate::log;
use crate::plan::CgroupManager;

pub mod argv;
pub mod root;
pub mod signal;
pub mod table;

use table::{Count, GLOBALS, Opt, VERBS};

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
    Start { id: String },
    State { id: String },
    Kill { id: String, signal: i32, all: bool },
    Delete { ids: Vec<String>, force: bool },
    List { json: bool, quiet: bool },
    Spec { bundle: PathBuf, rootless: bool },
    Features,
    Help(String),
    Version { program: String },
}

/// Understands argv, the program's own name first.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Parsed {
    let mut argv = argv.into_iter();
    let program = argv.next().unwrap_or_default();
    let line = argv::read(argv);
    let verb = line.verb.as_ref().map(|verb| verb.to_string_lossy().into_owned());
    let log = log_options(&line.globals, verb.as_deref());
    let outcome = invocation(&program, line, verb.as_deref()).map_err(|mut refusal| {
        if let Some(verb) = verb.filter(|verb| table::verb(verb).is_some()) {
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
    Ok(Invocation { globals, own_root, verb: verb_of(name, matches)? })
}

/// The whole of hull's command line for clap; a verb's options are built when the verb is used.
pub fn command() -> Command {
    let verbs = VERBS.iter().map(|verb| Command::new(verb.name).about(verb.about).defer(complete));
    Command::new("hull")
        .about("A low-level OCI container runtime: it makes a process of a bundle")
        .disable_help_subcommand(true)
        .disable_help_flag(true)
        .subcommand_required(true)
        .subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .args(GLOBALS.iter().chain([&table::HELP]).map(arg))
        .subcommands(verbs)
        .after_help("`hull help VERB` explains a verb. Example: hull run --bundle /srv/web web")
}

fn complete(command: Command) -> Command {
    let Some(verb) = table::verb(command.get_name()) else { return command };
    let positionals = verb.positionals.iter().enumerate().map(|(at, (name, count, help))| {
        let arg = Arg::new(*name).index(at + 1).help(*help).value_parser(OsStringValueParser::new());
        let arg = if *count == Count::Optional { arg } else { arg.required(true) };
        if *count == Count::Many { arg.num_args(1..).action(ArgAction::Append) } else { arg }
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
        Some(name) if opt.values.is_empty() => arg.value_name(name).value_parser(OsStringValueParser::new()),
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
        quiet: matches!(verb, Some("state" | "list" | "features")),
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
        "start" => Verb::Start { id: id(matches)? },
        "state" => Verb::State { id: id(matches)? },
        "kill" => Verb::Kill {
            id: id(matches)?,
            signal: match matches.get_one::<OsString>("SIGNAL") {
                None => libc::SIGTERM,
                Some(word) => signal::number(&word.to_string_lossy())?,
            },
            all: matches.get_flag("all"),
        },
        "delete" => Verb::Delete { ids: ids(matches)?, force: matches.get_flag("force") },
        "list" => Verb::List {
            json: matches.get_one::<String>("format").is_some_and(|format| format == "json"),
            quiet: matches.get_flag("quiet"),
        },
        "spec" => Verb::Spec { bundle: bundle(matches)?, rootless: matches.get_flag("rootless") },
        "features" => Verb::Features,
        other => return Err(Error::bug(Step::Usage, format!("the verb {other} is in the table but not in the code"))),
    })
}

fn create_options(matches: &ArgMatches) -> Result<CreateOptions> {
    let bundle = bundle(matches)?;
    // runc enters the bundle before it connects to a socket, but not before it writes the pid file.
    let socket = |name| path(matches, name).map(|socket| bundle.join(socket));
    let preserve_fds = match matches.get_one::<OsString>("preserve-fds") {
        None => 0,
        Some(word) => word
            .to_str()
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| Error::usage(format!("option --preserve-fds is a number of descriptors, not {word:?}")))?,
    };
    Ok(CreateOptions {
        id: id(matches)?,
        config: path(matches, "config"),
        console_socket: socket("console-socket"),
        pid_file: path(matches, "pid-file"),
        pidfd_socket: socket("pidfd-socket"),
        no_pivot: matches.get_flag("no-pivot"),
        no_new_keyring: matches.get_flag("no-new-keyring"),
        preserve_fds,
        bundle,
        ..CreateOptions::default()
    })
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
    let known = verb.filter(|verb| table::verb(verb).is_some());
    let what = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let what = format!("unknown verb {:?}", text(ContextKind::InvalidSubcommand).unwrap_or_default());
            let error = Error::usage(what).hint(match text(ContextKind::SuggestedSubcommand) {
                Some(near) => format!("did you mean {near}?"),
                None => "`hull help` lists the verbs".into(),
            });
            return Refusal { error, status: UNKNOWN_VERB };
        }
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
