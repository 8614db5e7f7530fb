//! Generated accounts: the standard fleet of the benches, and a month of a lab's life for the simulation.
//!
//! It must never draw a number outside its own seed: the same seed is the same account.

use super::{
    AutoTopUp, Event, Spec, VolumeSpec, World,
    catalogue::GPUS,
    script::{minutes, spec},
};
use crate::model::{DeploymentId, TeamId, Time, Usd};

const DAY_MINUTES: u64 = 24 * 60;
const MONTH_DAYS: u64 = 31;

impl World {
    /// `count` running deployments of about 880 bytes of JSON, a fifth as many volumes, a fiftieth as many teams, rich enough for
    /// a year and more. The cycles are spread over the hour.
    pub fn fleet(seed: u64, count: usize, start: Time) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let begin = start.minus(minutes(120));
        let mut world = Self::new(seed, begin);
        world.ledger.remembers = false;
        let team =
            |i: usize| world.add_team(&format!("Research group {i}"), "member", Usd::from_cents(1 << 31));
        let teams: Vec<TeamId> = (0..(count / 50).max(1)).map(team).collect();
        let mut ids = Vec::with_capacity(count);
        for i in 0..count {
            let Some(team) = teams.get(i % teams.len()) else { continue };
            let Some(gpu) = rng.choice(&GPUS) else { continue };
            let kind = if rng.u32(0..4) == 0 { "SPOT" } else { "DEDICATED" };
            let name = format!("train-{}-{i:05}", gpu.kind);
            let at = begin.plus(std::time::Duration::from_secs(rng.u64(0..3_600)));
            let gpus = rng.choice([1, 1, 2, 8]).unwrap_or(1);
            ids.push(world.deploy(at, spec(team, &name, gpu.kind, gpus, kind)));
        }
        for i in 0..count / 5 {
            let Some(team) = teams.get(i % teams.len()) else { continue };
            let mut volume = VolumeSpec::new(team, &format!("data-{i:05}"), rng.u32(50..2_000));
            // A deployment of the same team: its number is the same, modulo the teams.
            volume.attach_to = ids.get(i).filter(|_| i % 4 != 0).cloned();
            world.add_volume(begin.plus(minutes(60)), volume);
        }
        world.advance(start);
        world
    }

    /// A month of six to ten instances at a time over three teams: short-lived ones, spot reclaims, provider stops, forgotten
    /// ones, failures, odd statuses, reused ids; a team on a saved card, one whose person tops up late, one that runs dry.
    pub fn month(seed: u64, start: Time) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = Self::new(seed, start);
        let research = world.add_team("Research", "owner", Usd::from_cents(90_000));
        let applied = world.add_team("Applied", "admin", Usd::from_cents(25_000));
        let sandbox = world.add_team("Sandbox", "member", Usd::from_cents(6_000));
        let card = AutoTopUp { below: usd(100), amount: usd(600), after: minutes(5) };
        let person = AutoTopUp { below: usd(60), amount: usd(300), after: minutes(rng.u64(240..1_200)) };
        world.auto_top_up(&research, card);
        world.auto_top_up(&applied, person);
        let mut at = minutes(rng.u64(DAY_MINUTES..4 * DAY_MINUTES));
        while at < minutes(MONTH_DAYS * DAY_MINUTES) {
            world.at(start.plus(at), Event::TopUp(sandbox.clone(), usd(rng.i64(30..90))));
            at += minutes(rng.u64(2 * DAY_MINUTES..6 * DAY_MINUTES));
        }
        let places = 6 + rng.usize(0..=4);
        for place in 0..places {
            let (team, models): (&TeamId, &[&str]) = match place % 3 {
                0 => (&research, &["h100", "a100", "h200", "rtx-4090"]),
                1 => (&applied, &["l40s", "a100", "rtx-5090", "a6000"]),
                _ => (&sandbox, &["l4", "rtx-4090", "a4000"]),
            };
            Place { team, models, number: place, last: None }.occupy(&mut world, &mut rng, start);
        }
        for (team, name, gb) in
            [(&research, "datasets", 4_000), (&applied, "models", 500), (&sandbox, "scratch", 80)]
        {
            let volume = world.add_volume(start.plus(minutes(1)), VolumeSpec::new(team, name, gb));
            let full = u64::from(gb) * 960_000_000;
            world.at(
                start.plus(minutes(rng.u64(DAY_MINUTES..20 * DAY_MINUTES))),
                Event::FillVolume(volume, full),
            );
        }
        world.advance(start);
        world
    }
}

