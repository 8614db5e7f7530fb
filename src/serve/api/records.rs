//! What only the database knows, and who reads it for the API.
//!
//! It must never be asked on a thread that serves others: a question may take as long as its deadline.

use std::fmt;

use super::Problem;
use crate::model::{Cost, CostBy, Time};

/// Blocks until it knows. Errors are words for people.
pub trait Records: Send + Sync + fmt::Debug {
    /// Sums in whole hours of UTC, from `since` until `until`.
    fn costs(&self, since: Time, until: Time, by: CostBy) -> Result<Vec<Cost>, String>;
}

pub fn unread(error: impl fmt::Display) -> Problem {
    Problem::new(503, format!("the database cannot be read now: {error}; ask again, or for less"))
}
