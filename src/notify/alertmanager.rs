//! Puts alerts to one Alertmanager: `POST /api/v2/alerts`, a batch at a time.
//!
//! It must never follow a redirect, use a proxy, or send a text that is longer than a person reads.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use http::{StatusCode, header};
use reqwest::{Client, Url};
use serde::Serialize;

use super::{
    BuildError,
    exchange::{Broken, exchange},
    sanitize, webhook,
};
use crate::model::Push;

/// Alerts of one request.
pub const BATCH_MAX: usize = 64;
const LABEL_MAX: usize = 200;
const SUMMARY_MAX: usize = 300;
const DESCRIPTION_MAX: usize = 2_000;
const ADVICE_MAX: usize = 1_000;
const WHY_MAX: usize = 300;

/// One member of what may be a cluster. Alertmanagers share what they told, not what they were told: each gets everything.
pub struct Alertmanager {
    client: Client,
    url: Url,
    name: Arc<str>,
    deadline: Duration,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    #[error("it did not answer within {} s; check that it runs", .0.as_secs_f32())]
    Silent(Duration),
    #[error("could not connect; check that it runs and that its address is right ({0})")]
    Unreachable(String),
    #[error("the connection broke before it answered ({0})")]
    Cut(String),
    #[error("it answered {status}{said}; {advice}", said = quoted(.said), advice = advice(*.status))]
    Refused { status: StatusCode, said: String },
    #[error("the alerts could not be written as JSON: {0}; please report this")]
    Json(String),
}

impl PushError {
    /// Whether another batch may fare better.
    pub fn is_of_the_batch(&self) -> bool {
        match self {
            Self::Refused { status, .. } => {
                matches!(*status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::Json(_) => true,
            Self::Silent(_) | Self::Unreachable(_) | Self::Cut(_) => false,
        }
    }

    /// Whether nothing new happened, whatever the words.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Refused { status: a, .. }, Self::Refused { status: b, .. }) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            "no Alertmanager with an API v2 is at this address; it must be the one that its own pages have, path prefix included"
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "let this host in without a password",
        StatusCode::BAD_REQUEST => "please report this",
        _ if status.is_redirection() => "redirects are never followed: give the final address",
        _ => "see its own log",
    }
}

impl Alertmanager {
    /// `base` is what its own pages lie under: `http://am-1:9093`, or with a path prefix.
    pub fn new(base: &str) -> Result<Self, BuildError> {
        let failed = |why: String| BuildError::Alertmanager { why };
        let base = base.trim_end_matches('/');
        let url = Url::parse(&format!("{base}/api/v2/alerts"));
        let url = url.map_err(|_| failed(format!("{base:?} is not a URL")))?;
        let name = format!("alertmanager/{}", base.split_once("://").map_or(base, |(_, rest)| rest));
        Ok(Self {
            client: webhook::client().map_err(failed)?,
            url,
            name: name.into(),
            deadline: webhook::DEADLINE,
        })
    }

    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// `alertmanager/am-1:9093`; no receiver can have a name with a slash.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Not more than [`BATCH_MAX`]; none only asks whether it would take them.
    pub async fn push(&self, alerts: &[Push]) -> Result<(), PushError> {
        let body = body(alerts).map_err(|error| PushError::Json(error.to_string()))?;
        let request = self.client.post(self.url.clone()).header(header::CONTENT_TYPE, "application/json");
        let request =
            request.body(body).build().map_err(|error| PushError::Cut(clean(&error.to_string())))?;
        match exchange(&self.client, request, self.deadline).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(PushError::Refused { status: answer.status, said: answer.excerpt() }),
            Err(Broken::Silent(deadline)) => Err(PushError::Silent(deadline)),
            Err(Broken::Unreachable(why)) => Err(PushError::Unreachable(clean(&why))),
            Err(Broken::Cut(why)) => Err(PushError::Cut(clean(&why))),
        }
    }
}

fn clean(text: &str) -> String {
    sanitize::line(text, WHY_MAX)
}

impl fmt::Debug for Alertmanager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alertmanager").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    labels: BTreeMap<&'static str, String>,
    annotations: Annotations,
    starts_at: String,
    ends_at: String,
}

