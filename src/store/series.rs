//! Writes what changed: a row in the poll log for every poll, a row in a series only where the last row no longer holds.
//!
//! It must never read the disk to find out what changed: `Known` says what the last rows say, so a step costs its changes.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{Connection, named_params, params};

use super::{
    StoreError,
    codes::{self, Words},
};
use crate::model::{
    Account, Change, Deployment, DeploymentId, Feed, Offer, Outcome, PollRow, Silence, Snapshot, Status,
    StepRecord, TeamId, Time, Tracked, TrackedTeam, TrackedVolume, Usd, Volume, VolumeId,
};

/// What the last rows say. The states are shared with the snapshot that they came from.
#[derive(Debug, Default)]
pub struct Known {
    pub deployments: BTreeMap<DeploymentId, Last<Tracked>>,
    pub volumes: BTreeMap<VolumeId, Last<TrackedVolume>>,
    pub teams: BTreeMap<TeamId, Last<TrackedTeam>>,
    pub offers: Arc<Vec<Offer>>,
    pub account: Account,
    pub silences: BTreeMap<Arc<str>, Arc<Silence>>,
    pub balance_poll: Option<BalancePoll>,
}

#[derive(Debug)]
pub struct Last<T> {
    /// 0 for a team, which has no line.
    pub line: i64,
    /// The step of the last whole row; samples may follow it.
    pub step: i64,
    pub state: Arc<T>,
}

/// The last complete poll of the balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BalancePoll {
    pub step: i64,
    pub at: Time,
}

/// The rule that saves a team's row per poll: a team whose balance is known, and of which no later row says otherwise,
/// was read by every complete balance poll since its row; so the last of them is its `balance_at`.
pub fn with_balance_at(row: &Last<TrackedTeam>, last: Option<BalancePoll>) -> Arc<TrackedTeam> {
    let team = &row.state;
    let known = team.balance.is_some() && team.balance_at.is_some() && team.unknown_since.is_none();
    match last {
        Some(poll) if known && poll.step > row.step => {
            Arc::new(TrackedTeam { balance_at: Some(poll.at), ..(**team).clone() })
        }
        Some(_) | None => team.clone(),
    }
}

impl Known {
    pub fn snapshot(&self) -> Snapshot {
        let Account { shrunk, key_rejected_since, unscoped_covers, first_observed } = self.account.clone();
        let team = |row| with_balance_at(row, self.balance_poll);
        Snapshot {
            teams: self.teams.iter().map(|(id, row)| (id.clone(), team(row))).collect(),
            deployments: self.deployments.iter().map(|(id, row)| (id.clone(), row.state.clone())).collect(),
            volumes: self.volumes.iter().map(|(id, row)| (id.clone(), row.state.clone())).collect(),
            offers: self.offers.clone(),
            shrunk,
            key_rejected_since,
            silences: self.silences.clone(),
            unscoped_covers,
            first_observed,
            ..Snapshot::default()
        }
    }

    /// Inside the step's transaction. If that does not commit, `self` is no longer true and must be read again.
    pub fn write(&mut self, conn: &Connection, record: &StepRecord) -> Result<(), StoreError> {
        if record.polls.is_empty() && record.changes.is_empty() {
            return Ok(());
        }
        conn.prepare_cached("INSERT INTO step (at) VALUES (?1)")?.execute([record.at.millis()])?;
        let mut step = Step { conn, seq: conn.last_insert_rowid(), at: record.at, words: Words::default() };
        for poll in &record.polls {
            step.poll(poll)?;
            if poll.feed == Feed::Balance && poll.outcome == Outcome::Complete {
                self.balance_poll = Some(BalancePoll { step: step.seq, at: poll.at });
            }
        }
        for change in &record.changes {
            match change {
                Change::Team(team) => self.team(&mut step, team)?,
                Change::Deployment(tracked) => self.deployment(&mut step, tracked)?,
                Change::Volume(volume) => self.volume(&mut step, volume)?,
                Change::Offers(offers) if *offers == self.offers => {}
                Change::Offers(offers) => {
                    step.document("INSERT OR REPLACE INTO offers VALUES (?1, ?2)", &**offers)?;
                    self.offers = offers.clone();
                }
                Change::Silence(id, silence) => {
                    let value = silence.as_deref().map(serde_json::to_string).transpose();
                    let body = value.map_err(|error| StoreError::Sqlite(error.to_string()))?;
                    conn.prepare_cached("INSERT OR REPLACE INTO silence VALUES (?1, ?2, ?3)")?
                        .execute(params![id, step.seq, body])?;
                    match silence {
                        Some(silence) => self.silences.insert(id.clone(), silence.clone()),
                        None => self.silences.remove(id),
                    };
                }
                Change::Account(account) if *account == self.account => {}
                Change::Account(account) => {
                    step.document("INSERT OR REPLACE INTO account VALUES (?1, ?2)", account)?;
                    self.account = account.clone();
                }
            }
        }
        Ok(())
    }

