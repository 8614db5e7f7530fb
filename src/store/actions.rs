//! The rows of policies: actions and each step they took, keeps, armings and cancels; who took which announcement; the intent.
//!
//! It must never change or delete a step that was written, nor commit an intent on anything but the rows as they stand.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Serialize, de::DeserializeOwned};

use super::{StoreError, outbox::DELIVERED, recall::json};
use crate::model::{
    Action, ActionId, Arming, Cancel, EventId, Heard, Keep, Shift, Stage, StageName, Target, Time, Wish,
};

/// Of those that are over, the newest: no cap counts as many in a day.
const OVER_MAX: i64 = 10_000;

/// What a conditional commit asks for; all of it must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub action: ActionId,
    pub seq: u32,
    pub target: Target,
    pub policy: Arc<str>,
    pub fingerprint: Arc<str>,
}

/// Inside the step's transaction.
pub fn write(
    conn: &Connection,
    actions: &[Action],
    shifts: &[Shift],
    wishes: &[Wish],
) -> Result<(), StoreError> {
    actions.iter().try_for_each(|action| write_action(conn, action))?;
    shifts.iter().try_for_each(|shift| write_shift(conn, shift))?;
    wishes.iter().try_for_each(|wish| write_wish(conn, wish))
}

fn write_action(conn: &Connection, action: &Action) -> Result<(), StoreError> {
    let announcement = match &action.stage {
        Stage::Marked { notice, .. } => Some(notice.as_str()),
        Stage::Withheld { .. }
        | Stage::Announced { .. }
        | Stage::Reading { .. }
        | Stage::Checking { .. }
        | Stage::Committing { .. }
        | Stage::Requested { .. }
        | Stage::Verifying { .. }
        | Stage::InDoubt { .. }
        | Stage::Gone { .. }
        | Stage::Refused { .. }
        | Stage::Expired { .. }
        | Stage::Cancelled { .. } => None,
    };
    let over = action.stage.closed_at().map(|at| action.requests.iter().copied().fold(at, Time::max));
    conn.prepare_cached(
        "INSERT INTO action (id, policy, target, seq, stage, announcement, over, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (id) DO UPDATE SET policy = ?2, target = ?3, seq = ?4, stage = ?5,
           announcement = ifnull(?6, announcement), over = ?7, body = ?8",
    )?
    .execute(params![
        action.id.as_str(),
        action.policy,
        subject(&action.target),
        action.seq,
        action.stage.name().as_str(),
        announcement,
        over.map(Time::millis),
        text(action)?,
    ])?;
    Ok(())
}

fn write_shift(conn: &Connection, shift: &Shift) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT INTO shift (action, at, from_stage, to_stage, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        shift.action.as_str(),
        shift.at.millis(),
        shift.from.map(StageName::as_str),
        shift.to.as_str(),
        text(&shift.reason)?,
    ])?;
    Ok(())
}

fn write_wish(conn: &Connection, wish: &Wish) -> Result<(), StoreError> {
    match wish {
        Wish::Keep(id, Some(keep)) => conn
            .prepare_cached("INSERT OR REPLACE INTO keep (id, target, until, body) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![id, subject(&keep.target), keep.until.map(Time::millis), text(&**keep)?])?,
        Wish::Keep(id, None) => conn.prepare_cached("DELETE FROM keep WHERE id = ?1")?.execute([id])?,
        Wish::Arming(policy, Some(arming)) => conn
            .prepare_cached("INSERT OR REPLACE INTO arming (policy, fingerprint, body) VALUES (?1, ?2, ?3)")?
            .execute(params![policy, arming.fingerprint, text(&**arming)?])?,
        Wish::Arming(policy, None) => {
            conn.prepare_cached("DELETE FROM arming WHERE policy = ?1")?.execute([policy])?
        }
        Wish::Cancel(action, Some(cancel)) => conn
            .prepare_cached("INSERT OR REPLACE INTO cancel (action, body) VALUES (?1, ?2)")?
            .execute(params![action.as_str(), text(cancel)?])?,
        Wish::Cancel(action, None) => {
            conn.prepare_cached("DELETE FROM cancel WHERE action = ?1")?.execute([action.as_str()])?
        }
    };
    Ok(())
}

/// What the last commit left of what people want.
#[derive(Debug, Default)]
pub struct Wanted {
    pub keeps: BTreeMap<Arc<str>, Arc<Keep>>,
    pub armings: BTreeMap<Arc<str>, Arc<Arming>>,
    pub cancels: BTreeMap<ActionId, Cancel>,
}

pub fn wanted(conn: &Connection) -> Result<Wanted, StoreError> {
    let cancels: BTreeMap<String, _> = documents(conn, "cancel", "SELECT action, body FROM cancel")?;
    Ok(Wanted {
        keeps: documents(conn, "keep", "SELECT id, body FROM keep")?,
        armings: documents(conn, "arming", "SELECT policy, body FROM arming")?,
        cancels: cancels.into_iter().map(|(id, cancel)| (ActionId::from_text(id), cancel)).collect(),
    })
}

fn documents<K: rusqlite::types::FromSql + Ord, V: DeserializeOwned>(
    conn: &Connection,
    table: &'static str,
    sql: &str,
) -> Result<BTreeMap<K, V>, StoreError> {
    let mut select = conn.prepare_cached(sql)?;
    let mut rows = select.query([])?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        found.insert(row.get(0)?, json(table, &row.get::<_, String>(1)?)?);
    }
    Ok(found)
}

