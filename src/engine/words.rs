//! Says an alert in words: title, reason with figures, what to do now, and the table of details.
//!
//! It must never leave a reader without a next step, and never says more than the snapshot knows.

use std::{sync::Arc, time::Duration};

use crate::{
    engine::rules,
    model::{
        Deployment, DeploymentId, Feed, Offer, Rule, RuleKind, Snapshot, Status, Subject, TeamId, Time,
        Tracked, TrackedTeam, TrackedVolume, Transition, Usd, VolumeId, humanize,
    },
};

pub struct Words {
    pub title: String,
    pub reason: String,
    pub advice: String,
    pub details: Vec<(Arc<str>, String)>,
}

/// Where money is added and instances are ended by hand.
const CONSOLE: &str = "https://app.spheron.ai";

pub fn compose(
    rule: &Rule,
    subject: &Subject,
    transition: Transition,
    since: Time,
    snapshot: &Snapshot,
    now: Time,
) -> Words {
    let mut words = match subject {
        Subject::Account => of_account(rule, snapshot, now),
        Subject::Team { id } => of_team(rule, id, snapshot, now),
        Subject::Deployment { id, .. } => match snapshot.deployments.get(id) {
            Some(tracked) => of_deployment(rule, tracked, snapshot, now),
            None => unknown_subject(rule, subject),
        },
        Subject::Volume { .. } => unknown_subject(rule, subject),
    };
    match transition {
        Transition::Resolved => {
            words.reason =
                format!("No longer so after {}. Now: {}", humanize(now.since(since)), words.reason);
            words.advice = "Nothing to do.".into();
        }
        Transition::Reminder => {
            words.reason = format!("Still so after {}. {}", humanize(now.since(since)), words.reason);
        }
        Transition::Firing | Transition::Event | Transition::Test => {}
    }
    words
}

fn unknown_subject(rule: &Rule, subject: &Subject) -> Words {
    Words {
        title: format!("{}: {subject}", rule.kind.as_str()),
        reason: "It is no longer in the account as observed.".into(),
        advice: "Nothing to do.".into(),
        details: Vec::new(),
    }
}

fn of_account(rule: &Rule, snapshot: &Snapshot, now: Time) -> Words {
    let (title, reason, advice) = match &rule.kind {
        RuleKind::KeyRejected => (
            "API key rejected".to_owned(),
            match snapshot.key_rejected_since {
                Some(since) => format!(
                    "The Spheron API has answered 401 since {since}: nothing is being watched until the key works again."
                ),
                None => "The Spheron API accepts the key.".to_owned(),
            },
            format!(
                "Only one API key is active at a time, so creating another revokes this one. Make a key at \
                 {CONSOLE}/settings?tab=api, put it where the daemon reads it, and restart it."
            ),
        ),
        RuleKind::ConfigInvalid => (
            "configuration could not be reloaded".to_owned(),
            match &snapshot.config_error {
                Some(error) => format!("The old configuration stays in force. {error}"),
                None => "The configuration is loaded.".to_owned(),
            },
            "Run `spheron-watch check-config`, mend what it names, and reload.".to_owned(),
        ),
        RuleKind::Blind { .. }
        | RuleKind::Balance { .. }
        | RuleKind::BalanceUnknown
        | RuleKind::RunningLong { .. }
        | RuleKind::SpotInterrupted
        | RuleKind::ProviderStopped
        | RuleKind::FleetShrunk => blind(snapshot, now),
    };
    Words { title, reason, advice, details: feed_details(snapshot, now) }
}

