//! A process that joins a container: from create's copy of config.json and the command line, or a process of its own
//! (`exec --process`), to what will be done. Nothing here does I/O.
//!
//! What a `--process` file leaves out: capabilities, labels, scheduling and oom_score_adj come from the container, new
//! privileges are allowed, limits are the caller's (runc has it so, and engines rely on it).

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::idmap::IdMaps;
use super::landlock::{self, Landlock};
use super::memory_policy::{self, MemoryPolicy};
use super::namespaces::{Kind, Namespaces};
use super::process::{NO_ID, Process, capability};
use super::seccomp::{self, Filter};
use crate::error::{Error, Result, show};
use crate::host::HostFacts;
use crate::spec::{self, List, Spec, Str};

/// What the command line asks of the process, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The program and its arguments.
    pub args: Vec<OsString>,
    /// --cwd.
    pub cwd: Option<OsString>,
    /// --env, added to the config's.
    pub env: Vec<OsString>,
    /// --tty.
    pub tty: bool,
    /// --user: `uid[:gid]`.
    pub user: Option<String>,
    /// --additional-gids, added to the config's.
    pub additional_gids: Vec<String>,
    /// --process-label.
    pub process_label: Option<String>,
    /// --apparmor.
    pub apparmor: Option<String>,
    /// --no-new-privs.
    pub no_new_privs: bool,
    /// --cap, added to the config's.
    pub caps: Vec<String>,
    /// --cgroup: `[CONTROLLER,...:]PATH`.
    pub cgroup: Vec<String>,
    /// --detach.
    pub detach: bool,
    /// --console-socket was given.
    pub console_socket: bool,
    /// --preserve-fds.
    pub preserve_fds: u32,
    /// With --wait-fifo.
    pub waits: bool,
}

/// What the container is, beyond its config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Container<'c> {
    /// Its id.
    pub id: &'c str,
    /// Whether setgroups(2) is allowed in its user namespace (/proc/PID/setgroups).
    pub setgroups: bool,
    /// It is frozen: nothing that joins it can answer.
    pub frozen: bool,
    /// Its processes keep the session keyring of who called create.
    pub no_new_keyring: bool,
}

/// Which cgroup below the container's is joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Below {
    /// The container's own.
    Nothing,
    /// This one, in every hierarchy.
    All(PathBuf),
    /// These, by the controller of a v1 hierarchy; the container's own in the others.
    Some(Vec<(String, PathBuf)>),
}

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The container.
    pub id: String,
    /// CLONE_NEW* of the namespaces that the container has of its own.
    pub namespaces: u64,
    /// Those of them that the config gave by path: they may be the caller's, too.
    pub by_path: u64,
    /// The ids of root in the container's user namespace; None: it has none.
    pub root_ids: Option<(u32, u32)>,
    /// Whether setgroups(2) is allowed there.
    pub setgroups: bool,
    /// Which cgroup.
    pub cgroup: Below,
    /// NUMA policy.
    pub memory_policy: Option<MemoryPolicy>,
    /// The only paths that the program may use.
    pub landlock: Option<Landlock>,
    /// The program.
    pub process: Process,
    /// The system call filter.
    pub seccomp: Option<Filter>,
    /// Descriptors from 3 on that the program keeps.
    pub preserve_fds: u32,
    /// The session keyring stays the caller's.
    pub no_new_keyring: bool,
    /// The joining process hands something on, or setup has something to do last: they wait for each other.
    pub handover: bool,
    /// What is worth a warning.
    pub notes: Vec<String>,
    /// What engines send every time and nobody can act on.
    pub asides: Vec<String>,
}

