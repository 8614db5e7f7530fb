//! The life of alerts beyond one verdict: groups, digests, silences, inhibition, flapping, gaps, restarts.

use proptest::prelude::*;

use super::*;
use crate::model::{EventId, Label, Notice, Silence};

const SECOND: Duration = Duration::from_secs(1);

fn seconds(secs: u32) -> Time {
    T0.plus(SECOND * secs)
}

/// A state that comes and goes with a deployment's status, and that waits for its group.
fn stopped() -> Rule {
    Rule { severity: Severity::Warning, ..rule("provider-stopped", RuleKind::ProviderStopped) }
}

fn running_long(severity: Severity) -> Rule {
    Rule { severity, ..rule("running-long", RuleKind::RunningLong { longer_than: MINUTE }) }
}

fn routes(receivers: &[(&str, bool)]) -> Vec<Route> {
    let route = |(name, send_resolved): &(&str, bool)| Route {
        receiver: (*name).into(),
        send_resolved: *send_resolved,
    };
    receivers.iter().map(route).collect()
}

fn silence(key: &str, glob: &str, starts: Time, ends: Time) -> Silence {
    let matchers = BTreeMap::from([(key.into(), glob.into())]);
    Silence::new(matchers, starts, ends, "ann".into(), "maintenance".into()).unwrap()
}

impl Rig {
    /// Steps, asserts that a second step changes nothing, and gives what goes out.
    fn tell(&mut self, now: Time) -> Vec<Notice> {
        let decisions = self.engine.step(&self.snapshot, now);
        let again = self.engine.step(&self.snapshot, now);
        let nothing = again.notices.is_empty() && again.alerts.is_empty() && again.groups.is_empty();
        assert!(nothing, "not a fixpoint: {again:?}");
        decisions.notices
    }

    /// Titles of what goes out, those of a group's members indented below.
    fn lines(&mut self, now: Time) -> Vec<String> {
        let mut lines = Vec::new();
        for notice in self.tell(now) {
            lines.push(format!("{} {}", notice.transition.as_str(), notice.title));
            lines.extend(
                notice.together.members.iter().map(|m| format!("  {} {}", m.transition.as_str(), m.title)),
            );
        }
        lines
    }

    fn wake(&mut self, now: Time) -> Option<(Time, &'static str)> {
        self.engine.step(&self.snapshot, now).wake.map(|wake| (wake.at, wake.why))
    }

    fn hush(&mut self, silence: Silence) {
        self.snapshot.silences.insert(silence.id.clone(), Arc::new(silence));
    }

    /// The deployments a, b, c … with these statuses.
    fn statuses(&mut self, at: Time, statuses: &[&str]) -> &mut Self {
        let ids = ["a", "b", "c", "d"];
        let fleet = ids.iter().zip(statuses).map(|(id, status)| deployment(id, status)).collect();
        self.list(at, fleet)
    }

    /// A new process, from the rows that the old one's decisions left.
    fn restart(&mut self, rules: Vec<Rule>, rows: &Rows) {
        self.engine = engine(rules, rows.alerts.clone()).resume(rows.groups.clone(), rows.polls.clone());
        self.snapshot.feeds.clear();
    }
}

/// What a store would hold.
#[derive(Default)]
struct Rows {
    alerts: BTreeMap<AlertKey, AlertState>,
    groups: BTreeMap<GroupKey, Group>,
    polls: BTreeMap<Feed, Time>,
}

impl Rows {
    fn commit(&mut self, decisions: &Decisions, snapshot: &Snapshot) {
        for (key, state) in &decisions.alerts {
            match state {
                Some(state) => drop(self.alerts.insert(key.clone(), state.clone())),
                None => drop(self.alerts.remove(key)),
            }
        }
        for (key, group) in &decisions.groups {
            match group {
                Some(group) => drop(self.groups.insert(key.clone(), group.clone())),
                None => drop(self.groups.remove(key)),
            }
        }
        self.polls
            .extend(snapshot.feeds.iter().filter_map(|(feed, health)| Some((*feed, health.last_usable?))));
    }
}

// ---- groups -------------------------------------------------------------------------------------------------------

