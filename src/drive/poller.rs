//! One task per feed: waits for its schedule, asks the API, hands one observation on.
//!
//! It must never pile up: the queue holds one observation, and ticks that were missed are skipped (FAULTS 46).

use std::{sync::Arc, time::Duration};

use jiff::tz::TimeZone;
use tokio::sync::{Notify, futures::OwnedNotified, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    observe::Plan,
    round::{Done, Interrupted, Round, Turns},
};
use crate::{
    clock::Clock,
    model::{Feed, Meter, Observation, Outcome, Snapshot, Time, View},
    schedule::{EVERY_MIN, Schedule},
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

    /// Calls per 15 minutes that the feed's schedule needs for what is known of the account.
    pub fn planned_calls(&self, feed: Feed, snapshot: &Snapshot) -> f64 {
        let calls = match feed {
            Feed::Offers => pages(snapshot.offers.len(), 100),
            Feed::Volumes => Plan::new(feed, snapshot).scopes.len().max(pages(snapshot.volumes.len(), 100)),
            Feed::Balance | Feed::Deployments | Feed::Detail | Feed::Inventory => {
                Plan::new(feed, snapshot).scopes.len()
            }
        };
        #[allow(clippy::cast_precision_loss, reason = "a count of calls, far below 2⁵²")]
        self.of(feed).map_or(0.0, |schedule| schedule.calls_per_15m(calls as f64))
    }

    /// What the schedule of everything but the balance has to be lengthened by, so that all of it fits. The balance is never
    /// stretched: it has a reserve of its own, and is what everybody waits for (FAULTS 13).
    pub fn stretch<T: Transport>(&self, client: &Client<T>, feed: Feed, snapshot: &Snapshot) -> f64 {
        if feed == Feed::Balance {
            return 1.0;
        }
        let balance = self.planned_calls(Feed::Balance, snapshot);
        let rest = Feed::ALL.into_iter().filter(|other| *other != Feed::Balance);
        client.stretch(rest.map(|other| self.planned_calls(other, snapshot)).sum(), balance)
    }
}

fn pages(items: usize, per_page: usize) -> usize {
    items.div_ceil(per_page).max(1)
}