/// The process that the command line describes: the container's with what the options change. Its `args` and `cwd` are for
/// messages where they are no UTF-8; [`Exec::new`] takes the bytes, and the variables.
pub fn from_options<'a>(container: &spec::Process<'a>, options: &'a Options) -> Result<spec::Process<'a>> {
    let mut process = container.clone();
    if options.args.is_empty() {
        return Err(Error::usage("a program is missing: `hull exec ID PROGRAM [ARGUMENT]...`, or --process FILE"));
    }
    process.args = List(options.args.iter().map(|arg| Str(arg.to_string_lossy())).collect());
    if let Some(cwd) = &options.cwd {
        if !Path::new(cwd).is_absolute() {
            return Err(Error::usage(format!("--cwd {cwd:?} is no absolute path")));
        }
        process.cwd = Some(Str(cwd.to_string_lossy()));
    }
    for variable in &options.env {
        if variable.as_bytes().iter().position(|byte| *byte == b'=').is_none_or(|at| at == 0) {
            return Err(Error::usage(format!("--env {variable:?} is not NAME=VALUE")));
        }
    }
    process.terminal = options.tty;
    let user = process.user.get_or_insert_default();
    if let Some(text) = &options.user {
        let (uid, gid) = text.split_once(':').map_or((text.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        user.uid = id(uid).ok_or_else(|| wrong_id("--user", text, "UID or UID:GID"))?;
        if let Some(gid) = gid {
            user.gid = id(gid).ok_or_else(|| wrong_id("--user", text, "UID or UID:GID"))?;
        }
    }
    for text in &options.additional_gids {
        user.additional_gids.0.push(id(text).ok_or_else(|| wrong_id("--additional-gids", text, "GID"))?);
    }
    if let Some(label) = &options.process_label {
        process.selinux_label = Some(label.as_str().into());
    }
    if let Some(profile) = &options.apparmor {
        process.apparmor_profile = Some(profile.as_str().into());
    }
    process.no_new_privileges |= options.no_new_privs;
    if !options.caps.is_empty() {
        let sets = process.capabilities.get_or_insert_default();
        for name in options.caps.iter().filter(|name| capability(name).is_some()) {
            // Inheritable stays as it is (CVE-2022-29162), and ambient means something only within inheritable.
            let inherited = sets.inheritable.iter().any(|known| **known == **name);
            for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
                set.0.push(name.as_str().into());
            }
            if inherited {
                sets.ambient.0.push(name.as_str().into());
            }
        }
    }
    Ok(process)
}

/// The process of a `--process` file: what it leaves out comes from the container's.
pub fn from_file<'a>(container: &spec::Process<'a>, file: spec::Process<'a>) -> spec::Process<'a> {
    let mut process = file;
    let label =
        |own: Option<Str<'a>>, its: &Option<Str<'a>>| own.filter(|text| !text.is_empty()).or_else(|| its.clone());
    process.apparmor_profile = label(process.apparmor_profile, &container.apparmor_profile);
    process.selinux_label = label(process.selinux_label, &container.selinux_label);
    process.capabilities = process.capabilities.or_else(|| container.capabilities.clone());
    process.scheduler = process.scheduler.or_else(|| container.scheduler.clone());
    process.io_priority = process.io_priority.or_else(|| container.io_priority.clone());
    process.exec_cpu_affinity = process.exec_cpu_affinity.or_else(|| container.exec_cpu_affinity.clone());
    process.oom_score_adj = process.oom_score_adj.or(container.oom_score_adj);
    let user = process.user.get_or_insert_default();
    user.umask = user.umask.or(container.user.as_ref().and_then(|user| user.umask));
    process
}

/// An id in decimal digits and nothing else: no sign, no blank, nothing behind it (CVE-2026-30892), and never the id that
/// means "unchanged" (setresuid(2)).
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|id| *id != NO_ID)
}

fn wrong_id(option: &str, text: &str, form: &str) -> Error {
    Error::usage(format!("{option} {text:?} is not {form}: ids are numbers from 0 to 4294967294"))
}

