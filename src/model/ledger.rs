//! What things cost: lines of accrual per subject, one purse per team, and the hourly amounts that the rollups add up.
//!
//! It must never hold a float, nor count a moment twice: a line is accounted up to one instant, and goes on from there.

use std::collections::BTreeMap;

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
    /// Of a nano-dollar, what is accrued and not charged yet, in nano-dollars × milliseconds per hour: so that it rounds once.
    pub rest: i64,
    /// Everything charged to the rollups so far.
    pub charged: Usd,
    /// The part of it that was not observed and that no `totalCost` has confirmed yet, by hour.
    pub guesses: Vec<(Time, Usd)>,
    /// The API's last `totalCost`, and when we first saw it; a volume has none.
    pub reported: Option<(Usd, Time)>,
    /// By how much the last step of `totalCost` differed from rate × time, in thousandths of it (FAULTS 21).
    pub drift_permille: i32,
    /// Nothing more will come.
    pub ended: bool,
}

impl Line {
    pub fn estimated(&self) -> Usd {
        self.guesses.iter().map(|(_, amount)| *amount).sum()
    }
}

/// One team's money beside its balance. Rows of the engine's state, written when they changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purse {
    /// Since when the balance is watched; what was spent before is not in it.
    pub since: Option<Time>,
    /// Charged in the present calendar day, week and month, each with its beginning.
    pub day: (Time, Usd),
    pub week: (Time, Usd),
    pub month: (Time, Usd),
    /// Charged since the beginning of the record, the past of what we met included.
    pub deployments: Usd,
    pub volumes: Usd,
    /// What should have left the balance since `since`: the steps of `totalCost`, and what volumes accrued.
    pub told: Usd,
    /// What the balance would be if nothing had been debited since then.
    pub paid: Option<Usd>,
    /// What left the balance beyond what was told, at the last look that both agree to have been at one time.
    pub residual: Usd,
    /// Since when a residual is too large, and the least it has been since.
    pub doubt: Option<(Time, Usd)>,
    /// Unexplained amounts of the last 24 h, with the time of their naming; negative: charged and never debited.
    pub named: Vec<(Time, Usd)>,
    pub topups: Usd,
    pub unexplained: Usd,
}

/// What the engine remembers of money from one process to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    pub lines: BTreeMap<Subject, Line>,
    pub purses: BTreeMap<TeamId, Purse>,
    /// When deployments were last read: what bills after it was not observed.
    pub seen: Option<Time>,
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
    /// Rate × time, and the dust of rounding.
    Accrued,
    /// `totalCost` said more or less than rate × time.
    Trued,
    /// `totalCost` fell (FAULTS 22).
    Correction,
}

/// What costs are summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostBy {
    Team,
    /// Hours of UTC and team: what a report over another zone's days is made of.
    Hour,
    /// Days of UTC and team.
    Day,
    /// Deployments and volumes.
    Subject,
}

/// One sum of the rollups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    pub team: TeamId,
    /// By hour or day: its beginning.
    pub from: Option<Time>,
    /// By subject: the deployment or volume.
    pub subject: Option<Subject>,
    pub amount: Usd,
    /// Of the amount, what was not observed and no `totalCost` has confirmed.
    pub estimated: Usd,
}
