//! Rules about teams: low balance, unknown balance, a fleet that shrank.
//!
//! It must never take a missing balance for 0.

use super::{Ground, Judgement};
use crate::{
    engine::alert::Verdict,
    model::{Feed, Outcome, Rule, Subject, TeamId, Usd},
};

pub fn balance(
    rule: &Rule,
    below: Usd,
    clear_above: Usd,
    ground: &Ground<'_>,
    each: &mut dyn FnMut(Subject, Judgement),
) {
    // A failed poll keeps the last state, and what an earlier process saw may be long out of date.
    let outcome = ground.snapshot.feeds.get(&Feed::Balance).and_then(|feed| feed.last_outcome);
    let heard = matches!(outcome, Some(Outcome::Complete | Outcome::Partial));
    for (id, team) in &ground.snapshot.teams {
        let judgement = match team.balance {
            _ if !rule.matcher.matches_team(id.as_str(), &team.name) => Verdict::NotMatched.into(),
            Some(balance) if team.unknown_since.is_none() && heard => {
                Judgement { keeps: balance < clear_above, ..Judgement::met_if(balance < below) }
            }
            Some(_) | None => Verdict::Unknown(Feed::Balance).into(),
        };
        each(Subject::Team { id: id.clone() }, judgement);
    }
}

/// A watched team is missing from the answer or its balance cannot be read; so is one that was named and never seen.
pub fn balance_unknown(rule: &Rule, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    for (id, team) in &ground.snapshot.teams {
        let matched = rule.matcher.matches_team(id.as_str(), &team.name);
        each(
            Subject::Team { id: id.clone() },
            Judgement::met_if(team.unknown_since.is_some()).where_(matched),
        );
    }
    let heard = ground.snapshot.feeds.get(&Feed::Balance).is_some_and(|feed| feed.last_usable.is_some());
    for glob in ground.watched.iter().filter(|glob| glob.is_literal()) {
        let text = glob.as_text();
        let seen =
            ground.snapshot.teams.iter().any(|(id, t)| glob.matches(id.as_str()) || glob.matches(&t.name));
        if !seen && rule.matcher.matches_team(&text, &text) {
            let judgement = if heard { Verdict::Met } else { Verdict::Unknown(Feed::Balance) };
            each(Subject::Team { id: TeamId::new(text) }, judgement.into());
        }
    }
}

pub fn fleet_shrunk(rule: &Rule, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    for (id, team) in &ground.snapshot.teams {
        let matched = rule.matcher.matches_team(id.as_str(), &team.name);
        let shrunk = ground.snapshot.shrunk.contains_key(id);
        each(Subject::Team { id: id.clone() }, Judgement::met_if(shrunk).where_(matched));
    }
}
