//! What the daemon counts about itself, on a registry of its own.
//!
//! It must never panic on what it is told, nor let the outside choose how many series there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus::{
    Error, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector,
};

use super::{
    metrics::seconds,
    text::{LABEL_CHARS_MAX, Page, visible},
};
use crate::model::{Feed, Meter, Severity, StageName, Tally, Time, View};

/// The codes that the API's reference documents, and what proxies before it answer; others are told apart by their class.
const KNOWN_CODES: [&str; 14] =
    ["200", "201", "204", "400", "401", "403", "404", "409", "422", "429", "500", "502", "503", "504"];

/// Up to the 20 s after which a call is given up.
const CALL_BUCKETS_SECS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];

/// The daemon's counters and gauges. What the view knows (alerts, outbox, database) is written from the view at each scrape.
pub struct SelfMetrics {
    registry: Registry,
    collector_duration: GaugeVec,
    collector_success: IntGaugeVec,
    collector_last_success: GaugeVec,
    api_requests: IntCounterVec,
    api_duration: HistogramVec,
    rate_limit: IntGaugeVec,
    rate_remaining: IntGaugeVec,
    rate_reset: GaugeVec,
    notifications: IntCounterVec,
    notifications_failed: IntCounterVec,
    declared: Mutex<Declared>,
}

#[derive(Default)]
struct Declared {
    rules: BTreeSet<(Arc<str>, Severity)>,
    receivers: BTreeSet<Arc<str>>,
}

impl SelfMetrics {
    /// A metric without labels is a family with none, so that it has no sample before its value is known.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let r = &registry;
        add_build_info(r)?;
        let gauge = |name, help, labels: &[&str]| add(r, GaugeVec::new(Opts::new(name, help), labels)?);
        let int_gauge =
            |name, help, labels: &[&str]| add(r, IntGaugeVec::new(Opts::new(name, help), labels)?);
        let counter =
            |name, help, labels: &[&str]| add(r, IntCounterVec::new(Opts::new(name, help), labels)?);
        let duration = HistogramOpts::new(
            "spheron_watch_api_request_duration_seconds",
            "Time to the whole answer of a call to the Spheron API, in seconds.",
        );
        Ok(Self {
            collector_duration: gauge(
                "spheron_watch_collector_duration_seconds",
                "How long the last poll took, in seconds.",
                &["collector"],
            )?,
            collector_success: int_gauge(
                "spheron_watch_collector_success",
                "1 if the last poll was complete, 0 if it was partial or failed.",
                &["collector"],
            )?,
            collector_last_success: gauge(
                "spheron_watch_collector_last_success_timestamp_seconds",
                "When a poll was complete last, in seconds since 1970.",
                &["collector"],
            )?,
            api_requests: add_api_requests(r)?,
            api_duration: add(
                r,
                HistogramVec::new(duration.buckets(CALL_BUCKETS_SECS.to_vec()), &["endpoint", "method"])?,
            )?,
            rate_limit: int_gauge(
                "spheron_watch_api_rate_limit_limit",
                "Calls that the API grants per window, from its X-RateLimit-Limit header.",
                &[],
            )?,
            rate_remaining: int_gauge(
                "spheron_watch_api_rate_limit_remaining",
                "Calls left in this window, from the API's X-RateLimit-Remaining header.",
                &[],
            )?,
            rate_reset: gauge(
                "spheron_watch_api_rate_limit_reset_timestamp_seconds",
                "When the window ends, in seconds since 1970, from the API's X-RateLimit-Reset header.",
                &[],
            )?,
            notifications: counter(
                "spheron_watch_notifications_total",
                "Number of attempts to deliver a notification since this process began.",
                &["receiver"],
            )?,
            notifications_failed: counter(
                "spheron_watch_notifications_failed_total",
                "Number of attempts to deliver a notification that failed since this process began; most are retried.",
                &["receiver"],
            )?,
            declared: Mutex::default(),
            registry,
        })
    }

    /// What there is to fire and to tell, at start and after each reload, so that its series exist at zero: a `rate()` needs
    /// the sample before the first failure.
    pub fn declare(
        &self,
        rules: impl IntoIterator<Item = (Arc<str>, Severity)>,
        receivers: impl IntoIterator<Item = Arc<str>>,
    ) {
        let declared =
            Declared { rules: rules.into_iter().collect(), receivers: receivers.into_iter().collect() };
        for receiver in &declared.receivers {
            self.notifications_to(receiver, 0, 0);
        }
        *self.declared.lock().unwrap_or_else(PoisonError::into_inner) = declared;
    }

    /// The daemon's own part of `/metrics`.
    pub fn render(&self, view: &View) -> Result<String, Error> {
        let mut text = TextEncoder::new().encode_to_string(&self.registry.gather())?;
        let mut page = Page::with_capacity(2_048);
        let declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        alerts(&mut page, view, &declared.rules);
        page.gauge(
            "spheron_watch_config_last_reload_successful",
            "1 if the configuration was loaded when it was last asked for, 0 if the one before is still in force.",
        )
        .sample(&[], u8::from(view.config_reload_ok));
        page.gauge("spheron_watch_database_size_bytes", "Size of the database with its log, in bytes.")
            .sample(&[], view.database_bytes);
        intervals(&mut page, view);
        outbox(&mut page, view, &declared.receivers);
        policies(&mut page, view);
        text.push_str(&page.into_text());
        Ok(text)
    }

    fn notifications_to(&self, receiver: &str, attempts: u64, failed: u64) {
        let receiver = visible(receiver, LABEL_CHARS_MAX);
        for (family, by) in [(&self.notifications, attempts), (&self.notifications_failed, failed)] {
            if let Ok(counter) = family.get_metric_with_label_values(&[&*receiver]) {
                counter.inc_by(by);
            }
        }
    }
}

