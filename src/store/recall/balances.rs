//! Balances rebuilt from their changes: as they were at a step, and the last days of them.
//!
//! It must never read further back than it has to: every team's balance changes all the time.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::Connection;

use super::{AsOf, Known, StoreError};
use crate::{
    model::{
        TeamId, Time, Usd,
        snapshot::{HISTORY, push_balance},
    },
    store::{
        codes::Dictionary,
        series::{Changed, with_balance},
    },
};

type Histories = BTreeMap<TeamId, Arc<Vec<(Time, Usd)>>>;

/// Puts the balances that follow the whole rows on top of them.
pub fn overlay(conn: &Connection, as_of: AsOf, known: &mut Known) -> Result<(), StoreError> {
    let Some(oldest) = known.teams.values().map(|last| last.step).min() else { return Ok(()) };
    let mut words = Dictionary::new(conn);
    let (sql, bounds) = match as_of {
        AsOf::Now => ("SELECT team, step, value, at, previous FROM balance_now WHERE step > ?1 AND step <= ?2", i64::MAX),
        AsOf::Step(seq) => (
            "SELECT team, balance.step, value, at + late, NULL FROM balance JOIN step ON step.seq = balance.step
             WHERE balance.step > ?1 AND balance.step <= ?2 ORDER BY balance.step",
            seq,
        ),
    };
    let mut select = conn.prepare_cached(sql)?;
    let mut rows = select.query([oldest, bounds])?;
    while let Some(row) = rows.next()? {
        let (team, step): (i64, i64) = (row.get(0)?, row.get(1)?);
        let Some(last) = known.teams.get_mut(&TeamId::new(words.word(team)?)) else { continue };
        let previous: Option<i64> = row.get(4)?;
        let Some(previous) = previous.map(Usd::from_nanos).or(last.state.balance) else { continue };
        if step > last.step {
            let (balance, at) = (Usd::from_nanos(row.get(2)?), Time::from_millis(row.get(3)?));
            last.state = Arc::new(with_balance(&last.state, Changed { balance, at, previous }));
            last.step = step;
        }
    }
    Ok(())
}

/// The changes of every team's balance, oldest first, as far back as the engine looks.
pub fn history(conn: &Connection, known: &Known) -> Result<Histories, StoreError> {
    let newest = known.teams.values().filter_map(|last| last.state.balance_at).max();
    let since = newest.map_or(0, |newest| newest.minus(HISTORY).millis());
    // Rows lie in the order of steps, and steps in the order of time but for clocks that were set.
    let first: i64 = conn
        .prepare_cached("SELECT ifnull(max(seq), 0) FROM step WHERE at < ?1")?
        .query_row([since], |row| row.get(0))?;
    let mut words = Dictionary::new(conn);
    let mut select = conn.prepare_cached(
        "SELECT team, balance.step, step.at + late, value FROM balance JOIN step ON step.seq = balance.step
           WHERE balance.step > ?1
         UNION ALL SELECT team, step, balance_at, balance FROM team
           WHERE step > ?1 AND balance IS NOT NULL AND balance_at IS NOT NULL
         ORDER BY 2",
    )?;
    let mut rows = select.query([first])?;
    let mut histories: BTreeMap<i64, Vec<(Time, Usd)>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (at, balance) = (Time::from_millis(row.get(2)?), Usd::from_nanos(row.get(3)?));
        push_balance(histories.entry(row.get(0)?).or_default(), at, balance);
    }
    let named = |(team, history)| Ok((TeamId::new(words.word(team)?), Arc::new(history)));
    histories.into_iter().map(named).collect()
}
