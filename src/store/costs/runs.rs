//! Hours of one account that cost the same are one row: most of a fleet does the same thing hour after hour.
//!
//! It must never change what another hour cost: a run is split around the hour that becomes different.

use rusqlite::{Connection, OptionalExtension, params};

use super::{DAY_HOURS, Sum};
use crate::{model::Usd, store::StoreError};

/// So many hours from `hour` on, each of which cost the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    hour: i64,
    hours: i64,
    each: Sum,
}

impl Run {
    fn end(&self) -> i64 {
        self.hour.saturating_add(self.hours)
    }
}

/// Adds to one hour of an account.
pub fn add(conn: &Connection, hour: i64, account: i64, more: Sum) -> Result<(), StoreError> {
    match find(conn, hour, account)? {
        Some(run) if hour < run.end() => split(conn, account, run, hour, more),
        Some(run) if hour == run.end() && run.each == more => {
            put(conn, account, Run { hours: run.hours.saturating_add(1), ..run })
        }
        Some(_) | None => put(conn, account, Run { hour, hours: 1, each: more }),
    }
}

/// The run of the same day that holds the hour, or else the one that ends just before it. It mostly began with the day.
fn find(conn: &Connection, hour: i64, account: i64) -> Result<Option<Run>, StoreError> {
    let midnight = hour.saturating_sub(hour.rem_euclid(DAY_HOURS));
    let first = at(conn, midnight, account)?;
    match first {
        Some(run) if hour < run.end() => return Ok(first),
        // Nothing begins within it, so only one that begins at this very hour can be nearer.
        Some(run) if hour == run.end() => return Ok(at(conn, hour, account)?.or(first)),
        Some(_) | None => {}
    }
    for begin in (midnight + 1..=hour).rev() {
        if let Some(run) = at(conn, begin, account)? {
            return Ok(Some(run).filter(|run| hour <= run.end()));
        }
    }
    Ok(None)
}

/// The run that begins with an hour.
fn at(conn: &Connection, hour: i64, account: i64) -> Result<Option<Run>, StoreError> {
    let mut select = conn
        .prepare_cached("SELECT hours, amount, estimated FROM cost_hour WHERE hour = ?1 AND account = ?2")?;
    let run = select.query_row([hour, account], |row| {
        let each = Sum { amount: Usd::from_nanos(row.get(1)?), estimated: Usd::from_nanos(row.get(2)?) };
        Ok(Run { hour, hours: row.get(0)?, each })
    });
    Ok(run.optional()?)
}

fn split(conn: &Connection, account: i64, run: Run, hour: i64, more: Sum) -> Result<(), StoreError> {
    if run.hour < hour {
        put(conn, account, Run { hours: hour.saturating_sub(run.hour), ..run })?;
    }
    let each = Sum {
        amount: run.each.amount.saturating_add(more.amount),
        estimated: run.each.estimated.saturating_add(more.estimated),
    };
    put(conn, account, Run { hour, hours: 1, each })?;
    let after = hour.saturating_add(1);
    if after < run.end() {
        put(conn, account, Run { hour: after, hours: run.end().saturating_sub(after), each: run.each })?;
    }
    Ok(())
}

fn put(conn: &Connection, account: i64, run: Run) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO cost_hour (hour, account, hours, amount, estimated) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![run.hour, account, run.hours, run.each.amount.nanos(), run.each.estimated.nanos()])?;
    Ok(())
}
