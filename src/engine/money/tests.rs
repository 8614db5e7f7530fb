use std::{sync::Arc, time::Duration};

use super::*;
use crate::model::{
    Deployment, DeploymentId, FeedHealth, InstanceType, Presence, Status, Tracked, TrackedVolume, Volume,
    VolumeId, VolumeStatus,
};

const T0: Time = Time::from_secs(1_800_000_000);

fn after(minutes: i64) -> Time {
    Time::from_secs(T0.secs() + minutes * 60)
}

fn team(balance: i64, at: Time) -> Arc<TrackedTeam> {
    Arc::new(TrackedTeam {
        id: TeamId::new("t"),
        name: "t".into(),
        role: "owner".into(),
        balance: Some(Usd::from_cents(balance)),
        balance_at: Some(at),
        previous: None,
        unknown_since: None,
        denied: None,
    })
}

fn tracked(id: &str, created: Time, cents: i64, total: i64) -> Tracked {
    Tracked {
        deployment: Deployment {
            id: DeploymentId::new(id),
            created_at: created,
            name: id.into(),
            team: TeamId::new("t"),
            gpu_type: "h100".into(),
            gpu_count: 1,
            provider: "p".into(),
            region: "r".into(),
            instance_type: InstanceType::new("DEDICATED"),
            status: Status::Running,
            hourly_rate: Usd::from_cents(cents),
            total_cost: Usd::from_cents(total),
            started_at: Some(created),
            stopped_at: None,
            kubernetes: false,
            access: Default::default(),
        },
        first_seen: created,
        presence: Presence::Listed,
        status_since: created,
        status_before: None,
        rate_before: None,
        unreadable_since: None,
    }
}

struct Rig {
    money: Money,
    snapshot: Snapshot,
    charges: Vec<Charge>,
    books: Books,
}

impl Rig {
    fn new(zone: &str) -> Self {
        let money = Money::new(TimeZone::get(zone).unwrap(), Books::default());
        Self { money, snapshot: Snapshot::default(), charges: Vec::new(), books: Books::default() }
    }

    fn hold(&mut self, tracked: Tracked) {
        self.snapshot.deployments.insert(tracked.deployment.id.clone(), Arc::new(tracked));
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Tracked)) {
        let tracked = self.snapshot.deployments.get_mut(&DeploymentId::new(id)).unwrap();
        change(Arc::make_mut(tracked));
    }

    /// All feeds were read now, and the balance is so much.
    fn poll(&mut self, now: Time, balance: i64) -> (Forecast, Booked) {
        for feed in [Feed::Balance, Feed::Deployments, Feed::Volumes] {
            let health = FeedHealth {
                last_usable: Some(now),
                last_complete: Some(now),
                last_outcome: Some(Outcome::Complete),
                ..FeedHealth::new(Duration::from_secs(60), now)
            };
            self.snapshot.feeds.insert(feed, health);
        }
        self.snapshot.teams.insert(TeamId::new("t"), team(balance, now));
        self.books.seen = Some(now);
        self.step(now)
    }

    fn step(&mut self, now: Time) -> (Forecast, Booked) {
        let booked = self.money.step(&self.snapshot, now);
        self.charges.extend(booked.charges.iter().cloned());
        for (subject, line) in &booked.lines {
            self.books.lines.insert(subject.clone(), line.clone().unwrap());
        }
        self.books.purses.extend(booked.purses.iter().cloned());
        (booked.forecasts.get(&TeamId::new("t")).copied().unwrap_or_default(), booked)
    }

    fn restart(&mut self) {
        self.money = Money::new(self.money.zone.clone(), self.books.clone());
        self.snapshot.feeds.clear();
    }

    fn charged(&self, id: &str) -> Usd {
        let of = |charge: &&Charge| charge.subject.to_string().contains(&format!("/{id}"));
        self.charges.iter().filter(of).map(|charge| charge.amount).sum()
    }
}

