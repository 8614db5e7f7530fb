//! A watcher's life on a simulated account, and what is kept of it as evidence.
//!
//! It must never judge: that is for the oracles.

use std::{path::Path, sync::Arc, time::Duration};

use spheron_watch::{
    app,
    config::{self, Env},
    drive::simulate::{Asked, Scenario, Sent, Simulation, Tamper},
    model::{Access, Feed, Grouping, Presence, Rule, Snapshot, Time},
    sim::{CallStats, Event, FaultPlan, Spec, VolumeSpec, Window, World},
    store::Recovered,
};

use crate::truth::Truth;

pub const START: Time = Time::from_secs(1_767_225_600); // 2026-01-01T00:00:00Z
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3_600);
pub const DAY: Duration = Duration::from_secs(86_400);

/// The rules are the defaults and some that have none; two receivers hear of everything.
const CONFIG: &str = r#"
[[receiver]]
name = "ops"
webhook = { url_file = "/nowhere" }
[[receiver]]
name = "hook"
webhook = { url_file = "/nowhere" }
[notify]
receivers = ["ops", "hook"]
[[rule]]
name = "burn-rate"
kind = "burn_rate"
above = 9.5
[[rule]]
name = "daily-budget"
kind = "budget"
amount = 150.0
period = "day"
[[rule]]
name = "new-deployment"
kind = "new_deployment"
"#;

/// What may go wrong, and for how long.
#[derive(Clone, Copy)]
pub struct Case {
    pub seed: u64,
    pub days: u32,
    /// How much of the time the API misbehaves, in percent.
    pub weather: u32,
    /// Whether the key is revoked, a team hidden and the budget drained now and then.
    pub incidents: bool,
    /// How often the watcher dies.
    pub deaths: u32,
    /// How often of a hundred a receiver fails.
    pub receivers_fail: u8,
}

impl Case {
    /// Everything goes wrong.
    pub fn foul(seed: u64, days: u32) -> Self {
        Self { seed, days, weather: 20, incidents: true, deaths: days, receivers_fail: 15 }
    }

    /// Nothing does.
    pub fn fair(seed: u64, days: u32) -> Self {
        Self { seed, days, weather: 0, incidents: false, deaths: 0, receivers_fail: 0 }
    }

    pub fn end(&self) -> Time {
        START.plus(DAY * self.days)
    }
}

pub struct Evidence {
    pub case: Case,
    pub rules: Vec<Rule>,
    pub gaps: Vec<(Time, Time)>,
    pub weather: Vec<Window>,
    pub truth: Truth,
    pub sent: Vec<Sent>,
    pub asked: Vec<Asked>,
    pub calls: Vec<(String, CallStats)>,
    pub busiest_15m: usize,
    pub mutations: Vec<String>,
    pub teams_created: u64,
    pub waiting: u64,
    pub trace: String,
    /// Where another process would have known something else.
    pub unlike: Vec<String>,
}

/// Bugs to plant.
#[derive(Default)]
pub struct Plant {
    pub tamper: Option<Tamper>,
    /// At the end of each day.
    pub daily: Option<fn(&Simulation)>,
    pub cadence: Option<&'static str>,
    pub gaps: Option<Vec<(Time, Time)>>,
    pub calls_per_15m: Option<u32>,
    /// None gathers nothing: every alert is told by itself and at once, which is what the oracles look for.
    pub grouping: Option<Grouping>,
}

pub fn run(case: Case) -> Evidence {
    run_with(case, Plant::default())
}

