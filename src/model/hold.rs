//! Why an action takes a step, and why nothing is done: each as a value with its data, and in words for people.
//!
//! It must never say more than is known, nor leave anybody without the time when it may change, where there is one.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Feed, Time, Usd, humanize};

/// A gate that does not let a deployment pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Hold {
    // The policy and the deployment.
    NotArmed,
    ArmedOtherwise,
    NoSelector,
    NotMatched,
    Protected { key: Arc<str> },
    Kept { id: Arc<str>, by: Arc<str>, until: Option<Time> },
    Claimed { policy: Arc<str> },
    Resting { until: Time },
    NotNext { first: Arc<str> },
    // What is seen.
    Missing,
    Deploying,
    NotRunning { status: Arc<str> },
    TooYoung { until: Time },
    WindowBroken { until: Option<Time> },
    Incomplete { feed: Feed },
    Stale { feed: Feed },
    ClockUnknown,
    ClockOff { skew_ms: i64 },
    NoVolume,
    // The conditions.
    NoCondition,
    Busy,
    Unmeasured,
    NotIdleLong { until: Time },
    NotRunningLong { until: Time },
    RunwayUnknown,
    RunwayOnce,
    RunwayEnough { left_secs: u64 },
    SpendsLess { left: Usd },
    WorkingHours { until: Option<Time> },
    // The limits.
    FleetShare { qualifying: u32, fleet: u32 },
    CapHour { max: u16, until: Time },
    CapDay { max: u16, until: Time },
    OneAtATime,
    // The announcement and the reads.
    NotTold,
    Grace { until: Time },
    Later { until: Time },
    ReadDiffers { what: Arc<str> },
    ReadGone,
    CannotTerminate { minutes: u32 },
    Contradictory { minutes: u32 },
    ReadsOld,
}

impl Hold {
    /// It means that nobody wants this end any more, or that it is about something else; all others only make it wait.
    pub fn cancels(&self) -> bool {
        match self {
            Self::NotArmed
            | Self::ArmedOtherwise
            | Self::NoSelector
            | Self::NotMatched
            | Self::Protected { .. }
            | Self::Kept { .. }
            | Self::NotRunning { .. }
            | Self::Deploying
            | Self::NoCondition
            | Self::Busy
            | Self::NotRunningLong { .. }
            | Self::RunwayEnough { .. }
            | Self::SpendsLess { .. }
            | Self::WorkingHours { .. }
            | Self::ReadDiffers { .. } => true,
            Self::Claimed { .. }
            | Self::Resting { .. }
            | Self::NotNext { .. }
            | Self::Missing
            | Self::TooYoung { .. }
            | Self::WindowBroken { .. }
            | Self::Incomplete { .. }
            | Self::Stale { .. }
            | Self::ClockUnknown
            | Self::ClockOff { .. }
            | Self::NoVolume
            | Self::Unmeasured
            | Self::NotIdleLong { .. }
            | Self::RunwayUnknown
            | Self::RunwayOnce
            | Self::FleetShare { .. }
            | Self::CapHour { .. }
            | Self::CapDay { .. }
            | Self::OneAtATime
            | Self::NotTold
            | Self::Grace { .. }
            | Self::Later { .. }
            | Self::ReadGone
            | Self::CannotTerminate { .. }
            | Self::Contradictory { .. }
            | Self::ReadsOld => false,
        }
    }

