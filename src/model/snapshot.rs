//! All the engine may know at one instant: the latest of everything, with its age and how it came to be known.
//!
//! It must never hold a hint that something changed, only what is: the engine decides from state. Unchanged records are
//! shared (`Arc`), so a copy for readers costs pointers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    ActReceipt, ActionId, Activity, Arming, Cancel, Deployment, DeploymentId, EventId, FailureKind, Feed,
    Keep, Offer, Outcome, Restored, Silence, SourceActivity, TeamId, Time, Trouble, Usd, Volume, VolumeId,
    VolumeStatus,
};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub feeds: BTreeMap<Feed, FeedHealth>,
    pub teams: BTreeMap<TeamId, Arc<TrackedTeam>>,
    pub deployments: BTreeMap<DeploymentId, Arc<Tracked>>,
    pub volumes: BTreeMap<VolumeId, Arc<TrackedVolume>>,
    /// The last whole offers list.
    pub offers: Arc<Vec<Offer>>,
    /// Teams whose fleet shrank by half or more between two complete polls, until every vanished deployment is explained.
    pub shrunk: BTreeMap<TeamId, Shrunk>,
    /// Teams whose own list the last poll could not read: what we know of their fleet is old. Not persisted.
    pub unread: BTreeSet<TeamId>,
    /// What the last complete list that should hold it lacked, and no list has shown since: its own GET may find it, and then the two
    /// disagree (FAULTS 8). Not persisted.
    pub unlisted: BTreeSet<DeploymentId>,
    /// Since when the API answers 401; `None` once any call was authorised.
    pub key_rejected_since: Option<Time>,
    /// The API's clock minus ours at the last answer that said.
    pub skew_ms: Option<i64>,
    /// Whether the inventory has shown that the unscoped list covers every team's own.
    pub unscoped_covers: bool,
    /// When this account was first observed by this database.
    pub first_observed: Option<Time>,
    /// What each activity source says of each deployment. Not persisted: evidence starts anew with the process.
    pub activity: BTreeMap<DeploymentId, BTreeMap<Arc<str>, SourceActivity>>,
    pub silences: BTreeMap<Arc<str>, Arc<Silence>>,
    /// Changes of each team's balance in the last days, oldest first; rebuilt from the series at start.
    pub balance_history: BTreeMap<TeamId, Arc<Vec<(Time, Usd)>>>,
    /// The daemon's own state: a configuration that could not be loaded.
    pub config_error: Option<Arc<str>>,
    /// Configured receivers that do not get what they should, as the outbox says.
    pub deliveries: BTreeMap<Arc<str>, Trouble>,
    /// Room on the file system of the database, in bytes; `None`: not measured.
    pub disk_free_bytes: Option<u64>,
    pub keeps: BTreeMap<Arc<str>, Arc<Keep>>,
    /// By policy.
    pub armings: BTreeMap<Arc<str>, Arc<Arming>>,
    /// Who took which announcement of a policy, and when, the log included; for the open actions at least.
    pub told: BTreeMap<EventId, BTreeMap<Arc<str>, Time>>,
    /// When each receiver last took anything.
    pub confirmed: BTreeMap<Arc<str>, Time>,
    /// What came of the last act of each open action.
    pub receipts: BTreeMap<ActionId, Arc<ActReceipt>>,
    /// Deployments that lists show and that could not be read once: what they are and cost is unknown. Not persisted.
    pub unknown: BTreeMap<DeploymentId, Unknown>,
    /// Actions that a person wants stopped.
    pub cancels: BTreeMap<ActionId, Cancel>,
    /// The database is older than what was ordered; up to the first step after the start. Not persisted.
    pub restored: Option<Arc<Restored>>,
}

/// Why a deployment that is listed is not known, since when, and which feed lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub why: Arc<str>,
    pub since: Time,
    pub feed: Feed,
}

/// How a feed is doing. `interval` is the effective one, as the governor stretches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedHealth {
    pub interval: Duration,
    /// The configured one, where too few calls are granted for it.
    #[serde(default)]
    pub stretched_from: Option<Duration>,
    /// When this process began to watch it: before it the feed cannot be late.
    pub watched_since: Time,
    pub last_attempt: Option<Time>,
    pub last_outcome: Option<Outcome>,
    pub last_complete: Option<Time>,
    /// The last poll that left out nothing but what is forbidden to us or was a bad record: we were not blind then.
    pub last_usable: Option<Time>,
    /// The last poll in which every scope was whole, but for what is forbidden to us: nothing may be ended on less.
    #[serde(default)]
    pub last_whole: Option<Time>,
    pub failures_in_row: u32,
    /// Why the last attempt was not complete, for people.
    pub trouble: Option<Arc<str>>,
    pub failure: Option<FailureKind>,
}