/// Every open action, and those that were over last.
pub fn actions(conn: &Connection) -> Result<Vec<Action>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT body FROM action WHERE over IS NULL UNION ALL
         SELECT body FROM (SELECT body FROM action WHERE over IS NOT NULL ORDER BY over DESC LIMIT ?1)",
    )?;
    let mut rows = select.query([OVER_MAX])?;
    let mut actions = Vec::new();
    while let Some(row) = rows.next()? {
        actions.push(json("action", &row.get::<_, String>(0)?)?);
    }
    Ok(actions)
}

/// The actions whose id begins so, open ones first, then those that were over last; `""`: all, as many as may matter.
pub fn beginning(conn: &Connection, prefix: &str) -> Result<Vec<Action>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT body FROM action WHERE id >= ?1 AND id < ?1 || char(1114111)
         ORDER BY over IS NOT NULL, over DESC LIMIT ?2",
    )?;
    let mut rows = select.query(params![prefix, OVER_MAX])?;
    let mut actions = Vec::new();
    while let Some(row) = rows.next()? {
        actions.push(json("action", &row.get::<_, String>(0)?)?);
    }
    Ok(actions)
}

/// Every step of an action, oldest first.
pub fn shifts(conn: &Connection, action: &ActionId) -> Result<Vec<Shift>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT at, from_stage, to_stage, reason FROM shift WHERE action = ?1 ORDER BY seq",
    )?;
    let mut rows = select.query([action.as_str()])?;
    let mut shifts = Vec::new();
    while let Some(row) = rows.next()? {
        let from: Option<String> = row.get(1)?;
        shifts.push(Shift {
            action: action.clone(),
            at: Time::from_millis(row.get(0)?),
            from: from.as_deref().map(stage).transpose()?,
            to: stage(&row.get::<_, String>(2)?)?,
            reason: json("shift", &row.get::<_, String>(3)?)?,
        });
    }
    Ok(shifts)
}

fn stage(text: &str) -> Result<StageName, StoreError> {
    let known = StageName::ALL.into_iter().find(|stage| stage.as_str() == text);
    known.ok_or_else(|| StoreError::Unreadable { table: "shift", what: format!("no stage: {text:?}") })
}

/// Who took the announcements of the open actions, and which receivers ever took anything.
pub fn heard(conn: &Connection) -> Result<Heard, StoreError> {
    let mut heard = Heard::default();
    let mut told = conn.prepare_cached(
        "SELECT action.announcement, outbox.receiver, outbox.ended_at FROM action
           JOIN notice ON notice.event = action.announcement
           JOIN outbox ON outbox.notice = notice.pk AND outbox.state = ?1
         WHERE action.over IS NULL AND outbox.ended_at IS NOT NULL",
    )?;
    let mut rows = told.query([DELIVERED])?;
    while let Some(row) = rows.next()? {
        let event = EventId::from_text(row.get::<_, String>(0)?);
        heard.told.entry(event).or_default().insert(row.get(1)?, Time::from_millis(row.get(2)?));
    }
    let mut confirmed = conn.prepare_cached("SELECT receiver, at FROM confirmed")?;
    let mut rows = confirmed.query([])?;
    while let Some(row) = rows.next()? {
        heard.confirmed.insert(row.get(0)?, Time::from_millis(row.get(1)?));
    }
    Ok(heard)
}

/// The receiver of an outbox row took something.
pub fn confirm(conn: &Connection, outbox: i64, now: Time) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT OR REPLACE INTO confirmed SELECT receiver, ?2 FROM outbox WHERE seq = ?1")?
        .execute([outbox, now.millis()])?;
    Ok(())
}

/// One conditional UPDATE; `Err` says what did not hold.
pub fn commit_intent(
    conn: &Connection,
    intent: &Intent,
    now: Time,
) -> Result<Result<(), Arc<str>>, StoreError> {
    let Intent { action, seq, target, policy, fingerprint } = intent;
    let committed = conn
        .prepare_cached(
            "UPDATE action SET intent = seq, intent_at = ?6
             WHERE id = ?1 AND seq = ?2 AND stage = ?7 AND target = ?3 AND policy = ?4 AND ifnull(intent, 0) < seq
               AND EXISTS (SELECT 1 FROM arming WHERE policy = ?4 AND fingerprint = ?5)
               AND NOT EXISTS (SELECT 1 FROM cancel WHERE action = ?1)
               AND NOT EXISTS (SELECT 1 FROM keep WHERE target = ?3 AND (until IS NULL OR until > ?6))",
        )?
        .execute(params![
            action.as_str(),
            seq,
            subject(target),
            policy,
            fingerprint,
            now.millis(),
            StageName::Committing.as_str(),
        ])?;
    if committed == 1 { Ok(Ok(())) } else { Ok(Err(missed(conn, intent, now)?.into())) }
}

/// Why it was not committed, for people.
fn missed(conn: &Connection, intent: &Intent, now: Time) -> Result<&'static str, StoreError> {
    let Intent { action, target, policy, fingerprint, .. } = intent;
    let there = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        conn.prepare_cached(sql)?.query_row(values, |_| Ok(())).optional()
    };
    let kept = "SELECT 1 FROM keep WHERE target = ?1 AND (until IS NULL OR until > ?2)";
    if there(kept, &[&subject(target), &now.millis()])?.is_some() {
        return Ok("the intent was not committed: somebody keeps it");
    }
    if there("SELECT 1 FROM cancel WHERE action = ?1", &[&action.as_str()])?.is_some() {
        return Ok("the intent was not committed: the action was cancelled");
    }
    let armed = "SELECT 1 FROM arming WHERE policy = ?1 AND fingerprint = ?2";
    if there(armed, &[policy, fingerprint])?.is_none() {
        return Ok("the intent was not committed: the policy is not armed as it was");
    }
    Ok("the intent was not committed: the action is not where it was")
}

fn subject(target: &Target) -> String {
    target.subject().to_string()
}

pub fn text(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Sqlite(error.to_string()))
}
