use super::*;
use crate::model::{
    MatchKey, Matcher, Offer, Reading, SourceActivity, Subject, Volume, VolumeId, VolumeStatus,
};

fn volume(id: &str, used_bytes: u64) -> Volume {
    Volume {
        id: VolumeId::new(id),
        created_at: T0,
        name: format!("data-{id}").into(),
        team: TeamId::new("t1"),
        provider: "spheron-ai".into(),
        status: VolumeStatus::Available,
        size_bytes: 1_000,
        used_bytes,
        hourly_rate: Usd::from_cents(10),
        attached_to: Vec::new(),
        last_detached_at: None,
    }
}

fn offer(id: &str, cents: i64) -> Offer {
    Offer {
        id: id.into(),
        provider: "spheron-ai".into(),
        gpu_type: "h100".into(),
        gpu_count: 1,
        instance_type: InstanceType::new("DEDICATED"),
        region: "us-east-1".into(),
        price: Usd::from_cents(cents),
        available: true,
    }
}

impl Rig {
    fn volumes(&mut self, at: Time, items: Vec<Volume>) -> &mut Self {
        let scope = Scope::Team(TeamId::new("t1"));
        self.fold(&seen(Feed::Volumes, at, scope, Ok(Facts::Volumes(whole(items)))))
    }

    fn offers(&mut self, at: Time, items: Vec<Offer>) -> &mut Self {
        self.fold(&seen(Feed::Offers, at, Scope::Unscoped, Ok(Facts::Offers(whole(items)))))
    }

    /// The lists are read again, and nothing has changed.
    fn relist(&mut self, at: Time) -> &mut Self {
        self.list(at, vec![deployment("a", "running")])
    }

    fn measure(&mut self, source: &str, at: Time, reading: Reading, idle_since: Option<Time>) -> &mut Self {
        let said =
            SourceActivity { last: at, every: MINUTE, reading, idle_since, utilization_permille: None };
        self.snapshot.activity.entry(DeploymentId::new("a")).or_default().insert(source.into(), said);
        self
    }
}

fn idle_rig() -> Rig {
    let mut rig = Rig::new(vec![rule("idle", RuleKind::Idle { longer_than: HOUR })]);
    rig.list(T0, vec![deployment("a", "running")]);
    rig
}

#[test]
fn fault_72_what_nobody_measures_is_unknown_and_never_idle() {
    let mut rig = idle_rig();
    assert_eq!(rig.relist(after(600)).step(after(600)), told(&[]));
    assert_eq!(rig.held(after(600)), vec![HeldReason::Unmeasured]);
    let unknown = || Reading::Unknown("no series".into());
    rig.measure("dcgm", after(600), Reading::Idle, Some(T0)).measure("ssh", after(600), unknown(), None);
    assert_eq!(rig.step(after(600)), told(&[]), "one of two sources does not know");
    assert_eq!(rig.held(after(600)), vec![HeldReason::Unmeasured]);
}

#[test]
fn fault_72_a_source_that_falls_silent_is_unknown_again() {
    let mut rig = idle_rig();
    rig.relist(after(59)).measure("dcgm", after(59), Reading::Idle, Some(T0));
    assert_eq!(rig.step(after(59)), told(&[]));
    assert_eq!(rig.step(after(62)), told(&[]), "its last word is older than 2.5 intervals");
    assert_eq!(rig.held(after(62)), vec![HeldReason::Unmeasured]);
    assert_eq!(rig.step(after(61)), told(&[]), "samples span 59 minutes, however late it is");
}

#[test]
fn every_source_must_have_measured_idle_for_the_whole_window() {
    let mut rig = idle_rig();
    rig.relist(after(90)).measure("dcgm", after(90), Reading::Idle, Some(T0));
    rig.measure("ssh", after(90), Reading::Idle, Some(after(30)));
    assert_eq!(rig.step(after(90)), told(&[]), "an hour by both is not more than an hour");
    rig.measure("dcgm", after(91), Reading::Idle, Some(T0));
    rig.measure("ssh", after(91), Reading::Idle, Some(after(30)));
    assert_eq!(rig.step(after(91)), told(&[(Transition::Firing, "idle: box-a for 1h 1m")]));
    rig.measure("dcgm", after(92), Reading::Busy, None);
    assert_eq!(rig.step(after(92)).len(), 1, "one busy source is enough to resolve");
}

