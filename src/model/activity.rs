//! Evidence that a GPU works: measured busy, measured idle, or unknown. Unknown counts as busy.
//!
//! It must never take the absence of evidence for idleness (FAULTS 72).

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{DeploymentId, Matcher, Presence, Status, Time, Tracked};

/// What one source said of one deployment at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivitySample {
    pub deployment: DeploymentId,
    /// The `[[activity]]` entry's name.
    pub source: Arc<str>,
    pub at: Time,
    /// How often this source speaks; a gap beyond 2.5 of it restarts the window.
    pub every: Duration,
    pub reading: Reading,
    /// The busiest GPU, in thousandths, where it was measured.
    pub utilization_permille: Option<u16>,
    /// Under which settings of the source it was said: [`ActivitySource::settings`].
    pub settings: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    Busy,
    Idle,
    /// Why it could not be told, for people.
    Unknown(Arc<str>),
}

/// One source's unbroken word on one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceActivity {
    pub last: Time,
    pub every: Duration,
    pub reading: Reading,
    /// Since when this source has said idle at every poll without a gap; `None` while it says otherwise, or after a leap in time.
    pub idle_since: Option<Time>,
    pub utilization_permille: Option<u16>,
}

impl SourceActivity {
    /// Whether its last word still holds: nobody fell silent, and no clock was set.
    pub fn is_fresh(&self, now: Time) -> bool {
        now.since(self.last).max(self.last.since(now)) <= longest_gap(self.every)
    }
}

/// What all sources of one deployment say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    Busy,
    /// Every source measured it idle, without a gap, from `since` to `until`.
    Idle {
        since: Time,
        until: Time,
    },
    /// Nobody measures it, or not everybody of late. It counts as busy.
    Unknown,
}

impl Activity {
    /// One source that is busy proves work; idleness takes all of them, each by a word that still holds.
    pub fn of<'a>(sources: impl IntoIterator<Item = &'a SourceActivity>, now: Time) -> Self {
        let mut together = None;
        let mut unknown = false;
        for source in sources {
            match (&source.reading, source.idle_since) {
                _ if !source.is_fresh(now) => unknown = true,
                (Reading::Busy, _) => return Self::Busy,
                (Reading::Idle, Some(since)) => {
                    let (latest, earliest) = together.unwrap_or((since, source.last));
                    together = Some((since.max(latest), source.last.min(earliest)));
                }
                (Reading::Idle, None) | (Reading::Unknown(_), _) => unknown = true,
            }
        }
        match together {
            Some((since, until)) if !unknown => Self::Idle { since, until },
            Some(_) | None => Self::Unknown,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Idle { .. } => "idle",
            Self::Unknown => "unknown",
        }
    }
}

/// The command that `ssh` sources run unless told otherwise: a line for each GPU, its load in percent.
pub const NVIDIA_SMI: &str = "nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits";

/// Longer silence than this is a gap (FAULTS 50).
pub fn longest_gap(every: Duration) -> Duration {
    every.saturating_mul(5) / 2
}

/// An `[[activity]]` entry, as far as evidence must be kept for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivitySource {
    pub name: Arc<str>,
    pub every: Duration,
    pub matcher: Matcher,
    /// It can show that a GPU works, but not that it is idle; while it shows nothing it does not count.
    pub only_busy: bool,
    /// All that was configured, as text: evidence that came about under other settings is none.
    pub settings: Arc<str>,
}

impl ActivitySource {
    /// Only what runs can be measured.
    pub fn watches(&self, tracked: &Tracked, team_name: &str) -> bool {
        let there = match tracked.presence {
            Presence::Listed | Presence::Missing { .. } => true,
            Presence::Gone(_) => false,
        };
        there
            && tracked.deployment.status == Status::Running
            && self.matcher.matches_deployment(&tracked.deployment, team_name)
    }
}

/// What a metric counts in, where its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// 0 to 100.
    Percent,
    /// 0 to 1.
    Ratio,
    /// Anything from 0 up.
    Other,
}

impl Unit {
    pub fn of_metric(name: &str) -> Self {
        match name {
            "DCGM_FI_DEV_GPU_UTIL" | "DCGM_FI_DEV_MEM_COPY_UTIL" => Self::Percent,
            _ if name.ends_with("_percent") => Self::Percent,
            _ if name.ends_with("_ratio")
                || name.starts_with("DCGM_FI_PROF_") && name.ends_with("_ACTIVE") =>
            {
                Self::Ratio
            }
            _ => Self::Other,
        }
    }

    /// The largest value that can be one.
    pub fn largest(self) -> f64 {
        match self {
            Self::Percent => 100.0,
            Self::Ratio => 1.0,
            Self::Other => f64::MAX,
        }
    }

    /// Above what a GPU counts as busy unless the configuration says; a threshold for an unknown unit is nobody's guess.
    pub fn busy_above(self) -> Option<f64> {
        match self {
            Self::Percent => Some(5.0),
            Self::Ratio => Some(0.05),
            Self::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(1_800_000_000);

    fn ago(secs: u64) -> Time {
        NOW.minus(Duration::from_secs(secs))
    }

    fn said(reading: Reading, last: Time, idle_since: Option<Time>) -> SourceActivity {
        let every = Duration::from_secs(60);
        SourceActivity { last, every, reading, idle_since, utilization_permille: None }
    }

    #[test]
    fn fault_72_all_sources_together_are_idle_only_where_each_is_and_of_late() {
        let idle = |since: u64, last: u64| said(Reading::Idle, ago(last), Some(ago(since)));
        let busy = |last: u64| said(Reading::Busy, ago(last), None);
        let unknown = said(Reading::Unknown("it does not answer".into()), ago(0), None);
        let leapt = said(Reading::Idle, ago(0), None);
        let ahead = said(Reading::Idle, NOW.plus(Duration::from_secs(151)), Some(ago(900)));
        let both = Activity::Idle { since: ago(600), until: ago(90) };
        for (name, sources, expected) in [
            ("nobody", vec![], Activity::Unknown),
            ("one", vec![idle(900, 30)], Activity::Idle { since: ago(900), until: ago(30) }),
            ("both idle, the shorter span counts", vec![idle(900, 90), idle(600, 30)], both),
            ("one busy", vec![idle(900, 30), busy(30)], Activity::Busy),
            ("one unknown", vec![idle(900, 30), unknown.clone()], Activity::Unknown),
            ("one unknown, one busy", vec![unknown, busy(30)], Activity::Busy),
            ("one fell silent", vec![idle(900, 30), idle(900, 151)], Activity::Unknown),
            ("busy long ago", vec![idle(900, 30), busy(151)], Activity::Unknown),
            ("after a leap in time", vec![leapt], Activity::Unknown),
            ("from a clock ahead", vec![ahead], Activity::Unknown),
        ] {
            assert_eq!(Activity::of(&sources, NOW), expected, "{name}");
        }
    }
}
