//! The account as Prometheus sees it: one picture in, one page of fleet series out.
//!
//! It must never show what is gone or guess what is unknown: no sample is better than a wrong one.

mod money;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::text::{Page, visible};
use crate::model::{Feed, Outcome, Snapshot, Status, Time, Tracked, TrackedVolume, View, VolumeStatus};

/// How long an ended deployment still shows its final status, so that a scrape every few minutes sees it (PRODUCT §9).
const ENDED_KEPT: Duration = Duration::from_secs(15 * 60);

/// Every team counts its deployments in each of these, zero included: an alert on a missing series never fires.
const KNOWN_STATUSES: [Status; 6] = [
    Status::Deploying,
    Status::Running,
    Status::Failed,
    Status::Terminated,
    Status::TerminatedProvider,
    Status::Stopped,
];

/// The fleet's part of `/metrics`, families by name and series by id. Pure: the same view and minute give the same bytes.
pub fn render(view: &View, now: Time) -> String {
    let snapshot = &*view.snapshot;
    let deployments: Vec<&Tracked> =
        snapshot.deployments.values().map(Arc::as_ref).filter(|tracked| is_shown(tracked, now)).collect();
    let volumes: Vec<&TrackedVolume> =
        snapshot.volumes.values().map(Arc::as_ref).filter(|tracked| tracked.bills()).collect();
    // About what one takes with ids of 24 characters; a guess too low costs a copy.
    let mut page = Page::with_capacity(4_096 + 1_100 * deployments.len() + 450 * volumes.len());
    money::balances(&mut page, view);
    money::burn_rates(&mut page, view, &deployments, &volumes);
    money::costs(&mut page, view);
    deployment_series(&mut page, snapshot, &deployments, now);
    deployment_counts(&mut page, snapshot, &deployments);
    team_infos(&mut page, snapshot);
    up(&mut page, snapshot);
    volume_series(&mut page, &volumes);
    page.into_text()
}

/// What bills is shown, and for a quarter of an hour what has ended. One that is gone without a known end just goes.
fn is_shown(tracked: &Tracked, now: Time) -> bool {
    tracked.is_live()
        || (tracked.deployment.status.is_ended() && now.since(end_observed(tracked)) < ENDED_KEPT)
}

/// When its end was observed. One that was never seen alive ended when the API says: the first inventory of an old account
/// must not bring back its whole past.
fn end_observed(tracked: &Tracked) -> Time {
    match (&tracked.status_before, tracked.deployment.stopped_at) {
        (None, Some(stopped_at)) => tracked.status_since.min(stopped_at),
        (Some(_), _) | (None, None) => tracked.status_since,
    }
}

fn deployment_series(page: &mut Page, snapshot: &Snapshot, deployments: &[&Tracked], now: Time) {
    let mut family = page.gauge(
        "spheron_deployment_cost_usd",
        "Cost so far in US dollars, the API's own totalCost of the deployment.",
    );
    for t in deployments {
        family.sample(&ids(t), t.deployment.total_cost.to_f64());
    }
    utilization(page, snapshot, deployments, now);
    let mut family =
        page.gauge("spheron_deployment_gpus", "Number of GPUs that the deployment holds, from its gpuCount.");
    for t in deployments.iter().filter(|t| t.is_live()) {
        family.sample(&ids(t), t.deployment.gpu_count);
    }
    let mut family = page.gauge(
        "spheron_deployment_info",
        "Always 1; what the deployment is, from the API's list of deployments. The name may change and is not unique.",
    );
    for t in deployments {
        let d = &t.deployment;
        let [team, id] = ids(t);
        let labels = [
            team,
            id,
            ("name", &*d.name),
            ("gpu_type", &*d.gpu_type),
            ("instance_type", d.instance_type.as_str()),
            ("provider", &*d.provider),
            ("provider_region", &*d.region),
        ];
        family.sample(&labels, 1);
    }
    let mut family = page.gauge(
        "spheron_deployment_price_usd_per_hour",
        "What the whole deployment is debited, in US dollars per hour, from its hourlyRate; none once it has ended.",
    );
    for t in deployments.iter().filter(|t| t.is_live()) {
        family.sample(&ids(t), t.deployment.hourly_rate.to_f64());
    }
    let mut family = page.gauge(
        "spheron_deployment_start_time_seconds",
        "Since when it counts as running, in seconds since 1970: its startedAt, else its createdAt.",
    );
    for t in deployments {
        family.sample(&ids(t), seconds(t.deployment.since()));
    }
    let mut family = page.gauge(
        "spheron_deployment_status",
        "1 for the status that the API gave last; an ended deployment keeps its last one for 15 minutes.",
    );
    for t in deployments {
        let [team, id] = ids(t);
        family.sample(&[team, id, ("status", t.deployment.status.as_str())], 1);
    }
}

