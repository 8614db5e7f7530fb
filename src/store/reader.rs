//! Reads the database beside the daemon, or without one: the present, the past, the poll log, the deliveries.
//!
//! It must never write, nor hold a read open longer than its deadline: a long reader starves the checkpoint (FAULTS 39).

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::Connection;

use super::{
    OpenError, Options, Recovered, StoreError, actions, audit,
    codes::{self, Dictionary},
    costs, deliveries, open,
    recall::{self, AsOf},
};
use crate::{
    clock::Clock,
    model::{
        Action, ActionId, AuditRow, Cost, CostBy, DeliveriesAsk, Dispatch, Feed, PollRow, Shift, Snapshot,
        Time,
    },
};

/// Between two looks at the clock, in SQLite's virtual instructions: some tens of microseconds.
const OPS_PER_LOOK: i32 = 10_000;

/// A poll, and the step whose end shows what was known after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polled {
    pub step: i64,
    pub row: PollRow,
}

pub struct Reader {
    conn: Connection,
    clock: Clock,
    /// Of this many real seconds.
    limit: Duration,
    deadline: Arc<Mutex<Duration>>,
}

impl Reader {
    /// `limit` is how long one call may take.
    pub fn open(path: &Path, clock: Clock, limit: Duration) -> Result<Self, OpenError> {
        let mut conn = open::reader(path, &Options::default())?;
        let deadline = Arc::new(Mutex::new(Duration::MAX));
        let (watch, until) = (clock.clone(), deadline.clone());
        let late = move || watch.monotonic() > *until.lock().unwrap_or_else(PoisonError::into_inner);
        conn.progress_handler(OPS_PER_LOOK, Some(late))
            .map_err(|error| OpenError::Store { path: path.into(), source: error.into() })?;
        Ok(Self { conn, clock, limit, deadline })
    }

    /// What the last commit left.
    pub fn current(&mut self) -> Result<Recovered, StoreError> {
        self.read(|conn| recall::recovered(conn, &recall::known(conn, AsOf::Now)?))
    }

    /// What was spent from `since` until `until`, in whole hours of UTC (days, by subject beyond 400 days ago): sums, the
    /// largest first; by hour or day in the order of time.
    pub fn costs(&mut self, since: Time, until: Time, by: CostBy) -> Result<Vec<Cost>, StoreError> {
        self.read(|conn| costs::sums(conn, since, until, by))
    }

    /// What went to whom, the newest first.
    pub fn deliveries(&mut self, ask: &DeliveriesAsk) -> Result<Vec<Dispatch>, StoreError> {
        self.read(|conn| deliveries::list(conn, ask))
    }

    /// The actions whose id begins so; `""`: all, as many as may matter.
    pub fn actions(&mut self, prefix: &str) -> Result<Vec<Action>, StoreError> {
        self.read(|conn| actions::beginning(conn, prefix))
    }

    /// Every step of an action, oldest first.
    pub fn shifts(&mut self, action: &ActionId) -> Result<Vec<Shift>, StoreError> {
        self.read(|conn| actions::shifts(conn, action))
    }

    /// What people ordered, the newest first; `before` is the last row of the page before.
    pub fn audit(&mut self, limit: u32, before: Option<i64>) -> Result<Vec<AuditRow>, StoreError> {
        self.read(|conn| audit::list(conn, limit, before))
    }

    /// What was true at a time: at the end of the last step, in the order of writing, that is not after it.
    pub fn values_at(&mut self, at: Time) -> Result<Option<Snapshot>, StoreError> {
        self.read(|conn| match recall::step_at(conn, at)? {
            Some(step) => Ok(Some(recall::known(conn, AsOf::Step(step))?.snapshot())),
            None => Ok(None),
        })
    }

    /// What was true at the end of a step, as the poll log names it.
    pub fn values_of(&mut self, step: i64) -> Result<Snapshot, StoreError> {
        self.read(|conn| Ok(recall::known(conn, AsOf::Step(step))?.snapshot()))
    }

    /// The polls of a feed in the order of writing, after a step (0: from the first), `max` at most.
    pub fn poll_log(&mut self, feed: Feed, after: i64, max: u32) -> Result<Vec<Polled>, StoreError> {
        self.read(|conn| poll_log(conn, feed, after, max))
    }

    /// One transaction, so that every query of a call sees the same commit.
    fn read<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // The clock of a demo runs faster, and so must the time it is given.
        let until = self.clock.monotonic().saturating_add(self.limit.saturating_mul(self.clock.speed()));
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = until;
        let transaction = self.conn.transaction()?;
        work(&transaction)
    }
}

fn poll_log(conn: &Connection, feed: Feed, after: i64, max: u32) -> Result<Vec<Polled>, StoreError> {
    let mut words = Dictionary::new(conn);
    let mut select = conn.prepare_cached(
        "SELECT poll.step, step.at, poll.late, poll.outcome, poll.items, poll.failure, poll.trouble
         FROM poll JOIN step ON step.seq = poll.step
         WHERE poll.feed = ?1 AND poll.step > ?2 ORDER BY poll.seq LIMIT ?3",
    )?;
    let mut rows = select.query([codes::feed(feed), after, i64::from(max)])?;
    let mut polls = Vec::new();
    while let Some(row) = rows.next()? {
        let (at, late): (i64, i64) = (row.get(1)?, row.get(2)?);
        let trouble: Option<i64> = row.get(6)?;
        let poll = PollRow {
            feed,
            at: Time::from_millis(at.wrapping_add(late)),
            outcome: codes::outcome_of(row.get(3)?)?,
            items: row.get(4)?,
            failure: row.get::<_, Option<i64>>(5)?.map(codes::failure_of).transpose()?,
            trouble: trouble.map(|pk| words.word(pk)).transpose()?,
        };
        polls.push(Polled { step: row.get(0)?, row: poll });
    }
    Ok(polls)
}
