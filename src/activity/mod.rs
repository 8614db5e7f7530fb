//! How to know that a GPU works: asks instances, a Prometheus, or waits to be told, and says busy, idle or unknown.
//!
//! It must never say idle for want of an answer (FAULTS 72), follow an address or a name that the API supplies where it could
//! do harm (FAULTS 78), or have the API's key at hand.

mod address;
mod heartbeat;
mod http;
mod judge;
mod page;
mod promql;
mod ssh;
mod volumes;

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

pub use address::{Reach, address};
pub use heartbeat::{Book, Message, Rejected, SKEW_MAX, sign};
pub use judge::{Measured, Scale};
pub use volumes::{Used, growth};

use crate::{
    clock::Clock,
    model::{
        ActivitySource, Deployment, Query, Unit,
        activity::{NVIDIA_SMI, longest_gap},
    },
};

/// An `[[activity]]` entry with all that it takes to ask.
#[derive(Debug, Clone)]
pub struct Source {
    pub watch: ActivitySource,
    pub kind: Kind,
    /// Which addresses from the API may be asked.
    pub reach: Reach,
}

#[derive(Debug, Clone)]
pub enum Kind {
    /// A text page of metrics on the instance. `url` has `{ip}` for its host.
    Prometheus {
        url: String,
        metric: String,
        busy_above: f64,
    },
    Ssh {
        identity_file: PathBuf,
        command: String,
        busy_above: f64,
    },
    /// An instant query to a Prometheus of the user's own.
    Promql {
        url: String,
        query: Query,
        busy_above: f64,
    },
    /// The instance tells us; utilization above `busy_above` percent is busy.
    Heartbeat {
        secret: SecretString,
        busy_above: f64,
    },
    /// Growth of attached volumes proves that something works.
    VolumeGrowth,
}

/// Where the prober keeps things, and how long it waits.
#[derive(Debug, Clone)]
pub struct ProberOptions {
    /// The host keys of instances, by deployment; in the state folder.
    pub known_hosts: PathBuf,
    /// `ssh` but in tests.
    pub ssh: PathBuf,
    /// For one answer over HTTP, from the first packet to the last byte.
    pub http_deadline: Duration,
    /// For one `ssh`, from its start to its end: `nvidia-smi` takes seconds where its driver is not kept loaded.
    pub ssh_deadline: Duration,
}

impl ProberOptions {
    pub fn new(known_hosts: PathBuf) -> Self {
        Self {
            known_hosts,
            ssh: "ssh".into(),
            http_deadline: Duration::from_secs(10),
            ssh_deadline: Duration::from_secs(20),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot set up the HTTP client that measures activity: {0}")]
pub struct BuildError(String);

/// Asks. One for the process; holds no secret.
pub struct Prober {
    http: http::Http,
    ssh: ssh::Ssh,
    clock: Clock,
}

impl Prober {
    pub fn new(options: ProberOptions, clock: Clock) -> Result<Self, BuildError> {
        let http = http::Http::new(options.http_deadline).map_err(BuildError)?;
        let ssh = ssh::Ssh {
            program: options.ssh,
            known_hosts: options.known_hosts,
            deadline: options.ssh_deadline,
        };
        Ok(Self { http, ssh, clock })
    }

    /// What the source says of the deployment now. `None`: this kind is not asked, it tells.
    pub async fn measure(&self, source: &Source, deployment: &Deployment) -> Option<Measured> {
        let measured = match &source.kind {
            Kind::Prometheus { url, metric, busy_above } => {
                let scale = Scale {
                    busy_above: *busy_above,
                    unit: Unit::of_metric(metric),
                    per_gpu: per_gpu(metric),
                };
                self.scrape(source, url, metric, &scale, deployment).await
            }
            Kind::Ssh { identity_file, command, busy_above } => {
                let per_gpu = command == NVIDIA_SMI;
                let scale = Scale { busy_above: *busy_above, unit: Unit::Percent, per_gpu };
                let values = self.ssh.ask(source.reach, identity_file, command, deployment).await;
                values.map(|values| judge::judge(&values, &scale, deployment.gpu_count))
            }
            Kind::Promql { url, query, busy_above } => {
                let scale = Scale { busy_above: *busy_above, unit: Unit::Other, per_gpu: false };
                let values = promql::ask(&self.http, source.reach, url, query, deployment).await;
                values.map(|values| judge::judge(&values, &scale, deployment.gpu_count))
            }
            Kind::Heartbeat { .. } | Kind::VolumeGrowth => return None,
        };
        Some(measured.unwrap_or_else(Measured::unknown))
    }

    async fn scrape(
        &self,
        source: &Source,
        url: &str,
        metric: &str,
        scale: &Scale,
        deployment: &Deployment,
    ) -> Result<Measured, String> {
        let ip = address(deployment.access.ip.as_deref(), source.reach)?;
        let body = self.http.get(&http::with_address(url, ip), &[]).await?;
        let oldest = self.clock.now().minus(longest_gap(source.watch.every));
        let values = page::values(&body, metric, oldest);
        if values.is_empty() {
            return Err(format!("its page does not have {metric}"));
        }
        Ok(judge::judge(&values, scale, deployment.gpu_count))
    }
}

/// Exporters that have a series for each GPU: fewer series than GPUs leave some unmeasured.
fn per_gpu(metric: &str) -> bool {
    metric.starts_with("DCGM_") || metric.starts_with("nvidia_smi_")
}
