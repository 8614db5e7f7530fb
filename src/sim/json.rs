//! The documented JSON, field by field as `reference.txt` shows it.
//!
//! It must never add up or round money: what the ledger says is written as the API writes it, a JSON number in dollars.

use serde::{Serialize, Serializer};

use super::{
    ledger::Ledger,
    resource::{Disk, FAKE_KUBECONFIG, Machine, Team},
};
use crate::model::{Status, Time, Usd};

/// Dollars as a JSON number; whole ones without a point, as JavaScript writes them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Money(pub Usd);

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.nanos() % 1_000_000_000 == 0 {
            serializer.serialize_i64(self.0.nanos() / 1_000_000_000)
        } else {
            serializer.serialize_f64(self.0.to_f64())
        }
    }
}

/// `2024-01-15T10:30:00Z`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp(pub Time);

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeploymentJson<'a> {
    id: &'a str,
    name: &'a str,
    user_id: &'a str,
    team_id: &'a str,
    gpu_model_id: String,
    gpu_type: &'a str,
    offer_id: String,
    provider_id: &'a str,
    gpu_count: u32,
    region: &'a str,
    operating_system: &'a str,
    instance_type: &'a str,
    ssh_key_id: &'a str,
    temp_ssh_key_id: Option<&'a str>,
    ssh_key_name: &'a str,
    ssh_key_fingerprint: &'a str,
    ip_address: Option<&'a str>,
    user: Option<&'a str>,
    status: &'a str,
    started_at: Option<Stamp>,
    stopped_at: Option<Stamp>,
    last_credit_deduction: Option<Stamp>,
    total_cost: Money,
    hourly_rate: Money,
    has_discount: bool,
    discount_percentage: u8,
    original_hourly_rate: Money,
    vcpus: u32,
    memory: u32,
    storage: u32,
    ssh_command: Option<String>,
    ssh_port: Option<u16>,
    port_forwards: [&'a str; 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    kubernetes_addon: Option<KubernetesJson<'a>>,
    created_at: Stamp,
}

/// Everything but the version is filled in once the cluster runs.
#[derive(Serialize)]
struct KubernetesJson<'a> {
    version: &'a str,
    kubeconfig: Option<String>,
    k8s_cluster_id: Option<String>,
    service_links: Vec<String>,
    restore: bool,
    note: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VolumeJson<'a> {
    id: &'a str,
    volume_id: &'a str,
    name: &'a str,
    user_id: &'a str,
    team_id: &'a str,
    provider_id: &'a str,
    size_in_gb: u32,
    used_capacity_bytes: u64,
    virtual_ip: &'a str,
    attached_to_deployment_ids: Vec<&'a str>,
    attached_to_order_ids: Vec<String>,
    status: &'a str,
    hourly_rate: Money,
    last_price_update: Stamp,
    created_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_attached_at: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_detached_at: Option<Stamp>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TeamJson<'a> {
    team_id: &'a str,
    team_name: &'a str,
    balance: Money,
    is_current_team: bool,
    role: &'a str,
}

#[derive(Serialize)]
struct BalanceJson<'a> {
    teams: Vec<TeamJson<'a>>,
    currency: &'a str,
}

pub(super) const USER_ID: &str = "66f2a41be07c3d5a90b1c842";

/// A list's record; the detail adds `extras`.
pub(super) fn deployment(m: &Machine, index: usize, ledger: &Ledger) -> String {
    let up = m.started_at.is_some();
    let ip = m.spec.address.clone().unwrap_or_else(|| format!("203.0.113.{}", index % 254 + 1));
    let gpus = m.spec.gpu_count.max(1);
    let kept_percent = i64::from(100 - m.spec.discount_percent.min(99));
    let model = format!("{}-{}-{}", m.spec.gpu_type, m.spec.provider, m.spec.gpu_count);
    text(&DeploymentJson {
        id: m.id.as_str(),
        name: &m.spec.name,
        user_id: USER_ID,
        team_id: m.spec.team.as_str(),
        offer_id: format!("{model}-{}", m.spec.instance_type.to_ascii_lowercase()),
        gpu_model_id: model,
        gpu_type: &m.spec.gpu_type,
        provider_id: &m.spec.provider,
        gpu_count: m.spec.gpu_count,
        region: &m.spec.region,
        operating_system: "ubuntu-22.04",
        instance_type: &m.spec.instance_type,
        ssh_key_id: "66f2a4c1e07c3d5a90b1c84f",
        temp_ssh_key_id: None,
        ssh_key_name: "lab key",
        ssh_key_fingerprint: "SHA256:pXq0v1m3u8rJ6sYw2bKc4dTe5fGh7iLn9oPzAaQxRtU",
        ip_address: up.then_some(&*ip),
        user: up.then_some("ubuntu"),
        status: m.status.as_str(),
        started_at: m.started_at.map(Stamp),
        stopped_at: m.stopped_at.map(Stamp),
        last_credit_deduction: ledger.charged_at(m.meter).map(Stamp),
        total_cost: Money(ledger.charged(m.meter)),
        hourly_rate: Money(m.spec.rate),
        has_discount: m.spec.discount_percent > 0,
        discount_percentage: m.spec.discount_percent,
        original_hourly_rate: Money(Usd::from_nanos(m.spec.rate.nanos().saturating_mul(100) / kept_percent)),
        vcpus: gpus.saturating_mul(8),
        memory: gpus.saturating_mul(32),
        storage: gpus.saturating_mul(100),
        ssh_command: up.then(|| format!("ssh ubuntu@{ip}")),
        ssh_port: up.then_some(22),
        port_forwards: [],
        kubernetes_addon: m.spec.kubernetes.then(|| kubernetes(m, up)),
        created_at: Stamp(m.created_at),
    })
}