#[test]
fn a_warning_waits_for_its_group_and_goes_out_alone_as_itself() {
    let mut rig = Rig::new(vec![stopped()]);
    rig.statuses(T0, &["stopped"]);
    assert_eq!(rig.lines(T0), [""; 0]);
    assert_eq!(rig.wake(T0), Some((seconds(30), "a group's flush")));
    assert_eq!(rig.lines(seconds(29)), [""; 0]);
    let notices = rig.tell(seconds(30));
    assert_eq!(notices.len(), 1);
    let key = notices[0].key.clone();
    assert_eq!(
        notices[0].id,
        EventId::derive(&key, T0, Transition::Firing, 0),
        "its own id, whatever it waited"
    );
    assert_eq!(notices[0].together.members, []);
    assert_eq!(notices[0].lanes().len(), 2, "it stands in its group's lane and in its own");
    assert_eq!(rig.lines(seconds(31)), [""; 0]);
}

#[test]
fn what_comes_within_group_wait_is_one_notice_and_what_comes_later_waits_for_the_interval() {
    let mut rig = Rig::new(vec![stopped()]);
    rig.statuses(T0, &["stopped", "running", "running"]).tell(T0);
    rig.statuses(seconds(20), &["stopped", "stopped", "running"]).tell(seconds(20));
    assert_eq!(
        rig.lines(seconds(30)),
        [
            "firing 2 alerts of provider-stopped in research: 2 firing",
            "  firing stopped: box-a",
            "  firing stopped: box-b",
        ]
    );
    rig.statuses(seconds(40), &["running", "stopped", "stopped"]);
    assert_eq!(rig.lines(seconds(40)), [""; 0]);
    assert_eq!(rig.lines(seconds(329)), [""; 0]);
    assert_eq!(
        rig.lines(seconds(330)),
        [
            "firing 2 alerts of provider-stopped in research: 1 firing, 1 resolved",
            "  firing stopped: box-c",
            "  resolved running again: box-a",
        ]
    );
    rig.statuses(seconds(700), &["running", "running", "stopped"]);
    assert_eq!(rig.lines(seconds(700)), [""; 0]);
    assert_eq!(rig.lines(seconds(730)), ["resolved running again: box-b"], "long after the last: as new");
}

#[test]
fn critical_alerts_balance_and_runway_do_not_wait() {
    let balance = Rule { severity: Severity::Info, ..low_balance() };
    let mut rig = Rig::new(vec![balance, running_long(Severity::Critical), stopped()]);
    rig.balance(T0, 100).list(T0, vec![deployment("a", "running"), deployment("b", "stopped")]);
    assert_eq!(
        rig.lines(T0),
        ["firing low balance: research has $1.00 left", "firing running long: box-a for 1h"]
    );
}

#[test]
fn group_by_decides_who_is_told_together_and_nothing_makes_one_group_of_all() {
    for (by, expected) in [
        (vec![Label::Rule, Label::Team], 2),
        (vec![Label::Id], 3),
        (vec![Label::Severity, Label::Region], 1),
        (vec![], 1),
    ] {
        let mut rig = Rig::new(vec![running_long(Severity::Warning), stopped()]);
        rig.engine.regroup(Grouping { by: by.clone(), ..Grouping::default() });
        rig.statuses(T0, &["running", "running", "stopped"]).tell(T0);
        assert_eq!(rig.tell(seconds(30)).len(), expected, "{by:?}");
    }
}

#[test]
fn without_group_wait_a_step_tells_at_once_and_still_together() {
    let mut rig = Rig::new(vec![stopped()]);
    rig.engine.regroup(Grouping { wait: Duration::ZERO, interval: Duration::ZERO, ..Grouping::default() });
    assert_eq!(rig.statuses(T0, &["stopped", "stopped"]).lines(T0).len(), 3);
    assert_eq!(rig.statuses(seconds(1), &["running", "stopped"]).lines(seconds(1)).len(), 1);
}

#[test]
fn a_reminder_waits_for_the_others_of_its_step_and_not_for_the_interval() {
    let rule = Rule { repeat_interval: Some(MINUTE), ..stopped() };
    let mut rig = Rig::new(vec![rule]);
    rig.statuses(T0, &["stopped"]).tell(T0);
    rig.tell(seconds(30));
    rig.tell(seconds(60));
    assert_eq!(rig.lines(seconds(90)), ["reminder stopped: box-a"]);
}