#[test]
fn a_step_on_an_unchanged_account_books_nothing_until_the_hour_is_over() {
    let mut rig = Rig::new("UTC");
    rig.hold(tracked("d", after(-30), 100, 0));
    assert!(!rig.poll(T0, 5_000).1.charges.is_empty());
    rig.poll(after(1), 5_000);
    let (_, booked) = rig.poll(after(2), 5_000);
    assert_eq!((booked.lines, booked.charges, booked.purses), (vec![], vec![], vec![]));
    let (_, booked) = rig.poll(after(60), 5_000);
    assert_eq!(booked.lines.len(), 1, "T0 is a full hour");
    let (forecast, again) = rig.step(after(60));
    assert_eq!((again.lines, again.charges, again.purses), (vec![], vec![], vec![]), "a fixpoint");
    assert_eq!(forecast.deployments_total, Usd::from_cents(150));
}

#[test]
fn everything_but_a_known_end_bills() {
    for (status, stopped, bills) in [
        ("running", false, true),
        ("deploying", false, true),
        ("stopped", false, true),
        ("maintenance", false, true),
        ("failed", false, true),
        ("failed", true, false),
        ("terminated", false, false),
    ] {
        let mut rig = Rig::new("UTC");
        let mut tracked = tracked("d", T0, 100, 0);
        tracked.deployment.status = Status::from(Arc::from(status));
        tracked.deployment.stopped_at = stopped.then_some(T0);
        rig.hold(tracked);
        rig.poll(T0, 5_000);
        let (forecast, _) = rig.poll(after(120), 5_000);
        let expected = if bills { 200 } else { 0 };
        assert_eq!(forecast.deployments_total, Usd::from_cents(expected), "{status}");
        assert_eq!(forecast.committed > Usd::ZERO, bills, "{status}");
    }
}

#[test]
fn fault_03_a_price_that_cannot_be_read_leaves_the_last_one_billing_as_an_estimate() {
    let mut rig = Rig::new("UTC");
    rig.hold(tracked("d", T0, 100, 0));
    rig.poll(T0, 5_000);
    rig.change("d", |tracked| tracked.unreadable_since = Some(after(1)));
    let (forecast, _) = rig.poll(after(60), 5_000);
    assert_eq!((forecast.committed, rig.charged("d")), (Usd::from_cents(100), Usd::from_cents(100)));
    let estimated: Usd = rig.charges.iter().map(|charge| charge.estimated).sum();
    assert!(estimated > Usd::ZERO);
}

#[test]
fn fault_20_an_id_with_another_creation_is_another_line_and_ends_the_old_one() {
    let mut rig = Rig::new("UTC");
    rig.hold(tracked("d", T0, 100, 0));
    rig.poll(T0, 5_000);
    rig.poll(after(60), 5_000);
    rig.hold(tracked("d", after(90), 300, 0));
    let (forecast, _) = rig.poll(after(120), 5_000);
    assert_eq!(forecast.committed, Usd::from_cents(300));
    let ended: Vec<bool> = rig.books.lines.values().map(|line| line.ended).collect();
    assert_eq!(ended, [true, false]);
    assert_eq!(rig.charged("d"), Usd::from_cents(150 + 150), "no moment of either twice");
}

#[test]
fn fault_21_an_add_on_outside_the_rate_is_charged_and_seen_as_drift() {
    let mut rig = Rig::new("UTC");
    rig.hold(tracked("d", T0, 100, 0));
    rig.poll(T0, 5_000);
    for hour in 1..=3 {
        rig.poll(after(hour * 60 - 1), 5_000 - 110 * (hour - 1));
        rig.change("d", |tracked| tracked.deployment.total_cost = Usd::from_cents(110 * hour));
        rig.poll(after(hour * 60), 5_000 - 110 * hour);
    }
    rig.poll(after(181), 4_670);
    let (forecast, _) = rig.poll(after(182), 4_670);
    assert_eq!(rig.charged("d"), Usd::from_cents(330));
    assert_eq!(rig.books.lines.values().next().unwrap().drift_permille, 100);
    assert_eq!(forecast.finding, Some(crate::model::Finding::RateChanged));
}

