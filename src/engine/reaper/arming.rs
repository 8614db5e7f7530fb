//! Arming: what a policy would end as things are, the code that stands for it, and whether a person may switch it on.
//!
//! It must never arm what was not looked at: the code is that of the lists, and of the policy as it stands.

use std::sync::Arc;

use super::{
    Qualifying, conditions,
    gates::{self, Phase},
    ground::{Case, Ground},
    verdict::behind,
};
use crate::model::{
    ArmError, Arming, Candidate, Hold, Policy, Preview, Target, Time, Tracked, outbox::LOG, policy::digest,
};

/// What it would end now, and what else it matches. Caps and the share of the fleet are not looked at: they only delay.
pub fn preview(ground: &Ground<'_>, policy: &Policy, qualifying: &Qualifying<'_>) -> Preview {
    let found = qualifying.iter().find(|(of, _)| of.name == policy.name);
    let found: &[&Tracked] = found.map_or(&[], |(_, found)| found);
    let would = |tracked: &Tracked| found.iter().any(|found| found.deployment.id == tracked.deployment.id);
    let mut waiting = Vec::new();
    for tracked in ground.snapshot.deployments.values().filter(|tracked| tracked.is_live()) {
        let case = Case::new(ground, policy, tracked);
        if would(tracked) || gates::selected(&case).is_err() {
            continue;
        }
        let next = || behind(ground, policy, found, tracked).unwrap_or(Hold::OneAtATime);
        waiting.push((candidate(tracked), gates::pass(&case, Phase::Qualify).err().unwrap_or_else(next)));
    }
    let because =
        |tracked: &&Tracked| (candidate(tracked), conditions::because(&Case::new(ground, policy, tracked)));
    let would_end: Vec<(Candidate, String)> = found.iter().map(because).collect();
    let fingerprint = ground.fingerprints.get(&policy.name).cloned().unwrap_or_default();
    let mut text = fingerprint.to_string();
    for (kind, target) in would_end
        .iter()
        .map(|(candidate, _)| ("ends", &candidate.target))
        .chain(waiting.iter().map(|(candidate, _)| ("matches", &candidate.target)))
    {
        text.push_str(&format!("\n{kind} {}", target.subject()));
    }
    Preview {
        policy: policy.name.clone(),
        fingerprint,
        armed: ground.is_armed(policy),
        would_end,
        waiting,
        code: digest(&text).get(..8).unwrap_or_default().into(),
    }
}

fn candidate(tracked: &Tracked) -> Candidate {
    let deployment = &tracked.deployment;
    Candidate {
        target: Target::of(deployment),
        name: deployment.name.clone(),
        team: deployment.team.clone(),
        rate: deployment.hourly_rate,
    }
}

/// A person arms what the code stands for, where somebody can hear of it (FAULTS 56, 57).
pub fn arm(
    ground: &Ground<'_>,
    policy: &Policy,
    preview: &Preview,
    code: &str,
    by: Arc<str>,
) -> Result<Arming, ArmError> {
    if policy.matching.is_everything() {
        return Err(ArmError::NoSelector);
    }
    if !policy.receivers.iter().any(|receiver| works(ground, receiver, ground.now)) {
        return Err(ArmError::NoReceiver);
    }
    if code.is_empty() || *code != *preview.code {
        return Err(ArmError::WrongCode);
    }
    Ok(Arming {
        policy: policy.name.clone(),
        fingerprint: preview.fingerprint.clone(),
        armed_at: ground.now,
        by,
        acknowledged: preview.would_end.iter().map(|(candidate, _)| candidate.target.clone()).collect(),
    })
}

/// It has taken something, and nothing that was sent to it since waits or is dead.
fn works(ground: &Ground<'_>, receiver: &Arc<str>, now: Time) -> bool {
    let confirmed = ground.snapshot.confirmed.get(receiver).is_some_and(|at| *at <= now);
    &**receiver != LOG && confirmed && !ground.snapshot.deliveries.contains_key(receiver)
}
