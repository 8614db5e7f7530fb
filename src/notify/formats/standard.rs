//! The body of a `standard` webhook: `{"type","timestamp","data"}`.
//!
//! It must never depend on the attempt: the same notice gives the same bytes.

use serde::Serialize;

use super::super::{
    render::{MEMBERS_MAX, unnamed},
    sanitize::clip,
};
use crate::model::{DeploymentId, Notice, Severity, Subject, TeamId, Time, Transition, VolumeId};

/// Longest text of one field, in characters; the rest is cut so that a hostile name cannot swell a request.
const FIELD_MAX: usize = 4_000;
const DETAILS_MAX: usize = 60;
const MEMBER_DETAILS_MAX: usize = 12;
const MEMBER_FIELD_MAX: usize = 1_000;

/// JSON, at most about 4 MB. Texts stand as they are, escaped by JSON: the reader is a program.
pub fn body(notice: &Notice) -> Result<Vec<u8>, serde_json::Error> {
    let kind = if notice.together.members.is_empty() { kind(notice.transition) } else { "alert.group" };
    serde_json::to_vec(&Body {
        kind,
        timestamp: notice.at.to_string(),
        data: data(notice, DETAILS_MAX, FIELD_MAX),
    })
}

fn kind(transition: Transition) -> &'static str {
    match transition {
        Transition::Firing => "alert.firing",
        Transition::Reminder => "alert.reminder",
        Transition::Resolved => "alert.resolved",
        Transition::Event => "alert.event",
        Transition::Test => "test",
    }
}

fn data(notice: &Notice, details_max: usize, field_max: usize) -> Data<'_> {
    let members = notice.together.members.iter().take(MEMBERS_MAX);
    Data {
        id: notice.id.as_str(),
        rule: clip(&notice.key.rule, field_max),
        kind: clip(&notice.kind, field_max),
        severity: notice.severity,
        state: state(notice.transition),
        subject: about(&notice.key.subject),
        title: clip(&notice.title, field_max),
        reason: clip(&notice.reason, field_max),
        advice: clip(&notice.advice, field_max),
        keep_url: notice.link.as_deref(),
        since: notice.since.to_string(),
        details: notice
            .details
            .iter()
            .take(details_max)
            .map(|(name, value)| Detail { name: clip(name, field_max), value: clip(value, field_max) })
            .collect(),
        alerts: members.map(|member| data(member, MEMBER_DETAILS_MAX, MEMBER_FIELD_MAX)).collect(),
        more: unnamed(&notice.together),
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    id: &'a str,
    rule: &'a str,
    kind: &'a str,
    severity: Severity,
    state: &'static str,
    subject: About<'a>,
    title: &'a str,
    reason: &'a str,
    advice: &'a str,
    /// A page that asks for how long to keep it; whoever has this address may do so.
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_url: Option<&'a str>,
    since: String,
    /// A list and not an object: its order is meant for people.
    details: Vec<Detail<'a>>,
    /// Of a group or digest: each alert, as it would stand here alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alerts: Vec<Self>,
    /// How many more a digest counts without naming them.
    #[serde(skip_serializing_if = "is_zero")]
    more: u64,
}

#[derive(Serialize)]
struct Detail<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
struct About<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn state(transition: Transition) -> &'static str {
    match transition {
        Transition::Firing | Transition::Reminder => "firing",
        Transition::Resolved => "resolved",
        Transition::Event => "event",
        Transition::Test => "test",
    }
}

fn about(subject: &Subject) -> About<'_> {
    let (id, created_at): (Option<&str>, Option<Time>) = match subject {
        Subject::Account => (None, None),
        Subject::Team { id } | Subject::Occasion { team: id, .. } => (Some(TeamId::as_str(id)), None),
        Subject::Deployment { id, created_at } => (Some(DeploymentId::as_str(id)), Some(*created_at)),
        Subject::Volume { id } => (Some(VolumeId::as_str(id)), None),
    };
    About { kind: subject.kind(), id, created_at: created_at.map(|t| t.to_string()) }
}
