//! The JSON API: its documents, and how it is met over a real Unix socket and real TCP.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "api/deliveries.rs"]
mod deliveries;
mod fleet;
#[path = "api/keep.rs"]
mod keep;
#[path = "api/policies.rs"]
mod policies;

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use spheron_watch::{
    clock::Clock,
    model::{
        AlertKey, AlertState, Answer, Cost, CostBy, DeliveriesAsk, DeploymentId, Dispatch, Feed, FeedHealth,
        Held, HeldReason, Matcher, PolicyAnswer, Presence, Reasons, Rule, RuleKind, Severity, Silence,
        Snapshot, Status, Subject, Time, Tracked, Unknown, Usd, View,
    },
    serve::{
        SelfMetrics, ServeOptions, Socket, SocketError,
        api::{self, Look, Orders, Problem, Records, Sending, Source},
        serve, serve_socket,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

const START: Time = Time::from_secs(1_790_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

/// Of orders about policies: nobody takes them.
#[macro_export]
macro_rules! no_wishes {
    () => {
        fn keep(&self, _: spheron_watch::model::Keep) -> spheron_watch::serve::api::Asking<'_, bool> {
            Box::pin(std::future::ready(None))
        }
        fn end_keep(
            &self,
            _: std::sync::Arc<str>,
            _: std::sync::Arc<str>,
        ) -> spheron_watch::serve::api::Asking<'_, bool> {
            Box::pin(std::future::ready(None))
        }
        fn cancel(
            &self,
            _: spheron_watch::model::ActionId,
            _: spheron_watch::model::Cancel,
        ) -> spheron_watch::serve::api::Asking<'_, Result<(), spheron_watch::model::CancelError>> {
            Box::pin(std::future::ready(None))
        }
        fn arm(
            &self,
            _: std::sync::Arc<str>,
            _: std::sync::Arc<str>,
            _: std::sync::Arc<str>,
        ) -> spheron_watch::serve::api::Asking<
            '_,
            Result<spheron_watch::model::Arming, spheron_watch::model::ArmError>,
        > {
            Box::pin(std::future::ready(None))
        }
        fn disarm(
            &self,
            _: std::sync::Arc<str>,
            _: std::sync::Arc<str>,
        ) -> spheron_watch::serve::api::Asking<'_, bool> {
            Box::pin(std::future::ready(None))
        }
    };
}

/// Of actions: the database has none.
#[macro_export]
macro_rules! no_actions {
    () => {
        fn actions(
            &self,
            _: &str,
        ) -> Result<Vec<spheron_watch::model::Action>, spheron_watch::serve::api::Problem> {
            Ok(Vec::new())
        }
        fn shifts(
            &self,
            _: &spheron_watch::model::ActionId,
        ) -> Result<Vec<spheron_watch::model::Shift>, spheron_watch::serve::api::Problem> {
            Ok(Vec::new())
        }
    };
}

fn rule(name: &str, kind: RuleKind, severity: Severity) -> Rule {
    Rule {
        name: name.into(),
        kind,
        severity,
        for_: Duration::from_secs(600),
        keep_firing_for: Duration::ZERO,
        matcher: Matcher::default(),
        receivers: Vec::new(),
        repeat_interval: Some(HOUR * 4),
    }
}

fn of_tracked(tracked: &Tracked) -> Subject {
    Subject::Deployment { id: tracked.deployment.id.clone(), created_at: tracked.deployment.created_at }
}

/// Why nothing is told in the small account.
fn reasons() -> Vec<Held> {
    let running = of_tracked(&fleet::tracked(1, 1, Status::Running, START));
    let deploying = of_tracked(&fleet::tracked(3, 2, Status::Deploying, START));
    let team = Subject::Team { id: fleet::team(1) };
    let until = START.plus(HOUR + Duration::from_secs(60));
    let held =
        |rule: &str, subject: &Subject, reason| Held { rule: rule.into(), subject: subject.clone(), reason };
    vec![
        held("low-balance", &team, HeldReason::AlreadyTold { next: Some(START.plus(HOUR * 4)) }),
        held("running-long", &running, HeldReason::NotMet),
        held("running-long", &deploying, HeldReason::Pending { until }),
        held("provider-stopped", &running, HeldReason::Unknown { feed: Feed::Deployments }),
        held("blind", &Subject::Account, HeldReason::NotMet),
    ]
}

