//! What only the inside can see: the connection's settings, its failures, and what a commit costs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rusqlite::ffi;

use super::*;
use crate::model::{
    Change, Deployment, DeploymentId, Feed, InstanceType, Outcome, PollRow, Presence, Status, TeamId,
    Tracked, TrackedTeam, Usd,
};

fn tracked(n: usize, cost: i64) -> Arc<Tracked> {
    let deployment = Deployment {
        id: DeploymentId::new(format!("d{n}")),
        created_at: Time::from_secs(1),
        name: format!("name {n}").into(),
        team: TeamId::new("t"),
        gpu_type: "H100".into(),
        gpu_count: 1,
        provider: "p".into(),
        region: "r".into(),
        instance_type: InstanceType::new("SPOT"),
        status: Status::Running,
        hourly_rate: Usd::from_cents(146),
        total_cost: Usd::from_cents(cost),
        started_at: None,
        stopped_at: None,
        kubernetes: false,
        access: Default::default(),
    };
    Arc::new(Tracked {
        deployment,
        first_seen: Time::from_secs(2),
        presence: Presence::Listed,
        status_since: Time::from_secs(2),
        status_before: None,
        rate_before: None,
        unreadable_since: None,
    })
}

fn step(at_secs: i64, changes: Vec<Change>) -> StepRecord {
    let at = Time::from_secs(at_secs);
    let poll = PollRow {
        feed: Feed::Deployments,
        at,
        outcome: Outcome::Complete,
        items: 0,
        failure: None,
        trouble: None,
    };
    StepRecord { at, polls: vec![poll], changes, ..StepRecord::default() }
}

fn fleet(size: usize, cost: i64) -> Vec<Change> {
    (0..size).map(|n| Change::Deployment(tracked(n, cost))).collect()
}

#[test]
fn fault_32_the_writer_syncs_every_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = Db::open(&dir.path().join("watch.db")).unwrap();
    let number = |name| db.conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(number("synchronous"), 2, "FULL");
    let mode: String = db.conn.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    assert_eq!([number("trusted_schema"), number("cell_size_check"), number("foreign_keys")], [0, 1, 1]);
    assert_eq!((number("busy_timeout"), number("journal_size_limit")), (5_000, 16 << 20));
    assert_eq!(number("mmap_size"), 0);
}

#[test]
fn fault_33_a_full_disk_refuses_the_commit_keeps_what_was_there_and_heals() {
    let mut db = Db::in_memory().unwrap();
    db.commit(&step(1, fleet(3, 1))).unwrap();
    let before = db.recover().unwrap();
    let pages: i64 = db.conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let limit = |db: &Db, pages: i64| {
        db.conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    };
    limit(&db, pages + 1);
    let large = step(2, fleet(2_000, 2));
    assert_eq!(db.commit(&large), Err(StoreError::Full));
    assert_eq!(db.recover().unwrap(), before, "nothing of it stays");
    limit(&db, 1 << 20);
    db.commit(&large).unwrap();
    assert_eq!(db.recover().unwrap().snapshot.deployments.len(), 2_000);
}

#[test]
fn fault_34_after_an_error_of_the_disk_nothing_is_tried_again() {
    let mut db = Db::in_memory().unwrap();
    let broken: Result<(), _> = db.write(|_| {
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), Some("fsync".into()))
            .into())
    });
    let Err(first @ StoreError::Fatal { .. }) = broken else { panic!("{broken:?}") };
    assert_eq!(db.commit(&step(1, fleet(1, 1))), Err(first.clone()));
    assert_eq!(db.recover(), Err(first.clone()));
    assert_eq!(db.claim("log", Time::EPOCH), Err(first));
}

#[test]
fn a_commit_costs_its_changes_and_not_the_fleet() {
    let ops = |fleet_size: usize| {
        let mut db = Db::in_memory().unwrap();
        db.commit(&step(1, fleet(fleet_size, 1))).unwrap();
        let spent = Arc::new(AtomicU64::new(0));
        let count = spent.clone();
        let handler = move || {
            count.fetch_add(1, Ordering::Relaxed);
            false
        };
        db.conn.progress_handler(1, Some(handler)).unwrap();
        db.commit(&step(2, fleet(5, 2))).unwrap();
        spent.load(Ordering::Relaxed)
    };
    let (small, large) = (ops(5), ops(3_000));
    assert!(small > 50, "{small} instructions were counted");
    assert_eq!(small, large);
}

#[test]
fn a_poll_with_nothing_new_writes_its_poll_row_alone_and_a_new_cost_one_sample() {
    let mut db = Db::in_memory().unwrap();
    db.commit(&step(1, fleet(3, 1))).unwrap();
    db.commit(&step(2, fleet(3, 1))).unwrap();
    db.commit(&step(3, fleet(1, 2))).unwrap();
    let count = |table| {
        let sql = format!("SELECT count(*) FROM {table}");
        db.conn.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!([count("poll"), count("deployment"), count("sample"), count("line")], [3, 3, 1, 3]);
}

#[test]
fn a_balance_that_stays_writes_no_row_and_is_still_known_to_be_fresh() {
    let mut db = Db::in_memory().unwrap();
    let id = TeamId::new("t");
    for minute in 1..=100 {
        let at = Time::from_secs(60 * minute);
        let team = TrackedTeam {
            id: id.clone(),
            name: "research".into(),
            role: "owner".into(),
            balance: Some(Usd::from_cents(500)),
            balance_at: Some(at),
            previous: None,
            unknown_since: None,
            denied: None,
        };
        let mut record = step(60 * minute, vec![Change::Team(Arc::new(team))]);
        record.polls[0].feed = Feed::Balance;
        db.commit(&record).unwrap();
    }
    let rows: i64 = db.conn.query_row("SELECT count(*) FROM team", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
    let balance_at = |at| db.values_at(Time::from_secs(at)).unwrap().unwrap().teams[&id].balance_at;
    assert_eq!(balance_at(6_000), Some(Time::from_secs(6_000)));
    assert_eq!(balance_at(3_659), Some(Time::from_secs(3_600)), "as of then");
}

#[test]
fn a_week_of_polls_takes_few_bytes() {
    let mut db = Db::in_memory().unwrap();
    for minute in 0..7 * 1_440 {
        // As the API does it: the cost steps hourly.
        let changes = if minute % 60 == 0 { fleet(50, minute) } else { Vec::new() };
        db.commit(&step(60 * minute, changes)).unwrap();
    }
    let samples = 7 * 1_440 * 50;
    // The poll log's share is the same for a fleet of any size, so at 50 it weighs most.
    assert!(db.size_bytes() < samples * 2, "{} bytes for {samples} samples", db.size_bytes());
}
