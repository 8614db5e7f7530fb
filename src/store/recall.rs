//! Rebuilds what was true, now or as of any step, from the last rows up to it.
//!
//! It must never guess: a row that cannot be read is an error, not a default.

mod balances;

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension};
use serde::de::DeserializeOwned;

use super::{
    Recovered, StoreError, actions,
    codes::{self, Columns, Dictionary},
    costs,
    series::{BalancePoll, Known, Last},
};
use crate::model::{
    AlertKey, AlertState, Deployment, DeploymentId, Feed, Group, GroupKey, InstanceType, Outcome, Silence,
    Snapshot, Status, TeamId, Time, Tracked, TrackedTeam, TrackedVolume, Usd, Volume, VolumeId, VolumeStatus,
};

/// Which step's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// The last one: fast numbers are read from their lines, so nothing of the past is touched.
    Now,
    Step(i64),
}

impl AsOf {
    fn bound(self) -> i64 {
        match self {
            Self::Now => i64::MAX,
            Self::Step(seq) => seq,
        }
    }
}

pub fn known(conn: &Connection, as_of: AsOf) -> Result<Known, StoreError> {
    let mut words = Dictionary::new(conn);
    let bound = as_of.bound();
    let mut known = Known {
        deployments: deployments(conn, bound, &mut words)?,
        volumes: volumes(conn, bound, &mut words)?,
        teams: teams(conn, bound, &mut words)?,
        offers: document(
            conn,
            "offers",
            "SELECT body FROM offers WHERE step <= ?1 ORDER BY step DESC LIMIT 1",
            bound,
        )?
        .unwrap_or_default(),
        account: document(
            conn,
            "account",
            "SELECT body FROM account WHERE step <= ?1 ORDER BY step DESC LIMIT 1",
            bound,
        )?
        .unwrap_or_default(),
        silences: silences(conn, bound)?,
        balance_poll: balance_poll(conn, bound)?,
    };
    fast_numbers(conn, as_of, &mut known)?;
    balances::overlay(conn, as_of, &mut known)?;
    Ok(known)
}

/// The last step, in the order of writing, whose time is not after `at`.
pub fn step_at(conn: &Connection, at: Time) -> Result<Option<i64>, StoreError> {
    let mut find = conn.prepare_cached("SELECT seq FROM step WHERE at <= ?1 ORDER BY seq DESC LIMIT 1")?;
    Ok(find.query_row([at.millis()], |row| row.get(0)).optional()?)
}

/// All that a new process goes on from.
pub fn recovered(conn: &Connection, known: &Known) -> Result<Recovered, StoreError> {
    let (wanted, heard) = (actions::wanted(conn)?, actions::heard(conn)?);
    let snapshot = Snapshot {
        balance_history: balances::history(conn, known)?,
        keeps: wanted.keeps,
        armings: wanted.armings,
        cancels: wanted.cancels,
        told: heard.told,
        confirmed: heard.confirmed,
        ..known.snapshot()
    };
    Ok(Recovered {
        snapshot,
        alerts: alerts(conn)?,
        books: costs::books(conn)?,
        groups: groups(conn)?,
        polls: polls(conn)?,
        actions: actions::actions(conn)?,
    })
}

fn groups(conn: &Connection) -> Result<BTreeMap<GroupKey, Group>, StoreError> {
    let mut select = conn.prepare_cached("SELECT receiver, labels, body FROM waiting")?;
    let mut rows = select.query([])?;
    let mut groups = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let key = GroupKey { receiver: row.get(0)?, labels: row.get(1)? };
        groups.insert(key, json("waiting", &row.get::<_, String>(2)?)?);
    }
    Ok(groups)
}

fn silences(conn: &Connection, bound: i64) -> Result<BTreeMap<Arc<str>, Arc<Silence>>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT id, body, max(step) FROM silence WHERE step <= ?1 GROUP BY id HAVING body IS NOT NULL",
    )?;
    let mut rows = select.query([bound])?;
    let mut silences = BTreeMap::new();
    while let Some(row) = rows.next()? {
        silences.insert(row.get(0)?, Arc::new(json("silence", &row.get::<_, String>(1)?)?));
    }
    Ok(silences)
}

fn polls(conn: &Connection) -> Result<BTreeMap<Feed, Time>, StoreError> {
    let mut find = conn.prepare_cached(
        "SELECT step.at + poll.late FROM poll JOIN step ON step.seq = poll.step
         WHERE poll.feed = ?1 AND poll.outcome <> ?2 ORDER BY poll.seq DESC LIMIT 1",
    )?;
    let failed = codes::outcome(Outcome::Failed);
    let mut polls = BTreeMap::new();
    for feed in [Feed::Balance, Feed::Deployments, Feed::Volumes] {
        let at: Option<i64> = find.query_row([codes::feed(feed), failed], |row| row.get(0)).optional()?;
        polls.extend(at.map(|at| (feed, Time::from_millis(at))));
    }
    Ok(polls)
}

