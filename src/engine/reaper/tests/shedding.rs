use super::*;
use crate::model::Hold;

fn shed_policy() -> Policy {
    Policy { name: "shed".into(), when: vec![Condition::RunwayBelow(HOUR * 6)], ..idle_policy() }
}

fn with_rate(id: &str, cents: i64, started_hours_ago: u32) -> Deployment {
    let started_at = Some(T0.minus(HOUR * started_hours_ago));
    Deployment { hourly_rate: Usd::from_cents(cents), started_at, ..deployment(id) }
}

fn lasts(rig: &mut Rig, hours: u32) {
    let end = Some(rig.now.plus(HOUR * hours));
    let forecast = Forecast { committed_end: end, ..Forecast::default() };
    rig.forecasts.insert(TeamId::new("t1"), forecast);
}

/// Four deployments, and money for a day.
fn rig() -> Rig {
    let mut rig = Rig::ready_with(policies(vec![shed_policy()]), &[]);
    rig.add(with_rate("cheap", 100, 1));
    rig.add(with_rate("old", 300, 19));
    rig.add(with_rate("young", 300, 2));
    rig.add(Deployment { name: "prod-dear".into(), ..with_rate("dear", 900, 2) });
    lasts(&mut rig, 24);
    rig.arm("shed");
    rig.pass(MINUTE * 2);
    rig
}

#[test]
fn fault_75_it_takes_two_balances_and_the_dearest_then_the_youngest_goes_alone() {
    let mut rig = rig();
    assert!(rig.reaper.open.is_empty());
    rig.now = rig.now.plus(MINUTE);
    lasts(&mut rig, 3);
    rig.poll();
    assert!(rig.step().shifts.is_empty(), "one sample");
    let verdict = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now);
    assert!(verdict.iter().any(|verdict| verdict.holds.contains(&Hold::RunwayOnce)));
    let marked = rig.pass(MINUTE);
    assert_eq!(marked.shifts.len(), 1);
    assert_eq!(
        rig.action().target.id.as_str(),
        "young",
        "protected ones aside, the dearest, of two the younger"
    );
    let others = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now);
    let old = others.iter().find(|verdict| verdict.target.id.as_str() == "old").unwrap();
    assert_eq!(old.holds, [Hold::NotNext { first: "dev-young".into() }]);
}

#[test]
fn fault_05_a_balance_that_is_zero_once_ends_nothing() {
    let mut rig = rig();
    for hours in [0, 24, 0, 24] {
        rig.now = rig.now.plus(MINUTE);
        lasts(&mut rig, hours);
        rig.poll();
        assert!(rig.step().shifts.is_empty());
    }
}

#[test]
fn fault_75_a_restored_runway_calls_it_off() {
    let mut rig = rig();
    lasts(&mut rig, 3);
    let marked = rig.pass(MINUTE * 2);
    rig.deliver(&marked.notices, "ops");
    rig.step();
    assert_eq!(rig.stage(), StageName::Announced);
    lasts(&mut rig, 12);
    let over = rig.step();
    assert_eq!(names(&over), ["announced > cancelled: the balance lasts for 12h, which is long enough"]);
    assert!(rig.pass(MINUTE * 30).shifts.is_empty());
}

/// How the balance moved until the last end says nothing of what is left to end.
#[test]
fn fault_75_a_balance_that_fell_faster_before_the_last_end_sheds_nothing() {
    let mut rig = rig();
    let ends = |hours: u32| Some(T0.plus(HOUR * hours));
    let forecast = Forecast { committed_end: ends(24), observed_end: ends(3), ..Forecast::default() };
    rig.forecasts.insert(TeamId::new("t1"), forecast);
    assert!(rig.pass(MINUTE * 10).shifts.is_empty());
}

#[test]
fn fault_75_the_next_one_is_shed_only_by_balances_from_after_the_last_end() {
    let mut rig = rig();
    lasts(&mut rig, 4);
    let marked = rig.pass(MINUTE * 2);
    rig.deliver(&marked.notices, "ops");
    rig.pass(MINUTE * 31);
    rig.answer(rig.read("young"));
    rig.answer(yes());
    rig.answer(Came::Commit(Ok(())));
    rig.answer(Came::Delete(DeleteAnswer::Accepted));
    rig.deployment("young").status = Status::Terminated;
    for _ in 0..2 {
        rig.now = rig.now.plus(SECOND * 20);
        let reaped = rig.step();
        assert_eq!(reaped.acts.len(), 1);
        let came = rig.read("young");
        let reaped = rig.answer(came);
        assert!(!names(&reaped).iter().any(|line| line.contains("> marked")), "one at a time");
    }
    assert!(rig.reaper.open.is_empty());
    assert!(rig.pass(MINUTE).shifts.is_empty(), "one balance since");
    let next = rig.pass(MINUTE);
    assert_eq!(next.shifts.len(), 1, "still short by two balances");
    assert_eq!(rig.action().target.id.as_str(), "old");
}

#[test]
fn fault_04_a_balance_that_is_not_known_sheds_nothing() {
    let mut rig = rig();
    lasts(&mut rig, 3);
    rig.team("t1").unknown_since = Some(rig.now);
    assert!(rig.pass(MINUTE * 10).shifts.is_empty());
    rig.team("t1").unknown_since = None;
    rig.forecasts.clear();
    assert!(rig.pass(MINUTE * 10).shifts.is_empty(), "nor does a burn that is not known");
}

#[test]
fn the_other_conditions_hold_by_the_api_s_own_figures_and_the_hours_of_the_zone() {
    let spend = Policy {
        name: "spend".into(),
        when: vec![Condition::SpendAbove(Usd::from_cents(4_000))],
        ..idle_policy()
    };
    let hours = Hours::parse("Mon-Fri 08:00-20:00").unwrap();
    let night = Policy {
        name: "night".into(),
        when: vec![Condition::RunningFor(HOUR * 21), Condition::Outside(hours)],
        ..idle_policy()
    };
    let mut rig = Rig::ready_with(policies(vec![spend, night]), &["a"]);
    let holds = |rig: &Rig| -> Vec<Vec<Hold>> {
        let verdicts = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now);
        verdicts.into_iter().map(|verdict| verdict.holds).collect()
    };
    let until = T0.plus(HOUR * 8);
    assert_eq!(
        holds(&rig),
        [
            vec![Hold::SpendsLess { left: Usd::ZERO }],
            // What cancels is named first, and of these the first.
            vec![Hold::NotRunningLong { until: T0.plus(HOUR) }],
        ]
    );
    rig.deployment("a").total_cost = Usd::from_cents(4_001);
    rig.deployment("a").started_at = Some(T0.minus(HOUR * 30));
    assert_eq!(holds(&rig), [vec![], vec![Hold::WorkingHours { until: Some(until) }]]);
    rig.now = T0.plus(HOUR * 8);
    rig.poll();
    assert!(!holds(&rig)[1].contains(&Hold::WorkingHours { until: Some(until) }));
}
