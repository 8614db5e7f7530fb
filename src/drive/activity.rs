//! Asks every activity source of every deployment that it watches, in its own time, and hands on what they say in batches.
//!
//! It must never ask more than a few at once, pile up, or stay silent for a source that has fallen silent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::heartbeats::Heartbeats;
use crate::{
    activity::{Kind, Measured, Prober, Source, Used, growth},
    clock::Clock,
    model::{ActivitySample, ActivitySource, DeploymentId, Time, Tracked, View, activity::longest_gap},
};

/// How many are asked at the same time.
const AT_ONCE: usize = 8;
/// Samples wait this long for others: each batch is a step and a commit.
const GATHER: Duration = Duration::from_secs(1);
/// Longest sleep.
const NAP: Duration = Duration::from_secs(60);
/// Batches that may wait for the loop.
const BATCHES: usize = 4;

pub type Batch = Vec<ActivitySample>;

/// All that measures activity; `app` constructs it, the live loop runs it.
pub struct Activity {
    asker: Asker,
    sources: watch::Sender<Arc<Vec<Source>>>,
    samples: mpsc::Receiver<Batch>,
}

impl Activity {
    /// With it the place where heartbeats go in.
    pub fn new(
        sources: Vec<Source>,
        prober: Prober,
        clock: Clock,
        views: watch::Receiver<Arc<View>>,
    ) -> (Self, Arc<Heartbeats>) {
        let (sources, current) = watch::channel(Arc::new(sources));
        let (out, samples) = mpsc::channel(BATCHES);
        let heartbeats =
            Arc::new(Heartbeats::new(current.clone(), views.clone(), out.clone(), clock.clone()));
        let asker = Asker {
            sources: current,
            views,
            out,
            heartbeats: heartbeats.clone(),
            prober: Arc::new(prober),
            clock,
        };
        (Self { asker, sources, samples }, heartbeats)
    }

    pub(super) fn split(self) -> (Asker, watch::Sender<Arc<Vec<Source>>>, mpsc::Receiver<Batch>) {
        (self.asker, self.sources, self.samples)
    }
}

/// What evidence is kept for.
pub(super) fn watched(sources: &[Source]) -> Vec<ActivitySource> {
    sources.iter().map(|source| source.watch.clone()).collect()
}

/// One source's watch, under its present settings, over one identity of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    source: Arc<str>,
    settings: Arc<str>,
    deployment: DeploymentId,
    created_at: Time,
}

struct Job {
    /// In monotonic time.
    due: Duration,
    asking: bool,
    since: Time,
    used: Used,
}

pub(super) struct Asker {
    sources: watch::Receiver<Arc<Vec<Source>>>,
    views: watch::Receiver<Arc<View>>,
    out: mpsc::Sender<Batch>,
    heartbeats: Arc<Heartbeats>,
    prober: Arc<Prober>,
    clock: Clock,
}

type Asking = JoinSet<(Target, ActivitySample)>;

