use std::{collections::BTreeMap, sync::Arc};

use jiff::tz::TimeZone;

use super::*;
use crate::{
    engine::{Engine, Money},
    model::{
        Books, Deployment, DeploymentId, FeedHealth, Glob, Grouping, InstanceType, Outcome, Presence, Purse,
        Route, RuleKind, Severity, Status, Tracked, Transition,
    },
};

/// 2026-11-24, a Tuesday, 10:00 UTC.
const T0: Time = Time::from_secs(1_795_514_400);

fn after(minutes: u64) -> Time {
    T0.plus(Duration::from_secs(60 * minutes))
}

/// One team, one deployment at 1 $/h since T0, one rule.
struct Rig {
    snapshot: Snapshot,
    engine: Engine,
}

impl Rig {
    fn new(kind: RuleKind) -> Self {
        Self::with(kind, Books::default())
    }

    fn with(kind: RuleKind, books: Books) -> Self {
        let rule = Rule {
            name: "r".into(),
            kind,
            severity: Severity::Warning,
            for_: Duration::ZERO,
            keep_firing_for: Duration::ZERO,
            matcher: Default::default(),
            receivers: vec![Route { receiver: "ops".into(), send_resolved: true }],
            repeat_interval: None,
        };
        let money = Money::new(TimeZone::UTC, books);
        let mut engine = Engine::new(vec![rule], vec![Glob::new("*")], money, BTreeMap::new());
        engine.regroup(Grouping { wait: Duration::ZERO, interval: Duration::ZERO, ..Grouping::default() });
        let mut rig = Self { snapshot: Snapshot::default(), engine };
        rig.rate(100);
        rig
    }

    fn rate(&mut self, cents: i64) {
        let deployment = Deployment {
            id: DeploymentId::new("d"),
            created_at: T0,
            name: "d".into(),
            team: TeamId::new("t"),
            gpu_type: "h100".into(),
            gpu_count: 1,
            provider: "p".into(),
            region: "r".into(),
            instance_type: InstanceType::new("DEDICATED"),
            status: Status::Running,
            hourly_rate: Usd::from_cents(cents),
            total_cost: Usd::ZERO,
            started_at: None,
            stopped_at: None,
            kubernetes: false,
            access: Default::default(),
        };
        let tracked = Tracked {
            deployment,
            first_seen: T0,
            presence: Presence::Listed,
            status_since: T0,
            status_before: None,
            rate_before: None,
            unreadable_since: None,
        };
        self.snapshot.deployments.insert(DeploymentId::new("d"), Arc::new(tracked));
    }

    fn read(&mut self, feed: Feed, now: Time, outcome: Outcome) {
        let health =
            self.snapshot.feeds.entry(feed).or_insert_with(|| FeedHealth::new(Duration::from_secs(60), T0));
        health.last_outcome = Some(outcome);
        if outcome == Outcome::Complete {
            (health.last_usable, health.last_complete) = (Some(now), Some(now));
        }
    }

    /// Both feeds are read; the balance is so much.
    fn poll(&mut self, minute: u64, cents: i64) -> Vec<(Transition, String)> {
        let now = after(minute);
        self.read(Feed::Balance, now, Outcome::Complete);
        self.read(Feed::Deployments, now, Outcome::Complete);
        let balance = Usd::from_cents(cents);
        let last = self.snapshot.teams.get(&TeamId::new("t")).cloned();
        let previous = last.and_then(|team| {
            if team.balance == Some(balance) {
                team.previous
            } else {
                team.balance.map(|before| (before, now))
            }
        });
        let team = TrackedTeam {
            id: TeamId::new("t"),
            name: "lab".into(),
            role: "owner".into(),
            balance: Some(balance),
            balance_at: Some(now),
            previous,
            unknown_since: None,
            denied: None,
        };
        self.snapshot.teams.insert(TeamId::new("t"), Arc::new(team));
        self.step(minute)
    }

    fn step(&mut self, minute: u64) -> Vec<(Transition, String)> {
        let decisions = self.engine.step(&self.snapshot, after(minute));
        decisions.notices.into_iter().map(|notice| (notice.transition, notice.title)).collect()
    }

    fn transitions(&mut self, minute: u64, cents: i64) -> Vec<Transition> {
        self.poll(minute, cents).into_iter().map(|(transition, _)| transition).collect()
    }
}

fn told(transition: Transition, title: &str) -> Vec<(Transition, String)> {
    vec![(transition, title.to_owned())]
}

#[test]
fn a_runway_fires_at_its_threshold_stays_a_tenth_beyond_and_a_top_up_resolves_it() {
    let mut rig = Rig::new(RuleKind::Runway { below: Duration::from_secs(6 * 3_600) });
    assert_eq!(rig.poll(0, 601), vec![]);
    assert_eq!(rig.poll(1, 601), told(Transition::Firing, "short runway: lab has 5h 59m left"));
    // 1.1 × 6 h is 6.6 h.
    assert_eq!(rig.poll(2, 660), vec![], "hysteresis");
    assert_eq!(rig.poll(3, 5_005), told(Transition::Resolved, "runway: lab has 2d 2h left"));
}

#[test]
fn a_runway_equal_to_its_threshold_stays_firing() {
    let mut rig = Rig::new(RuleKind::Runway { below: Duration::from_secs(6 * 3_600) });
    assert_eq!(rig.transitions(0, 600), [Transition::Firing]);
    assert_eq!(rig.transitions(1, 602), []);
}

