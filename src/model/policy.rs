//! Policies: which deployments may be ended, when, and within which limits; and arming, which decides over them.
//!
//! It must never match by default: an empty selector matches nothing, and a policy that was not armed as it stands is a dry run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    ActivitySource, Deployment, Glob, Hold, Hours, MatchKey, Matcher, Target, TeamId, Time, Usd, humanize,
};

/// A `[[policy]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub name: Arc<str>,
    /// Empty matches nothing, unlike a rule's.
    pub matching: Matcher,
    /// All must hold; none: never.
    pub when: Vec<Condition>,
    pub grace: Duration,
    pub require_volume: bool,
    /// Never empty: the log at least, which is not enough to end anything.
    pub receivers: Vec<Arc<str>>,
}

/// One part of `when`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    IdleFor(Duration),
    RunningFor(Duration),
    RunwayBelow(Duration),
    /// The API's own `totalCost` of the deployment.
    SpendAbove(Usd),
    Outside(Hours),
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::IdleFor(length) => write!(f, "idle for {}", humanize(*length)),
            Self::RunningFor(length) => write!(f, "running for {}", humanize(*length)),
            Self::RunwayBelow(length) => write!(f, "runway below {}", humanize(*length)),
            Self::SpendAbove(amount) => write!(f, "spend above {amount}"),
            Self::Outside(hours) => write!(f, "outside {hours}"),
        }
    }
}

impl Policy {
    pub fn selects(&self, deployment: &Deployment, team_name: &str) -> bool {
        !self.matching.is_everything() && self.matching.matches_deployment(deployment, team_name)
    }

    pub fn idle_for(&self) -> Option<Duration> {
        self.when.iter().find_map(|condition| match condition {
            Condition::IdleFor(length) => Some(*length),
            Condition::RunningFor(_)
            | Condition::RunwayBelow(_)
            | Condition::SpendAbove(_)
            | Condition::Outside(_) => None,
        })
    }

    pub fn sheds(&self) -> bool {
        self.when.iter().any(|condition| matches!(condition, Condition::RunwayBelow(_)))
    }
}

/// `[safety]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Safety {
    /// Any one key protects; wins over every policy.
    pub protect: BTreeMap<MatchKey, Vec<Glob>>,
    pub max_per_hour: u16,
    pub max_per_day: u16,
    /// In thousandths.
    pub max_fleet_share_permille: u16,
    pub min_observed_age: Duration,
    /// The longest keep that a signed link may grant.
    pub keep_max: Duration,
}

impl Default for Safety {
    fn default() -> Self {
        let globs = |text: &str| vec![Glob::new(text)];
        Self {
            protect: [(MatchKey::Name, globs("prod-*")), (MatchKey::InstanceType, globs("CLUSTER"))].into(),
            max_per_hour: 2,
            max_per_day: 5,
            max_fleet_share_permille: 500,
            min_observed_age: Duration::from_secs(15 * 60),
            keep_max: Duration::from_secs(7 * 86_400),
        }
    }
}

impl Safety {
    /// The key by which a deployment is protected, or may be, if it is.
    pub fn protects(&self, deployment: &Deployment, team_name: &str) -> Option<&'static str> {
        self.protect.iter().find_map(|(key, globs)| {
            let name = || MatchKey::ALL.iter().find(|(_, of)| of == key).map_or("match", |(name, _)| *name);
            // Of what is not known nobody can say that it is not protected.
            (key.matches(globs, deployment, team_name) || !key.is_known(deployment, team_name)).then(name)
        })
    }
}

/// A person switched a policy from dry run to real, as it then stood and knowing what it would have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arming {
    pub policy: Arc<str>,
    /// [`Policies::fingerprint`] at that time: with any other the policy is a dry run. Empty from the first step on that saw another: it
    /// stays a dry run then, whatever the policy becomes, until somebody arms it anew.
    pub fingerprint: Arc<str>,
    pub armed_at: Time,
    pub by: Arc<str>,
    /// What would have been ended then, acknowledged by the code.
    pub acknowledged: BTreeSet<Target>,
}

/// What arming a policy would mean now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    pub policy: Arc<str>,
    pub fingerprint: Arc<str>,
    /// It is armed as it stands.
    pub armed: bool,
    /// What it would announce and end as things are, and why.
    pub would_end: Vec<(Candidate, String)>,
    /// What it matches besides, and why that would not end now.
    pub waiting: Vec<(Candidate, Hold)>,
    /// Stands for the policy and both lists: who repeats it has seen them.
    pub code: Arc<str>,
}

/// A deployment that a policy matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub target: Target,
    pub name: Arc<str>,
    pub team: TeamId,
    pub rate: Usd,
}

