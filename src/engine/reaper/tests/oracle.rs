//! A world by chance, and an oracle that knows the rules by itself: no DELETE without every one of them, at most one without a
//! read between, and in the end everything that is in order ends. It must never ask the gates.

use super::*;
use crate::{
    engine::{attend, fold, fold_activity, restart_windows},
    model::{ActivitySample, Balance, Cancel, Facts, Listing, Observation, Scope, Unreadable, Why},
};

const GRACE: [u64; 2] = [600, 720];
const IDLE_FOR: Duration = Duration::from_secs(1_800);
const RUNNING_FOR: Duration = Duration::from_secs(6 * 3_600);
const AGE: Duration = Duration::from_secs(900);
/// Two clocks that each may be a minute off, and the time from one poll to the next.
const SLACK: Duration = Duration::from_secs(155);

/// How an edge in time is judged: a DELETE may be within the slack of it, a count is of what is clearly beyond.
#[derive(Clone, Copy)]
enum Edge {
    Within,
    Beyond,
}

impl Edge {
    fn reaches(self, length: Duration, limit: Duration) -> bool {
        match self {
            Self::Within => length + SLACK >= limit,
            Self::Beyond => length >= limit + SLACK,
        }
    }
}

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A machine as it truly is.
#[derive(Clone)]
struct Machine {
    truth: Deployment,
    busy: bool,
    measured: bool,
    volume: bool,
    /// The lists leave it out.
    hidden: bool,
    /// An accepted DELETE takes effect then.
    dies: Option<Time>,
}

/// What the oracle remembers of one deployment, by true time.
#[derive(Default, Clone)]
struct Seen {
    first: Option<Time>,
    /// Name, team, status and since when, as listed.
    listed: Option<Deployment>,
    status_since: Option<Time>,
    samples: Vec<(Time, char)>,
    read: Option<(Time, Deployment, i64)>,
    check: Option<(Time, bool, u32, i64)>,
    /// The last list left it out.
    hidden: bool,
    /// A DELETE was handed out and nothing read since.
    requested: bool,
    volume: bool,
}

struct World {
    chance: Chance,
    chaos: bool,
    /// Our clock; the true one is `now + ahead_ms`.
    now: Time,
    ahead_ms: i64,
    machines: Vec<Machine>,
    snapshot: Snapshot,
    forecasts: BTreeMap<TeamId, Forecast>,
    reaper: Reaper,
    rows: BTreeMap<ActionId, Action>,
    outbox: Vec<Notice>,
    acts: Vec<Act>,
    /// Whether our clock is ever set: by one that was, what lies how far back is no longer certain.
    sets_clock: bool,
    names: u32,
    grace: u64,
    steps: u64,
    deletes: u64,
    // What the oracle knows.
    seen: BTreeMap<Target, Seen>,
    polls: Vec<(Time, bool)>,
    skew_ms: Option<i64>,
    told: BTreeMap<crate::model::EventId, Time>,
    requests: Vec<Time>,
    armed: BTreeMap<Arc<str>, (u64, BTreeSet<Target>)>,
    rests: BTreeMap<Target, Time>,
    keeps: Vec<(Target, Time)>,
}

/// Names with `keep` in them are protected, and some of them are matched.
fn configuration(grace: u64) -> Policies {
    let of = |name: &str, when: Condition, require_volume| Policy {
        name: name.into(),
        matching: matcher(&[(MatchKey::Name, &["dev-*"])]),
        when: vec![when],
        grace: Duration::from_secs(grace),
        require_volume,
        receivers: vec!["ops".into()],
    };
    let mut policies = policies(vec![
        of("idle", Condition::IdleFor(IDLE_FOR), true),
        of("long", Condition::RunningFor(RUNNING_FOR), false),
    ]);
    policies.safety.protect.insert(MatchKey::Name, vec![Glob::new("*keep*")]);
    policies
}

