//! The dead-man switch, as it answers.

use std::time::Duration;

use secrecy::SecretString;
use spheron_watch::notify::DeadMan;

use crate::{
    Logged, hostile,
    http::{Answer, Hook, hook, status},
};

async fn answered(answer: Answer, reason: &str) -> (Result<(), String>, Hook) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let hook = hook("/ping/T0KEN12345", vec![answer]).await;
    let switch = DeadMan::new(&SecretString::from(&*hook.url)).unwrap();
    (switch.with_deadline(Duration::from_millis(1_500)).fail(reason).await, hook)
}

#[tokio::test]
async fn fault_76_the_switch_hears_or_the_reason_is_told_without_its_address() {
    let logged = Logged::start();
    let (heard, hook) = answered(status(200, "", "OK"), &hostile().title).await;
    assert_eq!(heard, Ok(()));
    let request = &hook.requests()[0];
    assert_eq!(request.line, "POST /ping/T0KEN12345/fail HTTP/1.1");
    assert!(
        request.body.starts_with("low balance: x Bcc:") && !request.body.contains('\n'),
        "{}",
        request.body
    );
    for (answer, says) in [
        (status(302, "location: /elsewhere\r\n", ""), "redirects are never followed"),
        (status(404, "", "no /ping/T0KEN12345/fail here"), "it answered 404"),
        (status(503, "", ""), "it answered 503"),
        (Answer::Silent, "it did not answer within 1.5 s"),
        (Answer::Cut, "the connection broke before it answered"),
    ] {
        let (result, hook) = answered(answer, "why").await;
        let why = result.unwrap_err();
        assert!(why.contains(says) && !why.contains("T0KEN"), "{why}");
        assert_eq!(hook.requests().len(), 1, "once, and nowhere else");
    }
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/ping/T0KEN12345", listener.local_addr().unwrap())
    };
    let why = DeadMan::new(&SecretString::from(closed)).unwrap().ping().await.unwrap_err();
    assert!(why.contains("could not connect") && !why.contains("T0KEN"), "{why}");
    assert!(!logged.text().contains("T0KEN"), "{}", logged.text());
}
