//! The network of the simulation: requests reach the simulated account at once, and waiting is time that passes.
//!
//! It must never answer but with what the account said, nor let time pass that no answer took.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{Asked, Called};
use crate::{
    model::{DeploymentId, Feed, Scope, Time},
    sim::{Answer, Ask, Conduct, KEY, World},
    spheron::{Endpoint, Request, Response, SendError, Transport},
};

/// The client's own deadline, in simulated time.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The simulated account behind a network on which time is a variable, and what went over it since a poll began.
pub(super) struct Network {
    world: Mutex<World>,
    /// The true one, in milliseconds.
    time: AtomicI64,
    /// How far our clock is ahead of it.
    ahead: AtomicI64,
    /// Every call about one deployment.
    called: Mutex<Vec<Called>>,
    calls: AtomicUsize,
    answered: AtomicUsize,
    honest: AtomicUsize,
    refused: AtomicUsize,
}

impl Network {
    pub(super) fn new(world: World, start: Time) -> Self {
        Self {
            world: Mutex::new(world),
            time: AtomicI64::new(start.millis()),
            ahead: AtomicI64::new(0),
            called: Mutex::default(),
            calls: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            honest: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }
    }

    /// By our clock.
    pub(super) fn now(&self) -> Time {
        Time::from_millis(self.time.load(Relaxed).saturating_add(self.ahead.load(Relaxed)))
    }

    pub(super) fn truly(&self) -> Time {
        Time::from_millis(self.time.load(Relaxed))
    }

    /// An instant of our clock, as it truly is.
    pub(super) fn in_truth(&self, at: Time) -> Time {
        Time::from_millis(at.millis().saturating_sub(self.ahead.load(Relaxed)))
    }

    pub(super) fn set_true(&self, now: Time) {
        self.time.store(now.millis(), Relaxed);
    }

    pub(super) fn set_clock(&self, ahead_ms: i64) {
        self.ahead.store(ahead_ms, Relaxed);
    }

    pub(super) fn is_clock_right(&self) -> bool {
        self.ahead.load(Relaxed) == 0
    }

    pub(super) fn pass(&self, length: Duration) {
        self.set_true(self.truly().plus(length));
    }

    pub(super) fn called(&self) -> MutexGuard<'_, Vec<Called>> {
        self.called.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers, and keeps what is about one deployment.
    fn answer(&self, ask: &Ask<'_>, request: &Request) -> Answer {
        let (at, mut world) = (self.truly(), self.world());
        let about = match request.endpoint {
            Endpoint::Deployment | Endpoint::CanTerminate | Endpoint::Terminate => {
                let id = DeploymentId::new(request.path.split('/').nth(3).unwrap_or_default());
                world.advance(at);
                Some((world.identity(&id), id))
            }
            Endpoint::Balance
            | Endpoint::Deployments
            | Endpoint::Volumes
            | Endpoint::Volume
            | Endpoint::Offers => None,
        };
        let answer = world.answer(ask, at);
        if let Some((truth, id)) = about {
            let came = answer.takes().is_some_and(|length| length <= TIMEOUT);
            self.called().push(Called {
                at,
                ours: self.now(),
                endpoint: request.endpoint,
                id,
                truth,
                status: came.then_some(answer.status),
                honest: answer.honest,
                body: if came { String::from_utf8_lossy(&answer.body).into() } else { "".into() },
            });
        }
        answer
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin_poll(&self) {
        for count in [&self.calls, &self.answered, &self.honest, &self.refused] {
            count.store(0, Relaxed);
        }
    }

    pub(super) fn end_poll(&self, feed: Feed, scopes: Vec<Scope>, from: Time) -> Asked {
        let calls = self.calls.load(Relaxed);
        let honest = calls >= scopes.len() && self.honest.load(Relaxed) == calls;
        let (answered, refused) = (self.answered.load(Relaxed), self.refused.load(Relaxed) > 0);
        Asked { feed, scopes, from, until: self.truly(), calls, answered, honest, refused }
    }
}

/// The client's way to it.
pub struct SimTransport(pub(super) Arc<Network>);

impl Transport for SimTransport {
    fn now(&self) -> Time {
        self.0.now()
    }

    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let query: Vec<String> = request.query.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let bearer = format!("Bearer {KEY}");
        let ask = Ask {
            method: request.method.as_str(),
            path: &request.path,
            query: &query.join("&"),
            authorization: Some(&bearer),
        };
        let answer = self.0.answer(&ask, &request);
        self.0.calls.fetch_add(1, Relaxed);
        match answer.conduct {
            Conduct::Whole | Conduct::Delay(_) | Conduct::Drip { .. } => match answer.takes() {
                Some(length) if length <= TIMEOUT => self.0.pass(length),
                Some(_) | None => {
                    self.0.pass(TIMEOUT);
                    return Err(SendError::Timeout);
                }
            },
            Conduct::Hang => {
                self.0.pass(TIMEOUT);
                return Err(SendError::Timeout);
            }
            Conduct::Reset | Conduct::Cut => return Err(SendError::Network("connection closed".into())),
        }
        if answer.body.len() > request.cap_bytes {
            return Err(SendError::TooLarge { cap_bytes: request.cap_bytes });
        }
        self.0.answered.fetch_add(usize::from(answer.status == 200), Relaxed);
        self.0.honest.fetch_add(usize::from(answer.honest && answer.status == 200), Relaxed);
        self.0.refused.fetch_add(usize::from(answer.status == 401), Relaxed);
        let mut headers = http::HeaderMap::new();
        for (name, value) in answer.headers {
            if let Ok(value) = http::HeaderValue::try_from(value) {
                headers.append(name, value);
            }
        }
        Ok(Response { status: answer.status, headers, body: Bytes::from(answer.body) })
    }

    async fn pause(&self, length: Duration) {
        self.0.pass(length);
    }
}
