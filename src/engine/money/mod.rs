//! Money: the ledger of what everything cost, the forecast of how long the balance lasts, and whether the two agree.
//!
//! It must never hold a float, nor count a moment twice.

mod calendar;
mod forecast;
mod ledger;
mod pass;
mod reconcile;
mod watch;

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use self::{
    calendar::{Periods, hour_of},
    forecast::Slope,
    ledger::{Book, new_purse},
    pass::{Moment, Pass, Tally},
    reconcile::{Look, Told},
    watch::Watch,
};
use crate::model::{
    Books, Charge, Feed, Forecast, Line, Outcome, Purse, Snapshot, Spend, Subject, TeamId, Time, TrackedTeam,
    Usd,
};

/// What the engine remembers of money: one line per deployment identity and volume, one purse per team.
#[derive(Debug, Clone)]
pub struct Money {
    zone: TimeZone,
    periods: Option<Periods>,
    lines: BTreeMap<Subject, Line>,
    purses: BTreeMap<TeamId, Purse>,
    deployments: Watch,
    volumes: Watch,
    teams: BTreeMap<TeamId, (Look, Slope)>,
    forecasts: BTreeMap<TeamId, Forecast>,
}

/// What one step books.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Booked {
    pub lines: Vec<(Subject, Option<Line>)>,
    pub charges: Vec<Charge>,
    pub purses: Vec<(TeamId, Purse)>,
    pub forecasts: BTreeMap<TeamId, Forecast>,
}

impl Money {
    /// `zone`: where days, weeks and months begin.
    pub fn new(zone: TimeZone, books: Books) -> Self {
        Self {
            zone,
            periods: None,
            lines: books.lines,
            purses: books.purses,
            deployments: Watch::new(books.seen),
            volumes: Watch::new(books.seen),
            teams: BTreeMap::new(),
            forecasts: BTreeMap::new(),
        }
    }

    /// What was spent in the present periods stays with them though their bounds move.
    pub fn set_zone(&mut self, zone: TimeZone) {
        self.zone = zone;
        self.periods = None;
    }

    /// Accounts everything up to `now`, and looks ahead.
    pub fn step(&mut self, snapshot: &Snapshot, now: Time) -> Booked {
        if !watch::believes(snapshot, self.deployments.seen, now) {
            return Booked { forecasts: self.remembered(snapshot), ..Booked::default() };
        }
        let periods = match self.periods {
            Some(periods) if periods.holds(now) => periods,
            Some(_) | None => self.turn(now),
        };
        let mut booked = Booked::default();
        let before = self.purses.clone();
        for team in snapshot.teams.keys() {
            self.purses.entry(team.clone()).or_insert_with(|| new_purse(&periods));
        }
        self.turn_purses(&periods);
        self.deployments.step(snapshot, &[Feed::Deployments, Feed::Inventory], now);
        self.volumes.step(snapshot, &[Feed::Volumes], now);
        let cut = periods.starts().into_iter().fold(hour_of(now), Time::max);
        let mut tallies: BTreeMap<TeamId, Tally> = BTreeMap::new();
        let mut pass = Pass {
            at: Moment { now, cut },
            lines: &mut self.lines,
            book: Book { periods: &periods, purses: &mut self.purses, charges: &mut booked.charges },
            touched: &mut booked.lines,
        };
        for tracked in snapshot.deployments.values() {
            let team = snapshot.teams.get(&tracked.deployment.team).map(|team| &**team);
            let tally = tally_of(&mut tallies, &tracked.deployment.team);
            pass.deployment(tracked, &self.deployments, team, tally);
        }
        for tracked in snapshot.volumes.values() {
            let tally = tally_of(&mut tallies, &tracked.volume.team);
            pass.volume(tracked, &self.volumes, tally);
        }
        for team in snapshot.teams.values() {
            let tally = tallies.get(&team.id).copied().unwrap_or_default();
            let forecast = self.look_ahead(snapshot, team, tally, &periods, now);
            booked.forecasts.insert(team.id.clone(), forecast);
        }
        self.forecasts = booked.forecasts.clone();
        let changed = self.purses.iter().filter(|(team, purse)| before.get(*team) != Some(*purse));
        booked.purses = changed.map(|(team, purse)| (team.clone(), purse.clone())).collect();
        booked
    }

    /// What was known when the clock could last be believed; in a new process, what was spent. What bills needs no clock.
    fn remembered(&self, snapshot: &Snapshot) -> BTreeMap<TeamId, Forecast> {
        let spend = |(from, spent): (Time, Usd)| Spend { from, until: from, spent, forecast: spent };
        let spent = |purse: &Purse| Forecast {
            day: spend(purse.day),
            week: spend(purse.week),
            month: spend(purse.month),
            unexplained_total: purse.unexplained,
            topups_total: purse.topups,
            deployments_total: purse.deployments,
            volumes_total: purse.volumes,
            ..Forecast::default()
        };
        let of = |team: &TeamId| {
            let known = match (self.forecasts.get(team), self.purses.get(team)) {
                (Some(forecast), _) => *forecast,
                (None, Some(purse)) => spent(purse),
                (None, None) => Forecast::default(),
            };
            let committed = snapshot.burn_per_hour(team);
            Forecast { committed, certain: committed, ..known }
        };
        snapshot.teams.keys().map(|team| (team.clone(), of(team))).collect()
    }

