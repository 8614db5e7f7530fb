//! Months of a watcher's life in seconds, with everything going wrong, and what must hold all the same.
//!
//! `SIM_SEED=n cargo test --test simulation one_seed` replays one. It must never depend on real time or on chance.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "simulation/happened.rs"]
mod happened;
#[path = "simulation/oracles.rs"]
mod oracles;
#[path = "simulation/planted.rs"]
mod planted;
#[path = "simulation/resources.rs"]
mod resources;
#[path = "simulation/run.rs"]
mod run;
#[path = "simulation/spending.rs"]
mod spending;
#[path = "simulation/truth.rs"]
mod truth;

use std::collections::BTreeMap;

use spheron_watch::model::{Grouping, Transition};

use run::{Case, Evidence, HOUR, MINUTE, Plant, START, run, run_with};

fn assert_all_hold(evidence: &Evidence) {
    let mut report = String::new();
    for (name, oracle) in oracles::ALL {
        let findings = oracle(evidence);
        if !findings.is_empty() {
            report.push_str(&format!("\n{name}: {} findings\n", findings.len()));
            findings.iter().take(8).for_each(|finding| report.push_str(&format!("  {finding}\n")));
        }
    }
    let Case { seed, days, .. } = evidence.case;
    assert!(report.is_empty(), "SEED={seed} over {days} days: {report}");
}

/// Two months and six days, each with everything that can go wrong.
const MONTHS: [u64; 2] = [11, 16];
const DAYS: [u64; 3] = [3, 4, 5];

/// A month in which everything happens, and all holds.
fn assert_all_hold_for_a_month(seed: u64) {
    let evidence = run(Case::foul(seed, 31));
    let missing = happened::what_never_happened(&evidence);
    assert!(missing.is_empty(), "SEED={seed}: never happened: {missing:?}");
    assert_all_hold(&evidence);
}

#[test]
fn a_month_in_foul_weather_loses_no_alert_and_tells_nothing_untrue() {
    assert_all_hold_for_a_month(MONTHS[0]);
}

#[test]
fn another_month_in_foul_weather_loses_no_alert_and_tells_nothing_untrue() {
    assert_all_hold_for_a_month(MONTHS[1]);
}

#[test]
fn shorter_lives_in_fouler_weather_lose_no_alert_and_tell_nothing_untrue() {
    for seed in DAYS {
        assert_all_hold(&run(Case { weather: 50, receivers_fail: 30, ..Case::foul(seed, 2) }));
    }
}

/// `SIM_SEED=n SIM_DAYS=31 cargo test --test simulation one_seed`.
#[test]
fn one_seed_of_ones_own_choice() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let Some(seed) = number("SIM_SEED") else { return };
    let days = number("SIM_DAYS").and_then(|days| u32::try_from(days).ok()).unwrap_or(31);
    assert_all_hold(&run(Case::foul(seed, days)));
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let trace = |seed| run(Case::foul(seed, 1)).trace;
    let seven = trace(7);
    assert_eq!(seven, trace(7), "SEED=7");
    assert_ne!(trace(8), seven);
}

/// FAULTS 62: grouping delays by no more than its own times, and what it leaves out had ended before it was to be told.
#[test]
fn groups_hold_back_nothing_but_what_came_and_went_before_its_flush() {
    let case = Case { receivers_fail: 0, ..Case::foul(11, 6) };
    let alone = run(case);
    let grouping = Grouping::default();
    let together = run_with(case, Plant { grouping: Some(grouping.clone()), ..Plant::default() });
    let told = |evidence: &Evidence, transition| -> BTreeMap<_, _> {
        let of = evidence.sent.iter().filter(|sent| sent.notice.transition == transition);
        of.map(|sent| ((sent.receiver.clone(), sent.notice.key.clone(), sent.notice.since), sent.at))
            .collect()
    };
    let (firing, grouped) = (told(&alone, Transition::Firing), told(&together, Transition::Firing));
    let ended = told(&alone, Transition::Resolved);
    let latest = grouping.wait + grouping.interval + MINUTE;
    let mut gathered = 0;
    for (alert, at) in &firing {
        match grouped.get(alert) {
            Some(late) => {
                assert!(late.since(*at) <= latest, "{alert:?} told at {late}, not at {at}");
                gathered += usize::from(late > at);
            }
            None => {
                let ended = ended.get(alert).unwrap_or_else(|| panic!("{alert:?} was not told, nor ended"));
                assert!(ended.since(*at) <= latest, "{alert:?} lasted from {at} to {ended} and was not told");
            }
        }
    }
    assert!(gathered > 10, "{gathered} of {} were gathered", firing.len());
}

/// FAULTS C16: what was told is the same, but for its time and what came and went while nobody looked.
#[test]
fn a_watcher_that_dies_every_hour_tells_the_same_alerts() {
    let case = Case::fair(5, 3);
    let restarts = (1..3 * 24).map(|hour| START.plus(HOUR * hour + MINUTE / 2));
    let gaps = restarts.map(|at| (at, at.plus(MINUTE / 2))).collect();
    let dying = run_with(case, Plant { gaps: Some(gaps), ..Plant::default() });
    assert_all_hold(&dying);
    let told = |evidence: &Evidence| -> Vec<String> {
        let mut told: Vec<String> = evidence
            .sent
            .iter()
            .map(|sent| {
                let key = &sent.notice.key;
                format!("{} {} {} {}", sent.receiver, key.rule, key.subject, sent.notice.transition.as_str())
            })
            .collect();
        told.sort();
        told
    };
    assert_eq!(told(&dying), told(&run(case)), "SEED=5");
}
