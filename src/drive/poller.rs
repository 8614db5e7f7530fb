//! One task per feed: waits for its schedule, asks the API, hands one observation on.
//!
//! It must never pile up: the queue holds one observation, and ticks that were missed are skipped (FAULTS 46).

use std::{sync::Arc, time::Duration};

use jiff::tz::TimeZone;
use tokio::sync::{Notify, futures::OwnedNotified, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::observe::{Plan, observe};
use crate::{
    clock::Clock,
    model::{FailureKind, Feed, Meter, Observation, Outcome, Snapshot, Time, View},
    schedule::Schedule,
    spheron::{Client, Transport},
};

/// Longest sleep, so that a step of the wall clock is seen.
const NAP: Duration = Duration::from_secs(60);
/// How long one feed waits for another's first word.
const FIRST_WORD_MAX: Duration = Duration::from_secs(20);
/// How long a feed that may not speak waits before it asks the governor again.
const HELD_RETRY: Duration = Duration::from_secs(15);

/// When each feed is polled.
#[derive(Debug, Clone)]
pub struct Cadence {
    pub zone: TimeZone,
    pub balance: Schedule,
    pub deployments: Schedule,
    pub inventory: Schedule,
    pub volumes: Schedule,
    /// `None`: off.
    pub offers: Option<Schedule>,
}

impl Cadence {
    pub fn of(&self, feed: Feed) -> Option<&Schedule> {
        match feed {
            Feed::Balance => Some(&self.balance),
            // Vanished deployments are asked after at the pace of the list that lacked them.
            Feed::Deployments | Feed::Detail => Some(&self.deployments),
            Feed::Inventory => Some(&self.inventory),
            Feed::Volumes => Some(&self.volumes),
            Feed::Offers => self.offers.as_ref(),
        }
    }

    /// Calls per 15 minutes that the schedule needs for what is known of the account.
    pub fn planned_calls(&self, snapshot: &Snapshot) -> f64 {
        let calls = |feed: Feed| {
            let calls = match feed {
                Feed::Offers => pages(snapshot.offers.len(), 100),
                Feed::Volumes => {
                    Plan::new(feed, snapshot).scopes.len().max(pages(snapshot.volumes.len(), 100))
                }
                Feed::Balance | Feed::Deployments | Feed::Detail | Feed::Inventory => {
                    Plan::new(feed, snapshot).scopes.len()
                }
            };
            #[allow(clippy::cast_precision_loss, reason = "a count of calls, far below 2⁵²")]
            self.of(feed).map_or(0.0, |schedule| schedule.calls_per_15m(calls as f64))
        };
        Feed::ALL.into_iter().map(calls).sum()
    }
}

fn pages(items: usize, per_page: usize) -> usize {
    items.div_ceil(per_page).max(1)
}

/// What a poller hands on.
pub struct Polled {
    pub observation: Observation,
    /// How long until the next one, as the governor stretches the schedule.
    pub interval: Duration,
}

/// What every poller shares.
pub struct Pollers<T: Transport> {
    pub client: Arc<Client<T>>,
    pub clock: Clock,
    pub meter: Arc<dyn Meter>,
    pub cadence: watch::Receiver<Arc<Cadence>>,
    pub views: watch::Receiver<Arc<View>>,
    pub out: mpsc::Sender<Polled>,
    /// Rung after a suspension or a reload: poll now.
    pub nudge: Arc<Notify>,
}

impl<T: Transport> Clone for Pollers<T> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            clock: self.clock.clone(),
            meter: self.meter.clone(),
            cadence: self.cadence.clone(),
            views: self.views.clone(),
            out: self.out.clone(),
            nudge: self.nudge.clone(),
        }
    }
}

