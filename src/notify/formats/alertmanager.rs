//! The body of Alertmanager's webhook, version 4, field for field, for what already understands it.
//!
//! It must never give an alert a label that changes while it fires: consumers know alerts by their labels.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    super::{
        render::{MEMBERS_MAX, unnamed},
        sanitize::clip,
    },
    rfc3339,
};
use crate::model::{Notice, Subject, Time, Transition};

/// Go's zero time: where Alertmanager says that an alert has not ended.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";
const LABEL_MAX: usize = 200;
const TEXT_MAX: usize = 2_000;
const DETAILS_MAX: usize = 40;
/// The label by which Prometheus names alerts: here the rule.
const ALERTNAME: &str = "alertname";

type Labels<'a> = BTreeMap<String, &'a str>;

/// JSON. Texts stand as they are, escaped by JSON: the reader is a program.
pub fn body(notice: &Notice, receiver: &str) -> Result<Vec<u8>, serde_json::Error> {
    let members = &notice.together.members;
    let alone = if members.is_empty() { std::slice::from_ref(notice) } else { members };
    let alerts: Vec<Alert<'_>> = alone.iter().take(MEMBERS_MAX).map(alert).collect();
    let common_labels = common(alerts.iter().map(|alert| &alert.labels));
    let mut group_labels = identity(notice);
    group_labels.retain(|name, value| common_labels.get(name) == Some(value));
    let over = alerts.iter().all(|alert| alert.status == "resolved");
    serde_json::to_vec(&Body {
        receiver,
        status: if over { "resolved" } else { "firing" },
        common_annotations: common(alerts.iter().map(|alert| &alert.annotations)),
        group_key: group_key(&group_labels),
        group_labels,
        common_labels,
        alerts,
        external_url: "",
        version: "4",
        truncated_alerts: unnamed(&notice.together),
    })
}

fn alert(notice: &Notice) -> Alert<'_> {
    let mut labels = identity(notice);
    labels.insert("kind".to_owned(), clip(&notice.kind, LABEL_MAX));
    labels.insert("severity".to_owned(), notice.severity.as_str());
    let over = notice.transition == Transition::Resolved;
    Alert {
        status: if over { "resolved" } else { "firing" },
        fingerprint: fingerprint(&labels),
        labels,
        annotations: annotations(notice),
        starts_at: time(notice.since),
        ends_at: if over { time(notice.at) } else { ZERO_TIME.to_owned() },
        generator_url: "",
    }
}

/// The labels that tell one alert from every other.
fn identity(notice: &Notice) -> Labels<'_> {
    let mut labels = Labels::from([(ALERTNAME.to_owned(), clip(&notice.key.rule, LABEL_MAX))]);
    let (name, id) = match &notice.key.subject {
        Subject::Account => return labels,
        Subject::Team { id } => ("team_id", id.as_str()),
        Subject::Deployment { id, .. } => ("deployment_id", id.as_str()),
        Subject::Volume { id } => ("volume_id", id.as_str()),
        Subject::Occasion { team, .. } => {
            labels.insert("occasion".to_owned(), notice.id.as_str());
            ("team_id", team.as_str())
        }
    };
    labels.insert(name.to_owned(), clip(id, LABEL_MAX));
    labels
}

fn annotations(notice: &Notice) -> Labels<'_> {
    let details = notice.details.iter().take(DETAILS_MAX);
    let mut annotations: Labels<'_> =
        details.map(|(name, value)| (label_name(name), clip(value, TEXT_MAX))).collect();
    for (name, text) in
        [("summary", &notice.title), ("description", &notice.reason), ("advice", &notice.advice)]
    {
        annotations.insert(name.to_owned(), clip(text, TEXT_MAX));
    }
    if let Some(link) = &notice.link {
        annotations.insert("keep_url".to_owned(), link);
    }
    annotations
}

/// `cost so far` → `cost_so_far`: what Prometheus accepts as a name.
fn label_name(text: &str) -> String {
    let name = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut out: String = clip(text, LABEL_MAX).chars().map(name).collect();
    if !out.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        out.insert(0, '_');
    }
    out
}

/// As Alertmanager writes it, with an empty route: `{}:{alertname="running-long"}`.
fn group_key(labels: &Labels<'_>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{}}:{{{}}}", pairs.join(", "))
}

/// What all have with the same value.
fn common<'a: 'b, 'b>(mut all: impl Iterator<Item = &'b Labels<'a>>) -> Labels<'a> {
    let mut common = all.next().cloned().unwrap_or_default();
    for labels in all {
        common.retain(|name, value| labels.get(name) == Some(value));
    }
    common
}

/// Prometheus' FNV-1a over the sorted labels, as 16 hex digits.
fn fingerprint(labels: &Labels<'_>) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for (name, value) in labels {
        for part in [name.as_str(), value] {
            part.bytes().for_each(&mut add);
            add(0xff);
        }
    }
    format!("{hash:016x}")
}

fn time(time: Time) -> String {
    rfc3339(time).unwrap_or_else(|| ZERO_TIME.to_owned())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    receiver: &'a str,
    status: &'static str,
    alerts: Vec<Alert<'a>>,
    group_labels: Labels<'a>,
    common_labels: Labels<'a>,
    common_annotations: Labels<'a>,
    #[serde(rename = "externalURL")]
    external_url: &'static str,
    version: &'static str,
    group_key: String,
    truncated_alerts: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert<'a> {
    status: &'static str,
    labels: Labels<'a>,
    annotations: Labels<'a>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'static str,
    fingerprint: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_one_that_prometheus_gives() {
        // The vectors of prometheus/common's own test of signatures.
        for (labels, expected) in [
            (Labels::new(), 14_695_981_039_346_656_037_u64),
            (
                Labels::from([
                    ("name".to_owned(), "garland, briggs"),
                    ("fear".to_owned(), "love is not enough"),
                ]),
                5_799_056_148_416_392_346,
            ),
        ] {
            assert_eq!(fingerprint(&labels), format!("{expected:016x}"));
        }
    }

    #[test]
    fn any_text_becomes_a_name_that_prometheus_accepts() {
        for (text, expected) in
            [("cost so far", "cost_so_far"), ("24h", "_24h"), ("", "_"), ("é<b>", "__b_"), ("team", "team")]
        {
            assert_eq!(label_name(text), expected, "{text}");
        }
    }
}
