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
    spheron::{Client, Need, Transport},
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

    /// When the feed is polled next, and at which pace: later than its schedule has it where too few calls are granted for all.
    /// `None`: it is off.
    pub(super) fn next<T: Transport>(
        &self,
        client: &Client<T>,
        feed: Feed,
        snapshot: &Snapshot,
        past: Past,
        anchor: Time,
    ) -> Option<(Time, Pace)> {
        let need = |feed: Feed| {
            Some(Need::new(feed, self.of(feed)?.min_interval(), self.planned_calls(feed, snapshot)))
        };
        let (schedule, own) = (self.of(feed)?, need(feed)?);
        let needs: Vec<Need> = Feed::ALL.into_iter().filter_map(need).collect();
        let stretch = client.stretch(&needs).of(&own);
        let [planned, at] = [1.0, stretch].map(|stretch| due(schedule, &self.zone, past, anchor, stretch));
        let later = at.since(planned) >= Duration::from_secs(1);
        let stretched_from = later.then(|| schedule.max_interval());
        Some((at, Pace { interval: at.since(past.asked), stretched_from }))
    }
}

fn pages(items: usize, per_page: usize) -> usize {
    items.div_ceil(per_page).max(1)
}

/// How often a feed speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Until the next poll, as the governor stretches the schedule.
    pub interval: Duration,
    /// The configured interval, where too few calls are granted for it.
    pub stretched_from: Option<Duration>,
}

impl Pace {
    pub fn of(schedule: &Schedule) -> Self {
        Self { interval: schedule.max_interval(), stretched_from: None }
    }
}

/// A poll that is over: when it began, asked its last question and ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past {
    pub started: Time,
    pub asked: Time,
    pub ended: Time,
}

/// What a poller hands on.
pub enum Polled {
    Seen {
        observation: Observation,
        pace: Pace,
    },
    /// The next poll comes sooner or later than was said.
    Replanned {
        feed: Feed,
        pace: Pace,
    },
    /// Our own governor holds the feed back: nothing was asked, and here is why.
    Held {
        feed: Feed,
        why: Arc<str>,
    },
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
        // Asked for before the first poll, so that what a poll itself brings about is not missed.
        let mut grants = self.client.grants();
        loop {
            let nudged = self.nudge.clone().notified_owned();
            let cadence = self.cadence.borrow_and_update().clone();
            if cadence.of(feed).is_none() {
                // Off: look again when the configuration changes.
                if self.cadence.changed().await.is_err() {
                    return;
                }
                continue;
            }
            match self.poll(feed, &cadence, anchor, &mut turns).await {
                Some((past, at, pace)) => {
                    self.wait(feed, (past, anchor), (at, pace), &mut grants, nudged).await;
                }
                None if feed == Feed::Detail => self.wait_for_vanished().await,
                None => return,
            }
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
    async fn poll(
        &self,
        feed: Feed,
        cadence: &Cadence,
        anchor: Time,
        turns: &mut Turns,
    ) -> Option<(Past, Time, Pace)> {
        let (started, began) = (self.clock.now(), self.clock.monotonic());
        let snapshot = self.views.borrow().snapshot.clone();
        let schedule = cadence.of(feed)?;
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
                        let pace = Pace::of(schedule);
                        self.out.send(Polled::Seen { observation, pace }).await.ok()?;
                    }
                    self.out.send(Polled::Held { feed, why }).await.ok()?;
                    self.clock.sleep(HELD_RETRY).await;
                }
            }
        };
        let past = Past { started, asked: last_asked, ended: self.clock.now() };
        let (at, pace) = cadence.next(&self.client, feed, &snapshot, past, anchor)?;
        if asked {
            turns.note(&observation);
            let took = self.clock.monotonic().saturating_sub(began);
            self.meter.poll(feed, observation.outcome() == Outcome::Complete, took, observation.at);
            if observation.outcome() != Outcome::Complete {
                tracing::warn!(%feed, outcome = ?observation.outcome(), "{}", observation.trouble().unwrap_or_default());
            }
            self.out.send(Polled::Seen { observation, pace }).await.ok()?;
        }
        Some((past, at, pace))
    }

    /// Sleeps in naps, so that neither a clock step nor a suspension is slept through. What was planned under one grant does not
    /// hold under another.
    async fn wait(
        &self,
        feed: Feed,
        (past, anchor): (Past, Time),
        (mut at, mut pace): (Time, Pace),
        grants: &mut watch::Receiver<u32>,
        nudged: OwnedNotified,
    ) {
        tokio::pin!(nudged);
        // However it is nudged, no resource is polled more often than this.
        let soonest = self
            .clock
            .monotonic()
            .saturating_add(EVERY_MIN)
            .saturating_sub(self.clock.now().since(past.started));
        loop {
            let left = at.since(self.clock.now());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = &mut nudged => {
                    self.clock.sleep(soonest.saturating_sub(self.clock.monotonic())).await;
                    return;
                }
                Ok(()) = grants.changed() => {}
                () = self.clock.sleep(left.min(NAP)) => {}
            }
            if at <= self.clock.now() {
                return;
            }
            let (cadence, snapshot) = (self.cadence.borrow().clone(), self.views.borrow().snapshot.clone());
            let next = cadence.next(&self.client, feed, &snapshot, past, anchor);
            if let Some(next) = next.filter(|next| *next != (at, pace)) {
                (at, pace) = next;
                if snapshot.feeds.contains_key(&feed)
                    && self.out.send(Polled::Replanned { feed, pace }).await.is_err()
                {
                    return;
                }
            }
        }
    }
}

