//! The outbox pumps with a real database and real webhooks, on a clock that runs fast: what receivers that fail, die, leave
//! or come late get of what was committed.
//!
//! It must never need a network beyond loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may panic, and measures real time"
)]

#[path = "notify/http.rs"]
#[allow(dead_code, reason = "the webhook tests use the rest")]
mod http;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Answer, Hook, hook, status};
use rusqlite::Connection;
use spheron_watch::{
    clock::Clock,
    drive::{LOG, outbox::Pumps},
    model::{
        ActionId, AlertKey, Delivery, DeploymentId, EventId, Grant, Links, NoMeter, Notice, Severity,
        StepRecord, Subject, Target, TeamId, Time, Transition,
    },
    notify::{Format, Receiver, ReceiverKind, ReceiverSpec},
    store::{Options, Store, StoreError},
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(30);

/// A team's alert that fires, reminds or resolves. Its id follows from the rest.
fn notice(team: &str, transition: Transition, at: Time, receivers: &[&str]) -> Notice {
    let key = AlertKey { rule: "low-balance".into(), subject: Subject::Team { id: TeamId::new(team) } };
    Notice {
        id: EventId::derive(&key, Time::from_secs(1), transition, 0),
        key,
        kind: "balance".into(),
        transition,
        severity: Severity::Critical,
        title: format!("low balance: {team} has $8.20 left"),
        reason: String::new(),
        advice: String::new(),
        details: Vec::new(),
        since: Time::from_secs(1),
        at,
        receivers: receivers.iter().map(|&name| name.into()).collect(),
        bars: Vec::new(),
        together: Default::default(),
        grant: None,
        link: None,
    }
}

/// A receiver that answers from a script, then delivers; and one that waits to be let go.
struct Scripted {
    name: Arc<str>,
    script: Mutex<Vec<Delivery>>,
    taken: Arc<Mutex<Vec<EventId>>>,
    gate: Option<Arc<Semaphore>>,
}

impl spheron_watch::drive::Deliver for Scripted {
    fn name(&self) -> &Arc<str> {
        &self.name
    }
    fn deliver<'a>(
        &'a self,
        notice: &'a Notice,
    ) -> std::pin::Pin<Box<dyn Future<Output = Delivery> + Send + 'a>> {
        self.taken.lock().unwrap().push(notice.id.clone());
        let scripted = self.script.lock().unwrap().pop();
        Box::pin(async move {
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            scripted.unwrap_or(Delivery::Delivered { detail: "taken".into() })
        })
    }
}

/// Makes the same link of every grant.
#[derive(Debug)]
struct Fixed;

const LINK: &str = "https://watch.example.org/keep/s3cret-t0ken";

impl Links for Fixed {
    fn keep(&self, grant: &Grant) -> Option<Arc<str>> {
        grant.action.as_str().starts_with("act_").then(|| LINK.into())
    }
}

/// Remembers which link each notice came with, and refuses once.
struct Linked {
    name: Arc<str>,
    links: Arc<Mutex<Vec<Option<Arc<str>>>>>,
}

impl spheron_watch::drive::Deliver for Linked {
    fn name(&self) -> &Arc<str> {
        &self.name
    }
    fn deliver<'a>(
        &'a self,
        notice: &'a Notice,
    ) -> std::pin::Pin<Box<dyn Future<Output = Delivery> + Send + 'a>> {
        let mut links = self.links.lock().unwrap();
        links.push(notice.link.clone());
        let first = links.len() == 1;
        Box::pin(std::future::ready(if first {
            Delivery::Retry { why: "busy".into(), after: None }
        } else {
            Delivery::Delivered { detail: "taken".into() }
        }))
    }
}

