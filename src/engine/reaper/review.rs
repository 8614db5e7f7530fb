//! Looks at one open action: what came back for it, whether it still may go on, and whether its time is up.
//!
//! It must never go on where a gate is closed, nor undo what was handed out: after that only reads decide.

use std::{sync::Arc, time::Duration};

use super::{
    gates::{Phase, pass, taken_by},
    ground::{Case, Ground},
    transitions::{self as go, Turn},
};
use crate::model::{
    ActReceipt, Action, Came, Check, DeleteAnswer, FinalRead, Hold, Policy, Presence, Proof, Slot, Stage,
    Time, Tracked, Why, action::CONFIRM_WITHIN,
};

/// Nothing came back for an act: it is given up (and a DELETE is in doubt).
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// A mark that nobody is told of within this is over; so is an announcement this long after its slot.
pub const LATE_AFTER: Duration = Duration::from_secs(3_600);
/// So many reads in a row have to show the end.
const READS_TO_END: u8 = 2;

pub fn review(turn: &mut Turn<'_>, action: &mut Action) {
    match action.stage.clone() {
        Stage::Marked { .. } => marked(turn, action),
        Stage::Announced { slot, .. } => announced(turn, action, slot),
        Stage::Reading { slot, asked } => reading(turn, action, slot, asked),
        Stage::Checking { slot, read, asked } => checking(turn, action, slot, &read, asked),
        Stage::Committing { slot, read, check, asked } => {
            committing(turn, action, slot, (&read, &check), asked);
        }
        Stage::Requested { asked, .. } => requested(turn, action, asked),
        Stage::Verifying { proof } => verifying(turn, action, proof),
        Stage::InDoubt { proof, refused } => in_doubt(turn, action, proof, refused),
        Stage::Withheld { .. }
        | Stage::Gone { .. }
        | Stage::Refused { .. }
        | Stage::Expired { .. }
        | Stage::Cancelled { .. } => {}
    }
}

/// Why an action that was not handed out yet ends here, whatever its stage.
fn stopped(ground: &Ground<'_>, action: &Action) -> Option<Why> {
    // What was ordered since the copy is not known: a keep, a disarming or a cancel may be among it (FAULTS 38).
    if ground.snapshot.restored.is_some() {
        return Some(Why::Restored);
    }
    let Some(policy) = ground.policies.policies.iter().find(|policy| policy.name == action.policy) else {
        return Some(Why::PolicyRemoved);
    };
    if let Some(cancel) = ground.snapshot.cancels.get(&action.id) {
        return Some(Why::CancelledBy { by: cancel.by.clone() });
    }
    let ended = |how: &str| Some(Why::EndedElsewhere { how: how.into() });
    let Some(tracked) = ground.snapshot.deployments.get(&action.target.id) else {
        return ended("it is no longer watched");
    };
    if tracked.deployment.created_at != action.target.created_at {
        return ended("its id names another deployment now");
    }
    if matches!(tracked.presence, Presence::Gone(_)) || tracked.deployment.status.is_ended() {
        return ended(&format!("it is `{}` or gone", tracked.deployment.status));
    }
    // An arming that came after a disarming is another one: what was marked under the first starts over.
    if ground.fingerprints.get(&policy.name) != Some(&action.fingerprint) {
        return Some(Why::Held { hold: Hold::ArmedOtherwise });
    }
    let case = Case { action: Some(action), ..Case::new(ground, policy, tracked) };
    match pass(&case, Phase::Start) {
        Err(hold) if hold.cancels() => Some(Why::Held { hold }),
        Err(_) | Ok(()) => None,
    }
}

/// The gates for an action that goes on, with what its reads saw. Policy and deployment are there: `stopped` has looked.
fn gates(
    ground: &Ground<'_>,
    action: &Action,
    phase: Phase,
    reads: (Option<&FinalRead>, Option<&Check>),
) -> Result<(), Hold> {
    let (policy, tracked) = parties(ground, action).ok_or(Hold::Missing)?;
    let (read, check) = reads;
    pass(&Case { action: Some(action), read, check, ..Case::new(ground, policy, tracked) }, phase)
}

