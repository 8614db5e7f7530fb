//! The conditions of a policy's `when`: each says that it holds, or what is missing.
//!
//! It must never take the unknown for met: nobody measures, nothing is read, no burn is known — then it does not hold.

use std::{cmp::Reverse, time::Duration};

use super::{ground::Case, sight};
use crate::model::{Activity, Condition, Feed, Forecast, Hold, Hours, Time, Tracked, Usd, humanize};

/// All must hold, and a policy without any never does. What cancels is named before what only waits.
pub fn all(case: &Case<'_>) -> Result<(), Hold> {
    if case.policy.when.is_empty() {
        return Err(Hold::NoCondition);
    }
    let mut waits = Ok(());
    for condition in &case.policy.when {
        match one(condition, case) {
            Err(hold) if hold.cancels() => return Err(hold),
            Err(hold) if waits.is_ok() => waits = Err(hold),
            Err(_) | Ok(()) => {}
        }
    }
    waits
}

fn one(condition: &Condition, case: &Case<'_>) -> Result<(), Hold> {
    match condition {
        Condition::IdleFor(length) => idle_for(*length, case),
        Condition::RunningFor(length) => running_for(*length, case),
        Condition::RunwayBelow(below) => runway_below(*below, case),
        Condition::SpendAbove(above) => spend_above(*above, case),
        Condition::Outside(hours) => outside(hours, case),
    }
}

/// Measured idle by every source, without a gap, up to a word that still holds (FAULTS 72), and all of it of this identity.
pub fn idle_for(length: Duration, case: &Case<'_>) -> Result<(), Hold> {
    let known = case.tracked.first_seen;
    match case.ground.snapshot.activity_of(&case.tracked.deployment.id, case.now()) {
        Activity::Busy => Err(Hold::Busy),
        Activity::Unknown => Err(Hold::Unmeasured),
        Activity::Idle { since, until } if until.since(since.max(known)) >= length => Ok(()),
        Activity::Idle { since, .. } => Err(Hold::NotIdleLong { until: since.max(known).plus(length) }),
    }
}

pub fn running_for(length: Duration, case: &Case<'_>) -> Result<(), Hold> {
    let until = case.seen().map(|deployment| deployment.since().plus(length)).max().unwrap_or(case.now());
    if until <= case.now() { Ok(()) } else { Err(Hold::NotRunningLong { until }) }
}

/// By what bills now. How the balance moved is no ground to end anything: after an end it still shows the old pace for hours.
pub fn money_ends(forecast: &Forecast) -> Option<Time> {
    forecast.committed_end
}

/// Short now and by each of the last two balances, both read after the last end in this team (FAULTS 5, 75). Whether what the list
/// lacks still costs anything is not known, and so neither is how long the money lasts.
pub fn runway_below(below: Duration, case: &Case<'_>) -> Result<(), Hold> {
    let team = &case.tracked.deployment.team;
    let snapshot = case.ground.snapshot;
    let of_team = |id| {
        snapshot
            .deployments
            .get(id)
            .is_some_and(|tracked| tracked.deployment.team == *team && tracked.is_live())
    };
    if snapshot.unlisted.iter().any(of_team) {
        return Err(Hold::RunwayUnknown);
    }
    let Some(health) = case.ground.snapshot.feeds.get(&Feed::Balance) else {
        return Err(Hold::RunwayUnknown);
    };
    if !sight::is_whole(health) {
        return Err(Hold::Incomplete { feed: Feed::Balance });
    }
    if !sight::is_fresh(health, case.now()) {
        return Err(Hold::Stale { feed: Feed::Balance });
    }
    let end = case.ground.forecasts.get(team).and_then(money_ends);
    let known = case.ground.snapshot.teams.get(team).is_some_and(|team| team.unknown_since.is_none());
    let left = match end {
        Some(end) if known => end.since(case.now()),
        Some(_) | None => return Err(Hold::RunwayUnknown),
    };
    if left >= below {
        return Err(Hold::RunwayEnough { left_secs: left.as_secs() });
    }
    let after = case.ground.history.ended.get(team).copied();
    if case.ground.sight.short_twice(team, below, after) { Ok(()) } else { Err(Hold::RunwayOnce) }
}

/// The API's own `totalCost`.
pub fn spend_above(above: Usd, case: &Case<'_>) -> Result<(), Hold> {
    let spent = case.seen().map(|deployment| deployment.total_cost).min().unwrap_or(Usd::ZERO);
    if spent > above { Ok(()) } else { Err(Hold::SpendsLess { left: above.saturating_sub(spent) }) }
}

pub fn outside(hours: &Hours, case: &Case<'_>) -> Result<(), Hold> {
    let zone = &case.ground.policies.zone;
    if hours.hold(case.now(), zone) {
        return Err(Hold::WorkingHours { until: hours.next_change(case.now(), zone) });
    }
    Ok(())
}

/// The order of shedding: the dearest per hour first, then the youngest; of equals the lower id.
pub fn shed_order(tracked: &Tracked) -> (Reverse<Usd>, Reverse<Time>, String) {
    let deployment = &tracked.deployment;
    (Reverse(deployment.hourly_rate), Reverse(deployment.since()), deployment.id.as_str().to_owned())
}

/// What each condition looks at, with its limit.
pub fn inputs(case: &Case<'_>) -> Vec<(String, String)> {
    let say = |condition: &Condition| (condition.to_string(), input(condition, case));
    case.policy.when.iter().map(say).collect()
}

/// How the conditions hold, in one line.
pub fn because(case: &Case<'_>) -> String {
    let said: Vec<String> = case
        .policy
        .when
        .iter()
        .map(|condition| format!("{} (limit: {condition})", input(condition, case)))
        .collect();
    said.join("; ")
}

fn input(condition: &Condition, case: &Case<'_>) -> String {
    let now = case.now();
    let deployment = case.deployment();
    match condition {
        Condition::IdleFor(_) => match case.ground.snapshot.activity_of(&deployment.id, now) {
            Activity::Idle { since, until } => {
                format!("idle for {}, since {since}", humanize(until.since(since)))
            }
            Activity::Busy => "busy".to_owned(),
            Activity::Unknown => "activity unknown".to_owned(),
        },
        Condition::RunningFor(_) => {
            format!("running for {}, since {}", humanize(now.since(deployment.since())), deployment.since())
        }
        Condition::RunwayBelow(_) => match case.ground.forecasts.get(&deployment.team).and_then(money_ends) {
            Some(end) => format!("the balance lasts for {}, until {end}", humanize(end.since(now))),
            None => "how long the balance lasts is not known".to_owned(),
        },
        Condition::SpendAbove(_) => format!("{} spent", deployment.total_cost),
        Condition::Outside(hours) => {
            let working = hours.hold(now, &case.ground.policies.zone);
            if working { "working time" } else { "outside working time" }.to_owned()
        }
    }
}
