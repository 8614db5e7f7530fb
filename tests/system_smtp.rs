//! Mail against a real SMTP server (aiosmtpd), which `.ci/install-smtp.sh` installs.
//!
//! It must never be skipped silently: without the server it fails and says how to get it.
#![cfg(feature = "system-tests")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "system/smtp.rs"]
mod smtp;

use std::sync::Arc;

use secrecy::SecretString;
use serde_json::Value;
use spheron_watch::{
    clock::Clock,
    model::{AlertKey, Delivery, EventId, Notice, Severity, Subject, TeamId, Time, Transition},
    notify::{Receiver, ReceiverKind, ReceiverSpec, SmtpSpec, SmtpTls},
};

use smtp::{PASSWORD, Server};

fn receiver(server: &Server, password: &str, to: &[&str]) -> Receiver {
    let smtp = SmtpSpec {
        host: "localhost".into(),
        port: server.port,
        tls: SmtpTls::StartTls,
        from: "Spheron Watch <watch@example.org>".into(),
        username: Some("watch".into()),
        password: Some(SecretString::from(password)),
        ca_file: Some(server.ca_file.clone()),
    };
    let to = to.iter().map(|&to| to.to_owned()).collect();
    let kind = ReceiverKind::Email { to, smtp: Arc::new(smtp) };
    Receiver::build(ReceiverSpec { name: "ops".into(), kind }, Clock::system()).unwrap()
}

fn notice() -> Notice {
    let key = AlertKey { rule: "low-balance".into(), subject: Subject::Team { id: TeamId::new("tm_7Qx") } };
    Notice {
        id: EventId::derive(&key, Time::from_secs(1), Transition::Firing, 0),
        key,
        kind: "balance".into(),
        transition: Transition::Firing,
        severity: Severity::Critical,
        title: "low balance: Größe\r\nBcc: victim@example.org has $8.20 left".into(),
        reason: "The balance of research is $8.20, below $10.00.\r\n.\r\n".into(),
        advice: "Top up at https://app.spheron.ai.".into(),
        details: vec![("balance".into(), "$8.20".into())],
        since: Time::from_secs(1_795_516_200),
        at: Time::from_secs(1_795_516_260),
        receivers: vec!["ops".into()],
        bars: Vec::new(),
        together: Default::default(),
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["event"].as_str().unwrap()).collect()
}

/// `=XX` and soft line breaks undone.
fn unquote(text: &str) -> String {
    let text = text.replace("=\r\n", "");
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        match (
            first,
            tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()),
        ) {
            (b'=', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn a_mail_arrives_encrypted_and_logged_in_and_holds_what_it_should() {
    let server = Server::start("required");
    let mailer = receiver(&server, PASSWORD, &["ops@example.org", "gone@example.org"]);
    let delivery = mailer.deliver(&notice()).await;
    drop(mailer);
    let events = server.stop();
    let Delivery::Delivered { detail } = delivery else { panic!("{delivery:?}") };
    assert!(detail.starts_with("accepted for ops@example.org, but refused for gone@example.org"), "{detail}");
    assert!(detail.contains("no such user here"), "{detail}");
    assert!(events.iter().all(|e| e["event"] == "ehlo" || e["encrypted"] == true), "{events:?}");
    let mails: Vec<_> = events.iter().filter(|e| e["event"] == "data").collect();
    assert_eq!(mails.len(), 1, "{events:?}");
    assert_eq!(mails[0]["login"], "watch");
    assert_eq!(mails[0]["sender"], "watch@example.org");
    assert_eq!(mails[0]["to"], serde_json::json!(["ops@example.org"]));
    let content = mails[0]["content"].as_str().unwrap();
    let (head, body) = content.split_once("\r\n\r\n").unwrap();
    let id = format!("Message-ID: <{}@example.org>", notice().id);
    for header in [id.as_str(), "Auto-Submitted: auto-generated", "Date: Tue, 24 Nov 2026 10:31:00 +0000"] {
        assert!(head.contains(header), "{header} in {head}");
    }
    assert!(!head.lines().any(|l| l.starts_with("Bcc:")), "{head}");
    let body = unquote(body);
    assert!(body.contains("low balance: Größe Bcc: victim@example.org has $8.20 left"), "{body}");
    assert!(body.contains("below $10.00. .") && body.contains("  balance  $8.20"), "{body}");
    assert!(body.contains("text/html") && body.contains("</html>"), "the second part is whole: {body}");
}

#[tokio::test]
async fn fault_60_a_wrong_password_keeps_the_mail() {
    let server = Server::start("required");
    let delivery = receiver(&server, "wrong-horse", &["ops@example.org"]).deliver(&notice()).await;
    let events = server.stop();
    let Delivery::Retry { why, .. } = delivery else { panic!("{delivery:?}") };
    assert!(why.contains("refused the login (535)") && why.contains("check [smtp] username"), "{why}");
    assert!(kinds(&events).contains(&"auth") && !kinds(&events).contains(&"mail"), "{events:?}");
}

#[tokio::test]
async fn fault_61_a_server_whose_starttls_was_stripped_is_refused() {
    let server = Server::start("stripped");
    let delivery = receiver(&server, PASSWORD, &["ops@example.org"]).deliver(&notice()).await;
    let events = server.stop();
    let Delivery::Retry { why, .. } = delivery else { panic!("{delivery:?}") };
    assert!(why.contains("does not offer STARTTLS"), "{why}");
    assert_eq!(kinds(&events), ["ehlo"], "nothing but a greeting went over the line");
}
