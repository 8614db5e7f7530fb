//! Oracles of deployments and volumes beyond their ends: failed, stuck, new, at another rate; unattached, full.
//!
//! It must never expect what no answer of the API could have shown.

use std::time::Duration;

use spheron_watch::{
    model::{Feed, Notice, RuleKind, Status, Subject, Time, Transition, Usd, VolumeId, VolumeStatus},
    sim::{Endpoint, Life, VolumeLife},
};

use crate::{
    oracles::{AT_ONCE, Asked, decided, expect_firing, first_within, holds, last_word, marred, whole_lists},
    run::{Evidence, MINUTE},
    truth::{between, spans},
};

/// The limit of a kind of rule.
fn limit<T>(evidence: &Evidence, of: impl Fn(&RuleKind) -> Option<T>) -> T {
    evidence.rules.iter().find_map(|rule| of(&rule.kind)).expect("a default rule")
}

fn stuck_after(evidence: &Evidence) -> Duration {
    limit(evidence, |kind| if let RuleKind::Stuck { longer_than } = kind { Some(*longer_than) } else { None })
}

fn unattached_after(evidence: &Evidence) -> Duration {
    limit(evidence, |kind| {
        if let RuleKind::UnattachedVolume { longer_than } = kind { Some(*longer_than) } else { None }
    })
}

fn full_above(evidence: &Evidence) -> u64 {
    let permille = limit(evidence, |kind| {
        if let RuleKind::VolumeFull { above_permille } = kind { Some(*above_permille) } else { None }
    });
    u64::from(permille)
}

/// What lasts longer than that, from when it does.
fn longer(spans: Vec<(Time, Time)>, than: Duration) -> Vec<(Time, Time)> {
    spans
        .into_iter()
        .map(|(from, until)| (from.plus(than), until))
        .filter(|(from, until)| from < until)
        .collect()
}

fn stuck(evidence: &Evidence, life: &Life) -> Vec<(Time, Time)> {
    longer(spans(&life.statuses, |status| *status == Status::Deploying), stuck_after(evidence))
}

pub fn is_true_stuck(evidence: &Evidence, subject: &Subject, at: Time, over: bool) -> bool {
    let Some(life) = evidence.truth.life(subject) else { return false };
    holds(&stuck(evidence, life), last_word(evidence, life, at), at, over)
}

pub fn every_stuck_deployment_is_told(evidence: &Evidence) -> Vec<String> {
    let mut expected = Vec::new();
    for (subject, life) in &evidence.truth.lives {
        for poll in first_within(&whole_lists(evidence, &life.team), &stuck(evidence, life)) {
            expected.push(("stuck", subject.clone(), poll.until.plus(AT_ONCE)));
        }
    }
    expect_firing(evidence, &expected)
}

pub fn is_true_failure(evidence: &Evidence, notice: &Notice) -> bool {
    let failed = |life: &Life| life.statuses.iter().any(|(at, to)| *to == Status::Failed && *at <= notice.at);
    notice.transition == Transition::Event && evidence.truth.life(&notice.key.subject).is_some_and(failed)
}

fn told<'e>(decided: &[&'e Notice], kind: &str, subject: &Subject) -> Vec<&'e Notice> {
    decided.iter().copied().filter(|n| &*n.kind == kind && n.key.subject == *subject).collect()
}

pub fn is_true_arrival(evidence: &Evidence, notice: &Notice) -> bool {
    let born = |life: &Life| life.statuses[0].0 <= notice.at;
    notice.transition == Transition::Event && evidence.truth.life(&notice.key.subject).is_some_and(born)
}

/// By the first list that shows it; the fleet of the first start is no news.
pub fn every_new_deployment_is_told_once(evidence: &Evidence) -> Vec<String> {
    let (mut wrong, decided) = (Vec::new(), decided(evidence));
    let began =
        evidence.asked.iter().find(|asked| asked.answered > 0).map_or(Time::EPOCH, |asked| asked.until);
    for (subject, life) in &evidence.truth.lives {
        let told = told(&decided, "new_deployment", subject);
        if told.len() > 1 {
            wrong.push(format!("{subject} was told as new {} times", told.len()));
        }
        let listed = spans(&life.statuses, |status| matches!(status, Status::Deploying | Status::Running));
        let news: Vec<_> =
            listed.into_iter().filter(|(from, _)| *from > began.plus(MINUTE)).take(1).collect();
        for list in first_within(&whole_lists(evidence, &life.team), &news) {
            if !told.iter().any(|notice| notice.at <= list.until.plus(AT_ONCE)) {
                wrong.push(format!("{subject} was not told as new by {}", list.until));
            }
        }
    }
    wrong
}

/// It changed while it billed, and that is told by somebody who could know both rates.
pub fn is_true_rate_change(evidence: &Evidence, notice: &Notice) -> bool {
    let changed = |life: &Life| {
        let billed = |(at, rate): &(Time, _)| *at <= notice.at && *rate > Usd::ZERO;
        life.rates.iter().filter(|step| billed(step)).count() > 1
    };
    notice.transition == Transition::Event && evidence.truth.life(&notice.key.subject).is_some_and(changed)
}