pub fn parties<'a>(ground: &Ground<'a>, action: &Action) -> Option<(&'a Policy, &'a Tracked)> {
    let policy = ground.policies.policies.iter().find(|policy| policy.name == action.policy)?;
    let tracked = ground.snapshot.deployments.get(&action.target.id)?;
    (tracked.deployment.created_at == action.target.created_at).then_some((policy, tracked))
}

/// The receipt of the last act, if it is in.
fn receipt<'a>(ground: &Ground<'a>, action: &Action) -> Option<&'a Arc<ActReceipt>> {
    ground.snapshot.receipts.get(&action.id).filter(|receipt| receipt.seq == action.seq)
}

/// Also where the clock was set back: then nobody knows how long it has been.
fn overdue(asked: Time, now: Time) -> bool {
    asked > now || now.since(asked) > ANSWER_WITHIN
}

/// One that a gate closed on the way: over, or back to where it was announced.
fn close(turn: &mut Turn<'_>, action: &mut Action, hold: Hold) {
    let cancels = hold.cancels();
    let why = Why::Held { hold };
    if cancels { go::cancel(turn, action, why) } else { go::retreat(turn, action, why) }
}

/// Whether the action ended here: stopped, or too late.
fn over(turn: &mut Turn<'_>, action: &mut Action, slot: Option<Slot>) -> bool {
    if let Some(why) = stopped(&turn.ground, action) {
        go::cancel(turn, action, why);
        return true;
    }
    let Some(slot) = slot else { return false };
    let last = slot.at.plus(LATE_AFTER);
    if turn.now() > last {
        go::expire(turn, action, Why::SlotPassed);
        return true;
    }
    turn.wake(last.plus(Duration::from_millis(1)), "an action's slot");
    false
}

fn marked(turn: &mut Turn<'_>, action: &mut Action) {
    if over(turn, action, None) {
        return;
    }
    let ground = &turn.ground;
    let Some((policy, tracked)) = parties(ground, action) else { return };
    let case = Case::new(ground, policy, tracked);
    // The grace is measured by our clock: it begins only while that can be trusted.
    let sane = super::gates::clock_sane(&case).is_ok() && super::gates::data_fresh(&case).is_ok();
    let taken = taken_by(&case, &super::words::announcement_id(action)).cloned();
    if let Some(receiver) = taken.filter(|_| sane) {
        go::announce(turn, action, policy, receiver);
        return;
    }
    let last = action.marked.plus(LATE_AFTER);
    if turn.now() > last {
        go::expire(turn, action, Why::NobodyTold);
    } else {
        turn.wake(last.plus(Duration::from_millis(1)), "an announcement that nobody takes");
    }
}

fn announced(turn: &mut Turn<'_>, action: &mut Action, slot: Slot) {
    if over(turn, action, Some(slot)) {
        return;
    }
    let now = turn.now();
    let half = slot.told.plus(slot.at.since(slot.told) / 2);
    if !slot.reminded && now >= half && now < slot.at {
        go::remind(turn, action);
    } else if !slot.reminded {
        turn.wake(half, "half of a grace");
    }
}

fn reading(turn: &mut Turn<'_>, action: &mut Action, slot: Slot, asked: Time) {
    if over(turn, action, Some(slot)) {
        return;
    }
    let Some(receipt) = receipt(&turn.ground, action) else { return wait(turn, action, asked) };
    match &receipt.came {
        Came::Read(Ok(Some(deployment))) => {
            let (sent, skew_ms) = (receipt.sent, receipt.skew_ms);
            let read = FinalRead { sent, skew_ms, deployment: deployment.clone() };
            match gates(&turn.ground, action, Phase::Read, (Some(&read), None)) {
                Ok(()) => go::ask_can_terminate(turn, action, read),
                Err(hold) => close(turn, action, hold),
            }
        }
        Came::Read(Ok(None)) => close(turn, action, Hold::ReadGone),
        Came::Read(Err(failure)) => failed(turn, action, &failure.message),
        Came::CanTerminate(_) | Came::Commit(_) | Came::Delete(_) => failed(turn, action, ANOTHER_ACT),
    }
}

