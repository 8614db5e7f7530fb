//! Money: the ledger of what everything cost, the forecast of how long the balance lasts, and whether the two agree.
//!
//! It must never hold a float, nor count a moment twice.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use crate::model::{Charge, Forecast, Line, Snapshot, Subject, TeamId, Time};

/// What the engine remembers of money: one line per deployment identity and volume.
#[derive(Debug, Clone)]
pub struct Money {
    zone: TimeZone,
    lines: BTreeMap<Subject, Line>,
}

/// What one step books.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Booked {
    pub lines: Vec<(Subject, Option<Line>)>,
    pub charges: Vec<Charge>,
    pub forecasts: BTreeMap<TeamId, Forecast>,
}

impl Money {
    /// `zone`: where days, weeks and months begin.
    pub fn new(zone: TimeZone, lines: BTreeMap<Subject, Line>) -> Self {
        Self { zone, lines }
    }

    pub fn set_zone(&mut self, zone: TimeZone) {
        self.zone = zone;
    }

    /// Accounts everything up to `now`.
    pub fn step(&mut self, snapshot: &Snapshot, now: Time) -> Booked {
        let forecast = |id: &TeamId| {
            let committed = snapshot.burn_per_hour(id);
            let balance = snapshot.teams.get(id).and_then(|team| team.balance);
            let committed_end =
                balance.and_then(|balance| balance.lasts_at(committed)).map(|left| now.plus(left));
            Forecast { committed, committed_end, ..Forecast::default() }
        };
        Booked {
            forecasts: snapshot.teams.keys().map(|id| (id.clone(), forecast(id))).collect(),
            ..Booked::default()
        }
    }
}