    fn team(&mut self, step: &mut Step<'_>, new: &Arc<TrackedTeam>) -> Result<(), StoreError> {
        if let Some(last) = self.teams.get_mut(&new.id) {
            let rebuilt = with_balance_at(last, self.balance_poll);
            if rebuilt == *new {
                return Ok(());
            }
            // As with a sample: only after the step of its whole row.
            if last.step < step.seq
                && let Some(change) = only_balance_differs(&rebuilt, new)
            {
                step.balance(change, &new.id)?;
                last.state = new.clone();
                last.step = step.seq;
                return Ok(());
            }
        }
        step.team(new)?;
        self.teams.insert(new.id.clone(), Last { line: 0, step: step.seq, state: new.clone() });
        Ok(())
    }

    fn deployment(&mut self, step: &mut Step<'_>, new: &Arc<Tracked>) -> Result<(), StoreError> {
        let Deployment { id, created_at, total_cost, .. } = &new.deployment;
        if let Some(last) = self.deployments.get_mut(id) {
            if last.state == *new {
                return Ok(());
            }
            // A sample counts only after the step of its whole row, so the second change of one step is whole again.
            if last.step < step.seq && only_cost_differs(&last.state, new) {
                step.sample(last.line, total_cost.nanos())?;
                last.state = new.clone();
                return Ok(());
            }
        }
        let line = step.line(codes::DEPLOYMENT, id.as_str(), *created_at, total_cost.nanos())?;
        step.deployment(line, new)?;
        self.deployments.insert(id.clone(), Last { line, step: step.seq, state: new.clone() });
        Ok(())
    }

    fn volume(&mut self, step: &mut Step<'_>, new: &Arc<TrackedVolume>) -> Result<(), StoreError> {
        let Volume { id, created_at, used_bytes, .. } = &new.volume;
        let used = used_bytes.cast_signed();
        if let Some(last) = self.volumes.get_mut(id) {
            if last.state == *new {
                return Ok(());
            }
            if last.step < step.seq && only_use_differs(&last.state, new) {
                step.sample(last.line, used)?;
                last.state = new.clone();
                return Ok(());
            }
        }
        let line = step.line(codes::VOLUME, id.as_str(), *created_at, used)?;
        step.volume(line, new)?;
        self.volumes.insert(id.clone(), Last { line, step: step.seq, state: new.clone() });
        Ok(())
    }
}

/// A new balance, when it was read, and the one before it.
#[derive(Debug, Clone, Copy)]
pub struct Changed {
    pub balance: Usd,
    pub at: Time,
    pub previous: Usd,
}

/// What a balance alone does to a team.
pub fn with_balance(team: &TrackedTeam, change: Changed) -> TrackedTeam {
    let Changed { balance, at, previous } = change;
    TrackedTeam {
        balance: Some(balance),
        balance_at: Some(at),
        previous: Some((previous, at)),
        ..team.clone()
    }
}

