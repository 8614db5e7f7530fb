//! Words about teams: money, and fleets that shrank.
//!
//! It must never show an unknown balance as 0.

use std::sync::Arc;

use super::{CONSOLE, Telling, Words};
use crate::model::{DeploymentId, Subject, TeamId, TrackedTeam, Usd, humanize};

/// A team, its name as far as it is known, and what it spends.
pub(super) struct Of<'a> {
    pub id: TeamId,
    pub name: String,
    pub team: Option<&'a Arc<TrackedTeam>>,
    burn: Usd,
    pub fleet_known: bool,
}

impl<'a> Of<'a> {
    pub fn new(telling: &Telling<'a>) -> Self {
        let id = match telling.subject {
            Subject::Team { id } | Subject::Occasion { team: id, .. } => id.clone(),
            Subject::Account | Subject::Deployment { .. } | Subject::Volume { .. } => TeamId::new(""),
        };
        let team = telling.snapshot.teams.get(&id);
        let name = team.map_or(id.as_str(), |team| &team.name).to_owned();
        let burn = telling.snapshot.burn_per_hour(&id);
        Self { id, name, team, burn, fleet_known: telling.snapshot.fleet_known() }
    }

    pub fn balance(&self) -> Option<Usd> {
        self.team.and_then(|team| team.balance)
    }

    pub fn details(&self) -> Vec<(Arc<str>, String)> {
        let mut details: Vec<(Arc<str>, String)> =
            vec![("team".into(), format!("{} ({})", self.name, self.id))];
        if let Some(balance) = self.balance() {
            details.push(("balance".into(), balance.to_string()));
        }
        let spending = if self.fleet_known { format!("{}/h", self.burn) } else { "not known yet".to_owned() };
        details.push(("spending".into(), spending));
        details
    }
}

pub fn low_balance(telling: &Telling<'_>, below: Usd) -> Words {
    let of = Of::new(telling);
    let (name, burn, left) = (&of.name, of.burn, of.balance().unwrap_or(Usd::ZERO));
    let mut details = of.details();
    let mut reason = format!("The balance of {name} is {left}; the threshold is {below}.");
    if let Some(length) = left.lasts_at(burn) {
        let end = telling.now.plus(length);
        reason.push_str(&format!(
            " At {burn}/h it lasts {}, until {end}. At zero the platform ends every instance, disks included.",
            humanize(length)
        ));
        details.push(("runs out".into(), format!("{end} (in {})", humanize(length))));
    }
    let advice = format!("Add credit at {CONSOLE}, or end what is not needed.");
    let title = if left < below {
        format!("low balance: {name} has {left} left")
    } else {
        format!("balance: {name} has {left}")
    };
    Words { title, reason, advice, details }
}

pub fn balance_unknown(telling: &Telling<'_>) -> Words {
    let of = Of::new(telling);
    let (name, burn) = (&of.name, &of.burn);
    let last = match of.team.and_then(|team| Some((team.balance?, team.balance_at?))) {
        Some((balance, at)) if *burn > Usd::ZERO => {
            format!("It was {balance} at {at}, with {burn}/h being spent.")
        }
        Some((balance, at)) => format!("It was {balance} at {at}."),
        None => "It was never known.".to_owned(),
    };
    let now = match of.team {
        Some(team) if team.unknown_since.is_none() => "known again",
        Some(_) | None => "missing from the API's answer, or not readable there",
    };
    Words {
        title: format!("balance unknown: {name}"),
        reason: format!("The balance of {name} is {now}. {last}"),
        advice: format!(
            "Check the team and your role in it at {CONSOLE}; a name in `[account] teams` may be misspelt."
        ),
        details: of.details(),
    }
}

pub fn fleet_shrunk(telling: &Telling<'_>) -> Words {
    let of = Of::new(telling);
    let (name, snapshot) = (&of.name, telling.snapshot);
    let reason = match snapshot.shrunk.get(&of.id) {
        Some(shrunk) => {
            let ended =
                |id: &&DeploymentId| snapshot.deployments.get(*id).is_some_and(|tracked| !tracked.is_live());
            let ended = shrunk.vanished.iter().filter(ended).count();
            format!(
                "{} of {} running deployments of {name} vanished from the list between two polls at {}; {ended} of them \
                 are confirmed ended so far.",
                shrunk.vanished.len(),
                shrunk.running_before,
                shrunk.at
            )
        }
        None => "Every deployment that vanished is listed again or confirmed ended.".to_owned(),
    };
    let advice =
        format!("If nobody ended them, look at {CONSOLE}: an empty list may also be the API's mistake.");
    Words { title: format!("fleet shrunk: {name}"), reason, advice, details: of.details() }
}
