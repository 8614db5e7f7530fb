//! How often feeds are asked where the API grants few calls, or is away when the watcher starts.

use super::*;
use crate::{
    model::Usd,
    schedule::Schedule,
    sim::{Fault, Window},
};

const START: Time = Time::from_secs(1_767_225_600);

fn at(secs: u64) -> Time {
    START.plus(Duration::from_secs(secs))
}

/// Everything is to be asked every 10 seconds, of one team with one deployment.
fn greedy(change: impl FnOnce(&mut World)) -> Simulation {
    let mut world = World::new(7, START);
    let team = world.add_team("research", "owner", Usd::from_cents(100_000));
    world.deploy(START, crate::sim::Spec::new(&team, "train"));
    change(&mut world);
    let often = || Schedule::parse("every 10s").unwrap();
    let cadence = Cadence {
        zone: jiff::tz::TimeZone::UTC,
        balance: often(),
        deployments: often(),
        inventory: often(),
        volumes: often(),
        offers: Some(often()),
    };
    Simulation::new(Scenario {
        seed: 7,
        world,
        start: START,
        rules: Vec::new(),
        grouping: Grouping::default(),
        cadence,
        calls_per_15m: None,
        gaps: Vec::new(),
        receiver_fails_percent: 0,
    })
    .unwrap()
}

/// When a feed was asked, in seconds from the start.
fn asked(simulation: &Simulation, feed: Feed) -> Vec<u64> {
    let of_feed = simulation.asked().iter().filter(|asked| asked.feed == feed);
    of_feed.map(|asked| asked.from.since(START).as_secs()).collect()
}

#[test]
fn fault_13_a_small_grant_starves_no_feed() {
    let mut simulation = greedy(|world| world.terms.limit = 100);
    simulation.run_until(at(4 * 3_600)).unwrap();
    for feed in [Feed::Balance, Feed::Deployments, Feed::Volumes, Feed::Inventory, Feed::Offers] {
        let asked = asked(&simulation, feed);
        let longest = asked.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest <= feed.slowest().as_secs() + 60, "{feed} waited {longest} s: {asked:?}");
        let health = &simulation.core().snapshot().feeds[&feed];
        assert_eq!(health.stretched_from, Some(Duration::from_secs(10)), "{feed}");
    }
}

#[test]
fn fault_13_what_was_planned_while_nothing_was_known_of_the_grant_is_planned_anew() {
    let mut simulation = greedy(|world| {
        world.terms.limit = 100_000;
        world.faults.add(Window { from: START, until: at(3), on: None, what: Fault::Reset });
    });
    simulation.run_until(at(240)).unwrap();
    for feed in [Feed::Balance, Feed::Deployments, Feed::Volumes, Feed::Inventory] {
        let asked = asked(&simulation, feed);
        assert!(asked.iter().filter(|secs| **secs > 120).count() >= 10, "{feed}: {asked:?}");
        let health = &simulation.core().snapshot().feeds[&feed];
        assert_eq!((health.interval.as_secs(), health.stretched_from), (10, None), "{feed}");
    }
}