pub fn alerts(conn: &Connection) -> Result<BTreeMap<AlertKey, AlertState>, StoreError> {
    let mut select = conn.prepare_cached("SELECT rule, subject, state FROM alert")?;
    let mut rows = select.query([])?;
    let mut alerts = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let subject: String = row.get(1)?;
        let key = AlertKey { rule: row.get(0)?, subject: codes::subject_of(&subject)? };
        alerts.insert(key, json("alert", &row.get::<_, String>(2)?)?);
    }
    Ok(alerts)
}

pub fn json<T: DeserializeOwned>(table: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Unreadable { table, what: error.to_string() })
}

fn document<T: DeserializeOwned>(
    conn: &Connection,
    table: &'static str,
    sql: &str,
    bound: i64,
) -> Result<Option<T>, StoreError> {
    let body: Option<String> = conn.prepare_cached(sql)?.query_row([bound], |row| row.get(0)).optional()?;
    body.map(|body| json(table, &body)).transpose()
}

fn balance_poll(conn: &Connection, bound: i64) -> Result<Option<BalancePoll>, StoreError> {
    let mut find = conn.prepare_cached(
        "SELECT step.seq, step.at, poll.late FROM poll JOIN step ON step.seq = poll.step
         WHERE poll.feed = ?1 AND poll.outcome = ?2 AND poll.step <= ?3 ORDER BY poll.seq DESC LIMIT 1",
    )?;
    let (feed, outcome) = (codes::feed(Feed::Balance), codes::outcome(Outcome::Complete));
    let row = find
        .query_row([feed, outcome, bound], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })
        .optional()?;
    Ok(row.map(|(step, at, late)| BalancePoll { step, at: Time::from_millis(at.wrapping_add(late)) }))
}

/// A recursive query finds the teams by seeks, however many rows each has.
fn teams(
    conn: &Connection,
    bound: i64,
    words: &mut Dictionary<'_>,
) -> Result<BTreeMap<TeamId, Last<TrackedTeam>>, StoreError> {
    let mut select = conn.prepare_cached(
        "WITH RECURSIVE each (team) AS (
           SELECT min(team) FROM team
           UNION ALL SELECT (SELECT min(team) FROM team WHERE team > each.team) FROM each WHERE each.team IS NOT NULL)
         SELECT team.* FROM each JOIN team ON team.team = each.team
           AND team.step = (SELECT max(step) FROM team AS t WHERE t.team = each.team AND t.step <= ?1)",
    )?;
    let mut rows = select.query([bound])?;
    let mut teams = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let row = Columns(row);
        let balance = |name| Ok::<_, StoreError>(row.get::<Option<i64>>(name)?.map(Usd::from_nanos));
        let denied: Option<i64> = row.get("denied")?;
        let id = TeamId::new(words.word(row.get("team")?)?);
        let team = TrackedTeam {
            id: id.clone(),
            name: words.word(row.get("name")?)?,
            role: words.word(row.get("role")?)?,
            balance: balance("balance")?,
            balance_at: row.maybe_time("balance_at")?,
            previous: balance("previous")?.zip(row.maybe_time("previous_at")?),
            unknown_since: row.maybe_time("unknown_since")?,
            denied: denied.map(|pk| words.word(pk)).transpose()?,
        };
        teams.insert(id, Last { line: 0, step: row.get("step")?, state: Arc::new(team) });
    }
    Ok(teams)
}