impl Meter for SelfMetrics {
    fn api_call(&self, endpoint: &'static str, method: &'static str, code: &str, took: Duration) {
        if let Ok(counter) =
            self.api_requests.get_metric_with_label_values(&[endpoint, method, bounded(code)])
        {
            counter.inc();
        }
        if let Ok(histogram) = self.api_duration.get_metric_with_label_values(&[endpoint, method]) {
            histogram.observe(took.as_secs_f64());
        }
    }

    fn rate_limit(&self, limit: u32, remaining: u32, reset: Option<Time>) {
        for (family, value) in [(&self.rate_limit, limit), (&self.rate_remaining, remaining)] {
            if let Ok(gauge) = family.get_metric_with_label_values::<&str>(&[]) {
                gauge.set(i64::from(value));
            }
        }
        if let Some(reset) = reset
            && let Ok(gauge) = self.rate_reset.get_metric_with_label_values::<&str>(&[])
        {
            gauge.set(seconds(reset));
        }
    }

    fn notification(&self, receiver: &str, delivered: bool) {
        self.notifications_to(receiver, 1, u64::from(!delivered));
    }

    fn poll(&self, feed: Feed, complete: bool, took: Duration, at: Time) {
        let labels = [feed.as_str()];
        if let Ok(gauge) = self.collector_duration.get_metric_with_label_values(&labels) {
            gauge.set(took.as_secs_f64());
        }
        if let Ok(gauge) = self.collector_success.get_metric_with_label_values(&labels) {
            gauge.set(i64::from(complete));
        }
        if complete && let Ok(gauge) = self.collector_last_success.get_metric_with_label_values(&labels) {
            gauge.set(seconds(at));
        }
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> Result<C, Error> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn add_build_info(registry: &Registry) -> Result<(), Error> {
    let opts = Opts::new("spheron_watch_build_info", "Always 1; which spheron-watch this is.");
    let family = add(registry, IntGaugeVec::new(opts, &["version"])?)?;
    family.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION")])?.set(1);
    Ok(())
}

/// At zero for what an alert counts: the call that finds out first that the key or the budget is gone is that of the balance.
fn add_api_requests(registry: &Registry) -> Result<IntCounterVec, Error> {
    let opts = Opts::new(
        "spheron_watch_api_requests_total",
        "Number of calls to the Spheron API since this process began, by the status code of the answer; error: no answer came.",
    );
    let family = add(registry, IntCounterVec::new(opts, &["endpoint", "method", "code"])?)?;
    for code in ["200", "401", "429", "error"] {
        family.get_metric_with_label_values(&["/api/balance", "GET", code])?;
    }
    Ok(family)
}

/// Few values, whatever a server answers.
fn bounded(code: &str) -> &'static str {
    if let Some(known) = KNOWN_CODES.into_iter().find(|known| *known == code) {
        return known;
    }
    match code.parse::<u16>() {
        Ok(100..=199) => "1xx",
        Ok(200..=299) => "2xx",
        Ok(300..=399) => "3xx",
        Ok(400..=499) => "4xx",
        Ok(500..=599) => "5xx",
        Ok(_) | Err(_) => "error",
    }
}

fn alerts(page: &mut Page, view: &View, rules: &BTreeSet<(Arc<str>, Severity)>) {
    let mut counts: BTreeMap<(&str, Severity), u64> =
        rules.iter().map(|(rule, severity)| ((&**rule, *severity), 0)).collect();
    for (key, (state, severity)) in &view.firing {
        if state.is_firing() {
            *counts.entry((&key.rule, *severity)).or_default() += 1;
        }
    }
    let mut family =
        page.gauge("spheron_watch_alerts_firing", "Number of alerts that fire now, of each rule in force.");
    for ((rule, severity), count) in counts {
        family.sample(&[("rule", rule), ("severity", severity.as_str())], count);
    }
}

fn intervals(page: &mut Page, view: &View) {
    let mut family = page.gauge(
        "spheron_watch_feed_interval_seconds",
        "Time between two polls in seconds, longer than configured where the API grants too few calls.",
    );
    for (feed, health) in &view.snapshot.feeds {
        family.sample(&[("collector", feed.as_str())], health.interval.as_secs_f64());
    }
}

fn outbox(page: &mut Page, view: &View, receivers: &BTreeSet<Arc<str>>) {
    let idle = receivers.iter().map(|receiver| (&**receiver, 0));
    let mut waiting: BTreeMap<&str, u64> = idle.collect();
    waiting.extend(view.outbox.iter().map(|(receiver, depth)| (&**receiver, depth.waiting)));
    let mut family = page.gauge(
        "spheron_watch_outbox_messages",
        "Number of notifications in the database that wait for delivery.",
    );
    for (receiver, count) in waiting {
        family.sample(&[("receiver", receiver)], count);
    }
    let mut family = page.gauge(
        "spheron_watch_outbox_oldest_message_timestamp_seconds",
        "When the oldest notification that waits was decided, in seconds since 1970; no sample if none waits.",
    );
    for (receiver, depth) in &view.outbox {
        if let Some(oldest) = depth.oldest {
            family.sample(&[("receiver", receiver)], seconds(oldest));
        }
    }
}

/// Zero for every policy of the configuration, so that a `rate()` has the sample before the first one.
fn policies(page: &mut Page, view: &View) {
    let idle = Tally::default();
    let configured = view.policies.policies.iter().map(|policy| (&policy.name, &idle));
    let tallies: BTreeMap<&Arc<str>, &Tally> = configured.chain(&view.tallies).collect();
    let mut family = page.counter(
        "spheron_watch_policy_decisions_total",
        "Number of actions of a policy by the stage that they came to, since this process began.",
    );
    for (policy, tally) in &tallies {
        for stage in StageName::ALL {
            let count = tally.steps.get(&stage).copied().unwrap_or_default();
            family.sample(&[("policy", policy), ("decision", &stage.as_str().replace(' ', "_"))], count);
        }
    }
    let armed = view.policies.policies.iter().filter(|policy| {
        let arming = view.snapshot.armings.get(&policy.name);
        arming.is_some_and(|arming| arming.fingerprint == view.policies.fingerprint(policy))
    });
    page.gauge("spheron_watch_policies_armed", "Number of policies that are armed; all others are dry runs.")
        .sample(&[], armed.count());
    let mut family = page.counter(
        "spheron_watch_terminations_total",
        "Number of deployments that a policy ended, each shown as ended by two reads, of all that the database remembers.",
    );
    for (policy, tally) in &tallies {
        family.sample(&[("policy", policy)], tally.ends.count);
    }
    let mut family = page.counter(
        "spheron_watch_saved_usd_total",
        "US dollars that ended deployments would have cost until a person acted, a day at most; counted once that is over.",
    );
    for (policy, tally) in &tallies {
        family.sample(&[("policy", policy)], tally.ends.saved_for_good.to_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AlertKey, AlertState, OutboxDepth, Subject};

    fn lines(metrics: &SelfMetrics, view: &View, family: &str) -> Vec<String> {
        let text = metrics.render(view).unwrap();
        text.lines().filter(|line| line.starts_with(family)).map(str::to_owned).collect()
    }

    #[test]
    fn fault_81_the_api_cannot_choose_how_many_series_there_are() {
        let metrics = SelfMetrics::new().unwrap();
        for code in 0..2_000 {
            metrics.api_call("/api/balance", "GET", &code.to_string(), Duration::from_millis(20));
        }
        for code in ["error", "", "200\n", "two hundred", "-200", "99999999999"] {
            metrics.api_call("/api/balance", "GET", code, Duration::MAX);
        }
        let series = lines(&metrics, &View::default(), "spheron_watch_api_requests_total{");
        assert_eq!(series.len(), KNOWN_CODES.len() + 6, "{series:#?}");
    }

    #[test]
    fn fault_81_hostile_names_are_bounded_and_stay_in_their_label() {
        let metrics = SelfMetrics::new().unwrap();
        let name = format!("a\"}} 1\nb{{x=\"\u{1b}{}", "y".repeat(10_000));
        metrics.notification(&name, false);
        metrics.declare([(Arc::from(&*name), Severity::Info)], []);
        let text = metrics.render(&View::default()).unwrap();
        assert!(
            text.lines()
                .all(|line| line.len() < 700 && (line.starts_with('#') || line.starts_with("spheron_")))
        );
    }

    #[test]
    fn declared_rules_and_receivers_exist_at_zero_and_vanish_with_their_declaration() {
        let metrics = SelfMetrics::new().unwrap();
        metrics.declare([(Arc::from("low balance"), Severity::Critical)], [Arc::from("ops")]);
        let view = View::default();
        assert_eq!(
            lines(&metrics, &view, "spheron_watch_alerts_firing{"),
            [r#"spheron_watch_alerts_firing{rule="low balance",severity="critical"} 0"#]
        );
        assert_eq!(
            lines(&metrics, &view, "spheron_watch_outbox_messages{"),
            [r#"spheron_watch_outbox_messages{receiver="ops"} 0"#]
        );
        assert_eq!(
            lines(&metrics, &view, "spheron_watch_notifications_failed_total{"),
            [r#"spheron_watch_notifications_failed_total{receiver="ops"} 0"#]
        );
        metrics.declare([], []);
        assert_eq!(lines(&metrics, &view, "spheron_watch_alerts_firing{"), [""; 0]);
    }

    #[test]
    fn alerts_and_the_outbox_are_as_the_view_has_them() {
        let metrics = SelfMetrics::new().unwrap();
        let mut view = View::default();
        let firing = AlertState::Firing {
            since: Time::EPOCH,
            told: Some(Time::EPOCH),
            cleared: None,
            fired: Vec::new(),
        };
        let told = AlertState::Told { at: Time::EPOCH };
        for (subject, state) in [("a", firing.clone()), ("b", firing), ("c", told)]
            .map(|(id, s)| (crate::model::TeamId::new(id), s))
        {
            let key = AlertKey { rule: "low".into(), subject: Subject::Team { id: subject } };
            view.firing.insert(key, (state, Severity::Warning));
        }
        let depth = OutboxDepth { waiting: 3, oldest: Some(Time::from_millis(1_500)), trouble: None };
        view.outbox.insert("ops".into(), depth);
        assert_eq!(
            lines(&metrics, &view, "spheron_watch_alerts_firing{"),
            [r#"spheron_watch_alerts_firing{rule="low",severity="warning"} 2"#]
        );
        assert_eq!(
            lines(&metrics, &view, "spheron_watch_outbox_"),
            [
                r#"spheron_watch_outbox_messages{receiver="ops"} 3"#,
                r#"spheron_watch_outbox_oldest_message_timestamp_seconds{receiver="ops"} 1.5"#
            ]
        );
    }

    #[test]
    fn what_was_never_said_has_no_sample() {
        let metrics = SelfMetrics::new().unwrap();
        assert_eq!(lines(&metrics, &View::default(), "spheron_watch_api_rate_limit"), [""; 0]);
        metrics.rate_limit(100, 7, None);
        assert_eq!(
            lines(&metrics, &View::default(), "spheron_watch_api_rate_limit"),
            ["spheron_watch_api_rate_limit_limit 100", "spheron_watch_api_rate_limit_remaining 7"]
        );
        metrics.poll(Feed::Offers, false, Duration::from_millis(500), Time::from_secs(9));
        assert_eq!(
            lines(&metrics, &View::default(), "spheron_watch_collector_"),
            [
                r#"spheron_watch_collector_duration_seconds{collector="offers"} 0.5"#,
                r#"spheron_watch_collector_success{collector="offers"} 0"#
            ]
        );
    }

    #[test]
    fn policies_exist_at_zero_and_count_what_they_did() {
        use std::time::Duration;

        use crate::model::{Arming, Condition, Ends, Policies, Policy, Usd};
        let policy = |name: &str| Policy {
            name: name.into(),
            matching: crate::model::Matcher::default(),
            when: vec![Condition::RunningFor(Duration::from_secs(60))],
            grace: Duration::from_secs(60),
            require_volume: false,
            receivers: vec!["ops".into()],
        };
        let policies =
            Policies { policies: vec![policy("a"), policy("b"), policy("c")], ..Policies::default() };
        let arming = |of: &str, fingerprint: Arc<str>| {
            let (armed_at, by, acknowledged) = (Time::EPOCH, "ann".into(), BTreeSet::new());
            (of.into(), Arc::new(Arming { policy: of.into(), fingerprint, armed_at, by, acknowledged }))
        };
        let mut view = View::default();
        let fingerprint = policies.fingerprint(&policies.policies[0]);
        let armings = [arming("a", fingerprint), arming("b", "of another day".into())];
        view.snapshot = Arc::new(crate::model::Snapshot { armings: armings.into(), ..Default::default() });
        view.policies = Arc::new(policies);
        let (saved, saved_for_good) = (Usd::from_cents(700), Usd::from_cents(250));
        let ends = Ends { count: 2, saved, saved_for_good };
        let steps = [(StageName::InDoubt, 3)].into();
        view.tallies.insert("a".into(), Tally { steps, ends });
        let metrics = SelfMetrics::new().unwrap();
        assert_eq!(
            lines(&metrics, &view, "spheron_watch_policies_armed"),
            ["spheron_watch_policies_armed 1"]
        );
        let decisions = lines(&metrics, &view, "spheron_watch_policy_decisions_total{policy=\"a\"");
        assert_eq!(decisions.len(), StageName::ALL.len());
        assert_eq!(
            decisions.iter().filter(|line| !line.ends_with(" 0")).collect::<Vec<_>>(),
            ["spheron_watch_policy_decisions_total{policy=\"a\",decision=\"in_doubt\"} 3"]
        );
        assert_eq!(
            lines(&metrics, &view, "spheron_watch_saved_usd_total"),
            [("a", "2.5"), ("b", "0"), ("c", "0")]
                .map(|(of, usd)| format!("spheron_watch_saved_usd_total{{policy=\"{of}\"}} {usd}"))
        );
        assert_eq!(
            lines(&metrics, &view, "spheron_watch_terminations_total{policy=\"a\""),
            ["spheron_watch_terminations_total{policy=\"a\"} 2"]
        );
    }
}
