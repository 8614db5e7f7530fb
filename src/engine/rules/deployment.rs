//! Rules about deployments: running too long, spot capacity reclaimed, stopped by the provider.
//!
//! It must never conclude an end from absence: that is for the deployment's own GET, which `fold` enters.

use std::time::Duration;

use super::{Ground, Judgement, account::blind_from};
use crate::{
    engine::alert::Verdict,
    model::{Feed, Outcome, Presence, Rule, Status, Subject, TeamId, Tracked},
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
        let running = ground.now.since(tracked.deployment.since());
        let due = tracked.deployment.since().plus(longer_than).plus(Duration::from_millis(1));
        Judgement::met_if(running > longer_than).at(due.max(ground.now))
    });
}

/// SPOT became `terminated-provider`: an event.
pub fn spot_interrupted(rule: &Rule, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    for_each(rule, ground, each, &is_spot, &|tracked| {
        let interrupted = tracked.deployment.status == Status::TerminatedProvider;
        if interrupted { ended(tracked, ground).into() } else { Verdict::NotMet.into() }
    });
}

/// Not SPOT and `terminated-provider` is an event; `stopped` and unknown statuses are states that can pass.
pub fn provider_stopped(rule: &Rule, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    let relevant = |tracked: &Tracked| !is_spot(tracked) || tracked.is_live();
    for_each(rule, ground, each, &relevant, &|tracked| match tracked.deployment.status {
        Status::TerminatedProvider if !is_spot(tracked) => ended(tracked, ground).into(),
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

fn is_spot(tracked: &Tracked) -> bool {
    tracked.deployment.instance_type.is_spot()
}

/// An account's past grows without end: what a rule cannot be about has to cost next to nothing.
fn for_each(
    rule: &Rule,
    ground: &Ground<'_>,
    each: &mut dyn FnMut(Subject, Judgement),
    relevant: &dyn Fn(&Tracked) -> bool,
    judge: &dyn Fn(&Tracked) -> Judgement,
) {
    for tracked in ground.snapshot.deployments.values().filter(|tracked| relevant(tracked)) {
        let deployment = &tracked.deployment;
        let team_name = || ground.snapshot.teams.get(&deployment.team).map_or("", |team| &*team.name);
        if rule.matcher.is_everything() || rule.matcher.matches_deployment(deployment, team_name()) {
            let subject =
                Subject::Deployment { id: deployment.id.clone(), created_at: deployment.created_at };
            each(subject, judge(tracked));
        }
    }
}

/// The feed that would have to speak before anything new may be said of this deployment.
fn unsure(tracked: &Tracked, ground: &Ground<'_>) -> Option<Feed> {
    if matches!(tracked.presence, Presence::Missing { .. }) {
        return Some(Feed::Detail);
    }
    let unknown = unread(&tracked.deployment.team, ground) || tracked.unreadable_since.is_some();
    unknown.then_some(Feed::Deployments)
}

/// Whether what is known of a team's fleet is old.
pub fn unread(team: &TeamId, ground: &Ground<'_>) -> bool {
    // Polls that are held back leave no outcome: what is as old as blindness is not known either.
    let blind =
        ground.snapshot.feeds.get(&Feed::Deployments).is_none_or(|health| match health.last_outcome {
            None | Some(Outcome::Failed) => true,
            Some(Outcome::Complete | Outcome::Partial) => ground.now > blind_from(health, STALE_AFTER),
        });
    blind || ground.snapshot.unread.contains(team)
}

/// News if we saw the transition ourselves in the last day, or met it within a day of its happening. Without a stop time it is
/// only known to lie after the creation.
fn ended(tracked: &Tracked, ground: &Ground<'_>) -> Verdict {
    let age = if tracked.status_before.is_some() {
        ground.now.since(tracked.status_since)
    } else {
        tracked.first_seen.since(tracked.deployment.stopped_at.unwrap_or(tracked.deployment.created_at))
    };
    if age <= NEWS_FOR { Verdict::Event } else { Verdict::Past }
}
