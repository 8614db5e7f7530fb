//! Pings a dead-man switch, as healthchecks and its kin offer it: `URL` while all is well, `URL/fail` with a reason when not.
//!
//! It must never follow a redirect, use a proxy, or let its URL into an error, a log or a Debug output.

use std::{fmt, time::Duration};

use reqwest::{Client, Request, Url};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    BuildError,
    exchange::{Broken, exchange},
    redact::Redactor,
    sanitize, webhook,
};

const REASON_MAX: usize = 1_000;
const WHY_MAX: usize = 300;

pub struct DeadMan {
    client: Client,
    url: SecretString,
    fail_url: SecretString,
    redactor: Redactor,
    deadline: Duration,
}

impl DeadMan {
    pub fn new(url: &SecretString) -> Result<Self, BuildError> {
        let failed = |why: String| BuildError::DeadMan { why };
        let text = url.expose_secret().trim();
        let parsed = webhook::check_url(text).map_err(|why| failed(why.replace("url_file", "the file")))?;
        let mut fail = parsed.clone();
        if let Ok(mut segments) = fail.path_segments_mut() {
            segments.pop_if_empty().push("fail");
        }
        Ok(Self {
            client: webhook::client().map_err(failed)?,
            redactor: Redactor::for_url(text, &parsed, None),
            url: SecretString::from(text),
            fail_url: SecretString::from(fail.as_str()),
            deadline: webhook::DEADLINE,
        })
    }

    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// All is well. The error says why it was not heard.
    pub async fn ping(&self) -> Result<(), String> {
        self.send(self.client.get(address(&self.url)?).build()).await
    }

    /// Something is wrong that nobody else can be told.
    pub async fn fail(&self, why: &str) -> Result<(), String> {
        let reason = sanitize::line(why, REASON_MAX);
        self.send(self.client.post(address(&self.fail_url)?).body(reason).build()).await
    }

    async fn send(&self, request: Result<Request, reqwest::Error>) -> Result<(), String> {
        let request = request.map_err(|error| self.clean(&error.without_url().to_string()))?;
        match exchange(&self.client, request, self.deadline).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) if answer.status.is_redirection() => {
                Err(format!("it answered {}; redirects are never followed", answer.status.as_u16()))
            }
            Ok(answer) => {
                let said = self.clean(&answer.excerpt());
                Err(format!("it answered {}: {said}; check heartbeat_url_file", answer.status.as_u16()))
            }
            Err(Broken::Silent(deadline)) => {
                Err(format!("it did not answer within {} s", deadline.as_secs_f32()))
            }
            Err(Broken::Unreachable(why)) => Err(format!("could not connect ({})", self.clean(&why))),
            Err(Broken::Cut(why)) => {
                Err(format!("the connection broke before it answered ({})", self.clean(&why)))
            }
        }
    }

    fn clean(&self, text: &str) -> String {
        self.redactor.clean(text, WHY_MAX)
    }
}

/// It was read once before.
fn address(url: &SecretString) -> Result<Url, String> {
    Url::parse(url.expose_secret()).map_err(|_| "its URL cannot be read; please report this".to_owned())
}

impl fmt::Debug for DeadMan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeadMan")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead_man(url: &str) -> Result<DeadMan, BuildError> {
        DeadMan::new(&SecretString::from(url))
    }

    #[test]
    fn the_failure_has_an_address_of_its_own_below_the_ping() {
        for (url, fail) in [
            ("https://hc-ping.com/0aa1", "https://hc-ping.com/0aa1/fail"),
            ("https://hc-ping.com/0aa1/", "https://hc-ping.com/0aa1/fail"),
            ("https://hc.example/ping?key=a", "https://hc.example/ping/fail?key=a"),
            ("http://127.0.0.1:8000/x\n", "http://127.0.0.1:8000/x/fail"),
        ] {
            assert_eq!(dead_man(url).unwrap().fail_url.expose_secret(), fail);
        }
    }

    #[test]
    fn fault_76_neither_an_error_nor_debug_shows_the_url() {
        let error = dead_man("http://hc.example.org/T0KEN12345").map(drop).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("must be https") && !text.contains("T0KEN"), "{text}");
        let text = format!("{:?}", dead_man("https://hc.example.org/T0KEN12345").unwrap());
        assert!(!text.contains("T0KEN") && !text.contains("example"), "{text}");
    }
}
