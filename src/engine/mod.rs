//! Decides: a pure, synchronous, deterministic state machine over snapshots.
//!
//! It must never do I/O, read a clock, use randomness, floats for money, or anything whose order is not fixed. It imports the
//! model and nothing else of ours, so that live run, simulation and replay drive the same `step`.

mod alert;
mod evidence;
mod group;
mod hush;
mod label;
mod money;
mod observe;
mod reaper;
mod rules;
pub mod standing;
mod tell;
mod words;

use std::{collections::BTreeMap, sync::Arc};

use alert::{Case, Move};
use evidence::Polls;
use group::Groups;
use hush::Hush;
pub use money::Money;
pub use observe::{
    activity::{attend, fold_activity, restart_windows},
    changes, fold, forget_unwatched,
};
use reaper::Reaper;

use jiff::tz::TimeZone;

use tell::{Teller, Urgent};

use crate::model::{
    Action, AlertKey, AlertState, ArmError, Arming, BudgetView, Decisions, Ends, Entry, Feed, Forecast, Glob,
    Group, GroupKey, Grouping, Held, HeldReason, Policies, PolicyVerdict, Preview, Rule, RuleKind, Severity,
    Snapshot, Subject, TeamId, Time, Transition, Wake,
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
    groups: Groups,
    polls: Polls,
    reaper: Reaper,
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
        Self {
            rules,
            watched,
            money,
            forecasts: BTreeMap::new(),
            state: by_rule,
            groups: Groups::default(),
            polls: Polls::default(),
            reaper: Reaper::default(),
        }
    }

    /// A restart: what waited to be told, and when each feed was last usable before.
    #[must_use]
    pub fn resume(mut self, groups: BTreeMap<GroupKey, Group>, polls: BTreeMap<Feed, Time>) -> Self {
        self.groups = Groups::new(groups);
        self.polls = Polls::new(polls);
        self
    }

    /// What may be ended, and every action that still [matters](Action::matters).
    #[must_use]
    pub fn with_policies(mut self, policies: Policies, actions: Vec<Action>) -> Self {
        self.reaper = Reaper::new(policies, actions);
        self
    }

    /// A reload: other policies over the actions that are.
    pub fn replace_policies(&mut self, policies: Policies) {
        self.reaper.replace(policies);
    }

    pub fn policies(&self) -> &Policies {
        self.reaper.policies()
    }

    /// Of a policy as it is configured; `None`: there is none of this name.
    pub fn fingerprint(&self, policy: &str) -> Option<&Arc<str>> {
        self.reaper.fingerprint(policy)
    }

    /// Open, withheld and lately closed actions.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.reaper.actions()
    }

    /// By policy: how many deployments it ended, and what they would have cost since.
    pub fn ended(&self, now: Time) -> BTreeMap<Arc<str>, Ends> {
        self.reaper.ended(now)
    }

    /// Where each policy stands with each deployment that is there; changes nothing.
    pub fn policy_verdicts(&self, snapshot: &Snapshot, now: Time) -> Vec<PolicyVerdict> {
        self.reaper.verdicts(snapshot, &self.forecasts, now)
    }

    /// What a policy would end as things are, with the code that confirms it. `None`: there is no such policy.
    pub fn preview(&self, policy: &str, snapshot: &Snapshot, now: Time) -> Option<Preview> {
        self.reaper.preview(policy, snapshot, &self.forecasts, now)
    }

    /// The arming that a person may have who confirms this code; it holds from the step on that finds it in the snapshot.
    pub fn arm(
        &self,
        policy: &str,
        code: &str,
        by: Arc<str>,
        snapshot: &Snapshot,
        now: Time,
    ) -> Result<Arming, ArmError> {
        self.reaper.arm((policy, code, by), snapshot, &self.forecasts, now)
    }

    /// `[notify] group_…`; what waits already goes out when it was to.
    pub fn regroup(&mut self, grouping: Grouping) {
        self.groups.regroup(grouping);
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
        self.alerts(AlertState::is_firing)
    }

    /// Every alert that may fire soon, or did lately.
    pub fn latent(&self) -> BTreeMap<AlertKey, (AlertState, Severity)> {
        self.alerts(AlertState::is_latent)
    }

    fn alerts(&self, wanted: impl Fn(&AlertState) -> bool) -> BTreeMap<AlertKey, (AlertState, Severity)> {
        let mut alerts = BTreeMap::new();
        for rule in &self.rules {
            for (subject, state) in self.state.get(&rule.name).into_iter().flatten() {
                if wanted(state) {
                    let key = AlertKey { rule: rule.name.clone(), subject: subject.clone() };
                    alerts.insert(key, (state.clone(), rule.severity));
                }
            }
        }
        alerts
    }

    /// Where every budget stands.
    pub fn budgets(&self, snapshot: &Snapshot) -> Vec<BudgetView> {
        self.rules.iter().flat_map(|rule| rules::budgets(rule, snapshot, &self.forecasts)).collect()
    }

    /// Every event that was told, or silenced, so lately that others still show it.
    pub fn events(&self, now: Time) -> BTreeMap<AlertKey, (Time, Severity)> {
        let mut events = BTreeMap::new();
        for rule in &self.rules {
            for (subject, state) in self.state.get(&rule.name).into_iter().flatten() {
                if let AlertState::Told { at } = state
                    && now.since(*at) < standing::EVENT_STANDS
                    && *at <= now
                {
                    let key = AlertKey { rule: rule.name.clone(), subject: subject.clone() };
                    events.insert(key, (*at, rule.severity));
                }
            }
        }
        events
    }

    /// Decides what to tell now. Stepping again on the same snapshot and time decides nothing new.
    pub fn step(&mut self, snapshot: &Snapshot, now: Time) -> Decisions {
        self.run(snapshot, now, None)
    }

    /// Why every rule and subject that tells nothing now tells nothing; changes nothing.
    pub fn held(&self, snapshot: &Snapshot, now: Time) -> Vec<Held> {
        let mut held = Vec::new();
        drop(self.clone().run(snapshot, now, Some(&mut held)));
        held
    }

    fn run(&mut self, snapshot: &Snapshot, now: Time, held: Option<&mut Vec<Held>>) -> Decisions {
        let booked = self.money.step(snapshot, now);
        let mut decisions = Decisions {
            lines: booked.lines,
            charges: booked.charges,
            purses: booked.purses,
            ..Decisions::default()
        };
        self.polls.look(snapshot);
        let rules = std::mem::take(&mut self.rules);
        self.drop_rules_that_are_gone(&rules, &mut decisions);
        let watched = std::mem::take(&mut self.watched);
        // Before the rules: one of them tells what became of it.
        self.reaper.alerted(rules.iter().any(|rule| rule.kind == RuleKind::NotConfirmed));
        let reaped = self.reaper.step(snapshot, &booked.forecasts, now);
        let to_confirm = self.reaper.to_confirm();
        let ground = rules::Ground {
            snapshot,
            watched: &watched,
            forecasts: &booked.forecasts,
            actions: &to_confirm,
            now,
        };
        let mut turn =
            Turn { ground: &ground, hush: Hush::new(snapshot, now), urgent: Vec::new(), held, decisions };
        for stray in self.groups.strays(&rules) {
            if let Some(rule) = rules.iter().find(|rule| rule.name == stray.key.rule) {
                self.route(rule, Entry { at: now, ..stray }, &mut turn);
            }
        }
        // What inhibits is judged first: what it holds back depends on what holds now.
        let (first, then): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| hush::inhibits(rule));
        for rule in first {
            self.step_rule(rule, &mut turn);
        }
        turn.hush.inhibit(&rules, &self.state);
        for rule in then {
            self.step_rule(rule, &mut turn);
        }
        self.flush(&rules, &mut turn);
        let mut decisions = turn.decisions;
        decisions.notices.extend(reaped.notices);
        (decisions.actions, decisions.shifts, decisions.acts) = (reaped.actions, reaped.shifts, reaped.acts);
        if let Some((at, why)) = reaped.wake {
            wake_at(&mut decisions, Some(at), now, why);
        }
        self.forecasts = booked.forecasts;
        self.watched = watched;
        self.rules = rules;
        decisions
    }

    fn step_rule(&mut self, rule: &Rule, turn: &mut Turn<'_>) {
        let rules::Ground { snapshot, now, .. } = *turn.ground;
        let states = self.state.entry(rule.name.clone()).or_default();
        let evidence = self.polls.of(&rule.kind, snapshot, now);
        let mut moves = Vec::new();
        let mut met_again = 0_usize;
        rules::judge(rule, turn.ground, &mut |subject, judgement| {
            let state = states.get(&subject);
            met_again += usize::from(state.is_some());
            let firing = state.is_some_and(AlertState::is_firing);
            let hush = |transition: Transition| {
                turn.hush.reason(rule, &subject, transition, (snapshot, &self.polls, now))
            };
            let case = Case { rule, now, evidence, hush: &hush, news: judgement.news() };
            let step = alert::advance(&case, state, judgement.verdict(firing));
            wake_at(&mut turn.decisions, judgement.looks_again(), now, "a threshold in time");
            wake_at(&mut turn.decisions, step.wake, now, "an alert's own time");
            if step.next != Move::Stay || step.tell.is_some() || turn.held.is_some() {
                moves.push((subject, step));
            }
        });
        // A subject that nobody judges any more is gone: what fired for it has ceased, what it was told is forgotten.
        if met_again < states.len() {
            let mut gone: BTreeMap<&Subject, &AlertState> = states.iter().collect();
            rules::judge(rule, turn.ground, &mut |subject, _| {
                gone.remove(&subject);
            });
            moves.extend(gone.into_iter().map(|(subject, state)| (subject.clone(), alert::retire(state))));
        }
        let told = turn.enter(rule, states, moves);
        for entry in told {
            self.route(rule, entry, turn);
        }
    }

    fn route(&mut self, rule: &Rule, entry: Entry, turn: &mut Turn<'_>) {
        let at_once = self.groups.route(rule, &entry, turn.ground.snapshot);
        if !at_once.is_empty() {
            turn.urgent.push((entry, at_once));
        }
    }

    /// What is due goes out; what a silence or an inhibition overtook in its group stays there.
    fn flush(&mut self, rules: &[Rule], turn: &mut Turn<'_>) {
        let rules::Ground { snapshot, now, .. } = *turn.ground;
        let (hush, polls) = (&turn.hush, &self.polls);
        let mut held = Vec::new();
        let flushed = self.groups.flush(now, &mut |entry| {
            let rule = rules.iter().find(|rule| rule.name == entry.key.rule)?;
            let reason = hush.reason(rule, &entry.key.subject, entry.transition, (snapshot, polls, now))?;
            held.push((entry.key.clone(), reason.clone()));
            Some(reason)
        });
        for (key, reason) in held {
            turn.hold(&key, reason);
        }
        turn.decisions.notices = Teller { rules, ground: turn.ground }.notices(&turn.urgent, &flushed);
        turn.decisions.groups = self.groups.changes(now);
        wake_at(&mut turn.decisions, self.groups.next(now), now, "a group's flush");
        wake_at(&mut turn.decisions, turn.hush.ends(), now, "the end of a silence");
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

/// One step under way.
struct Turn<'a> {
    ground: &'a rules::Ground<'a>,
    hush: Hush,
    urgent: Urgent,
    /// Why nothing is told; filled only when somebody asks.
    held: Option<&'a mut Vec<Held>>,
    decisions: Decisions,
}

