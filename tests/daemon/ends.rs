//! kill −9 at each stage of an end, and amid each commit that leads to one: whatever the moment, the same end state, and never
//! two DELETEs without a read between.
//!
//! `cargo test --test daemon killed_at_each_stage -- --nocapture` prints what each life was.

use std::{collections::BTreeSet, time::Duration};

use rusqlite::{Connection, config::DbConfig};
use spheron_watch::{
    model::{DeploymentId, StageName, Status, Time},
    sim::{Endpoint, Fault},
};

use crate::{
    bench::{Bench, GRACE, LONG, Manner},
    lab::{Daemon, stopwatch, within},
    wire::{Call, path_of},
};

const POLICY: &str = "[[policy]]\nname = \"dev\"\nmatch = { name = [\"dev-*\", \"prod-*\"] }\n\
    when = { running_for = \"1m\" }\ngrace = \"1m\"\n";
const DOOMED: &str = "dev-forgotten";
/// One is protected, the other not matched.
const OTHERS: [&str; 2] = ["prod-db", "train"];
/// An hour is for ever here.
const NO_ANSWER: Fault = Fault::Delay(Duration::from_secs(3_600));
/// So long lists have to be whole after a start before anything is announced.
const WINDOW: Duration = Duration::from_secs(60);
/// No commit takes that long by itself.
const AMID: Duration = Duration::from_secs(1);

/// Where one daemon is killed, and what keeps it there until then.
#[derive(Clone)]
struct Case {
    name: &'static str,
    /// Where the database shows it then; `None`: there is no action yet.
    stage: Option<StageName>,
    /// The webhook's other end takes the announcement and does not answer.
    unheard: bool,
    /// What comes of a call to the account, from this stage on.
    account: Option<(StageName, Endpoint, Fault)>,
    /// A write to the disk that takes for ever.
    disk: Option<Write>,
    deletes: usize,
}

#[derive(Clone, Copy)]
enum Write {
    Intent,
    Step(StageName),
}

impl Case {
    const fn new(name: &'static str, stage: StageName) -> Self {
        Self { name, stage: Some(stage), unheard: false, account: None, disk: None, deletes: 1 }
    }

    fn with(self, from: StageName, on: Endpoint, what: Fault) -> Self {
        Self { account: Some((from, on, what)), ..self }
    }

    fn amid(self, write: Write) -> Self {
        Self { disk: Some(write), ..self }
    }
}

fn cases() -> Vec<Case> {
    use StageName::{Announced, Checking, Committing, Gone, InDoubt, Marked, Reading, Requested, Verifying};
    let amid = |name, stage, to| Case::new(name, stage).amid(Write::Step(to));
    vec![
        Case { unheard: true, ..Case::new("marked", Marked) },
        Case::new("announced", Announced),
        Case::new("final read", Reading).with(Announced, Endpoint::Detail, Fault::Hang),
        Case::new("can-terminate", Checking).with(Announced, Endpoint::CanTerminate, Fault::Hang),
        Case::new("committing, amid the intent", Committing).amid(Write::Intent),
        amid("committing, with the intent", Committing, Requested),
        Case { deletes: 2, ..Case::new("requested, not received", Requested) }.with(
            Announced,
            Endpoint::Delete,
            Fault::Hang,
        ),
        Case::new("requested, done, not answered", Requested).with(Announced, Endpoint::Delete, NO_ANSWER),
        Case::new("in doubt", InDoubt).with(Announced, Endpoint::Delete, Fault::LostAnswer),
        Case::new("verifying", Verifying).with(Verifying, Endpoint::Detail, Fault::Hang),
        Case::new("gone", Gone),
        Case { stage: None, ..amid("amid marked", Marked, Marked) },
        amid("amid announced", Marked, Announced),
        amid("amid final read", Announced, Reading),
        amid("amid can-terminate", Reading, Checking),
        amid("amid committing", Checking, Committing),
        amid("amid in doubt", Requested, InDoubt).with(Announced, Endpoint::Delete, Fault::LostAnswer),
        amid("amid verifying", Requested, Verifying),
        amid("amid gone", Verifying, Gone),
    ]
}

