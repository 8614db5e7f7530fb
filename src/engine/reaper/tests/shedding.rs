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
fn fault_75_what_the_list_lacks_and_may_still_cost_sheds_nothing() {
    let mut rig = rig();
    lasts(&mut rig, 3);
    let elsewhere = Deployment { team: TeamId::new("t2"), ..with_rate("elsewhere", 100, 2) };
    rig.add(elsewhere);
    let ended = Deployment { status: Status::Terminated, ..with_rate("ended", 100, 2) };
    rig.add(ended);
    rig.snapshot.unlisted = ["cheap", "elsewhere", "ended"].map(DeploymentId::new).into();
    assert!(rig.pass(MINUTE * 2).shifts.is_empty(), "cheap may have ended, and then the money lasts");
    rig.snapshot.unlisted.remove(&DeploymentId::new("cheap"));
    rig.pass(MINUTE * 2);
    assert_eq!(
        rig.action().target.id.as_str(),
        "young",
        "another team's does not matter, nor one that ended"
    );
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

#[test]
fn what_another_policy_ends_in_the_team_does_not_stand_in_the_way_of_shedding() {
    let mut rig = Rig::ready_with(policies(vec![shed_policy(), idle_policy()]), &[]);
    rig.add(with_rate("old", 300, 19));
    rig.add(with_rate("young", 300, 2));
    rig.idle("young", Reading::Busy, None);
    rig.idle("old", Reading::Idle, Some(T0.minus(HOUR * 3)));
    lasts(&mut rig, 24);
    rig.arm("idle");
    rig.arm("shed");
    rig.pass(MINUTE * 2);
    assert_eq!(&*rig.action().policy, "idle");
    lasts(&mut rig, 3);
    rig.pass(MINUTE * 2);
    let open: Vec<(&str, &str)> =
        rig.reaper.open.values().map(|action| (&*action.policy, action.target.id.as_str())).collect();
    assert_eq!(open, [("idle", "old"), ("shed", "young")]);
    let shedding = |rig: &Rig| rig.reaper.looked(&rig.snapshot, &rig.forecasts, rig.now).0.history.shedding;
    assert_eq!(shedding(&rig), BTreeSet::from([TeamId::new("t1")]));
    rig.reaper.replace(policies(vec![idle_policy()]));
    assert_eq!(shedding(&rig), BTreeSet::new(), "nor does what a policy that was removed left");
}

/// What the conditions of the first policy say of this deployment.
fn conditions_of(rig: &Rig, id: &str) -> Result<(), Hold> {
    let (ground, _) = rig.reaper.looked(&rig.snapshot, &rig.forecasts, rig.now);
    let tracked = &rig.snapshot.deployments[&DeploymentId::new(id)];
    conditions::all(&Case::new(&ground, &rig.reaper.policies().policies[0], tracked))
}

#[test]
fn fault_08_a_condition_holds_by_the_list_and_by_the_final_read_or_not_at_all() {
    type Change = fn(&mut Deployment);
    let conditions: [(Condition, Change, Hold); 2] = [
        (
            Condition::RunningFor(HOUR * 2),
            |deployment| deployment.started_at = Some(T0.minus(HOUR)),
            Hold::NotRunningLong { until: T0.plus(HOUR) },
        ),
        (
            Condition::SpendAbove(Usd::from_cents(3_900)),
            |deployment| deployment.total_cost = Usd::from_cents(3_900),
            Hold::SpendsLess { left: Usd::ZERO },
        ),
    ];
    for (condition, change, hold) in conditions {
        let policy = Policy { when: vec![condition], ..idle_policy() };
        let rig = Rig::ready_with(policies(vec![policy.clone()]), &["a"]);
        let (ground, _) = rig.reaper.looked(&rig.snapshot, &rig.forecasts, rig.now);
        let good = Tracked::clone(&rig.snapshot.deployments[&DeploymentId::new("a")]);
        let mut bad = good.clone();
        change(&mut bad.deployment);
        for (listed, read, expected) in
            [(&good, &good, Ok(())), (&good, &bad, Err(hold.clone())), (&bad, &good, Err(hold.clone()))]
        {
            let deployment = Box::new(read.deployment.clone());
            let read = crate::model::FinalRead { sent: rig.now, skew_ms: Some(0), deployment };
            let case = Case { read: Some(&read), ..Case::new(&ground, &policy, listed) };
            assert_eq!(conditions::all(&case), expected, "{:?}", policy.when);
        }
    }
}

#[test]
fn of_several_conditions_one_that_cancels_is_named_first_and_else_the_first_that_waits() {
    let idle = Condition::IdleFor(HOUR);
    let runway = Condition::RunwayBelow(HOUR);
    let spend = Condition::SpendAbove(Usd::from_cents(4_100));
    let less = Hold::SpendsLess { left: Usd::from_cents(100) };
    for (when, named) in [
        (vec![idle.clone(), spend.clone()], less.clone()),
        (vec![spend, idle.clone()], less),
        (vec![idle.clone(), runway.clone()], Hold::Unmeasured),
        (vec![runway, idle], Hold::RunwayUnknown),
    ] {
        let mut rig = Rig::ready_with(policies(vec![Policy { when, ..idle_policy() }]), &["a"]);
        rig.snapshot.activity.clear();
        assert_eq!(conditions_of(&rig, "a"), Err(named));
    }
}

#[test]
fn fault_75_each_doubt_of_the_balance_says_that_it_is_not_short() {
    type Doubt = fn(&mut Rig);
    let mut rig = rig();
    lasts(&mut rig, 3);
    rig.pass(MINUTE * 2);
    assert_eq!(conditions_of(&rig, "old"), Ok(()));
    let balance = Feed::Balance;
    let doubts: [(&str, Doubt, Hold); 8] = [
        ("no balance was read", |rig| drop(rig.snapshot.feeds.remove(&Feed::Balance)), Hold::RunwayUnknown),
        (
            "the last poll of it failed",
            |rig| {
                rig.snapshot.feeds.get_mut(&Feed::Balance).unwrap().last_attempt = Some(rig.now.plus(SECOND))
            },
            Hold::Incomplete { feed: balance },
        ),
        (
            "the last poll of it is old",
            |rig| {
                let health = rig.snapshot.feeds.get_mut(&Feed::Balance).unwrap();
                let old = Some(rig.now.minus(SECOND * 151));
                (health.last_whole, health.last_attempt) = (old, old);
            },
            Hold::Stale { feed: balance },
        ),
        ("the burn is not known", |rig| rig.forecasts.clear(), Hold::RunwayUnknown),
        (
            "this team's cannot be read",
            |rig| rig.team("t1").unknown_since = Some(rig.now),
            Hold::RunwayUnknown,
        ),
        ("the team is not there", |rig| rig.snapshot.teams.clear(), Hold::RunwayUnknown),
        ("it lasts as long as the limit", |rig| lasts(rig, 6), Hold::RunwayEnough { left_secs: 6 * 3_600 }),
        ("only the last was seen", |rig| rig.reaper.sight = Sight::default(), Hold::RunwayOnce),
    ];
    for (what, doubt, hold) in doubts {
        let mut rig = rig.clone();
        doubt(&mut rig);
        assert_eq!(conditions_of(&rig, "old"), Err(hold), "{what}");
    }
    rig.forecasts.get_mut(&TeamId::new("t1")).unwrap().committed_end = Some(rig.now.plus(HOUR * 6 - SECOND));
    assert_eq!(conditions_of(&rig, "old"), Ok(()), "a second less than the limit");
}

/// A person who arms meanwhile has to see it: it is next once what is being shed is gone.
#[test]
fn fault_57_what_waits_behind_the_one_that_is_being_shed_is_shown_whatever_became_of_that() {
    let mut rig = rig();
    rig.add_team("t2", "vault");
    rig.add(Deployment { team: TeamId::new("t2"), ..with_rate("other", 950, 1) });
    lasts(&mut rig, 3);
    rig.pass(MINUTE * 2);
    let waits = |rig: &Rig| -> Vec<(String, Hold)> {
        let preview = rig.reaper.preview("shed", &rig.snapshot, &rig.forecasts, rig.now).unwrap();
        let said =
            |(candidate, hold): (crate::model::Candidate, Hold)| (candidate.target.id.to_string(), hold);
        preview.waiting.into_iter().map(said).collect()
    };
    let of = |rig: &Rig, id: &str| -> Vec<Hold> {
        let verdicts = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now);
        verdicts.into_iter().find(|verdict| verdict.target.id.as_str() == id).unwrap().holds
    };
    let behind = Hold::NotNext { first: "dev-young".into() };
    let protected = ("other".to_owned(), Hold::Protected { key: "team".into() });
    let both = |hold: Hold| [("cheap".to_owned(), hold.clone()), ("old".to_owned(), hold), protected.clone()];
    assert_eq!(waits(&rig), both(behind.clone()));
    let mut dry = rig.clone();
    dry.snapshot.armings.clear();
    assert_eq!(waits(&dry), both(behind.clone()), "who arms it sees the same");
    dry.reaper.open.clear();
    assert_eq!(of(&dry, "young"), [Hold::NotArmed], "nothing goes before the first");
    assert_eq!(of(&dry, "old"), [Hold::NotArmed, behind.clone()]);
    assert_eq!(of(&rig, "old"), [behind]);
    assert!(!of(&rig, "young").iter().any(|hold| matches!(hold, Hold::NotNext { .. })));
    // The one that is being shed cannot be seen now.
    rig.tracked("young").unreadable_since = Some(rig.now);
    let waiting: Vec<_> = waits(&rig).into_iter().filter(|(id, _)| id != "young").collect();
    assert_eq!(waiting, both(Hold::OneAtATime));
    assert_eq!(of(&rig, "old"), [Hold::OneAtATime]);
}