    fn turn(&mut self, now: Time) -> Periods {
        let periods = Periods::at(&self.zone, now);
        self.periods = Some(periods);
        periods
    }

    /// A period that is over leaves; one whose beginning moved by less than a day is the same in another zone.
    fn turn_purses(&mut self, periods: &Periods) {
        const SHIFT: std::time::Duration = std::time::Duration::from_secs(27 * 3_600);
        for purse in self.purses.values_mut() {
            if purse.day.0 != periods.day.from {
                purse.day = (periods.day.from, Usd::ZERO);
            }
            for (kept, from) in [(&mut purse.week, periods.week.from), (&mut purse.month, periods.month.from)]
            {
                let same = kept.0.since(from).max(from.since(kept.0)) < SHIFT;
                *kept = (from, if same { kept.1 } else { Usd::ZERO });
            }
        }
    }

    fn look_ahead(
        &mut self,
        snapshot: &Snapshot,
        team: &TrackedTeam,
        tally: Tally,
        periods: &Periods,
        now: Time,
    ) -> Forecast {
        let (look, slope) = self.teams.entry(team.id.clone()).or_insert_with(|| {
            let mut look = Look::default();
            look.blinked();
            (look, Slope::default())
        });
        // A list from before says nothing of a balance that is read after it.
        if self.deployments.opened || self.deployments.blind.is_some() {
            look.blinked();
        }
        let purse = self.purses.entry(team.id.clone()).or_insert_with(|| new_purse(periods));
        let due = purse.told.saturating_add(tally.volumes).saturating_sub(tally.owed_volumes);
        let told = Told {
            due,
            listed: listed(snapshot, team),
            volume_step: tally.volume_step,
            step: tally.step,
            drifting: tally.drifting,
        };
        let finding = look.step(team, told, purse, now);
        let outran = |(read, before): (Time, Time)| read.since(before) > now.since(read);
        if self.deployments.opened && team.balance_at.zip(self.deployments.before).is_some_and(outran) {
            // The list tells what was debited while nobody read one, and the balance has known most of it.
            look.told_at_balance = due;
        }
        // The balance as it was read, less what was debited since and what is accrued and not debited yet.
        let since = due.saturating_sub(look.told_at_balance);
        let undebited = since.saturating_add(tally.owed);
        let observed = slope.observe(snapshot.balance_history.get(&team.id), tally.committed, now);
        let end = |undebited: Usd, burn: Usd| {
            Some(now.plus(team.balance?.saturating_sub(undebited).lasts_at(burn)?))
        };
        let certain = tally.committed.saturating_sub(tally.doubtful);
        let surely = undebited.saturating_sub(tally.doubtful_owed);
        let certain_ends = [end(surely, certain), observed.and_then(|burn| end(surely, burn))];
        let pending = tally.deployments.saturating_add(tally.volumes);
        let [day, week, month] = tally.before.map(|before| pending.saturating_sub(before));
        let spend = |stretch, (_, spent): (Time, Usd), pending| {
            forecast::spend(stretch, spent.saturating_add(pending), certain, now)
        };
        Forecast {
            committed: tally.committed,
            observed,
            committed_end: end(undebited, tally.committed),
            observed_end: observed.and_then(|burn| end(undebited, burn)),
            undebited,
            certain,
            certain_end: certain_ends.into_iter().flatten().min(),
            day: spend(periods.day, purse.day, day),
            week: spend(periods.week, purse.week, week),
            month: spend(periods.month, purse.month, month),
            unexplained_day: reconcile::unexplained_day(purse, now),
            finding,
            unexplained_total: purse.unexplained,
            topups_total: purse.topups,
            deployments_total: purse.deployments.saturating_add(tally.deployments),
            volumes_total: purse.volumes.saturating_add(tally.volumes),
        }
    }
}

fn tally_of<'a>(tallies: &'a mut BTreeMap<TeamId, Tally>, team: &TeamId) -> &'a mut Tally {
    if !tallies.contains_key(team) {
        tallies.insert(team.clone(), Tally::default());
    }
    tallies.entry(team.clone()).or_default()
}

/// The time of the last list that held all of the team's deployments.
fn listed(snapshot: &Snapshot, team: &TrackedTeam) -> Option<Time> {
    if team.denied.is_some() {
        return None;
    }
    let whole = |feed| {
        let health = snapshot.feeds.get(feed)?;
        health.last_complete.filter(|_| health.last_outcome == Some(Outcome::Complete))
    };
    [Feed::Deployments, Feed::Inventory].iter().filter_map(whole).max()
}

#[cfg(test)]
mod tests;
