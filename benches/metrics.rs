//! What `/metrics` costs (PRODUCT §12): rendering the fleet's part for the standard fleet, and the daemon's own part.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/fleet/mod.rs"]
mod fleet;

use divan::{Bencher, counter::BytesCount};
use spheron_watch::{
    model::Time,
    serve::{SelfMetrics, metrics::render},
};

const NOW: Time = Time::from_secs(1_790_000_000);

fn main() {
    divan::main();
}

/// Median at most 5 ms for 1,000 and 50 ms for 10,000.
#[divan::bench(args = [1_000, 10_000])]
fn fleet_page(bencher: Bencher<'_, '_>, deployments: usize) {
    let view = fleet::standard(deployments, NOW);
    bencher.counter(BytesCount::of_str(&*render(&view, NOW))).bench(|| render(&view, NOW));
}

/// The rest of a scrape, as far as it depends on the fleet: nothing.
#[divan::bench]
fn own_page(bencher: Bencher<'_, '_>) {
    let view = fleet::standard(10_000, NOW);
    let metrics = SelfMetrics::new();
    bencher.bench(|| metrics.as_ref().map(|metrics| metrics.render(&view)));
}
