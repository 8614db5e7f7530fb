//! The gates: everything that must hold before a deployment is ended, each a predicate of its own that says what is missing.
//!
//! It must never open for what is not known: any doubt, no DELETE.

use std::time::Duration;

use super::{conditions, ground::Case, sight};
use crate::model::{
    Deployment, EventId, Feed, FeedHealth, Hold, Presence, Stage, Status, Target, Time, VolumeStatus,
    outbox::LOG,
};

/// How far our clock and the API's may differ (FAULTS 44).
pub const SKEW_MAX_MS: u64 = 60_000;
/// How old the final read and can-terminate may be when the DELETE begins to be sent.
pub const READS_MAX_AGE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// From which point of an action's life on a gate must be open; it stays in force to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// To be a candidate at all, in a dry run too.
    Qualify,
    /// To be marked.
    Mark,
    /// To begin the final read.
    Start,
    /// Once the final read is in.
    Read,
    /// Once can-terminate is in: to commit, and to hand out the DELETE.
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    Selector,
    Protection,
    Keeps,
    Rest,
    Listed,
    Deploying,
    Running,
    Age,
    Whole,
    Fresh,
    Clock,
    Window,
    Volume,
    Conditions,
    Armed,
    FleetShare,
    CapHour,
    CapDay,
    Notice,
    Grace,
    Identity,
    ReadClock,
    CanTerminate,
    ReadsYoung,
}

