//! Words about money: how long it lasts, how fast it goes, budgets, and what nobody can explain.
//!
//! It must never show a figure without saying what it is of.

use std::{sync::Arc, time::Duration};

use super::{CONSOLE, Telling, Words, team::Of};
use crate::{
    engine::rules::{change_of, percent_of, spend_of},
    model::{Forecast, Mark, Period, Subject, Usd, humanize},
};

fn forecast(telling: &Telling<'_>, of: &Of<'_>) -> Forecast {
    telling.forecasts.get(&of.id).copied().unwrap_or_default()
}

fn details(of: &Of<'_>, forecast: &Forecast) -> Vec<(Arc<str>, String)> {
    let mut details = of.details();
    if let Some(observed) = forecast.observed {
        details.push(("balance falls by".into(), format!("{observed}/h")));
    }
    if let (Some(a), Some(b)) = (forecast.committed_end, forecast.observed_end)
        && a != b
    {
        details.push(("runs out".into(), format!("between {} and {}", a.min(b), a.max(b))));
    } else if let Some(end) = forecast.end() {
        details.push(("runs out".into(), end.to_string()));
    }
    details
}

pub fn runway(telling: &Telling<'_>, below: Duration) -> Words {
    let of = Of::new(telling);
    let forecast = forecast(telling, &of);
    let (name, left) = (&of.name, of.balance().unwrap_or(Usd::ZERO));
    let burn = forecast.observed.unwrap_or(Usd::ZERO).max(forecast.committed);
    let (title, reason) = match forecast.end() {
        Some(end) => {
            let left_for = end.since(telling.now);
            let lasts = humanize(left_for);
            // Less than a hundredth explains nothing.
            let used = match forecast.undebited {
                undebited if undebited.nanos().saturating_mul(100) >= left.nanos() => {
                    format!(", of which {undebited} is used and not debited yet")
                }
                _ => String::new(),
            };
            let short = if left_for <= below { "short runway" } else { "runway" };
            (
                format!("{short}: {name} has {lasts} left"),
                format!(
                    "The balance of {name} was {left} when last read{used}. At {burn}/h it ends at {end}, in {lasts}; the \
                     threshold is {}. At zero the platform ends every instance, disks included.",
                    humanize(below)
                ),
            )
        }
        None => {
            let spent =
                if of.fleet_known { "nothing is being spent" } else { "what is spent is not known yet" };
            (
                format!("runway: {name}"),
                format!("The balance of {name} was {left} when last read, and {spent}."),
            )
        }
    };
    let advice = format!("Add credit at {CONSOLE}, or end what is not needed.");
    Words { title, reason, advice, details: details(&of, &forecast) }
}

pub fn burn_rate(telling: &Telling<'_>, above: Usd) -> Words {
    let of = Of::new(telling);
    let forecast = forecast(telling, &of);
    let (name, burn) = (&of.name, forecast.committed);
    let day = burn.per_hour_for(Duration::from_secs(24 * 3_600));
    Words {
        title: format!("burn rate: {name} spends {burn}/h"),
        reason: format!("{name} spends {burn}/h, {day} a day; the threshold is {above}/h."),
        advice: format!("Look at {CONSOLE} for what runs and is not needed."),
        details: details(&of, &forecast),
    }
}

pub fn unexplained_spend(telling: &Telling<'_>, above: Usd) -> Words {
    let of = Of::new(telling);
    let forecast = forecast(telling, &of);
    let (name, amount) = (&of.name, forecast.unexplained_day.unwrap_or(Usd::ZERO));
    let mut details = details(&of, &forecast);
    details.push(("unexplained in 24 h".into(), amount.to_string()));
    details.push(("unexplained in all".into(), forecast.unexplained_total.to_string()));
    let mut reason = format!(
        "In the last 24 h, {amount} more left the balance of {name} than its deployments and volumes cost; the threshold is \
         {above}."
    );
    if amount >= above {
        reason.push_str(
            " Something spends that the API does not show, or an add-on is billed beside the rates.",
        );
    }
    Words {
        title: format!("unexplained spend: {amount} of {name} in 24 h"),
        reason,
        advice: format!(
            "Compare the billing page at {CONSOLE} with what runs; ask the other members of the team."
        ),
        details,
    }
}

