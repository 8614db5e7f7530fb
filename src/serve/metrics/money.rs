//! Money on the page: balances, how long they last, how fast they go, and what was spent.
//!
//! It must never show a figure that is not known: a missing sample says so.

use std::collections::BTreeMap;

use super::{Page, seconds};
use crate::model::{Forecast, TeamId, Tracked, TrackedVolume, Usd, View};

fn each(view: &View) -> impl Iterator<Item = (&TeamId, Forecast)> {
    view.snapshot.teams.keys().filter_map(|team| view.forecasts.get(team).map(|forecast| (team, *forecast)))
}

pub fn balances(page: &mut Page, view: &View) {
    let mut family = page.gauge(
        "spheron_balance_depletion_timestamp_seconds",
        "When the balance ends, in seconds since 1970, at the faster of committed and observed burn; no sample while neither is known.",
    );
    for (team, forecast) in each(view) {
        // Before anybody has read what runs, volumes alone would make it look far away.
        if let Some(end) = forecast.end().filter(|_| view.snapshot.fleet_known()) {
            family.sample(&[("team_id", team.as_str())], seconds(end));
        }
    }
    let mut family = page.counter(
        "spheron_balance_topups_usd_total",
        "US dollars that came onto the balance, from its rises in GET /api/balance, since the beginning of the record.",
    );
    for (team, forecast) in each(view) {
        family.sample(&[("team_id", team.as_str())], forecast.topups_total.to_f64());
    }
    let mut family = page.counter(
        "spheron_balance_unexplained_usd_total",
        "US dollars that left the balance of GET /api/balance and that no deployment or volume explains, since the beginning of the record.",
    );
    for (team, forecast) in each(view) {
        family.sample(&[("team_id", team.as_str())], forecast.unexplained_total.to_f64());
    }
    let mut family = page.gauge(
        "spheron_balance_usd",
        "Prepaid balance in US dollars, from GET /api/balance; no sample while it is unknown.",
    );
    for team in view.snapshot.teams.values().filter(|team| team.unknown_since.is_none()) {
        if let Some(balance) = team.balance {
            family.sample(&[("team_id", team.id.as_str())], balance.to_f64());
        }
    }
    budgets(page, view);
}

fn budgets(page: &mut Page, view: &View) {
    let labels = |budget: &crate::model::BudgetView| [budget.rule.to_string(), budget.team.to_string()];
    let mut family = page.gauge(
        "spheron_budget_limit_usd",
        "The amount of a budget rule, in US dollars per period, from the configuration.",
    );
    for budget in &view.budgets {
        let [rule, team] = labels(budget);
        family.sample(&[("budget", &rule), ("team_id", &team)], budget.limit.to_f64());
    }
    let mut family = page.gauge(
        "spheron_budget_spent_ratio",
        "What of a budget is spent in its present period, from the record of costs: a ratio, 1 is all of it.",
    );
    for budget in view.budgets.iter().filter(|budget| budget.limit > Usd::ZERO) {
        let [rule, team] = labels(budget);
        let ratio = budget.spent.to_f64() / budget.limit.to_f64();
        family.sample(&[("budget", &rule), ("team_id", &team)], ratio);
    }
}

/// In one pass over the fleet; [`crate::model::Snapshot::burn_per_hour`] says the same of one team, but walks all of it for each.
pub fn burn_rates(page: &mut Page, view: &View, deployments: &[&Tracked], volumes: &[&TrackedVolume]) {
    let snapshot = &view.snapshot;
    let mut rates: BTreeMap<&str, Usd> = snapshot.teams.keys().map(|id| (id.as_str(), Usd::ZERO)).collect();
    let live = deployments.iter().filter(|tracked| tracked.is_live());
    let of_deployments = live.map(|t| (t.deployment.team.as_str(), t.deployment.hourly_rate));
    let of_volumes = volumes.iter().map(|t| (t.volume.team.as_str(), t.volume.hourly_rate));
    for (team, rate) in of_deployments.chain(of_volumes) {
        let sum = rates.entry(team).or_default();
        *sum = sum.saturating_add(rate);
    }
    let mut family = page.gauge(
        "spheron_burn_rate_usd_per_hour",
        "US dollars per hour; committed: the sum of the hourly rates of all deployments and volumes that bill now; observed: how \
         fast the balance falls between top-ups, no sample while that is not known.",
    );
    for (team, rate) in rates.into_iter().filter(|_| snapshot.fleet_known()) {
        family.sample(&[("team_id", team), ("kind", "committed")], rate.to_f64());
    }
    for (team, forecast) in each(view) {
        if let Some(observed) = forecast.observed {
            family.sample(&[("team_id", team.as_str()), ("kind", "observed")], observed.to_f64());
        }
    }
}

pub fn costs(page: &mut Page, view: &View) {
    let mut family = page.counter(
        "spheron_cost_usd_total",
        "What deployments and volumes cost, in US dollars, since the beginning of the record: rate by time, corrected by totalCost. \
         It falls where totalCost does, so delta() tells what was spent, and increase() does not.",
    );
    for (team, forecast) in each(view) {
        let team = team.as_str();
        family.sample(&[("team_id", team), ("kind", "deployment")], forecast.deployments_total.to_f64());
        family.sample(&[("team_id", team), ("kind", "volume")], forecast.volumes_total.to_f64());
    }
}
