//! One request and its answer, within a deadline and a cap.
//!
//! It must never say where a request went: an address may be a secret.

use std::{error::Error as _, time::Duration};

use http::StatusCode;
use reqwest::{Client, Request};

use super::{sanitize, webhook::read_some};

/// How long an answer's body may take; it is worth no more, the status has come.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Of an answer people see this many characters.
const EXCERPT_MAX: usize = 120;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// What it said, where it said something, in one clean line.
    pub(super) fn excerpt(&self) -> String {
        sanitize::line(&String::from_utf8_lossy(&self.body), EXCERPT_MAX)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Broken {
    Silent(Duration),
    Unreachable(String),
    Cut(String),
}

pub(super) async fn exchange(
    client: &Client,
    request: Request,
    deadline: Duration,
) -> Result<Answer, Broken> {
    let alarm = tokio::time::sleep(deadline);
    tokio::pin!(alarm);
    let answer = tokio::select! {
        biased;
        answer = client.execute(request) => answer,
        () = &mut alarm => return Err(Broken::Silent(deadline)),
    };
    let mut answer = answer.map_err(broken)?;
    let body = tokio::select! {
        biased;
        body = tokio::time::timeout(BODY_TIMEOUT, read_some(&mut answer)) => body.unwrap_or_default(),
        () = &mut alarm => Vec::new(),
    };
    Ok(Answer { status: answer.status(), body })
}

fn broken(error: reqwest::Error) -> Broken {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    if error.is_connect() { Broken::Unreachable(text) } else { Broken::Cut(text) }
}