#[derive(Serialize)]
struct Annotations {
    summary: String,
    description: String,
    advice: String,
}

/// JSON, at most about 1.5 MB. Alertmanager shows these texts in pages, mails and chats, so they are clean lines.
fn body(alerts: &[Push]) -> Result<Vec<u8>, serde_json::Error> {
    let alert = |push: &Push| {
        let labels = push.labels.iter().map(|(name, value)| (*name, sanitize::line(value, LABEL_MAX)));
        Alert {
            // It drops empty ones by itself, and knows the alert by what is left.
            labels: labels.filter(|(_, value)| !value.is_empty()).collect(),
            annotations: Annotations {
                summary: sanitize::line(&push.summary, SUMMARY_MAX),
                description: sanitize::line(&push.description, DESCRIPTION_MAX),
                advice: sanitize::line(&push.advice, ADVICE_MAX),
            },
            starts_at: push.starts.to_string(),
            // A clock that was set back must not make it refuse the whole batch.
            ends_at: push.ends.max(push.starts).to_string(),
        }
    };
    let alerts: Vec<Alert> = alerts.iter().take(BATCH_MAX).map(alert).collect();
    serde_json::to_vec(&alerts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    fn push(name: &str, words: &str) -> Push {
        Push {
            labels: vec![
                ("alertname", "running-long".into()),
                ("deployment_id", "d1".into()),
                ("name", name.into()),
            ],
            summary: format!("running long: {words}"),
            description: words.into(),
            advice: words.into(),
            starts: Time::from_secs(1_795_516_200),
            ends: Time::from_secs(1_795_516_440),
        }
    }

    #[test]
    fn a_batch_is_what_the_api_documents() {
        let written: serde_json::Value =
            serde_json::from_slice(&body(&[push("train", "train for 1d")]).unwrap()).unwrap();
        let expected = serde_json::json!([{
            "labels": {"alertname": "running-long", "deployment_id": "d1", "name": "train"},
            "annotations": {
                "summary": "running long: train for 1d", "description": "train for 1d", "advice": "train for 1d"
            },
            "startsAt": "2026-11-24T10:30:00Z",
            "endsAt": "2026-11-24T10:34:00Z",
        }]);
        assert_eq!(written, expected);
    }

    #[test]
    fn fault_77_hostile_names_are_clean_lines_of_a_bounded_length() {
        let hostile = format!("a\r\nb\0\u{1b}[2J\u{202e}<!channel>\"{}", "w".repeat(10_000));
        let alerts = vec![push(&hostile, &hostile); BATCH_MAX + 1];
        let bytes = body(&alerts).unwrap();
        assert!(bytes.len() < 1_500_000, "{}", bytes.len());
        let written: Vec<serde_json::Value> = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(written.len(), BATCH_MAX);
        for text in [&written[0]["labels"]["name"], &written[0]["annotations"]["description"]] {
            let text = text.as_str().unwrap();
            assert!(text.starts_with("a b<!channel>\"www") && text.ends_with('…'), "{text}");
        }
        let invisible = body(&[push("\u{200b}\0", "x")]).unwrap();
        let invisible: serde_json::Value = serde_json::from_slice(&invisible).unwrap();
        assert_eq!(invisible[0]["labels"].get("name"), None, "an empty label is none");
    }

    #[test]
    fn fault_44_an_end_before_the_beginning_is_the_beginning() {
        let mut early = push("train", "x");
        early.ends = Time::from_secs(5);
        let written: serde_json::Value = serde_json::from_slice(&body(&[early]).unwrap()).unwrap();
        assert_eq!(written[0]["endsAt"], written[0]["startsAt"]);
    }

    #[test]
    fn a_member_is_named_by_its_address_and_asked_under_its_prefix() {
        for (base, name, url) in [
            ("http://am-1:9093", "alertmanager/am-1:9093", "http://am-1:9093/api/v2/alerts"),
            ("https://a.example/am/", "alertmanager/a.example/am", "https://a.example/am/api/v2/alerts"),
        ] {
            let member = Alertmanager::new(base).unwrap();
            assert_eq!((&**member.name(), member.url.as_str()), (name, url));
        }
    }
}
