//! Evidence that a GPU works: measured busy, measured idle, or unknown. Unknown counts as busy.
//!
//! It must never take the absence of evidence for idleness (FAULTS 72).

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{DeploymentId, Time};

/// What one source said of one deployment at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivitySample {
    pub deployment: DeploymentId,
    /// The `[[activity]]` entry's name.
    pub source: Arc<str>,
    pub at: Time,
    /// How often this source speaks; a gap beyond 2.5 of it restarts the window.
    pub every: Duration,
    pub reading: Reading,
    /// The busiest GPU, in thousandths, where it was measured.
    pub utilization_permille: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    Busy,
    Idle,
    /// Why it could not be told, for people.
    Unknown(Arc<str>),
}

/// One source's unbroken word on one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceActivity {
    pub last: Time,
    pub every: Duration,
    pub reading: Reading,
    /// Since when this source has said idle at every poll without a gap; `None` while it says otherwise.
    pub idle_since: Option<Time>,
    pub utilization_permille: Option<u16>,
}
