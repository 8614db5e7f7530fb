//! The rows of policies from outside: what comes back, what nobody can change, and when an intent is committed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::tz::TimeZone;
use rusqlite::Connection;
use spheron_watch::{
    clock::Clock,
    drive::Core,
    engine::{Engine, Money},
    model::{
        Act, Action, ActionId, AlertKey, Arming, Audit, CanTerminate, Cancel, Change, Check, Condition, Deed,
        Deployment, DeploymentId, EventId, FinalRead, Glob, InstanceType, Keep, MatchKey, Matcher, Notice,
        Order, Policies, Policy, Presence, Proof, Receipt, Restored, Severity, Shift, Slot, Stage, StageName,
        Status, StepRecord, Target, TeamId, Time, Tracked, TrackedTeam, Transition, Usd, Why, Wish,
    },
    store::{Db, Intent, Reader, Recovered},
};

const NOW: Time = Time::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn deployment() -> Deployment {
    Deployment {
        id: DeploymentId::new("a"),
        created_at: NOW.minus(HOUR * 20),
        name: "dev-a".into(),
        team: TeamId::new("t1"),
        gpu_type: "h100".into(),
        gpu_count: 1,
        provider: "spheron-ai".into(),
        region: "us-east-1".into(),
        instance_type: InstanceType::new("DEDICATED"),
        status: Status::Running,
        hourly_rate: Usd::from_cents(200),
        total_cost: Usd::from_cents(4_000),
        started_at: None,
        stopped_at: None,
        kubernetes: false,
        access: Default::default(),
    }
}

fn action(stage: Stage) -> Action {
    let target = Target::of(&deployment());
    Action {
        id: ActionId::derive("idle", &target, NOW),
        policy: "idle".into(),
        target,
        name: "dev-a".into(),
        team: TeamId::new("t1"),
        rate: Usd::from_cents(200),
        marked: NOW,
        fingerprint: "f1".into(),
        seq: 3,
        requests: Vec::new(),
        stage,
    }
}

fn marked() -> Action {
    action(Stage::Marked { notice: EventId::from_text("evt_1"), floor: None })
}

fn committing() -> Action {
    let read = FinalRead { sent: NOW, skew_ms: Some(0), deployment: Box::new(deployment()) };
    let answer = CanTerminate { can_terminate: true, minutes_remaining: 0, minutes_minimum: 20 };
    let check = Check { sent: NOW, skew_ms: Some(0), answer };
    let slot = Slot { told: NOW, at: NOW, reminded: true };
    action(Stage::Committing { slot, read, check, asked: NOW })
}

fn keep(until: Option<Time>) -> Wish {
    let keep = Keep {
        id: "kp_1".into(),
        target: Target::of(&deployment()),
        until,
        by: "ann".into(),
        reason: "a demo".into(),
        at: NOW,
    };
    Wish::Keep("kp_1".into(), Some(Arc::new(keep)))
}

fn arming(fingerprint: &str) -> Wish {
    let arming = Arming {
        policy: "idle".into(),
        fingerprint: fingerprint.into(),
        armed_at: NOW,
        by: "ann".into(),
        acknowledged: BTreeSet::from([Target::of(&deployment())]),
    };
    Wish::Arming("idle".into(), Some(Arc::new(arming)))
}

fn cancel() -> Wish {
    Wish::Cancel(committing().id, Some(Cancel { at: NOW, by: "ann".into() }))
}

fn shift(to: StageName) -> Shift {
    Shift { action: marked().id, at: NOW, from: None, to, reason: Why::Qualifies { because: "idle".into() } }
}

fn record(actions: Vec<Action>, shifts: Vec<Shift>, wishes: Vec<Wish>) -> StepRecord {
    StepRecord { at: NOW, actions, shifts, wishes, ..StepRecord::default() }
}

fn intent() -> Intent {
    let Action { id, seq, target, policy, fingerprint, .. } = committing();
    Intent { action: id, seq, target, policy, fingerprint }
}