pub fn run_with(case: Case, plant: Plant) -> Evidence {
    let config = format!("{}{CONFIG}", plant.cadence.unwrap_or_default());
    let env = Env { home: Some("/nowhere".into()), ..Env::default() };
    let settings = config::parse(Path::new("simulation"), &config, &env).unwrap_or_else(|e| panic!("{e}"));
    let mut rng = fastrand::Rng::with_seed(case.seed);
    let mut world = World::month(case.seed, START);
    if case.weather > 0 {
        // A calm end, so that everything can settle.
        world.faults = FaultPlan::random(case.seed, START, case.end().minus(HOUR * 6), case.weather);
    }
    if case.incidents {
        incidents(&mut world, &mut rng, case);
    }
    let weather = world.faults.windows().to_vec();
    let gaps = plant.gaps.unwrap_or_else(|| gaps(&mut rng, case));
    let mut simulation = Simulation::new(Scenario {
        seed: case.seed,
        world,
        start: START,
        rules: settings.rules.clone(),
        grouping: plant.grouping.unwrap_or(Grouping {
            wait: Duration::ZERO,
            interval: Duration::ZERO,
            ..Grouping::default()
        }),
        cadence: app::cadence(&settings),
        calls_per_15m: plant.calls_per_15m,
        gaps: gaps.clone(),
        receiver_fails_percent: case.receivers_fail,
    })
    .unwrap();
    simulation.tamper = plant.tamper;
    let mut unlike = Vec::new();
    for day in 1..=case.days {
        simulation.run_until(START.plus(DAY * day)).unwrap();
        unlike.extend(differences(&simulation));
        if let Some(daily) = plant.daily {
            daily(&simulation);
        }
    }
    // The longest wait between two attempts is ten hours.
    let mut until = case.end();
    while simulation.waiting().unwrap() > 0 && until < case.end().plus(HOUR * 12) {
        until = until.plus(MINUTE * 10);
        simulation.run_until(until).unwrap();
    }
    evidence(case, settings.rules, gaps, weather, &simulation, unlike)
}

fn evidence(
    case: Case,
    rules: Vec<Rule>,
    gaps: Vec<(Time, Time)>,
    weather: Vec<Window>,
    simulation: &Simulation,
    unlike: Vec<String>,
) -> Evidence {
    let world = simulation.world();
    Evidence {
        case,
        rules,
        gaps,
        weather,
        truth: Truth::of(&world, scripted(case)),
        sent: simulation.sent().to_vec(),
        asked: simulation.asked().to_vec(),
        calls: world.calls().iter().map(|(target, stats)| (target.clone(), stats.clone())).collect(),
        busiest_15m: world.busiest_15m(),
        mutations: world.mutations().iter().map(|m| format!("{} {}", m.method, m.path)).collect(),
        teams_created: world.teams_created(),
        waiting: simulation.waiting().unwrap(),
        trace: simulation.trace(),
        unlike,
    }
}

/// When the key is revoked and when a team is hidden: two or three times each, for one to four hours.
pub struct Scripted {
    pub revoked: Vec<(Time, Time)>,
    pub hidden: Vec<(Time, Time)>,
}

fn scripted(case: Case) -> Scripted {
    let mut rng = fastrand::Rng::with_seed(case.seed ^ 0x5eed);
    let mut spans = |count: u32| -> Vec<(Time, Time)> {
        let last = u64::from(case.days) * 24 - 12;
        let mut spans: Vec<(Time, Time)> = (0..count)
            .map(|_| {
                let from = START.plus(MINUTE * u32::try_from(rng.u64(60..last * 60)).unwrap());
                (from, from.plus(MINUTE * rng.u32(60..240)))
            })
            .collect();
        spans.sort();
        spans.dedup_by(|later, earlier| later.0 <= earlier.1);
        spans
    };
    if !case.incidents {
        return Scripted { revoked: Vec::new(), hidden: Vec::new() };
    }
    Scripted { revoked: spans(2 + case.days / 15), hidden: spans(1 + case.days / 15) }
}

