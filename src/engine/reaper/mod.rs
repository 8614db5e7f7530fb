//! Ends what policies match: marked, announced, read once more, committed, requested, verified; and says why not.
//!
//! It must never end anything on a doubt: each gate stands in `gates`, and a DELETE is handed out where all are open at once.

mod arming;
mod conditions;
mod gates;
mod ground;
mod lapse;
mod review;
mod sight;
mod transitions;
mod verdict;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use self::{
    gates::{Phase, pass},
    ground::{Case, Ground, History},
    sight::Sight,
    transitions::{self as go, Turn},
};
use crate::model::{
    Act, Action, ActionId, ArmError, Arming, Ends, Forecast, Hold, Keep, Notice, Policies, Policy,
    PolicyVerdict, Presence, Preview, Shift, Snapshot, Stage, Status, Target, TeamId, Time, Tracked, Why,
    Withheld, action::REMEMBERED,
};

/// Fewer at once are never taken for a fault of a sensor (FAULTS 68).
const MANY: usize = 3;
/// What is withheld is told this often at most.
const DAILY: Duration = Duration::from_secs(24 * 3_600);

/// Policies, and what became of them so far.
#[derive(Debug, Clone, Default)]
pub struct Reaper {
    policies: Policies,
    fingerprints: BTreeMap<Arc<str>, Arc<str>>,
    /// One at most for each deployment.
    open: BTreeMap<Target, Action>,
    withheld: BTreeMap<(Arc<str>, Target), Action>,
    /// Closed, and still of matter.
    past: BTreeMap<ActionId, Action>,
    /// Of those ended so long ago that they are no longer among the past: how many, and what they saved.
    settled: BTreeMap<Arc<str>, Ends>,
    sight: Sight,
    lapsed: lapse::Told,
    alerted: bool,
    #[cfg(test)]
    pub(super) skip: Option<gates::Gate>,
}

/// What one step decides.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    pub actions: Vec<Action>,
    pub shifts: Vec<Shift>,
    pub acts: Vec<Act>,
    pub notices: Vec<Notice>,
    pub wake: Option<(Time, &'static str)>,
}

impl Reaper {
    pub fn new(policies: Policies, actions: Vec<Action>) -> Self {
        let mut reaper = Self::default();
        reaper.replace(policies);
        for action in actions {
            reaper.place(action);
        }
        reaper
    }

    /// A reload. What is open under a policy that is gone or has changed is cancelled at the next step.
    pub fn replace(&mut self, policies: Policies) {
        let of = |policy: &Policy| (policy.name.clone(), policies.fingerprint(policy));
        self.fingerprints = policies.policies.iter().map(of).collect();
        self.policies = policies;
    }

    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Whether a rule of kind `not_confirmed` tells people of what no read confirms.
    pub fn alerted(&mut self, alerted: bool) {
        self.alerted = alerted;
    }

    /// Those whose end was requested and is not confirmed.
    pub fn to_confirm(&self) -> Vec<Action> {
        self.open.values().filter(|action| action.to_confirm_by().is_some()).cloned().collect()
    }

