//! Lists of numbers as the kernel writes them, `0-3,7` (cpuset(7), "List format"), as masks of 64-bit words.

/// Numbers beyond this are a mistake: no kernel is built for more CPUs (CONFIG_NR_CPUS) or memory nodes.
pub const MOST: u32 = 8191;

/// Understands `0-3, 7`: the mask's words, the lowest numbers first; no words for an empty list.
///
/// Spaces around a number and an empty part are taken, as the kernel takes them. The error is half a sentence.
pub fn mask(text: &str) -> Result<Vec<u64>, String> {
    let mut words = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first.trim(), text)?, number(last.trim(), text)?);
        if first > last {
            return Err(format!("{part:?} counts backwards"));
        }
        for n in first..=last {
            let word = n as usize / 64;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (n % 64);
        }
    }
    Ok(words)
}

fn number(digits: &str, text: &str) -> Result<u32, String> {
    // parse() alone would take a sign.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text:?} is no list of numbers and ranges, as in \"0-3,7\""));
    }
    match digits.parse() {
        Ok(n) if n <= MOST => Ok(n),
        _ => Err(format!("{digits} is more than {MOST}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_masks() {
        for (text, words) in [
            ("", &[][..]),
            ("0", &[1]),
            ("0-3, 7", &[0x8f]),
            (" 1 - 2 ,", &[6]),
            ("63-64", &[1 << 63, 1]),
            ("3,3-3,2", &[0xc]),
            ("130", &[0, 0, 4]),
        ] {
            assert_eq!(mask(text).unwrap(), words, "{text:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, words) in [
            ("a", "no list"),
            ("1-", "no list"),
            ("-1", "no list"),
            ("+1", "no list"),
            ("1-2-3", "no list"),
            ("3-1", "backwards"),
            ("8192", "more than 8191"),
            ("99999999999999999999", "more than 8191"),
        ] {
            let error = mask(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
