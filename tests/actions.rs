//! The rows of policies from outside: what comes back, what nobody can change, and when an intent is committed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rusqlite::Connection;
use spheron_watch::{
    model::{
        Action, ActionId, AlertKey, Arming, CanTerminate, Cancel, Check, Deployment, DeploymentId, EventId,
        FinalRead, InstanceType, Keep, Notice, Receipt, Severity, Shift, Slot, Stage, StageName, Status,
        StepRecord, Target, TeamId, Time, Transition, Usd, Why, Wish,
    },
    store::{Db, Intent},
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