impl World {
    fn new(seed: u64, skip: Option<Gate>) -> Self {
        let mut reaper = Reaper::new(configuration(GRACE[0]), Vec::new());
        reaper.skip = skip;
        let mut world = Self {
            chance: Chance(seed),
            chaos: true,
            now: T0,
            ahead_ms: 0,
            machines: Vec::new(),
            snapshot: Snapshot { unscoped_covers: true, ..Snapshot::default() },
            forecasts: BTreeMap::new(),
            reaper,
            rows: BTreeMap::new(),
            outbox: Vec::new(),
            acts: Vec::new(),
            sets_clock: seed.is_multiple_of(2),
            names: 0,
            grace: GRACE[0],
            steps: 0,
            deletes: 0,
            seen: BTreeMap::new(),
            polls: Vec::new(),
            skew_ms: None,
            told: BTreeMap::new(),
            requests: Vec::new(),
            armed: BTreeMap::new(),
            rests: BTreeMap::new(),
            keeps: Vec::new(),
        };
        world.snapshot.confirmed.insert("ops".into(), world.now);
        let balances = vec![Balance {
            team: TeamId::new("t1"),
            name: "research".into(),
            role: "owner".into(),
            balance: Usd::from_cents(100_000),
        }];
        let list = Listing { items: balances, unreadable: Vec::new(), suspect: None };
        world.fold(Feed::Balance, Scope::Unscoped, Facts::Balances(list));
        for _ in 0..5 {
            world.create();
        }
        world
    }

    fn truly(&self) -> Time {
        Time::from_millis(self.now.millis() + self.ahead_ms)
    }

    fn fold(&mut self, feed: Feed, scope: Scope, facts: Facts) {
        let skew_ms = Some(self.ahead_ms);
        self.skew_ms = skew_ms;
        let observation = Observation { feed, at: self.now, scopes: vec![(scope, Ok(facts))], skew_ms };
        fold(&mut self.snapshot, &observation, &[Glob::new("*")]);
    }

    fn create(&mut self) {
        self.names += 1;
        let at = self.truly();
        // Now and then an id comes back.
        let id = format!("m{}", if self.chance.one_in(6) { self.names / 2 } else { self.names });
        self.machines.retain(|machine| machine.truth.id.as_str() != id);
        let kind = ["dev", "dev", "dev", "dev", "box"][usize::try_from(self.chance.below(5)).unwrap()];
        let truth = Deployment {
            created_at: at,
            started_at: Some(at),
            name: format!("{kind}-{}", self.names).into(),
            status: if self.chance.one_in(2) { Status::Deploying } else { Status::Running },
            ..deployment(&id)
        };
        self.machines.push(Machine {
            truth,
            busy: false,
            measured: true,
            volume: true,
            hidden: false,
            dies: None,
        });
    }

    /// Something happens to the account, to its people, or to us.
    fn happen(&mut self) {
        let pick = usize::try_from(self.chance.below(self.machines.len().max(1) as u64)).unwrap();
        let event = self.chance.below(23);
        if let Some(machine) = self.machines.get_mut(pick) {
            match event {
                0 => machine.busy = !machine.busy,
                1 => machine.measured = !machine.measured,
                2 => machine.volume = !machine.volume,
                3 => machine.truth.name = format!("box-{}", machine.truth.name).into(),
                19 if self.chance.one_in(3) => {
                    machine.truth.name = format!("dev-keep-{}", machine.truth.id).into()
                }
                20 => machine.hidden = !machine.hidden && self.chance.one_in(2),
                21 => machine.truth.status = Status::Unknown("paused".into()),
                4 => machine.truth.name = format!("dev-{}", machine.truth.name).into(),
                5 if self.chance.one_in(4) => machine.truth.status = Status::TerminatedProvider,
                6 | 22 => machine.truth.status = Status::Running,
                7 => machine.truth.status = Status::Stopped,
                8 => {
                    let (target, until) = (Target::of(&machine.truth), self.now.plus(HOUR));
                    self.keeps.push((target.clone(), until));
                    let id: Arc<str> = format!("k{}", self.keeps.len()).into();
                    let keep = Keep {
                        id: id.clone(),
                        target,
                        until: Some(until),
                        by: "ann".into(),
                        reason: "".into(),
                        at: self.now,
                    };
                    self.snapshot.keeps.insert(id, keep.into());
                }
                _ => {}
            }
        }
        match event {
            9 => self.create(),
            10 => {
                self.snapshot.armings.clear();
                self.armed.clear();
            }
            11 => {
                self.grace = GRACE[usize::try_from(self.chance.below(2)).unwrap()];
                self.reaper.replace(configuration(self.grace));
            }
            12..=14 => self.arm(),
            15 => {
                let id = self.reaper.open.values().next().map(|action| action.id.clone());
                if let Some(id) = id {
                    self.snapshot.cancels.insert(id, Cancel { at: self.now, by: "ann".into() });
                }
            }
            16 => self.crash(),
            17 if self.sets_clock => self.set_clock(),
            18 => self.now = self.now.plus(SECOND * 400),
            _ => {}
        }
    }

