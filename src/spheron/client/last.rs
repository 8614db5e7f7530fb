//! The calls of an end: the final read, can-terminate, the DELETE, each with when it was sent and the clock of its own answer.
//!
//! It must never repeat a DELETE, send one too late, or take an answer for more than it says.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Attempt, Call, Client, found, malformed, record,
    wire::{self, ErrorBody},
};
use crate::{
    model::{CanTerminate, DeleteAnswer, Deployment, DeploymentId, Failure, FailureKind, Status, Time},
    spheron::{Endpoint, Transport, governor::Priority, transport::http::CONNECT_TIMEOUT},
};

/// An answer, and what surrounded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered<T> {
    pub said: T,
    /// When its sending began: what it says is no older.
    pub sent: Time,
    /// The API's clock minus ours, by its own `Date`; `None` where it had none.
    pub skew_ms: Option<i64>,
}

impl<T: Transport> Client<T> {
    /// As [`Client::deployment`], before its own poll and after nothing else: an end depends on it.
    pub async fn final_read(&self, id: &DeploymentId) -> Answered<Result<Option<Deployment>, Failure>> {
        let call = Call::one(Endpoint::Deployment, id.as_str(), Priority::Final);
        let Attempt { answer, sent, skew_ms, .. } = self.ask_closely(&call).await;
        let said = record(&call, answer, |deployment: &Deployment| deployment.id == *id);
        Answered { said, sent, skew_ms }
    }

    /// `None`: the API knows no such deployment (404), so it is not ours to end (FAULTS 11).
    pub async fn can_terminate(&self, id: &DeploymentId) -> Answered<Result<Option<CanTerminate>, Failure>> {
        let call = Call::one(Endpoint::CanTerminate, id.as_str(), Priority::Final);
        let Attempt { answer, sent, skew_ms, .. } = self.ask_closely(&call).await;
        let read = |body: Bytes| wire::can_terminate(&body).map_err(|why| malformed(call.endpoint, &why));
        let said = found(answer).and_then(|body| body.map(read).transpose());
        Answered { said, sent, skew_ms }
    }

    /// Ends a deployment and destroys its disk, unless it might reach the API after `not_after`. That it is accepted does not say that it is gone.
    pub async fn delete(&self, id: &DeploymentId, not_after: Time) -> Answered<DeleteAnswer> {
        let now = self.transport.now();
        if now.plus(CONNECT_TIMEOUT) > not_after {
            let why = format!("it was to be sent by {not_after}, and is not sent later");
            return Answered { said: DeleteAnswer::NotSent { why: why.into() }, sent: now, skew_ms: None };
        }
        let attempt = self.attempt(&Call::one(Endpoint::Terminate, id.as_str(), Priority::Final)).await;
        let (sent, skew_ms) = (attempt.sent, attempt.skew_ms);
        Answered { said: answer(attempt), sent, skew_ms }
    }
}

/// What an answer to a DELETE says. Whatever could have been said by something on the way may have been done.
fn answer(attempt: Attempt) -> DeleteAnswer {
    let Attempt { answer, is_sent, status, said, wait_until, .. } = attempt;
    let Failure { kind, message: why } = match answer {
        Ok(_) => return DeleteAnswer::Accepted,
        Err(failure) => failure,
    };
    if !is_sent {
        return DeleteAnswer::NotSent { why };
    }
    match (kind, status) {
        (FailureKind::NotFound, _) => DeleteAnswer::NotFound,
        (_, Some(400)) if said.is_object => refusal(&said, why),
        (FailureKind::Unauthorized | FailureKind::Forbidden, _) => DeleteAnswer::Refused { why },
        // Counted out before it was looked at. Of a page that is not the API's nobody knows what stood behind it.
        (FailureKind::RateLimited, _) if said.is_object => match wait_until {
            Some(until) => DeleteAnswer::AskedToWait { until },
            None => DeleteAnswer::Lost { why },
        },
        // 408 is about the way there, and a page that is not JSON is not the API's.
        (FailureKind::Refused, Some(code)) if code != 408 && said.is_object => DeleteAnswer::Refused { why },
        (_, _) => DeleteAnswer::Lost { why },
    }
}

/// The two documented bodies of a 400, which carry no code; anything else is a refusal.
fn refusal(said: &ErrorBody, why: Arc<str>) -> DeleteAnswer {
    let current = said.current_status.as_deref().map(|text| Status::from(Arc::<str>::from(text)));
    if let Some(status) = current.filter(Status::is_ended) {
        return DeleteAnswer::Ended { status: status.as_str().into() };
    }
    let text = |text: &Option<String>| {
        text.as_deref().is_some_and(|text| text.to_ascii_lowercase().contains("minimum runtime"))
    };
    match said.minutes_remaining {
        Some(minutes) if minutes > 0 => DeleteAnswer::MinimumRuntime { minutes },
        Some(_) | None if text(&said.error) || text(&said.message) => {
            DeleteAnswer::MinimumRuntime { minutes: 1 }
        }
        Some(_) | None => DeleteAnswer::Refused { why },
    }
}
