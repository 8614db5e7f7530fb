//! The same core, client and store as live, against the simulated account, with time as a variable: months in seconds.
//!
//! It must never need a runtime or a socket: the simulated account answers at once, and futures are polled exactly once.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{
    core::Core,
    observe::Plan,
    outbox::receipt,
    poller::{Cadence, due},
    round::{Round, Turns},
};
use crate::{
    engine::Engine,
    model::{Delivery, Feed, Glob, NoMeter, Notice, Rule, StepRecord, Time},
    sim::{Ask, Conduct, KEY, World},
    spheron::{Client, Request, Response, SendError, Transport},
    store::{Db, StoreError},
};

/// The client's own deadline, in simulated time.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long a feed that may not speak waits, as live.
const HELD_RETRY: Duration = Duration::from_secs(15);

/// What is simulated.
pub struct Scenario {
    pub seed: u64,
    pub world: World,
    pub start: Time,
    pub rules: Vec<Rule>,
    pub cadence: Cadence,
    pub calls_per_15m: Option<u32>,
    /// When the watcher is not running; it restarts from its store.
    pub gaps: Vec<(Time, Time)>,
    /// How often of a hundred a receiver fails to take a notice.
    pub receiver_fails_percent: u8,
}

/// A notice that a receiver took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub at: Time,
    pub receiver: Arc<str>,
    pub notice: Notice,
}

#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    #[error("a future was not ready at once; the simulation has nobody to wait for")]
    NotReady,
    #[error("the store refused: {0}")]
    Store(#[from] StoreError),
}

/// A bug planted between the engine and the store, to prove that an oracle sees it.
pub type Tamper = Box<dyn FnMut(&mut StepRecord)>;

pub struct Simulation {
    world: Arc<Mutex<World>>,
    time: Arc<AtomicI64>,
    client: Client<SimTransport>,
    core: Core,
    db: Db,
    rules: Vec<Rule>,
    cadence: Cadence,
    calls_per_15m: Option<u32>,
    gaps: Vec<(Time, Time)>,
    due: BTreeMap<Feed, Time>,
    /// Polls that the governor interrupted, with their beginning.
    rounds: BTreeMap<Feed, (Round, Time)>,
    turns: Turns,
    receivers: BTreeSet<Arc<str>>,
    fails_percent: u8,
    rng: fastrand::Rng,
    anchor: Time,
    trace: Sha256,
    sent: Vec<Sent>,
    steps: u64,
    pub tamper: Option<Tamper>,
}

impl Simulation {
    pub fn new(scenario: Scenario) -> Result<Self, SimulationError> {
        let Scenario { seed, world, start, rules, cadence, calls_per_15m, gaps, receiver_fails_percent } =
            scenario;
        let world = Arc::new(Mutex::new(world));
        let time = Arc::new(AtomicI64::new(start.millis()));
        let transport = SimTransport { world: world.clone(), time: time.clone() };
        let receivers =
            rules.iter().flat_map(|rule| &rule.receivers).map(|route| route.receiver.clone()).collect();
        let engine = Engine::new(rules.clone(), vec![Glob::new("*")], BTreeMap::new());
        let mut simulation = Self {
            client: Client::seeded(transport, calls_per_15m, Arc::new(NoMeter), seed),
            core: Core::new(Default::default(), engine),
            db: Db::in_memory()?,
            due: BTreeMap::new(),
            rounds: BTreeMap::new(),
            turns: Turns::default(),
            rng: fastrand::Rng::with_seed(seed),
            anchor: start,
            trace: Sha256::new(),
            sent: Vec::new(),
            steps: 0,
            tamper: None,
            fails_percent: receiver_fails_percent,
            world,
            time,
            rules,
            cadence,
            calls_per_15m,
            gaps,
            receivers,
        };
        simulation.begin(start);
        Ok(simulation)
    }

    /// Lets the watcher live until `end`.
    pub fn run_until(&mut self, end: Time) -> Result<(), SimulationError> {
        loop {
            let next = self.next();
            if next > end {
                return Ok(());
            }
            self.set_now(next);
            if let Some(until) = self.gap_at(next) {
                self.restart(until)?;
                continue;
            }
            for feed in Feed::ALL {
                if self.due.get(&feed).is_some_and(|due| *due <= next) {
                    self.poll(feed)?;
                }
            }
            self.step()?;
            self.pump()?;
        }
    }

