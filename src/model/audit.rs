//! What people ordered of policies, on record for good: who armed, disarmed, kept or stopped what, and when.
//!
//! It must never leave out who it was, nor be made for an order that had no effect.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ActionId, Arming, Keep, Target, Time};

/// One order that took effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    pub at: Time,
    pub by: Arc<str>,
    pub order: Order,
}

/// A row of the record: `seq` counts up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub seq: i64,
    pub audit: Audit,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Order {
    Armed {
        arming: Arc<Arming>,
    },
    /// With the arming that it ended.
    Disarmed {
        arming: Arc<Arming>,
    },
    Kept {
        keep: Arc<Keep>,
    },
    KeepEnded {
        keep: Arc<Keep>,
    },
    Cancelled {
        action: ActionId,
        policy: Arc<str>,
        target: Target,
    },
    /// Of the daemon itself: what was armed in an old copy is armed no more.
    Restored {
        restored: Arc<Restored>,
    },
}

/// The database was put back from a copy that is older than what was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// How many commits of orders and actions it lacks; `None`: the marker beside it is missing or of another database.
    pub lacks: Option<u64>,
    /// Policies that it holds for armed.
    pub armed: Vec<Arc<str>>,
}

impl Order {
    pub fn what(&self) -> &'static str {
        match self {
            Self::Armed { .. } => "armed",
            Self::Disarmed { .. } => "disarmed",
            Self::Kept { .. } => "kept",
            Self::KeepEnded { .. } => "keep_ended",
            Self::Cancelled { .. } => "cancelled",
            Self::Restored { .. } => "restored",
        }
    }

    /// A policy's name, a deployment's identity, an action's id, or the database.
    pub fn subject(&self) -> String {
        match self {
            Self::Armed { arming } | Self::Disarmed { arming } => arming.policy.to_string(),
            Self::Kept { keep } | Self::KeepEnded { keep } => keep.target.subject().to_string(),
            Self::Cancelled { action, .. } => action.to_string(),
            Self::Restored { .. } => "the database".to_owned(),
        }
    }
}
