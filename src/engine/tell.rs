//! Makes notices of transitions: one alone, those of a group, or a digest of too many.
//!
//! It must never let money stand in a digest, nor let a digest grow with what it counts beyond a bound.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    alert::FLAPPING_KEEPS,
    group::is_money,
    label,
    rules::Ground,
    words::{self, Telling},
};
use crate::model::{
    AlertKey, Entry, EventId, GroupKey, Label, Notice, Rule, Severity, Subject, TeamId, Time, Together,
    Transition, humanize,
};

/// More alerts at once than this are a digest, and so many of them are told in full.
const IN_FULL_MAX: usize = 20;
/// So many of the rest are handed on by key alone if they are over.
const ENDED_MAX: usize = 500;
/// Lines of a digest's table.
const COUNTS_MAX: usize = 40;

/// Transitions that don't wait, with whom to tell.
pub type Urgent = Vec<(Entry, Vec<Arc<str>>)>;

pub struct Teller<'a> {
    pub rules: &'a [Rule],
    pub ground: &'a Ground<'a>,
}

/// A transition and the rule it is of.
#[derive(Clone, Copy)]
struct Told<'a> {
    entry: &'a Entry,
    rule: &'a Rule,
}

/// What one receiver is to hear now.
#[derive(Default)]
struct Share<'a> {
    urgent: Vec<Told<'a>>,
    groups: Vec<(&'a GroupKey, Vec<Told<'a>>)>,
}