    fn arm(&mut self) {
        for name in ["idle", "long"] {
            let code = self.reaper.preview(name, &self.snapshot, &self.forecasts, self.now).unwrap().code;
            let wish = (name, &*code, "ann".into());
            // Before a clock that was set back nobody has confirmed anything.
            let arming = self.reaper.arm(wish, &self.snapshot, &self.forecasts, self.now);
            let Ok(arming) = arming else { continue };
            self.armed.insert(name.into(), (self.grace, arming.acknowledged.clone()));
            self.snapshot.armings.insert(name.into(), arming.into());
        }
    }

    /// Only rows are left; what was handed out may have been done, and nobody hears of it.
    fn crash(&mut self) {
        for act in std::mem::take(&mut self.acts) {
            if self.chance.one_in(2) {
                self.perform(&act);
            }
        }
        let text = serde_json::to_string(&self.rows.values().collect::<Vec<_>>()).unwrap();
        let rows: Vec<Action> = serde_json::from_str(&text).unwrap();
        let rows = rows.into_iter().filter(|action| action.matters(self.now)).collect();
        let skip = self.reaper.skip;
        self.reaper = Reaper::new(configuration(self.grace), rows);
        self.reaper.skip = skip;
        self.snapshot.receipts.clear();
        self.snapshot.activity.clear();
        self.snapshot.feeds.clear();
        self.polls.clear();
        for seen in self.seen.values_mut() {
            seen.samples.clear();
        }
    }

    fn set_clock(&mut self) {
        let target_ms = [0, 0, 3_600_000, -3_600_000][usize::try_from(self.chance.below(4)).unwrap()];
        let step = target_ms - self.ahead_ms;
        if step == 0 {
            return;
        }
        self.now = Time::from_millis(self.now.millis() - step);
        self.ahead_ms = target_ms;
        restart_windows(&mut self.snapshot);
        for seen in self.seen.values_mut() {
            seen.samples.clear();
        }
        self.polls.clear();
    }

    fn live(&mut self) {
        let now = self.truly();
        for machine in &mut self.machines {
            if machine.dies.is_some_and(|at| at <= now) {
                machine.truth.status = Status::Terminated;
            }
            if machine.truth.status == Status::Deploying && !self.chaos {
                machine.truth.status = Status::Running;
            }
        }
        self.machines.retain(|machine| {
            !machine.truth.status.is_ended() || machine.truth.created_at.plus(HOUR * 48) > now
        });
    }

