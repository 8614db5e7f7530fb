//! The ledger's rows and rollups from outside: what was charged is what is read back, however it is summed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use spheron_watch::{
    app::Archive,
    clock::Clock,
    model::{
        Books, Change, Charge, ChargeKind, Cost, CostBy, DeploymentId, Line, Purse, StepRecord, Subject,
        TeamId, Time, TrackedTeam, Usd, View, VolumeId,
    },
    serve::api::{self, Costs, Look, Source},
    store::{Db, Reader},
};

const HOUR: i64 = 3_600;
/// A midnight of UTC.
const T0: i64 = 1_800_057_600;

fn hour(n: i64) -> Time {
    Time::from_secs(T0 + n * HOUR)
}

fn subject(n: u8) -> Subject {
    if n.is_multiple_of(3) {
        Subject::Volume { id: VolumeId::new(format!("v@{n}")) }
    } else {
        Subject::Deployment { id: DeploymentId::new(format!("d/{n}")), created_at: hour(0) }
    }
}

fn team(n: u8) -> TeamId {
    TeamId::new(format!("t{}", n % 2))
}

fn line(n: u8, nanos: i64) -> Line {
    Line {
        team: team(n),
        from: hour(0),
        until: hour(1),
        rate: Usd::from_nanos(nanos),
        rest: nanos % 3_600_000,
        charged: Usd::from_nanos(nanos),
        guesses: vec![(hour(0), Usd::from_nanos(nanos / 2))],
        reported: (!n.is_multiple_of(3)).then(|| (Usd::from_nanos(nanos), hour(1))),
        drift_permille: -7,
        ended: n == 4,
    }
}

fn charge(n: u8, at: i64, nanos: i64, why: ChargeKind) -> Charge {
    let estimated = Usd::from_nanos(nanos / 3);
    Charge {
        subject: subject(n),
        team: team(n),
        hour: hour(at),
        amount: Usd::from_nanos(nanos),
        estimated,
        why,
    }
}

fn record(at: i64, charges: Vec<Charge>) -> StepRecord {
    let numbers: Vec<u8> = (0..6).collect();
    let lines = numbers.iter().filter(|n| charges.iter().any(|c| c.subject == subject(**n)));
    StepRecord {
        at: hour(at),
        lines: lines.map(|n| (subject(*n), Some(line(*n, at)))).collect(),
        charges,
        ..StepRecord::default()
    }
}

fn total(costs: &[Cost]) -> Usd {
    costs.iter().map(|cost| cost.amount).sum()
}

#[test]
fn the_api_reads_them_from_the_file_beside_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.db");
    let (mut db, _) = Db::open(&path).unwrap();
    db.commit(&record(0, vec![charge(1, 0, 7, ChargeKind::Accrued), charge(2, 0, 5, ChargeKind::Accrued)]))
        .unwrap();
    let (view, archive) = (View::default(), Archive::new(path.clone(), Clock::system()));
    let look = Look {
        view: &view,
        held: &[],
        policies: None,
        now: hour(1),
        source: Source::Daemon,
        records: Some(&archive),
    };
    let get =
        |query: &str| api::get(look, "/costs", query).map(|t| serde_json::from_str::<Costs>(&t).unwrap());
    let by_subject = get("by=subject").unwrap();
    assert_eq!((by_subject.amount.0, by_subject.page.total), (Usd::from_nanos(12), 2));
    let dearest = by_subject.page.items[0].subject.clone().unwrap();
    assert_eq!((&*dearest.kind, dearest.id.as_deref()), ("deployment", Some("d/1")));
    db.commit(&record(0, vec![charge(1, 0, 1, ChargeKind::Accrued)])).unwrap();
    assert_eq!(get("").unwrap().amount.0, Usd::from_nanos(13), "what is committed is read");
    std::fs::remove_file(&path).unwrap();
    let gone = get("").unwrap_err();
    assert!(gone.status == 503 && !gone.detail.contains("watch.db"), "the file is named to nobody: {gone}");
}