#[test]
fn a_rate_that_changes_within_the_hour_is_charged_from_then_on() {
    let mut rig = Rig::new("UTC");
    rig.hold(tracked("d", T0, 100, 0));
    rig.poll(T0, 5_000);
    rig.poll(after(20), 5_000);
    rig.change("d", |tracked| tracked.deployment.hourly_rate = Usd::from_cents(400));
    rig.poll(after(21), 5_000);
    let (forecast, _) = rig.poll(after(60), 5_000);
    assert_eq!(forecast.deployments_total, Usd::from_cents(35 + 260));
}

#[test]
fn a_deployment_that_lived_five_seconds_between_two_polls_costs_its_total_cost() {
    let mut rig = Rig::new("UTC");
    rig.poll(T0, 5_000);
    let mut short = tracked("d", Time::from_secs(T0.secs() + 10), 9_000, 13);
    short.deployment.status = Status::Terminated;
    short.deployment.stopped_at = Some(Time::from_secs(T0.secs() + 15));
    rig.hold(short);
    rig.poll(after(60), 4_987);
    rig.poll(after(61), 4_987);
    let (forecast, _) = rig.poll(after(62), 4_987);
    assert_eq!(rig.charged("d"), Usd::from_cents(13));
    assert_eq!(forecast.finding, Some(crate::model::Finding::Matched));
}

#[test]
fn fault_47_a_day_of_twenty_five_hours_is_spent_whole_and_begins_anew_at_its_own_midnight() {
    // 2026-10-25 in Berlin: from 22:00 UTC of the day before for 25 hours.
    let midnight = Time::parse_rfc3339("2026-10-24T22:00:00Z").unwrap();
    let at = |minutes: u64| midnight.plus(Duration::from_secs(60 * minutes));
    let mut rig = Rig::new("Europe/Berlin");
    rig.hold(tracked("d", midnight.minus(Duration::from_secs(3_600)), 100, 0));
    rig.poll(midnight.minus(Duration::from_secs(60)), 50_000);
    let mut spent = Vec::new();
    for minute in (0..26 * 60).step_by(10) {
        let (forecast, _) = rig.poll(at(minute), 50_000);
        if [0, 60, 24 * 60, 25 * 60 - 10, 25 * 60, 25 * 60 + 30].contains(&minute) {
            spent.push((forecast.day.spent.nanos() + 5_000_000) / 10_000_000);
        }
        if minute == 600 {
            rig.restart();
        }
    }
    assert_eq!(spent, [0, 100, 2_400, 2_483, 0, 50]);
}

#[test]
fn fault_47_a_day_that_begins_at_half_past_is_cut_there() {
    let midnight = Time::parse_rfc3339("2026-11-23T18:30:00Z").unwrap();
    let mut rig = Rig::new("Asia/Kolkata");
    rig.hold(tracked("d", midnight.minus(Duration::from_secs(1_800)), 100, 0));
    rig.poll(midnight.minus(Duration::from_secs(60)), 50_000);
    let (forecast, _) = rig.poll(midnight.plus(Duration::from_secs(1_800)), 50_000);
    assert_eq!((forecast.day.from, forecast.day.spent), (midnight, Usd::from_cents(50)));
    assert_eq!(forecast.day.forecast, Usd::from_cents(2_400));
    let sums: Usd = rig.charges.iter().map(|charge| charge.amount).sum();
    assert_eq!(sums, Usd::from_cents(100), "the hour holds both halves");
}

#[test]
fn fault_50_a_restart_after_hours_fills_the_gap_and_flags_it() {
    let mut rig = Rig::new("UTC");
    rig.hold(tracked("d", T0, 100, 0));
    for minute in 0..=60 {
        rig.poll(after(minute), 5_000);
    }
    rig.restart();
    let (forecast, booked) = rig.step(after(300));
    assert_eq!(booked.charges, [], "what was not observed yet is not booked");
    assert_eq!(forecast.deployments_total, Usd::from_cents(500));
    let (forecast, _) = rig.poll(after(301), 5_000);
    assert_eq!(rig.charged("d").nanos(), Usd::from_cents(502).nanos() - 3_333_334);
    let estimated: Usd = rig.charges.iter().map(|charge| charge.estimated).sum();
    assert_eq!(estimated.nanos(), 4_016_666_667 - 1);
    assert_eq!(forecast.deployments_total, rig.charged("d"));
}

