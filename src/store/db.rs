//! The synchronous core: one connection that writes, one transaction per call.
//!
//! It must never go on after the disk has failed: the first fatal error answers every later call (FAULTS 34).

use std::{cell::OnceCell, collections::BTreeMap, fs, path::Path, path::PathBuf, sync::Arc, time::Duration};

use rusqlite::{Connection, TransactionBehavior, params};

use super::{
    Intent, OpenError, Options, StoreError, actions, audit, costs,
    lock::{Lock, beside},
    open,
    orders::Marker,
    outbox, raw,
    recall::{self, AsOf},
    series::Known,
};
use crate::model::{
    Action, AlertKey, AlertState, Books, Cost, CostBy, Feed, Group, GroupKey, Heard, Notice, OutboxDepth,
    OutboxRow, Receipt, Snapshot, StepRecord, Time,
};

/// What the last commit left. `feeds`, `skew_ms` and `config_error` of the snapshot belong to the running process: empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    pub snapshot: Snapshot,
    pub alerts: BTreeMap<AlertKey, AlertState>,
    /// The ledger's lines and purses.
    pub books: Books,
    /// What waits to be told together.
    pub groups: BTreeMap<GroupKey, Group>,
    /// The last poll of each vital feed that was not a failed one.
    pub polls: BTreeMap<Feed, Time>,
    /// Every open action, and those that were over last.
    pub actions: Vec<Action>,
}

#[derive(Debug)]
pub struct Db {
    // Before the lock, so that it is closed before another process may open the file.
    conn: Connection,
    /// `None` in memory.
    file: Option<(PathBuf, Lock)>,
    /// `None` in memory: there is nothing to put back.
    marker: Option<Marker>,
    /// What the last rows say; `None` after a commit that failed, until it is read again.
    known: Option<Known>,
    failed: OnceCell<StoreError>,
    keep_raw: Option<Duration>,
}

impl Db {
    pub fn open(path: &Path) -> Result<(Self, Recovered), OpenError> {
        Self::open_with(path, &Options::default())
    }

    pub fn open_with(path: &Path, options: &Options) -> Result<(Self, Recovered), OpenError> {
        let (conn, path, lock) = open::writer(path, options)?;
        let failed = |source| OpenError::Store { path: path.clone(), source };
        let mut db = Self::new(conn, Some((path.clone(), lock)), options);
        // We hold the lock: whoever claimed these is dead (FAULTS 59).
        db.write(|conn| outbox::release(conn, None)).map_err(failed)?;
        let known = recall::known(&db.conn, AsOf::Now).map_err(failed)?;
        let mut recovered = recall::recovered(&db.conn, &known).map_err(failed)?;
        db.known = Some(known);
        let mut marker = Marker::read(&path, &db.conn).map_err(failed)?;
        let restored = marker.judge(recovered.snapshot.armings.values(), recovered.actions.iter());
        recovered.snapshot.restored = restored.map(Arc::new);
        db.marker = Some(marker);
        if let Err(why) = db.mark() {
            tracing::warn!("{why}");
        }
        Ok((db, recovered))
    }

    pub fn in_memory() -> Result<Self, StoreError> {
        Self::in_memory_with(&Options::default())
    }

    pub fn in_memory_with(options: &Options) -> Result<Self, StoreError> {
        Ok(Self::new(open::in_memory()?, None, options))
    }

    fn new(conn: Connection, file: Option<(PathBuf, Lock)>, options: &Options) -> Self {
        Self { conn, file, marker: None, known: None, failed: OnceCell::new(), keep_raw: options.keep_raw }
    }

    /// Everything of one step, or nothing. Costs what the record holds, however much the database holds.
    pub fn commit(&mut self, record: &StepRecord) -> Result<(), StoreError> {
        if record.is_empty() {
            return Ok(());
        }
        let mut known = match self.known.take() {
            Some(known) => known,
            None => self.read(|conn| recall::known(conn, AsOf::Now))?,
        };
        let marker = self.marker.take();
        let counted = self.write(|conn| {
            known.write(conn, record)?;
            for (key, state) in &record.alerts {
                write_alert(conn, key, state.as_ref())?;
            }
            for (key, group) in &record.groups {
                write_group(conn, key, group.as_ref())?;
            }
            costs::write(conn, record)?;
            actions::write(conn, &record.actions, &record.shifts, &record.wishes)?;
            audit::write(conn, &record.audit)?;
            record.notices.iter().try_for_each(|notice| outbox::enqueue(conn, notice, record.at))?;
            marker.as_ref().map_or(Ok(None), |marker| marker.count(conn, record))
        });
        self.marker = marker;
        let counted = counted?;
        self.known = Some(known);
        if let Some(marker) = &mut self.marker {
            marker.committed(record, counted);
        }
        if let Err(why) = self.mark() {
            // What is committed is committed; nothing is ended until it is written.
            tracing::error!("{why}");
        }
        Ok(())
    }

