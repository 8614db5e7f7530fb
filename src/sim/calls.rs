//! Who called what and when: the rate limit of the API, and a bounded log for oracles.
//!
//! It must never grow without bound: a year of polls is counted, not kept.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{routes::Endpoint, world::World};
use crate::model::Time;

const WINDOW: Duration = Duration::from_secs(15 * 60);
const TARGETS_MAX: usize = 20_000;
const KEPT_MAX: usize = 10_000;

/// Calls of one method, path and query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallStats {
    pub count: u64,
    pub last: Time,
    /// The shortest time between two calls, but for the one retry that follows an answer of 500 or none.
    pub shortest_gap: Option<Duration>,
    failed: bool,
}

/// A call that was not a GET, or a GET that changes something; kept whether or not it was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    pub at: Time,
    pub method: String,
    pub path: String,
}

#[derive(Debug, Default)]
pub(super) struct Calls {
    window: Option<Time>,
    used: u32,
    log: BTreeMap<String, CallStats>,
    recent: VecDeque<Time>,
    busiest: usize,
    mutations: Vec<Mutation>,
    teams_created: u64,
    honest: BTreeMap<Endpoint, Time>,
}

/// What the `X-RateLimit-*` headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    pub limit: u32,
    pub remaining: u32,
    pub reset: Time,
    pub refused: bool,
}

impl World {
    /// Every call that was not a GET, refused ones too; the first 10,000.
    pub fn mutations(&self) -> &[Mutation] {
        &self.calls.mutations
    }

    /// How often `GET /api/teams` created a team: a watcher never calls it.
    pub fn teams_created(&self) -> u64 {
        self.calls.teams_created
    }

    /// By `METHOD path?query`.
    pub fn calls(&self) -> &BTreeMap<String, CallStats> {
        &self.calls.log
    }

    /// How many calls of this method went to paths that begin so.
    pub fn call_count(&self, method: &str, path: &str) -> u64 {
        let prefix = format!("{method} {path}");
        self.calls.log.iter().filter(|(target, _)| target.starts_with(&prefix)).map(|(_, s)| s.count).sum()
    }

    /// The most calls within any 15 minutes.
    pub fn busiest_15m(&self) -> usize {
        self.calls.busiest
    }

    /// When a call to this endpoint was last answered with 200 and the truth.
    pub fn last_honest(&self, endpoint: Endpoint) -> Option<Time> {
        self.calls.honest.get(&endpoint).copied()
    }
}

impl Calls {
    pub(super) fn note(&mut self, now: Time, method: &str, path: &str, target: &str) {
        self.recent.push_back(now);
        while self.recent.len() > KEPT_MAX || self.recent.front().is_some_and(|t| now.since(*t) >= WINDOW) {
            self.recent.pop_front();
        }
        self.busiest = self.busiest.max(self.recent.len());
        if method != "GET" && self.mutations.len() < KEPT_MAX {
            self.mutations.push(Mutation { at: now, method: method.to_owned(), path: path.to_owned() });
        }
        if let Some(stats) = self.log.get_mut(target) {
            let gap = now.since(stats.last);
            if !stats.failed && stats.shortest_gap.is_none_or(|shortest| gap < shortest) {
                stats.shortest_gap = Some(gap);
            }
            stats.count += 1;
            stats.last = now;
        } else if self.log.len() < TARGETS_MAX {
            let first = CallStats { count: 1, last: now, shortest_gap: None, failed: false };
            self.log.insert(target.to_owned(), first);
        }
    }

    pub(super) fn answered(
        &mut self,
        now: Time,
        endpoint: Endpoint,
        target: &str,
        failed: bool,
        honest: bool,
    ) {
        if let Some(stats) = self.log.get_mut(target) {
            stats.failed = failed;
        }
        if honest {
            self.honest.insert(endpoint, now);
        }
    }

    pub(super) fn team_created(&mut self) {
        self.teams_created += 1;
    }

    /// Counts one call against the window, which begins with its first call.
    pub(super) fn count(&mut self, now: Time, limit: u32) -> Allowance {
        self.spend(now, 1);
        Allowance {
            limit,
            remaining: limit.saturating_sub(self.used),
            reset: self.window.unwrap_or(now).plus(WINDOW),
            refused: self.used > limit,
        }
    }

    pub(super) fn spend(&mut self, now: Time, calls: u32) {
        if self.window.is_none_or(|start| now.since(start) >= WINDOW) {
            self.window = Some(now);
            self.used = 0;
        }
        self.used = self.used.saturating_add(calls);
    }
}