fn blind(snapshot: &Snapshot, now: Time) -> (String, String, String) {
    let feeds = rules::VITAL.iter().filter_map(|feed| snapshot.feeds.get(feed).map(|health| (feed, health)));
    let worst = feeds.max_by_key(|(_, health)| now.since(health.last_usable.unwrap_or(health.watched_since)));
    let (what, age, why) = match worst {
        Some((feed, health)) => (
            feed.as_str(),
            now.since(health.last_usable.unwrap_or(health.watched_since)),
            health.trouble.as_deref().unwrap_or("no attempt was made"),
        ),
        None => ("account", Duration::ZERO, "no attempt was made"),
    };
    let mut reason =
        format!("The last complete poll of {what} was {} ago. The last attempt: {why}.", humanize(age));
    let burn: Usd = snapshot.teams.keys().map(|team| snapshot.burn_per_hour(team)).sum();
    if burn > Usd::ZERO {
        reason.push_str(&format!(" When last seen, the account spent {burn}/h."));
    }
    let advice = format!(
        "Until it is back, look at {CONSOLE} yourself: instances go on billing while nobody watches."
    );
    ("blind: no fresh data from Spheron".to_owned(), reason, advice)
}

fn feed_details(snapshot: &Snapshot, now: Time) -> Vec<(Arc<str>, String)> {
    let line = |feed: &Feed| {
        let health = snapshot.feeds.get(feed)?;
        let age =
            health.last_usable.map_or("never".to_owned(), |at| format!("{} ago", humanize(now.since(at))));
        Some((Arc::from(format!("last {feed}")), age))
    };
    rules::VITAL.iter().filter_map(line).collect()
}

fn of_team(rule: &Rule, id: &TeamId, snapshot: &Snapshot, now: Time) -> Words {
    let team = snapshot.teams.get(id);
    let name = team.map_or(id.as_str(), |team| &team.name).to_owned();
    let burn = snapshot.burn_per_hour(id);
    let balance = team.and_then(|team| team.balance);
    let mut details: Vec<(Arc<str>, String)> = vec![("team".into(), format!("{name} ({id})"))];
    if let Some(balance) = balance {
        details.push(("balance".into(), balance.to_string()));
    }
    let spending = if snapshot.fleet_known() { format!("{burn}/h") } else { "not known yet".to_owned() };
    details.push(("spending".into(), spending));
    let (title, reason, advice) = match &rule.kind {
        RuleKind::Balance { below, .. } => low_balance(&name, *below, balance, burn, now, &mut details),
        RuleKind::FleetShrunk => fleet_shrunk(&name, id, snapshot),
        RuleKind::BalanceUnknown
        | RuleKind::RunningLong { .. }
        | RuleKind::SpotInterrupted
        | RuleKind::ProviderStopped
        | RuleKind::Blind { .. }
        | RuleKind::KeyRejected
        | RuleKind::ConfigInvalid => balance_unknown(&name, team, burn),
    };
    Words { title, reason, advice, details }
}

fn low_balance(
    name: &str,
    below: Usd,
    balance: Option<Usd>,
    burn: Usd,
    now: Time,
    details: &mut Vec<(Arc<str>, String)>,
) -> (String, String, String) {
    let left = balance.unwrap_or(Usd::ZERO);
    let mut reason = format!("The balance of {name} is {left}; the threshold is {below}.");
    if let Some(length) = left.lasts_at(burn) {
        let end = now.plus(length);
        reason.push_str(&format!(
            " At {burn}/h it lasts {}, until {end}. At zero the platform ends every instance, disks included.",
            humanize(length)
        ));
        details.push(("runs out".into(), format!("{end} (in {})", humanize(length))));
    }
    let advice = format!("Add credit at {CONSOLE}, or end what is not needed.");
    let title = if left < below {
        format!("low balance: {name} has {left} left")
    } else {
        format!("balance: {name} has {left}")
    };
    (title, reason, advice)
}

fn balance_unknown(name: &str, team: Option<&Arc<TrackedTeam>>, burn: Usd) -> (String, String, String) {
    let last = match team.and_then(|team| Some((team.balance?, team.balance_at?))) {
        Some((balance, at)) if burn > Usd::ZERO => {
            format!("It was {balance} at {at}, with {burn}/h being spent.")
        }
        Some((balance, at)) => format!("It was {balance} at {at}."),
        None => "It was never known.".to_owned(),
    };
    let now = match team {
        Some(team) if team.unknown_since.is_none() => "known again".to_owned(),
        Some(_) | None => "missing from the API's answer, or not readable there".to_owned(),
    };
    (
        format!("balance unknown: {name}"),
        format!("The balance of {name} is {now}. {last}"),
        format!(
            "Check the team and your role in it at {CONSOLE}; a name in `[account] teams` may be misspelt."
        ),
    )
}