impl Exec {
    /// Makes the plan. `spec` is create's copy of the config with the joining process in place of its own; `file` is
    /// where that process came from, when it was not the command line.
    pub fn new(
        spec: &Spec<'_>,
        file: Option<&str>,
        host: &HostFacts,
        container: Container<'_>,
        options: &Options,
    ) -> Result<Exec> {
        let linux = spec.linux.as_ref();
        let (mut notes, mut asides) = (Vec::new(), Vec::new());
        let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
        check_terminal(terminal, options)?;
        let namespaces = Namespaces::new(linux)?;
        let idmaps = IdMaps::new(linux, &namespaces, host, &mut Vec::new())?;
        let create_options = super::Options {
            id: container.id.to_owned(),
            console_socket: options.console_socket,
            detached: options.detach,
            preserve_fds: options.preserve_fds,
            env: if file.is_none() { options.env.clone() } else { Vec::new() },
            ..super::Options::default()
        };
        let mut process =
            Process::new(spec, &namespaces, idmaps.as_ref(), host, &create_options, (&mut notes, &mut asides))
                .map_err(|error| in_file(error, file))?;
        if file.is_none() {
            // A warning, as in config.json.
            for name in options.caps.iter().filter(|name| capability(name).is_none()) {
                notes.push(format!("--cap {name:?} is no capability, ignored: they are named as CAP_CHOWN"));
            }
            process.args = options.args.iter().map(|arg| c_string(arg)).collect::<Result<_>>()?;
            if let Some(cwd) = &options.cwd {
                process.cwd = cwd.into();
            }
        }
        super::process::fits_execve(&process).map_err(|error| in_file(error, file))?;
        if !container.setgroups {
            if process.user.groups.as_ref().is_some_and(|groups| !groups.is_empty()) {
                let what = "the container's user namespace denies setgroups: it cannot have supplementary groups";
                return Err(in_file(Error::spec("/process/user/additionalGids", what), file));
            }
            process.user.groups = None;
        }
        let fail_unknown = spec.annotations.get(seccomp::FAIL_UNKNOWN_ANNOTATION).is_some_and(|value| &**value == "1");
        let context = seccomp::Context { audit_arch: host.audit_arch, fail_unknown };
        let seccomp = linux.and_then(|l| l.seccomp.as_ref()).map(|s| seccomp::compile(s, &context)).transpose()?;
        let deadline = process.scheduler.as_ref().is_some_and(|scheduler| scheduler.is_deadline());
        let listens = seccomp.as_ref().is_some_and(|filter| filter.notify.is_some());
        if container.frozen && (terminal || listens || deadline || options.waits) {
            let what = "a terminal, a seccomp listener, SCHED_DEADLINE or --wait-fifo needs an answer from the process, which a paused \
                        container does not give";
            return Err(Error::status(what).hint("resume it first"));
        }
        let by_path = namespaces.joins.iter().fold(0, |flags, join| flags | join.kind.flag());
        let root_ids = match &idmaps {
            Some(maps) => Some(maps.root()),
            None => namespaces.joins(Kind::User).then_some((0, 0)),
        };
        Ok(Exec {
            id: container.id.to_owned(),
            namespaces: namespaces.clone | namespaces.unshare | by_path,
            by_path,
            root_ids,
            setgroups: container.setgroups,
            cgroup: below(&options.cgroup)?,
            memory_policy: linux.and_then(|l| l.memory_policy.as_ref()).map(memory_policy::plan).transpose()?,
            landlock: landlock::plan(spec, host)?,
            process,
            seccomp,
            preserve_fds: options.preserve_fds,
            no_new_keyring: container.no_new_keyring,
            handover: terminal || listens || deadline || options.waits,
            notes,
            asides,
        })
    }

    /// Whether the process is in a namespace of this kind that the container has of its own.
    pub fn joins(&self, kind: Kind) -> bool {
        self.namespaces & kind.flag() != 0
    }

    /// Whether a label is written to /proc.
    pub fn needs_procfs(&self) -> bool {
        self.process.apparmor_profile.is_some() || self.process.selinux_label.is_some()
    }
}

fn check_terminal(terminal: bool, options: &Options) -> Result<()> {
    match (terminal, options.console_socket, options.detach) {
        (true, false, true) => {
            Err(Error::usage("--tty with --detach needs --console-socket: who is to hold the terminal?"))
        }
        (true, true, false) => {
            Err(Error::usage("--console-socket goes with --detach: in the foreground hull holds the terminal"))
        }
        (false, true, _) => Err(Error::usage("--console-socket goes with --tty (with --process FILE: its `terminal`)")),
        _ => Ok(()),
    }
}

fn c_string(arg: &OsStr) -> Result<CString> {
    CString::new(arg.to_owned().into_vec()).map_err(|_| Error::usage(format!("the argument {arg:?} holds a NUL byte")))
}

/// An error of the process names the file that it is in.
fn in_file(error: Error, file: Option<&str>) -> Error {
    match (file, error.subject.strip_prefix("config.json: /process")) {
        (Some(file), Some(rest)) => {
            let subject = format!("{file}: {}{rest}", if rest.starts_with('/') { "" } else { "/" });
            Error { subject, ..error }
        }
        _ => error,
    }
}

/// `--cgroup`, as runc has it: one PATH for all hierarchies, or CONTROLLER,...:PATH for some, each controller once.
fn below(asked: &[String]) -> Result<Below> {
    let mut some: Vec<(String, PathBuf)> = Vec::new();
    for text in asked {
        let refuse = |why: &str| Err(Error::usage(format!("--cgroup {text:?}: {why}")));
        let Some((controllers, path)) = text.split_once(':') else {
            if asked.len() > 1 {
                return refuse("with several of them each needs CONTROLLER: before the path");
            }
            return Ok(match inside(text, text)? {
                path if path.as_os_str().is_empty() => Below::Nothing,
                path => Below::All(path),
            });
        };
        for controller in controllers.split(',') {
            if controller.is_empty() {
                return refuse("the name of a controller is empty");
            }
            if some.iter().any(|(known, _)| known == controller) {
                return refuse("a controller is given twice");
            }
            some.push((controller.to_owned(), inside(text, path)?));
        }
    }
    Ok(if some.is_empty() { Below::Nothing } else { Below::Some(some) })
}

