//! The steps of a simulation, and what they decide to have performed, as the live loop does both.
//!
//! It must never perform what was not committed, nor anything twice.

use std::time::Duration;

use sha2::Digest as _;

use super::{HELD_RETRY, Simulation, SimulationError, ready};
use crate::{
    drive::act::perform,
    model::{Act, ActReceipt, StepRecord},
};

/// Where a process dies over an act.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Death {
    /// Decided and committed, and not performed.
    Before,
    /// Performed, and nobody heard what came of it.
    After,
    /// Heard, and what was decided on it is not committed.
    Deciding,
}

impl Simulation {
    /// Decides until nothing more is to be performed and nobody has heard anything new.
    pub(super) fn step(&mut self) -> Result<(), SimulationError> {
        loop {
            let heard = self.decide()?;
            let mut acts = self.core.take_acts();
            if let Some(meddle) = &mut self.meddle {
                meddle(&mut acts);
            }
            if acts.is_empty() && !heard {
                return Ok(());
            }
            for act in acts {
                let death = self.death();
                if death == Some(Death::Before) {
                    return self.restart(self.truly().plus(HELD_RETRY));
                }
                let slept = self.sleep_before_an_act();
                let mut receipt = self.perform(&act)?;
                if death == Some(Death::After) {
                    return self.restart(self.truly().plus(HELD_RETRY));
                }
                if let Some(mishear) = &mut self.mishear {
                    mishear(&mut receipt);
                }
                self.core.receive(receipt);
                if slept {
                    self.wake_up();
                }
                if death == Some(Death::Deciding) {
                    drop(self.core.step(self.now()));
                    return self.restart(self.truly().plus(HELD_RETRY));
                }
            }
        }
    }

    fn death(&mut self) -> Option<Death> {
        let dies = self.dies_percent > 0 && self.rng.u8(0..100) < self.dies_percent;
        dies.then(|| self.rng.choice([Death::Before, Death::After, Death::Deciding])).flatten()
    }

    fn sleep_before_an_act(&mut self) -> bool {
        let sleeps = self.sleeps_percent > 0 && self.rng.u8(0..100) < self.sleeps_percent;
        if sleeps {
            self.network.pass(Duration::from_secs(self.rng.u64(20..7_200)));
        }
        sleeps
    }

    fn perform(&mut self, act: &Act) -> Result<ActReceipt, SimulationError> {
        let Self { client, db, network, intents, .. } = self;
        let commit = |intent| {
            let committed = db.commit_intent(&intent, network.now());
            let committed = committed.unwrap_or_else(|error| Err(error.to_string().into()));
            if committed.is_ok() {
                intents.push((network.truly(), intent));
            }
            std::future::ready(committed)
        };
        ready(perform(client, act, commit))
    }

    /// One step, its commit, and what is due to be sent. Whether a notice of a policy was taken.
    fn decide(&mut self) -> Result<bool, SimulationError> {
        if !self.policies.policies.is_empty() {
            self.core.hear(self.db.heard()?);
        }
        let mut record = self.core.step(self.now());
        if let Some(tamper) = &mut self.tamper {
            tamper(&mut record);
        }
        if !record.is_empty() {
            for poll in &record.polls {
                let line = (poll.at.millis(), poll.feed, poll.items, poll.failure.is_some());
                self.trace.update(format!("{line:?}"));
            }
            if !record.is_quiet() {
                let decided = StepRecord { polls: Vec::new(), ..record.clone() };
                self.trace.update(format!("{decided:?}"));
            }
            self.db.commit(&record)?;
        }
        if !record.notices.is_empty() {
            self.look_for_rows()?;
        }
        let now = self.now();
        let sent = self.sent.len();
        if self.receivers.values().flatten().any(|due| *due <= now) {
            self.pump()?;
        }
        Ok(self.sent.iter().skip(sent).any(|sent| &*sent.notice.kind == "policy"))
    }
}