fn fleet_shrunk(name: &str, id: &TeamId, snapshot: &Snapshot) -> (String, String, String) {
    let reason = match snapshot.shrunk.get(id) {
        Some(shrunk) => {
            let ended =
                |id: &&DeploymentId| snapshot.deployments.get(*id).is_some_and(|tracked| !tracked.is_live());
            let ended = shrunk.vanished.iter().filter(ended).count();
            format!(
                "{} of {} running deployments of {name} vanished from the list between two polls at {}; {ended} of them \
                 are confirmed ended so far.",
                shrunk.vanished.len(),
                shrunk.running_before,
                shrunk.at
            )
        }
        None => "Every deployment that vanished is listed again or confirmed ended.".to_owned(),
    };
    let advice =
        format!("If nobody ended them, look at {CONSOLE}: an empty list may also be the API's mistake.");
    (format!("fleet shrunk: {name}"), reason, advice)
}

fn of_deployment(rule: &Rule, tracked: &Tracked, snapshot: &Snapshot, now: Time) -> Words {
    let deployment = &tracked.deployment;
    let name = label(deployment);
    let end = deployment.stopped_at.unwrap_or(if tracked.is_live() { now } else { tracked.status_since });
    let runtime = humanize(end.since(deployment.since()));
    let mut details = deployment_details(tracked, snapshot, &runtime);
    let (title, reason, advice) = match &rule.kind {
        RuleKind::RunningLong { longer_than } => running_long(tracked, &name, &runtime, *longer_than),
        RuleKind::SpotInterrupted => spot_interrupted(deployment, &name, &runtime, snapshot, &mut details),
        RuleKind::ProviderStopped
        | RuleKind::Balance { .. }
        | RuleKind::BalanceUnknown
        | RuleKind::FleetShrunk
        | RuleKind::Blind { .. }
        | RuleKind::KeyRejected
        | RuleKind::ConfigInvalid => provider_stopped(tracked, &name, &runtime),
    };
    Words { title, reason, advice, details }
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

fn running_long(
    tracked: &Tracked,
    name: &str,
    runtime: &str,
    longer_than: Duration,
) -> (String, String, String) {
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
    (format!("running long: {name} for {runtime}"), reason, advice)
}

fn spot_interrupted(
    deployment: &Deployment,
    name: &str,
    runtime: &str,
    snapshot: &Snapshot,
    details: &mut Vec<(Arc<str>, String)>,
) -> (String, String, String) {
    let volumes: Vec<_> =
        snapshot.volumes.values().filter(|volume| was_attached(volume, deployment)).collect();
    let mut reason = format!(
        "The provider reclaimed the spot instance {name} after {runtime}; it cost {}. Its local disk is gone.",
        deployment.total_cost
    );
    if volumes.is_empty() {
        reason.push_str(" No volume is known to have been attached to it.");
    } else {
        let rate: Usd = volumes.iter().map(|v| v.volume.hourly_rate).sum();
        let names: Vec<&VolumeId> = volumes.iter().map(|v| &v.volume.id).collect();
        let month = rate.per_hour_for(Duration::from_secs(730 * 3_600));
        let left =
            if names.len() == 1 { "1 volume is".to_owned() } else { format!("{} volumes are", names.len()) };
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
    (format!("spot interrupted: {name} after {runtime}"), reason, advice)
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

fn provider_stopped(tracked: &Tracked, name: &str, runtime: &str) -> (String, String, String) {
    let deployment = &tracked.deployment;
    match &deployment.status {
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
    }
}