/// Between two whole lists that show it at different rates.
pub fn every_change_of_rate_is_told(evidence: &Evidence) -> Vec<String> {
    let (mut wrong, decided) = (Vec::new(), decided(evidence));
    for (subject, life) in evidence.truth.lives.iter().filter(|(_, life)| life.rates.len() > 2) {
        let told = told(&decided, "rate_changed", subject);
        let listed = |poll: &Asked| {
            between(&life.statuses, poll.from, poll.until)
                .all(|(at, status)| *at <= poll.from && matches!(status, Status::Deploying | Status::Running))
        };
        let rate = |poll: &Asked| {
            let seen: Vec<_> = between(&life.rates, poll.from, poll.until).map(|(_, rate)| *rate).collect();
            (seen.len() == 1 && life.statuses[0].0 < poll.from && listed(poll)).then(|| seen[0])
        };
        for pair in whole_lists(evidence, &life.team).windows(2) {
            let (Some(before), Some(after)) = (rate(pair[0]), rate(pair[1])) else { continue };
            let (from, by) = (pair[0].from, pair[1].until.plus(AT_ONCE));
            if before != after && !told.iter().any(|notice| from < notice.at && notice.at <= by) {
                wrong.push(format!(
                    "{subject} went from {before}/h to {after}/h by {by}, and nobody was told"
                ));
            }
        }
    }
    wrong
}

fn volume<'e>(evidence: &'e Evidence, id: &VolumeId) -> Option<&'e VolumeLife> {
    evidence.truth.volumes.get(id)
}

fn unattached(evidence: &Evidence, life: &VolumeLife) -> Vec<(Time, Time)> {
    let statuses: Vec<(Time, VolumeStatus)> =
        life.states.iter().map(|(at, status, _)| (*at, status.clone())).collect();
    longer(spans(&statuses, |status| *status == VolumeStatus::Available), unattached_after(evidence))
}

fn full(evidence: &Evidence, life: &VolumeLife) -> Vec<(Time, Time)> {
    let limit = u64::from(life.size_gb) * 1_000_000 * full_above(evidence);
    let used: Vec<(Time, bool)> = life
        .states
        .iter()
        .map(|(at, status, used)| (*at, *used > limit && *status != VolumeStatus::Deleted))
        .collect();
    spans(&used, |full| *full)
}

/// Polls of volumes that told all of a team.
fn volumes_read<'e>(evidence: &'e Evidence, life: &VolumeLife) -> Vec<&'e Asked> {
    let shown = |poll: &&Asked| !evidence.truth.hid(&life.team, poll.from, poll.until);
    evidence.honest(Feed::Volumes).filter(shown).collect()
}

fn is_true_of_volume(
    evidence: &Evidence,
    id: &VolumeId,
    spans: fn(&Evidence, &VolumeLife) -> Vec<(Time, Time)>,
    at: Time,
    over: bool,
) -> bool {
    let Some(life) = volume(evidence, id) else { return false };
    let read = volumes_read(evidence, life);
    let known = read.iter().rev().find(|poll| poll.until <= at).map_or(Time::EPOCH, |poll| poll.from);
    // A whole list that lacks it says that it is gone: there is no other way to know of a volume.
    let lacked = over && marred(evidence, &[Endpoint::Volumes], known, at);
    lacked || holds(&spans(evidence, life), known, at, over)
}

pub fn is_true_unattached(evidence: &Evidence, id: &VolumeId, at: Time, over: bool) -> bool {
    is_true_of_volume(evidence, id, unattached, at, over)
}

pub fn is_true_full(evidence: &Evidence, id: &VolumeId, at: Time, over: bool) -> bool {
    is_true_of_volume(evidence, id, full, at, over)
}

fn every_volume_is_told(
    evidence: &Evidence,
    rule: &str,
    spans: fn(&Evidence, &VolumeLife) -> Vec<(Time, Time)>,
) -> Vec<String> {
    let mut expected = Vec::new();
    for (id, life) in &evidence.truth.volumes {
        for poll in first_within(&volumes_read(evidence, life), &spans(evidence, life)) {
            expected.push((rule, Subject::Volume { id: id.clone() }, poll.until.plus(AT_ONCE)));
        }
    }
    expect_firing(evidence, &expected)
}

pub fn every_unattached_volume_is_told(evidence: &Evidence) -> Vec<String> {
    every_volume_is_told(evidence, "unattached-volume", unattached)
}

pub fn every_full_volume_is_told(evidence: &Evidence) -> Vec<String> {
    every_volume_is_told(evidence, "volume-full", full)
}

/// When it failed.
pub fn failed_at(life: &Life) -> Option<Time> {
    life.statuses.iter().find(|(_, status)| *status == Status::Failed).map(|(at, _)| *at)
}
