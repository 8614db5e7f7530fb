//! The outbox pump: one task per receiver claims rows, sends, and enters what came of it.
//!
//! It must never touch another receiver's rows, so that a dead receiver holds up nobody and never re-sends to a living one.
//! It reads committed rows only: a row is there before anybody is told.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::circuit::Circuit;
use crate::{
    clock::Clock,
    model::{Delivery, Links, Meter, Notice, OutboxRow, Receipt, Severity, Time, Transition},
    notify,
    store::{Store, StoreError},
};

/// Longest sleep, so that a step of the wall clock is seen.
const NAP: Duration = Duration::from_secs(60);

/// How long to wait before a database that refused is asked again.
const DATABASE_RETRY: Duration = Duration::from_secs(5);

/// What is critical waits so long for a receiver that is left alone; then others are told too.
const HELD_MAX: Duration = Duration::from_secs(600);

/// Rows that are looked at in one go.
const SHARED_AT_ONCE: u32 = 20;

/// Something that a notice can be sent to.
pub trait Deliver: Send + Sync {
    fn name(&self) -> &Arc<str>;
    fn deliver<'a>(&'a self, notice: &'a Notice) -> Pin<Box<dyn Future<Output = Delivery> + Send + 'a>>;
}

impl Deliver for notify::Receiver {
    fn name(&self) -> &Arc<str> {
        self.name()
    }
    fn deliver<'a>(&'a self, notice: &'a Notice) -> Pin<Box<dyn Future<Output = Delivery> + Send + 'a>> {
        Box::pin(self.deliver(notice))
    }
}

/// A receiver that the configuration no longer has.
pub struct Removed(pub Arc<str>);

impl Deliver for Removed {
    fn name(&self) -> &Arc<str> {
        &self.0
    }
    fn deliver<'a>(&'a self, _: &'a Notice) -> Pin<Box<dyn Future<Output = Delivery> + Send + 'a>> {
        let why = "this receiver is no longer configured".to_owned();
        Box::pin(std::future::ready(Delivery::Rejected { why, disable: true }))
    }
}

/// What every pump shares.
#[derive(Clone)]
pub struct Pumps {
    pub store: Store,
    pub clock: Clock,
    pub meter: Arc<dyn Meter>,
    /// Rung when rows may have come.
    pub bell: Arc<Notify>,
    /// Rung when a notice of a policy was taken: an end may wait for it.
    pub heard: Arc<Notify>,
    /// Every receiver's name, in the order in which dead letters fall to the next.
    pub names: Arc<Vec<Arc<str>>>,
    /// When the first team's money ends, as far as that is known: no retry may wait for longer.
    pub money_ends: watch::Receiver<Option<Time>>,
    /// `None`: notices have no links.
    pub links: Option<Arc<dyn Links>>,
}

/// What one pump knows of its receiver.
#[derive(Default)]
struct Known {
    /// It answered 410 Gone.
    disabled: bool,
    /// For how long it is to be left alone.
    paused: Duration,
    /// Since when it takes nothing, pauses that are to come included.
    held_since: Option<Time>,
    /// The last row that was looked at for others to be told of it; and whether all that matters was, or what is critical alone.
    shared: (bool, i64),
    circuit: Circuit,
}

impl Pumps {
    /// Runs until stopped; a send under way is finished first (its own deadline bounds it).
    pub async fn run(self, receiver: Arc<dyn Deliver>, stop: CancellationToken) -> Result<(), StoreError> {
        let mut known = Known::default();
        loop {
            // The other side asked for a pause, or takes nothing: that holds for every row, and no bell shortens it.
            if !known.paused.is_zero() {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    result = self.wait_out(&receiver, &mut known) => result?,
                }
                known.paused = Duration::ZERO;
            }
            // Asked for before the look, so that a bell in between is not missed.
            let rung = self.bell.notified();
            let nap = match self.drain(&receiver, &mut known, &stop).await {
                Ok(nap) => nap,
                Err(error) if error.is_fatal() => return Err(error),
                // A busy or full database is no reason to die: the rows are still there.
                Err(error) => {
                    tracing::error!(receiver = %receiver.name(), %error, "the outbox cannot be read; trying again in 5s");
                    DATABASE_RETRY
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = rung => {}
                () = self.clock.sleep(nap) => {}
            }
        }
    }

    /// Waits until the receiver may be asked again. What must not wait for that is told to others meanwhile.
    async fn wait_out(&self, receiver: &Arc<dyn Deliver>, known: &mut Known) -> Result<(), StoreError> {
        let end = self.clock.now().plus(known.paused);
        let since = *known.held_since.get_or_insert_with(|| self.clock.now());
        loop {
            let rung = self.bell.notified();
            match self.share(receiver, known, (since, end)).await {
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => {
                    tracing::error!(receiver = %receiver.name(), %error, "the outbox cannot be read")
                }
                Ok(()) => {}
            }
            let left = end.since(self.clock.now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.clock.sleep(left.min(NAP)) => {}
                () = rung => {}
            }
        }
    }