/// The small account with rules, an alert that may fire soon, and a silence.
fn view() -> View {
    let now = START.plus(HOUR);
    let mut view = fleet::small(START, now);
    let below = RuleKind::Balance { below: Usd::from_cents(1_000), clear_above: Usd::from_cents(1_200) };
    let mut other = rule("prod-only", RuleKind::RunningLong { longer_than: HOUR }, Severity::Info);
    other.matcher.globs =
        [(spheron_watch::model::MatchKey::Name, vec![spheron_watch::model::Glob::new("prod-*")])].into();
    view.rules = Arc::new(vec![
        rule("low-balance", below, Severity::Critical),
        rule("running-long", RuleKind::RunningLong { longer_than: HOUR * 24 }, Severity::Warning),
        rule("provider-stopped", RuleKind::ProviderStopped, Severity::Critical),
        rule("blind", RuleKind::Blind { longer_than: Duration::from_secs(300) }, Severity::Critical),
        other,
    ]);
    let pending = AlertKey {
        rule: "running-long".into(),
        subject: of_tracked(&fleet::tracked(3, 2, Status::Deploying, START)),
    };
    let state = AlertState::Pending { since: now.minus(Duration::from_secs(540)), fired: Vec::new() };
    view.latent = [(pending, (state, Severity::Warning))].into();
    let mut snapshot = Snapshot::clone(&view.snapshot);
    let silence = silence("sil_1", "running-long", START, START.plus(HOUR * 2));
    snapshot.silences = BTreeMap::from([(silence.id.clone(), Arc::new(silence))]);
    View { snapshot: Arc::new(snapshot), ..view }
}

fn silence(id: &str, rule: &str, starts: Time, ends: Time) -> Silence {
    Silence {
        id: id.into(),
        matchers: BTreeMap::from([("rule".into(), rule.into())]),
        starts,
        ends,
        author: "ann".into(),
        comment: "moving house".into(),
    }
}

fn get(view: &View, path: &str, query: &str) -> Result<Value, Problem> {
    let held = if api::asks_why(path) { reasons() } else { Vec::new() };
    let books = Books::default();
    let look = Look {
        view,
        held: &held,
        policies: None,
        now: START.plus(HOUR),
        source: Source::Daemon,
        records: Some(&books),
    };
    api::get(look, path, query).map(|text| serde_json::from_str(&text).unwrap())
}

/// A document of a path, with what changes with each version filtered.
fn document(path: &str, query: &str) -> String {
    let mut value = get(&view(), path, query).unwrap();
    assert_eq!(value["schema"], 1, "{path}");
    if let Some(version) = value.get_mut("version") {
        *version = "[version]".into();
    }
    serde_json::to_string_pretty(&value).unwrap()
}

#[test]
fn the_status() {
    insta::assert_snapshot!(document("/status", ""));
}

#[test]
fn the_teams() {
    insta::assert_snapshot!(document("/teams", ""));
}

#[test]
fn the_deployments() {
    insta::assert_snapshot!(document("/deployments", ""));
}

#[test]
fn the_volumes() {
    insta::assert_snapshot!(document("/volumes", ""));
}

#[test]
fn the_alerts_and_what_is_about_to_fire() {
    insta::assert_snapshot!(document("/alerts", "all=true"));
    let firing = get(&view(), "/alerts", "").unwrap();
    assert_eq!((&firing["total"], &firing["items"][0]["rule"]), (&json!(1), &json!("low-balance")));
}

#[test]
fn the_silences() {
    insta::assert_snapshot!(document("/silences", ""));
}

/// What was spent, whatever the span; and which spans were asked for.
#[derive(Debug, Default)]
struct Books {
    asked: Mutex<Vec<(Time, Time, CostBy)>>,
    closed: bool,
}

impl Records for Books {
    no_actions!();

    fn deliveries(&self, _: &DeliveriesAsk) -> Result<Vec<Dispatch>, Problem> {
        Ok(Vec::new())
    }

