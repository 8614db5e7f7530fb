//! The outbox as people look at it: what went to whom, what came of it, the newest first.
//!
//! It must never hold more notices in memory than one: bodies may be large, and only their names are wanted.

use rusqlite::{Connection, Row, params};

use super::{StoreError, outbox, recall::json};
use crate::model::{DeliveriesAsk, Dispatch, Progress, Time};

pub fn list(conn: &Connection, ask: &DeliveriesAsk) -> Result<Vec<Dispatch>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT o.seq, o.receiver, n.body, o.state, o.attempts, o.created_at, o.next_at, o.ended_at, a.at, a.receipt
         FROM outbox AS o JOIN notice AS n ON n.pk = o.notice
         LEFT JOIN attempt AS a ON a.seq = (SELECT max(seq) FROM attempt WHERE outbox = o.seq)
         WHERE o.seq < ?1 AND (?2 IS NULL OR o.receiver = ?2) AND (?3 IS NULL OR o.state = ?3)
         ORDER BY o.seq DESC LIMIT ?4",
    )?;
    let state = ask.progress.map(outbox::code);
    let mut rows = select.query(params![ask.before, ask.receiver, state, i64::from(ask.limit)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(dispatch(row)?);
    }
    Ok(found)
}

fn dispatch(row: &Row<'_>) -> Result<Dispatch, StoreError> {
    let progress = outbox::progress(row.get(3)?)?;
    let next = match progress {
        Progress::Waiting => Some(Time::from_millis(row.get(6)?)),
        Progress::Sending | Progress::Delivered | Progress::Dead => None,
    };
    let last: Option<(i64, String)> = row.get::<_, Option<i64>>(8)?.zip(row.get(9)?);
    Ok(Dispatch {
        seq: row.get(0)?,
        receiver: row.get(1)?,
        told: json("notice", row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?,
        progress,
        attempts: row.get(4)?,
        created: Time::from_millis(row.get(5)?),
        next,
        ended: row.get::<_, Option<i64>>(7)?.map(Time::from_millis),
        last: last
            .map(|(at, text)| Ok::<_, StoreError>((Time::from_millis(at), outbox::said(&text)?)))
            .transpose()?,
    })
}
