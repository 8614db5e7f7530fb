//! One function per transition, named for it: what becomes of the action, what is asked for, and who hears of it.
//!
//! It must never decide: by whom it is called has looked at the gates. A step that is not in the table is not taken at all.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    gates::READS_MAX_AGE,
    ground::Ground,
    words::{self, Tidings},
};
use crate::model::{
    Act, Action, ActionId, Check, Deed, EventId, FinalRead, Hold, Notice, Policy, Proof, Shift, Slot, Stage,
    StageName, Target, Time, Tracked, Why, Withheld, action::REMEMBERED,
};

/// A read or a commit that failed is tried again after this; so is what a gate made wait.
pub const RETRY: Duration = Duration::from_secs(60);
/// Beyond the minutes that the API says remain.
const BEYOND: Duration = Duration::from_secs(5);
/// Between two reads after a DELETE, and once it is late.
pub const VERIFY_EVERY: Duration = Duration::from_secs(15);
pub const VERIFY_LATE_EVERY: Duration = Duration::from_secs(300);
/// How long a deployment is left alone after a person stopped an action, or the API refused one.
pub const REST: Duration = Duration::from_secs(24 * 3_600);

/// One step under way: what it decided so far.
pub struct Turn<'a> {
    pub ground: Ground<'a>,
    pub rows: BTreeMap<ActionId, Action>,
    pub shifts: Vec<Shift>,
    pub acts: Vec<Act>,
    pub notices: Vec<Notice>,
    pub wake: Option<(Time, &'static str)>,
}

impl<'a> Turn<'a> {
    pub fn new(ground: Ground<'a>) -> Self {
        let (rows, shifts, acts, notices) = (BTreeMap::new(), Vec::new(), Vec::new(), Vec::new());
        Self { ground, rows, shifts, acts, notices, wake: None }
    }

    pub fn now(&self) -> Time {
        self.ground.now
    }

    pub fn wake(&mut self, at: Time, why: &'static str) {
        if at > self.ground.now && self.wake.is_none_or(|(known, _)| at < known) {
            self.wake = Some((at, why));
        }
    }

    /// Takes a step of the table; anything else is a fault of ours, and then nothing happens.
    fn shift(&mut self, action: &mut Action, to: Stage, reason: Why) -> bool {
        let (from, name) = (action.stage.name(), to.name());
        debug_assert!(from.may_become(name), "{from:?} > {name:?}");
        if !from.may_become(name) {
            return false;
        }
        action.stage = to;
        self.shifts.push(Shift {
            action: action.id.clone(),
            at: self.ground.now,
            from: Some(from),
            to: name,
            reason,
        });
        self.save(action);
        true
    }

    pub fn save(&mut self, action: &Action) {
        self.rows.insert(action.id.clone(), action.clone());
    }

    fn begin(&mut self, action: &Action, reason: Why) {
        self.shifts.push(Shift {
            action: action.id.clone(),
            at: self.ground.now,
            from: None,
            to: action.stage.name(),
            reason,
        });
        self.save(action);
    }

    /// Hands out an act; its receipt has to carry this number.
    fn ask(&mut self, action: &mut Action, deed: Deed) {
        action.seq = action.seq.saturating_add(1);
        let act = Act { action: action.id.clone(), seq: action.seq, target: action.target.clone(), deed };
        self.acts.push(act);
        self.save(action);
    }

    fn tell(&mut self, action: &Action, tidings: &Tidings) {
        self.notices.push(words::notice(&self.ground, action, tidings));
    }
}

fn new(policy: &Policy, tracked: &Tracked, fingerprint: Arc<str>, now: Time, stage: Stage) -> Action {
    let target = Target::of(&tracked.deployment);
    Action {
        id: ActionId::derive(&policy.name, &target, now),
        policy: policy.name.clone(),
        target,
        name: tracked.deployment.name.clone(),
        team: tracked.deployment.team.clone(),
        rate: tracked.deployment.hourly_rate,
        marked: now,
        fingerprint,
        seq: 0,
        requests: Vec::new(),
        stage,
    }
}

/// A candidate: it is announced, and nothing more before the announcement has arrived.
pub fn mark(turn: &mut Turn<'_>, policy: &Policy, tracked: &Tracked, because: String) -> Action {
    let now = turn.now();
    let fingerprint = turn.ground.fingerprints.get(&policy.name).cloned().unwrap_or_default();
    let floor = turn.ground.history.floors.get(&Target::of(&tracked.deployment)).copied();
    let stage = Stage::Marked { notice: EventId::from_text(""), floor };
    let mut action = new(policy, tracked, fingerprint, now, stage);
    action.stage = Stage::Marked { notice: words::announcement_id(&action), floor };
    turn.begin(&action, Why::Qualifies { because: because.clone().into() });
    turn.tell(&action, &Tidings::Announced { because, floor });
    action
}

