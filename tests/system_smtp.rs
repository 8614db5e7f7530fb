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

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use serde_json::Value;
use spheron_watch::{
    clock::Clock,
    model::{AlertKey, Bar, Delivery, EventId, Notice, Severity, Subject, TeamId, Time, Transition},
    notify::{Receiver, ReceiverKind, ReceiverSpec, SmtpSpec, SmtpTls},
};

use smtp::{PASSWORD, Server};

fn receiver(server: &Server, tls: SmtpTls, password: &str, to: &[&str]) -> Receiver {
    let smtp = SmtpSpec {
        host: "localhost".into(),
        port: server.port,
        tls,
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
    told(Transition::Firing)
}

fn told(transition: Transition) -> Notice {
    let key = AlertKey { rule: "low-balance".into(), subject: Subject::Team { id: TeamId::new("tm_7Qx") } };
    Notice {
        id: EventId::derive(&key, Time::from_secs(1), transition, 0),
        key,
        kind: "balance".into(),
        transition,
        severity: Severity::Critical,
        title: "low balance: Größe\r\nBcc: victim@example.org has $8.20 left".into(),
        reason: "The balance of research is $8.20, below $10.00.\r\n.\r\n".into(),
        advice: "Top up at https://app.spheron.ai.".into(),
        details: vec![("balance".into(), "$8.20".into())],
        since: Time::from_secs(1_795_516_200),
        at: Time::from_secs(1_795_516_260),
        receivers: vec!["ops".into()],
        bars: vec![Bar {
            label: "balance".into(),
            permille: 820,
            text: "$8.20; the threshold is $10.00".into(),
        }],
        together: Default::default(),
        grant: None,
        link: None,
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["event"].as_str().unwrap()).collect()
}

fn mails(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|e| e["event"] == "data").collect()
}

/// A header as the other side read it.
fn header<'a>(mail: &'a Value, name: &str) -> &'a str {
    mail["read"]["headers"][name].as_str().unwrap_or_else(|| panic!("no {name} in {mail}"))
}

const BOTH: [(&str, SmtpTls); 2] = [("required", SmtpTls::StartTls), ("implicit", SmtpTls::Implicit)];

#[tokio::test]
async fn a_mail_arrives_encrypted_and_logged_in_and_holds_what_it_should() {
    for (mode, tls) in BOTH {
        let server = Server::start(mode);
        let mailer = receiver(&server, tls, PASSWORD, &["ops@example.org"]);
        let delivery = mailer.deliver(&notice()).await;
        drop(mailer);
        let events = server.stop();
        let Delivery::Delivered { detail } = delivery else { panic!("{mode}: {delivery:?}") };
        assert_eq!(detail, "accepted for ops@example.org");
        assert!(events.iter().all(|e| e["event"] == "ehlo" || e["encrypted"] == true), "{events:?}");
        let [mail] = mails(&events)[..] else { panic!("{events:?}") };
        assert_eq!((&mail["login"], &mail["sender"]), (&"watch".into(), &"watch@example.org".into()));
        assert_eq!(mail["to"], serde_json::json!(["ops@example.org"]));
        assert_eq!(mail["read"]["defects"], serde_json::json!([]), "as another program reads it");
        for (name, expected) in [
            ("subject", "[CRITICAL] low balance: Größe Bcc: victim@example.org has $8.20 left"),
            ("message-id", &format!("<{}@example.org>", notice().id)),
            ("auto-submitted", "auto-generated"),
            ("list-id", "spheron-watch alerts <spheron-watch.example.org>"),
            ("date", "Tue, 24 Nov 2026 10:31:00 +0000"),
        ] {
            assert_eq!(header(mail, name), expected);
        }
        assert!(mail["read"]["headers"]["bcc"].is_null() && mail["read"]["count"] == 11, "{mail}");
        assert_eq!(mail["read"]["kinds"], serde_json::json!(["text/plain", "text/html"]));
        let (text, html) = (mail["read"]["text"].as_str().unwrap(), mail["read"]["html"].as_str().unwrap());
        assert!(text.contains("low balance: Größe Bcc: victim@example.org has $8.20 left"), "{text}");
        assert!(text.contains("below $10.00. .") && text.contains("[################----] $8.20"), "{text}");
        assert!(text.contains("silence add --match rule=low-balance id=tm_7Qx --for 4h"), "{text}");
        assert!(html.starts_with("<!DOCTYPE html>") && html.contains("width:82%"), "{html}");
    }
}

