//! When a receiver that takes nothing is left alone for a while: three notices in a row that it did not take open the circuit,
//! then one at a time is tried, ever less often, until one is taken.
//!
//! It must never hold back what a receiver would take: one notice that it will not have does not open the circuit.

use std::time::Duration;

use crate::model::Delivery;

/// So many different notices in a row.
const OPENS_AT: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const PAUSE_MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub struct Circuit {
    /// How many notices in a row were not taken, the same one again not counted.
    failed: u32,
    last: Option<i64>,
}

impl Circuit {
    pub fn note(&mut self, seq: i64, delivery: &Delivery) {
        match delivery {
            // The other side answered: it lives.
            Delivery::Delivered { .. }
            | Delivery::Rejected { .. }
            | Delivery::Retry { after: Some(_), .. } => {
                *self = Self::default();
            }
            Delivery::Retry { after: None, .. } => {
                if self.failed == 0 || self.is_open() || self.last != Some(seq) {
                    self.failed = self.failed.saturating_add(1);
                }
                self.last = Some(seq);
            }
        }
    }

    pub fn is_open(&self) -> bool {
        self.failed >= OPENS_AT
    }

    /// How long to leave the receiver alone before the next notice is tried; zero while the circuit is closed.
    pub fn pause(&self) -> Duration {
        let Some(beyond) = self.failed.checked_sub(OPENS_AT) else { return Duration::ZERO };
        FIRST_PAUSE.saturating_mul(1 << beyond.min(16)).min(PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Delivery {
        Delivery::Retry { why: "no answer".into(), after: None }
    }

    #[test]
    fn three_different_notices_open_it_and_every_further_failure_lengthens_the_pause() {
        let mut circuit = Circuit::default();
        let mut pauses = Vec::new();
        for seq in [1, 2, 3, 4, 4, 5, 6, 7] {
            circuit.note(seq, &failed());
            pauses.push(circuit.pause().as_secs());
        }
        assert_eq!(pauses, [0, 0, 30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn one_notice_that_it_will_not_have_never_opens_it() {
        let mut circuit = Circuit::default();
        for _ in 0..9 {
            circuit.note(1, &failed());
        }
        assert!(!circuit.is_open());
    }

    #[test]
    fn any_answer_closes_it() {
        let answers = [
            Delivery::Delivered { detail: "200".into() },
            Delivery::Rejected { why: "400".into(), disable: false },
            Delivery::Retry { why: "429".into(), after: Some(Duration::from_secs(9)) },
        ];
        for answer in answers {
            let mut circuit = Circuit::default();
            (0..5).for_each(|seq| circuit.note(seq, &failed()));
            circuit.note(9, &answer);
            assert_eq!((circuit.is_open(), circuit.pause()), (false, Duration::ZERO), "{answer:?}");
        }
    }
}
