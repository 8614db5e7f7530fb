//! Prometheus' own linter reads everything that we serve. Needs `promtool` (Debian: prometheus) in the PATH.
#![cfg(feature = "system-tests")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod fleet;

use std::{
    io::Write as _,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use spheron_watch::{
    model::{Feed, Meter as _, Severity, Status, Time, View},
    serve::{SelfMetrics, metrics::render},
};

/// What `promtool check metrics` says of a page, if it says anything.
fn complaints(page: &str) -> Option<String> {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed (Debian: apt-get install prometheus)");
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success() || !said.is_empty()).then_some(said)
}

fn whole_page(view: &View, now: Time) -> String {
    let metrics = SelfMetrics::new().unwrap();
    metrics.declare([("low\n\"balance\"\\".into(), Severity::Critical)], ["ops".into()]);
    for (code, secs) in [("200", 0.08), ("299", 1.0), ("error", 20.0)] {
        metrics.api_call("/api/deployments/{id}", "GET", code, Duration::from_secs_f64(secs));
    }
    metrics.rate_limit(100, 93, Some(now));
    metrics.notification("ops", false);
    for feed in Feed::ALL {
        metrics.poll(feed, true, Duration::from_millis(90), now);
    }
    render(view, now) + &metrics.render(view).unwrap()
}

#[test]
fn promtool_accepts_everything_that_is_served() {
    let now = Time::from_secs(1_790_000_000);
    let mut hostile = fleet::tracked(4, 1, Status::from(Arc::from("\n# EOF\u{0}")), now);
    hostile.deployment.name = "\"} 1\r\nx{a=\"\\\u{0}\u{1b}[2J\u{202e}<script>ü😀".into();
    let hostile = fleet::snapshot([fleet::tracked_team(1, "\\", None, now)], [hostile], [], now);
    for (name, view) in [
        ("small", fleet::small(now, now)),
        ("hostile", fleet::view(hostile, now)),
        ("empty", View::default()),
        ("standard", fleet::standard(1_000, now)),
    ] {
        assert_eq!(complaints(&whole_page(&view, now)), None, "{name}");
    }
}

#[test]
fn promtool_is_asked_in_a_way_that_lets_it_complain() {
    assert!(complaints("# TYPE spheron_up gauge\nspheron_up 1\n").is_some(), "a family without help");
    assert!(complaints("spheron_up{team=\"a\nb\"} 1\n").is_some(), "a line feed in a label");
}
