//! `POST /heartbeat/{deployment}`: an instance says, signed, whether its GPUs work.
//!
//! It must never act on its own: who takes heartbeats verifies them and decides; here HTTP becomes a [`Beat`] and back.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};

/// `{"utilization": 99.5}` takes a fraction.
const BODY_BYTES_MAX: usize = 1024;
const TIMESTAMP: &str = "x-heartbeat-timestamp";
const SIGNATURE: &str = "x-heartbeat-signature";

/// A heartbeat as it came in; nothing of it is verified.
#[derive(Debug, Clone, Copy)]
pub struct Beat<'a> {
    /// The id or name in the path.
    pub deployment: &'a str,
    pub timestamp: &'a str,
    pub signature: &'a str,
    pub body: &'a [u8],
}

/// Why a heartbeat was not taken; the texts are for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    Malformed(String),
    Unauthorized(String),
    NotFound(&'static str),
    Conflict(String),
    /// Others wait; send the next one.
    Busy,
}

/// Who takes heartbeats.
pub trait Heartbeat: Send + Sync + std::fmt::Debug {
    fn take(&self, beat: &Beat<'_>) -> Result<(), Refused>;
}

pub(super) async fn receive(
    State(taker): State<Option<Arc<dyn Heartbeat>>>,
    method: Method,
    Path(deployment): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(taker) = taker else {
        return answer(StatusCode::NOT_FOUND, "no [[activity]] of kind heartbeat");
    };
    if method != Method::POST {
        let allow = [(header::ALLOW, "POST")];
        return (StatusCode::METHOD_NOT_ALLOWED, allow, "405: only POST.\n").into_response();
    }
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let (value, None) = (values.next(), values.next()) else { return None };
        value.and_then(|value| value.to_str().ok())
    };
    let (Some(timestamp), Some(signature)) = (one(TIMESTAMP), one(SIGNATURE)) else {
        return answer(StatusCode::UNAUTHORIZED, &format!("needs the headers {TIMESTAMP} and {SIGNATURE}"));
    };
    if body.len() > BODY_BYTES_MAX {
        return answer(StatusCode::PAYLOAD_TOO_LARGE, "a heartbeat's body takes 1 KiB at most");
    }
    match taker.take(&Beat { deployment: &deployment, timestamp, signature, body: &body }) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(Refused::Malformed(why)) => answer(StatusCode::BAD_REQUEST, &why),
        Err(Refused::Unauthorized(why)) => answer(StatusCode::UNAUTHORIZED, &why),
        Err(Refused::NotFound(why)) => answer(StatusCode::NOT_FOUND, why),
        Err(Refused::Conflict(why)) => answer(StatusCode::CONFLICT, &why),
        Err(Refused::Busy) => answer(StatusCode::SERVICE_UNAVAILABLE, "too many at once; send the next one"),
    }
}

fn answer(status: StatusCode, why: &str) -> Response {
    (status, format!("{}: {why}\n", status.as_u16())).into_response()
}
