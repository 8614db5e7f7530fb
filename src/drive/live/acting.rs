//! The one task that performs what was decided and committed, in order, and the way back of what came of it.
//!
//! It must never begin anything after the stop, nor cut off a DELETE that is under way before its time is over: that one is
//! waited for and recorded (FAULTS 84).

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{LiveError, Running, within};
use crate::{
    clock::Clock,
    drive::act::perform,
    model::{Act, ActReceipt, Came, Deed, DeleteAnswer},
    spheron::{Client, Transport},
    store::{Intent, Store},
};

/// How long a DELETE under way is waited for at shutdown.
pub const ENDING: Duration = Duration::from_secs(30);
/// One action is under way at a time; the rest are reads of those whose end was requested.
const WAITING_MAX: usize = 64;

pub struct Actor<T: Transport> {
    pub client: Arc<Client<T>>,
    pub store: Store,
    pub clock: Clock,
    /// How long what is under way at the stop is waited for.
    pub patience: Duration,
}

/// The loop's ends of the two channels, then the task's.
pub type Ways =
    ((mpsc::Sender<Act>, mpsc::Receiver<ActReceipt>), (mpsc::Receiver<Act>, mpsc::Sender<ActReceipt>));

pub fn ways() -> Ways {
    let (acts, to_do) = mpsc::channel(WAITING_MAX);
    let (done, receipts) = mpsc::channel(WAITING_MAX);
    ((acts, receipts), (to_do, done))
}

impl<T: Transport> Actor<T> {
    pub async fn run(
        self,
        (mut acts, receipts): (mpsc::Receiver<Act>, mpsc::Sender<ActReceipt>),
        stop: CancellationToken,
    ) {
        loop {
            let act = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                act = acts.recv() => act,
            };
            let Some(act) = act else { return };
            let performed = perform(&self.client, &act, |intent| self.commit(intent));
            let receipt = match act.deed {
                Deed::Delete { .. } | Deed::Commit { .. } => tokio::select! {
                    biased;
                    receipt = performed => receipt,
                    () = self.given_up(&stop) => {
                        tracing::warn!(
                            action = %act.action,
                            "a DELETE under way was not answered in time; the next start reads what became of it"
                        );
                        break;
                    }
                },
                Deed::FinalRead | Deed::CanTerminate | Deed::Verify => tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    receipt = performed => receipt,
                },
            };
            if receipts.send(receipt).await.is_err() {
                return;
            }
        }
        acts.close();
        while let Some(act) = acts.recv().await {
            if matches!(act.deed, Deed::Delete { .. }) {
                let came =
                    Came::Delete(DeleteAnswer::NotSent { why: "we were stopped before it was sent".into() });
                let sent = self.clock.now();
                let receipt = ActReceipt { action: act.action, seq: act.seq, sent, skew_ms: None, came };
                if receipts.send(receipt).await.is_err() {
                    return;
                }
            }
        }
    }

    /// So long after the stop nothing is waited for any more.
    async fn given_up(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        within(self.patience, std::future::pending::<()>()).await;
    }

    async fn commit(&self, intent: Intent) -> Result<(), Arc<str>> {
        match self.store.commit_intent(intent, self.clock.now()).await {
            Ok(committed) => committed,
            Err(error) => Err(format!("the intent was not committed: {error}").into()),
        }
    }
}

impl Running {
    /// What decided them is committed. One that finds no place is not performed: no receipt comes, and reads decide.
    pub(super) fn hand_out_acts(&mut self) {
        for act in self.core.take_acts() {
            if let Err(refused) = self.acts.try_send(act) {
                tracing::warn!("an act of a policy is not performed: {refused}");
            }
        }
    }

    /// Records what became of a DELETE that was under way at the stop.
    pub(super) async fn finish_acts(
        &mut self,
        lived: Result<(), LiveError>,
        receipts: &mut mpsc::Receiver<ActReceipt>,
    ) -> Result<(), LiveError> {
        lived?;
        let mut came = false;
        // The task ends in time, and its end of the channel with it.
        while let Some(receipt) = receipts.recv().await {
            // Nothing is handed out any more: what a read or a commit would lead to would be noted and never be done.
            if !matches!(receipt.came, Came::Delete(_)) {
                continue;
            }
            self.core.receive(receipt);
            came = true;
        }
        if came && self.pending.is_some() {
            self.commit().await?;
        }
        if came { self.commit().await } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