#[test]
fn the_id_of_a_group_is_that_of_its_members_at_one_receiver() {
    let ids = || {
        let rule = Rule { receivers: routes(&[("ops", true), ("hook", true)]), ..stopped() };
        let mut rig = Rig::new(vec![rule]);
        rig.statuses(T0, &["stopped", "stopped"]).tell(T0);
        rig.tell(seconds(30)).into_iter().map(|notice| notice.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(), ids(), "a replay says the same");
    let [ops, hook] = ids().try_into().unwrap();
    assert_ne!(ops, hook, "a receiver's row is its own");
}

#[test]
fn a_group_of_a_receiver_that_a_reload_took_away_goes_to_the_new_one() {
    let mut rig = Rig::new(vec![stopped()]);
    rig.statuses(T0, &["stopped"]).tell(T0);
    let moved = Rule { receivers: routes(&[("hook", true)]), ..stopped() };
    rig.engine.replace(vec![moved], vec![Glob::new("*")], TimeZone::UTC);
    assert!(rig.tell(seconds(10)).is_empty());
    let notices = rig.tell(seconds(40));
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].receivers, [Arc::from("hook")]);
    rig.engine.replace(Vec::new(), vec![Glob::new("*")], TimeZone::UTC);
    assert!(rig.tell(seconds(50)).is_empty());
}

#[test]
fn a_clock_that_is_set_back_does_not_hold_a_group() {
    let mut rig = Rig::new(vec![stopped()]);
    rig.statuses(T0, &["stopped"]).tell(T0);
    assert_eq!(rig.lines(T0.minus(HOUR * 24)).len(), 1);
}

#[test]
fn a_group_that_was_pending_at_a_kill_is_told_after_the_restart() {
    let mut rig = Rig::new(vec![stopped()]);
    let mut rows = Rows::default();
    rig.statuses(T0, &["stopped", "stopped"]);
    let decisions = rig.engine.step(&rig.snapshot, T0);
    rows.commit(&decisions, &rig.snapshot);
    rig.restart(vec![stopped()], &rows);
    assert_eq!(rig.wake(seconds(10)).map(|(at, _)| at), Some(seconds(30)));
    let lines = rig.lines(after(60));
    assert_eq!(
        lines.first().map(String::as_str),
        Some("firing 2 alerts of provider-stopped in research: 2 firing")
    );
}

// ---- floods -------------------------------------------------------------------------------------------------------

fn fleet(size: usize, status: &str) -> Vec<Deployment> {
    (0..size).map(|n| deployment(&format!("{n:03}"), status)).collect()
}

#[test]
fn fault_62_500_alerts_at_once_are_one_digest_per_receiver_and_balance_goes_by_itself_at_once() {
    let receivers = routes(&[("ops", true), ("hook", false)]);
    let mut rig = Rig::new(vec![
        Rule { receivers: receivers.clone(), ..running_long(Severity::Warning) },
        Rule { receivers: receivers.clone(), ..low_balance() },
    ]);
    rig.list(T0, fleet(500, "running")).balance(T0, 100);
    assert_eq!(rig.lines(T0), ["firing low balance: research has $1.00 left"], "money does not wait");
    let digests = rig.tell(seconds(30));
    assert_eq!(digests.len(), 2, "one for each receiver");
    for (digest, receiver) in digests.iter().zip(["hook", "ops"]) {
        assert_eq!(digest.receivers, [Arc::from(receiver)]);
        assert_eq!(digest.title, "500 alerts at once: 500 firing");
        assert_eq!(digest.details, [("running-long in research".into(), "500".to_owned())]);
        assert_eq!((digest.together.members.len(), digest.together.more), (20, 480));
        let size = serde_json::to_string(digest).unwrap().len();
        assert!(size < 60_000, "it does not grow with what it counts: {size}");
        assert_eq!(
            digest.lanes().len(),
            501,
            "no end of any of them overtakes it, nor what its group tells later"
        );
    }
}

