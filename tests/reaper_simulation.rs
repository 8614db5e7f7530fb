//! Years of armed policies in foul weather: restarts, deaths over an act, clocks that are set, people who keep, cancel, rename and
//! disarm; judged by what the account says was really so, never by what the watcher believed.
//!
//! `SIM_SEED=n SIM_DAYS=120 cargo test --test reaper_simulation one_seed` replays one. It must never depend on real time or chance.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

#[path = "reaper_simulation/conditions.rs"]
mod conditions;
#[path = "reaper_simulation/happened.rs"]
mod happened;
#[path = "reaper_simulation/life.rs"]
mod life;
#[path = "reaper_simulation/oracles.rs"]
mod oracles;
#[path = "reaper_simulation/planted.rs"]
mod planted;
#[path = "reaper_simulation/world.rs"]
mod world;

use std::{collections::BTreeSet, sync::Mutex};

use life::{Plant, live};
use oracles::{Findings, judge};
use world::Case;

/// What an oracle found, for people.
fn report(case: &Case, findings: &Findings) -> String {
    let mut report = format!("SEED={} over {} days", case.seed, case.days);
    for (what, found) in findings {
        report.push_str(&format!("\n{what}: {} findings\n", found.len()));
        found.iter().take(8).for_each(|finding| report.push_str(&format!("  {finding}\n")));
    }
    report
}

/// How long each world lasts: where years are asked for, and else.
const LONG_DAYS: u32 = 115;
const DAYS: u32 = 35;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A season; with `SIM_YEARS=n` as long as that, and then everything has to have happened at least once.
#[test]
fn years_of_foul_weather_end_what_they_should_and_nothing_else() {
    let years = number("SIM_YEARS");
    let days = if years.is_some() { LONG_DAYS } else { DAYS };
    let worlds = years.map_or(3, |years| (years * 365).div_ceil(u64::from(days)));
    let left = Mutex::new((1..=worlds).collect::<Vec<_>>());
    let (happened, ended) = (Mutex::new(BTreeSet::new()), Mutex::new(0));
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = { left.lock().unwrap().pop() } {
                    let case = Case::foul(seed, days);
                    let evidence = live(case, Plant::default());
                    let findings = judge(&evidence);
                    if !findings.is_empty() {
                        found.lock().unwrap().push(report(&case, &findings));
                    }
                    happened.lock().unwrap().extend(happened::happened(&evidence));
                    *ended.lock().unwrap() += evidence.world.mutations().len();
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{}", found.join("\n"));
    let (never, ended) = (happened::never(&happened.into_inner().unwrap()), ended.into_inner().unwrap());
    println!("{} days, {ended} DELETEs", worlds * u64::from(days));
    assert!(years.is_none() || never.is_empty(), "never happened: {never:?}");
    let enough = usize::try_from(worlds * u64::from(days)).unwrap() * 2;
    assert!(ended > enough, "{ended} DELETEs prove little");
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let trace = |seed| live(Case::foul(seed, 12), Plant::default()).trace;
    let seven = trace(7);
    assert_eq!(seven, trace(7), "SEED=7");
    assert_ne!(trace(9), seven);
}

/// `SIM_SEED=n SIM_DAYS=120 cargo test --test reaper_simulation one_seed`.
#[test]
fn one_seed_of_ones_own_choice() {
    let Some(seed) = number("SIM_SEED") else { return };
    let days = number("SIM_DAYS").and_then(|days| u32::try_from(days).ok()).unwrap_or(120);
    let mut case = Case::foul(seed, days);
    if number("SIM_FAIR").is_some() {
        case = Case::fair(seed, days);
    }
    let evidence = live(case, Plant::default());
    let findings = judge(&evidence);
    println!("{} DELETEs, {} notices", evidence.world.mutations().len(), evidence.sent.len());
    assert!(findings.is_empty(), "{}", report(&case, &findings));
}
