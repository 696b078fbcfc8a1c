//! Reads a command line as runc reads it.
//!
//! Engines and scripts use freedoms of Go's flag packages that clap does not have: one dash for long options
//! (`-no-subreaper`), `--switch=false`, repeated options of which the last counts, an empty value for "unset", global
//! options behind the verb, and verbs that stop reading options at the container's id. All of these end here; what
//! comes out has each option at most once. A line that does not fit the table is written for clap as it wants it,
//! `--name=value` before a `--`, to be refused with a suggestion.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::table::{Count, GLOBALS, GROUPS, HELP, Opt, Verb, verb};

/// A command line, taken apart.
#[derive(Debug, Default)]
pub struct Line {
    /// The verb, known or not.
    pub verb: Option<OsString>,
    /// Global options with their values.
    pub globals: Found,
    /// The verb's own options with their values.
    pub options: Found,
    /// Words that look like options and are none: before the verb, and after it.
    pub unknown: (Vec<OsString>, Vec<OsString>),
    /// Everything else.
    pub positionals: Vec<OsString>,
    /// --help was given, or the verb `help`.
    pub help: bool,
    /// The first mistake in the form of an option.
    pub mistake: Option<String>,
}

/// Options with their values, each once (the last counts) but those of which many count. A switch has no value.
#[derive(Debug, Default)]
pub struct Found(Vec<(&'static Opt, OsString)>);

impl Found {
    /// The value of an option.
    pub fn value(&self, long: &str) -> Option<&OsStr> {
        self.0.iter().find(|(opt, _)| opt.long == long).map(|(_, value)| value.as_os_str())
    }

    /// Whether a switch is on.
    pub fn on(&self, long: &str) -> bool {
        self.value(long).is_some()
    }

    /// All values of an option, in their order.
    pub fn values(&self, long: &str) -> impl Iterator<Item = &OsStr> {
        self.0.iter().filter(move |(opt, _)| opt.long == long).map(|(_, value)| value.as_os_str())
    }

    /// The value of an option as a path.
    pub fn path(&self, long: &str) -> Option<PathBuf> {
        self.value(long).map(PathBuf::from)
    }

    /// Each option that has a list of values has one of them.
    fn fits(&self) -> bool {
        self.0.iter().all(|(opt, value)| opt.values.is_empty() || opt.values.iter().any(|known| value == known))
    }

    fn set(&mut self, opt: &'static Opt, value: Option<OsString>) {
        if opt.many {
            // An empty one is one of them: `--env ""` is a mistake, and unsets nothing.
            return self.0.push((opt, value.unwrap_or_default()));
        }
        self.0.retain(|(known, _)| known.long != opt.long);
        if let Some(value) = value {
            self.0.push((opt, value));
        }
    }

    fn write(self, out: &mut Vec<OsString>) {
        for (opt, value) in self.0 {
            let mut word = OsString::from("--");
            word.push(opt.long);
            if opt.value.is_some() {
                word.push("=");
                word.push(value);
            }
            out.push(word);
        }
    }
}

/// Takes the words behind the program's name apart.
pub fn read(words: impl IntoIterator<Item = OsString>) -> Line {
    let mut reader = Reader { line: Line::default(), verb: None };
    let mut words = words.into_iter();
    let mut no_more_options = false;
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if no_more_options || bytes.len() < 2 || bytes[0] != b'-' {
            no_more_options |= reader.word(word);
        } else if bytes == b"--" {
            no_more_options = true;
        } else {
            reader.option(word, &mut words);
        }
    }
    reader.line
}

struct Reader {
    line: Line,
    verb: Option<&'static Verb>,
}

impl Reader {
    /// A word that is no option; gives whether the words after it are none either.
    fn word(&mut self, word: OsString) -> bool {
        if let Some(first) = &mut self.line.verb {
            if GROUPS.iter().any(|(group, _)| first == group) {
                // Known or not: clap knows what could have been meant.
                first.push(" ");
                first.push(word);
                self.verb = first.to_str().and_then(verb);
                return false;
            }
            self.line.positionals.push(word);
            return self.verb.is_some_and(|verb| verb.stops);
        }
        if (word == "help" || word == "h") && !self.line.help {
            self.line.help = true;
            return false;
        }
        self.verb = word.to_str().and_then(verb);
        self.line.verb = Some(word);
        false
    }

    /// `--name`, `--name=value`, `-name`, `-n value`, `-nm`.
    fn option(&mut self, word: OsString, words: &mut impl Iterator<Item = OsString>) {
        let bytes = word.as_bytes();
        let body = bytes.strip_prefix(b"--").unwrap_or(&bytes[1..]);
        let (name, value) = match body.iter().position(|&byte| byte == b'=') {
            Some(at) => (&body[..at], Some(OsStr::from_bytes(&body[at + 1..]).to_owned())),
            None => (body, None),
        };
        // The verb's own options first: `spec --rootless` is a switch, the global one has a value.
        if let Some((opt, global)) = std::str::from_utf8(name).ok().and_then(|name| self.find(name)) {
            return self.take(opt, global, value, words);
        }
        if !bytes.starts_with(b"--") && self.cluster(body, words) {
            return;
        }
        // One dash does as two, so that the suggestion is among the long names.
        let dashes: &[u8] = if bytes.starts_with(b"--") || name.len() > 1 { b"--" } else { b"-" };
        let shown = OsString::from_vec([dashes, body].concat());
        let (before, after) = &mut self.line.unknown;
        if self.line.verb.is_some() { after.push(shown) } else { before.push(shown) }
    }

    /// One-letter options in one word, `-qf json`. A value never sticks to its letter: `-bundel x` is a typo, not the
    /// bundle `undel`.
    fn cluster(&mut self, body: &[u8], words: &mut impl Iterator<Item = OsString>) -> bool {
        let mut found = Vec::new();
        for letter in body {
            let Some(option) = self.find((*letter as char).encode_utf8(&mut [0; 4])) else { return false };
            found.push(option);
        }
        let only_the_last_takes_a_value = found.iter().rev().skip(1).all(|(opt, _)| opt.value.is_none());
        if only_the_last_takes_a_value {
            for (opt, global) in found {
                self.take(opt, global, None, words);
            }
        }
        only_the_last_takes_a_value
    }

    fn take(
        &mut self,
        opt: &'static Opt,
        global: bool,
        value: Option<OsString>,
        words: &mut impl Iterator<Item = OsString>,
    ) {
        if *opt == HELP {
            self.line.help = true;
            return;
        }
        let value = match (opt.value, value) {
            (Some(_), given) => match given.or_else(|| words.next()) {
                None => return self.mistake(format!("option --{} requires an argument", opt.long)),
                Some(empty) if empty.is_empty() => None,
                some => some,
            },
            (None, None) => Some(OsString::new()),
            (None, Some(word)) => match word.to_str() {
                Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Some(OsString::new()),
                Some("false" | "0" | "f" | "F" | "FALSE" | "False") => None,
                _ => return self.mistake(format!("option --{} is true or false, not {word:?}", opt.long)),
            },
        };
        if global { self.line.globals.set(opt, value) } else { self.line.options.set(opt, value) }
    }

    fn find(&self, name: &str) -> Option<(&'static Opt, bool)> {
        let named = |opt: &&'static Opt| {
            opt.long == name || opt.short.is_some_and(|short| name.len() == 1 && name.as_bytes()[0] as char == short)
        };
        let own = self.verb.and_then(|verb| verb.options.iter().find(named)).map(|opt| (opt, false));
        own.or_else(|| GLOBALS.iter().find(named).map(|opt| (opt, true)))
            .or_else(|| Some(&HELP).filter(named).map(|opt| (opt, true)))
    }

    fn mistake(&mut self, what: String) {
        self.line.mistake.get_or_insert(what);
    }
}

