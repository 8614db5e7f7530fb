//! The circuit breaker: after repeated trouble nobody calls until a single probe has come through (FAULTS 14).
//!
//! It must never stay open for ever: each wait ends, and a probe that never reports back is replaced.

use std::time::Duration;

use crate::model::Time;

/// This many failures in a row, retries included, open the circuit.
const FAILURES_MAX: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Longer than any call lasts.
const PROBE_LOST_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    Closed { failures: u32 },
    Open { failures: u32, until: Time },
    Probing { failures: u32, lost_at: Time },
}

impl Circuit {
    /// When the next call may go, if not now.
    pub fn holds_until(&self, now: Time) -> Option<Time> {
        match *self {
            Self::Closed { .. } => None,
            Self::Open { until, .. } | Self::Probing { lost_at: until, .. } => (now < until).then_some(until),
        }
    }

    /// A call goes out.
    pub fn begin(&mut self, now: Time) {
        match *self {
            Self::Closed { .. } => {}
            Self::Open { failures, .. } | Self::Probing { failures, .. } => {
                *self = Self::Probing { failures, lost_at: now.plus(PROBE_LOST_AFTER) };
            }
        }
    }

    /// The API answered, whatever it said.
    pub fn close(&mut self) {
        *self = Self::Closed { failures: 0 };
    }

    /// A call failed. `jitter` is 0..1: a wait is stretched by up to a half, so that many clients don't come back at once.
    pub fn fail(&mut self, now: Time, jitter: f64) {
        let failures = match *self {
            Self::Closed { failures } if failures.saturating_add(1) < FAILURES_MAX => {
                *self = Self::Closed { failures: failures.saturating_add(1) };
                return;
            }
            Self::Closed { failures } | Self::Probing { failures, .. } => failures.saturating_add(1),
            // Sent before the circuit opened: it tells nothing new.
            Self::Open { .. } => return,
        };
        let doublings = failures.saturating_sub(FAILURES_MAX).min(10);
        let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
        *self = Self::Open { failures, until: now.plus(wait.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 2.0)) };
    }

    pub fn failures(&self) -> u32 {
        match *self {
            Self::Closed { failures } | Self::Open { failures, .. } | Self::Probing { failures, .. } => {
                failures
            }
        }
    }

    /// The clock went back by this much.
    pub fn shift_back(&mut self, by: Duration) {
        match self {
            Self::Closed { .. } => {}
            Self::Open { until, .. } | Self::Probing { lost_at: until, .. } => *until = until.minus(by),
        }
    }
}