    /// Brings the marker up to what is committed. `Err` is for people.
    fn mark(&mut self) -> Result<(), Arc<str>> {
        let Some(marker) = &mut self.marker else { return Ok(()) };
        marker.write().map_err(|error| {
            format!("the file `.orders` beside the database cannot be written, so nothing is ended: {error}; make room, or give the folder back")
                .into()
        })
    }

    /// As `open` returns it, read from the rows alone.
    pub fn recover(&self) -> Result<Recovered, StoreError> {
        self.read(|conn| recall::recovered(conn, &recall::known(conn, AsOf::Now)?))
    }

    /// What was true at a time: at the end of the last step, in the order of writing, that is not after it.
    pub fn values_at(&self, at: Time) -> Result<Option<Snapshot>, StoreError> {
        self.read(|conn| match recall::step_at(conn, at)? {
            Some(step) => Ok(Some(recall::known(conn, AsOf::Step(step))?.snapshot())),
            None => Ok(None),
        })
    }

    /// As [`super::Reader::costs`] does beside it.
    pub fn costs(&self, since: Time, until: Time, by: CostBy) -> Result<Vec<Cost>, StoreError> {
        self.read(|conn| costs::sums(conn, since, until, by))
    }

    /// Commits an intent, if all that it asks for still holds; `Err` within says what does not.
    pub fn commit_intent(&mut self, intent: &Intent, now: Time) -> Result<Result<(), Arc<str>>, StoreError> {
        if let Err(why) = self.mark() {
            return Ok(Err(why));
        }
        self.write(|conn| actions::commit_intent(conn, intent, now))
    }

    /// Who took the announcements of the open actions, and which receivers ever took anything.
    pub fn heard(&self) -> Result<Heard, StoreError> {
        self.read(actions::heard)
    }

    /// Takes the receiver's next row; `None` when nothing is due. Whoever claims must settle.
    pub fn claim(&mut self, receiver: &str, now: Time) -> Result<Option<OutboxRow>, StoreError> {
        self.write(|conn| outbox::claim(conn, receiver, now))
    }

    /// Takes a row that has waited since before `than`, due or not.
    pub fn claim_older(
        &mut self,
        receiver: &str,
        than: Time,
        now: Time,
    ) -> Result<Option<OutboxRow>, StoreError> {
        self.write(|conn| outbox::claim_older(conn, receiver, than, now))
    }

    pub fn settle(&mut self, seq: i64, receipt: &Receipt, now: Time) -> Result<(), StoreError> {
        self.write(|conn| outbox::settle(conn, seq, receipt, now))
    }

    /// A dead letter: the row ends, and unless another of `heirs` has the notice, the first that never had it gets it, in one
    /// transaction. The last of them is the last resort. Says who it was.
    pub fn bury(
        &mut self,
        seq: i64,
        why: String,
        heirs: &[Arc<str>],
        now: Time,
    ) -> Result<Option<Arc<str>>, StoreError> {
        self.write(|conn| {
            // Before it ends, which takes it out of its lanes.
            let heir = outbox::hand_on(conn, seq, heirs, now)?;
            outbox::settle(conn, seq, &Receipt::Dead { why: why.clone() }, now)?;
            Ok(heir)
        })
    }

    pub fn waiting(&self, receiver: &str, after: i64, max: u32) -> Result<Vec<(i64, Notice)>, StoreError> {
        self.read(|conn| outbox::waiting(conn, receiver, after, max))
    }

    /// Tells all `others` that never had the notice of a row that waits on; says who.
    pub fn share(&mut self, seq: i64, others: &[Arc<str>], now: Time) -> Result<Vec<Arc<str>>, StoreError> {
        self.write(|conn| outbox::spread(conn, seq, others, now))
    }

