//! `policies`: what each may end, when, and whether it is armed; of one also what it would end now, and the code to arm that.
//!
//! It must never judge anew: it says what the engine says.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    At, Look, Money, Named, Page, Problem, Source, deployments::named_team, query::Slice, values::SCHEMA,
};
use crate::model::{self, Arming, Candidate, Feed, MatchKey, StageName, Target, TrackedVolume, VolumeStatus};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub name: String,
    /// `dry_run`, `armed`, or `changed`: it was armed, and it or what bears on it changed since, so that it is a dry run.
    pub state: String,
    pub armed_at: Option<At>,
    pub armed_by: Option<String>,
    #[serde(rename = "match")]
    pub matching: BTreeMap<String, Vec<String>>,
    /// In words, all of which must hold: `idle for 2h`.
    pub when: Vec<String>,
    pub grace_secs: u64,
    pub require_volume: bool,
    pub receivers: Vec<String>,
    /// Actions that are under way or announced.
    pub open_actions: usize,
    /// How many deployments it has ended, of all that the database remembers.
    pub ended: u64,
    /// What they would have cost since; `docs/policies.md` says how it is counted.
    pub saved: Money,
}

/// `policies/{name}`: the policy, and what arming it would mean now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyPreview {
    pub schema: u32,
    pub at: At,
    pub source: Source,
    pub policy: Policy,
    pub limits: Limits,
    /// Stands for the policy and both lists: who repeats it has seen them. Empty where no daemon runs.
    pub code: String,
    pub would_end: Vec<WouldEnd>,
    /// What it matches besides, and why that would not end now.
    pub waiting: Vec<Waiting>,
}

/// How much may be ended, over all policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub max_per_hour: u16,
    pub max_per_day: u16,
    /// In thousandths of what runs; so many at once look like a fault of a sensor.
    pub max_fleet_share_permille: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WouldEnd {
    pub deployment: Named,
    pub team: Named,
    pub gpu_type: String,
    pub instance_type: String,
    pub price_per_hour: Money,
    pub cost: Money,
    /// Why, with figures.
    pub because: String,
    /// Volumes attached to it, which stay; its own disk goes in any case.
    pub volumes: Vec<Named>,
    /// What is lost, in words.
    pub lost: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub deployment: Named,
    pub team: Named,
    pub price_per_hour: Money,
    pub reason: String,
    pub until: Option<At>,
}

/// What `POST policies/{name}/arm` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    pub code: String,
    #[serde(default)]
    pub by: String,
}

/// What `POST policies/{name}/disarm` and `POST actions/{id}/cancel` take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    #[serde(default)]
    pub by: String,
}

/// What `POST policies/{name}/disarm` answers; also where the policy is no longer in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disarmed {
    pub policy: String,
    /// `false`: it was a dry run already.
    pub was_armed: bool,
}

pub fn list(look: Look<'_>, slice: Slice) -> Page<Policy> {
    let all = look.view.policies.policies.iter().collect();
    Page::new(look, slice, all, |known| policy(look, known))
}

pub fn find<'a>(look: Look<'a>, name: &str) -> Result<&'a model::Policy, Problem> {
    let known = look.view.policies.policies.iter().find(|policy| *policy.name == *name);
    known.ok_or_else(|| Problem::new(404, model::ArmError::NoSuchPolicy.to_string()))
}

pub fn policy(look: Look<'_>, policy: &model::Policy) -> Policy {
    let arming = look.view.snapshot.armings.get(&policy.name);
    let of = look.view.actions.iter().filter(|action| action.policy == policy.name);
    let open = |stage: StageName| !stage.is_closed() && stage != StageName::Withheld;
    let ends = look.view.tallies.get(&policy.name).map(|tally| tally.ends).unwrap_or_default();
    let key = |of: &MatchKey| MatchKey::ALL.iter().find(|(_, key)| key == of).map_or("", |(name, _)| *name);
    let matching = policy
        .matching
        .globs
        .iter()
        .map(|(of, globs)| (key(of).to_owned(), globs.iter().map(model::Glob::as_text).collect()));
    Policy {
        name: policy.name.to_string(),
        state: state(look, policy, arming.map(|arming| &**arming)).to_owned(),
        armed_at: arming.map(|arming| At(arming.armed_at)),
        armed_by: arming.map(|arming| arming.by.to_string()),
        matching: matching.collect(),
        when: policy.when.iter().map(ToString::to_string).collect(),
        grace_secs: policy.grace.as_secs(),
        require_volume: policy.require_volume,
        receivers: policy.receivers.iter().map(|name| name.to_string()).collect(),
        open_actions: of.filter(|action| open(action.stage.name())).count(),
        ended: ends.count,
        saved: Money(ends.saved),
    }
}

