//! The store from outside: real files, a real SIGKILL, a second process's locks, and a model that it must agree with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use rusqlite::Connection;
use sha2::{Digest, Sha256};
use spheron_watch::{
    clock::Clock,
    model::{
        Account, AlertKey, AlertState, Bar, Books, Change, Deployment, DeploymentId, Entry, EventId,
        FailureKind, Feed, Group, GroupKey, InstanceType, Notice, Offer, OutboxDepth, Outcome, PollRow,
        Presence, Receipt, Severity, Silence, Snapshot, Status, StepRecord, Subject, TeamId, Time, Together,
        Tracked, TrackedTeam, TrackedVolume, Transition, Trouble, Usd, Volume, VolumeId, VolumeStatus,
    },
    store::{Db, OpenError, Options, Reader, Recovered, Store, StoreError},
};

const LIMIT: Duration = Duration::from_secs(30);

fn secs(secs: i64) -> Time {
    Time::from_secs(secs)
}

fn tracked(id: &str, created: i64, cost: i64) -> Tracked {
    let deployment = Deployment {
        id: DeploymentId::new(id),
        created_at: secs(created),
        name: "train".into(),
        team: TeamId::new("t1"),
        gpu_type: "H100".into(),
        gpu_count: 8,
        provider: "spheron".into(),
        region: "eu".into(),
        instance_type: InstanceType::new("SPOT"),
        status: Status::Running,
        hourly_rate: Usd::from_cents(146),
        total_cost: Usd::from_cents(cost),
        started_at: Some(secs(created + 1)),
        stopped_at: None,
        kubernetes: false,
        access: Default::default(),
    };
    Tracked {
        deployment,
        first_seen: secs(5),
        presence: Presence::Listed,
        status_since: secs(5),
        status_before: None,
        rate_before: None,
        unreadable_since: None,
    }
}

fn team(id: &str, cents: i64, at: Time) -> TrackedTeam {
    TrackedTeam {
        id: TeamId::new(id),
        name: "research".into(),
        role: "owner".into(),
        balance: Some(Usd::from_cents(cents)),
        balance_at: Some(at),
        previous: None,
        unknown_since: None,
        denied: None,
    }
}

fn poll(feed: Feed, at: Time, outcome: Outcome) -> PollRow {
    PollRow { feed, at, outcome, items: 3, failure: None, trouble: None }
}

fn key(subject: &str) -> AlertKey {
    AlertKey { rule: "low".into(), subject: Subject::Team { id: TeamId::new(subject) } }
}

fn notice(n: u32, subject: &str, receivers: &[&str]) -> Notice {
    Notice {
        id: EventId::from_text(format!("evt_{n}")),
        key: key(subject),
        kind: "balance".into(),
        transition: Transition::Firing,
        severity: Severity::Critical,
        title: format!("notice {n}"),
        reason: "because".into(),
        advice: "top up".into(),
        details: vec![("team".into(), "research\0\u{202e}".into())],
        bars: vec![Bar { label: "balance".into(), permille: n, text: format!("{n} of 1000") }],
        since: secs(1),
        at: secs(2),
        receivers: receivers.iter().map(|name| Arc::from(*name)).collect(),
        together: Together::default(),
        grant: None,
        link: None,
    }
}

fn tells(at: i64, notices: Vec<Notice>) -> StepRecord {
    StepRecord { at: secs(at), notices, ..StepRecord::default() }
}

/// One numbered step: a poll that carries the number, a change, an alert and a notice.
fn numbered(n: u32) -> StepRecord {
    let at = secs(i64::from(n));
    StepRecord {
        at,
        polls: vec![PollRow { items: n, ..poll(Feed::Deployments, at, Outcome::Complete) }],
        changes: vec![Change::Deployment(Arc::new(tracked("d", 1, i64::from(n))))],
        alerts: vec![(key("t"), Some(AlertState::Told { at }))],
        notices: vec![notice(n, "t", &["mail"])],
        ..StepRecord::default()
    }
}

fn database(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("watch.db")
}

fn reader(path: &Path) -> Reader {
    Reader::open(path, Clock::system(), LIMIT).unwrap()
}

// ---- crashes ------------------------------------------------------------------------------------------------------

const CHILD: &str = "SPHERON_WATCH_TEST_WRITER";

/// Does nothing by itself: `fault_31` runs this test binary again, with the variable set, as the process to kill.
#[test]
fn writer_process_of_fault_31() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let (mut db, recovered) = Db::open(Path::new(&path)).unwrap();
    let mut n = match recovered.alerts.get(&key("t")) {
        Some(AlertState::Told { at }) => u32::try_from(at.secs()).unwrap(),
        _ => 0,
    };
    loop {
        n += 1;
        db.commit(&numbered(n)).unwrap();
        let row = db.claim("mail", secs(i64::from(n))).unwrap().expect("the row just committed is due");
        db.settle(row.seq, &Receipt::Delivered { detail: "ok".into() }, secs(i64::from(n))).unwrap();
        println!("\nack {n}");
        std::io::stdout().flush().unwrap();
    }
}

