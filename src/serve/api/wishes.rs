//! What people want of policies, asked for over the socket: keep, arm, disarm, cancel.
//!
//! It must never say that it is done before it is committed, nor that it came in time where it did not.

use std::{pin::Pin, time::Duration};

use axum::{
    body::Body,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{
    Arm, Disarmed, NewKeep, Orders, Problem, Stop, actions,
    changes::{Api, COMMITTED_WITHIN, not_yet, read_body, reply, stopping},
    deployments, keeps, policies,
    query::Query,
};
use crate::model::{ArmError, Cancel, CancelError, Keep, Target, Tracked, WishError, keep::said_by};

/// What becomes of an order. `None`: nobody takes it any more.
pub type Asking<'a, T> = Pin<Box<dyn Future<Output = Option<T>> + Send + 'a>>;

impl Api {
    pub(super) async fn keep(&self, orders: &dyn Orders, body: Body) -> Result<Response, Problem> {
        let asked: NewKeep = parse(body, "keep").await?;
        let keep = self.new_keep(&asked)?;
        if !done(orders.keep(keep.clone())).await? {
            return Err(too_many());
        }
        // The view came before the reply, and says what the keep came too late for.
        let view = self.view();
        let look = self.look(&view);
        let document = super::json(&keeps::keep(look, &keep, &keeps::late(look)))?;
        Ok(reply(StatusCode::CREATED, document))
    }

    fn new_keep(&self, asked: &NewKeep) -> Result<Keep, Problem> {
        let view = self.view();
        let now = self.look(&view).now;
        let until = match (asked.until, asked.for_secs, asked.forever) {
            (Some(until), None, false) => Some(until.0),
            (None, Some(secs), false) => Some(now.plus(Duration::from_secs(secs))),
            (None, None, true) => None,
            _ => {
                return Err(Problem::new(
                    400,
                    "a keep has exactly one of `until`, `for_secs` and `\"forever\": true`",
                ));
            }
        };
        let tracked = deployments::find(&view, &asked.deployment)?;
        let target = still_there(tracked)?;
        Keep::new(target, until, &asked.by, &asked.reason, now).map_err(refused)
    }

    /// `?by=`: who says so; a DELETE has no body.
    pub(super) async fn end_keep(
        &self,
        orders: &dyn Orders,
        id: &str,
        uri: &Uri,
    ) -> Result<Response, Problem> {
        let query = Query::parse(uri.query().unwrap_or_default())?;
        query.only(&["by"])?;
        let by = said_by(query.text("by").unwrap_or_default()).map_err(refused)?;
        if done(orders.end_keep(id.into(), by)).await? {
            Ok(StatusCode::NO_CONTENT.into_response())
        } else {
            Err(Problem::new(404, "no keep that holds has this id; `keeps` lists all"))
        }
    }

    pub(super) async fn arm(&self, orders: &dyn Orders, name: &str, body: Body) -> Result<Response, Problem> {
        let asked: Arm = parse(body, "confirmation").await?;
        let by = said_by(&asked.by).map_err(refused)?;
        let armed = done(orders.arm(name.into(), asked.code.into(), by)).await?;
        armed.map_err(|error| match error {
            ArmError::NoSuchPolicy => Problem::new(404, error.to_string()),
            ArmError::NoSelector | ArmError::NoReceiver | ArmError::WrongCode => {
                Problem::new(409, error.to_string())
            }
        })?;
        let view = self.view();
        let look = self.look(&view);
        let document = super::json(&policies::policy(look, policies::find(look, name)?))?;
        Ok(reply(StatusCode::OK, document))
    }

    pub(super) async fn disarm(
        &self,
        orders: &dyn Orders,
        name: &str,
        body: Body,
    ) -> Result<Response, Problem> {
        let asked: Stop = parse(body, "wish").await?;
        let by = said_by(&asked.by).map_err(refused)?;
        let view = self.view();
        // One that is gone from the configuration may be armed still, and would be so again if it came back.
        if !view.snapshot.armings.contains_key(name) {
            policies::find(self.look(&view), name)?;
        }
        let was_armed = done(orders.disarm(name.into(), by)).await?;
        let document = super::json(&Disarmed { policy: name.to_owned(), was_armed })?;
        Ok(reply(StatusCode::OK, document))
    }

    pub(super) async fn cancel(
        &self,
        orders: &dyn Orders,
        text: &str,
        body: Body,
    ) -> Result<Response, Problem> {
        let asked: Stop = parse(body, "wish").await?;
        let by = said_by(&asked.by).map_err(refused)?;
        let view = self.view();
        let id = actions::find(&view, text)?.id.clone();
        let cancel = Cancel { at: self.look(&view).now, by };
        let cancelled = done(orders.cancel(id.clone(), cancel)).await?;
        cancelled.map_err(|error| match error {
            CancelError::NoSuchAction => Problem::new(404, error.to_string()),
            CancelError::NothingAnnounced | CancelError::TooLate(_) => Problem::new(409, error.to_string()),
        })?;
        let view = self.view();
        let look = self.look(&view);
        let document = super::json(&actions::action(look, actions::find(&view, id.as_str())?))?;
        Ok(reply(StatusCode::OK, document))
    }
}

/// The identity of what can be kept.
pub fn still_there(tracked: &Tracked) -> Result<Target, Problem> {
    let deployment = &tracked.deployment;
    if tracked.is_live() {
        return Ok(Target::of(deployment));
    }
    let detail = format!("it has ended (`{}`), so there is nothing to keep", deployment.status);
    Err(Problem::new(409, detail))
}

/// What the loop says after the commit, or at once where it refuses.
async fn done<T>(asking: Asking<'_, T>) -> Result<T, Problem> {
    match timeout(COMMITTED_WITHIN, asking).await {
        Ok(answer) => answer.ok_or_else(stopping),
        Err(_) => Err(not_yet()),
    }
}

async fn parse<T: DeserializeOwned + Default>(body: Body, what: &str) -> Result<T, Problem> {
    let body = read_body(body).await?;
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body)
        .map_err(|error| Problem::new(400, format!("the body is no {what}: {error}")))
}

fn refused(error: WishError) -> Problem {
    Problem::new(400, error.to_string())
}

fn too_many() -> Problem {
    Problem::new(409, "there are too many keeps already; end those that are not needed")
}
