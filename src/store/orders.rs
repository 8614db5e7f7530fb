//! The marker beside the database, `PATH.orders`: how many commits changed what people ordered and what actions became of it.
//! A database that is put back from a copy is behind it, and so is known for one (FAULTS 38).
//!
//! It must never be ahead of what is committed, nor settle before the daemon has disowned what an old copy holds.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Connection;

use super::{StoreError, lock::beside};
use crate::model::{Action, Arming, Order, Restored, StageName, StepRecord};

#[derive(Debug)]
pub struct Marker {
    path: PathBuf,
    /// Which database it is of, by chance.
    database: String,
    /// What the file says, if it is of this database; `None` too where it cannot be read.
    says: Option<u64>,
    /// What it should say; it is written where it says less.
    count: u64,
    /// The database is an old copy, and nobody has disowned that yet.
    old: bool,
}

impl Marker {
    pub fn read(path: &Path, conn: &Connection) -> Result<Self, StoreError> {
        let path = beside(path, ".orders");
        let (database, count): (String, i64) =
            conn.query_row("SELECT database, count FROM orders", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let says = fs::read_to_string(&path).ok().and_then(|text| parse(&text, &database));
        Ok(Self { path, database, says, count: count.unsigned_abs(), old: false })
    }

    /// Whether the database is older than what was ordered, or may be. Without its marker it may, if anything could end by it.
    pub fn judge<'a>(
        &mut self,
        armings: impl Iterator<Item = &'a Arc<Arming>>,
        mut actions: impl Iterator<Item = &'a Action>,
    ) -> Option<Restored> {
        let armed: Vec<Arc<str>> = armings.map(|arming| arming.policy.clone()).collect();
        let lacks = match self.says {
            Some(says) if says <= self.count => return None,
            Some(says) => Some(says - self.count),
            None if armed.is_empty() && !actions.any(may_end) => return None,
            None => None,
        };
        self.old = true;
        Some(Restored { lacks, armed })
    }

    /// Counts within the transaction of a record that orders something, or moves an action.
    pub fn count(&self, conn: &Connection, record: &StepRecord) -> Result<Option<u64>, StoreError> {
        if record.wishes.is_empty() && record.actions.is_empty() && record.audit.is_empty() {
            return Ok(None);
        }
        // Beyond whatever the marker says, so that what was disowned stays so even if the marker is not written.
        let floor = if disowns(record) { self.says.unwrap_or(0) } else { 0 };
        let floor = i64::try_from(floor).unwrap_or(i64::MAX);
        let count: i64 = conn
            .prepare_cached("UPDATE orders SET count = max(count, ?1) + 1 RETURNING count")?
            .query_row([floor], |row| row.get(0))?;
        Ok(Some(count.unsigned_abs()))
    }

    /// The record is committed.
    pub fn committed(&mut self, record: &StepRecord, count: Option<u64>) {
        self.count = count.unwrap_or(self.count);
        self.old &= !disowns(record);
    }

    /// Whole or as it was: written under another name, synced, then renamed.
    pub fn write(&mut self) -> io::Result<()> {
        if self.old || self.says == Some(self.count) {
            return Ok(());
        }
        let part = beside(&self.path, ".part");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&part)?;
        file.write_all(format!("{} {}\n", self.database, self.count).as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.says = Some(self.count);
        Ok(())
    }
}

/// What was requested already is only read again.
fn may_end(action: &Action) -> bool {
    let stage = action.stage.name();
    stage.is_stoppable() && stage != StageName::Withheld
}

fn disowns(record: &StepRecord) -> bool {
    record.audit.iter().any(|audit| matches!(audit.order, Order::Restored { .. }))
}

fn parse(text: &str, database: &str) -> Option<u64> {
    let (of, count) = text.trim_end().split_once(' ')?;
    (of == database).then(|| count.parse().ok())?
}
