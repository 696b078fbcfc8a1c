//! The order of the steps, in one place: the numbers of the tables in lifecycle/create.rs and lifecycle/exec.rs, what
//! `--trace` and `--debug` call each step, and the order in which `explain` lists what a plan does.

/// Which process takes a step: a row of the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The process that the engine called.
    Setup,
    /// The process that becomes the container.
    Init,
    /// `hull start`.
    Start,
    /// The process that `hull exec` adds to a container.
    Joiner,
}

impl Side {
    /// Every one.
    pub const ALL: [Side; 4] = [Side::Setup, Side::Init, Side::Start, Side::Joiner];

    /// Its name in a timeline and in `explain`.
    pub fn name(self) -> &'static str {
        match self {
            Side::Setup => "setup",
            Side::Init => "init",
            Side::Start => "start",
            Side::Joiner => "joiner",
        }
    }
}

/// A step, as a timeline shows it: its number in the table, and what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Its number.
    pub number: u8,
    /// What happens.
    pub words: &'static str,
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.number, self.words)
    }
}

macro_rules! points {
    ($(#[$doc:meta])* $name:ident { $($point:ident: $side:ident $number:literal $words:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the words beside each say it")]
        pub enum $name { $($point,)* }

        impl $name {
            /// Every step, in the order in which they happen; those of the two sides between two sync points happen at once.
            pub const ALL: &[$name] = &[$($name::$point,)*];

            /// Who takes it.
            pub fn side(self) -> Side {
                match self { $($name::$point => Side::$side,)* }
            }

            /// What a timeline calls it.
            pub fn label(self) -> Label {
                match self { $($name::$point => Label { number: $number, words: $words },)* }
            }
        }

        impl From<$name> for Label {
            fn from(point: $name) -> Label {
                point.label()
            }
        }
    };
}

points! {
    /// A step of `create`, `start` and `run`, up to the program.
    Point {
        Config: Setup 0 "read config.json, make the plan",
        State: Setup 1 "state directory, start socket, socketpair",
        Cgroup: Setup 2 "create the cgroup",
        HostRoot: Setup 3 "the root file system's mount on the host",
        Open: Setup 3 "open what is joined and what only the host sees",
        Clone: Setup 4 "clone init",
        Attributes: Setup 5 "device rules, cgroup membership, id maps, attributes by pid",
        WaitForMaps: Init 7 "wait for the maps and the cgroup",
        Namespaces: Init 7 "namespaces",
        Executable: Init 7 "the executable",
        Names: Init 7 "loopback, names",
        WaitForRules: Init 7 "wait for the device rules",
        Limits: Setup 9 "limits, the copy of config.json",
        WaitForNamespaces: Setup 9 "wait for the namespaces",
        NetDevices: Setup 9 "move the network devices",
        HandOver: Setup 10 "hand over the sources that init cannot reach",
        WaitForSources: Init 11 "wait for the host's part",
        Root: Init 11 "root file system, mounts, devices",
        WaitForHooks: Init 12 "wait for the hooks",
        WaitForRoot: Setup 13 "wait for the root file system",
        HostHooks: Setup 13 "hooks prestart and createRuntime",
        ContainerHooks: Init 15 "createContainer hooks",
        Enter: Init 15 "masks, read-only paths, pivot_root",
        Inside: Init 15 "terminal, sysctl, read-only mounts",
        Identity: Init 16 "labels, ids, capabilities",
        Ready: Init 17 "ready",
        WaitForReady: Setup 18 "wait for init to be ready",
        Created: Setup 18 "hand on the terminal, write the state and the pid file",
        LetGo: Setup 19 "let init go",
        WaitForStart: Init 20 "wait for start",
        StartState: Start 20 "lock, state",
        StartProgram: Start 20 "let init go, wait for its execve",
        RunProgram: Setup 20 "let init go, wait for its execve",
        Execve: Init 21 "startContainer hooks, limits, Landlock, seccomp, execve",
        Poststart: Start 22 "poststart hooks",
        WaitForEnd: Setup 22 "wait for the program",
        Delete: Setup 23 "delete",
    }
}

points! {
    /// A step of `exec`.
    ExecPoint {
        Plan: Setup 1 "read the state and the copy of config.json, make the plan",
        Sockets: Setup 1 "sockets, signals",
        Cgroup: Setup 2 "open the cgroup, set what is inherited",
        View: Setup 3 "run from a read-only view, join the pid namespace",
        Clone: Setup 4 "clone the joining process",
        Attributes: Setup 5 "cgroup membership, attributes by pid",
        Mapped: Setup 6 "let the joining process go on",
        WaitForCgroup: Joiner 7 "wait for the cgroup and attributes",
        Namespaces: Joiner 7 "namespaces",
        Stdio: Joiner 8 "terminal, stdio",
        Identity: Joiner 8 "ids, capabilities",
        Ready: Joiner 9 "hand on the terminal and the listener",
        WaitForReady: Setup 10 "wait for what the joining process hands on",
        WaitPoint: Setup 11 "report the process, wait for the word",
        Created: Setup 11 "let the joining process execute",
        Execve: Joiner 12 "limits, seccomp, execve",
        WaitForExecve: Setup 13 "wait for the execve",
        Report: Setup 14 "pid file, pidfd",
        WaitForEnd: Setup 15 "wait for the program",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of a table's left and right column: each stands first in its column, or where an arrow begins or ends.
    fn numbers(table: &str) -> [Vec<u8>; 2] {
        let mut found = [Vec::new(), Vec::new()];
        for line in table.lines().filter_map(|line| line.strip_prefix("//! ")) {
            let mut before = String::from("   ");
            for word in line.split_inclusive(' ') {
                let begins = ["   ", "─ ", "► "].iter().any(|end| before.ends_with(end)) || before.trim().is_empty();
                if let Some(number) = word.trim_end().parse::<u8>().ok().filter(|_| begins) {
                    found[usize::from(before.chars().count() > 45)].push(number);
                }
                before += word;
            }
        }
        found
    }

    fn table(source: &'static str) -> &'static str {
        let begin = source.find("//! ```text\n").unwrap() + 12;
        &source[begin..begin + source[begin..].find("//! ```\n").unwrap()]
    }

    /// A number of the steps stands in the table on the side that takes it.
    fn holds(points: impl Iterator<Item = (Side, u8)>, source: &'static str) {
        let [left, right] = numbers(table(source));
        for (side, number) in points.filter(|(side, number)| *side != Side::Start && *number > 0) {
            let (own, name) = if side == Side::Setup { (&left, "left") } else { (&right, "right") };
            assert!(own.contains(&number), "{number} is not in the {name} column, which has {own:?}");
        }
    }

    #[test]
    fn the_tables_of_create_and_exec_have_these_numbers() {
        // `run` alone takes those from 20 on in setup: the table is create's and start's.
        let of_create = Point::ALL.iter().filter(|point| point.side() != Side::Setup || point.label().number < 20);
        holds(of_create.map(|p| (p.side(), p.label().number)), include_str!("../lifecycle/create.rs"));
        holds(
            ExecPoint::ALL.iter().filter(|p| p.label().number < 15).map(|p| (p.side(), p.label().number)),
            include_str!("../lifecycle/exec.rs"),
        );
    }

    #[test]
    fn numbers_never_go_back() {
        assert!(Point::ALL.is_sorted_by_key(|point| point.label().number));
        assert!(ExecPoint::ALL.is_sorted_by_key(|point| point.label().number));
    }
}