    fn poll(&mut self) {
        let bad = if self.chaos { self.chance.below(40) } else { 99 };
        if bad == 0 {
            let failed = Err(Failure::new(FailureKind::Server, "500"));
            let scopes = vec![(Scope::Unscoped, failed)];
            let observation = Observation { feed: Feed::Deployments, at: self.now, scopes, skew_ms: None };
            fold(&mut self.snapshot, &observation, &[Glob::new("*")]);
            self.polls.push((self.truly(), false));
            return;
        }
        for machine in self.machines.iter().filter(|machine| machine.hidden) {
            self.seen.entry(Target::of(&machine.truth)).or_default().hidden = true;
        }
        let shown = self.machines.iter().filter(|machine| !machine.hidden);
        let items: Vec<Deployment> = shown.map(|machine| machine.truth.clone()).collect();
        let suspect = (bad == 1).then(|| "duplicate ids".into());
        let unreadable = (bad == 2).then(|| Unreadable { id: Some("m1".into()), why: "price".into() });
        let whole = suspect.is_none() && unreadable.is_none();
        for item in items.iter().filter(|item| unreadable.is_none() || item.id.as_str() != "m1") {
            let seen = self.seen.entry(Target::of(item)).or_default();
            let now = Time::from_millis(self.now.millis() + self.ahead_ms);
            seen.first.get_or_insert(now);
            seen.hidden = false;
            if seen.listed.as_ref().is_none_or(|listed| listed.status != item.status) {
                seen.status_since = Some(now);
            }
            seen.listed = Some(item.clone());
        }
        let unreadable: Vec<Unreadable> = unreadable.into_iter().collect();
        let items =
            items.into_iter().filter(|item| unreadable.is_empty() || item.id.as_str() != "m1").collect();
        let list = Listing { items, unreadable, suspect };
        self.fold(Feed::Deployments, Scope::Unscoped, Facts::Deployments(list));
        self.polls.push((self.truly(), whole));
        self.poll_volumes();
        self.measure();
    }

    fn poll_volumes(&mut self) {
        let volume = |machine: &Machine| Volume {
            id: VolumeId::new(format!("v-{}", machine.truth.id)),
            created_at: T0,
            name: "data".into(),
            team: TeamId::new("t1"),
            provider: "spheron-ai".into(),
            status: VolumeStatus::Attached,
            size_bytes: 1,
            used_bytes: 1,
            hourly_rate: Usd::from_cents(1),
            attached_to: vec![machine.truth.id.clone()],
            last_detached_at: None,
        };
        let items = self.machines.iter().filter(|machine| machine.volume).map(volume).collect();
        for machine in &self.machines {
            self.seen.entry(Target::of(&machine.truth)).or_default().volume = machine.volume;
        }
        let list = Listing { items, unreadable: Vec::new(), suspect: None };
        self.fold(Feed::Volumes, Scope::Team(TeamId::new("t1")), Facts::Volumes(list));
    }

    fn measure(&mut self) {
        let sources = self.reaper.policies().sources.clone();
        attend(&mut self.snapshot, &sources, self.now);
        for machine in self.machines.clone() {
            let late = self.chaos && self.chance.one_in(30);
            let running = self.snapshot.deployments.get(&machine.truth.id).is_some_and(|tracked| {
                tracked.deployment.status == Status::Running
                    && tracked.deployment.created_at == machine.truth.created_at
            });
            let seen = self.seen.entry(Target::of(&machine.truth)).or_default();
            if !running {
                seen.samples.clear();
            }
            if late || !running {
                continue;
            }
            let (reading, word) = match (machine.measured, machine.busy) {
                (false, _) => (Reading::Unknown("no answer".into()), 'u'),
                (true, true) => (Reading::Busy, 'b'),
                (true, false) => (Reading::Idle, 'i'),
            };
            seen.samples.push((Time::from_millis(self.now.millis() + self.ahead_ms), word));
            let sample = ActivitySample {
                deployment: machine.truth.id.clone(),
                source: "dcgm".into(),
                at: self.now,
                every: MINUTE,
                reading,
                utilization_permille: None,
                settings: "s".into(),
            };
            fold_activity(&mut self.snapshot, &sources, &sample);
        }
    }

    /// One round: something happens, we look, decide, and perform.
    fn round(&mut self) -> Result<(), String> {
        let secs = if self.chaos { 1 + self.chance.below(70) } else { 120 };
        self.now = self.now.plus(Duration::from_secs(secs));
        if self.chaos && self.chance.one_in(12) {
            self.happen();
        }
        self.live();
        if !self.chaos || !self.chance.one_in(8) {
            self.poll();
        }
        for _ in 0..8 {
            self.decide()?;
            if self.acts.is_empty() || (self.chaos && self.chance.one_in(6)) {
                break;
            }
            for act in std::mem::take(&mut self.acts) {
                self.answer(&act);
            }
            if self.chaos && self.chance.one_in(8) {
                self.happen();
                self.poll();
            }
        }
        Ok(())
    }

