//! The receivers of a simulation: each takes what is due, or fails as often as its scenario says.
//!
//! It must never take a row that was not committed.

use std::sync::Arc;

use sha2::Digest as _;

use super::{Sent, Simulation, SimulationError, receipt};
use crate::model::{Delivery, Notice};

impl Simulation {
    pub(super) fn look_for_rows(&mut self) -> Result<(), SimulationError> {
        for (receiver, due) in &mut self.receivers {
            *due = self.db.next_due(receiver)?;
        }
        Ok(())
    }

    pub(super) fn pump(&mut self) -> Result<(), SimulationError> {
        let (now, truly) = (self.now(), self.truly());
        let names: Vec<Arc<str>> = self.receivers.keys().cloned().collect();
        for receiver in names {
            while let Some(row) = self.db.claim(&receiver, now)? {
                let fails = self.down.iter().any(|(from, until)| (*from..*until).contains(&truly))
                    || self.rng.u8(0..100) < self.fails_percent;
                let delivery = if fails {
                    Delivery::Retry { why: "simulated".into(), after: None }
                } else {
                    self.trace.update(format!("{now} {receiver} {}", row.notice.id));
                    let members = &row.notice.together.members;
                    let told = if members.is_empty() { std::slice::from_ref(&row.notice) } else { members };
                    let loses = |notice: &&Notice| self.loses.is_some_and(|loses| loses(notice));
                    let sent = |notice: &Notice| Sent {
                        at: truly,
                        receiver: receiver.clone(),
                        notice: notice.clone(),
                    };
                    self.sent.extend(told.iter().filter(|notice| !loses(notice)).map(sent));
                    Delivery::Delivered { detail: "simulated".into() }
                };
                let entered = receipt(&row, delivery, now, self.rng.f64(), self.core.money_ends());
                self.db.settle(row.seq, &entered.receipt, now)?;
            }
        }
        self.look_for_rows()
    }
}
