//! The live loop: observations in, one step, one commit, readers and outbox told.
//!
//! It must never show or send what is not committed: while the database refuses, nothing new is taken in.

mod acting;
mod obey;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, Notify, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub use obey::{Control, Reload};

use acting::Actor;
use obey::Reply;

use super::{
    activity::{Activity, Batch, watched},
    core::Core,
    outbox::{Deliver, Pumps, Removed},
    outward::{Outward, Teller},
    poller::{Cadence, Pace, Polled, Pollers},
    questions::Questions,
    wishes::At,
};
use crate::{
    activity::Source,
    clock::Clock,
    engine::Engine,
    model::{Act, ActReceipt, Feed, Links, Meter, OutboxDepth, Snapshot, StepRecord, Time, View},
    schedule::{Jump, JumpDetector, Sample},
    spheron::{Client, Transport},
    store::{Store, StoreError},
};

/// Longest time without a step.
const NAP: Duration = Duration::from_secs(60);
/// How long to wait before a commit that failed is tried again.
const COMMIT_RETRY: Duration = Duration::from_secs(5);
/// How often delivered notices that are old enough are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
/// How long sends under way may take at shutdown, beyond their own deadline of 15 s.
const DRAIN: Duration = Duration::from_secs(20);

/// What the daemon tells its supervisor.
pub trait Heart: Send + Sync {
    /// The first poll was attempted.
    fn ready(&self);
    /// Progress: a step was taken and, where there was anything to commit, committed.
    fn beat(&self, view: &View);
}

#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    #[error("the database failed for good: {0}; see the log, then restart")]
    Store(#[from] StoreError),
    #[error("a task panicked: {0}; restart, and report what the log says")]
    Panic(String),
    #[error("a task ended that never should")]
    Ended,
}

/// All that the loop needs, constructed by `app`.
pub struct Live<T: Transport> {
    pub client: Arc<Client<T>>,
    pub store: Store,
    pub snapshot: Snapshot,
    pub engine: Engine,
    pub activity: Activity,
    pub receivers: Vec<Arc<dyn Deliver>>,
    pub outward: Outward,
    /// `None`: notices have no links.
    pub links: Option<Arc<dyn Links>>,
    pub cadence: Cadence,
    pub clock: Clock,
    pub meter: Arc<dyn Meter>,
    pub views: watch::Sender<Arc<View>>,
    pub control: mpsc::Receiver<Control>,
    pub questions: Questions,
    pub heart: Arc<dyn Heart>,
}

pub async fn run<T: Transport + 'static>(live: Live<T>, stop: CancellationToken) -> Result<(), LiveError> {
    let (cadence, cadences) = watch::channel(Arc::new(live.cadence));
    let (out, polled) = mpsc::channel(1);
    let nudge = Arc::new(Notify::new());
    let ((acts, mut receipts), ways) = acting::ways();
    let (client, store, clock) = (live.client.clone(), live.store.clone(), live.clock.clone());
    let actor = Actor { client, store, clock, patience: acting::ENDING };
    let pollers = Pollers {
        client: live.client,
        clock: live.clock.clone(),
        meter: live.meter.clone(),
        cadence: cadences,
        views: live.views.subscribe(),
        out,
        nudge: nudge.clone(),
    };
    let mut tasks = JoinSet::new();
    start_pollers(pollers, &mut tasks, &stop);
    let (asker, sources, samples) = live.activity.split();
    spawn(&mut tasks, asker.run(stop.clone()));
    spawn(&mut tasks, actor.run(ways, stop.clone()));
    let (outward, current) = watch::channel(Arc::new(live.outward));
    Teller {
        views: live.views.subscribe(),
        outward: current,
        clock: live.clock.clone(),
        meter: live.meter.clone(),
    }
    .start(&mut tasks, &stop);
    let mut running = Running {
        core: Core::new(live.snapshot, live.engine),
        jumps: JumpDetector::new(sample(&live.clock), live.clock.speed()),
        store: live.store,
        clock: live.clock,
        meter: live.meter,
        views: live.views,
        heart: live.heart,
        cadence,
        sources,
        outward,
        links: live.links,
        nudge,
        bell: Arc::new(Notify::new()),
        pumps_stop: stop.child_token(),
        names: Arc::default(),
        money_ends: watch::channel(None).0,
        pumped: BTreeSet::new(),
        turns: BTreeMap::new(),
        tasks,
        acts,
        heard: Arc::new(Notify::new()),
        replies: Vec::new(),
        pending: None,
        ready: false,
        pruned: Duration::ZERO,
    };
    running.expect_feeds();
    running.attend();
    running.start_pumps(live.receivers);
    let inlets = Inlets { polled, samples, receipts: &mut receipts };
    let result = running.run(inlets, (live.control, live.questions), &stop).await;
    stop.cancel();
    let result = running.finish_acts(result, &mut receipts).await;
    running.drain().await.and(result)
}