    /// Tells others what waits for a receiver that is left alone: what is critical, if it waits for long; what else matters too,
    /// if the money ends before (FAULTS 64).
    async fn share(
        &self,
        receiver: &Arc<dyn Deliver>,
        known: &mut Known,
        (since, until): (Time, Time),
    ) -> Result<(), StoreError> {
        let too_late = self.money_ends.borrow().is_some_and(|end| end <= until && end > self.clock.now());
        if !too_late && until.since(since) < HELD_MAX {
            return Ok(());
        }
        let name = receiver.name();
        if known.shared.0 != too_late {
            known.shared = (too_late, 0);
        }
        loop {
            let waiting = self.store.waiting(name.clone(), known.shared.1, SHARED_AT_ONCE).await?;
            let Some((last, _)) = waiting.last() else { return Ok(()) };
            let last = *last;
            for (seq, notice) in waiting {
                if !is_for_all(&notice) || !(too_late || notice.severity == Severity::Critical) {
                    continue;
                }
                let told = self.store.share(seq, self.heirs(name), self.clock.now()).await?;
                if !told.is_empty() {
                    tracing::warn!(receiver = %name, id = %notice.id, told = told.join(", "),
                        "this receiver is left alone for a while, so others are told too");
                    self.bell.notify_waiters();
                }
            }
            known.shared.1 = last;
        }
    }

    /// Sends what is due; says how long until something else is.
    async fn drain(
        &self,
        receiver: &Arc<dyn Deliver>,
        known: &mut Known,
        stop: &CancellationToken,
    ) -> Result<Duration, StoreError> {
        while !stop.is_cancelled()
            && let Some(row) = self.store.claim(receiver.name().clone(), self.clock.now()).await?
        {
            let delivery = if known.disabled { gone() } else { self.send(receiver, &row.notice).await };
            if !matches!(delivery, Delivery::Retry { .. }) {
                (known.held_since, known.shared) = (None, (false, 0));
            }
            known.disabled |= matches!(delivery, Delivery::Rejected { disable: true, .. });
            let was_open = known.circuit.is_open();
            known.circuit.note(row.seq, &delivery);
            known.paused = match &delivery {
                Delivery::Retry { after: Some(after), .. } => *after,
                Delivery::Retry { .. } => self.in_time(known.circuit.pause()),
                Delivery::Delivered { .. } | Delivery::Rejected { .. } => Duration::ZERO,
            };
            self.settle(receiver, &row, delivery).await?;
            if known.circuit.is_open() != was_open {
                tell_of_circuit(receiver.name(), &known.circuit);
            }
            if known.circuit.is_open() {
                self.give_up_on_old(receiver).await?;
            }
            if !known.paused.is_zero() {
                return Ok(Duration::ZERO);
            }
        }
        let due = self.store.next_due(receiver.name().clone()).await?;
        Ok(due.map_or(NAP, |due| due.since(self.clock.now()).clamp(Duration::from_millis(1), NAP)))
    }

    /// With its link, if it has one: that lives as long as the send, and the log never has it.
    async fn send(&self, receiver: &Arc<dyn Deliver>, notice: &Notice) -> Delivery {
        let grant = notice.grant.as_ref().filter(|_| &**receiver.name() != LOG);
        let Some(link) = grant.and_then(|grant| self.links.as_ref()?.keep(grant)) else {
            return receiver.deliver(notice).await;
        };
        receiver.deliver(&Notice { link: Some(link), ..notice.clone() }).await
    }

    async fn settle(
        &self,
        receiver: &Arc<dyn Deliver>,
        row: &OutboxRow,
        delivery: Delivery,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let name = receiver.name();
        self.meter.notification(name, matches!(delivery, Delivery::Delivered { .. }));
        let Entered { receipt, too_late } =
            receipt(row, delivery, now, fastrand::f64(), *self.money_ends.borrow());
        match &receipt {
            Receipt::Dead { why } => return self.bury(name, row, why).await,
            Receipt::Retry { why, next } => {
                tracing::warn!(receiver = %name, id = %row.notice.id, next = %next, "not delivered yet: {why}");
            }
            Receipt::Delivered { .. } => {}
        }
        if !(too_late && is_for_all(&row.notice)) {
            self.insist(|| self.store.settle(row.seq, receipt.clone(), now)).await?;
            if matches!(receipt, Receipt::Delivered { .. }) && &*row.notice.kind == "policy" {
                self.heard.notify_one();
            }
            return Ok(());
        }
        let others = self.heirs(name);
        let told = self.insist(|| self.store.spread(row.seq, receipt.clone(), others.clone(), now)).await?;
        if !told.is_empty() {
            tracing::warn!(receiver = %name, id = %row.notice.id, told = told.join(", "),
                "the money ends before it would be tried again, so others are told too");
            self.bell.notify_waiters();
        }
        Ok(())
    }

