//! Rules about money: how long it lasts, how fast it goes, what of a budget is spent, and what nobody can explain.
//!
//! It must never take an unknown burn for none, nor tell one threshold of one period twice.

use std::{collections::BTreeMap, time::Duration};

use super::{Ground, Judgement, deployment::unread};
use crate::{
    engine::alert::Verdict,
    model::{
        BudgetView, Feed, Forecast, Mark, Period, Rule, RuleKind, Snapshot, Spend, Subject, TeamId, Time,
        TrackedTeam, Usd,
    },
};

/// A change that lies this far before our first look at it is the past, not news.
const NEWS_FOR: Duration = Duration::from_secs(24 * 3_600);

/// Depletion within `below`, at the faster of committed and observed burn. While the balance cannot be read, time still
/// passes: the end stays where the last balance puts it (FAULTS 9).
pub fn runway(rule: &Rule, below: Duration, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    for_each(rule, ground, each, &|team, forecast| {
        if team.balance.is_none() || team.unknown_since.is_some() {
            return Verdict::Unknown(Feed::Balance).into();
        }
        let Some(kept_end) = forecast.end() else {
            return unseen(team, ground)
                .map_or_else(|| Judgement::met_if(false), |feed| Verdict::Unknown(feed).into());
        };
        // A tenth beyond the threshold ends it: a runway that stands at the threshold must not flap.
        let keeps = kept_end.since(ground.now) <= below.saturating_add(below / 10);
        let met = forecast.certain_end.is_some_and(|end| end.since(ground.now) <= below);
        let judgement = Judgement { keeps, ..Judgement::met_if(met) };
        judgement.at(kept_end.minus(below).max(ground.now))
    });
}

pub fn burn_rate(rule: &Rule, above: Usd, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    for_each(rule, ground, each, &|team, forecast| match unseen(team, ground) {
        Some(feed) => Verdict::Unknown(feed).into(),
        None => {
            Judgement { keeps: forecast.committed >= above, ..Judgement::met_if(forecast.certain > above) }
        }
    });
}

pub fn unexplained_spend(
    rule: &Rule,
    above: Usd,
    ground: &Ground<'_>,
    each: &mut dyn FnMut(Subject, Judgement),
) {
    for_each(rule, ground, each, &|_, forecast| match forecast.unexplained_day {
        Some(amount) => Judgement { keeps: amount >= above, ..Judgement::met_if(amount > above) },
        None => Verdict::Unknown(Feed::Balance).into(),
    });
}

/// Each threshold once per period, first as it is forecast, then as it is spent; of several crossed at once the highest.
pub fn budget(
    rule: &Rule,
    (amount, period, at): (Usd, Period, &[u16]),
    ground: &Ground<'_>,
    each: &mut dyn FnMut(Subject, Judgement),
) {
    for (id, team) in &ground.snapshot.teams {
        if !rule.matcher.matches_team(id.as_str(), &team.name) {
            continue;
        }
        let spend = ground.forecasts.get(id).map(|forecast| spend_of(forecast, period)).unwrap_or_default();
        let crossed = |spent: Usd, percent: u16| spent >= percent_of(amount, percent);
        let highest = |spent: Usd| at.iter().copied().filter(|p| crossed(spent, *p)).max();
        let (spent, forecast) = (highest(spend.spent), highest(spend.forecast));
        for percent in at.iter().copied() {
            let occasion = |mark| Subject::Occasion { team: id.clone(), at: spend.from, mark };
            each(occasion(Mark::Spent(percent)), threshold(percent, spent, spend.from));
            // What is spent need not be forecast any more.
            let forecast = forecast.filter(|highest| spent.is_none_or(|spent| spent < *highest));
            let judgement = match forecast {
                None if spent.is_some_and(|spent| percent <= spent) => Verdict::Past.into(),
                _ => threshold(percent, forecast, spend.from),
            };
            each(occasion(Mark::Forecast(percent)), judgement);
        }
    }
}

/// Where a budget stands, team by team; nothing of another kind of rule.
pub fn budgets(rule: &Rule, snapshot: &Snapshot, forecasts: &BTreeMap<TeamId, Forecast>) -> Vec<BudgetView> {
    let RuleKind::Budget { amount, period, .. } = &rule.kind else { return Vec::new() };
    let of = |(id, forecast): (&TeamId, &Forecast)| {
        let team =
            snapshot.teams.get(id).filter(|team| rule.matcher.matches_team(id.as_str(), &team.name))?;
        let spent = spend_of(forecast, *period).spent;
        Some(BudgetView { rule: rule.name.clone(), team: team.id.clone(), limit: *amount, spent })
    };
    forecasts.iter().filter_map(of).collect()
}

/// Told once per period: the occasion is named for its beginning.
fn threshold(percent: u16, highest: Option<u16>, from: Time) -> Judgement {
    match highest {
        Some(highest) if percent == highest => Verdict::Event(from).into(),
        Some(highest) if percent < highest => Verdict::Past.into(),
        Some(_) | None => Verdict::NotMet.into(),
    }
}

pub fn spend_of(forecast: &Forecast, period: Period) -> Spend {
    match period {
        Period::Day => forecast.day,
        Period::Week => forecast.week,
        Period::Month => forecast.month,
    }
}

pub fn percent_of(amount: Usd, percent: u16) -> Usd {
    let nanos = i128::from(amount.nanos()) * i128::from(percent) / 100;
    Usd::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

/// It fell by half or more, or rose, between two polls.
pub fn balance_jump(rule: &Rule, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    for (id, team) in &ground.snapshot.teams {
        let (Some((before, at)), Some(balance)) = (team.previous, team.balance) else { continue };
        if !rule.matcher.matches_team(id.as_str(), &team.name) {
            continue;
        }
        let jumped = balance > before || (before > Usd::ZERO && balance <= percent_of(before, 50));
        let verdict = match (jumped, ground.now.since(at) <= NEWS_FOR) {
            (true, true) => Verdict::Event(at),
            (true, false) => Verdict::Past,
            (false, _) => Verdict::NotMet,
        };
        each(Subject::Occasion { team: id.clone(), at, mark: Mark::Balance }, verdict.into());
    }
}

fn for_each(
    rule: &Rule,
    ground: &Ground<'_>,
    each: &mut dyn FnMut(Subject, Judgement),
    judge: &dyn Fn(&TrackedTeam, &Forecast) -> Judgement,
) {
    for (id, team) in &ground.snapshot.teams {
        if rule.matcher.matches_team(id.as_str(), &team.name) {
            let forecast = ground.forecasts.get(id).copied().unwrap_or_default();
            each(team_subject(id), judge(team, &forecast));
        } else {
            each(team_subject(id), Verdict::NotMatched.into());
        }
    }
}

fn team_subject(id: &TeamId) -> Subject {
    Subject::Team { id: id.clone() }
}

/// The feed that would have to speak before what bills now is known.
fn unseen(team: &TrackedTeam, ground: &Ground<'_>) -> Option<Feed> {
    (unread(&team.id, ground) || team.denied.is_some()).then_some(Feed::Deployments)
}

/// When a balance changed, for words.
pub fn change_of(team: &TrackedTeam) -> Option<(Usd, Usd, Time)> {
    let (before, at) = team.previous?;
    Some((before, team.balance?, at))
}

#[cfg(test)]
mod tests;
