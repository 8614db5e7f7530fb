//! Keeps every Alertmanager's picture of our alerts: all that fires is said again and again, and what is over for a while.
//!
//! It must never let one member hold up another, nor keep back what is silenced here: silences and groups are theirs to have.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

use super::outward::Teller;
use crate::{
    clock::Clock,
    engine::standing,
    model::{AlertKey, AlertState, Labels, Meter, Push, Severity, Time, Transition, View},
    notify::{Alertmanager, PushError, alertmanager::BATCH_MAX},
};

/// How often all is said again though nothing changed.
const EVERY: Duration = Duration::from_secs(60);
/// How long a member takes an alert for firing after it heard of it last: some of our rounds may be lost.
const STANDS: Duration = Duration::from_secs(240);
/// How long the end of an alert is said.
const OVER_SAID: Duration = Duration::from_secs(300);

/// An Alertmanager, and since when it does not take what we say.
#[derive(Debug)]
pub struct Member {
    client: Alertmanager,
    failing: Mutex<Option<Time>>,
}

impl Member {
    pub fn new(client: Alertmanager) -> Self {
        Self { client, failing: Mutex::new(None) }
    }

    pub fn name(&self) -> &Arc<str> {
        self.client.name()
    }

    pub fn failing_since(&self) -> Option<Time> {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, failed: bool, now: Time) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        *failing = failed.then(|| failing.unwrap_or(now));
    }
}

/// One stretch of firing, or one event. An Alertmanager tells by severity, so another severity is another alert there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Episode {
    key: AlertKey,
    since: Time,
    severity: Severity,
    is_event: bool,
}

impl Episode {
    fn all(view: &View) -> impl Iterator<Item = Self> {
        let firing = view.firing.iter().filter_map(|(key, (state, severity))| match state {
            AlertState::Firing { since, .. } => {
                Some(Self { key: key.clone(), since: *since, severity: *severity, is_event: false })
            }
            AlertState::Pending { .. } | AlertState::Told { .. } | AlertState::Quiet { .. } => None,
        });
        let events = view.events.iter().map(|(key, (at, severity))| Self {
            key: key.clone(),
            since: *at,
            severity: *severity,
            is_event: true,
        });
        firing.chain(events)
    }
}

/// What there is to say.
#[derive(Debug, Default)]
struct Ledger {
    /// With the labels it had when it began: an Alertmanager knows it by them, so a new name must not make it another.
    standing: BTreeMap<Episode, Arc<Labels>>,
    /// With when it ended.
    over: BTreeMap<Episode, (Arc<Labels>, Time)>,
}

/// An alert to say, and when it ended if it has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    episode: Episode,
    labels: Arc<Labels>,
    over: Option<Time>,
}

impl Ledger {
    /// Whether anything began or ended.
    fn look(&mut self, view: &View) -> bool {
        let now: BTreeSet<Episode> = Episode::all(view).collect();
        let (kept, ended): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.standing).into_iter().partition(|(episode, _)| now.contains(episode));
        self.standing = kept;
        let mut changed = !ended.is_empty();
        // An event ends by itself, as it was said to.
        let ended = ended.into_iter().filter(|(episode, _)| !episode.is_event);
        self.over.extend(ended.map(|(episode, labels)| (episode, (labels, view.at))));
        for episode in now {
            if !self.standing.contains_key(&episode)
                && let Some(labels) = standing::labels(view, &episode.key)
            {
                self.standing.insert(episode, Arc::new(labels));
                changed = true;
            }
        }
        self.over.retain(|_, (_, at)| view.at.since(*at) < OVER_SAID);
        changed
    }

    /// What fires again under the same labels is not over.
    fn items(&self) -> Vec<Item> {
        let standing: BTreeSet<&Labels> = self.standing.values().map(|labels| &**labels).collect();
        let over = self.over.iter().filter(|(_, (labels, _))| !standing.contains(&**labels));
        let over = over.map(|(episode, (labels, at))| Item {
            episode: episode.clone(),
            labels: labels.clone(),
            over: Some(*at),
        });
        let items = self.standing.iter().map(|(episode, labels)| Item {
            episode: episode.clone(),
            labels: labels.clone(),
            over: None,
        });
        items.chain(over).collect()
    }
}

