//! `costs`: what was spent between two times, by team, by hour or day, or by what it was spent on.
//!
//! It must never add up another span than the one that it names.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{About, At, Look, Money, Named, Page, Problem, Query, alerts::about, deployments::named_team};
use crate::model::{Cost, CostBy, Time, Usd};

const HOUR_SECS: i64 = 3_600;
const DAY: Duration = Duration::from_secs(86_400);
/// For whoever does not say since when.
const DAYS_BY_DEFAULT: u32 = 31;

/// Sums over whole hours of UTC: `since` and `until` say which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    pub since: At,
    pub until: At,
    /// `team`, `day`, `hour` or `subject`.
    pub by: String,
    /// Of all pages.
    pub amount: Money,
    /// Of the amount, what was not observed and no `totalCost` has confirmed.
    pub estimated: Money,
    #[serde(flatten)]
    pub page: Page<Spent>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    pub team: Named,
    /// By hour or day: its beginning, UTC.
    pub from: Option<At>,
    /// By subject: the deployment or volume.
    pub subject: Option<About>,
    pub amount: Money,
    pub estimated: Money,
}

pub fn costs(look: Look<'_>, query: &Query<'_>) -> Result<Costs, Problem> {
    let slice = query.page(&["since", "until", "by"])?;
    let by = by(query.text("by").unwrap_or("team"))?;
    let time = |name| query.text(name).map(|text| time(name, text)).transpose();
    let until = ceil(time("until")?.unwrap_or(look.now));
    let since = floor(time("since")?.unwrap_or_else(|| until.minus(DAY * DAYS_BY_DEFAULT)));
    within(since, until, by)?;
    let all = look.records()?.costs(since, until, by)?;
    let sum = |amount: fn(&Cost) -> Usd| Money(all.iter().map(amount).sum());
    Ok(Costs {
        since: At(since),
        until: At(until),
        by: name(by).to_owned(),
        amount: sum(|cost| cost.amount),
        estimated: sum(|cost| cost.estimated),
        page: Page::new(look, slice, all, |cost| spent(look, &cost)),
    })
}

fn spent(look: Look<'_>, cost: &Cost) -> Spent {
    Spent {
        team: named_team(look, &cost.team),
        from: cost.from.map(At),
        subject: cost.subject.as_ref().map(|subject| about(look, subject)),
        amount: Money(cost.amount),
        estimated: Money(cost.estimated),
    }
}

fn by(text: &str) -> Result<CostBy, Problem> {
    let known = [CostBy::Team, CostBy::Day, CostBy::Hour, CostBy::Subject];
    let found = known.into_iter().find(|by| name(*by) == text);
    found.ok_or_else(|| Problem::new(400, "`by` is `team`, `day`, `hour` or `subject`"))
}

fn name(by: CostBy) -> &'static str {
    match by {
        CostBy::Team => "team",
        CostBy::Day => "day",
        CostBy::Hour => "hour",
        CostBy::Subject => "subject",
    }
}

fn time(name: &str, text: &str) -> Result<Time, Problem> {
    Time::parse_rfc3339(text).ok_or_else(|| {
        Problem::new(
            400,
            format!("`{name}` is a time with an offset, as in 2026-11-24T10:30:00Z (`+` is written %2B)"),
        )
    })
}

/// An answer is held in memory whole, so its rows are limited.
fn within(since: Time, until: Time, by: CostBy) -> Result<(), Problem> {
    if since >= until {
        return Err(Problem::new(400, "`since` is not before `until`"));
    }
    let days_max = match by {
        CostBy::Hour => 31,
        CostBy::Day => 800,
        CostBy::Team | CostBy::Subject => return Ok(()),
    };
    if until.since(since) > DAY * days_max {
        return Err(Problem::new(
            400,
            format!("by {} there are {days_max} days at once at most; ask for a part", name(by)),
        ));
    }
    Ok(())
}

fn floor(at: Time) -> Time {
    Time::from_secs(at.secs().div_euclid(HOUR_SECS).saturating_mul(HOUR_SECS))
}

fn ceil(at: Time) -> Time {
    let whole = floor(at);
    if whole == at { at } else { whole.plus(Duration::from_secs(HOUR_SECS.unsigned_abs())) }
}
