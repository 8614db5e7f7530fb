//! The database as the API reads it: beside the writer, anew for each question.
//!
//! It must never keep a reading open: it would keep the log from being shortened.

use std::{path::PathBuf, time::Duration};

use crate::{
    clock::Clock,
    model::{Cost, CostBy, Time},
    serve::api::Records,
    store::Reader,
};

/// Less than a request may take.
const QUESTION_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub struct Archive {
    pub path: PathBuf,
    pub clock: Clock,
}

impl Archive {
    fn open(&self) -> Result<Reader, String> {
        Reader::open(&self.path, self.clock.clone(), QUESTION_MAX).map_err(|error| error.to_string())
    }
}

impl Records for Archive {
    fn costs(&self, since: Time, until: Time, by: CostBy) -> Result<Vec<Cost>, String> {
        self.open()?.costs(since, until, by).map_err(|error| error.to_string())
    }
}
