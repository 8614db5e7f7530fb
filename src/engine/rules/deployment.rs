//! Rules about deployments: new, stuck, failed, idle, running too long, dearer, reclaimed or stopped by the provider.
//!
//! It must never conclude an end from absence: that is for the deployment's own GET, which `fold` enters.

use std::time::Duration;

use super::{Ground, Judgement, account::blind_from};
use crate::{
    engine::alert::Verdict,
    model::{Activity, Feed, Outcome, Presence, Rule, Status, Subject, TeamId, Time, Tracked},
};

/// An end that lies this far before our first sight of it is the account's past, not news.
const NEWS_FOR: Duration = Duration::from_secs(24 * 3_600);
/// A list that is older than this, and than three intervals, says nothing about now.
const STALE_AFTER: Duration = Duration::from_secs(5 * 60);

pub fn running_long(
    rule: &Rule,
    longer_than: Duration,
    ground: &Ground<'_>,
    each: &mut dyn FnMut(Subject, Judgement),
) {
    // Whatever has ended is no subject any more: what fired resolves.
    for_each(rule, ground, each, &Tracked::is_live, &|tracked| {
        match tracked.deployment.status {
            Status::Running | Status::Unknown(_) => {}
            Status::Deploying
            | Status::Stopped
            | Status::Failed
            | Status::Terminated
            | Status::TerminatedProvider => return Verdict::NotMet.into(),
        }
        if let Some(feed) = unsure(tracked, ground) {
            return Verdict::Unknown(feed).into();
        }
        lasting(tracked.deployment.since(), longer_than, ground)
    });
}

/// SPOT became `terminated-provider`: an event.
pub fn spot_interrupted(rule: &Rule, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    for_each(rule, ground, each, &is_spot, &|tracked| {
        let interrupted = tracked.deployment.status == Status::TerminatedProvider;
        if interrupted { news(tracked, ground).into() } else { Verdict::NotMet.into() }
    });
}

/// Not SPOT and `terminated-provider` is an event; `stopped` and unknown statuses are states that can pass.
pub fn provider_stopped(rule: &Rule, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    let relevant = |tracked: &Tracked| !is_spot(tracked) || tracked.is_live();
    for_each(rule, ground, each, &relevant, &|tracked| match tracked.deployment.status {
        Status::TerminatedProvider if !is_spot(tracked) => news(tracked, ground).into(),
        Status::Stopped | Status::Unknown(_) => match unsure(tracked, ground) {
            Some(feed) => Verdict::Unknown(feed).into(),
            None => Judgement::met_if(tracked.is_live()),
        },
        Status::TerminatedProvider
        | Status::Deploying
        | Status::Running
        | Status::Failed
        | Status::Terminated => Verdict::NotMet.into(),
    });
}

/// `failed` is an event.
pub fn failed(rule: &Rule, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    let relevant = |tracked: &Tracked| tracked.is_live() || tracked.deployment.status == Status::Failed;
    for_each(rule, ground, each, &relevant, &|tracked| match tracked.deployment.status {
        Status::Failed => news(tracked, ground).into(),
        Status::Deploying
        | Status::Running
        | Status::Terminated
        | Status::TerminatedProvider
        | Status::Stopped
        | Status::Unknown(_) => Verdict::NotMet.into(),
    });
}

pub fn stuck(
    rule: &Rule,
    longer_than: Duration,
    ground: &Ground<'_>,
    each: &mut dyn FnMut(Subject, Judgement),
) {
    for_each(rule, ground, each, &Tracked::is_live, &|tracked| {
        if tracked.deployment.status != Status::Deploying {
            return Verdict::NotMet.into();
        }
        match unsure(tracked, ground) {
            Some(feed) => Verdict::Unknown(feed).into(),
            None => lasting(tracked.deployment.created_at, longer_than, ground),
        }
    });
}

/// Created after we began to watch, and met within a day of it: the fleet of a first start is no news.
pub fn new_deployment(rule: &Rule, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    let began = ground.snapshot.first_observed;
    let ours = |tracked: &Tracked| {
        let created_at = tracked.deployment.created_at;
        began.is_some_and(|began| created_at > began) && tracked.first_seen.since(created_at) <= NEWS_FOR
    };
    let relevant = |tracked: &Tracked| tracked.is_live() || ours(tracked);
    for_each(rule, ground, each, &relevant, &|tracked| {
        if ours(tracked) { if_news(tracked.first_seen, ground).into() } else { Verdict::Past.into() }
    });
}

