//! Words about deployments.
//!
//! It must never advise what the API cannot do: there is no stop, only an end.

use std::{sync::Arc, time::Duration};

use super::{CONSOLE, Telling, Words, a_day, label, percent, team_label};
use crate::model::{
    Activity, Presence, Reading, Snapshot, SourceActivity, Status, Subject, Tracked, humanize,
};

/// A deployment with what every mail about one says.
pub(super) struct Of<'a> {
    pub tracked: &'a Tracked,
    pub name: String,
    pub runtime: String,
    pub details: Vec<(Arc<str>, String)>,
}

impl<'a> Of<'a> {
    /// `None` also where the id has come back as another deployment (FAULTS 20).
    pub fn new(telling: &Telling<'a>) -> Option<Self> {
        let Subject::Deployment { id, created_at } = telling.subject else { return None };
        let tracked = telling.snapshot.deployments.get(id)?;
        let deployment = &tracked.deployment;
        if deployment.created_at != *created_at {
            return None;
        }
        let end = if tracked.is_live() { telling.now } else { tracked.status_since };
        let runtime = humanize(deployment.stopped_at.unwrap_or(end).since(deployment.since()));
        let details = deployment_details(tracked, telling.snapshot, &runtime);
        Some(Self { tracked, name: label(&deployment.name, &deployment.id), runtime, details })
    }
}

/// Title and reason of what is no longer so: what is instead.
pub(super) fn instead(tracked: &Tracked, name: &str) -> (String, String) {
    let status = &tracked.deployment.status;
    match tracked.presence {
        Presence::Gone(_) if !status.is_ended() => (
            format!("gone: {name}"),
            format!("{name} is gone: the API no longer knows it. It was `{status}` when last seen."),
        ),
        Presence::Listed | Presence::Missing { .. } | Presence::Gone(_) => {
            (format!("{name} is `{status}`"), format!("{name} is `{status}`."))
        }
    }
}

pub(in crate::engine) fn deployment_details(
    tracked: &Tracked,
    snapshot: &Snapshot,
    runtime: &str,
) -> Vec<(Arc<str>, String)> {
    let deployment = &tracked.deployment;
    let mut details: Vec<(Arc<str>, String)> = vec![
        ("deployment".into(), format!("{} ({})", label(&deployment.name, &deployment.id), deployment.id)),
        ("team".into(), team_label(&deployment.team, snapshot)),
        ("gpu".into(), format!("{} × {}", deployment.gpu_count, deployment.gpu_type)),
        ("type".into(), deployment.instance_type.to_string()),
        ("where".into(), format!("{}, {}", deployment.provider, deployment.region)),
        ("status".into(), deployment.status.to_string()),
        ("ran for".into(), runtime.to_owned()),
        ("rate".into(), format!("{}/h", deployment.hourly_rate)),
        ("cost so far".into(), deployment.total_cost.to_string()),
    ];
    if deployment.kubernetes {
        details.push(("kubernetes".into(), "add-on, billed on top of the rate".into()));
    }
    details
}

pub fn running_long(telling: &Telling<'_>, longer_than: Duration) -> Option<Words> {
    let Of { tracked, name, runtime, details } = Of::new(telling)?;
    let deployment = &tracked.deployment;
    let reason = if tracked.is_live() {
        format!(
            "{name} has been running for {runtime}, longer than {}. It costs {}/h, {} a day; {} so far.",
            humanize(longer_than),
            deployment.hourly_rate,
            a_day(deployment.hourly_rate),
            deployment.total_cost
        )
    } else {
        format!("{name} has ended after {runtime}; it cost {}.", deployment.total_cost)
    };
    let advice =
        format!("If it is forgotten, save its data and end it at {CONSOLE}; ending deletes its disk.");
    Some(Words { title: format!("running long: {name} for {runtime}"), reason, advice, details })
}

pub fn provider_stopped(telling: &Telling<'_>) -> Option<Words> {
    let Of { tracked, name, runtime, details } = Of::new(telling)?;
    let deployment = &tracked.deployment;
    let (title, reason, advice) = match &deployment.status {
        Status::Stopped | Status::Unknown(_) if !tracked.is_live() => (
            format!("gone: {name}"),
            format!(
                "{name} is gone: the API no longer knows it. It was `{}` when last seen.",
                deployment.status
            ),
            "Nothing to do.".to_owned(),
        ),
        Status::Terminated | Status::Failed => (
            format!("ended: {name} after {runtime}"),
            format!(
                "{name} is `{}`; it ran for {runtime} and cost {}.",
                deployment.status, deployment.total_cost
            ),
            "Nothing to do.".to_owned(),
        ),
        Status::Stopped => (
            format!("stopped: {name}"),
            format!(
                "{name} is `stopped` after {runtime}. It still holds its disk and is billed {}/h.",
                deployment.hourly_rate
            ),
            format!(
                "Spheron documents no way to stop or resume an instance: end it at {CONSOLE} if it is not needed."
            ),
        ),
        Status::Unknown(status) => (
            format!("unknown status: {name} is `{status}`"),
            format!(
                "{name} has a status that is not documented; it is taken to bill {}/h.",
                deployment.hourly_rate
            ),
            format!("Look at it at {CONSOLE}."),
        ),
        Status::TerminatedProvider => (
            format!("ended by the provider: {name} after {runtime}"),
            format!(
                "{name} ({}) is `{}`; it ran for {runtime} and cost {}. Its local disk is gone.",
                deployment.instance_type, deployment.status, deployment.total_cost
            ),
            "Deploy a replacement if the work must go on, and ask the provider why.".to_owned(),
        ),
        Status::Running | Status::Deploying => (
            format!("running again: {name}"),
            format!("{name} is `{}`.", deployment.status),
            "Nothing to do.".to_owned(),
        ),
    };
    Some(Words { title, reason, advice, details })
}

