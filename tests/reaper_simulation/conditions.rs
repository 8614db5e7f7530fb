//! The conditions of the policies, the share of the fleet and the order of shedding, by what was truly so; and what should have
//! ended and did not. They must never ask the engine.

use std::{collections::BTreeSet, time::Duration};

use jiff::civil::Weekday;
use spheron_watch::{
    model::{Condition, DeploymentId, Feed, Policy, Status, Target, Time, Usd},
    spheron::Endpoint,
};

use crate::{
    life::{Evidence, local, works},
    oracles::{Delete, SLACK, Told, arming, holds, is_old_enough, is_protected, running_since},
    world::{
        DAY, DESK_FOR, HOUR, IDLE_FOR, Kind, MEASURED_EVERY, MINUTE, Machine, RUNNING_FOR, RUNWAY_BELOW,
        SPEND_ABOVE,
    },
};

/// Whether all of a policy's conditions truly hold of what a DELETE is sent for.
pub fn hold(evidence: &Evidence, delete: &Delete<'_>, policy: &Policy) -> bool {
    let (at, truth) = (delete.call.at, delete.truth);
    let id = &delete.call.id;
    // It may have taken effect at once: what counts is what was so until then.
    let before = at.minus(Duration::from_millis(1));
    let Some(running) = running_since(evidence, id, before) else { return false };
    if !is_old_enough(running, at) {
        return false;
    }
    let started = started(evidence, id, truth.created_at).unwrap_or(at);
    policy.when.iter().all(|condition| match condition {
        Condition::RunningFor(_) => {
            let length = if &*policy.name == "desk" { DESK_FOR } else { RUNNING_FOR };
            at.since(started) + SLACK >= length
        }
        Condition::IdleFor(_) => was_idle(evidence, id, at),
        Condition::SpendAbove(_) => truth.rate.per_hour_for(at.since(truth.created_at)) > SPEND_ABOVE,
        Condition::Outside(_) => is_outside(at),
        Condition::RunwayBelow(_) => was_short(evidence, at),
    })
}

/// When this life of it first ran.
fn started(evidence: &Evidence, id: &DeploymentId, created: Time) -> Option<Time> {
    let world = &evidence.world;
    let mut passages = world.passages().iter().filter(|passage| passage.id == *id && passage.at >= created);
    passages.find(|passage| passage.to == Status::Running).map(|passage| passage.at)
}

/// The source said so at every turn of the window, and what it said is true.
fn was_idle(evidence: &Evidence, id: &DeploymentId, at: Time) -> bool {
    let gap = MEASURED_EVERY * 5 / 2;
    let machine = evidence.machines.iter().find(|machine| machine.id == *id);
    let mut next = at;
    for (when, word) in evidence.samples.get(id).into_iter().flatten().rev().skip_while(|(w, _)| *w > at) {
        let busy = machine.is_none_or(|machine| works(&machine.busy, *when));
        if *word != 'i' || busy || next.since(*when) > gap + SLACK {
            return false;
        }
        next = *when;
        if at.since(*when) + SLACK >= IDLE_FOR {
            return true;
        }
    }
    false
}

fn is_outside(at: Time) -> bool {
    let near = |at: Time| {
        let local = local(at);
        let weekend = matches!(local.weekday(), Weekday::Saturday | Weekday::Sunday);
        weekend || !(8..20).contains(&local.hour())
    };
    near(at) || near(at.plus(SLACK)) || near(at.minus(SLACK))
}

fn runway(evidence: &Evidence, at: Time) -> Option<Duration> {
    let world = &evidence.world;
    let lab = &evidence.teams[1].0;
    let burn = world.burns(lab).iter().rev().find(|(from, _)| *from <= at).map(|(_, burn)| *burn)?;
    if burn <= Usd::ZERO {
        return None;
    }
    world.true_balance_at(lab, at).max(Usd::ZERO).lasts_at(burn)
}

/// Some time in the last three balances the money did not last.
fn was_short(evidence: &Evidence, at: Time) -> bool {
    let span = evidence.case.poll * 2 * 3;
    (0..=span).step_by(5).any(|ago| {
        runway(evidence, at.minus(MINUTE * ago)).is_some_and(|left| left <= RUNWAY_BELOW + HOUR / 2)
    })
}

/// The dearest that could be ended when it was announced, of equals the youngest, and nothing else of the team under way.
pub fn in_order(evidence: &Evidence, delete: &Delete<'_>, told: &Told) -> bool {
    let world = &evidence.world;
    let since = told.at.minus(HOUR);
    let foul = |asked: &&spheron_watch::drive::simulate::Asked| {
        asked.feed == Feed::Deployments && asked.until >= since && asked.from <= told.at && !asked.honest
    };
    if evidence.asked.iter().any(|asked| foul(&asked)) {
        return true;
    }
    let before = |machine: &&Machine| {
        let Some(running) = running_since(evidence, &machine.id, told.at) else { return false };
        let Some(other) = world.identity(&machine.id) else { return false };
        let target = Target { id: machine.id.clone(), created_at: machine.created };
        let kept = evidence.keeps.iter().any(|keep| keep.target == target && holds(keep, told.at));
        let touched = evidence
            .called
            .iter()
            .any(|call| call.id == machine.id && call.endpoint == Endpoint::Terminate && call.at <= told.at);
        let dearer =
            (other.rate, other.created_at) > (delete.truth.rate, delete.truth.created_at.plus(SLACK));
        let believed = lies(evidence, &machine.id, (told.at.minus(DAY), told.at)) > 1;
        dearer && !kept && !touched && !believed && told.at.since(running) >= HOUR
    };
    let lab = || evidence.machines.iter().filter(|machine| machine.kind == Kind::Shed);
    let alone = lab().filter(|machine| machine.id != delete.call.id).all(|machine| {
        let last = evidence.called.iter().rev().find(|call| {
            call.id == machine.id && call.endpoint == Endpoint::Terminate && call.at <= delete.call.at
        });
        // One that was accepted and still runs holds back the next; one in doubt does for ten minutes. Two reads that lie
        // about an end are believed: nobody can know better.
        last.is_none_or(|call| {
            let over = world.status_at(&machine.id, delete.call.at).is_none_or(Status::is_ended);
            over || lies(evidence, &machine.id, (call.at, delete.call.at)) > 1
                || call.status != Some(200) && delete.call.at.since(call.at) + SLACK >= MINUTE * 10
                || call.status.is_some_and(|status| status != 200)
        })
    });
    alone && !lab().any(|machine| before(&machine))
}

