//! Silences: what a person does not want to hear of for a while, and why.
//!
//! It must never make an alert untrue: a silenced alert fires, it is just not told.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Time;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    pub id: Arc<str>,
    /// Keys AND; each a glob over `rule`, `kind`, `severity`, `team`, `name`, `id` of the alert. Never empty.
    pub matchers: BTreeMap<Arc<str>, Arc<str>>,
    pub starts: Time,
    pub ends: Time,
    pub author: Arc<str>,
    pub comment: Arc<str>,
}

impl Silence {
    pub fn is_active(&self, now: Time) -> bool {
        self.starts <= now && now < self.ends
    }
}
