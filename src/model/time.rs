//! Instants as whole milliseconds since 1970, and lengths of time as people write them.
//!
//! It must never ask what time it is: time is an argument everywhere but in `clock.rs`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// An instant: milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(i64);

impl Time {
    pub const EPOCH: Self = Self(0);

    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    pub const fn millis(self) -> i64 {
        self.0
    }

    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Zero when `earlier` is later: clocks step, and a length is never negative.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub fn plus(self, length: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(length.as_millis()).unwrap_or(i64::MAX)))
    }

    pub fn minus(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(length.as_millis()).unwrap_or(i64::MAX)))
    }

    /// An RFC 3339 text with an offset, as the API's bodies and headers carry it.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond()))
    }

    /// `None` for an instant outside years −9999 to 9999.
    pub fn to_jiff(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_millisecond(self.0).ok()
    }
}

/// RFC 3339, UTC, whole seconds: `2026-11-24T10:30:00Z`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.secs()) {
            Ok(t) => f.pad(&t.to_string()),
            Err(_) => write!(f, "@{}ms", self.0),
        }
    }
}

/// A length as people read it, two units at most: `45s`, `12m`, `6h 10m`, `3d 4h`.
pub fn humanize(length: Duration) -> String {
    let secs = length.as_secs();
    let (days, hours, minutes) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, m) if !secs.is_multiple_of(60) && m < 10 => format!("{m}m {}s", secs % 60),
        (0, 0, m) => format!("{m}m"),
        (0, h, 0) => format!("{h}h"),
        (0, h, m) => format!("{h}h {m}m"),
        (d, 0, _) => format!("{d}d"),
        (d, h, _) => format!("{d}d {h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_never_negative_and_never_wraps() {
        assert_eq!(Time::from_secs(5).since(Time::from_secs(9)), Duration::ZERO);
        assert_eq!(Time::from_millis(i64::MAX).plus(Duration::MAX), Time::from_millis(i64::MAX));
    }

    #[test]
    fn rfc3339_needs_an_offset() {
        assert_eq!(
            Time::parse_rfc3339("2025-12-29T14:00:00.500Z"),
            Some(Time::from_millis(1_767_016_800_500))
        );
        assert_eq!(Time::parse_rfc3339("2025-12-29T14:00:00"), None);
        assert_eq!(Time::from_millis(1_767_016_800_500).to_string(), "2025-12-29T14:00:00Z");
    }

    #[test]
    fn lengths_read_well() {
        let text = |secs| humanize(Duration::from_secs(secs));
        assert_eq!(
            [text(45), text(90), text(720), text(22_200), text(273_600)],
            ["45s", "1m 30s", "12m", "6h 10m", "3d 4h"]
        );
    }
}
