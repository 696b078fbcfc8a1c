//! Durations as runc takes them: `5s`, `1.5s`, `500ms`, `1m30s` (Go's time.ParseDuration).

use std::time::Duration;

use crate::error::{Error, Result};

/// As in Go: 292 years. A clock can be that much ahead, and not much more.
const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);

/// The value of an option that is a time above 0.
pub fn duration(option: &str, text: &str) -> Result<Duration> {
    parse(text).filter(|time| !time.is_zero() && *time <= LONGEST).ok_or_else(|| {
        Error::usage(format!("option --{option} is a time above 0 such as 5s, 500ms or 1m30s, not {text:?}"))
    })
}

fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let seconds = match &rest[digits..unit] {
            "ns" => 1e-9,
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += rest[..digits].parse::<f64>().ok()? * seconds;
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(sum).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("5s", 5000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1.5s", 1500),
            ("2h", 7_200_000),
            ("2562047h", 9_223_369_200_000),
        ] {
            assert_eq!(duration("interval", text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "0s", "5", "s", "-5s", "5x", "1.2.3s", "2562048h", "99999999999999999999h"] {
            assert!(duration("interval", text).is_err(), "{text}");
        }
    }
}
