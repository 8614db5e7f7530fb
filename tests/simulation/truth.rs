//! What was really so in the account, as questions that the oracles ask.
//!
//! It must never look at what the watcher made of it.

use std::{collections::BTreeMap, time::Duration};

use spheron_watch::{
    model::{Status, Subject, TeamId, Time, Usd, VolumeId},
    sim::{Life, VolumeLife, World},
};

use crate::run::Scripted;

pub struct Truth {
    pub lives: BTreeMap<Subject, Life>,
    pub volumes: BTreeMap<VolumeId, VolumeLife>,
    pub balances: BTreeMap<TeamId, Vec<(Time, Usd)>>,
    /// Σ rates of all that billed.
    pub burns: BTreeMap<TeamId, Vec<(Time, Usd)>>,
    pub revoked: Vec<(Time, Time)>,
    pub hidden: Vec<(Time, Time)>,
    pub hidden_team: TeamId,
}

/// The API gives whole seconds.
pub fn whole_secs(time: Time) -> Time {
    Time::from_secs(time.secs())
}

pub fn subject(life: &Life) -> Subject {
    Subject::Deployment { id: life.id.clone(), created_at: whole_secs(life.statuses[0].0) }
}

impl Truth {
    pub fn of(world: &World, scripted: Scripted) -> Self {
        let balances = world.teams().into_iter().map(|team| {
            let all = world.balances(&team).to_vec();
            (team, all)
        });
        Self {
            lives: world.lives().into_iter().map(|life| (subject(&life), life)).collect(),
            volumes: world.volume_lives().into_iter().map(|life| (life.id.clone(), life)).collect(),
            balances: balances.collect(),
            burns: world.teams().into_iter().map(|team| (team.clone(), world.burns(&team))).collect(),
            revoked: scripted.revoked,
            hidden: scripted.hidden,
            hidden_team: world.teams()[1].clone(),
        }
    }

    pub fn life(&self, subject: &Subject) -> Option<&Life> {
        self.lives.get(subject)
    }

    /// Whether a team was hidden at any time between.
    pub fn hid(&self, team: &TeamId, from: Time, until: Time) -> bool {
        *team == self.hidden_team && meets(&self.hidden, from, until)
    }

    pub fn shown(&self, team: &TeamId, from: Time, until: Time) -> bool {
        *team != self.hidden_team || !self.hidden.iter().any(|(a, b)| *a <= from && until < *b)
    }

    /// The balances that the API would have shown at any time between.
    pub fn balances_between(&self, team: &TeamId, from: Time, until: Time) -> impl Iterator<Item = Usd> {
        between(&self.balances[team], from, until).map(|(_, usd)| *usd)
    }

    /// Each time that the balance was below for a while.
    pub fn low_spans(&self, team: &TeamId, below: Usd) -> Vec<(Time, Time)> {
        spans(&self.balances[team], |usd| *usd < below)
    }
}

pub fn meets(spans: &[(Time, Time)], from: Time, until: Time) -> bool {
    spans.iter().any(|(a, b)| *a <= until && from <= *b)
}

/// What held at the beginning of a time or came within it.
pub fn between<T>(steps: &[(Time, T)], from: Time, until: Time) -> impl Iterator<Item = &(Time, T)> {
    let first = steps.partition_point(|(at, _)| *at <= from).saturating_sub(1);
    steps.iter().skip(first).take_while(move |(at, _)| *at <= until)
}

/// What held at a time.
pub fn value_at<T>(steps: &[(Time, T)], at: Time) -> Option<&T> {
    let after = steps.partition_point(|(since, _)| *since <= at);
    after.checked_sub(1).map(|last| &steps[last].1)
}

/// The spans in which something held of the steps; the last may have no end.
pub fn spans<T>(steps: &[(Time, T)], holds: impl Fn(&T) -> bool) -> Vec<(Time, Time)> {
    let mut spans: Vec<(Time, Time)> = Vec::new();
    for (index, (at, value)) in steps.iter().enumerate() {
        let end = steps.get(index + 1).map_or(Time::from_millis(i64::MAX), |(next, _)| *next);
        match spans.last_mut() {
            Some(last) if holds(value) && last.1 == *at => last.1 = end,
            _ if holds(value) => spans.push((*at, end)),
            _ => {}
        }
    }
    spans
}

/// A state that bills and should not be there: `stopped`, or one that nobody knows.
pub fn is_odd(status: &Status) -> bool {
    matches!(status, Status::Stopped | Status::Unknown(_))
}

pub fn is_spot(life: &Life) -> bool {
    life.instance_type == "SPOT"
}

/// When the provider ended it, if so.
pub fn taken_at(life: &Life) -> Option<Time> {
    life.statuses.iter().find(|(_, status)| *status == Status::TerminatedProvider).map(|(at, _)| *at)
}

/// From when it counts as running: from `startedAt`, or from its creation where it never booted.
pub fn since(life: &Life) -> Time {
    let booted = life.statuses.iter().find(|(_, status)| *status == Status::Running);
    whole_secs(booted.unwrap_or(&life.statuses[0]).0)
}

/// The spans in which it ran, and had run for longer than that.
pub fn long_spans(life: &Life, longer_than: Duration) -> Vec<(Time, Time)> {
    let runs = spans(&life.statuses, |status| matches!(status, Status::Running | Status::Unknown(_)));
    let due = since(life).plus(longer_than);
    runs.into_iter().filter(|(_, end)| *end > due).map(|(from, end)| (from.max(due), end)).collect()
}