type Predicate = fn(&Case<'_>) -> Result<(), Hold>;

/// Every gate, in the order in which reasons are given.
pub const GATES: [(Gate, Phase, Predicate); 24] = [
    (Gate::Selector, Phase::Qualify, selected),
    (Gate::Protection, Phase::Qualify, not_protected),
    (Gate::Keeps, Phase::Qualify, not_kept),
    (Gate::Rest, Phase::Qualify, not_resting),
    (Gate::Listed, Phase::Qualify, listed),
    (Gate::Deploying, Phase::Qualify, not_deploying),
    (Gate::Running, Phase::Qualify, running),
    (Gate::Age, Phase::Qualify, observed_long),
    (Gate::Whole, Phase::Qualify, snapshot_whole),
    (Gate::Fresh, Phase::Qualify, data_fresh),
    (Gate::Clock, Phase::Qualify, clock_sane),
    (Gate::Window, Phase::Qualify, window_observed),
    (Gate::Volume, Phase::Qualify, volume_attached),
    (Gate::Conditions, Phase::Qualify, conditions::all),
    (Gate::Armed, Phase::Mark, armed),
    (Gate::FleetShare, Phase::Mark, fleet_share),
    (Gate::CapHour, Phase::Mark, cap_per_hour),
    (Gate::CapDay, Phase::Mark, cap_per_day),
    (Gate::Notice, Phase::Start, notice_delivered),
    (Gate::Grace, Phase::Start, grace_over),
    (Gate::Identity, Phase::Start, identity_agrees),
    (Gate::ReadClock, Phase::Read, read_clock_sane),
    (Gate::CanTerminate, Phase::Delete, may_terminate),
    (Gate::ReadsYoung, Phase::Delete, reads_young),
];

/// Whether every gate up to this phase is open. Of several closed ones, one that cancels is named first.
pub fn pass(case: &Case<'_>, phase: Phase) -> Result<(), Hold> {
    let mut waits = Ok(());
    for hold in closed(case, phase) {
        if hold.cancels() {
            return Err(hold);
        }
        if waits.is_ok() {
            waits = Err(hold);
        }
    }
    waits
}

/// The same without a reason: the first closed gate is enough.
pub fn is_open(case: &Case<'_>, phase: Phase) -> bool {
    closed(case, phase).next().is_none()
}

/// Every closed gate up to this phase.
pub fn closed<'a>(case: &'a Case<'_>, phase: Phase) -> impl Iterator<Item = Hold> + 'a {
    let in_force = GATES.into_iter().filter(move |(_, from, _)| *from <= phase);
    // A test takes a gate away to see that it is missed.
    #[cfg(test)]
    let in_force = in_force.filter(|(gate, ..)| case.ground.skip != Some(*gate));
    in_force.filter_map(|(_, _, predicate)| predicate(case).err())
}

/// The policy's `match`, of which an empty one matches nothing (FAULTS 52).
pub fn selected(case: &Case<'_>) -> Result<(), Hold> {
    if case.policy.matching.is_everything() {
        return Err(Hold::NoSelector);
    }
    let selects =
        |deployment: &Deployment| case.policy.selects(deployment, case.ground.team_name(&deployment.team));
    if case.seen().all(selects) { Ok(()) } else { Err(Hold::NotMatched) }
}

/// `[safety] protect` wins over every policy (FAULTS 70, 74).
pub fn not_protected(case: &Case<'_>) -> Result<(), Hold> {
    let safety = &case.ground.policies.safety;
    let key = case
        .seen()
        .find_map(|deployment| safety.protects(deployment, case.ground.team_name(&deployment.team)));
    key.map_or(Ok(()), |key| Err(Hold::Protected { key: key.into() }))
}

/// A person's keep, of this identity. The longest one is named.
pub fn not_kept(case: &Case<'_>) -> Result<(), Hold> {
    let target = Target::of(&case.tracked.deployment);
    let holding =
        case.ground.snapshot.keeps.values().filter(|keep| keep.target == target && keep.holds(case.now()));
    let longest = holding.max_by_key(|keep| (keep.until.is_none(), keep.until));
    longest.map_or(Ok(()), |keep| {
        Err(Hold::Kept { id: keep.id.clone(), by: keep.by.clone(), until: keep.until })
    })
}

/// After a person stopped an action, or the API refused one.
pub fn not_resting(case: &Case<'_>) -> Result<(), Hold> {
    match case.ground.history.rests.get(&Target::of(&case.tracked.deployment)) {
        Some(until) if case.now() < *until => Err(Hold::Resting { until: *until }),
        Some(_) | None => Ok(()),
    }
}

/// In the last list that should hold it, and readable there: that its own GET finds it is not enough (FAULTS 8).
pub fn listed(case: &Case<'_>) -> Result<(), Hold> {
    let unlisted = case.ground.snapshot.unlisted.contains(&case.tracked.deployment.id);
    match case.tracked.presence {
        Presence::Listed if case.tracked.unreadable_since.is_none() && !unlisted => Ok(()),
        Presence::Listed | Presence::Missing { .. } | Presence::Gone(_) => Err(Hold::Missing),
    }
}

/// FAULTS 71.
pub fn not_deploying(case: &Case<'_>) -> Result<(), Hold> {
    let deploying = case.seen().any(|deployment| deployment.status == Status::Deploying);
    if deploying { Err(Hold::Deploying) } else { Ok(()) }
}

/// Exactly `running`: an unknown status is never terminable (FAULTS 2).
pub fn running(case: &Case<'_>) -> Result<(), Hold> {
    match case.seen().find(|deployment| deployment.status != Status::Running) {
        Some(deployment) => Err(Hold::NotRunning { status: deployment.status.as_str().into() }),
        None => Ok(()),
    }
}

/// Known to us for long enough, and running for as long under our eyes (FAULTS 71).
pub fn observed_long(case: &Case<'_>) -> Result<(), Hold> {
    let age = case.ground.policies.safety.min_observed_age;
    let until = case.tracked.first_seen.max(case.tracked.status_since).plus(age);
    if until <= case.now() { Ok(()) } else { Err(Hold::TooYoung { until }) }
}

/// The last list was whole, the team's own among it, and the fleet did not just shrink (FAULTS 6, 7).
pub fn snapshot_whole(case: &Case<'_>) -> Result<(), Hold> {
    let snapshot = case.ground.snapshot;
    let team = &case.tracked.deployment.team;
    let known = snapshot.teams.get(team).is_some_and(|team| team.denied.is_none());
    let whole = lists(case).is_some_and(sight::is_whole);
    if whole && known && !snapshot.unread.contains(team) && !snapshot.shrunk.contains_key(team) {
        Ok(())
    } else {
        Err(Hold::Incomplete { feed: Feed::Deployments })
    }
}

pub fn data_fresh(case: &Case<'_>) -> Result<(), Hold> {
    let fresh = lists(case).is_some_and(|health| sight::is_fresh(health, case.now()));
    if fresh { Ok(()) } else { Err(Hold::Stale { feed: Feed::Deployments }) }
}

/// FAULTS 44.
pub fn clock_sane(case: &Case<'_>) -> Result<(), Hold> {
    skew(case.ground.snapshot.skew_ms)
}

fn skew(skew_ms: Option<i64>) -> Result<(), Hold> {
    match skew_ms {
        None => Err(Hold::ClockUnknown),
        Some(skew_ms) if skew_ms.unsigned_abs() > SKEW_MAX_MS => Err(Hold::ClockOff { skew_ms }),
        Some(_) => Ok(()),
    }
}

/// Lists without a gap for as long as the policy looks back, and never less than for `min_observed_age` (FAULTS 45, 50).
pub fn window_observed(case: &Case<'_>) -> Result<(), Hold> {
    let age = case.ground.policies.safety.min_observed_age;
    let window = age.max(case.policy.idle_for().unwrap_or_default());
    let since = lists(case).and_then(|health| case.ground.sight.unbroken_since(health, case.now()));
    match since.map(|since| since.plus(window)) {
        Some(until) if until <= case.now() => Ok(()),
        until => Err(Hold::WindowBroken { until }),
    }
}

fn lists<'a>(case: &Case<'a>) -> Option<&'a FeedHealth> {
    case.ground.snapshot.feeds.get(&Feed::Deployments)
}

