use super::*;
use crate::model::Feed;

const START: Time = Time::from_secs(1_767_016_800);

fn at(secs: u64) -> Time {
    START.plus(Duration::from_secs(secs))
}

fn rate(limit: u32, remaining: u32, reset_secs: u64) -> Rate {
    Rate { limit: Some(limit), remaining: Some(remaining), reset_in: Some(Duration::from_secs(reset_secs)) }
}

/// A governor that has heard of 250 calls per window.
fn with_250() -> Governor {
    let mut governor = Governor::new(None);
    governor.learn(&rate(250, 250, 900), START);
    governor
}

/// How many calls of one priority go through at one instant.
fn drain(governor: &mut Governor, priority: Priority, now: Time) -> u32 {
    (0..1_000).take_while(|_| governor.admit(priority, now).is_ok()).count().try_into().unwrap()
}

/// A feed that may be lengthened for as long as anybody asks here.
fn stretch(governor: &Governor, calls_per_15m: f64, now: Time) -> f64 {
    let need = Need::new(Feed::Deployments, Duration::from_secs(1), calls_per_15m);
    governor.stretch(&[need], now).of(&need)
}

#[test]
fn half_of_what_the_api_grants_is_used_and_fifty_until_it_has_said_so() {
    assert_eq!(drain(&mut Governor::new(None), Priority::Balance, START), 50);
    assert_eq!(drain(&mut with_250(), Priority::Balance, START), 125);
    let mut configured = Governor::new(Some(80));
    configured.learn(&rate(250, 250, 900), START);
    assert_eq!(drain(&mut configured, Priority::Balance, START), 80);
}

#[test]
fn no_configured_number_exceeds_the_apis_limit() {
    let mut governor = Governor::new(Some(5_000));
    governor.learn(&Rate { limit: Some(100), ..Default::default() }, START);
    assert_eq!(drain(&mut governor, Priority::Balance, START), 100);
}

#[test]
fn fault_12_twenty_five_of_two_hundred_fifty_stay_reserved() {
    let mut governor = with_250();
    assert_eq!(drain(&mut governor, Priority::Deployments, START), 100, "of 125, 25 are kept");
    assert_eq!(drain(&mut governor, Priority::Final, START), 23, "the last two are the balance's own");
    assert_eq!(drain(&mut governor, Priority::Balance, START), 2);

    let mut governor = with_250();
    governor.learn(&rate(250, 26, 600), START);
    assert_eq!(drain(&mut governor, Priority::Deployments, START), 1, "the API has 26 left, 25 are kept");
    assert_eq!(drain(&mut governor, Priority::Balance, START), 25);
    let hold = governor.admit(Priority::Balance, START).unwrap_err();
    assert_eq!(hold, Hold { until: at(600), why: Why::ApiBudget { remaining: 0, limit: 250 } });
    assert!(governor.admit(Priority::Balance, at(600)).is_ok(), "a new window");
}

#[test]
fn the_less_urgent_stop_first() {
    let order = [
        Priority::Offers,
        Priority::Volumes,
        Priority::Inventory,
        Priority::Vanished,
        Priority::Deployments,
        Priority::Final,
        Priority::Balance,
    ];
    let mut governor = with_250();
    let got = order.map(|priority| drain(&mut governor, priority, START));
    assert!(got.iter().all(|count| *count > 0), "each more urgent one still gets calls: {got:?}");
    assert_eq!(got.iter().sum::<u32>(), 125);
}

#[test]
fn a_window_slides_and_a_hold_names_the_instant_at_which_it_ends() {
    let mut governor = Governor::new(Some(2));
    governor.learn(&rate(250, 250, 900), START);
    assert!(governor.admit(Priority::Balance, at(0)).is_ok());
    assert!(governor.admit(Priority::Balance, at(10)).is_ok());
    let hold = governor.admit(Priority::Balance, at(20)).unwrap_err();
    assert_eq!(hold, Hold { until: at(900), why: Why::OwnBudget { used: 2, allowance: 2 } });
    assert!(governor.admit(Priority::Balance, at(899)).is_err());
    assert!(governor.admit(Priority::Balance, at(900)).is_ok());
    assert_eq!(governor.admit(Priority::Balance, at(901)).unwrap_err().until, at(910));
}

#[test]
fn fault_12_after_a_429_nothing_is_sent_until_the_wait_is_over() {
    let mut governor = with_250();
    governor.told_to_wait(Duration::from_secs(900), START);
    governor.told_to_wait(Duration::from_secs(60), at(1));
    let hold = governor.admit(Priority::Balance, at(899)).unwrap_err();
    assert_eq!(hold, Hold { until: at(900), why: Why::TooMany }, "a later, shorter wait does not shorten it");
    assert!(governor.admit(Priority::Balance, at(900)).is_ok());
}

