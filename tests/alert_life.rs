//! Groups and silences through the whole core: decided, committed to a real file, and gone on with by the next process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use jiff::tz::TimeZone;
use spheron_watch::{
    drive::core::Core,
    engine::{Engine, Money},
    model::{
        Balance, Deployment, DeploymentId, Facts, Feed, Glob, InstanceType, Listing, Observation, Receipt,
        Route, Rule, RuleKind, Scope, Severity, Silence, SilenceError, Status, TeamId, Time, Usd,
    },
    store::Db,
};

const T0: Time = Time::from_secs(1_800_000_000);

fn after(secs: u64) -> Time {
    T0.plus(Duration::from_secs(secs))
}

fn rules() -> Vec<Rule> {
    vec![Rule {
        name: "running-long".into(),
        kind: RuleKind::RunningLong { longer_than: Duration::from_secs(60) },
        severity: Severity::Warning,
        for_: Duration::ZERO,
        keep_firing_for: Duration::ZERO,
        matcher: Default::default(),
        receivers: vec![Route { receiver: "ops".into(), send_resolved: true }],
        repeat_interval: None,
    }]
}

/// One process: the core over what the file holds. Dropping it is a kill: nothing is closed in order.
struct Process {
    core: Core,
    db: Db,
}

impl Process {
    fn start(path: &Path) -> Self {
        let (db, recovered) = Db::open(path).unwrap();
        let money = Money::new(TimeZone::UTC, recovered.books);
        let engine = Engine::new(rules(), vec![Glob::new("*")], money, recovered.alerts)
            .resume(recovered.groups, recovered.polls);
        Self { core: Core::new(recovered.snapshot, engine), db }
    }

    fn list(&mut self, at: Time, ids: &[&str]) {
        let team = Balance {
            team: TeamId::new("t1"),
            name: "research".into(),
            role: "owner".into(),
            balance: Usd::from_cents(10_000),
        };
        self.core.absorb(&Observation {
            feed: Feed::Balance,
            at,
            scopes: vec![(
                Scope::Unscoped,
                Ok(Facts::Balances(Listing { items: vec![team], unreadable: Vec::new(), suspect: None })),
            )],
            skew_ms: None,
        });
        let items = ids.iter().map(|id| deployment(id)).collect();
        let listing = Listing { items, unreadable: Vec::new(), suspect: None };
        self.core.absorb(&Observation {
            feed: Feed::Inventory,
            at,
            scopes: vec![(Scope::Unscoped, Ok(Facts::Deployments(listing.clone())))],
            skew_ms: None,
        });
        self.core.absorb(&Observation {
            feed: Feed::Deployments,
            at,
            scopes: vec![(Scope::Unscoped, Ok(Facts::Deployments(listing)))],
            skew_ms: None,
        });
    }

    /// Steps, commits, and gives the titles of what goes to the receiver now.
    fn step(&mut self, now: Time) -> Vec<String> {
        let record = self.core.step(now);
        self.db.commit(&record).unwrap();
        let mut titles = Vec::new();
        while let Some(row) = self.db.claim("ops", now).unwrap() {
            self.db.settle(row.seq, &Receipt::Delivered { detail: "200".into() }, now).unwrap();
            titles.push(row.notice.title);
        }
        titles
    }
}

fn deployment(id: &str) -> Deployment {
    Deployment {
        id: DeploymentId::new(id),
        created_at: T0.minus(Duration::from_secs(3_600)),
        name: format!("box-{id}").into(),
        team: TeamId::new("t1"),
        gpu_type: "h100".into(),
        gpu_count: 1,
        provider: "spheron-ai".into(),
        region: "us-east-1".into(),
        instance_type: InstanceType::new("DEDICATED"),
        status: Status::Running,
        hourly_rate: Usd::from_cents(200),
        total_cost: Usd::from_cents(200),
        started_at: None,
        stopped_at: None,
        kubernetes: false,
        access: Default::default(),
    }
}

