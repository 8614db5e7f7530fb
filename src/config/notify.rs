//! `[[receiver]]` and `[notify]`: who can be told, and who is told of what by default.
//!
//! It must never leave an alert without anybody: the log is there where nobody else is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    error::Origin,
    node::{Node, Read, Value, did_you_mean},
    outward::{Outward, outward},
    reader::{Located, Reader},
    sections::{mailbox, values},
    settings::{Receiver, ReceiverKind},
    webhook::webhook,
};
use crate::model::{Grouping, Label, Route, Severity};

pub(super) const LOG: &str = "log";
const NAME_MAX: usize = 64;
/// Reminders more often than this would be a flood.
const REPEAT_MIN: Duration = Duration::from_secs(60);
const REPEAT_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Longer, and it would no longer be heard in time.
const GROUP_WAIT_MAX: Duration = Duration::from_secs(3_600);
const GROUP_INTERVAL_MAX: Duration = Duration::from_secs(86_400);
const SEVERITIES: [(&str, Severity); 3] =
    [("critical", Severity::Critical), ("warning", Severity::Warning), ("info", Severity::Info)];

/// Receivers that may be named, with whether they want to hear of the end.
pub(super) type Known = BTreeMap<Arc<str>, bool>;

pub(super) struct Notify {
    routes: Vec<Route>,
    by_severity: BTreeMap<Severity, Vec<Route>>,
    repeat: BTreeMap<Severity, Option<Duration>>,
    pub(super) grouping: Grouping,
    pub(super) outward: Outward,
}

impl Notify {
    /// A rule's own receivers, else its severity's, else everybody's, else the log.
    pub(super) fn route(&self, own: Option<Vec<Route>>, severity: Severity) -> Vec<Route> {
        let found =
            own.or_else(|| self.by_severity.get(&severity).cloned()).unwrap_or_else(|| self.routes.clone());
        if found.is_empty() { vec![Route { receiver: LOG.into(), send_resolved: true }] } else { found }
    }

    pub(super) fn repeat(&self, severity: Severity) -> Option<Duration> {
        self.repeat.get(&severity).copied().flatten()
    }
}

/// The receivers, and the names that rules may use: also those of receivers with errors, lest one error make many.
pub(super) fn receivers(root: &mut Reader<'_>) -> (Vec<Receiver>, Known) {
    let has_smtp = root.has("smtp");
    let mut known = Known::from([(LOG.into(), true)]);
    let read = root.tables("receiver", |r| {
        let name = r.require("name", name, "a name that rules can refer to");
        let send_resolved = r.read("send_resolved", Node::flag).unwrap_or(true);
        if let Some(name) = &name {
            if &**name == LOG {
                r.complain("name", "`log` is taken: that receiver always exists");
            } else if known.insert(name.clone(), send_resolved).is_some() {
                r.complain("name", "is taken by another receiver");
            }
        }
        let email = r.table("email", |r| {
            if !r.has("to") {
                r.complain("to", "is missing; give a list of addresses");
            }
            r.full_list("to", mailbox).map(values)
        });
        let webhook = r.table("webhook", webhook);
        let kind = match (email, webhook) {
            (Some(to), None) => {
                if !has_smtp {
                    r.complain("email", "needs an [smtp] section with `smarthost` and `from`");
                }
                to.map(|to| ReceiverKind::Email { to })
            }
            (None, Some(webhook)) => webhook,
            (None, None) if r.is_given("email") || r.is_given("webhook") => None,
            (..) => {
                r.complain("", "needs either `email` or `webhook`, and only one of them");
                None
            }
        };
        Some(Receiver { name: name?, kind: kind?, send_resolved })
    });
    (read.into_iter().flatten().collect(), known)
}

pub(super) fn name(node: &Node) -> Read<Arc<str>> {
    let text = node.text()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.len() <= NAME_MAX && text.chars().all(allowed) {
        Ok(text.into())
    } else {
        Err(format!("must be at most {NAME_MAX} letters, digits, `-`, `_` or `.`"))
    }
}

pub(super) fn notify(r: &mut Reader<'_>, known: &Known) -> Notify {
    let named = r.list("receivers", |n| n.text().map(str::to_owned));
    let everybody = named.map_or_else(Vec::new, |named| routes(r, "receivers", named, known));
    let by_severity = r.section("severity", |r| {
        let mut map = BTreeMap::new();
        for (key, severity) in SEVERITIES {
            if let Some(named) = r.full_list(key, |n| n.text().map(str::to_owned)) {
                map.insert(severity, routes(r, key, named, known));
            }
        }
        map
    });
    Notify {
        routes: everybody,
        by_severity: by_severity.unwrap_or_default(),
        repeat: repeat(r),
        grouping: grouping(r),
        outward: outward(r),
    }
}

fn grouping(r: &mut Reader<'_>) -> Grouping {
    let default = Grouping::default();
    let by = r.list("group_by", label).map(|given| {
        let mut by: Vec<Label> = Vec::new();
        for Located { origin, value } in given {
            if by.contains(&value) {
                r.complain_at(&origin, "group_by", "names this label twice");
            } else {
                by.push(value);
            }
        }
        by
    });
    let wait = r.read("group_wait", |n| n.length(Duration::ZERO..=GROUP_WAIT_MAX));
    let interval = r.read("group_interval", |n| n.length(Duration::ZERO..=GROUP_INTERVAL_MAX));
    Grouping {
        by: by.unwrap_or(default.by),
        wait: wait.unwrap_or(default.wait),
        interval: interval.unwrap_or(default.interval),
    }
}

/// By the names under which a silence knows them too.
fn label(node: &Node) -> Read<Label> {
    node.word(&Label::ALL.map(|label| (label.as_str(), label)))
}

fn repeat(r: &mut Reader<'_>) -> BTreeMap<Severity, Option<Duration>> {
    const HOUR: Duration = Duration::from_secs(3_600);
    let mut map = BTreeMap::from([
        (Severity::Critical, Some(HOUR * 4)),
        (Severity::Warning, Some(HOUR * 24)),
        (Severity::Info, None),
    ]);
    let length = |node: &Node| node.length_or_off(REPEAT_MIN..=REPEAT_MAX);
    let key = "repeat_interval";
    let node = r.take(key).unwrap_or(Node { origin: Origin::Default, value: Value::Table(BTreeMap::new()) });
    if matches!(node.value, Value::Table(_)) {
        r.within(key, node, |r| {
            for (key, severity) in SEVERITIES {
                if let Some(given) = r.read(key, length) {
                    map.insert(severity, given);
                }
            }
        });
    } else {
        match length(&node) {
            Ok(given) => map = SEVERITIES.into_iter().map(|(_, severity)| (severity, given)).collect(),
            Err(message) => r.complain(key, message),
        }
    }
    map
}

/// Names turned into routes; a name that nobody has is an error at its place.
pub(super) fn routes(
    r: &mut Reader<'_>,
    key: &'static str,
    named: Vec<Located<String>>,
    known: &Known,
) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for Located { origin, value } in named {
        let Some((receiver, send_resolved)) = known.get_key_value(value.as_str()) else {
            let names: Vec<&str> = known.keys().map(|name| &**name).collect();
            let guess = did_you_mean(&value, &names);
            r.complain_at(
                &origin,
                key,
                format!("no [[receiver]] has this name; defined: {}{guess}", names.join(", ")),
            );
            continue;
        };
        if routes.iter().any(|route| route.receiver == *receiver) {
            r.complain_at(&origin, key, "names this receiver twice");
        } else {
            routes.push(Route { receiver: receiver.clone(), send_resolved: *send_resolved });
        }
    }
    routes
}
