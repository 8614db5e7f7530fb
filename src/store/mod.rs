//! The embedded database: every poll, the change-only series, the engine's state and the outbox, in one SQLite file.
//!
//! It must never decide anything, nor write outside the one transaction of a step; readers get connections that cannot write.

mod actions;
mod audit;
mod codes;
mod costs;
mod db;
mod deliveries;
mod error;
mod lock;
mod migrate;
mod open;
mod orders;
mod outbox;
mod raw;
mod reader;
mod recall;
mod series;
mod writer;

pub use actions::Intent;
pub use db::{Db, Recovered};
pub use error::{OpenError, StoreError};
pub use open::Options;
pub use reader::{Polled, Reader};
pub use writer::Store;