#[test]
fn fault_09_a_runway_goes_on_from_the_last_burn_while_nothing_can_be_read() {
    let mut rig = Rig::new(RuleKind::Runway { below: Duration::from_secs(6 * 3_600) });
    assert_eq!(rig.poll(0, 800), vec![]);
    rig.read(Feed::Balance, T0, Outcome::Failed);
    rig.read(Feed::Deployments, T0, Outcome::Failed);
    assert_eq!(rig.step(60), vec![]);
    assert_eq!(rig.step(120), told(Transition::Firing, "short runway: lab has 6h left"));
    assert_eq!(rig.step(400), vec![], "and does not resolve");
}

#[test]
fn an_unknown_balance_keeps_a_runway_as_it_is() {
    let mut rig = Rig::new(RuleKind::Runway { below: Duration::from_secs(6 * 3_600) });
    assert_eq!(rig.transitions(0, 100), [Transition::Firing]);
    let team = rig.snapshot.teams.get_mut(&TeamId::new("t")).unwrap();
    Arc::make_mut(team).unknown_since = Some(after(1));
    Arc::make_mut(team).balance = Some(Usd::from_cents(99_999));
    assert_eq!(rig.step(1), vec![]);
}

#[test]
fn a_burn_rate_above_its_threshold_fires_and_a_failed_list_keeps_it() {
    let mut rig = Rig::new(RuleKind::BurnRate { above: Usd::from_cents(100) });
    assert_eq!(rig.poll(0, 10_000), vec![], "equal is not above");
    rig.rate(101);
    assert_eq!(rig.poll(1, 10_000), told(Transition::Firing, "burn rate: lab spends $1.01/h"));
    rig.rate(50);
    rig.read(Feed::Deployments, T0, Outcome::Failed);
    assert_eq!(rig.step(2), vec![]);
    assert_eq!(rig.transitions(3, 10_000), [Transition::Resolved]);
}

#[test]
fn fault_05_a_balance_that_halves_in_one_poll_is_told_at_once_and_once() {
    let mut rig = Rig::new(RuleKind::BalanceJump);
    assert_eq!(rig.poll(0, 10_000), vec![]);
    assert_eq!(rig.poll(1, 5_001), vec![], "less than half");
    assert_eq!(rig.poll(2, 0), told(Transition::Event, "balance fell: lab has $50.01 less"));
    assert_eq!(rig.poll(3, 0), vec![]);
    assert_eq!(rig.poll(4, 20_000), told(Transition::Event, "balance rose: lab has $200.00 more"));
    assert_eq!(rig.poll(5, 19_900), vec![]);
    assert_eq!(rig.poll(6, 9_000), told(Transition::Event, "balance fell: lab has $109.00 less"));
}

#[test]
fn a_budget_tells_each_threshold_once_per_period_forecast_before_spent() {
    // 1 $/h from 10:00: 14 $ by midnight.
    let kind =
        RuleKind::Budget { amount: Usd::from_cents(1_000), period: Period::Day, at: vec![50, 80, 100] };
    let mut rig = Rig::new(kind);
    let mut heard = Vec::new();
    for minute in (0..38 * 60).step_by(10) {
        heard.extend(rig.poll(minute, 100_000).into_iter().map(|(_, title)| (minute, title)));
    }
    let title = |minute: u64, text: &str| (minute, format!("budget: lab {text} % of $10.00"));
    assert_eq!(
        heard,
        [
            title(0, "will spend 100"),
            title(300, "has spent 50"),
            title(480, "has spent 80"),
            title(600, "has spent 100"),
            title(840, "will spend 100"),
            title(840 + 300, "has spent 50"),
            title(840 + 480, "has spent 80"),
            title(840 + 600, "has spent 100"),
        ]
    );
}

#[test]
fn a_threshold_that_was_told_is_not_told_again_after_a_fall_and_a_rise_of_the_forecast() {
    let kind = RuleKind::Budget { amount: Usd::from_cents(1_000), period: Period::Day, at: vec![100] };
    let mut rig = Rig::new(kind);
    assert_eq!(rig.transitions(0, 100_000), [Transition::Event]);
    rig.rate(10);
    assert_eq!(rig.transitions(10, 100_000), []);
    rig.rate(100);
    assert_eq!(rig.transitions(20, 100_000), []);
}

#[test]
fn unexplained_spend_fires_above_its_threshold_and_passes_after_a_day() {
    let named = vec![(after(0), Usd::from_cents(130))];
    let purse = Purse { paid: Some(Usd::from_cents(10_000)), named, ..Purse::default() };
    let books = Books { purses: BTreeMap::from([(TeamId::new("t"), purse)]), ..Books::default() };
    let mut rig = Rig::with(RuleKind::UnexplainedSpend { above: Usd::from_cents(100) }, books);
    assert_eq!(rig.poll(1, 10_000), told(Transition::Firing, "unexplained spend: $1.30 of lab in 24 h"));
    assert_eq!(rig.transitions(24 * 60 - 1, 10_000), []);
    assert_eq!(rig.transitions(24 * 60, 10_000), [Transition::Resolved]);
}

#[test]
fn unexplained_spend_is_unknown_before_balance_and_costs_were_ever_compared() {
    let mut rig = Rig::new(RuleKind::UnexplainedSpend { above: Usd::ZERO });
    rig.poll(0, 10_000);
    let held = rig.engine.held(&rig.snapshot, after(0));
    assert_eq!(held[0].reason, crate::model::HeldReason::Unknown { feed: Feed::Balance });
}