/// The announcement arrived: from now on the grace runs.
pub fn announce(turn: &mut Turn<'_>, action: &mut Action, policy: &Policy, receiver: Arc<str>) {
    let now = turn.now();
    let Stage::Marked { floor, .. } = action.stage else { return };
    let at = now.plus(policy.grace).max(floor.unwrap_or(now));
    let slot = Slot { told: now, at, reminded: false };
    turn.shift(action, Stage::Announced { slot, next: at }, Why::Told { receiver });
}

/// Half of the grace has passed.
pub fn remind(turn: &mut Turn<'_>, action: &mut Action) {
    let Stage::Announced { slot, .. } = &mut action.stage else { return };
    slot.reminded = true;
    let at = slot.at;
    turn.save(action);
    turn.tell(action, &Tidings::Reminder { at });
}

pub fn begin_final_read(turn: &mut Turn<'_>, action: &mut Action) {
    let Stage::Announced { slot, .. } = action.stage else { return };
    if turn.shift(action, Stage::Reading { slot, asked: turn.now() }, Why::GraceOver) {
        turn.ask(action, Deed::FinalRead);
    }
}

pub fn ask_can_terminate(turn: &mut Turn<'_>, action: &mut Action, read: FinalRead) {
    let Stage::Reading { slot, .. } = action.stage else { return };
    if turn.shift(action, Stage::Checking { slot, read, asked: turn.now() }, Why::ReadAgrees) {
        turn.ask(action, Deed::CanTerminate);
    }
}

pub fn commit_intent(turn: &mut Turn<'_>, action: &mut Action, check: Check) {
    let Stage::Checking { slot, ref read, .. } = action.stage else { return };
    let (read, asked) = (read.clone(), turn.now());
    if turn.shift(action, Stage::Committing { slot, read, check, asked }, Why::MayTerminate) {
        let deed = Deed::Commit { policy: action.policy.clone(), fingerprint: action.fingerprint.clone() };
        turn.ask(action, deed);
    }
}

/// The intent is committed: the DELETE is handed out, once.
pub fn request(turn: &mut Turn<'_>, action: &mut Action) {
    let Stage::Committing { slot, ref read, ref check, .. } = action.stage else { return };
    let (asked, not_after) = (turn.now(), read.sent.min(check.sent).plus(READS_MAX_AGE));
    if turn.shift(action, Stage::Requested { slot, asked }, Why::Committed) {
        action.requests.push(asked);
        turn.ask(action, Deed::Delete { not_after });
    }
}

/// Back to where it was announced: a gate closed, a read failed, or nothing was sent. A final read has to come anew.
pub fn retreat(turn: &mut Turn<'_>, action: &mut Action, reason: Why) {
    let Some(slot) = action.stage.slot() else { return };
    let next = turn.now().plus(RETRY);
    turn.shift(action, Stage::Announced { slot, next }, reason);
}

/// The minimum runtime is not met: not before it is, by the API's own minutes (FAULTS 17).
pub fn postpone(turn: &mut Turn<'_>, action: &mut Action, minutes: u32) {
    let Some(slot) = action.stage.slot() else { return };
    let wait = Duration::from_secs(60 * u64::from(minutes.max(1)));
    let at = turn.now().plus(wait).plus(BEYOND);
    let slot = Slot { at: slot.at.max(at), ..slot };
    turn.shift(action, Stage::Announced { slot, next: at }, Why::MinimumRuntime { minutes, until: at });
}

/// The API wants to be left alone: nothing was done, and what was announced stands (FAULTS 12).
pub fn hold_off(turn: &mut Turn<'_>, action: &mut Action, until: Time) {
    let Some(slot) = action.stage.slot() else { return };
    let next = until.max(turn.now().plus(RETRY));
    turn.shift(action, Stage::Announced { slot, next }, Why::AskedToWait { until: next });
}

fn proof(requested: Time, now: Time, ended: u8) -> Proof {
    Proof { requested, ended, asked: None, next: now.plus(VERIFY_EVERY), late: false }
}

/// The DELETE was accepted, or the API says that there is nothing to end.
pub fn verify(turn: &mut Turn<'_>, action: &mut Action, reason: Why) {
    let now = turn.now();
    let proof = match action.stage {
        Stage::Requested { asked, .. } => proof(asked, now, 0),
        Stage::InDoubt { proof: known, .. } => Proof { late: known.late, ..proof(known.requested, now, 1) },
        Stage::Withheld { .. }
        | Stage::Marked { .. }
        | Stage::Announced { .. }
        | Stage::Reading { .. }
        | Stage::Checking { .. }
        | Stage::Committing { .. }
        | Stage::Verifying { .. }
        | Stage::Gone { .. }
        | Stage::Refused { .. }
        | Stage::Expired { .. }
        | Stage::Cancelled { .. } => return,
    };
    turn.shift(action, Stage::Verifying { proof }, reason);
}

