//! A system call as somebody asks for it: `mount`, `435`, `clone(CLONE_NEWUSER)`, `socket(AF_UNIX, _, 0)`.

use super::arch::{self, Arch};
use super::facts;
use super::interpreter::Partial;
use crate::error::{Error, Result};
use crate::spec::json::nearest;

/// A call that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: String,
    /// Less what all of the architecture have in common.
    pub(super) number: u32,
    pub(super) call: Partial,
}

/// Understands a question; arguments that are not given, or given as `_`, are unknown.
pub(super) fn read(text: &str, arch: Arch) -> Result<Question> {
    let (name, list) = match text.trim().split_once('(') {
        None => (text.trim(), ""),
        Some((name, rest)) => match rest.strip_suffix(')') {
            Some(list) => (name.trim(), list),
            None => return Err(Error::usage(format!("{text:?}: the bracket of the arguments is not closed"))),
        },
    };
    let mut args = [None; 6];
    let given: Vec<&str> = if list.trim().is_empty() { Vec::new() } else { list.split(',').map(str::trim).collect() };
    if given.len() > args.len() {
        return Err(Error::usage(format!("{text:?}: a system call has at most 6 arguments")));
    }
    for (place, word) in args.iter_mut().zip(&given) {
        *place = value(word).ok_or_else(|| {
            Error::usage(format!("{text:?}: {word:?} is no number, no constant that hull knows and not `_`"))
        })?;
    }
    let (name, number) = match name.parse::<u32>() {
        Ok(nr) => {
            // With or without what all numbers of the architecture have in common.
            let number = nr.checked_sub(arch.base()).unwrap_or(nr);
            (arch::name_of(arch, number).map_or_else(|| number.to_string(), str::to_owned), number)
        }
        Err(_) => {
            let Some(syscall) = arch::lookup(name) else {
                let error = Error::usage(format!("unknown system call {name:?}"));
                return Err(match nearest(name, arch::names()) {
                    Some(near) => error.hint(format!("did you mean {near}?")),
                    None => error,
                });
            };
            match (syscall.number(arch), arch::multiplexed(name)) {
                (Some(number), _) => (name.to_owned(), number),
                // The call's own arguments are in memory, where no filter can look.
                (None, Some((number, which))) if arch.has_multiplexers() => {
                    args = [Some(which), None, None, None, None, None];
                    (name.to_owned(), number)
                }
                _ => return Err(Error::usage(format!("{} has no system call {name}", arch.short()))),
            }
        }
    };
    let call = Partial { nr: arch.nr(number), arch: arch.audit_arch(), args };
    Ok(Question { name, number, call })
}

/// Numbers and constants, joined by `|`; `_`: unknown; None: neither.
fn value(word: &str) -> Option<Option<u64>> {
    if word == "_" {
        return Some(None);
    }
    word.split('|').map(str::trim).try_fold(0, |sum, part| Some(sum | one(part)?)).map(Some)
}

fn one(part: &str) -> Option<u64> {
    if let Some(hex) = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok();
    }
    part.parse::<u64>().ok().or_else(|| part.parse::<i64>().ok().map(|n| n as u64)).or_else(|| facts::constant(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_name_or_a_number_with_arguments() {
        let read = |text| read(text, Arch::X86_64).map(|q| (q.name, q.call.nr, q.call.args)).unwrap();
        let none = [None; 6];
        assert_eq!(read("mount"), ("mount".into(), 165, none));
        assert_eq!(read("435"), ("clone3".into(), 435, none));
        assert_eq!(read(" read ( ) "), ("read".into(), 0, none));
        let args = [Some(0x1002_0000), None, Some(u64::MAX), None, None, None];
        assert_eq!(read("clone(CLONE_NEWUSER|0x20000, _, -1)"), ("clone".into(), 56, args));
        assert_eq!(read("9999").0, "9999");
    }

    #[test]
    fn what_is_no_question_is_told() {
        for (text, want) in [
            ("mnt", "unknown system call \"mnt\""),
            ("opennat", "unknown system call \"opennat\" (did you mean openat?)"),
            ("read(1", "\"read(1\": the bracket of the arguments is not closed"),
            ("read(x)", "\"read(x)\": \"x\" is no number, no constant that hull knows and not `_`"),
            ("read(1,2,3,4,5,6,7)", "\"read(1,2,3,4,5,6,7)\": a system call has at most 6 arguments"),
            ("cacheflush", "x86_64 has no system call cacheflush"),
        ] {
            let error = read(text, Arch::X86_64).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn calls_of_other_architectures_have_their_numbers() {
        let call = |text, arch| read(text, arch).map(|q| (q.call.nr, q.call.args[0])).unwrap();
        assert_eq!(call("read", Arch::X32), (0x4000_0000, None));
        assert_eq!(call("ioctl(1)", Arch::X32), (0x4000_0202, Some(1)));
        assert_eq!(call("read", Arch::X86), (3, None));
        // Only by socketcall(2).
        assert_eq!(call("accept(7)", Arch::X86), (102, Some(5)));
        assert_eq!(call("accept(7)", Arch::S390x), (102, Some(5)));
        assert_eq!(call("semop", Arch::Mips), (4117, Some(1)));
        assert_eq!(call("5000", Arch::Mips64), (5000, None));
        assert_eq!(call("read", Arch::Mips64), (5000, None));
    }
}
