use proptest::prelude::*;

use super::*;
use crate::{
    engine::money::calendar::Periods,
    model::{DeploymentId, Subject},
};

const T0: Time = Time::from_secs(1_800_000_000);

fn after(secs: i64) -> Time {
    Time::from_millis(T0.millis() + secs * 1_000)
}

fn subject() -> Subject {
    Subject::Deployment { id: DeploymentId::new("d"), created_at: T0 }
}

fn line(cents_per_hour: i64) -> Line {
    super::super::pass::new_line(TeamId::new("t"), T0, Usd::from_cents(cents_per_hour))
}

/// Books into memory.
struct Rig {
    periods: Periods,
    purses: BTreeMap<TeamId, Purse>,
    charges: Vec<Charge>,
}

impl Rig {
    fn new() -> Self {
        let periods = Periods::at(&jiff::tz::TimeZone::UTC, T0);
        Self { periods, purses: BTreeMap::new(), charges: Vec::new() }
    }

    fn book(&mut self) -> Book<'_> {
        Book { periods: &self.periods, purses: &mut self.purses, charges: &mut self.charges }
    }

    fn charged(&self) -> Usd {
        self.charges.iter().map(|charge| charge.amount).sum()
    }

    fn estimated(&self) -> Usd {
        self.charges.iter().map(|charge| charge.estimated).sum()
    }
}

#[test]
fn a_report_is_held_against_rate_and_time() {
    // 1 $/h, accrued for 90 min since creation: 1.50 $; the old totalCost was 0, the last hourly cycle at 60 min.
    for (what, last_seen, old, total, charged, kind, drift) in [
        ("the cycle, on time", 3_590, 0, 100, 150, None, 0),
        ("the cycle, posted half an hour late", 5_390, 0, 100, 150, None, 0),
        ("an add-on beside the rate", 3_590, 0, 109, 159, Some(ChargeKind::Trued), 90),
        ("a discount", 3_590, 0, 90, 140, Some(ChargeKind::Trued), -100),
        ("another cycle, at some time since it was last seen", 4_000, 0, 120, 150, None, 0),
        ("more than any time explains", 4_000, 0, 170, 170, Some(ChargeKind::Trued), 133),
        ("less than any time explains", 4_500, 0, 60, 85, Some(ChargeKind::Trued), -520),
        ("it fell", 5_000, 120, 70, 100, Some(ChargeKind::Correction), 0),
    ] {
        let (mut rig, mut line, subject) = (Rig::new(), line(100), subject());
        line.reported = Some((Usd::from_cents(old), T0));
        rig.book().accrue(&subject, &mut line, after(5_400), None);
        let report = Report { total: Usd::from_cents(total), now: after(5_400), last_seen: after(last_seen) };
        rig.book().hear(&subject, &mut line, report, None);
        assert_eq!(line.charged, Usd::from_cents(charged), "{what}");
        assert_eq!(rig.charged(), line.charged, "{what}");
        let why = rig.charges.iter().map(|charge| charge.why).find(|why| *why != ChargeKind::Accrued);
        assert_eq!((why, line.drift_permille), (kind, drift), "{what}");
        assert_eq!(line.reported, Some((report.total, report.now)), "{what}");
    }
}

#[test]
fn fault_22_a_total_cost_that_falls_is_a_correction_row() {
    let (mut rig, mut line, subject) = (Rig::new(), line(100), subject());
    rig.book().accrue(&subject, &mut line, after(7_300), None);
    line.reported = Some((Usd::from_cents(200), after(7_200)));
    let report = Report { total: Usd::from_cents(150), now: after(7_300), last_seen: after(7_250) };
    rig.book().hear(&subject, &mut line, report, None);
    let last = rig.charges.last().unwrap();
    assert_eq!((last.why, last.amount), (ChargeKind::Correction, Usd::from_cents(-50)));
    assert_eq!(rig.purses[&line.team].told, Usd::from_cents(-50), "the balance should have it back");
}

#[test]
fn fault_50_what_nobody_watched_is_estimated_until_a_total_cost_tells() {
    let (mut rig, mut line, subject) = (Rig::new(), line(100), subject());
    let blind = Stretch { from: after(1_800), until: after(3 * 3_600 + 1_800) };
    rig.book().accrue(&subject, &mut line, after(4 * 3_600), Some(blind));
    assert_eq!((rig.charged(), rig.estimated()), (Usd::from_cents(400), Usd::from_cents(300)));
    assert_eq!(line.estimated(), Usd::from_cents(300));
    // It cost 1.10 $/h meanwhile: the estimate is replaced, hour by hour where it was.
    let report = Report { total: Usd::from_cents(440), now: after(4 * 3_600), last_seen: after(1_800) };
    rig.book().hear(&subject, &mut line, report, None);
    assert_eq!((rig.charged(), rig.estimated()), (Usd::from_cents(440), Usd::ZERO));
    let trued: Vec<_> =
        rig.charges.iter().filter(|c| c.why == ChargeKind::Trued && c.amount != Usd::ZERO).collect();
    assert_eq!(trued.len(), 4, "{trued:?}");
    assert!(line.guesses.is_empty());
}

