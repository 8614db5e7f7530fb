//! Armings that hold no more though nobody disarmed: the policy changed, or the database was put back from an old copy.
//!
//! It must never be silent about one: people who armed a policy count on it.

use std::{collections::BTreeMap, sync::Arc};

use super::{transitions::Turn, words};

/// What was told by this process: of each policy the form that it was armed as no longer. After a restart it is told again
/// under the same id, so that nobody hears of it twice.
#[derive(Debug, Clone, Default)]
pub struct Told {
    changed: BTreeMap<Arc<str>, Arc<str>>,
    restored: bool,
}

pub fn tell(turn: &mut Turn<'_>, told: &mut Told) {
    let ground = &turn.ground;
    let mut notices = Vec::new();
    match &ground.snapshot.restored {
        Some(restored) if !told.restored => notices.push(words::restored(ground, restored)),
        Some(_) | None => {}
    }
    told.restored = ground.snapshot.restored.is_some();
    let mut changed = BTreeMap::new();
    for policy in &ground.policies.policies {
        let (Some(arming), Some(now)) = (ground.arming(policy), ground.fingerprints.get(&policy.name)) else {
            continue;
        };
        if arming.fingerprint == *now {
            continue;
        }
        if told.changed.get(&policy.name) != Some(now) {
            notices.push(words::changed(ground, policy, arming, now));
        }
        changed.insert(policy.name.clone(), now.clone());
    }
    told.changed = changed;
    turn.notices.extend(notices);
}
