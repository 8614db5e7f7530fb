//! `policies`: what each may end, when, and whether it is armed; of one also what it would end now, and the code to arm that.
//!
//! It must never judge anew: it says what the engine says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{At, Money, Named, Source};

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
    /// What it has ended, of what is remembered.
    pub ended: usize,
    /// By what it has ended, of what is remembered; see `docs/policies.md` for how it is counted.
    pub saved: Money,
}

/// `policies/{name}`: the policy, and what arming it would mean now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyPreview {
    pub schema: u32,
    pub at: At,
    pub source: Source,
    pub policy: Policy,
    /// Stands for the policy and both lists: who repeats it has seen them. Empty where no daemon runs.
    pub code: String,
    pub would_end: Vec<WouldEnd>,
    /// What it matches besides, and why that would not end now.
    pub waiting: Vec<Waiting>,
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
