//! Decides: a pure, synchronous, deterministic state machine over snapshots.
//!
//! It must never do I/O, read a clock, use randomness, floats for money, or anything whose order is not fixed. It imports the
//! model and nothing else of ours, so that live run, simulation and replay drive the same `step`.

mod alert;
mod money;
mod observe;
mod rules;
mod words;

use std::{collections::BTreeMap, sync::Arc};

use alert::Move;
pub use money::Money;
pub use observe::{
    activity::{attend, fold_activity, restart_windows},
    changes, fold, forget_unwatched,
};

use jiff::tz::TimeZone;

use crate::model::{
    AlertKey, AlertState, Decisions, EventId, Forecast, Glob, Held, Notice, Rule, Severity, Snapshot,
    Subject, TeamId, Time, Transition, Wake,
};

/// Rules and what became of them so far. The state is rows keyed by (rule, subject); it is persisted by whoever commits the
/// decisions, and handed back at the next start.
#[derive(Debug, Clone)]
pub struct Engine {
    rules: Vec<Rule>,
    /// Which teams the user wants watched.
    watched: Vec<Glob>,
    money: Money,
    /// Every team's outlook as of the last step.
    forecasts: BTreeMap<TeamId, Forecast>,
    state: BTreeMap<Arc<str>, BTreeMap<Subject, AlertState>>,
}

impl Engine {
    pub fn new(
        rules: Vec<Rule>,
        watched: Vec<Glob>,
        money: Money,
        state: BTreeMap<AlertKey, AlertState>,
    ) -> Self {
        let mut by_rule: BTreeMap<Arc<str>, BTreeMap<Subject, AlertState>> = BTreeMap::new();
        for (key, alert) in state {
            by_rule.entry(key.rule).or_default().insert(key.subject, alert);
        }
        Self { rules, watched, money, forecasts: BTreeMap::new(), state: by_rule }
    }

    /// A reload: new rules over the state that is. Alerts of rules that are gone leave at the next step.
    pub fn replace(&mut self, rules: Vec<Rule>, watched: Vec<Glob>, zone: TimeZone) {
        self.money.set_zone(zone);
        self.rules = rules;
        self.watched = watched;
    }

    pub fn watched(&self) -> &[Glob] {
        &self.watched
    }

