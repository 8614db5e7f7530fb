//! The life of one alert: inactive → pending → firing → resolved, as Alertmanager means it; events are told once.
//!
//! It must never resolve or fire on what is not known: an unknown verdict keeps the state that is.

use std::time::Duration;

use crate::model::{
    AlertState, Feed, HeldReason, Rule, Time, Transition,
    alert::{FLAPS, FLAPS_WITHIN, flaps},
};

/// Flapping is over when the condition has not held for this long.
pub const FLAPPING_KEEPS: Duration = Duration::from_secs(1_800);

/// What a rule says of a subject now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Met,
    /// It fires and hysteresis holds it there.
    Kept,
    NotMet,
    /// Something that happened, seen then, and should be told once.
    Event(Time),
    /// Something that happened before our time: silent.
    Past,
    Unknown(Feed),
    /// No source measures what the rule is about, or none did lately.
    Unmeasured,
    /// The rule's matcher leaves the subject out.
    NotMatched,
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
    pub flapping: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub next: Move,
    pub tell: Option<Tell>,
    /// Why nothing is told; `None` if something is.
    pub held: Option<HeldReason>,
    pub wake: Option<Time>,
}

/// Whether what an alert rests on was seen without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    Steady,
    /// Not seen for longer than the tolerance.
    Stale(Feed),
    /// Seen again at this time, after a gap beyond the tolerance.
    Resumed(Time),
}

/// All that decides what one verdict does to one alert.
pub struct Case<'a> {
    pub rule: &'a Rule,
    pub now: Time,
    pub evidence: Evidence,
    /// Why people must not hear of a transition now, if so.
    pub hush: &'a dyn Fn(Transition) -> Option<HeldReason>,
    /// When something joined what fires: who was told before that is told again.
    pub news: Option<Time>,
}

impl Step {
    fn stay(held: HeldReason) -> Self {
        Self { next: Move::Stay, tell: None, held: Some(held), wake: None }
    }

    fn to(state: AlertState) -> Self {
        Self { next: Move::To(state), tell: None, held: None, wake: None }
    }

    fn forget() -> Self {
        Self { next: Move::Forget, tell: None, held: None, wake: None }
    }

    fn held(mut self, reason: HeldReason, wake: Option<Time>) -> Self {
        self.held = Some(reason);
        self.wake = wake;
        self
    }

    /// A better reason than that it is as it was.
    fn because(mut self, reason: HeldReason) -> Self {
        if matches!(self.held, Some(HeldReason::AlreadyTold { .. } | HeldReason::NotMet)) {
            self.held = Some(reason);
        }
        self
    }

    fn telling(mut self, transition: Transition, nth: i64, since: Time) -> Self {
        self.tell = Some(Tell { transition, nth, since, flapping: false });
        self
    }

    fn waking(mut self, wake: Option<Time>) -> Self {
        self.wake = wake;
        self
    }
}

/// One verdict's effect on one alert.
pub fn advance(case: &Case<'_>, state: Option<&AlertState>, verdict: Verdict) -> Step {
    let righted = state.map(|state| not_ahead(state, case.now));
    let mut step = judge(case, righted.as_ref(), verdict);
    if step.next == Move::Stay
        && let Some(righted) = righted
        && Some(&righted) != state
    {
        step.next = Move::To(righted);
    }
    step
}

fn judge(case: &Case<'_>, state: Option<&AlertState>, verdict: Verdict) -> Step {
    let firing = state.and_then(Firing::of);
    match (verdict, state, firing) {
        (Verdict::Event(at), Some(AlertState::Told { at: told }), _) if at == *told => {
            Step::stay(HeldReason::PastEvent)
        }
        (Verdict::Past, _, _) => Step::stay(HeldReason::PastEvent),
        (Verdict::Event(at), _, _) => case.tell_event(at),
        (Verdict::Unknown(feed), _, firing) => case.unknown(firing, HeldReason::Unknown { feed }),
        (Verdict::Unmeasured, _, firing) => case.unknown(firing, HeldReason::Unmeasured),
        (Verdict::NotMatched, None | Some(AlertState::Told { .. }), _) => Step::stay(HeldReason::NotMatched),
        (Verdict::NotMatched, Some(state), _) => retire(state).because(HeldReason::NotMatched),
        (Verdict::Met, _, Some(firing)) => case.stay_firing(firing, None),
        (Verdict::Kept, _, Some(firing)) => {
            case.stay_firing(firing, None).because(HeldReason::KeptFiring { until: None })
        }
        (Verdict::Met | Verdict::Kept, Some(AlertState::Pending { since, fired }), None) => {
            case.ripen(*since, fired)
        }
        (Verdict::Met | Verdict::Kept, _, None) => case.begin(fired(state)),
        (Verdict::NotMet, _, Some(firing)) => case.cease(firing),
        (Verdict::NotMet, Some(AlertState::Pending { fired, .. }), None) => {
            // Nobody heard of it, so nothing happened.
            case.rest(fired).held(HeldReason::NotMet, case.forgets(fired))
        }
        (Verdict::NotMet, Some(AlertState::Quiet { fired }), None) => match case.forgets(fired) {
            Some(wake) => Step::stay(HeldReason::NotMet).waking(Some(wake)),
            None => Step::forget().held(HeldReason::NotMet, None),
        },
        (Verdict::NotMet, _, None) => Step::stay(HeldReason::NotMet),
    }
}

