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

#[path = "simulation/oracles.rs"]
mod oracles;
#[path = "simulation/run.rs"]
mod run;
#[path = "simulation/truth.rs"]
mod truth;

use run::{Case, Evidence, run};

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

#[test]
fn one_seed() {
    let seed = std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let days = std::env::var("SIM_DAYS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    assert_all_hold(&run(Case::foul(seed, days)));
}

#[test]
fn fair() {
    assert_all_hold(&run(Case::fair(9, 10)));
}