    fn costs(&self, since: Time, until: Time, by: CostBy) -> Result<Vec<Cost>, Problem> {
        self.asked.lock().unwrap().push((since, until, by));
        if self.closed {
            return Err(Problem::new(503, "the database cannot be read now"));
        }
        let of = |subject, from, cents| Cost {
            team: fleet::team(1),
            from,
            subject,
            amount: Usd::from_cents(cents),
            estimated: Usd::from_cents(cents / 10),
        };
        let deployment = of_tracked(&fleet::tracked(1, 1, Status::Running, START));
        let volume = Subject::Volume { id: fleet::tracked_volume(1, 1, None, START).volume.id };
        Ok(match by {
            CostBy::Team => vec![of(None, None, 5_000)],
            CostBy::Subject => vec![of(Some(deployment), None, 4_900), of(Some(volume), None, 100)],
            CostBy::Hour | CostBy::Day => vec![of(None, Some(since), 2_000), of(None, Some(until), 3_000)],
        })
    }
}

#[test]
fn the_costs_by_subject() {
    insta::assert_snapshot!(document("/costs", "by=subject&since=2026-09-21T12:00:00Z"));
}

#[test]
fn costs_name_the_whole_hours_that_they_are_of() {
    let (view, books) = (view(), Books::default());
    let now = START.plus(HOUR);
    let look =
        Look { view: &view, held: &[], policies: None, now, source: Source::Daemon, records: Some(&books) };
    let get =
        |query: &str| api::get(look, "/costs", query).map(|t| serde_json::from_str::<Value>(&t).unwrap());
    let asked = || books.asked.lock().unwrap().pop();
    let at = |text: &str| Time::parse_rfc3339(text).unwrap();

    let whole = get("").unwrap();
    assert_eq!(
        (&whole["by"], &whole["amount"], &whole["estimated"]),
        (&json!("team"), &json!("50"), &json!("5"))
    );
    let (since, until, by) = asked().unwrap();
    assert_eq!(by, CostBy::Team);
    assert!(until >= now && until.since(now) < HOUR, "the hour that runs counts");
    assert_eq!((until.since(since), until.secs() % 3_600), (HOUR * 24 * 31, 0));
    assert_eq!((&whole["since"], &whole["until"]), (&json!(since.to_string()), &json!(until.to_string())));

    let hours = get("by=hour&since=2026-09-01T00:59:59Z&until=2026-09-01T02:00:00%2B00:00&limit=1").unwrap();
    assert_eq!(asked(), Some((at("2026-09-01T00:00:00Z"), at("2026-09-01T02:00:00Z"), CostBy::Hour)));
    assert_eq!(
        (&hours["total"], &hours["next_offset"], &hours["amount"]),
        (&json!(2), &json!(1), &json!("50"))
    );

    for (query, says) in [
        ("by=gpu", "`by` is `team`, `day`, `hour` or `subject`"),
        ("since=yesterday", "`since` is a time with an offset"),
        ("since=2026-09-01T00:00:00", "`since` is a time with an offset"),
        ("until=2026-09-01T00:00:00Z&since=2026-09-01T00:00:00Z", "`since` is not before `until`"),
        ("by=hour&since=2026-01-01T00:00:00Z", "by hour there are 31 days at once at most"),
        ("by=day&since=2020-01-01T00:00:00Z", "by day there are 800 days at once at most"),
        ("team=x", "a parameter that this path does not know"),
    ] {
        let problem = get(query).unwrap_err();
        assert_eq!(problem.status, 400, "{query}");
        assert!(problem.detail.contains(says), "{query}: {problem}");
    }
    assert_eq!(asked(), None, "nothing is read for a question that is refused");
    assert!(get("by=subject&since=2020-01-01T00:00:00Z").is_ok());
    let closed = Books { closed: true, ..Books::default() };
    for records in [None, Some(&closed as &dyn Records)] {
        let problem = api::get(Look { records, ..look }, "/costs", "").unwrap_err();
        assert_eq!(problem.status, 503, "{problem}");
    }
}

#[test]
fn why_a_deployment() {
    insta::assert_snapshot!(document("/why/train-1", ""));
}