fn incidents(world: &mut World, rng: &mut fastrand::Rng, case: Case) {
    let Scripted { revoked, hidden } = scripted(case);
    for (from, until) in revoked {
        world.at(from, Event::RevokeKey);
        world.at(until, Event::RestoreKey);
    }
    let team = world.teams()[1].clone();
    for (from, until) in hidden {
        world.at(from, Event::HideTeam(team.clone()));
        world.at(until, Event::ShowTeam(team.clone()));
    }
    // A sweep that is ended all at once.
    let research = world.teams()[0].clone();
    for day in (0..case.days).step_by(3) {
        let at = START.plus(DAY * day + MINUTE * rng.u32(60..1_000));
        let count = rng.u32(4..9);
        for number in 0..count {
            let id = world.deploy(at, Spec::new(&research, &format!("sweep-{number}")));
            world.at(at.plus(HOUR), Event::UserTerminate(id));
        }
    }
    // One that boots for too long, and a volume that fills up, is emptied, and is used for a while.
    for day in (0..case.days).step_by(4) {
        let at = START.plus(DAY * day + MINUTE * rng.u32(60..1_000));
        let boot = MINUTE * rng.u32(40..120);
        let id = world.deploy(at, Spec::new(&research, &format!("slow-{day}")).boot(boot));
        let volume = world.add_volume(at, VolumeSpec::new(&research, &format!("scratch-{day}"), 10));
        world.at(at.plus(boot), Event::AttachVolume(volume.clone(), id.clone()));
        world.at(at.plus(HOUR * 3), Event::FillVolume(volume.clone(), 9_500_000_000));
        world.at(at.plus(HOUR * 6), Event::FillVolume(volume, 1_000_000_000));
        world.at(at.plus(HOUR * 8), Event::UserTerminate(id));
    }
    for _ in 0..case.days {
        let at = START.plus(MINUTE * rng.u32(1..case.days * 24 * 60));
        world.at(at, Event::OthersCall(rng.u32(50..250)));
    }
}

/// From minutes to hours, in order, apart, and not near the end.
fn gaps(rng: &mut fastrand::Rng, case: Case) -> Vec<(Time, Time)> {
    let mut gaps: Vec<(Time, Time)> = (0..case.deaths)
        .map(|_| {
            let from = START.plus(MINUTE * rng.u32(10..case.days * 24 * 60 - 600));
            let length = if rng.u32(0..4) == 0 { MINUTE * rng.u32(60..240) } else { MINUTE * rng.u32(1..30) };
            (from, from.plus(length))
        })
        .collect();
    gaps.sort();
    gaps.dedup_by(|later, earlier| later.0 <= earlier.1.plus(MINUTE));
    gaps
}

/// What another process would read from the store, compared with what this one knows.
fn differences(simulation: &Simulation) -> Vec<String> {
    let now = simulation.now();
    let Recovered { snapshot, alerts, .. } = simulation.db().recover().unwrap();
    let ours = without_questions(simulation.core().snapshot());
    let mut unlike = Vec::new();
    for (id, tracked) in &ours.deployments {
        if snapshot.deployments.get(id) != Some(tracked) {
            unlike.push(format!("{now}: deployment {id}: {tracked:?} is {:?}", snapshot.deployments.get(id)));
        }
    }
    for (id, team) in &ours.teams {
        if snapshot.teams.get(id) != Some(team) {
            unlike.push(format!("{now}: team {id}: {team:?} is {:?}", snapshot.teams.get(id)));
        }
    }
    if snapshot.volumes != ours.volumes || snapshot.offers != ours.offers {
        unlike.push(format!("{now}: volumes or offers differ"));
    }
    if snapshot.account() != ours.account() {
        unlike.push(format!("{now}: {:?} is {:?}", ours.account(), snapshot.account()));
    }
    let view = simulation.core().view(now, &Default::default());
    let firing: Vec<_> = view.firing.iter().map(|(key, (state, _))| (key, state)).collect();
    let stored: Vec<_> = alerts.iter().filter(|(_, state)| state.is_firing()).collect();
    if firing != stored {
        unlike.push(format!("{now}: firing {firing:?} is {stored:?}"));
    }
    unlike
}

/// `Missing` is a question that is asked anew; feeds, the clock and how to reach an instance belong to the process.
fn without_questions(snapshot: &Snapshot) -> Snapshot {
    let mut ours = snapshot.clone();
    ours.unlisted.clear();
    for tracked in ours.deployments.values_mut() {
        let tracked = Arc::make_mut(tracked);
        tracked.deployment.access = Access::default();
        if matches!(tracked.presence, Presence::Missing { .. }) {
            tracked.presence = Presence::Listed;
        }
    }
    ours
}

impl Evidence {
    /// Polls of a feed that told the whole truth.
    pub fn honest(&self, feed: Feed) -> impl DoubleEndedIterator<Item = &Asked> {
        self.asked.iter().filter(move |asked| asked.feed == feed && asked.honest)
    }

    /// Whether the watcher lived all the time between.
    pub fn lived(&self, from: Time, until: Time) -> bool {
        !self.gaps.iter().any(|(dead, born)| *dead <= until && from < *born)
    }
}