#[test]
fn fault_62_what_a_digest_counts_as_over_it_hands_on_by_key_to_be_closed() {
    let mut rig = Rig::new(vec![running_long(Severity::Warning)]);
    rig.list(T0, fleet(30, "running")).tell(T0);
    let begun = rig.tell(seconds(30));
    assert_eq!(begun[0].together.ended, []);
    rig.list(seconds(60), fleet(30, "terminated")).tell(seconds(60));
    let over = rig.tell(seconds(600));
    let (named, ended) = (&over[0].together.members, &over[0].together.ended);
    assert_eq!((named.len(), ended.len(), over[0].together.more), (20, 10, 10));
    let all: std::collections::BTreeSet<_> = named
        .iter()
        .map(|m| (&m.key, m.since))
        .chain(ended.iter().map(|(key, since)| (key, *since)))
        .collect();
    assert_eq!(all.len(), 30, "every one of them, with the beginning of its episode: {over:?}");
    assert!(ended.iter().all(|(key, _)| over[0].lanes().contains(&key.lane())), "and none before it began");
}

#[test]
fn fault_62_500_critical_alerts_at_once_are_a_digest_at_once() {
    let mut rig = Rig::new(vec![low_balance(), running_long(Severity::Critical), stopped()]);
    let mut items = fleet(500, "running");
    items.push(deployment("x", "stopped"));
    rig.list(T0, items).balance(T0, 100);
    assert_eq!(
        rig.tell(T0).iter().map(|notice| notice.title.as_str()).collect::<Vec<_>>(),
        ["low balance: research has $1.00 left", "500 alerts at once: 500 firing"]
    );
    assert_eq!(rig.lines(seconds(30)), ["firing stopped: box-x"], "what may wait does");
}

#[test]
fn twenty_alerts_are_told_in_full_and_twenty_one_are_a_digest() {
    for (size, title, more) in
        [(20, "20 alerts of running-long in research: 20 firing", 0), (21, "21 alerts at once: 21 firing", 1)]
    {
        let mut rig = Rig::new(vec![running_long(Severity::Warning)]);
        rig.list(T0, fleet(size, "running")).tell(T0);
        let notices = rig.tell(seconds(30));
        assert_eq!((notices[0].title.as_str(), notices[0].together.more), (title, more));
    }
}

#[test]
fn a_digest_names_the_worst_that_go_on_first() {
    let severe = Rule { name: "very-long".into(), ..running_long(Severity::Critical) };
    let mut rig = Rig::new(vec![running_long(Severity::Warning), severe]);
    rig.list(T0, fleet(15, "running"));
    rig.engine.regroup(Grouping { wait: Duration::ZERO, ..Grouping::default() });
    let notices = rig.tell(T0);
    let rules: Vec<&str> = notices[0].together.members.iter().map(|member| &*member.key.rule).collect();
    assert_eq!(rules, [["very-long"; 15].as_slice(), &["running-long"; 5]].concat());
    assert_eq!(notices[0].severity, Severity::Critical);
}

// ---- order --------------------------------------------------------------------------------------------------------

#[test]
fn fault_63_resolved_before_its_group_was_told_says_nothing() {
    let mut rig = Rig::new(vec![stopped()]);
    rig.statuses(T0, &["stopped"]).tell(T0);
    rig.statuses(seconds(10), &["running"]).tell(seconds(10));
    for minute in 1..20 {
        assert_eq!(rig.lines(after(minute)), [""; 0], "minute {minute}");
    }
}

#[test]
fn fault_63_back_before_its_end_was_told_says_nothing_either() {
    let mut rig = Rig::new(vec![stopped()]);
    rig.statuses(T0, &["stopped"]).tell(T0);
    assert_eq!(rig.lines(seconds(30)).len(), 1);
    rig.statuses(seconds(40), &["running"]).tell(seconds(40));
    rig.statuses(seconds(50), &["stopped"]).tell(seconds(50));
    assert_eq!(rig.lines(seconds(330)), [""; 0], "people believe that it fires, and it does");
    rig.statuses(seconds(340), &["running"]).tell(seconds(340));
    assert_eq!(rig.lines(seconds(370)), ["resolved running again: box-a"]);
}

