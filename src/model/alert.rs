//! Alerts: one per rule and subject, their life, and the notices that tell of it.
//!
//! It must never hold anything random: ids derive from (rule, subject, episode), so a retry and a replay say the same.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ActionId, DeploymentId, Target, TeamId, Time, VolumeId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an alert is about. A deployment's identity is (id, createdAt): an id that comes back is another subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Subject {
    Account,
    Team {
        id: TeamId,
    },
    Deployment {
        id: DeploymentId,
        created_at: Time,
    },
    Volume {
        id: VolumeId,
    },
    /// Something of a team that is told once each time it happens, and forgotten when it has passed.
    Occasion {
        team: TeamId,
        at: Time,
        mark: Mark,
    },
}

/// What an occasion is. Its time is the beginning of the budget's period, or when the balance changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// So many percents of a budget are spent.
    Spent(u16),
    /// So many percents of a budget will be spent.
    Forecast(u16),
    /// The balance changed.
    Balance,
}

impl Subject {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Team { .. } | Self::Occasion { .. } => "team",
            Self::Deployment { .. } => "deployment",
            Self::Volume { .. } => "volume",
        }
    }
}

/// `account`, `team/ID`, `deployment/ID@CREATED_MS`, `volume/ID`, `occasion/TEAM@MS:MARK`: the key in the database and in ids.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => f.write_str("account"),
            Self::Team { id } => write!(f, "team/{id}"),
            Self::Deployment { id, created_at } => write!(f, "deployment/{id}@{}", created_at.millis()),
            Self::Volume { id } => write!(f, "volume/{id}"),
            Self::Occasion { team, at, mark } => {
                write!(f, "occasion/{team}@{}:", at.millis())?;
                match mark {
                    Mark::Spent(percent) => write!(f, "spent-{percent}"),
                    Mark::Forecast(percent) => write!(f, "forecast-{percent}"),
                    Mark::Balance => f.write_str("balance"),
                }
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertKey {
    pub rule: Arc<str>,
    pub subject: Subject,
}

impl AlertKey {
    /// Notices of one alert go out in order.
    pub fn lane(&self) -> Arc<str> {
        format!("{} {}", self.rule, self.subject).into()
    }
}

/// The life of an alert. Absent from the engine's state means inactive. An episode is identified by when it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum AlertState {
    /// The condition holds, `for` has not passed yet.
    Pending {
        since: Time,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fired: Vec<Time>,
    },
    /// `told` is when it was last told or given to a group to tell; `None`: a silence or an inhibition keeps it from people.
    /// `cleared` is since when the condition has ceased (`keep_firing_for`). `fired` is when it began to fire the last
    /// times, this one included, as far as flapping is judged by it.
    Firing {
        since: Time,
        told: Option<Time>,
        cleared: Option<Time>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fired: Vec<Time>,
    },
    /// The event that was seen then was told once; never repeated, never resolved.
    Told { at: Time },
    /// Inactive, but it fired so lately that the next time may be flapping.
    Quiet { fired: Vec<Time> },
}

impl AlertState {
    pub fn is_firing(&self) -> bool {
        match self {
            Self::Firing { .. } => true,
            Self::Pending { .. } | Self::Told { .. } | Self::Quiet { .. } => false,
        }
    }

    /// It does not fire, but it may soon, or did lately.
    pub fn is_latent(&self) -> bool {
        match self {
            Self::Pending { .. } | Self::Quiet { .. } => true,
            Self::Firing { .. } | Self::Told { .. } => false,
        }
    }
}

/// So many beginnings …
pub const FLAPS: usize = 3;
/// … within so long is flapping.
pub const FLAPS_WITHIN: Duration = Duration::from_secs(3_600);

/// The last beginnings came within an hour of each other, and the last of them was not long ago.
pub fn flaps(fired: &[Time], at: Time) -> bool {
    match fired {
        [first, .., last] if fired.len() >= FLAPS => {
            last.since(*first) <= FLAPS_WITHIN && at.since(*last) <= FLAPS_WITHIN
        }
        _ => false,
    }
}

