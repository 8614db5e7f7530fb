//! When to try again: the table of PRODUCT §7, jitter, and what `Retry-After` asks for.
//!
//! It must never draw the jitter itself: randomness comes in as a number.

use std::time::Duration;

use crate::model::Time;

/// Before the first attempt, the second, …; after the last the row is a dead letter.
const TABLE_SECS: [u64; 9] = [0, 5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000];

/// Jitter adds up to this share of the wait, so that it never shortens what the other side asked for.
const JITTER_SHARE: f64 = 0.2;

/// What a `Retry-After` may ask for at most: the table's longest wait.
const AFTER_MAX: Duration = Duration::from_secs(36_000);

/// All attempts of the table lie within this time, jitter included.
pub const SPAN: Duration = Duration::from_secs(22 * 3_600);

/// However near the end of the money is, it is not tried more often than this.
const HURRY_MIN: Duration = Duration::from_secs(30);

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// `None`: a dead letter.
    pub at: Option<Time>,
    /// By the table the money would have ended before: others should be told too (FAULTS 64).
    pub too_late: bool,
}

/// When the next attempt is due after `attempts_made`. `jitter` is 0..1. While the end of the money lies ahead, no wait outlasts
/// it: it becomes a quarter of what is left, and nothing is given up.
pub fn next_attempt(
    attempts_made: u32,
    now: Time,
    jitter: f64,
    after: Option<Duration>,
    money_ends: Option<Time>,
) -> Again {
    let after = after.unwrap_or_default().min(AFTER_MAX);
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
    let at = |wait: Duration| now.plus(wait).plus(wait.mul_f64(jitter * JITTER_SHARE));
    let index = usize::try_from(attempts_made).unwrap_or(usize::MAX);
    let table = TABLE_SECS.get(index).map(|secs| at(Duration::from_secs(*secs).max(after)));
    let left = money_ends.map(|end| end.since(now)).filter(|left| !left.is_zero());
    match left {
        Some(left) if table.map_or(left <= AFTER_MAX, |table| table >= now.plus(left)) => {
            Again { at: Some(at((left / 4).max(HURRY_MIN).max(after))), too_late: true }
        }
        Some(_) | None => Again { at: table, too_late: false },
    }
}

/// `Retry-After`: seconds, or an HTTP date. Anything else is as if it were absent.
pub(super) fn parse_retry_after(text: &str, now: Time) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.parse().map_or(AFTER_MAX, |secs| Duration::from_secs(secs).min(AFTER_MAX)));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Time::from_millis(at.as_millisecond()).since(now).min(AFTER_MAX))
}

/// What a service asks for as a number of seconds in its answer.
pub(super) fn from_secs(secs: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(secs.ceil().clamp(0.0, AFTER_MAX.as_secs_f64())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(1_800_000_000);

    fn waits(jitter: f64) -> Vec<u64> {
        (0..12)
            .map_while(|n| next_attempt(n, NOW, jitter, None, None).at)
            .map(|t| t.since(NOW).as_secs())
            .collect()
    }

    #[test]
    fn the_table_is_the_contracts_and_ends() {
        assert_eq!(waits(0.0), [0, 5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000]);
        assert_eq!(next_attempt(9, NOW, 0.5, Some(Duration::from_secs(1)), None).at, None);
        assert_eq!(next_attempt(u32::MAX, NOW, 0.5, None, None).at, None);
    }

    #[test]
    fn jitter_only_lengthens_and_a_mad_one_does_no_harm() {
        assert_eq!(waits(1.0), [0, 6, 36, 144, 720, 2_160, 8_640, 21_600, 43_200]);
        for jitter in [f64::NAN, f64::INFINITY, -3.0] {
            assert_eq!(waits(jitter), waits(0.0), "{jitter}");
        }
    }

    #[test]
    fn the_other_sides_wish_is_honoured_within_reason() {
        let wait = |after| next_attempt(1, NOW, 0.0, Some(after), None).at.unwrap().since(NOW);
        assert_eq!(wait(Duration::from_secs(90)), Duration::from_secs(90));
        assert_eq!(wait(Duration::from_secs(1)), Duration::from_secs(5), "never sooner than the table");
        assert_eq!(wait(Duration::MAX), AFTER_MAX);
    }

    #[test]
    fn the_span_holds_the_whole_table_with_all_its_jitter() {
        assert!(Duration::from_secs(waits(1.0).iter().sum()) < SPAN);
    }

    #[test]
    fn fault_64_no_wait_outlasts_the_money_and_nothing_is_given_up_before_it_ends() {
        let hours = |hours: u64| Some(NOW.plus(Duration::from_secs(hours * 3_600)));
        let again = |made, money_ends| {
            let Again { at, too_late } = next_attempt(made, NOW, 0.0, None, money_ends);
            (at.map(|at| at.since(NOW).as_secs()), too_late)
        };
        assert_eq!(again(5, hours(1)), (Some(1_800), false), "half an hour is soon enough");
        assert_eq!(again(6, hours(2)), (Some(1_800), true), "two hours are not: a quarter of them");
        assert_eq!(again(9, hours(8)), (Some(7_200), true), "the table is at its end, the money not");
        assert_eq!(again(9, hours(11)), (None, false), "an end so far off keeps nothing alive");
        assert_eq!(again(1, Some(NOW.plus(Duration::from_secs(4)))), (Some(30), true), "no spin at the end");
        assert_eq!(again(6, Some(NOW)), (Some(7_200), false), "what has ended hurries nobody");
        let asked = next_attempt(6, NOW, 0.0, Some(Duration::from_secs(3_600)), hours(2)).at;
        assert_eq!(asked, hours(1), "but the other side's wish holds");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let secs = |text| parse_retry_after(text, NOW).map(|d| d.as_secs());
        assert_eq!(secs(" 120 "), Some(120));
        assert_eq!(secs("99999999999999999999999"), Some(36_000));
        assert_eq!(secs("Fri, 15 Jan 2027 08:01:00 GMT"), Some(60));
        assert_eq!(secs("Fri, 15 Jan 2020 08:01:00 GMT"), None, "a weekday that is none");
        assert_eq!(secs("Wed, 15 Jan 2020 08:01:00 GMT"), Some(0), "past: at once");
        for text in ["", "soon", "-5", "1.5"] {
            assert_eq!(secs(text), None, "{text}");
        }
    }
}