/// With `require_volume`: a volume that is attached, by a list that is whole and fresh.
pub fn volume_attached(case: &Case<'_>) -> Result<(), Hold> {
    if !case.policy.require_volume {
        return Ok(());
    }
    let snapshot = case.ground.snapshot;
    let health = snapshot.feeds.get(&Feed::Volumes);
    if !health.is_some_and(sight::is_whole) {
        return Err(Hold::Incomplete { feed: Feed::Volumes });
    }
    if !health.is_some_and(|health| sight::is_fresh(health, case.now())) {
        return Err(Hold::Stale { feed: Feed::Volumes });
    }
    let attached = snapshot.volumes.values().any(|tracked| {
        tracked.gone_at.is_none()
            && tracked.volume.status == VolumeStatus::Attached
            && tracked.volume.attached_to.contains(&case.tracked.deployment.id)
    });
    if attached { Ok(()) } else { Err(Hold::NoVolume) }
}

/// Armed by a person, as it stands now.
pub fn armed(case: &Case<'_>) -> Result<(), Hold> {
    match case.ground.arming(case.policy) {
        None => Err(Hold::NotArmed),
        Some(_) if case.ground.is_armed(case.policy) => Ok(()),
        Some(_) => Err(Hold::ArmedOtherwise),
    }
}

/// FAULTS 68.
pub fn fleet_share(case: &Case<'_>) -> Result<(), Hold> {
    match case.ground.too_many {
        Some((qualifying, fleet)) => Err(Hold::FleetShare { qualifying, fleet }),
        None => Ok(()),
    }
}

pub fn cap_per_hour(case: &Case<'_>) -> Result<(), Hold> {
    let max = case.ground.policies.safety.max_per_hour;
    capped(case, max, HOUR).map_or(Ok(()), |until| Err(Hold::CapHour { max, until }))
}

pub fn cap_per_day(case: &Case<'_>) -> Result<(), Hold> {
    let max = case.ground.policies.safety.max_per_day;
    capped(case, max, DAY).map_or(Ok(()), |until| Err(Hold::CapDay { max, until }))
}