impl Asker {
    pub(super) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.ask_forever() => {}
        }
    }

    async fn ask_forever(&mut self) {
        let mut jobs: BTreeMap<Target, Job> = BTreeMap::new();
        let mut asking = Asking::new();
        let mut batch = Batch::new();
        let mut flush = Duration::ZERO;
        self.reconcile(&mut jobs);
        loop {
            self.launch(&mut jobs, &mut asking, &mut batch);
            let now = self.clock.monotonic();
            if batch.is_empty() {
                flush = now.saturating_add(GATHER);
            } else if now >= flush && self.out.send(std::mem::take(&mut batch)).await.is_err() {
                return;
            }
            let waiting =
                jobs.values().filter(|job| !job.asking && asking.len() < AT_ONCE).map(|job| job.due);
            let wake = waiting.chain((!batch.is_empty()).then_some(flush)).min();
            let nap = wake.map_or(NAP, |at| at.saturating_sub(now).clamp(Duration::from_millis(1), NAP));
            tokio::select! {
                biased;
                Some(done) = asking.join_next() => enter(done, &mut jobs, &mut batch),
                changed = self.views.changed() => match changed {
                    Ok(()) => self.reconcile(&mut jobs),
                    Err(_) => return,
                },
                changed = self.sources.changed() => match changed {
                    Ok(()) => self.reconcile(&mut jobs),
                    Err(_) => return,
                },
                () = self.clock.sleep(nap) => {}
            }
        }
    }

    /// There is a job for each running deployment and each source that watches it. A new one begins at a time of its own, so
    /// that a fleet is not asked at once.
    fn reconcile(&mut self, jobs: &mut BTreeMap<Target, Job>) {
        let (sources, view) =
            (self.sources.borrow_and_update().clone(), self.views.borrow_and_update().clone());
        let snapshot = &view.snapshot;
        let mut wanted = BTreeSet::new();
        for tracked in snapshot.deployments.values() {
            let team = snapshot.teams.get(&tracked.deployment.team).map_or("", |team| &team.name);
            for source in sources.iter().filter(|source| source.watch.watches(tracked, team)) {
                let target = target(source, tracked);
                jobs.entry(target.clone()).or_insert_with(|| Job {
                    due: self.clock.monotonic().saturating_add(source.watch.every.mul_f64(fastrand::f64())),
                    asking: false,
                    since: self.clock.now(),
                    used: Used::new(),
                });
                wanted.insert(target);
            }
        }
        jobs.retain(|target, _| wanted.contains(target));
        self.heartbeats.forget_all_but(|id| wanted.iter().any(|target| target.deployment == *id));
    }

    fn launch(&self, jobs: &mut BTreeMap<Target, Job>, asking: &mut Asking, batch: &mut Batch) {
        let (sources, view) = (self.sources.borrow().clone(), self.views.borrow().clone());
        let now = self.clock.monotonic();
        let mut due: Vec<(&Target, &mut Job)> =
            jobs.iter_mut().filter(|(_, job)| !job.asking && job.due <= now).collect();
        due.sort_by_key(|(_, job)| job.due);
        for (target, job) in due {
            let source = sources.iter().find(|source| source.watch.name == target.source);
            let tracked = view.snapshot.deployments.get(&target.deployment);
            let (Some(source), Some(tracked)) = (source, tracked) else { continue };
            let every = source.watch.every;
            let told = match source.kind {
                Kind::Prometheus { .. } | Kind::Ssh { .. } | Kind::Promql { .. }
                    if asking.len() >= AT_ONCE =>
                {
                    continue;
                }
                Kind::Prometheus { .. } | Kind::Ssh { .. } | Kind::Promql { .. } => {
                    job.asking = true;
                    asking.spawn(ask(
                        self.prober.clone(),
                        self.clock.clone(),
                        source.clone(),
                        tracked.clone(),
                    ));
                    None
                }
                Kind::Heartbeat { .. } => self.silence(source, target, job.since),
                Kind::VolumeGrowth => {
                    Some(growth(&view.snapshot, &target.deployment, every, self.clock.now(), &mut job.used))
                }
            };
            batch.extend(told.map(|measured| sample(source, &target.deployment, self.clock.now(), measured)));
            // Missed turns are skipped, not made up for.
            let missed = now.saturating_sub(job.due).as_millis() / every.as_millis().max(1);
            let turns = u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1);
            job.due = job.due.saturating_add(every.saturating_mul(turns));
        }
    }

    /// A heartbeat that does not come is unknown.
    fn silence(&self, source: &Source, target: &Target, since: Time) -> Option<Measured> {
        let last = self.heartbeats.last(&target.source, &target.deployment).unwrap_or(since).max(since);
        let silent = self.clock.now().since(last);
        (silent > longest_gap(source.watch.every))
            .then(|| Measured::unknown(format!("no heartbeat since {last}")))
    }
}

fn target(source: &Source, tracked: &Tracked) -> Target {
    Target {
        source: source.watch.name.clone(),
        settings: source.watch.settings.clone(),
        deployment: tracked.deployment.id.clone(),
        created_at: tracked.deployment.created_at,
    }
}

async fn ask(
    prober: Arc<Prober>,
    clock: Clock,
    source: Source,
    tracked: Arc<Tracked>,
) -> (Target, ActivitySample) {
    let measured = prober.measure(&source, &tracked.deployment).await;
    let measured = measured.unwrap_or_else(|| Measured::unknown("this source cannot be asked".to_owned()));
    (target(&source, &tracked), sample(&source, &tracked.deployment.id, clock.now(), measured))
}

pub(super) fn sample(
    source: &Source,
    deployment: &DeploymentId,
    at: Time,
    measured: Measured,
) -> ActivitySample {
    ActivitySample {
        deployment: deployment.clone(),
        source: source.watch.name.clone(),
        at,
        every: source.watch.every,
        reading: measured.reading,
        utilization_permille: measured.utilization_permille,
        settings: source.watch.settings.clone(),
    }
}

/// A panic goes on here: it must end the process (FAULTS 83).
fn enter(
    done: Result<(Target, ActivitySample), JoinError>,
    jobs: &mut BTreeMap<Target, Job>,
    batch: &mut Batch,
) {
    match done {
        Ok((target, sample)) => {
            // One that was let go of meanwhile says nothing of what is: its id may be another identity's by now.
            if let Some(job) = jobs.get_mut(&target) {
                job.asking = false;
                batch.push(sample);
            }
        }
        Err(error) => {
            if let Ok(panic) = error.try_into_panic() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[cfg(test)]
mod tests;
