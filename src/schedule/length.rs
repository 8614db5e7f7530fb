//! Lengths of time as the configuration writes them: `90s`, `30m`, `1h30m`, `3d`, `2w`.
//!
//! It must never take a number without a unit, nor a negative one: `off` and `forever` are words, not −1 (FAULTS 52).

use std::time::Duration;

/// Largest first: a length names each unit once at most, in this order.
const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Ten years: longer is a slip of the pen.
const SECS_MAX: u64 = 3_650 * 86_400;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LengthError {
    #[error("a duration needs a unit: s, m, h, d or w, as in \"30m\"")]
    NoUnit,
    #[error("must be a duration such as \"90s\", \"30m\", \"1h30m\", \"3d\" or \"2w\"")]
    Malformed,
    #[error("a duration is never negative; where it can be switched off, the word is \"off\"")]
    Negative,
    #[error("must be ten years at most")]
    TooLong,
}

pub fn parse_length(text: &str) -> Result<Duration, LengthError> {
    if text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        return Err(LengthError::Negative);
    }
    if text.is_empty() {
        return Err(LengthError::Malformed);
    }
    let mut units = UNITS.iter();
    let (mut secs, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return Err(LengthError::Malformed);
        }
        let mut chars = tail.chars();
        let unit = chars.next().ok_or(LengthError::NoUnit)?;
        let &(_, unit_secs) = units.find(|(name, _)| *name == unit).ok_or(LengthError::Malformed)?;
        let number: u64 = number.parse().map_err(|_| LengthError::TooLong)?;
        secs = number
            .checked_mul(unit_secs)
            .and_then(|part| secs.checked_add(part))
            .filter(|secs| *secs <= SECS_MAX)
            .ok_or(LengthError::TooLong)?;
        rest = chars.as_str();
    }
    Ok(Duration::from_secs(secs))
}

/// The text that [`parse_length`] reads back: `1h30m`. Fractions of a second are cut off.
pub fn length_text(length: Duration) -> String {
    let mut rest = length.as_secs();
    let mut text = String::new();
    for (name, unit_secs) in UNITS.into_iter().skip(1) {
        if rest >= unit_secs {
            text.push_str(&format!("{}{name}", rest / unit_secs));
            rest %= unit_secs;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fault_52_a_length_needs_a_unit_and_is_never_negative() {
        for (text, expected) in [
            ("90s", Ok(90)),
            ("30m", Ok(1_800)),
            ("1h30m", Ok(5_400)),
            ("3d", Ok(259_200)),
            ("2w", Ok(1_209_600)),
            ("0s", Ok(0)),
            ("60", Err(LengthError::NoUnit)),
            ("1h30", Err(LengthError::NoUnit)),
            ("-1", Err(LengthError::Negative)),
            ("-5m", Err(LengthError::Negative)),
            ("", Err(LengthError::Malformed)),
            ("m", Err(LengthError::Malformed)),
            ("1.5h", Err(LengthError::Malformed)),
            ("30m1h", Err(LengthError::Malformed)),
            ("1m1m", Err(LengthError::Malformed)),
            ("10ms", Err(LengthError::Malformed)),
            ("5 m", Err(LengthError::Malformed)),
            ("1y", Err(LengthError::Malformed)),
            ("off", Err(LengthError::Malformed)),
            ("3651d", Err(LengthError::TooLong)),
            ("99999999999999999999s", Err(LengthError::TooLong)),
            ("18446744073709551615w", Err(LengthError::TooLong)),
        ] {
            assert_eq!(parse_length(text), expected.map(Duration::from_secs), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_length_reads_back_as_itself(secs in 0..SECS_MAX) {
            let length = Duration::from_secs(secs);
            prop_assert_eq!(parse_length(&length_text(length)), Ok(length));
        }
    }
}
