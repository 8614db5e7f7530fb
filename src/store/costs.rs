//! The ledger's rows, and the rollups that say what was spent: by hour, by day, by team.
//!
//! It must never lose or repeat an amount: what a step charges is added in that step's own transaction.

mod runs;

use std::{collections::BTreeMap, time::Duration};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    StoreError,
    codes::{self, Columns, Dictionary, Words},
    recall::json,
};
use crate::model::{
    Books, Charge, ChargeKind, Cost, CostBy, Feed, Line, Outcome, Purse, StepRecord, Subject, TeamId, Time,
    Usd,
};

const HOUR_MS: i64 = 3_600_000;
const DAY_HOURS: i64 = 24;
/// How long an account's costs by the hour stay.
const HOURS_KEPT: Duration = Duration::from_secs(400 * 86_400);
/// Hours that one prune takes: one comes in at every hour, so pruning once in a while keeps up.
const HOURS_AT_ONCE: i64 = 4;

/// SQL is a constant each, so that the statement cache finds it.
macro_rules! upsert {
    ($table:literal, $when:literal, $whose:literal) => {
        concat!(
            "INSERT INTO ", $table, " (", $when, ", ", $whose, ", amount, estimated) VALUES (?1, ?2, ?3, ?4) ",
            "ON CONFLICT DO UPDATE SET amount = amount + excluded.amount, estimated = estimated + excluded.estimated"
        )
    };
}
pub fn write(conn: &Connection, record: &StepRecord) -> Result<(), StoreError> {
    let mut words = Words::default();
    let mut accounts: BTreeMap<&Subject, i64> = BTreeMap::new();
    for (subject, line) in &record.lines {
        match line {
            Some(line) => {
                let pk = write_line(conn, subject, line, &mut words)?;
                accounts.insert(subject, pk);
            }
            None => {
                conn.prepare_cached("DELETE FROM ledger WHERE subject = ?1")?
                    .execute([subject.to_string()])?;
            }
        }
    }
    // Of one hour there may be several charges: an accrual, and what corrects it.
    let mut hours: BTreeMap<(i64, i64), Sum> = BTreeMap::new();
    let mut days: BTreeMap<(i64, i64), Sum> = BTreeMap::new();
    let mut teams: BTreeMap<(i64, i64), Sum> = BTreeMap::new();
    for charge in &record.charges {
        let account = match accounts.get(&charge.subject) {
            Some(pk) => *pk,
            None => account(conn, &charge.subject)?,
        };
        let hour = charge.hour.millis().div_euclid(HOUR_MS);
        hours.entry((hour, account)).or_default().add(charge);
        days.entry((hour.div_euclid(DAY_HOURS), account)).or_default().add(charge);
        teams.entry((hour, words.number(conn, charge.team.as_str())?)).or_default().add(charge);
        correct(conn, record.at, account, hour, charge)?;
    }
    for ((hour, account), sum) in hours {
        runs::add(conn, hour, account, sum)?;
    }
    for (sql, sums) in
        [(upsert!("cost_day", "day", "account"), days), (upsert!("cost_team", "hour", "team"), teams)]
    {
        let mut add = conn.prepare_cached(sql)?;
        for ((when, whose), sum) in sums {
            add.execute(params![when, whose, sum.amount.nanos(), sum.estimated.nanos()])?;
        }
    }
    for (team, purse) in &record.purses {
        conn.prepare_cached("INSERT OR REPLACE INTO purse (team, state) VALUES (?1, ?2)")?
            .execute(params![team.as_str(), text(purse)?])?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    amount: Usd,
    estimated: Usd,
}

impl Sum {
    fn add(&mut self, charge: &Charge) {
        self.amount = self.amount.saturating_add(charge.amount);
        self.estimated = self.estimated.saturating_add(charge.estimated);
    }
}

fn write_line(
    conn: &Connection,
    subject: &Subject,
    line: &Line,
    words: &mut Words,
) -> Result<i64, StoreError> {
    let mut upsert = conn.prepare_cached(
        "INSERT INTO ledger (subject, team, since, until, rate, rest, charged, guesses, reported, reported_at, drift, ended)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
         ON CONFLICT (subject) DO UPDATE SET team = excluded.team, since = excluded.since, until = excluded.until,
           rate = excluded.rate, rest = excluded.rest, charged = excluded.charged, guesses = excluded.guesses,
           reported = excluded.reported, reported_at = excluded.reported_at, drift = excluded.drift, ended = excluded.ended
         RETURNING pk",
    )?;
    let guesses = if line.guesses.is_empty() { None } else { Some(text(&line.guesses)?) };
    let row = params![
        subject.to_string(),
        words.number(conn, line.team.as_str())?,
        line.from.millis(),
        line.until.millis(),
        line.rate.nanos(),
        line.rest,
        line.charged.nanos(),
        guesses,
        line.reported.map(|(total, _)| total.nanos()),
        line.reported.map(|(_, at)| at.millis()),
        line.drift_permille,
        line.ended,
    ];
    Ok(upsert.query_row(row, |row| row.get(0))?)
}

fn lines(conn: &Connection) -> Result<BTreeMap<Subject, Line>, StoreError> {
    let mut words = Dictionary::new(conn);
    let mut select = conn.prepare_cached("SELECT * FROM ledger")?;
    let mut rows = select.query([])?;
    let mut lines = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let row = Columns(row);
        let usd = |name| Ok::<_, StoreError>(row.get::<Option<i64>>(name)?.map(Usd::from_nanos));
        let guesses: Option<String> = row.get("guesses")?;
        let line = Line {
            team: TeamId::new(words.word(row.get("team")?)?),
            from: row.time("since")?,
            until: row.time("until")?,
            rate: Usd::from_nanos(row.get("rate")?),
            rest: row.get("rest")?,
            charged: Usd::from_nanos(row.get("charged")?),
            guesses: guesses.map(|guesses| json("ledger", &guesses)).transpose()?.unwrap_or_default(),
            reported: usd("reported")?.zip(row.maybe_time("reported_at")?),
            drift_permille: row.get("drift")?,
            ended: row.get("ended")?,
        };
        lines.insert(codes::subject_of(&row.get::<String>("subject")?)?, line);
    }
    Ok(lines)
}