#[test]
fn fault_63_a_receiver_that_wants_no_end_hears_nothing_of_what_ended_before_its_group_was_told() {
    let mut rig = Rig::new(vec![Rule { receivers: routes(&[("ops", false)]), ..stopped() }]);
    rig.statuses(T0, &["stopped"]).tell(T0);
    rig.statuses(seconds(10), &["running"]).tell(seconds(10));
    assert_eq!(rig.lines(seconds(60)), [""; 0]);
}

// ---- silences and inhibition --------------------------------------------------------------------------------------

#[test]
fn a_silenced_alert_fires_untold_and_is_told_when_the_silence_ends() {
    let mut rig = Rig::new(vec![low_balance()]);
    let silence = silence("team", "res*", T0, after(60));
    let id = silence.id.clone();
    rig.hush(silence);
    assert_eq!(rig.balance(after(1), 100).lines(after(1)), [""; 0]);
    assert_eq!(rig.held(after(2)), [HeldReason::Silenced { id, until: after(60) }]);
    let (state, _) = rig.engine.firing().into_values().next().unwrap();
    assert!(matches!(state, AlertState::Firing { told: None, .. }), "it fires: {state:?}");
    assert_eq!(rig.wake(after(2)), Some((after(60), "the end of a silence")));
    assert_eq!(rig.lines(after(60)), ["firing low balance: research has $1.00 left"]);
    assert_eq!(rig.balance(after(61), 5_000).lines(after(61)).len(), 1, "it was told, so its end is");
}

#[test]
fn what_ends_under_a_silence_untold_says_nothing_and_what_was_told_before_does() {
    let mut rig = Rig::new(vec![low_balance()]);
    rig.hush(silence("rule", "low-*", after(1), after(60)));
    rig.balance(after(1), 100).tell(after(1));
    assert_eq!(rig.balance(after(2), 5_000).lines(after(2)), [""; 0]);
    assert_eq!(rig.lines(after(60)), [""; 0]);

    rig.balance(after(61), 100);
    assert_eq!(rig.lines(after(61)).len(), 1);
    rig.hush(silence("rule", "low-*", after(62), after(90)));
    assert_eq!(
        rig.balance(after(63), 5_000).lines(after(63)),
        ["resolved balance: research has $50.00"],
        "whoever heard of it hears of its end"
    );
}

#[test]
fn every_label_can_silence_and_only_what_it_matches() {
    for (key, glob, silenced) in [
        ("rule", "running-*", true),
        ("rule", "running", false),
        ("kind", "running_long", true),
        ("severity", "critical", true),
        ("severity", "warning", false),
        ("team", "t1", true),
        ("team", "RESEARCH", true),
        ("name", "box-?", true),
        ("name", "train-*", false),
        ("id", "a", true),
        ("gpu_type", "H100", true),
        ("provider", "spheron*", true),
        ("region", "us-*", true),
        ("instance_type", "DEDICATED", true),
        ("instance_type", "SPOT", false),
    ] {
        let mut rig = Rig::new(vec![running_long(Severity::Critical)]);
        rig.hush(silence(key, glob, T0, after(60)));
        rig.list(T0, vec![deployment("a", "running")]);
        assert_eq!(rig.tell(T0).is_empty(), silenced, "{key}={glob}");
    }
    let mut rig = Rig::new(vec![low_balance()]);
    rig.hush(silence("gpu_type", "*", T0, after(60)));
    assert_eq!(rig.balance(T0, 100).lines(T0).len(), 1, "a team has no GPU type");
    let mut rig = Rig::new(vec![running_long(Severity::Critical)]);
    let mut both = silence("name", "box-*", T0, after(60));
    both.matchers.insert("region".into(), "eu-*".into());
    rig.hush(both);
    assert_eq!(rig.list(T0, vec![deployment("a", "running")]).lines(T0).len(), 1, "all keys must match");
}