    fn decide(&mut self) -> Result<(), String> {
        self.steps += 1;
        let reaped = self.reaper.step(&self.snapshot, &self.forecasts, self.now);
        if self.steps.is_multiple_of(5) {
            let again = self.reaper.clone().step(&self.snapshot, &self.forecasts, self.now);
            if again != (Reaped { wake: again.wake, ..Reaped::default() }) {
                return Err(format!("a second look decided {again:?}"));
            }
        }
        self.rows.extend(reaped.actions.into_iter().map(|action| (action.id.clone(), action)));
        for shift in &reaped.shifts {
            let rests = matches!(shift.to, StageName::Refused | StageName::Gone)
                || matches!(shift.reason, Why::CancelledBy { .. });
            if rests {
                let target = self.rows[&shift.action].target.clone();
                // By a clock that was an hour behind it ends an hour sooner.
                let behind = if self.sets_clock { HOUR * 2 } else { Duration::ZERO };
                self.rests.insert(target, self.truly().plus(HOUR * 24).minus(behind));
            }
        }
        for act in &reaped.acts {
            if is_delete(act) {
                self.judge(act)?;
            }
        }
        self.acts.extend(reaped.acts);
        // That a policy changed is told, and nothing waits for it.
        self.outbox.extend(reaped.notices.into_iter().filter(|n| !n.title.ends_with("is a dry run now")));
        for notice in std::mem::take(&mut self.outbox) {
            if self.chaos && self.chance.one_in(3) {
                self.outbox.push(notice);
                continue;
            }
            let to = if self.chaos && self.chance.one_in(5) { "log" } else { "ops" };
            self.snapshot.told.entry(notice.id.clone()).or_default().insert(to.into(), self.now);
            if to == "ops" {
                self.told.insert(notice.id, self.truly());
            }
        }
        Ok(())
    }

    /// What the world makes of an act; `None`: nobody hears of it.
    fn perform(&mut self, act: &Act) -> Option<Came> {
        let now = self.truly();
        let failed = || Failure::new(FailureKind::Timeout, "no answer");
        let seen = self.seen.entry(act.target.clone()).or_default();
        let machine = self.machines.iter_mut().find(|machine| machine.truth.id == act.target.id);
        let trouble = self.chaos && self.chance.one_in(10);
        Some(match act.deed {
            Deed::FinalRead | Deed::Verify if trouble => Came::Read(Err(failed())),
            Deed::FinalRead | Deed::Verify => {
                seen.requested = false;
                let truth = machine.map(|machine| machine.truth.clone());
                seen.read = truth.clone().map(|truth| (now, truth, self.ahead_ms));
                Came::Read(Ok(truth.map(Box::new)))
            }
            Deed::CanTerminate => {
                let kind = if self.chaos { self.chance.below(8) } else { 9 };
                let (yes, minutes) = match kind {
                    0 => (false, 2),
                    1 => (true, 1),
                    2 => return Some(Came::CanTerminate(Err(failed()))),
                    3 => return Some(Came::CanTerminate(Ok(None))),
                    _ => (true, 0),
                };
                seen.check = Some((now, yes, minutes, self.ahead_ms));
                can(yes, minutes)
            }
            Deed::Commit { .. } if trouble => Came::Commit(Err("overtaken".into())),
            Deed::Commit { .. } => Came::Commit(Ok(())),
            Deed::Delete { not_after } if self.now > not_after => {
                Came::Delete(DeleteAnswer::NotSent { why: "too late".into() })
            }
            Deed::Delete { .. } => {
                let kind = if self.chaos { self.chance.below(10) } else { 9 };
                let Some(machine) = machine else { return Some(Came::Delete(DeleteAnswer::NotFound)) };
                let dies = Some(now.plus(SECOND * 40));
                let lost = || DeleteAnswer::Lost { why: "timeout".into() };
                Came::Delete(match kind {
                    0 => DeleteAnswer::MinimumRuntime { minutes: 2 },
                    1 => DeleteAnswer::Refused { why: "403".into() },
                    2 => lost(),
                    3 => {
                        machine.dies = dies;
                        lost()
                    }
                    // Accepted, and nothing comes of it.
                    4 => DeleteAnswer::Accepted,
                    5 => DeleteAnswer::Ended { status: "terminated".into() },
                    6 => {
                        machine.dies = dies;
                        return None;
                    }
                    _ => {
                        machine.dies = dies;
                        DeleteAnswer::Accepted
                    }
                })
            }
        })
    }