#[test]
fn actions_and_what_people_want_come_back_and_what_is_withdrawn_does_not() {
    let mut db = Db::in_memory().unwrap();
    let wishes = vec![keep(None), arming("f1"), cancel()];
    db.commit(&record(vec![marked()], vec![shift(StageName::Marked)], wishes)).unwrap();
    db.commit(&record(vec![committing()], Vec::new(), Vec::new())).unwrap();
    let recovered = db.recover().unwrap();
    assert_eq!(recovered.actions, [committing()], "as it stood last");
    let snapshot = &recovered.snapshot;
    assert_eq!((&*snapshot.keeps["kp_1"].by, &*snapshot.armings["idle"].fingerprint), ("ann", "f1"));
    assert_eq!(snapshot.cancels[&committing().id], Cancel { at: NOW, by: "ann".into() });

    let withdrawn = vec![
        Wish::Keep("kp_1".into(), None),
        Wish::Arming("idle".into(), None),
        Wish::Cancel(committing().id, None),
    ];
    db.commit(&record(Vec::new(), Vec::new(), withdrawn)).unwrap();
    let snapshot = db.recover().unwrap().snapshot;
    assert!(snapshot.keeps.is_empty() && snapshot.armings.is_empty() && snapshot.cancels.is_empty());
}

