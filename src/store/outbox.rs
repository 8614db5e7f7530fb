//! The outbox: notices wait here per receiver, are claimed one by one, and keep a receipt of every attempt.
//!
//! It must never let a notice overtake an earlier one of the same alert at the same receiver (FAULTS 63, invariant 10).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rusqlite::{Connection, OptionalExtension, params};

use super::{StoreError, actions, recall::json};
use crate::model::{Notice, OutboxDepth, OutboxRow, Progress, Receipt, Time, Trouble};

const WAITING: i64 = 0;
const CLAIMED: i64 = 1;
pub const DELIVERED: i64 = 2;
const DEAD: i64 = 3;

/// How long an ended row and its receipts stay.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// Rows that one prune deletes at most, so that it holds the writer up for a moment only.
const PRUNED_AT_ONCE: i64 = 500;

/// Longer than any retry waits. What is due later than that was entered while the clock was ahead, and is due now.
const RETRY_MAX: Duration = Duration::from_secs(13 * 3_600);

/// One row per receiver. What was committed before is left as it is: stepping again tells nobody twice, and a receiver
/// whose group comes later gets the event that others had.
pub fn enqueue(conn: &Connection, notice: &Notice, at: Time) -> Result<(), StoreError> {
    let body = serde_json::to_string(notice).map_err(|error| StoreError::Sqlite(error.to_string()))?;
    let added = conn
        .prepare_cached("INSERT OR IGNORE INTO notice (event, at, body) VALUES (?1, ?2, ?3)")?
        .execute(params![notice.id.as_str(), at.millis(), body])?;
    let pk = match added {
        0 => conn
            .prepare_cached("SELECT pk FROM notice WHERE event = ?1")?
            .query_row([notice.id.as_str()], |row| row.get(0))?,
        _ => conn.last_insert_rowid(),
    };
    let mut insert = conn.prepare_cached(
        "INSERT OR IGNORE INTO outbox (notice, receiver, state, attempts, created_at, next_at)
         VALUES (?1, ?2, ?3, 0, ?4, ?4)",
    )?;
    let mut enter = conn.prepare_cached("INSERT OR IGNORE INTO lane VALUES (?1, ?2, ?3)")?;
    for receiver in &notice.receivers {
        if insert.execute(params![pk, receiver, WAITING, at.millis()])? > 0 {
            let seq = conn.last_insert_rowid();
            for lane in notice.lanes() {
                enter.execute(params![receiver, lane, seq])?;
            }
        }
    }
    Ok(())
}

/// The oldest row of the receiver that is due and first of its lane.
pub fn claim(conn: &Connection, receiver: &str, now: Time) -> Result<Option<OutboxRow>, StoreError> {
    let due = (now.millis(), now.plus(RETRY_MAX).millis());
    take(conn, receiver, now, due, i64::MAX)
}

/// The oldest row of the receiver that is first of its lane and has waited since before `than`, due or not.
pub fn claim_older(
    conn: &Connection,
    receiver: &str,
    than: Time,
    now: Time,
) -> Result<Option<OutboxRow>, StoreError> {
    take(conn, receiver, now, (i64::MAX, i64::MAX), than.millis())
}

