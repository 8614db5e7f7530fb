//! Accounts as views, built by hand: a small one to read, and the standard fleet of any size (PRODUCT §12).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use spheron_watch::model::{
    AlertKey, AlertState, BudgetView, Deployment, DeploymentId, Feed, FeedHealth, Forecast, InstanceType,
    OutboxDepth, Outcome, Presence, Severity, Snapshot, Status, Subject, TeamId, Time, Tracked, TrackedTeam,
    TrackedVolume, Usd, View, Volume, VolumeId, VolumeStatus,
};

pub fn team(n: usize) -> TeamId {
    TeamId::new(format!("67a0000000000000{n:08x}"))
}

pub fn tracked_team(n: usize, name: &str, balance: Option<Usd>, now: Time) -> TrackedTeam {
    TrackedTeam {
        id: team(n),
        name: name.into(),
        role: "owner".into(),
        balance,
        balance_at: Some(now),
        previous: None,
        unknown_since: None,
        denied: None,
    }
}

pub fn tracked(n: usize, team_n: usize, status: Status, now: Time) -> Tracked {
    let hour = Duration::from_secs(3_600);
    let ended = status.is_ended();
    Tracked {
        deployment: Deployment {
            id: DeploymentId::new(format!("68d0000000000000{n:08x}")),
            created_at: now.minus(hour),
            name: format!("train-{n}").into(),
            team: team(team_n),
            gpu_type: "RTX4090_PCIE".into(),
            gpu_count: 2,
            provider: "spheron-ai".into(),
            region: "us-east-1".into(),
            instance_type: InstanceType::new("SPOT"),
            status,
            hourly_rate: Usd::from_nanos(730_000_000),
            total_cost: Usd::from_nanos(1_460_000_000),
            started_at: Some(now.minus(hour)),
            stopped_at: ended.then_some(now),
            kubernetes: false,
            access: Default::default(),
        },
        first_seen: now.minus(hour),
        presence: if ended { Presence::Gone(now) } else { Presence::Listed },
        status_since: now,
        status_before: ended.then_some(Status::Running),
        rate_before: None,
        unreadable_since: None,
    }
}

pub fn tracked_volume(n: usize, team_n: usize, attached_to: Option<usize>, now: Time) -> TrackedVolume {
    TrackedVolume {
        volume: Volume {
            id: VolumeId::new(format!("69e0000000000000{n:08x}")),
            created_at: now,
            name: format!("data-{n}").into(),
            team: team(team_n),
            provider: "voltage-park".into(),
            status: if attached_to.is_some() { VolumeStatus::Attached } else { VolumeStatus::Available },
            size_bytes: 200_000_000_000,
            used_bytes: 12_500_000_000,
            hourly_rate: Usd::from_nanos(27_400_000),
            attached_to: attached_to
                .map(|n| DeploymentId::new(format!("68d0000000000000{n:08x}")))
                .into_iter()
                .collect(),
            last_detached_at: None,
        },
        first_seen: now,
        gone_at: None,
    }
}

pub fn snapshot(
    teams: impl IntoIterator<Item = TrackedTeam>,
    deployments: impl IntoIterator<Item = Tracked>,
    volumes: impl IntoIterator<Item = TrackedVolume>,
    now: Time,
) -> Snapshot {
    let health = FeedHealth {
        last_attempt: Some(now),
        last_outcome: Some(Outcome::Complete),
        last_complete: Some(now),
        ..FeedHealth::new(Duration::from_secs(60), now)
    };
    Snapshot {
        feeds: [Feed::Balance, Feed::Deployments].map(|feed| (feed, health.clone())).into(),
        teams: teams.into_iter().map(|t| (t.id.clone(), Arc::new(t))).collect(),
        deployments: deployments.into_iter().map(|t| (t.deployment.id.clone(), Arc::new(t))).collect(),
        volumes: volumes.into_iter().map(|t| (t.volume.id.clone(), Arc::new(t))).collect(),
        ..Snapshot::default()
    }
}

pub fn view(snapshot: Snapshot, now: Time) -> View {
    let forecast = |id: &TeamId| Forecast { committed: snapshot.burn_per_hour(id), ..Forecast::default() };
    View {
        at: now,
        forecasts: snapshot.teams.keys().map(|id| (id.clone(), forecast(id))).collect(),
        snapshot: Arc::new(snapshot),
        generation: 1,
        config_reload_ok: true,
        ..View::default()
    }
}

/// Two teams, one of unknown balance; one deployment running, one just reclaimed, one deploying; two volumes; one alert.
pub fn small(start: Time, now: Time) -> View {
    let mut reclaimed = tracked(2, 1, Status::TerminatedProvider, start);
    reclaimed.status_since = now;
    let mut snapshot = snapshot(
        [
            tracked_team(1, "research", Some(Usd::from_cents(820)), now),
            tracked_team(2, "class \"B\"", None, now),
        ],
        [tracked(1, 1, Status::Running, start), reclaimed, tracked(3, 2, Status::Deploying, start)],
        [tracked_volume(1, 1, Some(1), start), tracked_volume(2, 2, None, start)],
        now,
    );
    snapshot.first_observed = Some(start);
    let key = AlertKey { rule: "low-balance".into(), subject: Subject::Team { id: team(1) } };
    let firing = AlertState::Firing { since: start, told: Some(start), cleared: None, fired: Vec::new() };
    let mut view = view(snapshot, now);
    let (spent, limit) = (Usd::from_cents(4_250), Usd::from_cents(10_000));
    view.budgets = vec![BudgetView { rule: "month".into(), team: team(1), limit, spent }];
    if let Some(forecast) = view.forecasts.get_mut(&team(1)) {
        forecast.observed = Some(Usd::from_cents(80));
        forecast.committed_end = Some(start.plus(Duration::from_secs(11 * 3_600)));
        forecast.observed_end = Some(start.plus(Duration::from_secs(10 * 3_600)));
        forecast.unexplained_total = Usd::from_cents(7);
        forecast.topups_total = Usd::from_cents(5_000);
        forecast.deployments_total = Usd::from_cents(292);
        forecast.volumes_total = Usd::from_cents(3);
    }
    View {
        firing: BTreeMap::from([(key, (firing, Severity::Critical))]),
        outbox: BTreeMap::from([(
            "ops".into(),
            OutboxDepth { waiting: 2, oldest: Some(start), trouble: None },
        )]),
        database_bytes: 65_536,
        ..view
    }
}

/// N deployments, all running, N/5 volumes, N/50 teams.
pub fn standard(n: usize, now: Time) -> View {
    let teams = (n / 50).max(1);
    let snapshot = snapshot(
        (0..teams).map(|i| tracked_team(i, &format!("team {i}"), Some(Usd::from_cents(12_345)), now)),
        (0..n).map(|i| tracked(i, i % teams, Status::Running, now)),
        (0..n / 5).map(|i| tracked_volume(i, i % teams, Some(i), now)),
        now,
    );
    view(snapshot, now)
}