#[test]
fn a_database_claims_no_judgement_and_no_freshness() {
    let view = view();
    let look = Look {
        view: &view,
        held: &[],
        policies: None,
        now: START.plus(HOUR * 3),
        source: Source::Database,
        records: None,
    };
    let status: Value = serde_json::from_str(&api::get(look, "/status", "").unwrap()).unwrap();
    assert_eq!((&status["source"], &status["fresh"]), (&json!("database"), &json!(false)));
    assert_eq!(status["data_at"], START.plus(HOUR).to_string(), "as old as its last balance");
    let why: Value = serde_json::from_str(&api::get(look, "/why/train-1", "").unwrap()).unwrap();
    let verdicts: Vec<&str> =
        why["rules"].as_array().unwrap().iter().map(|r| r["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["firing", "unjudged", "unjudged", "unjudged", "not_matched"]);
}

#[test]
fn before_what_runs_was_ever_read_no_burn_and_no_end_is_claimed() {
    let team = fleet::tracked_team(1, "research", Some(Usd::from_cents(820)), START);
    let volume = fleet::tracked_volume(1, 1, None, START);
    let mut snapshot = fleet::snapshot([team], [], [volume], START);
    let status = |snapshot: &Snapshot| get(&fleet::view(snapshot.clone(), START), "/status", "").unwrap();
    let read = FeedHealth { last_usable: Some(START), ..FeedHealth::new(HOUR, START) };
    snapshot.feeds.insert(Feed::Deployments, read);
    let (known, end) = (status(&snapshot)["burn_per_hour"].clone(), status(&snapshot)["runs_out_at"].clone());
    assert!(known.is_string() && end.is_string(), "an empty list that came is knowledge: {known} {end}");
    snapshot.feeds.clear();
    let unread = status(&snapshot);
    assert_eq!((&unread["burn_per_hour"], &unread["runs_out_at"]), (&Value::Null, &Value::Null));
    let view = fleet::view(snapshot, START);
    let teams = get(&view, "/teams", "").unwrap();
    assert_eq!(
        (&teams["items"][0]["burn_per_hour"], &teams["items"][0]["runs_out_at"]),
        (&Value::Null, &Value::Null)
    );
    let why = get(&view, "/why/train-1", "").unwrap_err();
    assert!(
        why.status == 503 && why.detail.contains("not read yet"),
        "not a claim that it does not exist: {why}"
    );
}

#[test]
fn fault_03_a_deployment_that_cannot_be_read_is_shown_as_unknown_and_not_denied() {
    let mut view = view();
    let mut snapshot = Snapshot::clone(&view.snapshot);
    let unknown = Unknown { why: "totalCost: null".into(), since: START, feed: Feed::Deployments };
    snapshot.unknown.insert(DeploymentId::new("68ff"), unknown);
    view.snapshot = Arc::new(snapshot);
    let status = get(&view, "/status", "").unwrap();
    assert_eq!(
        status["unknown"],
        json!([{"id": "68ff", "why": "totalCost: null", "since": START.to_string()}])
    );
    let why = get(&view, "/why/68ff", "").unwrap_err();
    assert!(why.status == 503 && why.detail.contains("totalCost: null"), "{why}");
}

#[test]
fn a_deployment_is_found_by_id_name_or_the_beginning_of_either_and_never_guessed() {
    let now = START.plus(HOUR);
    let named = |n: usize, name: &str, status: Status| {
        let mut tracked = fleet::tracked(n, 1, status, START);
        tracked.deployment.name = name.into();
        tracked
    };
    let snapshot = fleet::snapshot(
        [],
        [
            named(1, "train", Status::Running),
            named(2, "train-2", Status::Running),
            named(3, "again", Status::Terminated),
            named(4, "again", Status::Running),
            named(5, "twin", Status::Running),
            named(6, "twin", Status::Running),
            named(7, "", Status::Running),
            named(8, "../x", Status::Running),
        ],
        [],
        now,
    );
    let view = fleet::view(snapshot, now);
    let id = |n: usize| fleet::tracked(n, 1, Status::Running, START).deployment.id.to_string();
    for (asked, expected) in [
        (id(2), Ok(2)),
        (id(2)[..24].to_owned(), Ok(2)),
        ("train".to_owned(), Ok(1)),
        ("train-".to_owned(), Ok(2)),
        ("again".to_owned(), Ok(4)),
        ("../x".to_owned(), Ok(8)),
        ("tra".to_owned(), Err((409, 2))),
        ("twin".to_owned(), Err((409, 2))),
        ("68d0".to_owned(), Err((409, 8))),
        ("nothing".to_owned(), Err((404, 0))),
        (String::new(), Err((404, 0))),
    ] {
        let found = get(&view, &format!("/why/{}", api::encode(&asked)), "");
        let found = found
            .map(|why| why["deployment"]["id"].as_str().unwrap().to_owned())
            .map_err(|problem| (problem.status, problem.candidates.len()));
        assert_eq!(found, expected.map(id), "{asked:?}");
    }
}

#[test]
fn an_ended_deployment_is_current_for_a_quarter_of_an_hour() {
    let mut view = view();
    let current = |view: &View, now: Time| {
        let look = Look { view, held: &[], policies: None, now, source: Source::Daemon, records: None };
        let page: Value =
            serde_json::from_str(&api::get(look, "/deployments", "current=true").unwrap()).unwrap();
        page["total"].as_u64().unwrap()
    };
    let mut snapshot = Snapshot::clone(&view.snapshot);
    let reclaimed = fleet::tracked(2, 1, Status::TerminatedProvider, START);
    assert_eq!(reclaimed.presence, Presence::Gone(START));
    snapshot.deployments.insert(reclaimed.deployment.id.clone(), Arc::new(reclaimed));
    view.snapshot = Arc::new(snapshot);
    assert_eq!(current(&view, START.plus(Duration::from_secs(899))), 3);
    assert_eq!(current(&view, START.plus(Duration::from_secs(900))), 2);
}

#[test]
fn fault_81_ten_thousand_deployments_come_in_pages_that_add_up() {
    let view = fleet::standard(10_000, START);
    let (mut offset, mut seen, mut pages) = (0, Vec::new(), 0);
    loop {
        let look = Look {
            view: &view,
            held: &[],
            policies: None,
            now: START,
            source: Source::Daemon,
            records: None,
        };
        let text = api::get(look, "/deployments", &format!("offset={offset}")).unwrap();
        assert!(text.len() < 1 << 20, "a page of {} bytes", text.len());
        let page: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&page["total"], &page["offset"], &page["limit"]),
            (&json!(10_000), &json!(offset), &json!(1_000))
        );
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        match page["next_offset"].as_u64() {
            Some(next) => offset = next,
            None => break,
        }
    }
    seen.dedup();
    assert_eq!((pages, seen.len()), (10, 10_000));
    let beyond = get(&view, "/deployments", "offset=18446744073709551615&limit=1").unwrap();
    assert_eq!((&beyond["items"], &beyond["next_offset"]), (&json!([]), &Value::Null));
}

