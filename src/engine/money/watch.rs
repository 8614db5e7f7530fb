//! Knows which stretch of time nobody watched, from when polls came and when the next should have.
//!
//! It must never take a late poll for a blind one: only a gap beyond 2.5 effective polls is (FAULTS 50).

use std::time::Duration;

use super::calendar::Stretch;
use crate::model::{Feed, FeedHealth, Outcome, Snapshot, Time};

/// The API's clock and ours may differ by so much, in milliseconds.
const SKEW_MAX_MS: i64 = 5 * 60_000;
/// A clock may be set back by so much without a doubt about it.
const BACK_MAX: Duration = Duration::from_secs(3_600);
/// After so long without a word from the API, a clock that nobody confirms is not believed.
const SILENT_MAX: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// When it was last read; before this process, as far as the store knows.
    pub seen: Option<Time>,
    /// When it was last read before that: what changed, changed since.
    pub before: Option<Time>,
    /// Not watched: until now, or until the poll that ended it at this very step.
    pub blind: Option<Stretch>,
    /// A blind stretch has ended at this step: it must be booked as what it is.
    pub opened: bool,
    tolerance: Duration,
}

impl Watch {
    pub fn new(seen: Option<Time>) -> Self {
        Self { seen, before: seen, ..Self::default() }
    }

    pub fn step(&mut self, snapshot: &Snapshot, feeds: &[Feed], now: Time) {
        let healths = || feeds.iter().filter_map(|feed| snapshot.feeds.get(feed));
        let interval = feeds.first().and_then(|feed| snapshot.feeds.get(feed)).map(|health| health.interval);
        self.tolerance = interval.unwrap_or(Duration::from_secs(60)).saturating_mul(5) / 2;
        let read = healths().filter_map(last_read).max();
        self.opened = false;
        match (self.seen, read) {
            // An earlier process had a clock that was ahead.
            (Some(seen), Some(read)) if seen.since(read) > BACK_MAX => {
                (self.before, self.seen, self.blind) = (Some(read), Some(read), None);
            }
            (Some(seen), Some(read)) if read > seen => {
                self.blind = self.gap(seen, read);
                self.opened = self.blind.is_some();
                (self.before, self.seen) = (Some(seen), Some(read));
            }
            (Some(seen), Some(_) | None) => self.blind = self.gap(seen, now),
            (None, _) => (self.before, self.seen) = (read, read),
        }
    }

    /// A stretch that is too long for one between two polls.
    pub fn gap(&self, from: Time, until: Time) -> Option<Stretch> {
        (until.since(from) > self.tolerance).then_some(Stretch { from, until })
    }
}

/// When a feed last gave something, a part of it included: what it left out is known as denied.
fn last_read(health: &FeedHealth) -> Option<Time> {
    let partly = health.last_attempt.filter(|_| health.last_outcome.is_some_and(|o| o != Outcome::Failed));
    health.last_usable.max(partly)
}

/// Whether our clock can be what the account is billed by: it agrees with the API's, and with when anything was last read.
/// While it cannot, nothing is booked: a clock set to another year would bill the years between (FAULTS 44).
pub fn believes(snapshot: &Snapshot, seen: Option<Time>, now: Time) -> bool {
    let read = snapshot.feeds.values().filter_map(last_read).max();
    let near = |last: Time| last.since(now) <= BACK_MAX && now.since(last) <= SILENT_MAX;
    read.or(seen).is_none_or(near) && snapshot.skew_ms.is_none_or(|ms| ms.saturating_abs() <= SKEW_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Time {
        Time::from_secs(1_800_000_000 + secs)
    }

    #[test]
    fn fault_50_a_gap_beyond_two_and_a_half_polls_was_not_watched() {
        let mut watch = Watch::new(Some(at(0)));
        let mut snapshot = Snapshot::default();
        let mut step = |usable: Option<i64>, now: i64| {
            let health =
                FeedHealth { last_usable: usable.map(at), ..FeedHealth::new(Duration::from_secs(60), at(0)) };
            snapshot.feeds.insert(Feed::Deployments, health);
            watch.step(&snapshot, &[Feed::Deployments, Feed::Inventory], at(now));
            (watch.blind.map(|b| (b.from, b.until)), watch.opened)
        };
        assert_eq!(step(Some(60), 60), (None, false));
        assert_eq!(step(Some(60), 210), (None, false), "150 s are 2.5 polls");
        assert_eq!(step(Some(60), 211), (Some((at(60), at(211))), false));
        assert_eq!(step(Some(60), 900), (Some((at(60), at(900))), false));
        assert_eq!(step(Some(1_000), 1_000), (Some((at(60), at(1_000))), true));
        assert_eq!(step(Some(1_060), 1_060), (None, false));
    }
}