/// Why a policy is not armed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmError {
    #[error("there is no policy of this name; `spheron-watch policy list` shows all")]
    NoSuchPolicy,
    #[error("the policy has no `match`, and an empty one matches nothing; give it one")]
    NoSelector,
    #[error(
        "none of the policy's receivers but the log has taken anything yet, or it fails now; wait for the dry run's own notice or for any alert to one of them: `test-notify` does not count"
    )]
    NoReceiver,
    #[error("the code is not that of what it would end now; look at the list again and confirm its code")]
    WrongCode,
}

/// All that the configuration says of ending deployments.
#[derive(Debug, Clone)]
pub struct Policies {
    pub policies: Vec<Policy>,
    pub safety: Safety,
    pub zone: TimeZone,
    pub sources: Vec<ActivitySource>,
}

impl Default for Policies {
    fn default() -> Self {
        Self { policies: Vec::new(), safety: Safety::default(), zone: TimeZone::UTC, sources: Vec::new() }
    }
}

impl Policies {
    /// A hash over the policy and everything else that bears on what it ends: `[safety]`, the zone, and where the policy asks
    /// for idleness, every source of activity.
    pub fn fingerprint(&self, policy: &Policy) -> Arc<str> {
        let mut text = String::new();
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(text, "{key} {value}");
        };
        line("policy", &format!("{:?}", policy.name));
        line("match", &globs(&policy.matching.globs));
        for condition in &policy.when {
            let (kind, value) = match condition {
                Condition::IdleFor(length) => ("idle_for", length.as_millis().to_string()),
                Condition::RunningFor(length) => ("running_for", length.as_millis().to_string()),
                Condition::RunwayBelow(length) => ("runway_below", length.as_millis().to_string()),
                Condition::SpendAbove(amount) => ("spend_above", amount.nanos().to_string()),
                Condition::Outside(hours) => ("outside", hours.to_string()),
            };
            line(kind, &value);
        }
        line("grace", &policy.grace.as_millis().to_string());
        line("require_volume", if policy.require_volume { "true" } else { "false" });
        line("receivers", &format!("{:?}", policy.receivers));
        let Safety {
            protect,
            max_per_hour,
            max_per_day,
            max_fleet_share_permille,
            min_observed_age,
            keep_max,
        } = &self.safety;
        line("protect", &globs(protect));
        line("caps", &format!("{max_per_hour} {max_per_day} {max_fleet_share_permille}"));
        line("min_observed_age", &min_observed_age.as_millis().to_string());
        line("keep_max", &keep_max.as_millis().to_string());
        line("zone", &self.zone.iana_name().map_or_else(|| format!("{:?}", self.zone), str::to_owned));
        for source in self.sources.iter().filter(|_| policy.idle_for().is_some()) {
            line("activity", &format!("{:?} {} {}", source.name, source.every.as_millis(), source.only_busy));
            line("of", &globs(&source.matcher.globs));
            line("settings", &format!("{:?}", source.settings));
        }
        digest(&text).into()
    }
}

fn globs(globs: &BTreeMap<MatchKey, Vec<Glob>>) -> String {
    let key = |of: &MatchKey| MatchKey::ALL.iter().find(|(_, key)| key == of).map_or("", |(name, _)| *name);
    let texts =
        |globs: &Vec<Glob>| globs.iter().map(|glob| format!("{:?}", glob.as_text())).collect::<Vec<_>>();
    globs
        .iter()
        .map(|(of, list)| format!("{}={}", key(of), texts(list).join(",")))
        .collect::<Vec<_>>()
        .join(" ")
}