#[tokio::test]
async fn an_alert_its_reminder_and_its_end_are_one_thread() {
    let server = Server::start("required");
    let mailer = receiver(&server, SmtpTls::StartTls, PASSWORD, &["ops@example.org"]);
    for transition in [Transition::Firing, Transition::Reminder, Transition::Resolved] {
        let delivery = mailer.deliver(&told(transition)).await;
        assert!(matches!(delivery, Delivery::Delivered { .. }), "{delivery:?}");
    }
    let later = Notice { since: Time::from_secs(1_795_900_000), ..notice() };
    assert!(matches!(mailer.deliver(&later).await, Delivery::Delivered { .. }));
    drop(mailer);
    let events = server.stop();
    let mails = mails(&events);
    let root = header(mails[0], "references");
    for mail in &mails[..3] {
        assert_eq!((header(mail, "references"), header(mail, "in-reply-to")), (root, root));
        assert_ne!(header(mail, "message-id"), root);
    }
    assert_ne!(header(mails[3], "references"), root, "another episode is another thread");
    assert_eq!(kinds(&events).iter().filter(|&&kind| kind == "auth").count(), 1, "one connection for all");
}

#[tokio::test]
async fn fault_60_a_wrong_password_keeps_the_mail_and_pauses_the_channel() {
    for (mode, tls) in BOTH {
        let server = Server::start(mode);
        let mailer = receiver(&server, tls, "wrong-horse", &["ops@example.org", "also@example.org"]);
        let delivery = mailer.deliver(&notice()).await;
        let events = server.stop();
        let Delivery::Retry { why, after } = delivery else { panic!("{mode}: {delivery:?}") };
        assert!(why.contains("refused the login (535)") && why.contains("check [smtp] username"), "{why}");
        assert!(!why.contains("wrong-horse"), "{why}");
        assert_eq!(after, Some(Duration::from_secs(300)));
        assert!(kinds(&events).contains(&"auth") && !kinds(&events).contains(&"mail"), "{events:?}");
    }
}

#[tokio::test]
async fn fault_60_each_recipient_has_its_own_outcome() {
    let server = Server::start("required");
    let to = ["gone@example.org", "late@example.org", "ops@example.org"];
    let mailer = receiver(&server, SmtpTls::StartTls, PASSWORD, &to);
    let first = mailer.deliver(&notice()).await;
    let Delivery::Retry { why, .. } = first else { panic!("{first:?}") };
    assert!(why.starts_with("late@example.org: ") && why.contains("greylisted"), "{why}");
    assert!(why.contains("ops@example.org has it already"), "{why}");
    let second = mailer.deliver(&notice()).await;
    let Delivery::Delivered { detail } = second else { panic!("{second:?}") };
    let expected = "accepted for late@example.org, ops@example.org, but refused for gone@example.org";
    assert!(detail.starts_with(expected) && detail.contains("no such user here"), "{detail}");
    drop(mailer);
    let events = server.stop();
    let to: Vec<_> = mails(&events).iter().map(|mail| mail["to"].to_string()).collect();
    assert_eq!(to, [r#"["ops@example.org"]"#, r#"["late@example.org"]"#], "nobody gets a second copy");
}

#[tokio::test]
async fn fault_59_a_server_silent_after_data_gets_the_same_mail_again() {
    let server = Server::start("silent");
    let mailer = receiver(&server, SmtpTls::StartTls, PASSWORD, &["ops@example.org"])
        .with_deadline(Duration::from_secs(2));
    let first = mailer.deliver(&notice()).await;
    let Delivery::Retry { why, .. } = first else { panic!("{first:?}") };
    assert!(why.contains("did not finish within 2 s"), "{why}");
    let second = mailer.deliver(&notice()).await;
    assert!(matches!(second, Delivery::Delivered { .. }), "{second:?}");
    drop(mailer);
    let events = server.stop();
    let [lost, taken] = mails(&events)[..] else { panic!("{events:?}") };
    assert_eq!(lost["content"], taken["content"], "a reader's program knows it by its id");
}

#[tokio::test]
async fn fault_61_a_server_whose_starttls_was_stripped_is_refused() {
    let server = Server::start("stripped");
    let delivery =
        receiver(&server, SmtpTls::StartTls, PASSWORD, &["ops@example.org"]).deliver(&notice()).await;
    let events = server.stop();
    let Delivery::Retry { why, .. } = delivery else { panic!("{delivery:?}") };
    assert!(why.contains("does not offer STARTTLS"), "{why}");
    assert_eq!(kinds(&events), ["ehlo"], "nothing but a greeting went over the line");
}
