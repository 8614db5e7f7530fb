//! The dead-man switch: a sign of life each minute, but only while watching, remembering and telling all work.
//!
//! It must never ping on hope: when blind, or when nothing can be committed, silence is the alarm (FAULTS 66).

use std::{sync::Arc, time::Duration};

use super::{
    outbox::LOG,
    outward::{Outward, Teller},
};
use crate::model::{Feed, OutboxDepth, Time, View, humanize};

/// How often.
const EVERY: Duration = Duration::from_secs(60);
/// The loop commits and counts at least each minute, whatever happens.
const COMMITTED_WITHIN: Duration = Duration::from_secs(180);
/// Balance and deployments are known by a poll that is at most so old, or three intervals if that is longer: as `blind` has it.
const SEEN_WITHIN: Duration = Duration::from_secs(300);
/// What nobody took for so long, over several attempts, does not get through.
const DELIVERED_WITHIN: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Ping,
    /// Watching works, but nobody can be told.
    Fail(String),
    /// Not even that is sure.
    Silence(String),
}

/// `members`: the Alertmanagers, and since when each does not take alerts.
pub fn verdict(view: &View, members: &[(Arc<str>, Option<Time>)], now: Time) -> Verdict {
    if let Some(why) = blind(view, now) {
        return Verdict::Silence(why);
    }
    let depth = |name: &Arc<str>| view.outbox.get(name);
    let receivers = view.receivers.iter().filter(|name| &***name != LOG);
    let mut ways: Vec<(&Arc<str>, Option<String>)> =
        receivers.map(|name| (name, depth(name).and_then(|depth| failing(depth, now)))).collect();
    if ways.is_empty() {
        // Then Alertmanager is who tells people.
        ways = members.iter().map(|(name, since)| (name, deaf(*since, now))).collect();
    }
    let failing: Vec<String> =
        ways.iter().filter_map(|(name, why)| why.as_ref().map(|why| format!("{name} ({why})"))).collect();
    if failing.is_empty() || failing.len() < ways.len() {
        return Verdict::Ping;
    }
    Verdict::Fail(format!("no alert gets through: {}", failing.join(", ")))
}

/// Why what we know may not be so any more.
fn blind(view: &View, now: Time) -> Option<String> {
    for (what, at) in [("committed", view.at), ("counted in the outbox", view.outbox_at)] {
        if now.since(at) > COMMITTED_WITHIN {
            return Some(format!("nothing could be {what} for {}", humanize(now.since(at))));
        }
    }
    [Feed::Balance, Feed::Deployments].into_iter().find_map(|feed| {
        let health = view.snapshot.feeds.get(&feed);
        let Some((health, seen)) = health.and_then(|health| Some((health, health.last_usable?))) else {
            return Some(format!("no usable poll of {feed} yet"));
        };
        let within = SEEN_WITHIN.max(health.interval.saturating_mul(3));
        let age = now.since(seen);
        (age > within).then(|| format!("the last usable poll of {feed} was {} ago", humanize(age)))
    })
}

/// Why a receiver does not get what it should, if so. Words of the other side stay here: who hears this is somebody else.
fn failing(depth: &OutboxDepth, now: Time) -> Option<String> {
    match &depth.trouble {
        Some(trouble) if trouble.dead => {
            Some(format!("gave up on the last alert {} ago", humanize(now.since(trouble.since))))
        }
        Some(trouble) => deaf(Some(trouble.since), now),
        // Not even tried.
        None => deaf(depth.oldest.filter(|_| depth.waiting > 0), now),
    }
}

fn deaf(since: Option<Time>, now: Time) -> Option<String> {
    let age = now.since(since?);
    (age > DELIVERED_WITHIN).then(|| format!("has taken no alerts for {}", humanize(age)))
}

/// What was done last, so that only a change is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Pinged,
    Failed,
    Silent,
    Unheard,
}

pub(super) async fn run(mut teller: Teller) {
    let mut last = Done::Pinged;
    loop {
        teller.clock.sleep(EVERY).await;
        let outward = teller.outward.borrow_and_update().clone();
        let done = beat(&teller, &outward, last).await;
        last = done.unwrap_or(Done::Pinged);
        if outward.dead_man.is_none() && teller.outward.changed().await.is_err() {
            return;
        }
    }
}

/// `None` where no switch is configured.
async fn beat(teller: &Teller, outward: &Outward, last: Done) -> Option<Done> {
    let switch = outward.dead_man.as_ref()?;
    let members: Vec<_> =
        outward.alertmanagers.iter().map(|member| (member.name().clone(), member.failing_since())).collect();
    let view = teller.views.borrow().clone();
    let (done, sent) = match verdict(&view, &members, teller.clock.now()) {
        Verdict::Ping => (Done::Pinged, switch.ping().await),
        Verdict::Fail(why) => {
            if last != Done::Failed {
                tracing::error!("the dead-man switch is told to raise the alarm: {why}");
            }
            (Done::Failed, switch.fail(&why).await)
        }
        Verdict::Silence(why) => {
            if last != Done::Silent {
                tracing::error!("the dead-man switch hears nothing until this is over: {why}");
            }
            (Done::Silent, Ok(()))
        }
    };
    if let Err(why) = sent {
        if last != Done::Unheard {
            tracing::warn!("the dead-man switch did not hear us, trying again each minute: {why}");
        }
        return Some(Done::Unheard);
    }
    if done == Done::Pinged && last != Done::Pinged {
        tracing::info!("the dead-man switch hears us again");
    }
    Some(done)
}

#[cfg(test)]
mod tests;
