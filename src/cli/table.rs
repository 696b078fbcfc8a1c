//! The verbs and options of hull as data: [`super::argv`] reads a command line by it, and clap's commands, the help
//! texts and (in hack/check/docs) the man pages are built from it.
//!
//! The names are runc's, so that an engine or script written for runc works unchanged.

/// One option.
#[derive(Debug, PartialEq, Eq)]
pub struct Opt {
    /// Its name, without dashes.
    pub long: &'static str,
    /// Its one-letter name.
    pub short: Option<char>,
    /// The name of its value in the help; absent: a switch.
    pub value: Option<&'static str>,
    /// The values that it may have; empty: any.
    pub values: &'static [&'static str],
    /// It may be repeated and each counts, where of others the last does.
    pub many: bool,
    /// A line of help.
    pub help: &'static str,
}

/// How many words a positional takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Exactly one.
    One,
    /// One or none.
    Optional,
    /// One or more.
    Many,
    /// Any number, whatever they look like.
    Any,
}

/// One verb.
#[derive(Debug)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Its options.
    pub options: &'static [Opt],
    /// Its positionals: name, count, help.
    pub positionals: &'static [(&'static str, Count, &'static str)],
    /// From the first positional on nothing is an option.
    pub stops: bool,
    /// A command to try.
    pub example: &'static str,
}

const fn switch(long: &'static str, short: Option<char>, help: &'static str) -> Opt {
    Opt { long, short, value: None, values: &[], many: false, help }
}

const fn option(long: &'static str, short: Option<char>, value: &'static str, help: &'static str) -> Opt {
    Opt { long, short, value: Some(value), values: &[], many: false, help }
}

