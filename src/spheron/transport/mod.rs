//! The edge: what the client needs of the world, so that a simulated account can stand in for the network.
//!
//! It must never put a URL, a key or a body into an error.

pub mod http;
mod tls;

use std::{future::Future, time::Duration};

use bytes::Bytes;

use super::{Endpoint, Method};
use crate::model::Time;

/// Live: [`http::HttpTransport`]. Simulated: answers at once, needs no runtime.
pub trait Transport: Send + Sync {
    fn now(&self) -> Time;

    fn send(&self, request: Request) -> impl Future<Output = Result<Response, SendError>> + Send;

    /// The short delay before the one retry of a 500.
    fn pause(&self, length: Duration) -> impl Future<Output = ()> + Send;

    /// Takes the key out of a text that the API wrote; nothing to do where there is no key.
    fn redact(&self, text: String) -> String {
        text
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub endpoint: Endpoint,
    pub method: Method,
    /// Encoded: the id, if any, is one segment.
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    /// The most that a body may hold once unpacked; beyond it the transport stops reading.
    pub cap_bytes: usize,
}

pub struct Response {
    pub status: u16,
    pub headers: ::http::HeaderMap,
    pub body: Bytes,
}

/// Without the body, which may hold a kubeconfig, and the headers.
impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error("no complete answer within the deadline")]
    Timeout,
    /// Name resolution, connection, TLS, an answer cut off: the causes in words.
    #[error("{0}")]
    Network(String),
    #[error("the answer is larger than {cap_bytes} bytes and was not read on")]
    TooLarge { cap_bytes: usize },
    #[error("this request is not on the allow-list and was not sent")]
    NotAllowed,
}