fn silence(glob: &str, starts: Time, ends: Time) -> Silence {
    let matchers = BTreeMap::from([("name".into(), glob.into())]);
    Silence::new(matchers, starts, ends, "ann".into(), "maintenance".into()).unwrap()
}

#[test]
fn fault_31_a_group_that_waited_at_a_kill_is_told_once_after_the_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.db");
    let mut process = Process::start(&path);
    process.list(T0, &["a", "b"]);
    assert_eq!(process.step(T0), [""; 0]);
    drop(process);
    let mut process = Process::start(&path);
    assert_eq!(process.step(after(20)), [""; 0]);
    assert_eq!(process.core.wake().map(|wake| wake.at), Some(after(30)), "the flush has its old time");
    let record = process.core.step(after(30));
    process.db.commit(&record).unwrap();
    drop(process);
    let mut process = Process::start(&path);
    assert_eq!(process.step(after(31)), ["2 alerts of running-long in research: 2 firing"]);
    assert_eq!(process.step(after(600)), [""; 0], "and only once");
}

#[test]
fn a_silence_outlives_its_process_and_is_dropped_a_month_after_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.db");
    let mut process = Process::start(&path);
    let wanted = silence("box-a", T0, after(3_600));
    process.core.silence(wanted.clone(), T0).unwrap();
    process.list(T0, &["a", "b"]);
    process.step(T0);
    assert_eq!(process.step(after(30)), ["running long: box-b for 1h"], "the other one is told");
    drop(process);
    let mut process = Process::start(&path);
    assert_eq!(
        process.core.snapshot().silences,
        BTreeMap::from([(wanted.id.clone(), Arc::new(wanted.clone()))])
    );
    assert_eq!(process.step(after(60)), [""; 0]);
    assert!(process.core.end_silence(&wanted.id, after(600)));
    assert!(!process.core.end_silence(&wanted.id, after(601)), "it has ended");
    assert!(!process.core.end_silence("sil_0", after(601)), "there is no such silence");
    process.step(after(600));
    assert_eq!(process.step(after(630)), ["running long: box-a for 1h 10m"], "it still fires, so it is told");
    let month = 30 * 86_400;
    process.step(after(600 + month - 1));
    assert_eq!(process.core.snapshot().silences.len(), 1);
    process.step(after(600 + month));
    drop(process);
    assert!(Process::start(&path).core.snapshot().silences.is_empty());
}

#[test]
fn a_thousand_silences_are_enough_and_those_that_ended_are_none_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(&dir.path().join("watch.db"));
    for n in 0..1_000 {
        process.core.silence(silence(&format!("box-{n}"), T0, after(60 + n)), T0).unwrap();
    }
    let one_more = silence("box-x", T0, after(9_000));
    assert_eq!(process.core.silence(one_more.clone(), T0), Err(SilenceError::TooMany(1_000)));
    let known = silence("box-1", T0, after(61));
    assert_eq!(process.core.silence(known.clone(), T0), Ok(()), "the same again is no more");
    let broken = Silence { matchers: BTreeMap::new(), ..known.clone() };
    assert_eq!(process.core.silence(broken, T0), Err(SilenceError::Empty));

    assert_eq!(process.core.silence(one_more.clone(), after(60)), Ok(()), "one has ended");
    let again = Silence { ends: after(9_000), ..silence("box-0", T0, after(60)) };
    let full = process.core.silence(again, after(60));
    assert_eq!(full, Err(SilenceError::TooMany(1_000)), "what ended begins anew only where there is room");

    // Whoever makes and ends them without end fills no memory: those that ended first are forgotten.
    for n in 0..1_500 {
        process.core.silence(silence(&format!("next-{n}"), T0, after(2_000)), after(1_100 + n)).unwrap_or(());
    }
    for n in 0..1_500 {
        process.core.silence(silence(&format!("last-{n}"), T0, after(5_000)), after(2_000)).unwrap_or(());
    }
    let kept = &process.core.snapshot().silences;
    assert!(kept.len() <= 2_000, "{}", kept.len());
    assert!(kept.contains_key(&one_more.id) && !kept.contains_key(&known.id));
}
