//! What a gate may look at: one policy and one deployment, on the ground of the whole snapshot and of what was done before.
//!
//! It must never leave out the past: caps and rests hold across restarts, for they are counted from the actions themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

#[cfg(test)]
use super::gates::Gate;
use super::sight::Sight;
use crate::model::{
    Action, Arming, Check, Deployment, FinalRead, Forecast, Policies, Policy, Snapshot, Stage, Target,
    TeamId, Time, Tracked, action::REMEMBERED,
};

/// One step's view of everything.
pub struct Ground<'a> {
    pub snapshot: &'a Snapshot,
    pub forecasts: &'a BTreeMap<TeamId, Forecast>,
    pub policies: &'a Policies,
    pub fingerprints: &'a BTreeMap<Arc<str>, Arc<str>>,
    pub sight: &'a Sight,
    pub history: History,
    /// So many of so many qualify at once, and not all of them were acknowledged.
    pub too_many: Option<(u32, u32)>,
    /// An alert tells what is not confirmed, so the action need not.
    pub alerted: bool,
    pub now: Time,
    #[cfg(test)]
    pub skip: Option<Gate>,
}

impl Ground<'_> {
    pub fn team_name(&self, team: &TeamId) -> &str {
        self.snapshot.teams.get(team).map_or("", |team| &team.name)
    }

    pub fn arming(&self, policy: &Policy) -> Option<&Arc<Arming>> {
        self.snapshot.armings.get(&policy.name)
    }

    pub fn is_armed(&self, policy: &Policy) -> bool {
        let fingerprint = self.fingerprints.get(&policy.name);
        self.arming(policy).is_some_and(|arming| Some(&arming.fingerprint) == fingerprint)
    }
}

/// What was done before and is promised, from the actions that still matter.
#[derive(Debug, Default)]
pub struct History {
    /// When DELETEs were handed out.
    pub requests: Vec<Time>,
    /// When the open actions are due.
    pub slots: Vec<Time>,
    pub rests: BTreeMap<Target, Time>,
    /// What earlier announcements promised.
    pub floors: BTreeMap<Target, Time>,
    /// When an action of it was last over.
    pub tried: BTreeMap<Target, Time>,
    /// When anything of the team was last being ended by us.
    pub ended: BTreeMap<TeamId, Time>,
    /// Teams in which a deployment is being shed, with it.
    pub shedding: BTreeSet<TeamId>,
}

impl History {
    pub fn of<'a>(actions: impl Iterator<Item = &'a Action>, policies: &Policies, now: Time) -> Self {
        let mut history = Self::default();
        for action in actions {
            history.enter(action, policies, now);
        }
        history
    }

    pub fn enter(&mut self, action: &Action, policies: &Policies, now: Time) {
        let later = |map: &mut BTreeMap<Target, Time>, at: Time| {
            let known = map.entry(action.target.clone()).or_insert(at);
            *known = (*known).max(at);
        };
        self.requests.extend(&action.requests);
        let policy = policies.policies.iter().find(|policy| policy.name == action.policy);
        let grace = policy.map_or(Duration::ZERO, |policy| policy.grace);
        let mut last = action.requests.iter().copied().max();
        match &action.stage {
            Stage::Marked { floor, .. } => {
                self.slots.push(now.plus(grace).max(floor.unwrap_or(now)));
            }
            Stage::Announced { .. }
            | Stage::Reading { .. }
            | Stage::Checking { .. }
            | Stage::Committing { .. } => self.slots.extend(action.stage.slot().map(|slot| slot.at)),
            Stage::Refused { rest, .. } => later(&mut self.rests, *rest),
            Stage::Cancelled { slot, rest, .. } => {
                if let Some(slot) = slot {
                    later(&mut self.floors, *slot);
                }
                if let Some(rest) = rest {
                    later(&mut self.rests, *rest);
                }
            }
            Stage::Gone { at, .. } => {
                last = last.max(Some(*at));
                // The lists may be behind the reads.
                later(&mut self.rests, at.plus(REMEMBERED));
            }
            Stage::Withheld { .. }
            | Stage::Requested { .. }
            | Stage::Verifying { .. }
            | Stage::InDoubt { .. }
            | Stage::Expired { .. } => {}
        }
        match action.stage.closed_at() {
            Some(at) => later(&mut self.tried, at),
            None if policy.is_some_and(Policy::sheds) => {
                self.shedding.insert(action.team.clone());
            }
            None => {}
        }
        if let Some(last) = last {
            let known = self.ended.entry(action.team.clone()).or_insert(last);
            *known = (*known).max(last);
        }
    }
}

/// One policy and one deployment.
pub struct Case<'a> {
    pub ground: &'a Ground<'a>,
    pub policy: &'a Policy,
    pub tracked: &'a Tracked,
    /// The open action of this policy for it.
    pub action: Option<&'a Action>,
    pub read: Option<&'a FinalRead>,
    pub check: Option<&'a Check>,
}

impl<'a> Case<'a> {
    pub fn new(ground: &'a Ground<'a>, policy: &'a Policy, tracked: &'a Tracked) -> Self {
        Self { ground, policy, tracked, action: None, read: None, check: None }
    }

    /// The deployment as it was listed, and as the final read saw it: every gate has to hold for both.
    pub fn seen(&self) -> impl Iterator<Item = &'a Deployment> {
        std::iter::once(&self.tracked.deployment).chain(self.read.map(|read| &*read.deployment))
    }

    /// The latest word on it.
    pub fn deployment(&self) -> &'a Deployment {
        self.read.map_or(&self.tracked.deployment, |read| &*read.deployment)
    }

    pub fn now(&self) -> Time {
        self.ground.now
    }
}