    pub fn now(&self) -> Time {
        Time::from_millis(self.time.load(Ordering::Relaxed))
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn client(&self) -> &Client<SimTransport> {
        &self.client
    }

    pub fn core(&self) -> &Core {
        &self.core
    }

    /// In the order in which they were taken.
    pub fn sent(&self) -> &[Sent] {
        &self.sent
    }

    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// A digest of every record and every delivery so far: the same seed gives the same.
    pub fn trace(&self) -> String {
        self.trace.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Notices that no receiver has taken yet.
    pub fn waiting(&self) -> Result<u64, SimulationError> {
        Ok(self.db.outbox()?.values().map(|depth| depth.waiting).sum())
    }

    fn begin(&mut self, now: Time) {
        self.anchor = now;
        self.rounds.clear();
        self.turns = Turns::default();
        self.due =
            Feed::ALL.into_iter().filter(|feed| *feed != Feed::Detail).map(|feed| (feed, now)).collect();
        for feed in [Feed::Balance, Feed::Deployments] {
            if let Some(schedule) = self.cadence.of(feed) {
                self.core.expect(feed, schedule.max_interval(), now);
            }
        }
    }

    /// Down until then; afterwards a new process over the same store.
    fn restart(&mut self, until: Time) -> Result<(), SimulationError> {
        self.set_now(until);
        let recovered = self.db.recover()?;
        let engine = Engine::new(self.rules.clone(), vec![Glob::new("*")], recovered.alerts);
        self.core = Core::new(recovered.snapshot, engine);
        let transport = SimTransport { world: self.world.clone(), time: self.time.clone() };
        self.client = Client::seeded(transport, self.calls_per_15m, Arc::new(NoMeter), self.rng.u64(..));
        self.begin(until);
        Ok(())
    }

    fn gap_at(&self, now: Time) -> Option<Time> {
        self.gaps.iter().find(|(from, until)| (*from..*until).contains(&now)).map(|(_, until)| *until)
    }

    /// The next instant at which anything is due: a poll, a threshold in time, a retry.
    fn next(&self) -> Time {
        let now = self.now();
        let polls = self.due.values().copied();
        let wake = self.core.wake().map(|wake| wake.at);
        let retries = self.receivers.iter().filter_map(|receiver| self.db.next_due(receiver).ok().flatten());
        let next =
            polls.chain(wake).chain(retries).min().unwrap_or_else(|| now.plus(Duration::from_secs(60)));
        next.max(now.plus(Duration::from_millis(1)))
    }

    fn set_now(&self, now: Time) {
        self.time.store(now.millis(), Ordering::Relaxed);
    }

    fn poll(&mut self, feed: Feed) -> Result<(), SimulationError> {
        let Some(schedule) = self.cadence.of(feed).cloned() else {
            self.due.remove(&feed);
            return Ok(());
        };
        let (mut round, started) = self.rounds.remove(&feed).unwrap_or_else(|| {
            let (snapshot, now) = (self.core.snapshot(), self.now());
            let plan =
                if feed == Feed::Detail { self.turns.plan(snapshot, now) } else { Plan::new(feed, snapshot) };
            (Round::new(plan), now)
        });
        let observation = match ready(round.go(&self.client))? {
            Ok(observation) => observation,
            Err(why) => {
                self.core.hold(feed, why);
                self.rounds.insert(feed, (round, started));
                self.due.insert(feed, self.now().plus(HELD_RETRY));
                return Ok(());
            }
        };
        let now = self.now();
        let stretch = self.cadence.stretch(&self.client, feed, self.core.snapshot());
        let next = due(&schedule, &self.cadence.zone, started, now, self.anchor, stretch);
        self.due.insert(feed, next);
        if !observation.scopes.is_empty() {
            self.turns.note(&observation);
            self.core.absorb(&observation);
            self.core.expect(feed, next.since(started), observation.at);
        }
        if self.core.snapshot().vanished().is_empty() {
            self.due.remove(&Feed::Detail);
        } else if feed != Feed::Detail {
            self.due.entry(Feed::Detail).or_insert(now);
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), SimulationError> {
        let mut record = self.core.step(self.now());
        if let Some(tamper) = &mut self.tamper {
            tamper(&mut record);
        }
        if !record.is_empty() {
            self.trace.update(format!("{record:?}").as_bytes());
            self.db.commit(&record)?;
        }
        self.steps += 1;
        Ok(())
    }

    fn pump(&mut self) -> Result<(), SimulationError> {
        let now = self.now();
        for receiver in self.receivers.clone() {
            while let Some(row) = self.db.claim(&receiver, now)? {
                let delivery = if self.rng.u8(0..100) < self.fails_percent {
                    Delivery::Retry { why: "simulated".into(), after: None }
                } else {
                    self.trace.update(format!("{now} {receiver} {}", row.notice.id).as_bytes());
                    self.sent.push(Sent { at: now, receiver: receiver.clone(), notice: row.notice.clone() });
                    Delivery::Delivered { detail: "simulated".into() }
                };
                self.db.settle(row.seq, &receipt(&row, delivery, now, self.rng.f64()), now)?;
            }
        }
        Ok(())
    }
}

/// Polls once: everything in the simulation is there at once.
fn ready<F: Future>(future: F) -> Result<F::Output, SimulationError> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(SimulationError::NotReady),
    }
}

/// The simulated account as the client's network.
pub struct SimTransport {
    world: Arc<Mutex<World>>,
    time: Arc<AtomicI64>,
}

impl SimTransport {
    fn pass(&self, length: Duration) {
        self.time.fetch_add(i64::try_from(length.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }
}

impl Transport for SimTransport {
    fn now(&self) -> Time {
        Time::from_millis(self.time.load(Ordering::Relaxed))
    }

    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let query: Vec<String> = request.query.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let bearer = format!("Bearer {KEY}");
        let ask = Ask {
            method: request.method.as_str(),
            path: &request.path,
            query: &query.join("&"),
            authorization: Some(&bearer),
        };
        let answer = {
            let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
            world.answer(&ask, self.now())
        };
        match answer.conduct {
            Conduct::Whole | Conduct::Delay(_) | Conduct::Drip { .. } => match answer.takes() {
                Some(length) if length <= TIMEOUT => self.pass(length),
                Some(_) | None => {
                    self.pass(TIMEOUT);
                    return Err(SendError::Timeout);
                }
            },
            Conduct::Hang => {
                self.pass(TIMEOUT);
                return Err(SendError::Timeout);
            }
            Conduct::Reset | Conduct::Cut => return Err(SendError::Network("connection closed".into())),
        }
        if answer.body.len() > request.cap_bytes {
            return Err(SendError::TooLarge { cap_bytes: request.cap_bytes });
        }
        let mut headers = http::HeaderMap::new();
        for (name, value) in answer.headers {
            if let Ok(value) = http::HeaderValue::try_from(value) {
                headers.append(name, value);
            }
        }
        Ok(Response { status: answer.status, headers, body: Bytes::from(answer.body) })
    }

    async fn pause(&self, length: Duration) {
        self.pass(length);
    }
}
