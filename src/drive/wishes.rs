//! What people and effects say to the core of policies: keeps, armings, cancels, receipts, and who took what.
//!
//! It must never do more than write it down: the next step finds it in the snapshot, decides, and commits it.

use std::{collections::btree_map::Entry, sync::Arc, time::Duration};

use super::{core::Core, questions::Knows};
use crate::model::{
    Act, ActReceipt, ActionId, ArmError, Arming, Audit, Cancel, CancelError, Heard, Held, Keep, Order,
    Policy, PolicyReasons, Time,
};

/// More keeps than this at a time are no longer a person's.
const KEEPS_MAX: usize = 10_000;
/// How long a keep that is over stays to be looked at.
const KEEP_KEPT: Duration = Duration::from_secs(30 * 86_400);

impl Core {
    /// Takes effect at the next step, which also commits it. The same id again replaces it. `false`: there are too many.
    pub fn keep(&mut self, keep: Keep, now: Time) -> bool {
        let keeps = &mut self.snapshot.keeps;
        let holding = keeps.values().filter(|keep| keep.holds(now)).count();
        if holding >= KEEPS_MAX && !keeps.contains_key(&keep.id) {
            return false;
        }
        let (by, keep) = (keep.by.clone(), Arc::new(keep));
        keeps.insert(keep.id.clone(), keep.clone());
        self.record(now, by, Order::Kept { keep });
        true
    }

    /// Ends one that holds; `false` where there is none. It stays to be looked at.
    pub fn end_keep(&mut self, id: &str, by: Arc<str>, now: Time) -> bool {
        match self.snapshot.keeps.get_mut(id) {
            Some(keep) if keep.holds(now) => {
                Arc::make_mut(keep).until = Some(now);
                let keep = keep.clone();
                self.record(now, by, Order::KeepEnded { keep });
                true
            }
            Some(_) | None => false,
        }
    }

    fn record(&mut self, at: Time, by: Arc<str>, order: Order) {
        self.audit.push(Audit { at, by, order });
    }

    pub(super) fn forget_old_keeps(&mut self, now: Time) {
        let keeps = &mut self.snapshot.keeps;
        keeps.retain(|_, keep| keep.until.is_none_or(|until| now < until.plus(KEEP_KEPT)));
        while keeps.len() > 2 * KEEPS_MAX
            && let Some(first) = keeps.values().min_by_key(|keep| (keep.until.is_none(), keep.until))
        {
            let id = first.id.clone();
            keeps.remove(&id);
        }
    }

    /// The next step stops it.
    pub fn cancel(&mut self, action: ActionId, cancel: Cancel) -> Result<(), CancelError> {
        let known = self.engine.actions().find(|known| known.id == action);
        let known = known.ok_or(CancelError::NoSuchAction)?;
        known.stage.name().cancellable()?;
        let (policy, target) = (known.policy.clone(), known.target.clone());
        if let Entry::Vacant(place) = self.snapshot.cancels.entry(action.clone()) {
            let Cancel { at, by } = place.insert(cancel).clone();
            self.record(at, by, Order::Cancelled { action, policy, target });
        }
        Ok(())
    }

    /// From the next step on it is armed as it stands, if the code is that of what it would end.
    pub fn arm(&mut self, policy: &str, code: &str, by: Arc<str>, now: Time) -> Result<Arming, ArmError> {
        let arming = self.engine.arm(policy, code, by, &self.snapshot, now)?;
        let shared = Arc::new(arming.clone());
        self.snapshot.armings.insert(arming.policy.clone(), shared.clone());
        self.record(now, arming.by.clone(), Order::Armed { arming: shared });
        Ok(arming)
    }

    /// `false`: it was not armed.
    pub fn disarm(&mut self, policy: &str, by: Arc<str>, now: Time) -> bool {
        let Some(arming) = self.snapshot.armings.remove(policy) else { return false };
        self.record(now, by, Order::Disarmed { arming });
        true
    }

    /// Any change of the policy, or of what bears on it, disarms it for good: that it is as it was again was nobody's decision to end
    /// something. To follow a step, which tells of it.
    pub(super) fn void_lapsed(&mut self, now: Time) {
        let holds = |arming: &Arming| self.engine.fingerprint(&arming.policy) == Some(&arming.fingerprint);
        let armings = self.snapshot.armings.values();
        let lapsed: Vec<Arc<Arming>> =
            armings.filter(|arming| !arming.fingerprint.is_empty() && !holds(arming)).cloned().collect();
        for arming in lapsed {
            let void = Arming { fingerprint: "".into(), ..Arming::clone(&arming) };
            self.snapshot.armings.insert(arming.policy.clone(), Arc::new(void));
            self.record(now, "spheron-watch".into(), Order::Disarmed { arming });
        }
    }

    /// An old copy says nothing of what is armed now (FAULTS 38). The step that follows stops what is open, and tells.
    pub(super) fn disown_copy(&mut self, now: Time) {
        if let Some(restored) = self.snapshot.restored.clone() {
            self.snapshot.armings.clear();
            self.record(now, "spheron-watch".into(), Order::Restored { restored });
        }
    }

    pub fn hear(&mut self, heard: Heard) {
        self.snapshot.told = heard.told;
        self.snapshot.confirmed = heard.confirmed;
    }

    /// What came of an act; to be followed by a step at once.
    pub fn receive(&mut self, receipt: ActReceipt) {
        self.snapshot.receipts.insert(receipt.action.clone(), Arc::new(receipt));
    }

    /// What the steps so far decided to have performed: each once, and only after their records are committed.
    pub fn take_acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    /// What every policy would end now, and why not the rest.
    pub fn policy_reasons(&self, now: Time) -> PolicyReasons {
        let preview = |policy: &Policy| self.engine.preview(&policy.name, &self.snapshot, now);
        PolicyReasons {
            previews: self.policies.policies.iter().filter_map(preview).collect(),
            verdicts: self.engine.policy_verdicts(&self.snapshot, now),
        }
    }
}

/// The core at an instant.
pub(super) struct At<'a>(pub &'a Core, pub Time);

impl Knows for At<'_> {
    fn held(&self) -> Vec<Held> {
        self.0.held(self.1)
    }

    fn policies(&self) -> PolicyReasons {
        self.0.policy_reasons(self.1)
    }
}
