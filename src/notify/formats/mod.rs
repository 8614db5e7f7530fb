//! What a webhook speaks: the bodies that each service takes, one small file and one pure function for each.
//!
//! It must never let a name from outside mention, mark up or overfill a message: what a service refuses is an alert lost.

pub mod alertmanager;
pub(super) mod answer;
pub mod discord;
pub mod ntfy;
pub mod pagerduty;
mod pen;
pub mod slack;
pub mod standard;
pub mod teams;
pub mod telegram;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use reqwest::{Url, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString};

pub use telegram::Chat;

use super::{BuildError, sign::SigningKey};
use crate::model::{Notice, Time};

/// A format with what it needs beside the address.
#[derive(Debug, Clone)]
pub enum Format {
    /// Standard Webhooks. With a secret (`whsec_` + base64, or taken as it stands) each request is signed.
    Standard {
        secret: Option<SecretString>,
    },
    /// Alertmanager's webhook body, version 4; the token goes into the `Authorization` header.
    Alertmanager {
        token: Option<SecretString>,
    },
    Slack,
    Discord,
    Teams,
    Pagerduty {
        routing_key: SecretString,
    },
    /// The access token goes into the `Authorization` header.
    Ntfy {
        token: Option<SecretString>,
    },
    Telegram {
        chat: Chat,
    },
}

impl Format {
    /// What of it no text may show.
    pub(super) fn secret(&self) -> Option<&str> {
        match self {
            Self::Standard { secret: held }
            | Self::Alertmanager { token: held }
            | Self::Ntfy { token: held } => held.as_ref().map(|held| held.expose_secret().trim()),
            Self::Pagerduty { routing_key } => Some(routing_key.expose_secret().trim()),
            Self::Slack | Self::Discord | Self::Teams | Self::Telegram { .. } => None,
        }
    }
}

/// A format that was checked, ready to write bodies.
pub(super) enum Service {
    Standard { key: Option<SigningKey> },
    Alertmanager { receiver: Arc<str> },
    Slack,
    Discord,
    Teams,
    Pagerduty { routing_key: SecretString },
    Ntfy { topic: String },
    Telegram { chat: Chat },
}

/// Where its requests go, and the value of their `Authorization` header.
pub(super) struct Target {
    pub(super) url: Url,
    pub(super) authorization: Option<HeaderValue>,
}

impl Service {
    pub(super) fn new(receiver: &Arc<str>, url: Url, format: Format) -> Result<(Self, Target), BuildError> {
        let secret_error = |why| BuildError::Secret { receiver: receiver.clone(), why };
        let url_error = |why| BuildError::Url { receiver: receiver.clone(), why };
        let mut target = Target { url, authorization: None };
        let service = match format {
            Format::Standard { secret } => {
                let key = secret.as_ref().map(SigningKey::parse).transpose().map_err(secret_error)?;
                Self::Standard { key }
            }
            Format::Alertmanager { token } => {
                target.authorization = token.as_ref().map(bearer).transpose().map_err(secret_error)?;
                Self::Alertmanager { receiver: receiver.clone() }
            }
            Format::Slack => Self::Slack,
            Format::Discord => Self::Discord,
            Format::Teams => Self::Teams,
            Format::Pagerduty { routing_key } => {
                word(&routing_key).map_err(secret_error)?;
                Self::Pagerduty { routing_key }
            }
            Format::Ntfy { token } => {
                target.authorization = token.as_ref().map(bearer).transpose().map_err(secret_error)?;
                let (base, topic) = ntfy::split(&target.url).map_err(url_error)?;
                target.url = base;
                Self::Ntfy { topic }
            }
            Format::Telegram { chat } => {
                telegram::check(&target.url).map_err(url_error)?;
                Self::Telegram { chat }
            }
        };
        Ok((service, target))
    }

    /// JSON, one body per request, in order. The same notice always gives the same bytes.
    pub(super) fn bodies(&self, notice: &Notice) -> Result<Vec<Vec<u8>>, serde_json::Error> {
        let body = match self {
            Self::Standard { .. } => standard::body(notice),
            Self::Alertmanager { receiver } => alertmanager::body(notice, receiver),
            Self::Slack => slack::body(notice),
            Self::Discord => discord::body(notice),
            Self::Teams => teams::body(notice),
            Self::Pagerduty { routing_key } => return pagerduty::bodies(notice, routing_key),
            Self::Ntfy { topic } => ntfy::body(notice, topic),
            Self::Telegram { chat } => telegram::body(notice, chat),
        };
        Ok(vec![body?])
    }

    /// How errors name it.
    fn called(&self) -> &'static str {
        match self {
            Self::Standard { .. } | Self::Alertmanager { .. } => "the webhook",
            Self::Slack => "Slack",
            Self::Discord => "Discord",
            Self::Teams => "Teams",
            Self::Pagerduty { .. } => "PagerDuty",
            Self::Ntfy { .. } => "ntfy",
            Self::Telegram { .. } => "Telegram",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.called())
    }
}

fn bearer(token: &SecretString) -> Result<HeaderValue, &'static str> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", word(token)?))
        .map_err(|_| "holds characters that no header may: it must be one token")?;
    value.set_sensitive(true);
    Ok(value)
}

/// A key as services hand it out: one word.
fn word(secret: &SecretString) -> Result<&str, &'static str> {
    match secret.expose_secret().trim() {
        "" => Err("is empty: put the key or token that the service gave you into secret_file"),
        word if word.bytes().all(|b| b.is_ascii_graphic()) => Ok(word),
        _ => Err("must be one word: put the key or token alone into secret_file"),
    }
}

/// `None` for an instant beyond the calendar, which a service would refuse.
fn rfc3339(time: Time) -> Option<String> {
    time.to_jiff().map(|_| time.to_string())
}
