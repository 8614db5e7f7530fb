//! What one step decided: what to tell, when to look again, and the record that commits it; and why the rest tells nothing.
//!
//! It must never hold an effect: effects read committed rows.

use std::sync::Arc;

use super::{
    Act, Action, ActionId, AlertKey, AlertState, Audit, Change, Charge, FailureKind, Feed, Group, GroupKey,
    Hold, Line, Notice, Outcome, Purse, Shift, StageName, Subject, Target, TeamId, Time, Wish,
};

#[must_use = "decisions that are not committed are lost alerts"]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    pub notices: Vec<Notice>,
    /// States that changed; `None` removes the row.
    pub alerts: Vec<(AlertKey, Option<AlertState>)>,
    /// Groups that changed; `None` removes the row.
    pub groups: Vec<(GroupKey, Option<Group>)>,
    /// The ledger: lines that changed (`None` removes the row), and what they add to the rollups.
    pub lines: Vec<(Subject, Option<Line>)>,
    pub charges: Vec<Charge>,
    pub purses: Vec<(TeamId, Purse)>,
    /// Rows that changed. A closed one stays in the store; the engine forgets it once it no longer matters.
    pub actions: Vec<Action>,
    /// Every transition of them.
    pub shifts: Vec<Shift>,
    /// To be performed once these decisions are committed.
    pub acts: Vec<Act>,
    pub wake: Option<Wake>,
}

/// When to step again even if nothing is observed until then, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wake {
    pub at: Time,
    pub why: &'static str,
}

/// A rule and a subject that tell nothing now, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub rule: Arc<str>,
    pub subject: Subject,
    pub reason: HeldReason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldReason {
    /// The condition does not hold.
    NotMet,
    /// It holds, but `for` lasts until then.
    Pending { until: Time },
    /// It fires already and people were told; the next reminder, if any.
    AlreadyTold { next: Option<Time> },
    /// It has ceased, but `keep_firing_for` or hysteresis holds it.
    KeptFiring { until: Option<Time> },
    /// An event that was told, or that lies before our time.
    PastEvent,
    /// What it needs to know is not known: the last state stays.
    Unknown { feed: Feed },
    /// It fires or happened, and a person does not want to hear of it until then.
    Silenced { id: Arc<str>, until: Time },
    /// It fires, and is told when this rule has ceased: what it rests on is not seen now.
    Inhibited { by: Arc<str> },
    /// No activity source measures it, or the last measurement is too old: unknown is never idle.
    Unmeasured,
    /// The rule's matcher leaves this subject out.
    NotMatched,
}

/// Where one policy stands with one deployment, for those who ask why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyVerdict {
    pub policy: Arc<str>,
    pub target: Target,
    pub armed: bool,
    /// The action that there is, of whichever policy, and where it stands.
    pub action: Option<(ActionId, StageName)>,
    /// What each condition looks at, by its limit.
    pub inputs: Vec<(String, String)>,
    /// Every gate that is closed for the next step; none: it is taken.
    pub holds: Vec<Hold>,
    /// When something happens next if nothing changes, and what.
    pub next: Option<(Time, &'static str)>,
    /// What would stop it.
    pub stops: Vec<&'static str>,
}

/// Everything one step commits, in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepRecord {
    pub at: Time,
    pub polls: Vec<PollRow>,
    pub changes: Vec<Change>,
    pub alerts: Vec<(AlertKey, Option<AlertState>)>,
    pub notices: Vec<Notice>,
    pub groups: Vec<(GroupKey, Option<Group>)>,
    pub lines: Vec<(Subject, Option<Line>)>,
    pub charges: Vec<Charge>,
    pub purses: Vec<(TeamId, Purse)>,
    pub actions: Vec<Action>,
    pub shifts: Vec<Shift>,
    pub wishes: Vec<Wish>,
    /// What people ordered since the last one.
    pub audit: Vec<Audit>,
}

impl StepRecord {
    pub fn is_empty(&self) -> bool {
        self.polls.is_empty() && self.is_quiet()
    }

    /// Nothing but polls that saw what was there before.
    pub fn is_quiet(&self) -> bool {
        self.changes.is_empty()
            && self.alerts.is_empty()
            && self.notices.is_empty()
            && self.groups.is_empty()
            && self.lines.is_empty()
            && self.charges.is_empty()
            && self.purses.is_empty()
            && self.actions.is_empty()
            && self.shifts.is_empty()
            && self.wishes.is_empty()
            && self.audit.is_empty()
    }
}

/// One line of the poll log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollRow {
    pub feed: Feed,
    pub at: Time,
    pub outcome: Outcome,
    pub items: u32,
    pub failure: Option<FailureKind>,
    pub trouble: Option<Arc<str>>,
}
