//! Says an alert in words: title, reason with figures, what to do now, and the table of details.
//!
//! It must never leave a reader without a next step, and never says more than the snapshot knows.

mod account;
mod bars;
mod deployment;
mod market;
mod money;
mod team;
mod volume;

pub use bars::bars;
pub(super) use deployment::deployment_details;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::model::{
    Action, Forecast, Rule, RuleKind, Snapshot, Subject, TeamId, Time, Transition, Usd, humanize,
};

pub struct Words {
    pub title: String,
    pub reason: String,
    pub advice: String,
    pub details: Vec<(Arc<str>, String)>,
}

/// All that may be said from.
pub struct Telling<'a> {
    pub rule: &'a Rule,
    pub subject: &'a Subject,
    pub snapshot: &'a Snapshot,
    pub forecasts: &'a BTreeMap<TeamId, Forecast>,
    pub actions: &'a [Action],
    pub now: Time,
}

/// Where money is added and instances are ended by hand.
const CONSOLE: &str = "https://app.spheron.ai";

pub fn compose(telling: &Telling<'_>, transition: Transition, since: Time) -> Words {
    let mut words = say(telling).unwrap_or_else(|| unknown_subject(telling));
    let lasted = humanize(telling.now.since(since));
    match transition {
        Transition::Resolved => {
            words.reason = format!("No longer so after {lasted}. Now: {}", words.reason);
            words.advice = "Nothing to do.".into();
        }
        Transition::Reminder => words.reason = format!("Still so after {lasted}. {}", words.reason),
        Transition::Firing | Transition::Event | Transition::Test => {}
    }
    words
}

/// `None` when the subject is no longer in the snapshot.
fn say(telling: &Telling<'_>) -> Option<Words> {
    match &telling.rule.kind {
        RuleKind::Balance { below, .. } => Some(team::low_balance(telling, *below)),
        RuleKind::BalanceUnknown => Some(team::balance_unknown(telling)),
        RuleKind::FleetShrunk => Some(team::fleet_shrunk(telling)),
        RuleKind::Blind { .. } => Some(account::blind(telling)),
        RuleKind::KeyRejected => Some(account::key_rejected(telling)),
        RuleKind::ConfigInvalid => Some(account::config_invalid(telling)),
        RuleKind::DeliveryFailing => Some(account::delivery_failing(telling)),
        RuleKind::NotConfirmed => Some(account::not_confirmed(telling)),
        RuleKind::DiskLow => Some(account::disk_low(telling)),
        RuleKind::RunningLong { longer_than } => deployment::running_long(telling, *longer_than),
        RuleKind::ProviderStopped => deployment::provider_stopped(telling),
        RuleKind::Idle { longer_than } => deployment::idle(telling, *longer_than),
        RuleKind::Failed => deployment::failed(telling),
        RuleKind::Stuck { longer_than } => deployment::stuck(telling, *longer_than),
        RuleKind::NewDeployment => deployment::new_deployment(telling),
        RuleKind::RateChanged => market::rate_changed(telling),
        RuleKind::Overpaying { percent } => market::overpaying(telling, *percent),
        RuleKind::SpotInterrupted => market::spot_interrupted(telling),
        RuleKind::UnattachedVolume { longer_than } => volume::unattached(telling, *longer_than),
        RuleKind::VolumeFull { above_permille } => volume::full(telling, *above_permille),
        RuleKind::Runway { below } => Some(money::runway(telling, *below)),
        RuleKind::BurnRate { above } => Some(money::burn_rate(telling, *above)),
        RuleKind::Budget { amount, period, .. } => money::budget(telling, *amount, *period),
        RuleKind::UnexplainedSpend { above } => Some(money::unexplained_spend(telling, *above)),
        RuleKind::BalanceJump => money::balance_jump(telling),
    }
}

/// A name of one's choice may be blank, and is not unique: the id stands in the details.
pub(in crate::engine) fn label(name: &str, id: &dyn std::fmt::Display) -> String {
    if name.trim().is_empty() { id.to_string() } else { name.to_owned() }
}

/// Two teams may have one name.
fn team_label(id: &TeamId, snapshot: &Snapshot) -> String {
    match snapshot.teams.get(id) {
        Some(team) => format!("{} ({id})", team.name),
        None => id.to_string(),
    }
}

fn a_day(rate: Usd) -> Usd {
    rate.per_hour_for(Duration::from_secs(86_400))
}

/// A year's twelfth: 730 h.
fn a_month(rate: Usd) -> Usd {
    rate.per_hour_for(Duration::from_secs(730 * 3_600))
}

/// `93 %`, `93.4 %`.
fn percent(permille: u64) -> String {
    match (permille / 10, permille % 10) {
        (whole, 0) => format!("{whole} %"),
        (whole, tenths) => format!("{whole}.{tenths} %"),
    }
}

fn unknown_subject(telling: &Telling<'_>) -> Words {
    Words {
        title: format!("{}: {}", telling.rule.kind.as_str(), telling.subject),
        reason: "It is no longer in the account as observed.".into(),
        advice: "Nothing to do.".into(),
        details: Vec::new(),
    }
}
