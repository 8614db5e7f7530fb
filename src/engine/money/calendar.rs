//! Where days, weeks and months begin in a zone, and how a stretch of time is cut for the rollups.
//!
//! It must never take a day for 24 hours: where clocks are put on or back it has 23 or 25 (FAULTS 47).

use std::time::Duration;

use jiff::{ToSpan, civil::Weekday, tz::TimeZone};

use crate::model::{Period, Time};

pub const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// How far back a stretch is cut into hours, then days; what is older, into blocks of 30 days.
const HOURS_FOR: Duration = Duration::from_secs(7 * 86_400);
const DAYS_FOR: Duration = Duration::from_secs(92 * 86_400);
const BLOCK: Duration = Duration::from_secs(30 * 86_400);
/// Whatever is said to be older than five years was five years ago.
const PAST_MAX: Duration = Duration::from_secs(5 * 366 * 86_400);

/// A stretch of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub from: Time,
    pub until: Time,
}

/// The present day, week (from Monday) and month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periods {
    pub day: Stretch,
    pub week: Stretch,
    pub month: Stretch,
}

impl Periods {
    pub fn at(zone: &TimeZone, now: Time) -> Self {
        let of = |period| stretch(zone, period, now);
        Self { day: of(Period::Day), week: of(Period::Week), month: of(Period::Month) }
    }

    pub fn holds(&self, now: Time) -> bool {
        self.day.from <= now && now < self.day.until
    }

    pub fn starts(&self) -> [Time; 3] {
        [self.day.from, self.week.from, self.month.from]
    }
}

/// The period that holds `now`. Outside the years that a calendar knows, a day of UTC.
fn stretch(zone: &TimeZone, period: Period, now: Time) -> Stretch {
    civil(zone, period, now).unwrap_or_else(|| {
        let from = floor(now, DAY);
        Stretch { from, until: from.plus(DAY) }
    })
}

fn civil(zone: &TimeZone, period: Period, now: Time) -> Option<Stretch> {
    let today = now.to_jiff()?.to_zoned(zone.clone()).date();
    let (first, next) = match period {
        Period::Day => (today, today.checked_add(1.day()).ok()?),
        Period::Week => {
            let since_monday = i64::from(today.weekday().since(Weekday::Monday));
            let monday = today.checked_sub(since_monday.days()).ok()?;
            (monday, monday.checked_add(7.days()).ok()?)
        }
        Period::Month => {
            let first = today.first_of_month();
            (first, first.checked_add(1.month()).ok()?)
        }
    };
    // A midnight that a clock change leaves out is the first moment after it.
    let begin = |date: jiff::civil::Date| {
        let zoned = date.to_zoned(zone.clone()).ok()?.start_of_day().ok()?;
        Some(Time::from_millis(zoned.timestamp().as_millisecond()))
    };
    Some(Stretch { from: begin(first)?, until: begin(next)? })
}

/// The beginning of the hour or day of UTC.
pub fn floor(time: Time, unit: Duration) -> Time {
    let unit_ms = i64::try_from(unit.as_millis()).unwrap_or(i64::MAX);
    Time::from_millis(time.millis().saturating_sub(time.millis().rem_euclid(unit_ms)))
}

pub fn hour_of(time: Time) -> Time {
    floor(time, HOUR)
}

/// Cuts a stretch at the hours of UTC and at `starts`; its far past in larger pieces, so that their number is bounded.
/// Pieces follow one another without gap or overlap; an empty stretch has none.
pub fn pieces(from: Time, until: Time, starts: [Time; 3]) -> impl Iterator<Item = Stretch> {
    let mut at = from;
    std::iter::from_fn(move || {
        if at >= until {
            return None;
        }
        let age = until.since(at);
        let regular = if age <= HOURS_FOR {
            hour_of(at).plus(HOUR)
        } else if age <= DAYS_FOR {
            floor(at, DAY).plus(DAY)
        } else if age <= PAST_MAX {
            hour_of(at).plus(BLOCK)
        } else {
            until.minus(PAST_MAX)
        };
        let next = starts.into_iter().filter(|start| *start > at).fold(regular.min(until), Time::min);
        let piece = Stretch { from: at, until: next };
        at = next;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Time {
        Time::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn fault_47_days_weeks_and_months_begin_where_the_zone_says() {
        for (zone, now, period, from, hours) in [
            ("UTC", "2026-11-24T10:30:00Z", Period::Day, "2026-11-24T00:00:00Z", 24.0),
            ("UTC", "2026-11-24T10:30:00Z", Period::Week, "2026-11-23T00:00:00Z", 168.0),
            ("UTC", "2026-11-24T10:30:00Z", Period::Month, "2026-11-01T00:00:00Z", 720.0),
            ("Europe/Berlin", "2026-03-29T12:00:00Z", Period::Day, "2026-03-28T23:00:00Z", 23.0),
            ("Europe/Berlin", "2026-10-25T12:00:00Z", Period::Day, "2026-10-24T22:00:00Z", 25.0),
            ("Europe/Berlin", "2026-10-26T12:00:00Z", Period::Week, "2026-10-25T23:00:00Z", 168.0),
            ("Europe/Berlin", "2026-10-25T12:00:00Z", Period::Month, "2026-09-30T22:00:00Z", 745.0),
            ("Asia/Kolkata", "2026-11-24T18:29:59Z", Period::Day, "2026-11-23T18:30:00Z", 24.0),
            ("Asia/Kathmandu", "2026-11-24T18:15:00Z", Period::Day, "2026-11-24T18:15:00Z", 24.0),
            ("America/Santiago", "2026-09-06T12:00:00Z", Period::Day, "2026-09-06T04:00:00Z", 23.0),
            ("Australia/Lord_Howe", "2026-10-04T02:00:00Z", Period::Day, "2026-10-03T13:30:00Z", 23.5),
        ] {
            let stretch = stretch(&TimeZone::get(zone).unwrap(), period, at(now));
            let length = stretch.until.since(stretch.from).as_secs_f64() / 3_600.0;
            assert_eq!((stretch.from, length), (at(from), hours), "{period:?} of {zone} at {now}");
        }
    }

    #[test]
    fn a_stretch_is_cut_at_hours_and_at_a_midnight_within_one() {
        let starts = [at("2026-11-24T18:30:00Z"), Time::EPOCH, Time::EPOCH];
        let cut: Vec<i64> = pieces(at("2026-11-24T17:50:00Z"), at("2026-11-24T20:10:00Z"), starts)
            .map(|p| p.until.since(p.from).as_secs().cast_signed() / 60)
            .collect();
        assert_eq!(cut, [10, 30, 30, 60, 10]);
    }

    proptest! {
        #[test]
        fn pieces_are_disjoint_and_whole_and_few(from in -4_000_000_000_000_i64..4_000_000_000_000, length in 0_i64..400_000_000_000, start in 0_i64..400_000_000_000) {
            let (from, until) = (Time::from_millis(from), Time::from_millis(from.saturating_add(length)));
            let starts = [from.plus(Duration::from_millis(start.unsigned_abs())), Time::EPOCH, Time::EPOCH];
            let (mut at, mut count) = (from, 0);
            for piece in pieces(from, until, starts) {
                prop_assert_eq!(piece.from, at);
                prop_assert!(piece.until > at);
                at = piece.until;
                count += 1;
            }
            prop_assert_eq!(at, until);
            prop_assert!(count < 170 + 95 + 64 + 3, "{}", count);
        }
    }
}