impl FeedHealth {
    pub fn new(interval: Duration, now: Time) -> Self {
        Self {
            interval,
            stretched_from: None,
            watched_since: now,
            last_attempt: None,
            last_outcome: None,
            last_complete: None,
            last_usable: None,
            last_whole: None,
            failures_in_row: 0,
            trouble: None,
            failure: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedTeam {
    pub id: TeamId,
    pub name: Arc<str>,
    pub role: Arc<str>,
    /// The last balance that could be read; never 0 for "unknown".
    pub balance: Option<Usd>,
    /// The poll that read it.
    pub balance_at: Option<Time>,
    /// The balance before the last change, and when that change was seen.
    pub previous: Option<(Usd, Time)>,
    /// Since when a watched team is missing from complete answers, or its balance unreadable.
    pub unknown_since: Option<Time>,
    /// Why its lists are not ours to read (403), if so.
    pub denied: Option<Arc<str>>,
}

/// Whether the lists still show a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "at")]
pub enum Presence {
    /// In the last complete list that should hold it.
    Listed,
    /// A complete list lacked it; its own GET decides. Says since when, and how many 404s came since.
    Missing { since: Time, not_found: u8 },
    /// 404 on two polls, or an ended status of its own: concluded.
    Gone(Time),
}

/// A deployment and what we know of how we know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracked {
    pub deployment: Deployment,
    pub first_seen: Time,
    pub presence: Presence,
    /// When the present status was first observed.
    pub status_since: Time,
    /// The status before it, where the transition lies between two of our own observations.
    pub status_before: Option<super::Status>,
    /// The hourly rate before its last change while it billed, and when we saw that change.
    pub rate_before: Option<(Usd, Time)>,
    /// A later answer about it could not be read (one bad record), or lacked it and may not be whole: since when.
    pub unreadable_since: Option<Time>,
}

impl Tracked {
    /// Present and billing, as far as we know.
    pub fn is_live(&self) -> bool {
        match self.presence {
            Presence::Listed | Presence::Missing { .. } => self.deployment.bills(),
            Presence::Gone(_) => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedVolume {
    pub volume: Volume,
    pub first_seen: Time,
    /// When a complete list first lacked it.
    pub gone_at: Option<Time>,
}

impl TrackedVolume {
    /// Attached or not, it bills until it is deleted.
    pub fn bills(&self) -> bool {
        self.gone_at.is_none() && self.volume.status != VolumeStatus::Deleted
    }
}

/// Half or more of a team's running deployments, and at least two, vanished from one complete poll to the next (FAULTS 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shrunk {
    pub at: Time,
    pub running_before: u32,
    pub vanished: Vec<DeploymentId>,
}

/// What an observation changed: one row each in the store's change-only series. The value is the whole new state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Team(Arc<TrackedTeam>),
    Deployment(Arc<Tracked>),
    Volume(Arc<TrackedVolume>),
    /// The whole list of offers, when it differs from the last.
    Offers(Arc<Vec<Offer>>),
    /// `None` in place of a silence that was removed.
    Silence(Arc<str>, Option<Arc<Silence>>),
    /// The small rest of the snapshot (`shrunk`, `key_rejected_since`, `unscoped_covers`, `first_observed`).
    Account(Account),
}

/// The persisted small rest of the snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub shrunk: BTreeMap<TeamId, Shrunk>,
    pub key_rejected_since: Option<Time>,
    pub unscoped_covers: bool,
    pub first_observed: Option<Time>,
}

/// How far back a balance's changes are kept, and how many at most.
pub const HISTORY: Duration = Duration::from_secs(72 * 3_600);
const HISTORY_POINTS_MAX: usize = 512;

/// Adds a balance to its history, if it is another one than the last.
pub fn push_balance(history: &mut Vec<(Time, Usd)>, at: Time, balance: Usd) {
    if history.last().is_some_and(|(_, last)| *last == balance) {
        return;
    }
    history.push((at, balance));
    let stale = history.partition_point(|(then, _)| at.since(*then) > HISTORY);
    let surplus = history.len().saturating_sub(HISTORY_POINTS_MAX);
    history.drain(..stale.max(surplus));
}

impl Snapshot {
    pub fn account(&self) -> Account {
        Account {
            shrunk: self.shrunk.clone(),
            key_rejected_since: self.key_rejected_since,
            unscoped_covers: self.unscoped_covers,
            first_observed: self.first_observed,
        }
    }

    /// Whether anybody has read what runs, now or in an earlier life: until then a burn of 0 is not known, just not seen.
    pub fn fleet_known(&self) -> bool {
        let read = |feed: &Feed| self.feeds.get(feed).is_some_and(|health| health.last_usable.is_some());
        !self.deployments.is_empty() || read(&Feed::Deployments) || read(&Feed::Inventory)
    }

    /// Whether the deployment works, as far as anybody measures it.
    pub fn activity_of(&self, id: &DeploymentId, now: Time) -> Activity {
        Activity::of(self.activity.get(id).into_iter().flat_map(BTreeMap::values), now)
    }

    /// What bills now in a team, per hour: deployments and volumes. See [`Self::fleet_known`].
    pub fn burn_per_hour(&self, team: &TeamId) -> Usd {
        let deployments = self.deployments.values().filter(|t| &t.deployment.team == team && t.is_live());
        let volumes = self.volumes.values().filter(|v| &v.volume.team == team && v.bills());
        let deployments: Usd = deployments.map(|t| t.deployment.hourly_rate).sum();
        deployments.saturating_add(volumes.map(|v| v.volume.hourly_rate).sum())
    }

    /// Deployments that a complete list lacks and whose own GET must decide, the longest missing first: all get their turn.
    pub fn vanished(&self) -> Vec<&DeploymentId> {
        let missing = |(id, tracked): (_, &Arc<Tracked>)| match tracked.presence {
            Presence::Missing { since, .. } => Some((since, id)),
            Presence::Listed | Presence::Gone(_) => None,
        };
        let mut missing: Vec<(Time, &DeploymentId)> = self.deployments.iter().filter_map(missing).collect();
        missing.sort_unstable();
        missing.into_iter().map(|(_, id)| id).collect()
    }
}