#[test]
fn an_event_under_a_silence_is_over_and_reminders_under_it_wait_for_its_end() {
    let reminding = Rule { repeat_interval: Some(HOUR), ..low_balance() };
    let mut rig = Rig::new(vec![rule("spot-interrupted", RuleKind::SpotInterrupted), reminding]);
    rig.list(T0, vec![spot("a", "running")]).balance(T0, 100).tell(T0);
    rig.hush(silence("severity", "*", after(1), after(90)));
    rig.list(after(2), vec![Deployment { stopped_at: Some(after(1)), ..spot("a", "terminated-provider") }]);
    assert_eq!(rig.lines(after(2)), [""; 0]);
    assert_eq!(rig.lines(after(60)), [""; 0], "the reminder is due and held");
    assert_eq!(
        rig.lines(after(90)),
        ["reminder low balance: research has $1.00 left"],
        "the event is not told later"
    );
}

#[test]
fn a_silence_that_begins_while_a_group_waits_holds_what_it_matches_and_lets_the_rest_go() {
    let mut rig = Rig::new(vec![stopped()]);
    rig.statuses(T0, &["stopped", "stopped"]).tell(T0);
    rig.hush(silence("name", "box-a", seconds(10), after(10)));
    assert_eq!(rig.lines(seconds(30)), ["firing stopped: box-b"]);
    assert_eq!(rig.lines(after(9)), [""; 0]);
    assert_eq!(rig.lines(after(10)), ["firing stopped: box-a"]);
}

#[test]
fn while_blind_what_rests_on_the_blind_feed_is_not_told_and_critical_news_is() {
    let reminding = Rule { repeat_interval: Some(MINUTE * 2), ..running_long(Severity::Critical) };
    let account = Rule { severity: Severity::Warning, ..rule("config-invalid", RuleKind::ConfigInvalid) };
    let mut rig = Rig::new(vec![
        reminding,
        low_balance(),
        account,
        rule("blind", RuleKind::Blind { longer_than: MINUTE * 5 }),
    ]);
    rig.list(T0, vec![deployment("a", "running")]);
    assert_eq!(rig.lines(T0).len(), 1);
    for minute in 1..=6 {
        rig.balance(after(minute), 5_000);
        rig.fail(Feed::Deployments, after(minute), FailureKind::Server);
        let lines = rig.lines(after(minute));
        let expected: &[&str] = match minute {
            2 | 4 => &["reminder running long: box-a for 1h 2m"],
            6 => &["firing blind: no fresh data from Spheron"],
            _ => &[],
        };
        assert_eq!(lines.len(), expected.len(), "minute {minute}: {lines:?}");
    }
    assert!(rig.held(after(7)).contains(&HeldReason::Inhibited { by: "blind".into() }));
    rig.snapshot.config_error = Some("broken".into());
    rig.balance(after(8), 100);
    assert_eq!(rig.lines(after(8)), ["firing low balance: research has $1.00 left"], "balances are seen");
    assert_eq!(rig.lines(after(9)), ["firing configuration could not be reloaded"], "it rests on no feed");
    rig.list(after(10), vec![deployment("a", "running")]);
    assert_eq!(
        rig.lines(after(10)),
        ["resolved blind: no fresh data from Spheron", "reminder running long: box-a for 1h 10m"]
    );
}

#[test]
fn a_rejected_key_holds_reminders_of_everything_it_hides() {
    let reminding = Rule { repeat_interval: Some(MINUTE), ..low_balance() };
    let mut rig = Rig::new(vec![reminding, rule("key-rejected", RuleKind::KeyRejected)]);
    rig.balance(T0, 100).tell(T0);
    rig.fail(Feed::Balance, after(1), FailureKind::Unauthorized);
    assert_eq!(rig.lines(after(1)), ["firing API key rejected"]);
    assert_eq!(rig.lines(after(2)), [""; 0]);
}

// ---- flapping and gaps --------------------------------------------------------------------------------------------

#[test]
fn fault_67_an_alert_that_flaps_every_minute_for_a_day_is_told_five_times_and_its_end_once() {
    let mut rig = Rig::new(vec![low_balance()]);
    let mut notices = Vec::new();
    for minute in 1..=1_440 {
        let cents = if minute % 2 == 1 { 100 } else { 5_000 };
        notices.extend(rig.balance(after(minute), cents).tell(after(minute)));
    }
    let told: Vec<Transition> = notices.iter().map(|notice| notice.transition).collect();
    use Transition::{Firing, Resolved};
    assert_eq!(
        told,
        [Firing, Resolved, Firing, Resolved, Firing],
        "the third beginning within an hour is held"
    );
    assert!(notices[4].reason.contains("It is flapping"), "{}", notices[4].reason);
    assert!(!notices[2].reason.contains("flapping"));
    assert_eq!(rig.held(after(1_441)), [HeldReason::KeptFiring { until: Some(after(1_470)) }]);
    assert_eq!(rig.lines(after(1_469)), [""; 0]);
    assert_eq!(rig.lines(after(1_470)).len(), 1, "half an hour without it is its end");
}

