//! `keeps`: which deployments people do not want ended, until when, and who said so.
//!
//! It must never leave one out because it is over: as long as it is remembered it is shown, with its state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{At, Look, Money, Named, Page, query::Slice};
use crate::model::{self, StageName, Target};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    pub id: String,
    /// `active` or `ended`.
    pub state: String,
    /// By its id, and the name under which it is known now; empty where it is not known any more.
    pub deployment: Named,
    /// `null`: forever.
    pub until: Option<At>,
    pub by: String,
    pub reason: String,
    pub at: At,
    /// What it goes on costing; `null` where it does not run.
    #[serde(default)]
    pub price_per_hour: Option<Money>,
    /// What it cannot stop any more, and what happens now; `null` where it holds whole.
    #[serde(default)]
    pub warning: Option<String>,
}

/// What `POST keeps` takes: an end, a length, or `forever`; exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKeep {
    /// An id or a name, or the beginning of one that is the only such.
    pub deployment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<At>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_secs: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forever: bool,
    #[serde(default)]
    pub by: String,
    #[serde(default)]
    pub reason: String,
}

pub fn list(look: Look<'_>, slice: Slice) -> Page<Keep> {
    let late = late(look);
    let all = look.view.snapshot.keeps.values().collect();
    Page::new(look, slice, all, |kept| keep(look, kept, &late))
}

/// The deployments that a keep comes too late for, and why.
pub type Late<'a> = BTreeMap<&'a Target, &'static str>;

pub fn late(look: Look<'_>) -> Late<'_> {
    let under_way = |stage: StageName| {
        matches!(stage, StageName::Requested | StageName::Verifying | StageName::InDoubt | StageName::Gone)
    };
    let actions = look.view.actions.iter().filter(|action| under_way(action.stage.name()));
    actions.filter_map(|action| Some((&action.target, action.stage.name().too_late()?))).collect()
}

pub fn keep(look: Look<'_>, keep: &model::Keep, late: &Late<'_>) -> Keep {
    let tracked = look.view.snapshot.deployments.get(&keep.target.id);
    let same = tracked.filter(|tracked| model::Target::of(&tracked.deployment) == keep.target);
    let holds = keep.holds(look.now);
    Keep {
        id: keep.id.to_string(),
        state: if holds { "active" } else { "ended" }.to_owned(),
        deployment: Named {
            id: keep.target.id.to_string(),
            name: same.map(|tracked| tracked.deployment.name.to_string()).unwrap_or_default(),
        },
        until: keep.until.map(At),
        by: keep.by.to_string(),
        reason: keep.reason.to_string(),
        at: At(keep.at),
        price_per_hour: same
            .filter(|tracked| tracked.is_live())
            .map(|tracked| Money(tracked.deployment.hourly_rate)),
        warning: late.get(&keep.target).filter(|_| holds).map(|&why| why.to_owned()),
    }
}
