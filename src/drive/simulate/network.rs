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

use super::Asked;
use crate::{
    model::{Feed, Scope, Time},
    sim::{Ask, Conduct, KEY, World},
    spheron::{Request, Response, SendError, Transport},
};

/// The client's own deadline, in simulated time.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The simulated account behind a network on which time is a variable, and what went over it since a poll began.
pub(super) struct Network {
    world: Mutex<World>,
    time: AtomicI64,
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
            calls: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            honest: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }
    }

    pub(super) fn now(&self) -> Time {
        Time::from_millis(self.time.load(Relaxed))
    }

    pub(super) fn set_now(&self, now: Time) {
        self.time.store(now.millis(), Relaxed);
    }

    pub(super) fn pass(&self, length: Duration) {
        self.set_now(self.now().plus(length));
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
        Asked { feed, scopes, from, until: self.now(), calls, answered, honest, refused }
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
        let answer = self.0.world().answer(&ask, self.now());
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