#[test]
fn fault_67_however_it_flaps_a_day_has_no_more_than_three_beginnings_an_hour() {
    for (on, off) in [(1, 1), (1, 5), (5, 1), (10, 19), (1, 29), (1, 31), (31, 1), (20, 40), (59, 2)] {
        let mut rig = Rig::new(vec![low_balance()]);
        let mut began = Vec::new();
        for minute in 1..=1_440_u32 {
            let cents = if minute % (on + off) < on { 100 } else { 5_000 };
            let notices = rig.balance(after(minute), cents).tell(after(minute));
            let firing = notices.iter().filter(|notice| notice.transition == Transition::Firing);
            began.extend(firing.map(|_| minute));
        }
        let worst =
            began.iter().map(|from| began.iter().filter(|at| (*from..from + 60).contains(*at)).count()).max();
        assert!(
            worst <= Some(3) && began.len() <= 48,
            "{on} on, {off} off: {} times, {worst:?} an hour",
            began.len()
        );
    }
}

#[test]
fn an_alert_that_rests_is_forgotten_after_an_hour() {
    let mut rig = Rig::new(vec![low_balance()]);
    rig.balance(after(1), 100).tell(after(1));
    rig.balance(after(2), 5_000).tell(after(2));
    assert_eq!(rig.wake(after(3)).map(|(at, _)| at), Some(after(61)));
    let decisions = rig.engine.step(&rig.snapshot, after(61));
    assert!(matches!(decisions.alerts.as_slice(), [(_, None)]), "{:?}", decisions.alerts);
}

fn lasting() -> Rule {
    Rule { for_: MINUTE * 10, ..low_balance() }
}

#[test]
fn fault_50_for_survives_a_late_poll_and_begins_anew_after_a_gap() {
    // A poll a minute; 150 s are borne.
    for (gap_secs, fires_at) in [(150, after(11)), (151, after(11).plus(SECOND * 151))] {
        let mut rig = Rig::new(vec![lasting()]);
        rig.balance(after(1), 100).tell(after(1));
        rig.balance(after(1).plus(SECOND * gap_secs), 100);
        let mut now = after(1).plus(SECOND * gap_secs);
        while rig.tell(now).is_empty() {
            now = now.plus(SECOND * 10);
            rig.balance(now, 100);
            assert!(now < after(30));
        }
        let late = now.since(fires_at).max(fires_at.since(now));
        assert!(late <= SECOND * 10, "gap {gap_secs}: fired {late:?} off");
    }
}

#[test]
fn fault_50_nothing_ripens_while_nothing_is_seen() {
    let mut rig = Rig::new(vec![lasting()]);
    rig.balance(after(1), 100).tell(after(1));
    for minute in 2..30 {
        rig.fail(Feed::Balance, after(minute), FailureKind::Server);
        assert_eq!(rig.lines(after(minute)), [""; 0], "minute {minute}");
    }
    assert_eq!(rig.held(after(30)), [HeldReason::Unknown { feed: Feed::Balance }]);
    rig.balance(after(31), 100);
    assert_eq!(rig.held(after(31)), [HeldReason::Pending { until: after(41) }], "it begins anew");
}

#[test]
fn fault_50_a_restart_within_the_tolerance_keeps_for_and_a_longer_one_begins_anew() {
    for (down_secs, until) in [(100, after(11)), (200, after(11).plus(SECOND * 200))] {
        let mut rig = Rig::new(vec![lasting()]);
        let mut rows = Rows::default();
        rig.balance(after(1), 100);
        let decisions = rig.engine.step(&rig.snapshot, after(1));
        rows.commit(&decisions, &rig.snapshot);
        rig.restart(vec![lasting()], &rows);
        let up = after(1).plus(SECOND * down_secs);
        rig.snapshot.feeds.insert(Feed::Balance, crate::model::FeedHealth::new(MINUTE, up));
        rig.tell(up);
        rig.balance(up, 100);
        assert_eq!(rig.held(up), [HeldReason::Pending { until }], "down for {down_secs} s");
    }
}

