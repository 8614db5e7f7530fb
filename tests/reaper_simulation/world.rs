//! The account of a reaper's world: what runs in it, what the policies are, and everything that befalls it, all from one seed.
//!
//! It must never know what the watcher makes of it.

use std::time::Duration;

use jiff::tz::TimeZone;
use spheron_watch::{
    drive::simulate::Mishap,
    model::{
        ActivitySource, Condition, DeploymentId, Glob, Hours, MatchKey, Matcher, Policies, Policy, Safety,
        TeamId, Time, Usd,
    },
    sim::{Event, FaultPlan, Spec, World},
};

/// A Friday.
pub const START: Time = Time::from_secs(1_800_000_000);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3_600);
pub const DAY: Duration = Duration::from_secs(86_400);

pub const RUNNING_FOR: Duration = Duration::from_secs(6 * 3_600);
pub const IDLE_FOR: Duration = Duration::from_secs(2 * 3_600);
pub const RUNWAY_BELOW: Duration = Duration::from_secs(8 * 3_600);
pub const DESK_FOR: Duration = Duration::from_secs(2 * 3_600);
pub const SPEND_ABOVE: Usd = Usd::from_cents(2_000);
pub const MEASURED_EVERY: Duration = Duration::from_secs(600);
/// So many days at the end are fair, so that all that should end can.
const FAIR_DAYS: u32 = 7;

/// What a life is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub seed: u64,
    pub days: u32,
    /// Between two lists, in minutes; balances come half as often.
    pub poll: u32,
    pub foul: bool,
    /// How often of a hundred acts the watcher dies over one.
    pub dies: u8,
    /// Nothing that races with an end: what becomes of each deployment is the same whatever happens to the watcher.
    pub quiet: bool,
}

impl Case {
    pub fn foul(seed: u64, days: u32) -> Self {
        let poll = if seed.is_multiple_of(2) { 5 } else { 10 };
        Self { seed, days, poll, foul: true, dies: 6, quiet: false }
    }

    pub fn fair(seed: u64, days: u32) -> Self {
        Self { seed, days, poll: 5, foul: false, dies: 0, quiet: false }
    }

    pub fn end(&self) -> Time {
        START.plus(DAY * self.days)
    }

    pub fn fair_from(&self) -> Time {
        START.plus(DAY * self.days.saturating_sub(FAIR_DAYS))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Long,
    Idle,
    /// Two policies match it: `long` and `idle`.
    Both,
    Spend,
    Desk,
    Shed,
    /// One of many that come to qualify together.
    Burst,
}

/// What people do about one, or what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Forgotten,
    KeptForADay,
    KeptForEver,
    KeptInGrace,
    RenamedToProtected,
    Renamed,
    EndedByHand,
    Reclaimed,
    Reused,
    Moved,
    Cancelled,
    Hibernates,
    Stopped,
    BusyAgain,
}

#[derive(Debug, Clone)]
pub struct Machine {
    pub id: DeploymentId,
    pub created: Time,
    pub kind: Kind,
    pub fate: Fate,
    /// When its GPU works.
    pub busy: Vec<(Time, Time)>,
}