fn only_balance_differs(old: &TrackedTeam, new: &TrackedTeam) -> Option<Changed> {
    let change = Changed { balance: new.balance?, at: new.balance_at?, previous: old.balance? };
    (with_balance(old, change) == *new).then_some(change)
}

fn only_cost_differs(old: &Tracked, new: &Tracked) -> bool {
    let mut old = old.clone();
    old.deployment.total_cost = new.deployment.total_cost;
    old == *new
}

fn only_use_differs(old: &TrackedVolume, new: &TrackedVolume) -> bool {
    let mut old = old.clone();
    old.volume.used_bytes = new.volume.used_bytes;
    old == *new
}

/// The step being written.
struct Step<'c> {
    conn: &'c Connection,
    seq: i64,
    at: Time,
    words: Words,
}

impl Step<'_> {
    fn word(&mut self, text: &str) -> Result<i64, StoreError> {
        self.words.number(self.conn, text)
    }

    fn maybe_word(&mut self, text: Option<&str>) -> Result<Option<i64>, StoreError> {
        text.map(|text| self.word(text)).transpose()
    }

    fn poll(&mut self, poll: &PollRow) -> Result<(), StoreError> {
        let trouble = self.maybe_word(poll.trouble.as_deref())?;
        self.conn
            .prepare_cached(
                "INSERT INTO poll (step, late, feed, outcome, items, failure, trouble) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                self.seq,
                poll.at.millis().wrapping_sub(self.at.millis()),
                codes::feed(poll.feed),
                codes::outcome(poll.outcome),
                poll.items,
                poll.failure.map(codes::failure),
                trouble,
            ])?;
        Ok(())
    }

    fn document(&self, sql: &str, value: &impl serde::Serialize) -> Result<(), StoreError> {
        let body = serde_json::to_string(value).map_err(|error| StoreError::Sqlite(error.to_string()))?;
        self.conn.prepare_cached(sql)?.execute(params![self.seq, body])?;
        Ok(())
    }

    fn line(&self, kind: i64, id: &str, created_at: Time, latest: i64) -> Result<i64, StoreError> {
        let mut upsert = self.conn.prepare_cached(
            "INSERT INTO line (kind, id, created_at, latest) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (kind, id, created_at) DO UPDATE SET latest = excluded.latest RETURNING pk",
        )?;
        Ok(upsert.query_row(params![kind, id, created_at.millis(), latest], |row| row.get(0))?)
    }

    fn sample(&self, line: i64, value: i64) -> Result<(), StoreError> {
        self.conn
            .prepare_cached("INSERT OR REPLACE INTO sample (step, line, value) VALUES (?1, ?2, ?3)")?
            .execute([self.seq, line, value])?;
        self.conn.prepare_cached("UPDATE line SET latest = ?2 WHERE pk = ?1")?.execute([line, value])?;
        Ok(())
    }

    fn team(&mut self, team: &TrackedTeam) -> Result<(), StoreError> {
        let id = self.word(team.id.as_str())?;
        let (name, role) = (self.word(&team.name)?, self.word(&team.role)?);
        let denied = self.maybe_word(team.denied.as_deref())?;
        self.conn
            .prepare_cached("INSERT OR REPLACE INTO team VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
            .execute(params![
                id,
                self.seq,
                name,
                role,
                team.balance.map(|usd| usd.nanos()),
                team.balance_at.map(Time::millis),
                team.previous.map(|(usd, _)| usd.nanos()),
                team.previous.map(|(_, at)| at.millis()),
                team.unknown_since.map(Time::millis),
                denied,
            ])?;
        Ok(())
    }

    fn balance(&mut self, change: Changed, team: &TeamId) -> Result<(), StoreError> {
        let Changed { balance, at, previous } = change;
        let team = self.word(team.as_str())?;
        let late = at.millis().wrapping_sub(self.at.millis());
        self.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO balance (step, team, value, late) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute([self.seq, team, balance.nanos(), late])?;
        self.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO balance_now (team, step, value, at, previous) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute([team, self.seq, balance.nanos(), at.millis(), previous.nanos()])?;
        Ok(())
    }

    fn deployment(&mut self, line: i64, tracked: &Tracked) -> Result<(), StoreError> {
        let d = &tracked.deployment;
        let status_before = self.maybe_word(tracked.status_before.as_ref().map(Status::as_str))?;
        let (presence, presence_at, not_found) = codes::presence(tracked.presence);
        let Self { conn, words, .. } = self;
        let mut insert = conn.prepare_cached(
            "INSERT INTO deployment (step, line, total_cost, hourly_rate, status, status_since, status_before, presence,
               presence_at, not_found, first_seen, started_at, stopped_at, unreadable_since, name, team, gpu_type,
               gpu_count, provider, region, instance_type, kubernetes, rate_before, rate_changed_at)
             VALUES (:step, :line, :total_cost, :hourly_rate, :status, :status_since, :status_before, :presence,
               :presence_at, :not_found, :first_seen, :started_at, :stopped_at, :unreadable_since, :name, :team,
               :gpu_type, :gpu_count, :provider, :region, :instance_type, :kubernetes, :rate_before, :rate_changed_at)",
        )?;
        insert.execute(named_params! {
            ":step": self.seq,
            ":line": line,
            ":total_cost": d.total_cost.nanos(),
            ":hourly_rate": d.hourly_rate.nanos(),
            ":status": words.number(conn, d.status.as_str())?,
            ":status_since": tracked.status_since.millis(),
            ":status_before": status_before,
            ":presence": presence,
            ":presence_at": presence_at,
            ":not_found": not_found,
            ":first_seen": tracked.first_seen.millis(),
            ":started_at": d.started_at.map(Time::millis),
            ":stopped_at": d.stopped_at.map(Time::millis),
            ":unreadable_since": tracked.unreadable_since.map(Time::millis),
            ":name": d.name,
            ":team": words.number(conn, d.team.as_str())?,
            ":gpu_type": words.number(conn, &d.gpu_type)?,
            ":gpu_count": d.gpu_count,
            ":provider": words.number(conn, &d.provider)?,
            ":region": words.number(conn, &d.region)?,
            ":instance_type": words.number(conn, d.instance_type.as_str())?,
            ":kubernetes": d.kubernetes,
            ":rate_before": tracked.rate_before.map(|(usd, _)| usd.nanos()),
            ":rate_changed_at": tracked.rate_before.map(|(_, at)| at.millis()),
        })?;
        Ok(())
    }

    fn volume(&mut self, line: i64, tracked: &TrackedVolume) -> Result<(), StoreError> {
        let v = &tracked.volume;
        let attached_to = match v.attached_to.as_slice() {
            [] => None,
            ids => Some(serde_json::to_string(ids).map_err(|error| StoreError::Sqlite(error.to_string()))?),
        };
        let Self { conn, words, .. } = self;
        let mut insert = conn.prepare_cached(
            "INSERT INTO volume (step, line, used_bytes, size_bytes, hourly_rate, status, first_seen, gone_at,
               last_detached_at, name, team, provider, attached_to)
             VALUES (:step, :line, :used_bytes, :size_bytes, :hourly_rate, :status, :first_seen, :gone_at,
               :last_detached_at, :name, :team, :provider, :attached_to)",
        )?;
        insert.execute(named_params! {
            ":step": self.seq,
            ":line": line,
            ":used_bytes": v.used_bytes.cast_signed(),
            ":size_bytes": v.size_bytes.cast_signed(),
            ":hourly_rate": v.hourly_rate.nanos(),
            ":status": words.number(conn, v.status.as_str())?,
            ":first_seen": tracked.first_seen.millis(),
            ":gone_at": tracked.gone_at.map(Time::millis),
            ":last_detached_at": v.last_detached_at.map(Time::millis),
            ":name": v.name,
            ":team": words.number(conn, v.team.as_str())?,
            ":provider": words.number(conn, &v.provider)?,
            ":attached_to": attached_to,
        })?;
        Ok(())
    }
}