#[test]
fn the_record_of_actions_is_never_changed_deleted_or_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.db");
    let (mut db, _) = Db::open(&path).unwrap();
    db.commit(&record(vec![marked()], vec![shift(StageName::Marked)], Vec::new())).unwrap();
    drop(db);
    let conn = Connection::open(&path).unwrap();
    let rows = || -> (i64, String) {
        let one = "SELECT count(*), max(to_stage) FROM shift";
        conn.query_row(one, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    assert_eq!(rows(), (1, "marked".to_owned()));
    for (what, sql) in [
        ("UPDATE", "UPDATE shift SET to_stage = 'gone'"),
        ("DELETE", "DELETE FROM shift"),
        (
            "REPLACE",
            "INSERT OR REPLACE INTO shift (seq, action, at, to_stage, reason) VALUES (1, 'x', 0, 'gone', '{}')",
        ),
        (
            "upsert",
            "INSERT INTO shift (seq, action, at, to_stage, reason) VALUES (1, 'x', 0, 'gone', '{}')
                    ON CONFLICT (seq) DO UPDATE SET to_stage = 'gone'",
        ),
    ] {
        let refused = conn.execute(sql, []).unwrap_err();
        assert!(refused.to_string().contains("the record of actions is never"), "{what}: {refused}");
        assert_eq!(rows(), (1, "marked".to_owned()), "{what}");
    }
}

#[test]
fn an_intent_is_committed_once_and_only_while_all_that_it_rests_on_holds() {
    let fresh = |wishes: Vec<Wish>| {
        let mut db = Db::in_memory().unwrap();
        db.commit(&record(vec![committing()], Vec::new(), [vec![arming("f1")], wishes].concat())).unwrap();
        db
    };
    let mut db = fresh(Vec::new());
    assert_eq!(db.commit_intent(&intent(), NOW).unwrap(), Ok(()));
    assert!(db.commit_intent(&intent(), NOW).unwrap().is_err(), "it is performed once");
    db.commit(&record(vec![Action { seq: 4, ..committing() }], Vec::new(), Vec::new())).unwrap();
    assert_eq!(db.commit_intent(&Intent { seq: 4, ..intent() }, NOW).unwrap(), Ok(()), "the next one");

    let refused = |wishes: Vec<Wish>, intent: Intent| fresh(wishes).commit_intent(&intent, NOW).unwrap();
    for (wishes, part) in [
        (vec![keep(None)], "somebody keeps it"),
        (vec![keep(Some(NOW.plus(HOUR)))], "somebody keeps it"),
        (vec![cancel()], "cancelled"),
        (vec![Wish::Arming("idle".into(), None)], "not armed as it was"),
        (vec![arming("f2")], "not armed as it was"),
    ] {
        let why = refused(wishes, intent()).unwrap_err();
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(refused(vec![keep(Some(NOW))], intent()), Ok(()), "a keep that is over keeps nothing");
    let elsewhere = Target { created_at: NOW, ..intent().target };
    for (what, other) in [
        ("an act before the last", Intent { seq: 2, ..intent() }),
        ("an act that was not asked for", Intent { seq: 4, ..intent() }),
        ("another deployment of this id", Intent { target: elsewhere, ..intent() }),
        ("another fingerprint", Intent { fingerprint: "f2".into(), ..intent() }),
        ("another policy", Intent { policy: "other".into(), ..intent() }),
        ("another action", Intent { action: ActionId::from_text("act_0"), ..intent() }),
    ] {
        assert!(refused(Vec::new(), other).is_err(), "{what}");
    }
    let mut db = fresh(Vec::new());
    let slot = Slot { told: NOW, at: NOW, reminded: true };
    let back = action(Stage::Announced { slot, next: NOW });
    db.commit(&record(vec![back], Vec::new(), Vec::new())).unwrap();
    assert!(db.commit_intent(&intent(), NOW).unwrap().is_err(), "the action went back");
}

fn announcement() -> Notice {
    Notice {
        id: EventId::from_text("evt_1"),
        key: AlertKey { rule: "policy/idle".into(), subject: marked().target.subject() },
        kind: "policy".into(),
        transition: Transition::Event,
        severity: Severity::Warning,
        title: "dev-a will be ended".into(),
        reason: String::new(),
        advice: String::new(),
        details: Vec::new(),
        since: NOW,
        at: NOW,
        receivers: vec!["ops".into(), "chat".into(), "log".into()],
        bars: Vec::new(),
        together: Default::default(),
        grant: None,
        link: None,
    }
}

#[test]
fn who_took_an_announcement_is_known_while_its_action_is_open_and_that_a_receiver_works_is_not_forgotten() {
    let mut db = Db::in_memory().unwrap();
    let told = StepRecord { notices: vec![announcement()], ..record(vec![marked()], Vec::new(), Vec::new()) };
    db.commit(&told).unwrap();
    assert_eq!(db.heard().unwrap(), Default::default());
    let mut settle = |receiver: &str, receipt: Receipt| {
        let row = db.claim(receiver, NOW).unwrap().unwrap();
        db.settle(row.seq, &receipt, NOW).unwrap();
        db.heard().unwrap()
    };
    let heard = settle("chat", Receipt::Retry { why: "busy".into(), next: NOW });
    assert_eq!((heard.told.len(), heard.confirmed.len()), (0, 0), "tried is not taken");
    settle("ops", Receipt::Delivered { detail: "200".into() });
    let heard = settle("log", Receipt::Delivered { detail: String::new() });
    let who: Vec<&str> = heard.told[&announcement().id].keys().map(|name| &**name).collect();
    assert_eq!(who, ["log", "ops"]);

    db.commit(&record(vec![committing()], Vec::new(), Vec::new())).unwrap();
    assert_eq!(db.heard().unwrap(), heard, "later stages do not name it, and it is known still");
    assert_eq!(db.recover().unwrap().snapshot.told, heard.told);
    db.commit(&record(vec![action(Stage::Expired { at: NOW })], Vec::new(), Vec::new())).unwrap();
    assert!(db.heard().unwrap().told.is_empty());
    while db.prune(NOW.plus(HOUR * 24 * 40)).unwrap() > 0 {}
    assert_eq!(db.heard().unwrap().confirmed, heard.confirmed);
    assert_eq!(heard.confirmed["ops"], NOW);
}

fn audit(order: Order) -> Audit {
    Audit { at: NOW, by: "ann".into(), order }
}

#[test]
fn every_order_is_on_record_the_newest_first_and_that_is_never_changed_deleted_or_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.db");
    let (mut db, _) = Db::open(&path).unwrap();
    let (Wish::Arming(_, Some(arming)), Wish::Keep(_, Some(keep))) = (arming("f1"), keep(None)) else {
        panic!("they are there")
    };
    let Action { id, policy, target, .. } = committing();
    let orders = [
        Order::Armed { arming: arming.clone() },
        Order::Kept { keep: keep.clone() },
        Order::Cancelled { action: id, policy, target },
        Order::KeepEnded { keep },
        Order::Disarmed { arming },
    ]
    .map(audit);
    let record = StepRecord { audit: orders.to_vec(), ..StepRecord::default() };
    assert!(!record.is_empty() && !record.is_quiet(), "it is worth a commit");
    db.commit(&record).unwrap();
    drop(db);
    let mut reader = Reader::open(&path, Clock::system(), HOUR).unwrap();
    let rows = reader.audit(2, None).unwrap();
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [5, 4]);
    let rest = reader.audit(9, Some(4)).unwrap();
    let all: Vec<Audit> = rows.into_iter().chain(rest).rev().map(|row| row.audit).collect();
    assert_eq!(all, orders);

    let conn = Connection::open(&path).unwrap();
    let rows = || -> (i64, String) {
        conn.query_row("SELECT count(*), group_concat(what || ' ' || subject) FROM audit", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap()
    };
    let before = rows();
    assert_eq!(before.0, 5);
    assert!(before.1.starts_with("armed idle,kept deployment/a@"), "{}", before.1);
    for sql in [
        "UPDATE audit SET who = 'nobody'",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit (seq, at, what, subject, who, body) VALUES (1, 0, 'x', 'x', 'x', '{}')",
        "INSERT INTO audit (seq, at, what, subject, who, body) VALUES (1, 0, 'x', 'x', 'x', '{}')
           ON CONFLICT (seq) DO UPDATE SET who = 'nobody'",
    ] {
        let refused = conn.execute(sql, []).unwrap_err();
        assert!(refused.to_string().contains("the record of orders is never"), "{sql}: {refused}");
        assert_eq!(rows(), before, "{sql}");
    }
}

/// The database of a daemon that armed a policy and announced an end, and where its copies go.
struct Copies {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
    copy: std::path::PathBuf,
}

impl Copies {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("watch.db"), dir.path().join("copy"));
        let copies = Self { _dir: dir, path, copy };
        copies.commit(record(vec![announced()], Vec::new(), vec![arming("f1")]));
        copies
    }

    /// A start that commits this.
    fn commit(&self, record: StepRecord) {
        Db::open(&self.path).unwrap().0.commit(&record).unwrap();
    }

    fn restored(&self) -> Option<Restored> {
        Db::open(&self.path).unwrap().1.snapshot.restored.map(|restored| (*restored).clone())
    }

    fn copy(&self) {
        std::fs::copy(&self.path, &self.copy).unwrap();
    }

    fn put_back(&self) {
        std::fs::copy(&self.copy, &self.path).unwrap();
    }

    fn marker(&self) -> std::path::PathBuf {
        self.path.with_extension("db.orders")
    }
}

