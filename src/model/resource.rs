//! What the account holds: deployments, volumes, balances, offers, as the API's own words say (`reference.txt`).
//!
//! It must never carry a secret: kubeconfigs, SSH commands and keys are dropped before anything becomes one of these.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Time, Usd};

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(id: impl Into<Arc<str>>) -> Self {
                Self(id.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

id_type!(
    /// Opaque; at most 200 characters are accepted at decode.
    TeamId
);
id_type!(
    /// Opaque and perhaps reused: a deployment's identity is (id, createdAt).
    DeploymentId
);
id_type!(
    /// The volume's `id`, not its `volumeId`.
    VolumeId
);

/// A deployment's status. The set is open: `Unknown` bills and is never terminable (FAULTS 2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Arc<str>", into = "Arc<str>")]
pub enum Status {
    Deploying,
    Running,
    Failed,
    Terminated,
    TerminatedProvider,
    /// Undocumented, seen in the field: holds the disk and bills.
    Stopped,
    Unknown(Arc<str>),
}

impl Status {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Deploying => "deploying",
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Terminated => "terminated",
            Self::TerminatedProvider => "terminated-provider",
            Self::Stopped => "stopped",
            Self::Unknown(text) => text,
        }
    }

    /// Ended for good: nothing follows, and the instance is gone.
    pub fn is_ended(&self) -> bool {
        match self {
            Self::Failed | Self::Terminated | Self::TerminatedProvider => true,
            Self::Deploying | Self::Running | Self::Stopped | Self::Unknown(_) => false,
        }
    }
}

impl From<Arc<str>> for Status {
    fn from(text: Arc<str>) -> Self {
        match &*text {
            "deploying" => Self::Deploying,
            "running" => Self::Running,
            "failed" => Self::Failed,
            "terminated" => Self::Terminated,
            "terminated-provider" => Self::TerminatedProvider,
            "stopped" => Self::Stopped,
            _ => Self::Unknown(text),
        }
    }
}

impl From<Status> for Arc<str> {
    fn from(status: Status) -> Self {
        match status {
            Status::Unknown(text) => text,
            Status::Deploying
            | Status::Running
            | Status::Failed
            | Status::Terminated
            | Status::TerminatedProvider
            | Status::Stopped => status.as_str().into(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// SPOT, DEDICATED, CLUSTER, BARE_METAL or whatever comes; upper case. Only exactly SPOT gets spot logic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceType(Arc<str>);

impl InstanceType {
    pub fn new(text: &str) -> Self {
        Self(text.to_ascii_uppercase().into())
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    pub fn is_spot(&self) -> bool {
        &*self.0 == "SPOT"
    }
}

impl fmt::Display for InstanceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A rented GPU instance. `name` is mutable and not unique; texts are hostile input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub id: DeploymentId,
    pub created_at: Time,
    pub name: Arc<str>,
    pub team: TeamId,
    pub gpu_type: Arc<str>,
    /// 0 for a CPU node.
    pub gpu_count: u32,
    pub provider: Arc<str>,
    pub region: Arc<str>,
    pub instance_type: InstanceType,
    pub status: Status,
    /// What is debited per hour, for the whole instance.
    pub hourly_rate: Usd,
    /// The API's own sum so far; stored, never derived.
    pub total_cost: Usd,
    pub started_at: Option<Time>,
    pub stopped_at: Option<Time>,
    /// A Kubernetes add-on costs extra that `hourly_rate` may not hold.
    pub kubernetes: bool,
    /// Only ever in memory: no serializer and no row of the store holds it, and no change of it is a change of the record.
    #[serde(skip)]
    pub access: Access,
}

/// How to reach the instance, as the API says: texts from outside that nobody has judged yet (FAULTS 78).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {
    pub ip: Option<Arc<str>>,
    pub user: Option<Arc<str>>,
    pub ssh_port: Option<Arc<str>>,
}

/// An address has no business in a log.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access(..)")
    }
}

impl Deployment {
    /// Everything bills but what is known to have ended: `deploying`, `stopped`, unknown, and `failed` without a stop time may.
    pub fn bills(&self) -> bool {
        match self.status {
            Status::Terminated | Status::TerminatedProvider => false,
            Status::Failed => self.stopped_at.is_none(),
            Status::Deploying | Status::Running | Status::Stopped | Status::Unknown(_) => true,
        }
    }

    /// From when it counts as running: `startedAt`, else `createdAt` (billing accrues from the POST).
    pub fn since(&self) -> Time {
        self.started_at.unwrap_or(self.created_at)
    }
}

/// A volume's status, open as a deployment's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Arc<str>", into = "Arc<str>")]
pub enum VolumeStatus {
    Available,
    Attached,
    Deleting,
    Deleted,
    Unknown(Arc<str>),
}

impl VolumeStatus {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Available => "available",
            Self::Attached => "attached",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Unknown(text) => text,
        }
    }
}

impl From<Arc<str>> for VolumeStatus {
    fn from(text: Arc<str>) -> Self {
        match &*text {
            "available" => Self::Available,
            "attached" => Self::Attached,
            "deleting" => Self::Deleting,
            "deleted" => Self::Deleted,
            _ => Self::Unknown(text),
        }
    }
}

impl From<VolumeStatus> for Arc<str> {
    fn from(status: VolumeStatus) -> Self {
        match status {
            VolumeStatus::Unknown(text) => text,
            VolumeStatus::Available
            | VolumeStatus::Attached
            | VolumeStatus::Deleting
            | VolumeStatus::Deleted => status.as_str().into(),
        }
    }
}

/// A persistent volume; it bills until deleted, attached or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub id: VolumeId,
    pub created_at: Time,
    pub name: Arc<str>,
    pub team: TeamId,
    pub provider: Arc<str>,
    pub status: VolumeStatus,
    pub size_bytes: u64,
    pub used_bytes: u64,
    /// For the whole volume, not per GB.
    pub hourly_rate: Usd,
    pub attached_to: Vec<DeploymentId>,
    pub last_detached_at: Option<Time>,
}

/// One team's row of `GET /api/balance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    pub team: TeamId,
    pub name: Arc<str>,
    pub role: Arc<str>,
    pub balance: Usd,
}

/// One deployable configuration of `GET /api/gpu-offers`; the price is for all of it, per hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    pub id: Arc<str>,
    pub provider: Arc<str>,
    pub gpu_type: Arc<str>,
    pub gpu_count: u32,
    pub instance_type: InstanceType,
    pub region: Arc<str>,
    /// What this account would pay: the discounted price where there is one.
    pub price: Usd,
    pub available: bool,
}

/// The answer of `GET /api/deployments/{id}/can-terminate`; minutes, perhaps fractional, rounded up. Every field was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanTerminate {
    pub can_terminate: bool,
    pub minutes_remaining: u32,
    pub minutes_minimum: u32,
}