/// Starts a writer, kills it after some acknowledged commits, and returns the last number that it acknowledged.
fn write_until_killed(path: &Path, acks: u32) -> u32 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_process_of_fault_31", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut last, mut seen) = (0, 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Some(n) = line.unwrap().strip_prefix("ack ").and_then(|n| n.parse().ok()) else { continue };
        last = n;
        seen += 1;
        if seen == acks {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= acks, "the writer ended by itself after {seen} commits");
    last
}

#[test]
fn fault_31_every_acknowledged_step_outlives_a_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(&dir);
    let mut random = fastrand::Rng::with_seed(31);
    for kill in 0..30 {
        let acknowledged = write_until_killed(&path, random.u32(1..25));
        let (db, recovered) = Db::open(&path).expect("opening includes the quick check");
        let polls: Vec<u32> = reader(&path)
            .poll_log(Feed::Deployments, 0, u32::MAX)
            .unwrap()
            .iter()
            .map(|p| p.row.items)
            .collect();
        let last = u32::try_from(polls.len()).unwrap();
        assert_eq!(polls, (1..=last).collect::<Vec<_>>(), "kill {kill}: whole steps in order, none lost");
        assert!(last >= acknowledged, "kill {kill}: {acknowledged} was acknowledged, {last} is there");
        let told = AlertState::Told { at: secs(i64::from(last)) };
        assert_eq!(recovered.alerts[&key("t")], told, "kill {kill}: alert and poll are of one step");
        let cost = recovered.snapshot.deployments[&DeploymentId::new("d")].deployment.total_cost;
        assert_eq!(cost, Usd::from_cents(i64::from(last)), "kill {kill}: change and poll are of one step");
        drop(db);
    }
    let conn = Connection::open(&path).unwrap();
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn fault_59_a_crash_between_sending_and_its_receipt_offers_the_same_event_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(&dir);
    let (mut db, _) = Db::open(&path).unwrap();
    db.commit(&tells(1, vec![notice(1, "a", &["mail"])])).unwrap();
    let first = db.claim("mail", secs(2)).unwrap().unwrap();
    assert_eq!(db.claim("mail", secs(99)).unwrap(), None, "it is claimed");
    drop(db);
    let (mut db, _) = Db::open(&path).unwrap();
    assert_eq!(db.next_due("mail").unwrap(), Some(secs(1)));
    assert_eq!(db.claim("mail", secs(2)).unwrap(), Some(first), "same row, same event id");
}

// ---- whose file it is ---------------------------------------------------------------------------------------------

/// Every file of the folder with its bytes, but the lock and SQLite's shared memory.
fn contents(dir: &tempfile::TempDir) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let own = |path: &PathBuf| !matches!(path.extension().and_then(|e| e.to_str()), Some("lock" | "db-shm"));
    paths.filter(own).map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

#[test]
fn fault_36_a_foreign_database_is_refused_and_not_touched() {
    for id in [0, 7] {
        let dir = tempfile::tempdir().unwrap();
        let path = database(&dir);
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(&format!(
            "PRAGMA application_id = {id}; CREATE TABLE theirs (x); PRAGMA journal_mode = WAL;"
        ))
        .unwrap();
        drop(conn);
        let before = contents(&dir);
        let error = Db::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { found, .. } if found == id), "{error}");
        assert!(matches!(Reader::open(&path, Clock::system(), LIMIT), Err(OpenError::Foreign { .. })));
        assert_eq!(contents(&dir), before);
    }
}

#[test]
fn fault_88_a_newer_schema_is_refused_and_not_touched_even_if_only_the_wal_says_so() {
    for checkpointed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = database(&dir);
        Db::open(&path).unwrap();
        let conn = Connection::open(&path).unwrap();
        conn.pragma_update(None, "user_version", 99).unwrap();
        if checkpointed {
            drop(conn);
        } else {
            // As a process that was killed leaves it.
            conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
            drop(conn);
            assert!(fs::metadata(dir.path().join("watch.db-wal")).unwrap().len() > 0);
        }
        let before = contents(&dir);
        let error = Db::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
        assert_eq!(contents(&dir), before, "checkpointed: {checkpointed}");
        assert!(matches!(Reader::open(&path, Clock::system(), LIMIT), Err(OpenError::Newer { .. })));
    }
}

#[test]
fn fault_35_a_damaged_file_is_refused_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(&dir);
    let (mut db, _) = Db::open(&path).unwrap();
    for n in 1..=50 {
        db.commit(&numbered(n)).unwrap();
    }
    drop(db);
    let conn = Connection::open(&path).unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'attempt'";
    let unread: u32 = conn.query_row(root, [], |row| row.get(0)).unwrap();
    drop(conn);
    let whole = fs::read(&path).unwrap();
    let (mut torn, mut one_page, mut no_header) = (whole.clone(), whole.clone(), whole);
    torn[4_096..].chunks_mut(4_096).for_each(|page| page[..64].fill(0xff));
    one_page[(unread as usize - 1) * 4_096..][..64].fill(0xff);
    no_header[..16].fill(0);
    for damaged in [torn, one_page, no_header, b"hello".to_vec()] {
        fs::write(&path, &damaged).unwrap();
        let error = Db::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("restore a backup"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}

#[test]
fn fault_43_a_second_daemon_on_the_same_file_is_refused_whatever_it_calls_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(&dir);
    let (db, _) = Db::open(&path).unwrap();
    let alias = dir.path().join("alias.db");
    std::os::unix::fs::symlink(&path, &alias).unwrap();
    for name in [&path, &alias] {
        let error = Db::open(name).unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    }
    drop(db);
    Db::open(&alias).expect("the lock went with the first");
}

