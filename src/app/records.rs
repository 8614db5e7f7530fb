//! The database as the API reads it, beside the daemon or without one.
//!
//! It must never keep a connection between two questions: they are rare, and its memory is not free.

use std::{fmt, path::PathBuf, time::Duration};

use crate::{
    clock::Clock,
    model::{Action, ActionId, Cost, CostBy, DeliveriesAsk, Dispatch, Shift, Time},
    serve::api::{Problem, Records},
    store::Reader,
};

/// How long a question may take, in real time.
const QUERY_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    clock: Clock,
}

impl Archive {
    pub fn new(path: PathBuf, clock: Clock) -> Self {
        Self { path, clock }
    }

    fn reader(&self) -> Result<Reader, Problem> {
        Reader::open(&self.path, self.clock.clone(), QUERY_MAX).map_err(unreadable)
    }
}

impl Records for Archive {
    fn costs(&self, since: Time, until: Time, by: CostBy) -> Result<Vec<Cost>, Problem> {
        self.reader()?.costs(since, until, by).map_err(unreadable)
    }

    fn deliveries(&self, ask: &DeliveriesAsk) -> Result<Vec<Dispatch>, Problem> {
        self.reader()?.deliveries(ask).map_err(unreadable)
    }

    fn actions(&self, prefix: &str) -> Result<Vec<Action>, Problem> {
        self.reader()?.actions(prefix).map_err(unreadable)
    }

    fn shifts(&self, action: &ActionId) -> Result<Vec<Shift>, Problem> {
        self.reader()?.shifts(action).map_err(unreadable)
    }
}

/// The words are for the log alone: they name the file.
fn unreadable(error: impl fmt::Display) -> Problem {
    tracing::warn!(%error, "the API cannot read the database");
    Problem::new(503, "the database cannot be read now; ask again, or for less, and see the daemon's log")
}
