//! The live transport: HTTPS to one origin, with the key, a deadline and a cap on every answer.
//!
//! It must never follow a redirect, use a proxy, or let the key go anywhere but into the Authorization header.

use std::{error::Error, fmt, path::PathBuf, time::Duration};

use ::http::{
    HeaderValue,
    header::{ACCEPT, AUTHORIZATION},
};
use bytes::{Bytes, BytesMut};
use reqwest::{ClientBuilder, Url};
use secrecy::{ExposeSecret, SecretString};

use super::{
    Request, Response, SendError, Transport,
    tls::{self, TlsError},
};
use crate::{
    clock::Clock,
    model::Time,
    spheron::{Method, allow, headers::plain_text},
};

/// The API refuses library defaults, so it is told who asks (`facts.md` §1).
const USER_AGENT: &str = concat!("spheron-watch/", env!("CARGO_PKG_VERSION"));

/// Generous, for a dead name server costs five seconds before the next is asked. A black hole in one address family does not
/// wait for this: the connector tries the other family after 300 ms.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// `https://HOST[:PORT]`; plain http for loopback only.
    pub base_url: String,
    pub api_key: SecretString,
    /// PEM; trusted beside the bundled roots.
    pub ca_file: Option<PathBuf>,
    /// From the first packet to the last byte of the body, in real time.
    pub timeout: Duration,
    pub clock: Clock,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The text is not echoed: a URL may hold a password.
    #[error(
        "base_url must be https://HOST or https://HOST:PORT (http for loopback), without user, path or query"
    )]
    BaseUrl,
    #[error("the API key holds characters that no HTTP header can carry; copy it again")]
    Key,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
}

pub struct HttpTransport {
    client: reqwest::Client,
    origin: Url,
    authorization: HeaderValue,
    key: SecretString,
    timeout: Duration,
    clock: Clock,
}

impl HttpTransport {
    pub fn new(options: HttpOptions) -> Result<Self, BuildError> {
        Self::build(options, |builder| builder)
    }

    fn build(
        options: HttpOptions,
        adjust: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Self, BuildError> {
        let origin = origin(&options.base_url)?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", options.api_key.expose_secret()))
            .map_err(|_| BuildError::Key)?;
        authorization.set_sensitive(true);
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(options.ca_file.as_deref())?)
            .https_only(origin.scheme() == "https")
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT);
        let client = adjust(builder).build().map_err(|error| BuildError::Client(causes(error)))?;
        Ok(Self {
            client,
            origin,
            authorization,
            key: options.api_key,
            timeout: options.timeout,
            clock: options.clock,
        })
    }

    async fn exchange(&self, request: Request) -> Result<Response, SendError> {
        let mut url = self.origin.clone();
        url.set_path(&request.path);
        if url.path() != request.path || !allow::permits(request.method, url.path()) {
            return Err(SendError::NotAllowed);
        }
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut call = self.client.request(method, url);
        if !request.query.is_empty() {
            call = call.query(&request.query);
        }
        let call = call.header(AUTHORIZATION, self.authorization.clone()).header(ACCEPT, "application/json");
        let answer = call.send().await.map_err(send_error)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Response { status, headers, body: read(answer, request.cap_bytes).await? })
    }
}

impl Transport for HttpTransport {
    fn now(&self) -> Time {
        self.clock.now()
    }

    /// One deadline over everything, so that no drip of single bytes outlasts it (FAULTS 15).
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        tokio::time::timeout(self.timeout, self.exchange(request)).await.unwrap_or(Err(SendError::Timeout))
    }

    async fn pause(&self, length: Duration) {
        self.clock.sleep(length).await;
    }

    fn redact(&self, text: String) -> String {
        text.replace(self.key.expose_secret(), "[the API key]")
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").field("origin", &self.origin.as_str()).finish_non_exhaustive()
    }
}

/// Reads on only while the unpacked body fits: a packed bomb of 200 kB may hold 200 MB.
async fn read(mut answer: reqwest::Response, cap_bytes: usize) -> Result<Bytes, SendError> {
    let too_large = SendError::TooLarge { cap_bytes };
    let announced = answer.content_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length > cap_bytes) {
        return Err(too_large);
    }
    let mut body = BytesMut::with_capacity(announced.unwrap_or(0));
    while let Some(chunk) = answer.chunk().await.map_err(send_error)? {
        if chunk.len() > cap_bytes.saturating_sub(body.len()) {
            return Err(too_large);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn origin(text: &str) -> Result<Url, BuildError> {
    let url = Url::parse(text).map_err(|_| BuildError::BaseUrl)?;
    let loopback = url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    });
    let scheme = match url.scheme() {
        "https" => true,
        "http" => loopback,
        _ => false,
    };
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    if scheme && bare && url.host().is_some() { Ok(url) } else { Err(BuildError::BaseUrl) }
}

fn send_error(error: reqwest::Error) -> SendError {
    if error.is_timeout() && !error.is_connect() {
        SendError::Timeout
    } else {
        SendError::Network(causes(error))
    }
}

/// The whole chain of causes, for the first one says only that "a request failed"; without the URL, whose query may tell ids.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    plain_text(&text, 300)
}

#[cfg(test)]
mod tests;
