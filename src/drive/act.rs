//! Performs one act and brings back its receipt.
//!
//! It must never decide, nor perform anything twice: what came of it is the engine's to judge.

use std::{future::Future, sync::Arc};

use crate::{
    model::{Act, ActReceipt, Came, Deed},
    spheron::{Answered, Client, Transport},
    store::Intent,
};

/// `commit` is the conditional commit of the store that the act was decided from; `Err` says why it was not made.
pub async fn perform<T, F>(client: &Client<T>, act: &Act, commit: impl FnOnce(Intent) -> F) -> ActReceipt
where
    T: Transport,
    F: Future<Output = Result<(), Arc<str>>>,
{
    let id = &act.target.id;
    let Answered { said: came, sent, skew_ms } = match &act.deed {
        Deed::FinalRead | Deed::Verify => {
            let Answered { said, sent, skew_ms } = client.final_read(id).await;
            Answered { said: Came::Read(said.map(|found| found.map(Box::new))), sent, skew_ms }
        }
        Deed::CanTerminate => {
            let Answered { said, sent, skew_ms } = client.can_terminate(id).await;
            Answered { said: Came::CanTerminate(said), sent, skew_ms }
        }
        Deed::Commit { policy, fingerprint } => {
            let sent = client.now();
            let intent = Intent {
                action: act.action.clone(),
                seq: act.seq,
                target: act.target.clone(),
                policy: policy.clone(),
                fingerprint: fingerprint.clone(),
            };
            Answered { said: Came::Commit(commit(intent).await), sent, skew_ms: None }
        }
        Deed::Delete { not_after } => {
            let Answered { said, sent, skew_ms } = client.delete(id, *not_after).await;
            Answered { said: Came::Delete(said), sent, skew_ms }
        }
    };
    ActReceipt { action: act.action.clone(), seq: act.seq, sent, skew_ms, came }
}

#[cfg(test)]
mod tests;
