//! Since when the lists have come whole and without a gap, and what the last two balances said: the evidence of conditions.
//!
//! It must never bridge a gap, a step of the clock or a restart: then evidence begins anew (FAULTS 45, 50).

use std::{collections::BTreeMap, time::Duration};

use super::conditions;
use crate::model::{Feed, FeedHealth, Forecast, Snapshot, TeamId, Time, TrackedTeam, activity::longest_gap};

#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// The first whole list without a gap since, and the last.
    lists: Option<(Time, Time)>,
    balances: BTreeMap<TeamId, Samples>,
}

#[derive(Debug, Clone, Copy)]
struct Samples {
    before: Option<Sample>,
    last: Sample,
}

/// How long the money lasted by one balance; `None`: not known, or nothing is spent.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Time,
    lasts: Option<Duration>,
}

impl Sight {
    pub fn look(&mut self, snapshot: &Snapshot, forecasts: &BTreeMap<TeamId, Forecast>, now: Time) {
        if let Some(health) = snapshot.feeds.get(&Feed::Deployments)
            && let Some(last) = health.last_whole
        {
            let unbroken =
                |(_, seen): &(Time, Time)| *seen <= last && last.since(*seen) <= longest_gap(health.interval);
            let since = self.lists.filter(unbroken).map_or(last, |(since, _)| since);
            self.lists = Some((since, last));
        }
        let Some(health) = snapshot.feeds.get(&Feed::Balance) else { return };
        self.balances.retain(|team, _| snapshot.teams.contains_key(team));
        for team in snapshot.teams.values() {
            self.look_at_balance(team, health, forecasts.get(&team.id), now);
        }
    }

    fn look_at_balance(
        &mut self,
        team: &TrackedTeam,
        health: &FeedHealth,
        forecast: Option<&Forecast>,
        now: Time,
    ) {
        let (Some(at), None) = (team.balance_at, team.unknown_since) else {
            self.balances.remove(&team.id);
            return;
        };
        let last = self.balances.get(&team.id).map(|samples| samples.last);
        if last.is_some_and(|last| last.at == at) {
            return;
        }
        let lasts = forecast.and_then(conditions::money_ends).map(|end| end.since(now));
        let unbroken = |last: &Sample| last.at < at && at.since(last.at) <= longest_gap(health.interval);
        let samples = Samples { before: last.filter(unbroken), last: Sample { at, lasts } };
        self.balances.insert(team.id.clone(), samples);
    }

    /// Since when every list came whole and in time; `None` if the last is too old.
    pub fn unbroken_since(&self, health: &FeedHealth, now: Time) -> Option<Time> {
        let (since, last) = self.lists?;
        (last <= now && now.since(last) <= longest_gap(health.interval)).then_some(since)
    }

    /// Whether each of the last two balances, both read after `after`, left less than `below`.
    pub fn short_twice(&self, team: &TeamId, below: Duration, after: Option<Time>) -> bool {
        let short = |sample: &Sample| {
            sample.lasts.is_some_and(|lasts| lasts < below) && after.is_none_or(|after| sample.at > after)
        };
        let samples = self.balances.get(team);
        samples.is_some_and(|samples| {
            short(&samples.last) && samples.before.is_some_and(|before| short(&before))
        })
    }
}

/// The last poll that nothing was missing from is fresh enough to end something by.
pub fn is_fresh(health: &FeedHealth, now: Time) -> bool {
    health.last_whole.is_some_and(|last| last <= now && now.since(last) <= longest_gap(health.interval))
}

