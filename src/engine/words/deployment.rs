//! Words about deployments.
//!
//! It must never advise what the API cannot do: there is no stop, only an end.

use std::{sync::Arc, time::Duration};

use super::{CONSOLE, Telling, Words};
use crate::model::{Deployment, Offer, Snapshot, Status, Subject, Tracked, TrackedVolume, Usd, humanize};

/// A deployment with what every mail about one says.
struct Of<'a> {
    tracked: &'a Tracked,
    name: String,
    runtime: String,
    details: Vec<(Arc<str>, String)>,
}

impl<'a> Of<'a> {
    fn new(telling: &Telling<'a>) -> Option<Self> {
        let Subject::Deployment { id, .. } = telling.subject else { return None };
        let tracked = telling.snapshot.deployments.get(id)?;
        let deployment = &tracked.deployment;
        let end = if tracked.is_live() { telling.now } else { tracked.status_since };
        let runtime = humanize(deployment.stopped_at.unwrap_or(end).since(deployment.since()));
        let details = deployment_details(tracked, telling.snapshot, &runtime);
        Some(Self { tracked, name: label(deployment), runtime, details })
    }
}

fn label(deployment: &Deployment) -> String {
    if deployment.name.trim().is_empty() { deployment.id.to_string() } else { deployment.name.to_string() }
}

fn deployment_details(tracked: &Tracked, snapshot: &Snapshot, runtime: &str) -> Vec<(Arc<str>, String)> {
    let deployment = &tracked.deployment;
    let team = snapshot.teams.get(&deployment.team).map_or(deployment.team.as_str(), |team| &team.name);
    let mut details: Vec<(Arc<str>, String)> = vec![
        ("deployment".into(), format!("{} ({})", label(deployment), deployment.id)),
        ("team".into(), team.to_owned()),
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
            deployment.hourly_rate.per_hour_for(Duration::from_secs(86_400)),
            deployment.total_cost
        )
    } else {
        format!("{name} has ended after {runtime}; it cost {}.", deployment.total_cost)
    };
    let advice =
        format!("If it is forgotten, save its data and end it at {CONSOLE}; ending deletes its disk.");
    Some(Words { title: format!("running long: {name} for {runtime}"), reason, advice, details })
}

pub fn spot_interrupted(telling: &Telling<'_>) -> Option<Words> {
    let Of { tracked, name, runtime, mut details } = Of::new(telling)?;
    let (deployment, snapshot) = (&tracked.deployment, telling.snapshot);
    let mut reason = format!(
        "The provider reclaimed the spot instance {name} after {runtime}; it cost {}. Its local disk is gone.",
        deployment.total_cost
    );
    let volumes: Vec<_> =
        snapshot.volumes.values().filter(|volume| was_attached(volume, deployment)).collect();
    if volumes.is_empty() {
        reason.push_str(" No volume is known to have been attached to it.");
    } else {
        let rate: Usd = volumes.iter().map(|v| v.volume.hourly_rate).sum();
        let month = rate.per_hour_for(Duration::from_secs(730 * 3_600));
        let left = if volumes.len() == 1 {
            "1 volume is".to_owned()
        } else {
            format!("{} volumes are", volumes.len())
        };
        reason.push_str(&format!(" {left} left, at {month} a month."));
        let listed: Vec<&str> = volumes.iter().take(5).map(|v| &*v.volume.name).collect();
        details.push(("volumes left".into(), format!("{} ({month}/month)", listed.join(", "))));
    }
    if let Some(offer) = cheapest_equivalent(deployment, &snapshot.offers) {
        let text = format!("{} at {}, {}: {}/h", offer.id, offer.provider, offer.region, offer.price);
        details.push(("cheapest equivalent".into(), text));
    }
    let advice =
        "Deploy a replacement if the work must go on; what was not on a volume has to be redone.".to_owned();
    Some(Words { title: format!("spot interrupted: {name} after {runtime}"), reason, advice, details })
}

/// Attached still, or detached when the deployment ended: ending detaches, and the volumes may be polled after it.
fn was_attached(tracked: &TrackedVolume, deployment: &Deployment) -> bool {
    const WITH_THE_END: Duration = Duration::from_secs(300);
    let volume = &tracked.volume;
    let detached_then = volume.attached_to.is_empty()
        && volume.team == deployment.team
        && volume.provider == deployment.provider
        && volume.last_detached_at.zip(deployment.stopped_at).is_some_and(|(detached, stopped)| {
            detached.since(stopped) <= WITH_THE_END && stopped.since(detached) <= WITH_THE_END
        });
    tracked.bills() && (volume.attached_to.contains(&deployment.id) || detached_then)
}

/// Same GPU type, count and instance type, available now.
fn cheapest_equivalent<'a>(deployment: &Deployment, offers: &'a [Offer]) -> Option<&'a Offer> {
    offers
        .iter()
        .filter(|offer| {
            offer.available
                && offer.gpu_type.eq_ignore_ascii_case(&deployment.gpu_type)
                && offer.gpu_count == deployment.gpu_count
                && offer.instance_type == deployment.instance_type
        })
        .min_by_key(|offer| offer.price)
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
