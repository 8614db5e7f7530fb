//! Oracles of money: how long it lasts, how fast it goes, budgets, and balances that jump.
//!
//! It must never take the watcher's ledger for what was spent: the account's own meters say that.

use std::time::Duration;

use spheron_watch::{
    model::{Feed, Mark, Notice, RuleKind, Status, Subject, TeamId, Time, Transition, Usd},
    sim::{Endpoint, Life},
};

use crate::{
    oracles::{
        AT_ONCE, Asked, ONE_POLL, decided, expect_firing, first_within, marred, replaced_at, tells_status,
        whole_lists,
    },
    run::{DAY, Evidence, HOUR, MINUTE, START},
    truth::{between, spans, value_at},
};

/// The slope of a balance looks back so far, and a deduction tells of the hour before it.
const LOOK_BACK: Duration = Duration::from_secs(5 * 3_600);

fn runways(evidence: &Evidence) -> impl Iterator<Item = (&str, Duration)> {
    evidence.rules.iter().filter_map(|rule| {
        if let RuleKind::Runway { below } = rule.kind { Some((&*rule.name, below)) } else { None }
    })
}

fn burn_above(evidence: &Evidence) -> Usd {
    let of = |kind: &RuleKind| if let RuleKind::BurnRate { above } = kind { Some(*above) } else { None };
    evidence.rules.iter().find_map(|rule| of(&rule.kind)).expect("a rule of this test")
}

fn budget(evidence: &Evidence) -> (Usd, &[u16]) {
    let of = |kind: &'_ RuleKind| matches!(kind, RuleKind::Budget { .. });
    let rule = evidence.rules.iter().find(|rule| of(&rule.kind)).expect("a rule of this test");
    let RuleKind::Budget { amount, at, .. } = &rule.kind else { panic!("not a budget") };
    (*amount, at)
}

fn hours(span: Duration) -> f64 {
    span.as_secs_f64() / 3_600.0
}

fn dollars(usd: Usd) -> f64 {
    usd.to_decimal().parse().unwrap()
}

/// Polls of the balance that told a team's.
fn balances_read<'e>(evidence: &'e Evidence, team: &TeamId) -> Vec<&'e Asked> {
    let shown = |poll: &&Asked| !evidence.truth.hid(team, poll.from, poll.until);
    evidence.honest(Feed::Balance).filter(shown).collect()
}

fn last_before(polls: &[&Asked], at: Time) -> Time {
    polls.iter().rev().find(|poll| poll.until <= at).map_or(Time::EPOCH, |poll| poll.from)
}

/// Since when the watcher may have known no better, what bills and what is left.
fn last_word(evidence: &Evidence, team: &TeamId, at: Time) -> Time {
    let lists = whole_lists(evidence, team);
    // What a list lacks bills until its own GET says otherwise, which may fail for a while.
    let third =
        lists.iter().rev().filter(|list| list.until <= at).nth(2).map_or(Time::EPOCH, |list| list.from);
    third.min(last_before(&balances_read(evidence, team), at)).min(at.minus(MINUTE * 30))
}

fn burns(evidence: &Evidence, team: &TeamId, from: Time, until: Time) -> (f64, f64) {
    let burns = || between(&evidence.truth.burns[team], from, until).map(|(_, usd)| dollars(*usd));
    (burns().fold(f64::MAX, f64::min), burns().fold(0.0, f64::max))
}

/// At some burn that there was lately, the end was within the threshold; or for what is over, beyond it.
pub fn is_true_runway(evidence: &Evidence, notice: &Notice, team: &TeamId, over: bool) -> bool {
    let Some((_, below)) = runways(evidence).find(|(name, _)| *name == &*notice.key.rule) else {
        return false;
    };
    if !evidence.truth.burns.contains_key(team) {
        return false;
    }
    let read = last_before(&balances_read(evidence, team), notice.at);
    let known = last_word(evidence, team, notice.at);
    let (slowest, fastest) = burns(evidence, team, known.min(notice.at.minus(LOOK_BACK)), notice.at);
    let left = || evidence.truth.balances_between(team, read, notice.at).map(dollars);
    if over {
        left().fold(0.0, f64::max) >= hours(below) * slowest * 0.98
    } else {
        // What was used since the last deduction, and since the last balance, is gone already.
        let owed = fastest * (1.1 + hours(notice.at.since(read)));
        left().fold(f64::MAX, f64::min) - owed <= hours(below) * fastest * 1.02
    }
}