impl Line {
    fn row(&self) -> Option<&'static Verb> {
        self.verb.as_ref().and_then(|name| name.to_str()).and_then(verb)
    }

    /// Whether the table knows all of it: the verb, the options with their values, the number of words.
    pub fn fits(&self) -> bool {
        let (before, after) = &self.unknown;
        let asks = self.help || self.mistake.is_some() || !before.is_empty() || !after.is_empty();
        let count = |verb: &Verb| {
            let counts = verb.positionals.iter().map(|(_, count, _)| *count);
            let least = counts.clone().filter(|count| matches!(count, Count::One | Count::Many)).count();
            let many = counts.clone().any(|count| matches!(count, Count::Many | Count::Any));
            self.positionals.len() >= least && (many || self.positionals.len() <= counts.count())
        };
        !asks && self.globals.fits() && self.options.fits() && self.row().is_some_and(count)
    }

    /// Whether an option of the verb is there: a switch that is on, or a value.
    pub fn on(&self, long: &str) -> bool {
        self.options.on(long)
    }

    /// The value of an option of the verb.
    pub fn value(&self, long: &str) -> Option<&OsStr> {
        self.options.value(long)
    }

    /// All values of an option of the verb.
    pub fn values(&self, long: &str) -> impl Iterator<Item = &OsStr> {
        self.options.values(long)
    }

    /// The value of an option of the verb as a path.
    pub fn path(&self, long: &str) -> Option<PathBuf> {
        self.options.path(long)
    }

    /// The words of one of the verb's positionals.
    pub fn words(&self, name: &str) -> &[OsString] {
        let row = self.row().map_or(&[][..], |verb| verb.positionals);
        let Some(at) = row.iter().position(|(known, ..)| *known == name) else { return &[] };
        let all = &self.positionals[at.min(self.positionals.len())..];
        match row[at].1 {
            Count::One | Count::Optional => &all[..all.len().min(1)],
            Count::Many | Count::Any => all,
        }
    }

    /// The words for clap, its program name first.
    pub fn into_words(self) -> Vec<OsString> {
        let mut out = vec![OsString::from("hull")];
        self.globals.write(&mut out);
        out.extend(self.unknown.0);
        if self.help && self.verb.is_none() {
            out.push("--help".into());
        }
        let Some(verb) = self.verb else { return out };
        match verb.to_str().and_then(|verb| verb.split_once(' ')) {
            Some((group, member)) if GROUPS.iter().any(|(known, _)| *known == group) => {
                out.extend([group.into(), member.into()]);
            }
            _ => out.push(verb),
        }
        if self.help {
            out.push("--help".into());
            return out;
        }
        self.options.write(&mut out);
        out.extend(self.unknown.1);
        if !self.positionals.is_empty() {
            // One of them may look like an option: what is wrong with `kill ID -9` is for the signal to say.
            out.push("--".into());
            out.extend(self.positionals);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Line {
        read(line.split_whitespace().map(|word| if word == "''" { OsString::new() } else { word.into() }))
    }

    /// A line as typed, and as clap gets it.
    #[test]
    fn a_line_is_brought_into_order() {
        let table = [
            ("create web --bundle /b --pid-file /p", "create --bundle=/b --pid-file=/p -- web"),
            ("create -b /b web", "create --bundle=/b -- web"),
            ("create -b=/b web", "create --bundle=/b -- web"),
            ("create -bundel /b web", "create --bundel -- /b web"),
            ("create -bundle /b web", "create --bundle=/b -- web"),
            ("create -bundle=/b web", "create --bundle=/b -- web"),
            ("create --bundle -x web", "create --bundle=-x -- web"),
            ("create --bundle a=b web", "create --bundle=a=b -- web"),
            ("create --bundle=a=b web", "create --bundle=a=b -- web"),
            ("create --bundle a --bundle b web", "create --bundle=b -- web"),
            ("create --pid-file a --pid-file= web", "create -- web"),
            ("create --pid-file '' web", "create -- web"),
            ("create --no-pivot --no-pivot web", "create --no-pivot -- web"),
            ("create --no-pivot=false web", "create -- web"),
            ("create --no-pivot --no-pivot=false web", "create -- web"),
            ("create --no-pivot=false --no-pivot=true web", "create --no-pivot -- web"),
            ("run -no-subreaper -d web", "run --no-subreaper --detach -- web"),
            ("run -db /b web", "run --detach --bundle=/b -- web"),
            ("--systemd-cgroup=false create web", "create -- web"),
            ("create web --systemd-cgroup --root /r", "--systemd-cgroup --root=/r create -- web"),
            ("--root /a create --root /b web", "--root=/b create -- web"),
            ("-root /a list", "--root=/a list"),
            ("-v", "--version"),
            ("spec --rootless", "spec --rootless"),
            ("--rootless true spec", "--rootless=true spec"),
            ("--rootless true spec --rootless", "--rootless=true spec --rootless"),
            ("list -f json", "list --format=json"),
            ("list -qf json", "list --quiet --format=json"),
            ("delete -f web", "delete --force -- web"),
            ("delete a --force b", "delete --force -- a b"),
            ("kill --all web 9", "kill --all -- web 9"),
            ("kill web -9", "kill -- web -9"),
            ("kill web -TERM --all", "kill -- web -TERM --all"),
            ("state -- -x", "state -- -x"),
            ("state -", "state -- -"),
            ("help", "--help"),
            ("h", "--help"),
            ("help kill", "kill --help"),
            ("kill --help", "kill --help"),
            ("kill -h", "kill --help"),
            ("kill web --help", "kill -- web --help"),
            ("-h", "--help"),
            ("create --no-pivto web", "create --no-pivto -- web"),
            ("create -no-pivto web", "create --no-pivto -- web"),
            ("create -x web", "create -x -- web"),
            ("--nope state web", "--nope state -- web"),
            ("exec -e A=1 --env=B=2 -e '' web env -e C", "exec --env=A=1 --env=B=2 --env= -- web env -e C"),
            ("exec -dt web sh -- -c", "exec --detach --tty -- web sh -- -c"),
            ("frobnicate -x y", "frobnicate -x -- y"),
            ("seccomp explain -b /b mount", "seccomp explain --bundle=/b -- mount"),
            ("seccomp --debug explain --arch x86", "--debug seccomp explain --arch=x86"),
            ("seccomp explian mount", "seccomp explian -- mount"),
            ("help seccomp explain", "seccomp explain --help"),
            ("seccomp", "seccomp"),
        ];
        for (typed, wanted) in table {
            let line = words(typed);
            assert_eq!(line.mistake, None, "{typed}");
            let got: Vec<_> = line.into_words().into_iter().skip(1).map(|w| w.into_string().unwrap()).collect();
            assert_eq!(got.join(" "), wanted, "{typed}");
        }
    }

    #[test]
    fn mistakes_in_form_are_said() {
        let table = [
            ("--root", "option --root requires an argument"),
            ("create web --bundle", "option --bundle requires an argument"),
            ("create web -b", "option --bundle requires an argument"),
            ("run --detach=maybe web", "option --detach is true or false, not \"maybe\""),
        ];
        for (typed, wanted) in table {
            assert_eq!(words(typed).mistake.as_deref(), Some(wanted), "{typed}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_survive() {
        let odd = OsString::from_vec(b"--bundle=/\xff".to_vec());
        let line = read(["create".into(), odd, "web".into()]);
        assert_eq!(line.options.value("bundle").unwrap().as_bytes(), b"/\xff");
        let unknown = OsString::from_vec(b"--\xff".to_vec());
        assert_eq!(read([unknown.clone()]).unknown.0, [unknown]);
    }
}