pub fn is_armed(look: Look<'_>, policy: &model::Policy) -> bool {
    let arming = look.view.snapshot.armings.get(&policy.name);
    state(look, policy, arming.map(|arming| &**arming)) == "armed"
}

/// With any other fingerprint than that of its arming it is a dry run.
fn state(look: Look<'_>, policy: &model::Policy, arming: Option<&Arming>) -> &'static str {
    match arming {
        None => "dry_run",
        Some(arming) if arming.fingerprint == look.view.policies.fingerprint(policy) => "armed",
        Some(_) => "changed",
    }
}

pub fn preview(look: Look<'_>, name: &str) -> Result<PolicyPreview, Problem> {
    let known = find(look, name)?;
    let reasons = look.policies.ok_or_else(|| Problem::new(503, "nobody judges policies now; ask again"))?;
    let preview = reasons.previews.iter().find(|preview| preview.policy == known.name);
    // A reload came between.
    let preview = preview.ok_or_else(changed)?;
    let would_end = preview.would_end.iter().map(|(candidate, because)| would_end(look, candidate, because));
    let waiting = preview.waiting.iter().map(|(candidate, hold)| Waiting {
        deployment: named(candidate),
        team: named_team(look, &candidate.team),
        price_per_hour: Money(candidate.rate),
        reason: hold.to_string(),
        until: hold.until().map(At),
    });
    Ok(PolicyPreview {
        schema: SCHEMA,
        at: At(look.now),
        source: look.source,
        policy: policy(look, known),
        limits: limits(&look.view.policies.safety),
        // What no daemon sees nobody arms.
        code: match look.source {
            Source::Daemon => preview.code.to_string(),
            Source::Database => String::new(),
        },
        would_end: would_end.collect::<Result<_, _>>()?,
        waiting: waiting.collect(),
    })
}

fn limits(safety: &model::Safety) -> Limits {
    let model::Safety { max_per_hour, max_per_day, max_fleet_share_permille, .. } = *safety;
    Limits { max_per_hour, max_per_day, max_fleet_share_permille }
}

fn changed() -> Problem {
    Problem::new(503, "what runs or the configuration changed just now; ask again")
}

fn named(candidate: &Candidate) -> Named {
    Named { id: candidate.target.id.to_string(), name: candidate.name.to_string() }
}

fn would_end(look: Look<'_>, candidate: &Candidate, because: &str) -> Result<WouldEnd, Problem> {
    let tracked = look.view.snapshot.deployments.get(&candidate.target.id);
    let tracked = tracked.filter(|tracked| Target::of(&tracked.deployment) == candidate.target);
    let deployment = &tracked.ok_or_else(changed)?.deployment;
    Ok(WouldEnd {
        deployment: named(candidate),
        team: named_team(look, &candidate.team),
        gpu_type: deployment.gpu_type.to_string(),
        instance_type: deployment.instance_type.to_string(),
        price_per_hour: Money(candidate.rate),
        cost: Money(deployment.total_cost),
        because: because.to_owned(),
        volumes: volumes(look, &candidate.target),
        lost: lost(look, &candidate.target),
    })
}

/// Those that are attached, and stay.
fn volumes(look: Look<'_>, target: &Target) -> Vec<Named> {
    let attached = |tracked: &&Arc<TrackedVolume>| {
        let volume = &tracked.volume;
        tracked.gone_at.is_none()
            && volume.status == VolumeStatus::Attached
            && volume.attached_to.contains(&target.id)
    };
    let volumes = look.view.snapshot.volumes.values().filter(attached).map(|tracked| &tracked.volume);
    volumes.map(|volume| Named { id: volume.id.to_string(), name: volume.name.to_string() }).collect()
}

/// What ending it destroys, in words. Which volumes there are is unknown until somebody has read them.
pub fn lost(look: Look<'_>, target: &Target) -> String {
    let snapshot = &look.view.snapshot;
    let read = snapshot.feeds.get(&Feed::Volumes).is_some_and(|health| health.last_usable.is_some());
    match volumes(look, target).len() {
        0 if !read && snapshot.volumes.is_empty() => {
            "its disk with all that is on it; whether a volume is attached has not been read".to_owned()
        }
        0 => "its disk; no volume is attached: everything on it is lost".to_owned(),
        1 => "its disk; the volume that is attached stays, and goes on billing".to_owned(),
        count => format!("its disk; the {count} volumes that are attached stay, and go on billing"),
    }
}