/// Every DELETE handed out counts, whatever came of it. Who is not marked yet must fit beside what is announced already.
fn capped(case: &Case<'_>, max: u16, within: Duration) -> Option<Time> {
    let history = &case.ground.history;
    let now = case.now();
    let (at, promised) = match case.action {
        Some(_) => (now, &[][..]),
        None => (now.plus(case.policy.grace), history.slots.as_slice()),
    };
    let near = |then: &&Time| then.since(at).max(at.since(**then)) < within;
    // A time ahead of the clock is one of a clock that was ahead.
    let requests: Vec<Time> = history.requests.iter().map(|then| now.min(*then)).collect();
    let mut counted: Vec<Time> = requests.iter().chain(promised).filter(near).copied().collect();
    counted.sort_unstable();
    let over = (counted.len() + 1).checked_sub(usize::from(max))?;
    let free = over.checked_sub(1).and_then(|index| counted.get(index)).copied().unwrap_or(at);
    (over > 0).then(|| free.plus(within).minus(at.since(now)).max(now))
}

/// The announcement was taken by a receiver that is not the log.
pub fn notice_delivered(case: &Case<'_>) -> Result<(), Hold> {
    let Some(action) = case.action else { return Err(Hold::NotTold) };
    match taken_by(case, &super::words::announcement_id(action)) {
        Some(_) => Ok(()),
        None => Err(Hold::NotTold),
    }
}

/// The first receiver but the log that took a notice.
pub fn taken_by<'a>(case: &Case<'a>, notice: &EventId) -> Option<&'a std::sync::Arc<str>> {
    let told = case.ground.snapshot.told.get(notice)?;
    told.iter()
        .filter(|(receiver, _)| &***receiver != LOG)
        .min_by_key(|(_, at)| **at)
        .map(|(receiver, _)| receiver)
}

/// From the arrival of the announcement the whole grace, and not before what was announced or agreed since.
pub fn grace_over(case: &Case<'_>) -> Result<(), Hold> {
    let Some(slot) = case.action.and_then(|action| action.stage.slot()) else { return Err(Hold::NotTold) };
    let until = slot.at.max(slot.told.plus(case.policy.grace));
    if until > case.now() {
        return Err(Hold::Grace { until });
    }
    match case.action.map(|action| &action.stage) {
        Some(Stage::Announced { next, .. }) if *next > case.now() => Err(Hold::Later { until: *next }),
        Some(_) | None => Ok(()),
    }
}

/// Id, `createdAt`, name and team are those that people were told (FAULTS 8, 20, 70).
pub fn identity_agrees(case: &Case<'_>) -> Result<(), Hold> {
    let Some(action) = case.action else { return Err(Hold::NotTold) };
    let differs = |deployment: &Deployment| {
        let agrees = [
            ("id", deployment.id == action.target.id),
            ("createdAt", deployment.created_at == action.target.created_at),
            ("name", deployment.name == action.name),
            ("team", deployment.team == action.team),
        ];
        agrees.into_iter().find(|(_, agrees)| !agrees).map(|(what, _)| what)
    };
    case.seen().find_map(differs).map_or(Ok(()), |what| Err(Hold::ReadDiffers { what: what.into() }))
}

/// The final read's own answer agrees with our clock.
pub fn read_clock_sane(case: &Case<'_>) -> Result<(), Hold> {
    skew(case.read.and_then(|read| read.skew_ms))
}

/// `canTerminate` and nothing remaining, by an answer whose clock is ours (FAULTS 16).
pub fn may_terminate(case: &Case<'_>) -> Result<(), Hold> {
    let Some(check) = case.check else { return Err(Hold::ReadsOld) };
    skew(check.skew_ms)?;
    let minutes = check.answer.minutes_remaining;
    match (check.answer.can_terminate, minutes) {
        (true, 0) => Ok(()),
        (true, _) => Err(Hold::Contradictory { minutes }),
        (false, _) => Err(Hold::CannotTerminate { minutes }),
    }
}

pub fn reads_young(case: &Case<'_>) -> Result<(), Hold> {
    match (case.read, case.check) {
        (Some(read), Some(check))
            if [read.sent, check.sent]
                .iter()
                .all(|sent| *sent <= case.now() && case.now().since(*sent) <= READS_MAX_AGE)
                && read.sent <= check.sent =>
        {
            Ok(())
        }
        (Some(_) | None, Some(_) | None) => Err(Hold::ReadsOld),
    }
}
