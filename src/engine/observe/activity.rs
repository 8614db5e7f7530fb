//! Enters what activity sources say into the snapshot, and keeps there just what is watched.
//!
//! It must never let a window stand over a gap, a step of the clock or a changed setting (FAULTS 50), nor leave out a source
//! that has not spoken: silence is unknown.

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{
    ActivitySample, ActivitySource, Reading, Snapshot, SourceActivity, Time, Tracked, activity::longest_gap,
};

/// There is an entry for each running deployment and each source that watches it, and for nothing else.
pub fn attend(snapshot: &mut Snapshot, sources: &[ActivitySource], now: Time) {
    if sources.is_empty() {
        snapshot.activity.clear();
        return;
    }
    let team_name =
        |tracked: &Tracked| snapshot.teams.get(&tracked.deployment.team).map_or("", |team| &team.name);
    let mut activity = BTreeMap::new();
    for (id, tracked) in &snapshot.deployments {
        let mut before = snapshot.activity.remove(id).unwrap_or_default();
        let watching = sources.iter().filter(|source| source.watches(tracked, team_name(tracked)));
        let entries: BTreeMap<Arc<str>, SourceActivity> = watching
            .filter_map(|source| {
                let entry = before.remove(&source.name);
                Some((source.name.clone(), entry.or_else(|| unspoken(source, now))?))
            })
            .collect();
        if !entries.is_empty() {
            activity.insert(id.clone(), entries);
        }
    }
    snapshot.activity = activity;
}

/// One that can only prove work does not count until it has.
fn unspoken(source: &ActivitySource, now: Time) -> Option<SourceActivity> {
    (!source.only_busy).then(|| SourceActivity {
        last: now,
        every: source.every,
        reading: Reading::Unknown("not measured yet".into()),
        idle_since: None,
        utilization_permille: None,
    })
}

/// Nobody measured through a suspension, and by a clock that was set no window has a length: each begins with the next word.
pub fn restart_windows(snapshot: &mut Snapshot) {
    for entry in snapshot.activity.values_mut().flat_map(BTreeMap::values_mut) {
        entry.idle_since = None;
    }
}

/// Enters one sample. Of what is not watched nothing is entered, nor what was said under settings that hold no more.
pub fn fold_activity(snapshot: &mut Snapshot, sources: &[ActivitySource], sample: &ActivitySample) {
    let said_by =
        |source: &&ActivitySource| source.name == sample.source && source.settings == sample.settings;
    let Some(source) = sources.iter().find(said_by) else { return };
    let Some(tracked) = snapshot.deployments.get(&sample.deployment) else { return };
    let team_name = snapshot.teams.get(&tracked.deployment.team).map_or("", |team| &team.name);
    if !source.watches(tracked, team_name) {
        return;
    }
    let entries = snapshot.activity.entry(sample.deployment.clone()).or_default();
    if source.only_busy && sample.reading != Reading::Idle {
        // The others' windows begin anew where this one speaks against them: it leaves no trace of its own when it is done.
        for entry in entries.values_mut() {
            entry.idle_since = entry.idle_since.map(|since| since.max(sample.at));
        }
    }
    if source.only_busy && sample.reading == Reading::Idle {
        entries.remove(&sample.source);
    } else {
        let entry = after(entries.get(&sample.source), sample);
        entries.insert(sample.source.clone(), entry);
    }
    if entries.is_empty() {
        snapshot.activity.remove(&sample.deployment);
    }
}

fn after(before: Option<&SourceActivity>, sample: &ActivitySample) -> SourceActivity {
    let unbroken = |before: &&SourceActivity| {
        before.last <= sample.at
            && sample.at.since(before.last) <= longest_gap(before.every.min(sample.every))
    };
    let idle_since = match sample.reading {
        Reading::Idle => before.filter(unbroken).and_then(|before| before.idle_since).or(Some(sample.at)),
        Reading::Busy | Reading::Unknown(_) => None,
    };
    SourceActivity {
        last: sample.at,
        every: sample.every,
        reading: sample.reading.clone(),
        idle_since,
        utilization_permille: sample.utilization_permille,
    }
}

#[cfg(test)]
mod tests;
