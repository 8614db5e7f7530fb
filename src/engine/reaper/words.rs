//! What people hear of an end: announced, reminded, done, failed, refused, not confirmed, called off, and what a dry run would do.
//!
//! It must never leave out when it happens, what is lost with it, and how to stop it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{ground::Ground, sight};
use crate::{
    engine::words::{deployment_details, label},
    model::{
        Action, AlertKey, Arming, EventId, Feed, Grant, Notice, Policy, Restored, Severity, Subject, Time,
        Together, Transition, Why, Withheld, action::REMEMBERED, humanize, outbox::LOG,
    },
};

pub enum Tidings {
    Announced {
        because: String,
        floor: Option<Time>,
    },
    Reminder {
        at: Time,
    },
    Done,
    /// In doubt, and read as running: nothing has happened.
    Failed,
    Refused {
        why: Arc<str>,
    },
    NotConfirmed,
    CalledOff {
        why: Why,
    },
}

/// Tells notices of one action apart; the announcement is the first.
const ANNOUNCEMENT: i64 = 0;
const DAILY: i64 = 7;
/// An end that is put off goes by a new announcement after an hour, with a link of its own.
const GRANTED_BEYOND: Duration = Duration::from_secs(24 * 3_600);
const RESTORED: i64 = 8;

struct Words {
    nth: i64,
    severity: Severity,
    title: String,
    reason: String,
    advice: String,
    /// When it is to end: up to then, and some time beyond, the reader may keep it by a link.
    until: Option<Time>,
}

/// No rule can have this name: names have no slash.
fn key(policy: &str, subject: Subject) -> AlertKey {
    AlertKey { rule: format!("policy/{policy}").into(), subject }
}

pub fn announcement_id(action: &Action) -> EventId {
    let key = key(&action.policy, action.target.subject());
    EventId::derive(&key, action.marked, Transition::Event, ANNOUNCEMENT)
}

/// Tells of one action.
pub fn notice(ground: &Ground<'_>, action: &Action, tidings: &Tidings) -> Notice {
    let policy = ground.policies.policies.iter().find(|policy| policy.name == action.policy);
    let Words { nth, severity, title, reason, advice, until } = say(ground, action, policy, tidings);
    let key = key(&action.policy, action.target.subject());
    let mut details: Vec<(Arc<str>, String)> =
        vec![("policy".into(), action.policy.to_string()), ("action".into(), action.id.to_string())];
    if let Some(tracked) = ground.snapshot.deployments.get(&action.target.id)
        && tracked.deployment.created_at == action.target.created_at
    {
        let ran = humanize(ground.now.since(tracked.deployment.since()));
        // The last list may be older than what is told.
        let told = |(name, _): &(Arc<str>, String)| &**name != "status";
        details.extend(deployment_details(tracked, ground.snapshot, &ran).into_iter().filter(told));
    }
    Notice {
        id: EventId::derive(&key, action.marked, Transition::Event, nth),
        key,
        kind: "policy".into(),
        transition: Transition::Event,
        severity,
        title,
        reason,
        advice,
        details,
        bars: Vec::new(),
        since: action.marked,
        at: ground.now,
        receivers: receivers(policy),
        together: Together::default(),
        grant: until.map(|until| Grant {
            action: action.id.clone(),
            target: action.target.clone(),
            expires: until.plus(GRANTED_BEYOND),
        }),
        link: None,
    }
}

/// Of a policy that is gone from the configuration the log hears the rest.
fn receivers(policy: Option<&Policy>) -> Vec<Arc<str>> {
    policy.map_or_else(|| vec![LOG.into()], |policy| policy.receivers.clone())
}

