//! Rules: what people want to hear about, with parameters and matchers.
//!
//! It must never hold runtime state; that is an `AlertState`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Deployment, Severity, Usd, Volume};

/// A rule as the configuration or the defaults give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub name: Arc<str>,
    pub kind: RuleKind,
    pub severity: Severity,
    /// How long the condition must hold before it fires; zero fires at once.
    pub for_: Duration,
    /// How long it goes on firing after the condition has ceased.
    pub keep_firing_for: Duration,
    /// Empty matches everything.
    pub matcher: Matcher,
    /// Who is told; resolved by the configuration from rule, severity and `[notify]`. Never empty: the log at least.
    pub receivers: Vec<Route>,
    /// How often a firing alert reminds; `None` never.
    pub repeat_interval: Option<Duration>,
}

/// A receiver of a rule's notices, and whether it wants to hear of the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub receiver: Arc<str>,
    pub send_resolved: bool,
}

/// What fires a rule (PRODUCT §6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleKind {
    Balance {
        below: Usd,
        clear_above: Usd,
    },
    BalanceUnknown,
    RunningLong {
        longer_than: Duration,
    },
    SpotInterrupted,
    ProviderStopped,
    FleetShrunk,
    Blind {
        longer_than: Duration,
    },
    KeyRejected,
    ConfigInvalid,
    /// A receiver does not get what it should.
    DeliveryFailing,
    /// A policy requested an end that no read confirms.
    NotConfirmed,
    /// The database's file system has next to no room.
    DiskLow,
    /// Depletion within `below`, at the faster of committed and observed burn.
    Runway {
        below: Duration,
    },
    BurnRate {
        above: Usd,
    },
    /// Actual or forecast spend of the calendar period crosses `at` percents of `amount`.
    Budget {
        amount: Usd,
        period: Period,
        at: Vec<u16>,
    },
    Idle {
        longer_than: Duration,
    },
    Failed,
    Stuck {
        longer_than: Duration,
    },
    NewDeployment,
    UnattachedVolume {
        longer_than: Duration,
    },
    /// Used of size, in thousandths.
    VolumeFull {
        above_permille: u16,
    },
    RateChanged,
    Overpaying {
        percent: u16,
    },
    /// Per day.
    UnexplainedSpend {
        above: Usd,
    },
    BalanceJump,
}

/// A calendar period in the configured zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    Day,
    Week,
    Month,
}

impl RuleKind {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Balance { .. } => "balance",
            Self::BalanceUnknown => "balance_unknown",
            Self::RunningLong { .. } => "running_long",
            Self::SpotInterrupted => "spot_interrupted",
            Self::ProviderStopped => "provider_stopped",
            Self::FleetShrunk => "fleet_shrunk",
            Self::Blind { .. } => "blind",
            Self::KeyRejected => "key_rejected",
            Self::ConfigInvalid => "config_invalid",
            Self::DeliveryFailing => "delivery_failing",
            Self::NotConfirmed => "not_confirmed",
            Self::DiskLow => "disk_low",
            Self::Runway { .. } => "runway",
            Self::BurnRate { .. } => "burn_rate",
            Self::Budget { .. } => "budget",
            Self::Idle { .. } => "idle",
            Self::Failed => "failed",
            Self::Stuck { .. } => "stuck",
            Self::NewDeployment => "new_deployment",
            Self::UnattachedVolume { .. } => "unattached_volume",
            Self::VolumeFull { .. } => "volume_full",
            Self::RateChanged => "rate_changed",
            Self::Overpaying { .. } => "overpaying",
            Self::UnexplainedSpend { .. } => "unexplained_spend",
            Self::BalanceJump => "balance_jump",
        }
    }
}

impl RuleKind {
    /// Events are told once; everything else is a state that fires and resolves.
    pub fn is_event(&self) -> bool {
        match self {
            Self::SpotInterrupted
            | Self::Failed
            | Self::NewDeployment
            | Self::RateChanged
            | Self::BalanceJump => true,
            Self::Balance { .. }
            | Self::BalanceUnknown
            | Self::RunningLong { .. }
            | Self::ProviderStopped
            | Self::FleetShrunk
            | Self::Blind { .. }
            | Self::KeyRejected
            | Self::ConfigInvalid
            | Self::DeliveryFailing
            | Self::NotConfirmed
            | Self::DiskLow
            | Self::Runway { .. }
            | Self::BurnRate { .. }
            | Self::Budget { .. }
            | Self::Idle { .. }
            | Self::Stuck { .. }
            | Self::UnattachedVolume { .. }
            | Self::VolumeFull { .. }
            | Self::Overpaying { .. }
            | Self::UnexplainedSpend { .. } => false,
        }
    }
}

/// Keys AND, the globs of one key OR; compared case-insensitively. Empty matches everything (for rules).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matcher {
    pub globs: BTreeMap<MatchKey, Vec<Glob>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchKey {
    Name,
    Id,
    Team,
    GpuType,
    Provider,
    Region,
    InstanceType,
}

