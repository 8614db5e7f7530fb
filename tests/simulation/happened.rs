//! What a month must hold to prove anything: every kind of fault, every kind of alert, deaths, retries (FAULTS C20).
//!
//! It must never count what was only planned: a fault struck if a call went out while it lasted.

use std::{collections::BTreeSet, time::Duration};

use spheron_watch::{
    model::{Feed, Transition},
    sim::{Endpoint, Fault},
};

use crate::run::Evidence;

const FAULTS: [&str; 20] = [
    "TooMany",
    "ServerError",
    "Html",
    "EmptyBody",
    "Truncated",
    "EmptyList",
    "BadMoney",
    "MissingTeam",
    "MissingRecord",
    "DuplicateRecord",
    "HiddenLimit",
    "Forbidden",
    "Redirect",
    "WrongContentType",
    "Oversized",
    "Delay",
    "Drip",
    "Hang",
    "Reset",
    "Cut",
];

const RULES: [&str; 18] = [
    "balance",
    "balance_unknown",
    "running_long",
    "spot_interrupted",
    "provider_stopped",
    "fleet_shrunk",
    "blind",
    "key_rejected",
    "runway",
    "burn_rate",
    "budget",
    "balance_jump",
    "failed",
    "stuck",
    "new_deployment",
    "rate_changed",
    "unattached_volume",
    "volume_full",
];

pub fn what_never_happened(evidence: &Evidence) -> Vec<String> {
    let struck = struck(evidence);
    let told: BTreeSet<&str> = evidence.sent.iter().map(|sent| &*sent.notice.kind).collect();
    let transitions: BTreeSet<Transition> = evidence.sent.iter().map(|sent| sent.notice.transition).collect();
    let mut missing: Vec<String> =
        FAULTS.iter().filter(|name| !struck.contains(**name)).map(|name| (*name).into()).collect();
    missing.extend(RULES.iter().filter(|kind| !told.contains(**kind)).map(|kind| (*kind).into()));
    for transition in [Transition::Firing, Transition::Reminder, Transition::Resolved, Transition::Event] {
        if !transitions.contains(&transition) {
            missing.push(transition.as_str().into());
        }
    }
    let retried = |within: Duration| {
        evidence
            .sent
            .iter()
            .any(|sent| sent.at.since(sent.notice.at) >= within && evidence.lived(sent.notice.at, sent.at))
    };
    let others = [
        ("a key refused", evidence.asked.iter().any(|asked| asked.refused)),
        ("a death", !evidence.gaps.is_empty()),
        ("a notice tried three times", retried(Duration::from_secs(35))),
        ("a poll of single deployments", evidence.asked.iter().any(|asked| asked.feed == Feed::Detail)),
        ("lists per team", evidence.asked.iter().any(|a| a.feed == Feed::Deployments && a.scopes.len() > 1)),
        ("one list for all", evidence.honest(Feed::Deployments).any(|asked| asked.scopes.len() == 1)),
    ];
    missing.extend(others.iter().filter(|(_, was)| !was).map(|(what, _)| (*what).to_owned()));
    missing
}

fn struck(evidence: &Evidence) -> BTreeSet<String> {
    let mut struck = BTreeSet::new();
    for window in &evidence.weather {
        let first = evidence.asked.partition_point(|asked| asked.from < window.from);
        let during = evidence.asked.iter().skip(first).take_while(|asked| asked.from < window.until);
        let hit = |feed: Feed| window.on.is_none_or(|endpoint| endpoint == endpoint_of(feed));
        if during.into_iter().any(|asked| asked.calls > 0 && !asked.honest && hit(asked.feed)) {
            struck.insert(name(&window.what));
        }
    }
    struck
}

fn name(fault: &Fault) -> String {
    let text = format!("{fault:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

fn endpoint_of(feed: Feed) -> Endpoint {
    match feed {
        Feed::Balance => Endpoint::Balance,
        Feed::Deployments | Feed::Inventory => Endpoint::Deployments,
        Feed::Detail => Endpoint::Detail,
        Feed::Volumes => Endpoint::Volumes,
        Feed::Offers => Endpoint::Offers,
    }
}