    /// Open, withheld and lately closed ones.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.open.values().chain(self.withheld.values()).chain(self.past.values())
    }

    /// Of a policy as it is configured; `None`: there is none of this name.
    pub fn fingerprint(&self, policy: &str) -> Option<&Arc<str>> {
        self.fingerprints.get(policy)
    }

    /// By policy: how many deployments were ended, and what they would have cost since.
    pub fn ended(&self, now: Time) -> BTreeMap<Arc<str>, Ends> {
        let mut ended = self.settled.clone();
        self.past.values().for_each(|action| count_end(&mut ended, action, now));
        ended
    }

    /// What no longer matters to any decision is only counted.
    fn settle(&mut self, now: Time) {
        for (_, action) in self.past.extract_if(.., |_, action| !action.matters(now)) {
            count_end(&mut self.settled, &action, now);
        }
    }

    fn place(&mut self, action: Action) {
        match &action.stage {
            Stage::Withheld { .. } => {
                self.withheld.insert((action.policy.clone(), action.target.clone()), action);
            }
            stage if stage.name().is_closed() => {
                self.past.insert(action.id.clone(), action);
            }
            Stage::Marked { .. }
            | Stage::Announced { .. }
            | Stage::Reading { .. }
            | Stage::Checking { .. }
            | Stage::Committing { .. }
            | Stage::Requested { .. }
            | Stage::Verifying { .. }
            | Stage::InDoubt { .. }
            | Stage::Gone { .. }
            | Stage::Refused { .. }
            | Stage::Expired { .. }
            | Stage::Cancelled { .. } => {
                self.open.insert(action.target.clone(), action);
            }
        }
    }

    /// Decides. Stepping again on the same snapshot and time decides nothing new.
    pub fn step(&mut self, snapshot: &Snapshot, forecasts: &BTreeMap<TeamId, Forecast>, now: Time) -> Reaped {
        self.sight.look(snapshot, forecasts, now);
        let quiet = self.policies.policies.is_empty() && snapshot.restored.is_none();
        if quiet && self.actions().next().is_none() {
            return Reaped::default();
        }
        self.settle(now);
        let (mut open, mut withheld) = (std::mem::take(&mut self.open), std::mem::take(&mut self.withheld));
        let (mut past, mut lapsed) = (std::mem::take(&mut self.past), std::mem::take(&mut self.lapsed));
        let history = History::of(open.values().chain(past.values()), &self.policies, now);
        let mut ground = self.ground(snapshot, forecasts, history, now);
        let mut qualifying = qualifying(&ground, &open);
        ground.too_many = too_many(&ground, &qualifying);
        let mut turn = Turn::new(ground);
        lapse::tell(&mut turn, &mut lapsed);
        for action in open.values_mut() {
            review::review(&mut turn, action);
        }
        let closed = open.extract_if(.., |_, action| action.stage.name().is_closed());
        past.extend(closed.map(|(_, action)| (action.id.clone(), action)));
        if !turn.shifts.is_empty() {
            turn.ground.history = History::of(open.values().chain(past.values()), &self.policies, now);
            qualifying = self::qualifying(&turn.ground, &open);
            turn.ground.too_many = too_many(&turn.ground, &qualifying);
        }
        start_next(&mut turn, &mut open);
        mark(&mut turn, &qualifying, &mut open);
        withhold(&mut turn, &qualifying, &open, &mut withheld);
        count_savings(&mut turn, &mut past);
        let reaped = Reaped {
            actions: turn.rows.into_values().collect(),
            shifts: turn.shifts,
            acts: turn.acts,
            notices: turn.notices,
            wake: turn.wake,
        };
        (self.open, self.withheld, self.past, self.lapsed) = (open, withheld, past, lapsed);
        reaped
    }

    /// Where each policy stands with each deployment that is there; changes nothing.
    pub fn verdicts(
        &self,
        snapshot: &Snapshot,
        forecasts: &BTreeMap<TeamId, Forecast>,
        now: Time,
    ) -> Vec<PolicyVerdict> {
        let (ground, qualifying) = self.looked(snapshot, forecasts, now);
        verdict::verdicts(&ground, &self.open, &qualifying)
    }

    /// What a policy would end now. `None`: there is no such policy.
    pub fn preview(
        &self,
        policy: &str,
        snapshot: &Snapshot,
        forecasts: &BTreeMap<TeamId, Forecast>,
        now: Time,
    ) -> Option<Preview> {
        let policy = self.policies.policies.iter().find(|known| *known.name == *policy)?;
        let (ground, qualifying) = self.looked(snapshot, forecasts, now);
        Some(arming::preview(&ground, policy, &qualifying))
    }

    /// The arming that a person may have who confirms this code; it holds once it is in the snapshot.
    pub fn arm(
        &self,
        (policy, code, by): (&str, &str, Arc<str>),
        snapshot: &Snapshot,
        forecasts: &BTreeMap<TeamId, Forecast>,
        now: Time,
    ) -> Result<Arming, ArmError> {
        let known = self.policies.policies.iter().find(|known| *known.name == *policy);
        let policy = known.ok_or(ArmError::NoSuchPolicy)?;
        let (ground, qualifying) = self.looked(snapshot, forecasts, now);
        let preview = arming::preview(&ground, policy, &qualifying);
        arming::arm(&ground, policy, &preview, code, by)
    }

    fn looked<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        forecasts: &'a BTreeMap<TeamId, Forecast>,
        now: Time,
    ) -> (Ground<'a>, Qualifying<'a>) {
        let history = History::of(self.open.values().chain(self.past.values()), &self.policies, now);
        let mut ground = self.ground(snapshot, forecasts, history, now);
        let qualifying = qualifying(&ground, &self.open);
        ground.too_many = too_many(&ground, &qualifying);
        (ground, qualifying)
    }

    fn ground<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        forecasts: &'a BTreeMap<TeamId, Forecast>,
        history: History,
        now: Time,
    ) -> Ground<'a> {
        Ground {
            snapshot,
            forecasts,
            policies: &self.policies,
            fingerprints: &self.fingerprints,
            sight: &self.sight,
            history,
            too_many: None,
            alerted: self.alerted,
            now,
            #[cfg(test)]
            skip: self.skip,
        }
    }
}

