//! Actions: the life of one decision to end one deployment, what has to be performed for it, and what came of each act.
//!
//! It must never let an action take a step that is not in its table, nor name a deployment by its id alone: ids come back.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    CanTerminate, Deployment, DeploymentId, EventId, Failure, Subject, TeamId, Time, Usd, Why, policy::digest,
};

/// A deployment's identity (FAULTS 20).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    pub id: DeploymentId,
    pub created_at: Time,
}

impl Target {
    pub fn of(deployment: &Deployment) -> Self {
        Self { id: deployment.id.clone(), created_at: deployment.created_at }
    }

    pub fn subject(&self) -> Subject {
        Subject::Deployment { id: self.id.clone(), created_at: self.created_at }
    }
}

/// `act_` + 16 hex digits; derives from policy, target and when it was marked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionId(Arc<str>);

impl ActionId {
    pub fn derive(policy: &str, target: &Target, marked: Time) -> Self {
        let hash = digest(&format!("{policy}\0{}\0{}", target.subject(), marked.millis()));
        Self(format!("act_{}", hash.get(..16).unwrap_or(&hash)).into())
    }

    pub fn from_text(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One row. Name, team and rate are those of the announcement: with others it is not what people were told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub id: ActionId,
    pub policy: Arc<str>,
    pub target: Target,
    pub name: Arc<str>,
    pub team: TeamId,
    pub rate: Usd,
    pub marked: Time,
    /// Of the arming under which it was marked; empty in a dry run.
    pub fingerprint: Arc<str>,
    /// Counts the acts asked for: a receipt of any but the last is not heard.
    pub seq: u32,
    /// When each DELETE was handed out; the caps count these.
    pub requests: Vec<Time>,
    pub stage: Stage,
}

/// What people were told: since when, and from when on it may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    pub told: Time,
    pub at: Time,
    pub reminded: bool,
}

/// What the final read saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalRead {
    pub sent: Time,
    pub skew_ms: Option<i64>,
    pub deployment: Box<Deployment>,
}

/// What can-terminate said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub sent: Time,
    pub skew_ms: Option<i64>,
    pub answer: CanTerminate,
}

/// How far the proof is that a DELETE had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub requested: Time,
    /// How many GETs in a row showed it ended.
    pub ended: u8,
    /// A GET is under way since.
    pub asked: Option<Time>,
    /// The next GET.
    pub next: Time,
    /// That it is not confirmed was told.
    pub late: bool,
}

/// Where an action stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Stage {
    /// Everything holds but that the policy is armed, or that so many may end at once: it is told, and nothing is done.
    Withheld {
        told: Time,
        by: Withheld,
    },
    /// The announcement is on its way. `floor`: an earlier one promised not to end it before.
    Marked {
        notice: EventId,
        floor: Option<Time>,
    },
    /// The announcement arrived. `next`: not before.
    Announced {
        slot: Slot,
        next: Time,
    },
    /// The final read is under way.
    Reading {
        slot: Slot,
        asked: Time,
    },
    /// The final read agreed; can-terminate is under way.
    Checking {
        slot: Slot,
        read: FinalRead,
        asked: Time,
    },
    /// Both reads agreed; the conditional commit of the intent is under way.
    Committing {
        slot: Slot,
        read: FinalRead,
        check: Check,
        asked: Time,
    },
    /// The intent is committed and the DELETE handed out: it may have been sent.
    Requested {
        slot: Slot,
        asked: Time,
    },
    /// The DELETE was accepted, or the deployment is said to have ended: two GETs must show it.
    Verifying {
        proof: Proof,
    },
    /// Nobody knows what became of the DELETE; `refused` is why, where it was refused. A GET decides.
    InDoubt {
        proof: Proof,
        refused: Option<Arc<str>>,
    },
    /// `saved_until`: what it would have cost counts up to then.
    Gone {
        at: Time,
        saved_until: Time,
    },
    /// `rest`: until then nothing is marked for this deployment.
    Refused {
        at: Time,
        rest: Time,
    },
    Expired {
        at: Time,
    },
    /// `slot`: what was announced and is still ahead; a new announcement does not come before it (FAULTS 54).
    Cancelled {
        at: Time,
        slot: Option<Time>,
        rest: Option<Time>,
    },
}

/// What alone keeps it from being marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    DryRun,
    FleetShare,
}

/// A stage without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageName {
    Withheld,
    Marked,
    Announced,
    Reading,
    Checking,
    Committing,
    Requested,
    Verifying,
    InDoubt,
    Gone,
    Refused,
    Expired,
    Cancelled,
}

