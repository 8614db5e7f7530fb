//! `silences`: what people do not want to hear of, until when, and who said so.
//!
//! It must never leave one out because it has ended: as long as it is remembered it is shown, with its state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{At, Look, Page, query::Slice};
use crate::model;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    pub id: String,
    /// `active`, `pending` or `ended`.
    pub state: String,
    pub matchers: BTreeMap<String, String>,
    pub starts: At,
    pub ends: At,
    pub author: String,
    pub comment: String,
}

pub fn list(look: Look<'_>, slice: Slice) -> Page<Silence> {
    let all = look.view.snapshot.silences.values().collect();
    Page::new(look, slice, all, |kept| silence(look, kept))
}

pub fn silence(look: Look<'_>, silence: &model::Silence) -> Silence {
    let state = match (silence.is_active(look.now), look.now < silence.starts) {
        (true, _) => "active",
        (false, true) => "pending",
        (false, false) => "ended",
    };
    let matchers = silence.matchers.iter();
    Silence {
        id: silence.id.to_string(),
        state: state.to_owned(),
        matchers: matchers.map(|(key, glob)| (key.to_string(), glob.to_string())).collect(),
        starts: At(silence.starts),
        ends: At(silence.ends),
        author: silence.author.to_string(),
        comment: silence.comment.to_string(),
    }
}