fn utilization(page: &mut Page, snapshot: &Snapshot, deployments: &[&Tracked], now: Time) {
    let mut family = page.gauge(
        "spheron_deployment_gpu_utilization_ratio",
        "Load of the busiest GPU, 0 to 1, as the activity sources measured last; no sample where none did of late.",
    );
    for t in deployments.iter().filter(|t| t.is_live()) {
        let said = snapshot.activity.get(&t.deployment.id).into_iter().flat_map(BTreeMap::values);
        let measured =
            said.filter(|source| source.is_fresh(now)).filter_map(|source| source.utilization_permille);
        if let Some(permille) = measured.max() {
            family.sample(&ids(t), f64::from(permille) / 1_000.0);
        }
    }
}

fn deployment_counts(page: &mut Page, snapshot: &Snapshot, deployments: &[&Tracked]) {
    let none = || KNOWN_STATUSES.map(|status| (status.as_str().to_owned(), 0_u64)).into_iter().collect();
    let mut counts: BTreeMap<&str, BTreeMap<String, u64>> =
        snapshot.teams.keys().map(|id| (id.as_str(), none())).collect();
    for tracked in deployments {
        let of_team = counts.entry(tracked.deployment.team.as_str()).or_insert_with(none);
        let status = tracked.deployment.status.as_str();
        match of_team.get_mut(status) {
            Some(count) => *count += 1,
            // Keyed by what is shown: two unknown statuses that are cut to the same text are one series.
            None => {
                *of_team.entry(visible(status, super::text::LABEL_CHARS_MAX).into_owned()).or_default() += 1
            }
        }
    }
    let mut family = page.gauge(
        "spheron_deployments",
        "Number of deployments by the API's status; ended ones count for 15 minutes.",
    );
    for (team, of_team) in &counts {
        for (status, count) in of_team {
            family.sample(&[("team_id", team), ("status", status)], count);
        }
    }
}

fn team_infos(page: &mut Page, snapshot: &Snapshot) {
    let mut family = page.gauge(
        "spheron_team_info",
        "Always 1; the team's name and the key's role in it, from GET /api/balance.",
    );
    for team in snapshot.teams.values() {
        let labels = [("team_id", team.id.as_str()), ("team_name", &*team.name), ("role", &*team.role)];
        family.sample(&labels, 1);
    }
}

fn up(page: &mut Page, snapshot: &Snapshot) {
    let answered = |feed| {
        let outcome = snapshot.feeds.get(&feed).and_then(|health| health.last_outcome);
        match outcome {
            Some(Outcome::Complete | Outcome::Partial) => true,
            Some(Outcome::Failed) | None => false,
        }
    };
    let up = answered(Feed::Balance) && answered(Feed::Deployments);
    page.gauge(
        "spheron_up",
        "1 if the last polls of balances and of deployments both gave something, else 0.",
    )
    .sample(&[], u8::from(up));
}

fn volume_series(page: &mut Page, volumes: &[&TrackedVolume]) {
    let mut family = page.gauge(
        "spheron_volume_attached",
        "1 if the volume is attached to a deployment, else 0, from the API's list of volumes. It bills either way.",
    );
    for t in volumes {
        let attached = !t.volume.attached_to.is_empty() || t.volume.status == VolumeStatus::Attached;
        family.sample(&volume_ids(t), u8::from(attached));
    }
    let mut family = page.gauge(
        "spheron_volume_price_usd_per_hour",
        "What the whole volume is debited, in US dollars per hour, from the API's list of volumes.",
    );
    for t in volumes {
        family.sample(&volume_ids(t), t.volume.hourly_rate.to_f64());
    }
    let mut family =
        page.gauge("spheron_volume_size_bytes", "Size in bytes, from the API's list of volumes.");
    for t in volumes {
        family.sample(&volume_ids(t), t.volume.size_bytes);
    }
    let mut family = page.gauge("spheron_volume_used_bytes", "Used bytes, from the API's list of volumes.");
    for t in volumes {
        family.sample(&volume_ids(t), t.volume.used_bytes);
    }
}

fn ids(tracked: &Tracked) -> [(&'static str, &str); 2] {
    [("team_id", tracked.deployment.team.as_str()), ("deployment_id", tracked.deployment.id.as_str())]
}

fn volume_ids(tracked: &TrackedVolume) -> [(&'static str, &str); 2] {
    [("team_id", tracked.volume.team.as_str()), ("volume_id", tracked.volume.id.as_str())]
}

/// Seconds since 1970 as Prometheus wants them.
#[allow(clippy::cast_precision_loss, reason = "milliseconds of this era fit the mantissa")]
pub(super) fn seconds(time: Time) -> f64 {
    time.millis() as f64 / 1_000.0
}
