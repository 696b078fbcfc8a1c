//! Names of signals (signal(7)), as kill(1) and runc take them.

use crate::error::{Error, Result};

const NAMES: &[(&str, i32)] = &[
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("IOT", libc::SIGIOT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("POLL", libc::SIGPOLL),
    ("PROF", libc::SIGPROF),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STKFLT", libc::SIGSTKFLT),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
];

/// The first and the last real-time signal that a program may use: the C library keeps 32 and 33, and runc, too,
/// counts from 34.
const REAL_TIME: (i32, i32) = (34, 64);

/// The number of a signal: by name with or without SIG in any case, by number, as RTMIN+n or RTMAX-n. A dash before it, as
/// kill(1) wants it, makes another number of it: runc takes it for one and fails, too.
pub fn number(text: &str) -> Result<i32> {
    let word = text.to_ascii_uppercase();
    let unknown = || {
        Error::usage(format!("unknown signal {text:?}: a name like TERM or SIGKILL, a number from 0 to 64, or RTMIN+n"))
    };
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return word.parse().ok().filter(|number| (0..=REAL_TIME.1).contains(number)).ok_or_else(unknown);
    }
    let name = word.strip_prefix("SIG").unwrap_or(&word);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let (base, offset, sign) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => (REAL_TIME.0, rest.strip_prefix('+'), rest),
        (_, Some(rest)) => (REAL_TIME.1, rest.strip_prefix('-'), rest),
        _ => return Err(unknown()),
    };
    let offset: i32 = match offset {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| unknown())?
        }
        None if sign.is_empty() => 0,
        _ => return Err(unknown()),
    };
    let number = if base == REAL_TIME.0 { base.checked_add(offset) } else { base.checked_sub(offset) };
    number.filter(|number| (REAL_TIME.0..=REAL_TIME.1).contains(number)).ok_or_else(unknown)
}

/// A signal by its name, such as SIGSEGV or SIGRTMIN+3.
pub fn name(number: i32) -> String {
    match NAMES.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => format!("SIG{name}"),
        None if number >= REAL_TIME.0 => format!("SIGRTMIN+{}", number - REAL_TIME.0),
        None => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_every_name() {
        let table = [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("9", 9),
            ("0", 0),
            ("64", 64),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmin+30", 64),
            ("RTMAX", 64),
            ("RTMAX-1", 63),
        ];
        for (text, wanted) in table {
            assert_eq!(number(text).unwrap(), wanted, "{text}");
        }
        for text in [
            "",
            "-",
            "-9",
            "-HUP",
            "+9",
            "FOO",
            "65",
            "4294967305",
            "99999999999",
            "RTMIN+31",
            "RTMAX-31",
            "RTMIN-1",
            "RTMIN+",
            "RTMIN+x",
            "1x",
        ] {
            let error = number(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("unknown signal {text:?}")), "{text}: {error}");
        }
    }
}