#[test]
fn what_is_not_there_or_not_understood_is_a_problem_that_says_what_is() {
    let view = view();
    for (path, query, status, says) in [
        ("/nothing", "", 404, "status, teams, deployments"),
        ("/", "", 404, "why/{deployment}"),
        ("/why", "", 404, "why/{deployment}"),
        ("/why/a/b", "", 404, "why/{deployment}"),
        ("/why/%FF", "", 400, "not UTF-8"),
        ("/status", "verbose=1", 400, "it knows: none"),
        ("/teams", "limit=0", 400, "`limit`"),
        ("/alerts", "all=yes", 400, "`all` is `true` or `false`"),
    ] {
        let problem = get(&view, path, query).unwrap_err();
        assert_eq!(problem.status, status, "{path}");
        assert!(problem.detail.contains(says), "{path}: {problem}");
    }
}

/// Makes changes at once, as the loop does after its commit.
#[derive(Debug)]
struct Loop(watch::Sender<Arc<View>>);

impl Loop {
    fn change(&self, change: impl FnOnce(&mut Snapshot)) -> Sending<'_> {
        let mut view = View::clone(&self.0.borrow());
        change(Arc::make_mut(&mut view.snapshot));
        self.0.send_replace(Arc::new(view));
        Box::pin(std::future::ready(true))
    }
}

impl Orders for Loop {
    no_wishes!();

    fn silence(&self, silence: Silence) -> Sending<'_> {
        self.change(|snapshot| {
            snapshot.silences.insert(silence.id.clone(), Arc::new(silence));
        })
    }

    fn end_silence(&self, id: Arc<str>) -> Sending<'_> {
        self.change(|snapshot| {
            snapshot.silences.remove(&id);
        })
    }
}

