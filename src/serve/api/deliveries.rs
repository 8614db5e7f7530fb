//! `deliveries`: what was told to whom, what waits for its turn, and what the receivers said.
//!
//! It must never show a receiver's address, nor the text of a notice beyond its title.

use serde::{Deserialize, Serialize};

use super::{About, At, Look, Problem, Source, alerts::about, query::Query, values::SCHEMA};
use crate::model::{DeliveriesAsk, Dispatch, Progress, Severity, Transition};

/// A part of the list, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliveries {
    pub schema: u32,
    pub at: At,
    pub source: Source,
    pub limit: u32,
    /// The `before` of the next part; `null` after the last.
    pub next_before: Option<i64>,
    pub items: Vec<Delivery>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Grows with each row; the rows of a receiver are tried in this order.
    pub number: i64,
    pub receiver: String,
    /// The same at every receiver and attempt; `webhook-id` of a webhook.
    pub event: String,
    pub rule: String,
    pub subject: About,
    pub transition: Transition,
    pub severity: Severity,
    pub title: String,
    /// `waiting`, `sending`, `delivered` or `dead`.
    pub state: Progress,
    /// Those that ended; one under way is not counted.
    pub attempts: u32,
    pub created: At,
    /// It is not tried before that; `null` unless it waits.
    pub next: Option<At>,
    pub ended: Option<At>,
    pub last_attempt: Option<Attempt>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: At,
    /// What came of it, in words.
    pub said: String,
}

pub fn list(look: Look<'_>, query: &Query<'_>) -> Result<Deliveries, Problem> {
    let (before, limit) = query.backwards(&["receiver", "state"])?;
    let progress = query.text("state").map(progress).transpose()?;
    let receiver = query.text("receiver").map(str::to_owned);
    // One more tells whether there are any.
    let ask = DeliveriesAsk { before, limit: limit.saturating_add(1), receiver, progress };
    let mut found = look.records()?.deliveries(&ask)?;
    let kept = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > kept;
    found.truncate(kept);
    Ok(Deliveries {
        schema: SCHEMA,
        at: At(look.now),
        source: look.source,
        limit,
        next_before: found.last().filter(|_| more).map(|last| last.seq),
        items: found.into_iter().map(|dispatch| delivery(look, dispatch)).collect(),
    })
}

fn progress(text: &str) -> Result<Progress, Problem> {
    match text {
        "waiting" => Ok(Progress::Waiting),
        "sending" => Ok(Progress::Sending),
        "delivered" => Ok(Progress::Delivered),
        "dead" => Ok(Progress::Dead),
        _ => Err(Problem::new(400, "`state` is `waiting`, `sending`, `delivered` or `dead`")),
    }
}

fn delivery(look: Look<'_>, dispatch: Dispatch) -> Delivery {
    let told = dispatch.told;
    Delivery {
        number: dispatch.seq,
        receiver: dispatch.receiver.to_string(),
        event: told.id.to_string(),
        rule: told.key.rule.to_string(),
        subject: about(look, &told.key.subject),
        transition: told.transition,
        severity: told.severity,
        title: told.title,
        state: dispatch.progress,
        attempts: dispatch.attempts,
        created: At(dispatch.created),
        next: dispatch.next.map(At),
        ended: dispatch.ended.map(At),
        last_attempt: dispatch.last.map(|(at, said)| Attempt { at: At(at), said: said.to_string() }),
    }
}
