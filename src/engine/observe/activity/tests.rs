use std::time::Duration;

use super::*;
use crate::{
    engine::{changes, fold},
    model::{
        Access, Deployment, DeploymentId, Facts, Feed, Glob, InstanceType, Listing, MatchKey, Matcher,
        Observation, Scope, Status, TeamId, Usd,
    },
};

const T0: Time = Time::from_secs(1_800_000_000);
const EVERY: Duration = Duration::from_secs(60);

fn at(secs: i64) -> Time {
    Time::from_secs(T0.secs() + secs)
}

fn deployment(id: &str, name: &str, status: &str) -> Deployment {
    Deployment {
        id: DeploymentId::new(id),
        created_at: T0,
        name: name.into(),
        team: TeamId::new("t1"),
        gpu_type: "h100".into(),
        gpu_count: 1,
        provider: "spheron-ai".into(),
        region: "us-east-1".into(),
        instance_type: InstanceType::new("DEDICATED"),
        status: Status::from(Arc::from(status)),
        hourly_rate: Usd::from_cents(200),
        total_cost: Usd::from_cents(200),
        started_at: None,
        stopped_at: None,
        kubernetes: false,
        access: Access::default(),
    }
}

fn list(snapshot: &mut Snapshot, items: Vec<Deployment>, at: Time) {
    let list = Listing { items, unreadable: Vec::new(), suspect: None };
    let scopes = vec![(Scope::Team(TeamId::new("t1")), Ok(Facts::Deployments(list)))];
    let observation = Observation { feed: Feed::Deployments, at, scopes, skew_ms: None };
    fold(snapshot, &observation, &[Glob::new("*")]);
}

fn source(name: &str) -> ActivitySource {
    ActivitySource {
        name: name.into(),
        every: EVERY,
        matcher: Matcher::default(),
        only_busy: false,
        settings: "".into(),
    }
}

fn growth() -> ActivitySource {
    ActivitySource { only_busy: true, ..source("disk") }
}

struct Rig {
    snapshot: Snapshot,
    sources: Vec<ActivitySource>,
}

impl Rig {
    fn new(sources: Vec<ActivitySource>) -> Self {
        let mut snapshot = Snapshot::default();
        list(&mut snapshot, vec![deployment("a", "train", "running")], T0);
        attend(&mut snapshot, &sources, T0);
        Self { snapshot, sources }
    }

    fn say(&mut self, source: &str, secs: i64, reading: Reading) {
        let sample = ActivitySample {
            deployment: DeploymentId::new("a"),
            source: source.into(),
            at: at(secs),
            every: EVERY,
            reading,
            utilization_permille: None,
            settings: "".into(),
        };
        fold_activity(&mut self.snapshot, &self.sources, &sample);
    }

    fn relist(&mut self, deployment: Deployment, secs: i64) {
        list(&mut self.snapshot, vec![deployment], at(secs));
        attend(&mut self.snapshot, &self.sources, at(secs));
    }

    fn entry(&self, source: &str) -> Option<&SourceActivity> {
        self.snapshot.activity.get(&DeploymentId::new("a"))?.get(source)
    }

    /// Seconds since T0.
    fn idle_since(&self, source: &str) -> Option<i64> {
        self.entry(source).and_then(|entry| entry.idle_since).map(|time| time.secs() - T0.secs())
    }
}

fn unknown() -> Reading {
    Reading::Unknown("it does not answer".into())
}

#[test]
fn fault_50_a_gap_of_more_than_two_and_a_half_polls_restarts_the_window() {
    for (gap_secs, idle_since) in [(60, 0), (150, 0), (151, 151), (3_600, 3_600)] {
        let mut rig = Rig::new(vec![source("gpu")]);
        rig.say("gpu", 0, Reading::Idle);
        rig.say("gpu", gap_secs, Reading::Idle);
        assert_eq!(rig.idle_since("gpu"), Some(idle_since), "a gap of {gap_secs}s");
    }
}

#[test]
fn fault_44_a_clock_that_goes_back_restarts_the_window() {
    let mut rig = Rig::new(vec![source("gpu")]);
    rig.say("gpu", 0, Reading::Idle);
    rig.say("gpu", -3_600, Reading::Idle);
    assert_eq!(rig.idle_since("gpu"), Some(-3_600));
    assert_eq!(rig.entry("gpu").unwrap().last, at(-3_600));
    assert!(!rig.entry("gpu").unwrap().is_fresh(at(0)) && rig.entry("gpu").unwrap().is_fresh(at(-3_500)));
}

#[test]
fn fault_45_no_window_spans_a_suspension_or_a_clock_that_was_set() {
    let mut rig = Rig::new(vec![source("gpu")]);
    rig.say("gpu", 0, Reading::Idle);
    rig.say("gpu", 60, Reading::Idle);
    restart_windows(&mut rig.snapshot);
    assert_eq!(rig.idle_since("gpu"), None, "nothing is idle until somebody says so again");
    rig.say("gpu", 120, Reading::Idle);
    assert_eq!(rig.idle_since("gpu"), Some(120));
}

#[test]
fn what_was_said_under_other_settings_is_not_heard() {
    let mut rig = Rig::new(vec![source("gpu")]);
    rig.say("gpu", 0, Reading::Busy);
    rig.sources = vec![ActivitySource { settings: "another threshold".into(), ..source("gpu") }];
    rig.say("gpu", 60, Reading::Idle);
    assert_eq!(rig.entry("gpu").map(|entry| entry.reading.clone()), Some(Reading::Busy));
}