/// What a poller hands on.
pub enum Polled {
    Seen {
        observation: Observation,
        /// How long until the next one, as the governor stretches the schedule.
        interval: Duration,
    },
    /// Our own governor holds the feed back: nothing was asked, and here is why.
    Held { feed: Feed, why: Arc<str> },
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
        let mut turns = Turns::default();
        loop {
            // Asked for before the poll, so that a bell amid it is not missed.
            let nudged = self.nudge.clone().notified_owned();
            let started = self.clock.now();
            let due = match self.poll(feed, anchor, &mut turns).await {
                Some(due) => due,
                None if feed == Feed::Detail => {
                    self.wait_for_vanished().await;
                    continue;
                }
                None => return,
            };
            self.wait_until(due, started, nudged).await;
        }
    }

    /// The balance goes first, the inventory before the lists (it tells whether one list covers every team), and what can wait
    /// last, so that a small allowance goes where money is.
    async fn wait_for_first_word(&mut self, feed: Feed) {
        let after = match feed {
            Feed::Balance => return,
            Feed::Inventory => Feed::Balance,
            Feed::Deployments => Feed::Inventory,
            Feed::Detail | Feed::Volumes | Feed::Offers => Feed::Deployments,
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
    async fn poll(&mut self, feed: Feed, anchor: Time, turns: &mut Turns) -> Option<Time> {
        let (started, began) = (self.clock.now(), self.clock.monotonic());
        let snapshot = self.views.borrow().snapshot.clone();
        let cadence = self.cadence.borrow().clone();
        let Some(schedule) = cadence.of(feed) else {
            // Off: look again when the configuration changes.
            let _ = self.cadence.changed().await;
            return Some(self.clock.now());
        };
        if feed == Feed::Detail && snapshot.vanished().is_empty() {
            return None;
        }
        let plan =
            if feed == Feed::Detail { turns.plan(&snapshot, started) } else { Plan::new(feed, &snapshot) };
        let asked = !plan.scopes.is_empty();
        let mut round = Round::new(plan);
        let Done { observation, asked: last_asked } = loop {
            match round.go(&self.client).await {
                Ok(done) => break done,
                Err(Interrupted { so_far, why }) => {
                    tracing::info!(%feed, "{why}");
                    if let Some(observation) = so_far {
                        turns.note(&observation);
                        let interval = schedule.max_interval();
                        self.out.send(Polled::Seen { observation, interval }).await.ok()?;
                    }
                    self.out.send(Polled::Held { feed, why }).await.ok()?;
                    self.clock.sleep(HELD_RETRY).await;
                }
            }
        };
        let due = {
            let stretch = cadence.stretch(&self.client, feed, &snapshot);
            due(schedule, &cadence.zone, (started, last_asked, self.clock.now()), anchor, stretch)
        };
        if asked {
            turns.note(&observation);
            let took = self.clock.monotonic().saturating_sub(began);
            self.meter.poll(feed, observation.outcome() == Outcome::Complete, took, observation.at);
            if observation.outcome() != Outcome::Complete {
                tracing::warn!(%feed, outcome = ?observation.outcome(), "{}", observation.trouble().unwrap_or_default());
            }
            let interval = due.since(last_asked);
            self.out.send(Polled::Seen { observation, interval }).await.ok()?;
        }
        Some(due)
    }

    /// Sleeps in naps, so that neither a clock step nor a suspension is slept through.
    async fn wait_until(&self, due: Time, started: Time, nudged: OwnedNotified) {
        tokio::pin!(nudged);
        // However it is nudged, no resource is polled more often than this.
        let soonest =
            self.clock.monotonic().saturating_add(EVERY_MIN).saturating_sub(self.clock.now().since(started));
        loop {
            let left = due.since(self.clock.now());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = &mut nudged => {
                    self.clock.sleep(soonest.saturating_sub(self.clock.monotonic())).await;
                    return;
                }
                () = self.clock.sleep(left.min(NAP)) => {}
            }
        }
    }
}

/// The schedule's next instant after a poll that began, asked its last question and ended then; later where the governor
/// stretches it, or where a slow poll ended shortly before that instant.
pub(super) fn due(
    schedule: &Schedule,
    zone: &TimeZone,
    (started, asked, now): (Time, Time, Time),
    anchor: Time,
    stretch: f64,
) -> Time {
    let stretched = started.plus(schedule.min_interval().mul_f64(stretch.clamp(1.0, 1_000.0)));
    let next = schedule.next_after(now, zone, anchor).unwrap_or_else(|| now.plus(NAP));
    let next = if stretch > 1.0 { next.max(stretched) } else { next };
    next.max(asked.plus(EVERY_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretched_schedule_is_late_by_just_the_stretch() {
        let every = Schedule::parse("every 60s").unwrap();
        let t = Time::from_secs;
        let next = |stretch| due(&every, &TimeZone::UTC, (t(60), t(60), t(61)), t(0), stretch);
        assert_eq!(next(1.0), t(120));
        assert_eq!(next(1.5), t(150));
        assert_eq!(next(3.0), t(240));
    }

    #[test]
    fn a_poll_that_took_longer_than_its_interval_skips_the_missed_ticks() {
        let every = Schedule::parse("every 10s").unwrap();
        let t = Time::from_secs;
        assert_eq!(due(&every, &TimeZone::UTC, (t(10), t(10), t(47)), t(0), 1.0), t(50));
    }

    #[test]
    fn a_question_asked_late_in_a_slow_poll_is_not_asked_again_within_ten_seconds() {
        let every = Schedule::parse("every 60s").unwrap();
        let t = Time::from_secs;
        assert_eq!(due(&every, &TimeZone::UTC, (t(0), t(55), t(58)), t(0), 1.0), t(65));
    }
}