pub fn every_short_runway_is_told(evidence: &Evidence) -> Vec<String> {
    let mut expected = Vec::new();
    for team in evidence.truth.balances.keys() {
        let (lists, read) = (whole_lists(evidence, team), balances_read(evidence, team));
        for (rule, below) in runways(evidence) {
            let short = |(left, burn): &(Usd, Usd)| {
                *burn > Usd::ZERO && dollars(*left) <= 0.95 * hours(below) * dollars(*burn)
            };
            for span in spans(&left_and_burn(evidence, team), short) {
                let (list, balance) = (first_within(&lists, &[span]), first_within(&read, &[span]));
                if let ([list], [balance]) = (list.as_slice(), balance.as_slice()) {
                    let by = list.until.max(balance.until).plus(AT_ONCE);
                    if by < span.1 {
                        expected.push((rule, Subject::Team { id: team.clone() }, by));
                    }
                }
            }
        }
    }
    expect_firing(evidence, &expected)
}

/// The balance as shown, and what the lists of deployments show to bill, whenever one of them changed.
fn left_and_burn(evidence: &Evidence, team: &TeamId) -> Vec<(Time, (Usd, Usd))> {
    let (balances, burn) = (&evidence.truth.balances[team], listed_burn(evidence, team));
    let mut times: Vec<Time> =
        balances.iter().map(|(at, _)| *at).chain(burn.iter().map(|(at, _)| *at)).collect();
    times.sort();
    times.dedup();
    let both =
        |at: Time| Some((at, (*value_at(balances, at)?, value_at(&burn, at).copied().unwrap_or_default())));
    times.into_iter().filter_map(both).collect()
}

/// Σ rates of what runs or boots, with its beginning.
fn listed_burn(evidence: &Evidence, team: &TeamId) -> Vec<(Time, Usd)> {
    let lives: Vec<&Life> = evidence.truth.lives.values().filter(|life| life.team == *team).collect();
    let mut times: Vec<Time> = lives
        .iter()
        .flat_map(|life| life.rates.iter().map(|r| r.0).chain(life.statuses.iter().map(|s| s.0)))
        .collect();
    times.sort();
    times.dedup();
    let rate = |life: &&Life, at: Time| {
        let listed =
            value_at(&life.statuses, at).is_some_and(|s| matches!(s, Status::Running | Status::Deploying));
        if listed { value_at(&life.rates, at).copied().unwrap_or_default() } else { Usd::ZERO }
    };
    times.iter().map(|at| (*at, lives.iter().map(|life| rate(life, *at)).sum())).collect()
}

pub fn is_true_burn(evidence: &Evidence, team: &TeamId, at: Time, over: bool) -> bool {
    if !evidence.truth.burns.contains_key(team) {
        return false;
    }
    let (slowest, fastest) = burns(evidence, team, last_word(evidence, team, at), at);
    let above = dollars(burn_above(evidence));
    // A whole list of volumes that lacks some says that they are gone: there is no other way to know of them.
    let lacked = || marred(evidence, &[Endpoint::Volumes], at.minus(MINUTE * 10), at);
    if over { slowest <= above || lacked() } else { fastest > above }
}

pub fn every_high_burn_is_told(evidence: &Evidence) -> Vec<String> {
    let above = burn_above(evidence);
    let mut expected = Vec::new();
    for team in evidence.truth.balances.keys() {
        let high = spans(&listed_burn(evidence, team), |burn| *burn > above);
        for list in first_within(&whole_lists(evidence, team), &high) {
            expected.push(("burn-rate", Subject::Team { id: team.clone() }, list.until.plus(AT_ONCE)));
        }
    }
    expect_firing(evidence, &expected)
}

/// What was really spent between two times.
fn spent(evidence: &Evidence, team: &TeamId, from: Time, until: Time) -> f64 {
    let burns = &evidence.truth.burns[team];
    let ends = burns.iter().skip(1).map(|(at, _)| *at).chain([until]);
    let part = |((begin, burn), end): (&(Time, Usd), Time)| {
        hours(end.min(until).since((*begin).max(from).min(until))) * dollars(*burn)
    };
    burns.iter().zip(ends).map(part).sum()
}

pub fn is_true_budget(evidence: &Evidence, notice: &Notice) -> bool {
    let Subject::Occasion { team, at: day, mark } = &notice.key.subject else { return false };
    if !evidence.truth.burns.contains_key(team) || notice.at < *day || notice.at.since(*day) > DAY {
        return false;
    }
    let (amount, _) = budget(evidence);
    let known = last_word(evidence, team, notice.at);
    let (_, fastest) = burns(evidence, team, known, notice.at);
    // While nobody can look, what ran last counts on.
    let guessed = fastest * hours(notice.at.since(known));
    let spent = spent(evidence, team, *day, notice.at) + guessed;
    let reached = |spent: f64, percent: u16| spent >= dollars(amount) * f64::from(percent) / 100.0 * 0.99;
    match mark {
        Mark::Spent(percent) => reached(spent, *percent),
        Mark::Forecast(percent) => reached(spent + fastest * hours(day.plus(DAY).since(notice.at)), *percent),
        Mark::Balance => false,
    }
}

