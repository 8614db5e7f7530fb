use std::collections::VecDeque;

use http::{HeaderMap, HeaderValue};

use super::*;
use crate::model::{DeleteAnswer, Feed, NoMeter, Time, Usd};

const START: Time = Time::from_secs(1_767_016_800);
const LATER: Time = Time::from_secs(1_767_103_200);

/// Answers from a script and remembers what it was asked; its clock advances only by pauses and by hand.
#[derive(Default)]
struct Script(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    answers: VecDeque<Result<Response, SendError>>,
    asked: Vec<String>,
    pauses: Vec<Duration>,
    elapsed: Duration,
}

impl Transport for Script {
    fn now(&self) -> Time {
        START.plus(self.0.lock().unwrap().elapsed)
    }

    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let mut inner = self.0.lock().unwrap();
        let query: Vec<String> =
            request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        inner.asked.push(format!("{} {} {}", request.method.as_str(), request.path, query.join("&")));
        inner.answers.pop_front().expect("the script ends here")
    }

    async fn pause(&self, length: Duration) {
        let mut inner = self.0.lock().unwrap();
        inner.pauses.push(length);
        inner.elapsed += length;
    }

    fn redact(&self, text: String) -> String {
        text.replace("sai_key", "[key]")
    }
}

fn answer(status: u16, body: &str) -> Result<Response, SendError> {
    answer_with(status, &[("content-type", "application/json; charset=utf-8")], body)
}

fn answer_with(status: u16, pairs: &[(&'static str, &str)], body: &str) -> Result<Response, SendError> {
    let headers: HeaderMap = pairs
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    Ok(Response { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) })
}

fn client(answers: impl IntoIterator<Item = Result<Response, SendError>>) -> Client<Script> {
    let script = Script::default();
    script.0.lock().unwrap().answers = answers.into_iter().collect();
    Client::seeded(script, None, Arc::new(NoMeter), 7)
}

impl Client<Script> {
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.transport.0.lock().unwrap().asked)
    }

    fn wait(&self, secs: u64) {
        self.transport.0.lock().unwrap().elapsed += Duration::from_secs(secs);
    }

    fn next(&self, response: Result<Response, SendError>) {
        self.transport.0.lock().unwrap().answers.push_back(response);
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn deployment(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","teamId":"t","status":"running","hourlyRate":1,"totalCost":0,"createdAt":"2024-01-15T10:30:00Z"}}"#
    )
}

fn volume(id: &str, team: &str) -> String {
    format!(
        r#"{{"id":"{id}","teamId":"{team}","status":"attached","hourlyRate":1,"createdAt":"2024-01-15T10:30:00Z","sizeInGb":1}}"#
    )
}

fn team() -> TeamId {
    TeamId::new("t")
}

fn id() -> DeploymentId {
    DeploymentId::new("a/b")
}

const EMPTY: &str = r#"{"teams":[]}"#;

