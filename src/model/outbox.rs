//! A notice on its way to one receiver, and what came of each attempt.
//!
//! It must never hold a receiver's address or secret: rows carry its name.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Notice, Time};

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
