//! The command line: argv in, an [`Invocation`] out, or one sentence about what is wrong with it.
//!
//! [`argv`] takes the line apart by the tables of [`table`]. A line that fits them becomes typed options here. Any other,
//! and one that asks for help, goes to clap, which is built from the same tables ([`help`]).
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result, Step, show};
use crate::host::CgroupManager;
use crate::lifecycle::checkpoint::CheckpointOptions;
use crate::lifecycle::record::RecordOptions;
use crate::lifecycle::restore::RestoreOptions;
use crate::lifecycle::update::UpdateOptions;
use crate::lifecycle::{CreateOptions, ExecOptions, Globals};
use crate::log;
use crate::plan::MAX_PRESERVED_FDS;

pub mod argv;
pub mod criu;
pub mod duration;
pub mod help;
pub mod limits;
pub mod root;
pub mod seccomp;
pub mod signal;
pub mod table;

use argv::Line;
use table::GROUPS;

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
    List { json: bool, quiet: bool, whole: bool },
    Pause { id: String },
    Resume { id: String },
    Events { id: String, interval: Duration, once: bool },
    Stats { ids: Vec<String>, json: bool, interval: Duration, stream: bool, whole: bool },
    Update { id: String, options: UpdateOptions },
    Ps { id: String, json: bool, options: Vec<OsString> },
    Checkpoint { id: String, options: CheckpointOptions },
    Restore(RestoreOptions),
    Spec { bundle: PathBuf, rootless: bool },
    Explain { bundle: PathBuf, config: Option<PathBuf>, userns_self: bool, format: ExplainFormat },
    ExplainCode { code: String, json: bool },
    Check { bundle: PathBuf, config: Option<PathBuf>, json: bool },
    Why { id: Option<String>, json: bool },
    Timeline { file: PathBuf, svg: bool },
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

fn invocation(program: &OsStr, line: Line, verb: Option<&str>) -> Result<Invocation, Refusal> {
    if line.globals.on("version") {
        let program = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(Invocation { globals: Globals::default(), own_root: false, verb: Verb::Version { program } });
    }
    if let Some(mistake) = line.mistake {
        return Err(Error::usage(mistake).into());
    }
    let help = line.help || verb.is_none() && line.unknown.0.is_empty();
    let line = Line { help, ..line };
    let Some(name) = verb.filter(|_| line.fits()) else {
        let verb = Verb::Help(help::of(line, verb)?);
        return Ok(Invocation { globals: Globals::default(), own_root: false, verb });
    };
    let (globals, own_root) = globals(&line.globals)?;
    Ok(Invocation { globals, own_root, verb: verb_of(name, &line)? })
}

fn is_known(verb: &str) -> bool {
    table::verb(verb).is_some() || GROUPS.iter().any(|(group, _)| *group == verb)
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
        file: globals.value("log").filter(|path| !path.is_empty()).map(PathBuf::from),
        json: globals.value("log-format") == Some(OsStr::new("json")),
        level,
        // Engines parse stdout and stderr of these together as one JSON text.
        quiet: matches!(verb, Some("state" | "list" | "features" | "ps" | "events" | "stats")),
    }
}

fn globals(options: &argv::Found) -> Result<(Globals, bool)> {
    let word = |name| options.value(name).and_then(OsStr::to_str);
    let cgroup_manager = match word("cgroup-manager") {
        Some("systemd") => CgroupManager::Systemd,
        Some("disabled") => CgroupManager::Disabled,
        None if options.on("systemd-cgroup") => CgroupManager::Systemd,
        _ => CgroupManager::Cgroupfs,
    };
    let rootless = word("rootless").and_then(|word| word.parse().ok());
    let (root, own_root) = match options.path("root") {
        Some(root) => (absolute(&root)?, false),
        None => root::default_root(
            rustix::process::geteuid().as_raw(),
            std::env::var_os("XDG_RUNTIME_DIR"),
            crate::host::in_user_namespace,
        ),
    };
    Ok((Globals { root, cgroup_manager, rootless, trace: options.path("trace") }, own_root))
}