/// A place in the lab that is taken by one instance after another.
struct Place<'a> {
    team: &'a TeamId,
    models: &'a [&'a str],
    number: usize,
    last: Option<DeploymentId>,
}

impl Place<'_> {
    fn occupy(&mut self, world: &mut World, rng: &mut fastrand::Rng, start: Time) {
        let end = start.plus(minutes(MONTH_DAYS * DAY_MINUTES));
        let mut at = start;
        for turn in 0.. {
            let length = match rng.u32(0..10) {
                0..3 => rng.u64(3..45),
                3..7 => rng.u64(60..720),
                7..9 => rng.u64(720..2_880),
                _ => rng.u64(3 * DAY_MINUTES..6 * DAY_MINUTES),
            };
            let spec = self.spec(rng, turn);
            let spot = spec.instance_type == "SPOT";
            let rate = spec.rate;
            let id = world.deploy(at, spec);
            self.incidents(world, rng, &id, (at, length), rate);
            at = at.plus(minutes(length));
            world.at(at, ending(rng, id.clone(), spot));
            self.last = Some(id);
            at = at.plus(minutes(rng.u64(5..360)));
            if at >= end {
                break;
            }
        }
    }

    fn spec(&self, rng: &mut fastrand::Rng, turn: u32) -> Spec {
        let model = rng.choice(self.models.iter().copied()).unwrap_or("rtx-4090");
        let cluster = self.number.is_multiple_of(3) && model == "h100" && rng.u32(0..8) == 0;
        let big = GPUS.iter().any(|g| g.kind == model && g.big) && rng.u32(0..3) == 0;
        let kind = match (cluster, rng.bool()) {
            (true, _) => "CLUSTER",
            (false, true) => "SPOT",
            (false, false) => "DEDICATED",
        };
        let prefix = rng.choice(["train", "eval", "dev", "prod", "sweep"]).unwrap_or("train");
        let count = if cluster || big { 4 } else { 1 };
        let mut spec =
            spec(self.team, &format!("{prefix}-{model}-{}-{turn}", self.number), model, count, kind);
        spec.boot = minutes(rng.u64(1..4)) + std::time::Duration::from_millis(rng.u64(0..60_000));
        spec.kubernetes = cluster;
        if rng.u32(0..25) == 0 {
            spec.id.clone_from(&self.last);
        }
        spec
    }

    fn incidents(
        &self,
        world: &mut World,
        rng: &mut fastrand::Rng,
        id: &DeploymentId,
        (at, length): (Time, u64),
        rate: Usd,
    ) {
        let some_time = |rng: &mut fastrand::Rng| at.plus(minutes(rng.u64(0..length)));
        match rng.u32(0..40) {
            0..3 => {
                let dearer = Usd::from_nanos(rate.nanos() / 10 * rng.i64(7..14));
                world.at(some_time(rng), Event::ChangeRate(id.clone(), dearer));
            }
            3..6 => world.at(some_time(rng), Event::Rename(id.clone(), format!("renamed-{}", rng.u16(..)))),
            6..8 => world.at(some_time(rng), Event::Stop(id.clone())),
            8..10 => world.at(some_time(rng), Event::SetStatus(id.clone(), "maintenance".to_owned())),
            10..12 => world.at(at.plus(minutes(1)), Event::Fail(id.clone())),
            _ => {}
        }
    }
}

fn ending(rng: &mut fastrand::Rng, id: DeploymentId, spot: bool) -> Event {
    match (spot, rng.u32(0..100)) {
        (true, 0..40) => Event::Reclaim(id),
        (false, 0..10) => Event::ProviderStop(id),
        _ => Event::UserTerminate(id),
    }
}

fn usd(dollars: i64) -> Usd {
    Usd::from_cents(dollars.saturating_mul(100))
}