/// Nothing was missing from the last poll.
pub fn is_whole(health: &FeedHealth) -> bool {
    health.last_whole.is_some() && health.last_whole == health.last_attempt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Time {
        Time::from_secs(1_800_000_000 + secs)
    }

    fn listed(last: i64) -> FeedHealth {
        FeedHealth { last_whole: Some(at(last)), ..FeedHealth::new(Duration::from_secs(60), at(0)) }
    }

    #[test]
    fn fault_50_a_gap_or_a_clock_set_back_begins_the_window_anew() {
        let mut sight = Sight::default();
        let mut look = |last: i64, now: i64| {
            let mut snapshot = Snapshot::default();
            snapshot.feeds.insert(Feed::Deployments, listed(last));
            sight.look(&snapshot, &BTreeMap::new(), at(now));
            sight.unbroken_since(&listed(last), at(now))
        };
        assert_eq!(look(0, 0), Some(at(0)));
        assert_eq!(look(60, 60), Some(at(0)));
        assert_eq!(look(60, 210), Some(at(0)), "150 s are 2.5 polls");
        assert_eq!(look(60, 211), None, "too old to say anything of now");
        assert_eq!(look(210, 210), Some(at(0)));
        assert_eq!(look(361, 361), Some(at(361)), "151 s are a gap");
        assert_eq!(look(421, 421), Some(at(361)));
        assert_eq!(look(400, 400), Some(at(400)), "the clock was set back");
        assert_eq!(look(460, 459), None, "a poll from the future");
    }

    /// A balance that was read then (`None`: it cannot be read), by which the money lasts for so many seconds, if that is known.
    fn look(sight: &mut Sight, read: Option<i64>, lasts: impl Into<Option<u64>>) {
        let now = at(read.unwrap_or(0));
        let team = TeamId::new("t1");
        let mut snapshot = Snapshot::default();
        snapshot.feeds.insert(Feed::Balance, listed(0));
        let tracked = TrackedTeam {
            id: team.clone(),
            name: "research".into(),
            role: "owner".into(),
            balance: None,
            balance_at: read.map(at),
            previous: None,
            unknown_since: read.is_none().then_some(now),
            denied: None,
        };
        snapshot.teams.insert(team.clone(), tracked.into());
        let end = lasts.into().map(|lasts| now.plus(Duration::from_secs(lasts)));
        let forecast = Forecast { committed_end: end, ..Forecast::default() };
        sight.look(&snapshot, &[(team, forecast)].into(), now);
    }

    fn short(sight: &Sight, below: u64, after: Option<i64>) -> bool {
        sight.short_twice(&TeamId::new("t1"), Duration::from_secs(below), after.map(at))
    }

    #[test]
    fn fault_75_one_balance_is_not_two() {
        let mut sight = Sight::default();
        let mut look = |read: Option<i64>, lasts: u64| {
            look(&mut sight, read, lasts);
            short(&sight, 3_600, Some(10))
        };
        assert!(!look(Some(0), 60));
        assert!(!look(Some(60), 60), "the first was read before the last end");
        assert!(look(Some(120), 60));
        assert!(!look(Some(180), 3_600), "restored");
        assert!(!look(Some(240), 60), "short once");
        assert!(look(Some(300), 60));
        assert!(!look(None, 60), "a balance that cannot be read");
        assert!(!look(Some(360), 60));
        assert!(look(Some(420), 60));
        assert!(!look(Some(600), 60), "after a gap");
    }

    #[test]
    fn fault_75_both_balances_are_below_the_limit_and_from_after_the_last_end() {
        let mut sight = Sight::default();
        look(&mut sight, Some(0), 600);
        look(&mut sight, Some(60), 600);
        assert!(short(&sight, 601, None));
        assert!(!short(&sight, 600, None), "as long as the limit is not below it");
        assert!(short(&sight, 601, Some(-1)));
        assert!(!short(&sight, 601, Some(0)), "the first is of the moment of the end");
        assert!(!short(&sight, 601, Some(60)));
        look(&mut sight, Some(60), 600);
        assert!(!short(&sight, 601, Some(0)), "the same balance again is not another");
        look(&mut sight, Some(120), 601);
        assert!(!short(&sight, 601, None), "the last is as long as the limit");
        look(&mut sight, Some(180), 600);
        assert!(!short(&sight, 601, None), "the one before was");
        look(&mut sight, Some(330), 600);
        assert!(short(&sight, 601, None), "150 s are 2.5 polls");
        look(&mut sight, Some(300), 600);
        assert!(!short(&sight, 601, None), "the clock was set back");
        look(&mut sight, Some(451), 600);
        assert!(!short(&sight, 601, None), "151 s are a gap");
        look(&mut sight, Some(500), None);
        assert!(!short(&sight, 601, None), "how long it lasts is not known");
        look(&mut sight, Some(550), 600);
        assert!(!short(&sight, 601, None), "nor was it by the one before");
        look(&mut sight, Some(600), 600);
        assert!(short(&sight, 601, None));
    }

    #[test]
    fn a_poll_is_fresh_for_two_and_a_half_intervals_and_whole_if_it_was_the_last() {
        for (now, fresh) in [(0, true), (150, true), (151, false), (-1, false)] {
            assert_eq!(is_fresh(&listed(0), at(now)), fresh, "{now}");
        }
        let never = FeedHealth::new(Duration::from_secs(60), at(0));
        assert!(!is_fresh(&never, at(0)) && !is_whole(&never));
        for (attempt, whole) in [(0, true), (60, false)] {
            assert_eq!(is_whole(&FeedHealth { last_attempt: Some(at(attempt)), ..listed(0) }), whole);
        }
    }
}