fn verb_of(name: &str, line: &Line) -> Result<Verb> {
    Ok(match name {
        "create" => Verb::Create(create_options(line)?),
        "run" => {
            let mut options = create_options(line)?;
            options.detach = line.on("detach");
            options.keep = line.on("keep");
            options.no_subreaper = line.on("no-subreaper");
            Verb::Run(options)
        }
        "exec" => Verb::Exec(Box::new(exec_options(line)?)),
        "start" => Verb::Start { id: id(line)? },
        "state" => Verb::State { id: id(line)? },
        "kill" => Verb::Kill {
            id: id(line)?,
            signal: match line.words("SIGNAL").first().filter(|word| !word.is_empty()) {
                None => libc::SIGTERM,
                Some(word) => signal::number(&word.to_string_lossy())?,
            },
            all: line.on("all"),
        },
        "delete" => Verb::Delete { ids: ids(line)?, force: line.on("force") },
        "list" => Verb::List { json: is_json(line), quiet: line.on("quiet"), whole: line.on("no-trunc") },
        "pause" => Verb::Pause { id: id(line)? },
        "resume" => Verb::Resume { id: id(line)? },
        "events" => Verb::Events { id: id(line)?, interval: interval(line, "5s")?, once: line.on("stats") },
        "stats" => Verb::Stats {
            ids: ids(line)?,
            json: is_json(line),
            interval: interval(line, "1s")?,
            stream: !line.on("no-stream"),
            whole: line.on("no-trunc"),
        },
        "update" => Verb::Update { id: id(line)?, options: update_options(line)? },
        "ps" => Verb::Ps { id: id(line)?, json: is_json(line), options: line.words("OPTION").to_vec() },
        "checkpoint" => Verb::Checkpoint { id: id(line)?, options: criu::checkpoint(line)? },
        "restore" => Verb::Restore(criu::restore(line)?),
        "spec" => Verb::Spec { bundle: bundle(line)?, rootless: line.on("rootless") },
        "explain" if !line.words("CODE").is_empty() => explain_code(line)?,
        "explain" => Verb::Explain {
            bundle: bundle(line)?,
            config: line.path("config"),
            userns_self: line.on("userns"),
            format: match line.value("format").and_then(OsStr::to_str) {
                Some("json") => ExplainFormat::Json,
                Some("sh") => ExplainFormat::Sh,
                _ => ExplainFormat::Text,
            },
        },
        "check" => Verb::Check { bundle: bundle(line)?, config: line.path("config"), json: is_json(line) },
        "why" => Verb::Why { id: ids(line)?.pop(), json: is_json(line) },
        "timeline" => Verb::Timeline {
            file: line.words("FILE").first().map(PathBuf::from).unwrap_or_default(),
            svg: line.value("format") == Some(OsStr::new("svg")),
        },
        "doctor" => Verb::Doctor { json: is_json(line) },
        "seccomp record" => Verb::SeccompRecord(Box::new(seccomp::record(line)?)),
        "seccomp explain" => Verb::SeccompExplain(Box::new(seccomp::explain(line)?)),
        "features" => Verb::Features,
        other => return Err(Error::bug(Step::Usage, format!("the verb {other} is in the table but not in the code"))),
    })
}

fn create_options(line: &Line) -> Result<CreateOptions> {
    create_options_of(id(line)?, line)
}

fn create_options_of(id: String, line: &Line) -> Result<CreateOptions> {
    let bundle = bundle(line)?;
    // runc enters the bundle before it connects to a socket, but not before it writes the pid file.
    let socket = |name| line.path(name).map(|socket| bundle.join(socket));
    Ok(CreateOptions {
        id,
        config: line.path("config"),
        console_socket: socket("console-socket"),
        pid_file: line.path("pid-file"),
        pidfd_socket: socket("pidfd-socket"),
        no_pivot: line.on("no-pivot"),
        no_new_keyring: line.on("no-new-keyring"),
        userns_self: line.on("userns"),
        preserve_fds: preserve_fds(line)?,
        bundle,
        ..CreateOptions::default()
    })
}

fn interval(line: &Line, default: &str) -> Result<Duration> {
    let word = line.value("interval").map(OsStr::to_string_lossy);
    duration::duration("interval", word.as_deref().unwrap_or(default))
}

fn update_options(line: &Line) -> Result<UpdateOptions> {
    let options = table::verb("update").map_or(&[][..], |verb| verb.options);
    // All but the file are text: what is none reaches nobody.
    for opt in options.iter().filter(|opt| opt.value.is_some() && opt.long != "resources") {
        if let Some(word) = line.value(opt.long).filter(|word| word.to_str().is_none()) {
            return Err(Error::usage(format!("option --{} is text, not {word:?}", opt.long)));
        }
    }
    let word = |name| line.value(name).and_then(OsStr::to_str);
    let schemata = ["l3-cache-schema", "mem-bw-schema"].into_iter().filter_map(word).map(str::to_owned).collect();
    Ok(UpdateOptions { file: line.path("resources"), limits: limits::resources(options, word)?, schemata })
}

