//! Failures in words: which call, what the API said, what to do next.
//!
//! It must never quote more of an answer than its `code` and `error`.

use std::fmt::Display;

use crate::{
    model::{Failure, FailureKind},
    spheron::{Endpoint, wire::ErrorBody},
};

/// A failure without an answer to quote.
pub fn of(endpoint: Endpoint, kind: FailureKind, why: &impl Display) -> Failure {
    let advice = match kind {
        FailureKind::Network => "; check the network, and that base_url and ca_file are right",
        FailureKind::Timeout => "; the next poll tries again",
        FailureKind::Malformed => "; see whether base_url points to the API and nothing stands in between",
        FailureKind::Held
        | FailureKind::Unauthorized
        | FailureKind::Forbidden
        | FailureKind::NotFound
        | FailureKind::RateLimited
        | FailureKind::Refused
        | FailureKind::Server => "",
    };
    Failure::new(kind, format!("{}: {why}{advice}", name(endpoint)))
}

/// For any answer that is not a success with JSON.
pub fn of_status(
    endpoint: Endpoint,
    status: u16,
    is_json: bool,
    said: &ErrorBody,
    redirect_host: impl FnOnce() -> String,
) -> Failure {
    use FailureKind::{Forbidden, Malformed, NotFound, RateLimited, Refused, Server, Unauthorized};
    let (kind, advice) = match status {
        200..=299 => (
            Malformed,
            "the answer is not JSON; see whether a login page or proxy stands in between".to_owned(),
        ),
        300..=399 => {
            let host = redirect_host();
            (Malformed, format!("redirects are not followed, and this one points to {host}; check base_url"))
        }
        401 => (
            Unauthorized,
            "create a new API key and replace this one; only one is active at a time".to_owned(),
        ),
        403 => (Forbidden, "see whether the key's user still belongs to this team".to_owned()),
        // The host serves a web app too, whose 404 knows nothing of deployments.
        404 if is_json && said.is_object => (NotFound, "the API knows no such resource".to_owned()),
        404 => (Malformed, "this is not the API's own 404; check base_url".to_owned()),
        429 => (RateLimited, "we wait as long as it asks; another client may share this address".to_owned()),
        400..=499 => {
            (Refused, "the same request will be refused again; see whether a newer version exists".to_owned())
        }
        500..=599 => (Server, "the trouble is on Spheron's side; the next poll tries again".to_owned()),
        _ => (Malformed, "no HTTP status that the API documents".to_owned()),
    };
    Failure::new(kind, format!("{}: {status}{}; {advice}", name(endpoint), quote(said)))
}

fn name(endpoint: Endpoint) -> String {
    format!("{} {}", endpoint.method().as_str(), endpoint.template())
}

fn quote(said: &ErrorBody) -> String {
    let error = said.error.as_deref().or(said.message.as_deref());
    match (said.code.as_deref(), error) {
        (Some(code), Some(error)) => format!(" {code}: {error}"),
        (Some(text), None) | (None, Some(text)) => format!(" {text}"),
        (None, None) => String::new(),
    }
}
