//! The call governor: may this call go now, and if not, when and why. Pure: time and jitter come from the caller.
//!
//! It must never let the watch on the balance starve, nor exceed what the API or the user grants.

mod circuit;
mod stretch;

use std::{collections::VecDeque, fmt, time::Duration};

use self::circuit::Circuit;
use super::headers::{Rate, WINDOW};
use crate::model::Time;

use self::stretch::Stretch;
pub use self::stretch::{Need, Stretches};

/// Until the API has said otherwise; its own pages disagree on 100 and 250 (`facts.md` §3).
const ASSUMED_LIMIT: u32 = 100;
/// Bounds the memory of our own calls, whatever a header claims.
const LIMIT_MAX: u32 = 10_000;
/// How often a rejected key is tried again.
const KEY_PROBE_EVERY: Duration = Duration::from_secs(300);
/// A drained budget is refilled with the next window: no cadence need be longer than that.
const DRAIN_STRETCH_MAX: f64 = 15.0;

/// Who goes first when calls are short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    Balance,
    /// Final read, can-terminate, DELETE.
    Final,
    Deployments,
    Vanished,
    Inventory,
    Volumes,
    Offers,
}

impl Priority {
    /// How many calls this one must leave to those before it.
    fn leaves(self, reserve: u32, step: u32) -> u32 {
        match self {
            Self::Balance => 0,
            Self::Final => step.min(reserve),
            Self::Deployments => reserve,
            Self::Vanished => reserve + step,
            Self::Inventory => reserve + 2 * step,
            Self::Volumes => reserve + 3 * step,
            Self::Offers => reserve + 4 * step,
        }
    }
}

/// Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub until: Time,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    OwnBudget { used: usize, allowance: u32 },
    ApiBudget { remaining: u32, limit: u32 },
    TooMany,
    KeyRejected,
    Unreachable { failures: u32 },
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "held back until {}: ", self.until)?;
        match &self.why {
            Why::OwnBudget { used, allowance } => write!(
                f,
                "{used} of our {allowance} calls per 15 minutes are used and the rest is kept for more urgent ones; \
                 poll less often or raise collect.calls_per_15m"
            ),
            Why::ApiBudget { remaining, limit } => write!(
                f,
                "the API grants only {remaining} of {limit} more calls in this window and they are kept for more urgent ones; \
                 another client may share this address or account"
            ),
            Why::TooMany => f.write_str(
                "the API asked us to wait (429); another client may share this address or account",
            ),
            Why::KeyRejected => f.write_str(
                "the API rejected the key, so only the balance is tried, every 5 minutes; replace the key",
            ),
            Why::Unreachable { failures } => {
                write!(f, "the API failed {failures} times in a row; one call will try it then")
            }
        }
    }
}

/// What the headers said last, and until when it holds.
#[derive(Debug, Clone, Copy)]
struct Granted {
    remaining: u32,
    reset: Time,
}

#[derive(Debug)]
pub struct Governor {
    configured: Option<u32>,
    limit: u32,
    granted: Option<Granted>,
    /// When our calls of the last 15 minutes went out, oldest first.
    own: VecDeque<Time>,
    told_to_wait_until: Option<Time>,
    /// When the balance may next be tried with a key that was rejected.
    key_probe_at: Option<Time>,
    circuit: Circuit,
    last: Time,
}

impl Governor {
    /// `configured` is `collect.calls_per_15m`; without it, half of what the API grants.
    pub fn new(configured: Option<u32>) -> Self {
        Self {
            configured,
            limit: ASSUMED_LIMIT,
            granted: None,
            own: VecDeque::new(),
            told_to_wait_until: None,
            key_probe_at: None,
            circuit: Circuit::Closed { failures: 0 },
            last: Time::EPOCH,
        }
    }

    /// As it will be for an account of which nothing is known but what is configured.
    pub fn assumed(configured: Option<u32>) -> Self {
        let limit = configured.unwrap_or(0).clamp(ASSUMED_LIMIT, LIMIT_MAX);
        Self { limit, ..Self::new(configured) }
    }

