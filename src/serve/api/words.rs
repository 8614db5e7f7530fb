//! What the engine's reasons and a rule's parameters mean, in words for people.
//!
//! It must never say that something will happen, only what happens if nothing changes.

use std::time::Duration;

use super::{At, Look, Next, Source, deployments::up};
use crate::model::{
    Activity, AlertKey, AlertState, Forecast, HeldReason, Mark, Period, Rule, RuleKind, Status, Subject,
    Time, Tracked, humanize,
};

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Account,
    Team,
    Deployment,
    Volume,
}

pub fn scope(kind: &RuleKind) -> Scope {
    match kind {
        RuleKind::Blind { .. }
        | RuleKind::KeyRejected
        | RuleKind::ConfigInvalid
        | RuleKind::NotConfirmed
        | RuleKind::DeliveryFailing
        | RuleKind::DiskLow => Scope::Account,
        RuleKind::Balance { .. }
        | RuleKind::BalanceUnknown
        | RuleKind::FleetShrunk
        | RuleKind::Runway { .. }
        | RuleKind::BurnRate { .. }
        | RuleKind::Budget { .. }
        | RuleKind::UnexplainedSpend { .. }
        | RuleKind::BalanceJump => Scope::Team,
        RuleKind::RunningLong { .. }
        | RuleKind::SpotInterrupted
        | RuleKind::ProviderStopped
        | RuleKind::Idle { .. }
        | RuleKind::Failed
        | RuleKind::Stuck { .. }
        | RuleKind::NewDeployment
        | RuleKind::RateChanged
        | RuleKind::Overpaying { .. } => Scope::Deployment,
        RuleKind::UnattachedVolume { .. } | RuleKind::VolumeFull { .. } => Scope::Volume,
    }
}

/// The word of the API for a reason.
pub fn code(reason: &HeldReason) -> &'static str {
    match reason {
        HeldReason::NotMet => "not_met",
        HeldReason::Pending { .. } => "pending",
        HeldReason::AlreadyTold { .. } => "already_told",
        HeldReason::KeptFiring { .. } => "kept_firing",
        HeldReason::PastEvent => "told",
        HeldReason::Unknown { .. } => "unknown",
        HeldReason::Unmeasured => "unmeasured",
        HeldReason::NotMatched => "not_matched",
        HeldReason::Silenced { .. } => "silenced",
        HeldReason::Inhibited { .. } => "inhibited",
    }
}

/// Which of its rule's thresholds an occasion is about.
pub fn mark(subject: &Subject) -> Option<String> {
    match subject {
        Subject::Occasion { mark: Mark::Spent(percent), .. } => Some(format!("{percent} % spent")),
        Subject::Occasion { mark: Mark::Forecast(percent), .. } => Some(format!("{percent} % forecast")),
        Subject::Occasion { mark: Mark::Balance, .. }
        | Subject::Account
        | Subject::Team { .. }
        | Subject::Deployment { .. }
        | Subject::Volume { .. } => None,
    }
}

pub fn reason(look: Look<'_>, reason: Option<&HeldReason>, rule: &Rule) -> String {
    match reason {
        Some(HeldReason::NotMet) => "the condition does not hold".to_owned(),
        Some(HeldReason::Pending { until }) => {
            format!("the condition holds; `for` ({}) lasts until {until}", humanize(rule.for_))
        }
        Some(HeldReason::AlreadyTold { next: Some(next) }) => {
            format!(
                "it fires, and word of it was given out (whether it arrived: `deliveries`); a reminder at {next}"
            )
        }
        Some(HeldReason::AlreadyTold { next: None }) => {
            "it fires, and word of it was given out; there are no reminders".to_owned()
        }
        Some(HeldReason::KeptFiring { until: Some(until) }) => {
            format!("the condition has ceased; `keep_firing_for` lasts until {until}")
        }
        Some(HeldReason::KeptFiring { until: None }) => {
            "the condition has ceased, but not by enough to end the alert".to_owned()
        }
        Some(HeldReason::PastEvent) => "it happened, and was told or lies before our time".to_owned(),
        Some(HeldReason::Unknown { feed }) => {
            format!("what it needs is not known: waiting for an answer of `{feed}`; the last state stays")
        }
        Some(HeldReason::Unmeasured) => {
            "no activity source measures it, or not of late: unknown is never idle".to_owned()
        }
        Some(HeldReason::NotMatched) => "the rule's `match` leaves it out".to_owned(),
        Some(HeldReason::Silenced { id, until }) => {
            format!("a silence ({id}) keeps it from people until {until}")
        }
        Some(HeldReason::Inhibited { by }) => {
            format!("while `{by}` fires, what this rests on is not seen: it is told then, if it still holds")
        }
        None if look.source == Source::Database => "no daemon runs, so nothing is judged now".to_owned(),
        None => "the rule does not judge it now".to_owned(),
    }
}