/// A clock that was ahead and was set right must not hold an alert back until the wrong time comes (FAULTS 44).
fn not_ahead(state: &AlertState, now: Time) -> AlertState {
    let past = |fired: &[Time]| fired.iter().map(|at| (*at).min(now)).collect();
    match state {
        AlertState::Pending { since, fired } => {
            AlertState::Pending { since: (*since).min(now), fired: past(fired) }
        }
        AlertState::Firing { since, told, cleared, fired } => AlertState::Firing {
            since: *since,
            told: told.map(|told| told.min(now)),
            cleared: cleared.map(|cleared| cleared.min(now)),
            fired: past(fired),
        },
        AlertState::Told { at } => AlertState::Told { at: *at },
        AlertState::Quiet { fired } => AlertState::Quiet { fired: past(fired) },
    }
}

/// The subject is gone from the account: what fired has ceased, what was told needs no memory any more.
pub fn retire(state: &AlertState) -> Step {
    match state {
        AlertState::Firing { since, told: Some(_), .. } => {
            Step::forget().telling(Transition::Resolved, 0, *since)
        }
        AlertState::Firing { .. }
        | AlertState::Pending { .. }
        | AlertState::Told { .. }
        | AlertState::Quiet { .. } => Step::forget().held(HeldReason::NotMet, None),
    }
}

/// The data of `AlertState::Firing`.
#[derive(Clone, PartialEq, Eq)]
struct Firing {
    since: Time,
    told: Option<Time>,
    cleared: Option<Time>,
    fired: Vec<Time>,
}

impl Firing {
    fn of(state: &AlertState) -> Option<Self> {
        match state {
            AlertState::Firing { since, told, cleared, fired } => {
                Some(Self { since: *since, told: *told, cleared: *cleared, fired: fired.clone() })
            }
            AlertState::Pending { .. } | AlertState::Told { .. } | AlertState::Quiet { .. } => None,
        }
    }

    fn state(self) -> AlertState {
        let Self { since, told, cleared, fired } = self;
        AlertState::Firing { since, told, cleared, fired }
    }
}

