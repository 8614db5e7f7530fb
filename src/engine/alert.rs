//! The life of one alert: inactive → pending → firing → resolved, as Alertmanager means it; events are told once.
//!
//! It must never resolve or fire on what is not known: an unknown verdict keeps the state that is.

use std::time::Duration;

use crate::model::{AlertState, Feed, HeldReason, Rule, Time, Transition};

/// What a rule says of a subject now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Met,
    /// It fires and hysteresis holds it there.
    Kept,
    NotMet,
    /// Something that happened and should be told once.
    Event,
    /// Something that happened before our time: silent.
    Past,
    Unknown(Feed),
}

/// What becomes of the state.
#[derive(Debug, PartialEq, Eq)]
pub enum Move {
    Stay,
    To(AlertState),
    Forget,
}

/// A transition that people hear of.
#[derive(Debug, PartialEq, Eq)]
pub struct Tell {
    pub transition: Transition,
    /// Tells reminders of one episode apart.
    pub nth: i64,
    pub since: Time,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub next: Move,
    pub tell: Option<Tell>,
    /// Why nothing is told; `None` if something is.
    pub held: Option<HeldReason>,
    pub wake: Option<Time>,
}

impl Step {
    fn stay(held: HeldReason) -> Self {
        Self { next: Move::Stay, tell: None, held: Some(held), wake: None }
    }

    fn to(state: AlertState) -> Self {
        Self { next: Move::To(state), tell: None, held: None, wake: None }
    }

    fn held(mut self, reason: HeldReason, wake: Option<Time>) -> Self {
        self.held = Some(reason);
        self.wake = wake;
        self
    }

    fn telling(mut self, transition: Transition, nth: i64, since: Time) -> Self {
        self.tell = Some(Tell { transition, nth, since });
        self
    }

    fn waking(mut self, wake: Option<Time>) -> Self {
        self.wake = wake;
        self
    }
}

/// One verdict's effect on one alert.
pub fn advance(rule: &Rule, state: Option<&AlertState>, verdict: Verdict, now: Time) -> Step {
    let righted = state.map(|state| not_ahead(state, now));
    let mut step = judge(rule, righted.as_ref(), verdict, now);
    if step.next == Move::Stay
        && let Some(righted) = righted
        && Some(&righted) != state
    {
        step.next = Move::To(righted);
    }
    step
}

fn judge(rule: &Rule, state: Option<&AlertState>, verdict: Verdict, now: Time) -> Step {
    match (verdict, state) {
        (Verdict::Event, Some(AlertState::Told { .. })) | (Verdict::Past, _) => {
            Step::stay(HeldReason::PastEvent)
        }
        (Verdict::Event, _) => tell_event(now),
        (Verdict::Unknown(_), Some(&AlertState::Firing { since, told, cleared })) => {
            stay_firing(rule, Firing { since, told, cleared }, cleared, now)
        }
        (Verdict::Unknown(feed), _) => Step::stay(HeldReason::Unknown { feed }),
        (Verdict::Met | Verdict::Kept, Some(&AlertState::Firing { since, told, cleared })) => {
            stay_firing(rule, Firing { since, told, cleared }, None, now)
        }
        (Verdict::Met | Verdict::Kept, Some(&AlertState::Pending { since })) => ripen(rule, since, now),
        (Verdict::Met | Verdict::Kept, _) => begin(rule, now),
        (Verdict::NotMet, Some(&AlertState::Firing { since, told, cleared })) => {
            cease(rule, Firing { since, told, cleared }, now)
        }
        (Verdict::NotMet, Some(&AlertState::Pending { .. })) => never_fired(),
        (Verdict::NotMet, _) => Step::stay(HeldReason::NotMet),
    }
}

/// A clock that was ahead and was set right must not hold an alert back until the wrong time comes (FAULTS 44).
fn not_ahead(state: &AlertState, now: Time) -> AlertState {
    match *state {
        AlertState::Pending { since } => AlertState::Pending { since: since.min(now) },
        AlertState::Firing { since, told, cleared } => AlertState::Firing {
            since,
            told: told.min(now),
            cleared: cleared.map(|cleared| cleared.min(now)),
        },
        AlertState::Told { at } => AlertState::Told { at },
    }
}

/// The subject is gone from the account: what fired has ceased, what was told needs no memory any more.
pub fn retire(state: &AlertState) -> Step {
    match *state {
        AlertState::Firing { since, .. } => resolve(since),
        AlertState::Pending { .. } | AlertState::Told { .. } => never_fired(),
    }
}

/// The data of `AlertState::Firing`.
#[derive(Clone, Copy)]
struct Firing {
    since: Time,
    told: Time,
    cleared: Option<Time>,
}

impl Firing {
    fn state(self) -> AlertState {
        AlertState::Firing { since: self.since, told: self.told, cleared: self.cleared }
    }
}

fn begin(rule: &Rule, now: Time) -> Step {
    if rule.for_.is_zero() {
        return fire(rule, now, now);
    }
    let until = now.plus(rule.for_);
    Step::to(AlertState::Pending { since: now }).held(HeldReason::Pending { until }, Some(until))
}

fn ripen(rule: &Rule, since: Time, now: Time) -> Step {
    let until = since.plus(rule.for_);
    if now >= until {
        return fire(rule, since, now);
    }
    Step::stay(HeldReason::Pending { until }).waking(Some(until))
}

fn fire(rule: &Rule, since: Time, now: Time) -> Step {
    Step::to(AlertState::Firing { since, told: now, cleared: None })
        .telling(Transition::Firing, 0, since)
        .waking(rule.repeat_interval.map(|repeat| now.plus(repeat)))
}

/// Still firing: reminds when `repeat_interval` has passed since people were last told.
fn stay_firing(rule: &Rule, firing: Firing, cleared: Option<Time>, now: Time) -> Step {
    let next = rule.repeat_interval.map(|repeat| firing.told.plus(repeat));
    if let (Some(repeat), Some(due)) = (rule.repeat_interval, next)
        && now >= due
    {
        // By when people were told last: a changed `repeat_interval` never gives an id twice.
        let nth = firing.told.millis();
        return Step::to(Firing { told: now, cleared, ..firing }.state())
            .telling(Transition::Reminder, nth, firing.since)
            .waking(Some(now.plus(repeat)));
    }
    let held = HeldReason::AlreadyTold { next };
    if cleared == firing.cleared {
        return Step::stay(held).waking(next);
    }
    Step::to(Firing { cleared, ..firing }.state()).held(held, next)
}

fn cease(rule: &Rule, firing: Firing, now: Time) -> Step {
    let cleared = firing.cleared.unwrap_or(now);
    let until = cleared.plus(rule.keep_firing_for);
    if now >= until || rule.keep_firing_for == Duration::ZERO {
        return resolve(firing.since);
    }
    let held = HeldReason::KeptFiring { until: Some(until) };
    if firing.cleared.is_some() {
        return Step::stay(held).waking(Some(until));
    }
    Step::to(Firing { cleared: Some(cleared), ..firing }.state()).held(held, Some(until))
}

fn resolve(since: Time) -> Step {
    Step { next: Move::Forget, tell: None, held: None, wake: None }.telling(Transition::Resolved, 0, since)
}

/// A pending alert whose condition has ceased: nobody heard of it, so nothing happened.
fn never_fired() -> Step {
    Step { next: Move::Forget, tell: None, held: Some(HeldReason::NotMet), wake: None }
}

fn tell_event(now: Time) -> Step {
    Step::to(AlertState::Told { at: now }).telling(Transition::Event, 0, now)
}