/// One that ends only with the daemon.
fn spawn(tasks: &mut Tasks, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        task.await;
        Ok(())
    });
}

fn start_pollers<T: Transport + 'static>(pollers: Pollers<T>, tasks: &mut Tasks, stop: &CancellationToken) {
    for feed in Feed::ALL {
        let (pollers, stop) = (pollers.clone(), stop.clone());
        tasks.spawn(async move {
            pollers.run(feed, stop).await;
            Ok(())
        });
    }
}

type Tasks = JoinSet<Result<(), StoreError>>;

/// Where facts come in.
struct Inlets<'a> {
    polled: mpsc::Receiver<Polled>,
    samples: mpsc::Receiver<Batch>,
    receipts: &'a mut mpsc::Receiver<ActReceipt>,
}

/// A record that the database has not taken yet, and who waits for it.
struct Uncommitted {
    record: Arc<StepRecord>,
    replies: Vec<Reply>,
}

struct Running {
    core: Core,
    jumps: JumpDetector,
    store: Store,
    clock: Clock,
    meter: Arc<dyn Meter>,
    views: watch::Sender<Arc<View>>,
    heart: Arc<dyn Heart>,
    cadence: watch::Sender<Arc<Cadence>>,
    sources: watch::Sender<Arc<Vec<Source>>>,
    outward: watch::Sender<Arc<Outward>>,
    links: Option<Arc<dyn Links>>,
    nudge: Arc<Notify>,
    bell: Arc<Notify>,
    pumps_stop: CancellationToken,
    /// Every configured receiver, in order.
    names: Arc<Vec<Arc<str>>>,
    /// When the first team's money ends.
    money_ends: watch::Sender<Option<Time>>,
    /// Every receiver that has a pump, configured or not.
    pumped: BTreeSet<Arc<str>>,
    /// Whose pump may send, of each receiver's.
    turns: BTreeMap<Arc<str>, Arc<Mutex<()>>>,
    tasks: Tasks,
    /// To the task that performs them.
    acts: mpsc::Sender<Act>,
    /// Rung when a receiver took a notice of a policy.
    heard: Arc<Notify>,
    /// To be said once the next step is committed.
    replies: Vec<Reply>,
    pending: Option<Uncommitted>,
    ready: bool,
    /// When old notices were last forgotten, in monotonic time.
    pruned: Duration,
}

