//! What one step costs (PRODUCT §12): decode, diff, rules and commit without the fsync, beside serde_json's plain typed decode of
//! the same bytes. At most three times as much. And the same with three policies over the fleet.

use std::{
    collections::BTreeMap,
    future::Future,
    path::Path,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use spheron_watch::{
    config::{self, Env},
    drive::core::Core,
    engine::{Engine, Money},
    model::{Facts, Feed, Glob, NoMeter, Observation, Policies, Scope, Snapshot, Time},
    sim::{Ask, KEY, World},
    spheron::{Client, Request, Response, SendError, Transport},
    store::Db,
};

const START: Time = Time::from_secs(1_790_000_000);
const SIZES: [usize; 2] = [1_000, 10_000];

fn main() {
    divan::main();
}

/// What anybody would write for the fields that the watcher reads.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "decoded, not read")]
struct Plain {
    id: String,
    created_at: String,
    name: String,
    team_id: String,
    gpu_type: String,
    gpu_count: u32,
    provider_id: String,
    region: String,
    instance_type: String,
    status: String,
    hourly_rate: f64,
    total_cost: f64,
    started_at: Option<String>,
    stopped_at: Option<String>,
}

#[divan::bench(args = SIZES)]
fn plain_decode(bencher: Bencher<'_, '_>, deployments: usize) {
    let body = bodies(deployments).0;
    bencher.bench(|| serde_json::from_slice::<Vec<Plain>>(black_box(&body)).map(|list| list.len()));
}

#[divan::bench(args = SIZES)]
fn our_decode(bencher: Bencher<'_, '_>, deployments: usize) {
    let mut rig = Rig::new(deployments);
    let body = rig.before.clone();
    bencher.bench_local(|| rig.poll(&body));
}

#[divan::bench(args = SIZES)]
fn step_with_nothing_changed(bencher: Bencher<'_, '_>, deployments: usize) {
    let mut rig = Rig::new(deployments);
    let body = rig.before.clone();
    bencher.bench_local(|| rig.step(&body));
}

#[divan::bench(args = SIZES)]
fn step_with_one_percent_changed(bencher: Bencher<'_, '_>, deployments: usize) {
    let mut rig = Rig::new(deployments);
    let bodies = [rig.after.clone(), rig.before.clone()];
    let mut turns = bodies.iter().cycle();
    bencher.bench_local(|| {
        let changes = turns.next().map(|body| rig.step(body));
        assert_eq!(changes, Some(deployments / 100));
    });
}

/// Policies that match the whole fleet and end nothing of it: every gate is looked at.
const POLICIES: &str = r#"
[[policy]]
name = "idle"
match = { name = ["*"] }
when = { idle_for = "2h" }
grace = "30m"
[[policy]]
name = "long"
match = { team = ["*"], instance_type = ["DEDICATED", "SPOT"] }
when = { running_for = "300d" }
grace = "30m"
[[policy]]
name = "dear"
match = { name = ["dev-*", "train-*", "*"] }
when = { spend_above = 1000000.0, outside = "Mon-Fri 08:00-20:00" }
grace = "30m"
"#;

#[divan::bench(args = SIZES)]
fn step_with_policies_and_nothing_changed(bencher: Bencher<'_, '_>, deployments: usize) {
    let mut rig = Rig::with(deployments, POLICIES);
    let body = rig.before.clone();
    bencher.bench_local(|| rig.step(&body));
}

#[divan::bench(args = SIZES)]
fn step_with_policies_and_one_percent_changed(bencher: Bencher<'_, '_>, deployments: usize) {
    let mut rig = Rig::with(deployments, POLICIES);
    let bodies = [rig.after.clone(), rig.before.clone()];
    let mut turns = bodies.iter().cycle();
    bencher.bench_local(|| {
        let changes = turns.next().map(|body| rig.step(body));
        assert_eq!(changes, Some(deployments / 100));
    });
}

/// A watcher that knows a fleet already.
struct Rig {
    client: Client<Canned>,
    canned: Arc<Mutex<(Time, Bytes)>>,
    core: Core,
    db: Option<Db>,
    now: Time,
    before: Bytes,
    after: Bytes,
}

impl Rig {
    fn new(deployments: usize) -> Self {
        Self::with(deployments, "")
    }

    fn with(deployments: usize, configuration: &str) -> Self {
        let env = Env { home: Some("/nowhere".into()), ..Env::default() };
        let settings = config::parse(Path::new("none"), configuration, &env);
        let (rules, policies) = settings
            .map(|s| (s.rules, Policies { policies: s.policies, safety: s.safety, ..Policies::default() }))
            .unwrap_or_default();
        assert_eq!(policies.policies.is_empty(), configuration.is_empty(), "they are read");
        let (before, after) = bodies(deployments);
        let snapshot = Snapshot { unscoped_covers: true, ..Snapshot::default() };
        let money = Money::new(jiff::tz::TimeZone::UTC, Default::default());
        let engine = Engine::new(rules, vec![Glob::new("*")], money, BTreeMap::new())
            .with_policies(policies, Vec::new());
        let canned = Arc::new(Mutex::new((START, before.clone())));
        let mut rig = Self {
            client: Client::seeded(Canned(canned.clone()), Some(10_000), Arc::new(NoMeter), 1),
            canned,
            core: Core::new(snapshot, engine),
            db: Db::in_memory().ok(),
            now: START,
            before,
            after,
        };
        let body = rig.before.clone();
        rig.step(&body);
        rig
    }

    fn poll(&mut self, body: &Bytes) -> Observation {
        self.now = self.now.plus(Duration::from_secs(10));
        *locked(&self.canned) = (self.now, body.clone());
        let result = ready(self.client.deployments(None, true, false)).map(Facts::Deployments);
        assert!(result.is_ok(), "not decoded: {result:?}");
        Observation {
            feed: Feed::Deployments,
            at: self.now,
            scopes: vec![(Scope::Unscoped, result)],
            skew_ms: None,
        }
    }

    fn step(&mut self, body: &Bytes) -> usize {
        let observation = self.poll(body);
        self.core.absorb(&observation);
        let record = self.core.step(self.now);
        let committed = self.db.as_mut().map(|db| db.commit(&record));
        assert!(matches!(committed, Some(Ok(()))), "the commit failed");
        record.changes.len()
    }
}

/// The list, and the list in which every hundredth deployment has cost more.
fn bodies(deployments: usize) -> (Bytes, Bytes) {
    let mut world = World::fleet(1, deployments, START);
    let bearer = format!("Bearer {KEY}");
    let ask =
        Ask { method: "GET", path: "/api/deployments", query: "status=active", authorization: Some(&bearer) };
    let before = world.answer(&ask, START).body;
    let text = String::from_utf8_lossy(&before);
    let mut after = String::with_capacity(text.len());
    for (number, part) in text.split("\"totalCost\":").enumerate() {
        if number > 0 {
            after.push_str("\"totalCost\":");
            after.push_str(if number % 100 == 0 { "1" } else { "" });
        }
        after.push_str(part);
    }
    (Bytes::from(before), Bytes::from(after))
}

/// Answers at once with the bytes that lie ready.
struct Canned(Arc<Mutex<(Time, Bytes)>>);

fn locked(canned: &Mutex<(Time, Bytes)>) -> MutexGuard<'_, (Time, Bytes)> {
    canned.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transport for Canned {
    fn now(&self) -> Time {
        locked(&self.0).0
    }

    async fn send(&self, _: Request) -> Result<Response, SendError> {
        let headers = [
            ("content-type", "application/json"),
            ("x-ratelimit-limit", "10000"),
            ("x-ratelimit-remaining", "10000"),
        ];
        let headers =
            headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let body = locked(&self.0).1.clone();
        Ok(Response { status: 200, headers: HeaderMap::from_iter(headers), body })
    }

    async fn pause(&self, _: Duration) {}
}

fn ready<T, E>(future: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("everything is there at once"),
    }
}
