//! What readers see: one immutable picture of the account, replaced after every commit.
//!
//! It must never be changed in place; readers hold an `Arc`.

use std::{collections::BTreeMap, sync::Arc};

use super::{AlertKey, AlertState, Forecast, Severity, Snapshot, TeamId, Time};

#[derive(Debug, Clone, Default)]
pub struct View {
    pub at: Time,
    pub snapshot: Arc<Snapshot>,
    /// Firing alerts with their severity.
    pub firing: BTreeMap<AlertKey, (AlertState, Severity)>,
    pub forecasts: BTreeMap<TeamId, Forecast>,
    pub outbox: BTreeMap<Arc<str>, OutboxDepth>,
    /// Counts up with every new view, so that a rendering can be cached.
    pub generation: u64,
    pub database_bytes: u64,
    pub config_reload_ok: bool,
}

/// How much waits for a receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboxDepth {
    pub waiting: u64,
    pub oldest: Option<Time>,
}
