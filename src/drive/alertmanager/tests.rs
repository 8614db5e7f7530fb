use super::*;
use crate::model::{
    DeploymentId, RuleKind, Severity, Snapshot, Subject, TeamId, TrackedTeam, Usd, rule::Rule,
};

const T0: Time = Time::from_secs(1_800_000_000);

fn at(secs: u64) -> Time {
    T0.plus(Duration::from_secs(secs))
}

fn rule(name: &str, kind: RuleKind, severity: Severity) -> Rule {
    Rule {
        name: name.into(),
        kind,
        severity,
        for_: Duration::ZERO,
        keep_firing_for: Duration::ZERO,
        matcher: Default::default(),
        receivers: Vec::new(),
        repeat_interval: None,
    }
}

fn low_balance() -> AlertKey {
    AlertKey { rule: "low-balance".into(), subject: Subject::Team { id: TeamId::new("t1") } }
}

/// A team of this name, whose balance is low as told.
fn view(now: Time, name: &str, firing: Option<(Time, Option<Time>, Severity)>) -> View {
    let team = TrackedTeam {
        id: TeamId::new("t1"),
        name: name.into(),
        role: "owner".into(),
        balance: Some(Usd::from_cents(820)),
        balance_at: Some(now),
        previous: None,
        unknown_since: None,
        denied: None,
    };
    let teams = BTreeMap::from([(team.id.clone(), Arc::new(team))]);
    let severity = firing.map_or(Severity::Critical, |(_, _, severity)| severity);
    let low = RuleKind::Balance { below: Usd::from_cents(1_000), clear_above: Usd::from_cents(1_200) };
    let state = firing.map(|(since, told, severity)| {
        (low_balance(), (AlertState::Firing { since, told, cleared: None, fired: Vec::new() }, severity))
    });
    View {
        at: now,
        generation: 1,
        snapshot: Arc::new(Snapshot { teams, ..Snapshot::default() }),
        rules: Arc::new(vec![
            rule("low-balance", low, severity),
            rule("spot-interrupted", RuleKind::SpotInterrupted, Severity::Critical),
        ]),
        firing: state.into_iter().collect(),
        ..View::default()
    }
}

fn firing(now: Time, since: Time) -> View {
    view(now, "research", Some((since, Some(since), Severity::Critical)))
}

fn pushes(ledger: &Ledger, view: &View, now: Time) -> Vec<Push> {
    ledger.items().iter().map(|item| item.push(view, now)).collect()
}

fn label<'a>(push: &'a Push, name: &str) -> Option<&'a str> {
    push.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| &**value)
}

#[test]
fn what_fires_is_said_with_its_labels_and_words_and_stands_for_a_few_rounds() {
    let mut ledger = Ledger::default();
    let view = firing(at(60), at(0));
    assert!(ledger.look(&view), "it began");
    assert!(!ledger.look(&view), "nothing changed");
    let pushes = pushes(&ledger, &view, at(90));
    let [push] = pushes.as_slice() else { panic!("{pushes:?}") };
    let labels: Vec<(&str, &str)> = push.labels.iter().map(|(name, value)| (*name, &**value)).collect();
    let expected = [
        ("alertname", "low-balance"),
        ("kind", "balance"),
        ("severity", "critical"),
        ("subject", "team"),
        ("team_id", "t1"),
        ("team", "research"),
    ];
    assert_eq!(labels, expected);
    assert_eq!((push.starts, push.ends), (at(0), at(90).plus(STANDS)));
    assert!(STANDS > EVERY * 3, "three lost rounds end nothing");
    assert!(push.summary.contains("research has $8.20"), "{push:?}");
    assert!(!push.description.is_empty() && !push.advice.is_empty(), "{push:?}");
}

#[test]
fn what_is_silenced_here_is_said_all_the_same() {
    let mut ledger = Ledger::default();
    assert!(ledger.look(&view(at(60), "research", Some((at(0), None, Severity::Critical)))));
    assert_eq!(ledger.items().len(), 1);
}

