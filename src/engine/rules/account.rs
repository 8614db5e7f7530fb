//! Rules about the watcher itself: blind, key rejected, configuration invalid, deliveries failing, disk low.
//!
//! It must never be silent about silence: these are the rules that fire because nothing is known.

use std::time::Duration;

use super::{Ground, Judgement};
use crate::{
    engine::alert::Verdict,
    model::{Action, Feed, FeedHealth, Time, Trouble},
};

/// The feeds without which the watcher is blind.
pub const VITAL: [Feed; 2] = [Feed::Balance, Feed::Deployments];

/// So long a receiver may take nothing: a restart of it is no news.
const FAILING_AFTER: Duration = Duration::from_secs(300);
/// So long a dead letter counts, unless the receiver takes something after it.
const DEAD_FOR: Duration = Duration::from_secs(86_400);
/// Less room than this is low …
pub const DISK_LOW_BYTES: u64 = 256 << 20;
/// … until there is as much as this again.
const DISK_ENOUGH_BYTES: u64 = 384 << 20;

/// No usable poll of a vital feed for max(`longer_than`, 3 effective intervals). Over when both have been read again: neither a
/// restart nor a longer interval ends it.
pub fn blind(longer_than: Duration, ground: &Ground<'_>) -> Judgement {
    let feeds =
        || VITAL.iter().filter_map(|feed| ground.snapshot.feeds.get(feed).map(|health| (*feed, health)));
    let Some(deadline) = feeds().map(|(_, health)| blind_from(health, longer_than)).min() else {
        return Verdict::Unknown(Feed::Balance).into();
    };
    let read = |health: &FeedHealth| {
        health.failures_in_row == 0 && health.last_usable.is_some_and(|last| last >= health.watched_since)
    };
    let verdict = match feeds().find(|(_, health)| !read(health)) {
        _ if ground.now > deadline => Verdict::Met,
        Some((feed, _)) => Verdict::Unknown(feed),
        None => Verdict::NotMet,
    };
    Judgement::from(verdict).at(deadline.plus(Duration::from_millis(1)))
}

/// When a feed counts as late if nothing comes before.
pub fn blind_from(health: &FeedHealth, longer_than: Duration) -> Time {
    let last = health.last_usable.map_or(health.watched_since, |last| last.max(health.watched_since));
    last.plus(longer_than.max(health.interval.saturating_mul(3)))
}

pub fn key_rejected(ground: &Ground<'_>) -> Judgement {
    Judgement::met_if(ground.snapshot.key_rejected_since.is_some())
}

pub fn config_invalid(ground: &Ground<'_>) -> Judgement {
    Judgement::met_if(ground.snapshot.config_error.is_some())
}

/// A receiver that has not taken what was tried for five minutes, or whose last notice of the last day is a dead letter.
pub fn delivery_failing(ground: &Ground<'_>) -> Judgement {
    let troubles = || ground.snapshot.deliveries.values();
    let later = troubles().map(failing_from).filter(|at| *at >= ground.now).min();
    let judgement = Judgement::met_if(troubles().any(|trouble| is_failing(trouble, ground.now)));
    // A further one that begins to fail is told too. Not one that refuses: what tells of it may be refused again.
    let waiting = troubles().filter(|trouble| !trouble.dead && is_failing(trouble, ground.now));
    let news = waiting.map(|trouble| failing_from(trouble).plus(Duration::from_millis(1))).max();
    let judgement = Judgement { news, ..judgement };
    later.map_or(judgement, |at| judgement.at(at.plus(Duration::from_millis(1))))
}

pub fn is_failing(trouble: &Trouble, now: Time) -> bool {
    now > failing_from(trouble) && !(trouble.dead && now.since(trouble.since) > DEAD_FOR)
}

fn failing_from(trouble: &Trouble) -> Time {
    if trouble.dead { trouble.since } else { trouble.since.plus(FAILING_AFTER) }
}

/// An end that was requested ten minutes ago, and that no read confirms yet.
pub fn not_confirmed(ground: &Ground<'_>) -> Judgement {
    let deadlines = || ground.actions.iter().filter_map(Action::to_confirm_by);
    let judgement = Judgement::met_if(deadlines().any(|at| at <= ground.now));
    // A further one is told too.
    let judgement = Judgement { news: deadlines().filter(|at| *at <= ground.now).max(), ..judgement };
    deadlines().filter(|at| *at > ground.now).min().map_or(judgement, |at| judgement.at(at))
}

pub fn disk_low(ground: &Ground<'_>) -> Judgement {
    let Some(free) = ground.snapshot.disk_free_bytes else { return Verdict::NotMet.into() };
    Judgement { keeps: free < DISK_ENOUGH_BYTES, ..Judgement::met_if(free < DISK_LOW_BYTES) }
}
