//! `deliveries`, read from a real database beside its writer.
//!
//! It must never read what another test left: each has a database of its own.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use serde_json::{Value, json};
use spheron_watch::{
    app::Archive,
    clock::Clock,
    model::{
        AlertKey, Cost, CostBy, DeliveriesAsk, Dispatch, EventId, Notice, Receipt, Severity, StepRecord,
        Subject, Time, Transition,
    },
    serve::{
        SelfMetrics, ServeOptions, Socket,
        api::{Problem, Records},
        serve, serve_socket,
    },
    store::Db,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::{Got, START, ask, fleet, no_actions, over_socket, view};

fn notice(nth: u32, receivers: &[&str]) -> Notice {
    let key = AlertKey { rule: format!("rule-{nth}").into(), subject: Subject::Team { id: fleet::team(1) } };
    Notice {
        id: EventId::derive(&key, START, Transition::Firing, 0),
        key,
        kind: "balance".into(),
        transition: Transition::Firing,
        severity: Severity::Critical,
        title: format!("low balance: \u{1b}[31m<b>team</b> {nth}"),
        reason: "x".repeat(10_000),
        advice: String::new(),
        details: Vec::new(),
        bars: Vec::new(),
        since: START,
        at: START,
        receivers: receivers.iter().map(|&name| name.into()).collect(),
        together: Default::default(),
        grant: None,
        link: None,
    }
}

struct Served {
    db: Db,
    dir: tempfile::TempDir,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), spheron_watch::serve::ServeError>>,
}

impl Served {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (db, _) = Db::open(&dir.path().join("watch.db")).unwrap();
        let archive = Archive::new(dir.path().join("watch.db"), Clock::system());
        let options = ServeOptions { records: Some(Arc::new(archive)), ..ServeOptions::default() };
        let (socket, stop) =
            (Socket::bind(&dir.path().join("control.sock")).unwrap(), CancellationToken::new());
        let (views, stopped) = (watch::channel(Arc::new(view())).1, stop.clone());
        let task = tokio::spawn(serve_socket(socket, options, views, Clock::system(), stopped));
        Self { db, dir, stop, task }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    fn commit(&mut self, notices: Vec<Notice>) {
        self.db.commit(&StepRecord { at: START, notices, ..StepRecord::default() }).unwrap();
    }

    fn attempt(&mut self, receiver: &str, receipt: Receipt) {
        let row = self.db.claim(receiver, START).unwrap().unwrap();
        self.db.settle(row.seq, &receipt, START.plus(Duration::from_secs(2))).unwrap();
    }

    async fn get(&self, query: &str) -> Got {
        over_socket(&self.socket(), &format!("GET /api/v1/deliveries{query}"), "").await
    }

