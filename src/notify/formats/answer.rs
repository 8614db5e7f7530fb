//! Reads from a service's answer whether it took the notice, and if not, whether and when to try again.
//!
//! It must never repeat an answer before the receiver's secrets were taken out of it.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::{
    super::{redact::Redactor, retry},
    Service,
};
use crate::model::{Delivery, Time};

/// Of an answer people see this many characters.
const EXCERPT_MAX: usize = 120;
/// What old Teams connectors say with a status of 200 when Teams itself refused.
const TEAMS_FAILED: &str = "Webhook message delivery failed";

/// What services say in JSON beside the status.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    /// Telegram, and Slack's Web API, which answers 200 to everything.
    ok: Option<bool>,
    error_code: Option<u16>,
    description: Option<String>,
    error: Option<String>,
    /// Telegram.
    parameters: Parameters,
    /// Discord.
    retry_after: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    retry_after: Option<f64>,
    migrate_to_chat_id: Option<i64>,
}

pub(in super::super) struct Answer<'a> {
    pub(in super::super) status: StatusCode,
    pub(in super::super) headers: &'a HeaderMap,
    /// As much of it as came; it may be cut.
    pub(in super::super) body: &'a [u8],
}

impl Answer<'_> {
    pub(in super::super) fn judge(&self, service: &Service, redactor: &Redactor, now: Time) -> Delivery {
        let text = String::from_utf8_lossy(self.body);
        let said: Said = serde_json::from_slice(self.body).unwrap_or_default();
        let status = self.effective(service, &said, &text);
        let code = status.as_u16();
        if status.is_success() {
            return Delivery::Delivered { detail: format!("{service} answered {code}") };
        }
        let quoted = said.description.as_deref().or(said.error.as_deref()).unwrap_or(&text);
        let excerpt = redactor.clean(quoted, EXCERPT_MAX);
        let excerpt = if excerpt.is_empty() { String::new() } else { format!(" (it said: {excerpt})") };
        if matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            || status.is_server_error()
        {
            let why = format!("{service} answered {code}; it will be tried again{excerpt}");
            return Delivery::Retry { why, after: self.after(&said, now) };
        }
        Delivery::Rejected {
            why: format!("{service} answered {code}; {}{excerpt}", advice(service, status, &said)),
            disable: status == StatusCode::GONE,
        }
    }

    /// The status, but for services that hide a failure behind 200.
    fn effective(&self, service: &Service, said: &Said, text: &str) -> StatusCode {
        if !self.status.is_success() {
            return self.status;
        }
        match service {
            Service::Slack | Service::Telegram { .. } if said.ok == Some(false) => {
                let limited = matches!(said.error.as_deref(), Some("ratelimited" | "rate_limited"));
                let otherwise = if limited { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::BAD_REQUEST };
                said.error_code
                    .and_then(|code| StatusCode::from_u16(code).ok())
                    .filter(|status| !status.is_success())
                    .unwrap_or(otherwise)
            }
            Service::Teams if text.starts_with(TEAMS_FAILED) => StatusCode::BAD_GATEWAY,
            Service::Standard { .. }
            | Service::Alertmanager { .. }
            | Service::Slack
            | Service::Discord
            | Service::Teams
            | Service::Pagerduty { .. }
            | Service::Ntfy { .. }
            | Service::Telegram { .. } => self.status,
        }
    }

    /// The longer of what the header and the body ask for.
    fn after(&self, said: &Said, now: Time) -> Option<Duration> {
        let header = self.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let header = header.and_then(|text| retry::parse_retry_after(text, now));
        let body = said.parameters.retry_after.or(said.retry_after);
        header.max(body.and_then(retry::from_secs))
    }
}

fn advice(service: &Service, status: StatusCode, said: &Said) -> String {
    if let (Service::Telegram { .. }, Some(chat)) = (service, said.parameters.migrate_to_chat_id) {
        return format!("the group has a new id: set chat_id = {chat} and reload");
    }
    let advice = match (service, status) {
        (_, StatusCode::GONE) => "this address was retired: put a new one into url_file and reload",
        (Service::Pagerduty { .. }, StatusCode::BAD_REQUEST) => {
            "it does not accept the event: check that secret_file holds the integration key of an Events API v2 integration"
        }
        (Service::Telegram { .. }, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) => {
            "it does not know the bot: check the token in url_file"
        }
        (Service::Telegram { .. }, StatusCode::FORBIDDEN) => {
            "the bot may not write there: add it to the chat, or begin a chat with it"
        }
        (Service::Telegram { .. }, StatusCode::BAD_REQUEST) => {
            "it does not accept the message: check chat_id, and that the bot is in that chat"
        }
        (
            Service::Ntfy { .. } | Service::Alertmanager { .. },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN,
        ) => "it does not let us in: check the token in secret_file",
        (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            "it no longer accepts this address: make a new one there and put it into url_file"
        }
        (_, StatusCode::NOT_FOUND) => "nothing is at this address: check url_file",
        (_, StatusCode::PAYLOAD_TOO_LARGE) => "the notice is too large for it: raise its limit",
        _ if status.is_redirection() => "redirects are never followed: put the final address into url_file",
        _ => "it does not accept this notice: check that `format` fits the service",
    };
    advice.to_owned()
}