#[test]
fn an_end_takes_back_what_was_accrued_beyond_it_and_is_worth_its_total_cost() {
    let (mut rig, mut line, subject) = (Rig::new(), line(137), subject());
    let blind = Stretch { from: T0, until: after(9 * 3_600) };
    rig.book().accrue(&subject, &mut line, after(9 * 3_600), Some(blind));
    rig.book().take_back(&subject, &mut line, after(5_000));
    line.ended = true;
    let report = Report { total: Usd::from_nanos(1_902_777_000), now: after(9 * 3_600), last_seen: T0 };
    rig.book().close(&subject, &mut line, report);
    assert_eq!((line.charged, rig.charged(), rig.estimated()), (report.total, report.total, Usd::ZERO));
    let mut hours: BTreeMap<Time, Usd> = BTreeMap::new();
    for charge in &rig.charges {
        let sum = hours.entry(charge.hour).or_default();
        *sum = sum.saturating_add(charge.amount);
    }
    for (hour, amount) in hours {
        assert_eq!(amount > Usd::ZERO, hour < after(5_000), "{hour}: {amount}");
    }
}

#[test]
fn a_past_is_spread_over_its_hours_to_the_last_nano() {
    let (mut rig, mut line, subject) = (Rig::new(), line(100), subject());
    let amount = Usd::from_nanos(10_000_000_007);
    rig.book().spread(&subject, &mut line, amount, Stretch { from: T0, until: after(100_000) });
    assert_eq!((rig.charged(), rig.charges.len()), (amount, 28));
    rig.book().spread(&subject, &mut line, amount, Stretch { from: T0, until: T0 });
    assert_eq!(rig.charges.last().unwrap().amount, amount, "a life of no length costs it at once");
}

#[test]
fn guesses_are_bounded_however_long_nobody_looks() {
    let (mut rig, mut line, subject) = (Rig::new(), line(100), subject());
    for hour in 1..=1_000 {
        let blind = Stretch { from: T0, until: after(hour * 3_600) };
        rig.book().accrue(&subject, &mut line, after(hour * 3_600), Some(blind));
    }
    assert_eq!((line.guesses.len(), line.estimated()), (GUESSES_MAX, Usd::from_cents(100_000)));
}

proptest! {
    #[test]
    fn however_it_is_cut_a_line_costs_rate_times_time_within_a_nano(
        rate in 0_i64..50_000_000_000, cuts in proptest::collection::vec(1_i64..40_000_000, 1..40),
    ) {
        let (mut rig, subject) = (Rig::new(), subject());
        let mut line = super::super::pass::new_line(TeamId::new("t"), T0, Usd::from_nanos(rate));
        let mut now = T0.millis();
        for cut in cuts {
            now += cut;
            rig.book().accrue(&subject, &mut line, Time::from_millis(now), None);
        }
        let exact = i128::from(rate) * i128::from(now - T0.millis()) / HOUR_MS;
        prop_assert!((i128::from(rig.charged().nanos()) - exact).abs() <= 1);
        prop_assert_eq!(rig.charged(), line.charged);
        let purse = &rig.purses[&line.team];
        prop_assert_eq!(purse.deployments, line.charged);
        prop_assert!(rig.charges.iter().all(|charge| charge.hour == hour_of(charge.hour)));
    }

    #[test]
    fn taking_back_leaves_what_an_exact_end_would_have(
        rate in 0_i64..50_000_000_000, end in 0_i64..400_000_000, beyond in 0_i64..400_000_000,
    ) {
        let (mut rig, subject) = (Rig::new(), subject());
        let mut line = super::super::pass::new_line(TeamId::new("t"), T0, Usd::from_nanos(rate));
        let end = Time::from_millis(T0.millis() + end);
        rig.book().accrue(&subject, &mut line, end.plus(Duration::from_millis(beyond.unsigned_abs())), None);
        rig.book().take_back(&subject, &mut line, end);
        let exact = i128::from(rate) * i128::from(end.millis() - T0.millis()) / HOUR_MS;
        prop_assert!((i128::from(line.charged.nanos()) - exact).abs() <= 1);
        prop_assert_eq!(line.until, end);
    }
}