fn account(conn: &Connection, subject: &Subject) -> Result<i64, StoreError> {
    let mut find = conn.prepare_cached("SELECT pk FROM ledger WHERE subject = ?1")?;
    find.query_row([subject.to_string()], |row| row.get(0))
        .optional()?
        .ok_or_else(|| StoreError::Unreadable { table: "ledger", what: "a charge without its line".into() })
}

fn correct(conn: &Connection, at: Time, account: i64, hour: i64, charge: &Charge) -> Result<(), StoreError> {
    let why = match charge.why {
        ChargeKind::Accrued => return Ok(()),
        ChargeKind::Trued => 1,
        ChargeKind::Correction => 2,
    };
    if charge.amount != Usd::ZERO {
        conn.prepare_cached(
            "INSERT INTO correction (at, account, hour, amount, why) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![at.millis(), account, hour, charge.amount.nanos(), why])?;
    }
    Ok(())
}

fn text(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Sqlite(error.to_string()))
}

/// Deletes the oldest hours of accounts, if they are old enough.
pub fn prune(conn: &Connection, now: Time) -> Result<usize, StoreError> {
    let oldest = now.minus(HOURS_KEPT).millis().div_euclid(HOUR_MS);
    let mut delete = conn.prepare_cached(
        "DELETE FROM cost_hour WHERE hour < min(?1, (SELECT min(hour) FROM cost_hour) + ?2)",
    )?;
    Ok(delete.execute([oldest, HOURS_AT_ONCE])?)
}

pub fn books(conn: &Connection) -> Result<Books, StoreError> {
    let mut books = Books { lines: lines(conn)?, seen: last_seen(conn)?, ..Books::default() };
    let mut select = conn.prepare_cached("SELECT team, state FROM purse")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (team, state): (String, String) = (row.get(0)?, row.get(1)?);
        books.purses.insert(TeamId::new(team), json::<Purse>("purse", &state)?);
    }
    Ok(books)
}

/// When deployments were last read.
fn last_seen(conn: &Connection) -> Result<Option<Time>, StoreError> {
    let mut find = conn.prepare_cached(
        "SELECT step.at + poll.late FROM poll JOIN step ON step.seq = poll.step
         WHERE poll.feed IN (?1, ?2) AND poll.outcome <> ?3 ORDER BY poll.seq DESC LIMIT 1",
    )?;
    let (lists, inventory) = (codes::feed(Feed::Deployments), codes::feed(Feed::Inventory));
    let failed = codes::outcome(Outcome::Failed);
    let at = find.query_row([lists, inventory, failed], |row| row.get::<_, i64>(0)).optional()?;
    Ok(at.map(Time::from_millis))
}