const fn choice(long: &'static str, short: Option<char>, values: &'static [&'static str], help: &'static str) -> Opt {
    Opt { long, short, value: Some("WORD"), values, many: false, help }
}

const fn many(long: &'static str, short: Option<char>, value: &'static str, help: &'static str) -> Opt {
    Opt { long, short, value: Some(value), values: &[], many: true, help }
}

/// Asks for help, everywhere.
pub const HELP: Opt = switch("help", Some('h'), "print help");

/// The options of every verb; they may stand before and after it.
pub const GLOBALS: &[Opt] = &[
    option("root", None, "DIR", "where state is kept [default: /run/hull; not as root: $XDG_RUNTIME_DIR/hull]"),
    option("log", None, "FILE", "append the log to FILE [default: stderr, from warnings on]"),
    choice("log-format", None, &["text", "json"], "how a line of the log looks"),
    choice("log-level", None, &["debug", "info", "warning", "warn", "error"], "the least that is logged"),
    switch("debug", None, "the same as --log-level debug"),
    switch("systemd-cgroup", None, "let systemd make cgroups; cgroupsPath is then slice:prefix:name"),
    choice("cgroup-manager", None, &["cgroupfs", "systemd", "disabled"], "who makes cgroups [default: cgroupfs]"),
    choice("rootless", None, &["true", "false", "auto"], "tolerate cgroups that may not be written"),
    // runc 1.1 runs it, later ones ignore it.
    option("criu", None, "FILE", "accepted, without effect: criu is run from where the system keeps programs"),
    option(
        "trace",
        None,
        "FILE",
        "write a timeline of every step to FILE, for `hull timeline` or ui.perfetto.dev; `-`: draw it on stderr",
    ),
    switch("version", Some('v'), "print the version"),
];

const BUNDLE: Opt = option("bundle", Some('b'), "DIR", "the bundle [default: the current directory]");
const CONFIG: Opt = option("config", None, "FILE", "read FILE instead of config.json of the bundle");
const CONSOLE_SOCKET: Opt =
    option("console-socket", None, "SOCKET", "send the terminal's master to SOCKET (a relative one: in the bundle)");
const PID_FILE: Opt = option("pid-file", None, "FILE", "write the pid of the container's first process to FILE");
const PIDFD_SOCKET: Opt =
    option("pidfd-socket", None, "SOCKET", "send a pidfd of that process to SOCKET (a relative one: in the bundle)");
const NO_PIVOT: Opt = switch("no-pivot", None, "do without pivot_root, for a root on a ramdisk; less safe");
const NO_NEW_KEYRING: Opt = switch("no-new-keyring", None, "keep the caller's session keyring");
const USERNS: Opt = choice(
    "userns",
    None,
    &["self"],
    "make a user namespace with the caller's single id as root, if the config has none",
);
const PRESERVE_FDS: Opt = option("preserve-fds", None, "N", "hand on N descriptors from 3 on, beside LISTEN_FDS");

const NO_TRUNC: Opt = switch("no-trunc", None, "whole ids, also where the terminal is too narrow for them");

const ID: (&str, Count, &str) = ("ID", Count::One, "the container's id");

const UPDATE: &[Opt] = &[
    option("resources", Some('r'), "FILE", "read limits as JSON, as in config.json, from FILE; `-`: from stdin"),
    option("memory", None, "SIZE", "memory, such as 512m or 1.5g; -1: no limit"),
    option("memory-reservation", None, "SIZE", "memory that is left to it when the host runs short"),
    option("memory-swap", None, "SIZE", "memory and swap together; -1: no limit"),
    option("kernel-memory", None, "SIZE", "accepted, without effect on today's kernels"),
    option("kernel-memory-tcp", None, "SIZE", "memory in TCP buffers: cgroup v1, where the kernel has that"),
    option("cpu-period", None, "US", "the period of --cpu-quota in microseconds"),
    option("cpu-quota", None, "US", "CPU time in each period in microseconds; -1: no limit"),
    option("cpu-burst", None, "US", "unused quota that may be saved up, in microseconds"),
    option("cpu-share", None, "N", "relative weight of CPU time, 2 to 262144"),
    option("cpu-rt-period", None, "US", "the period of --cpu-rt-runtime in microseconds (cgroup v1)"),
    option("cpu-rt-runtime", None, "US", "real-time CPU time in each period in microseconds (cgroup v1)"),
    option("cpu-idle", None, "N", "1: run only when nothing else does; 0: as usual"),
    option("cpuset-cpus", None, "LIST", "CPUs to run on, such as 0-3,7"),
    option("cpuset-mems", None, "LIST", "memory nodes to use, such as 0-1"),
    option("pids-limit", None, "N", "number of processes; -1: no limit"),
    option("blkio-weight", None, "N", "relative weight of block I/O, 10 to 1000"),
    option("l3-cache-schema", None, "SCHEMA", "Intel RDT: L3 cache, such as L3:0=f"),
    option("mem-bw-schema", None, "SCHEMA", "Intel RDT: memory bandwidth, such as MB:0=50"),
];

const IMAGE_PATH: Opt = option("image-path", None, "DIR", "the directory of the image [default: checkpoint]");
const WORK_PATH: Opt = option("work-path", None, "DIR", "where CRIU writes its log [default: the image's directory]");
const TCP_ESTABLISHED: Opt = switch("tcp-established", None, "with open TCP connections");
const EXT_UNIX_SK: Opt = switch("ext-unix-sk", None, "with unix sockets whose other end is outside");
const SHELL_JOB: Opt = switch("shell-job", None, "with a terminal that is the caller's");
const LAZY_PAGES: Opt = switch("lazy-pages", None, "bring memory later, when it is used");
const FILE_LOCKS: Opt = switch("file-locks", None, "with file locks");
const CGROUPS_MODE: Opt = choice(
    "manage-cgroups-mode",
    None,
    &["soft", "full", "strict", "ignore"],
    "what CRIU does with cgroups [default: soft]",
);
const EMPTY_NS: Opt = option("empty-ns", None, "KIND", "make this namespace without what was in it: network");
const AUTO_DEDUP: Opt = switch("auto-dedup", None, "keep each page of memory once");
const LINK_REMAP: Opt = switch("link-remap", None, "with files that have been unlinked");

const CHECKPOINT: &[Opt] = &[
    IMAGE_PATH,
    WORK_PATH,
    option("parent-path", None, "DIR", "an earlier image, relative to this one: write what has changed since"),
    switch("leave-running", None, "let the container go on"),
    TCP_ESTABLISHED,
    switch("tcp-skip-in-flight", None, "leave out connections that are being made"),
    LINK_REMAP,
    EXT_UNIX_SK,
    SHELL_JOB,
    LAZY_PAGES,
    option("status-fd", None, "N", "with --lazy-pages: a descriptor that gets a NUL when pages can be fetched"),
    option("page-server", None, "ADDRESS:PORT", "send memory to a page server"),
    FILE_LOCKS,
    switch("pre-dump", None, "write only memory, and let the container go on"),
    CGROUPS_MODE,
    EMPTY_NS,
    AUTO_DEDUP,
];

const RESTORE: &[Opt] = &[
    BUNDLE,
    CONSOLE_SOCKET,
    PID_FILE,
    PIDFD_SOCKET,
    NO_PIVOT,
    IMAGE_PATH,
    WORK_PATH,
    TCP_ESTABLISHED,
    switch("tcp-close", None, "close TCP connections that were open"),
    LINK_REMAP,
    EXT_UNIX_SK,
    SHELL_JOB,
    LAZY_PAGES,
    FILE_LOCKS,
    CGROUPS_MODE,
    EMPTY_NS,
    AUTO_DEDUP,
    option("lsm-profile", None, "TYPE:NAME", "the label that the processes get, such as apparmor:web"),
    option("lsm-mount-context", None, "CONTEXT", "the context that mounts get"),
    switch("detach", Some('d'), "return as soon as the container runs"),
    switch("no-subreaper", None, "do not adopt orphans of the container"),
];

/// Every verb, in the order of the help.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "create",
        about: "make a container that waits for start",
        options: &[
            BUNDLE,
            CONFIG,
            CONSOLE_SOCKET,
            PID_FILE,
            PIDFD_SOCKET,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            USERNS,
        ],
        positionals: &[ID],
        stops: false,
        example: "hull create --bundle /srv/web --pid-file /run/web.pid web",
    },
    Verb {
        name: "start",
        about: "run the program of a created container",
        options: &[],
        positionals: &[ID],
        stops: false,
        example: "hull start web",
    },
    Verb {
        name: "run",
        about: "create and start; in the foreground wait for the program and pass on its status",
        options: &[
            BUNDLE,
            CONFIG,
            CONSOLE_SOCKET,
            PID_FILE,
            PIDFD_SOCKET,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            USERNS,
            switch("detach", Some('d'), "return as soon as the program runs"),
            switch("keep", None, "keep the container after its program ends"),
            switch("no-subreaper", None, "do not adopt orphans of the container"),
        ],
        positionals: &[ID],
        stops: false,
        example: "hull run --bundle /srv/web web",
    },
    Verb {
        name: "exec",
        about: "run another program in a container; in the foreground wait for it and pass on its status",
        options: &[
            CONSOLE_SOCKET,
            option("cwd", None, "DIR", "the working directory in the container"),
            many("env", Some('e'), "NAME=VALUE", "add to the environment"),
            switch("tty", Some('t'), "give it a terminal"),
            option("user", Some('u'), "UID[:GID]", "run as these ids, numbers of the container"),
            many("additional-gids", Some('g'), "GID", "add a supplementary group"),
            option("process", Some('p'), "FILE", "read the process, args and all, from FILE (JSON, as in config.json)"),
            switch("detach", Some('d'), "return as soon as the program runs"),
            option("pid-file", None, "FILE", "write the pid of the program to FILE"),
            option("pidfd-socket", None, "SOCKET", "send a pidfd of the program to SOCKET"),
            option("process-label", None, "LABEL", "the SELinux label"),
            option("apparmor", None, "PROFILE", "the AppArmor profile"),
            switch("no-new-privs", None, "no privileges by execve"),
            many("cap", Some('c'), "CAP", "add a capability to the bounding, effective and permitted sets"),
            PRESERVE_FDS,
            many("cgroup", None, "PATH", "join this cgroup below the container's; on v1 also CONTROLLER,...:PATH"),
            switch("ignore-paused", None, "go into a paused container, to run when it is resumed"),
            option(
                "tools",
                None,
                "DIR",
                "run a program of the host's directory DIR, as its root, beside the container's",
            ),
            option("wait-fifo", None, "FIFO", "join, report the pid, and run the program when a byte comes from FIFO"),
        ],
        positionals: &[ID, ("ARG", Count::Any, "the program and its arguments")],
        stops: true,
        example: "hull exec --env A=b web ls -l /",
    },
    Verb {
        name: "state",
        about: "print a container's state as JSON",
        options: &[],
        positionals: &[ID],
        stops: false,
        example: "hull state web",
    },
    Verb {
        name: "kill",
        about: "send a signal to a container's first process",
        options: &[switch("all", Some('a'), "send it to all processes of the container")],
        positionals: &[
            ID,
            ("SIGNAL", Count::Optional, "a name with or without SIG, a number, RTMIN+n [default: TERM]"),
        ],
        stops: true,
        example: "hull kill web KILL",
    },
    Verb {
        name: "delete",
        about: "remove stopped containers",
        options: &[switch("force", Some('f'), "kill them first; one that does not exist is no error")],
        positionals: &[("ID", Count::Many, "the containers' ids")],
        stops: false,
        example: "hull delete --force web db",
    },
    Verb {
        name: "list",
        about: "list the containers under --root",
        options: &[
            choice("format", Some('f'), &["table", "json"], "how they are listed"),
            switch("quiet", Some('q'), "ids only"),
            NO_TRUNC,
        ],
        positionals: &[],
        stops: false,
        example: "hull list --format json",
    },
    Verb {
        name: "pause",
        about: "freeze all processes of a container",
        options: &[],
        positionals: &[ID],
        stops: false,
        example: "hull pause web",
    },
    Verb {
        name: "resume",
        about: "let a paused container go on",
        options: &[],
        positionals: &[ID],
        stops: false,
        example: "hull resume web",
    },
    Verb {
        name: "update",
        about: "change the limits of a container; what is not named stays as it is",
        options: UPDATE,
        positionals: &[ID],
        stops: false,
        example: "hull update --memory 1.5g --pids-limit 500 web",
    },
    Verb {
        name: "ps",
        about: "list the processes of a container, by their pids on the host",
        options: &[choice(
            "format",
            Some('f'),
            &["table", "json"],
            "a table made by the host's ps, or the pids as JSON",
        )],
        positionals: &[ID, ("OPTION", Count::Any, "options of the host's ps [default: -ef]")],
        stops: true,
        example: "hull ps web -o pid,user,args",
    },
    Verb {
        name: "events",
        about: "print what a container uses, and that it ran out of memory, as JSON lines until it ends",
        options: &[
            option("interval", None, "TIME", "time between two lines of numbers, such as 500ms [default: 5s]"),
            switch("stats", None, "print the numbers once"),
        ],
        positionals: &[ID],
        stops: false,
        example: "hull events --interval 1s web",
    },
    Verb {
        name: "stats",
        about: "print a live table of what containers use: CPU, memory, processes, I/O, pressure",
        options: &[
            choice("format", Some('f'), &["table", "json"], "a table, or all numbers as JSON, once"),
            option("interval", None, "TIME", "time between two tables [default: 1s]"),
            switch("no-stream", None, "print one table (also where stdout is no terminal)"),
            NO_TRUNC,
        ],
        positionals: &[("ID", Count::Any, "the containers' ids [default: all that run]")],
        stops: false,
        example: "hull stats --no-stream",
    },
    Verb {
        name: "checkpoint",
        about: "write a running container to files by CRIU, and end it",
        options: CHECKPOINT,
        positionals: &[ID],
        stops: false,
        example: "hull checkpoint --image-path /srv/web/image web",
    },
    Verb {
        name: "restore",
        about: "bring a container back from the files that checkpoint wrote",
        options: RESTORE,
        positionals: &[ID],
        stops: false,
        example: "hull restore --detach --bundle /srv/web --image-path /srv/web/image web",
    },
    Verb {
        name: "spec",
        about: "write an example config.json",
        options: &[BUNDLE, switch("rootless", None, "for a container that is made without root")],
        positionals: &[],
        stops: false,
        example: "hull spec --bundle /srv/web",
    },
    Verb {
        name: "explain",
        about: "print what create would do, step by step, and do nothing; or cause and cure of an error's CODE",
        options: &[
            BUNDLE,
            CONFIG,
            USERNS,
            choice(
                "format",
                Some('f'),
                &["text", "json", "sh"],
                "words, data, or a script that makes the container by programs of the host",
            ),
        ],
        positionals: &[("CODE", Count::Optional, "the code of an error, such as HULL-E060 or e060")],
        stops: false,
        example: "hull explain --bundle /srv/web",
    },
    Verb {
        name: "check",
        about: "print every problem of a bundle, against the specification and this host; status 0, 1 (warnings), 2 (errors)",
        options: &[BUNDLE, CONFIG, choice("format", Some('f'), &["text", "json"], "words or data")],
        positionals: &[],
        stops: false,
        example: "hull check --bundle /srv/web",
    },
    Verb {
        name: "why",
        about: "print the last failures and deaths under --root, or those of one container, also when it is deleted",
        options: &[choice("format", Some('f'), &["text", "json"], "words or data")],
        positionals: &[("ID", Count::Optional, "the container's id [default: the last of all]")],
        stops: false,
        example: "hull why web",
    },
    Verb {
        name: "timeline",
        about: "draw what --trace FILE wrote: each step of both processes, with its time, on one scale",
        options: &[choice("format", Some('f'), &["text", "svg"], "for the terminal, or for a page")],
        positionals: &[("FILE", Count::One, "what --trace wrote")],
        stops: false,
        example: "hull timeline /tmp/web.trace",
    },
    Verb {
        name: "doctor",
        about: "print what this host can do and lacks, with the cure; status 0, 1 (something lacks), 2 (nothing can run)",
        options: &[choice("format", Some('f'), &["text", "json"], "words or data")],
        positionals: &[],
        stops: false,
        example: "hull doctor",
    },
    Verb {
        name: "seccomp record",
        about: "run a container in the foreground and write the smallest profile for its system calls",
        options: &[
            BUNDLE,
            CONFIG,
            option("output", Some('o'), "FILE", "write the profile to FILE [default: seccomp.json in the bundle]"),
            switch("names-only", None, "no conditions on arguments, such as requests of ioctl and domains of socket"),
            CONSOLE_SOCKET,
            PID_FILE,
            PIDFD_SOCKET,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            USERNS,
            switch("keep", None, "keep the container after its program ends"),
            switch("no-subreaper", None, "do not adopt orphans of the container"),
        ],
        positionals: &[("ID", Count::Optional, "the container's id [default: record- and hull's pid]")],
        stops: false,
        example: "hull seccomp record --bundle /srv/web --output web.json",
    },
    Verb {
        name: "seccomp explain",
        about: "print a profile in words, or what becomes of the system calls that are named",
        options: &[
            BUNDLE,
            CONFIG,
            option(
                "profile",
                None,
                "FILE",
                "read the profile alone, as config.json has it at /linux/seccomp, from FILE",
            ),
            option("arch", None, "ARCH", "the architecture of the calls, such as x86 [default: this machine's]"),
            choice("format", Some('f'), &["text", "json"], "words or data"),
        ],
        positionals: &[(
            "SYSCALL",
            Count::Any,
            "a name or number, with arguments or without: mount, 435, 'clone(CLONE_NEWUSER)', 'socket(2, _, 0)'",
        )],
        stops: false,
        example: "hull seccomp explain --bundle /srv/web mount clone(CLONE_NEWUSER)",
    },
    Verb {
        name: "features",
        about: "print what hull can do as JSON",
        options: &[],
        positionals: &[],
        stops: false,
        example: "hull features",
    },
];

/// The first words of verbs that have two, with a line on them.
pub const GROUPS: &[(&str, &str)] = &[("seccomp", "make and explain seccomp profiles")];

/// The verbs of a group, by their second words.
pub fn members(group: &str) -> impl Iterator<Item = (&'static str, &'static Verb)> {
    VERBS.iter().filter_map(move |verb| match verb.name.split_once(' ') {
        Some((first, second)) if first == group => Some((second, verb)),
        _ => None,
    })
}

/// The verb of that name.
pub fn verb(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}