/// By the first whole inventory of a later hour the ledger knows all that was spent; of several thresholds the highest counts.
pub fn every_spent_budget_is_told(evidence: &Evidence) -> Vec<String> {
    let (amount, thresholds) = budget(evidence);
    let mut wrong = Vec::new();
    let decided = decided(evidence);
    for team in evidence.truth.balances.keys() {
        let whole: Vec<_> = evidence
            .honest(Feed::Inventory)
            .filter(|poll| !evidence.truth.hid(team, poll.from, poll.until))
            .collect();
        for day in 0..evidence.case.days {
            let (from, until) = (START.plus(DAY * day), START.plus(DAY * (day + 1)));
            let Some(poll) = whole.iter().find(|poll| poll.from > from.plus(HOUR * 12) && poll.until < until)
            else {
                continue;
            };
            let sure = spent(evidence, team, from, poll.from.minus(HOUR)) * 0.99;
            let reached =
                thresholds.iter().filter(|p| sure >= dollars(amount) * f64::from(**p) / 100.0).max();
            let Some(percent) = reached else { continue };
            let told = decided.iter().any(|notice| {
                matches!(&notice.key.subject, Subject::Occasion { team: of, at, mark: Mark::Spent(told) }
                    if of == team && *at == from && told >= percent && notice.at <= poll.until.plus(AT_ONCE))
            });
            if !told {
                wrong.push(format!(
                    "{percent} % of the budget of {team} on {from} were not told by {}",
                    poll.until
                ));
            }
        }
    }
    wrong
}

/// It rose, or lost half, since the balance was last read for certain.
pub fn is_true_jump(evidence: &Evidence, notice: &Notice) -> bool {
    let Subject::Occasion { team, .. } = &notice.key.subject else { return false };
    let Some(balances) = evidence.truth.balances.get(team) else { return false };
    let before = last_before(&balances_read(evidence, team), notice.at.minus(ONE_POLL));
    let seen: Vec<Usd> = between(balances, before, notice.at).map(|(_, usd)| *usd).collect();
    let rose = seen.windows(2).any(|pair| pair[1] > pair[0]);
    let lowest = seen.iter().min().copied().unwrap_or_default();
    let fell = seen.first().is_some_and(|first| dollars(lowest) <= dollars(*first) / 2.0);
    notice.transition == Transition::Event && (rose || fell)
}

pub fn every_top_up_is_told(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    let decided = decided(evidence);
    for (team, balances) in &evidence.truth.balances {
        let read = balances_read(evidence, team);
        // Neither may come while the balance changes: which of both was told is nobody's to know.
        let still = |poll: &Asked| {
            let seen: Vec<Usd> = between(balances, poll.from, poll.until).map(|(_, usd)| *usd).collect();
            (seen.len() == 1).then(|| seen[0])
        };
        for pair in read.windows(2) {
            let (Some(before), Some(after)) = (still(pair[0]), still(pair[1])) else { continue };
            let (from, by) = (pair[0].from, pair[1].until.plus(AT_ONCE));
            let told = decided.iter().any(|notice| {
                &*notice.kind == "balance_jump"
                    && matches!(&notice.key.subject, Subject::Occasion { team: of, .. } if of == team)
                    && from < notice.at
                    && notice.at <= by
            });
            if after > before && !told {
                wrong.push(format!("{team} went from {before} to {after} by {by}, and nobody was told"));
            }
        }
    }
    wrong
}

/// Nothing here spends unseen but a deployment whose id was taken by another before anybody could read its last cost.
pub fn is_true_unexplained(evidence: &Evidence, team: &TeamId, at: Time, over: bool) -> bool {
    let lost = |life: &&Life| {
        let ended = life.statuses.iter().find(|(_, status)| status.is_ended()).map(|(ended, _)| *ended);
        ended.is_some_and(|ended| {
            let told = first_within(&tells_status(evidence, life), &[(ended, replaced_at(evidence, life))]);
            told.is_empty() && ended <= at && at.since(ended) <= DAY * 2
        })
    };
    over || evidence.truth.lives.values().filter(|life| life.team == *team).any(|life| lost(&life))
}
