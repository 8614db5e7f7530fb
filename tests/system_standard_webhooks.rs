//! Signed webhooks before the reference library of Standard Webhooks, which `.ci/install-webhooks.sh` installs.
//!
//! It must never be skipped silently: without the library it fails and says how to get it.
#![cfg(feature = "system-tests")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "notify/http.rs"]
#[allow(dead_code, reason = "the webhook tests use the rest")]
mod http;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use http::{Request, hook, status};
use serde_json::{Value, json};
use spheron_watch::{
    clock::Clock,
    model::{AlertKey, Delivery, EventId, Notice, Severity, Subject, TeamId, Time, Transition},
    notify::{Format, Receiver, ReceiverKind, ReceiverSpec},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const HOW: &str = "no reference library of Standard Webhooks: run .ci/install-webhooks.sh first";

fn notice(title: &str, transition: Transition) -> Notice {
    let key = AlertKey { rule: "low-balance".into(), subject: Subject::Team { id: TeamId::new("tm_7Qx") } };
    Notice {
        id: EventId::derive(&key, Time::from_secs(1), transition, 0),
        key,
        kind: "balance".into(),
        transition,
        severity: Severity::Critical,
        title: title.into(),
        reason: "The balance of research is $8.20, below $10.00.".into(),
        advice: "Top up at https://app.spheron.ai.".into(),
        details: vec![("balance".into(), "$8.20".into())],
        bars: Vec::new(),
        since: Time::from_secs(1_795_516_200),
        at: Time::from_secs(1_795_516_260),
        receivers: vec!["chat".into()],
        together: Default::default(),
        grant: None,
        link: None,
    }
}

/// What went over the wire.
async fn sent(notice: &Notice) -> Request {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let hook = hook("/hook", vec![status(200, "", "")]).await;
    let format = Format::Standard { secret: Some(SECRET.to_owned().into()) };
    let kind = ReceiverKind::Webhook { url: hook.url.clone().into(), format };
    let receiver = Receiver::build(ReceiverSpec { name: "chat".into(), kind }, Clock::system()).unwrap();
    let delivery = receiver.deliver(notice).await;
    assert!(matches!(delivery, Delivery::Delivered { .. }), "{delivery:?}");
    hook.requests().remove(0)
}

fn question(secret: &str, request: &Request) -> Value {
    json!({ "secret": secret, "headers": request.headers, "body": request.body })
}

/// One answer to each.
fn ask(questions: &[Value]) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venv =
        std::env::var_os("SPHERON_WATCH_WEBHOOKS_VENV").map_or("target/webhooks-venv".into(), PathBuf::from);
    let mut library = Command::new(root.join(venv).join("bin/python"))
        .arg(root.join("tests/system/standard_webhooks.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect(HOW);
    let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
    // It may be gone before it has read anything; its status says so.
    let _gone = library.stdin.take().unwrap().write_all(lines.as_bytes());
    let output = library.wait_with_output().unwrap();
    assert!(output.status.success(), "{HOW}");
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), questions.len());
    answers
}

#[tokio::test]
async fn the_reference_library_takes_what_we_sign_to_the_byte() {
    let hostile = "Größe 🤖 \u{202e}\u{2028}\0\r\n\"\\</script> {\"type\": 1}";
    let mut requests = Vec::new();
    for transition in [Transition::Firing, Transition::Reminder, Transition::Resolved, Transition::Event] {
        requests.push(sent(&notice("low balance: research has $8.20 left", transition)).await);
        requests.push(sent(&notice(hostile, transition)).await);
    }
    let questions: Vec<Value> = requests.iter().map(|request| question(SECRET, request)).collect();
    for (answer, request) in ask(&questions).iter().zip(&requests) {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(answer["verified"], body, "{answer}");
    }
}

#[tokio::test]
async fn the_reference_library_refuses_what_was_tampered_with_or_signed_by_another() {
    let intact = sent(&notice("low balance: research has $8.20 left", Transition::Firing)).await;
    let with = |header: &str, value: String| {
        let mut request = intact.clone();
        assert!(request.headers.insert(header.to_owned(), value).is_some(), "{header} was sent");
        request
    };
    let mut body = intact.clone();
    body.body = body.body.replacen("8.20", "9.20", 1);
    assert_ne!(body.body, intact.body);
    let at: i64 = intact.headers["webhook-timestamp"].parse().unwrap();
    let questions = [
        question(SECRET, &intact),
        question(SECRET, &body),
        question("whsec_bm90LXRoZS1zZWNyZXQtb2YtdGhpcy1yZWNlaXZlcg==", &intact),
        question(SECRET, &with("webhook-id", "evt_of_another".to_owned())),
        question(SECRET, &with("webhook-timestamp", (at + 1).to_string())),
        question(SECRET, &with("webhook-timestamp", (at - 3_600).to_string())),
        question(SECRET, &with("webhook-signature", "v1,bm90aGluZw==".to_owned())),
    ];
    let answers = ask(&questions);
    assert!(answers[0]["verified"].is_object(), "{}", answers[0]);
    for answer in &answers[1..] {
        assert!(answer["refused"].is_string(), "{answer}");
    }
}
