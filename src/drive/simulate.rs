//! The same core, client and store as live, against the simulated account, with time as a variable: months in seconds.
//!
//! It must never need a runtime or a socket: the simulated account answers at once, and futures are polled exactly once.

mod acts;
mod mail;
mod mishap;
mod network;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::pin,
    sync::{Arc, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use sha2::{Digest, Sha256};

use mishap::Activity;
use network::{Network, SimTransport};

pub use mishap::{Measure, Mishap};

use super::{
    core::Core,
    observe::Plan,
    outbox::receipt,
    poller::{Cadence, Pace, Past},
    round::{Done, Interrupted, Round, Turns},
};
use crate::{
    engine::{Engine, Money},
    model::{
        Act, ActReceipt, Books, DeploymentId, Feed, Glob, Grouping, NoMeter, Notice, Policies, Rule, Scope,
        StepRecord, Time, outbox::LOG,
    },
    sim::{Identity, World},
    spheron::{Client, Endpoint},
    store::{Db, Intent, StoreError},
};

/// How long a feed that may not speak waits, as live.
const HELD_RETRY: Duration = Duration::from_secs(15);
/// Who asks first where several are due, as live: the balance names the teams, the inventory tells whether one list covers all.
const ORDER: [Feed; 6] =
    [Feed::Balance, Feed::Inventory, Feed::Deployments, Feed::Detail, Feed::Volumes, Feed::Offers];

/// What is simulated.
pub struct Scenario {
    pub seed: u64,
    pub world: World,
    pub start: Time,
    pub rules: Vec<Rule>,
    pub grouping: Grouping,
    pub cadence: Cadence,
    pub calls_per_15m: Option<u32>,
    /// When the watcher is not running: it dies at work, before it could commit, and restarts from its store.
    pub gaps: Vec<(Time, Time)>,
    /// How often of a hundred a receiver fails to take a notice.
    pub receiver_fails_percent: u8,
}

/// A notice that a receiver took; a group counts as its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub at: Time,
    pub receiver: Arc<str>,
    pub notice: Notice,
}

/// A poll as the network saw it, whatever the watcher made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub feed: Feed,
    pub scopes: Vec<Scope>,
    pub from: Time,
    pub until: Time,
    /// How many calls went out.
    pub calls: usize,
    /// How many answers came in time and were 200.
    pub answered: usize,
    /// Every scope was asked, and every answer came in time, was 200 and the truth.
    pub honest: bool,
    /// Some answer was 401.
    pub refused: bool,
}

/// A call about one deployment, as the network saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// In truth, and by our clock.
    pub at: Time,
    pub ours: Time,
    pub endpoint: Endpoint,
    pub id: DeploymentId,
    /// What it truly was just before the call.
    pub truth: Option<Identity>,
    /// `None`: no answer came in time.
    pub status: Option<u16>,
    /// No fault touched the answer.
    pub honest: bool,
    pub body: Arc<str>,
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

pub type Meddle = Box<dyn FnMut(&mut Vec<Act>)>;

pub type Mishear = Box<dyn FnMut(&mut ActReceipt)>;

