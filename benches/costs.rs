//! What money costs to keep and to ask for (PRODUCT §12): a step of the ledger, reports over the rollups, and bytes on disk.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench stops where it cannot go on, and says its figures"
)]

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/fleet/mod.rs"]
mod fleet;

use std::{path::Path, sync::Arc, time::Duration};

use divan::Bencher;
use jiff::tz::TimeZone;
use rusqlite::Connection;
use spheron_watch::{
    clock::Clock,
    drive::{Core, poller::Pace},
    engine::{Engine, Money},
    model::{
        Balance, Books, CostBy, Deployment, Facts, Feed, Glob, Listing, Observation, Scope, Snapshot, Status,
        TeamId, Time, Usd, Volume,
    },
    store::{Db, Reader},
};

/// A midnight of UTC.
const NOW: Time = Time::from_secs(1_800_057_600);
const N: i64 = 1_000;
const TEAMS: i64 = N / 50;
const DAY: i64 = 86_400;

fn main() {
    bytes_per_sample();
    divan::main();
}

/// At most 10 ms over 31 days and 100 ms over a year.
#[divan::bench(args = [31, 365])]
fn cost_by_team(bencher: Bencher<'_, '_>, days: i64) {
    ask(bencher, days, CostBy::Team);
}

#[divan::bench(args = [31])]
fn cost_by_subject(bencher: Bencher<'_, '_>, days: i64) {
    ask(bencher, days, CostBy::Subject);
}

fn ask(bencher: Bencher<'_, '_>, days: i64, by: CostBy) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.db");
    drop(Db::open(&path).unwrap());
    fill(&path, days);
    let mut reader = Reader::open(&path, Clock::system(), Duration::from_secs(60)).unwrap();
    let since = Time::from_secs(NOW.secs() - days * DAY);
    bencher.bench_local(|| reader.costs(since, NOW, by).unwrap());
}

/// What so many days of a whole fleet leave, written directly.
fn fill(path: &Path, days: i64) {
    let conn = Connection::open(path).unwrap();
    let (last, first) = (NOW.secs() / 3_600, NOW.secs() / 3_600 - days * 24);
    let kept = first.max(last - 31 * 24);
    conn.execute_batch(&format!(
        "BEGIN;
         CREATE TEMP TABLE n AS WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 20000) SELECT n FROM n;
         INSERT INTO word SELECT n + 1, printf('67a0000000000000%08x', n) FROM n WHERE n < {TEAMS};
         INSERT INTO ledger SELECT n + 1, printf('deployment/68d0000000000000%08x@1800000000000', n), n % {TEAMS} + 1,
             0, 0, 0, 0, 0, NULL, NULL, NULL, 0, 0
           FROM n WHERE n < {N};
         INSERT INTO cost_team SELECT h.n + {first}, t.n + 1, 36500000000 + h.n % 7, 0 FROM n AS h, n AS t
           WHERE h.n < {last} - {first} AND t.n < {TEAMS};
         INSERT INTO cost_day SELECT d.n + {first} / 24, a.n + 1, 17520000000, 0 FROM n AS d, n AS a
           WHERE d.n < {days} AND a.n < {N};
         INSERT INTO cost_hour SELECT h.n * 8 + {kept}, a.n + 1, 8, 730000000, 0 FROM n AS h, n AS a
           WHERE h.n < ({last} - {kept}) / 8 AND a.n < {N};
         COMMIT;"
    ))
    .unwrap();
}

/// One step of money over an account in which nothing changed: at most about 0.3 ms for 1,000.
#[divan::bench(args = [1_000, 10_000])]
fn unchanged_step(bencher: Bencher<'_, '_>, deployments: usize) {
    let snapshot = Snapshot::clone(&fleet::standard(deployments, NOW).snapshot);
    let mut money = Money::new(TimeZone::UTC, Books::default());
    let now = NOW.plus(Duration::from_secs(60));
    money.step(&snapshot, now);
    bencher.bench_local(move || money.step(&snapshot, now));
}