impl Teller<'_> {
    /// Everything that goes out now. Who would get too much of it gets a digest instead, but for money.
    pub fn notices(&self, urgent: &Urgent, flushed: &[(GroupKey, Vec<Entry>)]) -> Vec<Notice> {
        let shares = self.shares(urgent, flushed);
        let flooded: BTreeSet<&Arc<str>> = shares
            .iter()
            .filter(|(_, share)| {
                share.urgent.len() + share.groups.iter().map(|(_, told)| told.len()).sum::<usize>()
                    > IN_FULL_MAX
            })
            .map(|(receiver, _)| *receiver)
            .collect();
        let mut notices = Vec::new();
        for (entry, receivers) in urgent {
            let Some(told) = self.told(entry) else { continue };
            let mut receivers = receivers.clone();
            receivers.retain(|receiver| is_money(&told.rule.kind) || !flooded.contains(receiver));
            if !receivers.is_empty() {
                notices.push(self.notice(told, receivers));
            }
        }
        for (receiver, share) in &shares {
            if flooded.contains(receiver) {
                notices.push(self.digest(receiver, share));
                continue;
            }
            for (group, told) in &share.groups {
                notices.push(match told.as_slice() {
                    [alone] => {
                        let lanes = vec![lane(group), alone.entry.key.lane()];
                        let notice = self.notice(*alone, vec![(*receiver).clone()]);
                        Notice { together: Together { lanes, ..Together::default() }, ..notice }
                    }
                    several => self.group(group, several),
                });
            }
        }
        notices
    }

    fn shares<'b>(
        &'b self,
        urgent: &'b Urgent,
        flushed: &'b [(GroupKey, Vec<Entry>)],
    ) -> BTreeMap<&'b Arc<str>, Share<'b>> {
        let mut shares: BTreeMap<&Arc<str>, Share<'_>> = BTreeMap::new();
        for (entry, receivers) in urgent {
            let told = self.told(entry).filter(|told| !is_money(&told.rule.kind));
            for receiver in receivers {
                shares.entry(receiver).or_default().urgent.extend(told);
            }
        }
        for (group, entries) in flushed {
            let told: Vec<Told<'_>> = entries.iter().filter_map(|entry| self.told(entry)).collect();
            if !told.is_empty() {
                shares.entry(&group.receiver).or_default().groups.push((group, told));
            }
        }
        shares
    }

    fn told<'b>(&'b self, entry: &'b Entry) -> Option<Told<'b>> {
        let rule = self.rules.iter().find(|rule| rule.name == entry.key.rule)?;
        Some(Told { entry, rule })
    }

    fn notice(&self, told: Told<'_>, receivers: Vec<Arc<str>>) -> Notice {
        let Told { entry, rule } = told;
        let Ground { snapshot, forecasts, actions, now, .. } = *self.ground;
        // What waited for its group goes on; what happened has its own time.
        let at = match entry.transition {
            Transition::Firing | Transition::Reminder | Transition::Test => now,
            Transition::Resolved | Transition::Event => entry.at,
        };
        let telling = Telling { rule, subject: &entry.key.subject, snapshot, forecasts, actions, now: at };
        let mut words = words::compose(&telling, entry.transition, entry.since);
        if entry.flapping {
            let keeps = humanize(FLAPPING_KEEPS);
            words.reason.push_str(&format!(
                " It is flapping: it began three times within an hour, so its end is told once it has not been so for {keeps}."
            ));
        }
        Notice {
            id: EventId::derive(&entry.key, entry.since, entry.transition, entry.nth),
            key: entry.key.clone(),
            kind: rule.kind.as_str().into(),
            transition: entry.transition,
            severity: rule.severity,
            title: words.title,
            reason: words.reason,
            advice: words.advice,
            details: words.details,
            bars: words::bars(&telling),
            since: entry.since,
            at,
            receivers,
            together: Together::default(),
            grant: None,
            link: None,
        }
    }

    fn group(&self, group: &GroupKey, told: &[Told<'_>]) -> Notice {
        let notice = self.several(&group.receiver, told, &[group]);
        let scope = match notice.key.subject {
            Subject::Team { ref id } => format!(" in {}", self.team_name(id)),
            Subject::Account
            | Subject::Deployment { .. }
            | Subject::Volume { .. }
            | Subject::Occasion { .. } => String::new(),
        };
        let of =
            if &*notice.key.rule == SEVERAL { String::new() } else { format!(" of {}", notice.key.rule) };
        Notice {
            title: format!("{} alerts{of}{scope}: {}", told.len(), states(told)),
            reason: "They belong to one group and came close together, so they are told at once.".into(),
            advice: "Each alert below says what to do.".into(),
            ..notice
        }
    }

    fn digest(&self, receiver: &Arc<str>, share: &Share<'_>) -> Notice {
        let groups: Vec<&GroupKey> = share.groups.iter().map(|(group, _)| *group).collect();
        let told: Vec<Told<'_>> = share
            .urgent
            .iter()
            .copied()
            .chain(share.groups.iter().flat_map(|(_, told)| told).copied())
            .collect();
        let notice = self.several(receiver, &told, &groups);
        Notice {
            title: format!("{} alerts at once: {}", told.len(), states(&told)),
            reason: format!(
                "More than {IN_FULL_MAX} alerts came at once, so they are counted by rule and team; {} are told in full.",
                notice.together.members.len()
            ),
            advice: "Look for one cause first: so many alerts at once rarely have as many.".into(),
            details: self.counts(&told),
            ..notice
        }
    }

    /// What a group and a digest have in common: the worst and the most lasting of their members first.
    fn several(&self, receiver: &Arc<str>, told: &[Told<'_>], groups: &[&GroupKey]) -> Notice {
        let mut told = told.to_vec();
        told.sort_by_key(|told| (is_over(told), Reverse(told.rule.severity), &told.entry.key));
        let members: Vec<Notice> =
            told.iter().take(IN_FULL_MAX).map(|told| self.notice(*told, Vec::new())).collect();
        let ids: Vec<EventId> = told
            .iter()
            .map(|Told { entry, .. }| EventId::derive(&entry.key, entry.since, entry.transition, entry.nth))
            .collect();
        let same = |of: &dyn Fn(&Told<'_>) -> Arc<str>| {
            let mut all = told.iter().map(of);
            let first = all.next()?;
            all.all(|other| other == first).then_some(first)
        };
        let rule = same(&|told| told.rule.name.clone()).unwrap_or_else(|| SEVERAL.into());
        let kind = same(&|told| told.rule.kind.as_str().into()).unwrap_or_else(|| SEVERAL.into());
        let team = same(&|told| self.team(told).into()).filter(|team| !team.is_empty());
        let subject = team.map_or(Subject::Account, |id| Subject::Team { id: TeamId::new(id) });
        let rest = told.iter().skip(IN_FULL_MAX).filter(|told| is_over(told)).take(ENDED_MAX);
        let ended: Vec<(AlertKey, Time)> =
            rest.map(|told| (told.entry.key.clone(), told.entry.since)).collect();
        // Also those that it only counts: an end must not come before the digest that tells of the beginning.
        let lanes =
            groups.iter().map(|group| lane(group)).chain(told.iter().map(|told| told.entry.key.lane()));
        let severities = told.iter().map(|told| (!is_over(told), told.rule.severity));
        Notice {
            id: EventId::of_group(receiver, ids.iter()),
            key: AlertKey { rule, subject },
            kind,
            transition: overall(&told),
            severity: severities.max().map_or(Severity::Info, |(_, severity)| severity),
            title: String::new(),
            reason: String::new(),
            advice: String::new(),
            details: Vec::new(),
            bars: Vec::new(),
            since: told.iter().map(|told| told.entry.since).min().unwrap_or(self.ground.now),
            at: self.ground.now,
            receivers: vec![receiver.clone()],
            together: Together {
                lanes: lanes.collect(),
                ended,
                more: u32::try_from(told.len() - members.len()).unwrap_or(u32::MAX),
                members,
            },
            grant: None,
            link: None,
        }
    }

    fn counts(&self, told: &[Told<'_>]) -> Vec<(Arc<str>, String)> {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for told in told {
            *counts.entry((&told.rule.name, self.team(told))).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| Reverse(*count));
        let rest: usize = counts.iter().skip(COUNTS_MAX).map(|(_, count)| count).sum();
        let named = counts.iter().take(COUNTS_MAX).map(|((rule, team), count)| {
            let name = if team.is_empty() {
                (*rule).to_owned()
            } else {
                format!("{rule} in {}", self.team_name(&TeamId::new(*team)))
            };
            (name.into(), count.to_string())
        });
        named.chain((rest > 0).then(|| ("others".into(), rest.to_string()))).collect()
    }

    /// The id of the team that an alert is about; empty for the account.
    fn team<'b>(&'b self, told: &Told<'b>) -> &'b str {
        let values = label::values(told.rule, &told.entry.key.subject, self.ground.snapshot, Label::Team);
        values.first().copied().unwrap_or_default()
    }

    fn team_name(&self, id: &TeamId) -> String {
        self.ground.snapshot.teams.get(id).map_or(id.as_str(), |team| &team.name).to_owned()
    }
}

/// In place of a rule or kind where they differ.
const SEVERAL: &str = "several";

fn lane(group: &GroupKey) -> Arc<str> {
    format!("= {}", group.labels).into()
}

fn is_over(told: &Told<'_>) -> bool {
    told.entry.transition == Transition::Resolved
}

/// The transition of the whole: the first of these that any member has.
fn overall(told: &[Told<'_>]) -> Transition {
    let has = |transition: &Transition| told.iter().any(|told| told.entry.transition == *transition);
    [Transition::Firing, Transition::Event, Transition::Reminder]
        .into_iter()
        .find(has)
        .unwrap_or(Transition::Resolved)
}

/// `3 firing, 1 resolved`
fn states(told: &[Told<'_>]) -> String {
    let named = [
        (Transition::Firing, "firing"),
        (Transition::Reminder, "still firing"),
        (Transition::Event, "happened"),
        (Transition::Resolved, "resolved"),
    ];
    let part = |(transition, word): (Transition, &str)| {
        let count = told.iter().filter(|told| told.entry.transition == transition).count();
        (count > 0).then(|| format!("{count} {word}"))
    };
    named.into_iter().filter_map(part).collect::<Vec<_>>().join(", ")
}
