//! What people want of policies, as rows: a keep, an arming, an action stopped.
//!
//! It must never leave out a wish that was withdrawn: that is a row that goes.

use std::{collections::BTreeMap, sync::Arc};

use super::{ActionId, Arming, Cancel, Keep, Snapshot};

/// The whole new state; `None` in place of one that is no longer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Keep(Arc<str>, Option<Arc<Keep>>),
    /// By policy.
    Arming(Arc<str>, Option<Arc<Arming>>),
    Cancel(ActionId, Option<Cancel>),
}

/// What differs between two snapshots.
pub fn wishes(before: &Snapshot, after: &Snapshot) -> Vec<Wish> {
    let mut wishes = Vec::new();
    wishes.extend(differing(&before.keeps, &after.keeps).map(|(id, keep)| Wish::Keep(id, keep)));
    wishes.extend(differing(&before.armings, &after.armings).map(|(of, arming)| Wish::Arming(of, arming)));
    wishes.extend(differing(&before.cancels, &after.cancels).map(|(id, cancel)| Wish::Cancel(id, cancel)));
    wishes
}

fn differing<K: Ord + Clone, V: PartialEq + Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> impl Iterator<Item = (K, Option<V>)> {
    let new = after.iter().filter(|(key, now)| before.get(*key) != Some(*now));
    let new = new.map(|(key, now)| (key.clone(), Some(now.clone())));
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), None));
    new.chain(gone)
}
