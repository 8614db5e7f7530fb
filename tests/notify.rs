//! The receivers against loopback servers: each answer's outcome, what goes over the wire, what must never show.
//!
//! It must never need a network beyond loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "notify/alertmanager.rs"]
mod alertmanager;
#[path = "notify/dead_man.rs"]
mod dead_man;
#[path = "notify/email.rs"]
mod email;
#[path = "notify/formats.rs"]
mod formats;
#[path = "notify/http.rs"]
mod http;
#[path = "notify/log.rs"]
mod log;
#[path = "notify/smtp.rs"]
mod smtp;
#[path = "notify/webhook.rs"]
mod webhook;

use std::sync::{Arc, Mutex};

use spheron_watch::model::{AlertKey, EventId, Notice, Severity, Subject, TeamId, Time, Transition};

/// All of it comes from names that others choose.
const HOSTILE: &str = "x\r\nBcc: victim@example.org\r\n.\r\n\r\n<script>alert(1)</script>\u{1b}[2J\u{202e}gnp.exe\0\"'&\u{2028}";

fn notice(nth: i64) -> Notice {
    let key = AlertKey { rule: "low-balance".into(), subject: Subject::Team { id: TeamId::new("tm_7Qx") } };
    Notice {
        id: EventId::derive(&key, Time::from_secs(1), Transition::Firing, nth),
        key,
        kind: "balance".into(),
        transition: Transition::Firing,
        severity: Severity::Critical,
        title: "low balance: research has $8.20 left".into(),
        reason: "The balance of research is $8.20, below $10.00.".into(),
        advice: "Top up at https://app.spheron.ai.".into(),
        details: vec![("team".into(), "research".into()), ("balance".into(), "$8.20".into())],
        since: Time::from_secs(1_795_516_200),
        at: Time::from_secs(1_795_516_260),
        receivers: vec!["ops".into()],
        bars: Vec::new(),
        together: Default::default(),
        grant: None,
        link: None,
    }
}

fn hostile() -> Notice {
    Notice {
        title: format!("low balance: {HOSTILE}"),
        reason: format!("{HOSTILE} is low. {}", "w".repeat(10_000)),
        advice: format!(".\r\n.{HOSTILE}"),
        details: vec![(HOSTILE.into(), HOSTILE.into()), (".".into(), "w".repeat(10_000))],
        kind: HOSTILE.into(),
        ..notice(0)
    }
}

/// What is logged on this thread while it lives, down to TRACE.
struct Logged {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Logged {
    fn start() -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let writer = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .without_time()
            .with_writer(move || Writer(writer.clone()))
            .finish();
        Self { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    fn text(&self) -> String {
        String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
    }
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
