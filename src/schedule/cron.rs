//! Five-field cron with Vixie's meaning, on top of the `cron` crate, which knows neither its weekdays nor clock changes.
//!
//! It must never let the crate see a real zone: it is asked about local time dressed as UTC, and jiff maps the answer back.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Utc};
use jiff::{
    Timestamp,
    tz::{AmbiguousOffset, Offset, TimeZone},
};

use super::ScheduleError;
use crate::model::Time;

/// No clock change since 2011 moved further, so no slot lands further from its wall-clock time.
const REACH_SECS: i64 = 3 * 3_600;
/// A fixed day to look ahead from when a schedule is parsed (2024-01-01).
const SAMPLE_FROM_SECS: i64 = 1_704_067_200;
/// Days looked at for the shortest and longest interval; more than a leap year.
const SAMPLE_DAYS: usize = 400;
const TEXT_MAX: usize = 400;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cron {
    /// Two when both day fields are restricted: Vixie takes a day that either allows.
    calendars: Vec<cron::Schedule>,
    /// Minute or hour starts with `*`: it follows the clock through a change instead of running once a day.
    wildcard: bool,
    pub(super) shortest: Duration,
    pub(super) longest: Duration,
    /// Polls in the busiest hour.
    pub(super) per_hour: u32,
}

impl Cron {
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let text = match NICKNAMES.iter().find(|(name, _)| *name == text) {
            Some((_, fields)) => fields,
            None if text.starts_with('@') => {
                let names = NICKNAMES.map(|(name, _)| name).join(", ");
                return Err(ScheduleError::new(format!("no such nickname; there are {names}")));
            }
            None => text,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(ScheduleError::new(
                "must be \"every D\", a nickname such as \"@hourly\", or cron with 5 fields: minute hour day-of-month month day-of-week",
            ));
        };
        if text.len() > TEXT_MAX {
            return Err(ScheduleError::new(format!("must be {TEXT_MAX} characters at most")));
        }
        let minutes = Field::MINUTE.expand(minute)?;
        let hours = Field::HOUR.expand(hour)?;
        let (days, months) = (Field::DAY.expand(day)?, Field::MONTH.expand(month)?);
        let weekdays = Field::WEEKDAY.expand(weekday)?;
        // Vixie: `*/2` counts as a star; with a star in either day field, both must allow a day.
        let days_given = if day.starts_with('*') || weekday.starts_with('*') {
            vec![(join(&days), names(&weekdays))]
        } else {
            vec![(join(&days), "*".to_owned()), ("*".to_owned(), names(&weekdays))]
        };
        let compile = |minutes: &str, hours: &str| -> Vec<cron::Schedule> {
            let calendars = days_given.iter().filter_map(|(days, weekdays)| {
                format!("0 {minutes} {hours} {days} {} {weekdays}", join(&months)).parse().ok()
            });
            // A calendar that never comes (31 February) would be searched to the year 2100 at every call.
            calendars.filter(|calendar| next_slot(calendar, SAMPLE_FROM_SECS).is_some()).collect()
        };
        let calendars = compile(&join(&minutes), &join(&hours));
        if calendars.is_empty() {
            return Err(ScheduleError::new("no such date ever comes: check day-of-month and month"));
        }
        let (shortest, longest) = intervals(&minutes, &hours, &compile("0", "0"));
        Ok(Self {
            calendars,
            wildcard: minute.starts_with('*') || hour.starts_with('*'),
            shortest,
            longest,
            per_hour: u32::try_from(minutes.len()).unwrap_or(60),
        })
    }

    pub(super) fn next_after(&self, now: Time, zone: &TimeZone) -> Option<Time> {
        let reach = reach_secs(now, zone)?;
        let mut slot = local_secs(now, zone)? - reach;
        let mut best: Option<(Time, i64)> = None;
        loop {
            slot = match self.calendars.iter().filter_map(|calendar| next_slot(calendar, slot)).min() {
                Some(slot) => slot,
                None => return best.map(|(at, _)| at),
            };
            // Around a clock change a later slot may come earlier; further than the change reaches it cannot.
            if let Some((at, until)) = best
                && slot > until
            {
                return Some(at);
            }
            for at in self.instants(slot, zone).into_iter().flatten().filter(|at| *at > now) {
                if best.is_none_or(|(earliest, _)| at < earliest) {
                    best = Some((at, slot + reach_secs(at, zone)?));
                }
            }
        }
    }

    /// When a wall-clock time comes: once; in a gap shifted forward (or dropped, for a wildcard); in an overlap at its first
    /// pass (or at both, for a wildcard) (FAULTS 47).
    fn instants(&self, slot: i64, zone: &TimeZone) -> [Option<Time>; 2] {
        let Some(local) = Timestamp::from_second(slot).ok().map(|t| Offset::UTC.to_datetime(t)) else {
            return [None, None];
        };
        let found = zone.to_ambiguous_timestamp(local);
        let time = |t: Result<Timestamp, jiff::Error>| t.ok().map(|t| Time::from_millis(t.as_millisecond()));
        match found.offset() {
            AmbiguousOffset::Gap { .. } if self.wildcard => [None, None],
            AmbiguousOffset::Fold { .. } if self.wildcard => [time(found.earlier()), time(found.later())],
            AmbiguousOffset::Unambiguous { .. }
            | AmbiguousOffset::Gap { .. }
            | AmbiguousOffset::Fold { .. } => [time(found.compatible()), None],
        }
    }
}

/// One of the five fields: what it is called, what it may hold.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// The name of `first`, `first + 1`, …
    names: &'static [&'static str],
}