#[test]
fn the_files_are_ours_alone_and_so_is_a_folder_that_we_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/watch.db");
    let (mut db, _) = Db::open(&path).unwrap();
    db.commit(&numbered(1)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = path.parent().unwrap();
    assert_eq!(mode(folder), 0o700);
    let modes: Vec<_> = fs::read_dir(folder).unwrap().map(|e| mode(&e.unwrap().path())).collect();
    assert_eq!(modes, [0o600; 5], "the database, its WAL, its index, the lock and the count of orders");
    let error = Db::open(&dir.path().join("no/such/watch.db")).unwrap_err();
    assert!(matches!(error, OpenError::NoFolder { .. }), "{error}");
}

// ---- other connections --------------------------------------------------------------------------------------------

#[test]
fn fault_40_a_lock_held_by_another_program_fails_one_commit_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(&dir);
    let (mut db, _) =
        Db::open_with(&path, &Options { busy_timeout: Duration::from_millis(50), ..Options::default() })
            .unwrap();
    db.commit(&numbered(1)).unwrap();
    let before = db.recover().unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(db.commit(&numbered(2)), Err(StoreError::Busy));
    assert_eq!(db.recover().unwrap(), before);
    other.execute_batch("ROLLBACK").unwrap();
    db.commit(&numbered(2)).unwrap();
    let cost = db.recover().unwrap().snapshot.deployments[&DeploymentId::new("d")].deployment.total_cost;
    assert_eq!(cost, Usd::from_cents(2));
}

#[test]
fn fault_39_a_read_beyond_its_deadline_is_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(&dir);
    let (mut db, _) = Db::open(&path).unwrap();
    let fleet = (0..2_000).map(|n| Change::Deployment(Arc::new(tracked(&format!("d{n}"), 1, 1)))).collect();
    db.commit(&StepRecord { at: secs(1), changes: fleet, ..StepRecord::default() }).unwrap();
    let mut late = Reader::open(&path, Clock::system(), Duration::ZERO).unwrap();
    assert_eq!(late.current(), Err(StoreError::Deadline));
    assert_eq!(late.poll_log(Feed::Balance, 0, 1), Ok(Vec::new()), "and the next call works");
    assert_eq!(reader(&path).current().unwrap().snapshot.deployments.len(), 2_000);
}

#[test]
fn a_reader_makes_no_database() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Reader::open(&database(&dir), Clock::system(), LIMIT);
    assert!(matches!(missing, Err(OpenError::Missing { .. })));
    assert!(!database(&dir).exists(), "looking makes none");
}

#[tokio::test]
async fn a_closed_store_answers_and_lets_go_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&database(&dir)).unwrap();
    let clone = store.clone();
    store.commit(Arc::new(numbered(1))).await.unwrap();
    let row = store.claim("mail".into(), secs(9)).await.unwrap().unwrap();
    store.settle(row.seq, Receipt::Dead { why: "no".into() }, secs(9)).await.unwrap();
    store.close().await;
    assert_eq!(clone.outbox().await, Err(StoreError::Stopped));
    let (_, recovered) = Store::open(&database(&dir)).unwrap();
    assert_eq!(recovered.alerts.len(), 1);
}

// ---- the outbox ---------------------------------------------------------------------------------------------------

fn retry(next: i64) -> Receipt {
    Receipt::Retry { why: "503".into(), next: secs(next) }
}

fn delivered() -> Receipt {
    Receipt::Delivered { detail: "200".into() }
}

#[test]
fn fault_63_a_later_notice_never_overtakes_an_earlier_one_of_its_subject() {
    let mut db = Db::in_memory().unwrap();
    let resolved = Notice { transition: Transition::Resolved, ..notice(2, "a", &["mail", "hook"]) };
    db.commit(&tells(1, vec![notice(1, "a", &["mail", "hook"]), resolved, notice(3, "b", &["mail"])]))
        .unwrap();
    let title = |db: &mut Db, receiver, now| {
        db.claim(receiver, secs(now)).unwrap().map(|row| (row.seq, row.attempts, row.notice.title))
    };
    let (firing, _, first) = title(&mut db, "mail", 1).unwrap();
    assert_eq!(first, "notice 1");
    let (other, _, second) = title(&mut db, "mail", 1).unwrap();
    assert_eq!(second, "notice 3", "another subject need not wait");
    assert_eq!(title(&mut db, "mail", 1), None, "resolved waits while firing is under way");
    assert_eq!(db.next_due("mail").unwrap(), None);
    db.settle(firing, &retry(30), secs(1)).unwrap();
    db.settle(other, &delivered(), secs(1)).unwrap();
    assert_eq!(title(&mut db, "mail", 29), None, "and while firing waits for its retry");
    assert_eq!(db.next_due("mail").unwrap(), Some(secs(30)));
    assert_eq!(title(&mut db, "mail", 30), Some((firing, 1, "notice 1".into())));
    db.settle(firing, &Receipt::Dead { why: "550".into() }, secs(30)).unwrap();
    assert_eq!(title(&mut db, "mail", 30).unwrap().2, "notice 2", "a dead letter holds up nobody");
    assert_eq!(title(&mut db, "hook", 30).unwrap().2, "notice 1", "receivers don't wait for each other");
    assert_eq!(
        db.outbox().unwrap()[&Arc::from("hook")],
        OutboxDepth { waiting: 2, oldest: Some(secs(1)), trouble: None }
    );
}

