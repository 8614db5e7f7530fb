//! Opens the file: folder, lock, whose it is, whether it is whole, the connection's settings.
//!
//! It must never write a byte to a file that is foreign, newer or damaged (FAULTS 36, 88).

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig, limits::Limit};

use super::{
    OpenError, StoreError,
    lock::Lock,
    migrate::{self, APPLICATION_ID, MIGRATIONS},
};

/// The longest text: the largest list that the API client takes is 32 MiB, and our JSON of it is shorter.
const TEXT_BYTES_MAX: i32 = 64 << 20;
const WAL_BYTES_KEPT: i64 = 16 << 20;
const STATEMENTS_CACHED: usize = 64;

#[derive(Debug, Clone)]
pub struct Options {
    /// How long a call waits for another connection's write lock.
    pub busy_timeout: Duration,
    /// How long polls and their values are kept; `None`: for ever.
    pub keep_raw: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { busy_timeout: Duration::from_secs(5), keep_raw: None }
    }
}

/// The writer's connection, and the lock to hold as long as it lives.
pub fn writer(path: &Path, options: &Options) -> Result<(Connection, PathBuf, Lock), OpenError> {
    let path = resolve(path)?;
    let lock = Lock::take(&path)?;
    let mut create = OpenOptions::new();
    create.create(true).truncate(false).read(true).write(true).mode(0o600);
    let file = create.open(&path).map_err(|source| OpenError::io(&path, source))?;
    check_header(&path, file)?;

    let failed = |error| not_usable(&path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(&path, flags).map_err(failed)?;
    // Until it is known to be ours, closing must not move the WAL into the file.
    checkpoint_on_close(&conn, false).map_err(failed)?;
    settings(&conn, options).map_err(failed)?;
    check_version(&conn, &path)?;
    quick_check(&conn, &path)?;
    // Migrations come before WAL mode: so the application id of a file in WAL mode always stands in the file itself.
    migrate::migrate(&mut conn, Some(&path), MIGRATIONS)?;
    journal(&conn, &path)?;
    checkpoint_on_close(&conn, true).map_err(failed)?;
    Ok((conn, path, lock))
}

pub fn in_memory() -> Result<Connection, StoreError> {
    let mut conn = Connection::open_in_memory()?;
    settings(&conn, &Options::default())?;
    match migrate::migrate(&mut conn, None, MIGRATIONS) {
        Ok(()) => Ok(conn),
        Err(OpenError::Store { source, .. }) => Err(source),
        Err(other) => Err(StoreError::Sqlite(other.to_string())),
    }
}

/// A connection that cannot write.
pub fn reader(path: &Path, options: &Options) -> Result<Connection, OpenError> {
    let file = File::open(path).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            return OpenError::Missing { path: path.into() };
        }
        OpenError::io(path, source)
    })?;
    check_header(path, file)?;
    let failed = |error| not_usable(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    settings(&conn, options).map_err(failed)?;
    conn.pragma_update(None, "query_only", true).map_err(failed)?;
    let found = check_version(&conn, path)?;
    let known = migrate::known_version();
    if found < known {
        return Err(OpenError::Older { path: path.into(), found, known });
    }
    Ok(conn)
}

/// The real path, so that two names of one file share a lock. Makes the last folder if only that is missing.
fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            return OpenError::NoFolder { path: path.into() };
        }
        OpenError::io(path, source)
    };
    if let Ok(real) = fs::canonicalize(path) {
        return Ok(real);
    }
    let Some(name) = path.file_name() else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it names no file");
        return Err(OpenError::io(path, source));
    };
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    if !folder.exists() {
        DirBuilder::new().mode(0o700).create(folder).map_err(failed)?;
    }
    Ok(fs::canonicalize(folder).map_err(failed)?.join(name))
}

/// Reads the file's first 100 bytes by hand: SQLite itself might touch what it opens.
fn check_header(path: &Path, file: File) -> Result<(), OpenError> {
    let mut header = Vec::with_capacity(100);
    file.take(100).read_to_end(&mut header).map_err(|source| OpenError::io(path, source))?;
    if header.is_empty() {
        return Ok(());
    }
    if !header.starts_with(b"SQLite format 3\0") || header.len() < 100 {
        return Err(OpenError::Corrupt { path: path.into(), what: "it is not an SQLite database".into() });
    }
    let number = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, i32::from_be_bytes)
    };
    let (found, known) = (i64::from(number(60)), migrate::known_version());
    match number(68) {
        APPLICATION_ID if found > known => Err(OpenError::Newer { path: path.into(), found, known }),
        APPLICATION_ID => Ok(()),
        found => Err(OpenError::Foreign { path: path.into(), found }),
    }
}

/// As SQLite sees it: a newer version may still stand in the WAL alone.
fn check_version(conn: &Connection, path: &Path) -> Result<i64, OpenError> {
    let found = migrate::version_of(conn).map_err(|error| not_usable(path, error))?;
    let known = migrate::known_version();
    if found > known {
        return Err(OpenError::Newer { path: path.into(), found, known });
    }
    Ok(found)
}

fn quick_check(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let answer: String = conn
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| not_usable(path, error))?;
    if answer == "ok" {
        return Ok(());
    }
    Err(OpenError::Corrupt { path: path.into(), what: answer.replace('\n', ", ") })
}

fn not_usable(path: &Path, error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            OpenError::Corrupt { path: path.into(), what: error.to_string() }
        }
        Some(_) | None => OpenError::Store { path: path.into(), source: error.into() },
    }
}

fn settings(conn: &Connection, options: &Options) -> rusqlite::Result<()> {
    conn.busy_timeout(options.busy_timeout)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, TEXT_BYTES_MAX)?;
    conn.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 1)?; // VACUUM INTO attaches its target
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // Without it every binding of another value compiles the cached statement anew.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "mmap_size", 0)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    Ok(())
}

fn journal(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |error| not_usable(path, error);
    let mode: String =
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        let source =
            StoreError::Sqlite(format!("its filesystem allows no WAL, only the journal mode {mode}"));
        return Err(OpenError::Store { path: path.into(), source });
    }
    conn.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(())).map_err(failed)
}

fn checkpoint_on_close(conn: &Connection, on: bool) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !on).map(|_| ())
}
