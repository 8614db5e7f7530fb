//! `teams`: each team's balance, burn, and when its money ends.
//!
//! It must never take an unknown balance for 0.

use serde::{Deserialize, Serialize};

use super::{At, Look, Money, Page, query::Slice};
use crate::model::TrackedTeam;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Team {
    pub id: String,
    pub name: String,
    pub role: String,
    pub balance: Option<Money>,
    pub balance_at: Option<At>,
    /// Since when the balance cannot be read.
    pub unknown_since: Option<At>,
    /// Why the team's own lists cannot be read.
    pub denied: Option<String>,
    /// What bills now; `null` before anybody has read what runs.
    pub burn_per_hour: Option<Money>,
    /// How the balance falls.
    pub burn_observed_per_hour: Option<Money>,
    /// At the faster of both; `null`: unknown, or nothing is spent.
    pub runs_out_at: Option<At>,
}

pub fn list(look: Look<'_>, slice: Slice) -> Page<Team> {
    let all = look.view.snapshot.teams.values().collect();
    Page::new(look, slice, all, |tracked| team(look, tracked))
}

pub fn team(look: Look<'_>, team: &TrackedTeam) -> Team {
    let snapshot = &look.view.snapshot;
    let burn = snapshot.fleet_known().then(|| snapshot.burn_per_hour(&team.id));
    let balance = team.balance.filter(|_| team.unknown_since.is_none());
    let forecast = look.view.forecasts.get(&team.id);
    let end = forecast.and_then(|forecast| forecast.end()).or_else(|| {
        // Without a forecast, as from a database: the last balance at what bills.
        Some(team.balance_at?.plus(balance?.lasts_at(burn?)?))
    });
    // Volumes alone would make it look far away.
    let end = end.filter(|_| burn.is_some());
    Team {
        id: team.id.to_string(),
        name: team.name.to_string(),
        role: team.role.to_string(),
        balance: balance.map(Money),
        balance_at: team.balance_at.map(At),
        unknown_since: team.unknown_since.map(At),
        denied: team.denied.as_deref().map(str::to_owned),
        burn_per_hour: burn.map(Money),
        burn_observed_per_hour: forecast.and_then(|forecast| forecast.observed).map(Money),
        runs_out_at: end.map(At),
    }
}
