//! Working hours, as a policy's `outside` names them: days of the week with the hours of each, in a time zone.
//!
//! It must never take an instant that no calendar knows for one outside working hours.

use std::fmt;

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, Weekday},
    tz::TimeZone,
};

use super::Time;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY_MINUTES: u16 = 24 * 60;
const SPANS_MAX: usize = 14;

/// `Mon-Fri 08:00-20:00`, several separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours(Vec<Span>);

/// From one day of the week to another, from a minute of the day to just before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: i8,
    last: i8,
    from: u16,
    until: u16,
}

impl Hours {
    /// Says what is wrong, never repeating the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let spans: Option<Vec<Span>> = text.split(',').map(span).collect();
        let spans = spans.ok_or("must be days and hours, as in \"Mon-Fri 08:00-20:00, Sat 10:00-14:00\"")?;
        if spans.len() > SPANS_MAX {
            return Err("must be at most 14 spans");
        }
        if spans.iter().any(|span| span.from >= span.until) {
            return Err("must end later than they begin, on the same day; split what crosses midnight");
        }
        Ok(Self(spans))
    }

    /// Whether it is working time. An instant that no calendar knows is.
    pub fn hold(&self, at: Time, zone: &TimeZone) -> bool {
        let Some(at) = at.to_jiff() else { return true };
        let local = at.to_zoned(zone.clone());
        let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap_or(0);
        self.0.iter().any(|span| span.has_day(local.weekday()) && (span.from..span.until).contains(&minute))
    }

    /// When working time next begins or ends; `None` where it never does.
    pub fn next_change(&self, at: Time, zone: &TimeZone) -> Option<Time> {
        let today = at.to_jiff()?.to_zoned(zone.clone()).date();
        let now = self.hold(at, zone);
        let mut edges = Vec::new();
        for ahead in 0..=8_i64 {
            let Ok(date) = today.checked_add(ahead.days()) else { break };
            for span in self.0.iter().filter(|span| span.has_day(date.weekday())) {
                edges.extend(
                    [edge(date, span.from, zone), edge(date, span.until, zone)].into_iter().flatten(),
                );
            }
        }
        edges.sort_unstable();
        edges.into_iter().find(|edge| *edge > at && self.hold(*edge, zone) != now)
    }
}

impl Span {
    fn has_day(self, day: Weekday) -> bool {
        let day = day.to_monday_zero_offset();
        if self.first <= self.last {
            (self.first..=self.last).contains(&day)
        } else {
            day >= self.first || day <= self.last
        }
    }
}

fn edge(date: Date, minute: u16, zone: &TimeZone) -> Option<Time> {
    let (date, minute) = if minute >= DAY_MINUTES { (date.tomorrow().ok()?, 0) } else { (date, minute) };
    let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
    let at: Timestamp = date.at(hour, minute, 0, 0).to_zoned(zone.clone()).ok()?.timestamp();
    Some(Time::from_millis(at.as_millisecond()))
}

fn span(text: &str) -> Option<Span> {
    let (days, hours) = text.trim().split_once(' ')?;
    let (first, last) = days.split_once('-').unwrap_or((days, days));
    let (from, until) = hours.trim().split_once('-')?;
    Some(Span { first: day(first)?, last: day(last)?, from: minute(from)?, until: minute(until)? })
}

fn day(text: &str) -> Option<i8> {
    DAYS.iter().position(|day| day.eq_ignore_ascii_case(text)).and_then(|day| i8::try_from(day).ok())
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    (minute < 60 && hour * 60 + minute <= DAY_MINUTES).then_some(hour * 60 + minute)
}

/// The text that [`Hours::parse`] reads back, always in the same words.
impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |day: i8| usize::try_from(day).ok().and_then(|day| DAYS.get(day)).copied().unwrap_or("?");
        for (index, Span { first, last, from, until }) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            f.write_str(name(*first))?;
            if first != last {
                write!(f, "-{}", name(*last))?;
            }
            write!(f, " {:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time::parse_rfc3339(text).unwrap()
    }

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    #[test]
    fn hours_read_back_as_themselves_and_nonsense_is_refused() {
        for text in ["Mon-Fri 08:00-20:00", "Sat 00:00-24:00", "Fri-Mon 10:00-14:30, Wed 08:00-09:00"] {
            assert_eq!(Hours::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Hours::parse("MON-fri  08:00-20:00").unwrap().to_string(), "Mon-Fri 08:00-20:00");
        for text in [
            "",
            "Mon",
            "08:00-20:00",
            "Mon-Fri",
            "Mon-Fri 8:00-20:00",
            "Mon 08:00-24:01",
            "Mon 08:60-09:00",
            "Mon 20:00-08:00",
            "Mon 08:00-08:00",
            "Mon-Fri-Sat 08:00-20:00",
            "Mon 08:00-20:00,",
            "Mon +8:00-20:00",
        ] {
            assert!(Hours::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn working_time_is_that_of_the_zone_on_both_sides_of_a_clock_change() {
        let hours = Hours::parse("Mon-Fri 08:00-20:00").unwrap();
        for (when, expected) in [
            ("2026-03-27T07:00:00+01:00", false),
            ("2026-03-27T08:00:00+01:00", true),
            ("2026-03-27T19:59:59+01:00", true),
            ("2026-03-27T20:00:00+01:00", false),
            ("2026-03-28T12:00:00+01:00", false),
            ("2026-03-30T08:00:00+02:00", true),
            ("2026-03-30T07:59:59+02:00", false),
        ] {
            assert_eq!(hours.hold(at(when), &berlin()), expected, "{when}");
        }
        assert!(hours.hold(Time::from_millis(i64::MAX), &TimeZone::UTC), "no calendar knows it");
    }

    #[test]
    fn the_next_change_is_where_working_time_begins_or_ends() {
        let hours = Hours::parse("Mon-Fri 08:00-20:00, Mon-Fri 20:00-21:00").unwrap();
        let next = |when: &str| hours.next_change(at(when), &berlin()).unwrap();
        assert_eq!(next("2026-03-27T12:00:00+01:00"), at("2026-03-27T21:00:00+01:00"));
        assert_eq!(next("2026-03-27T21:00:00+01:00"), at("2026-03-30T08:00:00+02:00"));
        assert_eq!(
            Hours::parse("Mon-Sun 00:00-24:00").unwrap().next_change(at("2026-03-27T12:00:00Z"), &berlin()),
            None
        );
    }
}