fn take(
    conn: &Connection,
    receiver: &str,
    now: Time,
    (due_until, ahead_from): (i64, i64),
    created_until: i64,
) -> Result<Option<OutboxRow>, StoreError> {
    let mut claim = conn.prepare_cached(
        "UPDATE outbox SET state = 1, claimed_at = ?2
         WHERE state = 0 AND seq = (
           SELECT seq FROM outbox AS o
           WHERE o.receiver = ?1 AND o.state < 2 AND o.state = 0 AND (o.next_at <= ?3 OR o.next_at > ?4)
             AND o.created_at <= ?5
             AND NOT EXISTS (SELECT 1 FROM lane AS l JOIN lane AS e
               ON e.receiver = l.receiver AND e.lane = l.lane AND e.outbox < l.outbox WHERE l.outbox = o.seq)
           ORDER BY o.seq LIMIT 1)
         RETURNING seq, receiver, attempts, created_at, (SELECT body FROM notice WHERE pk = notice)",
    )?;
    let row: Option<(i64, Arc<str>, u32, i64, String)> = claim
        .query_row(params![receiver, now.millis(), due_until, ahead_from, created_until], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    row.map(|(seq, receiver, attempts, created, body)| {
        let created = Time::from_millis(created);
        Ok(OutboxRow { seq, receiver, notice: json("notice", &body)?, attempts, created })
    })
    .transpose()
}

/// Enters what came of a claimed row's attempt.
pub fn settle(conn: &Connection, seq: i64, receipt: &Receipt, now: Time) -> Result<(), StoreError> {
    let (state, next_at, ended_at) = match receipt {
        Receipt::Delivered { .. } => (DELIVERED, None, Some(now.millis())),
        Receipt::Dead { .. } => (DEAD, None, Some(now.millis())),
        Receipt::Retry { next, .. } => (WAITING, Some(next.millis()), None),
    };
    let settled = conn
        .prepare_cached(
            "UPDATE outbox SET state = ?2, attempts = attempts + 1, next_at = ifnull(?3, next_at), ended_at = ?4,
               claimed_at = NULL WHERE seq = ?1 AND state = ?5",
        )?
        .execute(params![seq, state, next_at, ended_at, CLAIMED])?;
    if settled == 0 {
        return Err(StoreError::NotClaimed { seq });
    }
    if ended_at.is_some() {
        conn.prepare_cached("DELETE FROM lane WHERE outbox = ?1")?.execute([seq])?;
    }
    if state == DELIVERED {
        actions::confirm(conn, seq, now)?;
    }
    let text = serde_json::to_string(receipt).map_err(|error| StoreError::Sqlite(error.to_string()))?;
    conn.prepare_cached("INSERT INTO attempt (outbox, at, receipt) VALUES (?1, ?2, ?3)")?
        .execute(params![seq, now.millis(), text])?;
    Ok(())
}

/// Puts the notice of a row into the lanes of the first heir that never had it, unless one has it and has not failed. The last
/// heir is the last resort: that it has the notice tells nobody else.
pub fn hand_on(
    conn: &Connection,
    seq: i64,
    heirs: &[Arc<str>],
    now: Time,
) -> Result<Option<Arc<str>>, StoreError> {
    let mut state_of = conn.prepare_cached(
        "SELECT state FROM outbox WHERE receiver = ?2 AND notice = (SELECT notice FROM outbox WHERE seq = ?1)",
    )?;
    let mut heir = None;
    for (nth, name) in heirs.iter().enumerate() {
        let state: Option<i64> = state_of.query_row(params![seq, name], |row| row.get(0)).optional()?;
        match state {
            None => heir = heir.or(Some(name)),
            Some(DEAD) => {}
            Some(_) if nth + 1 == heirs.len() => {}
            Some(_) => return Ok(None),
        }
    }
    let Some(heir) = heir else { return Ok(None) };
    add_heir(conn, seq, heir, now)?;
    Ok(Some(heir.clone()))
}

/// Puts the notice of a row into the lanes of every receiver that never had it; says who they are.
pub fn spread(
    conn: &Connection,
    seq: i64,
    others: &[Arc<str>],
    now: Time,
) -> Result<Vec<Arc<str>>, StoreError> {
    let mut told = Vec::new();
    for name in others {
        if add_heir(conn, seq, name, now)? {
            told.push(name.clone());
        }
    }
    Ok(told)
}

/// What waits for a receiver beyond `after`, in the order of its making, `max` at most: looked at, not claimed.
pub fn waiting(
    conn: &Connection,
    receiver: &str,
    after: i64,
    max: u32,
) -> Result<Vec<(i64, Notice)>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT seq, (SELECT body FROM notice WHERE pk = notice) FROM outbox
         WHERE receiver = ?1 AND state < 2 AND state = 0 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let mut rows = select.query(params![receiver, after, max])?;
    let mut waiting = Vec::new();
    while let Some(row) = rows.next()? {
        waiting.push((row.get(0)?, json("notice", &row.get::<_, String>(1)?)?));
    }
    Ok(waiting)
}

/// `false`: it has the notice already, delivered or not.
fn add_heir(conn: &Connection, seq: i64, heir: &Arc<str>, now: Time) -> Result<bool, StoreError> {
    let added = conn
        .prepare_cached(
            "INSERT OR IGNORE INTO outbox (notice, receiver, state, attempts, created_at, next_at)
             SELECT notice, ?2, 0, 0, ?3, ?3 FROM outbox WHERE seq = ?1",
        )?
        .execute(params![seq, heir, now.millis()])?;
    if added > 0 {
        conn.prepare_cached("INSERT OR IGNORE INTO lane SELECT ?2, lane, ?3 FROM lane WHERE outbox = ?1")?
            .execute(params![seq, heir, conn.last_insert_rowid()])?;
    }
    Ok(added > 0)
}

/// Gives a claim back without an attempt: its claimer is gone.
pub fn release(conn: &Connection, seq: Option<i64>) -> Result<(), StoreError> {
    conn.prepare_cached(
        "UPDATE outbox SET state = 0, claimed_at = NULL WHERE state < 2 AND state = 1 AND (?1 IS NULL OR seq = ?1)",
    )?
    .execute([seq])?;
    Ok(())
}

/// When the receiver's first claimable row is due. A row behind a claimed one becomes claimable when that is settled.
pub fn next_due(conn: &Connection, receiver: &str) -> Result<Option<Time>, StoreError> {
    let mut find = conn.prepare_cached(
        "SELECT min(o.next_at) FROM outbox AS o
         WHERE o.receiver = ?1 AND o.state < 2 AND o.state = 0
           AND NOT EXISTS (SELECT 1 FROM lane AS l JOIN lane AS e
             ON e.receiver = l.receiver AND e.lane = l.lane AND e.outbox < l.outbox WHERE l.outbox = o.seq)",
    )?;
    let due: Option<i64> = find.query_row([receiver], |row| row.get(0))?;
    Ok(due.map(Time::from_millis))
}

