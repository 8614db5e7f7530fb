//! A notice on its way to one receiver, and what came of each attempt.
//!
//! It must never hold a receiver's address or secret: rows carry its name.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{AlertKey, EventId, Notice, Severity, Time, Transition};

/// The receiver that always exists. What it takes nobody may have read.
pub const LOG: &str = "log";

/// One row of the outbox: one notice for one receiver. `seq` orders the rows of a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    pub seq: i64,
    pub receiver: Arc<str>,
    pub notice: Notice,
    /// Attempts made so far, this one not counted.
    pub attempts: u32,
    pub created: Time,
}

/// What a receiver made of one attempt. `detail` and `why` are for people and hold no URL or secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    Delivered {
        detail: String,
    },
    /// Try again, not before `after` if the other side said so.
    Retry {
        why: String,
        after: Option<Duration>,
    },
    /// Final: a dead letter. `disable` (410): send nothing more to this receiver.
    Rejected {
        why: String,
        disable: bool,
    },
}

/// How an attempt is entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Receipt {
    Delivered { detail: String },
    Retry { why: String, next: Time },
    Dead { why: String },
}

/// What the receivers took, as policies need to know it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Who took the announcement of which open action, and when; the log too.
    pub told: BTreeMap<EventId, BTreeMap<Arc<str>, Time>>,
    /// When each receiver last took anything.
    pub confirmed: BTreeMap<Arc<str>, Time>,
}

/// Where a notice for one receiver stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    Waiting,
    /// An attempt is under way.
    Sending,
    Delivered,
    /// A dead letter.
    Dead,
}

/// Which rows of the outbox somebody wants to see: the newest ones below a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveriesAsk {
    /// Rows of this `seq` and newer ones are left out.
    pub before: i64,
    pub limit: u32,
    pub receiver: Option<String>,
    pub progress: Option<Progress>,
}

/// A row of the outbox as people look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    pub seq: i64,
    pub receiver: Arc<str>,
    pub told: Told,
    pub progress: Progress,
    pub attempts: u32,
    pub created: Time,
    /// Not tried before that; `None` unless it waits.
    pub next: Option<Time>,
    pub ended: Option<Time>,
    /// When the last attempt was entered, and what came of it.
    pub last: Option<(Time, Arc<str>)>,
}

/// Of a notice what names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Told {
    pub id: EventId,
    pub key: AlertKey,
    pub transition: Transition,
    pub severity: Severity,
    pub title: String,
}