#[test]
fn fault_09_while_the_balance_cannot_be_read_it_ends_when_the_last_one_says() {
    let mut rig = Rig::new("UTC");
    rig.hold(tracked("d", T0, 100, 0));
    let end = |forecast: Forecast| forecast.committed_end.map(|end| (end.secs() - T0.secs()) / 60);
    assert_eq!(end(rig.poll(T0, 1_000).0), Some(600));
    // Nothing is read any more.
    assert_eq!(end(rig.step(after(200)).0), Some(600));
    assert_eq!(end(rig.step(after(590)).0), Some(600));
    // Deployments are read again, and tell of deductions that the old balance does not show.
    let health = rig.snapshot.feeds.get_mut(&Feed::Deployments).unwrap();
    (health.last_usable, health.last_complete) = (Some(after(595)), Some(after(595)));
    rig.change("d", |tracked| tracked.deployment.total_cost = Usd::from_cents(900));
    assert_eq!(end(rig.step(after(595)).0), Some(600));
}

#[test]
fn a_balance_in_steps_is_less_what_accrued_since_the_last_one() {
    let mut rig = Rig::new("UTC");
    rig.hold(tracked("d", after(-30), 100, 0));
    let volume = Volume {
        id: VolumeId::new("v"),
        created_at: after(-30),
        name: "v".into(),
        team: TeamId::new("t"),
        provider: "p".into(),
        status: VolumeStatus::Available,
        size_bytes: 1,
        used_bytes: 0,
        hourly_rate: Usd::from_cents(20),
        attached_to: Vec::new(),
        last_detached_at: None,
    };
    let volume = TrackedVolume { volume, first_seen: T0, gone_at: None };
    rig.snapshot.volumes.insert(VolumeId::new("v"), Arc::new(volume));
    let (forecast, _) = rig.poll(T0, 1_200);
    assert_eq!(forecast.committed, Usd::from_cents(120));
    assert_eq!(forecast.committed_end, Some(after(570)), "half an hour of both is owed already");
    assert_eq!(forecast.observed, None, "not yet known");
}

#[test]
fn a_hostile_past_is_few_charges_and_the_whole_amount() {
    let mut rig = Rig::new("UTC");
    for (id, created) in [("ancient", Time::EPOCH), ("future", after(60 * 24 * 365))] {
        let mut old = tracked(id, created, 100, 123_456);
        old.deployment.status = Status::Terminated;
        old.status_since = T0;
        rig.hold(old);
    }
    rig.poll(T0, 5_000);
    assert_eq!(rig.charged("ancient"), Usd::from_cents(123_456));
    assert_eq!(rig.charged("future"), Usd::from_cents(123_456));
    assert!(rig.charges.len() < 340, "{}", rig.charges.len());
}

#[test]
fn fault_44_a_clock_that_cannot_be_right_bills_nothing() {
    let mut rig = Rig::new("UTC");
    rig.hold(tracked("d", T0, 100, 0));
    rig.poll(T0, 5_000);
    let (known, _) = rig.poll(after(60), 5_000);
    let year = 60 * 24 * 365;
    for wrong in [year, -year, -30 * year] {
        // At once: nothing was read since, so it could be a long sleep.
        let (forecast, booked) = rig.step(after(wrong));
        assert_eq!((booked.charges, booked.purses, forecast), (vec![], vec![], known), "{wrong}");
        // Then the API is read, and its clock says so.
        rig.snapshot.skew_ms = Some(-wrong * 60_000);
        let (_, booked) = rig.poll(after(wrong), 5_000);
        assert_eq!((booked.charges, booked.purses), (vec![], vec![]), "{wrong}");
        rig.snapshot.skew_ms = Some(0);
    }
    let (forecast, _) = rig.poll(after(120), 5_000);
    assert_eq!(
        (forecast.deployments_total, forecast.month.spent),
        (Usd::from_cents(200), Usd::from_cents(200))
    );
    // A store that an earlier process left with a clock ahead.
    rig.books.seen = Some(after(year));
    rig.restart();
    rig.poll(after(180), 5_000);
    rig.poll(after(240), 5_000);
    assert_eq!(rig.charged("d"), Usd::from_cents(400));
}