impl StageName {
    pub const ALL: [Self; 13] = [
        Self::Withheld,
        Self::Marked,
        Self::Announced,
        Self::Reading,
        Self::Checking,
        Self::Committing,
        Self::Requested,
        Self::Verifying,
        Self::InDoubt,
        Self::Gone,
        Self::Refused,
        Self::Expired,
        Self::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Withheld => "withheld",
            Self::Marked => "marked",
            Self::Announced => "announced",
            Self::Reading => "final read",
            Self::Checking => "can-terminate",
            Self::Committing => "committing",
            Self::Requested => "requested",
            Self::Verifying => "verifying",
            Self::InDoubt => "in doubt",
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether this step is in the table. Once a DELETE was handed out nothing but what came of it counts.
    pub fn may_become(self, to: Self) -> bool {
        use StageName::{
            Announced, Cancelled, Checking, Committing, Expired, Gone, InDoubt, Marked, Reading, Refused,
            Requested, Verifying, Withheld,
        };
        let allowed: &[Self] = match self {
            Withheld => &[Cancelled],
            Marked => &[Announced, Expired, Cancelled],
            Announced => &[Reading, Expired, Cancelled],
            Reading => &[Checking, Announced, Expired, Cancelled],
            Checking => &[Committing, Announced, Expired, Cancelled],
            Committing => &[Requested, Announced, Expired, Cancelled],
            Requested => &[Verifying, InDoubt, Announced],
            Verifying => &[Gone],
            InDoubt => &[Verifying, Refused, Expired],
            Gone | Refused | Expired | Cancelled => &[],
        };
        allowed.contains(&to)
    }

    pub fn is_closed(self) -> bool {
        matches!(self, Self::Gone | Self::Refused | Self::Expired | Self::Cancelled)
    }

    /// A person can still stop it.
    pub fn is_stoppable(self) -> bool {
        match self {
            Self::Withheld
            | Self::Marked
            | Self::Announced
            | Self::Reading
            | Self::Checking
            | Self::Committing => true,
            Self::Requested
            | Self::Verifying
            | Self::InDoubt
            | Self::Gone
            | Self::Refused
            | Self::Expired
            | Self::Cancelled => false,
        }
    }

    /// Why a person who wants to stop it comes too late, and what happens now.
    pub fn too_late(self) -> Option<&'static str> {
        match self {
            Self::Withheld
            | Self::Marked
            | Self::Announced
            | Self::Reading
            | Self::Checking
            | Self::Committing => None,
            Self::Requested => Some("too late: its end was requested; what became of it is read next"),
            Self::Verifying => Some("too late: its end was accepted; it is read until it shows as ended"),
            Self::InDoubt => Some(
                "too late: its end was requested and the answer lost; a read decides, nothing is repeated",
            ),
            Self::Gone => Some("too late: it is gone"),
            Self::Refused | Self::Expired | Self::Cancelled => Some("nothing to stop: this action is over"),
        }
    }
}

impl Stage {
    pub fn name(&self) -> StageName {
        match self {
            Self::Withheld { .. } => StageName::Withheld,
            Self::Marked { .. } => StageName::Marked,
            Self::Announced { .. } => StageName::Announced,
            Self::Reading { .. } => StageName::Reading,
            Self::Checking { .. } => StageName::Checking,
            Self::Committing { .. } => StageName::Committing,
            Self::Requested { .. } => StageName::Requested,
            Self::Verifying { .. } => StageName::Verifying,
            Self::InDoubt { .. } => StageName::InDoubt,
            Self::Gone { .. } => StageName::Gone,
            Self::Refused { .. } => StageName::Refused,
            Self::Expired { .. } => StageName::Expired,
            Self::Cancelled { .. } => StageName::Cancelled,
        }
    }