/// The constant id of one notice: the same at every retry and at every receiver. `evt_` + 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Arc<str>);

impl EventId {
    /// `since` is when the episode began; `nth` tells its reminders apart.
    pub fn derive(key: &AlertKey, since: Time, transition: Transition, nth: i64) -> Self {
        let text =
            format!("{}\0{}\0{}\0{}\0{nth}", key.rule, key.subject, since.millis(), transition.as_str());
        Self::hashed(&text)
    }

    /// Of a notice that tells one receiver of several.
    pub fn of_group<'a>(receiver: &str, members: impl Iterator<Item = &'a Self>) -> Self {
        let mut text = receiver.to_owned();
        for member in members {
            text.push('\0');
            text.push_str(member.as_str());
        }
        Self::hashed(&text)
    }

    fn hashed(text: &str) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self(format!("evt_{hex}").into())
    }

    pub fn from_text(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transition {
    Firing,
    /// Still firing, told again after `repeat_interval`.
    Reminder,
    Resolved,
    /// Something that happened; it neither repeats nor resolves.
    Event,
    /// Asked for by `test-notify`.
    Test,
}

impl Transition {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Reminder => "reminder",
            Self::Resolved => "resolved",
            Self::Event => "event",
            Self::Test => "test",
        }
    }
}

/// One thing to tell, complete in itself: a receiver is rendered from it and nothing else. Texts may be hostile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub id: EventId,
    pub key: AlertKey,
    /// The rule's kind, e.g. `running_long`.
    pub kind: Arc<str>,
    pub transition: Transition,
    pub severity: Severity,
    /// Without severity prefix: `low balance: research has $8.20 left`.
    pub title: String,
    /// Why, with figures, in full sentences.
    pub reason: String,
    /// What the reader can do now.
    pub advice: String,
    /// Name → value pairs shown as a table, in order: team, deployment, rate, cost, …
    pub details: Vec<(Arc<str>, String)>,
    /// Figures that have a limit, to be drawn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bars: Vec<Bar>,
    /// When the episode began.
    pub since: Time,
    /// When this notice was decided.
    pub at: Time,
    pub receivers: Vec<Arc<str>>,
    #[serde(default)]
    pub together: Together,
    /// The reader may keep what this tells of: who sends it makes a signed link of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// The signed link, made for one send; it is a secret, and is never stored nor logged.
    #[serde(skip)]
    pub link: Option<Arc<str>>,
}

/// What a signed link lets its bearer do: keep this deployment, for no longer than `[safety] keep_max`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub action: ActionId,
    pub target: Target,
    /// After this the link does nothing.
    pub expires: Time,
}

/// Makes the link of a grant; the same each time, so that a notice that is sent again says the same.
pub trait Links: Send + Sync + fmt::Debug {
    /// `None`: there is no address under which people reach us.
    fn keep(&self, grant: &Grant) -> Option<Arc<str>>;
}

/// How far a figure is towards its limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    pub label: Arc<str>,
    /// In thousandths of the limit; beyond 1,000 the bar is full.
    pub permille: u32,
    /// The figure in words, complete without the bar: `$8.20 of $10.00`.
    pub text: String,
}

/// What a notice has to do with other alerts. Empty for one that is told by itself and at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Together {
    /// A group or digest: the alerts it tells of, each complete, none a group itself.
    pub members: Vec<Notice>,
    /// How many more it tells of without naming them.
    pub more: u32,
    /// Of those the ones that are over, with when they began, as many as is reasonable: who keeps something open for each
    /// alert must close it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<(AlertKey, Time)>,
    /// What it must not overtake at a receiver, nor be overtaken by; empty: earlier notices of its own alert. Rows of their own
    /// in the outbox, so no part of the text.
    #[serde(skip)]
    pub lanes: Vec<Arc<str>>,
}

impl Notice {
    /// Every lane that it stands in. A notice never overtakes an earlier one of the same lane.
    pub fn lanes(&self) -> Vec<Arc<str>> {
        if self.together.lanes.is_empty() { vec![self.key.lane()] } else { self.together.lanes.clone() }
    }
}