pub struct Simulation {
    network: Arc<Network>,
    client: Client<SimTransport>,
    core: Core,
    db: Db,
    rules: Vec<Rule>,
    grouping: Grouping,
    cadence: Cadence,
    calls_per_15m: Option<u32>,
    gaps: Vec<(Time, Time)>,
    due: BTreeMap<Feed, Time>,
    rounds: BTreeMap<Feed, UnderWay>,
    /// When the last poll of each was.
    past: BTreeMap<Feed, Past>,
    /// What the API granted when last looked at.
    grants: u32,
    turns: Turns,
    /// Each receiver, and when its next row is due.
    receivers: BTreeMap<Arc<str>, Option<Time>>,
    fails_percent: u8,
    rng: fastrand::Rng,
    anchor: Time,
    trace: Sha256,
    sent: Vec<Sent>,
    asked: Vec<Asked>,
    pub tamper: Option<Tamper>,
    policies: Policies,
    /// A bug planted between the decisions and those who perform them.
    pub meddle: Option<Meddle>,
    /// A bug planted between what came of an act and the core.
    pub mishear: Option<Mishear>,
    /// A bug planted in the receivers: what they confirm and nobody gets.
    pub loses: Option<fn(&Notice) -> bool>,
    /// How often of a hundred the process dies over an act: before it is performed, before anybody hears of it, or before what
    /// was decided on it is committed.
    pub dies_percent: u8,
    /// How often of a hundred the machine sleeps for an hour or two before an act.
    pub sleeps_percent: u8,
    /// When every receiver fails, in truth.
    pub down: Vec<(Time, Time)>,
    /// What befalls the machine, by its time in truth.
    pub mishaps: Vec<(Time, Mishap)>,
    befallen: usize,
    activity: Option<Activity>,
    intents: Vec<(Time, Intent)>,
}

/// A poll that the governor may interrupt.
struct UnderWay {
    /// In truth, and by our clock.
    began: Time,
    from: Time,
    scopes: Vec<Scope>,
    round: Round,
}

impl Simulation {
    pub fn new(scenario: Scenario) -> Result<Self, SimulationError> {
        let Scenario {
            seed,
            world,
            start,
            rules,
            grouping,
            cadence,
            calls_per_15m,
            gaps,
            receiver_fails_percent,
        } = scenario;
        let network = Arc::new(Network::new(world, start));
        let routes = rules.iter().flat_map(|rule| &rule.receivers);
        let receivers: BTreeSet<Arc<str>> = routes.map(|route| route.receiver.clone()).collect();
        let mut engine = Engine::new(
            rules.clone(),
            vec![Glob::new("*")],
            Money::new(cadence.zone.clone(), Books::default()),
            BTreeMap::new(),
        );
        engine.regroup(grouping.clone());
        let transport = SimTransport(network.clone());
        let mut simulation = Self {
            client: Client::seeded(transport, calls_per_15m, Arc::new(NoMeter), seed),
            core: Core::new(Default::default(), engine),
            db: Db::in_memory()?,
            due: BTreeMap::new(),
            rounds: BTreeMap::new(),
            past: BTreeMap::new(),
            grants: 0,
            turns: Turns::default(),
            rng: fastrand::Rng::with_seed(seed),
            anchor: start,
            trace: Sha256::new(),
            sent: Vec::new(),
            asked: Vec::new(),
            tamper: None,
            policies: Policies::default(),
            meddle: None,
            mishear: None,
            loses: None,
            dies_percent: 0,
            sleeps_percent: 0,
            down: Vec::new(),
            mishaps: Vec::new(),
            befallen: 0,
            activity: None,
            intents: Vec::new(),
            fails_percent: receiver_fails_percent,
            receivers: receivers.into_iter().map(|name| (name, None)).collect(),
            network,
            rules,
            grouping,
            cadence,
            calls_per_15m,
            gaps,
        };
        simulation.begin(start);
        Ok(simulation)
    }

    /// Lets the watcher live until `end`, in truth.
    pub fn run_until(&mut self, end: Time) -> Result<(), SimulationError> {
        loop {
            let next = self.network.in_truth(self.next());
            if self.befalls(next.min(end))? {
                continue;
            }
            if next > end {
                return Ok(());
            }
            self.network.set_true(next);
            if let Some(until) = self.gap_at(next) {
                self.die()?;
                self.restart(until)?;
                continue;
            }
            self.measure();
            let (now, mut stepped) = (self.now(), false);
            for feed in ORDER {
                if self.is_due(feed, now) && self.poll(feed)? {
                    self.step()?;
                    stepped = true;
                }
            }
            if !stepped {
                self.step()?;
            }
        }
    }

