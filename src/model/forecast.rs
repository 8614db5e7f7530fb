//! How long a team's money lasts, by what bills now and by how the balance moved.
//!
//! It must never claim to know what it does not: an unknown burn is `None`, not 0.

use super::{Time, Usd};

/// One team's outlook at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forecast {
    /// Σ live hourly rates, volumes included.
    pub committed: Usd,
    /// Robust slope of the balance between top-ups, per hour; `None`: not enough history yet.
    pub observed: Option<Usd>,
    /// When the balance ends at the committed burn; `None` when nothing is spent or the balance is unknown.
    pub committed_end: Option<Time>,
    /// When it ends at the observed burn.
    pub observed_end: Option<Time>,
    /// Of the balance, what is used and not debited yet.
    pub undebited: Usd,
    /// The committed burn and the sooner end without what the last list lacks and nobody has asked for yet: what begins to
    /// fire rests on these, what ends on all.
    pub certain: Usd,
    pub certain_end: Option<Time>,
    /// Spent so far in the calendar day, week and month of the configured zone.
    pub day: Spend,
    pub week: Spend,
    pub month: Spend,
    /// Reconciliation: what left the balance in the last 24 h without a charge that explains it; negative: charged, not debited.
    pub unexplained_day: Option<Usd>,
    /// What the last comparison of balance and costs came to.
    pub finding: Option<Finding>,
    /// Totals since the beginning of the record, for counters.
    pub unexplained_total: Usd,
    pub topups_total: Usd,
    /// Cost since the beginning of the record, up to now.
    pub deployments_total: Usd,
    pub volumes_total: Usd,
}

/// What holding the drop of a balance against the account's own costs came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    Matched,
    /// They differ by at least this, but not for long enough yet.
    Doubtful(Usd),
    /// Left the balance, and nothing says for what.
    Unexplained(Usd),
    /// Told as cost, and never debited.
    MissingCharge(Usd),
    /// They match, but some `totalCost` runs at another pace than its `hourlyRate` (an add-on, a changed price).
    RateChanged,
    TopUp(Usd),
}

/// One calendar period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spend {
    pub from: Time,
    pub until: Time,
    pub spent: Usd,
    /// Spent plus the rest of the period at the committed burn.
    pub forecast: Usd,
}

impl Forecast {
    /// The sooner of the two ends; an unknown one is ignored.
    pub fn end(&self) -> Option<Time> {
        match (self.committed_end, self.observed_end) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (Some(end), None) | (None, Some(end)) => Some(end),
            (None, None) => None,
        }
    }
}
