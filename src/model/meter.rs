//! What the API client and the outbox report about themselves, so that they need not know who counts.
//!
//! It must never carry a URL, a key or a body.

use std::time::Duration;

use super::Time;

pub trait Meter: Send + Sync {
    /// One API call. `endpoint` is the documented path with its placeholders; `code` is `200`, …, or `error`.
    fn api_call(&self, endpoint: &'static str, method: &'static str, code: &str, took: Duration);
    /// What the API's rate-limit headers said last.
    fn rate_limit(&self, limit: u32, remaining: u32, reset: Option<Time>);
    /// One attempt to deliver.
    fn notification(&self, receiver: &str, delivered: bool);
    /// One poll of one feed.
    fn poll(&self, feed: super::Feed, complete: bool, took: Duration, at: Time);
}

/// For tests and simulation.
pub struct NoMeter;

impl Meter for NoMeter {
    fn api_call(&self, _: &'static str, _: &'static str, _: &str, _: Duration) {}
    fn rate_limit(&self, _: u32, _: u32, _: Option<Time>) {}
    fn notification(&self, _: &str, _: bool) {}
    fn poll(&self, _: super::Feed, _: bool, _: Duration, _: Time) {}
}