    /// By the watcher's clock.
    pub fn now(&self) -> Time {
        self.network.now()
    }
    pub fn truly(&self) -> Time {
        self.network.truly()
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.network.world()
    }

    /// Makes a call as the watcher would.
    pub fn ask<'s, F: Future>(
        &'s self,
        call: impl FnOnce(&'s Client<SimTransport>) -> F,
    ) -> Result<F::Output, SimulationError> {
        ready(call(&self.client))
    }

    pub fn core(&self) -> &Core {
        &self.core
    }

    /// What may be ended from now on, by whom told.
    pub fn govern(&mut self, policies: Policies) {
        let names = policies.policies.iter().flat_map(|policy| policy.receivers.iter().cloned());
        for name in names.chain([LOG.into()]) {
            self.receivers.entry(name).or_default();
        }
        self.policies = policies.clone();
        self.core.govern(policies);
    }

    /// A person orders something, which is committed at once.
    pub fn order<R>(&mut self, order: impl FnOnce(&mut Core, Time) -> R) -> Result<R, SimulationError> {
        let now = self.now();
        let said = order(&mut self.core, now);
        self.step()?;
        Ok(said)
    }

    /// In the order in which they were taken.
    pub fn sent(&self) -> &[Sent] {
        &self.sent
    }

    /// Every poll that was not held back.
    pub fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// Every call about one deployment.
    pub fn called(&self) -> Vec<Called> {
        self.network.called().clone()
    }

    /// Every intent that the store took, with when it did in truth.
    pub fn intents(&self) -> &[(Time, Intent)] {
        &self.intents
    }