impl Turn<'_> {
    fn hold(&mut self, key: &AlertKey, reason: HeldReason) {
        if let Some(held) = &mut self.held {
            held.push(Held { rule: key.rule.clone(), subject: key.subject.clone(), reason });
        }
    }

    /// Enters what became of each alert; gives what is to be told.
    fn enter(
        &mut self,
        rule: &Rule,
        states: &mut BTreeMap<Subject, AlertState>,
        moves: Vec<(Subject, alert::Step)>,
    ) -> Vec<Entry> {
        let now = self.ground.now;
        let mut told = Vec::new();
        for (subject, step) in moves {
            let key = AlertKey { rule: rule.name.clone(), subject };
            match step.next {
                Move::Stay => {}
                Move::To(state) => {
                    states.insert(key.subject.clone(), state.clone());
                    self.decisions.alerts.push((key.clone(), Some(state)));
                }
                Move::Forget => {
                    states.remove(&key.subject);
                    self.decisions.alerts.push((key.clone(), None));
                }
            }
            if let Some(reason) = step.held {
                self.hold(&key, reason);
            }
            if let Some(alert::Tell { transition, nth, since, flapping }) = step.tell {
                told.push(Entry { key, transition, since, nth, at: now, due: now, flapping });
            }
        }
        told
    }
}

fn wake_at(decisions: &mut Decisions, at: Option<Time>, now: Time, why: &'static str) {
    if let Some(at) = at
        && at > now
        && decisions.wake.as_ref().is_none_or(|wake| at < wake.at)
    {
        decisions.wake = Some(Wake { at, why });
    }
}

#[cfg(test)]
mod tests;
