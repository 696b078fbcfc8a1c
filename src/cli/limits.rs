//! The limits of `hull update` as a command line has them: each option becomes a property of the JSON that
//! `update --resources` reads (config-linux.md#control-groups), so that there is one way on from here.

use serde_json::{Map, Value};

use super::table::Opt;
use crate::error::{Error, Result};

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Bytes with a unit, or -1.
    Size,
    /// A number.
    Number,
    /// A number that may be negative.
    Signed,
    /// Words.
    Text,
}

/// Option, the property's place beneath `resources`, form.
const PLACES: &[(&str, [&str; 2], Form)] = &[
    ("memory", ["memory", "limit"], Form::Size),
    ("memory-reservation", ["memory", "reservation"], Form::Size),
    ("memory-swap", ["memory", "swap"], Form::Size),
    ("kernel-memory", ["memory", "kernel"], Form::Size),
    ("kernel-memory-tcp", ["memory", "kernelTCP"], Form::Size),
    ("cpu-period", ["cpu", "period"], Form::Number),
    ("cpu-quota", ["cpu", "quota"], Form::Signed),
    ("cpu-burst", ["cpu", "burst"], Form::Number),
    ("cpu-share", ["cpu", "shares"], Form::Number),
    ("cpu-rt-period", ["cpu", "realtimePeriod"], Form::Number),
    ("cpu-rt-runtime", ["cpu", "realtimeRuntime"], Form::Signed),
    ("cpu-idle", ["cpu", "idle"], Form::Signed),
    ("cpuset-cpus", ["cpu", "cpus"], Form::Text),
    ("cpuset-mems", ["cpu", "mems"], Form::Text),
    ("pids-limit", ["pids", "limit"], Form::Signed),
    ("blkio-weight", ["blockIO", "weight"], Form::Number),
];

/// The properties that the options set.
pub fn resources<'o>(options: &[Opt], value: impl Fn(&'static str) -> Option<&'o str>) -> Result<Map<String, Value>> {
    let mut all = Map::new();
    for (name, [group, field], form) in PLACES {
        debug_assert!(options.iter().any(|opt| opt.long == *name), "{name} is an option");
        let Some(word) = value(name) else { continue };
        let parsed = match form {
            Form::Size => size(word).map(Value::from),
            Form::Number => word.parse::<u64>().ok().map(Value::from),
            Form::Signed => word.parse::<i64>().ok().map(Value::from),
            Form::Text => Some(Value::from(word)),
        };
        let parsed = parsed.ok_or_else(|| {
            let what =
                if *form == Form::Size { "a size such as 1.5g, 512m or a number of bytes, or -1" } else { "a number" };
            Error::usage(format!("option --{name} is {what}, not {word:?}"))
        })?;
        all.entry(*group).or_insert_with(|| Map::new().into())[*field] = parsed;
    }
    Ok(all)
}

/// Bytes, as runc takes them: digits with a fraction, one of k, m, g, t, p in any case (powers of 1024), `i` and `b`
/// after it if one likes; -1: no limit.
fn size(word: &str) -> Option<i64> {
    if word == "-1" {
        return Some(-1);
    }
    let lower = word.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let factor: u64 = match unit.strip_suffix('i').filter(|rest| !rest.is_empty()).unwrap_or(unit) {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return None,
    };
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return None;
    }
    // Whole numbers stay exact beyond the 53 bits of a float.
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).and_then(|bytes| i64::try_from(bytes).ok());
    }
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    (bytes < i64::MAX as f64).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::verb;

    #[test]
    fn sizes_with_units() {
        for (word, wanted) in [
            ("0", 0),
            ("-1", -1),
            ("1024", 1024),
            ("1k", 1024),
            ("1.5g", 1_610_612_736),
            ("512M", 536_870_912),
            ("2MB", 2_097_152),
            ("2 MiB", 2_097_152),
            ("7b", 7),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(size(word), Some(wanted), "{word}");
        }
        for word in
            ["", "m", "-2", "1x", "1kk", ".5", "5.", "1.2.3", "1e3", "9223372036854775808", "9000p", "0x10", "ib"]
        {
            assert_eq!(size(word), None, "{word}");
        }
    }

    #[test]
    fn every_option_has_its_place() {
        let options = verb("update").unwrap().options;
        let all = resources(options, |name| Some(if name.starts_with("cpuset") { "0-1" } else { "12" })).unwrap();
        let text = serde_json::to_string(&all).unwrap();
        let parsed: crate::spec::Resources<'_> = serde_json::from_str(&text).unwrap();
        let (memory, cpu) = (parsed.memory.unwrap(), parsed.cpu.unwrap());
        assert_eq!((memory.limit, memory.swap, memory.reservation), (Some(12), Some(12), Some(12)));
        assert_eq!((cpu.shares, cpu.quota, cpu.burst, cpu.idle), (Some(12), Some(12), Some(12), Some(12)));
        assert_eq!(cpu.cpus.as_deref(), Some("0-1"));
        assert_eq!(parsed.pids.unwrap().limit, Some(12));
        assert_eq!(parsed.block_io.unwrap().weight, Some(12));
        let limits =
            options.iter().filter(|opt| !matches!(opt.long, "resources" | "l3-cache-schema" | "mem-bw-schema"));
        assert_eq!(limits.count(), PLACES.len());
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let options = verb("update").unwrap().options;
        for (wrong, word) in [("memory", "lots"), ("cpu-quota", "1.5"), ("cpu-share", "-1"), ("pids-limit", "1x")] {
            let error = resources(options, |name| (name == wrong).then_some(word)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("option --{wrong} is a ")) && error.contains(word), "{error}");
        }
        assert!(resources(options, |_| None).unwrap().is_empty());
    }
}