#[test]
fn an_idle_instance_that_is_not_running_or_not_listed_does_not_fire() {
    let reasons = [
        ("deploying", vec![HeldReason::NotMet]),
        ("stopped", vec![HeldReason::NotMet]),
        ("hibernating", vec![HeldReason::NotMet]),
        ("terminated", Vec::new()),
    ];
    for (status, reasons) in reasons {
        let mut rig = idle_rig();
        rig.list(after(91), vec![deployment("a", status)]);
        rig.measure("dcgm", after(91), Reading::Idle, Some(T0));
        assert_eq!(rig.step(after(91)), told(&[]), "{status}");
        assert_eq!(rig.held(after(91)), reasons, "{status}");
    }
    let mut rig = idle_rig();
    rig.list(after(91), Vec::new()).measure("dcgm", after(91), Reading::Idle, Some(T0));
    assert_eq!(rig.step(after(91)), told(&[]));
    assert_eq!(rig.held(after(91)), vec![HeldReason::Unknown { feed: Feed::Detail }]);
}

#[test]
fn fault_21_each_change_of_a_rate_is_told_once_with_an_id_of_its_own() {
    let mut rig = Rig::new(vec![rule("rate-changed", RuleKind::RateChanged)]);
    let at = |cents| Deployment { hourly_rate: Usd::from_cents(cents), ..deployment("a", "running") };
    rig.list(T0, vec![at(200)]).step(T0);
    rig.list(after(1), vec![at(260)]);
    let first = rig.engine.step(&rig.snapshot, after(1)).notices;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].title, "rate changed: box-a from $2.00/h to $2.60/h");
    assert_eq!(rig.list(after(2), vec![at(260)]).step(after(2)), told(&[]));
    // A clock that was set back in between hides nothing.
    rig.list(T0, vec![at(200)]);
    let second = rig.engine.step(&rig.snapshot, T0).notices;
    assert_eq!(second.len(), 1, "back to what it was is a change, too");
    assert_ne!(first[0].id, second[0].id);
    assert_eq!(rig.held(after(3)), vec![HeldReason::PastEvent]);
}

#[test]
fn fault_21_a_rate_that_falls_to_nothing_with_the_end_is_no_change() {
    let mut rig = Rig::new(vec![rule("rate-changed", RuleKind::RateChanged)]);
    rig.list(T0, vec![deployment("a", "running")]).step(T0);
    let ended = Deployment { hourly_rate: Usd::ZERO, ..deployment("a", "terminated") };
    assert_eq!(rig.list(after(1), vec![ended]).step(after(1)), told(&[]));
}

#[test]
fn fault_03_a_rate_that_cannot_be_read_is_no_change() {
    let mut rig = Rig::new(vec![rule("rate-changed", RuleKind::RateChanged)]);
    rig.list(T0, vec![deployment("a", "running")]).step(T0);
    let bad = Unreadable { id: Some("a".into()), why: "hourlyRate: null".into() };
    let list = Listing { items: Vec::new(), unreadable: vec![bad], suspect: None };
    rig.fold(&seen(Feed::Deployments, after(1), Scope::Unscoped, Ok(Facts::Deployments(list))));
    assert_eq!(rig.step(after(1)), told(&[]));
    assert_eq!(rig.list(after(2), vec![deployment("a", "running")]).step(after(2)), told(&[]));
}

#[test]
fn fault_03_what_was_never_read_is_known_to_be_there_until_it_is_read_or_a_whole_list_lacks_it() {
    let mut rig = Rig::new(Vec::new());
    let bad = || Unreadable { id: Some("a".into()), why: "totalCost: null".into() };
    let list = |unreadable| Listing { items: Vec::new(), unreadable, suspect: None };
    let poll = |feed, minute, result| seen(feed, after(minute), Scope::Unscoped, result);
    let facts = |unreadable| Ok(Facts::Deployments(list(unreadable)));
    rig.fold(&poll(Feed::Deployments, 1, facts(vec![bad()])));
    rig.fold(&poll(Feed::Deployments, 2, facts(vec![bad()])));
    let known = |rig: &Rig| {
        rig.snapshot.unknown.values().map(|u| (u.since, &*u.why == "totalCost: null")).collect::<Vec<_>>()
    };
    assert_eq!(known(&rig), [(after(1), true)], "since it was first seen");
    rig.fold(&poll(Feed::Inventory, 3, facts(Vec::new())));
    let failed = Failure::new(FailureKind::Server, "500");
    rig.fold(&poll(Feed::Deployments, 4, Err(failed)));
    assert_eq!(known(&rig).len(), 1, "another list and an error say nothing of it");
    rig.fold(&poll(Feed::Deployments, 5, facts(Vec::new())));
    assert_eq!(known(&rig), []);
    rig.fold(&poll(Feed::Deployments, 6, facts(vec![bad()])));
    rig.list(after(7), vec![deployment("a", "running")]);
    assert_eq!(known(&rig), [], "now it is read");
}