#[test]
fn fault_13_when_another_client_drains_the_budget_the_schedule_stretches_and_the_balance_goes_on() {
    let mut governor = with_250();
    assert!((stretch(&governor, 36.0, START) - 1.0).abs() < 1e-9);
    governor.learn(&rate(250, 60, 900), START);
    assert!(
        (stretch(&governor, 36.0, START) - 36.0 / 15.0).abs() < 1e-9,
        "60 of 250 are left, 45 of them kept"
    );
    governor.learn(&rate(250, 20, 900), START);
    assert!((stretch(&governor, 36.0, START) - 15.0).abs() < 1e-9, "no longer than one window");
    assert!(governor.admit(Priority::Deployments, START).is_err());
    assert!(governor.admit(Priority::Balance, START).is_ok());
    assert!((stretch(&governor, 36.0, at(900)) - 1.0).abs() < 1e-9, "the next window is whole again");
}

#[test]
fn a_schedule_that_does_not_fit_is_stretched_to_fit() {
    let governor = Governor::new(None);
    assert!((stretch(&governor, 36.0, START) - 1.0).abs() < 1e-9, "one team on defaults fits into 50");
    assert!((stretch(&governor, 72.0, START) - 2.0).abs() < 1e-9);
    for nonsense in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        assert!((stretch(&governor, nonsense, START) - 1.0).abs() < 1e-9);
    }
}

#[test]
fn our_own_calls_alone_do_not_stretch_a_schedule_that_fits() {
    let mut governor = with_250();
    for second in 0..900 {
        // 92 calls in 15 minutes are what fits beside every reserve.
        if (second * 92) % 900 < 92 {
            assert!(governor.admit(Priority::Offers, at(second)).is_ok(), "{second}");
        }
        let used = u32::try_from(governor.own.len()).unwrap();
        governor.learn(&rate(250, 250 - used, 900 - second), at(second));
        assert!((stretch(&governor, 92.0, at(second)) - 1.0).abs() < 1e-9, "{second}");
    }
}

#[test]
fn fault_14_repeated_failures_open_the_circuit_and_one_probe_closes_it() {
    let mut governor = with_250();
    for _ in 0..2 {
        governor.admit(Priority::Deployments, START).unwrap();
        governor.failed(START, 0.0);
    }
    assert!(governor.admit(Priority::Deployments, START).is_ok(), "two failures are not yet a pattern");
    governor.failed(START, 0.0);
    let hold = governor.admit(Priority::Balance, at(4)).unwrap_err();
    assert_eq!(hold, Hold { until: at(5), why: Why::Unreachable { failures: 3 } });

    assert!(governor.admit(Priority::Balance, at(5)).is_ok(), "half open: one probe");
    assert!(governor.admit(Priority::Balance, at(5)).is_err(), "and no second one");
    governor.failed(at(6), 0.0);
    assert_eq!(governor.admit(Priority::Balance, at(6)).unwrap_err().until, at(16), "twice as long");

    governor.admit(Priority::Balance, at(16)).unwrap();
    governor.answered(true);
    assert!(governor.admit(Priority::Offers, at(16)).is_ok(), "closed again");
}

#[test]
fn fault_14_waits_grow_to_a_bound_with_jitter_and_a_lost_probe_is_replaced() {
    let (mut steady, mut jittered) = (Circuit::Closed { failures: 0 }, Circuit::Closed { failures: 0 });
    let mut now = START;
    let mut waits = Vec::new();
    for _ in 0..12 {
        steady.fail(now, 0.0);
        jittered.fail(now, 1.0);
        if let (Circuit::Open { until, .. }, Circuit::Open { until: later, .. }) = (steady, jittered) {
            waits.push((until.since(now).as_secs(), later.since(now).as_secs_f64()));
            now = later;
            steady.begin(now);
            jittered.begin(now);
        }
    }
    let expected = [5, 10, 20, 40, 80, 120, 120, 120, 120, 120].map(|secs: u64| (secs, secs as f64 * 1.5));
    assert_eq!(waits, expected);

    assert!(steady.holds_until(now.plus(Duration::from_secs(59))).is_some());
    assert!(steady.holds_until(now.plus(Duration::from_secs(60))).is_none(), "nobody reported back");
}

#[test]
fn fault_09_a_rejected_key_is_probed_slowly_with_the_balance_alone() {
    let mut governor = with_250();
    governor.admit(Priority::Balance, START).unwrap();
    governor.key_refused(Priority::Balance, START);
    governor.answered(false);
    assert!(governor.key_rejected());
    let hold = governor.admit(Priority::Deployments, at(1)).unwrap_err();
    assert_eq!(hold.why, Why::KeyRejected);
    let probes: Vec<u64> = (60..1_800)
        .step_by(60)
        .filter(|secs| {
            assert!(
                governor.admit(Priority::Final, at(*secs)).is_err(),
                "nothing but the balance, due or not"
            );
            governor.admit(Priority::Balance, at(*secs)).is_ok()
        })
        .collect();
    assert_eq!(probes, [300, 600, 900, 1_200, 1_500]);
    governor.answered(true);
    assert!(!governor.key_rejected());
    assert!(governor.admit(Priority::Deployments, at(1_800)).is_ok());
}