/// Every change between two of our own observations is an event of its own.
pub fn rate_changed(rule: &Rule, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    let relevant = |tracked: &Tracked| tracked.is_live() || tracked.rate_before.is_some();
    for_each(rule, ground, each, &relevant, &|tracked| match tracked.rate_before {
        Some((_, at)) => if_news(at, ground).into(),
        None => Verdict::NotMet.into(),
    });
}

/// Measured idle by every source for the whole window. Once it fires, only a source that says busy or an end stops it: after a
/// gap the window begins anew, but nobody saw it work.
pub fn idle(
    rule: &Rule,
    longer_than: Duration,
    ground: &Ground<'_>,
    each: &mut dyn FnMut(Subject, Judgement),
) {
    for_each(rule, ground, each, &Tracked::is_live, &|tracked| {
        if tracked.deployment.status != Status::Running {
            return Verdict::NotMet.into();
        }
        if let Some(feed) = unsure(tracked, ground) {
            return Verdict::Unknown(feed).into();
        }
        let sources = ground.snapshot.activity.get(&tracked.deployment.id);
        match Activity::of(sources.into_iter().flat_map(|sources| sources.values()), ground.now) {
            Activity::Busy => Verdict::NotMet.into(),
            Activity::Idle { since, until } => {
                Judgement { keeps: true, ..Judgement::met_if(until.since(since) > longer_than) }
            }
            Activity::Unknown => Verdict::Unmeasured.into(),
        }
    });
}

/// Met once more than `longer_than` has passed since then.
pub(super) fn lasting(since: Time, longer_than: Duration, ground: &Ground<'_>) -> Judgement {
    let due = since.plus(longer_than).plus(Duration::from_millis(1));
    Judgement::met_if(ground.now.since(since) > longer_than).at(due.max(ground.now))
}

fn is_spot(tracked: &Tracked) -> bool {
    tracked.deployment.instance_type.is_spot()
}

/// An account's past grows without end: what a rule cannot be about has to cost next to nothing.
pub(super) fn for_each(
    rule: &Rule,
    ground: &Ground<'_>,
    each: &mut dyn FnMut(Subject, Judgement),
    relevant: &dyn Fn(&Tracked) -> bool,
    judge: &dyn Fn(&Tracked) -> Judgement,
) {
    for tracked in ground.snapshot.deployments.values().filter(|tracked| relevant(tracked)) {
        let deployment = &tracked.deployment;
        let team_name = || ground.snapshot.teams.get(&deployment.team).map_or("", |team| &*team.name);
        let subject = Subject::Deployment { id: deployment.id.clone(), created_at: deployment.created_at };
        if rule.matcher.is_everything() || rule.matcher.matches_deployment(deployment, team_name()) {
            each(subject, judge(tracked));
        } else {
            each(subject, Verdict::NotMatched.into());
        }
    }
}

/// The feed that would have to speak before anything new may be said of this deployment.
pub(super) fn unsure(tracked: &Tracked, ground: &Ground<'_>) -> Option<Feed> {
    if matches!(tracked.presence, Presence::Missing { .. }) {
        return Some(Feed::Detail);
    }
    let unknown = unread(&tracked.deployment.team, ground) || tracked.unreadable_since.is_some();
    unknown.then_some(Feed::Deployments)
}

/// Whether what is known of a team's fleet is old.
pub fn unread(team: &TeamId, ground: &Ground<'_>) -> bool {
    is_old(Feed::Deployments, ground) || ground.snapshot.unread.contains(team)
}

/// Whether what a feed said last says nothing of now.
pub fn is_old(feed: Feed, ground: &Ground<'_>) -> bool {
    // Polls that are held back leave no outcome: what is as old as blindness is not known either.
    ground.snapshot.feeds.get(&feed).is_none_or(|health| match health.last_outcome {
        None | Some(Outcome::Failed) => true,
        Some(Outcome::Complete | Outcome::Partial) => ground.now > blind_from(health, STALE_AFTER),
    })
}

/// News if we saw the transition to the present status ourselves in the last day, or met it within a day of its happening.
/// Without a stop time it is only known to lie after the creation.
fn news(tracked: &Tracked, ground: &Ground<'_>) -> Verdict {
    let seen = tracked.status_since;
    if tracked.status_before.is_some() {
        return if_news(seen, ground);
    }
    let at = tracked.deployment.stopped_at.unwrap_or(tracked.deployment.created_at);
    if tracked.first_seen.since(at) <= NEWS_FOR { Verdict::Event(seen) } else { Verdict::Past }
}

/// What we saw happen at a time.
fn if_news(at: Time, ground: &Ground<'_>) -> Verdict {
    if ground.now.since(at) <= NEWS_FOR { Verdict::Event(at) } else { Verdict::Past }
}