fn checking(turn: &mut Turn<'_>, action: &mut Action, slot: Slot, read: &FinalRead, asked: Time) {
    if over(turn, action, Some(slot)) {
        return;
    }
    let Some(receipt) = receipt(&turn.ground, action) else { return wait(turn, action, asked) };
    match &receipt.came {
        Came::CanTerminate(Ok(Some(answer))) => {
            let check = Check { sent: receipt.sent, skew_ms: receipt.skew_ms, answer: *answer };
            match gates(&turn.ground, action, Phase::Delete, (Some(read), Some(&check))) {
                Ok(()) => go::commit_intent(turn, action, check),
                Err(Hold::CannotTerminate { minutes } | Hold::Contradictory { minutes }) => {
                    go::postpone(turn, action, minutes);
                }
                Err(hold) => close(turn, action, hold),
            }
        }
        // 404 means that it is gone, and not by us: the lists say so soon, and until then nothing is done (FAULTS 11).
        Came::CanTerminate(Ok(None)) => close(turn, action, Hold::ReadGone),
        Came::CanTerminate(Err(failure)) => failed(turn, action, &failure.message),
        Came::Read(_) | Came::Commit(_) | Came::Delete(_) => failed(turn, action, ANOTHER_ACT),
    }
}

fn committing(
    turn: &mut Turn<'_>,
    action: &mut Action,
    slot: Slot,
    (read, check): (&FinalRead, &Check),
    asked: Time,
) {
    if over(turn, action, Some(slot)) {
        return;
    }
    let Some(receipt) = receipt(&turn.ground, action) else { return wait(turn, action, asked) };
    match &receipt.came {
        Came::Commit(Ok(())) => match gates(&turn.ground, action, Phase::Delete, (Some(read), Some(check))) {
            Ok(()) => go::request(turn, action),
            Err(hold) => close(turn, action, hold),
        },
        Came::Commit(Err(why)) => failed(turn, action, why),
        Came::Read(_) | Came::CanTerminate(_) | Came::Delete(_) => failed(turn, action, ANOTHER_ACT),
    }
}

const ANOTHER_ACT: &str = "the receipt is that of another act";

fn failed(turn: &mut Turn<'_>, action: &mut Action, why: &str) {
    go::retreat(turn, action, Why::Failed { why: why.into() });
}

fn wait(turn: &mut Turn<'_>, action: &mut Action, asked: Time) {
    if overdue(asked, turn.now()) {
        go::retreat(turn, action, Why::NoReceipt);
    } else {
        turn.wake(asked.plus(ANSWER_WITHIN).plus(Duration::from_millis(1)), "an answer that does not come");
    }
}

