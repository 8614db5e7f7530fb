//! Brings a database to this version's schema, one transaction per migration, with a copy beside it first (FAULTS 37).
//!
//! It must never change a migration that was released: databases out there have run it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rusqlite::{Connection, TransactionBehavior};

use super::{OpenError, lock::beside};

/// In order; migration N brings `user_version` from N to N + 1.
pub const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001_first.sql"),
    include_str!("schema/0002_groups.sql"),
    include_str!("schema/0003_deliveries.sql"),
    include_str!("schema/0004_money.sql"),
    include_str!("schema/0005_rate_before.sql"),
    include_str!("schema/0006_actions.sql"),
    include_str!("schema/0007_audit.sql"),
];

/// As the first migration sets it: "SPWK".
pub const APPLICATION_ID: i32 = 0x5350_574b;

pub fn known_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

pub fn version_of(conn: &Connection) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The file of an existing database is copied to `PATH.before-N` before it is brought to N; in memory there is no file.
pub fn migrate(conn: &mut Connection, path: Option<&Path>, migrations: &[&str]) -> Result<(), OpenError> {
    let failed = |error: rusqlite::Error| OpenError::Store {
        path: path.unwrap_or(Path::new(":memory:")).into(),
        source: error.into(),
    };
    let version = version_of(conn).map_err(failed)?;
    let done = usize::try_from(version).unwrap_or(0);
    if let (Some(path), true) = (path, 0 < done && done < migrations.len()) {
        back_up(conn, path, migrations.len())?;
    }
    for (version, sql) in (1_i64..).zip(migrations).skip(done) {
        run(conn, version, sql).map_err(failed)?;
    }
    Ok(())
}

fn run(conn: &mut Connection, version: i64, sql: &str) -> rusqlite::Result<()> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(sql)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

/// Whole or absent: written under another name, synced, then renamed.
fn back_up(conn: &Connection, path: &Path, version: usize) -> Result<(), OpenError> {
    let part = beside(path, ".before.part");
    let whole = beside(path, &format!(".before-{version}"));
    let copy = || -> Result<(), Box<dyn std::error::Error>> {
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(&part)?;
        let name = part.to_str().ok_or("its path is not UTF-8")?;
        conn.execute("VACUUM INTO ?1", [name])?;
        File::open(&part)?.sync_all()?;
        Ok(fs::rename(&part, &whole)?)
    };
    copy().map_err(|error| OpenError::Backup { path: path.into(), what: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (7);";

    fn x(conn: &Connection) -> i64 {
        conn.query_row("SELECT x FROM a", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn fault_37_a_migration_that_breaks_halfway_leaves_the_old_schema_and_a_copy_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watch.db");
        let mut conn = Connection::open(&path).unwrap();
        migrate(&mut conn, Some(&path), &[ONE]).unwrap();
        assert!(!beside(&path, ".before-1").exists(), "a new database has nothing to back up");

        let broken =
            "UPDATE a SET x = 8; ALTER TABLE a ADD COLUMN y INTEGER; INSERT INTO nowhere VALUES (1);";
        assert!(migrate(&mut conn, Some(&path), &[ONE, broken]).is_err());
        assert_eq!((version_of(&conn).unwrap(), x(&conn)), (1, 7), "nothing of it was kept");
        let copy = Connection::open(beside(&path, ".before-2")).unwrap();
        assert_eq!((version_of(&copy).unwrap(), x(&copy)), (1, 7));

        migrate(&mut conn, Some(&path), &[ONE, "UPDATE a SET x = 9;"]).unwrap();
        assert_eq!((version_of(&conn).unwrap(), x(&conn)), (2, 9), "the next start goes on");
    }

    #[test]
    fn fault_37_what_waited_under_the_first_schema_still_waits_in_its_lane() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, None, MIGRATIONS.get(..1).unwrap()).unwrap();
        conn.execute_batch(
            "INSERT INTO notice VALUES (1, 'evt_1', 0, '{}');
             INSERT INTO outbox (seq, notice, receiver, lane, state, attempts, created_at, next_at)
               VALUES (5, 1, 'ops', 'low-balance team/t1', 0, 0, 0, 0), (6, 1, 'chat', 'low-balance team/t1', 2, 1, 0, 0);",
        )
        .unwrap();
        migrate(&mut conn, None, MIGRATIONS).unwrap();
        let lanes: Vec<(String, String, i64)> = conn
            .prepare("SELECT receiver, lane, outbox FROM lane")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(
            lanes,
            [("ops".to_owned(), "low-balance team/t1".to_owned(), 5)],
            "what was sent is in no lane"
        );
    }

    #[test]
    fn fault_37_a_receiver_that_took_something_before_there_were_policies_is_known_to_work() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, None, MIGRATIONS.get(..5).unwrap()).unwrap();
        conn.execute_batch(
            "INSERT INTO notice VALUES (1, 'evt_1', 0, '{}'), (2, 'evt_2', 0, '{}');
             INSERT INTO outbox (notice, receiver, state, attempts, created_at, next_at, ended_at) VALUES
               (1, 'ops', 2, 1, 0, 0, 5), (2, 'ops', 2, 1, 0, 0, 7), (1, 'chat', 3, 1, 0, 0, 6), (2, 'chat', 0, 0, 0, 0, NULL);",
        )
        .unwrap();
        migrate(&mut conn, None, MIGRATIONS).unwrap();
        let confirmed: Vec<(String, i64)> = conn
            .prepare("SELECT receiver, at FROM confirmed")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(confirmed, [("ops".to_owned(), 7)], "a dead letter is nothing that was taken");
    }

    #[test]
    fn the_first_migration_marks_the_file_as_ours() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, None, MIGRATIONS).unwrap();
        let id: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0)).unwrap();
        assert_eq!((id, version_of(&conn).unwrap()), (APPLICATION_ID, known_version()));
    }
}