#[test]
fn costs_are_summed_by_team_hour_day_and_subject() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.db");
    let (mut db, _) = Db::open(&path).unwrap();
    for at in 0..60 {
        let charges = vec![
            charge(1, at, 100, ChargeKind::Accrued),
            charge(1, at, -1, ChargeKind::Correction),
            charge(2, at, 30, ChargeKind::Trued),
            charge(3, at, 5, ChargeKind::Accrued),
        ];
        db.commit(&record(at, charges)).unwrap();
    }
    let mut reader = Reader::open(&path, Clock::system(), Duration::from_secs(30)).unwrap();
    let mut costs = |since, until, by| reader.costs(hour(since), hour(until), by).unwrap();
    let told = |cost: &Cost| {
        let from = cost.from.map(|from| (from.secs() - T0) / HOUR);
        (
            cost.team.to_string(),
            from,
            cost.subject.as_ref().map(ToString::to_string),
            cost.amount.nanos(),
            cost.estimated.nanos(),
        )
    };
    let by_team: Vec<_> = costs(0, 60, CostBy::Team).iter().map(told).collect();
    // The thirds of 100, -1 and 5 are 33, 0 and 1.
    assert_eq!(
        by_team,
        [("t1".into(), None, None, 60 * 104, 60 * 34), ("t0".into(), None, None, 60 * 30, 60 * 10)]
    );
    let by_hour = costs(7, 9, CostBy::Hour);
    assert_eq!(by_hour.len(), 4);
    assert_eq!(
        told(by_hour.iter().find(|cost| cost.team == team(1)).unwrap()),
        ("t1".into(), Some(7), None, 104, 34)
    );
    let by_day: Vec<_> =
        costs(0, 60, CostBy::Day).iter().filter(|c| c.team.as_str() == "t1").map(told).collect();
    let days: Vec<_> = by_day.iter().map(|day| (day.1, day.3)).collect();
    assert_eq!(days, [(Some(0), 24 * 104), (Some(24), 24 * 104), (Some(48), 12 * 104)]);
    for (since, until) in [(0, 60), (5, 60), (5, 7), (23, 49), (24, 48), (30, 31), (7, 7), (50, 99), (-9, 3)]
    {
        let hours = (until.min(60) - since.max(0)).max(0);
        let by_subject = costs(since, until, CostBy::Subject);
        assert_eq!(total(&by_subject).nanos(), hours * 134, "{since} to {until}");
        if hours > 0 {
            let most = told(&by_subject[0]);
            assert_eq!((most.2, most.3), (Some(subject(1).to_string()), hours * 99), "{since} to {until}");
        }
    }
    assert_eq!(costs(60, 99, CostBy::Team), []);
}

#[test]
fn fault_42_hours_of_accounts_go_after_400_days_and_days_and_teams_stay() {
    let mut db = Db::in_memory().unwrap();
    for day in 0..1_830 {
        db.commit(&record(day * 24, vec![charge(1, day * 24 + 5, 7, ChargeKind::Accrued)])).unwrap();
    }
    let now = hour(1_830 * 24);
    let mut batches = 0;
    while db.prune(now).unwrap() > 0 {
        batches += 1;
    }
    assert_eq!(batches, 1_430, "what is older than 400 days, a few hours at a time");
    let costs = |since: i64, by| total(&db.costs(hour(since), now, by).unwrap()).nanos();
    assert_eq!(costs(0, CostBy::Team), 1_830 * 7);
    assert_eq!(costs(0, CostBy::Subject), 1_830 * 7);
    assert_eq!(
        costs(1_000 * 24 + 6, CostBy::Subject),
        830 * 7,
        "where its hours are gone, the whole first day"
    );
    assert_eq!(costs(1_500 * 24 + 6, CostBy::Subject), 329 * 7, "and to the hour where they are kept");
}

#[test]
fn hours_that_cost_the_same_are_one_row_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.db");
    let (mut db, _) = Db::open(&path).unwrap();
    for at in 0..72 {
        db.commit(&record(at, vec![charge(1, at, 100, ChargeKind::Accrued)])).unwrap();
    }
    db.commit(&record(72, vec![charge(1, 30, 11, ChargeKind::Trued)])).unwrap();
    drop(db);
    let conn = rusqlite::Connection::open(&path).unwrap();
    let mut rows = conn.prepare("SELECT hour - ?1, hours, amount FROM cost_hour ORDER BY hour").unwrap();
    let rows = rows.query_map([T0 / HOUR], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let rows: Vec<(i64, i64, i64)> = rows.map(Result::unwrap).collect();
    assert_eq!(rows, [(0, 24, 100), (24, 6, 100), (30, 1, 111), (31, 17, 100), (48, 24, 100)]);
}

#[test]
fn a_charge_without_a_line_is_refused_whole() {
    let mut db = Db::in_memory().unwrap();
    let record = StepRecord { charges: vec![charge(1, 0, 7, ChargeKind::Accrued)], ..StepRecord::default() };
    assert!(db.commit(&record).is_err());
    assert_eq!(db.costs(hour(-9), hour(9), CostBy::Team).unwrap(), []);
}