    fn answer(&mut self, act: &Act) {
        let sent = self.now;
        // The clock of one answer may differ from that of the others.
        let odd = self.chaos && self.chance.one_in(15);
        let skew_ms = Some(if odd { 61_000 } else { self.ahead_ms });
        if self.chaos && self.chance.one_in(6) {
            self.now = self.now.plus(Duration::from_secs(self.chance.below(50)));
        }
        // What is sent after a delay is sent then, but says what was asked for when it was.
        let came = self.perform(act);
        let seen = self.seen.entry(act.target.clone()).or_default();
        match (&act.deed, skew_ms) {
            (Deed::FinalRead, Some(ms)) => seen.read.iter_mut().for_each(|read| read.2 = ms),
            (Deed::CanTerminate, Some(ms)) => seen.check.iter_mut().for_each(|check| check.3 = ms),
            _ => {}
        }
        let Some(came) = came else { return };
        let receipt = ActReceipt { action: act.action.clone(), seq: act.seq, sent, skew_ms, came };
        if !self.chaos || !self.chance.one_in(12) {
            self.snapshot.receipts.insert(act.action.clone(), receipt.into());
        }
    }

    /// The deployment as the oracle itself would have it, for a policy: why it does not qualify.
    fn unfit(&self, target: &Target, policy: &str, edge: Edge) -> Option<String> {
        let now = self.truly();
        let no = |what: &str| Some(what.to_owned());
        let Some(seen) = self.seen.get(target) else { return no("never seen") };
        let Some(listed) = &seen.listed else { return no("never listed") };
        if !listed.name.starts_with("dev-") {
            return no("selector");
        }
        if listed.name.contains("keep") {
            return no("protection");
        }
        if seen.hidden {
            return no("listed");
        }
        if listed.status != Status::Running {
            return no("status");
        }
        if self.keeps.iter().any(|(kept, until)| kept == target && self.now < *until) {
            return no("kept");
        }
        if self
            .rests
            .get(target)
            .is_some_and(|until| !edge.reaches(now.since(until.minus(HOUR * 24)), HOUR * 24))
        {
            return no("rests");
        }
        let age =
            |since: Option<Time>| since.is_none_or(|since| now.since(since).saturating_add(SLACK) < AGE);
        if age(seen.first) || age(seen.status_since) {
            return no("age");
        }
        match self.polls.last() {
            Some((at, true)) if now.since(*at) <= SECOND * 150 => {}
            Some(_) | None => return no("whole and fresh"),
        }
        let window = if policy == "idle" { IDLE_FOR } else { AGE };
        let whole: Vec<Time> = self.polls.iter().filter(|(_, whole)| *whole).map(|(at, _)| *at).collect();
        if let Some(why) = gap(&whole, now, window, edge) {
            return no(&format!("polls: {why}"));
        }
        if self.skew_ms.is_none_or(|ms| ms.abs() > 60_000) {
            return no("clock");
        }
        if policy == "idle" {
            if !seen.volume {
                return no("volume");
            }
            let busy = seen.samples.iter().rposition(|(_, word)| *word != 'i').map_or(0, |at| at + 1);
            let idle: Vec<Time> = seen.samples[busy..].iter().map(|(at, _)| *at).collect();
            gap(&idle, now, IDLE_FOR, edge).map(|why| format!("idle: {why}"))
        } else {
            let running = edge.reaches(now.since(listed.started_at.unwrap()), RUNNING_FOR);
            (!running).then(|| "running_for".to_owned())
        }
    }

