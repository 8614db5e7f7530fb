//! `keeps`: which deployments people do not want ended, until when, and who said so.
//!
//! It must never leave one out because it is over: as long as it is remembered it is shown, with its state.

use serde::{Deserialize, Serialize};

use super::{At, Look, Named, Page, query::Slice};
use crate::model;

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
    let all = look.view.snapshot.keeps.values().collect();
    Page::new(look, slice, all, |kept| keep(look, kept))
}

pub fn keep(look: Look<'_>, keep: &model::Keep) -> Keep {
    let tracked = look.view.snapshot.deployments.get(&keep.target.id);
    let same = tracked.filter(|tracked| model::Target::of(&tracked.deployment) == keep.target);
    Keep {
        id: keep.id.to_string(),
        state: if keep.holds(look.now) { "active" } else { "ended" }.to_owned(),
        deployment: Named {
            id: keep.target.id.to_string(),
            name: same.map(|tracked| tracked.deployment.name.to_string()).unwrap_or_default(),
        },
        until: keep.until.map(At),
        by: keep.by.to_string(),
        reason: keep.reason.to_string(),
        at: At(keep.at),
    }
}