#[test]
fn the_history_of_a_balance_is_rebuilt_from_its_changes() {
    let mut db = Db::in_memory().unwrap();
    let mut before: Option<(Usd, Time)> = None;
    let mut row = |balance: Option<i64>, at: i64, name: &str| {
        let balance = balance.map(Usd::from_cents);
        let previous =
            before.filter(|(before, _)| Some(*before) != balance).map(|(before, _)| (before, hour(at)));
        before = balance.map(|balance| (balance, hour(at)));
        Change::Team(Arc::new(TrackedTeam {
            id: team(0),
            name: name.into(),
            role: "owner".into(),
            balance,
            balance_at: balance.map(|_| hour(at)),
            previous,
            unknown_since: None,
            denied: None,
        }))
    };
    for (balance, at, name) in [
        (None, 0, "a"),
        (Some(9), 1, "a"),
        (Some(8), 2, "a"),
        (Some(8), 3, "b"),
        (Some(20), 4, "b"),
        (Some(19), 80, "b"),
    ] {
        let changes = vec![row(balance, at, name)];
        db.commit(&StepRecord { at: hour(at), changes, ..StepRecord::default() }).unwrap();
        if at == 4 {
            let history = db.recover().unwrap().snapshot.balance_history[&team(0)].clone();
            let cents = [(1, 9), (2, 8), (4, 20)].map(|(at, cents)| (hour(at), Usd::from_cents(cents)));
            assert_eq!(*history, cents);
        }
    }
    let history = db.recover().unwrap().snapshot.balance_history[&team(0)].clone();
    assert_eq!(*history, [(hour(80), Usd::from_cents(19))], "no further back than 72 hours");
}

fn any_charges() -> impl Strategy<Value = Vec<Charge>> {
    let why = prop_oneof![Just(ChargeKind::Accrued), Just(ChargeKind::Trued), Just(ChargeKind::Correction)];
    let any = (0_u8..6, -3_i64..30, prop_oneof![3 => Just(600_i64), 1 => -1_000_i64..9_000], why);
    proptest::collection::vec(any.prop_map(|(n, at, nanos, why)| charge(n, at, nanos, why)), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_charged_the_books_and_every_sum_are_rebuilt(
        steps in proptest::collection::vec((any_charges(), 0_i64..1_000), 1..12), since in -4_i64..40, length in 0_i64..60,
    ) {
        let mut db = Db::in_memory().unwrap();
        let mut books = Books::default();
        let mut all = Vec::new();
        for (at, (charges, told)) in (0..).zip(steps) {
            let mut record = record(at, charges);
            let purse = Purse { told: Usd::from_nanos(told), named: vec![(hour(at), Usd::ZERO)], ..Purse::default() };
            record.purses = vec![(team(1), purse.clone())];
            db.commit(&record).unwrap();
            books.purses.insert(team(1), purse);
            books.lines.extend(record.lines.into_iter().map(|(subject, line)| (subject, line.unwrap())));
            all.extend(record.charges);
        }
        prop_assert_eq!(&db.recover().unwrap().books, &books);
        let (from, until) = (hour(since), hour(since + length));
        let within: Vec<&Charge> = all.iter().filter(|c| c.hour >= from && c.hour < until).collect();
        let mut subjects: BTreeMap<String, (Usd, Usd)> = BTreeMap::new();
        let mut teams: BTreeMap<TeamId, (Usd, Usd)> = BTreeMap::new();
        for charge in within {
            for sum in [subjects.entry(charge.subject.to_string()).or_default(), teams.entry(charge.team.clone()).or_default()] {
                *sum = (sum.0.saturating_add(charge.amount), sum.1.saturating_add(charge.estimated));
            }
        }
        let read = db.costs(from, until, CostBy::Team).unwrap();
        prop_assert_eq!(read.into_iter().map(|c| (c.team, (c.amount, c.estimated))).collect::<BTreeMap<_, _>>(), teams);
        // Before the oldest hour nothing is known to the hour.
        if all.iter().any(|charge| charge.hour <= from) {
            let read = db.costs(from, until, CostBy::Subject).unwrap();
            let read: BTreeMap<_, _> = read.into_iter().map(|c| (c.subject.unwrap().to_string(), (c.amount, c.estimated))).collect();
            prop_assert_eq!(read, subjects);
        }
    }
}