/// How many reads of it lied. Two that do so about an end are believed (FAULTS 6): nobody can know better.
pub fn lies(evidence: &Evidence, id: &DeploymentId, (from, until): (Time, Time)) -> usize {
    let lied = evidence.called.iter().filter(|read| {
        let during = read.id == *id && from <= read.at && read.at <= until;
        during && read.endpoint == Endpoint::Deployment && !read.honest && read.status.is_some()
    });
    lied.count()
}

/// FAULTS 68, of those that run for long: never clearly more than half of the fleet at once, unless a person has seen the list.
pub fn not_so_many(evidence: &Evidence, at: Time) -> bool {
    let world = &evidence.world;
    let Some(armed) = arming(evidence, "long", at) else { return true };
    let fit = |machine: &&Machine| {
        let target = Target { id: machine.id.clone(), created_at: machine.created };
        matches!(machine.kind, Kind::Burst)
            && machine.created <= at
            && running_since(evidence, &machine.id, at)
                .is_some_and(|since| at.since(since) >= RUNNING_FOR + HOUR / 2)
            && !armed.acknowledged.contains(&target)
            && !evidence
                .called
                .iter()
                .any(|call| call.id == machine.id && call.endpoint == Endpoint::Terminate && call.at <= at)
    };
    let fit = evidence.machines.iter().filter(fit).count();
    if fit < 3 {
        return true;
    }
    let ids: BTreeSet<&DeploymentId> = world.passages().iter().map(|passage| &passage.id).collect();
    let fleet = ids.into_iter().filter(|id| world.status_at(id, at) == Some(&Status::Running)).count();
    fit * 10 < fleet * 6
}

/// What should have ended, long ago, and runs still.
pub fn left(evidence: &Evidence) -> Vec<String> {
    let end = evidence.case.end();
    let bound = end.minus(DAY * 3);
    let world = &evidence.world;
    let mut left = Vec::new();
    for machine in &evidence.machines {
        let Some(truth) = world.identity(&machine.id) else { continue };
        let target = Target { id: machine.id.clone(), created_at: truth.created_at };
        let kept = evidence.keeps.iter().any(|keep| keep.target == target && holds(keep, bound));
        let stopped = evidence.cancels.iter().any(|(at, of)| *of == target && *at >= bound.minus(DAY));
        let policy = match machine.kind {
            Kind::Long | Kind::Both | Kind::Burst => ("dev-", RUNNING_FOR),
            Kind::Idle => ("idle-", IDLE_FOR),
            Kind::Spend => ("exp-", HOUR * 6),
            Kind::Desk => ("desk-", DESK_FOR),
            Kind::Shed => continue,
        };
        let worked = machine.busy.iter().map(|(_, until)| *until).max();
        let ripe = running_since(evidence, &machine.id, end)
            .map(|since| since.max(worked.filter(|_| machine.kind == Kind::Idle).unwrap_or(since)));
        let ripe = ripe.is_some_and(|since| since.plus(policy.1) <= bound);
        // What was accepted and does not happen is a person's to end: nothing is asked for twice.
        let mut ends = evidence.called.iter().rev().filter(|call| call.endpoint == Endpoint::Terminate);
        let accepted = ends.find(|call| call.id == machine.id).is_some_and(|call| {
            call.status == Some(200)
                && call.truth.as_ref().is_some_and(|then| then.created_at == truth.created_at)
                && call.at > running_since(evidence, &machine.id, end).unwrap_or(end)
        });
        let matched = truth.name.starts_with(policy.0) && !is_protected(&truth.name);
        if ripe && !kept && !stopped && !accepted && matched {
            let says =
                evidence.says.iter().filter(|(id, _)| *id == machine.id).map(|(_, says)| says.as_str());
            let says = says.collect::<Vec<_>>().join("; ");
            left.push(format!("{} {} since {}: {says}", machine.id, truth.name, truth.created_at));
        }
    }
    // Money that is short for so long, with something to shed, is not left to end by itself.
    let emptied = |(at, team): &&(Time, spheron_watch::model::TeamId)| {
        *team == evidence.teams[1].0 && *at >= evidence.case.fair_from().plus(DAY)
    };
    left.extend(world.emptied().iter().filter(emptied).map(|(at, _)| format!("the lab's money, at {at}")));
    left
}