/// Seven days of the standard fleet at 60 s, `totalCost` stepping hourly at a phase of its own, as the daemon commits them:
/// at most 0.13 bytes of the file for each sample that an exporter would have scraped meanwhile.
fn bytes_per_sample() {
    const DAYS: i64 = 7;
    /// Price, cost, status, info, gpus, start of each deployment.
    const DEPLOYMENTS: i64 = N * 6;
    /// Price, size, used, attached of each volume; balance, info, burn and six counts of each team.
    const OTHERS: i64 = N / 5 * 4 + TEAMS * 9;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.db");
    let (mut db, _) = Db::open(&path).unwrap();
    let engine = Engine::new(
        Vec::new(),
        vec![Glob::new("*")],
        Money::new(TimeZone::UTC, Books::default()),
        std::collections::BTreeMap::new(),
    );
    let mut core = Core::new(Snapshot::default(), engine);
    let pace = Pace { interval: Duration::from_secs(300), stretched_from: None };
    core.expect(Feed::Volumes, pace, NOW);
    let view = fleet::standard(usize::try_from(N).unwrap(), NOW);
    let mut deployments: Vec<Deployment> =
        view.snapshot.deployments.values().map(|t| t.deployment.clone()).collect();
    for (n, deployment) in (0_i64..).zip(&mut deployments) {
        // The cycles are spread over the hour.
        deployment.created_at = Time::from_secs(NOW.secs() - 3_600 - n * 3_600 / N);
        deployment.status = Status::Running;
        deployment.total_cost = Usd::ZERO;
    }
    let volumes: Vec<Volume> = view.snapshot.volumes.values().map(|t| t.volume.clone()).collect();
    for minute in 0..DAYS * 24 * 60 {
        let at = Time::from_secs(NOW.secs() + minute * 60);
        for deployment in &mut deployments {
            let hours = (at.secs() - deployment.created_at.secs()) / 3_600;
            deployment.total_cost = Usd::from_nanos(deployment.hourly_rate.nanos() * hours);
        }
        core.absorb(&observation(Feed::Balance, at, Facts::Balances(listing(balances(&deployments)))));
        core.absorb(&observation(Feed::Deployments, at, Facts::Deployments(listing(deployments.clone()))));
        if minute % 5 == 0 {
            core.absorb(&observation(Feed::Volumes, at, Facts::Volumes(listing(volumes.clone()))));
        }
        db.commit(&core.step(at)).unwrap();
    }
    drop(db);
    let bytes = std::fs::metadata(&path).unwrap().len();
    for (what, series) in [("deployments'", DEPLOYMENTS), ("all", DEPLOYMENTS + OTHERS)] {
        let samples = DAYS * 24 * 60 * series;
        println!(
            "bytes per sample, {what} series: {:.4} ({bytes} / {samples})",
            bytes as f64 / samples as f64
        );
    }
    let conn = Connection::open(&path).unwrap();
    let mut sizes =
        conn.prepare("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC LIMIT 8");
    if let Ok(sizes) = &mut sizes {
        let rows = sizes.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).unwrap();
        rows.flatten().for_each(|(name, bytes)| println!("  {name}: {bytes}"));
    }
}

fn balances(deployments: &[Deployment]) -> Vec<Balance> {
    let mut teams: std::collections::BTreeMap<&TeamId, Usd> = std::collections::BTreeMap::new();
    for deployment in deployments {
        let sum = teams.entry(&deployment.team).or_default();
        *sum = sum.saturating_add(deployment.total_cost);
    }
    let full = Usd::from_cents(1_000_000);
    let balance = |(team, spent): (&TeamId, Usd)| Balance {
        team: team.clone(),
        name: Arc::from("team"),
        role: Arc::from("owner"),
        balance: full.saturating_sub(spent),
    };
    teams.into_iter().map(balance).collect()
}

fn listing<T>(items: Vec<T>) -> Listing<T> {
    Listing { items, unreadable: Vec::new(), suspect: None }
}

fn observation(feed: Feed, at: Time, facts: Facts) -> Observation {
    Observation { feed, at, scopes: vec![(Scope::Unscoped, Ok(facts))], skew_ms: None }
}