    pub fn forecasts(&self) -> &BTreeMap<TeamId, Forecast> {
        &self.forecasts
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Every alert that fires now, with its rule's severity.
    pub fn firing(&self) -> BTreeMap<AlertKey, (AlertState, Severity)> {
        let mut firing = BTreeMap::new();
        for rule in &self.rules {
            for (subject, state) in self.state.get(&rule.name).into_iter().flatten() {
                if state.is_firing() {
                    let key = AlertKey { rule: rule.name.clone(), subject: subject.clone() };
                    firing.insert(key, (state.clone(), rule.severity));
                }
            }
        }
        firing
    }

    /// Decides what to tell now. Stepping again on the same snapshot and time decides nothing new.
    pub fn step(&mut self, snapshot: &Snapshot, now: Time) -> Decisions {
        let booked = self.money.step(snapshot, now);
        self.forecasts = booked.forecasts;
        let mut decisions =
            Decisions { lines: booked.lines, charges: booked.charges, ..Decisions::default() };
        let rules = std::mem::take(&mut self.rules);
        self.drop_rules_that_are_gone(&rules, &mut decisions);
        for rule in &rules {
            self.step_rule(rule, snapshot, now, &mut decisions);
        }
        self.rules = rules;
        decisions
    }

    /// Why every rule and subject that tells nothing now tells nothing; changes nothing.
    pub fn held(&self, snapshot: &Snapshot, now: Time) -> Vec<Held> {
        let mut held = Vec::new();
        let ground = rules::Ground { snapshot, watched: &self.watched, forecasts: &self.forecasts, now };
        for rule in &self.rules {
            let states = self.state.get(&rule.name);
            rules::judge(rule, &ground, &mut |subject, judgement| {
                let step = judged(rule, states.and_then(|states| states.get(&subject)), judgement, now);
                held.extend(step.held.map(|reason| Held { rule: rule.name.clone(), subject, reason }));
            });
        }
        held
    }

    fn step_rule(&mut self, rule: &Rule, snapshot: &Snapshot, now: Time, decisions: &mut Decisions) {
        let states = self.state.entry(rule.name.clone()).or_default();
        let ground = rules::Ground { snapshot, watched: &self.watched, forecasts: &self.forecasts, now };
        let mut moves = Vec::new();
        let mut met_again = 0_usize;
        rules::judge(rule, &ground, &mut |subject, judgement| {
            let state = states.get(&subject);
            met_again += usize::from(state.is_some());
            wake_at(decisions, judgement.looks_again(), now, "a threshold in time");
            let step = judged(rule, state, judgement, now);
            wake_at(decisions, step.wake, now, "an alert's own time");
            if step.next != Move::Stay || step.tell.is_some() {
                moves.push((subject, step));
            }
        });
        // A subject that nobody judges any more is gone: what fired for it has ceased, what it was told is forgotten.
        if met_again < states.len() {
            let mut gone: BTreeMap<&Subject, &AlertState> = states.iter().collect();
            rules::judge(rule, &ground, &mut |subject, _| {
                gone.remove(&subject);
            });
            moves.extend(gone.into_iter().map(|(subject, state)| (subject.clone(), alert::retire(state))));
        }
        for (subject, step) in moves {
            let key = AlertKey { rule: rule.name.clone(), subject: subject.clone() };
            match step.next {
                Move::Stay => {}
                Move::To(state) => {
                    states.insert(subject.clone(), state.clone());
                    decisions.alerts.push((key, Some(state)));
                }
                Move::Forget => {
                    states.remove(&subject);
                    decisions.alerts.push((key, None));
                }
            }
            if let Some(tell) = step.tell {
                decisions.notices.extend(notice(rule, subject, &tell, &ground));
            }
        }
    }

    fn drop_rules_that_are_gone(&mut self, rules: &[Rule], decisions: &mut Decisions) {
        let gone: Vec<Arc<str>> =
            self.state.keys().filter(|name| !rules.iter().any(|rule| rule.name == **name)).cloned().collect();
        for name in gone {
            for subject in self.state.remove(&name).unwrap_or_default().into_keys() {
                decisions.alerts.push((AlertKey { rule: name.clone(), subject }, None));
            }
        }
    }
}

fn judged(rule: &Rule, state: Option<&AlertState>, judgement: rules::Judgement, now: Time) -> alert::Step {
    let firing = state.is_some_and(AlertState::is_firing);
    alert::advance(rule, state, judgement.verdict(firing), now)
}

fn wake_at(decisions: &mut Decisions, at: Option<Time>, now: Time, why: &'static str) {
    if let Some(at) = at
        && at > now
        && decisions.wake.as_ref().is_none_or(|wake| at < wake.at)
    {
        decisions.wake = Some(Wake { at, why });
    }
}

/// `None` when nobody who is routed wants to hear of this transition.
fn notice(rule: &Rule, subject: Subject, tell: &alert::Tell, ground: &rules::Ground<'_>) -> Option<Notice> {
    let rules::Ground { snapshot, forecasts, now, .. } = *ground;
    let wanted = |send_resolved: bool| send_resolved || tell.transition != Transition::Resolved;
    let receivers: Vec<Arc<str>> = rule
        .receivers
        .iter()
        .filter(|route| wanted(route.send_resolved))
        .map(|r| r.receiver.clone())
        .collect();
    if receivers.is_empty() {
        return None;
    }
    let telling = words::Telling { rule, subject: &subject, snapshot, forecasts, now };
    let words = words::compose(&telling, tell.transition, tell.since);
    let key = AlertKey { rule: rule.name.clone(), subject };
    Some(Notice {
        id: EventId::derive(&key, tell.since, tell.transition, tell.nth),
        key,
        kind: rule.kind.as_str().into(),
        transition: tell.transition,
        severity: rule.severity,
        title: words.title,
        reason: words.reason,
        advice: words.advice,
        details: words.details,
        since: tell.since,
        at: now,
        receivers,
    })
}

#[cfg(test)]
mod tests;