    /// A dead letter: the first other receiver that never had it is told instead.
    async fn bury(&self, name: &Arc<str>, row: &OutboxRow, why: &str) -> Result<(), StoreError> {
        let (heirs, now) = (self.heirs(name), self.clock.now());
        let heir = self.insist(|| self.store.bury(row.seq, why.to_owned(), heirs.clone(), now)).await?;
        let told = heir.as_deref().unwrap_or("nobody who does not know it");
        let title = notify::sanitize::line(&row.notice.title, 200);
        tracing::error!(receiver = %name, id = %row.notice.id, told_instead = told, "dead letter ({title}): {why}");
        self.bell.notify_waiters();
        Ok(())
    }

    /// Where one notice at a time is tried, the others must not wait for their turn for ever.
    async fn give_up_on_old(&self, receiver: &Arc<dyn Deliver>) -> Result<(), StoreError> {
        let name = receiver.name();
        let now = self.clock.now();
        while let Some(row) = self.store.claim_older(name.clone(), now.minus(notify::SPAN), now).await? {
            let hours = notify::SPAN.as_secs() / 3_600;
            self.bury(name, &row, &format!("given up: this receiver took nothing for {hours} h")).await?;
        }
        Ok(())
    }

    /// Not longer than a quarter of the time for which the money lasts.
    fn in_time(&self, pause: Duration) -> Duration {
        let left = self.money_ends.borrow().map(|end| end.since(self.clock.now()));
        match left.filter(|left| !left.is_zero()) {
            Some(left) => pause.min((left / 4).max(PAUSE_MIN)),
            None => pause,
        }
    }

    /// Who may hear what this receiver could not take: the other ones in order, the log at the end. The log has no heirs.
    fn heirs(&self, name: &Arc<str>) -> Vec<Arc<str>> {
        if &**name == LOG {
            return Vec::new();
        }
        let others = self.names.iter().filter(|other| *other != name && &***other != LOG);
        others.cloned().chain([LOG.into()]).collect()
    }

    /// A receipt is entered, however long the database is busy: losing it would send again.
    async fn insist<T, F>(&self, mut write: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            match write().await {
                Ok(written) => return Ok(written),
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "a receipt cannot be entered; trying again in 5s");
                    self.clock.sleep(DATABASE_RETRY).await;
                }
            }
        }
    }
}

/// However near the end of the money is, a receiver that takes nothing is left alone for so long.
const PAUSE_MIN: Duration = Duration::from_secs(30);

/// What nobody may miss. An end, a test and mere information are for whom they were meant.
fn is_for_all(notice: &Notice) -> bool {
    let news = match notice.transition {
        Transition::Firing | Transition::Reminder | Transition::Event => true,
        Transition::Resolved | Transition::Test => false,
    };
    news && notice.severity > Severity::Info
}

fn tell_of_circuit(receiver: &Arc<str>, circuit: &Circuit) {
    if circuit.is_open() {
        tracing::warn!(%receiver, "takes nothing; from now on one notice at a time is tried");
    } else {
        tracing::info!(%receiver, "answers again");
    }
}

/// The receiver that always exists.
pub const LOG: &str = "log";

fn gone() -> Delivery {
    Delivery::Rejected {
        why: "this receiver answered 410 Gone before and is disabled until a reload or restart".into(),
        disable: true,
    }
}

/// What an attempt means for its row.
pub struct Entered {
    pub receipt: Receipt,
    /// The next attempt would have come after the end of the money.
    pub too_late: bool,
}

pub fn receipt(
    row: &OutboxRow,
    delivery: Delivery,
    now: Time,
    jitter: f64,
    money_ends: Option<Time>,
) -> Entered {
    let (why, after) = match delivery {
        Delivery::Delivered { detail } => {
            return Entered { receipt: Receipt::Delivered { detail }, too_late: false };
        }
        Delivery::Rejected { why, .. } => return Entered { receipt: Receipt::Dead { why }, too_late: false },
        Delivery::Retry { why, after } => (why, after),
    };
    let attempts = row.attempts.saturating_add(1);
    let again = notify::next_attempt(attempts, now, jitter, after, money_ends);
    let receipt = match again.at {
        Some(next) => Receipt::Retry { why, next },
        None => Receipt::Dead { why: format!("given up after {attempts} attempts; the last: {why}") },
    };
    Entered { receipt, too_late: again.too_late }
}