#[test]
fn fault_18_killed_at_each_stage_it_comes_to_the_same_end_and_deletes_once() {
    let cases = cases();
    for stage in StageName::ALL {
        // The others end it otherwise, or are no stage of an end.
        let otherwise = matches!(
            stage,
            StageName::Withheld | StageName::Refused | StageName::Expired | StageName::Cancelled
        );
        assert!(otherwise || cases.iter().any(|case| case.stage == Some(stage)), "{stage:?} is left out");
    }
    let mut lives = vec![("untouched", std::thread::spawn(|| end_of(began(), 1, "untouched")))];
    for case in cases {
        // Not all of them start at the same moment.
        std::thread::sleep(Duration::from_millis(300));
        lives.push((case.name, std::thread::spawn(move || live_and_die(&case))));
    }
    // Every daemon ends with its thread, so all are waited for.
    let ends: Vec<_> = lives.into_iter().map(|(name, life)| (name, life.join())).collect();
    let mut failed = Vec::new();
    let mut untouched = None;
    for (name, end) in &ends {
        let Ok((end, went)) = end else {
            failed.push(name);
            continue;
        };
        println!("{name}: {went}");
        assert_eq!(end, *untouched.get_or_insert(end), "{name}: the same as of the one that was not killed");
    }
    assert!(failed.is_empty(), "{failed:?}: see above");
}

/// What is the same, whatever happened on the way.
#[derive(Debug, PartialEq, Eq)]
struct End {
    doomed: Status,
    others: Vec<Status>,
    stage: String,
    armed: String,
    ended: u64,
    told_of_the_end: usize,
}

/// A bench whose policy is armed, and whose daemon runs.
fn began() -> (Bench, Daemon) {
    let bench = Bench::new(&[DOOMED, OTHERS[0], OTHERS[1]], &format!("{}{POLICY}", Bench::alarm()));
    let daemon = bench.start();
    bench.wait_for_alarm();
    bench.arm("dev");
    (bench, daemon)
}

fn live_and_die(case: &Case) -> (End, String) {
    let note = case.name;
    let (bench, mut daemon) = began();
    if let Some(write) = case.disk {
        bench.lab.tamper(&slow(write));
    }
    if case.unheard {
        bench.set_manner(Manner::Hangs);
    }
    if let Some((from, on, what)) = case.account.clone() {
        bench.wait_for_stage("dev", from);
        bench.fault(on, what);
    }
    within(LONG, &format!("{note}: its stage"), || {
        assert!(daemon.is_alive(), "{note}: {}", daemon.log());
        (bench.stage("dev") == case.stage).then_some(())
    });
    wait_until_held(case, &bench);
    daemon.kill();
    drop(daemon);

    assert_eq!(bench.stage("dev"), case.stage, "{note}: when it was killed");
    let last = bench.last("dev");
    let intent = last.as_ref().and_then(|row| row.intent);
    let committed = case.stage.is_some_and(|stage| !stage.is_stoppable());
    let committed = committed || matches!(case.disk, Some(Write::Step(StageName::Requested)));
    assert_eq!(intent.is_some(), committed, "{note}: {last:?}");
    let deleted = case.stage.is_some_and(|stage| !stage.is_stoppable());
    assert_eq!(bench.wire.count("DELETE", bench.id(DOOMED)), usize::from(deleted), "{note}");

    bench.set_manner(Manner::Takes);
    bench.no_faults();
    if case.disk.is_some() {
        bench.lab.tamper("DROP TRIGGER slow; DROP VIEW endless;");
    }
    if case.deletes == 2 {
        assert_eq!(bench.status(DOOMED), Status::Running, "{note}: it was not received");
        // It is given ten minutes to have its effect.
        bench.time_passes(Duration::from_secs(600));
    }
    let daemon = bench.start();
    end_of((bench, daemon), case.deletes, note)
}

/// A trigger whose work has no end.
fn slow(write: Write) -> String {
    let on = match write {
        Write::Intent => "UPDATE OF intent ON action".to_owned(),
        Write::Step(to) => format!("INSERT ON shift WHEN NEW.to_stage = '{}'", to.as_str()),
    };
    format!(
        "CREATE VIEW endless AS
           WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count) SELECT max(n) AS n FROM count;
         CREATE TRIGGER slow BEFORE {on} BEGIN SELECT n FROM endless; END;"
    )
}

/// Until what holds it is seen to hold it.
fn wait_until_held(case: &Case, bench: &Bench) {
    let id = bench.id(DOOMED);
    if case.unheard {
        bench.wait_to_hear("dev", "will be ended");
    }
    match &case.account {
        Some((_, Endpoint::Delete, _)) => {
            within(LONG, case.name, || (bench.wire.count("DELETE", id) == 1).then_some(()))
        }
        Some((from, Endpoint::Detail, _)) => {
            // After the DELETE the final read has been.
            let reads = if *from == StageName::Verifying { 2 } else { 1 };
            within(LONG, case.name, || (bench.wire.count("GET", id) >= reads).then_some(()));
        }
        Some(_) => {
            let path = format!("{}/can-terminate", path_of(id));
            let asked = || bench.wire.calls().iter().any(|call| call.path == path).then_some(());
            within(LONG, case.name, asked);
        }
        None => {}
    }
    if case.disk.is_some() {
        let conn = Connection::open(bench.lab.database()).unwrap();
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        conn.busy_timeout(Duration::ZERO).unwrap();
        let mut held = stopwatch();
        within(LONG, &format!("{}: a commit without an end", case.name), || {
            if conn.execute_batch("BEGIN IMMEDIATE; ROLLBACK;").is_ok() {
                held = stopwatch();
            }
            (held() > AMID).then_some(())
        });
    }
}

