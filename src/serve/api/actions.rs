//! `actions`: each decision to end a deployment, where it stands, what is next and how to stop it; of one also every step it took.
//!
//! It must never say that something is gone before reads have shown it.

use serde::{Deserialize, Serialize};

use super::{At, Money, Named, Next, Source};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub id: String,
    pub policy: String,
    /// As it was announced.
    pub deployment: Named,
    pub team: Named,
    pub price_per_hour: Money,
    /// `withheld`, `marked`, `announced`, `final read`, `can-terminate`, `committing`, `requested`, `verifying`, `in doubt`,
    /// `gone`, `refused`, `expired` or `cancelled`.
    pub state: String,
    pub marked: At,
    /// Not ended before, once it is announced.
    pub not_before: Option<At>,
    pub closed: Option<At>,
    pub next: Option<Next>,
    /// A person can still stop it.
    pub stoppable: bool,
    /// Why it is too late to stop it, and what happens now; `null` while it can be stopped.
    pub too_late: Option<String>,
    /// What it would have cost since it is gone; `null` unless it is.
    pub saved: Option<Money>,
}

/// `actions/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionHistory {
    pub schema: u32,
    pub at: At,
    pub source: Source,
    pub action: Action,
    /// Oldest first, as the append-only table has them.
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub at: At,
    /// `null`: it began.
    pub from: Option<String>,
    pub to: String,
    pub reason: String,
}