/// When the rule does something next, if nothing changes: as far as its alert's state and the clock tell.
pub fn next(look: Look<'_>, rule: &Rule, subject: &Subject, tracked: &Tracked) -> Option<Next> {
    let key = AlertKey { rule: rule.name.clone(), subject: subject.clone() };
    let state = look.view.firing.get(&key).or_else(|| look.view.latent.get(&key)).map(|(state, _)| state);
    let (at, what) = match state {
        Some(AlertState::Pending { since, .. }) => (since.plus(rule.for_), "fires"),
        Some(AlertState::Firing { cleared: Some(cleared), .. }) => {
            (cleared.plus(rule.keep_firing_for), "ends")
        }
        Some(AlertState::Firing { told, cleared: None, .. }) => {
            ((*told)?.plus(rule.repeat_interval?), "reminds")
        }
        Some(AlertState::Told { .. }) => return None,
        Some(AlertState::Quiet { .. }) | None => (threshold(rule, subject, tracked, look)?, "fires"),
    };
    (at > look.now).then(|| Next { at: At(at), what: format!("{} {what}", rule.name) })
}

/// When time alone makes the condition hold, and then fires it.
fn threshold(rule: &Rule, subject: &Subject, tracked: &Tracked, look: Look<'_>) -> Option<Time> {
    if !matches!(subject, Subject::Deployment { .. }) || !tracked.is_live() {
        return None;
    }
    let team = look.view.snapshot.teams.get(&tracked.deployment.team);
    if !rule.matcher.matches_deployment(&tracked.deployment, team.map_or("", |team| &*team.name)) {
        return None;
    }
    let (since, length) = lasting(look, &rule.kind, tracked)?;
    let at = since.plus(length).plus(rule.for_);
    (at > look.now).then_some(at)
}

/// Since when that lasts which the rule waits for, and how long it may.
fn lasting(look: Look<'_>, kind: &RuleKind, tracked: &Tracked) -> Option<(Time, Duration)> {
    match (kind, &tracked.deployment.status) {
        (RuleKind::RunningLong { longer_than }, Status::Running | Status::Unknown(_)) => {
            Some((tracked.deployment.since(), *longer_than))
        }
        (RuleKind::Stuck { longer_than }, Status::Deploying) => {
            Some((tracked.deployment.created_at, *longer_than))
        }
        (RuleKind::Idle { longer_than }, Status::Running) => Some((idle_since(look, tracked)?, *longer_than)),
        _ => None,
    }
}

/// Since when it is measured idle, if it is.
fn idle_since(look: Look<'_>, tracked: &Tracked) -> Option<Time> {
    match look.view.snapshot.activity_of(&tracked.deployment.id, look.now) {
        Activity::Idle { since, .. } => Some(since),
        Activity::Busy | Activity::Unknown => None,
    }
}

/// What the rule waits for.
pub fn condition(kind: &RuleKind) -> String {
    match kind {
        RuleKind::Balance { below, clear_above } => {
            format!("balance below {below}, until {clear_above} again")
        }
        RuleKind::BalanceUnknown => "the balance cannot be read, or the team is missing".to_owned(),
        RuleKind::RunningLong { longer_than } => format!("running longer than {}", humanize(*longer_than)),
        RuleKind::SpotInterrupted => "SPOT capacity is taken back".to_owned(),
        RuleKind::ProviderStopped => "ended or stopped by the provider, or its status unknown".to_owned(),
        RuleKind::FleetShrunk => "half or more of what ran vanishes between two polls".to_owned(),
        RuleKind::Blind { longer_than } => {
            format!("no usable poll for {}, and for three intervals", humanize(*longer_than))
        }
        RuleKind::KeyRejected => "the API refuses the key".to_owned(),
        RuleKind::ConfigInvalid => "a configuration that does not load".to_owned(),
        RuleKind::DeliveryFailing => "a receiver takes nothing for 5m, or gave up on a notice".to_owned(),
        RuleKind::NotConfirmed => "no read confirms an end 10m after it was requested".to_owned(),
        RuleKind::DiskLow => "less than 256 MiB left for the database".to_owned(),
        RuleKind::Runway { below } => format!("the balance ends within {}", humanize(*below)),
        RuleKind::BurnRate { above } => format!("burning more than {above}/h"),
        RuleKind::Budget { amount, period, at } => {
            let at: Vec<String> = at.iter().map(|percent| format!("{percent} %")).collect();
            format!("{} of {amount} in a {} spent or to be spent", at.join(", "), word(*period))
        }
        RuleKind::Idle { longer_than } => format!("measured idle for {}", humanize(*longer_than)),
        RuleKind::Failed => "it fails".to_owned(),
        RuleKind::Stuck { longer_than } => format!("deploying longer than {}", humanize(*longer_than)),
        RuleKind::NewDeployment => "it appears".to_owned(),
        RuleKind::UnattachedVolume { longer_than } => {
            format!("not attached for {}", humanize(*longer_than))
        }
        RuleKind::VolumeFull { above_permille } => {
            format!("fuller than {}.{} %", above_permille / 10, above_permille % 10)
        }
        RuleKind::RateChanged => "its hourly rate changes".to_owned(),
        RuleKind::Overpaying { percent } => format!("the same on offer at least {percent} % cheaper"),
        RuleKind::UnexplainedSpend { above } => format!("more than {above} a day that no charge explains"),
        RuleKind::BalanceJump => "the balance rises, or falls by half or more, between two polls".to_owned(),
    }
}