impl Field {
    const MINUTE: Self = Self { name: "minute", min: 0, max: 59, names: &[] };
    const HOUR: Self = Self { name: "hour", min: 0, max: 23, names: &[] };
    const DAY: Self = Self { name: "day-of-month", min: 1, max: 31, names: &[] };
    const MONTH: Self = Self { name: "month", min: 1, max: 12, names: &MONTHS };
    /// 0 and 7 are Sunday; a range may wrap around (`fri-mon`).
    const WEEKDAY: Self = Self { name: "day-of-week", min: 0, max: 7, names: &DAYS };

    fn is_weekday(&self) -> bool {
        self.max == 7
    }

    fn expand(&self, text: &str) -> Result<BTreeSet<u32>, ScheduleError> {
        let mut values = BTreeSet::new();
        for item in text.split(',') {
            let (range, step) = match item.split_once('/') {
                Some((range, step)) => (range, Some(self.step(step)?)),
                None => (item, None),
            };
            let (first, last) = if range == "*" {
                (self.min, if self.is_weekday() { 6 } else { self.max })
            } else if let Some((first, last)) = range.split_once('-') {
                self.range(self.value(first)?, self.value(last)?)?
            } else if step.is_some() {
                return Err(self.error("a step needs a range or `*` before it, as in `0-59/5` or `*/5`"));
            } else {
                let value = self.value(range)?;
                (value, value)
            };
            let wrap = if self.is_weekday() { 7 } else { u32::MAX };
            let step = usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX);
            values.extend((first..=last).step_by(step).map(|value| value % wrap));
        }
        Ok(values)
    }

    /// First and last of a range that only counts up: a wrapped weekday goes on past Saturday.
    fn range(&self, first: u32, last: u32) -> Result<(u32, u32), ScheduleError> {
        match (first, last) {
            (7, 7) if self.is_weekday() => Ok((0, 0)),
            (7, last) if self.is_weekday() => Ok((0, last)),
            (first, last) if first <= last => Ok((first, last)),
            (first, last) if self.is_weekday() => Ok((first, last + 7)),
            (..) => Err(self.error("a range must go upwards")),
        }
    }

    fn step(&self, text: &str) -> Result<u32, ScheduleError> {
        let limit = self.max - self.min;
        match number(text) {
            Some(step) if (1..=limit).contains(&step) => Ok(step),
            Some(_) | None => Err(self.error(&format!("a step must be 1 to {limit}"))),
        }
    }

    fn value(&self, text: &str) -> Result<u32, ScheduleError> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + self.min);
        match named.or_else(|| number(text)) {
            Some(value) if (self.min..=self.max).contains(&value) => Ok(value),
            Some(_) | None => {
                let names = match (self.names.first(), self.names.last()) {
                    (Some(first), Some(last)) => format!(" or {first} to {last}"),
                    (..) => String::new(),
                };
                Err(self.error(&format!("must be {} to {}{names}", self.min, self.max)))
            }
        }
    }

    fn error(&self, what: &str) -> ScheduleError {
        ScheduleError::new(format!("{}: {what}", self.name))
    }
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn join(values: &BTreeSet<u32>) -> String {
    values.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// The crate counts weekdays from 1; their names leave no doubt.
fn names(weekdays: &BTreeSet<u32>) -> String {
    let name = |day: &u32| usize::try_from(*day).ok().and_then(|day| DAYS.get(day)).copied();
    weekdays.iter().filter_map(name).collect::<Vec<_>>().join(",")
}

/// The next slot strictly after `secs`; both are local time dressed as UTC.
fn next_slot(calendar: &cron::Schedule, secs: i64) -> Option<i64> {
    let after: DateTime<Utc> = DateTime::from_timestamp(secs, 0)?;
    calendar.after(&after).next().map(|slot| slot.timestamp())
}

/// Local wall-clock time, dressed as seconds of UTC.
fn local_secs(at: Time, zone: &TimeZone) -> Option<i64> {
    Some(at.secs() + i64::from(zone.to_offset(at.to_jiff()?).seconds()))
}

/// How far slots may land from their wall-clock time around `at`: zero unless a clock change is near.
fn reach_secs(at: Time, zone: &TimeZone) -> Option<i64> {
    let at = at.secs();
    let offset = |secs| Timestamp::from_second(secs).ok().map(|t| zone.to_offset(t));
    let here = offset(at)?;
    let steady = [at - REACH_SECS, at + REACH_SECS].into_iter().all(|near| offset(near) == Some(here));
    Some(if steady { 0 } else { REACH_SECS })
}

/// The shortest and the longest time between two slots, from the times of a day and a sample of days.
fn intervals(
    minutes: &BTreeSet<u32>,
    hours: &BTreeSet<u32>,
    days: &[cron::Schedule],
) -> (Duration, Duration) {
    let times: Vec<i64> =
        hours.iter().flat_map(|h| minutes.iter().map(move |m| i64::from(h * 3_600 + m * 60))).collect();
    let mut gaps: BTreeSet<i64> = times.windows(2).filter_map(|w| Some(w.last()? - w.first()?)).collect();
    let over_night = times.first().copied().unwrap_or(0) - times.last().copied().unwrap_or(0);
    let mut day = None;
    for _ in 0..SAMPLE_DAYS {
        let after = day.unwrap_or(SAMPLE_FROM_SECS - 1);
        let Some(next) = days.iter().filter_map(|calendar| next_slot(calendar, after)).min() else { break };
        if let Some(day) = day {
            gaps.insert(next - day + over_night);
        }
        day = Some(next);
    }
    let length = |secs: Option<&i64>| Duration::from_secs(secs.map_or(86_400, |s| s.unsigned_abs()));
    (length(gaps.first()), length(gaps.last()))
}