#[test]
fn fault_65_a_receiver_is_in_trouble_from_the_first_attempt_that_failed_until_it_takes_something() {
    let mut db = Db::in_memory().unwrap();
    let trouble = |db: &Db| db.outbox().unwrap().get("mail").and_then(|depth| depth.trouble.clone());
    let claim = |db: &mut Db, now| db.claim("mail", secs(now)).unwrap().unwrap().seq;
    let refused = |why: &str, next| Receipt::Retry { why: why.into(), next: secs(next) };
    db.commit(&tells(1, vec![notice(1, "a", &["mail"]), notice(2, "b", &["mail"])])).unwrap();
    assert_eq!(trouble(&db), None, "nothing was tried");
    let first = claim(&mut db, 1);
    db.settle(first, &refused("451", 30), secs(2)).unwrap();
    let second = claim(&mut db, 3);
    db.settle(second, &delivered(), secs(3)).unwrap();
    let first = claim(&mut db, 30);
    db.settle(first, &refused("452", 60), secs(31)).unwrap();
    let failing = Trouble { since: secs(2), dead: false, why: "452".into() };
    assert_eq!(trouble(&db), Some(failing));
    let first = claim(&mut db, 60);
    db.settle(first, &Receipt::Dead { why: "550".into() }, secs(61)).unwrap();
    assert_eq!(trouble(&db), Some(Trouble { since: secs(61), dead: true, why: "550".into() }));
    db.commit(&tells(70, vec![notice(3, "c", &["mail"])])).unwrap();
    let third = claim(&mut db, 70);
    db.settle(third, &delivered(), secs(71)).unwrap();
    assert_eq!(db.outbox().unwrap(), BTreeMap::new(), "it takes notices again");
}

#[test]
fn stepping_again_tells_nobody_twice() {
    let mut db = Db::in_memory().unwrap();
    let record = tells(1, vec![notice(1, "a", &["mail", "mail"])]);
    db.commit(&record).unwrap();
    db.commit(&record).unwrap();
    let row = db.claim("mail", secs(1)).unwrap().unwrap();
    assert_eq!(row.notice, record.notices[0]);
    db.settle(row.seq, &delivered(), secs(1)).unwrap();
    db.commit(&record).unwrap();
    assert_eq!(db.claim("mail", secs(99)).unwrap(), None);
    assert!(db.outbox().unwrap().is_empty());
}

/// A notice of a group: it stands in its group's lane and in those of the alerts it names.
fn grouped(n: u32, group: &str, subjects: &[&str], receivers: &[&str]) -> Notice {
    let members = subjects.iter().map(|subject| notice(n * 100, subject, &[])).collect();
    let lanes = subjects.iter().map(|subject| key(subject).lane()).chain([Arc::from(group)]).collect();
    Notice { together: Together { members, lanes, ..Together::default() }, ..notice(n, "all", receivers) }
}

#[test]
fn fault_63_an_end_waits_for_the_group_that_told_of_its_beginning() {
    let mut db = Db::in_memory().unwrap();
    let notices = vec![
        grouped(1, "= a", &["x", "y"], &["mail"]),
        notice(2, "y", &["mail"]),
        grouped(3, "= a", &["z"], &["mail"]),
        notice(4, "w", &["mail"]),
    ];
    db.commit(&tells(1, notices)).unwrap();
    let claimed =
        |db: &mut Db, now| db.claim("mail", secs(now)).unwrap().map(|row| (row.seq, row.notice.title));
    let (first, title) = claimed(&mut db, 1).unwrap();
    assert_eq!(title, "notice 1");
    let (other, title) = claimed(&mut db, 1).unwrap();
    assert_eq!(title, "notice 4", "it has nothing to do with the group");
    assert_eq!(claimed(&mut db, 1), None, "one of its alerts and the next of the group wait");
    db.settle(other, &Receipt::Delivered { detail: String::new() }, secs(1)).unwrap();
    db.settle(first, &Receipt::Retry { why: "503".into(), next: secs(60) }, secs(1)).unwrap();
    assert_eq!(claimed(&mut db, 59), None);
    assert_eq!(db.next_due("mail").unwrap(), Some(secs(60)));
    // Another receiver inherits it, with its lanes.
    let (first, _) = claimed(&mut db, 60).unwrap();
    db.commit(&tells(60, vec![notice(5, "x", &["log"])])).unwrap();
    db.bury(first, "410".into(), &[Arc::from("log")], secs(60)).unwrap();
    assert_eq!(
        claimed(&mut db, 60).map(|(_, title)| title),
        Some("notice 2".into()),
        "a dead letter holds up nobody"
    );
    let row = db.claim("log", secs(60)).unwrap().unwrap();
    assert_eq!(row.notice.title, "notice 5");
    assert_eq!(db.claim("log", secs(60)).unwrap(), None, "inherited later, so it goes later");
    db.settle(row.seq, &Receipt::Delivered { detail: String::new() }, secs(60)).unwrap();
    assert_eq!(db.claim("log", secs(60)).unwrap().unwrap().notice.title, "notice 1");
}