fn word(period: Period) -> &'static str {
    match period {
        Period::Day => "day",
        Period::Week => "week",
        Period::Month => "month",
    }
}

/// The figure that the condition is held against.
pub fn input(look: Look<'_>, kind: &RuleKind, tracked: &Tracked) -> Option<String> {
    let (snapshot, id) = (&look.view.snapshot, &tracked.deployment.team);
    let team = snapshot.teams.get(id);
    let forecast = look.view.forecasts.get(id);
    match kind {
        RuleKind::Balance { .. } | RuleKind::BalanceUnknown | RuleKind::BalanceJump => {
            let known = team.filter(|team| team.unknown_since.is_none()).and_then(|team| team.balance);
            Some(known.map_or("balance unknown".to_owned(), |balance| format!("balance {balance}")))
        }
        RuleKind::Runway { .. } => {
            let end = forecast.and_then(Forecast::end);
            Some(
                end.map_or("end unknown".to_owned(), |end| {
                    format!("ends in {}", humanize(end.since(look.now)))
                }),
            )
        }
        RuleKind::BurnRate { .. } => Some(format!("burning {}/h", snapshot.burn_per_hour(id))),
        RuleKind::Budget { period, .. } => forecast.map(|forecast| {
            let spend = match period {
                Period::Day => forecast.day,
                Period::Week => forecast.week,
                Period::Month => forecast.month,
            };
            format!("spent {}, forecast {}", spend.spent, spend.forecast)
        }),
        RuleKind::UnexplainedSpend { .. } => {
            forecast.and_then(|forecast| forecast.unexplained_day).map(|gap| format!("unexplained {gap}"))
        }
        RuleKind::RunningLong { .. } => Some(format!("up {}", humanize(up(look, tracked)))),
        RuleKind::Idle { .. } => {
            Some(idle_since(look, tracked).map_or("not measured idle".to_owned(), |since| {
                format!("idle for {}", humanize(look.now.since(since)))
            }))
        }
        RuleKind::SpotInterrupted
        | RuleKind::ProviderStopped
        | RuleKind::Failed
        | RuleKind::Stuck { .. }
        | RuleKind::NewDeployment => {
            Some(format!("{}, {}", tracked.deployment.instance_type, tracked.deployment.status))
        }
        RuleKind::RateChanged | RuleKind::Overpaying { .. } => {
            Some(format!("{}/h", tracked.deployment.hourly_rate))
        }
        RuleKind::FleetShrunk
        | RuleKind::Blind { .. }
        | RuleKind::KeyRejected
        | RuleKind::ConfigInvalid
        | RuleKind::NotConfirmed
        | RuleKind::DeliveryFailing
        | RuleKind::DiskLow
        | RuleKind::UnattachedVolume { .. }
        | RuleKind::VolumeFull { .. } => None,
    }
}

/// What ends it, or keeps it from firing.
pub fn cancelled_by(kind: &RuleKind) -> String {
    match kind {
        RuleKind::Balance { clear_above, .. } => format!("a balance of {clear_above} or more"),
        RuleKind::BalanceUnknown => "an answer that holds this team's balance".to_owned(),
        RuleKind::RunningLong { .. } => "its end, or a `match` that leaves it out".to_owned(),
        RuleKind::ProviderStopped => "its return to running, or its end".to_owned(),
        RuleKind::FleetShrunk => "an answer that explains each that vanished".to_owned(),
        RuleKind::Blind { .. } => "a usable answer of balance and deployments".to_owned(),
        RuleKind::KeyRejected => "an answer to an authorised call".to_owned(),
        RuleKind::ConfigInvalid => "a reload that works".to_owned(),
        RuleKind::DeliveryFailing => "a notice that the receiver takes".to_owned(),
        RuleKind::NotConfirmed => "reads that show what became of it".to_owned(),
        RuleKind::DiskLow => "384 MiB of room".to_owned(),
        RuleKind::Runway { below } => {
            format!("a top-up, or less burn, until it lasts longer than {}", humanize(*below))
        }
        RuleKind::BurnRate { above } => format!("a burn of {above}/h or less"),
        RuleKind::Budget { period, .. } => format!("the next {}", word(*period)),
        RuleKind::Idle { .. } => "a busy GPU, or its end".to_owned(),
        RuleKind::Stuck { .. } => "any other status".to_owned(),
        RuleKind::UnattachedVolume { .. } => "its attachment or deletion".to_owned(),
        RuleKind::VolumeFull { .. } => "less in it".to_owned(),
        RuleKind::Overpaying { .. } => "no cheaper offer, or its end".to_owned(),
        RuleKind::UnexplainedSpend { .. } => "charges that explain it, or a day without".to_owned(),
        RuleKind::SpotInterrupted
        | RuleKind::Failed
        | RuleKind::NewDeployment
        | RuleKind::RateChanged
        | RuleKind::BalanceJump => "nothing: an event is told once".to_owned(),
    }
}