fn count_end(ended: &mut BTreeMap<Arc<str>, Ends>, action: &Action, now: Time) {
    if let Stage::Gone { saved_until, .. } = action.stage {
        let ends = ended.entry(action.policy.clone()).or_default();
        let saved = action.saved(now);
        ends.count = ends.count.saturating_add(1);
        ends.saved = ends.saved.saturating_add(saved);
        if saved_until <= now {
            ends.saved_for_good = ends.saved_for_good.saturating_add(saved);
        }
    }
}

/// For each policy, armed or not, what it would end now, in the order in which it would.
type Qualifying<'a> = Vec<(&'a Policy, Vec<&'a Tracked>)>;

fn qualifying<'a>(ground: &Ground<'a>, open: &BTreeMap<Target, Action>) -> Qualifying<'a> {
    let of = |policy: &'a Policy| {
        let qualifies = |tracked: &&'a Tracked| {
            tracked.deployment.status == Status::Running
                && gates::is_open(&Case::new(ground, policy, tracked), Phase::Qualify)
        };
        let mut found: Vec<&Tracked> =
            ground.snapshot.deployments.values().map(|tracked| &**tracked).filter(qualifies).collect();
        if policy.sheds() {
            found.sort_by_cached_key(|tracked| conditions::shed_order(tracked));
            keep_the_next(ground, policy, open, &mut found);
        } else {
            let tried =
                |tracked: &&Tracked| ground.history.tried.get(&Target::of(&tracked.deployment)).copied();
            found.sort_by_key(tried);
        }
        (policy, found)
    };
    ground.policies.policies.iter().map(of).collect()
}

/// Of each team the one that is being shed, else the first in order: one at a time.
fn keep_the_next(
    ground: &Ground<'_>,
    policy: &Policy,
    open: &BTreeMap<Target, Action>,
    found: &mut Vec<&Tracked>,
) {
    let mut taken: BTreeSet<&TeamId> = BTreeSet::new();
    found.retain(|tracked| {
        let team = &tracked.deployment.team;
        let own = open.get(&Target::of(&tracked.deployment)).is_some_and(|open| open.policy == policy.name);
        own || (!ground.history.shedding.contains(team) && taken.insert(team))
    });
}

