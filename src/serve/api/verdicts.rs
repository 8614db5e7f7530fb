//! Where each policy stands with one deployment: what it looked at, every reason why it is not ended now, and what would stop it.
//!
//! It must never judge anew: it says what the engine says, and nothing of what no policy judges.

use serde::{Deserialize, Serialize};

use super::{At, Look, Next, policies};
use crate::model::{Hold, Policy, PolicyVerdict, StageName, Target, Tracked};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyPolicy {
    pub policy: String,
    pub armed: bool,
    /// Where its action stands: `marked`, `announced`, `final_read`, `can_terminate`, `committing`, `requested`, `verifying` or
    /// `in_doubt`. Without one: `not_matched`, `protected`, `kept`, `claimed` by another policy, `not_met`, `held`, `dry_run`
    /// (nothing but that keeps it), `due`, or `unjudged`.
    pub verdict: String,
    /// The action that there is for the deployment, of whichever policy.
    pub action: Option<String>,
    pub inputs: Vec<Input>,
    /// Every gate that is closed; none: the next step is taken.
    pub reasons: Vec<String>,
    /// When time alone has opened the last of them; `null` where something else has to change.
    pub until: Option<At>,
    pub next: Option<Next>,
    pub stops: Vec<String>,
}

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    pub condition: String,
    pub value: String,
}

/// One for each policy.
pub fn all(look: Look<'_>, tracked: &Tracked) -> Vec<WhyPolicy> {
    let target = Target::of(&tracked.deployment);
    let verdicts = look.policies.map(|reasons| &*reasons.verdicts).unwrap_or_default();
    let of = |policy: &Policy| {
        let known = verdicts.iter().find(|known| known.policy == policy.name && known.target == target);
        known.map_or_else(|| unjudged(look, policy, tracked), |known| why(look, known))
    };
    look.view.policies.policies.iter().map(of).collect()
}

fn unjudged(look: Look<'_>, policy: &Policy, tracked: &Tracked) -> WhyPolicy {
    let reason = if tracked.is_live() {
        "the policy does not judge it now"
    } else {
        "it does not run: policies look only at what does"
    };
    WhyPolicy {
        policy: policy.name.to_string(),
        armed: policies::is_armed(look, policy),
        verdict: "unjudged".to_owned(),
        action: None,
        inputs: Vec::new(),
        reasons: vec![reason.to_owned()],
        until: None,
        next: None,
        stops: Vec::new(),
    }
}

fn why(look: Look<'_>, known: &PolicyVerdict) -> WhyPolicy {
    let untils: Option<Vec<_>> = known.holds.iter().map(Hold::until).collect();
    WhyPolicy {
        policy: known.policy.to_string(),
        armed: known.armed,
        verdict: word(known).to_owned(),
        action: known.action.as_ref().map(|(id, _)| id.to_string()),
        inputs: known
            .inputs
            .iter()
            .map(|(condition, value)| Input { condition: condition.clone(), value: value.clone() })
            .collect(),
        reasons: known.holds.iter().map(ToString::to_string).collect(),
        until: untils.and_then(|untils| untils.into_iter().max()).map(At),
        next: known
            .next
            .filter(|(at, _)| *at > look.now)
            .map(|(at, what)| Next { at: At(at), what: what.to_owned() }),
        stops: known.stops.iter().map(|&stop| stop.to_owned()).collect(),
    }
}

/// The strongest reason in a word.
fn word(known: &PolicyVerdict) -> &'static str {
    let has = |fits: fn(&Hold) -> bool| known.holds.iter().any(fits);
    let claimed = has(|hold| matches!(hold, Hold::Claimed { .. }));
    if let Some((_, stage)) = known.action.as_ref().filter(|_| !claimed) {
        return stage_word(*stage);
    }
    let unmet = |hold: &Hold| {
        matches!(
            hold,
            Hold::NoCondition
                | Hold::Busy
                | Hold::Unmeasured
                | Hold::NotIdleLong { .. }
                | Hold::NotRunningLong { .. }
                | Hold::RunwayUnknown
                | Hold::RunwayOnce
                | Hold::RunwayEnough { .. }
                | Hold::SpendsLess { .. }
                | Hold::WorkingHours { .. }
        )
    };
    let dry = |hold: &Hold| matches!(hold, Hold::NotArmed | Hold::ArmedOtherwise);
    if known.holds.is_empty() {
        "due"
    } else if has(|hold| matches!(hold, Hold::NoSelector | Hold::NotMatched)) {
        "not_matched"
    } else if has(|hold| matches!(hold, Hold::Protected { .. })) {
        "protected"
    } else if has(|hold| matches!(hold, Hold::Kept { .. })) {
        "kept"
    } else if claimed {
        "claimed"
    } else if has(unmet) {
        "not_met"
    } else if known.holds.iter().all(dry) {
        "dry_run"
    } else {
        "held"
    }
}

fn stage_word(stage: StageName) -> &'static str {
    match stage {
        StageName::Withheld => "held",
        StageName::Marked => "marked",
        StageName::Announced => "announced",
        StageName::Reading => "final_read",
        StageName::Checking => "can_terminate",
        StageName::Committing => "committing",
        StageName::Requested => "requested",
        StageName::Verifying => "verifying",
        StageName::InDoubt => "in_doubt",
        StageName::Gone => "gone",
        StageName::Refused => "refused",
        StageName::Expired => "expired",
        StageName::Cancelled => "cancelled",
    }
}