struct Rig {
    clock: Clock,
    store: Store,
    bell: Arc<Notify>,
    names: Vec<Arc<str>>,
    money_ends: watch::Sender<Option<Time>>,
    receivers: Vec<Arc<dyn spheron_watch::drive::Deliver>>,
    pumps: JoinSet<Result<(), StoreError>>,
    stop: CancellationToken,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Rig {
    /// At `speed`, with a database on disk that waits this long for a lock.
    fn new(speed: u32, busy_timeout: Duration) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watch.db");
        let (store, _) = Store::open_with(&path, &Options { busy_timeout, ..Options::default() }).unwrap();
        Self {
            clock: Clock::scaled(speed),
            store,
            bell: Arc::new(Notify::new()),
            names: Vec::new(),
            money_ends: watch::channel(None).0,
            receivers: Vec::new(),
            pumps: JoinSet::new(),
            stop: CancellationToken::new(),
            path,
            _dir: dir,
        }
    }

    fn webhook(&mut self, name: &str, hook: &Hook) {
        let kind =
            ReceiverKind::Webhook { url: hook.url.clone().into(), format: Format::Standard { secret: None } };
        let spec = ReceiverSpec { name: name.into(), kind };
        self.receiver(Arc::new(Receiver::build(spec, self.clock.clone()).unwrap()));
    }

    fn scripted(
        &mut self,
        name: &str,
        script: Vec<Delivery>,
        gate: Option<Arc<Semaphore>>,
    ) -> Arc<Mutex<Vec<EventId>>> {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let script = Mutex::new(script.into_iter().rev().collect());
        self.receiver(Arc::new(Scripted { name: name.into(), script, taken: taken.clone(), gate }));
        taken
    }

    fn receiver(&mut self, receiver: Arc<dyn spheron_watch::drive::Deliver>) {
        self.names.push(receiver.name().clone());
        self.receivers.push(receiver);
    }

    fn start(&mut self) {
        let pumps = Pumps {
            store: self.store.clone(),
            clock: self.clock.clone(),
            meter: Arc::new(NoMeter),
            bell: self.bell.clone(),
            heard: Arc::default(),
            names: Arc::new(self.names.clone()),
            links: Some(Arc::new(Fixed)),
            money_ends: self.money_ends.subscribe(),
        };
        for receiver in self.receivers.drain(..) {
            self.pumps.spawn(pumps.clone().run(receiver, self.stop.clone()));
        }
    }

    async fn commit(&self, notices: Vec<Notice>) {
        let record = StepRecord { at: self.clock.now(), notices, ..StepRecord::default() };
        self.store.commit(Arc::new(record)).await.unwrap();
        self.bell.notify_waiters();
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    /// Until nothing waits at anybody.
    async fn empty(&self) {
        self.until("the outbox to be empty", async || {
            self.store.outbox().await.unwrap().values().all(|depth| depth.waiting == 0)
        })
        .await;
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let wait = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("not within {SOON:?}: {what}"));
    }

    /// How each row ended, by receiver and title: 2 delivered, 3 dead; and its attempts.
    fn ends(&self) -> BTreeMap<(String, String), (i64, i64)> {
        let conn = Connection::open(&self.path).unwrap();
        let mut select = conn
            .prepare(
                "SELECT receiver, body ->> 'title', state, attempts FROM outbox JOIN notice ON pk = notice",
            )
            .unwrap();
        let rows =
            select.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?)))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    fn end(&self, receiver: &str, team: &str) -> Option<(i64, i64)> {
        self.ends().get(&(receiver.to_owned(), format!("low balance: {team} has $8.20 left"))).copied()
    }

    async fn finish(mut self) -> Vec<Result<(), StoreError>> {
        self.stop.cancel();
        let mut ends = Vec::new();
        while let Some(end) = tokio::time::timeout(SOON, self.pumps.join_next()).await.expect("pumps end") {
            ends.push(end.unwrap());
        }
        self.store.close().await;
        ends
    }
}

fn ids(hook: &Hook) -> Vec<String> {
    hook.requests().iter().map(|request| request.headers["webhook-id"].clone()).collect()
}

