//! A month of an armed policy in foul weather: restarts, deaths over an act, keeps, a disarming; judged by what the account says
//! was really so, never by what the watcher believed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::tz::TimeZone;
use spheron_watch::{
    drive::{
        Cadence,
        simulate::{Meddle, Scenario, Simulation, Tamper},
    },
    model::{
        Condition, Deed, DeploymentId, Glob, Grouping, Keep, MatchKey, Matcher, Policies, Policy, Safety,
        Status, Subject, Target, Time, Usd,
    },
    schedule::Schedule,
    sim::{FaultPlan, Spec, World},
};

const START: Time = Time::from_secs(1_800_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAYS: u64 = 30;
const RUNNING_FOR: Duration = Duration::from_secs(6 * 3_600);
const GRACE: Duration = Duration::from_secs(30 * 60);
/// A final read comes anew before a DELETE does, and not sooner than this after the last one.
const BETWEEN: Duration = Duration::from_secs(60);
/// After this hour the weather is fair.
const FAIR_FROM: u64 = 26 * 24;

fn hour(n: u64) -> Time {
    START.plus(HOUR * u32::try_from(n).unwrap())
}

fn policies() -> Policies {
    let policy = Policy {
        name: "long".into(),
        matching: Matcher { globs: [(MatchKey::Name, vec![Glob::new("dev-*")])].into() },
        when: vec![Condition::RunningFor(RUNNING_FOR)],
        grace: GRACE,
        require_volume: false,
        receivers: vec!["ops".into()],
    };
    let safety = Safety { max_per_hour: 4, max_per_day: 12, ..Safety::default() };
    Policies { policies: vec![policy], safety, ..Policies::default() }
}

/// A person's keep, as the oracle knows it.
struct Kept {
    id: DeploymentId,
    from: Time,
    until: Option<Time>,
}

struct Account {
    world: World,
    /// In the order of their creation, one every seven hours.
    dev: Vec<(Time, DeploymentId)>,
}

fn account(seed: u64, foul_percent: u32) -> Account {
    let mut world = World::new(seed, START);
    let team = world.add_team("Research", "owner", Usd::from_cents(100_000_000));
    for n in 0..6 {
        world.deploy(START, Spec::new(&team, &format!("prod-{n}")).boot(MINUTE));
    }
    let dev = (0..(DAYS - 2) * 24 / 7).map(|n| {
        let at = hour(n * 7);
        (at, world.deploy(at, Spec::new(&team, &format!("dev-{n}")).boot(MINUTE)))
    });
    let dev = dev.collect();
    if foul_percent > 0 {
        world.faults = FaultPlan::random(seed, START, hour(FAIR_FROM), foul_percent);
    }
    Account { world, dev }
}

#[derive(Default)]
struct Plant {
    tamper: Option<Tamper>,
    meddle: Option<Meddle>,
    /// Keeps are noted by the oracle and never reach the watcher.
    keeps_are_lost: bool,
}

/// What came of a month.
struct Month {
    simulation: Simulation,
    dev: Vec<(Time, DeploymentId)>,
    keeps: Vec<Kept>,
    /// From when to when a person had it armed.
    armed: Vec<(Time, Time)>,
}

fn live(seed: u64, foul_percent: u32, plant: Plant) -> Month {
    let Account { world, dev } = account(seed, foul_percent);
    let every = |text: &str| Schedule::parse(text).unwrap();
    let cadence = Cadence {
        zone: TimeZone::UTC,
        balance: every("every 10m"),
        deployments: every("every 5m"),
        inventory: every("every 6h"),
        volumes: every("every 6h"),
        offers: None,
    };
    let foul = foul_percent > 0;
    let gaps = (1..9).map(|n| (hour(n * 71).plus(MINUTE * 7), hour(n * 71).plus(MINUTE * 19)));
    let mut simulation = Simulation::new(Scenario {
        seed,
        world,
        start: START,
        rules: Vec::new(),
        grouping: Grouping::default(),
        cadence,
        calls_per_15m: Some(200),
        gaps: if foul { gaps.collect() } else { Vec::new() },
        receiver_fails_percent: if foul { 20 } else { 0 },
    })
    .unwrap();
    simulation.govern(policies());
    simulation.dies_percent = if foul { 8 } else { 0 };
    (simulation.tamper, simulation.meddle) = (plant.tamper, plant.meddle);
    let mut month = Month { simulation, dev, keeps: Vec::new(), armed: Vec::new() };
    for n in 1..=DAYS * 24 {
        month.simulation.run_until(hour(n)).unwrap();
        month.keep(n, plant.keeps_are_lost);
        month.switch(n);
    }
    month
}

impl Month {
    /// Every fifth is kept for a day when it is three hours old, every eleventh for ever.
    fn keep(&mut self, n: u64, lost: bool) {
        let young = self.dev.iter().enumerate().find(|(_, (at, _))| at.plus(HOUR * 3) == hour(n));
        let Some((nth, (_, id))) = young else { return };
        let now = self.simulation.now();
        let until = match (nth % 11, nth % 5) {
            (0, _) => None,
            (_, 0) => Some(now.plus(HOUR * 24)),
            (_, _) => return,
        };
        let created_at = self.simulation.world().created_at(id).unwrap();
        let keep = Keep {
            id: format!("kp_{nth}").into(),
            target: Target { id: id.clone(), created_at },
            until,
            by: "ann".into(),
            reason: "".into(),
            at: now,
        };
        if !lost {
            assert!(self.simulation.order(|core, now| core.keep(keep, now)).unwrap());
        }
        self.keeps.push(Kept { id: id.clone(), from: self.simulation.now(), until });
    }

    /// A dry run for a day and a half, armed as soon as it can be, disarmed for a day amid.
    fn switch(&mut self, n: u64) {
        let off = n < 36 || (15 * 24..16 * 24).contains(&n);
        let is_armed =
            self.armed.last().is_some_and(|(_, until)| *until == Time::from_secs(i64::from(u32::MAX)));
        if off && is_armed {
            assert!(self.simulation.order(|core, now| core.disarm("long", "ann".into(), now)).unwrap());
            self.armed.last_mut().unwrap().1 = self.simulation.now();
        } else if !off && !is_armed {
            let from = self.simulation.now();
            let armed = self.simulation.order(|core, now| {
                let code = core.policy_reasons(now).previews[0].code.clone();
                core.arm("long", &code, "ann".into(), now)
            });
            if armed.unwrap().is_ok() {
                self.armed.push((from, Time::from_secs(i64::from(u32::MAX))));
            }
        }
    }

    fn deletes(&self) -> Vec<(Time, DeploymentId)> {
        let world = self.simulation.world();
        let of = |mutation: &spheron_watch::sim::Mutation| {
            assert_eq!(mutation.method, "DELETE");
            (mutation.at, DeploymentId::new(mutation.path.rsplit('/').next().unwrap()))
        };
        world.mutations().iter().map(of).collect()
    }

    /// Which promises were broken.
    fn broken(&self) -> BTreeSet<&'static str> {
        let mut broken = BTreeSet::new();
        let deletes = self.deletes();
        let told = self.first_told();
        for (at, id) in &deletes {
            let world = self.simulation.world();
            let running =
                world.passages().iter().find(|passage| passage.id == *id && passage.to == Status::Running);
            let kept = |keep: &Kept| {
                keep.id == *id && keep.from <= *at && keep.until.is_none_or(|until| *at < until)
            };
            for (promise, kept) in [
                ("matched", world.name(id).is_some_and(|name| name.starts_with("dev-"))),
                ("running for long", running.is_some_and(|passage| at.since(passage.at) >= RUNNING_FOR)),
                ("not kept", !self.keeps.iter().any(kept)),
                ("armed", self.armed.iter().any(|(from, until)| (*from..*until).contains(at))),
                ("announced", told.get(id).is_some_and(|told| at.since(*told) >= GRACE)),
            ] {
                if !kept {
                    broken.insert(promise);
                }
            }
        }
        for (nth, (at, id)) in deletes.iter().enumerate() {
            let before = &deletes[..nth];
            let near = |within: Duration| before.iter().filter(move |(then, _)| at.since(*then) < within);
            if near(BETWEEN).any(|(_, other)| other == id) {
                broken.insert("once");
            }
            if near(HOUR).count() >= 4 || near(HOUR * 24).count() >= 12 {
                broken.insert("caps");
            }
        }
        if !self.left().is_empty() {
            broken.insert("ended");
        }
        broken
    }

    /// When a receiver that is not the log first took an announcement of each.
    fn first_told(&self) -> BTreeMap<DeploymentId, Time> {
        let mut told = BTreeMap::new();
        for sent in self
            .simulation
            .sent()
            .iter()
            .filter(|sent| &*sent.receiver == "ops" && sent.notice.title.starts_with("will be ended"))
        {
            if let Subject::Deployment { id, .. } = &sent.notice.key.subject {
                told.entry(id.clone()).or_insert(sent.at);
            }
        }
        told
    }

    /// What should have ended and runs still.
    fn left(&self) -> Vec<DeploymentId> {
        let world = self.simulation.world();
        let kept = |id: &DeploymentId| self.keeps.iter().any(|keep| keep.id == *id && keep.until.is_none());
        let runs = |id: &DeploymentId| world.status(id) == Some(&Status::Running);
        self.dev.iter().map(|(_, id)| id.clone()).filter(|id| runs(id) && !kept(id)).collect()
    }
}