#[test]
fn each_question_goes_to_its_documented_path() {
    let client = client([
        answer(200, EMPTY),
        answer(200, "[]"),
        answer(200, "[]"),
        answer(200, &deployment("a/b")),
        answer(200, r#"{"volumes":[],"total":0,"totalPages":0}"#),
        answer(200, &volume("v", "t")),
        answer(200, r#"{"data":[],"total":0}"#),
        answer(200, r#"{"canTerminate":true,"runtime":9,"timeRemaining":0,"minimumRuntime":5}"#),
        answer(200, r#"{"message":"Instance destruction initiated"}"#),
    ]);
    run(async {
        client.balances().await.unwrap();
        client.deployments(None, true, false).await.unwrap();
        client.deployments(Some(&TeamId::new("t&x=1")), false, true).await.unwrap();
        client.deployment(&id()).await.unwrap().unwrap();
        client.volumes(Some(&team())).await.unwrap();
        client.volume(&VolumeId::new("v")).await.unwrap().unwrap();
        client.offers().await.unwrap();
        client.can_terminate(&id()).await.said.unwrap().unwrap();
        assert_eq!(client.delete(&id(), LATER).await.said, DeleteAnswer::Accepted);
    });
    assert_eq!(
        client.asked(),
        [
            "GET /api/balance ",
            "GET /api/deployments status=active",
            "GET /api/deployments teamId=t&x=1",
            "GET /api/deployments/a%2Fb ",
            "GET /api/volumes teamId=t&limit=100",
            "GET /api/volumes/v ",
            "GET /api/gpu-offers limit=100",
            "GET /api/deployments/a%2Fb/can-terminate ",
            "DELETE /api/deployments/a%2Fb ",
        ]
    );
}

#[test]
fn fault_23_an_id_that_is_no_segment_is_refused_unsent() {
    let client = client([]);
    let answered = run(client.delete(&DeploymentId::new(".."), LATER));
    assert!(matches!(answered.said, DeleteAnswer::NotSent { .. }), "{answered:?}");
    assert!(client.asked().is_empty());
}

#[test]
fn all_pages_are_read() {
    let page = |ids: &[&str], number| {
        let volumes: Vec<_> = ids.iter().map(|id| volume(id, "t")).collect();
        answer(
            200,
            &format!(
                r#"{{"volumes":[{}],"total":3,"page":{number},"limit":2,"totalPages":2}}"#,
                volumes.join(",")
            ),
        )
    };
    let client = client([page(&["a", "b"], 1), page(&["c"], 2)]);
    let volumes = run(client.volumes(Some(&team()))).unwrap();
    assert!(volumes.is_whole());
    assert_eq!(volumes.items.len(), 3);
    assert_eq!(
        client.asked(),
        ["GET /api/volumes teamId=t&limit=100", "GET /api/volumes teamId=t&limit=100&page=2"]
    );
}

#[test]
fn fault_07_pages_that_overlap_end_early_or_do_not_add_up_are_suspect() {
    let page = |volumes: &[String], total, pages| {
        answer(200, &format!(r#"{{"volumes":[{}],"total":{total},"totalPages":{pages}}}"#, volumes.join(",")))
    };
    let (a, b) = (volume("a", "t"), volume("b", "t"));
    let suspect = |answers: Vec<_>| {
        let list = run(client(answers).volumes(Some(&team()))).unwrap();
        (list.items.len(), list.suspect.map(|why| why.to_string()))
    };
    let ab = [a.clone(), b.clone()];
    assert_eq!(suspect(vec![page(&ab, 2, 1)]), (2, None));
    assert_eq!(suspect(vec![page(&ab, 5, 1)]), (2, Some("the API counts 5 volumes but listed 2".into())));
    assert_eq!(
        suspect(vec![page(&ab, 3, 2), page(&[b], 3, 2)]),
        (2, Some("volume b is listed twice".into())),
        "a volume moved between the pages, so another was missed"
    );
    assert_eq!(
        suspect(vec![page(&ab, 4, 3), page(&[], 4, 3)]),
        (2, Some("the API counts 4 volumes but listed 2".into()))
    );
    let other = [a, volume("c", "other")];
    assert_eq!(
        suspect(vec![page(&other, 2, 1)]),
        (2, Some("asked for one team, the API listed volumes of another".into()))
    );
}

#[test]
fn fault_07_a_hidden_page_limit_of_deployments_is_followed_or_suspect() {
    let object = |id, pages| format!(r#"{{"deployments":[{}],"totalPages":{pages}}}"#, deployment(id));
    let paged = client([answer(200, &object("a", 2)), answer(200, &object("b", 2))]);
    assert_eq!(run(paged.deployments(None, true, false)).unwrap().items.len(), 2);
    assert_eq!(
        paged.asked(),
        ["GET /api/deployments status=active", "GET /api/deployments status=active&page=2"]
    );

    let cut = client([answer(200, &format!(r#"{{"data":[{}],"total":2,"totalPages":1}}"#, deployment("a")))]);
    assert!(!run(cut.deployments(None, true, false)).unwrap().is_whole());

    let hundred: Vec<_> = (0..100).map(|n| deployment(&n.to_string())).collect();
    let round = client([answer(200, &format!("[{}]", hundred.join(",")))]);
    assert!(
        run(round.deployments(None, true, false)).unwrap().is_whole(),
        "an honest hundred is no partial list"
    );
}

#[test]
fn a_failed_page_fails_the_list() {
    let page = format!(r#"{{"volumes":[{}],"total":2,"totalPages":2}}"#, volume("a", "t"));
    let client = client([answer(200, &page), answer(403, r#"{"error":"no","code":"FORBIDDEN"}"#)]);
    assert_eq!(run(client.volumes(None)).unwrap_err().kind, FailureKind::Forbidden);
}

#[test]
fn balances_in_another_currency_are_suspect() {
    let body = r#"{"teams":[{"teamId":"t","balance":5}],"currency":"EUR"}"#;
    let list = run(client([answer(200, body)]).balances()).unwrap();
    assert_eq!(list.items[0].balance, Usd::from_cents(500));
    assert_eq!(list.suspect.as_deref(), Some("the balances are in EUR, not USD"));
}

#[test]
fn each_status_has_its_kind_and_quotes_code_and_error() {
    let json = |error: &str, code: &str| {
        format!(r#"{{"error":"{error}","code":"{code}","details":{{"x":"DETAILS"}}}}"#)
    };
    for (status, body, kind, start) in [
        (
            400,
            json("Missing field", "VALIDATION_ERROR"),
            FailureKind::Refused,
            "400 VALIDATION_ERROR: Missing field;",
        ),
        (
            401,
            json("Invalid API key", "UNAUTHORIZED"),
            FailureKind::Unauthorized,
            "401 UNAUTHORIZED: Invalid API key;",
        ),
        (403, json("No", "FORBIDDEN"), FailureKind::Forbidden, "403 FORBIDDEN: No;"),
        (
            429,
            json("Slow", "RATE_LIMIT_EXCEEDED"),
            FailureKind::RateLimited,
            "429 RATE_LIMIT_EXCEEDED: Slow;",
        ),
        (502, json("Bad\\ngateway sai_key", "X"), FailureKind::Server, "502 X: Badgateway [key];"),
        (302, String::new(), FailureKind::Malformed, "302; redirects are not followed"),
        (101, String::new(), FailureKind::Malformed, "101;"),
    ] {
        let failure = run(client([answer(status, &body)]).balances()).unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.starts_with(&format!("GET /api/balance: {start}")), "{failure}");
        assert!(!failure.message.contains("DETAILS"));
    }
}

#[test]
fn fault_26_a_redirect_is_an_error_that_names_the_host() {
    let moved = answer_with(301, &[("location", "https://login.example.org/p?token=SECRET")], "");
    let failure = run(client([moved]).balances()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Malformed);
    assert!(
        failure.message.contains("login.example.org") && !failure.message.contains("SECRET"),
        "{failure}"
    );
}

#[test]
fn fault_09_after_a_401_only_the_balance_is_tried_every_five_minutes() {
    let client = client([answer(401, r#"{"error":"Invalid API key","code":"UNAUTHORIZED"}"#)]);
    assert_eq!(run(client.balances()).unwrap_err().kind, FailureKind::Unauthorized);
    assert!(client.key_rejected());
    assert_eq!(run(client.deployments(None, true, false)).unwrap_err().kind, FailureKind::Held);
    client.wait(299);
    let held = run(client.balances()).unwrap_err();
    assert_eq!(held.kind, FailureKind::Held);
    assert!(
        held.message.contains("held back until 2025-12-29T14:05:00Z: the API rejected the key"),
        "{held}"
    );
    assert_eq!(client.asked().len(), 1, "what is held is not sent");
    client.wait(1);
    client.next(answer_with(200, &[("content-type", "text/html")], "<html>Sign in</html>"));
    assert!(run(client.balances()).is_err());
    assert!(client.key_rejected(), "a login page does not accept the key");
    client.wait(300);
    client.next(answer(200, EMPTY));
    assert!(run(client.balances()).is_ok());
    assert!(!client.key_rejected());
    client.next(answer(200, "[]"));
    assert!(run(client.deployments(None, true, false)).is_ok());
}

#[test]
fn fault_10_a_403_of_one_team_is_that_calls_failure_alone() {
    let client = client([answer(403, r#"{"error":"No","code":"FORBIDDEN"}"#), answer(200, "[]")]);
    assert_eq!(run(client.deployments(Some(&team()), true, false)).unwrap_err().kind, FailureKind::Forbidden);
    assert!(run(client.deployments(Some(&TeamId::new("other")), true, false)).is_ok());
    assert!(!client.key_rejected());
}

#[test]
fn fault_11_a_404_of_the_api_is_none_and_a_404_of_the_web_app_is_a_failure() {
    let api = || answer(404, r#"{"error":"Deployment not found","code":"NOT_FOUND"}"#);
    let html = || answer_with(404, &[("content-type", "text/html")], "<html>Not found</html>");
    let client = client([api(), api(), api(), html(), answer(404, "[]"), html()]);
    assert_eq!(run(client.can_terminate(&id())).said, Ok(None));
    assert_eq!(run(client.deployment(&id())), Ok(None));
    assert_eq!(run(client.delete(&id(), LATER)).said, DeleteAnswer::NotFound);
    assert_eq!(run(client.deployment(&id())).unwrap_err().kind, FailureKind::Malformed);
    assert_eq!(run(client.deployment(&id())).unwrap_err().kind, FailureKind::Malformed);
    assert_eq!(run(client.can_terminate(&id())).said.unwrap_err().kind, FailureKind::Malformed);
}

#[test]
fn a_detail_about_another_deployment_is_not_believed() {
    let client = client([answer(200, &deployment("other"))]);
    assert_eq!(run(client.deployment(&id())).unwrap_err().kind, FailureKind::Malformed);
}

#[test]
fn fault_12_both_bodies_of_a_429_hold_every_call_back() {
    for (body, secs) in [
        (r#"{"error":"Rate limit exceeded. Try again in 15 minutes","code":"RATE_LIMIT_EXCEEDED"}"#, 900),
        (r#"{"error":"Too many requests","message":"from this IP","retryAfter":600}"#, 600),
    ] {
        let client = client([answer(429, body)]);
        assert_eq!(run(client.deployments(None, true, false)).unwrap_err().kind, FailureKind::RateLimited);
        client.wait(secs - 1);
        assert_eq!(run(client.balances()).unwrap_err().kind, FailureKind::Held);
        client.wait(1);
        client.next(answer(200, EMPTY));
        assert!(run(client.balances()).is_ok());
    }
}

/// Of a schedule that takes 36 calls per 15 minutes.
fn stretch(client: &Client<Script>) -> f64 {
    let need = Need::new(Feed::Deployments, Duration::from_secs(25), 36.0);
    client.stretch(&[need]).of(&need)
}

#[test]
fn fault_13_a_drained_budget_stretches_the_schedule_while_the_balance_goes_on() {
    let headers = [
        ("content-type", "application/json"),
        ("x-ratelimit-limit", "250"),
        ("x-ratelimit-remaining", "20"),
        ("x-ratelimit-reset", "2025-12-29T14:10:00.000Z"),
    ];
    let client = client([answer_with(200, &headers, EMPTY)]);
    assert!((stretch(&client) - 1.0).abs() < 1e-9);
    run(client.balances()).unwrap();
    assert!(stretch(&client) > 10.0);
    assert_eq!(run(client.deployments(None, true, false)).unwrap_err().kind, FailureKind::Held);
    client.next(answer(200, EMPTY));
    assert!(run(client.balances()).is_ok());
    client.wait(600);
    assert!((stretch(&client) - 1.0).abs() < 1e-9);
}

#[test]
fn fault_14_a_500_is_asked_once_more_and_then_reported() {
    let internal = || answer(500, r#"{"error":"Internal server error","code":"INTERNAL_ERROR"}"#);
    let healed = client([internal(), answer(200, EMPTY)]);
    assert!(run(healed.balances()).is_ok());
    let pauses = healed.transport.0.lock().unwrap().pauses.clone();
    assert!(
        pauses.len() == 1 && pauses[0] >= Duration::from_millis(500) && pauses[0] <= Duration::from_secs(1)
    );

    let sick = client([internal(), internal()]);
    let failure = run(sick.balances()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Server);
    assert_eq!(sick.asked().len(), 2);
    for other in [answer(502, "{}"), Err(SendError::Timeout), Err(SendError::Network("refused".into()))] {
        let client = client([other]);
        assert!(run(client.balances()).is_err());
        assert_eq!(client.asked().len(), 1, "only a 500 is repeated at once");
    }
}

#[test]
fn a_400_to_a_delete_is_read_as_it_was_observed_and_anything_else_in_it_is_a_refusal() {
    let early = |minutes| DeleteAnswer::MinimumRuntime { minutes };
    let ended = |status: &str| DeleteAnswer::Ended { status: status.into() };
    for (body, expected) in [
        (
            r#"{"error":"Minimum runtime not met","canTerminate":false,"timeRemaining":3,"minimumRuntime":20}"#,
            Some(early(3)),
        ),
        (r#"{"error":"Minimum runtime not met","timeRemaining":2.2}"#, Some(early(3))),
        (r#"{"error":"no","timeRemaining":"7"}"#, Some(early(7))),
        (r#"{"message":"minimum runtime not met"}"#, Some(early(1))),
        (r#"{"error":"Minimum runtime not met","timeRemaining":-5}"#, Some(early(1))),
        (
            r#"{"error":"Cannot terminate instance","currentStatus":"terminated","canTerminate":false}"#,
            Some(ended("terminated")),
        ),
        (
            r#"{"error":"Cannot terminate instance","currentStatus":"terminated-provider"}"#,
            Some(ended("terminated-provider")),
        ),
        (r#"{"error":"Cannot terminate instance","currentStatus":"running"}"#, None),
        (r#"{"error":"Cannot terminate instance","currentStatus":"deploying"}"#, None),
        (r#"{"error":"Cannot terminate instance","currentStatus":"who knows"}"#, None),
        (r#"{"error":"Cannot terminate instance","currentStatus":7,"timeRemaining":true}"#, None),
        (r#"{"error":"no","timeRemaining":0}"#, None),
        (r#"{"error":"bad","code":"VALIDATION_ERROR"}"#, None),
    ] {
        let said = run(client([answer(400, body)]).delete(&id(), LATER)).said;
        match expected {
            Some(expected) => assert_eq!(said, expected, "{body}"),
            None => assert!(matches!(said, DeleteAnswer::Refused { .. }), "{body}: {said:?}"),
        }
    }
    let huge = r#"{"error":"no","timeRemaining":1e400}"#;
    let pages = [(400, huge), (400, "[]"), (400, ""), (408, "{}"), (429, "<html>"), (502, "{}"), (302, "{}")];
    for (status, body) in pages {
        let said = run(client([answer(status, body)]).delete(&id(), LATER)).said;
        assert!(matches!(said, DeleteAnswer::Lost { .. }), "{status} {body}: {said:?}");
    }
}

#[test]
fn a_delete_is_never_repeated() {
    let client = client([answer(500, "{}")]);
    assert!(matches!(run(client.delete(&id(), LATER)).said, DeleteAnswer::Lost { .. }));
    assert_eq!(client.asked().len(), 1);
}

#[test]
fn fault_14_after_three_failures_calls_are_held_until_a_probe_succeeds() {
    let client = client([Err(SendError::Timeout), answer(500, "{}"), answer(500, "{}")]);
    assert_eq!(run(client.balances()).unwrap_err().kind, FailureKind::Timeout);
    assert_eq!(run(client.balances()).unwrap_err().kind, FailureKind::Server);
    let held = run(client.balances()).unwrap_err();
    assert!(held.kind == FailureKind::Held && held.message.contains("failed 3 times in a row"), "{held}");
    assert_eq!(client.asked().len(), 3);
    client.wait(8);
    client.next(answer(200, EMPTY));
    assert!(run(client.balances()).is_ok(), "the probe");
    client.next(answer(200, "[]"));
    assert!(run(client.deployments(None, true, false)).is_ok(), "and all others after it");
}

#[test]
fn fault_14_the_same_seed_jitters_the_same_way() {
    let pauses = |seed| {
        let script = Script::default();
        script.0.lock().unwrap().answers = [answer(500, "{}"), answer(200, EMPTY)].into();
        let client = Client::seeded(script, None, Arc::new(NoMeter), seed);
        run(client.balances()).unwrap();
        client.transport.0.lock().unwrap().pauses.clone()
    };
    assert_eq!(pauses(1), pauses(1));
    assert_ne!(pauses(1), pauses(2));
}

#[test]
fn the_apis_clock_and_budget_are_told() {
    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);
    impl Meter for Seen {
        fn api_call(&self, endpoint: &'static str, method: &'static str, code: &str, _: Duration) {
            self.0.lock().unwrap().push(format!("{method} {endpoint} {code}"));
        }
        fn rate_limit(&self, limit: u32, remaining: u32, reset: Option<Time>) {
            self.0.lock().unwrap().push(format!("{remaining}/{limit} until {}", reset.unwrap()));
        }
        fn notification(&self, _: &str, _: bool) {}
        fn poll(&self, _: crate::model::Feed, _: bool, _: Duration, _: Time) {}
    }
    let headers = [
        ("content-type", "application/json"),
        ("date", "Mon, 29 Dec 2025 14:00:05 GMT"),
        ("x-ratelimit-limit", "250"),
        ("x-ratelimit-remaining", "245"),
        ("x-ratelimit-reset", "2025-12-29T14:05:05.000Z"),
    ];
    let script = Script::default();
    script.0.lock().unwrap().answers =
        [answer_with(404, &headers, "{\"error\":\"x\"}"), Err(SendError::Timeout)].into();
    let seen = Arc::new(Seen::default());
    let client = Client::seeded(script, None, seen.clone(), 1);
    assert_eq!(client.skew_ms(), None);
    run(client.deployment(&id())).unwrap();
    assert_eq!(client.skew_ms(), Some(5_000));
    run(client.balances()).unwrap_err();
    assert_eq!(
        *seen.0.lock().unwrap(),
        ["GET /api/deployments/{id} 404", "245/250 until 2025-12-29T14:05:00Z", "GET /api/balance error"]
    );
}

#[test]
fn calls_can_run_on_any_thread() {
    fn is_send<F: Send>(_: F) {}
    let client = client([]);
    is_send(client.volumes(None));
    is_send(client.offers());
    is_send(client.balances());
}