#[test]
fn the_end_is_said_for_five_minutes_and_then_no_more() {
    let mut ledger = Ledger::default();
    ledger.look(&firing(at(60), at(0)));
    let over = view(at(120), "research", None);
    assert!(ledger.look(&over), "it ended");
    let said = pushes(&ledger, &over, at(200));
    assert_eq!((said.len(), said[0].starts, said[0].ends), (1, at(0), at(120)));
    assert!(said[0].description.contains("No longer so"), "{said:?}");
    assert!(!ledger.look(&view(at(419), "research", None)));
    assert_eq!(ledger.items().len(), 1);
    ledger.look(&view(at(420), "research", None));
    assert_eq!(ledger.items(), []);
}

#[test]
fn what_fires_again_is_not_said_to_be_over() {
    let mut ledger = Ledger::default();
    ledger.look(&firing(at(60), at(0)));
    ledger.look(&view(at(120), "research", None));
    let again = firing(at(180), at(180));
    assert!(ledger.look(&again));
    let said = pushes(&ledger, &again, at(180));
    assert_eq!(said.iter().map(|push| push.starts).collect::<Vec<_>>(), [at(180)]);
}

#[test]
fn a_new_name_leaves_the_labels_of_an_episode_as_they_were() {
    let mut ledger = Ledger::default();
    ledger.look(&firing(at(60), at(0)));
    let renamed = view(at(120), "lab", Some((at(0), None, Severity::Critical)));
    assert!(!ledger.look(&renamed));
    let said = pushes(&ledger, &renamed, at(120));
    assert_eq!(label(&said[0], "team"), Some("research"));
    assert!(said[0].summary.contains("lab"), "the words are of now: {said:?}");
}

#[test]
fn another_severity_ends_the_alert_and_begins_one() {
    let mut ledger = Ledger::default();
    ledger.look(&firing(at(60), at(0)));
    let reloaded = view(at(120), "research", Some((at(0), None, Severity::Info)));
    assert!(ledger.look(&reloaded));
    let said = pushes(&ledger, &reloaded, at(120));
    let of: Vec<_> =
        said.iter().map(|push| (label(push, "severity").unwrap(), push.ends > at(120))).collect();
    assert_eq!(of, [("info", true), ("critical", false)]);
}

#[test]
fn a_rule_that_a_reload_removed_is_over_though_nobody_can_say_more() {
    let mut ledger = Ledger::default();
    ledger.look(&firing(at(60), at(0)));
    let without = View { rules: Arc::default(), ..view(at(120), "research", None) };
    assert!(ledger.look(&without));
    let said = pushes(&ledger, &without, at(120));
    assert_eq!((label(&said[0], "alertname"), said[0].ends), (Some("low-balance"), at(120)));
    assert!(said[0].description.contains("no longer in force"), "{said:?}");
}

#[test]
fn an_event_stands_until_a_fixed_time_and_is_never_said_to_be_over() {
    let subject = Subject::Deployment { id: DeploymentId::new("d1"), created_at: at(0) };
    let key = AlertKey { rule: "spot-interrupted".into(), subject };
    let mut happened = view(at(60), "research", None);
    happened.events.insert(key, (at(60), Severity::Critical));
    let mut ledger = Ledger::default();
    assert!(ledger.look(&happened));
    for now in [at(60), at(400)] {
        let said = pushes(&ledger, &happened, now);
        assert_eq!((said[0].starts, said[0].ends), (at(60), at(60).plus(standing::EVENT_STANDS)));
        assert_eq!(label(&said[0], "deployment_id"), Some("d1"));
    }
    ledger.look(&view(at(700), "research", None));
    assert_eq!(ledger.items(), []);
}

#[test]
fn a_member_fails_since_its_first_failure_and_until_it_takes_something() {
    let member = Member::new(Alertmanager::new("http://am-1:9093").unwrap());
    assert_eq!(member.failing_since(), None);
    member.enter(true, at(1));
    member.enter(true, at(61));
    assert_eq!(member.failing_since(), Some(at(1)));
    member.enter(false, at(121));
    assert_eq!(member.failing_since(), None);
}