impl Running {
    async fn run(
        &mut self,
        Inlets { mut polled, mut samples, receipts }: Inlets<'_>,
        (mut control, mut questions): (mpsc::Receiver<Control>, Questions),
        stop: &CancellationToken,
    ) -> Result<(), LiveError> {
        // What troubled a receiver before a restart troubles it still.
        self.look_after_itself().await;
        self.commit().await?;
        loop {
            let nap = self.nap();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(ended) = self.tasks.join_next() => outcome(ended, stop)?,
                Some(order) = control.recv() => self.obey(order, stop),
                Some(receipt) = receipts.recv(), if self.pending.is_none() => self.core.receive(receipt),
                () = self.heard.notified() => {}
                Some(first) = polled.recv(), if self.pending.is_none() => {
                    self.absorb(first);
                    while let Ok(more) = polled.try_recv() {
                        self.absorb(more);
                    }
                }
                Some(batch) = samples.recv(), if self.pending.is_none() => {
                    batch.iter().for_each(|sample| self.core.absorb_activity(sample));
                }
                Some(question) = questions.next() => {
                    questions.answer(question, &At(&self.core, self.clock.now()));
                }
                () = self.clock.sleep(nap) => {}
            }
            self.notice_jumps();
            self.look_after_itself().await;
            self.commit().await?;
        }
    }

    fn absorb(&mut self, polled: Polled) {
        match polled {
            Polled::Seen { observation, pace } => {
                self.core.absorb(&observation);
                self.core.expect(observation.feed, pace, observation.at);
            }
            Polled::Replanned { feed, pace } => self.core.expect(feed, pace, self.clock.now()),
            Polled::Held { feed, why } => self.core.hold(feed, why),
        }
        if !self.ready {
            self.ready = true;
            self.heart.ready();
        }
    }

    /// Until time alone may change something.
    fn nap(&self) -> Duration {
        if self.pending.is_some() {
            return COMMIT_RETRY;
        }
        // Ordered while an older record waited.
        if !self.replies.is_empty() {
            return Duration::ZERO;
        }
        let wake = self.core.wake().map(|wake| wake.at.since(self.clock.now()));
        wake.map_or(NAP, |left| left.clamp(Duration::from_millis(1), NAP))
    }

    /// One step and its commit. A record that is refused is kept and tried again; nothing new is taken in meanwhile.
    async fn commit(&mut self) -> Result<(), LiveError> {
        let now = self.clock.now();
        let Uncommitted { record, replies } = match self.pending.take() {
            Some(pending) => pending,
            None => {
                let record = Arc::new(self.core.step(now));
                Uncommitted { record, replies: std::mem::take(&mut self.replies) }
            }
        };
        if !record.is_empty() {
            match self.store.commit(record.clone()).await {
                Ok(()) => {}
                Err(error) if error.is_fatal() => return Err(error.into()),
                Err(error) => {
                    tracing::error!(%error, "cannot commit; nothing is lost, trying again in {}s", COMMIT_RETRY.as_secs());
                    self.pending = Some(Uncommitted { record, replies });
                    return Ok(());
                }
            }
            if !record.notices.is_empty() {
                self.bell.notify_waiters();
            }
        }
        self.hand_out_acts();
        self.publish().await;
        replies.into_iter().for_each(|reply| reply());
        self.prune(now).await;
        Ok(())
    }

    async fn prune(&mut self, now: Time) {
        if self.clock.monotonic().saturating_sub(self.pruned) < PRUNE_EVERY {
            return;
        }
        self.pruned = self.clock.monotonic();
        // A batch an hour: what is left has its turn in the next.
        if let Err(error) = self.store.prune(now).await {
            tracing::warn!(%error, "old notices could not be forgotten; trying again in an hour");
        }
    }

    /// The daemon's own state is judged like the account's.
    async fn look_after_itself(&mut self) {
        let Ok(outbox) = self.store.outbox().await else { return };
        let configured = outbox.into_iter().filter(|(name, _)| self.names.contains(name));
        let troubles = configured.filter_map(|(name, depth)| Some((name, depth.trouble?))).collect();
        if let Ok(heard) = self.store.heard().await {
            self.core.hear(heard);
        }
        let free = self.store.free_bytes().await.unwrap_or_default();
        self.core.look_after_itself(troubles, free);
    }

    async fn publish(&mut self) {
        let mut view = self.core.view(self.clock.now(), &self.views.borrow());
        view.receivers = self.names.clone();
        match self.store.outbox().await {
            Ok(outbox) => {
                self.adopt_orphans(&outbox);
                view.outbox = outbox;
                view.outbox_at = view.at;
            }
            Err(error) => tracing::warn!(%error, "the outbox could not be counted; the last counts stay"),
        }
        view.database_bytes = self.store.size_bytes().await.unwrap_or(view.database_bytes);
        self.money_ends.send_replace(self.core.money_ends());
        self.heart.beat(&view);
        self.views.send_replace(Arc::new(view));
    }

    /// The vital feeds are late if they never speak, so they are expected from the start.
    fn expect_feeds(&mut self) {
        let cadence = self.cadence.borrow().clone();
        for feed in [Feed::Balance, Feed::Deployments] {
            if let Some(schedule) = cadence.of(feed) {
                self.core.expect(feed, Pace::of(schedule), self.clock.now());
            }
        }
    }

    fn attend(&mut self) {
        let sources = watched(&self.sources.borrow());
        self.core.attend(sources, self.clock.now());
    }

    fn start_pumps(&mut self, receivers: Vec<Arc<dyn Deliver>>) {
        self.names = Arc::new(receivers.iter().map(|receiver| receiver.name().clone()).collect());
        self.pumped.clear();
        for receiver in receivers {
            self.start_pump(receiver);
        }
    }

    fn start_pump(&mut self, receiver: Arc<dyn Deliver>) {
        self.pumped.insert(receiver.name().clone());
        let pumps = Pumps {
            store: self.store.clone(),
            clock: self.clock.clone(),
            meter: self.meter.clone(),
            bell: self.bell.clone(),
            heard: self.heard.clone(),
            names: self.names.clone(),
            links: self.links.clone(),
            money_ends: self.money_ends.subscribe(),
        };
        let (stop, turn) = (self.pumps_stop.clone(), self.turns.entry(receiver.name().clone()).or_default());
        let turn = turn.clone();
        self.tasks.spawn(async move {
            // The pump of before a reload finishes its send first: never two at once.
            let _turn = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                turn = turn.lock_owned() => turn,
            };
            pumps.run(receiver, stop).await
        });
    }

    /// What waits for a receiver that the configuration no longer has goes to another one.
    fn adopt_orphans(&mut self, outbox: &BTreeMap<Arc<str>, OutboxDepth>) {
        let orphans: Vec<Arc<str>> = outbox
            .iter()
            .filter(|(name, depth)| depth.waiting > 0 && !self.pumped.contains(*name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in orphans {
            tracing::warn!(receiver = %name, "no longer configured; what waits for it goes to another receiver");
            self.start_pump(Arc::new(Removed(name)));
        }
    }

    fn notice_jumps(&mut self) {
        for jump in self.jumps.observe(sample(&self.clock)) {
            match jump {
                Jump::Suspended(length) => {
                    tracing::warn!("the machine slept for {}s; polling now", length.as_secs());
                }
                Jump::Stepped(ms) => tracing::warn!("the wall clock was set by {ms} ms; polling now"),
            }
            self.core.leapt(self.clock.now());
            self.nudge.notify_waiters();
        }
    }

    fn log_summary(&self) {
        let snapshot = self.core.snapshot();
        let live = snapshot.deployments.values().filter(|tracked| tracked.is_live()).count();
        let burn: crate::model::Usd = snapshot.teams.keys().map(|team| snapshot.burn_per_hour(team)).sum();
        tracing::info!(
            teams = snapshot.teams.len(),
            deployments = snapshot.deployments.len(),
            live,
            volumes = snapshot.volumes.len(),
            burn = %burn,
            firing = self.views.borrow().firing.len(),
            held = self.core.held(self.clock.now()).len(),
            "summary"
        );
    }

    /// Sends under way finish; the writer's last commit is awaited by its owner.
    async fn drain(&mut self) -> Result<(), LiveError> {
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                outcome(ended, &CancellationToken::new()).or_else(|error| match error {
                    LiveError::Ended => Ok(()),
                    LiveError::Store(_) | LiveError::Panic(_) => Err(error),
                })?;
            }
            Ok(())
        };
        if let Some(result) = within(DRAIN, all).await {
            return result;
        }
        tracing::warn!("sends under way were cut short; they will be repeated with the same id");
        Ok(())
    }
}

/// Real time, also in the demo: sockets know no other.
async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}

/// A task that panicked ends the process, so that it is restarted whole (FAULTS 83).
fn outcome(
    ended: Result<Result<(), StoreError>, tokio::task::JoinError>,
    stop: &CancellationToken,
) -> Result<(), LiveError> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(error) if error.is_panic() => Err(LiveError::Panic(error.to_string())),
        Err(_) if stop.is_cancelled() => Ok(()),
        Err(_) => Err(LiveError::Ended),
    }
}

fn sample(clock: &Clock) -> Sample {
    Sample { monotonic: clock.monotonic(), boottime: clock.boottime(), wall: clock.now() }
}