pub fn failed(telling: &Telling<'_>) -> Option<Words> {
    let Of { tracked, name, runtime, details } = Of::new(telling)?;
    let deployment = &tracked.deployment;
    let mut reason = format!("{name} is `failed` after {runtime}; it cost {}.", deployment.total_cost);
    if deployment.bills() {
        let rate = deployment.hourly_rate;
        reason.push_str(&format!(
            " The API gives no time at which it stopped: it may still be billed {rate}/h."
        ));
    }
    let advice =
        format!("Look at it at {CONSOLE}, and deploy again, in another region or with another provider.");
    Some(Words { title: format!("failed: {name} after {runtime}"), reason, advice, details })
}

pub fn stuck(telling: &Telling<'_>, longer_than: Duration) -> Option<Words> {
    let Of { tracked, name, details, .. } = Of::new(telling)?;
    let deployment = &tracked.deployment;
    let waited = humanize(telling.now.since(deployment.created_at));
    let (title, reason) = if deployment.status == Status::Deploying && tracked.is_live() {
        let reason = format!(
            "{name} has been `deploying` for {waited}; the limit is {}. It is billed from the order on: {}/h, {} so far.",
            humanize(longer_than),
            deployment.hourly_rate,
            deployment.total_cost
        );
        (format!("stuck: {name} deploying for {waited}"), reason)
    } else {
        instead(tracked, &name)
    };
    let advice = format!("If it does not come up, end it at {CONSOLE} and deploy it elsewhere.");
    Some(Words { title, reason, advice, details })
}

pub fn new_deployment(telling: &Telling<'_>) -> Option<Words> {
    let Of { tracked, name, runtime, details } = Of::new(telling)?;
    let deployment = &tracked.deployment;
    let (count, gpu, rate) = (deployment.gpu_count, &deployment.gpu_type, deployment.hourly_rate);
    let mut reason = format!(
        "{name} ({count} × {gpu}, {}) was created at {} in team {}.",
        deployment.instance_type,
        deployment.created_at,
        team_label(&deployment.team, telling.snapshot),
    );
    let end = if tracked.is_live() {
        reason.push_str(&format!(" It costs {rate}/h, {} a day.", a_day(rate)));
        format!("end it at {CONSOLE}, and find out")
    } else {
        let (status, cost) = (&deployment.status, deployment.total_cost);
        reason.push_str(&format!(" It has ended already: it is `{status}` after {runtime} and cost {cost}."));
        "find out".to_owned()
    };
    let advice = format!("If nobody meant it, {end} who has the API key or a login.");
    Some(Words { title: format!("new deployment: {name} at {rate}/h"), reason, advice, details })
}

pub fn idle(telling: &Telling<'_>, longer_than: Duration) -> Option<Words> {
    let Of { tracked, name, mut details, .. } = Of::new(telling)?;
    let deployment = &tracked.deployment;
    let sources = telling.snapshot.activity.get(&deployment.id);
    let sources = || sources.into_iter().flatten();
    details.extend(sources().map(|(source, said)| (source.clone(), measured(said, telling))));
    let (title, reason) = match Activity::of(sources().map(|(_, said)| said), telling.now) {
        _ if !tracked.is_live() || deployment.status != Status::Running => instead(tracked, &name),
        Activity::Idle { since, .. } => {
            let (length, rate) = (telling.now.since(since), deployment.hourly_rate);
            let reason = format!(
                "Every source has measured {name} idle since {since}, for {}; the limit is {}. It costs {rate}/h: {} \
                 meanwhile.",
                humanize(length),
                humanize(longer_than),
                rate.per_hour_for(length)
            );
            (format!("idle: {name} for {}", humanize(length)), reason)
        }
        Activity::Busy => {
            let busy =
                sources().filter(|(_, said)| said.reading == Reading::Busy && said.is_fresh(telling.now));
            let busy: Vec<&str> = busy.map(|(source, _)| &**source).collect();
            (format!("busy: {name}"), format!("{name} is measured busy ({}).", busy.join(", ")))
        }
        Activity::Unknown => {
            (format!("idle when last measured: {name}"), format!("Whether {name} works is not known now."))
        }
    };
    let advice =
        format!("If its work is done, save its data and end it at {CONSOLE}; ending deletes its disk.");
    Some(Words { title, reason, advice, details })
}

/// What one source says, with the busiest GPU where it was measured.
fn measured(said: &SourceActivity, telling: &Telling<'_>) -> String {
    let mut text = match (&said.reading, said.idle_since) {
        (Reading::Idle, Some(since)) => format!("idle since {since}"),
        (Reading::Idle, None) => "idle".to_owned(),
        (Reading::Busy, _) => "busy".to_owned(),
        (Reading::Unknown(why), _) => format!("unknown: {why}"),
    };
    if let Some(permille) = said.utilization_permille {
        text.push_str(&format!(", busiest GPU at {}", percent(permille.into())));
    }
    format!("{text} ({} ago)", humanize(telling.now.since(said.last)))
}
