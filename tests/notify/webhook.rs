//! The webhook receiver.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::SecretString;
use spheron_watch::{
    clock::Clock,
    model::{Delivery, DeploymentId, Notice, Subject, Time, Together, Transition},
    notify::{BuildError, Format, Receiver, ReceiverKind, ReceiverSpec},
};

use crate::{
    Logged, hostile,
    http::{Answer, Hook, hook, status},
    notice,
    smtp::{self, Script, Tls},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn receiver(url: &str, secret: Option<&str>) -> Receiver {
    speaking(url, Format::Standard { secret: secret.map(SecretString::from) }).unwrap()
}

pub fn speaking(url: &str, format: Format) -> Result<Receiver, BuildError> {
    let kind = ReceiverKind::Webhook { url: SecretString::from(url), format };
    Receiver::build(ReceiverSpec { name: "chat".into(), kind }, Clock::system())
}

async fn answered(answer: Answer) -> (Delivery, Hook) {
    let hook = hook("/hook/T0KEN12345", vec![answer]).await;
    let delivery =
        receiver(&hook.url, None).with_deadline(Duration::from_millis(1_500)).deliver(&notice(0)).await;
    (delivery, hook)
}

#[derive(Debug, PartialEq, Eq)]
pub enum Class {
    Delivered,
    Retry(Option<u64>),
    Rejected,
    Disabled,
}

pub fn class(delivery: &Delivery) -> Class {
    match delivery {
        Delivery::Delivered { .. } => Class::Delivered,
        Delivery::Retry { after, .. } => Class::Retry(after.map(|d| d.as_secs())),
        Delivery::Rejected { disable: false, .. } => Class::Rejected,
        Delivery::Rejected { disable: true, .. } => Class::Disabled,
    }
}

#[tokio::test]
async fn fault_58_each_status_has_its_outcome_and_says_what_to_do() {
    for (code, headers, expected, text) in [
        (200, "", Class::Delivered, "answered 200"),
        (204, "", Class::Delivered, "answered 204"),
        (301, "location: /elsewhere\r\n", Class::Rejected, "put the final address into url_file"),
        (307, "location: /elsewhere\r\n", Class::Rejected, "redirects are never followed"),
        (400, "", Class::Rejected, "check that `format` fits"),
        (401, "", Class::Rejected, "make a new one"),
        (403, "", Class::Rejected, "make a new one"),
        (404, "", Class::Rejected, "check url_file"),
        (408, "", Class::Retry(None), "it will be tried again"),
        (410, "", Class::Disabled, "put a new one into url_file and reload"),
        (413, "", Class::Rejected, "too large"),
        (429, "retry-after: 17\r\n", Class::Retry(Some(17)), "answered 429"),
        (429, "retry-after: soon\r\n", Class::Retry(None), "answered 429"),
        (429, "retry-after: Wed, 15 Jan 2020 08:01:00 GMT\r\n", Class::Retry(Some(0)), "answered 429"),
        (500, "", Class::Retry(None), "it will be tried again"),
        (503, "retry-after: 999999999\r\n", Class::Retry(Some(36_000)), "answered 503"),
        (599, "", Class::Retry(None), "it will be tried again"),
    ] {
        let (delivery, hook) = answered(status(code, headers, "what it says")).await;
        assert_eq!(class(&delivery), expected, "{code} {headers}");
        assert!(format!("{delivery:?}").contains(text), "{code}: {delivery:?}");
        assert_eq!(hook.requests().len(), 1, "{code}: one request, whatever the answer");
    }
}

#[tokio::test]
async fn fault_58_a_reset_after_the_status_was_delivered() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbeginning";
    assert_eq!(class(&answered(Answer::ThenReset(head.into())).await.0), Class::Delivered);
}

#[tokio::test]
async fn fault_58_a_body_without_end_neither_hangs_nor_fills_memory() {
    let chunk = vec![b'x'; 60_000];
    for (code, expected) in [(200, Class::Delivered), (500, Class::Retry(None)), (410, Class::Disabled)] {
        let head = format!("HTTP/1.1 {code} X\r\ncontent-length: 99999999999\r\n\r\n");
        for pause in [Duration::ZERO, Duration::from_secs(60)] {
            let answer = Answer::ThenForever(head.clone(), chunk.clone(), pause);
            let (delivery, _hook) = answered(answer).await;
            assert_eq!(class(&delivery), expected, "{code}");
            assert!(format!("{delivery:?}").len() < 400, "{delivery:?}");
        }
    }
}

