//! Groups: transitions of one receiver that belong together wait here and are told in one notice.
//!
//! It must never hold words, only what there is to tell: a flush composes them, so that ten thousand alerts stay small.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{AlertKey, Time, Transition};

/// What an alert can be grouped and silenced by. `Id` is that of the deployment, volume or team.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    Rule,
    Kind,
    Severity,
    Team,
    Name,
    Id,
    GpuType,
    Provider,
    Region,
    InstanceType,
}

impl Label {
    pub const ALL: [Self; 10] = [
        Self::Rule,
        Self::Kind,
        Self::Severity,
        Self::Team,
        Self::Name,
        Self::Id,
        Self::GpuType,
        Self::Provider,
        Self::Region,
        Self::InstanceType,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Kind => "kind",
            Self::Severity => "severity",
            Self::Team => "team",
            Self::Name => "name",
            Self::Id => "id",
            Self::GpuType => "gpu_type",
            Self::Provider => "provider",
            Self::Region => "region",
            Self::InstanceType => "instance_type",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|label| label.as_str() == text)
    }
}

/// `[notify] group_by, group_wait, group_interval`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    /// Alerts of one receiver that agree in all of these are one group; none: all of them are.
    pub by: Vec<Label>,
    /// How long a new group gathers before it is told.
    pub wait: Duration,
    /// How long after a flush the same group waits with what came later.
    pub interval: Duration,
}

impl Default for Grouping {
    fn default() -> Self {
        Self {
            by: vec![Label::Rule, Label::Team],
            wait: Duration::from_secs(30),
            interval: Duration::from_secs(300),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    pub receiver: Arc<str>,
    /// `rule="running-long" team="t1"`: the values by which it is grouped.
    pub labels: Arc<str>,
}

/// One group of one receiver. Absent: nothing waits and none was told lately.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
pub struct Group {
    /// When it was last told.
    pub flushed: Option<Time>,
    /// What waits, one transition per alert.
    pub waiting: BTreeMap<AlertKey, Entry>,
}

/// One transition to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub key: AlertKey,
    pub transition: Transition,
    /// When the episode began.
    pub since: Time,
    /// Tells reminders of one episode apart.
    pub nth: i64,
    /// When it was decided.
    pub at: Time,
    /// When the group is to be told of it.
    pub due: Time,
    /// It fires and ceases so often that its end is held back.
    #[serde(default)]
    pub flapping: bool,
}

/// How a group is written: JSON knows only texts as keys.
#[derive(Serialize, Deserialize)]
struct Row {
    flushed: Option<Time>,
    waiting: Vec<Entry>,
}

impl From<Row> for Group {
    fn from(row: Row) -> Self {
        let waiting = row.waiting.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        Self { flushed: row.flushed, waiting }
    }
}

impl From<Group> for Row {
    fn from(group: Group) -> Self {
        Self { flushed: group.flushed, waiting: group.waiting.into_values().collect() }
    }
}