#[test]
fn a_day_that_turns_while_nobody_looks_is_parted_at_midnight() {
    let midnight = Time::parse_rfc3339("2026-11-24T00:00:00Z").unwrap();
    let at = |minutes: u64| midnight.plus(Duration::from_secs(60 * minutes));
    let mut rig = Rig::new("UTC");
    rig.hold(tracked("d", midnight.minus(Duration::from_secs(7_200)), 100, 0));
    rig.poll(midnight.minus(Duration::from_secs(3_600)), 50_000);
    let (forecast, booked) = rig.step(at(30));
    assert_eq!((booked.charges, forecast.day.spent), (vec![], Usd::from_cents(50)));
    let (forecast, _) = rig.poll(at(60), 50_000);
    assert_eq!(forecast.day.spent, Usd::from_cents(100));
}

#[test]
fn what_a_list_lacks_is_doubtful_until_it_is_asked_for_or_two_minutes_have_passed() {
    let mut rig = Rig::new("UTC");
    rig.hold(tracked("kept", T0, 100, 0));
    rig.hold(tracked("gone", T0, 900, 0));
    let (before, _) = rig.poll(after(1), 10_000);
    assert_eq!((before.certain, before.certain_end), (before.committed, before.committed_end));
    rig.change("gone", |tracked| tracked.presence = Presence::Missing { since: after(2), not_found: 0 });
    for (minute, certain) in [(2, 100), (3, 100), (4, 1_000)] {
        let (forecast, _) = rig.poll(after(minute), 10_000);
        assert_eq!(forecast.committed, Usd::from_cents(1_000), "it bills until somebody knows better");
        assert_eq!(forecast.certain, Usd::from_cents(certain), "minute {minute}");
        let hours = forecast.certain_end.unwrap().since(after(minute)).as_secs() / 3_600;
        assert_eq!(hours, if certain == 100 { 99 } else { 9 }, "minute {minute}");
    }
}

#[test]
fn a_balance_that_was_debited_while_the_lists_failed_is_not_charged_twice() {
    let mut rig = Rig::new("UTC");
    rig.hold(tracked("d", T0, 1_000, 0));
    rig.poll(after(1), 10_000);
    // For five hours only the balance is read, and it falls hour by hour.
    for hour in 1..=5 {
        let read = after(60 * hour + 2);
        rig.snapshot.teams.insert(TeamId::new("t"), team(10_000 - hour * 1_000, read));
        let health = rig.snapshot.feeds.get_mut(&Feed::Balance).unwrap();
        (health.last_usable, health.last_complete) = (Some(read), Some(read));
        let (forecast, _) = rig.step(read);
        let left = forecast.committed_end.unwrap().since(read).as_secs();
        let true_left = u64::try_from(10 - hour).unwrap() * 3_600;
        assert!(left.abs_diff(true_left) <= 3_600, "hour {hour}: {left} s, truly {true_left} s");
    }
}

#[test]
fn what_a_first_list_after_an_outage_tells_is_gone_from_a_balance_that_was_read_with_it() {
    let mut rig = Rig::new("UTC");
    rig.hold(tracked("d", T0, 1_000, 0));
    rig.poll(after(1), 10_000);
    rig.restart();
    // Five hours later the balance comes first, then the list that explains it.
    let back = after(301);
    rig.change("d", |tracked| tracked.deployment.total_cost = Usd::ZERO);
    rig.snapshot.teams.insert(TeamId::new("t"), team(5_000, back));
    rig.step(back);
    rig.change("d", |tracked| tracked.deployment.total_cost = Usd::from_cents(5_000));
    let (forecast, _) = rig.poll(back, 5_000);
    let left = forecast.committed_end.unwrap().since(back).as_secs();
    assert!(left.abs_diff(5 * 3_600) < 120, "{left} s at 10 $/h of 50 $");
}