#[test]
fn fault_44_a_gap_that_ended_while_the_clock_was_ahead_holds_no_alert_back() {
    let mut rig = Rig::new(vec![lasting()]);
    rig.balance(after(1), 5_000).tell(after(1));
    let wrong = T0.plus(HOUR * 24 * 365);
    rig.balance(wrong, 100).tell(wrong);
    for minute in 2..12 {
        assert_eq!(rig.balance(after(minute), 100).lines(after(minute)), [""; 0], "minute {minute}");
    }
    assert_eq!(rig.balance(after(12), 100).tell(after(12)).len(), 1, "ten minutes since the clock was right");
}

// ---- all of it together -------------------------------------------------------------------------------------------

#[derive(Debug, Clone)]
enum Act {
    Statuses(u8),
    Balance(bool),
    Fail,
    Silence(&'static str, u32),
    Restart,
    Pass(u32),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..8_u8).prop_map(Act::Statuses),
        4 => any::<bool>().prop_map(Act::Balance),
        1 => Just(Act::Fail),
        1 => (prop_oneof![Just("low-balance"), Just("provider-*"), Just("*")], 1..900_u32)
            .prop_map(|(rule, secs)| Act::Silence(rule, secs)),
        1 => Just(Act::Restart),
        2 => (60..2_000_u32).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Per alert and receiver: firing, resolved, firing …, whatever happens; reminders only in between.
    #[test]
    fn no_receiver_hears_of_an_end_without_a_beginning_nor_of_two_in_a_row(
        acts in proptest::collection::vec((any_act(), 1..80_u32), 1..60),
    ) {
        let rules = || {
            let receivers = routes(&[("ops", true), ("hook", true)]);
            let repeat_interval = Some(MINUTE * 7);
            vec![
                Rule { receivers: receivers.clone(), repeat_interval, ..stopped() },
                Rule { receivers: receivers.clone(), repeat_interval, ..low_balance() },
                Rule { receivers, for_: MINUTE, name: "lasting".into(), severity: Severity::Info, ..stopped() },
            ]
        };
        let mut rig = Rig::new(rules());
        let mut rows = Rows::default();
        let mut fires: BTreeMap<(Arc<str>, AlertKey), bool> = BTreeMap::new();
        let mut now = T0;
        for (act, secs) in acts {
            now = now.plus(SECOND * secs);
            match act {
                Act::Statuses(bits) => {
                    let status = |bit: u8| if bits & (1 << bit) == 0 { "running" } else { "stopped" };
                    rig.statuses(now, &[status(0), status(1), status(2)]);
                }
                Act::Balance(low) => drop(rig.balance(now, if low { 100 } else { 5_000 })),
                Act::Fail => drop(rig.fail(Feed::Deployments, now, FailureKind::Server)),
                Act::Silence(rule, secs) => rig.hush(silence("rule", rule, now, now.plus(SECOND * secs))),
                Act::Restart => rig.restart(rules(), &rows),
                Act::Pass(secs) => now = now.plus(SECOND * secs),
            }
            let decisions = rig.engine.step(&rig.snapshot, now);
            rows.commit(&decisions, &rig.snapshot);
            let again = rig.engine.step(&rig.snapshot, now);
            prop_assert!(again.notices.is_empty() && again.alerts.is_empty() && again.groups.is_empty());
            for notice in &decisions.notices {
                let alone = std::slice::from_ref(notice);
                let members = &notice.together.members;
                for told in if members.is_empty() { alone } else { members } {
                    for receiver in &notice.receivers {
                        let fires = fires.entry((receiver.clone(), told.key.clone())).or_default();
                        let expected = told.transition != Transition::Firing;
                        prop_assert_eq!(*fires, expected, "{} of {:?}", told.transition.as_str(), told.key);
                        *fires = told.transition != Transition::Resolved;
                    }
                }
            }
        }
    }
}