pub fn budget(telling: &Telling<'_>, amount: Usd, period: Period) -> Option<Words> {
    let Subject::Occasion { mark, at, .. } = telling.subject else { return None };
    let of = Of::new(telling);
    let forecast = forecast(telling, &of);
    let spend = spend_of(&forecast, period);
    let (name, rule) = (&of.name, &telling.rule.name);
    let period = match period {
        Period::Day => "today",
        Period::Week => "this week",
        Period::Month => "this month",
    };
    let share = |percent: &u16| percent_of(amount, *percent);
    let (title, reason) = match mark {
        // What waited for its group is told of the period that it is of.
        Mark::Spent(percent) if spend.from != *at => (
            format!("budget: {name} has spent {percent} % of {amount}"),
            format!(
                "In the period that began at {at}, {name} spent at least {percent} % ({}) of its budget {rule} of {amount}.",
                share(percent)
            ),
        ),
        Mark::Forecast(percent) if spend.from != *at || spend.forecast < share(percent) => (
            format!("budget: {name} was to spend {percent} % of {amount}"),
            format!(
                "In the period that began at {at}, {name} was forecast to spend at least {percent} % ({}) of its budget \
                 {rule} of {amount}.",
                share(percent)
            ),
        ),
        Mark::Spent(percent) => (
            format!("budget: {name} has spent {percent} % of {amount}"),
            format!(
                "{name} has spent {} {period}, at least {percent} % ({}) of its budget {rule} of {amount}.",
                spend.spent,
                share(percent)
            ),
        ),
        Mark::Forecast(percent) => (
            format!("budget: {name} will spend {percent} % of {amount}"),
            format!(
                "{name} has spent {} {period}. At {}/h it will be {} by {}: at least {percent} % of its budget {rule} of \
                 {amount}.",
                spend.spent, forecast.committed, spend.forecast, spend.until
            ),
        ),
        Mark::Balance => return None,
    };
    let mut details = details(&of, &forecast);
    details.push(("spent".into(), format!("{} {period}", spend.spent)));
    details.push(("forecast".into(), format!("{} by {}", spend.forecast, spend.until)));
    let advice = format!("End what is not needed at {CONSOLE}, or raise the budget.");
    Some(Words { title, reason, advice, details })
}

pub fn balance_jump(telling: &Telling<'_>) -> Option<Words> {
    let of = Of::new(telling);
    let (before, balance, at) = change_of(of.team?)?;
    let Subject::Occasion { at: then, .. } = telling.subject else { return None };
    let forecast = forecast(telling, &of);
    let name = &of.name;
    let (title, reason, advice) = if at != *then {
        (
            format!("balance jump: {name}"),
            format!(
                "The balance of {name} rose, or fell by half or more, between two polls at {then}. It has changed since, \
                 and is {balance} now."
            ),
            format!("Look at the billing page at {CONSOLE}."),
        )
    } else if balance > before {
        let more = balance.saturating_sub(before);
        (
            format!("balance rose: {name} has {more} more"),
            format!("The balance of {name} rose from {before} to {balance} between two polls, at {at}."),
            "Nothing to do, if somebody added credit.".to_owned(),
        )
    } else {
        let less = before.saturating_sub(balance);
        (
            format!("balance fell: {name} has {less} less"),
            format!("The balance of {name} fell from {before} to {balance} between two polls, at {at}."),
            format!("If nobody knows why, look at the billing page at {CONSOLE} at once."),
        )
    };
    Some(Words { title, reason, advice, details: details(&of, &forecast) })
}
