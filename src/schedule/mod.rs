//! When to poll: cron with five fields, a nickname, or `every D`, turned into the next instant. Pure: time is an argument.
//!
//! It must never read a clock, and never answer with an instant that is not strictly after now: that would be a busy loop.

mod cron;
mod jump;
mod length;

use std::{fmt, sync::Arc, time::Duration};

use jiff::tz::TimeZone;

use self::cron::Cron;
use crate::model::Time;

pub use jump::{Jump, JumpDetector, Sample};
pub use length::{LengthError, length_text, parse_length};

/// No resource is polled more often than this (PRODUCT §5).
pub const EVERY_MIN: Duration = Duration::from_secs(10);
/// Above a day a calendar says better what is meant.
pub const EVERY_MAX: Duration = Duration::from_secs(86_400);

const QUARTER_SECS: f64 = 900.0;

/// A parsed schedule. Cheap to clone; displays as the text it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: Arc<str>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Every(Duration),
    Cron(Arc<Cron>),
}

/// Why a text is no schedule, and what would be one. It never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(String);

impl ScheduleError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl Schedule {
    pub fn every(length: Duration) -> Result<Self, ScheduleError> {
        if !(EVERY_MIN..=EVERY_MAX).contains(&length) {
            return Err(ScheduleError::new(
                "`every` takes 10s to 1d; for longer use cron, as in \"@weekly\"",
            ));
        }
        Ok(Self { text: format!("every {}", length_text(length)).into(), kind: Kind::Every(length) })
    }

    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        let mut words = text.split_whitespace();
        if words.next() == Some("every") {
            let (Some(length), None) = (words.next(), words.next()) else {
                return Err(ScheduleError::new("`every` takes one duration, as in \"every 60s\""));
            };
            let length = parse_length(length).map_err(|e| ScheduleError::new(format!("`every`: {e}")))?;
            return Ok(Self { text: text.into(), ..Self::every(length)? });
        }
        Ok(Self { text: text.into(), kind: Kind::Cron(Arc::new(Cron::parse(text)?)) })
    }

    /// The smallest instant of this schedule strictly after `now`; what was missed is skipped, never made up for (FAULTS 46).
    /// `every` counts from `anchor` (the process start) in both directions, so that a clock stepping back delays nothing by
    /// more than one interval. `None` only beyond the year 2100.
    pub fn next_after(&self, now: Time, zone: &TimeZone, anchor: Time) -> Option<Time> {
        match &self.kind {
            Kind::Every(length) => {
                let step = i128::try_from(length.as_millis()).ok()?;
                let passed = i128::from(now.millis()) - i128::from(anchor.millis());
                let next = i128::from(anchor.millis()) + (passed.div_euclid(step) + 1) * step;
                i64::try_from(next).ok().map(Time::from_millis)
            }
            Kind::Cron(cron) => cron.next_after(now, zone),
        }
    }

    /// The least time between two polls.
    pub fn min_interval(&self) -> Duration {
        match &self.kind {
            Kind::Every(length) => *length,
            Kind::Cron(cron) => cron.shortest,
        }
    }

    /// The longest time between two polls, clock changes aside: how old data may be though nothing is wrong.
    pub fn max_interval(&self) -> Duration {
        match &self.kind {
            Kind::Every(length) => *length,
            Kind::Cron(cron) => cron.longest,
        }
    }

    /// API calls per 15 minutes in the busiest hour, when one poll takes `calls_per_poll`.
    pub fn calls_per_15m(&self, calls_per_poll: f64) -> f64 {
        calls_per_poll
            * match &self.kind {
                Kind::Every(length) => QUARTER_SECS / length.as_secs_f64(),
                Kind::Cron(cron) => f64::from(cron.per_hour) / 4.0,
            }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests;
