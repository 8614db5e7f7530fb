//! The services' formats over loopback: what is posted is what the format's function made, and answers are read as each
//! service means them.

use std::time::Duration;

use secrecy::SecretString;
use spheron_watch::{
    model::{Notice, Severity, Time, Together, Transition},
    notify::{
        Chat, Format,
        formats::{alertmanager, discord, ntfy, pagerduty, slack, standard, teams, telegram},
    },
};

use crate::{
    Logged, hostile,
    http::{Answer, Hook, Request, hook, status},
    notice,
    webhook::{Class, class, speaking},
};

const KEY: &str = "R0UT1NGK3Y";

fn secret() -> SecretString {
    SecretString::from(KEY)
}

async fn sent(path: &str, format: Format, notice: &Notice) -> Vec<Request> {
    let hook = hook(path, vec![status(200, "", "ok")]).await;
    let delivery = speaking(&hook.url, format).unwrap().deliver(notice).await;
    assert_eq!(class(&delivery), Class::Delivered, "{delivery:?}");
    hook.requests()
}

#[tokio::test]
async fn each_format_posts_what_its_function_made_as_json() {
    let chat = || Chat::Name("@gpu_alerts".into());
    for notice in [notice(0), hostile()] {
        for (path, line, format, expected) in [
            ("/hook", "/hook", Format::Slack, slack::body(&notice)),
            ("/hook", "/hook", Format::Discord, discord::body(&notice)),
            ("/w?sig=x", "/w?sig=x", Format::Teams, teams::body(&notice)),
            ("/hook", "/hook", Format::Standard { secret: None }, standard::body(&notice)),
            ("/hook", "/hook", Format::Alertmanager { token: None }, alertmanager::body(&notice, "chat")),
            ("/ntfy/gpu-alerts", "/ntfy/", Format::Ntfy { token: None }, ntfy::body(&notice, "gpu-alerts")),
            (
                "/bot1:T0K/sendMessage",
                "/bot1:T0K/sendMessage",
                Format::Telegram { chat: chat() },
                telegram::body(&notice, &chat()),
            ),
            (
                "/v2/enqueue",
                "/v2/enqueue",
                Format::Pagerduty { routing_key: secret() },
                pagerduty::bodies(&notice, &secret()).map(|mut bodies| bodies.remove(0)),
            ),
        ] {
            let what = format!("{format:?}");
            let requests = sent(path, format, &notice).await;
            assert_eq!(requests.len(), 1, "{what}");
            assert_eq!(requests[0].line, format!("POST {line} HTTP/1.1"), "{what}");
            assert_eq!(requests[0].headers["content-type"], "application/json", "{what}");
            assert_eq!(requests[0].body.as_bytes(), expected.unwrap(), "{what}");
            let signed = requests[0].headers.keys().any(|name| name.starts_with("webhook-"));
            assert_eq!(signed, what.starts_with("Standard"), "{what}: others know nothing of these headers");
            assert!(!requests[0].headers.contains_key("authorization"), "{what}");
        }
    }
}

#[tokio::test]
async fn a_token_goes_into_the_authorization_header_and_nowhere_else() {
    for (path, format) in [
        ("/hook", Format::Alertmanager { token: Some("t0ken-t0ken\n".into()) }),
        ("/gpu-alerts", Format::Ntfy { token: Some("t0ken-t0ken\n".into()) }),
    ] {
        let request = &sent(path, format, &notice(0)).await[0];
        assert_eq!(request.headers["authorization"], "Bearer t0ken-t0ken");
        assert!(!request.body.contains("t0ken") && !request.line.contains("t0ken"));
    }
}

async fn answered(path: &str, format: Format, answer: Answer) -> (String, Class, Hook) {
    let hook = hook(path, vec![answer]).await;
    let receiver = speaking(&hook.url, format).unwrap().with_deadline(Duration::from_millis(1_500));
    let delivery = receiver.deliver(&notice(0)).await;
    (format!("{delivery:?}"), class(&delivery), hook)
}