#[test]
fn a_month_of_foul_weather_ends_what_it_should_and_nothing_else() {
    for seed in [3, 11] {
        let month = live(seed, 20, Plant::default());
        let left = month.left();
        assert_eq!(month.broken(), BTreeSet::new(), "seed {seed}; still running: {left:?}");
        assert!(month.deletes().len() >= 60, "seed {seed}: {}", month.deletes().len());
        assert!(!month.simulation.core().snapshot().keeps.is_empty());
    }
}

#[test]
fn the_same_seed_gives_the_same_month() {
    let trace = || live(5, 20, Plant::default()).simulation.trace();
    assert_eq!(trace(), trace());
}

#[test]
fn what_is_broken_on_purpose_is_found() {
    let twice: Meddle = Box::new(|acts| {
        let again: Vec<_> =
            acts.iter().filter(|act| matches!(act.deed, Deed::Delete { .. })).cloned().collect();
        acts.extend(again);
    });
    let broken = live(3, 0, Plant { meddle: Some(twice), ..Plant::default() }).broken();
    assert!(broken.contains("once"), "{broken:?}");

    let broken = live(3, 0, Plant { keeps_are_lost: true, ..Plant::default() }).broken();
    assert_eq!(broken, BTreeSet::from(["not kept"]));

    let unheard: Tamper = Box::new(|record| {
        let announced = record.notices.iter_mut().filter(|notice| notice.title.starts_with("will be ended"));
        announced.for_each(|notice| notice.receivers = vec!["log".into()]);
    });
    let broken = live(3, 0, Plant { tamper: Some(unheard), ..Plant::default() }).broken();
    assert_eq!(broken, BTreeSet::from(["ended"]));

    let disarmed: Tamper = Box::new(|record| {
        record.wishes.retain(|wish| !matches!(wish, spheron_watch::model::Wish::Arming(_, Some(_))));
    });
    let broken = live(3, 0, Plant { tamper: Some(disarmed), ..Plant::default() }).broken();
    assert_eq!(
        broken,
        BTreeSet::from(["ended"]),
        "the store commits no intent that it does not know to be armed"
    );
}

#[test]
fn a_policy_that_nobody_armed_ends_nothing_and_tells_what_it_would() {
    let mut month = live(3, 0, Plant { tamper: None, meddle: None, keeps_are_lost: true });
    let armed_from = month.armed[0].0;
    assert!(month.deletes().iter().all(|(at, _)| *at >= armed_from));
    let dry = month.simulation.sent().iter().filter(|sent| sent.at < armed_from && &*sent.receiver == "ops");
    assert!(dry.count() > 0, "the dry run told");
    month.simulation.order(|core, _| core.govern(Policies::default())).unwrap();
    assert!(
        month
            .simulation
            .core()
            .view(month.simulation.now(), &Default::default())
            .policies
            .policies
            .is_empty()
    );
    let names: Vec<Arc<str>> = month.simulation.core().snapshot().armings.keys().cloned().collect();
    assert_eq!(names, [Arc::<str>::from("long")], "a removed policy is not disarmed behind one's back");
}