#[test]
fn fault_20_an_id_that_comes_back_has_no_rate_of_before_and_lends_no_words() {
    let mut rig = Rig::new(vec![
        rule("rate-changed", RuleKind::RateChanged),
        rule("stuck", RuleKind::Stuck { longer_than: MINUTE * 30 }),
    ]);
    rig.list(T0, vec![deployment("a", "deploying")]);
    assert_eq!(rig.step(T0), told(&[(Transition::Firing, "stuck: box-a deploying for 1h")]));
    let reborn = Deployment {
        created_at: after(5),
        started_at: None,
        hourly_rate: Usd::from_cents(900),
        ..deployment("a", "running")
    };
    rig.list(after(5), vec![reborn]);
    let resolved = rig.step(after(5));
    let subject = Subject::Deployment { id: DeploymentId::new("a"), created_at: T0.minus(HOUR) };
    assert_eq!(resolved, told(&[(Transition::Resolved, &format!("stuck: {subject}"))]));
}

#[test]
fn fault_02_an_unknown_status_is_neither_failed_nor_stuck_nor_idle() {
    let mut rig = Rig::new(vec![
        rule("failed", RuleKind::Failed),
        rule("stuck", RuleKind::Stuck { longer_than: MINUTE }),
        rule("idle", RuleKind::Idle { longer_than: MINUTE }),
    ]);
    rig.list(after(9), vec![deployment("a", "failing")]);
    rig.measure("dcgm", after(9), Reading::Idle, Some(T0));
    assert_eq!(rig.step(after(9)), told(&[]));
    assert_eq!(rig.held(after(9)), vec![HeldReason::NotMet; 3]);
}

#[test]
fn an_instance_that_lives_five_seconds_between_two_polls_is_told_by_the_inventory() {
    let mut rig = Rig::new(vec![rule("failed", RuleKind::Failed), rule("new", RuleKind::NewDeployment)]);
    rig.list(T0, Vec::new()).step(T0);
    let shot = Deployment {
        created_at: after(10),
        started_at: None,
        stopped_at: Some(after(10).plus(Duration::from_secs(5))),
        ..deployment("a", "failed")
    };
    rig.list(after(11), Vec::new()).step(after(11));
    let inventory = Ok(Facts::Deployments(whole(vec![shot])));
    rig.fold(&seen(Feed::Inventory, after(60), Scope::Unscoped, inventory));
    assert_eq!(
        rig.step(after(60)),
        told(&[
            (Transition::Event, "failed: box-a after 5s"),
            (Transition::Event, "new deployment: box-a at $2.00/h")
        ])
    );
    assert_eq!(rig.list(after(61), Vec::new()).step(after(61)), told(&[]));
}

#[test]
fn the_fleet_of_a_first_start_is_not_new_and_what_comes_later_is() {
    let mut rig = Rig::new(vec![rule("new", RuleKind::NewDeployment)]);
    rig.list(after(1), vec![deployment("a", "running")]);
    assert_eq!(rig.step(after(1)), told(&[]), "it was there before us");
    let late = Deployment { created_at: after(2), ..deployment("b", "running") };
    rig.list(after(3), vec![deployment("a", "running"), late]);
    assert_eq!(rig.step(after(3)), told(&[(Transition::Event, "new deployment: box-b at $2.00/h")]));
    let unseen = Deployment { created_at: after(4), ..deployment("c", "running") };
    rig.list(after(4 + 1_441), vec![unseen]);
    assert_eq!(rig.step(after(4 + 1_441)), told(&[]), "met more than a day late");
}

#[test]
fn fault_49_a_creation_in_the_future_is_new_but_never_stuck() {
    let mut rig = Rig::new(vec![
        rule("new", RuleKind::NewDeployment),
        rule("stuck", RuleKind::Stuck { longer_than: MINUTE }),
    ]);
    let future = Deployment { created_at: after(900), started_at: None, ..deployment("a", "deploying") };
    rig.list(after(1), vec![future.clone()]);
    assert_eq!(rig.step(after(1)).len(), 1);
    assert_eq!(rig.list(after(30), vec![future]).step(after(30)), told(&[]));
}