    /// Takes one call out of the budget, or says until when and why not.
    pub fn admit(&mut self, priority: Priority, now: Time) -> Result<(), Hold> {
        self.follow(now);
        let held = |until, why| Err(Hold { until, why });
        if let Some(until) = self.told_to_wait_until.filter(|until| now < *until) {
            return held(until, Why::TooMany);
        }
        if let Some(probe_at) = self.key_probe_at
            && (priority != Priority::Balance || now < probe_at)
        {
            return held(probe_at.max(now), Why::KeyRejected);
        }
        if let Some(until) = self.circuit.holds_until(now) {
            return held(until, Why::Unreachable { failures: self.circuit.failures() });
        }
        if let Some(Granted { remaining, reset }) = self.granted.filter(|granted| now < granted.reset)
            && remaining <= self.leaves_to_api(priority)
        {
            return held(reset, Why::ApiBudget { remaining, limit: self.limit });
        }
        let allowance = self.allowance();
        let usable =
            usize::try_from(allowance.saturating_sub(self.leaves_of_own(priority))).unwrap_or(usize::MAX);
        if self.own.len() >= usable {
            // The call whose leaving the window makes room for this one.
            let leaving = self.own.get(self.own.len() - usable).copied().unwrap_or(now);
            return held(leaving.plus(WINDOW), Why::OwnBudget { used: self.own.len(), allowance });
        }
        self.circuit.begin(now);
        if self.key_probe_at.is_some() {
            self.key_probe_at = Some(now.plus(KEY_PROBE_EVERY));
        }
        if let Some(granted) = &mut self.granted {
            granted.remaining = granted.remaining.saturating_sub(1);
        }
        self.own.push_back(now);
        Ok(())
    }

    /// Headers of any answer.
    pub fn learn(&mut self, rate: &Rate, now: Time) {
        self.follow(now);
        if let Some(limit) = rate.limit.filter(|limit| *limit > 0) {
            self.limit = limit.min(LIMIT_MAX);
        }
        if let Some(remaining) = rate.remaining {
            self.granted = Some(Granted { remaining, reset: now.plus(rate.reset_in.unwrap_or(WINDOW)) });
        }
    }

    /// The API answered with anything but 5xx. `accepted`: with 2xx, so the key is good.
    pub fn answered(&mut self, accepted: bool) {
        self.circuit.close();
        if accepted {
            self.key_probe_at = None;
        }
    }

    /// 5xx, a timeout or no connection.
    pub fn failed(&mut self, now: Time, jitter: f64) {
        self.follow(now);
        self.circuit.fail(now, jitter);
    }

    /// 429.
    pub fn told_to_wait(&mut self, wait: Duration, now: Time) {
        self.follow(now);
        let until = now.plus(wait);
        self.told_to_wait_until = Some(self.told_to_wait_until.map_or(until, |other| other.max(until)));
    }

    /// 401. Unless the balance itself was refused, it may be tried at once: one odd answer must not blind us for minutes.
    pub fn key_refused(&mut self, priority: Priority, now: Time) {
        self.follow(now);
        let probe_at = if priority == Priority::Balance { now.plus(KEY_PROBE_EVERY) } else { now };
        self.key_probe_at.get_or_insert(probe_at);
    }

    pub fn key_rejected(&self) -> bool {
        self.key_probe_at.is_some()
    }

    /// By how much each schedule must be lengthened, so that all of them fit into what is ours and what the API has left.
    pub fn stretch(&self, needs: &[Need], now: Time) -> Stretches {
        let usable = self.allowance().saturating_sub(self.leaves_of_own(Priority::Offers)).max(1);
        let drained = self.granted.filter(|granted| now < granted.reset).map(|granted| {
            let usable = granted.remaining.saturating_sub(self.leaves_to_api(Priority::Offers)).max(1);
            let windows_left = granted.reset.since(now).as_secs_f64() / WINDOW.as_secs_f64();
            Stretch::fitting(needs, f64::from(usable) / windows_left).at_most(DRAIN_STRETCH_MAX)
        });
        Stretches { own: Stretch::fitting(needs, f64::from(usable)), drained }
    }

    /// What the API grants, as far as it has said.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    fn allowance(&self) -> u32 {
        self.configured.unwrap_or(self.limit / 2).clamp(1, self.limit)
    }

    /// A tenth of what the API grants (25 of 250), though not the better part of a small allowance.
    fn leaves_of_own(&self, priority: Priority) -> u32 {
        let allowance = self.allowance();
        priority.leaves(self.limit.div_ceil(10).min(allowance / 4), allowance / 50)
    }

    fn leaves_to_api(&self, priority: Priority) -> u32 {
        priority.leaves(self.limit.div_ceil(10), self.limit / 50)
    }

    /// Forgets what has passed. Where the clock went back, everything remembered goes back with it, so that no hold grows.
    fn follow(&mut self, now: Time) {
        let back = self.last.since(now);
        if !back.is_zero() {
            let shifted = |time: &mut Time| *time = time.minus(back);
            self.own.iter_mut().for_each(shifted);
            self.told_to_wait_until.iter_mut().for_each(shifted);
            self.key_probe_at.iter_mut().for_each(shifted);
            self.granted.iter_mut().for_each(|granted| shifted(&mut granted.reset));
            self.circuit.shift_back(back);
        }
        self.last = now;
        while self.own.front().is_some_and(|sent| sent.plus(WINDOW) <= now) {
            self.own.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
