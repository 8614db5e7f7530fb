//! What can go wrong with the database, sorted by what the caller must do about it.
//!
//! It must never carry a value out of a row: only what happened, where, and what to do next.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::ErrorCode;

/// A database that cannot be used. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use by another spheron-watch; stop that one, or give this one a path of its own", path.display())]
    InUse { path: PathBuf },
    #[error(
        "{} belongs to another program (application id {found}); it was not touched: give spheron-watch a path of its own",
        path.display()
    )]
    Foreign { path: PathBuf, found: i32 },
    #[error(
        "{} was written by a newer spheron-watch (schema {found}, this one knows {known}); it was not touched: install the newer version again",
        path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error(
        "{} has the schema {found} of an older spheron-watch; start the daemon once, it brings the file to {known}",
        path.display()
    )]
    Older { path: PathBuf, found: i64, known: i64 },
    #[error(
        "{} is damaged ({what}); move it and its -wal and -shm away, then restore a backup or start with an empty one",
        path.display()
    )]
    Corrupt { path: PathBuf, what: String },
    #[error("{} lies on a read-only filesystem; mount it writable, or put the database elsewhere", path.display())]
    ReadOnly { path: PathBuf },
    #[error("the folder of {} is missing and so is the one above it; create it, or correct the path", path.display())]
    NoFolder { path: PathBuf },
    #[error("there is no database at {}; start the daemon once, or correct the path", path.display())]
    Missing { path: PathBuf },
    #[error("cannot open {}: {source}; check that its folder is ours to write", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot back up {} before it is brought to a newer schema: {what}; free some space beside it", path.display())]
    Backup { path: PathBuf, what: String },
    #[error("cannot use {}: {source}", path.display())]
    Store { path: PathBuf, source: StoreError },
}

impl OpenError {
    /// Whether it stays so until a person does something. What the system refused may pass: a full disk, a lack of descriptors.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::InUse { .. }
            | Self::Foreign { .. }
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::Corrupt { .. }
            | Self::ReadOnly { .. }
            | Self::NoFolder { .. }
            | Self::Missing { .. } => true,
            Self::Io { .. } | Self::Backup { .. } | Self::Store { .. } => false,
        }
    }

    /// What the system said of the database or a file beside it.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::ReadOnlyFilesystem {
            return Self::ReadOnly { path: path.into() };
        }
        Self::Io { path: path.into(), source }
    }
}

/// A call that failed. Nothing of it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another connection held the write lock for the whole of the busy timeout (FAULTS 40). The next call may work.
    #[error("the database is locked by another program; end what holds it")]
    Busy,
    /// No space (FAULTS 33). The next call may work.
    #[error("no space left for the database; free some on its filesystem")]
    Full,
    /// The file or the disk cannot be trusted any more (FAULTS 34): nothing may be retried on this connection; exit and start again.
    #[error("the database failed ({what}); the process must end and check it at the next start")]
    Fatal { what: Arc<str> },
    /// The writer has ended: closed, or brought down by a panic.
    #[error("the database's writer has stopped; the process must end")]
    Stopped,
    /// A receipt for a row that nobody has claimed.
    #[error("outbox row {seq} is not claimed; a receipt needs a claim")]
    NotClaimed { seq: i64 },
    /// A row that this version did not write.
    #[error("a row of {table} cannot be read ({what}); run an integrity check")]
    Unreadable { table: &'static str, what: String },
    /// A read took longer than it may (FAULTS 39).
    #[error("the query took too long; ask for less")]
    Deadline,
    #[error("the database refused: {0}")]
    Sqlite(String),
}

impl StoreError {
    /// Whether only a new process can go on: nothing of this kind passes by waiting.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Busy | Self::Full | Self::Deadline => false,
            Self::Fatal { .. }
            | Self::Stopped
            | Self::NotClaimed { .. }
            | Self::Unreadable { .. }
            | Self::Sqlite(_) => true,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::OperationInterrupted) => Self::Deadline,
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::InternalMalfunction,
            ) => Self::Fatal { what: text.into() },
            Some(_) | None => Self::Sqlite(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_41_a_read_only_filesystem_is_named_as_the_reason() {
        let error = OpenError::io(Path::new("/x.db"), io::ErrorKind::ReadOnlyFilesystem.into());
        assert!(error.to_string().contains("read-only filesystem; mount it writable"), "{error}");
    }

    #[test]
    fn fault_34_errors_of_the_disk_are_fatal_and_a_lock_or_a_full_disk_is_not() {
        use rusqlite::ffi;
        for (code, expected) in [
            (ffi::SQLITE_IOERR_FSYNC, "fatal"),
            (ffi::SQLITE_IOERR_WRITE, "fatal"),
            (ffi::SQLITE_CORRUPT, "fatal"),
            (ffi::SQLITE_NOTADB, "fatal"),
            (ffi::SQLITE_BUSY, "busy"),
            (ffi::SQLITE_BUSY_SNAPSHOT, "busy"),
            (ffi::SQLITE_FULL, "full"),
            (ffi::SQLITE_CONSTRAINT, "sqlite"),
        ] {
            let kind = match StoreError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)) {
                StoreError::Fatal { .. } => "fatal",
                StoreError::Busy => "busy",
                StoreError::Full => "full",
                StoreError::Sqlite(_) => "sqlite",
                StoreError::Stopped
                | StoreError::NotClaimed { .. }
                | StoreError::Unreadable { .. }
                | StoreError::Deadline => "other",
            };
            assert_eq!(kind, expected, "SQLite's {code}");
        }
    }
}