#[test]
fn an_event_that_one_receiver_had_reaches_another_later_and_each_once() {
    let mut db = Db::in_memory().unwrap();
    for receivers in [&["mail"][..], &["log", "mail"], &["log"]] {
        db.commit(&tells(1, vec![notice(1, "x", receivers)])).unwrap();
    }
    let waiting =
        db.outbox().unwrap().into_iter().map(|(name, depth)| (name, depth.waiting)).collect::<Vec<_>>();
    assert_eq!(waiting, [("log".into(), 1), ("mail".into(), 1)]);
}

#[test]
fn a_receipt_needs_a_claim() {
    let mut db = Db::in_memory().unwrap();
    db.commit(&tells(1, vec![notice(1, "a", &["mail"])])).unwrap();
    let row = db.claim("mail", secs(1)).unwrap().unwrap();
    db.release(row.seq).unwrap();
    assert_eq!(db.settle(row.seq, &delivered(), secs(1)), Err(StoreError::NotClaimed { seq: row.seq }));
    let again = db.claim("mail", secs(1)).unwrap().unwrap();
    assert_eq!(again, row, "given back, not used up");
    db.settle(row.seq, &delivered(), secs(1)).unwrap();
    assert_eq!(db.settle(row.seq, &delivered(), secs(1)), Err(StoreError::NotClaimed { seq: row.seq }));
}

#[test]
fn what_ended_is_pruned_after_thirty_days_in_batches_and_what_waits_is_not() {
    let mut db = Db::in_memory().unwrap();
    db.commit(&tells(1, (0..700).map(|n| notice(n, "a", &["mail"])).collect())).unwrap();
    for _ in 0..699 {
        let row = db.claim("mail", secs(1)).unwrap().unwrap();
        db.settle(row.seq, &delivered(), secs(10)).unwrap();
    }
    let month = 30 * 86_400;
    assert_eq!(db.prune(secs(month + 10)).unwrap(), 0, "not before");
    let mut batches = Vec::new();
    loop {
        match db.prune(secs(month + 11)).unwrap() {
            0 => break,
            rows => batches.push(rows),
        }
    }
    assert_eq!(batches.iter().sum::<usize>(), 2 * 699, "rows and their notices: {batches:?}");
    assert!(batches.len() > 1);
    assert_eq!(db.claim("mail", secs(1)).unwrap().unwrap().notice.title, "notice 699");
}

// ---- the series ---------------------------------------------------------------------------------------------------

#[test]
fn fault_48_two_polls_in_one_millisecond_and_a_clock_that_runs_backwards_keep_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(&dir);
    let (mut db, _) = Db::open(&path).unwrap();
    for (at, cost) in [(10, 1), (10, 2), (3, 4), (12, 8)] {
        let twice = vec![poll(Feed::Deployments, secs(at), Outcome::Complete); 2];
        let changes = vec![Change::Deployment(Arc::new(tracked("d", 1, cost)))];
        db.commit(&StepRecord { at: secs(at), polls: twice, changes, ..StepRecord::default() }).unwrap();
    }
    let mut reader = reader(&path);
    let log = reader.poll_log(Feed::Deployments, 0, 99).unwrap();
    assert_eq!(log.iter().map(|p| p.row.at.secs()).collect::<Vec<_>>(), [10, 10, 10, 10, 3, 3, 12, 12]);
    let cost = |snapshot: &Snapshot| snapshot.deployments[&DeploymentId::new("d")].deployment.total_cost;
    let by_poll: Vec<_> = log.iter().map(|p| cost(&reader.values_of(p.step).unwrap())).collect();
    assert_eq!(by_poll, [1, 1, 2, 2, 4, 4, 8, 8].map(Usd::from_cents));
    assert_eq!(
        cost(&reader.values_at(secs(11)).unwrap().unwrap()),
        Usd::from_cents(4),
        "the last one written"
    );
}

#[test]
fn the_poll_log_keeps_what_went_wrong_word_for_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(&dir);
    let (mut db, _) = Db::open(&path).unwrap();
    let bad = PollRow {
        feed: Feed::Volumes,
        at: Time::from_millis(-7),
        outcome: Outcome::Failed,
        items: u32::MAX,
        failure: Some(FailureKind::RateLimited),
        trouble: Some("RATE_LIMIT: \0 slow down".into()),
    };
    db.commit(&StepRecord { at: secs(1), polls: vec![bad.clone(), bad.clone()], ..StepRecord::default() })
        .unwrap();
    let log = reader(&path).poll_log(Feed::Volumes, 0, 99).unwrap();
    assert_eq!(log.into_iter().map(|p| p.row).collect::<Vec<_>>(), [bad.clone(), bad]);
}

