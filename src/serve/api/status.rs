//! `status`: what is left, what it costs, how long it lasts, and how old this knowledge is.
//!
//! It must never claim more than is known: what is unknown is `null`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{At, Look, Money, Named, Source, teams, values::SCHEMA};
use crate::{
    model::{FailureKind, Feed, FeedHealth, Outcome, Severity, Time, Usd, humanize},
    serve::{health, text::visible},
};

const TROUBLE_CHARS_MAX: usize = 300;
const UNKNOWN_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub schema: u32,
    pub at: At,
    pub source: Source,
    pub version: String,
    /// As of when all that matters is known.
    pub data_at: Option<At>,
    pub fresh: bool,
    /// What is late, since when, and why.
    pub late: Vec<String>,
    /// Which feeds are polled less often than configured, and why.
    #[serde(default)]
    pub stretched: Vec<String>,
    /// Of all teams whose balance is known.
    pub balance: Option<Money>,
    /// `null` before anybody has read what runs.
    pub burn_per_hour: Option<Money>,
    /// Of the team whose money ends first.
    pub runs_out_at: Option<At>,
    pub runs_out_team: Option<Named>,
    pub counts: Counts,
    /// Deployments that are listed and cannot be read: what they are and cost is in no figure here.
    pub unknown: Vec<UnknownDeployment>,
    /// How many alerts fire.
    pub alerts: BTreeMap<Severity, usize>,
    pub config_reload_ok: bool,
    pub feeds: Vec<FeedStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub teams: usize,
    pub deployments: usize,
    /// Those that bill.
    pub deployments_live: usize,
    pub volumes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedStatus {
    pub feed: Feed,
    /// The effective one, stretched where calls are scarce.
    pub interval_secs: u64,
    /// The configured one, where the effective one is longer.
    #[serde(default)]
    pub stretched_from_secs: Option<u64>,
    pub last_attempt: Option<At>,
    pub last_complete: Option<At>,
    pub outcome: Option<Outcome>,
    pub failure: Option<FailureKind>,
    pub failures_in_row: u32,
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownDeployment {
    pub id: String,
    pub why: String,
    pub since: At,
}

fn unknown(look: Look<'_>) -> Vec<UnknownDeployment> {
    let all = look.view.snapshot.unknown.iter().take(UNKNOWN_MAX);
    all.map(|(id, unknown)| UnknownDeployment {
        id: id.to_string(),
        why: visible(&unknown.why, TROUBLE_CHARS_MAX).into_owned(),
        since: At(unknown.since),
    })
    .collect()
}

pub fn status(look: Look<'_>) -> Status {
    let (view, snapshot) = (look.view, &*look.view.snapshot);
    let late = match look.source {
        Source::Daemon => health::readiness(view, look.now).err().unwrap_or_default(),
        Source::Database => "no daemon runs: this is what it last saw".to_owned(),
    };
    let teams: Vec<_> = snapshot.teams.values().map(|team| teams::team(look, team)).collect();
    let known: Vec<Usd> = teams.iter().filter_map(|team| team.balance.map(|money| money.0)).collect();
    let first = teams.iter().filter(|team| team.runs_out_at.is_some()).min_by_key(|team| team.runs_out_at);
    let mut alerts: BTreeMap<Severity, usize> =
        Severity::ALL.into_iter().map(|severity| (severity, 0)).collect();
    for (_, severity) in view.firing.values() {
        *alerts.entry(*severity).or_default() += 1;
    }
    Status {
        schema: SCHEMA,
        at: At(look.now),
        source: look.source,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_at: data_at(look).map(At),
        fresh: late.is_empty(),
        late: late.lines().map(str::to_owned).collect(),
        stretched: snapshot.feeds.iter().filter_map(|(feed, health)| stretched(*feed, health)).collect(),
        balance: (!known.is_empty()).then(|| Money(known.iter().copied().sum())),
        burn_per_hour: snapshot
            .fleet_known()
            .then(|| Money(teams.iter().filter_map(|team| team.burn_per_hour).map(|burn| burn.0).sum())),
        runs_out_at: first.and_then(|team| team.runs_out_at),
        runs_out_team: first.map(|team| Named { id: team.id.clone(), name: team.name.clone() }),
        counts: Counts {
            teams: teams.len(),
            deployments: snapshot.deployments.len(),
            deployments_live: snapshot.deployments.values().filter(|tracked| tracked.is_live()).count(),
            volumes: snapshot.volumes.values().filter(|volume| volume.gone_at.is_none()).count(),
        },
        unknown: unknown(look),
        alerts,
        config_reload_ok: view.config_reload_ok,
        feeds: feeds(look),
    }
}

fn stretched(feed: Feed, health: &FeedHealth) -> Option<String> {
    let from = health.stretched_from?;
    let slowest = feed.slowest().max(from);
    // A poll takes a moment of its own.
    let beyond = if health.interval > slowest + slowest / 10 {
        format!(", too few even for every {}", humanize(slowest))
    } else {
        String::new()
    };
    Some(format!(
        "{feed} every {} instead of {}: the API or collect.calls_per_15m grants too few calls{beyond}",
        humanize(health.interval),
        humanize(from)
    ))
}

fn feeds(look: Look<'_>) -> Vec<FeedStatus> {
    let feeds = look.view.snapshot.feeds.iter();
    feeds
        .map(|(feed, health)| FeedStatus {
            feed: *feed,
            interval_secs: health.interval.as_secs(),
            stretched_from_secs: health.stretched_from.map(|from| from.as_secs()),
            last_attempt: health.last_attempt.map(At),
            last_complete: health.last_complete.map(At),
            outcome: health.last_outcome,
            failure: health.failure,
            failures_in_row: health.failures_in_row,
            trouble: health.trouble.as_deref().map(|text| visible(text, TROUBLE_CHARS_MAX).into_owned()),
        })
        .collect()
}

/// The older of the last complete polls of balance and deployments; of a database, which knows no feeds, the last balance.
fn data_at(look: Look<'_>) -> Option<Time> {
    let snapshot = &look.view.snapshot;
    if look.source == Source::Database {
        return snapshot.teams.values().filter_map(|team| team.balance_at).max();
    }
    let last = |feed| snapshot.feeds.get(&feed)?.last_complete;
    last(Feed::Balance).zip(last(Feed::Deployments)).map(|(balance, deployments)| balance.min(deployments))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_feed_that_is_polled_less_often_than_configured_is_named_with_both_intervals() {
        let mut health = FeedHealth::new(Duration::from_secs(2_400), Time::EPOCH);
        assert_eq!(stretched(Feed::Deployments, &health), None, "as configured, however long");
        health.stretched_from = Some(Duration::from_secs(10));
        let grants = "the API or collect.calls_per_15m grants too few calls";
        assert_eq!(
            stretched(Feed::Deployments, &health).unwrap(),
            format!("deployments every 40m instead of 10s: {grants}, too few even for every 15m")
        );
        assert_eq!(
            stretched(Feed::Inventory, &health).unwrap(),
            format!("inventory every 40m instead of 10s: {grants}")
        );
    }
}
