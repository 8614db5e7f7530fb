//! What the years must hold to prove anything (FAULTS C20): every fault of what an end rests on, every mishap, everything that
//! people do, every condition. It must never count what was only planned.

use std::collections::BTreeSet;

use spheron_watch::{
    drive::simulate::Mishap,
    model::{Feed, outbox::LOG},
    sim::{Endpoint as Place, Fault},
    spheron::Endpoint,
};

use crate::{
    life::Evidence,
    oracles::{announcements, faults},
    world::Fate,
};

const MUST: [&str; 82] = [
    "balance: BadMoney",
    "balance: MissingTeam",
    "balance: Says balance",
    "can-terminate: Delay",
    "can-terminate: Hang",
    "can-terminate: Html",
    "can-terminate: Lacks",
    "can-terminate: NotFound",
    "can-terminate: Reset",
    "can-terminate: Says canTerminate",
    "can-terminate: Says timeRemaining",
    "can-terminate: SkewedDate",
    "can-terminate: Truncated",
    "DELETE: ErrorAfter",
    "DELETE: Hang",
    "DELETE: HangAfter",
    "DELETE: Ignored",
    "DELETE: LostAnswer",
    "DELETE: NotFound",
    "DELETE: SaysEnded",
    "DELETE: ServerError",
    "DELETE: Slow",
    "DELETE: TooEarly",
    "DELETE: TooMany",
    "detail: NotFound",
    "detail: Says createdAt",
    "detail: Says id",
    "detail: Says name",
    "detail: Says status",
    "detail: Says teamId",
    "detail: ServerError",
    "list: BadMoney",
    "list: Cut",
    "list: Drip",
    "list: DuplicateRecord",
    "list: EmptyBody",
    "list: EmptyList",
    "list: Forbidden",
    "list: Hang",
    "list: HiddenLimit",
    "list: Html",
    "list: MissingRecord",
    "list: Oversized",
    "list: Redirect",
    "list: Reset",
    "list: Says status",
    "list: ServerError",
    "list: TooMany",
    "list: Truncated",
    "list: WrongContentType",
    "a key refused",
    "our clock an hour ahead",
    "our clock an hour behind",
    "our clock in 1970",
    "our clock most of a minute off",
    "a suspension",
    "a receiver that is down",
    "a source that is silent",
    "a source that does not know",
    "a watcher that is away",
    "refused",
    "in doubt, and still there",
    "not confirmed",
    "called off",
    "held: too many at once",
    "a dry run",
    "ended: long",
    "ended: idle",
    "ended: spend",
    "ended: desk",
    "ended: shed",
    "KeptForADay",
    "KeptForEver",
    "KeptInGrace",
    "RenamedToProtected",
    "Renamed",
    "EndedByHand",
    "Reclaimed",
    "Reused",
    "Moved",
    "Cancelled",
    "BusyAgain",
];

pub fn never(happened: &BTreeSet<String>) -> Vec<&'static str> {
    MUST.into_iter().filter(|what| !happened.contains(*what)).collect()
}

/// In words.
pub fn happened(evidence: &Evidence) -> BTreeSet<String> {
    let mut happened = BTreeSet::new();
    for call in &evidence.called {
        let (place, word) = match call.endpoint {
            Endpoint::Deployment => (Place::Detail, "detail"),
            Endpoint::CanTerminate => (Place::CanTerminate, "can-terminate"),
            Endpoint::Terminate => (Place::Delete, "DELETE"),
            _ => continue,
        };
        happened.extend(faults(evidence, place, call.at).map(|fault| format!("{word}: {}", name(fault))));
    }
    for asked in evidence.asked.iter().filter(|asked| asked.calls > 0 && !asked.honest) {
        let (place, word) = match asked.feed {
            Feed::Balance => (Place::Balance, "balance"),
            Feed::Deployments => (Place::Deployments, "list"),
            _ => continue,
        };
        happened.extend(faults(evidence, place, asked.from).map(|fault| format!("{word}: {}", name(fault))));
    }
    if evidence.asked.iter().any(|asked| asked.refused) {
        happened.insert("a key refused".to_owned());
    }
    happened.extend(evidence.befell.iter().map(|what| (*what).to_owned()));
    for (_, mishap) in &evidence.mishaps {
        let what = match mishap {
            Mishap::Clock(0) => continue,
            Mishap::Clock(3_600_000) => "our clock an hour ahead",
            Mishap::Clock(-3_600_000) => "our clock an hour behind",
            Mishap::Clock(-45_000 | 45_000) => "our clock most of a minute off",
            Mishap::Clock(_) => "our clock in 1970",
            Mishap::Sleep(_) => "a suspension",
        };
        happened.insert(what.to_owned());
    }
    for sent in evidence.sent.iter().filter(|sent| &*sent.receiver != LOG && &*sent.notice.kind == "policy") {
        let title = &sent.notice.title;
        let policy = sent.notice.key.rule.trim_start_matches("policy/");
        let what = match title.split(':').next().unwrap_or_default() {
            "refused" => "refused".to_owned(),
            "not confirmed" => "not confirmed".to_owned(),
            "held" => "held: too many at once".to_owned(),
            "dry run" => "a dry run".to_owned(),
            "ended" => format!("ended: {policy}"),
            _ if title.ends_with("still runs") => "in doubt, and still there".to_owned(),
            "not ended" => "called off".to_owned(),
            _ => continue,
        };
        happened.insert(what);
    }
    let told = announcements(&evidence.sent);
    for machine in evidence.machines.iter().filter(|machine| machine.fate != Fate::Forgotten) {
        // A fate counts where it met an announcement, or kept one away.
        let kept = matches!(machine.fate, Fate::KeptForADay | Fate::KeptForEver);
        if kept || told.iter().any(|told| told.target.id == machine.id) {
            happened.insert(format!("{:?}", machine.fate));
        }
    }
    happened
}

fn name(fault: &Fault) -> String {
    match fault {
        Fault::Says { field, .. } => format!("Says {field}"),
        other => format!("{other:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned(),
    }
}