pub(super) fn with_extras(deployment: &str) -> String {
    format!("{},\"extras\":{{}}}}", deployment.strip_suffix('}').unwrap_or(deployment))
}

fn kubernetes(m: &Machine, up: bool) -> KubernetesJson<'static> {
    let id = m.id.as_str();
    KubernetesJson {
        version: "1.35",
        kubeconfig: up.then(|| {
            format!(
                "apiVersion: v1\nclusters:\n- name: {id}\nusers:\n- user:\n    token: {FAKE_KUBECONFIG}\n"
            )
        }),
        k8s_cluster_id: up.then(|| format!("cluster-{id}")),
        service_links: if up { vec![format!("https://grafana-{id}.voltagepark.com")] } else { Vec::new() },
        restore: false,
        note: "Only present for deployments with Kubernetes addon",
    }
}

pub(super) fn volume(d: &Disk) -> String {
    text(&VolumeJson {
        id: d.id.as_str(),
        volume_id: &d.volume_id,
        name: &d.spec.name,
        user_id: USER_ID,
        team_id: d.spec.team.as_str(),
        provider_id: &d.spec.provider,
        size_in_gb: d.spec.size_gb,
        used_capacity_bytes: d.spec.used_bytes,
        virtual_ip: "192.168.100.50",
        attached_to_deployment_ids: d.attached.iter().map(|id| id.as_str()).collect(),
        attached_to_order_ids: d.attached.iter().map(|id| format!("order_{id}")).collect(),
        status: d.status.as_str(),
        hourly_rate: Money(d.spec.rate),
        last_price_update: Stamp(d.priced_at),
        created_at: Stamp(d.created_at),
        last_attached_at: d.attached_at.map(Stamp),
        last_detached_at: d.detached_at.map(Stamp),
    })
}

/// Teams with whether each is the current one.
pub(super) fn balance<'a>(teams: impl Iterator<Item = (&'a Team, bool)>, ledger: &Ledger) -> String {
    let row = |(team, current): (&'a Team, bool)| TeamJson {
        team_id: team.id.as_str(),
        team_name: &team.name,
        balance: Money(ledger.balance(team.purse)),
        is_current_team: current,
        role: team.role,
    };
    text(&BalanceJson { teams: teams.map(row).collect(), currency: "USD" })
}

/// Minutes, as the API counts them: run time rounded down, what remains rounded up.
pub(super) fn can_terminate(
    runtime_minutes: u64,
    remaining: u64,
    minimum: u64,
    ended: Option<&Status>,
) -> String {
    let mut body = serde_json::json!({
        "canTerminate": remaining == 0 && ended.is_none(),
        "runtime": runtime_minutes,
        "timeRemaining": remaining,
        "minimumRuntime": minimum,
    });
    if let (Some(status), Some(fields)) = (ended, body.as_object_mut()) {
        fields.insert("reason".into(), format!("Instance is already {status}").into());
    }
    body.to_string()
}

pub(super) fn destruction_begun(id: &str, now: Time) -> String {
    serde_json::json!({
        "message": "Instance destruction initiated",
        "deployment": { "id": id, "status": "terminated", "stoppedAt": Stamp(now) },
    })
    .to_string()
}

/// The shape observed for a DELETE before the minimum runtime; it carries no code.
pub(super) fn too_early(remaining: u64, minimum: u64) -> String {
    serde_json::json!({
        "error": "Minimum runtime not met",
        "message": format!("Instance must run for at least {minimum} minutes. Please wait {remaining} more minutes."),
        "canTerminate": false,
        "timeRemaining": remaining,
        "minimumRuntime": minimum,
    })
    .to_string()
}

/// The shape observed for a DELETE of what has ended; it carries no code.
pub(super) fn cannot_terminate(status: &Status) -> String {
    serde_json::json!({
        "error": "Cannot terminate instance",
        "message": format!("Instance is already {status}"),
        "currentStatus": status.as_str(),
        "canTerminate": false,
    })
    .to_string()
}

pub(super) fn error(message: &str, code: &str) -> String {
    serde_json::json!({ "error": message, "code": code }).to_string()
}

/// One page of a list: `{KEY: [...], total, page, limit, totalPages}`.
pub(super) fn page<S: AsRef<str>>(key: &str, records: &[S], page: usize, limit: usize) -> String {
    let total = records.len();
    let from = (page - 1).saturating_mul(limit);
    let shown: Vec<&str> = records.iter().skip(from).take(limit).map(AsRef::as_ref).collect();
    format!(
        "{{\"{key}\":[{}],\"total\":{total},\"page\":{page},\"limit\":{limit},\"totalPages\":{}}}",
        shown.join(","),
        total.div_ceil(limit)
    )
}

/// Our own structs have string keys and finite numbers, so this cannot fail; an empty body would show if it did.
pub(super) fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