/// What is waiting or under way at each receiver, and what troubles it; a receiver with neither is absent.
pub fn depth(conn: &Connection) -> Result<BTreeMap<Arc<str>, OutboxDepth>, StoreError> {
    let mut depths = BTreeMap::new();
    let mut open = conn.prepare_cached(
        "SELECT receiver, count(*), min(created_at), min(iif(attempts > 0, seq, NULL)) FROM outbox WHERE state < 2
         GROUP BY receiver",
    )?;
    let mut rows = open.query([])?;
    while let Some(row) = rows.next()? {
        let depth = OutboxDepth {
            waiting: row.get::<_, i64>(1)?.unsigned_abs(),
            oldest: row.get::<_, Option<i64>>(2)?.map(Time::from_millis),
            trouble: row.get::<_, Option<i64>>(3)?.map(|seq| failing(conn, seq)).transpose()?,
        };
        depths.insert(row.get(0)?, depth);
    }
    for (receiver, trouble) in dead(conn)? {
        let depth: &mut OutboxDepth = depths.entry(receiver).or_default();
        depth.trouble.get_or_insert(trouble);
    }
    Ok(depths)
}

/// An open row that was tried and not taken.
fn failing(conn: &Connection, seq: i64) -> Result<Trouble, StoreError> {
    let mut first = conn.prepare_cached("SELECT min(at) FROM attempt WHERE outbox = ?1")?;
    let at: i64 = first.query_row([seq], |row| row.get(0))?;
    Ok(Trouble { since: Time::from_millis(at), dead: false, why: last_why(conn, seq)? })
}

/// Receivers whose last notice to end is a dead letter. Walks from name to name, however many rows each has.
fn dead(conn: &Connection) -> Result<Vec<(Arc<str>, Trouble)>, StoreError> {
    let mut last = conn.prepare_cached(
        "WITH RECURSIVE ended (receiver) AS (
           SELECT min(receiver) FROM outbox WHERE state >= 2
           UNION ALL
           SELECT (SELECT min(receiver) FROM outbox WHERE state >= 2 AND receiver > ended.receiver)
           FROM ended WHERE ended.receiver IS NOT NULL)
         SELECT o.receiver, o.seq, o.ended_at FROM ended JOIN outbox AS o ON o.seq =
           (SELECT seq FROM outbox WHERE state >= 2 AND receiver = ended.receiver ORDER BY ended_at DESC, seq DESC LIMIT 1)
         WHERE o.state = ?1",
    )?;
    let mut rows = last.query([DEAD])?;
    let mut dead = Vec::new();
    while let Some(row) = rows.next()? {
        let (seq, at) = (row.get(1)?, Time::from_millis(row.get(2)?));
        dead.push((row.get(0)?, Trouble { since: at, dead: true, why: last_why(conn, seq)? }));
    }
    Ok(dead)
}

fn last_why(conn: &Connection, seq: i64) -> Result<Arc<str>, StoreError> {
    let text: Option<String> = conn
        .prepare_cached("SELECT receipt FROM attempt WHERE outbox = ?1 ORDER BY seq DESC LIMIT 1")?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    text.map_or(Ok("".into()), |text| said(&text))
}

/// What an attempt's entry says.
pub fn said(entry: &str) -> Result<Arc<str>, StoreError> {
    match json("attempt", entry)? {
        Receipt::Delivered { detail: why } | Receipt::Retry { why, .. } | Receipt::Dead { why } => {
            Ok(why.into())
        }
    }
}

pub fn code(progress: Progress) -> i64 {
    match progress {
        Progress::Waiting => WAITING,
        Progress::Sending => CLAIMED,
        Progress::Delivered => DELIVERED,
        Progress::Dead => DEAD,
    }
}

pub fn progress(code: i64) -> Result<Progress, StoreError> {
    match code {
        WAITING => Ok(Progress::Waiting),
        CLAIMED => Ok(Progress::Sending),
        DELIVERED => Ok(Progress::Delivered),
        DEAD => Ok(Progress::Dead),
        other => Err(StoreError::Unreadable { table: "outbox", what: format!("unknown state {other}") }),
    }
}

/// Deletes some of what ended long ago; returns how many rows, so that the caller goes on until there are none.
pub fn prune(conn: &Connection, now: Time) -> Result<usize, StoreError> {
    let before = now.minus(KEPT).millis();
    let rows = conn
        .prepare_cached(
            "DELETE FROM outbox WHERE seq IN
               (SELECT seq FROM outbox WHERE state >= 2 AND ended_at < ?1 ORDER BY seq LIMIT ?2)",
        )?
        .execute([before, PRUNED_AT_ONCE])?;
    let notices = conn
        .prepare_cached(
            "DELETE FROM notice WHERE pk IN
               (SELECT pk FROM notice WHERE at < ?1 AND NOT EXISTS (SELECT 1 FROM outbox WHERE notice = notice.pk)
                ORDER BY pk LIMIT ?2)",
        )?
        .execute([before, PRUNED_AT_ONCE])?;
    Ok(rows + notices)
}