/// Sums in whole hours: the one that holds `since` is in, the one that begins at `until` or later is not.
pub fn sums(conn: &Connection, since: Time, until: Time, by: CostBy) -> Result<Vec<Cost>, StoreError> {
    let hours = (since.millis().div_euclid(HOUR_MS), ceil(until.millis(), HOUR_MS));
    match by {
        CostBy::Team => team_sums(
            conn,
            "SELECT team, NULL, sum(amount), sum(estimated) FROM cost_team
             WHERE hour >= ?1 AND hour < ?2 GROUP BY team ORDER BY 3 DESC, team",
            hours,
            HOUR_MS,
        ),
        CostBy::Hour => team_sums(
            conn,
            "SELECT team, hour, amount, estimated FROM cost_team
             WHERE hour >= ?1 AND hour < ?2 ORDER BY hour, team",
            hours,
            HOUR_MS,
        ),
        CostBy::Day => team_sums(
            conn,
            "SELECT team, hour / 24, sum(amount), sum(estimated) FROM cost_team
             WHERE hour >= ?1 AND hour < ?2 GROUP BY 2, team ORDER BY 2, team",
            hours,
            HOUR_MS * DAY_HOURS,
        ),
        CostBy::Subject => subject_sums(conn, hours),
    }
}

fn team_sums(
    conn: &Connection,
    sql: &str,
    (first, end): (i64, i64),
    unit_ms: i64,
) -> Result<Vec<Cost>, StoreError> {
    let mut words = Dictionary::new(conn);
    let mut select = conn.prepare_cached(sql)?;
    let mut rows = select.query([first, end])?;
    let mut costs = Vec::new();
    while let Some(row) = rows.next()? {
        let from: Option<i64> = row.get(1)?;
        costs.push(Cost {
            team: TeamId::new(words.word(row.get(0)?)?),
            from: from.map(|from| Time::from_millis(from.saturating_mul(unit_ms))),
            subject: None,
            amount: usd(row, 2)?,
            estimated: usd(row, 3)?,
        });
    }
    Ok(costs)
}

/// Whole days from the days, what is left at both ends from the hours; where those are gone, the whole first day.
fn subject_sums(conn: &Connection, (first, end): (i64, i64)) -> Result<Vec<Cost>, StoreError> {
    let kept: Option<i64> = conn.query_row("SELECT min(hour) FROM cost_hour", [], |row| row.get(0))?;
    let whole_day = first.div_euclid(DAY_HOURS);
    let first_day = if kept.is_some_and(|kept| kept <= first) { ceil(first, DAY_HOURS) } else { whole_day };
    let end_day = end.div_euclid(DAY_HOURS).max(first_day);
    let head_end = first_day.saturating_mul(DAY_HOURS).min(end);
    let tail = end_day.saturating_mul(DAY_HOURS).max(head_end);
    let mut words = Dictionary::new(conn);
    let mut select = conn.prepare_cached(
        "SELECT ledger.team, ledger.subject, sum(c.amount), sum(c.estimated) FROM (
           SELECT account, sum(amount) AS amount, sum(estimated) AS estimated FROM cost_day
             WHERE day >= ?1 AND day < ?2 GROUP BY account
           UNION ALL SELECT account, amount * (min(hour + hours, ?4) - max(hour, ?3)),
               estimated * (min(hour + hours, ?4) - max(hour, ?3))
             FROM cost_hour WHERE hour > ?3 - 24 AND hour < ?4 AND hour + hours > ?3 AND ?3 < ?4
           UNION ALL SELECT account, amount * (min(hour + hours, ?6) - max(hour, ?5)),
               estimated * (min(hour + hours, ?6) - max(hour, ?5))
             FROM cost_hour WHERE hour > ?5 - 24 AND hour < ?6 AND hour + hours > ?5 AND ?5 < ?6
         ) AS c JOIN ledger ON ledger.pk = c.account GROUP BY c.account ORDER BY 3 DESC, c.account",
    )?;
    let mut rows = select.query([first_day, end_day, first, head_end, tail, end])?;
    let mut costs = Vec::new();
    while let Some(row) = rows.next()? {
        costs.push(Cost {
            team: TeamId::new(words.word(row.get(0)?)?),
            from: None,
            subject: Some(codes::subject_of(&row.get::<_, String>(1)?)?),
            amount: usd(row, 2)?,
            estimated: usd(row, 3)?,
        });
    }
    Ok(costs)
}

fn usd(row: &Row<'_>, column: usize) -> Result<Usd, StoreError> {
    Ok(Usd::from_nanos(row.get(column)?))
}

fn ceil(value: i64, unit: i64) -> i64 {
    value.saturating_add(unit - 1).div_euclid(unit)
}
