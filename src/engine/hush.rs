//! What people must not hear of now: silences, and alerts that rest on what a blind watcher does not see.
//!
//! It must never hold back the end of what people heard of, nor a new critical alert that is not silenced by a person.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    alert::Evidence,
    evidence::{Polls, feed_of},
    label,
};
use crate::model::{
    AlertState, Glob, HeldReason, Label, Rule, RuleKind, Severity, Snapshot, Subject, Time, Transition,
};

#[derive(Debug, Default)]
pub struct Hush {
    silences: Vec<Quiet>,
    blind: Option<Arc<str>>,
    key_rejected: Option<Arc<str>>,
}

/// An active silence.
#[derive(Debug)]
struct Quiet {
    id: Arc<str>,
    until: Time,
    matchers: Vec<(Label, Glob)>,
}

/// Whether a rule's alert inhibits others: such rules are judged first.
pub fn inhibits(rule: &Rule) -> bool {
    matches!(rule.kind, RuleKind::Blind { .. } | RuleKind::KeyRejected)
}

impl Hush {
    pub fn new(snapshot: &Snapshot, now: Time) -> Self {
        let active = snapshot.silences.values().filter(|silence| silence.is_active(now));
        let quiet = active.filter_map(|silence| {
            // A label that nobody knows matches nothing, so the whole silence does not hold.
            let matchers: Option<Vec<_>> = silence
                .matchers
                .iter()
                .map(|(key, glob)| Some((Label::parse(key)?, Glob::new(glob))))
                .collect();
            let matchers = matchers.filter(|matchers| !matchers.is_empty())?;
            Some(Quiet { id: silence.id.clone(), until: silence.ends, matchers })
        });
        Self { silences: quiet.collect(), blind: None, key_rejected: None }
    }

    /// Once the rules that inhibit are judged.
    pub fn inhibit(&mut self, rules: &[Rule], state: &BTreeMap<Arc<str>, BTreeMap<Subject, AlertState>>) {
        let fires = |rule: &&Rule| {
            state.get(&rule.name).is_some_and(|alerts| alerts.values().any(AlertState::is_firing))
        };
        for rule in rules.iter().filter(|rule| inhibits(rule)).filter(fires) {
            let by =
                if rule.kind == RuleKind::KeyRejected { &mut self.key_rejected } else { &mut self.blind };
            *by = Some(rule.name.clone());
        }
    }

    /// When the first silence ends, so that what it kept is told then.
    pub fn ends(&self) -> Option<Time> {
        self.silences.iter().map(|silence| silence.until).min()
    }

    /// Why this transition is not told now, if so.
    pub fn reason(
        &self,
        rule: &Rule,
        subject: &Subject,
        transition: Transition,
        (snapshot, polls, now): (&Snapshot, &Polls, Time),
    ) -> Option<HeldReason> {
        match transition {
            Transition::Resolved | Transition::Test => return None,
            Transition::Firing | Transition::Reminder | Transition::Event => {}
        }
        let matches = |(key, glob): &(Label, Glob)| {
            label::values(rule, subject, snapshot, *key).iter().any(|value| glob.matches(value))
        };
        if let Some(silence) = self.silences.iter().find(|silence| silence.matchers.iter().all(matches)) {
            return Some(HeldReason::Silenced { id: silence.id.clone(), until: silence.until });
        }
        if feed_of(&rule.kind).is_none()
            || (rule.severity == Severity::Critical && transition != Transition::Reminder)
        {
            return None;
        }
        let stale = || matches!(polls.of(&rule.kind, snapshot, now), Evidence::Stale(_));
        let blind = self.blind.as_ref().filter(|_| stale());
        blind.or(self.key_rejected.as_ref()).map(|by| HeldReason::Inhibited { by: by.clone() })
    }
}