impl Item {
    fn push(&self, view: &View, now: Time) -> Push {
        let Episode { key, since, is_event, .. } = &self.episode;
        let (transition, at, ends) = match self.over {
            Some(over) => (Transition::Resolved, over, over),
            None if *is_event => (Transition::Event, *since, since.plus(standing::EVENT_STANDS)),
            None => (Transition::Firing, now, now.plus(STANDS)),
        };
        let said = standing::say(view, key, transition, *since, at);
        Push {
            labels: self.labels.to_vec(),
            summary: said.title,
            description: said.reason,
            advice: said.advice,
            starts: *since,
            ends,
        }
    }
}

/// Everything to say at one time. Words are found batch by batch, so that ten thousand alerts stay small.
struct Round {
    view: Arc<View>,
    items: Vec<Item>,
}

pub(super) struct Alertmanagers {
    teller: Teller,
    ledger: Ledger,
}

impl Alertmanagers {
    pub(super) fn new(teller: Teller) -> Self {
        Self { teller, ledger: Ledger::default() }
    }

    pub(super) async fn run(mut self) {
        loop {
            let members = self.teller.outward.borrow_and_update().alertmanagers.clone();
            let gone = if members.is_empty() {
                // Who is asked to speak later must not tell of ends that nobody heard the beginning of.
                self.ledger = Ledger::default();
                self.teller.outward.changed().await.is_err()
            } else {
                self.tell(members).await
            };
            if gone {
                return;
            }
        }
    }

    /// Until the configuration changes; `true` if nobody is left to change it.
    async fn tell(&mut self, members: Vec<Arc<Member>>) -> bool {
        let (rounds, current) = watch::channel(None);
        let mut senders = JoinSet::new();
        for member in members {
            let (clock, meter) = (self.teller.clock.clone(), self.teller.meter.clone());
            senders.spawn(Sender { member, clock, meter, trouble: None }.run(current.clone()));
        }
        let mut due = Duration::ZERO;
        loop {
            let view = self.teller.views.borrow_and_update().clone();
            let now = self.teller.clock.monotonic();
            // Before the first commit nothing is known.
            if view.generation > 0 && (self.ledger.look(&view) || now >= due) {
                rounds.send_replace(Some(Arc::new(Round { view, items: self.ledger.items() })));
                due = now.saturating_add(EVERY);
            }
            let nap = due.saturating_sub(now).clamp(Duration::from_millis(1), EVERY);
            tokio::select! {
                biased;
                changed = self.teller.outward.changed() => return changed.is_err(),
                Some(Err(ended)) = senders.join_next() => {
                    if ended.is_panic() {
                        std::panic::resume_unwind(ended.into_panic());
                    }
                }
                changed = self.teller.views.changed() => if changed.is_err() { return true },
                () = self.teller.clock.sleep(nap) => {}
            }
        }
    }
}

/// Says each round to one member; while it is slow it misses rounds, and the last is whole.
struct Sender {
    member: Arc<Member>,
    clock: Clock,
    meter: Arc<dyn Meter>,
    trouble: Option<PushError>,
}

impl Sender {
    async fn run(mut self, mut rounds: watch::Receiver<Option<Arc<Round>>>) {
        while rounds.changed().await.is_ok() {
            let Some(round) = rounds.borrow_and_update().clone() else { continue };
            let result = self.say(&round).await;
            self.meter.notification(self.member.name(), result.is_ok());
            self.member.enter(result.is_err(), self.clock.now());
            self.log(result.err());
        }
    }

    /// All of it; also nothing is said, so that a member that would not hear is known before it has to.
    async fn say(&self, round: &Round) -> Result<(), PushError> {
        let mut refused = None;
        let batches = round.items.chunks(BATCH_MAX).chain(round.items.is_empty().then_some([].as_slice()));
        for batch in batches {
            let now = self.clock.now();
            let pushes: Vec<Push> = batch.iter().map(|item| item.push(&round.view, now)).collect();
            match self.member.client.push(&pushes).await {
                Ok(()) => {}
                Err(error) if error.is_of_the_batch() => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Once per change: what is so every minute is no news.
    fn log(&mut self, trouble: Option<PushError>) {
        let member = self.member.name();
        match (&self.trouble, &trouble) {
            (Some(_), None) => tracing::info!(%member, "takes alerts again"),
            (Some(before), Some(now)) if before.is_like(now) => {}
            (_, Some(why)) => {
                tracing::warn!(%member, "does not take alerts, trying again every {}s: {why}", EVERY.as_secs());
            }
            (None, None) => {}
        }
        self.trouble = trouble;
    }
}

#[cfg(test)]
mod tests;