impl<T: Transport + 'static> Pollers<T> {
    /// Polls at once, then by schedule, until stopped. All but the balance wait for its first word: it names the teams.
    pub async fn run(mut self, feed: Feed, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.poll_forever(feed) => {}
        }
    }

    async fn poll_forever(&mut self, feed: Feed) {
        self.wait_for_first_word(feed).await;
        let anchor = self.clock.now();
        loop {
            // Asked for before the poll, so that a bell amid it is not missed.
            let nudged = self.nudge.clone().notified_owned();
            let started = self.clock.now();
            let due = match self.poll(feed, anchor).await {
                Some(due) => due,
                None if feed == Feed::Detail => {
                    self.wait_for_vanished().await;
                    continue;
                }
                None => return,
            };
            self.wait_until(due.max(started), nudged).await;
        }
    }

    /// The balance goes first, and the inventory before the lists: it tells whether one list covers every team.
    async fn wait_for_first_word(&mut self, feed: Feed) {
        let after = match feed {
            Feed::Balance => return,
            Feed::Inventory | Feed::Volumes | Feed::Offers => Feed::Balance,
            Feed::Deployments | Feed::Detail => Feed::Inventory,
        };
        let spoken = |view: &Arc<View>| {
            view.snapshot.feeds.get(&after).is_some_and(|health| health.last_attempt.is_some())
        };
        // Whoever went first may be held back by the governor; what protects money does not wait for ever.
        tokio::select! {
            biased;
            _ = self.views.wait_for(spoken) => {}
            () = self.clock.sleep(FIRST_WORD_MAX) => {}
        }
    }

    async fn wait_for_vanished(&mut self) {
        let vanished = |view: &Arc<View>| !view.snapshot.vanished().is_empty();
        let _ = self.views.wait_for(vanished).await;
    }

    /// One poll; says when the next is due. `None`: nothing to ask, or nobody listens any more.
    async fn poll(&mut self, feed: Feed, anchor: Time) -> Option<Time> {
        let started = self.clock.now();
        let snapshot = self.views.borrow().snapshot.clone();
        let plan = Plan::new(feed, &snapshot);
        let cadence = self.cadence.borrow().clone();
        let Some(schedule) = cadence.of(feed) else {
            // Off: look again when the configuration changes.
            let _ = self.cadence.changed().await;
            return Some(self.clock.now());
        };
        if plan.scopes.is_empty() && feed == Feed::Detail {
            return None;
        }
        let began = self.clock.monotonic();
        let observation = observe(&self.client, plan).await;
        let took = self.clock.monotonic().saturating_sub(began);
        let stretch = stretch(&self.client, feed, cadence.planned_calls(&snapshot));
        let due = due(schedule, &cadence.zone, started, self.clock.now(), anchor, stretch);
        if all_held(&observation) {
            tracing::info!(%feed, "{}", observation.trouble().unwrap_or_default());
            let now = self.clock.now();
            return Some(due.clamp(now.plus(HELD_RETRY), now.plus(NAP)));
        }
        self.meter.poll(feed, observation.outcome() == Outcome::Complete, took, observation.at);
        if observation.outcome() != Outcome::Complete {
            tracing::warn!(%feed, outcome = ?observation.outcome(), "{}", observation.trouble().unwrap_or_default());
        }
        let interval = due.since(started);
        self.out.send(Polled { observation, interval }).await.ok()?;
        Some(due)
    }

    /// Sleeps in naps, so that neither a clock step nor a suspension is slept through.
    async fn wait_until(&self, due: Time, nudged: OwnedNotified) {
        tokio::pin!(nudged);
        loop {
            let left = due.since(self.clock.now());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = &mut nudged => return,
                () = self.clock.sleep(left.min(NAP)) => {}
            }
        }
    }
}

/// The balance is never stretched: it has a reserve of its own, and is what everybody waits for (FAULTS 13).
pub(super) fn stretch<T: Transport>(client: &Client<T>, feed: Feed, planned_calls: f64) -> f64 {
    if feed == Feed::Balance { 1.0 } else { client.stretch(planned_calls) }
}

/// A poll that the governor held back entirely did not happen; the schedule stretches instead of failing.
pub(super) fn all_held(observation: &Observation) -> bool {
    !observation.scopes.is_empty()
        && observation
            .scopes
            .iter()
            .all(|(_, result)| result.as_ref().err().is_some_and(|failure| failure.kind == FailureKind::Held))
}

/// The schedule's next instant, or later where the governor stretches it.
pub(super) fn due(
    schedule: &Schedule,
    zone: &TimeZone,
    started: Time,
    now: Time,
    anchor: Time,
    stretch: f64,
) -> Time {
    let stretched = started.plus(schedule.min_interval().mul_f64(stretch.clamp(1.0, 1_000.0)));
    let next = schedule.next_after(now, zone, anchor).unwrap_or_else(|| now.plus(NAP));
    if stretch > 1.0 { next.max(stretched) } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretched_schedule_is_late_by_just_the_stretch() {
        let every = Schedule::parse("every 60s").unwrap();
        let t = Time::from_secs;
        let next = |stretch| due(&every, &TimeZone::UTC, t(60), t(61), t(0), stretch);
        assert_eq!(next(1.0), t(120));
        assert_eq!(next(1.5), t(150));
        assert_eq!(next(3.0), t(240));
    }

    #[test]
    fn a_poll_that_took_longer_than_its_interval_skips_the_missed_ticks() {
        let every = Schedule::parse("every 10s").unwrap();
        let t = Time::from_secs;
        assert_eq!(due(&every, &TimeZone::UTC, t(10), t(47), t(0), 1.0), t(50));
    }
}
