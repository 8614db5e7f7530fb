//! Posts a notice as a Standard Webhook and reads from the answer whether to try again.
//!
//! It must never follow a redirect, use a proxy, or let its URL into an error, a log or a Debug output.

use std::{error::Error as _, net::IpAddr, sync::Arc, time::Duration};

use http::{StatusCode, header};
use reqwest::{Client, Response, Url, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use secrecy::{ExposeSecret, SecretString};

use super::{BuildError, payload, redact::Redactor, retry, sign::SigningKey};
use crate::{
    clock::Clock,
    model::{Delivery, Notice},
};

/// For everything: name, connection, TLS, request and answer (PRODUCT §7).
pub(super) const DEADLINE: Duration = Duration::from_secs(15);
/// A dead IPv6 route must not use up the deadline before the next address is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);
/// How long an answer's body may take; it is worth no more, the status has come.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// An answer is read this far, and dropped.
const ANSWER_MAX_BYTES: usize = 64 * 1024;
/// Of an answer people see this many characters.
const EXCERPT_MAX: usize = 120;
const WHY_MAX: usize = 300;

pub(super) struct Webhook {
    client: Client,
    url: SecretString,
    key: Option<SigningKey>,
    redactor: Redactor,
    clock: Clock,
}

impl Webhook {
    pub(super) fn new(
        receiver: &Arc<str>,
        url: SecretString,
        secret: Option<SecretString>,
        clock: Clock,
    ) -> Result<Self, BuildError> {
        let text = url.expose_secret().trim();
        let parsed = check_url(text).map_err(|why| BuildError::Url { receiver: receiver.clone(), why })?;
        let key = secret
            .as_ref()
            .map(SigningKey::parse)
            .transpose()
            .map_err(|why| BuildError::Secret { receiver: receiver.clone(), why })?;
        let redactor = Redactor::for_url(text, &parsed, secret.as_ref().map(|s| s.expose_secret().trim()));
        let client = client().map_err(|why| BuildError::Client { receiver: receiver.clone(), why })?;
        let url = SecretString::from(text);
        Ok(Self { client, url, key, redactor, clock })
    }

    pub(super) async fn deliver(&self, notice: &Notice, deadline: Duration) -> Delivery {
        let alarm = tokio::time::sleep(deadline);
        tokio::pin!(alarm);
        let request = match self.request(notice) {
            Ok(request) => request,
            Err(why) => return Delivery::Rejected { why, disable: false },
        };
        let answer = tokio::select! {
            biased;
            answer = self.client.execute(request) => answer,
            () = &mut alarm => return silent(deadline),
        };
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.failed(error),
        };
        // The status decides: whatever happens to the body after it changes nothing.
        let body = tokio::select! {
            biased;
            body = tokio::time::timeout(BODY_TIMEOUT, read_some(&mut answer)) => body.unwrap_or_default(),
            () = &mut alarm => Vec::new(),
        };
        self.judge(&answer, &body)
    }

    fn request(&self, notice: &Notice) -> Result<reqwest::Request, String> {
        let body = payload::standard(notice).map_err(|error| {
            format!("the notice could not be written as JSON: {error}; please report this")
        })?;
        let (id, timestamp) = (notice.id.as_str(), self.clock.now().secs());
        let mut request = self
            .client
            .post(self.url.expose_secret())
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp);
        if let Some(key) = &self.key {
            let signature = key.sign(id, timestamp, &body).ok_or("the notice could not be signed")?;
            request = request.header("webhook-signature", signature);
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
        let what = if error.is_connect() {
            "could not connect to the webhook; check that it runs and that url_file holds its address"
        } else {
            "the connection to the webhook broke before it answered"
        };
        Delivery::Retry { why: format!("{what} ({})", self.redactor.clean(&text, WHY_MAX)), after: None }
    }

    fn judge(&self, answer: &Response, body: &[u8]) -> Delivery {
        let status = answer.status();
        if status.is_success() {
            return Delivery::Delivered { detail: format!("the webhook answered {}", status.as_u16()) };
        }
        let code = status.as_u16();
        let excerpt = self.redactor.clean(&String::from_utf8_lossy(body), EXCERPT_MAX);
        let said = if excerpt.is_empty() { String::new() } else { format!(" (it said: {excerpt})") };
        if matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            || status.is_server_error()
        {
            let after = answer
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok())
                .and_then(|text| retry::parse_retry_after(text, self.clock.now()));
            let why = format!("the webhook answered {code}; it will be tried again{said}");
            return Delivery::Retry { why, after };
        }
        let advice = match status {
            StatusCode::GONE => "this address was retired: put a new one into url_file and reload",
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "it no longer accepts this address: make a new one there and put it into url_file"
            }
            StatusCode::NOT_FOUND => "nothing is at this address: check url_file",
            StatusCode::PAYLOAD_TOO_LARGE => "the notice is too large for it: raise its limit",
            _ if status.is_redirection() => {
                "redirects are never followed: put the final address into url_file"
            }
            _ => "it does not accept this notice: check that `format` fits the service",
        };
        Delivery::Rejected {
            why: format!("the webhook answered {code}; {advice}{said}"),
            disable: status == StatusCode::GONE,
        }
    }
}

fn silent(deadline: Duration) -> Delivery {
    let secs = deadline.as_secs_f32();
    Delivery::Retry {
        why: format!("the webhook did not answer within {secs} s; check that it runs"),
        after: None,
    }
}

async fn read_some(answer: &mut Response) -> Vec<u8> {
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

fn client() -> Result<Client, String> {
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
fn check_url(text: &str) -> Result<Url, &'static str> {
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
        let error = Webhook::new(&"chat".into(), url, None, Clock::system()).map(|_| ()).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("must be https") && !text.contains("T0KEN") && !text.contains("example"),
            "{text}"
        );
    }
}