#[test]
fn fault_67_an_offer_that_wavers_about_the_threshold_is_one_alert() {
    let mut rig = Rig::new(vec![rule("overpaying", RuleKind::Overpaying { percent: 20 })]);
    rig.list(T0, vec![deployment("a", "running")]);
    let mut transitions = Vec::new();
    for minute in 0..40 {
        let cents = if minute % 2 == 0 { 160 } else { 167 };
        rig.relist(after(minute)).offers(after(minute), vec![offer("o", cents)]);
        transitions.extend(rig.step(after(minute)).into_iter().map(|(transition, _)| transition));
    }
    assert_eq!(transitions, [Transition::Firing]);
    rig.offers(after(41), vec![offer("o", 169)]);
    assert_eq!(rig.step(after(41)).len(), 1, "below four fifths of the percentage it is over");
    assert_eq!(rig.offers(after(42), vec![offer("o", 161)]).step(after(42)), told(&[]));
}

#[test]
fn offers_that_a_failed_poll_left_old_neither_fire_nor_resolve() {
    let mut rig = Rig::new(vec![rule("overpaying", RuleKind::Overpaying { percent: 20 })]);
    rig.list(T0, vec![deployment("a", "running")]).step(T0);
    assert_eq!(rig.held(T0), vec![HeldReason::Unknown { feed: Feed::Offers }], "never polled");
    rig.offers(after(1), vec![offer("o", 100)]).fail(Feed::Offers, after(2), FailureKind::Server);
    assert_eq!(rig.step(after(2)), told(&[]));
    rig.offers(after(3), vec![offer("o", 100)]);
    assert_eq!(rig.step(after(3)).len(), 1);
    rig.offers(after(4), Vec::new()).fail(Feed::Offers, after(5), FailureKind::Server);
    assert_eq!(rig.step(after(5)), told(&[]));
    assert_eq!(rig.held(after(5)), vec![HeldReason::Unknown { feed: Feed::Offers }]);
}

#[test]
fn an_equivalent_has_the_same_gpu_count_and_type_and_is_available() {
    let unlike = [
        Offer { gpu_type: "h200".into(), ..offer("gpu", 1) },
        Offer { gpu_count: 2, ..offer("count", 1) },
        Offer { instance_type: InstanceType::new("SPOT"), ..offer("type", 1) },
        Offer { available: false, ..offer("available", 1) },
    ];
    let mut rig = Rig::new(vec![rule("overpaying", RuleKind::Overpaying { percent: 20 })]);
    rig.list(T0, vec![deployment("a", "running")]);
    assert_eq!(rig.offers(T0, unlike.to_vec()).step(T0), told(&[]));
    let free = Deployment { hourly_rate: Usd::ZERO, ..deployment("a", "running") };
    rig.list(T0, vec![free]).offers(T0, vec![offer("o", 0)]);
    assert_eq!(rig.step(T0), told(&[]), "nobody overpays nothing");
    let metal = Deployment { instance_type: InstanceType::new("BARE_METAL"), ..deployment("b", "running") };
    rig.list(after(1), vec![metal]);
    rig.offers(after(1), vec![Offer { instance_type: InstanceType::new("CLUSTER"), ..offer("o", 1) }]);
    assert_eq!(rig.step(after(1)).len(), 1, "a cluster is bare metal");
}

#[test]
fn a_volume_at_its_threshold_goes_on_firing_and_does_not_begin() {
    let mut rig = Rig::new(vec![rule("full", RuleKind::VolumeFull { above_permille: 900 })]);
    assert_eq!(rig.volumes(T0, vec![volume("v", 900)]).step(T0), told(&[]));
    let fired = rig.volumes(after(5), vec![volume("v", 901)]).step(after(5));
    assert_eq!(fired, told(&[(Transition::Firing, "volume full: data-v at 90.1 %")]));
    assert_eq!(rig.volumes(after(10), vec![volume("v", 900)]).step(after(10)), told(&[]));
    assert_eq!(rig.held(after(10)), vec![HeldReason::KeptFiring { until: None }]);
    assert_eq!(rig.volumes(after(15), vec![volume("v", 899)]).step(after(15)).len(), 1);
    let sizeless = Volume { size_bytes: 0, ..volume("w", 5) };
    assert_eq!(rig.volumes(after(20), vec![sizeless]).step(after(20)), told(&[]), "of no known size");
}

