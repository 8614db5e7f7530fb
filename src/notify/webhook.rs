//! Posts a notice to a webhook in its format, and reads from the answer whether to try again.
//!
//! It must never follow a redirect, use a proxy, or let its URL into an error, a log or a Debug output.

use std::{error::Error as _, net::IpAddr, sync::Arc, time::Duration};

use http::header;
use reqwest::{Client, Response, Url, header::HeaderValue, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use secrecy::{ExposeSecret, SecretString};

use super::{
    BuildError,
    formats::{Format, Service, Target, answer::Answer},
    redact::Redactor,
};
use crate::{
    clock::Clock,
    model::{Delivery, Notice},
};

/// For everything of one request: name, connection, TLS, request and answer (PRODUCT §7).
pub(super) const DEADLINE: Duration = Duration::from_secs(15);
/// A dead IPv6 route must not use up the deadline before the next address is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);
/// How long an answer's body may take; it is worth no more, the status has come.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// An answer is read this far, and dropped.
const ANSWER_MAX_BYTES: usize = 64 * 1024;
const WHY_MAX: usize = 300;

pub(super) struct Webhook {
    client: Client,
    url: SecretString,
    authorization: Option<HeaderValue>,
    service: Service,
    redactor: Redactor,
    clock: Clock,
}

impl Webhook {
    pub(super) fn new(
        receiver: &Arc<str>,
        url: &SecretString,
        format: Format,
        clock: Clock,
    ) -> Result<Self, BuildError> {
        let text = url.expose_secret().trim();
        let parsed = check_url(text).map_err(|why| BuildError::Url { receiver: receiver.clone(), why })?;
        let redactor = Redactor::for_url(text, &parsed, format.secret());
        let (service, Target { url, authorization }) = Service::new(receiver, parsed, format)?;
        let client = client().map_err(|why| BuildError::Client { receiver: receiver.clone(), why })?;
        let url = SecretString::from(url.as_str());
        Ok(Self { client, url, authorization, service, redactor, clock })
    }

    /// One attempt at all requests of a notice. A refused one does not keep the others back; after one that is to be tried
    /// again all are sent again, which a format with several requests must make harmless.
    pub(super) async fn deliver(&self, notice: &Notice, deadline: Duration) -> Delivery {
        let bodies = match self.service.bodies(notice) {
            Ok(bodies) => bodies,
            Err(error) => {
                let why = format!("the notice could not be written as JSON: {error}; please report this");
                return Delivery::Rejected { why, disable: false };
            }
        };
        let (mut refused, mut taken) = (None, None);
        for body in bodies {
            match self.post(notice, body, deadline).await {
                delivered @ Delivery::Delivered { .. } => taken = Some(delivered),
                rejected @ Delivery::Rejected { disable: false, .. } => refused = Some(rejected),
                last @ (Delivery::Retry { .. } | Delivery::Rejected { .. }) => return last,
            }
        }
        refused.or(taken).unwrap_or_else(|| Delivery::Rejected {
            why: "the notice has nothing to send; please report this".to_owned(),
            disable: false,
        })
    }

    async fn post(&self, notice: &Notice, body: Vec<u8>, deadline: Duration) -> Delivery {
        let alarm = tokio::time::sleep(deadline);
        tokio::pin!(alarm);
        let request = match self.request(notice, body) {
            Ok(request) => request,
            Err(why) => return Delivery::Rejected { why, disable: false },
        };
        let answer = tokio::select! {
            biased;
            answer = self.client.execute(request) => answer,
            () = &mut alarm => return silent(&self.service, deadline),
        };
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.failed(error),
        };
        // The status decides: a body that breaks off changes nothing.
        let body = tokio::select! {
            biased;
            body = tokio::time::timeout(BODY_TIMEOUT, read_some(&mut answer)) => body.unwrap_or_default(),
            () = &mut alarm => Vec::new(),
        };
        let answer = Answer { status: answer.status(), headers: answer.headers(), body: &body };
        answer.judge(&self.service, &self.redactor, self.clock.now())
    }

    fn request(&self, notice: &Notice, body: Vec<u8>) -> Result<reqwest::Request, String> {
        let mut request =
            self.client.post(self.url.expose_secret()).header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Service::Standard { key } = &self.service {
            let (id, timestamp) = (notice.id.as_str(), self.clock.now().secs());
            request = request.header("webhook-id", id).header("webhook-timestamp", timestamp);
            if let Some(key) = key {
                let signature = key.sign(id, timestamp, &body).ok_or("the notice could not be signed")?;
                request = request.header("webhook-signature", signature);
            }
        }
        request.body(body).build().map_err(|error| {
            let why = self.redactor.clean(&error.without_url().to_string(), WHY_MAX);
            format!("the request could not be built: {why}; check url_file")
        })
    }

    /// No status arrived: the other side may or may not have the notice, so it is sent again under the same id.
    fn failed(&self, error: reqwest::Error) -> Delivery {
        let error = error.without_url();
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            source = inner.source();
        }
        let service = &self.service;
        let what = if error.is_connect() {
            format!("could not connect to {service}; check that it runs and that url_file holds its address")
        } else {
            format!("the connection to {service} broke before it answered")
        };
        Delivery::Retry { why: format!("{what} ({})", self.redactor.clean(&text, WHY_MAX)), after: None }
    }
}

fn silent(service: &Service, deadline: Duration) -> Delivery {
    let secs = deadline.as_secs_f32();
    Delivery::Retry {
        why: format!("{service} did not answer within {secs} s; check that it runs"),
        after: None,
    }
}

pub(super) async fn read_some(answer: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        let room = ANSWER_MAX_BYTES.saturating_sub(body.len());
        body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if body.len() >= ANSWER_MAX_BYTES {
            break;
        }
    }
    body
}

pub(super) fn client() -> Result<Client, String> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .no_gzip()
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(1)
        .user_agent(concat!("spheron-watch/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| error.without_url().to_string())
}

/// https, or plain http to an address that does not leave the house.
pub(super) fn check_url(text: &str) -> Result<Url, &'static str> {
    let url =
        Url::parse(text).map_err(|_| "is not a URL: url_file must hold one address and nothing else")?;
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if is_local(&url) => Ok(url),
        "http" => Err("must be https, unless its host is localhost or a loopback or private IP address"),
        _ => Err("must begin with https://"),
    }
}

fn is_local(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_in_the_house() {
        for (url, ok) in [
            ("https://hooks.example.org/x", true),
            ("http://127.0.0.1:8080/x", true),
            ("http://[::1]/x", true),
            ("http://[::ffff:10.0.0.1]/x", true),
            ("http://localhost/x", true),
            ("http://192.168.1.20/x", true),
            ("http://[fd12::1]/x", true),
            ("http://hooks.example.org/x", false),
            ("http://8.8.8.8/x", false),
            ("http://169.254.169.254/x", false),
            ("http://localhost.example.org/x", false),
            ("http://127.0.0.1.example.org/x", false),
            ("ftp://127.0.0.1/x", false),
            ("hooks.example.org", false),
            ("", false),
        ] {
            assert_eq!(check_url(url).is_ok(), ok, "{url}");
        }
    }

    #[test]
    fn fault_76_a_build_error_does_not_show_the_url() {
        let url = SecretString::from("http://hooks.example.org/T0KEN");
        let error =
            Webhook::new(&"chat".into(), &url, Format::Slack, Clock::system()).map(|_| ()).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("must be https") && !text.contains("T0KEN") && !text.contains("example"),
            "{text}"
        );
    }
}
