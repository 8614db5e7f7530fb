use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::*;
use crate::model::{
    Balance, Books, Change, Deployment, DeploymentId, Facts, Failure, FailureKind, Feed, FeedHealth,
    HeldReason, InstanceType, Listing, Observation, Presence, Route, RuleKind, Scope, Status, TeamId,
    Unreadable, Usd,
};

mod life;

const T0: Time = Time::from_secs(1_800_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn after(minutes: u32) -> Time {
    T0.plus(MINUTE * minutes)
}

fn rule(name: &str, kind: RuleKind) -> Rule {
    Rule {
        name: name.into(),
        kind,
        severity: Severity::Critical,
        for_: Duration::ZERO,
        keep_firing_for: Duration::ZERO,
        matcher: Default::default(),
        receivers: vec![Route { receiver: "ops".into(), send_resolved: true }],
        repeat_interval: None,
    }
}

fn low_balance() -> Rule {
    rule(
        "low-balance",
        RuleKind::Balance { below: Usd::from_cents(1_000), clear_above: Usd::from_cents(1_200) },
    )
}

fn deployment(id: &str, status: &str) -> Deployment {
    Deployment {
        id: DeploymentId::new(id),
        created_at: T0.minus(HOUR),
        name: format!("box-{id}").into(),
        team: TeamId::new("t1"),
        gpu_type: "h100".into(),
        gpu_count: 1,
        provider: "spheron-ai".into(),
        region: "us-east-1".into(),
        instance_type: InstanceType::new("DEDICATED"),
        status: Status::from(Arc::from(status)),
        hourly_rate: Usd::from_cents(200),
        total_cost: Usd::from_cents(200),
        started_at: Some(T0.minus(HOUR)),
        stopped_at: None,
        kubernetes: false,
        access: Default::default(),
    }
}

fn spot(id: &str, status: &str) -> Deployment {
    Deployment { instance_type: InstanceType::new("SPOT"), ..deployment(id, status) }
}

fn whole<T>(items: Vec<T>) -> Listing<T> {
    Listing { items, unreadable: Vec::new(), suspect: None }
}

fn seen(feed: Feed, at: Time, scope: Scope, result: Result<Facts, Failure>) -> Observation {
    Observation { feed, at, scopes: vec![(scope, result)], skew_ms: None }
}

fn engine(rules: Vec<Rule>, state: BTreeMap<AlertKey, AlertState>) -> Engine {
    Engine::new(rules, vec![Glob::new("*")], Money::new(TimeZone::UTC, Books::default()), state)
}

/// A little rig: an account of one team, a snapshot, an engine.
struct Rig {
    snapshot: Snapshot,
    engine: Engine,
}

impl Rig {
    fn new(rules: Vec<Rule>) -> Self {
        let snapshot = Snapshot { unscoped_covers: true, ..Snapshot::default() };
        let mut rig = Self { snapshot, engine: engine(rules, BTreeMap::new()) };
        rig.balance(T0, 5_000);
        rig
    }

    fn fold(&mut self, observation: &Observation) -> &mut Self {
        fold(&mut self.snapshot, observation, self.engine.watched());
        self
    }

    fn balance(&mut self, at: Time, cents: i64) -> &mut Self {
        let balance = Balance {
            team: TeamId::new("t1"),
            name: "research".into(),
            role: "owner".into(),
            balance: Usd::from_cents(cents),
        };
        self.fold(&seen(Feed::Balance, at, Scope::Unscoped, Ok(Facts::Balances(whole(vec![balance])))))
    }

    fn list(&mut self, at: Time, items: Vec<Deployment>) -> &mut Self {
        self.fold(&seen(Feed::Deployments, at, Scope::Unscoped, Ok(Facts::Deployments(whole(items)))))
    }

    fn detail(&mut self, at: Time, id: &str, found: Option<Deployment>) -> &mut Self {
        let scope = Scope::One(DeploymentId::new(id));
        self.fold(&seen(Feed::Detail, at, scope, Ok(Facts::Deployment(found.map(Box::new)))))
    }

    fn fail(&mut self, feed: Feed, at: Time, kind: FailureKind) -> &mut Self {
        self.fold(&seen(feed, at, Scope::Unscoped, Err(Failure::new(kind, "boom"))))
    }

    /// Steps, asserts that a second step changes nothing, and gives the titles with their transitions.
    fn step(&mut self, now: Time) -> Vec<(Transition, String)> {
        let decisions = self.engine.step(&self.snapshot, now);
        let again = self.engine.step(&self.snapshot, now);
        assert!(again.notices.is_empty() && again.alerts.is_empty(), "not a fixpoint: {again:?}");
        decisions.notices.into_iter().map(|notice| (notice.transition, notice.title)).collect()
    }

    fn held(&mut self, now: Time) -> Vec<HeldReason> {
        self.step(now);
        self.engine.held(&self.snapshot, now).into_iter().map(|held| held.reason).collect()
    }
}

fn told(expected: &[(Transition, &str)]) -> Vec<(Transition, String)> {
    expected.iter().map(|(transition, title)| (*transition, (*title).to_owned())).collect()
}

#[test]
fn a_low_balance_fires_at_once_stays_through_hysteresis_and_resolves_above() {
    let mut rig = Rig::new(vec![low_balance()]);
    assert_eq!(rig.step(T0), told(&[]));
    assert_eq!(
        rig.balance(after(1), 1_000).step(after(1)),
        told(&[]),
        "equal to the threshold is not below it"
    );
    let fired = rig.balance(after(2), 999).step(after(2));
    assert_eq!(fired, told(&[(Transition::Firing, "low balance: research has $9.99 left")]));
    assert_eq!(rig.balance(after(3), 1_199).step(after(3)), told(&[]), "hysteresis holds it");
    let resolved = rig.balance(after(4), 1_200).step(after(4));
    assert_eq!(resolved, told(&[(Transition::Resolved, "balance: research has $12.00")]));
    assert_eq!(
        rig.balance(after(5), 1_199).step(after(5)),
        told(&[]),
        "between the two it does not fire afresh"
    );
}

#[test]
fn what_is_spent_is_not_said_to_be_nothing_before_anybody_has_looked() {
    let mut rig = Rig::new(vec![low_balance()]);
    let spending = |rig: &mut Rig, minute: u32| {
        rig.balance(after(minute), if minute % 2 == 1 { 100 } else { 5_000 });
        let notices = rig.engine.step(&rig.snapshot, after(minute)).notices;
        notices[0].details.iter().find(|(name, _)| &**name == "spending").unwrap().1.clone()
    };
    assert_eq!(spending(&mut rig, 1), "not known yet");
    rig.list(after(2), Vec::new());
    assert_eq!(spending(&mut rig, 2), "$0.00/h", "an empty list that came is knowledge");
    rig.list(after(3), vec![deployment("a", "running")]);
    assert_eq!(spending(&mut rig, 3), "$2.00/h");
}

#[test]
fn fault_05_a_balance_that_falls_to_zero_in_one_poll_alerts_now() {
    let mut rig = Rig::new(vec![low_balance()]);
    rig.step(T0);
    assert_eq!(
        rig.balance(after(1), 0).step(after(1)),
        told(&[(Transition::Firing, "low balance: research has $0.00 left")])
    );
}

#[test]
fn for_holds_an_alert_back_until_it_has_lasted_and_forgets_a_short_one() {
    let mut rig = Rig::new(vec![Rule { for_: MINUTE * 5, ..low_balance() }]);
    rig.balance(after(1), 100).step(after(1));
    assert_eq!(rig.held(after(2)), vec![HeldReason::Pending { until: after(6) }]);
    assert_eq!(rig.balance(after(3), 5_000).step(after(3)), told(&[]), "it never fired, so nothing resolves");
    rig.balance(after(4), 100).step(after(4));
    for minute in 5..=8 {
        assert_eq!(rig.balance(after(minute), 100).step(after(minute)), told(&[]), "`for` began anew");
    }
    assert_eq!(rig.step(after(9)).len(), 1);
}

#[test]
fn keep_firing_for_bridges_a_short_recovery() {
    let mut rig = Rig::new(vec![Rule { keep_firing_for: MINUTE * 10, ..low_balance() }]);
    rig.balance(after(1), 100).step(after(1));
    assert_eq!(rig.balance(after(2), 5_000).step(after(2)), told(&[]));
    assert_eq!(rig.held(after(3)), vec![HeldReason::KeptFiring { until: Some(after(12)) }]);
    assert_eq!(rig.balance(after(4), 100).step(after(4)), told(&[]), "still the same episode");
    rig.balance(after(5), 5_000).step(after(5));
    assert_eq!(rig.step(after(14)), told(&[]), "ten minutes count from the last recovery");
    assert_eq!(rig.step(after(15)).len(), 1);
}

#[test]
fn reminders_come_every_repeat_interval_with_ids_of_their_own() {
    let mut rig = Rig::new(vec![Rule { repeat_interval: Some(HOUR * 4), ..low_balance() }]);
    rig.balance(after(1), 100);
    let first = rig.engine.step(&rig.snapshot, after(1)).notices.remove(0);
    assert!(rig.step(after(240)).is_empty());
    let second = rig.engine.step(&rig.snapshot, after(241)).notices.remove(0);
    let third = rig.engine.step(&rig.snapshot, after(481)).notices.remove(0);
    assert_eq!((second.transition, third.transition), (Transition::Reminder, Transition::Reminder));
    let ids: std::collections::BTreeSet<_> = [&first, &second, &third].iter().map(|n| n.id.clone()).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn episodes_never_share_an_id_and_the_same_decision_always_has_the_same_one() {
    let ids = || {
        let mut rig = Rig::new(vec![low_balance()]);
        let mut ids = Vec::new();
        for minute in 1..5 {
            let cents = if minute % 2 == 1 { 100 } else { 5_000 };
            rig.balance(after(minute), cents);
            ids.extend(rig.engine.step(&rig.snapshot, after(minute)).notices.into_iter().map(|n| n.id));
        }
        ids
    };
    let once = ids();
    assert_eq!(once, ids());
    assert_eq!(once.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
}

#[test]
fn fault_04_a_watched_team_missing_from_the_answer_is_unknown_and_not_zero() {
    let mut rig = Rig::new(vec![low_balance(), rule("balance-unknown", RuleKind::BalanceUnknown)]);
    rig.step(T0);
    rig.fold(&seen(Feed::Balance, after(1), Scope::Unscoped, Ok(Facts::Balances(whole(Vec::new())))));
    assert_eq!(rig.step(after(1)), told(&[(Transition::Firing, "balance unknown: research")]));
    assert_eq!(
        rig.balance(after(2), 5_000).step(after(2)),
        told(&[(Transition::Resolved, "balance unknown: research")])
    );
}

#[test]
fn fault_03_an_unreadable_balance_is_unknown_and_keeps_the_last_state() {
    let mut rig = Rig::new(vec![low_balance(), rule("balance-unknown", RuleKind::BalanceUnknown)]);
    rig.balance(after(1), 100).step(after(1));
    let bad = Unreadable { id: Some("t1".into()), why: "balance: null".into() };
    let list = Listing { items: Vec::new(), unreadable: vec![bad], suspect: None };
    rig.fold(&seen(Feed::Balance, after(2), Scope::Unscoped, Ok(Facts::Balances(list))));
    assert_eq!(
        rig.step(after(2)),
        told(&[(Transition::Firing, "balance unknown: research")]),
        "low balance stays"
    );
    assert_eq!(rig.engine.firing().len(), 2);
}

#[test]
fn a_team_that_was_named_and_never_seen_is_told() {
    let mut rig = Rig::new(vec![rule("balance-unknown", RuleKind::BalanceUnknown)]);
    rig.engine.replace(
        vec![rule("balance-unknown", RuleKind::BalanceUnknown)],
        vec![Glob::new("reserch")],
        TimeZone::UTC,
    );
    assert_eq!(rig.step(after(1)), told(&[(Transition::Firing, "balance unknown: reserch")]));
}

#[test]
fn running_long_counts_from_the_start_and_wakes_at_its_threshold() {
    let mut rig = Rig::new(vec![rule("running-long", RuleKind::RunningLong { longer_than: HOUR * 24 })]);
    rig.list(T0, vec![deployment("a", "running")]);
    let wake = rig.engine.step(&rig.snapshot, T0).wake.map(|wake| wake.at);
    assert_eq!(wake, Some(T0.plus(HOUR * 23).plus(Duration::from_millis(1))));
    rig.list(T0.plus(HOUR * 23), vec![deployment("a", "running")]);
    assert_eq!(rig.step(T0.plus(HOUR * 23)), told(&[]));
    assert_eq!(
        rig.step(T0.plus(HOUR * 23 + MINUTE)),
        told(&[(Transition::Firing, "running long: box-a for 1d")])
    );
}

#[test]
fn a_list_of_hours_ago_says_nothing_about_now_though_every_later_poll_was_held_back() {
    let mut rig = Rig::new(vec![rule("running-long", RuleKind::RunningLong { longer_than: HOUR * 2 })]);
    rig.list(T0, vec![deployment("a", "running")]).step(T0);
    assert_eq!(rig.step(T0.plus(HOUR * 2)), told(&[]), "it may have ended meanwhile");
    rig.list(T0.plus(HOUR * 2), vec![deployment("a", "running")]);
    assert_eq!(rig.step(T0.plus(HOUR * 2)).len(), 1);
}

#[test]
fn fault_10_a_team_whose_own_list_failed_is_known_again_by_the_list_that_covers_all() {
    let mut rig = Rig::new(vec![rule("running-long", RuleKind::RunningLong { longer_than: MINUTE })]);
    let list = || Ok(Facts::Deployments(whole(vec![deployment("a", "running")])));
    let denied = Err(Failure::new(FailureKind::Server, "boom"));
    let scopes = vec![(Scope::Unscoped, list()), (Scope::Team(TeamId::new("t1")), denied)];
    rig.fold(&Observation { feed: Feed::Inventory, at: after(1), scopes, skew_ms: None });
    rig.fold(&seen(Feed::Deployments, after(1), Scope::Unscoped, list()));
    assert_eq!(rig.step(after(1)).len(), 1, "the next inventory is an hour away");
}

#[test]
fn a_failed_poll_neither_fires_nor_resolves() {
    let mut rig = Rig::new(vec![rule("running-long", RuleKind::RunningLong { longer_than: HOUR * 2 })]);
    rig.list(T0, vec![deployment("a", "running")]).step(T0);
    rig.fail(Feed::Deployments, after(90), FailureKind::Server);
    assert_eq!(rig.step(after(90)), told(&[]), "it may have ended meanwhile");
    assert_eq!(rig.held(after(90)), vec![HeldReason::Unknown { feed: Feed::Deployments }]);
    rig.list(after(91), vec![deployment("a", "running")]);
    assert_eq!(rig.step(after(91)).len(), 1);
    rig.fail(Feed::Deployments, after(92), FailureKind::Server);
    assert_eq!(rig.step(after(92)), told(&[]), "it does not resolve either");
}

#[test]
fn a_spot_interruption_is_told_once_and_never_resolved() {
    let mut rig = Rig::new(vec![rule("spot-interrupted", RuleKind::SpotInterrupted)]);
    rig.list(T0, vec![spot("a", "running")]).step(T0);
    rig.list(after(1), Vec::new());
    assert_eq!(rig.step(after(1)), told(&[]), "absence alone says nothing");
    let ended = Deployment { stopped_at: Some(after(1)), ..spot("a", "terminated-provider") };
    rig.detail(after(1), "a", Some(ended));
    assert_eq!(rig.step(after(1)), told(&[(Transition::Event, "spot interrupted: box-a after 1h 1m")]));
    assert_eq!(rig.list(after(2), Vec::new()).step(after(2)), told(&[]));
}

#[test]
fn a_volume_that_the_end_detached_is_named_as_left_and_another_is_not() {
    let mut rig = Rig::new(vec![rule("spot-interrupted", RuleKind::SpotInterrupted)]);
    rig.list(T0, vec![spot("a", "running")]).step(T0);
    let volume = |id: &str, detached: Option<Time>| crate::model::Volume {
        id: crate::model::VolumeId::new(id),
        created_at: T0,
        name: id.into(),
        team: TeamId::new("t1"),
        provider: "spheron-ai".into(),
        status: crate::model::VolumeStatus::Available,
        size_bytes: 1,
        used_bytes: 0,
        hourly_rate: Usd::from_cents(3),
        attached_to: Vec::new(),
        last_detached_at: detached,
    };
    let volumes =
        vec![volume("checkpoints", Some(after(60))), volume("old", Some(T0)), volume("never", None)];
    rig.fold(&seen(
        Feed::Volumes,
        after(61),
        Scope::Team(TeamId::new("t1")),
        Ok(Facts::Volumes(whole(volumes))),
    ));
    rig.list(after(61), vec![Deployment { stopped_at: Some(after(60)), ..spot("a", "terminated-provider") }]);
    let notice = rig.engine.step(&rig.snapshot, after(61)).notices.remove(0);
    let left: Vec<_> = notice.details.iter().filter(|(name, _)| &**name == "volume left").collect();
    assert_eq!(left, [&(Arc::from("volume left"), "checkpoints (checkpoints), $21.90 a month".to_owned())]);
    assert!(notice.reason.contains(" 1 volume is left "), "{}", notice.reason);
}

#[test]
fn a_stopped_instance_that_its_owner_ends_is_not_said_to_be_ended_by_the_provider() {
    let mut rig = Rig::new(vec![rule("provider-stopped", RuleKind::ProviderStopped)]);
    rig.list(T0, vec![deployment("a", "stopped")]);
    assert_eq!(rig.step(T0).len(), 1);
    rig.list(after(1), vec![Deployment { stopped_at: Some(after(1)), ..deployment("a", "terminated") }]);
    assert_eq!(rig.step(after(1)), told(&[(Transition::Resolved, "ended: box-a after 1h 1m")]));
}

#[test]
fn a_first_start_is_silent_about_a_long_past_and_tells_what_happened_today() {
    let mut rig = Rig::new(vec![rule("spot-interrupted", RuleKind::SpotInterrupted)]);
    let old = Deployment { stopped_at: Some(T0.minus(HOUR * 25)), ..spot("old", "terminated-provider") };
    let new = Deployment { stopped_at: Some(T0.minus(HOUR * 23)), ..spot("new", "terminated-provider") };
    rig.fold(&seen(Feed::Inventory, T0, Scope::Unscoped, Ok(Facts::Deployments(whole(vec![old, new])))));
    let titles: Vec<_> = rig.step(T0).into_iter().map(|(_, title)| title).collect();
    assert_eq!(titles.len(), 1);
    assert!(titles.first().unwrap().contains("box-new"), "{titles:?}");
}

#[test]
fn fault_02_an_unknown_status_is_told_as_a_state_that_bills() {
    let mut rig = Rig::new(vec![rule("provider-stopped", RuleKind::ProviderStopped)]);
    rig.list(T0, vec![deployment("a", "hibernating")]);
    assert_eq!(rig.step(T0), told(&[(Transition::Firing, "unknown status: box-a is `hibernating`")]));
    assert_eq!(rig.snapshot.burn_per_hour(&TeamId::new("t1")), Usd::from_cents(200));
    rig.list(after(1), vec![deployment("a", "running")]);
    assert_eq!(rig.step(after(1)), told(&[(Transition::Resolved, "running again: box-a")]));
}

#[test]
fn a_dedicated_instance_ended_by_its_provider_is_an_event() {
    let mut rig = Rig::new(vec![rule("provider-stopped", RuleKind::ProviderStopped)]);
    rig.list(T0, vec![deployment("a", "running")]).step(T0);
    let ended = Deployment { stopped_at: Some(after(1)), ..deployment("a", "terminated-provider") };
    rig.list(after(1), vec![ended]);
    assert_eq!(rig.step(after(1)), told(&[(Transition::Event, "ended by the provider: box-a after 1h 1m")]));
    assert_eq!(rig.step(after(2)), told(&[]));
}

#[test]
fn fault_06_a_fleet_that_empties_is_told_and_nothing_counts_as_ended() {
    let mut rig = Rig::new(vec![rule("fleet-shrunk", RuleKind::FleetShrunk)]);
    let fleet = || ["a", "b", "c", "d"].map(|id| deployment(id, "running")).to_vec();
    rig.list(T0, fleet()).step(T0);
    rig.list(after(1), Vec::new());
    assert_eq!(rig.step(after(1)), told(&[(Transition::Firing, "fleet shrunk: research")]));
    assert_eq!(rig.snapshot.vanished().len(), 4);
    assert!(
        rig.snapshot.deployments.values().all(|tracked| tracked.is_live()),
        "they bill until their own GET says not"
    );
    rig.list(after(2), fleet());
    assert_eq!(rig.step(after(2)), told(&[(Transition::Resolved, "fleet shrunk: research")]));
}

#[test]
fn fault_06_gone_takes_a_status_of_its_own_or_404_on_two_polls() {
    let mut rig = Rig::new(Vec::new());
    rig.list(T0, vec![deployment("a", "running")]);
    rig.list(after(1), Vec::new()).detail(after(1), "a", None);
    assert!(rig.snapshot.deployments[&DeploymentId::new("a")].is_live());
    rig.list(after(2), Vec::new()).detail(after(2), "a", None);
    assert_eq!(rig.snapshot.deployments[&DeploymentId::new("a")].presence, Presence::Gone(after(2)));
}

#[test]
fn fault_07_a_suspect_list_shows_nothing_gone() {
    let mut rig = Rig::new(vec![rule("fleet-shrunk", RuleKind::FleetShrunk)]);
    rig.list(T0, ["a", "b"].map(|id| deployment(id, "running")).to_vec()).step(T0);
    let list = Listing { items: Vec::new(), unreadable: Vec::new(), suspect: Some("total says 2".into()) };
    rig.fold(&seen(Feed::Deployments, after(1), Scope::Unscoped, Ok(Facts::Deployments(list))));
    assert_eq!(rig.step(after(1)), told(&[]));
    assert_eq!(rig.snapshot.vanished().len(), 0);
}

#[test]
fn fault_07_what_a_suspect_list_lacks_is_not_judged_afresh() {
    let mut rig = Rig::new(vec![rule("running-long", RuleKind::RunningLong { longer_than: HOUR * 2 })]);
    let suspect = |ids: &[&str]| Listing {
        suspect: Some("deployment b is listed twice".into()),
        ..whole(ids.iter().map(|id| deployment(id, "running")).collect())
    };
    rig.list(T0, ["a", "b"].map(|id| deployment(id, "running")).to_vec()).step(T0);
    let list = Ok(Facts::Deployments(suspect(&["b"])));
    rig.fold(&seen(Feed::Deployments, after(61), Scope::Unscoped, list));
    assert_eq!(rig.step(after(61)), told(&[(Transition::Firing, "running long: box-b for 2h 1m")]));
    rig.list(after(62), ["a", "b"].map(|id| deployment(id, "running")).to_vec());
    assert_eq!(rig.step(after(62)), told(&[(Transition::Firing, "running long: box-a for 2h 2m")]));
}

#[test]
fn an_unreadable_record_is_seen_and_its_deployment_is_not_judged_afresh() {
    let mut rig = Rig::new(vec![rule("running-long", RuleKind::RunningLong { longer_than: HOUR * 2 })]);
    rig.list(T0, vec![deployment("a", "running")]).step(T0);
    let bad = Unreadable { id: Some("a".into()), why: "hourlyRate: missing".into() };
    let list = Listing { items: Vec::new(), unreadable: vec![bad], suspect: None };
    rig.fold(&seen(Feed::Deployments, after(90), Scope::Unscoped, Ok(Facts::Deployments(list))));
    assert_eq!(rig.step(after(90)), told(&[]));
    assert_eq!(rig.snapshot.vanished().len(), 0, "a bad record is not an absent one");
}

#[test]
fn fault_10_a_forbidden_team_degrades_alone() {
    let mut rig = Rig::new(vec![
        rule("blind", RuleKind::Blind { longer_than: MINUTE * 5 }),
        rule("running-long", RuleKind::RunningLong { longer_than: MINUTE }),
    ]);
    let other =
        Balance { team: TeamId::new("t2"), name: "lab".into(), role: "member".into(), balance: Usd::ZERO };
    let mine = Balance {
        team: TeamId::new("t1"),
        name: "research".into(),
        role: "owner".into(),
        balance: Usd::ZERO,
    };
    for minute in 1..30 {
        rig.fold(&seen(
            Feed::Balance,
            after(minute),
            Scope::Unscoped,
            Ok(Facts::Balances(whole(vec![mine.clone(), other.clone()]))),
        ));
        rig.fold(&Observation {
            feed: Feed::Deployments,
            at: after(minute),
            scopes: vec![
                (
                    Scope::Team(TeamId::new("t1")),
                    Ok(Facts::Deployments(whole(vec![deployment("a", "running")]))),
                ),
                (Scope::Team(TeamId::new("t2")), Err(Failure::new(FailureKind::Forbidden, "FORBIDDEN"))),
            ],
            skew_ms: None,
        });
        let told = rig.step(after(minute));
        assert_eq!(told.len(), usize::from(minute == 1), "only running-long of t1, once: {told:?}");
    }
    assert_eq!(rig.snapshot.teams[&TeamId::new("t2")].denied.as_deref(), Some("FORBIDDEN"));
}

#[test]
fn fault_09_a_rejected_key_is_told_and_so_is_the_blindness() {
    let mut rig = Rig::new(vec![
        rule("key-rejected", RuleKind::KeyRejected),
        rule("blind", RuleKind::Blind { longer_than: MINUTE * 5 }),
    ]);
    rig.list(T0, vec![deployment("a", "running")]).step(T0);
    for minute in 1..=5 {
        rig.fail(Feed::Balance, after(minute), FailureKind::Unauthorized);
        rig.fail(Feed::Deployments, after(minute), FailureKind::Unauthorized);
        let expected: &[_] = if minute == 1 { &[(Transition::Firing, "API key rejected")] } else { &[] };
        assert_eq!(rig.step(after(minute)), told(expected), "minute {minute}");
    }
    let decisions = rig.engine.step(&rig.snapshot, after(6));
    let notice = &decisions.notices[0];
    assert_eq!(notice.title, "blind: no fresh data from Spheron");
    assert!(notice.reason.contains("$2.00/h"), "the last burn is told: {}", notice.reason);
    rig.balance(after(7), 5_000).list(after(7), vec![deployment("a", "running")]);
    assert_eq!(rig.step(after(7)).len(), 2, "both resolve");
}

#[test]
fn blind_counts_three_effective_intervals_when_they_are_longer() {
    let mut rig = Rig::new(vec![rule("blind", RuleKind::Blind { longer_than: MINUTE * 5 })]);
    rig.list(T0, Vec::new());
    for feed in [Feed::Balance, Feed::Deployments] {
        rig.snapshot.feeds.get_mut(&feed).unwrap().interval = MINUTE * 10;
    }
    assert_eq!(rig.step(after(30)), told(&[]));
    assert_eq!(rig.step(after(31)).len(), 1);
}

#[test]
fn fault_09_blindness_ends_when_both_are_read_again_and_not_by_a_restart_a_wakening_or_a_longer_interval() {
    let blind = rule("blind", RuleKind::Blind { longer_than: MINUTE * 5 });
    let mut rig = Rig::new(vec![blind.clone()]);
    rig.list(T0, Vec::new()).step(T0);
    rig.fail(Feed::Balance, after(6), FailureKind::Server).fail(
        Feed::Deployments,
        after(6),
        FailureKind::Server,
    );
    assert_eq!(rig.step(after(6)).len(), 1);
    rig.snapshot.feeds.get_mut(&Feed::Balance).unwrap().interval = HOUR;
    rig.snapshot.feeds.get_mut(&Feed::Deployments).unwrap().interval = HOUR;
    assert_eq!(rig.step(after(7)), told(&[]), "the governor stretched the schedule");
    for health in rig.snapshot.feeds.values_mut() {
        *health = FeedHealth { watched_since: after(8), ..health.clone() };
    }
    assert_eq!(rig.step(after(8)), told(&[]), "the machine woke up");
    let state = rig.engine.firing().into_iter().map(|(key, (state, _))| (key, state)).collect();
    rig.engine = engine(vec![blind], state);
    for feed in [Feed::Balance, Feed::Deployments] {
        rig.snapshot.feeds.insert(feed, FeedHealth::new(MINUTE, after(9)));
    }
    assert_eq!(rig.step(after(9)), told(&[]), "another process over the same store");
    assert_eq!(rig.balance(after(10), 5_000).step(after(10)), told(&[]), "the list is still missing");
    assert_eq!(rig.list(after(11), Vec::new()).step(after(11)).len(), 1, "both were read: it resolves");
}

#[test]
fn fault_20_an_id_that_comes_back_is_another_subject() {
    let mut rig = Rig::new(vec![rule("running-long", RuleKind::RunningLong { longer_than: MINUTE })]);
    rig.list(T0, vec![deployment("a", "running")]);
    assert_eq!(rig.step(T0).len(), 1);
    let reborn = Deployment { created_at: after(5), started_at: None, ..deployment("a", "running") };
    rig.list(after(5), vec![reborn]);
    assert_eq!(rig.step(after(5)).len(), 1, "the old one resolves");
    assert_eq!(rig.step(after(7)).len(), 1, "the new one fires by its own age");
    assert_eq!(rig.snapshot.deployments[&DeploymentId::new("a")].first_seen, after(5));
}

#[test]
fn fault_49_a_start_in_the_future_is_no_long_run() {
    let mut rig = Rig::new(vec![rule("running-long", RuleKind::RunningLong { longer_than: MINUTE })]);
    let future = Deployment { started_at: Some(after(1_000)), ..deployment("a", "running") };
    assert_eq!(rig.list(T0, vec![future]).step(T0), told(&[]));
}

#[test]
fn fault_53_a_configuration_that_failed_to_load_is_told_until_it_loads() {
    let mut rig = Rig::new(vec![rule("config-invalid", RuleKind::ConfigInvalid)]);
    rig.snapshot.config_error = Some("config.toml:3:1: rule: unknown key".into());
    assert_eq!(rig.step(T0), told(&[(Transition::Firing, "configuration could not be reloaded")]));
    rig.snapshot.config_error = None;
    assert_eq!(rig.step(after(1)).len(), 1);
}

#[test]
fn an_inventory_that_fails_for_a_team_leaves_its_alerts_to_the_lists_that_came() {
    let mut rig = Rig::new(vec![rule("running-long", RuleKind::RunningLong { longer_than: HOUR * 2 })]);
    rig.list(T0, vec![deployment("a", "running")]);
    rig.fold(&Observation {
        feed: Feed::Inventory,
        at: after(30),
        scopes: vec![
            (Scope::Unscoped, Ok(Facts::Deployments(whole(vec![deployment("a", "running")])))),
            (Scope::Team(TeamId::new("t1")), Err(Failure::new(FailureKind::Server, "boom"))),
        ],
        skew_ms: None,
    });
    rig.list(after(90), vec![deployment("a", "running")]);
    assert_eq!(rig.step(after(90)).len(), 1);
}

#[test]
fn every_vanished_deployment_gets_its_turn() {
    let mut rig = Rig::new(Vec::new());
    rig.list(T0, ["a", "b"].map(|id| deployment(id, "hibernating")).to_vec());
    rig.list(after(1), Vec::new()).detail(after(1), "a", Some(deployment("a", "hibernating")));
    rig.list(after(2), Vec::new());
    assert_eq!(rig.snapshot.vanished(), [&DeploymentId::new("b"), &DeploymentId::new("a")]);
}

#[test]
fn fault_08_what_a_list_lacks_and_its_own_get_finds_is_on_no_list_until_one_shows_it() {
    let mut rig = Rig::new(Vec::new());
    let running = || deployment("a", "running");
    let unlisted = |rig: &Rig| rig.snapshot.unlisted.contains(&DeploymentId::new("a"));
    rig.list(T0, vec![running()]);
    assert!(!unlisted(&rig));
    for minute in [1, 2] {
        rig.list(after(minute), Vec::new());
        assert_eq!(rig.snapshot.vanished().len(), 1, "it is asked for at each poll");
        rig.detail(after(minute), "a", Some(running()));
        assert!(unlisted(&rig), "at minute {minute}");
    }
    let found = Ok(Facts::Deployments(whole(vec![running()])));
    rig.fold(&seen(Feed::Inventory, after(2), Scope::Unscoped, found));
    assert!(unlisted(&rig), "the inventory and the list disagree as well");
    rig.list(after(3), vec![running()]);
    assert!(!unlisted(&rig));
    rig.list(after(4), Vec::new()).detail(after(4), "a", Some(deployment("a", "terminated")));
    rig.list(after(5), Vec::new());
    assert!(!unlisted(&rig), "an end of its own needs no list");
}

#[test]
fn fault_09_public_offers_do_not_prove_the_key() {
    let mut rig = Rig::new(vec![rule("key-rejected", RuleKind::KeyRejected)]);
    rig.fail(Feed::Balance, after(1), FailureKind::Unauthorized);
    assert_eq!(rig.step(after(1)).len(), 1);
    rig.fold(&seen(Feed::Offers, after(2), Scope::Unscoped, Ok(Facts::Offers(whole(Vec::new())))));
    assert_eq!(rig.step(after(2)), told(&[]));
}

#[test]
fn fault_44_a_clock_that_was_years_ahead_holds_nothing_back() {
    let mut rig = Rig::new(vec![Rule { for_: MINUTE * 5, repeat_interval: Some(HOUR), ..low_balance() }]);
    let wrong = T0.plus(HOUR * 24 * 365);
    rig.balance(wrong, 100).step(wrong);
    for minute in 1..6 {
        assert_eq!(rig.balance(after(minute), 100).step(after(minute)), told(&[]), "pending, from now on");
    }
    assert_eq!(rig.balance(after(6), 100).step(after(6)).len(), 1);
    let mut rig = Rig::new(vec![Rule { repeat_interval: Some(HOUR), ..low_balance() }]);
    rig.balance(wrong, 100).step(wrong);
    rig.balance(after(1), 100).step(after(1));
    assert_eq!(rig.step(after(62)).len(), 1, "reminders go on");
}

#[test]
fn a_balance_from_before_a_restart_fires_nothing_new() {
    let mut rig = Rig::new(vec![low_balance()]);
    rig.balance(after(1), 100);
    rig.snapshot.feeds.clear();
    assert_eq!(rig.step(after(60)), told(&[]), "somebody may have topped up meanwhile");
    assert_eq!(rig.balance(after(61), 100).step(after(61)).len(), 1);
}

#[test]
fn a_rule_that_is_new_tells_no_old_stories() {
    let mut rig = Rig::new(Vec::new());
    rig.list(T0, vec![spot("a", "running")]);
    rig.list(after(1), vec![Deployment { stopped_at: Some(after(1)), ..spot("a", "terminated-provider") }]);
    rig.engine.replace(
        vec![rule("spot-interrupted", RuleKind::SpotInterrupted)],
        vec![Glob::new("*")],
        TimeZone::UTC,
    );
    assert_eq!(rig.step(after(1).plus(HOUR * 25)), told(&[]));
    assert_eq!(rig.step(after(1).plus(HOUR * 23)).len(), 1);
}

#[test]
fn an_end_without_a_time_at_first_sight_is_the_past_unless_it_was_created_today() {
    let mut rig = Rig::new(vec![rule("spot-interrupted", RuleKind::SpotInterrupted)]);
    let old = Deployment { created_at: T0.minus(HOUR * 25), ..spot("old", "terminated-provider") };
    rig.list(T0, vec![old, spot("new", "terminated-provider")]);
    let told = rig.step(T0);
    assert_eq!(told.len(), 1);
    assert!(told[0].1.contains("box-new"), "{told:?}");
}

#[test]
fn a_failed_balance_poll_ripens_nothing() {
    let mut rig = Rig::new(vec![Rule { for_: MINUTE * 5, ..low_balance() }]);
    for minute in 1..6 {
        rig.balance(after(minute), 100).step(after(minute));
    }
    rig.fail(Feed::Balance, after(6), FailureKind::Server);
    assert_eq!(rig.step(after(7)), told(&[]));
    assert_eq!(rig.balance(after(7), 100).step(after(7)).len(), 1);
}

#[test]
fn a_team_that_is_no_longer_watched_leaves_with_all_that_is_its() {
    let mut rig = Rig::new(vec![rule("running-long", RuleKind::RunningLong { longer_than: HOUR * 2 })]);
    rig.list(T0, vec![deployment("a", "running")]);
    forget_unwatched(&mut rig.snapshot, &[Glob::new("another")]);
    assert!(rig.snapshot.teams.is_empty() && rig.snapshot.deployments.is_empty());
    assert_eq!(rig.step(after(90)), told(&[]));
}

#[test]
fn a_deleted_volume_costs_nothing() {
    let mut rig = Rig::new(Vec::new());
    let volume = |status: &str| crate::model::Volume {
        id: crate::model::VolumeId::new("v"),
        created_at: T0,
        name: "data".into(),
        team: TeamId::new("t1"),
        provider: "verda".into(),
        status: crate::model::VolumeStatus::from(Arc::from(status)),
        size_bytes: 1,
        used_bytes: 0,
        hourly_rate: Usd::from_cents(3),
        attached_to: Vec::new(),
        last_detached_at: None,
    };
    let scope = || Scope::Team(TeamId::new("t1"));
    for (status, cents) in [("available", 3), ("deleting", 3), ("deleted", 0)] {
        rig.fold(&seen(Feed::Volumes, after(1), scope(), Ok(Facts::Volumes(whole(vec![volume(status)])))));
        assert_eq!(rig.snapshot.burn_per_hour(&TeamId::new("t1")), Usd::from_cents(cents), "{status}");
    }
}

#[test]
fn empty_lists_do_not_show_that_one_list_covers_all() {
    let inventory = |unscoped: &[&str], own: [&[&str]; 2]| {
        let list = |ids: &[&str]| {
            Ok(Facts::Deployments(whole(ids.iter().map(|id| deployment(id, "running")).collect())))
        };
        let mut rig = Rig::new(Vec::new());
        rig.fold(&Observation {
            feed: Feed::Inventory,
            at: T0,
            scopes: vec![
                (Scope::Unscoped, list(unscoped)),
                (Scope::Team(TeamId::new("t1")), list(own[0])),
                (Scope::Team(TeamId::new("t2")), list(own[1])),
            ],
            skew_ms: None,
        });
        rig.snapshot.unscoped_covers
    };
    assert!(inventory(&["a", "b"], [&["a"], &["b"]]));
    assert!(!inventory(&["a"], [&["a"], &[]]), "it may be the current team's alone");
    assert!(!inventory(&["a"], [&["a"], &["b"]]));
    assert!(!inventory(&[], [&[], &[]]));
}

#[test]
fn fault_10_a_forbidden_team_does_not_hide_that_another_fleet_shrank() {
    let mut rig = Rig::new(vec![rule("fleet-shrunk", RuleKind::FleetShrunk)]);
    rig.snapshot.unscoped_covers = false;
    let poll = |rig: &mut Rig, at: Time, items: Vec<Deployment>| {
        rig.fold(&Observation {
            feed: Feed::Deployments,
            at,
            scopes: vec![
                (Scope::Team(TeamId::new("t1")), Ok(Facts::Deployments(whole(items)))),
                (Scope::Team(TeamId::new("t2")), Err(Failure::new(FailureKind::Forbidden, "FORBIDDEN"))),
            ],
            skew_ms: None,
        });
    };
    poll(&mut rig, T0, ["a", "b"].map(|id| deployment(id, "running")).to_vec());
    poll(&mut rig, after(1), Vec::new());
    assert_eq!(rig.step(after(1)).len(), 1);
}

#[test]
fn a_changed_repeat_interval_gives_no_id_twice() {
    let mut rig = Rig::new(vec![Rule { repeat_interval: Some(HOUR), ..low_balance() }]);
    let mut ids = std::collections::BTreeSet::new();
    for hour in 0..6 {
        let at = T0.plus(HOUR * hour);
        rig.balance(at, 100);
        ids.extend(rig.engine.step(&rig.snapshot, at).notices.into_iter().map(|notice| notice.id));
    }
    rig.engine.replace(
        vec![Rule { repeat_interval: Some(HOUR * 4), ..low_balance() }],
        vec![Glob::new("*")],
        TimeZone::UTC,
    );
    for hour in 6..20 {
        let at = T0.plus(HOUR * hour);
        rig.balance(at, 100);
        for notice in rig.engine.step(&rig.snapshot, at).notices {
            assert!(ids.insert(notice.id), "said before, so the outbox would ignore it");
        }
    }
    assert_eq!(ids.len(), 6 + 3);
}

#[test]
fn a_rule_that_is_gone_takes_its_alerts_along_silently() {
    let mut rig = Rig::new(vec![low_balance()]);
    rig.balance(after(1), 100).step(after(1));
    rig.engine.replace(Vec::new(), vec![Glob::new("*")], TimeZone::UTC);
    let decisions = rig.engine.step(&rig.snapshot, after(2));
    assert!(decisions.notices.is_empty());
    assert_eq!(decisions.alerts.len(), 1);
    assert!(rig.engine.firing().is_empty());
}

#[test]
fn state_that_is_handed_back_goes_on_where_it_was() {
    let mut rig = Rig::new(vec![low_balance()]);
    rig.balance(after(1), 100);
    let decisions = rig.engine.step(&rig.snapshot, after(1));
    let state = decisions.alerts.into_iter().filter_map(|(key, state)| Some((key, state?))).collect();
    rig.engine = engine(vec![low_balance()], state);
    assert_eq!(rig.step(after(2)), told(&[]), "a restart tells nothing twice");
    assert_eq!(rig.balance(after(3), 5_000).step(after(3)).len(), 1);
}

#[test]
fn a_receiver_that_wants_no_resolved_gets_none() {
    let quiet = vec![Route { receiver: "ops".into(), send_resolved: false }];
    let mut rig = Rig::new(vec![Rule { receivers: quiet, ..low_balance() }]);
    rig.balance(after(1), 100).step(after(1));
    assert_eq!(rig.balance(after(2), 5_000).step(after(2)), told(&[]));
    assert!(rig.engine.firing().is_empty());
}

#[test]
fn only_what_changed_becomes_a_row_and_a_question_is_no_change() {
    let mut rig = Rig::new(Vec::new());
    rig.list(T0, vec![deployment("a", "running"), deployment("b", "running")]);
    let before = rig.snapshot.clone();
    rig.balance(after(1), 5_000).list(after(1), vec![deployment("a", "running")]);
    assert_eq!(changes(&before, &rig.snapshot), vec![], "same balance; b's absence is a question");
    let dearer = Deployment { total_cost: Usd::from_cents(400), ..deployment("a", "running") };
    rig.list(after(2), vec![dearer]).balance(after(2), 4_800);
    let rows = changes(&before, &rig.snapshot);
    assert!(matches!(rows.as_slice(), [Change::Team(_), Change::Deployment(_)]), "{rows:?}");
}

#[test]
fn teams_that_are_not_watched_never_enter() {
    let mut rig = Rig::new(Vec::new());
    rig.engine.replace(Vec::new(), vec![Glob::new("research")], TimeZone::UTC);
    let foreign = Deployment { team: TeamId::new("t9"), ..deployment("x", "running") };
    rig.list(T0, vec![foreign, deployment("a", "running")]);
    assert_eq!(rig.snapshot.deployments.keys().map(DeploymentId::as_str).collect::<Vec<_>>(), ["a"]);
}

mod fleet;

#[test]
fn policies_are_decided_in_the_same_step_and_say_why_not() {
    use crate::model::{Condition, Hold, MatchKey, Matcher, Policies, Policy, Safety, StageName};
    let policy = Policy {
        name: "long".into(),
        matching: Matcher { globs: [(MatchKey::Name, vec![Glob::new("box-*")])].into() },
        when: vec![Condition::RunningFor(HOUR)],
        grace: MINUTE * 30,
        require_volume: false,
        receivers: vec!["ops".into()],
    };
    let safety = Safety { min_observed_age: MINUTE, ..Safety::default() };
    let policies = Policies { policies: vec![policy], safety, ..Policies::default() };
    let mut rig = Rig::new(Vec::new());
    rig.engine = rig.engine.with_policies(policies.clone(), Vec::new());
    rig.snapshot.skew_ms = Some(0);
    let mut decisions = Decisions::default();
    for minute in 0..3 {
        rig.list(after(minute), vec![deployment("a", "running")]);
        rig.snapshot.skew_ms = Some(0);
        decisions = rig.engine.step(&rig.snapshot, after(minute));
        if !decisions.actions.is_empty() {
            break;
        }
    }
    assert_eq!(decisions.notices.len(), 1, "a dry run tells");
    assert_eq!(decisions.shifts[0].to, StageName::Withheld);
    assert!(decisions.acts.is_empty());
    assert!(decisions.wake.is_some());
    let verdicts = rig.engine.policy_verdicts(&rig.snapshot, after(2));
    assert_eq!(verdicts[0].holds, [Hold::NotArmed]);
    let preview = rig.engine.preview("long", &rig.snapshot, after(2)).unwrap();
    assert_eq!(preview.would_end.len(), 1);
    rig.snapshot.confirmed.insert("ops".into(), T0);
    let arming = rig.engine.arm("long", &preview.code, "ann".into(), &rig.snapshot, after(2)).unwrap();
    rig.snapshot.armings.insert("long".into(), arming.into());
    rig.list(after(3), vec![deployment("a", "running")]);
    rig.snapshot.skew_ms = Some(0);
    let decisions = rig.engine.step(&rig.snapshot, after(3));
    assert_eq!(decisions.shifts[0].to, StageName::Marked);
    assert_eq!(rig.engine.step(&rig.snapshot, after(3)).shifts, []);
    rig.engine.replace_policies(Policies::default());
    assert_eq!(rig.engine.step(&rig.snapshot, after(3)).shifts[0].to, StageName::Cancelled);
}
