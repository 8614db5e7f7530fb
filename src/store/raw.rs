//! Forgets what was polled long ago: the raw series and the poll log. What was spent stays, in the rollups.
//!
//! It must never change what was true at a time that is kept: what is deleted is folded into the row that went before it.

use std::{collections::BTreeMap, time::Duration};

use rusqlite::{Connection, OptionalExtension, params};

use super::{StoreError, codes};
use crate::model::{Outcome, Time};

/// Steps that one prune looks at: more than come in until the next, and few enough to hold the writer up for a moment only.
const STEPS_AT_ONCE: i64 = 2_000;

/// Forgets a batch of the steps before `now` less `keep`; returns how many rows went.
pub fn prune(conn: &Connection, keep: Duration, now: Time) -> Result<usize, StoreError> {
    let Some(cut) = cut(conn, now.minus(keep))? else { return Ok(0) };
    fold_samples(conn, cut)?;
    fold_balances(conn, cut)?;
    let mut gone = 0;
    for sql in [
        "DELETE FROM sample WHERE step <= ?1",
        "DELETE FROM balance WHERE step <= ?1",
        "DELETE FROM deployment WHERE step <= ?1 AND seq <
           (SELECT max(seq) FROM deployment AS d WHERE d.line = deployment.line AND d.step <= ?1)",
        "DELETE FROM volume WHERE step <= ?1 AND seq <
           (SELECT max(seq) FROM volume AS v WHERE v.line = volume.line AND v.step <= ?1)",
        "DELETE FROM team WHERE step <= ?1 AND step <
           (SELECT max(step) FROM team AS t WHERE t.team = team.team AND t.step <= ?1)",
        "DELETE FROM silence WHERE step <= ?1 AND step <
           (SELECT max(step) FROM silence AS s WHERE s.id = silence.id AND s.step <= ?1)",
        "DELETE FROM account WHERE step < (SELECT max(step) FROM account WHERE step <= ?1)",
        "DELETE FROM offers WHERE step < (SELECT max(step) FROM offers WHERE step <= ?1)",
    ] {
        gone += conn.prepare_cached(sql)?.execute([cut])?;
    }
    // Polls lie in the order of steps, so the first later one ends the search. The last of each kind tells when it was read.
    let failed = codes::outcome(Outcome::Failed);
    gone += conn
        .prepare_cached(
            "DELETE FROM poll WHERE seq <
               ifnull((SELECT seq FROM poll WHERE step > ?1 ORDER BY seq LIMIT 1), 9223372036854775807)
             AND seq NOT IN (SELECT max(seq) FROM poll WHERE step <= ?1 AND outcome <> ?2 GROUP BY feed, outcome)",
        )?
        .execute([cut, failed])?;
    gone += conn
        .prepare_cached(
            "DELETE FROM step WHERE seq < ?1 AND seq NOT IN (SELECT step FROM poll WHERE step < ?1)",
        )?
        .execute([cut])?;
    Ok(gone)
}

/// The last step of the batch, from whose state the kept ones go on. `None`: nothing is that old.
fn cut(conn: &Connection, before: Time) -> Result<Option<i64>, StoreError> {
    let mut select = conn.prepare_cached("SELECT seq, at FROM step ORDER BY seq LIMIT ?1")?;
    let mut rows = select.query([STEPS_AT_ONCE])?;
    let mut cut = None;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? > before.millis() {
            break;
        }
        cut = Some(row.get(0)?);
    }
    Ok(cut)
}

/// A line's last old value becomes that of the row before it.
fn fold_samples(conn: &Connection, cut: i64) -> Result<(), StoreError> {
    let mut select =
        conn.prepare_cached("SELECT line, step, value FROM sample WHERE step <= ?1 ORDER BY step")?;
    let mut rows = select.query([cut])?;
    let mut last: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        last.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
    }
    let mut cost = conn.prepare_cached(
        "UPDATE deployment SET total_cost = ?3 WHERE step < ?4 AND seq =
           (SELECT max(seq) FROM deployment WHERE line = ?1 AND step <= ?2)",
    )?;
    let mut used = conn.prepare_cached(
        "UPDATE volume SET used_bytes = ?3 WHERE step < ?4 AND seq =
           (SELECT max(seq) FROM volume WHERE line = ?1 AND step <= ?2)",
    )?;
    for (line, (step, value)) in last {
        if cost.execute([line, cut, value, step])? == 0 {
            used.execute([line, cut, value, step])?;
        }
    }
    Ok(())
}

/// A team's last old balance, and the one before it, become those of the row before them.
fn fold_balances(conn: &Connection, cut: i64) -> Result<(), StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT team, balance.step, value, at + late FROM balance JOIN step ON step.seq = balance.step
         WHERE balance.step <= ?1 ORDER BY balance.step",
    )?;
    let mut rows = select.query([cut])?;
    let mut last: BTreeMap<i64, Vec<(i64, i64, i64)>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let values = last.entry(row.get(0)?).or_default();
        if values.len() > 1 {
            values.remove(0);
        }
        values.push((row.get(1)?, row.get(2)?, row.get(3)?));
    }
    let mut row = conn.prepare_cached(
        "SELECT step, balance FROM team WHERE team = ?1 AND step <= ?2 ORDER BY step DESC LIMIT 1",
    )?;
    let mut fold = conn.prepare_cached(
        "UPDATE team SET balance = ?3, balance_at = ?4, previous = ?5, previous_at = ?4 WHERE team = ?1 AND step = ?2",
    )?;
    for (team, values) in last {
        let whole: Option<(i64, Option<i64>)> =
            row.query_row([team, cut], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((whole, balance)) = whole else { continue };
        let later = values.iter().filter(|(step, _, _)| *step > whole);
        let mut before = balance;
        for (_, value, at) in later {
            fold.execute(params![team, whole, value, at, before])?;
            before = Some(*value);
        }
    }
    Ok(())
}