    /// What was announced, from the announcement until the DELETE is answered.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Announced { slot, .. }
            | Self::Reading { slot, .. }
            | Self::Checking { slot, .. }
            | Self::Committing { slot, .. }
            | Self::Requested { slot, .. } => Some(*slot),
            Self::Withheld { .. }
            | Self::Marked { .. }
            | Self::Verifying { .. }
            | Self::InDoubt { .. }
            | Self::Gone { .. }
            | Self::Refused { .. }
            | Self::Expired { .. }
            | Self::Cancelled { .. } => None,
        }
    }

    /// Reads or a DELETE are under way: one at a time.
    pub fn is_under_way(&self) -> bool {
        matches!(
            self.name(),
            StageName::Reading | StageName::Checking | StageName::Committing | StageName::Requested
        )
    }

    pub fn closed_at(&self) -> Option<Time> {
        match self {
            Self::Gone { at, .. }
            | Self::Refused { at, .. }
            | Self::Expired { at }
            | Self::Cancelled { at, .. } => Some(*at),
            Self::Withheld { .. }
            | Self::Marked { .. }
            | Self::Announced { .. }
            | Self::Reading { .. }
            | Self::Checking { .. }
            | Self::Committing { .. }
            | Self::Requested { .. }
            | Self::Verifying { .. }
            | Self::InDoubt { .. } => None,
        }
    }
}

/// How long an end may take to show before people are told that nothing confirms it.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(600);

/// How long a closed action still matters: to the caps, to what rests, to what it promised, to what it saved.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3_600);

impl Action {
    /// Whether the engine has to be given it at a start. A time ahead of the clock counts as now.
    pub fn matters(&self, now: Time) -> bool {
        // A promise holds until it is due, which may be days ahead (FAULTS 54).
        let promised = matches!(self.stage, Stage::Cancelled { slot: Some(slot), .. } if slot > now);
        promised
            || self.stage.closed_at().is_none_or(|at| now.since(at) <= REMEMBERED)
            || self.requests.iter().any(|at| now.since(*at) <= REMEMBERED)
    }

    /// When it is late that reads confirm its end; `None`: nothing is to be confirmed.
    pub fn to_confirm_by(&self) -> Option<Time> {
        let (Stage::Verifying { proof } | Stage::InDoubt { proof, .. }) = &self.stage else { return None };
        Some(proof.requested.plus(CONFIRM_WITHIN))
    }

    /// What it would have cost since, up to now, were it still there: rate × time until a person acts, a day at most.
    pub fn saved(&self, now: Time) -> Usd {
        let Stage::Gone { at, saved_until } = self.stage else { return Usd::ZERO };
        self.rate.per_hour_for(now.min(saved_until).since(at))
    }
}

/// One transition: a row of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    pub action: ActionId,
    pub at: Time,
    /// `None`: the action began.
    pub from: Option<StageName>,
    pub to: StageName,
    pub reason: Why,
}

/// Something to be performed once, after the commit and never after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    pub action: ActionId,
    pub seq: u32,
    pub target: Target,
    pub deed: Deed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Deed {
    /// `GET /api/deployments/{id}`.
    FinalRead,
    /// `GET /api/deployments/{id}/can-terminate`.
    CanTerminate,
    /// One conditional UPDATE of the action's row, which fails if the deployment is kept, the policy not armed under this
    /// fingerprint, the action cancelled, or the row at another `seq`.
    Commit { policy: Arc<str>, fingerprint: Arc<str> },
    /// `DELETE /api/deployments/{id}`, if its sending begins by then; else it is not sent.
    Delete { not_after: Time },
    /// `GET /api/deployments/{id}`, after a DELETE.
    Verify,
}

/// What came of an act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActReceipt {
    pub action: ActionId,
    pub seq: u32,
    /// When the request began to be sent: what the answer says is no older.
    pub sent: Time,
    /// The API's clock minus ours, from the answer's own `Date`.
    pub skew_ms: Option<i64>,
    pub came: Came,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Came {
    /// Of [`Deed::FinalRead`] and [`Deed::Verify`]; `None` is a 404.
    Read(Result<Option<Box<Deployment>>, Failure>),
    CanTerminate(Result<Option<CanTerminate>, Failure>),
    /// The intent is committed, or why it is not.
    Commit(Result<(), Arc<str>>),
    Delete(DeleteAnswer),
}