fn say(ground: &Ground<'_>, action: &Action, policy: Option<&Policy>, tidings: &Tidings) -> Words {
    let name = label(&action.name, &action.target.id);
    let by = &action.policy;
    match tidings {
        Tidings::Announced { because, floor } => {
            let grace = policy.map(|policy| policy.grace).unwrap_or_default();
            let at = ground.now.plus(grace).max(floor.unwrap_or(ground.now));
            Words {
                nth: ANNOUNCEMENT,
                severity: Severity::Warning,
                title: format!("will be ended: {name} in {}", humanize(at.since(ground.now))),
                reason: format!(
                    "Policy {by} ends {name} not before {at}, {} after this notice has arrived, if all of this still holds then: {because}. It costs {}/h. {}",
                    humanize(grace),
                    action.rate,
                    lost(ground, action)
                ),
                advice: how_to_stop(action),
                until: Some(at),
            }
        }
        Tidings::Reminder { at } => Words {
            nth: 1,
            severity: Severity::Warning,
            title: format!("will be ended: {name} in {}", humanize(at.since(ground.now))),
            reason: format!(
                "Half of the time is over: policy {by} ends {name} not before {at}. {}",
                lost(ground, action)
            ),
            advice: how_to_stop(action),
            until: Some(*at),
        },
        Tidings::Done => Words {
            nth: 2,
            severity: Severity::Info,
            title: format!("ended: {name}"),
            reason: format!(
                "Policy {by} ended {name}; two reads show it. At {}/h it would have cost {} in the next 24 hours; what counts as saved ends sooner if a person acts before.",
                action.rate,
                action.rate.per_hour_for(REMEMBERED)
            ),
            advice: "Nothing to do. Volumes that were attached to it stay, and go on billing.".to_owned(),
            until: None,
        },
        Tidings::Failed | Tidings::Refused { .. } | Tidings::NotConfirmed => trouble(&name, action, tidings),
        Tidings::CalledOff { why } => Words {
            nth: 6,
            severity: Severity::Info,
            title: format!("not ended: {name}"),
            reason: format!("What policy {by} announced for {name} is called off: {why}."),
            advice: "Nothing to do. If it qualifies again, it is announced again.".to_owned(),
            until: None,
        },
    }
}

/// What goes with it, and what stays.
fn lost(ground: &Ground<'_>, action: &Action) -> String {
    const DISK: &str = "Ending deletes the instance and its disk";
    let snapshot = ground.snapshot;
    let volumes = snapshot.volumes.values().filter(|tracked| {
        tracked.gone_at.is_none() && tracked.volume.attached_to.contains(&action.target.id)
    });
    let names: Vec<String> = volumes.map(|tracked| label(&tracked.volume.name, &tracked.volume.id)).collect();
    let known = snapshot.feeds.get(&Feed::Volumes).is_some_and(sight::is_whole);
    match (names.as_slice(), known) {
        ([], true) => format!("{DISK}; no volume is attached, so all its data are lost."),
        ([], false) => format!("{DISK}; whether a volume is attached is not known now."),
        ([one], _) => format!("{DISK}; its volume {one} stays, and goes on billing."),
        (some, _) => format!("{DISK}; its volumes stay, and go on billing: {}.", some.join(", ")),
    }
}

/// It did not go as announced.
fn trouble(name: &str, action: &Action, tidings: &Tidings) -> Words {
    let by = &action.policy;
    let console = "https://app.spheron.ai";
    let (nth, title, reason, advice) = match tidings {
        Tidings::Refused { why } => (
            4,
            format!("refused: the end of {name}"),
            format!(
                "Policy {by} asked to end {name}, and the API refused: {why}. It runs on and costs {}/h.",
                action.rate
            ),
            format!("End it by hand at {console}, or see why the key may not. It is left alone for a day."),
        ),
        Tidings::NotConfirmed => (
            5,
            format!("not confirmed: the end of {name}"),
            format!(
                "Policy {by} asked to end {name}, and ten minutes later no read shows that it has ended. It may still cost {}/h.",
                action.rate
            ),
            format!(
                "Look at it at {console}. It is read again every five minutes; no second request is sent."
            ),
        ),
        Tidings::Announced { .. }
        | Tidings::Reminder { .. }
        | Tidings::Done
        | Tidings::Failed
        | Tidings::CalledOff { .. } => (
            3,
            format!("not ended: {name} still runs"),
            format!(
                "Policy {by} asked to end {name}; no answer came, and reads show it running, so it had no effect. It costs {}/h.",
                action.rate
            ),
            "Nothing to do: if it still qualifies, it is announced again.".to_owned(),
        ),
    };
    Words { nth, severity: Severity::Critical, title, reason, advice, until: None }
}

fn how_to_stop(action: &Action) -> String {
    format!(
        "To keep it: `spheron-watch keep {} --for 1d`. To stop this once: `spheron-watch actions cancel {}`. To stop the policy: `spheron-watch policy disarm {}`.",
        action.target.id, action.id, action.policy
    )
}

/// At most so many are named.
const NAMED_MAX: usize = 20;

