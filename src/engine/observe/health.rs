//! Enters how a feed is doing: when it was last usable, complete and whole, and why not.
//!
//! It must never call a poll whole in which anything was missing but what is forbidden to us.

use std::time::Duration;

use crate::model::{Facts, Failure, FailureKind, FeedHealth, Observation, Outcome, Scope, Snapshot};

pub fn enter(snapshot: &mut Snapshot, observation: &Observation) {
    let at = observation.at;
    let outcome = observation.outcome();
    let health = snapshot
        .feeds
        .entry(observation.feed)
        .or_insert_with(|| FeedHealth::new(Duration::from_secs(60), at));
    health.last_attempt = Some(at);
    health.last_outcome = Some(outcome);
    health.trouble = observation.trouble();
    health.failure = observation.failure().map(|failure| failure.kind);
    // A team that is forbidden to us, or a bad record, is its own trouble; the watcher still sees.
    let only_forbidden = |(_, result): &(Scope, Result<Facts, Failure>)| {
        result.as_ref().err().is_none_or(|failure| failure.kind == FailureKind::Forbidden)
    };
    let usable = match outcome {
        Outcome::Complete => true,
        Outcome::Partial => observation.scopes.iter().all(only_forbidden),
        Outcome::Failed => false,
    };
    if outcome == Outcome::Complete {
        health.last_complete = Some(at);
    }
    let whole_or_forbidden = |scope: &(Scope, Result<Facts, Failure>)| match &scope.1 {
        Ok(facts) => facts.is_whole(),
        Err(_) => only_forbidden(scope),
    };
    if outcome != Outcome::Failed && observation.scopes.iter().all(whole_or_forbidden) {
        health.last_whole = Some(at);
    } else if health.last_whole == Some(at) {
        // Two polls of one instant: the worse one counts.
        health.last_whole = None;
    }
    if usable {
        health.last_usable = Some(at);
        health.failures_in_row = 0;
    } else {
        health.failures_in_row = health.failures_in_row.saturating_add(1);
    }
}