/// A share of the fleet that is too large to be true, unless a person has acknowledged every one of them.
fn too_many(ground: &Ground<'_>, qualifying: &Qualifying<'_>) -> Option<(u32, u32)> {
    let mut targets = BTreeSet::new();
    let mut acknowledged = true;
    for (policy, found) in qualifying.iter().filter(|(policy, _)| ground.is_armed(policy)) {
        let known = ground.arming(policy).map(|arming| &arming.acknowledged);
        for target in found.iter().map(|tracked| Target::of(&tracked.deployment)) {
            acknowledged &= known.is_some_and(|known| known.contains(&target));
            targets.insert(target);
        }
    }
    let running = |tracked: &&Arc<Tracked>| {
        tracked.presence == Presence::Listed && tracked.deployment.status == Status::Running
    };
    let fleet = ground.snapshot.deployments.values().filter(running).count();
    let share = usize::from(ground.policies.safety.max_fleet_share_permille);
    let many = targets.len() >= MANY && targets.len().saturating_mul(1_000) >= fleet.saturating_mul(share);
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    (many && !acknowledged).then(|| (count(targets.len()), count(fleet)))
}

/// The longest due of those whose gates are open begins its final read, where nothing else is under way.
fn start_next(turn: &mut Turn<'_>, open: &mut BTreeMap<Target, Action>) {
    let mut due: Vec<(Time, Target)> = Vec::new();
    for (target, action) in open.iter() {
        let Stage::Announced { next, .. } = action.stage else { continue };
        let Some((policy, tracked)) = review::parties(&turn.ground, action) else { continue };
        let case = Case { action: Some(action), ..Case::new(&turn.ground, policy, tracked) };
        match pass(&case, Phase::Start) {
            Ok(()) => due.push((next, target.clone())),
            Err(hold) => {
                if let Some(until) = hold.until() {
                    turn.wake(until, "a gate of a policy");
                }
                turn.wake(next, "an announced end");
            }
        }
    }
    if open.values().any(|action| action.stage.is_under_way()) {
        return;
    }
    if let Some((_, target)) = due.into_iter().min()
        && let Some(action) = open.get_mut(&target)
    {
        go::begin_final_read(turn, action);
    }
}

/// Announces what armed policies match, as far as the limits leave room.
fn mark(turn: &mut Turn<'_>, qualifying: &Qualifying<'_>, open: &mut BTreeMap<Target, Action>) {
    for (policy, found) in qualifying {
        for tracked in found {
            let target = Target::of(&tracked.deployment);
            let shed = policy.sheds() && turn.ground.history.shedding.contains(&tracked.deployment.team);
            if open.contains_key(&target) || shed {
                continue;
            }
            // Two actions that begin at one instant would have one id. An end by a clock that was ahead is waited for by nobody.
            if turn.ground.history.tried.get(&target).is_some_and(|over| *over == turn.ground.now) {
                turn.wake(turn.now().plus(Duration::from_millis(1)), "an action that starts over");
                continue;
            }
            let case = Case::new(&turn.ground, policy, tracked);
            // Again, for what was closed at this step may rest now.
            match pass(&case, Phase::Mark) {
                Ok(()) => {
                    let because = conditions::because(&case);
                    let action = go::mark(turn, policy, tracked, because);
                    turn.ground.history.enter(&action, turn.ground.policies, turn.ground.now);
                    open.insert(target, action);
                }
                Err(hold) => {
                    if let Some(until) = hold.until() {
                        turn.wake(until, "a gate of a policy");
                    }
                }
            }
        }
    }
}

