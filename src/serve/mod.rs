//! HTTP for machines and people who look: `/metrics`, `/healthz`, `/readyz`, `/api/v1`, and the signed `/keep`. Each answer is drawn from one `View`.
//!
//! It must never change anything itself, decide anything, or answer to a name that is not its own. Signed heartbeats and orders
//! go to who takes them.

pub mod api;
mod health;
mod heartbeat;
mod hosts;
mod keep;
mod listen;
pub mod metrics;
mod router;
mod self_metrics;
mod socket;
mod stall;
mod text;

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

pub use heartbeat::{Beat, Heartbeat, Refused};
pub use hosts::{BadHost, check_hosts};
pub use keep::{KEY_BYTES, KeepKey, KeepLinks, Keeper};
pub use self_metrics::SelfMetrics;
pub use socket::{Socket, SocketError, serve_socket};

use crate::{
    clock::Clock,
    model::{Reasons, View},
};

/// How the server behaves; the defaults are for production. The times are real ones, also where the demo's clock runs fast.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Further names that may stand in the Host header, with or without a port.
    pub hosts: Vec<String>,
    pub max_connections: usize,
    /// For a request's headers, and for the next request on an idle connection.
    pub header_timeout: Duration,
    /// For a request's body and its handling.
    pub request_timeout: Duration,
    /// How long a peer may take not a byte of its answer.
    pub stall_timeout: Duration,
    /// How long requests in flight may take to finish at the end.
    pub drain_timeout: Duration,
    /// Who takes `POST /heartbeat/{deployment}`; `None`: nobody does.
    pub heartbeat: Option<Arc<dyn Heartbeat>>,
    /// Who makes the changes that are asked for over the socket; `None`: nobody does.
    pub orders: Option<Arc<dyn api::Orders>>,
    /// Who says why nothing is told; `None`: nobody does.
    pub reasons: Option<Arc<dyn Reasons>>,
    /// Who reads what the database alone knows; `None`: nobody does.
    pub records: Option<Arc<dyn api::Records>>,
    /// Who answers `/keep/{token}`; `None`: no links are given out.
    pub keeper: Option<Keeper>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            max_connections: 64,
            header_timeout: Duration::from_secs(15),
            request_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
            heartbeat: None,
            orders: None,
            reasons: None,
            records: None,
            keeper: None,
        }
    }
}

/// Why the server ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Host(#[from] BadHost),
    #[error("cannot tell the address of the HTTP listener: {0}")]
    Listener(#[from] std::io::Error),
    #[error("a task that served an HTTP connection panicked; where is in the log above")]
    Panicked,
}

/// Serves until `stop`, then lets requests in flight finish.
pub async fn serve(
    listener: TcpListener,
    options: ServeOptions,
    views: watch::Receiver<Arc<View>>,
    metrics: Arc<SelfMetrics>,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let hosts = hosts::Hosts::new(listener.local_addr()?, &options.hosts)?;
    let router = router::build(hosts, &options, views, metrics, clock);
    listen::run(listener, router, &options, stop).await
}
