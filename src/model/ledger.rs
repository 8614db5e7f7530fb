//! What things cost: lines of accrual per subject, and the hourly amounts that the rollups add up.
//!
//! It must never hold a float, nor count a moment twice: a line is accounted up to one instant, and goes on from there.

use serde::{Deserialize, Serialize};

use super::{Subject, TeamId, Time, Usd};

/// One subject's account, from its start on. Rows of the engine's state, written when they changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub team: TeamId,
    /// When it began to bill.
    pub from: Time,
    /// Accounted up to here.
    pub until: Time,
    /// Per hour, since `until`.
    pub rate: Usd,
    /// Everything charged to the rollups so far.
    pub charged: Usd,
    /// The part of it that was not observed and that no `totalCost` has confirmed yet.
    pub estimated: Usd,
    /// The API's last `totalCost`, and when we first saw it; a volume has none.
    pub reported: Option<(Usd, Time)>,
    /// Nothing more will come.
    pub ended: bool,
}

/// An amount to add to the rollups: one subject, one hour of UTC. Negative amounts are corrections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub subject: Subject,
    pub team: TeamId,
    /// The beginning of the hour.
    pub hour: Time,
    pub amount: Usd,
    /// Of the amount, what is estimated (negative when an estimate is replaced by what was told).
    pub estimated: Usd,
    pub why: ChargeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeKind {
    /// Rate × time.
    Accrued,
    /// `totalCost` said more or less than rate × time.
    Trued,
    /// `totalCost` fell (FAULTS 22).
    Correction,
}
