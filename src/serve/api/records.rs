//! What only the database knows: the way from the API to it.
//!
//! It must never be asked on an async thread: an answer may take as long as a query.

use std::fmt;

use super::Problem;
use crate::model::{Action, ActionId, Cost, CostBy, DeliveriesAsk, Dispatch, Shift, Time};

/// Reads what is committed. The error is for whoever asked.
pub trait Records: Send + Sync + fmt::Debug {
    /// Sums in whole hours of UTC, from `since` until `until`.
    fn costs(&self, since: Time, until: Time, by: CostBy) -> Result<Vec<Cost>, Problem>;
    /// What went to whom, the newest first.
    fn deliveries(&self, ask: &DeliveriesAsk) -> Result<Vec<Dispatch>, Problem>;
    /// The actions whose id begins so; `""`: all, as many as may matter.
    fn actions(&self, prefix: &str) -> Result<Vec<Action>, Problem>;
    /// Every step of an action, oldest first.
    fn shifts(&self, action: &ActionId) -> Result<Vec<Shift>, Problem>;
}