/// 32 hex digits of SHA-256.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            name: "idle".into(),
            matching: Matcher { globs: [(MatchKey::Name, vec![Glob::new("dev-*")])].into() },
            when: vec![Condition::IdleFor(Duration::from_secs(7_200))],
            grace: Duration::from_secs(1_800),
            require_volume: false,
            receivers: vec!["ops".into()],
        }
    }

    fn source() -> ActivitySource {
        ActivitySource {
            name: "dcgm".into(),
            every: Duration::from_secs(60),
            matcher: Matcher::default(),
            only_busy: false,
            settings: "url".into(),
        }
    }

    #[test]
    fn fault_70_what_the_api_does_not_say_of_a_deployment_protects_it() {
        let globs = |key| Safety { protect: [(key, vec![Glob::new("Prod*")])].into(), ..Safety::default() };
        let known = crate::model::action::tests::deployment("dev-a");
        for (name, key) in MatchKey::ALL {
            assert_eq!(globs(key).protects(&known, "Research"), None, "{name}: known, and not protected");
        }
        let unnamed = Deployment { name: "".into(), ..known.clone() };
        assert_eq!(globs(MatchKey::Name).protects(&unnamed, "Research"), Some("name"));
        let untyped = Deployment { instance_type: crate::model::InstanceType::new(""), ..known.clone() };
        assert_eq!(Safety::default().protects(&untyped, "Research"), Some("instance_type"));
        for team in ["", known.team.as_str()] {
            assert_eq!(
                globs(MatchKey::Team).protects(&known, team),
                Some("team"),
                "the team's name is not read"
            );
            assert_eq!(globs(MatchKey::Name).protects(&known, team), None, "nobody asks for it");
        }
    }

    /// Each of these changes what is ended, so each has to be armed anew.
    #[test]
    fn any_change_of_what_bears_on_the_end_gives_another_fingerprint() {
        let base = Policies { policies: vec![policy()], sources: vec![source()], ..Policies::default() };
        let print = base.fingerprint(&policy());
        assert_eq!(base.fingerprint(&policy()), print, "stable");
        let minute = Duration::from_secs(60);
        let glob = |text: &str| Matcher { globs: [(MatchKey::Name, vec![Glob::new(text)])].into() };
        for (what, changed) in [
            ("name", Policy { name: "other".into(), ..policy() }),
            ("match", Policy { matching: glob("dev*"), ..policy() }),
            ("when", Policy { when: vec![Condition::IdleFor(minute)], ..policy() }),
            (
                "condition",
                Policy { when: vec![Condition::RunningFor(Duration::from_secs(7_200))], ..policy() },
            ),
            ("grace", Policy { grace: minute, ..policy() }),
            ("require_volume", Policy { require_volume: true, ..policy() }),
            ("receivers", Policy { receivers: vec!["chat".into()], ..policy() }),
        ] {
            assert_ne!(base.fingerprint(&changed), print, "{what}");
        }
        let safety = Safety::default();
        for (what, safety) in [
            ("protect", Safety { protect: BTreeMap::new(), ..safety.clone() }),
            ("max_per_hour", Safety { max_per_hour: 3, ..safety.clone() }),
            ("max_per_day", Safety { max_per_day: 6, ..safety.clone() }),
            ("share", Safety { max_fleet_share_permille: 501, ..safety.clone() }),
            ("age", Safety { min_observed_age: minute, ..safety.clone() }),
            ("keep_max", Safety { keep_max: minute, ..safety.clone() }),
        ] {
            assert_ne!(Policies { safety, ..base.clone() }.fingerprint(&policy()), print, "{what}");
        }
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        assert_ne!(Policies { zone, ..base.clone() }.fingerprint(&policy()), print, "zone");
        for (what, source) in [
            ("settings", ActivitySource { settings: "other".into(), ..source() }),
            ("only_busy", ActivitySource { only_busy: true, ..source() }),
            ("matcher", ActivitySource { matcher: glob("x"), ..source() }),
        ] {
            assert_ne!(
                Policies { sources: vec![source], ..base.clone() }.fingerprint(&policy()),
                print,
                "{what}"
            );
        }
        let unused = Policy { when: vec![Condition::RunningFor(minute)], ..policy() };
        let without = Policies { sources: Vec::new(), ..base.clone() };
        assert_eq!(base.fingerprint(&unused), without.fingerprint(&unused), "it asks nobody for idleness");
    }

    #[test]
    fn fault_52_a_policy_without_a_selector_selects_nothing() {
        let nothing = Policy { matching: Matcher::default(), ..policy() };
        let everything = Policy {
            matching: Matcher { globs: [(MatchKey::Name, vec![Glob::new("*")])].into() },
            ..policy()
        };
        let deployment = crate::model::action::tests::deployment("a");
        assert!(!nothing.selects(&deployment, "research"));
        assert!(everything.selects(&deployment, "research"));
    }

    #[test]
    fn any_one_key_protects_and_a_cluster_may_be_bare_metal() {
        let safety = Safety::default();
        let deployment = |name: &str, of: &str| Deployment {
            name: name.into(),
            instance_type: crate::model::InstanceType::new(of),
            ..crate::model::action::tests::deployment("a")
        };
        assert_eq!(safety.protects(&deployment("dev-1", "SPOT"), "research"), None);
        assert_eq!(safety.protects(&deployment("PROD-1", "SPOT"), "research"), Some("name"));
        assert_eq!(safety.protects(&deployment("dev-1", "BARE_METAL"), "research"), Some("instance_type"));
        let none = Safety { protect: [(MatchKey::Name, Vec::new())].into(), ..safety };
        assert_eq!(none.protects(&deployment("prod-1", "CLUSTER"), "research"), None);
    }
}