/// What a person does, and when.
#[derive(Debug, Clone)]
pub enum Wish {
    Keep(DeploymentId, Option<Time>),
    Disarm(&'static str),
    Arm(&'static str),
    /// Another configuration is loaded.
    Configure(Setting),
}

/// Which configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    Usual,
    ShorterGrace,
    WithoutSpend,
}

pub struct Account {
    pub world: World,
    pub machines: Vec<Machine>,
    pub wishes: Vec<(Time, Wish)>,
    pub mishaps: Vec<(Time, Mishap)>,
    pub gaps: Vec<(Time, Time)>,
    pub down: Vec<(Time, Time)>,
    /// When the source of activity says nothing, or that it does not know.
    pub unmeasured: Vec<(Time, Time, bool)>,
    pub teams: [(TeamId, &'static str); 3],
}

pub fn policies(setting: Setting) -> Policies {
    let named = |globs: &[&str]| Matcher {
        globs: [(MatchKey::Name, globs.iter().map(|glob| Glob::new(glob)).collect())].into(),
    };
    let policy = |name: &str, matching: Matcher, when: Vec<Condition>, minutes: u32| Policy {
        name: name.into(),
        matching,
        when,
        grace: MINUTE * minutes,
        require_volume: false,
        receivers: vec!["ops".into(), "chat".into()],
    };
    let long_grace = if setting == Setting::ShorterGrace { 10 } else { 40 };
    let hours = Condition::Outside(Hours::parse("Mon-Fri 08:00-20:00").unwrap());
    let mut all = vec![
        policy("long", named(&["dev-*"]), vec![Condition::RunningFor(RUNNING_FOR)], long_grace),
        policy("idle", named(&["idle-*", "dev-both-*"]), vec![Condition::IdleFor(IDLE_FOR)], 20),
        policy("spend", named(&["exp-*"]), vec![Condition::SpendAbove(SPEND_ABOVE)], 30),
        policy("desk", named(&["desk-*"]), vec![hours, Condition::RunningFor(DESK_FOR)], 30),
        policy("shed", named(&["lab-*"]), vec![Condition::RunwayBelow(RUNWAY_BELOW)], 15),
    ];
    if setting == Setting::WithoutSpend {
        all.retain(|policy| &*policy.name != "spend");
    }
    let protect = [(MatchKey::Name, vec![Glob::new("prod-*"), Glob::new("*-keep-*")])].into();
    let safety = Safety { protect, max_per_hour: 3, max_per_day: 12, ..Safety::default() };
    Policies { policies: all, safety, zone: zone(), sources: Vec::new() }
}

pub fn zone() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

pub fn source() -> ActivitySource {
    let globs = vec![Glob::new("idle-*"), Glob::new("dev-both-*")];
    ActivitySource {
        name: "dcgm".into(),
        every: MEASURED_EVERY,
        matcher: Matcher { globs: [(MatchKey::Name, globs)].into() },
        only_busy: false,
        settings: "s".into(),
    }
}

/// Of a hundred, how many have which fate.
const FATES: [(u32, Fate); 13] = [
    (6, Fate::KeptForADay),
    (3, Fate::KeptForEver),
    (4, Fate::KeptInGrace),
    (5, Fate::RenamedToProtected),
    (4, Fate::Renamed),
    (6, Fate::EndedByHand),
    (4, Fate::Reclaimed),
    (5, Fate::Reused),
    (3, Fate::Moved),
    (6, Fate::Cancelled),
    (3, Fate::Hibernates),
    (2, Fate::Stopped),
    (4, Fate::BusyAgain),
];

struct Builder {
    case: Case,
    rng: fastrand::Rng,
    account: Account,
}

pub fn account(case: Case) -> Account {
    let mut world = World::new(case.seed, START);
    let rich = Usd::from_cents(1_000_000_000);
    let teams = [("Research", rich), ("Lab", Usd::from_cents(2_000)), ("Archive", rich)]
        .map(|(name, balance)| (world.add_team(name, "owner", balance), name));
    for n in 0..8 {
        world.deploy(START, Spec::new(&teams[0].0, &format!("prod-{n}")).boot(MINUTE));
    }
    let account = Account {
        world,
        machines: Vec::new(),
        wishes: Vec::new(),
        mishaps: Vec::new(),
        gaps: Vec::new(),
        down: Vec::new(),
        unmeasured: Vec::new(),
        teams,
    };
    let mut builder = Builder { case, rng: fastrand::Rng::with_seed(case.seed ^ 0x5eed), account };
    builder.deployments();
    builder.lab();
    builder.people();
    if case.foul {
        builder.weather();
    }
    builder.account.wishes.sort_by_key(|(at, _)| *at);
    builder.account.mishaps.sort_by_key(|(at, _)| *at);
    builder.account
}

impl Builder {
    fn minutes(&mut self, from: u32, until: u32) -> Duration {
        MINUTE * self.rng.u32(from..until)
    }

    /// One every five hours or so, and now and then very many at once.
    fn deployments(&mut self) {
        let kinds = [Kind::Long, Kind::Idle, Kind::Both, Kind::Spend, Kind::Desk];
        let last = self.case.end().minus(DAY * 4);
        let (mut at, mut n) = (START.plus(HOUR * 20), 0);
        while at < last {
            let fate = if self.case.quiet { self.quiet_fate() } else { self.fate() };
            self.deploy(at, kinds[n % kinds.len()], fate, n);
            n += 1;
            at = at.plus(self.minutes(200, 400));
        }
        let mut at = START.plus(DAY * 9);
        while at.plus(DAY * 2) <= self.case.fair_from() && !self.case.quiet {
            for m in 0..40 {
                self.deploy(at.plus(MINUTE * m), Kind::Burst, Fate::Forgotten, n);
                n += 1;
            }
            at = at.plus(DAY * 24);
        }
    }

    fn fate(&mut self) -> Fate {
        let mut drawn = self.rng.u32(0..100);
        for (percent, fate) in FATES {
            match drawn.checked_sub(percent) {
                None => return fate,
                Some(left) => drawn = left,
            }
        }
        Fate::Forgotten
    }

    fn quiet_fate(&mut self) -> Fate {
        if self.rng.u32(0..10) == 0 { Fate::KeptForEver } else { Fate::Forgotten }
    }

    fn deploy(&mut self, at: Time, kind: Kind, fate: Fate, n: usize) {
        let name = match kind {
            Kind::Long | Kind::Burst => format!("dev-{n}"),
            Kind::Both => format!("dev-both-{n}"),
            Kind::Idle => format!("idle-{n}"),
            Kind::Spend => format!("exp-{n}"),
            Kind::Desk => format!("desk-{n}"),
            Kind::Shed => format!("lab-{n}"),
        };
        let rate = if kind == Kind::Spend { Usd::from_cents(400) } else { Usd::from_cents(50) };
        let spot = if fate == Fate::Reclaimed { "SPOT" } else { "DEDICATED" };
        let spec = Spec::new(&self.account.teams[0].0, &name).kind(spot).rate(rate).boot(MINUTE * 3);
        let id = self.account.world.deploy(at, spec.clone());
        let mut busy = Vec::new();
        let mut qualifies = at.plus(RUNNING_FOR);
        if matches!(kind, Kind::Idle | Kind::Both) {
            let works = at.plus(self.minutes(60, 300));
            let pause = works.plus(self.minutes(30, 110));
            let again = pause.plus(self.minutes(30, 120));
            busy = vec![(at, works), (pause, again)];
            qualifies = again.plus(IDLE_FOR);
        }
        self.befall(&id, fate, (at, qualifies), spec, &mut busy);
        self.account.machines.push(Machine { id, created: at, kind, fate, busy });
    }

    /// What happens to it, most of it around the time at which it may be announced.
    fn befall(
        &mut self,
        id: &DeploymentId,
        fate: Fate,
        (created, qualifies): (Time, Time),
        spec: Spec,
        busy: &mut Vec<(Time, Time)>,
    ) {
        let amid = qualifies.plus(self.minutes(0, 70));
        let around = qualifies.minus(HOUR / 2).plus(self.minutes(0, 120));
        let later = qualifies.plus(DAY * 4);
        let mut on = |at: Time, event: Event| self.account.world.at(at, event);
        match fate {
            Fate::Forgotten | Fate::Cancelled => {}
            Fate::KeptForADay => {
                let wish = Wish::Keep(id.clone(), Some(qualifies.plus(DAY)));
                self.account.wishes.push((qualifies.minus(HOUR * 3), wish));
            }
            Fate::KeptForEver => {
                self.account.wishes.push((created.plus(HOUR / 2), Wish::Keep(id.clone(), None)));
            }
            Fate::KeptInGrace => {
                self.account.wishes.push((amid, Wish::Keep(id.clone(), Some(amid.plus(HOUR * 6)))));
            }
            Fate::RenamedToProtected => {
                on(amid, Event::Rename(id.clone(), spec.name.replacen('-', "-keep-", 1)));
                on(later, Event::UserTerminate(id.clone()));
            }
            Fate::Renamed => on(amid, Event::Rename(id.clone(), format!("{}-b", spec.name))),
            Fate::EndedByHand => on(around, Event::UserTerminate(id.clone())),
            Fate::Reclaimed => on(around, Event::Reclaim(id.clone())),
            Fate::Reused => {
                let again = Spec { id: Some(id.clone()), ..spec };
                on(around, Event::Deploy(Box::new(again)));
                on(later, Event::UserTerminate(id.clone()));
            }
            Fate::Moved => on(amid, Event::Move(id.clone(), self.account.teams[2].0.clone())),
            Fate::Hibernates => {
                on(amid, Event::SetStatus(id.clone(), "hibernating".to_owned()));
                on(amid.plus(HOUR * 5), Event::SetStatus(id.clone(), "running".to_owned()));
            }
            Fate::Stopped => {
                on(around, Event::Stop(id.clone()));
                on(later, Event::UserTerminate(id.clone()));
            }
            Fate::BusyAgain => busy.push((amid, amid.plus(HOUR * 3))),
        }
    }

    /// Every five days a team deploys more than its money lasts for.
    fn lab(&mut self) {
        let lab = self.account.teams[1].0.clone();
        let (mut at, mut cycle) = (START.plus(DAY + HOUR * 10), 0_usize);
        while at < self.case.fair_from().plus(DAY) {
            self.account.world.at(at, Event::TopUp(lab.clone(), Usd::from_cents(6_600)));
            for (n, cents) in [100, 200, 200, 50].into_iter().enumerate() {
                let began = at.plus(MINUTE * u32::try_from(7 * n).unwrap());
                let spec = Spec::new(&lab, &format!("lab-{cycle}-{n}")).rate(Usd::from_cents(cents));
                let id = self.account.world.deploy(began, spec.boot(MINUTE * 2));
                self.account.world.at(at.plus(DAY * 4 + HOUR * 12), Event::UserTerminate(id.clone()));
                let fate = Fate::Forgotten;
                self.account.machines.push(Machine {
                    id,
                    created: began,
                    kind: Kind::Shed,
                    fate,
                    busy: Vec::new(),
                });
            }
            if cycle % 3 == 1 {
                // Somebody pays in about when the first is announced.
                let amid = at.plus(HOUR * 5).plus(self.minutes(0, 120));
                self.account.world.at(amid, Event::TopUp(lab.clone(), Usd::from_cents(5_000)));
            }
            at = at.plus(DAY * 5);
            cycle += 1;
        }
    }

    /// What people do to the policies.
    fn people(&mut self) {
        if self.case.quiet {
            return;
        }
        let names = ["long", "idle", "spend", "desk", "shed"];
        let mut at = START.plus(DAY * 4 + HOUR * 13 + MINUTE * 10);
        let mut n = 0;
        while at.plus(DAY * 3) < self.case.fair_from() {
            let policy = names[n / 3 % names.len()];
            let (first, last) = match n % 3 {
                0 => (Wish::Disarm(policy), Wish::Arm(policy)),
                1 => (Wish::Configure(Setting::ShorterGrace), Wish::Configure(Setting::Usual)),
                _ => (Wish::Configure(Setting::WithoutSpend), Wish::Configure(Setting::Usual)),
            };
            self.account.wishes.push((at, first));
            self.account.wishes.push((at.plus(HOUR * 20), last));
            at = at.plus(DAY * 3).plus(self.minutes(0, 600));
            n += 1;
        }
    }

    fn weather(&mut self) {
        let (case, end) = (self.case, self.case.fair_from());
        self.account.world.faults =
            FaultPlan::random(case.seed, START, end, 12).and_ends(case.seed, START, end);
        let mut at = START.plus(DAY * 2);
        while at.plus(DAY) < end {
            at = at.plus(self.minutes(200, 3_000));
            let (short, long) = (self.minutes(5, 90), self.minutes(12, 500));
            match self.rng.u32(0..8) {
                0 => self.account.gaps.push((at, at.plus(short + MINUTE * 8))),
                1 => self.account.down.push((at, at.plus(long))),
                2 => self.account.mishaps.push((at, Mishap::Sleep(long))),
                3 => {
                    let steps = [3_600_000, -3_600_000, -START.millis(), 45_000, -45_000];
                    let ahead = self.rng.choice(steps).unwrap();
                    self.account.mishaps.push((at, Mishap::Clock(ahead)));
                    self.account.mishaps.push((at.plus(short), Mishap::Clock(0)));
                }
                4 => {
                    self.account.world.at(at, Event::RevokeKey);
                    self.account.world.at(at.plus(short), Event::RestoreKey);
                }
                5 => self.account.world.at(at, Event::OthersCall(230)),
                _ => {
                    let silent = self.rng.bool();
                    self.account.unmeasured.push((at, at.plus(long), silent));
                }
            }
        }
    }
}
