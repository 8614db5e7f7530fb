//! One Alertmanager, as it answers.

use std::time::Duration;

use spheron_watch::{
    model::{Push, Time},
    notify::{Alertmanager, PushError},
};

use crate::http::{Answer, Hook, hook, status};

fn push() -> Push {
    Push {
        labels: vec![("alertname", "low-balance".into())],
        summary: "low balance".into(),
        description: "It is low.".into(),
        advice: "Top up.".into(),
        starts: Time::from_secs(1_795_516_200),
        ends: Time::from_secs(1_795_516_440),
    }
}

async fn answered(answer: Answer) -> (Result<(), PushError>, Hook) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let hook = hook("", vec![answer]).await;
    let member = Alertmanager::new(&hook.url).unwrap().with_deadline(Duration::from_millis(1_500));
    (member.push(&[push()]).await, hook)
}

#[tokio::test]
async fn a_member_takes_a_batch_or_says_why_not() {
    let (taken, hook) = answered(status(200, "", "")).await;
    assert_eq!(taken, Ok(()));
    let requests = hook.requests();
    assert_eq!(requests[0].line, "POST /api/v2/alerts HTTP/1.1");
    assert_eq!(requests[0].headers["content-type"], "application/json");
    for (answer, says, of_the_batch) in [
        (status(400, "", "\"bad label\""), "it answered 400 Bad Request (\"bad label\")", true),
        (status(401, "", ""), "let this host in without a password", false),
        (status(404, "", ""), "no Alertmanager with an API v2 is at this address", false),
        (status(302, "location: /elsewhere\r\n", ""), "redirects are never followed", false),
        (status(500, "", "a\r\n\u{1b}[2Jb"), "(a b)", false),
        (Answer::Silent, "it did not answer within 1.5 s", false),
        (Answer::Cut, "the connection broke before it answered", false),
    ] {
        let (result, hook) = answered(answer).await;
        let error = result.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.is_of_the_batch(), of_the_batch, "{error}");
        assert_eq!(hook.requests().len(), 1, "once, and nowhere else");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_and_the_status_counts() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    let chunk = b"4000\r\n".iter().copied().chain([b'w'; 0x4000]).chain(*b"\r\n").collect();
    assert_eq!(answered(Answer::ThenForever(head, chunk, Duration::ZERO)).await.0, Ok(()));
}

#[test]
fn the_same_trouble_in_other_words_is_no_news() {
    let unreachable = |why: &str| PushError::Unreachable(why.to_owned());
    let refused = |status| PushError::Refused { status, said: String::new() };
    assert!(unreachable("a").is_like(&unreachable("b")));
    assert!(!unreachable("a").is_like(&PushError::Cut("a".into())));
    assert!(!refused(::http::StatusCode::BAD_GATEWAY).is_like(&refused(::http::StatusCode::NOT_FOUND)));
}
