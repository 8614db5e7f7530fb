//! Why: for each policy and each deployment what was looked at, which gates are closed, what happens next and what would stop it.
//!
//! It must never judge by another rule than the step does: the gates are the same.

use std::collections::BTreeMap;

use super::{
    Qualifying, conditions,
    gates::{self, Phase},
    ground::{Case, Ground},
};
use crate::model::{Action, Hold, Policy, PolicyVerdict, Stage, StageName, Target, Time, Tracked};

const STOPS: [&str; 4] = [
    "`spheron-watch keep` for it",
    "renaming it to a protected name",
    "`spheron-watch actions cancel` of the action",
    "`spheron-watch policy disarm`",
];

pub fn verdicts(
    ground: &Ground<'_>,
    open: &BTreeMap<Target, Action>,
    qualifying: &Qualifying<'_>,
) -> Vec<PolicyVerdict> {
    let mut verdicts = Vec::new();
    for (policy, found) in qualifying {
        for tracked in ground.snapshot.deployments.values().filter(|tracked| tracked.is_live()) {
            let target = Target::of(&tracked.deployment);
            let behind = behind(ground, policy, found, tracked);
            verdicts.push(verdict(ground, policy, tracked, (open.get(&target), behind)));
        }
    }
    verdicts
}

/// What a policy that sheds ends before this one.
pub fn behind(ground: &Ground<'_>, policy: &Policy, found: &[&Tracked], tracked: &Tracked) -> Option<Hold> {
    if !policy.sheds() {
        return None;
    }
    let team = &tracked.deployment.team;
    match found.iter().find(|found| found.deployment.team == *team) {
        Some(first) if first.deployment.id == tracked.deployment.id => None,
        Some(first) => Some(Hold::NotNext { first: first.deployment.name.clone() }),
        None => ground.history.shedding.contains(team).then_some(Hold::OneAtATime),
    }
}

fn verdict(
    ground: &Ground<'_>,
    policy: &Policy,
    tracked: &Tracked,
    (action, behind): (Option<&Action>, Option<Hold>),
) -> PolicyVerdict {
    let own = action.filter(|action| action.policy == policy.name);
    let case = Case { action: own, ..Case::new(ground, policy, tracked) };
    let phase = if own.is_some() { Phase::Start } else { Phase::Mark };
    let requested = own.is_some_and(|action| !action.stage.name().is_stoppable());
    let mut holds: Vec<Hold> = if requested { Vec::new() } else { gates::closed(&case, phase).collect() };
    if let (Some(action), None) = (action, own) {
        holds.push(Hold::Claimed { policy: action.policy.clone() });
    }
    if own.is_none() {
        holds.extend(behind);
    }
    let selected = !holds.iter().any(|hold| matches!(hold, Hold::NotMatched | Hold::NoSelector));
    PolicyVerdict {
        policy: policy.name.clone(),
        target: Target::of(&tracked.deployment),
        armed: ground.is_armed(policy),
        action: action.map(|action| (action.id.clone(), action.stage.name())),
        inputs: conditions::inputs(&case),
        next: next(own, &holds),
        stops: if selected && !requested { STOPS.to_vec() } else { Vec::new() },
        holds,
    }
}

fn next(action: Option<&Action>, holds: &[Hold]) -> Option<(Time, &'static str)> {
    match action.map(|action| &action.stage) {
        Some(Stage::Announced { next, .. }) => Some((*next, "the final read, if every gate is open then")),
        Some(Stage::Verifying { proof } | Stage::InDoubt { proof, .. }) => {
            Some((proof.next, "the next read of what became of it"))
        }
        Some(stage) if stage.name() == StageName::Marked => Some((
            action?.marked.plus(super::review::LATE_AFTER),
            "the announcement expires if nobody takes it",
        )),
        Some(_) => None,
        None => {
            let last = holds.iter().filter_map(Hold::until).max()?;
            Some((last, "the last of the gates that open in time"))
        }
    }
}
