//! `actions`: each decision to end a deployment, where it stands, what is next and how to stop it; of one also every step it took.
//!
//! It must never say that something is gone before reads have shown it.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    At, Candidate, Look, Money, Named, Next, Page, Problem, Source, deployments::named_team, query::Slice,
    values::SCHEMA,
};
use crate::model::{self, Stage, StageName, View};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub id: String,
    pub policy: String,
    /// As it was announced.
    pub deployment: Named,
    pub team: Named,
    pub price_per_hour: Money,
    /// `withheld`, `marked`, `announced`, `final read`, `can-terminate`, `committing`, `requested`, `verifying`, `in doubt`,
    /// `gone`, `refused`, `expired` or `cancelled`.
    pub state: String,
    pub marked: At,
    /// Not ended before, once it is announced.
    pub not_before: Option<At>,
    pub closed: Option<At>,
    pub next: Option<Next>,
    /// A person can still stop it.
    pub stoppable: bool,
    /// Why it is too late to stop it, and what happens now; `null` while it can be stopped.
    pub too_late: Option<String>,
    /// What it would have cost since it is gone; `null` unless it is.
    pub saved: Option<Money>,
}

/// `actions/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionHistory {
    pub schema: u32,
    pub at: At,
    pub source: Source,
    pub action: Action,
    /// Oldest first, as the append-only table has them.
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub at: At,
    /// `null`: it began.
    pub from: Option<String>,
    pub to: String,
    pub reason: String,
}

/// A closed one is listed for so long by itself.
const LISTED: Duration = Duration::from_secs(24 * 3_600);
const CANDIDATES_MAX: usize = 20;

/// The newest first. `all`: also those that only the database remembers.
pub fn list(look: Look<'_>, slice: Slice, all: bool) -> Result<Page<Action>, Problem> {
    let stored = if all { look.records()?.actions("")? } else { Vec::new() };
    let lately = |action: &&model::Action| {
        action.stage.closed_at().is_none_or(|at| all || look.now.since(at) <= LISTED)
    };
    // What the view has is newer.
    let known = stored.iter().chain(look.view.actions.iter()).filter(lately);
    let known: BTreeMap<_, _> = known.map(|action| (&action.id, action)).collect();
    let mut actions: Vec<&model::Action> = known.into_values().collect();
    actions.sort_by_key(|action| (Reverse(action.marked), &action.id));
    Ok(Page::new(look, slice, actions, |found| action(look, found)))
}

/// By its id, or the beginning of one that is the only such.
pub fn history(look: Look<'_>, text: &str) -> Result<ActionHistory, Problem> {
    let records = look.records()?;
    let begins = beginning(text)?;
    let stored = records.actions(&begins)?;
    let found = one(stored.iter().chain(look.view.actions.iter()), &begins)?;
    let step = |shift: model::Shift| Step {
        at: At(shift.at),
        from: shift.from.map(|stage| stage.as_str().to_owned()),
        to: shift.to.as_str().to_owned(),
        reason: shift.reason.to_string(),
    };
    Ok(ActionHistory {
        schema: SCHEMA,
        at: At(look.now),
        source: look.source,
        action: action(look, found),
        steps: records.shifts(&found.id)?.into_iter().map(step).collect(),
    })
}

/// Of those that the view remembers.
pub fn find<'a>(view: &'a View, text: &str) -> Result<&'a model::Action, Problem> {
    one(view.actions.iter(), &beginning(text)?)
}

/// `act_` may be left out.
fn beginning(text: &str) -> Result<String, Problem> {
    let begins = if text.starts_with("act_") { text.to_owned() } else { format!("act_{text}") };
    // Nothing, and the beginning of all, name none.
    if begins == "act_" { Err(unknown()) } else { Ok(begins) }
}

fn unknown() -> Problem {
    Problem::new(404, "no action has this id, or one that begins so; `actions` lists all")
}

/// The last of several with one id.
fn one<'a>(all: impl Iterator<Item = &'a model::Action>, begins: &str) -> Result<&'a model::Action, Problem> {
    let those = all.filter(|action| action.id.as_str().starts_with(begins));
    let those: BTreeMap<_, _> = those.map(|action| (&action.id, action)).collect();
    let exact = those.values().find(|action| action.id.as_str() == begins);
    match (exact, those.values().next(), those.len()) {
        (Some(found), ..) | (None, Some(found), 1) => Ok(found),
        (None, None, _) => Err(unknown()),
        (None, Some(_), count) => {
            let candidates = those.values().take(CANDIDATES_MAX).map(|action| Candidate {
                id: action.id.to_string(),
                name: action.name.to_string(),
                status: action.stage.name().as_str().to_owned(),
            });
            let detail = format!("{count} actions may be meant; give more of the id of one");
            Err(Problem { candidates: candidates.collect(), ..Problem::new(409, detail) })
        }
    }
}

pub fn action(look: Look<'_>, action: &model::Action) -> Action {
    let stage = action.stage.name();
    Action {
        id: action.id.to_string(),
        policy: action.policy.to_string(),
        deployment: Named { id: action.target.id.to_string(), name: action.name.to_string() },
        team: named_team(look, &action.team),
        price_per_hour: Money(action.rate),
        state: stage.as_str().to_owned(),
        marked: At(action.marked),
        not_before: action.stage.slot().map(|slot| At(slot.at)),
        closed: action.stage.closed_at().map(At),
        next: next(look, action),
        stoppable: stage.cancellable().is_ok(),
        too_late: stage.too_late().map(str::to_owned),
        saved: (stage == StageName::Gone).then(|| Money(action.saved(look.now))),
    }
}

/// What comes by itself if nothing changes; what is due is so now.
pub fn next(look: Look<'_>, action: &model::Action) -> Option<Next> {
    let (at, what) = match &action.stage {
        Stage::Withheld { .. } | Stage::Marked { .. } | Stage::Gone { .. } | Stage::Expired { .. } => {
            return None;
        }
        Stage::Announced { next, .. } => (*next, "ends it, if every gate is open then"),
        Stage::Reading { .. } | Stage::Checking { .. } | Stage::Committing { .. } => {
            (look.now, "ends it, if what is read now agrees")
        }
        Stage::Requested { .. } => (look.now, "asked to end it; the answer decides what is read next"),
        Stage::Verifying { proof } | Stage::InDoubt { proof, .. } => (proof.next, "reads what became of it"),
        Stage::Refused { rest, .. } if *rest > look.now => (*rest, "may announce it again"),
        Stage::Cancelled { rest: Some(rest), .. } if *rest > look.now => (*rest, "may announce it again"),
        Stage::Refused { .. } | Stage::Cancelled { .. } => return None,
    };
    let what = format!("policy {} {what}", action.policy);
    Some(Next { at: At(at.max(look.now)), what })
}