#[derive(Debug)]
struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    headers: &str,
    body: &str,
) -> Got {
    let length = body.len();
    let text =
        format!("{request} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    Got { status: head[9..12].parse().unwrap(), head: head.to_ascii_lowercase(), body: body.to_owned() }
}

async fn over_socket(path: &Path, request: &str, body: &str) -> Got {
    ask(UnixStream::connect(path).await.unwrap(), request, "", body).await
}

#[tokio::test]
async fn the_socket_reads_and_changes_and_is_for_owner_and_group_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/control.sock");
    let (views, receiver) = watch::channel(Arc::new(fleet::small(START, Clock::system().now())));
    let options = ServeOptions { orders: Some(Arc::new(Loop(views))), ..ServeOptions::default() };
    let (socket, stop) = (Socket::bind(&path).unwrap(), CancellationToken::new());
    let task = tokio::spawn(serve_socket(socket, options, receiver, Clock::system(), stop.clone()));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o660);
    assert_eq!(mode(path.parent().unwrap()) & 0o007, 0, "strangers don't even see it");

    let status = over_socket(&path, "GET /api/v1/status", "").await;
    assert_eq!((status.status, &status.json()["source"]), (200, &json!("daemon")));
    assert!(status.head.contains("content-type: application/json"), "{}", status.head);
    let head = over_socket(&path, "HEAD /api/v1/teams?limit=1", "").await;
    assert_eq!((head.status, &*head.body), (200, ""));

    let asked = r#"{"matchers": {"rule": "low-*", "team": "research"}, "for_secs": 3600, "author": "ann", "comment": "known"}"#;
    let made = over_socket(&path, "POST /api/v1/silences", asked).await;
    assert_eq!((made.status, &made.json()["state"]), (201, &json!("active")));
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let listed = over_socket(&path, "GET /api/v1/silences", "").await.json();
    assert_eq!(listed["items"], json!([made.json()]));
    let ended = over_socket(&path, &format!("DELETE /api/v1/silences/{id}"), "").await;
    assert_eq!((ended.status, &*ended.body), (204, ""));
    assert_eq!(over_socket(&path, "GET /api/v1/silences", "").await.json()["total"], 0);

    for (request, body, status, says) in [
        ("DELETE /api/v1/silences/..%2F..", "", 404, "no silence that lasts"),
        ("DELETE /api/v1/silences", "", 405, "DELETE silences/{id}"),
        ("POST /api/v1/teams", "{}", 405, "POST silences"),
        ("PATCH /api/v1/silences", "{}", 405, "POST silences"),
        ("POST /api/v1/silences", "{}", 400, "missing field `matchers`"),
        ("POST /api/v1/silences", "{\"matchers\": {}, \"for_secs\": 60}", 400, "silence everything"),
        (
            "POST /api/v1/silences",
            "{\"matchers\": {\"rul\": \"x\"}, \"for_secs\": 60}",
            400,
            "no label of an alert",
        ),
        ("POST /api/v1/silences", "{\"matchers\": {\"rule\": \"x\"}}", 400, "either `ends` or `for_secs`"),
        ("POST /api/v1/silences", "{\"matchers\": {\"rule\": \"x\"}, \"for_secs\": 0}", 400, "later end"),
        (
            "POST /api/v1/silences",
            "{\"matchers\": {\"rule\": \"x\"}, \"for_secs\": 60, \"end\": 1}",
            400,
            "unknown field",
        ),
        (
            "POST /api/v1/silences",
            "{\"matchers\": {\"rule\": \"x\"}, \"ends\": \"tomorrow\"}",
            400,
            "RFC 3339",
        ),
        ("GET /metrics", "", 404, "there is no such path"),
        ("GET /api/v1/nothing", "", 404, "there is no such path"),
    ] {
        let answer = over_socket(&path, request, body).await;
        assert_eq!((answer.status, &answer.json()["status"]), (status, &json!(status)), "{request} {body}");
        assert!(answer.body.contains(says), "{request} {body}: {answer:?}");
        assert!(answer.head.contains("content-type: application/problem+json"), "{answer:?}");
        assert_eq!(answer.head.contains("\r\nallow:"), status == 405, "{answer:?}");
    }
    let deep = format!("{{\"matchers\": {}", "[".repeat(60_000));
    assert_eq!(over_socket(&path, "POST /api/v1/silences", &deep).await.status, 400, "nested, not overflown");
    // Refused by its announcement, so none of it is sent.
    let mut large = UnixStream::connect(&path).await.unwrap();
    let announced = "POST /api/v1/silences HTTP/1.1\r\nConnection: close\r\nContent-Length: 65537\r\n\r\n";
    large.write_all(announced.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    large.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");

    stop.cancel();
    task.await.unwrap().unwrap();
    assert!(!path.exists(), "its file goes with it");
}

