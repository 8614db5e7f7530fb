//! The outbox pump: one task per receiver claims rows, sends, and enters what came of it.
//!
//! It must never touch another receiver's rows, so that a dead receiver holds up nobody and never re-sends to a living one.
//! It reads committed rows only: a row is there before anybody is told.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    model::{Delivery, Meter, Notice, OutboxRow, Receipt, Time},
    notify,
    store::{Store, StoreError},
};

/// Longest sleep, so that a step of the wall clock is seen.
const NAP: Duration = Duration::from_secs(60);

/// How long to wait before a database that refused is asked again.
const DATABASE_RETRY: Duration = Duration::from_secs(5);

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
    /// Every receiver's name, in the order in which dead letters fall to the next.
    pub names: Arc<Vec<Arc<str>>>,
}

impl Pumps {
    /// Runs until stopped; a send under way is finished first (its own deadline bounds it).
    pub async fn run(self, receiver: Arc<dyn Deliver>, stop: CancellationToken) -> Result<(), StoreError> {
        let mut disabled = false;
        let mut paused = Duration::ZERO;
        loop {
            // The other side asked for a pause: that holds for every row, and no bell shortens it.
            if !paused.is_zero() {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    () = self.clock.sleep(paused) => {}
                }
                paused = Duration::ZERO;
            }
            // Asked for before the look, so that a bell in between is not missed.
            let rung = self.bell.notified();
            let nap = match self.drain(&receiver, &mut disabled, &mut paused, &stop).await {
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

    /// Sends what is due; says how long until something else is.
    async fn drain(
        &self,
        receiver: &Arc<dyn Deliver>,
        disabled: &mut bool,
        paused: &mut Duration,
        stop: &CancellationToken,
    ) -> Result<Duration, StoreError> {
        while !stop.is_cancelled()
            && let Some(row) = self.store.claim(receiver.name().clone(), self.clock.now()).await?
        {
            let delivery = if *disabled { gone() } else { receiver.deliver(&row.notice).await };
            *disabled |= matches!(delivery, Delivery::Rejected { disable: true, .. });
            if let Delivery::Retry { after: Some(after), .. } = &delivery {
                *paused = *after;
            }
            self.settle(receiver, &row, delivery).await?;
            if !paused.is_zero() {
                return Ok(Duration::ZERO);
            }
        }
        let due = self.store.next_due(receiver.name().clone()).await?;
        Ok(due.map_or(NAP, |due| due.since(self.clock.now()).clamp(Duration::from_millis(1), NAP)))
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
        let receipt = receipt(row, delivery, now, fastrand::f64());
        if let Receipt::Retry { why, next } = &receipt {
            tracing::warn!(receiver = %name, id = %row.notice.id, next = %next, "not delivered yet: {why}");
        }
        let Receipt::Dead { why } = &receipt else {
            return self.insist(|| self.store.settle(row.seq, receipt.clone(), now)).await;
        };
        let heirs = self.heirs(name);
        let heir = self.insist(|| self.store.bury(row.seq, why.clone(), heirs.clone(), now)).await?;
        let told = heir.as_deref().unwrap_or("nobody who does not know it");
        let title = notify::sanitize::line(&row.notice.title, 200);
        tracing::error!(receiver = %name, id = %row.notice.id, told_instead = told, "dead letter ({title}): {why}");
        self.bell.notify_waiters();
        Ok(())
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

/// The receiver that always exists.
pub const LOG: &str = "log";

fn gone() -> Delivery {
    Delivery::Rejected {
        why: "this receiver answered 410 Gone before and is disabled until a reload or restart".into(),
        disable: true,
    }
}

/// What an attempt means for its row.
pub fn receipt(row: &OutboxRow, delivery: Delivery, now: Time, jitter: f64) -> Receipt {
    match delivery {
        Delivery::Delivered { detail } => Receipt::Delivered { detail },
        Delivery::Rejected { why, .. } => Receipt::Dead { why },
        Delivery::Retry { why, after } => {
            match notify::next_attempt(row.attempts.saturating_add(1), now, jitter, after) {
                Some(next) => Receipt::Retry { why, next },
                None => Receipt::Dead {
                    why: format!("given up after {} attempts; the last: {why}", row.attempts + 1),
                },
            }
        }
    }
}
