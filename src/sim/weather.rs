//! Weather by chance: which faults strike when. The same seed gives the same.
//!
//! It must never strike after its end: what comes then is fair.

use std::time::Duration;

use super::{
    faults::{BadMoney, Fault, FaultPlan, LimitBody, Window},
    routes::Endpoint,
};
use crate::model::Time;

impl FaultPlan {
    /// Weather that is foul about `percent` (1–95) of the time: mostly minutes, sometimes hours, of any kind.
    pub fn random(seed: u64, start: Time, end: Time, percent: u32) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut plan = Self::default();
        let percent = u64::from(percent.clamp(1, 95));
        let mut at = start;
        loop {
            // The lengths below last 2,300 s on average.
            let calm = 2 * 2_300 * (100 - percent) / percent;
            at = at.plus(Duration::from_secs(rng.u64(0..=calm)));
            let length = match rng.u32(0..10) {
                0..6 => rng.u64(30..=300),
                6..9 => rng.u64(300..=3_600),
                _ => rng.u64(3_600..=28_800),
            };
            let (on, what) = (random_endpoint(&mut rng), random_fault(&mut rng));
            // Megabytes at every poll are paid for in real time.
            let length = if matches!(what, Fault::Oversized(_)) { length.min(120) } else { length };
            let until = at.plus(Duration::from_secs(length));
            if until >= end {
                break;
            }
            plan.windows.push(Window { from: at, until, on, what });
            at = until;
        }
        plan
    }

    /// Faults of everything that an end rests on, in force most of the time: of the reads, of the DELETE, of the lists.
    #[must_use]
    pub fn and_ends(mut self, seed: u64, start: Time, end: Time) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x0e4d);
        for (on, calm) in [
            (Endpoint::Delete, 5_400),
            (Endpoint::CanTerminate, 5_400),
            (Endpoint::Detail, 10_800),
            (Endpoint::Deployments, 28_800),
            (Endpoint::Balance, 14_400),
        ] {
            let mut at = start;
            loop {
                at = at.plus(Duration::from_secs(rng.u64(0..=2 * calm)));
                let (what, longest) = fault_of_an_end(&mut rng, on);
                let until = at.plus(Duration::from_secs(rng.u64(60..=longest)));
                if until >= end {
                    break;
                }
                self.windows.push(Window { from: at, until, on: Some(on), what });
                at = until;
            }
        }
        self.windows.sort_by_key(|window| window.from);
        self
    }
}

fn random_endpoint(rng: &mut fastrand::Rng) -> Option<Endpoint> {
    match rng.u32(0..6) {
        0 => Some(Endpoint::Balance),
        1 => Some(Endpoint::Deployments),
        2 => Some(Endpoint::Detail),
        3 => Some(Endpoint::Volumes),
        _ => None,
    }
}

fn random_fault(rng: &mut fastrand::Rng) -> Fault {
    let nth = rng.usize(0..10);
    let body = if rng.bool() { LimitBody::A } else { LimitBody::B };
    let money = [BadMoney::Missing, BadMoney::Null, BadMoney::Text, BadMoney::Negative, BadMoney::Huge];
    match rng.u32(0..21) {
        0..2 => Fault::TooMany { body, reset_header: rng.bool() },
        2..4 => Fault::ServerError,
        4 => Fault::Html,
        5 => Fault::EmptyBody,
        6 => Fault::Truncated,
        7 => Fault::EmptyList,
        8 => Fault::BadMoney { nth, how: rng.choice(money).unwrap_or(BadMoney::Null) },
        9 => Fault::MissingTeam { nth },
        10 => Fault::MissingRecord { nth },
        11 => Fault::DuplicateRecord { nth },
        12 => Fault::HiddenLimit(nth + 1),
        13 => Fault::Forbidden { team: nth % 3 },
        14 => Fault::Redirect("https://login.example.net/portal".to_owned()),
        15 => Fault::WrongContentType,
        16 => Fault::Oversized(rng.usize(9 << 20..33 << 20)),
        17 => Fault::Delay(Duration::from_secs(rng.u64(5..60))),
        18 => Fault::Drip { bytes: 1, every: Duration::from_millis(500) },
        19 => Fault::Hang,
        _ => rng.choice([Fault::Reset, Fault::Cut]).unwrap_or(Fault::Reset),
    }
}

/// What may go wrong there, and for how many seconds at most.
fn fault_of_an_end(rng: &mut fastrand::Rng, on: Endpoint) -> (Fault, u64) {
    let nth = rng.usize(0..30);
    let says = |field: &'static str, value: serde_json::Value| Fault::Says { nth, field, value };
    let fault = match on {
        Endpoint::Delete => match rng.u32(0..11) {
            0 => Fault::TooEarly(rng.u64(1..20)),
            1 => Fault::LostAnswer,
            2 => Fault::Ignored,
            3 => Fault::Slow(Duration::from_secs(rng.u64(60..3_600))),
            4 => Fault::ErrorAfter,
            5 => Fault::HangAfter,
            6 => Fault::NotFound,
            7 => Fault::SaysEnded,
            8 => Fault::Hang,
            9 => Fault::ServerError,
            _ => Fault::TooMany { body: LimitBody::B, reset_header: true },
        },
        Endpoint::CanTerminate => match rng.u32(0..8) {
            0 => says("canTerminate", false.into()),
            1 => says("timeRemaining", rng.u64(1..30).into()),
            2 => {
                let fields = ["canTerminate", "timeRemaining", "minimumRuntime"];
                Fault::Lacks { nth, field: rng.choice(fields).unwrap_or("timeRemaining") }
            }
            3 => says("canTerminate", "yes".into()),
            4 => Fault::NotFound,
            5 => Fault::SkewedDate(rng.choice([-90, 120, 3_600]).unwrap_or(120)),
            6 => Fault::Truncated,
            _ => Fault::Html,
        },
        Endpoint::Detail => match rng.u32(0..7) {
            0 => says("status", "stopped".into()),
            1 => says("name", "prod-elsewhere".into()),
            2 => says("createdAt", "2026-01-01T00:00:00Z".into()),
            3 => says("teamId", "another".into()),
            4 => Fault::NotFound,
            5 => says("id", "another".into()),
            _ => Fault::ServerError,
        },
        Endpoint::Deployments => match rng.u32(0..6) {
            0 => says("status", "stopped".into()),
            1 => says("status", "hibernating".into()),
            2 => Fault::EmptyList,
            3 => Fault::Hang,
            4 => Fault::HiddenLimit(rng.usize(1..20)),
            _ => Fault::Truncated,
        },
        // One sample that is wrong, and no more.
        Endpoint::Balance => return (says("balance", rng.choice([0, 2]).unwrap_or(0).into()), 500),
        Endpoint::Volumes | Endpoint::Offers | Endpoint::Other => Fault::ServerError,
    };
    // A hang holds the watcher up at every call; what flaps, flaps.
    let longest = match (&fault, on) {
        (Fault::Hang | Fault::HangAfter, _) => 1_200,
        (_, Endpoint::CanTerminate) => 900,
        (_, _) => 5_400,
    };
    (fault, longest)
}