/// The answer alone decides nothing but that there is, or is not yet, something to read.
fn requested(turn: &mut Turn<'_>, action: &mut Action, asked: Time) {
    let lost = |why: &Arc<str>| Why::AnswerLost { why: why.clone() };
    let Some(receipt) = receipt(&turn.ground, action) else {
        if overdue(asked, turn.now()) {
            return go::doubt(turn, action, None, lost(&"nothing came back in time".into()));
        }
        return turn
            .wake(asked.plus(ANSWER_WITHIN).plus(Duration::from_millis(1)), "an answer that does not come");
    };
    match &receipt.came {
        Came::Delete(DeleteAnswer::Accepted) => go::verify(turn, action, Why::Accepted),
        Came::Delete(DeleteAnswer::Ended { status }) => {
            go::verify(turn, action, Why::SaidEnded { said: format!("`{status}`").into() });
        }
        Came::Delete(DeleteAnswer::NotFound) => {
            go::verify(turn, action, Why::SaidEnded { said: "that it is not there (404)".into() });
        }
        Came::Delete(DeleteAnswer::MinimumRuntime { minutes }) => go::postpone(turn, action, *minutes),
        Came::Delete(DeleteAnswer::NotSent { why }) => failed(turn, action, why),
        Came::Delete(DeleteAnswer::AskedToWait { until }) => go::hold_off(turn, action, *until),
        Came::Delete(DeleteAnswer::Refused { why }) => {
            go::doubt(turn, action, Some(why.clone()), Why::ApiRefused { why: why.clone() });
        }
        Came::Delete(DeleteAnswer::Lost { why }) => go::doubt(turn, action, None, lost(why)),
        Came::Read(_) | Came::CanTerminate(_) | Came::Commit(_) => {
            go::doubt(turn, action, None, lost(&ANOTHER_ACT.into()));
        }
    }
}

/// What a read after the DELETE shows: ended, or not; `None`: nothing.
fn shown(ground: &Ground<'_>, action: &Action, proof: Proof) -> Option<bool> {
    proof.asked?;
    match &receipt(ground, action)?.came {
        Came::Read(Ok(None)) => Some(true),
        Came::Read(Ok(Some(read))) => {
            Some(read.status.is_ended() || read.created_at != action.target.created_at)
        }
        Came::Read(Err(_)) | Came::CanTerminate(_) | Came::Commit(_) | Came::Delete(_) => None,
    }
}

fn verifying(turn: &mut Turn<'_>, action: &mut Action, proof: Proof) {
    match shown(&turn.ground, action, proof) {
        Some(true) if proof.ended + 1 >= READS_TO_END => return go::gone(turn, action),
        Some(true) => go::note_proof(turn, action, proof.ended + 1),
        Some(false) => go::note_proof(turn, action, 0),
        None => {}
    }
    next_read(turn, action);
}

fn in_doubt(turn: &mut Turn<'_>, action: &mut Action, proof: Proof, refused: Option<Arc<str>>) {
    match (shown(&turn.ground, action, proof), refused) {
        (Some(true), _) => return go::verify(turn, action, Why::ShownEnded),
        (Some(false), Some(why)) => return go::refuse(turn, action, why),
        (Some(false), None) if turn.now().since(proof.requested) >= CONFIRM_WITHIN => {
            return go::expire(turn, action, Why::StillRunning);
        }
        (Some(false), None) => go::note_proof(turn, action, 0),
        (None, _) => {}
    }
    next_read(turn, action);
}

/// Asks when it is time, again where nothing came back, and tells when it has been too long.
fn next_read(turn: &mut Turn<'_>, action: &mut Action) {
    let (Stage::Verifying { proof } | Stage::InDoubt { proof, .. }) = action.stage else { return };
    let now = turn.now();
    let late = proof.requested.plus(CONFIRM_WITHIN);
    if !proof.late && now >= late {
        go::tell_not_confirmed(turn, action);
    } else if !proof.late {
        turn.wake(late, "an end that is not confirmed");
    }
    // A failed read counts for nothing, and waits like any other for its turn.
    let answered = receipt(&turn.ground, action).is_some();
    let due = match proof.asked {
        Some(asked) if answered => asked.plus(go::VERIFY_EVERY),
        Some(asked) if overdue(asked, now) => now,
        Some(asked) => asked.plus(ANSWER_WITHIN).plus(Duration::from_millis(1)),
        None => proof.next,
    };
    // After the clock was set back a read that is far ahead is due now.
    if now >= due || due.since(now) > go::VERIFY_LATE_EVERY {
        go::ask_again(turn, action);
    } else {
        turn.wake(due, "a read after an end was requested");
    }
}