/// What the store must agree with: a snapshot that every record changes, and all that it ever was.
#[derive(Default)]
struct Model {
    snapshot: Snapshot,
    alerts: BTreeMap<AlertKey, AlertState>,
    groups: BTreeMap<GroupKey, Group>,
    polls: BTreeMap<Feed, Time>,
    past: Vec<(Time, Snapshot)>,
}

impl Model {
    fn apply(&mut self, record: &StepRecord) {
        for (key, group) in &record.groups {
            match group {
                Some(group) => drop(self.groups.insert(key.clone(), group.clone())),
                None => drop(self.groups.remove(key)),
            }
        }
        for poll in &record.polls {
            if poll.feed != Feed::Offers {
                self.polls.insert(poll.feed, poll.at);
            }
            if (poll.feed, poll.outcome) != (Feed::Balance, Outcome::Complete) {
                continue;
            }
            for team in self.snapshot.teams.values_mut() {
                if team.balance.is_some() && team.balance_at.is_some() && team.unknown_since.is_none() {
                    Arc::make_mut(team).balance_at = Some(poll.at);
                }
            }
        }
        for change in &record.changes {
            let snapshot = &mut self.snapshot;
            match change.clone() {
                Change::Team(team) => drop(snapshot.teams.insert(team.id.clone(), team)),
                Change::Deployment(d) => drop(snapshot.deployments.insert(d.deployment.id.clone(), d)),
                Change::Volume(v) => drop(snapshot.volumes.insert(v.volume.id.clone(), v)),
                Change::Offers(offers) => snapshot.offers = offers,
                Change::Silence(id, Some(silence)) => drop(snapshot.silences.insert(id, silence)),
                Change::Silence(id, None) => drop(snapshot.silences.remove(&id)),
                Change::Account(account) => {
                    snapshot.shrunk = account.shrunk;
                    snapshot.key_rejected_since = account.key_rejected_since;
                    snapshot.unscoped_covers = account.unscoped_covers;
                    snapshot.first_observed = account.first_observed;
                }
            }
        }
        for (key, state) in &record.alerts {
            match state {
                Some(state) => drop(self.alerts.insert(key.clone(), state.clone())),
                None => drop(self.alerts.remove(key)),
            }
        }
        if !record.polls.is_empty() || !record.changes.is_empty() {
            self.past.push((record.at, self.snapshot.clone()));
        }
    }

    fn at(&self, at: Time) -> Option<Snapshot> {
        self.past.iter().rev().find(|(then, _)| *then <= at).map(|(_, snapshot)| snapshot.clone())
    }
}

fn maybe_time() -> impl Strategy<Value = Option<Time>> {
    proptest::option::of((0..4_i64).prop_map(secs))
}

fn any_deployment() -> impl Strategy<Value = Change> {
    let status = prop_oneof![4 => Just("running"), 1 => Just("terminated"), 1 => Just("paused")];
    let presence = prop_oneof![
        4 => Just(Presence::Listed),
        1 => (0..9_u8).prop_map(|not_found| Presence::Missing { since: secs(3), not_found }),
        1 => Just(Presence::Gone(secs(4))),
    ];
    // Few ids, creation times and attributes, many costs: so that samples, whole rows and new identities mix.
    let parts =
        (0..3_u8, prop_oneof![5 => Just(1_i64), 1 => Just(2)], 0..50_i64, status, presence, maybe_time());
    parts.prop_map(|(id, created, cost, status, presence, unreadable_since)| {
        let mut tracked = tracked(&format!("d{id}"), created, cost);
        tracked.deployment.status = Status::from(Arc::from(status));
        tracked.status_before = unreadable_since.map(|_| Status::Deploying);
        tracked.rate_before = unreadable_since.map(|at| (Usd::from_cents(3), at));
        Change::Deployment(Arc::new(Tracked { presence, unreadable_since, ..tracked }))
    })
}

fn any_volume() -> impl Strategy<Value = Change> {
    let used = prop_oneof![3 => 0..9_u64, 1 => Just(u64::MAX)];
    (0..2_u8, used, maybe_time(), 0..2_usize).prop_map(|(id, used_bytes, gone_at, attached)| {
        let volume = Volume {
            id: VolumeId::new(format!("v{id}")),
            created_at: secs(1),
            name: "data \u{0}".into(),
            team: TeamId::new("t1"),
            provider: "spheron".into(),
            status: VolumeStatus::Attached,
            size_bytes: 1 << 63,
            used_bytes,
            hourly_rate: Usd::from_nanos(13),
            attached_to: vec![DeploymentId::new("d,\"1"); attached],
            last_detached_at: gone_at,
        };
        Change::Volume(Arc::new(TrackedVolume { volume, first_seen: secs(1), gone_at }))
    })
}

