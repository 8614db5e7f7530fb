//! What readers see: one immutable picture of the account, replaced after every commit.
//!
//! It must never be changed in place; readers hold an `Arc`.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Action, AlertKey, AlertState, Forecast, Policies, Rule, Severity, Snapshot, StageName, TeamId, Time, Usd,
};

#[derive(Debug, Clone, Default)]
pub struct View {
    pub at: Time,
    pub snapshot: Arc<Snapshot>,
    /// The rules in force.
    pub rules: Arc<Vec<Rule>>,
    /// The policies in force, with all that bears on them.
    pub policies: Arc<Policies>,
    /// Open, withheld and lately closed actions.
    pub actions: Arc<Vec<Action>>,
    /// By policy, also of one that is gone from the configuration.
    pub tallies: BTreeMap<Arc<str>, Tally>,
    /// Firing alerts with their severity.
    pub firing: BTreeMap<AlertKey, (AlertState, Severity)>,
    /// Those that may fire soon, or did lately.
    pub latent: BTreeMap<AlertKey, (AlertState, Severity)>,
    /// Events of the last minutes: when each was told, and its severity.
    pub events: BTreeMap<AlertKey, (Time, Severity)>,
    pub forecasts: BTreeMap<TeamId, Forecast>,
    pub budgets: Vec<BudgetView>,
    /// Every configured receiver, in order, and the log.
    pub receivers: Arc<Vec<Arc<str>>>,
    pub outbox: BTreeMap<Arc<str>, OutboxDepth>,
    /// When the outbox was last counted.
    pub outbox_at: Time,
    /// Counts up with every new view, so that a rendering can be cached.
    pub generation: u64,
    pub database_bytes: u64,
    pub config_reload_ok: bool,
}

/// What became of a policy's actions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many actions came to each stage, since this process began.
    pub steps: BTreeMap<StageName, u64>,
    pub ends: Ends,
}

/// Deployments that a policy ended, of all that the database remembers, and what they would have cost since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    pub count: u64,
    pub saved: Usd,
    /// Of those alone of which nothing more counts: this never falls.
    pub saved_for_good: Usd,
}

/// A budget rule's present period, of one team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetView {
    pub rule: Arc<str>,
    pub team: TeamId,
    pub limit: Usd,
    pub spent: Usd,
}

/// How much waits for a receiver, and how it fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxDepth {
    pub waiting: u64,
    pub oldest: Option<Time>,
    /// `None`: it took the last notice, or was never sent one.
    pub trouble: Option<Trouble>,
}

/// Why a receiver does not get what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Since when something waits that was tried and not taken; or when the last notice became a dead letter.
    pub since: Time,
    /// The last notice is a dead letter: nothing is tried again.
    pub dead: bool,
    /// What came of the last attempt, for people; holds no secret.
    pub why: Arc<str>,
}
