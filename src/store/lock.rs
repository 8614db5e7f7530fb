//! The lock against a second daemon on the same database: `PATH.lock`, held as long as the process lives (FAULTS 43).
//!
//! It must never be deleted: a third process could then lock a new file while the second still holds the old one.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::OpenError;

#[derive(Debug)]
pub struct Lock {
    /// The kernel lets go when the process ends, however it ends.
    file: File,
}

impl Lock {
    pub fn take(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::io(path, source);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(beside(path, ".lock"))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.into() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

impl Drop for Lock {
    /// Closing is not enough: a child that is just being started holds a copy of the descriptor until its exec.
    fn drop(&mut self) {
        // If the kernel refuses, the lock ends with the process.
        let _ = self.file.unlock();
    }
}

/// A file beside the database whose name begins with the database's.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
