//! Gathers the transitions of one receiver that belong together, until they are told in one notice.
//!
//! It must never tell a receiver of an end whose beginning it has not heard of: an end takes a beginning that still waits
//! along, and a beginning takes an end (FAULTS 63).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::label;
use crate::model::{
    AlertKey, Entry, Group, GroupKey, Grouping, HeldReason, Rule, RuleKind, Severity, Snapshot, Time,
    Transition,
};

#[derive(Debug, Clone, Default)]
pub struct Groups {
    grouping: Grouping,
    rows: BTreeMap<GroupKey, Group>,
    /// In which group of a receiver an alert waits.
    places: BTreeMap<(Arc<str>, AlertKey), GroupKey>,
    changed: BTreeSet<GroupKey>,
}

/// Money does not wait for its group, nor does it stand in a digest.
pub fn is_money(kind: &RuleKind) -> bool {
    matches!(kind, RuleKind::Balance { .. } | RuleKind::Runway { .. })
}

fn is_urgent(rule: &Rule) -> bool {
    rule.severity == Severity::Critical || is_money(&rule.kind)
}

impl Groups {
    pub fn new(rows: BTreeMap<GroupKey, Group>) -> Self {
        let places = rows.iter().flat_map(|(group, row)| {
            row.waiting.keys().map(|alert| ((group.receiver.clone(), alert.clone()), group.clone()))
        });
        Self { places: places.collect(), rows, ..Self::default() }
    }

    pub fn regroup(&mut self, grouping: Grouping) {
        self.grouping = grouping;
    }

    /// Places a transition in the group of each of the rule's receivers; gives back the receivers to tell at once.
    pub fn route(&mut self, rule: &Rule, entry: &Entry, snapshot: &Snapshot) -> Vec<Arc<str>> {
        let mut at_once = Vec::new();
        for route in &rule.receivers {
            if !self.has_news(&route.receiver, entry) {
                continue;
            }
            if entry.transition == Transition::Resolved && !route.send_resolved {
                continue;
            }
            if is_urgent(rule) {
                at_once.push(route.receiver.clone());
            } else {
                let by = &self.grouping.by;
                let group = label::group_key(&route.receiver, by, rule, &entry.key.subject, snapshot);
                self.enter(group, entry.clone());
            }
        }
        at_once
    }

    /// Whether a receiver would learn anything, given what waits for it; takes away what is no longer so.
    fn has_news(&mut self, receiver: &Arc<str>, entry: &Entry) -> bool {
        let place = (receiver.clone(), entry.key.clone());
        let waits = self.places.get(&place).and_then(|group| self.rows.get(group)?.waiting.get(&entry.key));
        let Some(waits) = waits.map(|waits| waits.transition) else { return true };
        let (withdraw, news) = match (waits, entry.transition) {
            (Transition::Firing, Transition::Resolved) | (Transition::Resolved, Transition::Firing) => {
                (true, false)
            }
            (_, Transition::Resolved | Transition::Event) => (true, true),
            (_, Transition::Firing | Transition::Reminder | Transition::Test) => (false, false),
        };
        if withdraw {
            self.withdraw(&place);
        }
        news
    }

    fn enter(&mut self, group: GroupKey, mut entry: Entry) {
        let Grouping { wait, interval, .. } = self.grouping;
        let now = entry.at;
        let row = self.rows.entry(group.clone()).or_default();
        let again =
            row.flushed.filter(|at| *at <= now && now < at.plus(interval)).map(|at| at.plus(interval));
        let gathering = row.waiting.values().map(|other| other.due).filter(|due| *due > now).min();
        let due = again.or(gathering).unwrap_or_else(|| now.plus(wait));
        entry.due = if entry.transition == Transition::Reminder { due.min(now.plus(wait)) } else { due };
        self.places.insert((group.receiver.clone(), entry.key.clone()), group.clone());
        row.waiting.insert(entry.key.clone(), entry);
        self.changed.insert(group);
    }

    fn withdraw(&mut self, place: &(Arc<str>, AlertKey)) {
        let Some(group) = self.places.remove(place) else { return };
        if let Some(row) = self.rows.get_mut(&group) {
            row.waiting.remove(&place.1);
        }
        self.changed.insert(group);
    }

    /// Takes out what waits for a receiver that its rule no longer tells; it is to be routed anew.
    pub fn strays(&mut self, rules: &[Rule]) -> Vec<Entry> {
        let told = |receiver: &Arc<str>, alert: &AlertKey| {
            let rule = rules.iter().find(|rule| rule.name == alert.rule);
            rule.is_some_and(|rule| rule.receivers.iter().any(|route| route.receiver == *receiver))
        };
        let lost: Vec<_> =
            self.places.keys().filter(|(receiver, alert)| !told(receiver, alert)).cloned().collect();
        let mut strays = Vec::new();
        for place in lost {
            let group = self.places.get(&place).and_then(|group| self.rows.get(group));
            strays.extend(group.and_then(|group| group.waiting.get(&place.1)).cloned());
            self.withdraw(&place);
        }
        strays
    }

    /// Everything that is to be told now, by group. `hush` says what must stay, and hears why it did.
    pub fn flush(
        &mut self,
        now: Time,
        hush: &mut dyn FnMut(&Entry) -> Option<HeldReason>,
    ) -> Vec<(GroupKey, Vec<Entry>)> {
        // A clock that was set back must not hold anything longer than a group may wait.
        let latest = now.plus(self.grouping.wait.max(self.grouping.interval));
        let is_due = |entry: &Entry| entry.due <= now || entry.due > latest;
        let due = self.rows.iter().filter(|(_, row)| row.waiting.values().any(is_due));
        let due: Vec<GroupKey> = due.map(|(group, _)| group.clone()).collect();
        let mut flushed = Vec::new();
        for group in due {
            let Some(row) = self.rows.get(&group) else { continue };
            let (mut ready, mut dropped) = (Vec::new(), Vec::new());
            for entry in row.waiting.values() {
                match hush(entry) {
                    None => ready.push(entry.clone()),
                    Some(HeldReason::Silenced { .. }) if entry.transition == Transition::Event => {
                        dropped.push(entry.key.clone());
                    }
                    Some(_) => {}
                }
            }
            // What is held back alone is no flush.
            if !ready.iter().any(is_due) && dropped.is_empty() {
                continue;
            }
            let gone = ready.iter().map(|entry| entry.key.clone()).chain(dropped);
            for alert in gone.collect::<Vec<_>>() {
                self.withdraw(&(group.receiver.clone(), alert));
            }
            if !ready.is_empty() {
                self.rows.entry(group.clone()).or_default().flushed = Some(now);
                flushed.push((group, ready));
            }
        }
        flushed
    }

    /// When the next group is due.
    pub fn next(&self, now: Time) -> Option<Time> {
        self.rows
            .values()
            .flat_map(|row| row.waiting.values())
            .map(|entry| entry.due)
            .filter(|due| *due > now)
            .min()
    }

    /// Forgets groups that have nothing to tell and nothing to wait for, and gives every row that is not as it was.
    pub fn changes(&mut self, now: Time) -> Vec<(GroupKey, Option<Group>)> {
        let interval = self.grouping.interval;
        let rests = |at: Time| at <= now && now < at.plus(interval);
        let over =
            self.rows.iter().filter(|(_, row)| row.waiting.is_empty() && !row.flushed.is_some_and(rests));
        for group in over.map(|(group, _)| group.clone()).collect::<Vec<_>>() {
            self.rows.remove(&group);
            self.changed.insert(group);
        }
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|group| (group.clone(), self.rows.get(&group).cloned())).collect()
    }
}