fn announced() -> Action {
    let slot = Slot { told: NOW, at: NOW.plus(HOUR), reminded: false };
    action(Stage::Announced { slot, next: slot.at })
}

fn behind(lacks: u64) -> Option<Restored> {
    Some(Restored { lacks: Some(lacks), armed: vec!["idle".into()] })
}

#[test]
fn fault_38_a_copy_that_is_put_back_is_known_until_it_is_disowned_and_no_longer() {
    let copies = Copies::new();
    let mode = std::os::unix::fs::PermissionsExt::mode(&copies.marker().metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    copies.copy();
    copies.put_back();
    assert_eq!(copies.restored(), None, "nothing was ordered since");
    copies.commit(record(Vec::new(), Vec::new(), vec![keep(None)]));
    copies.commit(record(Vec::new(), Vec::new(), vec![cancel()]));
    assert_eq!(copies.restored(), None);

    copies.put_back();
    assert_eq!(copies.restored(), behind(2));
    copies.commit(record(Vec::new(), Vec::new(), vec![keep(None)]));
    assert_eq!(copies.restored(), behind(1), "an order is no disowning");
    let disarmed = vec![Wish::Arming("idle".into(), None)];
    let disowned = audit(Order::Restored { restored: behind(1).unwrap().into() });
    copies.commit(StepRecord { audit: vec![disowned], ..record(Vec::new(), Vec::new(), disarmed) });
    assert_eq!(copies.restored(), None);
    copies.put_back();
    assert!(copies.restored().is_some(), "and the copy is as old as it was");
}

#[test]
fn fault_38_a_crash_before_the_marker_is_written_leaves_what_is_armed_and_one_before_it_is_whole_too() {
    let copies = Copies::new();
    let before = std::fs::read(copies.marker()).unwrap();
    copies.commit(record(Vec::new(), Vec::new(), vec![keep(None)]));
    let after = std::fs::read(copies.marker()).unwrap();
    assert_ne!(before, after);
    std::fs::write(copies.marker(), &before).unwrap();
    std::fs::write(copies.path.with_extension("db.orders.part"), "half").unwrap();
    assert_eq!(copies.restored(), None, "the marker is behind");
    assert_eq!(std::fs::read(copies.marker()).unwrap(), after, "and was brought up");
}

#[test]
fn fault_38_without_its_own_marker_a_database_that_could_end_something_is_taken_for_a_copy() {
    let copies = Copies::new();
    let unknown = Some(Restored { lacks: None, armed: vec!["idle".into()] });
    for spoil in [
        |path: &std::path::Path| std::fs::remove_file(path).unwrap(),
        |path: &std::path::Path| std::fs::write(path, "").unwrap(),
        |path: &std::path::Path| std::fs::write(path, "00 1\n").unwrap(),
    ] {
        spoil(&copies.marker());
        assert_eq!(copies.restored(), unknown);
    }
    let disarmed = || {
        record(vec![action(Stage::Expired { at: NOW })], Vec::new(), vec![Wish::Arming("idle".into(), None)])
    };
    copies.commit(disarmed());
    assert_eq!(copies.restored(), None, "nothing is armed or announced, so nothing can end");
    std::fs::remove_file(copies.marker()).unwrap();
    copies.commit(record(vec![announced()], Vec::new(), Vec::new()));
    assert_eq!(copies.restored(), None, "it was written anew");
    std::fs::remove_file(copies.marker()).unwrap();
    assert_eq!(copies.restored(), Some(Restored { lacks: None, armed: Vec::new() }), "announced is enough");
}

#[test]
fn fault_38_no_intent_is_committed_while_the_marker_cannot_be_written() {
    let copies = Copies::new();
    let (mut db, _) = Db::open(&copies.path).unwrap();
    let in_the_way = copies.path.with_extension("db.orders.part");
    std::fs::create_dir(&in_the_way).unwrap();
    db.commit(&record(vec![committing()], Vec::new(), Vec::new())).unwrap();
    let why = db.commit_intent(&intent(), NOW).unwrap().unwrap_err();
    assert!(why.contains("cannot be written, so nothing is ended"), "{why}");
    std::fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(db.commit_intent(&intent(), NOW).unwrap(), Ok(()));
}

fn policies() -> Policies {
    let policy = Policy {
        name: "idle".into(),
        matching: Matcher { globs: [(MatchKey::Name, vec![Glob::new("dev-*")])].into() },
        when: vec![Condition::RunningFor(HOUR)],
        grace: HOUR,
        require_volume: false,
        receivers: vec!["ops".into()],
    };
    Policies { policies: vec![policy], ..Policies::default() }
}

fn core(recovered: Recovered) -> Core {
    let money = Money::new(TimeZone::UTC, recovered.books);
    let engine = Engine::new(Vec::new(), vec![Glob::new("*")], money, recovered.alerts)
        .with_policies(policies(), recovered.actions);
    Core::new(recovered.snapshot, engine)
}

/// During a grace, with the policy armed as it stands.
fn announced_and_armed() -> StepRecord {
    let print = policies().fingerprint(&policies().policies[0]);
    let action = Action { fingerprint: print.clone(), ..announced() };
    let tracked = Tracked {
        deployment: deployment(),
        first_seen: NOW.minus(HOUR),
        presence: Presence::Listed,
        status_since: NOW.minus(HOUR),
        status_before: None,
        rate_before: None,
        unreadable_since: None,
    };
    let team = TrackedTeam {
        id: TeamId::new("t1"),
        name: "research".into(),
        role: "owner".into(),
        balance: None,
        balance_at: None,
        previous: None,
        unknown_since: None,
        denied: None,
    };
    let changes = vec![Change::Team(Arc::new(team)), Change::Deployment(Arc::new(tracked))];
    StepRecord { changes, ..record(vec![action], Vec::new(), vec![arming(&print)]) }
}

/// A start, and its first step: what it recorded, what it handed out, and what the database says after it.
fn start(path: &std::path::Path) -> (StepRecord, Vec<Act>, Recovered) {
    let (mut db, recovered) = Db::open(path).unwrap();
    let mut core = core(recovered);
    let record = core.step(NOW.plus(HOUR / 2));
    db.commit(&record).unwrap();
    let acts = core.take_acts();
    assert!(core.step(NOW.plus(HOUR / 2)).is_quiet(), "once");
    (record, acts, db.recover().unwrap())
}

#[test]
fn fault_38_a_backup_from_a_grace_that_is_put_back_ends_nothing_and_people_are_told() {
    let copies = Copies::new();
    copies.commit(announced_and_armed());
    let (record, _, recovered) = start(&copies.path);
    let called_off = record.notices.iter().any(|notice| notice.title.starts_with("not ended"));
    assert!(record.audit.is_empty() && !called_off, "a restart is no copy: {record:?}");
    assert_eq!(recovered.snapshot.armings.len(), 1);
    assert_eq!(recovered.actions[0].stage.name(), StageName::Announced);

    copies.copy();
    copies.commit(self::record(Vec::new(), Vec::new(), vec![keep(None), Wish::Arming("idle".into(), None)]));
    copies.put_back();
    let (record, acts, recovered) = start(&copies.path);
    assert_eq!(acts, []);
    assert!(recovered.snapshot.armings.is_empty());
    assert_eq!(recovered.actions[0].stage.name(), StageName::Cancelled);
    assert_eq!(record.shifts[0].reason, Why::Restored);
    let Order::Restored { restored } = &record.audit[0].order else { panic!("{:?}", record.audit) };
    assert_eq!((restored.lacks, &*restored.armed[0]), (Some(1), "idle"));
    let told: Vec<(&str, Severity)> =
        record.notices.iter().map(|notice| (&*notice.title, notice.severity)).collect();
    assert_eq!(
        told,
        [
            ("policies disarmed: the database is an old copy", Severity::Critical),
            ("not ended: dev-a", Severity::Info)
        ]
    );
    let notice = &record.notices[0];
    assert!(
        notice.reason.contains("disarmed: idle")
            && notice.reason.contains("keeps made since the copy are lost")
    );
    assert_eq!(notice.receivers, [Arc::from("ops")]);
    let (record, _, _) = start(&copies.path);
    assert!(record.audit.is_empty() && record.notices.is_empty(), "the next start is one like any other");
}

#[test]
fn fault_38_an_end_that_was_requested_before_the_copy_is_only_read_again() {
    let copies = Copies::new();
    let proof = Proof { requested: NOW, ended: 0, asked: None, next: NOW, late: false };
    let verifying = Action { stage: Stage::Verifying { proof }, ..announced() };
    copies.commit(record(vec![verifying], Vec::new(), Vec::new()));
    copies.copy();
    copies.commit(record(Vec::new(), Vec::new(), vec![cancel()]));
    copies.put_back();
    let (_, acts, recovered) = start(&copies.path);
    assert_eq!(acts.iter().map(|act| &act.deed).collect::<Vec<_>>(), [&Deed::Verify]);
    assert_eq!(recovered.actions[0].stage.name(), StageName::Verifying);
}

#[test]
fn an_order_that_takes_effect_is_recorded_with_who_gave_it_and_one_that_does_not_is_not() {
    let mut db = Db::in_memory().unwrap();
    db.commit(&announced_and_armed()).unwrap();
    let mut core = core(db.recover().unwrap());
    let Wish::Keep(_, Some(keep)) = keep(None) else { panic!("it is there") };
    let other = Keep {
        id: "kp_2".into(),
        target: Target { created_at: NOW, ..keep.target.clone() },
        ..(*keep).clone()
    };
    assert!(core.keep(other, NOW));
    assert!(core.end_keep("kp_2", "bob".into(), NOW) && !core.end_keep("kp_2", "bob".into(), NOW));
    assert!(!core.end_keep("kp_9", "bob".into(), NOW));
    assert_eq!(core.cancel(announced().id, Cancel { at: NOW, by: "eve".into() }), Ok(()));
    assert_eq!(
        core.cancel(announced().id, Cancel { at: NOW, by: "bob".into() }),
        Ok(()),
        "it is stopped already"
    );
    assert!(core.cancel(ActionId::from_text("act_0"), Cancel { at: NOW, by: "bob".into() }).is_err());
    assert!(core.arm("idle", "no code", "bob".into(), NOW).is_err());
    assert!(core.disarm("idle", "bob".into(), NOW) && !core.disarm("idle", "bob".into(), NOW));
    let record = core.step(NOW);
    let said: Vec<(&str, &str)> = record.audit.iter().map(|row| (row.order.what(), &*row.by)).collect();
    assert_eq!(said, [("kept", "ann"), ("keep_ended", "bob"), ("cancelled", "eve"), ("disarmed", "bob")]);
    assert_eq!(record.audit[0].order.subject(), format!("deployment/a@{}", NOW.millis()));
    assert!(core.step(NOW).audit.is_empty());
}