#[tokio::test]
async fn fault_58_a_slow_webhook_is_tried_again() {
    let (delivery, _hook) = answered(Answer::Silent).await;
    assert_eq!(class(&delivery), Class::Retry(None));
    assert!(format!("{delivery:?}").contains("did not answer within 1.5 s"), "{delivery:?}");
}

#[tokio::test]
async fn fault_58_a_cut_or_refused_connection_is_tried_again() {
    for answer in [Answer::Cut, Answer::Raw("HTTP/1.1 2".into()), Answer::Raw("<html>not HTTP".into())] {
        let (delivery, _hook) = answered(answer.clone()).await;
        assert_eq!(class(&delivery), Class::Retry(None), "{answer:?}");
        assert!(format!("{delivery:?}").contains("broke before it answered"), "{delivery:?}");
    }
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let delivery = receiver(&format!("http://{free}/T0KEN12345"), None).deliver(&notice(0)).await;
    assert_eq!(class(&delivery), Class::Retry(None));
    let text = format!("{delivery:?}");
    assert!(text.contains("could not connect") && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn fault_59_a_second_attempt_carries_the_same_id_and_body() {
    let hook = hook("/", vec![status(503, "", ""), status(200, "", "")]).await;
    let receiver = receiver(&hook.url, Some(SECRET));
    assert_eq!(class(&receiver.deliver(&notice(0)).await), Class::Retry(None));
    assert_eq!(class(&receiver.deliver(&notice(0)).await), Class::Delivered);
    assert_eq!(class(&receiver.deliver(&notice(1)).await), Class::Delivered);
    let requests = hook.requests();
    let id = |n: usize| requests[n].headers["webhook-id"].clone();
    assert_eq!(id(0), notice(0).id.as_str());
    assert_eq!(id(0), id(1), "a retry is the same message");
    assert_eq!(requests[0].body, requests[1].body);
    assert_ne!(id(1), id(2), "another notice is not");
}

#[tokio::test]
async fn the_receiver_can_verify_the_signature_over_what_it_got() {
    let hook = hook("/", vec![status(200, "", "")]).await;
    receiver(&hook.url, Some(SECRET)).deliver(&hostile()).await;
    let request = &hook.requests()[0];
    let header = |name: &str| request.headers[name].as_str();
    let key = STANDARD.decode(&SECRET["whsec_".len()..]).unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(
        format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), request.body).as_bytes(),
    );
    let signature = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    mac.verify_slice(&signature).unwrap();
    let age = Clock::system().now().since(Time::from_secs(header("webhook-timestamp").parse().unwrap()));
    assert!(
        age < Duration::from_secs(60),
        "the time of sending, not of the notice: verifiers allow five minutes"
    );
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("user-agent"), concat!("spheron-watch/", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed() {
    let hook = hook("/", vec![status(200, "", "")]).await;
    receiver(&hook.url, None).deliver(&notice(0)).await;
    assert!(!hook.requests()[0].headers.contains_key("webhook-signature"));
}

#[tokio::test]
async fn the_body_is_the_contracts() {
    let hook = hook("/hook?key=s3cr3t", vec![status(200, "", "")]).await;
    let subject =
        Subject::Deployment { id: DeploymentId::new("dep_42"), created_at: Time::from_secs(1_795_500_000) };
    let mut spot = notice(0);
    spot.key.subject = subject;
    let receiver = receiver(&hook.url, None);
    receiver.deliver(&notice(0)).await;
    receiver.deliver(&Notice { transition: Transition::Resolved, ..spot }).await;
    let requests = hook.requests();
    assert_eq!(requests[0].line, "POST /hook?key=s3cr3t HTTP/1.1");
    let json = |n: usize| serde_json::from_str::<serde_json::Value>(&requests[n].body).unwrap();
    insta::assert_json_snapshot!("webhook_body", json(0));
    assert_eq!(json(1)["type"], "alert.resolved");
    assert_eq!(json(1)["data"]["state"], "resolved");
    assert_eq!(
        json(1)["data"]["subject"],
        serde_json::json!({"kind": "deployment", "id": "dep_42", "created_at": "2026-11-24T06:00:00Z"})
    );
}

#[tokio::test]
async fn fault_77_a_hostile_name_is_data_in_the_json_and_bounded() {
    let hook = hook("/", vec![status(200, "", "")]).await;
    receiver(&hook.url, None).deliver(&hostile()).await;
    let body = hook.requests()[0].body.clone();
    assert!(!body.contains(|c: char| u32::from(c) < 0x20), "controls are escaped");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["data"]["details"][0]["value"], crate::HOSTILE, "a program gets it unchanged");
    assert!(body.len() < 20_000, "{}", body.len());
}

#[tokio::test]
async fn an_id_that_is_no_header_value_is_rejected_not_sent() {
    let hook = hook("/", vec![status(200, "", "")]).await;
    let id = spheron_watch::model::EventId::from_text("evt\r\nx-injected: 1");
    let delivery = receiver(&hook.url, None).deliver(&Notice { id, ..notice(0) }).await;
    assert_eq!(class(&delivery), Class::Rejected);
    assert!(hook.requests().is_empty());
}

#[tokio::test]
async fn fault_76_neither_url_nor_secret_shows_in_errors_debug_or_trace_logs() {
    let log = Logged::start();
    let mut shown = String::new();
    let echo =
        format!("no such hook: /hook/T0KEN12345?key=s3cr3t-value, signed by {SECRET}, T0KEN\u{0}12345");
    let answers = vec![
        status(404, "", &echo),
        status(503, "", &echo),
        status(302, "location: /hook/T0KEN12345\r\n", &echo),
        Answer::Cut,
        Answer::Silent,
    ];
    let hook = hook("/hook/T0KEN12345?key=s3cr3t-value", answers).await;
    let receiver = receiver(&hook.url, Some(SECRET)).with_deadline(Duration::from_millis(300));
    for nth in 0..5 {
        shown.push_str(&format!("{:?}\n", receiver.deliver(&notice(nth)).await));
    }
    assert_eq!(hook.requests().len(), 5);
    let unreachable = ReceiverKind::Webhook {
        url: SecretString::from("https://nowhere-T0KEN12345.invalid/hook/T0KEN12345?key=s3cr3t-value"),
        format: Format::Standard { secret: Some(SecretString::from(SECRET)) },
    };
    let spec = ReceiverSpec { name: "chat".into(), kind: unreachable };
    shown.push_str(&format!("{spec:?}\n"));
    let unreachable = Receiver::build(spec, Clock::system()).unwrap();
    shown.push_str(&format!("{receiver:?} {unreachable:?} {:?}\n", unreachable.deliver(&notice(9)).await));
    for kind in [
        ReceiverKind::Webhook { url: "http://example.org/T0KEN12345".into(), format: Format::Slack },
        ReceiverKind::Webhook { url: "T0KEN12345".into(), format: Format::Slack },
        ReceiverKind::Webhook {
            url: hook.url.clone().into(),
            format: Format::Standard { secret: Some("whsec_T0KEN12345!".into()) },
        },
    ] {
        let error = Receiver::build(ReceiverSpec { name: "chat".into(), kind }, Clock::system()).unwrap_err();
        shown.push_str(&format!("{error} {error:?}\n"));
    }
    shown.push_str(&log.text());
    assert!(shown.contains("no such hook"), "the answer is quoted, without the secrets: {shown}");
    for secret in ["T0KEN12345", "s3cr3t-value", SECRET, &SECRET["whsec_".len()..]] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[tokio::test]
async fn fault_27_a_webhook_whose_certificate_nobody_vouches_for_gets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = smtp::server(directory.path(), Script::new(Tls::Implicit)).await;
    let delivery =
        receiver(&format!("https://localhost:{}/T0KEN12345", server.port), None).deliver(&notice(0)).await;
    assert_eq!(class(&delivery), Class::Retry(None));
    assert!(format!("{delivery:?}").contains("invalid peer certificate"), "{delivery:?}");
    assert_eq!(server.seen().connections, 1);
}

#[tokio::test]
async fn a_group_is_one_request_with_each_alert_in_it() {
    let hook = hook("/", vec![status(200, "", "")]).await;
    let members = vec![notice(1), notice(2)];
    let together = Together { members, more: 3, ..Together::default() };
    let group = Notice { title: "5 alerts at once: 5 firing".into(), together, ..notice(0) };
    receiver(&hook.url, None).deliver(&group).await;
    let json: serde_json::Value = serde_json::from_str(&hook.requests()[0].body).unwrap();
    insta::assert_json_snapshot!("webhook_group_body", json);
    let flood =
        Notice { together: Together { members: vec![hostile(); 500], ..Together::default() }, ..hostile() };
    let body = hook_body(&flood).await;
    assert!(body.len() < 500_000, "bounded: {}", body.len());
}

async fn hook_body(notice: &Notice) -> String {
    let hook = hook("/", vec![status(200, "", "")]).await;
    receiver(&hook.url, None).deliver(notice).await;
    hook.requests()[0].body.clone()
}
