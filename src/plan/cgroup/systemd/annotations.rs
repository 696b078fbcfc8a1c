//! `org.systemd.property.NAME` annotations: properties of the unit, in GVariant's text form (`uint64 5`, `['a.service']`).
//!
//! A bundle is written by others than the host's administrator, and a unit has properties that run programs on the host
//! (ExecStopPost and the like), so there is a list of those that engines send; any other one is refused.

use super::{Property, Value};
use crate::error::{Error, Result};
use crate::spec::{Dict, Str};

const PREFIX: &str = "org.systemd.property.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Bool,
    Int,
    Number,
    Text,
    Texts,
}

/// The names that are allowed.
pub const ALLOWED: [&str; 6] =
    ["KillSignal", "TimeoutStopUSec", "CollectMode", "DefaultDependencies", "After", "Delegate"];

fn type_of(name: &str) -> Option<Type> {
    Some(match name {
        "KillSignal" => Type::Int,
        "TimeoutStopUSec" => Type::Number,
        "CollectMode" => Type::Text,
        "DefaultDependencies" | "Delegate" => Type::Bool,
        "After" => Type::Texts,
        _ => return None,
    })
}

/// The properties that the annotations ask for.
pub fn properties(annotations: &Dict<'_, Str<'_>>) -> Result<Vec<Property>> {
    let mut properties = Vec::new();
    for (key, text) in annotations.iter() {
        let Some(asked) = key.strip_prefix(PREFIX) else { continue };
        let pointer = || format!("/annotations/{}", &**key);
        // FooSec, as unit files have it, is FooUSec on the bus: a number of seconds, with a fraction or without.
        let seconds = asked.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase()));
        let name = seconds.map_or_else(|| asked.to_owned(), |stem| format!("{stem}USec"));
        let Some(kind) = type_of(&name) else {
            return Err(Error::spec(pointer(), format_args!("only {} may be set this way", ALLOWED.join(", "))));
        };
        let value = if seconds.is_some() { micros(text) } else { parse(text, kind) };
        let Some(value) = value else {
            let what = match kind {
                Type::Bool => "true or false",
                Type::Int => "a number such as `int32 9`",
                Type::Number if seconds.is_some() => "a number of seconds",
                Type::Number => "a number such as `uint64 5`",
                Type::Text => "a text in quotes",
                Type::Texts => "a list such as `['a.service']`",
            };
            return Err(Error::spec(
                pointer(),
                format_args!("must be {what} in GVariant's text form, is {:?}", &**text),
            ));
        };
        properties.push(Property { name, value });
    }
    Ok(properties)
}

fn micros(text: &str) -> Option<Value> {
    let seconds: f64 = without_type(text.trim()).parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
    Some(Value::Number((seconds * 1e6).round() as u64))
}

fn parse(text: &str, kind: Type) -> Option<Value> {
    let text = text.trim();
    Some(match kind {
        Type::Bool => Value::Bool(match text {
            "true" => true,
            "false" => false,
            _ => return None,
        }),
        Type::Int => Value::Int(without_type(text).parse().ok()?),
        Type::Number => Value::Number(without_type(text).parse().ok()?),
        Type::Text => {
            let (text, rest) = quoted(text)?;
            rest.trim().is_empty().then_some(Value::Text(text))?
        }
        Type::Texts => Value::Texts(list(text)?),
    })
}

/// A number may say its type: `uint64 5`, `@t 5`.
fn without_type(text: &str) -> &str {
    match text.split_once(' ') {
        Some((kind, number)) if kind.starts_with('@') || kind.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            number.trim_start()
        }
        _ => text,
    }
}

fn list(text: &str) -> Option<Vec<String>> {
    let text = text.strip_prefix("@as").map_or(text, str::trim_start);
    let mut rest = text.strip_prefix('[')?.trim_start();
    let mut texts = Vec::new();
    while !rest.starts_with(']') {
        let (text, after) = quoted(rest)?;
        texts.push(text);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with(']') => {}
            None => return None,
        }
    }
    rest[1..].trim().is_empty().then_some(texts)
}

/// The text in quotes at the start, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                // The rest of C's escapes have no use in the name of a unit.
                c @ ('\\' | '\'' | '"') => out.push(c),
                _ => return None,
            },
            c if c == quote => return Some((out, &text[at + 1..])),
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(name: &str, text: &str) -> Result<Property> {
        let json =
            serde_json::to_string(&std::collections::BTreeMap::from([(format!("{PREFIX}{name}"), text)])).unwrap();
        let dict: Dict<'_, Str<'_>> = serde_json::from_str(&json).unwrap();
        properties(&dict).map(|mut list| list.remove(0))
    }

    #[test]
    fn values_of_every_type() {
        let value = |name, text| property(name, text).unwrap().value;
        assert_eq!(value("KillSignal", "int32 9"), Value::Int(9));
        assert_eq!(value("KillSignal", "15"), Value::Int(15));
        assert_eq!(value("TimeoutStopUSec", "uint64 123456789012"), Value::Number(123_456_789_012));
        assert_eq!(value("TimeoutStopUSec", "@t 5"), Value::Number(5));
        assert_eq!(value("CollectMode", "'inactive-or-failed'"), Value::Text("inactive-or-failed".into()));
        assert_eq!(value("CollectMode", r#""it\'s""#), Value::Text("it's".into()));
        assert_eq!(value("Delegate", "false"), Value::Bool(false));
        assert_eq!(
            value("After", "['a.service', \"b.target\"]"),
            Value::Texts(vec!["a.service".into(), "b.target".into()])
        );
        assert_eq!(value("After", "@as []"), Value::Texts(vec![]));
    }

    #[test]
    fn seconds_become_microseconds() {
        let second = property("TimeoutStopSec", "uint64 5").unwrap();
        assert_eq!((second.name.as_str(), second.value), ("TimeoutStopUSec", Value::Number(5_000_000)));
        assert_eq!(property("TimeoutStopSec", "0.25").unwrap().value, Value::Number(250_000));
        assert!(property("TimeoutStopSec", "-1").is_err());
        assert!(property("TimeoutStopSec", "nan").is_err());
    }

    #[test]
    fn all_others_are_refused_by_name() {
        for name in ["ExecStopPost", "ExecStopPostEx", "User", "Slice", "PIDs", "", "USec", "Sec", "killsignal"] {
            let error = property(name, "'x'").unwrap_err().to_string();
            assert!(error.contains(&format!("/annotations/{PREFIX}{name}: only KillSignal")), "{error}");
        }
        for name in ALLOWED {
            assert!(type_of(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        for (name, text) in [
            ("KillSignal", "'9'"),
            ("KillSignal", "int32 99999999999"),
            ("TimeoutStopUSec", "uint64 -1"),
            ("CollectMode", "inactive"),
            ("CollectMode", "'a' 'b'"),
            ("CollectMode", "'open"),
            ("After", "'a.service'"),
            ("After", "['a' 'b']"),
            ("After", "['a'"),
            ("Delegate", "yes"),
        ] {
            let error = property(name, text).unwrap_err().to_string();
            assert!(error.contains("must be") && error.contains(name), "{name} {text}: {error}");
        }
    }
}