/// The path of `--cgroup text` below the container's cgroup: by its parts, since `../foo-suffix` begins like `foo` too.
fn inside(text: &str, below: &str) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(below).components() {
        match part {
            Component::Normal(name) if !name.as_bytes().contains(&0) => path.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            // runc's words on v1 and v2 in one.
            _ => {
                let below = show(Path::new(below));
                let what = format!("--cgroup {text:?}: bad sub cgroup path: {below} is not a sub cgroup path");
                return Err(Error::usage(what).hint("it leads out of the container's cgroup"));
            }
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"ociVersion": "1.3.0", "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["init"], "env": ["A=1"], "terminal": true,
                    "user": {"uid": 5, "gid": 6, "umask": 63, "additionalGids": [7]},
                    "capabilities": {"bounding": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"]},
                    "apparmorProfile": "outer", "oomScoreAdj": 9, "noNewPrivileges": true,
                    "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/n"}]}}"#;

    fn host() -> HostFacts {
        HostFacts {
            audit_arch: crate::sys::arch::AUDIT_ARCH,
            apparmor: true,
            selinux: true,
            ..HostFacts::of_root(Default::default())
        }
    }

    fn plan(file: Option<&str>, options: &Options, container: Container<'_>) -> Result<Exec> {
        let mut spec: Spec<'_> = serde_json::from_str(CONFIG).unwrap();
        let own = spec.process.take().unwrap();
        let name = file.map(|_| "p.json");
        spec.process = Some(match file {
            None => from_options(&own, options)?,
            Some(text) => from_file(&own, serde_json::from_str(text).unwrap()),
        });
        Exec::new(&spec, name, &host(), container, options)
    }

    const CONTAINER: Container<'_> = Container { id: "web", setgroups: true, frozen: false, no_new_keyring: false };

    fn options() -> Options {
        Options { args: vec!["sh".into()], ..Options::default() }
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_config_holds_where_no_option_changes_it() {
        let plan = plan(None, &options(), CONTAINER).unwrap();
        let process = &plan.process;
        assert_eq!((process.args.len(), process.args[0].as_c_str()), (1, c"sh"));
        assert!(!process.terminal && process.no_new_privileges);
        assert_eq!((process.user.uid, process.user.gid, process.user.umask), (5, 6, 63));
        assert_eq!((process.apparmor_profile.as_deref(), process.oom_score_adj), (Some("outer"), Some(9)));
        assert_eq!(plan.namespaces, Kind::Pid.flag() | Kind::Network.flag());
        assert_eq!((plan.by_path, plan.root_ids), (Kind::Network.flag(), None));
    }

    #[test]
    fn options_add_and_replace() {
        let options = Options {
            args: vec![OsString::from_vec(b"\xff".to_vec()), "b".into()],
            cwd: Some("/tmp".into()),
            env: vec!["A=2".into(), "B=3".into()],
            user: Some("9".into()),
            additional_gids: strings(&["8"]),
            caps: strings(&["CAP_KILL", "CHOWN", "CAP_SETUID"]),
            apparmor: Some("inner".into()),
            ..Options::default()
        };
        let Exec { process, notes, .. } = plan(None, &options, CONTAINER).unwrap();
        assert_eq!(notes, ["--cap \"CHOWN\" is no capability, ignored: they are named as CAP_CHOWN"]);
        assert_eq!(process.args[0].as_bytes(), b"\xff");
        assert_eq!(process.env, [c"A=2".to_owned(), c"B=3".to_owned()]);
        assert_eq!((process.user.uid, process.user.gid), (9, 6));
        assert_eq!(process.user.groups, Some(vec![7, 8]));
        let bit = |name| 1u64 << capability(name).unwrap();
        let (chown, kill, setuid) = (bit("CAP_CHOWN"), bit("CAP_KILL"), bit("CAP_SETUID"));
        assert_eq!(process.capabilities.bounding, chown | kill | setuid);
        assert_eq!(process.capabilities.effective, kill | setuid);
        assert_eq!((process.capabilities.inheritable, process.capabilities.ambient), (kill, kill));
        assert_eq!((process.cwd.as_path(), process.apparmor_profile.as_deref()), (Path::new("/tmp"), Some("inner")));
    }

    #[test]
    fn a_file_stands_alone_but_for_what_the_container_gives() {
        let file = r#"{"cwd": "/", "args": ["x"], "env": ["C=1"], "user": {"uid": 1}}"#;
        let ignored = Options { user: Some("77".into()), tty: true, ..options() };
        let process = plan(Some(file), &ignored, CONTAINER).unwrap().process;
        assert_eq!((process.user.uid, process.user.gid, process.user.umask), (1, 0, 63));
        assert_eq!(process.env, [c"C=1".to_owned()]);
        assert!(!process.no_new_privileges && !process.terminal && process.rlimits.is_empty());
        assert_eq!(process.capabilities.bounding, 1);
        assert_eq!((process.apparmor_profile.as_deref(), process.oom_score_adj), (Some("outer"), Some(9)));
        let own = r#"{"cwd": "/", "args": ["x"], "capabilities": {}, "apparmorProfile": "own", "oomScoreAdj": 1}"#;
        let process = plan(Some(own), &options(), CONTAINER).unwrap().process;
        assert_eq!(process.capabilities, Default::default());
        assert_eq!((process.apparmor_profile.as_deref(), process.oom_score_adj), (Some("own"), Some(1)));
    }

    #[test]
    fn ids_are_numbers_and_nothing_else() {
        for good in [("1", 1, 6), ("0:0", 0, 0), ("4294967294:007", 4_294_967_294, 7)] {
            let options = Options { user: Some(good.0.into()), ..options() };
            let user = plan(None, &options, CONTAINER).unwrap().process.user;
            assert_eq!((user.uid, user.gid), (good.1, good.2), "{}", good.0);
        }
        for bad in
            ["1x", "-1", "+1", "4294967295", "4294967296", ":5", "1:", ":", "1:2:3", " 1", "1 ", "root", "0x1", ""]
        {
            let options = Options { user: Some(bad.into()), ..options() };
            let error = plan(None, &options, CONTAINER).unwrap_err().to_string();
            assert!(error.contains("is not UID or UID:GID"), "{bad}: {error}");
        }
        let options = Options { additional_gids: strings(&["1,2"]), ..options() };
        assert!(plan(None, &options, CONTAINER).is_err());
    }

    #[test]
    fn a_cgroup_never_leads_out() {
        let one = |text: &str| below(&strings(&[text]));
        assert_eq!(one("/").unwrap(), Below::Nothing);
        assert_eq!(one("a/./b/../c").unwrap(), Below::All("a/c".into()));
        assert_eq!(one("/a").unwrap(), Below::All("a".into()));
        let some = below(&strings(&["cpu,memory:a", "pids:/"])).unwrap();
        let entry = |name: &str, path: &str| (name.to_owned(), PathBuf::from(path));
        assert_eq!(some, Below::Some(vec![entry("cpu", "a"), entry("memory", "a"), entry("pids", "")]));
        for bad in ["..", "../foo-suffix", "a/../..", "/../x", "cpu:../x", ":x", "cpu,:x", "cpu,cpu:x"] {
            assert!(one(bad).is_err(), "{bad}");
        }
        for bad in [["a", "b"], ["cpu:a", "b"], ["cpu:a", "cpu:b"]] {
            assert!(below(&strings(&bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_wrong_names_where_it_is() {
        let table: [(Option<&str>, Options, &str); 7] = [
            (None, Options::default(), "a program is missing"),
            (None, Options { cwd: Some("tmp".into()), ..options() }, "--cwd \"tmp\" is no absolute path"),
            (None, Options { env: vec!["A".into()], ..options() }, "--env \"A\" is not NAME=VALUE"),
            (None, Options { tty: true, detach: true, ..options() }, "--tty with --detach needs --console-socket"),
            (None, Options { console_socket: true, detach: true, ..options() }, "--console-socket goes with --tty"),
            (Some(r#"{"args": ["x"]}"#), options(), "p.json: /cwd: missing"),
            (Some(r#"{"cwd": "/"}"#), options(), "p.json: /args: needs a program"),
        ];
        for (file, options, words) in table {
            let error = plan(file, &options, CONTAINER).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn a_paused_container_gives_no_answer() {
        let frozen = Container { frozen: true, ..CONTAINER };
        assert!(!plan(None, &options(), frozen).unwrap().handover);
        let error = plan(None, &Options { tty: true, ..options() }, frozen).unwrap_err().to_string();
        assert!(error.contains("needs an answer"), "{error}");
    }

    #[test]
    fn a_namespace_without_setgroups_has_no_groups() {
        let denied = Container { setgroups: false, ..CONTAINER };
        let error = plan(None, &options(), denied).unwrap_err().to_string();
        assert!(error.contains("denies setgroups"), "{error}");
        let file = r#"{"cwd": "/", "args": ["x"]}"#;
        assert_eq!(plan(Some(file), &options(), denied).unwrap().process.user.groups, None);
    }
}