    /// A digest of every record and every delivery so far: the same seed gives the same.
    pub fn trace(&self) -> String {
        self.trace.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What another process would start from.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Notices that no receiver has taken yet.
    pub fn waiting(&self) -> Result<u64, SimulationError> {
        Ok(self.db.outbox()?.values().map(|depth| depth.waiting).sum())
    }

    fn begin(&mut self, now: Time) {
        self.anchor = now;
        self.rounds.clear();
        self.past.clear();
        self.grants = *self.client.grants().borrow();
        self.turns = Turns::default();
        self.due = ORDER.map(|feed| (feed, now)).into();
        for feed in [Feed::Balance, Feed::Deployments] {
            if let Some(schedule) = self.cadence.of(feed) {
                self.core.expect(feed, Pace::of(schedule), now);
            }
        }
    }

    /// Asks and decides, and takes what it decided to its grave.
    fn die(&mut self) -> Result<(), SimulationError> {
        let (now, asked) = (self.now(), self.asked.len());
        for feed in ORDER {
            if self.is_due(feed, now) {
                self.poll(feed)?;
            }
        }
        self.asked.truncate(asked);
        drop(self.core.step(self.now()));
        Ok(())
    }

    /// A new process over the same store, at a time in truth.
    fn restart(&mut self, at: Time) -> Result<(), SimulationError> {
        self.network.set_true(at.max(self.truly()));
        let recovered = self.db.recover()?;
        let mut engine = Engine::new(
            self.rules.clone(),
            vec![Glob::new("*")],
            Money::new(self.cadence.zone.clone(), recovered.books),
            recovered.alerts,
        )
        .resume(recovered.groups, recovered.polls)
        .with_policies(self.policies.clone(), recovered.actions);
        engine.regroup(self.grouping.clone());
        self.core = Core::new(recovered.snapshot, engine);
        let transport = SimTransport(self.network.clone());
        self.client = Client::seeded(transport, self.calls_per_15m, Arc::new(NoMeter), self.rng.u64(..));
        self.begin(self.now());
        self.attend_again();
        self.step()
    }

    fn gap_at(&self, now: Time) -> Option<Time> {
        self.gaps.iter().find(|(from, until)| (*from..*until).contains(&now)).map(|(_, until)| *until)
    }

    fn is_due(&self, feed: Feed, now: Time) -> bool {
        let wanted = feed != Feed::Detail || !self.core.snapshot().vanished().is_empty();
        wanted && self.due.get(&feed).is_some_and(|due| *due <= now)
    }

    /// The next instant at which anything is due: a poll, a threshold in time, a retry.
    fn next(&self) -> Time {
        let now = self.now();
        let vanished = !self.core.snapshot().vanished().is_empty();
        let polls = self.due.iter().filter(|(feed, _)| vanished || **feed != Feed::Detail);
        let polls = polls.map(|(_, due)| *due);
        let wake = self.core.wake().map(|wake| wake.at);
        let rows = self.receivers.values().copied().flatten();
        let activity = self.activity.iter().map(|activity| activity.due);
        let next = polls.chain(wake).chain(rows).chain(activity).min();
        let nap = now.plus(Duration::from_secs(60));
        // As live, it never sleeps longer by a clock that may be set.
        let latest = if self.network.is_clock_right() { next.unwrap_or(nap) } else { nap };
        next.unwrap_or(nap).min(latest).max(now.plus(Duration::from_millis(1)))
    }

    /// One poll; whether it took place.
    fn poll(&mut self, feed: Feed) -> Result<bool, SimulationError> {
        if self.cadence.of(feed).is_none() {
            self.due.remove(&feed);
            return Ok(false);
        }
        let mut under_way = self.rounds.remove(&feed).unwrap_or_else(|| self.new_round(feed));
        let Done { observation, asked } = match ready(under_way.round.go(&self.client))? {
            Ok(done) => done,
            Err(Interrupted { so_far, why }) => {
                let stepped = so_far.is_some();
                if let Some(observation) = so_far {
                    self.turns.note(&observation);
                    self.core.absorb(&observation);
                }
                self.core.hold(feed, why);
                self.rounds.insert(feed, under_way);
                self.due.insert(feed, self.now().plus(HELD_RETRY));
                return Ok(stepped);
            }
        };
        let UnderWay { began, from, scopes, .. } = under_way;
        let ended = self.now();
        self.past.insert(feed, Past { started: from, asked, ended });
        let heard = !observation.scopes.is_empty();
        if heard {
            self.turns.note(&observation);
            self.core.absorb(&observation);
        }
        self.plan(feed, heard);
        self.replan();
        if !heard {
            return Ok(false);
        }
        self.asked.push(self.network.end_poll(feed, scopes, began));
        Ok(true)
    }

    /// When the feed is due, and at which pace, after its last poll.
    fn plan(&mut self, feed: Feed, heard: bool) {
        let Some(past) = self.past.get(&feed) else { return };
        let next = self.cadence.next(&self.client, feed, self.core.snapshot(), *past, self.anchor);
        let Some((at, pace)) = next else { return };
        self.due.insert(feed, at);
        if heard {
            self.core.expect(feed, pace, self.now());
        }
    }

    /// As live, who waits plans anew when the API grants another number of calls.
    fn replan(&mut self) {
        let grants = *self.client.grants().borrow();
        if std::mem::replace(&mut self.grants, grants) == grants {
            return;
        }
        let waiting = self.past.keys().filter(|feed| !self.rounds.contains_key(feed));
        for feed in waiting.copied().collect::<Vec<_>>() {
            self.plan(feed, self.core.snapshot().feeds.contains_key(&feed));
        }
    }

    fn new_round(&mut self, feed: Feed) -> UnderWay {
        let (snapshot, from) = (self.core.snapshot(), self.now());
        let plan =
            if feed == Feed::Detail { self.turns.plan(snapshot, from) } else { Plan::new(feed, snapshot) };
        self.network.begin_poll();
        UnderWay { began: self.truly(), from, scopes: plan.scopes.clone(), round: Round::new(plan) }
    }
}

/// Polls once: everything in the simulation is there at once.
fn ready<F: Future>(future: F) -> Result<F::Output, SimulationError> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(SimulationError::NotReady),
    }
}

#[cfg(test)]
mod tests;