impl MatchKey {
    pub const ALL: [(&'static str, Self); 7] = [
        ("name", Self::Name),
        ("id", Self::Id),
        ("team", Self::Team),
        ("gpu_type", Self::GpuType),
        ("provider", Self::Provider),
        ("region", Self::Region),
        ("instance_type", Self::InstanceType),
    ];

    /// Whether any of these globs matches what the key is of a deployment.
    pub fn matches(self, globs: &[Glob], deployment: &Deployment, team_name: &str) -> bool {
        let any = |text: &str| globs.iter().any(|glob| glob.matches(text));
        match self {
            Self::Name => any(&deployment.name),
            Self::Id => any(deployment.id.as_str()),
            Self::Team => any(deployment.team.as_str()) || any(team_name),
            Self::GpuType => any(&deployment.gpu_type),
            Self::Provider => any(&deployment.provider),
            Self::Region => any(&deployment.region),
            Self::InstanceType => {
                any(deployment.instance_type.as_str())
                    || (deployment.instance_type.as_str() == "BARE_METAL" && any("CLUSTER"))
            }
        }
    }

    /// Whether the API said what the key is of a deployment. A team is called by its id until its name is read.
    pub fn is_known(self, deployment: &Deployment, team_name: &str) -> bool {
        let text = match self {
            Self::Name => &*deployment.name,
            Self::Id => deployment.id.as_str(),
            Self::Team if team_name == deployment.team.as_str() => "",
            Self::Team => team_name,
            Self::GpuType => &*deployment.gpu_type,
            Self::Provider => &*deployment.provider,
            Self::Region => &*deployment.region,
            Self::InstanceType => deployment.instance_type.as_str(),
        };
        !text.is_empty()
    }
}

impl Matcher {
    pub fn is_everything(&self) -> bool {
        self.globs.is_empty()
    }

    /// `team_name` beside the id: a team may be matched by either.
    pub fn matches_deployment(&self, deployment: &Deployment, team_name: &str) -> bool {
        self.globs.iter().all(|(key, globs)| key.matches(globs, deployment, team_name))
    }

    /// A volume has no GPU, region or type: what asks for one matches none.
    pub fn matches_volume(&self, volume: &Volume, team_name: &str) -> bool {
        self.globs.iter().all(|(key, globs)| {
            let any = |text: &str| globs.iter().any(|glob| glob.matches(text));
            match key {
                MatchKey::Name => any(&volume.name),
                MatchKey::Id => any(volume.id.as_str()),
                MatchKey::Team => any(volume.team.as_str()) || any(team_name),
                MatchKey::Provider => any(&volume.provider),
                MatchKey::GpuType | MatchKey::Region | MatchKey::InstanceType => false,
            }
        })
    }

    /// A rule about teams looks at its `team` key alone.
    pub fn matches_team(&self, id: &str, name: &str) -> bool {
        self.globs
            .get(&MatchKey::Team)
            .is_none_or(|globs| globs.iter().any(|g| g.matches(id) || g.matches(name)))
    }
}

/// `*` any run of characters, `?` one; the rest is literal, case ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<char>);

impl Glob {
    pub fn new(pattern: &str) -> Self {
        Self(pattern.chars().flat_map(char::to_lowercase).collect())
    }

    pub fn as_text(&self) -> String {
        self.0.iter().collect()
    }

    /// Without a wildcard it names one thing.
    pub fn is_literal(&self) -> bool {
        !self.0.iter().any(|c| matches!(c, '*' | '?'))
    }

    /// Linear in practice, quadratic at worst: it backtracks to the last `*` only.
    pub fn matches(&self, text: &str) -> bool {
        if self.0 == ['*'] {
            return true;
        }
        // Names are many and nearly all ASCII: those are read where they are.
        if text.is_ascii() {
            let bytes = text.as_bytes();
            return self.matches_chars(|at| bytes.get(at).map(|byte| char::from(byte.to_ascii_lowercase())));
        }
        let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
        self.matches_chars(|at| text.get(at).copied())
    }

    fn matches_chars(&self, text: impl Fn(usize) -> Option<char>) -> bool {
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while let Some(c) = text(t) {
            match self.0.get(p) {
                Some('*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(g) if *g == '?' || *g == c => {
                    p += 1;
                    t += 1;
                }
                Some(_) | None => match star {
                    Some((star_p, star_t)) => {
                        p = star_p + 1;
                        t = star_t + 1;
                        star = Some((star_p, t));
                    }
                    None => return false,
                },
            }
        }
        self.0.iter().skip(p).all(|c| *c == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_texts_and_ignore_case() {
        for (glob, text, expected) in [
            ("dev-*", "DEV-box", true),
            ("dev-*", "my-dev-box", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("tr?in", "train", true),
            ("tr?in", "trin", false),
            ("[x]", "[x]", true),
            ("prod*", "PRÖD", false),
            ("ÄB*", "äbc", true),
        ] {
            assert_eq!(Glob::new(glob).matches(text), expected, "{glob} on {text}");
        }
    }
}