#[test]
fn an_unattached_volume_counts_from_its_last_detachment_and_is_judged_from_fresh_lists_alone() {
    let mut rig = Rig::new(vec![rule("loose", RuleKind::UnattachedVolume { longer_than: HOUR })]);
    let loose = || Volume { last_detached_at: Some(after(30)), ..volume("v", 0) };
    rig.volumes(after(60), vec![loose()]);
    let wake = rig.engine.step(&rig.snapshot, after(60)).wake.map(|wake| wake.at);
    assert_eq!(wake, Some(after(90).plus(Duration::from_millis(1))));
    assert_eq!(rig.volumes(after(90), vec![loose()]).step(after(90)), told(&[]));
    assert_eq!(rig.held(after(100)), vec![HeldReason::Unknown { feed: Feed::Volumes }], "of ten minutes ago");
    rig.fail(Feed::Volumes, after(91), FailureKind::Server);
    assert_eq!(rig.step(after(91)), told(&[]));
    assert_eq!(rig.held(after(91)), vec![HeldReason::Unknown { feed: Feed::Volumes }]);
    let fired = rig.volumes(after(92), vec![loose()]).step(after(92));
    assert_eq!(fired, told(&[(Transition::Firing, "unattached volume: data-v for 1h 2m")]));
    assert_eq!(rig.volumes(after(93), Vec::new()).step(after(93)).len(), 1, "a complete list lacks it");
}

#[test]
fn what_a_matcher_leaves_out_says_so_and_what_fired_before_resolves() {
    let matching = |name: &str| Matcher { globs: BTreeMap::from([(MatchKey::Name, vec![Glob::new(name)])]) };
    let of_team = |name: &str| Matcher { globs: BTreeMap::from([(MatchKey::Team, vec![Glob::new(name)])]) };
    let full = RuleKind::VolumeFull { above_permille: 900 };
    let rules = |name: &str| {
        vec![
            Rule { matcher: matching(name), ..rule("full", full.clone()) },
            Rule { matcher: matching(name), ..rule("stuck", RuleKind::Stuck { longer_than: MINUTE }) },
            Rule { matcher: of_team(name), ..low_balance() },
            Rule { matcher: of_team(name), ..rule("unknown", RuleKind::BalanceUnknown) },
            Rule { matcher: of_team(name), ..rule("shrunk", RuleKind::FleetShrunk) },
        ]
    };
    let mut rig = Rig::new(rules("*"));
    rig.list(T0, vec![deployment("a", "deploying")]).volumes(T0, vec![volume("v", 999)]).balance(T0, 1);
    assert_eq!(rig.step(T0).len(), 3);
    rig.engine.replace(rules("other"), vec![Glob::new("*")], TimeZone::UTC);
    assert_eq!(rig.step(after(1)).len(), 3, "each resolves");
    assert_eq!(rig.held(after(1)), vec![HeldReason::NotMatched; 5]);
}

#[test]
fn a_volume_matches_by_name_id_team_and_provider_and_by_nothing_that_it_lacks() {
    let volume = volume("v", 0);
    for (key, glob, expected) in [
        (MatchKey::Name, "DATA-*", true),
        (MatchKey::Id, "v", true),
        (MatchKey::Team, "research", true),
        (MatchKey::Team, "t1", true),
        (MatchKey::Team, "t2", false),
        (MatchKey::Provider, "spheron-ai", true),
        (MatchKey::GpuType, "*", false),
        (MatchKey::Region, "*", false),
        (MatchKey::InstanceType, "*", false),
    ] {
        let matcher = Matcher { globs: BTreeMap::from([(key, vec![Glob::new(glob)])]) };
        assert_eq!(matcher.matches_volume(&volume, "research"), expected, "{key:?} {glob}");
    }
}

#[test]
fn every_state_gives_its_own_reason_for_saying_nothing() {
    let mut rig = Rig::new(vec![Rule {
        repeat_interval: Some(HOUR * 4),
        keep_firing_for: MINUTE * 10,
        ..low_balance()
    }]);
    rig.balance(after(1), 900).step(after(1));
    assert_eq!(rig.held(after(2)), vec![HeldReason::AlreadyTold { next: Some(after(241)) }]);
    rig.balance(after(3), 1_100);
    assert_eq!(rig.held(after(3)), vec![HeldReason::KeptFiring { until: None }], "by hysteresis");
    rig.fold(&seen(Feed::Balance, after(4), Scope::Unscoped, Ok(Facts::Balances(whole(Vec::new())))));
    assert_eq!(rig.held(after(4)), vec![HeldReason::Unknown { feed: Feed::Balance }]);
    assert_eq!(rig.step(after(241)).len(), 1, "it reminds although nothing is known");
    rig.balance(after(242), 5_000);
    assert_eq!(rig.held(after(242)), vec![HeldReason::KeptFiring { until: Some(after(252)) }]);
    rig.step(after(252));
    assert_eq!(rig.held(after(252)), vec![HeldReason::NotMet]);
}