#[tokio::test]
async fn over_tcp_the_same_is_read_nothing_is_changed_and_the_host_is_checked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (views, receiver) = watch::channel(Arc::new(fleet::small(START, Clock::system().now())));
    let (metrics, stop) = (Arc::new(SelfMetrics::new().unwrap()), CancellationToken::new());
    // Even where a socket beside it may change things.
    let options = ServeOptions {
        orders: Some(Arc::new(Loop(views))),
        records: Some(Arc::new(Books::default())),
        ..ServeOptions::default()
    };
    let task = tokio::spawn(serve(listener, options, receiver, metrics, Clock::system(), stop.clone()));
    let body = r#"{"matchers": {"rule": "x"}, "for_secs": 60}"#;
    for (request, host, status, says) in [
        ("GET /api/v1/status", "localhost", 200, "\"schema\":1"),
        ("GET /api/v1/deployments?current=true", "localhost", 200, "train-1"),
        ("GET /api/v1/costs", "localhost", 200, "\"amount\":\"50\""),
        ("GET /api/v1/nothing", "localhost", 404, "there is no such path"),
        ("GET /api/v1/status", "rebound.example", 421, "`hosts` of `[serve]`"),
        ("POST /api/v1/silences", "localhost", 403, "control socket"),
        ("DELETE /api/v1/silences/sil_1", "localhost", 403, "control socket"),
        ("POST /api/v1/silences", "rebound.example", 421, "`hosts` of `[serve]`"),
    ] {
        let stream = TcpStream::connect(address).await.unwrap();
        let answer = ask(stream, request, &format!("Host: {host}\r\n"), body).await;
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        assert!(answer.body.contains(says), "{request}: {answer:?}");
        assert!(
            answer.head.contains("cache-control: no-store") && answer.head.contains("nosniff"),
            "{answer:?}"
        );
    }
    let silences =
        ask(TcpStream::connect(address).await.unwrap(), "GET /api/v1/silences", "Host: localhost\r\n", "");
    assert_eq!(silences.await.json()["total"], 0, "nothing was changed");
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_socket_that_lives_is_not_taken_and_what_is_no_socket_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let first = Socket::bind(&path).unwrap();
    assert!(matches!(Socket::bind(&path), Err(SocketError::InUse { .. })));
    UnixStream::connect(&path).await.expect("the first still listens");
    drop(first);
    assert!(!path.exists());

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "as a killed process leaves it");
    let second = Socket::bind(&path).unwrap();
    UnixStream::connect(&path).await.expect("the second listens in its place");

    // Another took the name meanwhile: the end of this one leaves it alone.
    std::fs::remove_file(&path).unwrap();
    let third = Socket::bind(&path).unwrap();
    drop(second);
    UnixStream::connect(&path).await.expect("the third still listens");
    drop(third);

    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Socket::bind(&path), Err(SocketError::NoSocket { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_change_that_nobody_makes_is_not_said_to_be_made() {
    #[derive(Debug)]
    struct Gone;
    impl Orders for Gone {
        no_wishes!();

        fn silence(&self, _: Silence) -> Sending<'_> {
            Box::pin(std::future::ready(false))
        }
        fn end_silence(&self, _: Arc<str>) -> Sending<'_> {
            Box::pin(std::future::ready(false))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let mut view = fleet::small(START, Clock::system().now());
    let kept = silence("sil_1", "x", START, Clock::system().now().plus(HOUR));
    Arc::make_mut(&mut view.snapshot).silences.insert(kept.id.clone(), Arc::new(kept));
    let (_views, receiver) = watch::channel(Arc::new(view));
    let options = ServeOptions { orders: Some(Arc::new(Gone)), ..ServeOptions::default() };
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve_socket(
        Socket::bind(&path).unwrap(),
        options,
        receiver,
        Clock::system(),
        stop.clone(),
    ));
    let made =
        over_socket(&path, "POST /api/v1/silences", r#"{"matchers": {"rule": "x"}, "for_secs": 60}"#).await;
    let ended = over_socket(&path, "DELETE /api/v1/silences/sil_1", "").await;
    assert_eq!((made.status, ended.status), (503, 503), "{made:?} {ended:?}");
    stop.cancel();
    task.await.unwrap().unwrap();
}

/// Takes orders, and leaves them to the test.
#[derive(Debug)]
struct Later(tokio::sync::mpsc::UnboundedSender<Option<Silence>>);

impl Orders for Later {
    no_wishes!();

    fn silence(&self, silence: Silence) -> Sending<'_> {
        Box::pin(std::future::ready(self.0.send(Some(silence)).is_ok()))
    }

    fn end_silence(&self, _: Arc<str>) -> Sending<'_> {
        Box::pin(std::future::ready(self.0.send(None).is_ok()))
    }
}