/// An error's code says the same of every bundle, and no shell does it.
fn explain_code(line: &Line) -> Result<Verb> {
    if let Some(option) = ["bundle", "config", "userns"].into_iter().find(|option| line.on(option)) {
        return Err(Error::usage(format!("an error's code has nothing to do with --{option}")));
    }
    if line.value("format") == Some(OsStr::new("sh")) {
        return Err(Error::usage("an error's code is explained as text or as JSON, not as sh"));
    }
    let code = line.words("CODE").first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Verb::ExplainCode { code, json: is_json(line) })
}

fn is_json(line: &Line) -> bool {
    line.value("format") == Some(OsStr::new("json"))
}

/// The numbers in them are read by the plan: what is wrong there has exec's own exit status.
fn exec_options(line: &Line) -> Result<ExecOptions> {
    let text = |word: &OsStr| {
        word.to_str().map(str::to_owned).ok_or_else(|| Error::usage(format!("{word:?} is no UTF-8 text")))
    };
    let one = |name| line.value(name).map(text).transpose();
    let many = |name| line.values(name).map(text).collect::<Result<Vec<_>>>();
    Ok(ExecOptions {
        id: id(line)?,
        process: line.path("process"),
        console_socket: line.path("console-socket"),
        pid_file: line.path("pid-file"),
        pidfd_socket: line.path("pidfd-socket"),
        ignore_paused: line.on("ignore-paused"),
        wait_fifo: line.path("wait-fifo"),
        tools: line.path("tools"),
        asked: crate::plan::exec::Options {
            args: line.words("ARG").to_vec(),
            cwd: line.value("cwd").map(OsStr::to_owned),
            env: line.values("env").map(OsStr::to_owned).collect(),
            tty: line.on("tty"),
            user: one("user")?,
            additional_gids: many("additional-gids")?,
            process_label: one("process-label")?,
            apparmor: one("apparmor")?,
            no_new_privs: line.on("no-new-privs"),
            caps: many("cap")?,
            cgroup: many("cgroup")?,
            detach: line.on("detach"),
            console_socket: line.on("console-socket"),
            preserve_fds: preserve_fds(line)?,
            waits: line.on("wait-fifo"),
        },
    })
}

fn preserve_fds(line: &Line) -> Result<u32> {
    match line.value("preserve-fds") {
        None => Ok(0),
        Some(word) => word
            .to_str()
            .and_then(|word| word.parse().ok())
            .filter(|count| *count <= MAX_PRESERVED_FDS)
            .ok_or_else(|| Error::usage(format!("option --preserve-fds is a number of descriptors, not {word:?}"))),
    }
}

fn bundle(line: &Line) -> Result<PathBuf> {
    absolute(&line.path("bundle").unwrap_or_else(|| ".".into()))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Error::usage(format!("{}: the current directory is unknown: {error}", show(path))))
}

fn id(line: &Line) -> Result<String> {
    ids(line)?.into_iter().next().ok_or_else(|| Error::usage("a container id is missing"))
}

fn ids(line: &Line) -> Result<Vec<String>> {
    line.words("ID").iter().map(|id| check_id(id)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::help::command;
    use crate::cli::table::VERBS;

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
            ("delete web", Verb::Delete { ids: vec![id()], force: false }),
            ("delete --force web", Verb::Delete { ids: vec![id()], force: true }),
            ("delete a web -f", Verb::Delete { ids: vec!["a".into(), id()], force: true }),
            ("list", Verb::List { json: false, quiet: false, whole: false }),
            ("list --no-trunc", Verb::List { json: false, quiet: false, whole: true }),
            ("list -f json", Verb::List { json: true, quiet: false, whole: false }),
            ("list --format table -q", Verb::List { json: false, quiet: true, whole: false }),
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
    fn h_and_criu_are_runcs() {
        assert_eq!(invocation("--criu /x list").verb, invocation("list").verb);
        assert_eq!(invocation("h kill").verb, invocation("help kill").verb);
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
            ("lsit", 3, "unknown verb \"lsit\" (did you mean list?)"),
            ("seccomp recrod", 3, "unknown verb \"recrod\" (did you mean record?)"),
            ("inspect web", 3, "unknown verb \"inspect\" (`hull state ID`)"),
            ("version", 3, "unknown verb \"version\" (`hull --version`)"),
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
                "seccomp explain: option --arch is one of x86_64, x86, x32, aarch64, arm, riscv64, ppc64le, ppc64, ppc, s390x, s390, mips, \
                 mipsel, mips64, mipsel64, mips64n32, mipsel64n32, not \"vax\"",
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
        for text in ["", "help", "h", "--help", "-h", "--debug"] {
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