/// Once a day, of one policy: what it would end.
pub fn daily(ground: &Ground<'_>, policy: &Policy, by: Withheld, actions: &[&Action]) -> Notice {
    let count = actions.len();
    let (title, reason, advice) = match by {
        Withheld::DryRun => (
            format!("dry run: {} would end {count}", policy.name),
            format!(
                "Policy {} is not armed. Armed, it would now announce the end of {}, and end {} after a grace of {}.",
                policy.name,
                if count == 1 { "one deployment".to_owned() } else { format!("{count} deployments") },
                if count == 1 { "it" } else { "them" },
                humanize(policy.grace)
            ),
            format!("To let it: `spheron-watch policy arm {}`, which shows what it would end.", policy.name),
        ),
        Withheld::FleetShare => {
            let (qualifying, fleet) = ground.too_many.unwrap_or_default();
            (
                format!("held: {qualifying} of {fleet} would be ended at once"),
                format!(
                    "Policy {} holds back: {qualifying} of {fleet} running deployments qualify at once, and {count} of them were not acknowledged or are this policy's. That looks like a fault of a sensor.",
                    policy.name
                ),
                format!(
                    "If it is meant, arm again on that list: `spheron-watch policy arm {}`. If not, look at what measures activity.",
                    policy.name
                ),
            )
        }
    };
    let named = actions.iter().take(NAMED_MAX).map(|action| {
        let name = label(&action.name, &action.target.id);
        (Arc::from("would end"), format!("{name} ({}), {}/h", action.target.id, action.rate))
    });
    let more = (count > NAMED_MAX).then(|| (Arc::from("and"), format!("{} more", count - NAMED_MAX)));
    let severity = match by {
        Withheld::DryRun => Severity::Info,
        Withheld::FleetShare => Severity::Critical,
    };
    let words = Words { nth: DAILY, severity, title, reason, advice, until: None };
    let details = named.chain(more).collect();
    Notice { details, ..of_policy(&policy.name, words, (ground.now, ground.now), policy.receivers.clone()) }
}

/// An arming that no longer fits. One id for each form that the policy takes after it was armed.
pub fn changed(ground: &Ground<'_>, policy: &Policy, arming: &Arming, fingerprint: &str) -> Notice {
    let Policy { name, receivers, .. } = policy;
    let nth = fingerprint.get(..15).and_then(|digits| i64::from_str_radix(digits, 16).ok());
    let words = Words {
        nth: nth.unwrap_or_default(),
        severity: Severity::Warning,
        title: format!("policy {name} is a dry run now"),
        reason: format!(
            "{} armed policy {name} at {}. It, [safety], the time zone or an activity that it uses changed since, so it ends nothing any more.",
            arming.by, arming.armed_at
        ),
        advice: format!(
            "To arm it as it is now: `spheron-watch policy arm {name}`, which shows what it would end. What it was is armed again if all of it is put back."
        ),
        until: None,
    };
    of_policy(name, words, (arming.armed_at, ground.now), receivers.clone())
}

/// The database was put back from a copy. Everybody who hears of any policy hears of it.
pub fn restored(ground: &Ground<'_>, restored: &Restored) -> Notice {
    let told: BTreeSet<Arc<str>> =
        ground.policies.policies.iter().flat_map(|policy| policy.receivers.iter().cloned()).collect();
    let receivers = if told.is_empty() { receivers(None) } else { told.into_iter().collect() };
    let armed = restored.armed.join(", ");
    let lacks = match restored.lacks {
        Some(lacks) => format!("It is older than the file `.orders` beside it: it lacks {lacks} order(s) or step(s) of policies."),
        None => "The file `.orders` beside it is missing, unreadable or of another database, so nobody knows what it lacks.".to_owned(),
    };
    let disarmed = match restored.armed.len() {
        0 => "No policy was armed in it.".to_owned(),
        _ => format!("What was armed in it is disarmed: {armed}."),
    };
    let words = Words {
        nth: RESTORED,
        severity: Severity::Critical,
        title: "policies disarmed: the database is an old copy".into(),
        reason: format!(
            "{lacks} {disarmed} What was announced is called off, and keeps made since the copy are lost."
        ),
        advice: "Keep anew what is to stay (`spheron-watch keep ID --for 7d`), then look at each policy and arm it: `spheron-watch policy arm NAME`. Until then nothing is ended.".into(),
        until: None,
    };
    of_policy("*", words, (ground.now, ground.now), receivers)
}

/// About a policy, and no deployment.
fn of_policy(
    policy: &str,
    Words { nth, severity, title, reason, advice, until: _ }: Words,
    (since, at): (Time, Time),
    receivers: Vec<Arc<str>>,
) -> Notice {
    let key = key(policy, Subject::Account);
    Notice {
        id: EventId::derive(&key, since, Transition::Event, nth),
        key,
        kind: "policy".into(),
        transition: Transition::Event,
        severity,
        title,
        reason,
        advice,
        details: Vec::new(),
        bars: Vec::new(),
        since,
        at,
        receivers,
        together: Together::default(),
        grant: None,
        link: None,
    }
}
