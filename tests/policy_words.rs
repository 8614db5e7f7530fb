//! What people hear of a policy, from the dry run to the end, as the real engine says it to a receiver; `docs/policies.md` shows it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::time::Duration;

use jiff::tz::TimeZone;
use spheron_watch::{
    drive::{
        Cadence,
        simulate::{Scenario, Simulation},
    },
    model::{Condition, Glob, Grouping, MatchKey, Matcher, Notice, Policies, Policy, Time, Usd},
    notify::render,
    schedule::Schedule,
    sim::{Spec, VolumeSpec, World},
};

const START: Time = Time::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn policies() -> Policies {
    let policy = Policy {
        name: "forgotten-boxes".into(),
        matching: Matcher { globs: [(MatchKey::Name, vec![Glob::new("dev-*")])].into() },
        when: vec![Condition::RunningFor(HOUR * 12)],
        grace: Duration::from_secs(30 * 60),
        require_volume: false,
        receivers: vec!["ops".into()],
    };
    Policies { policies: vec![policy], ..Policies::default() }
}

/// One box that was forgotten with a volume, and one that serves.
fn simulation() -> Simulation {
    let mut world = World::new(7, START.minus(HOUR));
    let team = world.add_team("Research", "owner", Usd::from_cents(100_000));
    let box_ = Spec::new(&team, "dev-ana").gpu("rtx-4090", 1).rate(Usd::from_cents(50));
    let ana = world.deploy(START.minus(HOUR), box_);
    world.deploy(START.minus(HOUR), Spec::new(&team, "prod-api"));
    let volume = VolumeSpec { attach_to: Some(ana), ..VolumeSpec::new(&team, "ana-data", 200) };
    world.add_volume(START.minus(HOUR), volume);
    let every = |text: &str| Schedule::parse(text).unwrap();
    let cadence = Cadence {
        zone: TimeZone::UTC,
        balance: every("every 5m"),
        deployments: every("every 1m"),
        inventory: every("every 1h"),
        volumes: every("every 5m"),
        offers: None,
    };
    let mut simulation = Simulation::new(Scenario {
        seed: 7,
        world,
        start: START,
        rules: Vec::new(),
        grouping: Grouping::default(),
        cadence,
        calls_per_15m: Some(200),
        gaps: Vec::new(),
        receiver_fails_percent: 0,
    })
    .unwrap();
    simulation.govern(policies());
    simulation
}

#[test]
fn each_notice_says_what_happens_next_and_how_to_stop_it() {
    let mut simulation = simulation();
    simulation.run_until(START.plus(HOUR * 12)).unwrap();
    let armed = simulation.order(|core, now| {
        let code = core.policy_reasons(now).previews[0].code.clone();
        core.arm("forgotten-boxes", &code, "ann".into(), now)
    });
    armed.unwrap().unwrap();
    simulation.run_until(START.plus(HOUR * 14)).unwrap();
    let sent = simulation.sent().iter().filter(|sent| &*sent.receiver == "ops");
    let notices: Vec<Notice> = sent.map(|sent| sent.notice.clone()).collect();
    let mut names = Vec::new();
    for notice in notices {
        let name = notice.title.split(':').next().unwrap().replace(' ', "_");
        let name = if names.contains(&name) { format!("{name}_reminder") } else { name };
        let link = notice.grant.as_ref().map(|_| "https://watch.example.org/keep/v1a7c0ffee".into());
        let notice = Notice { link, ..notice };
        insta::assert_snapshot!(name.clone(), render::text(&notice));
        names.push(name);
    }
    assert_eq!(names, ["dry_run", "will_be_ended", "will_be_ended_reminder", "ended"]);
}