    /// Enters an attempt that may come too late to be repeated, and tells all `others` that never had the notice; says who.
    pub fn spread(
        &mut self,
        seq: i64,
        receipt: &Receipt,
        others: &[Arc<str>],
        now: Time,
    ) -> Result<Vec<Arc<str>>, StoreError> {
        self.write(|conn| {
            // Before it may end, which takes it out of its lanes.
            let told = outbox::spread(conn, seq, others, now)?;
            outbox::settle(conn, seq, receipt, now)?;
            Ok(told)
        })
    }

    /// Gives a claim back as if it had not been taken.
    pub fn release(&mut self, seq: i64) -> Result<(), StoreError> {
        self.write(|conn| outbox::release(conn, Some(seq)))
    }

    pub fn next_due(&self, receiver: &str) -> Result<Option<Time>, StoreError> {
        self.read(|conn| outbox::next_due(conn, receiver))
    }

    pub fn outbox(&self) -> Result<BTreeMap<Arc<str>, OutboxDepth>, StoreError> {
        self.read(outbox::depth)
    }

    /// Deletes a small batch of notices that ended 30 days ago or more, of costs by the hour of 400 days ago, and of what was
    /// polled before `keep_raw`; 0 when there is nothing left to delete.
    pub fn prune(&mut self, now: Time) -> Result<usize, StoreError> {
        let keep_raw = self.keep_raw;
        self.write(|conn| {
            let told = outbox::prune(conn, now)?.saturating_add(costs::prune(conn, now)?);
            Ok(told.saturating_add(keep_raw.map_or(Ok(0), |keep| raw::prune(conn, keep, now))?))
        })
    }

    /// Room on the file system of the database; `None` in memory, or where it cannot be told.
    pub fn free_bytes(&self) -> Option<u64> {
        let (path, _) = self.file.as_ref()?;
        let stat = rustix::fs::statvfs(path).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// The file and its WAL.
    pub fn size_bytes(&self) -> u64 {
        let length = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
        match &self.file {
            Some((path, _)) => length(path).saturating_add(length(&beside(path, "-wal"))),
            None => {
                let pragma = |name| self.conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
                let (pages, bytes) = (pragma("page_count").unwrap_or(0), pragma("page_size").unwrap_or(0));
                pages.saturating_mul(bytes).unsigned_abs()
            }
        }
    }

    fn write<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.usable()?;
        // IMMEDIATE: a deferred one that reads first is refused at once, whatever the busy timeout.
        let answer = match self.conn.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(transaction) => match work(&transaction) {
                Ok(value) => transaction.commit().map(|()| value).map_err(StoreError::from),
                Err(error) => Err(error),
            },
            Err(error) => Err(error.into()),
        };
        self.noted(answer)
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.usable()?;
        self.noted(work(&self.conn))
    }

    fn usable(&self) -> Result<(), StoreError> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn noted<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error @ StoreError::Fatal { .. }) = &answer {
            // The first one stays: it says what began it.
            self.failed.get_or_init(|| error.clone());
        }
        answer
    }
}

fn write_alert(conn: &Connection, key: &AlertKey, state: Option<&AlertState>) -> Result<(), StoreError> {
    let subject = key.subject.to_string();
    match state {
        None => {
            conn.prepare_cached("DELETE FROM alert WHERE rule = ?1 AND subject = ?2")?
                .execute(params![key.rule, subject])?;
        }
        Some(state) => {
            let text = serde_json::to_string(state).map_err(|error| StoreError::Sqlite(error.to_string()))?;
            conn.prepare_cached("INSERT OR REPLACE INTO alert (rule, subject, state) VALUES (?1, ?2, ?3)")?
                .execute(params![key.rule, subject, text])?;
        }
    }
    Ok(())
}

fn write_group(conn: &Connection, key: &GroupKey, group: Option<&Group>) -> Result<(), StoreError> {
    match group {
        None => {
            conn.prepare_cached("DELETE FROM waiting WHERE receiver = ?1 AND labels = ?2")?
                .execute(params![key.receiver, key.labels])?;
        }
        Some(group) => {
            let text = serde_json::to_string(group).map_err(|error| StoreError::Sqlite(error.to_string()))?;
            conn.prepare_cached(
                "INSERT OR REPLACE INTO waiting (receiver, labels, body) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![key.receiver, key.labels, text])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