#[test]
fn fault_72_busy_and_unknown_end_the_window_and_idle_begins_it_anew() {
    for reading in [Reading::Busy, unknown()] {
        let mut rig = Rig::new(vec![source("gpu")]);
        rig.say("gpu", 0, Reading::Idle);
        rig.say("gpu", 60, reading.clone());
        assert_eq!(rig.idle_since("gpu"), None, "{reading:?}");
        rig.say("gpu", 120, Reading::Idle);
        assert_eq!(rig.idle_since("gpu"), Some(120), "{reading:?}");
    }
}

#[test]
fn fault_72_a_source_that_has_not_spoken_is_there_and_unknown() {
    let mut rig = Rig::new(vec![source("gpu"), source("beat")]);
    rig.say("gpu", 0, Reading::Idle);
    let silent = rig.entry("beat").unwrap();
    assert!(matches!(&silent.reading, Reading::Unknown(why) if &**why == "not measured yet"));
    assert_eq!(silent.idle_since, None);
    rig.relist(deployment("a", "train", "running"), 60);
    assert_eq!(rig.idle_since("gpu"), Some(0), "what was said stays");
}

#[test]
fn growth_of_a_volume_restarts_the_others_windows_and_alone_proves_nothing() {
    let mut rig = Rig::new(vec![source("gpu"), growth()]);
    assert!(rig.entry("disk").is_none(), "it does not count until it speaks against idleness");
    rig.say("gpu", 0, Reading::Idle);
    rig.say("disk", 30, Reading::Idle);
    assert_eq!((rig.idle_since("gpu"), rig.entry("disk")), (Some(0), None));
    rig.say("disk", 90, Reading::Busy);
    assert_eq!(rig.idle_since("gpu"), Some(90));
    assert_eq!(rig.entry("disk").unwrap().reading, Reading::Busy);
    rig.say("gpu", 100, Reading::Idle);
    rig.say("disk", 150, Reading::Idle);
    assert_eq!((rig.idle_since("gpu"), rig.entry("disk")), (Some(90), None));
    rig.say("disk", 210, unknown());
    assert_eq!(rig.idle_since("gpu"), Some(210), "unknown counts as busy");

    let mut alone = Rig::new(vec![growth()]);
    alone.say("disk", 30, Reading::Idle);
    assert_eq!(alone.snapshot.activity.len(), 0);
}

#[test]
fn fault_20_evidence_does_not_outlive_what_it_is_about() {
    let idle = || {
        let mut rig = Rig::new(vec![source("gpu")]);
        rig.say("gpu", 0, Reading::Idle);
        rig
    };
    let mut stopped = idle();
    stopped.relist(deployment("a", "train", "stopped"), 60);
    assert!(stopped.entry("gpu").is_none());
    stopped.say("gpu", 70, Reading::Idle);
    assert!(stopped.entry("gpu").is_none(), "a late sample of what no longer runs");
    stopped.relist(deployment("a", "train", "running"), 120);
    assert_eq!(stopped.idle_since("gpu"), None);

    let mut reborn = idle();
    reborn.relist(Deployment { created_at: at(30), ..deployment("a", "train", "running") }, 60);
    assert_eq!(reborn.idle_since("gpu"), None, "another identity under the same id");

    let globs = [(MatchKey::Name, vec![Glob::new("train*")])].into();
    let mut renamed = idle();
    renamed.sources = vec![ActivitySource { matcher: Matcher { globs }, ..source("gpu") }];
    renamed.relist(deployment("a", "train-2", "running"), 60);
    assert_eq!(renamed.idle_since("gpu"), Some(0), "it still matches");
    renamed.relist(deployment("a", "serve", "running"), 120);
    assert!(renamed.entry("gpu").is_none());

    let mut strange = idle();
    strange.say("unheard-of", 60, Reading::Busy);
    assert!(strange.entry("unheard-of").is_none());
}

#[test]
fn how_to_reach_an_instance_is_no_change_and_never_in_one() {
    let reachable = |ip: &str, cents: i64| Deployment {
        access: Access { ip: Some(ip.into()), user: Some("root".into()), ssh_port: None },
        total_cost: Usd::from_cents(cents),
        ..deployment("a", "train", "running")
    };
    let mut before = Snapshot::default();
    list(&mut before, vec![reachable("203.0.113.7", 1)], T0);
    let first = format!("{:?}", changes(&Snapshot::default(), &before));
    assert!(!first.contains("203.0.113") && !first.contains("root"), "{first}");
    let mut after = before.clone();
    list(&mut after, vec![reachable("203.0.113.8", 1)], at(60));
    assert_ne!(before, after);
    assert_eq!(
        after.deployments[&DeploymentId::new("a")].deployment.access.ip.as_deref(),
        Some("203.0.113.8")
    );
    assert_eq!(changes(&before, &after), []);
    list(&mut after, vec![reachable("203.0.113.9", 2)], at(120));
    let changed = changes(&before, &after);
    let [crate::model::Change::Deployment(tracked)] = changed.as_slice() else { panic!("{changed:?}") };
    assert_eq!(tracked.deployment.access, Access::default());
}
