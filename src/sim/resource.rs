//! What the simulated account holds: teams, deployments (machines) and volumes (disks), and how a script describes new ones.
//!
//! It must never hold a real secret: the kubeconfig it hands out is a marker that leak tests search for.

use std::{sync::Arc, time::Duration};

use super::ledger::{MeterId, PurseId};
use crate::model::{DeploymentId, Status, TeamId, Time, Usd, VolumeId, VolumeStatus};

/// Stands in every kubeconfig; found anywhere else, it was leaked.
pub const FAKE_KUBECONFIG: &str = "sim-kubeconfig-secret-5c1d0f9e";

/// A deployment to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// `None`: a new one. The id of an ended one takes its place (FAULTS 20).
    pub id: Option<DeploymentId>,
    pub team: TeamId,
    pub name: String,
    pub gpu_type: String,
    /// 0 for a CPU node.
    pub gpu_count: u32,
    pub provider: String,
    pub region: String,
    /// SPOT, DEDICATED, CLUSTER, BARE_METAL, or anything.
    pub instance_type: String,
    pub rate: Usd,
    /// How long it stays `deploying`; it bills from the start.
    pub boot: Duration,
    pub discount_percent: u8,
    pub kubernetes: bool,
    /// Where it can be reached; `None`: an address for documentation.
    pub address: Option<String>,
    /// Debited per hour beside the rate that is shown (FAULTS 21).
    pub addon: Usd,
}

impl Spec {
    /// What is really debited per hour.
    pub fn debited(&self) -> Usd {
        self.rate.saturating_add(self.addon)
    }

    /// One RTX 4090 of Spheron's own, DEDICATED, 0.50 $/h, running at once.
    pub fn new(team: &TeamId, name: &str) -> Self {
        Self {
            id: None,
            team: team.clone(),
            name: name.to_owned(),
            gpu_type: "rtx-4090".to_owned(),
            gpu_count: 1,
            provider: "spheron-ai".to_owned(),
            region: "us-east-1".to_owned(),
            instance_type: "DEDICATED".to_owned(),
            rate: Usd::from_cents(50),
            boot: Duration::ZERO,
            discount_percent: 0,
            kubernetes: false,
            address: None,
            addon: Usd::ZERO,
        }
    }

    pub fn gpu(mut self, gpu_type: &str, count: u32) -> Self {
        gpu_type.clone_into(&mut self.gpu_type);
        self.gpu_count = count;
        self
    }

    pub fn on(mut self, provider: &str, region: &str) -> Self {
        provider.clone_into(&mut self.provider);
        region.clone_into(&mut self.region);
        self
    }

    pub fn kind(mut self, instance_type: &str) -> Self {
        instance_type.clone_into(&mut self.instance_type);
        self
    }

    pub fn at(mut self, address: &str) -> Self {
        self.address = Some(address.to_owned());
        self
    }

    pub fn rate(mut self, rate: Usd) -> Self {
        self.rate = rate;
        self
    }

    pub fn boot(mut self, boot: Duration) -> Self {
        self.boot = boot;
        self
    }
}

/// A volume to create; it bills until it is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    pub id: Option<VolumeId>,
    pub team: TeamId,
    pub name: String,
    pub provider: String,
    pub size_gb: u32,
    pub used_bytes: u64,
    /// For the whole volume.
    pub rate: Usd,
    pub attach_to: Option<DeploymentId>,
}

impl VolumeSpec {
    /// Half full, on Voltage Park, at its published price of 0.000137 $ per GB and hour.
    pub fn new(team: &TeamId, name: &str, size_gb: u32) -> Self {
        Self {
            id: None,
            team: team.clone(),
            name: name.to_owned(),
            provider: "voltage-park".to_owned(),
            size_gb,
            used_bytes: u64::from(size_gb) * 500_000_000,
            rate: Usd::from_nanos(i64::from(size_gb) * 137_000),
            attach_to: None,
        }
    }
}

/// A saved card, or a person who looks now and then: tops up some time after the balance fell below a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoTopUp {
    pub below: Usd,
    pub amount: Usd,
    pub after: Duration,
}

pub(super) struct Team {
    pub id: TeamId,
    pub name: String,
    pub role: &'static str,
    pub purse: PurseId,
    /// The key's owner is no member (any more).
    pub hidden: bool,
    pub auto: Option<AutoTopUp>,
    pub top_up_pending: bool,
    /// When the balance ends, if nothing changes.
    pub empties_at: Option<Time>,
}

pub(super) struct Machine {
    pub id: DeploymentId,
    pub team: usize,
    /// Whose team it was at first.
    pub payer: usize,
    pub spec: Spec,
    pub status: Status,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub stopped_at: Option<Time>,
    pub meter: MeterId,
    /// Another one took its id.
    pub superseded: bool,
    /// The list's JSON, until something changes.
    pub json: Option<Arc<str>>,
}

pub(super) struct Disk {
    pub id: VolumeId,
    /// The API's second id, the one that attach takes.
    pub volume_id: String,
    pub team: usize,
    pub spec: VolumeSpec,
    pub status: VolumeStatus,
    pub attached: Vec<DeploymentId>,
    pub created_at: Time,
    pub attached_at: Option<Time>,
    pub detached_at: Option<Time>,
    pub priced_at: Time,
    pub meter: MeterId,
    /// Every status and used bytes that it had, with their beginning.
    pub past: Vec<(Time, VolumeStatus, u64)>,
    pub json: Option<Arc<str>>,
}

impl Disk {
    pub fn changed(&mut self, now: Time) {
        self.json = None;
        self.past.push((now, self.status.clone(), self.spec.used_bytes));
    }
}