/// Tells once a day what a dry run would end, and what is held because too many qualify.
fn withhold(
    turn: &mut Turn<'_>,
    qualifying: &Qualifying<'_>,
    open: &BTreeMap<Target, Action>,
    withheld: &mut BTreeMap<(Arc<str>, Target), Action>,
) {
    let now = turn.now();
    for (policy, found) in qualifying {
        let (by, hold) = match (turn.ground.is_armed(policy), turn.ground.too_many) {
            (false, _) => (Withheld::DryRun, Hold::NotArmed),
            (true, Some((qualifying, fleet))) => {
                (Withheld::FleetShare, Hold::FleetShare { qualifying, fleet })
            }
            (true, None) => continue,
        };
        let found: Vec<&&Tracked> =
            found.iter().filter(|tracked| !open.contains_key(&Target::of(&tracked.deployment))).collect();
        let told = |action: &&Action| {
            action.policy == policy.name && told_by(action).is_some_and(|(_, of)| of == by)
        };
        // What was told by a clock that was ahead was told some time.
        let last = withheld.values().filter(told).filter_map(|action| Some(told_by(action)?.0));
        let last = last.filter(|last| *last <= now).max();
        if found.is_empty() || last.is_some_and(|last| now.since(last) < DAILY) {
            continue;
        }
        let mut named = Vec::new();
        for tracked in found {
            let key = (policy.name.clone(), Target::of(&tracked.deployment));
            let action = match withheld.remove(&key) {
                Some(mut action) => {
                    go::withhold_again(turn, &mut action, by);
                    action
                }
                None => go::withhold(turn, policy, tracked, by, hold.clone()),
            };
            named.push(action.clone());
            withheld.insert(key, action);
        }
        let named: Vec<&Action> = named.iter().collect();
        turn.notices.push(words::daily(&turn.ground, policy, by, &named));
    }
    withheld.retain(|_, action| !is_past(turn, action));
}

fn told_by(action: &Action) -> Option<(Time, Withheld)> {
    match action.stage {
        Stage::Withheld { told, by } => Some((told, by)),
        Stage::Marked { .. }
        | Stage::Announced { .. }
        | Stage::Reading { .. }
        | Stage::Checking { .. }
        | Stage::Committing { .. }
        | Stage::Requested { .. }
        | Stage::Verifying { .. }
        | Stage::InDoubt { .. }
        | Stage::Gone { .. }
        | Stage::Refused { .. }
        | Stage::Expired { .. }
        | Stage::Cancelled { .. } => None,
    }
}

/// Closes what was told a day ago and does not hold any more.
fn is_past(turn: &mut Turn<'_>, action: &mut Action) -> bool {
    let Some((told, by)) = told_by(action) else { return true };
    let policy = turn.ground.policies.policies.iter().find(|policy| policy.name == action.policy);
    let why = match policy {
        None => Why::PolicyRemoved,
        Some(policy) if by == Withheld::DryRun && turn.ground.is_armed(policy) => Why::Armed,
        Some(_) if turn.now().since(told) < DAILY => {
            turn.wake(told.plus(DAILY), "what is withheld is told daily");
            return false;
        }
        Some(_) => Why::NoLonger,
    };
    go::cancel(turn, action, why);
    true
}

/// What counts as saved ends with the next act of a person: a deployment in the team, a keep, an arming.
fn count_savings(turn: &mut Turn<'_>, past: &mut BTreeMap<ActionId, Action>) {
    for action in past.values_mut() {
        let Stage::Gone { at, saved_until } = action.stage else { continue };
        if saved_until < at.plus(REMEMBERED) {
            continue;
        }
        let snapshot = turn.ground.snapshot;
        let deployed = snapshot
            .deployments
            .values()
            .filter(|tracked| tracked.deployment.team == action.team)
            .map(|tracked| tracked.deployment.created_at);
        let kept = snapshot.keeps.values().map(|keep: &Arc<Keep>| keep.at);
        let armed = snapshot.armings.values().map(|arming| arming.armed_at);
        let human = deployed.chain(kept).chain(armed).filter(|then| at < *then && *then < saved_until).min();
        if let Some(human) = human {
            action.stage = Stage::Gone { at, saved_until: human };
            turn.save(action);
        }
    }
}

#[cfg(test)]
mod tests;
