//! Prometheus' own tools read everything that we serve, and the rules that we ship. Needs `promtool` (Debian: prometheus) in the PATH.
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
    path::Path,
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

const RULES: &str = "config/prometheus-rules.yml";
const RULE_TESTS: [&str; 2] =
    ["tests/system/prometheus_rules.test.yml", "tests/system/prometheus_rules_days.test.yml"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `promtool test rules` on what is shipped, each part of it replaced as told.
fn test_rules(replace: impl Fn(&str) -> String) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yml");
    std::fs::write(&rules, replace(&std::fs::read_to_string(root().join(RULES)).unwrap())).unwrap();
    let mut promtool = Command::new("promtool");
    promtool.args(["test", "rules"]);
    for (nth, file) in RULE_TESTS.iter().enumerate() {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let shipped = format!("../../{RULES}");
        assert_eq!(text.matches(&shipped).count(), 1, "the tests are of what is shipped");
        let tests = folder.path().join(format!("tests-{nth}.yml"));
        std::fs::write(&tests, text.replace(&shipped, &rules.display().to_string())).unwrap();
        promtool.arg(tests);
    }
    let output = promtool.output().unwrap();
    (
        output.status.success(),
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    )
}

/// What stands behind a key of a line, in order.
fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.trim().strip_prefix(key)).map(str::trim)
}

#[test]
fn each_rule_that_is_shipped_passes_its_tests() {
    let checked = Command::new("promtool")
        .args(["check", "rules", "--lint=all", "--lint-fatal"])
        .arg(root().join(RULES))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let (passes, said) = test_rules(str::to_owned);
    assert!(passes, "{said}");
}

#[test]
fn each_alert_is_tested_where_it_fires_and_where_it_does_not_and_says_what_to_do() {
    let rules = std::fs::read_to_string(root().join(RULES)).unwrap();
    let tests = RULE_TESTS.map(|file| std::fs::read_to_string(root().join(file)).unwrap()).concat();
    let alerts: Vec<&str> = values(&rules, "- alert:").collect();
    assert!(alerts.len() > 20, "{alerts:?}");
    let cases: Vec<(&str, &str)> =
        values(&tests, "- alertname:").zip(values(&tests, "exp_alerts:")).collect();
    for alert in &alerts {
        let of: Vec<bool> =
            cases.iter().filter(|(name, _)| name == alert).map(|(_, expected)| expected.is_empty()).collect();
        assert!(of.contains(&true), "{alert} is tested nowhere where it fires");
        assert!(of.contains(&false), "{alert} is tested nowhere where it does not fire");
    }
    for (key, known) in
        [("severity:", Some(["critical", "warning", "info"])), ("summary:", None), ("description:", None)]
    {
        let said: Vec<&str> = values(&rules, key).collect();
        assert_eq!(said.len(), alerts.len(), "each alert has one {key}");
        assert!(known.is_none_or(|known| said.iter().all(|word| known.contains(word))), "{said:?}");
    }
    let recorded: Vec<&str> = values(&rules, "- record:").filter(|name| !name.contains(':')).collect();
    let asked: Vec<&str> = values(&tests, "- expr:").collect();
    assert_eq!(recorded, asked, "each record under a name of OpenCost is tested");
}

#[test]
fn the_tests_of_the_rules_see_an_alert_that_looks_at_values_and_not_at_their_age() {
    // The frozen watcher: what it served last stays, and so would an alert that asks for that alone.
    let (passes, said) = test_rules(|rules| {
        let blunt = rules.replace(
            "time() - spheron_watch_collector_last_success",
            "600 - 0 * spheron_watch_collector_last_success",
        );
        assert_ne!(blunt, rules);
        blunt
    });
    assert!(!passes && said.contains("a frozen watcher"), "{said}");
    let (passes, said) = test_rules(|rules| {
        let blunt = rules.replace("absent(spheron_watch_build_info)", "spheron_watch_build_info == 0");
        assert_ne!(blunt, rules);
        blunt
    });
    assert!(!passes && said.contains("machine is gone"), "{said}");
}