impl Case<'_> {
    fn begin(&self, fired: &[Time]) -> Step {
        if self.rule.for_.is_zero() {
            return self.fire(self.now, fired);
        }
        let until = self.now.plus(self.rule.for_);
        let state = AlertState::Pending { since: self.now, fired: fired.to_vec() };
        Step::to(state).held(HeldReason::Pending { until }, Some(until))
    }

    /// `for` must be filled by evidence: what was not seen for too long may have ceased meanwhile (FAULTS 50).
    fn ripen(&self, since: Time, fired: &[Time]) -> Step {
        match self.evidence {
            Evidence::Stale(feed) => return Step::stay(HeldReason::Unknown { feed }),
            Evidence::Resumed(at) if since < at => return self.begin(fired),
            Evidence::Resumed(_) | Evidence::Steady => {}
        }
        let until = since.plus(self.rule.for_);
        if self.now >= until {
            return self.fire(since, fired);
        }
        Step::stay(HeldReason::Pending { until }).waking(Some(until))
    }

    fn fire(&self, since: Time, fired: &[Time]) -> Step {
        let firing = Firing { since, told: None, cleared: None, fired: began(fired, self.now) };
        match (self.hush)(Transition::Firing) {
            Some(reason) => Step::to(firing.state()).held(reason, None),
            None => self.tell_firing(firing),
        }
    }

    fn tell_firing(&self, firing: Firing) -> Step {
        let (since, flapping) = (firing.since, flaps(&firing.fired, self.now));
        let mut step = Step::to(Firing { told: Some(self.now), ..firing }.state())
            .telling(Transition::Firing, 0, since)
            .waking(self.rule.repeat_interval.map(|repeat| self.now.plus(repeat)));
        step.tell.iter_mut().for_each(|tell| tell.flapping = flapping);
        step
    }

    /// Still firing: told now if it could not be before, and again when `repeat_interval` has passed since.
    fn stay_firing(&self, before: Firing, cleared: Option<Time>) -> Step {
        let mut firing = Firing { cleared, ..before.clone() };
        if before.cleared.is_some_and(|at| cleared.is_none() && flaps(&before.fired, at)) {
            firing.fired = began(&before.fired, self.now);
        }
        let Some(told) = firing.told else {
            return match (self.hush)(Transition::Firing) {
                Some(reason) => settled(&before, firing, reason, None),
                None => self.tell_firing(firing),
            };
        };
        let next = self.rule.repeat_interval.map(|repeat| told.plus(repeat));
        let due = next.is_some_and(|next| self.now >= next);
        if !due && !self.news.is_some_and(|at| told < at && at <= self.now) {
            // Who silenced it wants to see that, also before a reminder is due.
            let held = (self.hush)(Transition::Reminder).unwrap_or(HeldReason::AlreadyTold { next });
            return settled(&before, firing, held, next);
        }
        if let Some(reason) = (self.hush)(Transition::Reminder) {
            return settled(&before, firing, reason, None);
        }
        // By when people were told last: a changed `repeat_interval` never gives an id twice.
        let nth = told.millis();
        let (since, flapping) = (firing.since, flaps(&firing.fired, self.now));
        let mut step = Step::to(Firing { told: Some(self.now), ..firing }.state())
            .telling(Transition::Reminder, nth, since)
            .waking(self.rule.repeat_interval.map(|repeat| self.now.plus(repeat)));
        step.tell.iter_mut().for_each(|tell| tell.flapping = flapping);
        step
    }

    /// What fires goes on, reminders included; nothing begins or ends.
    fn unknown(&self, firing: Option<Firing>, why: HeldReason) -> Step {
        let Some(firing) = firing else { return Step::stay(why) };
        let cleared = firing.cleared;
        self.stay_firing(firing, cleared).because(why)
    }

    fn cease(&self, firing: Firing) -> Step {
        let cleared = firing.cleared.unwrap_or(self.now);
        let keep = match flaps(&firing.fired, cleared) {
            true => self.rule.keep_firing_for.max(FLAPPING_KEEPS),
            false => self.rule.keep_firing_for,
        };
        let until = cleared.plus(keep);
        if self.now >= until {
            let over = self.rest(&firing.fired);
            return match firing.told {
                // Also under a silence: it closes what people heard of.
                Some(_) => {
                    over.telling(Transition::Resolved, 0, firing.since).waking(self.forgets(&firing.fired))
                }
                None => over.held(HeldReason::NotMet, self.forgets(&firing.fired)),
            };
        }
        let held = HeldReason::KeptFiring { until: Some(until) };
        settled(&firing, Firing { cleared: Some(cleared), ..firing.clone() }, held, Some(until))
    }

    /// Inactive again; it is remembered as long as it may turn out to be flapping.
    fn rest(&self, fired: &[Time]) -> Step {
        match self.forgets(fired) {
            Some(_) => Step::to(AlertState::Quiet { fired: fired.to_vec() }),
            None => Step::forget(),
        }
    }

    /// When an inactive alert needs no memory any more; `None`: now.
    fn forgets(&self, fired: &[Time]) -> Option<Time> {
        let until = fired.last()?.plus(FLAPS_WITHIN);
        (self.now < until && self.now.plus(FLAPS_WITHIN) >= until).then_some(until)
    }

    /// Identified by when it was seen to happen: the next one of the same subject is another.
    fn tell_event(&self, at: Time) -> Step {
        let told = Step::to(AlertState::Told { at });
        match (self.hush)(Transition::Event) {
            None => told.telling(Transition::Event, 0, at),
            Some(reason @ HeldReason::Inhibited { .. }) => Step::stay(reason),
            Some(reason) => told.held(reason, None),
        }
    }
}

fn settled(before: &Firing, after: Firing, held: HeldReason, wake: Option<Time>) -> Step {
    let step = if *before == after { Step::stay(held.clone()) } else { Step::to(after.state()) };
    step.held(held, wake)
}

/// When it began to fire lately, so far.
fn fired(state: Option<&AlertState>) -> &[Time] {
    match state {
        Some(
            AlertState::Pending { fired, .. }
            | AlertState::Firing { fired, .. }
            | AlertState::Quiet { fired },
        ) => fired,
        Some(AlertState::Told { .. }) | None => &[],
    }
}

/// With this beginning.
fn began(fired: &[Time], now: Time) -> Vec<Time> {
    let recent = fired.iter().copied().filter(|at| now.since(*at) <= FLAPS_WITHIN).chain([now]);
    let recent: Vec<Time> = recent.collect();
    recent.get(recent.len().saturating_sub(FLAPS)..).unwrap_or_default().to_vec()
}