fn any_team() -> impl Strategy<Value = Change> {
    let balance = proptest::option::of(0..3_i64);
    let unknown = prop_oneof![3 => Just(None), 1 => maybe_time()];
    let before = 0..3_i64; // often the balance of the row before: then the change is the balance's alone
    (0..2_u8, balance, maybe_time(), unknown, before).prop_map(
        |(id, cents, balance_at, unknown_since, before)| {
            let mut team = team(&format!("t{id}"), 0, secs(0));
            team.balance = cents.map(Usd::from_cents);
            team.previous = balance_at.map(|at| (Usd::from_cents(before), at));
            team.denied = unknown_since.map(|_| "403".into());
            Change::Team(Arc::new(TrackedTeam { balance_at, unknown_since, ..team }))
        },
    )
}

fn any_rest() -> impl Strategy<Value = Change> {
    let offer = |n: i64| Offer {
        id: "o".into(),
        provider: "p".into(),
        gpu_type: "H100".into(),
        gpu_count: 1,
        instance_type: InstanceType::new("SPOT"),
        region: "r".into(),
        price: Usd::from_cents(n),
        available: true,
    };
    prop_oneof![
        (0..3_i64).prop_map(move |n| Change::Offers(Arc::new((0..n).map(offer).collect()))),
        (0..2_u8, proptest::option::of(1..4_i64)).prop_map(|(id, ends)| {
            let id: Arc<str> = format!("sil_{id}").into();
            let silence = ends.map(|ends| Silence {
                id: id.clone(),
                matchers: BTreeMap::from([("rule".into(), "a*".into())]),
                starts: secs(0),
                ends: secs(ends),
                author: "ann".into(),
                comment: "\u{202e}\"".into(),
            });
            Change::Silence(id, silence.map(Arc::new))
        }),
        (maybe_time(), any::<bool>()).prop_map(|(at, unscoped_covers)| {
            Change::Account(Account { key_rejected_since: at, unscoped_covers, ..Account::default() })
        }),
    ]
}

fn entry(subject: &str) -> Entry {
    Entry {
        key: key(subject),
        transition: Transition::Firing,
        since: secs(1),
        nth: 0,
        at: secs(2),
        due: secs(3),
        flapping: true,
    }
}

