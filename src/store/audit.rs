//! The record of what people ordered: rows that are only ever added.
//!
//! It must never change a row, nor delete one: triggers refuse both.

use rusqlite::{Connection, params};

use super::{StoreError, actions::text, recall::json};
use crate::model::{Audit, AuditRow};

/// Inside the step's transaction.
pub fn write(conn: &Connection, audits: &[Audit]) -> Result<(), StoreError> {
    let mut insert =
        conn.prepare_cached("INSERT INTO audit (at, what, subject, who, body) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for audit in audits {
        let Audit { at, by, order } = audit;
        insert.execute(params![at.millis(), order.what(), order.subject(), by, text(audit)?])?;
    }
    Ok(())
}

/// The newest first, from the row before this one on.
pub fn list(conn: &Connection, limit: u32, before: Option<i64>) -> Result<Vec<AuditRow>, StoreError> {
    let mut select =
        conn.prepare_cached("SELECT seq, body FROM audit WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2")?;
    let mut rows = select.query([before.unwrap_or(i64::MAX), i64::from(limit)])?;
    let mut audits = Vec::new();
    while let Some(row) = rows.next()? {
        audits.push(AuditRow { seq: row.get(0)?, audit: json("audit", &row.get::<_, String>(1)?)? });
    }
    Ok(audits)
}