const DELIVERED: i64 = 2;
const DEAD: i64 = 3;
const PATIENT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_answers_500_five_times_gets_its_alert_once_it_recovers_and_the_others_theirs_once() {
    let broken: Vec<Answer> = (0..5).map(|_| status(500, "", "")).chain([status(200, "", "")]).collect();
    let (recovering, healthy) = (hook("/a", broken).await, hook("/b", vec![status(204, "", "")]).await);
    let mut rig = Rig::new(3_600, PATIENT);
    rig.webhook("recovering", &recovering);
    rig.webhook("healthy", &healthy);
    rig.start();
    let begin = rig.now();
    rig.commit(vec![notice("t", Transition::Firing, begin, &["recovering", "healthy"])]).await;
    rig.until("the healthy one", async || healthy.requests().len() == 1).await;
    rig.empty().await;
    let took = rig.now().since(begin);

    let sent = ids(&recovering);
    assert_eq!(sent.len(), 6);
    assert!(sent.iter().all(|id| *id == sent[0]), "{sent:?}");
    let bodies: Vec<String> = recovering.requests().into_iter().map(|request| request.body).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(ids(&healthy), [sent[0].clone()], "exactly once, under the same id");
    assert_eq!(rig.end("recovering", "t"), Some((DELIVERED, 6)));
    assert_eq!(rig.end("healthy", "t"), Some((DELIVERED, 1)));
    // 5 s, 30 s, 2 m, 10 m and 30 m, with jitter: not in a burst.
    assert!(took >= Duration::from_secs(20 * 60), "{took:?}");
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_60_a_dead_letter_goes_to_another_receiver_and_never_back_to_who_has_it() {
    let refusing = hook("/a", vec![status(404, "", "")]).await;
    let (living, third) =
        (hook("/b", vec![status(200, "", "")]).await, hook("/c", vec![status(200, "", "")]).await);
    let mut rig = Rig::new(3_600, PATIENT);
    rig.webhook("refusing", &refusing);
    rig.webhook("living", &living);
    rig.webhook("third", &third);
    rig.start();
    let now = rig.now();
    rig.commit(vec![
        notice("alone", Transition::Firing, now, &["refusing"]),
        notice("both", Transition::Firing, now, &["refusing", "living"]),
    ])
    .await;
    rig.until("both letters to die", async || refusing.requests().len() == 2).await;
    rig.empty().await;
    assert_eq!(rig.end("refusing", "alone"), Some((DEAD, 1)));
    assert_eq!(rig.end("living", "alone"), Some((DELIVERED, 1)), "the first other one is told instead");
    let told = ids(&living);
    assert_eq!(told.len(), 2, "what it had already is not sent again: {told:?}");
    assert!(third.requests().is_empty(), "one heir is enough");
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_58_a_receiver_that_answers_410_is_sent_nothing_more_and_another_is_told() {
    let gone = hook("/a", vec![status(410, "", "")]).await;
    let living = hook("/b", vec![status(200, "", "")]).await;
    let mut rig = Rig::new(3_600, PATIENT);
    rig.webhook("gone", &gone);
    rig.webhook("living", &living);
    rig.start();
    for team in ["a", "b", "c"] {
        rig.commit(vec![notice(team, Transition::Firing, rig.now(), &["gone"])]).await;
        rig.until(team, async || rig.end("living", team) == Some((DELIVERED, 1))).await;
    }
    assert_eq!(gone.requests().len(), 1, "disabled");
    assert_eq!(living.requests().len(), 3, "all three were told to another");
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_every_receiver_is_dead_the_log_has_it() {
    let (a, b) = (hook("/a", vec![status(400, "", "")]).await, hook("/b", vec![status(403, "", "")]).await);
    let mut rig = Rig::new(3_600, PATIENT);
    rig.webhook("a", &a);
    rig.webhook("b", &b);
    let logged = rig.scripted(LOG, Vec::new(), None);
    rig.start();
    rig.commit(vec![notice("t", Transition::Firing, rig.now(), &["a"])]).await;
    rig.until("the log", async || rig.end(LOG, "t") == Some((DELIVERED, 1))).await;
    assert_eq!((rig.end("a", "t"), rig.end("b", "t")), (Some((DEAD, 1)), Some((DEAD, 1))));
    assert_eq!((a.requests().len(), b.requests().len()), (1, 1), "it does not go round in circles");
    assert_eq!(logged.lock().unwrap().len(), 1);
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_dead_receivers_do_not_pass_a_letter_between_them_while_a_third_lives() {
    let (a, b) = (hook("/a", vec![status(400, "", "")]).await, hook("/b", vec![status(403, "", "")]).await);
    let living = hook("/c", vec![status(200, "", "")]).await;
    let mut rig = Rig::new(3_600, PATIENT);
    rig.webhook("a", &a);
    rig.webhook("b", &b);
    rig.webhook("living", &living);
    let logged = rig.scripted(LOG, Vec::new(), None);
    rig.start();
    // That the log has it tells no person.
    rig.commit(vec![notice("t", Transition::Firing, rig.now(), &["b", LOG])]).await;
    rig.until("the third", async || rig.end("living", "t") == Some((DELIVERED, 1))).await;
    rig.empty().await;
    assert_eq!((a.requests().len(), b.requests().len(), living.requests().len()), (1, 1, 1));
    assert_eq!(logged.lock().unwrap().len(), 1);
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_63_resolved_waits_for_firing_and_other_subjects_do_not_wait() {
    let slow =
        hook("/a", vec![status(500, "", ""), status(200, "", ""), status(200, "", ""), status(200, "", "")])
            .await;
    let mut rig = Rig::new(600, PATIENT);
    rig.webhook("slow", &slow);
    rig.start();
    let now = rig.now();
    rig.commit(vec![notice("t", Transition::Firing, now, &["slow"])]).await;
    rig.until("the first attempt", async || !slow.requests().is_empty()).await;
    rig.commit(vec![
        notice("t", Transition::Resolved, now, &["slow"]),
        notice("other", Transition::Firing, now, &["slow"]),
    ])
    .await;
    rig.empty().await;
    let sent: Vec<(String, String)> = slow
        .requests()
        .iter()
        .map(|request| {
            let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
            let text = |pointer: &str| body.pointer(pointer).unwrap().as_str().unwrap().to_owned();
            (text("/data/subject/id"), text("/type"))
        })
        .collect();
    let of = |team: &str| -> Vec<&str> {
        sent.iter().filter(|(id, _)| id == team).map(|(_, what)| what.as_str()).collect()
    };
    assert_eq!(of("t"), ["alert.firing", "alert.firing", "alert.resolved"]);
    assert_eq!(of("other"), ["alert.firing"]);
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_the_send_under_way_finish_and_begins_no_other() {
    let gate = Arc::new(Semaphore::new(0));
    let mut rig = Rig::new(1, PATIENT);
    let taken = rig.scripted("slow", Vec::new(), Some(gate.clone()));
    rig.start();
    let now = rig.now();
    rig.commit(vec![
        notice("first", Transition::Firing, now, &["slow"]),
        notice("second", Transition::Firing, now, &["slow"]),
    ])
    .await;
    rig.until("the first send", async || taken.lock().unwrap().len() == 1).await;
    rig.stop.cancel();
    tokio::task::yield_now().await;
    assert_eq!(rig.pumps.len(), 1);
    assert!(rig.pumps.try_join_next().is_none(), "it waits for the send");
    gate.add_permits(9);
    let (path, store) = (rig.path.clone(), rig.store.clone());
    while let Some(end) = rig.pumps.join_next().await {
        assert_eq!(end.unwrap(), Ok(()));
    }
    assert_eq!(rig.end("slow", "first"), Some((DELIVERED, 1)), "its receipt is entered");
    assert_eq!(rig.end("slow", "second"), Some((0, 0)), "it waits, unclaimed");
    assert_eq!(taken.lock().unwrap().len(), 1);
    store.close().await;
    let (store, _) = Store::open(&path).unwrap();
    let row = store.claim("slow".into(), now.plus(SOON)).await.unwrap();
    assert_eq!(row.unwrap().notice.key.subject, Subject::Team { id: TeamId::new("second") });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_long_queue_one_notice_at_a_time_leaves_the_database_in_the_order_of_its_coming() {
    let gate = Arc::new(Semaphore::new(0));
    let mut rig = Rig::new(1, PATIENT);
    let taken = rig.scripted("slow", Vec::new(), Some(gate.clone()));
    let now = rig.now();
    let queue: Vec<Notice> =
        (0..500).map(|nth| notice(&format!("t{nth}"), Transition::Firing, now, &["slow"])).collect();
    let order: Vec<EventId> = queue.iter().map(|notice| notice.id.clone()).collect();
    rig.commit(queue).await;
    rig.start();
    let conn = Connection::open(&rig.path).unwrap();
    let left = "SELECT count(*) FILTER (WHERE state = 1), count(*) FILTER (WHERE state = 2) FROM outbox";
    for sent in 1..=20 {
        rig.until("the next send", async || taken.lock().unwrap().len() == sent).await;
        let left: (i64, i64) = conn.query_row(left, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(left, (1, i64::try_from(sent).unwrap() - 1), "in memory, and behind it");
        gate.add_permits(1);
    }
    gate.add_permits(order.len());
    rig.empty().await;
    assert_eq!(*taken.lock().unwrap(), order);
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_40_a_database_that_is_busy_at_the_claim_or_the_receipt_loses_nothing_and_repeats_nothing() {
    let gate = Arc::new(Semaphore::new(0));
    let mut rig = Rig::new(100, Duration::from_millis(10));
    let taken = rig.scripted("mail", Vec::new(), Some(gate.clone()));
    let now = rig.now();
    rig.commit(vec![
        notice("first", Transition::Firing, now, &["mail"]),
        notice("second", Transition::Firing, now, &["mail"]),
    ])
    .await;
    let other = Connection::open(&rig.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    rig.start();
    // Several claims fail meanwhile: each is tried again after 5 s, which are 50 ms here.
    tokio::time::timeout(Duration::from_millis(300), rig.pumps.join_next()).await.expect_err("it goes on");
    assert!(taken.lock().unwrap().is_empty());
    other.execute_batch("ROLLBACK").unwrap();
    rig.until("the first send", async || taken.lock().unwrap().len() == 1).await;
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    gate.add_permits(1);
    tokio::time::timeout(Duration::from_millis(300), rig.pumps.join_next()).await.expect_err("it goes on");
    assert_eq!(taken.lock().unwrap().len(), 1, "nothing is sent before the receipt of the first is entered");
    other.execute_batch("ROLLBACK").unwrap();
    gate.add_permits(9);
    rig.empty().await;
    let taken = taken.lock().unwrap().clone();
    assert_eq!(taken.len(), 2, "each once: {taken:?}");
    assert_eq!(rig.end("mail", "first"), Some((DELIVERED, 1)));
    assert_eq!(rig.end("mail", "second"), Some((DELIVERED, 1)));
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

/// Counts events on this thread.
struct Counted(Arc<Mutex<usize>>);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        *self.0.lock().unwrap() += bytes.iter().filter(|byte| **byte == b'\n').count();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn fault_33_an_outbox_that_cannot_be_written_is_tried_every_five_seconds_and_not_in_a_spin() {
    let lines = Arc::new(Mutex::new(0));
    let count = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || Counted(count.clone())).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut rig = Rig::new(10, Duration::ZERO);
    let taken = rig.scripted("mail", Vec::new(), None);
    rig.commit(vec![notice("t", Transition::Firing, rig.now(), &["mail"])]).await;
    let other = Connection::open(&rig.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    rig.start();
    // 5 s are half a second here.
    tokio::time::timeout(Duration::from_millis(1_200), rig.pumps.join_next()).await.expect_err("it goes on");
    let tries = *lines.lock().unwrap();
    assert!((2..=4).contains(&tries), "{tries} tries in 12 s");
    other.execute_batch("ROLLBACK").unwrap();
    rig.empty().await;
    assert_eq!(taken.lock().unwrap().len(), 1);
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

fn not_taken() -> Delivery {
    Delivery::Retry { why: "no answer".into(), after: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_64_when_the_money_ends_before_the_next_attempt_everybody_is_told_and_it_is_tried_on() {
    let mut rig = Rig::new(3_600, PATIENT);
    let failing = rig.scripted("failing", (0..7).map(|_| not_taken()).collect(), None);
    rig.scripted(LOG, Vec::new(), None);
    rig.scripted("small", (0..7).map(|_| not_taken()).collect(), None);
    let (second, third) = (rig.scripted("second", Vec::new(), None), rig.scripted("third", Vec::new(), None));
    rig.start();
    let begin = rig.now();
    rig.money_ends.send_replace(Some(begin.plus(Duration::from_secs(2 * 3_600))));
    let info = Notice { severity: Severity::Info, ..notice("small", Transition::Firing, begin, &["small"]) };
    rig.commit(vec![notice("t", Transition::Firing, begin, &["failing"]), info]).await;
    rig.empty().await;
    let took = rig.now().since(begin);
    let urgent = vec![failing.lock().unwrap()[0].clone()];
    assert_eq!(*second.lock().unwrap(), urgent, "and nothing of mere information");
    assert_eq!(*third.lock().unwrap(), urgent);
    // By the table the sixth attempt would have been followed by one after the end of the money.
    assert_eq!(rig.end("failing", "t"), Some((DELIVERED, 8)));
    assert!(took < Duration::from_secs(2 * 3_600), "{took:?}");
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_64_what_comes_while_a_receiver_wants_to_be_left_alone_for_hours_is_told_to_others() {
    let mut rig = Rig::new(60, PATIENT);
    let later = Delivery::Retry { why: "429".into(), after: Some(Duration::from_secs(36_000)) };
    let slow = rig.scripted("slow", vec![later], None);
    let other = rig.scripted("other", Vec::new(), None);
    rig.start();
    let begin = rig.now();
    let of = |team: &str, severity| Notice { severity, ..notice(team, Transition::Firing, begin, &["slow"]) };
    rig.commit(vec![of("first", Severity::Warning)]).await;
    rig.until("the first attempt", async || slow.lock().unwrap().len() == 1).await;
    rig.commit(vec![
        of("mere", Severity::Info),
        of("minor", Severity::Warning),
        of("major", Severity::Critical),
    ])
    .await;
    rig.until("another hears of it", async || !other.lock().unwrap().is_empty()).await;
    assert_eq!(
        *other.lock().unwrap(),
        [of("major", Severity::Critical).id],
        "what is critical, and that alone"
    );
    rig.money_ends.send_replace(Some(rig.now().plus(Duration::from_secs(2 * 3_600))));
    rig.commit(vec![of("last", Severity::Warning)]).await;
    rig.until("all that matters", async || other.lock().unwrap().len() == 4).await;
    let heard: BTreeSet<EventId> = other.lock().unwrap().iter().cloned().collect();
    let expected = ["major", "first", "minor", "last"].map(|team| of(team, Severity::Warning).id);
    assert_eq!(heard, BTreeSet::from(expected), "each once, and nothing of mere information");
    assert_eq!(slow.lock().unwrap().len(), 1, "it is left alone as it asked");
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_takes_nothing_is_tried_with_one_notice_at_a_time_and_gets_all_once_it_lives() {
    const ROWS: usize = 40;
    const NOT_TAKEN: usize = 12;
    let mut rig = Rig::new(600, PATIENT);
    let dead = rig.scripted("dead", (0..NOT_TAKEN).map(|_| not_taken()).collect(), None);
    let healthy = rig.scripted("healthy", Vec::new(), None);
    rig.scripted(LOG, Vec::new(), None);
    let begin = rig.now();
    let teams: Vec<String> = (0..ROWS).map(|n| format!("t{n}")).collect();
    let all = teams.iter().map(|team| notice(team, Transition::Firing, begin, &["dead", "healthy"]));
    rig.commit(all.collect()).await;
    rig.start();
    rig.until("all at the healthy one", async || healthy.lock().unwrap().len() >= ROWS).await;
    let tried = dead.lock().unwrap().len();
    assert!(tried < ROWS, "nobody else waits: {tried} attempts");
    rig.until("the attempts in vain", async || dead.lock().unwrap().len() >= NOT_TAKEN).await;
    let took = rig.now().since(begin);
    // On a busy machine the first notice may be due again before the third is tried, and that does not count. Still the pauses
    // between the last five attempts are 30 s, 1 m, 2 m and 4 m at least; each notice alone would have been tried at once.
    assert!(took >= Duration::from_secs(450), "{took:?}");
    rig.empty().await;
    assert!(rig.ends().values().all(|(state, _)| *state == DELIVERED));
    let attempts = dead.lock().unwrap().len();
    assert_eq!(attempts, ROWS + NOT_TAKEN);
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_60_a_refused_login_pauses_the_channel_and_its_rows_are_kept() {
    let mut rig = Rig::new(600, PATIENT);
    let refused = Delivery::Retry { why: "refused the login".into(), after: Some(Duration::from_secs(300)) };
    let mailer = rig.scripted("mailer", vec![refused], None);
    let other = rig.scripted("other", Vec::new(), None);
    rig.start();
    let begin = rig.now();
    rig.commit(vec![notice("a", Transition::Firing, begin, &["mailer", "other"])]).await;
    rig.until("the login", async || !mailer.lock().unwrap().is_empty()).await;
    rig.commit(vec![notice("b", Transition::Firing, begin, &["mailer", "other"])]).await;
    rig.until("the other to have both", async || other.lock().unwrap().len() == 2).await;
    let (tried, now) = (mailer.lock().unwrap().len(), rig.now());
    assert!(tried == 1 || now.since(begin) >= Duration::from_secs(300), "no bell ends the pause");
    rig.empty().await;
    assert!(rig.now().since(begin) >= Duration::from_secs(300));
    assert_eq!(
        (rig.end("mailer", "a"), rig.end("mailer", "b")),
        (Some((DELIVERED, 2)), Some((DELIVERED, 1)))
    );
    assert_eq!(other.lock().unwrap().len(), 2, "nothing was handed on");
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_in_vain_for_a_day_goes_to_others_though_it_was_hardly_tried() {
    const ROWS: usize = 60;
    let mut rig = Rig::new(36_000, PATIENT);
    let dead = rig.scripted("dead", (0..9_999).map(|_| not_taken()).collect(), None);
    let healthy = rig.scripted("healthy", Vec::new(), None);
    let begin = rig.now();
    let teams: Vec<String> = (0..ROWS).map(|n| format!("t{n}")).collect();
    // What is critical would have been told to others long before.
    let of = |team: &String| Notice {
        severity: Severity::Warning,
        ..notice(team, Transition::Firing, begin, &["dead"])
    };
    rig.commit(teams.iter().map(of).collect()).await;
    rig.start();
    rig.empty().await;
    let took = rig.now().since(begin);
    assert_eq!(healthy.lock().unwrap().len(), ROWS);
    assert!(took < Duration::from_secs(30 * 3_600), "{took:?}");
    assert!(dead.lock().unwrap().len() < 9 * ROWS, "{} attempts", dead.lock().unwrap().len());
    assert!(rig.finish().await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_granted_link_is_made_for_each_send_and_is_neither_stored_nor_given_to_the_log() {
    let mut rig = Rig::new(60, Duration::from_secs(5));
    let mut taken = BTreeMap::new();
    for name in ["chat", "log"] {
        let links = Arc::new(Mutex::new(Vec::new()));
        rig.receiver(Arc::new(Linked { name: name.into(), links: links.clone() }));
        taken.insert(name, links);
    }
    rig.start();
    let target = Target { id: DeploymentId::new("68d0"), created_at: Time::EPOCH };
    let grant = |action: &str| {
        let (action, expires) = (ActionId::from_text(action), rig.now());
        Some(Grant { action, target: target.clone(), expires })
    };
    let plain = notice("research", Transition::Firing, rig.now(), &["chat", "log"]);
    let granted =
        Notice { grant: grant("act_1"), ..notice("class", Transition::Firing, rig.now(), &["chat", "log"]) };
    rig.commit(vec![granted]).await;
    rig.empty().await;
    rig.commit(vec![plain]).await;
    rig.empty().await;
    let links = |name: &str| taken[name].lock().unwrap().clone();
    assert_eq!(links("chat"), [Some(LINK.into()), Some(LINK.into()), None], "the same when it is sent again");
    assert_eq!(links("log"), [None, None, None]);
    let folder = rig.path.parent().unwrap().to_owned();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(b"s3cret-t0ken".len()).any(|window| window == b"s3cret-t0ken");
        assert!(!found, "the link is in {}", path.display());
    }
    rig.finish().await;
}