/// The schedule's next instant after a poll that began, asked its last question and ended then; later where the governor
/// stretches it, or where a slow poll ended shortly before that instant.
fn due(
    schedule: &Schedule,
    zone: &TimeZone,
    Past { started, asked, ended }: Past,
    anchor: Time,
    stretch: f64,
) -> Time {
    let stretched = started.plus(schedule.min_interval().mul_f64(stretch.clamp(1.0, 1_000.0)));
    let next = schedule.next_after(ended, zone, anchor).unwrap_or_else(|| ended.plus(NAP));
    let next = if stretch > 1.0 { next.max(stretched) } else { next };
    next.max(asked.plus(EVERY_MIN))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::{
        model::{FeedHealth, NoMeter},
        spheron::{Request, Response, SendError},
    };

    fn past(started: i64, asked: i64, ended: i64) -> Past {
        let [started, asked, ended] = [started, asked, ended].map(Time::from_secs);
        Past { started, asked, ended }
    }

    /// Answers every question with no teams and a large grant.
    struct Generous(Clock);

    impl Transport for Generous {
        fn now(&self) -> Time {
            self.0.now()
        }

        async fn send(&self, _: Request) -> Result<Response, SendError> {
            let headers = [("content-type", "application/json"), ("x-ratelimit-limit", "100000")]
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let body = r#"{"teams": [], "currency": "USD"}"#.into();
            Ok(Response { status: 200, headers: headers.into_iter().collect(), body })
        }

        async fn pause(&self, length: Duration) {
            self.0.sleep(length).await;
        }
    }

    #[tokio::test]
    async fn fault_13_who_waits_for_too_small_a_grant_wakes_and_plans_anew_when_it_grows() {
        let (clock, often) = (Clock::system(), || Schedule::parse("every 10s").unwrap());
        let cadence = Cadence {
            zone: TimeZone::UTC,
            balance: often(),
            deployments: often(),
            inventory: often(),
            volumes: often(),
            offers: Some(often()),
        };
        let now = clock.now();
        let mut snapshot = Snapshot::default();
        snapshot.feeds.insert(Feed::Deployments, FeedHealth::new(Duration::from_secs(10), now));
        let client = Arc::new(Client::seeded(Generous(clock.clone()), None, Arc::new(NoMeter), 7));
        let past = Past { started: now, asked: now, ended: now };
        let (at, pace) = cadence.next(&client, Feed::Deployments, &snapshot, past, now).unwrap();
        assert!(pace.interval > Duration::from_secs(100) && pace.stretched_from.is_some(), "{pace:?}");
        let (out, mut polled) = mpsc::channel(1);
        let pollers = Pollers {
            client: client.clone(),
            clock,
            meter: Arc::new(NoMeter),
            cadence: watch::channel(Arc::new(cadence)).1,
            views: watch::channel(Arc::new(View { snapshot: Arc::new(snapshot), ..View::default() })).1,
            out,
            nudge: Arc::default(),
        };
        let (mut grants, nudged) = (client.grants(), pollers.nudge.clone().notified_owned());
        let told = async {
            let _ = client.balances().await;
            polled.recv().await
        };
        tokio::select! {
            told = told => match told {
                Some(Polled::Replanned { feed, pace }) => {
                    assert_eq!((feed, pace.interval.as_secs(), pace.stretched_from), (Feed::Deployments, 10, None));
                }
                Some(Polled::Seen { .. } | Polled::Held { .. }) | None => panic!("it did not plan anew"),
            },
            () = pollers.wait(Feed::Deployments, (past, now), (at, pace), &mut grants, nudged) => {
                panic!("it did not say so")
            }
        }
    }

    #[test]
    fn a_stretched_schedule_is_late_by_just_the_stretch() {
        let every = Schedule::parse("every 60s").unwrap();
        let t = Time::from_secs;
        let next = |stretch| due(&every, &TimeZone::UTC, past(60, 60, 61), t(0), stretch);
        assert_eq!(next(1.0), t(120));
        assert_eq!(next(1.5), t(150));
        assert_eq!(next(3.0), t(240));
    }

    #[test]
    fn a_poll_that_took_longer_than_its_interval_skips_the_missed_ticks() {
        let every = Schedule::parse("every 10s").unwrap();
        let t = Time::from_secs;
        assert_eq!(due(&every, &TimeZone::UTC, past(10, 10, 47), t(0), 1.0), t(50));
    }

    #[test]
    fn a_question_asked_late_in_a_slow_poll_is_not_asked_again_within_ten_seconds() {
        let every = Schedule::parse("every 60s").unwrap();
        let t = Time::from_secs;
        assert_eq!(due(&every, &TimeZone::UTC, past(0, 55, 58), t(0), 1.0), t(65));
    }
}