    async fn items(&self, query: &str) -> Vec<Value> {
        self.get(query).await.json()["items"].as_array().unwrap().clone()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn each_delivery_says_what_went_to_whom_and_what_became_of_it_the_newest_first() {
    let mut served = Served::new();
    assert_eq!(served.get("").await.json()["items"], json!([]), "before anything was told");
    served.commit(vec![notice(1, &["chat", "mail"]), notice(2, &["chat"]), notice(3, &["chat"])]);
    served.attempt("chat", Receipt::Dead { why: "the webhook answered 404 Not Found".into() });
    served.attempt("chat", Receipt::Retry { why: "the webhook answered 503".into(), next: START });
    let next = START.plus(Duration::from_secs(7));
    served.attempt("chat", Receipt::Retry { why: "the webhook answered 500".into(), next });
    served.attempt("mail", Receipt::Delivered { detail: "250 queued".into() });
    served.db.claim("chat", START).unwrap().unwrap();

    let got = served.get("").await;
    assert_eq!(got.status, 200);
    let mut list = got.json();
    assert!(!got.body.contains("xxx"), "no bodies");
    list["at"] = json!("[now]");
    insta::assert_snapshot!(serde_json::to_string_pretty(&list).unwrap());
    served.end().await;
}

#[tokio::test]
async fn deliveries_are_filtered_and_their_pages_add_up_while_new_ones_come() {
    let mut served = Served::new();
    served.commit((0..25).map(|nth| notice(nth, &["chat", "mail"])).collect());
    for _ in 0..3 {
        served.attempt("mail", Receipt::Delivered { detail: String::new() });
    }
    for (query, count) in [
        ("", 50),
        ("?receiver=chat", 25),
        ("?receiver=nobody", 0),
        ("?receiver=%27%20OR%201%3D1", 0),
        ("?state=delivered", 3),
        ("?state=waiting&receiver=mail", 22),
        ("?state=dead", 0),
        ("?state=sending", 0),
        ("?before=1", 0),
        ("?before=18446744073709551615&limit=7", 7),
    ] {
        assert_eq!(served.items(query).await.len(), count, "{query}");
    }

    let (mut before, mut numbers) = (String::new(), Vec::new());
    loop {
        let page = served.get(&format!("?limit=8&receiver=chat{before}")).await.json();
        let items = page["items"].as_array().unwrap();
        numbers.extend(items.iter().map(|item| item["number"].as_i64().unwrap()));
        match page["next_before"].as_i64() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
        let nth = 100 + u32::try_from(numbers.len()).unwrap();
        served.commit(vec![notice(nth, &["chat"])]);
    }
    assert_eq!(numbers.len(), 25, "what came meanwhile is on none of the later pages");
    assert!(numbers.is_sorted_by(|one, next| one > next), "{numbers:?}");
    assert_eq!(served.get("?limit=28&receiver=chat").await.json()["next_before"], Value::Null, "exactly all");

    for (query, says) in [
        ("?offset=3", "it knows: receiver, state, limit, before"),
        ("?state=open", "`state` is `waiting`"),
        ("?limit=1001", "`limit` is a number from 1 to 1000"),
        ("?before=0", "`before` is a number"),
        ("?before=-1", "`before` is a number"),
    ] {
        let refused = served.get(query).await;
        assert!(refused.status == 400 && refused.body.contains(says), "{query}: {refused:?}");
    }
    served.end().await;
}

#[derive(Debug)]
struct Broken;

impl Records for Broken {
    no_actions!();

    fn costs(&self, _: Time, _: Time, _: CostBy) -> Result<Vec<Cost>, Problem> {
        Err(Problem::new(503, "the database cannot be read now"))
    }

    fn deliveries(&self, _: &DeliveriesAsk) -> Result<Vec<Dispatch>, Problem> {
        Err(Problem::new(503, "the database cannot be read now"))
    }
}

#[tokio::test]
async fn over_tcp_deliveries_are_read_too_and_a_database_that_cannot_be_read_is_no_empty_list() {
    let served = Served::new();
    let archive = Archive::new(served.dir.path().join("watch.db"), Clock::system());
    let missing = Archive::new(served.dir.path().join("nowhere.db"), Clock::system());
    let some = |records: Arc<dyn Records>| Some(records);
    for (records, status, says) in [
        (some(Arc::new(archive)), 200, "\"items\":[]"),
        (some(Arc::new(missing)), 503, "cannot be read now"),
        (some(Arc::new(Broken)), 503, "cannot be read now"),
        (None, 503, "no database to read"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, stop) = (Arc::new(SelfMetrics::new().unwrap()), CancellationToken::new());
        let options = ServeOptions { records, ..ServeOptions::default() };
        let views = watch::channel(Arc::new(view())).1;
        let task = tokio::spawn(serve(listener, options, views, metrics, Clock::system(), stop.clone()));
        let stream = TcpStream::connect(address).await.unwrap();
        let got = ask(stream, "GET /api/v1/%64eliveries", "Host: localhost\r\n", "").await;
        assert!(got.status == status && got.body.contains(says), "{got:?}");
        assert!(!got.body.contains("nowhere.db"), "no path: {got:?}");
        stop.cancel();
        task.await.unwrap().unwrap();
    }
    served.end().await;
}

/// Takes as long as the test wants, and counts who is inside.
#[derive(Debug)]
struct Slow {
    gate: Mutex<mpsc::Receiver<()>>,
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Records for Slow {
    no_actions!();

    fn costs(&self, _: Time, _: Time, _: CostBy) -> Result<Vec<Cost>, Problem> {
        Err(Problem::new(503, "the database cannot be read now"))
    }

    fn deliveries(&self, _: &DeliveriesAsk) -> Result<Vec<Dispatch>, Problem> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        self.gate.lock().unwrap().recv().unwrap();
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn a_slow_query_holds_up_nobody_else_and_who_hangs_up_piles_up_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let (open, gate) = mpsc::channel();
    let slow = Arc::new(Slow { gate: Mutex::new(gate), inside: 0.into(), most: 0.into() });
    let options = ServeOptions { records: Some(slow.clone()), ..ServeOptions::default() };
    let (socket, stop) = (Socket::bind(&path).unwrap(), CancellationToken::new());
    let views = watch::channel(Arc::new(view())).1;
    let task = tokio::spawn(serve_socket(socket, options, views, Clock::system(), stop.clone()));
    // They ask and leave, while the first query goes on.
    for _ in 0..20 {
        let asked =
            tokio::time::timeout(Duration::from_millis(20), over_socket(&path, "GET /api/v1/deliveries", ""));
        assert!(asked.await.is_err());
    }
    assert_eq!(over_socket(&path, "GET /api/v1/status", "").await.status, 200);
    (0..50).for_each(|_| open.send(()).unwrap());
    assert_eq!(over_socket(&path, "GET /api/v1/deliveries", "").await.status, 200);
    assert_eq!(slow.most.load(Ordering::SeqCst), 1, "one at a time");
    stop.cancel();
    task.await.unwrap().unwrap();
}
