//! Carries one notice to one receiver (log, webhook or email) and says what became of it; alerts to an Alertmanager, and pings
//! to a dead-man switch.
//!
//! It must never decide what to tell or when, nor let a URL, a password or a signing secret into any text.

pub mod alertmanager;
mod dead_man;
mod email;
mod exchange;
pub mod formats;
mod log;
mod redact;
pub mod render;
mod retry;
pub mod sanitize;
mod sign;
mod smtp;
mod stream;
mod webhook;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use secrecy::SecretString;

pub use alertmanager::{Alertmanager, PushError};
pub use dead_man::DeadMan;
pub use formats::{Chat, Format};
pub use retry::{Again, SPAN, next_attempt};

use crate::{
    clock::Clock,
    model::{Delivery, Notice},
};

/// A receiver as the configuration gives it.
#[derive(Debug, Clone)]
pub struct ReceiverSpec {
    pub name: Arc<str>,
    pub kind: ReceiverKind,
}

#[derive(Debug, Clone)]
pub enum ReceiverKind {
    Log,
    Webhook { url: SecretString, format: Format },
    Email { to: Vec<String>, smtp: Arc<SmtpSpec> },
}

/// `[smtp]`: the server that takes our mail. Username and password stand or fall together.
#[derive(Debug, Clone)]
pub struct SmtpSpec {
    pub host: String,
    pub port: u16,
    pub tls: SmtpTls,
    /// `Spheron Watch <watch@example.org>` or the bare address.
    pub from: String,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    /// PEM; trusted in addition to the public roots.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// Required: a server that does not offer it gets neither password nor mail (FAULTS 61).
    StartTls,
    Implicit,
    /// For loopback hosts alone.
    None,
}

/// Why a receiver cannot be made. Holds neither URL nor secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BuildError {
    #[error("receiver {receiver}: the webhook URL {why}")]
    Url { receiver: Arc<str>, why: &'static str },
    #[error("receiver {receiver}: the webhook secret {why}")]
    Secret { receiver: Arc<str>, why: &'static str },
    #[error("receiver {receiver}: {address:?} is not an email address that can be used ({why})")]
    Address { receiver: Arc<str>, address: String, why: String },
    #[error("[smtp]: {why}")]
    Smtp { why: String },
    #[error("receiver {receiver}: the HTTP client could not be set up: {why}")]
    Client { receiver: Arc<str>, why: String },
    #[error("[notify] alertmanager: {why}")]
    Alertmanager { why: String },
    #[error("[notify] heartbeat_url_file: the URL {why}")]
    DeadMan { why: String },
}

/// One receiver, ready to deliver. It keeps connections between notices; deliveries to one receiver go one at a time.
pub struct Receiver {
    name: Arc<str>,
    sink: Sink,
    deadline: Duration,
}

enum Sink {
    Log,
    Webhook(Box<webhook::Webhook>),
    Email(Box<email::Email>),
}

impl Receiver {
    pub fn build(spec: ReceiverSpec, clock: Clock) -> Result<Self, BuildError> {
        let ReceiverSpec { name, kind } = spec;
        let (sink, deadline) = match kind {
            ReceiverKind::Log => (Sink::Log, webhook::DEADLINE),
            ReceiverKind::Webhook { url, format } => {
                let webhook = webhook::Webhook::new(&name, &url, format, clock)?;
                (Sink::Webhook(Box::new(webhook)), webhook::DEADLINE)
            }
            ReceiverKind::Email { to, smtp } => {
                (Sink::Email(Box::new(email::Email::new(&name, &to, smtp)?)), email::DEADLINE)
            }
        };
        Ok(Self { name, sink, deadline })
    }

    /// Another limit than the usual 15 s for the whole answer to one request of a webhook, 30 s for one mail to one recipient.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// One attempt. The same notice always carries the same id: `webhook-id`, `Message-ID`.
    pub async fn deliver(&self, notice: &Notice) -> Delivery {
        match &self.sink {
            Sink::Log => log::deliver(notice),
            Sink::Webhook(webhook) => Box::pin(webhook.deliver(notice, self.deadline)).await,
            Sink::Email(email) => Box::pin(email.deliver(notice, self.deadline)).await,
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.sink {
            Sink::Log => "log",
            Sink::Webhook(_) => "webhook",
            Sink::Email(_) => "email",
        };
        f.debug_struct("Receiver").field("name", &self.name).field("kind", &kind).finish()
    }
}
