//! Whether what an alert rests on was seen without a gap: a condition that nobody watched has not lasted.
//!
//! It must never take a poll that came late for one that was missed: 2.5 effective intervals are borne (FAULTS 50).

use std::collections::BTreeMap;

use super::alert::Evidence;
use crate::model::{Feed, FeedHealth, RuleKind, Snapshot, Time};

/// The last usable poll of each feed as the engine saw it, and when a feed came back after a gap.
#[derive(Debug, Clone, Default)]
pub struct Polls {
    seen: BTreeMap<Feed, Time>,
    resumed: BTreeMap<Feed, Time>,
}

impl Polls {
    /// `seen`: the last usable polls before this process began.
    pub fn new(seen: BTreeMap<Feed, Time>) -> Self {
        Self { seen, resumed: BTreeMap::new() }
    }

    pub fn look(&mut self, snapshot: &Snapshot) {
        for (feed, health) in &snapshot.feeds {
            let Some(last) = health.last_usable else { continue };
            let gap = self.seen.insert(*feed, last).is_some_and(|before| is_gap(health, before, last));
            // A clock that was ahead and was set right: a gap never ended later than the last poll (FAULTS 44).
            if gap || self.resumed.get(feed).is_some_and(|at| *at > last) {
                self.resumed.insert(*feed, last);
            }
        }
    }

    pub fn of(&self, kind: &RuleKind, snapshot: &Snapshot, now: Time) -> Evidence {
        let Some(feed) = feed_of(kind) else { return Evidence::Steady };
        if let (Some(health), Some(seen)) = (snapshot.feeds.get(&feed), self.seen.get(&feed))
            && is_gap(health, *seen, now)
        {
            return Evidence::Stale(feed);
        }
        self.resumed.get(&feed).map_or(Evidence::Steady, |at| Evidence::Resumed(*at))
    }
}

fn is_gap(health: &FeedHealth, from: Time, until: Time) -> bool {
    until.since(from) > health.interval.saturating_mul(5) / 2
}

/// The feed without which nothing can be said of a rule; `None`: it is about the watcher itself.
pub fn feed_of(kind: &RuleKind) -> Option<Feed> {
    match kind {
        RuleKind::Balance { .. }
        | RuleKind::BalanceUnknown
        | RuleKind::Runway { .. }
        | RuleKind::UnexplainedSpend { .. }
        | RuleKind::BalanceJump => Some(Feed::Balance),
        RuleKind::RunningLong { .. }
        | RuleKind::SpotInterrupted
        | RuleKind::ProviderStopped
        | RuleKind::FleetShrunk
        | RuleKind::BurnRate { .. }
        | RuleKind::Budget { .. }
        | RuleKind::Idle { .. }
        | RuleKind::Failed
        | RuleKind::Stuck { .. }
        | RuleKind::NewDeployment
        | RuleKind::RateChanged
        | RuleKind::Overpaying { .. } => Some(Feed::Deployments),
        RuleKind::UnattachedVolume { .. } | RuleKind::VolumeFull { .. } => Some(Feed::Volumes),
        RuleKind::Blind { .. }
        | RuleKind::KeyRejected
        | RuleKind::ConfigInvalid
        | RuleKind::NotConfirmed
        | RuleKind::DeliveryFailing
        | RuleKind::DiskLow => None,
    }
}