#[tokio::test]
async fn fault_58_each_services_own_answers_are_read_as_it_means_them() {
    let pagerduty = || ("/v2/enqueue", Format::Pagerduty { routing_key: secret() });
    let telegram = || ("/bot1:T0K/sendMessage", Format::Telegram { chat: Chat::Id(-100) });
    let slack = || ("/services/x", Format::Slack);
    let discord = || ("/api/webhooks/x", Format::Discord);
    let teams = || ("/workflows/x", Format::Teams);
    let ntfy = || ("/gpu", Format::Ntfy { token: None });
    let limited = r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35","parameters":{"retry_after":35}}"#;
    let moved = r#"{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat","parameters":{"migrate_to_chat_id":-1009}}"#;
    let unknown = r#"{"ok":false,"error_code":400,"description":"Bad Request: chat not found"}"#;
    let microsoft =
        "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429";
    for ((path, format), code, headers, body, expected, text) in [
        (slack(), 200, "", "ok", Class::Delivered, "Slack answered 200"),
        (slack(), 200, "", r#"{"ok":false,"error":"not_authed"}"#, Class::Rejected, "not_authed"),
        (slack(), 200, "", r#"{"ok":false,"error":"ratelimited"}"#, Class::Retry(None), "ratelimited"),
        (slack(), 400, "", "invalid_blocks", Class::Rejected, "invalid_blocks"),
        (slack(), 403, "", "action_prohibited", Class::Rejected, "make a new one"),
        (slack(), 404, "", "no_service", Class::Rejected, "check url_file"),
        (slack(), 410, "", "channel_is_archived", Class::Disabled, "channel_is_archived"),
        (slack(), 429, "retry-after: 30\r\n", "", Class::Retry(Some(30)), "answered 429"),
        (discord(), 204, "", "", Class::Delivered, "Discord answered 204"),
        (
            discord(),
            429,
            "",
            r#"{"message":"limited","retry_after":64.57,"global":false}"#,
            Class::Retry(Some(65)),
            "429",
        ),
        (discord(), 429, "retry-after: 65\r\n", r#"{"retry_after":64.57}"#, Class::Retry(Some(65)), "429"),
        (discord(), 429, "retry-after: 90\r\n", r#"{"retry_after":-1}"#, Class::Retry(Some(90)), "429"),
        (discord(), 429, "", r#"{"retry_after":1e300}"#, Class::Retry(Some(36_000)), "429"),
        (
            discord(),
            404,
            "",
            r#"{"message":"Unknown Webhook","code":10015}"#,
            Class::Rejected,
            "Unknown Webhook",
        ),
        (teams(), 202, "", "", Class::Delivered, "Teams answered 202"),
        (teams(), 200, "", microsoft, Class::Retry(None), "answered 502"),
        (teams(), 400, "", "TriggerInputSchemaMismatch", Class::Rejected, "TriggerInputSchemaMismatch"),
        (pagerduty(), 202, "", r#"{"status":"success"}"#, Class::Delivered, "PagerDuty answered 202"),
        (pagerduty(), 400, "", r#"{"status":"invalid event"}"#, Class::Rejected, "integration key"),
        (pagerduty(), 429, "", "", Class::Retry(None), "answered 429"),
        (pagerduty(), 500, "", "", Class::Retry(None), "answered 500"),
        (ntfy(), 200, "", r#"{"id":"x","event":"message"}"#, Class::Delivered, "ntfy answered 200"),
        (
            ntfy(),
            403,
            "",
            r#"{"code":40301,"error":"forbidden"}"#,
            Class::Rejected,
            "check the token in secret_file",
        ),
        (ntfy(), 429, "", r#"{"code":42901,"error":"limit reached"}"#, Class::Retry(None), "limit reached"),
        (telegram(), 200, "", r#"{"ok":true,"result":{}}"#, Class::Delivered, "Telegram answered 200"),
        (telegram(), 200, "", unknown, Class::Rejected, "check chat_id"),
        (telegram(), 400, "", unknown, Class::Rejected, "chat not found"),
        (telegram(), 400, "", moved, Class::Rejected, "set chat_id = -1009"),
        (telegram(), 401, "", r#"{"ok":false}"#, Class::Rejected, "check the token in url_file"),
        (
            telegram(),
            403,
            "",
            r#"{"ok":false,"description":"bot was kicked"}"#,
            Class::Rejected,
            "bot was kicked",
        ),
        (telegram(), 429, "", limited, Class::Retry(Some(35)), "retry after 35"),
        (telegram(), 200, "", limited, Class::Retry(Some(35)), "answered 429"),
        (telegram(), 302, "location: /x\r\n", "", Class::Rejected, "redirects are never followed"),
    ] {
        let what = format!("{format:?} {code} {body}");
        let (shown, class, hook) = answered(path, format, status(code, headers, body)).await;
        assert_eq!(class, expected, "{what}");
        assert!(shown.contains(text), "{what}: {shown}");
        assert_eq!(hook.requests().len(), 1, "{what}: one request, whatever the answer");
    }
}

#[tokio::test]
async fn fault_58_a_reset_after_the_status_was_delivered_in_every_format() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"ok\":fal";
    for (path, format) in [
        ("/x", Format::Slack),
        ("/x", Format::Teams),
        ("/bot1:T0K/sendMessage", Format::Telegram { chat: Chat::Id(1) }),
    ] {
        let (shown, class, _hook) = answered(path, format, Answer::ThenReset(head.into())).await;
        assert_eq!(class, Class::Delivered, "{shown}");
    }
}

fn group() -> Notice {
    let over = Notice { transition: Transition::Resolved, ..notice(0) };
    let mut other = Notice { severity: Severity::Warning, ..notice(0) };
    other.since = Time::from_secs(1_795_500_000);
    let members = vec![notice(0), over, other];
    Notice { together: Together { members, ..Together::default() }, ..notice(7) }
}

#[tokio::test]
async fn fault_59_pagerduty_gets_one_event_per_alert_and_all_again_after_a_failure() {
    let answers = vec![status(202, "", ""), status(503, "", ""), status(202, "", "")];
    let hook = hook("/v2/enqueue", answers).await;
    let receiver = speaking(&hook.url, Format::Pagerduty { routing_key: secret() }).unwrap();
    assert_eq!(class(&receiver.deliver(&group()).await), Class::Retry(None));
    assert_eq!(hook.requests().len(), 2, "the rest waits for the next attempt");
    assert_eq!(class(&receiver.deliver(&group()).await), Class::Delivered);
    let bodies: Vec<String> = hook.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies.len(), 5);
    assert_eq!(bodies[..2], bodies[2..4], "the same keys, so that nothing is opened twice");
}

#[tokio::test]
async fn one_refused_event_does_not_keep_the_others_back() {
    let hook = hook("/v2/enqueue", vec![status(400, "", ""), status(202, "", "")]).await;
    let receiver = speaking(&hook.url, Format::Pagerduty { routing_key: secret() }).unwrap();
    assert_eq!(class(&receiver.deliver(&group()).await), Class::Rejected, "and it is not hushed up");
    assert_eq!(hook.requests().len(), 3);
}

#[tokio::test]
async fn fault_76_no_key_or_token_shows_in_errors_debug_or_trace_logs() {
    let log = Logged::start();
    let mut shown = String::new();
    let token = "123456:AAtelegramTOKEN";
    for (path, format) in [
        (format!("/bot{token}/sendMessage"), Format::Telegram { chat: Chat::Id(1) }),
        ("/v2/enqueue".to_owned(), Format::Pagerduty { routing_key: secret() }),
        ("/topic-that-is-secret".to_owned(), Format::Ntfy { token: Some(secret()) }),
        ("/hook".to_owned(), Format::Alertmanager { token: Some(secret()) }),
    ] {
        shown.push_str(&format!("{format:?}\n"));
        let key = if path.contains(token) { "key" } else { KEY };
        let echo = format!("nothing at {path}, {key} unknown, Bearer {key}");
        for answer in
            [status(404, "", &echo), status(503, "", &format!(r#"{{"error":"{echo}"}}"#)), Answer::Cut]
        {
            let hook = hook(&path, vec![answer]).await;
            let receiver = speaking(&hook.url, format.clone()).unwrap();
            shown.push_str(&format!("{receiver:?} {:?}\n", receiver.deliver(&notice(0)).await));
        }
    }
    for (url, format) in [
        ("http://127.0.0.1/bot123456:AAtelegramTOKEN", Format::Telegram { chat: Chat::Id(1) }),
        ("http://127.0.0.1/topic-that-is-secret/", Format::Ntfy { token: None }),
        ("http://127.0.0.1/x", Format::Pagerduty { routing_key: format!("{KEY} {KEY}").as_str().into() }),
        ("http://127.0.0.1/x", Format::Pagerduty { routing_key: "\n".into() }),
        ("http://127.0.0.1/x", Format::Ntfy { token: Some(format!("{KEY}\r\nx: y").as_str().into()) }),
    ] {
        let error = speaking(url, format).unwrap_err();
        shown.push_str(&format!("{error} {error:?}\n"));
    }
    shown.push_str(&log.text());
    for text in
        ["must end in /sendMessage", "must be that of a topic", "must be one word", "is empty", "unknown"]
    {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    for secret in [KEY, "AAtelegramTOKEN", "topic-that-is-secret"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