/// The answer to a DELETE. None of them proves anything about the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum DeleteAnswer {
    /// 2xx.
    Accepted,
    /// 400 with a `timeRemaining` or its error text; minutes rounded up.
    MinimumRuntime { minutes: u32 },
    /// 400 with a `currentStatus` of one that has ended.
    Ended { status: Arc<str> },
    /// 404.
    NotFound,
    /// 429, in a body of the API: it was not done, and nothing is to be asked before then.
    AskedToWait { until: Time },
    /// Another 4xx.
    Refused { why: Arc<str> },
    /// No answer, 5xx, or one that cannot be read: it may have been done.
    Lost { why: Arc<str> },
    /// It certainly was not sent: too late, held by our governor, or stopped.
    NotSent { why: Arc<str> },
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{Access, InstanceType, Status};

    pub(crate) fn deployment(id: &str) -> Deployment {
        Deployment {
            id: DeploymentId::new(id),
            created_at: Time::from_secs(1_800_000_000),
            name: format!("dev-{id}").into(),
            team: TeamId::new("t1"),
            gpu_type: "h100".into(),
            gpu_count: 1,
            provider: "spheron-ai".into(),
            region: "us-east-1".into(),
            instance_type: InstanceType::new("DEDICATED"),
            status: Status::Running,
            hourly_rate: Usd::from_cents(200),
            total_cost: Usd::from_cents(200),
            started_at: Some(Time::from_secs(1_800_000_000)),
            stopped_at: None,
            kubernetes: false,
            access: Access::default(),
        }
    }

    /// The whole table, written down a second time: a step that is added to one of them has to be meant.
    #[test]
    fn every_step_that_is_not_in_the_table_is_illegal() {
        let legal = [
            "withheld > cancelled",
            "marked > announced",
            "marked > expired",
            "marked > cancelled",
            "announced > final read",
            "announced > expired",
            "announced > cancelled",
            "final read > can-terminate",
            "final read > announced",
            "final read > expired",
            "final read > cancelled",
            "can-terminate > committing",
            "can-terminate > announced",
            "can-terminate > expired",
            "can-terminate > cancelled",
            "committing > requested",
            "committing > announced",
            "committing > expired",
            "committing > cancelled",
            "requested > verifying",
            "requested > in doubt",
            "requested > announced",
            "verifying > gone",
            "in doubt > verifying",
            "in doubt > refused",
            "in doubt > expired",
        ];
        let pairs = StageName::ALL.iter().flat_map(|from| StageName::ALL.map(|to| (*from, to)));
        let found: Vec<String> = pairs
            .filter(|(from, to)| from.may_become(*to))
            .map(|(from, to)| format!("{} > {}", from.as_str(), to.as_str()))
            .collect();
        let mut expected: Vec<String> = legal.map(str::to_owned).into();
        let mut sorted = found.clone();
        expected.sort();
        sorted.sort();
        assert_eq!(sorted, expected);
        for from in StageName::ALL {
            assert!(!from.may_become(from), "{from:?}");
            assert!(from == StageName::Committing || !from.may_become(StageName::Requested), "{from:?}");
            assert_eq!(from.is_stoppable(), from.may_become(StageName::Cancelled), "{from:?}");
            assert_eq!(from.is_stoppable(), from.too_late().is_none(), "{from:?}");
        }
    }

    #[test]
    fn fault_20_an_id_that_comes_back_is_another_action() {
        let target = |created| Target { id: DeploymentId::new("a"), created_at: Time::from_secs(created) };
        let id = |created, marked| ActionId::derive("p", &target(created), Time::from_secs(marked));
        assert_eq!(id(1, 5), id(1, 5));
        assert_ne!(id(1, 5), id(2, 5));
        assert_ne!(id(1, 5), id(1, 6));
        assert_eq!(id(1, 5).as_str().len(), 20);
    }

    #[test]
    fn an_action_reads_back_from_its_row() {
        let failure = Failure::new(crate::model::FailureKind::Server, "500");
        for stage in [
            Stage::Marked { notice: EventId::from_text("evt_1"), floor: Some(Time::EPOCH) },
            Stage::Cancelled { at: Time::EPOCH, slot: None, rest: None },
        ] {
            let deployment = deployment("a");
            let target = Target::of(&deployment);
            let action = Action {
                id: ActionId::derive("p", &target, Time::EPOCH),
                policy: "p".into(),
                target,
                name: deployment.name,
                team: deployment.team,
                rate: deployment.hourly_rate,
                marked: Time::EPOCH,
                fingerprint: "f".into(),
                seq: 3,
                requests: vec![Time::EPOCH],
                stage,
            };
            let text = serde_json::to_string(&action).unwrap();
            assert_eq!(serde_json::from_str::<Action>(&text).unwrap(), action);
        }
        for came in [
            Came::Read(Ok(Some(Box::new(deployment("a"))))),
            Came::CanTerminate(Err(failure)),
            Came::Commit(Err("kept".into())),
            Came::Delete(DeleteAnswer::MinimumRuntime { minutes: 3 }),
        ] {
            let text = serde_json::to_string(&came).unwrap();
            assert_eq!(serde_json::from_str::<Came>(&text).unwrap(), came);
        }
    }
}