#[test]
fn fault_09_one_odd_401_of_another_call_is_checked_with_the_balance_at_once() {
    let mut governor = with_250();
    governor.key_refused(Priority::Volumes, START);
    assert!(governor.admit(Priority::Balance, at(1)).is_ok());
    governor.answered(true);
    assert!(governor.admit(Priority::Volumes, at(2)).is_ok());
}

#[test]
fn a_clock_that_goes_back_a_day_delays_nothing() {
    let day = Duration::from_secs(86_400);
    let mut governor = Governor::new(Some(2));
    governor.learn(&rate(250, 0, 300), START);
    governor.told_to_wait(Duration::from_secs(600), START);
    let _ = governor.admit(Priority::Balance, at(1));
    let back = |secs: u64| at(secs).minus(day);
    assert_eq!(governor.admit(Priority::Balance, back(1)).unwrap_err().until, back(600));
    assert!(governor.admit(Priority::Balance, back(600)).is_ok());
    assert!(governor.admit(Priority::Balance, back(601)).is_ok());
    assert_eq!(governor.admit(Priority::Balance, back(602)).unwrap_err().until, back(1_500));
}

#[test]
fn hostile_limits_neither_blind_us_nor_grow_memory() {
    let mut governor = Governor::new(None);
    governor.learn(&Rate { limit: Some(0), ..Default::default() }, START);
    assert_eq!(drain(&mut governor, Priority::Balance, START), 50, "a limit of nothing says nothing");
    let mut governor = Governor::new(None);
    governor.learn(&Rate { limit: Some(1), ..Default::default() }, START);
    assert_eq!(drain(&mut governor, Priority::Deployments, START), 1);
    let mut governor = Governor::new(None);
    governor.learn(&rate(u32::MAX, u32::MAX, 900), START);
    assert_eq!(drain(&mut governor, Priority::Balance, START), 1_000, "more than anyone needs");
    assert!(governor.allowance() <= LIMIT_MAX);
}

#[test]
fn fault_13_too_small_a_grant_is_shared_and_no_feed_goes_beyond_its_bound() {
    let mut governor = Governor::new(None);
    governor.learn(&Rate { limit: Some(100), ..Default::default() }, START);
    let ten_secs = Duration::from_secs(10);
    let [balance, deployments, volumes, inventory] =
        [(Feed::Balance, 90.0), (Feed::Deployments, 90.0), (Feed::Volumes, 90.0), (Feed::Inventory, 180.0)]
            .map(|(feed, calls)| (Need::new(feed, ten_secs, calls), calls));
    let hourly = (Need::new(Feed::Offers, Duration::from_secs(7_200), 0.25), 0.25);
    let all = [balance, deployments, volumes, inventory, hourly];
    let stretches = governor.stretch(&all.map(|(need, _)| need), START);
    let every = |(need, _): (Need, f64)| 10.0 * stretches.of(&need);
    assert!((every(balance) - 60.0).abs() < 1e-9, "the balance gives way to a minute and no further");
    assert!((60.0..300.0).contains(&every(deployments)), "{}", every(deployments));
    assert!((every(deployments) - every(inventory)).abs() < 1e-9, "all by the same factor");
    assert!((stretches.of(&hourly.0) - 1.0).abs() < 1e-9, "it is at its bound already");
    let total: f64 = all.iter().map(|(need, calls)| calls / stretches.of(need)).sum();
    assert!((total - 36.0).abs() < 1e-6, "all of the grant and no more: {total}");
}

#[test]
fn fault_13_only_where_the_bounds_themselves_are_too_dear_is_anybody_beyond_them_and_the_balance_last() {
    let governor = Governor::new(None);
    let secs = Duration::from_secs;
    let balance = Need::new(Feed::Balance, secs(60), 15.0);
    let fits = Need::new(Feed::Deployments, secs(60), 20.0 * 15.0);
    let stretches = governor.stretch(&[balance, fits], START);
    assert!((stretches.of(&fits) - 300.0 / 21.0).abs() < 1e-9, "twenty teams within 15 minutes");
    let too_many = Need::new(Feed::Deployments, secs(60), 100.0 * 15.0);
    let stretches = governor.stretch(&[balance, too_many], START);
    assert!((stretches.of(&balance) - 1.0).abs() < 1e-9);
    assert!((stretches.of(&too_many) - 1_500.0 / 21.0).abs() < 1e-9, "a hundred do not fit into that");
    let mut tiny = Governor::new(None);
    tiny.learn(&Rate { limit: Some(1), ..Default::default() }, START);
    let stretches = tiny.stretch(&[balance, fits], START);
    assert!(
        (stretches.of(&balance) - 30.0).abs() < 1e-9,
        "half of one call, and the rest has the other half"
    );
    assert!((stretches.of(&fits) - 600.0).abs() < 1e-6);
}
