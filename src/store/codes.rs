//! How our enums and repeated texts stand in rows: numbers that never change meaning, and words stored once.
//!
//! It must never give a code another meaning, nor guess at one that it does not know.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension, Row, types::FromSql};

use super::StoreError;
use crate::model::{
    DeploymentId, FailureKind, Feed, Mark, Outcome, Presence, Subject, TeamId, Time, VolumeId,
};

/// The kinds of line.
pub const DEPLOYMENT: i64 = 0;
pub const VOLUME: i64 = 1;

pub fn feed(feed: Feed) -> i64 {
    match feed {
        Feed::Balance => 0,
        Feed::Deployments => 1,
        Feed::Volumes => 2,
        Feed::Inventory => 3,
        Feed::Offers => 4,
        Feed::Detail => 5,
    }
}

pub fn outcome(outcome: Outcome) -> i64 {
    match outcome {
        Outcome::Complete => 0,
        Outcome::Partial => 1,
        Outcome::Failed => 2,
    }
}

pub fn outcome_of(code: i64) -> Result<Outcome, StoreError> {
    [Outcome::Complete, Outcome::Partial, Outcome::Failed]
        .into_iter()
        .find(|o| outcome(*o) == code)
        .ok_or_else(|| unknown("poll", "outcome", code))
}

const FAILURES: [FailureKind; 10] = [
    FailureKind::Unauthorized,
    FailureKind::Forbidden,
    FailureKind::NotFound,
    FailureKind::RateLimited,
    FailureKind::Refused,
    FailureKind::Server,
    FailureKind::Network,
    FailureKind::Timeout,
    FailureKind::Malformed,
    FailureKind::Held,
];

pub fn failure(kind: FailureKind) -> i64 {
    match kind {
        FailureKind::Unauthorized => 0,
        FailureKind::Forbidden => 1,
        FailureKind::NotFound => 2,
        FailureKind::RateLimited => 3,
        FailureKind::Refused => 4,
        FailureKind::Server => 5,
        FailureKind::Network => 6,
        FailureKind::Timeout => 7,
        FailureKind::Malformed => 8,
        FailureKind::Held => 9,
    }
}

pub fn failure_of(code: i64) -> Result<FailureKind, StoreError> {
    FAILURES.into_iter().find(|k| failure(*k) == code).ok_or_else(|| unknown("poll", "failure", code))
}

/// Code, time and the number of 404s.
pub fn presence(presence: Presence) -> (i64, Option<i64>, u8) {
    match presence {
        Presence::Listed => (0, None, 0),
        Presence::Missing { since, not_found } => (1, Some(since.millis()), not_found),
        Presence::Gone(at) => (2, Some(at.millis()), 0),
    }
}

pub fn presence_of(code: i64, at: Option<i64>, not_found: u8) -> Result<Presence, StoreError> {
    match (code, at.map(Time::from_millis)) {
        (0, None) => Ok(Presence::Listed),
        (1, Some(since)) => Ok(Presence::Missing { since, not_found }),
        (2, Some(at)) => Ok(Presence::Gone(at)),
        _ => Err(unknown("deployment", "presence", code)),
    }
}

/// `Subject`'s Display read back. The creation time of a deployment follows the last `@`, for an id may hold one.
pub fn subject_of(text: &str) -> Result<Subject, StoreError> {
    let subject = match text.split_once('/') {
        None if text == "account" => Some(Subject::Account),
        Some(("team", id)) => Some(Subject::Team { id: TeamId::new(id) }),
        Some(("volume", id)) => Some(Subject::Volume { id: VolumeId::new(id) }),
        Some(("deployment", rest)) => rest.rsplit_once('@').and_then(|(id, at)| {
            let created_at = Time::from_millis(at.parse().ok()?);
            Some(Subject::Deployment { id: DeploymentId::new(id), created_at })
        }),
        Some(("occasion", rest)) => rest.rsplit_once('@').and_then(|(team, rest)| {
            let (at, mark) = rest.split_once(':')?;
            let at = Time::from_millis(at.parse().ok()?);
            Some(Subject::Occasion { team: TeamId::new(team), at, mark: mark_of(mark)? })
        }),
        None | Some(_) => None,
    };
    subject
        .ok_or_else(|| StoreError::Unreadable { table: "alert", what: "an unknown kind of subject".into() })
}