    /// No DELETE but by every rule.
    fn judge(&mut self, act: &Act) -> Result<(), String> {
        self.deletes += 1;
        let now = self.truly();
        let action = self.rows[&act.action].clone();
        let target = &act.target;
        let wrong = |what: &str| Err(format!("{}: {what} at {now}", action.policy));
        if self.armed.get(&action.policy).is_none_or(|(grace, _)| *grace != self.grace) {
            return wrong("not armed as it stands");
        }
        if self.snapshot.cancels.contains_key(&act.action) {
            return wrong("cancelled");
        }
        if let Some(why) = self.unfit(target, &action.policy, Edge::Within) {
            return wrong(&why);
        }
        let notice = super::super::words::announcement_id(&action);
        let told = self
            .told
            .get(&notice)
            .is_some_and(|at| now.since(*at) + SLACK >= Duration::from_secs(self.grace));
        if !told {
            return wrong("announcement or grace");
        }
        let seen = self.seen.get_mut(target).unwrap();
        let young = |at: Time| at <= now && now.since(at) <= SECOND * 30;
        match &seen.read {
            Some((at, read, skew))
                if young(*at)
                    && Target::of(read) == *target
                    && read.name == action.name
                    && read.team == action.team
                    && read.status == Status::Running
                    && skew.abs() <= 60_000 => {}
            other => return wrong(&format!("final read {other:?}")),
        }
        match &seen.check {
            Some((at, true, 0, skew)) if young(*at) && skew.abs() <= 60_000 => {}
            other => return wrong(&format!("can-terminate {other:?}")),
        }
        if seen.requested {
            return wrong("a second DELETE without a read between");
        }
        seen.requested = true;
        let within = |length: Duration| {
            self.requests.iter().filter(|at| now.since(**at).saturating_add(SLACK) < length).count()
        };
        if within(HOUR) >= 2 || within(HOUR * 24) >= 5 {
            return wrong("caps");
        }
        self.requests.push(now);
        self.judge_share().map_or(Ok(()), |why| wrong(&why))
    }

    fn judge_share(&self) -> Option<String> {
        let current: Vec<&Target> = self
            .seen
            .keys()
            .filter(|target| {
                let tracked = self.snapshot.deployments.get(&target.id);
                tracked.is_some_and(|tracked| tracked.deployment.created_at == target.created_at)
            })
            .collect();
        let running = |target: &&&Target| {
            self.seen[**target].listed.as_ref().is_some_and(|listed| listed.status == Status::Running)
        };
        let fleet = current.iter().filter(running).count();
        let mut fit = BTreeSet::new();
        let mut acknowledged = true;
        for (policy, (grace, known)) in &self.armed {
            for target in current.iter().filter(|target| self.unfit(target, policy, Edge::Beyond).is_none()) {
                if *grace == self.grace {
                    acknowledged &= known.contains(*target);
                    fit.insert(*target);
                }
            }
        }
        let many = !self.sets_clock && fit.len() >= 3 && fit.len() * 2 >= fleet;
        (many && !acknowledged).then(|| format!("{} of {fleet} at once", fit.len()))
    }