/// In order of writing, so that of two identities of one id the one that changed last stays.
fn deployments(
    conn: &Connection,
    bound: i64,
    words: &mut Dictionary<'_>,
) -> Result<BTreeMap<DeploymentId, Last<Tracked>>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT line.id, line.created_at, deployment.* FROM line JOIN deployment ON deployment.seq =
           (SELECT max(seq) FROM deployment AS d WHERE d.line = line.pk AND d.step <= ?1)
         WHERE line.kind = ?2 ORDER BY deployment.seq",
    )?;
    let mut rows = select.query([bound, codes::DEPLOYMENT])?;
    let mut deployments = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let row = Columns(row);
        let status_before: Option<i64> = row.get("status_before")?;
        let rate_before: Option<i64> = row.get("rate_before")?;
        let id = DeploymentId::new(row.get::<Arc<str>>("id")?);
        let deployment = Deployment {
            id: id.clone(),
            created_at: row.time("created_at")?,
            name: row.get("name")?,
            team: TeamId::new(words.word(row.get("team")?)?),
            gpu_type: words.word(row.get("gpu_type")?)?,
            gpu_count: row.get("gpu_count")?,
            provider: words.word(row.get("provider")?)?,
            region: words.word(row.get("region")?)?,
            instance_type: InstanceType::new(&words.word(row.get("instance_type")?)?),
            status: Status::from(words.word(row.get("status")?)?),
            hourly_rate: Usd::from_nanos(row.get("hourly_rate")?),
            total_cost: Usd::from_nanos(row.get("total_cost")?),
            started_at: row.maybe_time("started_at")?,
            stopped_at: row.maybe_time("stopped_at")?,
            kubernetes: row.get("kubernetes")?,
            access: Default::default(),
        };
        let tracked = Tracked {
            deployment,
            first_seen: row.time("first_seen")?,
            presence: codes::presence_of(
                row.get("presence")?,
                row.get("presence_at")?,
                row.get("not_found")?,
            )?,
            status_since: row.time("status_since")?,
            status_before: status_before.map(|pk| words.word(pk).map(Status::from)).transpose()?,
            rate_before: rate_before.map(Usd::from_nanos).zip(row.maybe_time("rate_changed_at")?),
            unreadable_since: row.maybe_time("unreadable_since")?,
        };
        let last = Last { line: row.get("line")?, step: row.get("step")?, state: Arc::new(tracked) };
        deployments.insert(id, last);
    }
    Ok(deployments)
}

fn volumes(
    conn: &Connection,
    bound: i64,
    words: &mut Dictionary<'_>,
) -> Result<BTreeMap<VolumeId, Last<TrackedVolume>>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT line.id, line.created_at, volume.* FROM line JOIN volume ON volume.seq =
           (SELECT max(seq) FROM volume AS v WHERE v.line = line.pk AND v.step <= ?1)
         WHERE line.kind = ?2 ORDER BY volume.seq",
    )?;
    let mut rows = select.query([bound, codes::VOLUME])?;
    let mut volumes = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let row = Columns(row);
        let attached_to: Option<String> = row.get("attached_to")?;
        let id = VolumeId::new(row.get::<Arc<str>>("id")?);
        let volume = Volume {
            id: id.clone(),
            created_at: row.time("created_at")?,
            name: row.get("name")?,
            team: TeamId::new(words.word(row.get("team")?)?),
            provider: words.word(row.get("provider")?)?,
            status: VolumeStatus::from(words.word(row.get("status")?)?),
            size_bytes: row.get::<i64>("size_bytes")?.cast_unsigned(),
            used_bytes: row.get::<i64>("used_bytes")?.cast_unsigned(),
            hourly_rate: Usd::from_nanos(row.get("hourly_rate")?),
            attached_to: attached_to.map(|ids| json("volume", &ids)).transpose()?.unwrap_or_default(),
            last_detached_at: row.maybe_time("last_detached_at")?,
        };
        let tracked = TrackedVolume {
            volume,
            first_seen: row.time("first_seen")?,
            gone_at: row.maybe_time("gone_at")?,
        };
        let last = Last { line: row.get("line")?, step: row.get("step")?, state: Arc::new(tracked) };
        volumes.insert(id, last);
    }
    Ok(volumes)
}

/// Puts the samples that follow the whole rows on top of them.
fn fast_numbers(conn: &Connection, as_of: AsOf, known: &mut Known) -> Result<(), StoreError> {
    let rows = known.deployments.values().map(|last| last.step);
    let Some(oldest) = rows.chain(known.volumes.values().map(|last| last.step)).min() else { return Ok(()) };
    let numbers = match as_of {
        AsOf::Now => latest(conn)?,
        AsOf::Step(seq) => sampled(conn, oldest, seq)?,
    };
    let newer =
        |line: i64, step: i64| numbers.get(&line).filter(|(at, _)| *at > step).map(|(_, value)| *value);
    for last in known.deployments.values_mut() {
        if let Some(value) = newer(last.line, last.step) {
            Arc::make_mut(&mut last.state).deployment.total_cost = Usd::from_nanos(value);
        }
    }
    for last in known.volumes.values_mut() {
        if let Some(value) = newer(last.line, last.step) {
            Arc::make_mut(&mut last.state).volume.used_bytes = value.cast_unsigned();
        }
    }
    Ok(())
}

/// Line → (step, value). A line's latest value is newer than any row.
fn latest(conn: &Connection) -> Result<BTreeMap<i64, (i64, i64)>, StoreError> {
    let mut select = conn.prepare_cached("SELECT pk, latest FROM line")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, (i64::MAX, row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn sampled(conn: &Connection, after: i64, until: i64) -> Result<BTreeMap<i64, (i64, i64)>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT line, step, value FROM sample WHERE step > ?1 AND step <= ?2 ORDER BY step",
    )?;
    let rows = select.query_map([after, until], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