fn any_record() -> impl Strategy<Value = StepRecord> {
    let outcome = prop_oneof![2 => Just(Outcome::Complete), 1 => Just(Outcome::Partial)];
    let feed = prop_oneof![2 => Just(Feed::Balance), 1 => Just(Feed::Offers)];
    let polls = proptest::collection::vec((feed, 0..40_i64, outcome), 0..3);
    let change = prop_oneof![6 => any_deployment(), 3 => any_team(), 2 => any_volume(), 1 => any_rest()];
    let alert = ("[ab]", proptest::option::of(0..5_u32)).prop_map(|(subject, since)| {
        (
            key(&subject),
            since.map(|since| AlertState::Pending { since: secs(i64::from(since)), fired: vec![secs(1)] }),
        )
    });
    let changes = proptest::collection::vec(change, 0..5);
    let group = ("[ab]", proptest::option::of(proptest::collection::vec("[abc]", 0..3))).prop_map(
        |(labels, waits)| {
            let group_key = GroupKey { receiver: "ops".into(), labels: labels.into() };
            let group = waits.map(|waits| Group {
                flushed: Some(secs(1)),
                waiting: waits.iter().map(|subject| (key(subject), entry(subject))).collect(),
            });
            (group_key, group)
        },
    );
    let state = (proptest::collection::vec(alert, 0..2), proptest::collection::vec(group, 0..2));
    (0..30_i64, polls, changes, state).prop_map(|(at, polls, changes, (alerts, groups))| {
        let polls = polls.into_iter().map(|(feed, at, outcome)| poll(feed, secs(at), outcome)).collect();
        StepRecord { at: secs(at), polls, changes, alerts, groups, ..StepRecord::default() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_committed_the_present_and_every_past_instant_are_rebuilt(
        records in proptest::collection::vec(any_record(), 1..25),
    ) {
        let mut db = Db::in_memory().unwrap();
        let mut model = Model::default();
        for record in &records {
            db.commit(record).unwrap();
            model.apply(record);
        }
        let mut present = db.recover().unwrap();
        present.snapshot.balance_history.clear();
        let expected = Recovered {
            snapshot: model.snapshot.clone(),
            alerts: model.alerts.clone(),
            groups: model.groups.clone(),
            polls: model.polls.clone(),
            books: Books::default(),
            actions: Vec::new(),
        };
        prop_assert_eq!(present, expected);
        for at in -1..31 {
            prop_assert_eq!(db.values_at(secs(at)).unwrap(), model.at(secs(at)), "at {}", at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn fault_42_what_is_forgotten_changes_nothing_that_is_kept(
        records in proptest::collection::vec(any_record(), 1..25),
        keep in 0..30_u64,
        forget_at in 0..30_usize,
    ) {
        let options = Options { keep_raw: Some(Duration::from_secs(keep)), ..Options::default() };
        let mut db = Db::in_memory_with(&options).unwrap();
        let mut model = Model::default();
        let now = secs(30);
        let oldest = 30 - i64::try_from(keep).unwrap();
        for (index, record) in records.iter().enumerate() {
            db.commit(record).unwrap();
            model.apply(record);
            if index == forget_at {
                while db.prune(now).unwrap() > 0 {}
            }
        }
        let before = db.recover().unwrap();
        while db.prune(now).unwrap() > 0 {}
        let mut after = db.recover().unwrap();
        prop_assert_eq!(&after.polls, &before.polls);
        after.snapshot.balance_history.clear();
        prop_assert_eq!(&after.snapshot, &model.snapshot);
        for at in oldest..31 {
            prop_assert_eq!(db.values_at(secs(at)).unwrap(), model.at(secs(at)), "at {}", at);
        }
    }
}

#[test]
fn fault_42_years_of_polls_leave_a_bounded_file() {
    let day = Duration::from_secs(86_400);
    let options = Options { keep_raw: Some(day * 10), ..Options::default() };
    let mut db = Db::in_memory_with(&options).unwrap();
    let (mut sizes, mut cents) = (Vec::new(), 0);
    for step in 0..200 * 24 {
        let at = secs(1_800_000_000 + step * 3_600);
        cents += 146;
        let mut lab = team("t1", 1_000_000 - cents, at);
        lab.previous = Some((Usd::from_cents(1_000_000 - cents + 146), at));
        let record = StepRecord {
            at,
            polls: vec![
                poll(Feed::Balance, at, Outcome::Complete),
                poll(Feed::Deployments, at, Outcome::Complete),
            ],
            changes: vec![Change::Team(Arc::new(lab)), Change::Deployment(Arc::new(tracked("d1", 5, cents)))],
            ..StepRecord::default()
        };
        db.commit(&record).unwrap();
        db.prune(at).unwrap();
        if step % (24 * 20) == 0 {
            sizes.push(db.size_bytes());
        }
    }
    assert!(sizes[3..].iter().all(|size| *size <= sizes[2] + 8_192), "{sizes:?}");
    let last = secs(1_800_000_000 + (200 * 24 - 1) * 3_600);
    assert!(db.values_at(last.minus(day * 9)).unwrap().is_some());
    assert_eq!(db.values_at(last.minus(day * 12)).unwrap(), None, "forgotten");
}

/// What the first schema's daemons left on disks.
fn of_the_first_version(path: &Path) {
    let schema = include_str!("../src/store/schema/0001_first.sql");
    let digest: String = Sha256::digest(schema).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        digest, "19aa4389d14d13e19dd12469c882b5bb9010ac886a8d69c9f8c4356de9275d13",
        "it was released: databases out there have run it"
    );
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(&format!("{schema}; PRAGMA user_version = 1;")).unwrap();
    conn.execute_batch(include_str!("store/first_version.sql")).unwrap();
}

#[test]
fn fault_37_a_database_of_the_first_version_is_brought_forward_and_keeps_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.db");
    of_the_first_version(&path);
    let (mut db, recovered) = Db::open(&path).unwrap();
    assert!(Path::new(&format!("{}.before-{}", path.display(), version(&path))).exists(), "a copy of before");

    let snapshot = &recovered.snapshot;
    let train = &snapshot.deployments[&DeploymentId::new("d1")];
    assert_eq!((&*train.deployment.name, train.deployment.total_cost), ("train", Usd::from_cents(500)));
    assert_eq!(snapshot.deployments[&DeploymentId::new("d2")].deployment.status, Status::Terminated);
    let lab = &snapshot.teams[&TeamId::new("t1")];
    assert_eq!(lab.balance, Some(Usd::from_cents(9_700)));
    assert_eq!(lab.previous, Some((Usd::from_cents(10_000), secs(1_800_000_060))));
    assert_eq!(snapshot.volumes[&VolumeId::new("v1")].volume.used_bytes, 120_000_000_000);
    assert!(snapshot.unscoped_covers);
    let history = &*snapshot.balance_history[&TeamId::new("t1")];
    assert_eq!(history.iter().map(|(_, usd)| *usd).collect::<Vec<_>>(), [10_000, 9_700].map(Usd::from_cents));
    let firing: Vec<&str> =
        recovered.alerts.iter().filter(|(_, state)| state.is_firing()).map(|(key, _)| &*key.rule).collect();
    assert_eq!((recovered.alerts.len(), &firing[..]), (3, &["low-balance"][..]));
    assert_eq!(
        recovered.books,
        Books { seen: Some(Time::from_millis(1_800_000_060_005)), ..Books::default() }
    );

    let row = db.claim("chat", secs(1_800_000_200)).unwrap().unwrap();
    assert_eq!((row.seq, &*row.notice.title), (2, "low balance: Lab has $97.00 left"));
    let mut cost = (**train).clone();
    cost.deployment.total_cost = Usd::from_cents(600);
    let change = Change::Deployment(Arc::new(cost));
    db.commit(&StepRecord { at: secs(1_800_000_200), changes: vec![change], ..StepRecord::default() })
        .unwrap();
    let again = db.recover().unwrap().snapshot;
    assert_eq!(again.deployments[&DeploymentId::new("d1")].deployment.total_cost, Usd::from_cents(600));
    let then = db.values_at(secs(1_800_000_001)).unwrap().unwrap();
    assert_eq!(then.deployments[&DeploymentId::new("d1")].deployment.total_cost, Usd::from_cents(400));
}

fn version(path: &Path) -> i64 {
    let conn = Connection::open(path).unwrap();
    conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}
