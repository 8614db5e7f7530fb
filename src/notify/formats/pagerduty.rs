//! PagerDuty's Events API v2: one event per alert, and one key per episode, so that its end closes what its beginning opened.
//!
//! It must never open an incident that nobody needs to close.

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    super::{
        render::{Sheet, about},
        sanitize::line,
    },
    pen::{Pen, RowLimits, Unit, plain},
    rfc3339,
};
use crate::model::{AlertKey, EventId, Notice, Severity, Time, Transition};

/// PagerDuty: 1,024 characters.
const SUMMARY_MAX: usize = 1_000;
const TEXT_MAX: usize = 4_000;
/// PagerDuty: 255.
const DEDUP_KEY_MAX: usize = 100;
const NAME_MAX: usize = 100;
const DETAILS_ROOM: usize = 20_000;

const PEN: Pen = Pen { unit: Unit::Utf16, escape: plain };

/// Each is one request. A group is its alerts. What a digest only counts: the ends close what they must, the rest is one
/// more event, which a person closes.
pub fn bodies(notice: &Notice, routing_key: &SecretString) -> Result<Vec<Vec<u8>>, serde_json::Error> {
    let key = routing_key.expose_secret().trim();
    let members = &notice.together.members;
    let alone = if members.is_empty() { std::slice::from_ref(notice) } else { members };
    let mut events: Vec<Event<'_>> = alone.iter().flat_map(|alert| of_one(alert, key)).collect();
    events.extend(notice.together.ended.iter().map(|(alert, since)| resolve(key, dedup_key(alert, *since))));
    let ended = u32::try_from(notice.together.ended.len()).unwrap_or(u32::MAX);
    let counted = notice.together.more.saturating_sub(ended);
    if counted > 0 && notice.transition != Transition::Resolved {
        let title = format!("{counted} alerts that have no incident of their own, of: {}", notice.title);
        events.push(trigger(notice, &title, key, line(notice.id.as_str(), DEDUP_KEY_MAX)));
    }
    events.iter().map(serde_json::to_vec).collect()
}

/// The events of one alert. What neither lasts nor is serious, and a test, is closed at once.
fn of_one<'a>(notice: &Notice, key: &'a str) -> Vec<Event<'a>> {
    let dedup = dedup_key(&notice.key, notice.since);
    match (notice.transition, notice.severity) {
        (Transition::Firing | Transition::Reminder, _)
        | (Transition::Event, Severity::Critical | Severity::Warning) => {
            vec![trigger(notice, &notice.title, key, dedup)]
        }
        (Transition::Resolved, _) => vec![resolve(key, dedup)],
        (Transition::Event, Severity::Info) | (Transition::Test, _) => {
            vec![trigger(notice, &notice.title, key, dedup.clone()), resolve(key, dedup)]
        }
    }
}

/// The same for every notice of an episode: the id that its first one has.
fn dedup_key(alert: &AlertKey, since: Time) -> String {
    EventId::derive(alert, since, Transition::Firing, 0).as_str().to_owned()
}

fn resolve(key: &str, dedup_key: String) -> Event<'_> {
    Event {
        routing_key: key,
        event_action: "resolve",
        dedup_key,
        client: None,
        links: Vec::new(),
        payload: None,
    }
}

fn trigger<'a>(notice: &Notice, title: &str, key: &'a str, dedup_key: String) -> Event<'a> {
    let sheet = Sheet::of(notice);
    let summary = format!("[{}] {}", sheet.badge, line(title, SUMMARY_MAX));
    let severity = match notice.transition {
        Transition::Test => "info",
        Transition::Firing | Transition::Reminder | Transition::Resolved | Transition::Event => {
            notice.severity.as_str()
        }
    };
    Event {
        routing_key: key,
        event_action: "trigger",
        dedup_key,
        client: Some("spheron-watch"),
        links: sheet.link.iter().map(|href| Link { href: href.clone(), text: "Keep it" }).collect(),
        payload: Some(Payload {
            summary: PEN.write(&summary, SUMMARY_MAX),
            source: about(&notice.key.subject),
            severity,
            timestamp: rfc3339(notice.at),
            group: line(&notice.key.rule, NAME_MAX),
            class: line(&notice.kind, NAME_MAX),
            custom_details: details(&sheet),
        }),
    }
}

fn details(sheet: &Sheet) -> Map<String, Value> {
    let limits = RowLimits { count: 40, name: 100, value: 500, between: 0, room: DETAILS_ROOM };
    let rows = PEN.rows(sheet, limits);
    let own = [
        ("why", &sheet.reason),
        ("what to do", &sheet.advice),
        ("rule", &sheet.origin),
        ("notice", &sheet.id),
    ]
    .map(|(name, text)| (name.to_owned(), PEN.write(text, TEXT_MAX)));
    rows.into_iter()
        .chain(own)
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| (name, Value::String(text)))
        .collect()
}

#[derive(Serialize)]
struct Event<'a> {
    routing_key: &'a str,
    event_action: &'static str,
    dedup_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload>,
}

#[derive(Serialize)]
struct Link {
    href: String,
    text: &'static str,
}

#[derive(Serialize)]
struct Payload {
    summary: String,
    source: String,
    severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    group: String,
    class: String,
    custom_details: Map<String, Value>,
}