    /// When time alone may change it.
    pub fn until(&self) -> Option<Time> {
        match self {
            Self::Kept { until, .. } | Self::WindowBroken { until } | Self::WorkingHours { until } => *until,
            Self::Resting { until }
            | Self::TooYoung { until }
            | Self::NotIdleLong { until }
            | Self::NotRunningLong { until }
            | Self::CapHour { until, .. }
            | Self::CapDay { until, .. }
            | Self::Grace { until }
            | Self::Later { until } => Some(*until),
            Self::NotArmed
            | Self::ArmedOtherwise
            | Self::NoSelector
            | Self::NotMatched
            | Self::Protected { .. }
            | Self::Claimed { .. }
            | Self::NotNext { .. }
            | Self::Missing
            | Self::Deploying
            | Self::NotRunning { .. }
            | Self::Incomplete { .. }
            | Self::Stale { .. }
            | Self::ClockUnknown
            | Self::ClockOff { .. }
            | Self::NoVolume
            | Self::NoCondition
            | Self::Busy
            | Self::Unmeasured
            | Self::RunwayUnknown
            | Self::RunwayOnce
            | Self::RunwayEnough { .. }
            | Self::SpendsLess { .. }
            | Self::FleetShare { .. }
            | Self::OneAtATime
            | Self::NotTold
            | Self::ReadDiffers { .. }
            | Self::ReadGone
            | Self::CannotTerminate { .. }
            | Self::Contradictory { .. }
            | Self::ReadsOld => None,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let till = |until: &Option<Time>| until.map_or(String::new(), |until| format!(" until {until}"));
        match self {
            Self::NotArmed => f.write_str("the policy is not armed: it is a dry run"),
            Self::ArmedOtherwise => {
                f.write_str("the policy, [safety], the time zone or an activity changed since it was armed")
            }
            Self::NoSelector => f.write_str("the policy has no `match`, and so matches nothing"),
            Self::NotMatched => f.write_str("the policy's `match` leaves it out"),
            Self::Protected { key } => write!(f, "[safety] protects it by its {key}"),
            Self::Kept { id, by, until } => write!(f, "{by} keeps it{} ({id})", till(until)),
            Self::Claimed { policy } => write!(f, "policy {policy} already has an action for it"),
            Self::Resting { until } => {
                write!(f, "an action for it was stopped or refused; it is left alone until {until}")
            }
            Self::NotNext { first } => {
                write!(f, "{first} goes first: one at a time, the dearest per hour first")
            }
            Self::Missing => f.write_str("the last list did not show it"),
            Self::Deploying => f.write_str("it is still deploying"),
            Self::NotRunning { status } => write!(f, "its status is `{status}`, not running"),
            Self::TooYoung { until } => write!(f, "it was first observed too lately: not before {until}"),
            Self::WindowBroken { until } => {
                write!(f, "it was not watched without a gap for long enough{}", till(until))
            }
            Self::Incomplete { feed } => write!(f, "the last poll of {feed} was not complete"),
            Self::Stale { feed } => write!(f, "the last complete poll of {feed} is too old"),
            Self::ClockUnknown => f.write_str("the API's clock is not known, so ours is not trusted"),
            Self::ClockOff { skew_ms } => {
                write!(f, "our clock and the API's differ by {} s", skew_ms.unsigned_abs() / 1_000)
            }
            Self::NoVolume => f.write_str("no volume is attached to it, and the policy wants one"),
            Self::NoCondition => f.write_str("the policy's `when` names no condition"),
            Self::Busy => f.write_str("it is busy"),
            Self::Unmeasured => f.write_str("nobody measures its activity now; unknown is never idle"),
            Self::NotIdleLong { until } => {
                write!(f, "it has not been idle for long enough: not before {until}")
            }
            Self::NotRunningLong { until } => {
                write!(f, "it has not been running for long enough: not before {until}")
            }
            Self::RunwayUnknown => f.write_str("how long the balance lasts is not known"),
            Self::RunwayOnce => f.write_str("two balances in a row have to show that the runway is short"),
            Self::RunwayEnough { left_secs } => {
                let left = humanize(std::time::Duration::from_secs(*left_secs));
                write!(f, "the balance lasts for {left}, which is long enough")
            }
            Self::SpendsLess { left } => write!(f, "it may cost {left} more"),
            Self::WorkingHours { until } => write!(f, "it is working time{}", till(until)),
            Self::FleetShare { qualifying, fleet } => write!(
                f,
                "{qualifying} of {fleet} running deployments qualify at once, which looks like a fault of a sensor: arm again on that list if it is meant"
            ),
            Self::CapHour { max, until } => write!(f, "max_per_hour = {max} is reached: not before {until}"),
            Self::CapDay { max, until } => write!(f, "max_per_day = {max} is reached: not before {until}"),
            Self::OneAtATime => f.write_str("another action is under way; they go one at a time"),
            Self::NotTold => f.write_str("no receiver but the log has taken the announcement yet"),
            Self::Grace { until } => write!(f, "it was announced for {until}"),
            Self::Later { until } => write!(f, "it is tried again at {until}"),
            Self::ReadDiffers { what } => write!(f, "its {what} is not what was announced"),
            Self::ReadGone => f.write_str("the final read did not find it"),
            Self::CannotTerminate { minutes } => {
                write!(f, "can-terminate says no, {minutes} minutes remain of the minimum runtime")
            }
            Self::Contradictory { minutes } => {
                write!(f, "can-terminate says yes and that {minutes} minutes remain: it is not believed")
            }
            Self::ReadsOld => f.write_str("the final read and can-terminate are older than 30 s"),
        }
    }
}

/// Why an action took a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Why {
    /// All conditions hold; `because` says how.
    Qualifies {
        because: Arc<str>,
    },
    Withheld {
        hold: Hold,
    },
    Told {
        receiver: Arc<str>,
    },
    GraceOver,
    ReadAgrees,
    MayTerminate,
    Committed,
    Accepted,
    /// The answer says that it is not running any more.
    SaidEnded {
        said: Arc<str>,
    },
    MinimumRuntime {
        minutes: u32,
        until: Time,
    },
    /// 429 to the DELETE.
    AskedToWait {
        until: Time,
    },
    /// A read, the commit or the DELETE did not come about.
    Failed {
        why: Arc<str>,
    },
    NoReceipt,
    AnswerLost {
        why: Arc<str>,
    },
    ApiRefused {
        why: Arc<str>,
    },
    ShownEnded,
    StillRunning,
    SlotPassed,
    NobodyTold,
    /// A gate closed.
    Held {
        hold: Hold,
    },
    CancelledBy {
        by: Arc<str>,
    },
    PolicyRemoved,
    /// The database was put back from a copy.
    Restored,
    /// A person, the provider or a reclaim ended it first, or its id now names another.
    EndedElsewhere {
        how: Arc<str>,
    },
    NoLonger,
    Armed,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qualifies { because } => f.write_str(because),
            Self::Withheld { hold } | Self::Held { hold } => hold.fmt(f),
            Self::Told { receiver } => write!(f, "{receiver} took the announcement"),
            Self::GraceOver => f.write_str("the grace is over"),
            Self::ReadAgrees => f.write_str("the final read agrees with what was announced"),
            Self::MayTerminate => f.write_str("can-terminate says yes, and that nothing remains"),
            Self::Committed => f.write_str("the intent is committed"),
            Self::Accepted => f.write_str("the API accepted the request; reads have to confirm it"),
            Self::SaidEnded { said } => write!(f, "the API says {said}; reads have to confirm it"),
            Self::MinimumRuntime { minutes, until } => {
                write!(f, "{minutes} minutes remain of the minimum runtime: not before {until}")
            }
            Self::Failed { why } => f.write_str(why),
            Self::NoReceipt => f.write_str("nothing came back in time"),
            Self::AnswerLost { why } => write!(f, "the answer to the DELETE is lost ({why}); a read decides"),
            Self::ApiRefused { why } => write!(f, "the API refused: {why}"),
            Self::ShownEnded => f.write_str("two reads show that it has ended"),
            Self::StillRunning => {
                f.write_str("reads show that it is still running, so the request had no effect")
            }
            Self::SlotPassed => {
                f.write_str("it could not be done within an hour of when it was announced for")
            }
            Self::NobodyTold => f.write_str("no receiver took the announcement within an hour"),
            Self::CancelledBy { by } => write!(f, "{by} cancelled it"),
            Self::Restored => f.write_str("the database was restored from a copy"),
            Self::AskedToWait { until } => {
                write!(f, "the API asked us to wait (429), so nothing was done: not before {until}")
            }
            Self::PolicyRemoved => f.write_str("the policy is no longer in the configuration"),
            Self::EndedElsewhere { how } => write!(f, "it ended without us: {how}"),
            Self::NoLonger => f.write_str("it no longer qualifies"),
            Self::Armed => f.write_str("the policy is armed now"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_back_and_say_when() {
        let at = Time::from_secs(1_800_000_000);
        let kept = Hold::Kept { id: "kp_1".into(), by: "ann".into(), until: Some(at) };
        assert_eq!(kept.to_string(), "ann keeps it until 2027-01-15T08:00:00Z (kp_1)");
        assert_eq!((kept.cancels(), kept.until()), (true, Some(at)));
        let why = Why::Held { hold: Hold::ClockOff { skew_ms: -61_500 } };
        assert_eq!(why.to_string(), "our clock and the API's differ by 61 s");
        for why in [why, Why::Held { hold: kept }] {
            let text = serde_json::to_string(&why).unwrap();
            assert_eq!(serde_json::from_str::<Why>(&text).unwrap(), why);
        }
    }
}