/// Waits for the end, and for what may come after it; holds everything that happened to the rules, and says what did.
fn end_of((bench, daemon): (Bench, Daemon), deletes: usize, note: &str) -> (End, String) {
    let life = stopwatch();
    bench.wait_for_stage("dev", StageName::Gone);
    bench.wait_to_hear("dev", "ended:");
    // Two polls; and after a restart a whole window, for what has ended must not begin again.
    let until = life().max(WINDOW) + Duration::from_secs(20);
    std::thread::sleep(until.saturating_sub(life()));
    let actions = bench.actions("dev");
    let steps: Vec<_> = actions.iter().map(|row| bench.steps(&row.id)).collect();
    let went = format!("{:.0?} in its last life: {steps:?}", life());

    bench.assert_legal("dev", note);
    let calls = bench.wire.calls();
    let deleted: Vec<&Call> = calls.iter().filter(|call| call.method != "GET").collect();
    let only = path_of(bench.id(DOOMED));
    assert!(deleted.iter().all(|call| call.method == "DELETE" && call.path == only), "{note}: {deleted:#?}");
    assert_eq!(deleted.len(), deletes, "{note}: {deleted:#?}\n{}", daemon.log());
    assert_eq!(unread(&calls, bench.id(DOOMED)), None, "{note}");
    let asked: Vec<_> = actions.iter().filter(|row| row.requests > 0).collect();
    assert_eq!((asked.len(), actions.len()), (deletes, deletes), "{note}: {actions:#?}");
    for (row, call) in asked.iter().zip(&deleted) {
        let sent = bench.hook.sent().into_iter().filter(|sent| sent.id == row.announcement);
        let told: Vec<Time> = sent.map(|sent| sent.at).collect();
        assert!(was_told(&told, call.at), "{note}: told {told:?}, deleted {}", call.at);
    }
    let ids: BTreeSet<String> = bench.heard("dev", "ended:").into_iter().map(|(id, _)| id).collect();
    let policy = bench.get("policies/dev");
    let policy = &policy["policy"];
    let end = End {
        doomed: bench.status(DOOMED),
        others: OTHERS.map(|name| bench.status(name)).into(),
        stage: actions.last().unwrap().stage.clone(),
        armed: policy["state"].as_str().unwrap().to_owned(),
        ended: policy["ended"].as_u64().unwrap(),
        told_of_the_end: ids.len(),
    };
    (end, went)
}

/// When a DELETE was sent though nothing was read of this deployment since the last one.
fn unread(calls: &[Call], id: &DeploymentId) -> Option<Time> {
    let path = path_of(id);
    let mut is_read = true;
    for call in calls.iter().filter(|call| call.path == path) {
        match call.method.as_str() {
            "GET" => is_read = true,
            _ if !is_read => return Some(call.at),
            _ => is_read = false,
        }
    }
    None
}

/// What came last of an announcement came a whole grace before the DELETE.
fn was_told(arrived: &[Time], deleted: Time) -> bool {
    arrived.iter().max().is_some_and(|last| last.plus(GRACE) <= deleted)
}

#[test]
fn a_second_delete_without_a_read_between_and_one_within_the_grace_are_seen() {
    let id = DeploymentId::new("a");
    let log = |calls: &[&str]| -> Vec<Call> {
        let call = |(nth, call): (usize, &&str)| {
            let (method, path) = call.split_once(' ').unwrap();
            let at = Time::from_secs(i64::try_from(nth).unwrap());
            Call { at, method: method.to_owned(), path: path.to_owned() }
        };
        calls.iter().enumerate().map(call).collect()
    };
    let (read, check, delete) =
        ("GET /api/deployments/a", "GET /api/deployments/a/can-terminate", "DELETE /api/deployments/a");
    assert_eq!(unread(&log(&[read, check, delete, read, delete, read]), &id), None);
    assert_eq!(
        unread(&log(&[read, check, delete, delete]), &id),
        Some(Time::from_secs(3)),
        "repeated blindly"
    );
    let elsewhere = ["GET /api/deployments", "GET /api/deployments/b", check];
    let calls = log(&[read, delete, elsewhere[0], elsewhere[1], elsewhere[2], delete]);
    assert_eq!(unread(&calls, &id), Some(Time::from_secs(5)), "what was read is something else");
    let at = Time::from_secs;
    assert!(was_told(&[at(0), at(40)], at(100)));
    assert!(!was_told(&[at(0), at(40)], at(99)), "within the grace");
    assert!(!was_told(&[], at(99)), "nobody was told");
}
