//! One bounded GET to an exporter or a Prometheus.
//!
//! It must never follow a redirect, use a proxy, send a credential, or read more than 4 MiB; and what it says of a failure has no
//! address in it.

use std::{net::IpAddr, time::Duration};

use bytes::BytesMut;
use reqwest::{Client, Url};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// A page of eight GPUs with every field that DCGM has takes a tenth.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Http {
    client: Client,
    deadline: Duration,
}

/// The URL with the instance's address for `{ip}`.
pub(super) fn with_address(url: &str, ip: IpAddr) -> String {
    let host = match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    url.replacen("{ip}", &host, 1)
}

impl Http {
    pub(super) fn new(deadline: Duration) -> Result<Self, String> {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("spheron-watch/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // A thousand instances would otherwise be a thousand idle connections.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { client, deadline })
    }

    /// The body of a 200. One deadline over everything: no drip of single bytes outlasts it.
    pub(super) async fn get(&self, url: &str, query: &[(&str, &str)]) -> Result<BytesMut, String> {
        let url = Url::parse(url).map_err(|_| "its URL cannot be read; check `url`".to_owned())?;
        let exchange = async {
            let answer = self.client.get(url).query(query).send().await.map_err(cause)?;
            let status = answer.status();
            if status.is_redirection() {
                return Err(format!("it answers {}, a redirect, which is not followed", status.as_u16()));
            }
            if status != reqwest::StatusCode::OK {
                return Err(format!("it answers {}", status.as_u16()));
            }
            read(answer).await
        };
        let late = || Err(format!("it did not answer within {}s", self.deadline.as_secs_f32()));
        tokio::time::timeout(self.deadline, exchange).await.unwrap_or_else(|_| late())
    }
}

async fn read(mut answer: reqwest::Response) -> Result<BytesMut, String> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(cause)? {
        if chunk.len() > BODY_BYTES_MAX.saturating_sub(body.len()) {
            return Err("its answer is larger than 4 MiB".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Without the library's words: they name the address.
fn cause(error: reqwest::Error) -> String {
    if error.is_connect() {
        "no connection to it can be made".to_owned()
    } else {
        "the connection to it broke".to_owned()
    }
}