fn mark_of(text: &str) -> Option<Mark> {
    match text.split_once('-') {
        None if text == "balance" => Some(Mark::Balance),
        Some(("spent", percent)) => percent.parse().ok().map(Mark::Spent),
        Some(("forecast", percent)) => percent.parse().ok().map(Mark::Forecast),
        None | Some(_) => None,
    }
}

fn unknown(table: &'static str, column: &str, code: i64) -> StoreError {
    StoreError::Unreadable { table, what: format!("{column} has the unknown code {code}") }
}

/// The numbers of words, remembered for one transaction: a rollback takes new words away again.
#[derive(Default)]
pub struct Words(BTreeMap<Box<str>, i64>);

impl Words {
    pub fn number(&mut self, conn: &Connection, text: &str) -> Result<i64, StoreError> {
        if let Some(pk) = self.0.get(text) {
            return Ok(*pk);
        }
        let pk = number(conn, text)?;
        self.0.insert(text.into(), pk);
        Ok(pk)
    }
}

fn number(conn: &Connection, text: &str) -> Result<i64, StoreError> {
    let mut find = conn.prepare_cached("SELECT pk FROM word WHERE text = ?1")?;
    if let Some(pk) = find.query_row([text], |row| row.get(0)).optional()? {
        return Ok(pk);
    }
    conn.prepare_cached("INSERT INTO word (text) VALUES (?1)")?.execute([text])?;
    Ok(conn.last_insert_rowid())
}

/// The words of numbers, each read once and shared.
pub struct Dictionary<'c> {
    conn: &'c Connection,
    known: BTreeMap<i64, Arc<str>>,
}

impl<'c> Dictionary<'c> {
    pub fn new(conn: &'c Connection) -> Self {
        Self { conn, known: BTreeMap::new() }
    }

    pub fn word(&mut self, pk: i64) -> Result<Arc<str>, StoreError> {
        if let Some(text) = self.known.get(&pk) {
            return Ok(text.clone());
        }
        let mut find = self.conn.prepare_cached("SELECT text FROM word WHERE pk = ?1")?;
        let text: Option<Arc<str>> = find.query_row([pk], |row| row.get(0)).optional()?;
        let text = text.ok_or_else(|| unknown("word", "pk", pk))?;
        self.known.insert(pk, text.clone());
        Ok(text)
    }
}

/// A row read column by column, by name.
pub struct Columns<'r, 's>(pub &'r Row<'s>);

impl Columns<'_, '_> {
    pub fn get<T: FromSql>(&self, name: &str) -> Result<T, StoreError> {
        Ok(self.0.get(name)?)
    }

    pub fn time(&self, name: &str) -> Result<Time, StoreError> {
        self.get(name).map(Time::from_millis)
    }

    pub fn maybe_time(&self, name: &str) -> Result<Option<Time>, StoreError> {
        Ok(self.get::<Option<i64>>(name)?.map(Time::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_reads_back_as_what_it_was() {
        let feeds: BTreeSet<i64> = Feed::ALL.into_iter().map(feed).collect();
        assert_eq!(feeds.len(), Feed::ALL.len(), "no two feeds share a code");
        assert!(FAILURES.into_iter().all(|k| failure_of(failure(k)) == Ok(k)));
        let since = Time::from_secs(7);
        for state in [Presence::Listed, Presence::Missing { since, not_found: 1 }, Presence::Gone(since)] {
            let (code, at, not_found) = presence(state);
            assert_eq!(presence_of(code, at, not_found), Ok(state));
        }
        assert!(failure_of(10).is_err() && outcome_of(-1).is_err() && presence_of(1, None, 0).is_err());
    }

    #[test]
    fn every_subject_reads_back_from_its_text_even_with_separators_in_its_id() {
        let created_at = Time::from_millis(-5);
        for subject in [
            Subject::Account,
            Subject::Team { id: TeamId::new("a/b@1") },
            Subject::Volume { id: VolumeId::new("") },
            Subject::Deployment { id: DeploymentId::new("x@9/y"), created_at },
            Subject::Occasion { team: TeamId::new("x@9:y"), at: created_at, mark: Mark::Spent(80) },
            Subject::Occasion { team: TeamId::new(""), at: created_at, mark: Mark::Forecast(100) },
            Subject::Occasion { team: TeamId::new("t"), at: created_at, mark: Mark::Balance },
        ] {
            assert_eq!(subject_of(&subject.to_string()), Ok(subject));
        }
        assert!(subject_of("planet/1").is_err() && subject_of("deployment/x").is_err());
    }
}
