//! The demo's lab: three teams on whose account, within two real minutes, things go wrong one after the other.
//!
//! It must never need chance or patience: everything is at a fixed time after the start.

use std::time::Duration;

use super::{AutoTopUp, Event, Spec, VolumeSpec, World, catalogue};
use crate::model::{TeamId, Time, Usd};

/// How many simulated seconds a real one holds, unless told otherwise: two minutes are ten hours.
pub const DEMO_SPEED: u32 = 300;

/// Nightly evaluations go on for so many days.
const DAYS: u64 = 14;

/// In order of time: an instance forgotten for more than 24 h (after half an hour), a spot reclaim (2 h), a runway under 6 h
/// (2.5 h), a balance under 10 $ (6.5 h), the top-up that resolves it (7 h 45 m).
pub fn demo(start: Time) -> World {
    let mut world = World::new(1, start.minus(minutes(24 * 60)));
    let foundation = world.add_team("Foundation Models", "owner", Usd::from_cents(180_000));
    let tools = world.add_team("Developer Tools", "admin", Usd::from_cents(9_500));
    let evaluation = world.add_team("Evaluation", "admin", Usd::from_cents(3_680));
    world.auto_top_up(&foundation, card(20_000, 100_000));
    world.auto_top_up(&tools, card(2_000, 10_000));

    training(&mut world, start, &foundation);
    let ana = spec(&tools, "dev-ana", "rtx-4090", 1, "DEDICATED");
    world.deploy(start.minus(minutes(23 * 60 + 30)), ana);
    let jonas = world.deploy(start.plus(minutes(45)), spec(&tools, "dev-jonas", "l4", 1, "DEDICATED"));
    world.at(start.plus(minutes(80)), Event::UserTerminate(jonas));
    nights(&mut world, start, &evaluation);

    world.advance(start);
    world
}

fn training(world: &mut World, start: Time, team: &TeamId) {
    let begin = start.minus(minutes(19 * 60));
    let train = world.deploy(begin, spec(team, "train-llama-70b", "h100", 8, "SPOT"));
    world.deploy(begin, spec(team, "serve-embeddings", "l40s", 1, "DEDICATED"));
    let mut checkpoints = VolumeSpec::new(team, "llama-70b-checkpoints", 2_000);
    checkpoints.attach_to = Some(train.clone());
    let checkpoints = world.add_volume(begin, checkpoints);
    world.at(start.plus(minutes(120)), Event::Reclaim(train));
    let resumed = spec(team, "train-llama-70b", "h100", 8, "DEDICATED").boot(minutes(6));
    let resumed = world.deploy(start.plus(minutes(200)), resumed);
    world.at(start.plus(minutes(210)), Event::AttachVolume(checkpoints, resumed));
}

fn nights(world: &mut World, start: Time, team: &TeamId) {
    world.deploy(start.minus(minutes(20 * 60)), spec(team, "eval-dashboard", "l4", 1, "DEDICATED"));
    for day in 0..DAYS {
        let night = start.plus(minutes(day * 24 * 60));
        let nightly = spec(team, "eval-nightly", "a100", 4, "DEDICATED").boot(minutes(3));
        let nightly = world.deploy(night.plus(minutes(150)), nightly);
        world.at(night.plus(minutes(540)), Event::UserTerminate(nightly));
        let amount = if day == 0 { Usd::from_cents(6_000) } else { Usd::from_cents(4_000) };
        world.at(night.plus(minutes(465)), Event::TopUp(team.clone(), amount));
    }
}

/// At the catalogue's price and place.
pub(super) fn spec(team: &TeamId, name: &str, gpu: &str, count: u32, instance_type: &str) -> Spec {
    let (provider, region) = match instance_type {
        "SPOT" => ("data-crunch", "eu-west-1"),
        "CLUSTER" | "BARE_METAL" => ("voltage-park", "dalas-united states"),
        _ => ("spheron-ai", "us-east-1"),
    };
    let found = catalogue::GPUS.iter().find(|g| g.kind == gpu);
    let rate = found.map_or(Usd::from_cents(50), |g| catalogue::price(g, count, instance_type));
    Spec::new(team, name).gpu(gpu, count).kind(instance_type).on(provider, region).rate(rate).boot(minutes(1))
}

fn card(below_cents: i64, amount_cents: i64) -> AutoTopUp {
    let (below, amount) = (Usd::from_cents(below_cents), Usd::from_cents(amount_cents));
    AutoTopUp { below, amount, after: minutes(5) }
}

pub(super) fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}
