//! `alerts`: what fires, and on demand what is about to.
//!
//! It must never leave out an alert because a person does not want to hear of it.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::{At, Look, Page, deployments::named_team, query::Slice, words};
use crate::model::{AlertState, HeldReason, Severity, Subject, TeamId, Time, alert::flaps};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    pub rule: String,
    pub kind: String,
    pub severity: Severity,
    /// `firing`, `flapping`, `silenced` or `inhibited`; `pending`; or `quiet`, which has fired lately.
    pub state: String,
    pub subject: About,
    pub since: At,
    /// When people were last told.
    pub told: Option<At>,
    /// Since when its condition has ceased, while `keep_firing_for` lasts.
    pub cleared: Option<At>,
    /// Why nothing is told now; empty: it is being told.
    pub reason: String,
}

/// Who an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// `account`, `team`, `deployment` or `volume`.
    pub kind: String,
    pub id: Option<String>,
    pub name: Option<String>,
    pub team: Option<super::Named>,
}

/// `all`: also those that do not fire, but may soon, or did lately.
pub fn list(look: Look<'_>, slice: Slice, all: bool) -> Page<Alert> {
    let held: BTreeMap<_, _> =
        look.held.iter().map(|held| ((&*held.rule, &held.subject), &held.reason)).collect();
    let latent = all.then_some(&look.view.latent).into_iter().flatten();
    let alerts = look.view.firing.iter().chain(latent).map(|(key, (state, severity))| {
        let reason = held.get(&(&*key.rule, &key.subject)).copied();
        let (since, told, cleared) = times(state);
        Alert {
            rule: key.rule.to_string(),
            kind: kind(look, &key.rule),
            severity: *severity,
            state: word(look, state, reason).to_owned(),
            subject: about(look, &key.subject),
            since: At(since),
            told: told.map(At),
            cleared: cleared.map(At),
            reason: reason.map_or("", words::code).to_owned(),
        }
    });
    let mut alerts: Vec<Alert> = alerts.collect();
    // The worst first, then the oldest; what fires before what does not.
    let fires = |alert: &Alert| !matches!(&*alert.state, "pending" | "quiet");
    alerts.sort_by_key(|alert| (Reverse(fires(alert)), Reverse(alert.severity), alert.since));
    Page::new(look, slice, alerts, |alert| alert)
}

fn word(look: Look<'_>, state: &AlertState, reason: Option<&HeldReason>) -> &'static str {
    match (state, reason) {
        (AlertState::Pending { .. }, _) => "pending",
        (AlertState::Quiet { .. }, _) => "quiet",
        (_, Some(HeldReason::Silenced { .. })) => "silenced",
        (_, Some(HeldReason::Inhibited { .. })) => "inhibited",
        (AlertState::Firing { fired, .. }, _) if flaps(fired, look.now) => "flapping",
        (AlertState::Firing { .. } | AlertState::Told { .. }, _) => "firing",
    }
}

/// Since, told, cleared.
pub fn times(state: &AlertState) -> (Time, Option<Time>, Option<Time>) {
    match state {
        AlertState::Firing { since, told, cleared, .. } => (*since, *told, *cleared),
        AlertState::Pending { since, .. } => (*since, None, None),
        AlertState::Told { at } => (*at, Some(*at), None),
        AlertState::Quiet { fired } => (fired.last().copied().unwrap_or(Time::EPOCH), None, None),
    }
}

fn kind(look: Look<'_>, rule: &str) -> String {
    let rule = look.view.rules.iter().find(|known| *known.name == *rule);
    rule.map_or("", |rule| rule.kind.as_str()).to_owned()
}

pub fn about(look: Look<'_>, subject: &Subject) -> About {
    let snapshot = &look.view.snapshot;
    let of_team = |id: &TeamId| Some(named_team(look, id));
    let (id, name, team) = match subject {
        Subject::Account => (None, None, None),
        Subject::Team { id: team } | Subject::Occasion { team, .. } => {
            let team = named_team(look, team);
            (Some(team.id.clone()), Some(team.name.clone()), Some(team))
        }
        Subject::Deployment { id, .. } => {
            let found = snapshot.deployments.get(id).map(|tracked| &tracked.deployment);
            let name = found.map(|deployment| deployment.name.to_string());
            (Some(id.to_string()), name, found.and_then(|deployment| of_team(&deployment.team)))
        }
        Subject::Volume { id } => {
            let found = snapshot.volumes.get(id).map(|tracked| &tracked.volume);
            let name = found.map(|volume| volume.name.to_string());
            (Some(id.to_string()), name, found.and_then(|volume| of_team(&volume.team)))
        }
    };
    About { kind: subject.kind().to_owned(), id, name, team }
}