    /// Everything in order from now on: what may be ended is.
    fn settle(&mut self) -> Result<(), String> {
        self.chaos = false;
        if self.ahead_ms != 0 {
            self.now = self.truly();
            self.ahead_ms = 0;
            restart_windows(&mut self.snapshot);
            self.polls.clear();
            self.seen.values_mut().for_each(|seen| seen.samples.clear());
        }
        self.snapshot.confirmed.insert("ops".into(), self.now);
        self.snapshot.keeps.clear();
        self.keeps.clear();
        self.snapshot.cancels.clear();
        for machine in &mut self.machines {
            (machine.busy, machine.measured, machine.volume, machine.hidden) = (false, true, true, false);
            if !machine.truth.status.is_ended() {
                machine.truth.status = Status::Running;
            }
            // Whose end was accepted and did not come is ended by a person.
            machine.dies = machine.dies.or(self.snapshot.deployments.get(&machine.truth.id).and_then(|_| {
                let open = self.reaper.open.get(&Target::of(&machine.truth))?;
                (open.stage.name() == StageName::Verifying).then_some(self.now)
            }));
        }
        for hour in 0..80 {
            if hour % 4 == 0 {
                self.arm();
            }
            for _ in 0..30 {
                self.round()?;
            }
        }
        let left: Vec<&Machine> = self
            .machines
            .iter()
            .filter(|machine| !machine.truth.status.is_ended())
            .filter(|machine| machine.truth.name.starts_with("dev-") && !machine.truth.name.contains("keep"))
            .collect();
        match left.first() {
            None => Ok(()),
            Some(machine) => {
                let target = Target::of(&machine.truth);
                let verdicts = self.reaper.verdicts(&self.snapshot, &self.forecasts, self.now);
                let why: Vec<_> = verdicts.iter().filter(|verdict| verdict.target == target).collect();
                Err(format!("{} was never ended: {why:?}", machine.truth.name))
            }
        }
    }
}

/// Whether instants cover a window up to now without a gap.
fn gap(instants: &[Time], now: Time, window: Duration, edge: Edge) -> Option<&'static str> {
    let Some(last) = instants.last() else { return Some("none") };
    if now.since(*last) > SECOND * 150 {
        return Some("too old");
    }
    let mut first = *last;
    for at in instants.iter().rev() {
        if first.since(*at) > SECOND * 150 {
            break;
        }
        first = *at;
    }
    (!edge.reaches(now.since(first), window)).then_some("too short")
}

fn run(seed: u64, rounds: u32, skip: Option<Gate>) -> (World, Result<(), String>) {
    let mut world = World::new(seed, skip);
    for _ in 0..rounds {
        if let Err(why) = world.round() {
            return (world, Err(why));
        }
    }
    let settled = world.settle();
    (world, settled)
}

#[test]
fn no_world_by_chance_sees_a_delete_that_the_oracle_forbids_and_each_ends_what_is_in_order() {
    let (mut steps, mut deletes) = (0, 0);
    for seed in 0..60 {
        let (world, result) = run(seed, 1_500, None);
        steps += world.steps;
        deletes += world.deletes;
        assert_eq!(result, Ok(()), "seed {seed}, step {}", world.steps);
    }
    println!("{steps} steps, {deletes} DELETEs");
    assert!(steps > 200_000, "{steps} steps prove little");
    assert!(deletes > 300, "{deletes} DELETEs prove little");
}

#[test]
fn each_gate_that_is_taken_away_is_missed_by_the_oracle() {
    // Behind these stands another: `running`, `window`, the clocks of both reads, and that only an announcement that arrived
    // has a slot.
    let backed = [Gate::Deploying, Gate::Fresh, Gate::Clock, Gate::Notice];
    for (gate, ..) in gates::GATES.iter().filter(|(gate, ..)| !backed.contains(gate)) {
        let found = (0..100).find_map(|seed| run(seed, 1_500, Some(*gate)).1.err());
        assert!(found.is_some(), "the oracle does not miss {gate:?}");
    }
}

#[test]
fn the_oracle_sees_a_second_delete_that_no_read_came_before() {
    let mut world = World::new(1, None);
    for _ in 0..3_000 {
        let before = world.deletes;
        world.round().unwrap();
        if world.deletes > before {
            break;
        }
    }
    let (target, seen) = world.seen.iter_mut().find(|(_, seen)| seen.read.is_some()).unwrap();
    seen.requested = true;
    let target = target.clone();
    let action = world.rows.values().find(|action| action.target == target).unwrap().id.clone();
    let act = Act { action, seq: 9, target, deed: Deed::Delete { not_after: world.now } };
    assert!(world.judge(&act).is_err());
}