/// The answer is lost, or was a refusal: a GET decides, and nothing is repeated (FAULTS 18).
pub fn doubt(turn: &mut Turn<'_>, action: &mut Action, refused: Option<Arc<str>>, reason: Why) {
    let Stage::Requested { asked, .. } = action.stage else { return };
    let proof = proof(asked, turn.now(), 0);
    turn.shift(action, Stage::InDoubt { proof, refused }, reason);
}

fn proof_of(action: &mut Action) -> Option<&mut Proof> {
    match &mut action.stage {
        Stage::Verifying { proof } | Stage::InDoubt { proof, .. } => Some(proof),
        Stage::Withheld { .. }
        | Stage::Marked { .. }
        | Stage::Announced { .. }
        | Stage::Reading { .. }
        | Stage::Checking { .. }
        | Stage::Committing { .. }
        | Stage::Requested { .. }
        | Stage::Gone { .. }
        | Stage::Refused { .. }
        | Stage::Expired { .. }
        | Stage::Cancelled { .. } => None,
    }
}

pub fn ask_again(turn: &mut Turn<'_>, action: &mut Action) {
    let now = turn.now();
    if let Some(proof) = proof_of(action) {
        proof.asked = Some(now);
        turn.ask(action, Deed::Verify);
    }
}

/// A read after the DELETE is in: how often in a row it has shown the end, and when the next comes.
pub fn note_proof(turn: &mut Turn<'_>, action: &mut Action, ended: u8) {
    let now = turn.now();
    if let Some(proof) = proof_of(action) {
        let every = if proof.late { VERIFY_LATE_EVERY } else { VERIFY_EVERY };
        (proof.ended, proof.asked, proof.next) = (ended, None, now.plus(every));
        turn.save(action);
    }
}

/// Ten minutes have passed (FAULTS 19). Where no rule tells people, the action itself does.
pub fn tell_not_confirmed(turn: &mut Turn<'_>, action: &mut Action) {
    if let Some(proof) = proof_of(action) {
        proof.late = true;
        turn.save(action);
        if !turn.ground.alerted {
            turn.tell(action, &Tidings::NotConfirmed);
        }
    }
}

pub fn gone(turn: &mut Turn<'_>, action: &mut Action) {
    let at = turn.now();
    if turn.shift(action, Stage::Gone { at, saved_until: at.plus(REMEMBERED) }, Why::ShownEnded) {
        turn.tell(action, &Tidings::Done);
    }
}

pub fn refuse(turn: &mut Turn<'_>, action: &mut Action, why: Arc<str>) {
    let at = turn.now();
    let stage = Stage::Refused { at, rest: at.plus(REST) };
    if turn.shift(action, stage, Why::ApiRefused { why: why.clone() }) {
        turn.tell(action, &Tidings::Refused { why });
    }
}

/// It could not be done in its time: if it still qualifies, it starts over with a new announcement (FAULTS 51).
pub fn expire(turn: &mut Turn<'_>, action: &mut Action, reason: Why) {
    let from = action.stage.name();
    if !turn.shift(action, Stage::Expired { at: turn.now() }, reason.clone()) {
        return;
    }
    if from == StageName::InDoubt {
        turn.tell(action, &Tidings::Failed);
    } else if from != StageName::Marked {
        turn.tell(action, &Tidings::CalledOff { why: reason });
    }
}

/// Nobody wants it any more, or it is about something else. What was announced is called off.
pub fn cancel(turn: &mut Turn<'_>, action: &mut Action, reason: Why) {
    let at = turn.now();
    let slot = action.stage.slot().map(|slot| slot.at);
    let heard = slot.is_some();
    let rest = matches!(reason, Why::CancelledBy { .. }).then(|| at.plus(REST));
    if turn.shift(action, Stage::Cancelled { at, slot, rest }, reason.clone()) && heard {
        turn.tell(action, &Tidings::CalledOff { why: reason });
    }
}

/// It would be ended, but that the policy is a dry run or that too many qualify: noted, to be told once a day.
pub fn withhold(turn: &mut Turn<'_>, policy: &Policy, tracked: &Tracked, by: Withheld, hold: Hold) -> Action {
    let now = turn.now();
    let action = new(policy, tracked, "".into(), now, Stage::Withheld { told: now, by });
    turn.begin(&action, Why::Withheld { hold });
    action
}

/// Told again, perhaps for the other reason: it stays one row, so that none is left open that nothing refers to.
pub fn withhold_again(turn: &mut Turn<'_>, action: &mut Action, by: Withheld) {
    action.stage = Stage::Withheld { told: turn.now(), by };
    turn.save(action);
}