#[tokio::test]
async fn a_change_is_answered_once_it_is_committed_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let empty = fleet::small(START, Clock::system().now());
    let (views, receiver) = watch::channel(Arc::new(empty.clone()));
    let (orders, mut ordered) = tokio::sync::mpsc::unbounded_channel();
    let options = ServeOptions { orders: Some(Arc::new(Later(orders))), ..ServeOptions::default() };
    let (socket, stop) = (Socket::bind(&path).unwrap(), CancellationToken::new());
    let task = tokio::spawn(serve_socket(socket, options, receiver, Clock::system(), stop.clone()));
    let request = |request: String, body: &'static str| {
        let path = path.clone();
        tokio::spawn(async move { over_socket(&path, &request, body).await })
    };
    let early = Duration::from_millis(100);

    let body = r#"{"matchers": {"rule": "x"}, "for_secs": 60}"#;
    let mut adding = request("POST /api/v1/silences".to_owned(), body);
    let silence = ordered.recv().await.unwrap().unwrap();
    assert!(tokio::time::timeout(early, &mut adding).await.is_err(), "said before it was committed");
    let mut full = empty.clone();
    Arc::make_mut(&mut full.snapshot).silences.insert(silence.id.clone(), Arc::new(silence.clone()));
    views.send_replace(Arc::new(full));
    assert_eq!(adding.await.unwrap().status, 201);

    let mut ending = request(format!("DELETE /api/v1/silences/{}", silence.id), "");
    assert_eq!(ordered.recv().await.unwrap(), None);
    assert!(tokio::time::timeout(early, &mut ending).await.is_err(), "said before it was committed");
    views.send_replace(Arc::new(empty));
    assert_eq!(ending.await.unwrap().status, 204);
    stop.cancel();
    task.await.unwrap().unwrap();
}

/// Says why, and counts how often it was asked; or has ended.
#[derive(Debug, Default)]
struct Core {
    asked: AtomicUsize,
    ended: bool,
}

impl Reasons for Core {
    fn policies(&self) -> PolicyAnswer<'_> {
        Box::pin(std::future::ready((!self.ended).then(Arc::default)))
    }

    fn held(&self) -> Answer<'_> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready((!self.ended).then(|| Arc::new(reasons()))))
    }
}

#[tokio::test]
async fn reasons_are_asked_for_only_where_they_are_shown_and_a_daemon_that_stops_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (_views, receiver) = watch::channel(Arc::new(view()));
    for (ended, status) in [(false, 200), (true, 503)] {
        let path = dir.path().join("control.sock");
        let core = Arc::new(Core { ended, ..Core::default() });
        let options = ServeOptions { reasons: Some(core.clone()), ..ServeOptions::default() };
        let (socket, stop) = (Socket::bind(&path).unwrap(), CancellationToken::new());
        let task =
            tokio::spawn(serve_socket(socket, options, receiver.clone(), Clock::system(), stop.clone()));
        for quiet in ["status", "teams", "deployments", "volumes", "silences"] {
            assert_eq!(over_socket(&path, &format!("GET /api/v1/{quiet}"), "").await.status, 200, "{quiet}");
        }
        assert_eq!(core.asked.load(Ordering::SeqCst), 0);
        for telling in ["alerts", "%61lerts?all=true", "why/train-1"] {
            let got = over_socket(&path, &format!("GET /api/v1/{telling}"), "").await;
            assert_eq!(got.status, status, "{telling}: {got:?}");
            assert_eq!(got.body.contains("the daemon is stopping"), ended, "{got:?}");
        }
        assert_eq!(core.asked.load(Ordering::SeqCst), 3);
        stop.cancel();
        task.await.unwrap().unwrap();
    }
}
